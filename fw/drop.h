#pragma once

#include "lib/base.h"

/*
 * Why a packet went no further.  Each refused packet adds to exactly one of these counters, so that
 * received = sent + held + the sum of drops, always.
 *
 *   X(NAME, "name", "what an operator should know")
 *
 * The order is not an interface, the names are.
 */
#define FW_DROPS(X)                                                                            \
	X(NO_POLICY, "no-policy", "no policy has been accepted yet: nothing passes")           \
	X(RULE_DENY, "rule-deny", "a rule, or the default at the end of the rules, says deny") \
	X(RULE_REJECT, "rule-reject", "a rule says reject; the sender was told")               \
	X(NO_SUBJECT, "no-subject", "the inside address belongs to no workload with policy")   \
	X(NO_BUFFER, "no-buffer", "the packet buffers ran out")                                \
	X(TX_FULL, "tx-full", "the port did not take the packet")

enum fw_drop {
	FW_DROP_NONE = 0, /* not dropped */
#define FW_DROP_ENUM(name, text, help) FW_DROP_##name,
	FW_DROPS(FW_DROP_ENUM)
#undef FW_DROP_ENUM
	FW_DROP_COUNT,
};

/* "rule-deny"; "none" for FW_DROP_NONE, "unknown" beyond the end. */
const char *fw_drop_name(unsigned int drop);
const char *fw_drop_help(unsigned int drop);
