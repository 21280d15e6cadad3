#pragma once

#include "policy/model.h"

/*
 * Workloads that are not in the inventory, but that policies would know if they came: what a rule opens
 * to them is open already.  Each stands for many:
 *
 *     one without labels in each tenant, for any workload there that no selector asks for
 *     one without labels in a namespace without labels, if there are namespaces: for any of those to come
 *     one for each selector of a peer that selects nobody, with the fewest labels that it asks for
 *
 * They are compiled together with the model, by the same compiler, into a table of their own.
 */
struct policy_absent;
struct policy_workload_def;

/* Borrows the model.  Returns 0, -EINVAL when the model does not compile, or -ENOMEM. */
int policy_absent_create(struct policy_absent **out, const struct policy_model *m);
void policy_absent_destroy(struct policy_absent *a);

/* Borrowed, as the rest. */
const struct policy_table *policy_absent_table(const struct policy_absent *a);
struct policy_workload_def *const *policy_absent_workloads(
    const struct policy_absent *a, size_t *nb);
