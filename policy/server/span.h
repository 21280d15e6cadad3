#pragma once

#include <stdbool.h>

#include "policy/query.h"
#include "policy/resource.h"

/*
 * A compiled policy made ready to be handed out, and each DPU's part of it.
 *
 * The span of a DPU is what it needs to judge its own workloads' sessions, and no more: the endpoints
 * behind it and their identities with their programs; the sets these programs name; the identities
 * in these sets, without their programs; and the endpoints of all these identities.  What a DPU is
 * not told it cannot leak, and changes elsewhere cost it nothing.
 *
 * A catalogue is immutable and counted: the helper builds the next one while the control thread
 * serves from this.  It takes resources over from the one before where nothing has changed.
 */
struct server_catalogue;

/* Takes `model` and the `table` compiled of it, also on failure.  `model` may be NULL, and then there is
 * no query.  `before` may be NULL.  Context: helper.  Returns 0 or negative errno with *diag. */
int server_catalogue_create(struct server_catalogue **out, struct policy_model *model,
    struct policy_table *table, const struct server_catalogue *before, struct pk_diag *diag);
struct server_catalogue *server_catalogue_get(struct server_catalogue *c);
void server_catalogue_put(struct server_catalogue *c); /* NULL is allowed */
const struct policy_table *server_catalogue_table(const struct server_catalogue *c);

/* Workloads in the table; one may have several addresses.  Context: any. */
uint32_t server_catalogue_nb_workloads(const struct server_catalogue *c);
/* For explanations.  Context: control thread. */
const struct policy_query *server_catalogue_query(const struct server_catalogue *c);

/* The span of `dpu`; a name nobody lives behind has an empty one.  The caller owns *out.
 * *nb_local, if given, is the number of workloads behind it.  Context: any.  Returns 0 or -ENOMEM. */
int server_catalogue_span(const struct server_catalogue *c, const char *dpu,
    struct policy_state **out, uint32_t *nb_local);

/* Names of DPUs that endpoints live behind, in order, each once. */
void server_catalogue_dpus(
    const struct server_catalogue *c, void (*each)(void *arg, const char *dpu), void *arg);
