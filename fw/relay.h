#pragma once

#include "fw/path.h"
#include "fw/steer.h"

/*
 * Packets from lcore to lcore: rings between each two of them, one writer and one reader each.
 *
 *      FW_RELAY_JUDGE    to the lcore that has their session, which counts them as received
 *      FW_RELAY_SEND     judged and counted as sent, to the lcore that has the queue of the port they leave by
 *
 * A ring is bounded, and nobody waits for room in it.  Packets of one flow go one way, so they stay in order.
 * While it is in a ring a packet's mbuf says in `port` where it comes from or goes to: fw_relay_mark().
 */
enum fw_relay_kind {
	FW_RELAY_JUDGE = 0,
	FW_RELAY_SEND,
	FW_RELAY_KINDS,
};

#define FW_RELAY_ENTRIES 1024 /* packets between two lcores: at 10 Mpps a tenth of a millisecond */

struct fw_relay;

static inline uint16_t
fw_relay_mark(uint16_t wire, enum fw_side side)
{
	return (uint16_t)(wire * FW_EXIT_COUNT + side);
}

static inline uint16_t
fw_relay_wire(uint16_t mark)
{
	return mark / FW_EXIT_COUNT;
}

static inline enum fw_side
fw_relay_side(uint16_t mark)
{
	return (enum fw_side)(mark % FW_EXIT_COUNT);
}

/* Context: control thread.  Returns 0 or -ENOMEM; the caller owns *out.  destroy() frees the packets in it. */
int fw_relay_create(struct fw_relay **out, uint16_t nb_lcores);
void fw_relay_destroy(struct fw_relay *r);

/* Hand over pkts[0 .. n - 1], marked so.  Returns how many; the others are still the caller's.
 * Context: lcore `from`. */
unsigned int fw_relay_put(struct fw_relay *r, enum fw_relay_kind kind, uint16_t from, uint16_t to,
    uint16_t mark, struct rte_mbuf **pkts, unsigned int n);

/* Take at most n packets from lcore `from`, of any marks.  Context: lcore `to`. */
unsigned int fw_relay_take(struct fw_relay *r, enum fw_relay_kind kind, uint16_t from, uint16_t to,
    struct rte_mbuf **pkts, unsigned int n);

/* Bring those marked like pkts[0] to the front, and otherwise keep the order.  Returns how many they are. */
unsigned int fw_relay_group(struct rte_mbuf **pkts, unsigned int n);

/*
 * Packets pkts[0 .. n - 1], n <= FW_BURST, have come in on side `from` of `wire`: hand over what another lcore
 * owns, and bring what stays to the front, in order.  Returns how many stay.  What finds no room drops as
 * `lcore-full`, and `p` counts it.  r may be NULL if no wire is spread.
 * Context: lcore `me`, whose g and p are.
 */
unsigned int fw_relay_sort(struct fw_relay *r, struct fw_steering *g, struct fw_path *p,
    uint16_t me, uint16_t wire, enum fw_side from, struct rte_mbuf **pkts, unsigned int n,
    uint64_t now_ns, uint64_t *handed);
