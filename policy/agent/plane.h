#pragma once

#include <stdbool.h>

#include "policy/resource.h"

struct event_base;

/*
 * The agent's end of the data plane's socket (lib/msg.h).
 *
 * It is told which state is wanted, and brings the plane there whenever one is connected: by the
 * changes when it knows what the plane enforces, else by the whole.  One transaction at a time; what
 * is wanted meanwhile is sent next, straight from what is then in force.
 * Context: control thread, all of it.
 */
struct agent_plane;

struct agent_plane_ops {
	void (*connected)(void *arg, bool up);
	/* `state` is what `generation` holds; borrowed.  NULL when rejected. */
	void (*stage)(void *arg, uint64_t generation, enum pk_stage stage,
	    const struct policy_state *state, const char *text);
	void (*counts)(void *arg, const struct pk_msg_policy_counts *c);
};

int agent_plane_create(struct agent_plane **out, struct event_base *base, const char *path,
    const char *dpu, const struct agent_plane_ops *ops, void *arg);
void agent_plane_destroy(struct agent_plane *p);

/* From disk: a plane that says it enforces `generation` under `epoch` holds `state` (cloned). */
int agent_plane_known(
    struct agent_plane *p, uint64_t generation, uint64_t epoch, const struct policy_state *state);

/*
 * Bring the plane to `state` (cloned).  Returns 0 or -ENOMEM.  A plane that enforces a newer generation, as after an agent
 * that ended before it had that on disk, is left alone until the server has spoken.
 */
int agent_plane_want(struct agent_plane *p, uint64_t generation, const struct policy_state *state);

/* The server has: what is wanted, or will be from now on, is its word. */
void agent_plane_confirm(struct agent_plane *p);

struct agent_plane_status {
	bool connected;
	const char *state;
	uint64_t epoch;
	struct pk_addr tunnel; /* where its ESP tunnels end; family 0: it has none */
	uint64_t in_force;     /* generation */
	uint64_t wanted;
	uint64_t nb_messages; /* sent, ever */
	uint64_t full, delta; /* transactions */
};
void agent_plane_status(const struct agent_plane *p, struct agent_plane_status *out);
