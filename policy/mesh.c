#include "policy/mesh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arena.h"

/* An identity that lives behind a DPU. */
struct home {
	uint32_t identity, dpu;
};

struct policy_mesh {
	struct policy_arena arena;
	const char **name; /* of DPUs, ascending */
	size_t nb_names;
	struct pair {
		uint32_t a, b;
	} * pair;
	size_t nb, room;
};

/* What it takes to find them. */
struct search {
	const struct policy_table *t;
	struct policy_mesh *m;
	struct home *home; /* ascending */
	size_t nb;
	uint8_t *seen; /* bit of (a, b), a < b */
	int err;
};

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int
compare_home(const void *a, const void *b)
{
	const struct home *x = a, *y = b;

	if (x->identity != y->identity)
		return x->identity < y->identity ? -1 : 1;
	return (x->dpu > y->dpu) - (x->dpu < y->dpu);
}

/* ---- rules ---- */

static bool
wants(const struct policy_rule *r)
{
	return r->verdict == PK_VERDICT_ALLOW && (r->flags & PK_RULE_AUDIT) == 0 &&
	    (r->terms.encryption == PK_ENCRYPTION_REQUIRED ||
	        r->terms.encryption == PK_ENCRYPTION_IPSEC);
}

static bool
has_member(const struct policy_set *s, uint32_t identity)
{
	size_t low = 0, high = s->nb_members;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->identities[mid] == identity)
			return true;
		if (s->identities[mid] < identity)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* Whether a rule is about the peer; of one that names networks nobody knows, and it is `perhaps`. */
static bool
about(const struct policy_table *t, const struct policy_rule *r, uint32_t peer, bool perhaps)
{
	if (r->any_peer)
		return true;
	for (uint32_t i = 0; i < r->nb_peers; i++) {
		const struct policy_set *s = policy_table_set(t, r->peers[i]);

		if (s != NULL && (s->kind == PK_SET_IDENTITY ? has_member(s, peer) : perhaps))
			return true;
	}
	return false;
}

/* Whether a program comes to rule `only` for the peer, or, if it is NULL, to any that allows. */
static bool
comes_to(const struct policy_table *t, const struct policy_program *p, uint32_t peer,
    const struct policy_rule *only)
{
	uint8_t passed = UINT8_MAX; /* tier that has been left */

	for (uint32_t i = 0; i < p->nb_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (r->tier == passed || (r->flags & PK_RULE_AUDIT) != 0)
			continue;
		if (r == only || (only == NULL && r->verdict == PK_VERDICT_ALLOW)) {
			if (about(t, r, peer, true))
				return true;
			continue;
		}
		/* One that is about some services only leaves others to those behind it. */
		if (!r->any_service || policy_rule_conditional(r) || !about(t, r, peer, false))
			continue;
		if (r->verdict != PK_VERDICT_PASS)
			return false;
		passed = r->tier;
	}
	return false;
}

static const struct policy_program *
program_of(const struct policy_table *t, uint32_t identity, enum pk_direction d)
{
	const struct policy_identity *o = policy_table_identity(t, identity);

	return o != NULL ? policy_table_program(t, o->program[d]) : NULL;
}

/* ---- pairs ---- */

static bool
seen(const struct search *s, uint32_t a, uint32_t b)
{
	size_t at = (size_t)PK_MIN(a, b) * s->m->nb_names + PK_MAX(a, b);

	return (s->seen[at / 8] >> at % 8 & 1) != 0;
}

static void
found(struct search *s, uint32_t a, uint32_t b)
{
	size_t at = (size_t)PK_MIN(a, b) * s->m->nb_names + PK_MAX(a, b);
	struct policy_mesh *m = s->m;

	s->seen[at / 8] |= (uint8_t)(1 << at % 8);
	if (m->nb == m->room) {
		size_t room = m->room != 0 ? 2 * m->room : 64;
		struct pair *wider = realloc(m->pair, room * sizeof(m->pair[0]));

		if (wider == NULL) {
			s->err = -ENOMEM;
			return;
		}
		m->pair = wider;
		m->room = room;
	}
	m->pair[m->nb++] = (struct pair){ PK_MIN(a, b), PK_MAX(a, b) };
}

/* Peers of one rule that wants encryption: those from home[from] on, of one identity. */
static size_t
try_peer(struct search *s, const struct home *h, enum pk_direction d, const struct policy_rule *r,
    size_t from)
{
	uint32_t peer = s->home[from].identity;
	int both = -1; /* not asked yet */

	for (; from < s->nb && s->home[from].identity == peer; from++) {
		uint32_t dpu = s->home[from].dpu;

		if (dpu == h->dpu || seen(s, h->dpu, dpu) || both == 0)
			continue;
		if (both < 0) {
			const struct policy_program *own = program_of(s->t, h->identity, d);
			const struct policy_program *other =
			    program_of(s->t, peer, d == PK_EGRESS ? PK_INGRESS : PK_EGRESS);

			both = other != NULL && comes_to(s->t, own, peer, r) &&
			    comes_to(s->t, other, h->identity, NULL);
		}
		if (both)
			found(s, h->dpu, dpu);
	}
	return from;
}

static size_t
first_home(const struct search *s, uint32_t identity)
{
	size_t low = 0, high = s->nb;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->home[mid].identity < identity)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
try_rule(struct search *s, const struct home *h, enum pk_direction d, const struct policy_rule *r)
{
	for (size_t i = 0; r->any_peer && i < s->nb;)
		i = try_peer(s, h, d, r, i);
	for (uint32_t k = 0; k < r->nb_peers; k++) {
		const struct policy_set *set = policy_table_set(s->t, r->peers[k]);

		for (uint32_t i = 0;
		     set != NULL && set->kind == PK_SET_IDENTITY && i < set->nb_members; i++) {
			size_t at = first_home(s, set->identities[i]);

			if (at < s->nb && s->home[at].identity == set->identities[i])
				(void)try_peer(s, h, d, r, at);
		}
	}
}

/* ---- the whole ---- */

static bool
any_wants(const struct policy_table *t)
{
	for (uint32_t i = 0; i < t->nb_programs; i++)
		for (uint32_t k = 0; k < t->programs[i].nb_rules; k++)
			if (wants(&t->programs[i].rules[k]))
				return true;
	return false;
}

static int
name_dpus(struct policy_mesh *m, const struct policy_table *t)
{
	size_t nb = 0;

	m->name = calloc((size_t)t->nb_endpoints + 1, sizeof(m->name[0]));
	if (m->name == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nb_endpoints; i++)
		if (t->endpoints[i].dpu[0] != '\0')
			m->name[nb++] = t->endpoints[i].dpu;
	qsort(m->name, nb, sizeof(m->name[0]), compare_text);
	for (size_t i = 0; i < nb; i++) {
		if (i > 0 && strcmp(m->name[i], m->name[m->nb_names - 1]) == 0)
			continue;
		m->name[m->nb_names] = policy_arena_text(&m->arena, m->name[i]);
		if (m->name[m->nb_names++] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int
find_homes(struct search *s)
{
	size_t nb = 0;

	s->home = calloc((size_t)s->t->nb_endpoints + 1, sizeof(s->home[0]));
	s->seen = calloc(s->m->nb_names * s->m->nb_names / 8 + 1, 1);
	if (s->home == NULL || s->seen == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->t->nb_endpoints; i++) {
		const struct policy_endpoint *e = &s->t->endpoints[i];
		const char **name;

		if (e->dpu[0] == '\0')
			continue;
		name = bsearch(
		    &e->dpu, s->m->name, s->m->nb_names, sizeof(s->m->name[0]), compare_text);
		s->home[nb++] =
		    (struct home){ .identity = e->identity, .dpu = (uint32_t)(name - s->m->name) };
	}
	qsort(s->home, nb, sizeof(s->home[0]), compare_home);
	for (size_t i = 0; i < nb; i++)
		if (i == 0 || compare_home(&s->home[i], &s->home[s->nb - 1]) != 0)
			s->home[s->nb++] = s->home[i];
	return 0;
}

int
policy_mesh_create(struct policy_mesh **out, const struct policy_table *t)
{
	struct policy_mesh *m = calloc(1, sizeof(*m));
	struct search s = { .t = t, .m = m };

	if (m == NULL)
		return -ENOMEM;
	if (t != NULL && any_wants(t)) {
		s.err = name_dpus(m, t);
		if (s.err == 0)
			s.err = find_homes(&s);
	}
	for (size_t i = 0; s.err == 0 && i < s.nb; i++) {
		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
			const struct policy_program *p =
			    program_of(t, s.home[i].identity, (enum pk_direction)d);

			for (uint32_t k = 0; p != NULL && k < p->nb_rules; k++)
				if (wants(&p->rules[k]))
					try_rule(
					    &s, &s.home[i], (enum pk_direction)d, &p->rules[k]);
		}
	}
	free(s.home);
	free(s.seen);
	if (s.err != 0) {
		policy_mesh_destroy(m);
		return s.err;
	}
	*out = m;
	return 0;
}

void
policy_mesh_destroy(struct policy_mesh *m)
{
	if (m == NULL)
		return;
	free(m->pair);
	free(m->name);
	policy_arena_fini(&m->arena);
	free(m);
}

size_t
policy_mesh_count(const struct policy_mesh *m)
{
	return m != NULL ? m->nb : 0;
}

struct policy_mesh_pair
policy_mesh_get(const struct policy_mesh *m, size_t i)
{
	return (struct policy_mesh_pair){ m->name[m->pair[i].a], m->name[m->pair[i].b] };
}
