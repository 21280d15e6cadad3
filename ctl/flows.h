#pragma once

#include "ctl/policy_offline.h"
#include "policy/arena.h"
#include "policy/map.h"
#include "policy/recommend.h"

/*
 * Recorded flows.  A line is a JSON object,
 *
 *     {"src":"192.0.2.7","dst":"shop/web","proto":"tcp","dport":80,"verdict":"pass"}
 *
 * as `picketctl -j monitor` prints it (its "opened" and policy's "drop" rows count, the rest is the same
 * flows again), with addresses or "tenant/name", or one of comma separated values: src,dst,proto,port.
 * The port of ICMP is its type and code: `type << 8 | code`, or in CSV also "8/0".  A line of CSV that
 * begins with "src" is a heading; empty lines, and those that begin with #, are passed over.
 */
enum ctl_recorded {
	CTL_RECORDED_UNKNOWN = 0,
	CTL_RECORDED_ALLOWED,
	CTL_RECORDED_REFUSED,
};

struct ctl_flow {
	struct policy_flow flow;
	char src[160], dst[160]; /* as written */
	enum ctl_recorded recorded;
	uint64_t count; /* lines that said so */
	unsigned int line;
};

struct ctl_flows {
	struct ctl_flow *at;
	size_t nb, cap;
	struct policy_map index; /* by ends, protocol, selector and what was recorded */
	struct policy_arena arena;
};

/*
 * Read a file, or stdin for "-".  Ends are looked up by `o->query`.
 * Returns 0, or an exit status having said which line is wrong and why.
 */
int ctl_flows_read(
    struct ctl_context *ctx, const struct ctl_offline *o, const char *path, struct ctl_flows *out);
void ctl_flows_fini(struct ctl_flows *f);
