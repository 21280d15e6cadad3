#include <netinet/in.h>

#include <rte_mbuf.h>

#include "ipsec/esp/esp_priv.h"

/* What a stage finds out for the next. */
struct job {
	uint8_t *esp;
	uint64_t seq;
	uint32_t head;  /* bytes from the IP header to the ESP header */
	uint32_t clear; /* bytes between IV and ICV */
	bool moved;     /* comes from elsewhere than its SA does */
};

/* Whether the outer addresses are those of the SA; *moved: but for the source, which NAT may change. */
static bool
from_peer(const struct esp_sa *sa, const struct esp_pkt *p, const uint8_t *ip, bool *moved)
{
	const uint8_t *addr = sa->from.addr;
	bool source, dest;

	if ((sa->flags & ESP_SA_OUTER6) == 0) {
		if (ip[0] >> 4 != 4)
			return false;
		source = memcmp(ip + 12, addr, 4) == 0;
		dest = memcmp(ip + 16, addr + 4, 4) == 0;
	} else {
		if (ip[0] >> 4 != 6)
			return false;
		source = memcmp(ip + 8, addr, 16) == 0;
		dest = memcmp(ip + 24, addr + 16, 16) == 0;
	}
	*moved = false;
	if ((sa->flags & ESP_SA_ENCAP) == 0 || !p->udp)
		return source && dest;
	*moved = !source ||
	    memcmp(rte_pktmbuf_mtod_offset(p->m, const uint8_t *, p->l4), &sa->from.sport_be, 2) !=
	        0;
	return dest;
}

/* All that is asked before the ICV is.  The key is asked for, since by now its use is known. */
static enum esp_error
look(struct esp_engine *e, struct esp_pkt *p, struct job *j, uint64_t now_ns)
{
	struct esp_sa *sa = p->sa;
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->m, const uint8_t *, p->l3);
	uint32_t at = p->l4 + (p->udp ? UDP_HEADER : 0u), end, len, low;
	uint32_t state = atomic_load_explicit(&sa->state, memory_order_acquire);

	if (unlikely(state == ESP_STATE_DEAD))
		return ESP_EXPIRED;
	if (unlikely(state != ESP_STATE_ALIVE || (sa->flags & ESP_SA_OUT) != 0))
		return ESP_SPI;
	if (unlikely(p->m->nb_segs != 1))
		return ESP_ROOM;
	end = p->l3 + (ip[0] >> 4 == 4 ? get16(ip + 2) : 40u + get16(ip + 4));
	if (unlikely(end > p->m->data_len || at + ESP_HEADER > end))
		return ESP_TRUNCATED;
	j->esp = rte_pktmbuf_mtod_offset(p->m, uint8_t *, at);
	if (unlikely(memcmp(j->esp, &sa->spi_be, 4) != 0))
		return ESP_SPI;
	if (unlikely(!from_peer(sa, p, ip, &j->moved)))
		return ESP_ADDRESS;
	if (unlikely(now_ns >= sa->hard_ns ||
	        atomic_load_explicit(&sa->bytes, memory_order_relaxed) >= sa->hard_bytes ||
	        atomic_load_explicit(&sa->packets, memory_order_relaxed) >= sa->seq_max))
		return ESP_EXPIRED;
	len = end - at;
	if (unlikely(len < ESP_HEADER + sa->iv_len + (uint32_t)sa->block + sa->icv_len))
		return ESP_TRUNCATED;
	j->head = at - p->l3;
	j->clear = len - ESP_HEADER - sa->iv_len - sa->icv_len;
	if (unlikely((j->clear & (sa->block - 1u)) != 0))
		return ESP_TRUNCATED;
	low = get32(j->esp + 4);
	j->seq = low;
	if ((sa->flags & ESP_SA_ESN) != 0)
		j->seq =
		    esp_replay_whole(atomic_load_explicit(&sa->replay.top, memory_order_relaxed),
		        low, sa->replay.window);
	p->seq = j->seq;
	if (likely(sa->replay.window != 0)) {
		/* RFC 4303, section 3.3.3: the first number is 1. */
		if (unlikely(j->seq == 0))
			return ESP_OLD;
		switch (esp_replay_check(&sa->replay, j->seq)) {
		case ESP_REPLAY_SEEN:
			return ESP_REPLAY;
		case ESP_REPLAY_LATE:
			return ESP_OLD;
		default:
			break;
		}
	}
	ipsec_key_prefetch(esp_sad_key(e->sad, sa), (enum ipsec_alg)sa->alg,
	    sa->kind == IPSEC_KIND_GMAC ? len : j->clear);
	return ESP_OK;
}

/* Whoever is behind NAT is somewhere else now; the first lcore that sees it writes down where. */
static void
note_moved(struct esp_sa *sa, const struct esp_pkt *p)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->m, const uint8_t *, p->l3);
	uint32_t no = ESP_MOVED_NO;

	if (!atomic_compare_exchange_strong_explicit(
	        &sa->moved_state, &no, ESP_MOVED_BUSY, memory_order_relaxed, memory_order_relaxed))
		return;
	memset(sa->moved, 0, sizeof(sa->moved));
	if (ip[0] >> 4 == 4)
		memcpy(sa->moved, ip + 12, 4);
	else
		memcpy(sa->moved, ip + 8, 16);
	memcpy(&sa->moved_port_be, rte_pktmbuf_mtod_offset(p->m, const uint8_t *, p->l4), 2);
	atomic_store_explicit(&sa->moved_state, ESP_MOVED_YES, memory_order_release);
}

/*
 * Padding counts 1, 2, 3 (RFC 4303, section 2.4).  Whoever has the key may still have something to hide there, or a
 * fault, so it is looked at.
 */
static bool
padding_ok(const uint8_t *end, unsigned int pad)
{
	for (unsigned int i = 0; i < pad; i++)
		if (end[-1 - (int)i] != pad - i)
			return false;
	return true;
}

/* What RFC 6040 and the SA want of the inner header, since the outer one goes. */
static enum esp_error
inner_tos(const struct esp_sa *sa, const uint8_t *outer, uint8_t *ip)
{
	bool inner4 = ip[0] >> 4 == 4;
	uint8_t out = outer[0] >> 4 == 4 ? outer[1] : (uint8_t)(get16(outer) >> 4);
	uint8_t in = inner4 ? ip[1] : (uint8_t)(get16(ip) >> 4), is = in;

	if ((sa->flags & ESP_SA_NO_ECN) == 0) {
		unsigned int ecn = esp_ecn_decap(in & 3, out & 3);

		if (unlikely(ecn == ESP_ECN_DROP))
			return ESP_ECN;
		is = (uint8_t)((is & 0xfc) | ecn);
	}
	if ((sa->flags & ESP_SA_DSCP_DECAP) != 0)
		is = (uint8_t)((is & 3) | (out & 0xfc));
	if (likely(is == in))
		return ESP_OK;
	if (inner4) {
		uint16_t was = get16(ip);

		ip[1] = is;
		sum_change(ip + 10, was, get16(ip));
	} else {
		put16(ip, (get16(ip) & 0xf00fu) | (uint32_t)is << 4);
	}
	return ESP_OK;
}

/* The packet inside a tunnel becomes the frame's. */
static enum esp_error
unwrap(struct esp_pkt *p, uint8_t *ip, uint32_t len, uint8_t next)
{
	struct rte_mbuf *m = p->m;
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *), *to = ip - p->l3;
	uint32_t ip_len, least = next == IPPROTO_IPIP ? 20 : 40;
	enum esp_error error;

	if (unlikely(next != IPPROTO_IPIP && next != IPPROTO_IPV6))
		return ESP_NEXT_HEADER;
	if (unlikely(len < least || ip[0] >> 4 != (next == IPPROTO_IPIP ? 4 : 6)))
		return ESP_INNER;
	ip_len = next == IPPROTO_IPIP ? get16(ip + 2) : 40u + get16(ip + 4);
	/* Behind it there may be TFC padding. */
	if (unlikely(ip_len < least || ip_len > len))
		return ESP_INNER;
	error = inner_tos(p->sa, frame + p->l3, ip);
	if (unlikely(error != ESP_OK))
		return error;
	memmove(to, frame, p->l3);
	put16(to + p->l3 - 2, next == IPPROTO_IPIP ? 0x0800 : 0x86dd);
	m->data_off = (uint16_t)(m->data_off + (to - frame));
	m->data_len = (uint16_t)(p->l3 + ip_len);
	m->pkt_len = m->data_len;
	return ESP_OK;
}

/* RFC 3948, section 3.1.2: addresses have been changed on the way, and the checksum covers those of before. */
static void
mend_checksum(const struct esp_sa *sa, uint8_t *l4, uint32_t len, uint8_t proto)
{
	unsigned int at = proto == IPPROTO_TCP ? 16 : 6;
	uint16_t sum;

	if (sa->from.nat_delta == 0 || (proto != IPPROTO_TCP && proto != IPPROTO_UDP) ||
	    len < at + 2)
		return;
	sum = get16(l4 + at);
	if (proto == IPPROTO_UDP && sum == 0)
		return;
	sum = (uint16_t)~sum_fold((uint16_t)~sum + (uint32_t)sa->from.nat_delta);
	put16(l4 + at, proto == IPPROTO_UDP && sum == 0 ? 0xffff : sum);
}

/* The headers that stood in front go back to what they belong to. */
static enum esp_error
join(struct esp_pkt *p, const struct job *j, uint8_t *data, uint32_t len, uint8_t next)
{
	struct rte_mbuf *m = p->m;
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *), *ip;
	uint32_t head = j->head - (p->udp ? UDP_HEADER : 0u), front = p->l3 + head;
	uint8_t *to = data - front;

	memmove(to, frame, front);
	ip = to + p->l3;
	if (ip[0] >> 4 == 4) {
		ip[9] = next;
		put16(ip + 2, head + len);
		put16(ip + 10, 0);
		put16(ip + 10, (uint16_t)~sum_fold(sum_words(ip, head)));
	} else {
		uint8_t *at = &ip[6];
		uint32_t off = 40;

		/* The parser has been along here. */
		while (*at != IPPROTO_ESP && *at != IPPROTO_UDP && off + 8 <= head) {
			at = &ip[off];
			off += ((uint32_t)ip[off + 1] + 1) * 8;
		}
		*at = next;
		put16(ip + 4, head - 40 + len);
	}
	mend_checksum(p->sa, data, len, next);
	m->data_off = (uint16_t)(m->data_off + (to - frame));
	m->data_len = (uint16_t)(front + len);
	m->pkt_len = m->data_len;
	return ESP_OK;
}

/* The ICV is right.  Another lcore may have taken the same number in the meantime. */
static enum esp_error
finish(struct esp_pkt *p, const struct job *j)
{
	struct esp_sa *sa = p->sa;
	uint8_t *data = j->esp + ESP_HEADER + sa->iv_len, *end = data + j->clear - 2;
	uint8_t pad = end[0], next = end[1];
	uint32_t len;

	if (likely(sa->replay.window != 0)) {
		enum esp_replay_answer a = esp_replay_take(&sa->replay, j->seq);

		if (unlikely(a != ESP_REPLAY_NEW))
			return a == ESP_REPLAY_SEEN ? ESP_REPLAY : ESP_OLD;
	} else if ((sa->flags & ESP_SA_ESN) == 0) {
		/* Without a window the highest number is kept for people. */
		if (j->seq > atomic_load_explicit(&sa->replay.top, memory_order_relaxed))
			atomic_store_explicit(&sa->replay.top, j->seq, memory_order_relaxed);
	}
	if (unlikely(j->moved))
		note_moved(sa, p);
	if (unlikely(pad + 2u > j->clear || !padding_ok(end, pad)))
		return ESP_PADDING;
	/* RFC 4303, section 2.6 */
	if (unlikely(next == IPPROTO_NONE))
		return ESP_DUMMY;
	len = j->clear - 2 - pad;
	if ((sa->flags & ESP_SA_TUNNEL) != 0)
		return unwrap(p, data, len, next);
	return join(p, j, data, len, next);
}

/* What a run of packets of one SA has brought. */
static void
count(struct esp_sa *sa, const struct esp_pkt *pkt, const struct job *job, unsigned int from,
    unsigned int to, uint64_t now_ns)
{
	uint64_t packets = 0, bytes = 0, refused = 0;

	for (unsigned int i = from; i < to; i++) {
		if (likely(pkt[i].error == ESP_OK || pkt[i].error == ESP_DUMMY)) {
			packets++;
			bytes += job[i].clear;
		} else {
			refused++;
		}
	}
	if (likely(packets != 0)) {
		atomic_fetch_add_explicit(&sa->packets, packets, memory_order_relaxed);
		atomic_fetch_add_explicit(&sa->bytes, bytes, memory_order_relaxed);
		atomic_store_explicit(&sa->used_ns, now_ns, memory_order_relaxed);
	}
	if (unlikely(refused != 0))
		atomic_fetch_add_explicit(&sa->refused, refused, memory_order_relaxed);
}

void
esp_unprotect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns)
{
	struct ipsec_op op[ESP_BURST];
	struct esp_aad aad[ESP_BURST];
	struct job job[ESP_BURST];
	uint8_t which[ESP_BURST];
	unsigned int nb = 0;

	PK_ASSERT(n <= ESP_BURST);
	for (unsigned int i = 0; i < n; i++) {
		const char *sa = (const char *)pkt[i].sa;

		__builtin_prefetch(sa);
		__builtin_prefetch(sa + 64, 1);
		__builtin_prefetch(sa + 128);
		__builtin_prefetch(sa + 192, 1);
	}
	/* Under a hypervisor a prefetch whose page is in no TLB gets lost, so each page is asked for by a load. */
	for (unsigned int i = 0; i < n; i++)
		(void)*(const volatile uint8_t *)esp_sad_key(e->sad, pkt[i].sa);
	for (unsigned int i = 0; i < n; i++)
		pkt[i].error = (uint8_t)look(e, &pkt[i], &job[i], now_ns);
	for (unsigned int i = 0; i < n; i++) {
		if (unlikely(pkt[i].error != ESP_OK))
			continue;
		which[nb] = (uint8_t)i;
		esp_op(&op[nb], pkt[i].sa, esp_sad_key(e->sad, pkt[i].sa), job[i].esp, job[i].clear,
		    job[i].seq, &aad[nb], false);
		nb++;
	}
	ipsec_open(e->crypto, op, nb);
	for (unsigned int k = 0; k < nb; k++) {
		unsigned int i = which[k];

		esp_aad_restore(pkt[i].sa, job[i].esp, &aad[k]);
		pkt[i].error = (uint8_t)(likely(op[k].ok) ? finish(&pkt[i], &job[i]) : ESP_ICV);
	}
	for (unsigned int i = 0, from; i < n;) {
		for (from = i; i < n && pkt[i].sa == pkt[from].sa;)
			i++;
		count(pkt[from].sa, pkt, job, from, i, now_ns);
	}
}
