#pragma once

#include "policy/map.h"
#include "policy/model_priv.h"

/*
 * Who is in the inventory, and whom selectors select there, asked of the documents themselves: for
 * analyses that speak of what is written, and not only of what it was compiled to.
 */
struct policy_inventory {
	const struct policy_model *model;
	struct policy_map namespaces; /* name -> index in spaces */
	POLICY_VECTOR(const struct policy_namespace_def *) spaces;
	size_t nb_workloads;
	int has_pods;
};

/* `o` takes each object of `kind` in turn. */
#define POLICY_EACH(m, kind, o)                                                      \
	for (size_t s_ = 0; s_ < (m)->sources.nb; s_++)                              \
		for (size_t i_ = 0; i_ < (m)->sources.at[s_]->objects.kind.nb; i_++) \
			if (((o) = (m)->sources.at[s_]->objects.kind.at[i_]) != NULL)

/* Borrows the model.  Returns 0 or -ENOMEM; in both cases the caller calls policy_inventory_fini(). */
int policy_inventory_init(struct policy_inventory *v, const struct policy_model *m);
void policy_inventory_fini(struct policy_inventory *v);

/* The value of a label of the workload or, for a Pod, of its namespace; NULL if it lacks it. */
const char *policy_inventory_value(
    const struct policy_inventory *v, const struct policy_workload_def *w, const char *key);

/* Whether a selector over `tenant` (or all of them) selects the workload. */
int policy_inventory_selects(const struct policy_inventory *v, const struct policy_selector *s,
    const char *tenant, const struct policy_workload_def *w);
int policy_inventory_selects_any(
    const struct policy_inventory *v, const struct policy_selector *s, const char *tenant);
