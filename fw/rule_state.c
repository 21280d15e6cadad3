/*
 * What the agent has said, kept so that the next generation can be built from a small change.
 *
 * Objects are never altered once their transaction has committed: a change puts a new object in the
 * place of the old, and the old one waits in the undo log until the commit.  Refusing a transaction
 * is playing the log backwards.  The one exception is a set under change, which is copied at the
 * first touch of a transaction and then grows in place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "fw/rule_priv.h"

enum kind {
	KIND_IDENTITY = 0,
	KIND_ENDPOINT,
	KIND_SET,
	KIND_PROGRAM,
	KIND_COUNT,
};

struct key {
	uint64_t number; /* id; of an endpoint, its vrf */
	struct pk_addr addr;
	uint32_t zero;
};

/* A named object of whatever kind. */
struct entry {
	struct key key;
	void *object;
	uint32_t touched; /* transaction that owns the object, and may alter it */
	UT_hash_handle hh;
};

struct undo {
	enum kind kind;
	struct key key;
	void *old; /* NULL: there was none */
};

struct slot {
	uint64_t id;
	uint32_t slot;
	uint32_t users; /* rules of committed programs with this id */
	UT_hash_handle hh;
};

struct fw_rules_state {
	struct entry *map[KIND_COUNT];
	uint64_t generation; /* in force */

	bool open;       /* between BEGIN and COMMIT */
	uint64_t target; /* generation of the transaction */
	uint32_t transaction, nb_messages;
	struct undo *undo;
	size_t nb_undo, room_undo;
	struct fw_program_source *filling; /* RULEs go here; borrowed from the map */
	struct fw_rule_source *extending;  /* RULE_MORE goes here */

	struct slot *slots;
	uint32_t nb_slots_used;        /* slots given out at least once */
	uint32_t *free_slots, nb_free; /* given back, oldest first from `free_at` */
	uint32_t free_at;
};

/* ---- objects ---- */

void
fw_program_source_put(struct fw_program_source *p)
{
	if (p == NULL || --p->refs > 0)
		return;
	for (uint32_t i = 0; i < p->nb_received; i++) {
		free(p->rules[i].peers);
		free(p->rules[i].services);
	}
	free(p);
}

void
fw_identity_source_put(struct fw_identity_source *i)
{
	if (i != NULL && --i->refs == 0)
		free(i);
}

void
fw_endpoint_source_put(struct fw_endpoint_source *e)
{
	if (e != NULL && --e->refs == 0)
		free(e);
}

void
fw_set_source_put(struct fw_set_source *s)
{
	if (s == NULL || --s->refs > 0)
		return;
	free(s->kind == PK_SET_IDENTITY ? (void *)s->identities : (void *)s->prefixes);
	free(s);
}

static void
object_put(enum kind kind, void *object)
{
	switch (kind) {
	case KIND_IDENTITY:
		fw_identity_source_put(object);
		break;
	case KIND_ENDPOINT:
		fw_endpoint_source_put(object);
		break;
	case KIND_SET:
		fw_set_source_put(object);
		break;
	case KIND_PROGRAM:
		fw_program_source_put(object);
		break;
	case KIND_COUNT:
		break;
	}
}

/* ---- maps with a log ---- */

static struct entry *
map_find(struct fw_rules_state *s, enum kind kind, const struct key *key)
{
	struct entry *e;

	HASH_FIND(hh, s->map[kind], key, sizeof(*key), e);
	return e;
}

/* Put `object` (NULL: nothing) under `key`, without a log.  The old object is returned. */
static int
map_set(struct fw_rules_state *s, enum kind kind, const struct key *key, void *object, void **old)
{
	struct entry *e = map_find(s, kind, key);

	*old = e != NULL ? e->object : NULL;
	if (object == NULL) {
		if (e != NULL) {
			HASH_DEL(s->map[kind], e);
			free(e);
		}
		return 0;
	}
	if (e == NULL) {
		e = calloc(1, sizeof(*e));
		if (e == NULL)
			return -ENOMEM;
		e->key = *key;
		HASH_ADD(hh, s->map[kind], key, sizeof(e->key), e);
		if (e->hh.tbl == NULL) {
			free(e);
			return -ENOMEM;
		}
	}
	e->object = object;
	e->touched = s->transaction;
	return 0;
}

/* The same, with a line in the log.  Takes `object` even on failure. */
static int
change(struct fw_rules_state *s, enum kind kind, const struct key *key, void *object)
{
	void *old;

	if (s->nb_undo == s->room_undo) {
		size_t room = s->room_undo != 0 ? 2 * s->room_undo : 256;
		struct undo *grown = realloc(s->undo, room * sizeof(*grown));

		if (grown == NULL) {
			object_put(kind, object);
			return -ENOMEM;
		}
		s->undo = grown;
		s->room_undo = room;
	}
	if (map_set(s, kind, key, object, &old) < 0) {
		object_put(kind, object);
		return -ENOMEM;
	}
	s->undo[s->nb_undo++] = (struct undo){ .kind = kind, .key = *key, .old = old };
	return 0;
}

static int
change_delete(struct fw_rules_state *s, enum kind kind, const struct key *key, struct pk_diag *diag)
{
	if (map_find(s, kind, key) == NULL) {
		static const char *const names[] = { "identity", "endpoint", "set", "program" };

		pk_diag_set(diag, "%s %016lx: cannot delete what is not there", names[kind],
		    (unsigned long)key->number);
		return -ENOENT;
	}
	return change(s, kind, key, NULL);
}

void
fw_rules_state_abort(struct fw_rules_state *s)
{
	while (s->nb_undo > 0) {
		struct undo *u = &s->undo[--s->nb_undo];
		void *current;

		/* The entry was there or is removed: no memory is needed, so this cannot fail but for
		 * an entry that was deleted and comes back. */
		if (map_set(s, u->kind, &u->key, u->old, &current) < 0)
			pk_bug(__FILE__, __LINE__, "no memory to take a change back");
		object_put(u->kind, current);
	}
	s->open = false;
	s->filling = NULL;
	s->extending = NULL;
}

/* ---- rule slots ---- */

static int
slot_take(struct fw_rules_state *s, uint64_t id, uint32_t *out)
{
	struct slot *slot;

	HASH_FIND(hh, s->slots, &id, sizeof(id), slot);
	if (slot == NULL) {
		if (s->nb_slots_used == FW_RULE_SLOTS && s->nb_free == 0)
			return -ENOSPC;
		slot = calloc(1, sizeof(*slot));
		if (slot == NULL)
			return -ENOMEM;
		slot->id = id;
		/* A slot that was used before is taken last, so that late counts meet nobody else. */
		if (s->nb_slots_used < FW_RULE_SLOTS) {
			slot->slot = s->nb_slots_used++;
		} else {
			slot->slot = s->free_slots[s->free_at];
			s->free_at = (s->free_at + 1) % FW_RULE_SLOTS;
			s->nb_free--;
		}
		HASH_ADD(hh, s->slots, id, sizeof(slot->id), slot);
		if (slot->hh.tbl == NULL) {
			free(slot);
			return -ENOMEM;
		}
	}
	slot->users++;
	*out = slot->slot;
	return 0;
}

static void
slot_give(struct fw_rules_state *s, uint64_t id)
{
	struct slot *slot;

	HASH_FIND(hh, s->slots, &id, sizeof(id), slot);
	if (slot == NULL || --slot->users > 0)
		return;
	s->free_slots[(s->free_at + s->nb_free++) % FW_RULE_SLOTS] = slot->slot;
	HASH_DEL(s->slots, slot);
	free(slot);
}

static void
program_slots_give(struct fw_rules_state *s, const struct fw_program_source *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		slot_give(s, p->rules[i].id);
}

static int
program_slots_take(struct fw_rules_state *s, struct fw_program_source *p, struct pk_diag *diag)
{
	for (uint32_t i = 0; i < p->nb_received; i++) {
		int rc = slot_take(s, p->rules[i].id, &p->rules[i].slot);

		if (rc < 0) {
			if (rc == -ENOSPC)
				pk_diag_set(diag, "more than %d rules at once", FW_RULE_SLOTS);
			program_slots_give(s, p, i);
			return rc;
		}
	}
	return 0;
}

/* ---- messages ---- */

static int
take_identity(struct fw_rules_state *s, const struct pk_msg_identity *m, struct pk_diag *diag)
{
	struct key key = { .number = m->identity };
	size_t tenant_len = strlen(m->tenant_name) + 1, labels_len = strlen(m->labels) + 1;
	struct fw_identity_source *i;

	if (m->op == PK_OP_DELETE)
		return change_delete(s, KIND_IDENTITY, &key, diag);
	i = calloc(1, sizeof(*i) + tenant_len + labels_len);
	if (i == NULL)
		return -ENOMEM;
	i->refs = 1;
	i->id = m->identity;
	i->tenant = m->tenant;
	memcpy(i->program, m->program, sizeof(i->program));
	i->tenant_name = (char *)(i + 1);
	i->labels = i->tenant_name + tenant_len;
	memcpy(i->tenant_name, m->tenant_name, tenant_len);
	memcpy(i->labels, m->labels, labels_len);
	return change(s, KIND_IDENTITY, &key, i);
}

static int
take_endpoint(struct fw_rules_state *s, const struct pk_msg_endpoint *m, struct pk_diag *diag)
{
	struct key key = { .number = m->vrf, .addr = m->addr };
	size_t len = strlen(m->name) + 1;
	struct fw_endpoint_source *e;

	if (m->op == PK_OP_DELETE)
		return change_delete(s, KIND_ENDPOINT, &key, diag);
	e = calloc(1, sizeof(*e) + len);
	if (e == NULL)
		return -ENOMEM;
	e->refs = 1;
	e->vrf = m->vrf;
	e->identity = m->identity;
	e->unattested = m->unattested != 0 ? m->unattested : m->identity;
	e->wire = m->wire;
	e->local = m->local;
	e->has_mac = m->has_mac;
	memcpy(e->mac, m->mac, sizeof(e->mac));
	e->addr = m->addr;
	memcpy(e->name, m->name, len);
	return change(s, KIND_ENDPOINT, &key, e);
}

static size_t
member_size(uint8_t kind)
{
	return kind == PK_SET_IDENTITY ? sizeof(uint32_t) : sizeof(struct pk_prefix);
}

static void *
set_members(const struct fw_set_source *set)
{
	return set->kind == PK_SET_IDENTITY ? (void *)set->identities : (void *)set->prefixes;
}

static struct fw_set_source *
set_create(uint64_t id, uint8_t kind, const void *members, uint32_t nb)
{
	struct fw_set_source *set = calloc(1, sizeof(*set));
	size_t size = member_size(kind);
	void *copy = malloc(PK_MAX(nb, 4u) * size);

	if (set == NULL || copy == NULL) {
		free(set);
		free(copy);
		return NULL;
	}
	if (nb > 0)
		memcpy(copy, members, nb * size);
	set->refs = 1;
	set->id = id;
	set->kind = kind;
	set->nb = nb;
	set->room = PK_MAX(nb, 4u);
	if (kind == PK_SET_IDENTITY)
		set->identities = copy;
	else
		set->prefixes = copy;
	return set;
}

static int
take_set(struct fw_rules_state *s, const struct pk_msg_set *m, struct pk_diag *diag)
{
	struct key key = { .number = m->set };
	struct fw_set_source *set;
	struct entry *e;

	if (m->op == PK_OP_DELETE)
		return change_delete(s, KIND_SET, &key, diag);
	e = map_find(s, KIND_SET, &key);
	if (e != NULL && ((struct fw_set_source *)e->object)->kind == m->kind)
		return 0; /* there it is; its members stay */
	set = set_create(m->set, m->kind, NULL, 0);
	return set != NULL ? change(s, KIND_SET, &key, set) : -ENOMEM;
}

static int
set_add(struct fw_set_source *set, const void *member, size_t size)
{
	if (set->nb == set->room) {
		void *grown = realloc(set_members(set), 2 * (size_t)set->room * size);

		if (grown == NULL)
			return -ENOMEM;
		if (set->kind == PK_SET_IDENTITY)
			set->identities = grown;
		else
			set->prefixes = grown;
		set->room *= 2;
	}
	memcpy((char *)set_members(set) + set->nb++ * size, member, size);
	return 0;
}

static int
take_members(struct fw_rules_state *s, const struct pk_msg_set_members *m, struct pk_diag *diag)
{
	struct key key = { .number = m->set };
	struct entry *e = map_find(s, KIND_SET, &key);
	const char *given = m->kind == PK_SET_IDENTITY ? (const char *)m->identity
	                                               : (const char *)m->prefix;
	size_t size = member_size(m->kind);
	struct fw_set_source *set;

	if (e == NULL || ((struct fw_set_source *)e->object)->kind != m->kind) {
		pk_diag_set(diag, "members for set %016lx, which is not defined or of another kind",
		    (unsigned long)m->set);
		return -ENOENT;
	}
	set = e->object;
	if (e->touched != s->transaction) {
		set = set_create(set->id, set->kind, set_members(set), set->nb);
		if (set == NULL)
			return -ENOMEM;
		if (change(s, KIND_SET, &key, set) < 0)
			return -ENOMEM;
	}
	for (unsigned int i = 0; i < m->count; i++) {
		const char *member = given + i * size;
		char *members = set_members(set);
		uint32_t at = 0;

		if (m->op == PK_OP_PUT) {
			/* A member said twice is kept twice until the commit, which sorts. */
			if (set_add(set, member, size) < 0)
				return -ENOMEM;
			continue;
		}
		while (at < set->nb && memcmp(members + at * size, member, size) != 0)
			at++;
		if (at == set->nb) {
			pk_diag_set(diag, "set %016lx: cannot remove a member that is not in it",
			    (unsigned long)m->set);
			return -ENOENT;
		}
		memcpy(members + at * size, members + (size_t)--set->nb * size, size);
	}
	return 0;
}

static int
take_program(struct fw_rules_state *s, const struct pk_msg_program *m, struct pk_diag *diag)
{
	struct key key = { .number = m->program };
	struct fw_program_source *p;

	s->filling = NULL;
	s->extending = NULL;
	if (m->op == PK_OP_DELETE)
		return change_delete(s, KIND_PROGRAM, &key, diag);
	if (m->nb_rules > FW_RULE_SLOTS) {
		pk_diag_set(
		    diag, "program of %u rules: want at most %d", m->nb_rules, FW_RULE_SLOTS);
		return -ENOSPC;
	}
	p = calloc(1, sizeof(*p) + m->nb_rules * sizeof(p->rules[0]));
	if (p == NULL)
		return -ENOMEM;
	p->refs = 1;
	p->id = m->program;
	p->direction = m->direction;
	p->nb_rules = m->nb_rules;
	s->filling = p;
	if (change(s, KIND_PROGRAM, &key, p) < 0) {
		s->filling = NULL;
		return -ENOMEM;
	}
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

static int
extend(struct fw_rules_state *s, const struct pk_msg_rule_match *m, struct pk_diag *diag)
{
	struct fw_rule_source *r = s->extending;
	uint64_t *peers;
	struct pk_service *services;
	int rc = service_check(m, diag);

	if (rc < 0)
		return rc;
	peers = realloc(r->peers, (r->nb_peers + m->nb_peers + 1u) * sizeof(*peers));
	if (peers == NULL)
		return -ENOMEM;
	r->peers = peers;
	services = realloc(r->services, (r->nb_services + m->nb_services + 1u) * sizeof(*services));
	if (services == NULL)
		return -ENOMEM;
	r->services = services;
	memcpy(peers + r->nb_peers, m->peer, m->nb_peers * sizeof(*peers));
	memcpy(services + r->nb_services, m->service, m->nb_services * sizeof(*services));
	r->nb_peers += m->nb_peers;
	r->nb_services += m->nb_services;
	r->any_peer = m->any_peer;
	r->any_service = m->any_service;
	if (!m->more)
		s->extending = NULL;
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
	r->line = m->line;
	r->tier = m->tier;
	r->verdict = m->verdict;
	r->log = m->log;
	r->flags = m->flags;
	memcpy(r->policy, m->policy, sizeof(r->policy));
	memcpy(r->name, m->name, sizeof(r->name));
	memcpy(r->file, m->file, sizeof(r->file));
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
	if (!m->begin.full)
		return 0;
	for (unsigned int k = 0; k < KIND_COUNT; k++) {
		struct entry *e, *next;

		HASH_ITER(hh, s->map[k], e, next)
		{
			struct key key = e->key;

			if (change(s, (enum kind)k, &key, NULL) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static int
object_compare_identity(const void *a, const void *b)
{
	const struct fw_identity_source *x = *(struct fw_identity_source *const *)a;
	const struct fw_identity_source *y = *(struct fw_identity_source *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int
object_compare_set(const void *a, const void *b)
{
	const struct fw_set_source *x = *(struct fw_set_source *const *)a;
	const struct fw_set_source *y = *(struct fw_set_source *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int
object_compare_program(const void *a, const void *b)
{
	const struct fw_program_source *x = *(struct fw_program_source *const *)a;
	const struct fw_program_source *y = *(struct fw_program_source *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int
u32_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* A set of this transaction may name a member twice; its pairs of (class, set) must not. */
static void
set_tidy(struct fw_set_source *set)
{
	uint32_t kept = 0;

	if (set->kind != PK_SET_IDENTITY || set->nb == 0)
		return;
	qsort(set->identities, set->nb, sizeof(*set->identities), u32_compare);
	for (uint32_t i = 0; i < set->nb; i++)
		if (kept == 0 || set->identities[kept - 1] != set->identities[i])
			set->identities[kept++] = set->identities[i];
	set->nb = kept;
}

static void **
objects(struct fw_rules_state *s, enum kind kind, uint32_t *nb,
    int (*compare)(const void *, const void *))
{
	void **list = malloc((HASH_COUNT(s->map[kind]) + 1) * sizeof(*list));
	struct entry *e, *next;

	*nb = 0;
	if (list == NULL)
		return NULL;
	HASH_ITER(hh, s->map[kind], e, next)
	{
		if (kind == KIND_SET && e->touched == s->transaction)
			set_tidy(e->object);
		list[(*nb)++] = e->object;
	}
	if (compare != NULL)
		qsort(list, *nb, sizeof(*list), compare);
	return list;
}

static int
build(struct fw_rules_state *s, struct fw_rules **out, struct pk_diag *diag)
{
	struct fw_rules_input in = { .generation = s->target };
	int rc = -ENOMEM;

	in.identities = (struct fw_identity_source **)objects(
	    s, KIND_IDENTITY, &in.nb_identities, object_compare_identity);
	in.endpoints =
	    (struct fw_endpoint_source **)objects(s, KIND_ENDPOINT, &in.nb_endpoints, NULL);
	in.sets = (struct fw_set_source **)objects(s, KIND_SET, &in.nb_sets, object_compare_set);
	in.programs = (struct fw_program_source **)objects(
	    s, KIND_PROGRAM, &in.nb_programs, object_compare_program);
	if (in.identities != NULL && in.endpoints != NULL && in.sets != NULL && in.programs != NULL)
		rc = fw_rules_build(out, &in, diag);
	free(in.identities);
	free(in.endpoints);
	free(in.sets);
	free(in.programs);
	return rc;
}

/* The program now under the key of log line u, if this transaction put it there and it stayed. */
static struct fw_program_source *
new_program(struct fw_rules_state *s, size_t u)
{
	struct entry *e;

	if (s->undo[u].kind != KIND_PROGRAM)
		return NULL;
	/* Of several lines about one key only the last may answer. */
	for (size_t later = u + 1; later < s->nb_undo; later++)
		if (s->undo[later].kind == KIND_PROGRAM &&
		    s->undo[later].key.number == s->undo[u].key.number)
			return NULL;
	e = map_find(s, KIND_PROGRAM, &s->undo[u].key);
	return e != NULL ? e->object : NULL;
}

static int
commit(
    struct fw_rules_state *s, const struct pk_msg *m, struct fw_rules **out, struct pk_diag *diag)
{
	size_t taken = 0;
	int rc = 0;

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
	for (; rc == 0 && taken < s->nb_undo; taken++) {
		struct fw_program_source *p = new_program(s, taken);

		if (p != NULL && (rc = program_slots_take(s, p, diag)) < 0)
			break;
	}
	if (rc == 0)
		rc = build(s, out, diag);
	if (rc < 0) {
		while (taken-- > 0) {
			struct fw_program_source *p = new_program(s, taken);

			if (p != NULL)
				program_slots_give(s, p, p->nb_received);
		}
		return rc;
	}
	/* No way back from here: the old objects go, the slots of their rules with them. */
	for (size_t i = 0; i < s->nb_undo; i++) {
		struct undo *u = &s->undo[i];

		if (u->kind == KIND_PROGRAM && u->old != NULL) {
			struct fw_program_source *p = u->old;
			bool committed = true;

			/* Put and replaced within this transaction: never had slots. */
			for (size_t k = 0; k < i; k++)
				if (s->undo[k].kind == KIND_PROGRAM &&
				    s->undo[k].key.number == u->key.number)
					committed = false;
			if (committed)
				program_slots_give(s, p, p->nb_received);
		}
		object_put(u->kind, u->old);
	}
	s->nb_undo = 0;
	s->open = false;
	s->filling = NULL;
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

uint64_t
fw_rules_state_generation(const struct fw_rules_state *s)
{
	return s->generation;
}

int
fw_rules_state_create(struct fw_rules_state **out)
{
	struct fw_rules_state *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->free_slots = calloc(FW_RULE_SLOTS, sizeof(*s->free_slots));
	if (s->free_slots == NULL) {
		free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void
fw_rules_state_destroy(struct fw_rules_state *s)
{
	struct slot *slot, *next_slot;

	if (s == NULL)
		return;
	fw_rules_state_abort(s);
	for (unsigned int k = 0; k < KIND_COUNT; k++) {
		struct entry *e, *next;

		HASH_ITER(hh, s->map[k], e, next)
		{
			HASH_DEL(s->map[k], e);
			object_put((enum kind)k, e->object);
			free(e);
		}
	}
	HASH_ITER(hh, s->slots, slot, next_slot)
	{
		HASH_DEL(s->slots, slot);
		free(slot);
	}
	free(s->free_slots);
	free(s->undo);
	free(s);
}
