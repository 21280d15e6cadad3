/*
 * From what the agent has said to a generation that lcores can ask.
 *
 * Built in three steps, each from sorted arrays: edges of prefixes into intervals, intervals and
 * identities into classes, classes and services into the rows of each program.  Nothing here is
 * shared with a running generation, so a failure half-way frees what there is and is forgotten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fw/rule_priv.h"

/* Zeroed, on whole cache lines, and in huge pages when it is large enough to want them. */
static void *
table_alloc(size_t nb, size_t size)
{
	size_t huge = (size_t)2 << 20, bytes, align = PK_CACHE_LINE;
	void *p;

	if (__builtin_mul_overflow(nb, size, &bytes))
		return NULL;
	bytes = PK_MAX((bytes + align - 1) / align * align, align);
	if (bytes >= huge) {
		align = huge;
		bytes = (bytes + huge - 1) / huge * huge;
	}
	p = aligned_alloc(align, bytes);
	if (p == NULL)
		return NULL;
	if (align == huge)
		(void)madvise(p, bytes, MADV_HUGEPAGE);
	memset(p, 0, bytes);
	return p;
}

static uint32_t
table_size(uint32_t entries)
{
	uint32_t size = 16;

	while (size < 2 * (uint64_t)entries + 2)
		size *= 2;
	return size;
}

/* ---- lists of set numbers, each kept once ---- */

/*
 * A list of ascending set indices is called by a number; equal lists have equal numbers.  List 0 is
 * the empty one.
 */
struct lists {
	uint32_t nb, room;
	uint32_t *start; /* nb + 1 offsets into items */
	uint32_t *items;
	uint32_t nb_items, items_room;
	uint32_t mask;
	uint32_t *slot; /* number + 1 */
};

static uint32_t
list_hash(const uint32_t *items, uint32_t n)
{
	uint64_t h = n;

	for (uint32_t i = 0; i < n; i++)
		h = fw_mix(h, items[i]);
	return (uint32_t)h;
}

static int
lists_grow(struct lists *l)
{
	uint32_t size = (l->mask + 1) * 2;
	uint32_t *slot = calloc(size, sizeof(*slot));

	if (slot == NULL)
		return -ENOMEM;
	free(l->slot);
	l->slot = slot;
	l->mask = size - 1;
	for (uint32_t i = 0; i < l->nb; i++) {
		uint32_t h = list_hash(l->items + l->start[i], l->start[i + 1] - l->start[i]);

		while (l->slot[h & l->mask] != 0)
			h++;
		l->slot[h & l->mask] = i + 1;
	}
	return 0;
}

static int
lists_intern(struct lists *l, const uint32_t *items, uint32_t n, uint32_t *out)
{
	uint32_t h;

	if (2 * (l->nb + 1) > l->mask + 1 && lists_grow(l) < 0)
		return -ENOMEM;
	for (h = list_hash(items, n); l->slot[h & l->mask] != 0; h++) {
		uint32_t i = l->slot[h & l->mask] - 1;

		if (l->start[i + 1] - l->start[i] == n &&
		    memcmp(l->items + l->start[i], items, n * sizeof(*items)) == 0) {
			*out = i;
			return 0;
		}
	}
	if (l->nb + 2 > l->room) {
		uint32_t room = PK_MAX(2 * l->room, 64u);
		uint32_t *grown = realloc(l->start, room * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		l->start = grown;
		l->room = room;
	}
	if (l->nb_items + n > l->items_room) {
		uint32_t room = PK_MAX(2 * l->items_room, l->nb_items + n + 64);
		uint32_t *grown = realloc(l->items, room * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		l->items = grown;
		l->items_room = room;
	}
	if (n > 0)
		memcpy(l->items + l->nb_items, items, n * sizeof(*items));
	l->start[l->nb] = l->nb_items;
	l->nb_items += n;
	l->start[l->nb + 1] = l->nb_items;
	l->slot[h & l->mask] = l->nb + 1;
	*out = l->nb++;
	return 0;
}

static int
lists_init(struct lists *l)
{
	uint32_t empty;

	*l = (struct lists){ .mask = 63 };
	l->slot = calloc(l->mask + 1, sizeof(*l->slot));
	if (l->slot == NULL)
		return -ENOMEM;
	return lists_intern(l, NULL, 0, &empty);
}

static void
lists_fini(struct lists *l)
{
	free(l->start);
	free(l->items);
	free(l->slot);
}

/* ---- prefixes to intervals ---- */

struct edge {
	struct fw_key6 at; /* IPv4: in lo */
	uint32_t set;
	int8_t step; /* +1: the prefix begins here; -1: it ended just before */
};

static int
edge_compare(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	if (x->at.hi != y->at.hi)
		return x->at.hi < y->at.hi ? -1 : 1;
	if (x->at.lo != y->at.lo)
		return x->at.lo < y->at.lo ? -1 : 1;
	return 0;
}

static int
u32_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* What is added to a key to get past a prefix; 0 when that is beyond the last address. */
static struct fw_key6
prefix_key(const struct pk_prefix *p)
{
	struct fw_key6 k = { 0 };
	uint32_t v4;

	if (p->addr.family == 4) {
		memcpy(&v4, p->addr.bytes, sizeof(v4));
		k.lo = __builtin_bswap32(v4);
	} else {
		memcpy(&k.hi, p->addr.bytes, 8);
		memcpy(&k.lo, p->addr.bytes + 8, 8);
		k.hi = __builtin_bswap64(k.hi);
		k.lo = __builtin_bswap64(k.lo);
	}
	return k;
}

/* The first address after the prefix; false when there is none. */
static bool
prefix_end(const struct pk_prefix *p, struct fw_key6 *end)
{
	unsigned int host = pk_addr_bits(&p->addr) - p->len;

	*end = prefix_key(p);
	if (p->addr.family == 4) {
		end->lo += UINT64_C(1) << host;
		return end->lo <= UINT32_MAX;
	}
	if (host >= 64) {
		if (host == 128)
			return false;
		end->hi += UINT64_C(1) << (host - 64);
		return end->hi != 0;
	}
	end->lo += UINT64_C(1) << host;
	if (end->lo == 0)
		end->hi++;
	return end->lo != 0 || end->hi != 0;
}

/* Intervals of one family: val[i] is the list of sets around every address of [key[i], key[i + 1]). */
struct intervals {
	uint32_t nb;
	struct fw_key6 *key;
	uint32_t *val;
};

static void
intervals_fini(struct intervals *v)
{
	free(v->key);
	free(v->val);
}

static int
intervals_build(
    struct intervals *v, uint8_t family, const struct fw_rules_input *in, struct lists *lists)
{
	size_t nb_edges = 0, nb_active = 0;
	struct edge *edges = NULL;
	uint32_t *active = NULL, *depth = NULL, *sorted = NULL;
	int rc = -ENOMEM;

	*v = (struct intervals){ 0 };
	for (uint32_t s = 0; s < in->nb_sets; s++)
		if (in->sets[s]->kind == PK_SET_PREFIX)
			for (uint32_t i = 0; i < in->sets[s]->nb; i++)
				nb_edges += in->sets[s]->prefixes[i].addr.family == family ? 2 : 0;
	edges = malloc((nb_edges + 1) * sizeof(*edges));
	v->key = malloc((nb_edges + 1) * sizeof(*v->key));
	v->val = malloc((nb_edges + 1) * sizeof(*v->val));
	depth = calloc(in->nb_sets + 1, sizeof(*depth));
	active = malloc((in->nb_sets + 1) * sizeof(*active));
	sorted = malloc((in->nb_sets + 1) * sizeof(*sorted));
	if (edges == NULL || v->key == NULL || v->val == NULL || depth == NULL || active == NULL ||
	    sorted == NULL)
		goto out;
	nb_edges = 0;
	for (uint32_t s = 0; s < in->nb_sets; s++) {
		if (in->sets[s]->kind != PK_SET_PREFIX)
			continue;
		for (uint32_t i = 0; i < in->sets[s]->nb; i++) {
			const struct pk_prefix *p = &in->sets[s]->prefixes[i];

			if (p->addr.family != family)
				continue;
			edges[nb_edges++] =
			    (struct edge){ .at = prefix_key(p), .set = s, .step = 1 };
			if (prefix_end(p, &edges[nb_edges].at)) {
				edges[nb_edges].set = s;
				edges[nb_edges++].step = -1;
			}
		}
	}
	qsort(edges, nb_edges, sizeof(*edges), edge_compare);
	/* Before the first edge lies an interval that no prefix covers. */
	v->key[0] = (struct fw_key6){ 0 };
	v->val[0] = 0;
	v->nb = 1;
	for (size_t i = 0; i < nb_edges;) {
		struct fw_key6 at = edges[i].at;
		uint32_t list;

		for (; i < nb_edges && edge_compare(&edges[i], &(struct edge){ .at = at }) == 0;
		     i++) {
			uint32_t s = edges[i].set;

			/* A set may name overlapping prefixes; it is there until the last has ended. */
			if (edges[i].step > 0) {
				if (depth[s]++ == 0)
					active[nb_active++] = s;
			} else if (--depth[s] == 0) {
				for (size_t k = 0; k < nb_active; k++) {
					if (active[k] == s) {
						active[k] = active[--nb_active];
						break;
					}
				}
			}
		}
		memcpy(sorted, active, nb_active * sizeof(*active));
		qsort(sorted, nb_active, sizeof(*sorted), u32_compare);
		rc = lists_intern(lists, sorted, (uint32_t)nb_active, &list);
		if (rc < 0)
			goto out;
		if (at.hi != v->key[v->nb - 1].hi || at.lo != v->key[v->nb - 1].lo) {
			if (v->val[v->nb - 1] == list)
				continue;
			v->key[v->nb++] = at;
		}
		v->val[v->nb - 1] = list;
	}
	rc = 0;
out:
	free(edges);
	free(depth);
	free(active);
	free(sorted);
	return rc;
}

/* ---- search trees ---- */

static void
tree4_fill(struct fw_tree4 *t, const struct intervals *v, uint32_t node, uint32_t *next)
{
	if (node >= t->nb_nodes)
		return;
	/* In order: before each key its left subtree, after the last the rightmost. */
	for (uint32_t i = 0; i < NODE_KEYS; i++) {
		tree4_fill(t, v, node * (NODE_KEYS + 1) + i + 1, next);
		if (*next < v->nb) {
			t->key[node][i] = (uint32_t)v->key[*next].lo;
			t->val[node][i] = v->val[*next];
			(*next)++;
		} else {
			/* Padding must not shadow the last interval for the highest address. */
			t->key[node][i] = UINT32_MAX;
			t->val[node][i] = v->val[v->nb - 1];
		}
	}
	tree4_fill(t, v, node * (NODE_KEYS + 1) + NODE_KEYS + 1, next);
}

static int
tree4_build(struct fw_tree4 *t, const struct intervals *v)
{
	uint32_t next = 0;

	t->nb_nodes = (v->nb + NODE_KEYS - 1) / NODE_KEYS;
	t->key = table_alloc(t->nb_nodes, sizeof(*t->key));
	t->val = table_alloc(t->nb_nodes, sizeof(*t->val));
	if (t->key == NULL || t->val == NULL)
		return -ENOMEM;
	tree4_fill(t, v, 0, &next);
	PK_ASSERT(next == v->nb);
	return 0;
}

static int
tree6_build(struct fw_tree6 *t, const struct intervals *v)
{
	t->nb = v->nb;
	t->key = table_alloc(v->nb, sizeof(*t->key));
	t->val = table_alloc(v->nb, sizeof(*t->val));
	if (t->key == NULL || t->val == NULL)
		return -ENOMEM;
	memcpy(t->key, v->key, v->nb * sizeof(*t->key));
	memcpy(t->val, v->val, v->nb * sizeof(*t->val));
	return 0;
}

/* ---- classes ---- */

/* What a build works with besides its result. */
struct build {
	const struct fw_rules_input *in;
	struct fw_rules *r;
	struct lists lists;       /* of prefix sets; the number is the prefix class */
	uint32_t *identity_sets;  /* set indices, by identity index */
	uint32_t *identity_start; /* nb_identities + 1 offsets */
	uint32_t *set_class;      /* class numbers, by set index */
	uint32_t *set_start;      /* nb_sets + 1 offsets */
	struct pk_diag *diag;
};

static struct fw_set_source *
set_find(const struct fw_rules_input *in, uint64_t id, uint32_t *index)
{
	uint32_t low = 0, high = in->nb_sets;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (in->sets[mid]->id == id) {
			*index = mid;
			return in->sets[mid];
		}
		if (in->sets[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static struct fw_program *
program_find(const struct fw_rules *r, uint64_t id)
{
	uint32_t low = 0, high = r->nb_programs;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (r->programs[mid].id == id)
			return &r->programs[mid];
		if (r->programs[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static int
identity_index(const struct fw_rules_input *in, uint32_t id, uint32_t *index)
{
	uint32_t low = 0, high = in->nb_identities;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (in->identities[mid]->id == id) {
			*index = mid;
			return 0;
		}
		if (in->identities[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return -ENOENT;
}

/* Turn sets of identities inside out: which sets is each identity in? */
static int
identities_build(struct build *b)
{
	const struct fw_rules_input *in = b->in;
	uint32_t *fill, total, index;

	b->identity_start = calloc(in->nb_identities + 2, sizeof(*b->identity_start));
	if (b->identity_start == NULL)
		return -ENOMEM;
	/* Members that are not among our identities can never be seen here, and are no error. */
	for (uint32_t s = 0; s < in->nb_sets; s++)
		if (in->sets[s]->kind == PK_SET_IDENTITY)
			for (uint32_t i = 0; i < in->sets[s]->nb; i++)
				if (identity_index(in, in->sets[s]->identities[i], &index) == 0)
					b->identity_start[index + 2]++;
	for (uint32_t i = 2; i < in->nb_identities + 2; i++)
		b->identity_start[i] += b->identity_start[i - 1];
	total = b->identity_start[in->nb_identities + 1];
	b->identity_sets = malloc((total + 1) * sizeof(*b->identity_sets));
	if (b->identity_sets == NULL)
		return -ENOMEM;
	fill = b->identity_start + 1; /* shifted by one: filling moves each offset into its place */
	for (uint32_t s = 0; s < in->nb_sets; s++)
		if (in->sets[s]->kind == PK_SET_IDENTITY)
			for (uint32_t i = 0; i < in->sets[s]->nb; i++)
				if (identity_index(in, in->sets[s]->identities[i], &index) == 0)
					b->identity_sets[fill[index]++] = s;
	return 0;
}

static void
bind_programs(struct fw_rules *r, struct fw_class_full *c, const struct fw_identity_source *i)
{
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
		c->program[d] = i->program[d] != 0 ? program_find(r, i->program[d]) : NULL;
		if (c->program[d] != NULL)
			c->public.is_subject = 1;
	}
}

static int
endpoint_compare(const void *a, const void *b)
{
	const struct fw_endpoint_source *x = *(struct fw_endpoint_source *const *)a;
	const struct fw_endpoint_source *y = *(struct fw_endpoint_source *const *)b;

	if (x->vrf != y->vrf)
		return x->vrf < y->vrf ? -1 : 1;
	return pk_addr_compare(&x->addr, &y->addr);
}

static uint32_t
interval_of(const struct fw_rules *r, const struct pk_addr *addr)
{
	/* The host table is still empty, so this is the prefix class. */
	return fw_rules_class(r, UINT32_MAX, addr);
}

/* (identity, list of prefixes) -> class, while classes are made. */
struct pairs {
	uint32_t mask;
	struct fw_class_row *row; /* .row 1: in use */
	uint64_t *key;
};

static int
class_of_pair(struct build *b, struct pairs *p, const struct fw_endpoint_source *s,
    uint32_t identity, uint32_t prefix, uint32_t *class)
{
	uint64_t key = (uint64_t)identity << 32 | prefix;
	uint32_t h = (uint32_t)fw_mix(key, 1), index;
	struct fw_class_full *c;

	if (identity_index(b->in, identity, &index) < 0) {
		pk_diag_set(
		    b->diag, "endpoint \"%s\": identity %u is not defined", s->name, identity);
		return -ENOENT;
	}
	while (p->row[h & p->mask].row != 0 && p->key[h & p->mask] != key)
		h++;
	if (p->row[h & p->mask].row == 0) {
		c = &b->r->classes[b->r->nb_classes];
		p->key[h & p->mask] = key;
		p->row[h & p->mask] =
		    (struct fw_class_row){ .class = b->r->nb_classes++, .row = 1 };
		c->public.identity = identity;
		c->prefix_class = prefix;
		bind_programs(b->r, c, b->in->identities[index]);
	}
	*class = p->row[h & p->mask].class;
	return 0;
}

/*
 * Classes 0 .. lists.nb - 1 are addresses outside the inventory, one for each list of prefixes, so
 * the trees give them directly.  Hosts follow: one class for each pair of identity and list.
 */
static int
classes_build(struct build *b)
{
	const struct fw_rules_input *in = b->in;
	struct fw_rules *r = b->r;
	uint32_t size = table_size(in->nb_endpoints), base = b->lists.nb;
	struct pairs pairs = { .mask = table_size(2 * in->nb_endpoints) - 1 };
	int rc = -ENOMEM;

	r->classes = table_alloc((size_t)base + 2 * (size_t)in->nb_endpoints, sizeof(*r->classes));
	r->hosts = table_alloc(16, sizeof(*r->hosts)); /* empty while intervals are asked for */
	r->host_mask = 15;
	r->endpoints = calloc(in->nb_endpoints + 1, sizeof(*r->endpoints));
	r->endpoint_sources = calloc(in->nb_endpoints + 1, sizeof(struct fw_endpoint_source *));
	pairs.row = calloc((size_t)pairs.mask + 1, sizeof(*pairs.row));
	pairs.key = calloc((size_t)pairs.mask + 1, sizeof(*pairs.key));
	if (r->classes == NULL || r->hosts == NULL || r->endpoints == NULL ||
	    r->endpoint_sources == NULL || pairs.row == NULL || pairs.key == NULL)
		goto out;
	for (uint32_t i = 0; i < base; i++)
		r->classes[i].prefix_class = i;
	r->nb_classes = base;
	for (uint32_t i = 0; i < in->nb_endpoints; i++) {
		struct fw_endpoint_source *s = in->endpoints[i];
		struct fw_endpoint *e = &r->endpoints[i];
		uint32_t prefix = interval_of(r, &s->addr);
		uint32_t class, unattested;

		rc = class_of_pair(b, &pairs, s, s->identity, prefix, &class);
		if (rc == 0)
			rc = class_of_pair(b, &pairs, s, s->unattested, prefix, &unattested);
		if (rc < 0)
			goto out;
		rc = -ENOMEM;
		*e = (struct fw_endpoint){
			.identity = s->identity,
			.class = class,
			.unattested = unattested,
			.wire = s->wire,
			.local = s->local,
			.has_mac = s->has_mac,
			.name = s->name,
		};
		memcpy(e->mac, s->mac, sizeof(e->mac));
		s->refs++;
		r->endpoint_sources[r->nb_endpoints++] = s;
	}
	free(r->hosts);
	r->host_mask = size - 1;
	r->hosts = table_alloc(size, sizeof(*r->hosts));
	if (r->hosts == NULL)
		goto out;
	for (uint32_t i = 0; i < in->nb_endpoints; i++) {
		const struct fw_endpoint_source *s = in->endpoints[i];
		uint64_t a[2];
		uint32_t h;

		memcpy(a, s->addr.bytes, sizeof(a));
		h = fw_host_hash(s->vrf, a);
		while (r->hosts[h & r->host_mask].endpoint != 0)
			h++;
		r->hosts[h & r->host_mask] = (struct fw_host){
			.vrf = s->vrf,
			.endpoint = i + 1,
			.addr = { a[0], a[1] },
			.class = r->endpoints[i].class,
			.family = s->addr.family,
		};
	}
	rc = 0;
out:
	free(pairs.row);
	free(pairs.key);
	return rc;
}

/* Call `each` for every set that class c is in. */
static void
class_sets(const struct build *b, uint32_t class,
    void (*each)(void *arg, uint32_t set, uint32_t class), void *arg)
{
	const struct fw_class_full *c = &b->r->classes[class];
	uint32_t index;

	for (uint32_t i = b->lists.start[c->prefix_class]; i < b->lists.start[c->prefix_class + 1];
	     i++)
		each(arg, b->lists.items[i], class);
	if (c->public.identity != PK_IDENTITY_NONE &&
	    identity_index(b->in, c->public.identity, &index) == 0)
		for (uint32_t i = b->identity_start[index]; i < b->identity_start[index + 1]; i++)
			each(arg, b->identity_sets[i], class);
}

static void
count_class(void *arg, uint32_t set, uint32_t class)
{
	struct build *b = arg;

	(void)class;
	b->set_start[set + 2]++;
}

static void
place_class(void *arg, uint32_t set, uint32_t class)
{
	struct build *b = arg;

	b->set_class[b->set_start[set + 1]++] = class;
}

/* Which classes are in each set?  The same inversion, one level up. */
static int
sets_build(struct build *b)
{
	const struct fw_rules_input *in = b->in;

	b->set_start = calloc(in->nb_sets + 2, sizeof(*b->set_start));
	if (b->set_start == NULL)
		return -ENOMEM;
	for (uint32_t c = 0; c < b->r->nb_classes; c++)
		class_sets(b, c, count_class, b);
	for (uint32_t i = 2; i < in->nb_sets + 2; i++)
		b->set_start[i] += b->set_start[i - 1];
	b->set_class = malloc((b->set_start[in->nb_sets + 1] + 1) * sizeof(*b->set_class));
	if (b->set_class == NULL)
		return -ENOMEM;
	for (uint32_t c = 0; c < b->r->nb_classes; c++)
		class_sets(b, c, place_class, b);
	return 0;
}

/* ---- programs ---- */

/* Rows under construction: bits only, and equal rows kept once. */
struct rows {
	uint32_t nb, room, nb_words, nb_summary;
	uint64_t *bits; /* nb rows of nb_summary + nb_words */
	uint32_t mask;
	uint32_t *slot;
};

static uint64_t *
row_at(struct rows *w, uint32_t i)
{
	return w->bits + (size_t)i * (w->nb_summary + w->nb_words);
}

static int
rows_init(struct rows *w, uint32_t nb_words, uint32_t nb_summary)
{
	*w = (struct rows){ .nb_words = nb_words, .nb_summary = nb_summary, .mask = 63 };
	w->slot = calloc(w->mask + 1, sizeof(*w->slot));
	return w->slot != NULL ? 0 : -ENOMEM;
}

static uint32_t
row_hash(const uint64_t *bits, uint32_t n)
{
	uint64_t h = n;

	for (uint32_t i = 0; i < n; i++)
		h = fw_mix(h + i, bits[i]);
	return (uint32_t)h;
}

static int
rows_intern(struct rows *w, const uint64_t *bits, uint32_t *out)
{
	uint32_t h;
	uint64_t *row;

	if (2 * (w->nb + 1) > w->mask + 1) {
		uint32_t size = (w->mask + 1) * 2;
		uint32_t *slot = calloc(size, sizeof(*slot));

		if (slot == NULL)
			return -ENOMEM;
		free(w->slot);
		w->slot = slot;
		w->mask = size - 1;
		for (uint32_t i = 0; i < w->nb; i++) {
			h = row_hash(row_at(w, i) + w->nb_summary, w->nb_words);
			while (w->slot[h & w->mask] != 0)
				h++;
			w->slot[h & w->mask] = i + 1;
		}
	}
	for (h = row_hash(bits, w->nb_words); w->slot[h & w->mask] != 0; h++) {
		uint32_t i = w->slot[h & w->mask] - 1;

		if (memcmp(row_at(w, i) + w->nb_summary, bits, w->nb_words * sizeof(*bits)) == 0) {
			*out = i;
			return 0;
		}
	}
	if (w->nb == w->room) {
		uint32_t room = PK_MAX(2 * w->room, 16u);
		uint64_t *grown =
		    realloc(w->bits, (size_t)room * (w->nb_summary + w->nb_words) * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		w->bits = grown;
		w->room = room;
	}
	row = row_at(w, w->nb);
	memset(row, 0, w->nb_summary * sizeof(*row));
	memcpy(row + w->nb_summary, bits, w->nb_words * sizeof(*row));
	for (uint32_t i = 0; i < w->nb_words; i++)
		if (bits[i] != 0)
			row[i / 64] |= UINT64_C(1) << (i % 64);
	w->slot[h & w->mask] = w->nb + 1;
	*out = w->nb++;
	return 0;
}

/* Hand the rows over in their final place. */
static int
rows_finish(struct rows *w, uint64_t **out)
{
	size_t n = (size_t)w->nb * (w->nb_summary + w->nb_words);

	*out = table_alloc(n, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	if (n > 0)
		memcpy(*out, w->bits, n * sizeof(**out));
	return 0;
}

static void
rows_fini(struct rows *w)
{
	free(w->bits);
	free(w->slot);
}

static inline void
set_bit(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= UINT64_C(1) << (i % 64);
}

/* (class, rule) pairs: sorted by class they give each class its row. */
struct class_rule {
	uint32_t class, rule;
};

static int
class_rule_compare(const void *a, const void *b)
{
	const struct class_rule *x = a, *y = b;

	if (x->class != y->class)
		return x->class < y->class ? -1 : 1;
	return x->rule < y->rule ? -1 : x->rule > y->rule;
}

static int
peers_build(struct build *b, struct fw_program *p)
{
	const struct fw_program_source *s = p->source;
	uint64_t *any = calloc(p->nb_words + 1, sizeof(*any)),
	         *bits = calloc(p->nb_words + 1, sizeof(*bits));
	struct class_rule *pairs = NULL;
	size_t nb = 0, room = 0;
	uint32_t nb_classes = 0, row, size;
	struct rows rows;
	int rc = rows_init(&rows, p->nb_words, p->nb_summary);

	if (any == NULL || bits == NULL)
		rc = -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < s->nb_rules; i++) {
		if (s->rules[i].any_peer)
			set_bit(any, i);
		for (uint32_t k = 0; k < s->rules[i].nb_peers; k++) {
			uint32_t set, n;

			if (set_find(b->in, s->rules[i].peers[k], &set) == NULL) {
				pk_diag_set(b->diag,
				    "rule \"%s\" of policy \"%s\": peer set %016lx is not defined",
				    s->rules[i].name, s->rules[i].policy,
				    (unsigned long)s->rules[i].peers[k]);
				rc = -ENOENT;
				break;
			}
			n = b->set_start[set + 1] - b->set_start[set];
			if (nb + n > room) {
				struct class_rule *grown;

				room = PK_MAX(2 * room, nb + n + 64);
				grown = realloc(pairs, room * sizeof(*grown));
				if (grown == NULL) {
					rc = -ENOMEM;
					break;
				}
				pairs = grown;
			}
			for (uint32_t c = b->set_start[set]; c < b->set_start[set + 1]; c++)
				pairs[nb++] =
				    (struct class_rule){ .class = b->set_class[c], .rule = i };
		}
	}
	if (rc < 0)
		goto out;
	if (nb > 0)
		qsort(pairs, nb, sizeof(*pairs), class_rule_compare);
	for (size_t i = 0; i < nb; i++)
		nb_classes += i == 0 || pairs[i].class != pairs[i - 1].class;
	size = table_size(nb_classes);
	p->peer_mask = size - 1;
	p->peer_row = table_alloc(size, sizeof(*p->peer_row));
	if (p->peer_row == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	for (uint32_t i = 0; i < size; i++)
		p->peer_row[i].class = FW_CLASS_NONE;
	rc = rows_intern(&rows, any, &row);
	PK_ASSERT(rc < 0 || row == 0);
	for (size_t i = 0; rc == 0 && i < nb;) {
		uint32_t class = pairs[i].class, h;

		memcpy(bits, any, p->nb_words * sizeof(*bits));
		for (; i < nb && pairs[i].class == class; i++)
			set_bit(bits, pairs[i].rule);
		rc = rows_intern(&rows, bits, &row);
		for (h = fw_class_hash(class); p->peer_row[h & p->peer_mask].class != FW_CLASS_NONE;
		     h++)
			;
		p->peer_row[h & p->peer_mask] = (struct fw_class_row){ .class = class, .row = row };
	}
	if (rc == 0)
		rc = rows_finish(&rows, &p->peer_rows);
out:
	rows_fini(&rows);
	free(pairs);
	free(any);
	free(bits);
	return rc;
}

static bool
service_covers(const struct pk_service *s, uint8_t proto, uint32_t selector)
{
	return (s->proto == PK_PROTO_ANY || s->proto == proto) && s->low <= selector &&
	    selector <= s->high;
}

/* One table of intervals for a protocol; `proto` PK_PROTO_ANY stands for those no rule names. */
static int
service_table_build(
    struct fw_program *p, struct fw_service_table *t, uint8_t proto, struct rows *rows)
{
	const struct fw_program_source *s = p->source;
	uint32_t *edges, nb = 1;
	uint64_t *bits;
	size_t room = 1;
	int rc = 0;

	for (uint32_t i = 0; i < s->nb_rules; i++)
		room += 2 * (size_t)s->rules[i].nb_services;
	edges = malloc(room * sizeof(*edges));
	bits = malloc((p->nb_words + 1) * sizeof(*bits));
	if (edges == NULL || bits == NULL) {
		free(edges);
		free(bits);
		return -ENOMEM;
	}
	edges[0] = 0;
	for (uint32_t i = 0; i < s->nb_rules; i++) {
		for (uint32_t k = 0; k < s->rules[i].nb_services; k++) {
			const struct pk_service *v = &s->rules[i].services[k];

			if (v->proto != PK_PROTO_ANY && v->proto != proto)
				continue;
			edges[nb++] = v->low;
			edges[nb++] = (uint32_t)v->high + 1;
		}
	}
	qsort(edges, nb, sizeof(*edges), u32_compare);
	t->start = calloc(nb, sizeof(*t->start));
	t->row = calloc(nb, sizeof(*t->row));
	if (t->start == NULL || t->row == NULL)
		rc = -ENOMEM;
	for (uint32_t e = 0; rc == 0 && e < nb; e++) {
		uint32_t row;

		if (edges[e] > UINT16_MAX || (e > 0 && edges[e] == edges[e - 1]))
			continue;
		memset(bits, 0, p->nb_words * sizeof(*bits));
		for (uint32_t i = 0; i < s->nb_rules; i++) {
			const struct fw_rule_source *rule = &s->rules[i];
			bool covers = rule->any_service;

			for (uint32_t k = 0; k < rule->nb_services && !covers; k++)
				covers = service_covers(&rule->services[k], proto, edges[e]);
			if (covers)
				set_bit(bits, i);
		}
		rc = rows_intern(rows, bits, &row);
		if (t->nb > 0 && t->row[t->nb - 1] == row)
			continue;
		t->start[t->nb] = (uint16_t)edges[e];
		t->row[t->nb++] = row;
	}
	free(edges);
	free(bits);
	return rc;
}

static int
services_build(struct fw_program *p)
{
	const struct fw_program_source *s = p->source;
	bool named[256] = { false };
	struct rows rows;
	int rc;

	for (uint32_t i = 0; i < s->nb_rules; i++)
		for (uint32_t k = 0; k < s->rules[i].nb_services; k++)
			named[s->rules[i].services[k].proto] = true;
	p->nb_services = 1;
	for (unsigned int proto = 0; proto < PK_PROTO_ANY; proto++)
		if (named[proto])
			p->proto_index[proto] = (uint8_t)p->nb_services++;
	p->services = calloc(p->nb_services, sizeof(*p->services));
	rc = rows_init(&rows, p->nb_words, p->nb_summary);
	if (p->services == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = service_table_build(p, &p->services[0], PK_PROTO_ANY, &rows);
	for (unsigned int proto = 0; rc == 0 && proto < PK_PROTO_ANY; proto++)
		if (named[proto])
			rc = service_table_build(
			    p, &p->services[p->proto_index[proto]], (uint8_t)proto, &rows);
	if (rc == 0)
		rc = rows_finish(&rows, &p->service_rows);
	rows_fini(&rows);
	return rc;
}

static int
tiers_build(struct build *b, struct fw_program *p)
{
	const struct fw_program_source *s = p->source;
	uint32_t next = s->nb_rules;

	p->next_tier = calloc(s->nb_rules + 1, sizeof(*p->next_tier));
	if (p->next_tier == NULL)
		return -ENOMEM;
	for (uint32_t i = s->nb_rules; i-- > 0;) {
		if (i + 1 < s->nb_rules && s->rules[i].tier != s->rules[i + 1].tier) {
			if (s->rules[i].tier > s->rules[i + 1].tier) {
				pk_diag_set(b->diag,
				    "rule \"%s\" of policy \"%s\": its tier is above that of the rule before it",
				    s->rules[i + 1].name, s->rules[i + 1].policy);
				return -EINVAL;
			}
			next = i + 1;
		}
		p->next_tier[i] = next;
		p->has_audit |= (s->rules[i].flags & PK_RULE_AUDIT) != 0;
	}
	return 0;
}

/* Programs exist, empty, before classes are made, so that classes can point at them. */
static int
programs_begin(struct build *b)
{
	const struct fw_rules_input *in = b->in;
	struct fw_rules *r = b->r;

	r->programs = calloc(in->nb_programs + 1, sizeof(*r->programs));
	r->program_sources = calloc(in->nb_programs + 1, sizeof(struct fw_program_source *));
	if (r->programs == NULL || r->program_sources == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < in->nb_programs; i++) {
		struct fw_program_source *s = in->programs[i];
		struct fw_program *p = &r->programs[i];

		if (s->nb_received != s->nb_rules) {
			pk_diag_set(b->diag, "program %016lx: %u of %u rules have arrived",
			    (unsigned long)s->id, s->nb_received, s->nb_rules);
			return -EPROTO;
		}
		p->id = s->id;
		p->source = s;
		p->nb_rules = s->nb_rules;
		p->nb_words = (s->nb_rules + 63) / 64;
		p->nb_summary = (p->nb_words + 63) / 64;
		p->first_rule = r->nb_rules;
		r->nb_rules += s->nb_rules;
		s->refs++;
		r->program_sources[r->nb_programs++] = s;
	}
	r->identities = calloc(in->nb_identities + 1, sizeof(struct fw_identity_source *));
	if (r->identities == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < in->nb_identities; i++) {
		struct fw_identity_source *s = in->identities[i];

		for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
			const struct fw_program *p =
			    s->program[d] != 0 ? program_find(r, s->program[d]) : NULL;

			if (s->program[d] != 0 && (p == NULL || p->source->direction != d)) {
				pk_diag_set(b->diag,
				    "identity %u (%s): %s program %016lx is not defined", s->id,
				    s->labels, pk_direction_name(d), (unsigned long)s->program[d]);
				return -ENOENT;
			}
		}
		s->refs++;
		r->identities[r->nb_identities++] = s;
	}
	return 0;
}

static int
rule_id_compare(const void *a, const void *b)
{
	const struct fw_rule_id *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int
ids_build(struct fw_rules *r)
{
	r->ids = calloc(r->nb_rules + 1, sizeof(*r->ids));
	if (r->ids == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nb_programs; i++)
		for (uint32_t k = 0; k < r->programs[i].nb_rules; k++)
			r->ids[r->programs[i].first_rule + k] = (struct fw_rule_id){
				.id = r->programs[i].source->rules[k].id,
				.rule = r->programs[i].first_rule + k,
			};
	qsort(r->ids, r->nb_rules, sizeof(*r->ids), rule_id_compare);
	return 0;
}

int
fw_rules_build(struct fw_rules **out, const struct fw_rules_input *in, struct pk_diag *diag)
{
	struct build b = { .in = in, .diag = diag };
	struct intervals v4 = { 0 }, v6 = { 0 };
	int rc;

	pk_diag_set(diag, "out of memory while building the rules");
	b.r = calloc(1, sizeof(*b.r));
	if (b.r == NULL)
		return -ENOMEM;
	b.r->generation = in->generation;
	qsort(
	    in->endpoints, in->nb_endpoints, sizeof(struct fw_endpoint_source *), endpoint_compare);
	if ((rc = lists_init(&b.lists)) < 0 || (rc = intervals_build(&v4, 4, in, &b.lists)) < 0 ||
	    (rc = intervals_build(&v6, 6, in, &b.lists)) < 0 ||
	    (rc = tree4_build(&b.r->tree4, &v4)) < 0 || (rc = tree6_build(&b.r->tree6, &v6)) < 0 ||
	    (rc = programs_begin(&b)) < 0 || (rc = identities_build(&b)) < 0 ||
	    (rc = classes_build(&b)) < 0 || (rc = sets_build(&b)) < 0 || (rc = ids_build(b.r)) < 0)
		goto out;
	for (uint32_t i = 0; rc == 0 && i < b.r->nb_programs; i++) {
		struct fw_program *p = &b.r->programs[i];

		if ((rc = tiers_build(&b, p)) < 0 || (rc = peers_build(&b, p)) < 0)
			break;
		rc = services_build(p);
	}
out:
	intervals_fini(&v4);
	intervals_fini(&v6);
	lists_fini(&b.lists);
	free(b.identity_sets);
	free(b.identity_start);
	free(b.set_class);
	free(b.set_start);
	if (rc < 0) {
		fw_rules_destroy(b.r);
		return rc;
	}
	*out = b.r;
	return 0;
}

void
fw_rules_destroy(struct fw_rules *r)
{
	if (r == NULL)
		return;
	for (uint32_t i = 0; i < r->nb_programs; i++) {
		struct fw_program *p = &r->programs[i];

		free(p->peer_rows);
		free(p->peer_row);
		free(p->service_rows);
		free(p->next_tier);
		for (uint32_t k = 0; p->services != NULL && k < p->nb_services; k++) {
			free(p->services[k].start);
			free(p->services[k].row);
		}
		free(p->services);
		fw_program_source_put(r->program_sources[i]);
	}
	for (uint32_t i = 0; i < r->nb_endpoints; i++)
		fw_endpoint_source_put(r->endpoint_sources[i]);
	for (uint32_t i = 0; i < r->nb_identities; i++)
		fw_identity_source_put(r->identities[i]);
	free(r->ids);
	free(r->programs);
	free(r->program_sources);
	free(r->endpoints);
	free(r->endpoint_sources);
	free(r->identities);
	free(r->tree4.key);
	free(r->tree4.val);
	free(r->tree6.key);
	free(r->tree6.val);
	free(r->hosts);
	free(r->classes);
	free(r);
}
