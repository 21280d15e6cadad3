#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"
#include "policy/k8s.h"

/* Gathering: everything together, and what can only be seen then. */

/*
 * The built-in tiers.  Only `application` ends in a refusal: a policy there says what its workloads
 * need, and so isolates them.  The tiers above exist to overrule, the one below to fill in, and
 * neither must refuse what it does not mention.  Those of Kubernetes stand below ours of like purpose.
 */
static const struct compile_tier builtin_tiers[] = {
	{ .name = "emergency", .order = 50, .end = PK_VERDICT_PASS },
	{ .name = "infrastructure", .order = 100, .end = PK_VERDICT_PASS },
	{ .name = "environment", .order = 150, .end = PK_VERDICT_PASS },
	{ .name = POLICY_K8S_ADMIN, .order = 175, .end = PK_VERDICT_PASS },
	{ .name = "application", .order = 200, .end = PK_VERDICT_DENY },
	{ .name = "baseline", .order = 250, .end = PK_VERDICT_PASS },
	{ .name = POLICY_K8S_BASELINE, .order = 251, .end = PK_VERDICT_PASS },
};

/* ---- names --------------------------------------------------------------------------------------- */

int
compile_by_meta(const void *va, const void *vb)
{
	const struct policy_meta *a = *(const struct policy_meta *const *)va;
	const struct policy_meta *b = *(const struct policy_meta *const *)vb;
	int d = strcmp(a->tenant, b->tenant);

	if (d == 0)
		d = strcmp(a->name, b->name);
	if (d == 0)
		d = strcmp(a->kind != NULL ? a->kind : "", b->kind != NULL ? b->kind : "");
	if (d == 0)
		d = strcmp(a->file, b->file);
	return d != 0 ? d : (a->line > b->line) - (a->line < b->line);
}

/* `first` was there before. */
void
compile_duplicate(struct compile *c, const struct policy_meta *first, const struct policy_meta *m,
    const char *kind, int global)
{
	compile_error(c, m->file, m->line, m->column, "duplicate-name",
	    "%s \"%s%s%s\" stands twice; the first is in %s:%u", m->kind != NULL ? m->kind : kind,
	    global ? "" : m->tenant, global ? "" : "/", m->name, first->file, first->line);
}

/*
 * Sort pointers to objects by name, whatever their files' order, and report names used twice.
 * `meta` is the first member of every object, so they are all alike here.
 */
static void
sort_objects(struct compile *c, void *at, size_t nb, const char *kind, int global)
{
	struct policy_meta **v = at;

	if (nb < 2)
		return;
	qsort(v, nb, sizeof(v[0]), compile_by_meta);
	for (size_t i = 1; i < nb; i++) {
		if (strcmp(v[i - 1]->tenant, v[i]->tenant) != 0 ||
		    strcmp(v[i - 1]->name, v[i]->name) != 0 || v[i - 1]->kind != v[i]->kind)
			continue;
		compile_duplicate(c, v[i - 1], v[i], kind, global);
	}
}

#define GATHER(c, field)                                                                           \
	do {                                                                                       \
		for (size_t i_ = 0; i_ < (c)->model->sources.nb; i_++) {                           \
			const struct policy_objects *o_ = &(c)->model->sources.at[i_]->objects;    \
			for (size_t k_ = 0; k_ < o_->field.nb && !(c)->nomem; k_++) {              \
				if (policy_grow(&(c)->all.field.at, &(c)->all.field.cap,           \
				        (c)->all.field.nb + 1, sizeof((c)->all.field.at[0])) < 0)  \
					(c)->nomem = 1;                                            \
				else                                                               \
					(c)->all.field.at[(c)->all.field.nb++] = o_->field.at[k_]; \
			}                                                                          \
		}                                                                                  \
	} while (0)

void
compile_gather(struct compile *c, struct policy_workload_def *const *extra, size_t nb_extra)
{
	GATHER(c, policies);
	GATHER(c, groups);
	GATHER(c, services);
	GATHER(c, tiers);
	GATHER(c, tenants);
	GATHER(c, workloads);
	GATHER(c, namespaces);
	GATHER(c, nodes);
	GATHER(c, rollouts);
	GATHER(c, roles);
	GATHER(c, references);
	GATHER(c, links);
	c->nb_real_workloads = c->all.workloads.nb;
	for (size_t i = 0; i < nb_extra && !c->nomem; i++) {
		struct policy_workload_def **slot = POLICY_PUSH(&c->all.workloads);

		if (slot == NULL)
			c->nomem = 1;
		else
			*slot = extra[i];
	}
	if (c->nomem)
		return;
	sort_objects(c, c->all.policies.at, c->all.policies.nb, "Policy", 0);
	sort_objects(c, c->all.groups.at, c->all.groups.nb, "Group", 0);
	sort_objects(c, c->all.services.at, c->all.services.nb, "Service", 0);
	sort_objects(c, c->all.tiers.at, c->all.tiers.nb, "Tier", 1);
	sort_objects(c, c->all.tenants.at, c->all.tenants.nb, "Tenant", 1);
	sort_objects(c, c->all.workloads.at, c->all.workloads.nb, "Workload", 0);
	sort_objects(c, c->all.roles.at, c->all.roles.nb, "Role", 1);
	sort_objects(c, c->all.references.at, c->all.references.nb, "Reference", 1);
	sort_objects(c, c->all.links.at, c->all.links.nb, "Link", 1);
	for (size_t i = 1; i < c->all.rollouts.nb; i++) {
		const struct policy_meta *m = &c->all.rollouts.at[i]->meta;

		compile_error(c, m->file, m->line, m->column, "duplicate-name",
		    "there is a Rollout already, in %s:%u; want one for all changes",
		    c->all.rollouts.at[0]->meta.file, c->all.rollouts.at[0]->meta.line);
	}
}

/* ---- tenants ------------------------------------------------------------------------------------- */

static struct compile_tenant *
tenant_add(struct compile *c, const char *name)
{
	uint32_t i = policy_map_get_text(&c->tenant_index, name);
	struct compile_tenant *t;

	if (i != NONE)
		return &c->tenants.at[i];
	i = (uint32_t)c->tenants.nb;
	t = POLICY_PUSH(&c->tenants);
	name = policy_arena_text(&c->arena, name);
	if (t == NULL || name == NULL || policy_map_put_text(&c->tenant_index, name, i) < 0) {
		c->nomem = 1;
		return NULL;
	}
	*t = (struct compile_tenant){ .name = name };
	return t;
}

/*
 * As soon as one tenant is declared all must be, but for "default": then a slip in a name is an
 * error.  While none is, a tenant is whatever somebody writes, so that a first policy needs no
 * ceremony.  It does not depend on workloads: their coming and going must never break a policy.  A
 * namespace of Kubernetes is declared over there.
 */
void
compile_tenant_use(struct compile *c, const char *name, int imported, const char *file,
    uint32_t line, uint32_t column)
{
	const char *known[256];
	size_t nb = 0;

	if (c->nomem || strcmp(name, POLICY_ALL_TENANTS) == 0)
		return;
	if (c->strict_tenants && !imported && strcmp(name, POLICY_TENANT) != 0 &&
	    policy_map_get_text(&c->tenant_index, name) == NONE) {
		for (size_t i = 0; i < c->tenants.nb && nb < PK_COUNT(known); i++)
			if (c->tenants.at[i].declared)
				known[nb++] = c->tenants.at[i].name;
		compile_unknown(c, file, line, column, "unknown-tenant", "tenant", name, known, nb);
		return;
	}
	tenant_add(c, name);
}

static void
tenant_use_peers(struct compile *c, const struct policy_meta *m, const struct policy_peers *peers)
{
	for (uint32_t i = 0; i < peers->nb; i++)
		if (peers->at[i].tenant != NULL)
			compile_tenant_use(c, peers->at[i].tenant, m->kind != NULL, m->file,
			    peers->at[i].line, peers->at[i].column);
}

static void
tenant_use_end(struct compile *c, const char *file, const struct policy_test_end *e)
{
	if (e->tenant != NULL)
		compile_tenant_use(c, e->tenant, 0, file, e->line, e->column);
}

/* Every tenant that a policy speaks of. */
void
compile_policy_tenants(struct compile *c, const struct policy_def *d)
{
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
		for (uint32_t r = 0; r < d->rules[dir].nb; r++)
			tenant_use_peers(c, &d->meta, &d->rules[dir].at[r].peers);
	for (uint32_t t = 0; t < d->tests.nb; t++) {
		tenant_use_end(c, d->meta.file, &d->tests.at[t].from);
		tenant_use_end(c, d->meta.file, &d->tests.at[t].to);
	}
}

void
compile_tenants(struct compile *c)
{
#define USE(v, imported)                                                                 \
	for (size_t i = 0; i < c->all.v.nb; i++) {                                       \
		const struct policy_meta *m = &c->all.v.at[i]->meta;                     \
		compile_tenant_use(c, m->tenant, imported, m->file, m->line, m->column); \
	}
	for (size_t i = 0; i < c->all.tenants.nb && !c->nomem; i++) {
		const struct policy_tenant_def *d = c->all.tenants.at[i];
		struct compile_tenant *t = tenant_add(c, d->meta.name);

		if (t != NULL) {
			t->verdict = (enum pk_verdict)d->verdict;
			t->declared = 1;
			c->strict_tenants |= strcmp(t->name, POLICY_TENANT) != 0;
		}
	}
	USE(policies, m->kind != NULL)
	USE(groups, 0)
	USE(services, 0)
	USE(workloads, c->all.workloads.at[i]->imported)
#undef USE
	for (size_t i = 0; i < c->all.policies.nb; i++)
		compile_policy_tenants(c, c->all.policies.at[i]);
	for (size_t i = 0; i < c->all.groups.nb; i++)
		tenant_use_peers(c, &c->all.groups.at[i]->meta, &c->all.groups.at[i]->members);
}

/* ---- tiers --------------------------------------------------------------------------------------- */

static const struct compile_tier *
tier_by_order(const struct compile *c, uint32_t order)
{
	for (size_t i = 0; i < c->tiers.nb; i++)
		if (c->tiers.at[i].order == order)
			return &c->tiers.at[i];
	return NULL;
}

static const struct compile_tier *
tier_by_name(const struct compile *c, const char *name)
{
	for (size_t i = 0; i < c->tiers.nb; i++)
		if (strcmp(c->tiers.at[i].name, name) == 0)
			return &c->tiers.at[i];
	return NULL;
}

void
compile_tiers(struct compile *c)
{
	for (size_t i = 0; i < PK_COUNT(builtin_tiers) + c->all.tiers.nb && !c->nomem; i++) {
		const struct policy_tier_def *d;
		const struct compile_tier *other;
		struct compile_tier *t, new;

		if (i < PK_COUNT(builtin_tiers)) {
			new = builtin_tiers[i];
		} else {
			d = c->all.tiers.at[i - PK_COUNT(builtin_tiers)];
			new = (struct compile_tier){ .name = d->meta.name,
				.order = (uint8_t)d->order,
				.end = (enum pk_verdict)d->end };
			other = tier_by_name(c, new.name);
			if (other != NULL) {
				/* Twice in files has been said already. */
				if (other - c->tiers.at < (ptrdiff_t)PK_COUNT(builtin_tiers))
					compile_error(c, d->meta.file, d->meta.line, d->meta.column,
					    "duplicate-name",
					    "tier \"%s\" is built in; choose another name",
					    new.name);
				continue;
			}
			other = tier_by_order(c, new.order);
			if (other != NULL) {
				compile_error(c, d->meta.file, d->meta.line, d->meta.column,
				    "equal-order",
				    "order %u is that of tier \"%s\"; no two tiers have the same",
				    new.order, other->name);
				continue;
			}
		}
		t = POLICY_PUSH(&c->tiers);
		if (t == NULL)
			c->nomem = 1;
		else
			*t = new;
	}
}

const char *
policy_tier_name(const struct policy_model *m, uint8_t order)
{
	for (size_t i = 0; i < PK_COUNT(builtin_tiers); i++)
		if (builtin_tiers[i].order == order)
			return builtin_tiers[i].name;
	for (size_t s = 0; s < m->sources.nb; s++)
		for (size_t i = 0; i < m->sources.at[s]->objects.tiers.nb; i++)
			if (m->sources.at[s]->objects.tiers.at[i]->order == order)
				return m->sources.at[s]->objects.tiers.at[i]->meta.name;
	return "end";
}

/* ---- policies in order --------------------------------------------------------------------------- */

int
compile_by_precedence(const void *va, const void *vb)
{
	const struct compile_policy *a = va, *b = vb;
	int a_all = strcmp(a->def->meta.tenant, POLICY_ALL_TENANTS) == 0;
	int b_all = strcmp(b->def->meta.tenant, POLICY_ALL_TENANTS) == 0;

	if (a->tier->order != b->tier->order)
		return a->tier->order < b->tier->order ? -1 : 1;
	if (a->def->priority != b->def->priority)
		return a->def->priority < b->def->priority ? -1 : 1;
	/* Whoever may write for all tenants comes before whoever may write for one. */
	if (a_all != b_all)
		return a_all ? -1 : 1;
	return compile_by_meta(&a->def, &b->def);
}

const struct compile_tier *
compile_policy_tier(struct compile *c, const struct policy_def *d)
{
	const struct compile_tier *tier = tier_by_name(c, d->tier);
	size_t nb = PK_MIN(c->tiers.nb, (size_t)256);
	const char *known[256];

	if (tier != NULL)
		return tier;
	for (size_t k = 0; k < nb; k++)
		known[k] = c->tiers.at[k].name;
	compile_unknown(c, d->meta.file, d->tier_line, d->tier_column, "unknown-tier", "tier",
	    d->tier, known, nb);
	return NULL;
}

/* `a` was there first. */
void
compile_equal_priority(
    struct compile *c, const struct compile_policy *a, const struct compile_policy *b)
{
	compile_error(c, b->def->meta.file, b->def->priority_line, b->def->priority_column,
	    "equal-priority",
	    "priority %u in tier %s is that of policy \"%s\" already (%s:%u); which comes first?",
	    b->def->priority, b->tier->name, a->def->meta.name, a->def->meta.file,
	    a->def->priority_line);
}

void
compile_order(struct compile *c)
{
	for (size_t i = 0; i < c->all.policies.nb && !c->nomem; i++) {
		const struct policy_def *d = c->all.policies.at[i];
		const struct compile_tier *tier = compile_policy_tier(c, d);
		struct compile_policy *p;

		if (tier == NULL)
			continue;
		p = POLICY_PUSH(&c->policies);
		if (p == NULL)
			c->nomem = 1;
		else
			*p = (struct compile_policy){
				.def = d, .tier = tier, .selector = NONE, .group = NONE
			};
	}
	if (c->policies.nb > 1)
		qsort(c->policies.at, c->policies.nb, sizeof(c->policies.at[0]),
		    compile_by_precedence);
	for (size_t i = 1; i < c->policies.nb; i++) {
		const struct compile_policy *a = &c->policies.at[i - 1], *b = &c->policies.at[i];

		/* In Kubernetes this is no mistake as long as nobody is the subject of both. */
		if (a->def->meta.kind != NULL || b->def->meta.kind != NULL)
			continue;
		if (a->tier == b->tier && a->def->priority == b->def->priority &&
		    strcmp(a->def->meta.tenant, b->def->meta.tenant) == 0)
			compile_equal_priority(c, a, b);
	}
}

/* ---- groups and services by name ----------------------------------------------------------------- */

void
compile_index_names(struct compile *c)
{
	for (size_t i = 0; i < c->all.services.nb && !c->nomem; i++) {
		const char *key = policy_meta_key(&c->arena, &c->all.services.at[i]->meta);

		if (key == NULL)
			c->nomem = 1;
		else if (policy_map_get_text(&c->service_index, key) == NONE &&
		    policy_map_put_text(&c->service_index, key, (uint32_t)i) < 0)
			c->nomem = 1;
	}
	for (size_t i = 0; i < c->all.groups.nb && !c->nomem; i++) {
		const char *key = policy_meta_key(&c->arena, &c->all.groups.at[i]->meta);
		struct compile_group *g = key != NULL ? POLICY_PUSH(&c->groups) : NULL;

		if (g == NULL) {
			c->nomem = 1;
			break;
		}
		*g = (struct compile_group){ .def = c->all.groups.at[i],
			.identity_set = NONE,
			.prefix_set = NONE,
			.joined = NONE };
		if (policy_map_get_text(&c->group_index, key) == NONE &&
		    policy_map_put_text(&c->group_index, key, (uint32_t)i) < 0)
			c->nomem = 1;
	}
}

/* The tenant's own, else the one for all tenants. */
static uint32_t
lookup(const struct policy_map *index, const char *tenant, const char *name)
{
	char key[2 * (POLICY_NAME_MAX + 2)];
	uint32_t i;

	snprintf(key, sizeof(key), "%s/%s", tenant, name);
	i = policy_map_get_text(index, key);
	if (i != NONE)
		return i;
	snprintf(key, sizeof(key), "%s/%s", POLICY_ALL_TENANTS, name);
	return policy_map_get_text(index, key);
}

uint32_t
compile_group_find(const struct compile *c, const char *tenant, const char *name)
{
	return lookup(&c->group_index, tenant, name);
}

const struct policy_service_def *
compile_service(struct compile *c, const char *tenant, const char *name)
{
	uint32_t i = lookup(&c->service_index, tenant, name);

	return i != NONE ? c->all.services.at[i] : NULL;
}
