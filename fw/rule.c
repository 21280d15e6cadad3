#include "fw/rule.h"

#include <netinet/in.h>

#include "fw/rule_priv.h"

uint64_t
fw_rules_generation(const struct fw_rules *r)
{
	return r->generation;
}

/* ---- about rules ---- */

uint32_t
fw_rules_count(const struct fw_rules *r)
{
	return r->roots.ids.nb;
}

static const struct fw_rule_text *
text_of(const struct fw_rules *r, uint32_t rule)
{
	return fw_vec_get(&r->roots.texts, rule);
}

uint32_t
fw_rules_next(const struct fw_rules *r, uint32_t from)
{
	for (uint32_t i = from; i < r->roots.texts.nb; i++)
		if (text_of(r, i) != NULL)
			return i;
	return FW_RULE_NONE;
}

bool
fw_rules_turned(const struct fw_rules *r, int64_t a_s, int64_t b_s)
{
	if (r == NULL)
		return false;
	for (uint32_t i = 0; (i = fw_rules_next(r, i)) != FW_RULE_NONE; i++) {
		const struct pk_schedule *s = &text_of(r, i)->schedule;

		if (pk_schedule_on(s, a_s) != pk_schedule_on(s, b_s))
			return true;
	}
	return false;
}

const struct pk_rule_terms *
fw_rules_terms(const struct fw_rules *r, uint32_t rule)
{
	const struct fw_rule_text *t = text_of(r, rule);

	return t != NULL ? &t->terms : NULL;
}

bool
fw_rules_info(const struct fw_rules *r, uint32_t rule, struct fw_rule_info *out)
{
	const struct fw_rule_text *t = r != NULL ? text_of(r, rule) : NULL;

	*out = (struct fw_rule_info){ 0 };
	if (t == NULL)
		return false;
	*out = (struct fw_rule_info){
		.id = t->id,
		.verdict = (enum pk_verdict)t->verdict,
		.direction = (enum pk_direction)t->direction,
		.flags = t->flags,
		.tier = t->tier,
		.line = t->line,
		.slot = rule,
		.terms = &t->terms,
		.policy = t->policy,
		.name = t->name,
		.file = t->file,
	};
	return true;
}

bool
fw_rules_info_by_id(const struct fw_rules *r, uint64_t id, struct fw_rule_info *out)
{
	const struct fw_id_entry *e = r != NULL ? fw_table_find(&r->roots.ids, &fw_ids_kind, &id)
	                                        : NULL;

	return fw_rules_info(r, e != NULL ? e->slot : FW_RULE_NONE, out);
}

/* ---- addresses and identities ---- */

static const struct fw_host_entry *
host_find(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	struct fw_host_key key = fw_host_key(vrf, addr);
	const struct fw_bucket *b = fw_table_bucket(&r->roots.hosts, fw_host_hash(&key));

	for (uint32_t i = 0; b != NULL && i < b->nb; i++) {
		const struct fw_host_entry *e = &((const struct fw_host_entry *)b->entry)[i];

		if (e->key.addr[0] == key.addr[0] && e->key.addr[1] == key.addr[1] &&
		    e->key.vrf == key.vrf && e->key.family == key.family)
			return e;
	}
	return NULL;
}

static const struct fw_identity *
identity_find(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_bucket *b = fw_table_bucket(&r->roots.identities, fw_id_hash(identity));

	for (uint32_t i = 0; b != NULL && i < b->nb; i++) {
		const struct fw_identity_entry *e =
		    &((const struct fw_identity_entry *)b->entry)[i];

		if (e->id == identity)
			return e->identity;
	}
	return NULL;
}

void
fw_rules_prefetch(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	struct fw_host_key key = fw_host_key(vrf, addr);

	__builtin_prefetch(fw_table_bucket(&r->roots.hosts, fw_host_hash(&key)));
}

const struct fw_endpoint *
fw_rules_endpoint(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	const struct fw_host_entry *h = host_find(r, vrf, addr);

	return h != NULL ? &h->host->endpoint : NULL;
}

void
fw_rules_party(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr, bool attested,
    struct fw_party *out)
{
	const struct fw_host_entry *h = host_find(r, vrf, addr);
	const struct fw_identity *i =
	    h != NULL ? identity_find(r, attested ? h->identity : h->unattested) : NULL;

	*out = (struct fw_party){
		.addr = addr,
		.identity = PK_IDENTITY_NONE,
		.program = { FW_PROGRAM_NONE, FW_PROGRAM_NONE },
	};
	if (i == NULL)
		return;
	out->identity = i->id;
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
		out->program[d] = i->slot[d];
		out->is_subject |= i->slot[d] != FW_PROGRAM_NONE;
	}
}

uint32_t
fw_rules_tenant(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_identity *i = identity_find(r, identity);

	return i != NULL ? i->tenant : 0;
}

const char *
fw_rules_tenant_name(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_identity *i = identity_find(r, identity);

	return i != NULL ? i->tenant_name : "";
}

const char *
fw_rules_labels(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_identity *i = identity_find(r, identity);

	return i != NULL ? i->labels : "";
}

/* ---- the decision ---- */

#define MATCH_ROWS           \
	(FW_TREE_DEPTH + 4 + \
	    FW_NAMED_MAX) /* of an address, its names and an identity, and of all peers */

/* The rules in any of some rows: those of short ones by position, the bits of long ones. */
struct match {
	uint32_t nb_pos, nb_long;
	const struct fw_positions *wide[MATCH_ROWS];
	uint32_t pos[MATCH_ROWS * FW_ROW_SHORT];
};

static inline void
match_add(struct match *m, fw_row row)
{
	const struct fw_positions *p;

	if (row == 0)
		return;
	if (fw_row_is_single(row)) {
		m->pos[m->nb_pos++] = fw_row_single(row);
		return;
	}
	p = fw_row_many(row);
	if (p->bits != NULL) {
		m->wide[m->nb_long++] = p;
		return;
	}
	for (uint32_t i = 0; i < p->nb; i++)
		m->pos[m->nb_pos++] = p->pos[i];
}

static inline void
match_key4(struct match *m, const struct fw_tree *t, uint32_t key)
{
	const struct fw_tree_node4 *n = t->root;

	match_add(m, t->all);
	while (n != NULL) {
		uint32_t at = 0;

		/* The last key that is not above; those beyond nb are all ones, and come last. */
		for (uint32_t i = 0; i < FW_TREE_KEYS; i++)
			at += n->key[i] <= key;
		at = PK_MIN(at, (uint32_t)n->h.nb) - 1;
		if (n->h.leaf) {
			match_add(m, n->row[at]);
			return;
		}
		match_add(m, n->child[at].row);
		n = n->child[at].node;
	}
}

static inline void
match_key16(struct match *m, const struct fw_tree *t, fw_key key)
{
	const struct fw_tree_node16 *n = t->root;

	match_add(m, t->all);
	while (n != NULL) {
		uint32_t at = 0;

		for (uint32_t half = FW_TREE_KEYS / 2; half > 0; half /= 2)
			at += at + half < n->h.nb && n->key[at + half] <= key ? half : 0;
		if (n->h.leaf) {
			match_add(m, n->row[at]);
			return;
		}
		match_add(m, n->child[at].row);
		n = n->child[at].node;
	}
}

static void
match_names(struct match *m, const struct fw_program *p, const struct fw_named *named)
{
	for (uint32_t i = 0; i < named->nb; i++) {
		const struct fw_name_row *r =
		    fw_table_find(&p->names, &fw_name_rows_kind, &named->pattern[i]);

		if (r != NULL)
			match_add(m, r->row);
	}
}

static void
match_peer(struct match *m, const struct fw_program *p, const struct fw_party *peer)
{
	const struct fw_bucket *b;

	m->nb_pos = m->nb_long = 0;
	match_add(m, p->any);
	if (peer->addr->family == 4)
		match_key4(m, &p->v4, (uint32_t)fw_addr_key(peer->addr));
	else
		match_key16(m, &p->v6, fw_addr_key(peer->addr));
	if (peer->named != NULL && p->names.nb != 0)
		match_names(m, p, peer->named);
	if (peer->identity == PK_IDENTITY_NONE)
		return;
	b = fw_table_bucket(&p->identities, fw_id_hash(peer->identity));
	for (uint32_t i = 0; b != NULL && i < b->nb; i++) {
		const struct fw_identity_row *r = &((const struct fw_identity_row *)b->entry)[i];

		if (r->identity == peer->identity)
			match_add(m, r->row);
	}
}

static bool
in_long(const struct match *m, const struct fw_row_shape *shape, uint32_t pos)
{
	for (uint32_t i = 0; i < m->nb_long; i++)
		if ((m->wide[i]->bits[shape->nb_summary + pos / 64] >> (pos % 64) & 1) != 0)
			return true;
	return false;
}

static inline uint64_t
word(const struct match *m, uint32_t w)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < m->nb_long; i++)
		bits |= m->wide[i]->bits[w];
	return bits;
}

/* The first position from `from` on, and below `end`, that has a bit on both sides; or `end`. */
static uint32_t
first_long(const struct fw_row_shape *shape, const struct match *a, const struct match *b,
    uint32_t from, uint32_t end)
{
	for (uint32_t s = from / 4096; s < shape->nb_summary && s * 4096 < end; s++) {
		uint64_t both = word(a, s) & word(b, s);

		if (s == from / 4096)
			both &= ~UINT64_C(0) << (from / 64 % 64);
		/* The summary says where both have something, not that it is the same thing. */
		for (; both != 0; both &= both - 1) {
			uint32_t w = s * 64 + (uint32_t)__builtin_ctzll(both);
			uint64_t common = word(a, shape->nb_summary + w) &
			    word(b, shape->nb_summary + w);

			if (w == from / 64)
				common &= ~UINT64_C(0) << (from % 64);
			if (common != 0)
				return PK_MIN(w * 64 + (uint32_t)__builtin_ctzll(common), end);
		}
	}
	return end;
}

/* The first position from `from` on that is on both sides, or nb_pos. */
static uint32_t
first_common(
    const struct fw_program *p, const struct match *a, const struct match *b, uint32_t from)
{
	uint32_t best = p->nb_pos;

	for (uint32_t i = 0; i < a->nb_pos; i++) {
		uint32_t pos = a->pos[i];

		if (pos < from || pos >= best)
			continue;
		for (uint32_t k = 0; k < b->nb_pos && best != pos; k++)
			if (b->pos[k] == pos)
				best = pos;
		if (best != pos && in_long(b, &p->shape, pos))
			best = pos;
	}
	for (uint32_t i = 0; i < b->nb_pos; i++)
		if (b->pos[i] >= from && b->pos[i] < best && in_long(a, &p->shape, b->pos[i]))
			best = b->pos[i];
	if (a->nb_long > 0 && b->nb_long > 0)
		best = first_long(&p->shape, a, b, from, best);
	return best;
}

static bool
names_app(const struct fw_rules *r, uint32_t slot, uint8_t app)
{
	const struct fw_rule_text *t = fw_vec_get(&r->roots.texts, slot);

	if (!fw_app_known(app))
		return true;
	for (unsigned int i = 0; i < PK_MSG_APPS; i++)
		if (t->app[i] == app)
			return true;
	return false;
}

/* Walk the matches in order; the position that decides, or nb_pos. */
static uint32_t
walk(const struct fw_rules *r, const struct fw_program *p, const struct match *a,
    const struct match *b, uint8_t app, int64_t at_s, bool audit)
{
	uint32_t i = first_common(p, a, b, 0);

	while (i < p->nb_pos) {
		const struct fw_action *x = &p->actions->at[i];

		if ((x->flags & PK_RULE_AUDIT) != 0 && !audit)
			i = first_common(p, a, b, i + 1);
		else if ((x->flags & FW_ACTION_APPS) != 0 && !names_app(r, x->slot, app))
			i = first_common(p, a, b, i + 1);
		else if ((x->flags & FW_ACTION_WHEN) != 0 &&
		    !pk_schedule_on(&text_of(r, x->slot)->schedule, at_s))
			i = first_common(p, a, b, i + 1);
		else if (x->verdict == PK_VERDICT_PASS)
			i = first_common(p, a, b, x->next_tier);
		else
			break;
	}
	return i;
}

void
fw_rules_decide(const struct fw_rules *r, enum pk_direction direction,
    const struct fw_party *subject, const struct fw_party *peer, uint8_t proto, uint16_t selector,
    uint8_t app, int64_t at_s, struct fw_decision *out)
{
	const struct fw_program *p = subject->program[direction] != FW_PROGRAM_NONE
	    ? fw_vec_get(&r->roots.programs, subject->program[direction])
	    : NULL;
	struct match a, b;
	uint32_t i, j;

	*out = (struct fw_decision){ .rule = FW_RULE_NONE, .audit_rule = FW_RULE_NONE };
	if (p == NULL)
		return;
	match_peer(&a, p, peer);
	b.nb_pos = b.nb_long = 0;
	match_key4(&b, &p->services, (uint32_t)proto << 16 | selector);
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		app = FW_APP_UNKNOWN; /* nothing that could be read */
	i = walk(r, p, &a, &b, app, at_s, false);
	if (i < p->nb_pos) {
		const struct fw_action *x = &p->actions->at[i];

		out->verdict = (enum pk_verdict)x->verdict;
		out->log = (enum pk_log_mode)x->log;
		out->encryption = x->encryption;
		if ((x->flags & FW_ACTION_TERMS) != 0)
			out->terms = &text_of(r, x->slot)->terms;
		out->rule = x->slot;
		out->undecided = (x->flags & FW_ACTION_APPS) != 0 && !fw_app_known(app);
	}
	out->audit_verdict = out->verdict;
	if (!p->has_audit)
		return;
	j = walk(r, p, &a, &b, app, at_s, true);
	if (j != i && j < p->nb_pos) {
		out->audited = 1;
		out->audit_rule = p->actions->at[j].slot;
		out->audit_verdict = (enum pk_verdict)p->actions->at[j].verdict;
	}
}
