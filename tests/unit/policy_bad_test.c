#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/model.h"
#include "tests/unit/test.h"

/*
 * One mistake a file, in tests/data/policy/bad.  The first line says what an operator must read:
 *
 *     # expect: FILE:LINE:COLUMN: sentence
 *
 * That, and nothing else, has to come; and what was there before must be as it was.
 */
#define TEXT_MAX 65536

static const char before[] = "apiVersion: picket.io/v1\n"
                             "kind: Workload\n"
                             "metadata: {name: before, labels: {app: before}}\n"
                             "spec: {addresses: [203.0.113.1]}\n";

static void
count(void *arg, const char *key, uint32_t id)
{
	(void)key;
	(void)id;
	++*(unsigned int *)arg;
}

/* Read the source into a model that holds another; compile and test; collect findings. */
static int
read_all(struct policy_model *m, struct policy_ids *ids, const char *name, const char *text,
    size_t len, struct policy_findings *f)
{
	struct policy_table *t = NULL;
	unsigned int passed, failed;
	int rc = policy_model_add_text(m, name, text, len, f);

	if (rc < 0) {
		/* Not a trace: the model compiles to what it did before. */
		struct policy_findings *none;

		assert_int_equal(policy_findings_create(&none), 0);
		assert_int_equal(policy_compile(m, ids, &t, none), 0);
		assert_int_equal(t->nb_identities, 1);
		assert_int_equal(t->nb_endpoints, 1);
		assert_int_equal(policy_findings_total(none), 0);
		policy_findings_destroy(none);
		policy_table_destroy(t);
		return rc;
	}
	rc = policy_compile(m, ids, &t, f);
	if (rc < 0) {
		unsigned int nb = 0;

		/* No table, and no numbers given out for what was refused. */
		assert_null(t);
		policy_ids_each(ids, 1, count, &nb);
		assert_int_equal(nb, 0);
		return rc;
	}
	rc = policy_run_tests(m, t, f, &passed, &failed);
	policy_table_destroy(t);
	return rc;
}

static void
check_file(const char *path, const char *name)
{
	static char text[TEXT_MAX];
	struct policy_findings *f;
	struct policy_model *m;
	struct policy_ids *ids;
	struct pk_diag first;
	FILE *file = fopen(path, "re");
	char *want, *end;
	size_t len;

	assert_non_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	fclose(file);
	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_ids_create(&ids), 0);
	assert_int_equal(policy_model_add_text(m, "before", before, sizeof(before) - 1, f), 0);
	if (read_all(m, ids, name, text, len, f) == 0)
		fail_msg("%s: was accepted", name);
	policy_findings_first(f, &first);
	if (strncmp(text, "# expect: ", 10) != 0 || (end = strchr(text, '\n')) == NULL)
		fail_msg("%s: does not say what to expect; it got: %s", name, first.text);
	else {
		*end = '\0';
		want = text + 10;
		if (strcmp(want, first.text) != 0)
			fail_msg("%s:\nwant %s\ngot  %s", name, want, first.text);
		if (policy_findings_count(f, POLICY_ERROR) != 1)
			fail_msg("%s: more than one sentence", name);
	}
	policy_ids_destroy(ids);
	policy_model_destroy(m);
	policy_findings_destroy(f);
}

static int
is_yaml(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot != NULL && strcmp(dot, ".yaml") == 0;
}

static void
test_bad(void **state)
{
	const char *src = getenv("SRCDIR");
	struct dirent **names;
	char dir[512], path[1024];
	int n;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/tests/data/policy/bad", src != NULL ? src : ".");
	n = scandir(dir, &names, is_yaml, alphasort);
	assert_true(n >= 40);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		check_file(path, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	print_message("# %d mistakes\n", n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests_name("policy/bad", tests, NULL, NULL);
}
