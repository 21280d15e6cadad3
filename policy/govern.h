#pragma once

#include "policy/model.h"

/*
 * What sources say of their own rule: how a change is rolled out (kind Rollout), and who may change what
 * (kind Role).  The policy server enforces both; DPUs never hear of either.
 */
struct policy_canary {
	size_t nb_dpus;
	const char *const *dpus; /* names; * and ? stand for any */
	const char *workloads;   /* "app=web,env=prod", "key" or "!key"; NULL: by name only */
	uint32_t bake_s;
	int abort; /* when more is newly denied than: */
	uint32_t abort_denied;
};

/* The Rollout among the sources.  Returns 1 with *out, borrowed from the model, or 0: there is none. */
int policy_rollout(const struct policy_model *m, struct policy_canary *out);

/*
 * Call `each` for the DPUs that `c` selects, once each, ascending: of those that workloads live behind and
 * of also[].  Returns 0, -EINVAL with *diag, or -ENOMEM.
 */
int policy_canary_select(const struct policy_model *m, const struct policy_canary *c,
    const char *const *also, size_t nb_also, void (*each)(void *arg, const char *dpu), void *arg,
    struct pk_diag *diag);

enum policy_may { /* bits */
	POLICY_MAY_READ = 1 << 0,
	POLICY_MAY_APPLY = 1 << 1,
	POLICY_MAY_ROLLBACK = 1 << 2,
	POLICY_MAY_WORKLOADS = 1 << 3,
	POLICY_MAY_ROLLOUT = 1 << 4, /* begin, promote, abort */
	POLICY_MAY_AUDIT = 1 << 5,   /* read the audit log */
	POLICY_MAY_GOVERN = 1 << 6,  /* change tenants, tiers, roles, references, links; revoke */
};

/* "apply" and so on, of one bit. */
const char *policy_may_name(unsigned int may);

#define POLICY_ADMIN \
	"admin" /* this operator may always do everything, so nobody locks everybody out */

/* All roles of a model, on their own.  Context: any, it never changes. */
struct policy_roles;

/* `m` NULL: they are not known, and only the admin may anything.  Returns 0 or -ENOMEM. */
int policy_roles_create(struct policy_roles **out, const struct policy_model *m);
void policy_roles_destroy(struct policy_roles *r); /* NULL is allowed */

/* Whether operator `who` may, for some tenant and tier.  Without a role everybody may everything; NULL
 * stands for no role. */
int policy_roles_may(const struct policy_roles *r, const char *who, unsigned int may);

/*
 * Whether he may make of the text `old` the text `now` (NULL: there is none): `may` for the tenant and tier
 * of each policy in either, and what other kinds need.  What is no source is of no concern here.
 * Returns 0, -EPERM with one sentence, or -ENOMEM.
 */
int policy_roles_change(const struct policy_roles *r, const char *who, unsigned int may,
    const char *old, size_t old_len, const char *now, size_t now_len, struct pk_diag *diag);
