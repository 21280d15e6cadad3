#pragma once

#include "lib/addr.h"
#include "policy/arena.h"

/*
 * Sets of addresses: prefixes minus prefixes, as the fewest prefixes that do not overlap.
 * `except` is cut out here, once, so that no data plane has to know of it.
 */
#define POLICY_NETWORKS_MAX 65536   /* prefixes somebody may write in one list */
#define POLICY_PREFIXES_MAX 1048576 /* prefixes a set may come to once cut */

/* An address as a number of 32 or 128 bits, and back. */
static inline unsigned __int128
policy_addr_number(const struct pk_addr *a)
{
	unsigned int n = a->family == 4 ? 4 : 16;
	unsigned __int128 v = 0;

	for (unsigned int i = 0; i < n; i++)
		v = v << 8 | a->bytes[i];
	return v;
}

static inline struct pk_addr
policy_number_addr(unsigned __int128 v, unsigned int family)
{
	unsigned int n = family == 4 ? 4 : 16;
	struct pk_addr a = { .family = (uint8_t)family };

	for (unsigned int i = n; i-- > 0; v >>= 8)
		a.bytes[i] = (uint8_t)v;
	return a;
}

struct policy_range128 {
	unsigned __int128 low, high;
};

struct policy_ranges POLICY_VECTOR_BODY(struct policy_range128);

/* A growing set of addresses; zeroed is empty.  The two families never mix. */
struct policy_networks {
	struct policy_ranges v4, v6;
};

void policy_networks_fini(struct policy_networks *n);

/* Add what is in `in` and not in `except`.  Returns 0 or -ENOMEM. */
int policy_networks_add(struct policy_networks *n, const struct pk_prefix *in, size_t nb_in,
    const struct pk_prefix *except, size_t nb_except);

/* Add all of another set.  Returns 0 or -ENOMEM. */
int policy_networks_join(struct policy_networks *n, const struct policy_networks *other);

/*
 * The set as prefixes, ascending and disjoint, allocated in `a`.
 * Returns 0, -ENOMEM, or -E2BIG beyond POLICY_PREFIXES_MAX.
 */
int policy_networks_prefixes(struct policy_networks *n, struct policy_arena *a,
    const struct pk_prefix **out, uint32_t *nb_out);

/* Whether the outer prefix holds all of the inner. */
int policy_prefix_covers(const struct pk_prefix *outer, const struct pk_prefix *inner);
