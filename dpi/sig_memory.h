#pragma once

#include "dpi/sig_rule.h"

/*
 * What rules remember beyond a session: xbits and hostbits of addresses, and how often a rule has matched.
 * A table of fixed size; when it is full the entry in the way is given up, which is counted.
 */
struct dpi_memory;

int dpi_memory_create(struct dpi_memory **out);
void dpi_memory_destroy(struct dpi_memory *m);

/* Does the bit operation hold, or has it been done?  `a` and `b`: source and destination. */
bool dpi_memory_bits(struct dpi_memory *m, const struct dpi_bits *b, const struct pk_addr *src,
    const struct pk_addr *dst, uint64_t now_ns, bool ask);

/* Count a match of a rule with a threshold; true when it is to be told.  `session` for by_flow. */
bool dpi_memory_threshold(struct dpi_memory *m, const struct dpi_sig *s, const struct pk_addr *src,
    const struct pk_addr *dst, const void *session, uint64_t now_ns);
