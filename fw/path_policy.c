#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/names.h"
#include "fw/path_priv.h"
#include "fw/reject.h"
#include "fw/tls.h"

#define WALK_BURST 64 /* sessions judged anew at once, if there is time */

/* What a rule asks for beyond its match, of what this data plane has: IPsec if it is configured, MACsec on some links,
 * and inspection when there is memory for it. */
static enum fw_drop
ask_terms(const struct fw_batch *b, struct fw_decision *d)
{
	const struct pk_rule_terms *t = d->terms;
	const struct fw_path *p = b->p;
	uint8_t all = p->conf.inspect_all;

	if (t != NULL && t->encryption != PK_ENCRYPTION_NONE &&
	    !fw_link_protects(p, b->wire, t->encryption) &&
	    (fw_tls_wants(p, b->wire, t->encryption) ? !fw_tls_has(p->conf.tls, b->wire)
	                                             : p->conf.esp == NULL))
		return FW_DROP_ENCRYPTION_MISSING;
	if (t != NULL && t->inspect != PK_INSPECT_NONE)
		d->inspect = (uint8_t)(t->inspect | (t->fail_open ? FW_INSPECT_OPEN : 0));
	if ((d->inspect & FW_INSPECT_MODE) < all)
		d->inspect = (uint8_t)(all | (p->conf.inspect_open ? FW_INSPECT_OPEN : 0));
	if (likely(d->inspect == 0) || p->watches != NULL)
		return FW_DROP_NONE;
	if ((d->inspect & FW_INSPECT_OPEN) == 0)
		return FW_DROP_INSPECT_MISSING;
	d->inspect = 0;
	return FW_DROP_NONE;
}

/* What policy is asked about. */
struct flow {
	enum fw_side opener;
	uint32_t vrf;
	const struct pk_addr *src, *dst;
	uint8_t proto, app;
	uint16_t selector;
	bool held; /* it is there already */
};

static enum fw_drop
ask(struct fw_batch *b, const struct flow *f, struct fw_decision *d)
{
	bool inside = f->opener == FW_INSIDE;
	bool attested = b->p->attested;
	struct fw_names *names = b->p->shared->names;
	struct fw_party subject, peer;
	struct fw_named named;

	fw_rules_party(b->rules, f->vrf, inside ? f->src : f->dst, attested, &subject);
	fw_rules_party(b->rules, f->vrf, inside ? f->dst : f->src, attested, &peer);
	if (unlikely(inside && fw_rules_has_names(b->rules)) && names != NULL) {
		fw_names_find(names, f->vrf, f->src, f->dst, f->held, b->now_ns, &named);
		peer.named = &named;
	}
	pk_counter_add(&b->p->stats.policy_lookups, 1);
	fw_rules_decide(b->rules, inside ? PK_EGRESS : PK_INGRESS, &subject, &peer, f->proto,
	    f->selector, f->app, fw_path_unix_s(b->p, b->now_ns), d);
	if (d->verdict == PK_VERDICT_ALLOW)
		return likely(d->terms == NULL && b->p->conf.inspect_all == 0) ? FW_DROP_NONE
		                                                               : ask_terms(b, d);
	if (!subject.is_subject)
		return FW_DROP_NO_SUBJECT;
	return d->verdict == PK_VERDICT_REJECT ? FW_DROP_RULE_REJECT : FW_DROP_RULE_DENY;
}

static enum fw_drop
ask_kin(struct fw_batch *b, struct flow *f, uint8_t kin, struct fw_decision *d)
{
	if (unlikely((kin & FW_KIN_REVERSED) != 0)) {
		const struct pk_addr *src = f->src;

		f->src = f->dst;
		f->dst = src;
		f->opener = f->opener == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	}
	return ask(b, f, d);
}

enum fw_drop
fw_policy_ask(struct fw_batch *b, enum fw_side opener, uint32_t vrf, const struct pk_addr *src,
    const struct pk_addr *dst, uint8_t proto, uint16_t selector, uint8_t app, uint8_t kin,
    struct fw_decision *d)
{
	struct flow f = { .opener = opener,
		.vrf = vrf,
		.src = src,
		.dst = dst,
		.proto = proto,
		.app = app,
		.selector = selector };

	return ask_kin(b, &f, kin, d);
}

/* Count the hit and write the rule into the session, if there is one. */
void
fw_policy_note(struct fw_batch *b, uint32_t i, uint16_t selector, const struct fw_decision *d)
{
	struct fw_rule_info info = { 0 };
	struct fw_session_cold *c;

	if (d->rule != FW_RULE_NONE) {
		fw_rules_info(b->rules, d->rule, &info);
		pk_counter_add(&b->p->hits[info.slot % FW_RULE_SLOTS], 1);
	}
	if (i == FW_SESSION_NONE)
		return;
	c = &b->p->sessions.cold[i];
	c->rule_id = info.id;
	c->slot_and_selector = info.slot << 16 | selector;
	fw_terms_note(b->p, i, d);
	if (d->log == PK_RULE_LOG_ALL)
		b->p->sessions.hot[i].flags |= FW_SESSION_LOG_END;
}

void
fw_made_send(struct fw_batch *b, const struct fw_pkt *pk, struct rte_mbuf *m, enum fw_side to)
{
	struct fw_burst *out = b->out;

	if (m == NULL)
		return;
	/* What is said about a protected flow is protected as well. */
	if (to == FW_OUTSIDE && b->p->tunnel != NULL) {
		uint32_t tunnel = b->tunnel;

		if (tunnel == ESP_TUNNEL_NONE && pk->session != FW_SESSION_NONE)
			tunnel = b->p->tunnel[pk->session];
		if (tunnel == FW_TUNNEL_TLS)
			to = FW_TLS;
		else if (tunnel != ESP_TUNNEL_NONE &&
		    !fw_protect_made(b->p, m, pk->l3, tunnel, b->now_ns)) {
			rte_pktmbuf_free(m);
			return;
		}
	}
	PK_ASSERT(out->nb[to] < RTE_DIM(out->pkt[to]));
	out->pkt[to][out->nb[to]++] = m;
	pk_counter_add(&b->p->stats.made, 1);
	if (b->level >= FW_TRACE_DROPS)
		fw_trace_made(b, pk, to);
}

bool
fw_made_may(struct fw_batch *b)
{
	return fw_limit_take(&b->p->reject_limit, b->now_ns, FW_REJECT_PER_SECOND, FW_REJECT_BURST);
}

/*
 * A rule that says reject has taken the place of one that said allow: tell both ends.  Each is told
 * with the number that the other has got to, for that is what it expects next, and what it believes
 * without asking back (RFC 5961 section 3).
 */
void
fw_policy_tell(
    struct fw_batch *b, const struct fw_pkt *pk, const struct fw_session *s, unsigned int d)
{
	enum fw_side from = b->from, to = from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	struct rte_mempool *pool = b->p->conf.pool;
	uint32_t mine = s->side[d].end, theirs = s->side[d ^ 1].end;
	uint32_t shown = fw_proxy_shown(b->p, pk->session);

	if (pk->l4_proto != IPPROTO_TCP) {
		if (fw_made_may(b))
			fw_made_send(b, pk, fw_reject_make(pk, pool), from);
		return;
	}
	if ((pk->tcp_flags & FW_TCP_RST) != 0 || s->state >= FW_STATE_TIME_WAIT || !fw_made_may(b))
		return;
	if ((s->flags & FW_SESSION_SYN_R) == 0) {
		fw_made_send(b, pk, fw_reject_make(pk, pool), from);
		return;
	}
	/* What the opener knows of the other side's numbers may be a proxy's. */
	fw_made_send(b, pk, fw_reject_reset(pk, pool, true, d == 0 ? shown : theirs, mine), from);
	fw_made_send(b, pk, fw_reject_reset(pk, pool, false, d == 1 ? shown : mine, theirs), to);
}

/* In the direction in which it was opened. */
enum fw_drop
fw_policy_ask_session(struct fw_batch *b, uint32_t i, struct fw_decision *d)
{
	const struct fw_session *s = &b->p->sessions.hot[i];
	const struct fw_session_cold *c = &b->p->sessions.cold[i];
	struct pk_addr src, dst;
	uint16_t sport, dport;
	struct flow f = { .opener = fw_session_origin(s),
		.vrf = s->key.vrf,
		.src = &src,
		.dst = &dst,
		.proto = s->key.proto,
		.app = s->app,
		.selector = (uint16_t)c->slot_and_selector,
		.held = true };

	fw_session_names(s, c, &src, &dst, &sport, &dport);
	return ask_kin(b, &f, c->kin, d);
}

/* Policy has changed since the session was allowed.  What it speaks is still known, if it was. */
static enum fw_drop
ask_again(struct fw_batch *b, uint32_t i, struct fw_decision *decision)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	struct pk_addr src, dst;
	uint16_t sport, dport, selector = (uint16_t)c->slot_and_selector;
	bool inside = fw_session_origin(s) == FW_INSIDE;
	enum fw_drop why;

	pk_counter_add(&p->stats.reevaluated, 1);
	fw_session_names(s, c, &src, &dst, &sport, &dport);
	why = fw_policy_ask_session(b, i, decision);
	/* The inventory may have changed as well: what the guard has vouched for has to be true still. */
	if (why == FW_DROP_NONE &&
	    fw_guard_is_local(
	        &p->guard, b->rules, b->generation, s->key.wire, s->key.vrf, inside ? &dst : &src))
		why = FW_DROP_SPOOF_OUTSIDE;
	if (why == FW_DROP_NONE) {
		s->generation = (uint32_t)b->generation;
		fw_policy_note(b, i, selector, decision);
		fw_inspect_mark(p, i, decision, false);
		fw_protect_mark(p, i, decision);
		fw_watch_mark(p, i, decision, false);
		return FW_DROP_NONE;
	}
	fw_policy_note(b, FW_SESSION_NONE, 0, decision);
	pk_counter_add(&p->stats.revoked, 1);
	pk_counter_add(&p->stats.sessions_ended, 1);
	return why;
}

/* A session that has lost what its rule asks for ends under the name of that. */
static enum fw_drop
ended_by(enum fw_drop why)
{
	return why == FW_DROP_ENCRYPTION_MISSING || why == FW_DROP_INSPECT_MISSING
	    ? why
	    : FW_DROP_REVOKED;
}

/* Ask again because of a packet, of whichever direction: a flow that is no longer allowed passes
 * nothing. */
enum fw_drop
fw_policy_reevaluate(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d)
{
	struct fw_decision decision;
	enum fw_drop why = ask_again(b, i, &decision);

	if (why == FW_DROP_NONE)
		return FW_DROP_NONE;
	return fw_policy_cut(b, pk, i, d, ended_by(why), &decision);
}

enum fw_drop
fw_policy_cut(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, enum fw_drop why,
    const struct fw_decision *decision)
{
	const struct fw_session *s = &b->p->sessions.hot[i];

	if (decision->verdict == PK_VERDICT_REJECT)
		fw_policy_tell(b, pk, s, d);
	/* The record about the packet names the session and the rule that ended it. */
	pk->drop = (uint16_t)why;
	if (b->level >= FW_TRACE_DROPS || (b->level >= 0 && decision->log != PK_RULE_LOG_NONE))
		fw_trace_packet(b, pk, FW_TRACE_PACKET, s->state, FW_STATE_NONE, decision);
	fw_session_end(b->p, i, b->now_ns, why);
	return why;
}

/* As much of a packet from the opener of TCP session i as an answer copies.  False: its link is not known. */
static bool
stand_in(struct fw_path *p, uint32_t i, uint8_t frame[22 + 40 + 20], struct fw_pkt *pk)
{
	const struct fw_session *s = &p->sessions.hot[i];
	const struct fw_session_cold *c = &p->sessions.cold[i];
	const struct fw_ether *e = &p->ethers.ether[p->sessions.ether[i]];
	struct pk_addr src, dst;
	uint16_t sport, dport;
	uint8_t *ip = frame + e->len, *l4;

	if (p->sessions.ether[i] == 0)
		return false;
	fw_session_names(s, c, &src, &dst, &sport, &dport);
	memset(frame, 0, 22 + 40 + 20);
	memcpy(frame, e->bytes, e->len);
	memset(pk, 0, sizeof(*pk));
	pk->key = s->key;
	pk->kind = FW_KIND_SESSION;
	pk->session = i;
	pk->data = frame;
	pk->l3 = e->len;
	pk->l4_proto = s->key.proto;
	pk->l4_len = 20;
	pk->contiguous = 22 + 40 + 20;
	if (s->key.family == 4) {
		ip[0] = 0x45;
		memcpy(ip + 12, src.bytes, 4);
		memcpy(ip + 16, dst.bytes, 4);
		l4 = ip + 20;
	} else {
		ip[0] = 0x60;
		memcpy(ip + 8, src.bytes, 16);
		memcpy(ip + 24, dst.bytes, 16);
		l4 = ip + 40;
	}
	pk->l4 = (uint16_t)(l4 - frame);
	sport = rte_cpu_to_be_16(sport);
	dport = rte_cpu_to_be_16(dport);
	memcpy(l4, &sport, 2);
	memcpy(l4 + 2, &dport, 2);
	return true;
}

void
fw_made_add(struct fw_batch *b, struct fw_made *made, uint32_t i, bool back,
    const struct fw_segment *segment, enum fw_side side)
{
	const struct fw_ether *e = &b->p->ethers.ether[b->p->sessions.ether[i]];
	uint8_t frame[22 + 40 + 20];
	struct fw_pkt pk;
	struct rte_mbuf *m;

	if (!stand_in(b->p, i, frame, &pk))
		return;
	m = fw_reject_segment(&pk, b->p->conf.pool, back, segment);
	if (m == NULL)
		return;
	if (side == FW_OUTSIDE && b->p->tunnel != NULL && b->p->tunnel[i] == FW_TUNNEL_TLS)
		side = FW_TLS;
	else if (side == FW_OUTSIDE && b->p->tunnel != NULL && b->p->tunnel[i] != ESP_TUNNEL_NONE &&
	    !fw_protect_made(b->p, m, pk.l3, b->p->tunnel[i], b->now_ns)) {
		rte_pktmbuf_free(m);
		return;
	}
	if (e->stripped) {
		m->vlan_tci = e->tci;
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
	}
	made->pkt[made->nb].m = m;
	made->pkt[made->nb].wire = b->wire;
	made->pkt[made->nb++].side = (uint8_t)side;
	pk_counter_add(&b->p->stats.made, 1);
	if (b->level >= FW_TRACE_DROPS)
		fw_trace_made(b, &pk, side);
}

/*
 * The end of an idle session: as fw_policy_tell(), without a packet at hand.  Only TCP is told, for an ICMP error
 * quotes a packet, and there is none.  No limit on answers here: it is the operator who asks for them, and
 * the walk has one of its own.
 */
static void
tell_idle(struct fw_batch *b, uint32_t i, struct fw_made *made)
{
	const struct fw_session *s = &b->p->sessions.hot[i];
	struct fw_segment reset = { .seq = fw_proxy_shown(b->p, i),
		.ack = s->side[0].end,
		.flags = FW_TCP_RST | FW_TCP_ACK };
	enum fw_side opener = fw_session_origin(s);

	if (s->key.proto != IPPROTO_TCP || s->state >= FW_STATE_TIME_WAIT)
		return;
	/* RFC 9293 section 3.10.7.3: a SYN is answered with what acknowledges it; `seq` is 0 then. */
	fw_made_add(b, made, i, true, &reset, opener);
	if ((s->flags & FW_SESSION_SYN_R) == 0)
		return;
	reset.seq = s->side[0].end;
	reset.ack = s->side[1].end;
	fw_made_add(b, made, i, false, &reset, opener == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE);
}

/*
 * The walk.  Packets bring their sessions to a new generation; those without packets would keep their
 * place, and a database connection would find out hours later, by silence.  So after each change every
 * record is looked at once, wherever the walk stands, a few in each loop.  A change in mid-walk begins
 * another round from there; so no record waits for ever, however often policy changes.
 */
void
fw_policy_walk(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    unsigned int budget, struct fw_made *made)
{
	struct fw_sessions *t = &p->sessions;
	uint32_t fresh = atomic_load_explicit(&t->fresh, memory_order_relaxed);
	struct fw_batch b = {
		.p = p,
		.rules = rules,
		.now_ns = now_ns,
		.generation = fw_path_stamp(p, rules, now_ns),
		.seen = fw_units(now_ns),
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
	};

	if (b.generation != p->walk_generation) {
		p->walk_generation = b.generation;
		p->walk_left = p->conf.reevaluate_rate != 0 ? fresh : 0;
	}
	for (; p->walk_left > 0 && budget > 0; budget--) {
		uint32_t i = p->walk_at < fresh ? p->walk_at : 0;
		struct fw_session *s = &t->hot[i];

		rte_prefetch0(&t->hot[RTE_MIN(i + 8, t->capacity - 1)]);
		if (fw_session_alive(t, i) && s->generation != (uint32_t)b.generation) {
			struct fw_decision decision;
			enum fw_drop why;

			if ((made != NULL && made->nb + 2 > FW_MADE_MAX) ||
			    !fw_limit_take(
			        &p->walk_limit, now_ns, p->conf.reevaluate_rate, WALK_BURST))
				return;
			b.from = fw_session_origin(s);
			b.wire = s->key.wire;
			why = ask_again(&b, i, &decision);
			if (why == FW_DROP_RULE_REJECT && made != NULL)
				tell_idle(&b, i, made);
			if (why != FW_DROP_NONE) {
				/* There is no packet to write a record about. */
				if (decision.log != PK_RULE_LOG_NONE)
					s->flags |= FW_SESSION_LOG_END;
				fw_session_end(p, i, now_ns, ended_by(why));
			}
		}
		p->walk_at = i + 1;
		p->walk_left--;
	}
}

/* ---- at somebody's word ---- */

/* A batch of no packets, about session i. */
static struct fw_batch
about(struct fw_path *p, const struct fw_rules *rules, uint32_t i, uint64_t now_ns)
{
	const struct fw_session *s = &p->sessions.hot[i];

	return (struct fw_batch){
		.p = p,
		.rules = rules,
		.now_ns = now_ns,
		.generation = fw_path_stamp(p, rules, now_ns),
		.seen = fw_units(now_ns),
		.from = fw_session_origin(s),
		.wire = s->key.wire,
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
	};
}

enum fw_drop
fw_policy_ask_again(struct fw_path *p, const struct fw_rules *rules, uint32_t i, uint64_t now_ns)
{
	struct fw_batch b = about(p, rules, i, now_ns);
	struct fw_decision decision;

	return ask_again(&b, i, &decision);
}

void
fw_policy_end(
    struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why, struct fw_made *made)
{
	struct fw_batch b = about(p, NULL, i, now_ns);

	if (made != NULL)
		tell_idle(&b, i, made);
	fw_session_end(p, i, now_ns, why);
}
