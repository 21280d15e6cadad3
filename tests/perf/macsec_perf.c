/*
 * MACsec on one lcore, in the whole path: established UDP of workloads, parsed, guarded, judged by its session, and
 * protected; and what others have protected, validated and judged.  Beside the path without MACsec, and beside
 * libipsec-mb's AES-GCM over the same octets and nothing else.
 *
 *   macsec_perf            prints the names of its results
 *   macsec_perf NAME       measures one: Gb/s of clear frames, median of bursts of 32, median of three turns
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "fw/macsec.h"
#include "ipsec/crypto.h"
#include "tests/unit/fw_world.h"

#define NB \
	1024 /* packets in turn: in the cache of the lcore, as they are behind a port that writes there */
#define BURSTS 3000
#define TURNS  3

static struct rte_mempool *pool;
static struct rte_mbuf *mbuf[NB];
static uint8_t frame[2048];
static struct fw_rules *rules;
static uint64_t now = 1000 * PK_NS_PER_S;

static const struct world_rule allow[] = {
	{ PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
	{ PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, 65535 },
};

struct turn {
	double plain, protect, validate, raw; /* cycles a packet */
};

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

static uint32_t
make_frame(uint32_t len, bool from_outside)
{
	struct world_pkt w = { .family = 4,
		.proto = IPPROTO_UDP,
		.from_outside = from_outside,
		.in = 1,
		.out = 1,
		.sport = from_outside ? 53 : 4000,
		.dport = from_outside ? 4000 : 53,
		.payload = (uint16_t)(len - 42) };

	return world_frame(&w, frame);
}

static void
load(unsigned int at, uint32_t len)
{
	for (unsigned int i = at; i < at + FW_BURST; i++) {
		mbuf[i]->data_off = RTE_PKTMBUF_HEADROOM;
		mbuf[i]->data_len = (uint16_t)len;
		mbuf[i]->pkt_len = len;
		memcpy(rte_pktmbuf_mtod(mbuf[i], void *), frame, len);
	}
}

static struct fw_macsec *
make_macsec(uint16_t wire, uint8_t suite, bool receive)
{
	struct fw_macsec_conf conf;
	struct macsec_sa_conf sa = {
		.suite = suite, .confidentiality = MACSEC_CONFIDENTIAL, .key = { 1, 2, 3 }
	};
	struct fw_macsec *m;
	struct pk_diag diag;

	PK_ASSERT(fw_macsec_parse(wire == 0 ? "0 required" : "1 required", &conf, &diag) == 0);
	conf.pool = pool;
	conf.secy.sci = 7;
	PK_ASSERT(fw_macsec_create(&m, &conf, &diag) == 0);
	if (receive)
		PK_ASSERT(macsec_rx_sc_add(fw_macsec_secy(m), 7, &diag) == 0 &&
		    macsec_rx_sa_add(fw_macsec_secy(m), 7, &sa, &diag) == 0);
	PK_ASSERT(macsec_tx_sa_add(fw_macsec_secy(m), &sa, &diag) == 0);
	PK_ASSERT(macsec_tx_sa_use(fw_macsec_secy(m), 0) == 0);
	macsec_secy_commit(fw_macsec_secy(m));
	fw_macsec_enable(m, true);
	return m;
}

static void
measure(struct turn *t, uint8_t suite, uint32_t len)
{
	static double plain[BURSTS], protect[BURSTS], validate[BURSTS], raw[BURSTS];
	static struct fw_burst out;
	struct fw_macsec *tx = make_macsec(0, suite, false), *rx = make_macsec(1, suite, true);
	enum ipsec_alg alg = suite == MACSEC_GCM_AES_128 ? IPSEC_AES_GCM_128 : IPSEC_AES_GCM_256;
	static uint8_t key[IPSEC_KEY_STRIDE] PK_CACHE_ALIGNED, aad[28], icv[FW_BURST][16], iv[12];
	const uint8_t material[32] = { 1 };
	struct ipsec_crypto *crypto;
	struct ipsec_op op[FW_BURST];
	struct fw_path_conf conf;
	struct fw_path *p;
	struct pk_diag diag;

	fw_path_conf_init(&conf);
	conf.nb_sessions = 4096;
	conf.pool = pool;
	conf.seed[0] = 11;
	PK_ASSERT(fw_path_create(&p, &conf) == 0 && ipsec_crypto_create(&crypto, &diag) == 0);
	PK_ASSERT(ipsec_key_prepare(
	              key, alg, material, alg == IPSEC_AES_GCM_128 ? 16 : 32, NULL, 0, &diag) == 0);
	for (unsigned int b = 0; b < BURSTS; b++) {
		unsigned int at = b * FW_BURST % NB, n;
		struct rte_mbuf **pkts = mbuf + at;
		uint64_t start;

		now += 1000;
		make_frame(len, false);
		load(at, len);
		start = rte_rdtsc();
		fw_path_burst(p, rules, 0, FW_INSIDE, pkts, FW_BURST, now, &out);
		plain[b] = (double)(rte_rdtsc() - start) / FW_BURST;
		PK_ASSERT(out.nb[FW_OUTSIDE] == FW_BURST);
		load(at, len);
		start = rte_rdtsc();
		fw_path_burst(p, rules, 0, FW_INSIDE, pkts, FW_BURST, now, &out);
		n = fw_macsec_tx(tx, p, out.pkt[FW_OUTSIDE], FW_BURST);
		protect[b] = (double)(rte_rdtsc() - start) / FW_BURST;
		PK_ASSERT(n == FW_BURST);
		/* What comes back has been protected by the other end. */
		make_frame(len, true);
		load(at, len);
		n = fw_macsec_tx(tx, p, pkts, FW_BURST);
		start = rte_rdtsc();
		n = fw_macsec_rx(rx, p, pkts, FW_BURST, now);
		fw_path_burst(p, rules, 0, FW_OUTSIDE, pkts, n, now, &out);
		validate[b] = (double)(rte_rdtsc() - start) / FW_BURST;
		PK_ASSERT(out.nb[FW_INSIDE] == FW_BURST);
		for (unsigned int i = 0; i < FW_BURST; i++)
			op[i] = (struct ipsec_op){ .key = key,
				.data = rte_pktmbuf_mtod(pkts[i], uint8_t *) + 12,
				.aad = aad,
				.iv = iv,
				.icv = icv[i],
				.len = len - 12,
				.aad_len = sizeof(aad),
				.alg = (uint8_t)alg };
		start = rte_rdtsc();
		ipsec_seal(crypto, op, FW_BURST);
		raw[b] = (double)(rte_rdtsc() - start) / FW_BURST;
	}
	t->plain = median(plain, BURSTS);
	t->protect = median(protect, BURSTS);
	t->validate = median(validate, BURSTS);
	t->raw = median(raw, BURSTS);
	ipsec_crypto_destroy(crypto);
	fw_path_destroy(p);
	fw_macsec_destroy(tx);
	fw_macsec_destroy(rx);
}

static int
by_protect(const void *a, const void *b)
{
	return compare(&((const struct turn *)a)->protect, &((const struct turn *)b)->protect);
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint8_t suite;
		uint32_t len;
	} cases[] = {
		{ "macsec.gcm128.64", MACSEC_GCM_AES_128, 64 },
		{ "macsec.gcm128.512", MACSEC_GCM_AES_128, 512 },
		{ "macsec.gcm128.1514", MACSEC_GCM_AES_128, 1514 },
		{ "macsec.gcm256.64", MACSEC_GCM_AES_256, 64 },
		{ "macsec.gcm256.512", MACSEC_GCM_AES_256, 512 },
		{ "macsec.gcm256.1514", MACSEC_GCM_AES_256, 1514 },
	};
	struct turn turn[TURNS], *m;
	double runs[TURNS];

	for (size_t i = 0; argc < 2 && i < PK_COUNT(cases); i++)
		puts(cases[i].name);
	if (argc < 2)
		return 0;
	pool = world_start(NB + 511);
	PK_ASSERT(pool != NULL && rte_pktmbuf_alloc_bulk(pool, mbuf, NB) == 0);
	rules = world_rules(1, 4, true, allow, PK_COUNT(allow));
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		double bits = cases[i].len * 8.0 * (double)rte_get_tsc_hz() / 1e9;

		if (strcmp(cases[i].name, argv[1]) != 0)
			continue;
		for (unsigned int t = 0; t < TURNS; t++)
			measure(&turn[t], cases[i].suite, cases[i].len);
		for (unsigned int t = 0; t < TURNS; t++)
			runs[t] = bits / turn[t].protect;
		qsort(turn, TURNS, sizeof(turn[0]), by_protect);
		m = &turn[TURNS / 2];
		printf(
		    "{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"Gb/s\",\"better\":\"higher\",\"runs\":[%.2f,%.2f,%.2f]",
		    cases[i].name, bits / m->protect, runs[0], runs[1], runs[2]);
		printf(
		    ",\"cycles\":{\"protect\":%.0f,\"validate\":%.0f,\"plain\":%.0f,\"raw\":%.0f}",
		    m->protect, m->validate, m->plain, m->raw);
		/* What MACsec costs is what the path takes more with it; the cryptography alone is the least it can be. */
		printf(
		    ",\"note\":\"in the path: protect %.0f cycles a packet, validate %.0f, neither %.0f; ipsec-mb alone %.0f; so MACsec "
		    "goes at %.0f and %.0f %% of the speed of ipsec-mb, %.0f and %.0f cycles above it\"",
		    m->protect, m->validate, m->plain, m->raw,
		    100 * m->raw / (m->protect - m->plain), 100 * m->raw / (m->validate - m->plain),
		    m->protect - m->plain - m->raw, m->validate - m->plain - m->raw);
		printf(
		    ",\"peers\":[{\"name\":\"validating\",\"value\":%.2f},{\"name\":\"path, no MACsec\",\"value\":%.2f}"
		    ",{\"name\":\"ipsec-mb alone\",\"value\":%.2f}]}\n",
		    bits / m->validate, bits / m->plain, bits / m->raw);
	}
	return 0;
}
