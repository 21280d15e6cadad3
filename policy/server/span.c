#include "policy/server/span.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arena.h"
#include "policy/map.h"

#define NONE POLICY_MAP_NONE

/* How often an object is needed by one DPU. */
struct use {
	uint32_t span, nb;
};

typedef POLICY_VECTOR(struct use) uses; /* by span */

struct object {
	struct server_object o; /* its resources and what it leads to */
	uint8_t map_key[1 + POLICY_KEY_MAX];
	uses users;
	uses homes;                               /* of an identity */
	POLICY_VECTOR(struct object *) endpoints; /* of an identity */
	struct object *identity;                  /* of an endpoint, to others */
	struct object *own[2];                    /* to its own DPU, by posture; may be one */
	uint32_t span;                            /* of an endpoint */
	uint32_t index;                           /* in all */
};

struct workload {
	char *name;
	uint32_t nb; /* addresses */
};

struct own_span {
	struct server_span s;
	struct policy_map names; /* of workloads behind it, to index in workloads */
	POLICY_VECTOR(struct workload) workloads;
};

struct mark {
	uint32_t span, object;
};

struct leaving {
	uint32_t span;
	char *workload;
};

struct server_spans {
	POLICY_VECTOR(struct object *) all; /* NULL where one has gone */
	POLICY_VECTOR(uint32_t) free_objects;
	struct policy_map index;                /* map_key -> index in all */
	POLICY_VECTOR(struct own_span *) spans; /* the first is of those without a DPU */
	struct policy_map span_index;
	POLICY_VECTOR(struct mark) marks; /* what may differ in whose span */
	/* Who has left a span in this change; an endpoint that only changes is among them, and has come back. */
	POLICY_VECTOR(struct leaving) leaving;
	void (*left)(void *arg, const char *dpu, const char *workload);
	void *left_arg;
	int nomem;
};

/* ---- counts -------------------------------------------------------------------------------------- */

/* Add `by` to what `span` has in `u`.  Returns the new count. */
static uint32_t
count(struct server_spans *s, uses *u, uint32_t span, int by)
{
	size_t low = 0, high = u->nb;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (u->at[mid].span < span)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < u->nb && u->at[low].span == span) {
		u->at[low].nb = (uint32_t)((int)u->at[low].nb + by);
		if (u->at[low].nb > 0)
			return u->at[low].nb;
		memmove(u->at + low, u->at + low + 1, (u->nb - 1 - low) * sizeof(u->at[0]));
		u->nb--;
		return 0;
	}
	PK_ASSERT(by > 0 || s->nomem);
	if (by < 0 || POLICY_PUSH(u) == NULL) {
		s->nomem = 1;
		return 0;
	}
	memmove(u->at + low + 1, u->at + low, (u->nb - 1 - low) * sizeof(u->at[0]));
	u->at[low] = (struct use){ span, (uint32_t)by };
	return (uint32_t)by;
}

static uint32_t
counted(const uses *u, uint32_t span)
{
	size_t low = 0, high = u->nb;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (u->at[mid].span < span)
			low = mid + 1;
		else
			high = mid;
	}
	return low < u->nb && u->at[low].span == span ? u->at[low].nb : 0;
}

static void
mark(struct server_spans *s, uint32_t span, const struct object *o)
{
	struct mark *m = POLICY_PUSH(&s->marks);

	if (m == NULL)
		s->nomem = 1;
	else
		*m = (struct mark){ span, o->index };
}

static void
mark_users(struct server_spans *s, const struct object *o, const uses *users)
{
	for (size_t i = 0; i < users->nb; i++)
		mark(s, users->at[i].span, o);
}

/* The DPU an endpoint lives behind has it in any case. */
static void
mark_home(struct server_spans *s, const struct object *endpoint)
{
	if (endpoint->span != 0)
		mark(s, endpoint->span, endpoint);
}

/* ---- objects ------------------------------------------------------------------------------------- */

static size_t
map_key(uint8_t out[1 + POLICY_KEY_MAX], unsigned int type, const uint8_t *key, size_t len)
{
	out[0] = (uint8_t)type;
	memcpy(out + 1, key, len);
	return len + 1;
}

/* The object of a key; a new one without anything if there is none. */
static struct object *
object(struct server_spans *s, unsigned int type, const uint8_t *key, size_t len)
{
	uint8_t bytes[1 + POLICY_KEY_MAX];
	size_t n = map_key(bytes, type, key, len);
	uint32_t i = policy_map_get(&s->index, bytes, n);
	struct object *o, **slot = NULL;

	if (i != NONE)
		return s->all.at[i];
	o = calloc(1, sizeof(*o));
	if (o != NULL && s->free_objects.nb > 0) {
		i = s->free_objects.at[--s->free_objects.nb];
		slot = &s->all.at[i];
	} else if (o != NULL) {
		i = (uint32_t)s->all.nb;
		slot = POLICY_PUSH(&s->all);
	}
	if (slot == NULL) {
		free(o);
		s->nomem = 1;
		return NULL;
	}
	*slot = o;
	memcpy(o->map_key, bytes, n);
	o->index = i;
	o->o.type = (uint8_t)type;
	o->o.key_len = (uint8_t)len;
	memcpy(o->o.key, key, len);
	if (policy_map_put(&s->index, o->map_key, n, i) < 0)
		s->nomem = 1;
	return o;
}

static struct object *
numbered(struct server_spans *s, unsigned int type, uint64_t number)
{
	size_t len = type == POLICY_RESOURCE_IDENTITY ? 4 : 8;
	uint8_t key[8];

	for (size_t i = 0; i < len; i++)
		key[i] = (uint8_t)(number >> (8 * (len - 1 - i)));
	return object(s, type, key, len);
}

static void
own_fini(struct object *o)
{
	policy_resource_put(o->o.now);
	policy_resource_put(o->o.subject);
	free(o->o.dpu);
	free(o->o.workload);
	free(o->o.members);
	free(o->o.sets);
	o->o.now = o->o.subject = NULL;
	o->o.dpu = o->o.workload = NULL;
	o->o.members = NULL;
	o->o.sets = NULL;
	o->o.nb = 0;
}

static void
object_destroy(struct object *o)
{
	if (o == NULL)
		return;
	own_fini(o);
	free(o->users.at);
	free(o->homes.at);
	free(o->endpoints.at);
	free(o);
}

/* Gone, and nobody counts on it. */
static void
forget(struct server_spans *s, struct object *o)
{
	uint32_t *slot;

	if (o->o.now != NULL || o->users.nb > 0 || o->homes.nb > 0 || o->endpoints.nb > 0)
		return;
	policy_map_remove(&s->index, o->map_key, o->o.key_len + 1U);
	s->all.at[o->index] = NULL;
	slot = POLICY_PUSH(&s->free_objects);
	if (slot == NULL)
		s->nomem = 1;
	else
		*slot = o->index;
	object_destroy(o);
}

/* ---- who needs what ------------------------------------------------------------------------------ */

static void
use_identity(struct server_spans *s, struct object *id, uint32_t span, int by)
{
	uint32_t now = count(s, &id->users, span, by);

	if (now != 0 && !(by > 0 && now == 1))
		return;
	mark(s, span, id);
	for (size_t i = 0; i < id->endpoints.nb; i++)
		mark(s, span, id->endpoints.at[i]);
}

static void
use_members(struct server_spans *s, const uint32_t *members, size_t nb, uint32_t span, int by)
{
	for (size_t i = 0; i < nb && !s->nomem; i++) {
		struct object *id = numbered(s, POLICY_RESOURCE_IDENTITY, members[i]);

		if (id != NULL)
			use_identity(s, id, span, by);
	}
}

static void
use_set(struct server_spans *s, struct object *set, uint32_t span, int by)
{
	uint32_t now = count(s, &set->users, span, by);

	if (now != 0 && !(by > 0 && now == 1))
		return;
	mark(s, span, set);
	use_members(s, set->o.members, set->o.members != NULL ? set->o.nb : 0, span, by);
}

static void
use_program(struct server_spans *s, uint64_t id, uint32_t span, int by)
{
	struct object *p = numbered(s, POLICY_RESOURCE_PROGRAM, id);
	uint32_t now;

	if (p == NULL)
		return;
	now = count(s, &p->users, span, by);
	if (now != 0 && !(by > 0 && now == 1))
		return;
	mark(s, span, p);
	for (size_t i = 0; i < p->o.nb && !s->nomem; i++) {
		struct object *set = numbered(s, POLICY_RESOURCE_SET, p->o.sets[i]);

		if (set != NULL)
			use_set(s, set, span, by);
	}
}

static void
use_programs(struct server_spans *s, const struct object *id, uint32_t span, int by)
{
	for (int d = 0; d < PK_DIRECTION_COUNT; d++)
		if (id->o.program[d] != 0)
			use_program(s, id->o.program[d], span, by);
}

/* An endpoint of this identity comes to live behind a DPU, or leaves. */
static void
home(struct server_spans *s, struct object *id, uint32_t span, int by)
{
	uint32_t now;

	if (span == 0)
		return;
	now = count(s, &id->homes, span, by);
	if (now != 0 && !(by > 0 && now == 1))
		return;
	mark(s, span, id); /* as a subject it has programs */
	use_programs(s, id, span, by);
}

/* ---- changes ------------------------------------------------------------------------------------- */

/* Takes `workload`. */
static void
note_leaving(struct server_spans *s, uint32_t span, char *workload)
{
	struct leaving *l = s->left != NULL && span != 0 ? POLICY_PUSH(&s->leaving) : NULL;

	if (l == NULL) {
		s->nomem |= s->left != NULL && span != 0;
		free(workload);
		return;
	}
	l->span = span;
	l->workload = workload;
}

static void
tell_left(struct server_spans *s)
{
	for (size_t i = 0; i < s->leaving.nb; i++) {
		const struct leaving *l = &s->leaving.at[i];
		const char *dpu = s->spans.at[l->span]->s.name;

		if (!server_spans_lives(s, dpu, l->workload))
			s->left(s->left_arg, dpu, l->workload);
		free(l->workload);
	}
	s->leaving.nb = 0;
}

static void
count_workload(struct server_spans *s, uint32_t span, const char *name, int by)
{
	struct own_span *own = s->spans.at[span];
	uint32_t i = policy_map_get_text(&own->names, name);
	struct workload *w;

	if (i == NONE) {
		i = (uint32_t)own->workloads.nb;
		w = POLICY_PUSH(&own->workloads);
		if (w == NULL || (w->name = strdup(name)) == NULL) {
			s->nomem = 1;
			return;
		}
		w->nb = 0;
		if (policy_map_put_text(&own->names, w->name, i) < 0)
			s->nomem = 1;
	}
	w = &own->workloads.at[i];
	own->s.nb_workloads += by > 0 && w->nb == 0;
	w->nb = (uint32_t)((int)w->nb + by);
	if (w->nb > 0)
		return;
	own->s.nb_workloads--;
	policy_map_remove_text(&own->names, w->name);
	note_leaving(s, span, w->name);
	if (i != own->workloads.nb - 1) {
		/* The last takes its place. */
		*w = own->workloads.at[own->workloads.nb - 1];
		policy_map_remove_text(&own->names, w->name);
		if (policy_map_put_text(&own->names, w->name, i) < 0)
			s->nomem = 1;
	}
	own->workloads.nb--;
}

/* Resources and texts change owner. */
static void
take(struct object *to, struct server_object *from)
{
	own_fini(to);
	to->o = *from;
	memset(from, 0, sizeof(*from));
}

static void
change_set(struct server_spans *s, struct object *o, struct server_object *now)
{
	struct server_object old = o->o;
	size_t i = 0, k = 0;

	memset(&o->o, 0, sizeof(o->o));
	take(o, now);
	mark_users(s, o, &o->users);
	/* Both ascend: only what is in one of them matters. */
	while (o->users.nb > 0 && (i < old.nb || k < o->o.nb) && !s->nomem) {
		uint32_t a = old.members != NULL && i < old.nb ? old.members[i] : UINT32_MAX;
		uint32_t b = o->o.members != NULL && k < o->o.nb ? o->o.members[k] : UINT32_MAX;

		if (a == b && a == UINT32_MAX)
			break;
		for (size_t u = 0; a != b && u < o->users.nb; u++)
			use_members(s, a < b ? &a : &b, 1, o->users.at[u].span, a < b ? -1 : 1);
		i += a <= b;
		k += b <= a;
	}
	policy_resource_put(old.now);
	free(old.members);
}

static void
change_identity(struct server_spans *s, struct object *o, struct server_object *now)
{
	struct object old = *o;

	mark_users(s, o, &o->users);
	mark_users(s, o, &o->homes);
	/* First what is new, so that what both need never falls to nothing. */
	memcpy(o->o.program, now->program, sizeof(o->o.program));
	for (size_t i = 0; i < o->homes.nb; i++)
		use_programs(s, o, o->homes.at[i].span, 1);
	for (size_t i = 0; i < o->homes.nb; i++)
		use_programs(s, &old, o->homes.at[i].span, -1);
	take(o, now);
}

static void
endpoint_leaves(struct server_spans *s, struct object *o)
{
	struct object *id = o->identity;

	if (id == NULL)
		return;
	mark_users(s, o, &id->users);
	mark_home(s, o);
	for (size_t i = 0; i < id->endpoints.nb; i++) {
		if (id->endpoints.at[i] == o) {
			id->endpoints.at[i] = id->endpoints.at[--id->endpoints.nb];
			break;
		}
	}
	count_workload(s, o->span, o->o.workload, -1);
	for (size_t i = 0; i < PK_COUNT(o->own); i++)
		home(s, o->own[i], o->span, -1);
	o->identity = NULL;
	if (id != o->own[0] && id != o->own[1])
		forget(s, id);
	if (o->own[1] != o->own[0])
		forget(s, o->own[1]);
	forget(s, o->own[0]);
}

static void
change_endpoint(struct server_spans *s, struct object *o, struct server_object *now)
{
	struct server_span *span;
	struct object *id, **slot;

	endpoint_leaves(s, o);
	take(o, now);
	if (o->o.now == NULL)
		return;
	id = numbered(s, POLICY_RESOURCE_IDENTITY, o->o.identity);
	span = server_spans_get(s, o->o.dpu);
	if (id == NULL || span == NULL || (slot = POLICY_PUSH(&id->endpoints)) == NULL) {
		s->nomem = 1;
		return;
	}
	*slot = o;
	o->identity = id;
	o->span = policy_map_get_text(&s->span_index, o->o.dpu);
	count_workload(s, o->span, o->o.workload, 1);
	for (size_t i = 0; i < PK_COUNT(o->own); i++) {
		o->own[i] = numbered(s, POLICY_RESOURCE_IDENTITY, o->o.own[i]);
		if (o->own[i] == NULL)
			return;
		home(s, o->own[i], o->span, 1);
	}
	mark_users(s, o, &id->users);
	mark_home(s, o);
}

static void
change_one(struct server_spans *s, struct server_object *now)
{
	struct object *o = object(s, now->type, now->key, now->key_len);

	if (o == NULL)
		return;
	switch (now->type) {
	case POLICY_RESOURCE_SET:
		change_set(s, o, now);
		break;
	case POLICY_RESOURCE_IDENTITY:
		change_identity(s, o, now);
		break;
	case POLICY_RESOURCE_ENDPOINT:
		change_endpoint(s, o, now);
		break;
	default:
		/* Named by its content, so it comes or goes and never changes. */
		take(o, now);
		mark_users(s, o, &o->users);
		break;
	}
}

/* What `span` should hold of an object; NULL: nothing. */
static struct policy_resource *
wanted(const struct object *o, uint32_t span)
{
	if (o->o.type == POLICY_RESOURCE_ENDPOINT)
		return o->identity != NULL &&
		        (o->span == span || counted(&o->identity->users, span) > 0)
		    ? o->o.now
		    : NULL;
	if (o->o.type == POLICY_RESOURCE_IDENTITY && counted(&o->homes, span) > 0)
		return o->o.subject;
	return counted(&o->users, span) > 0 ? o->o.now : NULL;
}

static void
settle(struct server_spans *s, const struct mark *m,
    void (*changed)(void *arg, struct server_span *span, struct policy_resource *old,
        struct policy_resource *now),
    void *arg)
{
	const struct object *o = s->all.at[m->object];
	struct server_span *span = &s->spans.at[m->span]->s;
	struct policy_resource *now, *old;

	if (o == NULL)
		return;
	now = wanted(o, m->span);
	old = policy_state_find(span->state, o->o.type, o->o.key, o->o.key_len);
	if (now == old || (now != NULL && old != NULL && now->version == old->version))
		return;
	if (changed != NULL)
		changed(arg, span, old, now);
	if (now == NULL)
		(void)policy_state_remove(span->state, o->o.type, o->o.key, o->o.key_len);
	else if (policy_state_put(span->state, now) != 0)
		s->nomem = 1;
}

int
server_spans_apply(struct server_spans *s, struct server_change *c,
    void (*changed)(void *arg, struct server_span *span, struct policy_resource *old,
        struct policy_resource *now),
    void *arg)
{
	/* What leads to others comes after them; what goes, goes when nobody leads to it. */
	static const struct {
		uint8_t type;
		bool gone;
	} order[] = {
		{ POLICY_RESOURCE_SET, false },
		{ POLICY_RESOURCE_PROGRAM, false },
		{ POLICY_RESOURCE_IDENTITY, false },
		{ POLICY_RESOURCE_ENDPOINT, true },
		{ POLICY_RESOURCE_ENDPOINT, false },
		{ POLICY_RESOURCE_IDENTITY, true },
		{ POLICY_RESOURCE_PROGRAM, true },
		{ POLICY_RESOURCE_SET, true },
	};
	size_t nb = c->nb;
	uint32_t *forgotten = calloc(nb + 1, sizeof(forgotten[0]));
	size_t nb_forgotten = 0;

	if (forgotten == NULL)
		return -ENOMEM;
	for (size_t k = 0; k < PK_COUNT(order); k++) {
		for (size_t i = 0; i < nb && !s->nomem; i++) {
			struct server_object *now = &c->item[i];

			if (now->type != order[k].type || (now->now == NULL) != order[k].gone)
				continue;
			if (order[k].gone) {
				const struct object *o =
				    object(s, now->type, now->key, now->key_len);

				if (o != NULL)
					forgotten[nb_forgotten++] = o->index;
			}
			change_one(s, now);
		}
	}
	for (size_t i = 0; i < s->marks.nb && !s->nomem; i++)
		settle(s, &s->marks.at[i], changed, arg);
	s->marks.nb = 0;
	for (size_t i = 0; i < nb_forgotten; i++)
		if (s->all.at[forgotten[i]] != NULL)
			forget(s, s->all.at[forgotten[i]]);
	free(forgotten);
	server_change_fini(c);
	tell_left(s);
	return s->nomem ? -ENOMEM : 0;
}

/* ---- spans --------------------------------------------------------------------------------------- */

struct server_spans *
server_spans_create(void)
{
	struct server_spans *s = calloc(1, sizeof(*s));

	if (s != NULL && server_spans_get(s, "") == NULL) {
		server_spans_destroy(s);
		return NULL;
	}
	return s;
}

void
server_spans_destroy(struct server_spans *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->all.nb; i++)
		object_destroy(s->all.at[i]);
	for (size_t i = 0; i < s->spans.nb; i++) {
		struct own_span *own = s->spans.at[i];

		for (size_t k = 0; k < own->workloads.nb; k++)
			free(own->workloads.at[k].name);
		free(own->workloads.at);
		policy_map_fini(&own->names);
		policy_state_destroy(own->s.state);
		free(own->s.name);
		free(own);
	}
	free(s->all.at);
	free(s->free_objects.at);
	free(s->spans.at);
	free(s->marks.at);
	policy_map_fini(&s->index);
	policy_map_fini(&s->span_index);
	for (size_t i = 0; i < s->leaving.nb; i++)
		free(s->leaving.at[i].workload);
	free(s->leaving.at);
	free(s);
}

struct server_span *
server_spans_get(struct server_spans *s, const char *dpu)
{
	uint32_t i = policy_map_get_text(&s->span_index, dpu);
	struct own_span *own, **slot;

	if (i != NONE)
		return &s->spans.at[i]->s;
	own = calloc(1, sizeof(*own));
	if (own == NULL)
		return NULL;
	own->s.name = strdup(dpu);
	own->s.state = policy_state_create();
	slot = own->s.name != NULL && own->s.state != NULL ? POLICY_PUSH(&s->spans) : NULL;
	if (slot != NULL)
		*slot = own;
	if (slot == NULL ||
	    policy_map_put_text(&s->span_index, own->s.name, (uint32_t)s->spans.nb - 1) < 0) {
		if (slot != NULL)
			s->spans.nb--;
		policy_state_destroy(own->s.state);
		free(own->s.name);
		free(own);
		return NULL;
	}
	return &own->s;
}

void
server_spans_on_left(struct server_spans *s,
    void (*left)(void *arg, const char *dpu, const char *workload), void *arg)
{
	s->left = left;
	s->left_arg = arg;
}

bool
server_spans_lives(const struct server_spans *s, const char *dpu, const char *workload)
{
	uint32_t i = dpu[0] != '\0' ? policy_map_get_text(&s->span_index, dpu) : NONE, at;
	const struct own_span *own;

	if (i == NONE)
		return false;
	own = s->spans.at[i];
	at = policy_map_get_text(&own->names, workload);
	return at != NONE && own->workloads.at[at].nb > 0;
}

uint32_t
server_spans_nb_workloads(const struct server_spans *s)
{
	uint32_t nb = 0;

	for (size_t i = 0; i < s->spans.nb; i++)
		nb += s->spans.at[i]->s.nb_workloads;
	return nb;
}
