#pragma once

#include "fw/rule.h"
#include "fw/trace.h"

/*
 * The event log: alerts and ended flows as JSON lines in the shape of Suricata's EVE, for what reads those already.
 * `picket` in each holds what EVE has no word for: session, rule, wire, application.
 *
 * The file is appended to, line by line, and never locked or turned over here: logrotate with copytruncate.
 */
struct fw_eve;

/* Opens `path`, before privileges go.  The caller owns *out.  Returns 0 or negative errno with *diag. */
int fw_eve_open(struct fw_eve **out, const char *path, struct pk_diag *diag);
void fw_eve_close(struct fw_eve *e);

/* Write `t` if it is an event; `info` is of its rule, NULL: there is none.  `ahead_ns`: what the wall clock is ahead of
 * t->time_ns.  Context: control thread. */
void fw_eve_record(struct fw_eve *e, const struct fw_trace_record *t,
    const struct fw_rule_info *info, uint64_t ahead_ns);
void fw_eve_flush(struct fw_eve *e);
uint64_t fw_eve_lost(const struct fw_eve *e); /* lines that could not be written */
