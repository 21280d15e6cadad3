#pragma once

#include <stdbool.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>

#include "fw/parse.h"

/*
 * Link headers: how a frame of a session looks before the IP header.
 *
 * A packet made in answer to another copies its Ethernet addresses and tags.  An idle session has no
 * packet at hand when its end is to be told, so it remembers the header of its first one.  Behind one DPU
 * there are few different ones, so they are kept once, with a count, and the session has a number of 16
 * bits in a gap of its record.
 *
 * The table belongs to one lcore.  When it is full, new sessions have number 0, and are ended without a word.
 */
#define FW_ETHERS_MAX 4096

struct fw_ether {
	uint8_t bytes[22]; /* addresses, up to two tags, EtherType */
	uint8_t len;
	uint8_t stripped; /* the port has taken a tag off: tci */
	uint16_t tci;
	uint16_t next;
	uint32_t refs;
};

struct fw_ethers {
	struct fw_ether *ether; /* [0] stands for none */
	uint16_t *head;
	uint16_t free, fresh, last;
	bool borrowed; /* `ether` is somebody else's memory */
};

/* `memory`: FW_ETHERS_MAX + 1 entries to use, borrowed; NULL: its own, empty.  Context: control thread.
 * Returns 0 or -ENOMEM. */
int fw_ethers_init(struct fw_ethers *t, struct fw_ether *memory);
void fw_ethers_fini(struct fw_ethers *t);

/* The number of the link header of `pk`, with a reference; 0 when there is no room.  Context of this and
 * what follows: the owning lcore. */
uint16_t fw_ethers_get_other(struct fw_ethers *t, const struct fw_pkt *pk);
void fw_ethers_end(struct fw_ethers *t, uint16_t i);

/* The number of a header that is already in that form; `e` need not be in a table. */
uint16_t fw_ethers_get_same(struct fw_ethers *t, const struct fw_ether *e);

/*
 * Take over what stands in borrowed memory.  Between the two each session says which number it has;
 * false: it has none.  What nobody has is given up.
 */
void fw_ethers_restore_begin(struct fw_ethers *t);
bool fw_ethers_restore(struct fw_ethers *t, uint16_t i);
void fw_ethers_restore_end(struct fw_ethers *t);

static __rte_always_inline uint16_t
fw_ethers_get(struct fw_ethers *t, const struct fw_pkt *pk)
{
	struct fw_ether *e = &t->ether[t->last];
	uint64_t a[2], b[2];

	if (unlikely(pk->l3 != 14 || pk->contiguous < 16))
		return fw_ethers_get_other(t, pk);
	/* Most often it is the one of the session before.  Two bytes more than the header are of IP: of
	 * the second word all but those count. */
	memcpy(a, pk->data, sizeof(a));
	memcpy(b, e->bytes, sizeof(b));
	if (likely(a[0] == b[0] && ((a[1] ^ b[1]) & UINT64_C(0xffffffffffff)) == 0 &&
	        e->refs != 0 && e->len == 14 && e->stripped == 0 &&
	        (pk->m == NULL || (pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) == 0))) {
		e->refs++;
		return t->last;
	}
	return fw_ethers_get_other(t, pk);
}

static __rte_always_inline void
fw_ethers_put(struct fw_ethers *t, uint16_t i) /* 0 is allowed */
{
	if (i != 0 && --t->ether[i].refs == 0)
		fw_ethers_end(t, i);
}
