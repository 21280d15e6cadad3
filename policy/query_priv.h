#pragma once

#include "policy/model_priv.h"
#include "policy/query.h"

/* The same with workloads that only a test knows. */
int policy_query_create_with(struct policy_query **out, const struct policy_model *m,
    struct policy_workload_def *const *extra, size_t nb_extra, const struct policy_table *t,
    struct pk_diag *diag);

/* The end that is this workload.  It must have been given to the query. */
struct policy_end policy_query_end_of(
    const struct policy_query *q, const struct policy_workload_def *w);

int policy_query_points(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, const struct policy_service_ref *ref, const char *tenant,
    struct policy_point out[POLICY_POINTS_MAX], struct pk_diag *diag);

/* From now on load for each question what it needs, however small the table is. */
void policy_query_by_pairs(struct policy_query *q);

/* Workloads by the numbers that struct policy_end holds. */
uint32_t policy_query_nb_workloads(const struct policy_query *q);
const struct policy_workload_def *policy_query_workload(const struct policy_query *q, uint32_t i);
