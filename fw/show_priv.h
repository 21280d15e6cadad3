#pragma once

#include "fw/filter.h"
#include "fw/show.h"
#include "lib/control.h"
#include "lib/log.h"

/*
 * What the files of picketd's control socket share: fw/show.c is its table and whatever is short,
 * fw/show_sessions.c sessions, fw/show_trace.c packets.  Context of all: control thread.
 */
struct fw_show_trace;

struct fw_show {
	struct fw_show_conf conf;
	struct pk_control *control;
	struct fw_show_trace *trace;
	uint64_t *baseline;      /* hits a slot had when its present rule took it */
	uint64_t *baseline_rule; /* that rule's id */
	uint64_t started_wall_ns;
};

#define FW_SHOW_RULE_JSON 768 /* bytes of a rule as JSON */

/* {"policy":...} of a rule id by the generation in force, or null.  Returns buf. */
const char *fw_show_rule(const struct fw_show *s, uint64_t id, char *buf, size_t size);
const char *fw_show_side(unsigned int side); /* "inside" */

/* fw/show_sessions.c: commands of pk_control_command. */
void fw_show_sessions(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_kill(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_export(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_import(struct pk_control_request *r, int argc, char **argv, void *arg);

/* fw/show_sums.c */
void fw_show_top(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_tenants(struct pk_control_request *r, int argc, char **argv, void *arg);

/* fw/show_ipsec.c */
void fw_show_sa(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_tunnels(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_ipsec(struct pk_control_request *r, int argc, char **argv, void *arg);
/* fw/show_macsec.c */
void fw_show_macsec(struct pk_control_request *r, int argc, char **argv, void *arg);

/* fw/show_names.c */
void fw_show_names(struct pk_control_request *r, int argc, char **argv, void *arg);

/* fw/show_trace.c */
int fw_show_trace_create(struct fw_show *s);
void fw_show_trace_destroy(struct fw_show *s);
void fw_show_monitor(struct pk_control_request *r, int argc, char **argv, void *arg);
void fw_show_capture(struct pk_control_request *r, int argc, char **argv, void *arg);

/*
 * A walk over all sessions, some thousands in a turn, so that neither the lcores nor the agent wait.  It goes
 * on by itself, between other events, and whenever a client has taken what was said so far.
 */
struct fw_show_walk {
	struct fw_show *show;
	struct pk_control_request *request;
	struct fw_filter filter;
	struct event *again;
	unsigned int worker;
	uint32_t cursor;
	uint64_t now_ns;
	bool stop;   /* set by `each`: no more sessions */
	bool paused; /* set by `each` after the last of a turn: until fw_show_walk_resume() */
	bool walked; /* all have been seen */
	void (*each)(struct fw_show_walk *w, const struct fw_session_info *info);
	/* After each turn, and once more when there are no more sessions.  True: the request has ended. */
	bool (*turn)(struct fw_show_walk *w);
	void (*fini)(struct fw_show_walk *w); /* of what embeds it; NULL */
};

/* Begin to answer `r`.  `w` is on the heap, at the start of what embeds it, with each, turn and fini set; it is
 * freed with the request. */
void fw_show_walk_start(struct fw_show_walk *w, struct fw_show *s, struct pk_control_request *r);
void fw_show_walk_resume(struct fw_show_walk *w); /* in a little while */
