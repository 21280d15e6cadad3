#pragma once

#include "fw/worker.h"

struct event_base;

/*
 * The socket on which picket-agentd programs this data plane (lib/msg.h says what is spoken).
 *
 * One agent at a time: a new connection ends the one before, since an agent that was restarted must
 * not wait for a dead twin.  What is in force stays in force while nobody is connected.
 */
struct fw_link;

/* Listen on `path`.  `instance` is the DPU's name, borrowed.  Context: control thread. */
int fw_link_create(struct fw_link **out, struct event_base *base, const char *path,
    const char *instance, struct fw_workers *workers, uint32_t nb_sessions_max,
    struct pk_diag *diag);
void fw_link_destroy(struct fw_link *l);

struct fw_link_status {
	bool connected;
	uint64_t generation;    /* in force */
	uint64_t since_wall_ns; /* when it came into force */
	uint64_t commits, rejected;
	uint64_t last_commit_ns; /* from the commit message to realised */
};

void fw_link_status(const struct fw_link *l, struct fw_link_status *out);
