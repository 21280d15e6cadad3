#pragma once

#include "fw/worker.h"

struct event_base;

/*
 * The socket on which the verifier (picket-attestd) says whether the host behind this DPU is attested
 * (lib/posture.h).  Not the agent's: cutting a host off has to work while the agent is busy, or gone.
 */
struct fw_posture_link;

int fw_posture_link_create(struct fw_posture_link **out, struct event_base *base, const char *path,
    struct fw_workers *workers, struct pk_diag *diag);
void fw_posture_link_destroy(struct fw_posture_link *l);

struct fw_posture_status {
	bool connected, attested;
	uint64_t epoch, lease_ns, changes;
};
void fw_posture_link_status(const struct fw_posture_link *l, struct fw_posture_status *out);
