#include <netinet/in.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "fw/path_priv.h"
#include "fw/tls.h"

/*
 * Sessions that go by mutual TLS, and the frames of picket-tlsd: fw/tls.h draws them.
 *
 *     from outside, cipher  -> the TLS port.  Counted as the DPU's own; no session, no policy: whoever may not talk to the
 *                              workload has no identity that picket-tlsd takes for its address, and plain it gets nowhere
 *     from the TLS port     -> cipher: outside.  plain: on, as if from outside, with the mark
 *     from inside           -> the path; a session by TLS sends to the TLS port
 *
 * Nobody inside may use the port that the daemons meet at, on either end: it would be taken for one of them.
 */
#define ETHER_LEN 14

/* A frame as far as it has to be known: untagged IPv4 or IPv6 with TCP right behind. */
struct glance {
	const uint8_t *src, *dst; /* of `len` bytes */
	unsigned int len;
	bool tcp, cipher;
};

static inline uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool
look(const struct rte_mbuf *m, struct glance *g)
{
	const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *), *ip = f + ETHER_LEN, *l4;

	memset(g, 0, sizeof(*g));
	if (m->data_len < ETHER_LEN + 20 || (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0)
		return false;
	if (be16(f + 12) == RTE_ETHER_TYPE_IPV4 && ip[0] >> 4 == 4) {
		g->src = ip + 12;
		g->dst = ip + 16;
		g->len = 4;
		/* A later fragment has no ports; such frames have none. */
		g->tcp = ip[9] == IPPROTO_TCP && (be16(ip + 6) & 0x3fff) == 0;
		l4 = ip + (ip[0] & 15u) * 4;
	} else if (be16(f + 12) == RTE_ETHER_TYPE_IPV6 && ip[0] >> 4 == 6 &&
	    m->data_len >= ETHER_LEN + 40) {
		g->src = ip + 8;
		g->dst = ip + 24;
		g->len = 16;
		g->tcp = ip[6] == IPPROTO_TCP;
		l4 = ip + 40;
	} else {
		return false;
	}
	g->tcp = g->tcp && l4 + 20 <= f + m->data_len;
	g->cipher = g->tcp && (be16(l4) == PK_TLS_PORT || be16(l4 + 2) == PK_TLS_PORT);
	return true;
}

/* A workload on the inside of that wire. */
static bool
is_inside(const struct fw_rules *rules, uint16_t wire, const uint8_t *addr, unsigned int len)
{
	struct pk_addr a = { .family = len == 4 ? 4 : 6 };
	const struct fw_endpoint *e;

	memcpy(a.bytes, addr, len);
	e = rules != NULL ? fw_rules_endpoint(rules, 0, &a) : NULL;
	return e != NULL && e->local && e->wire == wire;
}

static uint32_t
seconds(uint64_t now_ns)
{
	return (uint32_t)(now_ns / PK_NS_PER_S);
}

/* Learn the link addresses of a frame that came from `from`. */
static void
learn(struct fw_tls *t, uint16_t wire, enum fw_side from, const struct rte_mbuf *m,
    const struct glance *g, uint64_t now_ns)
{
	const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *);
	bool inside = from == FW_INSIDE;
	struct fw_tls_link link;

	memcpy(link.inside, inside ? f + 6 : f, 6);
	memcpy(link.outside, inside ? f : f + 6, 6);
	fw_tls_learn(t, wire, inside ? g->src : g->dst, inside ? g->dst : g->src, g->len, &link,
	    seconds(now_ns));
}

/* Cipher frames are read, guarded and completed as all are; only sessions and policy know nothing of them. */
static enum fw_drop
admit(struct fw_path *p, const struct fw_rules *rules, uint16_t wire, enum fw_side from,
    struct rte_mbuf *m, uint64_t now_ns)
{
	struct fw_batch b = {
		.p = p,
		.rules = rules,
		.now_ns = now_ns,
		.generation = fw_path_stamp(p, rules, now_ns),
		.seen = fw_units(now_ns),
		.from = from,
		.wire = wire,
		.level = -1,
	};
	struct fw_pkt pk;

	fw_admit(&b, m, 0, &pk);
	return (enum fw_drop)pk.drop;
}

unsigned int
fw_path_tls_in(struct fw_path *p, const struct fw_rules *rules, uint16_t wire, enum fw_side from,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns, struct fw_burst *out)
{
	struct fw_tls *t = p->conf.tls;
	unsigned int kept = 0;

	out->nb[FW_INSIDE] = out->nb[FW_OUTSIDE] = out->nb[FW_TLS] = 0;
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];
		enum fw_drop why;
		struct glance g;

		m->ol_flags &= ~t->mark_flag;
		if (likely(!look(m, &g) || !g.cipher)) {
			pkts[kept++] = m;
		} else if (from == FW_INSIDE) {
			fw_path_refuse(p, wire, from, &m, 1, FW_DROP_TLS_PORT, now_ns);
		} else if (!is_inside(rules, wire, g.dst, g.len) ||
		    is_inside(rules, wire, g.src, g.len)) {
			/* Passing by, or posing as one of ours: for the guard, and for policy. */
			pkts[kept++] = m;
		} else if (!atomic_load_explicit(&t->alive, memory_order_relaxed)) {
			fw_path_refuse(p, wire, from, &m, 1, FW_DROP_TLS_GONE, now_ns);
		} else if ((why = admit(p, rules, wire, from, m, now_ns)) != FW_DROP_NONE) {
			fw_path_refuse(p, wire, from, &m, 1, why, now_ns);
		} else {
			learn(t, wire, from, m, &g, now_ns);
			p->packet++;
			pk_counter_add(&p->stats.rx[FW_OUTSIDE], 1);
			pk_counter_add(&p->stats.rx_bytes[FW_OUTSIDE], m->pkt_len);
			pk_counter_add(&p->stats.own, 1);
			out->pkt[FW_TLS][out->nb[FW_TLS]++] = m;
		}
	}
	return kept;
}

unsigned int
fw_path_tls_back(struct fw_path *p, const struct fw_rules *rules, uint16_t wire,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns, struct fw_burst *out)
{
	struct fw_tls *t = p->conf.tls;
	unsigned int kept = 0;

	out->nb[FW_INSIDE] = out->nb[FW_OUTSIDE] = out->nb[FW_TLS] = 0;
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];
		uint8_t *f = rte_pktmbuf_mtod(m, uint8_t *);
		enum fw_drop why = FW_DROP_NONE;
		struct fw_tls_link link;
		struct glance g;
		bool plain;

		if (p->conf.esp != NULL)
			m->ol_flags &= ~p->conf.esp->mark_flag;
		if (!look(m, &g) || !g.tcp) {
			/* Neighbour discovery, and whatever else a kernel says by itself. */
			why = FW_DROP_TLS_ADDRESS;
		} else {
			plain = is_inside(rules, wire, g.dst, g.len);
			if (plain ? g.cipher : !g.cipher || !is_inside(rules, wire, g.src, g.len))
				why = FW_DROP_TLS_ADDRESS;
			else if (!fw_tls_find(t, wire, plain ? g.dst : g.src, plain ? g.src : g.dst,
			             g.len, &link, seconds(now_ns)))
				why = FW_DROP_TLS_ADDRESS;
		}
		if (why != FW_DROP_NONE) {
			fw_path_refuse(p, wire, FW_OUTSIDE, &m, 1, why, now_ns);
			continue;
		}
		memcpy(f, plain ? link.inside : link.outside, 6);
		memcpy(f + 6, plain ? link.outside : link.inside, 6);
		if (plain) {
			m->ol_flags |= t->mark_flag;
			pkts[kept++] = m;
			continue;
		}
		why = admit(p, rules, wire, FW_INSIDE, m, now_ns);
		if (why != FW_DROP_NONE) {
			fw_path_refuse(p, wire, FW_OUTSIDE, &m, 1, why, now_ns);
			continue;
		}
		pk_counter_add(&p->stats.made, 1);
		out->pkt[FW_OUTSIDE][out->nb[FW_OUTSIDE]++] = m;
	}
	return kept;
}

/* ---- sessions ---- */

bool
fw_tls_wants(const struct fw_path *p, uint16_t wire, uint8_t encryption)
{
	return encryption == PK_ENCRYPTION_MTLS ||
	    (encryption == PK_ENCRYPTION_REQUIRED && p->conf.esp == NULL &&
	        fw_tls_has(p->conf.tls, wire) && !fw_link_protects(p, wire, encryption));
}

enum fw_drop
fw_tls_go(struct fw_batch *b, const struct fw_pkt *pk)
{
	struct fw_tls *t = b->p->conf.tls;
	struct glance g;

	if (!fw_tls_has(t, b->wire) || pk->l4_proto != IPPROTO_TCP || pk->key.vrf != 0 ||
	    pk->outer_l4 != 0 || pk->l3 != ETHER_LEN || pk->fragment)
		return FW_DROP_ENCRYPTION_MISSING;
	if (!atomic_load_explicit(&t->alive, memory_order_relaxed))
		return FW_DROP_TLS_GONE;
	/* With each SYN is often enough: a neighbour that changes breaks what is under way, as it does elsewhere. */
	if ((pk->tcp_flags & FW_TCP_SYN) != 0 && look(pk->m, &g))
		learn(t, b->wire, FW_INSIDE, pk->m, &g, b->now_ns);
	b->tunnel = FW_TUNNEL_TLS;
	b->tls = true;
	return FW_DROP_NONE;
}

enum fw_drop
fw_tls_came(const struct fw_batch *b, const struct fw_decision *d)
{
	uint8_t encryption = d->terms != NULL ? d->terms->encryption : PK_ENCRYPTION_NONE;

	if (b->tunnel == FW_TUNNEL_TLS)
		return encryption == PK_ENCRYPTION_IPSEC ? FW_DROP_ESP_PLAIN : FW_DROP_NONE;
	return encryption == PK_ENCRYPTION_MTLS ? FW_DROP_TLS_PLAIN : FW_DROP_NONE;
}
