#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/model.h"
#include "policy/recommend.h"
#include "tests/unit/test.h"

/*
 * Random flows, the policies recommended for them, and then every flow there could be: what was seen is
 * allowed, and what was not seen is not.
 */
#define ROUNDS       120
#define NB_WORKLOADS 10
#define NB_OUTSIDE   3
#define NB_FLOWS     14
#define NB_POINTS    8

static uint32_t state_;

static int
pick(int n)
{
	state_ = state_ * 1664525u + 1013904223u;
	return (int)((state_ >> 8) % (uint32_t)n);
}

struct cluster {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table;
	struct policy_query *query;
};

static void
cluster_open(struct cluster *c, const char *inventory, const char *policies)
{
	struct pk_diag d = { "" };
	int rc;

	memset(c, 0, sizeof(*c));
	assert_int_equal(policy_findings_create(&c->findings), 0);
	assert_int_equal(policy_model_create(&c->model), 0);
	assert_int_equal(policy_ids_create(&c->ids), 0);
	rc =
	    policy_model_add_text(c->model, "inventory", inventory, strlen(inventory), c->findings);
	if (rc == 0 && policies != NULL)
		rc = policy_model_add_text(
		    c->model, "policies", policies, strlen(policies), c->findings);
	if (rc == 0)
		rc = policy_compile(c->model, c->ids, &c->table, c->findings);
	if (rc < 0) {
		policy_findings_first(c->findings, &d);
		printf("%s\n", policies != NULL ? policies : inventory);
		fail_msg("%s", d.text);
	}
	assert_int_equal(policy_query_create(&c->query, c->model, c->table, &d), 0);
}

static void
cluster_close(struct cluster *c)
{
	policy_query_destroy(c->query);
	policy_table_destroy(c->table);
	policy_ids_destroy(c->ids);
	policy_model_destroy(c->model);
	policy_findings_destroy(c->findings);
}

static const struct policy_point points[NB_POINTS] = { { 6, 80 }, { 6, 81 }, { 6, 82 }, { 6, 443 },
	{ 17, 53 }, { 1, 8 << 8 }, { 132, 5000 }, { 47, 0 } };

/* Labels by bits: a is 1, 2 or absent, b and c alike; so some have all the labels of others and more. */
static int labels[NB_WORKLOADS];
static int tenants[NB_WORKLOADS];

static char *
make_inventory(int alike)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	for (int i = 0; i < NB_WORKLOADS; i++) {
		int again = 1;

		while (again) {
			labels[i] = pick(27);
			tenants[i] = pick(2);
			again = 0;
			for (int k = 0; k < i && !alike; k++)
				again |= labels[k] == labels[i] && tenants[k] == tenants[i];
		}
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: w%d, tenant: t%d, labels: {",
		    i, tenants[i]);
		for (int k = 0, v = labels[i], first = 1; k < 3; k++, v /= 3)
			if (v % 3 > 0)
				fprintf(
				    f, "%s%c: v%d", first ? first = 0, "" : ", ", 'a' + k, v % 3);
		fprintf(f, "}}\nspec: {addresses: [192.0.2.%d]}\n", i + 1);
	}
	fclose(f);
	return text;
}

static void
make_ends(const struct cluster *c, struct policy_end out[NB_WORKLOADS + NB_OUTSIDE])
{
	struct pk_diag d;
	char text[64];

	for (int i = 0; i < NB_WORKLOADS + NB_OUTSIDE; i++) {
		if (i < NB_WORKLOADS)
			snprintf(text, sizeof(text), "t%d/w%d", tenants[i], i);
		else
			snprintf(text, sizeof(text), "198.51.100.%d", i);
		assert_int_equal(policy_query_end(c->query, text, &out[i], &d), 0);
	}
}

static char *
recommend(const struct cluster *c, const struct policy_flow *flows, size_t nb, const char *keys)
{
	struct policy_recommendation done;
	struct pk_diag d;
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	assert_int_equal(policy_recommend(c->model, c->query, flows, nb, keys, f, &done, &d), 0);
	fclose(f);
	return text;
}

/* Whether two ends are one to policy: the same, or workloads alike in all labels. */
static int
same_end(int a, int b)
{
	return a == b ||
	    (a < NB_WORKLOADS && b < NB_WORKLOADS && labels[a] == labels[b] &&
	        tenants[a] == tenants[b]);
}

static void
check_round(uint32_t round, int alike)
{
	struct policy_end ends[NB_WORKLOADS + NB_OUTSIDE];
	int from[NB_FLOWS], to[NB_FLOWS], point[NB_FLOWS];
	struct policy_flow flows[NB_FLOWS];
	char *inventory, *policies;
	struct cluster c;

	state_ = round;
	inventory = make_inventory(alike);
	cluster_open(&c, inventory, NULL);
	make_ends(&c, ends);
	for (int i = 0; i < NB_FLOWS; i++) {
		do {
			from[i] = pick(NB_WORKLOADS + NB_OUTSIDE);
			to[i] = pick(NB_WORKLOADS + NB_OUTSIDE);
		} while (from[i] == to[i] || (from[i] >= NB_WORKLOADS && to[i] >= NB_WORKLOADS));
		point[i] = pick(NB_POINTS);
		flows[i] = (struct policy_flow){ ends[from[i]], ends[to[i]], points[point[i]] };
	}
	policies = recommend(&c, flows, NB_FLOWS, NULL);
	cluster_close(&c);
	cluster_open(&c, inventory, policies);
	/* It is clean: nothing to warn of in what we write ourselves. */
	assert_int_equal(policy_findings_total(c.findings), 0);
	make_ends(&c, ends);
	for (int a = 0; a < NB_WORKLOADS + NB_OUTSIDE; a++) {
		for (int b = 0; b < NB_WORKLOADS + NB_OUTSIDE; b++) {
			for (int p = 0; p < NB_POINTS && a != b; p++) {
				struct policy_answer answer;
				struct pk_diag d;
				int seen = 0;

				for (int i = 0; i < NB_FLOWS; i++)
					seen |= same_end(from[i], a) && same_end(to[i], b) &&
					    point[i] == p;
				assert_int_equal(policy_query_flow(c.query, &ends[a], &ends[b],
				                     points[p], &answer, &d),
				    0);
				if ((answer.verdict == PK_VERDICT_ALLOW) == seen)
					continue;
				printf("%s\n", policies);
				fail_msg(
				    "round %u: %d -> %d point %d: seen %d", round, a, b, p, seen);
			}
		}
	}
	cluster_close(&c);
	free(policies);
	free(inventory);
}

static void
test_exact(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++)
		check_round(round, round % 3 == 0);
}

/* By some labels only: every recorded flow is allowed, and others of the same labels with them. */
static void
test_labels(void **state)
{
	static const char inventory[] =
	    "apiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: a1, labels: {app: a, n: one}}\nspec: {addresses: [192.0.2.1]}\n"
	    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: a2, labels: {app: a, n: two}}\nspec: {addresses: [192.0.2.2]}\n"
	    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: b1, labels: {app: b}}\nspec: {addresses: [192.0.2.3]}\n";
	struct policy_recommendation done;
	struct policy_end ends[3];
	struct policy_answer answer;
	struct policy_flow flow;
	struct cluster c;
	struct pk_diag d;
	char *policies;

	(void)state;
	cluster_open(&c, inventory, NULL);
	assert_int_equal(policy_query_end(c.query, "a1", &flow.src, &d), 0);
	assert_int_equal(policy_query_end(c.query, "b1", &flow.dst, &d), 0);
	flow.point = points[0];
	assert_int_equal(
	    policy_recommend(c.model, c.query, &flow, 1, "ap", stderr, &done, &d), -22);
	assert_string_equal(d.text, "no workload has a label \"ap\"; did you mean \"app\"?");
	for (int by_app = 0; by_app < 2; by_app++) {
		struct cluster judged;

		policies = recommend(&c, &flow, 1, by_app ? "app" : NULL);
		cluster_open(&judged, inventory, policies);
		for (int i = 0; i < 3; i++)
			assert_int_equal(policy_query_end(judged.query,
			                     i == 0       ? "a1"
			                         : i == 1 ? "a2"
			                                  : "b1",
			                     &ends[i], &d),
			    0);
		assert_int_equal(
		    policy_query_flow(judged.query, &ends[0], &ends[2], points[0], &answer, &d), 0);
		assert_int_equal(answer.verdict, PK_VERDICT_ALLOW);
		assert_int_equal(
		    policy_query_flow(judged.query, &ends[1], &ends[2], points[0], &answer, &d), 0);
		assert_int_equal(answer.verdict, by_app ? PK_VERDICT_ALLOW : PK_VERDICT_DENY);
		cluster_close(&judged);
		free(policies);
	}
	cluster_close(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_labels),
	};

	return cmocka_run_group_tests_name("policy/recommend", tests, NULL, NULL);
}
