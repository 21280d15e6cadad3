#pragma once

#include "fw/guard.h"
#include "fw/session.h"

/*
 * The fast lane: data and ACKs of established TCP sessions, which is nearly all there is.
 *
 * It is the general stages in short, and decides nothing of its own.  A packet is in the lane when each
 * question that the general stages would ask of it has the common answer; at the first other answer it
 * leaves, unchanged, and they take it from the start.  So the lane refuses nothing, opens nothing and moves
 * no state: all it does is let pass and write down numbers, by the very functions the general stages use.
 *
 *      general stage          the lane's answer
 *      port, checksums        one segment, nothing taken off or left to do; L4 verified if that is wanted
 *      fw_parse()             Ethernet, untagged; IPv4 without options, whole, sum right, or IPv6 without
 *                             extension headers; TCP with ACK only
 *      fw_guard_inside()      remembered: this address, this MAC, this wire, this generation
 *      fw_sessions_settle()   the first tag that matched was the one
 *      fw_judge()             right side, this generation, established, in order
 *
 * A stage that has to see packets which the lane would let pass either closes it for the burst (`open` of
 * fw_lane_init()), or marks its sessions with a bit of fw_session.flags that is not among FW_LANE_FLAGS.
 * Neither costs the lane an instruction.  FW_SESSION_EXTRA (fw/extra.h) is such a bit.
 *
 * tests/unit/fw_lane_test.c sends the same packets through two paths, one without the lane, and wants the
 * same verdicts, sessions and counters.
 */
struct fw_lane {
	const struct fw_sessions *t;
	const struct fw_guard *guard;
	uint64_t ol_mask, ol_want; /* of mbuf flags: must be as wanted */
	uint32_t tail;             /* end of the key, but for the family */
	uint32_t generation, seen;
	uint16_t wire;
	uint8_t from; /* enum fw_side */
};

/* Flags a session in the lane may have. */
#define FW_LANE_FLAGS                                                                          \
	(FW_SESSION_HI | FW_SESSION_FROM_OUTSIDE | FW_SESSION_WSCALE | FW_SESSION_CHALLENGED | \
	    FW_SESSION_LOOSE | FW_SESSION_SYN_R | FW_SESSION_LOG_END)

/* For one burst.  Not `open`: nothing will be let in. */
void fw_lane_init(struct fw_lane *l, bool open, const struct fw_sessions *t, struct fw_guard *guard,
    uint16_t wire, enum fw_side from, uint64_t generation, uint32_t seen, bool verify_checksums);

/*
 * Read pkts[0 .. n - 1] into pkt[0 .. n - 1], with key and hash, and ask for their buckets.  Returns a mask:
 * bit i says that packet i is in the lane, and the first line of pkt[i] and the addresses of IPv6 are filled in; of
 * the others pkt[i] says nothing.  *bytes grows by the lengths of all.
 * Context of all: the owning lcore.
 */
uint32_t fw_lane_read(const struct fw_lane *l, struct rte_mbuf *const *pkts, unsigned int n,
    struct fw_pkt *pkt, uint64_t *bytes);

/*
 * Let packets pass, beginning with pkt[i] and until one that is not in the lane or has to leave it, to which
 * nothing has been done.  Those that pass are put to out[].  Returns which one that is, n for none.
 */
unsigned int fw_lane_run(const struct fw_lane *l, struct fw_sessions *t,
    struct rte_mbuf *const *pkts, struct fw_pkt *pkt, unsigned int i, unsigned int n,
    struct rte_mbuf **out);
