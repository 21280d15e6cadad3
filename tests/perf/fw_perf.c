/*
 * What the packet path costs, on one lcore, fed by DPDK's own net_pcap ports with infinite_rx=1: the
 * packets of a capture replayed from memory for ever, and whatever is sent forgotten.  Any DPDK
 * program can be fed in the very same way.  Each case is measured beside plain forwarding through the
 * same ports in the same process, in turns, so that a noisy machine is noisy for both.
 *
 *   fw_perf                      the names of the cases
 *   fw_perf DIR CASE             captures are written to DIR; prints a JSON line
 *   fw_perf DIR CASE captures    nothing but DIR/CASE.in.pcap and DIR/CASE.out.pcap, for somebody else
 */
#include <inttypes.h>
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

#define RUNS      3
#define RUN_NS    (1500 * PK_NS_PER_MS)
#define CPS_CONNS 20000
#define CPS_GAP   64 /* connections under way at a time: packets of one are this far apart */
#define CPS_STEPS 6

struct perf_case {
	const char *name;
	uint32_t nb_flows;  /* established connections; 0: new ones all the time */
	uint16_t frame_len; /* with FCS */
	uint32_t nb_rules;
	uint32_t nb_prefixes; /* per rule, at most 16 */
};

static const struct perf_case cases[] = {
	{ "fw.tcp64.1", 1, 64, 1, 1 },
	{ "fw.tcp64.10k", 10000, 64, 1, 1 },
	{ "fw.tcp64.1m", 1000000, 64, 1, 1 },
	{ "fw.tcp1500.1", 1, 1518, 1, 1 },
	{ "fw.tcp1500.10k", 10000, 1518, 1, 1 },
	{ "fw.tcp1500.1m", 1000000, 1518, 1, 1 },
	{ "fw.cps.1rules", 0, 64, 1, 1 },
	{ "fw.cps.1krules", 0, 64, 1000, 1 },
	{ "fw.cps.10krules", 0, 64, 10000, 10 },
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

/* One TCP packet of flow i; from the client inside, or from the server. */
static void
pcap_tcp(FILE *f, uint32_t i, bool from_client, uint32_t seq, uint32_t ack, uint8_t flags,
    uint16_t frame_len)
{
	struct {
		uint32_t seconds, us, len, wire_len;
	} record = { 0 };
	struct {
		struct rte_ether_hdr eth;
		struct rte_ipv4_hdr ip;
		struct rte_tcp_hdr tcp;
		uint8_t payload[1600];
	} __rte_packed __rte_aligned(2) p;
	uint16_t len = (uint16_t)(frame_len - RTE_ETHER_CRC_LEN);
	uint32_t client = RTE_IPV4(198, 18, 0, 1) + i % PERF_HOSTS,
	         server = RTE_IPV4(198, 19, 0, 1) + i % 7;
	uint16_t port = (uint16_t)(1024 + i / PERF_HOSTS);

	memset(&p, 0, sizeof(p));
	/* A minimum frame is padding behind the headers, not payload. */
	record.len = record.wire_len = len;
	p.eth.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
	p.eth.src_addr.addr_bytes[0] = p.eth.dst_addr.addr_bytes[0] = 2;
	p.eth.src_addr.addr_bytes[5] = from_client ? 1 : 2;
	p.eth.dst_addr.addr_bytes[5] = from_client ? 2 : 1;
	p.ip.version_ihl = RTE_IPV4_VHL_DEF;
	p.ip.total_length = rte_cpu_to_be_16((uint16_t)(len > 60 ? len - sizeof(p.eth) : 40));
	p.ip.time_to_live = 64;
	p.ip.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
	p.ip.next_proto_id = IPPROTO_TCP;
	p.ip.src_addr = rte_cpu_to_be_32(from_client ? client : server);
	p.ip.dst_addr = rte_cpu_to_be_32(from_client ? server : client);
	p.tcp.src_port = rte_cpu_to_be_16(from_client ? port : 443);
	p.tcp.dst_port = rte_cpu_to_be_16(from_client ? 443 : port);
	p.tcp.sent_seq = rte_cpu_to_be_32(seq);
	p.tcp.recv_ack = rte_cpu_to_be_32(ack);
	p.tcp.data_off = 0x50;
	p.tcp.tcp_flags = flags;
	p.tcp.rx_win = RTE_BE16(65000);
	p.ip.hdr_checksum = rte_ipv4_cksum(&p.ip);
	p.tcp.cksum = rte_ipv4_udptcp_cksum(&p.ip, &p.tcp);
	PK_ASSERT(fwrite(&record, sizeof(record), 1, f) == 1 && fwrite(&p, len, 1, f) == 1);
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
	struct fw_rules *rules;
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
judge(struct bench *b, enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now)
{
	struct fw_burst out;

	fw_path_burst(b->path, b->rules, 0, from, pkts, n, now, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		if (out.nb[side] > 0)
			send_all(b, (enum fw_side)side, out.pkt[side], out.nb[side]);
}

struct result {
	uint64_t packets, cycles;
};

/* One turn of either kind; the loop is the worker's. */
static struct result
turn(struct bench *b, bool with_path)
{
	uint64_t start = rte_rdtsc(), end = start + RUN_NS / 1000 * (rte_get_tsc_hz() / 1000000);
	struct rte_mbuf *pkts[FW_BURST];
	struct result r = { 0 };
	uint64_t now;

	/* A turn with connections ends with all of them: those cut off in the middle would meet their successors,
	 * of the same ports, in the next turn. */
	for (now = start; now < end || b->at != 0; now = rte_rdtsc()) {
		uint64_t now_ns = fw_workers_now_ns();
		bool waiting = false;

		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			unsigned int n;

			if (b->c->nb_flows == 0 && side == FW_OUTSIDE)
				continue;
			n = fw_port_rx(&b->wire.port[side], 0, pkts, FW_BURST);
			r.packets += n;
			waiting |= n == FW_BURST;
			if (b->c->nb_flows == 0) {
				shift(b, pkts, n);
				for (unsigned int i = 0, run; i < n; i += run) {
					enum fw_side from;

					run = run_of_side(pkts + i, n - i, &from);
					if (with_path)
						judge(b, from, pkts + i, run, now_ns);
					else
						send_all(b,
						    from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE,
						    pkts + i, run);
				}
			} else if (with_path) {
				judge(b, (enum fw_side)side, pkts, n, now_ns);
			} else {
				send_all(b, side == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE, pkts, n);
			}
		}
		if (with_path)
			fw_path_tick(b->path, b->rules, now_ns,
			    waiting ? FW_TICK_BUSY : FW_TICK_QUIET, NULL);
	}
	r.cycles = now - start;
	return r;
}

static void
run_case(const struct perf_case *c, const char *dir)
{
	uint32_t nb_packets = c->nb_flows != 0 ? 2 * PK_MAX(c->nb_flows, 4096u)
	                                       : CPS_CONNS * CPS_STEPS;
	double mpps[RUNS], plain[RUNS], cycles[RUNS], plain_cycles[RUNS], cps[RUNS];
	char inside[256], outside[256], spec[512];
	struct bench b = { .c = c };
	struct fw_path_conf conf;
	struct rte_mempool *pool;
	struct pk_diag diag;
	double hz = (double)rte_get_tsc_hz();
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
	b.rules = perf_rules(c->nb_rules, c->nb_prefixes);
	turn(&b, true); /* sessions, caches, branch predictors */
	for (unsigned int i = 0; i < RUNS; i++) {
		uint64_t created = pk_counter_read(&fw_path_stats(b.path)->sessions_created),
		         before = perf_drops(b.path);
		struct result p = turn(&b, false), r;

		/* The plain turn has moved on in the capture, in the middle of connections. */
		if (c->nb_flows == 0) {
			turn(&b, true);
			created = pk_counter_read(&fw_path_stats(b.path)->sessions_created);
			before = perf_drops(b.path);
		}
		r = turn(&b, true);
		plain[i] = (double)p.packets / ((double)p.cycles / hz) / 1e6;
		plain_cycles[i] = (double)p.cycles / (double)p.packets;
		mpps[i] = (double)r.packets / ((double)r.cycles / hz) / 1e6;
		cycles[i] = (double)r.cycles / (double)r.packets;
		cps[i] =
		    (double)(pk_counter_read(&fw_path_stats(b.path)->sessions_created) - created) /
		    ((double)r.cycles / hz);
		drops += perf_drops(b.path) - before;
	}
	{
		double *value = c->nb_flows != 0 ? mpps : cps;

		printf(
		    "{\"name\":\"%s\",\"unit\":\"%s\",\"better\":\"higher\",\"runs\":[%.4f,%.4f,%.4f],",
		    c->name, c->nb_flows != 0 ? "Mpps" : "1/s", value[0], value[1], value[2]);
		qsort(cps, RUNS, sizeof(*cps), perf_compare);
		qsort(mpps, RUNS, sizeof(*mpps), perf_compare);
		qsort(plain, RUNS, sizeof(*plain), perf_compare);
		qsort(cycles, RUNS, sizeof(*cycles), perf_compare);
		qsort(plain_cycles, RUNS, sizeof(*plain_cycles), perf_compare);
		printf(
		    "\"value\":%.4f,\"cycles_per_packet\":%.1f,\"limit\":{\"name\":\"port to port\",\"value\":%.4f,"
		    "\"cycles_per_packet\":%.1f},\"ratio\":%.3f,\"sessions\":%u,\"rules\":%u,\"drops\":%" PRIu64
		    "}\n",
		    value[RUNS / 2], cycles[RUNS / 2], plain[RUNS / 2], plain_cycles[RUNS / 2],
		    mpps[RUNS / 2] / plain[RUNS / 2], fw_path_nb_sessions(b.path), c->nb_rules,
		    drops);
	}
	fflush(stdout);
	if (drops != 0)
		perf_say_drops(c->name, b.path);
	fw_path_destroy(b.path);
	fw_rules_destroy(b.rules);
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
