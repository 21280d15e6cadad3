#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/model.h"
#include "tests/unit/test.h"

/* Each file in tests/data/policy/good is right, and its inline tests say what it means. */

static void
check_file(const char *path)
{
	struct policy_table *t = NULL;
	unsigned int passed = 0, failed = 0;
	struct policy_findings *f;
	struct policy_model *m;
	struct policy_ids *ids;
	struct pk_diag first;
	int rc;

	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_ids_create(&ids), 0);
	rc = policy_model_add_path(m, path, f);
	if (rc == 0)
		rc = policy_compile(m, ids, &t, f);
	if (rc == 0)
		rc = policy_run_tests(m, t, f, &passed, &failed);
	if (rc < 0) {
		policy_findings_first(f, &first);
		fail_msg("%s", first.text);
	}
	assert_true(passed > 0);
	assert_int_equal(policy_findings_total(f), 0);
	policy_table_destroy(t);
	policy_ids_destroy(ids);
	policy_model_destroy(m);
	policy_findings_destroy(f);
}

static int
is_policy(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void
test_good(void **state)
{
	const char *src = getenv("SRCDIR");
	struct dirent **names;
	char dir[512], path[1024];
	int n;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/tests/data/policy/good", src != NULL ? src : ".");
	n = scandir(dir, &names, is_policy, alphasort);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		check_file(path);
		free(names[i]);
	}
	free(names);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
	};

	return cmocka_run_group_tests_name("policy/good", tests, NULL, NULL);
}
