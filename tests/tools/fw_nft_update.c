/*
 * Changes of policy while packets pass: how long they take, and whether one packet is judged by neither the old
 * policy nor the new.
 *
 *   fw_nft_update [ELEMENTS [RULES [ROUNDS]]]      exits 1 when a packet was lost or got through
 *
 * A thread sends first packets of sessions without end, alternately to an address that every generation allows and to
 * one that none allows.  Meanwhile a set that a rule refuses is exchanged for another of as many addresses, and a
 * program for another of as many rules, which leave both addresses alone.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "tests/tools/nft_lab.h"
#include "tests/unit/fw_world.h"

#define PACKETS_MAX 4000000
#define GOOD        1 /* 203.0.113.1 */
#define BAD         2

static struct kernel kernel;
static _Atomic bool over;
static uint32_t sent[2], came[2]; /* bad, good: the thread's, until it has ended */

static void
collect(void)
{
	uint8_t frame[2048];
	ssize_t len;

	while ((len = recv(kernel.fd[1], frame, sizeof(frame), 0)) > 0)
		if (len >= 34 && frame[23] == IPPROTO_UDP)
			came[frame[33] == GOOD]++;
}

static void *
traffic(void *arg)
{
	uint8_t frame[2048];

	(void)arg;
	for (uint32_t i = 0; !over && i < PACKETS_MAX; i++) {
		struct world_pkt w = { .family = 4,
			.proto = IPPROTO_UDP,
			.in = 1,
			.out = i % 2 == 0 ? GOOD : BAD,
			.sport = (uint16_t)(1024 + i / 2 % 60000),
			.dport = (uint16_t)(1 + i / 2 / 60000),
			.payload = 8 };
		uint32_t len = world_frame(&w, frame);

		if (send(kernel.fd[0], frame, len, 0) == (ssize_t)len)
			sent[i % 2 == 0]++;
		if (i % 16 == 15) {
			collect();
			usleep(500);
		}
	}
	usleep(100000);
	collect();
	return NULL;
}

/* ---- policies ---- */

struct talk {
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint64_t generation;
	uint32_t said;
};

static void
say(struct talk *t, struct pk_msg *m)
{
	struct fw_rules *rules = NULL;
	struct pk_diag diag;

	m->h.generation = t->generation;
	if (pk_msg_check(m, sizeof(*m), &diag) < 0 ||
	    fw_rules_state_apply(t->state, m, &rules, &diag) < 0) {
		fprintf(stderr, "%s: %s\n", pk_msg_type_name(m->h.type), diag.text);
		exit(2);
	}
	t->said += m->h.type != PK_MSG_POLICY_BEGIN;
	if (rules != NULL) {
		fw_rules_destroy(t->rules);
		t->rules = rules;
	}
}

static void
begin(struct talk *t)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 0);
	m.begin.full = t->generation == 0;
	m.begin.base = t->generation++;
	t->said = 0;
	say(t, &m);
}

/* Returns how long it took, in milliseconds. */
static double
commit(struct talk *t)
{
	uint64_t start = pk_clock_mono_ns();
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 0);
	m.commit.nb_messages = t->said;
	say(t, &m);
	return (double)(pk_clock_mono_ns() - start) / 1e6;
}

/* Set 1: every second address of 10.`which`.0.0/16 and on. */
static void
say_members(struct talk *t, uint32_t which, uint32_t nb, uint8_t op)
{
	struct pk_msg m;

	for (uint32_t i = 0; i < nb;) {
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
		m.members.op = op;
		m.members.kind = PK_SET_PREFIX;
		m.members.set = 1;
		while (i < nb && m.members.count < PK_MSG_PREFIXES) {
			struct pk_prefix *p = &m.members.prefix[m.members.count++];

			p->addr.family = 4;
			p->len = 32;
			world_put(p->addr.bytes, 0x0a000000u + which * 0x400000u + 2 * i++, 4);
		}
		say(t, &m);
	}
}

static void
say_rule(struct talk *t, uint32_t index, uint64_t id, uint64_t set, enum pk_verdict verdict,
    uint16_t port)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_RULE, 0);
	m.rule.program = 1;
	m.rule.id = id;
	m.rule.index = index;
	m.rule.verdict = (uint8_t)verdict;
	strcpy(m.rule.policy, "p");
	strcpy(m.rule.name, "r");
	strcpy(m.rule.file, "f");
	m.rule.match.nb_peers = set != 0;
	m.rule.match.any_peer = set == 0;
	m.rule.match.peer[0] = set;
	m.rule.match.any_service = port == 0;
	m.rule.match.nb_services = port != 0;
	if (port != 0)
		m.rule.match.service[0] =
		    (struct pk_service){ .proto = IPPROTO_TCP, .low = port, .high = port };
	say(t, &m);
}

/* Refuse set 1, then `nb` rules of which none is about our packets, then allow set 2. */
static void
say_program(struct talk *t, uint32_t which, uint32_t nb)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = PK_OP_PUT;
	m.program.program = 1;
	m.program.nb_rules = nb + 2;
	say(t, &m);
	say_rule(t, 0, 1, 1, PK_VERDICT_DENY, 0);
	for (uint32_t i = 0; i < nb; i++)
		say_rule(t, 1 + i, 1000 + which * 100000 + i, 0, PK_VERDICT_ALLOW,
		    (uint16_t)(1 + which * 30000 + i % 30000));
	say_rule(t, nb + 1, 2, 2, PK_VERDICT_ALLOW, 0);
}

static void
say_first(struct talk *t, uint32_t elements, uint32_t rules)
{
	struct pk_msg m;

	begin(t);
	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = 1;
	m.identity.program[PK_EGRESS] = 1;
	strcpy(m.identity.tenant_name, "acme");
	say(t, &m);
	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = PK_OP_PUT;
	m.endpoint.local = 1;
	m.endpoint.identity = 1;
	m.endpoint.addr = world_addr(4, true, 1);
	strcpy(m.endpoint.name, "acme/w");
	say(t, &m);
	for (uint64_t set = 1; set <= 2; set++) {
		pk_msg_init(&m, PK_MSG_SET, 0);
		m.set.op = PK_OP_PUT;
		m.set.kind = PK_SET_PREFIX;
		m.set.set = set;
		strcpy(m.set.name, "set");
		say(t, &m);
	}
	say_members(t, 0, elements, PK_OP_PUT);
	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
	m.members.op = PK_OP_PUT;
	m.members.kind = PK_SET_PREFIX;
	m.members.set = 2;
	m.members.count = 1;
	m.members.prefix[0] = (struct pk_prefix){ .addr = world_addr(4, false, GOOD), .len = 32 };
	say(t, &m);
	say_program(t, 0, rules);
	printf("first policy, %u elements and %u rules: %.1f ms\n", elements, rules, commit(t));
}

int
main(int argc, char **argv)
{
	uint32_t elements = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000;
	uint32_t rules = argc > 2 ? (uint32_t)atoi(argv[2]) : 1000;
	uint32_t rounds = argc > 3 ? (uint32_t)atoi(argv[3]) : 10;
	double of_elements = 0, of_rules = 0;
	struct nft_plane_status status;
	struct talk t = { 0 };
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	kernel_start(&kernel);
	must(fw_rules_state_create(&t.state) == 0, "state");
	fw_rules_state_on_commit(t.state, nft_plane_ready, kernel.plane);
	say_first(&t, elements, rules);
	must(pthread_create(&thread, NULL, traffic, NULL) == 0, "thread");
	for (uint32_t i = 0; i < rounds; i++) {
		begin(&t);
		say_members(&t, i % 2, elements, PK_OP_DELETE);
		say_members(&t, 1 - i % 2, elements, PK_OP_PUT);
		of_elements += commit(&t) / rounds;
		nft_plane_status(kernel.plane, &status);
		if (i == 0)
			printf(
			    "one change of the set: %u elements gone and come, %u rules written, %zu bytes\n",
			    status.cost.elements, status.cost.rules, status.cost.bytes);
		usleep(20000);
		begin(&t);
		say_program(&t, 1 - i % 2, rules);
		of_rules += commit(&t) / rounds;
		usleep(20000);
	}
	over = true;
	pthread_join(thread, NULL);
	printf("%u elements exchanged: %.1f ms; %u rules: %.1f ms (means of %u)\n", elements,
	    of_elements, rules, of_rules, rounds);
	printf("meanwhile %u packets that are allowed: %u came out; %u that are not: %u came out\n",
	    sent[1], came[1], sent[0], came[0]);
	return sent[1] == 0 || came[1] != sent[1] || came[0] != 0;
}
