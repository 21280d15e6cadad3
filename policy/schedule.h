#pragma once

#include "lib/schedule.h"
#include "policy/schema.h"

/*
 * `schedule: {days: mon-fri, hours: "08:00-18:00", timezone: Europe/Berlin, from: 2026-01-01, until: 2026-12-31}`
 *
 * At least one key; days left out are all, hours the whole day, the zone UTC, dates without end.  Zones are
 * those of the tz database on this machine ($TZDIR, or /usr/share/zoneinfo), of which the last line is read: the
 * rule that holds from now on.
 */
policy_decode policy_read_schedule; /* out: struct pk_schedule */

/* "mon-fri 08:00-18:00 UTC+01:00 (summer +02:00) from 2026-01-01" into buf; "" for none.  Returns buf. */
const char *policy_schedule_text(char *buf, size_t size, const struct pk_schedule *s);

/* "2026-03-29 02:30 Europe/Berlin", or a number of seconds since 1970-01-01 UTC.  Without a zone it is UTC.
 * Returns 0 or -EINVAL with *diag. */
int policy_schedule_moment(const char *text, int64_t *unix_s, struct pk_diag *diag);
