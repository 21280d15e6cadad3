#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "policy/server/dpu_priv.h"

#define CHUNK_MAX (512 << 10) /* bytes of one message; its parts stay far below 1 MiB */
#define AHEAD_MAX (2 << 20)   /* bytes queued on one stream before we wait for it */

/*
 * From what a DPU holds to what it should, in bytes.
 *
 * A generation that fits in one message goes out as an Update: beginning, changes and commit at once.
 * Of the bytes in between the first and the last few are the DPU's own; the changes are the same for
 * all who lack the same, and are packed once and shared.
 */

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
	SERVER_UPDATE = 7,
	UPDATE_BEGIN = 1,
	UPDATE_CHANGES = 2,
	UPDATE_COMMIT = 3,
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
		pk_warn("dpu %s: message not sent: %s", d->span->name, strerror(-err));
}

/* ---- a plan: from what is held to the target ---- */

void
plan_fini(struct plan *p)
{
	for (size_t i = 0; i < p->nb; i++) {
		policy_resource_put(p->item[i].old);
		policy_resource_put(p->item[i].now);
	}
	free(p->item);
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

int
plan_make(struct dpu *d)
{
	struct policy_state *behind = d->behind;
	struct plan *p = &d->plan;
	struct policy_resource *r;
	size_t at = 0;
	int err = 0;

	plan_fini(p);
	p->generation = d->wanted;
	p->base = d->held_generation;
	p->outcome_hash = policy_state_hash(d->span->state);
	while (behind != NULL && err == 0 && (r = policy_state_next(behind, &at)) != NULL) {
		struct policy_resource *now = policy_state_like(d->span->state, r);
		struct policy_resource *old = r->version != 0 ? r : NULL;

		if (old != NULL || now != NULL)
			if (old == NULL || now == NULL || old->version != now->version)
				err = plan_add(p, old, now);
	}
	if (err != 0)
		return err;
	policy_state_destroy(behind);
	d->behind = NULL;
	return 0;
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

void
plan_forget_packed(struct server_dpus *all)
{
	for (size_t i = 0; i < all->nb_packed; i++) {
		policy_resource_put(all->packed[i].old);
		policy_resource_put(all->packed[i].now);
	}
	free(all->packed);
	all->packed = NULL;
	all->nb_packed = 0;
	pk_rpc_buffer_put(all->packed_bytes);
	all->packed_bytes = NULL;
}

static struct pk_rpc_buffer *
to_buffer(struct out *o)
{
	struct pk_rpc_buffer *b = NULL;
	uint8_t *bytes;

	if (!o->failed && (b = pk_rpc_buffer_create(o->len, &bytes)) != NULL && o->len > 0)
		memcpy(bytes, o->bytes, o->len);
	free(o->bytes);
	memset(o, 0, sizeof(*o));
	return b;
}

/* All changes of a plan as one shared buffer, if they fit; NULL otherwise, and p->at is at 0. */
static struct pk_rpc_buffer *
pack_all(struct dpu *d)
{
	struct server_dpus *all = d->all;
	struct plan *p = &d->plan;
	struct out body = { 0 };

	if (all->packed_bytes != NULL && all->nb_packed == p->nb &&
	    memcmp(all->packed, p->item, p->nb * sizeof(p->item[0])) == 0) {
		p->at = p->nb;
		return pk_rpc_buffer_get(all->packed_bytes);
	}
	plan_pack(p, &body);
	if (p->at < p->nb || body.failed) {
		free(body.bytes);
		p->at = p->offset = 0;
		return NULL;
	}
	plan_forget_packed(all);
	all->packed = calloc(p->nb + 1, sizeof(p->item[0]));
	all->packed_bytes = to_buffer(&body);
	if (all->packed == NULL || all->packed_bytes == NULL) {
		plan_forget_packed(all);
		p->at = p->offset = 0;
		return NULL;
	}
	/* With references, so that equal pointers mean equal content. */
	for (size_t i = 0; i < p->nb; i++) {
		const struct change *c = &p->item[i];

		all->packed[i].old = c->old != NULL ? policy_resource_get(c->old) : NULL;
		all->packed[i].now = c->now != NULL ? policy_resource_get(c->now) : NULL;
	}
	all->nb_packed = p->nb;
	return pk_rpc_buffer_get(all->packed_bytes);
}

static void
out_message(struct out *o, unsigned int field, const ProtobufCMessage *m)
{
	uint8_t bytes[64]; /* Begin and Commit: a few numbers */
	size_t len = protobuf_c_message_get_packed_size(m);

	PK_ASSERT(len <= sizeof(bytes));
	protobuf_c_message_pack(m, bytes);
	out_field(o, field, bytes, len);
}

/* Head, changes, tail; the lengths in the head are of all three. */
static bool
send_update(struct dpu *d, const Picket__V1__Begin *begin, const Picket__V1__Commit *commit)
{
	struct pk_rpc_buffer *changes = pack_all(d), *b = NULL;
	struct out head = { 0 }, inner = { 0 }, tail = { 0 };
	size_t len;

	if (changes == NULL)
		return false;
	len = pk_rpc_buffer_len(changes);
	out_message(&inner, UPDATE_BEGIN, &begin->base);
	out_varint(&inner, UPDATE_CHANGES << 3 | 2);
	out_varint(&inner, len);
	out_message(&tail, UPDATE_COMMIT, &commit->base);
	out_number(&head, SERVER_NONCE, ++d->nonce);
	out_varint(&head, SERVER_UPDATE << 3 | 2);
	out_varint(&head, inner.len + len + tail.len);
	out_bytes(&head, inner.bytes, inner.len);
	free(inner.bytes);
	b = pk_rpc_buffer_chain(to_buffer(&head), changes, to_buffer(&tail));
	d->bytes_sent += len;
	d->plan.nonce = d->nonce;
	send_bytes(d, b);
	return true;
}

void
plan_send(struct dpu *d)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Begin begin = PICKET__V1__BEGIN__INIT;
	Picket__V1__Commit commit = PICKET__V1__COMMIT__INIT;
	struct plan *p = &d->plan;

	begin.generation = p->generation;
	begin.base_generation = p->base;
	commit.generation = p->generation;
	commit.state_hash = p->outcome_hash;
	if (!p->begun && send_update(d, &begin, &commit)) {
		dpu_move(d, E_SENT);
		return;
	}
	if (!p->begun) {
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_BEGIN;
		m.begin = &begin;
		dpu_send(d, &m);
		p->begun = true;
	}
	while (p->at < p->nb && pk_rpc_stream_queued(d->stream) < AHEAD_MAX) {
		struct out body = { 0 }, all = { 0 };

		plan_pack(p, &body);
		out_number(&all, SERVER_NONCE, ++d->nonce);
		out_field(&all, SERVER_CHANGES, body.bytes, body.len);
		all.failed |= body.failed;
		d->bytes_sent += body.len;
		free(body.bytes);
		send_bytes(d, to_buffer(&all));
	}
	if (p->at < p->nb)
		return; /* `writable` comes */
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_COMMIT;
	m.commit = &commit;
	dpu_send(d, &m);
	p->nonce = d->nonce;
	dpu_move(d, E_SENT);
}
