#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler.h"
#include "tests/unit/test.h"

/*
 * A compiler that lives against one that does not: after each of thousands of random changes, some of
 * them wrong and some taken back, the table is what policy_compile() makes of the same sources.
 */
#define NB_WORKLOADS 24
#define NB_POLICIES  10
#define NB_OTHERS    3
#define NB_NAMES     (NB_WORKLOADS + NB_POLICIES + NB_OTHERS)
#define ROUNDS       1500

static uint32_t state_ = 20261;

static int
pick(int n)
{
	state_ = state_ * 1664525u + 1013904223u;
	return (int)((state_ >> 8) % (uint32_t)n);
}

struct world {
	char *text[NB_NAMES]; /* NULL: not there */
	struct policy_ids *ids;
	struct policy_compiler *pc;
	unsigned int refused, whole, undone;
};

static void
name_of(int i, char name[32])
{
	snprintf(name, 32, "%s%d", i < NB_WORKLOADS ? "w" : i < NB_WORKLOADS + NB_POLICIES ? "p" : "o",
	    i);
}

static const char *
tenant(int all)
{
	static const char *const names[] = { "t0", "t1", "t2", "\"*\"" };

	return names[pick(all ? 4 : 3)];
}

static void
print_labels(FILE *f)
{
	const char *part = "";

	fputs("{", f);
	for (int k = 0; k < 3; k++) {
		if (pick(4) == 0)
			continue;
		fprintf(f, "%sk%d: v%d", part, k, pick(3));
		part = ", ";
	}
	fputs("}", f);
}

static void
print_selector(FILE *f)
{
	const char *part = "";

	fputs("{", f);
	for (int k = 0; k < 3; k++) {
		/* One key is named so seldom that it comes and goes. */
		if (pick(k == 2 ? 12 : 2) == 0 || (k == 2 && pick(6) != 0))
			continue;
		switch (pick(4)) {
		case 0:
			fprintf(f, "%sk%d: v%d", part, k, pick(3));
			break;
		case 1:
			fprintf(f, "%sk%d: [v%d, v%d]", part, k, pick(2), 2);
			break;
		case 2:
			fprintf(f, "%s\"!k%d\": v%d", part, k, pick(3));
			break;
		default:
			fprintf(f, "%s\"%sk%d\": ", part, pick(2) ? "!" : "", k);
			break;
		}
		part = ", ";
	}
	fputs("}", f);
}

static void
print_peers(FILE *f, int with_group)
{
	int low = 64 * pick(2);

	switch (pick(5)) {
	case 0:
		fprintf(f, "[{networks: [192.0.2.%d/26], except: [192.0.2.%d/28]}]", low,
		    low + 16 * pick(2));
		break;
	case 1:
		if (with_group) {
			fprintf(f, "[{group: g%d}]", pick(2));
			break;
		}
		/* fall through */
	default:
		fputs("[{workloads: ", f);
		print_selector(f);
		if (pick(3) == 0)
			fprintf(f, ", tenant: %s", tenant(1));
		fputs("}]", f);
		break;
	}
}

static void
print_workload(FILE *f, int i)
{
	/* At times an address or a name that another has. */
	int same = pick(40) == 0 ? (i + 1) % NB_WORKLOADS : i;

	fprintf(f, "apiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: w%d, tenant: %s, labels: ",
	    pick(60) == 0 ? 0 : i, tenant(0));
	print_labels(f);
	fputs("}\nspec: {", f);
	if (pick(8) != 0)
		fprintf(f, "addresses: [192.0.2.%d], ", 1 + same * 5);
	fprintf(f, "dpu: dpu%d", pick(3));
	if (pick(4) == 0)
		fprintf(f, ", ports: {http: tcp/%d}", 8080 + pick(2));
	fputs("}\n", f);
}

static void
print_policy(FILE *f, int i)
{
	static const char *const tiers[] = { "emergency", "application", "application", "baseline" };
	static const char *const verdicts[] = { "allow", "deny", "pass" };

	fprintf(f,
	    "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: %s}\nspec:\n"
	    "  tier: %s\n  priority: %d\n",
	    pick(30) == 0 ? 0 : i, tenant(1), tiers[pick(4)], pick(30) == 0 ? 5 : 100 + i);
	if (pick(6) == 0) {
		fprintf(f, "  appliesTo: {group: h}\n");
	} else if (pick(3) != 0) {
		fputs("  appliesTo: {workloads: ", f);
		print_selector(f);
		fputs("}\n", f);
	}
	if (pick(5) == 0)
		fputs("  mode: audit\n", f);
	for (int d = 0; d < 2; d++) {
		int n = d == 0 ? 1 + pick(2) : pick(2);

		if (n == 0)
			continue;
		fprintf(f, "  %s:\n", d == 0 ? "ingress" : "egress");
		for (int r = 0; r < n; r++) {
			fprintf(f, "    - {name: r%d, action: %s, %s: ", r, verdicts[pick(3)],
			    d == 0 ? "from" : "to");
			print_peers(f, 1);
			if (pick(2) == 0)
				fprintf(f, ", services: [tcp/%d]", 80 + pick(3));
			else if (pick(d == 0 ? 5 : 40) == 0)
				fputs(", services: [port/http]", f);
			fputs("}\n", f);
		}
	}
}

/* Groups that policies name: g0, g1 with networks, h without.  At times one is missing. */
static void
print_group(FILE *f, int i)
{
	static const char *const names[] = { "g0", "g1", "h" };

	fprintf(f, "apiVersion: picket.io/v1\nkind: Group\nmetadata: {name: %s, tenant: \"*\"}\nspec:\n"
	           "  members:\n    - {workloads: ",
	    names[i]);
	print_selector(f);
	fputs(", tenant: t0}\n    - {workloads: ", f);
	print_selector(f);
	fputs(", tenant: \"*\"}\n", f);
	if (i == 1)
		fputs("    - {networks: [198.51.100.0/24]}\n", f);
}

static char *
make_text(int i)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (i < NB_WORKLOADS)
		print_workload(f, i);
	else if (i < NB_WORKLOADS + NB_POLICIES)
		print_policy(f, i - NB_WORKLOADS);
	else
		print_group(f, i - NB_WORKLOADS - NB_POLICIES);
	fclose(f);
	return text;
}

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
	for (uint32_t i = 0; i < a->nb_endpoints; i++)
		assert_string_equal(a->endpoints[i].dpu, b->endpoints[i].dpu);
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

		name_of(i, name);
		if (text[i] != NULL &&
		    policy_model_add_text(m, name, text[i], strlen(text[i]), f) != 0) {
			policy_findings_first(f, &diag);
			fail_msg("%s\n%s", diag.text, text[i]);
		}
	}
	policy_findings_destroy(f);
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
	int n = 1 + pick(3) * pick(2), which[4], rc;

	memcpy(next, w->text, sizeof(next));
	for (int i = 0; i < n; i++) {
		int again = 0;

		which[i] = pick(20) == 0 ? NB_WORKLOADS + NB_POLICIES + pick(NB_OTHERS)
		    : pick(3) == 0       ? NB_WORKLOADS + pick(NB_POLICIES)
		                         : pick(NB_WORKLOADS);
		for (int k = 0; k < i; k++)
			again |= which[k] == which[i];
		if (again) {
			n = i;
			break;
		}
		name_of(which[i], names[i]);
		next[which[i]] = pick(6) == 0 ? NULL : make_text(which[i]);
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
	if (rc == 0 && pick(5) != 0) {
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
	for (int i = 0; i < NB_OTHERS; i++) {
		static char names[NB_OTHERS][32];
		int k = NB_WORKLOADS + NB_POLICIES + i;

		name_of(k, names[i]);
		w.text[k] = make_text(k);
		ch[i] = (struct policy_change){ names[i], w.text[k], strlen(w.text[k]) };
	}
	assert_int_equal(policy_findings_create(&f), 0);
	if (policy_compiler_change(w.pc, ch, NB_OTHERS, NULL, f) != 0) {
		policy_findings_first(f, &diag);
		fail_msg("%s", diag.text);
	}
	policy_findings_destroy(f);
	policy_compiler_keep(w.pc);
	for (int i = 0; i < ROUNDS; i++)
		change(&w);
	printf("# %d changes: %u refused, %u undone, %u compiled the whole\n", ROUNDS, w.refused,
	    w.undone, w.whole);
	/* The test is about the others. */
	assert_true(w.whole < ROUNDS / 2 && w.refused > 0 && w.undone > 0);
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
