#pragma once

#include <stdbool.h>

#include "lib/diag.h"
#include "lib/msg.h"
#include "policy/proto/picket.pb-c.h"
#include "policy/resource.h"

struct event_base;
struct pk_control_request;

/*
 * The identities of the workloads behind this DPU, and its own: keys that are made here and never leave the DPU,
 * SVIDs that the policy server issues for them, and whom else to believe; served to the programs beside the agent
 * (lib/svid.h, lib/svid_wire.h).
 *
 *     WANTED   somebody watches it, and it lives here; a request is due, or there is nobody to ask
 *     ASKED    a request is with the server
 *     SERVED   it has an SVID; the next is asked for when half of its life is over
 *
 * The DPU's own is always wanted.  When the host's posture is not attested any more, all keys of its workloads are
 * wiped and those who use them are told, before the agent tells the server; when it is not fresh nothing new is
 * asked for.  The server's refusals are retried, later and later, and at once with every new posture.
 * Context: control thread, all of it.
 */
struct agent_identities;

struct agent_identity_ops {
	/* Say it to the server; dropped when there is none. */
	void (*say)(void *arg, const Picket__V1__AgentMessage *m);
};

enum agent_svid_keys {
	AGENT_SVID_P256 = 0,
	AGENT_SVID_SM2,
};

/* Serve on socket `path`.  Returns 0 or negative errno with *diag. */
int agent_identities_create(struct agent_identities **out, struct event_base *base,
    const char *path, const char *dpu, enum agent_svid_keys keys,
    const struct agent_identity_ops *ops, void *arg, struct pk_diag *diag);
void agent_identities_destroy(struct agent_identities *a);

/* The server can be asked, or cannot. */
void agent_identities_connected(struct agent_identities *a, bool up);
/* NULL: there is no verifier on this DPU, or none has spoken; the server decides. */
void agent_identities_posture(struct agent_identities *a, const struct pk_msg_posture *p);
/* The workloads behind this DPU, in `state`, which is borrowed until the next call, may have changed. */
void agent_identities_workloads(struct agent_identities *a, const struct policy_state *state);
void agent_identities_svid(struct agent_identities *a, const Picket__V1__Svid *m);
void agent_identities_trust(struct agent_identities *a, const Picket__V1__Trust *m);

/* For the control socket: a row for each. */
void agent_identities_show(struct agent_identities *a, struct pk_control_request *r);
