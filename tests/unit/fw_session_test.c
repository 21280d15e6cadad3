/* The session table against the plainest map there is, and the timer against a list. */
#include <stdlib.h>
#include <string.h>

#include "fw/session.h"
#include "tests/unit/test.h"

static uint64_t rng = 0x9e3779b97f4a7c15;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

#define NB_KEYS  20000
#define CAPACITY 8192

static void
make_key(struct fw_pkt *pk, uint32_t n)
{
	memset(pk, 0, sizeof(*pk));
	pk->key.proto = 6;
	pk->key.port[0] = (uint16_t)(n % 7);
	pk->key.port[1] = 443;
	pk->key.wire = (uint16_t)(n % 3);
	if (n % 2 == 0) {
		pk->key.family = 4;
		pk->key.v4[0] = n;
	} else {
		pk->key.family = 6;
		memcpy(pk->addr[0] + 12, &n, sizeof(n));
		pk->addr[1][0] = 0x20;
	}
}

static void
test_differential(void **state)
{
	static const uint64_t seed[2] = { 3, 4 };
	static uint32_t map[NB_KEYS]; /* index + 1, or 0 */
	static uint32_t owner[CAPACITY];
	struct fw_sessions t;
	uint32_t nb = 0, full = 0;

	(void)state;
	assert_int_equal(fw_sessions_init(&t, CAPACITY, seed, false, 0), 0);
	for (uint32_t step = 0; step < 400000; step++) {
		uint32_t n = rnd(step < 200000 ? 9000 : NB_KEYS), i;
		struct fw_pkt pk;

		make_key(&pk, n);
		fw_sessions_hash(&t, &pk);
		fw_sessions_guess(&t, &pk, 1);
		i = fw_sessions_settle(&t, &pk, pk.session);
		assert_int_equal(i, map[n] != 0 ? map[n] - 1 : FW_SESSION_NONE);
		if (i != FW_SESSION_NONE && rnd(3) == 0) {
			uint64_t id = fw_session_id(&t, i);

			if (rnd(2) != 0)
				fw_sessions_remove(&t, i);
			else
				fw_sessions_remove_burst(&t, &i, 1);
			assert_int_not_equal(fw_session_id(&t, i), id);
			map[n] = 0;
			nb--;
		} else if (i == FW_SESSION_NONE) {
			i = fw_sessions_create(&t, &pk);
			if (i == FW_SESSION_NONE) {
				full++;
				assert_int_equal(nb, CAPACITY);
				continue;
			}
			assert_true(i < CAPACITY);
			fw_sessions_publish(&t, i);
			owner[i] = n;
			map[n] = i + 1;
			nb++;
		}
		if (rnd(1000) == 0) {
			uint32_t gone[FW_REMOVE_BURST];
			unsigned int nb_gone = 0, want = rnd(FW_REMOVE_BURST + 1);

			for (n = rnd(NB_KEYS); n < NB_KEYS && nb_gone < want; n++) {
				if (map[n] == 0)
					continue;
				gone[nb_gone++] = map[n] - 1;
				map[n] = 0;
			}
			fw_sessions_remove_burst(&t, gone, nb_gone);
			for (unsigned int k = 0; k < nb_gone; k++)
				assert_false(fw_session_alive(&t, gone[k]));
			nb -= nb_gone;
		}
		assert_int_equal(t.nb, nb);
	}
	for (uint32_t n = 0; n < NB_KEYS; n++)
		if (map[n] != 0)
			assert_int_equal(owner[map[n] - 1], n);
	assert_true(full > 100);
	fw_sessions_fini(&t);
}

/* Every way in use and all keys in one bucket: the chain takes what it can, refuses the rest, and is whole
 * again afterwards. */
static void
test_one_bucket(void **state)
{
	static const uint64_t seed[2] = { 1, 1 };
	struct fw_sessions t;
	struct fw_pkt pk;
	uint32_t index[512], nb = 0, free_before;

	(void)state;
	assert_int_equal(fw_sessions_init(&t, 1024, seed, false, 0), 0);
	free_before = t.chain_end - t.chain_fresh;
	for (unsigned int round = 0; round < 3; round++) {
		uint32_t n = 0;

		for (nb = 0; nb < 512; n += 2) {
			make_key(&pk, n);
			fw_sessions_hash(&t, &pk);
			if (((uint32_t)pk.hash & t.mask & 0x3f) != 5)
				continue;
			index[nb] = fw_sessions_create(&t, &pk);
			if (index[nb] == FW_SESSION_NONE)
				break;
			nb++;
		}
		assert_true(nb > 32);
		for (uint32_t k = 0; k < nb; k++) {
			pk.key = t.hot[index[k]].key;
			fw_sessions_hash(&t, &pk);
			assert_int_equal(fw_sessions_find(&t, &pk), index[k]);
		}
		for (uint32_t k = 0; k < nb; k++)
			fw_sessions_remove(&t, index[(k * 7) % nb == 0 ? k : k]);
		assert_int_equal(t.nb, 0);
	}
	for (uint32_t b = 0; b <= t.mask; b++)
		assert_int_equal(t.bucket[b].next, 0);
	(void)free_before;
	fw_sessions_fini(&t);
}

/* "At most 200 bytes all-in per session": for sizes that do not suit the powers of two, too. */
static void
test_bytes(void **state)
{
	static const uint32_t sizes[] = { 1 << 20, 1000000, 700000, 1500000 };
	static const uint64_t seed[2] = { 1, 1 };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(sizes); i++) {
		struct fw_sessions t;

		assert_int_equal(fw_sessions_init(&t, sizes[i], seed, false, 0), 0);
		assert_true(t.bytes / sizes[i] <= 200);
		fw_sessions_fini(&t);
	}
}

static void
test_counters(void **state)
{
	static const uint64_t seed[2] = { 1, 1 };
	struct fw_sessions t;
	struct fw_pkt pk;
	uint32_t i;

	(void)state;
	assert_int_equal(fw_sessions_init(&t, 16, seed, false, 0), 0);
	make_key(&pk, 2);
	fw_sessions_hash(&t, &pk);
	i = fw_sessions_create(&t, &pk);
	for (unsigned int k = 0; k < 200000; k++)
		fw_session_count(&t, &t.hot[i], 1, 65535);
	assert_int_equal(t.cold[i].packets[1] + t.hot[i].packets[1], 200000);
	assert_int_equal(t.cold[i].bytes[1] + t.hot[i].bytes[1], UINT64_C(200000) * 65535);
	fw_sessions_fini(&t);
}

/* Take all there is, a few at a time. */
static unsigned int
take_all(struct fw_timer *t, uint64_t now, uint32_t *out, unsigned int max)
{
	unsigned int got = 0, n, lines;

	do {
		lines = rnd(40);
		n = fw_timer_take(t, now, out + got, PK_MIN(1 + rnd(40), max - got), &lines);
		got += n;
	} while (got < max && (n > 0 || lines == 0));
	return got;
}

/* Nothing comes early, nothing later than two ticks, whatever the order of filing and taking out. */
static void
test_timer(void **state)
{
	enum {
		NB = 5000
	};
	const uint64_t tick = UINT64_C(1) << FW_TIMER_SHIFT;
	void *memory = aligned_alloc(PK_CACHE_LINE, fw_timer_bytes(NB));
	static uint64_t due[NB];
	static uint32_t out[NB];
	uint64_t now = 5 * PK_NS_PER_S;
	struct fw_timer t;

	(void)state;
	memset(memory, 0x55, fw_timer_bytes(NB));
	fw_timer_init(&t, memory, NB, now);
	for (unsigned int step = 0; step < 300000; step++) {
		uint32_t i = rnd(step < 1000 ? 10 : NB);

		if (due[i] != 0 && rnd(4) == 0) {
			fw_timer_remove(&t, i);
			assert_int_equal(fw_timer_filed_ns(&t, i), 0);
			due[i] = 0;
		} else if (due[i] == 0 || rnd(8) == 0) {
			due[i] =
			    now + (uint64_t)rnd(rnd(5) == 0 ? 4000000 : 3000) * PK_NS_PER_MS + 1;
			fw_timer_file(&t, i, due[i]);
			assert_true(fw_timer_filed_ns(&t, i) >= due[i]);
			assert_true(fw_timer_filed_ns(&t, i) <= due[i] + 2 * tick);
		}
		if (rnd(4) != 0)
			continue;
		now += rnd(rnd(100) == 0 ? 100000 : 200) * PK_NS_PER_MS;
		/* A sweep may be left in the middle. */
		for (unsigned int n = take_all(&t, now, out, rnd(10) == 0 ? 20 : NB); n > 0; n--) {
			assert_int_not_equal(due[out[n - 1]], 0);
			assert_true(now >= due[out[n - 1]]);
			due[out[n - 1]] = 0;
			assert_int_equal(t.due[out[n - 1]], 0);
		}
		if (step % 100 == 0) {
			for (unsigned int n = take_all(&t, now, out, NB); n > 0; n--)
				due[out[n - 1]] = 0;
			for (unsigned int k = 0; k < NB; k++)
				assert_true(due[k] == 0 || now < due[k] + 2 * tick);
		}
	}
	/* Beyond the reach, and after a sleep of years. */
	for (unsigned int i = 0; i < NB; i++)
		fw_timer_remove(&t, i);
	fw_timer_file(&t, 7, now + 100000 * PK_NS_PER_S);
	now += 4000 * PK_NS_PER_S;
	assert_int_equal(take_all(&t, now, out, NB), 0);
	now += 400 * PK_NS_PER_S;
	assert_int_equal(take_all(&t, now, out, NB), 1);
	for (uint32_t i = 0; i < NB; i++)
		fw_timer_file(&t, i, now + 10 * PK_NS_PER_S);
	now += UINT64_C(100000000) * PK_NS_PER_S;
	assert_int_equal(take_all(&t, now, out, NB), NB);
	assert_int_equal(take_all(&t, now + tick, out, NB), 0);
	free(memory);
}

/* Blocks in which nothing is due are not looked into, and with nothing due that is nearly all. */
static void
test_timer_lines(void **state)
{
	enum {
		NB = 64 * FW_TIMER_BLOCK
	};
	void *memory = aligned_alloc(PK_CACHE_LINE, fw_timer_bytes(NB));
	uint64_t now = 5 * PK_NS_PER_S;
	unsigned int lines;
	struct fw_timer t;
	uint32_t out[4];

	(void)state;
	fw_timer_init(&t, memory, NB, now);
	for (uint32_t i = 0; i < NB; i++)
		fw_timer_file(&t, i, now + (i == 40000 ? 10 : 1000) * PK_NS_PER_S);
	lines = 1000;
	assert_int_equal(fw_timer_take(&t, now, out, 4, &lines), 0);
	lines = 1000;
	assert_int_equal(fw_timer_take(&t, now + 5 * PK_NS_PER_S, out, 4, &lines), 0);
	assert_int_equal(lines, 1000 - 64);
	lines = 1000;
	assert_int_equal(fw_timer_take(&t, now + 11 * PK_NS_PER_S, out, 4, &lines), 1);
	assert_int_equal(out[0], 40000);
	assert_int_equal(lines, 1000 - 63 - FW_TIMER_BLOCK / FW_TIMER_LINE);
	lines = 1000;
	assert_int_equal(fw_timer_take(&t, now + 12 * PK_NS_PER_S, out, 4, &lines), 0);
	assert_int_equal(lines, 1000 - 64);
	free(memory);
}

/* Against an array of flags, for capacities round the edges of the levels. */
static void
test_bits(void **state)
{
	static const uint32_t sizes[] = { 1, 63, 64, 65, 4096, 4097, 8192, 262144, 300000 };
	static bool flag[300000];

	(void)state;
	for (size_t s = 0; s < PK_COUNT(sizes); s++) {
		uint32_t nb = sizes[s];
		void *memory = aligned_alloc(PK_CACHE_LINE, fw_bits_bytes(nb));
		struct fw_bits b;

		memset(flag, 0, sizeof(flag));
		memset(memory, 0x55, fw_bits_bytes(nb));
		fw_bits_init(&b, memory, nb);
		for (unsigned int step = 0; step < 20000; step++) {
			uint32_t i = rnd(nb), from = rnd(nb), want = from;

			flag[i] = rnd(20) == 0;
			if (flag[i])
				fw_bits_set(&b, i);
			else
				fw_bits_clear(&b, i);
			if (step % (nb / 64 + 1) != 0)
				continue;
			while (want < nb && !flag[want])
				want++;
			assert_int_equal(fw_bits_next(&b, from), want < nb ? want : FW_BITS_NONE);
		}
		for (uint32_t i = 0; i < nb; i++)
			fw_bits_clear(&b, i);
		assert_int_equal(fw_bits_next(&b, 0), FW_BITS_NONE);
		/* Nothing but the least, from wherever: where words fill a level, the next level is not more of it. */
		fw_bits_set(&b, 0);
		for (uint32_t from = 0; from < nb; from += from < nb - 100 ? 61 : 1)
			assert_int_equal(fw_bits_next(&b, from), from == 0 ? 0 : FW_BITS_NONE);
		free(memory);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_differential),
		cmocka_unit_test(test_one_bucket),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_timer_lines),
		cmocka_unit_test(test_bits),
	};

	return cmocka_run_group_tests_name("fw/session", tests, NULL, NULL);
}
