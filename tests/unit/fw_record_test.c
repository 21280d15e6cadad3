/* Session records: every field there and back, the bytes as they are documented, and all that is refused. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/record.h"
#include "tests/unit/test.h"

static uint64_t rng = 0x9e3779b97f4a7c15;

static uint64_t
rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* A TCP connection 192.0.2.1:40000 -> 198.51.100.7:443, established. */
static struct fw_record
example(void)
{
	struct fw_record r = {
		.src = { .family = 4, .bytes = { 192, 0, 2, 1 } },
		.dst = { .family = 4, .bytes = { 198, 51, 100, 7 } },
		.sport = 40000,
		.dport = 443,
		.selector = 443,
		.wire = 3,
		.vrf = 100,
		.proto = IPPROTO_TCP,
		.direction = PK_EGRESS,
		.state = FW_RECORD_ESTABLISHED,
		.flags = FW_RECORD_WSCALE | FW_RECORD_SYN_R,
		.age_ms = 60000,
		.idle_ms = 1500,
		.left_ms = 86398500,
		.side = { { 0x11223344, 0xa0b0c0d0, 64240, 7 },
		    { 0xa0b0c0d1, 0x11223343, 65160, 9 } },
		.packets = { 10, 12 },
		.bytes = { 1000, 12000 },
		.rule_id = 0x0102030405060708,
		.generation = 42,
		.link = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0 },
		.link_len = 14,
		.sequence = 7,
		.version = 3,
	};

	return r;
}

static const char golden[] = "000000b8" /* length */
                             "00010016"
                             "0406"
                             "0003"
                             "00000064"
                             "9c40"
                             "01bb"
                             "01bb"
                             "c0000201"
                             "c6336407"
                             "00020004"
                             "06"
                             "00"
                             "0009"
                             "00030018"
                             "000000000000ea60"
                             "00000000000005dc"
                             "0000000005265624"
                             "00040018"
                             "11223344"
                             "a0b0c0d0"
                             "faf0"
                             "07"
                             "00"
                             "a0b0c0d1"
                             "11223343"
                             "fe88"
                             "09"
                             "00"
                             "00050020"
                             "000000000000000a"
                             "00000000000003e8"
                             "000000000000000c"
                             "0000000000002ee0"
                             "00060010"
                             "0102030405060708"
                             "000000000000002a"
                             "00070012"
                             "0e"
                             "00"
                             "0000"
                             "0200000000020200000000010800"
                             "0008000c"
                             "0000000000000007"
                             "00000003";

static size_t
unhex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };

		out[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return n;
}

/* docs/session-records.md: these bytes may never mean anything else. */
static void
test_golden(void **state)
{
	struct fw_record r = example(), back;
	uint8_t bytes[FW_RECORD_MAX], want[FW_RECORD_MAX], header[FW_RECORD_HEADER_LEN];
	size_t n = unhex(golden, want), skip;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(fw_record_encode(&r, bytes, sizeof(bytes)), n);
	assert_memory_equal(bytes, want, n);
	assert_int_equal(fw_record_decode(&back, want, n, &skip, &diag), (long)n);
	assert_memory_equal(&back, &r, sizeof(r));
	fw_record_header(header);
	assert_memory_equal(header, "PKSESS\r\n\0\1\0\0\0\0\0\0", sizeof(header));
	assert_int_equal(fw_record_header_check(header, &diag), 0);
	header[9] = 2;
	assert_int_equal(fw_record_header_check(header, &diag), -EPROTO);
	assert_non_null(strstr(diag.text, "version 2"));
	header[0] = 'X';
	assert_int_equal(fw_record_header_check(header, &diag), -EPROTO);
}

static struct fw_record
random_record(void)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6,
		IPPROTO_SCTP, IPPROTO_GRE };
	struct fw_record r = { 0 };
	uint64_t age = rnd() >> (rnd() % 64);

	r.src.family = r.dst.family = rnd() % 2 != 0 ? 4 : 6;
	for (unsigned int i = 0; i < (r.src.family == 4 ? 4 : 16); i++) {
		r.src.bytes[i] = (uint8_t)rnd();
		r.dst.bytes[i] = (uint8_t)rnd();
	}
	r.proto = protos[rnd() % PK_COUNT(protos)];
	r.direction = rnd() % 2;
	r.wire = (uint16_t)rnd();
	r.vrf = (uint32_t)rnd();
	r.age_ms = age;
	r.idle_ms = age / 2;
	r.left_ms = rnd();
	r.packets[0] = rnd();
	r.bytes[1] = rnd();
	r.generation = rnd() % 3;
	r.sequence = rnd() % 2;
	switch (r.proto) {
	case IPPROTO_TCP:
		r.state = (uint8_t)(FW_RECORD_SYN_SENT + rnd() % FW_RECORD_CLOSED);
		r.flags = (uint16_t)(rnd() & FW_RECORD_FLAGS_ALL);
		if ((r.flags & FW_RECORD_RELATED) == 0)
			r.flags &= (uint16_t)~FW_RECORD_REVERSED;
		for (unsigned int d = 0; d < 2; d++)
			r.side[d] = (struct fw_record_side){ (uint32_t)rnd(), (uint32_t)rnd(),
				(uint16_t)rnd(), (uint8_t)(rnd() % 15) };
		break;
	case IPPROTO_UDP:
		r.state = (uint8_t)(FW_RECORD_UDP_NEW + rnd() % 2);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		r.state = FW_RECORD_ICMP;
		r.sport = (uint16_t)rnd();
		r.selector = 8 << 8;
		break;
	default:
		r.state = FW_RECORD_OTHER;
	}
	if (r.proto == IPPROTO_TCP || r.proto == IPPROTO_UDP || r.proto == IPPROTO_SCTP) {
		r.sport = (uint16_t)rnd();
		r.dport = r.selector = (uint16_t)rnd();
	}
	if (rnd() % 2 != 0) {
		r.link_len = (uint8_t)(14 + 4 * (rnd() % 3));
		memset(r.link, (int)(rnd() & 0xff), r.link_len);
		r.link_stripped = rnd() % 2;
		r.link_tci = (uint16_t)rnd();
	}
	return r;
}

static void
test_round_trip(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 20000; k++) {
		struct fw_record r = random_record(), back;
		uint8_t bytes[FW_RECORD_MAX];
		size_t n = fw_record_encode(&r, bytes, sizeof(bytes)), skip;
		struct pk_diag diag = { .text = "" };

		assert_true(n > 0);
		assert_int_equal(fw_record_encode(&r, bytes, n - 1), 0);
		assert_int_equal(fw_record_encode(&r, bytes, n), n);
		if (fw_record_decode(&back, bytes, n, &skip, &diag) != (long)n)
			fail_msg("%s", diag.text);
		assert_memory_equal(&back, &r, sizeof(r));
		/* Cut anywhere it is not whole yet, and nothing is read beyond the cut. */
		for (size_t cut = 0; cut < n; cut += 1 + rnd() % 16) {
			uint8_t *part = malloc(cut + 1);

			memcpy(part, bytes, cut);
			assert_int_equal(fw_record_decode(&back, part, cut, &skip, &diag), -EAGAIN);
			free(part);
		}
	}
}

/* Parts that nobody knows are passed over; a known part may have grown. */
static void
test_from_the_future(void **state)
{
	struct fw_record r = example(), back;
	uint8_t bytes[2 * FW_RECORD_MAX];
	size_t n = fw_record_encode(&r, bytes, sizeof(bytes)), skip;
	struct pk_diag diag;

	(void)state;
	memcpy(bytes + n, "\x01\x23\x00\x03xyz", 7);
	bytes[3] = (uint8_t)(n + 7 - 4);
	assert_int_equal(fw_record_decode(&back, bytes, n + 7, &skip, &diag), (long)n + 7);
	assert_memory_equal(&back, &r, sizeof(r));
	bytes[n] = 0x81; /* must be understood */
	assert_int_equal(fw_record_decode(&back, bytes, n + 7, &skip, &diag), -EPROTO);
	assert_int_equal(skip, n + 7);
	/* ORDER is last: its value grows by 7 */
	bytes[n - 13] = 12 + 7;
	assert_int_equal(fw_record_decode(&back, bytes, n + 7, &skip, &diag), (long)n + 7);
	assert_memory_equal(&back, &r, sizeof(r));
}

static void
refused(const struct fw_record *r, const char *why)
{
	uint8_t bytes[FW_RECORD_MAX];
	size_t n = fw_record_encode(r, bytes, sizeof(bytes)), skip;
	struct fw_record back;
	struct pk_diag diag = { .text = "" };

	assert_int_equal(fw_record_decode(&back, bytes, n, &skip, &diag), -EPROTO);
	assert_int_equal(skip, n);
	if (strstr(diag.text, why) == NULL)
		fail_msg("\"%s\" says nothing of \"%s\"", diag.text, why);
}

static void
test_refused(void **state)
{
	static const struct {
		uint16_t type;
		const char *why;
	} required[] = { { 1, "without key" }, { 2, "without state" }, { 3, "without times" },
		{ 4, "no TCP part" } };
	struct fw_record r;

	(void)state;
#define REFUSED(change, why) (r = example(), (change), refused(&r, (why)))
	REFUSED(r.state = FW_RECORD_UDP, "state");
	REFUSED(r.state = 0, "state");
	REFUSED(r.state = 200, "state");
	REFUSED(r.direction = 2, "direction");
	REFUSED(r.flags = 0x8000, "flags");
	REFUSED(r.flags = FW_RECORD_REVERSED, "flags");
	REFUSED(r.side[1].scale = 15, "shift");
	REFUSED(r.selector = 80, "selector");
	REFUSED(r.idle_ms = r.age_ms + 1, "idle");
	REFUSED(r.link_len = 15, "link");
	REFUSED(r.src.family = 5, "neither");
	REFUSED((r.proto = IPPROTO_UDP, r.state = FW_RECORD_UDP), "flags");
	REFUSED((r.proto = IPPROTO_GRE, r.state = FW_RECORD_OTHER, r.flags = 0), "ports");
	REFUSED((r.proto = IPPROTO_ICMP, r.state = FW_RECORD_ICMP, r.flags = 0), "both sides");
	for (size_t k = 0; k < PK_COUNT(required); k++) {
		uint8_t bytes[FW_RECORD_MAX];
		struct fw_record back;
		struct pk_diag diag;
		size_t skip, n, at = 4;

		r = example();
		n = fw_record_encode(&r, bytes, sizeof(bytes));
		while (bytes[at + 1] != required[k].type)
			at += 4u + bytes[at + 3];
		bytes[at] = 0x01; /* now it is of a type that nobody knows */
		assert_int_equal(fw_record_decode(&back, bytes, n, &skip, &diag), -EPROTO);
		assert_non_null(strstr(diag.text, required[k].why));
		bytes[at] = 0; /* twice */
		bytes[at + 1] = (uint8_t)(required[k].type % 4 + 1);
		assert_int_equal(fw_record_decode(&back, bytes, n, &skip, &diag), -EPROTO);
		bytes[0] = 1; /* sixteen million bytes: no place to go on is believed */
		assert_int_equal(fw_record_decode(&back, bytes, n, &skip, &diag), -EPROTO);
		assert_int_equal(skip, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_from_the_future),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
