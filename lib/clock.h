#pragma once

#include <time.h>

#include "lib/base.h"

/*
 * Time for programs' event loops.  Protocol and packet code never calls these: it is handed `now`,
 * so that a test can hold the clock.
 */

/* Nanoseconds that never go back, also counting suspend.  Context: any. */
static inline uint64_t
pk_clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * PK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Nanoseconds since 1970-01-01 UTC, for people and records only.  Context: any. */
static inline uint64_t
pk_clock_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * PK_NS_PER_S + (uint64_t)ts.tv_nsec;
}
