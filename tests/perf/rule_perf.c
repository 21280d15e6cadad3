/*
 * What the policy classifier costs: a cold build, small changes to something large, and lookups as the
 * first packet of a session asks them.  No packets, no DPDK environment.
 *
 *   rule_perf            the names of the results
 *   rule_perf PREFIX     a JSON line for each result whose name begins with PREFIX
 *
 * Lookups go in random order through all endpoints and all prefixes, each waiting for the one before, so
 * that tables larger than the caches cost what they cost when sessions come one at a time.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "fw/rule.h"
#include "lib/clock.h"

#define RUNS      9       /* of a change; the median counts */
#define QUESTIONS 65536   /* different ones */
#define LOOKUPS   1000000 /* per measurement */

static uint64_t rng = 88172645463325252u;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* Tenants of one program each, with rules of one set each. */
struct shape {
	uint32_t nb_tenants, nb_rules, nb_prefixes,
	    nb_endpoints; /* rules and prefixes per tenant */
};

struct world {
	struct shape shape;
	struct pk_prefix *prefix; /* all of them, tenant by tenant */
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint64_t generation;
	uint32_t said;
	uint64_t commit_ns; /* of the last commit, with freeing the generation before */
};

static void
say(struct world *w, struct pk_msg *m)
{
	struct fw_rules *rules;
	struct pk_diag diag;

	m->h.generation = w->generation + 1;
	if (fw_rules_state_apply(w->state, m, &rules, &diag) < 0) {
		fprintf(stderr, "rule_perf: %s\n", diag.text);
		exit(1);
	}
	w->said++;
	if (rules != NULL) {
		fw_rules_destroy(w->rules);
		w->rules = rules;
		w->generation++;
	}
}

static void
begin(struct world *w)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 0);
	m.begin.base = w->generation;
	say(w, &m);
	w->said = 0;
}

static void
commit(struct world *w)
{
	uint64_t start;
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 0);
	m.commit.nb_messages = w->said;
	start = pk_clock_mono_ns();
	say(w, &m);
	w->commit_ns = pk_clock_mono_ns() - start;
}

static struct pk_addr
v4(uint32_t addr)
{
	struct pk_addr a = { .family = 4 };

	addr = htonl(addr);
	memcpy(a.bytes, &addr, sizeof(addr));
	return a;
}

static void
say_members(struct world *w, uint64_t set, const struct pk_prefix *p, uint32_t n, enum pk_op op)
{
	struct pk_msg m;

	for (uint32_t i = 0; i < n; i += m.members.count) {
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
		m.members.op = (uint8_t)op;
		m.members.kind = PK_SET_PREFIX;
		m.members.set = set;
		m.members.count = (uint16_t)PK_MIN(n - i, (uint32_t)PK_MSG_PREFIXES);
		memcpy(m.members.prefix, p + i, m.members.count * sizeof(*p));
		say(w, &m);
	}
}

static uint64_t
set_of(const struct world *w, uint32_t tenant, uint32_t rule)
{
	return (uint64_t)tenant * w->shape.nb_rules + rule + 1;
}

/* Rule i of the program on the set of rule i, a default behind them all; `changed` has another port. */
static void
say_program(struct world *w, uint32_t tenant, uint32_t changed, bool one_less)
{
	uint32_t nb = w->shape.nb_rules + 1, index = 0;
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = PK_OP_PUT;
	m.program.direction = PK_EGRESS;
	m.program.program = tenant + 1;
	m.program.nb_rules = nb - one_less;
	say(w, &m);
	for (uint32_t i = 0; i < nb; i++) {
		struct pk_msg_rule_match *match = &m.rule.match;
		uint16_t port = (uint16_t)(i % 7 == 0 ? 443 : 1024 + i % 30000);

		if (one_less && i == changed)
			continue;
		pk_msg_init(&m, PK_MSG_RULE, 0);
		m.rule.program = tenant + 1;
		m.rule.id = (uint64_t)(tenant + 1) << 32 | (i + 1);
		m.rule.index = index++;
		m.rule.line = i + 1;
		snprintf(m.rule.policy, sizeof(m.rule.policy), "tenant-%u", tenant);
		snprintf(m.rule.name, sizeof(m.rule.name), "rule-%u", i);
		if (i + 1 == nb) {
			match->any_peer = match->any_service = 1;
			m.rule.tier = 1;
		} else {
			m.rule.verdict = PK_VERDICT_ALLOW;
			match->nb_peers = match->nb_services = 1;
			match->peer[0] = set_of(w, tenant, i);
			match->service[0] = (struct pk_service){ .proto = IPPROTO_TCP,
				.low = port,
				.high = (uint16_t)(port +
				    (i == changed        ? 1
				            : i % 3 == 0 ? 100
				                         : 0)) };
		}
		say(w, &m);
	}
}

static struct pk_addr
endpoint_addr(uint32_t i)
{
	return v4((192u << 24 | 168u << 16) + i * 7);
}

static void
say_endpoint(struct world *w, uint32_t i, uint32_t identity, enum pk_op op)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = (uint8_t)op;
	m.endpoint.local = 1;
	m.endpoint.identity = identity;
	m.endpoint.vrf = (identity - 1) % w->shape.nb_tenants;
	m.endpoint.addr = endpoint_addr(i);
	snprintf(m.endpoint.name, sizeof(m.endpoint.name), "tenant/workload-%u", i);
	say(w, &m);
}

/* Two identities a tenant, with the same programs: an endpoint that changes label goes from one to the other. */
static uint32_t
identity_of(const struct world *w, uint32_t endpoint)
{
	return endpoint % w->shape.nb_tenants + 1;
}

static double
make(struct world *w, const struct shape *shape)
{
	uint32_t per_rule = shape->nb_prefixes / shape->nb_rules,
	         extra = shape->nb_prefixes % shape->nb_rules;
	struct pk_prefix *next;
	uint64_t start;
	struct pk_msg m;

	*w = (struct world){ .shape = *shape };
	w->prefix = calloc((size_t)shape->nb_tenants * shape->nb_prefixes, sizeof(*w->prefix));
	PK_ASSERT(w->prefix != NULL && fw_rules_state_create(&w->state) == 0);
	for (size_t i = 0; i < (size_t)shape->nb_tenants * shape->nb_prefixes; i++) {
		unsigned int len = i % 16 == 0 ? 16 + rnd(8) : 24 + rnd(9);

		w->prefix[i].addr =
		    v4((10u << 24 | rnd(1u << 24)) & (uint32_t)(UINT64_MAX << (32 - len)));
		w->prefix[i].len = (uint8_t)len;
	}
	next = w->prefix;
	start = pk_clock_mono_ns();
	begin(w);
	for (uint32_t t = 0; t < shape->nb_tenants; t++) {
		for (uint32_t i = 0; i < shape->nb_rules; i++) {
			uint32_t n = per_rule + (i < extra);

			pk_msg_init(&m, PK_MSG_SET, 0);
			m.set.op = PK_OP_PUT;
			m.set.kind = PK_SET_PREFIX;
			m.set.set = set_of(w, t, i);
			say(w, &m);
			say_members(w, set_of(w, t, i), next, n, PK_OP_PUT);
			next += n;
		}
		say_program(w, t, UINT32_MAX, false);
		for (uint32_t k = 0; k < 2; k++) {
			pk_msg_init(&m, PK_MSG_IDENTITY, 0);
			m.identity.op = PK_OP_PUT;
			m.identity.identity = t + 1 + k * shape->nb_tenants;
			m.identity.program[PK_EGRESS] = t + 1;
			say(w, &m);
		}
	}
	for (uint32_t i = 0; i < shape->nb_endpoints; i++)
		say_endpoint(w, i, identity_of(w, i), PK_OP_PUT);
	commit(w);
	return (double)(pk_clock_mono_ns() - start) / 1e9;
}

static void
unmake(struct world *w)
{
	fw_rules_destroy(w->rules);
	fw_rules_state_destroy(w->state);
	free(w->prefix);
}

/* ---- lookups ---- */

struct question {
	struct pk_addr subject, peer;
	uint32_t vrf;
	uint16_t port;
};

static double
lookup_cycles(const struct world *w)
{
	struct question *q = calloc(QUESTIONS, sizeof(*q));
	uint32_t at = 0;
	uint64_t start;

	PK_ASSERT(q != NULL);
	for (uint32_t i = 0; i < QUESTIONS; i++) {
		uint32_t e = rnd(w->shape.nb_endpoints), t = identity_of(w, e) - 1;
		const struct pk_prefix *p =
		    &w->prefix[(size_t)t * w->shape.nb_prefixes + rnd(w->shape.nb_prefixes)];
		uint32_t peer;

		memcpy(&peer, p->addr.bytes, sizeof(peer));
		peer = ntohl(peer) | rnd(1u << 16) >> (p->len > 16 ? p->len - 16 : 0);
		q[i] = (struct question){ .subject = endpoint_addr(e),
			.peer = v4(peer),
			.vrf = t,
			.port = (uint16_t)(rnd(2) == 0 ? 443 : 1024 + rnd(30000)) };
	}
	start = rte_rdtsc();
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		struct fw_party subject, peer;
		struct fw_decision d;

		if (i == LOOKUPS / 2)
			start = rte_rdtsc(); /* the first half was for the caches */
		fw_rules_party(w->rules, q[at].vrf, &q[at].subject, true, &subject);
		fw_rules_party(w->rules, q[at].vrf, &q[at].peer, true, &peer);
		fw_rules_decide(w->rules, PK_EGRESS, &subject, &peer, IPPROTO_TCP, q[at].port,
		    FW_APP_NONE, PK_TIME_ANY, &d);
		/* The next question is known only when this one is answered. */
		at = (at * 5 + 1 + (uint32_t)d.verdict * 0x10001) % QUESTIONS;
	}
	start = rte_rdtsc() - start;
	free(q);
	return (double)start / (LOOKUPS - LOOKUPS / 2);
}

/* ---- results ---- */

static const char *only = "";

static bool
wanted(const char *name)
{
	return strncmp(name, only, strlen(only)) == 0;
}

static void
print(const char *name, double value, const char *unit, const char *note)
{
	if (wanted(name))
		printf("{\"name\":\"%s\",\"value\":%.*f,\"unit\":\"%s\",\"note\":\"%s\"}\n", name,
		    value < 10 ? 3 : 0, value, unit, note);
	fflush(stdout);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Median of RUNS commits, each of one small change that `change` says for the i-th time. */
static double
change_us(struct world *w, void (*change)(struct world *w, uint32_t i), double *with_messages)
{
	double us[RUNS], all[RUNS];

	for (uint32_t i = 0; i < RUNS; i++) {
		uint64_t start = pk_clock_mono_ns();

		begin(w);
		change(w, i);
		commit(w);
		us[i] = (double)w->commit_ns / 1e3;
		all[i] = (double)(pk_clock_mono_ns() - start) / 1e3;
	}
	qsort(us, RUNS, sizeof(us[0]), compare);
	qsort(all, RUNS, sizeof(all[0]), compare);
	if (with_messages != NULL)
		*with_messages = all[RUNS / 2];
	return us[RUNS / 2];
}

static void
edit_rule(struct world *w, uint32_t i)
{
	say_program(w, 0, i % 2 == 0 ? 1000 % w->shape.nb_rules + i : UINT32_MAX, false);
}

static void
drop_rule(struct world *w, uint32_t i)
{
	say_program(w, 0, 1000 % w->shape.nb_rules, i % 2 == 0);
}

static void
relabel(struct world *w, uint32_t i)
{
	say_endpoint(w, 4711 % w->shape.nb_endpoints,
	    identity_of(w, 4711 % w->shape.nb_endpoints) + (i % 2 == 0) * w->shape.nb_tenants,
	    PK_OP_PUT);
}

static void
new_endpoint(struct world *w, uint32_t i)
{
	say_endpoint(w, w->shape.nb_endpoints + i, 1, PK_OP_PUT);
}

static void
member(struct world *w, uint32_t i)
{
	struct pk_prefix p = { .addr = v4(10u << 24 | 77u << 16 | (i / 2) << 8 | 3), .len = 32 };

	say_members(w, set_of(w, 0, 0), &p, 1, i % 2 == 0 ? PK_OP_PUT : PK_OP_DELETE);
}

static const char *const names[] = {
	"fw.rule.10k",
	"fw.rule.set100k",
	"fw.rule.dash",
	"fw.rule.lookup.rules",
	"fw.rule.lookup.prefixes",
};

static void
measure_10k(void)
{
	static const struct shape shape = { 1, 10000, 100000, 100000 };
	double all;
	struct world w;

	print("fw.rule.10k.build_s", make(&w, &shape), "s",
	    "10,000 rules, 100,000 prefixes, 100,000 endpoints, first message to generation");
	print(
	    "fw.rule.10k.mb", (double)fw_rules_state_bytes(w.state) / 1e6, "MB", "one generation");
	print("fw.rule.10k.change_us", change_us(&w, edit_rule, &all), "us",
	    "commit of a program of 10,001 rules of which one differs");
	print("fw.rule.10k.change_all_us", all, "us", "the same with its 10,002 messages");
	print("fw.rule.10k.insert_us", change_us(&w, drop_rule, NULL), "us",
	    "one rule in the middle goes and comes");
	print("fw.rule.10k.relabel_us", change_us(&w, relabel, NULL), "us",
	    "one endpoint of 100,000 changes identity");
	print("fw.rule.10k.endpoint_us", change_us(&w, new_endpoint, NULL), "us",
	    "one more endpoint");
	print("fw.rule.10k.member_us", change_us(&w, member, NULL), "us",
	    "one prefix more or less in a set of 10");
	print("fw.rule.10k.lookup_cycles", lookup_cycles(&w), "cycles",
	    "two addresses and a service, random order");
	unmake(&w);
}

static void
measure_set100k(void)
{
	static const struct shape shape = { 1, 1, 100000, 1000 };
	struct world w;

	print("fw.rule.set100k.build_s", make(&w, &shape), "s",
	    "one rule on a set of 100,000 prefixes");
	print("fw.rule.set100k.member_us", change_us(&w, member, NULL), "us",
	    "one prefix more or less");
	unmake(&w);
}

static void
measure_dash(void)
{
	static const struct shape shape = { 32, 1000, 100000, 100000 };
	struct world w;

	print("fw.rule.dash.build_s", make(&w, &shape), "s",
	    "32 tenants of 1,000 rules of 100 prefixes in the same 10.0.0.0/8, 100,000 endpoints");
	print(
	    "fw.rule.dash.mb", (double)fw_rules_state_bytes(w.state) / 1e6, "MB", "one generation");
	print("fw.rule.dash.change_us", change_us(&w, edit_rule, NULL), "us", "one rule");
	print("fw.rule.dash.relabel_us", change_us(&w, relabel, NULL), "us", "one endpoint");
	print("fw.rule.dash.member_us", change_us(&w, member, NULL), "us", "one prefix");
	print("fw.rule.dash.lookup_cycles", lookup_cycles(&w), "cycles", "");
	unmake(&w);
}

static void
measure_lookups(
    const char *prefix, const struct shape *shapes, const char *const *labels, size_t nb)
{
	for (size_t i = 0; i < nb; i++) {
		char name[64];
		struct world w;

		snprintf(name, sizeof(name), "%s.%s", prefix, labels[i]);
		make(&w, &shapes[i]);
		print(name, lookup_cycles(&w), "cycles", "");
		unmake(&w);
	}
}

int
main(int argc, char **argv)
{
	static const struct shape rules[] = { { 1, 1, 1000, 1000 }, { 1, 100, 1000, 1000 },
		{ 1, 1000, 1000, 1000 }, { 1, 10000, 10000, 1000 } };
	static const char *const rules_label[] = { "1", "100", "1k", "10k" };
	static const struct shape prefixes[] = { { 1, 100, 100, 1000 }, { 1, 100, 10000, 1000 },
		{ 1, 100, 100000, 1000 } };
	static const char *const prefixes_label[] = { "100", "10k", "100k" };

	if (argc != 2) {
		for (size_t i = 0; i < PK_COUNT(names); i++)
			puts(names[i]);
		return argc == 1 ? 0 : 2;
	}
	only = argv[1];
	if (wanted(names[0]) || strncmp(only, names[0], strlen(names[0])) == 0)
		measure_10k();
	if (wanted(names[1]) || strncmp(only, names[1], strlen(names[1])) == 0)
		measure_set100k();
	if (wanted(names[2]) || strncmp(only, names[2], strlen(names[2])) == 0)
		measure_dash();
	if (wanted(names[3]) || strncmp(only, names[3], strlen(names[3])) == 0)
		measure_lookups(names[3], rules, rules_label, PK_COUNT(rules));
	if (wanted(names[4]) || strncmp(only, names[4], strlen(names[4])) == 0)
		measure_lookups(names[4], prefixes, prefixes_label, PK_COUNT(prefixes));
	return 0;
}
