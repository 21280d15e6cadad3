#include "policy/server/span.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "policy/model.h"

struct server_catalogue {
	_Atomic unsigned int refs;
	struct policy_model *model;
	struct policy_table *table;
	struct policy_query *query;
	struct policy_resource **identity, **subject, **endpoint, **set,
	    **program;                          /* as in table */
	struct policy_state *shared, *subjects; /* the same, by key: for the next catalogue */
	uint32_t *by_dpu, *by_identity;         /* endpoints, sorted */
};

static int
compare_dpu(const void *a, const void *b, void *arg)
{
	const struct policy_endpoint *e = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = strcmp(e[x].dpu, e[y].dpu);

	/* A workload's addresses side by side, so that workloads can be counted. */
	if (c == 0)
		c = strcmp(e[x].name, e[y].name);
	return c != 0 ? c : x < y ? -1 : x > y;
}

static uint32_t
count_workloads(const struct server_catalogue *c, uint32_t first, uint32_t n)
{
	const struct policy_endpoint *e = c->table->endpoints;
	uint32_t nb = 0;

	for (uint32_t i = first; i < first + n; i++)
		nb += i == first || strcmp(e[c->by_dpu[i]].name, e[c->by_dpu[i - 1]].name) != 0;
	return nb;
}

uint32_t
server_catalogue_nb_workloads(const struct server_catalogue *c)
{
	return count_workloads(c, 0, c->table->nb_endpoints);
}

static int
compare_identity(const void *a, const void *b, void *arg)
{
	const struct policy_endpoint *e = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (e[x].identity != e[y].identity)
		return e[x].identity < e[y].identity ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Keep `r`, or the equal one that DPUs may hold already.  Takes `r`. */
static int
keep(struct policy_state *into, const struct policy_state *before, struct policy_resource *r,
    struct policy_resource **out)
{
	struct policy_resource *old;
	int err;

	if (r == NULL)
		return -ENOMEM;
	old = before != NULL ? policy_state_like(before, r) : NULL;
	if (old != NULL && old->version == r->version) {
		policy_resource_put(r);
		r = policy_resource_get(old);
	}
	err = policy_state_put(into, r);
	*out = r; /* borrowed from `into` */
	policy_resource_put(r);
	return err;
}

static int
make_resources(struct server_catalogue *c, const struct server_catalogue *before)
{
	const struct policy_state *shared = before != NULL ? before->shared : NULL;
	const struct policy_state *subjects = before != NULL ? before->subjects : NULL;
	const struct policy_table *t = c->table;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < t->nb_identities; i++) {
		err = keep(c->shared, shared, policy_resource_of_identity(&t->identities[i], 0),
		    &c->identity[i]);
		if (err == 0)
			err = keep(c->subjects, subjects,
			    policy_resource_of_identity(&t->identities[i], 1), &c->subject[i]);
	}
	for (uint32_t i = 0; err == 0 && i < t->nb_endpoints; i++)
		err = keep(c->shared, shared, policy_resource_of_endpoint(&t->endpoints[i]),
		    &c->endpoint[i]);
	for (uint32_t i = 0; err == 0 && i < t->nb_sets; i++)
		err = keep(c->shared, shared, policy_resource_of_set(&t->sets[i]), &c->set[i]);
	for (uint32_t i = 0; err == 0 && i < t->nb_programs; i++)
		err = keep(
		    c->shared, shared, policy_resource_of_program(&t->programs[i]), &c->program[i]);
	return err;
}

int
server_catalogue_create(struct server_catalogue **out, struct policy_model *model,
    struct policy_table *table, const struct server_catalogue *before, struct pk_diag *diag)
{
	struct server_catalogue *c = calloc(1, sizeof(*c));
	int err;

	if (c == NULL) {
		policy_table_destroy(table);
		policy_model_destroy(model);
		return -ENOMEM;
	}
	atomic_init(&c->refs, 1);
	c->model = model;
	c->table = table;
	c->identity = calloc(table->nb_identities + 1U, sizeof(c->identity[0]));
	c->subject = calloc(table->nb_identities + 1U, sizeof(c->subject[0]));
	c->endpoint = calloc(table->nb_endpoints + 1U, sizeof(c->endpoint[0]));
	c->set = calloc(table->nb_sets + 1U, sizeof(c->set[0]));
	c->program = calloc(table->nb_programs + 1U, sizeof(c->program[0]));
	c->by_dpu = calloc(table->nb_endpoints + 1U, sizeof(c->by_dpu[0]));
	c->by_identity = calloc(table->nb_endpoints + 1U, sizeof(c->by_identity[0]));
	c->shared = policy_state_create();
	c->subjects = policy_state_create();
	if (c->identity == NULL || c->subject == NULL || c->endpoint == NULL || c->set == NULL ||
	    c->program == NULL || c->by_dpu == NULL || c->by_identity == NULL ||
	    c->shared == NULL || c->subjects == NULL) {
		pk_diag_set(diag, "no memory for what DPUs are to be sent");
		err = -ENOMEM;
	} else {
		err = make_resources(c, before);
	}
	if (err == 0 && model != NULL)
		err = policy_query_create(&c->query, model, table, diag);
	if (err != 0) {
		server_catalogue_put(c);
		return err;
	}
	for (uint32_t i = 0; i < table->nb_endpoints; i++)
		c->by_dpu[i] = c->by_identity[i] = i;
	qsort_r(c->by_dpu, table->nb_endpoints, sizeof(c->by_dpu[0]), compare_dpu,
	    (void *)(uintptr_t)table->endpoints);
	qsort_r(c->by_identity, table->nb_endpoints, sizeof(c->by_identity[0]), compare_identity,
	    (void *)(uintptr_t)table->endpoints);
	*out = c;
	return 0;
}

struct server_catalogue *
server_catalogue_get(struct server_catalogue *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void
server_catalogue_put(struct server_catalogue *c)
{
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	policy_state_destroy(c->shared);
	policy_state_destroy(c->subjects);
	free(c->identity);
	free(c->subject);
	free(c->endpoint);
	free(c->set);
	free(c->program);
	free(c->by_dpu);
	free(c->by_identity);
	policy_query_destroy(c->query);
	policy_table_destroy(c->table);
	policy_model_destroy(c->model);
	free(c);
}

const struct policy_query *
server_catalogue_query(const struct server_catalogue *c)
{
	return c->query;
}

const struct policy_table *
server_catalogue_table(const struct server_catalogue *c)
{
	return c->table;
}

/* The first of by_dpu[] that is not before `dpu`. */
static uint32_t
first_of_dpu(const struct server_catalogue *c, const char *dpu)
{
	uint32_t lo = 0, hi = c->table->nb_endpoints;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (strcmp(c->table->endpoints[c->by_dpu[mid]].dpu, dpu) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint32_t
first_of_identity(const struct server_catalogue *c, uint32_t identity)
{
	uint32_t lo = 0, hi = c->table->nb_endpoints;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (c->table->endpoints[c->by_identity[mid]].identity < identity)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* What has been taken into a span, by index into the table. */
struct taken {
	uint8_t *identity, *set, *program;
};

static int
take_identity(
    const struct server_catalogue *c, uint32_t id, struct taken *taken, struct policy_state *span)
{
	const struct policy_table *t = c->table;
	const struct policy_identity *o = policy_table_identity(t, id);
	size_t i;
	int err;

	if (o == NULL)
		return 0; /* a set may name an identity nobody has any more */
	i = (size_t)(o - t->identities);
	if (taken->identity[i])
		return 0;
	taken->identity[i] = 1;
	err = policy_state_put(span, c->identity[i]);
	for (uint32_t k = first_of_identity(c, id);
	     err == 0 && k < t->nb_endpoints && t->endpoints[c->by_identity[k]].identity == id; k++)
		err = policy_state_put(span, c->endpoint[c->by_identity[k]]);
	return err;
}

static int
take_set(
    const struct server_catalogue *c, uint64_t id, struct taken *taken, struct policy_state *span)
{
	const struct policy_table *t = c->table;
	const struct policy_set *o = policy_table_set(t, id);
	size_t i;
	int err;

	if (o == NULL)
		return 0;
	i = (size_t)(o - t->sets);
	if (taken->set[i])
		return 0;
	taken->set[i] = 1;
	err = policy_state_put(span, c->set[i]);
	if (o->kind == PK_SET_IDENTITY)
		for (uint32_t k = 0; err == 0 && k < o->nb_members; k++)
			err = take_identity(c, o->identities[k], taken, span);
	return err;
}

static int
take_program(
    const struct server_catalogue *c, uint64_t id, struct taken *taken, struct policy_state *span)
{
	const struct policy_table *t = c->table;
	const struct policy_program *o = id != 0 ? policy_table_program(t, id) : NULL;
	size_t i;
	int err;

	if (o == NULL)
		return 0;
	i = (size_t)(o - t->programs);
	if (taken->program[i])
		return 0;
	taken->program[i] = 1;
	err = policy_state_put(span, c->program[i]);
	for (uint32_t r = 0; err == 0 && r < o->nb_rules; r++)
		for (uint32_t k = 0; err == 0 && k < o->rules[r].nb_peers; k++)
			err = take_set(c, o->rules[r].peers[k], taken, span);
	return err;
}

/* `subjects` are the indices of identities that live behind the DPU. */
static int
take_subject(
    const struct server_catalogue *c, uint32_t id, struct taken *taken, struct policy_state *span)
{
	const struct policy_identity *o = policy_table_identity(c->table, id);
	int err;

	if (o == NULL)
		return 0;
	err = take_identity(c, id, taken, span);
	for (unsigned int d = 0; err == 0 && d < PK_DIRECTION_COUNT; d++)
		err = take_program(c, o->program[d], taken, span);
	return err;
}

static int
put_subject(const struct server_catalogue *c, uint32_t id, struct policy_state *span)
{
	const struct policy_identity *o = policy_table_identity(c->table, id);

	return o != NULL ? policy_state_put(span, c->subject[o - c->table->identities]) : 0;
}

int
server_catalogue_span(const struct server_catalogue *c, const char *dpu, struct policy_state **out,
    uint32_t *nb_local)
{
	const struct policy_table *t = c->table;
	struct policy_state *span = policy_state_create();
	struct taken taken = { 0 };
	uint32_t first = first_of_dpu(c, dpu), n = 0;
	int err = -ENOMEM;

	taken.identity = calloc(t->nb_identities + 1U, 1);
	taken.set = calloc(t->nb_sets + 1U, 1);
	taken.program = calloc(t->nb_programs + 1U, 1);
	if (span == NULL || taken.identity == NULL || taken.set == NULL || taken.program == NULL)
		goto out;
	err = 0;
	if (dpu[0] != '\0')
		while (first + n < t->nb_endpoints &&
		    strcmp(t->endpoints[c->by_dpu[first + n]].dpu, dpu) == 0)
			n++;
	for (uint32_t i = first; err == 0 && i < first + n; i++) {
		err = policy_state_put(span, c->endpoint[c->by_dpu[i]]);
		if (err == 0)
			err = take_subject(c, t->endpoints[c->by_dpu[i]].attested, &taken, span);
		if (err == 0)
			err = take_subject(c, t->endpoints[c->by_dpu[i]].unattested, &taken, span);
	}
	/* Last, because being a peer as well must not take a subject's programs away. */
	for (uint32_t i = first; err == 0 && i < first + n; i++) {
		const struct policy_endpoint *e = &t->endpoints[c->by_dpu[i]];

		err = put_subject(c, e->attested, span);
		if (err == 0)
			err = put_subject(c, e->unattested, span);
	}
out:
	free(taken.identity);
	free(taken.set);
	free(taken.program);
	if (err != 0) {
		policy_state_destroy(span);
		return err;
	}
	if (nb_local != NULL)
		*nb_local = count_workloads(c, first, n);
	*out = span;
	return 0;
}

void
server_catalogue_dpus(
    const struct server_catalogue *c, void (*each)(void *arg, const char *dpu), void *arg)
{
	const struct policy_endpoint *e = c->table->endpoints;

	for (uint32_t i = 0; i < c->table->nb_endpoints; i++) {
		const char *dpu = e[c->by_dpu[i]].dpu;

		if (dpu[0] != '\0' && (i == 0 || strcmp(dpu, e[c->by_dpu[i - 1]].dpu) != 0))
			each(arg, dpu);
	}
}
