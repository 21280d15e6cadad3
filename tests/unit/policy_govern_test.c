/* Rollouts: which DPUs a canary selects.  Roles: who may write what. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/govern.h"
#include "tests/unit/test.h"

static struct policy_model *
model(const char *text)
{
	struct policy_model *m;
	struct policy_findings *f;

	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_add_text(m, "test.yaml", text, strlen(text), f), 0);
	policy_findings_destroy(f);
	return m;
}

/* ---- canaries ---- */

#define WORKLOAD(name, labels, dpu)                       \
	"---\napiVersion: picket.io/v1\nkind: Workload\n" \
	"metadata: {name: " name ", tenant: shop, labels: {" labels "}}\nspec: {dpu: " dpu "}\n"

static const char workloads[] = WORKLOAD("a", "app: web, env: prod", "dpu1")
    WORKLOAD("b", "app: web, env: stage", "dpu2") WORKLOAD("c", "app: db, env: prod", "dpu3")
        WORKLOAD("d", "app: db, legacy: yes", "dpu3") WORKLOAD("e", "app: log", "rack7-1");

static void
append(void *arg, const char *dpu)
{
	char *text = arg;

	assert_true(strlen(text) + strlen(dpu) + 2 < 256);
	strcat(strcat(text, text[0] != '\0' ? " " : ""), dpu);
}

static void
test_select(void **state)
{
	static const char *const one[] = { "dpu1" }, *const pattern[] = { "rack?-*", "dpu9" },
	                         *const seen[] = { "dpu9", "rack7-2", "dpu1" };
	static const struct {
		const char *workloads;
		const char *const *dpus;
		size_t nb;
		const char *want; /* NULL: refused */
	} cases[] = {
		{ NULL, one, 1, "dpu1" },
		{ NULL, pattern, 2, "dpu9 rack7-1 rack7-2" },
		{ "app=web", NULL, 0, "dpu1 dpu2" },
		{ "app=web,env=prod", NULL, 0, "dpu1" },
		{ "env in (prod,stage)", NULL, 0, "dpu1 dpu2 dpu3" },
		{ "env in (prod,stage),app=db", NULL, 0, "dpu3" },
		{ "app not in (web,db)", NULL, 0, "rack7-1" },
		{ "env,!legacy", NULL, 0, "dpu1 dpu2 dpu3" },
		{ "!env,!legacy", NULL, 0, "rack7-1" },
		{ "app=log", one, 1, "dpu1 rack7-1" },
		{ "app=mail", NULL, 0, "" },
		{ "=web", NULL, 0, NULL },
		{ "app=web,", NULL, 0, "dpu1 dpu2" },
		{ "app of (web)", NULL, 0, NULL },
		{ "app in (web", NULL, 0, NULL },
		{ "app in (web) x", NULL, 0, NULL },
		{ "!app=web", NULL, 0, NULL },
	};
	struct policy_model *m = model(workloads);

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		const struct policy_canary c = { .workloads = cases[i].workloads,
			.dpus = cases[i].dpus,
			.nb_dpus = cases[i].nb };
		char got[256] = "";
		struct pk_diag diag = { "" };
		int err = policy_canary_select(m, &c, seen, PK_COUNT(seen), append, got, &diag);

		if (cases[i].want == NULL) {
			assert_int_equal(err, -EINVAL);
			assert_non_null(strstr(diag.text, "want labels such as"));
			continue;
		}
		assert_int_equal(err, 0);
		assert_string_equal(got, cases[i].want);
	}
	policy_model_destroy(m);
}

/* What the kind says arrives as what the command line would have said. */
static void
test_rollout(void **state)
{
	struct policy_model *m = model(
	    "apiVersion: picket.io/v1\nkind: Rollout\nmetadata: {name: careful}\n"
	    "spec: {canary: {workloads: {app: [web, db], \"!legacy\": , env: }}, bake: 10m, abortDenied: 7}\n");
	struct policy_model *none = model(workloads);
	struct policy_canary c;
	char got[256] = "";

	(void)state;
	assert_int_equal(policy_rollout(none, &c), 0);
	assert_int_equal(policy_rollout(m, &c), 1);
	assert_int_equal(c.bake_s, 600);
	assert_true(c.abort);
	assert_int_equal(c.abort_denied, 7);
	assert_int_equal(policy_canary_select(none, &c, NULL, 0, append, got, NULL), 0);
	assert_string_equal(got, "dpu1 dpu2 dpu3");
	policy_model_destroy(m);
	policy_model_destroy(none);
}

/* ---- roles ---- */

#define DOC(kind, meta, spec) \
	"---\napiVersion: picket.io/v1\nkind: " kind "\nmetadata: {" meta "}\nspec: {" spec "}\n"
#define POLICY(name, tenant, tier)                       \
	DOC("Policy", "name: " name ", tenant: " tenant, \
	    "tier: " tier ", priority: 1, ingress: [{name: in, action: deny}]")

static const char roles[] = DOC("Role", "name: pay",
    "subjects: [alice, \"pay-*\"], may: [apply, read], tenants: [acme], tiers: [application, baseline]")
    DOC("Role", "name: fire", "subjects: [oncall], may: [apply], tiers: [emergency]")
        DOC("Role", "name: stock", "subjects: [clerk], may: [workloads], tenants: [\"ac*\"]")
            DOC("Role", "name: chief",
                "subjects: [chief], may: [govern, rollout, apply], tenants: [\"*\"]");

static void
test_roles(void **state)
{
	static const struct {
		const char *who;
		unsigned int may;
		const char *old, *now;
		const char *want; /* in the refusal; NULL: permitted */
	} cases[] = {
		{ "alice", POLICY_MAY_APPLY, NULL, POLICY("p", "acme", "application"), NULL },
		{ "pay-7", POLICY_MAY_APPLY, NULL, POLICY("p", "acme", "baseline"), NULL },
		{ "alice", POLICY_MAY_APPLY, NULL, POLICY("p", "acme", "emergency"),
		    "no role of operator \"alice\" has apply for tier emergency of tenant \"acme\" (Policy \"p\")" },
		{ "alice", POLICY_MAY_APPLY, NULL, POLICY("p", "bank", "application"),
		    "tenant \"bank\"" },
		{ "alice", POLICY_MAY_APPLY, NULL, POLICY("p", "\"*\"", "application"),
		    "tenant \"*\"" },
		/* What was there before counts as well: in place of it, and taken out. */
		{ "alice", POLICY_MAY_APPLY, POLICY("p", "acme", "emergency"),
		    POLICY("p", "acme", "application"), "tier emergency" },
		{ "alice", POLICY_MAY_APPLY, POLICY("p", "acme", "emergency"), NULL,
		    "tier emergency" },
		{ "alice", POLICY_MAY_APPLY, POLICY("p", "acme", "application"), NULL, NULL },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    POLICY("p", "acme", "application") POLICY("q", "bank", "baseline"),
		    "Policy \"q\"" },
		{ "alice", POLICY_MAY_ROLLBACK, NULL, POLICY("p", "acme", "application"),
		    "has rollback" },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    DOC("Group", "name: g, tenant: acme", "networks: [192.0.2.0/24]"), NULL },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    DOC("Group", "name: g, tenant: bank", "networks: [192.0.2.0/24]"),
		    "Group \"g\"" },
		{ "oncall", POLICY_MAY_APPLY, NULL, POLICY("p", "\"*\"", "emergency"), NULL },
		{ "oncall", POLICY_MAY_APPLY, NULL, POLICY("p", "acme", "application"),
		    "tier application" },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    DOC("Role", "name: r", "subjects: [alice], may: [govern]"),
		    "has govern (Role \"r\")" },
		{ "alice", POLICY_MAY_APPLY, DOC("Role", "name: r", "subjects: [b], may: [read]"),
		    NULL, "has govern" },
		{ "alice", POLICY_MAY_APPLY, NULL, DOC("Tier", "name: t", "order: 7"),
		    "has govern" },
		{ "alice", POLICY_MAY_APPLY, NULL, DOC("Tenant", "name: acme", "default: allow"),
		    "has govern" },
		{ "chief", POLICY_MAY_APPLY, NULL, DOC("Tenant", "name: acme", "default: allow"),
		    NULL },
		{ "chief", POLICY_MAY_APPLY, NULL,
		    DOC("Rollout", "name: r", "canary: {dpus: [a]}, bake: 5s"), NULL },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    DOC("Rollout", "name: r", "canary: {dpus: [a]}, bake: 5s"), "has rollout" },
		{ "alice", POLICY_MAY_APPLY, NULL,
		    DOC("Workload", "name: w, tenant: acme", "dpu: d"), "has workloads" },
		{ "clerk", POLICY_MAY_WORKLOADS, NULL,
		    DOC("Workload", "name: w, tenant: acme", "dpu: d"), NULL },
		{ "clerk", POLICY_MAY_WORKLOADS, NULL,
		    DOC("Workload", "name: w, tenant: bank", "dpu: d"), "tenant \"bank\"" },
		{ "nobody", POLICY_MAY_APPLY, NULL, POLICY("p", "acme", "application"),
		    "has apply" },
		{ POLICY_ADMIN, POLICY_MAY_APPLY, NULL,
		    DOC("Role", "name: r", "subjects: [b], may: [read]"), NULL },
		{ "nobody", POLICY_MAY_APPLY, NULL, "kind: [",
		    NULL }, /* the compiler says what is wrong */
	};
	struct policy_model *m = model(roles);
	struct policy_roles *r;

	(void)state;
	assert_int_equal(policy_roles_create(&r, m), 0);
	policy_model_destroy(m);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		const char *old = cases[i].old, *now = cases[i].now;
		struct pk_diag diag = { "" };
		int err = policy_roles_change(r, cases[i].who, cases[i].may, old,
		    old != NULL ? strlen(old) : 0, now, now != NULL ? strlen(now) : 0, &diag);

		if ((cases[i].want == NULL) != (err == 0) ||
		    (cases[i].want != NULL && strstr(diag.text, cases[i].want) == NULL))
			fail_msg("case %zu: %d \"%s\"", i, err, diag.text);
	}
	assert_true(policy_roles_may(r, "alice", POLICY_MAY_READ));
	assert_false(policy_roles_may(r, "alice", POLICY_MAY_AUDIT));
	assert_false(policy_roles_may(r, "nobody", POLICY_MAY_READ));
	assert_true(policy_roles_may(r, POLICY_ADMIN, POLICY_MAY_GOVERN));
	/* Without any role everybody may everything. */
	assert_true(policy_roles_may(NULL, "nobody", POLICY_MAY_GOVERN));
	policy_roles_destroy(r);
	/* Roles that are not known are nobody's. */
	assert_int_equal(policy_roles_create(&r, NULL), 0);
	assert_false(policy_roles_may(r, "alice", POLICY_MAY_READ));
	assert_true(policy_roles_may(r, POLICY_ADMIN, POLICY_MAY_APPLY));
	policy_roles_destroy(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_rollout),
		cmocka_unit_test(test_roles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
