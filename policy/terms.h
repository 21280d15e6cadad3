#pragma once

#include "policy/schema.h"
#include "policy/table.h"

/*
 * On what terms rules allow: the words that stand beside `action: allow` in a rule, and what those of the
 * two ends of a flow come to together.
 */

/* Decoders of rule keys; out: struct pk_rule_terms. */
policy_decode policy_read_encryption, policy_read_inspect, policy_read_fail, policy_read_dscp,
    policy_read_limit;

/*
 * What no key of the rule at `n` can see by itself: terms of a rule that does not allow, and words that
 * need another.  Fills in what follows from others.
 */
void policy_terms_settle(struct policy_reader *r, const struct policy_node *n, unsigned int verdict,
    struct pk_rule_terms *t);

/* "encryption ipsec, inspect strict" into buf; "" for none.  Returns buf. */
const char *policy_terms_text(char *buf, size_t size, const struct pk_rule_terms *t);

/*
 * What rules that say `a` and `b` ask for together.  Each end's DPU holds the flow to the rule of its own
 * side, so both hold, and the more definite decides: `required` leaves to the other which it is to be.
 * PK_ENCRYPTION_COUNT: ipsec and mtls, which no flow satisfies both.
 */
unsigned int policy_encryption_merge(unsigned int a, unsigned int b);

/* "required", "ipsec", "mtls"; "conflict" for PK_ENCRYPTION_COUNT. */
const char *policy_encryption_text(unsigned int encryption);
