#include "fw/nft/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more pointer in an array of the plan. */
static bool
more(struct nft_plan *p, void *array, uint32_t nb, uint32_t *room)
{
	void *grown;
	uint32_t want = PK_MAX(2 * *room, 32u);

	if (nb < *room)
		return true;
	memcpy(&grown, array, sizeof(grown));
	grown = realloc(grown, want * sizeof(void *));
	if (grown == NULL) {
		p->failed = true;
		return false;
	}
	memcpy(array, &grown, sizeof(grown));
	*room = want;
	return true;
}

struct nft_plan *
nft_plan_create(void)
{
	return calloc(1, sizeof(struct nft_plan));
}

static void
set_destroy(struct nft_set *s)
{
	if (s != NULL)
		free(s->element);
	free(s);
}

static void
chain_destroy(struct nft_chain *c)
{
	if (c != NULL)
		free(c->bytes);
	free(c);
}

void
nft_plan_destroy(struct nft_plan *p)
{
	if (p == NULL)
		return;
	for (uint32_t i = 0; i < p->nb_sets; i++)
		set_destroy(p->sets[i]);
	for (uint32_t i = 0; i < p->nb_chains; i++)
		chain_destroy(p->chains[i]);
	for (uint32_t i = 0; i < p->nb_objects; i++)
		free(p->objects[i]);
	free(p->sets);
	free(p->chains);
	free(p->objects);
	free(p);
}

struct nft_set *
nft_plan_set(struct nft_plan *p, enum nft_table table, const char *name, enum nft_set_kind kind,
    enum nft_set_data data, uint32_t key_type, uint32_t key_len)
{
	struct nft_set *s = calloc(1, sizeof(*s));

	if (s == NULL || !more(p, &p->sets, p->nb_sets, &p->room_sets)) {
		free(s);
		p->failed = true;
		return NULL;
	}
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->table = table;
	s->kind = kind;
	s->data = data;
	s->key_type = key_type;
	s->key_len = key_len;
	p->sets[p->nb_sets++] = s;
	return s;
}

struct nft_element *
nft_plan_element(struct nft_plan *p, struct nft_set *s, const void *key, uint32_t key_len)
{
	static struct nft_element nowhere;
	struct nft_element *e;

	PK_ASSERT(key_len <= NFT_KEY_LEN);
	if (s == NULL)
		return &nowhere;
	if (s->nb == s->room) {
		uint32_t room = PK_MAX(2 * s->room, 16u);

		e = realloc(s->element, room * sizeof(*e));
		if (e == NULL) {
			p->failed = true;
			return &nowhere;
		}
		s->element = e;
		s->room = room;
	}
	e = &s->element[s->nb++];
	memset(e, 0, sizeof(*e));
	memcpy(e->key, key, key_len);
	return e;
}

void
nft_plan_chain(
    struct nft_plan *p, enum nft_table table, struct nft_code *c, const struct nft_hook *hook)
{
	struct nft_chain *n = calloc(1, sizeof(*n));

	if (nft_code_end(c) < 0 || n == NULL ||
	    !more(p, &p->chains, p->nb_chains, &p->room_chains)) {
		free(c->bytes);
		free(n);
		p->failed = true;
		return;
	}
	snprintf(n->name, sizeof(n->name), "%s", c->chain);
	n->table = table;
	if (hook != NULL)
		n->hook = *hook;
	n->bytes = c->bytes;
	n->len = c->len;
	n->nb_rules = c->nb_rules;
	c->bytes = NULL;
	p->chains[p->nb_chains++] = n;
}

static struct nft_object *
object(struct nft_plan *p, enum nft_table table, const char *name)
{
	struct nft_object *o = calloc(1, sizeof(*o));

	if (o == NULL || !more(p, &p->objects, p->nb_objects, &p->room_objects)) {
		free(o);
		p->failed = true;
		return NULL;
	}
	snprintf(o->name, sizeof(o->name), "%s", name);
	o->table = table;
	p->objects[p->nb_objects++] = o;
	return o;
}

void
nft_plan_counter(struct nft_plan *p, enum nft_table table, const char *name)
{
	(void)object(p, table, name);
}

struct nft_object *
nft_plan_timeout(struct nft_plan *p, const char *name, uint8_t proto, uint8_t family)
{
	static struct nft_object nowhere;
	struct nft_object *o = object(p, NFT_TABLE_INET, name);

	if (o == NULL)
		return &nowhere;
	o->timeout_of = proto;
	o->family = family;
	return o;
}

bool
nft_plan_has_set(const struct nft_plan *p, enum nft_table table, const char *name)
{
	for (uint32_t i = 0; i < p->nb_sets; i++)
		if (p->sets[i]->table == table && strcmp(p->sets[i]->name, name) == 0)
			return true;
	return false;
}

/* ---- order ---- */

int
nft_element_compare(const void *a, const void *b)
{
	return memcmp(((const struct nft_element *)a)->key, ((const struct nft_element *)b)->key,
	    NFT_KEY_LEN);
}

static int
by_name(enum nft_table ta, const char *a, enum nft_table tb, const char *b)
{
	return ta != tb ? (ta < tb ? -1 : 1) : strcmp(a, b);
}

static int
set_compare(const void *a, const void *b)
{
	const struct nft_set *x = *(struct nft_set *const *)a, *y = *(struct nft_set *const *)b;

	return by_name(x->table, x->name, y->table, y->name);
}

static int
chain_compare(const void *a, const void *b)
{
	const struct nft_chain *x = *(struct nft_chain *const *)a,
	                       *y = *(struct nft_chain *const *)b;

	return by_name(x->table, x->name, y->table, y->name);
}

static int
object_compare(const void *a, const void *b)
{
	const struct nft_object *x = *(struct nft_object *const *)a;
	const struct nft_object *y = *(struct nft_object *const *)b;

	return by_name(x->table, x->name, y->table, y->name);
}

static void
seal_set(struct nft_set *s)
{
	uint32_t to = 0;

	if (s->nb == 0)
		return;
	qsort(s->element, s->nb, sizeof(s->element[0]), nft_element_compare);
	for (uint32_t i = 0; i < s->nb; i++)
		if (to == 0 || nft_element_compare(&s->element[to - 1], &s->element[i]) != 0)
			s->element[to++] = s->element[i];
	s->nb = to;
}

int
nft_plan_seal(struct nft_plan *p)
{
	uint32_t to = 0;

	if (p->failed)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nb_sets; i++)
		seal_set(p->sets[i]);
	if (p->nb_sets > 0)
		qsort(p->sets, p->nb_sets, sizeof(p->sets[0]), set_compare);
	if (p->nb_chains > 0)
		qsort(p->chains, p->nb_chains, sizeof(p->chains[0]), chain_compare);
	if (p->nb_objects > 0)
		qsort(p->objects, p->nb_objects, sizeof(p->objects[0]), object_compare);
	/* Sets are made by who needs them, and so more than once; as are counters. */
	for (uint32_t i = 0; i < p->nb_sets; i++) {
		if (to > 0 && set_compare(&p->sets[to - 1], &p->sets[i]) == 0)
			set_destroy(p->sets[i]);
		else
			p->sets[to++] = p->sets[i];
	}
	p->nb_sets = to;
	to = 0;
	for (uint32_t i = 0; i < p->nb_objects; i++) {
		if (to > 0 && object_compare(&p->objects[to - 1], &p->objects[i]) == 0)
			free(p->objects[i]);
		else
			p->objects[to++] = p->objects[i];
	}
	p->nb_objects = to;
	p->sealed = true;
	return 0;
}

bool
nft_set_same(const struct nft_set *a, const struct nft_set *b)
{
	return a->kind == b->kind && a->data == b->data && a->key_type == b->key_type &&
	    a->key_len == b->key_len && memcmp(a->part_len, b->part_len, sizeof(a->part_len)) == 0;
}

bool
nft_chain_same_hook(const struct nft_chain *a, const struct nft_chain *b)
{
	return a->hook.is == b->hook.is && a->hook.number == b->hook.number &&
	    a->hook.priority == b->hook.priority && a->hook.drops == b->hook.drops &&
	    strcmp(a->hook.device, b->hook.device) == 0;
}
