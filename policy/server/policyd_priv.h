#pragma once

#include <stdbool.h>

#include "lib/helper.h"
#include "lib/rpc.h"
#include "lib/spiffe.h"
#include "policy/compiler.h"
#include "policy/model.h"
#include "policy/proto/picket.pb-c.h"
#include "policy/server/dpu.h"
#include "policy/server/policyd.h"
#include "policy/server/store.h"

struct event;

/* How far one DPU has come with an apply. */
struct apply_dpu {
	char *name;
	enum server_stage stage;
	bool settled;
	uint64_t took_us;
	char reason[256];
};

#define POLICYD_WORKLOAD "workload/" /* before the name of a workload's source */

/*
 * A change on its way: first in turn for the helper, then waiting for DPUs, until its caller has been
 * answered.  What is above `refused` is written before the helper has it; what follows, by the helper.
 */
struct apply {
	struct policyd *p;
	struct pk_rpc_call *call; /* NULL when the caller has gone */
	enum server_kind kind;
	Picket__V1__ApplyRequest *request;
	Picket__V1__RollbackRequest *rollback;
	Picket__V1__UpdateWorkloadsRequest *workloads;
	struct server_attested *attested; /* of SERVER_KIND_POSTURE: who is, from now on */
	char author[64];
	uint64_t started_ns;
	bool wait;
	uint32_t timeout_ms;

	bool refused;
	bool unchanged;
	bool changed;
	uint64_t generation;
	struct policy_findings *findings;
	struct pk_diag diag; /* why, when it is neither in the findings */
	unsigned int passed, failed;

	struct apply *next; /* of those in turn, or that wait */
	struct apply_dpu *dpus;
	size_t nb_dpus, room_dpus, nb_open;
	char **away;
	size_t nb_away, room_away;
	struct event *timer;
};

/* What the helper does at once: one change of policy, or many of workloads. */
struct batch {
	struct pk_job job;
	struct policyd *p;
	struct apply *first;
	uint64_t generation; /* 0: nothing has changed */
	enum server_kind kind;
	char author[64];
	size_t nb_changed;
	struct server_change change;
	struct apply *told, *last; /* of those that wait: from `told` until before `last` */
};

struct policyd {
	struct event_base *base;
	struct pk_rpc *rpc;
	struct pk_rpc_server *server;
	struct pk_helper *helper;
	struct pk_spiffe self; /* our domain is whose certificates we accept */
	/* the control thread's */
	struct server_dpus *dpus;
	uint64_t generation;
	struct apply *queue, **queue_end; /* not given to the helper yet */
	bool busy;                        /* it has some */
	struct apply *waiting;
	struct server_postures *postures;
	struct apply *posture; /* in the queue: the change of posture that is next; NULL: none */
	/* the helper's */
	struct server_store *store;
	struct policy_ids *ids;
	uint32_t next_id; /* the first identity number that is not in the store */
	struct server_texts sources, inventory; /* as in the store */
	struct policy_compiler *compiler;
	struct server_shadow *shadow;
	struct policy_touched touched; /* since the shadow last followed */
	bool behind; /* the shadow did not follow: everything may differ */
	struct server_attested *attested; /* what the compiler asks */
	uint64_t latest_generation;
};

/* generation.c.  Context: helper. */
void policyd_batch_work(struct pk_job *job);
/* Compile what the store holds, at the start.  Returns 0, -EINVAL with findings, or -ENOMEM. */
int policyd_compile_store(
    struct policyd *p, struct server_change *change, struct policy_findings *f);

/* apply.c: answer, wait, give up.  Context: control thread. */
void apply_batch_done(struct pk_job *job);
void apply_progress(struct policyd *p, const char *dpu, uint64_t generation,
    enum server_stage stage, const char *text);
void apply_stop(struct policyd *p); /* answer everybody who waits */
/* Have every DPU follow a change of posture, before all else that is in turn. */
void apply_posture(struct policyd *p);
void apply_on_apply(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
void apply_on_rollback(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
void apply_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* question.c */
void question_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
void question_on_explain(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* admin.c: for calls. */
char *admin_borrow(const char *s);
/* Whether `peer` is a KIND of our domain; its name is then in *who. */
bool admin_authorise(
    const struct policyd *p, const char *peer, const char *kind, struct pk_spiffe *who);
/* Whether it is an operator; if not, it has been told. */
bool admin_authorise_call(
    const struct policyd *p, struct pk_rpc_call *c, const char *peer, struct pk_spiffe *who);
void admin_reply(struct pk_rpc_call *c, const ProtobufCMessage *m);
/* NULL: it has been told. */
void *admin_unpack(const ProtobufCMessageDescriptor *type, struct pk_rpc_call *c,
    const uint8_t *bytes, size_t len);
extern const struct pk_rpc_method policyd_methods[];
