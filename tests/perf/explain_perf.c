#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy/query.h"
#include "policy/walk.h"

/*
 * How long it takes to explain a flow, in a data centre of many small tenants: each has four workloads and
 * three policies.  Prints one line of perf.json.
 *
 *     explain_perf            says its result's name
 *     explain_perf NAME [N]   measures it, with N tenants
 */
#define NAME      "policy.explain_us"
#define TENANTS   25000
#define WORKLOADS 4
#define POLICIES  3
#define FLOWS     2000
#define TURNS     3

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A source holds at most 16 MiB, so a thousand tenants go into each. */
static int
add_tenants(struct policy_model *m, struct policy_findings *f, unsigned int from, unsigned int to)
{
	char *text = NULL, name[32];
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (out == NULL)
		return -1;
	for (unsigned int t = from; t < to; t++) {
		for (unsigned int w = 0; w < WORKLOADS; w++)
			fprintf(out,
			    "---\napiVersion: picket.io/v1\nkind: Workload\n"
			    "metadata: {name: w%u, tenant: t%u, labels: {app: a%u}}\n"
			    "spec: {addresses: [10.%u.%u.%u]}\n",
			    w, t, w, t / 8192, t / 32 % 256, t % 32 * 8 + w + 1);
		for (unsigned int p = 0; p < POLICIES; p++)
			fprintf(out,
			    "---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%u, tenant: t%u}\n"
			    "spec:\n  tier: application\n  priority: %u\n  appliesTo: {workloads: {app: a%u}}\n"
			    "  ingress: [{action: allow, from: [{workloads: {app: a%u}}], services: [tcp/%u]}]\n"
			    "  egress: [{action: allow, to: [{workloads: {app: a%u}}], services: [tcp/%u]}]\n",
			    p, t, p, p, p + 1, 8000 + p, (p + 3) % 4, 8000 + (p + 3) % 4);
	}
	fclose(out);
	snprintf(name, sizeof(name), "tenants-%u", from);
	rc = policy_model_add_text(m, name, text, len, f);
	free(text);
	return rc;
}

static int
by_number(const void *va, const void *vb)
{
	double a = *(const double *)va, b = *(const double *)vb;

	return (a > b) - (a < b);
}

/* All that `picketctl policy explain` does once files are read: ends, verdict, and the way there. */
static int
explain(const struct policy_query *q, struct policy_connect *c, unsigned int tenant, unsigned int n)
{
	struct policy_end src, dst;
	struct policy_point points[POLICY_POINTS_MAX];
	struct policy_steps way = { 0 };
	struct policy_answer a;
	unsigned int family;
	uint32_t classes[2];
	char from[32], to[32];
	int rc;

	snprintf(from, sizeof(from), "t%u/w%u", tenant, n % WORKLOADS);
	snprintf(to, sizeof(to), "t%u/w%u", tenant, (n + 1) % WORKLOADS);
	rc = policy_query_end(q, from, &src, NULL) < 0 || policy_query_end(q, to, &dst, NULL) < 0 ||
	    policy_query_service(q, &src, &dst, "tcp/8001", points, NULL) < 0 ||
	    policy_query_flow(q, &src, &dst, points[0], &a, NULL) < 0 ||
	    policy_query_classes(q, c, &src, &dst, classes, &family, NULL) < 0 ||
	    policy_walk(c, PK_EGRESS, classes[0], classes[1], 6, 8001, &way) < 0 ||
	    policy_walk(c, PK_INGRESS, classes[1], classes[0], 6, 8001, &way) < 0;
	free(way.at);
	return rc ? -1 : 0;
}

int
main(int argc, char **argv)
{
	unsigned int tenants = argc > 2 ? (unsigned int)atoi(argv[2]) : TENANTS;
	struct policy_connect *c = NULL;
	struct policy_findings *f;
	struct policy_query *q;
	struct policy_table *t = NULL;
	struct policy_model *m;
	struct policy_pool *pool;
	struct policy_ids *ids;
	double us[TURNS];
	struct pk_diag d;
	int rc = 0;

	if (argc < 2 || strcmp(argv[1], NAME) != 0) {
		puts(NAME);
		return 0;
	}
	if (policy_findings_create(&f) < 0 || policy_model_create(&m) < 0 ||
	    policy_ids_create(&ids) < 0 || (pool = policy_pool_create()) == NULL)
		return 1;
	for (unsigned int i = 0; i < tenants && rc == 0; i += 1000)
		rc = add_tenants(m, f, i, i + 1000 < tenants ? i + 1000 : tenants);
	if (rc == 0)
		rc = policy_compile(m, ids, &t, f);
	if (rc < 0) {
		policy_findings_first(f, &d);
		fprintf(stderr, "explain_perf: %s\n", d.text);
		return 1;
	}
	if (policy_query_create(&q, m, t, &d) < 0 || policy_connect_create(&c, t, pool) < 0)
		return 1;
	for (int turn = 0; turn < TURNS; turn++) {
		uint64_t start = now_ns();

		for (unsigned int i = 0; i < FLOWS; i++)
			if (explain(q, c, i * 7919u % tenants, i) < 0)
				return 1;
		us[turn] = (double)(now_ns() - start) / 1e3 / FLOWS;
	}
	qsort(us, TURNS, sizeof(us[0]), by_number);
	printf(
	    "{\"name\":\"%s\",\"value\":%.1f,\"unit\":\"us\",\"better\":\"lower\",\"runs\":[%.1f,%.1f,%.1f],"
	    "\"note\":\"%u workloads, %u policies\"}\n",
	    NAME, us[TURNS / 2], us[0], us[1], us[2], tenants * WORKLOADS, tenants * POLICIES);
	policy_connect_destroy(c);
	policy_query_destroy(q);
	policy_table_destroy(t);
	policy_ids_destroy(ids);
	policy_model_destroy(m);
	policy_findings_destroy(f);
	policy_pool_destroy(pool);
	return 0;
}
