#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/path_priv.h"

#define RX_IP(m) ((m)->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK)
#define RX_L4(m) ((m)->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK)

static __rte_always_inline void
read_packet(struct fw_batch *b, struct rte_mbuf *m, unsigned int n, struct fw_pkt *pk)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t contiguous = m->data_len;
	uint16_t tci = 0;

	pk->m = m;
	pk->lane = false;
	pk->session = FW_SESSION_NONE;
	pk->key.wire = b->wire;
	pk->checksum_ok = RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_GOOD ||
	    RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE;
	if (unlikely(m->nb_segs > 1) && contiguous < FW_PARSE_HEAD) {
		/* Headers may be spread over segments; rather than shifting the packet about, its start
		 * is copied aside. */
		contiguous = RTE_MIN(m->pkt_len, (uint32_t)FW_PARSE_HEAD);
		data = rte_pktmbuf_read(m, 0, contiguous, b->p->head[n]);
		if (data == NULL) {
			data = rte_pktmbuf_mtod(m, const uint8_t *);
			contiguous = m->data_len;
		}
	}
	if (unlikely((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0))
		tci = m->vlan_tci;
	(void)fw_parse(pk, data, contiguous, m->pkt_len, tci, b->p->conf.overlay);
}

/* Offset of the checksum in the L4 header, or 0 for protocols we leave alone. */
static uint16_t
checksum_offset(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 16 : proto == IPPROTO_UDP ? 6 : 0;
}

/* Sum of `left` bytes from offset `off` on, whichever segments they lie in.  DPDK's rte_raw_cksum_mbuf() (22.11)
 * loses a carry when a segment before the last is of odd length. */
static uint16_t
sum_from(const struct rte_mbuf *m, uint32_t off, uint32_t left, uint32_t sum)
{
	uint32_t done = 0;

	for (; m != NULL && done < left; m = m->next) {
		uint32_t n = m->data_len;
		uint16_t part;

		if (off >= n) {
			off -= n;
			continue;
		}
		n = RTE_MIN(n - off, left - done);
		part = fw_sum_fold(fw_sum(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), n, 0));
		/* What follows an odd number of bytes is shifted by one (RFC 1071 section 2). */
		sum += done % 2 != 0 ? rte_bswap16(part) : part;
		done += n;
		off = 0;
	}
	return fw_sum_fold(sum);
}

/* Of all of L4; 0xffff for a packet that is right. */
static uint16_t
l4_sum(const struct fw_pkt *pk)
{
	uint32_t left = pk->l3_end - pk->l4;

	return sum_from(pk->m, pk->l4, left,
	    pk->l4_proto != IPPROTO_ICMP ? fw_sum_pseudo(pk, pk->l4_proto, left) : 0);
}

static __rte_noinline enum fw_drop
verify_checksum(const struct fw_pkt *pk)
{
	uint16_t field;

	/* That of a packet in fragments is over all of them: the receiver's to verify. */
	if (pk->fragment)
		return FW_DROP_NONE;
	/* In a tunnel it is the outer one that the port speaks of. */
	switch (pk->outer_l4 == 0 ? RX_L4(pk->m) : RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN) {
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
	case RTE_MBUF_F_RX_L4_CKSUM_NONE: /* there is none yet, and the data is known to be good */
		return FW_DROP_NONE;
	case RTE_MBUF_F_RX_L4_CKSUM_BAD:
		return FW_DROP_L4_CHECKSUM;
	default:
		break;
	}
	switch (pk->l4_proto) {
	case IPPROTO_UDP:
		/* RFC 768: 0 means none; in IPv6 that is forbidden (RFC 8200 section 8.1). */
		memcpy(&field, pk->data + pk->l4 + 6, sizeof(field));
		if (field == 0)
			return pk->key.family == 4 ? FW_DROP_NONE : FW_DROP_L4_CHECKSUM;
		break;
	case IPPROTO_TCP:
		break;
	case IPPROTO_ICMP:
		if (pk->key.family != 4)
			return FW_DROP_NONE;
		break;
	case IPPROTO_ICMPV6:
		if (pk->key.family != 6)
			return FW_DROP_NONE;
		break;
	default:
		return FW_DROP_NONE;
	}
	return l4_sum(pk) == 0xffff ? FW_DROP_NONE : FW_DROP_L4_CHECKSUM;
}

/*
 * Packets from virtual ports may be unfinished: the sender trusts that whoever puts them on a real wire
 * computes checksums and splits coalesced segments.  RTE_MBUF_F_RX_*_CKSUM_NONE says just that: the
 * data is good, the field is not.  Forwarded as it is, such a packet would be thrown away by the
 * receiver.  If the port it leaves by can do the work it is asked to; if not, checksums are done here,
 * and coalesced segments cannot pass.
 */
/* What is unfinished is the outer header. */
static enum fw_drop
complete_outer(const struct fw_pkt *pk)
{
	struct rte_mbuf *m = pk->m;
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->outer_l3), *udp;
	uint16_t sum;

	if ((m->ol_flags & RTE_MBUF_F_RX_LRO) != 0 && m->tso_segsz != 0)
		return FW_DROP_OVERSIZED;
	if (pk->outer_l4 + 8u > m->data_len)
		return FW_DROP_L4_HEADER;
	udp = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->outer_l4);
	if (ip[0] >> 4 == 4 && RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE) {
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, (size_t)(pk->outer_l4 - pk->outer_l3), 0));
		memcpy(ip + 10, &sum, 2);
	}
	if (RX_L4(m) != RTE_MBUF_F_RX_L4_CKSUM_NONE)
		return FW_DROP_NONE;
	memset(udp + 6, 0, 2);
	/* RFC 7348 section 5: over IPv4 it should be zero.  Over IPv6 not every endpoint takes that (RFC 6935). */
	if (ip[0] >> 4 == 6) {
		struct fw_pkt outer = { .data = rte_pktmbuf_mtod(m, const uint8_t *),
			.l3 = pk->outer_l3 };
		uint32_t bytes = (uint32_t)(udp[4] << 8 | udp[5]);

		sum = (uint16_t)~sum_from(
		    m, pk->outer_l4, bytes, fw_sum_pseudo(&outer, IPPROTO_UDP, bytes));
		if (sum == 0)
			sum = 0xffff;
		memcpy(udp + 6, &sum, 2);
	}
	return FW_DROP_NONE;
}

static __rte_noinline enum fw_drop
complete(struct fw_path *p, const struct fw_pkt *pk)
{
	struct rte_mbuf *m = pk->m;
	uint16_t at = checksum_offset(pk->l4_proto), sum = 0;
	bool lro = (m->ol_flags & RTE_MBUF_F_RX_LRO) != 0 && m->tso_segsz != 0;
	uint8_t *field;

	if (pk->outer_l4 != 0)
		return complete_outer(pk);
	if (lro && (!p->conf.tx_tso || pk->l4_proto != IPPROTO_TCP || pk->fragment))
		return FW_DROP_OVERSIZED;
	/* What is computed over all fragments cannot be made here; nobody should leave it to us. */
	if (pk->fragment && RX_L4(m) == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		return FW_DROP_L4_CHECKSUM;
	m->l2_len = pk->l3;
	m->l3_len = (uint64_t)(pk->l4 - pk->l3);
	m->l4_len = pk->l4_len;
	if (pk->key.family == 4 && RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE &&
	    pk->l4 <= m->data_len) {
		uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->l3);

		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, (size_t)(pk->l4 - pk->l3), 0));
		memcpy(ip + 10, &sum, 2);
	}
	if (!lro && (RX_L4(m) != RTE_MBUF_F_RX_L4_CKSUM_NONE || at == 0))
		return FW_DROP_NONE;
	if (pk->l4 + at + 2u > m->data_len) {
		/* Only a header spread over segments comes here; no driver makes one. */
		return FW_DROP_L4_HEADER;
	}
	field = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->l4 + at);
	m->ol_flags |= pk->key.family == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (lro) {
		/* For TSO the pseudo-header goes without its length, which differs by segment. */
		sum = fw_sum_fold(fw_sum_pseudo(pk, pk->l4_proto, 0));
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		if (pk->key.family == 4)
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	} else if (p->conf.tx_checksum) {
		sum = fw_sum_fold(fw_sum_pseudo(pk, pk->l4_proto, pk->l3_end - pk->l4));
		m->ol_flags |= pk->l4_proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM
		                                           : RTE_MBUF_F_TX_UDP_CKSUM;
	} else {
		memset(field, 0, 2);
		sum = (uint16_t)~l4_sum(pk);
		if (sum == 0 && pk->l4_proto == IPPROTO_UDP)
			sum = 0xffff; /* RFC 768: 0 would mean none */
	}
	memcpy(field, &sum, 2);
	return FW_DROP_NONE;
}

static __rte_always_inline bool
is_unfinished(const struct rte_mbuf *m)
{
	return RX_L4(m) == RTE_MBUF_F_RX_L4_CKSUM_NONE || RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE ||
	    (m->ol_flags & RTE_MBUF_F_RX_LRO) != 0;
}

void
fw_overwrite(struct rte_mbuf *m, uint32_t off, const uint8_t *bytes, uint32_t len)
{
	for (; m != NULL && len > 0; m = m->next) {
		uint32_t n;

		if (off >= m->data_len) {
			off -= m->data_len;
			continue;
		}
		n = RTE_MIN(m->data_len - off, len);
		memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, off), bytes, n);
		bytes += n;
		len -= n;
		off = 0;
	}
}

/* All that is asked of a packet before its session, in the order of the stages. */
void
fw_admit(struct fw_batch *b, struct rte_mbuf *m, unsigned int n, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;

	read_packet(b, m, n, pk);
	if (unlikely(b->rules == NULL))
		pk->drop = FW_DROP_NO_POLICY;
	if (unlikely(pk->drop != FW_DROP_NONE))
		return;
	if (b->from == FW_INSIDE) {
		pk->drop = (uint16_t)fw_guard_inside(&p->guard, b->rules, b->generation, pk);
		if (unlikely(pk->drop != FW_DROP_NONE))
			return;
	}
	if (pk->kind == FW_KIND_ARP)
		return;
	if (unlikely(fw_dhcp_wants(p, pk)))
		pk->kind = FW_KIND_DHCP;
	if (unlikely(p->conf.verify_checksums)) {
		pk->drop = (uint16_t)verify_checksum(pk);
		if (pk->drop != FW_DROP_NONE)
			return;
	}
	if (unlikely(is_unfinished(m)))
		pk->drop = (uint16_t)complete(p, pk);
}

/*
 * The general stages take over a packet that the lane has read.  What it has looked at need not be looked at
 * again: the second line is what fw_parse() would make of a packet that is in the lane, which has but two shapes.
 */
void
fw_admit_again(struct fw_pkt *pk)
{
	const struct rte_mbuf *m = pk->m;
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);

	pk->lane = false;
	pk->data = data;
	pk->kind = FW_KIND_SESSION;
	pk->request = true;
	pk->checksum_ok = RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_GOOD;
	pk->l2 = 0;
	pk->outer_l3 = 0;
	pk->outer_l4 = 0;
	pk->l3 = 14;
	pk->l4 = pk->key.family == 4 ? 34 : 54;
	pk->l4_len = (uint16_t)((data[pk->l4 + 12] >> 4) * 4);
	pk->inner = 0;
	pk->contiguous = (uint16_t)RTE_MIN(m->data_len, UINT16_MAX);
	pk->l3_end = (uint32_t)pk->l4 + pk->l4_len + pk->payload;
	pk->fragment = false;
	pk->frag_more = false;
	pk->frag_off = 0;
	pk->frag_len = 0;
	pk->tcp_flags = data[pk->l4 + 13];
	pk->l4_proto = IPPROTO_TCP;
	pk->selector = pk->key.port[pk->hi ^ 1]; /* the destination's */
}
