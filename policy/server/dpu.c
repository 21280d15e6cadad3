#include "policy/server/dpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/dpu_priv.h"

/* All DPUs, and what each should have. */

int
server_dpus_create(struct server_dpus **out, const struct server_dpus_ops *ops, void *arg)
{
	struct server_dpus *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->spans = server_spans_create()) == NULL) {
		free(d);
		return -ENOMEM;
	}
	d->ops = ops;
	d->arg = arg;
	server_spans_on_left(d->spans, ops->left, arg);
	*out = d;
	return 0;
}

void
server_dpus_destroy(struct server_dpus *all)
{
	if (all == NULL)
		return;
	for (size_t i = 0; i < all->known.nb; i++) {
		struct dpu *d = all->known.at[i];

		plan_fini(&d->plan);
		policy_state_destroy(d->claimed);
		policy_state_destroy(d->behind);
		free(d->software);
		free(d);
	}
	plan_forget_packed(all);
	free(all->known.at);
	free(all->touched.at);
	server_spans_destroy(all->spans);
	server_spans_destroy(all->canary);
	free(all);
}

struct dpu *
dpus_find_or_add(struct server_dpus *all, struct server_span *span)
{
	struct dpu *d = span->user, **slot;

	if (d != NULL)
		return d;
	d = calloc(1, sizeof(*d));
	slot = d != NULL ? POLICY_PUSH(&all->known) : NULL;
	if (slot == NULL) {
		free(d);
		return NULL;
	}
	*slot = d;
	d->all = all;
	d->span = span;
	span->user = d;
	return d;
}

static int
by_name(const void *va, const void *vb)
{
	return strcmp(
	    (*(struct dpu *const *)va)->span->name, (*(struct dpu *const *)vb)->span->name);
}

int
server_dpus_known(struct server_dpus *all, const char *name, uint64_t seen_unix_ns)
{
	struct server_span *span = server_spans_get(all->spans, name);
	struct dpu *d = span != NULL ? dpus_find_or_add(all, span) : NULL;

	if (d == NULL)
		return -ENOMEM;
	if (d->since_unix_ns == 0)
		d->since_unix_ns = seen_unix_ns;
	return 0;
}

void
dpus_touch(struct server_dpus *all, struct dpu *d)
{
	struct dpu **slot;

	if (!d->touched && (slot = POLICY_PUSH(&all->touched)) != NULL) {
		*slot = d;
		d->touched = true;
	}
}

static void
on_changed(
    void *arg, struct server_span *span, struct policy_resource *old, struct policy_resource *now)
{
	struct server_dpus *all = arg;
	struct dpu *d = dpus_find_or_add(all, span);

	if (d == NULL)
		return; /* it is asked what it holds when it comes */
	if (d->span != span)
		return; /* it aims at the other policy */
	dpus_touch(all, d);
	dpu_behind(d, old, now);
}

/* Only those of the canary aim at its spans, and they are known. */
static void
on_canary_changed(
    void *arg, struct server_span *span, struct policy_resource *old, struct policy_resource *now)
{
	if (span->user != NULL)
		on_changed(arg, span, old, now);
}

void
dpus_settle(struct server_dpus *all, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	if (all->touched.nb > 1)
		qsort(all->touched.at, all->touched.nb, sizeof(all->touched.at[0]), by_name);
	for (size_t i = 0; i < all->touched.nb; i++) {
		struct dpu *d = all->touched.at[i];

		d->touched = false;
		d->wanted = generation;
		if (d->stream == NULL) {
			if (d->span->nb_workloads != 0 && away != NULL)
				away(arg, d->span->name);
			continue;
		}
		d->reason[0] = '\0';
		if (concerned != NULL)
			concerned(arg, d->span->name);
		dpu_move(d, E_TARGET);
	}
	all->touched.nb = 0;
	plan_forget_packed(all);
}

int
server_dpus_target(struct server_dpus *all, struct server_change *c, struct server_change *canary,
    uint64_t generation, void (*concerned)(void *arg, const char *dpu),
    void (*away)(void *arg, const char *dpu), void *arg)
{
	bool first = all->generation == 0;
	int err, err2 = 0;

	all->touched.nb = 0;
	all->generation = generation;
	err = server_spans_apply(all->spans, c, on_changed, all);
	if (all->canary != NULL && canary != NULL)
		err2 = server_spans_apply(all->canary, canary, on_canary_changed, all);
	if (err == 0)
		err = err2;
	if (err != 0)
		pk_error("no memory for what DPUs need of generation %llu",
		    (unsigned long long)generation);
	/* Who waits for a first generation gets it, be it empty. */
	for (size_t i = 0; first && i < all->known.nb; i++)
		if (all->known.at[i]->stream != NULL)
			dpus_touch(all, all->known.at[i]);
	dpus_settle(all, generation, concerned, away, arg);
	return err;
}

static struct dpu *
find(struct server_dpus *all, const char *name)
{
	struct server_span *span = server_spans_get(all->spans, name);

	return span != NULL ? span->user : NULL;
}

int
server_dpus_say(struct server_dpus *all, const char *name, Picket__V1__ServerMessage *m)
{
	struct dpu *d = find(all, name);

	if (d == NULL || d->stream == NULL)
		return -ENOENT;
	if (d->state == S_HELLO)
		return -EBUSY;
	return dpu_send(d, m);
}

void
server_dpus_say_all(struct server_dpus *all, struct pk_rpc_buffer *b)
{
	for (size_t i = 0; i < all->known.nb; i++) {
		struct dpu *d = all->known.at[i];

		if (d->stream != NULL && d->state != S_HELLO &&
		    pk_rpc_stream_send(d->stream, pk_rpc_buffer_get(b)) != 0)
			d->trust_due = true;
	}
	pk_rpc_buffer_put(b);
}

bool
server_dpus_candidate(struct server_dpus *all, const char *name)
{
	const struct dpu *d = find(all, name);

	return d != NULL && d->candidate;
}

int
server_dpus_reference(struct server_dpus *all, const char *name, const char sha256[65])
{
	struct dpu *d = find(all, name);

	if (d == NULL || d->stream == NULL || d->state == S_HELLO)
		return -ENOENT;
	if (strcmp(d->reference, sha256) == 0)
		return -EALREADY;
	memcpy(d->reference, sha256, sizeof(d->reference));
	return 0;
}

int
server_dpus_grants(struct server_dpus *all, const char *name, const uint8_t sha256[32])
{
	struct dpu *d = find(all, name);

	if (d == NULL || d->stream == NULL || d->state == S_HELLO)
		return -ENOENT;
	if (d->granted && memcmp(d->grants, sha256, sizeof(d->grants)) == 0)
		return -EALREADY;
	memcpy(d->grants, sha256, sizeof(d->grants));
	d->granted = true;
	return 0;
}

bool
server_dpus_lives(const struct server_dpus *all, const char *dpu, const char *workload)
{
	return server_spans_lives(all->spans, dpu, workload);
}

uint32_t
server_dpus_nb_workloads(const struct server_dpus *all)
{
	return server_spans_nb_workloads(all->spans);
}

static struct server_dpu_status
status_of(const struct dpu *d)
{
	return (struct server_dpu_status){
		.name = d->span->name,
		.software = d->software != NULL ? d->software : "",
		.reason = d->reason,
		.wanted = d->wanted,
		.received = d->received,
		.accepted = d->accepted,
		.realised = d->realised,
		.since_unix_ns = d->since_unix_ns,
		.bytes_sent = d->bytes_sent,
		.nb_resources = (uint32_t)policy_state_count(d->span->state),
		.nb_workloads = d->span->nb_workloads,
		.connected = d->stream != NULL,
		.plane = d->stream != NULL && d->plane,
		.candidate = d->candidate,
	};
}

int
server_dpus_status(struct server_dpus *all, const char *dpu, struct server_dpu_status *out)
{
	for (size_t i = 0; i < all->known.nb; i++) {
		if (strcmp(all->known.at[i]->span->name, dpu) == 0) {
			*out = status_of(all->known.at[i]);
			return 0;
		}
	}
	return -ENOENT;
}

int
server_dpus_counts(struct server_dpus *all, const char *dpu, struct server_dpu_counts *out)
{
	for (size_t i = 0; i < all->known.nb; i++) {
		struct dpu *d = all->known.at[i];

		if (d->stream != NULL && strcmp(d->span->name, dpu) == 0) {
			*out = d->counts;
			return 0;
		}
	}
	return -ENOENT;
}

void
server_dpus_each(
    struct server_dpus *all, void (*each)(void *arg, const struct server_dpu_status *s), void *arg)
{
	if (all->nb_sorted != all->known.nb && all->known.nb > 1)
		qsort(all->known.at, all->known.nb, sizeof(all->known.at[0]), by_name);
	all->nb_sorted = all->known.nb;
	for (size_t i = 0; i < all->known.nb; i++) {
		struct server_dpu_status s = status_of(all->known.at[i]);

		each(arg, &s);
	}
}

int
server_dpus_open(struct server_dpus *all, const char *name, struct pk_rpc_stream *s, void **state)
{
	struct server_span *span = server_spans_get(all->spans, name);
	struct dpu *d = span != NULL ? dpus_find_or_add(all, span) : NULL;

	if (d == NULL)
		return -ENOMEM;
	dpu_end(d, PK_RPC_ABORTED, "the DPU has connected anew");
	d->stream = s;
	d->state = S_HELLO;
	d->nonce = 0;
	memset(&d->counts, 0, sizeof(d->counts));
	d->bytes_sent = 0;
	d->nb_resyncs = 0;
	d->held_generation = 0;
	d->told = false;
	d->trust_due = false;
	d->reference[0] = '\0';
	d->granted = false;
	d->since_unix_ns = pk_clock_wall_ns();
	*state = d;
	all->ops->seen(all->arg, name);
	return 0;
}
