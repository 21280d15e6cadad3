#pragma once

#include "policy/arena.h"
#include "policy/table.h"

/*
 * Sets of traffic, as exact as policy can tell traffic apart.
 *
 * A packet's service is a point on one line of 2^24: its IP protocol, and the 16-bit selector of struct
 * pk_service behind it.  A set of services is a list of spans of that line, ascending, disjoint, and
 * never touching, so that equal sets are equal as memory.  Protocols without a selector are whole or
 * absent.
 */
#define POLICY_LINE_LAST UINT32_C(0xffffff)

struct policy_span {
	uint32_t low, high; /* protocol << 16 | selector */
};

/* A zeroed one is empty.  The owner calls policy_traffic_fini(). */
struct policy_traffic POLICY_VECTOR_BODY(struct policy_span);

void policy_traffic_fini(struct policy_traffic *t);

/* Add a span that does not begin before the last one.  Returns 0 or -ENOMEM. */
int policy_traffic_append(struct policy_traffic *t, uint32_t low, uint32_t high);

/* Replace *out by what the rule's services match.  Returns 0 or -ENOMEM. */
int policy_traffic_of_rule(struct policy_traffic *out, const struct policy_rule *r);

/* Replace *out, which is neither a nor b.  Each returns 0 or -ENOMEM. */
int policy_traffic_and(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b);
int policy_traffic_minus(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b);
int policy_traffic_or(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b);

int policy_traffic_equal(const struct policy_traffic *a, const struct policy_traffic *b);
int policy_traffic_has(const struct policy_traffic *t, uint8_t proto, uint16_t selector);

/* Whether there is anything in both. */
int policy_traffic_meets(const struct policy_traffic *a, const struct policy_traffic *b);

/*
 * Of TCP, UDP and SCTP, as people say it: "TCP 80,90-99,UDP 53"; "All Connections" when it is all three
 * with all ports, "No Connections" when it is none.  malloc()ed; NULL when there is no memory.
 */
char *policy_traffic_text(const struct policy_traffic *t);

/* Of the other protocols: "icmpv4/8/0 proto/47", "all", "all but icmpv4" or "". malloc()ed as well.
 * `families`: bit 0 for IPv4, bit 1 for IPv6; the ICMP of the other family is not missed. */
char *policy_traffic_others(const struct policy_traffic *t, unsigned int families);

/* A line in the notation of rules' services, for struct pk_service. */
struct pk_service policy_traffic_service(const struct policy_span *s);

/*
 * Sets kept once each, with a number: equal numbers, equal sets.  Results of operations are remembered,
 * since few different sets come up in many pairs.  Numbers below are of one pool.
 * Context: one thread at a time.
 */
struct policy_pool;

#define POLICY_POOL_NONE  UINT32_MAX /* no memory, or no such set */
#define POLICY_POOL_EMPTY 0          /* the number of the empty set */

struct policy_pool *policy_pool_create(void); /* NULL: no memory */
void policy_pool_destroy(struct policy_pool *p);
uint32_t policy_pool_put(struct policy_pool *p, const struct policy_traffic *t);
/* Borrowed until the pool is destroyed. */
const struct policy_traffic *policy_pool_get(const struct policy_pool *p, uint32_t id);
uint32_t policy_pool_and(struct policy_pool *p, uint32_t a, uint32_t b);
uint32_t policy_pool_or(struct policy_pool *p, uint32_t a, uint32_t b);
uint32_t policy_pool_minus(struct policy_pool *p, uint32_t a, uint32_t b);
/* The part that packets of family 4 or 6 can be of: without the other family's ICMP. */
uint32_t policy_pool_family(struct policy_pool *p, uint32_t a, unsigned int family);

/* Numbers to numbers; a zeroed one is empty.  For caches whose keys are pairs. */
struct policy_pairs {
	uint64_t *keys;
	uint32_t *values; /* NONE: free */
	size_t nb_slots, nb_used;
};
void policy_pairs_fini(struct policy_pairs *m);
uint32_t policy_pairs_get(const struct policy_pairs *m, uint32_t a, uint32_t b);
int policy_pairs_put(struct policy_pairs *m, uint32_t a, uint32_t b, uint32_t value);
