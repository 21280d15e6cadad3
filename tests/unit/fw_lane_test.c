/*
 * The fast lane against the general stages: two paths, alike but for the lane, are given the same packets,
 * and must agree about every one, and have the same sessions, counters and records after it.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "fw/path_priv.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define BURSTS   20000 /* per case: 330,000 packets */
#define NB_FLOWS 96
#define RECORDS  256

enum {
	LANE,
	GENERAL
};

static struct rte_mempool *pool;

static const struct world_rule allow[] = {
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, IPPROTO_TCP, 80, 81 },
};
static const struct world_rule reject[] = {
	{ PK_EGRESS, PK_VERDICT_REJECT, IPPROTO_TCP, 82, 82 },
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
};

static uint64_t rng;

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

/* Two ends that talk, roughly by the rules. */
static struct flow {
	uint32_t next[2]; /* sequence number of the opener, of the other */
	uint16_t round;   /* connections so far */
	uint8_t phase;    /* SYN, SYN-ACK, ACK, data */
} flows[NB_FLOWS];

/* What comes next on one side. */
static uint32_t
next_frame(enum fw_side from, uint8_t *frame)
{
	struct world_pkt p = { .win = one_in(50) ? (uint16_t)rnd(3) : 30000 };
	bool opener_outside, other;
	struct flow *w;
	uint32_t f;

	f = rnd(NB_FLOWS);
	w = &flows[f];
	opener_outside = f % 4 == 3;
	other = (from == FW_OUTSIDE) != opener_outside;
	if (!other && w->phase == 3 && one_in(80)) {
		w->phase = 0;
		w->round++;
	}
	p.family = f % 3 == 0 ? 6 : 4;
	p.proto = IPPROTO_TCP;
	p.from_outside = opener_outside != other;
	p.in = 1 + f / 4 % 4;
	p.out = 1 + f % 3;
	p.sport = (uint16_t)(2000 + f + NB_FLOWS * (w->round % 64));
	p.dport = (uint16_t)(80 + f % 3);
	p.flags = FW_TCP_ACK | (one_in(3) ? FW_TCP_PSH : 0);
	/* Who is not at turn during the handshake says something out of place. */
	switch (w->phase == 3 || other == (w->phase == 1) ? w->phase : 4) {
	case 0:
		w->next[0] = rnd(UINT32_MAX);
		w->next[1] = rnd(UINT32_MAX);
		p.flags = FW_TCP_SYN;
		break;
	case 1:
		p.flags = FW_TCP_SYN | FW_TCP_ACK;
		break;
	case 2:
	case 4:
		break;
	default:
		p.payload = (uint16_t)(one_in(3) ? rnd(1200) : 0);
	}
	p.seq = w->next[other];
	p.ack = w->phase == 0 ? 0 : w->next[!other];
	w->next[other] += p.payload + ((p.flags & FW_TCP_SYN) != 0);
	if (w->phase == 3) {
		/* Around the edges of the window, now and then, or no part of it at all. */
		if (one_in(15))
			p.seq += rnd(70000) - 35000;
		if (one_in(15))
			p.ack += rnd(70000) - 35000;
		if (one_in(100))
			p.flags = (uint8_t)rnd(64);
		else if (one_in(100))
			p.flags |= one_in(3) ? FW_TCP_RST : FW_TCP_FIN;
	} else if (other == (w->phase == 1)) {
		w->phase++;
	}
	if (other) {
		uint16_t port = p.sport;

		p.sport = p.dport;
		p.dport = port;
	}
	if (one_in(30)) {
		p.proto = one_in(2) || p.family == 6 ? IPPROTO_UDP : IPPROTO_ICMP;
		if (p.proto == IPPROTO_ICMP)
			p.sport = 8 << 8;
	}
	return world_frame(&p, frame);
}

/* Damage a frame, with its header checksum right again more often than not. */
static uint32_t
damage(uint8_t *frame, uint32_t len)
{
	uint8_t *ip = frame + 14;
	const bool v6 = frame[12] == 0x86;
	const uint32_t header = v6 ? 40 : 20;
	uint16_t sum;

	switch (rnd(10)) {
	case 0:
		frame[6 + rnd(6)] ^= (uint8_t)(1 << rnd(8)); /* source MAC */
		break;
	case 1:
		ip[rnd(header)] ^= (uint8_t)(1 << rnd(8));
		break;
	case 2:
		ip[header + rnd(20)] ^= (uint8_t)(1 << rnd(8));
		break;
	case 3:
		if (v6) {
			uint8_t *addr = ip + 8 + 16 * rnd(2);

			memset(addr, 0, one_in(2) ? 8 : 15);
			world_put(
			    addr, (uint64_t[]){ 0, 0xff02, 0xfe80, 0xfec0, 0x2001 }[rnd(5)], 2);
		} else {
			ip[12 + 4 * rnd(2)] = (uint8_t[]){ 0, 127, 224, 255, 10 }[rnd(5)];
		}
		break;
	case 4: /* LAND */
		if (v6)
			memcpy(ip + 8, ip + 24, 16);
		else
			memcpy(ip + 12, ip + 16, 4);
		break;
	case 5:
		if (v6) {
			ip[6] = (uint8_t[]){ IPPROTO_HOPOPTS, IPPROTO_FRAGMENT, IPPROTO_UDP,
				IPPROTO_NONE }[rnd(4)];
			break;
		}
		world_put(ip + 6, (uint64_t[]){ 0x2000, 0x4000, 0x2001, 0x0003 }[rnd(4)], 2);
		break;
	case 6:
		world_put(ip + header + 2 * rnd(2), 0, 2); /* port */
		break;
	case 7:
		world_put(ip + (v6 ? 4 : 2), rnd(1600), 2); /* length */
		break;
	case 8:
		len = rnd(len) + 1;
		break;
	default:
		memmove(frame + 16, frame + 12, len - 12); /* a tag */
		world_put(frame + 12, 0x8100, 2);
		world_put(frame + 14, rnd(3), 2);
		return len + 4;
	}
	if (!one_in(4) && ip[0] == 0x45 && len >= 34) {
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	}
	return len;
}

/* The same packet twice, and as a port might hand it over. */
static void
make_pair(const uint8_t *frame, uint32_t len, struct rte_mbuf *m[2])
{
	static const uint64_t odd[] = { RTE_MBUF_F_RX_IP_CKSUM_BAD, RTE_MBUF_F_RX_IP_CKSUM_NONE,
		RTE_MBUF_F_RX_L4_CKSUM_BAD, RTE_MBUF_F_RX_L4_CKSUM_NONE,
		RTE_MBUF_F_RX_VLAN_STRIPPED, RTE_MBUF_F_RX_LRO };
	uint64_t flags = one_in(2)
	    ? RTE_MBUF_F_RX_IP_CKSUM_GOOD | (one_in(2) ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0)
	    : 0;
	uint32_t cut = one_in(50) ? 1 + rnd(len) : len;

	if (one_in(40))
		flags = odd[rnd(PK_COUNT(odd))];
	for (unsigned int k = 0; k < 2; k++) {
		m[k] = world_mbuf(pool, frame, cut);
		assert_non_null(m[k]);
		if (cut < len) {
			struct rte_mbuf *rest = world_mbuf(pool, frame + cut, len - cut);

			assert_non_null(rest);
			assert_int_equal(rte_pktmbuf_chain(m[k], rest), 0);
		}
		m[k]->ol_flags |= flags;
		m[k]->vlan_tci = flags == RTE_MBUF_F_RX_VLAN_STRIPPED ? 1 : 0;
	}
}

struct twins {
	struct fw_path *path[2];
	struct fw_trace *trace[2];
	struct fw_burst out[2];
};

/* Which packet of the burst a sent one is; n for one that the path has made. */
static unsigned int
number(struct rte_mbuf *const *pkts, unsigned int n, const struct rte_mbuf *m)
{
	unsigned int i = 0;

	while (i < n && pkts[i] != m)
		i++;
	return i;
}

static void
compare_sent(struct twins *t, struct rte_mbuf *pkts[2][FW_BURST], unsigned int n, uint64_t plain[2])
{
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		unsigned int nb = t->out[LANE].nb[side];

		assert_int_equal(nb, t->out[GENERAL].nb[side]);
		for (unsigned int i = 0; i < nb; i++) {
			struct rte_mbuf *a = t->out[LANE].pkt[side][i];
			struct rte_mbuf *b = t->out[GENERAL].pkt[side][i];
			const uint8_t *data = rte_pktmbuf_mtod(a, const uint8_t *);

			assert_int_equal(number(pkts[LANE], n, a), number(pkts[GENERAL], n, b));
			assert_int_equal(a->pkt_len, b->pkt_len);
			assert_int_equal(a->ol_flags, b->ol_flags);
			assert_memory_equal(data, rte_pktmbuf_mtod(b, void *), a->data_len);
			plain[0] += a->data_len >= 54 && data[12] == 8 && data[23] == IPPROTO_TCP &&
			    (data[47] & 0x17) == FW_TCP_ACK;
			plain[1] += a->data_len >= 74 && data[12] == 0x86 &&
			    data[20] == IPPROTO_TCP && (data[67] & 0x17) == FW_TCP_ACK;
		}
		if (nb > 0) {
			rte_pktmbuf_free_bulk(t->out[LANE].pkt[side], nb);
			rte_pktmbuf_free_bulk(t->out[GENERAL].pkt[side], nb);
		}
	}
}

static void
compare_records(struct twins *t)
{
	static struct fw_trace_record r[2][RECORDS];
	unsigned int n;

	while ((n = fw_trace_take(t->trace[LANE], r[LANE], RECORDS)) > 0) {
		assert_int_equal(fw_trace_take(t->trace[GENERAL], r[GENERAL], n), n);
		assert_memory_equal(r[LANE], r[GENERAL], n * sizeof(r[0][0]));
	}
	assert_int_equal(fw_trace_take(t->trace[GENERAL], r[GENERAL], 1), 0);
}

static void
compare_tables(struct twins *t)
{
	const struct fw_sessions *a = &t->path[LANE]->sessions, *b = &t->path[GENERAL]->sessions;

	assert_int_equal(a->nb, b->nb);
	assert_int_equal(a->fresh, b->fresh);
	assert_memory_equal(a->hot, b->hot, a->fresh * sizeof(a->hot[0]));
	assert_memory_equal(a->cold, b->cold, a->fresh * sizeof(a->cold[0]));
	assert_memory_equal(
	    (const void *)a->version, (const void *)b->version, a->fresh * sizeof(a->version[0]));
}

static void
run(uint64_t seed, bool loose, bool verify, uint32_t limit)
{
	struct fw_path_conf conf;
	struct fw_rules *rules = world_rules(1, 4, true, allow, PK_COUNT(allow));
	uint64_t now = 1000 * PK_NS_PER_S, generation = 1, packets = 0, plain[2] = { 0 };
	struct twins t;

	rng = seed;
	memset(flows, 0, sizeof(flows));
	fw_path_conf_init(&conf);
	conf.nb_sessions = 128; /* hardly more than there are flows: they push each other out */
	conf.timeout_ns[FW_TIMEOUT_TCP_ESTABLISHED] = 60 * PK_NS_PER_S;
	conf.huge = false;
	conf.seed[0] = 3;
	conf.seed[1] = seed;
	conf.pool = pool;
	conf.tcp_loose = loose;
	conf.verify_checksums = verify;
	conf.limit[FW_OWNER_WORKLOAD].sessions = conf.limit[FW_OWNER_WORKLOAD].half_open = limit;
	for (unsigned int k = 0; k < 2; k++) {
		conf.general_only = k == GENERAL;
		assert_int_equal(fw_trace_create(&t.trace[k], 4096), 0);
		fw_trace_set_level(t.trace[k], FW_TRACE_DROPS);
		conf.trace = t.trace[k];
		assert_int_equal(fw_path_create(&t.path[k], &conf), 0);
	}
	for (unsigned int i = 0; i < BURSTS; i++) {
		unsigned int n = 1 + rnd(FW_BURST), got = 0;
		struct rte_mbuf *pkts[2][FW_BURST];
		enum fw_side from = one_in(2) ? FW_INSIDE : FW_OUTSIDE;

		for (; got < n; got++) {
			/* Few lost their way. */
			enum fw_side seems = one_in(300) ? from ^ 1 : from;
			struct rte_mbuf *m[2];
			uint8_t frame[2100];
			uint32_t len = next_frame(seems, frame);

			if (one_in(25))
				len = damage(frame, len);
			make_pair(frame, len, m);
			pkts[LANE][got] = m[LANE];
			pkts[GENERAL][got] = m[GENERAL];
		}
		if (one_in(500)) {
			fw_rules_destroy(rules);
			rules = one_in(2)
			    ? world_rules(++generation, 4, true, reject, PK_COUNT(reject))
			    : world_rules(++generation, 4, one_in(2), allow, PK_COUNT(allow));
		}
		now += one_in(100) ? rnd(40) * PK_NS_PER_S : rnd(2000000);
		for (unsigned int k = 0; k < 2; k++) {
			struct rte_mbuf *mine[FW_BURST];

			memcpy(mine, pkts[k], sizeof(mine));
			fw_path_burst(t.path[k], rules, 0, from, mine, n, now, &t.out[k]);
			fw_path_tick(t.path[k], rules, now, 64, NULL);
		}
		packets += n;
		compare_sent(&t, pkts, n, plain);
		compare_records(&t);
		assert_memory_equal(fw_path_stats(t.path[LANE]), fw_path_stats(t.path[GENERAL]),
		    sizeof(struct fw_path_stats));
		compare_tables(&t);
	}
	assert_memory_equal(
	    t.path[LANE]->hits, t.path[GENERAL]->hits, FW_RULE_SLOTS * sizeof(pk_counter));
	assert_true(world_balanced(t.path[LANE]));
	/* The account of what has been compared: enough of it in the lane, and enough outside. */
	assert_true(packets > BURSTS * UINT64_C(16));
	assert_true(plain[0] > packets / 8);
	assert_true(plain[1] > packets / 16);
	assert_true(plain[0] + plain[1] < packets * 4 / 5);
	for (unsigned int k = 0; k < 2; k++) {
		fw_path_destroy(t.path[k]);
		fw_trace_destroy(t.trace[k]);
	}
	fw_rules_destroy(rules);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void
test_strict(void **state)
{
	(void)state;
	run(88172645463325252u, false, false, 0);
}

static void
test_loose(void **state)
{
	(void)state;
	run(4101842887655102017u, true, false, 0);
}

static void
test_verify(void **state)
{
	(void)state;
	run(2685821657736338717u, false, true, 0);
}

static void
test_limits(void **state)
{
	(void)state;
	run(1181783497276652981u, true, true, 12);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_loose),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_limits),
	};

	pool = world_start(1023);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
