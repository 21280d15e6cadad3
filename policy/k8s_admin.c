#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/name.h"
#include "policy/k8s_priv.h"

/*
 * AdminNetworkPolicy and BaselineAdminNetworkPolicy (policy.networking.k8s.io/v1alpha1), and what both
 * have become, ClusterNetworkPolicy (v1alpha2).  They differ in words and limits, so one reader serves
 * all with a row of a table.
 *
 * A field of a peer or protocol that we do not know may be of a later version, and leaving it out
 * would change what a rule matches.  The API says what to do: "For Accept rules, fail closed means:
 * treat the rule as matching no traffic.  For Deny and Pass rules: treat the rule as a Deny all rule."
 */
struct flavour {
	const char *kind;
	const char *tier;  /* NULL: spec says */
	const char *allow; /* what the action allow is called */
	const char *ports; /* key of the list of ports or protocols */
	int has_pass;
	int has_priority;
	int cluster; /* of v1alpha2 */
	uint32_t nb_rules_max, nb_peers_max;
};

static const struct flavour anp = { "AdminNetworkPolicy", POLICY_K8S_ADMIN, "Allow", "ports", 1, 1,
	0, 100, 100 };
static const struct flavour banp = { "BaselineAdminNetworkPolicy", POLICY_K8S_BASELINE, "Allow",
	"ports", 0, 0, 0, 100, 100 };
static const struct flavour cnp = { "ClusterNetworkPolicy", NULL, "Accept", "protocols", 1, 1, 1,
	25, 25 };

/* Of a cluster's baseline there is one object of the old kind, and it comes after those of the new. */
#define BANP_PRIORITY 1001

struct rule_reader {
	struct policy_reader *r;
	const struct flavour *f;
	int dir;
	int named, networks;                /* ports by name; peers without such */
	int domains;                        /* peers by name */
	const struct policy_node *stranger; /* a field that we do not know, or NULL */
};

static const char *const selector_keys[] = { "matchLabels", "matchExpressions" };

/* Where an unknown field may mean a later version.  Returns 1 if there is one. */
static int
is_strange(struct rule_reader *x, const struct policy_node *n, const char *const *known, size_t nb)
{
	const struct policy_node *key = policy_k8s_stranger(n, known, nb);

	if (key != NULL && x->stranger == NULL)
		x->stranger = key;
	return key != NULL;
}

/* ---- peers --------------------------------------------------------------------------------------- */

static void
read_keys(struct rule_reader *x, const struct policy_node *list, enum policy_relation relation,
    struct policy_peer *p)
{
	p->relation = relation;
	p->keys = policy_reader_alloc(x->r, list->nb, sizeof(p->keys[0]));
	for (uint32_t i = 0; p->keys != NULL && i < list->nb; i++) {
		if (list->items[i]->kind != POLICY_SCALAR || list->items[i]->text[0] == '\0') {
			x->r->key = relation == POLICY_RELATION_SAME ? "sameLabels"
			                                             : "notSameLabels";
			x->r->want = "a list of labels";
			policy_reader_mismatch(x->r, list->items[i]);
			continue;
		}
		p->keys[p->nb_keys] = policy_arena_printf(
		    x->r->arena, POLICY_K8S_NAMESPACE "%s", list->items[i]->text);
		if (p->keys[p->nb_keys++] == NULL)
			x->r->nomem = 1;
	}
}

/* The older shape of v1alpha1, in which a set of namespaces is one of three things. */
static void
read_namespace_set(struct rule_reader *x, const struct policy_node *n, struct policy_peer *p)
{
	static const char *const known[] = { "namespaceSelector", "sameLabels", "notSameLabels" };
	const struct policy_node *selector = policy_k8s_map(x->r, n, "namespaceSelector");
	const struct policy_node *same = policy_k8s_list(x->r, n, "sameLabels");
	const struct policy_node *not_same = policy_k8s_list(x->r, n, "notSameLabels");

	if (is_strange(x, n, known, PK_COUNT(known)))
		return;
	if ((selector != NULL) + (same != NULL) + (not_same != NULL) != 1) {
		policy_reader_error(x->r, n, "bad-peer",
		    "a set of namespaces is one of namespaceSelector, sameLabels and notSameLabels");
		return;
	}
	if (selector != NULL && !is_strange(x, selector, selector_keys, PK_COUNT(selector_keys)))
		policy_k8s_select(x->r, selector, POLICY_K8S_NAMESPACE, &p->selector);
	else if (same != NULL)
		read_keys(x, same, POLICY_RELATION_SAME, p);
	else if (not_same != NULL)
		read_keys(x, not_same, POLICY_RELATION_NOT_SAME, p);
}

static int
is_old_shape(const struct rule_reader *x, const struct policy_node *n)
{
	return !x->f->cluster &&
	    (policy_node_get(n, "namespaceSelector") != NULL ||
	        policy_node_get(n, "sameLabels") != NULL ||
	        policy_node_get(n, "notSameLabels") != NULL);
}

static void
read_namespaces(struct rule_reader *x, const struct policy_node *n, struct policy_peer *p)
{
	if (is_old_shape(x, n))
		read_namespace_set(x, n, p);
	else if (!is_strange(x, n, selector_keys, PK_COUNT(selector_keys)))
		policy_k8s_select(x->r, n, POLICY_K8S_NAMESPACE, &p->selector);
}

/* Required by the schema; but readers of the API see an empty one, which selects all, and so do we. */
static void
warn_missing(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	policy_reader_warn(r, n, "missing-key",
	    "\"pods\" lacks \"%s\", and so takes all; write {} if that is meant", key);
}

static void
read_pods(struct rule_reader *x, const struct policy_node *n, struct policy_peer *p)
{
	static const char *const known[] = { "namespaceSelector", "podSelector" };
	static const char *const old[] = { "namespaces", "podSelector" };
	const struct policy_node *set = x->f->cluster ? NULL
	                                              : policy_k8s_map(x->r, n, "namespaces");
	const struct policy_node *ns = policy_k8s_map(x->r, n, "namespaceSelector");
	const struct policy_node *pods = policy_k8s_map(x->r, n, "podSelector");

	if (set != NULL) {
		if (is_strange(x, n, old, PK_COUNT(old)))
			return;
		read_namespace_set(x, set, p);
	} else if (is_strange(x, n, known, PK_COUNT(known))) {
		return;
	} else if (ns == NULL) {
		warn_missing(x->r, n, known[0]);
	} else if (!is_strange(x, ns, selector_keys, PK_COUNT(selector_keys))) {
		policy_k8s_select(x->r, ns, POLICY_K8S_NAMESPACE, &p->selector);
	}
	if (pods == NULL)
		warn_missing(x->r, n, known[1]);
	else if (!is_strange(x, pods, selector_keys, PK_COUNT(selector_keys)))
		policy_k8s_select(x->r, pods, "", &p->selector);
}

static void
read_networks(struct rule_reader *x, const struct policy_node *list, struct policy_peer *p)
{
	if (list->nb == 0 || list->nb > x->f->nb_peers_max)
		policy_reader_error(x->r, list, "bad-value",
		    "\"networks\" holds 1 to %u networks, not %u", x->f->nb_peers_max, list->nb);
	p->kind = POLICY_PEER_NETWORKS;
	p->networks.at = policy_reader_alloc(x->r, list->nb, sizeof(p->networks.at[0]));
	for (uint32_t i = 0; p->networks.at != NULL && i < list->nb; i++)
		if (policy_k8s_prefix(x->r, list->items[i], &p->networks.at[p->networks.nb]) == 0)
			p->networks.nb++;
	x->networks = 1;
}

/* `*.example.com` is all names below example.com, as in lib/name.h; the API has no other patterns. */
static void
read_domains(struct rule_reader *x, const struct policy_node *list, struct policy_peer *p)
{
	if (list->nb == 0 || list->nb > x->f->nb_peers_max)
		policy_reader_error(x->r, list, "bad-value",
		    "\"domainNames\" holds 1 to %u names, not %u", x->f->nb_peers_max, list->nb);
	p->kind = POLICY_PEER_FQDNS;
	p->fqdns.at = policy_reader_alloc(x->r, list->nb, sizeof(p->fqdns.at[0]));
	for (uint32_t i = 0; p->fqdns.at != NULL && i < list->nb; i++) {
		const struct policy_node *item = list->items[i];
		bool wild = strncmp(item->text != NULL ? item->text : "", "*.", 2) == 0;
		char pattern[PK_NAME_PATTERN_MAX];
		struct pk_diag diag;

		if (item->kind != POLICY_SCALAR ||
		    strpbrk(item->text + (wild ? 2 : 0), "*+") != NULL ||
		    strchr(item->text + (wild ? 2 : 0), '.') == NULL) {
			policy_reader_error(x->r, item, "bad-value",
			    "\"domainNames\" holds names of two labels and more, or *. before one");
		} else if (pk_name_pattern(pattern, item->text, &diag) < 0) {
			policy_reader_error(x->r, item, "bad-name", "%s", diag.text);
		} else {
			p->fqdns.at[p->fqdns.nb] = policy_arena_text(x->r->arena, pattern);
			x->r->nomem |= p->fqdns.at[p->fqdns.nb++] == NULL;
		}
	}
	x->domains = 1;
}

static void
read_peer(struct rule_reader *x, const struct policy_node *n, struct policy_peer *p)
{
	static const char *const known[] = { "namespaces", "pods", "networks", "nodes",
		"domainNames" };
	/* Whatever is outside the cluster is no source yet. */
	size_t nb_known = x->dir == PK_INGRESS ? 2 : PK_COUNT(known), nb = 0;
	const struct policy_node *namespaces, *pods, *networks, *nodes, *domains;

	p->line = n->line;
	p->column = n->column;
	if (!policy_k8s_is_map(x->r, n, x->dir == PK_INGRESS ? "from" : "to"))
		return;
	for (uint32_t i = 0; i < n->nb; i++)
		nb += !policy_node_is_null(n->pairs[i].value);
	if (nb != 1) {
		policy_reader_error(x->r, n, "bad-peer", "a peer is one of %s; this has %s",
		    x->dir == PK_INGRESS ? "namespaces and pods"
		                         : "namespaces, pods, networks, nodes and domainNames",
		    nb == 0 ? "none" : "several");
		return;
	}
	if (is_strange(x, n, known, nb_known))
		return;
	namespaces = policy_k8s_map(x->r, n, "namespaces");
	pods = policy_k8s_map(x->r, n, "pods");
	networks = policy_k8s_list(x->r, n, "networks");
	nodes = policy_k8s_map(x->r, n, "nodes");
	domains = policy_k8s_list(x->r, n, "domainNames");
	p->kind = POLICY_PEER_WORKLOADS;
	p->tenant = POLICY_ALL_TENANTS;
	if (namespaces != NULL)
		read_namespaces(x, namespaces, p);
	else if (pods != NULL)
		read_pods(x, pods, p);
	else if (networks != NULL)
		read_networks(x, networks, p);
	else if (domains != NULL)
		read_domains(x, domains, p);
	else if (nodes != NULL && !is_strange(x, nodes, selector_keys, PK_COUNT(selector_keys))) {
		p->relation = POLICY_RELATION_NODES;
		policy_k8s_select(x->r, nodes, "", &p->selector);
		policy_k8s_select_end(&p->selector);
		x->networks = 1;
	}
	if (namespaces != NULL || pods != NULL) {
		policy_k8s_select_name(x->r, NULL, &p->selector);
		policy_k8s_select_end(&p->selector);
		if (policy_k8s_selected_name(&p->selector) != NULL)
			p->tenant = policy_k8s_selected_name(&p->selector);
	}
}

static void
read_peers(struct rule_reader *x, const struct policy_node *rule, struct policy_def *d,
    struct policy_peers *out)
{
	const char *key = x->dir == PK_INGRESS ? "from" : "to";
	const struct policy_node *list = policy_k8s_list(x->r, rule, key);

	if (list == NULL || list->nb == 0 || list->nb > x->f->nb_peers_max) {
		policy_reader_error(x->r, list != NULL ? list : rule,
		    list == NULL ? "missing-key" : "bad-value",
		    "\"%s\" must be a list of 1 to %u peers; {namespaces: {}} is all of the cluster",
		    key, x->f->nb_peers_max);
		return;
	}
	out->at = policy_reader_alloc(x->r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb; i++) {
		read_peer(x, list->items[i], &out->at[out->nb]);
		d->related |= out->at[out->nb++].relation != POLICY_RELATION_NONE;
	}
}

/* ---- ports --------------------------------------------------------------------------------------- */

/* {start, end}: "Start port must be less than End port". */
static void
add_range(struct rule_reader *x, const struct policy_node *n, const struct policy_node *at,
    uint8_t proto, struct policy_services *out)
{
	int64_t low = policy_k8s_number(x->r, n, "start", 1, 65535);
	int64_t high = policy_k8s_number(x->r, n, "end", 1, 65535);

	for (int i = 0; i < 2; i++) {
		const char *key = i == 0 ? "start" : "end";

		if (policy_k8s_get(n, key) == NULL)
			policy_reader_error(x->r, n, "missing-key",
			    "a range of ports lacks \"%s\": a port from 1 to 65535", key);
	}
	if (low < 0 || high < 0 || proto == 0)
		return;
	if (low >= high)
		policy_reader_error(x->r, n, "bad-value",
		    "the range of ports from %lld to %lld must rise", (long long)low,
		    (long long)high);
	else
		policy_k8s_add_range(out, at, proto, (uint16_t)low, (uint16_t)high);
}

static void
add_number(struct rule_reader *x, const struct policy_node *n, const char *key,
    const struct policy_node *at, uint8_t proto, struct policy_services *out)
{
	int64_t port = policy_k8s_number(x->r, n, key, 1, 65535);

	if (policy_k8s_get(n, key) == NULL)
		policy_reader_error(x->r, n, "missing-key",
		    "a port lacks \"%s\": a whole number from 1 to 65535", key);
	if (port > 0 && proto != 0)
		policy_k8s_add_range(out, at, proto, (uint16_t)port, (uint16_t)port);
}

static void
add_named(struct rule_reader *x, const struct policy_node *n, struct policy_services *out)
{
	if (n->kind != POLICY_SCALAR || !policy_k8s_port_name_ok(n->text)) {
		policy_reader_error(x->r, n, "bad-value",
		    "\"%.64s\" is not a name for a port: at most 15 lower-case letters and digits with - between them, and a letter among them",
		    n->kind == POLICY_SCALAR ? n->text : "");
		return;
	}
	policy_k8s_add_named(out, n, PK_PROTO_ANY, n->text);
	x->named = 1;
}

/* An item of `ports`: portNumber, portRange or namedPort. */
static void
read_port(struct rule_reader *x, const struct policy_node *n, struct policy_services *out)
{
	static const char *const known[] = { "portNumber", "portRange", "namedPort" };
	static const char *const number_keys[] = { "protocol", "port" };
	static const char *const range_keys[] = { "protocol", "start", "end" };
	const struct policy_node *number = policy_k8s_map(x->r, n, "portNumber");
	const struct policy_node *range = policy_k8s_map(x->r, n, "portRange");
	const struct policy_node *named = policy_k8s_get(n, "namedPort");

	if (is_strange(x, n, known, PK_COUNT(known)))
		return;
	if (number != NULL) {
		if (!is_strange(x, number, number_keys, PK_COUNT(number_keys)))
			add_number(x, number, "port", n,
			    policy_k8s_protocol(x->r, policy_k8s_get(number, "protocol")), out);
	} else if (range != NULL) {
		if (!is_strange(x, range, range_keys, PK_COUNT(range_keys)))
			add_range(x, range, n,
			    policy_k8s_protocol(x->r, policy_k8s_get(range, "protocol")), out);
	} else if (named != NULL) {
		add_named(x, named, out);
	}
}

/* An item of `protocols`: {tcp: {destinationPort: {number or range}}} or destinationNamedPort. */
static void
read_protocol(struct rule_reader *x, const struct policy_node *n, struct policy_services *out)
{
	static const char *const known[] = { "tcp", "udp", "sctp", "destinationNamedPort" };
	static const uint8_t numbers[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	static const char *const inner_keys[] = { "destinationPort" };
	static const char *const port_keys[] = { "number", "range" };
	static const char *const range_keys[] = { "start", "end" };
	const struct policy_node *inner, *port, *range;

	if (is_strange(x, n, known, PK_COUNT(known)))
		return;
	if (policy_k8s_get(n, "destinationNamedPort") != NULL) {
		add_named(x, policy_k8s_get(n, "destinationNamedPort"), out);
		return;
	}
	for (size_t i = 0; i < PK_COUNT(numbers); i++) {
		inner = policy_k8s_map(x->r, n, known[i]);
		if (inner == NULL || is_strange(x, inner, inner_keys, PK_COUNT(inner_keys)))
			continue;
		port = policy_k8s_map(x->r, inner, "destinationPort");
		if (port == NULL) {
			policy_reader_error(x->r, inner, "missing-key",
			    "\"%s\" lacks \"destinationPort\": a map with number or range",
			    known[i]);
			continue;
		}
		if (is_strange(x, port, port_keys, PK_COUNT(port_keys)))
			continue;
		range = policy_k8s_map(x->r, port, "range");
		if ((range != NULL) + (policy_k8s_get(port, "number") != NULL) != 1)
			policy_reader_error(x->r, port, "bad-value",
			    "\"destinationPort\" has either number or range");
		else if (range == NULL)
			add_number(x, port, "number", n, numbers[i], out);
		else if (!is_strange(x, range, range_keys, PK_COUNT(range_keys)))
			add_range(x, range, n, numbers[i], out);
	}
}

static void
read_ports(struct rule_reader *x, const struct policy_node *rule, struct policy_services *out)
{
	const struct policy_node *list = policy_k8s_list(x->r, rule, x->f->ports);
	size_t nb;

	out->any = list == NULL;
	if (list == NULL)
		return;
	if (list->nb > x->f->nb_peers_max || (list->nb == 0 && x->f->cluster)) {
		policy_reader_error(x->r, list, "bad-value",
		    "\"%s\" holds 1 to %u items, not %u; leave it out for all", x->f->ports,
		    x->f->nb_peers_max, list->nb);
		return;
	}
	if (list->nb == 0) {
		policy_reader_warn(x->r, list, "no-effect",
		    "an empty list of ports is as good as none: the rule is for all ports");
		out->any = 1;
		return;
	}
	out->at = policy_reader_alloc(x->r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb; i++) {
		const struct policy_node *n = list->items[i];

		if (!policy_k8s_is_map(x->r, n, x->f->ports))
			continue;
		nb = 0;
		for (uint32_t k = 0; k < n->nb; k++)
			nb += !policy_node_is_null(n->pairs[k].value);
		if (nb != 1)
			policy_reader_error(x->r, n, "bad-value", "an item of \"%s\" is one of %s",
			    x->f->ports,
			    x->f->cluster ? "tcp, udp, sctp and destinationNamedPort"
			                  : "portNumber, portRange and namedPort");
		else if (x->f->cluster)
			read_protocol(x, n, out);
		else
			read_port(x, n, out);
	}
}

/* ---- rules --------------------------------------------------------------------------------------- */

/*
 * A name for people and for the rule's id.  The API asks neither that it be there nor that it be
 * another one in each rule, nor says what it is made of.
 */
static const char *
rule_name(struct policy_reader *r, const struct policy_node *rule,
    const struct policy_rules_def *before, uint32_t i)
{
	const struct policy_node *n = policy_k8s_word(r, rule, "name");
	const char *name;
	int fit = n != NULL && n->text[0] != '\0';

	for (const char *s = fit ? n->text : ""; *s != '\0'; s++)
		fit &= *s >= ' ' && *s <= '~';
	if (n != NULL && strlen(n->text) > 100)
		policy_reader_error(
		    r, n, "bad-value", "\"name\" of a rule is at most 100 letters long");
	for (uint32_t k = 0; fit && k < before->nb; k++)
		fit = strcmp(before->at[k].name, n->text) != 0;
	if (fit)
		return n->text;
	name = policy_arena_printf(r->arena, "#%u", i + 1);
	if (name == NULL)
		r->nomem = 1;
	return name != NULL ? name : "";
}

static int
read_action(struct rule_reader *x, const struct policy_node *rule)
{
	const char *known[] = { x->f->allow, "Deny", "Pass" };
	static const uint8_t verdicts[] = { PK_VERDICT_ALLOW, PK_VERDICT_DENY, PK_VERDICT_PASS };
	size_t nb = PK_COUNT(known) - !x->f->has_pass;
	const struct policy_node *n = policy_k8s_word(x->r, rule, "action");

	if (n == NULL) {
		policy_reader_error(x->r, rule, "missing-key",
		    "a rule lacks \"action\": %s, Deny%s", x->f->allow,
		    x->f->has_pass ? " or Pass" : "");
		return -1;
	}
	for (size_t i = 0; i < nb; i++)
		if (strcmp(n->text, known[i]) == 0)
			return verdicts[i];
	policy_reader_unknown(x->r, n, "unknown-word", "action", known, nb);
	return -1;
}

/* Returns 1 if the rule is to stand. */
static int
read_rule(struct rule_reader *x, const struct policy_node *n, struct policy_def *d,
    struct policy_rule_def *rule)
{
	const char *known[] = { "name", "action", x->dir == PK_INGRESS ? "from" : "to",
		x->f->ports };
	int action;

	policy_k8s_keys(x->r, n, known, PK_COUNT(known));
	action = read_action(x, n);
	read_peers(x, n, d, &rule->peers);
	read_ports(x, n, &rule->services);
	if (action < 0)
		return 0;
	rule->action = (uint8_t)action;
	if (x->named && x->networks)
		policy_reader_error(x->r, n, "bad-value",
		    "a rule with networks or nodes names no ports: these have none");
	if (x->domains && action != PK_VERDICT_ALLOW)
		policy_reader_error(x->r, n, "bad-value",
		    "\"domainNames\" stand in rules that %s only", x->f->allow);
	if (x->stranger == NULL)
		return 1;
	policy_reader_warn(x->r, x->stranger, "unknown-match",
	    "\"%.64s\" is not known to this version, so the rule fails closed: it %s",
	    x->stranger->text,
	    action == PK_VERDICT_ALLOW ? "matches nothing" : "denies everything");
	if (action == PK_VERDICT_ALLOW)
		return 0;
	rule->action = PK_VERDICT_DENY;
	rule->peers = (struct policy_peers){ .any = 1 };
	rule->services = (struct policy_services){ .any = 1 };
	return 1;
}

static void
read_rules(struct policy_reader *r, const struct flavour *f, const struct policy_node *spec,
    int dir, struct policy_def *d)
{
	const char *key = dir == PK_INGRESS ? "ingress" : "egress";
	const struct policy_node *list = policy_k8s_list(r, spec, key);
	struct policy_rules_def *out = &d->rules[dir];

	if (list == NULL || list->nb == 0)
		return;
	if (list->nb > f->nb_rules_max)
		policy_reader_error(r, list, "bad-value", "\"%s\" holds at most %u rules, not %u",
		    key, f->nb_rules_max, list->nb);
	out->given = 1;
	out->at = policy_reader_alloc(r, list->nb, sizeof(out->at[0]));
	for (uint32_t i = 0; out->at != NULL && i < list->nb && !r->nomem; i++) {
		const struct policy_node *n = list->items[i];
		struct rule_reader x = { .r = r, .f = f, .dir = dir };
		struct policy_rule_def *rule = &out->at[out->nb];

		*rule = (struct policy_rule_def){ .line = n->line, .column = n->column };
		if (!policy_k8s_is_map(r, n, key))
			continue;
		rule->name = rule_name(r, n, out, i);
		if (read_rule(&x, n, d, rule))
			out->nb++;
	}
}

/* ---- subject and spec ---------------------------------------------------------------------------- */

static void
read_subject(struct policy_reader *r, const struct policy_node *spec, struct policy_peer *p)
{
	static const char *const known[] = { "namespaces", "pods" };
	static const char *const pod_keys[] = { "namespaceSelector", "podSelector" };
	const struct policy_node *n = policy_k8s_map(r, spec, "subject"), *namespaces, *pods;

	p->kind = POLICY_PEER_WORKLOADS;
	if (n == NULL) {
		if (policy_k8s_get(spec, "subject") == NULL)
			policy_reader_error(r, spec, "missing-key",
			    "the spec lacks \"subject\": a map with namespaces or pods");
		return;
	}
	p->line = n->line;
	p->column = n->column;
	policy_k8s_keys(r, n, known, PK_COUNT(known));
	namespaces = policy_k8s_map(r, n, "namespaces");
	pods = policy_k8s_map(r, n, "pods");
	if ((namespaces != NULL) + (pods != NULL) != 1) {
		policy_reader_error(r, n, "bad-peer",
		    "a subject is either namespaces or pods; {namespaces: {}} is all of the cluster");
		return;
	}
	if (pods != NULL) {
		policy_k8s_keys(r, pods, pod_keys, PK_COUNT(pod_keys));
		for (size_t i = 0; i < PK_COUNT(pod_keys); i++)
			if (policy_k8s_get(pods, pod_keys[i]) == NULL)
				warn_missing(r, pods, pod_keys[i]);
		namespaces = policy_k8s_map(r, pods, "namespaceSelector");
		pods = policy_k8s_map(r, pods, "podSelector");
	}
	policy_k8s_select(r, namespaces, POLICY_K8S_NAMESPACE, &p->selector);
	policy_k8s_select(r, pods, "", &p->selector);
	policy_k8s_select_name(r, NULL, &p->selector);
	policy_k8s_select_end(&p->selector);
}

static const char *
read_tier(struct policy_reader *r, const struct policy_node *spec)
{
	static const char *const known[] = { "Admin", "Baseline" };
	const struct policy_node *n = policy_k8s_word(r, spec, "tier");

	if (n == NULL)
		policy_reader_error(
		    r, spec, "missing-key", "the spec lacks \"tier\": Admin or Baseline");
	else if (strcmp(n->text, known[0]) == 0)
		return POLICY_K8S_ADMIN;
	else if (strcmp(n->text, known[1]) != 0)
		policy_reader_unknown(r, n, "unknown-word", "tier", known, PK_COUNT(known));
	return POLICY_K8S_BASELINE;
}

static void
read_priority(struct policy_reader *r, const struct policy_node *spec, struct policy_def *d)
{
	const struct policy_node *n = policy_k8s_get(spec, "priority");
	int64_t value = policy_k8s_number(r, spec, "priority", 0, 1000);

	if (n == NULL) {
		policy_reader_error(r, spec, "missing-key",
		    "the spec lacks \"priority\": a whole number from 0 to 1000, lower first");
		return;
	}
	d->priority = value < 0 ? 0 : (uint32_t)value;
	d->priority_line = n->line;
	d->priority_column = n->column;
}

static void
read_policy(struct policy_reader *r, const struct policy_node *doc, const struct flavour *f,
    struct policy_objects *o)
{
	static const char *const top[] = { "apiVersion", "kind", "metadata", "spec", "status" };
	const char *known[] = { "subject", "ingress", "egress", "priority", "tier" };
	struct policy_def *d = policy_reader_alloc(r, 1, sizeof(*d));
	const struct policy_node *spec;
	unsigned int errors = r->errors;

	if (d == NULL)
		return;
	d->meta.kind = f->kind;
	policy_k8s_keys(r, doc, top, PK_COUNT(top));
	if (policy_k8s_meta(r, doc, &d->meta, 0) < 0)
		return;
	d->meta.tenant = POLICY_ALL_TENANTS;
	spec = policy_k8s_map(r, doc, "spec");
	if (spec == NULL) {
		if (r->errors == errors)
			policy_reader_error(r, doc, "missing-key",
			    "a policy lacks \"spec\": a map with subject, ingress and egress");
		return;
	}
	policy_k8s_keys(r, spec, known,
	    PK_COUNT(known) -
	        (f->cluster               ? 0
	                : f->has_priority ? 1
	                                  : 2));
	d->tier_line = d->priority_line = d->meta.line;
	d->tier_column = d->priority_column = d->meta.column;
	d->tier = f->tier != NULL ? f->tier : read_tier(r, spec);
	if (f->has_priority)
		read_priority(r, spec, d);
	else
		d->priority = BANP_PRIORITY;
	/* "The policy is a singleton, and its name is default." */
	if (!f->has_priority && strcmp(d->meta.name, "default") != 0 &&
	    policy_k8s_get(policy_k8s_get(doc, "metadata"), "name") != NULL)
		policy_reader_error(r, policy_k8s_map(r, doc, "metadata"), "bad-value",
		    "there is one BaselineAdminNetworkPolicy, and its name is \"default\", not \"%.64s\"",
		    d->meta.name);
	read_subject(r, spec, &d->subject);
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
		read_rules(r, f, spec, dir, d);
	if (r->errors == errors && !r->nomem)
		POLICY_K8S_FILE(r, &o->policies, d);
}

void
policy_k8s_read_anp(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	read_policy(r, doc, &anp, o);
}

void
policy_k8s_read_banp(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	read_policy(r, doc, &banp, o);
}

void
policy_k8s_read_cnp(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	read_policy(r, doc, &cnp, o);
}
