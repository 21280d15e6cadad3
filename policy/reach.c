#include "policy/reach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/map.h"
#include "policy/model_priv.h"

#define NONE         UINT32_MAX
#define OCCUPIED_MAX 256 /* addresses in a range that is looked through for somebody outside */

/* A workload, or one address of a workload whose addresses are not all treated alike. */
struct entry {
	const char *name;
	const char *shown; /* the name of its node, unless several would be called so */
	const struct policy_workload_def *def;
	uint32_t vrf;
	uint8_t present, families, absent;
	uint32_t class[POLICY_WORLDS_MAX][2]; /* NONE: has no such address */
	uint32_t node;
};

struct node {
	struct policy_reach_node n; /* first: callers see this */
	uint32_t first;             /* an entry that speaks for all */
};

/* The same for the outside: a range that neither world cuts. */
struct range {
	struct pk_addr low, high;
	uint32_t class[POLICY_WORLDS_MAX];
};

struct policy_reach {
	struct policy_world worlds[POLICY_WORLDS_MAX];
	unsigned int nb_worlds;
	struct policy_connect *connect[POLICY_WORLDS_MAX];
	struct policy_pool *pool;
	struct policy_arena arena;
	POLICY_VECTOR(struct entry) entries;
	struct policy_map index; /* entries by name, as long as they are gathered */
	POLICY_VECTOR(struct node) nodes;
	POLICY_VECTOR(struct range) ranges[2];
	int audit;
};

/* ---- gathering ----------------------------------------------------------------------------------- */

static const char *
shown_name(
    struct policy_reach *r, const struct policy_workload_def *w, enum policy_grouping grouping)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	if (grouping == POLICY_BY_WORKLOAD && w->owner == NULL)
		return policy_arena_printf(&r->arena, "%s/%s", w->meta.tenant, w->meta.name);
	if (grouping == POLICY_BY_WORKLOAD)
		return policy_arena_printf(&r->arena, "%s/%s", w->meta.tenant, w->owner);
	if ((f = open_memstream(&text, &len)) != NULL) {
		fprintf(f, "%s/{", w->meta.tenant);
		for (uint32_t i = 0; i < w->meta.labels.nb; i++)
			fprintf(f, "%s%s=%s", i > 0 ? "," : "", w->meta.labels.at[i].key,
			    w->meta.labels.at[i].value);
		fputs("}", f);
		if (fclose(f) == 0) {
			const char *own = policy_arena_text(&r->arena, text);

			free(text);
			return own;
		}
	}
	return NULL;
}

static struct entry *
entry_of(struct policy_reach *r, const char *name, const struct policy_workload_def *w,
    enum policy_grouping grouping, int whole)
{
	uint32_t i = policy_map_get_text(&r->index, name);
	struct entry *e;

	if (i != POLICY_MAP_NONE)
		return &r->entries.at[i];
	i = (uint32_t)r->entries.nb;
	if ((e = POLICY_PUSH(&r->entries)) == NULL)
		return NULL;
	*e = (struct entry){ .def = w, .vrf = w->vrf };
	memset(e->class, 0xff, sizeof(e->class));
	e->name = policy_arena_text(&r->arena, name);
	e->shown = whole ? shown_name(r, w, grouping) : e->name;
	if (e->name == NULL || e->shown == NULL || policy_map_put_text(&r->index, e->name, i) < 0)
		return NULL;
	return e;
}

static uint32_t
class_at(const struct policy_reach *r, unsigned int world, const struct policy_workload_def *w,
    const struct pk_addr *a)
{
	const struct policy_endpoint *e = policy_table_endpoint(r->worlds[world].table, w->vrf, a);

	return e != NULL ? policy_connect_class(r->connect[world], e->identity, a) : NONE;
}

static int
add_unplaced(struct policy_reach *r, unsigned int world, const struct policy_workload_def *w,
    const char *name, enum policy_grouping grouping)
{
	const struct policy_unplaced *u = policy_table_unplaced(r->worlds[world].table, name);
	struct entry *e = entry_of(r, name, w, grouping, 1);

	if (e == NULL)
		return -ENOMEM;
	if (u == NULL)
		return 0;
	e->present |= (uint8_t)(1 << world);
	for (int f = 0; f < 2; f++)
		e->class[world][f] = policy_connect_class(r->connect[world], u->identity, NULL);
	return 0;
}

static int
add_workload(struct policy_reach *r, unsigned int world, const struct policy_workload_def *w,
    enum policy_grouping grouping)
{
	char name[POLICY_REACH_TEXT], addr[PK_ADDR_TEXT];
	int alike = 1;

	snprintf(name, sizeof(name), "%s/%s", w->meta.tenant, w->meta.name);
	if (w->addresses.nb == 0)
		return add_unplaced(r, world, w, name, grouping);
	/* In all worlds, so that it has one name in all. */
	for (unsigned int v = 0; v < r->nb_worlds; v++) {
		uint32_t first[2] = { NONE, NONE };

		for (uint32_t i = 0; i < w->addresses.nb; i++) {
			uint32_t c = class_at(r, v, w, &w->addresses.at[i].addr);
			uint32_t *f = &first[w->addresses.at[i].addr.family == 6];

			alike &= *f == NONE || *f == c;
			*f = c;
		}
	}
	for (uint32_t i = 0; i < w->addresses.nb; i++) {
		const struct pk_addr *a = &w->addresses.at[i].addr;
		struct entry *e;

		snprintf(name, sizeof(name), "%s/%s%s%s", w->meta.tenant, w->meta.name,
		    alike ? "" : "@", alike ? "" : pk_addr_text(a, addr));
		if ((e = entry_of(r, name, w, grouping, alike)) == NULL)
			return -ENOMEM;
		e->present |= (uint8_t)(1 << world);
		e->class[world][a->family == 6] = class_at(r, world, w, a);
	}
	return 0;
}

static int
gather(struct policy_reach *r, enum policy_grouping grouping)
{
	for (unsigned int v = 0; v < r->nb_worlds; v++) {
		const struct policy_model *m = r->worlds[v].model;

		for (size_t s = 0; s < m->sources.nb; s++) {
			const struct policy_objects *o = &m->sources.at[s]->objects;

			for (size_t i = 0; i < o->workloads.nb; i++)
				if (add_workload(r, v, o->workloads.at[i], grouping) < 0)
					return -ENOMEM;
		}
	}
	for (size_t i = 0; i < r->worlds[0].nb_absent; i++) {
		const struct policy_workload_def *w = r->worlds[0].absent[i];

		if (add_workload(r, 0, w, POLICY_BY_WORKLOAD) < 0)
			return -ENOMEM;
		r->entries.at[r->entries.nb - 1].shown = w->owner;
		r->entries.at[r->entries.nb - 1].absent = 1;
	}
	return 0;
}

/* A workload without an address may get one of any family that is spoken here. */
static uint8_t
families_of(const struct policy_reach *r, const struct entry *e)
{
	uint8_t families = 0;
	int v6 = 0;

	for (unsigned int v = 0; v < r->nb_worlds; v++) {
		v6 |= policy_connect_speaks(r->connect[v], 6);
		families |= (uint8_t)((e->class[v][0] != NONE) | (e->class[v][1] != NONE) << 1);
	}
	return e->def->addresses.nb == 0 && !v6 ? families & 1 : families;
}

/* ---- nodes --------------------------------------------------------------------------------------- */

static int
by_kind(const struct entry *a, const struct entry *b)
{
	int d = strcmp(a->shown, b->shown);

	if (d == 0)
		d = memcmp(a->class, b->class, sizeof(a->class));
	if (d == 0)
		d = a->present - b->present;
	if (d == 0)
		d = a->families - b->families;
	return d != 0 ? d : (a->vrf > b->vrf) - (a->vrf < b->vrf);
}

static int
by_kind_and_name(const void *va, const void *vb)
{
	const struct entry *a = va, *b = vb;
	int d = by_kind(a, b);

	return d != 0 ? d : strcmp(a->name, b->name);
}

static int
by_node_name(const void *va, const void *vb)
{
	return strcmp(((const struct node *)va)->n.name, ((const struct node *)vb)->n.name);
}

static int
make_nodes(struct policy_reach *r)
{
	struct entry *e = r->entries.at;
	size_t nb = r->entries.nb;

	for (size_t i = 0; i < nb; i++)
		e[i].families = families_of(r, &e[i]);
	if (nb > 1)
		qsort(e, nb, sizeof(e[0]), by_kind_and_name);
	for (size_t i = 0, next; i < nb; i = next) {
		struct node *n = POLICY_PUSH(&r->nodes);
		int several;

		if (n == NULL)
			return -ENOMEM;
		for (next = i + 1; next < nb && by_kind(&e[i], &e[next]) == 0; next++)
			;
		several = (i > 0 && strcmp(e[i - 1].shown, e[i].shown) == 0) ||
		    (next < nb && strcmp(e[next].shown, e[i].shown) == 0);
		*n = (struct node){ .first = (uint32_t)i };
		n->n.present = e[i].present;
		n->n.absent = e[i].absent;
		n->n.tenant = e[i].absent ? "" : e[i].def->meta.tenant;
		n->n.nb_workloads = (uint32_t)(next - i);
		/* The same owner, but something tells them apart: say whom this is about. */
		n->n.name = several ? policy_arena_printf(&r->arena, "%s{%s%s}", e[i].shown,
		                          strchr(e[i].name, '/') + 1, next - i > 1 ? ",..." : "")
		                    : e[i].shown;
		if (n->n.name == NULL)
			return -ENOMEM;
		n->n.label = n->n.absent ? n->n.name : n->n.name + strlen(n->n.tenant) + 1;
	}
	if (r->nodes.nb > 1)
		qsort(r->nodes.at, r->nodes.nb, sizeof(r->nodes.at[0]), by_node_name);
	for (size_t i = 0; i < r->nodes.nb; i++)
		for (uint32_t k = 0; k < r->nodes.at[i].n.nb_workloads; k++)
			e[r->nodes.at[i].first + k].node = (uint32_t)i;
	return 0;
}

/* ---- the outside --------------------------------------------------------------------------------- */

static int
make_ranges(struct policy_reach *r, unsigned int family)
{
	const struct policy_block *blocks[POLICY_WORLDS_MAX];
	size_t nb[POLICY_WORLDS_MAX], at[POLICY_WORLDS_MAX] = { 0 };

	for (unsigned int v = 0; v < r->nb_worlds; v++)
		blocks[v] = policy_connect_blocks(r->connect[v], family, &nb[v]);
	/* Each list has no gaps, so all begin together and end together. */
	for (int done = 0; !done;) {
		struct range *new = POLICY_PUSH(&r->ranges[family == 6]);
		unsigned int least = 0;

		if (new == NULL)
			return -ENOMEM;
		new->low = blocks[0][at[0]].low;
		for (unsigned int v = 0; v < r->nb_worlds; v++) {
			new->class[v] = blocks[v][at[v]].class;
			if (pk_addr_compare(&blocks[v][at[v]].low, &new->low) > 0)
				new->low = blocks[v][at[v]].low;
			if (pk_addr_compare(
			        &blocks[v][at[v]].high, &blocks[least][at[least]].high) < 0)
				least = v;
		}
		new->high = blocks[least][at[least]].high;
		done = 1;
		for (unsigned int v = 0; v < r->nb_worlds; v++) {
			if (pk_addr_compare(&blocks[v][at[v]].high, &new->high) == 0)
				at[v]++;
			if (at[v] < nb[v])
				done = 0;
		}
	}
	return 0;
}

static int
next_addr(struct pk_addr *a)
{
	unsigned int i = a->family == 4 ? 4 : 16;

	while (i-- > 0)
		if (++a->bytes[i] != 0)
			return 1;
	return 0;
}

/* Whether nobody outside can have an address of the range: all are workloads' of this address space. */
static int
is_occupied(const struct policy_reach *r, const struct range *range, uint32_t vrf)
{
	struct pk_addr a = range->low;

	for (unsigned int n = 0; n < OCCUPIED_MAX; n++) {
		for (unsigned int v = 0; v < r->nb_worlds; v++)
			if (policy_table_endpoint(r->worlds[v].table, vrf, &a) == NULL)
				return 0;
		if (pk_addr_compare(&a, &range->high) == 0)
			return 1;
		if (!next_addr(&a))
			return 0;
	}
	return 0;
}

/* ---- beginning and end --------------------------------------------------------------------------- */

int
policy_reach_create(struct policy_reach **out, const struct policy_world *worlds,
    unsigned int nb_worlds, enum policy_grouping grouping)
{
	struct policy_reach *r = calloc(1, sizeof(*r));
	int rc = 0;

	*out = NULL;
	if (r == NULL)
		return -ENOMEM;
	PK_ASSERT(nb_worlds >= 1 && nb_worlds <= POLICY_WORLDS_MAX);
	memcpy(r->worlds, worlds, nb_worlds * sizeof(worlds[0]));
	r->nb_worlds = nb_worlds;
	if ((r->pool = policy_pool_create()) == NULL)
		rc = -ENOMEM;
	for (unsigned int v = 0; v < nb_worlds && rc == 0; v++)
		rc = policy_connect_create(&r->connect[v], worlds[v].table, r->pool);
	if (rc == 0)
		rc = gather(r, grouping);
	if (rc == 0)
		rc = make_nodes(r);
	if (rc == 0)
		rc = make_ranges(r, 4);
	if (rc == 0)
		rc = make_ranges(r, 6);
	if (rc < 0) {
		policy_reach_destroy(r);
		return rc;
	}
	*out = r;
	return 0;
}

void
policy_reach_destroy(struct policy_reach *r)
{
	if (r == NULL)
		return;
	for (unsigned int v = 0; v < r->nb_worlds; v++)
		policy_connect_destroy(r->connect[v]);
	policy_pool_destroy(r->pool);
	policy_map_fini(&r->index);
	free(r->entries.at);
	free(r->nodes.at);
	free(r->ranges[0].at);
	free(r->ranges[1].at);
	policy_arena_fini(&r->arena);
	free(r);
}

size_t
policy_reach_count(const struct policy_reach *r)
{
	return r->nodes.nb;
}

const struct policy_reach_node *
policy_reach_node(const struct policy_reach *r, size_t i)
{
	return &r->nodes.at[i].n;
}

struct policy_pool *
policy_reach_pool(struct policy_reach *r)
{
	return r->pool;
}

/* ---- choosing ------------------------------------------------------------------------------------ */

void
policy_choice_fini(struct policy_choice *c)
{
	free(c->nodes);
	*c = (struct policy_choice){ 0 };
}

static struct pk_addr
last_of(const struct pk_prefix *p)
{
	struct pk_addr a = p->addr;

	for (unsigned int i = p->len; i < pk_addr_bits(&a); i++)
		a.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
	return a;
}

static int
has_label(const struct policy_workload_def *w, const char *text)
{
	const char *eq = strchr(text, '=');

	for (uint32_t i = 0; i < w->meta.labels.nb; i++) {
		const struct policy_label *l = &w->meta.labels.at[i];

		if (strlen(l->key) == (size_t)(eq - text) &&
		    strncmp(l->key, text, (size_t)(eq - text)) == 0 &&
		    strcmp(l->value, eq + 1) == 0)
			return 1;
	}
	return 0;
}

static int
is_chosen(const struct policy_reach *r, const struct entry *e, const char *text)
{
	const struct node *n = &r->nodes.at[e->node];
	size_t len = strlen(e->def->meta.tenant), name;

	if (strcmp(text, n->n.name) == 0 || strcmp(text, e->shown) == 0 ||
	    strcmp(text, e->name) == 0)
		return 1;
	/* "tenant/name" of one whose addresses are shown apart. */
	name = strlen(text);
	if (strncmp(e->name, text, name) == 0 && e->name[name] == '@')
		return 1;
	if (strncmp(text, e->def->meta.tenant, len) == 0 &&
	    (strcmp(text + len, "/") == 0 || strcmp(text + len, "/*") == 0))
		return 1;
	if (strchr(text, '/') == NULL && strcmp(e->def->meta.tenant, POLICY_TENANT) == 0 &&
	    strcmp(e->def->meta.name, text) == 0)
		return 1;
	return strchr(text, '=') != NULL && has_label(e->def, text);
}

static int
owns(const struct policy_workload_def *w, const struct pk_prefix *p)
{
	for (uint32_t i = 0; i < w->addresses.nb; i++)
		if (pk_prefix_contains(p, &w->addresses.at[i].addr))
			return 1;
	return 0;
}

int
policy_reach_choose(
    const struct policy_reach *r, const char *text, struct policy_choice *out, struct pk_diag *diag)
{
	const char **known, *near;
	struct pk_prefix prefix;
	int is_prefix = pk_prefix_parse(&prefix, text, NULL) == 0, found = 0;

	*out = (struct policy_choice){ 0 };
	out->nodes = calloc(r->nodes.nb + 1, sizeof(out->nodes[0]));
	if (out->nodes == NULL)
		return -ENOMEM;
	if (strcmp(text, "outside") == 0) {
		out->outside = 1;
		return 0;
	}
	if (is_prefix) {
		out->outside = 1;
		out->low = prefix.addr;
		out->high = last_of(&prefix);
		found = 1;
	}
	for (size_t i = 0; i < r->entries.nb; i++) {
		const struct entry *e = &r->entries.at[i];

		if (is_prefix ? owns(e->def, &prefix) : is_chosen(r, e, text)) {
			out->nodes[e->node] = 1;
			found = 1;
		}
	}
	if (found)
		return 0;
	policy_choice_fini(out);
	known = calloc(r->nodes.nb + 1, sizeof(known[0]));
	for (size_t i = 0; known != NULL && i < r->nodes.nb; i++)
		known[i] = r->nodes.at[i].n.name;
	near = known != NULL ? pk_suggest(text, known, r->nodes.nb) : NULL;
	pk_diag_set(diag, "nothing in the inventory is \"%.128s\"; %s%s%s", text,
	    near != NULL ? "did you mean \"" : "want tenant/name, key=value, an address or outside",
	    near != NULL ? near : "", near != NULL ? "\"?" : "");
	free(known);
	return -ENOENT;
}

/* The part of a range that was asked for.  Returns 0 if there is none. */
static int
clip(const struct policy_choice *c, struct pk_addr *low, struct pk_addr *high)
{
	if (c == NULL || c->low.family == 0)
		return c == NULL || c->outside;
	if (!c->outside || c->low.family != low->family)
		return 0;
	if (pk_addr_compare(low, &c->low) < 0)
		*low = c->low;
	if (pk_addr_compare(high, &c->high) > 0)
		*high = c->high;
	return pk_addr_compare(low, high) <= 0;
}

static int
has_node(const struct policy_choice *c, size_t i)
{
	return c == NULL || c->nodes == NULL || c->nodes[i];
}

/* ---- rows ---------------------------------------------------------------------------------------- */

enum sides {
	BOTH_SIDES = 0,
	ONLY_EGRESS,
	ONLY_INGRESS
};

static uint32_t
allowed(struct policy_reach *r, unsigned int world, unsigned int f, uint32_t src, uint32_t dst,
    int sides)
{
	struct policy_connect *c = r->connect[world];
	uint32_t id;

	if (src == NONE || dst == NONE)
		return POLICY_POOL_EMPTY;
	if (sides == ONLY_EGRESS)
		id = policy_connect_side_allowed(c, PK_EGRESS, src, dst, r->audit);
	else if (sides == ONLY_INGRESS)
		id = policy_connect_side_allowed(c, PK_INGRESS, dst, src, r->audit);
	else
		id = policy_connect_allowed(c, src, dst, r->audit);
	return policy_pool_family(r->pool, id, f == 0 ? 4 : 6);
}

/* Nothing to tell: nobody allows anything, or both allow the same. */
static int
is_dull(const struct policy_reach *r, const uint32_t *id)
{
	return r->nb_worlds == 1 ? id[0] == POLICY_POOL_EMPTY : id[0] == id[1];
}

static int
say(struct policy_reach *r, struct policy_reach_row *row, policy_reach_sink *sink, void *arg)
{
	for (unsigned int v = 0; v < r->nb_worlds; v++)
		if (row->allowed[v] == POLICY_POOL_NONE)
			return -ENOMEM;
	return is_dull(r, row->allowed) ? 0 : sink(arg, row);
}

/* Between two nodes: one row if the families agree but for their ICMP, else one for each. */
static int
say_pair(struct policy_reach *r, const struct node *a, const struct node *b,
    policy_reach_sink *sink, void *arg)
{
	const struct entry *src = &r->entries.at[a->first], *dst = &r->entries.at[b->first];
	/* Nobody knows the policies of who is not there. */
	int sides = src->absent ? ONLY_INGRESS : dst->absent ? ONLY_EGRESS : BOTH_SIDES;
	unsigned int families = src->families & dst->families;
	uint32_t id[2][POLICY_WORLDS_MAX] = { 0 };
	struct policy_reach_row row = { .src = &a->n, .dst = &b->n };
	int alike = families == 3, rc = 0;

	if (src->absent && dst->absent)
		return 0;
	for (unsigned int f = 0; f < 2; f++)
		for (unsigned int v = 0; v < r->nb_worlds && families >> f & 1; v++)
			id[f][v] = allowed(r, v, f, src->class[v][f], dst -> class[v][f], sides);
	for (unsigned int v = 0; v < r->nb_worlds && alike; v++)
		alike = policy_pool_family(r->pool, id[0][v], 6) ==
		    policy_pool_family(r->pool, id[1][v], 4);
	if (alike) {
		row.families = families;
		for (unsigned int v = 0; v < r->nb_worlds; v++)
			row.allowed[v] = policy_pool_or(r->pool, id[0][v], id[1][v]);
		return say(r, &row, sink, arg);
	}
	for (unsigned int f = 0; f < 2 && rc == 0; f++) {
		row.families = families & 1u << f;
		memcpy(row.allowed, id[f], sizeof(row.allowed));
		if (row.families != 0)
			rc = say(r, &row, sink, arg);
	}
	return rc;
}

/* Between a node and the outside, `inward` or outward: neighbouring ranges of one answer are one. */
static int
say_outside(struct policy_reach *r, const struct node *n, int inward,
    const struct policy_choice *where, policy_reach_sink *sink, void *arg)
{
	const struct entry *e = &r->entries.at[n->first];
	int rc = 0;

	for (unsigned int f = 0; f < 2 && rc == 0 && !e->absent; f++) {
		struct policy_reach_row row = { .src = inward ? NULL : &n->n,
			.dst = inward ? &n->n : NULL,
			.families = 1u << f };
		int open = 0;

		for (size_t i = 0; i < r->ranges[f].nb && e->families >> f & 1 && rc == 0; i++) {
			const struct range *range = &r->ranges[f].at[i];
			struct pk_addr low = range->low, high = range->high;
			uint32_t id[POLICY_WORLDS_MAX] = { 0 };

			if (!clip(where, &low, &high) || is_occupied(r, range, e->vrf))
				continue;
			for (unsigned int v = 0; v < r->nb_worlds; v++)
				id[v] = allowed(r, v, f, inward ? range->class[v] : e->class[v][f],
				    inward ? e->class[v][f] : range->class[v], BOTH_SIDES);
			if (open && memcmp(id, row.allowed, sizeof(id)) == 0) {
				row.high = high;
				continue;
			}
			rc = open ? say(r, &row, sink, arg) : 0;
			memcpy(row.allowed, id, sizeof(id));
			row.low = low;
			row.high = high;
			open = 1;
		}
		if (open && rc == 0)
			rc = say(r, &row, sink, arg);
	}
	return rc;
}

int
policy_reach_each(struct policy_reach *r, const struct policy_choice *from,
    const struct policy_choice *to, int audit, policy_reach_sink *sink, void *arg)
{
	int rc = 0;

	r->audit = audit;
	for (size_t i = 0; i < r->nodes.nb && rc == 0; i++)
		if (has_node(to, i))
			rc = say_outside(r, &r->nodes.at[i], 1, from, sink, arg);
	for (size_t i = 0; i < r->nodes.nb && rc == 0; i++) {
		const struct node *a = &r->nodes.at[i];

		if (!has_node(from, i))
			continue;
		rc = say_outside(r, a, 0, to, sink, arg);
		for (size_t k = 0; k < r->nodes.nb && rc == 0; k++)
			if (has_node(to, k) && (k != i || a->n.nb_workloads > 1))
				rc = say_pair(r, a, &r->nodes.at[k], sink, arg);
	}
	return rc;
}

const char *
policy_reach_end_text(const struct policy_reach_row *row, int dst, char buf[POLICY_REACH_TEXT])
{
	const struct policy_reach_node *n = dst ? row->dst : row->src;
	char low[PK_ADDR_TEXT], high[PK_ADDR_TEXT];

	if (n != NULL)
		snprintf(buf, POLICY_REACH_TEXT, "%s", n->name);
	else if (pk_addr_compare(&row->low, &row->high) == 0)
		snprintf(buf, POLICY_REACH_TEXT, "%s", pk_addr_text(&row->low, low));
	else
		snprintf(buf, POLICY_REACH_TEXT, "%s-%s", pk_addr_text(&row->low, low),
		    pk_addr_text(&row->high, high));
	return buf;
}
