/*
 * Long sequences of small transactions.  After each, the generation made from what changed, one made
 * from scratch out of everything, and the plainest reading of the same world must answer alike, and
 * generations that are still held must answer as they did.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule.h"
#include "tests/unit/test.h"

#define NB_VRFS       3
#define NB_IDENTITIES 12
#define NB_SETS       14
#define NB_PROGRAMS   6
#define NB_MEMBERS    12
#define NB_RULES      40
#define NB_HOSTS      24
#define NB_HELD       4 /* generations, destroyed in any order */

static uint64_t rng;
static bool dense; /* rules name the same few sets, so that rows are long */

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* ---- the world, as plain as can be; index 0 is number 1 ---- */

struct set {
	uint8_t kind; /* 0: not there */
	uint32_t nb;
	uint32_t identity[NB_MEMBERS];
	struct pk_prefix prefix[NB_MEMBERS];
};

struct rule {
	uint64_t id;
	uint8_t tier, verdict, flags;
	bool any_peer, any_service;
	uint32_t nb_peers, nb_services;
	uint32_t peers[3];
	struct pk_service services[3];
};

struct program {
	bool there;
	uint8_t direction;
	uint32_t nb;
	struct rule rule[NB_RULES];
};

struct world {
	struct set set[NB_SETS];
	struct program program[NB_PROGRAMS];
	struct {
		bool there;
		uint32_t program[PK_DIRECTION_COUNT]; /* number; 0: none */
	} identity[NB_IDENTITIES];
	struct {
		uint32_t identity; /* 0: not there */
		uint32_t vrf;
		struct pk_addr addr;
	} host[NB_HOSTS];
};

static struct pk_addr
random_addr(void)
{
	struct pk_addr a = { .family = rnd(3) != 0 ? 4 : 6 };

	if (rnd(20) == 0) {
		memset(a.bytes, rnd(2) != 0 ? 0xff : 0, a.family == 4 ? 4 : 16);
	} else if (a.family == 4) {
		memcpy(a.bytes, (uint8_t[]){ 198, 51, 100, (uint8_t)rnd(256) }, 4);
		a.bytes[2] = (uint8_t)(a.bytes[2] + rnd(2));
	} else {
		memcpy(a.bytes, (uint8_t[]){ 0x20, 0x01, 0x0d, 0xb8 }, 4);
		a.bytes[8] = (uint8_t)rnd(2);
		a.bytes[15] = (uint8_t)rnd(256);
	}
	return a;
}

static struct pk_prefix
random_prefix(void)
{
	struct pk_prefix p = { .addr = random_addr() };
	unsigned int bits = pk_addr_bits(&p.addr);

	p.len = (uint8_t)(rnd(6) == 0 ? rnd(bits + 1) : bits - rnd(9));
	for (unsigned int i = p.len; i < bits; i++)
		p.addr.bytes[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
	return p;
}

static uint32_t
member_index(const struct set *s, uint32_t identity, const struct pk_prefix *prefix)
{
	for (uint32_t i = 0; i < s->nb; i++)
		if (s->kind == PK_SET_IDENTITY
		        ? s->identity[i] == identity
		        : memcmp(&s->prefix[i], prefix, sizeof(*prefix)) == 0)
			return i;
	return s->nb;
}

static void
random_rule(struct rule *r, const struct world *w)
{
	static const uint8_t protos[] = { 1, 6, 17, 58, PK_PROTO_ANY };
	static uint64_t next_id = 1;

	memset(r, 0, sizeof(*r));
	r->id = next_id++;
	r->verdict = (uint8_t)rnd(PK_VERDICT_COUNT);
	r->flags = rnd(8) == 0 ? PK_RULE_AUDIT : 0;
	r->any_peer = rnd(8) == 0;
	r->any_service = rnd(4) == 0;
	r->nb_peers = r->any_peer ? 0 : rnd(4);
	r->nb_services = r->any_service ? 0 : rnd(4);
	for (uint32_t i = 0; i < r->nb_peers; i++) {
		r->peers[i] = 1 + rnd(dense ? 3 : NB_SETS);
		if (w->set[r->peers[i] - 1].kind == 0)
			r->peers[i--] = 1, r->nb_peers--;
	}
	for (uint32_t i = 0; i < r->nb_services; i++) {
		struct pk_service *s = &r->services[i];

		s->proto = protos[rnd(PK_COUNT(protos))];
		s->low = s->proto == PK_PROTO_ANY ? 0 : (uint16_t)rnd(30);
		s->high = s->proto == PK_PROTO_ANY || rnd(10) == 0 ? UINT16_MAX
		                                                   : (uint16_t)(s->low + rnd(8));
	}
}

/* ---- the plain reading ---- */

static uint32_t
naive_identity(const struct world *w, uint32_t vrf, const struct pk_addr *a)
{
	for (uint32_t i = 0; i < NB_HOSTS; i++)
		if (w->host[i].identity != 0 && w->host[i].vrf == vrf &&
		    pk_addr_compare(&w->host[i].addr, a) == 0)
			return w->host[i].identity;
	return PK_IDENTITY_NONE;
}

static bool
naive_in_set(const struct set *s, const struct pk_addr *a, uint32_t identity)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		if (s->kind == PK_SET_IDENTITY && identity != 0 && s->identity[i] == identity)
			return true;
		if (s->kind == PK_SET_PREFIX && pk_prefix_contains(&s->prefix[i], a))
			return true;
	}
	return false;
}

static const struct rule *
naive_decide(const struct world *w, const struct program *p, uint32_t vrf,
    const struct pk_addr *peer, uint8_t proto, uint16_t selector, bool audit)
{
	uint32_t identity = naive_identity(w, vrf, peer);
	int skip_tier = -1;

	for (uint32_t i = 0; i < p->nb; i++) {
		const struct rule *r = &p->rule[i];
		bool who = r->any_peer, what = r->any_service;

		if (r->tier == skip_tier || ((r->flags & PK_RULE_AUDIT) != 0 && !audit))
			continue;
		for (uint32_t k = 0; k < r->nb_peers; k++)
			who |= naive_in_set(&w->set[r->peers[k] - 1], peer, identity);
		for (uint32_t k = 0; k < r->nb_services; k++)
			what |= (r->services[k].proto == PK_PROTO_ANY ||
			            r->services[k].proto == proto) &&
			    r->services[k].low <= selector && selector <= r->services[k].high;
		if (!who || !what)
			continue;
		if (r->verdict != PK_VERDICT_PASS)
			return r;
		skip_tier = r->tier;
	}
	return NULL;
}

/* ---- messages ---- */

static struct pk_diag diag;

/* Somebody who is told: the state that is changed, or one that is told everything anew. */
struct teller {
	struct fw_rules_state *state;
	uint32_t said;
	bool refused;
};

static void
say(struct teller *t, const struct pk_msg *m, struct fw_rules **out)
{
	struct fw_rules *r = NULL;

	if (t->refused)
		return;
	if (pk_msg_check(m, sizeof(*m), &diag) < 0)
		fail_msg("%s", diag.text);
	t->refused = fw_rules_state_apply(t->state, m, &r, &diag) < 0;
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		t->said++;
	if (out != NULL)
		*out = r;
}

static void
say_begin(struct teller *t, uint64_t generation, uint64_t base)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, generation);
	m.begin.base = base;
	m.begin.full = base == 0;
	t->refused = false;
	say(t, &m, NULL);
	t->said = 0;
}

static void
say_commit(struct teller *t, uint64_t generation, struct fw_rules **out)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, generation);
	m.commit.nb_messages = t->said;
	*out = NULL;
	say(t, &m, out);
}

static void
say_set(struct teller *t, uint32_t number, uint8_t kind, enum pk_op op)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_SET, 0);
	m.set.op = (uint8_t)op;
	m.set.kind = kind;
	m.set.set = number;
	say(t, &m, NULL);
}

static void
say_member(struct teller *t, const struct world *w, uint32_t number, uint32_t i, enum pk_op op)
{
	const struct set *s = &w->set[number - 1];
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
	m.members.op = (uint8_t)op;
	m.members.kind = s->kind;
	m.members.set = number;
	m.members.count = 1;
	if (s->kind == PK_SET_IDENTITY)
		m.members.identity[0] = s->identity[i];
	else
		m.members.prefix[0] = s->prefix[i];
	say(t, &m, NULL);
}

static void
say_program(struct teller *t, const struct world *w, uint32_t number)
{
	const struct program *p = &w->program[number - 1];
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = p->there ? PK_OP_PUT : PK_OP_DELETE;
	m.program.direction = p->direction;
	m.program.nb_rules = p->nb;
	m.program.program = number;
	if (!p->there)
		m.program.nb_rules = 0;
	say(t, &m, NULL);
	for (uint32_t i = 0; p->there && i < p->nb; i++) {
		const struct rule *r = &p->rule[i];

		pk_msg_init(&m, PK_MSG_RULE, 0);
		m.rule.program = number;
		m.rule.id = r->id;
		m.rule.index = i;
		m.rule.tier = r->tier;
		m.rule.verdict = r->verdict;
		m.rule.flags = r->flags;
		m.rule.line = (uint32_t)r->id % 7;
		snprintf(m.rule.name, sizeof(m.rule.name), "r%u", (unsigned int)r->id);
		m.rule.match.any_peer = r->any_peer;
		m.rule.match.any_service = r->any_service;
		for (uint32_t k = 0; k < r->nb_peers; k++)
			m.rule.match.peer[m.rule.match.nb_peers++] = r->peers[k];
		for (uint32_t k = 0; k < r->nb_services; k++)
			m.rule.match.service[m.rule.match.nb_services++] = r->services[k];
		say(t, &m, NULL);
	}
}

static void
say_identity(struct teller *t, const struct world *w, uint32_t number)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	m.identity.op = w->identity[number - 1].there ? PK_OP_PUT : PK_OP_DELETE;
	m.identity.identity = number;
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++)
		m.identity.program[d] = w->identity[number - 1].program[d];
	snprintf(m.identity.labels, sizeof(m.identity.labels), "n=%u", number);
	say(t, &m, NULL);
}

static void
say_host(struct teller *t, const struct world *w, uint32_t i, enum pk_op op)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = (uint8_t)op;
	m.endpoint.vrf = w->host[i].vrf;
	m.endpoint.addr = w->host[i].addr;
	m.endpoint.identity = w->host[i].identity;
	snprintf(m.endpoint.name, sizeof(m.endpoint.name), "h%u", i);
	say(t, &m, NULL);
}

static void
say_all(struct teller *t, const struct world *w)
{
	for (uint32_t i = 0; i < NB_SETS; i++) {
		if (w->set[i].kind == 0)
			continue;
		say_set(t, i + 1, w->set[i].kind, PK_OP_PUT);
		for (uint32_t k = 0; k < w->set[i].nb; k++)
			say_member(t, w, i + 1, k, PK_OP_PUT);
	}
	for (uint32_t i = 0; i < NB_PROGRAMS; i++)
		if (w->program[i].there)
			say_program(t, w, i + 1);
	for (uint32_t i = 0; i < NB_IDENTITIES; i++)
		if (w->identity[i].there)
			say_identity(t, w, i + 1);
	for (uint32_t i = 0; i < NB_HOSTS; i++)
		if (w->host[i].identity != 0)
			say_host(t, w, i, PK_OP_PUT);
}

/* ---- changes, which keep the world sound; one that is meant to be refused does not ---- */

static void
change_set(struct teller *t, struct world *w)
{
	uint32_t i = rnd(dense ? 4 : NB_SETS);
	struct set *s = &w->set[i];

	if (s->kind == 0 || rnd(12) == 0) {
		if (s->kind != 0)
			say_set(t, i + 1, s->kind, PK_OP_DELETE);
		memset(s, 0, sizeof(*s));
		s->kind = rnd(2) != 0 ? PK_SET_IDENTITY : PK_SET_PREFIX;
		say_set(t, i + 1, s->kind, PK_OP_PUT);
	}
	for (uint32_t k = 1 + rnd(4); k > 0; k--) {
		if (s->nb > 0 && (rnd(2) == 0 || s->nb == NB_MEMBERS)) {
			uint32_t at = rnd(s->nb);

			say_member(t, w, i + 1, at, PK_OP_DELETE);
			s->nb--;
			s->identity[at] = s->identity[s->nb];
			s->prefix[at] = s->prefix[s->nb];
		} else {
			uint32_t identity = 1 + rnd(NB_IDENTITIES + 2);
			struct pk_prefix prefix = random_prefix();
			uint32_t at = member_index(s, identity, &prefix);

			s->identity[at] = identity;
			s->prefix[at] = prefix;
			s->nb += at == s->nb; /* said twice is said once */
			say_member(t, w, i + 1, at, PK_OP_PUT);
		}
	}
}

static void
order_tiers(struct program *p)
{
	uint8_t tier = 0;

	for (uint32_t i = 0; i < p->nb; i++) {
		tier = PK_MAX(tier, p->rule[i].tier);
		p->rule[i].tier = tier;
		tier = (uint8_t)(tier + (rnd(12) == 0 && tier < 5));
	}
}

static void
change_program(struct teller *t, struct world *w)
{
	uint32_t i = rnd(NB_PROGRAMS);
	struct program *p = &w->program[i];

	if (!p->there || rnd(20) == 0) {
		p->there = true;
		p->direction = (uint8_t)(i % 2);
		p->nb = rnd(NB_RULES);
		for (uint32_t k = 0; k < p->nb; k++)
			random_rule(&p->rule[k], w);
	}
	for (uint32_t k = 1 + rnd(3); k > 0; k--) {
		uint32_t at = p->nb > 0 ? rnd(p->nb) : 0, what = rnd(5);

		if (what == 0 && p->nb < NB_RULES) { /* one more */
			memmove(
			    &p->rule[at + 1], &p->rule[at], (p->nb++ - at) * sizeof(p->rule[0]));
			random_rule(&p->rule[at], w);
		} else if (what == 1 && p->nb > 0) { /* one less */
			memmove(
			    &p->rule[at], &p->rule[at + 1], (--p->nb - at) * sizeof(p->rule[0]));
		} else if (what == 2 && p->nb > 0) { /* the same rule, saying something else */
			uint64_t id = p->rule[at].id;

			random_rule(&p->rule[at], w);
			p->rule[at].id = id;
		} else if (what == 3 && p->nb > 0) { /* it only decides otherwise */
			p->rule[at].verdict = (uint8_t)rnd(PK_VERDICT_COUNT);
		} else if (p->nb > 0) { /* it moves */
			struct rule r = p->rule[at];
			uint32_t to = rnd(p->nb);

			memmove(
			    &p->rule[at], &p->rule[at + 1], (--p->nb - at) * sizeof(p->rule[0]));
			memmove(
			    &p->rule[to + 1], &p->rule[to], (p->nb++ - to) * sizeof(p->rule[0]));
			p->rule[to] = r;
		}
	}
	order_tiers(p);
	say_program(t, w, i + 1);
}

static void
change_identity(struct teller *t, struct world *w)
{
	uint32_t i = rnd(NB_IDENTITIES);

	w->identity[i].there = true;
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
		uint32_t p = 1 + d + 2 * rnd(NB_PROGRAMS / 2);

		w->identity[i].program[d] = rnd(4) != 0 && w->program[p - 1].there ? p : 0;
	}
	say_identity(t, w, i + 1);
}

static void
change_host(struct teller *t, struct world *w)
{
	uint32_t i = rnd(NB_HOSTS), identity = 1 + rnd(NB_IDENTITIES);

	if (!w->identity[identity - 1].there)
		return;
	if (w->host[i].identity != 0 && rnd(2) == 0) { /* it goes, or goes elsewhere */
		say_host(t, w, i, PK_OP_DELETE);
		w->host[i].identity = 0;
	}
	if (w->host[i].identity == 0) {
		if (rnd(4) == 0)
			return;
		w->host[i].vrf = rnd(NB_VRFS);
		w->host[i].addr = random_addr();
		if (naive_identity(w, w->host[i].vrf, &w->host[i].addr) != PK_IDENTITY_NONE)
			return; /* somebody is there */
	}
	w->host[i].identity = identity;
	say_host(t, w, i, PK_OP_PUT);
}

/* Something goes that nobody may need any more; if somebody does, the transaction must be refused. */
static bool
remove_something(struct teller *t, struct world *w)
{
	uint32_t kind = rnd(3), i;
	bool needed = false;

	if (kind == 0) {
		i = rnd(NB_SETS);
		if (w->set[i].kind == 0)
			return true;
		for (uint32_t p = 0; p < NB_PROGRAMS; p++)
			for (uint32_t k = 0; w->program[p].there && k < w->program[p].nb; k++)
				for (uint32_t s = 0; s < w->program[p].rule[k].nb_peers; s++)
					needed |= w->program[p].rule[k].peers[s] == i + 1;
		say_set(t, i + 1, w->set[i].kind, PK_OP_DELETE);
		w->set[i].kind = 0;
		w->set[i].nb = 0;
	} else if (kind == 1) {
		i = rnd(NB_PROGRAMS);
		if (!w->program[i].there)
			return true;
		for (uint32_t k = 0; k < NB_IDENTITIES; k++)
			needed |= w->identity[k].there && w->identity[k].program[i % 2] == i + 1;
		w->program[i].there = false;
		say_program(t, w, i + 1);
	} else {
		i = rnd(NB_IDENTITIES);
		if (!w->identity[i].there)
			return true;
		for (uint32_t k = 0; k < NB_HOSTS; k++)
			needed |= w->host[k].identity == i + 1;
		w->identity[i].there = false;
		say_identity(t, w, i + 1);
	}
	return !needed;
}

/* ---- questions ---- */

struct question {
	unsigned int direction;
	uint32_t vrf;
	struct pk_addr subject, peer;
	uint8_t proto;
	uint16_t selector;
};

/* An address at or just beside the edge of a prefix that some rule names, or any. */
static struct pk_addr
random_peer(const struct world *w)
{
	const struct set *s = &w->set[rnd(dense ? 3 : NB_SETS)];
	struct pk_addr a;
	unsigned int bits;
	int by;

	if (rnd(3) == 0)
		return w->host[rnd(NB_HOSTS)].identity != 0 ? w->host[rnd(NB_HOSTS)].addr
		                                            : random_addr();
	if (s->kind != PK_SET_PREFIX || s->nb == 0 || rnd(3) == 0)
		return random_addr();
	{
		const struct pk_prefix *p = &s->prefix[rnd(s->nb)];

		a = p->addr;
		bits = pk_addr_bits(&a);
		if (rnd(2) == 0) /* the last one in it */
			for (unsigned int i = p->len; i < bits; i++)
				a.bytes[i / 8] |= (uint8_t)(0x80 >> (i % 8));
	}
	by = (int)rnd(3) - 1;
	for (unsigned int i = bits / 8; by != 0 && i-- > 0;) {
		a.bytes[i] = (uint8_t)(a.bytes[i] + by);
		if (a.bytes[i] != (by > 0 ? 0 : 0xff))
			break;
	}
	return a;
}

static void
ask(const struct fw_rules *r, const struct question *q, struct fw_decision *d, uint64_t id[2])
{
	struct fw_party subject, peer;
	struct fw_rule_info info;

	fw_rules_party(r, q->vrf, &q->subject, true, &subject);
	fw_rules_party(r, q->vrf, &q->peer, true, &peer);
	fw_rules_decide(r, (enum pk_direction)q->direction, &subject, &peer, q->proto, q->selector,
	    FW_APP_NONE, PK_TIME_ANY, d);
	id[0] = fw_rules_info(r, d->rule, &info) ? info.id : 0;
	id[1] = fw_rules_info(r, d->audit_rule, &info) ? info.id : 0;
}

static struct question
random_question(const struct world *w)
{
	static const uint8_t protos[] = { 1, 6, 17, 58, 47, 0, 255 };
	uint32_t h = rnd(NB_HOSTS);
	struct question q = { .direction = rnd(2),
		.vrf = w->host[h].vrf,
		.subject = w->host[h].addr,
		.peer = random_peer(w),
		.proto = protos[rnd(PK_COUNT(protos))],
		.selector = (uint16_t)(rnd(8) == 0 ? rnd(65536) : rnd(40)) };

	if (q.subject.family == 0)
		q.subject.family = 4;
	if (q.peer.family == 0)
		q.peer.family = 4;
	return q;
}

static void
check(const struct world *w, const struct fw_rules *changed, const struct fw_rules *fresh)
{
	struct question q = random_question(w);
	uint32_t identity = naive_identity(w, q.vrf, &q.subject);
	uint32_t program = identity != 0 && w->identity[identity - 1].there
	    ? w->identity[identity - 1].program[q.direction]
	    : 0;
	const struct rule *want = NULL, *audit = NULL;
	struct fw_decision a, b;
	uint64_t id_a[2], id_b[2];

	if (program != 0) {
		want = naive_decide(
		    w, &w->program[program - 1], q.vrf, &q.peer, q.proto, q.selector, false);
		audit = naive_decide(
		    w, &w->program[program - 1], q.vrf, &q.peer, q.proto, q.selector, true);
	}
	ask(changed, &q, &a, id_a);
	assert_int_equal(id_a[0], want != NULL ? want->id : 0);
	assert_int_equal(a.verdict, want != NULL ? want->verdict : PK_VERDICT_DENY);
	assert_int_equal(a.audited, audit != NULL && audit != want);
	assert_int_equal(id_a[1], audit != NULL && audit != want ? audit->id : 0);
	if (fresh == NULL)
		return;
	ask(fresh, &q, &b, id_b);
	assert_int_equal(id_b[0], id_a[0]);
	assert_int_equal(id_b[1], id_a[1]);
	assert_int_equal(b.verdict, a.verdict);
	assert_int_equal(b.audit_verdict, a.audit_verdict);
}

/* A generation that is held while others come, with answers it gave when it was new. */
struct held {
	struct fw_rules *rules;
	struct question q[8];
	struct fw_decision d[8];
	uint64_t id[8][2];
};

static void
hold(struct held *h, const struct world *w, struct fw_rules *r)
{
	h->rules = r;
	for (unsigned int i = 0; i < PK_COUNT(h->q); i++) {
		h->q[i] = random_question(w);
		ask(r, &h->q[i], &h->d[i], h->id[i]);
	}
}

static void
let_go(struct held *h)
{
	for (unsigned int i = 0; h->rules != NULL && i < PK_COUNT(h->q); i++) {
		struct fw_decision d;
		uint64_t id[2];

		ask(h->rules, &h->q[i], &d, id);
		assert_int_equal(d.verdict, h->d[i].verdict);
		assert_int_equal(d.rule, h->d[i].rule);
		assert_memory_equal(id, h->id[i], sizeof(id));
	}
	fw_rules_destroy(h->rules);
	h->rules = NULL;
}

static uint32_t
live_rules(const struct world *w)
{
	uint32_t n = 0;

	for (uint32_t p = 0; p < NB_PROGRAMS; p++)
		n += w->program[p].there ? w->program[p].nb : 0;
	return n;
}

static void
run(uint64_t seed, uint32_t nb_transactions)
{
	static struct world w, before;
	struct held held[NB_HELD] = { 0 };
	struct teller t = { 0 };
	uint64_t generation = 0;
	uint32_t nb_refused = 0;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	dense = seed % 2 == 0;
	memset(&w, 0, sizeof(w));
	assert_int_equal(fw_rules_state_create(&t.state), 0);
	for (uint32_t i = 0; i < nb_transactions; i++) {
		struct held *h = &held[rnd(NB_HELD)];
		struct fw_rules *r;
		bool sound = true;
		uint32_t what;

		before = w;
		/* Now and then all is said again, which must come to the same. */
		if (generation != 0 && rnd(200) == 0) {
			say_begin(&t, generation + 1, 0);
			say_all(&t, &w);
		} else {
			say_begin(&t, generation + 1, generation);
		}
		for (uint32_t k = 1 + (rnd(4) == 0 ? rnd(6) : 0); k > 0; k--) {
			what = rnd(20);
			if (what < 8)
				change_set(&t, &w);
			else if (what < 12)
				change_program(&t, &w);
			else if (what < 14)
				change_identity(&t, &w);
			else if (what < 19)
				change_host(&t, &w);
			else if (k == 1)
				sound = remove_something(&t, &w);
		}
		assert_false(t.refused);
		if (rnd(12) == 0) {
			fw_rules_state_abort(t.state);
			w = before;
			continue;
		}
		say_commit(&t, generation + 1, &r);
		assert_int_equal(t.refused, !sound);
		if (!sound) {
			assert_null(r);
			w = before;
			nb_refused++;
			continue;
		}
		generation++;
		assert_int_equal(fw_rules_generation(r), generation);
		assert_int_equal(fw_rules_count(r), live_rules(&w));
		if (i % 4 == 0) {
			struct teller fresh = { 0 };
			struct fw_rules *f;

			assert_int_equal(fw_rules_state_create(&fresh.state), 0);
			say_begin(&fresh, 1, 0);
			say_all(&fresh, &w);
			say_commit(&fresh, 1, &f);
			assert_non_null(f);
			fw_rules_state_destroy(fresh.state);
			for (unsigned int k = 0; k < 12; k++)
				check(&w, r, f);
			fw_rules_destroy(f);
		} else {
			for (unsigned int k = 0; k < 6; k++)
				check(&w, r, NULL);
		}
		let_go(h);
		hold(h, &w, r);
	}
	assert_true(nb_transactions < 1000 || nb_refused > 0);
	/* Generations outlive the state, and each other; the last to go insists that nothing is left. */
	fw_rules_state_destroy(t.state);
	for (uint32_t i = 0; i < NB_HELD; i++)
		let_go(&held[(i + 2) % NB_HELD]);
}

static void
test_transactions(void **unused)
{
	(void)unused;
	for (uint64_t seed = 1; seed <= 30; seed++)
		run(seed, 400);
}

static void
test_short_lives(void **unused)
{
	(void)unused;
	for (uint64_t seed = 100; seed < 400; seed++)
		run(seed, 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transactions),
		cmocka_unit_test(test_short_lives),
	};

	return cmocka_run_group_tests_name("fw/rule changes", tests, NULL, NULL);
}
