#pragma once

#include <stdbool.h>

#include "lib/helper.h"
#include "lib/rpc.h"
#include "lib/spiffe.h"
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

/*
 * A change on its way: first a job, then waiting for DPUs, until its caller has been answered.
 * What is above `refused` is written before the job is given; what follows, by the helper.
 */
struct apply {
	struct pk_job job;
	struct policyd *p;
	struct pk_rpc_call *call; /* NULL when the caller has gone */
	enum server_kind kind;
	Picket__V1__ApplyRequest *request;
	Picket__V1__RollbackRequest *rollback;
	Picket__V1__UpdateWorkloadsRequest *workloads;
	char author[64];
	uint64_t started_ns;
	bool wait;
	uint32_t timeout_ms;
	struct server_attested *attested; /* of SERVER_KIND_POSTURE */

	bool refused;
	bool unchanged;
	uint64_t generation;
	struct server_catalogue *catalogue; /* NULL: nothing new */
	struct policy_findings *findings;
	struct pk_diag diag; /* why, when it is neither in the findings */
	unsigned int passed, failed;

	struct apply *next; /* of those that wait */
	struct apply_dpu *dpus;
	size_t nb_dpus, room_dpus, nb_open;
	char **away;
	size_t nb_away, room_away;
	struct event *timer;
};

struct policyd {
	struct event_base *base;
	struct pk_rpc *rpc;
	struct pk_rpc_server *server;
	struct pk_helper *helper;
	struct pk_spiffe self; /* our domain is whose certificates we accept */
	/* the control thread's */
	struct server_dpus *dpus;
	struct server_catalogue *catalogue; /* in force; NULL: none */
	uint64_t generation;
	struct apply *waiting;
	struct server_postures *postures;
	bool posture_under_way, posture_again; /* a job about it is given; it has changed since */
	/* the helper's */
	struct server_store *store;
	struct policy_ids *ids;
	uint32_t next_id; /* the first identity number that is not in the store */
	struct server_texts sources, inventory;
	struct server_attested *attested; /* that `latest` was compiled with */
	struct server_catalogue *latest;
	uint64_t latest_generation;
};

/* For jobs.  Context: helper. */
void policyd_apply_work(struct pk_job *job);

/* Answer, wait, give up.  Context: control thread. */
void admin_apply_done(struct pk_job *job);
void admin_progress(struct policyd *p, const char *dpu, uint64_t generation,
    enum server_stage stage, const char *text);
/* Have every DPU follow a change of posture. */
void admin_posture(struct policyd *p);
void admin_stop(struct policyd *p); /* answer everybody who waits */
extern const struct pk_rpc_method policyd_methods[];
