#include "policy/compiler.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler_priv.h"

/* A source in the place of another; either may be NULL. */
struct swap {
	struct policy_source *old, *new;
};

/* One change, until it is kept. */
struct step {
	struct swap *swaps;
	size_t nb;
	struct live *before; /* when the whole was compiled */
	int whole;
};

struct policy_compiler {
	struct policy_ids *ids;
	struct policy_model *model;
	struct policy_map source_index; /* name -> index in model->sources */
	struct live *live;              /* NULL: nothing is compiled */
	POLICY_VECTOR(struct step) steps;
	uint64_t nb_whole;
};

void
policy_touched_clear(struct policy_touched *t)
{
	t->whole = t->nomem = 0;
	t->identities.nb = t->endpoints.nb = t->sets.nb = t->programs.nb = 0;
}

void
policy_touched_fini(struct policy_touched *t)
{
	free(t->identities.at);
	free(t->endpoints.at);
	free(t->sets.at);
	free(t->programs.at);
	memset(t, 0, sizeof(*t));
}

int
policy_compiler_create(struct policy_compiler **out, struct policy_ids *ids)
{
	struct policy_compiler *pc = calloc(1, sizeof(*pc));

	*out = NULL;
	if (pc == NULL || policy_model_create(&pc->model) < 0) {
		free(pc);
		return -ENOMEM;
	}
	pc->ids = ids;
	*out = pc;
	return 0;
}

void
policy_compiler_destroy(struct policy_compiler *pc)
{
	if (pc == NULL)
		return;
	policy_compiler_keep(pc);
	live_destroy(pc->live);
	policy_map_fini(&pc->source_index);
	policy_model_destroy(pc->model);
	free(pc->steps.at);
	free(pc);
}

/* ---- sources ------------------------------------------------------------------------------------- */

/* Put `new` where `old` is.  Returns 0 or -ENOMEM, and then nothing has changed. */
static int
swap_source(struct policy_compiler *pc, struct policy_source *old, struct policy_source *new)
{
	struct policy_model *m = pc->model;
	struct policy_source **slot, *last;
	uint32_t i;

	if (old == NULL && new == NULL)
		return 0;
	if (old == NULL) {
		slot = POLICY_PUSH(&m->sources);
		if (slot == NULL)
			return -ENOMEM;
		if (policy_map_put_text(&pc->source_index, new->name, (uint32_t)m->sources.nb - 1) <
		    0) {
			m->sources.nb--;
			return -ENOMEM;
		}
		*slot = new;
		return 0;
	}
	/* What has just been taken out leaves room for what comes, so this cannot fail. */
	i = policy_map_remove_text(&pc->source_index, old->name);
	PK_ASSERT(i != NONE);
	if (new != NULL) {
		m->sources.at[i] = new;
		return policy_map_put_text(&pc->source_index, new->name, i);
	}
	last = m->sources.at[--m->sources.nb];
	if (last != old) {
		m->sources.at[i] = last;
		policy_map_remove_text(&pc->source_index, last->name);
		return policy_map_put_text(&pc->source_index, last->name, i);
	}
	return 0;
}

static struct policy_source *
find_source(const struct policy_compiler *pc, const char *name)
{
	uint32_t i = policy_map_get_text(&pc->source_index, name);

	return i != NONE ? pc->model->sources.at[i] : NULL;
}

/* Every second text is another thread's, when they are many: nothing is shared but the allocator. */
#define PARALLEL_MIN (1 << 20) /* bytes: below, a thread costs more than it saves */

struct reading {
	const struct policy_change *changes;
	struct swap *swaps;
	size_t nb, first, step;
	struct policy_findings *findings;
	int rc;
};

static void *
read_some(void *arg)
{
	struct reading *r = arg;
	struct policy_arena scratch = { 0 };

	for (size_t i = r->first; i < r->nb; i += r->step) {
		const struct policy_change *ch = &r->changes[i];
		int rc = ch->text != NULL ? policy_source_create(&r->swaps[i].new, ch->name,
		                                ch->text, ch->len, &scratch, r->findings)
		                          : 0;

		if (rc == -ENOMEM || (rc < 0 && r->rc == 0))
			r->rc = rc;
	}
	policy_arena_fini(&scratch);
	return NULL;
}

static int
read_all(
    const struct policy_change *changes, size_t nb, struct swap *swaps, struct policy_findings *f)
{
	struct reading a = {
		.changes = changes, .swaps = swaps, .nb = nb, .step = 1, .findings = f
	};
	struct reading b = a;
	size_t bytes = 0;
	pthread_t thread;

	for (size_t i = 0; i < nb; i++)
		bytes += changes[i].len;
	if (nb > 1 && bytes >= PARALLEL_MIN) {
		a.step = b.step = 2;
		b.first = 1;
		b.findings = NULL;
		if (policy_findings_create(&b.findings) == 0 &&
		    pthread_create(&thread, NULL, read_some, &b) == 0) {
			read_some(&a);
			(void)pthread_join(thread, NULL);
		} else {
			read_some(&a);
			read_some(&b);
		}
		for (size_t i = 0; f != NULL && i < policy_findings_total(b.findings); i++) {
			const struct policy_finding *x = policy_findings_get(b.findings, i);

			policy_findings_add(
			    f, x->severity, x->file, x->line, x->column, x->code, "%s", x->text);
		}
		policy_findings_destroy(b.findings);
		return a.rc != 0 ? a.rc : b.rc;
	}
	read_some(&a);
	return a.rc;
}

/* Of several changes of one name the last counts. */
static void
drop_repeated(const struct policy_change *changes, size_t nb, struct swap *swaps)
{
	struct policy_map seen = { 0 };

	for (size_t i = nb; i-- > 0 && nb > 1;) {
		if (policy_map_get_text(&seen, changes[i].name) == NONE) {
			(void)policy_map_put_text(&seen, changes[i].name, (uint32_t)i);
			continue;
		}
		policy_source_destroy(swaps[i].new);
		swaps[i].new = swaps[i].old = NULL;
	}
	policy_map_fini(&seen);
}

/* ---- changes ------------------------------------------------------------------------------------- */

static int
compile_anew(struct policy_compiler *pc, struct step *step, struct policy_touched *touched,
    struct policy_findings *f)
{
	struct compile *c;
	struct live *live;
	int rc = compile_whole(&c, pc->model, NULL, 0, pc->ids, f);

	if (rc == 0)
		rc = live_create(&live, c);
	if (rc < 0)
		return rc;
	step->before = pc->live;
	step->whole = 1;
	pc->live = live;
	pc->nb_whole++;
	if (touched != NULL)
		touched->whole = 1;
	return 0;
}

static int
work_in(struct policy_compiler *pc, const struct swap *swaps, size_t nb, int back,
    struct policy_touched *touched, struct policy_findings *f)
{
	struct policy_source **gone = calloc(2 * nb + 1, sizeof(gone[0]));
	int rc;

	if (gone == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < nb; i++) {
		gone[i] = back ? swaps[i].new : swaps[i].old;
		gone[nb + i] = back ? swaps[i].old : swaps[i].new;
	}
	rc = live_change(pc->live, gone, gone + nb, nb, touched, f);
	if (rc == -ENOMEM) {
		live_destroy(pc->live);
		pc->live = NULL;
	}
	free(gone);
	return rc;
}

int
policy_compiler_change(struct policy_compiler *pc, const struct policy_change *changes, size_t nb,
    struct policy_touched *touched, struct policy_findings *f)
{
	struct step step = { .nb = nb }, *slot;
	size_t done = 0;
	int rc;

	step.swaps = calloc(nb + 1, sizeof(step.swaps[0]));
	if (step.swaps == NULL)
		return -ENOMEM;
	rc = read_all(changes, nb, step.swaps, f);
	if (rc < 0)
		goto fail;
	drop_repeated(changes, nb, step.swaps);
	slot = POLICY_PUSH(&pc->steps);
	if (slot == NULL) {
		rc = -ENOMEM;
		goto fail;
	}
	pc->steps.nb--;
	for (; rc == 0 && done < nb; done += rc == 0) {
		struct swap *s = &step.swaps[done];

		/* One that a later change of the name has made void is neither. */
		if (s->new != NULL || changes[done].text == NULL)
			s->old = find_source(pc, changes[done].name);
		rc = swap_source(pc, s->old, s->new);
	}
	if (rc == 0)
		rc = pc->live != NULL ? work_in(pc, step.swaps, nb, 0, touched, f) : -EAGAIN;
	if (rc == -EAGAIN)
		rc = compile_anew(pc, &step, touched, f);
	if (rc == 0) {
		pc->steps.at[pc->steps.nb++] = step;
		return 0;
	}
	while (done-- > 0)
		(void)swap_source(pc, step.swaps[done].new, step.swaps[done].old);
fail:
	for (size_t i = 0; i < nb; i++)
		policy_source_destroy(step.swaps[i].new);
	free(step.swaps);
	return rc;
}

void
policy_compiler_set_attested(struct policy_compiler *pc, policy_attested *is, void *arg)
{
	policy_model_set_attested(pc->model, is, arg);
}

int
policy_compiler_posture(
    struct policy_compiler *pc, const char *const *dpus, size_t nb, struct policy_touched *touched)
{
	int rc;

	PK_ASSERT(pc->steps.nb == 0);
	if (pc->live == NULL)
		return 0;
	rc = live_posture(pc->live, dpus, nb, touched);
	if (rc < 0) {
		live_destroy(pc->live);
		pc->live = NULL;
	}
	return rc;
}

void
policy_compiler_keep(struct policy_compiler *pc)
{
	for (size_t i = 0; i < pc->steps.nb; i++) {
		struct step *s = &pc->steps.at[i];

		live_destroy(s->before);
		for (size_t k = 0; k < s->nb; k++)
			policy_source_destroy(s->swaps[k].old);
		free(s->swaps);
	}
	pc->steps.nb = 0;
}

int
policy_compiler_undo(struct policy_compiler *pc)
{
	int err = 0;

	while (pc->steps.nb > 0) {
		struct step *s = &pc->steps.at[--pc->steps.nb];

		for (size_t i = s->nb; i-- > 0;)
			(void)swap_source(pc, s->swaps[i].new, s->swaps[i].old);
		if (s->whole) {
			live_destroy(pc->live);
			pc->live = s->before;
		} else if (pc->live != NULL && work_in(pc, s->swaps, s->nb, 1, NULL, NULL) < 0) {
			/* What was right before can only fail for want of memory. */
			live_destroy(pc->live);
			pc->live = NULL;
			err = -ENOMEM;
		}
		for (size_t i = 0; i < s->nb; i++)
			policy_source_destroy(s->swaps[i].new);
		free(s->swaps);
	}
	return err;
}

/* ---- what there is ------------------------------------------------------------------------------- */

const struct policy_table *
policy_compiler_table(const struct policy_compiler *pc)
{
	return pc->live != NULL ? &pc->live->c->table->t : NULL;
}

const struct policy_model *
policy_compiler_model(const struct policy_compiler *pc)
{
	return pc->model;
}

uint64_t
policy_compiler_nb_whole(const struct policy_compiler *pc)
{
	return pc->nb_whole;
}

const struct live *
policy_compiler_live(const struct policy_compiler *pc)
{
	return pc->live;
}

int
policy_compiler_applied(const struct policy_compiler *pc, const char *workload,
    void (*each)(void *arg, const char *tenant, const char *name, const char *tier), void *arg)
{
	const struct compile_identity *id;
	uint32_t i = pc->live != NULL ? policy_map_get_text(&pc->live->workload_index, workload)
	                              : NONE;

	if (i == NONE)
		return -ENOENT;
	id = &pc->live->c->identities.at[pc->live->workloads.at[i].identity];
	for (size_t k = 0; k < id->policies.nb; k++) {
		const struct compile_policy *p = &pc->live->c->policies.at[id->policies.at[k]];

		each(arg, p->def->meta.tenant, p->def->meta.name, p->tier->name);
	}
	return (int)id->policies.nb;
}
