#pragma once

#include "policy/schema.h"

/*
 * Labels, and selectors of workloads by their labels.
 *
 * A selector is a list of requirements, all of which must hold.  Written short it is a map,
 *
 *     {app: web, env: [prod, stage], owner: , "!legacy": , "!zone": [a, b]}
 *
 * where a word or list is In, nothing is Exists, "!key" is DoesNotExist and, with a word or list,
 * NotIn.  The long form has matchLabels and matchExpressions, as in Kubernetes.  NotIn and
 * DoesNotExist hold for a workload without the label.  No requirement at all selects everybody.
 */
/* The label that nobody can give: a workload behind a DPU has it while its host is attested. */
#define POLICY_ATTESTED      "attested"
#define POLICY_ATTESTED_TRUE "true"

enum policy_op {
	POLICY_IN = 0,
	POLICY_NOT_IN,
	POLICY_EXISTS,
	POLICY_DOES_NOT_EXIST,
};

struct policy_requirement {
	const char *key;
	enum policy_op op;
	uint32_t nb;
	const char **values; /* ascending, each once */
};

struct policy_selector {
	uint32_t line, column;
	uint32_t nb;
	struct policy_requirement *at; /* by key, operator, values */
	uint32_t nb_others;            /* of an expression: or one of these */
	struct policy_selector *others;
};

struct policy_label {
	const char *key, *value;
};

struct policy_labels {
	uint32_t nb;
	struct policy_label *at; /* by key */
};

policy_decode policy_read_selector;  /* out: struct policy_selector, without others */
policy_decode policy_read_selectors; /* the same, perhaps with others */

/* The text at `n` is an expression, such as app == 'web' && !(env in {'dev', 'test'}); see policy/expr.c. */
void policy_expr_read(
    struct policy_reader *r, const struct policy_node *n, struct policy_selector *s);

policy_decode policy_read_labels; /* out: struct policy_labels */

/*
 * Add `attested: true` (the host is) or `attested: false` (it is not, or there is none).  The selector is in
 * canonical order afterwards.
 */
void policy_selector_add_attested(struct policy_reader *r, struct policy_selector *s, int attested);

/* Bring requirements that were put together by hand into canonical order. */
void policy_selector_sort(struct policy_selector *s);
void policy_labels_sort(struct policy_labels *l);

/* "app=web,env in (prod,stage),!legacy", "" for everybody.  NULL when there is no memory. */
const char *policy_selector_text(struct policy_arena *a, const struct policy_selector *s);
