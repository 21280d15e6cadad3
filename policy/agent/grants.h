#pragma once

#include "lib/diag.h"
#include "policy/proto/picket.pb-c.h"

struct event_base;
struct pk_control_request;
struct pk_helper;

/*
 * What the policy server grants to programs on this DPU (lib/grant.h): kept on disk, so that links come up without the
 * server, and handed to the programs, each its own, when they connect and whenever it has changed.  What it means is
 * theirs to know.
 *
 * The file has the name of the DPU and a newline before the set, and mode 0600: as the DPU's own key beside it, it is as
 * safe as the DPU's disk.
 * Context: control thread, all of it.
 */
struct agent_grants;

/* Take up what is in `file`, and listen at `path`; both are copied, as is `dpu`.  `helper` is borrowed, and writes the
 * file.  Returns 0 or negative errno with *diag. */
int agent_grants_create(struct agent_grants **out, struct event_base *base, const char *path,
    const char *file, const char *dpu, struct pk_helper *helper, struct pk_diag *diag);
void agent_grants_destroy(struct agent_grants *g); /* after the helper; NULL is allowed */

/* A part of a set from the server; with the last one it is in force. */
void agent_grants_part(struct agent_grants *g, const Picket__V1__Grants *m);
/* One row each, without secrets.  The caller ends the answer. */
void agent_grants_show(const struct agent_grants *g, struct pk_control_request *r);
