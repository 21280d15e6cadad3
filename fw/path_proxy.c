#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/path_priv.h"
#include "fw/tcp.h"

/*
 * The SYN proxy.  struct fw_proxy (fw/extra.h) draws the handshake; RFC 4987 section 3.6 and 3.7 are what it
 * follows.  Until the server has answered the client is held by a window of 0, so no data is sent that we
 * should have to keep or lose; it is opened with the server's ACK.
 */
#define OUR_SCALE 7 /* of the windows that the client sees, whichever the server chooses */
#define MTU       1500
#define AGAIN_NS \
	PK_NS_PER_S /* RFC 6298 section 2.1, without the doubling: the server is near or dead */
#define TRIES       5
#define OPTIONS_MAX 40

/* ---- segments of our own ---- */

static uint8_t *
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static uint8_t *
put32(uint8_t *p, uint32_t v)
{
	return put16(put16(p, v >> 16), v);
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
put_timestamps(struct fw_segment *s, uint32_t val, uint32_t ecr)
{
	uint8_t *o = s->options + s->options_len;

	memcpy(o, (uint8_t[]){ 1, 1, 8, 10 }, 4);
	(void)put32(put32(o + 4, val), ecr);
	s->options_len += 12;
}

/* Options of a SYN.  `scale` is -1 for none. */
static void
put_hello(struct fw_segment *s, uint16_t mss, bool sack, int scale)
{
	uint8_t *o = s->options + s->options_len;

	memcpy(o, (uint8_t[]){ 2, 4 }, 2);
	o = put16(o + 2, mss);
	if (sack) {
		memcpy(o, (uint8_t[]){ 1, 1, 4, 2 }, 4);
		o += 4;
	}
	if (scale >= 0) {
		memcpy(o, (uint8_t[]){ 1, 3, 3, (uint8_t)scale }, 4);
		o += 4;
	}
	s->options_len = (uint8_t)(o - s->options);
}

static struct fw_segment
hello_to_server(const struct fw_session *s, const struct fw_proxy *x)
{
	struct fw_segment out = {
		.seq = s->side[0].end - 1, .win = s->win[0], .flags = FW_TCP_SYN
	};

	put_hello(&out, x->mss, x->sack, x->scale);
	if (x->timestamps)
		put_timestamps(&out, x->ts_val, 0);
	return out;
}

static enum fw_side
other(enum fw_side side)
{
	return side == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
}

/* In the frame of pk: back to its sender, or on. */
static void
emit(struct fw_batch *b, const struct fw_pkt *pk, bool back, const struct fw_segment *s)
{
	fw_made_send(b, pk, fw_reject_segment(pk, b->p->conf.pool, back, s),
	    back ? b->from : other(b->from));
}

/* ---- the client's handshake ---- */

/* Cookies are on from so many half-open sessions, until they are half as many. */
static bool
cookies_on(struct fw_path *p)
{
	bool on = p->cookies.on ? p->half_open > p->cookies_at / 2 : p->half_open >= p->cookies_at;

	if (unlikely(on != p->cookies.on)) {
		p->cookies.on = on;
		pk_counter_add(&p->stats.syn_cookies_on, on ? 1 : -UINT64_C(1));
		pk_counter_add(&p->stats.syn_cookies_switched, on);
	}
	return on;
}

bool
fw_proxy_wants(struct fw_batch *b, const struct fw_pkt *pk, enum fw_drop limit)
{
	struct fw_path *p = b->p;

	if (p->cookies_at == 0 || pk->fragment ||
	    (pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST | FW_TCP_FIN)) != FW_TCP_SYN)
		return false;
	/* Who is attacked has reached its limit before the table is in need, and so has a source that somebody
	 * else uses the address of. */
	if (b->from == FW_OUTSIDE &&
	    (limit == FW_DROP_LIMIT_HALF_OPEN || limit == FW_DROP_TENANT_HALF_OPEN ||
	        limit == FW_DROP_SOURCE_HALF_OPEN))
		return true;
	return cookies_on(p) && limit == FW_DROP_NONE;
}

enum fw_drop
fw_proxy_answer(struct fw_batch *b, const struct fw_pkt *pk)
{
	struct fw_segment s = { .ack = pk->seq + 1, .flags = FW_TCP_SYN | FW_TCP_ACK };
	struct fw_hello h;
	struct fw_cookie c;

	if (!fw_hello_read(pk, &h))
		return FW_DROP_TCP_OPTIONS;
	c = fw_cookie_make(&b->p->cookies, pk, &h, b->now_ns);
	s.seq = c.seq;
	put_hello(&s, MTU - (pk->key.family == 4 ? 40 : 60), h.sack,
	    h.scale != FW_COOKIE_NO_SCALE ? OUR_SCALE : FW_COOKIE_NO_SCALE);
	if (h.timestamps)
		put_timestamps(&s, c.ts, h.ts_val);
	emit(b, pk, true, &s);
	pk_counter_add(&b->p->stats.syn_cookies_sent, 1);
	return FW_DROP_SYN_COOKIE;
}

bool
fw_proxy_accepts(const struct fw_batch *b, const struct fw_pkt *pk, struct fw_hello *h)
{
	return b->now_ns < b->p->cookies.used_ns && !pk->fragment &&
	    (pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST)) == FW_TCP_ACK &&
	    fw_cookie_check(&b->p->cookies, pk, h, b->now_ns);
}

bool
fw_proxy_begin(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, const struct fw_hello *h)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_extra *e = fw_extras_get(&p->extras, i);
	uint32_t win = (uint32_t)pk->win << (h->scale > 0 ? h->scale : 0);
	struct fw_segment out;

	if (e == NULL)
		return false;
	e->what |= FW_EXTRA_PROXY;
	p->sessions.cold[i].care |= FW_CARE_PROXY;
	e->proxy = (struct fw_proxy){
		.cookie = pk->ack - 1,
		.ts_val = h->ts_val,
		.ts_ecr = h->ts_ecr,
		.mss = h->mss,
		.win = pk->win,
		.scale = h->scale,
		.sack = h->sack,
		.timestamps = h->timestamps,
		.tries = 1,
	};
	/* As fw_tcp_open() of the SYN that the server gets. */
	s->state = FW_STATE_SYN_SENT;
	s->flags |= FW_SESSION_EXTRA | (h->scale != FW_COOKIE_NO_SCALE ? FW_SESSION_WSCALE : 0);
	s->scale = h->scale > 0 ? (uint8_t)h->scale : 0;
	s->side[0].end = pk->seq;
	s->side[0].ack = pk->seq - 1;
	s->win[0] = (uint16_t)RTE_MIN(win, (uint32_t)UINT16_MAX);
	out = hello_to_server(s, &e->proxy);
	emit(b, pk, false, &out);
	fw_extras_wait(&p->extras, e, b->now_ns + AGAIN_NS);
	pk_counter_add(&p->stats.syn_cookies_accepted, 1);
	return true;
}

/* ---- the server's handshake ---- */

static uint16_t
shift(uint16_t win, unsigned int left, unsigned int right)
{
	return (uint16_t)RTE_MIN((uint64_t)win << left >> right, (uint64_t)UINT16_MAX);
}

/* The server's SYN-ACK: from here on both ends speak with each other. */
static enum fw_drop
server_answers(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, struct fw_extra *e)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_proxy *x = &e->proxy;
	uint8_t before = s->state;
	struct fw_segment up = { .flags = FW_TCP_ACK }, down = { .flags = FW_TCP_ACK };
	struct fw_pkt like = { .tcp_flags = FW_TCP_ACK };
	struct fw_tcp_move mv;
	struct fw_hello h;
	enum fw_drop why;
	bool scaled;

	why = fw_tcp_step(s, pk, 1, &mv);
	if (why != FW_DROP_NONE)
		return why;
	(void)fw_hello_read(pk, &h); /* the step has found the options to be right */
	scaled = h.scale != FW_COOKIE_NO_SCALE && x->scale != FW_COOKIE_NO_SCALE;
	x->delta = pk->seq - x->cookie;
	x->ts_delta = h.ts_val - x->ts_ecr;
	x->timestamps &= h.timestamps;
	x->sack_off = x->sack && !h.sack;
	x->up_left = x->scale > 0 ? (uint8_t)x->scale : 0;
	x->up_right = scaled ? x->up_left : 0;
	x->down_left = scaled ? (uint8_t)h.scale : 0;
	x->down_right = x->scale != FW_COOKIE_NO_SCALE ? OUR_SCALE : 0;
	fw_extras_wait_no_more(&p->extras, e);

	like.seq = up.seq = s->side[0].end;
	like.ack = up.ack = pk->seq + 1;
	like.win = up.win = shift(x->win, x->up_left, x->up_right);
	(void)fw_tcp_step(s, &like, 0, &mv);
	down.seq = x->cookie + 1;
	down.ack = s->side[0].end;
	down.win = shift(pk->win, 0, x->down_right); /* the window of a SYN is not scaled */
	if (x->timestamps) {
		put_timestamps(&up, x->ts_val, h.ts_val);
		put_timestamps(&down, x->ts_ecr, x->ts_val);
	}
	s->seen = b->seen;
	fw_session_moved(p, i, before, b->now_ns);
	emit(b, pk, true, &up);
	emit(b, pk, false, &down);
	return FW_DROP_SYN_PROXY;
}

/* RFC 9293 section 3.5.1, figure 9: the server remembers an older connection, and asks.  Its client would send
 * a reset with the number asked about, and try again. */
static enum fw_drop
server_asks(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, struct fw_extra *e)
{
	struct fw_session *s = &b->p->sessions.hot[i];
	struct fw_segment reset = { .seq = pk->ack, .flags = FW_TCP_RST }, again;

	if (!fw_made_may(b))
		return FW_DROP_SYN_PROXY;
	emit(b, pk, true, &reset);
	again = hello_to_server(s, &e->proxy);
	emit(b, pk, true, &again);
	return FW_DROP_SYN_PROXY;
}

bool
fw_proxy_restarts(const struct fw_path *p, const struct fw_pkt *pk, uint32_t i, unsigned int d)
{
	const struct fw_extra *e = fw_extras_find(&p->extras, i);

	return e != NULL && e->proxy.waiting && d == 0 &&
	    (pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST)) == FW_TCP_SYN;
}

static enum fw_drop
enter_waiting(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e)
{
	uint8_t flags = pk->tcp_flags & (FW_TCP_SYN | FW_TCP_RST | FW_TCP_ACK);

	if ((flags & FW_TCP_RST) != 0)
		return FW_DROP_NONE; /* either side may give up: fw_tcp_step() looks at the number */
	if (d == 0)
		return flags == FW_TCP_SYN ? FW_DROP_NONE : FW_DROP_SYN_PROXY;
	if (flags == (FW_TCP_SYN | FW_TCP_ACK))
		return server_answers(b, pk, i, e);
	return flags == FW_TCP_ACK ? server_asks(b, pk, i, e) : FW_DROP_TCP_STATE;
}

enum fw_drop
fw_proxy_enter(
    struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e)
{
	struct fw_session *s = &b->p->sessions.hot[i];
	struct fw_proxy *x = &e->proxy;
	enum fw_drop why;

	if (x->waiting)
		return enter_waiting(b, pk, i, d, e);
	if (d == 0) {
		pk->ack += x->delta;
		if ((pk->tcp_flags & FW_TCP_SYN) == 0)
			pk->win = shift(pk->win, x->up_left, x->up_right);
		return FW_DROP_NONE;
	}
	if ((pk->tcp_flags & (FW_TCP_SYN | FW_TCP_ACK | FW_TCP_RST)) == (FW_TCP_SYN | FW_TCP_ACK)) {
		/* Our ACK got lost. */
		struct fw_segment up = { .seq = s->side[0].end,
			.ack = s->side[1].end,
			.win = s->win[0],
			.flags = FW_TCP_ACK };
		struct fw_hello h;

		why = fw_tcp_check(s, 1, pk->seq, pk->seq + 1, pk->ack);
		if (why != FW_DROP_NONE)
			return why;
		if (x->timestamps && fw_hello_read(pk, &h) && h.timestamps)
			put_timestamps(&up, x->ts_val, h.ts_val);
		if (fw_made_may(b))
			emit(b, pk, true, &up);
		return FW_DROP_SYN_PROXY;
	}
	return FW_DROP_NONE;
}

/* ---- translation ---- */

static void
translate_options(const struct fw_proxy *x, unsigned int d, uint8_t *o, const uint8_t *end)
{
	while (o < end && o[0] != 0) {
		uint8_t len = o[0] == 1 || end - o < 2 ? 1 : o[1];

		if (o[0] != 1 && (len < 2 || len > end - o))
			return; /* the receiver's affair, as ever */
		if (o[0] == 8 && len == 10 && x->timestamps) {
			if (d == 0)
				(void)put32(o + 6, get32(o + 6) + x->ts_delta);
			else
				(void)put32(o + 2, get32(o + 2) - x->ts_delta);
		} else if (o[0] == 5 && d == 0 && x->sack_off) {
			memset(o, 1, len);
		} else if (o[0] == 5 && d == 0) {
			for (unsigned int k = 2; k + 4 <= len; k += 4)
				(void)put32(o + k, get32(o + k) + x->delta);
		}
		o += len;
	}
}

void
fw_proxy_leave(
    struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e)
{
	struct fw_proxy *x = &e->proxy;
	uint8_t h[60], *o = h + 20;
	uint32_t len = RTE_MIN(pk->l4_len, sizeof(h)), was;
	uint16_t sum;

	if (x->waiting) {
		if (b->p->sessions.hot[i].state == FW_STATE_SYN_SENT)
			return;
		/* A reset.  The client's passes as it is; the server's has to be where the client is. */
		fw_extras_wait_no_more(&b->p->extras, e);
		x->delta = pk->seq - (x->cookie + 1);
		if (d == 0)
			return;
	}
	/* Of a SYN nothing is ours: the server answers that it is in the middle of a connection. */
	if (len < 20 || (pk->tcp_flags & FW_TCP_SYN) != 0)
		return;
	memcpy(h, pk->data + pk->l4, len);
	was = fw_sum(h, len, 0);
	if (d == 0) {
		if ((pk->tcp_flags & FW_TCP_ACK) != 0)
			(void)put32(h + 8, get32(h + 8) + x->delta);
		(void)put16(h + 14, shift((uint16_t)(h[14] << 8 | h[15]), x->up_left, x->up_right));
	} else {
		(void)put32(h + 4, get32(h + 4) - x->delta);
		(void)put16(
		    h + 14, shift((uint16_t)(h[14] << 8 | h[15]), x->down_left, x->down_right));
	}
	translate_options(x, d, o, h + len);
	/* A port that computes the sum wants that of the pseudo-header there, which has not changed. */
	if ((pk->m->ol_flags & (RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG)) == 0) {
		memcpy(&sum, h + 16, 2);
		sum = fw_sum_adjust(sum, was, fw_sum(h, len, 0));
		memcpy(h + 16, &sum, 2);
	}
	fw_overwrite(pk->m, pk->l4, h, len);
}

void
fw_proxy_error_enter(struct fw_pkt *pk, unsigned int d, const struct fw_extra *e)
{
	if (d == 1 && !e->proxy.waiting)
		pk->seq += e->proxy.delta;
}

/* The segment that an error quotes is to be found by the server: its number again, and the sum over both. */
void
fw_proxy_error_leave(struct fw_pkt *pk, unsigned int d, const struct fw_extra *e)
{
	const uint8_t *ip = pk->data + pk->inner;
	uint32_t at = pk->inner + (pk->key.family == 4 ? (ip[0] & 15u) * 4 : 40);
	uint8_t seq[4];
	uint16_t sum;

	/* Behind extension headers the number stays as it is, and the server will not know it. */
	if (d == 0 || e->proxy.waiting || (pk->key.family == 6 && ip[6] != IPPROTO_TCP) ||
	    at + 8 > pk->contiguous)
		return;
	(void)put32(seq, pk->seq);
	memcpy(&sum, pk->data + pk->l4 + 2, 2);
	sum = fw_sum_adjust(sum, fw_sum(pk->data + at + 4, 4, 0), fw_sum(seq, 4, 0));
	fw_overwrite(pk->m, at + 4, seq, 4);
	fw_overwrite(pk->m, pk->l4 + 2u, (const uint8_t *)&sum, 2);
}

uint32_t
fw_proxy_shown(const struct fw_path *p, uint32_t i)
{
	const struct fw_session *s = &p->sessions.hot[i];
	const struct fw_extra *e = NULL;

	if (unlikely((s->flags & FW_SESSION_EXTRA) != 0))
		e = fw_extras_find(&p->extras, i);
	if (likely(e == NULL || (e->what & FW_EXTRA_PROXY) == 0))
		return s->side[1].end;
	return e->proxy.waiting ? e->proxy.cookie + 1 : s->side[1].end - e->proxy.delta;
}

/* ---- servers that do not answer ---- */

void
fw_proxy_tick(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns, unsigned int budget,
    struct fw_made *made)
{
	struct fw_extras *t = &p->extras;
	struct fw_batch b = {
		.p = p,
		.rules = rules,
		.now_ns = now_ns,
		.generation = rules != NULL ? fw_rules_generation(rules) : 0,
		.seen = fw_units(now_ns),
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
	};

	(void)cookies_on(p);
	for (; budget > 0 && t->oldest != 0; budget--) {
		struct fw_extra *e = &t->extra[t->oldest];
		uint32_t i = e->session;
		struct fw_session *s = &p->sessions.hot[i];
		bool last = e->proxy.tries == TRIES;
		struct fw_segment out = hello_to_server(s, &e->proxy);

		if (e->proxy.again_ns > now_ns || (made != NULL && made->nb == FW_MADE_MAX))
			return;
		b.from = fw_session_origin(s);
		b.wire = s->key.wire;
		if (last)
			out = (struct fw_segment){ .seq = e->proxy.cookie + 1,
				.ack = s->side[0].end,
				.flags = FW_TCP_RST | FW_TCP_ACK };
		if (made != NULL)
			fw_made_add(&b, made, i, last, &out, last ? b.from : other(b.from));
		if (last) {
			pk_counter_add(&p->stats.sessions_expired, 1);
			fw_session_end(p, i, now_ns, FW_DROP_NONE);
		} else {
			e->proxy.tries++;
			fw_extras_wait(t, e, now_ns + AGAIN_NS);
		}
	}
}
