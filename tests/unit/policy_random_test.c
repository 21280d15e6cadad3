#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "policy/model.h"
#include "policy/query.h"
#include "tests/unit/test.h"

/*
 * Random policies, judged twice: by the text of docs/policy.md, spelt out below over small structs
 * as plainly as possible, and by compiler and evaluator from the YAML these structs are printed as.
 */
#define NB_WORKLOADS 12
#define NB_POLICIES  8
#define NB_RULES     4
#define NB_LABELS    3 /* keys k0, k1, k2 with values 0 .. 2, or absent: -1 */
#define NB_OUTSIDE   4
#define ROUNDS       400

enum how {
	IN,
	NOT_IN,
	EXISTS,
	ABSENT
};

struct selector {
	int nb;
	struct {
		int key;
		enum how how;
		int values; /* bits */
	} at[2];
};

struct peer {
	enum {
		WORKLOADS,
		NETWORK,
		ANY
	} kind;
	int tenant; /* -1: the policy's, 2: all */
	struct selector selector;
	int low, high;       /* of the last byte: the network is [low, high], a power of two wide */
	int ex_low, ex_high; /* -1: no exception */
};

struct rule {
	int action; /* enum pk_verdict */
	int nb_peers;
	struct peer peers[2];
	int port_low, port_high; /* 0: any service */
};

struct policy {
	int tenant; /* 0, 1, or 2: all */
	int tier;   /* 0 .. 4 */
	int priority, audit, subject_all;
	struct selector subject;
	int nb[2]; /* rules by direction; -1: the key is missing */
	struct rule rules[2][NB_RULES];
};

struct workload {
	int tenant;
	int labels[NB_LABELS];
	int host; /* last byte of its address */
};

struct world {
	struct workload workloads[NB_WORKLOADS + NB_OUTSIDE]; /* those outside have tenant -1 */
	struct policy policies[NB_POLICIES];
	int tenant_allows[2];
};

static const char *const tiers[] = { "emergency", "infrastructure", "environment", "application",
	"baseline" };
static const char *const tenants[] = { "t0", "t1", "\"*\"" };

static uint32_t state_;

static int
pick(int n)
{
	state_ = state_ * 1664525u + 1013904223u;
	return (int)((state_ >> 8) % (uint32_t)n);
}

/* ---- making them up ---- */

static void
make_selector(struct selector *s)
{
	s->nb = pick(3);
	for (int i = 0; i < s->nb; i++) {
		/* Each key once, since the short form is a map. */
		s->at[i].key = i == 0 ? pick(2) : 2;
		s->at[i].how = (enum how)pick(4);
		s->at[i].values = 1 + pick(7);
	}
}

static void
make_peer(struct peer *p)
{
	int bits = 1 + pick(7);

	p->kind = pick(8) == 0 ? ANY : pick(3) == 0 ? NETWORK : WORKLOADS;
	p->tenant = pick(3) == 0 ? pick(3) : -1;
	make_selector(&p->selector);
	p->low = pick(256 >> bits) << bits;
	p->high = p->low + (1 << bits) - 1;
	p->ex_low = p->ex_high = -1;
	if (pick(2) == 0) {
		p->ex_low = p->low + (1 << (bits - 1)) * pick(2);
		p->ex_high = p->ex_low + (1 << (bits - 1)) - 1;
	}
}

static void
make_world(struct world *w)
{
	memset(w, 0, sizeof(*w));
	for (int i = 0; i < NB_WORKLOADS + NB_OUTSIDE; i++) {
		w->workloads[i].tenant = i < NB_WORKLOADS ? pick(2) : -1;
		w->workloads[i].host = 1 + i * 13;
		for (int k = 0; k < NB_LABELS; k++)
			w->workloads[i].labels[k] = pick(4) - 1;
	}
	for (int i = 0; i < 2; i++)
		w->tenant_allows[i] = pick(3) == 0;
	for (int i = 0; i < NB_POLICIES; i++) {
		struct policy *p = &w->policies[i];

		p->tenant = pick(3);
		p->tier = pick(5);
		/* Unique in a tenant's tier, equal at times between `*` and a tenant. */
		p->priority = pick(3) * 100 + (p->tenant == 2 ? 0 : i);
		if (p->tenant == 2)
			p->priority = pick(2) * 1000 + i;
		p->audit = pick(4) == 0;
		p->subject_all = pick(4) == 0;
		make_selector(&p->subject);
		for (int d = 0; d < 2; d++)
			p->nb[d] = pick(NB_RULES + 2) - 1;
		if (p->nb[0] < 0 && p->nb[1] < 0)
			p->nb[pick(2)] = 0;
		for (int d = 0; d < 2; d++) {
			for (int r = 0; r < p->nb[d]; r++) {
				struct rule *rule = &p->rules[d][r];

				rule->action = pick(PK_VERDICT_COUNT);
				rule->nb_peers = pick(3);
				for (int k = 0; k < rule->nb_peers; k++)
					make_peer(&rule->peers[k]);
				if (pick(2) == 0) {
					rule->port_low = 1 + pick(4);
					rule->port_high = rule->port_low + pick(3);
				}
			}
		}
	}
}

/* ---- as YAML ---- */

static void
print_selector(FILE *f, const struct selector *s)
{
	fputs("{", f);
	for (int i = 0; i < s->nb; i++) {
		int negative = s->at[i].how == NOT_IN || s->at[i].how == ABSENT;

		fprintf(f, "%s\"%sk%d\": ", i ? ", " : "", negative ? "!" : "", s->at[i].key);
		if (s->at[i].how == IN || s->at[i].how == NOT_IN) {
			fputs("[", f);
			for (int v = 0, first = 1; v < 3; v++)
				if (s->at[i].values & 1 << v)
					fprintf(f, "%sv%d", first ? first = 0, "" : ", ", v);
			fputs("]", f);
		}
	}
	fputs("}", f);
}

static int
prefix_len(int low, int high)
{
	return 32 - __builtin_ctz((unsigned int)(high - low + 1));
}

static void
print_peer(FILE *f, const struct peer *p)
{
	if (p->kind == ANY) {
		fputs("any", f);
	} else if (p->kind == NETWORK) {
		fprintf(f, "{networks: [192.0.2.%d/%d]", p->low, prefix_len(p->low, p->high));
		if (p->ex_low >= 0)
			fprintf(f, ", except: [192.0.2.%d/%d]", p->ex_low,
			    prefix_len(p->ex_low, p->ex_high));
		fputs("}", f);
	} else {
		fputs("{", f);
		if (p->tenant >= 0)
			fprintf(f, "tenant: %s, ", tenants[p->tenant]);
		fputs("workloads: ", f);
		print_selector(f, &p->selector);
		fputs("}", f);
	}
}

static void
print_rules(FILE *f, const struct policy *p, int d)
{
	if (p->nb[d] < 0)
		return;
	fprintf(f, "  %s: %s\n", d == PK_EGRESS ? "egress" : "ingress", p->nb[d] == 0 ? "[]" : "");
	for (int r = 0; r < p->nb[d]; r++) {
		const struct rule *rule = &p->rules[d][r];

		fprintf(f, "    - {name: r%d, action: %s", r,
		    pk_verdict_name((unsigned int)rule->action));
		for (int k = 0; k < rule->nb_peers; k++) {
			fprintf(f, "%s", k ? ", " : d == PK_EGRESS ? ", to: [" : ", from: [");
			print_peer(f, &rule->peers[k]);
		}
		fprintf(f, "%s", rule->nb_peers > 0 ? "]" : "");
		if (rule->port_low > 0)
			fprintf(f, ", services: [tcp/%d-%d]", rule->port_low, rule->port_high);
		fputs("}\n", f);
	}
}

static void
print_world(FILE *f, const struct world *w)
{
	for (int i = 0; i < 2; i++)
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Tenant\nmetadata: {name: t%d}\nspec: {default: %s}\n",
		    i, w->tenant_allows[i] ? "allow" : "deny");
	for (int i = 0; i < NB_WORKLOADS; i++) {
		const struct workload *x = &w->workloads[i];

		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: w%d, tenant: t%d, labels: {",
		    i, x->tenant);
		for (int k = 0, first = 1; k < NB_LABELS; k++)
			if (x->labels[k] >= 0)
				fprintf(
				    f, "%sk%d: v%d", first ? first = 0, "" : ", ", k, x->labels[k]);
		fprintf(f, "}}\nspec: {addresses: [192.0.2.%d]}\n", x->host);
	}
	for (int i = 0; i < NB_POLICIES; i++) {
		const struct policy *p = &w->policies[i];

		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: %s}\nspec:\n"
		    "  tier: %s\n  priority: %d\n  mode: %s\n",
		    i, tenants[p->tenant], tiers[p->tier], p->priority,
		    p->audit ? "audit" : "enforce");
		if (!p->subject_all) {
			fputs("  appliesTo: {workloads: ", f);
			print_selector(f, &p->subject);
			fputs("}\n", f);
		}
		print_rules(f, p, PK_EGRESS);
		print_rules(f, p, PK_INGRESS);
	}
}

/* ---- as the document says ---- */

static int
selected(const struct selector *s, const struct workload *w)
{
	for (int i = 0; i < s->nb; i++) {
		int value = w->labels[s->at[i].key];
		int in = value >= 0 && (s->at[i].values & 1 << value) != 0;
		int holds = s->at[i].how == IN ? in
		    : s->at[i].how == NOT_IN   ? !in
		    : s->at[i].how == EXISTS   ? value >= 0
		                               : value < 0;

		if (!holds)
			return 0;
	}
	return 1;
}

static int
is_peer(const struct policy *owner, const struct peer *p, const struct workload *w)
{
	int tenant = p->tenant >= 0 ? p->tenant : owner->tenant;

	switch (p->kind) {
	case ANY:
		return 1;
	case NETWORK:
		return w->host >= p->low && w->host <= p->high &&
		    !(p->ex_low >= 0 && w->host >= p->ex_low && w->host <= p->ex_high);
	case WORKLOADS:
		return w->tenant >= 0 && (tenant == 2 || tenant == w->tenant) &&
		    selected(&p->selector, w);
	}
	return 0;
}

static int
rule_matches(
    const struct policy *owner, const struct rule *r, const struct workload *peer, int port)
{
	int yes = r->nb_peers == 0;

	for (int k = 0; k < r->nb_peers; k++)
		yes |= is_peer(owner, &r->peers[k], peer);
	return yes && (r->port_low == 0 || (port >= r->port_low && port <= r->port_high));
}

static int
comes_before(const struct policy *a, const struct policy *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->tenant == 2;
}

/* What the policies say about one side.  `audit`: as if audit policies were enforced. */
static int
side(const struct world *w, int d, const struct workload *subject, const struct workload *peer,
    int port, int audit)
{
	for (int tier = 0; tier < 5; tier++) {
		int isolated = 0, passed = 0, done[NB_POLICIES] = { 0 };

		for (;;) {
			const struct policy *p = NULL;

			for (int i = 0; i < NB_POLICIES; i++) {
				const struct policy *x = &w->policies[i];

				if (!done[i] && x->tier == tier && (audit || !x->audit) &&
				    (x->tenant == 2 || x->tenant == subject->tenant) &&
				    (x->subject_all || selected(&x->subject, subject)) &&
				    (p == NULL || comes_before(x, p)))
					p = x;
			}
			if (p == NULL || passed)
				break;
			done[p - w->policies] = 1;
			isolated |= p->nb[d] >= 0;
			for (int r = 0; r < p->nb[d]; r++) {
				if (!rule_matches(p, &p->rules[d][r], peer, port))
					continue;
				if (p->rules[d][r].action != PK_VERDICT_PASS)
					return p->rules[d][r].action;
				passed = 1;
				break;
			}
		}
		if (tier == 3 && isolated && !passed)
			return PK_VERDICT_DENY;
	}
	return w->tenant_allows[subject->tenant] ? PK_VERDICT_ALLOW : PK_VERDICT_DENY;
}

static int
verdict(const struct world *w, int src, int dst, int port, int audit)
{
	const struct workload *a = &w->workloads[src], *b = &w->workloads[dst];
	int v = PK_VERDICT_ALLOW;

	if (a->tenant < 0 && b->tenant < 0)
		return PK_VERDICT_DENY;
	if (src == dst)
		return PK_VERDICT_ALLOW;
	if (a->tenant >= 0)
		v = side(w, PK_EGRESS, a, b, port, audit);
	return v == PK_VERDICT_ALLOW && b->tenant >= 0 ? side(w, PK_INGRESS, b, a, port, audit) : v;
}

/* ---- and both compared ---- */

static int
has_clash(const struct world *w)
{
	for (int i = 0; i < NB_POLICIES; i++)
		for (int k = 0; k < i; k++)
			if (w->policies[i].tenant == w->policies[k].tenant &&
			    w->policies[i].tier == w->policies[k].tier &&
			    w->policies[i].priority == w->policies[k].priority)
				return 1;
	return 0;
}

static unsigned int
compare(const struct world *w, const struct policy_query *q, const char *text)
{
	struct policy_end ends[NB_WORKLOADS + NB_OUTSIDE];
	unsigned int asked = 0;
	struct pk_diag d;

	for (int i = 0; i < NB_WORKLOADS + NB_OUTSIDE; i++) {
		char addr[32];

		snprintf(addr, sizeof(addr), "192.0.2.%d", w->workloads[i].host);
		assert_int_equal(policy_query_end(q, addr, &ends[i], &d), 0);
	}
	for (int src = 0; src < NB_WORKLOADS + NB_OUTSIDE; src++) {
		for (int dst = 0; dst < NB_WORKLOADS + NB_OUTSIDE; dst++) {
			for (int port = 1; port < 8; port++) {
				struct policy_point point = { 6, (uint16_t)port };
				struct policy_answer a;

				assert_int_equal(
				    policy_query_flow(q, &ends[src], &ends[dst], point, &a, &d), 0);
				asked++;
				if ((int)a.verdict == verdict(w, src, dst, port, 0) &&
				    (int)a.audit_verdict == verdict(w, src, dst, port, 1))
					continue;
				fail_msg(
				    "%s\nw%d -> w%d tcp/%d: got %s, with audit %s; want %s, with audit %s",
				    text, src, dst, port, pk_verdict_name(a.verdict),
				    pk_verdict_name(a.audit_verdict),
				    pk_verdict_name((unsigned int)verdict(w, src, dst, port, 0)),
				    pk_verdict_name((unsigned int)verdict(w, src, dst, port, 1)));
			}
		}
	}
	return asked;
}

static void
test_random(void **state)
{
	unsigned int asked = 0, worlds = 0;

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct policy_findings *findings;
		struct policy_table *t = NULL;
		struct policy_query *q;
		struct policy_model *m;
		struct policy_ids *ids;
		struct pk_diag d = { "" };
		struct world w;
		char *text;
		size_t len;
		FILE *f;

		state_ = round;
		make_world(&w);
		if (has_clash(&w))
			continue;
		f = open_memstream(&text, &len);
		print_world(f, &w);
		fclose(f);
		assert_int_equal(policy_findings_create(&findings), 0);
		assert_int_equal(policy_model_create(&m), 0);
		assert_int_equal(policy_ids_create(&ids), 0);
		if (policy_model_add_text(m, "random", text, len, findings) < 0 ||
		    policy_compile(m, ids, &t, findings) < 0) {
			policy_findings_first(findings, &d);
			fail_msg("%s\n%s", text, d.text);
		}
		assert_int_equal(policy_query_create(&q, m, t, &d), 0);
		asked += compare(&w, q, text);
		worlds++;
		policy_query_destroy(q);
		policy_table_destroy(t);
		policy_ids_destroy(ids);
		policy_model_destroy(m);
		policy_findings_destroy(findings);
		free(text);
	}
	print_message("# %u flows in %u data centres\n", asked, worlds);
	assert_true(worlds > ROUNDS / 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("policy/random", tests, NULL, NULL);
}
