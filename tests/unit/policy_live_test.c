#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler.h"
#include "tests/unit/policy_world.h"
#include "tests/unit/test.h"

/*
 * A compiler that lives against one that does not: after each of thousands of random changes, some of
 * them wrong and some taken back, the table is what policy_compile() makes of the same sources.
 */
#define ROUNDS 1500

struct world {
	char *text[NB_NAMES]; /* NULL: not there */
	struct policy_ids *ids;
	struct policy_compiler *pc;
	unsigned int refused, whole, undone, flipped;
};

struct said {
	char *bytes;
	size_t len, room;
};

static int
collect(void *arg, const struct pk_msg *m)
{
	struct said *s = arg;

	if (s->len + sizeof(*m) > s->room) {
		s->room = 2 * s->room + 64 * sizeof(*m);
		s->bytes = realloc(s->bytes, s->room);
		assert_non_null(s->bytes);
	}
	memcpy(s->bytes + s->len, m, sizeof(*m));
	s->len += sizeof(*m);
	return 0;
}

static void
expect_equal(const struct policy_table *a, const struct policy_table *b)
{
	struct said x = { 0 }, y = { 0 };

	assert_int_equal(a->nb_identities, b->nb_identities);
	assert_int_equal(a->nb_endpoints, b->nb_endpoints);
	assert_int_equal(a->nb_sets, b->nb_sets);
	assert_int_equal(a->nb_programs, b->nb_programs);
	assert_int_equal(a->nb_unplaced, b->nb_unplaced);
	assert_int_equal(policy_table_emit(a, 1, "dpu1", collect, &x), 0);
	assert_int_equal(policy_table_emit(b, 1, "dpu1", collect, &y), 0);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.bytes, y.bytes, x.len);
	for (uint32_t i = 0; i < a->nb_endpoints; i++) {
		assert_string_equal(a->endpoints[i].dpu, b->endpoints[i].dpu);
		assert_int_equal(a->endpoints[i].identity, b->endpoints[i].identity);
		assert_int_equal(a->endpoints[i].attested, b->endpoints[i].attested);
		assert_int_equal(a->endpoints[i].unattested, b->endpoints[i].unattested);
	}
	for (uint32_t i = 0; i < a->nb_unplaced; i++) {
		assert_string_equal(a->unplaced[i].name, b->unplaced[i].name);
		assert_int_equal(a->unplaced[i].identity, b->unplaced[i].identity);
	}
	free(x.bytes);
	free(y.bytes);
}

/* What the reference makes of the texts; NULL when it refuses them. */
static struct policy_table *
reference(struct world *w, char *const text[NB_NAMES])
{
	struct policy_model *m;
	struct policy_table *t = NULL;
	struct policy_findings *f;
	struct pk_diag diag;
	int rc;

	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	for (int i = 0; i < NB_NAMES; i++) {
		char name[32];

		world_name(i, name);
		if (text[i] != NULL &&
		    policy_model_add_text(m, name, text[i], strlen(text[i]), f) != 0) {
			policy_findings_first(f, &diag);
			fail_msg("%s\n%s", diag.text, text[i]);
		}
	}
	policy_findings_destroy(f);
	policy_model_set_attested(m, world_attested, NULL);
	rc = policy_compile(m, w->ids, &t, NULL);
	assert_true(rc == 0 || rc == -EINVAL);
	policy_model_destroy(m);
	return t;
}

static void
change(struct world *w)
{
	struct policy_touched touched = { 0 };
	struct policy_change ch[4];
	struct policy_findings *f;
	struct policy_table *want;
	char *next[NB_NAMES], names[4][32];
	uint64_t nb_whole = policy_compiler_nb_whole(w->pc);
	int n = 1 + world_pick(3) * world_pick(2), which[4], rc;

	memcpy(next, w->text, sizeof(next));
	for (int i = 0; i < n; i++) {
		int again = 0;

		which[i] = world_choose();
		for (int k = 0; k < i; k++)
			again |= which[k] == which[i];
		if (again) {
			n = i;
			break;
		}
		world_name(which[i], names[i]);
		next[which[i]] = world_pick(6) == 0 ? NULL : world_text(which[i]);
		ch[i] = (struct policy_change){ .name = names[i],
			.text = next[which[i]],
			.len = next[which[i]] != NULL ? strlen(next[which[i]]) : 0 };
	}
	assert_int_equal(policy_findings_create(&f), 0);
	rc = policy_compiler_change(w->pc, ch, (size_t)n, &touched, f);
	want = reference(w, next);
	if ((rc == 0) != (want != NULL)) {
		struct pk_diag diag = { "" };

		policy_findings_first(f, &diag);
		fail_msg("%d: %s", rc, diag.text);
	}
	w->whole += policy_compiler_nb_whole(w->pc) > nb_whole;
	if (rc == 0 && world_pick(5) != 0) {
		for (int i = 0; i < n; i++) {
			free(w->text[which[i]]);
			w->text[which[i]] = next[which[i]];
		}
		policy_compiler_keep(w->pc);
	} else {
		w->refused += rc != 0;
		w->undone += rc == 0;
		if (rc == 0) {
			expect_equal(policy_compiler_table(w->pc), want);
			assert_int_equal(policy_compiler_undo(w->pc), 0);
		}
		policy_table_destroy(want);
		want = reference(w, w->text);
		assert_non_null(want);
		for (int i = 0; i < n; i++)
			free(next[which[i]]);
	}
	expect_equal(policy_compiler_table(w->pc), want);
	policy_table_destroy(want);
	policy_findings_destroy(f);
	policy_touched_fini(&touched);
}

/* A host becomes attested, or ceases to be: only endpoints behind that DPU are touched. */
static void
flip(struct world *w)
{
	uint64_t nb_whole = policy_compiler_nb_whole(w->pc);
	const char *dpu = world_flip();
	struct policy_touched touched = { 0 };
	struct policy_table *want = reference(w, w->text);
	const struct policy_table *t;

	assert_int_equal(policy_compiler_posture(w->pc, &dpu, 1, &touched), 0);
	t = policy_compiler_table(w->pc);
	expect_equal(t, want);
	assert_true(policy_compiler_nb_whole(w->pc) == nb_whole && !touched.whole);
	assert_int_equal(touched.identities.nb + touched.sets.nb + touched.programs.nb, 0);
	for (size_t i = 0; i < touched.endpoints.nb; i++) {
		const struct policy_place *p = &touched.endpoints.at[i];
		const struct policy_endpoint *e = policy_table_endpoint(t, p->vrf, &p->addr);

		assert_string_equal(e->dpu, dpu);
		assert_int_not_equal(e->attested, e->unattested);
	}
	w->flipped += touched.endpoints.nb > 0;
	policy_table_destroy(want);
	policy_touched_fini(&touched);
}

static void
test_random_changes(void **state)
{
	struct world w = { 0 };
	struct policy_change ch[NB_OTHERS];
	struct policy_findings *f;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(policy_ids_create(&w.ids), 0);
	assert_int_equal(policy_compiler_create(&w.pc, w.ids), 0);
	policy_compiler_set_attested(w.pc, world_attested, NULL);
	for (int i = 0; i < NB_OTHERS; i++) {
		static char names[NB_OTHERS][32];
		int k = NB_WORKLOADS + NB_POLICIES + i;

		world_name(k, names[i]);
		w.text[k] = world_text(k);
		ch[i] = (struct policy_change){ names[i], w.text[k], strlen(w.text[k]) };
	}
	assert_int_equal(policy_findings_create(&f), 0);
	if (policy_compiler_change(w.pc, ch, NB_OTHERS, NULL, f) != 0) {
		policy_findings_first(f, &diag);
		fail_msg("%s", diag.text);
	}
	policy_findings_destroy(f);
	policy_compiler_keep(w.pc);
	for (int i = 0; i < ROUNDS; i++) {
		change(&w);
		if (i % 3 == 0)
			flip(&w);
	}
	printf("# %d changes: %u refused, %u undone, %u compiled the whole; %u of posture\n",
	    ROUNDS, w.refused, w.undone, w.whole, w.flipped);
	/* The test is about the others. */
	assert_true(w.whole < ROUNDS / 2 && w.refused > 0 && w.undone > 0 && w.flipped > 50);
	for (int i = 0; i < NB_NAMES; i++)
		free(w.text[i]);
	policy_compiler_destroy(w.pc);
	policy_ids_destroy(w.ids);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_changes),
	};

	return cmocka_run_group_tests_name("policy/live", tests, NULL, NULL);
}
