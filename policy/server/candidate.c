#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "policy/server/policyd_priv.h"

/*
 * The helper's side of a rollout.
 *
 * A candidate has a compiler of its own beside that of the policy in force, with the same numbers for
 * identities, so that workloads can come and go under both at once, and either is always whole.  It
 * costs as much memory as what is in force, for as long as it bakes.
 */

/* ---- the record ---------------------------------------------------------------------------------- */

uint8_t *
candidate_pack(const Picket__V1__Rollout *r, size_t *len)
{
	uint8_t *bytes = malloc(picket__v1__rollout__get_packed_size(r) + 1);

	*len = bytes != NULL ? picket__v1__rollout__pack(r, bytes) : 0;
	return bytes;
}

/* By way of bytes, so that the copy owns all it points to. */
static Picket__V1__Rollout *
own(const Picket__V1__Rollout *r)
{
	Picket__V1__Rollout *copy = NULL;
	size_t len;
	uint8_t *bytes = candidate_pack(r, &len);

	if (bytes != NULL)
		copy = picket__v1__rollout__unpack(NULL, len, bytes);
	free(bytes);
	return copy;
}

/* ---- which DPUs ---------------------------------------------------------------------------------- */

struct names {
	char **at;
	size_t nb, room;
	bool failed;
};

static void
add_name(void *arg, const char *name)
{
	struct names *n = arg;

	if (n->nb == n->room) {
		size_t room = n->room != 0 ? n->room * 2 : 64;
		char **wider = realloc(n->at, room * sizeof(n->at[0]));

		if (wider == NULL) {
			n->failed = true;
			return;
		}
		n->at = wider;
		n->room = room;
	}
	n->at[n->nb] = strdup(name);
	n->failed |= n->at[n->nb] == NULL;
	n->nb += !n->failed;
}

static void
names_fini(struct names *n)
{
	for (size_t i = 0; i < n->nb; i++)
		free(n->at[i]);
	free(n->at);
}

static int
add_seen(void *arg, const char *name, uint64_t at_unix_ns)
{
	struct names *n = arg;

	(void)at_unix_ns;
	add_name(n, name);
	return n->failed ? -ENOMEM : 0;
}

/* What was asked for, else what the sources say.  False: neither. */
static bool
canary_of(const struct apply *a, const struct policy_model *m, struct policy_canary *c)
{
	const Picket__V1__Canary *asked = a->request->canary;

	if (asked == NULL)
		return !a->request->at_once && policy_rollout(m, c);
	*c = (struct policy_canary){
		.nb_dpus = asked->n_dpus,
		.dpus = (const char *const *)asked->dpus,
		.workloads = asked->workloads[0] != '\0' ? asked->workloads : NULL,
		.bake_s = asked->bake_s,
		.abort = asked->abort,
		.abort_denied = (uint32_t)PK_MIN(asked->abort_denied, (uint64_t)UINT32_MAX),
	};
	return true;
}

static int
fill(struct apply *a, const struct policy_canary *c, const struct names *dpus,
    Picket__V1__Rollout **out)
{
	Picket__V1__Rollout r = PICKET__V1__ROLLOUT__INIT;
	Picket__V1__Canary canary = PICKET__V1__CANARY__INIT;
	Picket__V1__RolloutDpu *item = calloc(dpus->nb + 1, sizeof(*item));
	Picket__V1__RolloutDpu **list = calloc(dpus->nb + 1, sizeof(*list));

	*out = NULL;
	for (size_t i = 0; item != NULL && list != NULL && i < dpus->nb; i++) {
		picket__v1__rollout_dpu__init(&item[i]);
		item[i].dpu = dpus->at[i];
		list[i] = &item[i];
	}
	canary.dpus = (char **)(uintptr_t)c->dpus;
	canary.n_dpus = c->nb_dpus;
	canary.workloads = admin_borrow(c->workloads != NULL ? c->workloads : "");
	canary.bake_s = c->bake_s;
	canary.abort = c->abort != 0;
	canary.abort_denied = c->abort_denied;
	r.state = PICKET__V1__ROLLOUT_STATE__ROLLOUT_SENDING;
	r.base_generation = a->p->latest_generation;
	r.author = a->author;
	r.message = a->request->message;
	r.canary = &canary;
	r.started_unix_ns = pk_clock_wall_ns();
	r.dpus = list;
	r.n_dpus = dpus->nb;
	r.request = a->request;
	if (item != NULL && list != NULL)
		*out = own(&r);
	free(item);
	free(list);
	return *out != NULL ? 0 : -ENOMEM;
}

int
candidate_wanted(struct apply *a, const struct policy_model *m, Picket__V1__Rollout **out)
{
	struct policyd *p = a->p;
	struct names seen = { 0 }, chosen = { 0 };
	struct policy_canary c;
	int err;

	*out = NULL;
	if (!canary_of(a, m, &c))
		return 0;
	/* A Rollout that comes with the very first policy has nothing to go back to, and no effect yet. */
	if (p->latest_generation == 0 || p->sources.nb == 0) {
		if (a->request->canary == NULL)
			return 0;
		pk_diag_set(&a->diag,
		    "there is no policy in force that a canary could go back to; apply without it");
		return -EINVAL;
	}
	err = server_store_dpus(p->store, add_seen, &seen, &a->diag);
	if (err == 0)
		err = policy_canary_select(
		    m, &c, (const char *const *)seen.at, seen.nb, add_name, &chosen, &a->diag);
	if (err == 0 && chosen.failed)
		err = -ENOMEM;
	if (err == 0 && chosen.nb == 0) {
		pk_diag_set(&a->diag,
		    "the canary selects none of the DPUs known, which are %zu connected so far and "
		    "those that workloads name",
		    seen.nb);
		err = -EINVAL;
	}
	if (err == 0)
		err = fill(a, &c, &chosen, out);
	names_fini(&seen);
	names_fini(&chosen);
	return err;
}

/* ---- its compiler -------------------------------------------------------------------------------- */

int
candidate_create(
    struct policyd *p, const struct server_edit *edits, size_t nb_edits, struct policy_findings *f)
{
	size_t nb = p->sources.nb + p->inventory.nb, n = 0;
	struct server_edit *all = calloc(nb + nb_edits + 1, sizeof(all[0]));
	int err = -ENOMEM;

	PK_ASSERT(p->candidate == NULL);
	p->candidate = calloc(1, sizeof(*p->candidate));
	p->candidate_lost = false;
	if (all == NULL || p->candidate == NULL ||
	    policy_compiler_create(&p->candidate->compiler, p->ids) != 0 ||
	    (p->candidate->shadow = server_shadow_create()) == NULL)
		goto out;
	policy_compiler_set_attested(p->candidate->compiler, server_is_attested, p->attested);
	for (size_t i = 0; i < p->sources.nb; i++, n++)
		all[n] = (struct server_edit){ .name = p->sources.item[i].name,
			.text = p->sources.item[i].text,
			.len = p->sources.item[i].len };
	for (size_t i = 0; i < p->inventory.nb; i++, n++)
		all[n] = (struct server_edit){ .inventory = true,
			.name = p->inventory.item[i].name,
			.text = p->inventory.item[i].text,
			.len = p->inventory.item[i].len };
	for (size_t i = 0; i < nb_edits; i++, n++)
		all[n] = edits[i];
	err = generation_compile(p->candidate->compiler, &p->candidate->touched, all, n, f);
out:
	free(all);
	if (err != 0)
		candidate_destroy(p);
	return err;
}

void
candidate_destroy(struct policyd *p)
{
	if (p->candidate == NULL)
		return;
	policy_compiler_destroy(p->candidate->compiler);
	server_shadow_destroy(p->candidate->shadow);
	policy_touched_fini(&p->candidate->touched);
	free(p->candidate);
	p->candidate = NULL;
}

int
candidate_change(
    struct policyd *p, const struct server_edit *edits, size_t nb_edits, struct pk_diag *diag)
{
	struct candidate *c = p->candidate;
	struct policy_findings *f;
	int err = policy_findings_create(&f);

	if (err == 0) {
		err = generation_compile(c->compiler, &c->touched, edits, nb_edits, f);
		if (err == -EINVAL)
			policy_findings_first(f, diag);
		policy_findings_destroy(f);
	}
	if (err != 0 && err != -EINVAL)
		pk_diag_set(diag, "%s", strerror(-err));
	return err;
}

int
candidate_keep(struct policyd *p, struct server_change *out)
{
	struct candidate *c = p->candidate;
	int err;

	policy_compiler_keep(c->compiler);
	err = server_shadow_follow(c->shadow, policy_compiler_table(c->compiler), &c->touched, out);
	policy_touched_clear(&c->touched);
	if (err != 0)
		c->touched.whole = 1;
	return err;
}

void
candidate_posture(struct policyd *p, const char *const *dpus, size_t nb)
{
	struct candidate *c = p->candidate;

	policy_compiler_set_attested(c->compiler, server_is_attested, p->attested);
	if (policy_compiler_posture(c->compiler, dpus, nb, &c->touched) != 0)
		c->touched.whole = 1;
}

int
candidate_references(struct policyd *p, struct policy_references **out)
{
	return policy_references_create(out, policy_compiler_model(p->candidate->compiler));
}

int
candidate_grants(struct policyd *p, struct grant_set **out)
{
	return generation_grants(p, policy_compiler_model(p->candidate->compiler), out);
}

void
candidate_undo(struct policyd *p)
{
	if (policy_compiler_undo(p->candidate->compiler) != 0)
		p->candidate->touched.whole = 1;
}
