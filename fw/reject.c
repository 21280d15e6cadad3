#include "fw/reject.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

bool
fw_limit_has(const struct fw_limit *l, uint64_t now_ns, uint32_t per_second, uint32_t depth)
{
	return RTE_MAX(l->full_ns, now_ns) - now_ns <= PK_NS_PER_S / per_second * (depth - 1);
}

bool
fw_limit_take(struct fw_limit *l, uint64_t now_ns, uint32_t per_second, uint32_t depth)
{
	if (!fw_limit_has(l, now_ns, per_second, depth))
		return false;
	l->full_ns = RTE_MAX(l->full_ns, now_ns) + PK_NS_PER_S / per_second;
	return true;
}

/* The answer at bytes[0 .. len - 1] in a buffer of its own; NULL for none. */
static struct rte_mbuf *
buffer(const struct fw_pkt *pk, struct rte_mempool *pool, const uint8_t *bytes, uint32_t len)
{
	struct rte_mbuf *m = len != 0 ? rte_pktmbuf_alloc(pool) : NULL;
	char *to;

	if (m == NULL)
		return NULL;
	to = rte_pktmbuf_append(m, (uint16_t)len);
	if (to == NULL) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	memcpy(to, bytes, len);
	/* A tag that the port has taken off it has to put on again. */
	if (pk->m != NULL && (pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		m->vlan_tci = pk->m->vlan_tci;
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
	}
	return m;
}

struct rte_mbuf *
fw_reject_segment(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, const struct fw_segment *s)
{
	uint8_t bytes[FW_ANSWER_MAX];

	return buffer(pk, pool, bytes, fw_answer_segment(pk, back, s, bytes));
}

struct rte_mbuf *
fw_reject_make(const struct fw_pkt *pk, struct rte_mempool *pool)
{
	uint8_t bytes[FW_ANSWER_MAX];

	return buffer(pk, pool, bytes, fw_answer_make(pk, bytes));
}

struct rte_mbuf *
fw_reject_too_big(const struct fw_pkt *pk, struct rte_mempool *pool, uint16_t mtu)
{
	uint8_t bytes[FW_ANSWER_MAX];

	return buffer(pk, pool, bytes, fw_answer_too_big(pk, mtu, bytes));
}

struct rte_mbuf *
fw_reject_reset(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, uint32_t seq, uint32_t ack)
{
	const struct fw_segment s = { .seq = seq, .ack = ack, .flags = FW_TCP_RST | FW_TCP_ACK };

	if (pk->kind != FW_KIND_SESSION || pk->l4_proto != IPPROTO_TCP)
		return NULL;
	return fw_reject_segment(pk, pool, back, &s);
}
