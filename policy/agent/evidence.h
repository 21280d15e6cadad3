#pragma once

#include <stdbool.h>

#include "lib/diag.h"
#include "policy/proto/picket.pb-c.h"

struct event_base;

/*
 * The DPU's own TPM, on its way to the verifier in the policy server.  The program that holds it (picket-attestd with
 * role = host, on the DPU) connects to a Unix socket here as a host does to its DPU, and finds the DPU's certificate; what the two
 * say over TLS is passed on, message by message, with what the TPM's answers are bound to.  Nothing is judged here: an
 * agent that has been taken over can keep the DPU from being trusted, and no more.
 * Context: control thread, all of it.
 */
struct agent_evidence;

typedef void agent_evidence_say(void *arg, const Picket__V1__AgentMessage *m);

/* Listen on `path`.  `cert` and `key` are PEM files, read again for each who comes.  0 or negative errno with *diag. */
int agent_evidence_create(struct agent_evidence **out, struct event_base *base, const char *path,
    const char *cert, const char *key, agent_evidence_say *say, void *arg, struct pk_diag *diag);
void agent_evidence_destroy(struct agent_evidence *e);

/* The server can be spoken to, or cannot: then whoever is here is sent away, and comes back. */
void agent_evidence_connected(struct agent_evidence *e, bool up);
void agent_evidence_challenge(struct agent_evidence *e, const Picket__V1__Challenge *m);
