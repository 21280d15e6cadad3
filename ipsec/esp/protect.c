#include <netinet/in.h>

#include <openssl/rand.h>
#include <rte_mbuf.h>

#include "ipsec/esp/esp_priv.h"

#define IPV4_DF 0x4000

const char *
esp_error_name(unsigned int error)
{
	static const char *const names[ESP_ERROR_COUNT] = { [ESP_OK] = "none",
#define ESP_ERROR_NAME(name, text, help) [name] = text,
		ESP_ERRORS(ESP_ERROR_NAME)
#undef ESP_ERROR_NAME
	};

	return error < ESP_ERROR_COUNT ? names[error] : "unknown";
}

/* Bytes of `plain` with TFC padding, ESP padding, pad length and next header (RFC 4303, sections 2.4 and 2.7). */
static inline uint32_t
clear_len(const struct esp_sa *sa, uint32_t plain)
{
	/* TFC padding is for tunnel mode, where the inner header says where the packet ends. */
	if (plain < sa->tfc && (sa->flags & ESP_SA_TUNNEL) != 0)
		plain = sa->tfc;
	return (plain + 2 + sa->block - 1) & ~(uint32_t)(sa->block - 1);
}

uint32_t
esp_size(const struct esp_sa *sa, uint32_t len, uint32_t head)
{
	if ((sa->flags & ESP_SA_TUNNEL) != 0)
		head = 0;
	return head + sa->outer_len + ESP_HEADER + sa->iv_len + clear_len(sa, len - head) +
	    sa->icv_len;
}

uint32_t
esp_fits(const struct esp_sa *sa, uint32_t mtu, uint32_t head)
{
	uint32_t around = sa->outer_len + ESP_HEADER + sa->iv_len + (uint32_t)sa->icv_len, room;

	if ((sa->flags & ESP_SA_TUNNEL) != 0)
		head = 0;
	around += head;
	if (mtu < around + sa->block)
		return 0;
	room = ((mtu - around) & ~(uint32_t)(sa->block - 1)) - 2;
	/* TFC padding may make all packets too long. */
	return (sa->flags & ESP_SA_TUNNEL) == 0 || room >= sa->tfc ? head + room : 0;
}

static void
default_random(uint8_t *bytes, size_t len)
{
	PK_ASSERT(RAND_bytes(bytes, (int)len) == 1);
}

static void
random_iv(struct esp_engine *e, uint8_t *iv)
{
	if (e->pool_left < 16) {
		(e->random != NULL ? e->random : default_random)(e->pool, sizeof(e->pool));
		e->pool_left = sizeof(e->pool);
	}
	e->pool_left -= 16;
	memcpy(iv, e->pool + e->pool_left, 16);
}

/* What a stage finds out for the next. */
struct job {
	uint32_t ip_len; /* of the packet as it came */
	uint32_t head;   /* bytes of IP header that stay in front: 0 in tunnel mode */
	uint32_t plain, clear;
	uint8_t next;
	uint8_t next_at; /* offset in the IP header of the number that becomes ESP's; transport */
};

/*
 * Transport mode over IPv6: ESP goes behind the headers that routers look at (RFC 4303, section 3.1.1).  False: a
 * fragment, or headers that run over the end.
 */
static bool
ipv6_head(const uint8_t *ip, struct job *j)
{
	uint32_t off = 40;

	j->next_at = 6;
	while (ip[j->next_at] == IPPROTO_HOPOPTS || ip[j->next_at] == IPPROTO_ROUTING) {
		if (off + 8 > j->ip_len || off > 200)
			return false;
		j->next_at = (uint8_t)off;
		off += ((uint32_t)ip[off + 1] + 1) * 8;
		if (off > j->ip_len)
			return false;
	}
	j->head = off;
	j->next = ip[j->next_at];
	return j->next != IPPROTO_FRAGMENT;
}

/* All that is asked before a number is taken.  The key is asked for, since by now its use is known. */
static enum esp_error
look(struct esp_engine *e, struct esp_pkt *p, struct job *j, uint64_t now_ns)
{
	struct esp_sa *sa = p->sa;
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->m, const uint8_t *, p->l3);
	uint32_t size, room;

	if (unlikely(atomic_load_explicit(&sa->state, memory_order_acquire) != ESP_STATE_ALIVE ||
	        (sa->flags & ESP_SA_OUT) == 0 || now_ns >= sa->hard_ns))
		return ESP_EXPIRED;
	if (unlikely(p->m->nb_segs != 1))
		return ESP_ROOM;
	room = p->m->data_len - p->l3;
	if (ip[0] >> 4 == 4) {
		j->ip_len = get16(ip + 2);
		j->head = (uint32_t)(ip[0] & 15) * 4;
		j->next = IPPROTO_IPIP;
		if (room < 20 || j->head < 20)
			return ESP_INNER;
	} else {
		if (room < 40)
			return ESP_INNER;
		j->ip_len = 40u + get16(ip + 4);
		j->head = 40;
		j->next = IPPROTO_IPV6;
	}
	if (unlikely(j->ip_len > room || j->ip_len < j->head))
		return ESP_INNER;
	if ((sa->flags & ESP_SA_TUNNEL) != 0) {
		j->head = 0;
	} else if (ip[0] >> 4 == 4) {
		j->next = ip[9];
		j->next_at = 9;
		if ((get16(ip + 6) & 0x3fff) != 0)
			return ESP_FRAGMENT;
	} else if (!ipv6_head(ip, j)) {
		return ESP_FRAGMENT;
	}
	j->plain = j->ip_len - j->head;
	j->clear = clear_len(sa, j->plain);
	size = j->head + sa->outer_len + ESP_HEADER + sa->iv_len + j->clear + sa->icv_len;
	if (unlikely(size > atomic_load_explicit(&sa->mtu, memory_order_relaxed))) {
		p->mtu = (uint16_t)esp_fits(sa, sa->mtu, j->head);
		return ESP_TOO_BIG;
	}
	if (unlikely(
	        rte_pktmbuf_headroom(p->m) < sa->outer_len + ESP_HEADER + (uint32_t)sa->iv_len ||
	        rte_pktmbuf_tailroom(p->m) + (room - j->ip_len) <
	            j->clear - j->plain + sa->icv_len))
		return ESP_ROOM;
	ipsec_key_prefetch(esp_sad_key(e->sad, sa), (enum ipsec_alg)sa->alg,
	    sa->kind == IPSEC_KIND_GMAC ? j->clear + ESP_HEADER + sa->iv_len : j->clear);
	return ESP_OK;
}

/* The headers around a packet that goes into a tunnel; `ip` is inside, `outer` where they go. */
static void
wrap(const struct esp_sa *sa, uint8_t *outer, const uint8_t *ip, uint32_t len, uint64_t seq)
{
	bool inner4 = ip[0] >> 4 == 4;
	uint8_t tos = inner4 ? ip[1] : (uint8_t)(get16(ip) >> 4), out;

	out = (uint8_t)((sa->flags & ESP_SA_NO_DSCP_COPY) != 0 ? sa->dscp : tos & 0xfc);
	/* RFC 6040, section 4.1: normal mode copies, compatibility mode clears. */
	if ((sa->flags & ESP_SA_NO_ECN) == 0)
		out |= tos & 3;
	memcpy(outer, sa->outer, sa->outer_len);
	if ((sa->flags & ESP_SA_OUTER6) == 0) {
		uint16_t frag = 0;
		uint32_t sum = get16(outer + 10); /* of what the template says */

		/* What is IPv6 inside is never fragmented on its way. */
		if (sa->df == PK_SADB_DF_SET ||
		    (sa->df == PK_SADB_DF_COPY && (!inner4 || (get16(ip + 6) & IPV4_DF) != 0)))
			frag = IPV4_DF;
		outer[1] = out;
		put16(outer + 2, len);
		/* RFC 6864: it matters only to what may be fragmented, and then differs for 65,536 packets. */
		put16(outer + 4, (uint16_t)seq);
		put16(outer + 6, frag);
		sum += out + len + (uint16_t)seq + frag;
		put16(outer + 10, (uint16_t)~sum_fold(sum));
		if (sa->outer_len > 20)
			put16(outer + 24, len - 20);
	} else {
		put16(outer, 0x6000u | (uint32_t)out << 4);
		put16(outer + 4, len - 40);
		if (sa->outer_len > 40)
			put16(outer + 44, len - 40);
	}
}

/* Headers that stay in front have moved to `ip`: say in them what follows now. */
static void
front(const struct esp_sa *sa, uint8_t *ip, const struct job *j, uint32_t len)
{
	uint8_t proto = sa->outer_len != 0 ? IPPROTO_UDP : IPPROTO_ESP;

	ip[j->next_at] = proto;
	if (ip[0] >> 4 == 4) {
		put16(ip + 2, len);
		put16(ip + 10, 0);
		put16(ip + 10, (uint16_t)~sum_fold(sum_words(ip, j->head)));
	} else {
		put16(ip + 4, len - 40);
	}
	if (sa->outer_len != 0) {
		memcpy(ip + j->head, sa->outer, UDP_HEADER);
		put16(ip + j->head + 4, len - j->head);
	}
}

/* Write all of the packet but what cryptography writes.  Returns where its ESP header is. */
static uint8_t *
write_packet(struct esp_engine *e, struct esp_pkt *p, const struct job *j)
{
	const struct esp_sa *sa = p->sa;
	struct rte_mbuf *m = p->m;
	uint32_t ahead = sa->outer_len + ESP_HEADER + (uint32_t)sa->iv_len;
	uint32_t size = j->head + ahead + j->clear + sa->icv_len, tfc = 0, pad;
	uint8_t *was = rte_pktmbuf_mtod(m, uint8_t *), *now = was - ahead;
	uint8_t *ip = was + p->l3, *outer = now + p->l3, *esp = outer + j->head + sa->outer_len;
	uint8_t *end = ip + j->ip_len;
	uint64_t mac;

	/* For TFC there are zeros behind the packet, before padding begins (RFC 4303, section 2.7). */
	pad = j->clear - j->plain - 2;
	if (j->plain < sa->tfc && (sa->flags & ESP_SA_TUNNEL) != 0) {
		tfc = sa->tfc - j->plain;
		memset(end, 0, tfc);
		end += tfc;
		pad -= tfc;
	}
	for (uint32_t i = 1; i <= pad; i++)
		*end++ = (uint8_t)i;
	*end++ = (uint8_t)pad;
	*end++ = j->next;

	m->data_off = (uint16_t)(m->data_off - ahead);
	m->data_len = (uint16_t)(p->l3 + size);
	m->pkt_len = m->data_len;
	/* Link header, and in transport mode the headers that stay. */
	memmove(now, was, p->l3 + j->head);
	if ((sa->flags & ESP_SA_TUNNEL) != 0) {
		wrap(sa, outer, ip, size, p->seq);
		put16(outer - 2, (sa->flags & ESP_SA_OUTER6) != 0 ? 0x86dd : 0x0800);
	} else {
		front(sa, outer, j, size);
	}
	mac = atomic_load_explicit(&sa->mac_to, memory_order_acquire);
	if (likely(mac != 0)) {
		memcpy(now, &mac, 6);
		mac = atomic_load_explicit(&sa->mac_from, memory_order_relaxed);
		memcpy(now + 6, &mac, 6);
	}
	memcpy(esp, &sa->spi_be, 4);
	put32(esp + 4, (uint32_t)p->seq);
	if (sa->iv_len == 8) {
		/* RFC 4106, section 3.1: never the same twice under one key, as the number is not. */
		put32(esp + ESP_HEADER, (uint32_t)(p->seq >> 32));
		put32(esp + ESP_HEADER + 4, (uint32_t)p->seq);
	} else if (sa->iv_len != 0) {
		random_iv(e, esp + ESP_HEADER);
	}
	m->ol_flags &= ~(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4 |
	    RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_SEG);
	return esp;
}

/* Numbers for a run of packets of one SA, bits of `run`, at once. */
static void
take_numbers(
    struct esp_sa *sa, struct esp_pkt *pkt, const struct job *job, uint32_t run, uint64_t now_ns)
{
	uint64_t n = (unsigned int)__builtin_popcount(run), sum = 0, seq, bytes;

	for (uint32_t r = run; r != 0; r &= r - 1)
		sum += job[__builtin_ctz(r)].clear;
	seq = atomic_fetch_add_explicit(&sa->seq, n, memory_order_relaxed);
	bytes = atomic_fetch_add_explicit(&sa->bytes, sum, memory_order_relaxed);
	atomic_store_explicit(&sa->used_ns, now_ns, memory_order_relaxed);
	for (uint32_t r = run; r != 0; r &= r - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(r);

		pkt[i].seq = ++seq;
		bytes += job[i].clear;
		if (likely(seq <= sa->seq_max && bytes <= sa->hard_bytes && seq != 0))
			continue;
		/* RFC 4303, section 3.3.3: a number is never used twice under one key, so the SA ends before
		 * it wraps.  What was counted here and is not sent is seen by nobody: the SA is at its end. */
		pkt[i].error = seq > sa->seq_max || seq == 0 ? ESP_SEQ : ESP_EXPIRED;
	}
}

void
esp_protect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns)
{
	struct ipsec_op op[ESP_BURST];
	struct esp_aad aad[ESP_BURST];
	struct job job[ESP_BURST];
	uint8_t which[ESP_BURST];
	uint8_t *esp[ESP_BURST];
	unsigned int nb = 0;

	PK_ASSERT(n <= ESP_BURST);
	for (unsigned int i = 0; i < n; i++) {
		const char *sa = (const char *)pkt[i].sa;

		__builtin_prefetch(sa);
		__builtin_prefetch(sa + 64, 1);
		__builtin_prefetch(sa + 128);
	}
	/* Under a hypervisor a prefetch whose page is in no TLB gets lost, so each page is asked for by a load. */
	for (unsigned int i = 0; i < n; i++)
		(void)*(const volatile uint8_t *)esp_sad_key(e->sad, pkt[i].sa);
	for (unsigned int i = 0; i < n; i++)
		pkt[i].error = (uint8_t)look(e, &pkt[i], &job[i], now_ns);
	for (unsigned int i = 0; i < n;) {
		struct esp_sa *sa = pkt[i].sa;
		uint32_t run = 0;

		for (; i < n && pkt[i].sa == sa; i++)
			run |= (uint32_t)(pkt[i].error == ESP_OK) << i;
		if (run != 0)
			take_numbers(sa, pkt, job, run, now_ns);
	}
	for (unsigned int i = 0; i < n; i++) {
		if (unlikely(pkt[i].error != ESP_OK))
			continue;
		which[nb] = (uint8_t)i;
		esp[nb] = write_packet(e, &pkt[i], &job[i]);
		esp_op(&op[nb], pkt[i].sa, esp_sad_key(e->sad, pkt[i].sa), esp[nb], job[i].clear,
		    pkt[i].seq, &aad[nb], true);
		nb++;
	}
	ipsec_seal(e->crypto, op, nb);
	for (unsigned int k = 0; k < nb; k++) {
		struct esp_pkt *p = &pkt[which[k]];

		if (unlikely(!op[k].ok))
			p->error =
			    ESP_EXPIRED; /* cannot be: an SA has an algorithm that there is */
		esp_aad_restore(p->sa, esp[k], &aad[k]);
	}
}
