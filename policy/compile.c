#include <errno.h>
#include <stdarg.h>
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
	{ "emergency", 50, PK_VERDICT_PASS },
	{ "infrastructure", 100, PK_VERDICT_PASS },
	{ "environment", 150, PK_VERDICT_PASS },
	{ POLICY_K8S_ADMIN, 175, PK_VERDICT_PASS },
	{ "application", 200, PK_VERDICT_DENY },
	{ "baseline", 250, PK_VERDICT_PASS },
	{ POLICY_K8S_BASELINE, 251, PK_VERDICT_PASS },
};

static void
report(struct compile *c, enum policy_severity severity, const char *file, uint32_t line,
    uint32_t column, const char *code, const char *fmt, va_list ap)
{
	char text[PK_DIAG_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	policy_findings_add(c->findings, severity, file, line, column, code, "%s", text);
}

void
compile_error(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *code,
    const char *fmt, ...)
{
	va_list ap;

	c->errors++;
	va_start(ap, fmt);
	report(c, POLICY_ERROR, file, line, column, code, fmt, ap);
	va_end(ap);
}

void
compile_warn(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *code,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, POLICY_WARNING, file, line, column, code, fmt, ap);
	va_end(ap);
}

int
compile_push(struct compile *c, numbers *v, uint32_t value)
{
	uint32_t *slot = POLICY_PUSH(v);

	if (slot == NULL) {
		c->nomem = 1;
		return -1;
	}
	*slot = value;
	return 0;
}

/* `unknown WHAT "word"...`, with a suggestion out of `known`. */
static void
unknown(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *code,
    const char *what, const char *word, const char *const *known, size_t nb)
{
	const char *near = pk_suggest(word, known, nb);
	char list[256];

	if (near != NULL)
		compile_error(c, file, line, column, code,
		    "unknown %s \"%s\"; did you mean \"%s\"?", what, word, near);
	else if (nb > 0)
		compile_error(c, file, line, column, code, "unknown %s \"%s\"; known: %s", what,
		    word, policy_words_text(list, sizeof(list), known, nb));
	else
		compile_error(
		    c, file, line, column, code, "unknown %s \"%s\"; none is defined", what, word);
}

/* ---- names --------------------------------------------------------------------------------------- */

static int
by_meta(const void *va, const void *vb)
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
	qsort(v, nb, sizeof(v[0]), by_meta);
	for (size_t i = 1; i < nb; i++) {
		if (strcmp(v[i - 1]->tenant, v[i]->tenant) != 0 ||
		    strcmp(v[i - 1]->name, v[i]->name) != 0 || v[i - 1]->kind != v[i]->kind)
			continue;
		compile_error(c, v[i]->file, v[i]->line, v[i]->column, "duplicate-name",
		    "%s \"%s%s%s\" stands twice; the first is in %s:%u",
		    v[i]->kind != NULL ? v[i]->kind : kind, global ? "" : v[i]->tenant,
		    global ? "" : "/", v[i]->name, v[i - 1]->file, v[i - 1]->line);
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

static void
gather(struct compile *c, struct policy_workload_def *const *extra, size_t nb_extra)
{
	GATHER(c, policies);
	GATHER(c, groups);
	GATHER(c, services);
	GATHER(c, tiers);
	GATHER(c, tenants);
	GATHER(c, workloads);
	GATHER(c, namespaces);
	GATHER(c, nodes);
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
	if (t == NULL || policy_map_put_text(&c->tenant_index, name, i) < 0) {
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
static void
tenant_use(struct compile *c, const char *name, int imported, const char *file, uint32_t line,
    uint32_t column)
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
		unknown(c, file, line, column, "unknown-tenant", "tenant", name, known, nb);
		return;
	}
	tenant_add(c, name);
}

static void
tenant_use_peers(struct compile *c, const struct policy_meta *m, const struct policy_peers *peers)
{
	for (uint32_t i = 0; i < peers->nb; i++)
		if (peers->at[i].tenant != NULL)
			tenant_use(c, peers->at[i].tenant, m->kind != NULL, m->file,
			    peers->at[i].line, peers->at[i].column);
}

static void
tenant_use_end(struct compile *c, const char *file, const struct policy_test_end *e)
{
	if (e->tenant != NULL)
		tenant_use(c, e->tenant, 0, file, e->line, e->column);
}

static void
find_tenants(struct compile *c)
{
#define USE(v, imported)                                                         \
	for (size_t i = 0; i < c->all.v.nb; i++) {                               \
		const struct policy_meta *m = &c->all.v.at[i]->meta;             \
		tenant_use(c, m->tenant, imported, m->file, m->line, m->column); \
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
	for (size_t i = 0; i < c->all.policies.nb; i++) {
		const struct policy_def *d = c->all.policies.at[i];

		for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
			for (uint32_t r = 0; r < d->rules[dir].nb; r++)
				tenant_use_peers(c, &d->meta, &d->rules[dir].at[r].peers);
		for (uint32_t t = 0; t < d->tests.nb; t++) {
			tenant_use_end(c, d->meta.file, &d->tests.at[t].from);
			tenant_use_end(c, d->meta.file, &d->tests.at[t].to);
		}
	}
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

static void
find_tiers(struct compile *c)
{
	for (size_t i = 0; i < PK_COUNT(builtin_tiers) + c->all.tiers.nb && !c->nomem; i++) {
		const struct policy_tier_def *d;
		const struct compile_tier *other;
		struct compile_tier *t, new;

		if (i < PK_COUNT(builtin_tiers)) {
			new = builtin_tiers[i];
		} else {
			d = c->all.tiers.at[i - PK_COUNT(builtin_tiers)];
			new = (struct compile_tier){ d->meta.name, (uint8_t)d->order,
				(enum pk_verdict)d->end };
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

/* ---- policies in order --------------------------------------------------------------------------- */

static int
by_precedence(const void *va, const void *vb)
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
	return by_meta(&a->def, &b->def);
}

static void
order_policies(struct compile *c)
{
	for (size_t i = 0; i < c->all.policies.nb && !c->nomem; i++) {
		const struct policy_def *d = c->all.policies.at[i];
		const struct compile_tier *tier = tier_by_name(c, d->tier);
		struct compile_policy *p;

		if (tier == NULL) {
			const char *known[256];
			size_t nb = PK_MIN(c->tiers.nb, PK_COUNT(known));

			for (size_t k = 0; k < nb; k++)
				known[k] = c->tiers.at[k].name;
			unknown(c, d->meta.file, d->tier_line, d->tier_column, "unknown-tier",
			    "tier", d->tier, known, nb);
			continue;
		}
		p = POLICY_PUSH(&c->policies);
		if (p == NULL)
			c->nomem = 1;
		else
			*p = (struct compile_policy){
				.def = d, .tier = tier, .selector = NONE, .group = NONE
			};
	}
	if (c->policies.nb > 1)
		qsort(c->policies.at, c->policies.nb, sizeof(c->policies.at[0]), by_precedence);
	for (size_t i = 1; i < c->policies.nb; i++) {
		const struct compile_policy *a = &c->policies.at[i - 1], *b = &c->policies.at[i];

		/* In Kubernetes this is no mistake as long as nobody is the subject of both. */
		if (a->def->meta.kind != NULL || b->def->meta.kind != NULL)
			continue;
		if (a->tier == b->tier && a->def->priority == b->def->priority &&
		    strcmp(a->def->meta.tenant, b->def->meta.tenant) == 0)
			compile_error(c, b->def->meta.file, b->def->priority_line,
			    b->def->priority_column, "equal-priority",
			    "priority %u in tier %s is that of policy \"%s\" already (%s:%u); which comes first?",
			    b->def->priority, b->tier->name, a->def->meta.name, a->def->meta.file,
			    a->def->priority_line);
	}
}

/* ---- groups and services by name ----------------------------------------------------------------- */

static void
index_names(struct compile *c)
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

static int
visible(const struct policy_meta *m, const char *tenant)
{
	return strcmp(m->tenant, tenant) == 0 || strcmp(m->tenant, POLICY_ALL_TENANTS) == 0;
}

static void
unknown_service(
    struct compile *c, const char *file, const char *tenant, const struct policy_service_ref *ref)
{
	size_t nb_builtin, nb;
	const char *const *builtin = policy_service_names(&nb_builtin);
	const char *known[256], *near;

	nb = PK_MIN(nb_builtin, PK_COUNT(known));
	memcpy(known, builtin, nb * sizeof(known[0]));
	for (size_t i = 0; i < c->all.services.nb && nb < PK_COUNT(known); i++)
		if (visible(&c->all.services.at[i]->meta, tenant))
			known[nb++] = c->all.services.at[i]->meta.name;
	near = pk_suggest(ref->name, known, nb);
	if (near != NULL)
		compile_error(c, file, ref->line, ref->column, "unknown-service",
		    "unknown service \"%s\"; did you mean \"%s\"?", ref->name, near);
	else
		compile_error(c, file, ref->line, ref->column, "unknown-service",
		    "unknown service \"%s\"; define it with kind Service, or write port/%s if it is the name of a port",
		    ref->name, ref->name);
}

static void
unknown_group(struct compile *c, const char *file, uint32_t line, uint32_t column,
    const char *tenant, const char *name)
{
	const char *known[256];
	size_t nb = 0;

	for (size_t i = 0; i < c->groups.nb && nb < PK_COUNT(known); i++)
		if (visible(&c->groups.at[i].def->meta, tenant))
			known[nb++] = c->groups.at[i].def->meta.name;
	unknown(c, file, line, column, "unknown-group", "group", name, known, nb);
}

/* ---- what labels and ports matter ----------------------------------------------------------------- */

static void
check_services(struct compile *c, const char *file, const char *tenant,
    const struct policy_services *s, int in_service)
{
	for (uint32_t i = 0; i < s->nb && !c->nomem; i++) {
		const struct policy_service_ref *ref = &s->at[i];

		if (ref->kind == POLICY_SERVICE_PORT)
			compile_matters(c, compile_symbol(c, ref->name));
		else if (ref->kind == POLICY_SERVICE_NAME && in_service)
			compile_error(c, file, ref->line, ref->column, "unknown-service",
			    "a Service lists ports and built-in services, and \"%s\" is neither",
			    ref->name);
		else if (ref->kind == POLICY_SERVICE_NAME &&
		    compile_service(c, tenant, ref->name) == NULL)
			unknown_service(c, file, tenant, ref);
	}
}

static void resolve_group(struct compile *c, struct compile_group *g);

static uint32_t
find_group(struct compile *c, const char *file, const struct policy_peer *p, const char *tenant)
{
	uint32_t i = lookup(&c->group_index, tenant, p->group);

	if (i == NONE)
		unknown_group(c, file, p->line, p->column, tenant, p->group);
	return i;
}

static void
resolve_member(struct compile *c, struct compile_group *g, const struct policy_peer *p)
{
	const struct policy_meta *m = &g->def->meta;
	struct compile_group *inner;
	uint32_t i;

	switch (p->kind) {
	case POLICY_PEER_WORKLOADS:
		i = compile_selector(c, p->tenant != NULL ? p->tenant : m->tenant, &p->selector);
		if (!c->nomem)
			compile_push(c, &g->selectors, i);
		break;
	case POLICY_PEER_NETWORKS:
		g->has_networks = 1;
		if (policy_networks_add(&g->networks, p->networks.at, p->networks.nb, p->except.at,
		        p->except.nb) < 0)
			c->nomem = 1;
		break;
	case POLICY_PEER_GROUP:
		i = find_group(c, m->file, p, m->tenant);
		if (i == NONE)
			break;
		inner = &c->groups.at[i];
		if (inner->state == GROUP_OPEN) {
			compile_error(c, m->file, p->line, p->column, "group-cycle",
			    "group \"%s\" is a member of itself by way of \"%s\"", m->name,
			    p->group);
			break;
		}
		resolve_group(c, inner);
		if (inner->joined == (uint32_t)(g - c->groups.at))
			break;
		inner->joined = (uint32_t)(g - c->groups.at);
		for (size_t k = 0; k < inner->selectors.nb && !c->nomem; k++)
			compile_push(c, &g->selectors, inner->selectors.at[k]);
		g->has_networks |= inner->has_networks;
		if (policy_networks_join(&g->networks, &inner->networks) < 0)
			c->nomem = 1;
		break;
	case POLICY_PEER_ANY:
		break; /* refused when read */
	}
}

#define GROUP_DEPTH_MAX 32

static void
resolve_group(struct compile *c, struct compile_group *g)
{
	if (g->state != GROUP_NEW || c->nomem)
		return;
	if (c->group_depth == GROUP_DEPTH_MAX) {
		compile_error(c, g->def->meta.file, g->def->meta.line, g->def->meta.column,
		    "too-deep", "groups stand more than %d deep in each other", GROUP_DEPTH_MAX);
		return;
	}
	c->group_depth++;
	g->state = GROUP_OPEN;
	for (uint32_t i = 0; i < g->def->members.nb && !c->nomem; i++)
		resolve_member(c, g, &g->def->members.at[i]);
	g->state = GROUP_DONE;
	c->group_depth--;
}

static void
resolve_subject(struct compile *c, struct compile_policy *p)
{
	static const struct policy_selector everybody;
	const struct policy_meta *m = &p->def->meta;
	const struct policy_peer *s = &p->def->subject;

	if (s->kind != POLICY_PEER_GROUP) {
		p->selector = compile_selector(
		    c, m->tenant, s->kind == POLICY_PEER_WORKLOADS ? &s->selector : &everybody);
		return;
	}
	p->group = find_group(c, m->file, s, m->tenant);
	if (p->group != NONE && c->groups.at[p->group].has_networks)
		compile_error(c, m->file, s->line, s->column, "group-networks",
		    "group \"%s\" holds networks, and a policy applies to workloads only",
		    s->group);
}

static void
resolve_peers(struct compile *c, const struct policy_meta *m, const struct policy_peers *peers)
{
	for (uint32_t i = 0; i < peers->nb && !c->nomem; i++) {
		const struct policy_peer *p = &peers->at[i];

		if (p->kind == POLICY_PEER_WORKLOADS)
			compile_selector(
			    c, p->tenant != NULL ? p->tenant : m->tenant, &p->selector);
		else if (p->kind == POLICY_PEER_GROUP)
			find_group(c, m->file, p, m->tenant);
	}
}

static void
resolve(struct compile *c)
{
	for (size_t i = 0; i < c->all.services.nb && !c->nomem; i++) {
		const struct policy_service_def *s = c->all.services.at[i];

		check_services(c, s->meta.file, s->meta.tenant, &s->services, 1);
	}
	for (size_t i = 0; i < c->groups.nb && !c->nomem; i++)
		resolve_group(c, &c->groups.at[i]);
	for (size_t i = 0; i < c->policies.nb && !c->nomem; i++) {
		struct compile_policy *p = &c->policies.at[i];
		const struct policy_meta *m = &p->def->meta;

		resolve_subject(c, p);
		for (uint32_t t = 0; t < p->def->tests.nb && !c->nomem; t++) {
			struct policy_service_ref *ref = &p->def->tests.at[t].service;
			struct policy_services one = { .nb = 1, .at = ref };

			check_services(c, m->file, m->tenant, &one, 0);
		}
		for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
			for (uint32_t r = 0; r < p->def->rules[d].nb && !c->nomem; r++) {
				resolve_peers(c, m, &p->def->rules[d].at[r].peers);
				check_services(
				    c, m->file, m->tenant, &p->def->rules[d].at[r].services, 0);
			}
		}
	}
}

/* ---- addresses ----------------------------------------------------------------------------------- */

static int
by_address(const void *va, const void *vb)
{
	const struct compile_place *a = va, *b = vb;
	int d;

	if (a->workload->vrf != b->workload->vrf)
		return a->workload->vrf < b->workload->vrf ? -1 : 1;
	d = pk_addr_compare(&a->address->addr, &b->address->addr);
	if (d == 0)
		d = by_meta(&a->workload, &b->workload);
	return d != 0 ? d : (a->address > b->address) - (a->address < b->address);
}

static void
find_places(struct compile *c)
{
	struct compile_place *at;
	size_t nb = 0;

	for (size_t i = 0; i < c->all.workloads.nb; i++)
		nb += c->all.workloads.at[i]->addresses.nb;
	at = policy_arena_array(&c->arena, nb, sizeof(at[0]));
	if (at == NULL) {
		c->nomem = 1;
		return;
	}
	c->places = at;
	for (size_t i = 0; i < c->all.workloads.nb; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];

		for (uint32_t a = 0; a < w->addresses.nb; a++)
			at[c->nb_places++] =
			    (struct compile_place){ w, &w->addresses.at[a], (uint32_t)i };
	}
	if (nb > 1)
		qsort(at, nb, sizeof(at[0]), by_address);
	for (size_t i = 1; i < nb; i++) {
		const struct policy_workload_def *a = at[i - 1].workload, *b = at[i].workload;
		char text[PK_ADDR_TEXT];

		if (a->vrf != b->vrf ||
		    pk_addr_compare(&at[i - 1].address->addr, &at[i].address->addr) != 0)
			continue;
		compile_error(c, b->meta.file, at[i].address->line, at[i].address->column,
		    "duplicate-address", "address %s is that of workload \"%s/%s\" already (%s:%u)",
		    pk_addr_text(&at[i].address->addr, text), a->meta.tenant, a->meta.name,
		    a->meta.file, at[i - 1].address->line);
	}
}

static void
lay_out_endpoints(struct compile *c)
{
	struct policy_arena *arena = &c->table->arena;
	struct policy_endpoint *out;
	struct policy_map dpus = { 0 };
	POLICY_VECTOR(const char *) dpu_names = { 0 };
	const struct compile_place *at = c->places;
	size_t nb = c->nb_places;

	out = policy_arena_array(arena, nb, sizeof(out[0]));
	if (out == NULL) {
		c->nomem = 1;
		return;
	}
	for (size_t i = 0; i < nb; i++) {
		const struct policy_workload_def *w = at[i].workload;
		const char **slot;
		uint32_t dpu = policy_map_get_text(&dpus, w->dpu);

		if (dpu == NONE) {
			dpu = (uint32_t)dpu_names.nb;
			slot = POLICY_PUSH(&dpu_names);
			if (slot == NULL || (*slot = policy_arena_text(arena, w->dpu)) == NULL ||
			    policy_map_put_text(&dpus, *slot, dpu) < 0) {
				c->nomem = 1;
				break;
			}
		}
		out[i] = (struct policy_endpoint){ .name = policy_meta_key(arena, &w->meta),
			.dpu = dpu_names.at[dpu],
			.vrf = w->vrf,
			.attested = c->identities.at[c->workload_identity[at[i].index]].id,
			.unattested = c->identities.at[c->workload_unattested[at[i].index]].id,
			.wire = (uint16_t)w->wire,
			.has_mac = w->has_mac,
			.addr = at[i].address->addr };
		out[i].identity = policy_model_attested(c->model, w->dpu) ? out[i].attested
		                                                          : out[i].unattested;
		memcpy(out[i].mac, w->mac, sizeof(out[i].mac));
		if (out[i].name == NULL) {
			c->nomem = 1;
			break;
		}
	}
	c->table->t.endpoints = out;
	c->table->t.nb_endpoints = (uint32_t)nb;
	policy_map_fini(&dpus);
	free(dpu_names.at);
}

static int
by_unplaced(const void *a, const void *b)
{
	return strcmp(
	    ((const struct policy_unplaced *)a)->name, ((const struct policy_unplaced *)b)->name);
}

static void
lay_out_unplaced(struct compile *c)
{
	struct policy_unplaced *out;
	uint32_t nb = 0;

	for (size_t i = 0; i < c->all.workloads.nb; i++)
		nb += c->all.workloads.at[i]->addresses.nb == 0;
	out = policy_arena_array(&c->table->arena, nb, sizeof(out[0]));
	if (out == NULL) {
		c->nomem = 1;
		return;
	}
	c->table->t.unplaced = out;
	for (size_t i = 0; i < c->all.workloads.nb; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];

		if (w->addresses.nb > 0)
			continue;
		out->name = policy_meta_key(&c->table->arena, &w->meta);
		out->identity = c->identities.at[c->workload_identity[i]].id;
		if (out++->name == NULL) {
			c->nomem = 1;
			return;
		}
	}
	/* By tenant and name is not quite by both as one text. */
	if (nb > 1)
		qsort(out - nb, nb, sizeof(out[0]), by_unplaced);
	c->table->t.nb_unplaced = nb;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

#define FREE_VECTORS(v, member)                         \
	do {                                            \
		for (size_t i_ = 0; i_ < (v)->nb; i_++) \
			free((v)->at[i_].member.at);    \
	} while (0)

static void
compile_fini(struct compile *c)
{
	policy_objects_fini(&c->all);
	FREE_VECTORS(&c->groups, selectors);
	for (size_t i = 0; i < c->groups.nb; i++)
		policy_networks_fini(&c->groups.at[i].networks);
	FREE_VECTORS(&c->selectors, members);
	FREE_VECTORS(&c->identities, policies);
	FREE_VECTORS(&c->sets, members);
	FREE_VECTORS(&c->programs, templates);
	for (size_t i = 0; i < c->policies.nb; i++) {
		for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
			for (uint32_t r = 0; r < c->policies.at[i].nb_rules[d]; r++) {
				struct compile_rule *rule = &c->policies.at[i].rules[d][r];

				free(rule->sets.at);
				free(rule->services.at);
				free(rule->ports.at);
				free(rule->templates.at);
			}
		}
	}
	free(c->tenants.at);
	free(c->tiers.at);
	free(c->groups.at);
	free(c->policies.at);
	free(c->symbols.at);
	free(c->matters.at);
	free(c->selectors.at);
	free(c->identities.at);
	free(c->sets.at);
	free(c->templates.at);
	free(c->programs.at);
	free(c->texts.at);
	policy_map_fini(&c->tenant_index);
	policy_map_fini(&c->group_index);
	policy_map_fini(&c->service_index);
	policy_map_fini(&c->symbol_index);
	policy_map_fini(&c->selector_index);
	policy_map_fini(&c->set_index);
	policy_map_fini(&c->template_index);
	policy_map_fini(&c->program_index);
	policy_map_fini(&c->text_index);
	policy_hash_fini(&c->hash);
	policy_arena_fini(&c->arena);
	policy_table_destroy(c->table != NULL ? &c->table->t : NULL);
	free(c);
}

int
policy_compile_with(const struct policy_model *m, struct policy_workload_def *const *extra,
    size_t nb_extra, struct policy_ids *ids, struct policy_table **out, struct policy_findings *f)
{
	/* A step is taken when the one before left nothing to complain of that would mislead it. */
	void (*const steps[])(struct compile *) = { policy_k8s_join, find_tenants, find_tiers,
		order_policies, index_names, resolve, find_places, compile_identities,
		lay_out_endpoints, lay_out_unplaced, compile_members, compile_layout };
	struct compile *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (c == NULL)
		return -ENOMEM;
	c->model = m;
	c->ids = ids;
	c->findings = f;
	c->table = calloc(1, sizeof(*c->table));
	if (c->table == NULL || policy_hash_init(&c->hash) < 0)
		c->nomem = 1;
	else
		gather(c, extra, nb_extra);
	for (size_t i = 0; i < PK_COUNT(steps) && !c->nomem; i++) {
		/* Numbers are given out for good, so not for what will be refused. */
		if (steps[i] == compile_identities && c->errors > 0)
			break;
		steps[i](c);
	}
	rc = c->nomem ? -ENOMEM : c->errors > 0 ? -EINVAL : 0;
	if (rc == 0) {
		*out = &c->table->t;
		c->table = NULL;
	}
	compile_fini(c);
	return rc;
}

int
policy_compile(const struct policy_model *m, struct policy_ids *ids, struct policy_table **out,
    struct policy_findings *f)
{
	return policy_compile_with(m, NULL, 0, ids, out, f);
}
