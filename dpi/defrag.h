#pragma once

#include "dpi/decode.h"

/*
 * IP reassembly with bytes, for offline tools: the packet path lets fragments through only as its virtual
 * reassembly allows (fw/frag.h), and drops overlaps.  Here too the first bytes stand; an overlap is an event.
 * Bounded: DPI_DEFRAG_MAX packets at a time, the oldest is given up.
 */
#define DPI_DEFRAG_MAX     64
#define DPI_DEFRAG_TIMEOUT 60 /* seconds, RFC 8200 section 4.5 */

struct dpi_defrag;

int dpi_defrag_create(struct dpi_defrag **out);
void dpi_defrag_destroy(struct dpi_defrag *d);

/* Take the fragment f->fragment; events go to f->events.  When that completes a packet, returns it as from its IP
 * header on, borrowed until the next call, with *len; else NULL. */
const uint8_t *dpi_defrag_add(struct dpi_defrag *d, struct dpi_frame *f, uint32_t *len);
