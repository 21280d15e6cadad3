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

/* Whatever there is of a session outside of the table goes. */
static __rte_always_inline void
leave(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
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
	fw_protect_end(p, i);
	fw_ethers_put(&p->ethers, p->sessions.ether[i]);
}

void
fw_session_end(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why)
{
	leave(p, i, now_ns, why);
	fw_sessions_remove(&p->sessions, i);
}

/* Whether a session of these flags has nothing outside of the table but its link header and the count of half-open
 * ones, on a path that is `plain`: without limits, IPsec, signatures, and a trace of everything. */
#define NOT_PLAIN (FW_SESSION_EXTRA | FW_SESSION_LOG_END)

static bool
path_is_plain(const struct fw_path *p)
{
	return !p->counting && p->watching == NULL && p->tunnel == NULL &&
	    (p->conf.trace == NULL || fw_trace_level(p->conf.trace) != FW_TRACE_ALL);
}

void
fw_sessions_expire(struct fw_path *p, const uint32_t *due, unsigned int n, uint64_t now_ns)
{
	struct fw_sessions *t = &p->sessions;
	const bool plain = path_is_plain(p);
	uint32_t over[FW_REMOVE_BURST], now = fw_units(now_ns);
	unsigned int nb_over = 0, nb_ended = 0;

	PK_ASSERT(n <= FW_REMOVE_BURST);
	for (unsigned int k = 0; k < n; k++) {
		uint32_t i = due[k];
		const struct fw_session *s = &t->hot[i];
		uint32_t idle = now - s->seen, timeout = p->timeout[s->state];

		/* When many come up at once, those of the next call lie just behind these. */
		rte_prefetch0(s + FW_REMOVE_BURST);
		if (idle < timeout) {
			fw_timer_file(
			    &t->timer, i, now_ns + ((uint64_t)(timeout - idle) << FW_SEEN_SHIFT));
			continue;
		}
		nb_ended += s->state == FW_STATE_TIME_WAIT || s->state == FW_STATE_CLOSED;
		if (likely(plain && (s->flags & NOT_PLAIN) == 0)) {
			p->half_open -= tcp_half_open(s->state);
			fw_ethers_put(&p->ethers, t->ether[i]);
		} else {
			leave(p, i, now_ns, FW_DROP_NONE);
		}
		over[nb_over++] = i;
	}
	fw_sessions_remove_burst(t, over, nb_over);
	pk_counter_add(&p->stats.sessions_ended, nb_ended);
	pk_counter_add(&p->stats.sessions_expired, nb_over - nb_ended);
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
