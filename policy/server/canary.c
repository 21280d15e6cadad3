#include <errno.h>
#include <string.h>

#include "lib/log.h"
#include "policy/server/dpu_priv.h"

/*
 * Two policies at once: the DPUs of the canary aim at spans of their own.  Both sets of spans follow
 * every change of workloads; a DPU that goes from one to the other is sent how they differ.
 */

static void
aim(struct server_dpus *all, struct dpu *d, struct server_span *to)
{
	struct policy_state *was = d->span->state;
	struct policy_resource *r;
	bool differ = false;
	size_t at = 0;

	if (d->span == to)
		return;
	while ((r = policy_state_next(was, &at)) != NULL) {
		struct policy_resource *now = policy_state_like(to->state, r);

		if (now != NULL && now->version == r->version)
			continue;
		differ = true;
		dpu_behind(d, r, now);
	}
	at = 0;
	while ((r = policy_state_next(to->state, &at)) != NULL) {
		if (policy_state_like(was, r) != NULL)
			continue;
		differ = true;
		dpu_behind(d, NULL, r);
	}
	d->span = to;
	to->user = d;
	/* Equal content is the same generation, whatever its number. */
	if (differ)
		dpus_touch(all, d);
}

int
server_dpus_canary_begin(struct server_dpus *all, struct server_change *whole,
    const char *const *names, size_t nb_names, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	int err = -ENOMEM;

	PK_ASSERT(all->canary == NULL);
	all->canary = server_spans_create();
	if (all->canary == NULL)
		goto fail;
	err = server_spans_apply(all->canary, whole, NULL, NULL);
	all->touched.nb = 0;
	for (size_t i = 0; err == 0 && i < nb_names; i++) {
		struct server_span *own = server_spans_get(all->spans, names[i]);
		struct server_span *to = server_spans_get(all->canary, names[i]);
		struct dpu *d = own != NULL && to != NULL ? dpus_find_or_add(all, own) : NULL;

		if (d == NULL) {
			err = -ENOMEM;
			break;
		}
		d->candidate = true;
		aim(all, d, to);
	}
	if (err != 0)
		goto fail;
	all->generation = generation;
	dpus_settle(all, generation, concerned, away, arg);
	return 0;
fail:
	pk_error("no memory for what the canary needs of generation %llu",
	    (unsigned long long)generation);
	server_dpus_canary_end(all, generation, NULL, NULL, NULL);
	return err;
}

void
server_dpus_canary_end(struct server_dpus *all, uint64_t generation,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	if (all->canary == NULL)
		return;
	all->touched.nb = 0;
	for (size_t i = 0; i < all->known.nb; i++) {
		struct dpu *d = all->known.at[i];
		struct server_span *to;

		if (!d->candidate)
			continue;
		d->candidate = false;
		to = server_spans_get(all->spans, d->span->name);
		PK_ASSERT(to != NULL); /* it aimed at this one before */
		aim(all, d, to);
	}
	all->generation = PK_MAX(all->generation, generation);
	dpus_settle(all, generation, concerned, away, arg);
	server_spans_destroy(all->canary);
	all->canary = NULL;
}
