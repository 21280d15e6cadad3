#pragma once

#include <netinet/in.h>
#include <string.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * An IPv4 or IPv6 address or prefix.  The family is explicit: IPv4 is never hidden inside IPv6, so
 * ::/0 does not cover 0.0.0.0/0.  Bytes are in network order; an IPv4 address is in the first four
 * and the rest are zero, so two equal addresses are equal as memory.
 */
struct pk_addr {
	uint8_t family; /* 4, 6, or 0 for none */
	uint8_t zero[3];
	uint8_t bytes[16];
};

struct pk_prefix {
	struct pk_addr addr; /* bits beyond len are zero */
	uint8_t len;         /* bits: 0 .. 32 or 0 .. 128 */
	uint8_t zero[3];
};

#define PK_ADDR_TEXT   INET6_ADDRSTRLEN       /* bytes, with the NUL */
#define PK_PREFIX_TEXT (INET6_ADDRSTRLEN + 4) /* bytes, with the NUL */

/* Read "192.0.2.1" or "2001:db8::1".  Returns 0, or -EINVAL with *diag saying why. */
int pk_addr_parse(struct pk_addr *out, const char *text, struct pk_diag *diag);

/* Read "192.0.2.0/24", or an address alone, which is its own /32 or /128.  Host bits that are set
 * are an error: they are more often a slip than a wish.  Returns 0, or -EINVAL with *diag. */
int pk_prefix_parse(struct pk_prefix *out, const char *text, struct pk_diag *diag);

/* Canonical text (RFC 5952 for IPv6).  Returns buf. */
const char *pk_addr_text(const struct pk_addr *a, char buf[PK_ADDR_TEXT]);
const char *pk_prefix_text(const struct pk_prefix *p, char buf[PK_PREFIX_TEXT]);

/* Order by family, then bytes as a number.  For qsort-like use. */
static inline int
pk_addr_compare(const struct pk_addr *a, const struct pk_addr *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static inline unsigned int
pk_addr_bits(const struct pk_addr *a)
{
	return a->family == 4 ? 32 : 128;
}

int pk_prefix_contains(const struct pk_prefix *p, const struct pk_addr *a);

/*
 * The prefixes that together are the range from `low` to `high`, both included, into out[0 .. max - 1], in order.
 * Returns their number, or 0 when they are more than `max`, of two families, or the wrong way round.
 */
unsigned int pk_prefixes_of_range(
    struct pk_prefix *out, unsigned int max, const struct pk_addr *low, const struct pk_addr *high);
