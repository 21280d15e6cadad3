#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct fw_rules;

/*
 * What the clock on the wall says, for rules with a schedule.  The path measures time since some start; lcores
 * learn the difference to UTC from one word, and from another that some schedule has begun or ended, whereupon
 * sessions are judged anew.  The control thread writes both.
 */
struct fw_wall {
	_Atomic int64_t offset_ns; /* UTC, since 1970-01-01, less `now_ns` */
	_Atomic uint32_t turns;    /* how often something has begun or ended */
	int64_t minute;            /* last looked at; the control thread's */
};

/*
 * Once a second or more often, with the clocks as they are.  Schedules begin and end with a minute.
 * Context: control thread.  `rules` are those in force, or NULL.
 */
void fw_wall_tick(
    struct fw_wall *w, const struct fw_rules *rules, uint64_t now_ns, uint64_t unix_ns);
