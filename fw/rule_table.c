#include "fw/rule_table.h"

#include <errno.h>
#include <string.h>

#define FANOUT      (1u << FW_VEC_BITS)
#define BUCKET_LOAD 2 /* entries to a bucket, on average */

/* ---- vectors ---- */

static struct fw_vec_node *
node_own(struct fw_parts *m, struct fw_vec_node *n)
{
	struct fw_vec_node *copy;

	if (n != NULL && fw_part_mine(m, n))
		return n;
	copy = fw_part_new(m, sizeof(*copy));
	if (copy != NULL && n != NULL) {
		memcpy(copy->at, n->at, sizeof(copy->at));
		fw_part_drop(m, n);
	}
	return copy;
}

int
fw_vec_set(struct fw_parts *m, struct fw_vec *v, uint32_t i, void *element)
{
	void **at = &v->root;

	while ((uint64_t)i >> (v->depth * FW_VEC_BITS) != 0) {
		struct fw_vec_node *top = NULL;

		if (v->root != NULL) {
			top = fw_part_new(m, sizeof(*top));
			if (top == NULL)
				return -ENOMEM;
			top->at[0] = v->root;
		}
		v->root = top;
		v->depth++;
	}
	for (uint32_t d = v->depth; d-- > 0;) {
		struct fw_vec_node *n = node_own(m, *at);

		if (n == NULL)
			return -ENOMEM;
		*at = n;
		at = &n->at[i >> (d * FW_VEC_BITS) & (FANOUT - 1)];
	}
	*at = element;
	v->nb = PK_MAX(v->nb, i + 1);
	return 0;
}

static void
node_drop(struct fw_parts *m, struct fw_vec_node *n, uint32_t depth)
{
	if (n == NULL || depth == 0)
		return;
	for (uint32_t i = 0; depth > 1 && i < FANOUT; i++)
		node_drop(m, n->at[i], depth - 1);
	fw_part_drop(m, n);
}

void
fw_vec_drop(struct fw_parts *m, const struct fw_vec *v)
{
	node_drop(m, v->root, v->depth);
}

/* ---- tables ---- */

static uint32_t
bucket_of(const struct fw_table *t, uint32_t hash)
{
	uint32_t i = hash & t->mask;

	return i < t->buckets.nb ? i : i & t->mask >> 1;
}

static char *
entry_find(struct fw_bucket *b, const struct fw_table_kind *kind, const void *key)
{
	for (uint32_t i = 0; b != NULL && i < b->nb; i++)
		if (memcmp(b->entry + i * kind->entry_size, key, kind->key_size) == 0)
			return b->entry + i * kind->entry_size;
	return NULL;
}

const void *
fw_table_find(const struct fw_table *t, const struct fw_table_kind *kind, const void *key)
{
	if (t->nb == 0)
		return NULL;
	return entry_find(fw_vec_get(&t->buckets, bucket_of(t, kind->hash(key))), kind, key);
}

/* Bucket i, to be altered, with room for `more` entries. */
static struct fw_bucket *
bucket_own(struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind, uint32_t i,
    uint32_t more)
{
	struct fw_bucket *b = fw_vec_get(&t->buckets, i), *copy;
	uint32_t nb = b != NULL ? b->nb : 0, room = nb + more;

	if (b != NULL && fw_part_mine(m, b) && b->room >= room)
		return b;
	copy = fw_part_new(m, sizeof(*copy) + (size_t)room * kind->entry_size);
	if (copy == NULL)
		return NULL;
	copy->nb = nb;
	copy->room = room;
	if (nb > 0)
		memcpy(copy->entry, b->entry, (size_t)nb * kind->entry_size);
	if (fw_vec_set(m, &t->buckets, i, copy) < 0) {
		fw_part_drop(m, copy);
		return NULL;
	}
	fw_part_drop(m, b);
	return copy;
}

/* One bucket more: the entries of the one it splits from go by one more bit of their hash. */
static int
table_grow(struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind)
{
	uint32_t to = t->buckets.nb, from, kept = 0;
	struct fw_bucket *a, *b;

	if (to > t->mask)
		t->mask = t->mask * 2 + 1;
	from = to & t->mask >> 1;
	a = fw_vec_get(&t->buckets, from);
	if (fw_vec_set(m, &t->buckets, to, NULL) < 0)
		return -ENOMEM;
	if (a == NULL)
		return 0;
	a = bucket_own(m, t, kind, from, 0);
	b = a != NULL && a->nb > 0 ? bucket_own(m, t, kind, to, a->nb) : NULL;
	if (a == NULL || (b == NULL && a->nb > 0))
		return -ENOMEM;
	for (uint32_t i = 0; i < a->nb; i++) {
		char *e = a->entry + i * kind->entry_size;

		if ((kind->hash(e) & t->mask) == to)
			memcpy(b->entry + b->nb++ * kind->entry_size, e, kind->entry_size);
		else
			memmove(a->entry + kept++ * kind->entry_size, e, kind->entry_size);
	}
	a->nb = kept;
	return 0;
}

void *
fw_table_edit(struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind,
    const void *key, bool make)
{
	uint32_t hash = kind->hash(key), i;
	struct fw_bucket *b;
	char *e;

	if (t->buckets.nb == 0) {
		if (!make || fw_vec_set(m, &t->buckets, 0, NULL) < 0)
			return NULL;
	}
	i = bucket_of(t, hash);
	e = entry_find(fw_vec_get(&t->buckets, i), kind, key);
	if (e == NULL && !make)
		return NULL;
	if (e == NULL && t->nb >= BUCKET_LOAD * t->buckets.nb) {
		if (table_grow(m, t, kind) < 0)
			return NULL;
		i = bucket_of(t, hash);
	}
	b = bucket_own(m, t, kind, i, e == NULL);
	if (b == NULL)
		return NULL;
	if (e != NULL)
		return entry_find(b, kind, key);
	e = b->entry + b->nb++ * kind->entry_size;
	memset(e, 0, kind->entry_size);
	memcpy(e, key, kind->key_size);
	t->nb++;
	return e;
}

int
fw_table_remove(
    struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind, const void *key)
{
	uint32_t i;
	struct fw_bucket *b;
	char *e, *last;

	if (fw_table_find(t, kind, key) == NULL)
		return 0;
	i = bucket_of(t, kind->hash(key));
	b = bucket_own(m, t, kind, i, 0);
	if (b == NULL)
		return -ENOMEM;
	e = entry_find(b, kind, key);
	last = b->entry + --b->nb * kind->entry_size;
	if (e != last)
		memcpy(e, last, kind->entry_size);
	t->nb--;
	return 0;
}

void
fw_table_drop(struct fw_parts *m, const struct fw_table *t, const struct fw_table_kind *kind,
    void (*each)(struct fw_parts *m, void *entry))
{
	for (uint32_t i = 0; i < t->buckets.nb; i++) {
		struct fw_bucket *b = fw_vec_get(&t->buckets, i);

		for (uint32_t k = 0; each != NULL && b != NULL && k < b->nb; k++)
			each(m, b->entry + k * kind->entry_size);
		fw_part_drop(m, b);
	}
	fw_vec_drop(m, &t->buckets);
}
