#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "policy/table.h"

/* The table as messages.  Names are for people there, so they are cut where fields end. */

static void
put_text(char *field, size_t size, const char *text)
{
	size_t len;

	if (text == NULL)
		text = ""; /* of what was made up for a question */
	len = strnlen(text, size - 1);
	memcpy(field, text, len);
	field[len] = '\0';
}

/* Of a path the end says more than the beginning. */
static void
put_path(char *field, size_t size, const char *path)
{
	size_t len = strlen(path);

	put_text(field, size, len < size ? path : path + len - (size - 1));
}

int
policy_emit_identity(const struct policy_identity *o, policy_sink *sink, void *arg)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	m.identity.op = PK_OP_PUT;
	m.identity.identity = o->id;
	m.identity.tenant = o->tenant;
	memcpy(m.identity.program, o->program, sizeof(m.identity.program));
	put_text(m.identity.tenant_name, sizeof(m.identity.tenant_name), o->tenant_name);
	put_text(m.identity.labels, sizeof(m.identity.labels), o->labels);
	return sink(arg, &m);
}

int
policy_emit_endpoint(const struct policy_endpoint *o, const char *dpu, policy_sink *sink, void *arg)
{
	bool own = dpu != NULL && strcmp(dpu, o->dpu) == 0;
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = PK_OP_PUT;
	m.endpoint.local = dpu == NULL || own;
	m.endpoint.wire = o->wire;
	m.endpoint.vrf = o->vrf;
	/* Its own DPU knows how the host stands; a question is asked of what is in force. */
	m.endpoint.identity = own ? o->attested : o->identity;
	if (own && o->unattested != o->attested)
		m.endpoint.unattested = o->unattested;
	m.endpoint.addr = o->addr;
	m.endpoint.has_mac = o->has_mac;
	memcpy(m.endpoint.mac, o->mac, sizeof(m.endpoint.mac));
	put_text(m.endpoint.name, sizeof(m.endpoint.name), o->name);
	put_text(m.endpoint.dpu, sizeof(m.endpoint.dpu), o->dpu);
	return sink(arg, &m);
}

int
policy_emit_set(const struct policy_set *o, policy_sink *sink, void *arg)
{
	uint32_t room = o->kind == PK_SET_IDENTITY ? PK_MSG_IDENTITIES : PK_MSG_PREFIXES;
	struct pk_msg m;
	int rc;

	pk_msg_init(&m, PK_MSG_SET, 0);
	m.set.op = PK_OP_PUT;
	m.set.kind = (uint8_t)o->kind;
	m.set.set = o->id;
	put_text(m.set.name, sizeof(m.set.name), o->name);
	rc = sink(arg, &m);
	for (uint32_t i = 0; i < o->nb_members && rc >= 0; i += room) {
		uint32_t n = PK_MIN(room, o->nb_members - i);

		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
		m.members.op = PK_OP_PUT;
		m.members.kind = (uint8_t)o->kind;
		m.members.set = o->id;
		m.members.count = (uint16_t)n;
		if (o->kind == PK_SET_IDENTITY)
			memcpy(m.members.identity, o->identities + i, n * sizeof(o->identities[0]));
		else
			memcpy(m.members.prefix, o->prefixes + i, n * sizeof(o->prefixes[0]));
		rc = sink(arg, &m);
	}
	return rc;
}

/* Fill one match from peers and services at *p and *s on, and move these. */
static void
put_match(struct pk_msg_rule_match *m, const struct policy_rule *r, uint32_t *p, uint32_t *s)
{
	uint32_t np = PK_MIN(r->nb_peers - *p, (uint32_t)PK_MSG_PEERS);
	uint32_t ns = PK_MIN(r->nb_services - *s, (uint32_t)PK_MSG_SERVICES);

	m->any_peer = r->any_peer;
	m->any_service = r->any_service;
	m->nb_peers = (uint8_t)np;
	m->nb_services = (uint8_t)ns;
	if (np > 0)
		memcpy(m->peer, r->peers + *p, np * sizeof(r->peers[0]));
	if (ns > 0)
		memcpy(m->service, r->services + *s, ns * sizeof(r->services[0]));
	*p += np;
	*s += ns;
	m->more = *p < r->nb_peers || *s < r->nb_services;
}

static int
emit_rule(
    uint64_t program, uint32_t index, const struct policy_rule *r, policy_sink *sink, void *arg)
{
	uint32_t p = 0, s = 0;
	struct pk_msg m;
	int rc, more;

	pk_msg_init(&m, PK_MSG_RULE, 0);
	m.rule.program = program;
	m.rule.id = r->id;
	m.rule.index = index;
	m.rule.line = r->line;
	m.rule.tier = r->tier;
	m.rule.verdict = (uint8_t)r->verdict;
	m.rule.log = (uint8_t)r->log;
	m.rule.flags = r->flags;
	put_text(m.rule.policy, sizeof(m.rule.policy), r->policy);
	put_text(m.rule.name, sizeof(m.rule.name), r->name);
	put_path(m.rule.file, sizeof(m.rule.file), r->file);
	m.rule.terms = r->terms;
	m.rule.schedule = r->schedule;
	PK_ASSERT(r->nb_apps <= PK_MSG_APPS);
	if (r->nb_apps > 0)
		memcpy(m.rule.app, r->apps, r->nb_apps * sizeof(r->apps[0]));
	put_match(&m.rule.match, r, &p, &s);
	more = m.rule.match.more;
	rc = sink(arg, &m);
	while (more && rc >= 0) {
		pk_msg_init(&m, PK_MSG_RULE_MORE, 0);
		m.more.program = program;
		m.more.index = index;
		put_match(&m.more.match, r, &p, &s);
		more = m.more.match.more;
		rc = sink(arg, &m);
	}
	return rc;
}

int
policy_emit_program(const struct policy_program *o, policy_sink *sink, void *arg)
{
	struct pk_msg m;
	int rc;

	pk_msg_init(&m, PK_MSG_PROGRAM, 0);
	m.program.op = PK_OP_PUT;
	m.program.direction = (uint8_t)o->direction;
	m.program.nb_rules = o->nb_rules;
	m.program.program = o->id;
	rc = sink(arg, &m);
	for (uint32_t i = 0; i < o->nb_rules && rc >= 0; i++)
		rc = emit_rule(o->id, i, &o->rules[i], sink, arg);
	return rc;
}

/* Counts what passes, for the COMMIT, and puts the generation in. */
struct stamp {
	policy_sink *sink;
	void *arg;
	uint64_t generation;
	uint32_t nb;
};

static int
stamp_sink(void *arg, const struct pk_msg *m)
{
	struct stamp *s = arg;
	struct pk_msg copy = *m;

	copy.h.generation = s->generation;
	s->nb++;
	return s->sink(s->arg, &copy);
}

int
policy_table_emit(const struct policy_table *t, uint64_t generation, const char *dpu,
    policy_sink *sink, void *arg)
{
	struct stamp s = { .sink = sink, .arg = arg, .generation = generation };
	struct pk_msg m;
	int rc;

	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, generation);
	m.begin.full = 1;
	rc = sink(arg, &m);
	for (uint32_t i = 0; i < t->nb_identities && rc >= 0; i++)
		rc = policy_emit_identity(&t->identities[i], stamp_sink, &s);
	for (uint32_t i = 0; i < t->nb_endpoints && rc >= 0; i++)
		rc = policy_emit_endpoint(&t->endpoints[i], dpu, stamp_sink, &s);
	for (uint32_t i = 0; i < t->nb_sets && rc >= 0; i++)
		rc = policy_emit_set(&t->sets[i], stamp_sink, &s);
	for (uint32_t i = 0; i < t->nb_programs && rc >= 0; i++)
		rc = policy_emit_program(&t->programs[i], stamp_sink, &s);
	if (rc < 0)
		return rc;
	pk_msg_init(&m, PK_MSG_POLICY_COMMIT, generation);
	m.commit.nb_messages = s.nb;
	return sink(arg, &m);
}
