#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * One direction of a TCP session in full: a window that slides over a stream of any length.
 *
 * dpi/stream.h holds the first 8 KB, which tell an application; signatures go on looking.  The policy is the
 * same: the first bytes stand, and a segment that says otherwise about a byte still held, in order or
 * waiting, is a conflict and has to be dropped, so that the receiver gets what was inspected.
 *
 *      0 ... window_from                      next            loose pieces
 *      |  seen  |======== window ==============|      |====|   |===|
 *
 * Bytes are numbered from the first after the SYN, or from the first seen.
 */
#define DPI_WINDOW      65536 /* bytes kept behind `next` at least, once there are that many */
#define DPI_WINDOW_ROOM (2 * DPI_WINDOW)
#define DPI_LOOSE_MAX   256 /* pieces */
#define DPI_LOOSE_BYTES (1u << 18)

enum dpi_add_fate {
	DPI_ADD_NEW = 1 << 0,       /* `next` has moved */
	DPI_ADD_LOOSE = 1 << 1,     /* kept, waits for what is before it */
	DPI_ADD_DUPLICATE = 1 << 2, /* some of it had come before */
	DPI_ADD_CONFLICT = 1 << 3,  /* nothing was taken: drop it */
	DPI_ADD_BEFORE = 1 << 4,    /* some of it lies before byte 0 */
	DPI_ADD_FULL = 1 << 5,      /* nothing was taken: no room */
	DPI_ADD_FAR = 1 << 6,       /* nothing was taken: beyond any window */
};

struct dpi_loose {
	uint64_t from;
	uint32_t len;
	uint8_t *bytes;
};

struct dpi_assembly {
	bool started;
	uint32_t base; /* sequence number of byte 0 */
	uint64_t next, window_from;
	uint8_t *window; /* next - window_from bytes */
	uint32_t room;
	uint32_t loose_bytes;
	uint16_t nb_loose;
	struct dpi_loose *loose; /* ascending, not overlapping */
};

void dpi_assembly_fini(struct dpi_assembly *a);
void dpi_assembly_start(struct dpi_assembly *a, uint32_t seq);
/* The number of the byte with that sequence number, near `next`. */
int64_t dpi_assembly_offset(const struct dpi_assembly *a, uint32_t seq);
/* Returns a set of enum dpi_add_fate. */
unsigned int dpi_assembly_add(
    struct dpi_assembly *a, uint32_t seq, const uint8_t *bytes, uint32_t len);
/* Where the first loose piece begins, or UINT64_MAX. */
uint64_t dpi_assembly_loose(const struct dpi_assembly *a);
/* Give up on what is missing before byte `to`, which was lost: the window begins anew there. */
void dpi_assembly_skip(struct dpi_assembly *a, uint64_t to);

/* Bytes before `to` are not needed any more: the receiver has them, or nobody asks.  Takes no more memory than what is
 * left needs. */
void dpi_assembly_trim(struct dpi_assembly *a, uint64_t to);

/* Whether adding `len` bytes may make the window forget some. */
static inline bool
dpi_assembly_may_slide(const struct dpi_assembly *a, uint32_t len)
{
	return a->next - a->window_from + len + a->loose_bytes > DPI_WINDOW_ROOM;
}

static inline const uint8_t *
dpi_assembly_at(const struct dpi_assembly *a, uint64_t offset)
{
	return a->window + (offset - a->window_from);
}
