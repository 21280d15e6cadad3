#include "fw/rule.h"

#include <string.h>

#include "fw/rule_priv.h"

/* A class of everything and nothing: what fw_rules_class_get() shows for FW_CLASS_NONE. */
static const struct fw_class nobody;

uint64_t
fw_rules_generation(const struct fw_rules *r)
{
	return r->generation;
}

uint32_t
fw_rules_count(const struct fw_rules *r)
{
	return r->nb_rules;
}

/* The program that rule number `rule` of the generation belongs to. */
static const struct fw_program *
program_of(const struct fw_rules *r, uint32_t rule)
{
	uint32_t low = 0, high = r->nb_programs;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (r->programs[mid].first_rule <= rule)
			low = mid;
		else
			high = mid;
	}
	return &r->programs[low];
}

void
fw_rules_info(const struct fw_rules *r, uint32_t rule, struct fw_rule_info *out)
{
	const struct fw_program *p;
	const struct fw_rule_source *s;

	PK_ASSERT(rule < r->nb_rules);
	p = program_of(r, rule);
	s = &p->source->rules[rule - p->first_rule];
	*out = (struct fw_rule_info){
		.id = s->id,
		.verdict = (enum pk_verdict)s->verdict,
		.direction = (enum pk_direction)p->source->direction,
		.flags = s->flags,
		.tier = s->tier,
		.line = s->line,
		.slot = s->slot,
		.policy = s->policy,
		.name = s->name,
		.file = s->file,
	};
}

uint32_t
fw_rules_find(const struct fw_rules *r, uint64_t id)
{
	uint32_t low = 0, high = r->nb_rules;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (r->ids[mid].id == id)
			return r->ids[mid].rule;
		if (r->ids[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return FW_RULE_NONE;
}

/* ---- address to class ---- */

static uint32_t
tree4_find(const struct fw_tree4 *t, uint32_t key)
{
	uint32_t found = 0, node = 0;

	/* The largest edge that is not above the key: each level narrows it to one of 17 gaps. */
	while (node < t->nb_nodes) {
		const uint32_t *k = t->key[node];
		uint32_t below = 0;

		for (unsigned int i = 0; i < NODE_KEYS; i++)
			below += k[i] <= key;
		if (below > 0)
			found = t->val[node][below - 1];
		node = node * (NODE_KEYS + 1) + below + 1;
	}
	return found;
}

static uint32_t
tree6_find(const struct fw_tree6 *t, struct fw_key6 key)
{
	uint32_t at = 0, n = t->nb;

	if (n == 0)
		return 0;
	while (n > 1) {
		uint32_t half = n / 2;
		const struct fw_key6 *k = &t->key[at + half];

		if (k->hi < key.hi || (k->hi == key.hi && k->lo <= key.lo))
			at += half;
		n -= half;
	}
	return t->val[at];
}

static const struct fw_host *
host_find(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	uint64_t a[2];

	memcpy(a, addr->bytes, sizeof(a));
	for (uint32_t i = fw_host_hash(vrf, a);; i++) {
		const struct fw_host *h = &r->hosts[i & r->host_mask];

		if (h->endpoint == 0)
			return NULL;
		if (h->addr[0] == a[0] && h->addr[1] == a[1] && h->vrf == vrf &&
		    h->family == addr->family)
			return h;
	}
}

uint32_t
fw_rules_class(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	const struct fw_host *h = host_find(r, vrf, addr);
	uint64_t hi, lo;
	uint32_t v4;

	if (h != NULL)
		return h->class;
	if (addr->family == 4) {
		memcpy(&v4, addr->bytes, sizeof(v4));
		return tree4_find(&r->tree4, __builtin_bswap32(v4));
	}
	memcpy(&hi, addr->bytes, sizeof(hi));
	memcpy(&lo, addr->bytes + sizeof(hi), sizeof(lo));
	return tree6_find(&r->tree6,
	    (struct fw_key6){ .hi = __builtin_bswap64(hi), .lo = __builtin_bswap64(lo) });
}

uint32_t
fw_rules_class_of(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr, bool attested)
{
	const struct fw_host *h;

	if (!attested && (h = host_find(r, vrf, addr)) != NULL)
		return r->endpoints[h->endpoint - 1].unattested;
	return fw_rules_class(r, vrf, addr);
}

void
fw_rules_prefetch(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	uint64_t a[2];

	memcpy(a, addr->bytes, sizeof(a));
	__builtin_prefetch(&r->hosts[fw_host_hash(vrf, a) & r->host_mask]);
}

const struct fw_class *
fw_rules_class_get(const struct fw_rules *r, uint32_t class)
{
	return class < r->nb_classes ? &r->classes[class].public : &nobody;
}

const struct fw_endpoint *
fw_rules_endpoint(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr)
{
	const struct fw_host *h = host_find(r, vrf, addr);

	return h != NULL ? &r->endpoints[h->endpoint - 1] : NULL;
}

static const struct fw_identity_source *
identity_find(const struct fw_rules *r, uint32_t identity)
{
	uint32_t low = 0, high = r->nb_identities;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (r->identities[mid]->id == identity)
			return r->identities[mid];
		if (r->identities[mid]->id < identity)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const char *
fw_rules_tenant_name(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_identity_source *i = identity_find(r, identity);

	return i != NULL ? i->tenant_name : "";
}

const char *
fw_rules_labels(const struct fw_rules *r, uint32_t identity)
{
	const struct fw_identity_source *i = identity_find(r, identity);

	return i != NULL ? i->labels : "";
}

/* ---- the decision ---- */

static const uint64_t *
peer_row(const struct fw_program *p, uint32_t class)
{
	uint32_t row = 0;

	for (uint32_t i = fw_class_hash(class);; i++) {
		const struct fw_class_row *c = &p->peer_row[i & p->peer_mask];

		if (c->class == class)
			row = c->row;
		if (c->class == class || c->class == FW_CLASS_NONE)
			break;
	}
	return p->peer_rows + (size_t)row * (p->nb_summary + p->nb_words);
}

static const uint64_t *
service_row(const struct fw_program *p, uint8_t proto, uint16_t selector)
{
	const struct fw_service_table *t = &p->services[p->proto_index[proto]];
	uint32_t at = 0, n = t->nb;

	while (n > 1) {
		uint32_t half = n / 2;

		if (t->start[at + half] <= selector)
			at += half;
		n -= half;
	}
	return p->service_rows + (size_t)t->row[at] * (p->nb_summary + p->nb_words);
}

/* The first rule at or after `from` that is in both rows, or nb_rules. */
static uint32_t
first_common(const struct fw_program *p, const uint64_t *a, const uint64_t *b, uint32_t from)
{
	const uint64_t *wa = a + p->nb_summary, *wb = b + p->nb_summary;
	uint32_t word = from / 64;
	uint64_t common;

	if (from >= p->nb_rules)
		return p->nb_rules;
	common = wa[word] & wb[word] & (~UINT64_C(0) << (from % 64));
	if (common != 0)
		return word * 64 + (uint32_t)__builtin_ctzll(common);
	word++;
	for (uint32_t s = word / 64; s < p->nb_summary; s++) {
		uint64_t both = a[s] & b[s];

		if (s == word / 64)
			both &= ~UINT64_C(0) << (word % 64);
		/* The summary says where both have something, not that it is the same thing. */
		while (both != 0) {
			uint32_t w = s * 64 + (uint32_t)__builtin_ctzll(both);

			common = wa[w] & wb[w];
			if (common != 0)
				return w * 64 + (uint32_t)__builtin_ctzll(common);
			both &= both - 1;
		}
	}
	return p->nb_rules;
}

/* Walk the matches in order; the rule that decides, or nb_rules. */
static uint32_t
walk(const struct fw_program *p, const uint64_t *a, const uint64_t *b, bool audit)
{
	uint32_t i = first_common(p, a, b, 0);

	while (i < p->nb_rules) {
		const struct fw_rule_source *s = &p->source->rules[i];

		if ((s->flags & PK_RULE_AUDIT) != 0 && !audit)
			i = first_common(p, a, b, i + 1);
		else if (s->verdict == PK_VERDICT_PASS)
			i = first_common(p, a, b, p->next_tier[i]);
		else
			break;
	}
	return i;
}

void
fw_rules_decide(const struct fw_rules *r, enum pk_direction direction, uint32_t subject,
    uint32_t peer, uint8_t proto, uint16_t selector, struct fw_decision *out)
{
	const struct fw_program *p =
	    subject < r->nb_classes ? r->classes[subject].program[direction] : NULL;
	const uint64_t *a, *b;
	uint32_t i, j;

	*out = (struct fw_decision){ .rule = FW_RULE_NONE, .audit_rule = FW_RULE_NONE };
	if (p == NULL)
		return;
	a = peer_row(p, peer);
	b = service_row(p, proto, selector);
	i = walk(p, a, b, false);
	if (i < p->nb_rules) {
		const struct fw_rule_source *s = &p->source->rules[i];

		out->verdict = (enum pk_verdict)s->verdict;
		out->log = (enum pk_log_mode)s->log;
		out->rule = p->first_rule + i;
	}
	out->audit_verdict = out->verdict;
	if (!p->has_audit)
		return;
	j = walk(p, a, b, true);
	if (j != i && j < p->nb_rules) {
		out->audited = 1;
		out->audit_rule = p->first_rule + j;
		out->audit_verdict = (enum pk_verdict)p->source->rules[j].verdict;
	}
}
