#pragma once

#include "policy/model.h"

/*
 * Add a finding; the sentence is copied.  NULL `f` is allowed: the caller wants to know only that
 * something is wrong, not what.  Beyond POLICY_FINDINGS_MAX nothing more is kept.
 */
#define POLICY_FINDINGS_MAX 10000

void policy_findings_add(struct policy_findings *f, enum policy_severity severity, const char *file,
    unsigned int line, unsigned int column, const char *code, const char *fmt, ...) PK_PRINTF(7, 8);

/* Whether there is a finding of this code at this place. */
int policy_findings_has(const struct policy_findings *f, const char *file, unsigned int line,
    unsigned int column, const char *code);
