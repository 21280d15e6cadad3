#include "fw/tcp.h"

#include <rte_common.h>

static const char *const event_names[FW_TCP_EV_COUNT] = {
	[FW_TCP_EV_SYN] = "syn",
	[FW_TCP_EV_SYNACK] = "syn-ack",
	[FW_TCP_EV_ACK] = "ack",
	[FW_TCP_EV_ACK_FIN] = "ack-fin",
	[FW_TCP_EV_FIN] = "fin",
	[FW_TCP_EV_FIN_ACK_FIN] = "fin+ack-fin",
	[FW_TCP_EV_RST] = "rst",
};

const char *
fw_tcp_event_name(unsigned int event)
{
	return event < FW_TCP_EV_COUNT ? event_names[event] : "none";
}

/* clang-format off */
#define __ FW_STATE_NONE        /* refused */
#define SS FW_STATE_SYN_SENT
#define SB FW_STATE_SYN_BOTH
#define BF FW_STATE_SYN_BOTH_F
#define BR FW_STATE_SYN_BOTH_R
#define SR FW_STATE_SYN_RECV
#define ES FW_STATE_ESTABLISHED
#define FF FW_STATE_FIN_F
#define FR FW_STATE_FIN_R
#define HF FW_STATE_HALF_F
#define HR FW_STATE_HALF_R
#define CL FW_STATE_CLOSING
#define LF FW_STATE_LAST_F
#define LR FW_STATE_LAST_R
#define TW FW_STATE_TIME_WAIT
#define CD FW_STATE_CLOSED

/*
 * RFC 9293 section 3.3.2 (figure 5) for both ends at once, and 3.5, 3.6 for the ways through it.  A
 * SYN in a synchronised state passes and changes nothing: the receiver answers it with a challenge
 * ACK, whatever its number (RFC 5961 section 4), and so a rebooted client finds out.  The reverse side
 * may only repeat a SYN it has had reason to send.
 *
 * In SYN_SENT an ACK of the reverse side is such a challenge, about a connection it still remembers.
 * In SYN_RECV the reverse side may already send data (RFC 7413) and even close.
 */
const uint8_t fw_tcp_next[FW_STATE_TCP_COUNT][2][FW_TCP_EV_COUNT] = {
	/*                    syn synack ack ackfin fin finack rst */
	[FW_STATE_NONE]        = { { SS, __, __, __, __, __, __ },
	                           { __, __, __, __, __, __, __ } },
	[FW_STATE_SYN_SENT]    = { { SS, __, __, __, __, __, CD },
	                           { SB, SR, SS, __, __, __, CD } },
	[FW_STATE_SYN_BOTH]    = { { SB, BR, __, __, __, __, CD },
	                           { SB, BF, __, __, __, __, CD } },
	[FW_STATE_SYN_BOTH_F]  = { { BF, ES, ES, __, FF, __, CD },
	                           { BF, BF, BF, __, FR, __, CD } },
	[FW_STATE_SYN_BOTH_R]  = { { BR, BR, BR, __, FF, __, CD },
	                           { BR, ES, ES, __, FR, __, CD } },
	[FW_STATE_SYN_RECV]    = { { SR, __, ES, __, FF, __, CD },
	                           { __, SR, SR, __, FR, __, CD } },
	[FW_STATE_ESTABLISHED] = { { ES, ES, ES, __, FF, __, CD },
	                           { __, ES, ES, __, FR, __, CD } },
	[FW_STATE_FIN_F]       = { { FF, __, FF, __, FF, __, CD },
	                           { __, FF, FF, HF, CL, LR, CD } },
	[FW_STATE_FIN_R]       = { { FR, __, FR, HR, CL, LF, CD },
	                           { __, FR, FR, __, FR, __, CD } },
	[FW_STATE_HALF_F]      = { { HF, __, HF, __, HF, __, CD },
	                           { __, HF, HF, HF, LR, LR, CD } },
	[FW_STATE_HALF_R]      = { { HR, __, HR, HR, LF, LF, CD },
	                           { __, __, HR, __, HR, __, CD } },
	[FW_STATE_CLOSING]     = { { CL, __, CL, LF, CL, LF, CD },
	                           { __, __, CL, LR, CL, LR, CD } },
	[FW_STATE_LAST_F]      = { { LF, __, LF, LF, LF, LF, CD },
	                           { __, __, LF, TW, LF, TW, CD } },
	[FW_STATE_LAST_R]      = { { LR, __, LR, TW, LR, TW, CD },
	                           { __, __, LR, LR, LR, LR, CD } },
	/* RFC 1337: a reset does not cut TIME_WAIT short. */
	[FW_STATE_TIME_WAIT]   = { { TW, __, TW, TW, TW, TW, TW },
	                           { __, __, TW, TW, TW, TW, TW } },
	/* What is still under way may arrive, and the reset be repeated. */
	[FW_STATE_CLOSED]      = { { __, __, CD, CD, CD, CD, CD },
	                           { __, __, CD, CD, CD, CD, CD } },
};
#undef __
/* clang-format on */

/* States in which a side has sent its FIN. */
static const uint32_t fin_sent[2] = {
	1u << FF | 1u << HF | 1u << CL | 1u << LF | 1u << LR | 1u << TW,
	1u << FR | 1u << HR | 1u << CL | 1u << LF | 1u << LR | 1u << TW,
};

/* Both sides' numbers are known. */
static bool
synchronised(const struct fw_session *s)
{
	return s->state >= FW_STATE_SYN_BOTH_F;
}

/*
 * Find the window scale option of a SYN.  Returns the shift, -1 if there is none, or -2 if options
 * run over the end of the header.  RFC 7323 section 2.3: more than 14 means 14.
 */
static int
window_scale(const struct fw_pkt *pk)
{
	const uint8_t *o = pk->data + pk->l4 + 20, *end = pk->data + pk->l4 + pk->l4_len;
	int found = -1;

	while (o < end && o[0] != 0) {
		if (o[0] == 1) {
			o++;
			continue;
		}
		if (end - o < 2 || o[1] < 2 || o[1] > end - o)
			return -2;
		if (o[0] == 3 && o[1] == 3)
			found = RTE_MIN(o[2], 14);
		o += o[1];
	}
	return found;
}

static uint32_t
segment_end(const struct fw_pkt *pk)
{
	return pk->seq + pk->payload + ((pk->tcp_flags & FW_TCP_SYN) != 0) +
	    ((pk->tcp_flags & FW_TCP_FIN) != 0);
}

/* Taken over from a data plane that does not tell numbers (docs/session-records.md): picked up in mid-stream, and
 * neither side's are known. */
static bool
unlearned(const struct fw_session *s)
{
	return s->state >= FW_STATE_ESTABLISHED &&
	    (s->flags & (FW_SESSION_LOOSE | FW_SESSION_SYN_R)) == FW_SESSION_LOOSE;
}

/* They are what the first segment says.  Its sender's greatest window is not known, so it is the greatest there is. */
static void
learn(struct fw_session *s, const struct fw_pkt *pk, unsigned int d)
{
	s->side[d].end = segment_end(pk);
	s->side[d].ack = pk->ack;
	s->side[d ^ 1].end = pk->ack;
	s->side[d ^ 1].ack = pk->seq;
	s->win[0] = s->win[1] = UINT16_MAX;
	s->flags |= FW_SESSION_SYN_R;
}

enum fw_drop
fw_tcp_open(struct fw_session *s, const struct fw_pkt *pk, bool loose)
{
	int shift;

	if ((pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST)) == FW_TCP_SYN) {
		shift = window_scale(pk);
		if (shift == -2)
			return FW_DROP_TCP_OPTIONS;
		s->state = fw_tcp_next[FW_STATE_NONE][0][FW_TCP_EV_SYN];
		s->side[0].end = segment_end(pk);
		s->side[0].ack =
		    pk->seq; /* until there is something to acknowledge: where the SYN stands */
		s->win[0] = pk->win;
		s->scale = shift > 0 ? (uint8_t)shift : 0;
		if (shift >= 0)
			s->flags |= FW_SESSION_WSCALE;
		return FW_DROP_NONE;
	}
	if (!loose || (pk->tcp_flags & (FW_TCP_SYN | FW_TCP_RST)) != 0)
		return FW_DROP_TCP_NO_SESSION;
	/* In mid-stream nobody can know the scales, so the widest are assumed, and a full window. */
	s->state = (pk->tcp_flags & FW_TCP_FIN) != 0 ? FW_STATE_FIN_F : FW_STATE_ESTABLISHED;
	s->flags |= FW_SESSION_LOOSE;
	/* The greatest window TCP has is 2^30 (RFC 7323 section 2.3): anything more would let every
	 * number compare as inside. */
	s->scale = 14 << 4 | 14;
	learn(s, pk, 0);
	return FW_DROP_NONE;
}

bool
fw_tcp_reopens(const struct fw_session *s, const struct fw_pkt *pk, unsigned int d)
{
	if ((pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK)) != FW_TCP_SYN)
		return false;
	if (s->state == FW_STATE_CLOSED)
		return true;
	return s->state == FW_STATE_TIME_WAIT && !fw_seq_ge(s->side[d].end, pk->seq + 1);
}

bool
fw_tcp_in_flight(const struct fw_session *s, uint32_t seq, unsigned int d)
{
	uint32_t una = s->side[d ^ 1].ack, nxt = s->side[d].end;

	if (d == 1 && (s->flags & FW_SESSION_SYN_R) == 0)
		return false; /* the reverse side has sent nothing yet */
	if (s->state == FW_STATE_SYN_SENT)
		una = s->side[0].ack;
	else if (d == 1 && s->state <= FW_STATE_SYN_RECV)
		una--; /* the SYN itself */
	return fw_seq_ge(seq, una) && !fw_seq_ge(seq, nxt);
}

/*
 * A reset.  RFC 5961 section 3: the receiver believes it when the number is exactly the next it
 * expects; that is the other side's last acknowledgement, or, when that has not caught up, the end of
 * what was sent.  In the window but not exact, it answers with a challenge ACK, so both have to pass
 * and nothing has closed yet.
 */
static enum fw_drop
reset(struct fw_session *s, const struct fw_pkt *pk, unsigned int d, bool *exact)
{
	const struct fw_tcp_side *me = &s->side[d], *peer = &s->side[d ^ 1];
	uint32_t theirs;

	*exact = true;
	if (d == 1 && (s->flags & FW_SESSION_SYN_R) == 0) {
		/* RFC 9293 section 3.10.7.3: in SYN-SENT it has to acknowledge the SYN. */
		if ((pk->tcp_flags & FW_TCP_ACK) != 0 && pk->ack == peer->end)
			return FW_DROP_NONE;
		return FW_DROP_TCP_RST;
	}
	if (d == 0 && s->state == FW_STATE_SYN_SENT) {
		if (pk->seq == me->end)
			return FW_DROP_NONE;
		/* The answer to a challenge carries the number of the old connection (RFC 9293 figure 9).
		 * It ends that one; the SYN will be repeated. */
		*exact = false;
		if ((s->flags & FW_SESSION_CHALLENGED) != 0 && pk->seq == peer->ack)
			return FW_DROP_NONE;
		return FW_DROP_TCP_RST;
	}
	if (pk->seq == me->end || (synchronised(s) && pk->seq == peer->ack))
		return FW_DROP_NONE;
	*exact = false;
	theirs = fw_tcp_win(s, d ^ 1);
	theirs += theirs == 0;
	if (synchronised(s) && fw_seq_ge(pk->seq, peer->ack) &&
	    !fw_seq_ge(pk->seq, peer->ack + theirs))
		return FW_DROP_NONE;
	return FW_DROP_TCP_RST;
}

/* The second SYN of a connection: now both have said whether they scale (RFC 7323 section 2.2). */
static enum fw_drop
second_syn(struct fw_session *s, const struct fw_pkt *pk)
{
	int shift = window_scale(pk);
	unsigned int f = s->scale & 15;

	if (shift == -2)
		return FW_DROP_TCP_OPTIONS;
	s->win[1] = pk->win;
	if ((s->flags & FW_SESSION_WSCALE) != 0 && shift >= 0) {
		/* Windows in SYNs are not scaled; from here on they count in their shifts, rounded up. */
		s->scale = (uint8_t)(shift << 4 | (int)f);
		s->win[0] = (uint16_t)((s->win[0] + (1u << f) - 1) >> f);
		s->win[1] = (uint16_t)((s->win[1] + (1u << shift) - 1) >> shift);
	} else {
		s->scale = 0;
	}
	s->flags |= FW_SESSION_SYN_R;
	s->side[1].end = segment_end(pk);
	/* A SYN without ACK has seen nothing of the other side's. */
	s->side[1].ack = (pk->tcp_flags & FW_TCP_ACK) != 0 ? pk->ack : s->side[0].ack;
	s->side[0].ack = pk->seq + 1;
	return FW_DROP_NONE;
}

/* Before both sides' numbers are known. */
static enum fw_drop
step_opening(struct fw_session *s, const struct fw_pkt *pk, unsigned int d, enum fw_tcp_event ev)
{
	const struct fw_tcp_side *peer = &s->side[d ^ 1];
	uint32_t end = segment_end(pk);

	if (ev == FW_TCP_EV_SYN && d == 0) {
		if (end == s->side[0].end)
			return FW_DROP_NONE;
		if (s->state != FW_STATE_SYN_SENT)
			return FW_DROP_TCP_WINDOW;
		/* It has given up the first attempt and begins another from the same port. */
		if (window_scale(pk) == -2)
			return FW_DROP_TCP_OPTIONS;
		s->flags &= (uint8_t) ~(FW_SESSION_WSCALE | FW_SESSION_CHALLENGED);
		return fw_tcp_open(s, pk, false);
	}
	if (s->state == FW_STATE_SYN_SENT && ev == FW_TCP_EV_ACK) {
		/* A challenge.  Its numbers are another connection's; only what the reset that answers it
		 * will carry is kept. */
		s->side[1].ack = pk->ack;
		s->flags |= FW_SESSION_CHALLENGED;
		return FW_DROP_NONE;
	}
	/* RFC 9293 section 3.10.7.3: SYN-ACK acknowledges the SYN, with its data or without. */
	if (ev == FW_TCP_EV_SYNACK && !fw_seq_ge(peer->end, pk->ack))
		return FW_DROP_TCP_ACK;
	if (ev == FW_TCP_EV_SYNACK && s->state == FW_STATE_SYN_SENT &&
	    fw_seq_ge(s->side[0].ack, pk->ack))
		return FW_DROP_TCP_ACK;
	if (s->state == FW_STATE_SYN_SENT)
		return second_syn(s, pk);
	/* Simultaneous open: the SYN is repeated, with ACK or without. */
	if (end != s->side[d].end)
		return FW_DROP_TCP_WINDOW;
	if (ev == FW_TCP_EV_SYNACK) {
		if (pk->ack != peer->end)
			return FW_DROP_TCP_ACK;
		s->side[d].ack = pk->ack;
		/* The other side has sent its SYN only, and expects no more than this one's. */
		if (d == 0)
			s->side[1].ack = s->side[0].end;
		else
			s->side[0].ack = s->side[1].end;
	}
	return FW_DROP_NONE;
}

enum fw_drop
fw_tcp_step(struct fw_session *s, const struct fw_pkt *pk, unsigned int d, struct fw_tcp_move *mv)
{
	uint8_t flags = pk->tcp_flags, next;
	uint32_t end = segment_end(pk);
	bool acks_fin, exact;
	enum fw_tcp_event ev;
	enum fw_drop why;

	mv->old = mv->new = s->state;
	mv->event = FW_TCP_EV_COUNT;
	mv->counts = false;

	if (unlikely(unlearned(s))) {
		/* A SYN is answered and changes nothing; a RST anybody could send. */
		if ((flags & FW_TCP_RST) != 0)
			return FW_DROP_TCP_RST;
		if ((flags & FW_TCP_SYN) == 0)
			learn(s, pk, d);
		else if ((flags & FW_TCP_ACK) != 0)
			return FW_DROP_TCP_WINDOW;
	}
	if ((flags & FW_TCP_RST) != 0) {
		why = reset(s, pk, d, &exact);
		if (why != FW_DROP_NONE || !exact)
			return why;
		mv->event = FW_TCP_EV_RST;
		mv->new = s->state = fw_tcp_next[s->state][d][FW_TCP_EV_RST];
		return FW_DROP_NONE;
	}

	acks_fin = (fin_sent[d ^ 1] >> s->state & 1) != 0 && pk->ack == s->side[d ^ 1].end;
	if ((flags & FW_TCP_SYN) != 0)
		ev = (flags & FW_TCP_ACK) != 0 ? FW_TCP_EV_SYNACK : FW_TCP_EV_SYN;
	else if ((flags & FW_TCP_FIN) != 0)
		ev = acks_fin ? FW_TCP_EV_FIN_ACK_FIN : FW_TCP_EV_FIN;
	else
		ev = acks_fin ? FW_TCP_EV_ACK_FIN : FW_TCP_EV_ACK;
	next = fw_tcp_next[s->state][d][ev];
	/* An attempt that was refused: the other side has no numbers, against which anything might seem in order. */
	if (next == FW_STATE_NONE ||
	    (s->state == FW_STATE_CLOSED && (s->flags & FW_SESSION_SYN_R) == 0))
		return FW_DROP_TCP_STATE;

	if (!synchronised(s)) {
		why = step_opening(s, pk, d, ev);
	} else if (ev == FW_TCP_EV_SYN) {
		/* RFC 5961 section 4: answered with a challenge ACK whatever its number. */
		return FW_DROP_NONE;
	} else {
		why = fw_tcp_check(s, d, pk->seq, end, pk->ack);
		if (why == FW_DROP_NONE && ev == FW_TCP_EV_SYNACK) {
			/* Only the one there was, once more: its numbers are known, its window unscaled. */
			if (next == s->state)
				goto moved;
			fw_tcp_advance(s, d, end, pk->ack, 0);
		} else if (why == FW_DROP_NONE) {
			fw_tcp_advance(s, d, end, pk->ack, pk->win);
		}
	}
	if (why != FW_DROP_NONE)
		return why;
moved:
	mv->event = ev;
	mv->new = s->state = next;
	mv->counts = true;
	return FW_DROP_NONE;
}
