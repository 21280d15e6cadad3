#include "policy/govern.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf.h"
#include "policy/govern_priv.h"
#include "policy/inventory.h"
#include "policy/model_priv.h"

#define BAKE_MAX_S (30 * 86400)

/* ---- reading ------------------------------------------------------------------------------------- */

static const struct {
	const char *word;
	unsigned int may;
} verbs[] = {
	{ "read", POLICY_MAY_READ },
	{ "apply", POLICY_MAY_APPLY },
	{ "rollback", POLICY_MAY_ROLLBACK },
	{ "workloads", POLICY_MAY_WORKLOADS },
	{ "rollout", POLICY_MAY_ROLLOUT },
	{ "audit", POLICY_MAY_AUDIT },
	{ "govern", POLICY_MAY_GOVERN },
};

const char *
policy_may_name(unsigned int may)
{
	for (size_t i = 0; i < PK_COUNT(verbs); i++)
		if (verbs[i].may == may)
			return verbs[i].word;
	return "do that";
}

static void
read_words(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_names *names = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	names->at = policy_reader_alloc(r, n->nb, sizeof(names->at[0]));
	for (uint32_t i = 0; names->at != NULL && i < n->nb; i++) {
		const struct policy_node *item = n->items[i];

		if (item->kind != POLICY_SCALAR || policy_node_is_null(item) || item->text[0] == 0)
			policy_reader_mismatch(r, item);
		else
			names->at[names->nb++] = item->text;
	}
}

static void
read_may(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	const char *known[PK_COUNT(verbs)];
	unsigned int *may = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (size_t k = 0; k < PK_COUNT(verbs); k++)
		known[k] = verbs[k].word;
	for (uint32_t i = 0; i < n->nb; i++) {
		const struct policy_node *item = n->items[i];
		unsigned int bit = 0;

		if (item->kind != POLICY_SCALAR || policy_node_is_null(item)) {
			policy_reader_mismatch(r, item);
			continue;
		}
		for (size_t k = 0; k < PK_COUNT(verbs); k++)
			if (strcmp(verbs[k].word, item->text) == 0)
				bit = verbs[k].may;
		if (bit == 0)
			policy_reader_unknown(
			    r, item, "unknown-word", "may", known, PK_COUNT(known));
		*may |= bit;
	}
}

static void
read_bake(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	uint64_t ns;

	(void)arg;
	if (n->kind != POLICY_SCALAR || pk_conf_parse_duration(n->text, &ns) != 0 ||
	    ns < PK_NS_PER_S || ns > BAKE_MAX_S * PK_NS_PER_S)
		policy_reader_mismatch(r, n);
	else
		*(uint32_t *)out = (uint32_t)(ns / PK_NS_PER_S);
}

static void
read_abort(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_range any = { 0, UINT32_MAX - 1 };
	struct policy_rollout_def *d = out;

	(void)arg;
	d->abort = 1;
	policy_read_uint(r, n, &d->abort_denied, &any);
}

static const struct policy_field canary_fields[] = {
	{ "dpus", "a list of names of DPUs, in which * and ? stand for any", read_words, NULL,
	    offsetof(struct policy_rollout_def, dpus), 0 },
	{ "workloads", "a map of labels", policy_read_selector, NULL,
	    offsetof(struct policy_rollout_def, selector), 0 },
};
static const struct policy_schema canary_schema = POLICY_SCHEMA("a canary", canary_fields);

static void
read_canary(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_rollout_def *d = out;

	(void)arg;
	policy_schema_read(r, n, &canary_schema, out);
	d->by_workloads = policy_node_get(n, "workloads") != NULL;
	if (n->kind == POLICY_MAP && d->dpus.nb == 0 && !d->by_workloads)
		policy_reader_error(r, n, "missing-key",
		    "a canary lacks \"dpus\" or \"workloads\": which DPUs are first");
}

static const struct policy_field rollout_fields[] = {
	{ "canary", "a map with dpus or workloads", read_canary, NULL, 0, 1 },
	{ "bake", "a time from 1s to 30d, such as 10m", read_bake, NULL,
	    offsetof(struct policy_rollout_def, bake_s), 1 },
	{ "abortDenied", "a whole number", read_abort, NULL, 0, 0 },
};
const struct policy_schema policy_rollout_schema =
    POLICY_SCHEMA("a rollout's spec", rollout_fields);

static const struct policy_field role_fields[] = {
	{ "subjects", "a list of operators' names, in which * and ? stand for any", read_words,
	    NULL, offsetof(struct policy_role_def, subjects), 1 },
	{ "may", "a list of read, apply, rollback, workloads, rollout, audit and govern", read_may,
	    NULL, offsetof(struct policy_role_def, may), 1 },
	{ "tenants", "a list of tenants, in which * and ? stand for any", read_words, NULL,
	    offsetof(struct policy_role_def, tenants), 0 },
	{ "tiers", "a list of tiers", read_words, NULL, offsetof(struct policy_role_def, tiers),
	    0 },
};
const struct policy_schema policy_role_schema = POLICY_SCHEMA("a role's spec", role_fields);

/* ---- canaries ------------------------------------------------------------------------------------ */

int
policy_rollout(const struct policy_model *m, struct policy_canary *out)
{
	const struct policy_rollout_def *d;

	POLICY_EACH(m, rollouts, d)
	{
		*out = (struct policy_canary){
			.nb_dpus = d->dpus.nb,
			.dpus = d->dpus.at,
			.workloads = d->by_workloads ? d->text : NULL,
			.bake_s = d->bake_s,
			.abort = d->abort,
			.abort_denied = d->abort_denied,
		};
		return 1;
	}
	return 0;
}

#define VALUES_MAX 64

/* What policy_selector_text() writes, back to a selector; `text` is cut up.  Returns 0 or -EINVAL. */
static int
parse_labels(char *text, struct policy_selector *s, uint32_t max, const char **values)
{
	uint32_t nb_values = 0;
	char *p = text;

	while (*p != '\0') {
		struct policy_requirement *q = &s->at[s->nb];
		char *end;

		if (s->nb++ == max)
			return -EINVAL;
		q->op = *p == '!' ? POLICY_DOES_NOT_EXIST : POLICY_EXISTS;
		p += *p == '!';
		q->key = p;
		q->values = &values[nb_values];
		q->nb = 0;
		p += strcspn(p, ",= ");
		if (p == q->key || (q->op == POLICY_DOES_NOT_EXIST && *p != ',' && *p != '\0'))
			return -EINVAL;
		if (*p == '=') {
			*p++ = '\0';
			q->op = POLICY_IN;
			end = p + strcspn(p, ",");
		} else if (*p == ' ') {
			*p++ = '\0';
			q->op = strncmp(p, "not in (", 8) == 0 ? POLICY_NOT_IN : POLICY_IN;
			if (q->op == POLICY_IN && strncmp(p, "in (", 4) != 0)
				return -EINVAL;
			p = strchr(p, '(') + 1;
			end = strchr(p, ')');
		} else {
			p += *p == ',' ? (*p = '\0', 1) : 0;
			continue;
		}
		if (end == NULL || (end[0] == ')' && end[1] != ',' && end[1] != '\0'))
			return -EINVAL;
		for (;;) {
			size_t len = strcspn(p, ",)");

			if (nb_values == VALUES_MAX)
				return -EINVAL;
			values[nb_values++] = p;
			q->nb++;
			if (p + len >= end)
				break;
			p[len] = '\0';
			p += len + 1;
		}
		p = *end == ')' ? end + 1 : end;
		p += *p == ',';
		*end = '\0';
	}
	return 0;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int
named(const struct policy_canary *c, const char *dpu)
{
	for (size_t i = 0; i < c->nb_dpus; i++)
		if (fnmatch(c->dpus[i], dpu, 0) == 0)
			return 1;
	return 0;
}

int
policy_canary_select(const struct policy_model *m, const struct policy_canary *c,
    const char *const *also, size_t nb_also, void (*each)(void *arg, const char *dpu), void *arg,
    struct pk_diag *diag)
{
	struct policy_requirement req[32];
	const char *values[VALUES_MAX], **found = NULL;
	struct policy_selector selector = { .at = req };
	struct policy_inventory v;
	const struct policy_workload_def *w;
	char *text = strdup(c->workloads != NULL ? c->workloads : "");
	size_t nb = 0;
	int err = policy_inventory_init(&v, m);

	if (err == 0 && text == NULL)
		err = -ENOMEM;
	if (err == 0 && (err = parse_labels(text, &selector, PK_COUNT(req), values)) != 0)
		pk_diag_set(diag, "\"%s\": want labels such as app=web,env in (prod,stage),!legacy",
		    c->workloads);
	if (err == 0)
		found = calloc(v.nb_workloads + nb_also + 1, sizeof(found[0]));
	if (err == 0 && found == NULL)
		err = -ENOMEM;
	if (err != 0)
		goto out;
	for (size_t i = 0; i < nb_also; i++)
		if (named(c, also[i]))
			found[nb++] = also[i];
	POLICY_EACH(m, workloads, w)
	if (w->dpu[0] != '\0' && nb < v.nb_workloads + nb_also &&
	    (named(c, w->dpu) ||
	        (c->workloads != NULL &&
	            policy_inventory_selects(&v, &selector, POLICY_ALL_TENANTS, w))))
		found[nb++] = w->dpu;
	qsort(found, nb, sizeof(found[0]), by_text);
	for (size_t i = 0; i < nb; i++)
		if (i == 0 || strcmp(found[i - 1], found[i]) != 0)
			each(arg, found[i]);
out:
	policy_inventory_fini(&v);
	free(found);
	free(text);
	return err;
}

/* ---- roles --------------------------------------------------------------------------------------- */

struct role {
	const char *name;
	struct policy_names subjects, tenants, tiers;
	unsigned int may;
};

struct policy_roles {
	struct policy_arena arena;
	size_t nb;
	struct role *at;
};

static int
copy_names(struct policy_arena *a, struct policy_names *to, const struct policy_names *from)
{
	to->at = policy_arena_array(a, from->nb + 1U, sizeof(to->at[0]));
	for (uint32_t i = 0; to->at != NULL && i < from->nb; i++) {
		to->at[i] = policy_arena_printf(a, "%s", from->at[i]);
		if (to->at[i] == NULL)
			return -ENOMEM;
		to->nb++;
	}
	return to->at != NULL ? 0 : -ENOMEM;
}

int
policy_roles_create(struct policy_roles **out, const struct policy_model *m)
{
	struct policy_roles *r = calloc(1, sizeof(*r));
	const struct policy_role_def *d;
	size_t n = 0;

	if (r == NULL)
		return -ENOMEM;
	if (m == NULL) {
		/* One of nobody. */
		r->at = policy_arena_array(&r->arena, 1, sizeof(r->at[0]));
		if (r->at == NULL)
			goto fail;
		r->nb = 1;
		*out = r;
		return 0;
	}
	POLICY_EACH(m, roles, d)
	n++;
	r->at = policy_arena_array(&r->arena, n + 1, sizeof(r->at[0]));
	if (r->at == NULL)
		goto fail;
	POLICY_EACH(m, roles, d)
	{
		struct role *o = &r->at[r->nb++];

		o->may = d->may;
		o->name = policy_arena_printf(&r->arena, "%s", d->meta.name);
		if (o->name == NULL || copy_names(&r->arena, &o->subjects, &d->subjects) != 0 ||
		    copy_names(&r->arena, &o->tenants, &d->tenants) != 0 ||
		    copy_names(&r->arena, &o->tiers, &d->tiers) != 0)
			goto fail;
	}
	*out = r;
	return 0;
fail:
	policy_roles_destroy(r);
	return -ENOMEM;
}

void
policy_roles_destroy(struct policy_roles *r)
{
	if (r == NULL)
		return;
	policy_arena_fini(&r->arena);
	free(r);
}

static int
matches(const struct policy_names *names, const char *name)
{
	for (uint32_t i = 0; i < names->nb; i++)
		if (fnmatch(names->at[i], name, 0) == 0)
			return 1;
	return 0;
}

/* What is not said is not limited.  What holds for all tenants needs a role that does. */
static int
covers_tenant(const struct role *o, const char *tenant)
{
	if (o->tenants.nb == 0)
		return 1;
	if (strcmp(tenant, POLICY_ALL_TENANTS) != 0)
		return matches(&o->tenants, tenant);
	for (uint32_t i = 0; i < o->tenants.nb; i++)
		if (strcmp(o->tenants.at[i], "*") == 0)
			return 1;
	return 0;
}

/* `tenant` and `tier` NULL: for any. */
static int
may(const struct policy_roles *r, const char *who, unsigned int bit, const char *tenant,
    const char *tier)
{
	if (r == NULL || r->nb == 0 || strcmp(who, POLICY_ADMIN) == 0)
		return 1;
	for (size_t i = 0; i < r->nb; i++) {
		const struct role *o = &r->at[i];

		if ((o->may & bit) != 0 && matches(&o->subjects, who) &&
		    (tenant == NULL || covers_tenant(o, tenant)) &&
		    (tier == NULL || o->tiers.nb == 0 || matches(&o->tiers, tier)))
			return 1;
	}
	return 0;
}

int
policy_roles_may(const struct policy_roles *r, const char *who, unsigned int bit)
{
	return may(r, who, bit, NULL, NULL);
}

static int
refuse(struct pk_diag *diag, const char *who, unsigned int bit, const char *kind,
    const struct policy_meta *m, const char *tier)
{
	if (tier != NULL)
		pk_diag_set(diag,
		    "no role of operator \"%s\" has %s for tier %s of tenant \"%s\" (%s \"%s\")",
		    who, policy_may_name(bit), tier, m->tenant, kind, m->name);
	else
		pk_diag_set(diag, "no role of operator \"%s\" has %s for tenant \"%s\" (%s \"%s\")",
		    who, policy_may_name(bit), m->tenant, kind, m->name);
	return -EPERM;
}

static int
refuse_global(struct pk_diag *diag, const char *who, unsigned int bit, const char *kind,
    const struct policy_meta *m)
{
	pk_diag_set(diag, "no role of operator \"%s\" has %s (%s \"%s\")", who,
	    policy_may_name(bit), kind, m->name);
	return -EPERM;
}

static int
check_objects(const struct policy_roles *r, const char *who, unsigned int bit,
    const struct policy_objects *o, struct pk_diag *diag)
{
	/* A role that is limited to some tiers still writes what its tenant's policies name. */
#define TENANT_KIND(vector, word, b)                                     \
	for (size_t i = 0; i < o->vector.nb; i++)                        \
		if (!may(r, who, b, o->vector.at[i]->meta.tenant, NULL)) \
	return refuse(diag, who, b, word, &o->vector.at[i]->meta, NULL)
#define GLOBAL_KIND(vector, word, b)                           \
	for (size_t i = 0; i < o->vector.nb; i++)              \
		if (!may(r, who, b, POLICY_ALL_TENANTS, NULL)) \
	return refuse_global(diag, who, b, word, &o->vector.at[i]->meta)
	for (size_t i = 0; i < o->policies.nb; i++) {
		const struct policy_def *p = o->policies.at[i];

		if (!may(r, who, bit, p->meta.tenant, p->tier))
			return refuse(diag, who, bit,
			    p->meta.kind != NULL ? p->meta.kind : "Policy", &p->meta, p->tier);
	}
	TENANT_KIND(groups, "Group", bit);
	TENANT_KIND(services, "Service", bit);
	TENANT_KIND(workloads, "Workload", POLICY_MAY_WORKLOADS);
	TENANT_KIND(hosts, "Pod", POLICY_MAY_WORKLOADS);
	GLOBAL_KIND(namespaces, "Namespace", POLICY_MAY_WORKLOADS);
	GLOBAL_KIND(nodes, "Node", POLICY_MAY_WORKLOADS);
	GLOBAL_KIND(tiers, "Tier", POLICY_MAY_GOVERN);
	GLOBAL_KIND(tenants, "Tenant", POLICY_MAY_GOVERN);
	GLOBAL_KIND(roles, "Role", POLICY_MAY_GOVERN);
	GLOBAL_KIND(references, "Reference", POLICY_MAY_GOVERN);
	GLOBAL_KIND(links, "Link", POLICY_MAY_GOVERN);
	GLOBAL_KIND(rollouts, "Rollout", POLICY_MAY_ROLLOUT);
#undef TENANT_KIND
#undef GLOBAL_KIND
	return 0;
}

int
policy_roles_change(const struct policy_roles *r, const char *who, unsigned int bit,
    const char *old, size_t old_len, const char *now, size_t now_len, struct pk_diag *diag)
{
	const struct {
		const char *text;
		size_t len;
	} side[] = { { old, old_len }, { now, now_len } };
	struct policy_arena scratch = { 0 };
	int err = 0;

	if (r == NULL || r->nb == 0 || strcmp(who, POLICY_ADMIN) == 0)
		return 0;
	for (size_t i = 0; err == 0 && i < PK_COUNT(side); i++) {
		struct policy_findings *f;
		struct policy_source *s;

		if (side[i].text == NULL)
			continue;
		if (policy_findings_create(&f) != 0) {
			err = -ENOMEM;
			break;
		}
		err = policy_source_create(&s, "", side[i].text, side[i].len, &scratch, f);
		policy_findings_destroy(f);
		if (err == 0) {
			err = check_objects(r, who, bit, &s->objects, diag);
			policy_source_destroy(s);
		} else if (err == -EINVAL) {
			err = 0; /* whoever compiles it says what is wrong */
		}
	}
	policy_arena_fini(&scratch);
	return err;
}
