#pragma once

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule.h"
#include "fw/worker.h"

/* What the measurements share. */

/* Policy: PERF_HOSTS workloads 198.18.0.1 and up of one identity, and egress rules, each of a set with up to 16
 * prefixes, of which only the last matches, 198.19.0.0/16, TCP 443: allow. */
#define PERF_HOSTS 250

static int perf_said;
static uint64_t perf_generation = 1;

static inline struct fw_rules *
perf_say(struct fw_rules_state *state, struct pk_msg *m)
{
	struct fw_rules *rules;
	struct pk_diag diag;

	m->h.generation = perf_generation;
	if (pk_msg_check(m, sizeof(*m), &diag) < 0 ||
	    fw_rules_state_apply(state, m, &rules, &diag) < 0) {
		fprintf(stderr, "perf: %s\n", diag.text);
		exit(1);
	}
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		perf_said++;
	return rules;
}

/* And from outside, to TCP 443 of every workload: allow. */
static inline void
perf_ingress(struct fw_rules_state *state)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.direction = PK_INGRESS;
	m.program.program = 2;
	m.program.nb_rules = 1;
	perf_say(state, &m);
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = 2;
	m.rule.id = 1000000;
	m.rule.verdict = PK_VERDICT_ALLOW;
	m.rule.match.any_peer = 1;
	m.rule.match.nb_services = 1;
	m.rule.match.service[0] =
	    (struct pk_service){ .proto = IPPROTO_TCP, .low = 443, .high = 443 };
	perf_say(state, &m);
}

/* As messages to a new *state, which the caller owns. */
static inline struct fw_rules *
perf_rules_state(uint32_t nb_rules, uint32_t nb_prefixes, struct fw_rules_state **out)
{
	struct fw_rules_state *state;
	struct pk_msg m;

	PK_ASSERT(fw_rules_state_create(&state) == 0);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.full = 1;
	perf_say(state, &m);
	perf_said = 0;
	for (uint32_t i = 0; i < nb_rules; i++) {
		pk_msg_init(&m, PK_MSG_SET, 1);
		m.set.op = PK_OP_PUT;
		m.set.kind = PK_SET_PREFIX;
		m.set.set = i + 1;
		perf_say(state, &m);
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 1);
		m.members.op = PK_OP_PUT;
		m.members.kind = PK_SET_PREFIX;
		m.members.set = i + 1;
		m.members.count = (uint16_t)nb_prefixes;
		for (uint32_t k = 0; k < nb_prefixes; k++) {
			struct pk_prefix *p = &m.members.prefix[k];

			p->addr.family = 4;
			memcpy(p->addr.bytes,
			    (uint8_t[]){ 10, (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)(k << 4) }, 4);
			p->len = nb_prefixes > 1 ? 28 : 24;
		}
		if (i + 1 == nb_rules) {
			memcpy(m.members.prefix[0].addr.bytes, (uint8_t[]){ 198, 19, 0, 0 }, 4);
			m.members.prefix[0].len = 16;
		}
		perf_say(state, &m);
	}
	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.direction = PK_EGRESS;
	m.program.program = 1;
	m.program.nb_rules = nb_rules;
	perf_say(state, &m);
	for (uint32_t i = 0; i < nb_rules; i++) {
		pk_msg_init(&m, PK_MSG_RULE, 1);
		m.rule.program = 1;
		m.rule.id = i + 1;
		m.rule.index = i;
		m.rule.verdict = PK_VERDICT_ALLOW;
		m.rule.match.nb_peers = m.rule.match.nb_services = 1;
		m.rule.match.peer[0] = i + 1;
		m.rule.match.service[0] =
		    (struct pk_service){ .proto = IPPROTO_TCP, .low = 443, .high = 443 };
		perf_say(state, &m);
	}
	perf_ingress(state);
	pk_msg_init(&m, PK_MSG_IDENTITY, 1);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = 1;
	m.identity.program[PK_EGRESS] = 1;
	m.identity.program[PK_INGRESS] = 2;
	perf_say(state, &m);
	for (uint32_t i = 0; i < PERF_HOSTS; i++) {
		pk_msg_init(&m, PK_MSG_ENDPOINT, 1);
		m.endpoint.op = PK_OP_PUT;
		m.endpoint.local = 1;
		m.endpoint.identity = 1;
		m.endpoint.addr.family = 4;
		memcpy(m.endpoint.addr.bytes, (uint8_t[]){ 198, 18, 0, (uint8_t)(1 + i) }, 4);
		perf_say(state, &m);
	}
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 1);
	m.commit.nb_messages = (uint32_t)perf_said;
	*out = state;
	return perf_say(state, &m);
}

static inline struct fw_rules *
perf_rules(uint32_t nb_rules, uint32_t nb_prefixes)
{
	struct fw_rules_state *state;
	struct fw_rules *rules = perf_rules_state(nb_rules, nb_prefixes, &state);

	fw_rules_state_destroy(state);
	return rules;
}

/* Let the first of several rules speak of 10.0.0.0/24, as it did at first, or of nothing: a change as small as
 * they come.  The caller owns the rules that are returned. */
static inline struct fw_rules *
perf_change(struct fw_rules_state *state, uint64_t generation, bool there)
{
	struct pk_msg m;

	perf_generation = generation;
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.base = generation - 1;
	perf_say(state, &m);
	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 1);
	m.members.op = there ? PK_OP_PUT : PK_OP_DELETE;
	m.members.kind = PK_SET_PREFIX;
	m.members.set = 1;
	m.members.count = 1;
	m.members.prefix[0].addr.family = 4;
	m.members.prefix[0].addr.bytes[0] = 10;
	m.members.prefix[0].len = 24;
	perf_say(state, &m);
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 1);
	m.commit.nb_messages = 1;
	return perf_say(state, &m);
}

static inline int
perf_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static inline uint64_t
perf_drops(const struct fw_path *p)
{
	uint64_t n = 0;

	for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
		n += pk_counter_read(&fw_path_stats(p)->drop[d]);
	return n;
}

/* The reasons of packets dropped, to standard error. */
static inline void
perf_say_drops(const char *name, const struct fw_path *p)
{
	for (unsigned int d = 1; d < FW_DROP_COUNT; d++) {
		uint64_t n = pk_counter_read(&fw_path_stats(p)->drop[d]);

		if (n != 0)
			fprintf(stderr, "%s: %" PRIu64 " packets dropped: %s\n", name, n,
			    fw_drop_name(d));
	}
}
