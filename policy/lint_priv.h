#pragma once

#include "policy/connect.h"
#include "policy/inventory.h"
#include "policy/lint.h"

/* What is found in the words of one document, and in words of the inventory.  Returns 0 or -ENOMEM. */
int policy_lint_text(const struct policy_inventory *v, struct policy_findings *f);

/* What is found by running the programs.  The same. */
int policy_lint_rules(const struct policy_inventory *v, const struct policy_table *t,
    struct policy_connect *c, struct policy_findings *f);

/* What is found by holding the terms of both ends of a flow against each other.  The same. */
int policy_lint_terms(
    const struct policy_inventory *v, struct policy_connect *c, struct policy_findings *f);
