#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"
#include "policy/k8s.h"

/* Tiers to programs, and everything into the table. */

/* ---- programs ------------------------------------------------------------------------------------ */

/* A rule nobody wrote: everything from everybody.  Every program ends with some, so *made remembers each. */
static uint32_t
default_template(struct compile *c, const char *kind, const char *what, uint8_t tier,
    enum pk_verdict verdict, uint8_t flags, uint32_t *made)
{
	static const numbers nobody;
	struct policy_rule r = { .verdict = verdict,
		.tier = tier,
		.any_peer = 1,
		.any_service = 1,
		.flags = PK_RULE_DEFAULT | flags };
	char name[POLICY_NAME_MAX + sizeof("namespace ")];

	if (*made != 0)
		return *made - 1;
	snprintf(name, sizeof(name), "%s %s", kind, what);
	r.policy = compile_text(c, "default");
	r.name = compile_text(c, name);
	r.file = compile_text(c, "");
	r.id = compile_name_hash(c, flags & PK_RULE_AUDIT ? "default-audit" : "default", name);
	if (!c->nomem)
		*made = compile_template(c, &r, &nobody, NULL, 0) + 1;
	if (c->nomem)
		*made = 0;
	return c->nomem ? 0 : *made - 1;
}

static void
push_rule(struct compile *c, numbers *out, const struct compile_rule *r, int dir,
    const struct compile_identity *id)
{
	uint32_t variant;

	if (dir == PK_INGRESS && r->ports.nb > 0) {
		variant = compile_variant(c, r, id);
		if (variant != NONE && !c->nomem)
			compile_push(c, out, variant);
		return;
	}
	for (size_t i = 0; i < r->templates.nb && !c->nomem; i++)
		compile_push(c, out, r->templates.at[i]);
}

/*
 * Lay out what judges an identity: tier by tier the rules of its policies in order, and at the end
 * of a tier that refuses, the refusal, if a policy there spoke for this direction.  A policy in
 * audit mode isolates in audit only.
 */
static void
lay_out_program(struct compile *c, const struct compile_identity *id, int dir, numbers *out)
{
	struct compile_tenant *t = &c->tenants.at[id->tenant];
	/* Unless somebody has declared the namespace a tenant, and so said what holds there. */
	int open = id->imported && !t->declared;
	size_t i = 0;

	while (i < id->policies.nb && !c->nomem) {
		const struct compile_tier *tier = c->policies.at[id->policies.at[i]].tier;
		int enforced = 0, audited = 0;

		for (; i < id->policies.nb; i++) {
			const struct compile_policy *p = &c->policies.at[id->policies.at[i]];

			if (p->tier != tier)
				break;
			if (p->def->rules[dir].given && p->def->mode == POLICY_AUDIT)
				audited = 1;
			else if (p->def->rules[dir].given)
				enforced = 1;
			for (uint32_t r = 0; r < p->nb_rules[dir] && !c->nomem; r++)
				push_rule(c, out, &p->rules[dir][r], dir, id);
		}
		if (tier->end == PK_VERDICT_DENY && !c->nomem && (enforced || audited))
			compile_push(c, out,
			    default_template(c, "tier", tier->name, tier->order, PK_VERDICT_DENY,
			        enforced ? 0 : PK_RULE_AUDIT,
			        &c->tiers.at[tier - c->tiers.at].refusal[enforced]));
	}
	if (!c->nomem)
		compile_push(c, out,
		    open ? default_template(c, "namespace", t->name, UINT8_MAX, PK_VERDICT_ALLOW, 0,
		               &t->open_end)
		         : default_template(
		               c, "tenant", t->name, UINT8_MAX, t->verdict, 0, &t->end));
}

static uint32_t
file_program(struct compile *c, int dir, const numbers *templates)
{
	struct compile_program *p;
	uint64_t id, *key;
	uint32_t i;

	policy_hash_begin(&c->hash);
	policy_hash_add_text(&c->hash, "program");
	policy_hash_add_u64(&c->hash, (uint64_t)dir);
	for (size_t k = 0; k < templates->nb; k++)
		policy_hash_add_u64(&c->hash, c->templates.at[templates->at[k]].hash);
	id = policy_hash_end(&c->hash);
	i = policy_map_get(&c->program_index, &id, sizeof(id));
	if (i != NONE) {
		p = &c->programs.at[i];
		if (p->direction != (enum pk_direction)dir || p->templates.nb != templates->nb ||
		    memcmp(p->templates.at, templates->at, templates->nb * sizeof(uint32_t)) != 0)
			compile_error(
			    c, "policy", 0, 0, "collision", "two programs have the same hash");
		return i;
	}
	i = (uint32_t)c->programs.nb;
	key = policy_arena_copy(&c->arena, &id, sizeof(id));
	p = POLICY_PUSH(&c->programs);
	if (key == NULL || p == NULL ||
	    policy_map_put(&c->program_index, key, sizeof(*key), i) < 0) {
		c->nomem = 1;
		return 0;
	}
	*p = (struct compile_program){ .id = id, .direction = (enum pk_direction)dir };
	for (size_t k = 0; k < templates->nb && !c->nomem; k++)
		compile_push(c, &p->templates, templates->at[k]);
	c->nb_rules += templates->nb;
	return i;
}

uint32_t
compile_program(struct compile *c, const struct compile_identity *id, int dir)
{
	c->layout.nb = 0;
	lay_out_program(c, id, dir, &c->layout);
	return c->nomem ? 0 : file_program(c, dir, &c->layout);
}

void
compile_program_rules(
    const struct compile *c, const struct compile_program *p, struct policy_rule *out)
{
	for (size_t k = 0; k < p->templates.nb; k++)
		out[k] = c->templates.at[p->templates.at[k]].rule;
}

/* All that programs depend on: tenant, named ports, policies.  Who agrees in these shares programs. */
static void
program_key(struct compile *c, const struct compile_identity *id, numbers *out)
{
	out->nb = 0;
	compile_push(c, out, id->tenant);
	compile_push(c, out, (uint32_t)id->imported);
	compile_push(c, out, id->nb_ports);
	for (uint32_t i = 0; i < id->nb_ports && !c->nomem; i++) {
		compile_push(c, out, id->ports[i].name);
		compile_push(c, out, (uint32_t)id->ports[i].proto << 16 | id->ports[i].port);
	}
	for (size_t i = 0; i < id->policies.nb && !c->nomem; i++)
		compile_push(c, out, id->policies.at[i]);
}

static void
make_programs(struct compile *c)
{
	struct policy_map index = { 0 }; /* key -> first identity with it */
	numbers key = { 0 };

	for (size_t i = 0; i < c->identities.nb && !c->nomem; i++) {
		struct compile_identity *id = &c->identities.at[i];
		uint32_t *own, like;

		program_key(c, id, &key);
		if (c->nomem)
			break;
		like = policy_map_get(&index, key.at, key.nb * sizeof(key.at[0]));
		if (like != NONE) {
			memcpy(id->program, c->identities.at[like].program, sizeof(id->program));
			continue;
		}
		own = policy_arena_copy(&c->arena, key.at, key.nb * sizeof(key.at[0]));
		if (own == NULL ||
		    policy_map_put(&index, own, key.nb * sizeof(key.at[0]), (uint32_t)i) < 0) {
			c->nomem = 1;
			break;
		}
		for (int d = 0; d < PK_DIRECTION_COUNT && !c->nomem; d++) {
			uint32_t p = compile_program(c, id, d);

			if (!c->nomem)
				id->program[d] = c->programs.at[p].id;
		}
		if (c->nb_rules > POLICY_RULES_MAX) {
			compile_error(c, "policy", 0, 0, "too-large",
			    "the programs come to more than %d rules", POLICY_RULES_MAX);
			break;
		}
	}
	free(key.at);
	policy_map_fini(&index);
}

/* ---- the table ----------------------------------------------------------------------------------- */

static int
by_program(const void *va, const void *vb)
{
	return compile_by_id(
	    &((const struct policy_program *)va)->id, &((const struct policy_program *)vb)->id);
}

static int
by_set(const void *va, const void *vb)
{
	return compile_by_id(
	    &((const struct policy_set *)va)->id, &((const struct policy_set *)vb)->id);
}

static int
by_identity(const void *va, const void *vb)
{
	return compile_by_number(
	    &((const struct policy_identity *)va)->id, &((const struct policy_identity *)vb)->id);
}

static int
fill_programs(struct compile *c, struct policy_table *t)
{
	struct policy_arena *arena = &c->table->arena;
	struct policy_program *out = policy_arena_array(arena, c->programs.nb, sizeof(out[0]));

	if (out == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->programs.nb; i++) {
		const struct compile_program *p = &c->programs.at[i];
		struct policy_rule *rules =
		    policy_arena_array(arena, p->templates.nb, sizeof(rules[0]));

		if (rules == NULL)
			return -ENOMEM;
		compile_program_rules(c, p, rules);
		out[i] = (struct policy_program){ .id = p->id,
			.direction = p->direction,
			.nb_rules = (uint32_t)p->templates.nb,
			.rules = rules };
	}
	if (c->programs.nb > 1)
		qsort(out, c->programs.nb, sizeof(out[0]), by_program);
	t->programs = out;
	t->nb_programs = (uint32_t)c->programs.nb;
	return 0;
}

static int
fill_sets(struct compile *c, struct policy_table *t)
{
	struct policy_arena *arena = &c->table->arena;
	struct policy_set *out = policy_arena_array(arena, c->sets.nb, sizeof(out[0]));

	if (out == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->sets.nb; i++) {
		const struct compile_set *s = &c->sets.at[i];
		uint32_t *ids;

		out[i] = s->set;
		if (s->set.kind != PK_SET_IDENTITY)
			continue;
		ids = policy_arena_array(arena, s->members.nb, sizeof(ids[0]));
		if (ids == NULL)
			return -ENOMEM;
		for (size_t k = 0; k < s->members.nb; k++)
			ids[k] = c->identities.at[s->members.at[k]].id;
		if (s->members.nb > 1)
			qsort(ids, s->members.nb, sizeof(ids[0]), compile_by_number);
		out[i].identities = ids;
		out[i].nb_members = (uint32_t)s->members.nb;
	}
	if (c->sets.nb > 1)
		qsort(out, c->sets.nb, sizeof(out[0]), by_set);
	t->sets = out;
	t->nb_sets = (uint32_t)c->sets.nb;
	return 0;
}

static int
fill_identities(struct compile *c, struct policy_table *t)
{
	struct policy_arena *arena = &c->table->arena;
	struct policy_identity *out = policy_arena_array(arena, c->identities.nb, sizeof(out[0]));

	if (out == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->identities.nb; i++) {
		const struct compile_identity *id = &c->identities.at[i];
		const struct compile_tenant *tenant = &c->tenants.at[id->tenant];

		out[i] = (struct policy_identity){ .id = id->id,
			.tenant = tenant->number,
			.tenant_name = compile_text(c, tenant->name),
			.labels = policy_arena_text(arena, id->labels) };
		memcpy(out[i].program, id->program, sizeof(out[i].program));
		if (out[i].labels == NULL || c->nomem)
			return -ENOMEM;
	}
	if (c->identities.nb > 1)
		qsort(out, c->identities.nb, sizeof(out[0]), by_identity);
	t->identities = out;
	t->nb_identities = (uint32_t)c->identities.nb;
	return 0;
}

void
compile_layout(struct compile *c)
{
	struct policy_table *t = &c->table->t;

	compile_rules(c);
	if (!c->nomem)
		policy_k8s_check(c);
	if (c->nomem || c->errors > 0)
		return;
	make_programs(c);
	if (!c->nomem &&
	    (fill_programs(c, t) < 0 || fill_sets(c, t) < 0 || fill_identities(c, t) < 0))
		c->nomem = 1;
}
