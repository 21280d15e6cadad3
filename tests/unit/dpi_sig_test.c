/*
 * Signatures over sessions made here: what each keyword means, what is refused, the traps of the pattern
 * library, and that no way of cutting, doubling or reordering segments hides what a rule looks for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/engine.h"
#include "dpi/http1.h"
#include "dpi/sig_net.h"
#include "dpi/sig_prefilter.h"
#include "tests/unit/test.h"

static unsigned int alerts[64]; /* by sid */

static void
on_alert(void *arg, const struct dpi_alert *a)
{
	(void)arg;
	if (a->sig->sid < PK_COUNT(alerts))
		alerts[a->sig->sid]++;
}

static char refusal[PK_DIAG_MAX], refused_keyword[DPI_KEYWORD_MAX];

static void
on_refused(void *arg, const char *keyword, const char *text)
{
	(void)arg;
	snprintf(refused_keyword, sizeof(refused_keyword), "%s", keyword);
	snprintf(refusal, sizeof(refusal), "%s", text);
}

static struct dpi_set *
set_of(const char *rules)
{
	static const struct dpi_set_listener listener = { on_refused, NULL };
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag;

	refusal[0] = '\0';
	assert_int_equal(dpi_vars_create(&vars), 0);
	assert_int_equal(dpi_set_create(&set, vars), 0);
	assert_true(dpi_set_add(set, "test.rules", rules, strlen(rules), &listener, &diag) >= 0);
	if (dpi_set_finish(set, &diag) < 0)
		fail_msg("%s", diag.text);
	return set;
}

/* ---- sessions ---- */

struct world {
	struct dpi_engine *engine;
	uint64_t n;
	uint32_t next[2]; /* sequence numbers */
};

enum {
	ISN_CLIENT = 0xfffffff0,
	ISN_SERVER = 7000
}; /* the client's wraps */

static void
segment(
    struct world *w, unsigned int dir, uint8_t flags, uint32_t seq, const void *bytes, size_t len)
{
	uint8_t p[2048] = { 0x45 };
	uint16_t total = (uint16_t)(40 + len), ports[2] = { 40000, 80 };

	assert_true(len <= sizeof(p) - 40);
	p[2] = (uint8_t)(total >> 8);
	p[3] = (uint8_t)total;
	p[8] = 64;
	p[9] = 6;
	memcpy(p + 12,
	    dir == 0 ? "\xc0\x00\x02\x01\xc6\x33\x64\x01" : "\xc6\x33\x64\x01\xc0\x00\x02\x01", 8);
	p[20] = (uint8_t)(ports[dir] >> 8);
	p[21] = (uint8_t)ports[dir];
	p[22] = (uint8_t)(ports[!dir] >> 8);
	p[23] = (uint8_t)ports[!dir];
	for (unsigned int i = 0; i < 4; i++) {
		p[24 + i] = (uint8_t)(seq >> 8 * (3 - i));
		p[28 + i] = (uint8_t)(w->next[!dir] >> 8 * (3 - i));
	}
	p[32] = 0x50;
	p[33] = flags;
	p[34] = 0xff;
	if (len > 0)
		memcpy(p + 40, bytes, len);
	w->n++;
	dpi_engine_packet(
	    w->engine, w->n, w->n * PK_NS_PER_MS, DPI_LINK_RAW, p, (uint32_t)(40 + len));
}

static void
begin(struct world *w, const struct dpi_set *set)
{
	struct dpi_engine_options o = { .depth = 1 << 20, .detect = { .alert = on_alert } };

	memset(alerts, 0, sizeof(alerts));
	memset(w, 0, sizeof(*w));
	assert_int_equal(dpi_engine_create(&w->engine, set, &o), 0);
	segment(w, 0, DPI_TCP_SYN, ISN_CLIENT, NULL, 0);
	w->next[0] = ISN_CLIENT + 1u;
	segment(w, 1, DPI_TCP_SYN | DPI_TCP_ACK, ISN_SERVER, NULL, 0);
	w->next[1] = ISN_SERVER + 1;
	segment(w, 0, DPI_TCP_ACK, w->next[0], NULL, 0);
}

static void
say(struct world *w, unsigned int dir, const void *bytes, size_t len)
{
	segment(w, dir, DPI_TCP_ACK | DPI_TCP_PSH, w->next[dir], bytes, len);
	w->next[dir] += (uint32_t)len;
}

static void
end(struct world *w)
{
	dpi_engine_end(w->engine);
	dpi_engine_destroy(w->engine);
}

static const char request[] =
    "POST /a/./b/../c%41.php?x=%27y HTTP/1.1\r\nHost: WWW.Example.org\r\nUser-Agent: probe/1.0\r\n"
    "Cookie: id=7\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\nkey=dGhpc2lzYXRlc3Q=&z";
static const char response[] =
    "HTTP/1.1 200 OK\r\nServer: s/1\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n\r\n"
    "5\r\nmalic\r\n7\r\nious te\r\n2\r\nxt\r\n0\r\n\r\n";

static bool
fires(const char *rule)
{
	char text[2048];
	struct dpi_set *set;
	struct world w;
	bool yes;

	snprintf(text, sizeof(text), "%s\n", rule);
	set = set_of(text);
	if (refusal[0] != '\0')
		fail_msg("%s", refusal);
	begin(&w, set);
	say(&w, 0, request, sizeof(request) - 1);
	say(&w, 1, response, sizeof(response) - 1);
	end(&w);
	yes = alerts[1] > 0;
	dpi_set_destroy(set);
	return yes;
}

#define HTTP(options) "alert http any any -> any any (" options " sid:1;)"
#define TCP(options)  "alert tcp any any -> any any (" options " sid:1;)"

static void
keywords(void **state)
{
	static const struct {
		const char *rule;
		bool fires;
	} cases[] = {
		{ HTTP("http.method; content:\"POST\";"), true },
		{ HTTP("http.method; content:\"post\";"), false },
		{ HTTP("http.method; content:\"post\"; nocase;"), true },
		{ HTTP("http.uri; content:\"/a/cA.php\"; startswith;"), true },
		{ HTTP("http.uri; content:\"x='y\"; endswith;"), true },
		{ HTTP("http.uri.raw; content:\"b/../c%41\";"), true },
		{ HTTP("http.uri; content:\"b/../c\";"), false },
		{ HTTP("content:\"cA.php\"; http_uri;"), true },
		{ HTTP("urilen:14;"), true },
		{ HTTP("urilen:<14;"), false },
		{ HTTP("http.host; content:\"www.example.org\"; bsize:15;"), true },
		{ HTTP("http.host; dotprefix; content:\".example.org\"; endswith;"), true },
		{ HTTP("http.host.raw; content:\"WWW.\";"), true },
		{ HTTP("http.user_agent; content:!\"curl\";"), true },
		{ HTTP("http.user_agent; content:!\"probe\";"), false },
		{ HTTP("http.cookie; content:\"id=7\";"), true },
		{ HTTP("http.header; content:\"Cookie\";"), false },
		{ HTTP("http.header; content:\"User-Agent: probe/1.0|0d 0a|\";"), true },
		{ HTTP(
		      "http.header_names; content:\"|0d 0a|Host|0d 0a|User-Agent|0d 0a|\"; startswith;"),
		    true },
		{ HTTP("http.content_type; content:\"text/html\";"), true },
		{ HTTP("flow:to_server; http.content_type; content:\"text/html\";"), false },
		{ HTTP(
		      "http.request_line; content:\"POST \"; startswith; content:\" HTTP/1.1\"; endswith;"),
		    true },
		{ HTTP(
		      "http.request_body; content:\"key=\"; base64_decode:relative; base64_data; content:\"thisisatest\";"),
		    true },
		{ HTTP("http.request_body; to_md5; content:\"|60|\"; bsize:16;"), false },
		{ HTTP("http.request_body; to_sha256; bsize:32;"), true },
		{ HTTP("http.user_agent; xor:\"00\"; content:\"probe\";"), true },
		{ HTTP("http.uri; pcrexform:\"x=(.*)\"; content:\"'y\"; startswith; endswith;"),
		    true },
		{ HTTP("http.uri; to_uppercase; content:\"CA.PHP\";"), true },
		{ HTTP("http.response_body; content:\"malicious text\";"), true },
		{ HTTP("file.data; content:\"malicious text\"; startswith; endswith;"), true },
		{ HTTP(
		      "flow:to_client,established; http.stat_code; content:\"200\"; http.stat_msg; content:\"OK\";"),
		    true },
		{ HTTP("http.method; content:\"POST\"; http.stat_code; content:\"200\";"), true },
		{ HTTP("http.uri; content:\"/a/\"; content:\".php\"; distance:2; within:4;"),
		    true },
		{ HTTP("http.uri; content:\"/a/\"; content:\".php\"; distance:3; within:4;"),
		    false },
		{ HTTP("http.uri; content:\"/a/\"; pcre:\"/^[a-z]A\\.php/R\";"), true },
		{ HTTP("pcre:\"/ca\\.PHP/Ui\";"), true },
		{ HTTP("http.uri; content:\"php\"; isdataat:6,relative;"), false },
		{ HTTP("http.uri; content:\"php\"; isdataat:5,relative; isdataat:!6,relative;"),
		    true },
		{ TCP("content:\"POST\"; depth:4;"), true },
		{ TCP("content:\"OST\"; depth:3;"), false },
		{ TCP("content:\"OST\"; offset:1; depth:3;"), true },
		{ TCP("content:\"Content-Length|3a 20|\"; byte_test:2,=,21,0,relative,string,dec;"),
		    true },
		{ TCP("content:\"Content-Length|3a 20|\"; byte_test:2,>,21,0,relative,string,dec;"),
		    false },
		{ TCP("content:\"id=\"; byte_extract:1,0,n,relative,string,dec; content:\"Type\"; distance:n;"),
		    true },
		{ TCP("content:\"id=\"; byte_jump:1,0,relative,string,dec; content:\"nt-Type\"; distance:0; within:7;"),
		    true },
		{ TCP("content:\"id=\"; byte_math:bytes 1,offset 0,oper +,rvalue 3,result n,relative,string dec; byte_test:1,<,n,-1,relative,string,dec;"),
		    true },
		{ TCP("flow:not_established; content:\"POST\";"), false },
		{ TCP("flow:established,to_server; content:\"malic\";"), false },
		{ TCP("flags:S; flow:stateless;"), true },
		{ TCP("flags:F;"), false },
		{ TCP("dsize:>100; ttl:64;"), true },
		{ TCP("stream_size:client,>,100;"), true },
		{ TCP("app-layer-protocol:http;"), true },
		{ TCP("app-layer-protocol:!http; content:\"POST\";"), false },
		{ "alert tcp 192.0.2.0/24 any -> !192.0.2.0/24 [80,8080] (content:\"POST\"; sid:1;)",
		    true },
		{ "alert tcp any any -> any !80 (content:\"POST\"; sid:1;)", false },
		{ "alert tcp any any <> any 40000 (content:\"POST\"; sid:1;)", true },
		{ "alert tcp any any -> any any (content:\"POST\"; noalert; sid:1;)", false },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		if (fires(cases[i].rule) != cases[i].fires)
			fail_msg(
			    "%s: %s", cases[i].rule, cases[i].fires ? "did not match" : "matched");
}

static void
refusals(void **state)
{
	static const struct {
		const char *rule, *keyword;
	} cases[] = {
		{ TCP("frobnicate:1;"), "frobnicate" },
		{ TCP("content:\"|zz|\";"), "content" },
		{ TCP("nocase;"), "nocase" },
		{ TCP("content:\"a\"; pcre:\"/(/\";"), "pcre" },
		{ TCP("byte_test:9,=,1,0;"), "byte_test" },
		{ TCP("content:\"a\"; within:nothing;"), "within" },
		{ "alert tcp any any -> any any (content:\"a\";)", "sid" },
		{ "alert quux any any -> any any (sid:1;)", "quux" },
		{ "alert tcp $NOBODY any -> any any (sid:1;)", "$NOBODY" },
		{ "alert dns any any -> any any (http.uri; content:\"a\"; sid:1;)", "rule" },
		{ HTTP("flow:to_client; http.uri; content:\"a\";"), "rule" },
		{ HTTP("decode-event:ipv4.no_such_thing;"), "decode-event" },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct dpi_set *set = set_of(cases[i].rule);

		assert_string_equal(refused_keyword, cases[i].keyword);
		assert_memory_equal(refusal, "test.rules:1: ", 14);
		assert_int_equal(dpi_set_nb(set), 0);
		assert_int_equal(dpi_set_nb_refused(set), 1);
		dpi_set_destroy(set);
	}
}

static void
state_of_rules(void **state)
{
	struct dpi_set *set = set_of(
	    "alert tcp any any -> any any (content:\"POST\"; flowbits:set,seen; flowbits:noalert; sid:1;)\n"
	    "alert tcp any any -> any any (content:\"malic\"; flowbits:isset,seen; sid:2;)\n"
	    "alert tcp any any -> any any (content:\"malic\"; flowbits:isnotset,seen; sid:3;)\n"
	    "alert tcp any any -> any any \\\n  (content:\"q\"; threshold:type limit, track by_src, count 2, seconds 60; sid:4;)\n"
	    "alert tcp any any -> any any (content:\"q\"; detection_filter:track by_src, count 3, seconds 60; sid:5;)\n"
	    "pass tcp any any -> any any (content:\"harmless\"; sid:6;)\n"
	    "alert tcp any any -> any any (content:\"harmless\"; sid:7;)\n");
	struct world w;

	(void)state;
	begin(&w, set);
	say(&w, 0, request, sizeof(request) - 1);
	say(&w, 1, response, sizeof(response) - 1);
	for (unsigned int i = 0; i < 5; i++)
		say(&w, 0, "q", 1);
	say(&w, 0, "harmless", 8);
	end(&w);
	assert_int_equal(alerts[1], 0);
	assert_int_equal(alerts[2], 1);
	assert_int_equal(alerts[3], 0);
	assert_int_equal(alerts[4], 2);
	assert_int_equal(alerts[5], 2);
	assert_int_equal(alerts[6] + alerts[7], 0);
	dpi_set_destroy(set);
}

/* ---- evasions ---- */

static const char secret[] = "....EVIL-and-\x01\x02-more-WORSE....";
#define EVASION_RULES                                                                              \
	"alert tcp any any -> any any (content:\"EVIL\"; content:\"WORSE\"; distance:5; sid:1;)\n" \
	"alert tcp any any -> any any (content:\"|01 02|\"; pcre:\"/EVIL.*WORSE/\"; sid:2;)\n"     \
	"alert tcp any any -> any any (flow:established,to_server; content:\"-more-WORSE\"; sid:3;)\n"
#define SECRET (sizeof(secret) - 1)

static void
must_see(struct world *w)
{
	end(w);
	assert_true(alerts[1] > 0);
	assert_true(alerts[2] > 0);
	assert_true(alerts[3] > 0);
}

static void
piece(struct world *w, size_t from, size_t len, const char *bytes)
{
	segment(w, 0, DPI_TCP_ACK, w->next[0] + (uint32_t)from,
	    bytes != NULL ? bytes : secret + from, len);
}

static void
evasions(void **state)
{
	static const char other[] = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
	struct dpi_set *set = set_of(EVASION_RULES);
	struct world w;

	(void)state;
	for (size_t cut = 1; cut < SECRET; cut++) {
		begin(&w, set); /* in two segments */
		piece(&w, 0, cut, NULL);
		piece(&w, cut, SECRET - cut, NULL);
		must_see(&w);

		begin(&w, set); /* the second first */
		piece(&w, cut, SECRET - cut, NULL);
		piece(&w, 0, cut, NULL);
		must_see(&w);

		begin(&w, set); /* twice, overlapping with the same bytes */
		piece(&w, 0, cut, NULL);
		piece(&w, cut / 2, SECRET - cut / 2, NULL);
		must_see(&w);

		begin(&w, set); /* said again with other bytes: dropped, the first stand */
		piece(&w, 0, cut, NULL);
		piece(&w, 0, cut, other);
		piece(&w, cut, SECRET - cut, NULL);
		must_see(&w);

		begin(&w, set); /* other bytes for what waits out of order */
		piece(&w, cut, SECRET - cut, NULL);
		piece(&w, cut, SECRET - cut, other);
		piece(&w, 0, cut, NULL);
		must_see(&w);

		begin(&w, set); /* a longer one that differs in front */
		piece(&w, 0, cut, NULL);
		piece(&w, 0, SECRET, other);
		piece(&w, cut, SECRET - cut, NULL);
		must_see(&w);

		begin(&w, set); /* before the beginning of the stream */
		segment(&w, 0, DPI_TCP_ACK, ISN_CLIENT - 9, other, 10);
		piece(&w, 0, SECRET, NULL);
		must_see(&w);

		begin(&w, set); /* a reset whose number is far off ends nothing */
		piece(&w, 0, cut, NULL);
		segment(&w, 0, DPI_TCP_RST, w.next[0] - 5000, NULL, 0);
		piece(&w, cut, SECRET - cut, NULL);
		must_see(&w);
	}
	begin(&w, set); /* byte by byte, and backwards */
	for (size_t i = 0; i < SECRET; i++)
		piece(&w, i, 1, NULL);
	must_see(&w);
	begin(&w, set);
	for (size_t i = SECRET; i-- > 0;)
		piece(&w, i, 1, NULL);
	must_see(&w);
	dpi_set_destroy(set);
}

/* What libhtp makes of a session must not depend on segments either. */
static void
http_evasions(void **state)
{
	struct dpi_set *set = set_of(HTTP(
	    "file.data; content:\"malicious text\";") "\n"
	                                              "alert http any any -> any any (http.uri; content:\"/a/cA.php\"; http.request_body; content:\"key=\"; sid:2;)\n");
	struct world w;

	(void)state;
	for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
		size_t back = PK_MIN(cut, sizeof(response) - 2);

		begin(&w, set);
		say(&w, 0, request, cut);
		say(&w, 0, request + cut, sizeof(request) - 1 - cut);
		say(&w, 1, response, back);
		say(&w, 1, response + back, sizeof(response) - 1 - back);
		end(&w);
		assert_int_equal(alerts[1], 1);
		assert_int_equal(alerts[2], 1);
	}
	dpi_set_destroy(set);
}

/* ---- the pattern library ---- */

static struct dpi_prefilter
filter_of(const char *const *contents, unsigned int n)
{
	struct dpi_pattern *pattern = calloc(n, sizeof(*pattern));
	struct dpi_prefilter f;
	struct pk_diag diag;
	unsigned int nb = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct dpi_content c = { .bytes = (uint8_t *)(uintptr_t)contents[i],
			.len = (uint16_t)strlen(contents[i]) };

		if (dpi_pattern_of(&pattern[nb], &c, false))
			pattern[nb++].rule = i;
	}
	assert_int_equal(dpi_prefilter_init(&f, pattern, nb, NULL, NULL, &diag), 0);
	return f;
}

static void
traps(void **state)
{
	/* The literal API misses the second of these in data that begins with the first. */
	static const char *const literals[] = { "xt>DDDDDDDD", "1234", "DDDDDDDDDDDDDDDDDDDD",
		"yyyyyyyyyyyyz" };
	struct dpi_content run = {
		.bytes = (uint8_t *)(uintptr_t) "abcAAAAAAAAAAAAAAAAAAAAAAAAAAAA", .len = 31
	};
	struct dpi_content lone = { .bytes = (uint8_t *)(uintptr_t) ";", .len = 1 };
	struct dpi_prefilter f = filter_of(literals, PK_COUNT(literals));
	struct dpi_pattern p;
	hs_scratch_t *scratch = NULL;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(hs_alloc_scratch(f.db, &scratch), HS_SUCCESS);
	assert_int_equal(dpi_prefilter_check(&f, scratch, &diag), 0);
	/* A database that does not find what it should is noticed. */
	f.pattern[0].bytes[0] ^= 1;
	assert_int_equal(dpi_prefilter_check(&f, scratch, &diag), -EILSEQ);
	hs_free_scratch(scratch);
	dpi_prefilter_fini(&f);
	/* No pattern ends in a long run of one byte, and short ones are none. */
	assert_true(dpi_pattern_of(&p, &run, false));
	assert_int_equal(p.len, 3 + DPI_FAST_RUN - 1);
	assert_false(dpi_pattern_of(&p, &lone, false));
	/* So rules of one short content are looked at without a pattern. */
	assert_true(fires(TCP("content:\"|3b|\"; content:!\"no such thing\";")) == false);
	assert_true(fires(TCP("content:\"=7\";")));
	assert_true(
	    fires(TCP("content:\"|0d 0a 0d 0a|\"; content:\"key\"; distance:0; within:3;")));
}

/* ---- scopes ---- */

static struct pk_addr
addr4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct pk_addr){ .family = 4, .bytes = { a, b, c, d } };
}

static const struct dpi_scope *
scope_of(struct dpi_scopes *k, uint8_t net0, uint8_t net1, uint16_t port1, uint8_t proto)
{
	struct pk_addr addr[2] = { addr4(10, net0, 0, 1), addr4(10, net1, 0, 2) };

	return dpi_scope_of(k, addr, (const uint16_t[]){ 40000, port1 }, proto);
}

static void
scopes(void **state)
{
	struct dpi_set *set = set_of(
	    "alert tcp 10.1.0.0/16 any -> !10.1.0.0/16 80 (content:\"abcdef\"; sid:1;)\n"
	    "alert http any any -> 10.2.0.0/16 [8000:8080,!8008] (http.uri; content:\"ghijkl\"; sid:2;)\n"
	    "alert dns any any -> any any (dns.query; content:\"mnopqr\"; sid:3;)\n"
	    "alert tcp any 25 <> 10.3.0.0/16 any (dsize:7; sid:4;)\n");
	struct dpi_bufs told = { { 0 } };
	const struct dpi_scope *c;
	struct dpi_scopes *k;

	(void)state;
	dpi_bufs_add(&told, DPI_HTTP_HOST);
	assert_int_equal(dpi_scopes_create(&k, set, &told), 0);
	assert_int_equal(dpi_scope_all(k)->nb, 4);

	/* Inside, and no DNS to be expected but of UDP and TCP alike: rule 3 alone. */
	c = scope_of(k, 1, 1, 80, 6);
	assert_int_equal(c->nb, 1);
	assert_false(c->raw);
	assert_int_equal(c->layers, 1u << DPI_LAYER_DNS);
	assert_false(dpi_bufs_has(&c->wanted, DPI_HTTP_HOST));
	assert_ptr_equal(
	    scope_of(k, 1, 1, 443, 6), scope_of(k, 1, 1, 444, 6)); /* no rule tells these apart */
	assert_int_equal(scope_of(k, 1, 1, 80, 132)->nb, 0);

	/* On the way out to port 80, not back. */
	c = scope_of(k, 1, 4, 80, 6);
	assert_true(c->raw && dpi_scope_has(c, DPI_GROUP_TCP, 0));
	assert_false(dpi_scope_has(c, DPI_GROUP_TCP, 1));
	assert_false(scope_of(k, 1, 4, 81, 6)->raw);

	c = scope_of(k, 1, 2, 8001, 6);
	assert_true(c->layers >> DPI_LAYER_HTTP & 1 && dpi_scope_has(c, DPI_HTTP_URI, 0));
	assert_true(dpi_bufs_has(&c->wanted, DPI_HTTP_HOST));
	assert_false(scope_of(k, 1, 2, 8008, 6)->layers >> DPI_LAYER_HTTP & 1);

	/* A rule without bytes, both ways: by the port of the other side. */
	assert_int_equal(scope_of(k, 3, 9, 25, 6)->packet.nb, 1);
	assert_int_equal(scope_of(k, 3, 9, 26, 6)->packet.nb, 0);
	dpi_scopes_destroy(k);
	dpi_set_destroy(set);
}

/* Never less than what headers say: against each rule by itself, for headers and sessions made up; with more groups of
 * addresses than are told apart. */
static void
scopes_whole(void **state)
{
	static char text[64 * 1024];
	size_t at = 0;
	struct dpi_scopes *k;
	struct dpi_set *set;
	unsigned int in = 0, out = 0;

	(void)state;
	srand(7);
	for (unsigned int i = 1; i <= 300; i++) {
		char ends[2][64], ports[2][32];

		for (unsigned int d = 0; d < 2; d++) {
			int of = rand() % 4;

			snprintf(ends[d], sizeof(ends[d]),
			    of == 0       ? "any"
			        : of == 1 ? "!10.%d.0.0/16"
			                  : "[10.%d.0.0/16,10.77.0.0/16]",
			    rand() % 90);
			snprintf(ports[d], sizeof(ports[d]),
			    rand() % 2       ? "any"
			        : rand() % 2 ? "%d:"
			                     : "!%d",
			    rand() % 50);
		}
		at += (size_t)snprintf(text + at, sizeof(text) - at,
		    "alert %s %s %s %s %s %s (%scontent:\"evil%u\"; sid:%u;)\n",
		    rand() % 2 ? "tcp" : "udp", ends[0], ports[0], rand() % 5 ? "->" : "<>",
		    ends[1], ports[1],
		    rand() % 2       ? ""
		        : rand() % 2 ? "flow:to_client; "
		                     : "flow:to_server; ",
		    i, i);
	}
	set = set_of(text);
	assert_int_equal(dpi_set_nb(set), 300);
	assert_int_equal(dpi_scopes_create(&k, set, NULL), 0);
	for (unsigned int n = 0; n < 5000; n++) {
		struct pk_addr addr[2] = { addr4(10, (uint8_t)(rand() % 90), 0, 1),
			addr4(10, (uint8_t)(rand() % 90), 0, 2) };
		uint16_t port[2] = { (uint16_t)(rand() % 60), (uint16_t)(rand() % 60) };
		uint8_t proto = rand() % 2 ? 6 : 17;
		const struct dpi_scope *c = dpi_scope_of(k, addr, port, proto);

		for (uint32_t i = 0; i < dpi_set_nb(set); i++) {
			const struct dpi_sig *g = dpi_set_sig(set, i);
			unsigned int group = proto == 6 ? DPI_GROUP_TCP : DPI_GROUP_UDP;

			if (!(g->protos & (proto == 6 ? 1 : 2)))
				continue;
			for (unsigned int d = 0; d < 2; d++) {
				bool there = false;

				if (!(dpi_set_dirs_of(g) >> d & 1))
					continue;
				for (unsigned int e = 0; e < 2; e++)
					if (e == d || g->flags & DPI_SIG_BOTH_WAYS)
						there |= dpi_nets_has(g->src, &addr[e]) &&
						    dpi_nets_has(g->dst, &addr[!e]) &&
						    dpi_ports_has(g->sport, port[e]) &&
						    dpi_ports_has(g->dport, port[!e]);
				if (there)
					assert_true(c->raw && dpi_scope_has(c, group, d));
				in += there;
				out += !there;
			}
		}
	}
	assert_true(in > 1000 && out > 1000);
	dpi_scopes_destroy(k);
	dpi_set_destroy(set);
}

/* A body stays in its stream until that forgets it: what began before a rule's last bytes came is still found, and
 * found once. */
static void
long_bodies(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	static const char *const heads[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 190000\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2e630\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
	};
	struct dpi_set *set = set_of(
	    "alert http any any -> any any (file.data; content:\"FIRST\"; startswith; content:\"NINETY\"; distance:89000; sid:1;)\n"
	    "alert http any any -> any any (http.response_body; content:\"FIRST\"; startswith; content:\"NINETY\"; distance:89000; sid:2;)\n"
	    "alert http any any -> any any (file.data; content:\"NINETY\"; content:!\"FIRST\"; sid:3;)\n");

	(void)state;
	for (size_t h = 0; h < PK_COUNT(heads); h++) {
		static char body[190000];
		struct world w;

		memset(body, '.', sizeof(body));
		memcpy(body, "FIRST", 5);
		memcpy(body + 90000, "NINETY", 6);
		begin(&w, set);
		say(&w, 0, get, sizeof(get) - 1);
		say(&w, 1, heads[h], strlen(heads[h]));
		for (size_t at = 0; at < sizeof(body); at += 1400)
			say(&w, 1, body + at, PK_MIN(sizeof(body) - at, (size_t)1400));
		end(&w);
		assert_int_equal(alerts[1], 1);
		assert_int_equal(alerts[2], 1);
		assert_int_equal(alerts[3], 0);
	}
	dpi_set_destroy(set);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(keywords), cmocka_unit_test(refusals),
		cmocka_unit_test(state_of_rules), cmocka_unit_test(evasions),
		cmocka_unit_test(http_evasions), cmocka_unit_test(traps), cmocka_unit_test(scopes),
		cmocka_unit_test(scopes_whole), cmocka_unit_test(long_bodies) };
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	dpi_http1_fini();
	return rc;
}
