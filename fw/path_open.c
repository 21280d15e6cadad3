#include <netinet/in.h>

#include "fw/path_priv.h"
#include "fw/reject.h"
#include "fw/tcp.h"

#define LOG_PER_SECOND 1000 /* records about refused packets; the counters count all of them */
#define LOG_BURST      1000
/* What a packet that belongs to no session may begin. */
static enum fw_drop
may_open(const struct fw_batch *b, const struct fw_pkt *pk)
{
	switch (pk->l4_proto) {
	case IPPROTO_TCP:
		if ((pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST)) == FW_TCP_SYN)
			return FW_DROP_NONE;
		if (b->p->conf.tcp_loose && (pk->tcp_flags & (FW_TCP_SYN | FW_TCP_RST)) == 0)
			return FW_DROP_NONE;
		return FW_DROP_TCP_NO_SESSION;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return pk->request || pk->l4_len == 0 ? FW_DROP_NONE : FW_DROP_ICMP_NO_SESSION;
	default:
		return FW_DROP_NONE;
	}
}

/* Session i has just been made by a rule that names applications or asks for inspection: read its first packet. */
static __rte_noinline enum fw_drop
begin_inspection(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, enum fw_drop why,
    struct fw_decision *decision)
{
	struct fw_path *p = b->p;

	bool from_start = why != FW_DROP_NONE || pk->l4_proto != IPPROTO_TCP ||
	    (pk->tcp_flags & FW_TCP_SYN) != 0;

	fw_watch_mark(p, i, decision, from_start);
	fw_inspect_mark(p, i, decision, from_start);
	if (why != FW_DROP_NONE) /* its client will have to say it again */
		return why;
	why = fw_inspect_wants(p, i) ? fw_inspect_packet(b, pk, i, 0, &p->sessions.hot[i], decision)
	                             : FW_DROP_NONE;
	if (why == FW_DROP_NONE || why == FW_DROP_SIG_DROP || why == FW_DROP_SIG_REJECT)
		return why; /* the session stays, to refuse what follows */
	if (decision->verdict == PK_VERDICT_REJECT && fw_made_may(b))
		fw_made_send(b, pk, fw_reject_make(pk, p->conf.pool), b->from);
	pk_counter_add(&p->stats.sessions_ended, 1);
	fw_session_end(p, i, b->now_ns, why);
	pk->session = FW_SESSION_NONE;
	return why;
}

/*
 * No session: guard, policy, and if both agree a new session.  The packet's record, if one is due, is
 * written here, where the decision is known.
 */
enum fw_drop
fw_session_open(struct fw_batch *b, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;
	struct fw_sessions *t = &p->sessions;
	struct fw_decision decision = { .rule = FW_RULE_NONE, .audit_rule = FW_RULE_NONE };
	struct fw_session *s;
	struct fw_hello hello;
	struct pk_addr src, dst;
	struct fw_related_flow flow;
	uint16_t selector = pk->selector;
	uint8_t app = FW_APP_NONE, kin = 0;
	uint32_t i, tenant = FW_TENANT_UNKNOWN;
	bool proxied = pk->l4_proto == IPPROTO_TCP && fw_proxy_accepts(b, pk, &hello);
	enum fw_drop why;

	why = proxied ? FW_DROP_NONE : may_open(b, pk);
	if (b->from == FW_OUTSIDE) {
		enum fw_drop spoofed = fw_guard_outside(&p->guard, b->rules, b->generation, pk);

		if (spoofed != FW_DROP_NONE)
			why = spoofed;
	}
	if (why != FW_DROP_NONE)
		goto done;
	fw_pkt_addrs(pk, &src, &dst);
	if (unlikely(fw_helper_allows(b, pk, &src, &dst, &flow))) {
		kin = (uint8_t)(FW_KIN_RELATED | (flow.reversed ? FW_KIN_REVERSED : 0));
		selector = flow.selector;
		app = flow.app;
	}
	why = fw_policy_ask(
	    b, b->from, pk->key.vrf, &src, &dst, pk->l4_proto, selector, app, kin, &decision);
	if (why != FW_DROP_NONE) {
		fw_policy_note(b, FW_SESSION_NONE, 0, &decision);
		goto done;
	}
	/* A workload inside as the far end would be answered from inside, past the wire. */
	if (b->from == FW_INSIDE &&
	    fw_guard_is_local(
	        &p->guard, b->rules, b->generation, pk->key.wire, pk->key.vrf, &dst)) {
		why = FW_DROP_WRONG_SIDE;
		goto done;
	}
	if (unlikely(p->tunnel != NULL)) {
		why = fw_protect_open(b, pk, &decision);
		if (why != FW_DROP_NONE)
			goto done;
	}
	if (unlikely(p->counting)) {
		const struct pk_addr *inside = b->from == FW_INSIDE ? &src : &dst;

		tenant = fw_limit_tenant(b->rules, pk->key.vrf, inside);
		why = fw_limits_allow(
		    p, pk, inside, b->from == FW_OUTSIDE ? &src : NULL, tenant, true, b->now_ns);
	}
	if (pk->l4_proto == IPPROTO_TCP && unlikely(fw_proxy_wants(b, pk, why)))
		why = fw_proxy_answer(b, pk);
	if (why != FW_DROP_NONE)
		goto done;
	if (unlikely(decision.terms != NULL))
		why = fw_terms_open(b, &decision);
	if (why != FW_DROP_NONE)
		goto done;
	i = fw_sessions_create(t, pk);
	if (unlikely(i == FW_SESSION_NONE) && fw_session_make_room(b))
		i = fw_sessions_create(t, pk);
	if (i == FW_SESSION_NONE) {
		why = FW_DROP_SESSIONS_FULL;
		goto done;
	}
	s = &t->hot[i];
	s->flags = (uint8_t)((pk->hi ? FW_SESSION_HI : 0) |
	    (b->from == FW_OUTSIDE ? FW_SESSION_FROM_OUTSIDE : 0));
	s->generation = (uint32_t)b->generation;
	s->seen = b->seen;
	switch (pk->l4_proto) {
	case IPPROTO_TCP:
		if (unlikely(proxied))
			why = fw_proxy_begin(b, pk, i, &hello) ? FW_DROP_NONE
			                                       : FW_DROP_SESSIONS_FULL;
		else
			why = fw_tcp_open(s, pk, p->conf.tcp_loose);
		if (why != FW_DROP_NONE) {
			fw_sessions_remove(t, i);
			goto done;
		}
		break;
	case IPPROTO_UDP:
		s->state = FW_STATE_UDP_NEW;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		s->state = FW_STATE_ICMP;
		break;
	default:
		s->state = FW_STATE_OTHER;
	}
	if (unlikely(b->tunnel != ESP_TUNNEL_NONE))
		fw_protect_set(p, i, b->tunnel);
	fw_session_held(p, i, tenant, b->now_ns);
	if (pk->l4_proto == IPPROTO_TCP)
		t->ether[i] = fw_ethers_get(&p->ethers, pk);
	fw_policy_note(b, i, selector, &decision);
	t->cold[i].opened_ns = b->now_ns;
	t->cold[i].kin = kin;
	if (unlikely(kin != 0)) {
		s->app = app;
		pk_counter_add(&p->stats.related_opened, 1);
	}
	fw_helper_opened(b, pk, i);
	if (unlikely(p->shared->names != NULL))
		fw_names_opened(b, pk, i);
	fw_sessions_publish(t, i);
	if (likely(!proxied))
		fw_session_count(t, s, 0, pk->len);
	fw_sessions_moved(t, i, FW_STATE_NONE);
	fw_timer_file(&t->timer, i, b->now_ns + ((uint64_t)p->timeout[s->state] << FW_SEEN_SHIFT));
	pk_counter_add(&p->stats.sessions_created, 1);
	pk->session = i;
	/* What the server gets in the place of this ACK is a SYN. */
	if (unlikely(proxied))
		why = FW_DROP_SYN_PROXY;
	if (unlikely(fw_terms_wanted(p, i)) && why == FW_DROP_NONE)
		why = fw_terms_packet(b, pk, i);
	if (unlikely(decision.undecided || decision.inspect))
		why = begin_inspection(b, pk, i, why, &decision);
done:
	pk->drop = (uint16_t)why;
	if (why == FW_DROP_RULE_REJECT && fw_made_may(b))
		fw_made_send(b, pk, fw_reject_make(pk, p->conf.pool), b->from);
	if (likely(b->level < 0))
		return why;
	if (pk->session != FW_SESSION_NONE &&
	    (b->level == FW_TRACE_ALL || decision.log != PK_RULE_LOG_NONE))
		fw_trace_packet(b, pk, FW_TRACE_OPENED, 0, t->hot[pk->session].state, &decision);
	if (decision.audited && decision.audit_verdict != decision.verdict)
		fw_trace_packet(b, pk, FW_TRACE_AUDIT, 0, 0, &decision);
	if (b->level == FW_TRACE_ALL || (why != FW_DROP_NONE && b->level == FW_TRACE_DROPS) ||
	    (why != FW_DROP_NONE && decision.log != PK_RULE_LOG_NONE &&
	        fw_limit_take(&p->log_limit, b->now_ns, LOG_PER_SECOND, LOG_BURST)))
		fw_trace_packet(b, pk, FW_TRACE_PACKET, 0,
		    pk->session != FW_SESSION_NONE ? t->hot[pk->session].state : 0, &decision);
	return why;
}
