#include "policy/network.h"

#include <errno.h>
#include <stdlib.h>

typedef unsigned __int128 u128;

static u128
low_bits(unsigned int n)
{
	return n >= 128 ? ~(u128)0 : ((u128)1 << n) - 1;
}

static struct policy_range128
to_range(const struct pk_prefix *p)
{
	u128 low = policy_addr_number(&p->addr);

	return (struct policy_range128){ low, low | low_bits(pk_addr_bits(&p->addr) - p->len) };
}

void
policy_networks_fini(struct policy_networks *n)
{
	free(n->v4.at);
	free(n->v6.at);
	*n = (struct policy_networks){ 0 };
}

static int
by_low(const void *va, const void *vb)
{
	const struct policy_range128 *a = va, *b = vb;

	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return a->high < b->high ? -1 : a->high > b->high;
}

/* Sort, and join what overlaps or touches. */
static size_t
normalise(struct policy_range128 *r, size_t nb)
{
	size_t kept = 0;

	if (nb < 2)
		return nb;
	qsort(r, nb, sizeof(r[0]), by_low);
	for (size_t i = 0; i < nb; i++) {
		struct policy_range128 *last = &r[kept > 0 ? kept - 1 : 0];

		if (kept > 0 && (last->high == ~(u128)0 || r[i].low <= last->high + 1)) {
			if (r[i].high > last->high)
				last->high = r[i].high;
		} else {
			r[kept++] = r[i];
		}
	}
	return kept;
}

static int
collect(struct policy_ranges *out, const struct pk_prefix *p, size_t nb, unsigned int family)
{
	for (size_t i = 0; i < nb; i++) {
		struct policy_range128 *r;

		if (p[i].addr.family != family)
			continue;
		if ((r = POLICY_PUSH(out)) == NULL)
			return -ENOMEM;
		*r = to_range(&p[i]);
	}
	out->nb = normalise(out->at, out->nb);
	return 0;
}

/* Both lists are normalised, so one walk along both suffices. */
static int
subtract(
    struct policy_ranges *out, const struct policy_ranges *in, const struct policy_ranges *except)
{
	size_t e = 0;

	for (size_t i = 0; i < in->nb; i++) {
		u128 low = in->at[i].low, high = in->at[i].high;
		struct policy_range128 *r;
		int rest = 1;

		while (e < except->nb && except->at[e].high < low)
			e++;
		for (size_t k = e; k < except->nb && except->at[k].low <= high; k++) {
			if (except->at[k].low > low) {
				if ((r = POLICY_PUSH(out)) == NULL)
					return -ENOMEM;
				*r = (struct policy_range128){ low, except->at[k].low - 1 };
			}
			if (except->at[k].high >= high) {
				rest = 0;
				break;
			}
			low = except->at[k].high + 1;
		}
		if (!rest)
			continue;
		if ((r = POLICY_PUSH(out)) == NULL)
			return -ENOMEM;
		*r = (struct policy_range128){ low, high };
	}
	return 0;
}

static int
add_family(struct policy_ranges *to, const struct pk_prefix *in, size_t nb_in,
    const struct pk_prefix *except, size_t nb_except, unsigned int family)
{
	struct policy_ranges a = { 0 }, b = { 0 };
	int rc;

	if ((rc = collect(&a, in, nb_in, family)) == 0 &&
	    (rc = collect(&b, except, nb_except, family)) == 0)
		rc = subtract(to, &a, &b);
	free(a.at);
	free(b.at);
	return rc;
}

static int
join(struct policy_ranges *to, const struct policy_ranges *from)
{
	if (policy_grow(&to->at, &to->cap, to->nb + from->nb, sizeof(to->at[0])) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < from->nb; i++)
		to->at[to->nb++] = from->at[i];
	to->nb = normalise(to->at, to->nb);
	return 0;
}

int
policy_networks_join(struct policy_networks *n, const struct policy_networks *other)
{
	int rc = join(&n->v4, &other->v4);

	return rc == 0 ? join(&n->v6, &other->v6) : rc;
}

int
policy_networks_add(struct policy_networks *n, const struct pk_prefix *in, size_t nb_in,
    const struct pk_prefix *except, size_t nb_except)
{
	int rc = add_family(&n->v4, in, nb_in, except, nb_except, 4);

	if (rc == 0)
		rc = add_family(&n->v6, in, nb_in, except, nb_except, 6);
	return rc;
}

typedef POLICY_VECTOR(struct pk_prefix) prefixes;

/* The fewest prefixes for [low, high]: each time the largest that starts at low and fits. */
static int
split(prefixes *out, u128 low, u128 high, unsigned int family)
{
	unsigned int bits = family == 4 ? 32 : 128;

	for (;;) {
		unsigned int host = 0;
		struct pk_prefix *p;
		u128 last;

		while (host < bits && (low & low_bits(host + 1)) == 0 &&
		    (low | low_bits(host + 1)) <= high)
			host++;
		if (out->nb >= POLICY_PREFIXES_MAX)
			return -E2BIG;
		if ((p = POLICY_PUSH(out)) == NULL)
			return -ENOMEM;
		*p = (struct pk_prefix){ .addr = policy_number_addr(low, family),
			.len = (uint8_t)(bits - host) };
		last = low | low_bits(host);
		if (last >= high)
			return 0;
		low = last + 1;
	}
}

int
policy_networks_prefixes(struct policy_networks *n, struct policy_arena *a,
    const struct pk_prefix **out, uint32_t *nb_out)
{
	prefixes v = { 0 };
	int rc = 0;

	n->v4.nb = normalise(n->v4.at, n->v4.nb);
	n->v6.nb = normalise(n->v6.at, n->v6.nb);
	for (size_t i = 0; i < n->v4.nb && rc == 0; i++)
		rc = split(&v, n->v4.at[i].low, n->v4.at[i].high, 4);
	for (size_t i = 0; i < n->v6.nb && rc == 0; i++)
		rc = split(&v, n->v6.at[i].low, n->v6.at[i].high, 6);
	if (rc == 0) {
		*nb_out = (uint32_t)v.nb;
		*out = policy_arena_copy(a, v.at, v.nb * sizeof(v.at[0]));
		if (*out == NULL)
			rc = -ENOMEM;
	}
	free(v.at);
	return rc;
}

int
policy_prefix_covers(const struct pk_prefix *outer, const struct pk_prefix *inner)
{
	return outer->len <= inner->len && pk_prefix_contains(outer, &inner->addr);
}
