/* Link headers, against an array: the same number for the same header, and none lost. */
#include <string.h>

#include "fw/ether.h"
#include "tests/unit/test.h"

static uint64_t rng = 0x2545f4914f6cdd1d;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* Header n: without a tag, with one, with two, or with one that the port has taken off. */
static void
make(struct fw_pkt *pk, struct rte_mbuf *m, uint8_t bytes[64], uint32_t n)
{
	memset(bytes, 0, 64);
	memset(pk, 0, sizeof(*pk));
	memset(m, 0, sizeof(*m));
	memcpy(bytes + 8, &n, sizeof(n));
	pk->m = m;
	pk->data = bytes;
	pk->contiguous = 64;
	pk->l3 = (uint16_t)(14 + 4 * (n % 4 == 3 ? 0 : n % 4));
	bytes[pk->l3] = (uint8_t)rnd(256); /* IP: does not count */
	if (n % 4 == 3) {
		m->ol_flags = RTE_MBUF_F_RX_VLAN_STRIPPED;
		m->vlan_tci = (uint16_t)n;
	}
}

static void
test_random(void **state)
{
	enum {
		NB = 6000
	};
	static uint16_t number[NB];
	static uint32_t refs[NB];
	struct fw_ethers t;
	uint32_t used = 0, full = 0;

	(void)state;
	assert_int_equal(fw_ethers_init(&t, NULL), 0);
	for (unsigned int round = 0; round < 400000; round++) {
		uint32_t n = rnd(round % 3 == 0 ? NB : 5);
		uint8_t bytes[64];
		struct rte_mbuf m;
		struct fw_pkt pk;
		uint16_t i;

		if (refs[n] > 0 && rnd(3) == 0) {
			fw_ethers_put(&t, number[n]);
			used -= --refs[n] == 0;
			continue;
		}
		make(&pk, &m, bytes, n);
		i = fw_ethers_get(&t, &pk);
		if (i == 0) {
			assert_int_equal(refs[n], 0);
			assert_int_equal(used, FW_ETHERS_MAX);
			full++;
			continue;
		}
		if (refs[n] > 0)
			assert_int_equal(i, number[n]);
		used += refs[n]++ == 0;
		number[n] = i;
		assert_int_equal(t.ether[i].len, pk.l3);
		assert_memory_equal(t.ether[i].bytes, bytes, pk.l3);
		assert_int_equal(t.ether[i].tci, n % 4 == 3 ? (uint16_t)n : 0);
	}
	assert_true(full > 0);
	for (uint32_t n = 0; n < NB; n++)
		while (refs[n]-- > 0 && refs[n] != UINT32_MAX)
			fw_ethers_put(&t, number[n]);
	for (unsigned int h = 0; h < FW_ETHERS_MAX; h++)
		assert_int_equal(t.head[h], 0);
	fw_ethers_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("fw/ether", tests, NULL, NULL);
}
