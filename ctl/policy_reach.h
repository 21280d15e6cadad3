#pragma once

#include "ctl/policy_offline.h"
#include "ctl/report.h"
#include "policy/reach.h"

/* What the commands that speak of connectivity share. */

/* "ipv4", "ipv6" or "both". */
const char *ctl_families_text(unsigned int families);

/*
 * Sets of traffic as texts, each made once: few different ones come in many rows.  A zeroed one is empty.
 */
struct ctl_texts {
	struct policy_pairs index; /* number in the pool, families */
	POLICY_VECTOR(char *) at;  /* pairs: ports, and other protocols */
};
void ctl_texts_fini(struct ctl_texts *t);

/* Put a set of the pool into the row: TCP, UDP and SCTP under `key`, the rest under `other_key`. */
void ctl_texts_put(struct ctl_texts *t, json_t *row, const char *key, const char *other_key,
    const struct policy_pool *pool, uint32_t id, unsigned int families);

/* NULL is by workload.  Returns 0, or CTL_USAGE having said why. */
int ctl_grouping_parse(const struct ctl_context *ctx, const char *text, enum policy_grouping *out);

/* NULL chooses everybody.  Returns 0, or CTL_REFUSED having said why. */
int ctl_choose(const struct ctl_context *ctx, const struct policy_reach *r, const char *text,
    struct policy_choice *out);
