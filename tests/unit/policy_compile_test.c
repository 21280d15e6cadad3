#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/model.h"
#include "policy/query.h"
#include "tests/unit/test.h"

/* Programs as they come out of the compiler, written one line a rule. */

#define HEAD(kind, meta) "---\napiVersion: picket.io/v1\nkind: " kind "\nmetadata: " meta "\n"
#define WORKLOAD(name, labels, addr)                                        \
	HEAD("Workload", "{name: " name ", tenant: t, labels: " labels "}") \
	"spec: {addresses: [" addr "], ports: {web: tcp/8080}}\n"

struct world {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table;
};

static void
world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	assert_int_equal(policy_findings_create(&w->findings), 0);
	assert_int_equal(policy_model_create(&w->model), 0);
	assert_int_equal(policy_ids_create(&w->ids), 0);
}

static void
world_fini(struct world *w)
{
	policy_table_destroy(w->table);
	policy_ids_destroy(w->ids);
	policy_model_destroy(w->model);
	policy_findings_destroy(w->findings);
}

static void
add(struct world *w, const char *name, const char *text)
{
	struct pk_diag d;

	if (policy_model_add_text(w->model, name, text, strlen(text), w->findings) < 0) {
		policy_findings_first(w->findings, &d);
		fail_msg("%s", d.text);
	}
}

static void
compile(struct world *w)
{
	struct pk_diag d;

	if (policy_compile(w->model, w->ids, &w->table, w->findings) < 0) {
		policy_findings_first(w->findings, &d);
		fail_msg("%s", d.text);
	}
}

/* "200 allow p/a {t{app=b}} {tcp/80-80}" and so on, one line a rule. */
static void
print_program(const struct policy_table *t, uint64_t id, char *buf, size_t size)
{
	const struct policy_program *p = policy_table_program(t, id);
	FILE *f = fmemopen(buf, size, "w");

	assert_non_null(p);
	assert_non_null(f);
	for (uint32_t i = 0; i < p->nb_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		fprintf(f, "%u %s%s%s %s/%s", r->tier, pk_verdict_name(r->verdict),
		    r->flags & PK_RULE_AUDIT ? " audit" : "",
		    r->flags & PK_RULE_DEFAULT ? " default" : "", r->policy, r->name);
		for (uint32_t k = 0; k < r->nb_peers; k++)
			fprintf(f, " %s", policy_table_set(t, r->peers[k])->name);
		for (uint32_t k = 0; k < r->nb_services; k++)
			fprintf(f, " %u/%u-%u", r->services[k].proto, r->services[k].low,
			    r->services[k].high);
		fprintf(f, "%s%s\n", r->any_peer ? " *" : "", r->any_service ? " *" : "");
		if (r->flags & PK_RULE_DEFAULT)
			assert_int_equal(r->line, 0);
	}
	fclose(f);
}

static const struct policy_identity *
identity_of(const struct policy_table *t, const char *labels)
{
	for (uint32_t i = 0; i < t->nb_identities; i++)
		if (strcmp(t->identities[i].labels, labels) == 0)
			return &t->identities[i];
	fail_msg("no identity {%s}", labels);
	return NULL;
}

static const char policies[] = HEAD("Policy",
    "{name: low, tenant: t}") "spec:\n"
                              "  tier: application\n"
                              "  priority: 20\n"
                              "  appliesTo: {workloads: {app: a}}\n"
                              "  ingress:\n"
                              "    - {name: one, action: allow, from: [{workloads: {app: b}}], services: [tcp/81, tcp/80, port/web]}\n"
                              "  egress:\n"
                              "    - {name: out, action: allow, to: [{workloads: {app: b}}], services: [port/web, udp/53]}\n" HEAD(
                                  "Policy",
                                  "{name: high, tenant: t}") "spec:\n"
                                                             "  tier: application\n"
                                                             "  priority: 10\n"
                                                             "  appliesTo: {workloads: {app: a}}\n"
                                                             "  ingress:\n"
                                                             "    - {name: net, action: reject, from: [{networks: [192.0.2.0/24, 192.0.3.0/24]}]}\n" HEAD(
                                                                 "Policy",
                                                                 "{name: try, tenant: t}") "spec:\n"
                                                                                           "  tier: application\n"
                                                                                           "  priority: 15\n"
                                                                                           "  mode: audit\n"
                                                                                           "  ingress: [{name: shut, action: deny}]\n"
                                                                                           "  egress: []\n" HEAD(
                                                                                               "Policy",
                                                                                               "{name: guard, tenant: t}") "spec:\n"
                                                                                                                           "  tier: emergency\n"
                                                                                                                           "  priority: 1\n"
                                                                                                                           "  ingress: [{name: skip, action: pass, from: [{workloads: {app: b}}], log: all}]\n" HEAD(
                                                                                                                               "Policy",
                                                                                                                               "{name: floor, tenant: \"*\"}") "spec:\n"
                                                                                                                                                               "  tier: baseline\n"
                                                                                                                                                               "  priority: 1\n"
                                                                                                                                                               "  ingress: [{action: allow, services: [icmp/echo-request]}]\n" HEAD(
                                                                                                                                                                   "Policy",
                                                                                                                                                                   "{name: own-floor, tenant: t}") "spec:\n"
                                                                                                                                                                                                   "  tier: baseline\n"
                                                                                                                                                                                                   "  priority: 1\n"
                                                                                                                                                                                                   "  ingress: [{name: ssh, action: allow, services: [ssh]}]\n";

static const char inventory[] = WORKLOAD("w1", "{app: a, owner: x}", "192.0.2.1")
    WORKLOAD("w2", "{app: a, owner: y}", "192.0.2.2") WORKLOAD("w3", "{app: b}", "192.0.2.3");

static void
test_golden(void **state)
{
	static const struct {
		const char *labels;
		enum pk_direction direction;
		const char *want;
	} cases[] = {
		{ "app=a;web=tcp/8080", PK_INGRESS,
		    "50 pass guard/skip t{app=b} *\n"
		    "200 reject high/net 192.0.2.0/24 and others *\n"
		    "200 deny audit try/shut * *\n"
		    "200 allow low/one t{app=b} 6/80-81 6/8080-8080\n"
		    "200 deny default default/tier application * *\n"
		    "250 allow floor/#1 1/2048-2303 58/32768-33023 *\n"
		    "250 allow own-floor/ssh 6/22-22 *\n"
		    "255 deny default default/tenant t * *\n" },
		{ "app=a;web=tcp/8080", PK_EGRESS,
		    "200 allow low/out t{app=b} 17/53-53\n"
		    "200 allow low/out t{app=b} with web=tcp/8080 6/8080-8080\n"
		    "200 deny default default/tier application * *\n"
		    "255 deny default default/tenant t * *\n" },
		/* Audited only: the end of the tier is an audit rule as well. */
		{ "app=b;web=tcp/8080", PK_INGRESS,
		    "50 pass guard/skip t{app=b} *\n"
		    "200 deny audit try/shut * *\n"
		    "200 deny audit default default/tier application * *\n"
		    "250 allow floor/#1 1/2048-2303 58/32768-33023 *\n"
		    "250 allow own-floor/ssh 6/22-22 *\n"
		    "255 deny default default/tenant t * *\n" },
		{ "app=b;web=tcp/8080", PK_EGRESS,
		    "200 deny audit default default/tier application * *\n"
		    "255 deny default default/tenant t * *\n" },
	};
	struct world w;
	char got[4096];

	(void)state;
	world_init(&w);
	add(&w, "policies", policies);
	add(&w, "inventory", inventory);
	compile(&w);
	/* `owner` is nobody's business, so w1 and w2 are one. */
	assert_int_equal(w.table->nb_identities, 2);
	assert_int_equal(w.table->nb_endpoints, 3);
	assert_int_equal(w.table->nb_programs, 4);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		const struct policy_identity *id = identity_of(w.table, cases[i].labels);

		print_program(w.table, id->program[cases[i].direction], got, sizeof(got));
		assert_string_equal(got, cases[i].want);
	}
	world_fini(&w);
}

static int
digest(void *arg, const struct pk_msg *m)
{
	uint64_t *h = arg;
	struct pk_diag d;

	if (pk_msg_check(m, sizeof(*m), &d) < 0)
		fail_msg("%s", d.text);
	for (size_t i = 0; i < sizeof(*m); i++)
		*h = (*h ^ ((const uint8_t *)m)[i]) * UINT64_C(0x100000001b3);
	return 0;
}

static uint64_t
digest_of(struct world *w)
{
	uint64_t h = 14695981039346656037u;

	compile(w);
	assert_int_equal(policy_table_emit(w->table, 1, "dpu1", digest, &h), 0);
	return h;
}

/* The same input in any order of files gives the same messages, number for number. */
static void
test_order_of_files(void **state)
{
	struct world a, b;

	(void)state;
	world_init(&a);
	add(&a, "policies", policies);
	add(&a, "inventory", inventory);
	world_init(&b);
	add(&b, "inventory", inventory);
	add(&b, "policies", policies);
	assert_true(digest_of(&a) == digest_of(&b));
	world_fini(&a);
	world_fini(&b);
}

/* A workload that comes or goes moves one address; no rule, set or program changes its name. */
static void
test_relabel_is_small(void **state)
{
	struct world w;
	struct policy_table *before;

	(void)state;
	world_init(&w);
	add(&w, "policies", policies);
	add(&w, "inventory", inventory);
	compile(&w);
	before = w.table;
	add(&w, "more", WORKLOAD("w4", "{app: b, owner: z}", "192.0.2.4"));
	compile(&w);
	assert_int_equal(w.table->nb_identities, before->nb_identities);
	assert_int_equal(w.table->nb_endpoints, before->nb_endpoints + 1);
	assert_int_equal(w.table->nb_programs, before->nb_programs);
	assert_int_equal(w.table->nb_sets, before->nb_sets);
	for (uint32_t i = 0; i < before->nb_programs; i++)
		assert_true(w.table->programs[i].id == before->programs[i].id);
	for (uint32_t i = 0; i < before->nb_sets; i++) {
		assert_true(w.table->sets[i].id == before->sets[i].id);
		assert_int_equal(w.table->sets[i].nb_members, before->sets[i].nb_members);
	}
	for (uint32_t i = 0; i < before->nb_identities; i++)
		assert_int_equal(w.table->identities[i].id, before->identities[i].id);
	policy_table_destroy(before);
	world_fini(&w);
}

static void
test_table_outlives_model(void **state)
{
	struct world w;
	uint64_t h = 0, again = 0;

	(void)state;
	world_init(&w);
	add(&w, "policies", policies);
	add(&w, "inventory", inventory);
	compile(&w);
	policy_table_emit(w.table, 1, NULL, digest, &h);
	policy_model_destroy(w.model);
	w.model = NULL;
	policy_table_emit(w.table, 1, NULL, digest, &again);
	assert_true(h == again);
	world_fini(&w);
}

static void
test_search(void **state)
{
	struct world w;
	const struct policy_table *t;

	(void)state;
	world_init(&w);
	add(&w, "policies", policies);
	add(&w, "inventory", inventory);
	compile(&w);
	t = w.table;
	for (uint32_t i = 0; i < t->nb_identities; i++)
		assert_ptr_equal(policy_table_identity(t, t->identities[i].id), &t->identities[i]);
	for (uint32_t i = 0; i < t->nb_sets; i++)
		assert_ptr_equal(policy_table_set(t, t->sets[i].id), &t->sets[i]);
	for (uint32_t i = 0; i < t->nb_programs; i++)
		assert_ptr_equal(policy_table_program(t, t->programs[i].id), &t->programs[i]);
	for (uint32_t i = 0; i < t->nb_endpoints; i++)
		assert_ptr_equal(
		    policy_table_endpoint(t, t->endpoints[i].vrf, &t->endpoints[i].addr),
		    &t->endpoints[i]);
	assert_null(policy_table_identity(t, 4711));
	assert_null(policy_table_set(t, 1));
	assert_null(policy_table_program(t, 1));
	assert_null(policy_table_endpoint(t, 1, &t->endpoints[0].addr));
	world_fini(&w);
}

struct pair {
	const char *key;
	uint32_t id;
};

static void
keep(void *arg, const char *key, uint32_t id)
{
	struct pair **p = arg;

	*(*p)++ = (struct pair){ key, id };
}

static void
test_ids(void **state)
{
	struct pair got[8] = { 0 }, *end = got;
	struct policy_ids *ids;

	(void)state;
	assert_int_equal(policy_ids_create(&ids), 0);
	assert_int_equal(policy_ids_restore(ids, "c", 7), 0);
	assert_int_equal(policy_ids_restore(ids, "a", 3), 0);
	assert_int_equal(policy_ids_restore(ids, "a", 9), -EEXIST);
	assert_int_equal(policy_ids_restore(ids, "d", 7), -EEXIST);
	assert_int_equal(policy_ids_restore(ids, "d", 0), -EEXIST);
	assert_int_equal(policy_ids_get(ids, "a"), 3);
	/* A number is never given out again, so a new one is above all. */
	assert_int_equal(policy_ids_get(ids, "new"), 8);
	assert_int_equal(policy_ids_get(ids, "new"), 8);
	policy_ids_each(ids, 4, keep, &end);
	assert_int_equal(end - got, 2);
	assert_int_equal(got[0].id, 7);
	assert_string_equal(got[1].key, "new");
	policy_ids_destroy(ids);
}

/* Lists longer than one message are carried on, and arrive whole: the evaluator says so. */
static void
test_long_lists(void **state)
{
	static char text[1 << 16];
	struct policy_query *q;
	struct policy_answer a;
	struct policy_end src, dst;
	struct pk_diag d;
	struct world w;
	size_t n = 0;

	(void)state;
	n += (size_t)snprintf(text + n, sizeof(text) - n,
	    HEAD(
	        "Policy", "{name: p, tenant: t}") "spec:\n  tier: application\n  priority: 1\n"
	                                          "  appliesTo: {workloads: {app: a}}\n  ingress:\n"
	                                          "    - {name: r, action: allow, services: [");
	for (int i = 0; i < 50; i++)
		n += (size_t)snprintf(
		    text + n, sizeof(text) - n, "%stcp/%d", i ? ", " : "", 1000 + 2 * i);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "], from: [{networks: [");
	for (int i = 0; i < 60; i++)
		n += (size_t)snprintf(
		    text + n, sizeof(text) - n, "%s198.51.100.%d", i ? ", " : "", 4 * i);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "]}");
	for (int i = 0; i < 30; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", {workloads: {app: x%d}}", i);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "]}\n");
	world_init(&w);
	add(&w, "long", text);
	add(&w, "inventory", inventory);
	compile(&w);
	assert_int_equal(policy_query_create(&q, w.model, w.table, &d), 0);
	assert_int_equal(policy_query_end(q, "t/w1", &dst, &d), 0);
	for (int i = 0; i < 256; i++) {
		char addr[32];

		snprintf(addr, sizeof(addr), "198.51.100.%d", i);
		assert_int_equal(policy_query_end(q, addr, &src, &d), 0);
		assert_int_equal(
		    policy_query_flow(q, &src, &dst, (struct policy_point){ 6, 1098 }, &a, &d), 0);
		assert_int_equal(
		    a.verdict, i % 4 == 0 && i < 240 ? PK_VERDICT_ALLOW : PK_VERDICT_DENY);
		policy_query_flow(q, &src, &dst, (struct policy_point){ 6, 1099 }, &a, &d);
		assert_int_equal(a.verdict, PK_VERDICT_DENY);
	}
	policy_query_destroy(q);
	world_fini(&w);
}

/* An audit policy changes no verdict and says what it would have changed. */
static void
test_audit_answer(void **state)
{
	struct policy_query *q;
	struct policy_answer a;
	struct policy_end src, dst;
	struct pk_diag d;
	struct world w;

	(void)state;
	world_init(&w);
	add(&w, "policies", policies);
	add(&w, "inventory", inventory);
	compile(&w);
	assert_int_equal(policy_query_create(&q, w.model, w.table, &d), 0);
	assert_int_equal(policy_query_end(q, "203.0.113.9", &src, &d), 0);
	assert_int_equal(policy_query_end(q, "t/w3", &dst, &d), 0);
	assert_int_equal(
	    policy_query_flow(q, &src, &dst, (struct policy_point){ 6, 22 }, &a, &d), 0);
	assert_int_equal(a.verdict, PK_VERDICT_ALLOW);
	assert_string_equal(a.rule->policy, "own-floor");
	assert_int_equal(a.audit_verdict, PK_VERDICT_DENY);
	assert_string_equal(a.side[PK_INGRESS].audit_rule->policy, "try");
	assert_false(a.side[PK_EGRESS].judged);
	policy_query_destroy(q);
	world_fini(&w);
}

static void
test_warnings(void **state)
{
	static const struct {
		const char *policy, *want;
	} cases[] = {
		{ "{name: r, action: allow, from: [{workloads: {app: aa}}]}",
		    "p:8:33: r: no workload matches t{app=aa}; did you mean app=a?" },
		{ "{name: r, action: allow, from: [{workloads: {zone: q}}]}",
		    "p:8:33: r: no workload matches t{zone=q}" },
		{ "{name: r, action: allow, services: [port/wbe]}",
		    "p:8:1: r: no workload has a port of name \"wbe\"" },
		{ "{name: r, action: deny}, {name: s, action: allow, services: [http]}",
		    "p:8:26: rule \"s\" never decides: rule \"r\" in line 8 matches all that it matches" },
		{ "{name: r, action: allow, services: [tcp/80-90]}, {name: s, action: deny, services: [http]}",
		    "p:8:50: rule \"s\" never decides: rule \"r\" in line 8 matches all that it matches" },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		char text[1024], got[PK_DIAG_MAX + 64];
		const struct policy_finding *f;
		struct world w;

		snprintf(text, sizeof(text),
		    HEAD(
		        "Policy", "{name: p, tenant: t}") "spec: {tier: application, priority: 1,\n"
		                                          "appliesTo: {workloads: {app: b}},\n"
		                                          "ingress: [\n%s]}\n",
		    cases[i].policy);
		world_init(&w);
		add(&w, "p", text);
		add(&w, "inventory", inventory);
		compile(&w);
		assert_int_equal(policy_findings_count(w.findings, POLICY_WARNING), 1);
		f = policy_findings_get(w.findings, 0);
		snprintf(got, sizeof(got), "%s:%u:%u: %s", f->file, f->line, f->column, f->text);
		assert_string_equal(got, cases[i].want);
		world_fini(&w);
	}
}

static int
is_attested(void *arg, const char *dpu)
{
	return strcmp(arg, dpu) == 0;
}

/* A workload behind a DPU is two identities when policy asks for the host's posture, and one when not. */
static void
test_attested(void **state)
{
	static const char text[] = HEAD("Workload",
	    "{name: a, tenant: t, labels: {app: a}}") "spec: {addresses: [192.0.2.1], dpu: dpu1}\n" HEAD("Workload",
	    "{name: b, tenant: t, labels: {app: b}}") "spec: {addresses: [192.0.2.2], dpu: dpu2}\n" HEAD("Workload",
	    "{name: c, tenant: t, labels: {app: c}}") "spec: {addresses: [192.0.2.3]}\n" HEAD("Policy",
	    "{name: p, tenant: t}") "spec:\n  tier: application\n  priority: 10\n"
	                            "  appliesTo: {workloads: {app: a}}\n  ingress:\n"
	                            "    - {name: good, action: allow, from: [{workloads: {app: b}, attested: true}]}\n"
	                            "    - {name: bad, action: reject, from: [{workloads: {app: b}, attested: false}]}\n"
	                            "tests:\n"
	                            "  - {from: {app: b}, to: {app: a}, service: tcp/80, expect: allow}\n" HEAD(
	                                "Policy",
	                                "{name: q, tenant: t}") "spec:\n  tier: application\n  priority: 20\n"
	                                                        "  appliesTo: {workloads: {app: b}}\n"
	                                                        "  egress: [{name: out, action: allow, to: any}]\n";
	const struct policy_endpoint *e[3];
	const struct policy_identity *good;
	unsigned int passed, failed;
	struct world w;

	(void)state;
	for (int with = 0; with < 2; with++) {
		world_init(&w);
		add(&w, "a.yaml", text);
		if (with)
			policy_model_set_attested(w.model, is_attested, (void *)(uintptr_t) "dpu2");
		compile(&w);
		/* Tests imagine workloads where all is well. */
		assert_int_equal(
		    policy_run_tests(w.model, w.table, w.findings, &passed, &failed), 0);
		assert_int_equal(passed, 1);
		for (uint32_t i = 0; i < 3; i++)
			e[i] = &w.table->endpoints[i];
		good = identity_of(w.table, "app=b,attested=true");
		assert_int_equal(e[1]->attested, good->id);
		assert_int_equal(e[1]->unattested, identity_of(w.table, "app=b")->id);
		assert_int_equal(e[1]->identity, e[1]->attested);
		/* To others a host is as the server has heard; offline, as it should be. */
		assert_int_equal(e[0]->identity, with ? e[0]->unattested : e[0]->attested);
		assert_int_not_equal(e[0]->attested, e[0]->unattested);
		/* Behind no DPU nobody is attested. */
		assert_int_equal(e[2]->attested, e[2]->unattested);
		world_fini(&w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attested),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_order_of_files),
		cmocka_unit_test(test_relabel_is_small),
		cmocka_unit_test(test_table_outlives_model),
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_long_lists),
		cmocka_unit_test(test_audit_answer),
		cmocka_unit_test(test_warnings),
	};

	return cmocka_run_group_tests_name("policy/compile", tests, NULL, NULL);
}
