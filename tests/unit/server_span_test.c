#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/model.h"
#include "policy/server/span.h"
#include "tests/unit/test.h"

/* Three DPUs: web talks to db, and batch to nobody. */
static const char policy[] =
    "apiVersion: picket.io/v1\nkind: Tenant\nmetadata: {name: shop}\nspec: {default: deny}\n---\n"
    "apiVersion: picket.io/v1\nkind: Workload\n"
    "metadata: {name: web, tenant: shop, labels: {app: web}}\n"
    "spec: {addresses: [192.0.2.10], dpu: dpu1}\n---\n"
    "apiVersion: picket.io/v1\nkind: Workload\n"
    "metadata: {name: db, tenant: shop, labels: {app: db}}\n"
    "spec: {addresses: [192.0.2.20, \"2001:db8::20\"], dpu: dpu2}\n---\n"
    "apiVersion: picket.io/v1\nkind: Workload\n"
    "metadata: {name: batch, tenant: shop, labels: {app: batch}}\n"
    "spec: {addresses: [192.0.2.30], dpu: dpu3}\n---\n"
    "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: db, tenant: shop}\n"
    "spec:\n  tier: application\n  priority: 10\n  appliesTo: {workloads: {app: db}}\n"
    "  ingress:\n    - {name: web, action: allow, from: [{workloads: {app: web}}], "
    "services: [tcp/5432]}\n";

static struct server_catalogue *
catalogue_of(const char *text, struct policy_ids *ids, const struct server_catalogue *before)
{
	struct server_catalogue *c = NULL;
	struct policy_findings *f;
	struct policy_model *m;
	struct policy_table *t = NULL;
	struct pk_diag diag = { "" };

	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	if (policy_model_add_text(m, "test.yaml", text, strlen(text), f) != 0 ||
	    policy_compile(m, ids, &t, f) != 0) {
		policy_findings_first(f, &diag);
		fail_msg("%s", diag.text);
	}
	if (server_catalogue_create(&c, m, t, before, &diag) != 0)
		fail_msg("%s", diag.text);
	policy_findings_destroy(f);
	return c;
}

static unsigned int
count(const struct policy_state *s, unsigned int type)
{
	const struct policy_resource *r;
	unsigned int n = 0;
	size_t at = 0;

	while ((r = policy_state_next(s, &at)) != NULL)
		n += r->type == type;
	return n;
}

static void
test_span(void **state)
{
	static const struct {
		const char *dpu;
		unsigned int local, endpoints, identities;
	} cases[] = {
		{ "dpu1", 1, 1, 1 }, /* web itself: its own policy names nobody */
		{ "dpu2", 1, 3, 2 }, /* db's two addresses, and web, which its rule names */
		{ "dpu3", 1, 1, 1 },
		{ "dpu4", 0, 0, 0 }, /* nobody lives there */
		{ "", 0, 0, 0 },
	};
	struct policy_ids *ids;
	struct server_catalogue *c;

	(void)state;
	assert_int_equal(policy_ids_create(&ids), 0);
	c = catalogue_of(policy, ids, NULL);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct policy_state *span;
		uint32_t local;

		assert_int_equal(server_catalogue_span(c, cases[i].dpu, &span, &local), 0);
		assert_int_equal(local, cases[i].local);
		assert_int_equal(count(span, POLICY_RESOURCE_ENDPOINT), cases[i].endpoints);
		assert_int_equal(count(span, POLICY_RESOURCE_IDENTITY), cases[i].identities);
		policy_state_destroy(span);
	}
	server_catalogue_put(c);
	policy_ids_destroy(ids);
}

/* A change concerns the DPUs that need it; to the others the same resources are handed again. */
static void
test_change(void **state)
{
	static const char *const dpus[] = { "dpu1", "dpu2", "dpu3" };
	static const bool concerned[] = { false, true, false };
	struct policy_state *before[3], *after[3];
	struct server_catalogue *c, *d;
	struct policy_ids *ids;
	char changed[sizeof(policy)];

	(void)state;
	memcpy(changed, policy, sizeof(policy));
	memcpy(strstr(changed, "5432"), "5433", 4);
	assert_int_equal(policy_ids_create(&ids), 0);
	c = catalogue_of(policy, ids, NULL);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(server_catalogue_span(c, dpus[i], &before[i], NULL), 0);
	d = catalogue_of(changed, ids, c);
	server_catalogue_put(c);
	for (size_t i = 0; i < 3; i++) {
		const struct policy_resource *r;
		size_t at = 0;

		assert_int_equal(server_catalogue_span(d, dpus[i], &after[i], NULL), 0);
		assert_int_equal(
		    policy_state_hash(before[i]) != policy_state_hash(after[i]), concerned[i]);
		while (!concerned[i] && (r = policy_state_next(after[i], &at)) != NULL)
			assert_ptr_equal(r, policy_state_like(before[i], r));
		policy_state_destroy(before[i]);
		policy_state_destroy(after[i]);
	}
	server_catalogue_put(d);
	policy_ids_destroy(ids);
}

/* An identity that is only a peer comes without its programs, which would name what is not sent. */
static void
test_peer_has_no_programs(void **state)
{
	struct policy_state *web, *db;
	const struct policy_resource *r;
	struct server_catalogue *c;
	struct policy_ids *ids;
	size_t at = 0;
	unsigned int differ = 0;

	(void)state;
	assert_int_equal(policy_ids_create(&ids), 0);
	c = catalogue_of(policy, ids, NULL);
	assert_int_equal(server_catalogue_span(c, "dpu1", &web, NULL), 0);
	assert_int_equal(server_catalogue_span(c, "dpu2", &db, NULL), 0);
	while ((r = policy_state_next(db, &at)) != NULL) {
		const struct policy_resource *there = policy_state_like(web, r);

		if (r->type == POLICY_RESOURCE_IDENTITY && there != NULL) {
			assert_true(r->len < there->len);
			differ++;
		}
	}
	assert_int_equal(differ, 1);
	policy_state_destroy(web);
	policy_state_destroy(db);
	server_catalogue_put(c);
	policy_ids_destroy(ids);
}

/* A DPU holds both identities of its own workloads, with their programs; others' only as they stand. */
static void
test_attested(void **state)
{
	static const char more[] =
	    "\n---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: alone, tenant: shop}\n"
	    "spec:\n  tier: application\n  priority: 30\n"
	    "  appliesTo: {workloads: {app: web}, attested: false}\n"
	    "  egress:\n    - {name: none, action: deny, to: any}\n";
	char text[8192];
	struct policy_ids *ids;
	struct server_catalogue *c;
	struct policy_state *span;
	const struct policy_table *t;
	unsigned int subjects = 0;

	(void)state;
	snprintf(text, sizeof(text), "%s%s", policy, more);
	assert_int_equal(policy_ids_create(&ids), 0);
	c = catalogue_of(text, ids, NULL);
	t = server_catalogue_table(c);
	for (uint32_t i = 0; i < t->nb_identities; i++)
		if (strstr(t->identities[i].labels, "app=web") != NULL)
			subjects++;
	assert_int_equal(subjects, 2);
	assert_int_equal(server_catalogue_span(c, "dpu1", &span, NULL), 0);
	assert_int_equal(count(span, POLICY_RESOURCE_IDENTITY), 2);
	assert_int_equal(count(span, POLICY_RESOURCE_ENDPOINT), 1);
	policy_state_destroy(span);
	server_catalogue_put(c);
	policy_ids_destroy(ids);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attested),
		cmocka_unit_test(test_span),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_peer_has_no_programs),
	};

	return cmocka_run_group_tests_name("server/span", tests, NULL, NULL);
}
