/*
 * What the agent has said, kept so that the next generation can be made from a small change.
 *
 * Objects are never altered once their transaction has committed: a change puts a new object in the
 * place of the old, which waits beside it until the transaction is over.  Refusing it is putting the
 * old ones back.  The one exception is a set, whose members remember for themselves what they were.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/apps.h"
#include "fw/rule_priv.h"

/* ---- objects ---- */

void
fw_program_source_destroy(struct fw_program_source *p)
{
	if (p == NULL)
		return;
	for (uint32_t i = 0; i < p->nb_received; i++)
		free(p->rules[i].text);
	free(p->peers);
	free(p->sets);
	free(p->services);
	free(p);
}

/* An object that was made by this transaction and is not wanted after all. */
static void
object_discard(struct fw_rules_state *s, enum fw_entry_kind kind, void *object)
{
	if (kind == FW_ENTRY_SET)
		fw_set_destroy(object);
	else if (kind == FW_ENTRY_PROGRAM)
		fw_program_source_destroy(object);
	else
		fw_part_drop(&s->line->parts, object);
}

/* ---- maps of entries ---- */

static struct fw_entry *
find(const struct fw_rules_state *s, enum fw_entry_kind kind, const struct fw_entry_key *key)
{
	struct fw_entry *e;

	HASH_FIND(hh, s->map[kind], key, sizeof(*key), e);
	return e;
}

struct fw_entry *
fw_entry_find(const struct fw_rules_state *s, enum fw_entry_kind kind, uint64_t number)
{
	struct fw_entry_key key = { .number = number };

	return find(s, kind, &key);
}

static int
touch(struct fw_rules_state *s, enum fw_entry_kind kind, struct fw_entry *e)
{
	if (e->touched == s->transaction)
		return 0;
	if (s->touched[kind].nb == s->touched[kind].room) {
		uint32_t room = PK_MAX(2 * s->touched[kind].room, 64u);
		struct fw_entry **grown =
		    realloc(s->touched[kind].entry, room * sizeof(struct fw_entry *));

		if (grown == NULL)
			return -ENOMEM;
		s->touched[kind].entry = grown;
		s->touched[kind].room = room;
	}
	s->touched[kind].entry[s->touched[kind].nb++] = e;
	e->touched = s->transaction;
	e->before = e->object;
	return 0;
}

/* Put `object` (NULL: nothing) under `key`.  Takes `object` even on failure. */
static int
put(struct fw_rules_state *s, enum fw_entry_kind kind, const struct fw_entry_key *key, void *object)
{
	struct fw_entry *e = find(s, kind, key);

	if (e == NULL) {
		e = calloc(1, sizeof(*e));
		if (e == NULL)
			goto fail;
		e->key = *key;
		e->slot = FW_PROGRAM_NONE;
		e->touched = s->transaction - 1;
		HASH_ADD(hh, s->map[kind], key, sizeof(e->key), e);
		if (e->hh.tbl == NULL) {
			free(e);
			goto fail;
		}
		if (touch(s, kind, e) < 0) {
			HASH_DEL(s->map[kind], e);
			free(e);
			goto fail;
		}
	}
	if (touch(s, kind, e) < 0)
		goto fail;
	if (e->object != e->before)
		object_discard(s, kind, e->object);
	e->object = object;
	return 0;
fail:
	if (object != NULL)
		object_discard(s, kind, object);
	return -ENOMEM;
}

static int delete (struct fw_rules_state *s, enum fw_entry_kind kind,
    const struct fw_entry_key *key, struct pk_diag *diag)
{
	const struct fw_entry *e = find(s, kind, key);

	if (e == NULL || e->object == NULL) {
		static const char *const names[] = { "identity", "endpoint", "set", "program" };

		pk_diag_set(diag, "%s %016lx: cannot delete what is not there", names[kind],
		    (unsigned long)key->number);
		return -ENOENT;
	}
	return put(s, kind, key, NULL);
}

/* The transaction is over: touched entries have one object again, or none and go. */
static void
settle(struct fw_rules_state *s, bool commit)
{
	for (unsigned int k = 0; k < FW_ENTRY_KINDS; k++) {
		for (uint32_t i = 0; i < s->touched[k].nb; i++) {
			struct fw_entry *e = s->touched[k].entry[i];
			void *loser = commit ? e->before : e->object;

			if (!commit)
				e->object = e->before;
			/* Parts are the line's, which has dropped them or will take them back. */
			if (loser != e->object && k == FW_ENTRY_SET)
				fw_set_destroy(loser);
			if (loser != e->object && k == FW_ENTRY_PROGRAM)
				fw_program_source_destroy(loser);
			if (k == FW_ENTRY_SET && e->object != NULL && commit)
				fw_set_commit(e->object);
			else if (k == FW_ENTRY_SET && e->object != NULL)
				fw_set_abort(e->object);
			e->before = NULL;
			if (e->object == NULL) {
				HASH_DEL(s->map[k], e);
				if (k == FW_ENTRY_SET)
					free(e->programs);
				free(e);
			}
		}
		s->touched[k].nb = 0;
	}
	s->open = false;
	s->filling = NULL;
	s->extending = NULL;
}

void
fw_rules_state_abort(struct fw_rules_state *s)
{
	if (!s->open)
		return;
	settle(s, false);
	fw_parts_abort(&s->line->parts);
}

/* ---- messages ---- */

static int
take_identity(struct fw_rules_state *s, const struct pk_msg_identity *m, struct pk_diag *diag)
{
	struct fw_entry_key key = { .number = m->identity };
	size_t tenant_len = strlen(m->tenant_name) + 1, labels_len = strlen(m->labels) + 1;
	struct fw_identity *i;
	char *text;

	if (m->op == PK_OP_DELETE)
		return delete (s, FW_ENTRY_IDENTITY, &key, diag);
	i = fw_part_new(&s->line->parts, sizeof(*i) + tenant_len + labels_len);
	if (i == NULL)
		return -ENOMEM;
	i->id = m->identity;
	i->tenant = m->tenant;
	memcpy(i->program, m->program, sizeof(i->program));
	text = (char *)(i + 1);
	memcpy(text, m->tenant_name, tenant_len);
	memcpy(text + tenant_len, m->labels, labels_len);
	i->tenant_name = text;
	i->labels = text + tenant_len;
	return put(s, FW_ENTRY_IDENTITY, &key, i);
}

static int
take_endpoint(struct fw_rules_state *s, const struct pk_msg_endpoint *m, struct pk_diag *diag)
{
	struct fw_entry_key key = { .number = m->vrf, .addr = m->addr };
	size_t len = strlen(m->name) + 1;
	struct fw_host *h;

	if (m->op == PK_OP_DELETE)
		return delete (s, FW_ENTRY_ENDPOINT, &key, diag);
	h = fw_part_new(&s->line->parts, sizeof(*h) + len);
	if (h == NULL)
		return -ENOMEM;
	h->vrf = m->vrf;
	h->addr = m->addr;
	h->endpoint.identity = m->identity;
	h->endpoint.unattested = m->unattested != 0 ? m->unattested : m->identity;
	h->endpoint.wire = m->wire;
	h->endpoint.local = m->local;
	h->endpoint.has_mac = m->has_mac;
	memcpy(h->endpoint.mac, m->mac, sizeof(h->endpoint.mac));
	memcpy(h->name, m->name, len);
	h->endpoint.name = h->name;
	return put(s, FW_ENTRY_ENDPOINT, &key, h);
}

static int
take_set(struct fw_rules_state *s, const struct pk_msg_set *m, struct pk_diag *diag)
{
	struct fw_entry_key key = { .number = m->set };
	const struct fw_entry *e = find(s, FW_ENTRY_SET, &key);
	struct fw_set *set;

	if (m->op == PK_OP_DELETE)
		return delete (s, FW_ENTRY_SET, &key, diag);
	if (e != NULL && e->object != NULL && ((struct fw_set *)e->object)->kind == m->kind &&
	    (m->kind != PK_SET_NAME || strcmp(((struct fw_set *)e->object)->pattern, m->name) == 0))
		return 0; /* there it is; its members stay */
	set = fw_set_create(m->set, m->kind, m->name);
	return set != NULL ? put(s, FW_ENTRY_SET, &key, set) : -ENOMEM;
}

static int
take_members(struct fw_rules_state *s, const struct pk_msg_set_members *m, struct pk_diag *diag)
{
	struct fw_entry *e = fw_entry_find(s, FW_ENTRY_SET, m->set);
	struct fw_set *set = e != NULL ? e->object : NULL;

	if (set == NULL || set->kind != m->kind) {
		pk_diag_set(diag, "members for set %016lx, which is not defined or of another kind",
		    (unsigned long)m->set);
		return -ENOENT;
	}
	if (touch(s, FW_ENTRY_SET, e) < 0)
		return -ENOMEM;
	for (unsigned int i = 0; i < m->count; i++) {
		const void *member = m->kind == PK_SET_IDENTITY ? (const void *)&m->identity[i]
		                                                : (const void *)&m->prefix[i];
		int rc = m->op == PK_OP_PUT ? fw_set_add(set, member) : fw_set_remove(set, member);

		if (rc == -ENOENT)
			pk_diag_set(diag, "set %016lx: cannot remove a member that is not in it",
			    (unsigned long)m->set);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
take_program(struct fw_rules_state *s, const struct pk_msg_program *m, struct pk_diag *diag)
{
	struct fw_entry_key key = { .number = m->program };
	struct fw_program_source *p;

	s->filling = NULL;
	s->extending = NULL;
	if (m->op == PK_OP_DELETE)
		return delete (s, FW_ENTRY_PROGRAM, &key, diag);
	if (m->nb_rules > FW_RULE_SLOTS) {
		pk_diag_set(
		    diag, "program of %u rules: want at most %d", m->nb_rules, FW_RULE_SLOTS);
		return -ENOSPC;
	}
	p = calloc(1, sizeof(*p) + m->nb_rules * sizeof(p->rules[0]));
	if (p == NULL)
		return -ENOMEM;
	p->id = m->program;
	p->direction = m->direction;
	p->nb_rules = m->nb_rules;
	if (put(s, FW_ENTRY_PROGRAM, &key, p) < 0)
		return -ENOMEM;
	s->filling = p;
	return 0;
}

static int
service_check(const struct pk_msg_rule_match *m, struct pk_diag *diag)
{
	for (unsigned int i = 0; i < m->nb_services; i++) {
		if (m->service[i].proto == PK_PROTO_ANY &&
		    (m->service[i].low != 0 || m->service[i].high != UINT16_MAX)) {
			pk_diag_set(diag, "a service of any protocol must take the whole range");
			return -EINVAL;
		}
	}
	return 0;
}

/* Room in an array of the program for `more` elements. */
static int
reserve(void *array, uint32_t nb, uint32_t *room, uint32_t more, size_t size)
{
	void *grown;
	uint32_t want;

	if (nb + more <= *room)
		return 0;
	want = PK_MAX(2 * *room, nb + more + 16);
	memcpy(&grown, array, sizeof(grown));
	grown = realloc(grown, want * size);
	if (grown == NULL)
		return -ENOMEM;
	memcpy(array, &grown, sizeof(grown));
	*room = want;
	return 0;
}

static int
extend(struct fw_rules_state *s, const struct pk_msg_rule_match *m, struct pk_diag *diag)
{
	struct fw_program_source *p = s->filling;
	struct fw_rule_source *r = s->extending;
	int rc = service_check(m, diag);

	if (rc < 0)
		return rc;
	if (reserve(&p->peers, p->nb_peers, &p->room_peers, m->nb_peers, sizeof(*p->peers)) < 0 ||
	    reserve(&p->services, p->nb_services, &p->room_services, m->nb_services,
	        sizeof(*p->services)) < 0)
		return -ENOMEM;
	if (m->nb_peers > 0)
		memcpy(p->peers + p->nb_peers, m->peer, m->nb_peers * sizeof(*p->peers));
	if (m->nb_services > 0)
		memcpy(p->services + p->nb_services, m->service,
		    m->nb_services * sizeof(*p->services));
	p->nb_peers += m->nb_peers;
	p->nb_services += m->nb_services;
	r->nb_peers += m->nb_peers;
	r->nb_services += m->nb_services;
	r->any_peer = m->any_peer;
	r->any_service = m->any_service;
	if (!m->more)
		s->extending = NULL;
	return 0;
}

/* The application of a number on the wire; DPI_APP_UNKNOWN: none of this version's. */
static uint8_t
app_of(uint32_t id)
{
	static const char *const slugs[] = {
#define SLUG(id, slug) slug,
		DPI_APPS(SLUG)
#undef SLUG
	};

	_Static_assert(DPI_NB_APPS - 1 <= FW_APP_LAST, "a byte is enough");
	for (unsigned int i = 0; i < PK_COUNT(slugs); i++)
		if (dpi_app_id(slugs[i]) == id)
			return (uint8_t)(i + 1);
	return DPI_APP_UNKNOWN;
}

/* What is said about the rule in words: as its slot has it, or noted beside it. */
static int
take_text(struct fw_rules_state *s, struct fw_rule_source *r, const struct pk_msg_rule *m)
{
	struct fw_rule_text t = { .id = m->id,
		.line = m->line,
		.verdict = m->verdict,
		.direction = s->filling->direction,
		.flags = m->flags,
		.tier = m->tier,
		.terms = m->terms,
		.schedule = m->schedule };
	size_t head = sizeof(t.part);

	for (unsigned int i = 0; i < PK_MSG_APPS && m->app[i] != 0; i++)
		t.app[i] = app_of(m->app[i]);
	memcpy(t.policy, m->policy, sizeof(t.policy));
	memcpy(t.name, m->name, sizeof(t.name));
	memcpy(t.file, m->file, sizeof(t.file));
	HASH_FIND(hh, s->slots, &m->id, sizeof(m->id), r->slot);
	if (r->slot != NULL &&
	    memcmp((const char *)r->slot->text + head, (const char *)&t + head, sizeof(t) - head) ==
	        0)
		return 0;
	r->text = malloc(sizeof(t));
	if (r->text == NULL)
		return -ENOMEM;
	memcpy(r->text, &t, sizeof(t));
	return 0;
}

static int
take_rule(struct fw_rules_state *s, const struct pk_msg_rule *m, struct pk_diag *diag)
{
	struct fw_program_source *p = s->filling;
	struct fw_rule_source *r;

	if (p == NULL || p->id != m->program || s->extending != NULL ||
	    p->nb_received == p->nb_rules || m->index != p->nb_received) {
		pk_diag_set(diag, "rule \"%s\" of policy \"%s\" is out of place in its program",
		    m->name, m->policy);
		return -EPROTO;
	}
	if (m->id == 0) {
		pk_diag_set(diag, "rule \"%s\" of policy \"%s\" has no number", m->name, m->policy);
		return -EPROTO;
	}
	r = &p->rules[p->nb_received++];
	r->id = m->id;
	r->tier = m->tier;
	r->verdict = m->verdict;
	r->log = m->log;
	r->flags = m->flags;
	r->encryption = m->terms.encryption;
	r->has_apps = m->app[0] != 0;
	r->has_schedule = m->schedule.days != 0;
	r->has_terms = pk_rule_terms_any(&m->terms);
	r->first_peer = p->nb_peers;
	r->first_service = p->nb_services;
	if (take_text(s, r, m) < 0)
		return -ENOMEM;
	s->extending = r;
	return extend(s, &m->match, diag);
}

static int
take_more(struct fw_rules_state *s, const struct pk_msg_rule_more *m, struct pk_diag *diag)
{
	if (s->extending == NULL || s->filling == NULL || s->filling->id != m->program ||
	    m->index != s->filling->nb_received - 1) {
		pk_diag_set(diag, "a rule-more message follows no rule that asked for it");
		return -EPROTO;
	}
	return extend(s, &m->match, diag);
}

static int
begin(struct fw_rules_state *s, const struct pk_msg *m, struct pk_diag *diag)
{
	if (s->open) {
		pk_diag_set(diag, "a transaction begins inside another");
		return -EPROTO;
	}
	if (!m->begin.full && m->begin.base != s->generation) {
		pk_diag_set(diag, "changes to generation %lu, but %lu is in force",
		    (unsigned long)m->begin.base, (unsigned long)s->generation);
		return -ESTALE;
	}
	if (m->h.generation == 0) {
		pk_diag_set(diag, "generation 0 cannot be enforced");
		return -EPROTO;
	}
	s->open = true;
	s->target = m->h.generation;
	s->transaction++;
	s->nb_messages = 0;
	fw_parts_begin(&s->line->parts);
	if (!m->begin.full)
		return 0;
	for (unsigned int k = 0; k < FW_ENTRY_KINDS; k++) {
		struct fw_entry *e, *next;

		HASH_ITER(hh, s->map[k], e, next)
		{
			if (touch(s, (enum fw_entry_kind)k, e) < 0)
				return -ENOMEM;
			e->object = NULL;
		}
	}
	return 0;
}

static int
commit(
    struct fw_rules_state *s, const struct pk_msg *m, struct fw_rules **out, struct pk_diag *diag)
{
	int rc;

	if (m->h.generation != s->target || m->commit.nb_messages != s->nb_messages) {
		pk_diag_set(diag,
		    "commit of generation %lu with %u messages: %lu with %u had been announced and received",
		    (unsigned long)m->h.generation, m->commit.nb_messages, (unsigned long)s->target,
		    s->nb_messages);
		return -EPROTO;
	}
	if (s->extending != NULL) {
		pk_diag_set(diag, "the last rule of program %016lx is incomplete",
		    (unsigned long)s->filling->id);
		return -EPROTO;
	}
	rc = fw_commit(s, out, diag);
	if (rc < 0)
		return rc;
	settle(s, true);
	s->generation = s->target;
	return 0;
}

int
fw_rules_state_apply(
    struct fw_rules_state *s, const struct pk_msg *m, struct fw_rules **out, struct pk_diag *diag)
{
	int rc;

	*out = NULL;
	pk_diag_set(diag, "out of memory");
	if (m->h.type == PK_MSG_POLICY_BEGIN) {
		rc = begin(s, m, diag);
		if (rc < 0)
			fw_rules_state_abort(s);
		return rc;
	}
	if (!s->open) {
		pk_diag_set(diag, "%s message outside a transaction", pk_msg_type_name(m->h.type));
		return -EPROTO;
	}
	if (m->h.type != PK_MSG_POLICY_COMMIT)
		s->nb_messages++;
	switch (m->h.type) {
	case PK_MSG_IDENTITY:
		rc = take_identity(s, &m->identity, diag);
		break;
	case PK_MSG_ENDPOINT:
		rc = take_endpoint(s, &m->endpoint, diag);
		break;
	case PK_MSG_SET:
		rc = take_set(s, &m->set, diag);
		break;
	case PK_MSG_SET_MEMBERS:
		rc = take_members(s, &m->members, diag);
		break;
	case PK_MSG_PROGRAM:
		rc = take_program(s, &m->program, diag);
		break;
	case PK_MSG_RULE:
		rc = take_rule(s, &m->rule, diag);
		break;
	case PK_MSG_RULE_MORE:
		rc = take_more(s, &m->more, diag);
		break;
	case PK_MSG_POLICY_COMMIT:
		rc = commit(s, m, out, diag);
		break;
	case PK_MSG_POLICY_ABORT:
		fw_rules_state_abort(s);
		return 0;
	default:
		pk_diag_set(diag, "%s message inside a transaction", pk_msg_type_name(m->h.type));
		rc = -EPROTO;
	}
	if (rc < 0)
		fw_rules_state_abort(s);
	return rc;
}

void
fw_rules_state_on_commit(struct fw_rules_state *s, fw_rules_ready *ready, void *arg)
{
	s->ready = ready;
	s->ready_arg = arg;
}

uint64_t
fw_rules_state_generation(const struct fw_rules_state *s)
{
	return s->generation;
}

uint64_t
fw_rules_state_bytes(const struct fw_rules_state *s)
{
	return s->line->parts.bytes;
}

int
fw_rules_state_create(struct fw_rules_state **out)
{
	struct fw_rules_state *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->line = calloc(1, sizeof(*s->line));
	s->free_slots = calloc(FW_RULE_SLOTS, sizeof(*s->free_slots));
	if (s->line == NULL || s->free_slots == NULL) {
		free(s->line);
		free(s->free_slots);
		free(s);
		return -ENOMEM;
	}
	s->line->has_state = true;
	*out = s;
	return 0;
}

void
fw_rules_state_destroy(struct fw_rules_state *s)
{
	struct fw_slot *slot, *next_slot;

	if (s == NULL)
		return;
	fw_rules_state_abort(s);
	for (unsigned int k = 0; k < FW_ENTRY_KINDS; k++) {
		struct fw_entry *e, *next;

		HASH_ITER(hh, s->map[k], e, next)
		{
			HASH_DEL(s->map[k], e);
			if (k == FW_ENTRY_SET) {
				fw_set_destroy(e->object);
				free(e->programs);
			} else if (k == FW_ENTRY_PROGRAM) {
				fw_program_source_destroy(e->object);
			}
			free(e);
		}
		free(s->touched[k].entry);
	}
	HASH_ITER(hh, s->slots, slot, next_slot)
	{
		HASH_DEL(s->slots, slot);
		free(slot);
	}
	fw_line_close(s->line);
	free(s->program);
	free(s->free_programs);
	free(s->free_slots);
	free(s);
}
