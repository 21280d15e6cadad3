#include <string.h>

#include "lib/diag.h"
#include "tests/unit/test.h"

static void
test_suggest(void **state)
{
	static const char *const known[] = { "ingress", "egress", "priority", "tier" };
	static const struct {
		const char *word, *want;
	} cases[] = {
		{ "ingres", "ingress" },
		{ "Egress", "egress" },
		{ "pirority", "priority" },
		{ "teir", "tier" },
		{ "banana", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		const char *got = pk_suggest(cases[i].word, known, PK_COUNT(known));

		if (cases[i].want == NULL)
			assert_null(got);
		else
			assert_string_equal(got, cases[i].want);
	}
}

static void
test_diag_at(void **state)
{
	struct pk_diag d;

	(void)state;
	pk_diag_at(&d, "a.yaml", 41, 9, "rule \"%s\": no", "db-in");
	assert_string_equal(d.text, "a.yaml:41:9: rule \"db-in\": no");
	pk_diag_at(&d, "a.yaml", 3, 0, "no");
	assert_string_equal(d.text, "a.yaml:3: no");
	pk_diag_at(&d, "a.yaml", 0, 0, "no");
	assert_string_equal(d.text, "a.yaml: no");
}

static void
test_diag_is_cut(void **state)
{
	struct pk_diag d;

	(void)state;
	pk_diag_set(&d, "%0*d", 2 * PK_DIAG_MAX, 0);
	assert_int_equal(strlen(d.text), PK_DIAG_MAX - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suggest),
		cmocka_unit_test(test_diag_at),
		cmocka_unit_test(test_diag_is_cut),
	};

	return cmocka_run_group_tests_name("lib/diag", tests, NULL, NULL);
}
