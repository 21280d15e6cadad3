#pragma once

#include "fw/rule_part.h"

/*
 * Vectors and hash tables of which a changed copy shares what has not changed (fw/rule_part.h).
 * The structs here are handles, copied by value; changing one leaves other copies as they were.
 */
#define FW_VEC_BITS 6 /* 64 pointers to a node */

/* Pointers by number; NULL from nb on. */
struct fw_vec {
	void *root; /* of `depth` levels of nodes; with depth 0 the one element itself */
	uint32_t nb, depth;
};

struct fw_vec_node {
	struct fw_part part;
	void *at[1 << FW_VEC_BITS];
};

static inline void *
fw_vec_get(const struct fw_vec *v, uint32_t i)
{
	void *p = i < v->nb ? v->root : NULL;

	/* Where nothing was ever put there may be no nodes either. */
	for (uint32_t d = v->depth; p != NULL && d-- > 0;)
		p = ((const struct fw_vec_node *)p)
		        ->at[i >> (d * FW_VEC_BITS) & ((1 << FW_VEC_BITS) - 1)];
	return p;
}

/* Put `element` (NULL too) at `i`, which may be beyond the end.  Returns 0 or -ENOMEM. */
int fw_vec_set(struct fw_parts *m, struct fw_vec *v, uint32_t i, void *element);

/* Drop the nodes; the elements are the caller's. */
void fw_vec_drop(struct fw_parts *m, const struct fw_vec *v);

/*
 * A hash table in buckets of about two entries, growing by one bucket at a time (linear hashing,
 * Litwin, VLDB 1980), so that no insertion has to move all.  An entry begins with its key.
 */
struct fw_table_kind {
	uint16_t entry_size, key_size; /* bytes; entries are aligned to 8 */
	uint32_t (*hash)(const void *key);
};

struct fw_table {
	struct fw_vec buckets;
	uint32_t nb;
	uint32_t
	    mask; /* of the hash: the power of two at or above the number of buckets, less one */
};

struct fw_bucket {
	struct fw_part part;
	uint32_t nb, room;
	char entry[];
};

/* The bucket a key with that hash is in, if it is anywhere; NULL for an empty one. */
static inline const struct fw_bucket *
fw_table_bucket(const struct fw_table *t, uint32_t hash)
{
	uint32_t i = hash & t->mask;

	if (i >= t->buckets.nb)
		i &= t->mask >> 1;
	return t->nb != 0 ? fw_vec_get(&t->buckets, i) : NULL;
}

/* The entry with that key, or NULL. */
const void *fw_table_find(
    const struct fw_table *t, const struct fw_table_kind *kind, const void *key);

/*
 * The entry with that key, to be altered within this change; made, zero behind its key, if there is
 * none and `make` is true.  NULL: there is none, or no memory (then m->failed).
 */
void *fw_table_edit(struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind,
    const void *key, bool make);

/* Take out the entry with that key, if there is one.  Returns 0 or -ENOMEM. */
int fw_table_remove(
    struct fw_parts *m, struct fw_table *t, const struct fw_table_kind *kind, const void *key);

/* Drop buckets and nodes, having called `each` (may be NULL) for every entry. */
void fw_table_drop(struct fw_parts *m, const struct fw_table *t, const struct fw_table_kind *kind,
    void (*each)(struct fw_parts *m, void *entry));
