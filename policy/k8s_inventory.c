#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/k8s_priv.h"

/* Pods, Namespaces and Nodes: what is where, and what it is called. */

/* ---- addresses ----------------------------------------------------------------------------------- */

static int
has_address(const struct policy_addresses *l, const struct pk_addr *a)
{
	for (uint32_t i = 0; i < l->nb; i++)
		if (pk_addr_compare(&l->at[i].addr, a) == 0)
			return 1;
	return 0;
}

/* `l` has room for one more. */
static void
add_address(struct policy_reader *r, const struct policy_node *n, struct policy_addresses *l)
{
	struct pk_addr a;
	struct pk_diag diag;

	if (n == NULL || n->text[0] == '\0')
		return;
	if (pk_addr_parse(&a, n->text, &diag) < 0) {
		policy_reader_error(r, n, "bad-address", "%s", diag.text);
		return;
	}
	/* podIP is the first of podIPs once more. */
	if (has_address(l, &a))
		return;
	l->at[l->nb++] = (struct policy_address){ .addr = a, .line = n->line, .column = n->column };
}

static void
read_pod_addresses(
    struct policy_reader *r, const struct policy_node *status, struct policy_addresses *l)
{
	const struct policy_node *list = policy_k8s_list(r, status, "podIPs");

	l->at = policy_reader_alloc(r, (list != NULL ? list->nb : 0) + 1, sizeof(l->at[0]));
	if (l->at == NULL)
		return;
	add_address(r, policy_k8s_word(r, status, "podIP"), l);
	for (uint32_t i = 0; list != NULL && i < list->nb; i++)
		if (policy_k8s_is_map(r, list->items[i], "podIPs"))
			add_address(r, policy_k8s_word(r, list->items[i], "ip"), l);
}

/* ---- ports --------------------------------------------------------------------------------------- */

static int
by_port(const void *va, const void *vb)
{
	const struct policy_port *a = va, *b = vb;
	int d = strcmp(a->name, b->name);

	if (d == 0)
		d = (a->proto > b->proto) - (a->proto < b->proto);
	return d != 0 ? d : (a->port > b->port) - (a->port < b->port);
}

static void
read_container_ports(
    struct policy_reader *r, const struct policy_node *ports, struct policy_ports *out)
{
	struct policy_port *at = policy_reader_alloc(r, (size_t)out->nb + ports->nb, sizeof(at[0]));

	if (at == NULL)
		return;
	if (out->nb > 0)
		memcpy(at, out->at, out->nb * sizeof(at[0]));
	out->at = at;
	for (uint32_t i = 0; i < ports->nb; i++) {
		const struct policy_node *p = ports->items[i], *name;
		struct policy_port port;
		int64_t number;

		if (!policy_k8s_is_map(r, p, "ports"))
			continue;
		number = policy_k8s_number(r, p, "containerPort", 1, 65535);
		port.proto = policy_k8s_protocol(r, policy_k8s_get(p, "protocol"));
		name = policy_k8s_word(r, p, "name");
		/* A port without a name opens nothing and closes nothing. */
		if (name == NULL || name->text[0] == '\0' || number < 0 || port.proto == 0)
			continue;
		if (!policy_k8s_port_name_ok(name->text)) {
			policy_reader_error(r, name, "bad-value",
			    "\"%.64s\" is not a name for a port: at most 15 lower-case letters and digits with - between them, and a letter among them",
			    name->text);
			continue;
		}
		port.name = name->text;
		port.port = (uint16_t)number;
		out->at[out->nb++] = port;
	}
}

static void
read_containers(struct policy_reader *r, const struct policy_node *spec, const char *key,
    struct policy_ports *out)
{
	const struct policy_node *list = policy_k8s_list(r, spec, key), *ports, *restart;

	for (uint32_t i = 0; list != NULL && i < list->nb; i++) {
		if (!policy_k8s_is_map(r, list->items[i], key))
			continue;
		/* Of those that run before the others only a sidecar is there to be talked to. */
		restart = policy_k8s_word(r, list->items[i], "restartPolicy");
		if (strcmp(key, "initContainers") == 0 &&
		    (restart == NULL || strcmp(restart->text, "Always") != 0))
			continue;
		ports = policy_k8s_list(r, list->items[i], "ports");
		if (ports != NULL)
			read_container_ports(r, ports, out);
	}
}

static void
unique_ports(struct policy_ports *p)
{
	uint32_t kept = 0;

	if (p->nb < 2)
		return;
	qsort(p->at, p->nb, sizeof(p->at[0]), by_port);
	for (uint32_t i = 0; i < p->nb; i++)
		if (kept == 0 || by_port(&p->at[kept - 1], &p->at[i]) != 0)
			p->at[kept++] = p->at[i];
	p->nb = kept;
}

/* ---- owners -------------------------------------------------------------------------------------- */

/* What made the Pod: the owner that controls it, or the first.  Like Pods of one owner are shown as one. */
static const char *
read_owner(struct policy_reader *r, const struct policy_node *meta)
{
	const struct policy_node *list = policy_k8s_list(r, meta, "ownerReferences"), *best = NULL;
	const struct policy_node *kind, *name, *controller;
	const char *text;

	for (uint32_t i = 0; list != NULL && i < list->nb; i++) {
		if (!policy_k8s_is_map(r, list->items[i], "ownerReferences"))
			return NULL;
		controller = policy_k8s_word(r, list->items[i], "controller");
		if (best == NULL || (controller != NULL && strcmp(controller->text, "true") == 0))
			best = list->items[i];
	}
	kind = policy_k8s_word(r, best, "kind");
	name = policy_k8s_word(r, best, "name");
	if (kind == NULL || name == NULL)
		return NULL;
	text = policy_arena_printf(r->arena, "%s[%s]", name->text, kind->text);
	if (text == NULL)
		r->nomem = 1;
	return text;
}

/* ---- kinds --------------------------------------------------------------------------------------- */

/*
 * A Pod that has ended may have left its address to another one.  A Pod on its node's network has no
 * address of its own: no selector finds it (the API leaves that open, and says so for
 * ClusterNetworkPolicy), and networks judge it by the node's address.
 */
void
policy_k8s_read_pod(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	const struct policy_node *meta, *spec, *status, *phase, *host, *node;
	struct policy_workload_def *w = policy_reader_alloc(r, 1, sizeof(*w));
	unsigned int errors = r->errors;

	if (w == NULL || policy_k8s_meta(r, doc, &w->meta, 1) < 0)
		return;
	meta = policy_k8s_map(r, doc, "metadata");
	spec = policy_k8s_map(r, doc, "spec");
	status = policy_k8s_map(r, doc, "status");
	phase = policy_k8s_word(r, status, "phase");
	host = policy_k8s_word(r, spec, "hostNetwork");
	node = policy_k8s_word(r, spec, "nodeName");
	w->imported = 1;
	/* The DPU in front of a node bears the node's name. */
	w->dpu = node != NULL && policy_name_ok(node->text) ? node->text : "";
	w->owner = read_owner(r, meta);
	policy_k8s_labels(r, policy_k8s_map(r, meta, "labels"), "", &w->meta.labels);
	read_pod_addresses(r, status, &w->addresses);
	read_containers(r, spec, "containers", &w->ports);
	read_containers(r, spec, "initContainers", &w->ports);
	if (strlen(w->meta.tenant) + 1 + strlen(w->meta.name) >= PK_NAME_MAX)
		policy_reader_error(r, meta, "bad-value",
		    "namespace and name together are longer than %d letters", PK_NAME_MAX - 2);
	if (r->errors != errors || r->nomem)
		return;
	unique_ports(&w->ports);
	policy_labels_sort(&w->meta.labels);
	if (phase != NULL &&
	    (strcmp(phase->text, "Succeeded") == 0 || strcmp(phase->text, "Failed") == 0))
		return;
	if (host != NULL && strcmp(host->text, "true") == 0)
		POLICY_K8S_FILE(r, &o->hosts, w);
	else
		POLICY_K8S_FILE(r, &o->workloads, w);
}

void
policy_k8s_read_namespace(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	struct policy_namespace_def *ns = policy_reader_alloc(r, 1, sizeof(*ns));
	unsigned int errors = r->errors;
	struct policy_labels *l;
	uint32_t i = 0;

	if (ns == NULL || policy_k8s_meta(r, doc, &ns->meta, 0) < 0)
		return;
	l = &ns->meta.labels;
	policy_k8s_labels(r, policy_k8s_map(r, policy_k8s_map(r, doc, "metadata"), "labels"),
	    POLICY_K8S_NAMESPACE, l);
	if (!policy_k8s_label_ok(ns->meta.name))
		policy_reader_error(r, policy_k8s_map(r, doc, "metadata"), "bad-value",
		    "the name of a namespace is at most 63 lower-case letters and digits with - between them, not \"%.64s\"",
		    ns->meta.name);
	if (r->errors != errors || r->nomem)
		return;
	/* The API server sets this label, whatever somebody wrote. */
	while (i < l->nb && strcmp(l->at[i].key, POLICY_K8S_NAME) != 0)
		i++;
	l->at[i] = (struct policy_label){ POLICY_K8S_NAME, ns->meta.name };
	if (i == l->nb)
		l->nb++;
	policy_labels_sort(l);
	POLICY_K8S_FILE(r, &o->namespaces, ns);
}

void
policy_k8s_read_node(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	struct policy_node_def *node = policy_reader_alloc(r, 1, sizeof(*node));
	const struct policy_node *list;
	unsigned int errors = r->errors;

	if (node == NULL || policy_k8s_meta(r, doc, &node->meta, 0) < 0)
		return;
	policy_k8s_labels(r, policy_k8s_map(r, policy_k8s_map(r, doc, "metadata"), "labels"), "",
	    &node->meta.labels);
	list = policy_k8s_list(r, policy_k8s_map(r, doc, "status"), "addresses");
	node->addresses.at =
	    policy_reader_alloc(r, list != NULL ? list->nb : 0, sizeof(node->addresses.at[0]));
	for (uint32_t i = 0; list != NULL && node->addresses.at != NULL && i < list->nb; i++) {
		const struct policy_node *type, *address;

		if (!policy_k8s_is_map(r, list->items[i], "addresses"))
			continue;
		type = policy_k8s_word(r, list->items[i], "type");
		address = policy_k8s_word(r, list->items[i], "address");
		/* The other types are names. */
		if (type != NULL &&
		    (strcmp(type->text, "InternalIP") == 0 ||
		        strcmp(type->text, "ExternalIP") == 0))
			add_address(r, address, &node->addresses);
	}
	if (r->errors == errors && !r->nomem)
		POLICY_K8S_FILE(r, &o->nodes, node);
}
