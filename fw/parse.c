#include "fw/parse.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "fw/bytes.h"
#include "fw/overlay.h"

#define ETH_LEN        14
#define TYPE_IPV4      0x0800
#define TYPE_ARP       0x0806
#define TYPE_IPV6      0x86dd
#define TYPE_VLAN      0x8100
#define TYPE_QINQ      0x88a8
#define IPV6_LEN       40
#define EXTENSIONS_MAX 8 /* headers; nobody sends more but to see what we do (RFC 9098) */

/* Refuse: later stages look at `drop` only. */
static __rte_always_inline enum fw_drop
refuse(struct fw_pkt *pk, enum fw_drop why)
{
	pk->drop = (uint16_t)why;
	return why;
}

uint32_t
fw_sum(const uint8_t *bytes, size_t len, uint32_t sum)
{
	uint64_t s = sum;

	for (; len >= 4; len -= 4, bytes += 4)
		s += fw_raw32(bytes);
	/* 32-bit words of the machine's order: right up to a final byte swap (RFC 1071 section 2). */
	s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32 & 0xffff) + (s >> 48);
	if (len >= 2) {
		s += fw_raw16(bytes);
		bytes += 2;
		len -= 2;
	}
	if (len != 0) {
		uint16_t v = 0;

		memcpy(&v, bytes, 1);
		s += v;
	}
	return (uint32_t)((s & 0xffff) + (s >> 16));
}

uint16_t
fw_sum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t
fw_sum_adjust(uint16_t checksum, uint32_t old, uint32_t new)
{
	uint32_t sum = (uint16_t)~checksum;

	sum += (uint16_t)~fw_sum_fold(old);
	sum += fw_sum_fold(new);
	return (uint16_t)~fw_sum_fold(sum);
}

uint32_t
fw_sum_pseudo(const struct fw_pkt *pk, uint8_t proto, uint32_t l4_bytes)
{
	const uint8_t *ip = pk->data + pk->l3;
	uint8_t tail[8] = { (uint8_t)(l4_bytes >> 24), (uint8_t)(l4_bytes >> 16),
		(uint8_t)(l4_bytes >> 8), (uint8_t)l4_bytes, 0, 0, 0, proto };

	if (ip[0] >> 4 == 4)
		return fw_sum(tail, sizeof(tail), fw_sum(ip + 12, 8, 0));
	return fw_sum(tail, sizeof(tail), fw_sum(ip + 8, 32, 0));
}

/* Put addresses and ports in the order of the key. */
static __rte_always_inline void
key_v4(struct fw_pkt *pk, uint32_t src, uint32_t dst)
{
	uint8_t hi = src > dst; /* any order does, as long as it is one */

	pk->hi = hi;
	pk->key.v4[hi] = src;
	pk->key.v4[hi ^ 1] = dst;
	pk->key.family = 4;
}

static __rte_always_inline void
key_v6(struct fw_pkt *pk, const uint8_t *src, const uint8_t *dst)
{
	uint8_t hi = memcmp(src, dst, 16) > 0;

	pk->hi = hi;
	memcpy(pk->addr[hi], src, 16);
	memcpy(pk->addr[hi ^ 1], dst, 16);
	pk->key.digest[0] = pk->key.digest[1] =
	    0; /* the session table fills them in: it has the seed */
	pk->key.family = 6;
}

static __rte_always_inline void
key_ports(struct fw_pkt *pk, uint8_t proto, uint16_t sport, uint16_t dport)
{
	pk->key.proto = proto;
	pk->key.port[pk->hi] = sport;
	pk->key.port[pk->hi ^ 1] = dport;
}

/*
 * ICMP queries are sessions by identifier.  Both sides may query each other under one identifier at
 * once, so the key also tells who asks: the second "port" is the type of the request, shifted, and
 * whether the asking address is the greater one.
 */
static void
key_icmp(struct fw_pkt *pk, uint8_t proto, uint8_t request_type, bool request, uint16_t identifier)
{
	pk->key.proto = proto;
	pk->key.port[0] = identifier;
	pk->key.port[1] = (uint16_t)(request_type << 1 | (pk->hi == request));
}

/*
 * Type of the request that an ICMP query or reply of `type` belongs to, or -1.  Echo, and the
 * timestamp that some monitoring still sends; the rest RFC 6918 has deprecated.
 */
static int
icmp_query(uint8_t proto, uint8_t type, bool *request)
{
	if (proto == IPPROTO_ICMP) {
		*request = type == 8 || type == 13;
		if (type == 8 || type == 0)
			return 8;
		if (type == 13 || type == 14)
			return 13;
	} else {
		*request = type == 128;
		if (type == 128 || type == 129)
			return 128;
	}
	return -1;
}

static bool
icmp_is_error(uint8_t proto, uint8_t type)
{
	if (proto == IPPROTO_ICMP)
		return type == 3 || type == 11 ||
		    type == 12; /* source quench: RFC 6633, redirect: no */
	return type >= 1 && type <= 4;
}

/*
 * Which combinations of FIN SYN RST . ACK URG (PSH left out) can be part of a connection: bit i of
 * the mask for flags i.  RFC 9293 section 3.10.7: without ACK there is only SYN and RST; SYN, FIN and
 * RST exclude each other.
 */
#define F(flags) (UINT64_C(1) << (flags))
static const uint64_t tcp_flags_valid = F(FW_TCP_SYN) | F(FW_TCP_SYN | FW_TCP_URG) |
    F(FW_TCP_SYN | FW_TCP_ACK) | F(FW_TCP_SYN | FW_TCP_ACK | FW_TCP_URG) | F(FW_TCP_RST) |
    F(FW_TCP_RST | FW_TCP_ACK) | F(FW_TCP_RST | FW_TCP_ACK | FW_TCP_URG) |
    F(FW_TCP_FIN | FW_TCP_ACK) | F(FW_TCP_FIN | FW_TCP_ACK | FW_TCP_URG) | F(FW_TCP_ACK) |
    F(FW_TCP_ACK | FW_TCP_URG);
#undef F

static __rte_always_inline enum fw_drop
parse_tcp(struct fw_pkt *pk, const uint8_t *l4, uint32_t bytes, uint32_t readable)
{
	uint32_t header;
	uint16_t sport, dport;

	if (unlikely(bytes < 20 || readable < 20))
		return refuse(pk, FW_DROP_L4_HEADER);
	header = (uint32_t)(l4[12] >> 4) * 4;
	if (unlikely(header < 20 || header > bytes || header > readable))
		return refuse(pk, FW_DROP_L4_HEADER);
	sport = fw_be16(l4);
	dport = fw_be16(l4 + 2);
	if (unlikely(sport == 0 || dport == 0))
		return refuse(pk, FW_DROP_PORT_ZERO);
	pk->tcp_flags = l4[13];
	if (unlikely((tcp_flags_valid >> (l4[13] & 0x37) & 1) == 0))
		return refuse(pk, FW_DROP_TCP_FLAGS);
	pk->seq = fw_be32(l4 + 4);
	pk->ack = fw_be32(l4 + 8);
	pk->win = fw_be16(l4 + 14);
	pk->l4_len = (uint16_t)header;
	pk->payload = (uint16_t)(bytes - header);
	pk->selector = dport;
	key_ports(pk, IPPROTO_TCP, sport, dport);
	return FW_DROP_NONE;
}

static __rte_always_inline enum fw_drop
parse_udp(struct fw_pkt *pk, const uint8_t *l4, uint32_t bytes, uint32_t readable)
{
	uint16_t len, dport;

	if (unlikely(bytes < 8 || readable < 8))
		return refuse(pk, FW_DROP_L4_HEADER);
	len = fw_be16(l4 + 4);
	/* A first fragment has not all that the length speaks of. */
	if (unlikely(len < 8 || (len > bytes && !pk->fragment)))
		return refuse(pk, FW_DROP_L4_HEADER);
	dport = fw_be16(l4 + 2);
	/* RFC 768: a source port of 0 means that no answer is expected. */
	if (unlikely(dport == 0))
		return refuse(pk, FW_DROP_PORT_ZERO);
	pk->l4_len = 8;
	pk->payload = (uint16_t)(len - 8);
	pk->selector = dport;
	key_ports(pk, IPPROTO_UDP, fw_be16(l4), dport);
	return FW_DROP_NONE;
}

static enum fw_drop
parse_sctp(struct fw_pkt *pk, const uint8_t *l4, uint32_t bytes, uint32_t readable)
{
	uint16_t sport, dport;

	if (bytes < 12 || readable < 12)
		return refuse(pk, FW_DROP_L4_HEADER);
	sport = fw_be16(l4);
	dport = fw_be16(l4 + 2);
	if (sport == 0 || dport == 0) /* RFC 9260 section 3.1 */
		return refuse(pk, FW_DROP_PORT_ZERO);
	pk->l4_len = 12;
	pk->payload = (uint16_t)(bytes - 12);
	pk->selector = dport;
	key_ports(pk, IPPROTO_SCTP, sport, dport);
	return FW_DROP_NONE;
}

static int walk_ipv6(
    const uint8_t *ip, uint32_t readable, uint8_t *proto, uint32_t *header, uint32_t *fragment);

/*
 * The packet inside an ICMP error: the IP header and at least 8 bytes more (RFC 792; RFC 4443 gives
 * as much as fits).  Its lengths speak of the packet as it was sent, not of what is quoted, so only
 * what is needed to find the session is checked.
 */
static enum fw_drop
parse_embedded(struct fw_pkt *pk, const uint8_t *icmp, uint32_t bytes)
{
	const uint8_t *ip = icmp + 8, *l4;
	const uint8_t *outer = pk->data + pk->l3;
	uint32_t left = bytes - 8, header;
	uint8_t proto;
	uint32_t fragment = 0;

	pk->inner = (uint16_t)(ip - pk->data);
	if (pk->l4_proto == IPPROTO_ICMP) {
		if (left < 20 || ip[0] >> 4 != 4 || (header = (uint32_t)(ip[0] & 15) * 4) < 20 ||
		    left < header || (fw_be16(ip + 6) & 0x1fff) != 0)
			return refuse(pk, FW_DROP_ICMP_INNER);
		proto = ip[9];
		/* Whoever the error goes to must have sent what it is about. */
		if (memcmp(ip + 12, outer + 16, 4) != 0)
			return refuse(pk, FW_DROP_ICMP_INNER);
		key_v4(pk, fw_raw32(ip + 12), fw_raw32(ip + 16));
	} else {
		if (left < IPV6_LEN || ip[0] >> 4 != 6 ||
		    walk_ipv6(ip, left, &proto, &header, &fragment) != FW_DROP_NONE)
			return refuse(pk, FW_DROP_ICMP_INNER);
		/* About a fragment is well, if it is the first, which alone has ports. */
		if (fragment != 0 && (fw_be16(ip + fragment + 2) & 0xfff8) != 0)
			return refuse(pk, FW_DROP_ICMP_INNER);
		if (memcmp(ip + 8, outer + 24, 16) != 0)
			return refuse(pk, FW_DROP_ICMP_INNER);
		key_v6(pk, ip + 8, ip + 24);
	}
	l4 = ip + header;
	left -= header;
	if (left < 8)
		return refuse(pk, FW_DROP_ICMP_INNER);
	switch (proto) {
	case IPPROTO_TCP:
		pk->seq = fw_be32(l4 + 4);
		/* fall through */
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		key_ports(pk, proto, fw_be16(l4), fw_be16(l4 + 2));
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: {
		bool request;
		int query = icmp_query(proto, l4[0], &request);

		/* Never an error about an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e). */
		if (query < 0 || proto != pk->l4_proto)
			return refuse(pk, FW_DROP_ICMP_INNER);
		key_icmp(pk, proto, (uint8_t)query, request, fw_be16(l4 + 4));
		break;
	}
	default:
		key_ports(pk, proto, 0, 0);
	}
	pk->kind = FW_KIND_ICMP_ERROR;
	return FW_DROP_NONE;
}

static enum fw_drop
parse_icmp(struct fw_pkt *pk, uint8_t proto, const uint8_t *l4, uint32_t bytes, uint32_t readable)
{
	int query;

	if (bytes < 8 || readable < 8)
		return refuse(pk, FW_DROP_L4_HEADER);
	pk->selector = fw_be16(l4);
	pk->l4_len = 8;
	pk->payload = (uint16_t)(bytes - 8);
	query = icmp_query(proto, l4[0], &pk->request);
	if (query >= 0) {
		key_icmp(pk, proto, (uint8_t)query, pk->request, fw_be16(l4 + 4));
		return FW_DROP_NONE;
	}
	if (icmp_is_error(proto, l4[0]))
		return parse_embedded(pk, l4, RTE_MIN(bytes, readable));
	/* RFC 4861: 133 to 137; MLD: 130 to 132 (RFC 2710), 143 (RFC 9777). */
	if (proto == IPPROTO_ICMPV6 && ((l4[0] >= 130 && l4[0] <= 137) || l4[0] == 143)) {
		key_ports(pk, proto, 0, 0);
		pk->kind = FW_KIND_ND;
		return FW_DROP_NONE;
	}
	return refuse(pk, FW_DROP_ICMP_TYPE);
}

/* What follows the IP header: `bytes` of it on the wire, `readable` of them at l4. */
static __rte_always_inline enum fw_drop
parse_l4(struct fw_pkt *pk, uint8_t proto, const uint8_t *l4, uint32_t bytes, uint32_t readable)
{
	pk->l4_proto = proto;
	if (likely(proto == IPPROTO_TCP))
		return parse_tcp(pk, l4, bytes, readable);
	if (likely(proto == IPPROTO_UDP))
		return parse_udp(pk, l4, bytes, readable);
	if ((proto == IPPROTO_ICMP && pk->key.family == 4) ||
	    (proto == IPPROTO_ICMPV6 && pk->key.family == 6))
		return parse_icmp(pk, proto, l4, bytes, readable);
	if (proto == IPPROTO_SCTP)
		return parse_sctp(pk, l4, bytes, readable);
	pk->payload = (uint16_t)bytes;
	pk->selector = 0;
	key_ports(pk, proto, 0, 0);
	return FW_DROP_NONE;
}

/*
 * Options are walked for two things: that they stay inside the header, and source routing (LSRR 131,
 * SSRR 137), which would have the packet go elsewhere than policy was asked about (RFC 7126).
 */
static bool
ipv4_options_ok(const uint8_t *o, uint32_t len)
{
	while (len > 0) {
		if (o[0] == 0)
			return true;
		if (o[0] == 1) {
			o++;
			len--;
			continue;
		}
		if (len < 2 || o[1] < 2 || o[1] > len || o[0] == 131 || o[0] == 137)
			return false;
		len -= o[1];
		o += o[1];
	}
	return true;
}

static __rte_always_inline bool
ipv4_source_ok(uint32_t a) /* host order */
{
	/* Class D and E with the broadcast address, and loopback (RFC 1122 section 3.2.1.3).  0.0.0.0 is
	 * how a DHCP client begins; of its network nobody else may speak. */
	return likely(a >> 28 < 14 && a >> 24 != 127 && (a >> 24 != 0 || a == 0));
}

/*
 * One piece of a packet that is `bytes` long, begins `off` bytes into the original, and follows `head`
 * bytes of header that count towards its greatest size.  RFC 8200 section 4.5 says what is impossible,
 * for IPv4 as well: only the last may be no multiple of eight, and what is put together must not be
 * greater than a length field can say ("ping of death").
 */
static __rte_noinline enum fw_drop
fragment(struct fw_pkt *pk, uint32_t id, uint32_t off, bool more, uint32_t head, uint32_t bytes)
{
	pk->fragment = true;
	pk->frag_more = more;
	pk->frag_id = id;
	pk->frag_off = (uint16_t)off;
	pk->frag_len = (uint16_t)bytes;
	if (bytes == 0 || (more && bytes % 8 != 0) || head + off + bytes > UINT16_MAX)
		return refuse(pk, FW_DROP_FRAG_SIZE);
	if (off != 0) {
		pk->kind = FW_KIND_FRAGMENT;
		key_ports(pk, pk->l4_proto, 0, 0);
		pk->payload = (uint16_t)bytes;
	}
	return FW_DROP_NONE;
}

/* The first fragment is judged in place of all, so it has to hold all that is judged: the whole
 * transport header (RFC 1858 section 3, RFC 7112 section 5). */
static enum fw_drop
first_fragment(struct fw_pkt *pk, enum fw_drop why)
{
	if (why == FW_DROP_L4_HEADER || why == FW_DROP_TRUNCATED)
		return refuse(pk, FW_DROP_FRAG_TINY);
	/* RFC 6980: neighbour discovery is never fragmented. */
	if (why == FW_DROP_NONE && pk->kind == FW_KIND_ND)
		return refuse(pk, FW_DROP_ND);
	return why;
}

static __rte_always_inline enum fw_drop
parse_ipv4(struct fw_pkt *pk, uint32_t off)
{
	const uint8_t *ip = pk->data + off;
	uint32_t header = 20, total, src, dst;
	uint16_t field;

	pk->l3 = (uint16_t)off;
	pk->key.family = 4;
	if (unlikely(off + 20 > pk->contiguous))
		return refuse(pk, FW_DROP_TRUNCATED);
	pk->l4_proto = ip[9];
	if (unlikely(ip[0] != 0x45)) {
		if (ip[0] >> 4 != 4)
			return refuse(pk, FW_DROP_IP_VERSION);
		header = (uint32_t)(ip[0] & 15) * 4;
		if (header < 20)
			return refuse(pk, FW_DROP_IP_HEADER);
		if (off + header > pk->contiguous)
			return refuse(pk, FW_DROP_TRUNCATED);
	}
	total = fw_be16(ip + 2);
	if (unlikely(total < header))
		return refuse(pk, FW_DROP_IP_HEADER);
	if (unlikely(off + total > pk->len)) /* longer frames are padded, to 60 bytes and more */
		return refuse(pk, FW_DROP_IP_LENGTH);
	if (unlikely(!pk->checksum_ok)) {
		if (fw_sum_fold(fw_sum(ip, header, 0)) != 0xffff)
			return refuse(pk, FW_DROP_IP_CHECKSUM);
	}
	src = fw_raw32(ip + 12);
	dst = fw_raw32(ip + 16);
	key_v4(pk, src, dst);
	if (unlikely(header > 20) && !ipv4_options_ok(ip + 20, header - 20))
		return refuse(pk, FW_DROP_IP_OPTION);
	if (unlikely(!ipv4_source_ok(__builtin_bswap32(src))))
		return refuse(pk, FW_DROP_IP_SOURCE);
	if (unlikely((uint8_t)dst == 0 || (uint8_t)dst == 127))
		return refuse(pk, FW_DROP_IP_DESTINATION);
	if (unlikely(src == dst))
		return refuse(pk, FW_DROP_LAND);
	pk->l4 = (uint16_t)(off + header);
	pk->l3_end = off + total;
	field = fw_be16(ip + 6);
	if (unlikely((field & 0x3fff) != 0)) {
		enum fw_drop why = fragment(pk, fw_be16(ip + 4), (field & 0x1fffu) * 8,
		    (field & 0x2000) != 0, header, total - header);

		if (why != FW_DROP_NONE || pk->frag_off != 0)
			return why;
		return first_fragment(pk,
		    parse_l4(
		        pk, ip[9], ip + header, total - header, pk->contiguous - off - header));
	}
	return parse_l4(pk, ip[9], ip + header, total - header, pk->contiguous - off - header);
}

/*
 * Walk extension headers of the IPv6 packet at ip[0 .. readable - 1] to the upper layer, or to where the
 * payload of a later fragment begins.  *frag, which is 0, becomes the offset of a fragment header.
 * Returns 0 with protocol and offset of what follows, or a drop reason.  RFC 8200 section 4.
 */
static int
walk_ipv6(const uint8_t *ip, uint32_t readable, uint8_t *proto, uint32_t *header, uint32_t *frag)
{
	uint32_t at = IPV6_LEN;
	uint8_t next = ip[6];

	for (unsigned int i = 0; i <= EXTENSIONS_MAX; i++) {
		uint32_t len;

		switch (next) {
		case IPPROTO_HOPOPTS:
			if (i != 0) /* only directly after the IPv6 header */
				return FW_DROP_IP_EXTENSION;
			/* fall through */
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case 135: /* mobility, RFC 6275 */
		case 139: /* HIP, RFC 7401 */
		case 140: /* Shim6, RFC 5533 */
			if (at + 8 > readable)
				return FW_DROP_TRUNCATED;
			/* Type 0 is forbidden (RFC 5095); with segments left the destination is not the
			 * one that policy would be asked about. */
			if (next == IPPROTO_ROUTING && (ip[at + 2] == 0 || ip[at + 3] != 0))
				return FW_DROP_IP_EXTENSION;
			len = ((uint32_t)ip[at + 1] + 1) * 8;
			break;
		case IPPROTO_FRAGMENT:
			if (at + 8 > readable)
				return FW_DROP_TRUNCATED;
			if (*frag != 0) /* a fragment of a fragment: nobody makes one */
				return FW_DROP_IP_EXTENSION;
			*frag = at;
			if ((fw_be16(ip + at + 2) & 0xfff8) != 0) {
				*proto = ip[at];
				*header = at + 8;
				return FW_DROP_NONE;
			}
			len = 8;
			break;
		default:
			*proto = next;
			*header = at;
			return FW_DROP_NONE;
		}
		if (at + len > readable)
			return FW_DROP_TRUNCATED;
		next = ip[at];
		at += len;
	}
	return FW_DROP_IP_EXTENSION;
}

/*
 * Addresses that are on no wire: ::, ::1 (RFC 4291 section 2.5.2 and 2.5.3), and ::ffff:0:0/96, which
 * would be a second name for what policy knows as IPv4 (RFC 6890 section 2.2.3, table 20).
 */
static __rte_always_inline bool
ipv6_is_unroutable(const uint8_t *a, bool *zero)
{
	uint64_t hi = fw_raw64(a), lo = fw_raw64(a + 8);

	*zero = (hi | lo) == 0;
	if (likely(hi != 0))
		return false;
	return lo == 0 || lo == __builtin_bswap64(1) || fw_be32(a + 8) == 0xffff;
}

static __rte_always_inline enum fw_drop
parse_ipv6(struct fw_pkt *pk, uint32_t off)
{
	const uint8_t *ip = pk->data + off;
	uint32_t total, header = IPV6_LEN, readable;
	uint8_t proto;
	uint32_t frag = 0;
	bool zero;
	enum fw_drop why;

	pk->l3 = (uint16_t)off;
	pk->key.family = 6;
	if (unlikely(off + IPV6_LEN > pk->contiguous))
		return refuse(pk, FW_DROP_TRUNCATED);
	if (unlikely(ip[0] >> 4 != 6))
		return refuse(pk, FW_DROP_IP_VERSION);
	key_v6(pk, ip + 8, ip + 24);
	pk->l4_proto = proto = ip[6];
	total = IPV6_LEN +
	    (uint32_t)fw_be16(ip + 4); /* a jumbogram says 0, and then has no room for L4 */
	if (unlikely(off + total > pk->len))
		return refuse(pk, FW_DROP_IP_LENGTH);
	/* RFC 4291 section 2.7: a group is no sender.  :: is, in DAD and DHCPv6 only: the guard knows. */
	if (unlikely(ip[8] == 0xff || (ipv6_is_unroutable(ip + 8, &zero) && !zero)))
		return refuse(pk, FW_DROP_IP_SOURCE);
	if (unlikely(ipv6_is_unroutable(ip + 24, &zero)))
		return refuse(pk, FW_DROP_IP_DESTINATION);
	if (unlikely(memcmp(ip + 8, ip + 24, 16) == 0))
		return refuse(pk, FW_DROP_LAND);
	readable = RTE_MIN(total, pk->contiguous - off);
	if (unlikely(proto != IPPROTO_TCP && proto != IPPROTO_UDP)) {
		why = (enum fw_drop)walk_ipv6(ip, readable, &proto, &header, &frag);
		if (unlikely(frag != 0)) {
			uint32_t field = fw_be16(ip + frag + 2);
			enum fw_drop size = FW_DROP_NONE;

			pk->l4_proto = proto;
			/* An atomic fragment is a whole packet (RFC 6946), and goes on as one. */
			if ((field & 0xfff9) != 0)
				size = fragment(pk, fw_be32(ip + frag + 4), field & 0xfff8,
				    field & 1, frag - IPV6_LEN, total - frag - 8);
			if (size != FW_DROP_NONE)
				return size;
			if (why == FW_DROP_TRUNCATED && pk->fragment)
				why = FW_DROP_FRAG_TINY;
		}
		if (why != FW_DROP_NONE)
			return refuse(pk, why);
	}
	pk->l4 = (uint16_t)(off + header);
	pk->l3_end = off + total;
	if (unlikely(pk->kind == FW_KIND_FRAGMENT))
		return FW_DROP_NONE;
	why = parse_l4(pk, proto, ip + header, total - header, readable - header);
	if (unlikely(frag != 0)) {
		if (pk->fragment)
			return first_fragment(pk, why);
		/* RFC 6980: not even nominally. */
		if (pk->kind == FW_KIND_ND)
			return refuse(pk, FW_DROP_ND);
	}
	return why;
}

/* RFC 826, for IPv4 over Ethernet.  Whether the sender may say so is the guard's question. */
static enum fw_drop
parse_arp(struct fw_pkt *pk, uint32_t off)
{
	const uint8_t *a = pk->data + off;

	pk->l3 = pk->l4 = (uint16_t)off;
	if (off + 28 > pk->contiguous)
		return refuse(pk, FW_DROP_TRUNCATED);
	if (fw_be16(a) != 1 || fw_be16(a + 2) != TYPE_IPV4 || a[4] != 6 || a[5] != 4 ||
	    (fw_be16(a + 6) != 1 && fw_be16(a + 6) != 2))
		return refuse(pk, FW_DROP_ARP);
	key_v4(pk, fw_raw32(a + 14), fw_raw32(a + 24));
	pk->kind = FW_KIND_ARP;
	return FW_DROP_NONE;
}

static __rte_always_inline enum fw_drop
parse_l3(struct fw_pkt *pk, uint16_t type, uint32_t off)
{
	if (likely(type == TYPE_IPV4))
		return parse_ipv4(pk, off);
	if (likely(type == TYPE_IPV6))
		return parse_ipv6(pk, off);
	if (type == TYPE_ARP)
		return parse_arp(pk, off);
	return refuse(pk, FW_DROP_ETHERTYPE);
}

/* A tunnel's packet is its inner frame: untagged (RFC 7348 section 6.1), and no longer than the outer packet. */
static __rte_noinline enum fw_drop
parse_inner(struct fw_pkt *pk, const struct fw_tunnel *t)
{
	uint32_t len = pk->len;
	enum fw_drop why;

	pk->outer_l3 = t->outer_l3;
	pk->outer_l4 = t->outer_l4;
	pk->l2 = t->l2;
	pk->key.vrf = FW_VRF_VNI | t->vni;
	pk->checksum_ok = false; /* the port has looked at the outer header */
	if (t->l2 + (uint32_t)ETH_LEN > pk->contiguous)
		return refuse(pk, FW_DROP_TRUNCATED);
	if ((pk->data[t->l2 + 6] & 1) != 0)
		return refuse(pk, FW_DROP_MAC_SOURCE);
	pk->len = t->end;
	why = parse_l3(pk, fw_be16(pk->data + t->l2 + 12), t->l2 + (uint32_t)ETH_LEN);
	pk->len = len;
	return why;
}

enum fw_drop
fw_parse(struct fw_pkt *pk, const uint8_t *data, uint32_t contiguous, uint32_t len, uint16_t tci,
    const struct fw_overlay *overlay)
{
	uint32_t off = ETH_LEN;
	uint16_t type;
	unsigned int tags = 0;

	pk->drop = FW_DROP_NONE;
	pk->kind = FW_KIND_SESSION;
	pk->data = data;
	pk->len = len;
	pk->contiguous = (uint16_t)RTE_MIN(contiguous, UINT32_C(65535));
	pk->key.vrf = 0;
	pk->key.family = 0;
	pk->tcp_flags = 0;
	pk->l4_proto = 0;
	pk->l4_len = 0;
	pk->l2 = pk->outer_l3 = pk->outer_l4 = 0;
	pk->l3 = pk->l4 = pk->l3_end = 0;
	pk->selector = 0;
	pk->request = true;
	pk->fragment = false;
	if (unlikely(pk->contiguous < ETH_LEN))
		return refuse(pk, FW_DROP_TRUNCATED);
	if (unlikely((data[6] & 1) != 0)) /* IEEE 802.3 section 3.2.3 */
		return refuse(pk, FW_DROP_MAC_SOURCE);
	type = fw_be16(data + 12);
	/* VLAN ID 0 is a priority tag: it names no VLAN (IEEE 802.1Q section 9.6). */
	if (unlikely(tci != 0)) {
		pk->key.vrf = tci & 0xfff;
		tags = 1;
	}
	while (unlikely(type == TYPE_VLAN || type == TYPE_QINQ)) {
		if (off + 4 > pk->contiguous)
			return refuse(pk, FW_DROP_TRUNCATED);
		if (++tags > 2)
			return refuse(pk, FW_DROP_VLAN_DEPTH);
		pk->key.vrf = pk->key.vrf << 12 | (fw_be16(data + off) & 0xfff);
		type = fw_be16(data + off + 2);
		off += 4;
	}
	if (unlikely(overlay != NULL) && (type == TYPE_IPV4 || type == TYPE_IPV6)) {
		struct fw_tunnel t;
		enum fw_drop why;

		if (fw_overlay_open(overlay, type == TYPE_IPV4 ? 4 : 6, data, off, pk->contiguous,
		        len, &t, &why))
			return why != FW_DROP_NONE ? refuse(pk, why) : parse_inner(pk, &t);
	}
	return parse_l3(pk, type, off);
}

static void
addr_at(struct pk_addr *out, uint8_t family, const uint8_t *bytes)
{
	memset(out, 0, sizeof(*out));
	out->family = family;
	memcpy(out->bytes, bytes, family == 4 ? 4 : 16);
}

void
fw_pkt_addrs(const struct fw_pkt *pk, struct pk_addr *src, struct pk_addr *dst)
{
	memset(src, 0, sizeof(*src));
	memset(dst, 0, sizeof(*dst));
	if (pk->l3 == 0)
		return;
	if (pk->kind == FW_KIND_ARP) {
		addr_at(src, 4, pk->data + pk->l3 + 14);
		addr_at(dst, 4, pk->data + pk->l3 + 24);
	} else if (pk->key.family == 4 && pk->l3 + 20u <= pk->contiguous) {
		addr_at(src, 4, pk->data + pk->l3 + 12);
		addr_at(dst, 4, pk->data + pk->l3 + 16);
	} else if (pk->key.family == 6 && pk->l3 + 40u <= pk->contiguous) {
		addr_at(src, 6, pk->data + pk->l3 + 8);
		addr_at(dst, 6, pk->data + pk->l3 + 24);
	}
}

void
fw_pkt_ports(const struct fw_pkt *pk, uint16_t *sport, uint16_t *dport)
{
	*sport = *dport = 0;
	if (pk->l4_len == 0)
		return;
	switch (pk->l4_proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		*sport = fw_be16(pk->data + pk->l4);
		*dport = fw_be16(pk->data + pk->l4 + 2);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (pk->l4 + 6u <= pk->contiguous)
			*sport = fw_be16(pk->data + pk->l4 + 4);
		*dport = pk->selector;
		break;
	default:
		break;
	}
}
