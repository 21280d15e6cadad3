#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/absent.h"
#include "policy/query.h"
#include "policy/reach.h"
#include "policy/walk.h"
#include "tests/unit/test.h"

/*
 * The relation against the packet path's own evaluator: random policies, all pairs of ends, and for each
 * pair every point at which the answer could change.  And the difference of two such worlds against the
 * two relations.
 */
#define ROUNDS       70
#define NB_WORKLOADS 9
#define NB_POLICIES  6
#define NB_OUTSIDE   6

static uint32_t state_;

static int
pick(int n)
{
	state_ = state_ * 1664525u + 1013904223u;
	return (int)((state_ >> 8) % (uint32_t)n);
}

/* ---- making worlds up ---------------------------------------------------------------------------- */

static const char *const services[] = { "tcp/80", "tcp/80-90", "tcp/85-65535", "udp/53", "udp",
	"tcp", "sctp/5000-5010", "icmp/echo-request", "icmp", "icmpv4/3/4", "proto/47", "esp",
	"tcp/1-84", "port/http", "tcp/http", "tcp/0-79", "icmpv6" };
static const char *const networks[] = { "192.0.2.0/28", "192.0.2.8/29", "198.51.100.0/24",
	"198.51.100.128/25", "0.0.0.0/0", "\"2001:db8::/64\"", "\"2001:db8::8/125\"", "\"::/0\"",
	"203.0.113.7/32", "\"2001:db8:1::/48\"", "255.255.255.255/32", "128.0.0.0/1" };

static void
print_peers(FILE *f, const char *key)
{
	int n = pick(3);

	if (n == 0)
		return;
	fprintf(f, ", %s: [", key);
	for (int i = 0; i < n; i++) {
		fputs(i > 0 ? ", " : "", f);
		switch (pick(4)) {
		case 0:
			fprintf(f, "{networks: [%s]}", networks[pick((int)PK_COUNT(networks))]);
			break;
		case 1:
			fprintf(f, "{tenant: t%d, workloads: {k: v%d}}", pick(2), pick(3));
			break;
		case 2:
			fprintf(f, "{workloads: {\"!k\": v%d}}", pick(3));
			break;
		default:
			fprintf(f, "{workloads: {k: [v%d, v%d]}}", pick(3), pick(3));
		}
	}
	fputs("]", f);
}

static void
print_rules(FILE *f, const char *direction, const char *key)
{
	static const char *const actions[] = { "allow", "allow", "deny", "pass", "reject" };
	int n = pick(4);

	fprintf(f, "  %s:%s\n", direction, n == 0 ? " []" : "");
	for (int i = 0; i < n; i++) {
		int s = pick(4);

		fprintf(f, "    - {name: r%d, action: %s", i, actions[pick(5)]);
		print_peers(f, key);
		for (int k = 0; k < s; k++)
			fprintf(f, "%s%s", k == 0 ? ", services: [" : ", ",
			    services[pick((int)PK_COUNT(services))]);
		fputs(s > 0 ? "]}\n" : "}\n", f);
	}
}

static void
print_inventory(FILE *f, uint32_t seed)
{
	state_ = seed;
	for (int i = 0; i < NB_WORKLOADS; i++) {
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: w%d, tenant: t%d, labels: {k: v%d}}\nspec: {",
		    i, pick(2), pick(3));
		/* Some have no address, some one family, some several addresses of one. */
		switch (i % 5) {
		case 0:
			fprintf(f, "addresses: [192.0.2.%d, \"2001:db8::%x\"], ", i + 1, i + 1);
			break;
		case 1:
			fprintf(f, "addresses: [192.0.2.%d], ", i + 1);
			break;
		case 2:
			fprintf(f, "addresses: [192.0.2.%d, 198.51.100.%d, \"2001:db8::%x\"], ",
			    i + 1, i + 1, i + 1);
			break;
		case 3:
			fprintf(f, "addresses: [\"2001:db8::%x\"], ", i + 1);
			break;
		}
		fprintf(f, "ports: {http: tcp/%d}}\n", 80 + pick(3));
	}
}

static void
print_policies(FILE *f, uint32_t seed)
{
	static const char *const tiers[] = { "emergency", "infrastructure", "application",
		"application", "baseline" };

	state_ = seed * 7919 + 1;
	for (int t = 0; t < 2; t++)
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Tenant\nmetadata: {name: t%d}\nspec: {default: %s}\n",
		    t, pick(3) == 0 ? "allow" : "deny");
	for (int i = 0; i < NB_POLICIES; i++) {
		int which = 1 + pick(3);

		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: t%d}\n"
		    "spec:\n  tier: %s\n  priority: %d\n  mode: %s\n",
		    i, pick(2), tiers[pick(5)], i, pick(4) == 0 ? "audit" : "enforce");
		if (pick(3) > 0)
			fprintf(f, "  appliesTo: {workloads: {k: [v%d, v%d]}}\n", pick(3), pick(3));
		if (which & 1)
			print_rules(f, "ingress", "from");
		if (which & 2)
			print_rules(f, "egress", "to");
	}
}

struct world {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table;
	struct policy_query *query;
	char *text;
};

static void
world_open_text(struct world *w, char *text)
{
	struct pk_diag d = { "" };

	memset(w, 0, sizeof(*w));
	w->text = text;
	assert_int_equal(policy_findings_create(&w->findings), 0);
	assert_int_equal(policy_model_create(&w->model), 0);
	assert_int_equal(policy_ids_create(&w->ids), 0);
	if (policy_model_add_text(w->model, "random", text, strlen(text), w->findings) < 0 ||
	    policy_compile(w->model, w->ids, &w->table, w->findings) < 0) {
		policy_findings_first(w->findings, &d);
		fail_msg("%s\n%s", text, d.text);
	}
	assert_int_equal(policy_query_create(&w->query, w->model, w->table, &d), 0);
}

static void
world_open(struct world *w, uint32_t inventory, uint32_t policies)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	print_inventory(f, inventory);
	print_policies(f, policies);
	fclose(f);
	world_open_text(w, text);
}

static void
world_close(struct world *w)
{
	policy_query_destroy(w->query);
	policy_table_destroy(w->table);
	policy_ids_destroy(w->ids);
	policy_model_destroy(w->model);
	policy_findings_destroy(w->findings);
	free(w->text);
}

/* ---- the rows as a relation ---------------------------------------------------------------------- */

struct kept {
	char src[POLICY_REACH_TEXT], dst[POLICY_REACH_TEXT]; /* "" outside */
	struct pk_addr low, high;
	unsigned int families;
	struct policy_traffic allowed[2]; /* borrowed spans */
};

struct relation {
	struct policy_reach *reach;
	POLICY_VECTOR(struct kept) rows;
};

static int
keep(void *arg, const struct policy_reach_row *row)
{
	struct relation *r = arg;
	struct kept *k = POLICY_PUSH(&r->rows);

	assert_non_null(k);
	memset(k, 0, sizeof(*k));
	snprintf(k->src, sizeof(k->src), "%s", row->src != NULL ? row->src->name : "");
	snprintf(k->dst, sizeof(k->dst), "%s", row->dst != NULL ? row->dst->name : "");
	k->low = row->low;
	k->high = row->high;
	k->families = row->families;
	for (int i = 0; i < 2; i++)
		k->allowed[i] = *policy_pool_get(policy_reach_pool(r->reach), row->allowed[i]);
	return 0;
}

static void
relation_make(struct relation *r, const struct world *const *w, unsigned int n, int audit)
{
	struct policy_world worlds[2];

	memset(r, 0, sizeof(*r));
	for (unsigned int i = 0; i < n; i++)
		worlds[i] = (struct policy_world){ .model = w[i]->model, .table = w[i]->table };
	assert_int_equal(policy_reach_create(&r->reach, worlds, n, POLICY_BY_WORKLOAD), 0);
	assert_int_equal(policy_reach_each(r->reach, NULL, NULL, audit, keep, r), 0);
}

static void
relation_free(struct relation *r)
{
	free(r->rows.at);
	policy_reach_destroy(r->reach);
}

/* An end as a test asks about it: an address that is a workload's or nobody's, or a name alone. */
struct end {
	char name[64];       /* "" outside */
	struct pk_addr addr; /* family 0: has none */
	struct policy_end end;
};

static int
is_end(const struct kept *k, const char *shown, const struct end *e)
{
	char with[128], addr[PK_ADDR_TEXT];

	if (shown[0] == '\0')
		return e->name[0] == '\0' && k->low.family == e->addr.family &&
		    pk_addr_compare(&k->low, &e->addr) <= 0 &&
		    pk_addr_compare(&e->addr, &k->high) <= 0;
	if (e->name[0] == '\0')
		return 0;
	if (strcmp(shown, e->name) == 0)
		return 1;
	if (e->addr.family == 0)
		return 0;
	snprintf(with, sizeof(with), "%s@%s", e->name, pk_addr_text(&e->addr, addr));
	return strcmp(shown, with) == 0;
}

static const struct kept *
find(const struct relation *r, const struct end *a, const struct end *b, unsigned int family)
{
	const struct kept *found = NULL;

	for (size_t i = 0; i < r->rows.nb; i++) {
		const struct kept *k = &r->rows.at[i];

		if (!(k->families & (family == 4 ? 1u : 2u)) || !is_end(k, k->src, a) ||
		    !is_end(k, k->dst, b))
			continue;
		assert_null(found); /* one row for each question */
		found = k;
	}
	return found;
}

static unsigned int
make_ends(const struct world *w, struct end *out)
{
	static const char *const outside[NB_OUTSIDE] = { "198.51.100.200", "203.0.113.7", "0.0.0.1",
		"255.255.255.253", "2001:db8:1::1", "2001:db8::ffff" };
	struct pk_diag d;
	unsigned int n = 0;

	for (uint32_t i = 0; i < w->table->nb_endpoints; i++, n++) {
		char addr[PK_ADDR_TEXT];

		snprintf(out[n].name, sizeof(out[n].name), "%s", w->table->endpoints[i].name);
		out[n].addr = w->table->endpoints[i].addr;
		assert_int_equal(
		    policy_query_end(w->query, pk_addr_text(&out[n].addr, addr), &out[n].end, &d),
		    0);
	}
	for (uint32_t i = 0; i < w->table->nb_unplaced; i++, n++) {
		snprintf(out[n].name, sizeof(out[n].name), "%s", w->table->unplaced[i].name);
		out[n].addr = (struct pk_addr){ 0 };
		assert_int_equal(policy_query_end(w->query, out[n].name, &out[n].end, &d), 0);
	}
	for (int i = 0; i < NB_OUTSIDE; i++, n++) {
		out[n].name[0] = '\0';
		assert_int_equal(pk_addr_parse(&out[n].addr, outside[i], NULL), 0);
		assert_int_equal(policy_query_end(w->query, outside[i], &out[n].end, &d), 0);
	}
	return n;
}

/* Where something may change: at the edges of all that rules name, and of what came out. */
static unsigned int
make_points(const struct kept *k, struct policy_point *out, unsigned int room)
{
	static const struct policy_point fixed[] = { { 6, 1 }, { 6, 79 }, { 6, 80 }, { 6, 81 },
		{ 6, 82 }, { 6, 84 }, { 6, 85 }, { 6, 90 }, { 6, 91 }, { 6, 65535 }, { 6, 0 },
		{ 17, 52 }, { 17, 53 }, { 17, 54 }, { 132, 4999 }, { 132, 5000 }, { 132, 5010 },
		{ 132, 5011 }, { 1, 8 << 8 }, { 1, 3 << 8 | 4 }, { 1, 0 }, { 58, 128 << 8 },
		{ 58, 0 }, { 47, 0 }, { 50, 0 }, { 2, 0 } };
	unsigned int n = 0;

	for (size_t i = 0; i < PK_COUNT(fixed); i++)
		out[n++] = fixed[i];
	for (size_t i = 0; k != NULL && i < k->allowed[0].nb && n + 4 <= room; i++) {
		const struct policy_span *s = &k->allowed[0].at[i];
		uint32_t at[] = { s->low, s->high, s->low > 0 ? s->low - 1 : 0,
			s->high < POLICY_LINE_LAST ? s->high + 1 : s->high };

		for (size_t e = 0; e < PK_COUNT(at); e++) {
			uint8_t proto = (uint8_t)(at[e] >> 16);

			/* A packet of a protocol without ports has selector 0. */
			out[n++] = (struct policy_point){ proto,
				(uint16_t)(proto == 6 || proto == 17 || proto == 132 ||
				            proto == 1 || proto == 58
				        ? at[e]
				        : 0) };
		}
	}
	return n;
}

static int
is_strange(unsigned int family, struct policy_point p)
{
	return p.proto == PK_PROTO_ANY || p.proto == (family == 4 ? 58 : 1);
}

static unsigned long asked;

/* The way that `explain` tells must end where the evaluator ended. */
static void
check_way(const struct world *w, struct policy_connect *c, const struct end *a, const struct end *b,
    struct policy_point p, const struct policy_answer *answer)
{
	struct policy_steps way = { 0 };
	unsigned int family;
	uint32_t classes[2];
	struct pk_diag d;

	assert_int_equal(
	    policy_query_classes(w->query, c, &a->end, &b->end, classes, &family, &d), 0);
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		const struct policy_side *side = &answer->side[dir];

		if (!side->judged)
			continue;
		assert_int_equal(policy_walk(c, (enum pk_direction)dir, classes[dir],
		                     classes[1 - dir], p.proto, p.selector, &way),
		    0);
		assert_true(way.nb > 0);
		assert_int_equal(way.at[way.nb - 1].kind, POLICY_STEP_DECIDED);
		assert_true(way.at[way.nb - 1].rule->id == side->rule->id);
		assert_int_equal(way.at[way.nb - 1].rule->verdict, side->verdict);
	}
	free(way.at);
}

static void
check_world(const struct world *w, const struct relation *r, int audit)
{
	struct end ends[3 * NB_WORKLOADS + NB_OUTSIDE];
	unsigned int n = make_ends(w, ends);
	struct policy_point points[400];
	struct policy_pool *pool = policy_pool_create();
	struct policy_connect *c;

	assert_non_null(pool);
	assert_int_equal(policy_connect_create(&c, w->table, pool), 0);
	for (unsigned int a = 0; a < n; a++) {
		for (unsigned int b = 0; b < n; b++) {
			unsigned int fa = ends[a].addr.family, fb = ends[b].addr.family, family;
			const struct kept *k;
			unsigned int nb;

			if ((fa != 0 && fb != 0 && fa != fb) ||
			    (ends[a].name[0] != '\0' && strcmp(ends[a].name, ends[b].name) == 0))
				continue;
			family = fa != 0 ? fa : fb != 0 ? fb : 4;
			k = find(r, &ends[a], &ends[b], family);
			nb = make_points(k, points, PK_COUNT(points));
			for (unsigned int i = 0; i < nb; i++) {
				struct policy_answer answer;
				struct pk_diag d;
				int got, want;

				if (is_strange(family, points[i]))
					continue;
				assert_int_equal(policy_query_flow(w->query, &ends[a].end,
				                     &ends[b].end, points[i], &answer, &d),
				    0);
				want = (audit ? answer.audit_verdict : answer.verdict) ==
				    PK_VERDICT_ALLOW;
				got = k != NULL &&
				    policy_traffic_has(
				        &k->allowed[0], points[i].proto, points[i].selector);
				check_way(w, c, &ends[a], &ends[b], points[i], &answer);
				asked++;
				if (got != want)
					fail_msg("%s#%u -> %s#%u proto %u selector %u: want %d",
					    ends[a].name, a, ends[b].name, b, points[i].proto,
					    points[i].selector, want);
			}
		}
	}
	policy_connect_destroy(c);
	policy_pool_destroy(pool);
}

static void
test_relation(void **state)
{
	unsigned int split = 0;

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		const struct world *list[1];
		struct relation r;
		struct world w;

		world_open(&w, round, round);
		list[0] = &w;
		for (int audit = 0; audit < 2; audit++) {
			relation_make(&r, list, 1, audit);
			for (size_t i = 0; i < r.rows.nb; i++)
				split += strchr(r.rows.at[i].src, '@') != NULL;
			check_world(&w, &r, audit);
			relation_free(&r);
		}
		world_close(&w);
	}
	assert_true(split > 0); /* the hard case came up */
	print_message("# %lu flows under %d policies\n", asked, ROUNDS * NB_POLICIES);
}

/* ---- differences --------------------------------------------------------------------------------- */

static const struct policy_traffic nothing;

static void
check_difference(
    const struct world *const w[2], struct relation *const one[2], const struct relation *both)
{
	struct end ends[3 * NB_WORKLOADS + NB_OUTSIDE];
	unsigned int n = make_ends(w[0], ends);

	for (unsigned int a = 0; a < n; a++) {
		for (unsigned int b = 0; b < n; b++) {
			for (unsigned int family = 4; family <= 6; family += 2) {
				const struct kept *k[2], *d;
				struct policy_traffic t[2] = { { 0 }, { 0 } }, other = { 0 };
				static struct policy_span icmp[2] = { { 58 << 16,
					                                  58 << 16 | 0xffff },
					{ 1 << 16, 1 << 16 | 0xffff } };

				if ((ends[a].addr.family != 0 && ends[a].addr.family != family) ||
				    (ends[b].addr.family != 0 && ends[b].addr.family != family) ||
				    (ends[a].name[0] != '\0' &&
				        strcmp(ends[a].name, ends[b].name) == 0))
					continue;
				other.at = &icmp[family == 6];
				other.nb = 1;
				d = find(both, &ends[a], &ends[b], family);
				for (int i = 0; i < 2; i++) {
					k[i] = find(one[i], &ends[a], &ends[b], family);
					/* A row for both families holds the ICMP of both. */
					assert_int_equal(
					    policy_traffic_minus(&t[i],
					        k[i] != NULL ? &k[i]->allowed[0] : &nothing,
					        &other),
					    0);
				}
				asked++;
				if (d == NULL) {
					assert_true(policy_traffic_equal(&t[0], &t[1]));
				} else {
					struct policy_traffic x = { 0 };
					int differs = 0;

					for (int i = 0; i < 2; i++) {
						assert_int_equal(policy_traffic_minus(
						                     &x, &d->allowed[i], &other),
						    0);
						assert_true(policy_traffic_equal(&x, &t[i]));
						differs |= !policy_traffic_equal(
						    &d->allowed[0], &d->allowed[1]);
					}
					assert_true(differs);
					policy_traffic_fini(&x);
				}
				policy_traffic_fini(&t[0]);
				policy_traffic_fini(&t[1]);
			}
		}
	}
}

static void
test_difference(void **state)
{
	(void)state;
	asked = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct relation one[2], both, *ones[2] = { &one[0], &one[1] };
		const struct world *list[2];
		struct world w[2];

		world_open(&w[0], round, round);
		world_open(&w[1], round, round % 7 == 0 ? round : round + 1000);
		list[0] = &w[0];
		list[1] = &w[1];
		relation_make(&one[0], &list[0], 1, 0);
		relation_make(&one[1], &list[1], 1, 0);
		relation_make(&both, list, 2, 0);
		if (round % 7 == 0)
			assert_int_equal(both.rows.nb, 0);
		check_difference(list, ones, &both);
		relation_free(&one[0]);
		relation_free(&one[1]);
		relation_free(&both);
		world_close(&w[0]);
		world_close(&w[1]);
	}
	print_message("# %lu pairs compared\n", asked);
}

/* A workload that is only in one of them has all its connections added or removed. */
static void
test_workloads(void **state)
{
	static const char inventory[] =
	    "apiVersion: picket.io/v1\nkind: Tenant\nmetadata: {name: t}\nspec: {default: allow}\n"
	    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: a, tenant: t}\n"
	    "spec: {addresses: [192.0.2.1]}\n";
	static const char more[] =
	    "---\napiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: b, tenant: t}\n"
	    "spec: {addresses: [192.0.2.2]}\n";
	char *text[2] = { strdup(inventory), NULL };
	const struct world *list[2];
	struct relation r;
	struct world w[2];

	(void)state;
	assert_true(asprintf(&text[1], "%s%s", inventory, more) > 0);
	world_open_text(&w[0], text[0]);
	world_open_text(&w[1], text[1]);
	list[0] = &w[0];
	list[1] = &w[1];
	relation_make(&r, list, 2, 0);
	/* From and to the outside, and from and to a. */
	assert_int_equal(r.rows.nb, 4);
	for (size_t i = 0; i < r.rows.nb; i++) {
		assert_int_equal(r.rows.at[i].allowed[0].nb, 0);
		assert_true(
		    strcmp(r.rows.at[i].src, "t/b") == 0 || strcmp(r.rows.at[i].dst, "t/b") == 0);
	}
	relation_free(&r);
	world_close(&w[0]);
	world_close(&w[1]);
}

/* ---- who is not there ---------------------------------------------------------------------------- */

struct printed {
	struct policy_reach *reach;
	FILE *f;
};

static int
print_absent(void *arg, const struct policy_reach_row *row)
{
	struct printed *p = arg;
	char src[POLICY_REACH_TEXT], dst[POLICY_REACH_TEXT], *conn;

	if (row->src != NULL && row->dst != NULL && !row->src->absent && !row->dst->absent)
		return 0;
	conn = policy_traffic_text(policy_pool_get(policy_reach_pool(p->reach), row->allowed[0]));
	fprintf(p->f, "%s => %s : %s\n", policy_reach_end_text(row, 0, src),
	    policy_reach_end_text(row, 1, dst), conn);
	free(conn);
	return 0;
}

static void
test_absent(void **state)
{
	static const char text[] =
	    "{apiVersion: v1, kind: Pod, metadata: {name: fe, namespace: d, labels: {app: fe}}}\n---\n"
	    "{apiVersion: v1, kind: Pod, metadata: {name: be, namespace: d, labels: {app: be}}}\n---\n"
	    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: be, namespace: d}\n"
	    "spec:\n  podSelector: {matchLabels: {app: be}}\n  policyTypes: [Ingress, Egress]\n"
	    "  ingress:\n    - {from: [{namespaceSelector: {}}], ports: [{port: 9090}]}\n"
	    "    - {from: [{podSelector: {matchLabels: {app: admin}}}], ports: [{port: 22}]}\n---\n"
	    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: fe, namespace: d}\n"
	    "spec:\n  podSelector: {matchLabels: {app: fe}}\n  policyTypes: [Ingress, Egress]\n"
	    "  ingress: [{ports: [{port: 8080}]}]\n"
	    "  egress: [{to: [{namespaceSelector: {matchLabels: {team: ops}}}], ports: [{port: 514}]}]\n";
	static const char *const want[] = {
		"0.0.0.0-255.255.255.255 => d/fe : TCP 8080\n",
		"any workload of any namespace => d/be : TCP 9090\n",
		"any workload of d => d/fe : TCP 8080\n",
		"d{app=admin,ns:kubernetes.io/metadata.name=d} => d/be : TCP 22,9090\n",
		"d/fe => */{ns:kubernetes.io/metadata.name,ns:team=ops} : TCP 514\n",
	};
	struct policy_world world = { 0 };
	struct policy_absent *absent;
	struct printed r = { 0 };
	struct world w;
	char *got;
	size_t len;

	(void)state;
	assert_non_null(r.f = open_memstream(&got, &len));
	world_open_text(&w, strdup(text));
	assert_int_equal(policy_absent_create(&absent, w.model), 0);
	world.model = w.model;
	world.table = policy_absent_table(absent);
	world.absent = policy_absent_workloads(absent, &world.nb_absent);
	assert_int_equal(policy_reach_create(&r.reach, &world, 1, POLICY_BY_WORKLOAD), 0);
	assert_int_equal(policy_reach_each(r.reach, NULL, NULL, 0, print_absent, &r), 0);
	fclose(r.f);
	for (size_t i = 0; i < PK_COUNT(want); i++)
		if (strstr(got, want[i]) == NULL)
			fail_msg("%slacks\n%s", got, want[i]);
	/* Nobody is open to the outside but who says so, and nobody else may go anywhere. */
	assert_null(strstr(got, "=> 0.0.0.0"));
	assert_null(strstr(got, "d/be =>"));
	assert_null(strstr(got, "d/fe => any"));
	free(got);
	policy_reach_destroy(r.reach);
	policy_absent_destroy(absent);
	world_close(&w);
}

/* ---- texts --------------------------------------------------------------------------------------- */

static void
check_text(const struct policy_span *spans, size_t nb, const char *ports, const char *others)
{
	struct policy_traffic t = { 0 };
	char *a, *b;

	for (size_t i = 0; i < nb; i++)
		assert_int_equal(policy_traffic_append(&t, spans[i].low, spans[i].high), 0);
	a = policy_traffic_text(&t);
	b = policy_traffic_others(&t, 1);
	assert_string_equal(a, ports);
	assert_string_equal(b, others);
	free(a);
	free(b);
	policy_traffic_fini(&t);
}

#define AT(proto, port) ((uint32_t)(proto) << 16 | (port))

static void
test_text(void **state)
{
	const struct policy_span all = { 0, POLICY_LINE_LAST };
	const struct policy_span some[] = { { AT(6, 80), AT(6, 80) }, { AT(6, 90), AT(6, 99) },
		{ AT(17, 53), AT(17, 53) } };
	const struct policy_span hole[] = { { 0, AT(17, 5352) },
		{ AT(17, 5354), POLICY_LINE_LAST } };
	const struct policy_span ping[] = { { AT(1, 0x800), AT(1, 0x8ff) },
		{ AT(47, 0), AT(47, 65535) } };
	const struct policy_span no_icmp[] = { { 0, AT(0, 65535) },
		{ AT(2, 0), POLICY_LINE_LAST } };

	(void)state;
	check_text(&all, 1, "All Connections", "all");
	check_text(&all, 0, "No Connections", "");
	check_text(some, 3, "TCP 80,90-99,UDP 53", "");
	check_text(hole, 2, "SCTP 1-65535,TCP 1-65535,UDP 1-5352,5354-65535", "all");
	check_text(ping, 2, "No Connections", "icmpv4/8 proto/47");
	check_text(no_icmp, 2, "All Connections", "all but icmpv4");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_relation),
		cmocka_unit_test(test_difference),
		cmocka_unit_test(test_workloads),
		cmocka_unit_test(test_absent),
	};

	return cmocka_run_group_tests_name("policy/reach", tests, NULL, NULL);
}
