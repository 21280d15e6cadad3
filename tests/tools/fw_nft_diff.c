/*
 * The two data planes side by side: random policies, random packets and TCP connections, one verdict each.
 *
 *   fw_nft_diff POLICIES PACKETS [SEED]     prints a summary; exits 1 when verdicts differ and should not
 *
 * The same messages go into one state: its generations are judged by the packet path in this process, and put into
 * the kernel of a network namespace of its own, as picket-nftd does it.  Each frame is handed to the path and
 * written to the far end of a veth; whether it passed is whether it came out on the other side.
 *
 *      pin == in0 --[ picket0 ]-- out0 == pout          all in one namespace, without addresses
 *
 * Of four policies one begins from nothing, and three change the one before, with sessions under way.  docs/nft.md
 * has the differences that are meant; each is a function here.  Once a flow was judged differently it is left alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tests/tools/nft_lab.h"
#include "tests/unit/fw_world.h"

#define NB_LOCAL 6
#define NB_KNOWN 8 /* outside addresses of the inventory: the first of NB_OUT */
#define NB_OUT   16
#define NB_IDS   9 /* 1 .. 6 have programs, 7 .. 9 are elsewhere */
#define NB_SETS  8
#define NB_FLOWS 48
#define NB_PORTS 12
#define FRAME    2048

static uint64_t seed;

static uint32_t
pick(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % n;
}

/* ---- policies, as messages ---- */

struct talk {
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint64_t generation;
	uint32_t said;
	uint64_t next_rule;
	uint8_t set_kind[NB_SETS + 1];
};

static void
say(struct talk *t, struct pk_msg *m)
{
	struct fw_rules *rules = NULL;
	struct pk_diag diag;

	m->h.generation = t->generation;
	if (pk_msg_check(m, sizeof(*m), &diag) < 0 ||
	    fw_rules_state_apply(t->state, m, &rules, &diag) < 0) {
		fprintf(stderr, "generation %" PRIu64 ", %s: %s\n", t->generation,
		    pk_msg_type_name(m->h.type), diag.text);
		exit(2);
	}
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		t->said++;
	if (rules != NULL) {
		fw_rules_destroy(t->rules);
		t->rules = rules;
	}
}

static void
say_identity(struct talk *t, uint32_t id)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = id;
	m.identity.tenant = 1;
	if (id <= 6 && pick(12) != 0)
		m.identity.program[PK_EGRESS] = 100 + id;
	if (id <= 6 && pick(12) != 0)
		m.identity.program[PK_INGRESS] = 200 + id;
	strcpy(m.identity.tenant_name, "acme");
	say(t, &m);
}

static void
say_endpoint(struct talk *t, bool inside, uint32_t i)
{
	for (uint8_t family = 4; family <= 6; family += 2) {
		struct pk_msg m;

		pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
		m.endpoint.op = PK_OP_PUT;
		m.endpoint.local = inside;
		m.endpoint.identity = inside ? 1 + pick(6) : 1 + pick(NB_IDS);
		m.endpoint.addr = world_addr(family, inside, i);
		m.endpoint.has_mac = inside && i % 2 == 0;
		if (m.endpoint.has_mac)
			memcpy(m.endpoint.mac, world_mac_inside, 6);
		strcpy(m.endpoint.name, "acme/w");
		say(t, &m);
	}
}

static struct pk_prefix
prefix_of(uint8_t family, uint32_t low, unsigned int bits)
{
	struct pk_prefix p = { .addr = world_addr(family, false, low),
		.len = (uint8_t)((family == 4 ? 32 : 128) - bits) };

	return p;
}

/* A network of 2^bits addresses less a part of it, as prefixes. */
static void
add_network(struct pk_msg *m)
{
	uint8_t family = pick(2) == 0 ? 4 : 6;
	unsigned int bits = pick(5), hole = pick(3) == 0 || bits == 0 ? 99 : pick(bits);
	uint32_t low = pick(16u >> bits) << bits,
	         at = hole == 99 ? 0 : low + (pick(1u << (bits - hole)) << hole);

	if (pick(16) == 0) { /* everybody of a family */
		struct pk_prefix all = { .addr = { .family = family } };

		m->members.prefix[m->members.count++] = all;
		return;
	}
	if (hole == 99) {
		m->members.prefix[m->members.count++] = prefix_of(family, low, bits);
		return;
	}
	while (bits > hole) { /* the half without the hole, and on with the other */
		uint32_t half = 1u << --bits;
		bool upper = at >= low + half;

		m->members.prefix[m->members.count++] =
		    prefix_of(family, upper ? low : low + half, bits);
		low += upper ? half : 0;
	}
}

static void
say_set(struct talk *t, uint64_t set)
{
	struct pk_msg m;

	t->set_kind[set] = pick(2) == 0 ? PK_SET_IDENTITY : PK_SET_PREFIX;
	pk_msg_init(&m, PK_MSG_SET, 0);
	m.set.op = PK_OP_PUT;
	m.set.kind = t->set_kind[set];
	m.set.set = set;
	strcpy(m.set.name, "set");
	say(t, &m);
	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
	m.members.op = PK_OP_PUT;
	m.members.kind = t->set_kind[set];
	m.members.set = set;
	if (m.members.kind == PK_SET_IDENTITY) {
		for (uint32_t id = 1; id <= NB_IDS; id++)
			if (pick(3) == 0)
				m.members.identity[m.members.count++] = id;
	} else {
		for (uint32_t n = pick(4); n > 0; n--)
			add_network(&m);
	}
	if (m.members.count > 0)
		say(t, &m);
}

static void
say_members_change(struct talk *t)
{
	uint64_t set = 1 + pick(NB_SETS);
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
	m.members.op = PK_OP_PUT;
	m.members.kind = t->set_kind[set];
	m.members.set = set;
	if (m.members.kind == PK_SET_IDENTITY)
		m.members.identity[m.members.count++] = 1 + pick(NB_IDS);
	else
		add_network(&m);
	say(t, &m);
}

static void
random_services(struct pk_msg_rule_match *match)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP,
		IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_GRE };

	match->any_service = pick(4) == 0;
	match->nb_services = match->any_service ? 0 : (uint8_t)(1 + pick(3));
	for (unsigned int i = 0; i < match->nb_services; i++) {
		struct pk_service *s = &match->service[i];

		s->proto = protos[pick(PK_COUNT(protos))];
		if (s->proto == IPPROTO_GRE) {
			s->high = pick(2) == 0 ? 0 : UINT16_MAX;
		} else if (pick(5) == 0) {
			s->high = UINT16_MAX;
		} else if (s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6) {
			uint16_t echo = s->proto == IPPROTO_ICMP ? 8 : 128;

			s->low = (uint16_t)(echo << 8);
			s->high = pick(2) == 0 ? s->low : (uint16_t)(s->low | 255);
		} else {
			s->low = (uint16_t)(1 + pick(NB_PORTS));
			s->high = (uint16_t)(s->low + pick(4));
		}
	}
}

static void
say_program(struct talk *t, uint64_t program)
{
	enum pk_direction d = program < 200 ? PK_EGRESS : PK_INGRESS;
	uint32_t nb = pick(9);
	uint8_t tier = 0;
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = PK_OP_PUT;
	m.program.direction = d;
	m.program.program = program;
	m.program.nb_rules = nb;
	say(t, &m);
	for (uint32_t i = 0; i < nb; i++) {
		static const uint8_t verdicts[] = { PK_VERDICT_DENY, PK_VERDICT_REJECT,
			PK_VERDICT_ALLOW, PK_VERDICT_ALLOW, PK_VERDICT_ALLOW, PK_VERDICT_PASS };

		tier = (uint8_t)(tier + (pick(3) == 0));
		pk_msg_init(&m, PK_MSG_RULE, 0);
		m.rule.program = program;
		m.rule.id = ++t->next_rule;
		m.rule.index = i;
		m.rule.tier = tier;
		m.rule.verdict = verdicts[pick(PK_COUNT(verdicts))];
		m.rule.log = pick(4) == 0;
		m.rule.flags = pick(8) == 0 ? PK_RULE_AUDIT : 0;
		strcpy(m.rule.policy, "p");
		strcpy(m.rule.name, "r");
		strcpy(m.rule.file, "f");
		m.rule.match.any_peer = pick(3) == 0;
		if (!m.rule.match.any_peer)
			for (uint32_t n = pick(4); n > 0; n--)
				m.rule.match.peer[m.rule.match.nb_peers++] = 1 + pick(NB_SETS);
		random_services(&m.rule.match);
		say(t, &m);
	}
}

/* The next policy: from nothing, or a few changes. */
static void
next_policy(struct talk *t, bool full)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 0);
	m.begin.base = full ? 0 : t->generation;
	m.begin.full = full;
	t->generation++;
	t->said = 0;
	say(t, &m);
	if (full) {
		for (uint32_t id = 1; id <= NB_IDS; id++)
			say_identity(t, id);
		for (uint32_t i = 1; i <= NB_LOCAL; i++)
			say_endpoint(t, true, i);
		for (uint32_t i = 1; i <= NB_KNOWN; i++)
			say_endpoint(t, false, i);
		for (uint64_t s = 1; s <= NB_SETS; s++)
			say_set(t, s);
		for (uint64_t p = 1; p <= 6; p++) {
			say_program(t, 100 + p);
			say_program(t, 200 + p);
		}
	} else {
		for (uint32_t n = 1 + pick(4); n > 0; n--) {
			switch (pick(4)) {
			case 0:
				say_endpoint(t, false, 1 + pick(NB_KNOWN));
				break;
			case 1:
				say_endpoint(t, true, 1 + pick(NB_LOCAL));
				break;
			case 2:
				say_program(t, (pick(2) + 1) * 100 + 1 + pick(6));
				break;
			default:
				say_members_change(t);
			}
		}
	}
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 0);
	m.commit.nb_messages = t->said;
	say(t, &m);
}

/* ---- flows and their packets ---- */

struct flow {
	uint8_t family, proto;
	bool opened_outside;
	uint32_t in, out;
	uint16_t cport, sport;
	uint32_t next[2], start[2], win; /* client, server */
	unsigned int phase;
};

static struct flow flows[NB_FLOWS];
static uint16_t next_port = 1024;

static void
flow_begin(struct flow *f)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP,
		IPPROTO_UDP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_GRE, IPPROTO_SCTP };

	memset(f, 0, sizeof(*f));
	f->family = pick(2) == 0 ? 4 : 6;
	f->proto = protos[pick(PK_COUNT(protos))];
	if (f->proto == IPPROTO_ICMP && f->family == 6)
		f->proto = IPPROTO_ICMPV6;
	f->opened_outside = pick(2) == 0;
	f->in = 1 + pick(NB_LOCAL);
	f->out = 1 + pick(NB_OUT);
	f->cport = next_port;
	next_port = next_port == 65000 ? 1024 : (uint16_t)(next_port + 1);
	f->sport = (uint16_t)(1 + pick(NB_PORTS + 4));
	f->start[0] = pick(1u << 31) * 2 + 1;
	f->start[1] = pick(1u << 31) * 2 + 1;
	f->next[0] = f->start[0];
	f->next[1] = f->start[1];
}

static void
tcp_step(struct flow *f, struct world_pkt *w, bool *from_server)
{
	uint32_t odd = pick(100);
	bool server = pick(2) == 0;

	w->win = 30000;
	if (f->phase == 0 && odd < 92) {
		server = false;
		w->flags = FW_TCP_SYN;
		w->seq = f->start[0];
		f->next[0] = f->start[0] + 1;
		f->phase = 1;
	} else if (f->phase == 1 && odd < 85) {
		server = true;
		w->flags = FW_TCP_SYN | FW_TCP_ACK;
		w->seq = f->start[1];
		w->ack = f->next[0];
		f->next[1] = f->start[1] + 1;
		f->phase = 2;
	} else if (f->phase == 2 && odd < 90) {
		server = false;
		w->flags = FW_TCP_ACK;
		w->seq = f->next[0];
		w->ack = f->next[1];
		f->phase = 3;
	} else {
		w->flags = FW_TCP_ACK;
		w->seq = f->next[server];
		w->ack = f->next[!server];
		if (odd < 50) {
			w->payload = (uint16_t)pick(200);
			f->next[server] += f->phase >= 3 ? w->payload : 0;
		} else if (odd < 58) {
			w->flags |= FW_TCP_FIN;
			f->next[server] += f->phase >= 3;
		} else if (odd < 62) {
			w->flags = FW_TCP_RST;
			w->ack = 0;
		} else if (odd < 66) {
			w->flags = FW_TCP_SYN;
			w->ack = 0;
			w->seq = f->start[server];
		} else if (odd < 70) {
			w->flags = FW_TCP_SYN | FW_TCP_ACK;
			w->seq = f->start[server];
		} else if (odd < 76) { /* an older one again */
			w->payload = (uint16_t)pick(60);
			w->seq -= w->payload;
		} else if (odd < 80) { /* far outside the window */
			w->seq += pick(2) == 0 ? 0x10000000 : 0xf0000000;
			w->payload = 10;
		} else if (odd < 84) { /* acknowledges what nobody sent */
			w->ack += 0x10000000;
		} else if (odd < 87) {
			w->flags = (uint8_t)pick(64);
		}
	}
	*from_server = server;
}

/* The next packet of a flow, at frame[]; returns its length. */
static uint32_t
flow_packet(struct flow *f, uint16_t id, uint8_t *frame, bool *from_outside)
{
	struct world_pkt w = { .family = f->family, .proto = f->proto, .in = f->in, .out = f->out };
	bool server = false;
	uint32_t len;
	uint8_t *ip = frame + 14;

	if (f->proto == IPPROTO_TCP) {
		tcp_step(f, &w, &server);
	} else {
		server = f->phase > 0 && pick(3) == 0;
		server |= f->phase == 0 && pick(12) == 0;
		f->phase = 1;
		w.payload = (uint16_t)(pick(40) + (f->proto == IPPROTO_SCTP ? 12 : 0));
	}
	w.from_outside = server != f->opened_outside;
	if (f->proto == IPPROTO_ICMP || f->proto == IPPROTO_ICMPV6) {
		bool v6 = f->proto == IPPROTO_ICMPV6;

		w.sport = (uint16_t)((server ? (v6 ? 129 : 0) : (v6 ? 128 : 8)) << 8);
		if (pick(20) == 0)
			w.sport |= 1; /* a code */
		w.dport = f->cport;
	} else {
		w.sport = server ? f->sport : f->cport;
		w.dport = server ? f->cport : f->sport;
	}
	len = world_frame(&w, frame);
	if (f->proto == IPPROTO_GRE) /* plain, as RFC 2784 has it */
		memset(ip + (f->family == 4 ? 20 : 40), 0, 4);
	if (f->family == 4) {
		uint16_t sum;

		world_put(ip + 4, id, 2);
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		world_put(ip + 2, id, 2); /* the flow label */
	}
	*from_outside = w.from_outside;
	return len;
}

/* ---- the kernel's side ---- */

static enum nft_walk_next
forget(void *arg, const struct nft_session *s)
{
	struct kernel *k = arg;

	nft_session_kill(k->track, s);
	return NFT_WALK_ON;
}

static bool forgotten;

static void
forget_done(void *arg, int rc)
{
	(void)arg;
	(void)rc;
	forgotten = true;
}

static const struct fw_rules *
no_rules(void *arg)
{
	(void)arg;
	return NULL;
}

static void
kernel_forget(struct kernel *k)
{
	forgotten = false;
	must(nft_walk_start(k->track, no_rules, forget, forget_done, k) != NULL, "walk");
	while (!forgotten)
		event_base_loop(k->base, EVLOOP_ONCE);
}

static uint16_t
id_of(const uint8_t *frame, ssize_t len)
{
	const uint8_t *ip = frame + 14;

	if (len < 14 + 20)
		return 0;
	return (uint16_t)(ip[0] >> 4 == 4 ? ip[4] << 8 | ip[5] : ip[2] << 8 | ip[3]);
}

/* What has come out, noted by number. */
static void
kernel_collect(struct kernel *k, uint8_t *came, uint32_t nb)
{
	uint8_t frame[FRAME];

	for (unsigned int side = 0; side < 2; side++) {
		ssize_t len;

		while ((len = recv(k->fd[side], frame, sizeof(frame), 0)) > 0) {
			uint16_t id = id_of(frame, len);

			if (id < nb)
				came[id] = 1;
		}
	}
}

/* ---- side by side ---- */

struct tally {
	uint64_t packets, passed, dropped, differ, left_alone;
	struct {
		const char *name;
		uint64_t nb;
	} meant[16];
	uint64_t commits, commit_ns;
};

static void
note_meant(struct tally *t, const char *name)
{
	for (unsigned int i = 0; i < PK_COUNT(t->meant); i++) {
		if (t->meant[i].name == NULL || strcmp(t->meant[i].name, name) == 0) {
			t->meant[i].name = name;
			t->meant[i].nb++;
			return;
		}
	}
}

struct judged {
	struct flow flow; /* as it was when the packet was made */
	unsigned int which;
	uint32_t life; /* of the flow: it begins anew now and then */
	uint16_t drop;
	uint8_t passed, state, flags, from_outside;
	uint32_t seq, ack, len;
	uint8_t frame[128];
};

/* What has been seen of a flow's present life. */
static struct {
	uint32_t life;
	bool code;   /* an ICMP query whose code is not 0 */
	bool ending; /* a FIN or RST */
	bool again;  /* a SYN when there was one already */
} seen[NB_FLOWS];

static void
see(const struct judged *j)
{
	if (seen[j->which].life != j->life) {
		memset(&seen[j->which], 0, sizeof(seen[0]));
		seen[j->which].life = j->life;
	}
	if (j->flow.proto == IPPROTO_ICMP || j->flow.proto == IPPROTO_ICMPV6)
		seen[j->which].code |= j->frame[14 + (j->flow.family == 4 ? 20 : 40) + 1] != 0;
	if (j->flow.proto != IPPROTO_TCP)
		return;
	seen[j->which].ending |= (j->flags & (FW_TCP_FIN | FW_TCP_RST)) != 0;
	seen[j->which].again |= (j->flags & FW_TCP_SYN) != 0 &&
	    j->state >= ((j->flags & FW_TCP_ACK) != 0 ? 2 : 1);
}

/* Differences that are meant, by their names in docs/nft.md, which has the reasons.  NULL: this is none of them. */
static const char *
meant(const struct judged *j, bool kernel)
{
	uint8_t proto = j->flow.proto;

	if (proto == IPPROTO_SCTP)
		return "sctp-state";
	if (seen[j->which].code)
		return "icmp-code";
	if (proto != IPPROTO_TCP)
		return NULL;
	if ((j->flags & FW_TCP_URG) != 0 && (j->flags & (FW_TCP_SYN | FW_TCP_RST)) != 0 && !kernel)
		return "tcp-urgent";
	if (j->drop == FW_DROP_TCP_WINDOW && kernel)
		return "tcp-delayed";
	if (seen[j->which].again)
		return "tcp-syn-again";
	if (seen[j->which].ending)
		return "tcp-after-end";
	return NULL;
}

static uint32_t lives[NB_FLOWS], bad_life[NB_FLOWS];

static void
report(const struct talk *t, uint32_t i, const struct judged *j, bool kernel)
{
	const struct flow *f = &j->flow;

	printf(
	    "policy %" PRIu64
	    " packet %u: picketd %s (%s), kernel %s: ip%u proto %u %s%u->%u %s, from %s, flags %02x seq +%u ack +%u len %u, phase %u\n",
	    t->generation, i, j->passed ? "passes" : "drops", fw_drop_name(j->drop),
	    kernel ? "passes" : "drops", f->family, f->proto, "", f->in, f->out,
	    f->opened_outside ? "opened outside" : "opened inside",
	    j->from_outside ? "outside" : "inside", j->flags,
	    j->seq - f->start[j->from_outside != f->opened_outside],
	    j->ack - f->start[j->from_outside == f->opened_outside], j->len, j->state);
}

static uint64_t
drops_of(const struct fw_path *p, uint16_t *why, uint64_t before[FW_DROP_COUNT])
{
	const struct fw_path_stats *s = fw_path_stats(p);

	*why = FW_DROP_NONE;
	for (unsigned int d = 1; d < FW_DROP_COUNT; d++) {
		uint64_t n = pk_counter_read(&s->drop[d]);

		if (n != before[d])
			*why = (uint16_t)d;
		before[d] = n;
	}
	return *why;
}

/* One packet through the path; true: it came out on the other side. */
static bool
path_one(struct fw_path *p, const struct fw_rules *rules, struct rte_mempool *pool,
    const uint8_t *frame, uint32_t len, bool from_outside, uint64_t now)
{
	struct rte_mbuf *m = world_mbuf(pool, frame, len);
	struct fw_burst out = { 0 };
	bool passed = false;

	PK_ASSERT(m != NULL);
	fw_path_burst(p, rules, 0, from_outside ? FW_OUTSIDE : FW_INSIDE, &m, 1, now, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		for (unsigned int i = 0; i < out.nb[side]; i++) {
			passed |= out.pkt[side][i] == m;
			rte_pktmbuf_free(out.pkt[side][i]);
		}
	}
	return passed;
}

int
main(int argc, char **argv)
{
	uint32_t nb_policies = argc > 1 ? (uint32_t)atoi(argv[1]) : 20,
	         nb = argc > 2 ? (uint32_t)atoi(argv[2]) : 500;
	struct judged *judged = calloc(nb, sizeof(*judged));
	uint8_t *came = malloc(nb);
	struct talk t = { 0 };
	struct kernel k = { 0 };
	struct tally tally = { 0 };
	struct fw_path_conf conf;
	struct rte_mempool *pool;
	struct fw_path *path = NULL;
	uint64_t before[FW_DROP_COUNT] = { 0 }, begun = pk_clock_mono_ns();
	uint64_t limit = getenv("VERBOSE") != NULL ? UINT64_MAX : 30;
	bool history = getenv("HISTORY") != NULL;
	cpu_set_t one;

	if (nb > 60000 || nb == 0 || judged == NULL || came == NULL) {
		fprintf(stderr, "usage: fw_nft_diff POLICIES PACKETS [SEED], 1 to 60000 packets\n");
		return 2;
	}
	seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	pool = world_start(1023);
	must(pool != NULL, "DPDK");
	/* What is sent on one CPU has come out, or not, when the call returns. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
	kernel_start(&k);
	must(fw_rules_state_create(&t.state) == 0, "state");
	fw_rules_state_on_commit(t.state, nft_plane_ready, k.plane);
	fw_path_conf_init(&conf);
	conf.nb_sessions = 16384;
	conf.huge = false;
	conf.seed[0] = 1;
	conf.seed[1] = 2;
	conf.pool = pool;
	conf.syn_cookies = 0;
	conf.reevaluate_rate = 100000000;
	for (unsigned int i = 0; i < FW_TIMEOUT_COUNT; i++)
		conf.timeout_ns[i] = 600 * PK_NS_PER_S;
	for (uint32_t policy = 0; policy < nb_policies; policy++) {
		bool full = policy % 4 == 0;
		uint64_t start;

		if (full) {
			fw_path_destroy(path);
			must(fw_path_create(&path, &conf) == 0, "path");
			memset(before, 0, sizeof(before));
			kernel_forget(&k);
			for (unsigned int i = 0; i < NB_FLOWS; i++) {
				flow_begin(&flows[i]);
				lives[i]++;
			}
		}
		start = pk_clock_mono_ns();
		next_policy(&t, full);
		tally.commit_ns += pk_clock_mono_ns() - start;
		tally.commits++;
		/* The plane borrows the rules that the path is asked about, too. */
		nft_plane_lend(k.plane, t.rules);
		on_changed(&k);
		kernel_settle(&k);
		for (unsigned int i = 0; i < 100; i++) {
			struct fw_made made = { 0 };

			(void)fw_path_tick(
			    path, t.rules, pk_clock_mono_ns() + i * PK_NS_PER_MS, 4096, &made);
			for (unsigned int j = 0; j < made.nb; j++)
				rte_pktmbuf_free(made.pkt[j].m);
		}
		memset(came, 0, nb);
		kernel_collect(&k, came, 0);
		for (uint32_t i = 0; i < nb; i++) {
			unsigned int which = pick(NB_FLOWS);
			struct flow *f = &flows[which];
			struct judged *j = &judged[i];
			uint8_t frame[FRAME];
			bool outside;
			uint32_t len, l4;

			if (pick(40) == 0) {
				flow_begin(f);
				lives[which]++;
			}
			j->state = (uint8_t)f->phase;
			j->flow = *f;
			len = flow_packet(f, (uint16_t)i, frame, &outside);
			l4 = 14 + (f->family == 4 ? 20u : 40u);
			j->which = which;
			j->life = lives[which];
			j->from_outside = outside;
			j->flags = f->proto == IPPROTO_TCP ? frame[l4 + 13] : 0;
			memcpy(&j->seq, frame + l4 + 4, 4);
			memcpy(&j->ack, frame + l4 + 8, 4);
			j->seq = ntohl(j->seq);
			j->ack = ntohl(j->ack);
			j->len = len - l4;
			memcpy(j->frame, frame, sizeof(j->frame));
			j->passed =
			    path_one(path, t.rules, pool, frame, len, outside, pk_clock_mono_ns());
			drops_of(path, &j->drop, before);
			must(send(k.fd[outside], frame, len, 0) == (ssize_t)len, "send");
			if (i % 64 == 63)
				kernel_collect(&k, came, nb);
		}
		usleep(1000);
		kernel_collect(&k, came, nb);
		for (uint32_t i = 0; i < nb; i++) {
			struct judged *j = &judged[i];
			const char *why;

			tally.packets++;
			see(j);
			if (bad_life[j->which] == j->life) {
				tally.left_alone++;
				continue;
			}
			tally.passed += j->passed && came[i];
			tally.dropped += !j->passed && !came[i];
			if (j->passed == came[i])
				continue;
			bad_life[j->which] = j->life;
			why = meant(j, came[i] != 0);
			if (why != NULL) {
				note_meant(&tally, why);
				continue;
			}
			if (tally.differ++ >= limit)
				continue;
			/* With what came before, in this policy. */
			for (uint32_t h = 0; h <= i && history; h++)
				if (h == i ||
				    (judged[h].which == j->which && judged[h].life == j->life))
					report(&t, h, &judged[h], came[h] != 0);
			if (!history)
				report(&t, i, j, came[i] != 0);
		}
	}
	printf("%u policies, %" PRIu64 " packets in %.1f s: %" PRIu64 " passed and %" PRIu64
	       " dropped by both, %" PRIu64 " differ, %" PRIu64
	       " in flows left alone; %.1f ms a commit\n",
	    nb_policies, tally.packets, (double)(pk_clock_mono_ns() - begun) / 1e9, tally.passed,
	    tally.dropped, tally.differ, tally.left_alone,
	    (double)tally.commit_ns / 1e6 / (double)PK_MAX(tally.commits, UINT64_C(1)));
	for (unsigned int i = 0; i < PK_COUNT(tally.meant) && tally.meant[i].name != NULL; i++)
		printf("  meant: %s %" PRIu64 "\n", tally.meant[i].name, tally.meant[i].nb);
	return tally.differ != 0;
}
