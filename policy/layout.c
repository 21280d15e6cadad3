#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"

/*
 * Peers to sets, rules to templates.
 *
 * A named port is resolved per destination.  For an ingress rule that is the subject, so the rule
 * becomes a variant of itself for each kind of subject; for an egress rule it is the peer, so the
 * rule is split into parts, each with those of its peers that agree on the number.  Variants and
 * parts keep the rule's id, and so share its hit counter.
 */

/* ---- texts in the table -------------------------------------------------------------------------- */

const char *
compile_text(struct compile *c, const char *text)
{
	uint32_t i = policy_map_get_text(&c->text_index, text);
	const char **slot;

	if (i != NONE)
		return c->texts.at[i];
	i = (uint32_t)c->texts.nb;
	slot = POLICY_PUSH(&c->texts);
	if (slot == NULL || (*slot = policy_arena_text(&c->table->arena, text)) == NULL ||
	    policy_map_put_text(&c->text_index, *slot, i) < 0) {
		c->nomem = 1;
		return "";
	}
	return *slot;
}

/* ---- sets ---------------------------------------------------------------------------------------- */

static uint32_t
add_set(struct compile *c, uint64_t id, enum pk_set_kind kind, const char *name)
{
	const uint64_t *key = policy_arena_copy(&c->arena, &id, sizeof(id));
	uint32_t i = policy_map_get(&c->set_index, &id, sizeof(id));
	struct compile_set *s;

	if (i != NONE) {
		/* Equal sets were found before they came here, so these are two with one number. */
		compile_error(c, "policy", 0, 0, "collision",
		    "\"%s\" and \"%s\" have the same hash", c->sets.at[i].set.name, name);
		return i;
	}
	i = (uint32_t)c->sets.nb;
	s = POLICY_PUSH(&c->sets);
	if (key == NULL || s == NULL || policy_map_put(&c->set_index, key, sizeof(*key), i) < 0) {
		c->nomem = 1;
		return 0;
	}
	*s = (struct compile_set){ .set = { .id = id, .kind = kind, .name = compile_text(c, name) },
		.selector = NONE,
		.group = NONE };
	return i;
}

static void
copy_members(struct compile *c, uint32_t set, const numbers *from)
{
	for (size_t i = 0; i < from->nb && !c->nomem; i++)
		compile_push(c, &c->sets.at[set].members, from->at[i]);
}

uint64_t
compile_name_hash(struct compile *c, const char *kind, const char *name)
{
	policy_hash_begin(&c->hash);
	policy_hash_add_text(&c->hash, kind);
	policy_hash_add_text(&c->hash, name);
	return policy_hash_end(&c->hash);
}

static uint32_t
set_of_selector(struct compile *c, uint32_t selector)
{
	struct compile_selector *s = &c->selectors.at[selector];

	if (s->set == NONE) {
		s->set = add_set(
		    c, compile_name_hash(c, "workloads", s->text), PK_SET_IDENTITY, s->text);
		if (!c->nomem) {
			c->sets.at[s->set].selector = selector;
			copy_members(c, s->set, &s->members);
		}
	}
	return s->set;
}

static void
unique(numbers *v)
{
	size_t kept = 0;

	if (v->nb < 2)
		return;
	qsort(v->at, v->nb, sizeof(v->at[0]), compile_by_number);
	for (size_t i = 0; i < v->nb; i++)
		if (kept == 0 || v->at[kept - 1] != v->at[i])
			v->at[kept++] = v->at[i];
	v->nb = kept;
}

/* A group's sets are named after the group, so that its members may change under the rules. */
static void
make_group_sets(struct compile *c, struct compile_group *g)
{
	const char *key = policy_meta_key(&c->arena, &g->def->meta);
	struct policy_set *s;
	int rc;

	if (key == NULL) {
		c->nomem = 1;
		return;
	}
	if (g->selectors.nb > 0 && g->identity_set == NONE) {
		unique(&g->selectors);
		g->identity_set =
		    add_set(c, compile_name_hash(c, "group", key), PK_SET_IDENTITY, key);
		if (!c->nomem)
			c->sets.at[g->identity_set].group = (uint32_t)(g - c->groups.at);
		for (size_t i = 0; i < g->selectors.nb && !c->nomem; i++)
			copy_members(
			    c, g->identity_set, &c->selectors.at[g->selectors.at[i]].members);
		if (!c->nomem)
			unique(&c->sets.at[g->identity_set].members);
	}
	if (g->has_networks && g->prefix_set == NONE && !c->nomem) {
		g->prefix_set =
		    add_set(c, compile_name_hash(c, "group-networks", key), PK_SET_PREFIX, key);
		if (c->nomem)
			return;
		c->sets.at[g->prefix_set].group = (uint32_t)(g - c->groups.at);
		s = &c->sets.at[g->prefix_set].set;
		rc = policy_networks_prefixes(
		    &g->networks, &c->table->arena, &s->prefixes, &s->nb_members);
		if (rc == -E2BIG)
			compile_error(c, g->def->meta.file, g->def->meta.line, g->def->meta.column,
			    "too-large",
			    "the networks of group \"%s\" come to more than %d prefixes",
			    g->def->meta.name, POLICY_PREFIXES_MAX);
		else if (rc < 0)
			c->nomem = 1;
	}
}

static uint32_t
set_of_fqdn(struct compile *c, const char *pattern)
{
	uint64_t id = compile_name_hash(c, "fqdn", pattern);
	uint32_t set = policy_map_get(&c->set_index, &id, sizeof(id));

	if (set != NONE && c->sets.at[set].set.kind == PK_SET_NAME &&
	    strcmp(c->sets.at[set].set.name, pattern) == 0)
		return set;
	return add_set(c, id, PK_SET_NAME, pattern);
}

static uint32_t
set_of_networks(struct compile *c, const char *file, const struct policy_peer *p)
{
	struct policy_networks n = { 0 };
	const struct pk_prefix *prefixes = NULL;
	char text[PK_PREFIX_TEXT], name[PK_NAME_MAX];
	uint32_t nb = 0, set = NONE;
	uint64_t id;
	int rc =
	    policy_networks_add(&n, p->networks.at, p->networks.nb, p->except.at, p->except.nb);

	if (rc == 0)
		rc = policy_networks_prefixes(&n, &c->table->arena, &prefixes, &nb);
	policy_networks_fini(&n);
	if (rc == -E2BIG) {
		compile_error(c, file, p->line, p->column, "too-large",
		    "these networks come to more than %d prefixes", POLICY_PREFIXES_MAX);
		return NONE;
	}
	if (rc < 0) {
		c->nomem = 1;
		return NONE;
	}
	policy_hash_begin(&c->hash);
	policy_hash_add_text(&c->hash, "networks");
	for (uint32_t i = 0; i < nb; i++)
		policy_hash_add_text(&c->hash, pk_prefix_text(&prefixes[i], text));
	id = policy_hash_end(&c->hash);
	set = policy_map_get(&c->set_index, &id, sizeof(id));
	if (set != NONE) {
		const struct policy_set *s = &c->sets.at[set].set;

		if (s->kind == PK_SET_PREFIX && s->nb_members == nb &&
		    memcmp(s->prefixes, prefixes, nb * sizeof(prefixes[0])) == 0)
			return set;
	}
	snprintf(name, sizeof(name), "%s%s%s", pk_prefix_text(&p->networks.at[0], text),
	    p->networks.nb > 1 ? " and others" : "", p->except.nb > 0 ? " with exceptions" : "");
	set = add_set(c, id, PK_SET_PREFIX, name);
	if (!c->nomem) {
		c->sets.at[set].set.prefixes = prefixes;
		c->sets.at[set].set.nb_members = nb;
	}
	return set;
}

/* ---- warnings ------------------------------------------------------------------------------------ */

/* The word that was probably meant in a requirement nobody meets, or NULL. */
static const char *
suggest_value(struct compile *c, const struct policy_selector *s, const char **key)
{
	const char *known[256];

	for (uint32_t q = 0; q < s->nb; q++) {
		size_t nb = 0;
		int met = 0;

		if (s->at[q].op != POLICY_IN || s->at[q].nb != 1)
			continue;
		for (size_t i = 0; i < c->all.workloads.nb && !met && nb < PK_COUNT(known); i++) {
			const struct policy_labels *l = &c->all.workloads.at[i]->meta.labels;

			for (uint32_t k = 0; k < l->nb; k++) {
				if (strcmp(l->at[k].key, s->at[q].key) != 0)
					continue;
				met |= strcmp(l->at[k].value, s->at[q].values[0]) == 0;
				if (nb < PK_COUNT(known) &&
				    (nb == 0 || strcmp(known[nb - 1], l->at[k].value) != 0))
					known[nb++] = l->at[k].value;
			}
		}
		*key = s->at[q].key;
		if (!met && nb > 0)
			return pk_suggest(s->at[q].values[0], known, nb);
	}
	return NULL;
}

static void
warn_nobody(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *what,
    const struct compile_selector *s)
{
	const char *key = NULL, *near;

	/* A policy looked at without an inventory matches nobody, and nobody is surprised. */
	if (c->findings == NULL || c->nb_real_workloads == 0 || s->members.nb > 0)
		return;
	near = suggest_value(c, s->source, &key);
	if (near != NULL)
		compile_warn(c, file, line, column, "matches-nothing",
		    "%s: no workload matches %s; did you mean %s=%s?", what, s->text, key, near);
	else
		compile_warn(c, file, line, column, "matches-nothing", "%s: no workload matches %s",
		    what, s->text);
}

static int
peers_cover(const struct compile_rule *outer, const struct compile_rule *inner)
{
	if (outer->rule.any_peer)
		return 1;
	if (inner->rule.any_peer)
		return 0;
	for (size_t i = 0; i < inner->sets.nb; i++) {
		size_t o = 0;

		while (o < outer->sets.nb && outer->sets.at[o] != inner->sets.at[i])
			o++;
		if (o == outer->sets.nb)
			return 0;
	}
	return 1;
}

static int
ports_cover(const struct compile_rule *outer, const struct compile_rule *inner)
{
	for (size_t i = 0; i < inner->ports.nb; i++) {
		size_t o = 0;

		while (o < outer->ports.nb &&
		    (outer->ports.at[o].name != inner->ports.at[i].name ||
		        outer->ports.at[o].proto != inner->ports.at[i].proto))
			o++;
		if (o == outer->ports.nb)
			return 0;
	}
	return 1;
}

static int
services_cover(const struct compile_rule *outer, const struct compile_rule *inner)
{
	if (policy_rule_conditional(&outer->rule))
		return 0; /* what speaks otherwise, or comes at another time, goes on to the inner one */
	if (outer->rule.any_service)
		return 1;
	return !inner->rule.any_service &&
	    policy_services_cover(outer->services.at, (uint32_t)outer->services.nb,
	        inner->services.at, (uint32_t)inner->services.nb) &&
	    ports_cover(outer, inner);
}

#define SHADOW_MAX 64 /* rules before it that each is compared with */

/* The cheap cases: a rule that a single earlier one of its policy leaves nothing to. */
static void
warn_shadowed(struct compile *c, const struct compile_policy *p, int dir)
{
	for (uint32_t i = 1; i < p->nb_rules[dir]; i++) {
		const struct compile_rule *inner = &p->rules[dir][i];

		for (uint32_t k = i > SHADOW_MAX ? i - SHADOW_MAX : 0; k < i; k++) {
			const struct compile_rule *outer = &p->rules[dir][k];

			if (!peers_cover(outer, inner) || !services_cover(outer, inner))
				continue;
			compile_warn(c, p->def->meta.file, inner->def->line, inner->def->column,
			    "shadowed",
			    "rule \"%s\" never decides: rule \"%s\" in line %u matches all that it matches",
			    inner->def->name, outer->def->name, outer->def->line);
			break;
		}
	}
}

/* ---- rules --------------------------------------------------------------------------------------- */

static void
rule_peers(struct compile *c, const struct policy_meta *m, struct compile_rule *r)
{
	const struct policy_peers *peers = &r->def->peers;

	if (peers->any) {
		r->rule.any_peer = 1;
		return;
	}
	for (uint32_t i = 0; i < peers->nb && !c->nomem; i++) {
		const struct policy_peer *p = &peers->at[i];
		uint32_t set = NONE, k;

		switch (p->kind) {
		case POLICY_PEER_WORKLOADS:
			k = compile_selector(
			    c, p->tenant != NULL ? p->tenant : m->tenant, &p->selector);
			if (c->nomem)
				return;
			warn_nobody(
			    c, m->file, p->line, p->column, r->def->name, &c->selectors.at[k]);
			set = set_of_selector(c, k);
			break;
		case POLICY_PEER_NETWORKS:
			set = set_of_networks(c, m->file, p);
			break;
		case POLICY_PEER_FQDNS:
			for (uint32_t n = 0; n < p->fqdns.nb && !c->nomem; n++)
				compile_push(c, &r->sets, set_of_fqdn(c, p->fqdns.at[n]));
			break;
		case POLICY_PEER_GROUP:
			k = compile_group_find(c, m->tenant, p->group);
			PK_ASSERT(k != NONE);
			for (size_t n = 0; n < c->groups.at[k].fqdns.nb && !c->nomem; n++)
				compile_push(
				    c, &r->sets, set_of_fqdn(c, c->groups.at[k].fqdns.at[n]));
			make_group_sets(c, &c->groups.at[k]);
			set = c->groups.at[k].identity_set;
			if (c->groups.at[k].prefix_set != NONE && !c->nomem)
				compile_push(c, &r->sets, c->groups.at[k].prefix_set);
			break;
		case POLICY_PEER_ANY:
			break;
		}
		if (set != NONE && !c->nomem)
			compile_push(c, &r->sets, set);
	}
	unique(&r->sets);
}

static void
add_services(struct compile *c, const char *tenant, const struct policy_services *from,
    struct compile_rule *r)
{
	r->rule.any_service |= from->any != 0;
	for (uint32_t i = 0; i < from->nb && !c->nomem; i++) {
		const struct policy_service_ref *ref = &from->at[i];
		struct compile_named_port *port;

		switch (ref->kind) {
		case POLICY_SERVICE_LITERAL:
			for (unsigned int k = 0; k < ref->nb; k++) {
				struct pk_service *slot = POLICY_PUSH(&r->services);

				if (slot == NULL)
					c->nomem = 1;
				else
					*slot = ref->at[k];
			}
			break;
		case POLICY_SERVICE_NAME:
			/* A Service holds no names, so this goes no deeper. */
			add_services(
			    c, tenant, &compile_service(c, tenant, ref->name)->services, r);
			break;
		case POLICY_SERVICE_PORT:
			port = POLICY_PUSH(&r->ports);
			if (port == NULL)
				c->nomem = 1;
			else
				*port = (struct compile_named_port){ compile_symbol(c, ref->name),
					ref->proto };
			break;
		}
	}
}

static uint64_t
rule_id(struct compile *c, const struct policy_meta *m, int dir, const char *name)
{
	policy_hash_begin(&c->hash);
	policy_hash_add_text(&c->hash, "rule");
	policy_hash_add_text(&c->hash, m->tenant);
	policy_hash_add_text(&c->hash, m->name);
	if (m->kind != NULL)
		policy_hash_add_text(&c->hash, m->kind);
	policy_hash_add_u64(&c->hash, (uint64_t)dir);
	policy_hash_add_text(&c->hash, name);
	return policy_hash_end(&c->hash);
}

/* Texts are in the table once each, so equal ones are one pointer. */
static int
same_rule(const struct policy_rule *a, const struct policy_rule *b)
{
	return a->id == b->id && a->verdict == b->verdict && a->log == b->log &&
	    a->flags == b->flags && a->tier == b->tier && a->any_peer == b->any_peer &&
	    a->any_service == b->any_service && a->nb_peers == b->nb_peers &&
	    a->nb_services == b->nb_services && a->policy == b->policy && a->name == b->name &&
	    a->file == b->file && a->line == b->line &&
	    memcmp(&a->terms, &b->terms, sizeof(a->terms)) == 0 &&
	    memcmp(&a->schedule, &b->schedule, sizeof(a->schedule)) == 0 &&
	    a->nb_apps == b->nb_apps &&
	    (a->nb_apps == 0 || memcmp(a->apps, b->apps, a->nb_apps * sizeof(a->apps[0])) == 0) &&
	    (a->nb_peers == 0 ||
	        memcmp(a->peers, b->peers, a->nb_peers * sizeof(a->peers[0])) == 0) &&
	    (a->nb_services == 0 ||
	        memcmp(a->services, b->services, a->nb_services * sizeof(a->services[0])) == 0);
}

uint32_t
compile_template(struct compile *c, const struct policy_rule *base, const numbers *sets,
    const struct pk_service *services, uint32_t nb_services)
{
	struct compile_template t = { .rule = *base }, *slot;
	uint64_t *peers = policy_arena_array(&c->table->arena, sets->nb, sizeof(peers[0]));
	uint64_t *key;
	uint32_t i;

	if (peers == NULL) {
		c->nomem = 1;
		return 0;
	}
	for (size_t s = 0; s < sets->nb; s++)
		peers[s] = c->sets.at[sets->at[s]].set.id;
	if (sets->nb > 1)
		qsort(peers, sets->nb, sizeof(peers[0]), compile_by_id);
	t.rule.peers = peers;
	t.rule.nb_peers = (uint32_t)sets->nb;
	t.rule.nb_services = nb_services;
	policy_hash_begin(&c->hash);
	policy_hash_add_u64(&c->hash, t.rule.id);
	policy_hash_add_u64(&c->hash,
	    (uint64_t)t.rule.verdict << 40 | (uint64_t)t.rule.log << 32 |
	        (uint64_t)t.rule.flags << 24 | (uint64_t)t.rule.tier << 16 |
	        (uint64_t)t.rule.any_peer << 8 | t.rule.any_service);
	policy_hash_add_u64(&c->hash, (uint64_t)t.rule.nb_peers << 32 | nb_services);
	for (uint32_t p = 0; p < t.rule.nb_peers; p++)
		policy_hash_add_u64(&c->hash, peers[p]);
	for (uint32_t s = 0; s < nb_services; s++)
		policy_hash_add_u64(&c->hash,
		    (uint64_t)services[s].proto << 32 | (uint64_t)services[s].low << 16 |
		        services[s].high);
	/* Not for none: the numbers of all other rules stay what they have been. */
	if (t.rule.nb_apps > 0)
		policy_hash_add_text(&c->hash, "apps");
	for (uint32_t a = 0; a < t.rule.nb_apps; a++)
		policy_hash_add_u64(&c->hash, t.rule.apps[a]);
	if (pk_rule_terms_any(&t.rule.terms)) {
		policy_hash_add_text(&c->hash, "terms");
		policy_hash_add(&c->hash, &t.rule.terms, sizeof(t.rule.terms));
	}
	if (t.rule.schedule.days != 0) {
		policy_hash_add_text(&c->hash, "schedule");
		policy_hash_add(&c->hash, &t.rule.schedule, sizeof(t.rule.schedule));
	}
	policy_hash_add_text(&c->hash, t.rule.policy);
	policy_hash_add_text(&c->hash, t.rule.name);
	policy_hash_add_text(&c->hash, t.rule.file);
	policy_hash_add_u64(&c->hash, t.rule.line);
	t.hash = policy_hash_end(&c->hash);
	t.rule.services = services;
	i = policy_map_get(&c->template_index, &t.hash, sizeof(t.hash));
	if (i != NONE) {
		if (!same_rule(&c->templates.at[i].rule, &t.rule))
			compile_error(c, t.rule.file, t.rule.line, 0, "collision",
			    "rules \"%s\" and \"%s\" have the same hash", t.rule.name,
			    c->templates.at[i].rule.name);
		return i;
	}
	i = (uint32_t)c->templates.nb;
	t.rule.services =
	    policy_arena_copy(&c->table->arena, services, nb_services * sizeof(services[0]));
	key = policy_arena_copy(&c->arena, &t.hash, sizeof(t.hash));
	slot = POLICY_PUSH(&c->templates);
	if (t.rule.services == NULL || key == NULL || slot == NULL ||
	    policy_map_put(&c->template_index, key, sizeof(*key), i) < 0) {
		c->nomem = 1;
		return 0;
	}
	*slot = t;
	return i;
}

/* ---- named ports --------------------------------------------------------------------------------- */

static int
port_matches(const struct compile_named_port *want, const struct compile_port *have)
{
	return want->name == have->name &&
	    (want->proto == PK_PROTO_ANY || want->proto == have->proto);
}

/* Distinct numbers that a name stands for among all identities, with those who mean it. */
struct resolution {
	struct pk_service service;
	numbers identities;
};

typedef POLICY_VECTOR(struct resolution) resolutions;

static void
resolve_port(struct compile *c, const struct compile_named_port *want, resolutions *out)
{
	for (size_t i = 0; i < c->identities.nb && !c->nomem; i++) {
		const struct compile_identity *id = &c->identities.at[i];

		for (uint32_t p = 0; p < id->nb_ports; p++) {
			const struct compile_port *have = &id->ports[p];
			struct resolution *r;
			size_t k = 0;

			if (!port_matches(want, have))
				continue;
			while (k < out->nb &&
			    (out->at[k].service.proto != have->proto ||
			        out->at[k].service.low != have->port))
				k++;
			if (k == out->nb) {
				r = POLICY_PUSH(out);
				if (r == NULL) {
					c->nomem = 1;
					return;
				}
				*r = (struct resolution){ .service = { .proto = have->proto,
					                      .low = have->port,
					                      .high = have->port } };
			}
			compile_push(c, &out->at[k].identities, (uint32_t)i);
		}
	}
}

static int
has_number(const numbers *v, uint32_t value)
{
	return v->nb > 0 && bsearch(&value, v->at, v->nb, sizeof(value), compile_by_number) != NULL;
}

/*
 * Addresses of a prefix set whose owners mean this number, as a set of host prefixes.  This is the
 * one place where a rule comes to depend on addresses: a set cannot say "both of two sets".
 */
static void
narrow_prefixes(struct compile *c, const struct policy_set *from, const struct resolution *r,
    struct policy_networks *out)
{
	for (size_t i = 0; i < c->nb_places; i++) {
		struct pk_prefix host = { .addr = c->places[i].address->addr };
		uint32_t low = 0, high = from->nb_members;

		if (!has_number(&r->identities, c->workload_identity[c->places[i].index]) &&
		    !has_number(&r->identities, c->workload_unattested[c->places[i].index]))
			continue;
		host.len = (uint8_t)pk_addr_bits(&host.addr);
		/* They are disjoint, so it is in the last that starts no later, or in none. */
		while (low < high) {
			uint32_t mid = low + (high - low) / 2;

			if (pk_addr_compare(&from->prefixes[mid].addr, &host.addr) <= 0)
				low = mid + 1;
			else
				high = mid;
		}
		if (low > 0 && pk_prefix_contains(&from->prefixes[low - 1], &host.addr) &&
		    policy_networks_add(out, &host, 1, NULL, 0) < 0)
			c->nomem = 1;
	}
}

/* Those of a set (NONE: of all workloads) who mean this number by the name. */
static uint32_t
narrow_set(struct compile *c, uint32_t from, const char *port, const struct resolution *r)
{
	const struct policy_set *base = from != NONE ? &c->sets.at[from].set : NULL;
	enum pk_set_kind kind = base != NULL ? base->kind : PK_SET_IDENTITY;
	struct policy_networks n = { 0 };
	char service[32], name[2 * PK_NAME_MAX];
	uint64_t id;
	uint32_t set;

	policy_service_text(service, sizeof(service), &r->service);
	snprintf(name, sizeof(name), "%.128s with %.63s=%s", base != NULL ? base->name : "any",
	    port, service);
	policy_hash_begin(&c->hash);
	policy_hash_add_text(&c->hash, "port");
	policy_hash_add_u64(&c->hash, base != NULL ? base->id : 0);
	policy_hash_add_text(&c->hash, port);
	policy_hash_add_text(&c->hash, service);
	id = policy_hash_end(&c->hash);
	set = policy_map_get(&c->set_index, &id, sizeof(id));
	if (set != NONE && c->sets.at[set].set.kind == kind &&
	    strcmp(c->sets.at[set].set.name, name) == 0)
		return set;
	set = add_set(c, id, kind, name);
	if (c->nomem)
		return NONE;
	if (kind == PK_SET_PREFIX) {
		narrow_prefixes(c, &c->sets.at[from].set, r, &n);
		if (policy_networks_prefixes(&n, &c->table->arena, &c->sets.at[set].set.prefixes,
		        &c->sets.at[set].set.nb_members) < 0)
			c->nomem = 1;
		policy_networks_fini(&n);
		return set;
	}
	for (size_t i = 0; i < r->identities.nb && !c->nomem; i++)
		if (from == NONE || has_number(&c->sets.at[from].members, r->identities.at[i]))
			compile_push(c, &c->sets.at[set].members, r->identities.at[i]);
	return set;
}

static void
split_egress(struct compile *c, struct compile_rule *r)
{
	for (size_t p = 0; p < r->ports.nb && !c->nomem; p++) {
		const char *port = c->symbols.at[r->ports.at[p].name];
		resolutions v = { 0 };

		resolve_port(c, &r->ports.at[p], &v);
		for (size_t i = 0; i < v.nb && !c->nomem; i++) {
			struct policy_rule part = r->rule;
			numbers sets = { 0 };

			if (r->rule.any_peer)
				compile_push(c, &sets, narrow_set(c, NONE, port, &v.at[i]));
			/* Who is behind a name is nobody whose ports have names. */
			for (size_t s = 0; s < r->sets.nb && !c->nomem; s++)
				if (c->sets.at[r->sets.at[s]].set.kind != PK_SET_NAME)
					compile_push(
					    c, &sets, narrow_set(c, r->sets.at[s], port, &v.at[i]));
			part.any_peer = 0;
			if (!c->nomem)
				compile_push(c, &r->templates,
				    compile_template(c, &part, &sets, &v.at[i].service, 1));
			free(sets.at);
		}
		for (size_t i = 0; i < v.nb; i++)
			free(v.at[i].identities.at);
		free(v.at);
	}
}

uint32_t
compile_variant(struct compile *c, const struct compile_rule *r, const struct compile_identity *id)
{
	struct pk_service *services;
	uint32_t nb = 0, variant = NONE;

	services = calloc(r->services.nb + r->ports.nb * id->nb_ports + 1, sizeof(services[0]));
	if (services == NULL) {
		c->nomem = 1;
		return NONE;
	}
	for (size_t i = 0; i < r->services.nb; i++)
		services[nb++] = r->services.at[i];
	for (size_t i = 0; i < r->ports.nb; i++)
		for (uint32_t p = 0; p < id->nb_ports; p++)
			if (port_matches(&r->ports.at[i], &id->ports[p]))
				services[nb++] = (struct pk_service){ .proto = id->ports[p].proto,
					.low = id->ports[p].port,
					.high = id->ports[p].port };
	nb = policy_services_normalise(services, nb);
	if (nb > 0)
		variant = compile_template(c, &r->rule, &r->sets, services, nb);
	free(services);
	return variant;
}

static void
warn_ports(struct compile *c, const struct policy_meta *m, const struct compile_rule *r)
{
	for (size_t i = 0; i < r->ports.nb && c->nb_real_workloads > 0; i++) {
		const char *name = c->symbols.at[r->ports.at[i].name];
		int found = 0;

		for (size_t k = 0; k < c->identities.nb && !found; k++)
			for (uint32_t p = 0; p < c->identities.at[k].nb_ports; p++)
				found |=
				    port_matches(&r->ports.at[i], &c->identities.at[k].ports[p]);
		if (!found)
			compile_warn(c, m->file, r->def->line, r->def->column, "matches-nothing",
			    "%s: no workload has a port of name \"%s\"", r->def->name, name);
	}
}

/* A rule about applications is one about TCP and UDP, where there is something to be read. */
static void
add_apps(struct compile *c, const struct policy_meta *m, struct compile_rule *r)
{
	static const struct pk_service readable[] = { { IPPROTO_TCP, 0, 0, UINT16_MAX },
		{ IPPROTO_UDP, 0, 0, UINT16_MAX } };
	const struct policy_apps *apps = &r->def->apps;

	if (apps->nb == 0)
		return;
	r->rule.apps =
	    policy_arena_copy(&c->table->arena, apps->at, apps->nb * sizeof(apps->at[0]));
	if (r->rule.apps == NULL) {
		c->nomem = 1;
		return;
	}
	r->rule.nb_apps = apps->nb;
	for (size_t i = 0; i < r->services.nb && !r->rule.any_service; i++) {
		uint8_t proto = r->services.at[i].proto;

		if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
			continue;
		compile_error(c, m->file, r->def->line, r->def->column, "bad-app",
		    "rule \"%s\" names applications, so its services have to be of TCP or UDP",
		    r->def->name);
		return;
	}
	if (!r->rule.any_service)
		return;
	r->rule.any_service = 0;
	r->services.nb = r->ports.nb = 0;
	for (size_t i = 0; i < PK_COUNT(readable); i++) {
		struct pk_service *s = POLICY_PUSH(&r->services);

		if (s == NULL)
			c->nomem = 1;
		else
			*s = readable[i];
	}
}

static void
make_rule(struct compile *c, const struct compile_policy *p, int dir, struct compile_rule *r)
{
	const struct policy_meta *m = &p->def->meta;

	r->rule = (struct policy_rule){ .terms = r->def->terms,
		.schedule = r->def->schedule,
		.verdict = (enum pk_verdict)r->def->action,
		.log = (enum pk_log_mode)r->def->log,
		.flags = p->def->mode == POLICY_AUDIT ? PK_RULE_AUDIT : 0,
		.tier = p->tier->order,
		.policy = compile_text(c, m->name),
		.name = compile_text(c, r->def->name),
		.file = compile_text(c, m->file),
		.line = r->def->line };
	r->rule.id = rule_id(c, m, dir, r->def->name);
	rule_peers(c, m, r);
	add_services(c, m->tenant, &r->def->services, r);
	add_apps(c, m, r);
	if (c->nomem)
		return;
	r->services.nb = policy_services_normalise(r->services.at, (uint32_t)r->services.nb);
	if (r->rule.any_service)
		r->services.nb = r->ports.nb = 0;
	warn_ports(c, m, r);
	if (r->ports.nb > 0 && dir == PK_INGRESS)
		return; /* a variant for each subject */
	if (r->rule.any_service || r->services.nb > 0)
		compile_push(c, &r->templates,
		    compile_template(
		        c, &r->rule, &r->sets, r->services.at, (uint32_t)r->services.nb));
	split_egress(c, r);
}

/* ---- subjects ------------------------------------------------------------------------------------ */

/* In a compilation that lives it is live.c that finds the subjects. */
static void
add_subjects(
    struct compile *c, const struct compile_policy *p, uint32_t policy, const numbers *members)
{
	const char *tenant = p->def->meta.tenant;
	int all = strcmp(tenant, POLICY_ALL_TENANTS) == 0;
	uint32_t t = policy_map_get_text(&c->tenant_index, tenant);

	for (size_t i = 0; i < members->nb && !c->nomem && !c->lives; i++) {
		struct compile_identity *id = &c->identities.at[members->at[i]];

		/* A group may reach into other tenants; a policy never does. */
		if (!all && id->tenant != t)
			continue;
		if (id->policies.nb == 0 || id->policies.at[id->policies.nb - 1] != policy)
			compile_push(c, &id->policies, policy);
	}
}

void
compile_policy(struct compile *c, uint32_t i)
{
	struct compile_policy *p = &c->policies.at[i];
	const struct policy_meta *m = &p->def->meta;

	for (int d = 0; d < PK_DIRECTION_COUNT && !c->nomem; d++) {
		const struct policy_rules_def *rules = &p->def->rules[d];

		p->rules[d] = policy_arena_array(&c->arena, rules->nb, sizeof(p->rules[d][0]));
		if (p->rules[d] == NULL) {
			c->nomem = 1;
			return;
		}
		for (uint32_t r = 0; r < rules->nb && !c->nomem; r++) {
			p->rules[d][r].def = &rules->at[r];
			p->nb_rules[d] = r + 1;
			make_rule(c, p, d, &p->rules[d][r]);
		}
		if (!c->nomem)
			warn_shadowed(c, p, d);
	}
	if (c->nomem)
		return;
	if (p->group != NONE) {
		const struct compile_group *g = &c->groups.at[p->group];

		for (size_t s = 0; s < g->selectors.nb; s++)
			add_subjects(c, p, i, &c->selectors.at[g->selectors.at[s]].members);
	} else {
		warn_nobody(c, m->file, p->def->subject.line != 0 ? p->def->subject.line : m->line,
		    p->def->subject.line != 0 ? p->def->subject.column : m->column, "appliesTo",
		    &c->selectors.at[p->selector]);
		add_subjects(c, p, i, &c->selectors.at[p->selector].members);
	}
}

void
compile_rules(struct compile *c)
{
	size_t nb = 0;

	for (size_t i = 0; i < c->policies.nb; i++)
		for (int d = 0; d < PK_DIRECTION_COUNT; d++)
			nb += c->policies.at[i].def->rules[d].nb;
	if (policy_map_reserve(&c->template_index, nb) < 0 ||
	    policy_map_reserve(&c->set_index, c->selectors.nb) < 0 ||
	    policy_grow(&c->templates.at, &c->templates.cap, nb, sizeof(c->templates.at[0])) < 0)
		c->nomem = 1;
	for (uint32_t i = 0; i < c->policies.nb && !c->nomem; i++)
		compile_policy(c, i);
}
