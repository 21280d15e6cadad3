#include "policy/connect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/map.h"
#include "policy/network.h"

#define NONE UINT32_MAX

/* Sets of identities are kept as bits while all of them together stay below this. */
#define BITS_MAX (UINT64_C(1) << 32)

struct class
{
	uint32_t identity; /* index in the table, NONE outside */
	uint32_t cover;    /* which prefix sets hold the address */
};

struct blocks POLICY_VECTOR_BODY(struct policy_block);

struct policy_connect {
	const struct policy_table *table;
	struct policy_pool *pool;
	struct policy_arena arena;

	uint64_t *
	    *members; /* by set: bits of identities by index, or NULL as long as nobody asked */
	int use_bits;

	uint32_t nb_prefix_sets;
	uint32_t *prefix_slot; /* by set: its bit in a cover, NONE for sets of identities */
	size_t cover_words;
	POLICY_VECTOR(const uint64_t *) covers; /* number 0: covered by nothing */
	struct policy_map cover_index;

	POLICY_VECTOR(struct class) classes;
	struct policy_pairs class_index; /* identity index, cover */
	struct blocks blocks[2];
	int speaks[2];

	struct policy_pairs sides[2]; /* by audit: program index, class -> allowed set */
	struct policy_map columns; /* program index, audit, rules that admit the peer -> the same */
	struct policy_parts parts;
	struct policy_traffic traffic[3];
	uint64_t *column;
	size_t column_words;
};

/* ---- addresses ----------------------------------------------------------------------------------- */

typedef unsigned __int128 u128;

/* An edge of a prefix set: from this address on it covers, or does no more. */
struct edge {
	u128 at;
	uint32_t slot;
	int on;
};

static int
by_edge(const void *va, const void *vb)
{
	const struct edge *a = va, *b = vb;

	return a->at < b->at ? -1 : a->at > b->at;
}

static uint32_t
cover_of(struct policy_connect *c, const uint64_t *bits)
{
	size_t len = c->cover_words * sizeof(bits[0]);
	uint32_t i = policy_map_get(&c->cover_index, bits, len);
	const uint64_t **slot;

	if (i != POLICY_MAP_NONE)
		return i;
	i = (uint32_t)c->covers.nb;
	if ((slot = POLICY_PUSH(&c->covers)) == NULL ||
	    (*slot = policy_arena_copy(&c->arena, bits, len)) == NULL ||
	    policy_map_put(&c->cover_index, *slot, len, i) < 0)
		return NONE;
	return i;
}

static uint32_t
class_of(struct policy_connect *c, uint32_t identity, uint32_t cover)
{
	uint32_t i = policy_pairs_get(&c->class_index, identity, cover);
	struct class *new;

	if (i != NONE || cover == NONE)
		return i;
	i = (uint32_t)c->classes.nb;
	if ((new = POLICY_PUSH(&c->classes)) == NULL ||
	    policy_pairs_put(&c->class_index, identity, cover, i) < 0)
		return NONE;
	*new = (struct class){ identity, cover };
	return i;
}

static int
add_edges(const struct policy_connect *c, unsigned int family, struct edge **out, size_t *nb_out)
{
	size_t nb = 0, room = 0;

	*out = NULL;
	for (uint32_t s = 0; s < c->table->nb_sets; s++) {
		const struct policy_set *set = &c->table->sets[s];

		for (uint32_t i = 0; set->kind == PK_SET_PREFIX && i < set->nb_members; i++) {
			const struct pk_prefix *p = &set->prefixes[i];
			unsigned int bits = pk_addr_bits(&p->addr);
			u128 low = policy_addr_number(&p->addr), size, last;

			if (p->addr.family != family)
				continue;
			if (policy_grow(out, &room, nb + 2, sizeof((*out)[0])) < 0)
				return -ENOMEM;
			size = bits - p->len < 128 ? (u128)1 << (bits - p->len) : 0;
			last = low + (size - 1);
			(*out)[nb++] = (struct edge){ low, c->prefix_slot[s], 1 };
			/* What reaches the last address never ends. */
			if (last != (family == 4 ? (u128)UINT32_MAX : ~(u128)0))
				(*out)[nb++] = (struct edge){ last + 1, c->prefix_slot[s], 0 };
		}
	}
	if (nb > 1)
		qsort(*out, nb, sizeof((*out)[0]), by_edge);
	*nb_out = nb;
	return 0;
}

/* Walk the edges; between any two lies a block that nothing in the table tells apart. */
static int
make_blocks(struct policy_connect *c, unsigned int family)
{
	u128 end = family == 4 ? (u128)UINT32_MAX : ~(u128)0, low = 0;
	struct blocks *out = &c->blocks[family == 6];
	uint64_t *bits = calloc(c->cover_words, sizeof(bits[0]));
	struct edge *edges = NULL;
	size_t nb = 0, i = 0;
	int rc = bits != NULL ? add_edges(c, family, &edges, &nb) : -ENOMEM;

	c->speaks[family == 6] |= nb > 0;
	for (int last = 0; rc == 0 && !last;) {
		struct policy_block *b;

		/* A set's prefixes do not overlap, so off and on at one place is on, in any order:
		 * first what ends, then what begins. */
		for (size_t k = i; k < nb && edges[k].at == low; k++)
			if (!edges[k].on)
				bits[edges[k].slot / 64] &= ~(UINT64_C(1) << edges[k].slot % 64);
		for (; i < nb && edges[i].at == low; i++)
			if (edges[i].on)
				bits[edges[i].slot / 64] |= UINT64_C(1) << edges[i].slot % 64;
		last = i == nb;
		if ((b = POLICY_PUSH(out)) == NULL) {
			rc = -ENOMEM;
			break;
		}
		b->low = policy_number_addr(low, family);
		b->high = policy_number_addr(last ? end : edges[i].at - 1, family);
		b->class = class_of(c, NONE, cover_of(c, bits));
		if (b->class == NONE)
			rc = -ENOMEM;
		if (!last)
			low = edges[i].at;
	}
	free(edges);
	free(bits);
	return rc;
}

static const struct policy_block *
block_of(const struct policy_connect *c, const struct pk_addr *a)
{
	const struct blocks *b = &c->blocks[a->family == 6];
	size_t low = 0, high = b->nb;

	while (low + 1 < high) {
		size_t mid = low + (high - low) / 2;

		if (pk_addr_compare(&b->at[mid].low, a) <= 0)
			low = mid;
		else
			high = mid;
	}
	return &b->at[low];
}

/* ---- beginning and end --------------------------------------------------------------------------- */

static uint32_t
identity_index(const struct policy_table *t, uint32_t id)
{
	const struct policy_identity *i = policy_table_identity(t, id);

	return i != NULL ? (uint32_t)(i - t->identities) : NONE;
}

static int
make_classes(struct policy_connect *c)
{
	const struct policy_table *t = c->table;

	for (uint32_t i = 0; i < t->nb_endpoints; i++) {
		const struct policy_endpoint *e = &t->endpoints[i];
		uint32_t cover = c->classes.at[block_of(c, &e->addr)->class].cover;

		c->speaks[e->addr.family == 6] = 1;
		if (class_of(c, identity_index(t, e->identity), cover) == NONE)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < t->nb_unplaced; i++)
		if (class_of(c, identity_index(t, t->unplaced[i].identity), 0) == NONE)
			return -ENOMEM;
	return 0;
}

int
policy_connect_create(
    struct policy_connect **out, const struct policy_table *t, struct policy_pool *pool)
{
	struct policy_connect *c = calloc(1, sizeof(*c));
	uint64_t *nothing = NULL;
	int rc = -ENOMEM;

	*out = NULL;
	if (c == NULL)
		return -ENOMEM;
	c->table = t;
	c->pool = pool;
	c->members = calloc((size_t)t->nb_sets + 1, sizeof(c->members[0]));
	c->prefix_slot = calloc((size_t)t->nb_sets + 1, sizeof(c->prefix_slot[0]));
	if (c->members == NULL || c->prefix_slot == NULL)
		goto out;
	for (uint32_t i = 0; i < t->nb_sets; i++)
		c->prefix_slot[i] = t->sets[i].kind == PK_SET_PREFIX ? c->nb_prefix_sets++ : NONE;
	c->use_bits = (uint64_t)t->nb_sets * t->nb_identities < BITS_MAX;
	c->cover_words = c->nb_prefix_sets / 64 + 1;
	nothing = calloc(c->cover_words, sizeof(nothing[0]));
	if (nothing == NULL || cover_of(c, nothing) != 0)
		goto out;
	rc = make_blocks(c, 4);
	if (rc == 0)
		rc = make_blocks(c, 6);
	if (rc == 0)
		rc = make_classes(c);
out:
	free(nothing);
	if (rc < 0) {
		policy_connect_destroy(c);
		return rc;
	}
	*out = c;
	return 0;
}

void
policy_connect_destroy(struct policy_connect *c)
{
	if (c == NULL)
		return;
	for (uint32_t i = 0; c->members != NULL && i < c->table->nb_sets; i++)
		free(c->members[i]);
	free(c->members);
	free(c->prefix_slot);
	free(c->covers.at);
	policy_map_fini(&c->cover_index);
	free(c->classes.at);
	policy_pairs_fini(&c->class_index);
	free(c->blocks[0].at);
	free(c->blocks[1].at);
	policy_pairs_fini(&c->sides[0]);
	policy_pairs_fini(&c->sides[1]);
	policy_map_fini(&c->columns);
	free(c->parts.at);
	for (size_t i = 0; i < PK_COUNT(c->traffic); i++)
		policy_traffic_fini(&c->traffic[i]);
	free(c->column);
	policy_arena_fini(&c->arena);
	free(c);
}

/* ---- classes ------------------------------------------------------------------------------------- */

uint32_t
policy_connect_count(const struct policy_connect *c)
{
	return (uint32_t)c->classes.nb;
}

uint32_t
policy_connect_class(const struct policy_connect *c, uint32_t identity, const struct pk_addr *addr)
{
	uint32_t i = identity != PK_IDENTITY_NONE ? identity_index(c->table, identity) : NONE;
	uint32_t cover = addr != NULL ? c->classes.at[block_of(c, addr)->class].cover : 0;

	if (identity != PK_IDENTITY_NONE && i == NONE)
		return POLICY_CLASS_NONE;
	return policy_pairs_get(&c->class_index, i, cover);
}

uint32_t
policy_connect_identity(const struct policy_connect *c, uint32_t class)
{
	uint32_t i = c->classes.at[class].identity;

	return i != NONE ? c->table->identities[i].id : PK_IDENTITY_NONE;
}

const struct policy_block *
policy_connect_blocks(const struct policy_connect *c, unsigned int family, size_t *nb)
{
	*nb = c->blocks[family == 6].nb;
	return c->blocks[family == 6].at;
}

int
policy_connect_speaks(const struct policy_connect *c, unsigned int family)
{
	return c->speaks[family == 6];
}

/* ---- who is in a set ----------------------------------------------------------------------------- */

static int
is_member(struct policy_connect *c, uint32_t s, uint32_t identity)
{
	const struct policy_set *set = &c->table->sets[s];
	uint32_t low = 0, high = set->nb_members, want;

	if (c->use_bits) {
		uint64_t *bits = c->members[s];

		if (bits == NULL) {
			bits = calloc(c->table->nb_identities / 64 + 1, sizeof(bits[0]));
			for (uint32_t i = 0; bits != NULL && i < set->nb_members; i++) {
				uint32_t k = identity_index(c->table, set->identities[i]);

				if (k != NONE)
					bits[k / 64] |= UINT64_C(1) << k % 64;
			}
			c->members[s] = bits;
		}
		if (bits != NULL)
			return bits[identity / 64] >> identity % 64 & 1;
	}
	want = c->table->identities[identity].id;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (set->identities[mid] < want)
			low = mid + 1;
		else
			high = mid;
	}
	return low < set->nb_members && set->identities[low] == want;
}

int
policy_connect_admits(struct policy_connect *c, const struct policy_rule *r, uint32_t peer)
{
	const struct class *p = &c->classes.at[peer];

	if (r->any_peer)
		return 1;
	for (uint32_t i = 0; i < r->nb_peers; i++) {
		const struct policy_set *set = policy_table_set(c->table, r->peers[i]);
		uint32_t s = (uint32_t)(set - c->table->sets);

		if (set->kind == PK_SET_PREFIX) {
			uint32_t slot = c->prefix_slot[s];

			if (c->covers.at[p->cover][slot / 64] >> slot % 64 & 1)
				return 1;
		} else if (p->identity != NONE && is_member(c, s, p->identity)) {
			return 1;
		}
	}
	return 0;
}

/* ---- one side ------------------------------------------------------------------------------------ */

static int
by_span(const void *va, const void *vb)
{
	const struct policy_part *a = va, *b = vb;

	return (a->span.low > b->span.low) - (a->span.low < b->span.low);
}

static int
take(struct policy_parts *out, const struct policy_traffic *t, enum pk_verdict verdict,
    const struct policy_rule *rule)
{
	for (size_t i = 0; i < t->nb; i++) {
		struct policy_part *p = POLICY_PUSH(out);

		if (p == NULL)
			return -ENOMEM;
		*p = (struct policy_part){ t->at[i], verdict, rule };
	}
	return 0;
}

int
policy_connect_decide(const struct policy_rule *rules, uint32_t nb, const uint64_t *matches,
    int audit, struct policy_parts *out, struct policy_parts *passed_on)
{
	/* Still undecided here; decided to be left to the next tier; scratch. */
	struct policy_traffic active = { 0 }, passed = { 0 }, own = { 0 }, hit = { 0 },
	                      rest = { 0 };
	int rc = policy_traffic_append(&active, 0, POLICY_LINE_LAST);

#define SWAP(a, b)                              \
	do {                                    \
		struct policy_traffic t_ = (a); \
		(a) = (b);                      \
		(b) = t_;                       \
	} while (0)
	out->nb = 0;
	if (passed_on != NULL)
		passed_on->nb = 0;
	for (uint32_t i = 0; i < nb && rc == 0 && (active.nb > 0 || passed.nb > 0); i++) {
		const struct policy_rule *r = &rules[i];

		if (i > 0 && r->tier != rules[i - 1].tier && passed.nb > 0) {
			rc = policy_traffic_or(&rest, &active, &passed);
			SWAP(active, rest);
			passed.nb = 0;
		}
		if (!(matches[i / 64] >> i % 64 & 1) || (!audit && r->flags & PK_RULE_AUDIT))
			continue;
		if (rc < 0 || (rc = policy_traffic_of_rule(&own, r)) < 0 ||
		    (rc = policy_traffic_and(&hit, &active, &own)) < 0 || hit.nb == 0)
			continue;
		if (r->verdict == PK_VERDICT_PASS) {
			rc = policy_traffic_or(&rest, &passed, &hit);
			SWAP(passed, rest);
			if (rc == 0 && passed_on != NULL)
				rc = take(passed_on, &hit, r->verdict, r);
		} else {
			rc = take(out, &hit, r->verdict, r);
		}
		if (rc == 0)
			rc = policy_traffic_minus(&rest, &active, &hit);
		SWAP(active, rest);
	}
#undef SWAP
	if (rc == 0)
		rc = take(out, &active, PK_VERDICT_DENY, NULL);
	if (rc == 0)
		rc = take(out, &passed, PK_VERDICT_DENY, NULL);
	if (out->nb > 1)
		qsort(out->at, out->nb, sizeof(out->at[0]), by_span);
	policy_traffic_fini(&active);
	policy_traffic_fini(&passed);
	policy_traffic_fini(&own);
	policy_traffic_fini(&hit);
	policy_traffic_fini(&rest);
	return rc;
}

const struct policy_program *
policy_connect_program(const struct policy_connect *c, enum pk_direction direction, uint32_t class)
{
	uint32_t i = c->classes.at[class].identity;

	return i != NONE
	    ? policy_table_program(c->table, c->table->identities[i].program[direction])
	    : NULL;
}

/* Which rules admit the peer, in c->column behind two words that name program and view. */
static int
make_column(struct policy_connect *c, const struct policy_program *p, uint32_t peer, int audit)
{
	size_t words = 2 + (size_t)p->nb_rules / 64 + 1;

	if (policy_grow(&c->column, &c->column_words, words, sizeof(c->column[0])) < 0)
		return -ENOMEM;
	memset(c->column, 0, words * sizeof(c->column[0]));
	c->column[0] = (uint64_t)(p - c->table->programs);
	c->column[1] = (uint64_t)audit;
	for (uint32_t i = 0; i < p->nb_rules; i++)
		if (policy_connect_admits(c, &p->rules[i], peer))
			c->column[2 + i / 64] |= UINT64_C(1) << i % 64;
	return (int)words;
}

int
policy_connect_side(struct policy_connect *c, enum pk_direction direction, uint32_t subject,
    uint32_t peer, int audit, struct policy_parts *out)
{
	const struct policy_program *p = policy_connect_program(c, direction, subject);

	if (p == NULL)
		return -ENOENT;
	if (make_column(c, p, peer, audit) < 0)
		return -ENOMEM;
	return policy_connect_decide(p->rules, p->nb_rules, c->column + 2, audit, out, NULL);
}

static uint32_t
allowed_of(struct policy_connect *c, const struct policy_parts *parts)
{
	struct policy_traffic *t = &c->traffic[0];

	t->nb = 0;
	for (size_t i = 0; i < parts->nb; i++)
		if (parts->at[i].verdict == PK_VERDICT_ALLOW &&
		    policy_traffic_append(t, parts->at[i].span.low, parts->at[i].span.high) < 0)
			return POLICY_POOL_NONE;
	return policy_pool_put(c->pool, t);
}

/* Many peers look alike to a program: what they are allowed is found out once. */
uint32_t
policy_connect_side_allowed(struct policy_connect *c, enum pk_direction direction, uint32_t subject,
    uint32_t peer, int audit)
{
	const struct policy_program *p = policy_connect_program(c, direction, subject);
	uint32_t index, id;
	uint64_t *key;
	int words;

	if (p == NULL)
		return POLICY_POOL_NONE;
	index = (uint32_t)(p - c->table->programs);
	id = policy_pairs_get(&c->sides[audit], index, peer);
	if (id != NONE)
		return id;
	words = make_column(c, p, peer, audit);
	if (words < 0)
		return POLICY_POOL_NONE;
	id = policy_map_get(&c->columns, c->column, (size_t)words * sizeof(key[0]));
	if (id == POLICY_MAP_NONE) {
		key = policy_arena_copy(&c->arena, c->column, (size_t)words * sizeof(key[0]));
		if (key == NULL ||
		    policy_connect_decide(p->rules, p->nb_rules, key + 2, audit, &c->parts, NULL) <
		        0 ||
		    (id = allowed_of(c, &c->parts)) == POLICY_POOL_NONE ||
		    policy_map_put(&c->columns, key, (size_t)words * sizeof(key[0]), id) < 0)
			return POLICY_POOL_NONE;
	}
	return policy_pairs_put(&c->sides[audit], index, peer, id) < 0 ? POLICY_POOL_NONE : id;
}

uint32_t
policy_connect_allowed(struct policy_connect *c, uint32_t src, uint32_t dst, int audit)
{
	int src_in = c->classes.at[src].identity != NONE,
	    dst_in = c->classes.at[dst].identity != NONE;

	if (!src_in && !dst_in)
		return POLICY_POOL_EMPTY;
	if (!src_in)
		return policy_connect_side_allowed(c, PK_INGRESS, dst, src, audit);
	if (!dst_in)
		return policy_connect_side_allowed(c, PK_EGRESS, src, dst, audit);
	return policy_pool_and(c->pool, policy_connect_side_allowed(c, PK_EGRESS, src, dst, audit),
	    policy_connect_side_allowed(c, PK_INGRESS, dst, src, audit));
}
