#include "fw/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf_dyn.h>
#include <rte_spinlock.h>

#include "lib/base.h"

#define WAYS 4

struct entry {
	uint8_t inside[16], outside[16];
	struct fw_tls_link link;
	uint16_t wire;
	uint8_t len; /* of the addresses; 0: free */
	uint8_t zero;
	uint32_t used_s;
};

/* Lcores that share a wire share these; a frame holds the lock for some dozens of cycles. */
struct bucket {
	rte_spinlock_t lock;
	struct entry way[WAYS];
} PK_CACHE_ALIGNED;

struct fw_tls_links {
	struct bucket bucket[FW_TLS_BUCKETS];
};

int
fw_tls_create(struct fw_tls **out, uint64_t wires, struct pk_diag *diag)
{
	static const struct rte_mbuf_dynflag flag = { .name = "picket_tls_came" };
	struct fw_tls *t = calloc(1, sizeof(*t));
	int bit;

	if (t == NULL)
		return -ENOMEM;
	t->wires = wires;
	bit = rte_mbuf_dynflag_register(&flag);
	t->links = aligned_alloc(PK_CACHE_LINE, sizeof(*t->links));
	if (bit < 0 || t->links == NULL) {
		pk_diag_set(diag, "TLS: no memory, or no room in packet buffers");
		fw_tls_destroy(t);
		return -ENOMEM;
	}
	memset(t->links, 0, sizeof(*t->links));
	t->mark_flag = UINT64_C(1) << bit;
	*out = t;
	return 0;
}

void
fw_tls_destroy(struct fw_tls *t)
{
	if (t == NULL)
		return;
	free(t->links);
	free(t);
}

static struct bucket *
bucket_of(struct fw_tls *t, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len)
{
	uint64_t h = wire + UINT64_C(0x9e3779b97f4a7c15), w;

	for (unsigned int i = 0; i < len; i += 4) {
		uint32_t a, b;

		memcpy(&a, inside + i, 4);
		memcpy(&b, outside + i, 4);
		w = (uint64_t)a << 32 | b;
		h = (h ^ w) * UINT64_C(0xbf58476d1ce4e5b9);
		h ^= h >> 31;
	}
	return &t->links->bucket[h % FW_TLS_BUCKETS];
}

/* The pair's way in its bucket, or, with `victim`, the one that may be overwritten; else NULL. */
static struct entry *
way_of(struct bucket *b, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len, bool victim)
{
	struct entry *old = NULL;

	for (unsigned int k = 0; k < WAYS; k++) {
		struct entry *e = &b->way[k];

		if (e->len == len && e->wire == wire && memcmp(e->inside, inside, len) == 0 &&
		    memcmp(e->outside, outside, len) == 0)
			return e;
		if (old == NULL || (old->len != 0 && (e->len == 0 || e->used_s < old->used_s)))
			old = e;
	}
	return victim ? old : NULL;
}

void
fw_tls_learn(struct fw_tls *t, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len, const struct fw_tls_link *link, uint32_t now_s)
{
	struct bucket *b = bucket_of(t, wire, inside, outside, len);
	struct entry *e;

	rte_spinlock_lock(&b->lock);
	e = way_of(b, wire, inside, outside, len, true);
	memcpy(e->inside, inside, len);
	memcpy(e->outside, outside, len);
	e->wire = wire;
	e->len = (uint8_t)len;
	e->link = *link;
	e->used_s = now_s;
	rte_spinlock_unlock(&b->lock);
}

bool
fw_tls_find(struct fw_tls *t, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len, struct fw_tls_link *link, uint32_t now_s)
{
	struct bucket *b = bucket_of(t, wire, inside, outside, len);
	struct entry *e;

	rte_spinlock_lock(&b->lock);
	e = way_of(b, wire, inside, outside, len, false);
	if (e != NULL) {
		*link = e->link;
		e->used_s = now_s;
	}
	rte_spinlock_unlock(&b->lock);
	return e != NULL;
}
