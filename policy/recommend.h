#pragma once

#include <stdio.h>

#include "policy/query.h"

/*
 * From flows that were seen to the least policy that allows them.
 *
 * For every workload that took part there is a policy of tier `application` that allows just its flows, on
 * the way out and on the way in, and for every tenant one more that isolates all the others.  Workloads are
 * told apart by their labels, so those with the same labels in one tenant get what any of them needs;
 * otherwise nothing is allowed that was not seen, not one port.
 */
struct policy_flow {
	struct policy_end src, dst;
	struct policy_point point;
};

struct policy_recommendation {
	size_t nb_used;    /* flows that the policies allow */
	size_t nb_outside; /* left out: neither end is in the inventory */
	size_t nb_own;     /* left out: a workload with itself, which no policy sees */
};

/*
 * Write YAML to `f`.  `q` resolved the ends and is over `m`.  `labels` NULL: as above; otherwise a comma
 * separated list of keys, and workloads that agree in these are treated alike.
 * Returns 0, -EINVAL with *diag when `labels` names a key that nobody carries, or -ENOMEM.
 */
int policy_recommend(const struct policy_model *m, const struct policy_query *q,
    const struct policy_flow *flows, size_t nb, const char *labels, FILE *f,
    struct policy_recommendation *out, struct pk_diag *diag);
