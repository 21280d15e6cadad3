#pragma once

#include <stdbool.h>

#include "lib/helper.h"
#include "lib/rpc.h"
#include "lib/spiffe.h"
#include "lib/svid_trust.h"
#include "policy/compiler.h"
#include "policy/govern.h"
#include "policy/grant.h"
#include "policy/model.h"
#include "policy/proto/picket.pb-c.h"
#include "policy/reference.h"
#include "policy/server/dpu.h"
#include "policy/server/policyd.h"
#include "policy/server/store.h"

struct event;
struct grant_set;
struct identities;
struct reference_set;
struct verifiers;
struct pk_chain;
struct rollout;

/* What a canary is given: the policy in force with some sources changed, compiled beside it. */
struct candidate {
	struct policy_compiler *compiler;
	struct server_shadow *shadow;
	struct policy_touched touched;
};

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
	Picket__V1__EndRolloutRequest *end;
	Picket__V1__Rollout *rollout;     /* that it begins, by the helper, or ends */
	bool own;                         /* nobody has asked for it */
	struct server_attested *attested; /* of SERVER_KIND_POSTURE: who is, from now on */
	char author[64];
	uint64_t started_ns;
	bool wait;
	uint32_t timeout_ms;

	bool refused;
	bool unchanged;
	bool changed;
	bool candidate; /* `generation` is one */
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

/* It asks what would be, and changes nothing. */
static inline bool
apply_is_dry(const struct apply *a)
{
	return (a->kind == SERVER_KIND_APPLY && a->request->dry_run) ||
	    (a->kind == SERVER_KIND_ROLLBACK && a->rollback->dry_run);
}

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
	struct server_change canary; /* of the candidate */
	bool lost;                   /* the candidate cannot follow: */
	struct pk_diag why_lost;
	struct policy_roles *roles;                               /* NULL: as before */
	struct policy_references *references, *canary_references; /* the same */
	struct grant_set *grants, *canary_grants;                 /* the same */
	struct apply *told, *last; /* of those that wait: from `told` until before `last` */
};

struct server_posture;

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
	struct rollout *rollout; /* NULL: there has been none */
	struct policy_roles *roles;
	struct server_postures *postures;
	struct identities *identities;
	struct verifiers *verifiers;
	struct reference_set *references, *canary_references; /* NULL: none */
	struct grant_set *grants, *canary_grants;             /* NULL: not known */
	char secrets_dir[4096];
	struct apply *posture; /* in the queue: the change of posture that is next; NULL: none */
	/* the helper's */
	struct server_store *store;
	struct policy_ids *ids;
	uint32_t next_id; /* the first identity number that is not in the store */
	struct server_texts sources, inventory; /* as in the store */
	struct policy_compiler *compiler;
	struct server_shadow *shadow;
	struct policy_touched touched;    /* since the shadow last followed */
	bool behind;                      /* the shadow did not follow: everything may differ */
	struct server_attested *attested; /* what the compiler asks */
	uint64_t latest_generation;
	struct candidate *candidate; /* NULL: there is none */
	bool candidate_lost;
	struct pk_chain *audit;
	char audit_path[4096];
	uint64_t audited; /* the newest generation in the audit log, at the start */
	struct policy_roles *latest_roles; /* the control thread's p->roles, or those that follow */
};

/* generation.c.  Context: helper. */
void policyd_batch_work(struct pk_job *job);
/* Compile what the store holds, at the start.  Returns 0, -EINVAL with findings, or -ENOMEM. */
int policyd_compile_store(
    struct policyd *p, struct server_change *change, struct policy_findings *f);

/* What `request` would make of the store, as p->candidate.  0, -EINVAL with findings, or -ENOMEM. */
int generation_candidate(
    struct policyd *p, Picket__V1__ApplyRequest *request, struct policy_findings *f);
/* What a model that has compiled grants; what is wrong with it is logged.  Returns what grant_make() does. */
int generation_grants(struct policyd *p, const struct policy_model *m, struct grant_set **out);
int generation_compile(struct policy_compiler *pc, struct policy_touched *touched,
    const struct server_edit *edits, size_t nb, struct policy_findings *f);

/*
 * candidate.c.  Context: helper.
 *
 * The canary that an apply asks for, or the sources in `m` do, as a new record; NULL when neither does.
 * Returns 0 or negative errno with a->diag.
 */
int candidate_wanted(struct apply *a, const struct policy_model *m, Picket__V1__Rollout **out);
/* Compile what the store holds with the edits made.  0, -EINVAL with findings, or -ENOMEM. */
int candidate_create(
    struct policyd *p, const struct server_edit *edits, size_t nb_edits, struct policy_findings *f);
void candidate_destroy(struct policyd *p);
/* Workloads have changed.  Kept or undone with candidate_keep(). */
int candidate_change(
    struct policyd *p, const struct server_edit *edits, size_t nb_edits, struct pk_diag *diag);
int candidate_keep(struct policyd *p, struct server_change *out); /* 0 or -ENOMEM */
void candidate_undo(struct policyd *p);
int candidate_references(struct policyd *p, struct policy_references **out); /* 0 or -ENOMEM */
int candidate_grants(struct policyd *p, struct grant_set **out); /* 0 or what grant_make() says */
/* The hosts of these DPUs have become attested, or ceased to be: p->attested has changed. */
void candidate_posture(struct policyd *p, const char *const *dpus, size_t nb);
/* The record of a rollout in bytes, which the caller frees.  NULL: no memory. */
uint8_t *candidate_pack(const Picket__V1__Rollout *r, size_t *len);

/*
 * rollout.c: the life of a rollout on the control thread.
 *
 *   SENDING   a DPU of the canary that is connected has not realised the candidate
 *   BAKING    all of them have; what they refuse is watched
 *   PROMOTED  it is in force for all        ABORTED  the canary has gone back
 */
/* `r` (taken) has been compiled and kept; send it. */
void rollout_begin(struct policyd *p, Picket__V1__Rollout *r, struct server_change *whole,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg);
/* After a restart; `whole` is NULL when it is over. */
void rollout_restore(struct policyd *p, Picket__V1__Rollout *r, struct server_change *whole);
bool rollout_under_way(const struct policyd *p);
uint64_t rollout_generation(const struct policyd *p); /* of the candidate, or 0 */
void rollout_progress(struct policyd *p, const char *dpu, uint64_t generation,
    enum server_stage stage, const char *text);
void rollout_counted(struct policyd *p, const char *dpu, const struct server_dpu_counts *c);
void rollout_lost(struct policyd *p, const char *why);
/* A change of kind PROMOTE or ABORT is done (`r` taken), or was refused (`r` NULL). */
void rollout_ended(
    struct policyd *p, enum server_kind kind, Picket__V1__Rollout *r, const char *why);
void rollout_destroy(struct policyd *p);
/* A copy of the record that says how it ended.  NULL: there is none under way, or no memory. */
Picket__V1__Rollout *rollout_end_record(
    const struct policyd *p, enum server_kind kind, const char *reason);
void rollout_on_rollout(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* identity.c.  Context: control thread. */
int identity_open(struct policyd *p, const struct server_conf *conf, struct pk_diag *diag);
void identity_stop(struct policyd *p); /* sign what has been asked for, and nothing more */
void identity_destroy(struct policyd *p);
/* Tell a DPU whom to believe, all of it. */
void identity_trust(struct policyd *p, const char *dpu);
void identity_asked(struct policyd *p, const char *dpu, const Picket__V1__SvidRequest *m);
/* What has been issued so far to a DPU, for the workloads behind it, or to a workload is refused from now on. */
/* A workload does not live behind `dpu` any more: what it was given there is refused from now on. */
void identity_left(struct policyd *p, const char *dpu, const char *workload);
void identity_revoke(struct policyd *p, enum pk_svid_revoked kind, const char *name,
    const char *who, const char *why);
void identity_on_identities(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* For statements; NULL when it is not here. */
EVP_PKEY *identity_signing_key(const struct policyd *p);

/* reference.c.  Context: control thread. */
/* From now on those of `refs`, and for the canary of `canary`; both taken, NULL: as before. */
void reference_follow(struct policyd *p, struct policy_references *refs,
    struct policy_references *canary, uint64_t generation);
void reference_canary_end(struct policyd *p);
void reference_send(struct policyd *p, const char *dpu); /* unless it has been sent that one */
/* The values for a DPU, or for the host behind it; NULL: there are none. */
const struct policy_reference *reference_of(
    const struct policyd *p, enum policy_reference_subject subject, const char *dpu);
void reference_destroy(struct policyd *p);

/* grant.c: settings and secrets for programs on DPUs. */
/*
 * What a model grants, with the secrets read.  Returns 0, -EINVAL with findings (a secret is not there, or not what it
 * should be), or -ENOMEM.  Context: helper.
 */
int grant_make(struct grant_set **out, const struct policyd *p, const struct policy_model *m,
    struct policy_findings *f);
void grant_destroy(struct grant_set *s); /* NULL is allowed; any context */
/* From now on those of `now`, and for the canary of `canary`; both taken, NULL: as before.  Context: control thread, as
 * for the next. */
void grant_follow(struct policyd *p, struct grant_set *now, struct grant_set *canary);
void grant_canary_end(struct policyd *p);
void grant_send(struct policyd *p, const char *dpu); /* unless it has been sent just that */

/* verifier.c: DPUs that prove what they are.  Context: control thread. */
int verifier_open(struct policyd *p, const struct server_conf *conf, struct pk_diag *diag);
void verifier_stop(struct policyd *p);
void verifier_destroy(struct policyd *p);
void verifier_evidence(struct policyd *p, const char *dpu, const Picket__V1__Evidence *m);
/* Whether a DPU may have SVIDs, for itself and those behind it; if not, why. */
bool verifier_allows(const struct policyd *p, const char *dpu, char *why, size_t size);
/* Where a DPU stands that has to prove itself; NULL: it has not.  Borrowed until the next event. */
const struct server_posture *verifier_show(const struct policyd *p, const char *dpu);

/* audit.c */
int audit_open(struct policyd *p, const char *state, struct pk_diag *diag); /* before the helper */
/* What has become of a change; `last`: of its batch.  Context: helper. */
void audit_apply(struct apply *a, int last);
/* What is no change of policy.  Context: control thread. */
void audit_note(struct policyd *p, const char *who, const char *what, const char *result,
    const char *message, const char *reason);
/* A call was refused.  Context: control thread. */
void audit_denied(const struct policyd *p, const char *who, const char *reason);
void audit_on_audit(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

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
void apply_on_end_rollout(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
/* End the rollout under way on the server's own account. */
void apply_end_rollout(struct policyd *p, enum server_kind kind, const char *reason);
void apply_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* question.c */
void question_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
void question_on_explain(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
void question_on_applied(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);

/* admin.c: for calls. */
char *admin_borrow(const char *s);
/* Whether `peer` is a KIND of our domain; its name is then in *who. */
bool admin_authorise(
    const struct policyd *p, const char *peer, const char *kind, struct pk_spiffe *who);
/* Whether it is an operator who may `may`; if not, it has been told. */
bool admin_authorise_call(const struct policyd *p, struct pk_rpc_call *c, const char *peer,
    unsigned int may, struct pk_spiffe *who);
void admin_reply(struct pk_rpc_call *c, const ProtobufCMessage *m);
/* NULL: it has been told. */
void *admin_unpack(const ProtobufCMessageDescriptor *type, struct pk_rpc_call *c,
    const uint8_t *bytes, size_t len);
extern const struct pk_rpc_method policyd_methods[];
