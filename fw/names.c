#include "fw/names.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <rte_spinlock.h>

#include "fw/siphash.h"
#include "lib/base.h"

#define WAYS 8

struct fw_names {
	rte_spinlock_t lock;
	_Atomic uint32_t nb;
	uint32_t mask; /* of the sets of WAYS entries */
	uint64_t key[2];
	struct fw_names_entry *entry; /* nb 0: free */
};

int
fw_names_create(struct fw_names **out, uint32_t room, const uint64_t seed[2])
{
	struct fw_names *t = calloc(1, sizeof(*t));
	uint32_t sets = 1;

	if (t == NULL)
		return -ENOMEM;
	while (sets * WAYS < PK_MIN(room, FW_NAMES_MAX))
		sets *= 2;
	t->mask = sets - 1;
	t->entry = calloc((size_t)sets * WAYS, sizeof(t->entry[0]));
	if (t->entry == NULL) {
		free(t);
		return -ENOMEM;
	}
	t->key[0] = seed[0];
	t->key[1] = seed[1];
	rte_spinlock_init(&t->lock);
	*out = t;
	return 0;
}

void
fw_names_destroy(struct fw_names *t)
{
	if (t == NULL)
		return;
	free(t->entry);
	free(t);
}

static struct fw_names_entry *
ways(
    const struct fw_names *t, uint32_t vrf, const struct pk_addr *asker, const struct pk_addr *addr)
{
	uint64_t words[5];

	memcpy(words, addr->bytes, 16);
	memcpy(words + 2, asker->bytes, 16);
	words[4] = (uint64_t)vrf << 32 | (uint64_t)asker->family << 8 | addr->family;
	return &t->entry[(fw_siphash(t->key, words, 5) & t->mask) * WAYS];
}

static struct fw_names_entry *
find(
    const struct fw_names *t, uint32_t vrf, const struct pk_addr *asker, const struct pk_addr *addr)
{
	struct fw_names_entry *e = ways(t, vrf, asker, addr);

	for (unsigned int i = 0; i < WAYS; i++)
		if (e[i].nb != 0 && e[i].vrf == vrf && pk_addr_compare(&e[i].addr, addr) == 0 &&
		    pk_addr_compare(&e[i].asker, asker) == 0)
			return &e[i];
	return NULL;
}

static uint64_t
lasts(const struct fw_names_entry *e)
{
	uint64_t until = 0;

	for (uint32_t i = 0; i < e->nb; i++)
		until = PK_MAX(until, e->in[i].until_ns);
	return until;
}

/* A place for another address: a free one, or that of what has run out longest ago. */
static struct fw_names_entry *
make_room(struct fw_names *t, struct fw_names_entry *e, uint64_t now_ns)
{
	struct fw_names_entry *oldest = NULL;

	for (unsigned int i = 0; i < WAYS; i++) {
		if (e[i].nb == 0) {
			atomic_fetch_add_explicit(&t->nb, 1, memory_order_relaxed);
			return &e[i];
		}
		if (lasts(&e[i]) <= now_ns && (oldest == NULL || lasts(&e[i]) < lasts(oldest)))
			oldest = &e[i];
	}
	return oldest;
}

static bool
add_pattern(struct fw_names_entry *e, uint64_t pattern, uint64_t now_ns, uint64_t until_ns)
{
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < e->nb; i++) {
		if (e->in[i].pattern == pattern) {
			e->in[i].until_ns = PK_MAX(e->in[i].until_ns, until_ns);
			return true;
		}
		if (e->in[i].until_ns < e->in[oldest].until_ns)
			oldest = i;
	}
	if (e->nb < FW_NAMED_MAX)
		oldest = e->nb++;
	else if (e->in[oldest].until_ns > now_ns)
		return false;
	e->in[oldest].pattern = pattern;
	e->in[oldest].until_ns = until_ns;
	return true;
}

bool
fw_names_learn(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, const struct fw_named *named, uint64_t now_ns, uint64_t until_ns)
{
	static const struct pk_addr all;
	struct fw_names_entry *e;
	bool kept = true;

	if (asker == NULL)
		asker = &all;
	rte_spinlock_lock(&t->lock);
	e = find(t, vrf, asker, addr);
	if (e == NULL) {
		e = make_room(t, ways(t, vrf, asker, addr), now_ns);
		if (e != NULL)
			*e = (struct fw_names_entry){ .vrf = vrf, .addr = *addr, .asker = *asker };
	}
	for (uint32_t i = 0; e != NULL && i < named->nb; i++)
		kept &= add_pattern(e, named->pattern[i], now_ns, until_ns);
	rte_spinlock_unlock(&t->lock);
	return e != NULL && kept;
}

static void
collect(const struct fw_names_entry *e, bool held, uint64_t now_ns, struct fw_named *out)
{
	for (uint32_t i = 0; e != NULL && i < e->nb && out->nb < FW_NAMED_MAX; i++) {
		uint32_t k = 0;

		if (!held && e->in[i].until_ns <= now_ns)
			continue;
		while (k < out->nb && out->pattern[k] != e->in[i].pattern)
			k++;
		if (k == out->nb)
			out->pattern[out->nb++] = e->in[i].pattern;
	}
}

void
fw_names_find(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, bool held, uint64_t now_ns, struct fw_named *out)
{
	static const struct pk_addr all;

	out->nb = 0;
	if (fw_names_nb(t) == 0)
		return;
	rte_spinlock_lock(&t->lock);
	collect(find(t, vrf, &all, addr), held, now_ns, out);
	collect(find(t, vrf, asker, addr), held, now_ns, out);
	rte_spinlock_unlock(&t->lock);
}

uint32_t
fw_names_nb(const struct fw_names *t)
{
	return atomic_load_explicit(&t->nb, memory_order_relaxed);
}

bool
fw_names_next(struct fw_names *t, uint32_t *at, struct fw_names_entry *out)
{
	bool found = false;

	rte_spinlock_lock(&t->lock);
	for (; *at < (t->mask + 1) * WAYS && !found; *at += !found) {
		found = t->entry[*at].nb != 0;
		if (found)
			*out = t->entry[*at];
	}
	rte_spinlock_unlock(&t->lock);
	return found;
}
