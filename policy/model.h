#pragma once

#include "lib/diag.h"
#include "policy/table.h"

/*
 * From policy files to a policy_table.
 *
 * A source is one YAML file, or its text: one or more documents of the kinds Policy, Group, Service,
 * Tier, Workload, Tenant, Rollout, Role, Reference and Link (apiVersion picket.io/v1; docs/policy.md is the reference).
 * A model collects sources, reports everything wrong with them at once, and never holds half a source:
 * one that was refused has left no trace.
 */

/* Findings in order of file, line, column.  Errors refuse; warnings do not; a note may well be meant. */
enum policy_severity {
	POLICY_ERROR = 0,
	POLICY_WARNING,
	POLICY_NOTE
};

/* "error", "warning" or "note". */
const char *policy_severity_name(enum policy_severity severity);

struct policy_finding {
	enum policy_severity severity;
	const char *file;
	unsigned int line, column; /* from 1; 0 unknown */
	const char *code; /* "unknown-key", "shadowed", ...; fixed words for -j and tests */
	const char *text; /* what is wrong, and what would have been right; no position */
};

struct policy_findings;

int policy_findings_create(struct policy_findings **out);
void policy_findings_destroy(struct policy_findings *f);
size_t policy_findings_count(const struct policy_findings *f, enum policy_severity severity);
size_t policy_findings_total(const struct policy_findings *f);
/* Borrowed until the next change.  i < total, sorted. */
const struct policy_finding *policy_findings_get(struct policy_findings *f, size_t i);
/* The first error as one sentence. */
void policy_findings_first(struct policy_findings *f, struct pk_diag *diag);

struct policy_model;

int policy_model_create(struct policy_model **out);
void policy_model_destroy(struct policy_model *m);

/*
 * Add a source.  `name` is what findings and rules call the file; text[0 .. len - 1] is UTF-8 YAML
 * and stays the caller's.  Sizes are bounded (16 MiB a source, depth 64, no aliases that expand).
 * Returns 0, -EINVAL with findings, or -ENOMEM.
 */
int policy_model_add_text(struct policy_model *m, const char *name, const char *text, size_t len,
    struct policy_findings *f);

/* The same for a file, or for all *.yaml, *.yml and *.json below a directory, in byte order of path. */
int policy_model_add_path(struct policy_model *m, const char *path, struct policy_findings *f);

/*
 * Numbers for identities and tenants, stable for as long as the object lives; the server keeps it in
 * its store.  The key is canonical text ("acme{app=db,env=prod}").
 */
struct policy_ids;

int policy_ids_create(struct policy_ids **out);
void policy_ids_destroy(struct policy_ids *ids);
/* Number of `key`, given out now if it is new.  Never 0; 0 means no memory. */
uint32_t policy_ids_get(struct policy_ids *ids, const char *key);
/* Restore one from a store.  Returns 0, -EEXIST if the number or key is taken, or -ENOMEM. */
int policy_ids_restore(struct policy_ids *ids, const char *key, uint32_t id);
/* Call `each` for every pair in order of number, from the first number >= `from`. */
void policy_ids_each(const struct policy_ids *ids, uint32_t from,
    void (*each)(void *arg, const char *key, uint32_t id), void *arg);

/*
 * Which DPUs' hosts are attested, as others are to see their workloads.  Without a function all are, as a
 * question asked offline wants it.  Borrowed as long as the model.
 */
typedef int policy_attested(void *arg, const char *dpu);
void policy_model_set_attested(struct policy_model *m, policy_attested *is, void *arg);

/*
 * Compile everything in the model: resolve references across sources, check what can only be seen
 * as a whole (duplicate names, equal priorities in a tier, unknown groups, two workloads with one
 * address), intern label sets, lay programs out.
 * Returns 0, -EINVAL with findings, or -ENOMEM.  The caller owns *out; it borrows nothing from the
 * model, so either may be destroyed first.  Numbers are taken from `ids` once no source is wrong.
 */
int policy_compile(const struct policy_model *m, struct policy_ids *ids, struct policy_table **out,
    struct policy_findings *f);
void policy_table_destroy(struct policy_table *t);

/* The name of the tier whose rules carry this order; "end" beyond the last, where tenants' defaults are. */
const char *policy_tier_name(const struct policy_model *m, uint8_t order);

/* Run the `tests:` of all policies in the model against its table; failures become error findings
 * with code "test-failed".  *passed and *failed count them.  Returns 0, -EINVAL or -ENOMEM. */
int policy_run_tests(const struct policy_model *m, const struct policy_table *t,
    struct policy_findings *f, unsigned int *passed, unsigned int *failed);
