/*
 * ESP without a packet path around it, for peers written in other languages: SAs and frames come in lines on
 * standard input, and what becomes of them goes out, a line for each.
 *
 *   sa in|out tunnel|transport SPI ENCR BITS INTEG KEY INTEG-KEY SRC DST WINDOW FLAGS SPORT DPORT TFC DF DSCP SEQ
 *                             ok INDEX | refused TEXT      numbers as in lib/sadb.h, keys in hex, - for none
 *   out INDEX FRAME           queued: protect by that SA
 *   in FRAME                  queued: reveal
 *   go                        a line for each that was queued: FRAME | error NAME [MTU]
 *   now NANOSECONDS           the clock
 *   tick                      lifetimes; a line for each end, then "ok"
 *   mtu INDEX BYTES           ok
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "ipsec/esp/esp.h"
#include "tests/unit/fw_world.h"

static struct esp_engine engine;
static struct rte_mempool *pool;
static uint64_t now_ns = PK_NS_PER_S;
static struct esp_pkt queued[2][ESP_BURST];
static unsigned int nb_queued, order[ESP_BURST];
static unsigned int nb[2];
static char early[ESP_BURST][32]; /* what no SA was found for */

static size_t
from_hex(uint8_t *out, size_t max, const char *hex)
{
	size_t n = 0;
	unsigned int byte;

	if (strcmp(hex, "-") == 0)
		return 0;
	for (; n < max && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static void
add_sa(char *line)
{
	struct pk_sadb m;
	struct pk_diag diag = { .text = "" };
	char dir[8], mode[16], key[160], integ_key[160], src[64], dst[64];
	unsigned int spi, encr, bits, integ, window, flags, sport, dport, tfc, df, dscp;
	uint64_t seq;
	struct pk_sadb_add_sa *a = &m.add_sa;
	int rc;

	pk_sadb_init(&m, PK_SADB_ADD_SA, 1);
	if (sscanf(line, "%7s %15s %x %u %u %u %159s %159s %63s %63s %u %u %u %u %u %u %u %" SCNu64,
	        dir, mode, &spi, &encr, &bits, &integ, key, integ_key, src, dst, &window, &flags,
	        &sport, &dport, &tfc, &df, &dscp, &seq) != 18 ||
	    pk_addr_parse(&a->id.src, src, &diag) < 0 ||
	    pk_addr_parse(&a->id.dst, dst, &diag) < 0) {
		printf("refused syntax %s\n", diag.text);
		return;
	}
	a->id.spi = spi;
	a->reqid = 1;
	a->direction = strcmp(dir, "in") == 0 ? PK_SADB_IN : PK_SADB_OUT;
	a->mode = strcmp(mode, "tunnel") == 0 ? PK_SADB_TUNNEL : PK_SADB_TRANSPORT;
	a->encr = (uint16_t)encr;
	a->encr_bits = (uint16_t)bits;
	a->integ = (uint16_t)integ;
	a->replay_window = window;
	a->flags = (uint16_t)flags;
	a->sport = (uint16_t)sport;
	a->dport = (uint16_t)dport;
	a->tfc = (uint16_t)tfc;
	a->df = (uint8_t)df;
	a->dscp = (uint8_t)dscp;
	a->seq = seq;
	a->encr_key_len = (uint8_t)from_hex(a->encr_key, sizeof(a->encr_key), key);
	a->integ_key_len = (uint8_t)from_hex(a->integ_key, sizeof(a->integ_key), integ_key);
	rc = pk_sadb_check(&m, PK_SADB_SIZE, &diag);
	if (rc == 0)
		rc = esp_sad_add(engine.sad, a, now_ns, &diag);
	if (rc < 0) {
		printf("refused %s\n", diag.text);
		return;
	}
	for (uint32_t cursor = 0;;) {
		struct esp_sa_info info;

		PK_ASSERT(esp_sad_next(engine.sad, &cursor, now_ns, &info) == 0);
		if (info.id.spi == spi && info.direction == a->direction &&
		    pk_addr_compare(&info.id.dst, &a->id.dst) == 0) {
			printf("ok %u\n", info.index);
			return;
		}
	}
}

/* Where ESP is in a frame, as the parser of the packet path would say. */
static bool
find_esp(struct esp_pkt *p, const uint8_t *f, size_t len)
{
	uint8_t proto;
	size_t at;

	p->l3 = 14;
	if (len < 14 + 40)
		return false;
	if (f[14] >> 4 == 4) {
		proto = f[14 + 9];
		at = 14 + (size_t)(f[14] & 15) * 4;
	} else {
		proto = f[14 + 6];
		at = 54;
		while ((proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING) && at + 8 < len) {
			proto = f[at];
			at += ((size_t)f[at + 1] + 1) * 8;
		}
	}
	p->l4 = (uint16_t)at;
	p->udp = proto == IPPROTO_UDP;
	at += p->udp ? 8 : 0;
	if ((proto != IPPROTO_ESP && !p->udp) || at + 8 > len)
		return false;
	uint32_t spi;

	memcpy(&spi, f + at, 4);
	p->sa = esp_sad_by_spi(engine.sad, spi);
	return p->sa != NULL;
}

static void
queue(unsigned int in, const char *hex, uint32_t index)
{
	static uint8_t frame[4096];
	size_t len = from_hex(frame, sizeof(frame), hex);
	struct esp_pkt *p = &queued[in][nb[in]];

	PK_ASSERT(nb_queued < ESP_BURST);
	memset(p, 0, sizeof(*p));
	p->m = world_mbuf(pool, frame, (uint32_t)len);
	PK_ASSERT(p->m != NULL);
	p->l3 = 14;
	early[nb_queued][0] = '\0';
	if (!in)
		p->sa = esp_sad_at(engine.sad, index);
	else if (!find_esp(p, frame, len))
		strcpy(early[nb_queued], esp_error_name(ESP_SPI));
	if (early[nb_queued][0] != '\0') {
		rte_pktmbuf_free(p->m);
		order[nb_queued++] = 0;
		return;
	}
	order[nb_queued++] = in << 8 | nb[in]++;
}

static void
go(void)
{
	esp_protect(&engine, queued[0], nb[0], now_ns);
	esp_unprotect(&engine, queued[1], nb[1], now_ns);
	for (unsigned int i = 0; i < nb_queued; i++) {
		const struct esp_pkt *p = &queued[order[i] >> 8][order[i] & 255];

		if (early[i][0] != '\0') {
			printf("error %s\n", early[i]);
			continue;
		}
		if (p->error != ESP_OK) {
			printf("error %s %u\n", esp_error_name(p->error), p->mtu);
		} else {
			const uint8_t *f = rte_pktmbuf_mtod(p->m, const uint8_t *);

			PK_ASSERT(p->m->data_len == p->m->pkt_len);
			for (unsigned int k = 0; k < p->m->data_len; k++)
				printf("%02x", f[k]);
			printf("\n");
		}
		rte_pktmbuf_free(p->m);
	}
	nb_queued = nb[0] = nb[1] = 0;
}

static void
expired(void *arg, const struct pk_sadb_expire *e)
{
	(void)arg;
	printf("expired 0x%08x %s %s\n", e->id.spi, e->hard ? "hard" : "soft",
	    pk_sadb_expire_name(e->what));
}

int
main(void)
{
	static char line[16384], hex[16384];
	struct esp_sad_conf conf = { .nb_sas = 4096 };
	struct esp_sad_events events = { .expired = expired };
	struct pk_diag diag;
	unsigned int a, b;

	pool = world_start(255);
	if (pool == NULL || esp_sad_create(&engine.sad, &conf, &diag) < 0 ||
	    ipsec_crypto_create(&engine.crypto, &diag) < 0)
		return 1;
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strncmp(line, "sa ", 3) == 0) {
			add_sa(line + 3);
		} else if (sscanf(line, "out %u %16383s", &a, hex) == 2) {
			queue(0, hex, a);
			continue;
		} else if (sscanf(line, "in %16383s", hex) == 1) {
			queue(1, hex, 0);
			continue;
		} else if (strcmp(line, "go\n") == 0) {
			go();
		} else if (sscanf(line, "now %" SCNu64, &now_ns) == 1) {
			continue;
		} else if (strcmp(line, "tick\n") == 0) {
			esp_sad_tick(engine.sad, now_ns, &events);
			printf("ok\n");
		} else if (sscanf(line, "mtu %u %u", &a, &b) == 2) {
			esp_sa_learn_mtu(esp_sad_at(engine.sad, a), (uint16_t)b);
			printf("ok\n");
		} else {
			printf("refused syntax\n");
		}
		fflush(stdout);
	}
	esp_sad_destroy(engine.sad);
	ipsec_crypto_destroy(engine.crypto);
	return 0;
}
