/* rte_ipv4_fragment_copy_nonseg_packet() has been there, and called experimental, since 21.08. */
#define ALLOW_EXPERIMENTAL_API

#include <netinet/in.h>
#include <string.h>

#include <rte_ip_frag.h>
#include <rte_mbuf.h>

#include "fw/path_priv.h"

#define FW_LINK_MAX 22 /* two tags */

/*
 * Sessions that go by ESP.
 *
 * Outbound, a session that has to be protected has a tunnel, found by the tunnels' selectors when it was opened, and
 * each packet takes the SA that this tunnel uses at the moment; so a rekeying is one store, elsewhere.  Without an SA the
 * packet drops, and somebody is asked for one.  Inbound, a packet of such a session has to have come by an SA of a tunnel
 * that may carry it (RFC 4301, section 5.2); all others drop, before they can move anything.
 *
 * A session that was opened by a packet out of a tunnel is protected from then on, whether or not policy here asks for
 * it: who answers in plain text what came encrypted gives it away.
 *
 *      frames from outside -> fw_path_unprotect() -> sessions, policy -> fw_protect_check() -> fw_protect_flush()
 *                             mark: the tunnel                                                 to the outside
 */

static void
flow_of(const struct fw_pkt *pk, struct esp_flow *f)
{
	memset(f, 0, sizeof(*f));
	fw_pkt_addrs(pk, &f->src, &f->dst);
	f->vrf = pk->key.vrf;
	f->proto = pk->l4_proto;
	if (f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP || f->proto == IPPROTO_SCTP)
		fw_pkt_ports(pk, &f->sport, &f->dport);
}

/* The flow that a packet from side d of session i belongs to, whatever the packet is: a later fragment has no ports. */
static void
flow_of_session(const struct fw_path *p, uint32_t i, bool back, struct esp_flow *f)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr src, dst;
	uint16_t sport, dport;

	fw_session_names(s, &p->sessions.cold[i], &src, &dst, &sport, &dport);
	if (s->key.proto != IPPROTO_TCP && s->key.proto != IPPROTO_UDP &&
	    s->key.proto != IPPROTO_SCTP)
		sport = dport = 0;
	*f = (struct esp_flow){ .src = back ? dst : src,
		.dst = back ? src : dst,
		.vrf = s->key.vrf,
		.sport = back ? dport : sport,
		.dport = back ? sport : dport,
		.proto = s->key.proto };
}

/* The tunnel of mesh mode to the DPU in front of an address; ESP_TUNNEL_NONE: there is none. */
static uint32_t
tunnel_of_mesh(const struct fw_batch *b, uint32_t vrf, const struct pk_addr *addr)
{
	const struct fw_endpoint *e = b->rules != NULL ? fw_rules_endpoint(b->rules, vrf, addr)
	                                               : NULL;

	if (e == NULL || e->local || e->dpu == 0)
		return ESP_TUNNEL_NONE;
	return atomic_load_explicit(&b->p->conf.esp->mesh[e->dpu], memory_order_acquire);
}

/* The tunnel a flow has to leave by: by selectors, which somebody has chosen, else to the DPU of its receiver. */
static uint32_t
tunnel_out(const struct fw_batch *b, const struct esp_flow *flow)
{
	uint32_t tunnel = esp_sad_tunnel_out(b->p->conf.esp->sad, flow);

	return tunnel != ESP_TUNNEL_NONE ? tunnel : tunnel_of_mesh(b, flow->vrf, &flow->dst);
}

/* Whether a flow may have come by the tunnel that it has come by. */
static bool
tunnel_in(const struct fw_batch *b, const struct esp_flow *flow)
{
	return esp_sad_tunnel_in(b->p->conf.esp->sad, b->tunnel, flow) ||
	    tunnel_of_mesh(b, flow->vrf, &flow->src) == b->tunnel;
}

static enum fw_drop
acquire(struct fw_batch *b, const struct esp_flow *flow, uint32_t tunnel)
{
	struct fw_ask ask = {
		.kind = FW_ASK_ACQUIRE, .tunnel = tunnel, .wire = b->wire, .flow = *flow
	};

	/* One that does not fit will be asked by the next packet. */
	(void)rte_ring_mp_enqueue_elem(b->p->conf.esp->asks, &ask, sizeof(ask));
	return FW_DROP_ESP_ACQUIRE;
}

/* Bytes of IP header that transport mode leaves in front. */
static uint32_t
head_of(const struct fw_pkt *pk)
{
	return pk->key.family == 4 ? (uint32_t)pk->l4 - pk->l3 : 40;
}

/* Whether the packet fits; if not its sender is told, or it is cut. */
static enum fw_drop
fit(struct fw_batch *b, const struct fw_pkt *pk, const struct esp_sa *sa)
{
	uint32_t len = pk->l3_end - pk->l3,
	         mtu = atomic_load_explicit(&sa->mtu, memory_order_relaxed);
	bool tunnel = (sa->flags & ESP_SA_TUNNEL) != 0;
	uint32_t fits;

	if (likely(esp_size(sa, len, head_of(pk)) <= mtu))
		return FW_DROP_NONE;
	fits = esp_fits(sa, mtu, head_of(pk));
	/* RFC 4301, section 8.1: fragmented before it is encrypted, so that the receiver can do without putting ESP
	 * together; if its sender allows. */
	if (pk->key.family == 4 && tunnel && fits >= 68 && pk->m->nb_segs == 1 &&
	    (pk->data[pk->l3 + 6] & 0x40) == 0) {
		b->cut = (uint16_t)fits;
		return FW_DROP_NONE;
	}
	if (pk->key.family == 6 && fits < 1280)
		fits = 1280;
	if (fits >= 68 && fw_made_may(b))
		fw_made_send(
		    b, pk, fw_reject_too_big(pk, b->p->conf.pool, (uint16_t)fits), b->from);
	return FW_DROP_ESP_TOO_BIG;
}

/* Packet `pk` goes out by `tunnel`. */
static enum fw_drop
go_by(struct fw_batch *b, const struct fw_pkt *pk, const struct esp_flow *flow, uint32_t tunnel)
{
	struct esp_sa *sa = esp_sad_tunnel_sa(b->p->conf.esp->sad, tunnel);
	enum fw_drop why;

	if (unlikely(sa == NULL ||
	        atomic_load_explicit(&sa->state, memory_order_acquire) != ESP_STATE_ALIVE))
		return acquire(b, flow, tunnel);
	/* What is in an overlay's tunnel already has no room for ours here. */
	if (unlikely(pk->outer_l4 != 0))
		return FW_DROP_ENCRYPTION_MISSING;
	if (unlikely(sa->wire != b->wire || sa->vrf != pk->key.vrf))
		return FW_DROP_ESP_ADDRESS;
	why = fit(b, pk, sa);
	if (why == FW_DROP_NONE)
		b->sa = sa;
	return why;
}

/* Whether what the decision is about has to go by ESP, or by TLS. */
static bool
wants(const struct fw_path *p, uint16_t wire, const struct fw_decision *d)
{
	return d->terms != NULL && d->terms->encryption != PK_ENCRYPTION_NONE &&
	    !fw_link_protects(p, wire, d->terms->encryption);
}

enum fw_drop
fw_protect_open(struct fw_batch *b, const struct fw_pkt *pk, const struct fw_decision *d)
{
	bool wanted = wants(b->p, b->wire, d);
	struct esp_flow flow;
	enum fw_drop why;

	if (b->from == FW_OUTSIDE) {
		why = fw_tls_came(b, d);
		if (why != FW_DROP_NONE || b->tunnel == FW_TUNNEL_TLS)
			return why;
		if (b->tunnel == ESP_TUNNEL_NONE)
			return wanted ? FW_DROP_ESP_PLAIN : FW_DROP_NONE;
		flow_of(pk, &flow);
		return tunnel_in(b, &flow) ? FW_DROP_NONE : FW_DROP_ESP_SELECTOR;
	}
	if (!wanted)
		return FW_DROP_NONE;
	if (fw_tls_wants(b->p, b->wire, d->terms->encryption))
		return fw_tls_go(b, pk);
	flow_of(pk, &flow);
	b->tunnel = tunnel_out(b, &flow);
	return go_by(b, pk, &flow, b->tunnel);
}

void
fw_protect_set(struct fw_path *p, uint32_t i, uint32_t tunnel)
{
	p->tunnel[i] = tunnel;
	p->sessions.cold[i].care |= tunnel == FW_TUNNEL_TLS ? FW_CARE_TLS : FW_CARE_ESP;
	p->sessions.hot[i].flags |= FW_SESSION_EXTRA;
}

void
fw_protect_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d)
{
	bool wanted = wants(p, p->sessions.hot[i].key.wire, d);

	if (p->tunnel == NULL || !wanted)
		return;
	/* One that has been in clear, or in ESP, until now has no counterpart in picket-tlsd, and ends there. */
	if (fw_tls_wants(p, p->sessions.hot[i].key.wire, d->terms->encryption)) {
		fw_protect_set(p, i, FW_TUNNEL_TLS);
		return;
	}
	if (p->tunnel[i] != ESP_TUNNEL_NONE)
		return;
	/* Which one the next packet finds out. */
	fw_protect_set(p, i, FW_TUNNEL_ANY);
}

void
fw_protect_end(struct fw_path *p, uint32_t i)
{
	if (p->tunnel != NULL)
		p->tunnel[i] = ESP_TUNNEL_NONE;
}

enum fw_drop
fw_protect_check(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i)
{
	struct fw_path *p = b->p;
	const struct esp_sad *sad;
	uint32_t has = p->tunnel[i];
	bool back = b->from != fw_session_origin(&p->sessions.hot[i]);
	struct esp_flow flow;

	if (likely(has == ESP_TUNNEL_NONE && b->tunnel == ESP_TUNNEL_NONE))
		return FW_DROP_NONE;
	if (has == FW_TUNNEL_TLS || b->tunnel == FW_TUNNEL_TLS) {
		if (b->from == FW_INSIDE)
			return fw_tls_go(b, pk);
		return has == b->tunnel ? FW_DROP_NONE : FW_DROP_TLS_PLAIN;
	}
	sad = p->conf.esp->sad;
	if (b->from == FW_OUTSIDE) {
		if (b->tunnel == ESP_TUNNEL_NONE)
			return FW_DROP_ESP_PLAIN;
		if (likely(b->tunnel == has))
			return FW_DROP_NONE;
		flow_of_session(p, i, back, &flow);
		if (!tunnel_in(b, &flow))
			return FW_DROP_ESP_SELECTOR;
		/* The peer has made another tunnel for it. */
		if (has != ESP_TUNNEL_NONE)
			p->tunnel[i] = b->tunnel;
		return FW_DROP_NONE;
	}
	b->tunnel = has;
	if (unlikely(esp_sad_tunnel_sa(sad, has) == NULL)) {
		uint32_t other;

		flow_of_session(p, i, back, &flow);
		other = tunnel_out(b, &flow);
		if (other == ESP_TUNNEL_NONE && has != FW_TUNNEL_ANY &&
		    esp_sad_tunnel_reqid(sad, has) != 0)
			return acquire(b, &flow, has);
		if (other == ESP_TUNNEL_NONE || esp_sad_tunnel_sa(sad, other) == NULL)
			return acquire(b, &flow, other);
		p->tunnel[i] = b->tunnel = other;
	} else {
		memset(&flow, 0, sizeof(flow));
	}
	return go_by(b, pk, &flow, b->tunnel);
}

bool
fw_protect_made(
    struct fw_path *p, struct rte_mbuf *m, uint16_t l3, uint32_t tunnel, uint64_t now_ns)
{
	struct esp_pkt e = { .m = m, .l3 = l3, .sa = esp_sad_tunnel_sa(p->conf.esp->sad, tunnel) };

	if (e.sa == NULL)
		return false;
	esp_protect(&p->engine, &e, 1, now_ns);
	return e.error == ESP_OK;
}

/* ---- sending ---- */

void
fw_protect_flush(struct fw_batch *b, struct fw_protect_out *o, struct rte_mbuf **refused,
    unsigned int *nb_refused, uint64_t *refused_bytes)
{
	struct fw_path *p = b->p;

	for (unsigned int at = 0; at < o->nb; at += ESP_BURST) {
		unsigned int n = RTE_MIN(o->nb - at, (unsigned int)ESP_BURST);

		esp_protect(&p->engine, o->pkt + at, n, b->now_ns);
	}
	for (unsigned int k = 0; k < o->nb; k++) {
		struct esp_pkt *e = &o->pkt[k];

		if (likely(e->error == ESP_OK)) {
			b->out->pkt[FW_OUTSIDE][b->out->nb[FW_OUTSIDE]++] = e->m;
			continue;
		}
		/* One of several pieces: the others have gone, and the packet counts as sent. */
		if (o->piece[k]) {
			rte_pktmbuf_free(e->m);
			pk_counter_add(&p->stats.made, -UINT64_C(1));
			continue;
		}
		pk_counter_add(&p->stats.drop[fw_drop_of_esp(e->error)], 1);
		*refused_bytes += e->m->pkt_len;
		refused[(*nb_refused)++] = e->m;
	}
	o->nb = 0;
}

/* Pieces of an IPv4 packet, each with the link header of the whole. */
static bool
add_pieces(struct fw_batch *b, struct fw_pkt *pk, struct fw_protect_out *o)
{
	struct rte_mempool *pool = b->p->conf.pool;
	struct rte_mbuf *piece[8];
	uint8_t link[FW_LINK_MAX];
	int nb;

	if (pk->l3 > sizeof(link))
		return false;
	memcpy(link, pk->data, pk->l3);
	/* What lies behind the IP packet is not part of it. */
	if (rte_pktmbuf_trim(pk->m, (uint16_t)(pk->m->data_len - pk->l3_end)) < 0)
		return false;
	rte_pktmbuf_adj(pk->m, pk->l3);
	nb = rte_ipv4_fragment_copy_nonseg_packet(
	    pk->m, piece, (uint16_t)RTE_DIM(piece), b->cut, pool);
	rte_pktmbuf_prepend(pk->m, pk->l3);
	if (nb <= 0)
		return false;
	if (o->nb + (unsigned int)nb > FW_PROTECT_MAX) {
		rte_pktmbuf_free_bulk(piece, (unsigned int)nb);
		return false;
	}
	for (int k = 0; k < nb; k++) {
		uint8_t *ip = rte_pktmbuf_mtod(piece[k], uint8_t *);
		uint16_t sum;

		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, (size_t)(ip[0] & 15) * 4, 0));
		memcpy(ip + 10, &sum, 2);
		memcpy(rte_pktmbuf_prepend(piece[k], pk->l3), link, pk->l3);
		piece[k]->ol_flags = pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED;
		piece[k]->vlan_tci = pk->m->vlan_tci;
		o->piece[o->nb] = k > 0;
		o->pkt[o->nb++] = (struct esp_pkt){ .m = piece[k], .sa = b->sa, .l3 = pk->l3 };
	}
	pk_counter_add(&b->p->stats.made, (unsigned int)nb - 1);
	rte_pktmbuf_free(pk->m);
	return true;
}

bool
fw_protect_add(struct fw_batch *b, struct fw_pkt *pk, struct fw_protect_out *o)
{
	if (unlikely(b->cut != 0)) {
		if (add_pieces(b, pk, o))
			return true;
	} else if (likely(o->nb < FW_PROTECT_MAX)) {
		o->piece[o->nb] = false;
		o->pkt[o->nb++] = (struct esp_pkt){ .m = pk->m, .sa = b->sa, .l3 = pk->l3 };
		return true;
	}
	pk->drop = FW_DROP_ESP_ROOM;
	return false;
}
