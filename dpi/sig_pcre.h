#pragma once

#include "dpi/buffer.h"
#include "lib/diag.h"

/*
 * A regular expression, compiled for PCRE2's JIT.  Immutable; any lcore may match with it, each with match
 * data of its own.  A match that would cost more than the limits counts as none, and is counted.
 */
#define DPI_PCRE_MATCH_LIMIT 3500
#define DPI_PCRE_DEPTH_LIMIT 1500

struct dpi_pcre;
struct dpi_pcre_room; /* match data and limits of one lcore */

struct dpi_pcre_flags {
	char letter;   /* of the buffer, or 0 */
	bool relative; /* R */
};

/* Compile "/expression/flags", as the keyword has it without quotes and negation.  The caller owns *out.
 * Returns 0, -EINVAL with *diag, or -ENOMEM. */
int dpi_pcre_parse(
    struct dpi_pcre **out, struct dpi_pcre_flags *flags, const char *text, struct pk_diag *diag);
void dpi_pcre_destroy(struct dpi_pcre *p);

int dpi_pcre_room_create(struct dpi_pcre_room **out);
void dpi_pcre_room_destroy(struct dpi_pcre_room *r);

/* 1 with where the match and its first group lie, 0 for none (and for more than the limits allow, then
 * *exceeded is counted up).  `group` may be NULL. */
int dpi_pcre_match(const struct dpi_pcre *p, struct dpi_pcre_room *room, const uint8_t *bytes,
    uint32_t len, uint32_t from, uint32_t match[2], uint32_t group[2], uint64_t *exceeded);
