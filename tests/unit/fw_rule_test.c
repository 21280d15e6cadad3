/*
 * The classifier against the plainest possible reading of the same messages: a list of rules, each
 * peer set searched member by member.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule.h"
#include "tests/unit/test.h"

#define NB_IDENTITIES 40
#define NB_SETS       30
#define NB_PROGRAMS   12
#define NB_RULES_MAX  200
#define NB_HOSTS      120

static uint64_t rng = 88172645463325252u;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

struct naive_set {
	uint8_t kind;
	uint32_t nb;
	uint32_t identity[24];
	struct pk_prefix prefix[24];
};

struct naive_rule {
	uint8_t tier, verdict, flags;
	bool any_peer, any_service;
	uint32_t nb_peers, nb_services;
	uint32_t peers[30];
	struct pk_service services[30];
};

struct naive_program {
	uint8_t direction;
	uint32_t nb_rules;
	struct naive_rule rules[NB_RULES_MAX];
};

struct host {
	struct pk_addr addr;
	uint32_t identity;
};

static struct naive_set sets[NB_SETS];
static struct naive_program programs[NB_PROGRAMS];
static uint32_t identity_program[NB_IDENTITIES][2]; /* index + 1 */
static struct host hosts[NB_HOSTS];

static struct fw_rules_state *state;
static struct pk_diag diag;
static uint32_t said;

static int
say(const struct pk_msg *m, struct fw_rules **out)
{
	struct fw_rules *r = NULL;
	int rc = pk_msg_check(m, sizeof(*m), &diag);

	if (rc == 0)
		rc = fw_rules_state_apply(state, m, &r, &diag);
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		said++;
	if (out != NULL)
		*out = r;
	return rc;
}

static void
must(const struct pk_msg *m)
{
	if (say(m, NULL) < 0)
		fail_msg("%s", diag.text);
}

static void
begin(uint64_t generation, uint64_t base)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, generation);
	m.begin.base = base;
	m.begin.full = base == 0;
	said = 0;
	must(&m);
}

static int
commit(uint64_t generation, struct fw_rules **out)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, generation);
	m.commit.nb_messages = said;
	return say(&m, out);
}

static struct pk_addr
random_addr(void)
{
	struct pk_addr a = { .family = rnd(3) != 0 ? 4 : 6 };

	/* A small world, so that prefixes nest and hosts fall into them. */
	if (a.family == 4) {
		a.bytes[0] = 198;
		a.bytes[1] = 51;
		a.bytes[2] = (uint8_t)rnd(8);
		a.bytes[3] = (uint8_t)rnd(256);
		if (rnd(50) == 0)
			memset(a.bytes, rnd(2) != 0 ? 0xff : 0, 4);
	} else {
		memcpy(a.bytes, (uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8 }, 4);
		a.bytes[7] = (uint8_t)rnd(4);
		a.bytes[8] = (uint8_t)rnd(4);
		a.bytes[15] = (uint8_t)rnd(256);
		if (rnd(50) == 0)
			memset(a.bytes, rnd(2) != 0 ? 0xff : 0, 16);
	}
	return a;
}

static struct pk_prefix
random_prefix(void)
{
	struct pk_prefix p = { .addr = random_addr() };
	unsigned int bits = pk_addr_bits(&p.addr);

	p.len = (uint8_t)(rnd(4) == 0 ? rnd(bits + 1) : bits - rnd(17));
	for (unsigned int i = p.len; i < bits; i++)
		p.addr.bytes[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
	return p;
}

static void
put_set(uint32_t i)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_SET, 0);
	m.set.op = PK_OP_PUT;
	m.set.kind = sets[i].kind;
	m.set.set = i + 1;
	must(&m);
	for (uint32_t at = 0; at < sets[i].nb; at += PK_MSG_PREFIXES) {
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
		m.members.op = PK_OP_PUT;
		m.members.kind = sets[i].kind;
		m.members.set = i + 1;
		m.members.count = (uint16_t)PK_MIN(sets[i].nb - at, (uint32_t)PK_MSG_PREFIXES);
		for (uint32_t k = 0; k < m.members.count; k++) {
			if (sets[i].kind == PK_SET_IDENTITY)
				m.members.identity[k] = sets[i].identity[at + k];
			else
				m.members.prefix[k] = sets[i].prefix[at + k];
		}
		must(&m);
	}
}

static void
put_program(uint32_t i)
{
	const struct naive_program *p = &programs[i];
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = PK_OP_PUT;
	m.program.direction = p->direction;
	m.program.nb_rules = p->nb_rules;
	m.program.program = i + 1;
	must(&m);
	for (uint32_t k = 0; k < p->nb_rules; k++) {
		const struct naive_rule *r = &p->rules[k];
		uint32_t peer = 0, service = 0;
		bool first = true;

		do {
			struct pk_msg_rule_match *match;

			pk_msg_init(&m, first ? PK_MSG_RULE : PK_MSG_RULE_MORE, 0);
			if (first) {
				m.rule.program = i + 1;
				m.rule.id = (i + 1) * 1000 + k;
				m.rule.index = k;
				m.rule.tier = r->tier;
				m.rule.verdict = r->verdict;
				m.rule.flags = r->flags;
				m.rule.line = k + 1;
				strcpy(m.rule.policy, "p");
				match = &m.rule.match;
			} else {
				m.more.program = i + 1;
				m.more.index = k;
				match = &m.more.match;
			}
			match->any_peer = r->any_peer;
			match->any_service = r->any_service;
			while (peer < r->nb_peers && match->nb_peers < PK_MSG_PEERS)
				match->peer[match->nb_peers++] = r->peers[peer++] + 1;
			while (service < r->nb_services && match->nb_services < PK_MSG_SERVICES)
				match->service[match->nb_services++] = r->services[service++];
			match->more = peer < r->nb_peers || service < r->nb_services;
			first = false;
			must(&m);
			if (!match->more)
				break;
		} while (true);
	}
}

static void
put_identity(uint32_t i)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = i + 1;
	m.identity.program[PK_EGRESS] = identity_program[i][PK_EGRESS];
	m.identity.program[PK_INGRESS] = identity_program[i][PK_INGRESS];
	snprintf(m.identity.labels, sizeof(m.identity.labels), "n=%u", i + 1);
	must(&m);
}

static void
put_host(const struct host *h)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = PK_OP_PUT;
	m.endpoint.local = 1;
	m.endpoint.addr = h->addr;
	m.endpoint.identity = h->identity;
	must(&m);
}

static void
random_set(struct naive_set *s)
{
	memset(s, 0, sizeof(*s));
	s->kind = rnd(2) != 0 ? PK_SET_IDENTITY : PK_SET_PREFIX;
	s->nb = rnd(24);
	for (uint32_t i = 0; i < s->nb; i++) {
		s->identity[i] = 1 + rnd(NB_IDENTITIES + 5); /* some that are not here */
		s->prefix[i] = random_prefix();
	}
}

static void
random_program(struct naive_program *p, uint8_t direction)
{
	static const uint8_t protos[] = { 1, 6, 17, 58, 132, 47, PK_PROTO_ANY };
	uint8_t tier = 0;

	memset(p, 0, sizeof(*p));
	p->direction = direction;
	p->nb_rules = rnd(4) == 0 ? rnd(NB_RULES_MAX) : rnd(20);
	for (uint32_t i = 0; i < p->nb_rules; i++) {
		struct naive_rule *r = &p->rules[i];

		tier = (uint8_t)(tier + (rnd(5) == 0 ? 1 + rnd(2) : 0));
		r->tier = tier;
		r->verdict = (uint8_t)rnd(PK_VERDICT_COUNT);
		r->flags = rnd(8) == 0 ? PK_RULE_AUDIT : 0;
		r->any_peer = rnd(6) == 0;
		r->any_service = rnd(4) == 0;
		r->nb_peers = r->any_peer ? 0 : rnd(rnd(10) == 0 ? 30 : 4);
		r->nb_services = r->any_service ? 0 : rnd(rnd(10) == 0 ? 30 : 4);
		for (uint32_t k = 0; k < r->nb_peers; k++)
			r->peers[k] = rnd(NB_SETS);
		for (uint32_t k = 0; k < r->nb_services; k++) {
			struct pk_service *s = &r->services[k];

			s->proto = protos[rnd(PK_COUNT(protos))];
			s->low = s->proto == PK_PROTO_ANY ? 0 : (uint16_t)rnd(300);
			s->high = s->proto == PK_PROTO_ANY || rnd(20) == 0
			    ? UINT16_MAX
			    : (uint16_t)(s->low + rnd(20));
		}
	}
}

static uint32_t
naive_identity(const struct pk_addr *a)
{
	for (uint32_t i = 0; i < NB_HOSTS; i++)
		if (pk_addr_compare(&hosts[i].addr, a) == 0)
			return hosts[i].identity;
	return PK_IDENTITY_NONE;
}

static bool
naive_in_set(const struct naive_set *s, const struct pk_addr *a, uint32_t identity)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		if (s->kind == PK_SET_IDENTITY && identity != PK_IDENTITY_NONE &&
		    s->identity[i] == identity)
			return true;
		if (s->kind == PK_SET_PREFIX && pk_prefix_contains(&s->prefix[i], a))
			return true;
	}
	return false;
}

static int
naive_decide(const struct naive_program *p, const struct pk_addr *peer, uint8_t proto,
    uint16_t selector, bool audit)
{
	uint32_t identity = naive_identity(peer);
	int skip_tier = -1;

	for (uint32_t i = 0; i < p->nb_rules; i++) {
		const struct naive_rule *r = &p->rules[i];
		bool who = r->any_peer, what = r->any_service;

		if (r->tier == skip_tier || ((r->flags & PK_RULE_AUDIT) != 0 && !audit))
			continue;
		for (uint32_t k = 0; k < r->nb_peers; k++)
			who |= naive_in_set(&sets[r->peers[k]], peer, identity);
		for (uint32_t k = 0; k < r->nb_services; k++)
			what |= (r->services[k].proto == PK_PROTO_ANY ||
			            r->services[k].proto == proto) &&
			    r->services[k].low <= selector && selector <= r->services[k].high;
		if (!who || !what)
			continue;
		if (r->verdict != PK_VERDICT_PASS)
			return (int)i;
		skip_tier = r->tier;
	}
	return -1;
}

static void
check_world(const struct fw_rules *r, unsigned int nb_questions)
{
	static const uint8_t protos[] = { 1, 6, 17, 58, 132, 47, 50, 0, 255 };

	for (unsigned int q = 0; q < nb_questions; q++) {
		const struct host *subject = &hosts[rnd(NB_HOSTS)];
		struct pk_addr peer = rnd(2) != 0 ? hosts[rnd(NB_HOSTS)].addr : random_addr();
		unsigned int d = rnd(2);
		uint8_t proto = protos[rnd(PK_COUNT(protos))];
		uint16_t selector = (uint16_t)(rnd(10) == 0 ? rnd(65536) : rnd(330));
		uint32_t program = identity_program[subject->identity - 1][d];
		struct fw_party parties[2];
		struct fw_decision got;
		int want, want_audit;

		fw_rules_party(r, 0, &subject->addr, true, &parties[0]);
		fw_rules_party(r, 0, &peer, true, &parties[1]);
		fw_rules_decide(r, (enum pk_direction)d, &parties[0], &parties[1], proto, selector,
		    FW_APP_NONE, PK_TIME_ANY, &got);
		want = program != 0
		    ? naive_decide(&programs[program - 1], &peer, proto, selector, false)
		    : -1;
		want_audit = program != 0
		    ? naive_decide(&programs[program - 1], &peer, proto, selector, true)
		    : -1;
		if (want < 0) {
			assert_int_equal(got.rule, FW_RULE_NONE);
			assert_int_equal(got.verdict, PK_VERDICT_DENY);
		} else {
			struct fw_rule_info info;

			assert_int_not_equal(got.rule, FW_RULE_NONE);
			fw_rules_info(r, got.rule, &info);
			assert_int_equal(info.id, program * 1000 + (uint32_t)want);
			assert_int_equal(got.verdict, programs[program - 1].rules[want].verdict);
		}
		if (want_audit >= 0 && want_audit != want) {
			assert_int_equal(got.audited, 1);
			assert_int_equal(
			    got.audit_verdict, programs[program - 1].rules[want_audit].verdict);
		} else {
			assert_int_equal(got.audit_verdict, got.verdict);
		}
	}
}

static void
test_random_worlds(void **unused)
{
	(void)unused;
	for (unsigned int world = 0; world < 60; world++) {
		struct fw_rules *r;

		assert_int_equal(fw_rules_state_create(&state), 0);
		begin(7, 0);
		for (uint32_t i = 0; i < NB_SETS; i++) {
			random_set(&sets[i]);
			put_set(i);
		}
		for (uint32_t i = 0; i < NB_PROGRAMS; i++) {
			random_program(&programs[i], i % 2);
			put_program(i);
		}
		for (uint32_t i = 0; i < NB_IDENTITIES; i++) {
			identity_program[i][PK_EGRESS] = rnd(4) != 0 ? 1 + 2 * rnd(NB_PROGRAMS / 2)
			                                             : 0;
			identity_program[i][PK_INGRESS] = rnd(4) != 0 ? 2 + 2 * rnd(NB_PROGRAMS / 2)
			                                              : 0;
			put_identity(i);
		}
		for (uint32_t i = 0; i < NB_HOSTS; i++) {
			hosts[i].addr = random_addr();
			hosts[i].identity = 1 + rnd(NB_IDENTITIES);
			/* The last of two hosts with one address wins, in both readings. */
			for (uint32_t k = 0; k < i; k++)
				if (pk_addr_compare(&hosts[k].addr, &hosts[i].addr) == 0)
					hosts[k].identity = hosts[i].identity;
			put_host(&hosts[i]);
		}
		assert_int_equal(commit(7, &r), 0);
		check_world(r, 20000);
		fw_rules_destroy(r);

		/* A change: some sets and programs anew, some hosts move. */
		begin(8, 7);
		for (uint32_t k = 0; k < 5; k++) {
			uint32_t i = rnd(NB_SETS);
			struct pk_msg m;

			pk_msg_init(&m, PK_MSG_SET, 0);
			m.set.op = PK_OP_DELETE;
			m.set.kind = sets[i].kind;
			m.set.set = i + 1;
			must(&m);
			random_set(&sets[i]);
			put_set(i);
			i = rnd(NB_PROGRAMS);
			random_program(&programs[i], i % 2);
			put_program(i);
			i = rnd(NB_HOSTS);
			hosts[i].identity = 1 + rnd(NB_IDENTITIES);
			for (uint32_t h = 0; h < NB_HOSTS; h++)
				if (pk_addr_compare(&hosts[h].addr, &hosts[i].addr) == 0)
					hosts[h].identity = hosts[i].identity;
			put_host(&hosts[i]);
		}
		assert_int_equal(commit(8, &r), 0);
		assert_int_equal(fw_rules_generation(r), 8);
		check_world(r, 5000);

		/* A transaction that is refused leaves everything as it was. */
		begin(9, 8);
		random_set(&(struct naive_set){ 0 });
		identity_program[0][0] = 999;
		{
			uint32_t keep = identity_program[0][0];
			struct fw_rules *none;

			put_identity(0);
			assert_int_equal(commit(9, &none), -ENOENT);
			assert_null(none);
			assert_int_equal(fw_rules_state_generation(state), 8);
			assert_int_equal(keep, 999);
		}
		fw_rules_destroy(r);
		fw_rules_state_destroy(state);
	}
}

/* Messages out of place, each with a sentence and without a trace. */
static void
test_refused(void **unused)
{
	struct fw_rules *r;
	struct pk_msg m;

	(void)unused;
	assert_int_equal(fw_rules_state_create(&state), 0);
	pk_msg_init(&m, PK_MSG_IDENTITY, 1);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = 1;
	assert_int_equal(say(&m, NULL), -EPROTO); /* outside a transaction */

	begin(1, 0);
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = 5;
	m.rule.id = 1;
	m.rule.match.any_peer = m.rule.match.any_service = 1;
	assert_int_equal(say(&m, NULL), -EPROTO); /* no program */

	begin(1, 0);
	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.nb_rules = 2;
	m.program.program = 5;
	must(&m);
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = 5;
	m.rule.id = 1;
	m.rule.match.any_peer = m.rule.match.any_service = 1;
	must(&m);
	assert_int_equal(commit(1, &r), -EPROTO); /* one rule short */

	begin(1, 0);
	said++;
	assert_int_equal(commit(1, &r), -EPROTO); /* a message got lost */

	begin(1, 0);
	assert_int_equal(commit(1, &r), 0);
	fw_rules_destroy(r);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 3);
	m.begin.base = 2;
	assert_int_equal(say(&m, NULL), -ESTALE);

	begin(2, 1);
	pk_msg_init(&m, PK_MSG_ENDPOINT, 2);
	m.endpoint.op = PK_OP_PUT;
	m.endpoint.addr.family = 4;
	m.endpoint.identity = 77;
	must(&m);
	assert_int_equal(commit(2, &r), -ENOENT); /* an identity nobody defined */
	assert_int_equal(fw_rules_state_generation(state), 1);
	fw_rules_state_destroy(state);
}

/* The same rule keeps its counter slot while other rules come and go. */
static void
test_slots_are_stable(void **unused)
{
	struct fw_rules *r;
	struct fw_rule_info info;
	uint32_t slot = 0;

	(void)unused;
	assert_int_equal(fw_rules_state_create(&state), 0);
	for (uint64_t generation = 1; generation < 50; generation++) {
		struct pk_msg m;
		uint32_t before = rnd(5);

		begin(generation, generation - 1);
		pk_msg_init(&m, PK_MSG_PROGRAM, generation);
		m.program.op = PK_OP_PUT;
		m.program.nb_rules = before + 1;
		m.program.program = 5;
		must(&m);
		for (uint32_t i = 0; i <= before; i++) {
			pk_msg_init(&m, PK_MSG_RULE, generation);
			m.rule.program = 5;
			m.rule.index = i;
			m.rule.id = i == before ? 42 : generation * 100 + i;
			m.rule.match.any_peer = m.rule.match.any_service = 1;
			must(&m);
		}
		assert_int_equal(commit(generation, &r), 0);
		assert_true(fw_rules_info_by_id(r, 42, &info));
		assert_int_equal(info.id, 42);
		assert_int_equal(fw_rules_count(r), before + 1);
		if (generation > 1)
			assert_int_equal(info.slot, slot);
		slot = info.slot;
		fw_rules_destroy(r);
	}
	fw_rules_state_destroy(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_worlds),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_slots_are_stable),
	};

	return cmocka_run_group_tests_name("fw/rule", tests, NULL, NULL);
}
