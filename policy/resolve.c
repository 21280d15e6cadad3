#include <stdio.h>
#include <string.h>

#include "policy/compile_priv.h"

/* References looked up, and with them what labels and ports matter. */

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
	compile_unknown(c, file, line, column, "unknown-group", "group", name, known, nb);
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
	uint32_t i = compile_group_find(c, tenant, p->group);

	if (i == NONE)
		unknown_group(c, file, p->line, p->column, tenant, p->group);
	return i;
}

static void
add_fqdn(struct compile *c, struct compile_group *g, const char *pattern)
{
	const char **slot = POLICY_PUSH(&g->fqdns);

	if (slot == NULL)
		c->nomem = 1;
	else
		*slot = pattern;
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
	case POLICY_PEER_FQDNS:
		for (uint32_t k = 0; k < p->fqdns.nb; k++)
			add_fqdn(c, g, p->fqdns.at[k]);
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
		for (size_t k = 0; k < inner->fqdns.nb; k++)
			add_fqdn(c, g, inner->fqdns.at[k]);
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
	if (p->group != NONE &&
	    (c->groups.at[p->group].has_networks || c->groups.at[p->group].fqdns.nb > 0))
		compile_error(c, m->file, s->line, s->column, "group-networks",
		    "group \"%s\" holds %s, and a policy applies to workloads only", s->group,
		    c->groups.at[p->group].has_networks ? "networks" : "fqdns");
}

static void
resolve_peers(
    struct compile *c, const struct policy_meta *m, int dir, const struct policy_rule_def *rule)
{
	const struct policy_peers *peers = &rule->peers;

	for (uint32_t i = 0; i < peers->nb && !c->nomem; i++) {
		const struct policy_peer *p = &peers->at[i];
		uint32_t group;

		if (p->kind == POLICY_PEER_WORKLOADS)
			compile_selector(
			    c, p->tenant != NULL ? p->tenant : m->tenant, &p->selector);
		if (p->kind != POLICY_PEER_GROUP)
			continue;
		group = find_group(c, m->file, p, m->tenant);
		if (group != NONE && c->groups.at[group].fqdns.nb > 0 &&
		    (dir != PK_EGRESS || rule->action != PK_VERDICT_ALLOW))
			compile_error(c, m->file, p->line, p->column, "bad-peer",
			    "group \"%s\": %s", p->group, POLICY_FQDNS_WHERE);
	}
}

void
compile_resolve_policy(struct compile *c, struct compile_policy *p)
{
	const struct policy_meta *m = &p->def->meta;

	resolve_subject(c, p);
	for (uint32_t t = 0; t < p->def->tests.nb && !c->nomem; t++) {
		struct policy_service_ref *ref = &p->def->tests.at[t].service;
		struct policy_services one = { .nb = 1, .at = ref };

		check_services(c, m->file, m->tenant, &one, 0);
	}
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		for (uint32_t r = 0; r < p->def->rules[d].nb && !c->nomem; r++) {
			resolve_peers(c, m, d, &p->def->rules[d].at[r]);
			check_services(c, m->file, m->tenant, &p->def->rules[d].at[r].services, 0);
		}
	}
}

void
compile_resolve(struct compile *c)
{
	for (size_t i = 0; i < c->all.services.nb && !c->nomem; i++) {
		const struct policy_service_def *s = c->all.services.at[i];

		check_services(c, s->meta.file, s->meta.tenant, &s->services, 1);
	}
	for (size_t i = 0; i < c->groups.nb && !c->nomem; i++)
		resolve_group(c, &c->groups.at[i]);
	for (size_t i = 0; i < c->policies.nb && !c->nomem; i++)
		compile_resolve_policy(c, &c->policies.at[i]);
}
