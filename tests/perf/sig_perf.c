/*
 * What signatures cost the packet path: whole sessions, from SYN to FIN, through the real path, in bursts of 32 packets
 * of 32 sessions; the same with no inspection, with App-ID, and with signatures.  Only the time in the path counts.
 *
 *   sig_perf             the names of the results
 *   sig_perf PREFIX      a JSON line for each result whose name begins with PREFIX
 *
 *   dpi.share.app.MIX    throughput with rules that name applications, as a share of that without
 *   dpi.share.1k.MIX     with 1,000 signatures; .10k; .et: the published sample, if it lies beside the tree
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
#define ROUNDS_MAX 2048

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
		    dpi_vars_set(vars, "HOME_NET", "any") == 0 &&
		    dpi_vars_set(vars, "EXTERNAL_NET", "any") == 0 &&
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

static const char request[] =
    "GET /v1/items?id=42&sort=name HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: svc/1.0\r\nAccept: */*\r\n\r\n";

/* A session that fetches `len` bytes. */
static void
make_session(uint32_t len)
{
	static uint8_t data[MSS];
	char head[256];
	int n = snprintf(head, sizeof(head),
	    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %u\r\n\r\n", len);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + (i >> 3));
	nb_frames = 0;
	payload_bytes = 0;
	seq[0] = 1000;
	seq[1] = 5000;
	frame(false, FW_TCP_SYN, NULL, 0);
	frame(true, FW_TCP_SYN | FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_ACK, NULL, 0);
	frame(false, FW_TCP_ACK | FW_TCP_PSH, request, sizeof(request) - 1);
	frame(true, FW_TCP_ACK | FW_TCP_PSH, head, (uint32_t)n);
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
world_begin(struct world *w, struct dpi_set *set, bool app, uint32_t depth)
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
	world_app = app ? "http" : NULL;
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

/* One round of LANES sessions.  Cycles spent in the path. */
static uint64_t
round_of(struct world *w)
{
	uint16_t ports[LANES];
	struct fw_made made;
	uint64_t took = 0;

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
		took += rte_rdtsc() - start;
		PK_ASSERT(out.nb[f->back ? FW_INSIDE : FW_OUTSIDE] == LANES);
		for (unsigned int s = 0; s < FW_SIDE_COUNT; s++)
			rte_pktmbuf_free_bulk(out.pkt[s], out.nb[s]);
	}
	w->now += PK_NS_PER_MS;
	(void)fw_path_tick(w->path, w->rules, w->now, 64, &made);
	return took;
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t *p = a, *q = b;

	return *p < *q ? -1 : *p > *q;
}

/* Cycles per packet: of the median round, so that being interrupted does not count. */
static double
cycles(struct dpi_set *set, bool app, uint32_t depth)
{
	unsigned int rounds = PK_MIN(PK_MAX(PACKETS / (nb_frames * LANES), 9u), (unsigned int)ROUNDS_MAX);
	uint64_t took[ROUNDS_MAX];
	struct world w;

	world_begin(&w, set, app, depth);
	for (unsigned int i = 0; i < rounds / 4 + 1; i++)
		(void)round_of(&w);
	for (unsigned int i = 0; i < rounds; i++)
		took[i] = round_of(&w);
	world_end(&w);
	qsort(took, rounds, sizeof(took[0]), by_size);
	return (double)took[rounds / 2] / ((double)nb_frames * LANES);
}

/* ---- results ---- */

static const struct {
	const char *name;
	uint32_t len;
} mixes[] = { { "bulk", 1u << 20 }, { "mix", 24000 }, { "rpc", 200 } };

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
share(const char *name, const char *kind, uint32_t len)
{
	struct dpi_set *set = set_of(kind);
	bool app = strcmp(kind, "app") == 0;
	double shares[RUNS], plain = 0, with = 0;

	if (set == NULL && !app) {
		printf(
		    "{\"name\":\"%s\",\"value\":null,\"unit\":\"share\",\"note\":\"no sample of published rules\"}\n",
		    name);
		return;
	}
	make_session(len);
	for (int r = 0; r < RUNS; r++) {
		plain = cycles(NULL, false, 0);
		with = cycles(set, app, 16384);
		shares[r] = plain / with;
	}
	qsort(shares, RUNS, sizeof(shares[0]), perf_compare);
	printf(
	    "{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"share\",\"better\":\"higher\",\"note\":\"%.0f cyc/pkt, %.0f without\"}\n",
	    name, shares[RUNS / 2], with, plain);
	dpi_set_destroy(set);
}

static void
gbps(const char *name, const char *kind)
{
	struct dpi_set *set = set_of(kind);
	double runs[RUNS];

	make_session(24000);
	for (int r = 0; r < RUNS; r++)
		runs[r] = (double)payload_bytes * 8 /
		    (cycles(set, false, 1u << 20) * nb_frames / (double)rte_get_tsc_hz()) / 1e9;
	qsort(runs, RUNS, sizeof(runs[0]), perf_compare);
	printf("{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"Gb/s\",\"better\":\"higher\"}\n", name,
	    runs[RUNS / 2]);
	dpi_set_destroy(set);
}

static void
session_bytes(void)
{
	struct dpi_set *set = compiled(1000);
	struct dpi_watch_stats stats;
	struct fw_made made;
	struct world w;

	make_session(200);
	nb_frames = 7; /* up to the ACK of the response */
	world_begin(&w, set, false, 16384);
	for (unsigned int i = 0; i < 500; i++)
		(void)round_of(&w);
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
				share(name, kinds[k], mixes[i].len);
		}
		if (k == 0 || k == 3)
			continue;
		snprintf(name, sizeof(name), "dpi.%srules.gbps", kinds[k]);
		if (only == NULL)
			puts(name);
		else if (strncmp(name, only, len) == 0)
			gbps(name, kinds[k]);
	}
	if (only == NULL)
		puts("dpi.session.bytes");
	else if (strncmp("dpi.session.bytes", only, len) == 0)
		session_bytes();
	return 0;
}
