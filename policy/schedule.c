#include "policy/schedule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZONES "/usr/share/zoneinfo"

static const char *const day_words[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* ---- zones ---- */

static int
number(const char **s, int max, int *out)
{
	int value = 0, digits = 0;

	for (; **s >= '0' && **s <= '9' && digits < 4; ++*s, digits++)
		value = value * 10 + (**s - '0');
	*out = value;
	return digits > 0 && value <= max;
}

/* [+-]hh[:mm[:ss]] in minutes. */
static int
clock_time(const char **s, int *min)
{
	int sign = 1, hour, part = 0;

	if (**s == '+' || **s == '-')
		sign = *(*s)++ == '-' ? -1 : 1;
	if (!number(s, 167, &hour))
		return 0;
	*min = hour * 60;
	if (**s == ':') {
		++*s;
		if (!number(s, 59, &part))
			return 0;
		*min += part;
	}
	if (**s == ':') {
		++*s;
		if (!number(s, 59, &part) || part != 0)
			return 0;
	}
	*min *= sign;
	return 1;
}

static int
abbreviation(const char **s)
{
	size_t n;

	if (**s == '<') {
		n = strcspn(*s, ">");
		if ((*s)[n] != '>')
			return 0;
		*s += n + 1;
		return 1;
	}
	n = strspn(*s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
	*s += n;
	return n >= 3;
}

static int
change(const char **s, struct pk_zone_change *c)
{
	int month, week, day, at = 120;

	if ((*s)[0] != ',' || (*s)[1] != 'M')
		return 0;
	*s += 2;
	if (!number(s, 12, &month) || *(*s)++ != '.' || !number(s, 5, &week) || *(*s)++ != '.' ||
	    !number(s, 6, &day))
		return 0;
	if (**s == '/') {
		++*s;
		if (!clock_time(s, &at))
			return 0;
	}
	*c = (struct pk_zone_change){ .month = (uint8_t)month,
		.week = (uint8_t)week,
		.day = (uint8_t)day,
		.at_min = (int16_t)at };
	return month > 0 && week > 0;
}

/* IEEE Std 1003.1, section 8.3: "CET-1CEST,M3.5.0,M10.5.0/3".  West is positive there. */
static int
parse_posix(const char *s, struct pk_zone *z)
{
	int west, summer;

	memset(z, 0, sizeof(*z));
	if (!abbreviation(&s) || !clock_time(&s, &west))
		return 0;
	z->standard_min = (int16_t)-west;
	if (*s == '\0')
		return 1;
	if (!abbreviation(&s))
		return 0;
	summer = west - 60;
	if (*s != ',' && !clock_time(&s, &summer))
		return 0;
	z->summer_min = (int16_t)-summer;
	return change(&s, &z->to_summer) && change(&s, &z->to_standard) && *s == '\0';
}

/* RFC 8536 section 3.3: the file ends with that text between two newlines. */
static int
read_zone(const char *name, struct pk_zone *z, struct pk_diag *diag)
{
	const char *dir = getenv("TZDIR");
	char path[512], tail[128], *text;
	size_t n;
	FILE *f;

	memset(z, 0, sizeof(*z));
	if (strcmp(name, "UTC") == 0)
		return 0;
	if (name[0] == '\0' || strlen(name) > 63 || strstr(name, "..") != NULL || name[0] == '/' ||
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") !=
	        strlen(name)) {
		pk_diag_set(diag,
		    "\"%.64s\" is no name of a time zone; want one such as Europe/Berlin", name);
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "%s/%s", dir != NULL ? dir : ZONES, name);
	f = fopen(path, "re");
	n = f != NULL && fseek(f, -(long)sizeof(tail) + 1, SEEK_END) == 0
	    ? fread(tail, 1, sizeof(tail) - 1, f)
	    : 0;
	if (n == 0 && f != NULL) {
		rewind(f);
		n = fread(tail, 1, sizeof(tail) - 1, f);
	}
	if (f != NULL)
		fclose(f);
	if (n < 2 || tail[n - 1] != '\n') {
		pk_diag_set(diag, "time zone \"%s\" is not known here (%s)", name, path);
		return -EINVAL;
	}
	tail[n - 1] = '\0';
	text = memrchr(tail, '\n', n - 1);
	if (text == NULL || !parse_posix(text + 1, z)) {
		pk_diag_set(diag, "time zone \"%s\" follows no rule that could be handed on", name);
		return -EINVAL;
	}
	return 0;
}

static void
read_timezone(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_schedule *s = out;
	struct pk_diag diag;

	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (read_zone(n->text, &s->zone, &diag) < 0)
		policy_reader_error(r, n, "bad-schedule", "%s", diag.text);
}

/* ---- days, hours, dates ---- */

static int
day_of(const char *word, size_t len)
{
	for (int i = 0; i < 7; i++)
		if (len == 3 && strncmp(day_words[i], word, 3) == 0)
			return i;
	return -1;
}

/* "mon", "mon-fri" or "sat-mon". */
static int
parse_days(const char *text, uint8_t *days)
{
	const char *dash = strchr(text, '-');
	int first = day_of(text, dash != NULL ? (size_t)(dash - text) : strlen(text));
	int last = dash != NULL ? day_of(dash + 1, strlen(dash + 1)) : first;

	if (first < 0 || last < 0)
		return 0;
	for (int i = first;; i = (i + 1) % 7) {
		*days |= (uint8_t)(1 << i);
		if (i == last)
			return 1;
	}
}

static void
read_days(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_schedule *s = out;

	(void)arg;
	s->days = 0;
	if (n->kind == POLICY_SCALAR && parse_days(n->text, &s->days))
		return;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (uint32_t i = 0; i < n->nb; i++)
		if (n->items[i]->kind != POLICY_SCALAR || !parse_days(n->items[i]->text, &s->days))
			policy_reader_mismatch(r, n->items[i]);
}

static int
parse_time(const char **s, int *min)
{
	int hour, part;

	if (!number(s, 24, &hour) || *(*s)++ != ':' || !number(s, 59, &part))
		return 0;
	*min = hour * 60 + part;
	return *min <= PK_DAY_MIN;
}

static void
read_hours(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_schedule *s = out;
	const char *text = n->kind == POLICY_SCALAR ? n->text : "";
	int start, end;

	(void)arg;
	if (!parse_time(&text, &start) || *text++ != '-' || !parse_time(&text, &end) ||
	    *text != '\0' || start == end || start == PK_DAY_MIN) {
		policy_reader_mismatch(r, n);
		return;
	}
	s->start_min = (uint16_t)start;
	s->end_min = (uint16_t)end;
}

static int
parse_date(const char **s, int64_t *day)
{
	int year, month, of_month;

	if (!number(s, 9999, &year) || *(*s)++ != '-' || !number(s, 12, &month) || *(*s)++ != '-' ||
	    !number(s, 31, &of_month) || year < 1970 || month == 0 || of_month == 0)
		return 0;
	*day = pk_days(year, (unsigned int)month, (unsigned int)of_month);
	/* No 30th of February. */
	return *day <
	    (month == 12 ? pk_days(year + 1, 1, 1) : pk_days(year, (unsigned int)month + 1, 1));
}

static void
read_date(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	const char *text = n->kind == POLICY_SCALAR ? n->text : "";
	int64_t day;

	(void)arg;
	if (!parse_date(&text, &day) || *text != '\0')
		policy_reader_mismatch(r, n);
	else
		*(int32_t *)out = (int32_t)day;
}

void
policy_read_schedule(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "days", "days such as mon-fri, or a list of them", read_days, NULL, 0, 0 },
		{ "hours", "times of day such as \"08:00-18:00\"", read_hours, NULL, 0, 0 },
		{ "timezone", "a time zone such as Europe/Berlin", read_timezone, NULL, 0, 0 },
		{ "from", "a date such as 2026-12-31", read_date, NULL,
		    offsetof(struct pk_schedule, from_day), 0 },
		{ "until", "a date such as 2026-12-31", read_date, NULL,
		    offsetof(struct pk_schedule, until_day), 0 },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("a schedule", fields);
	struct pk_schedule *s = out;
	unsigned int errors = r->errors;

	(void)arg;
	*s = (struct pk_schedule){ .days = 127,
		.end_min = PK_DAY_MIN,
		.from_day = PK_DAY_FIRST,
		.until_day = PK_DAY_LAST };
	policy_schema_read(r, n, &schema, s);
	if (r->errors != errors)
		return;
	if (n->nb == 0 || (n->nb == 1 && policy_node_get(n, "timezone") != NULL))
		policy_reader_error(r, n, "bad-schedule",
		    "\"schedule\" has days, hours, from or until, and this has none");
	else if (s->from_day > s->until_day)
		policy_reader_error(r, policy_node_get(n, "until"), "bad-schedule",
		    "this schedule is over before it begins");
}

/* ---- for people ---- */

static void
date_text(char buf[16], int32_t day)
{
	int64_t year = 1970 + day / 366, month = 1;

	while (pk_days(year + 1, 1, 1) <= day)
		year++;
	while (month < 12 && pk_days(year, (unsigned int)month + 1, 1) <= day)
		month++;
	snprintf(buf, 16, "%04d-%02d-%02d", (int)(year % 10000), (int)month,
	    (int)(day - pk_days(year, (unsigned int)month, 1) + 1) % 100);
}

static size_t
put_days(char *buf, size_t size, uint8_t days)
{
	size_t used = 0;

	if (days == 127)
		return (size_t)snprintf(buf, size, "daily");
	for (int i = 0; i < 7; i++) {
		int last = i;

		if ((days >> i & 1) == 0)
			continue;
		while (last < 6 && (days >> (last + 1) & 1) != 0)
			last++;
		used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s", used > 0 ? "," : "",
		    day_words[i], last > i ? "-" : "", last > i ? day_words[last] : "");
		i = last;
	}
	return used;
}

const char *
policy_schedule_text(char *buf, size_t size, const struct pk_schedule *s)
{
	const struct pk_zone *z = &s->zone;
	char text[256], date[16];
	size_t n = 0;

	buf[0] = '\0';
	if (s->days == 0)
		return buf;
	n += put_days(text, sizeof(text), s->days);
	if (s->end_min - s->start_min != PK_DAY_MIN)
		n += (size_t)snprintf(text + n, sizeof(text) - n, " %02d:%02d-%02d:%02d",
		    s->start_min / 60, s->start_min % 60, s->end_min / 60, s->end_min % 60);
	n += (size_t)snprintf(text + n, sizeof(text) - n, " UTC");
	if (z->standard_min != 0)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%+03d:%02d",
		    z->standard_min / 60, abs(z->standard_min % 60));
	if (z->to_summer.month != 0)
		n += (size_t)snprintf(text + n, sizeof(text) - n, " (summer %+03d:%02d)",
		    z->summer_min / 60, abs(z->summer_min % 60));
	if (s->from_day > PK_DAY_FIRST) {
		date_text(date, s->from_day);
		n += (size_t)snprintf(text + n, sizeof(text) - n, " from %s", date);
	}
	if (s->until_day < PK_DAY_LAST) {
		date_text(date, s->until_day);
		n += (size_t)snprintf(text + n, sizeof(text) - n, " until %s", date);
	}
	snprintf(buf, size, "%s", text);
	return buf;
}

int
policy_schedule_moment(const char *text, int64_t *unix_s, struct pk_diag *diag)
{
	struct pk_zone zone = { 0 };
	const char *s = text;
	int64_t day;
	int min = 0;
	char *end;

	*unix_s = strtoll(text, &end, 10);
	if (end != text && *end == '\0' && *unix_s != PK_TIME_ANY)
		return 0;
	if (!parse_date(&s, &day) || (*s != '\0' && *s != ' ' && *s != 'T'))
		goto bad;
	if (*s != '\0') {
		s++;
		if (!parse_time(&s, &min) || (*s != '\0' && *s != ' '))
			goto bad;
	}
	if (*s == ' ' && read_zone(s + 1, &zone, diag) < 0)
		return -EINVAL;
	*unix_s = pk_zone_unix(&zone, day * 86400 + min * INT64_C(60));
	return 0;
bad:
	pk_diag_set(diag,
	    "\"%.64s\" is no moment; want one such as \"2026-12-31 09:00 Europe/Berlin\"", text);
	return -EINVAL;
}
