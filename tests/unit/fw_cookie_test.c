/* SYN cookies: the hash, what a cookie remembers, and who may bring one back.  RFC 4987 section 3.6. */
#include <netinet/in.h>

#include "fw/cookie.h"
#include "fw/siphash.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

static const uint64_t seed[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };

/* Of the vectors published with SipHash-2-4 (key 00 01 .. 0f, input 00 01 ..), those of whole words. */
static void
test_siphash(void **state)
{
	static const struct {
		unsigned int words;
		uint64_t hash;
	} cases[] = {
		{ 0, 0x726fdb47dd0e0e31 },
		{ 1, 0x93f5f5799a932462 },
		{ 2, 0x3f2acc7f57c29bdb },
	};
	uint64_t key[2], in[2];
	uint8_t bytes[16];

	(void)state;
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	memcpy(key, bytes, sizeof(key));
	memcpy(in, bytes, sizeof(in));
	for (unsigned int i = 0; i < PK_COUNT(cases); i++)
		assert_int_equal(fw_siphash(key, in, cases[i].words), cases[i].hash);
}

static void
segment(struct fw_pkt *pk, uint8_t *frame, uint8_t family, uint8_t flags, uint32_t seq,
    uint32_t ack, const uint8_t *options, uint8_t options_len)
{
	const struct world_pkt w = { .family = family,
		.proto = IPPROTO_TCP,
		.from_outside = true,
		.in = 1,
		.out = 1,
		.sport = 40000,
		.dport = 443,
		.seq = seq,
		.ack = ack,
		.flags = flags,
		.win = 1000,
		.options = options,
		.options_len = options_len };
	uint32_t len = world_frame(&w, frame);

	memset(pk, 0, sizeof(*pk));
	assert_int_equal(fw_parse(pk, frame, len, len, 0, NULL), FW_DROP_NONE);
}

/* RFC 9293 section 3.7.1, RFC 7323 section 2: never more than was offered. */
static void
test_remembers(void **state)
{
	static const struct {
		uint16_t mss, mss_back;
		int scale, scale_back; /* -1: none */
	} cases[] = { { 0, 88, -1, -1 }, { 535, 88, 0, 0 }, { 536, 536, 1, 0 },
		{ 1460, 1460, 7, 7 }, { 1459, 1440, 14, 10 }, { 65535, 8940, 255, 10 },
		{ 8939, 1460, 9, 8 } };
	struct fw_cookies c;
	uint8_t frame[256];

	(void)state;
	fw_cookies_init(&c, seed);
	for (unsigned int i = 0; i < PK_COUNT(cases) * 8; i++) {
		bool sack = i & 1, ts = i & 2;
		uint8_t family = i & 4 ? 6 : 4, o[40] = { 0 }, len = 4;
		unsigned int k = i / 8;
		struct fw_hello h, back;
		struct fw_cookie made;
		struct fw_pkt pk;

		memcpy(
		    o, (uint8_t[]){ 2, 4, (uint8_t)(cases[k].mss >> 8), (uint8_t)cases[k].mss }, 4);
		if (cases[k].scale >= 0) {
			memcpy(o + len, (uint8_t[]){ 1, 3, 3, (uint8_t)cases[k].scale }, 4);
			len += 4;
		}
		if (sack) {
			memcpy(o + len, (uint8_t[]){ 1, 1, 4, 2 }, 4);
			len += 4;
		}
		if (ts) {
			memcpy(o + len, (uint8_t[]){ 1, 1, 8, 10, 0, 0, 0, 5 }, 8);
			len += 12;
		}
		segment(&pk, frame, family, FW_TCP_SYN, UINT32_MAX, 0, o, len);
		assert_true(fw_hello_read(&pk, &h));
		made = fw_cookie_make(&c, &pk, &h, 5 * FW_COOKIE_PERIOD_NS);
		memcpy(o, (uint8_t[]){ 1, 1, 8, 10, 0, 0, 0, 6 }, 8);
		world_put(o + 8, made.ts, 4);
		segment(&pk, frame, family, FW_TCP_ACK, 0, made.seq + 1, o, ts ? 12 : 0);
		/* Good in its period and the next, and not before or after. */
		assert_false(fw_cookie_check(&c, &pk, &back, 5 * FW_COOKIE_PERIOD_NS - 1));
		assert_false(fw_cookie_check(&c, &pk, &back, 7 * FW_COOKIE_PERIOD_NS));
		assert_true(fw_cookie_check(&c, &pk, &back, 5 * FW_COOKIE_PERIOD_NS));
		assert_true(fw_cookie_check(&c, &pk, &back, 7 * FW_COOKIE_PERIOD_NS - 1));
		assert_int_equal(back.mss, cases[k].mss_back);
		assert_int_equal(back.scale, cases[k].scale_back);
		assert_int_equal(back.sack, sack);
		assert_int_equal(back.timestamps, ts);
		if (ts)
			assert_int_equal(back.ts_val, 6);
	}
}

/* No bit of it may be another, and it is of one client and one start. */
static void
test_forged(void **state)
{
	struct fw_cookies c, other;
	struct fw_hello h;
	struct fw_cookie made;
	struct fw_pkt pk;
	uint8_t frame[256];

	(void)state;
	fw_cookies_init(&c, seed);
	segment(&pk, frame, 4, FW_TCP_SYN, 1000, 0, NULL, 0);
	assert_true(fw_hello_read(&pk, &h));
	made = fw_cookie_make(&c, &pk, &h, 0);
	for (unsigned int bit = 0; bit < 32; bit++) {
		segment(&pk, frame, 4, FW_TCP_ACK, 1001, (made.seq ^ 1u << bit) + 1, NULL, 0);
		assert_false(fw_cookie_check(&c, &pk, &h, 1));
		segment(&pk, frame, 4, FW_TCP_ACK, 1001 ^ 1u << bit, made.seq + 1, NULL, 0);
		assert_false(fw_cookie_check(&c, &pk, &h, 1));
	}
	segment(&pk, frame, 4, FW_TCP_ACK, 1001, made.seq + 1, NULL, 0);
	assert_true(fw_cookie_check(&c, &pk, &h, 1));
	pk.key.wire = 1;
	assert_false(fw_cookie_check(&c, &pk, &h, 1));
	pk.key.wire = 0;
	fw_cookies_init(&other, (uint64_t[]){ seed[1], seed[0] });
	other.used_ns = c.used_ns;
	assert_false(fw_cookie_check(&other, &pk, &h, 1));
}

/*
 * A flood of 200,000 SYNs from random sources, and 2,000 clients who mean it, each of whom answers after 40
 * SYNs of others: every one of them gets through, and who was connected before stays so.
 */
static void
test_flood(void **state)
{
	static const struct world_rule rules[] = { { PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0,
	    65535 } };
	struct rte_mempool *pool = *state;
	struct fw_rules *r = world_rules(1, 1, false, rules, PK_COUNT(rules));
	struct fw_path_conf conf;
	struct fw_path *path;
	uint64_t now = 1000 * PK_NS_PER_S, random = 1;
	unsigned int good = 0, tried = 0;

	fw_path_conf_init(&conf);
	conf.nb_sessions = 8192;
	conf.huge = false;
	conf.pool = pool;
	conf.seed[0] = seed[0];
	assert_int_equal(fw_path_create(&path, &conf), 0);
	for (unsigned int i = 0; i < 200000; i++) {
		bool real = i % 100 == 99;
		struct world_pkt w = { .family = 4,
			.proto = IPPROTO_TCP,
			.from_outside = true,
			.in = 1,
			.sport = 1,
			.dport = 443,
			.seq = 5,
			.win = 1000,
			.flags = FW_TCP_SYN };
		uint8_t frame[256];
		struct fw_burst out;
		struct rte_mbuf *m;
		uint32_t ack = 0;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		w.out = (uint32_t)(random >> 40);
		w.sport = (uint16_t)(1 + (random >> 20) % 60000);
		now += 10000; /* 100,000 a second */
		for (unsigned int step = 0; step < (real ? 4u : 1u); step++) {
			const uint8_t *tcp;

			if (step == 1 && ack == 0)
				break;
			if (step == 1 || step == 3) {
				w.flags = FW_TCP_ACK;
				w.seq = 6;
				w.ack = ack;
			}
			if (step == 2) {
				struct world_pkt s = w;

				s.from_outside = false;
				s.sport = w.dport;
				s.dport = w.sport;
				s.flags = FW_TCP_SYN | FW_TCP_ACK;
				s.seq = 77;
				s.ack = 6;
				m = world_mbuf(pool, frame, world_frame(&s, frame));
			} else {
				m = world_mbuf(pool, frame, world_frame(&w, frame));
			}
			fw_path_burst(
			    path, r, 0, step == 2 ? FW_INSIDE : FW_OUTSIDE, &m, 1, now, &out);
			if (real && step == 0) {
				tried++;
				/* By cookie, or, before it comes to that, by the server itself. */
				if (out.nb[FW_OUTSIDE] == 1) {
					tcp = rte_pktmbuf_mtod(out.pkt[FW_OUTSIDE][0], uint8_t *) +
					    34;
					ack = ((uint32_t)tcp[4] << 24 | (uint32_t)tcp[5] << 16 |
					          (uint32_t)tcp[6] << 8 | tcp[7]) +
					    1;
				} else {
					good += out.nb[FW_INSIDE];
				}
			}
			/* The last ACK reaches the server. */
			good += real && step == 3 && out.nb[FW_INSIDE] == 1;
			for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
				for (unsigned int k = 0; k < out.nb[side]; k++)
					rte_pktmbuf_free(out.pkt[side][k]);
			(void)fw_path_tick(path, r, now, 32, NULL);
		}
	}
	assert_int_equal(tried, 2000);
	assert_in_range(good, 1990, 2000);
	assert_int_equal(pk_counter_read(&fw_path_stats(path)->sessions_evicted), 0);
	assert_int_equal(pk_counter_read(&fw_path_stats(path)->syn_cookies_on), 1);
	assert_true(world_balanced(path));
	/* It is over when the half-open ones have timed out; then all is as before. */
	for (unsigned int i = 0; i < 40; i++)
		(void)fw_path_tick(path, r, now += PK_NS_PER_S, 8192, NULL);
	assert_int_equal(pk_counter_read(&fw_path_stats(path)->syn_cookies_on), 0);
	fw_path_destroy(path);
	fw_rules_destroy(r);
}

int
main(void)
{
	struct rte_mempool *pool = world_start(255);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_remembers),
		cmocka_unit_test(test_forged),
		cmocka_unit_test_prestate(test_flood, pool),
	};
	int failed;

	PK_ASSERT(pool != NULL);
	failed = cmocka_run_group_tests_name("fw/cookie", tests, NULL, NULL);
	rte_eal_cleanup();
	return failed;
}
