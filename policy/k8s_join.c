#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"
#include "policy/k8s.h"

/*
 * What Kubernetes objects say about each other, once all are read: a Pod has its namespace's labels,
 * and some peers are relative to the namespace of the subject or stand for nodes.
 */
struct join {
	struct compile *c;
	struct policy_map index; /* name -> index in all */
	POLICY_VECTOR(const struct policy_meta *)
	all; /* namespaces, those only Pods mention included */
};

/* ---- namespaces ---------------------------------------------------------------------------------- */

static int
same_labels(const struct policy_labels *a, const struct policy_labels *b)
{
	if (a->nb != b->nb)
		return 0;
	for (uint32_t i = 0; i < a->nb; i++)
		if (strcmp(a->at[i].key, b->at[i].key) != 0 ||
		    strcmp(a->at[i].value, b->at[i].value) != 0)
			return 0;
	return 1;
}

static void
add_namespace(struct join *j, const struct policy_meta *m)
{
	const struct policy_meta **slot = POLICY_PUSH(&j->all);

	if (slot == NULL || policy_map_put_text(&j->index, m->name, (uint32_t)j->all.nb - 1) < 0)
		j->c->nomem = 1;
	else
		*slot = m;
}

/* An inventory and a directory of manifests may both have it, if they agree. */
static void
index_namespaces(struct join *j)
{
	struct compile *c = j->c;

	for (size_t i = 0; i < c->all.namespaces.nb && !c->nomem; i++) {
		const struct policy_meta *m = &c->all.namespaces.at[i]->meta;
		uint32_t first = policy_map_get_text(&j->index, m->name);

		if (first == NONE)
			add_namespace(j, m);
		else if (!same_labels(&j->all.at[first]->labels, &m->labels))
			compile_error(c, m->file, m->line, m->column, "duplicate-name",
			    "Namespace \"%s\" stands twice, with other labels; the first is in %s:%u",
			    m->name, j->all.at[first]->file, j->all.at[first]->line);
	}
}

/* A namespace that is only mentioned has the one label that all have. */
static const struct policy_meta *
find_namespace(struct join *j, const struct policy_workload_def *w)
{
	uint32_t i = policy_map_get_text(&j->index, w->meta.tenant);
	struct policy_meta *m;

	if (i != NONE)
		return j->all.at[i];
	if (j->c->all.namespaces.nb > 0)
		compile_warn(j->c, w->meta.file, w->meta.line, w->meta.column, "unknown-namespace",
		    "namespace \"%s\" is not in the inventory, so its labels are not known",
		    w->meta.tenant);
	m = policy_arena_alloc(&j->c->arena, sizeof(*m));
	if (m != NULL)
		m->labels.at = policy_arena_alloc(&j->c->arena, sizeof(m->labels.at[0]));
	if (m == NULL || m->labels.at == NULL) {
		j->c->nomem = 1;
		return NULL;
	}
	m->name = w->meta.tenant;
	m->file = w->meta.file;
	m->labels.nb = 1;
	m->labels.at[0] = (struct policy_label){ POLICY_K8S_NAME, m->name };
	add_namespace(j, m);
	return j->c->nomem ? NULL : m;
}

static void
join_workload(struct join *j, struct policy_workload_def **slot)
{
	const struct policy_meta *ns = find_namespace(j, *slot);
	struct policy_workload_def *own;
	struct policy_labels l = { 0 };

	if (ns == NULL)
		return;
	own = policy_arena_copy(&j->c->arena, *slot, sizeof(*own));
	l.at = policy_arena_array(
	    &j->c->arena, (size_t)ns->labels.nb + (*slot)->meta.labels.nb, sizeof(l.at[0]));
	if (own == NULL || l.at == NULL) {
		j->c->nomem = 1;
		return;
	}
	for (uint32_t i = 0; i < (*slot)->meta.labels.nb; i++)
		l.at[l.nb++] = (*slot)->meta.labels.at[i];
	for (uint32_t i = 0; i < ns->labels.nb; i++)
		l.at[l.nb++] = ns->labels.at[i];
	policy_labels_sort(&l);
	own->meta.labels = l;
	*slot = own;
}

/* ---- relations ----------------------------------------------------------------------------------- */

static const char *
value_of(const struct policy_labels *l, const char *key)
{
	for (uint32_t i = 0; i < l->nb; i++)
		if (strcmp(l->at[i].key, key) == 0)
			return l->at[i].value;
	return NULL;
}

static int
selects(const struct policy_selector *s, const struct policy_labels *l)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		const struct policy_requirement *q = &s->at[i];
		const char *value = value_of(l, q->key);
		int in = 0;

		for (uint32_t v = 0; value != NULL && v < q->nb; v++)
			in |= strcmp(q->values[v], value) == 0;
		switch (q->op) {
		case POLICY_IN:
			if (!in)
				return 0;
			break;
		case POLICY_NOT_IN:
			if (in)
				return 0;
			break;
		case POLICY_EXISTS:
			if (value == NULL)
				return 0;
			break;
		case POLICY_DOES_NOT_EXIST:
			if (value != NULL)
				return 0;
			break;
		}
	}
	return 1;
}

/* Whether Pods of a namespace can be subjects at all. */
static int
admits(const struct policy_selector *s, const struct policy_labels *ns)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		struct policy_selector one = { .nb = 1, .at = &s->at[i] };

		if (strncmp(s->at[i].key, POLICY_K8S_NAMESPACE, strlen(POLICY_K8S_NAMESPACE)) ==
		        0 &&
		    !selects(&one, ns))
			return 0;
	}
	return 1;
}

/* A selector with `more` room at its end; NULL when there is no memory. */
static struct policy_requirement *
widen(struct compile *c, struct policy_selector *s, uint32_t more)
{
	struct policy_requirement *at =
	    policy_arena_array(&c->arena, (size_t)s->nb + more, sizeof(at[0]));

	if (at == NULL) {
		c->nomem = 1;
		return NULL;
	}
	if (s->nb > 0)
		memcpy(at, s->at, s->nb * sizeof(at[0]));
	s->at = at;
	return at;
}

static void
require(struct compile *c, struct policy_selector *s, const char *key, enum policy_op op,
    const char *value)
{
	const char **values = policy_arena_alloc(&c->arena, sizeof(values[0]));

	if (values == NULL) {
		c->nomem = 1;
		return;
	}
	values[0] = value;
	s->at[s->nb++] = (struct policy_requirement){
		.key = key, .op = op, .nb = value != NULL, .values = values
	};
}

/*
 * "To be selected a Namespace must have all of the labels defined in SameLabels, and they must all have
 * the same value as the subject of this policy.  If SameLabels is empty then nothing is selected."
 */
static int
relate_same(struct compile *c, const struct policy_meta *ns, struct policy_peer *p)
{
	if (p->nb_keys == 0 || widen(c, &p->selector, p->nb_keys) == NULL)
		return 0;
	for (uint32_t i = 0; i < p->nb_keys; i++) {
		const char *value = value_of(&ns->labels, p->keys[i]);

		if (value == NULL)
			return 0;
		require(c, &p->selector, p->keys[i], POLICY_IN, value);
	}
	policy_selector_sort(&p->selector);
	return 1;
}

/*
 * Not the same: all of the labels are there on both sides, and one differs at least.  "One differs" is
 * an OR, so a list of keys becomes as many peers; `out` has room for them.
 */
static uint32_t
relate_not_same(struct compile *c, const struct policy_meta *ns, const struct policy_peer *p,
    struct policy_peer *out)
{
	for (uint32_t i = 0; i < p->nb_keys; i++)
		if (value_of(&ns->labels, p->keys[i]) == NULL)
			return 0;
	for (uint32_t i = 0; i < p->nb_keys; i++) {
		out[i] = *p;
		out[i].relation = POLICY_RELATION_NONE;
		if (widen(c, &out[i].selector, p->nb_keys + 1) == NULL)
			return 0;
		for (uint32_t k = 0; k < p->nb_keys && !c->nomem; k++)
			require(c, &out[i].selector, p->keys[k], POLICY_EXISTS, NULL);
		if (!c->nomem)
			require(c, &out[i].selector, p->keys[i], POLICY_NOT_IN,
			    value_of(&ns->labels, p->keys[i]));
		policy_selector_sort(&out[i].selector);
	}
	return p->nb_keys;
}

/* "It selects the nodeIPs by matching on the IPs present in the node.Status.Addresses field." */
static int
relate_nodes(struct compile *c, struct policy_peer *p)
{
	size_t nb = 0;

	for (size_t i = 0; i < c->all.nodes.nb; i++)
		nb += c->all.nodes.at[i]->addresses.nb;
	p->kind = POLICY_PEER_NETWORKS;
	p->networks.nb = 0;
	p->networks.at = policy_arena_array(&c->arena, nb, sizeof(p->networks.at[0]));
	if (p->networks.at == NULL) {
		c->nomem = 1;
		return 0;
	}
	for (size_t i = 0; i < c->all.nodes.nb; i++) {
		const struct policy_node_def *n = c->all.nodes.at[i];

		if (!selects(&p->selector, &n->meta.labels))
			continue;
		for (uint32_t a = 0; a < n->addresses.nb; a++)
			p->networks.at[p->networks.nb++] =
			    (struct pk_prefix){ .addr = n->addresses.at[a].addr,
				    .len = (uint8_t)pk_addr_bits(&n->addresses.at[a].addr) };
	}
	return p->networks.nb > 0;
}

/* The peers of one rule as they are for subjects in `ns` (NULL: no peer asks).  Returns how many. */
static uint32_t
relate_peers(struct compile *c, const struct policy_meta *ns, const struct policy_peers *from,
    struct policy_peers *to)
{
	size_t room = 0;

	for (uint32_t i = 0; i < from->nb; i++)
		room += from->at[i].nb_keys + 1;
	to->nb = 0;
	to->at = policy_arena_array(&c->arena, room, sizeof(to->at[0]));
	if (to->at == NULL) {
		c->nomem = 1;
		return 0;
	}
	for (uint32_t i = 0; i < from->nb && !c->nomem; i++) {
		struct policy_peer p = from->at[i];
		int stays = 1;

		p.relation = POLICY_RELATION_NONE;
		switch (from->at[i].relation) {
		case POLICY_RELATION_NONE:
			break;
		case POLICY_RELATION_SAME:
			stays = relate_same(c, ns, &p);
			break;
		case POLICY_RELATION_NOT_SAME:
			to->nb += relate_not_same(c, ns, &p, &to->at[to->nb]);
			stays = 0;
			break;
		case POLICY_RELATION_NODES:
			stays = relate_nodes(c, &p);
			break;
		}
		if (stays)
			to->at[to->nb++] = p;
	}
	return to->nb;
}

static struct policy_def *
relate(struct compile *c, const struct policy_def *d, const struct policy_meta *ns)
{
	struct policy_def *own = policy_arena_copy(&c->arena, d, sizeof(*own));

	if (own == NULL) {
		c->nomem = 1;
		return NULL;
	}
	own->related = 0;
	for (int dir = 0; dir < PK_DIRECTION_COUNT && !c->nomem; dir++) {
		const struct policy_rules_def *from = &d->rules[dir];
		struct policy_rules_def *to = &own->rules[dir];

		to->nb = 0;
		to->at = policy_arena_array(&c->arena, from->nb, sizeof(to->at[0]));
		if (to->at == NULL) {
			c->nomem = 1;
			return NULL;
		}
		for (uint32_t i = 0; i < from->nb && !c->nomem; i++) {
			to->at[to->nb] = from->at[i];
			if (from->at[i].peers.any ||
			    relate_peers(c, ns, &from->at[i].peers, &to->at[to->nb].peers) > 0)
				to->nb++;
		}
	}
	if (ns != NULL && !c->nomem && widen(c, &own->subject.selector, 1) != NULL) {
		require(c, &own->subject.selector, POLICY_K8S_NAME, POLICY_IN, ns->name);
		policy_selector_sort(&own->subject.selector);
	}
	return c->nomem ? NULL : own;
}

/*
 * Whether peers ask for the subject's namespace.  Nodes that nobody has told us of cannot be known to
 * be none, so such a policy is refused as soon as there is an inventory to judge by.
 */
static int
asks_namespace(struct join *j, const struct policy_def *d)
{
	int asks = 0;

	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		for (uint32_t r = 0; r < d->rules[dir].nb; r++) {
			const struct policy_peers *peers = &d->rules[dir].at[r].peers;

			for (uint32_t i = 0; i < peers->nb; i++) {
				const struct policy_peer *p = &peers->at[i];

				asks |= p->relation == POLICY_RELATION_SAME ||
				    p->relation == POLICY_RELATION_NOT_SAME;
				if (p->relation == POLICY_RELATION_NODES &&
				    j->c->all.nodes.nb == 0 && j->all.nb > 0)
					compile_error(j->c, d->meta.file, p->line, p->column,
					    "unsupported",
					    "\"nodes\" needs the nodes in the inventory (kubectl get nodes -o yaml), and there is none");
			}
		}
	}
	return asks;
}

static void
relate_policies(struct join *j)
{
	struct compile *c = j->c;
	size_t nb = c->all.policies.nb;

	for (size_t i = 0; i < nb && !c->nomem; i++) {
		const struct policy_def *d = c->all.policies.at[i];
		struct policy_def **slot, *own;
		size_t nb_own = 0;

		if (!d->related)
			continue;
		if (!asks_namespace(j, d)) {
			own = relate(c, d, NULL);
			if (own != NULL)
				c->all.policies.at[i] = own;
			continue;
		}
		/* One for each namespace, the first in the place of the whole. */
		for (size_t k = 0; k < j->all.nb && !c->nomem; k++) {
			if (!admits(&d->subject.selector, &j->all.at[k]->labels))
				continue;
			own = relate(c, d, j->all.at[k]);
			slot = nb_own++ == 0 ? &c->all.policies.at[i]
			                     : POLICY_PUSH(&c->all.policies);
			if (slot == NULL)
				c->nomem = 1;
			else if (own != NULL)
				*slot = own;
		}
		if (nb_own == 0 && !c->nomem) {
			static const struct policy_meta nowhere;

			own = relate(c, d, &nowhere);
			if (own != NULL)
				c->all.policies.at[i] = own;
		}
	}
}

void
policy_k8s_join(struct compile *c)
{
	struct join j = { .c = c };
	int imported = 0;

	index_namespaces(&j);
	for (size_t i = 0; i < c->all.workloads.nb && !c->nomem; i++) {
		if (!c->all.workloads.at[i]->imported)
			continue;
		join_workload(&j, &c->all.workloads.at[i]);
		imported = 1;
	}
	/* So that no identity is shared by a Pod and a workload of ours: their defaults differ. */
	if (imported && !c->nomem)
		compile_matters(c, compile_symbol(c, POLICY_K8S_NAME));
	if (!c->nomem)
		relate_policies(&j);
	free(j.all.at);
	policy_map_fini(&j.index);
}

/* ---- ranks --------------------------------------------------------------------------------------- */

/* Whether it matters which of two policies comes first in a direction. */
static int
may_differ(const struct policy_rules_def *a, const struct policy_rules_def *b)
{
	if (a->nb == 0 || b->nb == 0)
		return 0;
	for (uint32_t i = 0; i < a->nb; i++)
		if (a->at[i].action != a->at[0].action)
			return 1;
	for (uint32_t i = 0; i < b->nb; i++)
		if (b->at[i].action != a->at[0].action)
			return 1;
	return 0;
}

static int
is_ambiguous(const struct compile_policy *a, const struct compile_policy *b)
{
	/* Two of ours have been compared, and who writes for all tenants comes first.  NetworkPolicies
	 * all allow, and those that one policy has been split into share no subject. */
	if ((a->def->meta.kind == NULL && b->def->meta.kind == NULL) || a->tier != b->tier ||
	    a->def->priority != b->def->priority ||
	    strcmp(a->def->meta.tenant, b->def->meta.tenant) != 0)
		return 0;
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
		if (may_differ(&a->def->rules[dir], &b->def->rules[dir]))
			return 1;
	return 0;
}

static void
check(struct compile *c, const struct compile_identity *id, uint32_t *last)
{
	const numbers *v = &id->policies;

	for (size_t k = 1; k < v->nb; k++) {
		const struct compile_policy *a = &c->policies.at[v->at[k - 1]];
		const struct compile_policy *b = &c->policies.at[v->at[k]];

		/* Said once for each policy, whoever else is its subject. */
		if (v->at[k] == *last || !is_ambiguous(a, b))
			continue;
		*last = v->at[k];
		compile_error(c, b->def->meta.file, b->def->priority_line, b->def->priority_column,
		    "equal-priority",
		    "priority %u in tier %s is that of %s \"%s\" already (%s:%u), and some workload is the subject of both; which comes first?",
		    b->def->priority, b->tier->name,
		    a->def->meta.kind != NULL ? a->def->meta.kind : "Policy", a->def->meta.name,
		    a->def->meta.file, a->def->priority_line);
	}
}

void
policy_k8s_check_identity(struct compile *c, const struct compile_identity *id)
{
	uint32_t last = NONE;

	check(c, id, &last);
}

void
policy_k8s_check(struct compile *c)
{
	uint32_t last = NONE;

	for (size_t i = 0; i < c->identities.nb; i++)
		check(c, &c->identities.at[i], &last);
}
