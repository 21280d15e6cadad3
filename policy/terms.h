#pragma once

#include "policy/schema.h"
#include "policy/table.h"

/*
 * On what terms rules allow: the words that stand beside `action: allow` in a rule, and what those of the
 * two ends of a flow come to together.
 */

/* Decoders of rule keys; out: struct pk_rule_terms. */
policy_decode policy_read_encryption;

/* Every key of terms in the rule at `n` is an error if the rule does not allow. */
void policy_terms_check(struct policy_reader *r, const struct policy_node *n, unsigned int verdict);

/*
 * What rules that say `a` and `b` ask for together.  Each end's DPU holds the flow to the rule of its own
 * side, so both hold, and the more definite decides: `required` leaves to the other which it is to be.
 * PK_ENCRYPTION_COUNT: ipsec and mtls, which no flow satisfies both.
 */
unsigned int policy_encryption_merge(unsigned int a, unsigned int b);

/* "required", "ipsec", "mtls"; "conflict" for PK_ENCRYPTION_COUNT. */
const char *policy_encryption_text(unsigned int encryption);
