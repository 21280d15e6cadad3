#pragma once

#include "policy/model.h"

/*
 * What is odd about policies that are not wrong: rules that never decide or might as well not be there,
 * policies that contradict each other, selectors that cannot select, and mistakes that many make.  Every
 * finding has a code; docs/policy-lint.md has an example of each, and tests/data/lint has them as tests.
 *
 * Findings about rules are decided on the compiled form, for all traffic between all that are in the
 * inventory and the world outside, so they hold for this inventory and say nothing without one.
 */
int policy_lint(
    const struct policy_model *m, const struct policy_table *t, struct policy_findings *f);
