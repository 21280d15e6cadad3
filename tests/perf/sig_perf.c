/*
 * What signatures cost the packet path: whole sessions, from SYN to FIN, through the real path, in bursts of 32 packets
 * of 32 sessions; the same with no inspection, with App-ID, and with signatures.  Only the time in the path counts.
 *
 *   sig_perf             the names of the results
 *   sig_perf PREFIX      a JSON line for each result whose name begins with PREFIX
 *
 *   dpi.share.app.MIX    throughput with rules that name applications, as a share of that without
 *   dpi.share.1k.MIX     with 1,000 signatures, all about any address and port; .10k
 *   dpi.share.et.MIX     the published sample, if it lies beside the tree: both ends at home
 *   dpi.scan.1k          raw bytes against one database, beside Hyperscan's own figure; .10k
 *   dpi.1krules.gbps     one lcore that inspects every byte; dpi.10krules.gbps
 *   dpi.session.bytes    of a session under inspection that is silent
 */
#include <netinet/in.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "dpi/watch.h"
#include "fw/path_priv.h"
#include "tests/perf/perf.h"
#include "tests/unit/corpora.h"
#include "tests/unit/fw_world.h"

#define LANES      32
#define MSS        1448
#define FRAMES_MAX 1600
#define RUNS       3
#define PACKETS    400000 /* of a run */
#define ROUNDS_MAX 1024
#define HOME       "[192.0.2.0/24,198.51.100.0/24,203.0.113.0/24,10.0.0.0/8]"

static struct rte_mempool *pool;

/* ---- signatures: in what buffers, how many contents and how long, as published ones are ---- */

static uint64_t state = 88172645463325252u;

static uint32_t
next(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % n;
}

static void
word(char *out, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		out[i] = "abcdefghijklmnopqrstuvwxyz0123456789_-"[next(38)];
	out[len] = '\0';
}

static char *
made_rules(unsigned int nb)
{
	static const struct {
		unsigned int per_cent;
		const char *head, *buffer;
	} kinds[] = { { 32, "http", "http.uri; content:\"/" },
		{ 17, "dns", "dns.query; content:\"" }, { 10, "http", "http.host; content:\"" },
		{ 9, "http", "http.request_body; content:\"" }, { 8, "tls", "tls.sni; content:\"" },
		{ 7, "http", "http.user_agent; content:\"" },
		{ 5, "http", "file.data; content:\"" }, { 12, "tcp", "content:\"" } };
	size_t room = (size_t)nb * 320 + 1, at = 0;
	char *text = malloc(room), one[64], two[64];

	PK_ASSERT(text != NULL);
	for (unsigned int i = 0; i < nb; i++) {
		unsigned int of = next(100), k = 0;

		while (of >= kinds[k].per_cent && k + 1 < PK_COUNT(kinds))
			of -= kinds[k++].per_cent;
		word(one, 6 + next(20));
		word(two, 4 + next(10));
		at += (size_t)snprintf(text + at, room - at,
		    "drop %s any any -> any any (msg:\"%u\"; flow:established; %s%s\"; nocase; content:\"%s\"; distance:0; sid:%u;)\n",
		    kinds[k].head, i, kinds[k].buffer, one, two, i + 1);
	}
	return text;
}

static struct dpi_set *
compiled(unsigned int nb)
{
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag;
	char *text = made_rules(nb);

	PK_ASSERT(dpi_vars_create(&vars) == 0 && dpi_set_create(&set, vars) == 0 &&
	    dpi_set_add(set, "made", text, strlen(text), NULL, &diag) >= 0 &&
	    dpi_set_finish(set, &diag) == 0);
	PK_ASSERT(dpi_set_nb_refused(set) == 0);
	free(text);
	return set;
}

static struct dpi_set *
published(void)
{
	char path[4096], command[8192], file[] = "/tmp/picket-perf-XXXXXX";
	struct dpi_vars *vars;
	struct dpi_set *set = NULL;
	struct pk_diag diag;
	int fd;

	if (!corpora_find("etopen/et-open-25pct.rules.xz", path, sizeof(path)) ||
	    (fd = mkstemp(file)) < 0)
		return NULL;
	close(fd);
	snprintf(command, sizeof(command), "xz -dc '%s' >%s", path, file);
	if (system(command) == 0) {
		PK_ASSERT(dpi_vars_create(&vars) == 0 &&
		    dpi_vars_set(vars, "HOME_NET", HOME) == 0 &&
		    dpi_vars_set(vars, "EXTERNAL_NET", "!$HOME_NET") == 0 &&
		    dpi_set_create(&set, vars) == 0);
		PK_ASSERT(
		    dpi_set_load(set, file, NULL, &diag) >= 0 && dpi_set_finish(set, &diag) == 0);
	}
	unlink(file);
	return set;
}

/* ---- sessions ---- */

struct frame {
	bool back;
	uint32_t len;
	uint8_t bytes[14 + 40 + MSS];
};

static struct frame frames[FRAMES_MAX];
static unsigned int nb_frames;
static uint32_t seq[2];
static uint64_t payload_bytes;

static void
frame(bool back, uint8_t flags, const void *body, uint32_t len)
{
	struct frame *f = &frames[nb_frames++];
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_TCP,
		.from_outside = back,
		.in = 1,
		.out = 9,
		.sport = back ? 80 : 1,
		.dport = back ? 1 : 80,
		.seq = seq[back],
		.ack = flags & FW_TCP_ACK ? seq[!back] : 0,
		.flags = flags,
		.win = 65000,
		.payload = (uint16_t)len,
		.body = body };

	PK_ASSERT(nb_frames <= FRAMES_MAX);
	f->back = back;
	f->len = world_frame(&w, f->bytes);
	seq[back] += len + ((flags & (FW_TCP_SYN | FW_TCP_FIN)) != 0);
	payload_bytes += len;
}

/* ---- what they say before their data: request, and the front of the response ---- */

enum speech {
	HTTP,
	TLS,   /* 1.3: after its handshake it is encrypted */
	OTHER, /* a protocol that no rule knows */
};

static uint32_t
tls_record(uint8_t *at, uint8_t type, uint32_t len)
{
	world_put(at, type, 1);
	world_put(at + 1, 0x0303, 2);
	world_put(at + 3, len, 2);
	return 5 + len;
}

/* RFC 8446 section 4.1: a message with a random, a session id, one cipher suite, and extensions. */
static uint32_t
hello(uint8_t *at, bool server, const uint8_t *extensions, uint32_t len)
{
	uint8_t *m = at + 5;
	uint32_t n = 0;

	world_put(m, server ? 2 : 1, 1);
	world_put(m + 4, 0x0303, 2);
	memset(m + 6, 0x5a, 32);
	m[38] = 0;
	n = 39;
	if (!server) {
		world_put(m + n, 2, 2);
		n += 2;
	}
	world_put(m + n, 0x1301, 2);
	n += 2;
	if (!server)
		m[n++] = 1;
	m[n++] = 0;
	world_put(m + n, len, 2);
	memcpy(m + n + 2, extensions, len);
	n += 2 + len;
	world_put(m + 1, n - 4, 3);
	return tls_record(at, 0x16, n);
}

static const char request[] =
    "GET /v1/items?id=42&sort=name HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: svc/1.0\r\nAccept: */*\r\n\r\n";

/* A session that fetches `len` bytes. */
static void
make_session(enum speech speech, uint32_t len)
{
	static uint8_t data[MSS];
	static const uint8_t offer[] = { 0, 0, 0, 17, 0, 15, 0, 0, 12, 's', 'h', 'o', 'p', '.', 'e',
		'x', 'a', 'm', 'p', 'l', 'e', 0, 43, 0, 3, 2, 3, 4 };
	static const uint8_t answer[] = { 0, 43, 0, 2, 3, 4 };
	uint8_t ask[512], head[512], more[64];
	uint32_t nb_ask, nb_head;

	memset(ask, 0, sizeof(ask));
	memset(head, 0, sizeof(head));
	switch (speech) {
	case HTTP:
		memcpy(ask, request, nb_ask = sizeof(request) - 1);
		nb_head = (uint32_t)snprintf((char *)head, sizeof(head),
		    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %u\r\n\r\n",
		    len);
		break;
	case TLS:
		nb_ask = hello(ask, false, offer, sizeof(offer));
		nb_head = hello(head, true, answer, sizeof(answer));
		head[nb_head + 5] = 1;
		nb_head += tls_record(head + nb_head, 0x14, 1);
		nb_head += tls_record(head + nb_head, 0x17, 200);
		break;
	default:
		memset(ask, 0x9c, nb_ask = 60);
		memset(head, 0x8e, nb_head = 40);
	}
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + (i >> 3));
	if (speech == TLS)
		(void)tls_record(data, 0x17, MSS - 5);
	nb_frames = 0;
	payload_bytes = 0;
	seq[0] = 1000;
	seq[1] = 5000;
	frame(false, FW_TCP_SYN, NULL, 0);
	frame(true, FW_TCP_SYN | FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_ACK | FW_TCP_PSH, ask, nb_ask);
	frame(true, FW_TCP_ACK | FW_TCP_PSH, head, nb_head);
	if (speech == TLS) {
		memset(more, 0, sizeof(more));
		more[5] = 1;
		(void)tls_record(more, 0x14, 1);
		(void)tls_record(more + 6, 0x17, 53);
		frame(false, FW_TCP_ACK | FW_TCP_PSH, more, sizeof(more));
	}
	for (uint32_t at = 0, i = 0; at < len; at += MSS, i++) {
		frame(true, FW_TCP_ACK, data, PK_MIN(len - at, (uint32_t)MSS));
		if (i % 2 == 1)
			frame(false, FW_TCP_ACK, NULL, 0);
	}
	frame(false, FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_FIN | FW_TCP_ACK, NULL, 0);
	frame(true, FW_TCP_FIN | FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_ACK, NULL, 0);
}

struct world {
	struct fw_path *path;
	struct fw_rules *rules;
	struct dpi_watch_set *watch_set;
	uint64_t now;
	uint16_t port;
};

static void
world_begin(struct world *w, struct dpi_set *set, const char *app, uint32_t depth)
{
	static const struct world_rule all[] = { { PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0,
	    0 } };
	struct fw_path_conf conf;
	struct fw_made made;

	memset(w, 0, sizeof(*w));
	w->now = PK_NS_PER_S;
	w->port = 1024;
	fw_path_conf_init(&conf);
	conf.nb_sessions = 131072;
	conf.seed[0] = 1;
	conf.seed[1] = 2;
	conf.pool = pool;
	conf.huge = false;
	conf.verify_checksums = false;
	conf.inspect_open = true;
	conf.inspect_all = set != NULL ? PK_INSPECT_STANDARD : 0;
	conf.watch_memory = set != NULL ? 64u << 20 : 0;
	conf.watch_bytes = depth;
	world_app = app;
	PK_ASSERT(fw_path_create(&w->path, &conf) == 0);
	w->rules = world_rules(1, 4, false, all, 1);
	if (set != NULL) {
		PK_ASSERT(dpi_watch_set_create(&w->watch_set, fw_path_watches(w->path), set) == 0);
		fw_path_offer_signatures(w->path, w->watch_set);
	}
	(void)fw_path_tick(w->path, w->rules, w->now, 64, &made);
}

static void
world_end(struct world *w)
{
	fw_path_destroy(w->path);
	dpi_watch_set_destroy(w->watch_set);
	fw_rules_destroy(w->rules);
}

/* One round of LANES sessions.  took[k]: cycles spent in the path with their packets k. */
static void
round_of(struct world *w, uint64_t *took)
{
	uint16_t ports[LANES];
	struct fw_made made;

	for (unsigned int i = 0; i < LANES; i++)
		ports[i] = w->port = w->port == 65535 ? 1024 : (uint16_t)(w->port + 1);
	for (unsigned int k = 0; k < nb_frames; k++) {
		const struct frame *f = &frames[k];
		struct rte_mbuf *m[LANES];
		struct fw_burst out;
		uint64_t start;

		for (unsigned int i = 0; i < LANES; i++) {
			m[i] = world_mbuf(pool, f->bytes, f->len);
			PK_ASSERT(m[i] != NULL);
			world_put(rte_pktmbuf_mtod(m[i], uint8_t *) + 34 + (f->back ? 2 : 0),
			    ports[i], 2);
		}
		w->now += 20000;
		start = rte_rdtsc();
		fw_path_burst(
		    w->path, w->rules, 0, f->back ? FW_OUTSIDE : FW_INSIDE, m, LANES, w->now, &out);
		took[k] = rte_rdtsc() - start;
		PK_ASSERT(out.nb[f->back ? FW_INSIDE : FW_OUTSIDE] == LANES);
		for (unsigned int s = 0; s < FW_SIDE_COUNT; s++)
			rte_pktmbuf_free_bulk(out.pkt[s], out.nb[s]);
	}
	w->now += PK_NS_PER_MS;
	(void)fw_path_tick(w->path, w->rules, w->now, 64, &made);
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t *p = a, *q = b;

	return *p < *q ? -1 : *p > *q;
}

/* Cycles of a session: of each packet those of its median round, so that being interrupted does not count. */
static double
cycles(struct dpi_set *set, const char *app, uint32_t depth)
{
	unsigned int rounds = PK_MIN(PK_MAX(PACKETS / (nb_frames * LANES), 9u), ROUNDS_MAX + 0u);
	uint64_t *took = calloc((size_t)rounds * nb_frames, sizeof(*took)), of[ROUNDS_MAX], sum = 0;
	struct world w;

	PK_ASSERT(took != NULL);
	world_begin(&w, set, app, depth);
	for (unsigned int i = 0; i < rounds / 4 + 1; i++)
		round_of(&w, took);
	for (unsigned int i = 0; i < rounds; i++)
		round_of(&w, took + (size_t)i * nb_frames);
	world_end(&w);
	for (unsigned int k = 0; k < nb_frames; k++) {
		for (unsigned int i = 0; i < rounds; i++)
			of[i] = took[(size_t)i * nb_frames + k];
		qsort(of, rounds, sizeof(of[0]), by_size);
		sum += of[rounds / 2];
	}
	free(took);
	return (double)sum / LANES;
}

/* ---- results ---- */

/* A mix: of a hundred sessions so many speak HTTP, TLS, and something that no rule knows. */
static const struct mix {
	const char *name;
	uint32_t len;
	unsigned int of[3];
} mixes[] = {
	{ "bulk", 1u << 20, { 100, 0, 0 } },
	{ "bulk_tls", 1u << 20, { 0, 100, 0 } },
	{ "mix", 24000, { 30, 40, 30 } },
	{ "rpc", 200, { 100, 0, 0 } },
};

static const char *const kinds[] = { "app", "1k", "10k", "et" };

static struct dpi_set *
set_of(const char *kind)
{
	return strcmp(kind, "1k") == 0 ? compiled(1000)
	    : strcmp(kind, "10k") == 0 ? compiled(10000)
	    : strcmp(kind, "et") == 0  ? published()
	                               : NULL;
}

/* Alternating, so that a change of the machine's pace hits both. */
static void
share(const char *name, const char *kind, const struct mix *m)
{
	struct dpi_set *set = set_of(kind);
	bool app = strcmp(kind, "app") == 0;
	double shares[RUNS], plain = 0, with = 0, packets = 0;

	if (set == NULL && !app) {
		printf(
		    "{\"name\":\"%s\",\"value\":null,\"unit\":\"share\",\"note\":\"no sample of published rules\"}\n",
		    name);
		return;
	}
	for (int r = 0; r < RUNS; r++) {
		plain = with = packets = 0;
		for (unsigned int s = HTTP; s <= OTHER; s++) {
			if (m->of[s] == 0)
				continue;
			/* A rule that names an application refuses what speaks none. */
			make_session(app && s == OTHER ? HTTP : s, m->len);
			plain += m->of[s] * cycles(NULL, NULL, 0);
			with += m->of[s] *
			    cycles(set,
			        !app           ? NULL
			            : s == TLS ? "tls"
			                       : "http",
			        16384);
			packets += m->of[s] * nb_frames;
		}
		shares[r] = plain / with;
	}
	qsort(shares, RUNS, sizeof(shares[0]), perf_compare);
	printf(
	    "{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"share\",\"better\":\"higher\",\"note\":\"%.0f cyc/pkt, %.0f without\"}\n",
	    name, shares[RUNS / 2], with / packets, plain / packets);
	dpi_set_destroy(set);
}

static void
gbps(const char *name, const char *kind)
{
	struct dpi_set *set = set_of(kind);
	double runs[RUNS];

	make_session(HTTP, 24000);
	for (int r = 0; r < RUNS; r++)
		runs[r] = (double)payload_bytes * 8 /
		    (cycles(set, NULL, 1u << 20) / (double)rte_get_tsc_hz()) / 1e9;
	qsort(runs, RUNS, sizeof(runs[0]), perf_compare);
	printf("{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"Gb/s\",\"better\":\"higher\"}\n", name,
	    runs[RUNS / 2]);
	dpi_set_destroy(set);
}

/* What a database is asked, and what Hyperscan makes of the same bytes by itself. */
static int
nothing(
    unsigned int id, unsigned long long from, unsigned long long to, unsigned int flags, void *arg)
{
	(void)id;
	(void)from;
	(void)to;
	(void)flags;
	++*(uint64_t *)arg;
	return 0;
}

static void
nothing_of(void *arg, uint32_t rule)
{
	(void)rule;
	++*(uint64_t *)arg;
}

static void
raw_scan(const char *name, const char *kind)
{
	struct dpi_set *set = set_of(kind);
	const hs_database_t *db = dpi_set_database(set, DPI_GROUP_STREAM, 0);
	uint64_t ours = UINT64_MAX, theirs = UINT64_MAX, hits = 0;
	struct dpi_scan_room *room;
	hs_scratch_t *scratch = NULL;

	make_session(HTTP, 24000);
	PK_ASSERT(
	    dpi_scan_room_create(&room, set) == 0 && hs_alloc_scratch(db, &scratch) == HS_SUCCESS);
	for (int r = 0; r < 400; r++) {
		uint64_t start = rte_rdtsc(), took;

		for (unsigned int k = 0; k < nb_frames; k++)
			if (frames[k].len > 54)
				hs_scan(db, (const char *)frames[k].bytes + 54, frames[k].len - 54,
				    0, scratch, nothing, &hits);
		took = rte_rdtsc() - start;
		theirs = PK_MIN(theirs, took);
		start = rte_rdtsc();
		for (unsigned int k = 0; k < nb_frames; k++)
			if (frames[k].len > 54)
				(void)dpi_set_scan(set, room, DPI_GROUP_STREAM, 0,
				    frames[k].bytes + 54, frames[k].len - 54, nothing_of, &hits);
		took = rte_rdtsc() - start;
		ours = PK_MIN(ours, took);
	}
	printf(
	    "{\"name\":\"%s\",\"value\":%.1f,\"unit\":\"Gb/s\",\"better\":\"higher\",\"limit\":{\"name\":\"hs_scan\",\"value\":%.1f}}\n",
	    name, (double)payload_bytes * 8 * (double)rte_get_tsc_hz() / (double)ours / 1e9,
	    (double)payload_bytes * 8 * (double)rte_get_tsc_hz() / (double)theirs / 1e9);
	hs_free_scratch(scratch);
	dpi_scan_room_destroy(room);
	dpi_set_destroy(set);
}

static void
session_bytes(void)
{
	struct dpi_set *set = compiled(1000);
	struct dpi_watch_stats stats;
	struct fw_made made;
	struct world w;

	static uint64_t took[FRAMES_MAX];

	make_session(HTTP, 200);
	nb_frames = 7; /* up to the ACK of the response */
	world_begin(&w, set, NULL, 16384);
	for (unsigned int i = 0; i < 500; i++)
		round_of(&w, took);
	w.now += 3 * PK_NS_PER_S;
	for (unsigned int i = 0; i < 1000; i++)
		(void)fw_path_tick(w.path, w.rules, w.now, 64, &made);
	dpi_watches_stats(fw_path_watches(w.path), &stats);
	printf(
	    "{\"name\":\"dpi.session.bytes\",\"value\":%.0f,\"unit\":\"B\",\"better\":\"lower\",\"note\":\"of %llu\"}\n",
	    (double)stats.bytes / (double)PK_MAX(stats.sessions, UINT64_C(1)),
	    (unsigned long long)stats.sessions);
	world_end(&w);
	dpi_set_destroy(set);
}

int
main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	size_t len = only != NULL ? strlen(only) : 0;
	char name[64];

	pool = only != NULL ? world_start(4095) : NULL;
	PK_ASSERT(only == NULL || pool != NULL);
	for (size_t k = 0; k < PK_COUNT(kinds); k++) {
		for (size_t i = 0; i < PK_COUNT(mixes); i++) {
			snprintf(name, sizeof(name), "dpi.share.%s.%s", kinds[k], mixes[i].name);
			if (only == NULL)
				puts(name);
			else if (strncmp(name, only, len) == 0)
				share(name, kinds[k], &mixes[i]);
		}
		if (k == 0 || k == 3)
			continue;
		snprintf(name, sizeof(name), "dpi.%srules.gbps", kinds[k]);
		if (only == NULL)
			puts(name);
		else if (strncmp(name, only, len) == 0)
			gbps(name, kinds[k]);
		snprintf(name, sizeof(name), "dpi.scan.%s", kinds[k]);
		if (only == NULL)
			puts(name);
		else if (strncmp(name, only, len) == 0)
			raw_scan(name, kinds[k]);
	}
	if (only == NULL)
		puts("dpi.session.bytes");
	else if (strncmp("dpi.session.bytes", only, len) == 0)
		session_bytes();
	return 0;
}
