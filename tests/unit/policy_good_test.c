#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/query_priv.h"
#include "tests/unit/test.h"

/* Each question, asked of the whole table and of what the two ends need of it, has one answer. */
static void
compare_ways(const struct policy_model *m, const struct policy_table *t)
{
	static const char *const strangers[] = { "198.51.100.7", "203.0.113.7", "192.0.2.77",
		"2001:db8:1::1" };
	static const struct policy_point points[] = { { 6, 80 }, { 6, 443 }, { 6, 22 }, { 17, 53 },
		{ 6, 9100 }, { 6, 9200 }, { 17, 5004 }, { 1, 8 << 8 }, { 58, 128 << 8 },
		{ 47, 0 } };
	struct policy_query *whole, *pairs;
	struct policy_end ends[64];
	char text[PK_ADDR_TEXT];
	struct pk_diag d;
	size_t nb = 0;

	assert_int_equal(policy_query_create(&whole, m, t, &d), 0);
	assert_int_equal(policy_query_create(&pairs, m, t, &d), 0);
	policy_query_by_pairs(pairs);
	for (uint32_t i = 0; i < t->nb_endpoints && nb < 32; i++)
		assert_int_equal(policy_query_end(whole, pk_addr_text(&t->endpoints[i].addr, text),
		                     &ends[nb++], &d),
		    0);
	for (size_t i = 0; i < PK_COUNT(strangers); i++)
		assert_int_equal(policy_query_end(whole, strangers[i], &ends[nb++], &d), 0);
	for (size_t i = 0; i < nb * nb * PK_COUNT(points); i++) {
		const struct policy_end *src = &ends[i % nb], *dst = &ends[i / nb % nb];
		struct policy_point point = points[i / nb / nb];
		struct policy_answer a, b;
		int rc = policy_query_flow(whole, src, dst, point, &a, &d);

		assert_int_equal(policy_query_flow(pairs, src, dst, point, &b, &d), rc);
		assert_int_equal(a.verdict, b.verdict);
		assert_int_equal(a.audit_verdict, b.audit_verdict);
		assert_ptr_equal(a.rule, b.rule);
	}
	policy_query_destroy(whole);
	policy_query_destroy(pairs);
}

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
	compare_ways(m, t);
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
