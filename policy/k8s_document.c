#include <string.h>

#include "policy/k8s_priv.h"

/* Which reader a document is for, and lists of documents. */

#define API_OURS "picket.io/"

static const struct {
	const char *api, *kind;
	policy_k8s_reader *read; /* NULL: nothing in it bears on policy */
} kinds[] = {
	{ "v1", "Pod", policy_k8s_read_pod },
	{ "v1", "Namespace", policy_k8s_read_namespace },
	{ "v1", "Node", policy_k8s_read_node },
	{ "v1", "Service", NULL },
	{ "networking.k8s.io/v1", "NetworkPolicy", policy_k8s_read_netpol },
	{ "networking.k8s.io/v1", "Ingress", NULL },
	{ "networking.k8s.io/v1", "IngressClass", NULL },
	{ "networking.k8s.io/v1", "IPAddress", NULL },
	{ "networking.k8s.io/v1", "ServiceCIDR", NULL },
	{ "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", policy_k8s_read_anp },
	{ "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", policy_k8s_read_banp },
	{ "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", policy_k8s_read_cnp },
	{ "policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy", policy_k8s_read_cnp },
};

/*
 * Groups whose other kinds may stand in a dump and say nothing about who may talk to whom: a
 * Deployment's Pods are there as Pods.  What is in none of these may be a policy we cannot read.
 */
static const char *const harmless[] = { "v1", "apps/v1", "batch/v1", "autoscaling/v1",
	"autoscaling/v2", "policy/v1", "rbac.authorization.k8s.io/v1", "discovery.k8s.io/v1",
	"coordination.k8s.io/v1", "events.k8s.io/v1", "storage.k8s.io/v1", "scheduling.k8s.io/v1",
	"node.k8s.io/v1", "apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1",
	"admissionregistration.k8s.io/v1" };

int
policy_k8s_is(const struct policy_node *doc)
{
	const struct policy_node *api = policy_node_get(doc, "apiVersion");

	return api != NULL && api->kind == POLICY_SCALAR &&
	    strncmp(api->text, API_OURS, strlen(API_OURS)) != 0;
}

static int
is_harmless(const char *api)
{
	for (size_t i = 0; i < PK_COUNT(harmless); i++)
		if (strcmp(api, harmless[i]) == 0)
			return 1;
	return 0;
}

/* Said once for each kind: a dump may hold thousands of one. */
static void
leave_out(struct policy_reader *r, const struct policy_node *at, const char *kind)
{
	for (unsigned int i = 0; i < r->nb_ignored; i++)
		if (strcmp(r->ignored[i], kind) == 0)
			return;
	if (r->nb_ignored < POLICY_IGNORED_MAX)
		r->ignored[r->nb_ignored++] = kind;
	policy_reader_warn(r, at, "ignored",
	    "kind %.64s says nothing about who may talk to whom; all objects of it are left out",
	    kind);
}

static void
read_one(struct policy_reader *r, const struct policy_node *doc, const char *api, const char *kind,
    const struct policy_node *at, struct policy_objects *o)
{
	for (size_t i = 0; i < PK_COUNT(kinds); i++) {
		if (strcmp(kinds[i].api, api) != 0 || strcmp(kinds[i].kind, kind) != 0)
			continue;
		if (kinds[i].read != NULL && policy_k8s_is_map(r, doc, kind))
			kinds[i].read(r, doc, o);
		return;
	}
	for (size_t i = 0; i < PK_COUNT(kinds); i++) {
		if (strcmp(kinds[i].kind, kind) != 0)
			continue;
		policy_reader_error(r, at, "unsupported",
		    "apiVersion \"%.64s\" of %s is not supported by this version; want %s", api,
		    kind, kinds[i].api);
		return;
	}
	if (is_harmless(api))
		leave_out(r, at, kind);
	else
		policy_reader_error(r, at, "unsupported",
		    "kind \"%.64s\" of apiVersion \"%.64s\" is not supported by this version", kind,
		    api);
}

/* v1 List has whole objects; PodList and the like leave kind and apiVersion out of each. */
static void
read_items(struct policy_reader *r, const struct policy_node *doc, const char *api,
    const char *kind, struct policy_objects *o)
{
	const struct policy_node *items = policy_k8s_list(r, doc, "items");

	for (uint32_t i = 0;
	     items != NULL && i < items->nb && r->errors < POLICY_ERRORS_MAX && !r->nomem; i++) {
		const struct policy_node *item = items->items[i];

		if (!policy_k8s_is_map(r, item, "items"))
			continue;
		if (kind == NULL || policy_node_get(item, "kind") != NULL)
			policy_document_read(r, item, o);
		else
			read_one(r, item, api, kind, item, o);
	}
}

void
policy_k8s_read(struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	const struct policy_node *api = policy_k8s_word(r, doc, "apiVersion");
	const struct policy_node *kind = policy_k8s_word(r, doc, "kind");
	size_t len;
	char *inner;

	if (api == NULL || kind == NULL) {
		policy_reader_error(r, doc, "missing-key",
		    "a document lacks \"%s\": a kind such as NetworkPolicy or Pod",
		    api == NULL ? "apiVersion" : "kind");
		return;
	}
	len = strlen(kind->text);
	if (strcmp(kind->text, "List") == 0) {
		read_items(r, doc, api->text, NULL, o);
	} else if (len > 4 && strcmp(kind->text + len - 4, "List") == 0) {
		inner = policy_arena_text(r->arena, kind->text);
		if (inner == NULL) {
			r->nomem = 1;
			return;
		}
		inner[len - 4] = '\0';
		read_items(r, doc, api->text, inner, o);
	} else {
		read_one(r, doc, api->text, kind->text, kind, o);
	}
}
