/*
 * What the packet path costs, on one lcore, fed by DPDK's own net_pcap ports with infinite_rx=1: the
 * packets of a capture replayed from memory for ever, and whatever is sent forgotten.  Any DPDK
 * program can be fed in the very same way.  Each case is measured in turns of 50 ms with
 *
 *   port to port     the same ports and buffers, and nobody looks at a packet: what the ports cost
 *   forward only     besides that a burst is prefetched, each header looked at, and all of it counted: the path
 *                    without its stages
 *
 * in the same process, so that a noisy machine is noisy for all.  A ratio is that of one run; the median of three
 * is printed.
 *
 *   fw_perf                      the names of the cases
 *   fw_perf DIR CASE             captures are written to DIR; prints a JSON line
 *   fw_perf DIR CASE captures    nothing but DIR/CASE.in.pcap and DIR/CASE.out.pcap, for somebody else
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#include "fw/options.h"
#include "tests/perf/perf.h"

#define RUNS 3
#define TURNS \
	20 /* of each kind in a run, one after the other: what the machine does meanwhile meets all */
#define TURN_NS   (50 * PK_NS_PER_MS)
#define SWAP_NS   (100 * PK_NS_PER_MS)
#define FEW       1000 /* rules, beside which more are measured */
#define CPS_CONNS 20000
#define CPS_GAP   64 /* connections under way at a time: packets of one are this far apart */
#define CPS_STEPS 6

struct perf_case {
	const char *name;
	uint32_t nb_flows;  /* established connections; 0: new ones all the time */
	uint16_t frame_len; /* with FCS */
	uint32_t nb_rules;
	uint32_t nb_prefixes; /* per rule, at most 16 */
	bool swaps;           /* policy changes all the time */
};

static const struct perf_case cases[] = {
	{ "fw.tcp64.1", 1, 64, 1, 1, false },
	{ "fw.tcp64.10k", 10000, 64, 1, 1, false },
	{ "fw.tcp64.1m", 1000000, 64, 1, 1, false },
	{ "fw.tcp1500.1", 1, 1518, 1, 1, false },
	{ "fw.tcp1500.10k", 10000, 1518, 1, 1, false },
	{ "fw.tcp1500.1m", 1000000, 1518, 1, 1, false },
	{ "fw.cps.1rules", 0, 64, 1, 1, false },
	{ "fw.cps.1krules", 0, 64, 1000, 1, false },
	{ "fw.cps.10krules", 0, 64, 10000, 10, false },
	{ "fw.cps.swap", 0, 64, 1000, 1, true },
};

/* ---- captures ---- */

static FILE *
pcap_create(const char *path)
{
	static const struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t zone, sigfigs, snaplen, network;
	} header = { 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1 };
	FILE *f = fopen(path, "w");

	PK_ASSERT(f != NULL && fwrite(&header, sizeof(header), 1, f) == 1);
	return f;
}

/* A TCP packet between a client inside and a server, `len` bytes without FCS.  A minimum frame is padding behind
 * the headers, not payload. */
static void
make_tcp(uint8_t *frame, uint32_t client, uint32_t server, uint16_t port, uint16_t service,
    bool from_client, uint32_t seq, uint32_t ack, uint8_t flags, uint16_t len)
{
	struct {
		struct rte_ether_hdr eth;
		struct rte_ipv4_hdr ip;
		struct rte_tcp_hdr tcp;
	} __rte_packed __rte_aligned(2) h;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + sizeof(h.eth));

	memset(&h, 0, sizeof(h));
	h.eth.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
	h.eth.src_addr.addr_bytes[0] = h.eth.dst_addr.addr_bytes[0] = 2;
	h.eth.src_addr.addr_bytes[5] = from_client ? 1 : 2;
	h.eth.dst_addr.addr_bytes[5] = from_client ? 2 : 1;
	h.ip.version_ihl = RTE_IPV4_VHL_DEF;
	h.ip.total_length = rte_cpu_to_be_16((uint16_t)(len > 60 ? len - sizeof(h.eth) : 40));
	h.ip.time_to_live = 64;
	h.ip.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
	h.ip.next_proto_id = IPPROTO_TCP;
	h.ip.src_addr = rte_cpu_to_be_32(from_client ? client : server);
	h.ip.dst_addr = rte_cpu_to_be_32(from_client ? server : client);
	h.tcp.src_port = rte_cpu_to_be_16(from_client ? port : service);
	h.tcp.dst_port = rte_cpu_to_be_16(from_client ? service : port);
	h.tcp.sent_seq = rte_cpu_to_be_32(seq);
	h.tcp.recv_ack = rte_cpu_to_be_32(ack);
	h.tcp.data_off = 0x50;
	h.tcp.tcp_flags = flags;
	h.tcp.rx_win = RTE_BE16(65000);
	h.ip.hdr_checksum = rte_ipv4_cksum(&h.ip);
	memset(frame, 0, len);
	memcpy(frame, &h, sizeof(h));
	h.tcp.cksum = rte_ipv4_udptcp_cksum(ip, ip + 1);
	memcpy(frame, &h, sizeof(h));
}

/* One TCP packet of flow i; from the client inside, or from the server. */
static void
pcap_tcp(FILE *f, uint32_t i, bool from_client, uint32_t seq, uint32_t ack, uint8_t flags,
    uint16_t frame_len)
{
	struct {
		uint32_t seconds, us, len, wire_len;
	} record = { 0 };
	uint8_t frame[1600] __rte_aligned(2);

	record.len = record.wire_len = frame_len - RTE_ETHER_CRC_LEN;
	make_tcp(frame, RTE_IPV4(198, 18, 0, 1) + i % PERF_HOSTS, RTE_IPV4(198, 19, 0, 1) + i % 7,
	    (uint16_t)(1024 + i / PERF_HOSTS), 443, from_client, seq, ack, flags,
	    (uint16_t)record.len);
	PK_ASSERT(
	    fwrite(&record, sizeof(record), 1, f) == 1 && fwrite(frame, record.len, 1, f) == 1);
}

/* Each flow's packets repeat the same bytes: a retransmission is inside the window, always. */
static void
make_established(const struct perf_case *c, const char *inside, const char *outside)
{
	uint32_t nb = PK_MAX(c->nb_flows, 4096 / c->nb_flows * c->nb_flows);
	FILE *f[FW_SIDE_COUNT] = { pcap_create(inside), pcap_create(outside) };

	for (uint32_t i = 0; i < nb; i++) {
		pcap_tcp(f[FW_INSIDE], i % c->nb_flows, true, 1000, 5000, RTE_TCP_ACK_FLAG,
		    c->frame_len);
		pcap_tcp(f[FW_OUTSIDE], i % c->nb_flows, false, 5000, 1000, RTE_TCP_ACK_FLAG,
		    c->frame_len);
	}
	PK_ASSERT(fclose(f[0]) == 0 && fclose(f[1]) == 0);
}

/*
 * Whole connections of six packets: SYN, SYN-ACK, ACK, FIN, FIN, ACK.  Both captures are polled in
 * turns of a burst, so each group of CPS_GAP connections sends its steps padded to whole bursts.
 */
static void
make_connections(const char *inside, const char *outside)
{
	static const struct {
		bool from_client;
		uint32_t seq, ack;
		uint8_t flags;
	} steps[CPS_STEPS] = {
		{ true, 0, 0, RTE_TCP_SYN_FLAG },
		{ false, 0, 1, RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG },
		{ true, 1, 1, RTE_TCP_ACK_FLAG },
		{ true, 1, 1, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG },
		{ false, 1, 2, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG },
		{ true, 2, 2, RTE_TCP_ACK_FLAG },
	};
	FILE *f[FW_SIDE_COUNT] = { pcap_create(inside), pcap_create(outside) };

	for (uint32_t base = 0; base < CPS_CONNS; base += CPS_GAP)
		for (unsigned int s = 0; s < CPS_STEPS; s++)
			for (uint32_t i = base; i < PK_MIN(base + CPS_GAP, (uint32_t)CPS_CONNS);
			     i++) {
				/* Everything comes in by one port, in order; rx_side() sorts it out. */
				uint32_t c = 1000 + i * 7, v = 900000 + i * 13;

				pcap_tcp(f[FW_INSIDE], i, steps[s].from_client,
				    (steps[s].from_client ? c : v) + steps[s].seq,
				    steps[s].flags == RTE_TCP_SYN_FLAG
				        ? 0
				        : (steps[s].from_client ? v : c) + steps[s].ack,
				    steps[s].flags, 64);
			}
	PK_ASSERT(fclose(f[0]) == 0 && fclose(f[1]) == 0);
}

static void
make_captures(const struct perf_case *c, const char *inside, const char *outside)
{
	if (c->nb_flows != 0)
		make_established(c, inside, outside);
	else
		make_connections(inside, outside);
}

/* ---- measuring ---- */

struct bench {
	const struct perf_case *c;
	struct fw_wire wire;
	struct fw_path *path;
	struct fw_rules *_Atomic rules;
	struct fw_rules *few; /* of the same generation */
	struct fw_rules_state *state;
	_Atomic uint64_t
	    loops;       /* rounds of the loop: what was in use before one is free after it */
	uint64_t asked;  /* generation that the last question was about */
	uint64_t wrong;  /* answers that were not that generation's */
	uint64_t denied; /* answers that were no */
	_Atomic bool swapping, quit;
	struct rte_mempool *pool;
	uint32_t lap; /* how often the capture with connections has come round */
	uint32_t at;  /* packets of this lap so far */
};

/*
 * A capture that comes round again would open the same connections with the same sequence numbers.
 * Shift them by the lap, as a sender that reuses a port does (RFC 9293, section 3.4.1).
 */
static void
shift(struct bench *b, struct rte_mbuf **pkts, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct rte_tcp_hdr *tcp =
		    rte_pktmbuf_mtod_offset(pkts[i], struct rte_tcp_hdr *, 34);
		uint32_t by = b->lap << 12; /* more than a connection uses */

		tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + by);
		if (tcp->recv_ack != 0)
			tcp->recv_ack = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->recv_ack) + by);
		if (++b->at == CPS_CONNS * CPS_STEPS) {
			b->at = 0;
			b->lap++;
		}
	}
}

/* Runs of packets from one side: the client's MAC ends in 1. */
static unsigned int
run_of_side(struct rte_mbuf **pkts, unsigned int n, enum fw_side *side)
{
	unsigned int i = 1;
	uint8_t mac = rte_pktmbuf_mtod(pkts[0], const uint8_t *)[11];

	while (i < n && rte_pktmbuf_mtod(pkts[i], const uint8_t *)[11] == mac)
		i++;
	*side = mac == 1 ? FW_INSIDE : FW_OUTSIDE;
	return i;
}

static void
send_all(const struct bench *b, enum fw_side to, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int sent = rte_eth_tx_burst(b->wire.port[to].id, 0, pkts, (uint16_t)n);

	rte_pktmbuf_free_bulk(pkts + sent, n - sent);
}

static void
judge(struct bench *b, const struct fw_rules *rules, enum fw_side from, struct rte_mbuf **pkts,
    unsigned int n, uint64_t now)
{
	struct fw_burst out;

	fw_path_burst(b->path, rules, 0, from, pkts, n, now, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		if (out.nb[side] > 0)
			send_all(b, (enum fw_side)side, out.pkt[side], out.nb[side]);
}

/*
 * The path without its stages: a burst is fetched, each frame's header looked at, and all of it counted and handed
 * on as the path does.  Whoever forwards packets by what they are does at least this; port to port does less, it
 * never touches a frame.
 */
static void
forward_only(struct bench *b, enum fw_side from, struct rte_mbuf **pkts, unsigned int n)
{
	static struct fw_path_stats stats;
	static struct fw_burst out;
	const enum fw_side to = from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	uint64_t bytes = 0;

	out.nb[to] = 0;
	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], const void *));
	for (unsigned int i = 0; i < n; i++) {
		const struct rte_ether_hdr *eth =
		    rte_pktmbuf_mtod(pkts[i], const struct rte_ether_hdr *);

		bytes += pkts[i]->pkt_len;
		PK_ASSERT(eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV4));
		out.pkt[to][out.nb[to]++] = pkts[i];
	}
	pk_counter_add(&stats.rx[from], n);
	pk_counter_add(&stats.rx_bytes[from], bytes);
	pk_counter_add(&stats.sent[to], out.nb[to]);
	pk_counter_add(&stats.sent_bytes[to], bytes);
	send_all(b, to, out.pkt[to], out.nb[to]);
}

/*
 * Policy has changed: does a packet meet the new one, and no other?  10.0.0.0/24 is in every other generation,
 * the odd ones.  Each question is of a port of its own, so that no session answers.
 */
static void
ask(struct bench *b, const struct fw_rules *rules, uint64_t now_ns)
{
	uint64_t generation = fw_rules_generation(rules);
	struct rte_mbuf *m = rte_pktmbuf_alloc(b->pool);
	uint8_t *frame;
	struct fw_burst out;

	b->asked = generation;
	PK_ASSERT(m != NULL);
	frame = (uint8_t *)rte_pktmbuf_append(m, 60);
	make_tcp(frame, RTE_IPV4(198, 18, 0, 1), RTE_IPV4(10, 0, 0, 5),
	    (uint16_t)(1024 + generation % 60000), 443, true, 1, 0, RTE_TCP_SYN_FLAG, 60);
	fw_path_burst(b->path, rules, 0, FW_INSIDE, &m, 1, now_ns, &out);
	b->wrong += out.nb[FW_OUTSIDE] != generation % 2;
	b->denied += out.nb[FW_OUTSIDE] == 0;
	send_all(b, FW_OUTSIDE, out.pkt[FW_OUTSIDE], out.nb[FW_OUTSIDE]);
}

enum kind {
	PORT_TO_PORT,
	FORWARD_ONLY,
	PATH,
	SWAPPED,   /* the path, while policy changes */
	FEW_RULES, /* the path with 1,000 rules, where the case has more */
	KINDS
};

struct result {
	uint64_t packets, cycles, drops;
};

/* One turn, added to *r; the loop is the worker's. */
static void
turn(struct bench *b, enum kind kind, struct result *r)
{
	uint64_t start = rte_rdtsc(), us = (kind == SWAPPED ? 2 * SWAP_NS : TURN_NS) / 1000,
	         end = start + us * (rte_get_tsc_hz() / 1000000);
	const bool with_path = kind >= PATH;
	uint64_t drops = perf_drops(b->path), denied = b->denied;
	struct rte_mbuf *pkts[FW_BURST];
	uint64_t now;

	atomic_store_explicit(&b->swapping, kind == SWAPPED, memory_order_release);
	/* A turn with connections ends with all of them: those cut off in the middle would meet their successors,
	 * of the same ports, in the next turn. */
	for (now = start; now < end || b->at != 0; now = rte_rdtsc()) {
		const struct fw_rules *rules = kind == FEW_RULES
		    ? b->few
		    : atomic_load_explicit(&b->rules, memory_order_acquire);
		uint64_t now_ns = fw_workers_now_ns();
		unsigned int most = 0;

		if (with_path && fw_rules_generation(rules) != b->asked)
			ask(b, rules, now_ns);
		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			unsigned int n;

			if (b->c->nb_flows == 0 && side == FW_OUTSIDE)
				continue;
			n = fw_port_rx(&b->wire.port[side], 0, pkts, FW_BURST);
			r->packets += n;
			most = PK_MAX(most, n);
			if (b->c->nb_flows == 0)
				shift(b, pkts, n);
			for (unsigned int i = 0, run = n; i < n; i += run) {
				enum fw_side from = (enum fw_side)side;

				if (b->c->nb_flows == 0)
					run = run_of_side(pkts + i, n - i, &from);
				if (with_path)
					judge(b, rules, from, pkts + i, run, now_ns);
				else if (kind == FORWARD_ONLY)
					forward_only(b, from, pkts + i, run);
				else
					send_all(b, from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE,
					    pkts + i, run);
			}
		}
		if (with_path)
			fw_path_tick(b->path, rules, now_ns, fw_tick_budget(most), NULL);
		atomic_fetch_add_explicit(&b->loops, 1, memory_order_release);
	}
	r->cycles += now - start;
	r->drops += perf_drops(b->path) - drops - (b->denied - denied);
}

/* What picketd's control thread does, on another core: a new generation every 100 ms, and the old one freed when
 * nobody can be reading it. */
static void *
swap_policy(void *arg)
{
	struct bench *b = arg;
	cpu_set_t core;

	CPU_ZERO(&core);
	CPU_SET(0, &core);
	(void)pthread_setaffinity_np(pthread_self(), sizeof(core), &core);
	for (uint64_t generation = 2; !atomic_load(&b->quit);) {
		struct fw_rules *old;
		uint64_t loops;

		if (!atomic_load(&b->swapping)) {
			rte_delay_us_sleep(1000);
			continue;
		}
		old = atomic_exchange(
		    &b->rules, perf_change(b->state, generation, generation % 2 != 0));
		generation++;
		loops = atomic_load(&b->loops);
		while (atomic_load(&b->loops) < loops + 2 && !atomic_load(&b->quit))
			rte_delay_us_sleep(5);
		fw_rules_destroy(old);
		rte_delay_us_sleep((unsigned int)(SWAP_NS / 1000));
	}
	return NULL;
}

/* Cycles a packet. */
static double
each(const struct result *r)
{
	return r->packets != 0 ? (double)r->cycles / (double)r->packets : 0;
}

static double
median(double *v)
{
	qsort(v, RUNS, sizeof(*v), perf_compare);
	return v[RUNS / 2];
}

static void
run_case(const struct perf_case *c, const char *dir)
{
	uint32_t nb_packets = c->nb_flows != 0 ? 2 * PK_MAX(c->nb_flows, 4096u)
	                                       : CPS_CONNS * CPS_STEPS;
	double value[RUNS], plain[RUNS], cycles[RUNS], forward[RUNS], ratio[KINDS][RUNS];
	char inside[256], outside[256], spec[512];
	struct bench b = { .c = c };
	struct fw_path_conf conf;
	struct rte_mempool *pool;
	struct pk_diag diag;
	double hz = (double)rte_get_tsc_hz();
	pthread_t control;
	uint64_t drops = 0;

	snprintf(inside, sizeof(inside), "%s/%s.in.pcap", dir, c->name);
	snprintf(outside, sizeof(outside), "%s/%s.out.pcap", dir, c->name);
	make_captures(c, inside, outside);
	/* The replayed packets stay in buffers, so small frames get small ones. */
	pool = rte_pktmbuf_pool_create("perf", nb_packets + 16384, 256, 0,
	    (uint16_t)(RTE_PKTMBUF_HEADROOM + (c->frame_len > 256 ? 1664 : 128)), SOCKET_ID_ANY);
	if (pool == NULL) {
		printf("{\"name\":\"%s\",\"value\":null,\"note\":\"no memory for %u packets\"}\n",
		    c->name, nb_packets);
		return;
	}
	snprintf(spec, sizeof(spec), "vdev:net_pcap0,rx_pcap=%s,infinite_rx=1", inside);
	if (fw_port_open(&b.wire.port[FW_INSIDE], spec, 1, pool, &diag) < 0) {
		fprintf(stderr, "fw_perf: %s\n", diag.text);
		exit(1);
	}
	/* Where all packets come in by one port, the other only sends. */
	snprintf(spec, sizeof(spec),
	    c->nb_flows != 0 ? "vdev:net_pcap1,rx_pcap=%s,infinite_rx=1" : "vdev:net_null1,no-rx=1",
	    outside);
	if (fw_port_open(&b.wire.port[FW_OUTSIDE], spec, 1, pool, &diag) < 0) {
		fprintf(stderr, "fw_perf: %s\n", diag.text);
		exit(1);
	}
	fw_path_conf_init(&conf);
	conf.nb_sessions = PK_MAX(2 * c->nb_flows, 131072u);
	conf.seed[0] = 1;
	conf.seed[1] = 2;
	conf.huge = true;
	conf.tcp_loose = c->nb_flows !=
	    0; /* the capture shows connections that opened before it began */
	conf.pool = pool;
	PK_ASSERT(fw_path_create(&b.path, &conf) == 0);
	b.pool = pool;
	atomic_init(&b.rules, perf_rules_state(c->nb_rules, c->nb_prefixes, &b.state));
	b.asked = 1;
	for (unsigned int i = 0; i < TURNS; i++) /* sessions, caches, branch predictors */
		turn(&b, PATH, &(struct result){ 0 });
	if (c->swaps)
		PK_ASSERT(pthread_create(&control, NULL, swap_policy, &b) == 0);
	if (c->nb_rules > FEW)
		b.few = perf_rules(FEW, 1);
	for (unsigned int i = 0; i < RUNS; i++) {
		const enum kind what = c->swaps ? SWAPPED : PATH;
		struct result r[KINDS] = { 0 };

		for (unsigned int k = 0; k < TURNS; k++)
			for (unsigned int kind = 0; kind < KINDS; kind++)
				if ((kind != SWAPPED || c->swaps) &&
				    (kind != FEW_RULES || b.few != NULL))
					turn(&b, (enum kind)kind, &r[kind]);
		cycles[i] = each(&r[PATH]);
		plain[i] = each(&r[PORT_TO_PORT]);
		forward[i] = each(&r[FORWARD_ONLY]);
		for (unsigned int kind = 0; kind < KINDS; kind++)
			ratio[kind][i] = kind == SWAPPED ? cycles[i] / each(&r[kind])
			                                 : each(&r[kind]) / cycles[i];
		value[i] = hz / each(&r[what]) / (c->nb_flows != 0 ? 1e6 : CPS_STEPS);
		for (unsigned int kind = PATH; kind < KINDS; kind++)
			drops += r[kind].drops;
	}
	if (c->swaps) {
		atomic_store(&b.quit, true);
		PK_ASSERT(pthread_join(control, NULL) == 0);
	}
	printf("{\"name\":\"%s\",\"unit\":\"%s\",\"better\":\"higher\",\"runs\":[%.4f,%.4f,%.4f],",
	    c->name, c->nb_flows != 0 ? "Mpps" : "1/s", value[0], value[1], value[2]);
	printf(
	    "\"value\":%.4f,\"cycles_per_packet\":%.1f,\"sessions\":%u,\"rules\":%u,\"prefixes\":%u,"
	    "\"drops\":%" PRIu64 ",",
	    median(value), median(cycles), fw_path_nb_sessions(b.path), c->nb_rules,
	    c->nb_rules * c->nb_prefixes, drops);
	if (b.few != NULL)
		printf("\"of_1krules\":%.3f,", median(ratio[FEW_RULES]));
	if (c->swaps)
		printf("\"of_still\":%.3f,\"generations\":%" PRIu64 ",\"wrong\":%" PRIu64 ",",
		    median(ratio[SWAPPED]), b.asked, b.wrong);
	printf("\"forward_only_cycles\":%.1f,\"of_forward_only\":%.3f,\"ratio\":%.3f,",
	    median(forward), median(ratio[FORWARD_ONLY]), median(ratio[PORT_TO_PORT]));
	printf("\"limit\":{\"name\":\"port to port\",\"value\":%.4f,\"cycles_per_packet\":%.1f}}\n",
	    hz / median(plain) / 1e6, median(plain));
	fflush(stdout);
	if (drops != 0)
		perf_say_drops(c->name, b.path);
	fw_path_destroy(b.path);
	fw_rules_destroy(b.few);
	fw_rules_destroy(b.rules);
	fw_rules_state_destroy(b.state);
	unlink(inside);
	unlink(outside);
}

/* One process per case, so that each starts with an empty machine. */
int
main(int argc, char **argv)
{
	char *eal[] = { argv[0], (char *)"--in-memory", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"--lcores=0@1", (char *)"-m", (char *)"3072",
		(char *)"--log-level=error", (char *)"--iova-mode=va",
		(char *)"--file-prefix=perf" };

	const struct perf_case *c = NULL;

	if (argc < 3) {
		for (size_t i = 0; i < PK_COUNT(cases); i++)
			puts(cases[i].name);
		return argc == 1 ? 0 : 2;
	}
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		if (strcmp(cases[i].name, argv[2]) == 0)
			c = &cases[i];
	if (c == NULL) {
		fprintf(stderr, "fw_perf: no case \"%s\"\n", argv[2]);
		return 2;
	}
	if (argc > 3) {
		char inside[256], outside[256];

		snprintf(inside, sizeof(inside), "%s/%s.in.pcap", argv[1], c->name);
		snprintf(outside, sizeof(outside), "%s/%s.out.pcap", argv[1], c->name);
		make_captures(c, inside, outside);
		return 0;
	}
	if (rte_eal_init(PK_COUNT(eal), eal) < 0) {
		fprintf(stderr, "fw_perf: DPDK does not start; are there huge pages?\n");
		return 1;
	}
	run_case(c, argv[1]);
	rte_eal_cleanup();
	return 0;
}
