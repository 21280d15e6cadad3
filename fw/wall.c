#include "fw/wall.h"

#include "fw/rule.h"

void
fw_wall_tick(struct fw_wall *w, const struct fw_rules *rules, uint64_t now_ns, uint64_t unix_ns)
{
	int64_t minute = (int64_t)(unix_ns / (60 * PK_NS_PER_S)), was = w->minute;

	atomic_store_explicit(
	    &w->offset_ns, (int64_t)unix_ns - (int64_t)now_ns, memory_order_relaxed);
	w->minute = minute;
	if (minute != was && fw_rules_turned(rules, was * 60, minute * 60))
		atomic_fetch_add_explicit(&w->turns, 1, memory_order_release);
}
