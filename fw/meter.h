#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * What rules with `limit` let through: token buckets, by the number of a rule (fw/rule.h).
 *
 * A rule's sessions are on all lcores, a handful of them perhaps on one; shares of a small limit would be
 * neither fair nor enough.  So a bucket is shared by all lcores, and costs each packet of such a rule, and no
 * other, one exchange on its line.  A bucket is kept as a date, the one at which it is full again: refilling is
 * the passing of time.  Rules come and go under a number; the next finds the bucket at most one depth from full.
 */
enum fw_meter {
	FW_METER_SESSIONS = 0,
	FW_METER_PACKETS,
	FW_METER_BYTES,
	FW_METER_COUNT,
};

struct fw_meters;

/* Context: control thread.  The caller owns *out.  Returns 0 or -ENOMEM. */
int fw_meters_create(struct fw_meters **out);
void fw_meters_destroy(struct fw_meters *m); /* NULL is allowed */

/*
 * Take `n` tokens of rule `rule` (below FW_RULE_SLOTS) at `now_ns`, of a bucket that gets `rate` a second, not 0,
 * and holds what comes in one second (sessions) or in a tenth of one (packets, bytes), and one token at least.
 * A packet is never too long: it passes when there is something left, and the bytes beyond that are owed.
 * Context: any lcore.  Returns false, and takes nothing, when there is not enough.
 */
bool fw_meter_take(struct fw_meters *m, uint32_t rule, enum fw_meter which, uint64_t rate,
    uint32_t n, uint64_t now_ns);
