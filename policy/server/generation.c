#include "policy/server/generation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"

/*
 * The helper's side: from requests to a generation in the store.
 *
 * Here: what a request would change, and what that compiles to.  batch.c keeps it, or undoes it.
 */

/*
 * Inline tests speak for what an operator is about to do.  They have no say in going back to what was
 * in force before, in taking up the store after a restart, or in the coming and going of workloads.
 */
enum tests {
	TESTS_NONE,
	TESTS_TOLD,
	TESTS_REFUSE
};

/* ---- what is to be different ---- */

void
edits_fini(struct edits *e)
{
	server_texts_fini(&e->old);
	free(e->item);
	memset(e, 0, sizeof(*e));
}

int
edits_add(struct edits *e, bool inventory, const char *name, const void *text, size_t len)
{
	if (e->nb == e->room) {
		size_t room = e->room != 0 ? e->room * 2 : 16;
		struct server_edit *wider = realloc(e->item, room * sizeof(e->item[0]));

		if (wider == NULL)
			return -ENOMEM;
		e->item = wider;
		e->room = room;
	}
	e->item[e->nb++] =
	    (struct server_edit){ .inventory = inventory, .name = name, .text = text, .len = len };
	return 0;
}

/* A text of this name, unless it is there already. */
static int
edit_text(struct edits *e, const struct server_texts *now, bool inventory, const char *name,
    const void *text, size_t len)
{
	const struct server_text *t = server_texts_find(now, name);

	/* protobuf-c has NULL for no bytes; NULL means something else here. */
	if (len == 0)
		text = "";
	if (t != NULL && t->len == len && memcmp(t->text, text, len) == 0)
		return 0;
	return edits_add(e, inventory, name, text, len);
}

/* Take out the sources that are not among `keep`. */
static int
edit_others(struct edits *e, const struct server_texts *now, const struct server_texts *keep)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < now->nb; i++)
		if (server_texts_find(keep, now->item[i].name) == NULL)
			err = edits_add(e, false, now->item[i].name, NULL, 0);
	return err;
}

static int
intend_apply(struct apply *a, struct edits *e)
{
	const struct server_texts *now = &a->p->sources;
	int err = 0;

	for (size_t i = 0; err == 0 && i < a->request->n_remove; i++) {
		err = server_texts_find(now, a->request->remove[i]) != NULL
		    ? edits_add(e, false, a->request->remove[i], NULL, 0)
		    : -ENOENT;
		if (err == -ENOENT)
			pk_diag_set(
			    &a->diag, "there is no source \"%s\" to remove", a->request->remove[i]);
	}
	for (size_t i = 0; err == 0 && i < a->request->n_sources; i++) {
		const Picket__V1__Source *s = a->request->sources[i];

		err = a->request->replace
		    ? server_texts_put(&e->old, s->name, s->text.data, s->text.len)
		    : edit_text(e, now, false, s->name, s->text.data, s->text.len);
	}
	return err;
}

/* Returns 0 or negative errno with a->diag. */
static int
intend(struct apply *a, struct edits *e)
{
	struct policyd *p = a->p;
	bool all = a->kind == SERVER_KIND_ROLLBACK;
	bool applies = a->kind == SERVER_KIND_APPLY || a->kind == SERVER_KIND_PROMOTE;
	int err = 0;

	memset(e, 0, sizeof(*e));
	if (a->kind == SERVER_KIND_ROLLBACK) {
		err = server_store_sources(p->store, a->rollback->generation, &e->old, &a->diag);
	} else if (applies) {
		all = a->request->replace;
		err = intend_apply(a, e);
		if (all)
			e->nb = 0; /* what else is to be removed goes with the rest */
	}
	if (err == 0 && all) {
		err = edit_others(e, &p->sources, &e->old);
		for (size_t i = 0; err == 0 && i < e->old.nb; i++)
			err = edit_text(e, &p->sources, false, e->old.item[i].name,
			    e->old.item[i].text, e->old.item[i].len);
	}
	if (a->kind != SERVER_KIND_INVENTORY || err != 0)
		return err;
	for (size_t i = 0; err == 0 && i < a->workloads->n_remove; i++) {
		err = server_texts_find(&p->inventory, a->workloads->remove[i]) != NULL
		    ? edits_add(e, true, a->workloads->remove[i], NULL, 0)
		    : -ENOENT;
		if (err == -ENOENT)
			pk_diag_set(&a->diag, "there is no workload \"%s\" to remove",
			    a->workloads->remove[i]);
	}
	for (size_t i = 0; err == 0 && i < a->workloads->n_workloads; i++) {
		const Picket__V1__Workload *w = a->workloads->workloads[i];

		err = edit_text(e, &p->inventory, true, w->name, w->text.data, w->text.len);
	}
	return err;
}

/* ---- compiling it ---- */

int
generation_compile(struct policy_compiler *pc, struct policy_touched *touched,
    const struct server_edit *edits, size_t nb, struct policy_findings *f)
{
	struct policy_change *ch = calloc(nb + 1, sizeof(ch[0]));
	char *names = NULL, *at;
	size_t len = 0;
	int err;

	for (size_t i = 0; i < nb; i++)
		len += sizeof(POLICYD_WORKLOAD) + strlen(edits[i].name);
	at = names = malloc(len + 1);
	err = ch != NULL && names != NULL ? 0 : -ENOMEM;
	for (size_t i = 0; err == 0 && i < nb; i++) {
		const struct server_edit *x = &edits[i];

		ch[i] = (struct policy_change){ .name = at, .text = x->text, .len = x->len };
		at += sprintf(at, "%s%s", x->inventory ? POLICYD_WORKLOAD : "", x->name) + 1;
	}
	if (err == 0)
		err = policy_compiler_change(pc, ch, nb, touched, f);
	free(names);
	free(ch);
	return err;
}

static int
compile(struct policyd *p, const struct edits *e, struct policy_findings *f)
{
	return generation_compile(p->compiler, &p->touched, e->item, e->nb, f);
}

/* All that is in the store, before what is edited. */
static int
prepend_store(struct policyd *p, struct edits *e)
{
	struct edits all = { 0 };
	int err = 0;

	for (size_t i = 0; err == 0 && i < p->sources.nb; i++)
		err = edits_add(&all, false, p->sources.item[i].name, p->sources.item[i].text,
		    p->sources.item[i].len);
	for (size_t i = 0; err == 0 && i < p->inventory.nb; i++)
		err = edits_add(&all, true, p->inventory.item[i].name, p->inventory.item[i].text,
		    p->inventory.item[i].len);
	for (size_t i = 0; err == 0 && i < e->nb; i++)
		err = edits_add(
		    &all, e->item[i].inventory, e->item[i].name, e->item[i].text, e->item[i].len);
	if (err != 0) {
		free(all.item);
		return err;
	}
	free(e->item);
	e->item = all.item;
	e->nb = all.nb;
	e->room = all.room;
	return 0;
}

int
policyd_compile_store(struct policyd *p, struct server_change *change, struct policy_findings *f)
{
	struct edits e = { 0 };
	int err = prepend_store(p, &e);

	if (err == 0)
		err = compile(p, &e, f);
	if (err == 0) {
		policy_compiler_keep(p->compiler);
		err = server_shadow_follow(
		    p->shadow, policy_compiler_table(p->compiler), &p->touched, change);
		policy_touched_clear(&p->touched);
	}
	edits_fini(&e);
	return err;
}

/* Whether its author may make these edits. */
static int
permit(struct apply *a, const struct edits *e)
{
	static const unsigned int need[SERVER_KIND_COUNT] = {
		[SERVER_KIND_APPLY] = POLICY_MAY_APPLY,
		[SERVER_KIND_ROLLBACK] = POLICY_MAY_ROLLBACK,
		[SERVER_KIND_INVENTORY] = POLICY_MAY_WORKLOADS,
	};
	struct policyd *p = a->p;
	int err = 0;

	for (size_t i = 0; err == 0 && need[a->kind] != 0 && i < e->nb; i++) {
		const struct server_edit *x = &e->item[i];
		const struct server_text *old =
		    server_texts_find(x->inventory ? &p->inventory : &p->sources, x->name);

		err = policy_roles_change(p->latest_roles, a->author, need[a->kind],
		    old != NULL ? old->text : NULL, old != NULL ? old->len : 0, x->text, x->len,
		    &a->diag);
	}
	return err;
}

/* What cannot be done while a rollout is under way, and what only then. */
static int
permit_rollout(struct apply *a, bool dry)
{
	struct policyd *p = a->p;

	if (a->kind == SERVER_KIND_PROMOTE || a->kind == SERVER_KIND_ABORT) {
		if (p->candidate != NULL)
			return 0;
		pk_diag_set(&a->diag, "there is no rollout under way");
		return -ENOENT;
	}
	if (p->candidate == NULL || dry || a->kind == SERVER_KIND_INVENTORY)
		return 0;
	pk_diag_set(
	    &a->diag, "a rollout is under way; promote or abort it first (policy rollout status)");
	return -EBUSY;
}

/*
 * Where a canary is wanted, the policy in force stays, and what was compiled becomes a candidate.
 * Returns 0 or negative errno.
 */
static int
set_aside(struct apply *a, const struct edits *e, bool dry)
{
	struct policyd *p = a->p;
	int err = candidate_wanted(a, policy_compiler_model(p->compiler), &a->rollout);

	if (err != 0 || a->rollout == NULL || dry) {
		if (err != 0 && policy_compiler_undo(p->compiler) != 0)
			p->behind = true;
		return err;
	}
	if (policy_compiler_undo(p->compiler) != 0)
		return -ENOMEM;
	return candidate_create(p, e->item, e->nb, a->findings);
}

int
generation_candidate(
    struct policyd *p, Picket__V1__ApplyRequest *request, struct policy_findings *f)
{
	struct apply a = { .p = p, .kind = SERVER_KIND_APPLY, .request = request };
	struct edits e;
	int err = intend(&a, &e);

	if (err == 0)
		err = candidate_create(p, e.item, e.nb, f);
	edits_fini(&e);
	return err;
}

/* ---- what it grants ---- */

/* A secret that is not there refuses a change as a wrong document does. */
static int
check_grants(struct apply *a)
{
	struct grant_set *s = NULL;
	int err = grant_make(&s, a->p, policy_compiler_model(a->p->compiler), a->findings);

	grant_destroy(s);
	return err;
}

int
generation_grants(struct policyd *p, const struct policy_model *m, struct grant_set **out)
{
	struct policy_findings *f = NULL;
	struct pk_diag why = { "no memory" };
	int err = policy_findings_create(&f);

	*out = NULL;
	if (err == 0)
		err = grant_make(out, p, m, f);
	if (err == -EINVAL)
		policy_findings_first(f, &why);
	if (err != 0)
		pk_error("grants: %s; DPUs keep those they have", why.text);
	policy_findings_destroy(f);
	return err;
}

/* ---- posture ---- */

/* Names in one of two ascending lists only, borrowed from them.  Returns their number. */
static size_t
differences(const struct server_attested *a, const struct server_attested *b, const char **out)
{
	size_t i = 0, k = 0, nb = 0;

	while (i < a->nb || k < b->nb) {
		int d = i == a->nb ? 1 : k == b->nb ? -1 : strcmp(a->name[i], b->name[k]);

		if (d < 0)
			out[nb++] = a->name[i];
		else if (d > 0)
			out[nb++] = b->name[k];
		i += d <= 0;
		k += d >= 0;
	}
	return nb;
}

/* The endpoints behind the DPUs that differ follow at once; the store has only that it was so. */
static void
prepare_posture(struct apply *a)
{
	struct policyd *p = a->p;
	struct server_attested *old = p->attested;
	size_t before = p->touched.endpoints.nb;
	const char **names = calloc(old->nb + a->attested->nb + 1, sizeof(names[0]));
	size_t nb = names != NULL ? differences(old, a->attested, names) : 0;
	int err = names != NULL ? 0 : -ENOMEM;

	a->generation = p->latest_generation;
	if (err == 0) {
		p->attested = a->attested;
		policy_compiler_set_attested(p->compiler, server_is_attested, p->attested);
		err = policy_compiler_posture(p->compiler, names, nb, &p->touched);
		if (err == 0 && p->candidate != NULL)
			candidate_posture(p, names, nb);
		a->attested = old;
	}
	free(names);
	if (err != 0)
		p->behind = true;
	a->refused = err != 0;
	a->changed = err == 0 &&
	    (p->touched.endpoints.nb > before ||
	        (p->candidate != NULL && p->candidate->touched.endpoints.nb > 0));
	a->unchanged = err == 0 && !a->changed;
	if (err != 0)
		pk_diag_set(&a->diag, "%s", strerror(-err));
}

/* ---- a request ---- */

void
generation_prepare(struct apply *a, struct edits *e)
{
	struct policyd *p = a->p;
	enum tests tests = TESTS_NONE;
	bool dry = apply_is_dry(a);
	int err;

	if (a->kind == SERVER_KIND_POSTURE) {
		memset(e, 0, sizeof(*e));
		prepare_posture(a);
		return;
	}
	err = permit_rollout(a, dry);
	memset(e, 0, sizeof(*e));
	if (err == 0)
		err = intend(a, e);
	if (err == 0)
		err = permit(a, e);
	if (a->kind == SERVER_KIND_APPLY)
		tests = a->request->despite_tests ? TESTS_TOLD : TESTS_REFUSE;
	else if (a->kind == SERVER_KIND_PROMOTE)
		tests = TESTS_TOLD; /* they had their say when it became a candidate */
	a->generation = p->latest_generation;
	/* A server that could not compile what it had is mended even by applying the same again. */
	if (err == 0 && a->kind == SERVER_KIND_ABORT) {
		a->changed = true;
		return;
	}
	if (err == 0 && policy_compiler_table(p->compiler) == NULL && p->latest_generation != 0) {
		err = prepend_store(p, e);
	} else if (err == 0 && e->nb == 0 && a->kind != SERVER_KIND_PROMOTE) {
		a->unchanged = p->latest_generation != 0;
		if (a->unchanged)
			return;
	}
	if (err == 0)
		err = compile(p, e, a->findings);
	if (err == 0 && tests != TESTS_NONE) {
		err = policy_run_tests(policy_compiler_model(p->compiler),
		    policy_compiler_table(p->compiler), a->findings, &a->passed, &a->failed);
		if (err == -EINVAL && tests == TESTS_TOLD)
			err = 0;
		if (err != 0 && policy_compiler_undo(p->compiler) != 0)
			p->behind = true;
	}
	if (err == 0 && a->kind != SERVER_KIND_INVENTORY) {
		err = check_grants(a);
		if (err != 0 && policy_compiler_undo(p->compiler) != 0)
			p->behind = true;
	}
	if (err == 0 && a->kind == SERVER_KIND_APPLY)
		err = set_aside(a, e, dry);
	if (err == 0 && dry && policy_compiler_undo(p->compiler) != 0)
		err = -ENOMEM;
	a->refused = err != 0;
	a->changed = err == 0 && !dry;
	if (err != 0 && a->diag.text[0] == '\0' &&
	    policy_findings_count(a->findings, POLICY_ERROR) == 0)
		pk_diag_set(&a->diag, "%s", strerror(-err));
}
