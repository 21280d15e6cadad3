#include "lib/schedule.h"

#include <string.h>

#define DAY_S INT64_C(86400)

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Years begin in March here, so that the day that comes and goes is the last of one. */
int64_t
pk_days(int64_t year, unsigned int month, unsigned int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = floor_div(y, 400), in_era = y - era * 400;
	int64_t in_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static int64_t
year_of(int64_t day)
{
	int64_t year = 1970 + floor_div(day * 400, 146097);

	while (pk_days(year, 1, 1) > day)
		year--;
	while (pk_days(year + 1, 1, 1) <= day)
		year++;
	return year;
}

/* Sunday is 0, as in POSIX; 1970-01-01 was a Thursday. */
static int64_t
weekday(int64_t day)
{
	return (day + 4) - floor_div(day + 4, 7) * 7;
}

/* UTC of a change in a year; `offset_min` is in force before it. */
static int64_t
change_at(const struct pk_zone_change *c, int64_t year, int16_t offset_min)
{
	int64_t first = pk_days(year, c->month, 1);
	int64_t next = c->month == 12 ? pk_days(year + 1, 1, 1) : pk_days(year, c->month + 1u, 1);
	int64_t day = first + (c->day - weekday(first) + 7) % 7 + 7 * (c->week - 1);

	while (day >= next)
		day -= 7;
	return day * DAY_S + (c->at_min - offset_min) * INT64_C(60);
}

/* Minutes east of UTC in force. */
static int16_t
offset_at(const struct pk_zone *z, int64_t unix_s)
{
	int64_t year, summer, standard;
	bool on;

	if (z->to_summer.month == 0)
		return z->standard_min;
	year = year_of(floor_div(unix_s + z->standard_min * INT64_C(60), DAY_S));
	summer = change_at(&z->to_summer, year, z->standard_min);
	standard = change_at(&z->to_standard, year, z->summer_min);
	on = summer < standard ? unix_s >= summer && unix_s < standard
	                       : unix_s >= summer || unix_s < standard;
	return on ? z->summer_min : z->standard_min;
}

bool
pk_schedule_on(const struct pk_schedule *s, int64_t unix_s)
{
	bool over = s->end_min <= s->start_min;
	int64_t local, day, min;

	if (s->days == 0 || unix_s == PK_TIME_ANY)
		return true;
	local = unix_s + offset_at(&s->zone, unix_s) * INT64_C(60);
	day = floor_div(local, DAY_S);
	min = (local - day * DAY_S) / 60;
	if (over && min < s->end_min)
		day--;
	else if (min < s->start_min || (!over && min >= s->end_min))
		return false;
	if (day < s->from_day || day > s->until_day)
		return false;
	/* Monday has the first bit. */
	return (s->days >> (weekday(day) + 6) % 7 & 1) != 0;
}

int64_t
pk_zone_unix(const struct pk_zone *z, int64_t local_s)
{
	int64_t early = local_s - PK_MAX(z->standard_min, z->summer_min) * INT64_C(60);
	int64_t late = local_s - PK_MIN(z->standard_min, z->summer_min) * INT64_C(60);

	if (z->to_summer.month == 0)
		return local_s - z->standard_min * INT64_C(60);
	return early + offset_at(z, early) * INT64_C(60) == local_s ? early : late;
}

static bool
is_change(const struct pk_zone_change *c)
{
	return c->month >= 1 && c->month <= 12 && c->week >= 1 && c->week <= 5 && c->day <= 6 &&
	    c->zero == 0 && c->at_min > -7 * PK_DAY_MIN && c->at_min < 7 * PK_DAY_MIN;
}

const char *
pk_schedule_check(const struct pk_schedule *s)
{
	static const struct pk_schedule none;
	static const struct pk_zone_change no_change;
	const struct pk_zone *z = &s->zone;

	if (s->days == 0)
		return memcmp(s, &none, sizeof(none)) == 0 ? NULL : "days in a schedule";
	if (s->days > 127 || s->zero != 0 || s->zero2[0] != 0 || s->zero2[1] != 0)
		return "seven days in a week";
	if (s->start_min >= PK_DAY_MIN || s->end_min > PK_DAY_MIN || s->start_min == s->end_min)
		return "times within a day";
	if (s->from_day > s->until_day || s->from_day < PK_DAY_FIRST || s->until_day > PK_DAY_LAST)
		return "dates that rise";
	if (z->standard_min < -PK_DAY_MIN || z->standard_min > PK_DAY_MIN ||
	    z->summer_min < -PK_DAY_MIN || z->summer_min > PK_DAY_MIN)
		return "a zone less than a day from UTC";
	if (z->to_summer.month == 0 ? memcmp(&z->to_summer, &no_change, sizeof(no_change)) != 0 ||
	            memcmp(&z->to_standard, &no_change, sizeof(no_change)) != 0 ||
	            z->summer_min != 0
	                            : !is_change(&z->to_summer) || !is_change(&z->to_standard))
		return "a zone with both changes or none";
	return NULL;
}
