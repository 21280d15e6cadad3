#pragma once

#include "lib/rpc.h"
#include "policy/arena.h"
#include "policy/proto/picket.pb-c.h"
#include "policy/server/dpu.h"
#include "policy/server/pack.h"

/*
 * A session, from the first message to the end of the stream:
 *
 *   HELLO    nothing has been said yet
 *   HELD     asked what it holds, the answer is arriving
 *   SENDING  a generation is being sent
 *   WAITING  its commit is sent
 *   IN_SYNC  the DPU holds the target
 *   PARKED   there is no target, or the DPU rejected it: nothing to say before the next one
 */
enum state {
	S_HELLO,
	S_HELD,
	S_SENDING,
	S_WAITING,
	S_IN_SYNC,
	S_PARKED,
	S_COUNT,
	S_NONE = S_COUNT
};

enum event {
	E_HELLO_SAME,  /* it holds the target */
	E_HELLO_OTHER, /* it holds something else */
	E_HELLO_EARLY, /* there is no target yet */
	E_HELD,        /* a part of the list */
	E_HELD_LAST,   /* its end */
	E_SENT,        /* the commit has gone out */
	E_RECEIVED,    /* the generation under way has arrived whole */
	E_REJECTED,    /* what it was sent last cannot be enforced */
	E_RESYNC,      /* we are mistaken about what it holds */
	E_TARGET,      /* there is a new target */
	E_COUNT,
};

struct plan {
	struct server_step *item;
	size_t nb, room, at;
	size_t offset; /* sent of item[at].now->body */
	uint64_t generation;
	uint64_t base;
	uint64_t nonce; /* of the commit */
	uint64_t outcome_hash;
	bool begun; /* its beginning has been sent */
};

struct dpu {
	struct server_dpus *all;
	struct server_span *span; /* what it should have */
	uint64_t wanted;
	bool candidate; /* its span is the canary's */
	bool touched;   /* by the change that is being taken in */
	/* the stream, if there is one */
	struct pk_rpc_stream *stream;
	enum state state;
	char *software;
	struct policy_state *claimed; /* what it says it holds, as long as it says so */
	/*
	 * Where it is behind its span: what it holds, or will once the plan under way has arrived, in
	 * the place of each resource that differs; version 0 stands for nothing.  NULL: nowhere.  So
	 * there is no second copy of each span, and a plan is made of what differs alone.
	 */
	struct policy_state *behind;
	uint64_t held_generation, held_hash;
	unsigned int nb_resyncs; /* since something was received */
	struct plan plan;
	bool told;          /* that it is in sync */
	char reference[65]; /* hash of the one it was sent on this connection */
	bool granted;       /* it was sent a set of grants on it */
	uint8_t grants[32]; /* SHA-256 of that */
	bool trust_due;     /* it did not hear of a change of whom to believe */
	bool plane;
	uint64_t nonce;
	uint64_t bytes_sent;
	/* how far it has come */
	uint64_t received, accepted, realised;
	uint64_t since_unix_ns;
	char reason[256];
	struct server_dpu_counts counts;
	uint64_t counts_since_ns, counts_first; /* of these the usual rate */
};

struct server_dpus {
	struct server_spans *spans;
	struct server_spans *canary; /* what a candidate makes of them; NULL: there is none */
	POLICY_VECTOR(struct dpu *) known;
	size_t nb_sorted; /* of them, by name */
	POLICY_VECTOR(struct dpu *) touched;
	uint64_t generation; /* 0: there is no target yet */
	const struct server_dpus_ops *ops;
	void *arg;
	/* What was packed last: DPUs that lack the same are given the same bytes. */
	struct server_step *packed;
	size_t nb_packed;
	struct pk_rpc_buffer *packed_bytes;
};

/* dpu.c */
struct dpu *dpus_find_or_add(struct server_dpus *all, struct server_span *span);
void dpus_touch(struct server_dpus *all, struct dpu *d);
/* Have those that were touched aim at `generation`. */
void dpus_settle(struct server_dpus *all, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg);

/* session.c */
void dpu_move(struct dpu *d, enum event event);
void dpu_end(struct dpu *d, unsigned int status, const char *why);
/* Its span has changed: remember what it holds instead. */
void dpu_behind(struct dpu *d, struct policy_resource *old, struct policy_resource *now);
int dpu_send(struct dpu *d, Picket__V1__ServerMessage *m); /* 0, or what the stream said */

/* plan.c */
void plan_fini(struct plan *p);
int plan_make(struct dpu *d);  /* of all it is behind by; 0 or -ENOMEM */
void plan_send(struct dpu *d); /* as far as the stream takes it, and the commit at the end */
void plan_forget_packed(struct server_dpus *all);
