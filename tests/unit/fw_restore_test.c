/* A session table taken over from a process that was killed, at whatever instruction; and from one that was not
 * what it seems. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fw/hand_over.h"
#include "fw/session_mem.h"
#include "lib/clock.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define CAPACITY 4096
#define S        PK_NS_PER_S

static struct rte_mempool *pool;
static char file[64];
static struct fw_rules *rules;
static uint64_t rng = 0x9e3779b97f4a7c15;

static const struct world_rule rules_all[] = {
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
};

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

struct run {
	struct fw_session_mem *mem;
	enum fw_session_mem_found found;
	struct fw_path *path;
	uint64_t now_ns;
};

static void
begin(struct run *r, uint32_t capacity, uint64_t now_ns)
{
	struct fw_session_mem_conf conf = {
		.path = file,
		.capacity = capacity,
		.count = 1,
		.seed = { rnd(1000), 7 },
	};
	struct fw_path_conf path;
	struct pk_diag diag = { .text = "" };

	if (fw_session_mem_open(&r->mem, &conf, &r->found, &diag) != 0)
		fail_msg("%s", diag.text);
	fw_path_conf_init(&path);
	path.pool = pool;
	path.mem = r->mem;
	path.limit[FW_OWNER_WORKLOAD].sessions = CAPACITY;
	assert_int_equal(fw_path_create(&r->path, &path), 0);
	r->now_ns = now_ns;
}

static void
finish(struct run *r, bool clean)
{
	fw_path_destroy(r->path);
	fw_session_mem_close(r->mem, clean);
}

/* One packet of a random flow: TCP that opens, answers, closes or resets, or UDP. */
static unsigned int
packet(struct run *r, const struct world_pkt *w)
{
	uint8_t frame[2048];
	struct rte_mbuf *m = world_mbuf(pool, frame, world_frame(w, frame));
	struct fw_burst out;
	unsigned int sent;

	fw_path_burst(
	    r->path, rules, 0, w->from_outside ? FW_OUTSIDE : FW_INSIDE, &m, 1, r->now_ns, &out);
	sent = out.nb[w->from_outside ? FW_INSIDE : FW_OUTSIDE];
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		rte_pktmbuf_free_bulk(out.pkt[side], out.nb[side]);
	return sent;
}

static void
traffic(struct run *r, uint32_t spread)
{
	static const uint8_t flags[] = { FW_TCP_SYN, FW_TCP_SYN | FW_TCP_ACK, FW_TCP_ACK,
		FW_TCP_FIN | FW_TCP_ACK, FW_TCP_RST };
	struct world_pkt w = {
		.family = rnd(2) != 0 ? 4 : 6,
		.proto = rnd(3) != 0 ? IPPROTO_TCP : IPPROTO_UDP,
		.from_outside = rnd(2),
		.in = 1 + rnd(4),
		.out = 1 + rnd(8),
		.sport = (uint16_t)(1000 + rnd(spread)),
		.dport = (uint16_t)(1000 + rnd(8)),
		.seq = 100,
		.ack = 100,
		.win = 1000,
		.flags = flags[rnd(PK_COUNT(flags))],
	};

	if (w.from_outside) {
		uint16_t port = w.sport;

		w.sport = w.dport;
		w.dport = port;
	}
	packet(r, &w);
	if (rnd(16) == 0) {
		r->now_ns += S / 4;
		fw_path_tick(r->path, rules, r->now_ns, 64, NULL);
	}
}

/* All that has to agree in a table, however it came about. */
static void
check(const struct run *r)
{
	const struct fw_path *p = r->path;
	const struct fw_sessions *t = &p->sessions;
	uint32_t alive = 0, listed = 0, indexed = 0, refs = 0, held = 0;
	uint8_t *is_free = calloc(t->capacity, 1);

	for (uint32_t i = fw_bits_next(&t->free, 0); i != FW_BITS_NONE;
	     i = i + 1 < t->capacity ? fw_bits_next(&t->free, i + 1) : FW_BITS_NONE) {
		assert_true(i < t->fresh && !is_free[i]);
		is_free[i] = 1;
		listed++;
	}
	for (uint32_t i = 0; i < t->fresh; i++) {
		struct fw_pkt pk;

		assert_int_equal(is_free[i], t->version[i] % 2 == 0);
		if (is_free[i])
			continue;
		alive++;
		pk.key = t->hot[i].key;
		memcpy(pk.addr, t->cold[i].addr, sizeof(pk.addr));
		fw_sessions_hash(t, &pk);
		assert_int_equal(fw_sessions_find(t, &pk), i);
		assert_int_not_equal(t->timer.due[i], 0);
		refs += t->ether[i] != 0;
	}
	for (uint32_t b = 0; b < t->chain_end; b++)
		for (unsigned int way = 0; way < FW_BUCKET_WAYS; way++)
			indexed += t->bucket[b].tag[way] != 0;
	for (unsigned int e = 1; e <= FW_ETHERS_MAX; e++)
		refs -= p->ethers.ether[e].refs;
	for (uint32_t h = 1; h < p->hosts.fresh; h++)
		held += p->hosts.host[h].held[FW_HELD_SESSIONS];
	assert_int_equal(alive, t->nb);
	assert_int_equal(alive, indexed);
	assert_int_equal(alive, held);
	assert_int_equal(alive + listed, t->fresh);
	assert_int_equal(refs, 0);
	assert_true(world_balanced(p));
	free(is_free);
}

/* Let everything time out: nothing is left, nothing is lost on the way. */
static void
drain(struct run *r)
{
	for (unsigned int k = 0; k < 600 && fw_path_nb_sessions(r->path) > 0; k++) {
		r->now_ns += 600 * S;
		while (fw_path_tick(r->path, rules, r->now_ns, 256, NULL))
			;
	}
	assert_int_equal(fw_path_nb_sessions(r->path), 0);
	assert_int_equal(fw_path_nb_hosts(r->path), 0);
	check(r);
}

/* kill -9 in the middle of traffic that opens and ends sessions, again and again on the same table. */
static void
test_killed(void **state)
{
	uint64_t now = 1000 * S;
	unsigned int with_sessions = 0;
	volatile uint64_t *clock =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	for (unsigned int round = 0; round < 60; round++) {
		struct run r;
		uint32_t refused, nb;
		struct rte_mempool *own;
		char name[16];
		pid_t pid;

		/* DPDK shares its memory with children: what one leaves half done to a pool stays so, and the
		 * pool cannot even be freed. */
		snprintf(name, sizeof(name), "child%u", round);
		own = rte_pktmbuf_pool_create(name, 63, 0, 0, 4096, SOCKET_ID_ANY);
		assert_non_null(own);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			pool = own;
			rng ^= (uint64_t)round << 32;
			begin(&r, CAPACITY, now);
			if (round > 0) {
				if (r.found != FW_SESSION_MEM_KEPT)
					_exit(1);
				fw_path_restore(r.path, now, 0, &refused);
			}
			*clock = now;
			for (;;) {
				traffic(&r, round % 2 != 0 ? 500 : 5000);
				*clock = r.now_ns;
			}
		}
		usleep(3000 + rnd(12000));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		now = PK_MAX(now, *clock);
		begin(&r, CAPACITY, now);
		if (r.found != FW_SESSION_MEM_KEPT) {
			assert_int_equal(round, 0); /* it did not get as far */
			finish(&r, false);
			continue;
		}
		nb = fw_path_restore(r.path, now, 0, &refused);
		assert_int_equal(refused, 0);
		with_sessions += nb > 0;
		check(&r);
		for (unsigned int k = 0; k < 2000; k++)
			traffic(&r, 500);
		check(&r);
		if (round % 10 == 9)
			drain(&r);
		now = r.now_ns;
		finish(&r, round % 3 == 0);
	}
	assert_true(with_sessions > 40);
	munmap((void *)(uintptr_t)clock, 4096);
	unlink(file);
}

/* Bytes of the file that nobody vouches for: whatever they are, what comes out agrees with itself. */
static void
test_corrupted(void **state)
{
	uint64_t now = 1000 * S;

	(void)state;
	for (unsigned int round = 0; round < 100; round++) {
		struct stat st;
		uint32_t refused;
		struct run r;
		uint8_t *bytes;
		int fd;

		begin(&r, CAPACITY, now);
		if (r.found == FW_SESSION_MEM_KEPT)
			fw_path_restore(r.path, now, 0, &refused);
		for (unsigned int k = 0; k < 3000; k++)
			traffic(&r, 500);
		now = r.now_ns;
		finish(&r, true);
		fd = open(file, O_RDWR);
		assert_true(fd >= 0 && fstat(fd, &st) == 0);
		bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert_ptr_not_equal(bytes, MAP_FAILED);
		for (unsigned int k = 0; k < 4000; k++) {
			/* All but the header, which is another case; the used part above all. */
			size_t at =
			    4096 + rnd(k % 2 != 0 ? 512 * 1024 : (uint32_t)st.st_size - 4096);

			bytes[at] = k % 3 != 0 ? (uint8_t)rnd(256)
			                       : (uint8_t)(bytes[at] ^ 1 << rnd(8));
		}
		munmap(bytes, (size_t)st.st_size);
		close(fd);
		begin(&r, CAPACITY, now);
		assert_int_equal(r.found, FW_SESSION_MEM_KEPT);
		fw_path_restore(r.path, now, 0, &refused);
		check(&r);
		for (unsigned int k = 0; k < 500; k++)
			traffic(&r, 500);
		check(&r);
		if (round % 10 == 0)
			drain(&r);
		now = r.now_ns;
		finish(&r, true);
	}
	unlink(file);
}

/* A header that is not as it should be is not believed, and a file that others could write to not opened. */
static void
test_not_ours(void **state)
{
	struct fw_session_mem_conf conf = { .path = file, .capacity = CAPACITY, .count = 1 };
	enum fw_session_mem_found found;
	struct fw_session_mem *m, *second;
	char old[sizeof(file) + 8];
	struct pk_diag diag;
	struct run r;
	int fd;

	(void)state;
	begin(&r, CAPACITY, 1000 * S);
	assert_int_equal(r.found, FW_SESSION_MEM_NONE);
	finish(&r, true);
	/* Every byte of the header counts. */
	for (unsigned int at = 0; at < 104; at++) {
		uint8_t b;

		fd = open(file, O_RDWR);
		assert_int_equal(pread(fd, &b, 1, at), 1);
		b ^= 0x40;
		assert_int_equal(pwrite(fd, &b, 1, at), 1);
		close(fd);
		assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), 0);
		assert_int_equal(found, FW_SESSION_MEM_NONE);
		fw_session_mem_close(m, true);
		assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), 0);
		assert_int_equal(found, FW_SESSION_MEM_KEPT);
		assert_true(fw_session_mem_was_clean(m));
		fw_session_mem_close(m, true);
	}
	/* Cut short: a table has to be there as a whole. */
	assert_int_equal(truncate(file, 1 << 20), 0);
	assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), 0);
	assert_int_equal(found, FW_SESSION_MEM_NONE);
	fw_session_mem_close(m, false);
	assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), 0);
	assert_false(fw_session_mem_was_clean(m));
	/* One at a time; a lock belongs to the open file, so this process counts as two. */
	assert_int_equal(fw_session_mem_open(&second, &conf, &found, &diag), -EBUSY);
	fw_session_mem_close(m, true);
	chmod(file, 0620);
	assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), -EPERM);
	unlink(file);
	snprintf(old, sizeof(old), "%s.to", file);
	assert_int_equal(symlink(old, file), 0);
	assert_int_equal(fw_session_mem_open(&m, &conf, &found, &diag), -ELOOP);
	unlink(file);
}

/* The clock of the new process is another one: ages and idle times stay what they were. */
static void
test_other_clock(void **state)
{
	struct world_pkt w = {
		.family = 4, .proto = IPPROTO_UDP, .in = 1, .out = 1, .sport = 1000, .dport = 53
	};
	struct fw_record before, after;
	uint32_t refused;
	struct run r;

	(void)state;
	begin(&r, CAPACITY, 1000 * S);
	assert_int_equal(packet(&r, &w), 1);
	r.now_ns += 7 * S;
	assert_true(fw_path_record(r.path, 0, r.now_ns, &before));
	finish(&r, false);
	begin(&r, CAPACITY, 50 * S);
	assert_int_equal(
	    fw_path_restore(r.path, 50 * S, 50 * (int64_t)S - 1007 * (int64_t)S, &refused), 1);
	assert_true(fw_path_record(r.path, 0, r.now_ns, &after));
	assert_in_range(after.idle_ms, before.idle_ms - 3, before.idle_ms + 3);
	assert_in_range(after.left_ms, before.left_ms - 3, before.left_ms + 3);
	assert_int_equal(after.age_ms, before.age_ms);
	drain(&r);
	finish(&r, true);
	unlink(file);
}

/* From table to record to table: what a packet finds there is the same. */
static void
test_records(void **state)
{
	struct run a, b;
	char other[sizeof(file)];
	unsigned int nb = 0;
	enum fw_drop why;

	(void)state;
	begin(&a, CAPACITY, 1000 * S);
	for (unsigned int k = 0; k < 20000; k++)
		traffic(&a, 500);
	strcpy(other, file);
	strcat(file, ".b");
	begin(&b, 2 * CAPACITY, 100000 * S);
	for (uint32_t i = 0; i < a.path->sessions.fresh; i++) {
		const struct fw_session *s = &a.path->sessions.hot[i], *to;
		struct fw_record r, back;
		uint8_t bytes[FW_RECORD_MAX];
		struct pk_diag diag;
		uint32_t k;
		size_t skip;

		if (!fw_path_record(a.path, i, a.now_ns, &r))
			continue;
		assert_true(fw_record_encode(&r, bytes, sizeof(bytes)) > 0);
		assert_true(fw_record_decode(&back, bytes, sizeof(bytes), &skip, &diag) > 0);
		assert_memory_equal(&r, &back, sizeof(r));
		assert_int_equal(
		    fw_path_install(b.path, nb % 2 != 0 ? rules : NULL, &back, b.now_ns, &why),
		    FW_INSTALL_DONE);
		assert_int_equal(
		    fw_path_install(b.path, rules, &back, b.now_ns, &why), FW_INSTALL_THERE);
		k = b.path->sessions.fresh - 1;
		to = &b.path->sessions.hot[k];
		assert_int_equal(to->state, s->state);
		assert_int_equal(to->flags, s->flags);
		assert_int_equal(to->scale, s->scale);
		assert_memory_equal(to->side, s->side, sizeof(s->side));
		assert_memory_equal(to->win, s->win, sizeof(s->win));
		if (s->key.family == 4)
			assert_memory_equal(&to->key, &s->key, sizeof(s->key));
		/* Judged here, and by whom; or by nobody yet. */
		assert_int_equal(to->generation & FW_GENERATION_MASK, nb % 2);
		assert_true((to->generation != 0) == (nb % 2 != 0));
		assert_true(fw_path_record(b.path, k, b.now_ns, &back));
		if (r.left_ms != 0) /* what is overdue has no more idle time than its timeout */
			assert_in_range(back.idle_ms + 2, r.idle_ms, r.idle_ms + 4);
		assert_in_range(back.left_ms + 2, r.left_ms, r.left_ms + 4);
		assert_memory_equal(back.link, r.link, sizeof(r.link));
		nb++;
	}
	assert_true(nb > 500);
	check(&b);
	drain(&b);
	finish(&b, true);
	unlink(file);
	strcpy(file, other);
	finish(&a, true);
	unlink(file);
}

/* Who imports is asked: no rule, no workload, no session. */
static void
test_judged(void **state)
{
	static const struct world_rule few[] = {
		{ PK_EGRESS, PK_VERDICT_ALLOW, IPPROTO_UDP, 53, 53 },
	};
	struct fw_rules *strict = world_rules(9, 1, false, few, PK_COUNT(few));
	struct world_pkt w = {
		.family = 4, .proto = IPPROTO_UDP, .in = 1, .out = 1, .sport = 1000, .dport = 53
	};
	struct fw_record r;
	enum fw_drop why;
	struct run a;

	(void)state;
	begin(&a, CAPACITY, 1000 * S);
	assert_int_equal(packet(&a, &w), 1);
	assert_true(fw_path_record(a.path, 0, a.now_ns, &r));
	r.sport = 2000;
	assert_int_equal(fw_path_install(a.path, strict, &r, a.now_ns, &why), FW_INSTALL_DONE);
	r.dport = r.selector = 54;
	assert_int_equal(fw_path_install(a.path, strict, &r, a.now_ns, &why), FW_INSTALL_REFUSED);
	assert_int_equal(why, FW_DROP_RULE_DENY);
	/* Another has announced it: what counts is what that one may. */
	r.selector = 53;
	r.flags |= FW_RECORD_RELATED;
	assert_int_equal(fw_path_install(a.path, strict, &r, a.now_ns, &why), FW_INSTALL_DONE);
	r.flags &= (uint16_t)~FW_RECORD_RELATED;
	r.dport = 53;
	r.src = world_addr(4, true, 2); /* no workload under these rules */
	assert_int_equal(fw_path_install(a.path, strict, &r, a.now_ns, &why), FW_INSTALL_REFUSED);
	assert_int_equal(why, FW_DROP_NO_SUBJECT);
	check(&a);
	finish(&a, true);
	unlink(file);
	fw_rules_destroy(strict);
}

/* "1M sessions well below a second." */
static void
test_quick(void **state)
{
	uint32_t nb = 1000000, refused;
	uint64_t start;
	struct run r;

	(void)state;
	begin(&r, nb, 1000 * S);
	r.path->counting = false;
	for (uint32_t i = 0; i < nb; i++) {
		struct fw_record rec = {
			.src = { .family = 4, .bytes = { 198, 51, 100, 1 } },
			.dst = { .family = 4,
			    .bytes = { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } },
			.sport = (uint16_t)(1024 + i % 60000),
			.dport = 443,
			.selector = 443,
			.proto = IPPROTO_TCP,
			.state = FW_RECORD_ESTABLISHED,
			.age_ms = 1000,
			.left_ms = 3600000 + i,
		};
		enum fw_drop why;

		assert_int_equal(
		    fw_path_install(r.path, NULL, &rec, r.now_ns, &why), FW_INSTALL_DONE);
	}
	finish(&r, false);
	start = pk_clock_mono_ns();
	begin(&r, nb, 1000 * S);
	assert_int_equal(r.found, FW_SESSION_MEM_KEPT);
	r.path->counting = false;
	assert_int_equal(fw_path_restore(r.path, r.now_ns, 0, &refused), nb);
	print_message("# a million sessions restored in %.3f s\n",
	    (double)(pk_clock_mono_ns() - start) / 1e9);
	/* Ten times what it takes on a machine that is busy with something else. */
	assert_true(pk_clock_mono_ns() - start < 5 * S);
	finish(&r, true);
	unlink(file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_other_clock),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_judged),
		cmocka_unit_test(test_corrupted),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_quick),
	};
	int rc;

	snprintf(file, sizeof(file), "/dev/shm/picket-test.%d", (int)getpid());
	pool = world_start(255);
	if (pool == NULL)
		return 1;
	rules = world_rules(1, 4, false, rules_all, PK_COUNT(rules_all));
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	fw_rules_destroy(rules);
	return rc;
}
