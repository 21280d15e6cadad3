/* The whole path: bursts in, packets and counters out. */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "fw/sample.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define S PK_NS_PER_S

static struct rte_mempool *pool;

struct fixture {
	struct fw_path_conf conf;
	struct fw_path *path;
	struct fw_trace *trace;
	struct fw_rules *rules;
	struct fw_burst out;
	uint64_t now_ns;
};

static const struct world_rule open_rules[] = {
	{ PK_EGRESS, PK_VERDICT_REJECT, IPPROTO_TCP, 23, 23 },
	{ PK_EGRESS, PK_VERDICT_REJECT, IPPROTO_UDP, 23, 23 },
	{ PK_EGRESS, PK_VERDICT_DENY, IPPROTO_TCP, 25, 25 },
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, IPPROTO_TCP, 80, 80 },
};

static const struct world_rule reject_rules[] = {
	{ PK_EGRESS, PK_VERDICT_REJECT, PK_PROTO_ANY, 0, 65535 },
};

static void
set_rules(struct fixture *f, uint64_t generation, const struct world_rule *rules, uint32_t nb)
{
	fw_rules_destroy(f->rules);
	f->rules = world_rules(generation, 4, true, rules, nb);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fw_path_conf_init(&f->conf);
	f->conf.nb_sessions = 4096;
	f->conf.huge = false;
	f->conf.seed[0] = 1;
	f->conf.seed[1] = 2;
	f->conf.pool = pool;
	f->conf.reevaluate_rate = 0; /* packets first; test_walk_idle() has the rest */
	assert_int_equal(fw_trace_create(&f->trace, 65536), 0);
	fw_trace_set_level(f->trace, FW_TRACE_ALL);
	f->conf.trace = f->trace;
	assert_int_equal(fw_path_create(&f->path, &f->conf), 0);
	set_rules(f, 1, open_rules, PK_COUNT(open_rules));
	f->now_ns = 1000 * S;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	assert_true(world_balanced(f->path));
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	fw_path_destroy(f->path);
	fw_trace_destroy(f->trace);
	fw_rules_destroy(f->rules);
	free(f);
	return 0;
}

static void
release(struct fixture *f)
{
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		if (f->out.nb[side] > 0)
			rte_pktmbuf_free_bulk(f->out.pkt[side], f->out.nb[side]);
		f->out.nb[side] = 0;
	}
}

/* The reason of the only packet record in the trace. */
static enum fw_drop
judged(struct fixture *f)
{
	struct fw_trace_record r[64];
	unsigned int n, found = 0;
	enum fw_drop drop = FW_DROP_COUNT;

	while ((n = fw_trace_take(f->trace, r, 64)) > 0) {
		for (unsigned int i = 0; i < n; i++) {
			if (r[i].kind == FW_TRACE_PACKET) {
				drop = (enum fw_drop)r[i].drop;
				found++;
			}
		}
	}
	assert_int_equal(found, 1);
	return drop;
}

/* Send one frame; what comes out stays in f->out.  Returns the reason. */
static enum fw_drop
send_frame(struct fixture *f, bool from_outside, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *m = world_mbuf(pool, frame, len);

	release(f);
	assert_non_null(m);
	fw_path_tick(f->path, f->rules, f->now_ns, 1000, NULL);
	fw_path_burst(
	    f->path, f->rules, 0, from_outside ? FW_OUTSIDE : FW_INSIDE, &m, 1, f->now_ns, &f->out);
	return judged(f);
}

static enum fw_drop
send_pkt(struct fixture *f, const struct world_pkt *w)
{
	uint8_t frame[2048];
	uint32_t len = world_frame(w, frame);

	return send_frame(f, w->from_outside, frame, len);
}

static enum fw_drop
tcp(struct fixture *f, uint8_t family, bool from_outside, uint16_t port, uint8_t flags,
    uint32_t seq, uint32_t ack, uint16_t payload)
{
	struct world_pkt w = { .family = family,
		.proto = IPPROTO_TCP,
		.from_outside = from_outside,
		.in = 1,
		.out = 9,
		.sport = from_outside ? port : 40000,
		.dport = from_outside ? 40000 : port,
		.seq = seq,
		.ack = ack,
		.flags = flags,
		.win = 8000,
		.payload = payload };

	return send_pkt(f, &w);
}

static void
handshake(struct fixture *f, uint8_t family, uint16_t port)
{
	assert_int_equal(tcp(f, family, false, port, FW_TCP_SYN, 100, 0, 0), 0);
	assert_int_equal(tcp(f, family, true, port, FW_TCP_SYN | FW_TCP_ACK, 500, 101, 0), 0);
	assert_int_equal(tcp(f, family, false, port, FW_TCP_ACK, 101, 501, 0), 0);
	assert_int_equal(tcp(f, family, false, port, FW_TCP_ACK | FW_TCP_PSH, 101, 501, 1000), 0);
	assert_int_equal(tcp(f, family, true, port, FW_TCP_ACK, 501, 1101, 0), 0);
}

static void
test_tcp_life(void **state)
{
	struct fixture *f = *state;

	for (uint8_t family = 4; family <= 6; family += 2) {
		handshake(f, family, 443);
		assert_int_equal(
		    tcp(f, family, true, 443, FW_TCP_ACK, 900000, 1101, 0), FW_DROP_TCP_WINDOW);
		assert_int_equal(
		    tcp(f, family, true, 443, FW_TCP_ACK, 501, 9101, 0), FW_DROP_TCP_ACK);
		assert_int_equal(
		    tcp(f, family, false, 443, FW_TCP_FIN | FW_TCP_ACK, 1101, 501, 0), 0);
		assert_int_equal(
		    tcp(f, family, true, 443, FW_TCP_FIN | FW_TCP_ACK, 501, 1102, 0), 0);
		assert_int_equal(tcp(f, family, false, 443, FW_TCP_ACK, 1102, 502, 0), 0);
	}
	assert_int_equal(fw_path_nb_sessions(f->path), 2);
	f->now_ns += 32 * S;
	fw_path_tick(f->path, f->rules, f->now_ns, 1000, NULL);
	assert_int_equal(fw_path_nb_sessions(f->path), 0);
	release(f);
}

static void
test_policy(void **state)
{
	struct fixture *f = *state;
	struct world_pkt udp = { .family = 4,
		.proto = IPPROTO_UDP,
		.in = 1,
		.out = 3,
		.sport = 1000,
		.dport = 23,
		.payload = 10 };
	const uint8_t *made;

	assert_int_equal(tcp(f, 4, false, 25, FW_TCP_SYN, 100, 0, 0), FW_DROP_RULE_DENY);
	assert_int_equal(f->out.nb[0] + f->out.nb[1], 0);
	/* RFC 9293 section 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK> */
	assert_int_equal(tcp(f, 4, false, 23, FW_TCP_SYN, 100, 0, 0), FW_DROP_RULE_REJECT);
	assert_int_equal(f->out.nb[FW_INSIDE], 1);
	made = rte_pktmbuf_mtod(f->out.pkt[FW_INSIDE][0], const uint8_t *);
	assert_int_equal(made[14 + 20 + 13], FW_TCP_RST | FW_TCP_ACK);
	assert_memory_equal(made + 14 + 20 + 4, ((uint8_t[]){ 0, 0, 0, 0, 0, 0, 0, 101 }), 8);
	/* RFC 1812 section 5.2.7.1: type 3, code 13 */
	assert_int_equal(send_pkt(f, &udp), FW_DROP_RULE_REJECT);
	made = rte_pktmbuf_mtod(f->out.pkt[FW_INSIDE][0], const uint8_t *);
	assert_memory_equal(made + 14 + 20, ((uint8_t[]){ 3, 13 }), 2);
	/* RFC 4443 section 3.1: type 1, code 1 */
	udp.family = 6;
	assert_int_equal(send_pkt(f, &udp), FW_DROP_RULE_REJECT);
	made = rte_pktmbuf_mtod(f->out.pkt[FW_INSIDE][0], const uint8_t *);
	assert_memory_equal(made + 14 + 40, ((uint8_t[]){ 1, 1 }), 2);
	/* From outside: only port 80. */
	udp.from_outside = true;
	assert_int_equal(send_pkt(f, &udp), FW_DROP_RULE_DENY);
	udp.in = 77;
	assert_int_equal(send_pkt(f, &udp), FW_DROP_NO_SUBJECT);
	release(f);
}

static void
test_no_policy(void **state)
{
	struct fixture *f = *state;
	struct fw_rules *rules = f->rules;

	f->rules = NULL;
	assert_int_equal(tcp(f, 4, false, 443, FW_TCP_SYN, 100, 0, 0), FW_DROP_NO_POLICY);
	f->rules = rules;
	release(f);
}

/* A flow that is no longer allowed passes no packet, in either direction, and both ends are told. */
static void
test_revoked(void **state)
{
	struct fixture *f = *state;
	const uint8_t *made;

	handshake(f, 4, 443);
	handshake(f, 4, 444);
	handshake(f, 4, 445);
	set_rules(f, 2, open_rules, PK_COUNT(open_rules));
	assert_int_equal(tcp(f, 4, true, 443, FW_TCP_ACK, 501, 1101, 100), 0);
	set_rules(f, 3, reject_rules, PK_COUNT(reject_rules));
	assert_int_equal(tcp(f, 4, true, 444, FW_TCP_ACK, 501, 1101, 100), FW_DROP_REVOKED);
	assert_int_equal(f->out.nb[FW_INSIDE], 1);
	assert_int_equal(f->out.nb[FW_OUTSIDE], 1);
	made = rte_pktmbuf_mtod(f->out.pkt[FW_INSIDE][0], const uint8_t *);
	assert_memory_equal(made + 38, ((uint8_t[]){ 0, 0, 1, 0xf5 }), 4); /* 501 */
	made = rte_pktmbuf_mtod(f->out.pkt[FW_OUTSIDE][0], const uint8_t *);
	assert_memory_equal(made + 38, ((uint8_t[]){ 0, 0, 4, 0x4d }), 4); /* 1101 */
	assert_int_equal(tcp(f, 4, true, 444, FW_TCP_ACK, 501, 1101, 100), FW_DROP_TCP_NO_SESSION);
	set_rules(f, 4, NULL, 0);
	assert_int_equal(tcp(f, 4, false, 445, FW_TCP_ACK, 1101, 501, 0), FW_DROP_REVOKED);
	assert_int_equal(f->out.nb[FW_INSIDE] + f->out.nb[FW_OUTSIDE], 0);
	assert_int_equal(fw_path_nb_sessions(f->path), 1);
	release(f);
}

static void
test_udp_icmp(void **state)
{
	struct fixture *f = *state;

	for (uint8_t family = 4; family <= 6; family += 2) {
		struct world_pkt w = { .family = family,
			.proto = IPPROTO_UDP,
			.in = 1,
			.out = 3,
			.sport = 1000,
			.dport = 53,
			.payload = 10 };
		uint8_t frame[256], error[256];
		uint32_t len = world_frame(&w, frame);

		assert_int_equal(send_pkt(f, &w), 0);
		/* An error about it, from a router on the way, to who sent it. */
		w = (struct world_pkt){ .family = family,
			.proto = family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
			.from_outside = true,
			.in = 1,
			.out = 200,
			.sport = family == 4 ? 3 << 8 | 4 : 2 << 8,
			.payload = (uint16_t)(len - 14),
			.body = frame + 14 };
		assert_int_equal(send_pkt(f, &w), 0);
		w.in = 2; /* somebody else */
		assert_int_equal(send_pkt(f, &w), FW_DROP_ICMP_INNER);
		w.in = 1;
		memcpy(error, frame + 14, len - 14);
		error[(family == 4 ? 20 : 40) + 1]++; /* another source port */
		w.body = error;
		assert_int_equal(send_pkt(f, &w), FW_DROP_ICMP_NO_SESSION);

		w = (struct world_pkt){ .family = family,
			.proto = IPPROTO_UDP,
			.from_outside = true,
			.in = 1,
			.out = 3,
			.sport = 53,
			.dport = 1000 };
		assert_int_equal(send_pkt(f, &w), 0);

		w = (struct world_pkt){ .family = family,
			.proto = family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
			.in = 1,
			.out = 3,
			.sport = family == 4 ? 8 << 8 : 128 << 8,
			.dport = 77,
			.payload = 56 };
		assert_int_equal(send_pkt(f, &w), 0);
		w.from_outside =
		    true; /* the same identifier asked from the other side: a flow of its own */
		assert_int_equal(send_pkt(f, &w), FW_DROP_RULE_DENY);
		w.sport = family == 4 ? 0 : 129 << 8;
		assert_int_equal(send_pkt(f, &w), 0);
		w.dport = 78;
		assert_int_equal(send_pkt(f, &w), FW_DROP_ICMP_NO_SESSION);
	}
	release(f);
}

static void
test_guard(void **state)
{
	struct fixture *f = *state;
	struct world_pkt w = {
		.family = 4, .proto = IPPROTO_UDP, .in = 50, .out = 3, .sport = 1000, .dport = 53
	};
	uint8_t frame[2048], arp[60] = { 0 };
	uint32_t len;

	assert_int_equal(send_pkt(f, &w), FW_DROP_SPOOF);
	w.in = 1;
	len = world_frame(&w, frame);
	frame[11] = 9;
	assert_int_equal(send_frame(f, false, frame, len), FW_DROP_SPOOF_MAC);
	/* from outside, with the address of a workload inside */
	len = world_frame(&w, frame);
	assert_int_equal(send_frame(f, true, frame, len), FW_DROP_SPOOF_OUTSIDE);

	memset(arp, 0xff, 6);
	memcpy(arp + 6, world_mac_inside, 6);
	memcpy(arp + 12, (uint8_t[]){ 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 }, 10);
	memcpy(arp + 22, world_mac_inside, 6);
	memcpy(arp + 28, world_addr(4, true, 1).bytes, 4);
	memcpy(arp + 38, world_addr(4, false, 1).bytes, 4);
	assert_int_equal(send_frame(f, false, arp, 60), 0);
	assert_int_equal(send_frame(f, true, arp, 60), FW_DROP_SPOOF_OUTSIDE);
	arp[31] = 60;
	assert_int_equal(send_frame(f, false, arp, 60), FW_DROP_SPOOF);
	memset(arp + 28, 0, 4); /* RFC 5227: a probe */
	assert_int_equal(send_frame(f, false, arp, 60), 0);
	arp[27] = 77;
	assert_int_equal(send_frame(f, false, arp, 60), FW_DROP_SPOOF_MAC);
	arp[18] = 5;
	assert_int_equal(send_frame(f, false, arp, 60), FW_DROP_ARP);
	release(f);
}

/* RFC 4861, RFC 4862: what IPv6 needs passes without policy, and only as what it is. */
static void
test_nd(void **state)
{
	static const uint8_t fe80[16] = { 0xfe, 0x80, [15] = 1 }, all[16] = { 0xff, 2, [15] = 1 };
	struct fixture *f = *state;
	uint8_t frame[256];
	const struct {
		uint8_t type;
		bool from_outside;
		uint8_t hops;
		int src, target; /* 0 ::, 1 link-local, 2 workload inside, 3 nobody */
		enum fw_drop want;
	} cases[] = {
		{ 135, false, 255, 0, 2, FW_DROP_NONE }, /* DAD */
		{ 135, false, 255, 2, 3, FW_DROP_NONE },
		{ 135, false, 255, 3, 2, FW_DROP_SPOOF },
		{ 135, false, 64, 2, 3, FW_DROP_ND },
		{ 136, false, 255, 2, 2, FW_DROP_NONE },
		{ 136, false, 255, 1, 3, FW_DROP_SPOOF },
		{ 136, true, 255, 1, 2, FW_DROP_SPOOF_OUTSIDE },
		{ 136, true, 255, 3, 3, FW_DROP_NONE },
		{ 133, false, 255, 1, 3, FW_DROP_NONE },
		{ 134, false, 255, 1, 3, FW_DROP_RA_INSIDE },
		{ 134, true, 255, 1, 3, FW_DROP_NONE },
		{ 134, true, 255, 3, 3, FW_DROP_ND },
		{ 137, true, 255, 1, 3, FW_DROP_ICMP_TYPE },
		{ 143, false, 1, 1, 3, FW_DROP_NONE },
		{ 143, false, 2, 1, 3, FW_DROP_ND },
	};

	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct pk_addr inside = world_addr(6, true, 1), nobody = world_addr(6, false, 8);
		uint16_t payload = cases[i].type == 133 ? 0
		    : cases[i].type == 134              ? 8
		    : cases[i].type == 143              ? 24
		                                        : 16;
		const uint8_t *addr[] = { (uint8_t[16]){ 0 }, fe80, inside.bytes, nobody.bytes };
		struct world_pkt w = { .family = 6,
			.proto = IPPROTO_ICMPV6,
			.from_outside = cases[i].from_outside,
			.in = 1,
			.out = 8,
			.sport = (uint16_t)(cases[i].type << 8),
			.payload = payload,
			.body = (uint8_t[24]){ 0 } };
		uint32_t len;
		enum fw_drop got;

		len = world_frame(&w, frame);
		memcpy(frame + 14 + 8, addr[cases[i].src], 16);
		memcpy(frame + 14 + 24, all, 16);
		memcpy(frame + 14 + 40 + 8, addr[cases[i].target], 16);
		frame[14 + 7] = cases[i].hops;
		got = send_frame(f, cases[i].from_outside, frame, len);
		if (got != cases[i].want)
			fail_msg("case %zu: %s, want %s", i, fw_drop_name(got),
			    fw_drop_name(cases[i].want));
	}
	release(f);
}

/* A whole connection in one burst: each packet meets the session the ones before have made. */
static void
test_one_burst(void **state)
{
	struct fixture *f = *state;
	struct rte_mbuf *m[FW_BURST];
	uint8_t frame[2048];

	release(f);
	for (uint32_t i = 0; i < FW_BURST; i++) {
		struct world_pkt w = { .family = 4,
			.proto = IPPROTO_UDP,
			.in = 1,
			.out = 3,
			.sport = (uint16_t)(1000 + i / 8),
			.dport = 53,
			.payload = 10 };

		m[i] = world_mbuf(pool, frame, world_frame(&w, frame));
	}
	fw_path_burst(f->path, f->rules, 0, FW_INSIDE, m, FW_BURST, f->now_ns, &f->out);
	assert_int_equal(f->out.nb[FW_OUTSIDE], FW_BURST);
	assert_int_equal(fw_path_nb_sessions(f->path), 4);
	assert_int_equal(pk_counter_read(&fw_path_stats(f->path)->policy_lookups), 4);
	release(f);
}

/* Headers in several segments, and checksums that a virtual port left for later. */
static void
test_odd_mbufs(void **state)
{
	struct fixture *f = *state;
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_UDP,
		.in = 1,
		.out = 3,
		.sport = 1000,
		.dport = 53,
		.payload = 100 };
	uint8_t frame[2048];
	uint32_t len = world_frame(&w, frame);
	struct rte_mbuf *head, *tail;

	for (uint32_t cut = 1; cut < len; cut += 7) {
		head = world_mbuf(pool, frame, cut);
		tail = world_mbuf(pool, frame + cut, len - cut);
		assert_int_equal(rte_pktmbuf_chain(head, tail), 0);
		release(f);
		fw_path_burst(f->path, f->rules, 0, FW_INSIDE, &head, 1, f->now_ns, &f->out);
		assert_int_equal(f->out.nb[FW_OUTSIDE], 1);
	}
	assert_int_equal(fw_path_nb_sessions(f->path), 1);

	head = world_mbuf(pool, frame, len);
	memset(rte_pktmbuf_mtod_offset(head, uint8_t *, 14 + 20 + 6), 0x55, 2);
	memset(rte_pktmbuf_mtod_offset(head, uint8_t *, 14 + 10), 0x55, 2);
	head->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_IP_CKSUM_NONE;
	release(f);
	fw_path_burst(f->path, f->rules, 0, FW_INSIDE, &head, 1, f->now_ns, &f->out);
	assert_int_equal(f->out.nb[FW_OUTSIDE], 1);
	assert_memory_equal(rte_pktmbuf_mtod(f->out.pkt[FW_OUTSIDE][0], uint8_t *), frame, len);

	head = world_mbuf(pool, frame, len);
	head->ol_flags |= RTE_MBUF_F_RX_LRO;
	head->tso_segsz = 1448;
	release(f);
	fw_path_burst(f->path, f->rules, 0, FW_INSIDE, &head, 1, f->now_ns, &f->out);
	assert_int_equal(f->out.nb[FW_OUTSIDE], 0);
	assert_int_equal(pk_counter_read(&fw_path_stats(f->path)->drop[FW_DROP_OVERSIZED]), 1);
	release(f);
}

static void
test_full(void **state)
{
	struct fixture *f = *state;
	struct world_pkt w = { .family = 4, .proto = IPPROTO_UDP, .in = 1, .out = 3, .dport = 53 };

	/* Answered ones stay, whoever comes. */
	for (uint32_t i = 0; i < 4096; i++) {
		w.sport = (uint16_t)(i + 1);
		assert_int_equal(send_pkt(f, &w), 0);
		w.dport = w.sport;
		w.sport = 53;
		w.from_outside = true;
		assert_int_equal(send_pkt(f, &w), 0);
		w.dport = 53;
		w.from_outside = false;
	}
	w.sport = 5000;
	assert_int_equal(send_pkt(f, &w), FW_DROP_SESSIONS_FULL);
	w.sport = 5;
	assert_int_equal(send_pkt(f, &w), 0);
	f->now_ns += 122 * S;
	w.sport = 5000;
	while (fw_path_tick(f->path, f->rules, f->now_ns, 1000, NULL))
		;
	assert_int_equal(send_pkt(f, &w), 0);
	assert_int_equal(fw_path_nb_sessions(f->path), 1);
	release(f);
}

static uint64_t rng = 88172645463325252u;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

static struct rte_mbuf *
segment(uint32_t in, uint32_t out, uint16_t sport, bool from_outside, uint8_t flags)
{
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_TCP,
		.from_outside = from_outside,
		.in = in,
		.out = out,
		.sport = from_outside ? 443 : sport,
		.dport = from_outside ? sport : 443,
		.seq = from_outside ? 500 : 100,
		.ack = from_outside ? 101 : 501,
		.flags = flags,
		.win = 8000 };
	uint8_t frame[128];

	if (flags == FW_TCP_ACK)
		w.seq++;
	return world_mbuf(pool, frame, world_frame(&w, frame));
}

/* Hand over one packet in a burst with a flood of `n` SYNs behind it; whether it passed. */
static bool
through_flood(struct fixture *f, struct rte_mbuf *m, bool from_outside, unsigned int n)
{
	struct rte_mbuf *pkts[FW_BURST] = { m };
	unsigned int to = from_outside ? FW_INSIDE : FW_OUTSIDE;
	bool passed;

	fw_path_burst(f->path, f->rules, 0, from_outside ? FW_OUTSIDE : FW_INSIDE, pkts, 1,
	    f->now_ns, &f->out);
	passed = f->out.nb[to] == 1;
	release(f);
	while (n > 0) {
		unsigned int k = RTE_MIN(n, (unsigned int)FW_BURST);

		for (unsigned int i = 0; i < k; i++)
			pkts[i] =
			    segment(1, rnd(200), (uint16_t)(1 + rnd(65535)), false, FW_TCP_SYN);
		fw_path_burst(f->path, f->rules, 0, FW_INSIDE, pkts, k, f->now_ns, &f->out);
		release(f);
		n -= k;
		f->now_ns += 10 * PK_NS_PER_US;
	}
	fw_path_tick(f->path, f->rules, f->now_ns, 256, NULL);
	return passed;
}

/*
 * RFC 4987 section 3: under a flood of SYNs that nobody answers, with the table full all the time, those who
 * answer get through, and no established connection is lost.  Between two packets of a handshake come
 * 1,000 of the flood.
 */
static void
test_flood(void **state)
{
	enum {
		CAPACITY = 16384,
		OLD = 8192,
		TRIES = 500,
		FLOOD = 1000
	};
	struct fixture *f = *state;
	const struct fw_path_stats *s;
	unsigned int good = 0, lost = 0;

	fw_path_destroy(f->path);
	f->conf.trace = NULL;
	f->conf.nb_sessions = CAPACITY;
	f->conf.syn_cookies = 0; /* what is left without them; with them: fw_cookie_test */
	assert_int_equal(fw_path_create(&f->path, &f->conf), 0);
	s = fw_path_stats(f->path);
	for (unsigned int i = 0; i < OLD; i++) {
		assert_true(through_flood(
		    f, segment(2, 9, (uint16_t)(1 + i), false, FW_TCP_SYN), false, 0));
		assert_true(through_flood(
		    f, segment(2, 9, (uint16_t)(1 + i), true, FW_TCP_SYN | FW_TCP_ACK), true, 0));
		assert_true(through_flood(
		    f, segment(2, 9, (uint16_t)(1 + i), false, FW_TCP_ACK), false, 0));
	}
	for (unsigned int i = 0; i < TRIES; i++) {
		uint16_t port = (uint16_t)(20000 + i);

		good += through_flood(f, segment(3, 9, port, false, FW_TCP_SYN), false, FLOOD) &&
		    through_flood(
		        f, segment(3, 9, port, true, FW_TCP_SYN | FW_TCP_ACK), true, FLOOD) &&
		    through_flood(f, segment(3, 9, port, false, FW_TCP_ACK), false, FLOOD);
	}
	assert_int_equal(fw_path_nb_sessions(f->path), CAPACITY);
	for (unsigned int i = 0; i < OLD; i++)
		lost += !through_flood(
		    f, segment(2, 9, (uint16_t)(1 + i), false, FW_TCP_ACK), false, 0);
	for (unsigned int i = 0; i < TRIES; i++)
		lost += !through_flood(
		    f, segment(3, 9, (uint16_t)(20000 + i), false, FW_TCP_ACK), false, 0);
	printf("# %u of %u connections made, %u established lost, %" PRIu64 " evicted\n", good,
	    (unsigned int)TRIES, lost, pk_counter_read(&s->sessions_evicted));
	assert_true(good * 100 >= TRIES * 99);
	assert_int_equal(lost, TRIES - good);
	assert_int_equal(pk_counter_read(&s->drop[FW_DROP_SESSIONS_FULL]), 0);
	assert_true(pk_counter_read(&s->sessions_evicted) > 1000000);
	/* It is over within one timeout. */
	f->now_ns += 31 * S;
	for (unsigned int i = 0; i < 100; i++)
		fw_path_tick(f->path, f->rules, f->now_ns, 1000, NULL);
	assert_int_equal(fw_path_nb_sessions(f->path), OLD + good);
}

/* Ticks of a millisecond, until the walk is done or `n` of them; how many packets they made. */
static unsigned int
ticks(struct fixture *f, unsigned int n)
{
	struct fw_made made;
	unsigned int nb = 0;

	while (n-- > 0) {
		f->now_ns += PK_NS_PER_MS;
		fw_path_tick(f->path, f->rules, f->now_ns, 256, &made);
		nb += made.nb;
		for (unsigned int i = 0; i < made.nb; i++)
			rte_pktmbuf_free(made.pkt[i].m);
	}
	return nb;
}

/* Sessions without packets end after a change of policy, at the rate that was asked for, and are told. */
static void
test_walk_idle(void **state)
{
	enum {
		NB = 3000
	};
	struct fixture *f = *state;
	const struct fw_path_stats *s;
	uint32_t left;

	fw_path_destroy(f->path);
	f->conf.trace = NULL;
	f->conf.reevaluate_rate = 10000;
	assert_int_equal(fw_path_create(&f->path, &f->conf), 0);
	s = fw_path_stats(f->path);
	for (unsigned int i = 0; i < NB; i++) {
		uint16_t port = (uint16_t)(1 + i);

		through_flood(f, segment(2, 9, port, false, FW_TCP_SYN), false, 0);
		through_flood(f, segment(2, 9, port, true, FW_TCP_SYN | FW_TCP_ACK), true, 0);
		through_flood(f, segment(2, 9, port, false, FW_TCP_ACK), false, 0);
	}
	assert_int_equal(ticks(f, 100), 0);
	assert_int_equal(pk_counter_read(&s->reevaluated), 0);
	/* Still allowed: 10 in a millisecond, and 64 at first. */
	set_rules(f, 2, open_rules, PK_COUNT(open_rules));
	assert_int_equal(ticks(f, 100), 0);
	assert_in_range(pk_counter_read(&s->reevaluated), 950, 1100);
	/* Another change in mid-walk: each is looked at once more, whether the walk had got to it or not. */
	set_rules(f, 3, open_rules, PK_COUNT(open_rules));
	ticks(f, 400);
	assert_in_range(pk_counter_read(&s->reevaluated), NB + 950, NB + 1100);
	assert_int_equal(fw_path_nb_sessions(f->path), NB);
	/* No longer: both ends of each are told. */
	set_rules(f, 4, reject_rules, PK_COUNT(reject_rules));
	left = NB;
	while (left > 0) {
		unsigned int told = ticks(f, 10);

		assert_true(told > 0);
		assert_int_equal(told % 2, 0);
		left -= told / 2;
		assert_int_equal(fw_path_nb_sessions(f->path), left);
	}
	assert_int_equal(pk_counter_read(&s->revoked), NB);
	assert_int_equal(pk_counter_read(&s->made), 2 * NB);
	assert_int_equal(ticks(f, 100), 0);
}

static bool
count_one(void *arg, const struct fw_session_info *info)
{
	assert_string_equal(info->state, "established");
	assert_int_equal(info->packets[0], 3);
	assert_int_equal(info->packets[1], 2);
	assert_int_equal(info->sport, 40000);
	assert_int_equal(info->direction, PK_EGRESS);
	++*(unsigned int *)arg;
	return true;
}

static void
test_walk(void **state)
{
	struct fixture *f = *state;
	uint32_t cursor = 0;
	unsigned int seen = 0;

	for (uint16_t port = 440; port < 450; port++)
		handshake(f, port % 2 != 0 ? 4 : 6, port);
	do
		fw_path_walk(f->path, f->now_ns, &cursor, 3, count_one, &seen);
	while (cursor != 0);
	assert_int_equal(seen, 10);
	release(f);
}

/* ---- random packets ---------------------------------------------------------------------------- */

/* Something that might be a packet: a good one, in or out of order, then perhaps spoilt. */
static uint32_t
random_frame(uint8_t *frame, bool *from_outside)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP,
		IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_GRE, IPPROTO_ESP, 0, 43, 44,
		60 };
	static const uint8_t scale[4] = { 3, 3, 7, 1 };
	uint8_t inner[512];
	struct world_pkt w = {
		.family = rnd(2) != 0 ? 4 : 6,
		.proto = protos[rnd(PK_COUNT(protos))],
		.from_outside = rnd(2) != 0,
		.in = 1 + rnd(5),
		.out = 1 + rnd(5),
		.sport = (uint16_t)rnd(6),
		.dport = (uint16_t)rnd(6),
		.seq = 1000 + rnd(4),
		.ack = 1000 + rnd(4),
		.flags =
		    (uint8_t)(rnd(4) == 0 ? rnd(256) : (uint8_t[]){ 2, 18, 16, 17, 4, 20 }[rnd(6)]),
		.win = (uint16_t)rnd(65536),
		.payload = (uint16_t)(rnd(3) != 0 ? rnd(3) : rnd(300)),
	};
	uint32_t len;

	if (rnd(4) == 0) {
		w.options = scale;
		w.options_len = 4;
	}
	if (w.proto == IPPROTO_ICMP || w.proto == IPPROTO_ICMPV6) {
		w.sport = (uint16_t)((rnd(2) != 0 ? rnd(16) : rnd(256)) << 8 | rnd(3));
		if (rnd(2) != 0) {
			struct world_pkt q = w;

			q.proto = protos[rnd(PK_COUNT(protos))];
			q.from_outside = !w.from_outside;
			q.sport = (uint16_t)rnd(6);
			q.payload = (uint16_t)rnd(20);
			w.payload = (uint16_t)(world_frame(&q, inner) - 14);
			w.body = inner + 14;
		}
	}
	len = world_frame(&w, frame);
	*from_outside = rnd(20) != 0 ? w.from_outside : !w.from_outside;
	for (uint32_t n = rnd(3) == 0 ? rnd(6) : 0; n > 0; n--)
		frame[rnd(rnd(2) != 0 ? len : PK_MIN(len, 60u))] = (uint8_t)rnd(256);
	if (rnd(10) == 0)
		len = rnd(len) + 1;
	if (rnd(20) == 0) { /* a tag or three */
		for (uint32_t n = 1 + rnd(3); n > 0; n--) {
			memmove(frame + 16, frame + 12, len - PK_MIN(len, 12u));
			memcpy(frame + 12, (uint8_t[]){ 0x81, 0, 0, (uint8_t)rnd(3) }, 4);
			len += 4;
		}
	}
	return len;
}

static void
test_random(void **state)
{
	struct fixture *f = *state;
	uint64_t generation = 10, packets = 0, records = 0;
	uint8_t frame[4096];

	while (packets < 100000) {
		struct rte_mbuf *m[FW_BURST];
		uint32_t n = 1 + rnd(FW_BURST), k = 0;
		bool side = rnd(2) != 0, from;
		struct fw_trace_record r[256];
		unsigned int got;

		while (k < n) {
			uint32_t len = random_frame(frame, &from);

			if (from != side)
				continue;
			if (len > 20 && rnd(30) == 0) {
				uint32_t cut = 1 + rnd(len - 1);

				m[k] = world_mbuf(pool, frame, cut);
				assert_int_equal(rte_pktmbuf_chain(m[k],
				                     world_mbuf(pool, frame + cut, len - cut)),
				    0);
			} else {
				m[k] = world_mbuf(pool, frame, len);
			}
			if (rnd(30) == 0)
				m[k]->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
			if (rnd(30) == 0)
				m[k]->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_NONE;
			if (rnd(100) == 0) {
				m[k]->ol_flags |= RTE_MBUF_F_RX_VLAN_STRIPPED;
				m[k]->vlan_tci = (uint16_t)rnd(3);
			}
			k++;
		}
		if (rnd(300) == 0) {
			bool open = rnd(5) != 0;

			generation++;
			set_rules(f, generation, open ? open_rules : reject_rules,
			    open ? PK_COUNT(open_rules) : PK_COUNT(reject_rules));
		}
		f->now_ns += rnd(10) != 0 ? rnd(1000000) : rnd(2000000000);
		fw_path_tick(f->path, f->rules, f->now_ns, rnd(64), NULL);
		fw_path_burst(
		    f->path, f->rules, 0, side ? FW_OUTSIDE : FW_INSIDE, m, n, f->now_ns, &f->out);
		packets += n;
		while ((got = fw_trace_take(f->trace, r, PK_COUNT(r))) > 0)
			for (unsigned int i = 0; i < got; i++)
				records += r[i].kind == FW_TRACE_PACKET;
		assert_true(world_balanced(f->path));
		assert_int_equal(records, packets);
		release(f);
	}
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	for (unsigned int i = 0; i < 10; i++) {
		f->now_ns += 100000 * S;
		while (fw_path_tick(f->path, f->rules, f->now_ns, 1000, NULL))
			;
	}
	assert_int_equal(fw_path_nb_sessions(f->path), 0);
	for (unsigned int d = 0; d < FW_DROP_COUNT; d++)
		print_message("# %-16s %" PRIu64 "\n", fw_drop_name(d),
		    pk_counter_read(&fw_path_stats(f->path)->drop[d]));
}
/* What was dropped for a reason can be looked at: the first of each millisecond, and whatever it is. */
static void
test_samples(void **state)
{
	static const uint8_t lldp[60] = { 1, 0x80, 0xc2, 0, 0, 0xe, 2, 0, 0, 0, 0, 1, 0x88, 0xcc };
	struct fixture *f = *state;
	const struct fw_samples *t = fw_path_samples(f->path);
	char text[FW_SAMPLE_TEXT];
	struct fw_sample s;
	struct world_pkt ping = { .family = 6,
		.proto = IPPROTO_ICMPV6,
		.from_outside = true,
		.in = 1,
		.out = 9,
		.sport = 129 << 8,
		.dport = 7 };
	uint8_t frame[2048];

	assert_false(fw_samples_read(t, FW_DROP_RULE_DENY, &s));
	assert_int_equal(tcp(f, 4, false, 25, FW_TCP_SYN, 1, 0, 0), FW_DROP_RULE_DENY);
	assert_true(fw_samples_read(t, FW_DROP_RULE_DENY, &s));
	assert_int_equal(s.time_ns, f->now_ns);
	assert_string_equal(fw_sample_text(t, &s, text),
	    "inside of wire 0: 198.51.100.1:40000 > 203.0.113.9:25 tcp S, 54 bytes");

	/* Another, at once: the first stands for both.  A little later: it does not. */
	assert_int_equal(tcp(f, 6, false, 25, FW_TCP_SYN, 1, 0, 0), FW_DROP_RULE_DENY);
	assert_true(fw_samples_read(t, FW_DROP_RULE_DENY, &s));
	assert_int_equal(s.len, 54);
	f->now_ns += 3 * PK_NS_PER_MS;
	assert_int_equal(tcp(f, 6, false, 25, FW_TCP_SYN, 1, 0, 0), FW_DROP_RULE_DENY);
	assert_true(fw_samples_read(t, FW_DROP_RULE_DENY, &s));
	assert_string_equal(fw_sample_text(t, &s, text),
	    "inside of wire 0: [2001:db8:1::1]:40000 > [2001:db8:2::9]:25 tcp S, 74 bytes");

	assert_int_equal(send_pkt(f, &ping), FW_DROP_ICMP_NO_SESSION);
	assert_true(fw_samples_read(t, FW_DROP_ICMP_NO_SESSION, &s));
	assert_string_equal(fw_sample_text(t, &s, text),
	    "outside of wire 0: 2001:db8:2::9 > 2001:db8:1::1 icmp6 type 129 code 0, 62 bytes");

	/* What the parser refuses is told as far as it goes. */
	assert_int_equal(send_frame(f, false, lldp, sizeof(lldp)), FW_DROP_ETHERTYPE);
	assert_true(fw_samples_read(t, FW_DROP_ETHERTYPE, &s));
	assert_string_equal(fw_sample_text(t, &s, text),
	    "inside of wire 0: 02:00:00:00:00:01 > 01:80:c2:00:00:0e type 0x88cc, 60 bytes");
	memset(frame, 0, sizeof(frame));
	for (uint32_t len = 1; len < 100; len++) {
		struct world_pkt w = { .family = 4, .proto = IPPROTO_TCP, .in = 1, .out = 9 };

		(void)world_frame(&w, frame);
		f->now_ns += 3 * PK_NS_PER_MS;
		(void)send_frame(f, false, frame, len);
	}
	for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
		if (fw_samples_read(t, (enum fw_drop)d, &s))
			assert_int_equal(
			    strncmp(fw_sample_text(t, &s, text), "inside of wire 0: ", 18) &&
			        strncmp(text, "outside of wire 0: ", 19),
			    0);
	release(f);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_tcp_life),
		TEST(test_policy),
		TEST(test_no_policy),
		TEST(test_revoked),
		TEST(test_udp_icmp),
		TEST(test_guard),
		TEST(test_nd),
		TEST(test_one_burst),
		TEST(test_odd_mbufs),
		TEST(test_full),
		TEST(test_flood),
		TEST(test_walk_idle),
		TEST(test_walk),
		TEST(test_random),
		TEST(test_samples),
	};

	pool = world_start(1023);
	if (pool == NULL) {
		printf("1..0 # SKIP DPDK does not start: %s\n", rte_strerror(rte_errno));
		return 0;
	}
	return cmocka_run_group_tests_name("fw/path", tests, NULL, NULL);
}
