/*
 * A session as two strangers could send it: transport, then messages with a direction, a length, and bytes; a
 * direction byte above 1 shifts the segment's place in the stream.  Every protocol's parser sees all of it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/app.h"

#define POOL (1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint8_t sum;

static void
on_field(void *arg, enum dpi_field field, unsigned int dir, uint32_t offset, const uint8_t *bytes,
    uint32_t len)
{
	(void)arg;
	(void)field;
	(void)dir;
	(void)offset;
	for (uint32_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct dpi_limits limits = { DPI_STREAM_MAX, 64, 16 };
	static const struct dpi_sink sink = { on_field, NULL };
	static const uint16_t port[2] = { 4000, 53 };
	static struct dpi *dpi;
	uint32_t next[2] = { 1, 1 };
	struct dpi_flow f;
	size_t at = 1;

	if (dpi == NULL && dpi_create(&dpi, malloc(POOL), POOL, &limits) < 0)
		abort();
	if (len == 0)
		return 0;
	dpi_flow_init(&f, (data[0] & 1) != 0 ? DPI_UDP : DPI_TCP, port);
	for (int i = 0; i < 2 && f.transport == DPI_TCP && (data[0] & 2) == 0; i++) {
		struct dpi_packet p = { .dir = (uint8_t)i, .syn = true };

		dpi_flow_feed(dpi, &f, &p, &sink);
	}
	while (len - at > 3) {
		uint8_t how = data[at], dir = how & 1;
		size_t n = (size_t)data[at + 1] << 8 | data[at + 2];
		struct dpi_packet p = { .dir = dir, .seq = next[dir], .fin = (how & 2) != 0 };
		uint8_t *copy;

		at += 3;
		n = PK_MIN(n, len - at);
		copy = malloc(n + 1);
		if (copy == NULL)
			abort();
		memcpy(copy, data + at, n);
		p.bytes = copy;
		p.len = (uint16_t)n;
		if ((how & 0xfc) != 0)
			p.seq += (uint32_t)(how >> 2) - 16;
		else
			next[dir] += (uint32_t)n;
		/* A buffer that ends where the segment does. */
		copy = realloc(copy, n > 0 ? n : 1);
		p.bytes = copy;
		dpi_flow_feed(dpi, &f, &p, &sink);
		free(copy);
		at += n;
	}
	dpi_flow_finish(dpi, &f, &sink);
	dpi_flow_fini(dpi, &f);
	if (dpi_bytes_used(dpi) != 0)
		abort();
	return 0;
}
