#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "policy/server/generation.h"

/* What other servers commit to a shared store, and our turn at folding it up. */

int
follow_texts(struct policyd *p, const struct server_edit *edits, size_t nb)
{
	int err = 0;

	for (size_t i = 0; i < nb && err == 0; i++) {
		const struct server_edit *x = &edits[i];
		struct server_texts *to = x->inventory ? &p->inventory : &p->sources;

		if (x->text != NULL)
			err = server_texts_put(to, x->name, x->text, x->len);
		else
			(void)server_texts_remove(to, x->name);
	}
	return err;
}

/* It has compiled on the server that committed it; here it is compiled to the same. */
static int
compile_theirs(struct policyd *p, const struct server_record *r)
{
	struct policy_findings *f;
	struct pk_diag why;
	int err;

	if (r->nb_edits == 0 && policy_compiler_table(p->compiler) != NULL)
		return 0;
	if (policy_findings_create(&f) != 0)
		return -ENOMEM;
	err = generation_compile(p->compiler, &p->touched, r->edits, r->nb_edits, f);
	if (err == 0)
		policy_compiler_keep(p->compiler);
	else if (err == -EINVAL) {
		policy_findings_first(f, &why);
		pk_error("generation %llu of another server does not compile here: %s",
		    (unsigned long long)r->g.generation, why.text);
	}
	policy_findings_destroy(f);
	return err;
}

static int
take(void *arg, const struct server_record *r)
{
	struct batch *b = arg;
	struct policyd *p = b->p;
	int err = 0;

	for (size_t i = 0; err == 0 && i < r->nb_ids; i++) {
		err = policy_ids_restore(p->ids, r->ids[i].key, r->ids[i].id);
		if (err == 0)
			p->next_id = r->ids[i].id + 1;
	}
	if (err == 0)
		err = compile_theirs(p, r);
	if (err == 0)
		err = follow_texts(p, r->edits, r->nb_edits);
	if (err != 0)
		return err == -ENOMEM ? -ENOTRECOVERABLE : err;
	p->latest_generation = b->generation = r->g.generation;
	b->kind = r->g.kind;
	b->policy_changed |= r->g.kind != SERVER_KIND_INVENTORY && r->g.kind != SERVER_KIND_POSTURE;
	memcpy(b->author, r->g.author, sizeof(b->author));
	return 0;
}

int
follow_others(struct batch *b, struct pk_diag *diag)
{
	int err;

	diag->text[0] = '\0';
	/* Numbers of what was only tried are others' to give out. */
	policy_ids_forget(b->p->ids, b->p->next_id);
	err = server_store_follow(b->p->store, take, b, diag);
	b->astray = err != 0 && err != -ETIMEDOUT && err != -EIO && err != -ENOMEM;
	if (err != 0 && diag->text[0] == '\0')
		pk_diag_set(diag, "what another server has committed cannot be followed: %s",
		    strerror(-err));
	b->follow_err = err;
	return err;
}

struct ids {
	struct server_identity *item;
	size_t nb, room;
	bool failed;
};

static void
collect(void *arg, const char *key, uint32_t id)
{
	struct ids *n = arg;

	if (n->nb == n->room) {
		size_t room = n->room != 0 ? n->room * 2 : 1024;
		struct server_identity *wider = realloc(n->item, room * sizeof(n->item[0]));

		n->failed |= wider == NULL;
		if (wider == NULL)
			return;
		n->item = wider;
		n->room = room;
	}
	n->item[n->nb++] = (struct server_identity){ .key = key, .id = id };
}

struct fold_job {
	struct pk_job job;
	struct policyd *p;
};

static void
fold_work(struct pk_job *job)
{
	struct policyd *p = ((struct fold_job *)job)->p;
	struct ids ids = { 0 };
	struct pk_diag diag = { "no memory" };
	int err = -ENOMEM;

	policy_ids_forget(p->ids, p->next_id);
	policy_ids_each(p->ids, 1, collect, &ids);
	if (!ids.failed)
		err = server_store_snapshot(
		    p->store, &p->sources, &p->inventory, ids.item, ids.nb, &diag);
	if (err != 0)
		pk_warn("the store's log is not folded up: %s", diag.text);
	free(ids.item);
}

static void
fold_done(struct pk_job *job)
{
	free(job);
}

void
follow_snapshot(struct policyd *p)
{
	struct fold_job *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return; /* with the next batch, then */
	f->job.work = fold_work;
	f->job.done = fold_done;
	f->p = p;
	pk_helper_give(p->helper, &f->job);
}
