#pragma once

#include "fw/session.h"

/*
 * TCP as seen from the middle.
 *
 * Two things are kept per connection: where each side stands in opening and closing (a table, in
 * tcp.c), and what sequence numbers each side may use.  For the latter there are, per side, `end`,
 * `ack` and the greatest window `win`, as Guido van Rooij described in "Real stateful TCP packet
 * filtering in IP Filter" (2000).  A segment [seq, seq+len) with acknowledgement `ack` from side S to
 * side P is in order when
 *
 *      I    seq + len <= P.ack + P.win     not beyond the window P has opened
 *      II   seq       >= S.end - P.win     not older than a window, so that retransmits pass
 *      III  ack       <= P.end             nothing acknowledged that P has not sent
 *      IV   ack       >= S.ack - S.win     RFC 5961 section 5: no acknowledgement long past
 *
 * RFC 9293 section 3.10.7.4 asks the same of an end host, which knows more; whatever it would accept,
 * we let pass.
 */
enum fw_tcp_event {
	FW_TCP_EV_SYN = 0,
	FW_TCP_EV_SYNACK,
	FW_TCP_EV_ACK,     /* data or not */
	FW_TCP_EV_ACK_FIN, /* and acknowledges the other side's FIN */
	FW_TCP_EV_FIN,
	FW_TCP_EV_FIN_ACK_FIN, /* FIN, and acknowledges the other side's FIN */
	FW_TCP_EV_RST,         /* with exactly the expected number: it will be believed */
	FW_TCP_EV_COUNT,
};

const char *fw_tcp_event_name(unsigned int event); /* "syn", "fin+ack-fin" */

/*
 * The table: next state, for the forward (0) or reverse (1) side's event.  FW_STATE_NONE means that
 * the packet is refused.
 */
extern const uint8_t fw_tcp_next[FW_STATE_TCP_COUNT][2][FW_TCP_EV_COUNT];

/* What one packet did. */
struct fw_tcp_move {
	uint8_t old, new; /* enum fw_state */
	uint8_t event;    /* enum fw_tcp_event; FW_TCP_EV_COUNT when it was none */
	bool counts;      /* it was part of the connection, so the idle time begins anew */
};

/*
 * Begin: the session was created for `pk`, a SYN, or with `loose` any segment but RST of a connection
 * under way.  Sets state and windows.  Returns FW_DROP_NONE or why not; the session is unchanged then.
 * Context: the owning lcore.
 */
enum fw_drop fw_tcp_open(struct fw_session *s, const struct fw_pkt *pk, bool loose);

/*
 * A further packet, from side d (0: forward).  Moves the session, reports in *mv, and says whether the
 * packet passes.  A refused packet changes nothing.
 * Context: the owning lcore.
 */
enum fw_drop fw_tcp_step(
    struct fw_session *s, const struct fw_pkt *pk, unsigned int d, struct fw_tcp_move *mv);

/* Whether `pk`, a SYN, begins a new connection on the ports of `s`, which has closed.  RFC 9293
 * section 3.10.7.4 (TIME-WAIT) and 3.6.1; after a reset any SYN may. */
bool fw_tcp_reopens(const struct fw_session *s, const struct fw_pkt *pk, unsigned int d);

/* Whether the embedded segment of an ICMP error about data from side d is in flight: SND.UNA <= seq <
 * SND.NXT, RFC 5927 section 4.1. */
bool fw_tcp_in_flight(const struct fw_session *s, uint32_t seq, unsigned int d);

/* Modulo 2^32, as RFC 9293 section 3.4 compares. */
static __rte_always_inline bool
fw_seq_ge(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) >= 0;
}

static __rte_always_inline uint32_t
fw_tcp_win(const struct fw_session *s, unsigned int d)
{
	return (uint32_t)s->win[d] << (s->scale >> 4 * d & 15);
}

/* Whether a further piece of a segment from side d, up to `end`, is within the window: condition I. */
static inline bool
fw_tcp_fits(const struct fw_session *s, unsigned int d, uint32_t end)
{
	uint32_t theirs = fw_tcp_win(s, d ^ 1);

	/* Before both have spoken there is no window, and data in a SYN is not sent in pieces. */
	return (s->flags & FW_SESSION_SYN_R) != 0 &&
	    fw_seq_ge(s->side[d ^ 1].ack + theirs + (theirs == 0), end);
}

/* The four conditions above, for [seq, end) and ack. */
static __rte_always_inline enum fw_drop
fw_tcp_check(const struct fw_session *s, unsigned int d, uint32_t seq, uint32_t end, uint32_t ack)
{
	const struct fw_tcp_side *me = &s->side[d], *peer = &s->side[d ^ 1];
	uint32_t mine = fw_tcp_win(s, d), theirs = fw_tcp_win(s, d ^ 1), window, acks;

	/* A window of 0 is probed with one byte (RFC 9293 section 3.8.6.1), and keep-alives lie one byte
	 * back (RFC 9293 section 3.8.4). */
	theirs += theirs == 0;
	/* A difference is negative when the comparison fails: four signs, one branch. */
	window = (peer->ack + theirs - end) | (seq - (me->end - theirs));
	acks = (peer->end - ack) | (ack - (me->ack - mine));
	if (likely((int32_t)(window | acks) >= 0))
		return FW_DROP_NONE;
	return (int32_t)window < 0 ? FW_DROP_TCP_WINDOW : FW_DROP_TCP_ACK;
}

/* Write down what a segment in order has shown. */
static __rte_always_inline void
fw_tcp_advance(struct fw_session *s, unsigned int d, uint32_t end, uint32_t ack, uint16_t win)
{
	struct fw_tcp_side *me = &s->side[d];
	uint32_t was_end = me->end, was_ack = me->ack;
	uint16_t was_win = s->win[d];

	me->end = fw_seq_ge(end, was_end) ? end : was_end;
	me->ack = fw_seq_ge(ack, was_ack) ? ack : was_ack;
	s->win[d] = win > was_win ? win : was_win;
}

#define FW_TCP_PLAIN_MASK (FW_TCP_SYN | FW_TCP_FIN | FW_TCP_RST | FW_TCP_ACK)
#define FW_TCP_PLAIN      FW_TCP_ACK /* data or ACK, of which nearly all there is consists */

/*
 * A plain segment of a session in FW_STATE_ESTABLISHED: as fw_tcp_step(), which it is the short form of.
 * False: not in order, and nothing has been changed; fw_tcp_step() will say why.
 */
static __rte_always_inline bool
fw_tcp_plain(struct fw_session *s, const struct fw_pkt *pk, unsigned int d)
{
	uint32_t end = pk->seq + pk->payload;

	if (unlikely(fw_tcp_check(s, d, pk->seq, end, pk->ack) != FW_DROP_NONE))
		return false;
	fw_tcp_advance(s, d, end, pk->ack, pk->win);
	return true;
}
