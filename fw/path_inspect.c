#include <netinet/in.h>

#include <rte_mbuf.h>

#include "fw/path_priv.h"

/* No more packets of session i are wanted here. */
static void
cease(struct fw_path *p, uint32_t i)
{
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_inspected *e = fw_inspect_find(p->inspect, i);

	if (e != NULL)
		fw_inspect_drop(p->inspect, e);
	if (!fw_app_known(s->app) && s->app != FW_APP_CUT)
		s->app = FW_APP_NONE;
	fw_session_settled(p, i);
}

void
fw_inspect_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d, bool from_start)
{
	struct fw_session *s = &p->sessions.hot[i];

	if (likely(!d->undecided)) {
		if (unlikely(fw_inspect_wants(p, i)) && s->app != FW_APP_CUT)
			cease(p, i);
		return;
	}
	if (s->app == FW_APP_NONE)
		s->app = from_start ? FW_APP_SOUGHT : FW_APP_JOINED;
	s->flags |= FW_SESSION_EXTRA;
}

void
fw_inspect_forget(struct fw_path *p, uint32_t i)
{
	struct fw_inspected *e = fw_inspect_find(p->inspect, i);

	if (e != NULL)
		fw_inspect_drop(p->inspect, e);
}

/* The application of session s is known, or never will be. */
static void
found(struct fw_path *p, struct fw_session *s, const struct fw_inspected *e)
{
	s->app = e->flow.verdict == DPI_UNKNOWN ? FW_APP_UNKNOWN : e->flow.app;
	pk_counter_add(&p->inspect->found[s->app], 1);
}

/* All places are taken: whoever has had one for long makes room.  Its next packet will ask policy. */
static bool
make_room(struct fw_batch *b)
{
	struct fw_inspect *t = b->p->inspect;
	struct fw_inspected *e = fw_inspect_oldest(t);

	if (e == NULL || b->now_ns < e->since_ns + FW_INSPECT_PATIENCE_NS)
		return false;
	(void)dpi_flow_finish(t->dpi, &e->flow, NULL);
	found(b->p, &b->p->sessions.hot[e->session], e);
	/* Not judged yet by what it is. */
	b->p->sessions.hot[e->session].generation = 0;
	cease(b->p, e->session);
	pk_counter_add(&b->p->stats.inspect_evicted, 1);
	return true;
}

/*
 * Begin with session i.  Nothing of it has been seen here, so nothing has passed but its handshake, and the numbers
 * that its sides have got to are those of their first bytes; unless it was joined in the middle.
 */
static struct fw_inspected *
begin(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before)
{
	struct fw_inspect *t = b->p->inspect;
	const struct fw_session *s = &b->p->sessions.hot[i];
	unsigned int hi = (s->flags & FW_SESSION_HI) != 0;
	uint16_t port[2] = { s->key.port[hi], s->key.port[hi ^ 1] };
	struct fw_inspected *e = fw_inspect_get(t, i, b->now_ns);

	if (unlikely(e == NULL) && make_room(b))
		e = fw_inspect_get(t, i, b->now_ns);
	if (unlikely(e == NULL))
		return NULL;
	dpi_flow_init(&e->flow, pk->l4_proto == IPPROTO_TCP ? DPI_TCP : DPI_UDP, port);
	if (pk->l4_proto != IPPROTO_TCP || s->app != FW_APP_SOUGHT)
		return e;
	for (unsigned int k = 0; k < 2; k++) {
		struct dpi_packet syn = { .syn = true, .dir = (uint8_t)k };

		if (k == d && (pk->tcp_flags & FW_TCP_SYN) != 0)
			syn.seq = pk->seq; /* RFC 7413: data in the SYN */
		else if (k == 0 || (before->flags & FW_SESSION_SYN_R) != 0)
			syn.seq = before->side[k].end - 1;
		else
			continue;
		(void)dpi_flow_feed(t->dpi, &e->flow, &syn, NULL);
	}
	return e;
}

/* Show the packet to the parsers.  FW_DROP_NONE: it may pass, as far as they are concerned. */
static enum fw_drop
look(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before)
{
	struct fw_path *p = b->p;
	struct fw_inspect *t = p->inspect;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_inspected *e = fw_inspect_find(t, i);
	bool fin = pk->l4_proto == IPPROTO_TCP && (pk->tcp_flags & FW_TCP_FIN) != 0;
	struct dpi_packet in = { .len = pk->payload, .dir = (uint8_t)d, .fin = fin };
	enum dpi_verdict v;

	if (pk->payload == 0 && (e == NULL || !fin))
		return FW_DROP_NONE;
	if (e == NULL && (e = begin(b, pk, i, d, before)) == NULL) {
		pk_counter_add(&p->stats.inspect_full, 1);
		if (!p->conf.inspect_open)
			return FW_DROP_APP_FULL;
		cease(p, i);
		return FW_DROP_NONE;
	}
	pk_counter_add(&p->stats.inspect_packets, 1);
	if (pk->l4_proto == IPPROTO_TCP) {
		in.syn = (pk->tcp_flags & FW_TCP_SYN) != 0;
		in.seq = pk->seq;
	}
	if (pk->payload != 0)
		in.bytes =
		    rte_pktmbuf_read(pk->m, (uint32_t)pk->l4 + pk->l4_len, pk->payload, t->scratch);
	v = dpi_flow_feed(t->dpi, &e->flow, &in, NULL);
	if (v == DPI_CONFLICT)
		return FW_DROP_APP_OVERLAP;
	/* Both have said all they had to say. */
	if (v == DPI_PENDING && e->flow.ended == 3)
		v = dpi_flow_finish(t->dpi, &e->flow, NULL);
	if (v == DPI_PENDING)
		return FW_DROP_NONE;
	found(p, s, e);
	fw_inspect_drop(t, e);
	return FW_DROP_NONE;
}

/* What the session speaks has just been found out: ask policy again. */
static enum fw_drop
settle(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, struct fw_decision *decision)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	struct fw_rule_info info;
	enum fw_drop why = fw_policy_ask_session(b, i, decision);

	if (why != FW_DROP_NONE) {
		pk_counter_add(&p->inspect->denied[s->app], 1);
		fw_policy_note(b, FW_SESSION_NONE, 0, decision);
		return FW_DROP_APP_DENIED;
	}
	cease(p, i);
	fw_watch_mark(p, i, decision, false);
	if (!fw_rules_info(b->rules, decision->rule, &info) || info.id != c->rule_id)
		fw_policy_note(b, i, (uint16_t)c->slot_and_selector, decision);
	if (b->level == FW_TRACE_ALL || (b->level >= 0 && decision->log != PK_RULE_LOG_NONE))
		fw_trace_packet(b, pk, FW_TRACE_FOUND, s->state, s->state, decision);
	return FW_DROP_NONE;
}

enum fw_drop
fw_inspect_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before, struct fw_decision *decision)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	bool sought = s->app == FW_APP_SOUGHT || s->app == FW_APP_JOINED;
	enum fw_drop why = FW_DROP_NONE;
	uint8_t app = s->app;

	if (unlikely(app == FW_APP_CUT))
		why = FW_DROP_SIG_DROP;
	/* What comes in pieces would have to be held to be read.  It is refused for as long as that matters. */
	else if (unlikely(pk->fragment))
		why = sought ? FW_DROP_APP_FRAGMENT : FW_DROP_SIG_FRAGMENT;
	else if (sought)
		why = look(b, pk, i, d, before);
	if (why == FW_DROP_NONE && sought && fw_app_known(s->app)) {
		app = s->app;
		why = settle(b, pk, i, decision);
	}
	if (why == FW_DROP_NONE && fw_watch_wants(p, i))
		why = fw_watch_packet(b, pk, i, d, before);
	if (likely(why == FW_DROP_NONE))
		return why;
	if (why == FW_DROP_SIG_DROP || why == FW_DROP_SIG_REJECT) {
		fw_inspect_forget(p, i);
		app = FW_APP_CUT;
	}
	*s = *before;
	if (why == FW_DROP_APP_DENIED || app == FW_APP_CUT || fw_app_known(app)) {
		s->app = app;
		s->flags |= app == FW_APP_CUT ? FW_SESSION_EXTRA : 0;
	}
	return why;
}
