#pragma once

#include "lib/base.h"

/*
 * One line per event: `program: subject object event: cause (evidence)`.  Lines go to stderr, where
 * systemd's journal and a terminal both read them; under the journal each carries its priority.
 * Never called from an lcore's packet loop: a log line outlasts the whole packet budget.
 */
enum pk_log_level {
	PK_LOG_ERROR = 0, /* something asked for was not done */
	PK_LOG_WARN,      /* done, but an operator should look */
	PK_LOG_NOTICE,    /* start, stop, policy in force, peers coming and going */
	PK_LOG_INFO,
	PK_LOG_DEBUG,
};

/* `program` leads every line and is borrowed for good.  Context: start of main(). */
void pk_log_init(const char *program, enum pk_log_level level);
void pk_log_set_level(enum pk_log_level level);
enum pk_log_level pk_log_get_level(void);

/* Context: any thread but an lcore.  The text is never split, so that grep finds it. */
void pk_log(enum pk_log_level level, const char *fmt, ...) PK_PRINTF(2, 3);

#define pk_error(...)  pk_log(PK_LOG_ERROR, __VA_ARGS__)
#define pk_warn(...)   pk_log(PK_LOG_WARN, __VA_ARGS__)
#define pk_notice(...) pk_log(PK_LOG_NOTICE, __VA_ARGS__)
#define pk_info(...)   pk_log(PK_LOG_INFO, __VA_ARGS__)
#define pk_debug(...)  pk_log(PK_LOG_DEBUG, __VA_ARGS__)

/*
 * What the network can provoke is limited: `burst` lines, then one per `interval_ns`, with the
 * number left out told in the next line that passes.  One static struct per call site.
 */
struct pk_log_limit {
	uint64_t interval_ns;
	uint32_t burst;
	uint32_t suppressed;
	uint64_t full_at_ns;
};

#define PK_LOG_LIMIT(per_second, depth)                                     \
	{                                                                   \
		.interval_ns = PK_NS_PER_S / (per_second), .burst = (depth) \
	}

/* True when a line may go out at `now_ns`.  *suppressed says how many were left out before it. */
int pk_log_limit(struct pk_log_limit *limit, uint64_t now_ns, uint32_t *suppressed);
