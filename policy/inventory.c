#include "policy/inventory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/k8s.h"

int
policy_inventory_init(struct policy_inventory *v, const struct policy_model *m)
{
	const struct policy_namespace_def *n;
	const struct policy_workload_def *w;

	*v = (struct policy_inventory){ .model = m };
	POLICY_EACH(m, workloads, w)
	{
		v->nb_workloads++;
		v->has_pods |= w->imported;
	}
	POLICY_EACH(m, namespaces, n)
	{
		const struct policy_namespace_def **slot;

		v->has_pods = 1;
		if (policy_map_get_text(&v->namespaces, n->meta.name) != POLICY_MAP_NONE)
			continue;
		if ((slot = POLICY_PUSH(&v->spaces)) == NULL ||
		    policy_map_put_text(&v->namespaces, n->meta.name, (uint32_t)v->spaces.nb - 1) <
		        0)
			return -ENOMEM;
		*slot = n;
	}
	return 0;
}

void
policy_inventory_fini(struct policy_inventory *v)
{
	policy_map_fini(&v->namespaces);
	free(v->spaces.at);
}

static const char *
label_of(const struct policy_labels *l, const char *key)
{
	for (uint32_t i = 0; i < l->nb; i++)
		if (strcmp(l->at[i].key, key) == 0)
			return l->at[i].value;
	return NULL;
}

const char *
policy_inventory_value(
    const struct policy_inventory *v, const struct policy_workload_def *w, const char *key)
{
	const char *value = label_of(&w->meta.labels, key);
	uint32_t ns;

	if (value != NULL || !w->imported)
		return value;
	ns = policy_map_get_text(&v->namespaces, w->meta.tenant);
	if (ns != POLICY_MAP_NONE)
		return label_of(&v->spaces.at[ns]->meta.labels, key);
	return strcmp(key, POLICY_K8S_NAME) == 0 ? w->meta.tenant : NULL;
}

static int
holds(const struct policy_requirement *q, const char *value)
{
	int in = 0;

	for (uint32_t k = 0; value != NULL && k < q->nb; k++)
		in |= strcmp(value, q->values[k]) == 0;
	switch (q->op) {
	case POLICY_IN:
		return in;
	case POLICY_NOT_IN:
		return !in;
	case POLICY_EXISTS:
		return value != NULL;
	case POLICY_DOES_NOT_EXIST:
		return value == NULL;
	}
	return 0;
}

int
policy_inventory_selects(const struct policy_inventory *v, const struct policy_selector *s,
    const char *tenant, const struct policy_workload_def *w)
{
	if (strcmp(tenant, POLICY_ALL_TENANTS) != 0 && strcmp(tenant, w->meta.tenant) != 0)
		return 0;
	for (uint32_t i = 0; i < s->nb; i++)
		if (!holds(&s->at[i], policy_inventory_value(v, w, s->at[i].key)))
			return 0;
	return 1;
}

int
policy_inventory_selects_any(
    const struct policy_inventory *v, const struct policy_selector *s, const char *tenant)
{
	const struct policy_workload_def *w;

	POLICY_EACH(v->model, workloads, w)
	if (policy_inventory_selects(v, s, tenant, w))
		return 1;
	return 0;
}
