#pragma once

#include "policy/arena.h"
#include "policy/model.h"

/*
 * A compiler that lives: sources go in and out, and the table follows at the cost of what changed.
 *
 * policy_compile() is the reference: after every change the table here is equal to what that makes of
 * the same sources with the same numbers.  A change that stays within workloads and policies is worked
 * into the steps' results (live.c): a relabel costs some binary searches, a policy the programs of its
 * subjects.  Whatever reaches further (groups, services, tiers, tenants, Pods, a label that nobody
 * named before, the meaning of a named port for those who send) compiles the whole anew.
 *
 * A change is made, then kept or undone, alone or with those after it: the server asks its store in
 * between.
 *
 * Context: one thread at a time, all of it.
 */
struct policy_compiler;

struct policy_change {
	const char *name; /* of the source */
	const char *text; /* UTF-8 YAML, len bytes; NULL: take the source out */
	size_t len;
};

struct policy_place {
	uint32_t vrf;
	struct pk_addr addr;
};

/*
 * What a change has touched: objects of the table that are new, different or gone; which of these,
 * the table says.  Some may be named twice, or turn out to be as before.  Zeroed is empty.
 */
struct policy_touched {
	int whole; /* the table is another one: compare all of it */
	int nomem; /* something is missing here */
	POLICY_VECTOR(uint32_t) identities;
	POLICY_VECTOR(struct policy_place) endpoints;
	POLICY_VECTOR(uint64_t) sets;
	POLICY_VECTOR(uint64_t) programs;
};

void policy_touched_fini(struct policy_touched *t);
void policy_touched_clear(struct policy_touched *t);

/* `ids` is borrowed. */
int policy_compiler_create(struct policy_compiler **out, struct policy_ids *ids);
void policy_compiler_destroy(struct policy_compiler *pc);

/*
 * Replace, add and take out sources, and compile.  All of it happens or nothing; what is touched is
 * added to *touched.  Findings are about all sources when the whole is compiled, else about those
 * that changed.  Removing what is not there is no change.
 * Returns 0, -EINVAL with findings, or -ENOMEM.
 */
int policy_compiler_change(struct policy_compiler *pc, const struct policy_change *changes,
    size_t nb, struct policy_touched *touched, struct policy_findings *f);

/*
 * Which DPUs' hosts are attested, for policy_model_set_attested(); asked again whenever an endpoint is made.
 * After a change of the answer for some DPUs, name them: their endpoints follow, at the cost of these.
 * That is for good, so no change may be waiting to be kept or undone.  Returns 0, or -ENOMEM: then the next
 * change mends it, and touches the whole.
 */
void policy_compiler_set_attested(struct policy_compiler *pc, policy_attested *is, void *arg);
int policy_compiler_posture(struct policy_compiler *pc, const char *const *dpus, size_t nb,
    struct policy_touched *touched);

/* End all changes since the last of these calls, for good or by going back to what was before. */
void policy_compiler_keep(struct policy_compiler *pc);
int policy_compiler_undo(
    struct policy_compiler *pc); /* 0 or -ENOMEM: then the next change mends it */

/* Borrowed until the next change.  The table is NULL before the first. */
const struct policy_table *policy_compiler_table(const struct policy_compiler *pc);
const struct policy_model *policy_compiler_model(const struct policy_compiler *pc);

/* The whole table was compiled this often. */
uint64_t policy_compiler_nb_whole(const struct policy_compiler *pc);

/*
 * Policies whose subject a workload is, in the order in which they are asked.  Borrowed as above.
 * Returns their number, or -ENOENT when there is no such workload ("tenant/name").
 */
int policy_compiler_applied(const struct policy_compiler *pc, const char *workload,
    void (*each)(void *arg, const char *tenant, const char *name, const char *tier), void *arg);
