#pragma once

#include "policy/traffic.h"

/*
 * The connectivity of a compiled table, as a relation between classes of ends.
 *
 * Two ends are of one class when no rule can tell them apart: they have the same identity, and the same
 * prefix sets cover their addresses (that is what the data plane calls a class as well).  For each
 * subject and peer the programs are run on all traffic at once: what a rule matches is cut out of the
 * line of policy/traffic.h, and so every answer is exact, and covers every port there is.
 *
 * What does not depend on packets is the same as in policy/query.h, and tests hold the two against each
 * other: both sides must allow; an end outside has no policy; a workload may always talk to itself, which
 * callers must know, since two workloads of one class are not one workload.
 */
struct policy_connect;

/* Borrows all; numbers of sets are of `pool`, so tables that share one can be compared.
 * Context: one thread at a time.  Returns 0 or -ENOMEM. */
int policy_connect_create(
    struct policy_connect **out, const struct policy_table *t, struct policy_pool *pool);
void policy_connect_destroy(struct policy_connect *c);

#define POLICY_CLASS_NONE UINT32_MAX

uint32_t policy_connect_count(const struct policy_connect *c);

/*
 * The class of an end: a workload's identity with one of its addresses, or with NULL when it has none,
 * which no network covers.  Of an address outside, the identity is PK_IDENTITY_NONE.
 * POLICY_CLASS_NONE if the table has no such end.
 */
uint32_t policy_connect_class(
    const struct policy_connect *c, uint32_t identity, const struct pk_addr *addr);
/* What it is made of. */
uint32_t policy_connect_identity(const struct policy_connect *c, uint32_t class);

/* The world outside, cut at the edges of all networks in rules; ascending, and without gaps. */
struct policy_block {
	struct pk_addr low, high;
	uint32_t class;
};
const struct policy_block *policy_connect_blocks(
    const struct policy_connect *c, unsigned int family, size_t *nb);

/* Whether anything in the table is of this family: an address, or a network in a rule. */
int policy_connect_speaks(const struct policy_connect *c, unsigned int family);

/* What is allowed from `src` to `dst`, as a number of the pool; POLICY_POOL_NONE: no memory.
 * `audit`: as if policies in audit mode were enforced. */
uint32_t policy_connect_allowed(struct policy_connect *c, uint32_t src, uint32_t dst, int audit);

/* The same of one side alone; `subject` is in the inventory. */
uint32_t policy_connect_side_allowed(struct policy_connect *c, enum pk_direction direction,
    uint32_t subject, uint32_t peer, int audit);

/* One side of it alone: the whole line, span by span, with the rule that decides. */
struct policy_part {
	struct policy_span span;
	enum pk_verdict verdict;
	const struct policy_rule *rule; /* borrowed from the table; NULL: nobody decided, so deny */
};
struct policy_parts POLICY_VECTOR_BODY(struct policy_part);

/* Replace *out, which the caller frees with free(out->at).  Returns 0, -ENOENT when the subject has no
 * programs, or -ENOMEM. */
int policy_connect_side(struct policy_connect *c, enum pk_direction direction, uint32_t subject,
    uint32_t peer, int audit, struct policy_parts *out);

/*
 * The same for some rules in order; bit i of `matches` says whether rule i admits the peer.
 * `passed`, which may be NULL, is replaced by what rules have passed on, in order of rules.
 */
int policy_connect_decide(const struct policy_rule *rules, uint32_t nb, const uint64_t *matches,
    int audit, struct policy_parts *out, struct policy_parts *passed);

/* Whether a rule admits the peer, whatever the service. */
int policy_connect_admits(struct policy_connect *c, const struct policy_rule *r, uint32_t peer);

/* The program that judges a class; NULL outside. */
const struct policy_program *policy_connect_program(
    const struct policy_connect *c, enum pk_direction direction, uint32_t class);
