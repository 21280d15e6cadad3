#pragma once

#include <stdbool.h>

#include "policy/server/posture.h"
#include "policy/server/span.h"

struct pk_rpc_buffer;
struct pk_rpc_stream;
struct Picket__V1__Evidence;
struct Picket__V1__ServerMessage;
struct Picket__V1__SvidRequest;

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
	bool candidate; /* it is of the canary */
};

/* What policy has refused on one DPU, as its data plane counts, on this connection. */
struct server_dpu_counts {
	bool known;
	uint64_t refused, revoked;
	double usual_per_s; /* refused, since the first time we heard */
	uint64_t at_ns;     /* of the last time, on pk_clock_mono_ns() */
};

struct server_dpus_ops {
	/* A DPU came, went (stage NONE, `text` says why), or told how far `generation` has come. */
	void (*progress)(void *arg, const char *dpu, uint64_t generation, enum server_stage stage,
	    const char *text);
	void (*seen)(void *arg, const char *dpu);
	/* It has told what policy has refused; also when nothing has changed. */
	void (*counted)(void *arg, const char *dpu, const struct server_dpu_counts *c);
	/* What it says of the host behind it. */
	void (*posture)(void *arg, const char *dpu, const struct server_posture *s);
	/* It wants to hear whom to believe: it has said hello, or missed something since. */
	void (*trust)(void *arg, const char *dpu);
	void (*svid)(void *arg, const char *dpu, const struct Picket__V1__SvidRequest *m);
	/* Of its own TPM; NULL: it has gone. */
	void (*evidence)(void *arg, const char *dpu, const struct Picket__V1__Evidence *m);
	/* A workload ("tenant/name") does not live behind this DPU any more. */
	void (*left)(void *arg, const char *dpu, const char *workload);
};

int server_dpus_create(struct server_dpus **out, const struct server_dpus_ops *ops, void *arg);
void server_dpus_destroy(struct server_dpus *d); /* its streams must be over */

/* A DPU remembered from before, not connected. */
int server_dpus_known(struct server_dpus *d, const char *name, uint64_t seen_unix_ns);

/*
 * From now on aim at what `c` (taken) makes of what was, which is `generation`.  `canary` (taken, may be
 * NULL) is the same for a candidate, while there is one.  Calls `concerned`,
 * in order of name, for each connected DPU whose span differs from before, and `away` for each other
 * one that endpoints live behind and that is not connected.
 * Returns 0, or -ENOMEM: what DPUs should have is not known any more.
 */
int server_dpus_target(struct server_dpus *d, struct server_change *c, struct server_change *canary,
    uint64_t generation, void (*concerned)(void *arg, const char *dpu),
    void (*away)(void *arg, const char *dpu), void *arg);

/*
 * A second policy, a candidate, for some of the DPUs: the canary.  `whole` (taken) is all of it, as a
 * change from nothing.  names[] need not be known yet.  `generation` and the callbacks are as above.
 */
int server_dpus_canary_begin(struct server_dpus *d, struct server_change *whole,
    const char *const *names, size_t nb_names, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg);
/* The canary aims at what all others do, which is `generation` where that is something else.  Without a
 * candidate it does nothing. */
void server_dpus_canary_end(struct server_dpus *d, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg);

/* -ENOENT when the DPU is not connected. */
int server_dpus_counts(struct server_dpus *d, const char *dpu, struct server_dpu_counts *out);
int server_dpus_status(struct server_dpus *d, const char *dpu, struct server_dpu_status *out);

/* Say something to one DPU.  -ENOENT when it is not connected, -EBUSY when it has not said hello. */
int server_dpus_say(struct server_dpus *d, const char *dpu, struct Picket__V1__ServerMessage *m);
/* The same bytes of a ServerMessage to all that are connected; takes the reference.  Who cannot be told now is
 * told later, by ops->trust. */
void server_dpus_say_all(struct server_dpus *d, struct pk_rpc_buffer *b);
/* Whether a DPU is of the canary. */
bool server_dpus_candidate(struct server_dpus *d, const char *dpu);
/* Note that a DPU is sent the reference with this hash.  -EALREADY when it was, on this connection; -ENOENT when it is
 * not there to be sent anything. */
int server_dpus_reference(struct server_dpus *d, const char *dpu, const char sha256[65]);
/* The same of its grants. */
int server_dpus_grants(struct server_dpus *d, const char *dpu, const uint8_t sha256[32]);
/* Whether a workload lives behind a DPU. */
bool server_dpus_lives(const struct server_dpus *d, const char *dpu, const char *workload);

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
