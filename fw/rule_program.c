/*
 * From the rules of a program to its rows, whole or by what has changed.
 *
 * Everything a rule says is noted at its position: in the row of each identity and of each pattern of names in its
 * sets, on the range of each prefix in its sets, on the range of each of its services.  So a rule comes or goes, and a
 * set gains or loses a member, at the cost of those notes.  A program is built anew when its rules
 * have changed by half, when no position is left near the place of a new one, or when a tree is
 * stale.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule_priv.h"

#define GAP_EVERY 8   /* rules; one free position behind these */
#define MOVES_MAX 256 /* rules that may move to make room for others */
#define NOWHERE   UINT32_MAX

/* ---- notes of one rule ---- */

static void
prefix_range(const struct pk_prefix *p, fw_key *first, fw_key *last)
{
	unsigned int host = pk_addr_bits(&p->addr) - p->len;
	fw_key mask = host == 128 ? ~(fw_key)0 : ((fw_key)1 << host) - 1;

	*first = fw_addr_key(&p->addr);
	*last = *first | mask;
}

static void
service_range(const struct pk_service *s, fw_key *first, fw_key *last)
{
	bool any = s->proto == PK_PROTO_ANY; /* fw/rule_state.c has seen to its range */

	*first = any ? 0 : (fw_key)s->proto << 16 | s->low;
	*last = any ? UINT32_MAX : (fw_key)s->proto << 16 | s->high;
}

static struct fw_tree *
prefix_tree(struct fw_program *p, const struct pk_prefix *prefix)
{
	return prefix->addr.family == 4 ? &p->v4 : &p->v6;
}

static int
mark(struct fw_parts *m, struct fw_program *p, struct fw_tree *t, fw_key first, fw_key last,
    uint32_t pos, bool add)
{
	return add ? fw_tree_add(m, t, first, last, pos, &p->shape)
	           : fw_tree_remove(m, t, first, last, pos, &p->shape);
}

static int
mark_identity(struct fw_parts *m, struct fw_program *p, uint32_t identity, uint32_t pos, bool add)
{
	struct fw_identity_row *r =
	    fw_table_edit(m, &p->identities, &fw_identity_rows_kind, &identity, add);

	if (r == NULL)
		return -ENOMEM;
	if (add)
		return fw_row_add(m, &r->row, pos, &p->shape);
	if (fw_row_remove(m, &r->row, pos, &p->shape) < 0)
		return -ENOMEM;
	return r->row != 0 ? 0
	                   : fw_table_remove(m, &p->identities, &fw_identity_rows_kind, &identity);
}

static int
mark_name(struct fw_parts *m, struct fw_program *p, uint64_t name, uint32_t pos, bool add)
{
	struct fw_name_row *r = fw_table_edit(m, &p->names, &fw_name_rows_kind, &name, add);

	if (r == NULL)
		return -ENOMEM;
	if (add)
		return fw_row_add(m, &r->row, pos, &p->shape);
	if (fw_row_remove(m, &r->row, pos, &p->shape) < 0)
		return -ENOMEM;
	return r->row != 0 ? 0 : fw_table_remove(m, &p->names, &fw_name_rows_kind, &name);
}

static int
mark_member(struct fw_parts *m, struct fw_program *p, uint8_t kind, const void *member,
    uint32_t pos, bool add)
{
	fw_key first, last;
	uint32_t identity;
	uint64_t name;

	if (kind == PK_SET_IDENTITY) {
		memcpy(&identity, member, sizeof(identity));
		return mark_identity(m, p, identity, pos, add);
	}
	if (kind == PK_SET_NAME) {
		memcpy(&name, member, sizeof(name));
		return mark_name(m, p, name, pos, add);
	}
	prefix_range(member, &first, &last);
	return mark(m, p, prefix_tree(p, member), first, last, pos, add);
}

static int
mark_rule(struct fw_parts *m, struct fw_program *p, const struct fw_program_source *src,
    const struct fw_rule_source *r, uint32_t pos, bool add)
{
	int rc = 0;

	if (r->any_peer)
		rc = add ? fw_row_add(m, &p->any, pos, &p->shape)
		         : fw_row_remove(m, &p->any, pos, &p->shape);
	for (uint32_t i = 0; rc >= 0 && i < r->nb_peers; i++) {
		const struct fw_set *set = src->sets[r->first_peer + i]->object;

		/* A set that went with this transaction has lost its members already. */
		for (uint32_t k = 0; rc >= 0 && set != NULL && k < set->nb; k++)
			if (set->member[k].now)
				rc = mark_member(m, p, set->kind, &set->member[k], pos, add);
	}
	if (rc >= 0 && r->any_service)
		rc = mark(m, p, &p->services, 0, UINT32_MAX, pos, add);
	for (uint32_t i = 0; rc >= 0 && i < r->nb_services; i++) {
		fw_key first, last;

		service_range(&src->services[r->first_service + i], &first, &last);
		rc = mark(m, p, &p->services, first, last, pos, add);
	}
	return rc < 0 ? rc : 0;
}

/* ---- what stands at the positions ---- */

static int
actions_build(struct fw_parts *m, struct fw_program *p, const struct fw_program_source *src)
{
	uint32_t next = p->nb_pos;
	struct fw_actions *a = fw_part_new(m, sizeof(*a) + (size_t)p->nb_pos * sizeof(a->at[0]));
	struct fw_places *places =
	    fw_part_new(m, sizeof(*places) + (size_t)src->nb_rules * sizeof(places->pos[0]));

	if (a == NULL || places == NULL)
		return -ENOMEM;
	p->has_audit = false;
	for (uint32_t i = src->nb_rules; i-- > 0;) {
		const struct fw_rule_source *r = &src->rules[i];

		if (i + 1 < src->nb_rules && r->tier != src->rules[i + 1].tier)
			next = src->rules[i + 1].pos;
		places->pos[i] = r->pos;
		a->at[r->pos] = (struct fw_action){
			.next_tier = next,
			.verdict = r->verdict,
			.log = r->log,
			.encryption = r->encryption,
			.flags = (uint8_t)(r->flags | (r->has_apps ? FW_ACTION_APPS : 0) |
			    (r->has_terms ? FW_ACTION_TERMS : 0) |
			    (r->has_schedule ? FW_ACTION_WHEN : 0)),
			.slot = r->slot->slot,
		};
		p->has_audit |= (r->flags & PK_RULE_AUDIT) != 0;
	}
	fw_part_drop(m, p->actions);
	fw_part_drop(m, p->places);
	p->actions = a;
	p->places = places;
	return 0;
}

/* ---- a whole program ---- */

/* The edges of ranges, for a tree that is cut before they are noted. */
struct edges {
	fw_key *at;
	size_t nb, room;
};

static int
edge_add(struct edges *e, fw_key key)
{
	if (e->nb == e->room) {
		size_t room = PK_MAX(2 * e->room, (size_t)64);
		fw_key *grown = realloc(e->at, room * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		e->at = grown;
		e->room = room;
	}
	e->at[e->nb++] = key;
	return 0;
}

static int
range_add(struct edges *e, fw_key first, fw_key last, fw_key end)
{
	if (first == 0 && last == end)
		return 0; /* noted for all keys, with no edge */
	if (edge_add(e, first) < 0 || (last != end && edge_add(e, last + 1) < 0))
		return -ENOMEM;
	return 0;
}

static int
key_compare(const void *a, const void *b)
{
	fw_key x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static int
edges_cut(struct fw_parts *m, struct edges *e, struct fw_tree *t)
{
	size_t kept = 0;

	if (e->nb == 0)
		return 0;
	if (edge_add(e, 0) < 0)
		return -ENOMEM;
	qsort(e->at, e->nb, sizeof(*e->at), key_compare);
	for (size_t i = 0; i < e->nb; i++)
		if (kept == 0 || e->at[kept - 1] != e->at[i])
			e->at[kept++] = e->at[i];
	e->nb = kept;
	return fw_tree_cut(m, t, e->at, e->nb);
}

static int
rule_edges(const struct fw_program_source *src, const struct fw_rule_source *r, struct edges *v4,
    struct edges *v6, struct edges *services)
{
	fw_key first, last;

	for (uint32_t i = 0; i < r->nb_peers; i++) {
		const struct fw_set *set = src->sets[r->first_peer + i]->object;

		for (uint32_t k = 0; set->kind == PK_SET_PREFIX && k < set->nb; k++) {
			const struct pk_prefix *prefix = &set->member[k].prefix;
			bool is_v4 = prefix->addr.family == 4;

			if (!set->member[k].now)
				continue;
			prefix_range(prefix, &first, &last);
			if (range_add(
			        is_v4 ? v4 : v6, first, last, is_v4 ? UINT32_MAX : ~(fw_key)0) < 0)
				return -ENOMEM;
		}
	}
	for (uint32_t i = 0; i < r->nb_services; i++) {
		service_range(&src->services[r->first_service + i], &first, &last);
		if (range_add(services, first, last, UINT32_MAX) < 0)
			return -ENOMEM;
	}
	return 0;
}

int
fw_program_build(struct fw_parts *m, struct fw_program **out, struct fw_program_source *src)
{
	struct edges v4 = { 0 }, v6 = { 0 }, services = { 0 };
	struct fw_program *p = fw_part_new(m, sizeof(*p));
	int rc = 0;

	if (p == NULL)
		return -ENOMEM;
	*out = p;
	p->id = src->id;
	p->v6.wide = true;
	p->nb_pos = src->nb_rules + src->nb_rules / GAP_EVERY + GAP_EVERY;
	p->shape.nb_words = (p->nb_pos + 63) / 64;
	p->shape.nb_summary = (p->shape.nb_words + 63) / 64;
	for (uint32_t i = 0; i < src->nb_rules; i++)
		src->rules[i].pos = i + i / GAP_EVERY;
	for (uint32_t i = 0; rc == 0 && i < src->nb_rules; i++)
		rc = rule_edges(src, &src->rules[i], &v4, &v6, &services);
	if (rc < 0 || (rc = edges_cut(m, &v4, &p->v4)) < 0 ||
	    (rc = edges_cut(m, &v6, &p->v6)) < 0 ||
	    (rc = edges_cut(m, &services, &p->services)) < 0)
		goto out;
	for (uint32_t i = 0; rc == 0 && i < src->nb_rules; i++)
		rc = mark_rule(m, p, src, &src->rules[i], src->rules[i].pos, true);
	fw_tree_built(&p->v4);
	fw_tree_built(&p->v6);
	fw_tree_built(&p->services);
	if (rc == 0)
		rc = actions_build(m, p, src);
out:
	free(v4.at);
	free(v6.at);
	free(services.at);
	return rc; /* a failed change frees its parts */
}

static void
drop_row(struct fw_parts *m, void *entry)
{
	fw_row_drop(m, ((struct fw_identity_row *)entry)->row);
}

static void
drop_name_row(struct fw_parts *m, void *entry)
{
	fw_row_drop(m, ((struct fw_name_row *)entry)->row);
}

void
fw_program_drop(struct fw_parts *m, struct fw_program *p)
{
	if (p == NULL)
		return;
	fw_part_drop(m, p->actions);
	fw_row_drop(m, p->any);
	fw_part_drop(m, p->places);
	fw_tree_drop(m, &p->v4);
	fw_tree_drop(m, &p->v6);
	fw_tree_drop(m, &p->services);
	fw_table_drop(m, &p->identities, &fw_identity_rows_kind, drop_row);
	fw_table_drop(m, &p->names, &fw_name_rows_kind, drop_name_row);
	fw_part_drop(m, p);
}

static int
rebuild(struct fw_parts *m, struct fw_program **p, struct fw_program_source *src)
{
	struct fw_program *fresh;
	int rc = fw_program_build(m, &fresh, src);

	if (rc < 0)
		return rc;
	fw_program_drop(m, *p);
	*p = fresh;
	return 0;
}

static int
own(struct fw_parts *m, struct fw_program **p)
{
	struct fw_program *copy;

	if (fw_part_mine(m, *p))
		return 0;
	copy = fw_part_new(m, sizeof(*copy));
	if (copy == NULL)
		return -ENOMEM;
	memcpy((char *)copy + sizeof(struct fw_part), (char *)*p + sizeof(struct fw_part),
	    sizeof(*copy) - sizeof(struct fw_part));
	fw_part_drop(m, *p);
	*p = copy;
	return 0;
}

static bool
is_stale(const struct fw_program *p)
{
	return fw_tree_is_stale(&p->v4) || fw_tree_is_stale(&p->v6) ||
	    fw_tree_is_stale(&p->services);
}

/* ---- what has changed ---- */

int
fw_program_members(struct fw_parts *m, struct fw_program **p, const struct fw_program_source *src,
    const struct fw_entry *set, const struct fw_member_change *changes, size_t nb)
{
	int rc = own(m, p);

	for (uint32_t i = 0; rc == 0 && i < src->nb_rules; i++) {
		const struct fw_rule_source *r = &src->rules[i];

		for (uint32_t k = 0; rc == 0 && k < r->nb_peers; k++)
			for (size_t c = 0; rc == 0 && c < nb && src->sets[r->first_peer + k] == set;
			     c++)
				rc = mark_member(m, *p, changes[c].kind, changes[c].member,
				    (*p)->places->pos[i], changes[c].add);
	}
	return rc;
}

int
fw_program_refresh(struct fw_parts *m, struct fw_program **p, struct fw_program_source *src)
{
	return is_stale(*p) ? rebuild(m, p, src) : 0;
}

/* Do the rules match the same packets, by the names of their sets? */
static bool
same_match(const struct fw_program_source *sa, const struct fw_rule_source *a,
    const struct fw_program_source *sb, const struct fw_rule_source *b)
{
	return a->any_peer == b->any_peer && a->any_service == b->any_service &&
	    a->nb_peers == b->nb_peers && a->nb_services == b->nb_services &&
	    (a->nb_peers == 0 ||
	        memcmp(sa->peers + a->first_peer, sb->peers + b->first_peer,
	            a->nb_peers * sizeof(*sa->peers)) == 0) &&
	    (a->nb_services == 0 ||
	        memcmp(sa->services + a->first_service, sb->services + b->first_service,
	            a->nb_services * sizeof(*sa->services)) == 0);
}

/* How two versions of a program compare. */
struct diff {
	const struct fw_program_source *from;
	struct fw_program_source *to;
	const uint32_t *places; /* of the rules of `from` */
	uint32_t *
	    match; /* of each rule of `to`: the rule of `from` whose position it keeps, or NOWHERE */
	bool *kept; /* of each rule of `from` */
	uint32_t nb_kept;
};

static void
keep(struct diff *d, uint32_t from, uint32_t to)
{
	d->match[to] = from;
	d->kept[from] = true;
	d->nb_kept++;
	d->to->rules[to].pos = d->places[from];
}

static bool
same(const struct diff *d, uint32_t from, uint32_t to)
{
	return same_match(d->from, &d->from->rules[from], d->to, &d->to->rules[to]);
}

/* Equal beginnings and ends first; between them, rules of one id that have not changed places. */
static int
align(struct diff *d)
{
	uint32_t a = 0, b = 0, na = d->from->nb_rules, nb = d->to->nb_rules, size = 16, next;
	uint32_t *slot;

	for (; a < na && a < nb && same(d, a, a); a++)
		keep(d, a, a);
	for (b = a; na > a && nb > b && same(d, na - 1, nb - 1); na--, nb--)
		keep(d, na - 1, nb - 1);
	if (a == na || b == nb)
		return 0;
	while (size < 2 * (na - a))
		size *= 2;
	slot = calloc(size, sizeof(*slot));
	if (slot == NULL)
		return -ENOMEM;
	for (uint32_t i = a; i < na; i++) {
		uint32_t h = fw_id_hash(d->from->rules[i].id);

		while (slot[h & (size - 1)] != 0)
			h++;
		slot[h & (size - 1)] = i + 1;
	}
	next = a;
	for (uint32_t i = b; i < nb; i++) {
		for (uint32_t h = fw_id_hash(d->to->rules[i].id); slot[h & (size - 1)] != 0; h++) {
			uint32_t k = slot[h & (size - 1)] - 1;

			if (k >= next && d->from->rules[k].id == d->to->rules[i].id &&
			    same(d, k, i)) {
				keep(d, k, i);
				next = k + 1;
				break;
			}
		}
	}
	free(slot);
	return 0;
}

/* Positions for the rules that have none; rules beside them move if they must.
 * Returns false when that would be too many. */
static bool
settle(struct diff *d, uint32_t nb_pos)
{
	struct fw_rule_source *r = d->to->rules;
	uint32_t nb = d->to->nb_rules, moved = 0;

	for (uint32_t s = 0, e; s < nb; s = e) {
		int64_t low, high;

		for (e = s; e < nb && d->match[e] == NOWHERE; e++)
			;
		if (e == s) {
			e++;
			continue;
		}
		for (;;) {
			low = s > 0 ? (int64_t)r[s - 1].pos : -1;
			high = e < nb ? (int64_t)r[e].pos : (int64_t)nb_pos;
			if (high - low - 1 >= (int64_t)(e - s))
				break;
			if (++moved > MOVES_MAX || (s == 0 && e == nb))
				return false;
			/* One more on either side in turns; at an end, on the other. */
			if (s > 0 && (moved % 2 == 0 || e == nb))
				s--;
			else
				for (e++; e < nb && d->match[e] == NOWHERE; e++)
					;
		}
		for (uint32_t i = s; i < e; i++) {
			uint64_t room = (uint64_t)(high - low - 1);

			if (d->match[i] != NOWHERE) {
				d->kept[d->match[i]] = false;
				d->match[i] = NOWHERE;
				d->nb_kept--;
			}
			r[i].pos = (uint32_t)(low + 1 +
			    (int64_t)((2 * (uint64_t)(i - s) + 1) * room /
			        (2 * (uint64_t)(e - s))));
		}
	}
	return true;
}

int
fw_program_change(struct fw_parts *m, struct fw_program **p, const struct fw_program_source *from,
    struct fw_program_source *to)
{
	struct fw_places *old = (*p)->places;
	struct diff d = { .from = from, .to = to, .places = old->pos };
	int rc = -ENOMEM;

	d.match = malloc(((size_t)to->nb_rules + 1) * sizeof(*d.match));
	d.kept = calloc((size_t)from->nb_rules + 1, sizeof(*d.kept));
	if (d.match == NULL || d.kept == NULL)
		goto out;
	for (uint32_t i = 0; i < to->nb_rules; i++)
		d.match[i] = NOWHERE;
	if ((rc = align(&d)) < 0)
		goto out;
	if (!settle(&d, (*p)->nb_pos) || is_stale(*p) ||
	    from->nb_rules + to->nb_rules > 2 * d.nb_kept + to->nb_rules / 2 + 16) {
		rc = rebuild(m, p, to);
		goto out;
	}
	rc = own(m, p);
	for (uint32_t i = 0; rc == 0 && i < from->nb_rules; i++)
		if (!d.kept[i])
			rc = mark_rule(m, *p, from, &from->rules[i], d.places[i], false);
	for (uint32_t i = 0; rc == 0 && i < to->nb_rules; i++)
		if (d.match[i] == NOWHERE)
			rc = mark_rule(m, *p, to, &to->rules[i], to->rules[i].pos, true);
	if (rc == 0)
		rc = actions_build(m, *p, to);
out:
	free(d.match);
	free(d.kept);
	return rc;
}
