#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/path_priv.h"

/* Addresses and ports of a session as its opener sees them. */
void
fw_session_names(const struct fw_session *s, const struct fw_session_cold *c, struct pk_addr *src,
    struct pk_addr *dst, uint16_t *sport, uint16_t *dport)
{
	unsigned int hi = (s->flags & FW_SESSION_HI) != 0;

	memset(src, 0, sizeof(*src));
	memset(dst, 0, sizeof(*dst));
	src->family = dst->family = s->key.family;
	if (s->key.family == 4) {
		memcpy(src->bytes, &s->key.v4[hi], 4);
		memcpy(dst->bytes, &s->key.v4[hi ^ 1], 4);
	} else {
		memcpy(src->bytes, c->addr[hi], 16);
		memcpy(dst->bytes, c->addr[hi ^ 1], 16);
	}
	*sport = s->key.port[hi];
	*dport = s->key.port[hi ^ 1];
	if (s->key.proto == IPPROTO_ICMP || s->key.proto == IPPROTO_ICMPV6) {
		*sport = s->key.port[0];
		*dport = (uint16_t)c->slot_and_selector;
	}
}

void
fw_trace_packet(struct fw_batch *b, const struct fw_pkt *pk, enum fw_trace_kind kind,
    uint8_t before, uint8_t after, const struct fw_decision *d)
{
	struct fw_trace_record *r = fw_trace_reserve(b->p->conf.trace);
	struct fw_sessions *t = &b->p->sessions;
	struct fw_rule_info info;
	uint8_t *snap;
	uint32_t room;

	if (r == NULL)
		return;
	snap = fw_trace_snap(b->p->conf.trace, &room);
	if (snap != NULL && pk->m != NULL && kind == FW_TRACE_PACKET) {
		const void *bytes;

		r->snap_len = (uint16_t)RTE_MIN(room, pk->m->pkt_len);
		bytes = rte_pktmbuf_read(pk->m, 0, r->snap_len, snap);
		if (bytes != snap)
			memcpy(snap, bytes, r->snap_len);
	}
	r->time_ns = b->now_ns;
	r->generation = b->rules != NULL ? fw_rules_generation(b->rules) : 0;
	r->packet = b->packet;
	r->spi = b->spi;
	if (unlikely(b->p->conf.esp != NULL)) {
		if (b->sa != NULL)
			r->spi = rte_be_to_cpu_32(b->sa->spi_be);
		if (b->tunnel != FW_TUNNEL_TLS)
			r->sa_reqid = esp_sad_tunnel_reqid(b->p->conf.esp->sad, b->tunnel);
	}
	fw_pkt_addrs(pk, &r->src, &r->dst);
	fw_pkt_ports(pk, &r->sport, &r->dport);
	r->len = (uint16_t)RTE_MIN(pk->len, (uint32_t)UINT16_MAX);
	r->wire = b->wire;
	r->drop = pk->drop;
	r->kind = (uint8_t)kind;
	r->from = (uint8_t)b->from;
	r->proto = pk->l4_proto;
	r->tcp_flags = pk->tcp_flags;
	r->state_before = before;
	r->state = after;
	if (pk->session != FW_SESSION_NONE) {
		r->session = fw_session_id(t, pk->session);
		if (fw_app_known(t->hot[pk->session].app))
			r->app = t->hot[pk->session].app;
		r->rule_id = t->cold[pk->session].rule_id;
		r->verdict = PK_VERDICT_ALLOW;
	}
	r->direction = b->from == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	if (d != NULL) {
		r->verdict = (uint8_t)d->verdict;
		r->audit_verdict = (uint8_t)d->audit_verdict;
		if (d->rule != FW_RULE_NONE) {
			fw_rules_info(b->rules, d->rule, &info);
			r->rule_id = info.id;
		}
		if (d->audited && d->audit_rule != FW_RULE_NONE) {
			fw_rules_info(b->rules, d->audit_rule, &info);
			r->audit_rule_id = info.id;
		}
	}
	fw_trace_commit(b->p->conf.trace);
}

void
fw_trace_closed(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	const struct fw_session *s = &p->sessions.hot[i];
	const struct fw_session_cold *c = &p->sessions.cold[i];
	struct fw_trace_record *r;

	bool logged, inspected = p->watching != NULL && p->watching[i] != 0;
	const struct dpi_watch *e;

	if (p->conf.trace == NULL)
		return;
	logged = (s->flags & FW_SESSION_LOG_END) != 0 ||
	    fw_trace_level(p->conf.trace) == FW_TRACE_ALL;
	if (!logged && !inspected)
		return;
	r = fw_trace_reserve(p->conf.trace);
	if (r == NULL)
		return;
	r->time_ns = now_ns;
	r->generation = s->generation & FW_GENERATION_MASK;
	r->session = fw_session_id(&p->sessions, i);
	r->rule_id = c->rule_id;
	if (fw_app_known(s->app))
		r->app = s->app;
	fw_session_names(s, c, &r->src, &r->dst, &r->sport, &r->dport);
	r->wire = s->key.wire;
	r->drop = (uint16_t)why;
	r->kind = FW_TRACE_CLOSED;
	r->event_only = !logged;
	e = inspected ? dpi_watch_find(p->watches, i) : NULL;
	r->layer = e != NULL ? dpi_watch_layer(e) : 0;
	r->from = (uint8_t)fw_session_origin(s);
	r->proto = s->key.proto;
	r->state_before = r->state = s->state;
	r->direction = fw_session_origin(s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	r->verdict = why == FW_DROP_NONE ? PK_VERDICT_ALLOW : PK_VERDICT_DENY;
	for (unsigned int d = 0; d < 2; d++) {
		r->packets += c->packets[d] + s->packets[d];
		r->bytes += c->bytes[d] + s->bytes[d];
	}
	fw_trace_commit(p->conf.trace);
}

/* A record of a packet made to answer `pk`: as if the one it seems to come from had sent it. */
void
fw_trace_made(struct fw_batch *b, const struct fw_pkt *pk, enum fw_side to)
{
	struct fw_trace_record *r = fw_trace_reserve(b->p->conf.trace);
	bool back = to == b->from;

	if (r == NULL)
		return;
	r->time_ns = b->now_ns;
	r->generation = b->rules != NULL ? fw_rules_generation(b->rules) : 0;
	r->packet = b->packet;
	fw_pkt_addrs(pk, back ? &r->dst : &r->src, back ? &r->src : &r->dst);
	fw_pkt_ports(pk, back ? &r->dport : &r->sport, back ? &r->sport : &r->dport);
	r->wire = b->wire;
	r->kind = FW_TRACE_MADE;
	r->from = to == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	r->proto = pk->l4_proto;
	if (r->proto == IPPROTO_TCP)
		r->tcp_flags = FW_TCP_RST;
	else
		r->proto = pk->key.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	fw_trace_commit(b->p->conf.trace);
}

/* A signature has matched in session i, and maybe ended it. */
void
fw_watch_alert(void *arg, const struct dpi_alert *a, uint32_t i)
{
	static const uint8_t told[] = { DPI_HTTP_HOST, DPI_HTTP_URI_RAW, DPI_HTTP_METHOD,
		DPI_HTTP_STAT_CODE, DPI_DNS_QUERY, DPI_TLS_SNI, DPI_FILE_NAME };
	struct fw_path *p = arg;
	const struct fw_session *s = &p->sessions.hot[i];
	struct fw_trace_record *r;
	unsigned int n = 0;

	pk_counter_add(&p->stats.sig_alerts, 1);
	if (p->conf.trace == NULL || (r = fw_trace_reserve(p->conf.trace)) == NULL)
		return;
	r->time_ns = a->frame->time_ns;
	r->generation = s->generation & FW_GENERATION_MASK;
	r->session = fw_session_id(&p->sessions, i);
	r->rule_id = p->sessions.cold[i].rule_id;
	r->packet = a->frame->n;
	r->src = a->frame->src;
	r->dst = a->frame->dst;
	r->sport = a->frame->sport;
	r->dport = a->frame->dport;
	r->proto = a->frame->proto;
	r->wire = s->key.wire;
	r->from = p->watch_batch != NULL ? (uint8_t)p->watch_batch->from
	                                 : (uint8_t)fw_session_origin(s);
	r->direction = fw_session_origin(s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	r->kind = FW_TRACE_ALERT;
	r->state_before = r->state = s->state;
	r->verdict = a->dropped ? PK_VERDICT_DENY : PK_VERDICT_ALLOW;
	if (a->dropped)
		r->drop = a->sig->action == DPI_ACT_REJECT ? FW_DROP_SIG_REJECT : FW_DROP_SIG_DROP;
	if (fw_app_known(s->app))
		r->app = s->app;
	r->sig = a->sig;
	r->layer = a->session != NULL ? a->session->layer : 0;
	r->to_client = a->dir == 1;
	for (unsigned int k = 0; a->tx != NULL && k < PK_COUNT(told); k++) {
		const struct dpi_slot *slot = NULL;

		for (unsigned int j = 0; j < a->tx->nb_slots && slot == NULL; j++)
			if (a->tx->slot[j].buf == told[k])
				slot = &a->tx->slot[j];
		if (slot == NULL || n == FW_TRACE_ABOUT)
			continue;
		r->about[n].buf = told[k];
		r->about[n].len = (uint8_t)PK_MIN((size_t)slot->len, sizeof(r->about[n].text));
		if (r->about[n].len > 0)
			memcpy(r->about[n].text, slot->bytes, r->about[n].len);
		n++;
	}
	fw_trace_commit(p->conf.trace);
}
