#pragma once

#include "policy/compiler.h"
#include "policy/live.h"

/* For questions.  NULL when nothing is compiled. */
const struct live *policy_compiler_live(const struct policy_compiler *pc);
