/*
 * ESP: Gb/s of payload on one lcore, AES-256-GCM.
 *
 *   esp_perf                  names of the measurements
 *   esp_perf NAME             ipsec.gcm256.{64,512,1420}.{1,1k,64k}sa
 *
 * Three things on the same buffers and keys, in turns, burst by burst: libipsec-mb alone (with keys fetched ahead, as
 * here), the ESP stage (esp_protect()), and the whole path from the session to a frame that could be sent
 * (fw_path_burst(), policy that wants encryption).  Each packet of a burst is of an SA taken at random.  And, of a single
 * SA, DPDK's librte_ipsec on its AES-GCM driver, synchronously.  A figure is the median over bursts, so that what
 * interrupts them stays in the tail; of five such, the median.
 */
#include <intel-ipsec-mb.h>
/* rte_cryptodev_sym_session_pool_create() has been there, and called experimental, since 19.02. */
#define ALLOW_EXPERIMENTAL_API

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cryptodev.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_ip.h>
#include <rte_ipsec.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include "fw/esp.h"
#include "tests/perf/perf.h"

#define BURST   32
#define BURSTS  1500
#define PACKETS 1024
#define TURNS   5
#define ETHER   14

static struct rte_mempool *pool;
static struct rte_mbuf *packets[PACKETS];
static uint32_t nb_sas, bytes;
static struct esp_sad *sad;
static struct fw_esp *esp;
static struct fw_path *path;
static struct fw_rules *rules;
static struct esp_engine engine;
static IMB_MGR *mb;
static uint32_t first_out; /* index of the first outbound SA */
static double samples[BURSTS];

static uint32_t
rnd(void)
{
	static uint64_t s = 88172645463325252ULL;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return (uint32_t)(s >> 16);
}

/* Flow i: workload 198.18.0.(1 + i % 250) to 198.19.x.y. */
static void
ends(uint32_t i, uint8_t src[4], uint8_t dst[4])
{
	memcpy(src, (uint8_t[]){ 198, 18, 0, (uint8_t)(1 + i % PERF_HOSTS) }, 4);
	memcpy(dst,
	    (uint8_t[]){ 198, 19, (uint8_t)(i / PERF_HOSTS), (uint8_t)(1 + i % PERF_HOSTS) }, 4);
}

/* A packet of flow i into the buffer, as it comes from a port; TCP, or what begins the flow. */
static void
fill(struct rte_mbuf *m, uint32_t i, uint8_t flags, uint32_t seq)
{
	uint32_t len = ETHER + bytes;
	uint8_t *f, src[4], dst[4];
	uint16_t sum;

	rte_pktmbuf_reset(m);
	m->data_len = (uint16_t)len;
	m->pkt_len = len;
	f = rte_pktmbuf_mtod(m, uint8_t *);
	memset(f, 0, 60);
	ends(i, src, dst);
	memcpy(f, (uint8_t[]){ 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45 }, 15);
	f[16] = (uint8_t)(bytes >> 8);
	f[17] = (uint8_t)bytes;
	f[22] = 64;
	f[23] = IPPROTO_UDP;
	memcpy(f + 26, src, 4);
	memcpy(f + 30, dst, 4);
	f[34] = 0x30;
	f[35] = 0x39;
	f[36] = 1;
	f[37] = 0xbb;
	f[38] = (uint8_t)((bytes - 20) >> 8);
	f[39] = (uint8_t)(bytes - 20);
	(void)flags;
	(void)seq;
	sum = (uint16_t)~fw_sum_fold(fw_sum(f + 14, 20, 0));
	memcpy(f + 24, &sum, 2);
}

/* All traffic from the workloads to TCP or UDP 443 has to be encrypted. */
static struct fw_rules *
make_rules(void)
{
	struct fw_rules_state *state;
	struct fw_rules *r;
	struct pk_msg m;

	PK_ASSERT(fw_rules_state_create(&state) == 0);
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.full = 1;
	perf_say(state, &m);
	perf_said = 0;
	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.direction = PK_EGRESS;
	m.program.program = 1;
	m.program.nb_rules = 1;
	perf_say(state, &m);
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = 1;
	m.rule.id = 1;
	m.rule.verdict = PK_VERDICT_ALLOW;
	m.rule.terms.encryption = PK_ENCRYPTION_IPSEC;
	m.rule.match.any_peer = m.rule.match.any_service = 1;
	perf_say(state, &m);
	perf_ingress(state);
	pk_msg_init(&m, PK_MSG_IDENTITY, 1);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = 1;
	m.identity.program[PK_EGRESS] = 1;
	m.identity.program[PK_INGRESS] = 2;
	perf_say(state, &m);
	for (uint32_t i = 0; i < PERF_HOSTS; i++) {
		pk_msg_init(&m, PK_MSG_ENDPOINT, 1);
		m.endpoint.op = PK_OP_PUT;
		m.endpoint.local = 1;
		m.endpoint.identity = 1;
		m.endpoint.addr.family = 4;
		memcpy(m.endpoint.addr.bytes, (uint8_t[]){ 198, 18, 0, (uint8_t)(1 + i) }, 4);
		perf_say(state, &m);
	}
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 1);
	m.commit.nb_messages = (uint32_t)perf_said;
	r = perf_say(state, &m);
	fw_rules_state_destroy(state);
	return r;
}

/* A tunnel with its SA for each flow, and a session. */
static void
make_world(void)
{
	struct esp_sad_conf conf = { .nb_sas = nb_sas };
	struct fw_path_conf path_conf;
	struct pk_diag diag;

	PK_ASSERT(esp_sad_create(&sad, &conf, &diag) == 0);
	PK_ASSERT(fw_esp_create(&esp, sad, 0, &diag) == 0);
	PK_ASSERT(ipsec_crypto_create(&engine.crypto, &diag) == 0);
	engine.sad = sad;
	mb = alloc_mb_mgr(0);
	PK_ASSERT(mb != NULL);
	init_mb_mgr_auto(mb, NULL);
	rules = make_rules();
	fw_path_conf_init(&path_conf);
	path_conf.nb_sessions = PK_MAX(nb_sas * 2, 1024u);
	path_conf.pool = pool;
	path_conf.esp = esp;
	path_conf.seed[0] = 1;
	path_conf.seed[1] = 2;
	path_conf.timeout_ns[FW_TIMEOUT_UDP_NEW] = 3600 * PK_NS_PER_S;
	PK_ASSERT(fw_path_create(&path, &path_conf) == 0);
	first_out = 1;
	for (uint32_t i = 0; i < nb_sas; i++) {
		struct pk_sadb_add_sa a;
		struct pk_sadb_policy p;
		struct rte_mbuf *m = packets[0];
		struct fw_burst out;

		memset(&a, 0, sizeof(a));
		a.id.src = (struct pk_addr){ .family = 4, .bytes = { 192, 0, 2, 1 } };
		a.id.dst = (struct pk_addr){ .family = 4, .bytes = { 192, 0, 2, 2 } };
		a.id.spi = 0x1000 + i;
		a.reqid = 1 + i;
		a.direction = PK_SADB_OUT;
		a.mode = PK_SADB_TUNNEL;
		a.flags = PK_SADB_ESN;
		a.encr = 20;
		a.encr_bits = 256;
		a.encr_key_len = 36;
		for (unsigned int k = 0; k < 36; k++)
			a.encr_key[k] = (uint8_t)rnd();
		PK_ASSERT(esp_sad_add(sad, &a, 1, &diag) == 0);
		memset(&p, 0, sizeof(p));
		p.direction = PK_SADB_POLICY_OUT;
		p.mode = PK_SADB_TUNNEL;
		p.reqid = 1 + i;
		p.src.addr.family = p.dst.addr.family = 4;
		ends(i, p.src.addr.bytes, p.dst.addr.bytes);
		p.src.len = p.dst.len = 32;
		p.sport_high = p.dport_high = UINT16_MAX;
		p.spi = a.id.spi;
		p.sa_dst = a.id.dst;
		PK_ASSERT(esp_sad_add_policy(sad, &p, &diag) == 0);
		fill(m, i, 0, 0);
		fw_path_burst(path, rules, 0, FW_INSIDE, &m, 1, PK_NS_PER_S, &out);
		PK_ASSERT(out.nb[FW_OUTSIDE] == 1 && out.pkt[FW_OUTSIDE][0] == m);
	}
	perf_say_drops("esp_perf", path);
}

/* ---- what is measured: one burst, in cycles a packet ------------------------------------------------ */

static void
one_raw(const uint32_t *sa, struct rte_mbuf **m)
{
	struct gcm_context_data ctx;

	for (unsigned int i = 0; i < BURST; i++)
		ipsec_key_prefetch(
		    esp_sad_key(sad, esp_sad_at(sad, sa[i])), IPSEC_AES_GCM_256, bytes);
	for (unsigned int i = 0; i < BURST; i++) {
		uint8_t *p = rte_pktmbuf_mtod(m[i], uint8_t *) + ETHER;

		IMB_AES256_GCM_ENC(mb, esp_sad_key(sad, esp_sad_at(sad, sa[i])), &ctx, p, p, bytes,
		    p - 24, p - 12, 8, p + bytes, 16);
	}
}

static void
one_stage(const uint32_t *sa, struct rte_mbuf **m)
{
	struct esp_pkt pkt[BURST];

	for (unsigned int i = 0; i < BURST; i++)
		pkt[i] = (struct esp_pkt){ .m = m[i], .l3 = ETHER, .sa = esp_sad_at(sad, sa[i]) };
	esp_protect(&engine, pkt, BURST, PK_NS_PER_S);
	for (unsigned int i = 0; i < BURST; i++)
		PK_ASSERT(pkt[i].error == ESP_OK);
}

static void
one_path(const uint32_t *sa, struct rte_mbuf **m)
{
	struct fw_burst out;

	(void)sa;
	fw_path_burst(path, rules, 0, FW_INSIDE, m, BURST, 2 * PK_NS_PER_S, &out);
	PK_ASSERT(out.nb[FW_OUTSIDE] == BURST);
}

static struct rte_ipsec_session peer;
static bool peer_made;

static void
one_peer(const uint32_t *sa, struct rte_mbuf **m)
{
	uint16_t k;

	(void)sa;
	k = rte_ipsec_pkt_cpu_prepare(&peer, m, BURST);
	PK_ASSERT(rte_ipsec_pkt_process(&peer, m, k) == BURST);
}

static double
measure(void (*one)(const uint32_t *sa, struct rte_mbuf **m), bool l3_only)
{
	for (unsigned int b = 0; b < BURSTS; b++) {
		struct rte_mbuf *m[BURST];
		uint32_t sa[BURST];
		uint64_t start;

		for (unsigned int i = 0; i < BURST; i++) {
			uint32_t flow = rnd() % nb_sas;

			m[i] = packets[(b * BURST + i) % PACKETS];
			sa[i] = first_out + flow;
			fill(m[i], flow, 0, 0);
			if (l3_only) {
				rte_pktmbuf_adj(m[i], ETHER);
				m[i]->l2_len = 0;
				m[i]->l3_len = 20;
			}
		}
		start = rte_rdtsc_precise();
		one(sa, m);
		samples[b] = (double)(rte_rdtsc_precise() - start) / BURST;
	}
	qsort(samples, BURSTS, sizeof(samples[0]), perf_compare);
	return samples[BURSTS / 2];
}

/* DPDK's own, of a single SA. */
static void
make_peer(void)
{
	static struct rte_ipv4_hdr outer = { .version_ihl = 0x45,
		.time_to_live = 64,
		.next_proto_id = IPPROTO_ESP,
		.src_addr = RTE_BE32(0xc0000201),
		.dst_addr = RTE_BE32(0xc0000202) };
	static const uint8_t key[32] = { 1, 2, 3 };
	struct rte_crypto_sym_xform x = { .type = RTE_CRYPTO_SYM_XFORM_AEAD };
	struct rte_cryptodev_config dev = { .nb_queue_pairs = 1 };
	struct rte_cryptodev_qp_conf queue = { .nb_descriptors = 1024 };
	struct rte_ipsec_sa_prm p = { 0 };
	struct rte_mempool *sessions;
	int size;

	if (rte_eal_hotplug_add("vdev", "crypto_aesni_gcm0", "") != 0)
		return;
	sessions = rte_cryptodev_sym_session_pool_create(
	    "sessions", 16, rte_cryptodev_sym_get_private_session_size(0), 0, 0, 0);
	queue.mp_session = sessions;
	if (sessions == NULL || rte_cryptodev_configure(0, &dev) != 0 ||
	    rte_cryptodev_queue_pair_setup(0, 0, &queue, 0) != 0 || rte_cryptodev_start(0) != 0)
		return;
	x.aead.op = RTE_CRYPTO_AEAD_OP_ENCRYPT;
	x.aead.algo = RTE_CRYPTO_AEAD_AES_GCM;
	x.aead.key.data = key;
	x.aead.key.length = 32;
	x.aead.iv.offset = sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op);
	x.aead.iv.length = 12;
	x.aead.digest_length = 16;
	x.aead.aad_length = 8;
	p.ipsec_xform.spi = 0x1234;
	p.ipsec_xform.salt = 0xa5a5;
	p.ipsec_xform.direction = RTE_SECURITY_IPSEC_SA_DIR_EGRESS;
	p.ipsec_xform.proto = RTE_SECURITY_IPSEC_SA_PROTO_ESP;
	p.ipsec_xform.mode = RTE_SECURITY_IPSEC_SA_MODE_TUNNEL;
	p.ipsec_xform.tunnel.type = RTE_SECURITY_IPSEC_TUNNEL_IPV4;
	p.tun.hdr = &outer;
	p.tun.hdr_len = sizeof(outer);
	p.tun.next_proto = IPPROTO_IPIP;
	p.crypto_xform = &x;
	p.flags = RTE_IPSEC_SATP_IPV4;
	size = rte_ipsec_sa_size(&p);
	peer.sa = rte_zmalloc(NULL, (size_t)size, 64);
	if (peer.sa == NULL || rte_ipsec_sa_init(peer.sa, &p, (uint32_t)size) < 0)
		return;
	peer.type = RTE_SECURITY_ACTION_TYPE_CPU_CRYPTO;
	peer.crypto.dev_id = 0;
	peer.crypto.ses = rte_cryptodev_sym_session_create(0, &x, sessions);
	peer_made = peer.crypto.ses != NULL && rte_ipsec_session_prepare(&peer) == 0;
}

static double
median(double *v)
{
	qsort(v, TURNS, sizeof(v[0]), perf_compare);
	return v[TURNS / 2];
}

static double
gbps(double cycles)
{
	return bytes * 8.0 * (double)rte_get_tsc_hz() / cycles / 1e9;
}

int
main(int argc, char **argv)
{
	static const uint32_t lens[] = { 64, 512, 1420 }, counts[] = { 1, 1000, 65536 };
	static const char *const words[] = { "1", "1k", "64k" };
	static char *eal[] = { (char *)"esp_perf", (char *)"--in-memory", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"-m", (char *)"64", (char *)"--log-level=error",
		(char *)"--lcores=0@0", (char *)"--iova-mode=va" };
	double raw[TURNS], stage[TURNS], whole[TURNS], other[TURNS], r, s, w, o;
	char name[64];
	bool found = false;

	for (unsigned int k = 0; k < 9; k++) {
		snprintf(name, sizeof(name), "ipsec.gcm256.%u.%ssa", lens[k / 3], words[k % 3]);
		if (argc < 2) {
			puts(name);
			continue;
		}
		if (strcmp(name, argv[1]) != 0)
			continue;
		bytes = lens[k / 3];
		nb_sas = counts[k % 3];
		found = true;
		break;
	}
	if (!found)
		return argc < 2 ? 0 : 2;
	if (rte_eal_init((int)PK_COUNT(eal), eal) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("packets", PACKETS + 255, 0, 0, 2304, SOCKET_ID_ANY);
	PK_ASSERT(pool != NULL);
	for (unsigned int i = 0; i < PACKETS; i++)
		PK_ASSERT((packets[i] = rte_pktmbuf_alloc(pool)) != NULL);
	make_world();
	if (nb_sas == 1)
		make_peer();
	for (unsigned int t = 0; t < TURNS; t++) {
		raw[t] = measure(one_raw, false);
		stage[t] = measure(one_stage, false);
		whole[t] = measure(one_path, false);
		other[t] = peer_made ? measure(one_peer, true) : 0;
	}
	r = median(raw);
	s = median(stage);
	w = median(whole);
	o = median(other);
	printf("{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"Gb/s\",\"better\":\"higher\",\"runs\":[",
	    name, gbps(w));
	for (unsigned int t = 0; t < TURNS; t++)
		printf("%s%.2f", t > 0 ? "," : "", gbps(whole[t]));
	printf(
	    "],\"cycles_per_packet\":%.0f,\"stage_cycles\":%.0f,\"raw_cycles\":%.0f,\"peers\":["
	    "{\"name\":\"ESP stage alone\",\"value\":%.2f},{\"name\":\"libipsec-mb 1.3, same buffers\",\"value\":%.2f},",
	    w, s, r, gbps(s), gbps(r));
	if (peer_made)
		printf("{\"name\":\"librte_ipsec 22.11, stage alone\",\"value\":%.2f}]", gbps(o));
	else
		printf(
		    "{\"name\":\"librte_ipsec 22.11, stage alone\",\"value\":null,\"reason\":\"%s\"}]",
		    nb_sas == 1 ? "no crypto_aesni_gcm"
		                : "it takes the packets of one SA at a time");
	printf(
	    ",\"note\":\"%u bytes of IP each, tunnel, ESN, outbound; value: session to frame\"}\n",
	    bytes);
	return 0;
}
