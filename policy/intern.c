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
	uint8_t *flag;

	if (symbol != NONE)
		return symbol;
	symbol = (uint32_t)c->symbols.nb;
	slot = POLICY_PUSH(&c->symbols);
	flag = POLICY_PUSH(&c->matters);
	if (slot == NULL || flag == NULL ||
	    policy_map_put_text(&c->symbol_index, text, symbol) < 0) {
		c->nomem = 1;
		return 0;
	}
	*slot = text;
	*flag = 0;
	return symbol;
}

void
compile_matters(struct compile *c, uint32_t symbol)
{
	if (!c->nomem)
		c->matters.at[symbol] = 1;
}

static uint32_t
tenant_find(const struct compile *c, const char *name)
{
	return policy_map_get_text(&c->tenant_index, name);
}

uint32_t
compile_selector(struct compile *c, const char *tenant, const struct policy_selector *s)
{
	const char *inner = policy_selector_text(&c->arena, s), *text;
	struct compile_selector *new;
	uint32_t i;

	text = inner != NULL ? policy_arena_printf(&c->arena, "%s{%s}", tenant, inner) : NULL;
	if (text == NULL) {
		c->nomem = 1;
		return NONE;
	}
	i = policy_map_get_text(&c->selector_index, text);
	if (i != NONE)
		return i;
	i = (uint32_t)c->selectors.nb;
	new = POLICY_PUSH(&c->selectors);
	if (new == NULL || policy_map_put_text(&c->selector_index, text, i) < 0) {
		c->nomem = 1;
		return NONE;
	}
	*new = (struct compile_selector){ .text = text, .source = s, .set = NONE };
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

/* A text that grows on the heap; one serves for all workloads. */
struct text {
	char *at;
	size_t nb, cap;
};

static int
append(struct text *t, const char *s)
{
	size_t len = strlen(s);

	if (policy_grow(&t->at, &t->cap, t->nb + len + 1, 1) < 0)
		return -1;
	memcpy(t->at + t->nb, s, len + 1);
	t->nb += len;
	return 0;
}

static int
append_key(const struct compile *c, struct text *t, const struct policy_workload_def *w)
{
	const char *part = "";
	char service[32];
	int rc;

	t->nb = 0;
	rc = append(t, w->meta.tenant) | append(t, "{");
	for (uint32_t i = 0; i < w->meta.labels.nb; i++) {
		const struct policy_label *l = &w->meta.labels.at[i];

		if (!matters(c, l->key))
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
    const struct policy_workload_def *w)
{
	size_t skip = strlen(w->meta.tenant) + 1, len = strlen(key);
	char *labels = policy_arena_text(&c->arena, key + skip);
	struct compile_port *ports = policy_arena_array(&c->arena, w->ports.nb, sizeof(ports[0]));
	uint32_t *pairs = policy_arena_array(&c->arena, w->meta.labels.nb, 2 * sizeof(pairs[0]));

	if (labels == NULL || ports == NULL || pairs == NULL)
		return -1;
	labels[len - skip - 1] = '\0';
	*id = (struct compile_identity){ .key = key,
		.labels = labels,
		.tenant = tenant_find(c, w->meta.tenant),
		.imported = w->imported,
		.labels_at = pairs,
		.ports = ports };
	for (uint32_t i = 0; i < w->meta.labels.nb; i++) {
		const struct policy_label *l = &w->meta.labels.at[i];

		if (!matters(c, l->key))
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

/* Numbers are asked for in order of key, so equal input gets equal numbers. */
static int
number_identities(struct compile *c)
{
	for (size_t i = 0; i < c->identities.nb; i++) {
		struct compile_identity *id = &c->identities.at[i];
		struct compile_tenant *t = &c->tenants.at[id->tenant];

		if (t->nb++ == 0) {
			t->first = (uint32_t)i;
			t->number = policy_ids_get(c->ids, t->name);
			if (t->number == 0)
				return -1;
		}
		id->id = policy_ids_get(c->ids, id->key);
		if (id->id == 0)
			return -1;
	}
	return 0;
}

/* The identity of `w`; NONE when there is no memory. */
static uint32_t
intern_workload(struct compile *c, struct policy_map *index, struct text *t,
    const struct policy_workload_def *w)
{
	struct compile_identity *id;
	uint32_t at;
	char *key;

	if (append_key(c, t, w) != 0)
		return NONE;
	at = policy_map_get(index, t->at, t->nb);
	if (at != NONE)
		return at;
	key = policy_arena_text(&c->arena, t->at);
	at = (uint32_t)c->identities.nb;
	if (key == NULL || (id = POLICY_PUSH(&c->identities)) == NULL ||
	    fill_identity(c, id, key, w) < 0 || policy_map_put(index, key, t->nb, at) < 0)
		return NONE;
	return at;
}

/*
 * `w` as it is while its host is attested: with one label more, which only a DPU can give.  Behind no DPU
 * nobody is attested.
 */
static const struct policy_workload_def *
with_attested(struct compile *c, const struct policy_workload_def *w)
{
	struct policy_workload_def *copy;
	struct policy_label *labels;
	uint32_t nb = w->meta.labels.nb, i = 0;

	if (!matters(c, POLICY_ATTESTED) || w->dpu[0] == '\0')
		return w;
	copy = policy_arena_copy(&c->arena, w, sizeof(*w));
	labels = policy_arena_array(&c->arena, nb + 1, sizeof(labels[0]));
	if (copy == NULL || labels == NULL)
		return NULL;
	while (i < nb && strcmp(w->meta.labels.at[i].key, POLICY_ATTESTED) < 0) {
		labels[i] = w->meta.labels.at[i];
		i++;
	}
	labels[i] = (struct policy_label){ POLICY_ATTESTED, POLICY_ATTESTED_TRUE };
	for (; i < nb; i++)
		labels[i + 1] = w->meta.labels.at[i];
	copy->meta.labels = (struct policy_labels){ .nb = nb + 1, .at = labels };
	return copy;
}

void
compile_identities(struct compile *c)
{
	struct policy_map index = { 0 };
	struct text t = { 0 };
	size_t nb = c->all.workloads.nb;

	c->workload_identity = policy_arena_array(&c->arena, nb, sizeof(c->workload_identity[0]));
	c->workload_unattested =
	    policy_arena_array(&c->arena, nb, sizeof(c->workload_unattested[0]));
	if (c->workload_identity == NULL || c->workload_unattested == NULL)
		c->nomem = 1;
	for (size_t i = 0; i < nb && !c->nomem; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];
		const struct policy_workload_def *more = with_attested(c, w);

		c->workload_unattested[i] = intern_workload(c, &index, &t, w);
		c->workload_identity[i] = more == w ? c->workload_unattested[i]
		    : more != NULL                  ? intern_workload(c, &index, &t, more)
		                                    : NONE;
		if (c->workload_identity[i] == NONE || c->workload_unattested[i] == NONE)
			c->nomem = 1;
	}
	free(t.at);
	policy_map_fini(&index);
	if (!c->nomem && (sort_identities(c) < 0 || number_identities(c) < 0))
		c->nomem = 1;
}

/* ---- selectors ----------------------------------------------------------------------------------- */

/* Identities of a tenant by label, and by the label's mere presence (value NONE). */
struct posting_key {
	uint32_t tenant, key, value;
};

struct postings {
	struct policy_map index;
	POLICY_VECTOR(numbers) lists;
};

static void
post(struct compile *c, struct postings *p, const struct posting_key *k, uint32_t identity)
{
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
posted(const struct postings *p, uint32_t tenant, uint32_t key, uint32_t value)
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

static void
keep_if_holds(struct compile *c, struct compile_selector *s, uint32_t identity)
{
	for (uint32_t q = 0; q < s->source->nb; q++)
		if (!holds(&c->identities.at[identity], &s->requirements[q]))
			return;
	compile_push(c, &s->members, identity);
}

/* How many candidates a requirement leaves, when it can say. */
static size_t
candidates(const struct postings *p, uint32_t tenant, const struct compile_requirement *q)
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
match_tenant(
    struct compile *c, const struct postings *p, struct compile_selector *s, uint32_t tenant)
{
	const struct compile_tenant *t = &c->tenants.at[tenant];
	const struct compile_requirement *best = NULL;
	size_t least = t->nb;

	/* Start from the requirement that leaves the fewest, and try only those. */
	for (uint32_t q = 0; q < s->source->nb; q++) {
		size_t n = candidates(p, tenant, &s->requirements[q]);

		if (n < least) {
			least = n;
			best = &s->requirements[q];
		}
	}
	if (best == NULL) {
		for (uint32_t i = t->first; i < t->first + t->nb; i++)
			keep_if_holds(c, s, i);
		return;
	}
	for (uint32_t v = 0; v < PK_MAX(best->nb, 1U); v++) {
		const numbers *list = posted(
		    p, tenant, best->key, best->op == POLICY_EXISTS ? NONE : best->values[v]);

		for (size_t i = 0; i < list->nb; i++)
			keep_if_holds(c, s, list->at[i]);
	}
}

void
compile_members(struct compile *c)
{
	struct postings p = { 0 };

	for (size_t i = 0; i < c->identities.nb && !c->nomem; i++) {
		const struct compile_identity *id = &c->identities.at[i];

		for (uint32_t l = 0; l < id->nb_labels; l++) {
			struct posting_key k = { id->tenant, id->labels_at[2 * l],
				id->labels_at[2 * l + 1] };

			post(c, &p, &k, (uint32_t)i);
			k.value = NONE;
			post(c, &p, &k, (uint32_t)i);
		}
	}
	for (size_t i = 0; i < c->selectors.nb && !c->nomem; i++) {
		struct compile_selector *s = &c->selectors.at[i];

		if (s->everywhere)
			for (uint32_t t = 0; t < c->tenants.nb; t++)
				match_tenant(c, &p, s, t);
		else if (s->tenant != NONE)
			match_tenant(c, &p, s, s->tenant);
		if (s->members.nb > 1)
			qsort(s->members.at, s->members.nb, sizeof(s->members.at[0]),
			    compile_by_number);
	}
	for (size_t i = 0; i < p.lists.nb; i++)
		free(p.lists.at[i].at);
	free(p.lists.at);
	policy_map_fini(&p.index);
}
