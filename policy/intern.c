#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"

/* Labels to symbols, label sets to identities, selectors to the identities they match. */

uint32_t
compile_symbol_find(const struct compile *c, const char *text)
{
	return policy_map_get_text(&c->symbol_index, text);
}

uint32_t
compile_symbol(struct compile *c, const char *text)
{
	uint32_t symbol = compile_symbol_find(c, text);
	const char **slot;
	uint32_t *nb;

	if (symbol != NONE)
		return symbol;
	symbol = (uint32_t)c->symbols.nb;
	slot = POLICY_PUSH(&c->symbols);
	nb = POLICY_PUSH(&c->matters);
	/* The source that mentions it first may be the first to go. */
	text = policy_arena_text(&c->arena, text);
	if (slot == NULL || nb == NULL || text == NULL ||
	    policy_map_put_text(&c->symbol_index, text, symbol) < 0) {
		c->nomem = 1;
		return 0;
	}
	*slot = text;
	*nb = 0;
	return symbol;
}

void
compile_matters(struct compile *c, uint32_t symbol)
{
	if (!c->nomem)
		c->matters.at[symbol]++;
}

static uint32_t
tenant_find(const struct compile *c, const char *name)
{
	return policy_map_get_text(&c->tenant_index, name);
}

static int
append(struct compile_scratch *t, const char *s)
{
	size_t len = strlen(s);

	if (policy_grow(&t->at, &t->cap, t->nb + len + 1, 1) < 0)
		return -1;
	memcpy(t->at + t->nb, s, len + 1);
	t->nb += len;
	return 0;
}

uint32_t
compile_selector(struct compile *c, const char *tenant, const struct policy_selector *s)
{
	struct policy_arena before = c->arena;
	const char *inner = policy_selector_text(&c->arena, s), *text;
	struct compile_selector *new;
	uint32_t i;

	c->scratch.nb = 0;
	if (inner == NULL || append(&c->scratch, tenant) != 0 || append(&c->scratch, "{") != 0 ||
	    append(&c->scratch, inner) != 0 || append(&c->scratch, "}") != 0) {
		c->nomem = 1;
		return NONE;
	}
	policy_arena_rewind(&c->arena, &before);
	i = policy_map_get(&c->selector_index, c->scratch.at, c->scratch.nb);
	if (i != NONE) {
		c->selectors.at[i].source = s;
		return i;
	}
	i = (uint32_t)c->selectors.nb;
	text = policy_arena_text(&c->arena, c->scratch.at);
	new = POLICY_PUSH(&c->selectors);
	if (text == NULL || new == NULL || policy_map_put_text(&c->selector_index, text, i) < 0) {
		c->nomem = 1;
		return NONE;
	}
	*new = (struct compile_selector){ .text = text, .source = s, .nb = s->nb, .set = NONE };
	new->everywhere = strcmp(tenant, POLICY_ALL_TENANTS) == 0;
	new->tenant = tenant_find(c, tenant);
	new->requirements = policy_arena_array(&c->arena, s->nb, sizeof(new->requirements[0]));
	if (new->requirements == NULL) {
		c->nomem = 1;
		return NONE;
	}
	for (uint32_t q = 0; q < s->nb && !c->nomem; q++) {
		struct compile_requirement *r = &new->requirements[q];
		uint32_t *values = policy_arena_array(&c->arena, s->at[q].nb, sizeof(values[0]));

		if (values == NULL) {
			c->nomem = 1;
			return NONE;
		}
		r->key = compile_symbol(c, s->at[q].key);
		r->op = s->at[q].op;
		r->nb = s->at[q].nb;
		r->values = values;
		compile_matters(c, r->key);
		for (uint32_t v = 0; v < r->nb; v++)
			values[v] = compile_symbol(c, s->at[q].values[v]);
	}
	return i;
}

/* ---- identities ---------------------------------------------------------------------------------- */

static int
matters(const struct compile *c, const char *text)
{
	uint32_t symbol = compile_symbol_find(c, text);

	return symbol != NONE && c->matters.at[symbol];
}

/* What only a DPU can give; whoever has it otherwise has nothing. */
static const struct policy_label posture = { POLICY_ATTESTED, POLICY_ATTESTED_TRUE };

static bool
is_forged(const struct policy_label *l)
{
	return l != &posture && strcmp(l->key, POLICY_ATTESTED) == 0;
}

/* Label `i` of a workload, by key, with one more while its host is attested; NULL after the last. */
static const struct policy_label *
label(const struct policy_workload_def *w, bool attested, uint32_t i)
{
	const struct policy_labels *own = &w->meta.labels;

	if (i >= own->nb + attested)
		return NULL;
	if (!attested)
		return &own->at[i];
	if (i < own->nb && strcmp(own->at[i].key, POLICY_ATTESTED) < 0)
		return &own->at[i];
	if (i == 0 || strcmp(own->at[i - 1].key, POLICY_ATTESTED) < 0)
		return &posture;
	return &own->at[i - 1];
}

static int
append_key(const struct compile *c, struct compile_scratch *t, const struct policy_workload_def *w,
    bool attested)
{
	const struct policy_label *l;
	const char *part = "";
	char service[32];
	int rc;

	t->nb = 0;
	rc = append(t, w->meta.tenant) | append(t, "{");
	for (uint32_t i = 0; (l = label(w, attested, i)) != NULL; i++) {
		if (!matters(c, l->key) || is_forged(l))
			continue;
		rc |= append(t, part) | append(t, l->key) | append(t, "=") | append(t, l->value);
		part = ",";
	}
	part = ";";
	for (uint32_t i = 0; i < w->ports.nb; i++) {
		const struct policy_port *p = &w->ports.at[i];
		struct pk_service s = { .proto = p->proto, .low = p->port, .high = p->port };

		if (!matters(c, p->name))
			continue;
		rc |= append(t, part) | append(t, p->name) | append(t, "=") |
		    append(t, policy_service_text(service, sizeof(service), &s));
		part = ",";
	}
	return rc | append(t, "}");
}

static int
fill_identity(struct compile *c, struct compile_identity *id, const char *key,
    const struct policy_workload_def *w, bool attested)
{
	const struct policy_label *l;
	size_t skip = strlen(w->meta.tenant) + 1, len = strlen(key);
	char *labels = policy_arena_text(&c->arena, key + skip);
	struct compile_port *ports = policy_arena_array(&c->arena, w->ports.nb, sizeof(ports[0]));
	uint32_t *pairs =
	    policy_arena_array(&c->arena, w->meta.labels.nb + 1, 2 * sizeof(pairs[0]));

	if (labels == NULL || ports == NULL || pairs == NULL)
		return -1;
	labels[len - skip - 1] = '\0';
	*id = (struct compile_identity){ .key = key,
		.labels = labels,
		.tenant = tenant_find(c, w->meta.tenant),
		.imported = w->imported,
		.labels_at = pairs,
		.ports = ports };
	for (uint32_t i = 0; (l = label(w, attested, i)) != NULL; i++) {
		if (!matters(c, l->key) || is_forged(l))
			continue;
		pairs[2 * id->nb_labels] = compile_symbol_find(c, l->key);
		pairs[2 * id->nb_labels++ + 1] = compile_symbol(c, l->value);
	}
	for (uint32_t i = 0; i < w->ports.nb; i++) {
		const struct policy_port *p = &w->ports.at[i];

		if (matters(c, p->name))
			ports[id->nb_ports++] = (struct compile_port){
				compile_symbol_find(c, p->name), p->proto, p->port
			};
	}
	return c->nomem ? -1 : 0;
}

static int
by_key(const void *a, const void *b)
{
	return strcmp(
	    ((const struct compile_identity *)a)->key, ((const struct compile_identity *)b)->key);
}

/* Sort by key, then let workloads find their identity's new place. */
static int
sort_identities(struct compile *c)
{
	uint32_t *place;

	place = policy_arena_array(&c->arena, c->identities.nb, sizeof(place[0]));
	if (place == NULL)
		return -1;
	for (size_t i = 0; i < c->identities.nb; i++)
		c->identities.at[i].id = (uint32_t)i; /* for a moment, its old place */
	if (c->identities.nb > 1)
		qsort(c->identities.at, c->identities.nb, sizeof(c->identities.at[0]), by_key);
	for (size_t i = 0; i < c->identities.nb; i++)
		place[c->identities.at[i].id] = (uint32_t)i;
	for (size_t i = 0; i < c->all.workloads.nb; i++) {
		c->workload_identity[i] = place[c->workload_identity[i]];
		c->workload_unattested[i] = place[c->workload_unattested[i]];
	}
	return 0;
}

static int
number_identity(struct compile *c, struct compile_identity *id)
{
	struct compile_tenant *t = &c->tenants.at[id->tenant];

	if (t->nb++ == 0)
		t->number = policy_ids_get(c->ids, t->name);
	id->id = policy_ids_get(c->ids, id->key);
	return t->number != 0 && id->id != 0 ? 0 : -1;
}

/* Numbers are asked for in order of key, so equal input gets equal numbers. */
static int
number_identities(struct compile *c)
{
	for (size_t i = 0; i < c->identities.nb; i++)
		if (number_identity(c, &c->identities.at[i]) < 0)
			return -1;
	return 0;
}

uint32_t
compile_identity(struct compile *c, const struct policy_workload_def *w, bool attested)
{
	struct compile_identity *id;
	char *key;
	uint32_t at;

	/* Behind no DPU nobody is attested. */
	attested = attested && w->dpu[0] != '\0' && matters(c, POLICY_ATTESTED);
	if (append_key(c, &c->scratch, w, attested) != 0) {
		c->nomem = 1;
		return NONE;
	}
	at = policy_map_get(&c->identity_index, c->scratch.at, c->scratch.nb);
	if (at != NONE)
		return at;
	at = (uint32_t)c->identities.nb;
	key = policy_arena_text(&c->arena, c->scratch.at);
	if (key == NULL || (id = POLICY_PUSH(&c->identities)) == NULL ||
	    fill_identity(c, id, key, w, attested) < 0 ||
	    policy_map_put(&c->identity_index, key, c->scratch.nb, at) < 0) {
		c->nomem = 1;
		return NONE;
	}
	return at;
}

void
compile_identities(struct compile *c)
{
	size_t nb = c->all.workloads.nb;
	/* Where no selector asks for it, a host's posture makes nobody another. */
	bool asked = matters(c, POLICY_ATTESTED);

	c->workload_identity = policy_arena_array(&c->arena, nb, sizeof(c->workload_identity[0]));
	c->workload_unattested =
	    policy_arena_array(&c->arena, nb, sizeof(c->workload_unattested[0]));
	if (c->workload_identity == NULL || c->workload_unattested == NULL)
		c->nomem = 1;
	for (size_t i = 0; i < nb && !c->nomem; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];
		uint32_t attested = compile_identity(c, w, true);
		uint32_t not = attested != NONE && asked ? compile_identity(c, w, false) : attested;

		if (not == NONE)
			break;
		c->workload_identity[i] = attested;
		c->workload_unattested[i] = not ;
		c->identities.at[attested].nb_workloads++;
		if (not != attested)
			c->identities.at[not ].nb_workloads++;
	}
	/* They move now; a compilation that lives indexes them again. */
	policy_map_fini(&c->identity_index);
	if (!c->nomem && (sort_identities(c) < 0 || number_identities(c) < 0))
		c->nomem = 1;
}

/* ---- selectors ----------------------------------------------------------------------------------- */

struct posting_key {
	uint32_t tenant, key, value;
};

static void
post(struct compile *c, const struct posting_key *k, uint32_t identity)
{
	struct compile_postings *p = &c->postings;
	uint32_t i = policy_map_get(&p->index, k, sizeof(*k));

	if (i == NONE) {
		struct posting_key *own = policy_arena_copy(&c->arena, k, sizeof(*k));
		numbers *list;

		i = (uint32_t)p->lists.nb;
		if (own == NULL || (list = POLICY_PUSH(&p->lists)) == NULL ||
		    policy_map_put(&p->index, own, sizeof(*own), i) < 0) {
			c->nomem = 1;
			return;
		}
		memset(list, 0, sizeof(*list));
	}
	compile_push(c, &p->lists.at[i], identity);
}

static const numbers *
posted(const struct compile_postings *p, uint32_t tenant, uint32_t key, uint32_t value)
{
	static const numbers nobody;
	struct posting_key k = { tenant, key, value };
	uint32_t i = policy_map_get(&p->index, &k, sizeof(k));

	return i != NONE ? &p->lists.at[i] : &nobody;
}

static int
holds(const struct compile_identity *id, const struct compile_requirement *q)
{
	uint32_t value = NONE;
	int in = 0;

	for (uint32_t i = 0; i < id->nb_labels; i++)
		if (id->labels_at[2 * i] == q->key)
			value = id->labels_at[2 * i + 1];
	for (uint32_t i = 0; i < q->nb && !in; i++)
		in = q->values[i] == value;
	switch (q->op) {
	case POLICY_IN:
		return value != NONE && in;
	case POLICY_NOT_IN:
		return value == NONE || !in;
	case POLICY_EXISTS:
		return value != NONE;
	case POLICY_DOES_NOT_EXIST:
		return value == NONE;
	}
	return 0;
}

int
compile_selects(const struct compile_selector *s, const struct compile_identity *id)
{
	for (uint32_t q = 0; q < s->nb; q++)
		if (!holds(id, &s->requirements[q]))
			return 0;
	return 1;
}

static void
keep_if_holds(struct compile *c, struct compile_selector *s, uint32_t identity)
{
	const struct compile_identity *id = &c->identities.at[identity];

	if (id->nb_workloads > 0 && compile_selects(s, id))
		compile_push(c, &s->members, identity);
}

/* How many candidates a requirement leaves, when it can say. */
static size_t
candidates(const struct compile_postings *p, uint32_t tenant, const struct compile_requirement *q)
{
	size_t n = 0;

	if (q->op == POLICY_EXISTS)
		return posted(p, tenant, q->key, NONE)->nb;
	if (q->op != POLICY_IN)
		return SIZE_MAX;
	for (uint32_t v = 0; v < q->nb; v++)
		n += posted(p, tenant, q->key, q->values[v])->nb;
	return n;
}

static void
match_tenant(struct compile *c, struct compile_selector *s, uint32_t tenant)
{
	const struct compile_postings *p = &c->postings;
	const struct compile_requirement *best = NULL;
	const numbers *all;
	size_t least = c->tenants.at[tenant].nb;

	/* Start from the requirement that leaves the fewest, and try only those. */
	for (uint32_t q = 0; q < s->nb; q++) {
		size_t n = candidates(p, tenant, &s->requirements[q]);

		if (n < least) {
			least = n;
			best = &s->requirements[q];
		}
	}
	if (best == NULL) {
		all = posted(p, tenant, NONE, NONE);
		for (size_t i = 0; i < all->nb; i++)
			keep_if_holds(c, s, all->at[i]);
		return;
	}
	for (uint32_t v = 0; v < PK_MAX(best->nb, 1U); v++) {
		const numbers *list = posted(
		    p, tenant, best->key, best->op == POLICY_EXISTS ? NONE : best->values[v]);

		for (size_t i = 0; i < list->nb; i++)
			keep_if_holds(c, s, list->at[i]);
	}
}

static void
post_identity(struct compile *c, uint32_t identity)
{
	const struct compile_identity *id = &c->identities.at[identity];
	struct posting_key k = { id->tenant, NONE, NONE };

	post(c, &k, identity);
	for (uint32_t l = 0; l < id->nb_labels; l++) {
		k.key = id->labels_at[2 * l];
		k.value = id->labels_at[2 * l + 1];
		post(c, &k, identity);
		k.value = NONE;
		post(c, &k, identity);
	}
}

void
compile_identity_enter(struct compile *c, uint32_t identity)
{
	if (number_identity(c, &c->identities.at[identity]) < 0)
		c->nomem = 1;
	else
		post_identity(c, identity);
}

void
compile_selector_members(struct compile *c, struct compile_selector *s)
{
	if (s->everywhere)
		for (uint32_t t = 0; t < c->tenants.nb; t++)
			match_tenant(c, s, t);
	else if (s->tenant != NONE)
		match_tenant(c, s, s->tenant);
	if (s->members.nb > 1)
		qsort(s->members.at, s->members.nb, sizeof(s->members.at[0]), compile_by_number);
}

void
compile_members(struct compile *c)
{
	for (size_t i = 0; i < c->identities.nb && !c->nomem; i++)
		post_identity(c, (uint32_t)i);
	for (size_t i = 0; i < c->selectors.nb && !c->nomem; i++)
		compile_selector_members(c, &c->selectors.at[i]);
}

void
compile_postings_fini(struct compile_postings *p)
{
	for (size_t i = 0; i < p->lists.nb; i++)
		free(p->lists.at[i].at);
	free(p->lists.at);
	policy_map_fini(&p->index);
}
