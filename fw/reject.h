#pragma once

#include "fw/answer.h"
#include "fw/session.h"

/*
 * Telling those who are refused, if the rule says so: TCP with a RST, all else with ICMP
 * "administratively prohibited".  A packet made here goes out on the side where it is to be heard, in
 * the frame of the packet it answers, with the addresses the other way round; the answer thus seems to
 * come from the other end, which is what makes it believed.
 *
 * An attacker must not turn this into a source of packets, so answers are limited in number, never
 * greater than 576 bytes (IPv4) or 1280 (IPv6), and never made about what RFC 1122 section 3.2.2 and
 * RFC 4443 section 2.4 (e) exclude: ICMP errors, multicast and broadcast, in IP or in Ethernet, and
 * fragments other than the first.
 */
#define FW_REJECT_PER_SECOND 1000
#define FW_REJECT_BURST      256

struct rte_mempool;

/* A token bucket, kept as a date: see when it is next full. */
struct fw_limit {
	uint64_t full_ns;
};

/* Whether there is a token; and the same, and a token less. */
bool fw_limit_has(const struct fw_limit *l, uint64_t now_ns, uint32_t per_second, uint32_t depth);
bool fw_limit_take(struct fw_limit *l, uint64_t now_ns, uint32_t per_second, uint32_t depth);

/*
 * Make the answer to `pk`: fw_answer_make().
 * Returns NULL when none may be made or there is no buffer; the caller owns the mbuf.
 * Context: the owning lcore.
 */
struct rte_mbuf *fw_reject_make(const struct fw_pkt *pk, struct rte_mempool *pool);

/*
 * Tell the sender of `pk` that its packets may have `mtu` bytes of IP: ICMP type 3 code 4 (RFC 1191), or ICMPv6
 * type 2 (RFC 4443 section 3.2), which are made about multicast as well.  The same contract.
 */
struct rte_mbuf *fw_reject_too_big(const struct fw_pkt *pk, struct rte_mempool *pool, uint16_t mtu);

/* Make it in the frame of `pk`, a segment of the same connection: with `back` to who sent that, otherwise on
 * to the receiver.  NULL without a buffer. */
struct rte_mbuf *fw_reject_segment(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, const struct fw_segment *s);

/*
 * Make a RST that ends a session whose policy has changed, in the frame of `pk`, a packet of it.  With
 * `back` it goes to who sent pk, otherwise on to the receiver.  `seq` and `ack` are those the hearer
 * expects.
 */
struct rte_mbuf *fw_reject_reset(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, uint32_t seq, uint32_t ack);
