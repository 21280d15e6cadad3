/*
 * Signatures in the packet path, and what is done to get past them: segments cut, repeated, contradicted, sent out of
 * order, out of window, with wrong checksums and dying TTLs; requests written in every way that a server still reads.
 *
 * Behind the path stand receivers of two kinds, one that believes the first bytes and one that believes the last.
 * A signature that says drop has held when neither of them ever has the whole attack.  The same tricks with a harmless
 * payload, where they are no tricks, have to arrive.
 */
#include <netinet/in.h>
#include <zlib.h>

#include "dpi/watch.h"
#include "fw/path_priv.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define ROOM  65536
#define ISN   UINT32_C(1000)
#define PEER  UINT32_C(5000)
#define BYTES 16384 /* of each direction that are inspected */

static struct rte_mempool *pool;
static struct fw_path *path;
static struct fw_rules *rules;
static struct fw_trace *trace;
static struct dpi_set *set;
static struct dpi_watch_set *watch_set;
static uint64_t now = PK_NS_PER_S;
static uint16_t port = 20000;
static unsigned int nb_cases;

static const char signatures[] =
    "drop http any any -> any any (msg:\"path\"; flow:to_server,established; http.uri; content:\"/cgi-bin/attack\"; sid:1;)\n"
    "drop tcp any any -> any any (msg:\"raw\"; flow:to_server,established; content:\"EVILBYTES\"; sid:2;)\n"
    "reject tcp any any -> any any (msg:\"told\"; flow:to_server; content:\"REJECTME\"; sid:3;)\n"
    "alert tcp any any -> any any (msg:\"seen\"; flow:to_server; content:\"NOTICEME\"; sid:4;)\n"
    "pass tcp any any -> any any (msg:\"trusted\"; flow:to_server; content:\"LETMEPASS\"; sid:5;)\n"
    "drop udp any any -> any any (msg:\"datagram\"; content:\"EVILBYTES\"; sid:6;)\n"
    "drop http any any -> any any (msg:\"body\"; flow:to_client; file.data; content:\"evil body\"; sid:7;)\n"
    "drop http any any -> any any (msg:\"posted\"; flow:to_server; http.request_body; content:\"evil=post\"; sid:8;)\n"
    "drop dns any any -> any any (msg:\"name\"; dns.query; content:\"evil.example\"; nocase; sid:9;)\n"
    "drop tls any any -> any any (msg:\"server\"; tls.sni; content:\"evil.example\"; nocase; sid:10;)\n"
    "drop http any any -> any any (msg:\"host\"; http.host; content:\"evil.example\"; sid:11;)\n"
    "drop http any any -> any any (msg:\"agent\"; http.user_agent; content:\"Evil/1\"; sid:12;)\n"
    "drop tcp any any -> any any (msg:\"two parts\"; flow:to_server,established; content:\"FIRSTPART\"; content:\"SECONDPART\"; distance:0; sid:13;)\n";

static const char attack[] = "GET /cgi-bin/attack?x=1 HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
static const char harmless[] = "GET /cgi-bin/counter?x=1 HTTP/1.1\r\nHost: www.example.org\r\n\r\n";

/* ---- the path, and what stands behind it ---- */

static struct dpi_set *
compile(const char *text)
{
	struct dpi_vars *vars;
	struct dpi_set *s;
	struct pk_diag diag = { "" };

	assert_int_equal(dpi_vars_create(&vars), 0);
	assert_int_equal(dpi_set_create(&s, vars), 0);
	if (dpi_set_add(s, "signatures", text, strlen(text), NULL, &diag) < 0 ||
	    dpi_set_finish(s, &diag) < 0)
		fail_msg("%s", diag.text);
	assert_int_equal(dpi_set_nb_refused(s), 0);
	return s;
}

static void
start(uint8_t mode, size_t memory, bool loose)
{
	static const struct world_rule all[] = { { PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0,
		                                     0 },
		{ PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 0 } };
	struct fw_path_conf conf;
	struct fw_made made;

	fw_path_conf_init(&conf);
	conf.nb_sessions = 16384;
	conf.seed[0] = 3;
	conf.seed[1] = 4;
	conf.pool = pool;
	conf.huge = false;
	conf.tcp_loose = loose;
	conf.verify_checksums = true;
	conf.inspect_all = mode;
	conf.inspect_open = mode == PK_INSPECT_STANDARD;
	conf.watch_memory = memory;
	conf.watch_bytes = BYTES;
	assert_int_equal(fw_trace_create(&trace, 4096), 0);
	conf.trace = trace;
	assert_int_equal(fw_path_create(&path, &conf), 0);
	rules = world_rules(1, 4, true, all, 2);
	set = compile(signatures);
	assert_int_equal(dpi_watch_set_create(&watch_set, fw_path_watches(path), set), 0);
	fw_path_offer_signatures(path, watch_set);
	(void)fw_path_tick(path, rules, now, 64, &made);
}

static void
stop(void)
{
	assert_true(world_balanced(path));
	fw_path_destroy(path);
	dpi_watch_set_destroy(watch_set);
	dpi_set_destroy(set);
	fw_rules_destroy(rules);
	fw_trace_destroy(trace);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static uint64_t
dropped(enum fw_drop why)
{
	return pk_counter_read(&fw_path_stats(path)->drop[why]);
}

/* How often a signature has been told of since the last call. */
static unsigned int
alerts(uint32_t sid)
{
	struct fw_trace_record r[64];
	unsigned int n, found = 0;

	while ((n = fw_trace_take(trace, r, 64)) > 0)
		for (unsigned int i = 0; i < n; i++)
			found += r[i].kind == FW_TRACE_ALERT && r[i].sig->sid == sid;
	return found;
}

/* What happens to a packet besides. */
enum trick {
	NONE = 0,
	BAD_CHECKSUM = 1 << 0, /* the receiver does not take it */
	LOW_TTL = 1 << 1,      /* nor does it get this one */
	OLD_RST = 1 << 2,
};

struct receiver {
	uint8_t first[ROOM], last[ROOM];
	bool have[ROOM];
	uint32_t next;   /* in order */
	uint32_t resets; /* from the path */
};

struct talk {
	uint8_t family;
	uint16_t client, server;
	uint32_t isn, peer;
	struct receiver to_server, to_client;
	bool dead; /* the path refuses all of it */
};

static bool
put(const struct world_pkt *w, unsigned int tricks, unsigned int *answers)
{
	static uint8_t frame[ROOM];
	uint32_t len = world_frame(w, frame);
	enum fw_side from = w->from_outside ? FW_OUTSIDE : FW_INSIDE,
	             to = w->from_outside ? FW_INSIDE : FW_OUTSIDE;
	uint8_t *ip = frame + 14;
	struct fw_burst out;
	struct rte_mbuf *m;
	bool passed;

	if (tricks & BAD_CHECKSUM)
		frame[14 + (w->family == 4 ? 20 : 40) + 16] ^= 0x55;
	if ((tricks & LOW_TTL) && w->family == 4) {
		uint16_t sum;

		ip[8] = 1;
		ip[10] = ip[11] = 0;
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else if (tricks & LOW_TTL) {
		ip[7] = 1;
	}
	m = world_mbuf(pool, frame, len);
	now += PK_NS_PER_MS;
	fw_path_burst(path, rules, 0, from, &m, 1, now, &out);
	passed = out.nb[to] > 0 && out.pkt[to][out.nb[to] - 1] == m;
	if (answers != NULL)
		*answers += out.nb[FW_INSIDE] + out.nb[FW_OUTSIDE] - passed;
	for (unsigned int s = 0; s < FW_SIDE_COUNT; s++)
		rte_pktmbuf_free_bulk(out.pkt[s], out.nb[s]);
	return passed;
}

static bool
segment(struct talk *t, bool back, uint8_t flags, uint32_t seq, const void *body, uint32_t len,
    unsigned int tricks)
{
	struct receiver *r = back ? &t->to_client : &t->to_server;
	uint32_t base = (back ? t->peer : t->isn) + 1, at = seq - base;
	bool passed = put(&(struct world_pkt){ .family = t->family,
	                      .proto = IPPROTO_TCP,
	                      .from_outside = back,
	                      .in = 1,
	                      .out = 9,
	                      .sport = back ? t->server : t->client,
	                      .dport = back ? t->client : t->server,
	                      .seq = seq,
	                      .ack = flags & FW_TCP_ACK ? (back ? t->isn + 1 + t->to_server.next
	                                                        : t->peer + 1 + t->to_client.next)
	                                                : 0,
	                      .flags = flags,
	                      .win = 60000,
	                      .payload = (uint16_t)len,
	                      .body = body },
	    tricks, &r->resets);

	if (!passed || (tricks & (BAD_CHECKSUM | LOW_TTL)) || (flags & FW_TCP_RST))
		return passed;
	if (flags & FW_TCP_SYN)
		at = 0;
	for (uint32_t i = 0; i < len; i++) {
		uint32_t o = at + i;

		if (o >= ROOM)
			continue;
		if (!r->have[o])
			r->first[o] = r->last[o] = ((const uint8_t *)body)[i];
		else if (o >= r->next)
			r->last[o] = ((const uint8_t *)body)[i];
		r->have[o] = true;
	}
	while (r->next < ROOM && r->have[r->next])
		r->next++;
	return true;
}

static struct talk *
begin(uint8_t family, uint32_t isn)
{
	static struct talk t;

	memset(&t, 0, sizeof(t));
	t.family = family;
	t.client = ++port;
	t.server = 80;
	t.isn = isn;
	t.peer = PEER;
	(void)segment(&t, false, FW_TCP_SYN, isn, NULL, 0, 0);
	(void)segment(&t, true, FW_TCP_SYN | FW_TCP_ACK, PEER, NULL, 0, 0);
	(void)segment(&t, false, FW_TCP_ACK, isn + 1, NULL, 0, 0);
	return &t;
}

static bool
say(struct talk *t, uint32_t at, const void *body, uint32_t len, unsigned int tricks)
{
	return segment(t, false, FW_TCP_ACK | FW_TCP_PSH, t->isn + 1 + at, body, len, tricks);
}

static bool
answer(struct talk *t, uint32_t at, const void *body, uint32_t len)
{
	return segment(t, true, FW_TCP_ACK | FW_TCP_PSH, t->peer + 1 + at, body, len, 0);
}

static bool
arrived(const struct receiver *r, const char *bytes, uint32_t len)
{
	return r->next >= len &&
	    (memcmp(r->first, bytes, len) == 0 || memcmp(r->last, bytes, len) == 0);
}

/* The attack must not have got there; `what` names the case. */
static void
held(const struct talk *t, const char *bytes, uint32_t len, const char *what, long detail)
{
	nb_cases++;
	if (arrived(&t->to_server, bytes, len))
		fail_msg("IPv%u, %s %ld: the attack went through", t->family, what, detail);
}

static void
reached(const struct talk *t, const char *bytes, uint32_t len, const char *what, long detail)
{
	nb_cases++;
	if (!arrived(&t->to_server, bytes, len))
		fail_msg("IPv%u, %s %ld: a harmless session was hurt", t->family, what, detail);
}

static const uint8_t families[] = { 4, 6 };
#define EACH_FAMILY(f) for (const uint8_t *f = families; f < families + 2; f++)

/* ---- segments ---- */

static void
cut(uint8_t family, const char *text, uint32_t len, bool evil)
{
	struct talk *t;

	for (uint32_t at = 1; at < len; at++) {
		t = begin(family, ISN);
		say(t, 0, text, at, 0);
		say(t, at, text + at, len - at, 0);
		(evil ? held : reached)(t, text, len, "cut at", at);
		t = begin(family, ISN);
		say(t, at, text + at, len - at, 0);
		say(t, 0, text, at, 0);
		(evil ? held : reached)(t, text, len, "cut, back to front, at", at);
	}
	for (uint32_t size = 1; size <= 7; size += 2) {
		t = begin(family, ISN);
		for (uint32_t at = 0; at < len; at += size)
			say(t, at, text + at, PK_MIN(size, len - at), 0);
		(evil ? held : reached)(t, text, len, "in pieces of", size);
		t = begin(family, ISN);
		for (uint32_t at = (len - 1) / size * size;; at -= size) {
			say(t, at, text + at, PK_MIN(size, len - at), 0);
			if (at == 0)
				break;
		}
		/* Many loose pieces may be refused for want of room, and come again. */
		for (uint32_t at = 0; at < len && !evil; at += size)
			say(t, at, text + at, PK_MIN(size, len - at), 0);
		(evil ? held : reached)(t, text, len, "from behind, in pieces of", size);
	}
}

static void
test_segments(void **state)
{
	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		cut(*f, attack, sizeof(attack) - 1, true);
		cut(*f, harmless, sizeof(harmless) - 1, false);
		cut(*f, "some EVILBYTES here", 19, true);
	}
	assert_true(dropped(FW_DROP_SIG_DROP) > 0);
	stop();
}

/* Numbers that wrap (RFC 9293 section 3.4), at every place of the attack. */
static void
test_wrap(void **state)
{
	uint32_t len = sizeof(attack) - 1;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (uint32_t at = 0; at < len; at += 7) {
			struct talk *t = begin(*f, UINT32_MAX - at);

			say(t, 20, attack + 20, len - 20, 0);
			say(t, 0, attack, 20, 0);
			held(t, attack, len, "wraps at", at);
		}
	}
	stop();
}

/*
 * A decoy over [from, to) of the attack, in several ways that it might reach us and not the receiver, or reach it and
 * be believed or not; before the real bytes and after them.
 */
static void
decoy(uint8_t family, uint32_t from, uint32_t to, unsigned int tricks, bool before, bool loose)
{
	uint32_t len = sizeof(attack) - 1;
	struct talk *t = begin(family, ISN);
	char other[256];

	memset(other, 'x', sizeof(other));
	/* With a hole in front nothing has been delivered yet, and last-wins receivers take what comes. */
	if (!loose)
		say(t, 0, attack, from, 0);
	if (before) {
		say(t, from, other, to - from, tricks);
		say(t, from, attack + from, len - from, 0);
	} else {
		say(t, from, attack + from, len - from - 1, 0);
		say(t, from, other, to - from, tricks);
		say(t, len - 1, attack + len - 1, 1, 0);
	}
	if (loose)
		say(t, 0, attack, from, 0);
	/* And once more, as a sender does who has heard nothing. */
	say(t, 0, attack, len, 0);
	held(t, attack, len, before ? "decoy before" : "decoy after", (long)(from * 1000 + to));
}

static void
test_decoys(void **state)
{
	static const unsigned int tricks[] = { NONE, BAD_CHECKSUM, LOW_TTL };
	static const uint32_t spans[][2] = { { 1, 4 }, { 4, 8 }, { 5, 19 }, { 12, 30 }, { 4, 59 } };

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (size_t k = 0; k < PK_COUNT(tricks); k++)
			for (size_t s = 0; s < PK_COUNT(spans); s++)
				for (unsigned int v = 0; v < 4; v++)
					decoy(
					    *f, spans[s][0], spans[s][1], tricks[k], v & 1, v & 2);
	}
	assert_true(dropped(FW_DROP_SIG_OVERLAP) > 0);
	assert_true(dropped(FW_DROP_L4_CHECKSUM) > 0);
	stop();
}

/* A retransmission is the same bytes again, cut otherwise: it passes. */
static void
test_retransmissions(void **state)
{
	uint32_t len = sizeof(harmless) - 1;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (uint32_t at = 1; at + 9 < len; at += 5) {
			struct talk *t = begin(*f, ISN);

			assert_true(say(t, 0, harmless, at + 5, 0));
			assert_true(say(t, 0, harmless, at, 0));
			assert_true(say(t, at, harmless + at, 9, 0));
			assert_true(say(t, at + 5, harmless + at + 5, len - at - 5, 0));
			reached(t, harmless, len, "sent again from", at);
		}
	}
	assert_int_equal(dropped(FW_DROP_SIG_OVERLAP), 0);
	stop();
}

/* Resets, FINs and SYNs that the receiver does not believe (RFC 5961) must not end inspection. */
static void
test_flags(void **state)
{
	static const struct {
		const char *what;
		uint8_t flags;
		int32_t at; /* from what is due */
	} tricks[] = {
		{ "RST before the window", FW_TCP_RST, -100000 },
		{ "RST within the window", FW_TCP_RST, 50 },
		{ "RST after the window", FW_TCP_RST, 1000000 },
		{ "SYN within", FW_TCP_SYN, 10 },
		{ "SYN again", FW_TCP_SYN, -31 },
		{ "FIN beyond", FW_TCP_FIN | FW_TCP_ACK, 5000 },
		{ "urgent", FW_TCP_URG | FW_TCP_ACK | FW_TCP_PSH, 0 },
		{ "nothing but ACK", FW_TCP_ACK, 0 },
		{ "keep-alive", FW_TCP_ACK, -1 },
	};
	uint32_t len = sizeof(attack) - 1;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (size_t i = 0; i < PK_COUNT(tricks); i++) {
			for (uint32_t at = 10; at < 30; at += 9) {
				struct talk *t = begin(*f, ISN);

				say(t, 0, attack, at, 0);
				(void)segment(t, false, tricks[i].flags,
				    t->isn + 1 + at + (uint32_t)tricks[i].at, NULL, 0, 0);
				say(t, at, attack + at, len - at, 0);
				held(t, attack, len, tricks[i].what, at);
			}
		}
		/* A byte before the first one, and urgent data in the midst of it. */
		for (uint32_t at = 4; at < 20; at += 5) {
			struct talk *t = begin(*f, ISN);

			(void)segment(t, false, FW_TCP_ACK, t->isn, "z", 1, 0);
			say(t, 0, attack, at, 0);
			(void)segment(t, false, FW_TCP_ACK | FW_TCP_URG, t->isn + 1 + at,
			    attack + at, len - at, 0);
			held(t, attack, len, "urgent from", at);
		}
	}
	stop();
}

/* RFC 7413: data in the SYN, all of it and its front. */
static void
test_fast_open(void **state)
{
	uint32_t len = sizeof(attack) - 1;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (uint32_t n = 8; n <= len; n += 17) {
			struct talk t = { .family = *f,
				.client = ++port,
				.server = 80,
				.isn = ISN,
				.peer = PEER };

			(void)segment(&t, false, FW_TCP_SYN, ISN, attack, n, 0);
			(void)segment(&t, true, FW_TCP_SYN | FW_TCP_ACK, PEER, NULL, 0, 0);
			say(&t, n, attack + n, len - n, 0);
			say(&t, 0, attack, len, 0);
			held(&t, attack, len, "in the SYN", n);
		}
	}
	stop();
}

/* ---- what it costs, and when it is over ---- */

static struct dpi_watch_stats
stats(void)
{
	struct dpi_watch_stats s;

	dpi_watches_stats(fw_path_watches(path), &s);
	return s;
}

static void
put_much(struct talk *t, bool back, uint32_t at, uint32_t len)
{
	static uint8_t bytes[1400];

	memset(bytes, 'a', sizeof(bytes));
	for (uint32_t o = 0; o < len; o += sizeof(bytes)) {
		uint32_t n = PK_MIN(len - o, (uint32_t)sizeof(bytes));

		if (back) {
			assert_true(answer(t, at + o, bytes, n));
			assert_true(say(t, t->to_server.next, NULL, 0, 0));
		} else {
			assert_true(say(t, at + o, bytes, n, 0));
			assert_true(answer(t, t->to_client.next, NULL, 0));
		}
	}
}

static void
test_budget(void **state)
{
	uint64_t before;
	struct talk *t;

	(void)state;
	/* Strict: both directions.  Then nothing is left, and nobody looks. */
	start(PK_INSPECT_STRICT, 64u << 20, false);
	t = begin(4, ISN);
	put_much(t, true, 0, BYTES);
	assert_int_equal(stats().sessions, 1);
	put_much(t, false, 0, BYTES);
	assert_int_equal(stats().sessions, 0);
	assert_int_equal(stats().done, 1);
	assert_int_equal(stats().bytes, 0);
	before = stats().packets;
	assert_true(say(t, t->to_server.next, "EVILBYTES", 9, 0));
	assert_int_equal(stats().packets, before);
	/* After an elephant from the server a request is still read. */
	t = begin(4, ISN);
	put_much(t, true, 0, 2 * BYTES);
	assert_false(say(t, 0, attack, sizeof(attack) - 1, 0));
	stop();

	/* Standard: one direction is enough. */
	start(PK_INSPECT_STANDARD, 64u << 20, false);
	t = begin(4, ISN);
	put_much(t, true, 0, BYTES + 1400);
	assert_int_equal(stats().sessions, 0);
	stop();
}

/* Bytes that the receiver has not acknowledged do not buy a verdict: they might have been shown to us alone. */
static void
test_unacknowledged(void **state)
{
	static uint8_t bytes[1024];
	struct talk *t;

	(void)state;
	start(PK_INSPECT_STANDARD, 64u << 20, false);
	memset(bytes, 'a', sizeof(bytes));
	t = begin(4, ISN);
	for (uint32_t o = 0; o < BYTES + 4096; o += sizeof(bytes))
		assert_true(say(t, o, bytes, sizeof(bytes), LOW_TTL));
	assert_int_equal(stats().sessions, 1);
	for (uint32_t o = 0; o < BYTES; o += 512)
		assert_false(say(t, o, attack, sizeof(attack) - 1, 0));
	assert_int_equal(t->to_server.next, 0);
	assert_true(dropped(FW_DROP_SIG_OVERLAP) >= BYTES / 512);
	stop();
}

/* Under 1 KB for one that is silent, and it goes on where it was; nothing after its end. */
static void
test_rest(void **state)
{
	static const struct {
		const char *front, *answer, *attack;
	} kinds[] = {
		{ "GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
		    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", attack },
		{ "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", "EVILBYTES" },
		{ "EHLO client.example\r\n", "250 mail.example\r\n", "EVILBYTES" },
		{ "some EVIL", "what?", "BYTES" },
	};
	enum {
		SESSIONS = 500
	};
	struct fw_made made;

	(void)state;
	for (size_t k = 0; k < PK_COUNT(kinds); k++) {
		uint32_t len = (uint32_t)strlen(kinds[k].front),
		         back = (uint32_t)strlen(kinds[k].answer);

		start(PK_INSPECT_STRICT, 64u << 20, false);
		for (unsigned int i = 0; i < SESSIONS; i++) {
			struct talk *t = begin(4, ISN);

			assert_true(say(t, 0, kinds[k].front, len, 0));
			assert_true(answer(t, 0, kinds[k].answer, back));
			assert_true(say(t, t->to_server.next, NULL, 0, 0));
		}
		assert_int_equal(stats().sessions, SESSIONS);
		now += 3 * PK_NS_PER_S;
		for (unsigned int i = 0; i < SESSIONS; i++)
			(void)fw_path_tick(path, rules, now, 64, &made);
		print_message("# %.0f bytes for a silent session of \"%.4s\"\n",
		    (double)stats().bytes / SESSIONS, kinds[k].front);
		assert_true(stats().bytes <= SESSIONS * 1024);
		for (unsigned int i = 0; i < SESSIONS; i++) {
			struct talk t = { .family = 4,
				.client = (uint16_t)(port - SESSIONS + 1 + i),
				.server = 80,
				.isn = ISN,
				.peer = PEER };

			t.to_client.next = back;
			assert_false(
			    say(&t, len, kinds[k].attack, (uint32_t)strlen(kinds[k].attack), 0));
		}
		assert_int_equal(dropped(FW_DROP_SIG_DROP), SESSIONS);
		assert_int_equal(stats().sessions, 0);
		assert_int_equal(stats().bytes, 0);
		stop();
	}
}

/* When memory is short the silent go first, and strict sessions are refused rather than passed. */
static void
test_shortage(void **state)
{
	static const uint8_t modes[] = { PK_INSPECT_STRICT, PK_INSPECT_STANDARD };

	(void)state;
	for (size_t m = 0; m < PK_COUNT(modes); m++) {
		start(modes[m], 4u << 20, false);
		for (unsigned int i = 0; i < 3000; i++) {
			struct talk *t = begin(4, ISN);

			/* Not to be put together, and not to be acknowledged. */
			say(t, 1000, harmless, sizeof(harmless) - 1, 0);
			say(t, 0, attack, 20, 0);
			now += PK_NS_PER_MS;
		}
		assert_true(stats().bytes <= 4u << 20);
		if (modes[m] == PK_INSPECT_STRICT)
			assert_true(dropped(FW_DROP_SIG_FULL) > 0);
		else
			assert_true(stats().evicted + dropped(FW_DROP_SIG_FULL) > 0);
		stop();
	}
}

/* ---- actions ---- */

static void
test_actions(void **state)
{
	struct talk *t;
	unsigned int resets;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	/* drop: the packet and all that follows, either way, without a word. */
	t = begin(4, ISN);
	assert_false(say(t, 0, attack, sizeof(attack) - 1, 0));
	assert_false(say(t, 0, harmless, sizeof(harmless) - 1, 0));
	assert_false(answer(t, 0, "HTTP/1.1 200 OK\r\n\r\n", 19));
	assert_int_equal(t->to_server.resets + t->to_client.resets, 0);
	assert_int_equal(alerts(1), 1);
	assert_int_equal(stats().bytes, 0);
	/* reject: both are told. */
	t = begin(4, ISN);
	assert_false(say(t, 0, "REJECTME", 8, 0));
	resets = t->to_server.resets + t->to_client.resets;
	assert_int_equal(resets, 2);
	assert_false(say(t, 0, "harmless", 8, 0));
	assert_int_equal(alerts(3), 1);
	/* alert: it passes, and goes on being looked at. */
	t = begin(4, ISN);
	assert_true(say(t, 0, "NOTICEME", 8, 0));
	assert_false(say(t, 8, "EVILBYTES", 9, 0));
	assert_int_equal(alerts(4), 1);
	/* pass: no other rule has a say in it. */
	t = begin(4, ISN);
	assert_true(say(t, 0, "LETMEPASS EVILBYTES", 19, 0));
	assert_true(say(t, 19, "EVILBYTES", 9, 0));
	assert_int_equal(alerts(2), 0);
	/* A datagram is judged alone, and its session with it. */
	assert_false(put(&(struct world_pkt){ .family = 4,
	                     .proto = IPPROTO_UDP,
	                     .in = 1,
	                     .out = 9,
	                     .sport = 999,
	                     .dport = 5555,
	                     .payload = 9,
	                     .body = (const uint8_t *)"EVILBYTES" },
	    0, NULL));
	assert_false(put(&(struct world_pkt){ .family = 4,
	                     .proto = IPPROTO_UDP,
	                     .in = 1,
	                     .out = 9,
	                     .sport = 999,
	                     .dport = 5555,
	                     .payload = 8,
	                     .body = (const uint8_t *)"harmless" },
	    0, NULL));
	stop();
}

/* Parts of one signature in many packets, far from each other. */
static void
test_far_apart(void **state)
{
	static uint8_t between[1200];

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	memset(between, '-', sizeof(between));
	for (unsigned int n = 0; n < 8; n++) {
		struct talk *t = begin(4, ISN);
		uint32_t at = 9;

		assert_true(say(t, 0, "FIRSTPART", 9, 0));
		for (unsigned int i = 0; i < n; i++, at += sizeof(between))
			assert_true(say(t, at, between, sizeof(between), 0));
		assert_false(say(t, at, "SECONDPART", 10, 0));
		nb_cases++;
	}
	stop();
}

/* ---- other signatures take over ---- */

static void
test_swap(void **state)
{
	static const char others[] =
	    "drop tcp any any -> any any (msg:\"new\"; content:\"NEWERBYTES\"; sid:100;)\n";
	struct dpi_set *second;
	struct dpi_watch_set *k;
	struct fw_made made;
	struct talk *old, kept, *fresh;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	old = begin(4, ISN);
	assert_true(say(old, 0, attack, 12, 0)); /* half of it */
	kept = *old;
	second = compile(others);
	assert_int_equal(dpi_watch_set_create(&k, fw_path_watches(path), second), 0);
	fw_path_offer_signatures(path, k);
	(void)fw_path_tick(path, rules, now, 64, &made);
	assert_ptr_equal(dpi_watches_in_use(fw_path_watches(path)), k);
	assert_false(dpi_watch_set_over(watch_set));
	/* New sessions are on the new set ... */
	fresh = begin(4, ISN);
	assert_true(say(fresh, 0, attack, sizeof(attack) - 1, 0));
	assert_false(say(fresh, sizeof(attack) - 1, "NEWERBYTES", 10, 0));
	/* ... and the one in flight finishes on what it began with. */
	assert_false(say(&kept, 12, attack + 12, sizeof(attack) - 1 - 12, 0));
	assert_int_equal(dropped(FW_DROP_SIG_DROP), 2);
	assert_true(dpi_watch_set_over(watch_set));
	assert_false(dpi_watch_set_over(k));
	dpi_watch_set_destroy(watch_set);
	dpi_set_destroy(set);
	watch_set = k;
	set = second;
	stop();
}

/* No signatures at all: strict sessions wait for them, others pass. */
static void
test_none(void **state)
{
	struct fw_made made;

	(void)state;
	for (uint8_t mode = PK_INSPECT_STANDARD; mode <= PK_INSPECT_STRICT; mode++) {
		struct talk *t;

		start(mode, 64u << 20, false);
		fw_path_offer_signatures(path, NULL);
		(void)fw_path_tick(path, rules, now, 64, &made);
		t = begin(4, ISN);
		assert_int_equal(
		    say(t, 0, harmless, sizeof(harmless) - 1, 0), mode == PK_INSPECT_STANDARD);
		assert_int_equal(dropped(FW_DROP_INSPECT_MISSING), mode == PK_INSPECT_STRICT);
		stop();
	}
}

/* ---- requests, written otherwise ---- */

static const char *const requests[] = {
	"GET /cgi-bin/%61ttack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin/%61%74%74%61%63%6b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin//attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET //cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /./cgi-bin/./attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /x/../cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /x/y/../../cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin\\attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin%2fattack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin%5cattack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://a.example/cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin/attack HTTP/1.0\r\n\r\n",
	"GET /cgi-bin/attack\r\n\r\n",
	"GET   /cgi-bin/attack   HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET\t/cgi-bin/attack\tHTTP/1.1\r\nHost: a\r\n\r\n",
	"\r\n\r\nGET /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /cgi-bin/attack HTTP/1.1\nHost: a\n\n",
	"HEAD /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"PUT /cgi-bin/attack HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"OPTIONS /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"FOO /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /cgi-bin/attack HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
	"GET / HTTP/1.1\r\nhOsT: EVIL.example\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\tevil.example \r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n evil.example\r\n\r\n",
	"GET http://evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: Evil/1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nuser-agent:Evil/1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent:\r\n\tEvil/1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nevil=post",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevil=\r\n4\r\npost\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ne\r\n1;x=y\r\nv\r\n07\r\nil=post\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\nevil=post",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nevil=post",
};

static void
test_requests(void **state)
{
	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (size_t i = 0; i < PK_COUNT(requests); i++) {
			uint32_t len = (uint32_t)strlen(requests[i]);

			/* In one piece, byte by byte, and in two. */
			for (uint32_t size = 0; size < 3; size++) {
				struct talk *t = begin(*f, ISN);
				uint32_t each = size == 0 ? len : size == 1 ? 1 : len / 2 + 1;

				for (uint32_t at = 0; at < len; at += each)
					say(t, at, requests[i] + at, PK_MIN(each, len - at), 0);
				held(t, requests[i], len, requests[i], each);
			}
		}
	}
	stop();
}

/* ---- responses ---- */

static uint32_t
squeeze(uint8_t *out, uint32_t room, const char *text, int bits)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)text,
		.avail_in = (uInt)strlen(text),
		.next_out = out,
		.avail_out = room };

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return (uint32_t)z.total_out;
}

static void
respond(uint8_t family, const char *head, const uint8_t *body, uint32_t len, const char *what)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	char front[512];

	for (uint32_t size = 0; size < 2; size++) {
		struct talk *t = begin(family, ISN);
		uint32_t at, each = size == 0 ? len : 1;

		assert_true(say(t, 0, request, sizeof(request) - 1, 0));
		at = (uint32_t)snprintf(front, sizeof(front), "HTTP/1.1 200 OK\r\n%s", head);
		answer(t, 0, front, at);
		for (uint32_t o = 0; o < len; o += each)
			answer(t, at + o, body + o, PK_MIN(each, len - o));
		/* What has no end but the connection's is judged then. */
		(void)segment(t, true, FW_TCP_FIN | FW_TCP_ACK, t->peer + 1 + at + len, NULL, 0, 0);
		nb_cases++;
		if (t->to_client.next >= at + len)
			fail_msg("IPv%u, response %s, pieces of %u: the attack went through",
			    family, what, each);
	}
}

static void
test_responses(void **state)
{
	static const char body[] = "an evil body, of an attacker";
	static const char chunked[] =
	    "5\r\nan ev\r\n3;a=b\r\nil \r\n14\r\nbody, of an attacker\r\n0\r\n\r\n";
	uint8_t packed[512];
	char head[256];
	uint32_t n;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		respond(*f, "Content-Length: 28\r\n\r\n", (const uint8_t *)body, 28, "plain");
		respond(*f, "\r\n", (const uint8_t *)body, 28, "until the end");
		respond(*f, "Transfer-Encoding: chunked\r\n\r\n", (const uint8_t *)chunked,
		    sizeof(chunked) - 1, "chunked");
		respond(*f, "Transfer-Encoding: CHUNKED\r\n\r\n", (const uint8_t *)chunked,
		    sizeof(chunked) - 1, "CHUNKED");
		n = squeeze(packed, sizeof(packed), body, 31);
		snprintf(
		    head, sizeof(head), "Content-Encoding: gzip\r\nContent-Length: %u\r\n\r\n", n);
		respond(*f, head, packed, n, "gzip");
		snprintf(head, sizeof(head),
		    "Content-Encoding: x-gzip\r\nContent-Length: %u\r\n\r\n", n);
		respond(*f, head, packed, n, "x-gzip");
		n = squeeze(packed, sizeof(packed), body, 15);
		snprintf(head, sizeof(head),
		    "Content-Encoding: deflate\r\nContent-Length: %u\r\n\r\n", n);
		respond(*f, head, packed, n, "deflate");
		n = squeeze(packed, sizeof(packed), body, -15);
		respond(*f, head, packed, n, "raw deflate");
	}
	stop();
}

/* ---- TLS and DNS ---- */

static uint32_t
client_hello(uint8_t *out, const char *name)
{
	uint32_t n = (uint32_t)strlen(name), at = 0;
	uint8_t *p = out;

	memset(p, 0, 512);
	p[at++] = 1;
	at += 3;
	p[at++] = 3;
	p[at++] = 3;
	at += 32;
	p[at++] = 0;
	p[at + 1] = 2;
	at += 2;
	p[at++] = 0x13;
	p[at++] = 1;
	p[at++] = 1;
	p[at++] = 0;
	world_put(p + at, n + 9, 2);
	at += 2;
	world_put(p + at, 0, 2);
	world_put(p + at + 2, n + 5, 2);
	world_put(p + at + 4, n + 3, 2);
	p[at + 6] = 0;
	world_put(p + at + 7, n, 2);
	memcpy(p + at + 9, name, n);
	at += 9 + n;
	world_put(p + 1, at - 4, 3);
	return at;
}

/* Records of `each` bytes of handshake (RFC 8446 section 5.1 lets them be cut anywhere). */
static void
test_tls(void **state)
{
	uint8_t hello[512], records[4096];
	uint32_t len = client_hello(hello, "www.evil.example");

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	EACH_FAMILY(f)
	{
		for (uint32_t each = 1; each <= len; each = each * 2 + 1) {
			uint32_t n = 0;

			for (uint32_t at = 0; at < len; at += each) {
				uint32_t part = PK_MIN(each, len - at);

				memcpy(records + n, "\x16\x03\x01", 3);
				world_put(records + n + 3, part, 2);
				memcpy(records + n + 5, hello + at, part);
				n += 5 + part;
			}
			for (uint32_t size = 1; size <= n; size = size * 3 + 1) {
				struct talk *t = begin(*f, ISN);

				for (uint32_t at = 0; at < n; at += size)
					say(t, at, records + at, PK_MIN(size, n - at), 0);
				held(t, (const char *)records, n, "TLS records of", each);
			}
		}
	}
	stop();
}

static void
test_dns(void **state)
{
	static const uint8_t query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	                               "\x03www\x04"
	                               "EviL\x07"
	                               "example\x00\x00\x01\x00\x01";
	uint32_t len = sizeof(query) - 1;
	uint8_t framed[64];

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	world_put(framed, len, 2);
	memcpy(framed + 2, query, len);
	EACH_FAMILY(f)
	{
		assert_false(put(&(struct world_pkt){ .family = *f,
		                     .proto = IPPROTO_UDP,
		                     .in = 1,
		                     .out = 9,
		                     .sport = ++port,
		                     .dport = 53,
		                     .payload = (uint16_t)len,
		                     .body = query },
		    0, NULL));
		nb_cases++;
		for (uint32_t at = 1; at < len + 2; at += 3) {
			struct talk *t = begin(*f, ISN);

			t->server = 53;
			t->client = ++port;
			(void)segment(t, false, FW_TCP_SYN, ISN, NULL, 0, 0);
			(void)segment(t, true, FW_TCP_SYN | FW_TCP_ACK, PEER, NULL, 0, 0);
			say(t, 0, framed, at, 0);
			say(t, at, framed + at, len + 2 - at, 0);
			held(t, (const char *)framed, len + 2, "DNS over TCP cut at", at);
		}
	}
	stop();
}

/* What comes in pieces cannot be read without being held, so it does not pass. */
static void
test_fragments(void **state)
{
	uint8_t frame[512];
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_UDP,
		.in = 1,
		.out = 9,
		.sport = 7777,
		.dport = 8888,
		.payload = 64 };
	uint32_t len = world_frame(&w, frame);
	struct fw_burst out;
	struct rte_mbuf *m;
	uint16_t sum;

	(void)state;
	start(PK_INSPECT_STRICT, 64u << 20, false);
	assert_true(put(&w, 0, NULL));
	frame[14 + 6] = 0x20; /* more follow */
	world_put(frame + 14 + 10, 0, 2);
	sum = (uint16_t)~fw_sum_fold(fw_sum(frame + 14, 20, 0));
	memcpy(frame + 14 + 10, &sum, 2);
	m = world_mbuf(pool, frame, len);
	fw_path_burst(path, rules, 0, FW_INSIDE, &m, 1, now, &out);
	assert_int_equal(out.nb[FW_OUTSIDE], 0);
	assert_int_equal(dropped(FW_DROP_SIG_FRAGMENT), 1);
	stop();
}

static void
test_enough(void **state)
{
	(void)state;
	print_message("# %u cases of evasion and their harmless twins\n", nb_cases);
	assert_true(nb_cases >= 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_segments),
		cmocka_unit_test(test_wrap), cmocka_unit_test(test_decoys),
		cmocka_unit_test(test_retransmissions), cmocka_unit_test(test_flags),
		cmocka_unit_test(test_fast_open), cmocka_unit_test(test_budget),
		cmocka_unit_test(test_unacknowledged), cmocka_unit_test(test_rest),
		cmocka_unit_test(test_shortage), cmocka_unit_test(test_actions),
		cmocka_unit_test(test_far_apart), cmocka_unit_test(test_swap),
		cmocka_unit_test(test_none), cmocka_unit_test(test_requests),
		cmocka_unit_test(test_responses), cmocka_unit_test(test_tls),
		cmocka_unit_test(test_dns), cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_enough) };

	pool = world_start(1023);
	if (pool == NULL) {
		printf("1..0 # skipped: DPDK does not start: %s\n", rte_strerror(rte_errno));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
