/*
 * The whole path against a model of what a session is, on random packets.
 *
 * The model is made to be checked by reading and not to be fast: it keeps for each side of a connection what that
 * side has said, in bytes, and answers from it.  It has no table of states, no hash, no burst and no timer, and
 * shares no line with fw/.  What it holds true stands beside each rule.
 *
 *   fw_model_test [PACKETS [SEED]]      200,000 packets, unless told otherwise; MODEL_PACKETS does the same
 *
 * Packets are of connections over both families that roughly follow the rules, with numbers around the edges of
 * windows; resets; repeated and misplaced SYNs; ICMP errors; UDP in fragments that come twice, overlap or stray.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define NB_CONNS    48
#define NB_GRAMS    24
#define GRAM_UNITS  12 /* of eight bytes */
#define ALL_IS_OVER (UINT64_C(3) * 24 * 3600 * PK_NS_PER_S)
#define ERA         4000 /* bursts; then all of it times out */

static uint64_t nb_packets = 200000, seed = 88172645463325252u, rng;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

static bool
one_in(uint32_t n)
{
	return rnd(n) == 0;
}

/* ---- the model: TCP ---- */

/* What one side has said. */
struct half {
	bool syn, fin, fin_acked;
	uint32_t isn, end; /* end: one past the highest number */
	uint32_t ack;      /* highest; before the first, what it has to be */
	uint32_t win;      /* greatest offered, bytes */
	int shift;         /* offered; -1: none */
};

struct conn {
	bool alive, reset, challenged, acked; /* acked: the opener has answered the SYN-ACK */
	uint32_t challenge;
	struct half half[2]; /* the opener, the other */
};

struct segment {
	unsigned int d; /* 0: from the opener */
	uint8_t flags;
	uint32_t seq, ack;
	uint16_t win, payload;
	int shift;
};

/* a is at or behind b (RFC 9293 section 3.4). */
static bool
after(uint32_t a, uint32_t b)
{
	return a - b < UINT32_C(1) << 31;
}

static uint32_t
last_byte(const struct segment *g)
{
	return g->seq + g->payload + ((g->flags & FW_TCP_SYN) != 0) +
	    ((g->flags & FW_TCP_FIN) != 0);
}

static void
conn_open(struct conn *c, const struct segment *g)
{
	*c = (struct conn){ .alive = true };
	c->half[0] = (struct half){ .syn = true,
		.isn = g->seq,
		.end = last_byte(g),
		.ack = g->seq,
		.win = g->win,
		.shift = g->shift };
}

static bool
time_wait(const struct conn *c)
{
	return !c->reset && c->half[0].fin_acked && c->half[1].fin_acked;
}

/* Windows are never quite shut: one byte may probe (RFC 9293 section 3.8.6.1). */
static uint32_t
room(const struct half *h)
{
	return h->win != 0 ? h->win : 1;
}

/* Within the window the other side has opened, and not older than one; acknowledging what there is. */
static bool
in_order(const struct conn *c, const struct segment *g)
{
	const struct half *me = &c->half[g->d], *peer = &c->half[!g->d];

	return after(peer->ack + room(peer), last_byte(g)) && after(g->seq, me->end - room(peer)) &&
	    after(peer->end, g->ack) && after(g->ack, me->ack - me->win);
}

static bool
judge_reset(struct conn *c, const struct segment *g)
{
	const struct half *me = &c->half[g->d], *peer = &c->half[!g->d];

	if (!c->half[1].syn && g->d == 1) { /* refused: it acknowledges the SYN */
		if ((g->flags & FW_TCP_ACK) == 0 || g->ack != peer->end)
			return false;
		c->reset = true;
		return true;
	}
	if (!c->half[1].syn) {
		if (g->seq == me->end) {
			c->reset = true;
			return true;
		}
		return c->challenged && g->seq == c->challenge; /* ends another connection */
	}
	/* RFC 5961 section 3: believed if exact, answered with a challenge if in the window. */
	if (g->seq == me->end || g->seq == peer->ack) {
		c->reset = !time_wait(c); /* RFC 1337 */
		return true;
	}
	return g->seq - peer->ack < room(peer);
}

/* Whether the segment may pass. */
static bool
judge_segment(struct conn *c, const struct segment *g)
{
	struct half *me = &c->half[g->d], *peer = &c->half[!g->d];
	const bool syn = (g->flags & FW_TCP_SYN) != 0, fin = (g->flags & FW_TCP_FIN) != 0;
	const bool rst = (g->flags & FW_TCP_RST) != 0, ack = (g->flags & FW_TCP_ACK) != 0;
	uint32_t win, closing;

	if (!c->alive) {
		if (g->d != 0 || !syn || ack)
			return false;
		conn_open(c, g);
		return true;
	}
	if (rst)
		return judge_reset(c, g);
	if (syn && !ack) {
		if (c->reset || (time_wait(c) && !after(me->end, g->seq + 1))) {
			/* Another connection on these ports; from outside nobody may begin one. */
			c->alive = false;
			return judge_segment(c, g);
		}
		if (g->d == 1)
			return false;
		if (!c->half[1].syn && last_byte(g) != me->end)
			conn_open(c, g); /* it has given up the first attempt */
		return true;
	}
	if (syn) { /* of the other side only: see make_segment() */
		if (!c->half[1].syn) {
			if (!after(peer->end, g->ack) || after(peer->isn, g->ack))
				return false;
			*me = (struct half){ .syn = true,
				.isn = g->seq,
				.end = last_byte(g),
				.ack = g->ack,
				.win = g->win,
				.shift = g->shift };
			peer->ack = g->seq + 1;
			return true;
		}
		/* Once more, until the connection closes. */
		if (c->reset || (c->half[0].fin && c->half[1].fin) || c->half[1].fin_acked)
			return false;
		return in_order(c, g);
	}
	if (!c->half[1].syn) {
		/* RFC 9293 figure 9: an ACK of an earlier connection that the other side remembers. */
		if (g->d == 0 || fin)
			return false;
		c->challenged = true;
		c->challenge = g->ack;
		return true;
	}
	if (!in_order(c, g))
		return false;
	closing = peer->end;
	if (after(last_byte(g), me->end))
		me->end = last_byte(g);
	if (after(g->ack, me->ack))
		me->ack = g->ack;
	/* RFC 7323 section 2.2: both or neither. */
	win = (uint32_t)g->win << (me->shift >= 0 && peer->shift >= 0 ? me->shift : 0);
	me->win = PK_MAX(me->win, win);
	c->acked |= g->d == 0;
	if (!c->reset) {
		peer->fin_acked |= peer->fin && g->ack == closing;
		me->fin |= fin;
	}
	return true;
}

/* An ICMP error about `seq`, sent by side d: RFC 5927 section 4.1.  Who closes already takes the SYN for received. */
static bool
judge_error(const struct conn *c, unsigned int d, uint32_t seq)
{
	const struct half *me = &c->half[d], *peer = &c->half[!d];
	bool known = d == 0 ? c->half[1].syn : c->acked || me->fin || c->reset;

	return c->alive && me->syn && after(seq, known ? peer->ack : me->isn) &&
	    !after(seq, me->end);
}

/* ---- the model: fragments ---- */

struct gram {
	bool open, poisoned;
	uint32_t total; /* units; 0: unknown */
	bool got[GRAM_UNITS];
};

/* Units [from, to); RFC 5722: what overlaps costs the whole. */
static bool
judge_piece(struct gram *g, uint32_t from, uint32_t to, bool more)
{
	bool whole = true;

	if (!g->open) {
		if (from != 0)
			return false;
		*g = (struct gram){ .open = true };
	}
	for (uint32_t u = 0; u < GRAM_UNITS; u++)
		g->poisoned |= g->got[u] && ((u >= from && u < to) || (!more && u >= to));
	g->poisoned |= g->total != 0 && (!more || to > g->total);
	if (g->poisoned)
		return false;
	if (!more)
		g->total = to;
	for (uint32_t u = from; u < to; u++)
		g->got[u] = true;
	for (uint32_t u = 0; u < g->total; u++)
		whole &= g->got[u];
	if (g->total != 0 && whole)
		g->open = false;
	return true;
}

/* ---- packets ---- */

static struct conn conns[NB_CONNS];
static struct gram grams[NB_GRAMS];
static uint32_t rounds[NB_CONNS];

static uint32_t
near(uint32_t n)
{
	return one_in(4) ? rnd(9) - 4
	    : one_in(6)  ? n + rnd(7) - 3
	    : one_in(6)  ? rnd(UINT32_MAX)
	                 : 0;
}

/* What side d of a connection might say next, or what it would not. */
static bool
make_segment(const struct conn *c, struct segment *g)
{
	const struct half *me = &c->half[g->d], *peer = &c->half[!g->d];
	const bool odd = one_in(6);

	g->win = one_in(8) ? (uint16_t)rnd(3) : (uint16_t)(1024 * (1 + rnd(40)));
	g->shift = -1;
	g->payload = 0;
	if (!c->alive || one_in(60)) {
		/* A window in a SYN counts as it is, later in steps of its shift. */
		g->flags = one_in(10) ? FW_TCP_ACK : FW_TCP_SYN;
		g->shift = one_in(2) ? (int)rnd(8) : -1;
		g->win = (uint16_t)(1024 * (1 + rnd(40)));
		g->seq = c->alive && one_in(2) ? me->end + near(me->win) : rnd(UINT32_MAX);
		g->ack = g->flags == FW_TCP_SYN ? 0 : rnd(UINT32_MAX);
		/* Two that open towards each other are in tests/replay. */
		return g->d == 0 || !c->alive || c->half[1].syn;
	}
	if (!c->half[1].syn) {
		if (c->reset)
			return false; /* nothing is known of the other side, and nothing comes of it */
		g->flags = g->d == 0 ? FW_TCP_SYN : FW_TCP_SYN | FW_TCP_ACK;
		g->seq = g->d == 0 ? me->isn : rnd(UINT32_MAX);
		g->ack = g->d == 0 ? 0 : peer->end + (odd ? near(10) : 0);
		g->shift = one_in(2) ? (int)rnd(8) : -1;
		g->win = (uint16_t)(1024 * (1 + rnd(40)));
		if (odd && one_in(2)) {
			g->flags = one_in(2) ? FW_TCP_ACK : FW_TCP_RST | FW_TCP_ACK;
			g->seq = one_in(2) && c->challenged ? c->challenge : me->end;
		}
		return true;
	}
	g->flags = FW_TCP_ACK;
	g->payload = (uint16_t)(one_in(2) ? rnd(1400) : 0);
	g->seq = one_in(3) ? peer->ack : me->end;
	g->ack = one_in(2) ? peer->end : me->ack;
	if (odd) {
		g->seq += near(room(peer));
		g->ack += near(me->win);
	}
	if (one_in(25))
		g->flags |= FW_TCP_FIN;
	else if (one_in(60))
		g->flags = FW_TCP_RST | (one_in(2) ? FW_TCP_ACK : 0);
	else if (g->d == 1 && one_in(40))
		g->flags = FW_TCP_SYN | FW_TCP_ACK, g->payload = 0, g->seq = odd ? g->seq : me->isn;
	return true;
}

static uint32_t
frame_of(uint32_t k, const struct segment *g, uint8_t *frame)
{
	uint16_t port = (uint16_t)(2000 + k + NB_CONNS * (rounds[k] % 200));
	uint8_t options[4] = { 1, 3, 3, (uint8_t)g->shift };
	struct world_pkt p = { .family = k % 3 == 0 ? 6 : 4,
		.proto = IPPROTO_TCP,
		.from_outside = g->d == 1,
		.in = 1 + k % 4,
		.out = 1 + k % 5,
		.sport = g->d == 0 ? port : 443,
		.dport = g->d == 0 ? 443 : port,
		.seq = g->seq,
		.ack = g->ack,
		.flags = g->flags,
		.win = g->win,
		.payload = g->payload,
		.options = options,
		.options_len = g->shift >= 0 && (g->flags & FW_TCP_SYN) != 0 ? 4 : 0 };

	return world_frame(&p, frame);
}

/* "Host unreachable", from somewhere on side !d, about a segment of side d. */
static uint32_t
error_frame(uint32_t k, unsigned int d, uint32_t seq, uint8_t *frame)
{
	const struct segment g = { .d = d, .flags = FW_TCP_ACK, .seq = seq };
	uint8_t inner[256], *ip = frame + 14, *icmp;
	uint32_t quoted = frame_of(k, &g, inner) - 14, header = inner[12] == 0x08 ? 20 : 40;
	struct fw_pkt pk = { .data = frame, .l3 = 14 };
	uint16_t sum;

	memcpy(frame, inner + 6, 6);
	memcpy(frame + 6, inner, 6);
	memcpy(frame + 12, inner + 12, 2);
	memcpy(ip, inner + 14, header);
	icmp = ip + header;
	memset(icmp, 0, 8);
	icmp[0] = header == 20 ? 3 : 1;
	icmp[1] = header == 20 ? 1 : 3;
	memcpy(icmp + 8, inner + 14, quoted);
	if (header == 20) {
		memcpy(ip + 12, inner + 14 + 16, 4);
		memcpy(ip + 16, inner + 14 + 12, 4);
		ip[9] = IPPROTO_ICMP;
		world_put(ip + 2, 28 + quoted, 2);
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		memcpy(ip + 8, inner + 14 + 24, 16);
		memcpy(ip + 24, inner + 14 + 8, 16);
		ip[6] = IPPROTO_ICMPV6;
		world_put(ip + 4, 8 + quoted, 2);
	}
	sum = (uint16_t)~fw_sum_fold(fw_sum(
	    icmp, 8 + quoted, header == 20 ? 0 : fw_sum_pseudo(&pk, IPPROTO_ICMPV6, 8 + quoted)));
	memcpy(icmp + 2, &sum, 2);
	return 14 + header + 8 + quoted;
}

/* A piece of a datagram from inside; IPv6 every other one. */
static uint32_t
piece_frame(uint32_t k, uint32_t from, uint32_t to, bool more, uint8_t *frame)
{
	const bool v6 = k % 2 != 0;
	struct world_pkt p = { .family = v6 ? 6 : 4,
		.proto = IPPROTO_UDP,
		.in = 1 + k % 4,
		.out = 1 + k % 3,
		.sport = 7,
		.dport = 7,
		.payload = 8 * GRAM_UNITS - 8 };
	uint8_t whole[512], *ip = frame + 14;
	uint32_t header = v6 ? 40 : 20, bytes = 8 * (to - from);
	uint16_t sum;

	(void)world_frame(&p, whole);
	memcpy(frame, whole, 14 + header);
	if (v6) {
		uint8_t *f = ip + 40;

		ip[6] = IPPROTO_FRAGMENT;
		world_put(ip + 4, 8 + bytes, 2);
		memset(f, 0, 8);
		f[0] = IPPROTO_UDP;
		world_put(f + 2, from * 8 | more, 2);
		world_put(f + 4, 1000 + k, 4);
		memcpy(f + 8, whole + 14 + 40 + 8 * from, bytes);
		return 14 + 48 + bytes;
	}
	world_put(ip + 2, 20 + bytes, 2);
	world_put(ip + 4, 1000 + k, 2);
	world_put(ip + 6, from | (more ? 0x2000u : 0), 2);
	memset(ip + 10, 0, 2);
	sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	memcpy(ip + 20, whole + 14 + 20 + 8 * from, bytes);
	return 14 + 20 + bytes;
}

/* ---- both ---- */

static struct rte_mempool *pool;
static uint64_t passed, refused;

/* One packet from `side`, and whether the model lets it pass; its words for a report in *what. */
static uint32_t
next_packet(enum fw_side side, uint8_t *frame, bool *pass, char what[220])
{
	for (;;) {
		uint32_t k = rnd(NB_CONNS);
		struct conn *c = &conns[k];
		struct segment g = { .d = side == FW_OUTSIDE };

		if (side == FW_INSIDE && one_in(12)) {
			uint32_t from = rnd(GRAM_UNITS), to = from + 1 + rnd(3);
			bool more = !one_in(4);

			k = rnd(NB_GRAMS);
			if (!grams[k].open && one_in(2))
				from = 0, to = 1 + rnd(3), more = true;
			if (to > GRAM_UNITS || (from == 0 && !more))
				continue;
			*pass = judge_piece(&grams[k], from, to, more);
			snprintf(what, 220, "datagram %u: units %u to %u%s", k, from, to,
			    more ? ", more" : "");
			return piece_frame(k, from, to, more, frame);
		}
		if (c->alive && one_in(20)) {
			unsigned int d = side == FW_INSIDE;
			const struct half *me = &c->half[d];
			uint32_t seq = one_in(2) ? me->end - rnd(3) : c->half[!d].ack + rnd(3) - 1;

			if (c->reset && !c->half[1].syn)
				continue;
			*pass = judge_error(c, d, seq);
			snprintf(what, 220, "connection %u: error about %u of side %u", k, seq, d);
			return error_frame(k, d, seq, frame);
		}
		if (!make_segment(c, &g))
			continue;
		if (!c->alive && g.d == 0 && g.flags == FW_TCP_SYN && one_in(2))
			rounds[k]++;
		snprintf(what, 220,
		    "connection %u: side %u, flags %02x, seq %u, ack %u, win %u, %u bytes; "
		    "end %u ack %u win %u, end %u ack %u win %u; %d%d%d%d%d%d",
		    k, g.d, g.flags, g.seq, g.ack, g.win, g.payload, c->half[0].end, c->half[0].ack,
		    c->half[0].win, c->half[1].end, c->half[1].ack, c->half[1].win, c->half[0].fin,
		    c->half[1].fin, c->half[0].fin_acked, c->half[1].fin_acked, c->reset, c->acked);
		*pass = judge_segment(c, &g);
		return frame_of(k, &g, frame);
	}
}

static void
test_model(void **state)
{
	static const struct world_rule allow[] = {
		{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	};
	struct fw_rules *rules = world_rules(1, 4, true, allow, PK_COUNT(allow));
	uint64_t now = 1000 * PK_NS_PER_S, sent = 0;
	struct fw_path_conf conf;
	struct fw_path *p;

	(void)state;
	rng = seed;
	fw_path_conf_init(&conf);
	conf.nb_sessions = 4096;
	conf.huge = false;
	conf.seed[0] = 1;
	conf.seed[1] = seed;
	conf.pool = pool;
	conf.syn_cookies = 0;
	assert_int_equal(fw_path_create(&p, &conf), 0);
	for (uint64_t burst = 0; sent < nb_packets; burst++) {
		enum fw_side from = one_in(2) ? FW_INSIDE : FW_OUTSIDE;
		unsigned int n = 1 + rnd(FW_BURST), at = 0;
		struct rte_mbuf *pkts[FW_BURST], *mine[FW_BURST];
		char what[FW_BURST][220];
		bool pass[FW_BURST];
		struct fw_burst out;

		for (unsigned int i = 0; i < n; i++) {
			uint8_t frame[2100];
			uint32_t len = next_packet(from, frame, &pass[i], what[i]);

			mine[i] = pkts[i] = world_mbuf(pool, frame, len);
			assert_non_null(pkts[i]);
		}
		now += 1000;
		fw_path_burst(p, rules, 0, from, mine, n, now, &out);
		assert_int_equal(out.nb[from], 0);
		for (unsigned int i = 0; i < n; i++) {
			bool did = at < out.nb[from ^ 1] && out.pkt[from ^ 1][at] == pkts[i];

			if (did != pass[i])
				fail_msg("packet %" PRIu64 " of seed %" PRIu64 " %s: %s", sent + i,
				    seed, did ? "passes" : "drops", what[i]);
			at += did;
			passed += did;
			refused += !did;
		}
		assert_int_equal(at, out.nb[from ^ 1]);
		if (at > 0)
			rte_pktmbuf_free_bulk(out.pkt[from ^ 1], at);
		sent += n;
		if (burst % ERA != ERA - 1)
			continue;
		/* Days later nothing is left of it. */
		now += ALL_IS_OVER;
		for (unsigned int i = 0; i < 100000 && fw_path_nb_sessions(p) > 0; i++)
			fw_path_tick(p, rules, now += PK_NS_PER_S, 64, NULL);
		assert_int_equal(fw_path_nb_sessions(p), 0);
		memset(conns, 0, sizeof(conns));
		memset(grams, 0, sizeof(grams));
	}
	assert_true(world_balanced(p));
	/* Of either kind enough. */
	assert_true(passed > sent / 4);
	assert_true(refused > sent / 20);
	print_message("# %" PRIu64 " packets: %" PRIu64 " passed, %" PRIu64 " dropped\n", sent,
	    passed, refused);
	fw_path_destroy(p);
	fw_rules_destroy(rules);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };
	const char *many = getenv("MODEL_PACKETS");

	if (many != NULL)
		nb_packets = strtoull(many, NULL, 0);
	if (argc > 1)
		nb_packets = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	if (seed == 0)
		seed = 1; /* the generator would stand still */
	pool = world_start(1023);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
