/*
 * Frames from outside for a DPU that has tunnels: what is not ESP, or not for it, is told apart before it is parsed
 * (fw/path_unprotect.c), and goes on to the path.  First byte: what is done to the frame, so that the fuzzer gets past
 * lengths and the ICV; the rest is the frame, or what is inside.
 */
#include <netinet/in.h>
#include <string.h>

#include "fw/esp.h"
#include "tests/unit/fw_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct rte_mempool *pool;
static struct fw_esp *esp;
static struct fw_path *path;
static struct fw_rules *rules;
static struct ipsec_crypto *crypto;

static void
start(void)
{
	static const struct world_rule open[] = { { PK_EGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0,
		                                      UINT16_MAX },
		{ PK_INGRESS, PK_VERDICT_ALLOW, PK_PROTO_ANY, 0, UINT16_MAX } };
	struct esp_sad_conf sad_conf = { .nb_sas = 8 };
	struct fw_path_conf conf;
	struct pk_sadb_add_sa a;
	struct esp_sad *sad;
	struct pk_diag diag;

	pool = world_start(511);
	PK_ASSERT(pool != NULL && esp_sad_create(&sad, &sad_conf, &diag) == 0 &&
	    fw_esp_create(&esp, sad, 0, &diag) == 0 && ipsec_crypto_create(&crypto, &diag) == 0);
	esp->nb_locals = 2;
	for (unsigned int i = 0; i < 2; i++) {
		esp->local[i] =
		    (struct fw_local){ .mac = { 2, 0, 0, 0, 0, 9 }, .mtu = 1500, .prefix_len = 24 };
		esp->local[i].addr = world_addr(i == 0 ? 4 : 6, false, 201);
	}
	/* 1: tunnel, IPv4; 2: transport to a workload, IPv6; 3: tunnel in UDP, ESN */
	for (unsigned int i = 1; i <= 3; i++) {
		memset(&a, 0, sizeof(a));
		a.id.src = world_addr(i == 2 ? 6 : 4, false, 202);
		a.id.dst = world_addr(i == 2 ? 6 : 4, i == 2, i == 2 ? 1 : 201);
		a.id.spi = ESP_SPI_BASE | i;
		a.reqid = i;
		a.direction = PK_SADB_IN;
		a.mode = i == 2 ? PK_SADB_TRANSPORT : PK_SADB_TUNNEL;
		a.encr = 20;
		a.encr_bits = 128;
		a.encr_key_len = 20;
		a.replay_window = i == 1 ? 0 : 64;
		a.flags = i == 3 ? PK_SADB_ESN | PK_SADB_ENCAP : 0;
		a.sport = a.dport = i == 3 ? 4500 : 0;
		PK_ASSERT(esp_sad_add(sad, &a, 0, &diag) == 0);
	}
	rules = world_rules(1, 4, true, open, 2);
	fw_path_conf_init(&conf);
	conf.nb_sessions = 1024;
	conf.huge = false;
	conf.pool = pool;
	conf.esp = esp;
	PK_ASSERT(fw_path_create(&path, &conf) == 0);
}

/* Put `bytes` into an ESP packet of SA `n` as the peer would. */
static uint32_t
sealed(uint8_t *f, unsigned int n, const uint8_t *bytes, uint32_t len, uint32_t seq)
{
	struct esp_sa *sa = esp_sad_at(esp->sad, n);
	struct pk_addr src = world_addr(n == 2 ? 6 : 4, false, 202),
	               dst = world_addr(n == 2 ? 6 : 4, n == 2, n == 2 ? 1 : 201);
	uint32_t head = n == 2 ? 40 : 20, udp = n == 3 ? 8 : 0, clear = len & ~3u;
	uint8_t *ip = f + 14, *e = ip + head + udp, aad[12], nonce[12] = { 0 };
	struct ipsec_op op = { .key = esp_sad_key(esp->sad, sa),
		.data = e + 16,
		.aad = aad,
		.iv = nonce,
		.icv = e + 16 + clear,
		.len = clear,
		.aad_len = n == 3 ? 12 : 8,
		.alg = sa->alg };
	uint16_t sum;

	memset(f, 0, 14 + head + udp + 16);
	memcpy(f, (uint8_t[]){ 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 2 }, 12);
	world_put(f + 12, n == 2 ? 0x86dd : 0x0800, 2);
	if (n == 2) {
		ip[0] = 0x60;
		world_put(ip + 4, 16 + clear + 16, 2);
		ip[6] = IPPROTO_ESP;
		ip[7] = 64;
		memcpy(ip + 8, src.bytes, 16);
		memcpy(ip + 24, dst.bytes, 16);
	} else {
		ip[0] = 0x45;
		world_put(ip + 2, head + udp + 16 + clear + 16, 2);
		ip[8] = 64;
		ip[9] = n == 3 ? IPPROTO_UDP : IPPROTO_ESP;
		memcpy(ip + 12, src.bytes, 4);
		memcpy(ip + 16, dst.bytes, 4);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	}
	if (udp != 0) {
		world_put(ip + 20, 4500, 2);
		world_put(ip + 22, 4500, 2);
		world_put(ip + 24, 8 + 16 + clear + 16, 2);
	}
	memcpy(e, &sa->spi_be, 4);
	world_put(e + 4, seq, 4);
	memcpy(aad, e, 4);
	world_put(aad + (n == 3 ? 8 : 4), seq, 4);
	if (n == 3)
		memset(aad + 4, 0, 4);
	memcpy(nonce, &sa->salt, 4);
	memcpy(e + 16, bytes, clear);
	ipsec_seal(crypto, &op, 1);
	return 14 + head + udp + 16 + clear + 16;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t f[4096];
	static uint32_t seq;
	static uint64_t now_ns = PK_NS_PER_S;
	struct fw_burst out;
	struct rte_mbuf *m;
	struct fw_ask ask;
	uint32_t n;

	if (pool == NULL)
		start();
	if (len < 2 || len > 1800)
		return 0;
	if (data[0] % 4 == 0) {
		n = (uint32_t)len - 1;
		memcpy(f, data + 1, n);
	} else {
		n = sealed(f, data[0] % 4, data + 1, (uint32_t)len - 1, ++seq);
	}
	m = world_mbuf(pool, f, n);
	PK_ASSERT(m != NULL);
	now_ns += PK_NS_PER_MS;
	n = fw_path_unprotect(path, rules, 0, FW_OUTSIDE, &m, 1, now_ns);
	out.nb[FW_INSIDE] = out.nb[FW_OUTSIDE] = 0;
	if (n > 0)
		fw_path_burst(path, rules, 0, FW_OUTSIDE, &m, 1, now_ns, &out);
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
		rte_pktmbuf_free_bulk(out.pkt[side], out.nb[side]);
	while (rte_ring_sc_dequeue(esp->up, (void **)&m) == 0)
		rte_pktmbuf_free(m);
	while (rte_ring_sc_dequeue_elem(esp->asks, &ask, sizeof(ask)) == 0)
		;
	PK_ASSERT(world_balanced(path));
	PK_ASSERT(rte_mempool_in_use_count(pool) == 0);
	return 0;
}
