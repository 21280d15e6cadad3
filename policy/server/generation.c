#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

/*
 * The helper's side: from requests to a generation in the store.
 *
 * The state it leaves: either everything as before, or the new texts, the new compiled form and the
 * new generation, on disk and in memory.
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

struct new_ids {
	struct server_identity *item;
	size_t nb, room;
	bool failed;
};

static void
collect_id(void *arg, const char *key, uint32_t id)
{
	struct new_ids *n = arg;

	if (n->nb == n->room) {
		size_t room = n->room != 0 ? n->room * 2 : 64;
		struct server_identity *wider = realloc(n->item, room * sizeof(n->item[0]));

		if (wider == NULL) {
			n->failed = true;
			return;
		}
		n->item = wider;
		n->room = room;
	}
	n->item[n->nb++] = (struct server_identity){ .key = key, .id = id };
}

/* ---- what is to be different ---- */

/* Edits of texts; names and texts are borrowed from the request, or from `old`. */
struct edits {
	struct server_edit *item;
	size_t nb, room;
	struct server_texts old; /* what a rollback goes back to */
};

static void
edits_fini(struct edits *e)
{
	server_texts_fini(&e->old);
	free(e->item);
	memset(e, 0, sizeof(*e));
}

static int
edit(struct edits *e, bool inventory, const char *name, const void *text, size_t len)
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
	return edit(e, inventory, name, text, len);
}

/* Take out the sources that are not among `keep`. */
static int
edit_others(struct edits *e, const struct server_texts *now, const struct server_texts *keep)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < now->nb; i++)
		if (server_texts_find(keep, now->item[i].name) == NULL)
			err = edit(e, false, now->item[i].name, NULL, 0);
	return err;
}

static int
intend_apply(struct apply *a, struct edits *e)
{
	const struct server_texts *now = &a->p->sources;
	int err = 0;

	for (size_t i = 0; err == 0 && i < a->request->n_remove; i++) {
		err = server_texts_find(now, a->request->remove[i]) != NULL
		    ? edit(e, false, a->request->remove[i], NULL, 0)
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
		    ? edit(e, true, a->workloads->remove[i], NULL, 0)
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
		err = edit(&all, false, p->sources.item[i].name, p->sources.item[i].text,
		    p->sources.item[i].len);
	for (size_t i = 0; err == 0 && i < p->inventory.nb; i++)
		err = edit(&all, true, p->inventory.item[i].name, p->inventory.item[i].text,
		    p->inventory.item[i].len);
	for (size_t i = 0; err == 0 && i < e->nb; i++)
		err = edit(
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

/* One request, as far as the store.  Its edits are added to `all`, whose owner keeps what they borrow. */
static void
prepare(struct apply *a, struct edits *e)
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

/* ---- and keeping it ---- */

static int
commit(struct batch *b, const struct edits *e, const struct apply *a, struct pk_diag *diag)
{
	struct policyd *p = b->p;
	struct server_generation g = { .kind = a->kind, .at_unix_ns = pk_clock_wall_ns() };
	struct new_ids ids = { 0 };
	struct server_bytes record = { 0 };
	uint8_t *bytes = NULL;
	size_t nb_sources = p->sources.nb, nb_gone = 0;
	int err = -ENOMEM;

	for (size_t i = 0; i < e->nb; i++) {
		const struct server_edit *x = &e->item[i];

		nb_gone += x->text == NULL;
		if (!x->inventory)
			nb_sources += (size_t)(x->text != NULL) -
			    (size_t)(server_texts_find(&p->sources, x->name) != NULL);
	}
	snprintf(g.author, sizeof(g.author), "%s", b->author);
	if (a->kind == SERVER_KIND_APPLY || a->kind == SERVER_KIND_PROMOTE)
		snprintf(g.message, sizeof(g.message), "%s", a->request->message);
	else if (a->kind == SERVER_KIND_ABORT)
		snprintf(g.message, sizeof(g.message), "%s", a->rollout->reason);
	else if (a->kind == SERVER_KIND_ROLLBACK)
		snprintf(g.message, sizeof(g.message), "%s", a->rollback->message);
	else if (a->kind == SERVER_KIND_POSTURE)
		snprintf(g.message, sizeof(g.message), "%zu hosts attested", p->attested->nb);
	else
		snprintf(g.message, sizeof(g.message), "%zu changed, %zu removed", e->nb - nb_gone,
		    nb_gone);
	if (a->kind == SERVER_KIND_ROLLBACK)
		g.of = a->rollback->generation;
	g.nb_sources = nb_sources;
	policy_ids_each(p->ids, p->next_id, collect_id, &ids);
	if (!ids.failed)
		err = a->rollout != NULL ? server_store_next(p->store, &g.generation, diag) : 0;
	if (err == 0 && a->rollout != NULL) {
		if (a->kind == SERVER_KIND_APPLY) {
			g.kind = SERVER_KIND_CANDIDATE;
			a->rollout->generation = g.generation;
		} else {
			a->rollout->result = g.generation;
		}
		bytes = candidate_pack(a->rollout, &record.len);
		record.bytes = bytes;
		err = bytes != NULL ? 0 : -ENOMEM;
	}
	/* The texts of a candidate are in its record until it is promoted. */
	if (err == 0)
		err = server_store_commit(p->store, &g, e->item,
		    g.kind == SERVER_KIND_CANDIDATE ? 0 : e->nb, ids.item, ids.nb,
		    bytes != NULL ? &record : NULL, diag);
	free(bytes);
	if (err == 0 && g.kind == SERVER_KIND_CANDIDATE) {
		if (ids.nb != 0)
			p->next_id = ids.item[ids.nb - 1].id + 1;
		b->generation = g.generation;
	} else if (err == 0) {
		if (ids.nb != 0)
			p->next_id = ids.item[ids.nb - 1].id + 1;
		b->generation = p->latest_generation = g.generation;
	}
	free(ids.item);
	return err;
}

/* In memory as in the store. */
static int
follow(struct policyd *p, const struct edits *e)
{
	int err = 0;

	for (size_t i = 0; i < e->nb && err == 0; i++) {
		const struct server_edit *x = &e->item[i];
		struct server_texts *to = x->inventory ? &p->inventory : &p->sources;

		if (x->text != NULL)
			err = server_texts_put(to, x->name, x->text, x->len);
		else
			(void)server_texts_remove(to, x->name);
	}
	return err;
}

/* Where one edit follows another of the same name, they are made in turn. */
static int
join(struct edits *all, const struct edits *e)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < e->nb; i++)
		err = edit(
		    all, e->item[i].inventory, e->item[i].name, e->item[i].text, e->item[i].len);
	return err;
}

/* The workloads' texts as in the store. */
static void
go_back(struct policyd *p)
{
	struct server_texts sources, inventory;
	struct pk_diag diag;
	uint64_t generation;

	if (server_store_load(p->store, &generation, &sources, &inventory, &diag) != 0) {
		pk_error("workloads are not known any more: %s; restart the server", diag.text);
		return;
	}
	server_texts_fini(&sources);
	server_texts_fini(&p->inventory);
	p->inventory = inventory;
}

static void
refuse_all(struct batch *b, int err, const struct pk_diag *diag)
{
	for (struct apply *a = b->first; a != NULL; a = a->next) {
		if (!a->changed)
			continue;
		a->changed = false;
		a->refused = true;
		a->diag = *diag;
		if (diag->text[0] == '\0')
			pk_diag_set(&a->diag, "%s", strerror(-err));
	}
}

/* Who may what from now on. */
static void
follow_roles(struct batch *b)
{
	struct policyd *p = b->p;

	if (policy_roles_create(&b->roles, policy_compiler_model(p->compiler)) != 0)
		pk_error("no memory for the roles of generation %llu; those before stay",
		    (unsigned long long)b->generation);
	else
		p->latest_roles = b->roles;
	if (policy_references_create(&b->references, policy_compiler_model(p->compiler)) != 0)
		pk_error("no memory for the references of generation %llu; those before stay",
		    (unsigned long long)b->generation);
	(void)generation_grants(p, policy_compiler_model(p->compiler), &b->grants);
}

static void
work(struct batch *b)
{
	struct policyd *p = b->p;
	struct edits all = { 0 }, one = { 0 };
	struct apply *last = NULL;
	struct pk_diag diag = { "" };
	bool begins;
	int err = 0;

	for (struct apply *a = b->first; a != NULL; a = a->next) {
		prepare(a, &one);
		if (a->changed) {
			if (err == 0)
				err = join(&all, &one);
			/* The names and texts of a rollback are its own: it is alone in its batch. */
			all.old = one.old;
			memset(&one.old, 0, sizeof(one.old));
			if (b->nb_changed++ == 0)
				snprintf(b->author, sizeof(b->author), "%s", a->author);
			else if (strcmp(b->author, a->author) != 0)
				snprintf(b->author, sizeof(b->author), "several");
			last = a;
			/* The next one compares with what this one leaves. */
			if (a->kind == SERVER_KIND_INVENTORY && err == 0)
				err = follow(p, &one);
		}
		edits_fini(&one);
	}
	if (last == NULL)
		return;
	b->kind = last->kind;
	begins = b->kind == SERVER_KIND_APPLY && last->rollout != NULL;
	if (err == 0 && all.nb > 0 && p->candidate != NULL && !p->candidate_lost &&
	    (b->kind == SERVER_KIND_INVENTORY || b->kind == SERVER_KIND_POSTURE)) {
		b->lost = candidate_change(p, all.item, all.nb, &b->why_lost) != 0;
		p->candidate_lost = b->lost;
	}
	if (err == 0)
		err = commit(b, &all, last, &diag);
	if (err != 0) {
		if (begins)
			candidate_destroy(p);
		else if (p->candidate != NULL)
			candidate_undo(p);
		/* Posture is not undone: DPUs are told of it with the next generation. */
		if (policy_compiler_undo(p->compiler) != 0 || b->kind == SERVER_KIND_POSTURE)
			p->behind = true;
		policy_touched_clear(&p->touched);
		if (b->kind == SERVER_KIND_INVENTORY)
			go_back(p);
		refuse_all(b, err, &diag);
		edits_fini(&all);
		return;
	}
	policy_compiler_keep(p->compiler);
	if (!begins && b->kind != SERVER_KIND_INVENTORY && follow(p, &all) != 0)
		pk_error("no memory for the texts of generation %llu",
		    (unsigned long long)b->generation);
	edits_fini(&all);
	for (struct apply *a = b->first; a != NULL; a = a->next)
		if (a->changed)
			a->generation = b->generation;
	if (b->kind == SERVER_KIND_PROMOTE || b->kind == SERVER_KIND_ABORT)
		candidate_destroy(p);
	if (p->candidate != NULL && !p->candidate_lost && candidate_keep(p, &b->canary) != 0) {
		pk_diag_set(&b->why_lost, "no memory for what its DPUs are to be sent");
		b->lost = p->candidate_lost = true;
	}
	if (begins) {
		if (candidate_references(p, &b->canary_references) != 0)
			pk_error(
			    "no memory for the references of generation %llu; its canary has those before",
			    (unsigned long long)b->generation);
		(void)candidate_grants(p, &b->canary_grants);
		return;
	}
	if (b->kind != SERVER_KIND_INVENTORY && b->kind != SERVER_KIND_POSTURE)
		follow_roles(b);
	p->touched.whole |= p->behind;
	p->behind = server_shadow_follow(p->shadow, policy_compiler_table(p->compiler), &p->touched,
	                &b->change) != 0;
	if (p->behind)
		pk_error("no memory for what DPUs are to be sent of generation %llu",
		    (unsigned long long)b->generation);
	policy_touched_clear(&p->touched);
}

void
policyd_batch_work(struct pk_job *job)
{
	struct batch *b = (struct batch *)job;

	work(b);
	for (struct apply *a = b->first; a != NULL; a = a->next)
		audit_apply(a, a->next == NULL);
}
