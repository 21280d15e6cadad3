#include "policy/resource.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "lib/name.h"
#include "policy/proto/picket.pb-c.h"

#define RULES_MAX    65536 /* in one program */
#define MATCHES_MAX  65536 /* peers or services of one rule */
#define PREFIX_BYTES 16

const char *
policy_resource_type_name(unsigned int type)
{
	static const char *const names[POLICY_RESOURCE_TYPE_COUNT] = { "none", "identity",
		"endpoint", "set", "program" };

	return type < POLICY_RESOURCE_TYPE_COUNT ? names[type] : "unknown";
}

static void
put_be32(uint8_t *out, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(out, &v, sizeof(v));
}

static void
put_be64(uint8_t *out, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(out, &v, sizeof(v));
}

static size_t
addr_len(const struct pk_addr *a)
{
	return a->family == 4 ? 4 : 16;
}

static uint64_t
version_of(const struct policy_resource *r)
{
	uint8_t head[2 + POLICY_KEY_MAX] = { r->type, r->key_len }, digest[SHA256_DIGEST_LENGTH];
	uint64_t v;
	SHA256_CTX ctx;

	memcpy(head + 2, r->key, r->key_len);
/* The one-shot EVP interface costs more than hashing an endpoint does. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	SHA256_Init(&ctx);
	SHA256_Update(&ctx, head, 2U + r->key_len);
	SHA256_Update(&ctx, r->body, r->len);
	SHA256_Final(digest, &ctx);
#pragma GCC diagnostic pop
	memcpy(&v, digest, sizeof(v));
	return __builtin_bswap64(v);
}

static struct policy_resource *
alloc(unsigned int type, const uint8_t *key, size_t key_len, size_t len)
{
	struct policy_resource *r = calloc(1, sizeof(*r) + len);

	if (r == NULL)
		return NULL;
	atomic_init(&r->refs, 1);
	r->type = (uint8_t)type;
	r->key_len = (uint8_t)key_len;
	memcpy(r->key, key, key_len);
	r->len = (uint32_t)len;
	return r;
}

static struct policy_resource *
pack(unsigned int type, const uint8_t *key, size_t key_len, const ProtobufCMessage *m)
{
	struct policy_resource *r =
	    alloc(type, key, key_len, protobuf_c_message_get_packed_size(m));

	if (r == NULL)
		return NULL;
	protobuf_c_message_pack(m, r->body);
	r->version = version_of(r);
	return r;
}

struct policy_resource *
policy_resource_get(struct policy_resource *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void
policy_resource_put(struct policy_resource *r)
{
	if (r != NULL && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1)
		free(r);
}

/* ---- from the compiled form ---- */

static char *
text(const char *s)
{
	return s != NULL ? (char *)(uintptr_t)s : (char *)(uintptr_t) "";
}

struct policy_resource *
policy_resource_of_identity(const struct policy_identity *o, int subject)
{
	Picket__V1__Identity m = PICKET__V1__IDENTITY__INIT;
	uint8_t key[4];

	m.id = o->id;
	m.tenant = o->tenant;
	m.tenant_name = text(o->tenant_name);
	m.labels = text(o->labels);
	if (subject) {
		m.egress = o->program[PK_EGRESS];
		m.ingress = o->program[PK_INGRESS];
	}
	put_be32(key, o->id);
	return pack(POLICY_RESOURCE_IDENTITY, key, sizeof(key), &m.base);
}

struct policy_resource *
policy_resource_of_endpoint(const struct policy_endpoint *o)
{
	Picket__V1__Endpoint m = PICKET__V1__ENDPOINT__INIT;
	uint8_t key[POLICY_KEY_MAX];
	size_t n = addr_len(&o->addr);

	m.name = text(o->name);
	m.dpu = text(o->dpu);
	m.vrf = o->vrf;
	m.identity = o->identity;
	m.attested = o->attested != o->identity ? o->attested : 0;
	m.unattested = o->unattested != o->identity ? o->unattested : 0;
	m.wire = o->wire;
	if (o->has_mac) {
		m.mac.data = (uint8_t *)(uintptr_t)o->mac;
		m.mac.len = sizeof(o->mac);
	}
	m.address.data = (uint8_t *)(uintptr_t)o->addr.bytes;
	m.address.len = n;
	put_be32(key, o->vrf);
	memcpy(key + 4, o->addr.bytes, n);
	return pack(POLICY_RESOURCE_ENDPOINT, key, 4 + n, &m.base);
}

/* Prefixes as messages, in two arrays of one allocation.  *out is NULL for none. */
static int
pack_prefixes(const struct pk_prefix *p, size_t n, Picket__V1__Prefix ***out)
{
	Picket__V1__Prefix **list, *m;

	*out = NULL;
	if (n == 0)
		return 0;
	list = malloc(n * (sizeof(list[0]) + sizeof(*m)));
	if (list == NULL)
		return -ENOMEM;
	m = (Picket__V1__Prefix *)(list + n);
	for (size_t i = 0; i < n; i++) {
		picket__v1__prefix__init(&m[i]);
		m[i].address.data = (uint8_t *)(uintptr_t)p[i].addr.bytes;
		m[i].address.len = addr_len(&p[i].addr);
		m[i].length = p[i].len;
		list[i] = &m[i];
	}
	*out = list;
	return 0;
}

struct policy_resource *
policy_resource_of_set(const struct policy_set *o)
{
	Picket__V1__Set m = PICKET__V1__SET__INIT;
	struct policy_resource *r;
	uint8_t key[8];

	m.id = o->id;
	m.kind = o->kind;
	m.name = text(o->name);
	if (o->kind == PK_SET_IDENTITY) {
		m.identities = (uint32_t *)(uintptr_t)o->identities;
		m.n_identities = o->nb_members;
	} else {
		if (pack_prefixes(o->prefixes, o->nb_members, &m.prefixes) != 0)
			return NULL;
		m.n_prefixes = o->nb_members;
	}
	put_be64(key, o->id);
	r = pack(POLICY_RESOURCE_SET, key, sizeof(key), &m.base);
	free(m.prefixes);
	return r;
}

/* A schedule as a message, with its changes. */
struct packed_schedule {
	Picket__V1__Schedule schedule;
	Picket__V1__ZoneChange to_summer, to_standard;
};

static void
pack_change(Picket__V1__ZoneChange *to, const struct pk_zone_change *from)
{
	picket__v1__zone_change__init(to);
	to->month = from->month;
	to->week = from->week;
	to->day = from->day;
	to->at_min = from->at_min;
}

static Picket__V1__Schedule *
pack_schedule(struct packed_schedule *to, const struct pk_schedule *from)
{
	Picket__V1__Schedule *m = &to->schedule;

	if (from->days == 0)
		return NULL;
	picket__v1__schedule__init(m);
	m->days = from->days;
	m->start_min = from->start_min;
	m->end_min = from->end_min;
	m->from_day = from->from_day;
	m->until_day = from->until_day;
	m->standard_min = from->zone.standard_min;
	m->summer_min = from->zone.summer_min;
	if (from->zone.to_summer.month != 0) {
		pack_change(&to->to_summer, &from->zone.to_summer);
		pack_change(&to->to_standard, &from->zone.to_standard);
		m->to_summer = &to->to_summer;
		m->to_standard = &to->to_standard;
	}
	return m;
}

struct policy_resource *
policy_resource_of_program(const struct policy_program *o)
{
	Picket__V1__Program m = PICKET__V1__PROGRAM__INIT;
	Picket__V1__Rule *rules = NULL;
	struct packed_schedule *schedules = NULL;
	Picket__V1__Service *services = NULL, **service_list = NULL;
	struct policy_resource *r = NULL;
	size_t nb_services = 0, used = 0;
	uint8_t key[8];

	for (uint32_t i = 0; i < o->nb_rules; i++)
		nb_services += o->rules[i].nb_services;
	m.id = o->id;
	m.direction = o->direction;
	m.n_rules = o->nb_rules;
	m.rules = calloc(o->nb_rules + 1U, sizeof(m.rules[0]));
	rules = calloc(o->nb_rules + 1U, sizeof(rules[0]));
	schedules = calloc(o->nb_rules + 1U, sizeof(schedules[0]));
	services = calloc(nb_services + 1, sizeof(services[0]));
	service_list = calloc(nb_services + 1, sizeof(service_list[0]));
	if (m.rules == NULL || rules == NULL || schedules == NULL || services == NULL ||
	    service_list == NULL)
		goto out;
	for (uint32_t i = 0; i < o->nb_rules; i++) {
		const struct policy_rule *from = &o->rules[i];
		Picket__V1__Rule *to = m.rules[i] = &rules[i];

		picket__v1__rule__init(to);
		to->id = from->id;
		to->verdict = from->verdict;
		to->log = from->log;
		to->flags = from->flags;
		to->tier = from->tier;
		to->any_peer = from->any_peer;
		to->any_service = from->any_service;
		to->n_peers = from->nb_peers;
		to->peers = (uint64_t *)(uintptr_t)from->peers;
		to->n_services = from->nb_services;
		to->services = service_list + used;
		to->n_apps = from->nb_apps;
		to->apps = (uint32_t *)(uintptr_t)from->apps;
		to->encryption = from->terms.encryption;
		to->inspect = from->terms.inspect;
		to->fail_open = from->terms.fail_open;
		to->dscp = from->terms.dscp;
		to->schedule = pack_schedule(&schedules[i], &from->schedule);
		to->sessions_per_s = from->terms.sessions_per_s;
		to->bytes_per_s = from->terms.bytes_per_s;
		to->packets_per_s = from->terms.packets_per_s;
		to->policy = text(from->policy);
		to->name = text(from->name);
		to->file = text(from->file);
		to->line = from->line;
		for (uint32_t k = 0; k < from->nb_services; k++, used++) {
			picket__v1__service__init(&services[used]);
			services[used].proto = from->services[k].proto;
			services[used].low = from->services[k].low;
			services[used].high = from->services[k].high;
			service_list[used] = &services[used];
		}
	}
	put_be64(key, o->id);
	r = pack(POLICY_RESOURCE_PROGRAM, key, sizeof(key), &m.base);
out:
	free(service_list);
	free(services);
	free(schedules);
	free(rules);
	free(m.rules);
	return r;
}

/* ---- back to the compiled form: nothing of a body is believed before it is here ---- */

/* What a body decodes to.  Strings and arrays belong to `message` or are freed by decoded_fini(). */
struct decoded {
	ProtobufCMessage *message;
	union {
		struct policy_identity identity;
		struct policy_endpoint endpoint;
		struct policy_set set;
		struct policy_program program;
	};
	struct policy_rule *rules;
	struct pk_service *services;
	struct pk_prefix *prefixes;
};

static void
decoded_fini(struct decoded *d)
{
	if (d->message != NULL)
		protobuf_c_message_free_unpacked(d->message, NULL);
	free(d->rules);
	free(d->services);
	free(d->prefixes);
}

static int
read_addr(struct pk_addr *out, const ProtobufCBinaryData *b)
{
	memset(out, 0, sizeof(*out));
	if (b->len != 4 && b->len != 16)
		return -EINVAL;
	out->family = b->len == 4 ? 4 : 6;
	memcpy(out->bytes, b->data, b->len);
	return 0;
}

static int
read_prefix(struct pk_prefix *out, const Picket__V1__Prefix *p)
{
	memset(out, 0, sizeof(*out));
	if (read_addr(&out->addr, &p->address) != 0 || p->length > pk_addr_bits(&out->addr))
		return -EINVAL;
	out->len = (uint8_t)p->length;
	return pk_prefix_contains(out, &out->addr) ? 0 : -EINVAL;
}

static int
prefix_compare(const struct pk_prefix *a, const struct pk_prefix *b)
{
	int c = pk_addr_compare(&a->addr, &b->addr);

	return c != 0 ? c : (int)a->len - (int)b->len;
}

/* Each of these returns NULL or what would have been right. */

static const char *
decode_identity(struct decoded *d, const Picket__V1__Identity *m)
{
	if (m->id == PK_IDENTITY_NONE)
		return "an identity other than 0";
	if (strlen(m->tenant_name) >= PK_NAME_MAX)
		return "a shorter name of the tenant";
	d->identity.id = m->id;
	d->identity.tenant = m->tenant;
	d->identity.tenant_name = m->tenant_name;
	d->identity.labels = m->labels;
	d->identity.program[PK_EGRESS] = m->egress;
	d->identity.program[PK_INGRESS] = m->ingress;
	return NULL;
}

static const char *
decode_endpoint(struct decoded *d, const Picket__V1__Endpoint *m)
{
	struct policy_endpoint *o = &d->endpoint;

	if (read_addr(&o->addr, &m->address) != 0)
		return "an address of 4 or 16 bytes";
	if (m->mac.len != 0 && m->mac.len != sizeof(o->mac))
		return "a MAC of 6 bytes or none";
	if (m->wire > UINT16_MAX)
		return "a wire below 65536";
	if (strlen(m->name) >= PK_NAME_MAX || strlen(m->dpu) >= PK_NAME_MAX)
		return "names below 128 bytes";
	o->name = m->name;
	o->dpu = m->dpu;
	o->vrf = m->vrf;
	o->identity = m->identity;
	o->attested = m->attested != 0 ? m->attested : m->identity;
	o->unattested = m->unattested != 0 ? m->unattested : m->identity;
	o->wire = (uint16_t)m->wire;
	o->has_mac = m->mac.len != 0;
	if (o->has_mac)
		memcpy(o->mac, m->mac.data, sizeof(o->mac));
	return NULL;
}

static const char *
decode_set(struct decoded *d, const Picket__V1__Set *m)
{
	struct policy_set *o = &d->set;

	if (m->id == 0)
		return "a set other than 0";
	if (strlen(m->name) >= PK_NAME_MAX)
		return "a name below 128 bytes";
	o->id = m->id;
	o->name = m->name;
	o->kind = (enum pk_set_kind)m->kind;
	if (m->kind == PK_SET_IDENTITY) {
		if (m->n_prefixes != 0)
			return "identities only in a set of identities";
		for (size_t i = 0; i < m->n_identities; i++)
			if (m->identities[i] <= (i != 0 ? m->identities[i - 1] : 0))
				return "identities in ascending order";
		o->identities = m->identities;
		o->nb_members = (uint32_t)m->n_identities;
		return NULL;
	}
	if (m->kind == PK_SET_NAME) {
		if (m->n_identities != 0 || m->n_prefixes != 0)
			return "no members in a set of kind name";
		return pk_name_is_pattern(m->name) ? NULL : "a pattern of DNS names";
	}
	if (m->kind != PK_SET_PREFIX || m->n_identities != 0)
		return "set kind identity, prefix or name, with members of that kind";
	d->prefixes = calloc(m->n_prefixes + 1, sizeof(d->prefixes[0]));
	if (d->prefixes == NULL)
		return "memory";
	for (size_t i = 0; i < m->n_prefixes; i++) {
		if (read_prefix(&d->prefixes[i], m->prefixes[i]) != 0)
			return "a prefix without bits beyond its length";
		if (i > 0 && prefix_compare(&d->prefixes[i - 1], &d->prefixes[i]) >= 0)
			return "prefixes in ascending order";
	}
	o->prefixes = d->prefixes;
	o->nb_members = (uint32_t)m->n_prefixes;
	return NULL;
}

static const char *
decode_terms(struct pk_rule_terms *to, const Picket__V1__Rule *from)
{
	if (from->encryption > UINT8_MAX)
		return "a known encryption";
	if (from->inspect > UINT8_MAX)
		return "a known way of inspection";
	to->encryption = (uint8_t)from->encryption;
	to->inspect = (uint8_t)from->inspect;
	to->fail_open = from->fail_open != 0;
	if (from->dscp > UINT8_MAX)
		return "a codepoint below 64";
	to->dscp = (uint8_t)from->dscp;
	to->sessions_per_s = from->sessions_per_s;
	to->bytes_per_s = from->bytes_per_s;
	to->packets_per_s = from->packets_per_s;
	return pk_rule_terms_check(to, from->verdict);
}

static void
decode_change(struct pk_zone_change *to, const Picket__V1__ZoneChange *from)
{
	/* What does not fit becomes what pk_schedule_check() does not take. */
	if (from != NULL)
		*to = (struct pk_zone_change){ .month = (uint8_t)PK_MIN(from->month, UINT8_MAX),
			.week = (uint8_t)PK_MIN(from->week, UINT8_MAX),
			.day = (uint8_t)PK_MIN(from->day, UINT8_MAX),
			.at_min = (int16_t)PK_MAX(PK_MIN(from->at_min, INT16_MAX), INT16_MIN) };
}

static const char *
decode_schedule(struct pk_schedule *to, const Picket__V1__Schedule *from)
{
	if (from == NULL)
		return NULL;
	if (from->days == 0)
		return "days in a schedule";
	*to = (struct pk_schedule){ .days = (uint8_t)PK_MIN(from->days, UINT8_MAX),
		.start_min = (uint16_t)PK_MIN(from->start_min, UINT16_MAX),
		.end_min = (uint16_t)PK_MIN(from->end_min, UINT16_MAX),
		.from_day = from->from_day,
		.until_day = from->until_day,
		.zone = { .standard_min =
		              (int16_t)PK_MAX(PK_MIN(from->standard_min, INT16_MAX), INT16_MIN),
		    .summer_min =
		        (int16_t)PK_MAX(PK_MIN(from->summer_min, INT16_MAX), INT16_MIN) } };
	decode_change(&to->zone.to_summer, from->to_summer);
	decode_change(&to->zone.to_standard, from->to_standard);
	return pk_schedule_check(to);
}

static const char *
decode_rule(struct policy_rule *to, struct pk_service *services, const Picket__V1__Rule *from)
{
	const char *want;

	if (from->verdict >= PK_VERDICT_COUNT || from->log >= PK_RULE_LOG_COUNT)
		return "a known verdict and log mode";
	if ((from->flags & ~(uint32_t)PK_RULE_FLAGS_ALL) != 0)
		return "known rule flags";
	if (from->tier > UINT8_MAX)
		return "a tier below 256";
	if (from->n_peers > MATCHES_MAX || from->n_services > MATCHES_MAX)
		return "at most 65536 peers and services in a rule";
	if ((from->any_peer && from->n_peers != 0) || (from->any_service && from->n_services != 0))
		return "either a list or `any`";
	for (size_t i = 0; i < from->n_peers; i++)
		if (from->peers[i] == 0)
			return "peer sets other than 0";
	if (from->n_apps > PK_MSG_APPS || (from->n_apps != 0 && from->verdict != PK_VERDICT_ALLOW))
		return "at most 16 applications, in a rule that allows";
	for (size_t i = 0; i < from->n_apps; i++)
		if (from->apps[i] == 0 || (i > 0 && from->apps[i] <= from->apps[i - 1]))
			return "applications in ascending order";
	if ((want = decode_terms(&to->terms, from)) != NULL ||
	    (want = decode_schedule(&to->schedule, from->schedule)) != NULL)
		return want;
	for (size_t i = 0; i < from->n_services; i++) {
		const Picket__V1__Service *s = from->services[i];

		if (s->proto > UINT8_MAX || s->low > s->high || s->high > UINT16_MAX)
			return "a protocol and a port range that does not run backwards";
		services[i].proto = (uint8_t)s->proto;
		services[i].zero = 0;
		services[i].low = (uint16_t)s->low;
		services[i].high = (uint16_t)s->high;
	}
	to->id = from->id;
	to->verdict = (enum pk_verdict)from->verdict;
	to->log = (enum pk_log_mode)from->log;
	to->flags = (uint8_t)from->flags;
	to->tier = (uint8_t)from->tier;
	to->any_peer = from->any_peer != 0;
	to->any_service = from->any_service != 0;
	to->nb_peers = (uint32_t)from->n_peers;
	to->nb_services = (uint32_t)from->n_services;
	to->peers = from->peers;
	to->services = services;
	to->nb_apps = (uint32_t)from->n_apps;
	to->apps = from->apps;
	to->policy = from->policy;
	to->name = from->name;
	to->file = from->file;
	to->line = from->line;
	return NULL;
}

static const char *
decode_program(struct decoded *d, const Picket__V1__Program *m)
{
	size_t nb_services = 0, used = 0;
	const char *want;

	if (m->id == 0)
		return "a program other than 0";
	if (m->direction >= PK_DIRECTION_COUNT)
		return "direction egress or ingress";
	if (m->n_rules > RULES_MAX)
		return "at most 65536 rules in a program";
	for (size_t i = 0; i < m->n_rules; i++)
		nb_services += m->rules[i]->n_services;
	d->rules = calloc(m->n_rules + 1, sizeof(d->rules[0]));
	d->services = calloc(nb_services + 1, sizeof(d->services[0]));
	if (d->rules == NULL || d->services == NULL)
		return "memory";
	for (size_t i = 0; i < m->n_rules; i++) {
		want = decode_rule(&d->rules[i], d->services + used, m->rules[i]);
		if (want != NULL)
			return want;
		if (i > 0 && d->rules[i].tier < d->rules[i - 1].tier)
			return "tiers that never fall from one rule to the next";
		used += m->rules[i]->n_services;
	}
	d->program.id = m->id;
	d->program.direction = (enum pk_direction)m->direction;
	d->program.nb_rules = (uint32_t)m->n_rules;
	d->program.rules = d->rules;
	return NULL;
}

static int
decode(struct decoded *d, const struct policy_resource *r, struct pk_diag *diag)
{
	static const ProtobufCMessageDescriptor *const types[POLICY_RESOURCE_TYPE_COUNT] = {
		[POLICY_RESOURCE_IDENTITY] = &picket__v1__identity__descriptor,
		[POLICY_RESOURCE_ENDPOINT] = &picket__v1__endpoint__descriptor,
		[POLICY_RESOURCE_SET] = &picket__v1__set__descriptor,
		[POLICY_RESOURCE_PROGRAM] = &picket__v1__program__descriptor,
	};
	const char *want = NULL;
	uint8_t key[POLICY_KEY_MAX];
	size_t key_len = 0;

	memset(d, 0, sizeof(*d));
	if (r->type == POLICY_RESOURCE_NONE || r->type >= POLICY_RESOURCE_TYPE_COUNT) {
		pk_diag_set(
		    diag, "resource of type %u: want identity, endpoint, set or program", r->type);
		return -EINVAL;
	}
	d->message = protobuf_c_message_unpack(types[r->type], NULL, r->len, r->body);
	if (d->message == NULL) {
		want = "a body that can be decoded";
		goto bad;
	}
	switch (r->type) {
	case POLICY_RESOURCE_IDENTITY:
		want = decode_identity(d, (const Picket__V1__Identity *)d->message);
		put_be32(key, d->identity.id);
		key_len = 4;
		break;
	case POLICY_RESOURCE_ENDPOINT:
		want = decode_endpoint(d, (const Picket__V1__Endpoint *)d->message);
		put_be32(key, d->endpoint.vrf);
		memcpy(key + 4, d->endpoint.addr.bytes, sizeof(d->endpoint.addr.bytes));
		key_len = 4 + addr_len(&d->endpoint.addr);
		break;
	case POLICY_RESOURCE_SET:
		want = decode_set(d, (const Picket__V1__Set *)d->message);
		put_be64(key, d->set.id);
		key_len = 8;
		break;
	case POLICY_RESOURCE_PROGRAM:
		want = decode_program(d, (const Picket__V1__Program *)d->message);
		put_be64(key, d->program.id);
		key_len = 8;
		break;
	}
	if (want == NULL && (key_len != r->key_len || memcmp(key, r->key, key_len) != 0))
		want = "the key of its body";
	if (want == NULL)
		return 0;
bad:
	decoded_fini(d);
	pk_diag_set(diag, "%s: want %s", policy_resource_type_name(r->type), want);
	return -EINVAL;
}

int
policy_resource_create(struct policy_resource **out, unsigned int type, const uint8_t *key,
    size_t key_len, const uint8_t *body, size_t len, struct pk_diag *diag)
{
	struct policy_resource *r;
	struct decoded d;
	int err;

	if (key_len > POLICY_KEY_MAX || len > POLICY_RESOURCE_MAX) {
		pk_diag_set(diag, "%s: want a key of at most %d and a body of at most %d bytes",
		    policy_resource_type_name(type), POLICY_KEY_MAX, POLICY_RESOURCE_MAX);
		return -EINVAL;
	}
	r = alloc(
	    type < POLICY_RESOURCE_TYPE_COUNT ? type : POLICY_RESOURCE_NONE, key, key_len, len);
	if (r == NULL)
		return -ENOMEM;
	memcpy(r->body, body, len);
	err = decode(&d, r, diag);
	if (err != 0) {
		free(r);
		return err;
	}
	decoded_fini(&d);
	r->version = version_of(r);
	*out = r;
	return 0;
}

/* ---- sets: what differs ---- */

struct set_diff {
	uint32_t *added_ids, *removed_ids;
	struct pk_prefix *added, *removed;
	size_t nb_added, nb_removed;
};

static void
set_diff_fini(struct set_diff *d)
{
	free(d->added_ids);
	free(d->removed_ids);
	free(d->added);
	free(d->removed);
}

/* Both are sorted: one pass.  `old` and `now` are of one kind. */
static int
set_diff_init(struct set_diff *d, const struct policy_set *old, const struct policy_set *now)
{
	uint32_t i = 0, j = 0;

	memset(d, 0, sizeof(*d));
	d->added_ids = calloc(now->nb_members + 1U, sizeof(d->added_ids[0]));
	d->removed_ids = calloc(old->nb_members + 1U, sizeof(d->removed_ids[0]));
	d->added = calloc(now->nb_members + 1U, sizeof(d->added[0]));
	d->removed = calloc(old->nb_members + 1U, sizeof(d->removed[0]));
	if (d->added_ids == NULL || d->removed_ids == NULL || d->added == NULL ||
	    d->removed == NULL) {
		set_diff_fini(d);
		return -ENOMEM;
	}
	while (i < old->nb_members || j < now->nb_members) {
		int c;

		if (i == old->nb_members)
			c = 1;
		else if (j == now->nb_members)
			c = -1;
		else if (now->kind == PK_SET_IDENTITY)
			c = old->identities[i] < now->identities[j]
			    ? -1
			    : old->identities[i] > now->identities[j];
		else
			c = prefix_compare(&old->prefixes[i], &now->prefixes[j]);
		if (c < 0 && now->kind == PK_SET_IDENTITY)
			d->removed_ids[d->nb_removed++] = old->identities[i];
		else if (c < 0)
			d->removed[d->nb_removed++] = old->prefixes[i];
		else if (c > 0 && now->kind == PK_SET_IDENTITY)
			d->added_ids[d->nb_added++] = now->identities[j];
		else if (c > 0)
			d->added[d->nb_added++] = now->prefixes[j];
		i += c <= 0;
		j += c >= 0;
	}
	return 0;
}

int
policy_resource_diff(const struct policy_resource *old, const struct policy_resource *now,
    uint8_t **bytes, size_t *len)
{
	Picket__V1__SetDelta m = PICKET__V1__SET_DELTA__INIT;
	struct decoded a, b;
	struct set_diff diff;
	int err;

	if (now->type != POLICY_RESOURCE_SET || old->len == 0)
		return -ERANGE;
	if (decode(&a, old, NULL) != 0)
		return -ERANGE;
	if (decode(&b, now, NULL) != 0) {
		decoded_fini(&a);
		return -ERANGE;
	}
	err = -ERANGE;
	/* Only the members can be said as a difference. */
	if (a.set.kind != b.set.kind || strcmp(a.set.name, b.set.name) != 0)
		goto out;
	err = set_diff_init(&diff, &a.set, &b.set);
	if (err != 0)
		goto out;
	m.key.data = (uint8_t *)(uintptr_t)now->key;
	m.key.len = now->key_len;
	m.base_version = old->version;
	m.version = now->version;
	if (now->len != 0 && b.set.kind == PK_SET_IDENTITY) {
		m.added = diff.added_ids;
		m.n_added = diff.nb_added;
		m.removed = diff.removed_ids;
		m.n_removed = diff.nb_removed;
	} else if (pack_prefixes(diff.added, diff.nb_added, &m.added_prefixes) == 0 &&
	    pack_prefixes(diff.removed, diff.nb_removed, &m.removed_prefixes) == 0) {
		m.n_added_prefixes = diff.nb_added;
		m.n_removed_prefixes = diff.nb_removed;
	} else {
		err = -ENOMEM;
	}
	*len = picket__v1__set_delta__get_packed_size(&m);
	if (err == 0 && *len >= now->len)
		err = -ERANGE;
	if (err == 0 && (*bytes = malloc(*len)) == NULL)
		err = -ENOMEM;
	if (err == 0)
		picket__v1__set_delta__pack(&m, *bytes);
	free(m.added_prefixes);
	free(m.removed_prefixes);
	set_diff_fini(&diff);
out:
	decoded_fini(&b);
	decoded_fini(&a);
	return err;
}

static int
id_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int
prefix_compare_void(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

/* (base minus removed) plus added, sorted, for members of `size` bytes.  Returns their number. */
static size_t
merge(void *out, const void *base, size_t nb_base, void *removed, size_t nb_removed,
    const void *added, size_t nb_added, size_t size, int (*compare)(const void *, const void *))
{
	size_t n = 0;

	qsort(removed, nb_removed, size, compare);
	for (size_t i = 0; i < nb_base; i++) {
		const char *m = (const char *)base + i * size;

		if (nb_removed == 0 || bsearch(m, removed, nb_removed, size, compare) == NULL)
			memcpy((char *)out + n++ * size, m, size);
	}
	memcpy((char *)out + n * size, added, nb_added * size);
	n += nb_added;
	qsort(out, n, size, compare);
	return n;
}

static struct pk_prefix *
read_prefixes(Picket__V1__Prefix **list, size_t n)
{
	struct pk_prefix *p = calloc(n + 1, sizeof(*p));

	for (size_t i = 0; p != NULL && i < n; i++) {
		if (read_prefix(&p[i], list[i]) != 0) {
			free(p);
			return NULL;
		}
	}
	return p;
}

int
policy_resource_patch(struct policy_resource **out, const struct policy_resource *base,
    const Picket__V1__SetDelta *delta, struct pk_diag *diag)
{
	struct pk_prefix *added = NULL, *removed = NULL, *prefixes = NULL;
	struct policy_resource *r = NULL, *checked;
	uint32_t *ids = NULL;
	struct policy_set set;
	struct decoded d;
	uint32_t none = 0;
	int err;

	if (base == NULL || base->type != POLICY_RESOURCE_SET ||
	    base->version != delta->base_version) {
		pk_diag_set(diag, "set: the change is based on a version that is not held");
		return -EINVAL;
	}
	err = decode(&d, base, diag);
	if (err != 0)
		return err;
	set = d.set;
	err = -ENOMEM;
	if (set.kind == PK_SET_IDENTITY) {
		ids = calloc(set.nb_members + delta->n_added + 1, sizeof(ids[0]));
		if (ids == NULL)
			goto out;
		set.nb_members = (uint32_t)merge(ids, set.identities, set.nb_members,
		    delta->n_removed != 0 ? delta->removed : &none, delta->n_removed,
		    delta->n_added != 0 ? delta->added : &none, delta->n_added, sizeof(ids[0]),
		    id_compare);
		set.identities = ids;
	} else {
		prefixes =
		    calloc(set.nb_members + delta->n_added_prefixes + 1, sizeof(prefixes[0]));
		added = read_prefixes(delta->added_prefixes, delta->n_added_prefixes);
		removed = read_prefixes(delta->removed_prefixes, delta->n_removed_prefixes);
		if (prefixes == NULL || added == NULL || removed == NULL)
			goto out;
		set.nb_members = (uint32_t)merge(prefixes, set.prefixes, set.nb_members, removed,
		    delta->n_removed_prefixes, added, delta->n_added_prefixes, sizeof(prefixes[0]),
		    prefix_compare_void);
		set.prefixes = prefixes;
	}
	r = policy_resource_of_set(&set);
	if (r == NULL)
		goto out;
	if (r->version != delta->version) {
		err = -EINVAL;
		pk_diag_set(diag, "set: the outcome of the change is not the version promised");
		goto out;
	}
	err = policy_resource_create(&checked, r->type, r->key, r->key_len, r->body, r->len, diag);
	if (err == 0)
		*out = checked;
out:
	policy_resource_put(r);
	free(ids);
	free(prefixes);
	free(added);
	free(removed);
	decoded_fini(&d);
	return err;
}

/* ---- for the data plane ---- */

static int
emit_members(const struct set_diff *diff, const struct policy_set *set, enum pk_op op,
    policy_sink *sink, void *arg)
{
	bool ids = set->kind == PK_SET_IDENTITY;
	size_t n = op == PK_OP_PUT ? diff->nb_added : diff->nb_removed;
	const uint32_t *id = op == PK_OP_PUT ? diff->added_ids : diff->removed_ids;
	const struct pk_prefix *prefix = op == PK_OP_PUT ? diff->added : diff->removed;
	struct pk_msg m;
	int err = 0;

	for (size_t i = 0, take; i < n && err == 0; i += take) {
		take = PK_MIN(n - i, (size_t)(ids ? PK_MSG_IDENTITIES : PK_MSG_PREFIXES));
		pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
		m.members.op = (uint8_t)op;
		m.members.kind = (uint8_t)set->kind;
		m.members.count = (uint16_t)take;
		m.members.set = set->id;
		if (ids)
			memcpy(m.members.identity, id + i, take * sizeof(id[0]));
		else
			memcpy(m.members.prefix, prefix + i, take * sizeof(prefix[0]));
		err = sink(arg, &m);
	}
	return err;
}

static int
emit_set_change(
    const struct policy_set *old, const struct policy_set *now, policy_sink *sink, void *arg)
{
	struct set_diff diff;
	struct policy_set renamed = *now;
	int err = set_diff_init(&diff, old, now);

	if (err != 0)
		return err;
	renamed.nb_members = 0;
	if (strcmp(old->name, now->name) != 0)
		err = policy_emit_set(&renamed, sink, arg);
	if (err == 0)
		err = emit_members(&diff, now, PK_OP_DELETE, sink, arg);
	if (err == 0)
		err = emit_members(&diff, now, PK_OP_PUT, sink, arg);
	set_diff_fini(&diff);
	return err;
}

static int
emit_delete(const struct policy_resource *r, const struct decoded *d, policy_sink *sink, void *arg)
{
	struct pk_msg m;

	switch (r->type) {
	case POLICY_RESOURCE_IDENTITY:
		pk_msg_init(&m, PK_MSG_IDENTITY, 0);
		m.identity.op = PK_OP_DELETE;
		m.identity.identity = d->identity.id;
		break;
	case POLICY_RESOURCE_ENDPOINT:
		pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
		m.endpoint.op = PK_OP_DELETE;
		m.endpoint.vrf = d->endpoint.vrf;
		m.endpoint.addr = d->endpoint.addr;
		break;
	case POLICY_RESOURCE_SET:
		pk_msg_init(&m, PK_MSG_SET, 0);
		m.set.op = PK_OP_DELETE;
		m.set.kind = (uint8_t)d->set.kind;
		m.set.set = d->set.id;
		break;
	default:
		pk_msg_init(&m, PK_MSG_PROGRAM, 0);
		m.program.op = PK_OP_DELETE;
		m.program.direction = (uint8_t)d->program.direction;
		m.program.program = d->program.id;
		break;
	}
	return sink(arg, &m);
}

static int
emit_put(const struct policy_resource *r, const struct decoded *d, const char *dpu,
    policy_sink *sink, void *arg)
{
	switch (r->type) {
	case POLICY_RESOURCE_IDENTITY:
		return policy_emit_identity(&d->identity, sink, arg);
	case POLICY_RESOURCE_ENDPOINT:
		return policy_emit_endpoint(&d->endpoint, dpu, sink, arg);
	case POLICY_RESOURCE_SET:
		return policy_emit_set(&d->set, sink, arg);
	default:
		return policy_emit_program(&d->program, sink, arg);
	}
}

int
policy_resource_emit(const struct policy_resource *old, const struct policy_resource *now,
    const char *dpu, policy_sink *sink, void *arg)
{
	struct decoded a, b;
	int err;

	/* Both passed the checks when they were made; what fails now is memory. */
	if (old != NULL && decode(&a, old, NULL) != 0)
		return -ENOMEM;
	if (now == NULL) {
		err = emit_delete(old, &a, sink, arg);
		decoded_fini(&a);
		return err;
	}
	if (decode(&b, now, NULL) != 0) {
		err = -ENOMEM;
	} else {
		if (old == NULL || now->type != POLICY_RESOURCE_SET)
			err = emit_put(now, &b, dpu, sink, arg);
		else if (a.set.kind == b.set.kind)
			err = emit_set_change(&a.set, &b.set, sink, arg);
		else if ((err = emit_delete(old, &a, sink, arg)) == 0)
			err = emit_put(now, &b, dpu, sink, arg);
		decoded_fini(&b);
	}
	if (old != NULL)
		decoded_fini(&a);
	return err;
}
