#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * One direction of a TCP session as its receiver will read it, for as long as it is being inspected.
 *
 * Bytes are numbered from the first one after the SYN (or, when the start was not seen, from the first
 * segment).  A stream holds the front of that sequence, in blocks taken from a pool: everything in
 * order, plus a few pieces that wait for what lies before them.
 *
 *      0                      len          range[0]        range[1]             limit
 *      |======== in order ====|            |=======|       |====|                 |
 *
 * A segment is forwarded while it is inspected, never kept back, so there is one rule for bytes that
 * come twice: the first ones stand, and a segment that says otherwise about any byte still held is a
 * conflict.  Nothing of it is taken, and the caller has to drop it; then what the receiver gets is what
 * was inspected, whatever its own policy for overlaps may be.  All that was taken is held until fini,
 * so no overlap escapes the comparison within the limit.
 *
 * One lcore owns a stream and the pool behind it.  No allocation but from the pool.
 */
#define DPI_BLOCK         256 /* bytes in a block */
#define DPI_STREAM_BLOCKS 32
#define DPI_STREAM_MAX    (DPI_BLOCK * DPI_STREAM_BLOCKS) /* bytes a stream can hold */
#define DPI_STREAM_RANGES 6                               /* loose pieces */

/* Blocks in memory given by the caller, e.g. a huge page of the lcore's node. */
struct dpi_pool {
	uint8_t *memory; /* block i is at memory + i * DPI_BLOCK; [0] stands for none */
	uint32_t nb, nb_free, head;
	uint64_t refused; /* times that none was left */
};

/* Make a pool of the `len` bytes at `memory`, which stay the caller's.  Returns 0, or -EINVAL when they
 * are not enough for one block beside [0]. */
int dpi_pool_init(struct dpi_pool *pool, void *memory, size_t len);

struct dpi_stream {
	uint32_t base; /* sequence number of byte 0 */
	uint16_t len;  /* in order from 0 */
	uint16_t limit;
	uint8_t nb_ranges;
	bool started;
	uint8_t nb_blocks;
	struct {
		uint16_t from, to;
	} range[DPI_STREAM_RANGES]; /* ascending, never touching each other or `len` */
	uint32_t block[DPI_STREAM_BLOCKS];
};

/* What became of a segment; several may hold at a time. */
enum dpi_segment_fate {
	DPI_SEG_NEW = 1 << 0,       /* `len` has grown */
	DPI_SEG_HELD = 1 << 1,      /* taken, but bytes before it are missing */
	DPI_SEG_DUPLICATE = 1 << 2, /* some or all of it had come before, with the same bytes */
	DPI_SEG_CONFLICT =
	    1 << 3, /* differs from bytes that came first: drop it, nothing was taken */
	DPI_SEG_BEFORE = 1 << 4, /* some or all of it lies before byte 0, and was left out */
	DPI_SEG_BEYOND = 1 << 5, /* some or all of it lies after the limit, and was left out */
	DPI_SEG_FULL = 1 << 6,   /* no block or range left, nothing was taken */
};

/* An empty stream that will hold at most `limit` bytes, <= DPI_STREAM_MAX. */
void dpi_stream_init(struct dpi_stream *s, uint16_t limit);
/* Give the blocks back. */
void dpi_stream_fini(struct dpi_stream *s, struct dpi_pool *pool);

/* Byte 0 has this sequence number.  To be called once, with that of the SYN plus one, or with that of
 * the first segment (RFC 9293, section 3.4). */
void dpi_stream_start(struct dpi_stream *s, uint32_t seq);

/*
 * Take the segment bytes[0 .. len - 1] of sequence number `seq`, which is compared modulo 2^32.  Urgent
 * data has no treatment of its own: the urgent byte is part of the stream, as RFC 6093 has it.
 * Returns a set of enum dpi_segment_fate.
 */
unsigned int dpi_stream_add(
    struct dpi_stream *s, struct dpi_pool *pool, uint32_t seq, const uint8_t *bytes, uint16_t len);

/* The bytes in order, len of them: in place when they fit one block, else copied to `room`, which has
 * DPI_STREAM_MAX bytes.  Valid until the next add or fini, and while `room` is left alone. */
const uint8_t *dpi_stream_bytes(
    const struct dpi_stream *s, const struct dpi_pool *pool, uint8_t *room);
