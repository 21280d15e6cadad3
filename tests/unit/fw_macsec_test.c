/* MACsec between port and path: what passes when it is required, preferred, up and down; EAPOL goes its own way. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fw/macsec.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

static struct rte_mempool *pool;
static struct fw_path *path;

static uint64_t
drops(enum fw_drop why)
{
	return pk_counter_read(&fw_path_stats(path)->drop[why]);
}

static struct fw_macsec *
make(const char *words, uint64_t sci)
{
	struct fw_macsec_conf conf;
	struct fw_macsec *m;
	struct pk_diag diag;

	assert_int_equal(fw_macsec_parse(words, &conf, &diag), 0);
	conf.pool = pool;
	conf.secy.sci = sci;
	assert_int_equal(fw_macsec_create(&m, &conf, &diag), 0);
	return m;
}

static void
key(struct fw_macsec *m, uint64_t peer)
{
	struct macsec_sa_conf sa = { .suite = MACSEC_GCM_AES_128,
		.confidentiality = MACSEC_CONFIDENTIAL };
	struct macsec_secy *s = fw_macsec_secy(m);
	struct pk_diag diag;

	assert_int_equal(macsec_rx_sc_add(s, peer, &diag), 0);
	assert_int_equal(macsec_rx_sa_add(s, peer, &sa, &diag), 0);
	assert_int_equal(macsec_tx_sa_add(s, &sa, &diag), 0);
	assert_int_equal(macsec_tx_sa_use(s, 0), 0);
	macsec_secy_commit(s);
	macsec_secy_reclaim(s);
}

static struct rte_mbuf *
frame(uint16_t type, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint8_t *d = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)len);

	memset(d, 0x5a, len);
	d[0] = d[6] = 2;
	d[12] = (uint8_t)(type >> 8);
	d[13] = (uint8_t)type;
	return m;
}

static void
test_parse(void **state)
{
	static const char *const bad[] = { "", "x required", "0", "0 maybe", "0 required window",
		"0 required replay-window", "0 required replay-window x", "64 required",
		"0 required clear-vlans 3", "0 preferred no-sci fast" };
	struct fw_macsec_conf c;
	struct pk_diag diag;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(bad); i++)
		assert_int_equal(fw_macsec_parse(bad[i], &c, &diag), -EINVAL);
	assert_int_equal(fw_macsec_parse("3 required", &c, &diag), 0);
	assert_true(c.required && c.wire == 3 && c.secy.replay_strict &&
	    c.secy.replay_window == 64 && c.secy.include_sci);
	assert_int_equal(
	    fw_macsec_parse(
	        "0 preferred replay-window 100000 replay-standard end-station clear-vlans 1", &c,
	        &diag),
	    0);
	assert_true(!c.required && !c.secy.replay_strict && c.secy.replay_protect &&
	    c.secy.end_station && !c.secy.include_sci);
	assert_true(c.secy.replay_window == 100000 && c.secy.clear_vlans == 1);
	assert_int_equal(fw_macsec_parse("0 required replay-off", &c, &diag), 0);
	assert_false(c.secy.replay_protect);
}

/* Required: nothing in clear, up or down; preferred: in clear until it is up, and then not. */
static void
test_clear(void **state)
{
	(void)state;
	for (unsigned int required = 0; required < 2; required++) {
		struct fw_macsec *m = make(required ? "0 required" : "0 preferred", 1);
		struct rte_mbuf *b = frame(0x0800, 100);
		uint64_t down = drops(FW_DROP_MACSEC_DOWN),
		         untagged = drops(FW_DROP_MACSEC_UNTAGGED);

		assert_int_equal(fw_macsec_tx(m, path, &b, 1), !required);
		if (required)
			b = frame(0x0800, 100);
		assert_int_equal(b->pkt_len, 100);
		assert_int_equal(fw_macsec_rx(m, path, &b, 1, 1), !required);
		assert_int_equal(drops(FW_DROP_MACSEC_DOWN), down + 2 * required);
		if (!required)
			rte_pktmbuf_free(b);
		/* Enabled, and no key: still down. */
		fw_macsec_enable(m, true);
		assert_false(fw_macsec_up(m));
		key(m, 2);
		assert_true(fw_macsec_up(m));
		b = frame(0x0800, 100);
		assert_int_equal(fw_macsec_rx(m, path, &b, 1, 1), 0);
		assert_int_equal(drops(FW_DROP_MACSEC_UNTAGGED), untagged + 1);
		fw_macsec_destroy(m);
	}
}

/* What one end protects the other has as it was; in pieces, shared, or without room as well. */
static void
test_both_ends(void **state)
{
	struct fw_macsec *a = make("0 required", 1), *z = make("1 required", 2);

	(void)state;
	key(a, 2);
	key(z, 1);
	fw_macsec_enable(a, true);
	fw_macsec_enable(z, true);
	for (unsigned int how = 0; how < 4; how++) {
		struct rte_mbuf *b = frame(0x0806, 300), *second, *shared = NULL;

		if (how == 1) {
			second = rte_pktmbuf_alloc(pool);
			memset(rte_pktmbuf_append(second, 200), 0x5a, 200);
			assert_int_equal(rte_pktmbuf_chain(b, second), 0);
		} else if (how == 2) {
			shared = rte_pktmbuf_clone(b, pool);
			assert_non_null(shared);
		} else if (how == 3) {
			assert_non_null(rte_pktmbuf_prepend(b, rte_pktmbuf_headroom(b)));
			memset(rte_pktmbuf_mtod(b, void *), 0x5a, 128);
			rte_pktmbuf_mtod(b, uint8_t *)[0] = rte_pktmbuf_mtod(b, uint8_t *)[6] = 2;
			rte_pktmbuf_mtod(b, uint8_t *)[12] = 8;
			rte_pktmbuf_mtod(b, uint8_t *)[13] = 6;
		}
		{
			uint32_t len = b->pkt_len;

			assert_int_equal(fw_macsec_tx(a, path, &b, 1), 1);
			assert_int_equal(b->pkt_len, len + 32);
			assert_int_equal(b->nb_segs, 1);
			assert_memory_equal(
			    rte_pktmbuf_mtod_offset(b, uint8_t *, 12), "\x88\xe5", 2);
			assert_int_equal(fw_macsec_rx(z, path, &b, 1, 1), 1);
			assert_int_equal(b->pkt_len, len);
		}
		assert_memory_equal(rte_pktmbuf_mtod_offset(b, uint8_t *, 12), "\x08\x06\x5a", 3);
		assert_int_equal(rte_pktmbuf_mtod(b, uint8_t *)[b->pkt_len - 1], 0x5a);
		rte_pktmbuf_free(b);
		rte_pktmbuf_free(shared);
	}
	fw_macsec_destroy(a);
	fw_macsec_destroy(z);
}

static void
test_eapol(void **state)
{
	struct fw_macsec *m = make("0 required", 1);
	struct rte_mbuf *b;
	uint8_t bytes[200];

	(void)state;
	assert_int_equal(fw_macsec_eapol(m, bytes, sizeof(bytes)), 0);
	for (unsigned int i = 0; i < 100; i++) {
		b = frame(0x888e, 60 + i);
		assert_int_equal(fw_macsec_rx(m, path, &b, 1, 1), 0);
	}
	assert_int_equal(fw_macsec_eapol(m, bytes, sizeof(bytes)), 60);
	assert_memory_equal(bytes + 12, "\x88\x8e", 2);
	assert_int_equal(fw_macsec_eapol(m, bytes, 10), 10);
	assert_int_equal(pk_counter_read(&fw_macsec_stats(m)->eapol_in) +
	        pk_counter_read(&fw_macsec_stats(m)->eapol_in_lost),
	    100);
	assert_true(pk_counter_read(&fw_macsec_stats(m)->eapol_in_lost) > 0);
	assert_int_equal(fw_macsec_inject(m, bytes, 60), 0);
	assert_int_equal(fw_macsec_inject(m, bytes, 60000), -EMSGSIZE);
	assert_int_equal(fw_macsec_injected(m, &b, 1), 1);
	assert_int_equal(b->pkt_len, 60);
	rte_pktmbuf_free(b);
	assert_int_equal(fw_macsec_injected(m, &b, 1), 0);
	fw_macsec_destroy(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_both_ends),
		cmocka_unit_test(test_eapol),
	};
	struct fw_path_conf conf;

	pool = world_start(511);
	if (pool == NULL) {
		printf("1..0 # SKIP DPDK does not start: %s\n", rte_strerror(rte_errno));
		return 0;
	}
	fw_path_conf_init(&conf);
	conf.nb_sessions = 1024;
	conf.huge = false;
	conf.pool = pool;
	if (fw_path_create(&path, &conf) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
