#pragma once

#include "policy/compile_priv.h"
#include "policy/compiler.h"

/*
 * The results of a compilation, kept, with the indexes that lead from a change to what it reaches:
 *
 *     name, address -> workload -> identity -> label -> selectors -> sets
 *                                                                  -> policies -> programs
 *
 * and counts of who needs what: an identity its workloads, a selector the policies that name it, a set
 * the rules, a program the identities.  At a count of zero the object leaves the table.  An identity
 * nobody has sleeps: it keeps its index, and wakes when it is needed again.
 */
struct live_workload {
	const struct policy_workload_def *def; /* NULL: free */
	char *key;                             /* "tenant/name" */
	struct policy_place *places;
	uint32_t nb_places;
	uint32_t identity, unattested; /* while its host is attested, and while it is not */
};

struct live {
	struct compile *c;
	const struct policy_model *model; /* asked which hosts are attested; borrowed */
	POLICY_VECTOR(struct live_workload) workloads;
	numbers free_workloads, free_policies;
	size_t nb_workloads;
	struct policy_map workload_index; /* by key */
	struct policy_map place_index;    /* struct policy_place -> workload */
	struct policy_arena
	    dpu_arena; /* of its keys: no other thread's while workloads are indexed */
	struct policy_map dpu_index; /* DPU -> the workloads behind it */
	POLICY_VECTOR(numbers) behind;
	struct policy_map policy_index;   /* "tenant/name/kind" */
	struct policy_map priority_index; /* ours only: "tier/priority/tenant" */
	struct policy_map host_index;     /* Pods with the address of their node, by key */
	POLICY_VECTOR(const struct policy_workload_def *) hosts;
	POLICY_VECTOR(char *) policy_keys, priority_keys; /* by policy */

	/* label -> selectors: each under one requirement that an identity must meet */
	struct policy_map label_index;
	POLICY_VECTOR(numbers) labels;
	struct policy_arena arena; /* of label_index */

	/* the table's arrays, which grow */
	POLICY_VECTOR(struct policy_identity) identities;
	POLICY_VECTOR(struct policy_endpoint) endpoints;
	POLICY_VECTOR(struct policy_set) sets;
	POLICY_VECTOR(struct policy_program) programs;
	POLICY_VECTOR(struct policy_unplaced) unplaced;

	/* of the change under way */
	struct policy_touched *touched;
	numbers dirty; /* identities whose programs may differ */
	POLICY_VECTOR(struct policy_place) moved;
	numbers named;    /* symbols that were named before, or were not: index * 2 + was */
	numbers named_in; /* by symbol: the change it is in `named` for */
	uint32_t nb_changes;
	int whole; /* it reaches further than we do */

	uint32_t nb_parts; /* rules that depend on what a port's name means to their peers */
	size_t garbage;    /* bytes in arenas that nobody needs */
};

/* Takes `c`, also on failure. */
int live_create(struct live **out, struct compile *c);
void live_destroy(struct live *l);

/*
 * Take the objects of `gone` out and those of `come` in; either may have NULLs.
 * Returns 0; -EINVAL with findings, or -EAGAIN when the whole must be compiled: nothing has changed;
 * -ENOMEM: the object can only be destroyed.
 */
int live_change(struct live *l, struct policy_source *const *gone,
    struct policy_source *const *come, size_t nb, struct policy_touched *touched,
    struct policy_findings *f);

/* The hosts behind these DPUs are attested now, or are not any more.  Returns 0, or -ENOMEM as above. */
int live_posture(
    struct live *l, const char *const *dpus, size_t nb, struct policy_touched *touched);

const struct policy_workload_def *live_workload(const struct live *l, const char *key);
