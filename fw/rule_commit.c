/*
 * From what a transaction has touched to the next generation.
 *
 * First everything is checked that one message cannot show: references to what is not there, to what
 * goes, to rules that did not arrive.  Then each touched object is carried into a copy of the roots:
 * members of sets into the programs that name the set, as these were; then programs, which find sets
 * as they are now; then identities, endpoints and the texts of rules.  Only memory can run out there.
 * What the state itself counts (users, slots) is settled last, or put back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule_priv.h"

#define EACH_TOUCHED(s, kind, e)                                         \
	for (uint32_t e##_i = 0; e##_i < (s)->touched[kind].nb; e##_i++) \
		for (struct fw_entry *e = (s)->touched[kind].entry[e##_i]; e != NULL; e = NULL)

/* ---- references ---- */

/* An endpoint has an identity for each posture of its host; they may be one and the same. */
#define ENDPOINT_IDENTITIES 2

static uint32_t
number_of(const struct fw_host *h, unsigned int k)
{
	return k == 0 ? h->endpoint.identity : h->endpoint.unattested;
}

static struct fw_entry *
identity_of(const struct fw_rules_state *s, const struct fw_host *h, unsigned int k)
{
	return h != NULL ? fw_entry_find(s, FW_ENTRY_IDENTITY, number_of(h, k)) : NULL;
}

static void
count_references(struct fw_rules_state *s, bool settle)
{
	EACH_TOUCHED(s, FW_ENTRY_ENDPOINT, e)
	for (unsigned int k = 0; k < ENDPOINT_IDENTITIES; k++) {
		struct fw_entry *was = identity_of(s, e->before, k);
		struct fw_entry *is = identity_of(s, e->object, k);

		if (was != NULL)
			was->more[0] += settle ? 1 : -1;
		if (is != NULL)
			is->more[0] += settle ? -1 : 1;
		if (settle && was != NULL)
			was->users[0]--;
		if (settle && is != NULL)
			is->users[0]++;
	}
	EACH_TOUCHED(s, FW_ENTRY_IDENTITY, i)
	{
		const struct fw_identity *before = i->before, *now = i->object;

		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
			struct fw_entry *was = before == NULL || before->program[d] == 0
			    ? NULL
			    : fw_entry_find(s, FW_ENTRY_PROGRAM, before->program[d]);
			struct fw_entry *is = now == NULL || now->program[d] == 0
			    ? NULL
			    : fw_entry_find(s, FW_ENTRY_PROGRAM, now->program[d]);

			if (was != NULL)
				was->more[d] += settle ? 1 : -1;
			if (is != NULL)
				is->more[d] += settle ? -1 : 1;
			if (settle && was != NULL)
				was->users[d]--;
			if (settle && is != NULL)
				is->users[d]++;
		}
	}
}

/* Back to what they were: the counts of this transaction are for nothing. */
static void
forget_references(struct fw_rules_state *s)
{
	EACH_TOUCHED(s, FW_ENTRY_ENDPOINT, e)
	{
		const struct fw_host *host[2] = { e->before, e->object };

		for (unsigned int k = 0; k < 2 * ENDPOINT_IDENTITIES; k++) {
			struct fw_entry *i = identity_of(s, host[k / 2], k % 2);

			if (i != NULL)
				memset(i->more, 0, sizeof(i->more));
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_IDENTITY, i)
	{
		const struct fw_identity *identity[2] = { i->before, i->object };

		for (unsigned int k = 0; k < 2; k++)
			for (unsigned int d = 0; identity[k] != NULL && d < PK_DIRECTION_COUNT;
			     d++) {
				struct fw_entry *p =
				    fw_entry_find(s, FW_ENTRY_PROGRAM, identity[k]->program[d]);

				if (p != NULL)
					memset(p->more, 0, sizeof(p->more));
			}
	}
}

static int
refuse_identity(const struct fw_identity *i, unsigned int direction, struct pk_diag *diag)
{
	pk_diag_set(diag, "identity %u (%s): %s program %016lx is not defined", i->id, i->labels,
	    pk_direction_name(direction), (unsigned long)i->program[direction]);
	return -ENOENT;
}

static int
refuse_endpoint(const struct fw_host *h, unsigned int k, struct pk_diag *diag)
{
	pk_diag_set(diag, "endpoint \"%s\": identity %u is not defined", h->name, number_of(h, k));
	return -ENOENT;
}

static int
refuse_rule(const struct fw_rule_source *r, uint64_t set, struct pk_diag *diag)
{
	const struct fw_rule_text *t = r->text != NULL ? r->text : r->slot->text;

	pk_diag_set(diag, "rule \"%s\" of policy \"%s\": peer set %016lx is not defined", t->name,
	    t->policy, (unsigned long)set);
	return -ENOENT;
}

/* The program in that slot names a set that goes, and stays itself. */
static int
refuse_set(const struct fw_rules_state *s, uint32_t slot, uint64_t set, struct pk_diag *diag)
{
	const struct fw_program_source *p = s->program[slot]->object;

	for (uint32_t i = 0; i < p->nb_rules; i++)
		for (uint32_t k = 0; k < p->rules[i].nb_peers; k++)
			if (p->peers[p->rules[i].first_peer + k] == set)
				return refuse_rule(&p->rules[i], set, diag);
	pk_bug(__FILE__, __LINE__, "the program is among the users of the set, but names it not");
}

/*
 * The entry of a set that a program names.  Most of its peers follow each other as they did in the
 * program it replaces, from *guess on; a comparison there is cheaper than a search.
 */
static struct fw_entry *
set_of(const struct fw_rules_state *s, const struct fw_program_source *before, uint32_t *guess,
    uint64_t set)
{
	uint32_t end = *guess + 2;

	for (uint32_t g = *guess; before != NULL && g < before->nb_peers && g < end; g++) {
		if (before->peers[g] == set) {
			*guess = g + 1;
			return before->sets[g];
		}
	}
	return fw_entry_find(s, FW_ENTRY_SET, set);
}

/* Each program that arrived: complete, in order of tiers, and naming sets that exist. */
static int
check_program(struct fw_rules_state *s, struct fw_program_source *p,
    const struct fw_program_source *before, struct pk_diag *diag)
{
	uint32_t guess = 0;

	if (p->nb_received != p->nb_rules) {
		pk_diag_set(diag, "program %016lx: %u of %u rules have arrived",
		    (unsigned long)p->id, p->nb_received, p->nb_rules);
		return -EPROTO;
	}
	p->sets = malloc(((size_t)p->nb_peers + 1) * sizeof(struct fw_entry *));
	if (p->sets == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nb_rules; i++) {
		const struct fw_rule_source *r = &p->rules[i];

		if (i > 0 && r->tier < p->rules[i - 1].tier) {
			const struct fw_rule_text *t = r->text != NULL ? r->text : r->slot->text;

			pk_diag_set(diag,
			    "rule \"%s\" of policy \"%s\": its tier is above that of the rule before it",
			    t->name, t->policy);
			return -EINVAL;
		}
		for (uint32_t k = r->first_peer; k < r->first_peer + r->nb_peers; k++) {
			p->sets[k] = set_of(s, before, &guess, p->peers[k]);
			if (p->sets[k] == NULL || p->sets[k]->object == NULL)
				return refuse_rule(r, p->peers[k], diag);
		}
	}
	return 0;
}

/* An identity that goes, or a program that goes or turns round: does anybody still need it? */
static int
check_gone(struct fw_rules_state *s, struct pk_diag *diag)
{
	EACH_TOUCHED(s, FW_ENTRY_IDENTITY, i)
	{
		struct fw_entry *e, *next;

		if (i->object != NULL || (int64_t)i->users[0] + i->more[0] == 0)
			continue;
		HASH_ITER(hh, s->map[FW_ENTRY_ENDPOINT], e, next)
		{
			const struct fw_host *h = e->object;

			for (unsigned int k = 0; h != NULL && k < ENDPOINT_IDENTITIES; k++)
				if (number_of(h, k) == i->key.number)
					return refuse_endpoint(h, k, diag);
		}
		pk_bug(__FILE__, __LINE__, "an identity counts an endpoint that nobody has");
	}
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, p)
	{
		const struct fw_program_source *src = p->object;

		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
			struct fw_entry *e, *next;

			if ((src != NULL && src->direction == d) ||
			    (int64_t)p->users[d] + p->more[d] == 0)
				continue;
			HASH_ITER(hh, s->map[FW_ENTRY_IDENTITY], e, next)
			{
				const struct fw_identity *i = e->object;

				if (i != NULL && i->program[d] == p->key.number)
					return refuse_identity(i, d, diag);
			}
			pk_bug(__FILE__, __LINE__, "a program counts an identity that nobody has");
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_SET, set)
	for (uint32_t k = 0; set->object == NULL && k < set->nb_programs; k++)
		if (s->program[set->programs[k]]->touched != s->transaction)
			return refuse_set(s, set->programs[k], set->key.number, diag);
	return 0;
}

static int
check(struct fw_rules_state *s, struct pk_diag *diag)
{
	int rc;

	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, p)
	if (p->object != NULL && (rc = check_program(s, p->object, p->before, diag)) < 0)
		return rc;
	EACH_TOUCHED(s, FW_ENTRY_ENDPOINT, e)
	{
		const struct fw_host *h = e->object;

		for (unsigned int k = 0; h != NULL && k < ENDPOINT_IDENTITIES; k++) {
			const struct fw_entry *i = identity_of(s, h, k);

			if (i == NULL || i->object == NULL)
				return refuse_endpoint(h, k, diag);
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_IDENTITY, e)
	{
		const struct fw_identity *i = e->object;

		for (unsigned int d = 0; i != NULL && d < PK_DIRECTION_COUNT; d++) {
			const struct fw_entry *p = i->program[d] == 0
			    ? NULL
			    : fw_entry_find(s, FW_ENTRY_PROGRAM, i->program[d]);

			if (i->program[d] != 0 &&
			    (p == NULL || p->object == NULL ||
			        ((struct fw_program_source *)p->object)->direction != d))
				return refuse_identity(i, d, diag);
		}
	}
	count_references(s, false);
	return check_gone(s, diag);
}

/* ---- slots of rules ---- */

static int
slot_take(struct fw_rules_state *s, struct fw_rule_source *r, struct pk_diag *diag)
{
	struct fw_slot *slot = r->slot;

	/* Another program of this transaction may have brought it. */
	if (slot == NULL)
		HASH_FIND(hh, s->slots, &r->id, sizeof(r->id), slot);
	if (slot == NULL) {
		if (s->nb_slots_used == FW_RULE_SLOTS && s->nb_free_slots == 0) {
			pk_diag_set(diag, "more than %d rules at once", FW_RULE_SLOTS);
			return -ENOSPC;
		}
		slot = calloc(1, sizeof(*slot));
		if (slot == NULL)
			return -ENOMEM;
		slot->id = r->id;
		HASH_ADD(hh, s->slots, id, sizeof(slot->id), slot);
		if (slot->hh.tbl == NULL) {
			free(slot);
			return -ENOMEM;
		}
		/* One that was used before is taken last, so that late counts meet nobody else. */
		if (s->nb_slots_used < FW_RULE_SLOTS) {
			slot->slot = s->nb_slots_used++;
		} else {
			slot->slot = s->free_slots[s->free_at];
			s->free_at = (s->free_at + 1) % FW_RULE_SLOTS;
			s->nb_free_slots--;
		}
	}
	r->slot = slot;
	r->taken = true;
	slot->users++;
	return 0;
}

static void
slot_free(struct fw_rules_state *s, struct fw_slot *slot)
{
	s->free_slots[(s->free_at + s->nb_free_slots++) % FW_RULE_SLOTS] = slot->slot;
	HASH_DEL(s->slots, slot);
	free(slot);
}

static int
slots_take(struct fw_rules_state *s, struct pk_diag *diag)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->object;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			int rc = slot_take(s, &p->rules[i], diag);

			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static void
slots_untake(struct fw_rules_state *s)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->object;

		for (uint32_t i = 0; p != NULL && i < p->nb_received; i++) {
			struct fw_rule_source *r = &p->rules[i];

			if (r->taken && --r->slot->users == 0)
				slot_free(s, r->slot);
			r->taken = false;
		}
	}
}

/* Texts as the programs that arrived have them; none for rules whose last program goes. */
static int
texts_change(struct fw_rules_state *s, struct fw_roots *to)
{
	struct fw_parts *m = &s->line->parts;

	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->object;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			const struct fw_rule_source *r = &p->rules[i];
			struct fw_rule_text *t;
			struct fw_id_entry *id;

			if (r->text == NULL)
				continue;
			t = fw_part_new(m, sizeof(*t));
			if (t == NULL)
				return -ENOMEM;
			memcpy((char *)t + sizeof(t->part), (char *)r->text + sizeof(t->part),
			    sizeof(*t) - sizeof(t->part));
			fw_part_drop(m, fw_vec_get(&to->texts, r->slot->slot));
			id = fw_table_edit(m, &to->ids, &fw_ids_kind, &r->id, true);
			if (id == NULL || fw_vec_set(m, &to->texts, r->slot->slot, t) < 0)
				return -ENOMEM;
			id->slot = r->slot->slot;
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		const struct fw_program_source *p = e->before;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			struct fw_slot *slot = p->rules[i].slot;

			if (slot->users > 0 || slot->dying)
				continue;
			slot->dying = true;
			fw_part_drop(m, fw_vec_get(&to->texts, slot->slot));
			if (fw_vec_set(m, &to->texts, slot->slot, NULL) < 0 ||
			    fw_table_remove(m, &to->ids, &fw_ids_kind, &slot->id) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* The programs that were there before have, or have not, given their slots back. */
static void
slots_give(struct fw_rules_state *s, bool give)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		const struct fw_program_source *p = e->before;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			p->rules[i].slot->users += give ? -1u : 1u;
			p->rules[i].slot->dying = false;
		}
	}
}

static void
slots_settle(struct fw_rules_state *s)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->object;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			struct fw_rule_source *r = &p->rules[i];

			r->slot->text = fw_vec_get(&s->line->head.texts, r->slot->slot);
			free(r->text);
			r->text = NULL;
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->before;

		/* A slot that goes may have stood in several places; the first keeps it for below. */
		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
			struct fw_slot *slot = p->rules[i].slot;

			if (slot->users == 0 && !slot->dying)
				p->rules[i].slot = NULL;
			slot->dying = false;
		}
	}
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program_source *p = e->before;

		for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++)
			if (p->rules[i].slot != NULL && p->rules[i].slot->users == 0)
				slot_free(s, p->rules[i].slot);
	}
}

/* ---- slots of programs, and the programs of sets ---- */

static int
program_slot_take(struct fw_rules_state *s, struct fw_entry *e)
{
	if (s->nb_free_programs == 0 && s->nb_programs == s->room_programs) {
		uint32_t room = PK_MAX(2 * s->room_programs, 64u);
		struct fw_entry **program = realloc(s->program, room * sizeof(struct fw_entry *));
		uint32_t *free_programs;

		if (program == NULL)
			return -ENOMEM;
		s->program = program;
		free_programs = realloc(s->free_programs, room * sizeof(*free_programs));
		if (free_programs == NULL)
			return -ENOMEM;
		s->free_programs = free_programs;
		s->room_programs = room;
	}
	e->slot = s->nb_free_programs > 0 ? s->free_programs[--s->nb_free_programs]
	                                  : s->nb_programs++;
	s->program[e->slot] = e;
	return 0;
}

static void
program_slot_give(struct fw_rules_state *s, struct fw_entry *e)
{
	if (e->slot == FW_PROGRAM_NONE)
		return;
	s->program[e->slot] = NULL;
	s->free_programs[s->nb_free_programs++] = e->slot;
	e->slot = FW_PROGRAM_NONE;
}

static void
set_user_remove(struct fw_entry *set, uint32_t slot)
{
	for (uint32_t i = 0; i < set->nb_programs; i++) {
		if (set->programs[i] == slot) {
			set->programs[i] = set->programs[--set->nb_programs];
			return;
		}
	}
}

static int
set_user_add(struct fw_entry *set, uint32_t slot)
{
	if (set->nb_programs == set->room_programs) {
		uint32_t room = PK_MAX(2 * set->room_programs, 2u);
		uint32_t *grown = realloc(set->programs, room * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		set->programs = grown;
		set->room_programs = room;
	}
	set->programs[set->nb_programs++] = slot;
	return 0;
}

/* Add the program to, or remove it from, the users of each set that `a` names and `b` does not. */
static int
set_users(struct fw_rules_state *s, const struct fw_program_source *a,
    const struct fw_program_source *b, uint32_t slot, bool add)
{
	uint32_t mark = ++s->mark;

	for (uint32_t i = 0; b != NULL && i < b->nb_peers; i++)
		b->sets[i]->mark = mark;
	for (uint32_t i = 0; a != NULL && i < a->nb_peers; i++) {
		if (a->sets[i]->mark == mark)
			continue;
		a->sets[i]->mark = mark;
		if (!add)
			set_user_remove(a->sets[i], slot);
		else if (set_user_add(a->sets[i], slot) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- carrying it into the roots ---- */

/* What has become of a set: its own notes if it is the same object, or one against the other. */
static struct fw_member_change *
set_changes(const struct fw_entry *e, size_t *nb)
{
	const struct fw_set *before = e->before, *now = e->object;
	struct fw_member_change *c =
	    malloc(((size_t)before->nb + (now != NULL ? now->nb : 0) + 1) * sizeof(*c));

	*nb = 0;
	if (c == NULL)
		return NULL;
	if (before == now) {
		for (uint32_t i = 0; i < now->nb_changed; i++) {
			const struct fw_member *m = &now->member[now->changed[i]];

			if (m->now != m->before)
				c[(*nb)++] = (struct fw_member_change){ now->kind, m->now, m };
		}
		return c;
	}
	for (uint32_t i = 0; i < before->nb; i++)
		if (before->member[i].before &&
		    (now == NULL || now->kind != before->kind ||
		        !fw_set_has(now, &before->member[i])))
			c[(*nb)++] =
			    (struct fw_member_change){ before->kind, false, &before->member[i] };
	for (uint32_t i = 0; now != NULL && i < now->nb; i++)
		if (now->member[i].now &&
		    (now->kind != before->kind || !fw_set_had(before, &now->member[i])))
			c[(*nb)++] = (struct fw_member_change){ now->kind, true, &now->member[i] };
	return c;
}

static int
sets_change(struct fw_rules_state *s, struct fw_roots *to)
{
	struct fw_parts *m = &s->line->parts;

	EACH_TOUCHED(s, FW_ENTRY_SET, e)
	{
		struct fw_member_change *changes;
		int rc = 0;
		size_t nb;

		if (e->nb_programs == 0)
			continue;
		changes = set_changes(e, &nb);
		if (changes == NULL)
			return -ENOMEM;
		for (uint32_t i = 0; rc == 0 && nb > 0 && i < e->nb_programs; i++) {
			const struct fw_entry *user = s->program[e->programs[i]];
			struct fw_program *p = fw_vec_get(&to->programs, user->slot);

			if (user->object == NULL)
				continue; /* it goes as a whole */
			rc = fw_program_members(m, &p,
			    user->touched == s->transaction ? user->before : user->object, e,
			    changes, nb);
			if (rc == 0)
				rc = fw_vec_set(m, &to->programs, user->slot, p);
		}
		free(changes);
		if (rc < 0)
			return rc;
	}
	EACH_TOUCHED(s, FW_ENTRY_SET, e)
	{
		for (uint32_t i = 0; i < e->nb_programs; i++) {
			const struct fw_entry *user = s->program[e->programs[i]];
			struct fw_program *p = fw_vec_get(&to->programs, user->slot);

			if (user->touched != s->transaction &&
			    (fw_program_refresh(m, &p, user->object) < 0 ||
			        fw_vec_set(m, &to->programs, user->slot, p) < 0))
				return -ENOMEM;
		}
	}
	return 0;
}

static int
programs_change(struct fw_rules_state *s, struct fw_roots *to)
{
	struct fw_parts *m = &s->line->parts;

	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		struct fw_program *p = NULL;
		int rc = 0;

		if (e->before == NULL && e->object == NULL)
			continue; /* came and went */
		if (e->before == NULL)
			rc = program_slot_take(s, e);
		else
			p = fw_vec_get(&to->programs, e->slot);
		if (rc == 0 && e->object == NULL) {
			fw_program_drop(m, p);
			p = NULL;
		} else if (rc == 0) {
			rc = p == NULL ? fw_program_build(m, &p, e->object)
			               : fw_program_change(m, &p, e->before, e->object);
		}
		if (rc < 0 || (rc = fw_vec_set(m, &to->programs, e->slot, p)) < 0 ||
		    (rc = set_users(s, e->object, e->before, e->slot, true)) < 0)
			return rc;
	}
	return 0;
}

static void
programs_settle(struct fw_rules_state *s)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		if (e->before != NULL)
			(void)set_users(s, e->before, e->object, e->slot, false);
		if (e->object == NULL)
			program_slot_give(s, e);
	}
}

static void
programs_restore(struct fw_rules_state *s)
{
	EACH_TOUCHED(s, FW_ENTRY_PROGRAM, e)
	{
		const struct fw_program_source *p = e->object;

		if (p != NULL && p->sets != NULL && e->slot != FW_PROGRAM_NONE)
			(void)set_users(s, p, e->before, e->slot, false);
		if (e->before == NULL)
			program_slot_give(s, e);
	}
}

static int
identities_change(struct fw_rules_state *s, struct fw_roots *to)
{
	struct fw_parts *m = &s->line->parts;

	EACH_TOUCHED(s, FW_ENTRY_IDENTITY, e)
	{
		uint32_t id = (uint32_t)e->key.number;
		struct fw_identity *i = e->object;
		struct fw_identity_entry *entry;

		if (e->before == e->object)
			continue;
		fw_part_drop(m, e->before);
		if (i == NULL) {
			if (fw_table_remove(m, &to->identities, &fw_identities_kind, &id) < 0)
				return -ENOMEM;
			continue;
		}
		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++)
			i->slot[d] = i->program[d] == 0
			    ? FW_PROGRAM_NONE
			    : fw_entry_find(s, FW_ENTRY_PROGRAM, i->program[d])->slot;
		entry = fw_table_edit(m, &to->identities, &fw_identities_kind, &id, true);
		if (entry == NULL)
			return -ENOMEM;
		entry->identity = i;
	}
	return 0;
}

static int
endpoints_change(struct fw_rules_state *s, struct fw_roots *to)
{
	struct fw_parts *m = &s->line->parts;

	EACH_TOUCHED(s, FW_ENTRY_ENDPOINT, e)
	{
		struct fw_host_key key = fw_host_key((uint32_t)e->key.number, &e->key.addr);
		struct fw_host_entry *entry;

		if (e->before == e->object)
			continue;
		fw_part_drop(m, e->before);
		if (e->object == NULL) {
			if (fw_table_remove(m, &to->hosts, &fw_hosts_kind, &key) < 0)
				return -ENOMEM;
			continue;
		}
		entry = fw_table_edit(m, &to->hosts, &fw_hosts_kind, &key, true);
		if (entry == NULL)
			return -ENOMEM;
		entry->host = e->object;
		entry->identity = entry->host->endpoint.identity;
		entry->unattested = entry->host->endpoint.unattested;
	}
	return 0;
}

/* Names have no part in most changes. */
static int
patterns_change(struct fw_rules_state *s, struct fw_roots *to, struct pk_diag *diag)
{
	bool changed = false;

	EACH_TOUCHED(s, FW_ENTRY_SET, e)
	{
		const struct fw_set *before = e->before, *now = e->object;

		changed |= before != now &&
		    ((before != NULL && before->kind == PK_SET_NAME) ||
		        (now != NULL && now->kind == PK_SET_NAME));
	}
	if (!changed)
		return 0;
	fw_part_drop(&s->line->parts, to->patterns);
	to->patterns = NULL;
	return fw_patterns_build(s, &to->patterns, diag);
}

static int
ask_ready(struct fw_rules_state *s, struct pk_diag *diag)
{
	int rc = 0;

	s->committing = true;
	if (s->ready != NULL)
		rc = s->ready(s->ready_arg, s, diag);
	s->committing = false;
	return rc;
}

int
fw_commit(struct fw_rules_state *s, struct fw_rules **out, struct pk_diag *diag)
{
	struct fw_roots to = s->line->head;
	struct fw_rules *r;
	int rc;

	rc = check(s, diag);
	if (rc < 0) {
		forget_references(s);
		return rc;
	}
	pk_diag_set(diag, "out of memory while building the rules");
	r = calloc(1, sizeof(*r));
	rc = r != NULL ? slots_take(s, diag) : -ENOMEM;
	slots_give(s, true);
	if (rc < 0 || (rc = sets_change(s, &to)) < 0 || (rc = programs_change(s, &to)) < 0 ||
	    (rc = identities_change(s, &to)) < 0 || (rc = endpoints_change(s, &to)) < 0 ||
	    (rc = texts_change(s, &to)) < 0 || (rc = patterns_change(s, &to, diag)) < 0 ||
	    (rc = s->line->parts.failed ? -ENOMEM : 0) < 0 || (rc = ask_ready(s, diag)) < 0) {
		programs_restore(s);
		slots_give(s, false);
		slots_untake(s);
		forget_references(s);
		free(r);
		return rc;
	}
	/* No way back from here. */
	count_references(s, true); /* which reads what the next line may free */
	fw_line_commit(s->line, &to, s->target, r);
	programs_settle(s);
	slots_settle(s);
	*out = r;
	return 0;
}
