#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * When a rule is there: on some days of the week, between two times of day, from one date until another, in
 * the local time of a zone.
 *
 * A zone is what POSIX makes of it (IEEE Std 1003.1, section 8.3, TZ): an offset, and if there is summer time
 * another one, with the two rules of the year by which they change.  So whoever holds a schedule can tell for
 * any moment whether it is on, without a table of zones and without asking anybody.  It is plain numbers, of
 * fixed size and without holes, to be compared as memory.
 */
struct pk_zone_change {
	uint8_t month; /* 1 .. 12 */
	uint8_t week;  /* 1 .. 4, or 5 for the last */
	uint8_t day;   /* 0 .. 6, Sunday first */
	uint8_t zero;
	int16_t
	    at_min; /* local time before the change, in minutes of that day; may lie beyond it */
};

struct pk_zone {
	int16_t standard_min; /* east of UTC */
	int16_t summer_min;
	struct pk_zone_change to_summer, to_standard; /* month 0: there is no summer time */
};

struct pk_schedule {
	uint8_t days; /* bit 0: Monday, to bit 6: Sunday; 0: no schedule, so always */
	uint8_t zero;
	uint16_t start_min,
	    end_min; /* of the day; not rising: over midnight, and the day is that of the start */
	struct pk_zone zone;
	uint8_t zero2[2];
	int32_t from_day, until_day; /* first and last day of a start, since 1970-01-01 */
};
_Static_assert(sizeof(struct pk_schedule) == 32, "no holes");

#define PK_DAY_MIN   1440
#define PK_DAY_FIRST (-100000) /* days since 1970-01-01 that a schedule may name */
#define PK_DAY_LAST  1000000
#define PK_TIME_ANY  INT64_MIN /* a moment nobody has named */

/* NULL if it is a schedule or none, else what would have been right. */
const char *pk_schedule_check(const struct pk_schedule *s);

/* Whether it is on at `unix_s`, seconds since 1970-01-01 UTC.  Without days it always is, as it is at PK_TIME_ANY. */
bool pk_schedule_on(const struct pk_schedule *s, int64_t unix_s);

/* Days since 1970-01-01 of a date of the Gregorian calendar; `month` is 1 .. 12. */
int64_t pk_days(int64_t year, unsigned int month, unsigned int day);

/* The moment at which the clocks of a zone show `local_s` seconds since 1970-01-01; of two the first, of none the
 * one after the gap. */
int64_t pk_zone_unix(const struct pk_zone *z, int64_t local_s);
