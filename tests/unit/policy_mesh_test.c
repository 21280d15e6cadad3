/* Who has to be able to send to whom encrypted: workloads a to d, each behind a DPU of its name, and rules between a and b. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/mesh.h"
#include "policy/model.h"
#include "tests/unit/test.h"

#define WORKLOAD(name, last, dpu)                                          \
	"apiVersion: picket.io/v1\nkind: Workload\n"                       \
	"metadata: {name: " name ", tenant: t, labels: {app: " name "}}\n" \
	"spec: {addresses: [192.0.2." last "]" dpu "}\n---\n"

static const char world[] = "apiVersion: picket.io/v1\nkind: Tenant\nmetadata: {name: t}\n"
                            "spec: {default: deny}\n---\n" WORKLOAD("a", "1", ", dpu: a")
                                WORKLOAD("b", "2", ", dpu: b") WORKLOAD("c", "3", ", dpu: c")
                                    WORKLOAD("d", "4", "") WORKLOAD("e", "5", ", dpu: a");

static const struct {
	const char *what;
	const char *egress[3], *ingress[3]; /* rules of a, and of b, in order */
	const char *pairs;
} cases[] = {
	{ "nobody asks", { "action: allow, to: [{workloads: {app: b}}]" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "" },
	{ "the sender asks", { "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "a-b " },
	{ "the receiver asks", { "action: allow, to: [{workloads: {app: b}}]" },
	    { "action: allow, from: [{workloads: {app: a}}], encryption: required" }, "a-b " },
	{ "mtls is not ESP", { "action: allow, to: [{workloads: {app: b}}], encryption: mtls" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "" },
	{ "the other side does not allow",
	    { "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: c}}]" }, "" },
	{ "anybody, but b alone takes it", { "action: allow, to: any, encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "a-b " },
	{ "denied before",
	    { "action: deny, to: [{workloads: {app: b}}]",
	        "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "" },
	{ "one service denied before",
	    { "action: deny, to: [{workloads: {app: b}}], services: [tcp/22]",
	        "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "a-b " },
	{ "allowed before without it",
	    { "action: allow, to: [{workloads: {app: b}}]",
	        "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: allow, from: [{workloads: {app: a}}]" }, "" },
	{ "behind the same DPU, or none",
	    { "action: allow, to: [{workloads: {app: e}}, {workloads: {app: d}}], encryption: ipsec" },
	    { "action: allow, from: any" }, "" },
	{ "the receiver refuses before",
	    { "action: allow, to: [{workloads: {app: b}}], encryption: ipsec" },
	    { "action: reject, from: any", "action: allow, from: [{workloads: {app: a}}]" }, "" },
};

static size_t
put_policy(char *to, size_t room, const char *subject, int priority, const char *direction,
    const char *const rules[3])
{
	size_t used = (size_t)snprintf(to, room,
	    "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: %s, tenant: t}\n"
	    "spec:\n  tier: application\n  priority: %d\n"
	    "  appliesTo: {workloads: {app: %s}}\n  %s:\n",
	    subject, priority, subject, direction);

	for (unsigned int i = 0; i < 3 && rules[i] != NULL; i++)
		used += (size_t)snprintf(
		    to + used, room - used, "    - {name: r%u, %s}\n", i, rules[i]);
	return used + (size_t)snprintf(to + used, room - used, "---\n");
}

static void
test_pairs(void **state)
{
	(void)state;
	for (size_t k = 0; k < PK_COUNT(cases); k++) {
		char text[8192], got[64] = "";
		struct pk_diag first = { .text = "" };
		struct policy_table *t = NULL;
		struct policy_findings *f;
		struct policy_model *m;
		struct policy_mesh *mesh;
		struct policy_ids *ids;
		size_t used = (size_t)snprintf(text, sizeof(text), "%s", world);

		used += put_policy(
		    text + used, sizeof(text) - used, "a", 100, "egress", cases[k].egress);
		used += put_policy(
		    text + used, sizeof(text) - used, "b", 110, "ingress", cases[k].ingress);
		assert_int_equal(policy_findings_create(&f), 0);
		assert_int_equal(policy_model_create(&m), 0);
		assert_int_equal(policy_ids_create(&ids), 0);
		if (policy_model_add_text(m, "p.yaml", text, used, f) < 0 ||
		    policy_compile(m, ids, &t, f) < 0)
			policy_findings_first(f, &first);
		assert_string_equal(first.text, "");
		assert_int_equal(policy_mesh_create(&mesh, t), 0);
		for (size_t i = 0; i < policy_mesh_count(mesh); i++) {
			struct policy_mesh_pair p = policy_mesh_get(mesh, i);

			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s-%s ", p.a, p.b);
		}
		if (strcmp(got, cases[k].pairs) != 0)
			fail_msg("%s: \"%s\", want \"%s\"", cases[k].what, got, cases[k].pairs);
		policy_mesh_destroy(mesh);
		policy_table_destroy(t);
		policy_findings_destroy(f);
		policy_model_destroy(m);
		policy_ids_destroy(ids);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pairs) };

	return cmocka_run_group_tests_name("policy/mesh", tests, NULL, NULL);
}
