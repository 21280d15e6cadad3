#pragma once

#include "fw/rule.h"

struct event_base;

/*
 * The socket on which picket-agentd programs this data plane (lib/msg.h says what is spoken).
 *
 * One agent at a time: a new connection ends the one before, since an agent that was restarted must
 * not wait for a dead twin.  What is in force stays in force while nobody is connected.
 */
struct fw_link;

/* What a data plane does with the policy it is given.  Context of all: control thread. */
struct fw_link_plane {
	const char *program;  /* "picketd", as the agent is told */
	const char *instance; /* name of the DPU */
	uint32_t nb_sessions_max;
	struct pk_addr tunnel; /* where its tunnels end; family 0: it has no ESP */
	/* Whether the generation that is being committed can be put in force; see fw_rules_state_on_commit().
	 * NULL: always. */
	fw_rules_ready *ready;
	/* Put `rules` (taken) in force.  Returns when no packet is judged by an older generation any more. */
	void (*publish)(void *arg, struct fw_rules *rules);
	/* What policy has refused since the plane started. */
	void (*counts)(void *arg, struct pk_msg_policy_counts *out);
	/* Once a second: look at the clock on the wall, for rules with a schedule. */
	void (*clock)(void *arg);
	void *arg;
};

/* Listen on `path`.  What `plane` points to is borrowed, itself it is copied.  Context: control thread. */
int fw_link_create(struct fw_link **out, struct event_base *base, const char *path,
    const struct fw_link_plane *plane, struct pk_diag *diag);
void fw_link_destroy(struct fw_link *l);

/* The random number of this run of the plane, as the agent is told. */
uint64_t fw_link_epoch(const struct fw_link *l);

struct fw_link_status {
	bool connected;
	uint64_t generation;    /* in force */
	uint64_t since_wall_ns; /* when it came into force */
	uint64_t commits, rejected;
	uint64_t last_commit_ns; /* from the commit message to realised */
};

void fw_link_status(const struct fw_link *l, struct fw_link_status *out);
