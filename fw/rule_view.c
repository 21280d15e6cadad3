#include "fw/rule_view.h"

#include "fw/rule_priv.h"

/* What a transaction has brought counts from when its commit is asked about; until then it is as before. */
static bool
is_ahead(const struct fw_rules_state *s)
{
	return s->open && !s->committing;
}

static void *
object_of(const struct fw_rules_state *s, const struct fw_entry *e)
{
	return is_ahead(s) && e->touched == s->transaction ? e->before : e->object;
}

#define EACH(s, kind, e)                                                     \
	for (struct fw_entry *e = (s)->map[kind]; e != NULL; e = e->hh.next) \
		if (object_of(s, e) != NULL)

uint64_t
fw_view_generation(const struct fw_rules_state *s)
{
	return s->committing ? s->target : s->generation;
}

void
fw_view_identities(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_identity *i), void *arg)
{
	EACH(s, FW_ENTRY_IDENTITY, e)
	{
		const struct fw_identity *i = object_of(s, e);

		each(arg,
		    &(struct fw_view_identity){ .identity = i->id,
		        .tenant = i->tenant,
		        .program = { i->program[PK_EGRESS], i->program[PK_INGRESS] },
		        .tenant_name = i->tenant_name });
	}
}

void
fw_view_endpoints(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_endpoint *e), void *arg)
{
	EACH(s, FW_ENTRY_ENDPOINT, e)
	{
		const struct fw_host *h = object_of(s, e);

		each(arg,
		    &(struct fw_view_endpoint){
		        .vrf = h->vrf, .addr = h->addr, .is = h->endpoint });
	}
}

void
fw_view_sets(const struct fw_rules_state *s, void (*each)(void *arg, const struct fw_view_set *set),
    void *arg)
{
	EACH(s, FW_ENTRY_SET, e)
	{
		const struct fw_set *set = object_of(s, e);

		each(arg,
		    &(struct fw_view_set){ .set = e->key.number,
		        .kind = (enum pk_set_kind)set->kind,
		        .nb = set->nb,
		        .before = is_ahead(s),
		        .members = set });
	}
}

enum pk_set_kind
fw_view_set_kind(const struct fw_rules_state *s, uint64_t set)
{
	const struct fw_entry *e = fw_entry_find(s, FW_ENTRY_SET, set);

	const struct fw_set *found = e != NULL ? object_of(s, e) : NULL;

	return found != NULL ? (enum pk_set_kind)found->kind : PK_SET_NONE;
}

const void *
fw_view_member(const struct fw_view_set *set, uint32_t i)
{
	const struct fw_member *m = &set->members->member[i];

	return (set->before ? m->before : m->now) ? (const void *)m : NULL;
}

void
fw_view_programs(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_program *p), void *arg)
{
	EACH(s, FW_ENTRY_PROGRAM, e)
	{
		const struct fw_program_source *p = object_of(s, e);

		each(arg,
		    &(struct fw_view_program){ .program = p->id,
		        .direction = (enum pk_direction)p->direction,
		        .nb_rules = p->nb_rules,
		        .source = p });
	}
}

void
fw_view_rule(const struct fw_view_program *p, uint32_t i, struct fw_view_rule *out)
{
	const struct fw_rule_source *r = &p->source->rules[i];

	*out = (struct fw_view_rule){ .id = r->id,
		.slot = r->slot->slot,
		.verdict = (enum pk_verdict)r->verdict,
		.log = (enum pk_log_mode)r->log,
		.flags = r->flags,
		.tier = r->tier,
		.any_peer = r->any_peer,
		.any_service = r->any_service,
		.has_apps = r->has_apps,
		.schedule = !r->has_schedule ? NULL
		    : r->text != NULL        ? &r->text->schedule
		                             : &r->slot->text->schedule,
		.terms = r->text != NULL ? &r->text->terms : &r->slot->text->terms,
		.peers = r->nb_peers != 0 ? p->source->peers + r->first_peer : NULL,
		.services = r->nb_services != 0 ? p->source->services + r->first_service : NULL,
		.nb_peers = r->nb_peers,
		.nb_services = r->nb_services };
}
