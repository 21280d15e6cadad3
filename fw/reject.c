#include "fw/reject.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#define QUOTE_V4 (576 - 20 - 8)  /* bytes of the refused packet: RFC 1812 section 4.3.2.3 */
#define QUOTE_V6 (1280 - 40 - 8) /* RFC 4443 section 2.4 (c) */

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

static void
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void
put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static void
exchange(uint8_t *a, uint8_t *b, size_t len)
{
	uint8_t t[16];

	memcpy(t, a, len);
	memcpy(a, b, len);
	memcpy(b, t, len);
}

/* The tunnel's header around a frame that ends at `total`: lengths and sums, and its ends exchanged if `back`.  The
 * ports stay: the source port only spreads flows, and the other is the tunnel's in both directions. */
static void
wrap(const struct fw_pkt *pk, uint8_t *f, uint32_t total, bool back)
{
	uint8_t *ip = f + pk->outer_l3, *udp = f + pk->outer_l4;
	bool v4 = ip[0] >> 4 == 4;
	uint32_t header = (uint32_t)(pk->outer_l4 - pk->outer_l3);
	uint16_t sum;

	if (back) {
		exchange(f, f + 6, 6);
		exchange(ip + (v4 ? 12 : 8), ip + (v4 ? 16 : 24), v4 ? 4 : 16);
	}
	ip[v4 ? 8 : 7] = 64;
	put16(udp + 4, total - pk->outer_l4);
	put16(udp + 6, 0);
	if (v4) {
		put16(ip + 2, total - pk->outer_l3);
		put16(ip + 10, 0);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, header, 0));
		memcpy(ip + 10, &sum, 2);
		return;
	}
	put16(ip + 4, total - pk->outer_l4);
}

/* Over IPv6 the sum of the tunnel's UDP is over all of it, so it comes last. */
static void
wrap_sum(const struct fw_pkt *pk, struct rte_mbuf *m)
{
	uint8_t *f = rte_pktmbuf_mtod(m, uint8_t *), *udp = f + pk->outer_l4;
	struct fw_pkt outer = { .data = f, .l3 = pk->outer_l3 };
	uint32_t bytes = m->data_len - (uint32_t)pk->outer_l4;
	uint16_t sum;

	if (likely(pk->outer_l4 == 0) || f[pk->outer_l3] >> 4 == 4)
		return;
	sum = (uint16_t)~fw_sum_fold(fw_sum(udp, bytes, fw_sum_pseudo(&outer, IPPROTO_UDP, bytes)));
	if (sum == 0)
		sum = 0xffff; /* RFC 768: 0 would mean none */
	memcpy(udp + 6, &sum, 2);
}

/*
 * An mbuf with the link header of `pk` and an IP header for `l4_bytes` of `proto`, both with source and
 * destination exchanged if `back`.  *l4 is where the rest goes.
 */
static struct rte_mbuf *
frame(const struct fw_pkt *pk, struct rte_mempool *pool, bool back, uint8_t proto,
    uint32_t l4_bytes, uint8_t **l4)
{
	uint32_t ip_len = pk->key.family == 4 ? 20 : 40;
	uint32_t total = pk->l3 + ip_len + l4_bytes;
	const uint8_t *from = pk->data + pk->l3;
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint8_t *f, *ip;

	if (m == NULL)
		return NULL;
	f = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)total);
	if (f == NULL) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	memcpy(f, pk->data, pk->l3); /* addresses, tags and EtherType */
	if (back)
		exchange(f + pk->l2, f + pk->l2 + 6, 6);
	if (unlikely(pk->outer_l4 != 0))
		wrap(pk, f, total, back);
	/* A tag that the port has taken off it has to put on again. */
	if (pk->m != NULL && (pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		m->vlan_tci = pk->m->vlan_tci;
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
	}
	ip = f + pk->l3;
	memset(ip, 0, ip_len);
	if (ip_len == 20) {
		uint16_t sum;

		ip[0] = 0x45;
		put16(ip + 2, 20 + l4_bytes);
		ip[6] = 0x40; /* do not fragment; so the identification may be 0 (RFC 6864) */
		ip[8] = 64;
		ip[9] = proto;
		memcpy(ip + 12, from + (back ? 16 : 12), 4);
		memcpy(ip + 16, from + (back ? 12 : 16), 4);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		ip[0] = 0x60;
		put16(ip + 4, l4_bytes);
		ip[6] = proto;
		ip[7] = 64;
		memcpy(ip + 8, from + (back ? 24 : 8), 16);
		memcpy(ip + 24, from + (back ? 8 : 24), 16);
	}
	*l4 = ip + ip_len;
	return m;
}

/* The checksum is symmetric in the addresses, so it does not matter which way round they are. */
static void
finish(const struct fw_pkt *pk, struct rte_mbuf *m, uint8_t proto, uint8_t *l4, uint32_t bytes,
    uint8_t *field)
{
	uint32_t sum = proto == IPPROTO_ICMP ? 0 : fw_sum_pseudo(pk, proto, bytes);
	uint16_t v = (uint16_t)~fw_sum_fold(fw_sum(l4, bytes, sum));

	memcpy(field, &v, 2);
	wrap_sum(pk, m);
}

struct rte_mbuf *
fw_reject_segment(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, const struct fw_segment *s)
{
	const uint8_t *tcp = pk->data + pk->l4;
	uint32_t len = 20u + s->options_len;
	uint8_t *l4;
	struct rte_mbuf *m = frame(pk, pool, back, IPPROTO_TCP, len, &l4);

	if (m == NULL)
		return NULL;
	memset(l4, 0, 20);
	memcpy(l4, tcp + (back ? 2 : 0), 2);
	memcpy(l4 + 2, tcp + (back ? 0 : 2), 2);
	put32(l4 + 4, s->seq);
	put32(l4 + 8, s->ack);
	l4[12] = (uint8_t)(len / 4 << 4);
	l4[13] = s->flags;
	put16(l4 + 14, s->win);
	memcpy(l4 + 20, s->options, s->options_len);
	finish(pk, m, IPPROTO_TCP, l4, len, l4 + 16);
	return m;
}

static struct rte_mbuf *
make_reset(const struct fw_pkt *pk, struct rte_mempool *pool, bool back, uint32_t seq, uint32_t ack,
    uint8_t flags)
{
	const struct fw_segment s = { .seq = seq, .ack = ack, .flags = flags };

	return fw_reject_segment(pk, pool, back, &s);
}

static bool
may_answer(const struct fw_pkt *pk)
{
	const uint8_t *ip = pk->data + pk->l3;

	if (pk->kind != FW_KIND_SESSION || (pk->data[pk->l2] & 1) != 0)
		return false;
	if (pk->key.family == 4)
		return ip[16] >> 4 < 14 &&
		    !(ip[12] == 0 && ip[13] == 0 && ip[14] == 0 && ip[15] == 0);
	return ip[24] != 0xff;
}

struct rte_mbuf *
fw_reject_make(const struct fw_pkt *pk, struct rte_mempool *pool)
{
	uint32_t quote, have;
	uint8_t proto, *l4;
	struct rte_mbuf *m;

	if (!may_answer(pk))
		return NULL;
	if (pk->l4_proto == IPPROTO_TCP) {
		if ((pk->tcp_flags & FW_TCP_RST) != 0)
			return NULL;
		if ((pk->tcp_flags & FW_TCP_ACK) != 0)
			return make_reset(pk, pool, true, pk->ack, 0, FW_TCP_RST);
		return make_reset(pk, pool, true, 0,
		    pk->seq + pk->payload + ((pk->tcp_flags & FW_TCP_SYN) != 0) +
		        ((pk->tcp_flags & FW_TCP_FIN) != 0),
		    FW_TCP_RST | FW_TCP_ACK);
	}
	proto = pk->key.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	quote = pk->key.family == 4 ? QUOTE_V4 : QUOTE_V6;
	have = RTE_MIN(pk->l3_end, (uint32_t)pk->contiguous) - pk->l3;
	quote = RTE_MIN(quote, have);
	m = frame(pk, pool, true, proto, 8 + quote, &l4);
	if (m == NULL)
		return NULL;
	memset(l4, 0, 8);
	l4[0] = pk->key.family == 4 ? 3 : 1;
	l4[1] = pk->key.family == 4 ? 13 : 1;
	memcpy(l4 + 8, pk->data + pk->l3, quote);
	finish(pk, m, proto, l4, 8 + quote, l4 + 2);
	return m;
}

struct rte_mbuf *
fw_reject_reset(
    const struct fw_pkt *pk, struct rte_mempool *pool, bool back, uint32_t seq, uint32_t ack)
{
	if (pk->kind != FW_KIND_SESSION || pk->l4_proto != IPPROTO_TCP)
		return NULL;
	return make_reset(pk, pool, back, seq, ack, FW_TCP_RST | FW_TCP_ACK);
}
