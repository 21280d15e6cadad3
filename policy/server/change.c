#include "policy/server/change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct server_shadow {
	struct policy_state *shared;   /* identities as peers */
	struct policy_state *subjects; /* identities with their programs */
};

void
server_change_fini(struct server_change *c)
{
	for (size_t i = 0; i < c->nb; i++) {
		struct server_object *o = &c->item[i];

		policy_resource_put(o->now);
		policy_resource_put(o->subject);
		free(o->dpu);
		free(o->workload);
		free(o->members);
		free(o->sets);
	}
	free(c->item);
	memset(c, 0, sizeof(*c));
}

struct server_shadow *
server_shadow_create(void)
{
	struct server_shadow *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->shared = policy_state_create();
	s->subjects = policy_state_create();
	if (s->shared == NULL || s->subjects == NULL) {
		server_shadow_destroy(s);
		return NULL;
	}
	return s;
}

void
server_shadow_destroy(struct server_shadow *s)
{
	if (s == NULL)
		return;
	policy_state_destroy(s->shared);
	policy_state_destroy(s->subjects);
	free(s);
}

static struct server_object *
add(struct server_change *c, unsigned int type, const uint8_t *key, size_t key_len)
{
	struct server_object *o;

	if (c->nb == c->room) {
		size_t room = c->room != 0 ? c->room * 2 : 16;
		struct server_object *wider = realloc(c->item, room * sizeof(c->item[0]));

		if (wider == NULL)
			return NULL;
		c->item = wider;
		c->room = room;
	}
	o = &c->item[c->nb++];
	memset(o, 0, sizeof(*o));
	o->type = (uint8_t)type;
	o->key_len = (uint8_t)key_len;
	memcpy(o->key, key, key_len);
	return o;
}

static bool
same(const struct policy_state *s, const struct policy_resource *r)
{
	const struct policy_resource *old = policy_state_like(s, r);

	return old != NULL && old->version == r->version;
}

/* A new object that has `r`, if that is something new.  Takes `r`.  *out is NULL when it is not. */
static int
put(struct server_shadow *s, struct server_change *c, struct policy_resource *r,
    struct server_object **out)
{
	*out = NULL;
	if (r == NULL)
		return -ENOMEM;
	if (same(s->shared, r)) {
		policy_resource_put(r);
		return 0;
	}
	*out = add(c, r->type, r->key, r->key_len);
	if (*out == NULL || policy_state_put(s->shared, r) != 0) {
		policy_resource_put(r);
		return -ENOMEM;
	}
	(*out)->now = r;
	return 0;
}

static int
gone(struct server_shadow *s, struct server_change *c, unsigned int type, const uint8_t *key,
    size_t key_len)
{
	if (policy_state_remove(s->shared, type, key, key_len) != 0)
		return 0; /* never handed out */
	if (type == POLICY_RESOURCE_IDENTITY)
		(void)policy_state_remove(s->subjects, type, key, key_len);
	return add(c, type, key, key_len) != NULL ? 0 : -ENOMEM;
}

static int
put_identity(struct server_shadow *s, struct server_change *c, const struct policy_identity *o)
{
	struct policy_resource *peer = policy_resource_of_identity(o, 0);
	struct policy_resource *subject = policy_resource_of_identity(o, 1);
	struct server_object *to;
	int err = 0;

	if (peer == NULL || subject == NULL)
		err = -ENOMEM;
	else if (same(s->shared, peer) && same(s->subjects, subject))
		;
	else if ((to = add(c, peer->type, peer->key, peer->key_len)) == NULL ||
	    policy_state_put(s->shared, peer) != 0 || policy_state_put(s->subjects, subject) != 0) {
		err = -ENOMEM;
	} else {
		to->now = policy_resource_get(peer);
		to->subject = policy_resource_get(subject);
		memcpy(to->program, o->program, sizeof(to->program));
	}
	policy_resource_put(peer);
	policy_resource_put(subject);
	return err;
}

static int
put_endpoint(struct server_shadow *s, struct server_change *c, const struct policy_endpoint *o)
{
	struct server_object *to;
	int err = put(s, c, policy_resource_of_endpoint(o), &to);

	if (err != 0 || to == NULL)
		return err;
	to->identity = o->identity;
	to->own[0] = o->attested;
	to->own[1] = o->unattested;
	to->dpu = strdup(o->dpu);
	to->workload = strdup(o->name);
	return to->dpu != NULL && to->workload != NULL ? 0 : -ENOMEM;
}

static int
put_set(struct server_shadow *s, struct server_change *c, const struct policy_set *o)
{
	struct server_object *to;
	int err = put(s, c, policy_resource_of_set(o), &to);

	if (err != 0 || to == NULL || o->kind != PK_SET_IDENTITY)
		return err;
	to->members = calloc(o->nb_members + 1U, sizeof(to->members[0]));
	if (to->members == NULL)
		return -ENOMEM;
	if (o->nb_members > 0)
		memcpy(to->members, o->identities, o->nb_members * sizeof(to->members[0]));
	to->nb = o->nb_members;
	return 0;
}

static int
by_number(const void *va, const void *vb)
{
	uint64_t a = *(const uint64_t *)va, b = *(const uint64_t *)vb;

	return (a > b) - (a < b);
}

static int
put_program(struct server_shadow *s, struct server_change *c, const struct policy_program *o)
{
	struct server_object *to;
	size_t nb = 0, kept = 0;
	int err = put(s, c, policy_resource_of_program(o), &to);

	if (err != 0 || to == NULL)
		return err;
	for (uint32_t r = 0; r < o->nb_rules; r++)
		nb += o->rules[r].nb_peers;
	to->sets = calloc(nb + 1, sizeof(to->sets[0]));
	if (to->sets == NULL)
		return -ENOMEM;
	nb = 0;
	for (uint32_t r = 0; r < o->nb_rules; r++)
		for (uint32_t p = 0; p < o->rules[r].nb_peers; p++)
			to->sets[nb++] = o->rules[r].peers[p];
	if (nb > 1)
		qsort(to->sets, nb, sizeof(to->sets[0]), by_number);
	for (size_t i = 0; i < nb; i++)
		if (kept == 0 || to->sets[kept - 1] != to->sets[i])
			to->sets[kept++] = to->sets[i];
	to->nb = kept;
	return 0;
}

/* Keys as policy/resource.h has them. */
static size_t
key_number(uint8_t *key, uint64_t number, size_t len)
{
	for (size_t i = 0; i < len; i++)
		key[i] = (uint8_t)(number >> (8 * (len - 1 - i)));
	return len;
}

static int
follow_some(struct server_shadow *s, const struct policy_table *t,
    const struct policy_touched *touched, struct server_change *out)
{
	uint8_t key[POLICY_KEY_MAX];
	int err = 0;

	for (size_t i = 0; err == 0 && i < touched->identities.nb; i++) {
		uint32_t id = touched->identities.at[i];
		const struct policy_identity *o = policy_table_identity(t, id);

		err = o != NULL
		    ? put_identity(s, out, o)
		    : gone(s, out, POLICY_RESOURCE_IDENTITY, key, key_number(key, id, 4));
	}
	for (size_t i = 0; err == 0 && i < touched->endpoints.nb; i++) {
		const struct policy_place *p = &touched->endpoints.at[i];
		const struct policy_endpoint *o = policy_table_endpoint(t, p->vrf, &p->addr);
		size_t len = p->addr.family == 4 ? 4 : 16;

		key_number(key, p->vrf, 4);
		memcpy(key + 4, p->addr.bytes, len);
		err = o != NULL ? put_endpoint(s, out, o)
		                : gone(s, out, POLICY_RESOURCE_ENDPOINT, key, 4 + len);
	}
	for (size_t i = 0; err == 0 && i < touched->sets.nb; i++) {
		const struct policy_set *o = policy_table_set(t, touched->sets.at[i]);

		err = o != NULL ? put_set(s, out, o)
		                : gone(s, out, POLICY_RESOURCE_SET, key,
		                      key_number(key, touched->sets.at[i], 8));
	}
	for (size_t i = 0; err == 0 && i < touched->programs.nb; i++) {
		const struct policy_program *o = policy_table_program(t, touched->programs.at[i]);

		err = o != NULL ? put_program(s, out, o)
		                : gone(s, out, POLICY_RESOURCE_PROGRAM, key,
		                      key_number(key, touched->programs.at[i], 8));
	}
	return err;
}

static uint64_t
number_of(const struct policy_resource *r)
{
	uint64_t v = 0;

	for (size_t i = 0; i < r->key_len && i < 8; i++)
		v = v << 8 | r->key[i];
	return v;
}

static bool
is_there(const struct policy_table *t, const struct policy_resource *r)
{
	struct pk_addr addr = { .family = r->key_len == 8 ? 4 : 6 };

	switch (r->type) {
	case POLICY_RESOURCE_IDENTITY:
		return policy_table_identity(t, (uint32_t)number_of(r)) != NULL;
	case POLICY_RESOURCE_ENDPOINT:
		memcpy(addr.bytes, r->key + 4, r->key_len - 4U);
		return policy_table_endpoint(t,
		           (uint32_t)r->key[0] << 24 | (uint32_t)r->key[1] << 16 |
		               (uint32_t)r->key[2] << 8 | r->key[3],
		           &addr) != NULL;
	case POLICY_RESOURCE_SET:
		return policy_table_set(t, number_of(r)) != NULL;
	default:
		return policy_table_program(t, number_of(r)) != NULL;
	}
}

static int
follow_whole(struct server_shadow *s, const struct policy_table *t, struct server_change *out)
{
	struct policy_state *before = policy_state_clone(s->shared);
	const struct policy_resource *r;
	size_t at = 0;
	int err = before != NULL ? 0 : -ENOMEM;

	while (err == 0 && (r = policy_state_next(before, &at)) != NULL)
		if (!is_there(t, r))
			err = gone(s, out, r->type, r->key, r->key_len);
	policy_state_destroy(before);
	for (uint32_t i = 0; err == 0 && i < t->nb_identities; i++)
		err = put_identity(s, out, &t->identities[i]);
	for (uint32_t i = 0; err == 0 && i < t->nb_endpoints; i++)
		err = put_endpoint(s, out, &t->endpoints[i]);
	for (uint32_t i = 0; err == 0 && i < t->nb_sets; i++)
		err = put_set(s, out, &t->sets[i]);
	for (uint32_t i = 0; err == 0 && i < t->nb_programs; i++)
		err = put_program(s, out, &t->programs[i]);
	return err;
}

int
server_shadow_follow(struct server_shadow *s, const struct policy_table *t,
    const struct policy_touched *touched, struct server_change *out)
{
	return touched->whole ? follow_whole(s, t, out) : follow_some(s, t, touched, out);
}
