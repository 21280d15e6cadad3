#include "fw/meter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fw/rule.h"
#include "lib/base.h"

static const uint64_t depth_ns[FW_METER_COUNT] = {
	[FW_METER_SESSIONS] = PK_NS_PER_S,
	[FW_METER_PACKETS] = PK_NS_PER_S / 10,
	[FW_METER_BYTES] = PK_NS_PER_S / 10,
};

#define FRAME_MAX 65535 /* bytes that a packet may owe */

/* As long as a cache line for each rule, so that two seldom meet on one.  Those of rules without limits are never
 * touched, and calloc() has taken the zeroes from the kernel, which has them when they are asked for. */
struct fw_meters {
	struct {
		_Atomic uint64_t full_ns[PK_CACHE_LINE / sizeof(uint64_t)];
	} rule[FW_RULE_SLOTS];
};
_Static_assert(FW_METER_COUNT <= PK_CACHE_LINE / sizeof(uint64_t), "a line has room for all");

int
fw_meters_create(struct fw_meters **out)
{
	*out = calloc(1, sizeof(struct fw_meters));
	return *out != NULL ? 0 : -ENOMEM;
}

void
fw_meters_destroy(struct fw_meters *m)
{
	free(m);
}

bool
fw_meter_take(struct fw_meters *m, uint32_t rule, enum fw_meter which, uint64_t rate, uint32_t n,
    uint64_t now_ns)
{
	_Atomic uint64_t *bucket = &m->rule[rule % FW_RULE_SLOTS].full_ns[which];
	uint64_t cost = (uint64_t)n * PK_NS_PER_S / rate;
	uint64_t most = which == FW_METER_BYTES ? FRAME_MAX * PK_NS_PER_S / rate : cost;
	uint64_t slack = which == FW_METER_BYTES ? depth_ns[which]
	                                         : depth_ns[which] - PK_MIN(cost, depth_ns[which]);
	uint64_t full = atomic_load_explicit(bucket, memory_order_relaxed), start;

	do {
		start = PK_MAX(full, now_ns);
		/* More than anybody can owe at this rate: it was run up at a slower one, and is forgiven. */
		if (start - now_ns > slack + most)
			start = now_ns + slack;
		if (start - now_ns > slack)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    bucket, &full, start + cost, memory_order_relaxed, memory_order_relaxed));
	return true;
}
