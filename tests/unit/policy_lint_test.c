#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/lint.h"
#include "tests/unit/test.h"

/*
 * One oddity a file, in tests/data/lint, with its exact findings in comments at the end:
 *
 *     # LINE:COLUMN severity code: sentence
 *
 * Files called clean have none.  And every code is explained in docs/policy-lint.md.
 */
#define TEXT_MAX 65536

static char *docs;

static char *
read_file(const char *path)
{
	char *text = calloc(1, TEXT_MAX);
	FILE *f = fopen(path, "re");

	assert_non_null(text);
	if (f == NULL)
		fail_msg("%s: cannot be read", path);
	assert_true(fread(text, 1, TEXT_MAX - 1, f) < TEXT_MAX - 1);
	fclose(f);
	return text;
}

static void
check_file(const char *dir, const char *name)
{
	char path[1024], code[64], *text, *want, *got;
	struct policy_table *t = NULL;
	struct policy_findings *f;
	struct policy_model *m;
	struct policy_ids *ids;
	struct pk_diag first;
	size_t len;
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	text = read_file(path);
	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_ids_create(&ids), 0);
	if (policy_model_add_text(m, name, text, strlen(text), f) < 0 ||
	    policy_compile(m, ids, &t, f) < 0) {
		policy_findings_first(f, &first);
		fail_msg("%s", first.text);
	}
	assert_int_equal(policy_lint(m, t, f), 0);
	assert_non_null(out = open_memstream(&got, &len));
	for (size_t i = 0; i < policy_findings_total(f); i++) {
		const struct policy_finding *e = policy_findings_get(f, i);

		if (e == NULL)
			break;
		fprintf(out, "# %u:%u %s %s: %s\n", e->line, e->column,
		    policy_severity_name(e->severity), e->code, e->text);
		snprintf(code, sizeof(code), "## %s\n", e->code);
		if (strstr(docs, code) == NULL)
			fail_msg("%s: docs/policy-lint.md does not explain \"%s\"", name, e->code);
	}
	fclose(out);
	want = strstr(text, "\n# ");
	if (strncmp(name, "clean", 5) == 0 ? got[0] != '\0' || want != NULL
	                                   : want == NULL || strcmp(want + 1, got) != 0)
		fail_msg("%s: want\n%sgot\n%s", name, want != NULL ? want + 1 : "", got);
	policy_table_destroy(t);
	policy_ids_destroy(ids);
	policy_model_destroy(m);
	policy_findings_destroy(f);
	free(got);
	free(text);
}

static int
is_yaml(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot != NULL && strcmp(dot, ".yaml") == 0;
}

static void
test_goldens(void **state)
{
	const char *src = getenv("SRCDIR") != NULL ? getenv("SRCDIR") : ".";
	struct dirent **names;
	char dir[512], path[512];
	int n;

	(void)state;
	snprintf(path, sizeof(path), "%s/docs/policy-lint.md", src);
	docs = read_file(path);
	snprintf(dir, sizeof(dir), "%s/tests/data/lint", src);
	n = scandir(dir, &names, is_yaml, alphasort);
	assert_true(n >= 25);
	for (int i = 0; i < n; i++) {
		check_file(dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	free(docs);
	print_message("# %d files\n", n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goldens),
	};

	return cmocka_run_group_tests_name("policy/lint", tests, NULL, NULL);
}
