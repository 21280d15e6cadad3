#include "policy/map.h"
#include "policy/arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t seed[2];
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

static void
make_seed(void)
{
	/* Without entropy, as in early boot, the maps still work; they are only easier to flood. */
	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed[0] = (uint64_t)(uintptr_t)&seed;
}

static inline uint64_t
rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void
sipround(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). */
static uint64_t
siphash(const uint8_t *p, size_t len)
{
	uint64_t v[4] = { UINT64_C(0x736f6d6570736575) ^ seed[0],
		UINT64_C(0x646f72616e646f6d) ^ seed[1], UINT64_C(0x6c7967656e657261) ^ seed[0],
		UINT64_C(0x7465646279746573) ^ seed[1] };
	uint64_t last = (uint64_t)len << 56, m;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&m, p, 8);
		v[3] ^= m;
		sipround(v);
		sipround(v);
		v[0] ^= m;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sipround(v);
	sipround(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sipround(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void
policy_map_fini(struct policy_map *m)
{
	free(m->entries);
	memset(m, 0, sizeof(*m));
}

static struct policy_map_entry *
find(const struct policy_map *m, const void *key, size_t len, uint64_t hash)
{
	for (size_t i = hash;; i++) {
		struct policy_map_entry *e = &m->entries[i & (m->nb_slots - 1)];

		if (e->key == NULL ||
		    (e->hash == hash && e->len == len && memcmp(e->key, key, len) == 0))
			return e;
	}
}

uint32_t
policy_map_get(const struct policy_map *m, const void *key, size_t len)
{
	const struct policy_map_entry *e;

	if (m->nb_slots == 0)
		return POLICY_MAP_NONE;
	e = find(m, key, len, siphash(key, len));
	return e->key != NULL ? e->value : POLICY_MAP_NONE;
}

uint32_t
policy_map_get_text(const struct policy_map *m, const char *key)
{
	return policy_map_get(m, key, strlen(key));
}

static int
resize(struct policy_map *m, size_t nb_slots)
{
	struct policy_map bigger = { .nb_slots = nb_slots };

	bigger.entries = calloc(bigger.nb_slots, sizeof(bigger.entries[0]));
	if (bigger.entries == NULL)
		return -ENOMEM;
	policy_arena_advise(bigger.entries, nb_slots * sizeof(bigger.entries[0]));
	for (size_t i = 0; i < m->nb_slots; i++) {
		const struct policy_map_entry *e = &m->entries[i];

		if (e->key != NULL)
			*find(&bigger, e->key, e->len, e->hash) = *e;
	}
	bigger.nb_used = m->nb_used;
	free(m->entries);
	*m = bigger;
	return 0;
}

int
policy_map_reserve(struct policy_map *m, size_t nb)
{
	size_t nb_slots = 16;

	while (nb_slots * 3 < nb * 4 && nb_slots < SIZE_MAX / 8)
		nb_slots *= 2;
	return nb_slots > m->nb_slots ? resize(m, nb_slots) : 0;
}

int
policy_map_put(struct policy_map *m, const void *key, size_t len, uint32_t value)
{
	struct policy_map_entry *e;
	uint64_t hash;

	pthread_once(&seeded, make_seed);
	if (m->nb_used * 4 >= m->nb_slots * 3 &&
	    resize(m, m->nb_slots != 0 ? m->nb_slots * 2 : 16) < 0)
		return -ENOMEM;
	hash = siphash(key, len);
	e = find(m, key, len, hash);
	PK_ASSERT(e->key == NULL && value != POLICY_MAP_NONE);
	*e = (struct policy_map_entry){ .key = key, .len = len, .hash = hash, .value = value };
	m->nb_used++;
	return 0;
}

int
policy_map_put_text(struct policy_map *m, const char *key, uint32_t value)
{
	return policy_map_put(m, key, strlen(key), value);
}

uint32_t
policy_map_remove(struct policy_map *m, const void *key, size_t len)
{
	size_t mask = m->nb_slots - 1, hole;
	struct policy_map_entry *e;
	uint32_t value;

	if (m->nb_slots == 0)
		return POLICY_MAP_NONE;
	e = find(m, key, len, siphash(key, len));
	if (e->key == NULL)
		return POLICY_MAP_NONE;
	value = e->value;
	hole = (size_t)(e - m->entries);
	/* Close the gap: whoever would no longer be found across it moves into it. */
	for (size_t i = (hole + 1) & mask; m->entries[i].key != NULL; i = (i + 1) & mask) {
		if (((i - m->entries[i].hash) & mask) >= ((i - hole) & mask)) {
			m->entries[hole] = m->entries[i];
			hole = i;
		}
	}
	m->entries[hole].key = NULL;
	m->nb_used--;
	return value;
}

uint32_t
policy_map_remove_text(struct policy_map *m, const char *key)
{
	return policy_map_remove(m, key, strlen(key));
}
