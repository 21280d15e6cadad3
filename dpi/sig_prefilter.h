#pragma once

#include <hs/hs.h>

#include "dpi/sig_set.h"

/* One database and what its patterns stand for.  Made by sig_set.c, kept by the set. */
struct dpi_pattern {
	uint8_t bytes[DPI_FAST_MAX];
	uint8_t len;
	bool nocase;
	uint32_t rule;
};

struct dpi_prefilter {
	hs_database_t *db;
	uint32_t nb; /* different patterns */
	uint32_t longest;
	struct dpi_pattern *pattern; /* of id i: rules rule_at[first[i]] .. rule_at[first[i + 1]] */
	uint32_t *first, *rule_at;
	struct dpi_rules every; /* rules of the group, for the day that a scan fails */
};

/* The part of a content that its rule is found by, or false when it is too short or one byte over and over. */
bool dpi_pattern_of(struct dpi_pattern *out, const struct dpi_content *c, bool skip_dot);

/* Build from pattern[0 .. nb - 1], in any order, taken over even on failure.  With `db` that is used instead of
 * compiling.  `platform` NULL: this machine. */
int dpi_prefilter_init(struct dpi_prefilter *f, struct dpi_pattern *pattern, uint32_t nb,
    hs_database_t *db, const hs_platform_info_t *platform, struct pk_diag *diag);
void dpi_prefilter_fini(struct dpi_prefilter *f);

/* Compare the database with a plain search: each pattern in a text made around it, and the answers to some
 * texts in full.  Returns 0, or -EILSEQ with *diag naming a pattern. */
int dpi_prefilter_check(const struct dpi_prefilter *f, hs_scratch_t *scratch, struct pk_diag *diag);
