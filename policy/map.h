#pragma once

#include "lib/base.h"

/*
 * A hash table from bytes to a number.  Keys come from policy files, so the hash is keyed per
 * process (SipHash-2-4): nobody can write a file whose names all fall into one bucket.
 * Nothing may depend on the order of the buckets, hence there is no way to walk them.
 * Context: one thread at a time.
 */
struct policy_map {
	struct policy_map_entry *entries; /* nb_slots, a power of two, or NULL */
	size_t nb_slots, nb_used;
};

struct policy_map_entry {
	const void *key; /* NULL: free; borrowed */
	size_t len;
	uint64_t hash;
	uint32_t value;
};

#define POLICY_MAP_NONE UINT32_MAX

/* A zeroed map is an empty one. */
void policy_map_fini(struct policy_map *m);

/* Make room for `nb` keys at once, where their number is known: growing to it moves each key twice. */
int policy_map_reserve(struct policy_map *m, size_t nb);

/* The value of key[0 .. len - 1], or POLICY_MAP_NONE. */
uint32_t policy_map_get(const struct policy_map *m, const void *key, size_t len);
uint32_t policy_map_get_text(const struct policy_map *m, const char *key);

/* Take `key` out.  Returns its value, or POLICY_MAP_NONE if it was not there. */
uint32_t policy_map_remove(struct policy_map *m, const void *key, size_t len);
uint32_t policy_map_remove_text(struct policy_map *m, const char *key);

/*
 * Enter `key`, which must outlive the map and not be in it.  `value` is below POLICY_MAP_NONE.
 * Returns 0 or -ENOMEM.
 */
int policy_map_put(struct policy_map *m, const void *key, size_t len, uint32_t value);
int policy_map_put_text(struct policy_map *m, const char *key, uint32_t value);
