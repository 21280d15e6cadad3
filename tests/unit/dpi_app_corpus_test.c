/*
 * App-ID on captures made by others, beside labels on which two other dissectors agree: how many flows are right, and
 * how many are said to be what they are not.  The corpora lie outside the tree: PICKET_CORPORA, or ../shared/corpora
 * beside the sources.  The bars are those of docs/inspection.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base.h"
#include "tests/unit/corpora.h"
#include "tests/unit/test.h"

static char base[2048];

/* The corpus through picketctl and the scorer beside the corpora. */
static void
score(const char *corpus, double right, double macro, double wrong, double false_positive)
{
	const char *src = getenv("SRCDIR"), *build = getenv("BUILDDIR");
	double micro = -1, got_macro = -1, unknown, got_wrong = 100, got_false = 100;
	unsigned int flows = 0, labels, negatives;
	char command[8192], line[512] = "";
	FILE *f;

	snprintf(command, sizeof(command),
	    "python3 %s/tests/tools/score_app.py %s/bin/picketctl %s %s 2>&1", src,
	    build != NULL ? build : ".", base, corpus);
	f = popen(command, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		print_message("# %s: %s", corpus, line);
		if (sscanf(line,
		        "flows=%u labels=%u micro=%lf%% macro=%lf%% unknown=%lf%% wrong=%lf%% negatives=%u fp=%lf%%",
		        &flows, &labels, &micro, &got_macro, &unknown, &got_wrong, &negatives,
		        &got_false) == 8)
			break;
	}
	pclose(f);
	assert_true(flows > 0);
	assert_true(micro >= right);
	assert_true(got_macro >= macro);
	assert_true(got_wrong <= wrong);
	assert_true(got_false <= false_positive);
}

static void
test_ndpi(void **state)
{
	(void)state;
	score("ndpi", 97, 85, 0.5, 0.5);
}

/* Three of its labels tell the port, not what went over it: a MySQL session on PostgreSQL's port, HTTP on that of
 * Modbus and of SOCKS. */
static void
test_zeek(void **state)
{
	(void)state;
	score("zeek", 94, 85, 2.5, 0.5);
}

static void
test_deepflow(void **state)
{
	(void)state;
	score("deepflow", 97, 85, 0.5, 0.5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ndpi),
		cmocka_unit_test(test_zeek),
		cmocka_unit_test(test_deepflow),
	};
	char scorer[4096];

	(void)corpora_find("", base, sizeof(base));
	snprintf(scorer, sizeof(scorer), "%s/score_appid.py", base);
	if (access(scorer, R_OK) != 0) {
		printf("1..0 # SKIP no App-ID corpora at %s; set PICKET_CORPORA\n", base);
		return 0;
	}
	return cmocka_run_group_tests_name("dpi_app_corpus", tests, NULL, NULL);
}
