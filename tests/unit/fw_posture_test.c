/*
 * The posture of the host in the packet path: a workload with two identities is the one or the other from
 * one burst to the next, by a word that says until when its host is attested.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fw/path_priv.h"
#include "fw/session_mem.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define S     PK_NS_PER_S
#define MANY  10000
#define HOSTS 4

static struct rte_mempool *pool;

struct fixture {
	struct fw_posture posture;
	struct fw_path_conf conf;
	struct fw_path *path;
	struct fw_rules *rules;
	struct fw_burst out;
	uint64_t now_ns;
};

static void
identity(struct world_talk *w, uint32_t id, uint64_t egress, uint64_t ingress)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, 1);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = id;
	m.identity.program[PK_EGRESS] = egress;
	m.identity.program[PK_INGRESS] = ingress;
	world_say(w, &m);
}

static void
program(struct world_talk *w, uint64_t id, uint16_t port, enum pk_verdict verdict)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.program = id;
	m.program.nb_rules = 1;
	world_say(w, &m);
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = id;
	m.rule.id = id;
	m.rule.verdict = (uint8_t)verdict;
	m.rule.match.any_peer = 1;
	m.rule.match.any_service = port == 0;
	m.rule.match.nb_services = port != 0;
	m.rule.match.service[0] = (struct pk_service){ .proto = 17, .low = port, .high = port };
	world_say(w, &m);
}

/* Host 1 may speak when attested, and reach port 53 when not; host 2 is who it is either way. */
static struct fw_rules *
make_rules(void)
{
	struct world_talk w = { 0 };
	struct pk_msg m;

	PK_ASSERT(fw_rules_state_create(&w.state) == 0);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.full = 1;
	world_say(&w, &m);
	identity(&w, 1, 1, 0);
	identity(&w, 2, 2, 0);
	program(&w, 1, 0, PK_VERDICT_ALLOW);
	program(&w, 2, 53, PK_VERDICT_ALLOW);
	for (uint32_t i = 1; i <= HOSTS; i++) {
		pk_msg_init(&m, PK_MSG_ENDPOINT, 1);
		m.endpoint.op = PK_OP_PUT;
		m.endpoint.local = 1;
		m.endpoint.identity = 1;
		m.endpoint.unattested = i == 1 ? 2 : 0;
		m.endpoint.addr = world_addr(4, true, i);
		strcpy(m.endpoint.name, "acme/workload");
		world_say(&w, &m);
	}
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 1);
	m.commit.nb_messages = w.said;
	world_say(&w, &m);
	fw_rules_state_destroy(w.state);
	return w.rules;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fw_path_conf_init(&f->conf);
	f->conf.nb_sessions = 2 * MANY;
	f->conf.huge = false;
	f->conf.seed[0] = 1;
	f->conf.seed[1] = 2;
	f->conf.pool = pool;
	f->conf.posture = &f->posture;
	memset(f->conf.limit, 0, sizeof(f->conf.limit));
	assert_int_equal(fw_path_create(&f->path, &f->conf), 0);
	f->rules = make_rules();
	f->now_ns = 1000 * S;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	assert_true(world_balanced(f->path));
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	fw_path_destroy(f->path);
	fw_rules_destroy(f->rules);
	free(f);
	return 0;
}

static void
attest(struct fixture *f, uint64_t until)
{
	atomic_store(&f->posture.until_ns, until);
}

/* Whether a UDP packet from inside host `in` to port `dport` gets out. */
static bool
passes(struct fixture *f, uint32_t in, uint16_t sport, uint16_t dport)
{
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_UDP,
		.in = in,
		.out = 3,
		.sport = sport,
		.dport = dport,
		.payload = 10 };
	uint8_t frame[2048];
	struct rte_mbuf *m = world_mbuf(pool, frame, world_frame(&w, frame));
	bool sent;

	fw_path_burst(f->path, f->rules, 0, FW_INSIDE, &m, 1, f->now_ns, &f->out);
	sent = f->out.nb[FW_OUTSIDE] == 1;
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		rte_pktmbuf_free_bulk(f->out.pkt[side], f->out.nb[side]);
	return sent;
}

static void
test_flip(void **state)
{
	struct fixture *f = *state;

	/* Nobody has said anything: not attested. */
	assert_false(passes(f, 1, 1000, 80));
	assert_true(passes(f, 1, 1000, 53));
	assert_true(passes(f, 2, 1000, 80));
	attest(f, f->now_ns + 10 * S);
	assert_true(passes(f, 1, 1001, 80));
	assert_true(passes(f, 1, 1001, 53));
	/* A live session ends with the next packet, what is allowed still goes on; others are not asked. */
	attest(f, 0);
	assert_false(passes(f, 1, 1001, 80));
	assert_true(passes(f, 1, 1001, 53));
	assert_true(passes(f, 2, 1000, 80));
	attest(f, f->now_ns + 10 * S);
	assert_true(passes(f, 1, 1002, 80));
	/* The lease is good to its end, and not a nanosecond longer. */
	f->now_ns += 10 * S - 1;
	assert_true(passes(f, 1, 1002, 80));
	f->now_ns += 1;
	assert_false(passes(f, 1, 1002, 80));
	assert_true(passes(f, 1, 1002, 53));
}

/* Trust that is lost and found between two packets of a session does not carry the session over. */
static void
test_flip_twice(void **state)
{
	struct fixture *f = *state;
	struct fw_path_stats *stats;
	uint64_t before;

	attest(f, f->now_ns + 10 * S);
	assert_true(passes(f, 1, 1000, 80));
	stats = (struct fw_path_stats *)(uintptr_t)fw_path_stats(f->path);
	attest(f, 0);
	assert_true(passes(f, 2, 1, 80)); /* another's burst sees it */
	attest(f, f->now_ns + 10 * S);
	before = pk_counter_read(&stats->reevaluated);
	assert_true(passes(f, 1, 1000, 80));
	assert_int_equal(pk_counter_read(&stats->reevaluated), before + 1);
}

/* 10,000 sessions of the host that nobody sends on are cut within 100 ms, by the clock of the path. */
static void
test_cut_many(void **state)
{
	struct fixture *f = *state;
	struct timespec a, b;
	uint64_t start;
	unsigned int kept = fw_path_nb_sessions(f->path);

	attest(f, f->now_ns + 100 * S);
	for (uint32_t i = 0; i < MANY; i++)
		assert_true(passes(f, 1, (uint16_t)(1024 + i), 80));
	assert_true(passes(f, 2, 1, 80));
	kept += 1;
	assert_int_equal(fw_path_nb_sessions(f->path), MANY + kept);
	(void)fw_path_tick(f->path, f->rules, f->now_ns, 4096, NULL);
	attest(f, 0);
	start = f->now_ns;
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (fw_path_nb_sessions(f->path) > kept && f->now_ns < start + S) {
		f->now_ns += 100 * PK_NS_PER_US;
		(void)fw_path_tick(f->path, f->rules, f->now_ns, 64, NULL);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_int_equal(fw_path_nb_sessions(f->path), kept);
	assert_true(f->now_ns - start <= 100 * PK_NS_PER_MS);
	print_message("# %d sessions cut in %.1f ms, which took %.2f ms to compute\n", MANY,
	    (double)(f->now_ns - start) / 1e6,
	    (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
}

/* Sessions taken over from a process before are asked for posture as for policy, whatever held then. */
static void
test_restored(void **state)
{
	struct fixture *f = *state;
	struct fw_session_mem_conf conf = {
		.capacity = f->conf.nb_sessions, .count = 1, .seed = { 5, 6 }
	};
	enum fw_session_mem_found found;
	char file[64];
	uint32_t refused;

	snprintf(file, sizeof(file), "/dev/shm/picket-posture.%d", (int)getpid());
	conf.path = file;
	for (int attested = 1; attested >= 0; attested--) {
		struct fw_session_mem *mem;
		struct fw_path *before = f->path;
		struct pk_diag diag;

		for (int life = 0; life < 2; life++) {
			if (fw_session_mem_open(&mem, &conf, &found, &diag) != 0)
				fail_msg("%s", diag.text);
			f->conf.mem = mem;
			assert_int_equal(fw_path_create(&f->path, &f->conf), 0);
			if (life == 0) {
				attest(f, f->now_ns + 10 * S);
				assert_true(passes(f, 1, 1000, 80));
				assert_true(passes(f, 1, 1000, 53));
			} else {
				assert_int_equal(found, FW_SESSION_MEM_KEPT);
				assert_int_equal(fw_path_restore(f->path, f->now_ns, 0, &refused), 2);
				attest(f, attested ? f->now_ns + 10 * S : 0);
				assert_int_equal(passes(f, 1, 1000, 80), attested);
				assert_true(passes(f, 1, 1000, 53));
			}
			fw_path_destroy(f->path);
			fw_session_mem_close(mem, life == 1);
		}
		f->conf.mem = NULL;
		f->path = before;
		unlink(file);
	}
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_flip),
		TEST(test_flip_twice),
		TEST(test_cut_many),
		TEST(test_restored),
	};

	pool = world_start(1023);
	if (pool == NULL) {
		printf("1..0 # SKIP DPDK does not start: %s\n", rte_strerror(rte_errno));
		return 0;
	}
	return cmocka_run_group_tests_name("fw/posture", tests, NULL, NULL);
}
