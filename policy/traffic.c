#include "policy/traffic.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/map.h"
#include "policy/service.h"

#define PROTO_LOW(p)  ((uint32_t)(p) << 16)
#define PROTO_HIGH(p) (PROTO_LOW(p) | 0xffff)

void
policy_traffic_fini(struct policy_traffic *t)
{
	free(t->at);
	*t = (struct policy_traffic){ 0 };
}

int
policy_traffic_append(struct policy_traffic *t, uint32_t low, uint32_t high)
{
	struct policy_span *last = t->nb > 0 ? &t->at[t->nb - 1] : NULL, *new;

	if (last != NULL && low <= last->high + 1) {
		if (high > last->high)
			last->high = high;
		return 0;
	}
	if ((new = POLICY_PUSH(t)) == NULL)
		return -ENOMEM;
	*new = (struct policy_span){ low, high };
	return 0;
}

static int
has_selector(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	    proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

int
policy_traffic_of_rule(struct policy_traffic *out, const struct policy_rule *r)
{
	int rc = 0;

	out->nb = 0;
	if (r->any_service)
		return policy_traffic_append(out, 0, POLICY_LINE_LAST);
	/* Services are normalised, so by protocol, then port. */
	for (uint32_t i = 0; i < r->nb_services && rc == 0; i++) {
		const struct pk_service *s = &r->services[i];

		if (s->proto == PK_PROTO_ANY) {
			out->nb = 0;
			return policy_traffic_append(out, 0, POLICY_LINE_LAST);
		}
		if (has_selector(s->proto))
			rc = policy_traffic_append(
			    out, PROTO_LOW(s->proto) | s->low, PROTO_LOW(s->proto) | s->high);
		else if (s->low == 0)
			rc = policy_traffic_append(out, PROTO_LOW(s->proto), PROTO_HIGH(s->proto));
	}
	return rc;
}

int
policy_traffic_and(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b)
{
	size_t i = 0, k = 0;

	out->nb = 0;
	while (i < a->nb && k < b->nb) {
		uint32_t low = PK_MAX(a->at[i].low, b->at[k].low);
		uint32_t high = PK_MIN(a->at[i].high, b->at[k].high);

		if (low <= high && policy_traffic_append(out, low, high) < 0)
			return -ENOMEM;
		if (a->at[i].high < b->at[k].high)
			i++;
		else
			k++;
	}
	return 0;
}

int
policy_traffic_meets(const struct policy_traffic *a, const struct policy_traffic *b)
{
	size_t i = 0, k = 0;

	while (i < a->nb && k < b->nb) {
		if (a->at[i].high < b->at[k].low)
			i++;
		else if (b->at[k].high < a->at[i].low)
			k++;
		else
			return 1;
	}
	return 0;
}

int
policy_traffic_minus(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b)
{
	size_t k = 0;

	out->nb = 0;
	for (size_t i = 0; i < a->nb; i++) {
		uint32_t low = a->at[i].low, high = a->at[i].high;
		int rest = 1;

		while (k < b->nb && b->at[k].high < low)
			k++;
		for (size_t n = k; n < b->nb && b->at[n].low <= high; n++) {
			if (b->at[n].low > low &&
			    policy_traffic_append(out, low, b->at[n].low - 1) < 0)
				return -ENOMEM;
			rest = b->at[n].high < high;
			low = b->at[n].high + 1;
			if (!rest)
				break;
		}
		if (rest && policy_traffic_append(out, low, high) < 0)
			return -ENOMEM;
	}
	return 0;
}

int
policy_traffic_or(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b)
{
	size_t i = 0, k = 0;

	out->nb = 0;
	while (i < a->nb || k < b->nb) {
		const struct policy_span *s;

		if (k == b->nb || (i < a->nb && a->at[i].low <= b->at[k].low))
			s = &a->at[i++];
		else
			s = &b->at[k++];
		if (policy_traffic_append(out, s->low, s->high) < 0)
			return -ENOMEM;
	}
	return 0;
}

int
policy_traffic_equal(const struct policy_traffic *a, const struct policy_traffic *b)
{
	return a->nb == b->nb &&
	    (a->nb == 0 || memcmp(a->at, b->at, a->nb * sizeof(a->at[0])) == 0);
}

int
policy_traffic_has(const struct policy_traffic *t, uint8_t proto, uint16_t selector)
{
	uint32_t at = PROTO_LOW(proto) | selector;
	size_t low = 0, high = t->nb;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->at[mid].high < at)
			low = mid + 1;
		else
			high = mid;
	}
	return low < t->nb && t->at[low].low <= at;
}

/* ---- as text ------------------------------------------------------------------------------------- */

struct pk_service
policy_traffic_service(const struct policy_span *s)
{
	return (struct pk_service){
		.proto = (uint8_t)(s->low >> 16), .low = (uint16_t)s->low, .high = (uint16_t)s->high
	};
}

/* The part of span `s` within one protocol.  Returns 0 if there is none. */
static int
within(const struct policy_span *s, uint8_t proto, struct policy_span *out)
{
	out->low = PK_MAX(s->low, PROTO_LOW(proto));
	out->high = PK_MIN(s->high, PROTO_HIGH(proto));
	return out->low <= out->high;
}

static int
holds_all(const struct policy_traffic *t, uint8_t proto, uint16_t from)
{
	struct policy_span part;

	for (size_t i = 0; i < t->nb; i++)
		if (within(&t->at[i], proto, &part) && part.low <= (PROTO_LOW(proto) | from) &&
		    part.high == PROTO_HIGH(proto))
			return 1;
	return 0;
}

char *
policy_traffic_text(const struct policy_traffic *t)
{
	static const struct {
		const char *name;
		uint8_t proto;
	} protos[] = { { "SCTP", IPPROTO_SCTP }, { "TCP", IPPROTO_TCP }, { "UDP", IPPROTO_UDP } };
	struct policy_span part;
	const char *comma = "";
	char *text = NULL;
	size_t len = 0;
	FILE *f;
	int all = 1;

	/* Nothing listens on port 0, so it is not missed. */
	for (size_t p = 0; p < PK_COUNT(protos); p++)
		all &= holds_all(t, protos[p].proto, 1);
	if (all)
		return strdup("All Connections");
	if ((f = open_memstream(&text, &len)) == NULL)
		return NULL;
	for (size_t p = 0; p < PK_COUNT(protos); p++) {
		const char *space = protos[p].name;

		for (size_t i = 0; i < t->nb; i++) {
			uint32_t low, high;

			if (!within(&t->at[i], protos[p].proto, &part))
				continue;
			low = part.low & 0xffff;
			high = part.high & 0xffff;
			low += low == 0 && high > 0;
			fprintf(f, "%s%s%s%u", comma, space, *space != '\0' ? " " : "", low);
			if (high != low)
				fprintf(f, "-%u", high);
			comma = ",";
			space = "";
		}
	}
	if (*comma == '\0')
		fputs("No Connections", f);
	return fclose(f) == 0 ? text : NULL;
}

static int
is_port_proto(unsigned int p)
{
	return p == IPPROTO_TCP || p == IPPROTO_UDP || p == IPPROTO_SCTP;
}

/* A protocol of which packets of these families can be, but for those with ports. */
static int
is_other(unsigned int p, unsigned int families)
{
	return !is_port_proto(p) && !(p == IPPROTO_ICMP && !(families & 1)) &&
	    !(p == IPPROTO_ICMPV6 && !(families & 2));
}

/* "icmpv4/8", "icmpv4/0-7", "icmpv4/3/4", "proto/47" for what the set has of the protocol. */
static void
print_other(FILE *f, const struct policy_traffic *t, uint8_t proto, const char **space)
{
	const struct pk_service whole = { .proto = proto, .high = 65535 };
	struct policy_span part;
	char name[32];

	policy_service_text(name, sizeof(name), &whole);
	for (size_t i = 0; i < t->nb; i++) {
		unsigned int low, high;

		if (!within(&t->at[i], proto, &part))
			continue;
		low = part.low & 0xffff;
		high = part.high & 0xffff;
		fprintf(f, "%s%s", *space, name);
		*space = " ";
		if (low == 0 && high == 65535)
			continue;
		if ((low & 255) != 0 || (high & 255) != 255)
			fprintf(f, low == high ? "/%u/%u" : "/%u/%u-%u/%u", low >> 8, low & 255,
			    high >> 8, high & 255);
		else
			fprintf(f, low >> 8 == high >> 8 ? "/%u" : "/%u-%u", low >> 8, high >> 8);
	}
}

char *
policy_traffic_others(const struct policy_traffic *t, unsigned int families)
{
	static struct policy_span line = { 0, POLICY_LINE_LAST };
	const struct policy_traffic all = { .at = &line, .nb = 1 }, *listed = t;
	unsigned int held = 0, nb = 0;
	struct policy_traffic rest = { 0 };
	char *text = NULL;
	const char *space = "";
	size_t len = 0;
	FILE *f;

	/* Say what there is, or what there is not, whichever is shorter. */
	for (unsigned int p = 0; p < PK_PROTO_ANY; p++) {
		held += is_other(p, families) && holds_all(t, (uint8_t)p, 0);
		nb += is_other(p, families);
	}
	if (policy_traffic_minus(&rest, &all, t) < 0 || (f = open_memstream(&text, &len)) == NULL) {
		policy_traffic_fini(&rest);
		return NULL;
	}
	if (held == nb)
		fputs("all", f);
	if (held > nb / 2) {
		listed = &rest;
		space = "all but ";
	}
	for (unsigned int p = 0; p < PK_PROTO_ANY && held < nb; p++)
		if (is_other(p, families))
			print_other(f, listed, (uint8_t)p, &space);
	policy_traffic_fini(&rest);
	return fclose(f) == 0 ? text : NULL;
}

/* ---- pairs of numbers ---------------------------------------------------------------------------- */

void
policy_pairs_fini(struct policy_pairs *m)
{
	free(m->keys);
	free(m->values);
	*m = (struct policy_pairs){ 0 };
}

static size_t
pairs_slot(const struct policy_pairs *m, uint64_t key)
{
	/* Keys are numbers we gave out, so nobody can choose them to collide. */
	size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (m->nb_slots - 1);

	while (m->values[i] != UINT32_MAX && m->keys[i] != key)
		i = (i + 1) & (m->nb_slots - 1);
	return i;
}

uint32_t
policy_pairs_get(const struct policy_pairs *m, uint32_t a, uint32_t b)
{
	return m->nb_slots == 0 ? UINT32_MAX : m->values[pairs_slot(m, (uint64_t)a << 32 | b)];
}

static int
pairs_grow(struct policy_pairs *m)
{
	struct policy_pairs new = { .nb_slots = m->nb_slots > 0 ? 2 * m->nb_slots : 1024 };

	new.keys = malloc(new.nb_slots * sizeof(new.keys[0]));
	new.values = malloc(new.nb_slots * sizeof(new.values[0]));
	if (new.keys == NULL || new.values == NULL) {
		policy_pairs_fini(&new);
		return -ENOMEM;
	}
	memset(new.values, 0xff, new.nb_slots * sizeof(new.values[0]));
	for (size_t i = 0; i < m->nb_slots; i++) {
		size_t slot;

		if (m->values[i] == UINT32_MAX)
			continue;
		slot = pairs_slot(&new, m->keys[i]);
		new.keys[slot] = m->keys[i];
		new.values[slot] = m->values[i];
	}
	new.nb_used = m->nb_used;
	policy_pairs_fini(m);
	*m = new;
	return 0;
}

int
policy_pairs_put(struct policy_pairs *m, uint32_t a, uint32_t b, uint32_t value)
{
	uint64_t key = (uint64_t)a << 32 | b;
	size_t i;

	if (2 * m->nb_used >= m->nb_slots && pairs_grow(m) < 0)
		return -ENOMEM;
	i = pairs_slot(m, key);
	m->nb_used += m->values[i] == UINT32_MAX;
	m->keys[i] = key;
	m->values[i] = value;
	return 0;
}

/* ---- the pool ------------------------------------------------------------------------------------ */

struct policy_pool {
	struct policy_arena arena;
	struct policy_map index;
	POLICY_VECTOR(struct policy_traffic) sets;
	struct policy_pairs ands, ors, differences, families;
	struct policy_traffic scratch, icmp[2]; /* what a family cannot speak */
};

struct policy_pool *
policy_pool_create(void)
{
	struct policy_pool *p = calloc(1, sizeof(*p));
	static const struct policy_traffic nothing;

	if (p == NULL)
		return NULL;
	if (policy_pool_put(p, &nothing) != POLICY_POOL_EMPTY ||
	    policy_traffic_append(
	        &p->icmp[0], PROTO_LOW(IPPROTO_ICMPV6), PROTO_HIGH(IPPROTO_ICMPV6)) < 0 ||
	    policy_traffic_append(&p->icmp[1], PROTO_LOW(IPPROTO_ICMP), PROTO_HIGH(IPPROTO_ICMP)) <
	        0) {
		policy_pool_destroy(p);
		return NULL;
	}
	return p;
}

void
policy_pool_destroy(struct policy_pool *p)
{
	if (p == NULL)
		return;
	policy_traffic_fini(&p->scratch);
	policy_traffic_fini(&p->icmp[0]);
	policy_traffic_fini(&p->icmp[1]);
	policy_pairs_fini(&p->ands);
	policy_pairs_fini(&p->ors);
	policy_pairs_fini(&p->differences);
	policy_pairs_fini(&p->families);
	policy_map_fini(&p->index);
	free(p->sets.at);
	policy_arena_fini(&p->arena);
	free(p);
}

uint32_t
policy_pool_put(struct policy_pool *p, const struct policy_traffic *t)
{
	static const struct policy_span none;
	size_t len = t->nb * sizeof(t->at[0]);
	uint32_t id = policy_map_get(&p->index, t->nb > 0 ? t->at : &none, len);
	struct policy_traffic *new;

	if (id != POLICY_MAP_NONE)
		return id;
	id = (uint32_t)p->sets.nb;
	if ((new = POLICY_PUSH(&p->sets)) == NULL)
		return POLICY_POOL_NONE;
	*new = (struct policy_traffic){ .nb = t->nb };
	new->at = policy_arena_copy(&p->arena, t->nb > 0 ? t->at : &none, len);
	if (new->at == NULL || policy_map_put(&p->index, new->at, len, id) < 0) {
		p->sets.nb--;
		return POLICY_POOL_NONE;
	}
	return id;
}

const struct policy_traffic *
policy_pool_get(const struct policy_pool *p, uint32_t id)
{
	PK_ASSERT(id < p->sets.nb);
	return &p->sets.at[id];
}

typedef int operation(
    struct policy_traffic *out, const struct policy_traffic *a, const struct policy_traffic *b);

static uint32_t
remembered(struct policy_pool *p, struct policy_pairs *memo, operation *op, uint32_t a, uint32_t b)
{
	uint32_t id;

	if (a == POLICY_POOL_NONE || b == POLICY_POOL_NONE)
		return POLICY_POOL_NONE;
	id = policy_pairs_get(memo, a, b);
	if (id != UINT32_MAX)
		return id;
	if (op(&p->scratch, &p->sets.at[a], &p->sets.at[b]) < 0)
		return POLICY_POOL_NONE;
	id = policy_pool_put(p, &p->scratch);
	if (id != POLICY_POOL_NONE && policy_pairs_put(memo, a, b, id) < 0)
		return POLICY_POOL_NONE;
	return id;
}

uint32_t
policy_pool_and(struct policy_pool *p, uint32_t a, uint32_t b)
{
	if (a == b)
		return a;
	return remembered(p, &p->ands, policy_traffic_and, PK_MIN(a, b), PK_MAX(a, b));
}

uint32_t
policy_pool_or(struct policy_pool *p, uint32_t a, uint32_t b)
{
	if (a == b)
		return a;
	return remembered(p, &p->ors, policy_traffic_or, PK_MIN(a, b), PK_MAX(a, b));
}

uint32_t
policy_pool_minus(struct policy_pool *p, uint32_t a, uint32_t b)
{
	return remembered(p, &p->differences, policy_traffic_minus, a, b);
}

uint32_t
policy_pool_family(struct policy_pool *p, uint32_t a, unsigned int family)
{
	uint32_t id;

	if (a == POLICY_POOL_NONE || a == POLICY_POOL_EMPTY)
		return a;
	id = policy_pairs_get(&p->families, a, family);
	if (id != UINT32_MAX)
		return id;
	if (policy_traffic_minus(&p->scratch, &p->sets.at[a], &p->icmp[family == 6]) < 0)
		return POLICY_POOL_NONE;
	id = policy_pool_put(p, &p->scratch);
	if (id != POLICY_POOL_NONE && policy_pairs_put(&p->families, a, family, id) < 0)
		return POLICY_POOL_NONE;
	return id;
}
