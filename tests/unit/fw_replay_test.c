/*
 * Timed packets through the whole packet path under a virtual clock: the .seq files of tests/replay, whose
 * language tests/replay/README.md explains.  Each sequence is a test of its own, on a path of its
 * own.
 *
 * What is checked besides what the lines say:
 *  - each packet has exactly one record, and is on exactly one side of the account;
 *  - what passes is the packet that came, byte for byte, on the other side of its wire;
 *  - what the path makes has right checksums and goes back to the sender of what it answers;
 *  - the account balances, no buffer is lost, and when all time has run out no session is left.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "dpi/app.h"
#include "fw/overlay.h"
#include "fw/path.h"
#include "fw/rule.h"
#include "fw/session.h"
#include "fw/wall.h"
#include "tests/unit/packet.h"
#include "tests/unit/test.h"

#define NB_BUFFERS   255
#define BUFFER_ROOM  (PACKET_MAX + RTE_PKTMBUF_HEADROOM)
#define WORDS_MAX    96
#define RECORDS      256
#define MADE_MAX     4
#define RULES_MAX    16
#define START_NS     (1000 * PK_NS_PER_S) /* of the virtual clock */
#define FOREVER_NS   (400000 * PK_NS_PER_S)
#define COMPLAINTS   3500
#define ID_WORKLOAD  1
#define ID_KNOWN     2
#define ID_IDLE      3
#define PROGRAM_BASE 1 /* + enum pk_direction */

struct line {
	unsigned int number;
	char *text;
};

struct sequence {
	char file[256];
	char name[320];
	unsigned int families; /* bit 0: IPv4, bit 1: IPv6 */
	unsigned int line, nb_lines;
	struct line *lines;
};

/* One test: a sequence in one family. */
struct replay {
	struct fw_wall wall; /* the virtual clock is UTC as well */
	const struct sequence *seq;
	struct packet_stage stage;
	char name[340];

	unsigned int line; /* being read */
	uint64_t now_ns;
	struct fw_path_conf conf;
	struct fw_path *path;
	struct fw_trace *trace;
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint64_t generation;
	uint32_t said;
	uint64_t nb_made;
	struct fw_made told; /* made without a packet since the line before */
	bool with_workload_mac, with_policy;
	char absent[32]; /* who is no longer in the inventory */
	bool scattered;  /* packets lie in several buffers */

	char complaints[COMPLAINTS];
	unsigned int nb_complaints;
};

struct expect_made {
	enum packet_side side;
	char tcp[200]; /* `tcp SIDE WORDS`: the words; "" for rst and icmp */
	bool rst, has_seq, has_ack;
	uint32_t seq, ack;
	uint8_t type, code;
};

struct expect {
	bool pass, opened, closed;
	char reason[32]; /* of a drop */
	char state[32];  /* "": any */
	char as[200];    /* what it becomes on the way; "": it stays as it is */
	unsigned int nb_made;
	struct expect_made made[MADE_MAX];
};

/* What goes into one burst. */
struct batch {
	unsigned int nb;
	struct {
		unsigned int line;
		struct packet packet;
		struct expect expect;
	} item[FW_BURST];
};

static struct rte_mempool *pool;
static struct batch batch;

/* ---- complaints ---- */

static void PK_PRINTF(2, 3) complain(struct replay *r, const char *fmt, ...)
{
	size_t used = strlen(r->complaints);
	va_list ap;

	r->nb_complaints++;
	if (sizeof(r->complaints) - used < 300)
		return;
	used += (size_t)snprintf(
	    r->complaints + used, sizeof(r->complaints) - used, "\n%s:%u: ", r->seq->file, r->line);
	va_start(ap, fmt);
	vsnprintf(r->complaints + used, sizeof(r->complaints) - used, fmt, ap);
	va_end(ap);
}

/* ---- policy ---- */

static void
say(struct replay *r, const struct pk_msg *m)
{
	struct pk_diag diag = { 0 };
	struct fw_rules *out = NULL;
	int rc = pk_msg_check(m, sizeof(*m), &diag);

	if (rc == 0)
		rc = fw_rules_state_apply(r->state, m, &out, &diag);
	if (rc < 0)
		complain(r, "policy: %s", diag.text);
	if (m->h.type != PK_MSG_POLICY_BEGIN)
		r->said++;
	if (out != NULL) {
		/* Once a newer generation is handed in, the path may not look at an older one. */
		fw_rules_destroy(r->rules);
		r->rules = out;
	}
}

static void
say_identity(struct replay *r, uint32_t identity, const char *labels, bool subject)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, r->generation);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = identity;
	if (subject)
		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++)
			m.identity.program[d] = PROGRAM_BASE + d;
	snprintf(m.identity.tenant_name, sizeof(m.identity.tenant_name), "acme");
	snprintf(m.identity.labels, sizeof(m.identity.labels), "%s", labels);
	say(r, &m);
}

static void
say_endpoint(struct replay *r, const char *who, uint32_t vrf, uint32_t identity, bool local,
    uint16_t wire, const uint8_t *mac)
{
	for (unsigned int family = 4; family <= 6; family += 2) {
		struct pk_msg m;

		if (strcmp(who, r->absent) == 0)
			continue;
		pk_msg_init(&m, PK_MSG_ENDPOINT, r->generation);
		m.endpoint.op = PK_OP_PUT;
		m.endpoint.local = local;
		m.endpoint.wire = wire;
		m.endpoint.vrf = vrf;
		m.endpoint.identity = identity;
		(void)packet_addr(&m.endpoint.addr, family, who);
		if (mac != NULL) {
			m.endpoint.has_mac = 1;
			memcpy(m.endpoint.mac, mac, 6);
		}
		snprintf(m.endpoint.name, sizeof(m.endpoint.name), "acme/%s", who);
		say(r, &m);
	}
}

struct policy_rule {
	enum pk_direction direction;
	enum pk_verdict verdict;
	bool has_peer, has_service;
	uint32_t app[PK_MSG_APPS];
	struct pk_rule_terms terms;
	struct pk_schedule when;
	struct pk_prefix peer;
	const char *name; /* pattern of the peer's; NULL: none */
	struct pk_service service;
};

static bool
one_of(const char *word, const char *const *list, unsigned int n, unsigned int *which)
{
	for (unsigned int i = 0; i < n; i++) {
		if (strcmp(word, list[i]) == 0) {
			*which = i;
			return true;
		}
	}
	return false;
}

/* What may stand before `app`: `encryption WORD`, `inspect WORD`, `fail open`, `dscp N`, `new N`, `packets N`, `bytes N`,
 * `when HH:MM-HH:MM` (UTC).  Returns how many words, 0 if it is
 * none of these. */
static unsigned int
parse_terms(char **words, unsigned int n, struct pk_rule_terms *t, struct pk_schedule *when)
{
	if (n < 2)
		return 0;
	if (strcmp(words[0], "encryption") == 0) {
		for (t->encryption = 1; t->encryption < PK_ENCRYPTION_COUNT; t->encryption++)
			if (strcmp(words[1], pk_encryption_name(t->encryption)) == 0)
				return 2;
	} else if (strcmp(words[0], "inspect") == 0) {
		for (t->inspect = 1; t->inspect < PK_INSPECT_COUNT; t->inspect++)
			if (strcmp(words[1], pk_inspect_name(t->inspect)) == 0)
				return 2;
	} else if (strcmp(words[0], "dscp") == 0) {
		t->dscp = (uint8_t)(PK_DSCP | strtoul(words[1], NULL, 10));
		return 2;
	} else if (strcmp(words[0], "new") == 0) {
		t->sessions_per_s = (uint32_t)strtoul(words[1], NULL, 10);
		return 2;
	} else if (strcmp(words[0], "packets") == 0) {
		t->packets_per_s = (uint32_t)strtoul(words[1], NULL, 10);
		return 2;
	} else if (strcmp(words[0], "bytes") == 0) {
		t->bytes_per_s = strtoull(words[1], NULL, 10);
		return 2;
	} else if (strcmp(words[0], "when") == 0) {
		unsigned int h[2], m[2];

		if (sscanf(words[1], "%u:%u-%u:%u", &h[0], &m[0], &h[1], &m[1]) != 4)
			return 0;
		*when = (struct pk_schedule){ .days = 127,
			.start_min = (uint16_t)(h[0] * 60 + m[0]),
			.end_min = (uint16_t)(h[1] * 60 + m[1]),
			.from_day = PK_DAY_FIRST,
			.until_day = PK_DAY_LAST };
		return 2;
	} else if (strcmp(words[0], "fail") == 0 && strcmp(words[1], "open") == 0) {
		t->fail_open = 1;
		return 2;
	}
	return 0;
}

/* [egress|ingress] allow|deny|reject|pass [peer WHO] [name PATTERN] [tcp|udp|icmp|sctp [LOW[-HIGH]]] [TERMS]
 * [app NAME ...] */
static int
parse_rule(struct replay *r, char **words, unsigned int n, struct policy_rule *rule, bool *both)
{
	static const char *const directions[] = { "egress", "ingress" };
	static const char *const verdicts[] = { "deny", "reject", "allow", "pass" };
	static const char *const protos[] = { "tcp", "udp", "icmp", "sctp", "gre" };
	static const uint8_t numbers[] = { 6, 17, 1, 132, 47 };
	unsigned int i = 0, which;

	memset(rule, 0, sizeof(*rule));
	*both = !(i < n && one_of(words[i], directions, 2, &which));
	if (!*both) {
		rule->direction = (enum pk_direction)which;
		i++;
	}
	if (i >= n || !one_of(words[i], verdicts, 4, &which))
		return -EINVAL;
	rule->verdict = (enum pk_verdict)which;
	i++;
	if (i + 1 < n && strcmp(words[i], "peer") == 0) {
		if (packet_addr(&rule->peer.addr, r->stage.family, words[i + 1]) < 0)
			return -EINVAL;
		rule->peer.len = (uint8_t)pk_addr_bits(&rule->peer.addr);
		rule->has_peer = true;
		i += 2;
	}
	if (i + 1 < n && strcmp(words[i], "name") == 0) {
		rule->name = words[i + 1];
		rule->has_peer = true;
		i += 2;
	}
	if (i < n && one_of(words[i], protos, PK_COUNT(protos), &which)) {
		rule->has_service = true;
		rule->service.proto = numbers[which];
		if (which == 2 && r->stage.family == 6)
			rule->service.proto = 58;
		rule->service.high = UINT16_MAX;
		i++;
		if (i < n && words[i][0] >= '0' && words[i][0] <= '9') {
			unsigned int low, high;
			int got = sscanf(words[i], "%u-%u", &low, &high);

			if (got < 1)
				return -EINVAL;
			rule->service.low = (uint16_t)low;
			rule->service.high = (uint16_t)(got == 2 ? high : low);
			i++;
		}
	}
	for (which = 1; which != 0; i += which)
		which = parse_terms(words + i, n - i, &rule->terms, &rule->when);
	if (i + 1 < n && strcmp(words[i], "app") == 0) {
		unsigned int nb = 0;

		for (i++; i < n; i++, nb++) {
			if (nb == PK_MSG_APPS || dpi_app_find(words[i]) == DPI_APP_UNKNOWN)
				return -EINVAL;
			rule->app[nb] = dpi_app_id(words[i]);
			for (unsigned int k = nb; k > 0 && rule->app[k] < rule->app[k - 1]; k--) {
				uint32_t t = rule->app[k];

				rule->app[k] = rule->app[k - 1];
				rule->app[k - 1] = t;
			}
		}
	}
	return i == n ? 0 : -EINVAL;
}

static void
say_program(struct replay *r, enum pk_direction d, const struct policy_rule *rules, unsigned int n)
{
	struct pk_msg m;
	unsigned int nb = 0;

	pk_msg_init(&m, PK_MSG_PROGRAM, r->generation);
	m.program.op = PK_OP_PUT;
	m.program.direction = (uint8_t)d;
	m.program.program = PROGRAM_BASE + d;
	for (unsigned int i = 0; i < n; i++)
		nb += rules[i].direction == d;
	m.program.nb_rules = nb;
	say(r, &m);
	nb = 0;
	for (unsigned int i = 0; i < n; i++) {
		if (rules[i].direction != d)
			continue;
		pk_msg_init(&m, PK_MSG_RULE, r->generation);
		m.rule.program = PROGRAM_BASE + d;
		m.rule.id = 100 * (d + 1) + nb;
		m.rule.index = nb++;
		m.rule.line = r->line;
		m.rule.verdict = (uint8_t)rules[i].verdict;
		snprintf(m.rule.policy, sizeof(m.rule.policy), "replay");
		snprintf(m.rule.name, sizeof(m.rule.name), "%s-%u", pk_direction_name(d), nb);
		memcpy(m.rule.app, rules[i].app, sizeof(m.rule.app));
		m.rule.terms = rules[i].terms;
		m.rule.schedule = rules[i].when;
		m.rule.match.any_peer = !rules[i].has_peer;
		m.rule.match.any_service = !rules[i].has_service;
		if (rules[i].has_peer) {
			m.rule.match.nb_peers = 1;
			m.rule.match.peer[0] = i + 1;
		}
		if (rules[i].has_service) {
			m.rule.match.nb_services = 1;
			m.rule.match.service[0] = rules[i].service;
		}
		say(r, &m);
	}
}

/* `policy RULE; RULE; ...`: a whole new generation, or `policy none`: as if none had ever come. */
static void
set_policy(struct replay *r, char **words, unsigned int n)
{
	static const uint32_t vrfs[] = { 0, 10, 20, 10 << 12 | 20, FW_VRF_VNI | 5001 };
	struct policy_rule rules[RULES_MAX + 1];
	unsigned int nb = 0, start = 0;
	struct pk_msg m;

	r->with_policy = true;
	if (n == 1 && strcmp(words[0], "none") == 0) {
		fw_rules_destroy(r->rules);
		r->rules = NULL;
		return;
	}
	for (unsigned int i = 0; i <= n; i++) {
		bool both;

		if (i < n && strcmp(words[i], ";") != 0)
			continue;
		if (nb + 1 >= RULES_MAX ||
		    parse_rule(r, words + start, i - start, &rules[nb], &both) < 0) {
			complain(r, "cannot read rule %u of this policy", nb + 1);
			return;
		}
		if (both) {
			rules[nb].direction = PK_EGRESS;
			rules[nb + 1] = rules[nb];
			rules[++nb].direction = PK_INGRESS;
		}
		nb++;
		start = i + 1;
	}
	r->generation++;
	r->said = 0;
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, r->generation);
	m.begin.full = 1;
	say(r, &m);
	say_identity(r, ID_WORKLOAD, "app=web", true);
	say_identity(r, ID_KNOWN, "app=db", false);
	say_identity(r, ID_IDLE, "app=idle", false);
	/* The workload also speaks on VLAN 10, on VLAN 20, on VLAN 20 inside VLAN 10, and in virtual network 5001; in 5002 its
	 * address is another tenant's, who has no policy. */
	for (unsigned int i = 0; i < PK_COUNT(vrfs); i++)
		say_endpoint(r, "workload", vrfs[i], ID_WORKLOAD, true, 0,
		    r->with_workload_mac ? packet_workload_mac : NULL);
	say_endpoint(r, "workload", FW_VRF_VNI | 5002, ID_IDLE, true, 0, NULL);
	say_endpoint(r, "neighbour", 0, ID_WORKLOAD, true, 0, NULL);
	say_endpoint(r, "idle", 0, ID_IDLE, true, 0, NULL);
	say_endpoint(r, "elsewhere", 0, ID_WORKLOAD, true, 1, NULL);
	say_endpoint(r, "known", 0, ID_KNOWN, false, 0, NULL);
	for (unsigned int i = 0; i < nb; i++) {
		if (!rules[i].has_peer)
			continue;
		pk_msg_init(&m, PK_MSG_SET, r->generation);
		m.set.op = PK_OP_PUT;
		m.set.kind = rules[i].name != NULL ? PK_SET_NAME : PK_SET_PREFIX;
		m.set.set = i + 1;
		snprintf(m.set.name, sizeof(m.set.name), "%s",
		    rules[i].name != NULL ? rules[i].name : "");
		say(r, &m);
		if (rules[i].name != NULL)
			continue;
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, r->generation);
		m.members.op = PK_OP_PUT;
		m.members.kind = PK_SET_PREFIX;
		m.members.set = i + 1;
		m.members.count = 1;
		m.members.prefix[0] = rules[i].peer;
		say(r, &m);
	}
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++)
		say_program(r, (enum pk_direction)d, rules, nb);
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, r->generation);
	m.commit.nb_messages = r->said;
	say(r, &m);
}

/* ---- expectations ---- */

static int
join(char *out, size_t out_len, char **words, unsigned int n)
{
	size_t used = 0;

	for (unsigned int i = 0; i < n; i++)
		used += (size_t)snprintf(out + PK_MIN(used, out_len - 1),
		    out_len - PK_MIN(used, out_len - 1), "%s ", words[i]);
	return n > 0 && used < out_len ? 0 : -EINVAL;
}

static int
parse_made(struct replay *r, char **words, unsigned int n, struct expect_made *e)
{
	unsigned int i = 2;

	if (n < 2)
		return -EINVAL;
	if (strcmp(words[0], "tcp") == 0) {
		e->side = strcmp(words[1], "in") == 0 ? PACKET_IN : PACKET_OUT;
		return join(e->tcp, sizeof(e->tcp), words + 2, n - 2);
	}
	e->rst = strcmp(words[0], "rst") == 0;
	e->side = strcmp(words[1], "in") == 0 ? PACKET_IN : PACKET_OUT;
	if (e->side == PACKET_OUT && strcmp(words[1], "out") != 0)
		return -EINVAL;
	if (!e->rst)
		return n == 3 && strcmp(words[0], "icmp") == 0
		    ? packet_icmp(r->stage.family, words[2], &e->type, &e->code)
		    : -EINVAL;
	for (; i + 1 < n; i += 2) {
		bool ack = strcmp(words[i], "ack") == 0;

		if ((!ack && strcmp(words[i], "seq") != 0) ||
		    packet_number(ack ? &e->ack : &e->seq, words[i + 1]) < 0)
			return -EINVAL;
		*(ack ? &e->has_ack : &e->has_seq) = true;
	}
	return i == n ? 0 : -EINVAL;
}

/* pass|drop REASON [STATE] [opened] [closed] [; rst SIDE seq N [ack N]] [; icmp SIDE NAME] */
static int
parse_expect(struct replay *r, char **words, unsigned int n, struct expect *e)
{
	unsigned int i = 1;

	memset(e, 0, sizeof(*e));
	if (n == 0)
		return -EINVAL;
	e->pass = strcmp(words[0], "pass") == 0 || strcmp(words[0], "ended") == 0;
	if (!e->pass) {
		bool known = false;

		if (strcmp(words[0], "drop") != 0 || n < 2)
			return -EINVAL;
		snprintf(e->reason, sizeof(e->reason), "%s", words[1]);
		for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
			known |= strcmp(fw_drop_name(d), e->reason) == 0;
		if (!known)
			return -EINVAL;
		i = 2;
	}
	for (; i < n && strcmp(words[i], ";") != 0; i++) {
		if (strcmp(words[i], "opened") == 0)
			e->opened = true;
		else if (strcmp(words[i], "closed") == 0 && e->state[0] != '\0')
			e->closed = true;
		else if (e->state[0] == '\0')
			snprintf(e->state, sizeof(e->state), "%s", words[i]);
		else
			return -EINVAL;
	}
	while (i < n) {
		unsigned int start = ++i;

		while (i < n && strcmp(words[i], ";") != 0)
			i++;
		if (i > start && strcmp(words[start], "as") == 0) {
			if (join(e->as, sizeof(e->as), words + start + 1, i - start - 1) < 0)
				return -EINVAL;
			continue;
		}
		if (e->nb_made == MADE_MAX ||
		    parse_made(r, words + start, i - start, &e->made[e->nb_made++]) < 0)
			return -EINVAL;
	}
	return 0;
}

static unsigned int
split(char *text, char **words)
{
	unsigned int n = 0;
	char *save = NULL, *hash = strchr(text, '#');

	if (hash != NULL)
		*hash = '\0';
	for (char *p = strtok_r(text, " \t\n", &save); p != NULL && n < WORDS_MAX;
	     p = strtok_r(NULL, " \t\n", &save))
		words[n++] = p;
	return n;
}

/* ---- packets ---- */

/* In one piece, or as ports hand over packets that they have scattered: in several. */
static struct rte_mbuf *
mbuf_from(const struct packet *p, bool scattered)
{
	static const size_t pieces[] = { 15, 30, 9, 1, PACKET_MAX };
	struct rte_mbuf *head = NULL;
	size_t off = 0;

	for (unsigned int i = 0; i == 0 || off < p->len; i++) {
		size_t len = PK_MIN(scattered ? pieces[i] : p->len, p->len - off);
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		char *to = m != NULL ? rte_pktmbuf_append(m, (uint16_t)len) : NULL;

		if (to == NULL || (head != NULL && rte_pktmbuf_chain(head, m) != 0)) {
			rte_pktmbuf_free(m);
			rte_pktmbuf_free(head);
			return NULL;
		}
		memcpy(to, p->bytes + off, len);
		off += len;
		if (head == NULL)
			head = m;
	}
	if (p->partial) {
		uint16_t sum = rte_cpu_to_be_16(p->partial_sum);

		memcpy(rte_pktmbuf_mtod_offset(head, char *, p->partial_at), &sum, sizeof(sum));
		head->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
	}
	return head;
}

static uint64_t
sum_sides(const pk_counter *c)
{
	return pk_counter_read(&c[FW_INSIDE]) + pk_counter_read(&c[FW_OUTSIDE]);
}

static uint64_t
sum_drops(const struct fw_path_stats *s)
{
	uint64_t sum = 0;

	for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
		sum += pk_counter_read(&s->drop[d]);
	return sum;
}

/*
 * Whether a frame is what `text` says of one that comes in on `side`: TCP by what a receiver reads, all else
 * byte for byte.  Numbers given as =NAME are taken down under that name.
 */
static void
check_frame(struct replay *r, const char *side, const char *text, const uint8_t *bytes, size_t len)
{
	static struct packet want;
	struct packet_view v, w;
	char copy[256], found[256], err[256], number[32][16];
	char *words[WORDS_MAX] = { (char *)side };
	unsigned int n;

	snprintf(copy, sizeof(copy), "%s", text);
	n = split(copy, words + 1) + 1;
	packet_read(&v, bytes, len);
	for (unsigned int i = 2; i < n && i < 32; i++) {
		uint32_t seen = strcmp(words[i - 1], "ts") == 0 ? v.tsval : v.seq;

		if (words[i][0] != '=')
			continue;
		if (packet_set(words[i] + 1, seen) < 0)
			complain(r, "too many names");
		snprintf(number[i], sizeof(number[i]), "%" PRIu32, seen);
		words[i] = number[i];
	}
	if (packet_build(&want, &r->stage, words, n, err, sizeof(err)) < 0) {
		complain(r, "%s", err);
		return;
	}
	packet_read(&w, want.bytes, want.len);
	packet_text(bytes, len, found, sizeof(found));
	if (w.proto != 6) {
		if (want.len != len || memcmp(want.bytes, bytes, len) != 0)
			complain(r, "expected %s, came %s", text, found);
		return;
	}
	if (v.ip - v.ether != w.ip - w.ether ||
	    memcmp(v.ether, w.ether, (size_t)(v.ip - v.ether)) != 0)
		complain(r, "expected %s, came with another link header", text);
	if (v.family == 0 || !v.checksums_ok)
		complain(r, "expected %s, came with wrong checksums or lengths: %s", text, found);
	if (v.family != w.family || v.proto != w.proto || pk_addr_compare(&v.src, &w.src) != 0 ||
	    pk_addr_compare(&v.dst, &w.dst) != 0 || v.sport != w.sport || v.dport != w.dport ||
	    v.seq != w.seq || v.ack != w.ack || v.tcp_flags != w.tcp_flags || v.win != w.win ||
	    v.payload_len != w.payload_len)
		complain(r, "expected %swin %u, came %s win %u", text, w.win, found, v.win);
	if (v.mss != w.mss || v.scale != w.scale || v.sackok != w.sackok ||
	    v.timestamps != w.timestamps || v.tsval != w.tsval || v.tsecr != w.tsecr ||
	    v.nb_sack != w.nb_sack || memcmp(v.sack, w.sack, sizeof(v.sack)) != 0)
		complain(r,
		    "expected %s, came with mss %d ws %d sackok %d ts %" PRIu32 " %" PRIu32
		    " sack (%u) %" PRIu32 "-%" PRIu32,
		    text, v.mss, v.scale, v.sackok, v.tsval, v.tsecr, v.nb_sack, v.sack[0],
		    v.sack[1]);
}

/* Whether a packet the path made is the answer `e` to what came as `p`. */
static void
check_made(
    struct replay *r, const struct packet *p, struct rte_mbuf *m, const struct expect_made *e)
{
	struct packet_view v, to;
	char text[256];
	uint8_t flat[PACKET_MAX];
	const uint8_t *bytes = rte_pktmbuf_read(m, 0, m->pkt_len, flat);
	size_t most = r->stage.family == 4 ? 576 : 1280;

	if (bytes == NULL) {
		complain(r, "made a packet that cannot be read");
		return;
	}
	if (e->tcp[0] != '\0') {
		snprintf(text, sizeof(text), "tcp %s", e->tcp);
		check_frame(r, e->side == PACKET_IN ? "out" : "in", text, bytes, m->pkt_len);
		return;
	}
	packet_read(&v, bytes, m->pkt_len);
	packet_read(&to, p->bytes, p->len);
	packet_text(bytes, m->pkt_len, text, sizeof(text));
	if (v.family == 0 || !v.checksums_ok)
		complain(r, "made a packet with wrong checksums or lengths: %s", text);
	if (v.family == 0)
		return;
	if (memcmp(v.ether, to.ether + (e->side == p->side ? 6 : 0), 6) != 0 || v.hops == 0 ||
	    memcmp(v.ether + 12, to.ether + 12, (size_t)(v.ip - v.ether) - 12) != 0)
		complain(r, "made a packet with wrong MAC address, VLAN or hop limit: %s", text);
	if (v.vni != to.vni || memcmp(bytes, p->bytes + (e->side == p->side ? 6 : 0), 6) != 0 ||
	    pk_addr_compare(&v.tunnel_dst, e->side == p->side ? &to.tunnel_src : &to.tunnel_dst) !=
	        0)
		complain(r, "made a packet for another tunnel: %s", text);
	if (e->rst) {
		bool has_ack = (v.tcp_flags & 0x10) != 0;

		if (v.proto != 6 || (v.tcp_flags & ~0x10) != 0x04 || v.payload_len != 0 ||
		    pk_addr_compare(&v.src, e->side == p->side ? &to.dst : &to.src) != 0 ||
		    pk_addr_compare(&v.dst, e->side == p->side ? &to.src : &to.dst) != 0 ||
		    v.sport != (e->side == p->side ? to.dport : to.sport) ||
		    v.dport != (e->side == p->side ? to.sport : to.dport) ||
		    (e->has_seq && v.seq != e->seq) || e->has_ack != has_ack ||
		    (has_ack && v.ack != e->ack))
			complain(r, "expected RST seq %" PRIu32 " %s %" PRIu32 ", made %s", e->seq,
			    e->has_ack ? "ack" : "without ack,", e->ack, text);
	} else {
		if (v.proto != (r->stage.family == 4 ? 1 : 58) || v.icmp_type != e->type ||
		    v.icmp_code != e->code || pk_addr_compare(&v.dst, &to.src) != 0)
			complain(r, "expected ICMP type %u code %u to the sender, made %s", e->type,
			    e->code, text);
		else if (v.ip_len > most || v.payload_len < PK_MIN(to.ip_len, (size_t)28) ||
		    v.payload_len > to.ip_len || memcmp(v.payload, to.ip, v.payload_len) != 0)
			complain(r,
			    "the ICMP error must hold the start of the packet, and at most %zu bytes: %s",
			    most, text);
	}
}

/*
 * Packets that passed are on the other side, unaltered and in order; the rest has been made, and on
 * each side in the order in which it is expected.
 */
static void
check_out(struct replay *r, struct rte_mbuf *const *in, const struct fw_trace_record *judged,
    const struct fw_burst *out)
{
	bool used[FW_BURST][MADE_MAX] = { { false } };
	bool came[FW_BURST] = { false };
	uint8_t flat[PACKET_MAX];
	char text[256];

	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		unsigned int last = 0;

		for (unsigned int n = 0; n < out->nb[side]; n++) {
			struct rte_mbuf *m = out->pkt[side][n];
			const uint8_t *bytes = rte_pktmbuf_read(m, 0, m->pkt_len, flat);
			unsigned int i, k = 0;
			const struct packet *p;

			/* A buffer that was freed may come again; that of a packet that passed not. */
			for (i = 0; i < batch.nb; i++)
				if (judged[i].drop == FW_DROP_NONE && in[i] == m)
					break;
			if (i < batch.nb) {
				p = &batch.item[i].packet;
				r->line = batch.item[i].line;
				if ((unsigned int)p->side == side || came[i] || i < last)
					complain(r, "came out on the wrong side or out of order");
				if (batch.item[i].expect.as[0] != '\0' && bytes != NULL) {
					const char *from = p->side == PACKET_IN ? "in" : "out";
					struct packet_view v, was;

					packet_read(&v, bytes, m->pkt_len);
					packet_read(&was, p->bytes, p->len);
					check_frame(
					    r, from, batch.item[i].expect.as, bytes, m->pkt_len);
					if (was.proto == 6 &&
					    (v.payload_len != was.payload_len ||
					        memcmp(v.payload, was.payload, v.payload_len) != 0))
						complain(r, "passed, with other data");
				} else if (m->pkt_len != p->len || bytes == NULL ||
				    memcmp(bytes, p->bytes, p->len) != 0)
					complain(r, "passed, but altered");
				came[i] = true;
				last = i;
				continue;
			}
			r->nb_made++;
			for (i = 0; i < batch.nb; i++) {
				const struct expect *e = &batch.item[i].expect;

				for (k = 0; k < e->nb_made; k++)
					if (!used[i][k] && (unsigned int)e->made[k].side == side)
						break;
				if (k < e->nb_made)
					break;
			}
			if (i == batch.nb) {
				complain(r, "made a packet nobody expected, %s: %s",
				    side == FW_INSIDE ? "in" : "out",
				    packet_text(bytes, m->pkt_len, text, sizeof(text)));
				continue;
			}
			used[i][k] = true;
			r->line = batch.item[i].line;
			check_made(r, &batch.item[i].packet, m, &batch.item[i].expect.made[k]);
		}
	}
	for (unsigned int i = 0; i < batch.nb; i++) {
		const struct expect *e = &batch.item[i].expect;

		r->line = batch.item[i].line;
		if (judged[i].drop == FW_DROP_NONE && !came[i])
			complain(r, "passed by the record, but did not come out");
		for (unsigned int k = 0; k < e->nb_made; k++)
			if (!used[i][k])
				complain(r, "expected a made %s %s, none came",
				    e->made[k].rst ? "RST" : "ICMP",
				    e->made[k].side == PACKET_IN ? "in" : "out");
	}
}

static const char *
state_of(const struct fw_trace_record *t)
{
	return t->session != 0 ? fw_session_state_name(t->state) : "-";
}

static void
check_record(struct replay *r, const struct packet *p, const struct expect *e,
    const struct fw_trace_record *t)
{
	bool passed = t->drop == FW_DROP_NONE;
	const char *state = state_of(t);

	if (passed == e->pass && (e->pass || strcmp(e->reason, fw_drop_name(t->drop)) == 0) &&
	    (e->state[0] == '\0' || strcmp(e->state, state) == 0)) {
		if (t->from != (uint8_t)p->side || t->wire != p->wire || t->len != p->len)
			complain(r, "the record has wrong side, wire or length");
		return;
	}
	complain(r, "expected %s%s %s, came %s%s %s", e->pass ? "pass" : "drop ",
	    e->pass ? "" : e->reason, e->state[0] != '\0' ? e->state : "(any)",
	    passed ? "pass" : "drop ", passed ? "" : fw_drop_name(t->drop), state);
}

/* Hand over what has been collected, and see what becomes of it. */
static void
feed(struct replay *r)
{
	const struct fw_path_stats *s = fw_path_stats(r->path);
	uint64_t rx = sum_sides(s->rx), sent = sum_sides(s->sent), dropped = sum_drops(s);
	uint64_t drops[FW_DROP_COUNT], made = pk_counter_read(&s->made);
	static struct fw_trace_record t[RECORDS], judged[FW_BURST];
	const struct packet *first = &batch.item[0].packet;
	unsigned int n, nb_judged = 0, nb_made = 0, nb_passed = 0;
	struct rte_mbuf *in[FW_BURST], *handed[FW_BURST];
	static struct fw_burst out;
	bool opened = false, closed = false;

	for (unsigned int i = 0; i < batch.nb; i++) {
		handed[i] = in[i] =
		    mbuf_from(&batch.item[i].packet, r->scattered && !batch.item[i].packet.partial);
		if (in[i] == NULL) {
			complain(r, "no buffer: the path has kept them");
			while (i-- > 0)
				rte_pktmbuf_free(in[i]);
			return;
		}
	}
	for (unsigned int d = 0; d < FW_DROP_COUNT; d++)
		drops[d] = pk_counter_read(&s->drop[d]);
	(void)fw_trace_take(r->trace, t, RECORDS); /* of ticks in between */
	out.nb[FW_INSIDE] = out.nb[FW_OUTSIDE] = 0;
	fw_path_burst(r->path, r->rules, first->wire,
	    first->side == PACKET_IN ? FW_INSIDE : FW_OUTSIDE, handed, batch.nb, r->now_ns, &out);
	n = fw_trace_take(r->trace, t, RECORDS);
	for (unsigned int i = 0; i < n; i++) {
		if (t[i].kind == FW_TRACE_PACKET && nb_judged++ < batch.nb)
			judged[nb_judged - 1] = t[i];
		nb_made += t[i].kind == FW_TRACE_MADE;
		opened |= t[i].kind == FW_TRACE_OPENED;
		closed |= t[i].kind == FW_TRACE_CLOSED;
	}
	if (nb_judged != batch.nb) {
		complain(r, "%u records for %u packets", nb_judged, batch.nb);
		goto done;
	}
	for (unsigned int i = 0; i < batch.nb; i++) {
		const struct expect *e = &batch.item[i].expect;

		r->line = batch.item[i].line;
		check_record(r, &batch.item[i].packet, e, &judged[i]);
		if ((e->opened && !opened) || (e->closed && !closed))
			complain(
			    r, "no record that the session %s", e->opened ? "opened" : "closed");
		if (judged[i].drop < FW_DROP_COUNT)
			drops[judged[i].drop]++;
		nb_passed += judged[i].drop == FW_DROP_NONE;
	}
	for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
		if (drops[d] != pk_counter_read(&s->drop[d]))
			complain(r, "the counter of %s does not agree with the records",
			    fw_drop_name(d));
	if (sum_sides(s->rx) != rx + batch.nb || sum_sides(s->sent) != sent + nb_passed ||
	    sum_drops(s) != dropped + batch.nb - nb_passed)
		complain(r, "not every packet is counted once");
	if (pk_counter_read(&s->made) != made + nb_made)
		complain(r, "%u records of made packets, and %" PRIu64 " counted", nb_made,
		    pk_counter_read(&s->made) - made);
	check_out(r, in, judged, &out);
done:
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		for (unsigned int i = 0; i < out.nb[side]; i++)
			rte_pktmbuf_free(out.pkt[side][i]);
}

static void
flush(struct replay *r)
{
	unsigned int line = r->line;

	if (batch.nb > 0)
		feed(r);
	batch.nb = 0;
	r->line = line;
}

/* ---- the lines of a sequence ---- */

/* A live path is called all the time, so time goes on in steps. */
static void
run_to(struct replay *r, uint64_t ns)
{
	uint64_t step = PK_MAX((ns - r->now_ns) / 4096, PK_NS_PER_S / 2);
	struct fw_trace_record t[64];
	struct fw_made made;
	bool more;

	for (;;) {
		r->now_ns = PK_MIN(r->now_ns + step, ns);
		fw_wall_tick(&r->wall, r->rules, r->now_ns, r->now_ns);
		do {
			more = fw_path_tick(r->path, r->rules, r->now_ns, 64, &made);
			for (unsigned int i = 0; i < made.nb; i++) {
				if (r->told.nb < MADE_MAX)
					r->told.pkt[r->told.nb++] = made.pkt[i];
				else
					rte_pktmbuf_free(made.pkt[i].m);
			}
			r->nb_made += made.nb;
		} while (more || made.nb > 0);
		while (fw_trace_take(r->trace, t, PK_COUNT(t)) > 0)
			;
		if (r->now_ns == ns)
			return;
	}
}

static int
parse_time(const char *word, uint64_t now, uint64_t *ns)
{
	bool relative = *word == '+';
	char *end;
	double s = strtod(word, &end);

	if (end == word || *end != '\0' || s < 0)
		return -EINVAL;
	*ns = (relative ? now : START_NS) + (uint64_t)(s * 1e9 + 0.5);
	return *ns >= now ? 0 : -EINVAL;
}

static const char *const timeout_names[FW_TIMEOUT_COUNT] = {
	[FW_TIMEOUT_TCP_SYN_SENT] = "tcp-syn-sent",
	[FW_TIMEOUT_TCP_SYN_RECV] = "tcp-syn-recv",
	[FW_TIMEOUT_TCP_ESTABLISHED] = "tcp-established",
	[FW_TIMEOUT_TCP_FIN_WAIT] = "tcp-fin-wait",
	[FW_TIMEOUT_TCP_TIME_WAIT] = "tcp-time-wait",
	[FW_TIMEOUT_TCP_CLOSED] = "tcp-closed",
	[FW_TIMEOUT_UDP_NEW] = "udp-new",
	[FW_TIMEOUT_UDP] = "udp",
	[FW_TIMEOUT_ICMP] = "icmp",
	[FW_TIMEOUT_OTHER] = "other",
	[FW_TIMEOUT_FRAGMENT] = "fragment",
};

/* sessions|half-open|new-per-workload|tenant|source */
static bool
set_limit(struct replay *r, const char *name, uint32_t n)
{
	static const char *const owners[FW_OWNER_COUNT] = { "workload", "tenant", "source" };

	for (unsigned int o = 0; o < FW_OWNER_COUNT; o++) {
		struct fw_limits *l = &r->conf.limit[o];
		char text[3][32];

		snprintf(text[0], sizeof(text[0]), "sessions-per-%s", owners[o]);
		snprintf(text[1], sizeof(text[1]), "half-open-per-%s", owners[o]);
		snprintf(text[2], sizeof(text[2]), "new-per-%s", owners[o]);
		for (unsigned int k = 0; k < 3; k++) {
			if (strcmp(name, text[k]) == 0) {
				*(k == 0 ? &l->sessions : k == 1 ? &l->half_open : &l->rate) = n;
				return true;
			}
		}
	}
	return false;
}

static const struct fw_overlay overlay = {
	.vxlan = 4789,
	.geneve = 6081,
	.nb_peers = 2,
	.peer = { { .addr = { .family = 4, .bytes = { 203, 0, 113 } }, .len = 24 },
	    { .addr = { .family = 6, .bytes = { 0x20, 0x01, 0x0d, 0xb8, 0, 2 } }, .len = 64 } },
};

/* The router's networks, and link-local addresses, by which IPv6 routers answer. */
static void
set_dhcp_servers(struct replay *r)
{
	static const char *const networks[] = { "203.0.113.0/24", "2001:db8:2::/64", "fe80::1" };

	for (unsigned int i = 0; i < PK_COUNT(networks); i++)
		(void)pk_prefix_parse(&r->conf.dhcp_server[i], networks[i], NULL);
	r->conf.nb_dhcp_servers = PK_COUNT(networks);
}

static void
set_dns_server(struct replay *r, const char *who)
{
	struct pk_prefix *p = &r->conf.dns_server[0];

	if (packet_addr(&p->addr, r->stage.family, who) < 0)
		return;
	p->len = (uint8_t)pk_addr_bits(&p->addr);
	r->conf.nb_dns_servers = 1;
}

static bool
set_option(struct replay *r, char **words, unsigned int n)
{
	if (n == 3 && strcmp(words[0], "set") == 0) {
		bool yes = strcmp(words[2], "yes") == 0;

		if (strcmp(words[1], "tcp-loose") == 0)
			r->conf.tcp_loose = yes;
		else if (strcmp(words[1], "verify-checksums") == 0)
			r->conf.verify_checksums = yes;
		else if (strcmp(words[1], "workload-mac") == 0)
			r->with_workload_mac = yes;
		else if (strcmp(words[1], "sessions") == 0)
			r->conf.nb_sessions = (uint32_t)atoi(words[2]);
		else if (set_limit(r, words[1], (uint32_t)atoi(words[2])))
			return true;
		else if (strcmp(words[1], "syn-cookies") == 0)
			r->conf.syn_cookies = (uint32_t)atoi(words[2]);
		else if (strcmp(words[1], "inspect-sessions") == 0)
			r->conf.inspect_sessions = (uint32_t)atoi(words[2]);
		else if (strcmp(words[1], "inspect-packets") == 0)
			r->conf.inspect_packets = (uint16_t)atoi(words[2]);
		else if (strcmp(words[1], "inspect-fail-open") == 0)
			r->conf.inspect_open = yes;
		else if (strcmp(words[1], "dhcp-server") == 0)
			set_dhcp_servers(r);
		else if (strcmp(words[1], "dns-server") == 0)
			set_dns_server(r, words[2]);
		else if (strcmp(words[1], "learnt-names") == 0)
			r->conf.nb_names = (uint32_t)atoi(words[2]);
		else if (strcmp(words[1], "overlay") == 0)
			r->conf.overlay = yes ? &overlay : NULL;
		else if (strcmp(words[1], "ftp-helper") == 0)
			r->conf.ftp = yes;
		else if (strcmp(words[1], "tftp-helper") == 0)
			r->conf.tftp = yes;
		else if (strcmp(words[1], "reevaluate-rate") == 0)
			r->conf.reevaluate_rate = (uint32_t)atoi(words[2]);
		else
			return false;
		return true;
	}
	if (n == 3 && strcmp(words[0], "timeout") == 0) {
		for (unsigned int t = 0; t < FW_TIMEOUT_COUNT; t++) {
			if (strcmp(timeout_names[t], words[1]) == 0) {
				r->conf.timeout_ns[t] = (uint64_t)atoi(words[2]) * PK_NS_PER_S;
				return true;
			}
		}
		return false;
	}
	if (n == 2 && strcmp(words[0], "absent") == 0) {
		snprintf(r->absent, sizeof(r->absent), "%s", words[1]);
		return true;
	}
	if (n == 2 && strcmp(words[0], "client") == 0) {
		r->stage.client_outside = strcmp(words[1], "out") == 0;
		return r->stage.client_outside || strcmp(words[1], "in") == 0;
	}
	if (n == 3 && strcmp(words[0], "ports") == 0) {
		r->stage.client_port = (uint16_t)atoi(words[1]);
		r->stage.server_port = (uint16_t)atoi(words[2]);
		return true;
	}
	return false;
}

static bool
ready(struct replay *r)
{
	char *allow[] = { (char[]){ "allow" } };

	if (r->path != NULL)
		return true;
	if (!r->with_policy)
		set_policy(r, allow, 1);
	if (fw_path_create(&r->path, &r->conf) < 0) {
		complain(r, "fw_path_create refused the options");
		return false;
	}
	return true;
}

static bool run_line(struct replay *r, char *text);

/* `open [isn C S] [win C S] [ws C S]`: the three packets that nearly every connection begins with. */
static bool
run_open(struct replay *r, char **words, unsigned int n)
{
	const char *client = r->stage.client_outside ? "out" : "in";
	const char *server = r->stage.client_outside ? "in" : "out";
	uint32_t isn[2] = { 1000, 5000 }, win[2] = { 65535, 65535 }, ws[2] = { 0 };
	char scale[2][32] = { "", "" }, text[256];
	double now = (double)(r->now_ns - START_NS) / 1e9;

	for (unsigned int i = 0; i < n; i += 3) {
		uint32_t *to = strcmp(words[i], "isn") == 0 ? isn
		    : strcmp(words[i], "win") == 0          ? win
		    : strcmp(words[i], "ws") == 0           ? ws
		                                            : NULL;

		if (to == NULL || i + 2 >= n || packet_number(&to[0], words[i + 1]) < 0 ||
		    packet_number(&to[1], words[i + 2]) < 0) {
			complain(r, "open wants isn, win or ws, of client and server");
			return false;
		}
		if (to == ws)
			for (unsigned int side = 0; side < 2; side++)
				snprintf(scale[side], sizeof(scale[side]), "ws %u", ws[side]);
	}
	snprintf(text, sizeof(text), "%.9f %s tcp S seq %u win %u mss 1460 %s -> pass syn-sent",
	    now, client, isn[0], win[0], scale[0]);
	if (!run_line(r, text))
		return false;
	snprintf(text, sizeof(text),
	    "%.9f %s tcp SA seq %u ack %u win %u mss 1460 %s -> pass syn-recv", now, server, isn[1],
	    isn[0] + 1, win[1], scale[1]);
	if (!run_line(r, text))
		return false;
	/* The same window, as far as scaling can say it. */
	win[0] = (win[0] + (1u << ws[0]) - 1) >> ws[0];
	snprintf(text, sizeof(text), "%.9f %s tcp A seq %u ack %u win %u -> pass established", now,
	    client, isn[0] + 1, isn[1] + 1, win[0]);
	return run_line(r, text);
}

/* `told PACKET -> ended ; rst ...`: what has been made without a packet is as if it answered this one. */
static void
check_told(struct replay *r, const struct packet *p, const struct expect *e)
{
	bool used[MADE_MAX] = { false };

	for (unsigned int i = 0; i < r->told.nb; i++) {
		unsigned int k = 0, nb = p != NULL ? e->nb_made : 0;

		while (k < nb && (used[k] || (unsigned int)e->made[k].side != r->told.pkt[i].side))
			k++;
		if (k < nb) {
			used[k] = true;
			if (r->told.pkt[i].wire != p->wire)
				complain(r, "told on the wrong wire");
			check_made(r, p, r->told.pkt[i].m, &e->made[k]);
		} else {
			complain(r, "somebody was told of something nobody expected");
		}
		rte_pktmbuf_free(r->told.pkt[i].m);
	}
	r->told.nb = 0;
	for (unsigned int k = 0; p != NULL && k < e->nb_made; k++)
		if (!used[k])
			complain(r, "expected somebody to be told");
}

/* `app NAME`: what every session that there is speaks; none, looking, unknown. */
struct app_check {
	struct replay *r;
	const char *want;
	unsigned int nb;
};

static bool
check_app(void *arg, const struct fw_session_info *info)
{
	struct app_check *c = arg;
	const char *have = fw_app_name(info->app);

	c->nb++;
	if (strcmp(have, c->want) != 0)
		complain(c->r, "expected a session of %s, not of %s", c->want, have);
	return true;
}

/* Returns false when there is no point in going on. */
static bool
run_line(struct replay *r, char *text)
{
	char *words[WORDS_MAX], err[256];
	unsigned int n = split(text, words), arrow = 0;
	bool more = n > 0 && strcmp(words[0], "&") == 0; /* in the burst of the line before */
	struct packet *packet;
	uint64_t at = r->now_ns;

	if (n == 0 || strcmp(words[0], "family") == 0)
		return true;
	if (!more)
		flush(r);
	if (strcmp(words[0], "policy") == 0) {
		set_policy(r, words + 1, n - 1);
		return true;
	}
	if (set_option(r, words, n)) {
		if (r->path != NULL && strcmp(words[0], "client") != 0 &&
		    strcmp(words[0], "absent") != 0 && strcmp(words[0], "ports") != 0)
			complain(r, "options come before the first packet");
		return true;
	}
	if (!more && parse_time(words[0], r->now_ns, &at) < 0) {
		complain(r, "neither an option nor a time that goes on: \"%s\"", words[0]);
		return false;
	}
	if (!ready(r))
		return false;
	run_to(r, at);
	if (n < 2 || strcmp(words[1], "told") != 0)
		check_told(r, NULL, NULL);
	if (n == 3 && strcmp(words[1], "sessions") == 0) {
		uint32_t want = (uint32_t)atoi(words[2]), have = fw_path_nb_sessions(r->path);

		if (have != want)
			complain(r, "expected %u sessions, there are %u", want, have);
		return true;
	}
	if (n == 3 && strcmp(words[1], "inspected") == 0) {
		uint32_t want = (uint32_t)atoi(words[2]), have = fw_path_inspecting(r->path);

		if (have != want)
			complain(
			    r, "expected %u sessions under inspection, there are %u", want, have);
		return true;
	}
	if (n == 3 && strcmp(words[1], "app") == 0) {
		struct app_check c = { r, words[2], 0 };
		uint32_t cursor = 0;

		fw_path_walk(r->path, r->now_ns, &cursor, UINT32_MAX, check_app, &c);
		if (c.nb == 0)
			complain(r, "expected a session of %s, there is none at all", words[2]);
		return true;
	}
	if (n >= 2 && strcmp(words[1], "open") == 0)
		return run_open(r, words + 2, n - 2);
	while (arrow < n && strcmp(words[arrow], "->") != 0)
		arrow++;
	if (arrow > 2 && strcmp(words[1], "told") == 0) {
		static struct packet like;
		struct expect e;

		if (arrow == n || parse_expect(r, words + arrow + 1, n - arrow - 1, &e) < 0 ||
		    packet_build(&like, &r->stage, words + 2, arrow - 2, err, sizeof(err)) < 0) {
			complain(r, "cannot read who is told what");
			return false;
		}
		check_told(r, &like, &e);
		return true;
	}
	if (arrow == n || batch.nb == FW_BURST ||
	    parse_expect(r, words + arrow + 1, n - arrow - 1, &batch.item[batch.nb].expect) < 0) {
		complain(r, "cannot read what is expected");
		return false;
	}
	packet = &batch.item[batch.nb].packet;
	if (packet_build(packet, &r->stage, words + 1, arrow - 1, err, sizeof(err)) < 0) {
		complain(r, "%s", err);
		return false;
	}
	if (packet->side != batch.item[0].packet.side ||
	    packet->wire != batch.item[0].packet.wire) {
		complain(r, "a burst comes from one side of one wire");
		return false;
	}
	batch.item[batch.nb++].line = r->line;
	return true;
}

static void
check_end(struct replay *r)
{
	const struct fw_path_stats *s = fw_path_stats(r->path);
	uint64_t rx = sum_sides(s->rx), sent = sum_sides(s->sent), drops = sum_drops(s);

	check_told(r, NULL, NULL);
	if (rx != sent + drops)
		complain(r, "received %" PRIu64 " is not sent %" PRIu64 " + dropped %" PRIu64, rx,
		    sent, drops);
	if (pk_counter_read(&s->made) != r->nb_made)
		complain(r, "made %" PRIu64 " packets, counted %" PRIu64, r->nb_made,
		    pk_counter_read(&s->made));
	run_to(r, r->now_ns + FOREVER_NS);
	check_told(r, NULL, NULL);
	if (fw_path_inspecting(r->path) != 0)
		complain(r, "%u sessions are inspected without end", fw_path_inspecting(r->path));
	if (fw_path_nb_sessions(r->path) != 0)
		complain(r, "%u sessions outlive all timeouts", fw_path_nb_sessions(r->path));
	if (fw_path_nb_hosts(r->path) != 0)
		complain(r, "%u workloads still hold something", fw_path_nb_hosts(r->path));
	if (fw_trace_lost(r->trace) != 0)
		complain(r, "trace records were lost");
}

/* The sequence once, on a path of its own. */
static void
run_sequence(struct replay *r)
{
	/* What we say, and what is taken for said: RFC 9293 section 3.7.1. */
	(void)packet_set("MSS", r->stage.family == 4 ? 1460 : 1440);
	(void)packet_set("QUOTE", r->stage.family == 4 ? 28 : 48);
	(void)packet_set("DEFAULT", r->stage.family == 4 ? 536 : 1220);
	r->stage.client_outside = false;
	r->stage.client_port = 40000;
	r->stage.server_port = 443;
	r->with_policy = r->with_workload_mac = false;
	r->generation = 0;
	r->absent[0] = '\0';
	r->nb_made = 0;
	r->told.nb = 0;
	fw_path_conf_init(&r->conf);
	r->conf.nb_sessions = 1024;
	r->conf.seed[0] = 0x0123456789abcdef;
	r->conf.seed[1] = 0xfedcba9876543210;
	r->conf.huge = false;
	r->conf.reevaluate_rate = 0; /* most sequences want to see what packets do */
	r->conf.pool = pool;
	r->now_ns = START_NS;
	r->line = r->seq->line;
	assert_int_equal(fw_trace_create(&r->trace, RECORDS), 0);
	fw_trace_set_level(r->trace, FW_TRACE_ALL);
	r->conf.trace = r->trace;
	r->conf.wall = &r->wall;
	assert_int_equal(fw_rules_state_create(&r->state), 0);

	for (unsigned int i = 0; i < r->seq->nb_lines; i++) {
		char *text = strdup(r->seq->lines[i].text);
		bool go_on;

		assert_non_null(text);
		r->line = r->seq->lines[i].number;
		go_on = run_line(r, text);
		free(text);
		if (!go_on)
			break;
	}
	if (r->path != NULL) {
		flush(r);
		check_end(r);
	}
	batch.nb = 0;
	fw_path_destroy(r->path);
	fw_rules_destroy(r->rules);
	fw_rules_state_destroy(r->state);
	fw_trace_destroy(r->trace);
	r->path = NULL;
	r->rules = NULL;
	if (rte_mempool_avail_count(pool) != NB_BUFFERS)
		complain(r, "%u buffers did not come back", rte_mempool_in_use_count(pool));
}

static void
test_sequence(void **state)
{
	struct replay *r = *state;

	run_sequence(r);
	if (r->nb_complaints == 0) {
		r->scattered = true;
		run_sequence(r);
		if (r->nb_complaints > 0)
			complain(r, "and all that in scattered buffers only");
	}
	/* As fail_msg(), which would print past the TAP lines. */
	_assert_true(r->nb_complaints == 0, r->complaints, r->seq->file, (int)r->seq->line);
}

/* ---- reading the files ---- */

static struct sequence *sequences;
static unsigned int nb_sequences;

static void PK_NORETURN PK_PRINTF(1, 2) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("Bail out! ");
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	exit(1);
}

static void *
grown(void *array, unsigned int n, size_t size)
{
	/* Doubling at powers of two. */
	if ((n & (n - 1)) == 0)
		array = realloc(array, (n == 0 ? 1 : 2 * (size_t)n) * size);
	if (array == NULL)
		die("no memory");
	return array;
}

static void
read_file(const char *dir, const char *file)
{
	char path[1200], line[2048];
	unsigned int number = 0;
	struct sequence *s = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "r");
	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f) != NULL) {
		char first[64] = "", second[64] = "";

		number++;
		if (sscanf(line, "%63s %63s", first, second) < 1 || first[0] == '#')
			continue;
		if (strcmp(first, "sequence") == 0) {
			sequences = grown(sequences, nb_sequences, sizeof(*sequences));
			s = &sequences[nb_sequences++];
			memset(s, 0, sizeof(*s));
			snprintf(s->file, sizeof(s->file), "%s", file);
			snprintf(s->name, sizeof(s->name), "%.*s/%s", (int)strcspn(file, "."), file,
			    second);
			s->families = 1;
			s->line = number;
			continue;
		}
		if (s == NULL)
			die("%s:%u: a file starts with `sequence NAME`", file, number);
		if (strcmp(first, "family") == 0)
			s->families = strcmp(second, "both") == 0 ? 3
			    : strcmp(second, "6") == 0            ? 2
			                                          : 1;
		s->lines = grown(s->lines, s->nb_lines, sizeof(*s->lines));
		s->lines[s->nb_lines].number = number;
		s->lines[s->nb_lines++].text = strdup(line);
	}
	fclose(f);
}

static int
is_seq(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 4 && strcmp(d->d_name + n - 4, ".seq") == 0;
}

/* One test for each family of each sequence whose name contains `only`. */
static unsigned int
make_tests(struct CMUnitTest **out, struct replay **replays, const char *only)
{
	struct CMUnitTest *tests = calloc(2 * (size_t)nb_sequences + 1, sizeof(*tests));
	unsigned int n = 0;

	*replays = calloc(2 * (size_t)nb_sequences + 1, sizeof(**replays));
	if (tests == NULL || *replays == NULL)
		die("no memory");
	for (unsigned int i = 0; i < nb_sequences; i++) {
		for (unsigned int family = 4; family <= 6; family += 2) {
			struct replay *r = &(*replays)[n];

			if ((sequences[i].families & (family == 4 ? 1 : 2)) == 0 ||
			    (only != NULL && strstr(sequences[i].name, only) == NULL))
				continue;
			r->seq = &sequences[i];
			r->stage.family = family;
			snprintf(r->name, sizeof(r->name), "%s IPv%u", sequences[i].name, family);
			tests[n].name = r->name;
			tests[n].test_func = test_sequence;
			tests[n].initial_state = r;
			n++;
		}
	}
	*out = tests;
	return n;
}

int
main(int argc, char **argv)
{
	static char a0[] = "fw_replay_test", a1[] = "--no-huge", a2[] = "--no-pci", a3[] = "-m",
	            a4[] = "128", a5[] = "--no-telemetry", a6[] = "--no-shconf",
	            a7[] = "--iova-mode=va", a8[] = "--log-level=lib.*:error", a9[] = "-l",
	            a10[] = "0";
	char *eal[] = { a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 };
	const char *srcdir = getenv("SRCDIR");
	char dir[900];
	struct dirent **files;
	struct CMUnitTest *tests;
	struct replay *replays;
	unsigned int n;
	int nb_files, failed;

	snprintf(dir, sizeof(dir), "%s/tests/replay", srcdir != NULL ? srcdir : "..");
	nb_files = scandir(dir, &files, is_seq, alphasort);
	if (nb_files <= 0)
		die("no sequences in %s", dir);
	for (int i = 0; i < nb_files; i++) {
		read_file(dir, files[i]->d_name);
		free(files[i]);
	}
	free(files);
	if (rte_eal_init((int)PK_COUNT(eal), eal) < 0)
		die("rte_eal_init failed");
	pool =
	    rte_pktmbuf_pool_create("replay", NB_BUFFERS, 0, 0, BUFFER_ROOM, (int)rte_socket_id());
	if (pool == NULL)
		die("no packet buffers");
	n = make_tests(&tests, &replays, argc > 1 ? argv[1] : NULL);
	failed = _cmocka_run_group_tests("fw/replay", tests, n, NULL, NULL);
	for (unsigned int i = 0; i < nb_sequences; i++) {
		for (unsigned int k = 0; k < sequences[i].nb_lines; k++)
			free(sequences[i].lines[k].text);
		free(sequences[i].lines);
	}
	free(sequences);
	free(tests);
	free(replays);
	rte_eal_cleanup();
	return failed != 0;
}
