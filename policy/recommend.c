#include "policy/recommend.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "policy/map.h"
#include "policy/query_priv.h"
#include "policy/traffic.h"

#define PRIORITY_FIRST 1000
#define PRIORITY_REST  1000000 /* the last there is */

/* What a policy can call a workload by. */
struct name {
	const char *tenant;
	const char *selector; /* "{app: web, \"!env\": }" */
	uint32_t number;      /* of the policies about it in its tenant; 0: none yet */
};

/* One flow as its one side sees it; sorted, they are the policies. */
struct want {
	uint32_t subject; /* index of a name */
	uint32_t direction;
	const char *peer; /* as YAML */
	uint32_t at;      /* on the line of policy/traffic.h */
};

/* Peers that are allowed the same go into one rule. */
struct rule {
	const char *services;
	const char *peers;
};

struct recommend {
	const struct policy_model *model;
	const struct policy_query *query;
	struct policy_arena arena;
	POLICY_VECTOR(const struct policy_workload_def *) workloads;
	POLICY_VECTOR(const char *) keys; /* of labels to go by; none: all of them */
	struct policy_map name_index;     /* "tenant selector" */
	POLICY_VECTOR(struct name) names;
	uint32_t *name_of; /* by workload of the query; UINT32_MAX: not looked at yet */
	POLICY_VECTOR(struct want) wants;
};

/* ---- labels -------------------------------------------------------------------------------------- */

static const char *
label_of(const struct policy_workload_def *w, const char *key)
{
	for (uint32_t i = 0; i < w->meta.labels.nb; i++)
		if (strcmp(w->meta.labels.at[i].key, key) == 0)
			return w->meta.labels.at[i].value;
	return NULL;
}

/* Whether `v` carries all that `w` does. */
static int
carries_all(const struct policy_workload_def *v, const struct policy_workload_def *w)
{
	for (uint32_t i = 0; i < w->meta.labels.nb; i++) {
		const char *value = label_of(v, w->meta.labels.at[i].key);

		if (value == NULL || strcmp(value, w->meta.labels.at[i].value) != 0)
			return 0;
	}
	return 1;
}

/* All labels of a workload, and of those that carry more a label that it lacks. */
static void
print_exact(struct recommend *r, FILE *f, const struct policy_workload_def *w)
{
	const char *comma = "";
	struct policy_map said = { 0 };

	for (uint32_t i = 0; i < w->meta.labels.nb; i++) {
		fprintf(f, "%s\"%s\": \"%s\"", comma, w->meta.labels.at[i].key,
		    w->meta.labels.at[i].value);
		comma = ", ";
	}
	for (size_t k = 0; k < r->workloads.nb; k++) {
		const struct policy_workload_def *v = r->workloads.at[k];
		const char *extra = NULL;
		int done = 0;

		if (strcmp(v->meta.tenant, w->meta.tenant) != 0 || !carries_all(v, w))
			continue;
		for (uint32_t i = 0; i < v->meta.labels.nb; i++) {
			const char *key = v->meta.labels.at[i].key;

			if (label_of(w, key) != NULL)
				continue;
			extra = extra != NULL ? extra : key;
			done |= policy_map_get_text(&said, key) != POLICY_MAP_NONE;
		}
		if (extra == NULL || done)
			continue;
		fprintf(f, "%s\"!%s\": ", comma, extra);
		comma = ", ";
		policy_map_put_text(&said, extra, 0);
	}
	policy_map_fini(&said);
}

static void
print_by_keys(struct recommend *r, FILE *f, const struct policy_workload_def *w)
{
	const char *comma = "";

	for (size_t i = 0; i < r->keys.nb; i++) {
		const char *value = label_of(w, r->keys.at[i]);

		if (value != NULL)
			fprintf(f, "%s\"%s\": \"%s\"", comma, r->keys.at[i], value);
		else
			fprintf(f, "%s\"!%s\": ", comma, r->keys.at[i]);
		comma = ", ";
	}
}

static uint32_t
name_of(struct recommend *r, uint32_t workload)
{
	const struct policy_workload_def *w = policy_query_workload(r->query, workload);
	char *text = NULL, *key;
	struct name *n;
	size_t len = 0;
	uint32_t i;
	FILE *f;

	if (r->name_of[workload] != UINT32_MAX)
		return r->name_of[workload];
	if ((f = open_memstream(&text, &len)) == NULL)
		return UINT32_MAX;
	fputs("{", f);
	if (r->keys.nb > 0)
		print_by_keys(r, f, w);
	else
		print_exact(r, f, w);
	fputs("}", f);
	if (fclose(f) != 0)
		return UINT32_MAX;
	key = policy_arena_printf(&r->arena, "%s %s", w->meta.tenant, text);
	free(text);
	if (key == NULL)
		return UINT32_MAX;
	i = policy_map_get_text(&r->name_index, key);
	if (i == POLICY_MAP_NONE) {
		i = (uint32_t)r->names.nb;
		if ((n = POLICY_PUSH(&r->names)) == NULL ||
		    policy_map_put_text(&r->name_index, key, i) < 0)
			return UINT32_MAX;
		*n = (struct name){ .tenant = w->meta.tenant, .selector = strchr(key, ' ') + 1 };
	}
	r->name_of[workload] = i;
	return i;
}

/* ---- flows --------------------------------------------------------------------------------------- */

/* How a rule of `subject` says who the other end is. */
static const char *
peer_text(struct recommend *r, uint32_t subject, const struct policy_end *e)
{
	char addr[PK_ADDR_TEXT];
	uint32_t n;

	if (e->workload == UINT32_MAX)
		return policy_arena_printf(&r->arena, "{networks: [\"%s/%u\"]}",
		    pk_addr_text(&e->addr, addr), pk_addr_bits(&e->addr));
	if ((n = name_of(r, e->workload)) == UINT32_MAX)
		return NULL;
	if (strcmp(r->names.at[n].tenant, r->names.at[subject].tenant) == 0)
		return policy_arena_printf(&r->arena, "{workloads: %s}", r->names.at[n].selector);
	return policy_arena_printf(&r->arena, "{tenant: \"%s\", workloads: %s}",
	    r->names.at[n].tenant, r->names.at[n].selector);
}

static int
add_want(struct recommend *r, uint32_t direction, const struct policy_end *subject,
    const struct policy_end *peer, struct policy_point p)
{
	struct want *w;
	uint32_t n;

	if (subject->workload == UINT32_MAX)
		return 0;
	if ((n = name_of(r, subject->workload)) == UINT32_MAX ||
	    (w = POLICY_PUSH(&r->wants)) == NULL)
		return -ENOMEM;
	*w = (struct want){ n, direction, peer_text(r, n, peer),
		(uint32_t)p.proto << 16 | p.selector };
	return w->peer != NULL ? 0 : -ENOMEM;
}

static int
by_want(const void *va, const void *vb)
{
	const struct want *a = va, *b = vb;
	int d;

	if (a->subject != b->subject)
		return a->subject < b->subject ? -1 : 1;
	if (a->direction != b->direction)
		return a->direction > b->direction ? -1 : 1; /* ingress first, as people write it */
	d = strcmp(a->peer, b->peer);
	return d != 0 ? d : (a->at > b->at) - (a->at < b->at);
}

/* ---- as YAML ------------------------------------------------------------------------------------- */

/* Neighbouring ports of one protocol are a range. */
static const char *
services_text(struct recommend *r, const struct want *w, size_t nb)
{
	const char *comma = "", *own;
	char *text = NULL, word[32];
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return NULL;
	for (size_t i = 0, next; i < nb; i = next) {
		struct pk_service s;
		uint8_t proto = (uint8_t)(w[i].at >> 16);
		int icmp = proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
		int ports = proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;

		for (next = i + 1; next < nb; next++)
			if (w[next].at != w[next - 1].at &&
			    (!ports || w[next].at != w[next - 1].at + 1 ||
			        w[next].at >> 16 != proto))
				break;
		s = (struct pk_service){ proto, 0, (uint16_t)w[i].at, (uint16_t)w[next - 1].at };
		if (icmp)
			snprintf(word, sizeof(word), "icmpv%d/%u/%u", proto == IPPROTO_ICMP ? 4 : 6,
			    s.low >> 8, s.low & 255);
		else if (ports)
			policy_service_text(word, sizeof(word), &s);
		else
			snprintf(word, sizeof(word), "proto/%u", proto);
		fprintf(f, "%s%s", comma, word);
		comma = ", ";
	}
	if (fclose(f) != 0)
		return NULL;
	own = policy_arena_text(&r->arena, text);
	free(text);
	return own;
}

static int
by_services(const void *va, const void *vb)
{
	const struct rule *a = va, *b = vb;
	int d = strcmp(a->services, b->services);

	return d != 0 ? d : strcmp(a->peers, b->peers);
}

/* The rules of one policy and direction: w[0 .. nb - 1]. */
static int
print_rules(struct recommend *r, FILE *f, const struct want *w, size_t nb)
{
	POLICY_VECTOR(struct rule) rules = { 0 };
	unsigned int n = 0;
	int rc = 0;

	for (size_t i = 0, next; i < nb && rc == 0; i = next) {
		struct rule *new = POLICY_PUSH(&rules);

		for (next = i + 1; next < nb && strcmp(w[next].peer, w[i].peer) == 0; next++)
			;
		if (new == NULL) {
			rc = -ENOMEM;
			break;
		}
		*new = (struct rule){ services_text(r, &w[i], next - i), w[i].peer };
		if (new->services == NULL)
			rc = -ENOMEM;
	}
	if (rc == 0 && rules.nb > 1)
		qsort(rules.at, rules.nb, sizeof(rules.at[0]), by_services);
	for (size_t i = 0, next; i < rules.nb && rc == 0; i = next) {
		fprintf(f, "    - name: seen-%u\n      action: allow\n      %s:\n", ++n,
		    w[0].direction == PK_INGRESS ? "from" : "to");
		for (next = i;
		     next < rules.nb && strcmp(rules.at[next].services, rules.at[i].services) == 0;
		     next++)
			fprintf(f, "        - %s\n", rules.at[next].peers);
		fprintf(f, "      services: [%s]\n", rules.at[i].services);
	}
	free(rules.at);
	return rc;
}

static int
print_policies(struct recommend *r, FILE *f)
{
	const struct want *w = r->wants.at;
	struct policy_map numbers = { 0 }; /* tenant -> index in next */
	POLICY_VECTOR(uint32_t) next = { 0 };
	int rc = 0;

	for (size_t i = 0, end; i < r->wants.nb && rc == 0; i = end) {
		const struct name *n = &r->names.at[w[i].subject];
		uint32_t t = policy_map_get_text(&numbers, n->tenant), *slot;

		if (t == POLICY_MAP_NONE) {
			t = (uint32_t)next.nb;
			if ((slot = POLICY_PUSH(&next)) == NULL ||
			    policy_map_put_text(&numbers, n->tenant, t) < 0) {
				rc = -ENOMEM;
				break;
			}
			*slot = 0;
		}
		next.at[t]++;
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: seen-%u, tenant: \"%s\"}\n"
		    "spec:\n  tier: application\n  priority: %u\n  appliesTo: {workloads: %s}\n",
		    next.at[t], n->tenant, PRIORITY_FIRST + next.at[t], n->selector);
		for (end = i; end < r->wants.nb && w[end].subject == w[i].subject;) {
			size_t first = end;

			while (end < r->wants.nb && w[end].subject == w[i].subject &&
			    w[end].direction == w[first].direction)
				end++;
			fprintf(f, "  %s:\n", pk_direction_name(w[first].direction));
			rc = print_rules(r, f, &w[first], end - first);
			if (rc < 0)
				break;
		}
	}
	policy_map_fini(&numbers);
	free(next.at);
	return rc;
}

/* Whoever was not seen to need anything gets nothing. */
static int
print_rest(struct recommend *r, FILE *f)
{
	struct policy_map said = { 0 };
	int rc = 0;

	for (size_t i = 0; i < r->workloads.nb && rc == 0; i++) {
		const char *tenant = r->workloads.at[i]->meta.tenant;

		if (policy_map_get_text(&said, tenant) != POLICY_MAP_NONE)
			continue;
		rc = policy_map_put_text(&said, tenant, 0);
		fprintf(f,
		    "---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: seen-rest, tenant: \"%s\"}\n"
		    "spec: {tier: application, priority: %u, ingress: [], egress: []}\n",
		    tenant, PRIORITY_REST);
	}
	policy_map_fini(&said);
	return rc;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static int
read_keys(struct recommend *r, const char *labels, struct pk_diag *diag)
{
	char *copy = policy_arena_text(&r->arena, labels), *save = NULL;

	if (copy == NULL)
		return -ENOMEM;
	for (char *k = strtok_r(copy, ", ", &save); k != NULL; k = strtok_r(NULL, ", ", &save)) {
		const char **slot, *known[256];
		size_t nb = 0;
		int found = 0;

		for (size_t i = 0; i < r->workloads.nb; i++) {
			const struct policy_labels *l = &r->workloads.at[i]->meta.labels;

			found |= label_of(r->workloads.at[i], k) != NULL;
			for (uint32_t n = 0; n < l->nb && nb < PK_COUNT(known); n++)
				known[nb++] = l->at[n].key;
		}
		if (!found) {
			const char *near = pk_suggest(k, known, nb);

			pk_diag_set(diag, "no workload has a label \"%.64s\"%s%s%s", k,
			    near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
			    near != NULL ? "\"?" : "");
			return -EINVAL;
		}
		if ((slot = POLICY_PUSH(&r->keys)) == NULL)
			return -ENOMEM;
		*slot = k;
	}
	if (r->keys.nb == 0) {
		pk_diag_set(diag, "no label is named to go by");
		return -EINVAL;
	}
	return 0;
}

static int
gather(struct recommend *r)
{
	uint32_t nb = policy_query_nb_workloads(r->query);

	for (uint32_t i = 0; i < nb; i++) {
		const struct policy_workload_def **slot = POLICY_PUSH(&r->workloads);

		if (slot == NULL)
			return -ENOMEM;
		*slot = policy_query_workload(r->query, i);
	}
	r->name_of = malloc(((size_t)nb + 1) * sizeof(r->name_of[0]));
	if (r->name_of == NULL)
		return -ENOMEM;
	memset(r->name_of, 0xff, ((size_t)nb + 1) * sizeof(r->name_of[0]));
	return 0;
}

int
policy_recommend(const struct policy_model *m, const struct policy_query *q,
    const struct policy_flow *flows, size_t nb, const char *labels, FILE *f,
    struct policy_recommendation *out, struct pk_diag *diag)
{
	struct recommend r = { .model = m, .query = q };
	int rc = gather(&r);

	*out = (struct policy_recommendation){ 0 };
	if (rc == 0 && labels != NULL)
		rc = read_keys(&r, labels, diag);
	for (size_t i = 0; i < nb && rc == 0; i++) {
		const struct policy_flow *w = &flows[i];

		if (w->src.workload == w->dst.workload) {
			*(w->src.workload == UINT32_MAX ? &out->nb_outside : &out->nb_own) += 1;
			continue;
		}
		rc = add_want(&r, PK_EGRESS, &w->src, &w->dst, w->point);
		if (rc == 0)
			rc = add_want(&r, PK_INGRESS, &w->dst, &w->src, w->point);
		out->nb_used++;
	}
	if (rc == 0 && r.wants.nb > 1)
		qsort(r.wants.at, r.wants.nb, sizeof(r.wants.at[0]), by_want);
	if (rc == 0)
		rc = print_policies(&r, f);
	if (rc == 0)
		rc = print_rest(&r, f);
	if (rc == -ENOMEM)
		pk_diag_set(diag, "out of memory");
	policy_map_fini(&r.name_index);
	free(r.names.at);
	free(r.name_of);
	free(r.keys.at);
	free(r.workloads.at);
	free(r.wants.at);
	policy_arena_fini(&r.arena);
	return rc;
}
