#include "policy/server/dpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/rpc.h"
#include "policy/proto/picket.pb-c.h"

#define PROTOCOL    1
#define CHUNK_MAX   (512 << 10) /* bytes of one message; its parts stay far below 1 MiB */
#define AHEAD_MAX   (2 << 20)   /* bytes queued on one stream before we wait for it */
#define RESYNCS_MAX 3
#define HELD_MAX    (4U << 20) /* resources one DPU may claim */

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

static const char *const state_names[S_COUNT + 1] = { "hello", "held", "sending", "waiting",
	"in-sync", "parked", "none" };
static const char *const event_names[E_COUNT] = { "hello-same", "hello-other", "hello-early",
	"held", "held-last", "sent", "received", "rejected", "resync", "target" };

/* clang-format off */
/* Where there is no entry the DPU has broken the protocol, and the stream ends.  Entering HELD asks,
 * entering SENDING plans, entering IN_SYNC says so or, with a newer target, goes on to SENDING. */
static const uint8_t next[S_COUNT][E_COUNT] = {
	[S_HELLO]   = { [E_HELLO_SAME] = S_IN_SYNC, [E_HELLO_OTHER] = S_HELD, [E_HELLO_EARLY] = S_PARKED,
	                [E_HELD] = S_NONE, [E_HELD_LAST] = S_NONE, [E_SENT] = S_NONE, [E_RECEIVED] = S_NONE,
	                [E_REJECTED] = S_NONE, [E_RESYNC] = S_NONE, [E_TARGET] = S_HELLO },
	[S_HELD]    = { [E_HELLO_SAME] = S_NONE, [E_HELLO_OTHER] = S_NONE, [E_HELLO_EARLY] = S_NONE,
	                [E_HELD] = S_HELD, [E_HELD_LAST] = S_SENDING, [E_SENT] = S_NONE, [E_RECEIVED] = S_NONE,
	                [E_REJECTED] = S_NONE, [E_RESYNC] = S_NONE, [E_TARGET] = S_HELD },
	[S_SENDING] = { [E_HELLO_SAME] = S_NONE, [E_HELLO_OTHER] = S_NONE, [E_HELLO_EARLY] = S_NONE,
	                [E_HELD] = S_NONE, [E_HELD_LAST] = S_NONE, [E_SENT] = S_WAITING, [E_RECEIVED] = S_NONE,
	                [E_REJECTED] = S_NONE, [E_RESYNC] = S_NONE, [E_TARGET] = S_SENDING },
	[S_WAITING] = { [E_HELLO_SAME] = S_NONE, [E_HELLO_OTHER] = S_NONE, [E_HELLO_EARLY] = S_NONE,
	                [E_HELD] = S_NONE, [E_HELD_LAST] = S_NONE, [E_SENT] = S_NONE, [E_RECEIVED] = S_IN_SYNC,
	                [E_REJECTED] = S_PARKED, [E_RESYNC] = S_HELD, [E_TARGET] = S_WAITING },
	[S_IN_SYNC] = { [E_HELLO_SAME] = S_NONE, [E_HELLO_OTHER] = S_NONE, [E_HELLO_EARLY] = S_NONE,
	                [E_HELD] = S_NONE, [E_HELD_LAST] = S_NONE, [E_SENT] = S_NONE, [E_RECEIVED] = S_NONE,
	                [E_REJECTED] = S_PARKED, [E_RESYNC] = S_HELD, [E_TARGET] = S_SENDING },
	[S_PARKED]  = { [E_HELLO_SAME] = S_NONE, [E_HELLO_OTHER] = S_NONE, [E_HELLO_EARLY] = S_NONE,
	                [E_HELD] = S_NONE, [E_HELD_LAST] = S_NONE, [E_SENT] = S_NONE, [E_RECEIVED] = S_NONE,
	                [E_REJECTED] = S_PARKED, [E_RESYNC] = S_HELD, [E_TARGET] = S_HELD },
};
/* clang-format on */

/* One resource on its way from what the DPU holds to what it should. */
struct change {
	struct policy_resource *old; /* NULL: new; without a body when only its version is known */
	struct policy_resource *now; /* NULL: to be removed */
};

struct plan {
	struct change *item;
	size_t nb, room, at;
	size_t offset; /* sent of item[at].now->body */
	uint64_t generation;
	uint64_t base;
	uint64_t nonce; /* of the commit */
	struct policy_state *outcome;
};

struct dpu {
	struct server_dpus *all;
	char *name;
	struct dpu *next; /* by name */
	/* what it should have */
	struct policy_state *span; /* NULL before there is a target */
	uint64_t wanted;
	uint32_t nb_workloads;
	/* the stream, if there is one */
	struct pk_rpc_stream *stream;
	enum state state;
	char *software;
	struct policy_state *held; /* what it has */
	uint64_t held_generation;
	unsigned int nb_resyncs; /* since something was received */
	struct plan plan;
	bool plane;
	uint64_t nonce;
	uint64_t bytes_sent;
	/* how far it has come */
	uint64_t received, accepted, realised;
	uint64_t since_unix_ns;
	char reason[256];
};

struct server_dpus {
	struct dpu *first;
	struct server_catalogue *catalogue;
	uint64_t generation;
	const struct server_dpus_ops *ops;
	void *arg;
};

static void move(struct dpu *d, enum event event);

/* ---- messages out: protobuf is written by hand where bytes are shared or cut ---- */

struct out {
	uint8_t *bytes;
	size_t len, room;
	bool failed;
};

static void
out_bytes(struct out *o, const void *bytes, size_t len)
{
	if (o->failed)
		return;
	if (o->len + len > o->room) {
		size_t room = PK_MAX(o->room * 2, o->len + len + 256);
		uint8_t *wider = realloc(o->bytes, room);

		if (wider == NULL) {
			o->failed = true;
			return;
		}
		o->bytes = wider;
		o->room = room;
	}
	if (len != 0)
		memcpy(o->bytes + o->len, bytes, len);
	o->len += len;
}

static void
out_varint(struct out *o, uint64_t v)
{
	uint8_t b[10];
	size_t n = 0;

	do {
		b[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v != 0);
	out_bytes(o, b, n);
}

static void
out_number(struct out *o, unsigned int field, uint64_t v)
{
	out_varint(o, field << 3);
	out_varint(o, v);
}

static void
out_fixed64(struct out *o, unsigned int field, uint64_t v)
{
	out_varint(o, field << 3 | 1);
	out_bytes(o, &v, sizeof(v)); /* little-endian, as we are */
}

static void
out_field(struct out *o, unsigned int field, const void *bytes, size_t len)
{
	out_varint(o, field << 3 | 2);
	out_varint(o, len);
	out_bytes(o, bytes, len);
}

/* Field numbers are those of picket.proto. */
enum {
	SERVER_NONCE = 1,
	SERVER_CHANGES = 3,
	CHANGES_RESOURCES = 1,
	CHANGES_DELTAS = 2,
	CHANGES_REMOVED = 3,
	RESOURCE_TYPE = 1,
	RESOURCE_KEY = 2,
	RESOURCE_VERSION = 3,
	RESOURCE_BODY = 4,
	RESOURCE_OFFSET = 5,
	RESOURCE_SIZE = 6,
};

static void
send_bytes(struct dpu *d, struct pk_rpc_buffer *b)
{
	int err = b != NULL ? pk_rpc_stream_send(d->stream, b) : -ENOMEM;

	/* We never say more than the queue takes; so this is memory, or a stream about to end. */
	if (err != 0)
		pk_warn("dpu %s: message not sent: %s", d->name, strerror(-err));
}

static void
send_message(struct dpu *d, Picket__V1__ServerMessage *m)
{
	struct pk_rpc_buffer *b;
	uint8_t *bytes;

	m->nonce = ++d->nonce;
	b = pk_rpc_buffer_create(picket__v1__server_message__get_packed_size(m), &bytes);
	if (b != NULL)
		picket__v1__server_message__pack(m, bytes);
	send_bytes(d, b);
}

static void
send_want_held(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__WantHeld body = PICKET__V1__WANT_HELD__INIT;

	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_WANT_HELD;
	m.want_held = &body;
	send_message(d, &m);
}

static void
send_in_sync(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__InSync body = PICKET__V1__IN_SYNC__INIT;

	body.generation = d->held_generation;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_IN_SYNC;
	m.in_sync = &body;
	send_message(d, &m);
}

/* ---- a plan: from what is held to the target ---- */

static void
plan_fini(struct plan *p)
{
	for (size_t i = 0; i < p->nb; i++) {
		policy_resource_put(p->item[i].old);
		policy_resource_put(p->item[i].now);
	}
	free(p->item);
	policy_state_destroy(p->outcome);
	memset(p, 0, sizeof(*p));
}

static int
plan_add(struct plan *p, struct policy_resource *old, struct policy_resource *now)
{
	if (p->nb == p->room) {
		size_t room = p->room != 0 ? p->room * 2 : 32;
		struct change *wider = realloc(p->item, room * sizeof(p->item[0]));

		if (wider == NULL)
			return -ENOMEM;
		p->item = wider;
		p->room = room;
	}
	p->item[p->nb++] = (struct change){ .old = old != NULL ? policy_resource_get(old) : NULL,
		.now = now != NULL ? policy_resource_get(now) : NULL };
	return 0;
}

static int
plan_make(struct dpu *d)
{
	struct plan *p = &d->plan;
	struct policy_resource *r;
	size_t at = 0;
	int err = 0;

	plan_fini(p);
	p->generation = d->wanted;
	p->base = d->held_generation;
	while (err == 0 && (r = policy_state_next(d->span, &at)) != NULL) {
		struct policy_resource *old = policy_state_like(d->held, r);

		if (old == NULL || old->version != r->version)
			err = plan_add(p, old, r);
	}
	at = 0;
	while (err == 0 && (r = policy_state_next(d->held, &at)) != NULL)
		if (policy_state_like(d->span, r) == NULL)
			err = plan_add(p, r, NULL);
	if (err == 0 && (p->outcome = policy_state_clone(d->span)) == NULL)
		err = -ENOMEM;
	return err;
}

/* Put the next changes into `body`, as much as one message takes. */
static void
plan_pack(struct plan *p, struct out *body)
{
	struct out one = { 0 };

	while (p->at < p->nb && body->len < CHUNK_MAX && !body->failed) {
		struct change *c = &p->item[p->at];
		uint8_t *delta = NULL;
		size_t len = 0, take;

		one.len = 0;
		if (c->now == NULL) {
			out_number(&one, 1, c->old->type);
			out_field(&one, 2, c->old->key, c->old->key_len);
			out_field(body, CHANGES_REMOVED, one.bytes, one.len);
			p->at++;
			continue;
		}
		if (p->offset == 0 && c->old != NULL && c->old->len != 0 &&
		    policy_resource_diff(c->old, c->now, &delta, &len) == 0) {
			bool fits = len < CHUNK_MAX;

			if (fits) {
				out_field(body, CHANGES_DELTAS, delta, len);
				p->at++;
			}
			free(delta);
			if (fits)
				continue;
		}
		take = PK_MIN((size_t)c->now->len - p->offset, (size_t)CHUNK_MAX);
		out_number(&one, RESOURCE_TYPE, c->now->type);
		out_field(&one, RESOURCE_KEY, c->now->key, c->now->key_len);
		out_fixed64(&one, RESOURCE_VERSION, c->now->version);
		out_field(&one, RESOURCE_BODY, c->now->body + p->offset, take);
		out_number(&one, RESOURCE_OFFSET, p->offset);
		out_number(&one, RESOURCE_SIZE, c->now->len);
		out_field(body, CHANGES_RESOURCES, one.bytes, one.len);
		p->offset += take;
		if (p->offset == c->now->len) {
			p->offset = 0;
			p->at++;
		}
	}
	body->failed |= one.failed;
	free(one.bytes);
}

static void
plan_begin(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Begin body = PICKET__V1__BEGIN__INIT;

	body.generation = d->plan.generation;
	body.base_generation = d->plan.base;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_BEGIN;
	m.begin = &body;
	send_message(d, &m);
}

/* Send on, as far as the stream takes it, and the commit at the end. */
static void
plan_send(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Commit commit = PICKET__V1__COMMIT__INIT;
	struct plan *p = &d->plan;

	while (p->at < p->nb && pk_rpc_stream_queued(d->stream) < AHEAD_MAX) {
		struct out body = { 0 }, all = { 0 };
		struct pk_rpc_buffer *b = NULL;
		uint8_t *bytes;

		plan_pack(p, &body);
		out_number(&all, SERVER_NONCE, ++d->nonce);
		out_field(&all, SERVER_CHANGES, body.bytes, body.len);
		if (!body.failed && !all.failed &&
		    (b = pk_rpc_buffer_create(all.len, &bytes)) != NULL)
			memcpy(bytes, all.bytes, all.len);
		d->bytes_sent += body.len;
		free(body.bytes);
		free(all.bytes);
		send_bytes(d, b);
	}
	if (p->at < p->nb)
		return; /* `writable` comes */
	commit.generation = p->generation;
	commit.state_hash = policy_state_hash(p->outcome);
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_COMMIT;
	m.commit = &commit;
	send_message(d, &m);
	p->nonce = d->nonce;
	move(d, E_SENT);
}

/* ---- the state machine ---- */

static void
end(struct dpu *d, unsigned int status, const char *why)
{
	struct pk_rpc_stream *s = d->stream;

	if (s == NULL)
		return;
	d->stream = NULL;
	d->since_unix_ns = pk_clock_wall_ns();
	plan_fini(&d->plan);
	policy_state_destroy(d->held);
	d->held = NULL;
	if (status != PK_RPC_OK)
		pk_rpc_stream_close(s, status, why);
	pk_notice("dpu %s: disconnected: %s", d->name, why);
	d->all->ops->progress(d->all->arg, d->name, 0, SERVER_STAGE_NONE, why);
}

static void
enter(struct dpu *d, enum state old)
{
	uint64_t rejected;

	switch (d->state) {
	case S_HELD:
		if (old == S_HELD)
			break;
		policy_state_destroy(d->held);
		d->held = policy_state_create();
		if (d->held == NULL)
			end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for what it holds");
		else
			send_want_held(d);
		break;
	case S_SENDING:
		if (old == S_SENDING)
			break;
		if (plan_make(d) != 0) {
			end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for its span");
			break;
		}
		plan_begin(d);
		plan_send(d);
		break;
	case S_IN_SYNC:
		if (old == S_WAITING) {
			policy_state_destroy(d->held);
			d->held = d->plan.outcome;
			d->plan.outcome = NULL;
			d->held_generation = d->plan.generation;
			plan_fini(&d->plan);
		}
		if (d->held_generation != d->wanted)
			move(d, E_TARGET);
		else
			send_in_sync(d);
		break;
	case S_PARKED:
		rejected = old == S_WAITING ? d->plan.generation : d->held_generation;
		plan_fini(&d->plan);
		/* The one refused is not the newest any more: go on with that. */
		if ((old == S_WAITING || old == S_IN_SYNC) && rejected != d->wanted)
			move(d, E_TARGET);
		break;
	default:
		break;
	}
}

static void
move(struct dpu *d, enum event event)
{
	enum state old = d->state, now = (enum state)next[old][event];

	pk_debug("dpu %s: %s: %s -> %s", d->name, state_names[old], event_names[event],
	    state_names[now]);
	if (now == S_NONE) {
		pk_warn("dpu %s: unexpected %s in state %s", d->name, event_names[event],
		    state_names[old]);
		end(d, PK_RPC_FAILED_PRECONDITION, "message out of order");
		return;
	}
	d->state = now;
	enter(d, old);
}

/* ---- messages in ---- */

static void
note(struct dpu *d, uint64_t generation, enum server_stage stage, const char *text)
{
	if (stage >= SERVER_STAGE_RECEIVED && stage <= SERVER_STAGE_REALISED)
		d->received = PK_MAX(d->received, generation);
	if (stage == SERVER_STAGE_ACCEPTED || stage == SERVER_STAGE_REALISED)
		d->accepted = PK_MAX(d->accepted, generation);
	if (stage == SERVER_STAGE_REALISED) {
		d->realised = PK_MAX(d->realised, generation);
		if (generation >= d->wanted)
			d->reason[0] = '\0';
	}
	if (stage == SERVER_STAGE_REJECTED) {
		snprintf(d->reason, sizeof(d->reason), "generation %llu: %s",
		    (unsigned long long)generation, text);
		pk_warn("dpu %s: generation %llu rejected: %s", d->name,
		    (unsigned long long)generation, text);
	}
	d->all->ops->progress(d->all->arg, d->name, generation, stage, text);
}

static void
on_hello(struct dpu *d, const Picket__V1__Hello *m)
{
	bool same;

	if (d->state != S_HELLO || m->protocol != PROTOCOL) {
		end(d, PK_RPC_FAILED_PRECONDITION,
		    m->protocol != PROTOCOL ? "want protocol version 1" : "second hello");
		return;
	}
	free(d->software);
	d->software = strdup(m->software);
	d->plane = m->plane != 0;
	d->received = d->accepted = d->realised = 0;
	d->held_generation = m->generation;
	pk_notice(
	    "dpu %s: connected, holds generation %llu", d->name, (unsigned long long)m->generation);
	if (d->span == NULL) {
		note(d, m->generation, (enum server_stage)m->stage, "");
		move(d, E_HELLO_EARLY);
		return;
	}
	/* A DPU that never had a generation gets one, be it empty: only that makes it enforce. */
	same = m->generation != 0 && m->state_hash == policy_state_hash(d->span);
	if (same) {
		/* Equal content is the same generation, whatever its number. */
		d->wanted = m->generation;
		policy_state_destroy(d->held);
		d->held = policy_state_clone(d->span);
		if (d->held == NULL) {
			end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for its span");
			return;
		}
	} else {
		d->wanted = d->all->generation;
	}
	note(d, m->generation, (enum server_stage)m->stage, "");
	move(d, same ? E_HELLO_SAME : E_HELLO_OTHER);
}

/* What it claims to hold: our own copy if that is it, else a stand-in that has only a version. */
static int
claim(struct dpu *d, const Picket__V1__HeldResource *h)
{
	struct policy_resource *ours, *stand_in;
	int err;

	if (h->key.len > POLICY_KEY_MAX || (int)h->type <= POLICY_RESOURCE_NONE ||
	    (int)h->type >= POLICY_RESOURCE_TYPE_COUNT || policy_state_count(d->held) >= HELD_MAX)
		return -EINVAL;
	ours = d->span != NULL
	    ? policy_state_find(d->span, (unsigned int)h->type, h->key.data, h->key.len)
	    : NULL;
	if (ours != NULL && ours->version == h->version)
		return policy_state_put(d->held, ours);
	stand_in = calloc(1, sizeof(*stand_in));
	if (stand_in == NULL)
		return -ENOMEM;
	atomic_init(&stand_in->refs, 1);
	stand_in->type = (uint8_t)h->type;
	stand_in->key_len = (uint8_t)h->key.len;
	memcpy(stand_in->key, h->key.data, h->key.len);
	stand_in->version = h->version;
	err = policy_state_put(d->held, stand_in);
	policy_resource_put(stand_in);
	return err;
}

static void
on_held(struct dpu *d, const Picket__V1__Held *m)
{
	if (d->state != S_HELD) {
		move(d, E_HELD);
		return;
	}
	for (size_t i = 0; i < m->n_resources; i++) {
		if (claim(d, m->resources[i]) != 0) {
			end(d, PK_RPC_INVALID_ARGUMENT, "a resource it cannot hold");
			return;
		}
	}
	/* Not what it said at first: it may have fallen back since. */
	d->held_generation = m->generation;
	move(d, m->last ? E_HELD_LAST : E_HELD);
}

static void
on_status(struct dpu *d, const Picket__V1__Status *m)
{
	bool ours = d->state == S_WAITING && m->nonce == d->plan.nonce;
	bool held = d->state == S_IN_SYNC && m->generation == d->held_generation;

	if (m->stage <= PICKET__V1__STAGE__STAGE_NONE ||
	    m->stage > PICKET__V1__STAGE__STAGE_REJECTED) {
		end(d, PK_RPC_INVALID_ARGUMENT, "unknown stage");
		return;
	}
	if (m->stage != PICKET__V1__STAGE__STAGE_REJECTED) {
		note(d, m->generation, (enum server_stage)m->stage, "");
		if (ours && m->stage == PICKET__V1__STAGE__STAGE_RECEIVED) {
			d->nb_resyncs = 0;
			move(d, E_RECEIVED);
		}
		return;
	}
	if (m->resync) {
		if (!ours && !held)
			return;
		/* Two who cannot agree must not keep each other busy: it comes back later. */
		if (++d->nb_resyncs > RESYNCS_MAX)
			end(d, PK_RPC_ABORTED, "no agreement about what it holds");
		else
			move(d, E_RESYNC);
		return;
	}
	note(d, m->generation, SERVER_STAGE_REJECTED, m->reason);
	/* An older generation's rejection is followed by this one's: it was based on that. */
	if (ours || held)
		move(d, E_REJECTED);
}

static void
on_heartbeat(struct dpu *d, const Picket__V1__Heartbeat *m)
{
	d->plane = m->plane != 0;
	if (d->state == S_IN_SYNC && m->generation == d->held_generation &&
	    m->state_hash != policy_state_hash(d->held)) {
		pk_warn("dpu %s: holds something else than generation %llu: sending it again",
		    d->name, (unsigned long long)m->generation);
		move(d, E_RESYNC);
		return;
	}
	if (m->stage > PICKET__V1__STAGE__STAGE_NONE &&
	    m->stage < PICKET__V1__STAGE__STAGE_REJECTED)
		note(d, m->generation, (enum server_stage)m->stage, "");
}

static void
on_posture(struct dpu *d, const Picket__V1__Posture *m)
{
	struct server_posture s = { .attested = m->attested != 0,
		.fresh = m->fresh != 0 && m->attested != 0,
		.state = m->state,
		.epoch = m->epoch };

	snprintf(s.host, sizeof(s.host), "%s", m->host);
	snprintf(s.text, sizeof(s.text), "%s", m->text);
	d->all->ops->posture(d->all->arg, d->name, &s);
}

static void
on_message(struct pk_rpc_stream *s, const uint8_t *bytes, size_t len, void *state)
{
	struct dpu *d = state;
	Picket__V1__AgentMessage *m;

	if (d->stream != s)
		return;
	m = picket__v1__agent_message__unpack(NULL, len, bytes);
	if (m == NULL) {
		end(d, PK_RPC_INVALID_ARGUMENT, "a message that cannot be decoded");
		return;
	}
	switch (m->body_case) {
	case PICKET__V1__AGENT_MESSAGE__BODY_HELLO:
		on_hello(d, m->hello);
		break;
	case PICKET__V1__AGENT_MESSAGE__BODY_HELD:
		on_held(d, m->held);
		break;
	case PICKET__V1__AGENT_MESSAGE__BODY_STATUS:
		on_status(d, m->status);
		break;
	case PICKET__V1__AGENT_MESSAGE__BODY_HEARTBEAT:
		on_heartbeat(d, m->heartbeat);
		break;
	case PICKET__V1__AGENT_MESSAGE__BODY_POSTURE:
		on_posture(d, m->posture);
		break;
	default:
		/* A newer agent may say more; what we do not know is not an offence. */
		break;
	}
	picket__v1__agent_message__free_unpacked(m, NULL);
}

static void
on_writable(struct pk_rpc_stream *s, void *state)
{
	struct dpu *d = state;

	if (d->stream == s && d->state == S_SENDING)
		plan_send(d);
}

static void
on_closed(struct pk_rpc_stream *s, unsigned int status, const char *text, void *state)
{
	struct dpu *d = state;

	(void)status;
	if (d->stream == s)
		end(d, PK_RPC_OK, text);
}

const struct pk_rpc_stream_ops server_dpu_stream_ops = {
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};

/* ---- all of them ---- */

int
server_dpus_create(struct server_dpus **out, const struct server_dpus_ops *ops, void *arg)
{
	struct server_dpus *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return -ENOMEM;
	d->ops = ops;
	d->arg = arg;
	*out = d;
	return 0;
}

void
server_dpus_destroy(struct server_dpus *all)
{
	struct dpu *d;

	if (all == NULL)
		return;
	while ((d = all->first) != NULL) {
		all->first = d->next;
		plan_fini(&d->plan);
		policy_state_destroy(d->span);
		policy_state_destroy(d->held);
		free(d->software);
		free(d->name);
		free(d);
	}
	server_catalogue_put(all->catalogue);
	free(all);
}

static struct dpu *
find_or_add(struct server_dpus *all, const char *name)
{
	struct dpu **at = &all->first, *d;

	while (*at != NULL && strcmp((*at)->name, name) < 0)
		at = &(*at)->next;
	if (*at != NULL && strcmp((*at)->name, name) == 0)
		return *at;
	d = calloc(1, sizeof(*d));
	if (d == NULL || (d->name = strdup(name)) == NULL) {
		free(d);
		return NULL;
	}
	d->all = all;
	d->next = *at;
	*at = d;
	return d;
}

int
server_dpus_known(struct server_dpus *all, const char *name, uint64_t seen_unix_ns)
{
	struct dpu *d = find_or_add(all, name);

	if (d == NULL)
		return -ENOMEM;
	if (d->since_unix_ns == 0)
		d->since_unix_ns = seen_unix_ns;
	return 0;
}

static void
add_named(void *arg, const char *name)
{
	(void)find_or_add(arg, name);
}

/* Compute the span anew.  Returns 1 if it differs, 0 if not, or -ENOMEM. */
static int
respan(struct dpu *d)
{
	struct policy_state *span;
	bool differs;
	int err = server_catalogue_span(d->all->catalogue, d->name, &span, &d->nb_workloads);

	if (err != 0)
		return err;
	differs = d->span == NULL || policy_state_hash(span) != policy_state_hash(d->span);
	policy_state_destroy(d->span);
	d->span = span;
	if (differs)
		d->wanted = d->all->generation;
	return differs;
}

int
server_dpus_target(struct server_dpus *all, struct server_catalogue *c, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	int err = 0;

	server_catalogue_get(c);
	server_catalogue_put(all->catalogue);
	all->catalogue = c;
	all->generation = generation;
	server_catalogue_dpus(c, add_named, all);
	for (struct dpu *d = all->first; d != NULL; d = d->next) {
		int differs = respan(d);

		if (differs < 0) {
			pk_error("dpu %s: no memory for its span of generation %llu", d->name,
			    (unsigned long long)generation);
			err = differs;
			continue;
		}
		if (differs && d->stream == NULL && d->nb_workloads != 0 && away != NULL)
			away(arg, d->name);
		if (!differs || d->stream == NULL)
			continue;
		d->reason[0] = '\0';
		if (concerned != NULL)
			concerned(arg, d->name);
		move(d, E_TARGET);
	}
	return err;
}

void
server_dpus_each(const struct server_dpus *all,
    void (*each)(void *arg, const struct server_dpu_status *s), void *arg)
{
	for (const struct dpu *d = all->first; d != NULL; d = d->next) {
		struct server_dpu_status s = {
			.name = d->name,
			.software = d->software != NULL ? d->software : "",
			.reason = d->reason,
			.wanted = d->wanted,
			.received = d->received,
			.accepted = d->accepted,
			.realised = d->realised,
			.since_unix_ns = d->since_unix_ns,
			.bytes_sent = d->bytes_sent,
			.nb_resources = d->span != NULL ? (uint32_t)policy_state_count(d->span) : 0,
			.nb_workloads = d->nb_workloads,
			.connected = d->stream != NULL,
			.plane = d->stream != NULL && d->plane,
		};

		each(arg, &s);
	}
}

int
server_dpus_open(struct server_dpus *all, const char *name, struct pk_rpc_stream *s, void **state)
{
	struct dpu *d = find_or_add(all, name);

	if (d == NULL)
		return -ENOMEM;
	end(d, PK_RPC_ABORTED, "the DPU has connected anew");
	if (d->span == NULL && all->catalogue != NULL && respan(d) < 0)
		return -ENOMEM;
	d->stream = s;
	d->state = S_HELLO;
	d->nonce = 0;
	d->bytes_sent = 0;
	d->nb_resyncs = 0;
	d->held_generation = 0;
	d->since_unix_ns = pk_clock_wall_ns();
	*state = d;
	all->ops->seen(all->arg, name);
	return 0;
}
