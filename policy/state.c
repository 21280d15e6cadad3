#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/resource.h"

/* Open addressing with linear probing; removal closes the gap, so there are no tombstones. */
struct policy_state {
	struct policy_resource **slot;
	size_t nb_slots; /* a power of two */
	size_t nb;
	uint64_t hash;
};

#define SLOTS_MIN 16

static uint64_t
key_hash(unsigned int type, const uint8_t *key, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ type;

	for (size_t i = 0; i < len; i++)
		h = (h ^ key[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	return h * UINT64_C(0x9e3779b97f4a7c15) >> 16;
}

/* The slot that has the key, or the free one where it belongs. */
static size_t
probe(const struct policy_state *s, unsigned int type, const uint8_t *key, size_t len)
{
	size_t mask = s->nb_slots - 1, i = key_hash(type, key, len) & mask;
	const struct policy_resource *r;

	for (; (r = s->slot[i]) != NULL; i = (i + 1) & mask)
		if (r->type == type && r->key_len == len && memcmp(r->key, key, len) == 0)
			break;
	return i;
}

struct policy_state *
policy_state_create(void)
{
	struct policy_state *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->nb_slots = SLOTS_MIN;
	s->slot = calloc(s->nb_slots, sizeof(s->slot[0]));
	if (s->slot == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

struct policy_state *
policy_state_clone(const struct policy_state *s)
{
	struct policy_state *c = malloc(sizeof(*c));

	if (c == NULL)
		return NULL;
	*c = *s;
	c->slot = malloc(s->nb_slots * sizeof(s->slot[0]));
	if (c->slot == NULL) {
		free(c);
		return NULL;
	}
	memcpy(c->slot, s->slot, s->nb_slots * sizeof(s->slot[0]));
	for (size_t i = 0; i < c->nb_slots; i++)
		if (c->slot[i] != NULL)
			policy_resource_get(c->slot[i]);
	return c;
}

void
policy_state_destroy(struct policy_state *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->nb_slots; i++)
		policy_resource_put(s->slot[i]);
	free(s->slot);
	free(s);
}

static int
grow(struct policy_state *s)
{
	struct policy_state wider = { .nb_slots = s->nb_slots * 2 };

	wider.slot = calloc(wider.nb_slots, sizeof(wider.slot[0]));
	if (wider.slot == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < s->nb_slots; i++) {
		struct policy_resource *r = s->slot[i];

		if (r != NULL)
			wider.slot[probe(&wider, r->type, r->key, r->key_len)] = r;
	}
	free(s->slot);
	s->slot = wider.slot;
	s->nb_slots = wider.nb_slots;
	return 0;
}

int
policy_state_put(struct policy_state *s, struct policy_resource *r)
{
	size_t i;

	if ((s->nb + 1) * 4 > s->nb_slots * 3 && grow(s) != 0)
		return -ENOMEM;
	i = probe(s, r->type, r->key, r->key_len);
	policy_resource_get(r);
	if (s->slot[i] != NULL) {
		s->hash -= s->slot[i]->version;
		policy_resource_put(s->slot[i]);
	} else {
		s->nb++;
	}
	s->hash += r->version;
	s->slot[i] = r;
	return 0;
}

int
policy_state_remove(struct policy_state *s, unsigned int type, const uint8_t *key, size_t key_len)
{
	size_t mask = s->nb_slots - 1, hole = probe(s, type, key, key_len);

	if (s->slot[hole] == NULL)
		return -ENOENT;
	s->hash -= s->slot[hole]->version;
	policy_resource_put(s->slot[hole]);
	s->slot[hole] = NULL;
	s->nb--;
	for (size_t i = (hole + 1) & mask; s->slot[i] != NULL; i = (i + 1) & mask) {
		const struct policy_resource *r = s->slot[i];
		size_t home = key_hash(r->type, r->key, r->key_len) & mask;

		/* Whoever would no longer be found across the hole moves into it. */
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			s->slot[hole] = s->slot[i];
			s->slot[i] = NULL;
			hole = i;
		}
	}
	return 0;
}

struct policy_resource *
policy_state_find(
    const struct policy_state *s, unsigned int type, const uint8_t *key, size_t key_len)
{
	return s->slot[probe(s, type, key, key_len)];
}

struct policy_resource *
policy_state_like(const struct policy_state *s, const struct policy_resource *like)
{
	return policy_state_find(s, like->type, like->key, like->key_len);
}

struct policy_resource *
policy_state_next(const struct policy_state *s, size_t *at)
{
	while (*at < s->nb_slots) {
		struct policy_resource *r = s->slot[(*at)++];

		if (r != NULL)
			return r;
	}
	return NULL;
}

size_t
policy_state_count(const struct policy_state *s)
{
	return s->nb;
}

uint64_t
policy_state_hash(const struct policy_state *s)
{
	return s->hash;
}
