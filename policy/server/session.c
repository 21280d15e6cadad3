#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/dpu_priv.h"

/* The session with one DPU: dpu_priv.h has its states. */

#define PROTOCOL    1
#define RESYNCS_MAX 3
#define HELD_MAX    (4U << 20) /* resources one DPU may claim */

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

int
dpu_send(struct dpu *d, Picket__V1__ServerMessage *m)
{
	struct pk_rpc_buffer *b;
	uint8_t *bytes;
	int err;

	m->nonce = ++d->nonce;
	b = pk_rpc_buffer_create(picket__v1__server_message__get_packed_size(m), &bytes);
	if (b != NULL)
		picket__v1__server_message__pack(m, bytes);
	err = b != NULL ? pk_rpc_stream_send(d->stream, b) : -ENOMEM;
	if (err != 0)
		pk_warn("dpu %s: message not sent: %s", d->span->name, strerror(-err));
	return err;
}

static void
send_want_held(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__WantHeld body = PICKET__V1__WANT_HELD__INIT;

	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_WANT_HELD;
	m.want_held = &body;
	(void)dpu_send(d, &m);
}

static void
send_in_sync(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__InSync body = PICKET__V1__IN_SYNC__INIT;

	d->told = true;
	body.generation = d->held_generation;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_IN_SYNC;
	m.in_sync = &body;
	(void)dpu_send(d, &m);
}

/* ---- what it is behind by ---- */

static int
stand_in_put(struct policy_state *into, unsigned int type, const uint8_t *key, size_t key_len,
    uint64_t version)
{
	struct policy_resource *r = calloc(1, sizeof(*r));
	int err;

	if (r == NULL)
		return -ENOMEM;
	atomic_init(&r->refs, 1);
	r->type = (uint8_t)type;
	r->key_len = (uint8_t)key_len;
	memcpy(r->key, key, key_len);
	r->version = version;
	err = policy_state_put(into, r);
	policy_resource_put(r);
	return err;
}

void
dpu_behind(struct dpu *d, struct policy_resource *old, struct policy_resource *now)
{
	const struct policy_resource *key = old != NULL ? old : now;
	int err;

	/* In the other states it is asked, or compared with what the span then is. */
	if (d->stream == NULL ||
	    (d->state != S_SENDING && d->state != S_WAITING && d->state != S_IN_SYNC))
		return;
	if (d->behind == NULL && (d->behind = policy_state_create()) == NULL) {
		dpu_end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for what it lacks");
		return;
	}
	if (policy_state_like(d->behind, key) != NULL)
		return; /* what it holds is what it held at first */
	err = old != NULL ? policy_state_put(d->behind, old)
	                  : stand_in_put(d->behind, key->type, key->key, key->key_len, 0);
	if (err != 0)
		dpu_end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for what it lacks");
}

/* All it has claimed is known: that against its span. */
static int
compare_claimed(struct dpu *d)
{
	struct policy_state *claimed = d->claimed;
	struct policy_resource *r;
	size_t at = 0;
	int err = 0;

	policy_state_destroy(d->behind);
	d->behind = policy_state_create();
	if (d->behind == NULL)
		return -ENOMEM;
	while (err == 0 && (r = policy_state_next(claimed, &at)) != NULL) {
		const struct policy_resource *now = policy_state_like(d->span->state, r);

		if (now == NULL || now->version != r->version)
			err = policy_state_put(d->behind, r);
	}
	at = 0;
	while (err == 0 && (r = policy_state_next(d->span->state, &at)) != NULL)
		if (policy_state_like(claimed, r) == NULL)
			err = stand_in_put(d->behind, r->type, r->key, r->key_len, 0);
	policy_state_destroy(claimed);
	d->claimed = NULL;
	return err;
}

/* ---- the state machine ---- */

void
dpu_end(struct dpu *d, unsigned int status, const char *why)
{
	struct pk_rpc_stream *s = d->stream;

	if (s == NULL)
		return;
	d->stream = NULL;
	d->since_unix_ns = pk_clock_wall_ns();
	plan_fini(&d->plan);
	policy_state_destroy(d->claimed);
	policy_state_destroy(d->behind);
	d->claimed = d->behind = NULL;
	if (status != PK_RPC_OK)
		pk_rpc_stream_close(s, status, why);
	pk_notice("dpu %s: disconnected: %s", d->span->name, why);
	d->all->ops->evidence(d->all->arg, d->span->name, NULL);
	d->all->ops->progress(d->all->arg, d->span->name, 0, SERVER_STAGE_NONE, why);
}

static void
enter(struct dpu *d, enum state old)
{
	uint64_t rejected;

	switch (d->state) {
	case S_HELD:
		if (old == S_HELD)
			break;
		policy_state_destroy(d->claimed);
		policy_state_destroy(d->behind);
		d->behind = NULL;
		d->told = false;
		d->claimed = policy_state_create();
		if (d->claimed == NULL)
			dpu_end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for what it holds");
		else
			send_want_held(d);
		break;
	case S_SENDING:
		if (old == S_SENDING)
			break;
		if ((old == S_HELD && compare_claimed(d) != 0) || plan_make(d) != 0)
			dpu_end(d, PK_RPC_RESOURCE_EXHAUSTED, "no memory for its span");
		else
			plan_send(d);
		break;
	case S_IN_SYNC:
		if (old == S_WAITING) {
			d->held_generation = d->plan.generation;
			d->held_hash = d->plan.outcome_hash;
			plan_fini(&d->plan);
		}
		if (d->held_generation != d->wanted)
			dpu_move(d, E_TARGET);
		else if (!d->told)
			send_in_sync(d);
		break;
	case S_PARKED:
		rejected = old == S_WAITING ? d->plan.generation : d->held_generation;
		plan_fini(&d->plan);
		policy_state_destroy(d->behind);
		d->behind = NULL;
		/* The one refused is not the newest any more: go on with that. */
		if ((old == S_WAITING || old == S_IN_SYNC) && rejected != d->wanted)
			dpu_move(d, E_TARGET);
		break;
	default:
		break;
	}
}

void
dpu_move(struct dpu *d, enum event event)
{
	enum state old = d->state, now = (enum state)next[old][event];

	pk_debug("dpu %s: %s: %s -> %s", d->span->name, state_names[old], event_names[event],
	    state_names[now]);
	if (now == S_NONE) {
		pk_warn("dpu %s: unexpected %s in state %s", d->span->name, event_names[event],
		    state_names[old]);
		dpu_end(d, PK_RPC_FAILED_PRECONDITION, "message out of order");
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
		pk_warn("dpu %s: generation %llu rejected: %s", d->span->name,
		    (unsigned long long)generation, text);
	}
	d->all->ops->progress(d->all->arg, d->span->name, generation, stage, text);
}

/* What its plane has refused so far.  The usual rate is what it was since we first heard. */
static void
note_counts(struct dpu *d, uint64_t refused, uint64_t revoked)
{
	uint64_t now = pk_clock_mono_ns();
	struct server_dpu_counts *c = &d->counts;

	/* A plane that has started anew counts anew. */
	if (!c->known || refused < c->refused || revoked < c->revoked) {
		d->counts_first = refused;
		d->counts_since_ns = now;
	}
	c->known = true;
	c->refused = refused;
	c->revoked = revoked;
	c->at_ns = now;
	if (now - d->counts_since_ns >= PK_NS_PER_S)
		c->usual_per_s = (double)(refused - d->counts_first) /
		    ((double)(now - d->counts_since_ns) / (double)PK_NS_PER_S);
	d->all->ops->counted(d->all->arg, d->span->name, c);
}

static void
on_hello(struct dpu *d, const Picket__V1__Hello *m)
{
	bool same;

	if (d->state != S_HELLO || m->protocol != PROTOCOL) {
		dpu_end(d, PK_RPC_FAILED_PRECONDITION,
		    m->protocol != PROTOCOL ? "want protocol version 1" : "second hello");
		return;
	}
	free(d->software);
	d->software = strdup(m->software);
	d->plane = m->plane != 0;
	d->received = d->accepted = d->realised = 0;
	d->held_generation = m->generation;
	if (m->counted)
		note_counts(d, m->refused, m->revoked);
	pk_notice("dpu %s: connected, holds generation %llu", d->span->name,
	    (unsigned long long)m->generation);
	if (d->all->generation == 0) {
		note(d, m->generation, (enum server_stage)m->stage, "");
		dpu_move(d, E_HELLO_EARLY);
		d->all->ops->trust(d->all->arg, d->span->name);
		return;
	}
	/* A DPU that never had a generation gets one, be it empty: only that makes it enforce. */
	same = m->generation != 0 && m->state_hash == policy_state_hash(d->span->state);
	if (same) {
		/* Equal content is the same generation, whatever its number. */
		d->wanted = m->generation;
		d->held_hash = m->state_hash;
	} else {
		d->wanted = d->all->generation;
	}
	note(d, m->generation, (enum server_stage)m->stage, "");
	dpu_move(d, same ? E_HELLO_SAME : E_HELLO_OTHER);
	if (d->stream != NULL)
		d->all->ops->trust(d->all->arg, d->span->name);
}

/* What it claims to hold: our own copy if that is it, else a stand-in that has only a version. */
static int
claim(struct dpu *d, const Picket__V1__HeldResource *h)
{
	struct policy_resource *ours;

	if (h->key.len > POLICY_KEY_MAX || (int)h->type <= POLICY_RESOURCE_NONE ||
	    (int)h->type >= POLICY_RESOURCE_TYPE_COUNT ||
	    policy_state_count(d->claimed) >= HELD_MAX)
		return -EINVAL;
	ours = policy_state_find(d->span->state, (unsigned int)h->type, h->key.data, h->key.len);
	if (ours != NULL && ours->version == h->version)
		return policy_state_put(d->claimed, ours);
	return stand_in_put(d->claimed, (unsigned int)h->type, h->key.data, h->key.len, h->version);
}

static void
on_held(struct dpu *d, const Picket__V1__Held *m)
{
	if (d->state != S_HELD) {
		dpu_move(d, E_HELD);
		return;
	}
	for (size_t i = 0; i < m->n_resources; i++) {
		if (claim(d, m->resources[i]) != 0) {
			dpu_end(d, PK_RPC_INVALID_ARGUMENT, "a resource it cannot hold");
			return;
		}
	}
	/* Not what it said at first: it may have fallen back since. */
	d->held_generation = m->generation;
	dpu_move(d, m->last ? E_HELD_LAST : E_HELD);
}

static void
on_status(struct dpu *d, const Picket__V1__Status *m)
{
	bool ours = d->state == S_WAITING && m->nonce == d->plan.nonce;
	bool held = d->state == S_IN_SYNC && m->generation == d->held_generation;

	if (m->stage <= PICKET__V1__STAGE__STAGE_NONE ||
	    m->stage > PICKET__V1__STAGE__STAGE_REJECTED) {
		dpu_end(d, PK_RPC_INVALID_ARGUMENT, "unknown stage");
		return;
	}
	if (m->stage != PICKET__V1__STAGE__STAGE_REJECTED) {
		note(d, m->generation, (enum server_stage)m->stage, "");
		if (ours && m->stage == PICKET__V1__STAGE__STAGE_RECEIVED) {
			d->nb_resyncs = 0;
			dpu_move(d, E_RECEIVED);
		}
		return;
	}
	if (m->resync) {
		if (!ours && !held)
			return;
		/* Two who cannot agree must not keep each other busy: it comes back later. */
		if (++d->nb_resyncs > RESYNCS_MAX)
			dpu_end(d, PK_RPC_ABORTED, "no agreement about what it holds");
		else
			dpu_move(d, E_RESYNC);
		return;
	}
	note(d, m->generation, SERVER_STAGE_REJECTED, m->reason);
	/* An older generation's rejection is followed by this one's: it was based on that. */
	if (ours || held)
		dpu_move(d, E_REJECTED);
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
	snprintf(s.reference, sizeof(s.reference), "%s", m->reference);
	d->all->ops->posture(d->all->arg, d->span->name, &s);
}

static void
on_heartbeat(struct dpu *d, const Picket__V1__Heartbeat *m)
{
	d->plane = m->plane != 0;
	if (m->counted)
		note_counts(d, m->refused, m->revoked);
	if (d->state == S_IN_SYNC && m->generation == d->held_generation &&
	    m->state_hash != d->held_hash) {
		pk_warn("dpu %s: holds something else than generation %llu: sending it again",
		    d->span->name, (unsigned long long)m->generation);
		dpu_move(d, E_RESYNC);
		return;
	}
	if (m->stage > PICKET__V1__STAGE__STAGE_NONE &&
	    m->stage < PICKET__V1__STAGE__STAGE_REJECTED)
		note(d, m->generation, (enum server_stage)m->stage, "");
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
		dpu_end(d, PK_RPC_INVALID_ARGUMENT, "a message that cannot be decoded");
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
	case PICKET__V1__AGENT_MESSAGE__BODY_SVID_REQUEST:
		d->all->ops->svid(d->all->arg, d->span->name, m->svid_request);
		break;
	case PICKET__V1__AGENT_MESSAGE__BODY_EVIDENCE:
		d->all->ops->evidence(d->all->arg, d->span->name, m->evidence);
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
	if (d->stream == s && d->trust_due) {
		d->trust_due = false;
		d->all->ops->trust(d->all->arg, d->span->name);
	}
}

static void
on_closed(struct pk_rpc_stream *s, unsigned int status, const char *text, void *state)
{
	struct dpu *d = state;

	(void)status;
	if (d->stream == s)
		dpu_end(d, PK_RPC_OK, text);
}

const struct pk_rpc_stream_ops server_dpu_stream_ops = {
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};
