#include "policy/absent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/inventory.h"
#include "policy/k8s.h"

#define NEW_NAMESPACE "~any" /* no namespace may be called so */

struct policy_absent {
	const struct policy_model *model;
	struct policy_arena arena;
	struct policy_inventory inventory;
	struct policy_map tenants, shown; /* names seen */
	POLICY_VECTOR(const char *) tenant_names;
	POLICY_VECTOR(struct policy_workload_def *) all;
	struct policy_ids *ids;
	struct policy_table *table;
	int strict;
};

/* ---- what is there ------------------------------------------------------------------------------- */

static int
note_tenant(struct policy_absent *a, const char *name)
{
	const char **slot;

	if (strcmp(name, POLICY_ALL_TENANTS) == 0 ||
	    policy_map_get_text(&a->tenants, name) != POLICY_MAP_NONE)
		return 0;
	if ((slot = POLICY_PUSH(&a->tenant_names)) == NULL)
		return -ENOMEM;
	*slot = name;
	return policy_map_put_text(&a->tenants, name, 0);
}

static int
survey(struct policy_absent *a)
{
	const struct policy_workload_def *w;
	const struct policy_namespace_def *n;
	const struct policy_tenant_def *t;
	int rc = 0;

	POLICY_EACH(a->model, tenants, t)
	a->strict |= strcmp(t->meta.name, POLICY_TENANT) != 0;
	POLICY_EACH(a->model, workloads, w)
	if (rc == 0)
		rc = note_tenant(a, w->meta.tenant);
	POLICY_EACH(a->model, namespaces, n)
	if (rc == 0)
		rc = note_tenant(a, n->meta.name);
	return rc;
}

/* ---- who is not ---------------------------------------------------------------------------------- */

static struct policy_workload_def *
imagine(struct policy_absent *a, const char *tenant, int imported, const char *shown)
{
	struct policy_workload_def *w = policy_arena_alloc(&a->arena, sizeof(*w)), **slot;

	if (w == NULL || shown == NULL || (slot = POLICY_PUSH(&a->all)) == NULL)
		return NULL;
	*slot = w;
	w->meta.file = "";
	w->meta.tenant = tenant;
	w->meta.name = policy_arena_printf(&a->arena, "~%zu", a->all.nb);
	w->imported = imported != 0;
	w->dpu = "";
	w->owner = shown;
	return w->meta.name != NULL ? w : NULL;
}

static int
imagine_tenants(struct policy_absent *a)
{
	for (size_t i = 0; i < a->tenant_names.nb; i++) {
		const char *t = a->tenant_names.at[i];
		int pods = policy_map_get_text(&a->inventory.namespaces, t) != POLICY_MAP_NONE;
		const struct policy_workload_def *w;

		POLICY_EACH(a->model, workloads, w)
		pods |= w->imported && strcmp(w->meta.tenant, t) == 0;
		if (imagine(a, t, pods, policy_arena_printf(&a->arena, "any workload of %s", t)) ==
		    NULL)
			return -ENOMEM;
	}
	if (a->inventory.has_pods &&
	    imagine(a, NEW_NAMESPACE, 1, "any workload of any namespace") == NULL)
		return -ENOMEM;
	return 0;
}

/* The namespace a selector asks for by name, or one that nobody has made yet. */
static const char *
tenant_for(const struct policy_absent *a, const struct policy_selector *s, const char *tenant)
{
	const char *name = NULL;

	if (strcmp(tenant, POLICY_ALL_TENANTS) != 0)
		return tenant;
	for (uint32_t i = 0; i < s->nb; i++)
		if (strcmp(s->at[i].key, POLICY_K8S_NAME) == 0 && s->at[i].op == POLICY_IN)
			name = s->at[i].values[0];
	if (name != NULL)
		return name;
	return a->inventory.has_pods || !a->strict ? NEW_NAMESPACE : POLICY_TENANT;
}

static int
imagine_selected(struct policy_absent *a, const struct policy_selector *s, const char *tenant)
{
	struct policy_workload_def *w;
	const char *text, *shown;
	int imported = 0;

	if (s->nb == 0 || policy_inventory_selects_any(&a->inventory, s, tenant))
		return 0;
	text = policy_selector_text(&a->arena, s);
	shown = text != NULL ? policy_arena_printf(&a->arena, "%s{%s}",
	                           strcmp(tenant, POLICY_ALL_TENANTS) == 0 ? "*/" : tenant, text)
	                     : NULL;
	if (shown == NULL)
		return -ENOMEM;
	if (policy_map_get_text(&a->shown, shown) != POLICY_MAP_NONE)
		return 0;
	for (uint32_t i = 0; i < s->nb; i++)
		imported |= strcmp(s->at[i].key, POLICY_K8S_NAME) == 0;
	w = imagine(a, tenant_for(a, s, tenant), imported, shown);
	if (w == NULL || policy_map_put_text(&a->shown, shown, 0) < 0)
		return -ENOMEM;
	w->meta.labels.at = policy_arena_array(&a->arena, s->nb, sizeof(w->meta.labels.at[0]));
	if (w->meta.labels.at == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->nb; i++) {
		const struct policy_requirement *q = &s->at[i];

		/* The namespace brings these itself. */
		if ((q->op != POLICY_IN && q->op != POLICY_EXISTS) ||
		    policy_inventory_value(&a->inventory, w, q->key) != NULL)
			continue;
		w->meta.labels.at[w->meta.labels.nb++] =
		    (struct policy_label){ q->key, q->op == POLICY_IN ? q->values[0] : "any" };
	}
	policy_labels_sort(&w->meta.labels);
	/* A selector that contradicts itself selects nobody, ever. */
	if (!policy_inventory_selects(&a->inventory, s, tenant, w))
		a->all.nb--;
	return 0;
}

static int
imagine_peers(struct policy_absent *a, const char *tenant, const struct policy_peers *peers)
{
	int rc = 0;

	for (uint32_t i = 0; i < peers->nb && rc == 0; i++) {
		const struct policy_peer *p = &peers->at[i];

		if (p->kind == POLICY_PEER_WORKLOADS && p->relation == POLICY_RELATION_NONE)
			rc = imagine_selected(
			    a, &p->selector, p->tenant != NULL ? p->tenant : tenant);
	}
	return rc;
}

static int
imagine_all(struct policy_absent *a)
{
	const struct policy_group_def *g;
	const struct policy_def *d;
	int rc = imagine_tenants(a);

	POLICY_EACH(a->model, policies, d)
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
		for (uint32_t r = 0; r < d->rules[dir].nb && rc == 0; r++)
			rc = imagine_peers(a, d->meta.tenant, &d->rules[dir].at[r].peers);
	POLICY_EACH(a->model, groups, g)
	if (rc == 0)
		rc = imagine_peers(a, g->meta.tenant, &g->members);
	return rc;
}

/* ---- beginning and end --------------------------------------------------------------------------- */

int
policy_absent_create(struct policy_absent **out, const struct policy_model *m)
{
	struct policy_absent *a = calloc(1, sizeof(*a));
	int rc;

	*out = NULL;
	if (a == NULL)
		return -ENOMEM;
	a->model = m;
	rc = policy_inventory_init(&a->inventory, m);
	if (rc == 0)
		rc = survey(a);
	if (rc == 0)
		rc = imagine_all(a);
	if (rc == 0)
		rc = policy_ids_create(&a->ids);
	if (rc == 0)
		rc = policy_compile_with(m, a->all.at, a->all.nb, a->ids, &a->table, NULL);
	if (rc < 0) {
		policy_absent_destroy(a);
		return rc;
	}
	*out = a;
	return 0;
}

void
policy_absent_destroy(struct policy_absent *a)
{
	if (a == NULL)
		return;
	policy_table_destroy(a->table);
	policy_ids_destroy(a->ids);
	policy_map_fini(&a->tenants);
	policy_inventory_fini(&a->inventory);
	policy_map_fini(&a->shown);
	free(a->tenant_names.at);
	free(a->all.at);
	policy_arena_fini(&a->arena);
	free(a);
}

const struct policy_table *
policy_absent_table(const struct policy_absent *a)
{
	return a->table;
}

struct policy_workload_def *const *
policy_absent_workloads(const struct policy_absent *a, size_t *nb)
{
	*nb = a->all.nb;
	return a->all.at;
}
