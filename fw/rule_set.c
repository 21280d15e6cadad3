#include "fw/rule_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule_priv.h"

static size_t
member_size(const struct fw_set *s)
{
	switch (s->kind) {
	case PK_SET_IDENTITY:
		return sizeof(uint32_t);
	case PK_SET_NAME:
		return sizeof(uint64_t);
	default:
		return sizeof(struct pk_prefix);
	}
}

static uint32_t
member_hash(const struct fw_set *s, const void *member)
{
	const struct pk_prefix *p = member;
	uint64_t a[2];
	uint32_t id;

	if (s->kind == PK_SET_IDENTITY) {
		memcpy(&id, member, sizeof(id));
		return (uint32_t)fw_mix(id, 1);
	}
	if (s->kind == PK_SET_NAME)
		return 0; /* there is but one */
	memcpy(a, p->addr.bytes, sizeof(a));
	return (uint32_t)fw_mix(fw_mix(a[0], a[1]), (uint64_t)p->len << 8 | p->addr.family);
}

/* FNV-1a; nobody gains by patterns of one number, for who writes one could as well write the other. */
uint64_t
fw_set_name(const char *pattern)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *pattern != '\0'; pattern++)
		h = (h ^ (uint8_t)*pattern) * UINT64_C(0x100000001b3);
	return h;
}

struct fw_set *
fw_set_create(uint64_t id, uint8_t kind, const char *name)
{
	size_t len = kind == PK_SET_NAME ? strlen(name) + 1 : 0;
	struct fw_set *s = calloc(1, sizeof(*s) + len);
	uint64_t number;

	if (s == NULL)
		return NULL;
	s->id = id;
	s->kind = kind;
	if (kind != PK_SET_NAME)
		return s;
	memcpy(s->pattern, name, len);
	number = fw_set_name(name);
	if (fw_set_add(s, &number) == 0)
		return s;
	fw_set_destroy(s);
	return NULL;
}

void
fw_set_destroy(struct fw_set *s)
{
	if (s == NULL)
		return;
	free(s->member);
	free(s->slot);
	free(s->changed);
	free(s);
}

/* The member's index, or where its hash ends. */
static bool
find(const struct fw_set *s, const void *member, uint32_t *index)
{
	uint32_t h = member_hash(s, member);

	if (s->slot == NULL)
		return false;
	for (; s->slot[h & s->mask] != 0; h++) {
		*index = s->slot[h & s->mask] - 1;
		if (memcmp(&s->member[*index], member, member_size(s)) == 0)
			return true;
	}
	return false;
}

static void
place(struct fw_set *s, uint32_t index)
{
	uint32_t h = member_hash(s, &s->member[index]);

	while (s->slot[h & s->mask] != 0)
		h++;
	s->slot[h & s->mask] = index + 1;
}

static int
grow(struct fw_set *s)
{
	uint32_t room = PK_MAX(2 * s->room, 4u), size = 2 * room;
	struct fw_member *member = realloc(s->member, room * sizeof(*member));
	uint32_t *slot;

	if (member == NULL)
		return -ENOMEM;
	s->member = member;
	slot = calloc(size, sizeof(*slot));
	if (slot == NULL)
		return -ENOMEM;
	free(s->slot);
	s->slot = slot;
	s->mask = size - 1;
	s->room = room;
	for (uint32_t i = 0; i < s->nb; i++)
		place(s, i);
	return 0;
}

/* Note that the transaction touches a member; once is enough. */
static int
note(struct fw_set *s, uint32_t index)
{
	if (s->member[index].changed)
		return 0;
	if (s->nb_changed == s->room_changed) {
		uint32_t room = PK_MAX(2 * s->room_changed, 16u);
		uint32_t *grown = realloc(s->changed, room * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		s->changed = grown;
		s->room_changed = room;
	}
	s->changed[s->nb_changed++] = index;
	s->member[index].changed = true;
	return 0;
}

int
fw_set_add(struct fw_set *s, const void *member)
{
	uint32_t i;

	if (!find(s, member, &i)) {
		if (s->nb == s->room && grow(s) < 0)
			return -ENOMEM;
		i = s->nb++;
		memset(&s->member[i], 0, sizeof(s->member[i]));
		memcpy(&s->member[i], member, member_size(s));
		place(s, i);
	}
	if (s->member[i].now)
		return 0;
	if (note(s, i) < 0)
		return -ENOMEM;
	s->member[i].now = true;
	s->nb_now++;
	return 0;
}

int
fw_set_remove(struct fw_set *s, const void *member)
{
	uint32_t i;

	if (!find(s, member, &i) || !s->member[i].now)
		return -ENOENT;
	if (note(s, i) < 0)
		return -ENOMEM;
	s->member[i].now = false;
	s->nb_now--;
	return 0;
}

bool
fw_set_has(const struct fw_set *s, const void *member)
{
	uint32_t i;

	return find(s, member, &i) && s->member[i].now;
}

bool
fw_set_had(const struct fw_set *s, const void *member)
{
	uint32_t i;

	return find(s, member, &i) && s->member[i].before;
}

/* Forget members that are gone, once they are most of all. */
static void
tidy(struct fw_set *s)
{
	uint32_t kept = 0;

	if (s->nb < 64 || s->nb_now > s->nb / 2)
		return;
	for (uint32_t i = 0; i < s->nb; i++)
		if (s->member[i].now)
			s->member[kept++] = s->member[i];
	s->nb = kept;
	memset(s->slot, 0, ((size_t)s->mask + 1) * sizeof(*s->slot));
	for (uint32_t i = 0; i < s->nb; i++)
		place(s, i);
}

static void
settle(struct fw_set *s, bool commit)
{
	for (uint32_t i = 0; i < s->nb_changed; i++) {
		struct fw_member *m = &s->member[s->changed[i]];

		if (!commit) {
			s->nb_now = s->nb_now - m->now + m->before;
			m->now = m->before;
		}
		m->before = m->now;
		m->changed = false;
	}
	s->nb_changed = 0;
	tidy(s);
}

void
fw_set_commit(struct fw_set *s)
{
	settle(s, true);
}

void
fw_set_abort(struct fw_set *s)
{
	settle(s, false);
}
