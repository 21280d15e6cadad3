/*
 * What needs more flows than a capture can hold, more than one lcore, or a clock of its own.  Packets are
 * written where a port would have put them, into fresh mbufs; what leaves goes to a net_null port.  Flows
 * come in random order, so neither of a session's lines is where the last one's was.
 *
 *   fw_load          the names of the results
 *   fw_load NAME     prints a JSON line for each result of that case
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#include "fw/parse.h"
#include "fw/relay.h"
#include "fw/steer.h"
#include "tests/perf/perf.h"

#define RUNS     3
#define RUN_NS   (1500 * PK_NS_PER_MS)
#define FRAME    60
#define MANY     (UINT32_C(1) << 25) /* 33.5 million */
#define CPS_GAP  64
#define CPS_BASE 20000 /* connections before ports are used again */
#define LIVE     10000 /* flows that go on while the others end */

struct load {
	struct rte_mempool *pool;
	struct fw_rules *rules;
	struct fw_path *path;
	uint16_t null_port, queue;
	uint32_t nb_flows, next; /* next: of flows in order */
	uint32_t first;          /* flow of new connections */
	bool strict;             /* no session without a handshake */
	uint64_t clock_ns;       /* that stands until it is moved; 0: the machine's */
	uint64_t random;
	uint64_t packets, cycles, created;
	uint8_t template[FRAME];
	uint32_t ip_sum; /* of the template's header without addresses */
};

static void
init(struct load *l, uint32_t nb_flows, uint32_t nb_sessions)
{
	struct fw_path_conf conf;

	l->nb_flows = nb_flows;
	l->random = 88172645463325252u + l->queue;
	memset(l->template, 0, FRAME);
	l->template[0] = l->template[6] = 2;
	l->template[5] = 2;
	l->template[11] = 1;
	memcpy(
	    l->template + 12, (uint8_t[]){ 0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6 }, 12);
	l->template[46] = 0x50;
	l->ip_sum = fw_sum(l->template + 14, 12, 0);
	fw_path_conf_init(&conf);
	conf.nb_sessions = nb_sessions;
	conf.seed[0] = 1;
	conf.seed[1] = 2;
	conf.tcp_loose = !l->strict;
	conf.pool = l->pool;
	conf.timeout_ns[FW_TIMEOUT_TCP_ESTABLISHED] = 15 * PK_NS_PER_S;
	PK_ASSERT(fw_path_create(&l->path, &conf) == 0);
}

static uint64_t
now_of(const struct load *l)
{
	return l->clock_ns != 0 ? l->clock_ns : fw_workers_now_ns();
}

static uint32_t
draw(struct load *l)
{
	l->random ^= l->random << 13;
	l->random ^= l->random >> 7;
	l->random ^= l->random << 17;
	return (uint32_t)((l->random >> 16 & UINT32_MAX) * (uint64_t)l->nb_flows >> 32);
}

/* Every number below 2^25 once, in an order that nothing can guess from. */
static uint32_t
shuffle(uint32_t i)
{
	for (unsigned int r = 0; r < 3; r++) {
		i = i * UINT32_C(0x9e3779b1) & (MANY - 1);
		i ^= i >> 13;
	}
	return i;
}

struct tcp {
	uint32_t src, dst; /* host order */
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
};

static void
write_tcp(const struct load *l, struct rte_mbuf *m, enum fw_side from, const struct tcp *tcp)
{
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t addrs[2] = { rte_cpu_to_be_32(tcp->src), rte_cpu_to_be_32(tcp->dst) };
	uint16_t ports[2] = { rte_cpu_to_be_16(tcp->sport), rte_cpu_to_be_16(tcp->dport) };
	uint32_t numbers[2] = { rte_cpu_to_be_32(tcp->seq), rte_cpu_to_be_32(tcp->ack) };
	uint16_t sum, win = RTE_BE16(65000);

	memcpy(p, l->template, FRAME);
	if (from == FW_OUTSIDE) {
		p[5] = 1;
		p[11] = 2;
	}
	sum = (uint16_t)~fw_sum_fold(fw_sum((const uint8_t *)addrs, 8, l->ip_sum));
	memcpy(p + 24, &sum, 2);
	memcpy(p + 26, addrs, 8);
	memcpy(p + 34, ports, 4);
	memcpy(p + 38, numbers, 8);
	p[47] = tcp->flags;
	memcpy(p + 48, &win, 2);
	m->data_len = FRAME;
	m->pkt_len = FRAME;
}

/* A packet of flow f, whose client is inside. */
static void
write_flow(const struct load *l, struct rte_mbuf *m, uint32_t f, enum fw_side from, uint32_t seq,
    uint32_t ack, uint8_t flags)
{
	uint32_t client = RTE_IPV4(198, 18, 0, 1) + f % PERF_HOSTS,
	         server = RTE_IPV4(198, 19, 0, 1) + f / PERF_HOSTS / 60000;
	uint16_t port = (uint16_t)(1024 + f / PERF_HOSTS % 60000);
	bool in = from == FW_INSIDE;

	write_tcp(l, m, from,
	    &(struct tcp){ .src = in ? client : server,
	        .dst = in ? server : client,
	        .sport = in ? port : 443,
	        .dport = in ? 443 : port,
	        .seq = seq,
	        .ack = ack,
	        .flags = flags });
}

static void
transmit(const struct load *l, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int sent = rte_eth_tx_burst(l->null_port, l->queue, pkts, (uint16_t)n);

	rte_pktmbuf_free_bulk(pkts + sent, n - sent);
}

/* Returns how many have passed. */
static unsigned int
forward(struct load *l, enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	struct fw_burst out;

	fw_path_burst(l->path, l->rules, 0, from, pkts, n, now_ns, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		if (out.nb[side] > 0)
			transmit(l, out.pkt[side], out.nb[side]);
	return out.nb[from ^ 1];
}

enum order {
	ORDER_RANDOM,
	ORDER_OPEN,
	ORDER_ALL
};

static void
generate(
    struct load *l, enum order order, enum fw_side from, struct rte_mbuf **pkts, unsigned int n)
{
	PK_ASSERT(rte_pktmbuf_alloc_bulk(l->pool, pkts, n) == 0);
	for (unsigned int i = 0; i < n; i++) {
		uint32_t f = order == ORDER_RANDOM ? draw(l)
		    : order == ORDER_OPEN          ? l->next++
		                                   : shuffle(l->next++);

		if (from == FW_INSIDE)
			write_flow(l, pkts[i], f, from, 1000, 5000, RTE_TCP_ACK_FLAG);
		else
			write_flow(l, pkts[i], f, from, 5000, 1000, RTE_TCP_ACK_FLAG);
	}
}

/* Open all flows, once each. */
static void
open_all(struct load *l)
{
	struct rte_mbuf *pkts[FW_BURST];

	for (l->next = 0; l->next < l->nb_flows;) {
		unsigned int n = PK_MIN((uint32_t)FW_BURST, l->nb_flows - l->next);
		uint64_t now_ns = fw_workers_now_ns();

		generate(l, ORDER_OPEN, FW_INSIDE, pkts, n);
		forward(l, FW_INSIDE, pkts, n, now_ns);
		fw_path_tick(l->path, l->rules, now_ns, FW_TICK_BUSY, NULL);
	}
	PK_ASSERT(fw_path_nb_sessions(l->path) == l->nb_flows);
}

/* The same by handshakes. */
static void
shake_all(struct load *l)
{
	struct rte_mbuf *pkts[FW_BURST];

	for (uint32_t f = 0; f < l->nb_flows; f += FW_BURST) {
		unsigned int n = PK_MIN((uint32_t)FW_BURST, l->nb_flows - f);

		for (unsigned int step = 0; step < 3; step++) {
			enum fw_side side = step == 1 ? FW_OUTSIDE : FW_INSIDE;

			PK_ASSERT(rte_pktmbuf_alloc_bulk(l->pool, pkts, n) == 0);
			for (unsigned int i = 0; i < n; i++)
				write_flow(l, pkts[i], f + i, side,
				    step == 0       ? 999
				        : step == 1 ? 4999
				                    : 1000,
				    step == 0       ? 0
				        : step == 1 ? 1000
				                    : 5000,
				    step == 0       ? FW_TCP_SYN
				        : step == 1 ? FW_TCP_SYN | FW_TCP_ACK
				                    : FW_TCP_ACK);
			PK_ASSERT(forward(l, side, pkts, n, fw_workers_now_ns()) == n);
		}
	}
	PK_ASSERT(fw_path_nb_sessions(l->path) == l->nb_flows);
}

/* Packets of random flows from both sides, through the path or past it. */
static double
run_random(struct load *l, bool with_path, uint64_t ns)
{
	uint64_t start = rte_rdtsc(), now = start,
	         end = start + ns / 1000 * (rte_get_tsc_hz() / 1000000), packets = 0;
	struct rte_mbuf *pkts[FW_BURST];

	for (; now < end; now = rte_rdtsc()) {
		uint64_t now_ns = now_of(l);

		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			generate(l, ORDER_RANDOM, (enum fw_side)side, pkts, FW_BURST);
			packets += FW_BURST;
			if (with_path)
				forward(l, (enum fw_side)side, pkts, FW_BURST, now_ns);
			else
				transmit(l, pkts, FW_BURST);
		}
		if (with_path)
			fw_path_tick(l->path, l->rules, now_ns, FW_TICK_BUSY, NULL);
	}
	l->packets = packets;
	l->cycles = now - start;
	return (double)l->cycles / (double)packets;
}

/* Whole connections of six packets for `ns`, CPS_GAP of them under way at a time. */
static void
run_connections(struct load *l, uint64_t ns)
{
	static const struct {
		uint8_t from, flags, seq, ack;
	} steps[] = {
		{ FW_INSIDE, FW_TCP_SYN, 0, 0 },
		{ FW_OUTSIDE, FW_TCP_SYN | FW_TCP_ACK, 0, 1 },
		{ FW_INSIDE, FW_TCP_ACK, 1, 1 },
		{ FW_INSIDE, FW_TCP_FIN | FW_TCP_ACK, 1, 1 },
		{ FW_OUTSIDE, FW_TCP_FIN | FW_TCP_ACK, 1, 2 },
		{ FW_INSIDE, FW_TCP_ACK, 2, 2 },
	};
	uint64_t start = rte_rdtsc(), end = start + ns / 1000 * (rte_get_tsc_hz() / 1000000);
	uint64_t before = pk_counter_read(&fw_path_stats(l->path)->sessions_created);
	struct rte_mbuf *pkts[FW_BURST];

	while (rte_rdtsc() < end) {
		uint64_t now_ns = fw_workers_now_ns();

		for (unsigned int s = 0; s < RTE_DIM(steps); s++) {
			bool syn = steps[s].flags == FW_TCP_SYN, in = steps[s].from == FW_INSIDE;

			for (uint32_t k = 0; k < CPS_GAP; k += FW_BURST) {
				PK_ASSERT(rte_pktmbuf_alloc_bulk(l->pool, pkts, FW_BURST) == 0);
				for (uint32_t i = 0; i < FW_BURST; i++) {
					uint32_t at = l->next + k + i, lap = at / CPS_BASE << 12;
					uint32_t c = 1000 + lap, v = 900000 + lap;

					write_flow(l, pkts[i], l->first + at % CPS_BASE,
					    (enum fw_side)steps[s].from,
					    (in ? c : v) + steps[s].seq,
					    syn ? 0 : (in ? v : c) + steps[s].ack, steps[s].flags);
				}
				forward(l, (enum fw_side)steps[s].from, pkts, FW_BURST, now_ns);
			}
		}
		fw_path_tick(l->path, l->rules, now_ns, FW_TICK_BUSY, NULL);
		l->next += CPS_GAP;
	}
	l->cycles = rte_rdtsc() - start;
	l->created = pk_counter_read(&fw_path_stats(l->path)->sessions_created) - before;
}

#define DELAY_MAX_NS 2000000

struct delays {
	uint64_t packets;
	uint64_t left; /* were due, and had not been sent when their time was over */
	uint32_t nb[DELAY_MAX_NS];
};

/*
 * Packets are due every `gap` cycles for `ns`; each waits from then until it has been handed to the port.  The
 * loop is a worker's: what has come since the last round is taken, up to a burst from either side.
 */
static void
run_paced(struct load *l, bool with_path, double gap, uint64_t ns, struct delays *d)
{
	double hz = (double)rte_get_tsc_hz();
	uint64_t start = rte_rdtsc(), now = start,
	         end = start + ns / 1000 * (rte_get_tsc_hz() / 1000000), sent = 0;
	struct rte_mbuf *pkts[FW_BURST];

	for (; now < end; now = rte_rdtsc()) {
		uint64_t now_ns = fw_workers_now_ns();
		unsigned int most = 0;

		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			uint64_t due = (uint64_t)((double)(now - start) / gap) - sent;
			unsigned int n = (unsigned int)PK_MIN(
			    side == FW_INSIDE ? (due + 1) / 2 : due, (uint64_t)FW_BURST);
			double done;

			if (n == 0)
				continue;
			most = PK_MAX(most, n);
			generate(l, ORDER_RANDOM, (enum fw_side)side, pkts, n);
			if (with_path)
				PK_ASSERT(forward(l, (enum fw_side)side, pkts, n, now_ns) == n);
			else
				transmit(l, pkts, n);
			done = (double)(rte_rdtsc() - start);
			for (unsigned int i = 0; i < n && d != NULL; i++) {
				double wait = (done - (double)(sent + i + 1) * gap) / hz * 1e9;

				d->nb[PK_MIN(
				    (uint64_t)PK_MAX(wait, 0.0), (uint64_t)DELAY_MAX_NS - 1)]++;
			}
			sent += n;
		}
		if (with_path)
			fw_path_tick(l->path, l->rules, now_ns, fw_tick_budget(most), NULL);
	}
	if (d == NULL)
		return;
	d->packets += sent;
	d->left += (uint64_t)((double)(now - start) / gap) - sent;
}

/* Nanoseconds that this part of the packets had to wait at most. */
static uint32_t
percentile(const struct delays *d, double part)
{
	uint64_t seen = 0;
	uint32_t ns = 0;

	while (ns < DELAY_MAX_NS - 1 && (double)(seen += d->nb[ns]) < part * (double)d->packets)
		ns++;
	return ns;
}

static double
median(double *v)
{
	qsort(v, RUNS, sizeof(*v), perf_compare);
	return v[RUNS / 2];
}

static void
json(const char *name, const char *unit, const char *better, double value, const char *more)
{
	printf("{\"name\":\"%s\",\"unit\":\"%s\",\"better\":\"%s\",\"value\":%.4f%s}\n", name, unit,
	    better, value, more);
	fflush(stdout);
}

/* ---- cases ---- */

static void
case_flows(struct load *l, const char *name, uint32_t nb_flows)
{
	double with[RUNS], plain[RUNS], hz = (double)rte_get_tsc_hz(), w, p;
	char more[256];

	init(l, nb_flows, PK_MAX(nb_flows + nb_flows / 4, 131072u));
	open_all(l);
	run_random(l, true, RUN_NS / 3);
	for (unsigned int i = 0; i < RUNS; i++) {
		plain[i] = run_random(l, false, RUN_NS / 3);
		with[i] = run_random(l, true, RUN_NS / 3);
	}
	w = median(with);
	p = median(plain);
	snprintf(more, sizeof(more),
	    ",\"cycles_per_packet\":%.1f,\"limit\":{\"name\":\"generator to port\",\"value\":%.4f,"
	    "\"cycles_per_packet\":%.1f},\"ratio\":%.3f,\"sessions\":%u,\"drops\":%" PRIu64,
	    w, hz / p / 1e6, p, p / w, fw_path_nb_sessions(l->path), perf_drops(l->path));
	json(name, "Mpps", "higher", hz / w / 1e6, more);
}

/*
 * MANY sessions, each seeing a packet from either side; then silence, but for LIVE flows, until the others
 * have gone.  15 seconds are the timeout, counted from the last packet of all.  The live flows are half as many
 * packets as the lcore could do, and what they see of it is their delay, beside that of before.
 */
static void
case_many(struct load *l)
{
	static struct delays before, during;
	double hz = (double)rte_get_tsc_hz(), half;
	uint64_t t, last_ns, empty_ns = 0;
	struct rte_mbuf *pkts[FW_BURST];
	char more[256];

	init(l, MANY, MANY);
	t = rte_rdtsc();
	open_all(l);
	snprintf(more, sizeof(more), ",\"open_per_second\":%.0f",
	    (double)MANY * hz / (double)(rte_rdtsc() - t));
	json("fw.sessions.max", "", "higher", fw_path_nb_sessions(l->path), more);
	json("fw.session.bytes", "B", "lower",
	    (double)fw_path_session_bytes(l->path) / fw_path_nb_sessions(l->path), "");
	t = rte_rdtsc();
	for (l->next = 0; l->next < MANY;) {
		uint64_t now_ns = fw_workers_now_ns();

		generate(l, ORDER_ALL, FW_OUTSIDE, pkts, FW_BURST);
		forward(l, FW_OUTSIDE, pkts, FW_BURST, now_ns);
		fw_path_tick(l->path, l->rules, now_ns, FW_TICK_BUSY, NULL);
	}
	last_ns = fw_workers_now_ns();
	PK_ASSERT(fw_path_nb_sessions(l->path) == MANY && perf_drops(l->path) == 0);
	snprintf(more, sizeof(more), ",\"cycles_per_packet\":%.1f",
	    (double)(rte_rdtsc() - t) / (double)MANY);
	json("fw.tcp64.32m", "Mpps", "higher", (double)MANY * hz / (double)(rte_rdtsc() - t) / 1e6,
	    more);
	l->nb_flows = LIVE;
	half = 2 * run_random(l, true, 300 * PK_NS_PER_MS);
	memset(&before, 0, sizeof(before));
	run_paced(l, true, half, 5 * PK_NS_PER_S, &before);
	while (fw_workers_now_ns() < last_ns + 12 * PK_NS_PER_S)
		run_paced(l, true, half, 100 * PK_NS_PER_MS, NULL);
	memset(&during, 0, sizeof(during));
	while (empty_ns == 0 && fw_workers_now_ns() < last_ns + 40 * PK_NS_PER_S) {
		run_paced(l, true, half, 10 * PK_NS_PER_MS, &during);
		if (fw_path_nb_sessions(l->path) <= LIVE)
			empty_ns = fw_workers_now_ns();
	}
	snprintf(more, sizeof(more), ",\"left\":%u,\"load_mpps\":%.2f",
	    fw_path_nb_sessions(l->path) - LIVE, hz / half / 1e6);
	json("fw.sessions.empty", "s", "lower",
	    (double)((int64_t)(empty_ns - last_ns) - 15 * (int64_t)PK_NS_PER_S) / 1e9, more);
	snprintf(more, sizeof(more),
	    ",\"p50\":%u,\"before\":{\"p50\":%u,\"p99\":%u},\"packets\":%" PRIu64
	    ",\"left_behind\":%" PRIu64 ",\"drops\":%" PRIu64,
	    percentile(&during, 0.5), percentile(&before, 0.5), percentile(&before, 0.99),
	    during.packets, during.left, perf_drops(l->path));
	json("fw.sessions.live", "ns", "lower", percentile(&during, 0.99), more);
}

/* Of the processor, so that others on this machine do not count. */
static double
thread_seconds(void)
{
	struct timespec t;

	PK_ASSERT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* MANY sessions, all opened at the same moment. */
static void
fill_at_once(struct load *l)
{
	struct rte_mbuf *pkts[FW_BURST];

	for (l->next = 0; l->next < MANY;) {
		generate(l, ORDER_ALL, FW_INSIDE, pkts, FW_BURST);
		forward(l, FW_INSIDE, pkts, FW_BURST, l->clock_ns);
	}
	PK_ASSERT(fw_path_nb_sessions(l->path) == MANY && perf_drops(l->path) == 0);
}

/*
 * MANY sessions that fall silent at the same moment, so that all their ends come at once: how long an lcore that has
 * nothing else to do needs for them; and what LIVE flows that take all it can give lose meanwhile.  The clock is
 * virtual: it stands, and jumps.
 */
static void
case_empty(struct load *l)
{
	const uint64_t timeout_ns = 15 * PK_NS_PER_S;
	double seconds, start, calm, meanwhile, hz = (double)rte_get_tsc_hz();
	uint64_t packets = 0, cycles = 0;
	struct rte_mbuf *pkts[FW_BURST];
	char more[128];

	init(l, MANY, MANY);
	l->clock_ns = 1000 * PK_NS_PER_S;
	fill_at_once(l);
	l->clock_ns += timeout_ns + PK_NS_PER_S;
	start = thread_seconds();
	while (fw_path_nb_sessions(l->path) != 0)
		fw_path_tick(l->path, l->rules, l->clock_ns, FW_TICK_IDLE, NULL);
	seconds = thread_seconds() - start;
	snprintf(more, sizeof(more), ",\"sessions\":%u,\"cycles_per_session\":%.1f", MANY,
	    seconds * hz / MANY);
	json("fw.sessions.idle", "s", "lower", seconds, more);

	fill_at_once(l);
	l->clock_ns += timeout_ns - PK_NS_PER_S;
	l->nb_flows = LIVE;
	for (l->next = 0; l->next < LIVE;) {
		generate(l, ORDER_OPEN, FW_INSIDE, pkts, 16);
		forward(l, FW_INSIDE, pkts, 16, l->clock_ns);
	}
	calm = run_random(l, true, RUN_NS);
	l->clock_ns += 2 * PK_NS_PER_S;
	start = thread_seconds();
	while (fw_path_nb_sessions(l->path) > LIVE) {
		(void)run_random(l, true, 10 * PK_NS_PER_MS);
		packets += l->packets;
		cycles += l->cycles;
	}
	meanwhile = (double)cycles / (double)packets;
	snprintf(more, sizeof(more),
	    ",\"seconds\":%.2f,\"calm_mpps\":%.2f,\"meanwhile_mpps\":%.2f,\"drops\":%" PRIu64,
	    thread_seconds() - start, hz / calm / 1e6, hz / meanwhile / 1e6, perf_drops(l->path));
	json("fw.sessions.busy", "%", "higher", 100.0 * calm / meanwhile, more);
	fw_path_destroy(l->path);
}

/* The delay that the path adds, and that of the same loop without it: what the machine and the generator do. */
static void
case_latency(struct load *l)
{
	static const struct {
		const char *name;
		double part;
	} wanted[] = { { "fw.latency.p50", 0.5 }, { "fw.latency.p99", 0.99 },
		{ "fw.latency.p99.9", 0.999 } };
	static struct delays with, without;
	double hz = (double)rte_get_tsc_hz(), gap;
	char more[256];

	init(l, 10000, 131072);
	open_all(l);
	run_random(l, true, RUN_NS / 3);
	gap = 2 * run_random(l, true, RUN_NS / 3);
	for (unsigned int r = 0; r < RUNS; r++) {
		run_paced(l, true, gap, PK_NS_PER_S, &with);
		run_paced(l, false, gap, PK_NS_PER_S, &without);
	}
	for (unsigned int w = 0; w < RTE_DIM(wanted); w++) {
		snprintf(more, sizeof(more),
		    ",\"without_path\":%u,\"load_mpps\":%.2f,\"drops\":%" PRIu64,
		    percentile(&without, wanted[w].part), hz / gap / 1e6, perf_drops(l->path));
		json(wanted[w].name, "ns", "lower", percentile(&with, wanted[w].part), more);
	}
}

#define FLOOD_SESSIONS (UINT32_C(1) << 22)
#define FLOOD_RTT_NS   (50 * PK_NS_PER_MS)
#define FLOOD_NS       (5 * PK_NS_PER_S)
#define FLOOD_PENDING  (1 << 16)

/* Connections to workloads from honest clients outside: each answers after a round trip. */
struct clients {
	uint32_t made, answered; /* rings: what lies between waits for its ACK */
	uint64_t due_ns[FLOOD_PENDING];
	bool passed[FLOOD_PENDING]; /* SYN and SYN-ACK */
	uint64_t good, bad;
};

static struct tcp
client_tcp(uint32_t k, bool from_client, uint32_t seq, uint32_t ack, uint8_t flags)
{
	uint32_t client = RTE_IPV4(203, 0, 113, 1) + k / 60000 % 250,
	         host = RTE_IPV4(198, 18, 0, 1) + k % PERF_HOSTS;
	uint16_t port = (uint16_t)(1024 + k % 60000);

	return (struct tcp){ .src = from_client ? client : host,
		.dst = from_client ? host : client,
		.sport = from_client ? port : 443,
		.dport = from_client ? 443 : port,
		.seq = seq,
		.ack = ack,
		.flags = flags };
}

static bool
client_send(struct load *l, const struct tcp *tcp, enum fw_side from, uint64_t now_ns)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(l->pool);

	PK_ASSERT(m != NULL);
	write_tcp(l, m, from, tcp);
	return forward(l, from, &m, 1, now_ns) == 1;
}

/* One client begins, and those whose answer has travelled long enough go on. */
static void
clients_step(struct load *l, struct clients *c, uint64_t now_ns)
{
	struct tcp tcp;

	if (c->made - c->answered < FLOOD_PENDING) {
		uint32_t k = c->made++, at = k % FLOOD_PENDING;

		tcp = client_tcp(k, true, 100, 0, FW_TCP_SYN);
		c->passed[at] = client_send(l, &tcp, FW_OUTSIDE, now_ns);
		tcp = client_tcp(k, false, 500, 101, FW_TCP_SYN | FW_TCP_ACK);
		c->passed[at] &= client_send(l, &tcp, FW_INSIDE, now_ns);
		c->due_ns[at] = now_ns + FLOOD_RTT_NS;
	}
	while (c->answered != c->made && c->due_ns[c->answered % FLOOD_PENDING] <= now_ns) {
		uint32_t k = c->answered++;
		bool ok = c->passed[k % FLOOD_PENDING];

		tcp = client_tcp(k, true, 101, 501, FW_TCP_ACK);
		ok &= client_send(l, &tcp, FW_OUTSIDE, now_ns);
		c->good += ok;
		c->bad += !ok;
	}
}

/* SYNs from anywhere to anything inside. */
static void
flood(struct load *l, struct rte_mbuf **pkts)
{
	PK_ASSERT(rte_pktmbuf_alloc_bulk(l->pool, pkts, FW_BURST) == 0);
	for (unsigned int i = 0; i < FW_BURST; i++) {
		uint32_t a, b;

		(void)draw(l);
		a = (uint32_t)l->random;
		b = (uint32_t)(l->random >> 32);
		write_tcp(l, pkts[i], FW_OUTSIDE,
		    &(struct tcp){ .src = RTE_IPV4(11, 0, 0, 0) + (a & 0x3ffffff),
		        .dst = RTE_IPV4(198, 18, 0, 1) + b % PERF_HOSTS,
		        .sport = (uint16_t)(b >> 16 | 1),
		        .dport = 443,
		        .seq = a,
		        .flags = FW_TCP_SYN });
	}
}

/*
 * As many SYNs of random sources as the generator and the path together can do, and between them 250,000
 * established sessions that go on, and honest clients 50 ms away.  Then the flood stops, and new connections
 * are opened as fast as may be: how long until that is as fast as without a flood?
 */
static void
case_flood(struct load *l)
{
	static struct clients c;
	const uint32_t nb_live = 250000;
	struct rte_mbuf *pkts[FW_BURST];
	uint64_t start, now_ns, syns = 0, lost = 0, live = 0, passed = 0, recovered = 0;
	double hz = (double)rte_get_tsc_hz(), calm, seconds;
	uint32_t most = 0;
	char more[256];

	l->strict = true;
	init(l, CPS_BASE, FLOOD_SESSIONS);
	run_connections(l, PK_NS_PER_S);
	run_connections(l, PK_NS_PER_S);
	calm = (double)l->created * hz / (double)l->cycles;
	fw_path_destroy(l->path);

	init(l, nb_live, FLOOD_SESSIONS);
	shake_all(l);
	start = now_ns = fw_workers_now_ns();
	for (unsigned int round = 0; now_ns < start + FLOOD_NS; round++) {
		enum fw_side side = round % 8 == 0 ? FW_INSIDE : FW_OUTSIDE;

		now_ns = fw_workers_now_ns();
		flood(l, pkts);
		syns += FW_BURST;
		passed += forward(l, FW_OUTSIDE, pkts, FW_BURST, now_ns);
		if (round % 4 == 0) {
			generate(l, ORDER_RANDOM, side, pkts, FW_BURST);
			lost += FW_BURST - forward(l, side, pkts, FW_BURST, now_ns);
			live += FW_BURST;
		}
		clients_step(l, &c, now_ns);
		fw_path_tick(l->path, l->rules, now_ns, FW_TICK_BUSY, NULL);
		most = PK_MAX(most, fw_path_nb_sessions(l->path));
	}
	seconds = (double)(now_ns - start) / 1e9;
	snprintf(more, sizeof(more),
	    ",\"connections\":%" PRIu64
	    ",\"flood_mpps\":%.2f,\"flood_passed\":%.3f,\"sessions\":%u,"
	    "\"capacity\":%u,\"rtt_ms\":50",
	    c.good + c.bad, (double)syns / seconds / 1e6, (double)passed / (double)syns, most,
	    FLOOD_SESSIONS);
	json("fw.flood.legit", "%", "higher", 100.0 * (double)c.good / (double)(c.good + c.bad),
	    more);
	snprintf(more, sizeof(more), ",\"sessions\":%u,\"packets\":%" PRIu64, nb_live, live);
	json("fw.flood.lost", "pkt", "lower", (double)lost, more);
	start = fw_workers_now_ns();
	l->first = nb_live;
	while (recovered == 0 && fw_workers_now_ns() < start + 30 * PK_NS_PER_S) {
		run_connections(l, 10 * PK_NS_PER_MS);
		if ((double)l->created * hz / (double)l->cycles > 0.9 * calm)
			recovered = fw_workers_now_ns();
	}
	snprintf(more, sizeof(more), ",\"connections_per_second\":%.0f", calm);
	json("fw.flood.recovery", "s", "lower",
	    recovered != 0 ? (double)(recovered - start) / 1e9 : 30.0, more);
}

static struct load workers[2];
static bool connections;

static int
scale_worker(void *arg)
{
	struct load *l = arg;

	if (connections)
		run_connections(l, RUN_NS);
	else
		run_random(l, true, RUN_NS);
	return 0;
}

/* One lcore, then two at once, each with its own path: the main thread sleeps meanwhile. */
static void
case_scale(struct load *l)
{
	static const char *const names[] = { "fw.scale.2", "fw.cps.scale.2" };
	double hz = (double)rte_get_tsc_hz();

	for (unsigned int k = 0; k < 2; k++) {
		workers[k] = *l;
		workers[k].queue = (uint16_t)k;
		init(&workers[k], 10000, 1 << 18);
	}
	for (unsigned int c = 0; c < 2; c++) {
		double factor[RUNS], rate = 0;
		char more[128];

		connections = c == 1;
		for (unsigned int k = 0; k < 2; k++) {
			if (!connections)
				open_all(&workers[k]);
			else
				fw_path_destroy(workers[k].path);
			if (connections)
				init(&workers[k], 10000, 1 << 18);
			workers[k].next = 0;
		}
		for (unsigned int r = 0; r < RUNS; r++) {
			double done[2] = { 0 };

			for (unsigned int nb = 1; nb <= 2; nb++) {
				for (unsigned int k = 0; k < nb; k++)
					rte_eal_remote_launch(scale_worker, &workers[k], 1 + k);
				/* rte_eal_wait_lcore() would spin, and take its time from one. */
				for (unsigned int k = 0; k < nb; k++)
					while (rte_eal_get_lcore_state(1 + k) != WAIT)
						rte_delay_us_sleep(10000);
				rte_eal_mp_wait_lcore();
				for (unsigned int k = 0; k < nb; k++)
					done[nb - 1] += (double)(connections ? workers[k].created
					                                     : workers[k].packets) *
					    hz / (double)workers[k].cycles;
			}
			factor[r] = done[1] / done[0];
			rate = done[1];
		}
		snprintf(more, sizeof(more), ",\"per_second\":%.0f", rate);
		json(names[c], "x", "higher", median(factor), more);
	}
	for (unsigned int k = 0; k < 2; k++)
		PK_ASSERT(perf_drops(workers[k].path) == 0);
}

/* ---- software RSS ---- */

static struct fw_steer steer;
static struct fw_relay *relay;
static struct fw_steering *steerings[2];

/* What a worker does with a burst from a port: its own packets, and the others to the other. */
static void
sort_and_forward(
    unsigned int me, enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	uint64_t handed;

	n = fw_relay_sort(relay, steerings[me], workers[me].path, (uint16_t)me, 0, from, pkts, n,
	    now_ns, &handed);
	if (n > 0)
		forward(&workers[me], from, pkts, n, now_ns);
}

static void
take_over(unsigned int me, uint64_t now_ns)
{
	struct rte_mbuf *pkts[FW_BURST], **next;
	unsigned int n, nb;

	while ((n = fw_relay_take(
	            relay, FW_RELAY_JUDGE, (uint16_t)!me, (uint16_t)me, pkts, FW_BURST)) > 0) {
		for (next = pkts; n > 0; next += nb, n -= nb) {
			enum fw_side from = fw_relay_side(next[0]->port);

			nb = fw_relay_group(next, n);
			forward(&workers[me], from, next, nb, now_ns);
		}
	}
}

static int
soft_worker(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	struct load *l = &workers[me];
	uint64_t start = rte_rdtsc(), now = start,
	         end = start + RUN_NS / 1000 * (rte_get_tsc_hz() / 1000000), packets = 0;
	struct rte_mbuf *pkts[FW_BURST];

	for (; now < end; now = rte_rdtsc()) {
		uint64_t now_ns = fw_workers_now_ns();

		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			generate(l, ORDER_RANDOM, (enum fw_side)side, pkts, FW_BURST);
			packets += FW_BURST;
			sort_and_forward(me, (enum fw_side)side, pkts, FW_BURST, now_ns);
			take_over(me, now_ns);
		}
		fw_path_tick(l->path, l->rules, now_ns, 256, NULL);
	}
	l->packets = packets;
	l->cycles = now - start;
	return 0;
}

static uint64_t
lcore_full(void)
{
	return pk_counter_read(&fw_path_stats(workers[0].path)->drop[FW_DROP_LCORE_FULL]) +
	    pk_counter_read(&fw_path_stats(workers[1].path)->drop[FW_DROP_LCORE_FULL]);
}

/* One lcore without, then two that each receive packets of all flows and hand half of them over. */
static void
case_soft(struct load *l)
{
	static const uint64_t seed[2] = { 1, 2 };
	double hz = (double)rte_get_tsc_hz(), factor[RUNS], rate = 0;
	struct rte_mbuf *pkts[FW_BURST];
	uint64_t lost = 0;
	char more[128];

	fw_steer_init(&steer, 2, seed);
	steer.wire[0].mode = FW_STEER_SOFT;
	PK_ASSERT(fw_relay_create(&relay, 2) == 0);
	for (unsigned int k = 0; k < 2; k++) {
		PK_ASSERT(fw_steering_create(&steerings[k], &steer, (uint16_t)k) == 0);
		workers[k] = *l;
		workers[k].queue = (uint16_t)k;
		init(&workers[k], 10000, 1 << 18);
	}
	init(l, 10000, 1 << 18);
	open_all(l);
	for (workers[0].next = 0; workers[0].next < 10000;) {
		uint64_t now_ns = fw_workers_now_ns();

		generate(&workers[0], ORDER_OPEN, FW_INSIDE, pkts, 16);
		sort_and_forward(0, FW_INSIDE, pkts, 16, now_ns);
		take_over(1, now_ns);
	}
	PK_ASSERT(
	    fw_path_nb_sessions(workers[0].path) + fw_path_nb_sessions(workers[1].path) == 10000);
	for (unsigned int r = 0; r < RUNS; r++) {
		double one = run_random(l, true, RUN_NS);

		lost = lcore_full();
		rate = 0;
		for (unsigned int k = 0; k < 2; k++)
			rte_eal_remote_launch(soft_worker, (void *)(uintptr_t)k, 1 + k);
		for (unsigned int k = 0; k < 2; k++)
			while (rte_eal_get_lcore_state(1 + k) != WAIT)
				rte_delay_us_sleep(10000);
		rte_eal_mp_wait_lcore();
		lost = lcore_full() - lost;
		for (unsigned int k = 0; k < 2; k++)
			rate += ((double)workers[k].packets - (double)lost / 2) * hz /
			    (double)workers[k].cycles;
		factor[r] = rate / (hz / one);
		/* What has been handed over last. */
		for (unsigned int k = 0; k < 2; k++)
			take_over(k, fw_workers_now_ns());
	}
	snprintf(more, sizeof(more), ",\"per_second\":%.0f,\"lcore_full\":%" PRIu64, rate, lost);
	json("fw.scale.soft.2", "x", "higher", median(factor), more);
	for (unsigned int k = 0; k < 2; k++)
		PK_ASSERT(perf_drops(workers[k].path) ==
		    pk_counter_read(&fw_path_stats(workers[k].path)->drop[FW_DROP_LCORE_FULL]));
}

int
main(int argc, char **argv)
{
	static const char *const names[] = { "fw.tcp64.random.10k", "fw.tcp64.random.1m",
		"fw.tcp64.10m", "fw.sessions", "fw.latency", "fw.scale", "fw.flood",
		"fw.scale.soft", "fw.sessions.idle" };
	char *eal[] = { argv[0], (char *)"--in-memory", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"--lcores=0@1,1@1,2@0", (char *)"-m",
		(char *)"128", (char *)"--log-level=error", (char *)"--iova-mode=va",
		(char *)"--file-prefix=load", (char *)"--vdev=net_null0,no-rx=1" };
	struct rte_eth_conf conf = { 0 };
	struct load l = { 0 };
	unsigned int c = 0;

	if (argc != 2) {
		for (size_t i = 0; i < PK_COUNT(names); i++)
			puts(names[i]);
		return argc == 1 ? 0 : 2;
	}
	while (c < PK_COUNT(names) && strcmp(names[c], argv[1]) != 0)
		c++;
	if (rte_eal_init(PK_COUNT(eal), eal) < 0) {
		fprintf(stderr, "fw_load: DPDK does not start; are there huge pages?\n");
		return 1;
	}
	l.pool = rte_pktmbuf_pool_create(
	    "load", 16383, 256, 0, RTE_PKTMBUF_HEADROOM + 128, SOCKET_ID_ANY);
	PK_ASSERT(l.pool != NULL && rte_eth_dev_configure(0, 2, 2, &conf) == 0);
	for (uint16_t q = 0; q < 2; q++)
		PK_ASSERT(rte_eth_rx_queue_setup(0, q, 512, SOCKET_ID_ANY, NULL, l.pool) == 0 &&
		    rte_eth_tx_queue_setup(0, q, 512, SOCKET_ID_ANY, NULL) == 0);
	PK_ASSERT(rte_eth_dev_start(0) == 0);
	fw_workers_now_ns(); /* before there are threads */
	l.rules = perf_rules(1, 1);
	switch (c) {
	case 0:
		case_flows(&l, names[c], 10000);
		break;
	case 1:
		case_flows(&l, names[c], 1000000);
		break;
	case 2:
		case_flows(&l, names[c], 10000000);
		break;
	case 3:
		case_many(&l);
		break;
	case 4:
		case_latency(&l);
		break;
	case 5:
		case_scale(&l);
		break;
	case 6:
		case_flood(&l);
		break;
	case 7:
		case_soft(&l);
		break;
	case 8:
		case_empty(&l);
		break;
	default:
		fprintf(stderr, "fw_load: no case \"%s\"\n", argv[1]);
		return 2;
	}
	return 0;
}
