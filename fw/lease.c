#include "fw/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_spinlock.h>

#include "fw/siphash.h"
#include "lib/base.h"

#define WAYS 8

struct lease {
	struct pk_addr addr; /* family 0: free */
	uint32_t vrf;
	uint16_t wire;
	uint8_t mac[6];
	uint64_t until_ns;
};

struct fw_leases {
	_Atomic uint32_t version, nb;
	_Atomic uint64_t next_ns; /* when the first of them ends, or earlier */
	rte_spinlock_t lock;
	uint64_t key[2];
	struct lease lease[FW_LEASES_MAX / WAYS][WAYS];
};

int
fw_leases_create(struct fw_leases **out, const uint64_t seed[2])
{
	struct fw_leases *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->key[0] = seed[0];
	t->key[1] = seed[1];
	t->next_ns = UINT64_MAX;
	rte_spinlock_init(&t->lock);
	*out = t;
	return 0;
}

void
fw_leases_destroy(struct fw_leases *t)
{
	free(t);
}

/* The lock is held.  *room: one that may be taken for it, or NULL. */
static struct lease *
find(struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a, struct lease **room)
{
	uint64_t words[3];
	struct lease *set;

	memcpy(words, a->bytes, 16);
	words[2] = (uint64_t)vrf << 32 | (uint64_t)wire << 8 | a->family;
	set = t->lease[fw_siphash(t->key, words, 3) % (FW_LEASES_MAX / WAYS)];
	*room = NULL;
	for (unsigned int i = 0; i < WAYS; i++) {
		if (set[i].addr.family == 0)
			*room = &set[i];
		else if (set[i].wire == wire && set[i].vrf == vrf &&
		    pk_addr_compare(&set[i].addr, a) == 0)
			return &set[i];
	}
	return NULL;
}

static void
changed(struct fw_leases *t)
{
	atomic_fetch_add_explicit(&t->version, 1, memory_order_release);
}

bool
fw_leases_put(struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a,
    const uint8_t mac[6], uint64_t until_ns)
{
	struct lease *l, *room;

	rte_spinlock_lock(&t->lock);
	l = find(t, wire, vrf, a, &room);
	if (l == NULL && room != NULL) {
		l = room;
		*l = (struct lease){ .addr = *a, .vrf = vrf, .wire = wire };
		atomic_fetch_add_explicit(&t->nb, 1, memory_order_relaxed);
		memcpy(l->mac, mac, 6);
		changed(t);
	}
	if (l != NULL) {
		/* A renewal changes nothing that anybody remembers. */
		if (memcmp(l->mac, mac, 6) != 0) {
			memcpy(l->mac, mac, 6);
			changed(t);
		}
		l->until_ns = until_ns;
		if (until_ns < atomic_load_explicit(&t->next_ns, memory_order_relaxed))
			atomic_store_explicit(&t->next_ns, until_ns, memory_order_relaxed);
	}
	rte_spinlock_unlock(&t->lock);
	return l != NULL;
}

static void
end(struct fw_leases *t, struct lease *l)
{
	l->addr.family = 0;
	atomic_fetch_sub_explicit(&t->nb, 1, memory_order_relaxed);
	changed(t);
}

void
fw_leases_end(
    struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a, const uint8_t mac[6])
{
	struct lease *l, *room;

	rte_spinlock_lock(&t->lock);
	l = find(t, wire, vrf, a, &room);
	if (l != NULL && memcmp(l->mac, mac, 6) == 0)
		end(t, l);
	rte_spinlock_unlock(&t->lock);
}

bool
fw_leases_get(
    struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a, uint8_t mac[6])
{
	struct lease *l, *room;

	if (fw_leases_nb(t) == 0)
		return false;
	rte_spinlock_lock(&t->lock);
	l = find(t, wire, vrf, a, &room);
	if (l != NULL)
		memcpy(mac, l->mac, 6);
	rte_spinlock_unlock(&t->lock);
	return l != NULL;
}

void
fw_leases_expire(struct fw_leases *t, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	if (likely(now_ns < atomic_load_explicit(&t->next_ns, memory_order_relaxed)) ||
	    !rte_spinlock_trylock(&t->lock))
		return;
	for (unsigned int s = 0; s < FW_LEASES_MAX / WAYS; s++) {
		for (unsigned int i = 0; i < WAYS; i++) {
			struct lease *l = &t->lease[s][i];

			if (l->addr.family == 0)
				continue;
			if (l->until_ns <= now_ns)
				end(t, l);
			else
				next = PK_MIN(next, l->until_ns);
		}
	}
	/* Not more than once a second, however they end. */
	if (next != UINT64_MAX)
		next = PK_MAX(next, now_ns + UINT64_C(1000000000));
	atomic_store_explicit(&t->next_ns, next, memory_order_relaxed);
	rte_spinlock_unlock(&t->lock);
}

uint32_t
fw_leases_version(const struct fw_leases *t)
{
	return atomic_load_explicit(&t->version, memory_order_acquire);
}

uint32_t
fw_leases_nb(const struct fw_leases *t)
{
	return atomic_load_explicit(&t->nb, memory_order_relaxed);
}
