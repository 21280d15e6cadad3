/* The session table against the plainest map there is, and the timer wheel against a list. */
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

			fw_sessions_remove(&t, i);
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
		fw_session_count(&t, i, 1, 65535);
	assert_int_equal(t.cold[i].packets[1] + t.hot[i].packets[1], 200000);
	assert_int_equal(t.cold[i].bytes[1] + t.hot[i].bytes[1], UINT64_C(200000) * 65535);
	fw_sessions_fini(&t);
}

/* Nothing comes early, nothing later than two ticks, whatever the order of filing and taking out. */
static void
test_timer(void **state)
{
	enum {
		NB = 3000
	};
	static struct {
		char before[20];
		struct fw_timer_link link;
	} thing[NB];
	static struct fw_timer t;
	static uint64_t due[NB];
	const uint64_t tick = UINT64_C(1) << FW_TIMER_SHIFT;
	uint64_t now = 5 * PK_NS_PER_S;

	(void)state;
	for (unsigned int i = 0; i < NB; i++)
		thing[i].link.slot = FW_TIMER_UNFILED;
	fw_timer_init(&t, &thing[0].link, sizeof(thing[0]), now);
	for (unsigned int step = 0; step < 200000; step++) {
		uint32_t i = rnd(NB), out[16];
		unsigned int n;

		if (due[i] != 0 && rnd(4) == 0) {
			fw_timer_remove(&t, i);
			assert_int_equal(fw_timer_filed_ns(&t, i), 0);
			due[i] = 0;
		} else if (due[i] == 0) {
			due[i] =
			    now + (uint64_t)rnd(rnd(5) == 0 ? 900000 : 3000) * PK_NS_PER_MS + 1;
			fw_timer_add(&t, i, due[i], i % FW_TIMER_CLASSES);
			assert_true(fw_timer_filed_ns(&t, i) >= due[i]);
			assert_true(fw_timer_filed_ns(&t, i) <= due[i] + tick);
		}
		if (rnd(4) != 0)
			continue;
		now += rnd(200) * PK_NS_PER_MS;
		do {
			n = fw_timer_take(&t, now, out, 16);
			for (unsigned int k = 0; k < n; k++) {
				assert_int_not_equal(due[out[k]], 0);
				assert_true(now >= due[out[k]]);
				due[out[k]] = 0;
			}
		} while (n == 16);
		if (step % 100 == 0)
			for (unsigned int k = 0; k < NB; k++)
				assert_true(due[k] == 0 || now < due[k] + 2 * tick);
	}
	/* Beyond the wheel's reach, and after a sleep of years. */
	for (unsigned int i = 0; i < NB; i++)
		fw_timer_remove(&t, i);
	fw_timer_add(&t, 7, now + 100000 * PK_NS_PER_S, 0);
	now += 1200 * PK_NS_PER_S;
	assert_int_equal(fw_timer_take(&t, now, (uint32_t[1]){ 0 }, 1), 1);
	fw_timer_add(&t, 7, now + 10 * PK_NS_PER_S, 0);
	now += UINT64_C(100000000) * PK_NS_PER_S;
	assert_int_equal(fw_timer_take(&t, now, (uint32_t[2]){ 0 }, 2), 1);
	assert_int_equal(t.nb, 0);
}

/* First filed, first out, within a slot and over slots; each class on its own. */
static void
test_timer_first(void **state)
{
	static struct {
		uint32_t n;
		struct fw_timer_link link;
	} thing[3000];
	static struct fw_timer t;
	uint64_t now = 77 * PK_NS_PER_S;

	(void)state;
	fw_timer_init(&t, &thing[0].link, sizeof(thing[0]), now);
	for (unsigned int c = 0; c < FW_TIMER_CLASSES; c++)
		assert_int_equal(fw_timer_first(&t, c), FW_TIMER_NONE);
	/* Round the wheel, with time standing still and moving. */
	for (unsigned int round = 0; round < 3; round++) {
		uint32_t next[FW_TIMER_CLASSES] = { 0, 1, 2 }, out[1];

		for (uint32_t i = 0; i < PK_COUNT(thing); i++)
			fw_timer_add(&t, i, now + i * 100 * PK_NS_PER_MS, i % FW_TIMER_CLASSES);
		for (unsigned int k = 0; k < PK_COUNT(thing); k++) {
			unsigned int c = k % FW_TIMER_CLASSES;
			uint32_t i = fw_timer_first(&t, c);

			assert_int_equal(i, next[c]);
			next[c] += FW_TIMER_CLASSES;
			fw_timer_remove(&t, i);
		}
		assert_int_equal(t.nb, 0);
		now += 333 * PK_NS_PER_S;
		assert_int_equal(fw_timer_take(&t, now, out, 1), 0);
	}
	fw_timer_add(&t, 5, now, 1);
	fw_timer_add(&t, 6, now, 1);
	now = fw_timer_filed_ns(&t, 5);
	fw_timer_reclass(&t, 5, 2);
	assert_int_equal(fw_timer_filed_ns(&t, 5), now);
	assert_int_equal(fw_timer_first(&t, 1), 6);
	assert_int_equal(fw_timer_first(&t, 2), 5);
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
		cmocka_unit_test(test_timer_first),
	};

	return cmocka_run_group_tests_name("fw/session", tests, NULL, NULL);
}
