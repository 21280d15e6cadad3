#include "fw/path_priv.h"

/* What is limited apart from the rest: nobody has answered yet. */
bool
fw_session_half_open(unsigned int state)
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

	fw_session_names(s, &p->sessions.cold[i], &src, &dst, &sport, &dport);
	return fw_session_origin(s) == FW_INSIDE ? src : dst;
}

/* Whether the workload at `inside` may have one more session, half open at first. */
enum fw_drop
fw_session_may_hold(const struct fw_path *p, const struct fw_pkt *pk, const struct pk_addr *inside)
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

void
fw_session_held(struct fw_path *p, uint32_t i)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr inside = inside_of(p, i);
	struct fw_host *h = fw_hosts_get(&p->hosts, s->key.wire, s->key.vrf, &inside);

	PK_ASSERT(h != NULL); /* fw_session_may_hold() has seen to it */
	h->held[FW_HELD_SESSIONS]++;
	h->held[FW_HELD_HALF_OPEN] += fw_session_half_open(s->state);
}

bool
fw_session_hold(struct fw_path *p, uint32_t i)
{
	const struct fw_key *k = &p->sessions.hot[i].key;
	struct pk_addr inside = inside_of(p, i);

	if (!p->counting)
		return true;
	if (fw_hosts_find(&p->hosts, k->wire, k->vrf, &inside) == NULL &&
	    p->hosts.nb == p->hosts.capacity)
		return false;
	fw_session_held(p, i);
	return true;
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

void
fw_session_end(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	fw_trace_closed(p, i, now_ns, why);
	if (unlikely(p->counting))
		count_down(p, i, fw_session_half_open(p->sessions.hot[i].state), true);
	fw_ethers_put(&p->ethers, p->sessions.ether[i]);
	fw_sessions_remove(&p->sessions, i);
}

/* The table is full: end the session that will be missed least, if there is one.  The newcomer may be the
 * next to go, but has until then what its handshake needs. */
bool
fw_session_make_room(struct fw_batch *b)
{
	uint32_t i = fw_sessions_victim(&b->p->sessions);

	if (i == FW_SESSION_NONE)
		return false;
	pk_counter_add(&b->p->stats.sessions_evicted, 1);
	fw_session_end(b->p, i, b->now_ns, FW_DROP_SESSIONS_FULL);
	return true;
}

/* File the timer anew if the state's timeout ends before it would look.  Longer ones wait till then. */
static void
hasten(struct fw_path *p, uint32_t i, uint64_t now_ns)
{
	uint64_t due = now_ns + ((uint64_t)p->timeout[p->sessions.hot[i].state] << FW_SEEN_SHIFT);

	if (due + (UINT64_C(1) << FW_TIMER_SHIFT) < fw_timer_filed_ns(&p->sessions.timer, i))
		fw_timer_file(&p->sessions.timer, i, due);
}

/* A session has changed its state. */
void
fw_session_moved(struct fw_path *p, uint32_t i, unsigned int before, uint64_t now_ns)
{
	if (unlikely(p->counting) && fw_session_half_open(before) &&
	    !fw_session_half_open(p->sessions.hot[i].state))
		count_down(p, i, true, false);
	fw_sessions_moved(&p->sessions, i, before);
	hasten(p, i, now_ns);
}
