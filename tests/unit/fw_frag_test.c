/* Virtual reassembly: pieces against a map of bytes, and the table's limits. */
#include <netinet/in.h>
#include <string.h>

#include "fw/frag.h"
#include "fw/path.h"
#include "tests/unit/test.h"

#define S         PK_NS_PER_S
#define MAP_BYTES 2048

static const uint64_t seed[2] = { 11, 12 };
static uint64_t rng = 0x2545f4914f6cdd1d;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

struct made {
	uint8_t bytes[54];
	struct fw_pkt pk;
};

/* As the parser leaves it: a fragment from 192.0.2.host to 198.51.100.1. */
static struct fw_pkt *
fragment(struct made *m, uint8_t host, uint32_t id, uint32_t off, uint32_t len, bool more)
{
	memset(m, 0, sizeof(*m));
	memcpy(m->bytes + 14 + 12, (uint8_t[]){ 192, 0, 2, host, 198, 51, 100, 1 }, 8);
	m->pk = (struct fw_pkt){ .data = m->bytes,
		.l3 = 14,
		.contiguous = sizeof(m->bytes),
		.l4_proto = IPPROTO_UDP,
		.fragment = true,
		.frag_id = id,
		.frag_off = (uint16_t)off,
		.frag_len = (uint16_t)len,
		.frag_more = more };
	m->pk.key.family = 4;
	return &m->pk;
}

/*
 * Random pieces of a packet: what fw_frag_add() lets pass never overlaps, what it refuses always does or
 * is one loose piece too many, and complete is when each byte up to the end has come.
 */
static void
test_pieces(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct fw_frag f = { 0 };
		bool map[MAP_BYTES] = { false };
		uint32_t end = 0, highest = 0, at = 0;
		bool in_order = round % 4 == 0;

		for (unsigned int i = 0; i < 24; i++) {
			uint32_t len = 8 * (1 + rnd(6)), off = in_order ? at : 8 * rnd(40);
			bool more = rnd(8) != 0, overlap = false;
			unsigned int runs = 0;
			enum fw_drop got;
			struct made m;

			at = off + len;
			for (uint32_t k = off; k < off + len; k++)
				overlap |= map[k];
			overlap |= more ? end != 0 && off + len > end
			                : end != 0 || highest > off + len;
			got = fw_frag_add(&f, fragment(&m, 1, 1, off, len, more));
			if (overlap) {
				assert_int_equal(got, FW_DROP_FRAG_OVERLAP);
				assert_int_equal(fw_frag_add(&f, fragment(&m, 1, 1, 0, 8, true)),
				    FW_DROP_FRAG_OVERLAP);
				assert_false(fw_frag_complete(&f));
				break;
			}
			for (uint32_t k = off; k < off + len; k++)
				map[k] = true;
			for (uint32_t k = 0; k < MAP_BYTES; k++)
				runs += map[k] && (k == 0 || !map[k - 1]);
			if (runs > FW_FRAG_PIECES) {
				assert_int_equal(got, FW_DROP_FRAG_HOLES);
				break;
			}
			assert_int_equal(got, FW_DROP_NONE);
			assert_int_equal(f.nb_pieces, runs);
			highest = PK_MAX(highest, off + len);
			if (!more)
				end = off + len;
			assert_int_equal(
			    fw_frag_complete(&f), end != 0 && runs == 1 && map[0] && map[end - 1]);
			if (fw_frag_complete(&f))
				break;
		}
	}
}

static void
test_limits(void **state)
{
	struct fw_hosts hosts;
	struct fw_frags t;
	struct fw_frag *f;
	struct made m;
	uint32_t nb = 0;

	(void)state;
	assert_int_equal(fw_hosts_init(&hosts, 64, seed), 0);
	assert_int_equal(fw_frags_init(&t, 1000, 5 * S, seed, &hosts), 0);
	/* One workload gets its share and no more. */
	while (fw_frags_room(&t, fragment(&m, 1, nb, 0, 80, true), FW_INSIDE) == FW_DROP_NONE) {
		assert_non_null(fw_frags_open(&t, &m.pk, FW_INSIDE, nb, nb));
		nb++;
	}
	assert_int_equal(nb, FW_FRAG_PER_HOST);
	assert_int_equal(fw_frags_room(&t, &m.pk, FW_INSIDE), FW_DROP_FRAG_LIMIT);
	assert_int_equal(
	    fw_frags_room(&t, fragment(&m, 2, 0, 0, 80, true), FW_INSIDE), FW_DROP_NONE);
	/* From outside the same addresses mean another workload. */
	assert_int_equal(
	    fw_frags_room(&t, fragment(&m, 1, 0, 0, 80, true), FW_OUTSIDE), FW_DROP_NONE);
	assert_null(fw_frags_find(&t, &m.pk, FW_OUTSIDE, 100));
	for (uint32_t id = 0; id < nb; id++) {
		f = fw_frags_find(&t, fragment(&m, 1, id, 80, 80, true), FW_INSIDE, 100);
		assert_non_null(f);
		assert_int_equal(f->session, id);
	}
	fw_frags_remove(&t, fw_frags_find(&t, fragment(&m, 1, 7, 0, 8, true), FW_INSIDE, 100));
	assert_int_equal(
	    fw_frags_room(&t, fragment(&m, 1, 9999, 0, 80, true), FW_INSIDE), FW_DROP_NONE);
	/* All of them together get what there is. */
	for (uint32_t i = 0; t.nb < 1000; i++)
		assert_non_null(fw_frags_open(&t,
		    fragment(&m, (uint8_t)(2 + i % 50), i, 0, 80, true), FW_INSIDE, i, 200 + i));
	assert_int_equal(
	    fw_frags_room(&t, fragment(&m, 99, 0, 0, 80, true), FW_INSIDE), FW_DROP_FRAG_FULL);
	/* Time: in order, with a budget, and whoever is out of time is not found any more. */
	assert_null(fw_frags_find(&t, fragment(&m, 1, 0, 80, 8, true), FW_INSIDE, 5 * S));
	assert_int_equal(fw_frags_expire(&t, 5 * S - 1, 1000), 0);
	assert_int_equal(fw_frags_expire(&t, 6 * S, 10), 10);
	assert_int_equal(fw_frags_expire(&t, 6 * S, 10000), 990);
	assert_int_equal(t.nb, 0);
	assert_int_equal(hosts.nb, 0);
	fw_frags_fini(&t);
	fw_hosts_fini(&hosts);
}

/* Open, find and remove at random, against an array. */
static void
test_table(void **state)
{
	enum {
		IDS = 300
	};
	bool there[IDS] = { false };
	struct fw_hosts hosts;
	struct fw_frags t;
	struct made m;

	(void)state;
	assert_int_equal(fw_hosts_init(&hosts, 64, seed), 0);
	assert_int_equal(fw_frags_init(&t, 200, 5 * S, seed, &hosts), 0);
	for (unsigned int i = 0; i < 100000; i++) {
		uint32_t id = rnd(IDS);
		struct fw_pkt *pk = fragment(&m, (uint8_t)(id % 20), id, 0, 80, true);
		struct fw_frag *f = fw_frags_find(&t, pk, FW_INSIDE, 1);

		assert_int_equal(f != NULL, there[id]);
		if (f != NULL)
			fw_frags_remove(&t, f);
		else if (fw_frags_room(&t, pk, FW_INSIDE) == FW_DROP_NONE)
			assert_non_null(fw_frags_open(&t, pk, FW_INSIDE, id, 1));
		else
			continue;
		there[id] = !there[id];
	}
	fw_frags_expire(&t, 10 * S, UINT32_MAX);
	assert_int_equal(t.nb, 0);
	assert_int_equal(hosts.nb, 0);
	fw_frags_fini(&t);
	fw_hosts_fini(&hosts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests_name("fw/frag", tests, NULL, NULL);
}
