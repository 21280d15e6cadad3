#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/query.h"
#include "tests/unit/test.h"

/*
 * Clusters in tests/data/k8s, each with questions in its comments:
 *
 *     #? SOURCE DESTINATION SERVICE VERDICT
 *
 * Those in bad/ hold one mistake, and say in the first line what an operator must read.
 */
#define TEXT_MAX 65536

struct cluster {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table;
	struct policy_query *query;
};

static int
open_cluster(struct cluster *c, const char *name, const char *text)
{
	struct pk_diag why;
	int rc;

	memset(c, 0, sizeof(*c));
	assert_int_equal(policy_findings_create(&c->findings), 0);
	assert_int_equal(policy_model_create(&c->model), 0);
	assert_int_equal(policy_ids_create(&c->ids), 0);
	rc = policy_model_add_text(c->model, name, text, strlen(text), c->findings);
	if (rc == 0)
		rc = policy_compile(c->model, c->ids, &c->table, c->findings);
	if (rc == 0)
		rc = policy_query_create(&c->query, c->model, c->table, &why);
	return rc;
}

static void
close_cluster(struct cluster *c)
{
	policy_query_destroy(c->query);
	policy_table_destroy(c->table);
	policy_ids_destroy(c->ids);
	policy_model_destroy(c->model);
	policy_findings_destroy(c->findings);
}

static void
ask(const struct cluster *c, const char *name, const char *line)
{
	char from[128], to[128], service[64], want[16];
	struct policy_point points[POLICY_POINTS_MAX];
	struct policy_end src, dst;
	struct policy_answer a;
	struct pk_diag d;
	int n;

	if (sscanf(line, "%127s %127s %63s %15s", from, to, service, want) != 4)
		fail_msg("%s: \"%.60s\" is no question", name, line);
	if (policy_query_end(c->query, from, &src, &d) < 0 ||
	    policy_query_end(c->query, to, &dst, &d) < 0)
		fail_msg("%s: %s", name, d.text);
	n = policy_query_service(c->query, &src, &dst, service, points, &d);
	if (n < 1)
		fail_msg("%s: %s", name, d.text);
	for (int i = 0; i < n; i++) {
		assert_int_equal(policy_query_flow(c->query, &src, &dst, points[i], &a, &d), 0);
		if (strcmp(pk_verdict_name(a.verdict), want) != 0)
			fail_msg("%s: %s -> %s %s: want %s, got %s by %s", name, from, to, service,
			    want, pk_verdict_name(a.verdict),
			    a.rule != NULL ? a.rule->name : "none");
	}
}

static void
check_good(const char *name, const char *text)
{
	unsigned int asked = 0;
	struct pk_diag first;
	struct cluster c;

	if (open_cluster(&c, name, text) < 0) {
		policy_findings_first(c.findings, &first);
		fail_msg("%s", first.text);
	}
	for (const char *s = strstr(text, "\n#? "); s != NULL; s = strstr(s + 1, "\n#? ")) {
		ask(&c, name, s + 4);
		asked++;
	}
	assert_true(asked > 0);
	close_cluster(&c);
}

static void
check_bad(const char *name, const char *text)
{
	char want[1024];
	struct pk_diag first;
	struct cluster c;

	if (open_cluster(&c, name, text) == 0)
		fail_msg("%s: was accepted", name);
	policy_findings_first(c.findings, &first);
	if (sscanf(text, "# expect: %1023[^\n]", want) != 1)
		fail_msg("%s: does not say what to expect; it got: %s", name, first.text);
	if (strcmp(want, first.text) != 0)
		fail_msg("%s:\nwant %s\ngot  %s", name, want, first.text);
	if (policy_findings_count(c.findings, POLICY_ERROR) != 1)
		fail_msg("%s: more than one sentence", name);
	close_cluster(&c);
}

static int
is_yaml(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return dot != NULL && strcmp(dot, ".yaml") == 0;
}

static void
each_file(const char *sub, void (*check)(const char *name, const char *text))
{
	static char text[TEXT_MAX];
	const char *src = getenv("SRCDIR");
	struct dirent **names;
	char dir[512], path[1024];
	int n;

	snprintf(dir, sizeof(dir), "%s/tests/data/k8s/%s", src != NULL ? src : ".", sub);
	n = scandir(dir, &names, is_yaml, alphasort);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		file = fopen(path, "re");
		assert_non_null(file);
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
		check(names[i]->d_name, text);
		free(names[i]);
	}
	free(names);
	printf("# %d files in %s\n", n, sub);
}

static void
test_good(void **state)
{
	(void)state;
	each_file("good", check_good);
}

static void
test_bad(void **state)
{
	(void)state;
	each_file("bad", check_bad);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests_name("policy/k8s", tests, NULL, NULL);
}
