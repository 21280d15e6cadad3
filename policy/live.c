#include "policy/live.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/k8s.h"

#define GARBAGE_MAX  (256 << 20)
#define PARALLEL_MIN 10000 /* workloads: below, a thread costs more than it saves */

/* ---- sorted arrays ------------------------------------------------------------------------------- */

/* Where `value` is in `v`, or belongs. */
static size_t
number_place(const numbers *v, uint32_t value)
{
	size_t low = 0, high = v->nb;

	/* Most of what is added is the newest. */
	if (high > 0 && v->at[high - 1] < value)
		return high;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (v->at[mid] < value)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
number_add(struct compile *c, numbers *v, uint32_t value)
{
	size_t at = number_place(v, value);

	if (at < v->nb && v->at[at] == value)
		return 0;
	if (compile_push(c, v, value) < 0)
		return 0;
	memmove(v->at + at + 1, v->at + at, (v->nb - 1 - at) * sizeof(v->at[0]));
	v->at[at] = value;
	return 1;
}

static int
number_remove(numbers *v, uint32_t value)
{
	size_t at = number_place(v, value);

	if (at == v->nb || v->at[at] != value)
		return 0;
	memmove(v->at + at, v->at + at + 1, (v->nb - 1 - at) * sizeof(v->at[0]));
	v->nb--;
	return 1;
}

/* Without order. */
static void
number_drop(numbers *v, uint32_t value)
{
	for (size_t i = 0; i < v->nb; i++) {
		if (v->at[i] == value) {
			memmove(v->at + i, v->at + i + 1, (v->nb - 1 - i) * sizeof(v->at[0]));
			v->nb--;
			return;
		}
	}
}

#define BY_ID(v, want, at)                                \
	do {                                              \
		size_t low_ = 0, high_ = (v).nb;          \
		while (low_ < high_) {                    \
			size_t mid_ = (low_ + high_) / 2; \
			if ((v).at[mid_].id < (want))     \
				low_ = mid_ + 1;          \
			else                              \
				high_ = mid_;             \
		}                                         \
		(at) = low_;                              \
	} while (0)

/* Room for one element at index `at`. */
static int
open_gap(struct live *l, void *array, size_t *nb, size_t *cap, size_t size, size_t at)
{
	char *bytes;

	if (policy_grow(array, cap, *nb + 1, size) < 0) {
		l->c->nomem = 1;
		return -ENOMEM;
	}
	bytes = *(char **)array;
	memmove(bytes + (at + 1) * size, bytes + at * size, (*nb - at) * size);
	++*nb;
	return 0;
}

#define INSERT(l, v, i) open_gap(l, &(v)->at, &(v)->nb, &(v)->cap, sizeof((v)->at[0]), i)
#define REMOVE(v, i)                                                                             \
	do {                                                                                     \
		memmove(                                                                         \
		    (v)->at + (i), (v)->at + (i) + 1, ((v)->nb - 1 - (i)) * sizeof((v)->at[0])); \
		(v)->nb--;                                                                       \
	} while (0)

/* The table as callers see it. */
static void
publish(struct live *l)
{
	struct policy_table *t = &l->c->table->t;

	t->identities = l->identities.at;
	t->nb_identities = (uint32_t)l->identities.nb;
	t->endpoints = l->endpoints.at;
	t->nb_endpoints = (uint32_t)l->endpoints.nb;
	t->sets = l->sets.at;
	t->nb_sets = (uint32_t)l->sets.nb;
	t->programs = l->programs.at;
	t->nb_programs = (uint32_t)l->programs.nb;
	t->unplaced = l->unplaced.at;
	t->nb_unplaced = (uint32_t)l->unplaced.nb;
}

#define TOUCH(l, field, value)                                           \
	do {                                                             \
		__typeof__((l)->touched->field.at) slot_ = NULL;         \
		if ((l)->touched != NULL) {                              \
			slot_ = POLICY_PUSH(&(l)->touched->field);       \
			if (slot_ != NULL)                               \
				*slot_ = (value);                        \
			else                                             \
				(l)->touched->nomem = (l)->c->nomem = 1; \
		}                                                        \
	} while (0)

/* ---- labels to selectors ------------------------------------------------------------------------- */

struct label_key {
	uint32_t tenant, key, value; /* NONE: of all tenants; without a label; with any value */
};

static numbers *
labelled(struct live *l, uint32_t tenant, uint32_t key, uint32_t value, int make)
{
	struct label_key k = { tenant, key, value }, *own;
	uint32_t i = policy_map_get(&l->label_index, &k, sizeof(k));
	numbers *list;

	if (i != NONE)
		return &l->labels.at[i];
	if (!make)
		return NULL;
	i = (uint32_t)l->labels.nb;
	own = policy_arena_copy(&l->arena, &k, sizeof(k));
	if (own == NULL || (list = POLICY_PUSH(&l->labels)) == NULL ||
	    policy_map_put(&l->label_index, own, sizeof(*own), i) < 0) {
		l->c->nomem = 1;
		return NULL;
	}
	memset(list, 0, sizeof(*list));
	return list;
}

/* The requirement under which a selector is found: one that says what must be there. */
static const struct compile_requirement *
pivot(const struct compile_selector *s)
{
	const struct compile_requirement *best = NULL;

	for (uint32_t q = 0; q < s->nb; q++) {
		const struct compile_requirement *r = &s->requirements[q];

		if (r->op == POLICY_IN &&
		    (best == NULL || best->op != POLICY_IN || r->nb < best->nb))
			best = r;
		else if (r->op == POLICY_EXISTS && best == NULL)
			best = r;
	}
	return best;
}

static void
index_selector(struct live *l, uint32_t selector, int add)
{
	const struct compile_selector *s = &l->c->selectors.at[selector];
	const struct compile_requirement *r = pivot(s);
	uint32_t tenant = s->everywhere ? NONE : s->tenant;

	if (!s->everywhere && s->tenant == NONE)
		return; /* a tenant that does not exist has nobody */
	for (uint32_t v = 0; v < (r != NULL ? PK_MAX(r->nb, 1U) : 1); v++) {
		numbers *list = labelled(l, tenant, r != NULL ? r->key : NONE,
		    r != NULL && r->op == POLICY_IN ? r->values[v] : NONE, add);

		if (list != NULL && add)
			number_add(l->c, list, selector);
		else if (list != NULL)
			number_remove(list, selector);
	}
}

static void
ask_selectors(struct live *l, const struct compile_identity *id, const numbers *list, numbers *out)
{
	for (size_t i = 0; list != NULL && i < list->nb; i++)
		if (compile_selects(&l->c->selectors.at[list->at[i]], id))
			number_add(l->c, out, list->at[i]);
}

/* All selectors that match an identity. */
static void
match(struct live *l, const struct compile_identity *id, numbers *out)
{
	const uint32_t tenants[] = { id->tenant, NONE };

	out->nb = 0;
	for (size_t t = 0; t < PK_COUNT(tenants); t++) {
		ask_selectors(l, id, labelled(l, tenants[t], NONE, NONE, 0), out);
		for (uint32_t i = 0; i < id->nb_labels; i++) {
			ask_selectors(l, id,
			    labelled(
			        l, tenants[t], id->labels_at[2 * i], id->labels_at[2 * i + 1], 0),
			    out);
			ask_selectors(
			    l, id, labelled(l, tenants[t], id->labels_at[2 * i], NONE, 0), out);
		}
	}
}

/* ---- sets ---------------------------------------------------------------------------------------- */

/* After its members have changed. */
static void
set_changed(struct live *l, const struct compile_set *s)
{
	size_t at;

	BY_ID(l->sets, s->set.id, at);
	l->sets.at[at].identities = s->members.at;
	l->sets.at[at].nb_members = (uint32_t)s->members.nb;
	TOUCH(l, sets, s->set.id);
}

/* Set `i` has been made by compile_policy(): list it. */
static void
set_enter(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	struct compile_set *s = &c->sets.at[i];
	size_t at;

	if (s->set.kind == PK_SET_IDENTITY) {
		for (size_t k = 0; k < s->members.nb; k++)
			s->members.at[k] = c->identities.at[s->members.at[k]].id;
		if (s->members.nb > 1)
			qsort(s->members.at, s->members.nb, sizeof(s->members.at[0]),
			    compile_by_number);
		if (s->selector != NONE)
			compile_push(c, &c->selectors.at[s->selector].sets, i);
		else if (s->group != NONE)
			for (size_t k = 0; k < c->groups.at[s->group].selectors.nb; k++)
				compile_push(c,
				    &c->selectors.at[c->groups.at[s->group].selectors.at[k]].sets,
				    i);
	}
	BY_ID(l->sets, s->set.id, at);
	if (at < l->sets.nb && l->sets.at[at].id == s->set.id) {
		/* It stands there from the first compilation. */
		if (s->set.kind == PK_SET_IDENTITY)
			l->sets.at[at].identities = s->members.at;
		return;
	}
	if (INSERT(l, &l->sets, at) < 0)
		return;
	l->sets.at[at] = s->set;
	if (s->set.kind == PK_SET_IDENTITY)
		set_changed(l, s);
	else
		TOUCH(l, sets, s->set.id);
}

static void
set_leave(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	struct compile_set *s = &c->sets.at[i];
	size_t at;

	if (s->selector != NONE) {
		number_drop(&c->selectors.at[s->selector].sets, i);
		c->selectors.at[s->selector].set = NONE;
	}
	if (s->group != NONE) {
		struct compile_group *g = &c->groups.at[s->group];

		if (s->set.kind == PK_SET_PREFIX) {
			g->prefix_set = NONE;
		} else {
			g->identity_set = NONE;
			for (size_t k = 0; k < g->selectors.nb; k++)
				number_drop(&c->selectors.at[g->selectors.at[k]].sets, i);
		}
	}
	policy_map_remove(&c->set_index, &s->set.id, sizeof(s->set.id));
	BY_ID(l->sets, s->set.id, at);
	REMOVE(&l->sets, at);
	TOUCH(l, sets, s->set.id);
	l->garbage += sizeof(*s) + s->set.nb_members * sizeof(struct pk_prefix);
	free(s->members.at);
	memset(&s->members, 0, sizeof(s->members));
}

/* ---- selectors ----------------------------------------------------------------------------------- */

static void
was_named(struct live *l, uint32_t symbol)
{
	while (l->named_in.nb <= symbol && !l->c->nomem)
		compile_push(l->c, &l->named_in, 0);
	if (l->c->nomem || l->named_in.at[symbol] == l->nb_changes)
		return;
	l->named_in.at[symbol] = l->nb_changes;
	compile_push(l->c, &l->named, symbol * 2 + (l->c->matters.at[symbol] > 0));
}

static void
selector_put(struct live *l, uint32_t i)
{
	struct compile_selector *s = &l->c->selectors.at[i];

	if (--s->refs > 0)
		return;
	index_selector(l, i, 0);
	policy_map_remove_text(&l->c->selector_index, s->text);
	for (uint32_t q = 0; q < s->nb; q++) {
		was_named(l, s->requirements[q].key);
		l->c->matters.at[s->requirements[q].key]--;
	}
	l->garbage += sizeof(*s) + strlen(s->text) + s->nb * sizeof(s->requirements[0]);
	free(s->members.at);
	free(s->sets.at);
	free(s->subjects.at);
	memset(&s->members, 0, sizeof(s->members));
	memset(&s->sets, 0, sizeof(s->sets));
	memset(&s->subjects, 0, sizeof(s->subjects));
}

/* All selectors a policy names, each once. */
static void
collect_selectors(struct live *l, struct compile_policy *p)
{
	struct compile *c = l->c;
	const struct policy_meta *m = &p->def->meta;

	if (p->selector != NONE)
		number_add(c, &p->selectors, p->selector);
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		for (uint32_t r = 0; r < p->def->rules[d].nb; r++) {
			const struct policy_peers *peers = &p->def->rules[d].at[r].peers;

			for (uint32_t i = 0; i < peers->nb && !c->nomem; i++) {
				const struct policy_peer *peer = &peers->at[i];

				if (peer->kind == POLICY_PEER_WORKLOADS)
					number_add(c, &p->selectors,
					    compile_selector(c,
					        peer->tenant != NULL ? peer->tenant : m->tenant,
					        &peer->selector));
			}
		}
	}
}

/* The selectors that make up a policy's subject. */
static const uint32_t *
subject_selectors(struct compile *c, const struct compile_policy *p, size_t *nb)
{
	if (p->group != NONE) {
		*nb = c->groups.at[p->group].selectors.nb;
		return c->groups.at[p->group].selectors.at;
	}
	*nb = p->selector != NONE;
	return &p->selector;
}

/* ---- identities ---------------------------------------------------------------------------------- */

static void
make_dirty(struct live *l, uint32_t identity)
{
	struct compile_identity *id = &l->c->identities.at[identity];

	if (!id->dirty && compile_push(l->c, &l->dirty, identity) == 0)
		id->dirty = 1;
}

static void
add_policy_to(struct live *l, struct compile_identity *id, uint32_t policy)
{
	struct compile *c = l->c;
	const struct compile_policy *p = &c->policies.at[policy];
	const char *tenant = p->def->meta.tenant;
	size_t at = id->policies.nb;

	if (strcmp(tenant, POLICY_ALL_TENANTS) != 0 &&
	    policy_map_get_text(&c->tenant_index, tenant) != id->tenant)
		return;
	while (at > 0 && id->policies.at[at - 1] != policy &&
	    compile_by_precedence(&c->policies.at[id->policies.at[at - 1]], p) > 0)
		at--;
	if (at > 0 && id->policies.at[at - 1] == policy)
		return;
	if (compile_push(c, &id->policies, policy) < 0)
		return;
	memmove(id->policies.at + at + 1, id->policies.at + at,
	    (id->policies.nb - 1 - at) * sizeof(id->policies.at[0]));
	id->policies.at[at] = policy;
}

static void
wake(struct live *l, uint32_t identity)
{
	struct compile *c = l->c;
	struct compile_identity *id = &c->identities.at[identity];
	numbers found = { 0 };

	match(l, id, &found);
	for (size_t i = 0; i < found.nb && !c->nomem; i++) {
		struct compile_selector *s = &c->selectors.at[found.at[i]];

		number_add(c, &s->members, identity);
		for (size_t k = 0; k < s->sets.nb; k++) {
			struct compile_set *set = &c->sets.at[s->sets.at[k]];

			if (number_add(c, &set->members, id->id))
				set_changed(l, set);
		}
		for (size_t k = 0; k < s->subjects.nb; k++)
			add_policy_to(l, id, s->subjects.at[k]);
	}
	free(found.at);
	id->awake = 1;
}

static void
sleep_now(struct live *l, uint32_t identity)
{
	struct compile *c = l->c;
	struct compile_identity *id = &c->identities.at[identity];
	numbers found = { 0 };

	match(l, id, &found);
	for (size_t i = 0; i < found.nb && !c->nomem; i++) {
		struct compile_selector *s = &c->selectors.at[found.at[i]];

		number_remove(&s->members, identity);
		for (size_t k = 0; k < s->sets.nb; k++) {
			struct compile_set *set = &c->sets.at[s->sets.at[k]];

			if (number_remove(&set->members, id->id))
				set_changed(l, set);
		}
	}
	free(found.at);
	id->policies.nb = 0;
	id->awake = 0;
}

static void
settle_sleepers(struct live *l)
{
	for (size_t i = 0; i < l->dirty.nb && !l->c->nomem; i++) {
		struct compile_identity *id = &l->c->identities.at[l->dirty.at[i]];

		if (id->nb_workloads > 0 && !id->awake)
			wake(l, l->dirty.at[i]);
		else if (id->nb_workloads == 0 && id->awake)
			sleep_now(l, l->dirty.at[i]);
	}
}

/* ---- workloads ----------------------------------------------------------------------------------- */

static void
moved(struct live *l, const struct policy_place *p)
{
	struct policy_place *slot = POLICY_PUSH(&l->moved);

	if (slot == NULL)
		l->c->nomem = 1;
	else
		*slot = *p;
}

static size_t
unplaced_at(const struct live *l, const char *name)
{
	size_t low = 0, high = l->unplaced.nb;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(l->unplaced.at[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
count_one(struct live *l, uint32_t identity, int add)
{
	struct compile_identity *id = &l->c->identities.at[identity];

	id->nb_workloads = add ? id->nb_workloads + 1 : id->nb_workloads - 1;
	l->c->nb_real_workloads = l->nb_workloads;
	make_dirty(l, identity);
	/* What the name of a port means to senders hangs on all who have one. */
	l->whole |= l->nb_parts > 0 && id->nb_ports > 0;
}

static void
count_workload(struct live *l, const struct live_workload *w, int add)
{
	count_one(l, w->identity, add);
	if (w->unattested != w->identity)
		count_one(l, w->unattested, add);
}

/* The workloads behind a DPU, in no order; NULL when there is no memory. */
static numbers *
behind(struct live *l, const char *dpu)
{
	uint32_t i = policy_map_get_text(&l->dpu_index, dpu);
	const char *own;
	numbers *list;

	if (i != NONE)
		return &l->behind.at[i];
	i = (uint32_t)l->behind.nb;
	own = policy_arena_text(&l->dpu_arena, dpu);
	if (own == NULL || (list = POLICY_PUSH(&l->behind)) == NULL ||
	    policy_map_put_text(&l->dpu_index, own, i) < 0)
		return NULL;
	memset(list, 0, sizeof(*list));
	return list;
}

static void
workload_leave(struct live *l, const struct policy_workload_def *def)
{
	char key[2 * (POLICY_NAME_MAX + 2)];
	struct live_workload *w;
	uint32_t i;

	snprintf(key, sizeof(key), "%s/%s", def->meta.tenant, def->meta.name);
	i = policy_map_get_text(&l->workload_index, key);
	if (i == NONE || l->workloads.at[i].def != def)
		return; /* it never came in */
	w = &l->workloads.at[i];
	policy_map_remove_text(&l->workload_index, key);
	for (uint32_t a = 0; a < w->nb_places; a++) {
		policy_map_remove(&l->place_index, &w->places[a], sizeof(w->places[a]));
		moved(l, &w->places[a]);
	}
	if (w->nb_places == 0)
		REMOVE(&l->unplaced, unplaced_at(l, key));
	l->nb_workloads--;
	count_workload(l, w, 0);
	if (def->dpu[0] != '\0')
		number_drop(behind(l, def->dpu), i);
	free(w->key);
	free(w->places);
	memset(w, 0, sizeof(*w));
	compile_push(l->c, &l->free_workloads, i);
}

/* An entry for `def`, known to be new, with the indexes of its identities.  Returns 0 or -ENOMEM. */
static int
workload_index(
    struct live *l, const struct policy_workload_def *def, uint32_t identity, uint32_t unattested)
{
	struct live_workload *w;
	uint32_t i;

	if (l->free_workloads.nb > 0) {
		i = l->free_workloads.at[--l->free_workloads.nb];
	} else {
		i = (uint32_t)l->workloads.nb;
		if (POLICY_PUSH(&l->workloads) == NULL)
			return -ENOMEM;
	}
	w = &l->workloads.at[i];
	memset(w, 0, sizeof(*w));
	w->def = def;
	w->identity = identity;
	w->unattested = unattested;
	w->places = calloc(def->addresses.nb + 1U, sizeof(w->places[0]));
	if (w->places == NULL || asprintf(&w->key, "%s/%s", def->meta.tenant, def->meta.name) < 0 ||
	    policy_map_put_text(&l->workload_index, w->key, i) < 0)
		return -ENOMEM;
	for (uint32_t a = 0; a < def->addresses.nb; a++) {
		w->places[a].vrf = def->vrf;
		w->places[a].addr = def->addresses.at[a].addr;
		if (policy_map_put(&l->place_index, &w->places[a], sizeof(w->places[a]), i) < 0)
			return -ENOMEM;
		w->nb_places++;
	}
	if (def->dpu[0] != '\0') {
		numbers *list = behind(l, def->dpu);
		uint32_t *slot = list != NULL ? POLICY_PUSH(list) : NULL;

		if (slot == NULL)
			return -ENOMEM;
		*slot = i;
	}
	l->nb_workloads++;
	return 0;
}

static void
workload_come(struct live *l, const struct policy_workload_def *def)
{
	char key[2 * (POLICY_NAME_MAX + 2)];
	struct compile *c = l->c;
	unsigned int errors = c->errors;
	uint32_t i, identity, unattested, nb_before;
	size_t at;

	snprintf(key, sizeof(key), "%s/%s", def->meta.tenant, def->meta.name);
	i = policy_map_get_text(&l->workload_index, key);
	if (i != NONE)
		compile_duplicate(c, &l->workloads.at[i].def->meta, &def->meta, "Workload", 0);
	compile_tenant_use(
	    c, def->meta.tenant, 0, def->meta.file, def->meta.line, def->meta.column);
	for (uint32_t a = 0; a < def->addresses.nb; a++) {
		struct policy_place p;

		memset(&p, 0, sizeof(p));
		p.vrf = def->vrf;
		p.addr = def->addresses.at[a].addr;
		i = policy_map_get(&l->place_index, &p, sizeof(p));
		for (uint32_t b = 0; b < a && i == NONE; b++)
			if (pk_addr_compare(&p.addr, &def->addresses.at[b].addr) == 0)
				compile_same_address(
				    c, def, &def->addresses.at[b], def, &def->addresses.at[a]);
		if (i != NONE) {
			const struct policy_workload_def *other = l->workloads.at[i].def;

			for (uint32_t b = 0; b < other->addresses.nb; b++)
				if (pk_addr_compare(&p.addr, &other->addresses.at[b].addr) == 0)
					compile_same_address(c, other, &other->addresses.at[b], def,
					    &def->addresses.at[a]);
		}
	}
	if (c->errors != errors || c->nomem)
		return;
	nb_before = (uint32_t)c->identities.nb;
	identity = compile_identity(c, def, true);
	unattested = c->nomem ? NONE : compile_identity(c, def, false);
	for (uint32_t k = nb_before; k < c->identities.nb && !c->nomem; k++)
		compile_identity_enter(c, k);
	if (c->nomem)
		return;
	if (workload_index(l, def, identity, unattested) < 0) {
		c->nomem = 1;
		return;
	}
	i = policy_map_get_text(&l->workload_index, key);
	count_workload(l, &l->workloads.at[i], 1);
	for (uint32_t a = 0; a < def->addresses.nb && !c->nomem; a++) {
		struct policy_place p;

		memset(&p, 0, sizeof(p));
		p.vrf = def->vrf;
		p.addr = def->addresses.at[a].addr;
		moved(l, &p);
	}
	if (def->addresses.nb > 0 || c->nomem)
		return;
	at = unplaced_at(l, key);
	if (INSERT(l, &l->unplaced, at) == 0)
		l->unplaced.at[at] = (struct policy_unplaced){ .name = l->workloads.at[i].key,
			.identity = c->identities.at[identity].id };
}

static size_t
endpoint_at(const struct live *l, const struct policy_place *p, int *found)
{
	size_t low = 0, high = l->endpoints.nb;

	*found = 0;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct policy_endpoint *e = &l->endpoints.at[mid];
		int d = e->vrf != p->vrf ? (e->vrf < p->vrf ? -1 : 1)
		                         : pk_addr_compare(&e->addr, &p->addr);

		if (d == 0) {
			*found = 1;
			return mid;
		}
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Endpoints follow at the end: of a workload that goes and comes again they stay where they are. */
static void
settle_endpoints(struct live *l)
{
	for (size_t i = 0; i < l->moved.nb && !l->c->nomem; i++) {
		const struct policy_place *p = &l->moved.at[i];
		uint32_t w = policy_map_get(&l->place_index, p, sizeof(*p));
		const struct policy_workload_def *def = w != NONE ? l->workloads.at[w].def : NULL;
		struct policy_endpoint *e;
		int found;
		size_t at = endpoint_at(l, p, &found);

		if (def == NULL) {
			if (found)
				REMOVE(&l->endpoints, at);
		} else if (found || INSERT(l, &l->endpoints, at) == 0) {
			const struct live_workload *lw = &l->workloads.at[w];

			e = &l->endpoints.at[at];
			*e = (struct policy_endpoint){ .name = lw->key,
				.dpu = def->dpu,
				.vrf = def->vrf,
				.attested = l->c->identities.at[lw->identity].id,
				.unattested = l->c->identities.at[lw->unattested].id,
				.wire = (uint16_t)def->wire,
				.has_mac = def->has_mac,
				.addr = p->addr };
			e->identity = policy_model_attested(l->model, def->dpu) ? e->attested
			                                                        : e->unattested;
			memcpy(e->mac, def->mac, sizeof(e->mac));
		}
		TOUCH(l, endpoints, *p);
	}
	l->moved.nb = 0;
}

/* ---- policies ------------------------------------------------------------------------------------ */

static char *
policy_key(struct live *l, const struct policy_def *d)
{
	char *key;

	if (asprintf(&key, "%s/%s/%s", d->meta.tenant, d->meta.name,
	        d->meta.kind != NULL ? d->meta.kind : "") >= 0)
		return key;
	l->c->nomem = 1;
	return NULL;
}

static char *
priority_key(struct live *l, const struct compile_policy *p)
{
	char *key;

	if (asprintf(&key, "%u/%u/%s", p->tier->order, p->def->priority, p->def->meta.tenant) >= 0)
		return key;
	l->c->nomem = 1;
	return NULL;
}

/* Ports that the policy's rules and tests name are named once less. */
static void
forget_ports(struct live *l, const struct policy_services *s)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		uint32_t symbol;

		if (s->at[i].kind != POLICY_SERVICE_PORT)
			continue;
		symbol = compile_symbol_find(l->c, s->at[i].name);
		was_named(l, symbol);
		l->c->matters.at[symbol]--;
	}
}

static void
each_services(struct live *l, const struct policy_def *d,
    void (*call)(struct live *l, const struct policy_services *s))
{
	for (uint32_t t = 0; t < d->tests.nb; t++) {
		struct policy_services one = { .nb = 1, .at = &d->tests.at[t].service };

		call(l, &one);
	}
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
		for (uint32_t r = 0; r < d->rules[dir].nb; r++)
			call(l, &d->rules[dir].at[r].services);
}

static void
each_symbol_of_services(
    struct live *l, const struct policy_services *s, void (*call)(struct live *l, uint32_t symbol))
{
	for (uint32_t i = 0; i < s->nb && !l->c->nomem; i++)
		if (s->at[i].kind == POLICY_SERVICE_PORT)
			call(l, compile_symbol(l->c, s->at[i].name));
}

static void
each_symbol_of_selector(
    struct live *l, const struct policy_selector *s, void (*call)(struct live *l, uint32_t symbol))
{
	for (uint32_t q = 0; q < s->nb && !l->c->nomem; q++)
		call(l, compile_symbol(l->c, s->at[q].key));
}

/* Labels and ports that a policy names. */
static void
each_symbol(
    struct live *l, const struct policy_def *d, void (*call)(struct live *l, uint32_t symbol))
{
	if (d->subject.kind == POLICY_PEER_WORKLOADS)
		each_symbol_of_selector(l, &d->subject.selector, call);
	for (uint32_t t = 0; t < d->tests.nb; t++) {
		struct policy_services one = { .nb = 1, .at = &d->tests.at[t].service };

		each_symbol_of_services(l, &one, call);
	}
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		for (uint32_t r = 0; r < d->rules[dir].nb; r++) {
			const struct policy_rule_def *rule = &d->rules[dir].at[r];

			each_symbol_of_services(l, &rule->services, call);
			for (uint32_t i = 0; i < rule->peers.nb; i++)
				each_symbol_of_selector(l, &rule->peers.at[i].selector, call);
		}
	}
}

static void
pin(struct live *l, uint32_t symbol)
{
	was_named(l, symbol);
	if (!l->c->nomem)
		l->c->matters.at[symbol]++;
}

static void
unpin(struct live *l, uint32_t symbol)
{
	l->c->matters.at[symbol]--;
}

static void
each_name(struct live *l, struct policy_source *const *from, size_t nb,
    void (*call)(struct live *l, uint32_t symbol))
{
	for (size_t i = 0; i < nb; i++)
		for (size_t k = 0; from[i] != NULL && k < from[i]->objects.policies.nb; k++)
			each_symbol(l, from[i]->objects.policies.at[k], call);
}

static void
forget_names(struct live *l, uint32_t i)
{
	if (l->policy_keys.at[i] != NULL)
		policy_map_remove_text(&l->policy_index, l->policy_keys.at[i]);
	if (l->priority_keys.at[i] != NULL)
		policy_map_remove_text(&l->priority_index, l->priority_keys.at[i]);
	free(l->policy_keys.at[i]);
	free(l->priority_keys.at[i]);
	l->policy_keys.at[i] = l->priority_keys.at[i] = NULL;
}

/* The subjects of a policy that comes or goes. */
static void
touch_subjects(struct live *l, uint32_t policy, int add)
{
	struct compile *c = l->c;
	const struct compile_policy *p = &c->policies.at[policy];
	size_t nb;
	const uint32_t *at = subject_selectors(c, p, &nb);

	for (size_t i = 0; i < nb && !c->nomem; i++) {
		struct compile_selector *s = &c->selectors.at[at[i]];

		if (add)
			compile_push(c, &s->subjects, policy);
		else
			number_drop(&s->subjects, policy);
		for (size_t k = 0; k < s->members.nb && !c->nomem; k++) {
			struct compile_identity *id = &c->identities.at[s->members.at[k]];

			if (add)
				add_policy_to(l, id, policy);
			else
				number_drop(&id->policies, policy);
			make_dirty(l, s->members.at[k]);
		}
	}
}

/* Works on a policy that has come only half-way, too. */
static void
policy_out(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	struct compile_policy *p = &c->policies.at[i];

	touch_subjects(l, i, 0);
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		for (uint32_t r = 0; r < p->nb_rules[d]; r++) {
			struct compile_rule *rule = &p->rules[d][r];

			for (size_t s = 0; s < rule->sets.nb; s++)
				if (--c->sets.at[rule->sets.at[s]].refs == 0)
					set_leave(l, rule->sets.at[s]);
			l->garbage += sizeof(*rule) + 4 * sizeof(struct compile_template);
		}
	}
	for (size_t s = 0; s < p->selectors.nb; s++)
		selector_put(l, p->selectors.at[s]);
	each_services(l, p->def, forget_ports);
	forget_names(l, i);
	compile_policy_fini(p);
	compile_push(c, &l->free_policies, i);
}

static void
policy_leave(struct live *l, const struct policy_def *d)
{
	char *key = policy_key(l, d);
	uint32_t i = key != NULL ? policy_map_get_text(&l->policy_index, key) : NONE;

	free(key);
	if (i != NONE && l->c->policies.at[i].def == d)
		policy_out(l, i);
}

/* Names and priorities that no two may have.  Errors are counted. */
static void
policy_names(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	const struct compile_policy *p = &c->policies.at[i];
	char *key = policy_key(l, p->def);
	uint32_t other = key != NULL ? policy_map_get_text(&l->policy_index, key) : NONE;

	if (other != NONE) {
		compile_duplicate(c, &c->policies.at[other].def->meta, &p->def->meta, "Policy", 0);
		free(key);
		return;
	}
	if (key == NULL || policy_map_put_text(&l->policy_index, key, i) < 0) {
		c->nomem = 1;
		free(key);
		return;
	}
	l->policy_keys.at[i] = key;
	if (p->def->meta.kind != NULL)
		return;
	key = priority_key(l, p);
	other = key != NULL ? policy_map_get_text(&l->priority_index, key) : NONE;
	if (other != NONE) {
		compile_equal_priority(c, &c->policies.at[other], p);
		free(key);
	} else if (key == NULL || policy_map_put_text(&l->priority_index, key, i) < 0) {
		c->nomem = 1;
		free(key);
	} else {
		l->priority_keys.at[i] = key;
	}
}

static int
policy_slot(struct live *l, uint32_t *out)
{
	char **key, **priority;

	if (l->free_policies.nb > 0) {
		*out = l->free_policies.at[--l->free_policies.nb];
		return 0;
	}
	*out = (uint32_t)l->c->policies.nb;
	key = POLICY_PUSH(&l->policy_keys);
	priority = POLICY_PUSH(&l->priority_keys);
	if (key == NULL || priority == NULL || POLICY_PUSH(&l->c->policies) == NULL) {
		l->c->nomem = 1;
		return -ENOMEM;
	}
	*key = *priority = NULL;
	return 0;
}

static void
enter_selectors(struct live *l, struct compile_policy *p)
{
	struct compile *c = l->c;

	for (size_t i = 0; i < p->selectors.nb && !c->nomem; i++) {
		struct compile_selector *s = &c->selectors.at[p->selectors.at[i]];

		if (s->refs++ > 0)
			continue;
		index_selector(l, p->selectors.at[i], 1);
		compile_selector_members(c, s);
	}
}

/* Its rules count their sets. */
static void
count_rules(struct live *l, const struct compile_policy *p)
{
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		for (uint32_t r = 0; r < p->nb_rules[d]; r++) {
			const struct compile_rule *rule = &p->rules[d][r];

			for (size_t s = 0; s < rule->sets.nb; s++)
				l->c->sets.at[rule->sets.at[s]].refs++;
			l->nb_parts += d == PK_EGRESS && rule->ports.nb > 0;
		}
	}
}

static void
policy_come(struct live *l, const struct policy_def *d)
{
	struct compile *c = l->c;
	unsigned int errors = c->errors;
	const struct compile_tier *tier = compile_policy_tier(c, d);
	size_t nb_sets = c->sets.nb;
	uint32_t i;

	if (tier == NULL || policy_slot(l, &i) < 0)
		return;
	c->policies.at[i] =
	    (struct compile_policy){ .def = d, .tier = tier, .selector = NONE, .group = NONE };
	compile_tenant_use(
	    c, d->meta.tenant, d->meta.kind != NULL, d->meta.file, d->meta.line, d->meta.column);
	compile_policy_tenants(c, d);
	if (c->errors == errors)
		policy_names(l, i);
	if (c->errors != errors) {
		forget_names(l, i);
		memset(&c->policies.at[i], 0, sizeof(c->policies.at[i]));
		compile_push(c, &l->free_policies, i);
		return;
	}
	compile_resolve_policy(c, &c->policies.at[i]);
	if (c->nomem)
		return;
	collect_selectors(l, &c->policies.at[i]);
	enter_selectors(l, &c->policies.at[i]);
	if (c->nomem)
		return;
	if (c->errors == errors) {
		compile_policy(c, i);
		count_rules(l, &c->policies.at[i]);
		for (size_t s = nb_sets; s < c->sets.nb && !c->nomem; s++)
			set_enter(l, (uint32_t)s);
	}
	if (c->nomem)
		return;
	if (c->errors == errors)
		touch_subjects(l, i, 1);
	else
		policy_out(l, i);
}

/* ---- programs ------------------------------------------------------------------------------------ */

static void
program_get(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	struct compile_program *p = &c->programs.at[i];
	size_t at;

	if (p->refs++ > 0)
		return;
	p->rules = calloc(p->templates.nb + 1, sizeof(p->rules[0]));
	if (p->rules == NULL) {
		c->nomem = 1;
		return;
	}
	compile_program_rules(c, p, p->rules);
	BY_ID(l->programs, p->id, at);
	if (INSERT(l, &l->programs, at) < 0)
		return;
	l->programs.at[at] = (struct policy_program){ .id = p->id,
		.direction = p->direction,
		.nb_rules = (uint32_t)p->templates.nb,
		.rules = p->rules };
	TOUCH(l, programs, p->id);
}

static void
program_put(struct live *l, uint32_t i)
{
	struct compile *c = l->c;
	struct compile_program *p = &c->programs.at[i];
	size_t at;

	if (--p->refs > 0)
		return;
	BY_ID(l->programs, p->id, at);
	REMOVE(&l->programs, at);
	TOUCH(l, programs, p->id);
	policy_map_remove(&c->program_index, &p->id, sizeof(p->id));
	c->nb_rules -= p->templates.nb;
	l->garbage += sizeof(*p) + (p->rules == NULL ? p->templates.nb * sizeof(p->rules[0]) : 0);
	free(p->rules);
	free(p->templates.at);
	memset(p, 0, sizeof(*p));
}

static void
settle_identity(struct live *l, uint32_t identity)
{
	struct compile *c = l->c;
	struct compile_identity *id = &c->identities.at[identity];
	const struct compile_tenant *tenant = &c->tenants.at[id->tenant];
	uint32_t now[PK_DIRECTION_COUNT] = { NONE, NONE };
	size_t at;

	id->dirty = 0;
	for (int d = 0; d < PK_DIRECTION_COUNT && id->awake && !c->nomem; d++) {
		now[d] = compile_program(c, id, d);
		if (!c->nomem)
			program_get(l, now[d]);
	}
	if (c->nomem)
		return;
	BY_ID(l->identities, id->id, at);
	if (id->listed) {
		if (id->awake && memcmp(now, id->program_at, sizeof(now)) == 0) {
			for (int d = 0; d < PK_DIRECTION_COUNT; d++)
				program_put(l, now[d]);
			return;
		}
		for (int d = 0; d < PK_DIRECTION_COUNT; d++)
			program_put(l, id->program_at[d]);
	}
	if (!id->awake) {
		if (id->listed)
			REMOVE(&l->identities, at);
		memset(id->program, 0, sizeof(id->program));
	} else if (id->listed || INSERT(l, &l->identities, at) == 0) {
		for (int d = 0; d < PK_DIRECTION_COUNT; d++)
			id->program[d] = c->programs.at[now[d]].id;
		l->identities.at[at] = (struct policy_identity){ .id = id->id,
			.tenant = tenant->number,
			.tenant_name = compile_text(c, tenant->name),
			.labels = id->labels };
		memcpy(l->identities.at[at].program, id->program, sizeof(id->program));
	}
	memcpy(id->program_at, now, sizeof(now));
	if (id->listed || id->awake)
		TOUCH(l, identities, id->id);
	id->listed = id->awake;
}

static void
settle(struct live *l)
{
	settle_endpoints(l);
	for (size_t i = 0; i < l->dirty.nb && !l->c->nomem; i++)
		settle_identity(l, l->dirty.at[i]);
	l->dirty.nb = 0;
	publish(l);
	if (l->c->nb_rules > POLICY_RULES_MAX)
		compile_error(l->c, "policy", 0, 0, "too-large",
		    "the programs come to more than %d rules", POLICY_RULES_MAX);
}

/* ---- a change ------------------------------------------------------------------------------------ */

static int
names_ports(struct compile *c, const char *tenant, const struct policy_services *s)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		const struct policy_service_def *d;

		if (s->at[i].kind == POLICY_SERVICE_PORT)
			return 1;
		if (s->at[i].kind != POLICY_SERVICE_NAME)
			continue;
		d = compile_service(c, tenant, s->at[i].name);
		if (d != NULL && names_ports(c, tenant, &d->services))
			return 1;
	}
	return 0;
}

/* A named port of those a rule sends to makes it depend on all who have one. */
static int
sends_to_names(struct compile *c, const struct policy_def *d)
{
	for (uint32_t r = 0; r < d->rules[PK_EGRESS].nb; r++)
		if (names_ports(c, d->meta.tenant, &d->rules[PK_EGRESS].at[r].services))
			return 1;
	return 0;
}

/* Whether what is in the source reaches no further than we do. */
static int
fits(struct live *l, const struct policy_source *s)
{
	const struct policy_objects *o;

	if (s == NULL)
		return 1;
	o = &s->objects;
	if (o->groups.nb + o->services.nb + o->tiers.nb + o->tenants.nb + o->hosts.nb +
	        o->namespaces.nb + o->nodes.nb + o->rollouts.nb + o->roles.nb + o->references.nb +
	        o->links.nb >
	    0)
		return 0;
	for (size_t i = 0; i < o->workloads.nb; i++)
		if (o->workloads.at[i]->imported)
			return 0;
	for (size_t i = 0; i < o->policies.nb; i++)
		if (o->policies.at[i]->related || sends_to_names(l->c, o->policies.at[i]))
			return 0;
	return 1;
}

static void
take_out(struct live *l, struct policy_source *const *from, size_t nb)
{
	for (size_t i = 0; i < nb; i++) {
		if (from[i] == NULL)
			continue;
		for (size_t k = 0; k < from[i]->objects.policies.nb && !l->c->nomem; k++)
			policy_leave(l, from[i]->objects.policies.at[k]);
		for (size_t k = 0; k < from[i]->objects.workloads.nb && !l->c->nomem; k++)
			workload_leave(l, from[i]->objects.workloads.at[k]);
	}
}

static void
take_in(struct live *l, struct policy_source *const *from, size_t nb)
{
	for (size_t i = 0; i < nb; i++)
		for (size_t k = 0; from[i] != NULL && k < from[i]->objects.workloads.nb; k++)
			if (!l->c->nomem)
				workload_come(l, from[i]->objects.workloads.at[k]);
	settle_sleepers(l);
	for (size_t i = 0; i < nb; i++)
		for (size_t k = 0; from[i] != NULL && k < from[i]->objects.policies.nb; k++)
			if (!l->c->nomem)
				policy_come(l, from[i]->objects.policies.at[k]);
}

/* Whether some label or port is named now and was not, or the other way round: identities differ. */
static int
names_differ(const struct live *l)
{
	for (size_t i = 0; i < l->named.nb; i++)
		if ((l->c->matters.at[l->named.at[i] / 2] > 0) != l->named.at[i] % 2)
			return 1;
	return 0;
}

int
live_change(struct live *l, struct policy_source *const *gone, struct policy_source *const *come,
    size_t nb, struct policy_touched *touched, struct policy_findings *f)
{
	struct compile *c = l->c;
	int rc;

	for (size_t i = 0; i < nb; i++)
		if (!fits(l, gone[i]) || !fits(l, come[i]))
			return -EAGAIN;
	if (l->garbage > GARBAGE_MAX)
		return -EAGAIN;
	c->findings = f;
	c->errors = 0;
	l->nb_changes++;
	l->named.nb = 0;
	l->whole = 0;
	l->touched = touched;
	/*
	 * A policy that is replaced goes before it comes, and must not in between take a name with it
	 * that tells workloads apart.
	 */
	each_name(l, gone, nb, pin);
	each_name(l, come, nb, pin);
	take_out(l, gone, nb);
	take_in(l, come, nb);
	if (c->nomem)
		return -ENOMEM;
	each_name(l, gone, nb, unpin);
	each_name(l, come, nb, unpin);
	if (!l->whole && c->errors == 0) {
		l->whole = names_differ(l);
		for (size_t i = 0; i < l->dirty.nb && !l->whole; i++)
			policy_k8s_check_identity(c, &c->identities.at[l->dirty.at[i]]);
		if (!l->whole && c->errors == 0)
			settle(l);
	}
	rc = c->nomem ? -ENOMEM : l->whole ? -EAGAIN : c->errors > 0 ? -EINVAL : 0;
	if (rc == -EAGAIN || rc == -EINVAL) {
		/* Back again.  All of it was right before, so nothing can be wrong with it. */
		c->findings = NULL;
		l->touched = NULL;
		each_name(l, gone, nb, pin);
		take_out(l, come, nb);
		take_in(l, gone, nb);
		settle(l);
		if (!c->nomem)
			each_name(l, gone, nb, unpin);
		if (c->nomem)
			rc = -ENOMEM;
	}
	c->findings = NULL;
	l->touched = NULL;
	return rc;
}

int
live_posture(struct live *l, const char *const *dpus, size_t nb, struct policy_touched *touched)
{
	for (size_t i = 0; i < nb && !l->c->nomem; i++) {
		uint32_t d = policy_map_get_text(&l->dpu_index, dpus[i]);

		for (size_t k = 0; d != NONE && k < l->behind.at[d].nb; k++) {
			const struct live_workload *w = &l->workloads.at[l->behind.at[d].at[k]];

			for (uint32_t a = 0; w->identity != w->unattested && a < w->nb_places; a++)
				moved(l, &w->places[a]);
		}
	}
	l->touched = touched;
	settle_endpoints(l);
	l->touched = NULL;
	return l->c->nomem ? -ENOMEM : 0;
}

const struct policy_workload_def *
live_workload(const struct live *l, const char *key)
{
	uint32_t i = policy_map_get_text(&l->workload_index, key);

	return i != NONE ? l->workloads.at[i].def : NULL;
}

/* ---- beginning and end --------------------------------------------------------------------------- */

#define ADOPT(l, v, from, n)                                                               \
	do {                                                                               \
		if (policy_grow(&(v)->at, &(v)->cap, (n) + 64U, sizeof((v)->at[0])) < 0) { \
			(l)->c->nomem = 1;                                                 \
		} else {                                                                   \
			if ((n) > 0)                                                       \
				memcpy((v)->at, from, (n) * sizeof((v)->at[0]));           \
			(v)->nb = (n);                                                     \
		}                                                                          \
	} while (0)

static void
adopt_table(struct live *l)
{
	const struct policy_table *t = &l->c->table->t;

	ADOPT(l, &l->identities, t->identities, t->nb_identities);
	ADOPT(l, &l->endpoints, t->endpoints, t->nb_endpoints);
	ADOPT(l, &l->sets, t->sets, t->nb_sets);
	ADOPT(l, &l->programs, t->programs, t->nb_programs);
	ADOPT(l, &l->unplaced, t->unplaced, t->nb_unplaced);
	if (!l->c->nomem)
		publish(l);
}

static void
adopt_identities(struct live *l)
{
	struct compile *c = l->c;

	if (policy_map_reserve(&c->identity_index, c->identities.nb) < 0)
		c->nomem = 1;
	for (size_t i = 0; i < c->identities.nb && !c->nomem; i++) {
		struct compile_identity *id = &c->identities.at[i];

		id->awake = id->listed = 1;
		if (policy_map_put_text(&c->identity_index, id->key, (uint32_t)i) < 0)
			c->nomem = 1;
		for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
			id->program_at[d] = policy_map_get(
			    &c->program_index, &id->program[d], sizeof(id->program[d]));
			c->programs.at[id->program_at[d]].refs++;
		}
	}
}

static void
adopt_policies(struct live *l)
{
	struct compile *c = l->c;

	if (policy_map_reserve(&l->policy_index, c->policies.nb) < 0 ||
	    policy_map_reserve(&l->priority_index, c->policies.nb) < 0 ||
	    policy_map_reserve(&l->label_index, c->selectors.nb) < 0)
		c->nomem = 1;
	for (size_t i = 0; i < c->policies.nb && !c->nomem; i++) {
		struct compile_policy *p = &c->policies.at[i];
		char **key = POLICY_PUSH(&l->policy_keys), **priority;
		const uint32_t *at;
		size_t nb;

		priority = POLICY_PUSH(&l->priority_keys);
		if (key == NULL || priority == NULL) {
			c->nomem = 1;
			break;
		}
		*key = *priority = NULL;
		policy_names(l, (uint32_t)i);
		collect_selectors(l, p);
		for (size_t s = 0; s < p->selectors.nb; s++)
			c->selectors.at[p->selectors.at[s]].refs++;
		count_rules(l, p);
		at = subject_selectors(c, p, &nb);
		for (size_t s = 0; s < nb; s++)
			compile_push(c, &c->selectors.at[at[s]].subjects, (uint32_t)i);
	}
	for (size_t i = 0; i < c->groups.nb && !c->nomem; i++)
		for (size_t s = 0; s < c->groups.at[i].selectors.nb; s++)
			c->selectors.at[c->groups.at[i].selectors.at[s]].refs++;
	for (size_t i = 0; i < c->selectors.nb && !c->nomem; i++) {
		/* Nobody's, like those that a policy was split from: they stay. */
		c->selectors.at[i].refs += c->selectors.at[i].refs == 0;
		index_selector(l, (uint32_t)i, 1);
	}
	for (size_t i = 0; i < c->sets.nb && !c->nomem; i++) {
		/* Parts of others, for a port's sake. */
		c->sets.at[i].refs += c->sets.at[i].refs == 0;
		set_enter(l, (uint32_t)i);
	}
}

/* A third of the work, and on maps of their own: another thread's, if there is one to be had. */
static void *
adopt_workloads(void *arg)
{
	struct live *l = arg;
	struct compile *c = l->c;
	size_t nb = c->all.workloads.nb;
	int err = policy_map_reserve(&l->workload_index, nb);

	if (err == 0)
		err = policy_map_reserve(&l->place_index, c->nb_places);
	if (err == 0)
		err = policy_grow(
		    &l->workloads.at, &l->workloads.cap, nb, sizeof(l->workloads.at[0]));
	for (size_t i = 0; i < nb && err == 0; i++)
		err = workload_index(
		    l, c->all.workloads.at[i], c->workload_identity[i], c->workload_unattested[i]);
	return err == 0 ? NULL : l;
}

static void
adopt_hosts(struct live *l)
{
	struct compile *c = l->c;

	for (size_t s = 0; s < c->model->sources.nb && !c->nomem; s++) {
		const struct policy_objects *o = &c->model->sources.at[s]->objects;

		for (size_t i = 0; i < o->hosts.nb && !c->nomem; i++) {
			const char *key = policy_meta_key(&l->arena, &o->hosts.at[i]->meta);
			const struct policy_workload_def **slot = POLICY_PUSH(&l->hosts);

			if (key == NULL || slot == NULL)
				c->nomem = 1;
			else
				*slot = o->hosts.at[i];
			if (!c->nomem && policy_map_get_text(&l->host_index, key) == NONE &&
			    policy_map_put_text(&l->host_index, key, (uint32_t)l->hosts.nb - 1) < 0)
				c->nomem = 1;
		}
	}
}

static void
adopt(struct live *l)
{
	struct compile *c = l->c;
	pthread_t thread;
	void *failed;
	bool apart = c->all.workloads.nb >= PARALLEL_MIN &&
	    pthread_create(&thread, NULL, adopt_workloads, l) == 0;

	failed = apart ? NULL : adopt_workloads(l);
	adopt_table(l);
	if (!c->nomem)
		adopt_identities(l);
	if (!c->nomem)
		adopt_policies(l);
	if (!c->nomem)
		adopt_hosts(l);
	if (apart)
		(void)pthread_join(thread, &failed);
	c->nomem |= failed != NULL;
}

int
live_create(struct live **out, struct compile *c)
{
	struct live *l = calloc(1, sizeof(*l));

	*out = NULL;
	if (l == NULL) {
		compile_destroy(c);
		return -ENOMEM;
	}
	l->c = c;
	l->model = c->model;
	c->findings = NULL;
	adopt(l);
	l->named.nb = 0;
	c->lives = 1;
	/* From now on sources come and go; the step that gathers them does not run again. */
	c->all.workloads.nb = c->all.policies.nb = 0;
	c->model = NULL;
	if (c->nomem) {
		live_destroy(l);
		return -ENOMEM;
	}
	*out = l;
	return 0;
}

void
live_destroy(struct live *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->workloads.nb; i++) {
		free(l->workloads.at[i].key);
		free(l->workloads.at[i].places);
	}
	for (size_t i = 0; i < l->policy_keys.nb; i++)
		free(l->policy_keys.at[i]);
	for (size_t i = 0; i < l->priority_keys.nb; i++)
		free(l->priority_keys.at[i]);
	for (size_t i = 0; i < l->labels.nb; i++)
		free(l->labels.at[i].at);
	for (size_t i = 0; i < l->behind.nb; i++)
		free(l->behind.at[i].at);
	free(l->behind.at);
	free(l->workloads.at);
	free(l->free_workloads.at);
	free(l->free_policies.at);
	free(l->hosts.at);
	free(l->policy_keys.at);
	free(l->priority_keys.at);
	free(l->labels.at);
	free(l->identities.at);
	free(l->endpoints.at);
	free(l->sets.at);
	free(l->programs.at);
	free(l->unplaced.at);
	free(l->dirty.at);
	free(l->moved.at);
	free(l->named.at);
	free(l->named_in.at);
	policy_map_fini(&l->workload_index);
	policy_map_fini(&l->place_index);
	policy_map_fini(&l->dpu_index);
	policy_map_fini(&l->policy_index);
	policy_map_fini(&l->priority_index);
	policy_map_fini(&l->host_index);
	policy_map_fini(&l->label_index);
	policy_arena_fini(&l->arena);
	policy_arena_fini(&l->dpu_arena);
	compile_destroy(l->c);
	free(l);
}
