#include <netinet/in.h>

#include "fw/path_priv.h"
#include "fw/tcp.h"

/*
 * An error about a packet that a session has sent (RFC 792, RFC 4443 section 3; checks of RFC 5927).
 * It has to come from the side that the embedded packet went to, and to speak of data in flight.  It
 * neither moves the session nor keeps it alive, so a forged one that gets through can do no more than
 * the end host lets it.
 */
static __rte_noinline enum fw_drop
judge_icmp_error(struct fw_batch *b, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;
	uint32_t i = pk->session;
	const struct fw_extra *e = NULL;
	const struct fw_session *s;
	unsigned int d;
	enum fw_drop why;

	if (b->from == FW_OUTSIDE) {
		why = fw_guard_outside(&p->guard, b->rules, b->generation, pk);
		if (why != FW_DROP_NONE)
			goto done;
	}
	why = FW_DROP_ICMP_NO_SESSION;
	if (i == FW_SESSION_NONE)
		goto done;
	s = &p->sessions.hot[i];
	d = pk->hi != ((s->flags & FW_SESSION_HI) != 0);
	why = FW_DROP_WRONG_SIDE;
	if ((b->from == fw_session_origin(s)) != (d == 1))
		goto done;
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = fw_policy_reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	why = FW_DROP_NONE;
	if (unlikely(p->tunnel != NULL)) {
		why = fw_protect_check(b, pk, i);
		if (why != FW_DROP_NONE)
			goto done;
	}
	if (unlikely((s->flags & FW_SESSION_EXTRA) != 0))
		e = fw_extras_find(&p->extras, i);
	if (e != NULL && (e->what & FW_EXTRA_PROXY) != 0)
		fw_proxy_error_enter(pk, d, e);
	if (s->key.proto == IPPROTO_TCP && !fw_tcp_in_flight(s, pk->seq, d))
		why = FW_DROP_ICMP_WINDOW;
	else if (e != NULL && (e->what & FW_EXTRA_PROXY) != 0)
		fw_proxy_error_leave(pk, d, e);
done:
	pk->drop = (uint16_t)why;
	if (i != FW_SESSION_NONE)
		fw_trace_judged(b, pk, p->sessions.hot[i].state, p->sessions.hot[i].state);
	else
		fw_trace_judged(b, pk, 0, 0);
	return why;
}

/* A packet of session i. */
static __rte_always_inline enum fw_drop
judge_session(struct fw_batch *b, struct fw_pkt *pk, uint32_t i)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	unsigned int d = pk->hi != ((s->flags & FW_SESSION_HI) != 0);
	uint8_t before = s->state;
	struct fw_extra *e = NULL;
	struct fw_session as_was;
	struct fw_decision decision;
	bool inspected, held;
	enum fw_drop why;

	if (unlikely((b->from == fw_session_origin(s)) != (d == 0))) {
		why = FW_DROP_WRONG_SIDE;
		goto done;
	}
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = fw_policy_reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	if (unlikely(p->tunnel != NULL)) {
		why = fw_protect_check(b, pk, i);
		if (why != FW_DROP_NONE)
			goto done;
	}
	inspected = fw_inspect_wants(p, i);
	held = false;
	if (unlikely((s->flags & FW_SESSION_EXTRA) != 0)) {
		e = fw_extras_find(&p->extras, i);
		why = e != NULL && (e->what & FW_EXTRA_PROXY) != 0 ? fw_proxy_enter(b, pk, i, d, e)
		                                                   : FW_DROP_NONE;
		if (why != FW_DROP_NONE)
			goto done;
		held = fw_terms_wanted(p, i);
	}
	if (unlikely(inspected || held))
		as_was = *s;
	if (likely(!inspected && !held && before == FW_STATE_ESTABLISHED &&
	        (pk->tcp_flags & FW_TCP_PLAIN_MASK) == FW_TCP_PLAIN && fw_tcp_plain(s, pk, d))) {
		s->seen = b->seen;
	} else if (pk->l4_proto == IPPROTO_TCP) {
		struct fw_tcp_move mv;

		if (unlikely(fw_tcp_reopens(s, pk, d)) ||
		    unlikely(e != NULL && fw_proxy_restarts(p, pk, i, d))) {
			pk_counter_add(&p->stats.sessions_ended, 1);
			fw_session_end(p, i, b->now_ns, FW_DROP_NONE);
			pk->session = FW_SESSION_NONE;
			return fw_session_open(b, pk);
		}
		why = fw_tcp_step(s, pk, d, &mv);
		if (why != FW_DROP_NONE)
			goto done;
		/* Before it is shown to the parsers, which have to see what passes and nothing else. */
		if (unlikely(held) && (why = fw_terms_packet(b, pk, i)) != FW_DROP_NONE) {
			*s = as_was;
			goto done;
		}
		if (unlikely(inspected)) {
			why = fw_inspect_packet(b, pk, i, d, &as_was, &decision);
			if (why != FW_DROP_NONE)
				goto refused;
		}
		if (mv.counts || mv.new != mv.old)
			s->seen = b->seen;
		if (mv.new != mv.old)
			fw_session_moved(p, i, mv.old, b->now_ns);
	} else {
		if (unlikely(held) && (why = fw_terms_packet(b, pk, i)) != FW_DROP_NONE)
			goto done;
		if (unlikely(inspected)) {
			why = fw_inspect_packet(b, pk, i, d, &as_was, &decision);
			if (why != FW_DROP_NONE)
				goto refused;
		}
		s->seen = b->seen;
		if (unlikely(before == FW_STATE_UDP_NEW && d == 1)) {
			s->state = FW_STATE_UDP;
			fw_session_moved(p, i, before, b->now_ns);
		}
	}
	fw_session_count(&p->sessions, s, d, pk->len);
	if (unlikely(b->names))
		fw_names_packet(b, pk, i, d);
	if (unlikely(e != NULL) && (e->what & FW_EXTRA_FTP) != 0)
		fw_helper_packet(b, pk, i, d, e);
	if (unlikely(e != NULL) && (e->what & FW_EXTRA_PROXY) != 0)
		fw_proxy_leave(b, pk, i, d, e);
	why = FW_DROP_NONE;
done:
	pk->drop = (uint16_t)why;
	fw_trace_judged(b, pk, before, s->state);
	return why;
refused:
	if (why != FW_DROP_APP_DENIED)
		goto done;
	pk_counter_add(&p->stats.sessions_ended, 1);
	return fw_policy_cut(b, pk, i, d, why, &decision);
}

static __rte_always_inline enum fw_drop
judge_whole(struct fw_batch *b, struct fw_pkt *pk)
{
	uint32_t i;

	/* Looked up now and not before: an earlier packet of the burst may have begun or ended this one's
	 * session.  ARP and ND have keys too, of no session; they are not asked for. */
	if (likely(pk->kind == FW_KIND_SESSION || pk->kind == FW_KIND_ICMP_ERROR))
		i = fw_sessions_settle(&b->p->sessions, pk, pk->session);
	else
		i = FW_SESSION_NONE;
	pk->session = i;
	if (likely(pk->kind == FW_KIND_SESSION)) {
		if (likely(i != FW_SESSION_NONE))
			return judge_session(b, pk, i);
		return fw_session_open(b, pk);
	}
	if (pk->kind == FW_KIND_ICMP_ERROR)
		return judge_icmp_error(b, pk);
	/* ARP and ND from inside have been judged by the guard already; and so has who speaks DHCP. */
	if (unlikely(pk->kind == FW_KIND_DHCP))
		pk->drop = (uint16_t)fw_dhcp_judge(b, pk);
	else if (b->from == FW_OUTSIDE)
		pk->drop = (uint16_t)fw_guard_outside(&b->p->guard, b->rules, b->generation, pk);
	fw_trace_judged(b, pk, 0, 0);
	return (enum fw_drop)pk->drop;
}

/* Opens the entry that later fragments of the packet will follow.  fw/frag.h */
static enum fw_drop
judge_first_fragment(struct fw_batch *b, struct fw_pkt *pk, struct fw_frag *f)
{
	struct fw_frags *t = &b->p->frags;
	enum fw_drop why;

	/* There is a first one already. */
	why = f != NULL ? fw_frag_add(f, pk) : fw_frags_room(t, pk, b->from);
	if (why != FW_DROP_NONE) {
		pk->session = FW_SESSION_NONE;
		pk->drop = (uint16_t)why;
		fw_trace_judged(b, pk, 0, 0);
		return why;
	}
	why = judge_whole(b, pk);
	if (why != FW_DROP_NONE || pk->session == FW_SESSION_NONE)
		return why;
	f = fw_frags_open(t, pk, b->from, fw_session_id(&b->p->sessions, pk->session), b->now_ns);
	if (f == NULL) /* its session has taken the last room there was: the rest will be strays */
		return FW_DROP_NONE;
	f->error = pk->kind == FW_KIND_ICMP_ERROR;
	if (pk->l4_proto == IPPROTO_TCP) {
		f->numbered = true;
		f->seq = pk->seq - pk->l4_len + ((pk->tcp_flags & FW_TCP_SYN) != 0) +
		    ((pk->tcp_flags & FW_TCP_FIN) != 0);
	}
	return fw_frag_add(f, pk);
}

static __rte_noinline enum fw_drop
judge_fragment(struct fw_batch *b, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;
	struct fw_sessions *t = &p->sessions;
	struct fw_frag *f = fw_frags_find(&p->frags, pk, b->from, b->now_ns);
	uint32_t i = f != NULL ? (uint32_t)f->session : 0, end;
	bool alive = f != NULL && fw_session_id(t, i) == f->session;
	struct fw_session *s = &t->hot[i];
	uint8_t state = 0;
	unsigned int d;
	enum fw_drop why;

	if (f != NULL && !alive && f->poisoned == 0) {
		fw_frags_remove(&p->frags, f);
		f = NULL;
	}
	if (pk->frag_off == 0)
		return judge_first_fragment(b, pk, f);
	why = FW_DROP_FRAG_STRAY;
	pk->session = alive ? i : FW_SESSION_NONE;
	if (alive)
		state = s->state;
	if (!alive || f->poisoned != 0) {
		if (f != NULL)
			why = (enum fw_drop)f->poisoned;
		goto done;
	}
	d = b->from != fw_session_origin(s);
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = fw_policy_reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	if (unlikely(p->tunnel != NULL)) {
		why = fw_protect_check(b, pk, i);
		if (why != FW_DROP_NONE)
			goto done;
	}
	why = fw_watch_wants(p, i) ? FW_DROP_SIG_FRAGMENT : FW_DROP_APP_FRAGMENT;
	if (unlikely(fw_inspect_wants(p, i)) && !f->error)
		goto done;
	end = f->seq + pk->frag_off + pk->frag_len;
	why = FW_DROP_TCP_WINDOW;
	if (f->numbered && !fw_tcp_fits(s, d, end))
		goto done;
	why = fw_frag_add(f, pk);
	if (why == FW_DROP_NONE && unlikely((s->flags & FW_SESSION_EXTRA) != 0) && !f->error &&
	    fw_terms_wanted(p, i))
		why = fw_terms_packet(b, pk, i);
	if (why != FW_DROP_NONE)
		goto done;
	if (f->numbered && fw_seq_ge(end, s->side[d].end))
		s->side[d].end = end;
	if (!f->error) {
		s->seen = b->seen;
		fw_session_count(t, s, d, pk->len);
	}
	if (fw_frag_complete(f))
		fw_frags_remove(&p->frags, f);
done:
	pk->drop = (uint16_t)why;
	fw_trace_judged(b, pk, state, state);
	return why;
}

/* From the session on. */
void
fw_judge(struct fw_batch *b, struct fw_pkt *pk)
{
	if (unlikely(pk->drop != FW_DROP_NONE)) {
		pk->session = FW_SESSION_NONE;
		fw_trace_judged(b, pk, 0, 0);
	} else if (unlikely(pk->fragment)) {
		(void)judge_fragment(b, pk);
	} else {
		(void)judge_whole(b, pk);
	}
}
