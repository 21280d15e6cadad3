#include "fw/path_priv.h"

static bool
tcp_half_open(unsigned int state)
{
	return state >= FW_STATE_SYN_SENT && state <= FW_STATE_SYN_RECV;
}

void
fw_session_held(struct fw_path *p, uint32_t i, uint32_t tenant, uint64_t now_ns)
{
	p->half_open += tcp_half_open(p->sessions.hot[i].state);
	if (unlikely(p->counting))
		fw_limits_add(p, i, tenant, now_ns);
}

bool
fw_session_hold(struct fw_path *p, uint32_t i, uint32_t tenant)
{
	if (p->counting && !fw_limits_room(p, i, tenant))
		return false;
	fw_session_held(p, i, tenant, 0);
	return true;
}

void
fw_session_end(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	fw_trace_closed(p, i, now_ns, why);
	fw_watch_forget(p, i, now_ns);
	if (unlikely(fw_inspect_wants(p, i)))
		fw_inspect_forget(p, i);
	p->half_open -= tcp_half_open(p->sessions.hot[i].state);
	if (unlikely((p->sessions.hot[i].flags & FW_SESSION_EXTRA) != 0))
		fw_extras_drop(&p->extras, i);
	if (unlikely(p->counting))
		fw_limits_drop(p, i, fw_session_half_open(p->sessions.hot[i].state), true);
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
	p->half_open -= tcp_half_open(before) && !tcp_half_open(p->sessions.hot[i].state);
	if (unlikely(p->counting) && fw_session_half_open(before) &&
	    !fw_session_half_open(p->sessions.hot[i].state))
		fw_limits_drop(p, i, true, false);
	fw_sessions_moved(&p->sessions, i, before);
	hasten(p, i, now_ns);
}
