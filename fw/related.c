#include "fw/related.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_spinlock.h>

#include "fw/siphash.h"

#define WAYS 8

struct entry {
	struct fw_related_flow flow;
	uint64_t until_ns; /* 0: free */
};

struct fw_related {
	_Atomic uint32_t nb; /* of entries not free, expired ones included */
	rte_spinlock_t lock;
	uint64_t key[2];
	struct entry entry[FW_RELATED_MAX / WAYS][WAYS];
};

int
fw_related_create(struct fw_related **out, const uint64_t seed[2])
{
	struct fw_related *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->key[0] = seed[0];
	t->key[1] = seed[1];
	rte_spinlock_init(&t->lock);
	*out = t;
	return 0;
}

void
fw_related_destroy(struct fw_related *t)
{
	free(t);
}

static struct entry *
set_of(struct fw_related *t, const struct fw_related_flow *f)
{
	uint64_t words[5];

	memcpy(&words[0], f->src.bytes, 16);
	memcpy(&words[2], f->dst.bytes, 16);
	words[4] = (uint64_t)f->vrf << 32 | (uint64_t)f->dport << 16 | f->proto;
	return t->entry[fw_siphash(t->key, words, 5) % (FW_RELATED_MAX / WAYS)];
}

static bool
same(const struct fw_related_flow *a, const struct fw_related_flow *b)
{
	return a->dport == b->dport && a->proto == b->proto && a->wire == b->wire &&
	    a->vrf == b->vrf && pk_addr_compare(&a->src, &b->src) == 0 &&
	    pk_addr_compare(&a->dst, &b->dst) == 0;
}

/* The lock is held.  The entry of the flow; NULL: there is none.  *room: one that may be taken for it, or NULL. */
static struct entry *
find(struct fw_related *t, const struct fw_related_flow *f, uint64_t now_ns, struct entry **room)
{
	struct entry *set = set_of(t, f);

	*room = NULL;
	for (unsigned int i = 0; i < WAYS; i++) {
		struct entry *e = &set[i];

		if (e->until_ns != 0 && e->until_ns <= now_ns) {
			e->until_ns = 0;
			atomic_fetch_sub_explicit(&t->nb, 1, memory_order_relaxed);
		}
		if (e->until_ns == 0)
			*room = e;
		else if (same(&e->flow, f))
			return e;
	}
	return NULL;
}

bool
fw_related_announce(struct fw_related *t, const struct fw_related_flow *f, uint64_t now_ns)
{
	struct entry *e, *room;

	rte_spinlock_lock(&t->lock);
	e = find(t, f, now_ns, &room);
	if (e == NULL && room != NULL) {
		e = room;
		atomic_fetch_add_explicit(&t->nb, 1, memory_order_release);
	}
	if (e != NULL) {
		e->flow = *f;
		e->until_ns = now_ns + FW_RELATED_NS;
	}
	rte_spinlock_unlock(&t->lock);
	return e != NULL;
}

bool
fw_related_take(struct fw_related *t, struct fw_related_flow *f, uint64_t now_ns)
{
	struct entry *e, *room;

	if (likely(atomic_load_explicit(&t->nb, memory_order_acquire) == 0))
		return false;
	rte_spinlock_lock(&t->lock);
	e = find(t, f, now_ns, &room);
	if (e != NULL) {
		*f = e->flow;
		e->until_ns = 0;
		atomic_fetch_sub_explicit(&t->nb, 1, memory_order_relaxed);
	}
	rte_spinlock_unlock(&t->lock);
	return e != NULL;
}

uint32_t
fw_related_nb(const struct fw_related *t)
{
	return atomic_load_explicit(&t->nb, memory_order_relaxed);
}
