#include "fw/steer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "fw/bytes.h"
#include "fw/overlay.h"
#include "fw/parse.h"

#define FRAG_WAYS 4

/* Where the first fragment of a packet went. */
struct frag {
	uint32_t when; /* in units of `seen`; ages only, so that wrapping does no harm */
	uint16_t to;
	uint16_t used;
	uint64_t name; /* keyed hash of all that names the packet */
};

struct frag_set {
	struct frag way[FRAG_WAYS];
} PK_CACHE_ALIGNED;

struct fw_steering {
	const struct fw_steer *s;
	uint16_t me;
	struct frag_set *frags;
	uint8_t head[FW_PARSE_HEAD];
};

void
fw_steer_init(struct fw_steer *s, uint16_t nb_lcores, const uint64_t seed[2])
{
	memset(s, 0, sizeof(*s));
	s->nb_lcores = nb_lcores;
	/* Odd, and other numbers than the session table makes of the same seed: else the flows of one lcore
	 * would share bits of their hashes. */
	s->key[0] = fw_hash_mix(seed[0] ^ UINT64_C(0x8bb84b93962eacc9), seed[1] | 1) | 1;
	s->key[1] = fw_hash_mix(seed[1] ^ UINT64_C(0x4b33a62ed433d4a3), s->key[0]) | 1;
	s->key[2] = fw_hash_mix(seed[0] ^ UINT64_C(0x4d5a2da51de1aa47), s->key[1]) | 1;
}

uint32_t
fw_steer_toeplitz(uint16_t folded)
{
	uint32_t key = (uint32_t)FW_STEER_RSS_KEY << 16 | FW_STEER_RSS_KEY, h = 0;

	/* Each bit, from the highest, brings in the 32 bits of the key that begin at its place. */
	for (unsigned int bit = 0; bit < 16; bit++)
		if ((folded >> (15 - bit) & 1) != 0)
			h ^= bit == 0 ? key : key << bit | key >> (32 - bit);
	return h;
}

/* The two ends of a flow are hashed one by one and added up, so either may be the source. */
static __rte_always_inline uint64_t
end_v4(const struct fw_steer *s, uint32_t addr, uint16_t port)
{
	return fw_hash_mix(((uint64_t)port << 32 | addr) ^ s->key[0], s->key[1]);
}

static __rte_always_inline uint64_t
end_v6(const struct fw_steer *s, const uint8_t addr[16], uint16_t port)
{
	uint64_t a[2];

	memcpy(a, addr, sizeof(a));
	return fw_hash_mix(fw_hash_mix(a[0] ^ s->key[0], a[1] ^ s->key[1]) ^ port, s->key[2]);
}

static __rte_always_inline unsigned int
choose(const struct fw_steer *s, uint64_t sum)
{
	uint64_t h = fw_hash_mix(sum ^ s->key[2], s->key[0]);

	return (unsigned int)((h >> 32) * s->nb_lcores >> 32);
}

/* The words of a packet that a port hashes, folded. */
static uint16_t
folded(const struct fw_pkt *pk)
{
	uint8_t proto = pk->key.proto;
	uint32_t x = 0;

	if (pk->key.family == 4) {
		x = pk->key.v4[0] ^ pk->key.v4[1];
	} else {
		for (unsigned int k = 0; k < sizeof(pk->addr); k += 4) {
			uint32_t w;

			memcpy(&w, &pk->addr[0][0] + k, sizeof(w));
			x ^= w;
		}
	}
	x = __builtin_bswap32(x);
	x = (x ^ x >> 16) & 0xffff;
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP)
		x ^= pk->key.port[0] ^ pk->key.port[1];
	return (uint16_t)x;
}

unsigned int
fw_steer_owner(const struct fw_steer *s, const struct fw_pkt *pk)
{
	const struct fw_steer_wire *w = &s->wire[pk->key.wire];

	switch (w->mode) {
	case FW_STEER_RSS:
		return w->queue[fw_steer_toeplitz(folded(pk)) & w->mask];
	case FW_STEER_SOFT:
		return choose(s,
		    pk->key.family == 4 ? end_v4(s, pk->key.v4[0], pk->key.port[0]) +
		            end_v4(s, pk->key.v4[1], pk->key.port[1])
		                        : end_v6(s, pk->addr[0], pk->key.port[0]) +
		            end_v6(s, pk->addr[1], pk->key.port[1]));
	default:
		return w->lcore;
	}
}

unsigned int
fw_steer_session(const struct fw_steer *s, const struct fw_sessions *t, uint32_t i)
{
	struct fw_pkt pk = { .key = t->hot[i].key };

	if (pk.key.family == 6)
		memcpy(pk.addr, t->cold[i].addr, sizeof(pk.addr));
	return fw_steer_owner(s, &pk);
}

/* ---- one lcore's part ---- */

int
fw_steering_create(struct fw_steering **out, const struct fw_steer *s, uint16_t me)
{
	struct fw_steering *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return -ENOMEM;
	g->s = s;
	g->me = me;
	g->frags = aligned_alloc(PK_CACHE_LINE, FW_STEER_FRAGS / FRAG_WAYS * sizeof(g->frags[0]));
	if (g->frags == NULL) {
		free(g);
		return -ENOMEM;
	}
	memset(g->frags, 0, FW_STEER_FRAGS / FRAG_WAYS * sizeof(g->frags[0]));
	*out = g;
	return 0;
}

void
fw_steering_destroy(struct fw_steering *g)
{
	if (g == NULL)
		return;
	free(g->frags);
	free(g);
}

/* The names of the packet a fragment is of: as fw/frag.h, and the direction. */
static uint64_t
frag_name(const struct fw_steering *g, const struct fw_pkt *pk, enum fw_side from)
{
	const uint8_t *ip = pk->data + pk->l3;
	uint64_t a[4] = { 0 }, h;

	if (pk->key.family == 4)
		memcpy(a, ip + 12, 8);
	else
		memcpy(a, ip + 8, 32);
	h = fw_hash_mix(a[0] ^ g->s->key[0], a[1] ^ g->s->key[1]);
	h = fw_hash_mix(a[2] ^ g->s->key[2] ^ h, a[3] ^ g->s->key[0]);
	h = fw_hash_mix(h ^ ((uint64_t)pk->key.vrf << 32 | pk->frag_id),
	    g->s->key[1] ^
	        ((uint64_t)pk->key.wire << 16 | (uint64_t)from << 9 |
	            (pk->key.family == 4 ? pk->l4_proto : 0x100u)));
	return h;
}

static struct frag *
frag_find(const struct fw_steering *g, uint64_t name, uint32_t now)
{
	struct frag_set *set = &g->frags[name % (FW_STEER_FRAGS / FRAG_WAYS)];
	struct frag *oldest = &set->way[0];

	for (unsigned int k = 0; k < FRAG_WAYS; k++) {
		struct frag *f = &set->way[k];

		if (!f->used || f->name == name)
			return f;
		if ((int32_t)(now - f->when) > (int32_t)(now - oldest->when))
			oldest = f;
	}
	return oldest;
}

/* The whole question, for packets that are not plain. */
static __rte_noinline unsigned int
sort_one(struct fw_steering *g, uint16_t wire, enum fw_side from, const struct rte_mbuf *m,
    uint64_t now_ns)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t contiguous = m->data_len;
	uint16_t tci = (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 ? m->vlan_tci : 0;
	/* Sums are asked about where it is judged. */
	struct fw_pkt pk = { .key = { .wire = wire }, .checksum_ok = true };
	uint32_t now = (uint32_t)(now_ns >> FW_SEEN_SHIFT);
	struct frag *f = NULL;
	uint64_t name = 0;

	if (m->nb_segs > 1 && contiguous < FW_PARSE_HEAD) {
		contiguous = RTE_MIN(m->pkt_len, (uint32_t)FW_PARSE_HEAD);
		data = rte_pktmbuf_read(m, 0, contiguous, g->head);
		if (data == NULL)
			return g->me;
	}
	/* What is refused, and what has no session, is judged here as well as anywhere. */
	if (fw_parse(&pk, data, contiguous, m->pkt_len, tci, g->s->overlay) != FW_DROP_NONE ||
	    pk.kind == FW_KIND_ARP || pk.kind == FW_KIND_ND)
		return g->me;
	if (pk.fragment) {
		name = frag_name(g, &pk, from);
		f = frag_find(g, name, now);
		if (pk.frag_off != 0)
			return f->used && f->name == name ? f->to : g->me;
	}
	if (f != NULL)
		*f = (struct frag){ .when = now,
			.to = (uint16_t)fw_steer_owner(g->s, &pk),
			.used = 1,
			.name = name };
	return f != NULL ? f->to : fw_steer_owner(g->s, &pk);
}

/*
 * Untagged, IPv4 without options or IPv6 without extensions, whole, TCP or UDP, no tunnel: nearly all there is.  Then *src,
 * *dst and *ports are where the addresses and the ports are, and the family is returned; 0 otherwise.
 */
static __rte_always_inline unsigned int
plain(const struct fw_overlay *overlay, const struct rte_mbuf *m, const uint8_t **src,
    const uint8_t **dst, const uint8_t **ports)
{
	const uint8_t *d = rte_pktmbuf_mtod(m, const uint8_t *);
	uint16_t type, frag;

	if (unlikely(m->data_len < 14 + 20 + 4))
		return 0;
	memcpy(&type, d + 12, sizeof(type));
	if (likely(type == RTE_BE16(RTE_ETHER_TYPE_IPV4))) {
		memcpy(&frag, d + 20, sizeof(frag));
		if (unlikely(d[14] != 0x45 || (frag & RTE_BE16(0x3fff)) != 0 ||
		        (d[23] != IPPROTO_TCP && d[23] != IPPROTO_UDP)))
			return 0;
		*src = d + 26;
		*dst = d + 30;
		*ports = d + 34;
		return likely(overlay == NULL) || !fw_overlay_port(overlay, fw_be16(d + 36)) ? 4
		                                                                             : 0;
	}
	if (type != RTE_BE16(RTE_ETHER_TYPE_IPV6) || m->data_len < 14 + 40 + 4 ||
	    (d[20] != IPPROTO_TCP && d[20] != IPPROTO_UDP))
		return 0;
	*src = d + 22;
	*dst = d + 38;
	*ports = d + 54;
	return likely(overlay == NULL) || !fw_overlay_port(overlay, fw_be16(d + 56)) ? 6 : 0;
}

bool
fw_steering_sort(struct fw_steering *g, uint16_t wire, enum fw_side from,
    struct rte_mbuf *const *pkts, unsigned int n, uint64_t now_ns, uint16_t to[FW_BURST])
{
	const struct fw_steer *s = g->s;
	const enum fw_steer_mode mode = (enum fw_steer_mode)s->wire[wire].mode;
	unsigned int others = 0;

	if (mode == FW_STEER_ONE)
		return false;
	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], const void *));
	for (unsigned int i = 0; i < n; i++) {
		const uint8_t *src, *dst, *ports;
		unsigned int family = plain(s->overlay, pkts[i], &src, &dst, &ports), o;

		if (unlikely(family == 0))
			o = sort_one(g, wire, from, pkts[i], now_ns);
		else if (mode == FW_STEER_RSS)
			o = g->me; /* the port has seen to it */
		else if (likely(family == 4))
			o = choose(s,
			    end_v4(s, fw_raw32(src), fw_be16(ports)) +
			        end_v4(s, fw_raw32(dst), fw_be16(ports + 2)));
		else
			o = choose(
			    s, end_v6(s, src, fw_be16(ports)) + end_v6(s, dst, fw_be16(ports + 2)));
		to[i] = (uint16_t)o;
		others |= o ^ g->me;
	}
	return others != 0;
}
