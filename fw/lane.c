#include "fw/lane.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/bytes.h"
#include "fw/tcp.h"

/* From the 16th to the 23rd byte: of a session the end of its key, state, flags, scales; of a packet the end of its
 * key, `drop`, which is 0, and what does not matter. */
#define LAST_MASK (UINT64_C(0xffffffffff) | (uint64_t)(uint8_t)~FW_LANE_FLAGS << 40)
#define LAST_WANT ((uint64_t)FW_STATE_ESTABLISHED << 32)
_Static_assert(offsetof(struct fw_session, state) == 20 &&
        offsetof(struct fw_session, flags) == 21 && FW_SESSION_HI == 1 &&
        FW_SESSION_FROM_OUTSIDE == 2 && FW_INSIDE == 0 && FW_OUTSIDE == 1,
    "pass_one() computes with them");
_Static_assert(offsetof(struct fw_pkt, drop) == 20 && offsetof(struct fw_pkt, hi) == 22 &&
        offsetof(struct fw_pkt, lane) == 23 && FW_DROP_NONE == 0 &&
        offsetof(struct fw_pkt, seq) == offsetof(struct fw_pkt, ack) + 4,
    "several fields are stored as one");

void
fw_lane_init(struct fw_lane *l, bool open, const struct fw_sessions *t, struct fw_guard *guard,
    uint16_t wire, enum fw_side from, uint64_t generation, uint32_t seen, bool verify_checksums)
{
	*l = (struct fw_lane){
		.t = t,
		.guard = guard,
		/* ..._CKSUM_NONE has the bits of both good and bad.  A bad IPv4 sum may be the port's
		 * opinion; fw_parse() counts. */
		.ol_mask = RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_LRO |
		    RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD,
		.generation = (uint32_t)generation,
		.seen = seen,
		.tail = (uint32_t)wire | IPPROTO_TCP << 16,
		.wire = wire,
		.from = (uint8_t)from,
	};
	if (verify_checksums) {
		l->ol_mask |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
		l->ol_want = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	}
	if (likely(open))
		fw_guard_begin(guard, generation);
	else
		l->ol_want = ~l->ol_mask; /* which no flags will meet */
}

static __rte_always_inline uint64_t
turn64(uint64_t v, unsigned int by)
{
	return v << by | v >> (-by & 63);
}

static __rte_always_inline uint32_t
turn32(uint32_t v, unsigned int by)
{
	return v << by | v >> (-by & 31);
}

/*
 * Whether the sum of the 20 bytes a, b, c is right.  A ones' complement sum is one modulo 2^16 - 1, so the words
 * may be as wide as there are, a carry comes back in, and all ones is a multiple of 2^16 - 1: the compiler makes
 * one multiplication of that, where folding is a chain of eight (RFC 1071 section 2).
 */
static __rte_always_inline bool
sum_ok(uint64_t a, uint32_t b, uint64_t c)
{
	uint64_t s = a + c;

	s += s < c;
	s += b;
	s += s < b;
	return s % UINT16_MAX == 0;
}

/*
 * What both families have in common: the TCP header at `l4`, of a segment of `bytes`, with the addresses' order
 * `hi` and the first word of the key.  Of the header, the caller has looked at the flags.
 */
static __rte_always_inline bool
read_tcp(const struct fw_lane *l, struct fw_pkt *pk, const uint8_t *l4, uint32_t bytes,
    uint64_t first, unsigned int hi, uint8_t family)
{
	uint32_t header = (uint32_t)(l4[12] >> 4) * 4, ports = fw_raw32(l4);
	uint64_t numbers = fw_be64(l4 + 4), last;
	struct fw_words w;

	if (unlikely(header < 20 || header > bytes))
		return false;
	if (unlikely((uint16_t)ports == 0 || ports >> 16 == 0))
		return false;
	/* The key, in words: ports in host order beside their addresses, of which the lower is first.  Which
	 * that is nobody can predict, so the words are turned instead of chosen. */
	ports = __builtin_bswap32(ports);
	w.q[0] = first;
	w.q[1] = turn32(ports, 16 * (hi ^ 1));
	w.tail = l->tail | (uint32_t)family << 24;
	last = w.tail | (uint64_t)hi << 48 | UINT64_C(1) << 56;
	memcpy(&pk->key, &w.q[0], 8);
	memcpy((char *)&pk->key + 8, &w.q[1], 8);
	memcpy((char *)&pk->key + 16, &last, 8);
	memcpy(&pk->ack, &numbers, 8);
	pk->hash = fw_words_hash(l->t, w);
	pk->win = fw_be16(l4 + 14);
	pk->payload = (uint16_t)(bytes - header);
	return true;
}

/* IPv4: header of 20 bytes, no fragment, TCP. */
static __rte_always_inline bool
read_ipv4(const struct fw_lane *l, enum fw_side from, bool sum_known, const uint8_t *data,
    uint32_t n, struct fw_pkt *pk)
{
	const uint8_t *ip = data + 14;
	uint32_t total = fw_be16(ip + 2), src, dst;
	uint64_t addrs = fw_raw64(ip + 12);
	unsigned int hi;

	if (unlikely(((fw_raw32(ip + 6) & 0xff00ff3f) ^ 0x06000000) |
	        ((ip[33] & FW_TCP_PLAIN_MASK) ^ FW_TCP_PLAIN)))
		return false;
	if (unlikely(total < 40 || 14 + total > n))
		return false;
	if (!sum_known && unlikely(!sum_ok(fw_raw64(ip), fw_raw32(ip + 8), addrs)))
		return false;
	src = (uint32_t)addrs;
	dst = (uint32_t)(addrs >> 32);
	/* No address of network 0 or 127, no source of class D and E. */
	if (unlikely((uint8_t)(src - 1) >= 223 || (uint8_t)src == 127 || (uint8_t)dst == 0 ||
	        (uint8_t)dst == 127 || src == dst))
		return false;
	if (from == FW_INSIDE && unlikely(!fw_guard_remembers4(l->guard, l->wire, src, data + 6)))
		return false;
	hi = src > dst;
	return read_tcp(l, pk, ip + 20, total - 20, turn64(addrs, 32 * hi), hi, 4);
}

/* IPv6 without extension headers, TCP. */
static __rte_always_inline bool
read_ipv6(
    const struct fw_lane *l, enum fw_side from, const uint8_t *data, uint32_t n, struct fw_pkt *pk)
{
	const uint8_t *ip = data + 14;
	uint32_t bytes = fw_be16(ip + 4);
	uint64_t src[2] = { fw_raw64(ip + 8), fw_raw64(ip + 16) };
	uint64_t dst[2] = { fw_raw64(ip + 24), fw_raw64(ip + 32) };
	uint64_t source = __builtin_bswap64(src[0]), destination = __builtin_bswap64(dst[0]);
	uint64_t mask, other[2], low[2], high[2];
	unsigned int hi;

	if (unlikely(ip[6] != IPPROTO_TCP || bytes < 20 || 54 + bytes > n))
		return false;
	if (unlikely((ip[53] & FW_TCP_PLAIN_MASK) != FW_TCP_PLAIN))
		return false;
	/* ::/64 has what is on no wire, fe00::/7 groups and what is valid on its link only. */
	if (unlikely(source == 0 || destination == 0 || source >> 57 == 0x7f ||
	        ((src[0] ^ dst[0]) | (src[1] ^ dst[1])) == 0))
		return false;
	if (from == FW_INSIDE &&
	    unlikely(!fw_guard_remembers6(l->guard, l->wire, ip + 8, data + 6)))
		return false;
	/* The lower first: exchanged under a mask, as the order is nobody's guess. */
	hi = source > destination ||
	    (source == destination && __builtin_bswap64(src[1]) > __builtin_bswap64(dst[1]));
	mask = -(uint64_t)hi;
	for (unsigned int k = 0; k < 2; k++) {
		other[k] = (src[k] ^ dst[k]) & mask;
		low[k] = src[k] ^ other[k];
		high[k] = dst[k] ^ other[k];
		memcpy(pk->addr[0] + 8 * k, &low[k], 8);
		memcpy(pk->addr[1] + 8 * k, &high[k], 8);
	}
	return read_tcp(l, pk, ip + 40, bytes, fw_addrs_digest(l->t, low, high), hi, 6);
}

/*
 * Read a packet into the first line of *pk, with key and hash, and its IPv6 addresses.  False: it is not for the
 * lane, and *pk means nothing.
 */
static __rte_always_inline bool
read_one(const struct fw_lane *l, enum fw_side from, const struct rte_mbuf *m, struct fw_pkt *pk)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t n = m->data_len, type;

	if (unlikely((m->ol_flags & l->ol_mask) != l->ol_want || m->pkt_len != n || n < 54))
		return false;
	if (unlikely((data[6] & 1) != 0)) /* the source is a group */
		return false;
	pk->len = n;
	type = fw_raw32(data + 12);
	if (likely((type & 0x00ffffff) == 0x00450008))
		return read_ipv4(
		    l, from, (m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_GOOD) != 0, data, n, pk);
	if ((type & 0x00f0ffff) == 0x0060dd86 && n >= 74)
		return read_ipv6(l, from, data, n, pk);
	return false;
}

static __rte_always_inline uint32_t
read_all(const struct fw_lane *restrict l, enum fw_side from, struct rte_mbuf *const *pkts,
    unsigned int n, struct fw_pkt *pkt, uint64_t *bytes)
{
	uint32_t in = 0;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < n; i++) {
		sum += pkts[i]->pkt_len;
		if (unlikely(!read_one(l, from, pkts[i], &pkt[i])))
			continue;
		in |= UINT32_C(1) << i;
		fw_sessions_prefetch(l->t, &pkt[i]);
	}
	*bytes += sum;
	return in;
}

uint32_t
fw_lane_read(const struct fw_lane *l, struct rte_mbuf *const *pkts, unsigned int n,
    struct fw_pkt *pkt, uint64_t *bytes)
{
	return l->from == FW_INSIDE ? read_all(l, FW_INSIDE, pkts, n, pkt, bytes)
	                            : read_all(l, FW_OUTSIDE, pkts, n, pkt, bytes);
}

/* Let the packet pass as one of session pk->session.  False: nothing has been done, it leaves the lane. */
static __rte_always_inline bool
pass_one(const struct fw_lane *l, struct fw_sessions *t, const struct fw_pkt *pk)
{
	uint32_t i = pk->session;
	struct fw_session *s;
	struct fw_words a, b;
	uint64_t ours, theirs;
	unsigned int flags, d;

	if (unlikely(i == FW_SESSION_NONE))
		return false;
	s = &t->hot[i];
	a = fw_key_words(&s->key);
	b = fw_key_words(&pk->key);
	memcpy(&ours, (const char *)s + 16, sizeof(ours));
	memcpy(&theirs, (const char *)pk + 16, sizeof(theirs));
	flags = (unsigned int)(ours >> 40);
	d = (pk->hi ^ flags) & FW_SESSION_HI;
	/* The direction d is forward when the packet comes from the side of the opener. */
	if (unlikely(
	        ((a.q[0] ^ b.q[0]) | (a.q[1] ^ b.q[1]) | ((ours ^ theirs ^ LAST_WANT) & LAST_MASK) |
	            (s->generation ^ l->generation) | (((flags >> 1) ^ l->from ^ d) & 1)) != 0))
		return false;
	if (unlikely(pk->key.family == 6) &&
	    unlikely(memcmp(t->cold[i].addr, pk->addr, sizeof(pk->addr)) != 0))
		return false;
	if (unlikely(!fw_tcp_plain(s, pk, d)))
		return false;
	s->seen = l->seen;
	fw_session_count(t, s, d, pk->len);
	return true;
}

unsigned int
fw_lane_run(const struct fw_lane *restrict l, struct fw_sessions *t, struct rte_mbuf *const *pkts,
    struct fw_pkt *pkt, unsigned int i, unsigned int n, struct rte_mbuf **out)
{
	for (; i < n; i++) {
		if (unlikely(!pkt[i].lane || !pass_one(l, t, &pkt[i]))) {
			pkt[i].m = pkts[i];
			break;
		}
		*out++ = pkts[i];
	}
	return i;
}
