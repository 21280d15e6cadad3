#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/addr.h"
#include "tests/unit/test.h"

static void
test_prefixes(void **state)
{
	static const struct {
		const char *text, *canonical, *why;
	} cases[] = {
		{ "192.0.2.0/24", "192.0.2.0/24", NULL },
		{ "192.0.2.7", "192.0.2.7/32", NULL },
		{ "0.0.0.0/0", "0.0.0.0/0", NULL },
		{ "2001:DB8::/32", "2001:db8::/32", NULL },
		{ "::/0", "::/0", NULL },
		{ "192.0.2.1/24", NULL,
		    "\"192.0.2.1/24\" has bits set beyond its length; did you mean 192.0.2.0/24?" },
		{ "192.0.2.0/33", NULL,
		    "\"192.0.2.0/33\": prefix length must be a number from 0 to 32" },
		{ "192.0.2.0/", NULL,
		    "\"192.0.2.0/\": prefix length must be a number from 0 to 32" },
		{ "192.0.2.0/-1", NULL,
		    "\"192.0.2.0/-1\": prefix length must be a number from 0 to 32" },
		{ "192.0.2", NULL,
		    "\"192.0.2\" is not an IPv4 or IPv6 prefix such as 192.0.2.0/24" },
		{ "web", NULL, "\"web\" is not an IPv4 or IPv6 prefix such as 192.0.2.0/24" },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		char text[PK_PREFIX_TEXT];
		struct pk_prefix p;
		struct pk_diag diag;
		int rc = pk_prefix_parse(&p, cases[i].text, &diag);

		if (cases[i].why != NULL) {
			assert_int_equal(rc, -EINVAL);
			assert_string_equal(diag.text, cases[i].why);
		} else {
			assert_int_equal(rc, 0);
			assert_string_equal(pk_prefix_text(&p, text), cases[i].canonical);
		}
	}
}

static void
test_contains(void **state)
{
	static const struct {
		const char *prefix, *addr;
		int want;
	} cases[] = {
		{ "192.0.2.0/24", "192.0.2.255", 1 },
		{ "192.0.2.0/25", "192.0.2.128", 0 },
		{ "0.0.0.0/0", "255.255.255.255", 1 },
		{ "::/0", "192.0.2.1", 0 }, /* IPv4 is not hidden inside IPv6 */
		{ "0.0.0.0/0", "::1", 0 },
		{ "2001:db8::/33", "2001:db8:7fff::1", 1 },
		{ "2001:db8::/33", "2001:db8:8000::1", 0 },
		{ "2001:db8::1/128", "2001:db8::1", 1 },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct pk_prefix p;
		struct pk_addr a;

		assert_int_equal(pk_prefix_parse(&p, cases[i].prefix, NULL), 0);
		assert_int_equal(pk_addr_parse(&a, cases[i].addr, NULL), 0);
		assert_int_equal(pk_prefix_contains(&p, &a), cases[i].want);
	}
}

static void
test_ranges(void **state)
{
	static const struct {
		const char *low, *high, *want;
	} cases[] = {
		{ "192.0.2.0", "192.0.2.255", "192.0.2.0/24 " },
		{ "192.0.2.7", "192.0.2.7", "192.0.2.7/32 " },
		{ "192.0.2.1", "192.0.2.6",
		    "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32 " },
		{ "0.0.0.0", "255.255.255.255", "0.0.0.0/0 " },
		{ "128.0.0.0", "255.255.255.255", "128.0.0.0/1 " },
		{ "0.0.0.1", "0.0.1.0",
		    "0.0.0.1/32 0.0.0.2/31 0.0.0.4/30 0.0.0.8/29 0.0.0.16/28 0.0.0.32/27 0.0.0.64/26 "
		    "0.0.0.128/25 0.0.1.0/32 " },
		{ "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0 " },
		{ "2001:db8::", "2001:db8::1:ffff", "2001:db8::/111 " },
		{ "192.0.2.2", "192.0.2.1", "" }, { "192.0.2.2", "2001:db8::", "" },
		{ "0.0.0.1", "255.255.255.254", "" }, /* 62, and there is room for 16 */
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		char got[512] = "", text[PK_PREFIX_TEXT];
		struct pk_addr low, high;
		struct pk_prefix out[16];
		unsigned int n;

		assert_int_equal(pk_addr_parse(&low, cases[i].low, NULL), 0);
		assert_int_equal(pk_addr_parse(&high, cases[i].high, NULL), 0);
		n = pk_prefixes_of_range(out, PK_COUNT(out), &low, &high);
		for (unsigned int k = 0; k < n; k++)
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ",
			    pk_prefix_text(&out[k], text));
		assert_string_equal(got, cases[i].want);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_contains),
		cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests_name("lib/addr", tests, NULL, NULL);
}
