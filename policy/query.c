#include "policy/query.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule.h"
#include "lib/name.h"
#include "policy/compiler_priv.h"
#include "policy/connect.h"
#include "policy/k8s.h"
#include "policy/map.h"
#include "policy/network.h"
#include "policy/query_priv.h"
#include "policy/terms.h"

#define NOBODY UINT32_MAX

/*
 * A data plane holds the rules of one host, not of the world.  A table that one could hold is loaded
 * once; of a larger one, what the two ends of a flow need is loaded for each question.
 */
#define WHOLE_RULES_MAX   50000   /* distinct ones, below FW_RULE_SLOTS */
#define WHOLE_PROGRAM_MAX 1000000 /* rules in all programs */

/* What answers. */
struct plane {
	struct fw_rules_state *state;
	struct fw_rules *rules;
	uint64_t generation;
};

struct policy_query {
	const struct policy_table *table;
	const struct live *live; /* NULL: the indexes below are complete */
	struct policy_arena arena;
	struct plane *plane;
	const struct policy_program
	    *asked[2];      /* the programs in `pair`, of a compiler that lives */
	struct plane *pair; /* for what does not fit in `plane`, or has no address there */
	int64_t at_s;
	int whole; /* all of the table is loaded in `plane` */
	POLICY_VECTOR(const struct policy_workload_def *) workloads;
	POLICY_VECTOR(const struct policy_service_def *) services;
	POLICY_VECTOR(const struct policy_rule *) known; /* one of each id */
	struct policy_map workload_index;                /* "tenant/name" */
	struct policy_map host_index;                    /* Pods that are no workloads */
	POLICY_VECTOR(const struct policy_workload_def *) hosts;
	struct policy_map address_index; /* struct pk_addr: in the lowest VRF */
	struct policy_map service_index; /* "tenant/name" */
	struct policy_map rule_index;    /* id -> index in known */
};

static struct plane *
plane_create(void)
{
	struct plane *p = calloc(1, sizeof(*p));

	if (p != NULL && fw_rules_state_create(&p->state) < 0) {
		free(p);
		return NULL;
	}
	return p;
}

static void
plane_destroy(struct plane *p)
{
	if (p == NULL)
		return;
	fw_rules_destroy(p->rules);
	fw_rules_state_destroy(p->state);
	free(p);
}

void
policy_query_destroy(struct policy_query *q)
{
	if (q == NULL)
		return;
	plane_destroy(q->plane);
	plane_destroy(q->pair);
	policy_map_fini(&q->workload_index);
	policy_map_fini(&q->host_index);
	free(q->hosts.at);
	policy_map_fini(&q->address_index);
	policy_map_fini(&q->service_index);
	policy_map_fini(&q->rule_index);
	free(q->workloads.at);
	free(q->services.at);
	free(q->known.at);
	policy_arena_fini(&q->arena);
	free(q);
}

struct feed {
	struct plane *plane;
	struct pk_diag *diag;
};

static int
feed(void *arg, const struct pk_msg *m)
{
	struct feed *f = arg;
	struct fw_rules *rules = NULL;
	int rc = pk_msg_check(m, sizeof(*m), f->diag);

	if (rc == 0)
		rc = fw_rules_state_apply(f->plane->state, m, &rules, f->diag);
	if (rules != NULL) {
		fw_rules_destroy(f->plane->rules);
		f->plane->rules = rules;
	}
	return rc;
}

static int
load(struct plane *p, const struct policy_table *t, struct pk_diag *diag)
{
	struct feed f = { .plane = p, .diag = diag };
	int rc = policy_table_emit(t, ++p->generation, NULL, feed, &f);

	if (rc < 0)
		fw_rules_state_abort(p->state);
	PK_ASSERT(rc < 0 || p->rules != NULL);
	return rc;
}

static int
index_rules(struct policy_query *q)
{
	for (uint32_t p = 0; p < q->table->nb_programs; p++) {
		const struct policy_program *program = &q->table->programs[p];

		for (uint32_t r = 0; r < program->nb_rules; r++) {
			const struct policy_rule *rule = &program->rules[r], **slot;

			if (policy_map_get(&q->rule_index, &rule->id, sizeof(rule->id)) != NOBODY)
				continue;
			if (policy_map_put(&q->rule_index, &rule->id, sizeof(rule->id),
			        (uint32_t)q->known.nb) < 0 ||
			    (slot = POLICY_PUSH(&q->known)) == NULL)
				return -ENOMEM;
			*slot = rule;
		}
	}
	return 0;
}

static int
index_workload(struct policy_query *q, const struct policy_workload_def *w)
{
	const struct policy_workload_def **slot = POLICY_PUSH(&q->workloads);
	const char *key = policy_meta_key(&q->arena, &w->meta);
	uint32_t i = (uint32_t)q->workloads.nb - 1;

	if (slot == NULL || key == NULL)
		return -ENOMEM;
	*slot = w;
	if (policy_map_get_text(&q->workload_index, key) == NOBODY &&
	    policy_map_put_text(&q->workload_index, key, i) < 0)
		return -ENOMEM;
	return 0;
}

/* A Pod on its node's network is asked about by name, and stands for the node's address. */
static int
index_host(struct policy_query *q, const struct policy_workload_def *w)
{
	const struct policy_workload_def **slot = POLICY_PUSH(&q->hosts);
	const char *key = policy_meta_key(&q->arena, &w->meta);

	if (slot == NULL || key == NULL)
		return -ENOMEM;
	*slot = w;
	return policy_map_get_text(&q->host_index, key) != NOBODY
	    ? 0
	    : policy_map_put_text(&q->host_index, key, (uint32_t)q->hosts.nb - 1);
}

static int
index_addresses(struct policy_query *q)
{
	/* Endpoints are in order of VRF, so the first that has an address is the one to keep. */
	for (uint32_t i = 0; i < q->table->nb_endpoints; i++) {
		const struct policy_endpoint *e = &q->table->endpoints[i];
		uint32_t w = policy_map_get_text(&q->workload_index, e->name);

		if (w == NOBODY ||
		    policy_map_get(&q->address_index, &e->addr, sizeof(e->addr)) != NOBODY)
			continue;
		if (policy_map_put(&q->address_index, &e->addr, sizeof(e->addr), w) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int
index_service(struct policy_query *q, const struct policy_service_def *s)
{
	const struct policy_service_def **slot = POLICY_PUSH(&q->services);
	const char *key = policy_meta_key(&q->arena, &s->meta);

	if (slot == NULL || key == NULL)
		return -ENOMEM;
	*slot = s;
	return policy_map_get_text(&q->service_index, key) != NOBODY
	    ? 0
	    : policy_map_put_text(&q->service_index, key, (uint32_t)q->services.nb - 1);
}

static int
index_model(struct policy_query *q, const struct policy_model *m,
    struct policy_workload_def *const *extra, size_t nb_extra)
{
	int rc = 0;

	for (size_t s = 0; s < m->sources.nb; s++) {
		const struct policy_objects *o = &m->sources.at[s]->objects;

		for (size_t i = 0; i < o->workloads.nb && rc == 0; i++)
			rc = index_workload(q, o->workloads.at[i]);
		for (size_t i = 0; i < o->hosts.nb && rc == 0; i++)
			rc = index_host(q, o->hosts.at[i]);
		for (size_t i = 0; i < o->services.nb && rc == 0; i++)
			rc = index_service(q, o->services.at[i]);
	}
	for (size_t i = 0; i < nb_extra && rc == 0; i++)
		rc = index_workload(q, extra[i]);
	return rc;
}

int
policy_query_create_with(struct policy_query **out, const struct policy_model *m,
    struct policy_workload_def *const *extra, size_t nb_extra, const struct policy_table *t,
    struct pk_diag *diag)
{
	struct policy_query *q = calloc(1, sizeof(*q));
	uint64_t rules = 0;
	int rc;

	*out = NULL;
	if (q == NULL) {
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	q->at_s = PK_TIME_ANY;
	q->table = t;
	q->plane = plane_create();
	q->pair = plane_create();
	rc = q->plane != NULL && q->pair != NULL ? 0 : -ENOMEM;
	if (rc == 0)
		rc = index_model(q, m, extra, nb_extra);
	if (rc == 0)
		rc = index_addresses(q);
	if (rc == 0)
		rc = index_rules(q);
	if (rc < 0) {
		pk_diag_set(diag, "out of memory");
	} else {
		for (uint32_t i = 0; i < t->nb_programs; i++)
			rules += t->programs[i].nb_rules;
		q->whole = q->known.nb <= WHOLE_RULES_MAX && rules <= WHOLE_PROGRAM_MAX;
		if (q->whole)
			rc = load(q->plane, t, diag);
	}
	if (rc < 0) {
		policy_query_destroy(q);
		return rc;
	}
	*out = q;
	return 0;
}

int
policy_query_create(struct policy_query **out, const struct policy_model *m,
    const struct policy_table *t, struct pk_diag *diag)
{
	return policy_query_create_with(out, m, NULL, 0, t, diag);
}

int
policy_query_create_live(
    struct policy_query **out, const struct policy_compiler *pc, struct pk_diag *diag)
{
	struct policy_query *q = calloc(1, sizeof(*q));

	*out = NULL;
	if (q == NULL || (q->plane = plane_create()) == NULL ||
	    (q->pair = plane_create()) == NULL) {
		policy_query_destroy(q);
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	q->at_s = PK_TIME_ANY;
	q->live = policy_compiler_live(pc);
	q->table = policy_compiler_table(pc);
	PK_ASSERT(q->live != NULL);
	*out = q;
	return 0;
}

/* A workload of the compiler's, from now on with an index here. */
static uint32_t
adopt(struct policy_query *q, const struct policy_workload_def *w)
{
	if (w == NULL)
		return NOBODY;
	for (size_t i = 0; i < q->workloads.nb; i++)
		if (q->workloads.at[i] == w)
			return (uint32_t)i;
	return index_workload(q, w) == 0 ? (uint32_t)q->workloads.nb - 1 : NOBODY;
}

/* What policy_query_end() looks up, brought here first. */
static void
bring(struct policy_query *q, const char *key, const struct pk_addr *addr)
{
	const struct policy_endpoint *e;
	uint32_t i, lowest = UINT32_MAX;

	if (q->live == NULL)
		return;
	if (key != NULL) {
		(void)adopt(q, live_workload(q->live, key));
		i = policy_map_get_text(&q->live->host_index, key);
		if (i != NOBODY && policy_map_get_text(&q->host_index, key) == NOBODY)
			(void)index_host(q, q->live->hosts.at[i]);
		return;
	}
	if (policy_map_get(&q->address_index, addr, sizeof(*addr)) != NOBODY)
		return;
	e = policy_table_endpoint(q->table, 0, addr);
	for (i = 0; e == NULL && i < q->table->nb_endpoints; i++)
		if (q->table->endpoints[i].vrf != 0 && q->table->endpoints[i].vrf < lowest &&
		    pk_addr_compare(&q->table->endpoints[i].addr, addr) == 0) {
			e = &q->table->endpoints[i];
			lowest = e->vrf;
		}
	i = e != NULL ? adopt(q, live_workload(q->live, e->name)) : NOBODY;
	if (i != NOBODY)
		(void)policy_map_put(&q->address_index, &e->addr, sizeof(e->addr), i);
}

void
policy_query_by_pairs(struct policy_query *q)
{
	q->whole = 0;
}

uint32_t
policy_query_nb_workloads(const struct policy_query *q)
{
	return (uint32_t)q->workloads.nb;
}

const struct policy_workload_def *
policy_query_workload(const struct policy_query *q, uint32_t i)
{
	return q->workloads.at[i];
}

/* ---- ends ---------------------------------------------------------------------------------------- */

struct policy_end
policy_query_end_of(const struct policy_query *q, const struct policy_workload_def *w)
{
	char key[POLICY_NAME_MAX + POLICY_K8S_NAME_MAX + 2];

	snprintf(key, sizeof(key), "%s/%s", w->meta.tenant, w->meta.name);
	return (struct policy_end){ .workload = policy_map_get_text(&q->workload_index, key) };
}

/* A name of two labels and more, without a pattern in it. */
static bool
is_fqdn(const char *text)
{
	char pattern[PK_NAME_PATTERN_MAX];

	return strchr(text, '.') != NULL && pk_name_pattern(pattern, text, NULL) == 0 &&
	    strcspn(pattern, "*+") == strlen(pattern);
}

int
policy_query_end(
    const struct policy_query *q, const char *text, struct policy_end *out, struct pk_diag *diag)
{
	char key[POLICY_NAME_MAX + POLICY_K8S_NAME_MAX + 2];
	const char *known[512], *near, *name;
	uint32_t host;
	size_t nb = 0;

	/* What it finds elsewhere it remembers; to its users a query does not change. */
	struct policy_query *own = (struct policy_query *)(uintptr_t)q;

	*out = (struct policy_end){ .workload = NOBODY };
	if (pk_addr_parse(&out->addr, text, NULL) == 0) {
		bring(own, NULL, &out->addr);
		out->workload = policy_map_get(&q->address_index, &out->addr, sizeof(out->addr));
		return 0;
	}
	if (strchr(text, '/') != NULL)
		snprintf(key, sizeof(key), "%s", text);
	else
		snprintf(key, sizeof(key), "%s/%s", POLICY_TENANT, text);
	bring(own, key, NULL);
	out->workload = policy_map_get_text(&q->workload_index, key);
	if (out->workload != NOBODY)
		return 0;
	host = policy_map_get_text(&q->host_index, key);
	if (host != NOBODY && q->hosts.at[host]->addresses.nb > 0) {
		out->addr = q->hosts.at[host]->addresses.at[0].addr;
		return 0;
	}
	if (is_fqdn(text)) {
		char pattern[PK_NAME_PATTERN_MAX];

		(void)pk_name_pattern(pattern, text, NULL);
		out->fqdn = policy_arena_text(&own->arena, pattern);
		return out->fqdn != NULL ? 0 : -ENOMEM;
	}
	/* Compare without tenants, which would drown a slip in the name. */
	for (size_t i = 0; i < q->workloads.nb && nb < PK_COUNT(known); i++)
		known[nb++] = q->workloads.at[i]->meta.name;
	for (size_t i = 0; q->live != NULL && i < q->live->workloads.nb && nb < PK_COUNT(known);
	     i++)
		if (q->live->workloads.at[i].def != NULL)
			known[nb++] = q->live->workloads.at[i].def->meta.name;
	name = strchr(text, '/');
	near = pk_suggest(name != NULL ? name + 1 : text, known, nb);
	if (near != NULL)
		pk_diag_set(diag, "no workload \"%.128s\" in the inventory; did you mean \"%s\"?",
		    key, near);
	else
		pk_diag_set(diag,
		    "no workload \"%.128s\" in the inventory; want tenant/name, an address, or a DNS name",
		    key);
	return -ENOENT;
}

const char *
policy_query_end_text(
    const struct policy_query *q, const struct policy_end *e, char *buf, size_t size)
{
	char addr[PK_ADDR_TEXT];
	const struct policy_meta *m;

	if (e->fqdn != NULL) {
		snprintf(buf, size, "%s", e->fqdn);
	} else if (e->workload == NOBODY) {
		snprintf(buf, size, "%s", pk_addr_text(&e->addr, addr));
	} else {
		m = &q->workloads.at[e->workload]->meta;
		snprintf(buf, size, "%s/%s", m->tenant, m->name);
	}
	return buf;
}

/* The addresses a flow may use: one when it was named, else all of the workload. */
static uint32_t
addresses(const struct policy_query *q, const struct policy_end *e, uint32_t i, struct pk_addr *out)
{
	const struct policy_workload_def *w;

	if (e->addr.family != 0) {
		*out = e->addr;
		return 1;
	}
	if (e->fqdn != NULL)
		return 0;
	w = q->workloads.at[e->workload];
	if (i < w->addresses.nb)
		*out = w->addresses.at[i].addr;
	return w->addresses.nb;
}

/*
 * A workload without an address is judged by what it is, and no network covers it.  It borrows one that
 * nobody can own, and load_pair() cuts that out of all networks.
 */
static struct pk_addr
borrowed(unsigned int family, int last)
{
	struct pk_addr a = { .family = (uint8_t)family };
	unsigned int len = family == 4 ? 4 : 16;

	memset(a.bytes, 0xff, len);
	a.bytes[len - 1] = last ? 0xff : 0xfe;
	return a;
}

/* The first pair of one family. */
static int
choose_addresses(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, struct pk_addr *a, struct pk_addr *b, struct pk_diag *diag)
{
	char from[2 * PK_NAME_MAX], to[2 * PK_NAME_MAX];
	uint32_t na = addresses(q, src, 0, a), nb = addresses(q, dst, 0, b);

	if (src->fqdn != NULL) {
		pk_diag_set(diag, "\"%s\" is a DNS name: it says where a flow goes to, not whence",
		    src->fqdn);
		return -EINVAL;
	}

	if (na == 0)
		*a = borrowed(nb > 0 ? b->family : 4, 0);
	if (nb == 0)
		*b = borrowed(a->family, 1);
	if (na == 0 || nb == 0)
		return 0;
	for (uint32_t i = 0; i < na; i++) {
		for (uint32_t k = 0; k < nb; k++) {
			addresses(q, src, i, a);
			addresses(q, dst, k, b);
			if (a->family == b->family)
				return 0;
		}
	}
	pk_diag_set(diag, "%s and %s have no addresses of one family",
	    policy_query_end_text(q, src, from, sizeof(from)),
	    policy_query_end_text(q, dst, to, sizeof(to)));
	return -EINVAL;
}

/* ---- services ------------------------------------------------------------------------------------ */

static int
add_point(struct policy_point out[POLICY_POINTS_MAX], int n, uint8_t proto, uint16_t selector)
{
	if (n < POLICY_POINTS_MAX)
		out[n++] = (struct policy_point){ proto, selector };
	return n;
}

static int
add_service(struct policy_point out[POLICY_POINTS_MAX], int n, const struct pk_service *s,
    unsigned int family)
{
	if (s->proto == (family == 4 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return n;
	n = add_point(out, n, s->proto, s->low);
	/* The codes of an ICMP type and the whole of a protocol are spoken for by their first. */
	if ((s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP || s->proto == IPPROTO_SCTP) &&
	    s->high != s->low)
		n = add_point(out, n, s->proto, s->high);
	return n;
}

static const struct policy_service_def *
find_service(const struct policy_query *q, const char *tenant, const char *name)
{
	char key[2 * (POLICY_NAME_MAX + 2)];
	uint32_t i;

	if (q->live != NULL)
		return compile_service(q->live->c, tenant, name);
	snprintf(key, sizeof(key), "%s/%s", tenant, name);
	i = policy_map_get_text(&q->service_index, key);
	if (i == NOBODY) {
		snprintf(key, sizeof(key), "%s/%s", POLICY_ALL_TENANTS, name);
		i = policy_map_get_text(&q->service_index, key);
	}
	return i != NOBODY ? q->services.at[i] : NULL;
}

static int
add_ref(const struct policy_query *q, const struct policy_end *dst,
    const struct policy_service_ref *ref, const char *tenant, unsigned int family,
    struct policy_point out[POLICY_POINTS_MAX], int n)
{
	const struct policy_service_def *s;
	const struct policy_ports *ports;

	switch (ref->kind) {
	case POLICY_SERVICE_LITERAL:
		for (unsigned int i = 0; i < ref->nb; i++)
			n = add_service(out, n, &ref->at[i], family);
		break;
	case POLICY_SERVICE_NAME:
		s = find_service(q, tenant, ref->name);
		for (uint32_t i = 0; s != NULL && i < s->services.nb; i++)
			n = add_ref(q, dst, &s->services.at[i], tenant, family, out, n);
		break;
	case POLICY_SERVICE_PORT:
		if (dst->workload == NOBODY)
			break;
		ports = &q->workloads.at[dst->workload]->ports;
		for (uint32_t i = 0; i < ports->nb; i++)
			if (strcmp(ports->at[i].name, ref->name) == 0 &&
			    (ref->proto == PK_PROTO_ANY || ref->proto == ports->at[i].proto))
				n = add_point(out, n, ports->at[i].proto, ports->at[i].port);
		break;
	}
	return n;
}

int
policy_query_points(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, const struct policy_service_ref *ref, const char *tenant,
    struct policy_point out[POLICY_POINTS_MAX], struct pk_diag *diag)
{
	char to[2 * PK_NAME_MAX];
	struct pk_addr a, b;
	int n = choose_addresses(q, src, dst, &a, &b, diag);

	if (n < 0)
		return n;
	n = add_ref(q, dst, ref, tenant, a.family, out, 0);
	if (n > 0)
		return n;
	if (ref->kind == POLICY_SERVICE_NAME)
		pk_diag_set(diag, "unknown service \"%.64s\"", ref->name);
	else if (ref->kind == POLICY_SERVICE_PORT)
		pk_diag_set(diag, "%s has no port of name \"%.64s\"",
		    policy_query_end_text(q, dst, to, sizeof(to)), ref->name);
	else
		pk_diag_set(diag, "there is no such message between IPv%u addresses", a.family);
	return -ENOENT;
}

int
policy_query_service(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, const char *service, struct policy_point out[POLICY_POINTS_MAX],
    struct pk_diag *diag)
{
	struct policy_service_ref ref;
	const char *tenant = POLICY_TENANT;
	int rc = policy_service_parse(&ref, service, diag);

	if (rc < 0)
		return rc;
	/* A Service is looked up where its port would be: at the destination. */
	if (dst->workload != NOBODY)
		tenant = q->workloads.at[dst->workload]->meta.tenant;
	else if (src->workload != NOBODY)
		tenant = q->workloads.at[src->workload]->meta.tenant;
	return policy_query_points(q, src, dst, &ref, tenant, out, diag);
}

/* ---- flows --------------------------------------------------------------------------------------- */

/* What one question needs of the table, as a table of its own. */
struct excerpt {
	struct policy_table t;
	struct policy_identity identities[2];
	struct policy_endpoint endpoints[2];
	struct policy_program programs[2];
	POLICY_VECTOR(struct policy_set) sets;
	uint32_t members[2]; /* identities of the ends, ascending */
	uint32_t nb_members;
	struct pk_prefix cut[2]; /* borrowed addresses, which are in no network */
	uint32_t nb_cut;
	struct policy_arena arena;
};

static int
is_member(const struct policy_set *s, uint32_t identity)
{
	uint32_t low = 0, high = s->nb_members;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (s->identities[mid] < identity)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->nb_members && s->identities[low] == identity;
}

static int
cut_set(struct excerpt *e, struct policy_set *s)
{
	struct policy_networks n = { 0 };
	int rc = policy_networks_add(&n, s->prefixes, s->nb_members, e->cut, e->nb_cut);

	if (rc == 0)
		rc = policy_networks_prefixes(&n, &e->arena, &s->prefixes, &s->nb_members);
	policy_networks_fini(&n);
	return rc;
}

/* Of an identity set only the two ends matter. */
static int
excerpt_set(struct excerpt *e, const struct policy_set *s)
{
	struct policy_set *slot;
	uint32_t which = 0;

	for (size_t i = 0; i < e->sets.nb; i++)
		if (e->sets.at[i].id == s->id)
			return 0;
	if ((slot = POLICY_PUSH(&e->sets)) == NULL)
		return -ENOMEM;
	*slot = *s;
	if (s->kind != PK_SET_IDENTITY)
		return e->nb_cut > 0 && s->kind == PK_SET_PREFIX ? cut_set(e, slot) : 0;
	/* A bit for each: there are four possible lists, and all are part of the one in `members`. */
	for (uint32_t i = 0; i < e->nb_members; i++)
		if (is_member(s, e->members[i]))
			which |= 1u << i;
	slot->identities = which == 2 ? e->members + 1 : e->members;
	slot->nb_members = which == 3 ? 2 : which != 0;
	return 0;
}

static int
excerpt_end(struct excerpt *e, const struct policy_table *t, const struct policy_endpoint *ep,
    enum pk_direction direction)
{
	const struct policy_identity *id = policy_table_identity(t, ep->identity);
	const struct policy_program *p = policy_table_program(t, id->program[direction]);
	struct policy_identity *own = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < e->t.nb_identities; i++)
		if (e->identities[i].id == id->id)
			own = &e->identities[i];
	if (own == NULL) {
		own = &e->identities[e->t.nb_identities++];
		*own = *id;
		memset(own->program, 0, sizeof(own->program));
	}
	own->program[direction] = p->id;
	e->endpoints[e->t.nb_endpoints++] = *ep;
	e->programs[e->t.nb_programs++] = *p;
	for (uint32_t r = 0; r < p->nb_rules; r++)
		for (uint32_t k = 0; k < p->rules[r].nb_peers && rc == 0; k++)
			rc = excerpt_set(e, policy_table_set(t, p->rules[r].peers[k]));
	return rc;
}

static struct pk_prefix
host_prefix(const struct pk_addr *a)
{
	return (struct pk_prefix){ .addr = *a, .len = (uint8_t)pk_addr_bits(a) };
}

/* An end's entry in the inventory; made up in *own, without a DPU, if it has no address. */
static const struct policy_endpoint *
endpoint(const struct policy_query *q, const struct policy_workload_def *w, const struct pk_addr *a,
    struct policy_endpoint *own)
{
	char key[POLICY_NAME_MAX + POLICY_K8S_NAME_MAX + 2];
	const struct policy_unplaced *u;

	if (w == NULL)
		return NULL;
	if (w->addresses.nb > 0)
		return policy_table_endpoint(q->table, w->vrf, a);
	snprintf(key, sizeof(key), "%s/%s", w->meta.tenant, w->meta.name);
	u = policy_table_unplaced(q->table, key);
	PK_ASSERT(u != NULL);
	*own = (struct policy_endpoint){
		.name = u->name, .vrf = w->vrf, .identity = u->identity, .addr = *a
	};
	return own;
}

static int
load_pair(const struct policy_query *q, const struct policy_endpoint *src,
    const struct policy_endpoint *dst, struct pk_diag *diag)
{
	struct policy_query *own = (struct policy_query *)(uintptr_t)q;
	struct excerpt e = { 0 };
	int rc = 0;

	own->asked[0] = own->asked[1] = NULL;

	if (src != NULL && src->dpu == NULL)
		e.cut[e.nb_cut++] = host_prefix(&src->addr);
	if (dst != NULL && dst->dpu == NULL)
		e.cut[e.nb_cut++] = host_prefix(&dst->addr);
	if (src != NULL)
		e.members[e.nb_members++] = src->identity;
	if (dst != NULL && (src == NULL || dst->identity != src->identity))
		e.members[e.nb_members++] = dst->identity;
	if (e.nb_members == 2 && e.members[0] > e.members[1]) {
		e.members[0] = dst->identity;
		e.members[1] = src->identity;
	}
	if (src != NULL)
		rc = excerpt_end(&e, q->table, src, PK_EGRESS);
	if (dst != NULL && rc == 0)
		rc = excerpt_end(&e, q->table, dst, PK_INGRESS);
	for (uint32_t i = 0; i < e.t.nb_programs; i++)
		own->asked[i] = policy_table_program(q->table, e.programs[i].id);
	e.t.identities = e.identities;
	e.t.endpoints = e.endpoints;
	e.t.programs = e.programs;
	e.t.sets = e.sets.at;
	e.t.nb_sets = (uint32_t)e.sets.nb;
	if (rc < 0)
		pk_diag_set(diag, "out of memory");
	else
		rc = load(q->pair, &e.t, diag);
	policy_arena_fini(&e.arena);
	free(e.sets.at);
	return rc;
}

static const struct policy_rule *
rule_of(const struct policy_query *q, const struct plane *p, uint32_t rule)
{
	struct fw_rule_info info;
	uint32_t i;

	if (!fw_rules_info(p->rules, rule, &info))
		return NULL;
	for (uint32_t k = 0; q->live != NULL && k < PK_COUNT(q->asked); k++)
		for (uint32_t r = 0; q->asked[k] != NULL && r < q->asked[k]->nb_rules; r++)
			if (q->asked[k]->rules[r].id == info.id)
				return &q->asked[k]->rules[r];
	i = policy_map_get(&q->rule_index, &info.id, sizeof(info.id));
	return i != NOBODY ? q->known.at[i] : NULL;
}

static void
judge(const struct policy_query *q, const struct plane *p, enum pk_direction direction,
    const struct fw_party *subject, const struct fw_party *peer, struct policy_point point,
    struct policy_side *out)
{
	struct fw_decision d;

	fw_rules_decide(p->rules, direction, subject, peer, point.proto, point.selector,
	    FW_APP_NONE, q->at_s, &d);
	out->judged = 1;
	out->verdict = d.verdict;
	out->audit_verdict = d.audit_verdict;
	out->rule = rule_of(q, p, d.rule);
	out->audit_rule = d.audited ? rule_of(q, p, d.audit_rule) : NULL;
}

void
policy_query_at(struct policy_query *q, int64_t unix_s)
{
	q->at_s = unix_s;
}

static unsigned int
encryption_of(const struct policy_side *s)
{
	return s->rule != NULL ? s->rule->terms.encryption : PK_ENCRYPTION_NONE;
}

int
policy_query_flow(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, struct policy_point point, struct policy_answer *out,
    struct pk_diag *diag)
{
	const struct policy_workload_def *ws =
	    src->workload != NOBODY ? q->workloads.at[src->workload] : NULL;
	const struct policy_workload_def *wd =
	    dst->workload != NOBODY ? q->workloads.at[dst->workload] : NULL;
	struct policy_side *egress = &out->side[PK_EGRESS], *ingress = &out->side[PK_INGRESS];
	struct fw_party src_party, dst_party;
	struct fw_named named = { 0 };
	uint32_t src_vrf, dst_vrf;
	const struct plane *plane = q->plane;
	struct policy_endpoint made[2];
	struct pk_addr a, b;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = choose_addresses(q, src, dst, &a, &b, diag);
	if (rc < 0)
		return rc;
	if (ws == NULL && wd == NULL)
		return 0; /* zero is deny */
	egress->verdict = egress->audit_verdict = PK_VERDICT_ALLOW;
	ingress->verdict = ingress->audit_verdict = PK_VERDICT_ALLOW;
	out->verdict = out->audit_verdict = PK_VERDICT_ALLOW;
	if (ws == wd)
		return 0;
	/* An address of nobody is met in the address space of whoever meets it. */
	src_vrf = ws != NULL ? ws->vrf : wd->vrf;
	dst_vrf = wd != NULL ? wd->vrf : ws->vrf;
	if (!q->whole || (ws != NULL && ws->addresses.nb == 0) ||
	    (wd != NULL && wd->addresses.nb == 0)) {
		plane = q->pair;
		rc = load_pair(
		    q, endpoint(q, ws, &a, &made[0]), endpoint(q, wd, &b, &made[1]), diag);
		if (rc < 0)
			return rc;
	}
	fw_rules_party(plane->rules, src_vrf, &a, true, &src_party);
	fw_rules_party(plane->rules, dst_vrf, &b, true, &dst_party);
	if (dst->fqdn != NULL) {
		fw_rules_name(plane->rules, dst->fqdn, &named);
		dst_party.named = &named;
	}
	if (ws != NULL)
		judge(q, plane, PK_EGRESS, &src_party, &dst_party, point, egress);
	if (wd != NULL)
		judge(q, plane, PK_INGRESS, &dst_party, &src_party, point, ingress);
	out->verdict = egress->verdict != PK_VERDICT_ALLOW ? egress->verdict : ingress->verdict;
	out->audit_verdict = egress->audit_verdict != PK_VERDICT_ALLOW ? egress->audit_verdict
	                                                               : ingress->audit_verdict;
	out->rule = egress->verdict != PK_VERDICT_ALLOW || !ingress->judged ? egress->rule
	                                                                    : ingress->rule;
	if (out->verdict == PK_VERDICT_ALLOW)
		out->encryption =
		    policy_encryption_merge(encryption_of(egress), encryption_of(ingress));
	return 0;
}

int
policy_query_classes(const struct policy_query *q, const struct policy_connect *c,
    const struct policy_end *src, const struct policy_end *dst, uint32_t out[2],
    unsigned int *family, struct pk_diag *diag)
{
	const struct policy_end *ends[] = { src, dst };
	struct pk_addr addr[2];
	int rc = choose_addresses(q, src, dst, &addr[0], &addr[1], diag);

	if (rc < 0)
		return rc;
	for (int i = 0; i < 2; i++) {
		const struct policy_workload_def *w =
		    ends[i]->workload != NOBODY ? q->workloads.at[ends[i]->workload] : NULL;
		struct policy_endpoint made;
		const struct policy_endpoint *ep = endpoint(q, w, &addr[i], &made);
		int placed = w == NULL || w->addresses.nb > 0;

		out[i] = policy_connect_class(
		    c, ep != NULL ? ep->identity : PK_IDENTITY_NONE, placed ? &addr[i] : NULL);
		PK_ASSERT(out[i] != POLICY_CLASS_NONE);
	}
	*family = addr[0].family;
	return 0;
}
