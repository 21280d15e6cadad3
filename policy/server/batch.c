#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/mesh.h"
#include "policy/server/generation.h"

/*
 * The helper's side: from a batch of requests to a generation in the store.
 *
 * The state it leaves: either everything as before, or the new texts, the new compiled form and the new generation, on
 * disk and in memory.  Where the store is shared, what the others have done comes first, and again whenever one of
 * them was quicker; a batch that has lost is compiled anew on top of that, and what it would have done then may be
 * something else, or be refused.
 */
#define TRIES 20 /* others that may be quicker before a request is refused */

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

static int
write_generation(
    struct batch *b, const struct edits *e, const struct apply *a, struct pk_diag *diag)
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

/* Where one edit follows another of the same name, they are made in turn. */
static int
join(struct edits *all, const struct edits *e)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < e->nb; i++)
		err = edits_add(
		    all, e->item[i].inventory, e->item[i].name, e->item[i].text, e->item[i].len);
	return err;
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

/* ---- workloads' texts, which change with each request of a batch, and back ---- */

struct old_text {
	char *name, *text; /* NULL: there was none */
	size_t len;
};

struct old_texts {
	struct old_text *item;
	size_t nb, room;
};

static void
old_fini(struct old_texts *o)
{
	for (size_t i = 0; i < o->nb; i++) {
		free(o->item[i].name);
		free(o->item[i].text);
	}
	free(o->item);
	memset(o, 0, sizeof(*o));
}

/* The next request compares with what this one leaves. */
static int
put_workloads(struct policyd *p, const struct edits *e, struct old_texts *old)
{
	for (size_t i = 0; i < e->nb; i++) {
		const struct server_text *t = server_texts_find(&p->inventory, e->item[i].name);
		struct old_text *o;

		if (old->nb == old->room) {
			size_t room = old->room != 0 ? 2 * old->room : 64;
			struct old_text *wider = realloc(old->item, room * sizeof(old->item[0]));

			if (wider == NULL)
				return -ENOMEM;
			old->item = wider;
			old->room = room;
		}
		o = &old->item[old->nb];
		*o = (struct old_text){ .name = strdup(e->item[i].name) };
		if (o->name == NULL)
			return -ENOMEM;
		if (t != NULL) {
			o->text = malloc(t->len + 1);
			if (o->text == NULL) {
				free(o->name);
				return -ENOMEM;
			}
			memcpy(o->text, t->text, t->len);
			o->len = t->len;
		}
		old->nb++;
	}
	return follow_texts(p, e->item, e->nb);
}

static void
put_back(struct policyd *p, const struct old_texts *old)
{
	int err = 0;

	for (size_t i = old->nb; i-- > 0;) {
		const struct old_text *o = &old->item[i];

		if (o->text != NULL)
			err |= server_texts_put(&p->inventory, o->name, o->text, o->len);
		else
			(void)server_texts_remove(&p->inventory, o->name);
	}
	if (err != 0)
		pk_error("no memory for the workloads' texts as they were; restart the server");
}

/* ---- a batch ---- */

/* Everything as it was before the batch, but for what other servers have done. */
static void
go_back(struct batch *b, bool begins, const struct old_texts *old)
{
	struct policyd *p = b->p;

	if (begins)
		candidate_destroy(p);
	else if (p->candidate != NULL)
		candidate_undo(p);
	/* Posture is not undone: DPUs are told of it with the next generation. */
	if (policy_compiler_undo(p->compiler) != 0 || b->kind == SERVER_KIND_POSTURE)
		p->behind = true;
	put_back(p, old);
	policy_ids_forget(p->ids, p->next_id);
}

/* As if it had not been looked at yet. */
static void
forget_outcome(struct apply *a)
{
	if (a->kind == SERVER_KIND_POSTURE)
		return; /* it is in force here already */
	policy_findings_destroy(a->findings);
	if (policy_findings_create(&a->findings) != 0)
		a->findings = NULL;
	if (a->rollout != NULL && a->kind == SERVER_KIND_APPLY) {
		picket__v1__rollout__free_unpacked(a->rollout, NULL);
		a->rollout = NULL;
	}
	a->refused = a->unchanged = a->changed = false;
	a->passed = a->failed = 0;
	a->diag.text[0] = '\0';
}

/*
 * Compile all of the batch and commit it.  Returns 0; -ESTALE, and nothing has changed; or another negative errno, and
 * who had something to change has been refused.
 */
static int
attempt(struct batch *b, bool last_try)
{
	struct policyd *p = b->p;
	struct edits all = { 0 }, one = { 0 };
	struct old_texts old = { 0 };
	struct apply *last = NULL;
	struct pk_diag diag = { "" };
	bool begins;
	int err = 0;

	b->nb_changed = 0;
	for (struct apply *a = b->first; a != NULL; a = a->next) {
		if (a->kind == SERVER_KIND_POSTURE && a->changed)
			memset(&one, 0, sizeof(one)); /* not the first try */
		else
			generation_prepare(a, &one);
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
			if (a->kind == SERVER_KIND_INVENTORY && err == 0)
				err = put_workloads(p, &one, &old);
		}
		edits_fini(&one);
	}
	if (last == NULL) {
		policy_ids_forget(p->ids, p->next_id);
		goto out;
	}
	b->kind = last->kind;
	begins = b->kind == SERVER_KIND_APPLY && last->rollout != NULL;
	if (err == 0 && all.nb > 0 && p->candidate != NULL && !p->candidate_lost &&
	    (b->kind == SERVER_KIND_INVENTORY || b->kind == SERVER_KIND_POSTURE)) {
		b->lost = candidate_change(p, all.item, all.nb, &b->why_lost) != 0;
		p->candidate_lost = b->lost;
	}
	if (err == 0)
		err = write_generation(b, &all, last, &diag);
	if (err != 0) {
		go_back(b, begins, &old);
		if (err != -ESTALE || last_try)
			refuse_all(b, err, &diag);
		goto out;
	}
	policy_compiler_keep(p->compiler);
	if (!begins && b->kind != SERVER_KIND_INVENTORY && follow_texts(p, all.item, all.nb) != 0)
		pk_error("no memory for the texts of generation %llu",
		    (unsigned long long)b->generation);
	for (struct apply *a = b->first; a != NULL; a = a->next)
		if (a->changed)
			a->generation = b->generation;
	if (b->kind == SERVER_KIND_PROMOTE || b->kind == SERVER_KIND_ABORT)
		candidate_destroy(p);
	if (p->candidate != NULL && !p->candidate_lost && candidate_keep(p, &b->canary) != 0) {
		pk_diag_set(&b->why_lost, "no memory for what its DPUs are to be sent");
		b->lost = p->candidate_lost = true;
	}
	b->begins = begins;
	b->policy_changed |= b->kind != SERVER_KIND_INVENTORY && b->kind != SERVER_KIND_POSTURE;
out:
	edits_fini(&all);
	old_fini(&old);
	return err;
}

static void
work(struct batch *b)
{
	struct policyd *p = b->p;
	struct pk_diag diag = { "" };
	int err = 0;

	for (unsigned int i = 0; i < TRIES; i++) {
		if (p->shared)
			err = follow_others(b, &diag);
		if (err != 0) {
			for (struct apply *a = b->first; a != NULL; a = a->next)
				a->changed = true; /* would have been, for all we know */
			refuse_all(b, err, &diag);
			break;
		}
		err = attempt(b, i + 1 == TRIES);
		if (err != -ESTALE)
			break;
		for (struct apply *a = b->first; a != NULL; a = a->next)
			forget_outcome(a);
	}
	b->follow_err = err == -ETIMEDOUT || err == -EIO ? err : b->follow_err;
	if (b->begins) {
		if (candidate_references(p, &b->canary_references) != 0)
			pk_error(
			    "no memory for the references of generation %llu; its canary has those before",
			    (unsigned long long)b->generation);
		(void)candidate_grants(p, &b->canary_grants);
		(void)candidate_mesh(p, &b->canary_mesh);
		return;
	}
	if (b->generation == 0)
		return;
	if (policy_mesh_create(&b->mesh, policy_compiler_table(p->compiler)) != 0)
		pk_error(
		    "no memory for who sends to whom encrypted in generation %llu; it stays as before",
		    (unsigned long long)b->generation);
	if (p->candidate != NULL && !p->candidate_lost)
		(void)candidate_mesh(p, &b->canary_mesh);
	if (b->policy_changed)
		follow_roles(b);
	p->touched.whole |= p->behind;
	p->behind = server_shadow_follow(p->shadow, policy_compiler_table(p->compiler), &p->touched,
	                &b->change) != 0;
	if (p->behind)
		pk_error("no memory for what DPUs are to be sent of generation %llu",
		    (unsigned long long)b->generation);
	policy_touched_clear(&p->touched);
	b->fold = server_store_wants_snapshot(p->store);
}

void
policyd_batch_work(struct pk_job *job)
{
	struct batch *b = (struct batch *)job;

	work(b);
	for (struct apply *a = b->first; a != NULL; a = a->next)
		audit_apply(a, a->next == NULL);
}
