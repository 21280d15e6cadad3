#pragma once

#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#include "dpi/apps.h"
#include "fw/parse.h"
#include "fw/path.h"
#include "fw/rule.h"

/*
 * A small world for tests, fuzzers and benches of the packet path: rules said in messages, packets made
 * from a few words.
 *
 *     198.51.100.0 + i, 2001:db8:1::i    inside:  workloads 1 .. nb_inside of wire 0, all one identity
 *     203.0.113.x,      2001:db8:2::x    outside: nobody in particular
 */
struct world_rule {
	enum pk_direction direction;
	enum pk_verdict verdict;
	uint8_t proto; /* PK_PROTO_ANY: all traffic */
	uint16_t low, high;
};

/* The application that all rules but the default name; NULL: none. */
static const char *world_app;

#define WORLD_INSIDE  UINT32_C(0xc6336400)
#define WORLD_OUTSIDE UINT32_C(0xcb007100)
static const uint8_t world_mac_inside[6] = { 2, 0, 0, 0, 0, 1 };
static const uint8_t world_mac_outside[6] = { 2, 0, 0, 0, 0, 2 };

struct world_talk {
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint32_t said;
	struct pk_diag diag;
};

static inline void
world_say(struct world_talk *w, const struct pk_msg *m)
{
	struct fw_rules *rules = NULL;

	PK_ASSERT(pk_msg_check(m, sizeof(*m), &w->diag) == 0);
	PK_ASSERT(fw_rules_state_apply(w->state, m, &rules, &w->diag) == 0);
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		w->said++;
	if (rules != NULL)
		w->rules = rules;
}

static inline struct pk_addr
world_addr(uint8_t family, bool inside, uint32_t i)
{
	struct pk_addr a = { .family = family };

	if (family == 4) {
		uint32_t v = (inside ? WORLD_INSIDE : WORLD_OUTSIDE) + i;

		for (unsigned int k = 0; k < 4; k++)
			a.bytes[k] = (uint8_t)(v >> (24 - 8 * k));
	} else {
		memcpy(a.bytes, (uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8, 0, inside ? 1 : 2 }, 6);
		for (unsigned int k = 0; k < 4; k++)
			a.bytes[12 + k] = (uint8_t)(i >> (24 - 8 * k));
	}
	return a;
}

/* The caller owns the rules. */
static inline struct fw_rules *
world_rules(uint64_t generation, uint32_t nb_inside, bool with_mac, const struct world_rule *rules,
    uint32_t nb_rules)
{
	struct world_talk w = { 0 };
	struct pk_msg m;

	PK_ASSERT(fw_rules_state_create(&w.state) == 0);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, generation);
	m.begin.full = 1;
	world_say(&w, &m);
	pk_msg_init(&m, PK_MSG_IDENTITY, generation);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = 1;
	m.identity.program[PK_EGRESS] = 1;
	m.identity.program[PK_INGRESS] = 2;
	strcpy(m.identity.tenant_name, "acme");
	world_say(&w, &m);
	for (uint32_t i = 1; i <= nb_inside; i++) {
		for (uint8_t family = 4; family <= 6; family += 2) {
			pk_msg_init(&m, PK_MSG_ENDPOINT, generation);
			m.endpoint.op = PK_OP_PUT;
			m.endpoint.local = 1;
			m.endpoint.identity = 1;
			m.endpoint.addr = world_addr(family, true, i);
			m.endpoint.has_mac = with_mac;
			if (with_mac)
				memcpy(m.endpoint.mac, world_mac_inside, 6);
			strcpy(m.endpoint.name, "acme/workload");
			world_say(&w, &m);
		}
	}
	for (uint8_t d = 0; d < PK_DIRECTION_COUNT; d++) {
		uint32_t nb = 0;

		for (uint32_t i = 0; i < nb_rules; i++)
			nb += rules[i].direction == d;
		pk_msg_init(&m, PK_MSG_PROGRAM, generation);
		m.program.op = PK_OP_PUT;
		m.program.direction = d;
		m.program.program = 1u + d;
		m.program.nb_rules = nb + 1;
		world_say(&w, &m);
		nb = 0;
		for (uint32_t i = 0; i <= nb_rules; i++) {
			bool last = i == nb_rules; /* the default: deny */

			if (!last && rules[i].direction != d)
				continue;
			pk_msg_init(&m, PK_MSG_RULE, generation);
			m.rule.program = 1u + d;
			m.rule.id = 1000u * (1u + d) + (last ? 999 : i);
			m.rule.index = nb++;
			m.rule.verdict = (uint8_t)(last ? PK_VERDICT_DENY : rules[i].verdict);
			m.rule.flags = last ? PK_RULE_DEFAULT : 0;
			strcpy(m.rule.policy, "policy");
			strcpy(m.rule.name, last ? "default" : "rule");
			strcpy(m.rule.file, "world.yaml");
			if (!last && world_app != NULL)
				m.rule.app[0] = dpi_app_id(world_app);
			m.rule.match.any_peer = 1;
			m.rule.match.any_service = last || rules[i].proto == PK_PROTO_ANY;
			if (!m.rule.match.any_service) {
				m.rule.match.nb_services = 1;
				m.rule.match.service[0].proto = rules[i].proto;
				m.rule.match.service[0].low = rules[i].low;
				m.rule.match.service[0].high = rules[i].high;
			}
			world_say(&w, &m);
		}
	}
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, generation);
	m.commit.nb_messages = w.said;
	world_say(&w, &m);
	PK_ASSERT(w.rules != NULL);
	fw_rules_state_destroy(w.state);
	return w.rules;
}

/* One packet, in words. */
struct world_pkt {
	uint8_t family; /* 4 or 6 */
	uint8_t proto;
	bool from_outside;
	uint32_t in, out;      /* which host inside, which outside */
	uint16_t sport, dport; /* as they stand in the packet; ICMP: type << 8 | code, identifier */
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t win, payload;
	uint8_t options_len; /* TCP, a multiple of 4 */
	const uint8_t *options;
	const uint8_t *body; /* payload bytes, or NULL for zeroes */
};

static inline void
world_put(uint8_t *p, uint64_t v, unsigned int bytes)
{
	while (bytes-- > 0) {
		p[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

/* Build the frame at out[0 .. 2047], with right lengths and checksums; returns its length. */
static inline uint32_t
world_frame(const struct world_pkt *w, uint8_t *out)
{
	struct pk_addr in = world_addr(w->family, true, w->in),
	               peer = world_addr(w->family, false, w->out);
	const struct pk_addr *src = w->from_outside ? &peer : &in,
	                     *dst = w->from_outside ? &in : &peer;
	uint32_t l4_len = w->proto == IPPROTO_TCP ? 20u + w->options_len : 8;
	uint32_t l3_len = w->family == 4 ? 20 : 40, bytes = l4_len + w->payload;
	uint8_t *ip = out + 14, *l4 = ip + l3_len, *field = NULL;
	struct fw_pkt pk = { .data = out, .l3 = 14 };
	uint16_t sum;

	memset(out, 0, 14 + l3_len + bytes);
	memcpy(out, w->from_outside ? world_mac_inside : world_mac_outside, 6);
	memcpy(out + 6, w->from_outside ? world_mac_outside : world_mac_inside, 6);
	world_put(out + 12, w->family == 4 ? 0x0800 : 0x86dd, 2);
	if (w->family == 4) {
		ip[0] = 0x45;
		world_put(ip + 2, 20 + bytes, 2);
		ip[8] = 64;
		ip[9] = w->proto;
		memcpy(ip + 12, src->bytes, 4);
		memcpy(ip + 16, dst->bytes, 4);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		ip[0] = 0x60;
		world_put(ip + 4, bytes, 2);
		ip[6] = w->proto;
		ip[7] = 64;
		memcpy(ip + 8, src->bytes, 16);
		memcpy(ip + 24, dst->bytes, 16);
	}
	world_put(l4, w->sport, 2);
	world_put(l4 + 2, w->dport, 2);
	if (w->proto == IPPROTO_TCP) {
		world_put(l4 + 4, w->seq, 4);
		world_put(l4 + 8, w->ack, 4);
		l4[12] = (uint8_t)(l4_len / 4 << 4);
		l4[13] = w->flags;
		world_put(l4 + 14, w->win, 2);
		if (w->options_len > 0)
			memcpy(l4 + 20, w->options, w->options_len);
		field = l4 + 16;
	} else if (w->proto == IPPROTO_UDP) {
		world_put(l4 + 4, bytes, 2);
		field = l4 + 6;
	} else if (w->proto == IPPROTO_ICMP || w->proto == IPPROTO_ICMPV6) {
		world_put(l4 + 2, 0, 2);
		world_put(l4 + 4, w->dport, 2);
		field = l4 + 2;
	}
	if (w->body != NULL)
		memcpy(l4 + l4_len, w->body, w->payload);
	if (field != NULL) {
		sum = (uint16_t)~fw_sum_fold(fw_sum(
		    l4, bytes, w->proto == IPPROTO_ICMP ? 0 : fw_sum_pseudo(&pk, w->proto, bytes)));
		memcpy(field, &sum, 2);
	}
	return 14 + l3_len + bytes;
}

/* NULL when the pool is empty. */
static inline struct rte_mbuf *
world_mbuf(struct rte_mempool *pool, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	if (m != NULL)
		memcpy(rte_pktmbuf_append(m, (uint16_t)len), frame, len);
	return m;
}

/* EAL without devices, huge pages or traces on disk; returns a pool. */
static inline struct rte_mempool *
world_start(uint32_t nb_mbufs)
{
	static char *argv[] = { (char *)"world", (char *)"--no-huge", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"--no-shconf", (char *)"-m", (char *)"256",
		(char *)"--log-level=error", (char *)"--lcores=0@0", (char *)"--iova-mode=va" };
	struct rte_mempool *pool;

	if (rte_eal_init((int)PK_COUNT(argv), argv) < 0)
		return NULL;
	pool = rte_pktmbuf_pool_create("world", nb_mbufs, 0, 0, 4096, SOCKET_ID_ANY);
	return pool;
}

/* The account: received = sent + the sum of drops. */
static inline bool
world_balanced(const struct fw_path *p)
{
	const struct fw_path_stats *s = fw_path_stats(p);
	uint64_t in = 0, out = 0;

	for (unsigned int i = 0; i < FW_SIDE_COUNT; i++) {
		in += pk_counter_read(&s->rx[i]);
		out += pk_counter_read(&s->sent[i]);
	}
	for (unsigned int d = 0; d < FW_DROP_COUNT; d++)
		out += pk_counter_read(&s->drop[d]);
	out += pk_counter_read(&s->own);
	return in == out && pk_counter_read(&s->drop[FW_DROP_NONE]) == 0 &&
	    pk_counter_read(&s->sessions_created) ==
	    fw_path_nb_sessions(p) + pk_counter_read(&s->sessions_ended) +
	        pk_counter_read(&s->sessions_expired) + pk_counter_read(&s->sessions_evicted);
}
