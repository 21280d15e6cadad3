#include "policy/lint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/k8s.h"
#include "policy/lint_priv.h"
#include "policy/network.h"

/* ---- selectors ----------------------------------------------------------------------------------- */

static int
has_value(const struct policy_requirement *q, const char *value)
{
	for (uint32_t i = 0; i < q->nb; i++)
		if (strcmp(q->values[i], value) == 0)
			return 1;
	return 0;
}

/* Whether no value of one key, and no absence, meets both. */
static int
exclude(const struct policy_requirement *a, const struct policy_requirement *b)
{
	uint32_t left = 0;

	if (a->op == POLICY_DOES_NOT_EXIST)
		return b->op == POLICY_IN || b->op == POLICY_EXISTS;
	if (b->op == POLICY_DOES_NOT_EXIST)
		return a->op == POLICY_IN || a->op == POLICY_EXISTS;
	if (a->op != POLICY_IN && b->op != POLICY_IN)
		return 0;
	if (a->op != POLICY_IN)
		return exclude(b, a);
	for (uint32_t i = 0; i < a->nb; i++)
		left += b->op == POLICY_EXISTS ||
		    (b->op == POLICY_IN) == has_value(b, a->values[i]);
	return left == 0;
}

struct lint {
	const struct policy_inventory *inventory;
	struct policy_findings *findings;
	struct policy_arena arena;
	POLICY_VECTOR(const char *) keys; /* of labels that somebody carries */
	struct policy_map key_index;
};

/* Keys of namespaces are shown as people write them. */
static const char *
plain(const char *key)
{
	size_t len = strlen(POLICY_K8S_NAMESPACE);

	return strncmp(key, POLICY_K8S_NAMESPACE, len) == 0 ? key + len : key;
}

static void
unknown_key(struct lint *l, const struct policy_meta *m, uint32_t line, uint32_t column,
    const struct policy_requirement *q)
{
	const char *near = pk_suggest(q->key, l->keys.at, l->keys.nb);
	const char *whose = q->key == plain(q->key) ? "workload" : "namespace";

	/* Who asks for a label that nobody has selects nobody, which has been said; unless it is near
	 * enough to another to be a slip. */
	if ((q->op == POLICY_IN || q->op == POLICY_EXISTS) && near == NULL)
		return;
	policy_findings_add(l->findings, POLICY_WARNING, m->file, line, column, "unknown-label",
	    "no %s has a label \"%s\"%s%s%s", whose, plain(q->key),
	    near != NULL ? "; did you mean \"" : "", near != NULL ? plain(near) : "",
	    near != NULL ? "\"?" : "");
}

static void
lint_selector(struct lint *l, const struct policy_meta *m, uint32_t line, uint32_t column,
    const struct policy_selector *s)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(s->at[i].key, s->at[k].key) == 0 &&
			    exclude(&s->at[i], &s->at[k]))
				policy_findings_add(l->findings, POLICY_WARNING, m->file, line,
				    column, "contradiction",
				    "this selector selects nobody, ever: it asks two things of \"%s\" that exclude each other",
				    plain(s->at[i].key));
		if (l->inventory->nb_workloads > 0 &&
		    policy_map_get_text(&l->key_index, s->at[i].key) == POLICY_MAP_NONE)
			unknown_key(l, m, line, column, &s->at[i]);
	}
}

/* ---- networks ------------------------------------------------------------------------------------ */

static void
lint_covered(struct lint *l, const struct policy_meta *m, const struct policy_peer *p,
    const struct policy_prefixes *v, const char *what)
{
	char inner[PK_PREFIX_TEXT], outer[PK_PREFIX_TEXT];

	for (uint32_t i = 0; i < v->nb; i++) {
		for (uint32_t k = 0; k < v->nb; k++) {
			if (k == i || !policy_prefix_covers(&v->at[k], &v->at[i]) ||
			    (k > i && v->at[k].len == v->at[i].len))
				continue;
			policy_findings_add(l->findings, POLICY_WARNING, m->file, p->line,
			    p->column, "network-covered", "%s %s lies in %s and adds nothing", what,
			    pk_prefix_text(&v->at[i], inner), pk_prefix_text(&v->at[k], outer));
			break;
		}
	}
}

static int
lint_networks(struct lint *l, const struct policy_meta *m, const struct policy_peer *p)
{
	struct policy_networks n = { 0 };
	int rc =
	    policy_networks_add(&n, p->networks.at, p->networks.nb, p->except.at, p->except.nb);

	if (rc == 0 && n.v4.nb + n.v6.nb == 0)
		policy_findings_add(l->findings, POLICY_WARNING, m->file, p->line, p->column,
		    "network-empty", "these networks are empty: their exceptions leave nothing");
	policy_networks_fini(&n);
	lint_covered(l, m, p, &p->networks, "network");
	lint_covered(l, m, p, &p->except, "exception");
	return rc;
}

static int
lint_peers(struct lint *l, const struct policy_meta *m, const struct policy_peers *peers)
{
	int rc = 0;

	for (uint32_t i = 0; i < peers->nb && rc == 0; i++) {
		const struct policy_peer *p = &peers->at[i];

		if (p->kind == POLICY_PEER_WORKLOADS && p->relation == POLICY_RELATION_NONE)
			lint_selector(l, m, p->line, p->column, &p->selector);
		else if (p->kind == POLICY_PEER_NETWORKS)
			rc = lint_networks(l, m, p);
	}
	return rc;
}

/* ---- rules --------------------------------------------------------------------------------------- */

/* Everybody: any, or the whole of a family. */
static int
is_everybody(const struct policy_peers *peers)
{
	if (peers->any)
		return 1;
	for (uint32_t i = 0; i < peers->nb; i++)
		for (uint32_t k = 0; k < peers->at[i].networks.nb; k++)
			if (peers->at[i].networks.at[k].len == 0 && peers->at[i].except.nb == 0)
				return 1;
	return 0;
}

static int
lint_policy(struct lint *l, const struct policy_def *d)
{
	const struct policy_meta *m = &d->meta;
	int rc = 0;

	if (d->subject.kind == POLICY_PEER_WORKLOADS)
		lint_selector(l, m, d->subject.line != 0 ? d->subject.line : m->line,
		    d->subject.line != 0 ? d->subject.column : m->column, &d->subject.selector);
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		for (uint32_t i = 0; i < d->rules[dir].nb && rc == 0; i++) {
			const struct policy_rule_def *r = &d->rules[dir].at[i];

			rc = lint_peers(l, m, &r->peers);
			if (r->action == PK_VERDICT_ALLOW && d->mode == POLICY_ENFORCE &&
			    r->services.any && is_everybody(&r->peers))
				policy_findings_add(l->findings, POLICY_NOTE, m->file, r->line,
				    r->column, "allow-any",
				    "rule \"%s\" allows everything %s the whole world", r->name,
				    dir == PK_INGRESS ? "from" : "to");
		}
	}
	return rc;
}

static int
lint_group(struct lint *l, const struct policy_group_def *g)
{
	const struct policy_meta *m = &g->meta;
	int rc = lint_peers(l, m, &g->members), empty = g->members.nb > 0 && !g->members.any;

	for (uint32_t i = 0; i < g->members.nb; i++) {
		const struct policy_peer *p = &g->members.at[i];

		if (p->kind != POLICY_PEER_WORKLOADS ||
		    policy_inventory_selects_any(
		        l->inventory, &p->selector, p->tenant != NULL ? p->tenant : m->tenant))
			empty = 0;
	}
	if (empty && l->inventory->nb_workloads > 0)
		policy_findings_add(l->findings, POLICY_WARNING, m->file, m->line, m->column,
		    "matches-nothing", "group \"%s\" has no members", m->name);
	return rc;
}

/* ---- keys ---------------------------------------------------------------------------------------- */

static int
note_labels(struct lint *l, const struct policy_labels *labels)
{
	for (uint32_t i = 0; i < labels->nb; i++) {
		const char **slot;

		if (policy_map_get_text(&l->key_index, labels->at[i].key) != POLICY_MAP_NONE)
			continue;
		if ((slot = POLICY_PUSH(&l->keys)) == NULL ||
		    policy_map_put_text(&l->key_index, labels->at[i].key, 0) < 0)
			return -ENOMEM;
		*slot = labels->at[i].key;
	}
	return 0;
}

static int
note_keys(struct lint *l)
{
	static struct policy_label name = { POLICY_K8S_NAME, "" };
	static const struct policy_labels always = { 1, &name };
	const struct policy_namespace_def *n;
	const struct policy_workload_def *w;
	int rc = l->inventory->has_pods ? note_labels(l, &always) : 0;

	POLICY_EACH(l->inventory->model, workloads, w)
	if (rc == 0)
		rc = note_labels(l, &w->meta.labels);
	POLICY_EACH(l->inventory->model, namespaces, n)
	if (rc == 0)
		rc = note_labels(l, &n->meta.labels);
	return rc;
}

int
policy_lint_text(const struct policy_inventory *v, struct policy_findings *f)
{
	struct lint l = { .inventory = v, .findings = f };
	const struct policy_group_def *g;
	const struct policy_def *d;
	int rc = note_keys(&l);

	POLICY_EACH(v->model, policies, d)
	if (rc == 0)
		rc = lint_policy(&l, d);
	POLICY_EACH(v->model, groups, g)
	if (rc == 0)
		rc = lint_group(&l, g);
	policy_map_fini(&l.key_index);
	free(l.keys.at);
	policy_arena_fini(&l.arena);
	return rc;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

int
policy_lint(const struct policy_model *m, const struct policy_table *t, struct policy_findings *f)
{
	struct policy_pool *pool = policy_pool_create();
	struct policy_connect *c = NULL;
	struct policy_inventory v;
	int rc = policy_inventory_init(&v, m);

	if (rc == 0 && pool == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = policy_lint_text(&v, f);
	if (rc == 0 && v.nb_workloads > 0)
		rc = policy_connect_create(&c, t, pool);
	if (rc == 0 && c != NULL)
		rc = policy_lint_rules(&v, t, c, f);
	if (rc == 0 && c != NULL)
		rc = policy_lint_terms(&v, c, f);
	policy_connect_destroy(c);
	policy_pool_destroy(pool);
	policy_inventory_fini(&v);
	return rc;
}
