#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/server/span.h"
#include "tests/unit/policy_world.h"
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

/* A server without its streams. */
struct server {
	struct policy_ids *ids;
	struct policy_compiler *pc;
	struct policy_touched touched;
	struct server_shadow *shadow;
	struct server_spans *spans;
	unsigned int nb_changed; /* resources in spans, by the last change */
	const char *only;        /* the DPU they were for; "several" */
};

static void
server_init(struct server *s)
{
	memset(s, 0, sizeof(*s));
	assert_int_equal(policy_ids_create(&s->ids), 0);
	assert_int_equal(policy_compiler_create(&s->pc, s->ids), 0);
	s->shadow = server_shadow_create();
	s->spans = server_spans_create();
	assert_non_null(s->shadow);
	assert_non_null(s->spans);
}

static void
server_fini(struct server *s)
{
	server_spans_destroy(s->spans);
	server_shadow_destroy(s->shadow);
	policy_compiler_destroy(s->pc);
	policy_ids_destroy(s->ids);
	policy_touched_fini(&s->touched);
}

static void
on_changed(
    void *arg, struct server_span *span, struct policy_resource *old, struct policy_resource *now)
{
	struct server *s = arg;

	assert_true(old != NULL || now != NULL);
	assert_ptr_equal(policy_state_like(span->state, old != NULL ? old : now), old);
	s->only = s->nb_changed++ == 0 || s->only == span->name ? span->name : "several";
}

static void
follow(struct server *s)
{
	struct server_change c = { 0 };

	assert_int_equal(
	    server_shadow_follow(s->shadow, policy_compiler_table(s->pc), &s->touched, &c), 0);
	policy_touched_clear(&s->touched);
	s->nb_changed = 0;
	s->only = "";
	assert_int_equal(server_spans_apply(s->spans, &c, on_changed, s), 0);
}

static void
change(struct server *s, const char *name, const char *text)
{
	struct policy_change ch = { name, text, text != NULL ? strlen(text) : 0 };
	struct policy_findings *f;
	struct pk_diag diag = { "" };

	assert_int_equal(policy_findings_create(&f), 0);
	if (policy_compiler_change(s->pc, &ch, 1, &s->touched, f) != 0) {
		policy_findings_first(f, &diag);
		fail_msg("%s", diag.text);
	}
	policy_findings_destroy(f);
	policy_compiler_keep(s->pc);
	follow(s);
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
	struct server s;

	(void)state;
	server_init(&s);
	change(&s, "test.yaml", policy);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		const struct server_span *span = server_spans_get(s.spans, cases[i].dpu);

		assert_int_equal(span->nb_workloads, cases[i].local);
		assert_int_equal(count(span->state, POLICY_RESOURCE_ENDPOINT), cases[i].endpoints);
		assert_int_equal(count(span->state, POLICY_RESOURCE_IDENTITY), cases[i].identities);
	}
	assert_int_equal(server_spans_nb_workloads(s.spans), 3);
	server_fini(&s);
}

/* A change concerns the DPUs that need it, and the others not at all. */
static void
test_change(void **state)
{
	char changed[sizeof(policy)];
	struct server s;

	(void)state;
	server_init(&s);
	change(&s, "test.yaml", policy);
	memcpy(changed, policy, sizeof(policy));
	memcpy(strstr(changed, "5432"), "5433", 4);
	change(&s, "test.yaml", changed);
	assert_string_equal(s.only, "dpu2");
	/* A program is named by its content: one comes, one goes, and db is judged by the new one. */
	assert_int_equal(s.nb_changed, 3);
	change(&s, "test.yaml", changed);
	assert_int_equal(s.nb_changed, 0);
	server_fini(&s);
}

/* An identity that is only a peer comes without its programs, which would name what is not sent. */
static void
test_peer_has_no_programs(void **state)
{
	const struct policy_state *web, *db;
	const struct policy_resource *r;
	unsigned int differ = 0;
	struct server s;
	size_t at = 0;

	(void)state;
	server_init(&s);
	change(&s, "test.yaml", policy);
	web = server_spans_get(s.spans, "dpu1")->state;
	db = server_spans_get(s.spans, "dpu2")->state;
	while ((r = policy_state_next(db, &at)) != NULL) {
		const struct policy_resource *there = policy_state_like(web, r);

		if (r->type == POLICY_RESOURCE_IDENTITY && there != NULL) {
			assert_true(r->len < there->len);
			differ++;
		}
	}
	assert_int_equal(differ, 1);
	server_fini(&s);
}

/* ---- against the definition, spelt out ---- */

static void
put(struct policy_state *s, struct policy_resource *r)
{
	assert_non_null(r);
	assert_int_equal(policy_state_put(s, r), 0);
	policy_resource_put(r);
}

static void
take_identity(const struct policy_table *t, uint32_t id, struct policy_state *s)
{
	put(s, policy_resource_of_identity(policy_table_identity(t, id), 0));
	for (uint32_t e = 0; e < t->nb_endpoints; e++)
		if (t->endpoints[e].identity == id)
			put(s, policy_resource_of_endpoint(&t->endpoints[e]));
}

static void
take_program(const struct policy_table *t, uint64_t id, struct policy_state *s)
{
	const struct policy_program *p = policy_table_program(t, id);

	put(s, policy_resource_of_program(p));
	for (uint32_t r = 0; r < p->nb_rules; r++) {
		for (uint32_t k = 0; k < p->rules[r].nb_peers; k++) {
			const struct policy_set *set = policy_table_set(t, p->rules[r].peers[k]);

			put(s, policy_resource_of_set(set));
			if (set->kind == PK_SET_IDENTITY)
				for (uint32_t m = 0; m < set->nb_members; m++)
					take_identity(t, set->identities[m], s);
		}
	}
}

static struct policy_state *
reference(const struct policy_table *t, const char *dpu)
{
	struct policy_state *s = policy_state_create();

	for (uint32_t e = 0; e < t->nb_endpoints; e++) {
		const uint32_t own[] = { t->endpoints[e].attested, t->endpoints[e].unattested };

		for (size_t k = 0; strcmp(t->endpoints[e].dpu, dpu) == 0 && k < PK_COUNT(own);
		     k++) {
			const struct policy_identity *id = policy_table_identity(t, own[k]);

			put(s, policy_resource_of_endpoint(&t->endpoints[e]));
			for (int d = 0; d < PK_DIRECTION_COUNT; d++)
				take_program(t, id->program[d], s);
		}
	}
	/* Last, because being a peer as well must not take a subject's programs away. */
	for (uint32_t e = 0; e < t->nb_endpoints; e++) {
		const uint32_t own[] = { t->endpoints[e].attested, t->endpoints[e].unattested };

		for (size_t k = 0; strcmp(t->endpoints[e].dpu, dpu) == 0 && k < PK_COUNT(own); k++)
			put(s, policy_resource_of_identity(policy_table_identity(t, own[k]), 1));
	}
	return s;
}

static void
expect_spans(struct server *s)
{
	for (int d = 0; d < 3; d++) {
		struct policy_state *want;
		const struct policy_state *have;
		const struct policy_resource *r;
		char dpu[16];
		size_t at = 0;

		snprintf(dpu, sizeof(dpu), "dpu%d", d);
		want = reference(policy_compiler_table(s->pc), dpu);
		have = server_spans_get(s->spans, dpu)->state;
		while ((r = policy_state_next(want, &at)) != NULL) {
			const struct policy_resource *own = policy_state_like(have, r);

			assert_non_null(own);
			assert_true(own->version == r->version);
		}
		assert_int_equal(policy_state_count(have), policy_state_count(want));
		assert_true(policy_state_hash(have) == policy_state_hash(want));
		policy_state_destroy(want);
	}
}

static void
test_random_changes(void **state)
{
	struct policy_change groups[NB_OTHERS];
	char names[NB_OTHERS][32];
	struct server s;

	(void)state;
	server_init(&s);
	policy_compiler_set_attested(s.pc, world_attested, NULL);
	for (int i = 0; i < NB_OTHERS; i++) {
		char *text = world_text(NB_WORKLOADS + NB_POLICIES + i);

		world_name(NB_WORKLOADS + NB_POLICIES + i, names[i]);
		groups[i] = (struct policy_change){ names[i], text, strlen(text) };
	}
	assert_int_equal(policy_compiler_change(s.pc, groups, NB_OTHERS, &s.touched, NULL), 0);
	policy_compiler_keep(s.pc);
	follow(&s);
	for (int i = 0; i < NB_OTHERS; i++)
		free((char *)(uintptr_t)groups[i].text);
	for (int round = 0; round < 1000; round++) {
		int i = world_choose();
		char name[32], *text = world_pick(6) == 0 ? NULL : world_text(i);
		struct policy_change ch = { name, text, text != NULL ? strlen(text) : 0 };

		world_name(i, name);
		if (policy_compiler_change(s.pc, &ch, 1, &s.touched, NULL) != 0) {
			policy_touched_clear(&s.touched);
		} else if (world_pick(6) == 0) {
			assert_int_equal(policy_compiler_undo(s.pc), 0);
			policy_touched_clear(&s.touched);
		} else {
			policy_compiler_keep(s.pc);
			follow(&s);
		}
		free(text);
		if (round % 3 == 0) {
			const char *dpu = world_flip();

			assert_int_equal(policy_compiler_posture(s.pc, &dpu, 1, &s.touched), 0);
			follow(&s);
		}
		expect_spans(&s);
	}
	server_fini(&s);
}

/* A DPU holds both identities of its own workloads, with their programs; others' only as they stand. */
static int
is_attested(void *arg, const char *dpu)
{
	(void)dpu;
	return *(const int *)arg;
}

static void
test_attested(void **state)
{
	static const char more[] =
	    "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: alone, tenant: shop}\n"
	    "spec:\n  tier: application\n  priority: 30\n"
	    "  appliesTo: {workloads: {app: web}, attested: false}\n"
	    "  egress:\n    - {name: none, action: deny, to: any}\n";
	const char *dpus[] = { "dpu1" };
	const struct server_span *span;
	int attested = 1;
	struct server s;

	(void)state;
	server_init(&s);
	policy_compiler_set_attested(s.pc, is_attested, &attested);
	change(&s, "test.yaml", policy);
	change(&s, "more.yaml", more);
	span = server_spans_get(s.spans, "dpu1");
	assert_int_equal(count(span->state, POLICY_RESOURCE_IDENTITY), 2);
	assert_int_equal(count(span->state, POLICY_RESOURCE_ENDPOINT), 1);
	/* The database's DPU hears that web is somebody else now, and so does web's own. */
	attested = 0;
	assert_int_equal(policy_compiler_posture(s.pc, dpus, 1, &s.touched), 0);
	follow(&s);
	assert_string_equal(s.only, "several");
	assert_int_equal(s.nb_changed, 2);
	assert_int_equal(count(span->state, POLICY_RESOURCE_IDENTITY), 2);
	server_fini(&s);
}

struct departures {
	unsigned int nb;
	char last[64];
	const struct server_spans *spans;
};

static void
on_left(void *arg, const char *dpu, const char *workload)
{
	struct departures *d = arg;

	assert_false(server_spans_lives(d->spans, dpu, workload));
	d->nb++;
	snprintf(d->last, sizeof(d->last), "%s %s", dpu, workload);
}

static char *
altered(const char *old, const char *now)
{
	const char *at = strstr(policy, old);
	char *text;

	assert_non_null(at);
	assert_true(
	    asprintf(&text, "%.*s%s%s", (int)(at - policy), policy, now, at + strlen(old)) > 0);
	return text;
}

/* Who moves or goes is told of, once; who only changes is not. */
static void
test_left(void **state)
{
	static const struct {
		const char *what, *old, *now, *left;
	} cases[] = {
		{ "another label", "{app: web}}\nspec", "{app: web, env: x}}\nspec", "" },
		{ "one address fewer", "192.0.2.20, ", "", "" },
		{ "other addresses", "192.0.2.20, \"2001:db8::20\"", "192.0.2.21", "" },
		{ "behind another DPU", "dpu: dpu1", "dpu: dpu3", "dpu1 shop/web" },
		{ "with two addresses", "dpu: dpu2", "dpu: dpu1", "dpu2 shop/db" },
		{ "behind none", ", dpu: dpu3", "", "dpu3 shop/batch" },
		{ "under another name", "name: batch, ten", "name: bulk, ten", "dpu3 shop/batch" },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		char *text = altered(cases[i].old, cases[i].now);
		struct departures d = { 0 };
		struct server s;

		server_init(&s);
		d.spans = s.spans;
		server_spans_on_left(s.spans, on_left, &d);
		change(&s, "test.yaml", policy);
		assert_int_equal(d.nb, 0);
		change(&s, "test.yaml", text);
		if (d.nb != (cases[i].left[0] != '\0') || strcmp(d.last, cases[i].left) != 0)
			fail_msg("%s: %u left, \"%s\"", cases[i].what, d.nb, d.last);
		server_fini(&s);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attested),
		cmocka_unit_test(test_span),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_peer_has_no_programs),
		cmocka_unit_test(test_random_changes),
	};

	return cmocka_run_group_tests_name("server/span", tests, NULL, NULL);
}
