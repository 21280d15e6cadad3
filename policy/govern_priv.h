#pragma once

#include "policy/model_priv.h"

/* The kinds of policy/govern.h as they are read. */
extern const struct policy_schema policy_rollout_schema; /* of struct policy_rollout_def */
extern const struct policy_schema policy_role_schema;    /* of struct policy_role_def */
/* Of policy/reference.h. */
extern const struct policy_schema policy_reference_schema; /* of struct policy_reference_def */
/* Of policy/grant.h. */
extern const struct policy_schema policy_link_schema; /* of struct policy_link_def */
