#include <stdio.h>
#include <string.h>

#include "policy/k8s_priv.h"
#include "policy/network.h"

/*
 * networking.k8s.io/v1 NetworkPolicy.
 *
 * All of them only allow, and a Pod that one selects for a direction is denied what none allows: that
 * is our tier `application`, so they stand there, after all policies that say how they rank.
 */
#define PRIORITY 1000001 /* one more than ours may have */

/* A selector of the policy's own namespace. */
static void
select_own(
    struct policy_reader *r, const struct policy_node *n, const char *ns, struct policy_peer *p)
{
	p->kind = POLICY_PEER_WORKLOADS;
	p->tenant = ns;
	policy_k8s_select(r, n, "", &p->selector);
	policy_k8s_select_name(r, ns, &p->selector);
	policy_k8s_select_end(&p->selector);
}

static void
read_ip_block(struct policy_reader *r, const struct policy_node *n, struct policy_peer *p)
{
	static const char *const known[] = { "cidr", "except" };
	const struct policy_node *cidr, *except;
	char text[PK_PREFIX_TEXT];

	policy_k8s_keys(r, n, known, PK_COUNT(known));
	cidr = policy_k8s_word(r, n, "cidr");
	except = policy_k8s_list(r, n, "except");
	p->kind = POLICY_PEER_NETWORKS;
	if (cidr == NULL) {
		policy_reader_error(r, n, "missing-key",
		    "\"ipBlock\" lacks \"cidr\": a network such as 192.0.2.0/24");
		return;
	}
	p->networks.at = policy_reader_alloc(r, 1, sizeof(p->networks.at[0]));
	p->except.at =
	    policy_reader_alloc(r, except != NULL ? except->nb : 0, sizeof(p->except.at[0]));
	if (p->networks.at == NULL || p->except.at == NULL ||
	    policy_k8s_prefix(r, cidr, &p->networks.at[0]) < 0)
		return;
	p->networks.nb = 1;
	for (uint32_t i = 0; except != NULL && i < except->nb; i++) {
		struct pk_prefix *e = &p->except.at[p->except.nb];

		if (policy_k8s_prefix(r, except->items[i], e) < 0)
			continue;
		/* "Except values will be rejected if they are outside the cidr range"; and what
		 * excepts everything is refused by the API server as well. */
		if (!policy_prefix_covers(&p->networks.at[0], e) || e->len <= p->networks.at[0].len)
			policy_reader_error(r, except->items[i], "except-outside",
			    "except: %s must lie inside %s and be smaller", pk_prefix_text(e, text),
			    cidr->text);
		else
			p->except.nb++;
	}
}

static void
read_peer(
    struct policy_reader *r, const struct policy_node *n, const char *ns, struct policy_peer *p)
{
	static const char *const known[] = { "podSelector", "namespaceSelector", "ipBlock" };
	const struct policy_node *pods, *namespaces, *block;

	p->line = n->line;
	p->column = n->column;
	if (!policy_k8s_is_map(r, n, "peer"))
		return;
	policy_k8s_keys(r, n, known, PK_COUNT(known));
	if (policy_k8s_stranger(n, known, PK_COUNT(known)) != NULL)
		return;
	pods = policy_k8s_map(r, n, "podSelector");
	namespaces = policy_k8s_map(r, n, "namespaceSelector");
	block = policy_k8s_map(r, n, "ipBlock");
	if (pods == NULL && namespaces == NULL && block == NULL) {
		policy_reader_error(r, n, "bad-peer",
		    "a peer has podSelector, namespaceSelector or ipBlock; this has none");
	} else if (block != NULL && (pods != NULL || namespaces != NULL)) {
		policy_reader_error(r, n, "bad-peer",
		    "a peer with ipBlock has neither podSelector nor namespaceSelector");
	} else if (block != NULL) {
		read_ip_block(r, block, p);
	} else if (namespaces == NULL) {
		select_own(r, pods, ns, p);
	} else {
		p->kind = POLICY_PEER_WORKLOADS;
		policy_k8s_select(r, namespaces, POLICY_K8S_NAMESPACE, &p->selector);
		policy_k8s_select(r, pods, "", &p->selector);
		policy_k8s_select_name(r, NULL, &p->selector);
		policy_k8s_select_end(&p->selector);
		p->tenant = policy_k8s_selected_name(&p->selector);
		if (p->tenant == NULL)
			p->tenant = POLICY_ALL_TENANTS;
	}
}

/* "If this field is empty or missing, this rule matches all sources/destinations." */
static void
read_peers(struct policy_reader *r, const struct policy_node *rule, const char *key, const char *ns,
    struct policy_peers *out)
{
	const struct policy_node *list = policy_k8s_list(r, rule, key);

	if (list != NULL && list->nb == 0)
		policy_reader_warn(r, list, "empty-peers",
		    "\"%s: []\" is everybody, as if it were left out, and not nobody", key);
	out->any = list == NULL || list->nb == 0;
	if (out->any)
		return;
	out->at = policy_reader_alloc(r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb; i++)
		read_peer(r, list->items[i], ns, &out->at[out->nb++]);
}

static void
read_port(struct policy_reader *r, const struct policy_node *n, struct policy_services *out)
{
	static const char *const known[] = { "protocol", "port", "endPort" };
	const struct policy_node *port, *end;
	int64_t low, high;
	uint8_t proto;

	if (!policy_k8s_is_map(r, n, "ports"))
		return;
	policy_k8s_keys(r, n, known, PK_COUNT(known));
	proto = policy_k8s_protocol(r, policy_k8s_get(n, "protocol"));
	port = policy_k8s_word(r, n, "port");
	end = policy_k8s_get(n, "endPort");
	if (proto == 0)
		return;
	if (port == NULL) {
		/* "If this field is not provided, this matches all port names and numbers." */
		if (end != NULL)
			policy_reader_error(
			    r, end, "bad-value", "\"endPort\" goes with \"port\" only");
		else
			policy_k8s_add_range(out, n, proto, 0, 65535);
		return;
	}
	if (port->plain && port->text[strspn(port->text, "0123456789-")] == '\0') {
		low = high = policy_k8s_number(r, n, "port", 1, 65535);
		if (end != NULL)
			high = policy_k8s_number(r, n, "endPort", 1, 65535);
		if (low < 0 || high < 0)
			return;
		if (high < low)
			policy_reader_error(r, end, "bad-value",
			    "\"endPort\" %lld is below \"port\" %lld", (long long)high,
			    (long long)low);
		else
			policy_k8s_add_range(out, n, proto, (uint16_t)low, (uint16_t)high);
	} else if (!policy_k8s_port_name_ok(port->text)) {
		policy_reader_error(r, port, "bad-value",
		    "\"%.64s\" is not a name for a port: at most 15 lower-case letters and digits with - between them, and a letter among them",
		    port->text);
	} else if (end != NULL) {
		policy_reader_error(r, end, "bad-value",
		    "\"endPort\" goes with a number in \"port\", not with the name \"%s\"",
		    port->text);
	} else {
		policy_k8s_add_named(out, n, proto, port->text);
	}
}

/* "If this field is empty or missing, this rule matches all ports." */
static void
read_ports(struct policy_reader *r, const struct policy_node *rule, struct policy_services *out)
{
	const struct policy_node *list = policy_k8s_list(r, rule, "ports");

	if (list != NULL && list->nb == 0)
		policy_reader_warn(r, list, "empty-ports",
		    "\"ports: []\" is every port, as if it were left out, and not none");
	out->any = list == NULL || list->nb == 0;
	if (out->any)
		return;
	out->at = policy_reader_alloc(r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb; i++)
		read_port(r, list->items[i], out);
}

static void
read_rules(struct policy_reader *r, const struct policy_node *list, int dir, const char *ns,
    struct policy_rules_def *out)
{
	const char *const known[] = { dir == PK_INGRESS ? "from" : "to", "ports" };

	if (list == NULL)
		return;
	out->at = policy_reader_alloc(r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb; i++) {
		const struct policy_node *n = list->items[i];
		struct policy_rule_def *rule = &out->at[out->nb++];

		rule->line = n->line;
		rule->column = n->column;
		rule->action = PK_VERDICT_ALLOW;
		rule->name = policy_arena_printf(r->arena, "#%u", i + 1);
		if (rule->name == NULL)
			r->nomem = 1;
		if (!policy_k8s_is_map(r, n, dir == PK_INGRESS ? "ingress" : "egress"))
			continue;
		policy_k8s_keys(r, n, known, PK_COUNT(known));
		read_peers(r, n, known[0], ns, &rule->peers);
		read_ports(r, n, &rule->services);
	}
}

/*
 * "If this field is not specified, it will default based on the existence of ingress or egress rules;
 * policies that contain an egress section are assumed to affect egress, and all policies (whether or
 * not they contain an ingress section) are assumed to affect ingress."  A section without rules is
 * none: the API server cannot tell the two apart.
 */
static void
read_types(struct policy_reader *r, const struct policy_node *spec,
    const struct policy_node *egress, int types[PK_DIRECTION_COUNT])
{
	static const char *const known[] = { "Ingress", "Egress" };
	const struct policy_node *list = policy_k8s_list(r, spec, "policyTypes");

	if (list == NULL || list->nb == 0) {
		types[PK_INGRESS] = 1;
		types[PK_EGRESS] = egress != NULL && egress->nb > 0;
		return;
	}
	if (list->nb > 2)
		policy_reader_error(r, list, "bad-value",
		    "\"policyTypes\" holds Ingress, Egress or both, and no more");
	for (uint32_t i = 0; i < list->nb; i++) {
		const struct policy_node *n = list->items[i];

		if (n->kind == POLICY_SCALAR && strcmp(n->text, "Ingress") == 0) {
			types[PK_INGRESS] = 1;
		} else if (n->kind == POLICY_SCALAR && strcmp(n->text, "Egress") == 0) {
			types[PK_EGRESS] = 1;
		} else if (n->kind == POLICY_SCALAR) {
			policy_reader_unknown(
			    r, n, "unknown-word", "policyTypes", known, PK_COUNT(known));
		} else {
			r->key = "policyTypes";
			r->want = "a list of Ingress and Egress";
			policy_reader_mismatch(r, n);
		}
	}
}

void
policy_k8s_read_netpol(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	static const char *const top[] = { "apiVersion", "kind", "metadata", "spec", "status" };
	static const char *const known[] = { "podSelector", "policyTypes", "ingress", "egress" };
	struct policy_def *d = policy_reader_alloc(r, 1, sizeof(*d));
	const struct policy_node *spec, *rules[PK_DIRECTION_COUNT];
	unsigned int errors = r->errors;
	int types[PK_DIRECTION_COUNT] = { 0 };

	if (d == NULL)
		return;
	d->meta.kind = "NetworkPolicy";
	policy_k8s_keys(r, doc, top, PK_COUNT(top));
	if (policy_k8s_meta(r, doc, &d->meta, 1) < 0)
		return;
	spec = policy_k8s_map(r, doc, "spec");
	if (spec == NULL) {
		if (r->errors == errors)
			policy_reader_error(r, doc, "missing-key",
			    "a NetworkPolicy lacks \"spec\": a map with podSelector, ingress and egress");
		return;
	}
	policy_k8s_keys(r, spec, known, PK_COUNT(known));
	d->tier = "application";
	d->priority = PRIORITY;
	d->tier_line = d->priority_line = d->meta.line;
	d->tier_column = d->priority_column = d->meta.column;
	d->subject.line = spec->line;
	d->subject.column = spec->column;
	select_own(r, policy_k8s_map(r, spec, "podSelector"), d->meta.tenant, &d->subject);
	rules[PK_INGRESS] = policy_k8s_list(r, spec, "ingress");
	rules[PK_EGRESS] = policy_k8s_list(r, spec, "egress");
	read_types(r, spec, rules[PK_EGRESS], types);
	if (policy_k8s_get(spec, "podSelector") == NULL)
		policy_reader_note(r, spec, "selects-all",
		    "without \"podSelector\" this is about all Pods of namespace \"%s\"",
		    d->meta.tenant);
	if (policy_k8s_get(spec, "policyTypes") == NULL && rules[PK_INGRESS] == NULL &&
	    types[PK_EGRESS])
		policy_reader_note(r, spec, "types-inferred",
		    "without \"policyTypes\" this isolates its Pods for ingress too, and allows none; say policyTypes: [Egress] if only egress is meant");
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		struct policy_rules_def unread = { 0 };

		/* Rules of a type the policy is not of are checked, and do nothing. */
		read_rules(
		    r, rules[dir], dir, d->meta.tenant, types[dir] ? &d->rules[dir] : &unread);
		d->rules[dir].given = types[dir];
		if (!types[dir] && unread.nb > 0)
			policy_reader_warn(r, rules[dir], "no-effect",
			    "these rules have no effect, since \"policyTypes\" leaves %s out",
			    dir == PK_INGRESS ? "Ingress" : "Egress");
	}
	if (r->errors == errors && !r->nomem)
		POLICY_K8S_FILE(r, &o->policies, d);
}
