/*
 * What App-ID costs: the stage alone, session by session as the packet path would feed it, for three mixes.  No packets
 * are parsed and no sessions looked up; after the verdict a packet costs the test of a flag.
 *
 *   app_perf             the names of the results
 *   app_perf PREFIX      a JSON line for each result whose name begins with PREFIX
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "dpi/app.h"
#include "lib/clock.h"
#include "tests/perf/perf.h"

#define POOL     (1u << 22)
#define RUNS     3
#define SESSIONS 40000
#define MSS      1448

struct says {
	const char *app; /* as a comment */
	const char *client, *server;
	uint16_t client_len, server_len;
};
#define SAYS(app, c, s)                                 \
	{                                               \
		app, c, s, sizeof(c) - 1, sizeof(s) - 1 \
	}

static const struct says east_west[] = {
	SAYS("http",
	    "GET /v1/items?id=42 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: svc/1.0\r\nAccept: */*\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
	SAYS("redis", "*2\r\n$3\r\nGET\r\n$9\r\nsession:1\r\n", "$5\r\nhello\r\n"),
	SAYS("postgresql", "\0\0\0\x08\x04\xd2\x16\x2f", "N"),
	SAYS("mysql", "\x20\0\0\x01\x05\xa2\x3f\0\0\0\0\x01\x21",
	    "\x4a\0\0\0\x0a"
	    "8.0.33\0\x08\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\xff\xc1\x15\0\0\0\0\0\0\0\0\0\0ABCDEFGHIJKL\0"),
	SAYS("kafka", "\0\0\0\x18\0\x12\0\x03\0\0\0\x01\0\x08producer\0\0\0\0\0\0",
	    "\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0"),
	SAYS("none", "\x9c\x41\x07\xee\x55\x10\x81\x33\x24\x90\x71\x5a\x0d\xf7\x26\xc8",
	    "\x8e\x17\x32\xb0"),
};

static const struct says rpc[] = {
	SAYS("brpc", "PRPC\0\0\0\x20\0\0\0\x10\x0a\x0e\x0a\x08",
	    "PRPC\0\0\0\x20\0\0\0\x10\x12\x0e\x0a\x08"),
	SAYS("thrift", "\0\0\0\x16\x80\x01\0\x01\0\0\0\x04ping\0\0\0\x01\0\0\0\0\0\0",
	    "\0\0\0\x16\x80\x01\0\x02\0\0\0\x04ping\0\0\0\x01\0\0\0\0\0\0"),
};

static const struct mix {
	const char *name;
	const struct says *says;
	unsigned int nb, data_packets; /* full ones, after the first exchange */
} mixes[] = {
	{ "dpi.app.bulk", east_west, PK_COUNT(east_west), 724 }, /* 1 MB */
	{ "dpi.app.mix", east_west, PK_COUNT(east_west), 16 },
	{ "dpi.app.rpc", rpc, PK_COUNT(rpc), 0 },
};

static uint8_t data[MSS];

/* One session, from its SYN to its verdict and on to its last packet.  Its payload packets; *bytes grows. */
static unsigned int
session(struct dpi *dpi, const struct mix *m, unsigned int n, uint64_t *bytes)
{
	static const uint16_t port[2] = { 40000, 4444 };
	const struct says *says = &m->says[n % m->nb];
	uint32_t next[2] = { 1, 1 };
	struct dpi_flow f;

	dpi_flow_init(&f, DPI_TCP, port);
	for (uint8_t i = 0; i < 2; i++)
		dpi_flow_feed(
		    dpi, &f, &(struct dpi_packet){ .dir = i, .syn = true, .seq = 0 }, NULL);
	for (unsigned int i = 0; i < 2 + m->data_packets; i++) {
		uint8_t dir = i != 0;
		const void *at = i == 0 ? (const void *)says->client
		    : i == 1            ? (const void *)says->server
		                        : data;
		uint16_t len = i == 0 ? says->client_len : i == 1 ? says->server_len : MSS;

		*bytes += len;
		if (f.verdict == DPI_IDENTIFIED || f.verdict == DPI_UNKNOWN)
			continue;
		dpi_flow_feed(dpi, &f,
		    &(struct dpi_packet){ .bytes = at, .len = len, .dir = dir, .seq = next[dir] },
		    NULL);
		next[dir] += len;
	}
	dpi_flow_finish(dpi, &f, NULL);
	dpi_flow_fini(dpi, &f);
	return 2 + m->data_packets;
}

static void
measure(struct dpi *dpi, const struct mix *m)
{
	double gbps[RUNS], cycles[RUNS];

	for (int r = 0; r < RUNS; r++) {
		uint64_t bytes = 0, packets = 0, start_ns = pk_clock_mono_ns(), start = rte_rdtsc(),
		         took;

		for (unsigned int n = 0; n < SESSIONS; n++)
			packets += session(dpi, m, n, &bytes);
		took = rte_rdtsc() - start;
		cycles[r] = (double)took / (double)packets;
		gbps[r] = (double)bytes * 8 / (double)(pk_clock_mono_ns() - start_ns);
	}
	qsort(gbps, RUNS, sizeof(gbps[0]), perf_compare);
	qsort(cycles, RUNS, sizeof(cycles[0]), perf_compare);
	printf(
	    "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"cyc/pkt\"}\n", m->name, cycles[RUNS / 2]);
	/* The mix is the figure to be compared. */
	if (strcmp(m->name, "dpi.app.mix") == 0)
		printf("{\"name\":\"dpi.app.gbps\",\"value\":%.2f,\"unit\":\"Gb/s\"}\n",
		    gbps[RUNS / 2]);
}

int
main(int argc, char **argv)
{
	static const struct dpi_limits limits = DPI_LIMITS_DEFAULT;
	struct dpi *dpi;
	void *pool = malloc(POOL);

	PK_ASSERT(pool != NULL && dpi_create(&dpi, pool, POOL, &limits) == 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + (i >> 3));
	for (size_t i = 0; i < PK_COUNT(mixes); i++)
		if (argc < 2)
			puts(mixes[i].name);
		else if (strncmp(mixes[i].name, argv[1], strlen(argv[1])) == 0)
			measure(dpi, &mixes[i]);
	dpi_destroy(dpi);
	free(pool);
	return 0;
}
