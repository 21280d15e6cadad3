#include <string.h>
#include <time.h>

#include "lib/schedule.h"
#include "tests/unit/test.h"

/* Central Europe, Lord Howe Island (half an hour of summer, in the south), Dublin as POSIX has it (winter is the
 * time apart). */
static const struct pk_zone berlin = { .standard_min = 60,
	.summer_min = 120,
	.to_summer = { .month = 3, .week = 5, .day = 0, .at_min = 120 },
	.to_standard = { .month = 10, .week = 5, .day = 0, .at_min = 180 } };
static const struct pk_zone lord_howe = { .standard_min = 630,
	.summer_min = 660,
	.to_summer = { .month = 10, .week = 1, .day = 0, .at_min = 120 },
	.to_standard = { .month = 4, .week = 1, .day = 0, .at_min = 120 } };

static struct pk_schedule
daily(const struct pk_zone *z, unsigned int start, unsigned int end)
{
	return (struct pk_schedule){ .days = 127,
		.start_min = (uint16_t)start,
		.end_min = (uint16_t)end,
		.zone = *z,
		.from_day = PK_DAY_FIRST,
		.until_day = PK_DAY_LAST };
}

static int64_t
utc(int year, unsigned int month, unsigned int day, int hour, int min)
{
	return pk_days(year, month, day) * 86400 + hour * 3600 + min * 60;
}

/* The C library's calendar says the same. */
static void
test_days(void **state)
{
	(void)state;
	for (int64_t day = -150000; day < 150000; day += 7) {
		time_t t = (time_t)(day * 86400);
		struct tm tm;

		assert_non_null(gmtime_r(&t, &tm));
		assert_int_equal(pk_days(tm.tm_year + 1900, (unsigned int)tm.tm_mon + 1,
		                     (unsigned int)tm.tm_mday),
		    day);
	}
}

static void
test_summer(void **state)
{
	struct pk_schedule s = daily(&berlin, 8 * 60, 18 * 60);

	(void)state;
	assert_null(pk_schedule_check(&s));
	/* 2026: summer time from 29 March 01:00 UTC until 25 October 01:00 UTC. */
	assert_false(pk_schedule_on(&s, utc(2026, 3, 28, 6, 59)));
	assert_true(pk_schedule_on(&s, utc(2026, 3, 28, 7, 0)));
	assert_false(pk_schedule_on(&s, utc(2026, 3, 29, 5, 59)));
	assert_true(pk_schedule_on(&s, utc(2026, 3, 29, 6, 0)));
	assert_false(pk_schedule_on(&s, utc(2026, 3, 29, 16, 0)));
	assert_true(pk_schedule_on(&s, utc(2026, 10, 24, 6, 0)));
	assert_false(pk_schedule_on(&s, utc(2026, 10, 25, 6, 59)));
	assert_true(pk_schedule_on(&s, utc(2026, 10, 25, 7, 0)));
	/* The hour that is not there, and the one that comes twice. */
	s = daily(&berlin, 120, 180);
	assert_false(pk_schedule_on(&s, utc(2026, 3, 29, 0, 59)));
	assert_false(pk_schedule_on(&s, utc(2026, 3, 29, 1, 0)));
	assert_true(pk_schedule_on(&s, utc(2026, 10, 25, 0, 0)));
	assert_true(pk_schedule_on(&s, utc(2026, 10, 25, 1, 59)));
	assert_false(pk_schedule_on(&s, utc(2026, 10, 25, 2, 0)));
}

static void
test_south(void **state)
{
	struct pk_schedule s = daily(&lord_howe, 9 * 60, 10 * 60);

	(void)state;
	assert_null(pk_schedule_check(&s));
	/* 2026-04-05 and 2026-10-04 are the Sundays.  +10:30 in winter, +11 in summer. */
	assert_true(pk_schedule_on(&s, utc(2026, 1, 1, 22, 0)));
	assert_false(pk_schedule_on(&s, utc(2026, 6, 1, 22, 0)));
	assert_true(pk_schedule_on(&s, utc(2026, 6, 1, 22, 30)));
	assert_true(pk_schedule_on(&s, utc(2026, 10, 4, 22, 0)));
}

static void
test_over_midnight(void **state)
{
	static const struct pk_zone zero;
	struct pk_schedule s = daily(&zero, 22 * 60, 6 * 60);

	(void)state;
	s.days = 1 << 4;                                           /* Friday */
	assert_false(pk_schedule_on(&s, utc(2026, 11, 20, 5, 0))); /* a Friday */
	assert_false(pk_schedule_on(&s, utc(2026, 11, 20, 21, 59)));
	assert_true(pk_schedule_on(&s, utc(2026, 11, 20, 22, 0)));
	assert_true(pk_schedule_on(&s, utc(2026, 11, 21, 5, 59)));
	assert_false(pk_schedule_on(&s, utc(2026, 11, 21, 6, 0)));
	assert_false(pk_schedule_on(&s, utc(2026, 11, 21, 22, 0)));
	/* The last night begins on the last day. */
	s.days = 127;
	s.until_day = (int32_t)pk_days(2026, 11, 20);
	assert_true(pk_schedule_on(&s, utc(2026, 11, 21, 5, 59)));
	assert_false(pk_schedule_on(&s, utc(2026, 11, 21, 22, 0)));
	s.from_day = s.until_day;
	assert_false(pk_schedule_on(&s, utc(2026, 11, 20, 5, 59)));
}

static void
test_moments(void **state)
{
	(void)state;
	assert_int_equal(pk_zone_unix(&berlin, utc(2026, 7, 1, 12, 0)), utc(2026, 7, 1, 10, 0));
	assert_int_equal(pk_zone_unix(&berlin, utc(2026, 1, 1, 12, 0)), utc(2026, 1, 1, 11, 0));
	assert_int_equal(pk_zone_unix(&berlin, utc(2026, 10, 25, 2, 30)), utc(2026, 10, 25, 0, 30));
}

/* Whoever sends messages may be taken over. */
static void
test_check(void **state)
{
	struct pk_schedule s = { 0 };

	(void)state;
	assert_null(pk_schedule_check(&s));
	s.end_min = 1;
	assert_non_null(pk_schedule_check(&s));
	for (int i = 0; i < 8; i++) {
		s = daily(&berlin, 60, 120);
		assert_null(pk_schedule_check(&s));
		if (i == 0)
			s.days = 128;
		else if (i == 1)
			s.start_min = 1440;
		else if (i == 2)
			s.end_min = 60;
		else if (i == 3)
			s.zone.to_standard.month = 0;
		else if (i == 4)
			s.zone.to_summer.week = 6;
		else if (i == 5)
			s.zone.standard_min = 1441;
		else if (i == 6)
			s.until_day = s.from_day - 1;
		else
			s.zero2[1] = 1;
		assert_non_null(pk_schedule_check(&s));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_days),
		cmocka_unit_test(test_summer),
		cmocka_unit_test(test_south),
		cmocka_unit_test(test_over_midnight),
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests_name("lib/schedule", tests, NULL, NULL);
}
