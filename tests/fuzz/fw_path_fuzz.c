/*
 * The packet path: a sequence of frames with sides, times and mbuf flags, as the fuzzer likes.
 *
 *     [ flags: 1 | 256ths of a second later: 1 | length: 2 ] frame ...
 *
 * After each the account balances; at the end no buffer is missing and no session stays, so the path
 * can be used again for the next input: making one takes longer than running it.
 */
#include <stdlib.h>

#include "lib/wire.h"
#include "tests/unit/fw_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct world_rule rules_a[] = {
	{ PK_EGRESS, PK_VERDICT_REJECT, PK_PROTO_ANY, 23, 23 },
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
};
static const struct world_rule rules_b[] = {
	{ PK_EGRESS, PK_VERDICT_REJECT, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_REJECT, PK_PROTO_ANY, 0, 65535 },
};

static void
check(struct fw_path *path, struct fw_burst *out)
{
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		for (unsigned int i = 0; i < out->nb[side]; i++) {
			rte_mbuf_sanity_check(out->pkt[side][i], 1);
			rte_pktmbuf_free(out->pkt[side][i]);
		}
	PK_ASSERT(world_balanced(path));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct rte_mempool *pool;
	static struct fw_rules *rules[2];
	static struct fw_path *paths[2];
	static uint64_t now = 1000 * PK_NS_PER_S;
	struct pk_wire w = pk_wire_from(data, len);
	struct fw_path_conf conf;
	struct fw_path *path;
	struct fw_burst out;
	struct fw_made made;

	if (pool == NULL) {
		pool = world_start(255);
		PK_ASSERT(pool != NULL);
		rules[0] = world_rules(1, 4, false, rules_a, PK_COUNT(rules_a));
		rules[1] = world_rules(2, 4, false, rules_b, PK_COUNT(rules_b));
	}
	/* Five hundred years on the clock would run over. */
	if (now > UINT64_MAX / 4) {
		fw_path_destroy(paths[0]);
		fw_path_destroy(paths[1]);
		paths[0] = NULL;
		now = 1000 * PK_NS_PER_S;
	}
	if (paths[0] == NULL) {
		fw_path_conf_init(&conf);
		conf.nb_sessions = 8;
		conf.huge = false;
		conf.pool = pool;
		conf.seed[0] = 1;
		PK_ASSERT(fw_path_create(&paths[0], &conf) == 0);
		conf.tcp_loose = true;
		conf.ftp = conf.tftp = true;
		conf.limit[FW_OWNER_WORKLOAD] = (struct fw_limits){ 4, 2, 3 };
		conf.limit[FW_OWNER_TENANT] = (struct fw_limits){ 6, 0, 5 };
		conf.limit[FW_OWNER_SOURCE] = (struct fw_limits){ 0, 3, 2 };
		conf.syn_cookies = 25;
		PK_ASSERT(fw_path_create(&paths[1], &conf) == 0);
	}
	path = paths[len > 0 && (data[0] & 0x40) != 0];
	while (pk_wire_left(&w) >= 4) {
		uint8_t flags = pk_wire_u8(&w), later = pk_wire_u8(&w);
		size_t want = pk_wire_be16(&w) & 0x7ff;
		const uint8_t *frame = pk_wire_bytes(&w, PK_MIN(want, pk_wire_left(&w)));
		uint32_t n = (uint32_t)PK_MIN(want, (size_t)(w.at - frame));
		struct rte_mbuf *m = world_mbuf(pool, frame, n);

		if ((flags & 2) != 0 && n > 1) {
			uint32_t cut = n / 2;

			rte_pktmbuf_trim(m, (uint16_t)(n - cut));
			PK_ASSERT(
			    rte_pktmbuf_chain(m, world_mbuf(pool, frame + cut, n - cut)) == 0);
		}
		/* A checksum nobody can guess is taken to be the port's affair. */
		m->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
		if ((flags & 4) != 0)
			m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
		if ((flags & 8) != 0)
			m->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_NONE;
		now += later * (PK_NS_PER_S / 256) * ((flags & 32) != 0 ? 100 : 1);
		fw_path_tick(path, rules[flags >> 4 & 1], now, 4, &made);
		for (unsigned int i = 0; i < made.nb; i++)
			rte_pktmbuf_free(made.pkt[i].m);
		fw_path_burst(
		    path, rules[flags >> 4 & 1], 0, (enum fw_side)(flags & 1), &m, 1, now, &out);
		check(path, &out);
	}
	for (unsigned int i = 0; i < 4; i++) {
		now += 100000 * PK_NS_PER_S; /* more than any timeout */
		fw_path_tick(path, rules[0], now, 100, NULL);
	}
	PK_ASSERT(fw_path_nb_sessions(path) == 0);
	PK_ASSERT(rte_mempool_in_use_count(pool) == 0);
	return 0;
}
