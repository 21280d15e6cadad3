/*
 * What attestation costs, and how fast it cuts.  Prints lines of perf.json.
 *
 *     attest_perf            says its results' names
 *     attest_perf NAME       measures that one
 *
 *     attest.quotes              quotes by an ECDSA P-256 AK judged per second of one core
 *     attest.ima                 entries of an IMA list replayed and judged by an allow-list per second of one core
 *     attest.quarantine.p99_ms   from bad evidence in memory to the last packet of that host that the path forwards:
 *                                judged by a helper, moved by the machine, said over the socket, put in force, and
 *                                seen by the next burst, as in picket-attestd and picketd
 *     attest.cut_ms              from the word to the last of 10,000 idle sessions of the host
 *
 * There is no TPM: the quotes are signed here, by the structures a TPM fills (TPM 2.0 Library, Part 2).
 */
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#include "attest/appraise.h"
#include "attest/state.h"
#include "lib/clock.h"
#include "lib/helper.h"
#include "lib/posture.h"
#include "lib/wire.h"
#include "tests/perf/perf.h"
#include "tests/unit/fw_world.h"

#define PCRS        UINT32_C(0x0004ff)
#define SECONDS     2
#define TURNS       3
#define IMA_ENTRIES 100000
#define CUTS        200
#define MANY        10000

static void
need(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "attest_perf: %s\n", what);
		exit(1);
	}
}

static void
result(const char *name, double value, const char *unit)
{
	printf("{\"name\":\"%s\",\"value\":%.*f,\"unit\":\"%s\"}\n", name, value < 100 ? 3 : 0,
	    value, unit);
}

/* ---- evidence ------------------------------------------------------------------------------------ */

struct bytes {
	uint8_t at[1024];
	size_t len;
};

static void
put(struct bytes *b, const void *at, size_t len)
{
	PK_ASSERT(b->len + len <= sizeof(b->at));
	memcpy(b->at + b->len, at, len);
	b->len += len;
}

/* Big-endian, as all of a TPM's. */
static void
number(struct bytes *b, uint64_t v, unsigned int len)
{
	while (len-- > 0)
		put(b, &(uint8_t){ (uint8_t)(v >> 8 * len) }, 1);
}

static void
sized(struct bytes *b, const void *at, size_t len)
{
	number(b, len, 2);
	put(b, at, len);
}

struct evidence {
	struct bytes public, message, signature;
	struct attest_pcrs pcrs;
	struct attest_challenge challenge;
};

static const uint8_t nonce[32] = "thirty-two bytes nobody foresaw";

static void
make_evidence(struct evidence *e)
{
	static const uint8_t signer[34] = { 0, 11 };
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	struct attest_bytes part[ATTEST_NB_PCRS];
	uint8_t point[65], digest[ATTEST_DIGEST_MAX], raw[80], half[32];
	const uint8_t *p = raw;
	size_t len, n = 0;
	struct bytes area = { .len = 0 };
	ECDSA_SIG *s;

	memset(e, 0, sizeof(*e));
	need(key != NULL && md != NULL, "no key");
	number(&area, ATTEST_ALG_ECC, 2);
	number(&area, ATTEST_ALG_SHA256, 2);
	number(&area,
	    ATTEST_OBJ_FIXED_TPM | ATTEST_OBJ_FIXED_PARENT | ATTEST_OBJ_SENSITIVE_ORIGIN |
	        ATTEST_OBJ_USER_WITH_AUTH | ATTEST_OBJ_RESTRICTED | ATTEST_OBJ_SIGN,
	    4);
	number(&area, 0, 2);
	number(&area, ATTEST_ALG_NULL, 2);
	number(&area, ATTEST_ALG_ECDSA, 2);
	number(&area, ATTEST_ALG_SHA256, 2);
	number(&area, ATTEST_CURVE_P256, 2);
	number(&area, ATTEST_ALG_NULL, 2);
	EVP_PKEY_get_octet_string_param(
	    key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point, sizeof(point), &len);
	sized(&area, point + 1, 32);
	sized(&area, point + 33, 32);
	sized(&e->public, area.at, area.len);
	e->pcrs.nb_banks = 1;
	e->pcrs.bank[0].alg = ATTEST_ALG_SHA256;
	e->pcrs.bank[0].mask = PCRS;
	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++) {
		memset(e->pcrs.bank[0].value[i], (int)i, 32);
		if ((PCRS >> i & 1) != 0)
			part[n++] = (struct attest_bytes){ e->pcrs.bank[0].value[i], 32 };
	}
	need(attest_hash(NULL, ATTEST_ALG_SHA256, part, n, digest) == 0, "no SHA-256");
	number(&e->message, ATTEST_TPM_GENERATED, 4);
	number(&e->message, ATTEST_TPM_ST_QUOTE, 2);
	sized(&e->message, signer, sizeof(signer));
	sized(&e->message, nonce, sizeof(nonce));
	number(&e->message, 100000, 8);
	number(&e->message, 1, 4);
	number(&e->message, 1, 4);
	number(&e->message, 1, 1);
	number(&e->message, 1, 8);
	number(&e->message, 1, 4);
	number(&e->message, ATTEST_ALG_SHA256, 2);
	number(&e->message, 3, 1);
	for (unsigned int i = 0; i < 3; i++)
		number(&e->message, PCRS >> 8 * i & 0xff, 1);
	sized(&e->message, digest, 32);
	len = sizeof(raw);
	need(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
	        EVP_DigestSign(md, raw, &len, e->message.at, e->message.len) == 1,
	    "no signature");
	s = d2i_ECDSA_SIG(NULL, &p, (long)len);
	number(&e->signature, ATTEST_ALG_ECDSA, 2);
	number(&e->signature, ATTEST_ALG_SHA256, 2);
	BN_bn2binpad(ECDSA_SIG_get0_r(s), half, 32);
	sized(&e->signature, half, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(s), half, 32);
	sized(&e->signature, half, 32);
	ECDSA_SIG_free(s);
	EVP_MD_CTX_free(md);
	EVP_PKEY_free(key);
	e->challenge.nonce = (struct attest_bytes){ nonce, sizeof(nonce) };
	e->challenge.require.nb_banks = 1;
	e->challenge.require.bank[0].alg = ATTEST_ALG_SHA256;
	e->challenge.require.bank[0].mask = PCRS;
}

/* What the verifier does with a quote, from its bytes on. */
static bool
judged_good(const struct evidence *e)
{
	static __thread struct attest_reasons r;
	struct attest_quote quote;
	struct attest_public ak;
	struct pk_diag diag;

	r.nb = r.lost = 0;
	need(attest_public_parse(&ak, e->public.at, e->public.len, &diag) == 0, diag.text);
	attest_ak_check(&ak, &r);
	attest_quote_check((struct attest_bytes){ e->message.at, e->message.len },
	    (struct attest_bytes){ e->signature.at, e->signature.len }, &ak, &e->challenge,
	    &e->pcrs, &quote, &r);
	return r.nb == 0;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Time of the core that we have had: others have some of it on a busy machine. */
static uint64_t
core_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * PK_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void
measure_quotes(const char *name)
{
	struct evidence *e = calloc(1, sizeof(*e));
	double rate[TURNS];

	make_evidence(e);
	need(judged_good(e), "the quote is not good");
	for (int t = 0; t < TURNS; t++) {
		uint64_t start = core_ns(), nb = 0, now;

		do {
			for (int i = 0; i < 100; i++, nb++)
				need(judged_good(e), "the quote is not good");
			now = core_ns();
		} while (now - start < (uint64_t)SECONDS * PK_NS_PER_S);
		rate[t] = (double)nb * 1e9 / (double)(now - start);
	}
	qsort(rate, TURNS, sizeof(rate[0]), by_value);
	result(name, rate[TURNS / 2], "/s");
	free(e);
}

/* ---- the list of IMA ----------------------------------------------------------------------------- */

static void
put_le32(FILE *f, uint32_t v)
{
	uint8_t b[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	fwrite(b, 1, 4, f);
}

/* An ima-ng list as the kernel writes it, of files with names as long as usual, and a policy that has them all. */
static void
make_list(FILE *list, FILE *policy)
{
	fputs("{\"meta\":{\"version\":1},\"digests\":{", policy);
	for (uint32_t i = 0; i < IMA_ENTRIES; i++) {
		uint8_t data[256] = { 40, 0, 0, 0 }, shown[20];
		struct attest_bytes part = { data, 0 };
		char path[96], hex[65];
		uint32_t n;

		snprintf(path, sizeof(path),
		    i == 0 ? "boot_aggregate" : "/usr/lib/x86_64-linux-gnu/libexample-%u.so.1.2.%u",
		    i, i % 7);
		memcpy(data + 4, "sha256:", 8);
		memset(data + 12, (int)(i % 251), 32);
		memcpy(data + 12, &i, 4);
		attest_hex(data + 12, 32, hex);
		n = (uint32_t)strlen(path) + 1;
		data[44] = (uint8_t)n;
		memcpy(data + 48, path, n);
		part.len = 48 + n;
		need(attest_hash(NULL, ATTEST_ALG_SHA1, &part, 1, shown) == 0, "no SHA-1");
		put_le32(list, ATTEST_PCR_IMA);
		fwrite(shown, 1, sizeof(shown), list);
		put_le32(list, 6);
		fwrite("ima-ng", 1, 6, list);
		put_le32(list, (uint32_t)part.len);
		fwrite(data, 1, part.len, list);
		fprintf(policy, "%s\"%s\":[\"%s\"]", i > 0 ? "," : "", path, hex);
	}
	fputs("}}", policy);
}

static void
measure_ima(const char *name)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_ima_policy *policy;
	char *list = NULL, *text = NULL;
	size_t list_len, text_len;
	FILE *f = open_memstream(&list, &list_len), *g = open_memstream(&text, &text_len);
	struct attest_ima_state state;
	uint8_t want[ATTEST_DIGEST_MAX];
	struct pk_diag diag;
	double rate[TURNS];
	uint32_t used, trailing;

	make_list(f, g);
	fclose(f);
	fclose(g);
	need(attest_ima_policy_parse(&policy, (uint8_t *)text, text_len, &diag) == 0, diag.text);
	/* Where it leads, as the quote would say. */
	attest_ima_state_init(&state, ATTEST_ALG_SHA256);
	need(attest_ima_replay(&state, (uint8_t *)list, list_len, NULL, &used, &diag) == 0,
	    diag.text);
	memcpy(want, state.value, sizeof(want));
	for (int t = 0; t < TURNS; t++) {
		uint64_t start = core_ns();

		attest_ima_state_init(&state, ATTEST_ALG_SHA256);
		r->nb = r->lost = 0;
		attest_appraise_ima((struct attest_bytes){ (uint8_t *)list, list_len }, &state,
		    want, NULL, policy, NULL, &used, &trailing, r);
		rate[t] = (double)used * 1e9 / (double)(core_ns() - start);
		need(r->nb == 0 && used == IMA_ENTRIES, r->nb > 0 ? r->reason[0].text : "entries");
	}
	qsort(rate, TURNS, sizeof(rate[0]), by_value);
	result(name, rate[TURNS / 2], "/s");
	attest_ima_policy_destroy(policy);
	free(list);
	free(text);
	free(r);
}

/* ---- the path ------------------------------------------------------------------------------------ */

struct plane {
	struct fw_posture posture;
	struct fw_path *path;
	struct fw_rules *rules;
	struct rte_mempool *pool;
	struct fw_burst out;
};

/* Workload 1 may speak to everybody while its host is attested, and to nobody when not. */
static struct fw_rules *
make_rules(void)
{
	struct world_talk w = { 0 };
	struct pk_msg m;

	PK_ASSERT(fw_rules_state_create(&w.state) == 0);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.full = 1;
	world_say(&w, &m);
	for (uint32_t id = 1; id <= 2; id++) {
		pk_msg_init(&m, PK_MSG_IDENTITY, 1);
		m.identity.op = PK_OP_PUT;
		m.identity.identity = id;
		m.identity.program[PK_EGRESS] = id;
		world_say(&w, &m);
		pk_msg_init(&m, PK_MSG_PROGRAM, 1);
		m.program.op = PK_OP_PUT;
		m.program.program = id;
		m.program.nb_rules = 1;
		world_say(&w, &m);
		pk_msg_init(&m, PK_MSG_RULE, 1);
		m.rule.program = m.rule.id = id;
		m.rule.verdict = id == 1 ? PK_VERDICT_ALLOW : PK_VERDICT_DENY;
		m.rule.match.any_peer = m.rule.match.any_service = 1;
		world_say(&w, &m);
	}
	pk_msg_init(&m, PK_MSG_ENDPOINT, 1);
	m.endpoint.op = PK_OP_PUT;
	m.endpoint.local = 1;
	m.endpoint.identity = 1;
	m.endpoint.unattested = 2;
	m.endpoint.addr = world_addr(4, true, 1);
	strcpy(m.endpoint.name, "acme/workload");
	world_say(&w, &m);
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 1);
	m.commit.nb_messages = w.said;
	world_say(&w, &m);
	fw_rules_state_destroy(w.state);
	return w.rules;
}

static void
plane_init(struct plane *p)
{
	struct fw_path_conf conf;

	memset(p, 0, sizeof(*p));
	p->pool = world_start(1023);
	need(p->pool != NULL, "DPDK does not start");
	fw_path_conf_init(&conf);
	conf.nb_sessions = 2 * MANY;
	conf.huge = false;
	conf.pool = p->pool;
	conf.posture = &p->posture;
	memset(conf.limit, 0, sizeof(conf.limit)); /* one workload holds all of them */
	need(fw_path_create(&p->path, &conf) == 0, "no path");
	p->rules = make_rules();
}

static void
plane_fini(struct plane *p)
{
	fw_path_destroy(p->path);
	fw_rules_destroy(p->rules);
}

/* How many of a burst of packets of one session, or one packet of session `sport`, come out. */
static unsigned int
burst(struct plane *p, uint16_t sport, unsigned int nb)
{
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_UDP,
		.in = 1,
		.out = 3,
		.sport = sport,
		.dport = 80,
		.payload = 10 };
	struct rte_mbuf *m[FW_BURST];
	uint8_t frame[2048];
	uint32_t len = (uint32_t)world_frame(&w, frame);
	unsigned int sent;

	for (unsigned int i = 0; i < nb; i++)
		m[i] = world_mbuf(p->pool, frame, len);
	fw_path_burst(
	    p->path, p->rules, 0, FW_INSIDE, m, (uint16_t)nb, pk_clock_mono_ns(), &p->out);
	sent = p->out.nb[FW_OUTSIDE];
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		rte_pktmbuf_free_bulk(p->out.pkt[side], p->out.nb[side]);
	return sent;
}

static void
measure_cut(const char *name)
{
	struct plane p;
	uint64_t start;

	plane_init(&p);
	atomic_store(&p.posture.until_ns, pk_clock_mono_ns() + 1000 * PK_NS_PER_S);
	for (uint32_t i = 0; i < MANY; i++)
		need(burst(&p, (uint16_t)(1024 + i), 1) == 1, "a session is not allowed");
	(void)fw_path_tick(p.path, p.rules, pk_clock_mono_ns(), 65536, NULL);
	need(fw_path_nb_sessions(p.path) == MANY, "sessions are missing");
	start = pk_clock_mono_ns();
	atomic_store(&p.posture.until_ns, 0);
	while (fw_path_nb_sessions(p.path) > 0 && pk_clock_mono_ns() - start < 10 * PK_NS_PER_S)
		(void)fw_path_tick(p.path, p.rules, pk_clock_mono_ns(), 64, NULL);
	need(fw_path_nb_sessions(p.path) == 0, "sessions stay");
	result(name, (double)(pk_clock_mono_ns() - start) / 1e6, "ms");
	plane_fini(&p);
}

/* ---- quarantine ---------------------------------------------------------------------------------- */

/* picketd's control thread, and the verifier's: each with its own loop. */
struct side {
	struct event_base *base;
	pthread_t thread;
	char path[64];
	struct plane *plane;            /* picketd's */
	struct pk_posture_ear *ear;     /* picketd's */
	struct pk_posture_mouth *mouth; /* the verifier's, and what follows */
	struct pk_helper *helper;
	struct event *evidence;
	int fd;
	struct evidence good, bad;
	struct attest_machine machine;
};

/* attest/daemon/dpu.c: evidence is judged by a helper, and moves the machine in the loop. */
struct judging {
	struct pk_job job;
	struct side *side;
	const struct evidence *evidence;
	bool ok;
};

static const struct attest_machine_conf machine_conf = {
	.missed_max = 3, .recover_rounds = 1, .lease_ns = 3600 * PK_NS_PER_S
};

static void
take(void *arg, const struct pk_msg_posture *m)
{
	struct plane *p = arg;

	/* fw_workers_posture() */
	atomic_store_explicit(
	    &p->posture.until_ns, m->attested ? m->until_mono_ns : 0, memory_order_release);
}

static void
judge(struct pk_job *job)
{
	struct judging *j = (struct judging *)job;

	j->ok = judged_good(j->evidence);
}

static void
judge_done(struct pk_job *job)
{
	struct judging *j = (struct judging *)job;
	struct side *v = j->side;
	uint64_t now = pk_clock_mono_ns();
	struct pk_msg_posture m = { .host = "host" };

	(void)attest_machine_step(
	    &v->machine, &machine_conf, j->ok ? ATTEST_STEP_GOOD : ATTEST_STEP_BAD, now, NULL);
	m.state = (uint8_t)v->machine.state;
	m.epoch = v->machine.epoch;
	m.attested = attest_machine_attested(&v->machine, now);
	m.fresh = m.attested;
	m.until_mono_ns = m.attested ? v->machine.lease_until_ns : 0;
	pk_posture_tell(v->mouth, &m);
	free(j);
}

static void
on_evidence(evutil_socket_t fd, short what, void *arg)
{
	struct side *v = arg;
	struct judging *j = calloc(1, sizeof(*j));
	uint64_t which;

	(void)what;
	need(j != NULL && read(fd, &which, sizeof(which)) == sizeof(which), "no evidence");
	if (which == 3) {
		event_base_loopbreak(v->base);
		free(j);
		return;
	}
	j->job.work = judge;
	j->job.done = judge_done;
	j->side = v;
	j->evidence = which == 2 ? &v->bad : &v->good;
	pk_helper_give(v->helper, &j->job);
}

static void *
run_side(void *arg)
{
	struct side *s = arg;
	char *path = s->path;
	struct pk_diag diag;

	s->base = event_base_new();
	need(s->base != NULL, "no loop");
	if (s->plane != NULL) {
		need(pk_posture_listen(&s->ear, s->base, s->path, take, s->plane, &diag) == 0,
		    diag.text);
	} else {
		need(pk_posture_mouth_create(&s->mouth, s->base, &path, 1, NULL, NULL) == 0 &&
		        pk_helper_create(&s->helper, s->base, "judge", &diag) == 0,
		    "no verifier");
	}
	s->evidence = event_new(s->base, s->fd, EV_READ | EV_PERSIST, on_evidence, s);
	need(s->evidence != NULL && event_add(s->evidence, NULL) == 0, "no event");
	event_base_dispatch(s->base);
	pk_helper_destroy(s->helper);
	pk_posture_mouth_destroy(s->mouth);
	pk_posture_ear_destroy(s->ear);
	event_free(s->evidence);
	event_base_free(s->base);
	return NULL;
}

static void
send_evidence(const struct side *s, uint64_t which)
{
	need(write(s->fd, &which, sizeof(which)) == sizeof(which), "eventfd");
}

/* Keep the path busy until it has forwarded, or has not forwarded anything for a while.  Returns when it
 * forwarded last. */
static uint64_t
traffic(struct plane *p, bool until_it_passes)
{
	uint64_t start = pk_clock_mono_ns(), last = start, now;

	for (;;) {
		bool sent = burst(p, 1024, 32) > 0;

		now = pk_clock_mono_ns();
		if (sent)
			last = now;
		if (until_it_passes && sent)
			return last;
		if (!until_it_passes && now - last > 50 * PK_NS_PER_MS)
			return last;
		need(now - start < 10 * PK_NS_PER_S, "the posture does not arrive");
	}
}

static void
measure_quarantine(const char *name)
{
	struct side *picketd = calloc(1, sizeof(*picketd)),
	            *verifier = calloc(1, sizeof(*verifier));
	double took[CUTS];
	struct plane p;

	plane_init(&p);
	picketd->plane = &p;
	snprintf(picketd->path, sizeof(picketd->path), "/tmp/picket-perf-%d.sock", (int)getpid());
	memcpy(verifier->path, picketd->path, sizeof(verifier->path));
	picketd->fd = eventfd(0, EFD_CLOEXEC);
	verifier->fd = eventfd(0, EFD_CLOEXEC);
	make_evidence(&verifier->good);
	verifier->bad = verifier->good;
	verifier->bad.pcrs.bank[0].value[10][0] ^= 1;
	need(judged_good(&verifier->good) && !judged_good(&verifier->bad), "evidence");
	/* Enrolled already. */
	(void)attest_machine_step(&verifier->machine, &machine_conf, ATTEST_STEP_ENROL, 0, NULL);
	need(pthread_create(&picketd->thread, NULL, run_side, picketd) == 0, "no thread");
	while (access(picketd->path, F_OK) != 0)
		usleep(1000);
	usleep(10000);
	need(pthread_create(&verifier->thread, NULL, run_side, verifier) == 0, "no thread");
	for (int i = 0; i < CUTS; i++) {
		uint64_t start;

		/* Good until it passes: after quarantine that takes more than one round. */
		for (int k = 0; k < 3; k++) {
			send_evidence(verifier, 1);
			usleep(2000);
		}
		(void)traffic(&p, true);
		start = pk_clock_mono_ns();
		send_evidence(verifier, 2);
		took[i] = (double)(traffic(&p, false) - start) / 1e6;
	}
	send_evidence(verifier, 3);
	pthread_join(verifier->thread, NULL);
	send_evidence(picketd, 3);
	pthread_join(picketd->thread, NULL);
	qsort(took, CUTS, sizeof(took[0]), by_value);
	result(name, took[CUTS * 99 / 100 - 1], "ms");
	fprintf(stderr,
	    "attest_perf: quarantine: median %.3f ms, p99 %.3f ms, longest %.3f ms of %d\n",
	    took[CUTS / 2], took[CUTS * 99 / 100 - 1], took[CUTS - 1], CUTS);
	close(picketd->fd);
	close(verifier->fd);
	unlink(picketd->path);
	free(picketd);
	free(verifier);
	plane_fini(&p);
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*measure)(const char *name);
	} all[] = {
		{ "attest.quotes", measure_quotes },
		{ "attest.ima", measure_ima },
		{ "attest.quarantine.p99_ms", measure_quarantine },
		{ "attest.cut_ms", measure_cut },
	};

	for (size_t i = 0; i < PK_COUNT(all); i++)
		if (argc < 2)
			puts(all[i].name);
		else if (strcmp(argv[1], all[i].name) == 0)
			all[i].measure(all[i].name);
	return 0;
}
