#pragma once

#include "policy/resource.h"

/*
 * The last generation the data plane accepted, on the DPU's disk: what is enforced from the first
 * packet after boot, server or no server.
 *
 * One file, replaced whole: written beside its place, synced, renamed, and the directory synced.  It
 * ends with the SHA-256 of everything before, so that a file cut short or altered by a fault is
 * refused, never half believed; then the server sends all of it again.
 *
 *     "PKSTATE1"  generation(8) epoch(8) count(4) name_len(1) name
 *     count times: type(1) key_len(1) key len(4) body
 *     SHA-256(32)                                     numbers are big-endian
 */
struct agent_saved {
	uint64_t generation;
	uint64_t epoch; /* of the plane that accepted it: the same process may still enforce it */
	char dpu[64];
	struct policy_state *state;
};

/* Waits for the disk.  Context: helper.  Returns 0 or negative errno with *diag. */
int agent_state_save(const char *path, const struct agent_saved *s, struct pk_diag *diag);

/*
 * Returns 0 with the caller owning out->state; -ENOENT when there is no file; -EBADMSG with *diag
 * when it is damaged; other negative errno with *diag.
 */
int agent_state_load(const char *path, struct agent_saved *out, struct pk_diag *diag);
