#include "lib/name.h"

#include <errno.h>
#include <string.h>

#include "fw/dns.h"
#include "lib/base.h"
#include "tests/unit/test.h"

static void
test_patterns(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool match;
	} cases[] = {
		{ "a.example", "a.example", true },
		{ "a.example", "b.example", false },
		{ "a.example", "a.example.com", false },
		{ "a.example", "x.a.example", false },
		{ "*.example", "a.example", true },
		{ "*.example", "a.b.c.example", true },
		{ "*.example", "example", false },
		{ "*.example", "aexample", false },
		{ "*.a.example", "a.example", false },
		{ "*.a.example", "b.a.example", true },
		{ "*.a.example", "a.b.example", false },
		{ "+.example", "a.example", true },
		{ "+.example", "a.b.example", false },
		{ "+.example", "example", false },
		{ "n-*.example", "n-1.example", true },
		{ "n-*.example", "n-.example", true },
		{ "n-*.example", "n-1.2.example", false },
		{ "*a*b.example", "xaybzb.example", true },
		{ "*a*b.example", "xaybz.example", false },
		{ "a.*.example", "a.b.example", true },
		{ "a.*.example", "a.example", false },
		{ "*.n-*.example", "x.y.n-7.example", true },
		{ "*.n-*.example", "n-7.example", false },
		{ "*", "a", true },
		{ "*", "a.b.example", true },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		if (pk_name_match(cases[i].pattern, cases[i].name) != cases[i].match)
			fail_msg("%s %s %s", cases[i].pattern,
			    cases[i].match ? "does not match" : "matches", cases[i].name);
}

static void
test_forms(void **state)
{
	static const char *const good[][2] = { { "API.Example.COM.", "api.example.com" },
		{ "_srv._tcp.a", "_srv._tcp.a" }, { "*", "*" }, { "*.A", "*.a" },
		{ "+.a", "+.a" } };
	static const char *const bad[] = { "", ".", "..", ".a", "a..b", "a b", "+", "+.", "+a.b",
		"a.+.b", "**.a", "a.**", "a/b", "\xc3\xa9.example" };
	char text[PK_NAME_PATTERN_MAX], label[80];
	struct pk_diag diag;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(good); i++) {
		assert_int_equal(pk_name_pattern(text, good[i][0], &diag), 0);
		assert_string_equal(text, good[i][1]);
	}
	for (size_t i = 0; i < PK_COUNT(bad); i++)
		if (pk_name_pattern(text, bad[i], &diag) == 0)
			fail_msg("\"%s\" is taken for a name", bad[i]);
	memset(label, 'a', 64);
	label[64] = '\0';
	assert_int_equal(pk_name_pattern(text, label, &diag), -EINVAL);
	assert_int_equal(pk_name_pattern(text, label + 1, &diag), 0);
	assert_string_equal(pk_name_fixed("*.example.com"), "example.com");
	assert_string_equal(pk_name_fixed("a.example.com"), "a.example.com");
	assert_string_equal(pk_name_fixed("a.b-*.example.com"), "example.com");
	assert_string_equal(pk_name_fixed("*"), "");
	assert_string_equal(pk_name_fixed("a-*"), "");
}

/* RFC 1035 section 4.1.4: compressed; a pointer that leads to itself, or forwards, is none. */
static void
test_messages(void **state)
{
	static const uint8_t good[] = { 0, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0, 3, 'w', 'w', 'w',
		1, 'a', 0, 0, 1, 0, 1, 0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, 'b', 0xc0, 16,
		0xc0, 35, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1 };
	uint8_t bytes[sizeof(good)];
	struct fw_dns m;

	(void)state;
	assert_true(fw_dns_read(good, sizeof(good), &m));
	assert_int_equal(m.id, 7);
	assert_int_equal(m.nb_names, 2);
	assert_string_equal(m.name[0], "www.a");
	assert_string_equal(m.name[1], "b.a");
	assert_int_equal(m.nb_addrs, 1);
	assert_int_equal(m.at[0].ttl_s, 9);
	assert_memory_equal(m.at[0].addr.bytes, good + sizeof(good) - 4, 4);
	for (size_t cut = 0; cut < sizeof(good); cut++)
		assert_false(fw_dns_read(good, cut, &m));
	memcpy(bytes, good, sizeof(good));
	bytes[24] = 23; /* to itself */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
	bytes[24] = 35; /* forwards */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
	memcpy(bytes, good, sizeof(good));
	bytes[2] |= 2; /* truncated */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
	bytes[2] = 1; /* a question */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
	memcpy(bytes, good, sizeof(good));
	bytes[3] |= 3; /* no such name */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
	memcpy(bytes, good, sizeof(good));
	bytes[18 + 2] = 28; /* asked for another type than what it answers */
	assert_false(fw_dns_read(bytes, sizeof(bytes), &m));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
