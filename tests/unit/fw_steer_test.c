/*
 * Sessions spread over lcores: several paths with rings between them, given the packets of many flows, come to
 * the same verdict about each as one path that is given all of them.
 */
#include <netinet/in.h>
#include <stdlib.h>

#include <rte_thash.h>

#include "fw/hand_over.h"
#include "fw/relay.h"
#include "fw/steer.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define LCORES_MAX 5
#define NB_FLOWS   512
#define NB_PACKETS 60000
#define FRAME_MAX  2048

static struct rte_mempool *pool;
static struct fw_rules *rules;
static uint64_t rng;
static const uint64_t seed[2] = { 11, 22 };

static const struct world_rule some[] = {
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, IPPROTO_TCP, 80, 80 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, IPPROTO_UDP, 53, 53 },
};

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* ---- frames ---- */

struct frame {
	enum fw_side from;
	uint32_t len;
	uint8_t bytes[FRAME_MAX];
};

static struct world_pkt
flow_packet(uint32_t f, bool reply)
{
	bool opener_outside = f % 3 == 2;
	struct world_pkt w = {
		.family = f % 4 == 3 ? 6 : 4,
		.proto = f % 5 == 4 ? IPPROTO_UDP : IPPROTO_TCP,
		.from_outside = opener_outside != reply,
		.in = 1 + f % 7,
		.out = 1 + f % 11,
		.sport = (uint16_t)(reply ? 53 : 1024 + f),
		.dport = (uint16_t)(reply ? 1024 + f : 53),
		.win = 30000,
		.seq = 1000,
		.ack = 1000,
	};

	if (w.proto == IPPROTO_TCP)
		*(reply ? &w.sport : &w.dport) = f % 9 == 8 ? 81 : 80;
	return w;
}

/* Cut the IP packet of a frame in two after `cut` bytes of payload, a multiple of 8. */
static void
fragments(const struct frame *whole, uint32_t cut, uint32_t id, struct frame out[2])
{
	bool v4 = whole->bytes[14] >> 4 == 4;
	uint32_t head = 14 + (v4 ? 20u : 40u), more = v4 ? 0 : 8, bytes = whole->len - head;

	for (unsigned int k = 0; k < 2; k++) {
		uint32_t off = k == 0 ? 0 : cut, len = k == 0 ? cut : bytes - cut;
		uint8_t *ip = out[k].bytes + 14;

		out[k].from = whole->from;
		out[k].len = head + more + len;
		memcpy(out[k].bytes, whole->bytes, head);
		memcpy(out[k].bytes + head + more, whole->bytes + head + off, len);
		if (v4) {
			uint16_t sum = 0;

			world_put(ip + 2, 20 + len, 2);
			world_put(ip + 4, id, 2);
			world_put(ip + 6, off / 8 | (k == 0 ? 0x2000u : 0), 2);
			memcpy(ip + 10, &sum, 2);
			sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
			memcpy(ip + 10, &sum, 2);
		} else {
			world_put(ip + 4, 8 + len, 2);
			ip[40] = ip[6];
			ip[41] = 0;
			ip[6] = IPPROTO_FRAGMENT;
			world_put(ip + 42, off | (k == 0), 2);
			world_put(ip + 44, id, 4);
		}
	}
}

/* An error of a router about a frame, which goes back to where that came from. */
static void
icmp_error(const struct frame *about, struct frame *out)
{
	bool v4 = about->bytes[14] >> 4 == 4;
	uint8_t body[FRAME_MAX];
	struct world_pkt w = {
		.family = v4 ? 4 : 6,
		.proto = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
		.from_outside = about->from == FW_INSIDE,
		.out = 200,
		.in = 9,
		.sport = v4 ? 3 << 8 | 1 : 1 << 8,
		.payload = (uint16_t)PK_MIN(about->len - 14, 100u),
		.body = body,
	};
	struct pk_addr to = { .family = w.family };

	memcpy(body, about->bytes + 14, w.payload);
	memcpy(to.bytes, body + (v4 ? 12 : 8), v4 ? 4 : 16);
	*(w.from_outside ? &w.in : &w.out) = (uint32_t)to.bytes[v4 ? 3 : 15];
	out->from = w.from_outside ? FW_OUTSIDE : FW_INSIDE;
	out->len = world_frame(&w, out->bytes);
}

/* ---- lcores ---- */

struct lcore {
	struct fw_path *path;
	struct fw_steering *steering;
};

struct world {
	uint16_t nb;
	struct fw_steer steer;
	struct fw_relay *relay;
	struct lcore lcore[LCORES_MAX];
	uint16_t reta[64];
	bool *passed; /* by number of the packet */
};

static void
world_begin(struct world *w, uint16_t nb, enum fw_steer_mode mode)
{
	struct fw_path_conf conf;

	memset(w, 0, sizeof(*w));
	fw_path_conf_init(&conf);
	conf.nb_sessions = 8192;
	conf.pool = pool;
	conf.huge = false;
	w->nb = nb;
	fw_steer_init(&w->steer, nb, seed);
	for (unsigned int i = 0; i < PK_COUNT(w->reta); i++)
		w->reta[i] = (uint16_t)(i % nb);
	w->steer.wire[0] = (struct fw_steer_wire){
		.mode = (uint8_t)mode, .mask = PK_COUNT(w->reta) - 1, .queue = w->reta
	};
	assert_int_equal(fw_relay_create(&w->relay, nb), 0);
	for (uint16_t i = 0; i < nb; i++) {
		assert_int_equal(fw_path_create(&w->lcore[i].path, &conf), 0);
		assert_int_equal(fw_steering_create(&w->lcore[i].steering, &w->steer, i), 0);
	}
}

static void
world_end(struct world *w)
{
	for (uint16_t i = 0; i < w->nb; i++) {
		fw_path_destroy(w->lcore[i].path);
		fw_steering_destroy(w->lcore[i].steering);
	}
	fw_relay_destroy(w->relay);
}

static void
judge(struct world *w, uint16_t i, enum fw_side from, struct rte_mbuf **pkts, unsigned int n,
    uint64_t now_ns)
{
	struct fw_burst out;

	fw_path_burst(w->lcore[i].path, rules, 0, from, pkts, n, now_ns, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		for (unsigned int k = 0; k < out.nb[side]; k++) {
			if (w->passed != NULL)
				w->passed[out.pkt[side][k]->hash.usr] = true;
			rte_pktmbuf_free(out.pkt[side][k]);
		}
	}
}

/* What an lcore does with what the others have handed it. */
static unsigned int
drain(struct world *w, uint16_t i, uint64_t now_ns)
{
	struct rte_mbuf *pkts[FW_BURST], **next;
	unsigned int got = 0, n, nb;

	for (uint16_t from = 0; from < w->nb; from++) {
		if (from == i)
			continue;
		n = fw_relay_take(w->relay, FW_RELAY_JUDGE, from, i, pkts, FW_BURST);
		got += n;
		for (next = pkts; n > 0; next += nb, n -= nb) {
			uint16_t mark = next[0]->port;

			nb = fw_relay_group(next, n);
			assert_int_equal(fw_relay_wire(mark), 0);
			judge(w, i, fw_relay_side(mark), next, nb, now_ns);
		}
	}
	return got;
}

/* The queue a port chooses: Toeplitz by the book, over ports only of whole TCP and UDP packets. */
static uint16_t
port_chooses(const struct world *w, const struct frame *f)
{
	const uint8_t *ip = f->bytes + 14;
	uint32_t words[9];
	uint8_t key[52];
	bool v4 = ip[0] >> 4 == 4, ports;
	unsigned int nb = v4 ? 2 : 8;

	for (unsigned int i = 0; i < sizeof(key); i++)
		key[i] = i % 2 == 0 ? FW_STEER_RSS_KEY >> 8 : FW_STEER_RSS_KEY & 0xff;
	for (unsigned int i = 0; i <= nb; i++) {
		memcpy(&words[i], ip + (v4 ? 12 : 8) + 4 * i, 4);
		words[i] = rte_be_to_cpu_32(words[i]);
	}
	ports = v4 ? (ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP) && ((ip[6] & 0x3f) | ip[7]) == 0
	           : ip[6] == IPPROTO_TCP || ip[6] == IPPROTO_UDP;
	return w->reta[rte_softrss(words, nb + ports, key) & (PK_COUNT(w->reta) - 1)];
}

/* Received by lcore `at`, and worked off to the end. */
static void
receive(struct world *w, uint16_t at, const struct frame *f, uint32_t number, uint64_t now_ns)
{
	struct rte_mbuf *m = world_mbuf(pool, f->bytes, f->len);
	uint64_t handed;
	unsigned int n;

	assert_non_null(m);
	m->hash.usr = number;
	n = fw_relay_sort(w->relay, w->lcore[at].steering, w->lcore[at].path, at, 0, f->from, &m, 1,
	    now_ns, &handed);
	assert_int_equal(n + handed, 1);
	if (n != 0)
		judge(w, at, f->from, &m, 1, now_ns);
	for (uint16_t i = 0; i < w->nb; i++)
		drain(w, i, now_ns);
}

static uint64_t
sum_of(const struct world *w, enum fw_drop why)
{
	uint64_t n = 0;

	for (uint16_t i = 0; i < w->nb; i++)
		n += pk_counter_read(&fw_path_stats(w->lcore[i].path)->drop[why]);
	return n;
}

/* ---- what comes next ---- */

static struct {
	uint32_t next[2];
	uint8_t phase;
} flows[NB_FLOWS];

/* Up to two frames about one flow.  Returns how many. */
static unsigned int
next_frames(uint32_t number, struct frame out[2])
{
	uint32_t f = rnd(NB_FLOWS);
	bool reply = rnd(2) != 0;
	struct world_pkt w;
	struct frame whole;

	if (flows[f].phase < 3)
		reply = flows[f].phase == 1;
	w = flow_packet(f, reply);
	w.payload = (uint16_t)(rnd(4) == 0 ? 64 + rnd(800) : 16);
	if (w.proto == IPPROTO_TCP) {
		w.flags = flows[f].phase == 0 ? FW_TCP_SYN
		    : flows[f].phase == 1     ? FW_TCP_SYN | FW_TCP_ACK
		                              : FW_TCP_ACK;
		if (flows[f].phase < 3)
			w.payload = 0;
		w.seq = flows[f].next[reply];
		w.ack = flows[f].phase == 0 ? 0 : flows[f].next[!reply];
	}
	flows[f].next[reply] += w.payload + ((w.flags & FW_TCP_SYN) != 0);
	flows[f].phase += flows[f].phase < 3;
	whole.from = w.from_outside ? FW_OUTSIDE : FW_INSIDE;
	whole.len = world_frame(&w, whole.bytes);
	if (w.payload >= 64 && rnd(2) == 0) {
		uint32_t cut = 32 + 8 * rnd(3);

		fragments(&whole, cut, number, out);
		/* Now and then the second part alone: it is a stray, and nobody goes on from there. */
		if (rnd(10) == 0) {
			out[0] = out[1];
			flows[f].next[reply] -= w.payload;
			return 1;
		}
		return 2;
	}
	if (flows[f].phase == 3 && w.payload != 0 && rnd(10) == 0) {
		icmp_error(&whole, &out[0]);
		flows[f].next[reply] -= w.payload;
		return 1;
	}
	out[0] = whole;
	return 1;
}

/* ---- tests ---- */

static void
test_toeplitz(void **state)
{
	uint8_t key[52];

	(void)state;
	for (unsigned int i = 0; i < sizeof(key); i++)
		key[i] = i % 2 == 0 ? FW_STEER_RSS_KEY >> 8 : FW_STEER_RSS_KEY & 0xff;
	for (unsigned int n = 0; n < 2000; n++) {
		uint32_t words[9], x = 0;
		unsigned int nb = n % 2 == 0 ? 3 : 9;

		for (unsigned int i = 0; i < nb; i++) {
			words[i] = rnd(UINT32_MAX);
			x ^= words[i];
		}
		assert_int_equal(
		    fw_steer_toeplitz((uint16_t)(x ^ x >> 16)), rte_softrss(words, nb, key));
	}
}

/* Both directions, and what the table and the records say, are one lcore; and lcores get about as much. */
static void
test_owner(void **state)
{
	(void)state;
	for (uint16_t nb = 2; nb <= LCORES_MAX; nb++) {
		unsigned int count[LCORES_MAX] = { 0 };
		struct world w;

		world_begin(&w, nb, FW_STEER_SOFT);
		for (uint32_t f = 0; f < NB_FLOWS; f++) {
			uint16_t to[2][FW_BURST] = { { 0 } };
			struct frame frame;

			for (unsigned int reply = 0; reply < 2; reply++) {
				struct world_pkt p = flow_packet(f, reply != 0);
				struct fw_pkt pk = { .checksum_ok = true };
				struct rte_mbuf *m;

				p.flags = FW_TCP_ACK;
				frame.len = world_frame(&p, frame.bytes);
				m = world_mbuf(pool, frame.bytes, frame.len);
				if (!fw_steering_sort(
				        w.lcore[0].steering, 0, FW_INSIDE, &m, 1, 0, to[reply]))
					to[reply][0] = 0;
				assert_int_equal(
				    fw_parse(&pk, frame.bytes, frame.len, frame.len, 0, NULL), 0);
				assert_int_equal(to[reply][0], fw_steer_owner(&w.steer, &pk));
				rte_pktmbuf_free(m);
			}
			assert_int_equal(to[0][0], to[1][0]);
			count[to[0][0]]++;
		}
		for (uint16_t i = 0; i < nb; i++)
			assert_in_range(count[i], NB_FLOWS / nb * 7 / 10, NB_FLOWS / nb * 13 / 10);
		world_end(&w);
	}
}

/* Verdicts as those of one path, packet by packet; sessions where they belong, and nowhere else. */
static void
same_as_one(enum fw_steer_mode mode, uint16_t nb)
{
	bool *passed = calloc(2, 2 * NB_PACKETS);
	struct world one, many;
	uint32_t number = 0, nb_passed = 0, sessions = 0;
	uint64_t now_ns = 0;

	rng = 0x9e3779b97f4a7c15 + nb;
	memset(flows, 0, sizeof(flows));
	world_begin(&one, 1, FW_STEER_ONE);
	world_begin(&many, nb, mode);
	one.passed = passed;
	many.passed = passed + 2 * NB_PACKETS;
	while (number < NB_PACKETS) {
		struct frame out[2];
		unsigned int n = next_frames(number, out);

		now_ns += 20000;
		for (unsigned int k = 0; k < n; k++, number++) {
			receive(&one, 0, &out[k], number, now_ns);
			receive(&many,
			    mode == FW_STEER_RSS
			        ? port_chooses(&many, &out[k])
			        : (uint16_t)(out[k].from == FW_INSIDE ? 0 : nb - 1),
			    &out[k], number, now_ns);
			if (one.passed[number] != many.passed[number])
				fail_msg("packet %u: one path says %d, %u lcores say %d", number,
				    one.passed[number], nb, many.passed[number]);
			nb_passed += one.passed[number];
		}
	}
	assert_in_range(nb_passed, NB_PACKETS / 2, NB_PACKETS - NB_PACKETS / 50);
	for (unsigned int d = 0; d < FW_DROP_COUNT; d++)
		assert_int_equal(sum_of(&many, (enum fw_drop)d), sum_of(&one, (enum fw_drop)d));
	assert_true(sum_of(&one, FW_DROP_FRAG_STRAY) > 0);
	for (uint16_t i = 0; i < nb; i++) {
		struct fw_sessions *t = &many.lcore[i].path->sessions;

		assert_true(world_balanced(many.lcore[i].path));
		assert_true(t->nb > 0);
		sessions += t->nb;
		for (uint32_t s = 0; s < t->fresh; s++)
			if (t->version[s] % 2 != 0)
				assert_int_equal(fw_steer_session(&many.steer, t, s), i);
	}
	assert_int_equal(sessions, fw_path_nb_sessions(one.lcore[0].path));
	world_end(&one);
	world_end(&many);
	free(passed);
}

static void
test_soft(void **state)
{
	(void)state;
	for (uint16_t nb = 2; nb <= LCORES_MAX; nb++)
		same_as_one(FW_STEER_SOFT, nb);
}

static void
test_rss(void **state)
{
	(void)state;
	for (uint16_t nb = 2; nb <= LCORES_MAX; nb++)
		same_as_one(FW_STEER_RSS, nb);
}

/* A session that was carried as a record is where its packets come. */
static void
test_record(void **state)
{
	struct world w;
	unsigned int nb = 0;

	(void)state;
	world_begin(&w, 3, FW_STEER_SOFT);
	for (uint32_t f = 0; f < 64; f++) {
		struct world_pkt p = flow_packet(f, false);
		struct frame frame = { .from = p.from_outside ? FW_OUTSIDE : FW_INSIDE };

		p.flags = FW_TCP_SYN;
		p.ack = 0;
		frame.len = world_frame(&p, frame.bytes);
		receive(&w, 0, &frame, 0, 0);
	}
	for (uint16_t i = 0; i < w.nb; i++) {
		struct fw_path *path = w.lcore[i].path;

		for (uint32_t s = 0; s < path->sessions.fresh; s++) {
			struct fw_record r;
			struct fw_pkt pk;

			if (!fw_path_record(path, s, 0, &r))
				continue;
			fw_record_key(&r, r.wire, &pk);
			assert_int_equal(fw_steer_owner(&w.steer, &pk), i);
			nb++;
		}
	}
	assert_in_range(nb, 40, 64);
	world_end(&w);
}

/* Nobody waits for an lcore that does not keep up: what finds no room is counted, where it was received. */
static void
test_full(void **state)
{
	struct world w;
	uint64_t handed_sum = 0, refused, rx = 0;
	uint32_t n = 0;

	(void)state;
	world_begin(&w, 2, FW_STEER_SOFT);
	for (; n < 3 * FW_RELAY_ENTRIES; n++) {
		struct world_pkt p = { .family = 4,
			.proto = IPPROTO_UDP,
			.in = 1,
			.out = 1,
			.sport = (uint16_t)(1024 + n),
			.dport = 53 };
		struct frame frame = { .from = FW_INSIDE };
		struct rte_mbuf *m;
		uint64_t handed;

		frame.len = world_frame(&p, frame.bytes);
		m = world_mbuf(pool, frame.bytes, frame.len);
		assert_non_null(m);
		if (fw_relay_sort(w.relay, w.lcore[0].steering, w.lcore[0].path, 0, 0, FW_INSIDE,
		        &m, 1, 0, &handed) != 0)
			judge(&w, 0, FW_INSIDE, &m, 1, 0);
		handed_sum += handed;
	}
	refused = sum_of(&w, FW_DROP_LCORE_FULL);
	assert_int_equal(handed_sum, FW_RELAY_ENTRIES - 1);
	assert_true(refused > 0);
	assert_true(world_balanced(w.lcore[0].path));
	while (drain(&w, 1, 0) != 0)
		;
	for (unsigned int i = 0; i < 2; i++) {
		assert_true(world_balanced(w.lcore[i].path));
		rx += pk_counter_read(&fw_path_stats(w.lcore[i].path)->rx[FW_INSIDE]);
	}
	assert_int_equal(rx, n);
	assert_int_equal(sum_of(&w, FW_DROP_LCORE_FULL), refused);
	world_end(&w);
}

/* First fragments of others, without their later ones, do not keep ours from getting through. */
static void
test_fragment_flood(void **state)
{
	bool passed[4] = { false };
	struct frame ours[2], theirs[2], whole;
	struct world_pkt p = flow_packet(0, false);
	struct world w;

	(void)state;
	world_begin(&w, 2, FW_STEER_SOFT);
	w.passed = passed;
	p.proto = IPPROTO_UDP;
	p.payload = 400;
	whole.from = FW_INSIDE;
	/* One that is not for the lcore which receives it. */
	do {
		p.sport++;
		whole.len = world_frame(&p, whole.bytes);
		fragments(&whole, 64, 7, ours);
		receive(&w, 0, &ours[0], 1, 0);
	} while (fw_path_nb_sessions(w.lcore[1].path) == 0);
	assert_true(passed[1]);
	for (uint32_t n = 0; n < FW_STEER_FRAGS / 8; n++) {
		struct world_pkt q = flow_packet(0, true);

		q.proto = IPPROTO_UDP;
		q.payload = 400;
		q.out = 1 + n % 200;
		q.dport = 9;
		whole.from = FW_OUTSIDE;
		whole.len = world_frame(&q, whole.bytes);
		fragments(&whole, 64, n, theirs);
		receive(&w, 0, &theirs[0], 0, 0);
	}
	receive(&w, 0, &ours[1], 2, 0);
	assert_true(passed[2]);
	world_end(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_toeplitz),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_soft),
		cmocka_unit_test(test_rss),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_fragment_flood),
	};
	int rc;

	rng = 1;
	pool = world_start(8191);
	if (pool == NULL)
		return 1;
	rules = world_rules(1, 16, false, some, PK_COUNT(some));
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fw_rules_destroy(rules);
	return rc;
}
