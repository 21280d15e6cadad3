#include "fw/lane.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/tcp.h"

/* The 16th to the 23rd byte of a session: the end of its key, state, flags, scales. */
#define LAST_MASK (UINT64_C(0xffffffffff) | (uint64_t)(uint8_t)~FW_LANE_FLAGS << 40)
_Static_assert(offsetof(struct fw_session, state) == 20 &&
        offsetof(struct fw_session, flags) == 21 && FW_SESSION_HI == 1 &&
        FW_SESSION_FROM_OUTSIDE == 2 && FW_INSIDE == 0 && FW_OUTSIDE == 1,
    "pass_one() computes with them");

void
fw_lane_init(struct fw_lane *l, bool open, const struct fw_sessions *t, struct fw_guard *guard,
    uint16_t wire, enum fw_side from, uint64_t generation, uint32_t seen, bool verify_checksums,
    uint64_t marks)
{
	*l = (struct fw_lane){
		.t = t,
		.guard = guard,
		/* ..._CKSUM_NONE has the bits of both good and bad.  A bad IPv4 sum may be the port's
		 * opinion; fw_parse() counts. */
		.ol_mask = RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_LRO |
		    RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD | marks,
		.generation = (uint32_t)generation,
		.seen = seen,
		.last = (uint32_t)wire | IPPROTO_TCP << 16 | UINT32_C(4) << 24 |
		    (uint64_t)FW_STATE_ESTABLISHED << 32,
		.who = fw_guard_who(wire),
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

static __rte_always_inline uint32_t
u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static __rte_always_inline uint64_t
u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
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

/* As fw_sum() and fw_sum_fold() of the 20 bytes a, b, c: ones' complement, in words as wide as there are. */
static __rte_always_inline bool
sum_ok(uint64_t a, uint32_t b, uint64_t c)
{
	uint64_t s = a + c;
	uint32_t t, u;

	s += s < c;
	s += b;
	s += s < b;
	u = (uint32_t)(s >> 32);
	t = (uint32_t)s + u;
	t += t < u;
	return (t + turn32(t, 16)) >> 16 == 0xffff;
}

static __rte_always_inline uint16_t
u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/*
 * Read a packet into the first line of *pk, with key and hash.  False: it is not for the lane, and *pk
 * means nothing.
 */
static __rte_always_inline bool
read_one(const struct fw_lane *l, struct rte_mbuf *m, struct fw_pkt *pk)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t src, dst, ports, total, header, n = m->data_len;
	uint64_t addrs, numbers;
	struct fw_words w;
	unsigned int hi;

	if (unlikely((m->ol_flags & l->ol_mask) != l->ol_want || m->pkt_len != n || n < 54))
		return false;
	/* Source is no group; IPv4, header of 20 bytes; no fragment, TCP; of SYN FIN RST ACK only ACK. */
	if (unlikely(((data[6] & 1u) | ((u32(data + 12) & 0x00ffffff) ^ 0x00450008) |
	                 ((u32(data + 20) & 0xff00ff3f) ^ 0x06000000) |
	                 ((data[47] & FW_TCP_PLAIN_MASK) ^ FW_TCP_PLAIN)) != 0))
		return false;
	total = __builtin_bswap16(u16(data + 16));
	header = (uint32_t)(data[46] >> 4) * 4;
	if (unlikely(header < 20 || 20 + header > total || 14 + total > n))
		return false;
	addrs = u64(data + 26);
	src = (uint32_t)addrs;
	dst = (uint32_t)(addrs >> 32);
	if ((m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_GOOD) == 0 &&
	    unlikely(!sum_ok(u64(data + 14), u32(data + 22), addrs)))
		return false;
	ports = u32(data + 34);
	/* No address of network 0 or 127, no source of class D and E, no port 0. */
	if (unlikely((uint8_t)(src - 1) >= 223 || (uint8_t)src == 127 || (uint8_t)dst == 0 ||
	        (uint8_t)dst == 127 || src == dst || (uint16_t)ports == 0 || ports >> 16 == 0))
		return false;
	if (l->from == FW_INSIDE && unlikely(!fw_guard_remembers(l->guard, l->who, src, data + 6)))
		return false;

	/* The key, in words: lower address first, ports in host order beside their addresses.  Which is the
	 * lower nobody can predict, so the words are turned instead of chosen. */
	hi = src > dst;
	ports = __builtin_bswap32(ports);
	w.q[0] = turn64(addrs, 32 * hi);
	w.q[1] = turn32(ports, 16 * (hi ^ 1));
	w.tail = (uint32_t)l->last;
	memcpy(&pk->key, &w.q[0], 8);
	memcpy((char *)&pk->key + 8, &w.q[1], 8);
	memcpy((char *)&pk->key + 16, &w.tail, 4);
	pk->hash = fw_words_hash(l->t, w);
	pk->drop = FW_DROP_NONE;
	pk->hi = (uint8_t)hi;
	pk->lane = true;
	pk->len = n;
	numbers = __builtin_bswap64(u64(data + 38));
	pk->seq = (uint32_t)(numbers >> 32);
	pk->ack = (uint32_t)numbers;
	pk->win = __builtin_bswap16(u16(data + 48));
	pk->payload = (uint16_t)(total - 20 - header);
	return true;
}

uint32_t
fw_lane_read(const struct fw_lane *l, struct rte_mbuf *const *pkts, unsigned int n,
    struct fw_pkt *pkt, uint64_t *bytes)
{
	uint32_t in = 0;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < n; i++) {
		sum += pkts[i]->pkt_len;
		if (unlikely(!read_one(l, pkts[i], &pkt[i])))
			continue;
		in |= UINT32_C(1) << i;
		fw_sessions_prefetch(l->t, &pkt[i]);
	}
	*bytes += sum;
	return in;
}

/* Let the packet pass as one of session pk->session.  False: nothing has been done, it leaves the lane. */
static __rte_always_inline bool
pass_one(const struct fw_lane *l, struct fw_sessions *t, const struct fw_pkt *pk)
{
	uint32_t i = pk->session;
	struct fw_session *s;
	struct fw_words a, b;
	uint64_t last;
	unsigned int flags, d;

	if (unlikely(i == FW_SESSION_NONE))
		return false;
	s = &t->hot[i];
	a = fw_key_words(&s->key);
	b = fw_key_words(&pk->key);
	memcpy(&last, (const char *)s + 16, sizeof(last));
	flags = (unsigned int)(last >> 40);
	d = (pk->hi ^ flags) & FW_SESSION_HI;
	/* The direction d is forward when the packet comes from the side of the opener. */
	if (unlikely(
	        ((a.q[0] ^ b.q[0]) | (a.q[1] ^ b.q[1]) | ((last ^ l->last) & LAST_MASK) |
	            (s->generation ^ l->generation) | (((flags >> 1) ^ l->from ^ d) & 1)) != 0))
		return false;
	if (unlikely(!fw_tcp_plain(s, pk, d)))
		return false;
	s->seen = l->seen;
	fw_session_count(t, i, d, pk->len);
	return true;
}

unsigned int
fw_lane_run(const struct fw_lane *l, struct fw_sessions *t, struct rte_mbuf *const *pkts,
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
