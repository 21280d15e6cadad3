#include "fw/path.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_mbuf.h>

#include "fw/ether.h"
#include "fw/frag.h"
#include "fw/guard.h"
#include "fw/host.h"
#include "fw/options.h"
#include "fw/parse.h"
#include "fw/reject.h"
#include "fw/session.h"
#include "fw/tcp.h"

#define LOG_PER_SECOND 1000 /* records about refused packets; the counters count all of them */
#define LOG_BURST      1000
#define WALK_BURST     64 /* sessions judged anew at once, if there is time */

struct fw_path {
	struct fw_path_stats stats;
	struct fw_sessions sessions;
	struct fw_path_conf conf;
	uint32_t timeout[FW_STATE_COUNT]; /* in units of `seen` */
	uint64_t packet;                  /* running number */
	struct fw_limit reject_limit, log_limit, walk_limit;
	uint64_t walk_generation;    /* that idle sessions are being brought to */
	uint32_t walk_at, walk_left; /* next record, and how many are still to be looked at */
	bool attested;               /* the host, as far as the last burst saw */
	uint32_t flips;              /* of that */
	struct fw_guard guard;
	struct fw_ethers ethers;
	struct fw_hosts hosts;
	bool counting; /* there are limits to sessions, so hosts are kept */
	struct fw_frags frags;
	pk_counter *hits;                      /* FW_RULE_SLOTS */
	uint8_t head[FW_BURST][FW_PARSE_HEAD]; /* starts of packets that lie in several segments */
};

/* What all packets of a burst have in common. */
struct burst {
	struct fw_path *p;
	const struct fw_rules *rules;
	struct fw_burst *out;
	uint64_t now_ns;
	uint64_t generation; /* of rules and posture: see stamp_of() */
	uint64_t packet;     /* running number of the packet being judged */
	uint32_t seen;
	enum fw_side from;
	uint16_t wire;
	int level;             /* of the trace; -1 without one */
	bool created, removed; /* the table has changed since the burst looked its sessions up */
};

#define FLIP_SHIFT      24
#define GENERATION_MASK ((UINT32_C(1) << FLIP_SHIFT) - 1)

/*
 * What a session was allowed by: the generation of the rules, and the posture of the host.  A change of
 * either has every session judged anew, so both are in the 32 bits that a session keeps: the posture as the
 * number of its changes, in the upper eight.  A session would have to be left alone by the walk for 256
 * changes of posture, or 16 million generations, to be taken for new.
 */
static uint64_t
stamp_of(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns)
{
	const struct fw_posture *posture = p->conf.posture;
	bool attested = posture != NULL &&
	    now_ns < atomic_load_explicit(&posture->until_ns, memory_order_acquire);

	if (unlikely(attested != p->attested)) {
		p->attested = attested;
		p->flips++;
	}
	return rules == NULL ? 0
	                     : (fw_rules_generation(rules) & ~((uint64_t)0xff << FLIP_SHIFT)) |
	        (uint64_t)(p->flips & 0xff) << FLIP_SHIFT;
}

/* The option table is where defaults are written, for programs and tests alike. */
struct holder {
	struct fw_path_options options;
};

void
fw_path_conf_init(struct fw_path_conf *conf)
{
	static const struct pk_conf_option rows[] = { FW_PATH_OPTION_ROWS(struct holder, options) };
	struct holder h;

	memset(conf, 0, sizeof(*conf));
	pk_conf_init(rows, PK_COUNT(rows), &h);
	fw_path_options_apply(&h.options, conf);
	conf->huge = true;
}

int
fw_path_create(struct fw_path **out, const struct fw_path_conf *conf)
{
	struct fw_path *p;
	int rc;

	if (conf->nb_sessions == 0 || conf->pool == NULL)
		return -EINVAL;
	for (unsigned int t = 0; t < FW_TIMEOUT_COUNT; t++) {
		if (conf->timeout_ns[t] == 0 || conf->timeout_ns[t] >> FW_SEEN_SHIFT > INT32_MAX)
			return -EINVAL;
	}
	p = aligned_alloc(PK_CACHE_LINE, RTE_ALIGN_CEIL(sizeof(*p), (size_t)PK_CACHE_LINE));
	if (p == NULL)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->conf = *conf;
	for (unsigned int s = 0; s < FW_STATE_COUNT; s++)
		p->timeout[s] =
		    (uint32_t)(conf->timeout_ns[fw_session_timeout(s)] >> FW_SEEN_SHIFT);
	rc = -ENOMEM;
	p->hits = calloc(FW_RULE_SLOTS, sizeof(p->hits[0]));
	if (p->hits == NULL)
		goto fail;
	rc = fw_sessions_init(&p->sessions, conf->nb_sessions, conf->seed, conf->huge, 0);
	if (rc < 0)
		goto fail;
	rc = fw_ethers_init(&p->ethers);
	if (rc < 0)
		goto fail;
	p->counting = conf->per_workload != 0 || conf->half_open_per_workload != 0;
	rc = fw_hosts_init(&p->hosts, FW_HOSTS_MAX, conf->seed);
	if (rc < 0)
		goto fail;
	rc = fw_frags_init(
	    &p->frags, FW_FRAG_TABLE, conf->timeout_ns[FW_TIMEOUT_FRAGMENT], conf->seed, &p->hosts);
	if (rc < 0)
		goto fail;
	*out = p;
	return 0;
fail:
	fw_path_destroy(p);
	return rc;
}

void
fw_path_destroy(struct fw_path *p)
{
	if (p == NULL)
		return;
	fw_frags_fini(&p->frags);
	fw_hosts_fini(&p->hosts);
	fw_ethers_fini(&p->ethers);
	fw_sessions_fini(&p->sessions);
	free(p->hits);
	free(p);
}

/* ---- traces ------------------------------------------------------------------------------------ */

static uint32_t
units(uint64_t ns)
{
	return (uint32_t)(ns >> FW_SEEN_SHIFT);
}

static enum fw_side
origin(const struct fw_session *s)
{
	return (s->flags & FW_SESSION_FROM_OUTSIDE) != 0 ? FW_OUTSIDE : FW_INSIDE;
}

/* Addresses and ports of a session as its opener sees them. */
static void
session_names(const struct fw_session *s, const struct fw_session_cold *c, struct pk_addr *src,
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

static void
trace_packet(struct burst *b, const struct fw_pkt *pk, enum fw_trace_kind kind, uint8_t before,
    uint8_t after, const struct fw_decision *d)
{
	struct fw_trace_record *r = fw_trace_reserve(b->p->conf.trace);
	struct fw_sessions *t = &b->p->sessions;
	struct fw_rule_info info;

	if (r == NULL)
		return;
	r->time_ns = b->now_ns;
	r->generation = b->rules != NULL ? fw_rules_generation(b->rules) : 0;
	r->packet = b->packet;
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

static void
trace_closed(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	const struct fw_session *s = &p->sessions.hot[i];
	const struct fw_session_cold *c = &p->sessions.cold[i];
	struct fw_trace_record *r;

	if (p->conf.trace == NULL ||
	    ((s->flags & FW_SESSION_LOG_END) == 0 && fw_trace_level(p->conf.trace) != FW_TRACE_ALL))
		return;
	r = fw_trace_reserve(p->conf.trace);
	if (r == NULL)
		return;
	r->time_ns = now_ns;
	r->generation = s->generation & GENERATION_MASK;
	r->session = fw_session_id(&p->sessions, i);
	r->rule_id = c->rule_id;
	session_names(s, c, &r->src, &r->dst, &r->sport, &r->dport);
	r->wire = s->key.wire;
	r->drop = (uint16_t)why;
	r->kind = FW_TRACE_CLOSED;
	r->from = (uint8_t)origin(s);
	r->proto = s->key.proto;
	r->state_before = r->state = s->state;
	r->direction = origin(s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	r->verdict = why == FW_DROP_NONE ? PK_VERDICT_ALLOW : PK_VERDICT_DENY;
	for (unsigned int d = 0; d < 2; d++) {
		r->packets += c->packets[d] + s->packets[d];
		r->bytes += c->bytes[d] + s->bytes[d];
	}
	fw_trace_commit(p->conf.trace);
}

/* ---- life of a session ------------------------------------------------------------------------- */

/* What is limited apart from the rest: nobody has answered yet. */
static bool
is_half_open(unsigned int state)
{
	return (state >= FW_STATE_SYN_SENT && state <= FW_STATE_SYN_RECV) ||
	    state == FW_STATE_UDP_NEW;
}

static struct pk_addr
inside_of(const struct fw_path *p, uint32_t i)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr src, dst;
	uint16_t sport, dport;

	session_names(s, &p->sessions.cold[i], &src, &dst, &sport, &dport);
	return origin(s) == FW_INSIDE ? src : dst;
}

/* Whether the workload at `inside` may have one more session, half open at first. */
static __rte_noinline enum fw_drop
may_hold(const struct fw_path *p, const struct fw_pkt *pk, const struct pk_addr *inside)
{
	const struct fw_path_conf *c = &p->conf;
	const struct fw_host *h = fw_hosts_find(&p->hosts, pk->key.wire, pk->key.vrf, inside);

	if (h == NULL)
		return p->hosts.nb < p->hosts.capacity ? FW_DROP_NONE : FW_DROP_LIMIT_SESSIONS;
	if (c->per_workload != 0 && h->held[FW_HELD_SESSIONS] >= c->per_workload)
		return FW_DROP_LIMIT_SESSIONS;
	if (c->half_open_per_workload != 0 &&
	    h->held[FW_HELD_HALF_OPEN] >= c->half_open_per_workload &&
	    (pk->l4_proto == IPPROTO_UDP ||
	        (pk->l4_proto == IPPROTO_TCP && (pk->tcp_flags & FW_TCP_SYN) != 0)))
		return FW_DROP_LIMIT_HALF_OPEN;
	return FW_DROP_NONE;
}

static __rte_noinline void
count_held(struct fw_path *p, uint32_t i)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr inside = inside_of(p, i);
	struct fw_host *h = fw_hosts_get(&p->hosts, s->key.wire, s->key.vrf, &inside);

	PK_ASSERT(h != NULL); /* may_hold() has seen to it */
	h->held[FW_HELD_SESSIONS]++;
	h->held[FW_HELD_HALF_OPEN] += is_half_open(s->state);
}

/* One less of these for the workload of session i. */
static __rte_noinline void
count_down(struct fw_path *p, uint32_t i, bool half_open, bool whole)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr inside = inside_of(p, i);
	struct fw_host *h = fw_hosts_find(&p->hosts, s->key.wire, s->key.vrf, &inside);

	PK_ASSERT(h != NULL);
	if (half_open)
		fw_hosts_drop(&p->hosts, h, FW_HELD_HALF_OPEN);
	if (whole)
		fw_hosts_drop(&p->hosts, h, FW_HELD_SESSIONS);
}

static void
end_session(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	trace_closed(p, i, now_ns, why);
	if (unlikely(p->counting))
		count_down(p, i, is_half_open(p->sessions.hot[i].state), true);
	fw_ethers_put(&p->ethers, p->sessions.cold[i].timer.owner);
	fw_sessions_remove(&p->sessions, i);
}

/* The table is full: end the session that will be missed least, if there is one.  The newcomer may be the
 * next to go, but has until then what its handshake needs. */
static bool
make_room(struct burst *b)
{
	uint32_t i = fw_sessions_victim(&b->p->sessions);

	if (i == FW_SESSION_NONE)
		return false;
	pk_counter_add(&b->p->stats.sessions_evicted, 1);
	end_session(b->p, i, b->now_ns, FW_DROP_SESSIONS_FULL);
	b->removed = true;
	return true;
}

/* File the timer anew if the state's timeout ends before it would look.  Longer ones wait till then. */
static void
hasten(struct fw_path *p, uint32_t i, uint64_t now_ns)
{
	uint64_t due = now_ns + ((uint64_t)p->timeout[p->sessions.hot[i].state] << FW_SEEN_SHIFT);

	if (due + (UINT64_C(1) << FW_TIMER_SHIFT) >= fw_timer_filed_ns(&p->sessions.timer, i)) {
		unsigned int class;

		if (likely(!fw_sessions_tight(&p->sessions)))
			return;
		class = fw_sessions_class(&p->sessions, i);
		if (class != fw_timer_class(&p->sessions.timer, i))
			fw_timer_reclass(&p->sessions.timer, i, class);
		return;
	}
	fw_timer_remove(&p->sessions.timer, i);
	fw_timer_add(&p->sessions.timer, i, due, fw_sessions_class(&p->sessions, i));
}

/* A session has changed its state. */
static void
moved(struct fw_path *p, uint32_t i, unsigned int before, uint64_t now_ns)
{
	if (unlikely(p->counting) && is_half_open(before) &&
	    !is_half_open(p->sessions.hot[i].state))
		count_down(p, i, true, false);
	hasten(p, i, now_ns);
}

/* Ask policy about a flow from src to dst.  Returns FW_DROP_NONE if it may be. */
static enum fw_drop
ask(struct burst *b, enum fw_side opener, uint32_t vrf, const struct pk_addr *src,
    const struct pk_addr *dst, uint8_t proto, uint16_t selector, struct fw_decision *d)
{
	bool inside = opener == FW_INSIDE;
	bool attested = b->p->attested;
	uint32_t subject = fw_rules_class_of(b->rules, vrf, inside ? src : dst, attested);
	uint32_t peer = fw_rules_class_of(b->rules, vrf, inside ? dst : src, attested);

	pk_counter_add(&b->p->stats.policy_lookups, 1);
	fw_rules_decide(
	    b->rules, inside ? PK_EGRESS : PK_INGRESS, subject, peer, proto, selector, d);
	if (d->verdict == PK_VERDICT_ALLOW)
		return FW_DROP_NONE;
	if (!fw_rules_class_get(b->rules, subject)->is_subject)
		return FW_DROP_NO_SUBJECT;
	return d->verdict == PK_VERDICT_REJECT ? FW_DROP_RULE_REJECT : FW_DROP_RULE_DENY;
}

/* Count the hit and write the rule into the session, if there is one. */
static void
note_rule(struct burst *b, uint32_t i, uint16_t selector, const struct fw_decision *d)
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
	if (d->log == PK_RULE_LOG_ALL)
		b->p->sessions.hot[i].flags |= FW_SESSION_LOG_END;
}

/* A record of a packet made to answer `pk`: as if the one it seems to come from had sent it. */
static void
trace_made(struct burst *b, const struct fw_pkt *pk, enum fw_side to)
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

static void
send_made(struct burst *b, const struct fw_pkt *pk, struct rte_mbuf *m, enum fw_side to)
{
	struct fw_burst *out = b->out;

	if (m == NULL)
		return;
	PK_ASSERT(out->nb[to] < RTE_DIM(out->pkt[to]));
	out->pkt[to][out->nb[to]++] = m;
	pk_counter_add(&b->p->stats.made, 1);
	if (b->level >= FW_TRACE_DROPS)
		trace_made(b, pk, to);
}

static bool
may_tell(struct burst *b)
{
	return fw_limit_take(&b->p->reject_limit, b->now_ns, FW_REJECT_PER_SECOND, FW_REJECT_BURST);
}

/*
 * A rule that says reject has taken the place of one that said allow: tell both ends.  Each is told
 * with the number that the other has got to, for that is what it expects next, and what it believes
 * without asking back (RFC 5961 section 3).
 */
static void
tell_both(struct burst *b, const struct fw_pkt *pk, const struct fw_session *s, unsigned int d)
{
	enum fw_side from = b->from, to = from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	struct rte_mempool *pool = b->p->conf.pool;
	uint32_t mine = s->side[d].end, theirs = s->side[d ^ 1].end;

	if (pk->l4_proto != IPPROTO_TCP) {
		if (may_tell(b))
			send_made(b, pk, fw_reject_make(pk, pool), from);
		return;
	}
	if ((pk->tcp_flags & FW_TCP_RST) != 0 || s->state >= FW_STATE_TIME_WAIT || !may_tell(b))
		return;
	if ((s->flags & FW_SESSION_SYN_R) == 0) {
		send_made(b, pk, fw_reject_make(pk, pool), from);
		return;
	}
	send_made(b, pk, fw_reject_reset(pk, pool, true, theirs, mine), from);
	send_made(b, pk, fw_reject_reset(pk, pool, false, mine, theirs), to);
}

/* Policy has changed since the session was allowed.  Ask again, in the direction in which it was opened. */
static enum fw_drop
ask_again(struct burst *b, uint32_t i, struct fw_decision *decision)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	struct pk_addr src, dst;
	uint16_t sport, dport, selector = (uint16_t)c->slot_and_selector;
	bool inside = origin(s) == FW_INSIDE;
	enum fw_drop why;

	pk_counter_add(&p->stats.reevaluated, 1);
	session_names(s, c, &src, &dst, &sport, &dport);
	why = ask(b, origin(s), s->key.vrf, &src, &dst, s->key.proto, selector, decision);
	/* The inventory may have changed as well: what the guard has vouched for has to be true still. */
	if (why == FW_DROP_NONE &&
	    fw_guard_is_local(
	        &p->guard, b->rules, b->generation, s->key.wire, s->key.vrf, inside ? &dst : &src))
		why = FW_DROP_SPOOF_OUTSIDE;
	if (why == FW_DROP_NONE) {
		s->generation = (uint32_t)b->generation;
		note_rule(b, i, selector, decision);
		return FW_DROP_NONE;
	}
	note_rule(b, FW_SESSION_NONE, 0, decision);
	pk_counter_add(&p->stats.revoked, 1);
	pk_counter_add(&p->stats.sessions_ended, 1);
	return why;
}

/* Ask again because of a packet, of whichever direction: a flow that is no longer allowed passes
 * nothing. */
static enum fw_drop
reevaluate(struct burst *b, struct fw_pkt *pk, uint32_t i, unsigned int d)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_decision decision;
	enum fw_drop why = ask_again(b, i, &decision);

	if (why == FW_DROP_NONE)
		return FW_DROP_NONE;
	if (why == FW_DROP_RULE_REJECT)
		tell_both(b, pk, s, d);
	/* The record about the packet names the session and the rule that ended it. */
	pk->drop = FW_DROP_REVOKED;
	if (b->level >= FW_TRACE_DROPS || (b->level >= 0 && decision.log != PK_RULE_LOG_NONE))
		trace_packet(b, pk, FW_TRACE_PACKET, s->state, FW_STATE_NONE, &decision);
	end_session(p, i, b->now_ns, FW_DROP_REVOKED);
	b->removed = true;
	return FW_DROP_REVOKED;
}

/* As much of a packet from the opener of TCP session i as an answer copies.  False: its link is not known. */
static bool
stand_in(struct fw_path *p, uint32_t i, uint8_t frame[22 + 40 + 20], struct fw_pkt *pk)
{
	const struct fw_session *s = &p->sessions.hot[i];
	const struct fw_session_cold *c = &p->sessions.cold[i];
	const struct fw_ether *e = &p->ethers.ether[c->timer.owner];
	struct pk_addr src, dst;
	uint16_t sport, dport;
	uint8_t *ip = frame + e->len, *l4;

	if (c->timer.owner == 0)
		return false;
	session_names(s, c, &src, &dst, &sport, &dport);
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

static void
add_made(struct burst *b, struct fw_made *made, const struct fw_pkt *pk, struct rte_mbuf *m,
    enum fw_side side)
{
	const struct fw_ether *e =
	    &b->p->ethers.ether[b->p->sessions.cold[pk->session].timer.owner];

	if (m == NULL)
		return;
	if (e->stripped) {
		m->vlan_tci = e->tci;
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
	}
	made->pkt[made->nb].m = m;
	made->pkt[made->nb].wire = b->wire;
	made->pkt[made->nb++].side = (uint8_t)side;
	pk_counter_add(&b->p->stats.made, 1);
	if (b->level >= FW_TRACE_DROPS)
		trace_made(b, pk, side);
}

/*
 * The end of an idle session: as tell_both(), without a packet at hand.  Only TCP is told, for an ICMP error
 * quotes a packet, and there is none.  No limit on answers here: it is the operator who asks for them, and
 * the walk has one of its own.
 */
static void
tell_idle(struct burst *b, uint32_t i, struct fw_made *made)
{
	const struct fw_session *s = &b->p->sessions.hot[i];
	struct rte_mempool *pool = b->p->conf.pool;
	uint32_t f = s->side[0].end, r = s->side[1].end;
	enum fw_side opener = origin(s), other = opener == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	uint8_t frame[22 + 40 + 20];
	struct fw_pkt pk;

	if (s->key.proto != IPPROTO_TCP || s->state >= FW_STATE_TIME_WAIT ||
	    !stand_in(b->p, i, frame, &pk))
		return;
	if ((s->flags & FW_SESSION_SYN_R) == 0) {
		/* RFC 9293 section 3.10.7.3: a SYN is answered with what acknowledges it. */
		add_made(b, made, &pk, fw_reject_reset(&pk, pool, true, 0, f), opener);
		return;
	}
	add_made(b, made, &pk, fw_reject_reset(&pk, pool, true, r, f), opener);
	add_made(b, made, &pk, fw_reject_reset(&pk, pool, false, f, r), other);
}

/*
 * The walk.  Packets bring their sessions to a new generation; those without packets would keep their
 * place, and a database connection would find out hours later, by silence.  So after each change every
 * record is looked at once, wherever the walk stands, a few in each loop.  A change in mid-walk begins
 * another round from there; so no record waits for ever, however often policy changes.
 */
static void
walk_idle(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns, unsigned int budget,
    struct fw_made *made)
{
	struct fw_sessions *t = &p->sessions;
	uint32_t fresh = atomic_load_explicit(&t->fresh, memory_order_relaxed);
	struct burst b = {
		.p = p,
		.rules = rules,
		.now_ns = now_ns,
		.generation = stamp_of(p, rules, now_ns),
		.seen = units(now_ns),
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
		if (s->state != FW_STATE_NONE && s->generation != (uint32_t)b.generation) {
			struct fw_decision decision;
			enum fw_drop why;

			if ((made != NULL && made->nb + 2 > FW_MADE_MAX) ||
			    !fw_limit_take(
			        &p->walk_limit, now_ns, p->conf.reevaluate_rate, WALK_BURST))
				return;
			b.from = origin(s);
			b.wire = s->key.wire;
			why = ask_again(&b, i, &decision);
			if (why == FW_DROP_RULE_REJECT && made != NULL)
				tell_idle(&b, i, made);
			if (why != FW_DROP_NONE) {
				/* There is no packet to write a record about. */
				if (decision.log != PK_RULE_LOG_NONE)
					s->flags |= FW_SESSION_LOG_END;
				end_session(p, i, now_ns, FW_DROP_REVOKED);
			}
		}
		p->walk_at = i + 1;
		p->walk_left--;
	}
}

/* What a packet that belongs to no session may begin. */
static enum fw_drop
may_open(const struct burst *b, const struct fw_pkt *pk)
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

/*
 * No session: guard, policy, and if both agree a new session.  The packet's record, if one is due, is
 * written here, where the decision is known.
 */
static __rte_noinline enum fw_drop
open_session(struct burst *b, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;
	struct fw_sessions *t = &p->sessions;
	struct fw_decision decision = { .rule = FW_RULE_NONE, .audit_rule = FW_RULE_NONE };
	struct fw_session *s;
	struct pk_addr src, dst;
	uint32_t i;
	enum fw_drop why;

	why = may_open(b, pk);
	if (b->from == FW_OUTSIDE) {
		enum fw_drop spoofed = fw_guard_outside(&p->guard, b->rules, b->generation, pk);

		if (spoofed != FW_DROP_NONE)
			why = spoofed;
	}
	if (why != FW_DROP_NONE)
		goto done;
	fw_pkt_addrs(pk, &src, &dst);
	why = ask(b, b->from, pk->key.vrf, &src, &dst, pk->l4_proto, pk->selector, &decision);
	if (why != FW_DROP_NONE) {
		note_rule(b, FW_SESSION_NONE, 0, &decision);
		goto done;
	}
	/* A workload inside as the far end would be answered from inside, past the wire. */
	if (b->from == FW_INSIDE &&
	    fw_guard_is_local(
	        &p->guard, b->rules, b->generation, pk->key.wire, pk->key.vrf, &dst)) {
		why = FW_DROP_WRONG_SIDE;
		goto done;
	}
	if (unlikely(p->counting)) {
		why = may_hold(p, pk, b->from == FW_INSIDE ? &src : &dst);
		if (why != FW_DROP_NONE)
			goto done;
	}
	i = fw_sessions_create(t, pk);
	if (unlikely(i == FW_SESSION_NONE) && make_room(b))
		i = fw_sessions_create(t, pk);
	if (i == FW_SESSION_NONE) {
		why = FW_DROP_SESSIONS_FULL;
		goto done;
	}
	fw_sessions_tidy(t);
	s = &t->hot[i];
	s->flags = (uint8_t)((pk->hi ? FW_SESSION_HI : 0) |
	    (b->from == FW_OUTSIDE ? FW_SESSION_FROM_OUTSIDE : 0));
	s->generation = (uint32_t)b->generation;
	s->seen = b->seen;
	switch (pk->l4_proto) {
	case IPPROTO_TCP:
		why = fw_tcp_open(s, pk, p->conf.tcp_loose);
		if (why != FW_DROP_NONE) {
			fw_sessions_remove(t, i);
			b->removed = true;
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
	if (unlikely(p->counting))
		count_held(p, i);
	if (pk->l4_proto == IPPROTO_TCP)
		t->cold[i].timer.owner = fw_ethers_get(&p->ethers, pk);
	note_rule(b, i, pk->selector, &decision);
	t->cold[i].opened_ns = b->now_ns;
	fw_sessions_publish(t, i);
	fw_session_count(t, i, 0, pk->len);
	fw_timer_add(&t->timer, i, b->now_ns + ((uint64_t)p->timeout[s->state] << FW_SEEN_SHIFT),
	    fw_sessions_class(t, i));
	pk_counter_add(&p->stats.sessions_created, 1);
	b->created = true;
	pk->session = i;
done:
	pk->drop = (uint16_t)why;
	if (why == FW_DROP_RULE_REJECT && may_tell(b))
		send_made(b, pk, fw_reject_make(pk, p->conf.pool), b->from);
	if (likely(b->level < 0))
		return why;
	if (why == FW_DROP_NONE && (b->level == FW_TRACE_ALL || decision.log != PK_RULE_LOG_NONE))
		trace_packet(b, pk, FW_TRACE_OPENED, 0, t->hot[pk->session].state, &decision);
	if (decision.audited && decision.audit_verdict != decision.verdict)
		trace_packet(b, pk, FW_TRACE_AUDIT, 0, 0, &decision);
	if (b->level == FW_TRACE_ALL || (why != FW_DROP_NONE && b->level == FW_TRACE_DROPS) ||
	    (why != FW_DROP_NONE && decision.log != PK_RULE_LOG_NONE &&
	        fw_limit_take(&p->log_limit, b->now_ns, LOG_PER_SECOND, LOG_BURST)))
		trace_packet(b, pk, FW_TRACE_PACKET, 0,
		    pk->session != FW_SESSION_NONE ? t->hot[pk->session].state : 0, &decision);
	return why;
}

/* ---- judgement --------------------------------------------------------------------------------- */

/* A record for a packet of a session, or of none and without a decision. */
static inline void
trace_judged(struct burst *b, const struct fw_pkt *pk, uint8_t before, uint8_t after)
{
	if (unlikely(b->level >= FW_TRACE_DROPS) &&
	    (b->level == FW_TRACE_ALL || pk->drop != FW_DROP_NONE))
		trace_packet(b, pk, FW_TRACE_PACKET, before, after, NULL);
}

/*
 * An error about a packet that a session has sent (RFC 792, RFC 4443 section 3; checks of RFC 5927).
 * It has to come from the side that the embedded packet went to, and to speak of data in flight.  It
 * neither moves the session nor keeps it alive, so a forged one that gets through can do no more than
 * the end host lets it.
 */
static __rte_noinline enum fw_drop
judge_icmp_error(struct burst *b, struct fw_pkt *pk)
{
	struct fw_path *p = b->p;
	uint32_t i = pk->session;
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
	if ((b->from == origin(s)) != (d == 1))
		goto done;
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	why = FW_DROP_NONE;
	if (s->key.proto == IPPROTO_TCP && !fw_tcp_in_flight(s, pk->seq, d))
		why = FW_DROP_ICMP_WINDOW;
done:
	pk->drop = (uint16_t)why;
	if (i != FW_SESSION_NONE)
		trace_judged(b, pk, p->sessions.hot[i].state, p->sessions.hot[i].state);
	else
		trace_judged(b, pk, 0, 0);
	return why;
}

/* A packet of session i. */
static __rte_always_inline enum fw_drop
judge_session(struct burst *b, struct fw_pkt *pk, uint32_t i)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	unsigned int d = pk->hi != ((s->flags & FW_SESSION_HI) != 0);
	uint8_t before = s->state;
	enum fw_drop why;

	if (unlikely((b->from == origin(s)) != (d == 0))) {
		why = FW_DROP_WRONG_SIDE;
		goto done;
	}
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	if (likely(before == FW_STATE_ESTABLISHED && fw_tcp_fast(s, pk, d))) {
		s->seen = b->seen;
	} else if (pk->l4_proto == IPPROTO_TCP) {
		struct fw_tcp_move mv;

		if (unlikely(fw_tcp_reopens(s, pk, d))) {
			pk_counter_add(&p->stats.sessions_ended, 1);
			end_session(p, i, b->now_ns, FW_DROP_NONE);
			b->removed = true;
			pk->session = FW_SESSION_NONE;
			return open_session(b, pk);
		}
		why = fw_tcp_step(s, pk, d, &mv);
		if (why != FW_DROP_NONE)
			goto done;
		if (mv.counts || mv.new != mv.old)
			s->seen = b->seen;
		if (mv.new != mv.old)
			moved(p, i, mv.old, b->now_ns);
	} else {
		s->seen = b->seen;
		if (unlikely(before == FW_STATE_UDP_NEW && d == 1)) {
			s->state = FW_STATE_UDP;
			moved(p, i, before, b->now_ns);
		}
	}
	fw_session_count(&p->sessions, i, d, pk->len);
	why = FW_DROP_NONE;
done:
	pk->drop = (uint16_t)why;
	trace_judged(b, pk, before, s->state);
	return why;
}

/* ---- from mbuf to fw_pkt and back -------------------------------------------------------------- */

#define RX_IP(m) ((m)->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK)
#define RX_L4(m) ((m)->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK)

static __rte_always_inline void
read_packet(struct burst *b, struct rte_mbuf *m, unsigned int n, struct fw_pkt *pk)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t contiguous = m->data_len;
	uint16_t tci = 0;

	pk->m = m;
	pk->session = FW_SESSION_NONE;
	pk->key.wire = b->wire;
	pk->checksum_ok = RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_GOOD ||
	    RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE;
	if (unlikely(m->nb_segs > 1) && contiguous < FW_PARSE_HEAD) {
		/* Headers may be spread over segments; rather than shifting the packet about, its start
		 * is copied aside. */
		contiguous = RTE_MIN(m->pkt_len, (uint32_t)FW_PARSE_HEAD);
		data = rte_pktmbuf_read(m, 0, contiguous, b->p->head[n]);
		if (data == NULL) {
			data = rte_pktmbuf_mtod(m, const uint8_t *);
			contiguous = m->data_len;
		}
	}
	if (unlikely((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0))
		tci = m->vlan_tci;
	(void)fw_parse(pk, data, contiguous, m->pkt_len, tci);
}

/* Offset of the checksum in the L4 header, or 0 for protocols we leave alone. */
static uint16_t
checksum_offset(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 16 : proto == IPPROTO_UDP ? 6 : 0;
}

/*
 * Sum of all of L4, whichever segments it lies in; 0xffff for a packet that is right.  DPDK's
 * rte_raw_cksum_mbuf() (22.11) loses a carry when a segment before the last is of odd length.
 */
static uint16_t
l4_sum(const struct fw_pkt *pk)
{
	uint32_t left = pk->l3_end - pk->l4, off = pk->l4, done = 0;
	uint32_t sum = pk->l4_proto != IPPROTO_ICMP ? fw_sum_pseudo(pk, pk->l4_proto, left) : 0;

	for (const struct rte_mbuf *m = pk->m; m != NULL && done < left; m = m->next) {
		uint32_t n = m->data_len;
		uint16_t part;

		if (off >= n) {
			off -= n;
			continue;
		}
		n = RTE_MIN(n - off, left - done);
		part = fw_sum_fold(fw_sum(rte_pktmbuf_mtod_offset(m, const uint8_t *, off), n, 0));
		/* What follows an odd number of bytes is shifted by one (RFC 1071 section 2). */
		sum += done % 2 != 0 ? rte_bswap16(part) : part;
		done += n;
		off = 0;
	}
	return fw_sum_fold(sum);
}

static __rte_noinline enum fw_drop
verify_checksum(const struct fw_pkt *pk)
{
	uint16_t field;

	/* That of a packet in fragments is over all of them: the receiver's to verify. */
	if (pk->fragment)
		return FW_DROP_NONE;
	switch (RX_L4(pk->m)) {
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
	case RTE_MBUF_F_RX_L4_CKSUM_NONE: /* there is none yet, and the data is known to be good */
		return FW_DROP_NONE;
	case RTE_MBUF_F_RX_L4_CKSUM_BAD:
		return FW_DROP_L4_CHECKSUM;
	default:
		break;
	}
	switch (pk->l4_proto) {
	case IPPROTO_UDP:
		/* RFC 768: 0 means none; in IPv6 that is forbidden (RFC 8200 section 8.1). */
		memcpy(&field, pk->data + pk->l4 + 6, sizeof(field));
		if (field == 0)
			return pk->key.family == 4 ? FW_DROP_NONE : FW_DROP_L4_CHECKSUM;
		break;
	case IPPROTO_TCP:
		break;
	case IPPROTO_ICMP:
		if (pk->key.family != 4)
			return FW_DROP_NONE;
		break;
	case IPPROTO_ICMPV6:
		if (pk->key.family != 6)
			return FW_DROP_NONE;
		break;
	default:
		return FW_DROP_NONE;
	}
	return l4_sum(pk) == 0xffff ? FW_DROP_NONE : FW_DROP_L4_CHECKSUM;
}

/*
 * Packets from virtual ports may be unfinished: the sender trusts that whoever puts them on a real wire
 * computes checksums and splits coalesced segments.  RTE_MBUF_F_RX_*_CKSUM_NONE says just that: the
 * data is good, the field is not.  Forwarded as it is, such a packet would be thrown away by the
 * receiver.  If the port it leaves by can do the work it is asked to; if not, checksums are done here,
 * and coalesced segments cannot pass.
 */
static __rte_noinline enum fw_drop
complete(struct fw_path *p, const struct fw_pkt *pk)
{
	struct rte_mbuf *m = pk->m;
	uint16_t at = checksum_offset(pk->l4_proto), sum = 0;
	bool lro = (m->ol_flags & RTE_MBUF_F_RX_LRO) != 0 && m->tso_segsz != 0;
	uint8_t *field;

	if (lro && (!p->conf.tx_tso || pk->l4_proto != IPPROTO_TCP || pk->fragment))
		return FW_DROP_OVERSIZED;
	/* What is computed over all fragments cannot be made here; nobody should leave it to us. */
	if (pk->fragment && RX_L4(m) == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		return FW_DROP_L4_CHECKSUM;
	m->l2_len = pk->l3;
	m->l3_len = (uint64_t)(pk->l4 - pk->l3);
	m->l4_len = pk->l4_len;
	if (pk->key.family == 4 && RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE &&
	    pk->l4 <= m->data_len) {
		uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->l3);

		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, (size_t)(pk->l4 - pk->l3), 0));
		memcpy(ip + 10, &sum, 2);
	}
	if (!lro && (RX_L4(m) != RTE_MBUF_F_RX_L4_CKSUM_NONE || at == 0))
		return FW_DROP_NONE;
	if (pk->l4 + at + 2u > m->data_len) {
		/* Only a header spread over segments comes here; no driver makes one. */
		return FW_DROP_L4_HEADER;
	}
	field = rte_pktmbuf_mtod_offset(m, uint8_t *, pk->l4 + at);
	m->ol_flags |= pk->key.family == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (lro) {
		/* For TSO the pseudo-header goes without its length, which differs by segment. */
		sum = fw_sum_fold(fw_sum_pseudo(pk, pk->l4_proto, 0));
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		if (pk->key.family == 4)
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	} else if (p->conf.tx_checksum) {
		sum = fw_sum_fold(fw_sum_pseudo(pk, pk->l4_proto, pk->l3_end - pk->l4));
		m->ol_flags |= pk->l4_proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM
		                                           : RTE_MBUF_F_TX_UDP_CKSUM;
	} else {
		memset(field, 0, 2);
		sum = (uint16_t)~l4_sum(pk);
		if (sum == 0 && pk->l4_proto == IPPROTO_UDP)
			sum = 0xffff; /* RFC 768: 0 would mean none */
	}
	memcpy(field, &sum, 2);
	return FW_DROP_NONE;
}

static __rte_always_inline bool
is_unfinished(const struct rte_mbuf *m)
{
	return RX_L4(m) == RTE_MBUF_F_RX_L4_CKSUM_NONE || RX_IP(m) == RTE_MBUF_F_RX_IP_CKSUM_NONE ||
	    (m->ol_flags & RTE_MBUF_F_RX_LRO) != 0;
}

/* ---- the burst --------------------------------------------------------------------------------- */

static __rte_always_inline enum fw_drop
judge_whole(struct burst *b, struct fw_pkt *pk)
{
	uint32_t i = pk->session;

	/* An earlier packet of the burst may have begun or ended this one's session. */
	if (unlikely((b->created && i == FW_SESSION_NONE) || b->removed)) {
		if (pk->kind == FW_KIND_SESSION || pk->kind == FW_KIND_ICMP_ERROR)
			i = pk->session = fw_sessions_find(&b->p->sessions, pk);
	}
	if (likely(pk->kind == FW_KIND_SESSION)) {
		if (likely(i != FW_SESSION_NONE))
			return judge_session(b, pk, i);
		return open_session(b, pk);
	}
	if (pk->kind == FW_KIND_ICMP_ERROR)
		return judge_icmp_error(b, pk);
	/* ARP and ND from inside have been judged by the guard already. */
	if (b->from == FW_OUTSIDE)
		pk->drop = (uint16_t)fw_guard_outside(&b->p->guard, b->rules, b->generation, pk);
	trace_judged(b, pk, 0, 0);
	return (enum fw_drop)pk->drop;
}

/* Opens the entry that later fragments of the packet will follow.  fw/frag.h */
static enum fw_drop
judge_first_fragment(struct burst *b, struct fw_pkt *pk, struct fw_frag *f)
{
	struct fw_frags *t = &b->p->frags;
	enum fw_drop why;

	/* There is a first one already. */
	why = f != NULL ? fw_frag_add(f, pk) : fw_frags_room(t, pk, b->from);
	if (why != FW_DROP_NONE) {
		pk->session = FW_SESSION_NONE;
		pk->drop = (uint16_t)why;
		trace_judged(b, pk, 0, 0);
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
judge_fragment(struct burst *b, struct fw_pkt *pk)
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
	d = b->from != origin(s);
	if (unlikely(s->generation != (uint32_t)b->generation)) {
		why = reevaluate(b, pk, i, d);
		if (why != FW_DROP_NONE)
			return why;
	}
	end = f->seq + pk->frag_off + pk->frag_len;
	why = FW_DROP_TCP_WINDOW;
	if (f->numbered && !fw_tcp_fits(s, d, end))
		goto done;
	why = fw_frag_add(f, pk);
	if (why != FW_DROP_NONE)
		goto done;
	if (f->numbered && fw_seq_ge(end, s->side[d].end))
		s->side[d].end = end;
	if (!f->error) {
		s->seen = b->seen;
		fw_session_count(t, i, d, pk->len);
	}
	if (fw_frag_complete(f))
		fw_frags_remove(&p->frags, f);
done:
	pk->drop = (uint16_t)why;
	trace_judged(b, pk, state, state);
	return why;
}

static __rte_always_inline enum fw_drop
judge(struct burst *b, struct fw_pkt *pk)
{
	if (unlikely(pk->fragment))
		return judge_fragment(b, pk);
	return judge_whole(b, pk);
}

void
fw_path_burst(struct fw_path *p, const struct fw_rules *rules, uint16_t wire, enum fw_side from,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns, struct fw_burst *out)
{
	const enum fw_side to = from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	struct fw_pkt pkt[FW_BURST];
	struct rte_mbuf *refused[FW_BURST];
	unsigned int nb_refused = 0, nb_sent = 0;
	uint64_t rx_bytes = 0, sent_bytes = 0;
	struct fw_sessions *t = &p->sessions;
	struct burst b = {
		.p = p,
		.rules = rules,
		.out = out,
		.now_ns = now_ns,
		.generation = stamp_of(p, rules, now_ns),
		.seen = units(now_ns),
		.from = from,
		.wire = wire,
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
	};

	PK_ASSERT(n <= FW_BURST);
	out->nb[FW_INSIDE] = out->nb[FW_OUTSIDE] = 0;
	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], const void *));

	/* Parse, guard, hash: all that needs no table but small ones, and ask for the buckets. */
	for (unsigned int i = 0; i < n; i++) {
		struct fw_pkt *pk = &pkt[i];

		read_packet(&b, pkts[i], i, pk);
		rx_bytes += pk->len;
		if (unlikely(rules == NULL))
			pk->drop = FW_DROP_NO_POLICY;
		if (unlikely(pk->drop != FW_DROP_NONE))
			continue;
		if (from == FW_INSIDE) {
			pk->drop = (uint16_t)fw_guard_inside(&p->guard, rules, b.generation, pk);
			if (unlikely(pk->drop != FW_DROP_NONE))
				continue;
		}
		if (unlikely(p->conf.verify_checksums) && pk->kind != FW_KIND_ARP) {
			pk->drop = (uint16_t)verify_checksum(pk);
			if (pk->drop != FW_DROP_NONE)
				continue;
		}
		if (unlikely(is_unfinished(pk->m)) && pk->kind != FW_KIND_ARP) {
			pk->drop = (uint16_t)complete(p, pk);
			if (pk->drop != FW_DROP_NONE)
				continue;
		}
		fw_sessions_hash(t, pk);
		fw_sessions_prefetch(t, pk);
	}
	/* Guess each packet's session, and ask for its line. */
	for (unsigned int i = 0; i < n; i++) {
		if (likely(pkt[i].drop == FW_DROP_NONE))
			pkt[i].session = fw_sessions_guess(t, &pkt[i]);
	}
	/* Be sure of it.  ARP and ND have keys too, of no session; they are not asked for. */
	for (unsigned int i = 0; i < n; i++) {
		struct fw_pkt *pk = &pkt[i];

		if (unlikely(pk->drop != FW_DROP_NONE))
			continue;
		if (likely(pk->kind == FW_KIND_SESSION || pk->kind == FW_KIND_ICMP_ERROR))
			pk->session = fw_sessions_settle(t, pk, pk->session);
		else
			pk->session = FW_SESSION_NONE;
	}
	/* One after the other, in the order they came. */
	for (unsigned int i = 0; i < n; i++) {
		struct fw_pkt *pk = &pkt[i];

		b.packet = p->packet + i + 1;
		if (likely(pk->drop == FW_DROP_NONE))
			(void)judge(&b, pk);
		else
			trace_judged(&b, pk, 0, 0);
		if (likely(pk->drop == FW_DROP_NONE)) {
			out->pkt[to][out->nb[to]++] = pk->m;
			nb_sent++;
			sent_bytes += pk->len;
		} else {
			pk_counter_add(&p->stats.drop[pk->drop], 1);
			refused[nb_refused++] = pk->m;
		}
	}
	p->packet += n;
	pk_counter_add(&p->stats.rx[from], n);
	pk_counter_add(&p->stats.rx_bytes[from], rx_bytes);
	pk_counter_add(&p->stats.sent[to], nb_sent);
	pk_counter_add(&p->stats.sent_bytes[to], sent_bytes);
	if (unlikely(nb_refused != 0))
		rte_pktmbuf_free_bulk(refused, nb_refused);
}

unsigned int
fw_path_tick(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns, unsigned int budget,
    struct fw_made *made)
{
	struct fw_sessions *t = &p->sessions;
	uint32_t due[32], now = units(now_ns);
	unsigned int expired = 0, n;

	if (unlikely(p->frags.nb != 0))
		fw_frags_expire(&p->frags, now_ns, budget);
	if (made != NULL)
		made->nb = 0;
	if (unlikely(rules != NULL &&
	        (p->walk_left != 0 || p->walk_generation != stamp_of(p, rules, now_ns))))
		walk_idle(p, rules, now_ns, budget, made);
	while (budget > 0) {
		n = fw_timer_take(
		    &t->timer, now_ns, due, RTE_MIN(budget, (unsigned int)RTE_DIM(due)));
		for (unsigned int k = 0; k < n; k++)
			rte_prefetch0(&t->hot[due[k]]);
		for (unsigned int k = 0; k < n; k++) {
			uint32_t i = due[k], idle = now - t->hot[i].seen;
			uint8_t state = t->hot[i].state;

			if (idle < p->timeout[state]) {
				fw_timer_add(&t->timer, i,
				    now_ns +
				        ((uint64_t)(p->timeout[state] - idle) << FW_SEEN_SHIFT),
				    fw_sessions_class(t, i));
				continue;
			}
			if (state == FW_STATE_TIME_WAIT || state == FW_STATE_CLOSED)
				pk_counter_add(&p->stats.sessions_ended, 1);
			else
				pk_counter_add(&p->stats.sessions_expired, 1);
			end_session(p, i, now_ns, FW_DROP_NONE);
			expired++;
		}
		budget -= n;
		if (n < RTE_DIM(due))
			break;
	}
	return expired;
}

void
fw_path_not_sent(struct fw_path *p, enum fw_side to, unsigned int n)
{
	pk_counter_add(&p->stats.sent[to], -(uint64_t)n);
	pk_counter_add(&p->stats.drop[FW_DROP_TX_FULL], n);
}

const struct fw_path_stats *
fw_path_stats(const struct fw_path *p)
{
	return &p->stats;
}

const pk_counter *
fw_path_rule_hits(const struct fw_path *p)
{
	return p->hits;
}

uint32_t
fw_path_nb_sessions(const struct fw_path *p)
{
	return p->sessions.nb;
}

uint32_t
fw_path_nb_hosts(const struct fw_path *p)
{
	return p->hosts.nb;
}

/* ---- reading along ----------------------------------------------------------------------------- */

static bool
read_session(const struct fw_path *p, uint32_t i, uint64_t now_ns, struct fw_session_info *info)
{
	const struct fw_sessions *t = &p->sessions;
	struct fw_session_cold c;
	struct fw_session s;
	uint64_t idle;
	uint32_t v;

	v = atomic_load_explicit(&t->version[i], memory_order_acquire);
	if (v % 2 == 0)
		return false;
	memcpy(&s, &t->hot[i], sizeof(s));
	memcpy(&c, &t->cold[i], sizeof(c));
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&t->version[i], memory_order_relaxed) != v)
		return false;

	memset(info, 0, sizeof(*info));
	info->id = (uint64_t)v << 32 | i;
	info->wire = s.key.wire;
	info->proto = s.key.proto;
	info->direction = origin(&s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	session_names(&s, &c, &info->src, &info->dst, &info->sport, &info->dport);
	for (unsigned int d = 0; d < 2; d++) {
		info->packets[d] = c.packets[d] + s.packets[d];
		info->bytes[d] = c.bytes[d] + s.bytes[d];
	}
	/* The reader's clock may be a burst behind the lcore's. */
	idle = (uint64_t)(uint32_t)RTE_MAX((int32_t)(units(now_ns) - s.seen), 0) << FW_SEEN_SHIFT;
	info->idle_ns = idle;
	info->age_ns = now_ns > c.opened_ns ? now_ns - c.opened_ns : 0;
	if (s.state < FW_STATE_COUNT && (uint64_t)p->timeout[s.state] << FW_SEEN_SHIFT > idle)
		info->expires_in_ns = ((uint64_t)p->timeout[s.state] << FW_SEEN_SHIFT) - idle;
	info->rule_id = c.rule_id;
	info->generation = s.generation & GENERATION_MASK;
	info->state = fw_session_state_name(s.state);
	return true;
}

void
fw_path_walk(const struct fw_path *p, uint64_t now_ns, uint32_t *cursor, unsigned int n,
    bool (*each)(void *arg, const struct fw_session_info *info), void *arg)
{
	uint32_t end = atomic_load_explicit(&p->sessions.fresh, memory_order_acquire);
	struct fw_session_info info;
	uint32_t i;

	for (i = *cursor; i < end && n > 0; i++) {
		if (!read_session(p, i, now_ns, &info))
			continue;
		n--;
		if (!each(arg, &info)) {
			i++;
			break;
		}
	}
	*cursor = i < end ? i : 0;
}
