/*
 * Mesh mode: SAs installed per second by one core, while another one's packets go.
 *
 *   mesh_perf                        names of the measurements
 *   mesh_perf ipsec.mesh.install
 *
 * From the set of SPIs to SAs that packets can use: keys derived, prepared for AES-256-GCM, windows made, shown to
 * lcores.  Half of them inbound, as a receiver has them, and that is what counts; packets of one pair of SAs go and come
 * in a thread of their own meanwhile, and none may be lost.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "ipsec/esp/esp.h"
#include "ipsec/esp/mesh.h"
#include "lib/clock.h"

#define NAME  "ipsec.mesh.install"
#define SAS   100000
#define TURNS 5
#define BATCH 1000
#define LEN   1400

static struct rte_mempool *pool;
static struct esp_sad *sad;
static const uint8_t device[PK_MESH_DEVICE_KEY] = "device key of the receiver here";
static _Atomic bool stop;
static _Atomic uint32_t quiet; /* turns of the packets' thread */
static uint64_t packets, lost;

static void
wait_for_packets(void *arg)
{
	uint32_t was = atomic_load(&quiet);

	(void)arg;
	while (!atomic_load(&stop) && atomic_load(&quiet) - was < 2)
		;
}

static struct pk_addr
host(uint32_t i)
{
	struct pk_addr a = { .family = 4 };

	i = __builtin_bswap32(0x0a000000 + i);
	memcpy(a.bytes, &i, 4);
	return a;
}

static void
fill(struct rte_mbuf *m)
{
	uint8_t *f;

	rte_pktmbuf_reset(m);
	f = (uint8_t *)rte_pktmbuf_append(m, 14 + LEN);
	memset(f, 2, 14);
	f[12] = 8;
	f[13] = 0;
	memset(f + 14, 0, 20);
	f[14] = 0x45;
	f[16] = LEN >> 8;
	f[17] = LEN & 0xff;
	f[22] = 64;
	f[23] = IPPROTO_UDP;
}

/* Packets of the pair of SAs that is there from the beginning. */
static void *
flow(void *arg)
{
	struct esp_sa *const *pair = arg;
	struct rte_mbuf *m[ESP_BURST];
	struct esp_engine e = { .sad = sad };
	struct pk_diag diag;

	PK_ASSERT(ipsec_crypto_create(&e.crypto, &diag) == 0);
	for (unsigned int i = 0; i < ESP_BURST; i++)
		PK_ASSERT((m[i] = rte_pktmbuf_alloc(pool)) != NULL);
	while (!atomic_load(&stop)) {
		struct esp_pkt pkt[ESP_BURST];

		for (unsigned int i = 0; i < ESP_BURST; i++) {
			fill(m[i]);
			pkt[i] = (struct esp_pkt){ .m = m[i], .sa = pair[1], .l3 = 14 };
		}
		esp_protect(&e, pkt, ESP_BURST, 1);
		for (unsigned int i = 0; i < ESP_BURST; i++) {
			lost += pkt[i].error != ESP_OK;
			pkt[i].sa = esp_sad_by_spi(sad, pair[0]->spi_be);
			pkt[i].l3 = 14;
			pkt[i].l4 = 34;
			PK_ASSERT(pkt[i].sa != NULL);
		}
		esp_unprotect(&e, pkt, ESP_BURST, 1);
		for (unsigned int i = 0; i < ESP_BURST; i++)
			lost += pkt[i].error != ESP_OK;
		packets += ESP_BURST;
		atomic_fetch_add(&quiet, 1);
	}
	ipsec_crypto_destroy(e.crypto);
	for (unsigned int i = 0; i < ESP_BURST; i++)
		rte_pktmbuf_free(m[i]);
	return NULL;
}

/* SAs of all senders but the first, whose packets go; returns how many a second of this thread's time. */
static double
turn(struct pk_mesh_kdf *kdf, const struct esp_mesh_peer *peer, uint32_t *index)
{
	static const struct esp_mesh_peer *of[SAS];
	static uint32_t spi[SAS];
	struct pk_diag diag;
	struct timespec t0, t1;

	for (uint32_t i = 1; i < SAS; i++) {
		of[i] = &peer[i];
		spi[i] = pk_mesh_spi(peer[i].number, 3);
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
	for (uint32_t at = 1; at < SAS; at += BATCH)
		PK_ASSERT(esp_mesh_receive(sad, kdf, of + at, spi + at, index + at,
		              PK_MIN((uint32_t)BATCH, SAS - at), 1, &diag) == 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
	for (uint32_t i = 1; i < SAS; i++)
		esp_mesh_end(sad, index[i]);
	esp_sad_settle(sad);
	return (SAS - 1) /
	    ((double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
}

static int
compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int
main(int argc, char **argv)
{
	static char *eal[] = { (char *)"mesh_perf", (char *)"--in-memory", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"-m", (char *)"64", (char *)"--log-level=error",
		(char *)"--lcores=0@0-1", (char *)"--iova-mode=va" };
	static struct esp_mesh_peer peer[SAS], back;
	static uint32_t index[SAS];
	struct esp_sad_conf conf = { .nb_sas = SAS + 10, .wait = wait_for_packets };
	const struct esp_mesh_peer *first = &peer[0];
	uint8_t key[1][PK_MESH_SA_KEY];
	uint32_t spi = pk_mesh_spi(1, 3), out;
	struct pk_mesh_kdf *kdf;
	double rate[TURNS], bytes;
	struct esp_sa *pair[2];
	struct pk_diag diag;
	pthread_t thread;

	if (argc < 2) {
		puts(NAME);
		return 0;
	}
	if (strcmp(argv[1], NAME) != 0)
		return 2;
	if (rte_eal_init((int)PK_COUNT(eal), eal) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("packets", 255, 0, 0, 2304, SOCKET_ID_ANY);
	PK_ASSERT(pool != NULL && esp_sad_create(&sad, &conf, &diag) == 0);
	PK_ASSERT(pk_mesh_kdf_create(&kdf, device) == 0);
	for (uint32_t i = 0; i < SAS; i++)
		peer[i] =
		    (struct esp_mesh_peer){ .number = i + 1, .us = host(0), .addr = host(i + 1) };
	back = (struct esp_mesh_peer){ .number = SAS + 1, .us = host(1), .addr = host(0) };
	pk_mesh_kdf_derive(kdf, &spi, 1, key);
	PK_ASSERT(esp_mesh_receive(sad, kdf, &first, &spi, index, 1, 1, &diag) == 0);
	PK_ASSERT(esp_mesh_send(sad, &back, spi, key[0], 1, &out, &diag) == 0);
	pair[0] = esp_sad_at(sad, index[0]);
	pair[1] = esp_sad_at(sad, out);
	bytes = (double)esp_sad_bytes(sad) / (SAS + 10) + esp_replay_words(ESP_MESH_WINDOW) * 8.0;
	PK_ASSERT(pthread_create(&thread, NULL, flow, pair) == 0);
	(void)turn(kdf, peer, index); /* memory that was never touched costs once */
	for (unsigned int t = 0; t < TURNS; t++)
		rate[t] = turn(kdf, peer, index);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	qsort(rate, TURNS, sizeof(rate[0]), compare);
	printf("{\"name\":\"" NAME
	       "\",\"value\":%.0f,\"unit\":\"1/s\",\"better\":\"higher\",\"runs\":[",
	    rate[TURNS / 2]);
	for (unsigned int t = 0; t < TURNS; t++)
		printf("%s%.0f", t > 0 ? "," : "", rate[t]);
	printf(
	    "],\"peers\":[],\"bytes_per_sa\":%.0f,\"packets_meanwhile\":%" PRIu64
	    ",\"packets_lost\":%" PRIu64
	    ",\"note\":\"inbound SAs of 100,000 DPUs, from SPI to usable, per second of one core\"}\n",
	    bytes, packets, lost);
	pk_mesh_kdf_destroy(kdf);
	esp_sad_destroy(sad);
	return lost == 0 ? 0 : 1;
}
