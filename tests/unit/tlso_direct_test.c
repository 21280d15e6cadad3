#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/test.h"
#include "tls-offload/tlsd_priv.h"

/* What a tunnel says first: the header of direct mode, and the :authority of HBONE. */

static struct tlso_direct
flow_of(const char *src, const char *dst)
{
	struct tlso_direct d = { .sport = 40000, .dport = 80 };

	assert_int_equal(pk_addr_parse(&d.src, src, NULL), 0);
	assert_int_equal(pk_addr_parse(&d.dst, dst, NULL), 0);
	return d;
}

static void
test_round_trip(void **state)
{
	struct tlso_direct cases[] = { flow_of("192.0.2.20", "192.0.2.10"),
		flow_of("2001:db8::20", "2001:db8::10"), flow_of("192.0.2.20", "192.0.2.10") };
	uint8_t bytes[TLSO_DIRECT_MAX + 8];

	(void)state;
	strcpy(cases[2].trace, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		size_t len = tlso_direct_pack(bytes, &cases[i]);
		struct tlso_direct back;
		struct pk_diag diag;

		assert_true(len > TLSO_DIRECT_FIXED && len <= TLSO_DIRECT_MAX);
		memcpy(bytes + len, "GET / HT", 8);
		/* Every beginning of it asks for more, and what comes behind is the flow's. */
		for (size_t k = 0; k < len; k++)
			assert_int_equal(tlso_direct_parse(&back, bytes, k, &diag), 0);
		assert_int_equal(tlso_direct_parse(&back, bytes, len + 8, &diag), len);
		assert_memory_equal(&back, &cases[i], sizeof(back));
	}
	cases[0].src = cases[1].src;
	assert_int_equal(tlso_direct_pack(bytes, &cases[0]), 0);
}

#define DST "\x01\x06\x00\x50\xc0\x00\x02\x0a"
#define SRC "\x02\x06\x9c\x40\xc0\x00\x02\x14"

static void
test_refused(void **state)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
		int want; /* 1: taken */
	} cases[] = {
#define CASE(what, s, want) { what, s, sizeof(s) - 1, want }
		CASE("two addresses", "PK\x01\x00\x00\x10" DST SRC, 1),
		CASE("a field that may be ignored", "PK\x01\x00\x00\x13" DST SRC "\x80\x01x", 1),
		CASE("another protocol", "GE", -EPROTO),
		CASE("another version", "PK\x02\x00\x00\x10" DST SRC, -EPROTO),
		CASE("reserved bits", "PK\x01\x01\x00\x10" DST SRC, -EPROTO),
		CASE("too long", "PK\x01\x00\x02\x00", -EPROTO),
		CASE("no source", "PK\x01\x00\x00\x08" DST, -EPROTO),
		CASE("no destination", "PK\x01\x00\x00\x08" SRC, -EPROTO),
		CASE("nothing at all", "PK\x01\x00\x00\x00", -EPROTO),
		CASE("twice", "PK\x01\x00\x00\x10" DST DST, -EPROTO),
		CASE("in the wrong order", "PK\x01\x00\x00\x10" SRC DST, -EPROTO),
		CASE("a port of 0", "PK\x01\x00\x00\x10\x01\x06\x00\x00\xc0\x00\x02\x0a" SRC,
		    -EPROTO),
		CASE("an address of five bytes",
		    "PK\x01\x00\x00\x11\x01\x07\x00\x50\xc0\x00\x02\x0a\x01" SRC, -EPROTO),
		CASE("two families",
		    "PK\x01\x00\x00\x1c" DST
		    "\x02\x12\x9c\x40\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x14",
		    -EPROTO),
		CASE("a field over the end",
		    "PK\x01\x00\x00\x10" DST "\x02\x07\x9c\x40\xc0\x00\x02\x14", -EPROTO),
		CASE("half a field", "PK\x01\x00\x00\x11" DST SRC "\x80", -EPROTO),
		CASE("an unknown field", "PK\x01\x00\x00\x12" DST SRC "\x04\x00", -EPROTO),
		CASE("an empty trace", "PK\x01\x00\x00\x12" DST SRC "\x03\x00", -EPROTO),
		CASE("a trace with a line's end", "PK\x01\x00\x00\x13" DST SRC "\x03\x01\n",
		    -EPROTO),
#undef CASE
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct tlso_direct d;
		struct pk_diag diag = { "" };
		int got =
		    tlso_direct_parse(&d, (const uint8_t *)cases[i].bytes, cases[i].len, &diag);

		if (cases[i].want == 1 ? got != (int)cases[i].len : got != cases[i].want)
			fail_msg("%s: %d: %s", cases[i].what, got, diag.text);
		if (got < 0)
			assert_true(strncmp(diag.text, "direct header: ", 15) == 0);
	}
}

static void
test_authority(void **state)
{
	static const struct {
		const char *text, *addr;
		uint16_t port;
	} cases[] = {
		{ "192.0.2.10:80", "192.0.2.10", 80 },
		{ "[2001:db8::10]:65535", "2001:db8::10", 65535 },
		{ "2001:db8::10:80", NULL, 0 },
		{ "[192.0.2.10]:80", NULL, 0 },
		{ "192.0.2.10", NULL, 0 },
		{ "192.0.2.10:", NULL, 0 },
		{ "192.0.2.10:0", NULL, 0 },
		{ "192.0.2.10:65536", NULL, 0 },
		{ "192.0.2.10:+80", NULL, 0 },
		{ "192.0.2.10: 80", NULL, 0 },
		{ "192.0.2.010:80", NULL, 0 },
		{ "user@192.0.2.10:80", NULL, 0 },
		{ "web.example:80", NULL, 0 },
		{ "[]:80", NULL, 0 },
		{ ":80", NULL, 0 },
		{ ":", NULL, 0 },
		{ "", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct pk_addr addr, want;
		uint16_t port;
		int got = tlso_authority_parse(
		    (const uint8_t *)cases[i].text, strlen(cases[i].text), &addr, &port);

		if ((got == 0) != (cases[i].addr != NULL))
			fail_msg("\"%s\": %d", cases[i].text, got);
		if (got != 0)
			continue;
		assert_int_equal(pk_addr_parse(&want, cases[i].addr, NULL), 0);
		assert_memory_equal(&addr, &want, sizeof(addr));
		assert_int_equal(port, cases[i].port);
	}
}

static void
test_messages(void **state)
{
	struct pk_tls_msg good, m;
	struct pk_diag diag;

	(void)state;
	pk_tls_msg_init(&good, PK_TLS_IS, 1);
	good.who = (struct pk_tls_who){ .addr = { .family = 4, .bytes = { 192, 0, 2, 10 } },
		.known = 1,
		.local = 1,
		.name = "shop/web" };
	assert_int_equal(pk_tls_msg_check(&good, sizeof(good), &diag), 0);
#define BAD(change)                                                                \
	do {                                                                       \
		m = good;                                                          \
		change;                                                            \
		assert_int_equal(pk_tls_msg_check(&m, sizeof(m), &diag), -EPROTO); \
	} while (0)
	BAD(m.version = 2);
	BAD(m.type = PK_TLS_NONE);
	BAD(m.type = PK_TLS_MSG_COUNT);
	BAD(m.type = PK_TLS_WHO); /* a question that knows its answer */
	BAD(m.who.addr.family = 5);
	BAD(m.who.addr.bytes[4] = 1);
	BAD(m.who.known = 2);
	BAD(m.who.known = 0); /* local, and yet nobody */
	BAD(m.who.name[0] = '\0');
	BAD(memset(m.who.name, 'a', sizeof(m.who.name)));
#undef BAD
	assert_int_equal(pk_tls_msg_check(&good, sizeof(good) - 1, &diag), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_authority),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
