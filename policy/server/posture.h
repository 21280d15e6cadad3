#pragma once

#include <stdbool.h>

#include "lib/diag.h"

struct event_base;

/*
 * Which hosts are attested, as the DPUs in front of them say, so that DPUs elsewhere judge the workloads
 * there by the right identity.  The DPU itself does not wait for this: it has cut its host off already.
 *
 * What a DPU has said holds while it is connected, and for `grace_ns` after it has gone; then its host is
 * not attested to others any more.  So does, after a restart of the server, what was on its disk; which is
 * where the attested DPUs' names are kept, a line each.
 * Context: control thread, all of it.
 */
struct server_postures;

struct server_posture {
	bool attested, fresh;
	unsigned int state; /* enum attest_state of the verifier */
	uint64_t epoch;
	char host[64];
	char text[128];
	char reference[64]; /* by which its verifier judges it, for people */
};

/* `changed` is called when the set of attested DPUs has changed, once for all that changed at a time; `lost` at
 * once for each host that was attested and is not any more. */
int server_postures_create(struct server_postures **out, struct event_base *base, const char *path,
    uint64_t grace_ns, void (*changed)(void *arg),
    void (*lost)(void *arg, const char *dpu, const struct server_posture *s), void *arg,
    struct pk_diag *diag);
void server_postures_destroy(struct server_postures *p);

/* What DPU `dpu` says of its host. */
void server_postures_say(
    struct server_postures *p, const char *dpu, const struct server_posture *s);
/* It has gone. */
void server_postures_gone(struct server_postures *p, const char *dpu);
/* NULL: it has never said anything. */
const struct server_posture *server_postures_find(const struct server_postures *p, const char *dpu);

/* Names of the DPUs whose hosts are attested, ascending, for another thread.  NULL: no memory. */
struct server_attested {
	size_t nb;
	char *name[];
};
struct server_attested *server_postures_attested(const struct server_postures *p);
void server_attested_free(struct server_attested *a);
/* A policy_attested function; `arg` is a struct server_attested. */
int server_is_attested(void *arg, const char *dpu);
