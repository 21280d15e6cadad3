#pragma once

#include <stdbool.h>

#include "policy/server/posture.h"
#include "policy/server/span.h"

struct pk_rpc_stream;

/*
 * The DPUs the server knows, and the discovery stream of each that is connected.
 *
 * Each has a target: its span of the newest generation that changed it.  At most one generation is
 * under way to a DPU; meanwhile it is noted which resources differ, once each, and when it has been
 * received, the next one leads from what the DPU then holds to whatever the target then is.  So a slow
 * DPU skips generations and never queues them, and what is sent is a function of two states, never of
 * the way between them.
 *
 * Context: control thread, all of it.
 */
struct server_dpus;

enum server_stage { /* the numbers of picket.v1.Stage */
	SERVER_STAGE_NONE = 0,
	SERVER_STAGE_RECEIVED,
	SERVER_STAGE_ACCEPTED,
	SERVER_STAGE_REALISED,
	SERVER_STAGE_REJECTED,
};

struct server_dpu_status {
	const char *name;
	const char *software;
	const char *reason; /* of the last rejection, "" when there is none */
	uint64_t wanted, received, accepted, realised;
	uint64_t since_unix_ns; /* of connection, or of its loss */
	uint64_t bytes_sent;    /* of resources, on this connection */
	uint32_t nb_resources, nb_workloads;
	bool connected, plane;
};

struct server_dpus_ops {
	/* A DPU came, went (stage NONE, `text` says why), or told how far `generation` has come. */
	void (*progress)(void *arg, const char *dpu, uint64_t generation, enum server_stage stage,
	    const char *text);
	void (*seen)(void *arg, const char *dpu);
	/* What it says of the host behind it. */
	void (*posture)(void *arg, const char *dpu, const struct server_posture *s);
};

int server_dpus_create(struct server_dpus **out, const struct server_dpus_ops *ops, void *arg);
void server_dpus_destroy(struct server_dpus *d); /* its streams must be over */

/* A DPU remembered from before, not connected. */
int server_dpus_known(struct server_dpus *d, const char *name, uint64_t seen_unix_ns);

/*
 * From now on aim at what `c` (taken) makes of what was, which is `generation`.  Calls `concerned`,
 * in order of name, for each connected DPU whose span differs from before, and `away` for each other
 * one that endpoints live behind and that is not connected.
 * Returns 0, or -ENOMEM: what DPUs should have is not known any more.
 */
int server_dpus_target(struct server_dpus *d, struct server_change *c, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg);

/* In order of name. */
uint32_t server_dpus_nb_workloads(const struct server_dpus *d); /* those without a DPU too */
void server_dpus_each(
    struct server_dpus *d, void (*each)(void *arg, const struct server_dpu_status *s), void *arg);

/*
 * For the method table: a stream of DPU `name`.  A second stream of one name ends the first: it is
 * more likely a connection that died unnoticed than an impostor with the same key.
 * Returns 0 with *state, or -ENOMEM.
 */
int server_dpus_open(
    struct server_dpus *d, const char *name, struct pk_rpc_stream *s, void **state);
extern const struct pk_rpc_stream_ops server_dpu_stream_ops;
