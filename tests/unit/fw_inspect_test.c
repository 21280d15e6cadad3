/*
 * What sessions under inspection cost and give back, and that a verdict hangs on the bytes alone: each message is cut
 * at every byte, sent byte by byte, and from the back to the front.  tests/replay/app.seq has the cases one by one.
 */
#include <netinet/in.h>

#include "dpi/app.h"
#include "fw/lane.h"
#include "fw/path_priv.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

static struct rte_mempool *pool;
static struct fw_path *path;
static struct fw_rules *rules;
static uint64_t now = PK_NS_PER_S;

static const struct {
	const char *bytes;
	bool allowed;
} messages[] = {
	{ "GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\r\n", true },
	{ "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false },
	{ "EHLO client.example.org\r\n", false },
};

static void
start(const struct world_rule *rule, unsigned int n, uint32_t places)
{
	struct fw_path_conf conf;

	fw_path_conf_init(&conf);
	conf.nb_sessions = 4096;
	conf.seed[0] = 3;
	conf.seed[1] = 4;
	conf.pool = pool;
	conf.huge = false;
	conf.inspect_sessions = places;
	conf.inspect_packets = 255;
	assert_int_equal(fw_path_create(&path, &conf), 0);
	rules = world_rules(1, 4, true, rule, n);
}

static void
stop(void)
{
	assert_true(world_balanced(path));
	fw_path_destroy(path);
	fw_rules_destroy(rules);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

/* Hand over one packet.  True: it passed. */
static bool
pass(const struct world_pkt *w)
{
	static uint8_t frame[4096];
	struct rte_mbuf *m = world_mbuf(pool, frame, world_frame(w, frame));
	enum fw_side from = w->from_outside ? FW_OUTSIDE : FW_INSIDE,
	             to = w->from_outside ? FW_INSIDE : FW_OUTSIDE;
	struct fw_burst out;
	bool passed;

	now += PK_NS_PER_MS;
	fw_path_burst(path, rules, 0, from, &m, 1, now, &out);
	passed = out.nb[to] > 0;
	for (unsigned int s = 0; s < FW_SIDE_COUNT; s++)
		rte_pktmbuf_free_bulk(out.pkt[s], out.nb[s]);
	return passed;
}

static void
shake(uint8_t family, uint16_t port)
{
	struct world_pkt w = { .family = family,
		.proto = IPPROTO_TCP,
		.in = 1,
		.out = 9,
		.sport = port,
		.dport = 80,
		.seq = 1000,
		.flags = FW_TCP_SYN,
		.win = 60000 };

	assert_true(pass(&w));
	w.from_outside = true;
	w.sport = 80;
	w.dport = port;
	w.seq = 5000;
	w.ack = 1001;
	w.flags = FW_TCP_SYN | FW_TCP_ACK;
	assert_true(pass(&w));
	w.from_outside = false;
	w.sport = port;
	w.dport = 80;
	w.seq = 1001;
	w.ack = 5001;
	w.flags = FW_TCP_ACK;
	assert_true(pass(&w));
}

static bool
say(uint8_t family, uint16_t port, const char *bytes, unsigned int from, unsigned int to)
{
	struct world_pkt w = { .family = family,
		.proto = IPPROTO_TCP,
		.in = 1,
		.out = 9,
		.sport = port,
		.dport = 80,
		.seq = 1001 + from,
		.ack = 5001,
		.flags = FW_TCP_ACK,
		.win = 60000,
		.payload = (uint16_t)(to - from),
		.body = (const uint8_t *)bytes + from };

	return to == from || pass(&w);
}

static const struct world_rule http = { PK_EGRESS, PK_VERDICT_ALLOW, IPPROTO_TCP, 80, 80 };

static void
test_cuts(void **state)
{
	uint16_t port = 1024;

	(void)state;
	start(&http, 1, 16);
	for (unsigned int m = 0; m < PK_COUNT(messages); m++) {
		unsigned int len = (unsigned int)strlen(messages[m].bytes);

		for (unsigned int cut = 0; cut < len; cut++) {
			for (uint8_t family = 4; family <= 6; family += 2) {
				const char *b = messages[m].bytes;
				bool first, second;

				/* In order, then with the second half first. */
				shake(family, ++port);
				first = say(family, port, b, 0, cut);
				second = say(family, port, b, cut, len);
				assert_int_equal(first && second, messages[m].allowed);
				shake(family, ++port);
				first = say(family, port, b, cut, len);
				second = say(family, port, b, 0, cut);
				assert_int_equal(first && second, messages[m].allowed);
				assert_int_equal(fw_path_inspecting(path), 0);
			}
		}
	}
	assert_int_equal(dpi_bytes_used(path->inspect->dpi), 0);
	stop();
}

static void
test_byte_by_byte(void **state)
{
	(void)state;
	start(&http, 1, 16);
	for (unsigned int m = 0; m < PK_COUNT(messages); m++) {
		unsigned int len = (unsigned int)strlen(messages[m].bytes);
		uint16_t port = (uint16_t)(2000 + m);
		bool all = true;

		shake(4, port);
		for (unsigned int i = 0; i < len; i++)
			all &= say(4, port, messages[m].bytes, i, i + 1);
		assert_int_equal(all, messages[m].allowed);
	}
	assert_int_equal(pk_counter_read(&fw_path_apps_found(path)[DPI_APP_HTTP]), 1);
	assert_int_equal(pk_counter_read(&fw_path_apps_denied(path)[DPI_APP_HTTP]), 0);
	assert_int_equal(pk_counter_read(&fw_path_apps_denied(path)[DPI_APP_SSH]), 1);
	stop();
}

/* Undecided sessions that end, one way or another, hold nothing; handshakes alone never did. */
static void
test_nothing_is_left(void **state)
{
	unsigned int n = 0;

	(void)state;
	start(&http, 1, 64);
	for (uint16_t port = 3000; port < 3064; port++) {
		shake(4, port);
		assert_int_equal(fw_path_inspecting(path), port - 3000);
		assert_true(say(4, port, "GE", 0, 2));
	}
	shake(4, 4000);
	assert_false(say(4, 4000, "GE", 0, 2));
	assert_int_equal(pk_counter_read(&fw_path_stats(path)->drop[FW_DROP_APP_FULL]), 1);
	now += 3 * 86400 * PK_NS_PER_S;
	while (fw_path_nb_sessions(path) > 0 && n++ < 100000) {
		now += PK_NS_PER_S;
		fw_path_tick(path, rules, now, 64, NULL);
	}
	assert_int_equal(fw_path_nb_sessions(path), 0);
	assert_int_equal(fw_path_inspecting(path), 0);
	assert_int_equal(dpi_bytes_used(path->inspect->dpi), 0);
	stop();
}

/* Once the application is known, the fast lane is open to the session; before, it is not. */
static void
test_lane(void **state)
{
	uint64_t seen;

	(void)state;
	start(&http, 1, 16);
	shake(4, 5000);
	assert_int_equal(path->sessions.hot[0].flags & ~FW_LANE_FLAGS, FW_SESSION_EXTRA);
	assert_true(say(4, 5000, messages[0].bytes, 0, (unsigned int)strlen(messages[0].bytes)));
	assert_int_equal(path->sessions.hot[0].flags & ~FW_LANE_FLAGS, 0);
	seen = pk_counter_read(&fw_path_stats(path)->inspect_packets);
	assert_true(say(4, 5000, messages[0].bytes, 0, 10));
	assert_int_equal(pk_counter_read(&fw_path_stats(path)->inspect_packets), seen);
	stop();
}

/* No two names have one number on the wire. */
static void
test_numbers(void **state)
{
	(void)state;
	for (unsigned int a = 1; a < DPI_NB_APPS; a++)
		for (unsigned int b = a + 1; b < DPI_NB_APPS; b++)
			assert_int_not_equal(dpi_app_id(dpi_app_name((enum dpi_app)a)),
			    dpi_app_id(dpi_app_name((enum dpi_app)b)));
	/* The number itself is an interface: it must never change. */
	assert_true(dpi_app_id("http") == UINT32_C(0xc96448a5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_nothing_is_left),
		cmocka_unit_test(test_lane),
		cmocka_unit_test(test_numbers),
	};

	world_app = "http";
	pool = world_start(1023);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
