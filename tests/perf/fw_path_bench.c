/*
 * The packet path alone: buffers made once and handed to it again and again, no port and no allocation
 * in between.  For finding out where cycles go; the figures to quote come from fw_perf, which feeds the
 * path through ports.
 *
 *   fw_path_bench [CASE-PREFIX]
 *
 * Prints the minimum and the median of the rounds in cycles per packet, beside the bare loop over the same
 * buffers that touches each frame's first line, as any forwarder must.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "tests/unit/fw_world.h"

#define ROUNDS  31
#define NB_MBUF 16384
#define NB_HOST 200

static struct rte_mempool *pool;
static struct rte_mbuf *mbuf[NB_MBUF];
static struct fw_rules *rules;
static uint64_t now = 1000 * PK_NS_PER_S;
static volatile uint64_t sink;

static const struct world_rule allow[] = {
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
};

static uint64_t rng = 88172645463325252u;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* Packet of flow i: client inside, port and host from i. */
static uint32_t
flow_frame(uint8_t *frame, uint8_t family, uint32_t i, bool from_outside, uint8_t flags,
    uint32_t seq, uint32_t ack, uint16_t payload)
{
	uint16_t client = (uint16_t)(1024 + i / NB_HOST % 60000);
	struct world_pkt w = { .family = family,
		.proto = IPPROTO_TCP,
		.from_outside = from_outside,
		.in = 1 + i % NB_HOST,
		.out = 1 + i / NB_HOST / 60000,
		.sport = client,
		.dport = 443,
		.seq = seq,
		.ack = ack,
		.flags = flags,
		.win = 60000,
		.payload = payload };

	if (from_outside) {
		w.sport = 443;
		w.dport = client;
	}
	return world_frame(&w, frame);
}

static void
load(struct rte_mbuf *m, const uint8_t *frame, uint32_t len)
{
	memcpy(rte_pktmbuf_mtod(m, void *), frame, len);
	m->data_len = (uint16_t)len;
	m->pkt_len = len;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
report(const char *name, double *cycles, double *bare)
{
	qsort(cycles, ROUNDS, sizeof(*cycles), compare);
	qsort(bare, ROUNDS, sizeof(*bare), compare);
	printf("%-28s min %6.1f  median %6.1f cycles a packet; bare loop %5.1f\n", name, cycles[0],
	    cycles[ROUNDS / 2], bare[ROUNDS / 2]);
	fflush(stdout);
}

static double
bare_loop(void)
{
	uint64_t start = rte_rdtsc(), sum = 0;

	for (unsigned int i = 0; i < NB_MBUF; i += FW_BURST) {
		for (unsigned int k = 0; k < FW_BURST; k++)
			rte_prefetch0(rte_pktmbuf_mtod(mbuf[i + k], const void *));
		for (unsigned int k = 0; k < FW_BURST; k++)
			sum += *rte_pktmbuf_mtod(mbuf[i + k], const uint8_t *);
	}
	sink = sum;
	return (double)(rte_rdtsc() - start) / NB_MBUF;
}

static struct fw_path *
make_path(uint32_t nb_sessions)
{
	struct fw_path_conf conf;
	struct fw_path *p;

	fw_path_conf_init(&conf);
	conf.nb_sessions = nb_sessions;
	conf.pool = pool;
	conf.seed[0] = 11;
	conf.seed[1] = 12;
	conf.syn_cookies = 0; /* all handshakes are under way at once */
	PK_ASSERT(fw_path_create(&p, &conf) == 0);
	return p;
}

/* Packets are not freed but handed out, so the burst leaves them as they were. */
static void
burst(struct fw_path *p, enum fw_side from, unsigned int at, uint32_t want)
{
	static struct fw_burst out;

	fw_path_burst(p, rules, 0, from, mbuf + at, FW_BURST, now, &out);
	PK_ASSERT(out.nb[from ^ 1] == want);
}

static void
established(const char *name, uint8_t family, uint32_t nb_flows, uint16_t payload)
{
	struct fw_path *p = make_path(RTE_MAX(nb_flows + nb_flows / 8, 4096u));
	double cycles[ROUNDS], bare[ROUNDS];
	uint8_t frame[4096];

	/* Open them all: three packets each. */
	for (unsigned int step = 0; step < 3; step++) {
		for (uint32_t i = 0; i < nb_flows; i += FW_BURST) {
			for (unsigned int k = 0; k < FW_BURST; k++) {
				uint32_t f = RTE_MIN(i + k, nb_flows - 1);
				uint8_t flags = step == 0 ? FW_TCP_SYN
				    : step == 1           ? FW_TCP_SYN | FW_TCP_ACK
				                          : FW_TCP_ACK;

				load(mbuf[k], frame,
				    flow_frame(frame, family, f, step == 1, flags,
				        step == 0       ? 100
				            : step == 1 ? 500
				                        : 101,
				        step == 0       ? 0
				            : step == 1 ? 101
				                        : 501,
				        0));
			}
			burst(p, step == 1 ? FW_OUTSIDE : FW_INSIDE, 0, FW_BURST);
		}
	}
	PK_ASSERT(fw_path_nb_sessions(p) == nb_flows);
	for (unsigned int r = 0; r < ROUNDS; r++) {
		uint64_t start;

		for (unsigned int i = 0; i < NB_MBUF; i++) {
			bool outside = i / FW_BURST % 2 != 0;

			load(mbuf[i], frame,
			    flow_frame(frame, family, rnd(nb_flows), outside, FW_TCP_ACK,
			        outside ? 501 : 101, outside ? 101 : 501, payload));
		}
		now += 1000;
		bare[r] = bare_loop();
		start = rte_rdtsc();
		for (unsigned int i = 0; i < NB_MBUF; i += FW_BURST)
			burst(p, i / FW_BURST % 2 != 0 ? FW_OUTSIDE : FW_INSIDE, i, FW_BURST);
		cycles[r] = (double)(rte_rdtsc() - start) / NB_MBUF;
	}
	report(name, cycles, bare);
	fw_path_destroy(p);
}

/* New connections: SYN, SYN-ACK, ACK, FIN, FIN, ACK; then the ports rest and are used again. */
static void
connections(const char *name, uint8_t family)
{
	static const struct {
		bool from_outside;
		uint8_t flags;
		uint32_t seq, ack;
	} steps[6] = {
		{ false, FW_TCP_SYN, 100, 0 },
		{ true, FW_TCP_SYN | FW_TCP_ACK, 500, 101 },
		{ false, FW_TCP_ACK, 101, 501 },
		{ false, FW_TCP_FIN | FW_TCP_ACK, 101, 501 },
		{ true, FW_TCP_FIN | FW_TCP_ACK, 501, 102 },
		{ false, FW_TCP_ACK, 102, 502 },
	};
	const uint32_t group = 64, groups = NB_MBUF / (6 * group);
	struct fw_path *p = make_path(1 << 20);
	double cycles[ROUNDS], bare[ROUNDS];
	uint8_t frame[4096];
	uint32_t next = 0;

	for (unsigned int r = 0; r < ROUNDS; r++) {
		uint64_t spent = 0, t;

		for (unsigned int i = 0; i < groups * 6 * group; i++) {
			uint32_t flow = next + i / (6 * group) * group + i % group;
			unsigned int s = i / group % 6;

			load(mbuf[i], frame,
			    flow_frame(frame, family, flow, steps[s].from_outside, steps[s].flags,
			        steps[s].seq, steps[s].ack, 0));
		}
		next += groups * group;
		bare[r] = bare_loop();
		t = rte_rdtsc();
		for (unsigned int i = 0; i < groups * 6 * group; i += FW_BURST) {
			now += 2000; /* as if at half a million a second */
			burst(p, steps[i / group % 6].from_outside ? FW_OUTSIDE : FW_INSIDE, i,
			    FW_BURST);
			fw_path_tick(p, rules, now, 64, NULL);
		}
		spent = rte_rdtsc() - t;
		cycles[r] = (double)spent / (groups * 6 * group);
		now += PK_NS_PER_S;
		/* Time goes on, so what has been opened is also taken away again in the account. */
	}
	report(name, cycles, bare);
	printf("%-28s %.2f million connections a second\n", "",
	    (double)rte_get_tsc_hz() / 1e6 / (cycles[ROUNDS / 2] * 6));
	fw_path_destroy(p);
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint8_t family;
		uint32_t flows;
		uint16_t payload;
	} cases[] = {
		{ "tcp64.1", 4, 1, 0 },
		{ "tcp64.10k", 4, 10000, 0 },
		{ "tcp64.1m", 4, 1000000, 0 },
		{ "tcp1500.1", 4, 1, 1460 },
		{ "tcp1500.10k", 4, 10000, 1460 },
		{ "tcp1500.1m", 4, 1000000, 1460 },
		{ "tcp64.v6.10k", 6, 10000, 0 },
		{ "tcp64.v6.1m", 6, 1000000, 0 },
	};
	const char *want = argc > 1 ? argv[1] : "";

	pool = world_start(NB_MBUF + 63);
	PK_ASSERT(pool != NULL && rte_pktmbuf_alloc_bulk(pool, mbuf, NB_MBUF) == 0);
	rules = world_rules(1, NB_HOST, true, allow, PK_COUNT(allow));
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		if (strncmp(cases[i].name, want, strlen(want)) == 0)
			established(
			    cases[i].name, cases[i].family, cases[i].flows, cases[i].payload);
	if (strncmp("cps", want, strlen(want)) == 0) {
		connections("cps.v4", 4);
		connections("cps.v6", 6);
	}
	return 0;
}
