#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "policy/server/dpu_priv.h"
#include "policy/server/pack.h"

#define AHEAD_MAX (2 << 20) /* bytes queued on one stream before we wait for it */

/*
 * From what a DPU holds to what it should, in bytes.
 *
 * A generation that fits in one message goes out as an Update: beginning, changes and commit at once.
 * Of the bytes in between the first and the last few are the DPU's own; the changes are the same for
 * all who lack the same, and are packed once and shared.
 */

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
		struct server_step *wider = realloc(p->item, room * sizeof(p->item[0]));

		if (wider == NULL)
			return -ENOMEM;
		p->item = wider;
		p->room = room;
	}
	p->item[p->nb++] =
	    (struct server_step){ .old = old != NULL ? policy_resource_get(old) : NULL,
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
to_buffer(struct server_out *o)
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
	struct server_out body = { 0 };

	if (all->packed_bytes != NULL && all->nb_packed == p->nb &&
	    memcmp(all->packed, p->item, p->nb * sizeof(p->item[0])) == 0) {
		p->at = p->nb;
		return pk_rpc_buffer_get(all->packed_bytes);
	}
	server_pack_changes(&body, p->item, p->nb, &p->at, &p->offset);
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
		const struct server_step *c = &p->item[i];

		all->packed[i].old = c->old != NULL ? policy_resource_get(c->old) : NULL;
		all->packed[i].now = c->now != NULL ? policy_resource_get(c->now) : NULL;
	}
	all->nb_packed = p->nb;
	return pk_rpc_buffer_get(all->packed_bytes);
}

static bool
send_update(struct dpu *d, const Picket__V1__Begin *begin, const Picket__V1__Commit *commit)
{
	struct pk_rpc_buffer *changes = pack_all(d), *b = NULL;
	struct server_out head = { 0 }, tail = { 0 };
	size_t len;

	if (changes == NULL)
		return false;
	len = pk_rpc_buffer_len(changes);
	server_pack_update(&head, &tail, ++d->nonce, begin, len, commit);
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
		struct server_out all = { 0 };

		d->bytes_sent +=
		    server_pack_part(&all, ++d->nonce, p->item, p->nb, &p->at, &p->offset);
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
