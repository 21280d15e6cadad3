#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/name.h"
#include "policy/govern_priv.h"
#include "policy/k8s.h"
#include "policy/map.h"
#include "policy/model_priv.h"
#include "policy/network.h"
#include "policy/schedule.h"
#include "policy/terms.h"

/*
 * The kinds of documents, each a table of keys.  docs/policy.md says the same to people; whoever
 * changes a table changes it too.
 */
#define API_VERSION "picket.io/v1"

/* ---- metadata ---------------------------------------------------------------------------------- */

/* A tenant, or `*` where that is allowed (arg not NULL). */
static void
read_tenant(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	if (arg != NULL && n->kind == POLICY_SCALAR && strcmp(n->text, POLICY_ALL_TENANTS) == 0)
		*(const char **)out = n->text;
	else
		policy_read_name(r, n, out, NULL);
}

static const char star_allowed;

#define NAME                                                                                    \
	{                                                                                       \
		"name", "a name", policy_read_name, NULL, offsetof(struct policy_meta, name), 1 \
	}
#define ANNOTATIONS                                                             \
	{                                                                       \
		"annotations", "a map of words", policy_read_ignore, NULL, 0, 0 \
	}
#define TENANT(star)                                                 \
	{                                                            \
		"tenant", "the name of a tenant", read_tenant, star, \
		    offsetof(struct policy_meta, tenant), 0          \
	}

static const struct policy_field shared_meta_fields[] = { NAME, TENANT(&star_allowed),
	ANNOTATIONS };
static const struct policy_schema shared_meta = POLICY_SCHEMA("metadata", shared_meta_fields);

static const struct policy_field workload_meta_fields[] = {
	NAME,
	TENANT(NULL),
	{ "labels", "a map of labels", policy_read_labels, NULL,
	    offsetof(struct policy_meta, labels), 0 },
	ANNOTATIONS,
};
static const struct policy_schema workload_meta = POLICY_SCHEMA("metadata", workload_meta_fields);

static const struct policy_field global_meta_fields[] = { NAME, ANNOTATIONS };
static const struct policy_schema global_meta = POLICY_SCHEMA("metadata", global_meta_fields);

/* ---- peers ------------------------------------------------------------------------------------- */

static void
read_prefix(struct policy_reader *r, const struct policy_node *n, struct policy_prefixes *out)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct pk_diag diag;
	struct pk_prefix p;

	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (pk_prefix_parse(&p, n->text, &diag) < 0)
		policy_reader_error(r, n, "bad-network", "%s", diag.text);
	else if (p.addr.family == 6 && p.len >= 96 && memcmp(p.addr.bytes, mapped, 12) == 0)
		policy_reader_error(r, n, "bad-network",
		    "\"%.64s\" hides IPv4 inside IPv6; write it as IPv4", n->text);
	else
		out->at[out->nb++] = p;
}

static void
read_prefixes(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_prefixes *prefixes = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (n->nb > POLICY_NETWORKS_MAX) {
		policy_reader_error(r, n, "too-large",
		    "%u networks are more than one list may have (%d)", n->nb, POLICY_NETWORKS_MAX);
		return;
	}
	prefixes->at = policy_reader_alloc(r, n->nb, sizeof(prefixes->at[0]));
	for (uint32_t i = 0; prefixes->at != NULL && i < n->nb; i++) {
		r->want = "a list of networks such as 192.0.2.0/24";
		read_prefix(r, n->items[i], prefixes);
	}
}

static void
read_fqdns(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
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
		char pattern[PK_NAME_PATTERN_MAX];
		struct pk_diag diag;

		r->want = "a list of DNS names such as api.example.com or \"*.example.com\"";
		if (item->kind != POLICY_SCALAR || policy_node_is_null(item)) {
			policy_reader_mismatch(r, item);
		} else if (pk_name_pattern(pattern, item->text, &diag) < 0) {
			policy_reader_error(r, item, "bad-name", "%s", diag.text);
		} else {
			names->at[names->nb] = policy_arena_text(r->arena, pattern);
			r->nomem |= names->at[names->nb++] == NULL;
		}
	}
}

static const char *const truth_words[] = { "false", "true" };
static const uint8_t truth_values[] = { POLICY_WANT_FALSE, POLICY_WANT_TRUE };
static const struct policy_words truths = { truth_words, PK_COUNT(truth_words), truth_values };

#define ATTESTED                                                        \
	{                                                               \
		"attested", "true or false", policy_read_word, &truths, \
		    offsetof(struct policy_peer, attested), 0           \
	}

static const struct policy_field peer_fields[] = {
	{ "workloads", "a map of labels", policy_read_selectors, NULL,
	    offsetof(struct policy_peer, selector), 0 },
	{ "tenant", "the name of a tenant", read_tenant, &star_allowed,
	    offsetof(struct policy_peer, tenant), 0 },
	{ "group", "the name of a group", policy_read_name, NULL,
	    offsetof(struct policy_peer, group), 0 },
	{ "networks", "a list of networks such as 192.0.2.0/24", read_prefixes, NULL,
	    offsetof(struct policy_peer, networks), 0 },
	{ "except", "a list of networks such as 192.0.2.0/24", read_prefixes, NULL,
	    offsetof(struct policy_peer, except), 0 },
	ATTESTED,
	{ "fqdns", "a list of DNS names such as api.example.com or \"*.example.com\"", read_fqdns,
	    NULL, offsetof(struct policy_peer, fqdns), 0 },
	{ .key = "identities" },
	{ .key = "app" },
};
static const struct policy_schema peer_schema = POLICY_SCHEMA("a peer", peer_fields);

static void
check_except(struct policy_reader *r, const struct policy_node *n, const struct policy_peer *p)
{
	char text[PK_PREFIX_TEXT];

	/* Whoever excepts what was never in meant something else.  Long lists are spared: the check
	 * costs their product. */
	if ((uint64_t)p->except.nb * p->networks.nb > 1000000)
		return;
	for (uint32_t e = 0; e < p->except.nb; e++) {
		uint32_t i = 0;

		while (i < p->networks.nb &&
		    !policy_prefix_covers(&p->networks.at[i], &p->except.at[e]))
			i++;
		if (i == p->networks.nb)
			policy_reader_error(r, policy_node_get(n, "except"), "except-outside",
			    "except: %s lies in none of the networks",
			    pk_prefix_text(&p->except.at[e], text));
	}
}

/* Posture is a label like others, as far as compiling goes, but nobody can give it. */
static void
add_attested(struct policy_reader *r, const struct policy_node *n, struct policy_peer *p)
{
	if (p->attested == POLICY_WANT_ANY)
		return;
	if (p->kind == POLICY_PEER_WORKLOADS)
		policy_selector_add_attested(r, &p->selector, p->attested == POLICY_WANT_TRUE);
	else
		policy_reader_error(r, policy_node_get(n, "attested"), "bad-peer",
		    "\"attested\" goes with workloads; say it in the members of a group");
}

static void
read_peer(struct policy_reader *r, const struct policy_node *n, struct policy_peer *p)
{
	unsigned int errors = r->errors;
	int workloads, networks;

	p->line = n->line;
	p->column = n->column;
	policy_schema_read(r, n, &peer_schema, p);
	if (r->errors != errors)
		return;
	workloads = policy_node_get(n, "workloads") != NULL || p->tenant != NULL;
	networks = p->networks.nb > 0;
	if (workloads + networks + (p->fqdns.nb > 0) + (p->group != NULL) != 1) {
		policy_reader_error(r, n, "bad-peer",
		    "a peer is one of workloads (with or without tenant), group, networks, or fqdns; this has %s",
		    n->nb == 0 || (n->nb == 1 && p->except.nb > 0) ? "none" : "several");
	} else if (p->except.nb > 0 && !networks) {
		policy_reader_error(r, policy_node_get(n, "except"), "bad-peer",
		    "\"except\" goes with networks only");
	} else if (networks) {
		p->kind = POLICY_PEER_NETWORKS;
		check_except(r, n, p);
		add_attested(r, n, p);
	} else if (p->fqdns.nb > 0) {
		p->kind = POLICY_PEER_FQDNS;
		add_attested(r, n, p);
	} else {
		p->kind = p->group != NULL ? POLICY_PEER_GROUP : POLICY_PEER_WORKLOADS;
		if (p->kind == POLICY_PEER_WORKLOADS && p->selector.line == 0) {
			p->selector.line = n->line;
			p->selector.column = n->column;
		}
		add_attested(r, n, p);
	}
}

/* An expression with alternatives is a peer for each.  There is *room for so many in all. */
static void
add_peer(struct policy_reader *r, const struct policy_node *n, struct policy_peers *peers,
    uint32_t *room)
{
	struct policy_peer first = { .line = 0 }, *at;
	uint32_t others;

	read_peer(r, n, &first);
	others = first.selector.nb_others;
	if (peers->nb + 1 + others > *room) {
		at = policy_reader_alloc(r, (size_t)*room * 2 + 1 + others, sizeof(at[0]));
		if (at == NULL)
			return;
		if (peers->nb > 0)
			memcpy(at, peers->at, peers->nb * sizeof(at[0]));
		*room = *room * 2 + 1 + others;
		peers->at = at;
	}
	at = peers->at + peers->nb;
	at[0] = first;
	peers->nb += 1 + others;
	for (uint32_t i = 0; i < others; i++) {
		at[1 + i] = first;
		at[1 + i].selector = first.selector.others[i];
		add_attested(r, n, &at[1 + i]);
	}
}

static void
read_peers(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_peers *peers = out;
	uint32_t room = n->nb;

	(void)arg;
	peers->any = 0;
	if (n->kind == POLICY_SCALAR && strcmp(n->text, "any") == 0) {
		peers->any = 1;
		return;
	}
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	peers->at = policy_reader_alloc(r, n->nb, sizeof(peers->at[0]));
	for (uint32_t i = 0; !r->nomem && i < n->nb; i++) {
		r->want = "a list of peers, each a map, or any";
		if (n->items[i]->kind == POLICY_SCALAR && strcmp(n->items[i]->text, "any") == 0)
			peers->any = 1;
		else
			add_peer(r, n->items[i], peers, &room);
	}
}

/* ---- Policy ------------------------------------------------------------------------------------ */

/* In the order of enum pk_verdict, enum pk_log_mode and enum policy_mode. */
static const char *const action_words[] = { "deny", "reject", "allow", "pass" };
static const char *const log_words[] = { "none", "new", "all" };
static const char *const mode_words[] = { "enforce", "audit" };
static const struct policy_words actions = { action_words, PK_COUNT(action_words), NULL };
static const struct policy_words logs = { log_words, PK_COUNT(log_words), NULL };
static const struct policy_words modes = { mode_words, PK_COUNT(mode_words), NULL };

#define LATER                     \
	{                         \
		.key = "attested" \
	}

#define RULE(peer_key)                                                                             \
	{ "name", "a name", policy_read_name, NULL, offsetof(struct policy_rule_def, name), 0 },   \
	    { "action", "allow, deny, reject or pass", policy_read_word, &actions,                 \
		    offsetof(struct policy_rule_def, action), 1 },                                 \
	    { peer_key, "a list of peers, or any", read_peers, NULL,                               \
		    offsetof(struct policy_rule_def, peers), 0 },                                  \
	    { "services", "a list of services such as https or tcp/8443-8444, or any",             \
		    policy_read_services, NULL, offsetof(struct policy_rule_def, services), 0 },   \
	    { "log", "none, new or all", policy_read_word, &logs,                                  \
		    offsetof(struct policy_rule_def, log), 0 },                                    \
	    { "app", "an application such as tls, or a list of them", policy_read_apps, NULL,      \
		    offsetof(struct policy_rule_def, apps), 0 },                                   \
	    { "encryption", "required, ipsec or mtls", policy_read_encryption, NULL,               \
		    offsetof(struct policy_rule_def, terms), 0 },                                  \
	    { "inspect", "standard or strict", policy_read_inspect, NULL,                          \
		    offsetof(struct policy_rule_def, terms), 0 },                                  \
	    { "schedule", "a map with days, hours, timezone, from or until", policy_read_schedule, \
		    NULL, offsetof(struct policy_rule_def, schedule), 0 },                         \
	    { "dscp", "a codepoint: a name such as EF, or a whole number from 0 to 63",            \
		    policy_read_dscp, NULL, offsetof(struct policy_rule_def, terms), 0 },          \
	    { "limit", "a map with newConnections, packets or bytes", policy_read_limit, NULL,     \
		    offsetof(struct policy_rule_def, terms), 0 },                                  \
	    { "fail", "open or closed", policy_read_fail, NULL,                                    \
		    offsetof(struct policy_rule_def, terms), 0 },                                  \
	    LATER

static const struct policy_field egress_fields[] = { RULE("to") };
static const struct policy_field ingress_fields[] = { RULE("from") };
static const struct policy_schema rule_schemas[PK_DIRECTION_COUNT] = {
	[PK_EGRESS] = POLICY_SCHEMA("an egress rule", egress_fields),
	[PK_INGRESS] = POLICY_SCHEMA("an ingress rule", ingress_fields),
};

static void
check_rule_names(
    struct policy_reader *r, const struct policy_node *n, const struct policy_rules_def *rules)
{
	struct policy_map seen = { 0 };

	for (uint32_t i = 0; i < rules->nb; i++) {
		uint32_t first = policy_map_get_text(&seen, rules->at[i].name);

		if (first != POLICY_MAP_NONE)
			policy_reader_error(r, n->items[i], "duplicate-name",
			    "rule \"%s\" stands twice; the first is in line %u", rules->at[i].name,
			    rules->at[first].line);
		else if (policy_map_put_text(&seen, rules->at[i].name, i) < 0)
			r->nomem = 1;
	}
	policy_map_fini(&seen);
}

/* What is not known of a name must not open anything, so only what allows may hang on it. */
static void
check_fqdns(struct policy_reader *r, bool egress, const struct policy_rule_def *rule)
{
	for (uint32_t i = 0; i < rule->peers.nb; i++) {
		const struct policy_peer *p = &rule->peers.at[i];
		const struct policy_node at = { .line = p->line, .column = p->column };

		if (p->kind == POLICY_PEER_FQDNS && (!egress || rule->action != PK_VERDICT_ALLOW))
			policy_reader_error(r, &at, "bad-peer", "%s", POLICY_FQDNS_WHERE);
	}
}

static void
read_rules(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_rules_def *rules = out;
	unsigned int errors = r->errors;

	rules->given = 1;
	if (n->kind != POLICY_LIST) {
		policy_reader_mismatch(r, n);
		return;
	}
	rules->at = policy_reader_alloc(r, n->nb, sizeof(rules->at[0]));
	for (uint32_t i = 0; rules->at != NULL && i < n->nb; i++) {
		const struct policy_node *item = n->items[i];
		struct policy_rule_def *rule = &rules->at[rules->nb++];
		char name[16];

		r->want = "a list of rules, each a map";
		rule->line = item->line;
		rule->column = item->column;
		rule->peers.any = 1;
		policy_schema_read(r, item, arg, rule);
		if (item->kind == POLICY_MAP && policy_node_get(item, "services") == NULL)
			rule->services.any = 1;
		for (uint32_t k = 0; rule->apps.nb > 0 && k < rule->services.nb; k++) {
			const struct policy_service_ref *ref = &rule->services.at[k];

			if (ref->kind == POLICY_SERVICE_LITERAL && ref->nb > 0 &&
			    ref->at[0].proto != IPPROTO_TCP && ref->at[0].proto != IPPROTO_UDP)
				policy_reader_error(r, policy_node_get(item, "app"), "bad-app",
				    "a rule that names applications has services of TCP or UDP alone");
		}
		if (rule->apps.nb > 0 && rule->action != PK_VERDICT_ALLOW)
			policy_reader_error(r, policy_node_get(item, "app"), "bad-app",
			    "\"app\" stands in rules that allow: what a session speaks is not known before it may speak");
		policy_terms_settle(r, item, rule->action, &rule->terms);
		check_fqdns(r, arg == &rule_schemas[PK_EGRESS], rule);
		if (rule->name == NULL) {
			snprintf(name, sizeof(name), "#%u", i + 1);
			rule->name = policy_arena_text(r->arena, name);
			if (rule->name == NULL)
				r->nomem = 1;
		}
	}
	if (r->errors == errors && !r->nomem)
		check_rule_names(r, n, rules);
}

static void
read_subject(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "workloads", "a map of labels", policy_read_selector, NULL,
		    offsetof(struct policy_peer, selector), 0 },
		{ "group", "the name of a group", policy_read_name, NULL,
		    offsetof(struct policy_peer, group), 0 },
		ATTESTED,
	};
	static const struct policy_schema schema = POLICY_SCHEMA("appliesTo", fields);
	struct policy_peer *p = out;
	unsigned int errors = r->errors;

	(void)arg;
	p->line = n->line;
	p->column = n->column;
	policy_schema_read(r, n, &schema, p);
	if (r->errors != errors)
		return;
	if (n->nb != 1 + (p->attested != POLICY_WANT_ANY) ||
	    (p->group == NULL && p->selector.line == 0)) {
		policy_reader_error(r, n, "bad-peer",
		    "\"appliesTo\" has either workloads or group; leave it out for all workloads");
		return;
	}
	p->kind = p->group != NULL ? POLICY_PEER_GROUP : POLICY_PEER_WORKLOADS;
	add_attested(r, n, p);
}

/* A word whose place matters later, when it is looked up among all sources. */
static void
read_tier_name(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_def *d = out;

	(void)arg;
	d->tier_line = n->line;
	d->tier_column = n->column;
	policy_read_name(r, n, &d->tier, NULL);
}

static void
read_priority(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_def *d = out;

	d->priority_line = n->line;
	d->priority_column = n->column;
	policy_read_uint(r, n, &d->priority, arg);
}

static const struct policy_range priorities = { 0, 1000000 };

static const struct policy_field policy_fields[] = {
	{ "tier", "the name of a tier such as application", read_tier_name, NULL, 0, 1 },
	{ "priority", "a whole number from 0 to 1000000, lower first", read_priority, &priorities,
	    0, 1 },
	{ "mode", "enforce or audit", policy_read_word, &modes, offsetof(struct policy_def, mode),
	    0 },
	{ "appliesTo", "a map with workloads or group", read_subject, NULL,
	    offsetof(struct policy_def, subject), 0 },
	{ "ingress", "a list of rules", read_rules, &rule_schemas[PK_INGRESS],
	    offsetof(struct policy_def, rules[PK_INGRESS]), 0 },
	{ "egress", "a list of rules", read_rules, &rule_schemas[PK_EGRESS],
	    offsetof(struct policy_def, rules[PK_EGRESS]), 0 },
	LATER,
};
static const struct policy_schema policy_schema = POLICY_SCHEMA("a policy's spec", policy_fields);

/* ---- inline tests ------------------------------------------------------------------------------ */

static void
read_test_end(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "workloads", "a map of labels", policy_read_labels, NULL,
		    offsetof(struct policy_test_end, labels), 1 },
		{ "tenant", "the name of a tenant", policy_read_name, NULL,
		    offsetof(struct policy_test_end, tenant), 0 },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("an end of a test", fields);
	struct policy_test_end *e = out;

	(void)arg;
	e->line = n->line;
	e->column = n->column;
	if (n->kind == POLICY_SCALAR && !policy_node_is_null(n))
		e->text = n->text;
	else if (policy_node_get(n, "workloads") != NULL)
		policy_schema_read(r, n, &schema, e);
	else
		policy_read_labels(r, n, &e->labels, NULL);
}

static void
read_test_service(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_service_ref *ref = out;
	struct pk_diag diag;

	(void)arg;
	ref->line = n->line;
	ref->column = n->column;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (policy_service_parse(ref, n->text, &diag) < 0)
		policy_reader_error(r, n, "bad-service", "%s", diag.text);
}

static const struct policy_words expectations = { action_words, PK_VERDICT_ALLOW + 1, NULL };

static const char *const protection_words[] = { "none", "required", "ipsec", "mtls" };
static const uint8_t protection_values[] = { PK_ENCRYPTION_NONE + 1, PK_ENCRYPTION_REQUIRED + 1,
	PK_ENCRYPTION_IPSEC + 1, PK_ENCRYPTION_MTLS + 1 };
static const struct policy_words protections = { protection_words, PK_COUNT(protection_words),
	protection_values };

static void
read_moment(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_diag diag;

	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (policy_schedule_moment(n->text, out, &diag) < 0)
		policy_reader_error(r, n, "bad-schedule", "%s", diag.text);
}

static void
read_tests(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "from", "labels of a workload, \"tenant/name\" or an address", read_test_end,
		    NULL, offsetof(struct policy_test, from), 1 },
		{ "to", "labels of a workload, \"tenant/name\" or an address", read_test_end, NULL,
		    offsetof(struct policy_test, to), 1 },
		{ "service", "a service such as https or tcp/8443", read_test_service, NULL,
		    offsetof(struct policy_test, service), 1 },
		{ "expect", "allow, deny or reject", policy_read_word, &expectations,
		    offsetof(struct policy_test, expect), 1 },
		{ "encryption", "none, required, ipsec or mtls", policy_read_word, &protections,
		    offsetof(struct policy_test, encryption), 0 },
		{ "at", "a moment such as \"2026-12-31 09:00 Europe/Berlin\"", read_moment, NULL,
		    offsetof(struct policy_test, at_s), 0 },
		{ .key = "app" },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("a test", fields);
	struct policy_tests *tests = out;

	(void)arg;
	if (n->kind != POLICY_LIST) {
		policy_reader_mismatch(r, n);
		return;
	}
	tests->at = policy_reader_alloc(r, n->nb, sizeof(tests->at[0]));
	for (uint32_t i = 0; tests->at != NULL && i < n->nb; i++) {
		struct policy_test *t = &tests->at[tests->nb++];

		t->line = n->items[i]->line;
		t->column = n->items[i]->column;
		t->at_s = PK_TIME_ANY;
		r->want = "a list of tests, each a map";
		policy_schema_read(r, n->items[i], &schema, t);
		if (t->encryption != 0 && t->expect != PK_VERDICT_ALLOW)
			policy_reader_error(
			    r, n->items[i], "bad-terms", "\"encryption\" goes with expect: allow");
	}
}

/* ---- Group, Service, Tier, Tenant ---------------------------------------------------------------- */

/* A group is one peer written into spec, or a list of them under `members`. */
static void
read_group(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "members", "a list of peers", read_peers, NULL, 0, 1 },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("a group's spec", fields);
	struct policy_peers *members = out;
	uint32_t room = 0;

	(void)arg;
	if (n->kind != POLICY_MAP || policy_node_get(n, "members") != NULL) {
		policy_schema_read(r, n, &schema, members);
		if (members->any)
			policy_reader_error(r, policy_node_get(n, "members"), "bad-peer",
			    "a group of any is no group; write any in the rule");
		return;
	}
	add_peer(r, n, members, &room);
}

static const struct policy_field service_fields[] = {
	{ "services", "a list of services such as tcp/8443-8444", policy_read_services, NULL,
	    offsetof(struct policy_service_def, services), 1 },
};
static const struct policy_schema service_schema =
    POLICY_SCHEMA("a service's spec", service_fields);

/* 255 is the end of all tiers, where the tenant's default stands. */
static const struct policy_range orders = { 1, 254 };
static const char *const end_words[] = { "deny", "pass" };
static const uint8_t end_values[] = { PK_VERDICT_DENY, PK_VERDICT_PASS };
static const struct policy_words ends = { end_words, PK_COUNT(end_words), end_values };

static const struct policy_field tier_fields[] = {
	{ "order", "a whole number from 1 to 254, lower first", policy_read_uint, &orders,
	    offsetof(struct policy_tier_def, order), 1 },
	{ "default", "deny or pass", policy_read_word, &ends, offsetof(struct policy_tier_def, end),
	    0 },
};
static const struct policy_schema tier_schema = POLICY_SCHEMA("a tier's spec", tier_fields);

static const char *const tenant_words[] = { "deny", "allow" };
static const uint8_t tenant_values[] = { PK_VERDICT_DENY, PK_VERDICT_ALLOW };
static const struct policy_words tenant_verdicts = { tenant_words, PK_COUNT(tenant_words),
	tenant_values };

static const struct policy_field tenant_fields[] = {
	{ "default", "deny or allow", policy_read_word, &tenant_verdicts,
	    offsetof(struct policy_tenant_def, verdict), 0 },
};
static const struct policy_schema tenant_schema = POLICY_SCHEMA("a tenant's spec", tenant_fields);

/* ---- Workload ---------------------------------------------------------------------------------- */

static const char *
address_problem(const struct pk_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t zero[16];

	if (memcmp(a->bytes, zero, sizeof(zero)) == 0)
		return "is nobody's address";
	if (a->family == 4 ? (a->bytes[0] & 0xf0) == 0xe0 : a->bytes[0] == 0xff)
		return "is a multicast address, which no workload can own";
	if (a->family == 6 && memcmp(a->bytes, mapped, sizeof(mapped)) == 0)
		return "hides IPv4 inside IPv6; write it as IPv4";
	return NULL;
}

static void
read_addresses(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_addresses *addresses = out;

	(void)arg;
	if (n->kind != POLICY_LIST) {
		policy_reader_mismatch(r, n);
		return;
	}
	addresses->at = policy_reader_alloc(r, n->nb, sizeof(addresses->at[0]));
	for (uint32_t i = 0; addresses->at != NULL && i < n->nb; i++) {
		const struct policy_node *item = n->items[i];
		struct pk_addr *a = &addresses->at[addresses->nb].addr;
		struct pk_diag diag;

		if (item->kind != POLICY_SCALAR || policy_node_is_null(item))
			policy_reader_mismatch(r, item);
		else if (pk_addr_parse(a, item->text, &diag) < 0)
			policy_reader_error(r, item, "bad-address", "%s", diag.text);
		else if (address_problem(a) != NULL)
			policy_reader_error(
			    r, item, "bad-address", "\"%.64s\" %s", item->text, address_problem(a));
		else {
			addresses->at[addresses->nb].line = item->line;
			addresses->at[addresses->nb++].column = item->column;
		}
	}
}

static int
hex(char c)
{
	const char *digits = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	at = c != '\0' ? strchr(digits, c) : NULL;
	return at != NULL ? (int)(at - digits) : -1;
}

static void
read_mac(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_workload_def *w = out;

	(void)arg;
	if (n->kind != POLICY_SCALAR || strlen(n->text) != 17) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (int i = 0; i < 6; i++) {
		const char *s = n->text + 3 * i;
		int high = hex(s[0]), low = hex(s[1]);

		if (high < 0 || low < 0 || (i < 5 && s[2] != ':' && s[2] != '-')) {
			policy_reader_mismatch(r, n);
			return;
		}
		w->mac[i] = (uint8_t)(high << 4 | low);
	}
	if (w->mac[0] & 1)
		policy_reader_error(r, n, "bad-address",
		    "\"%.64s\" is a group address, which no workload can own", n->text);
	w->has_mac = 1;
}

static const struct policy_range wires = { 0, 65535 };
static const struct policy_range vrfs = { 0, 0xffffff }; /* two VLAN tags */
static const struct policy_range vnis = { 1, 0xffffff };

/* Two ways to say which address space; `arg`: its range. */
static void
read_space(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_workload_def *w = out;

	if (w->has_space)
		policy_reader_error(
		    r, n, "bad-value", "vrf and vni both name the address space; want one of them");
	w->has_space = 1;
	policy_read_uint(r, n, &w->vrf, arg);
	if (arg == &vnis)
		w->vrf |= POLICY_VRF_VNI;
}

static const struct policy_field workload_fields[] = {
	{ "addresses", "a list of addresses such as 192.0.2.1", read_addresses, NULL,
	    offsetof(struct policy_workload_def, addresses), 0 },
	{ "mac", "an Ethernet address such as 02:00:00:00:00:01", read_mac, NULL, 0, 0 },
	{ "dpu", "the name of a DPU", policy_read_name, NULL,
	    offsetof(struct policy_workload_def, dpu), 0 },
	{ "wire", "a whole number from 0 to 65535", policy_read_uint, &wires,
	    offsetof(struct policy_workload_def, wire), 0 },
	{ "vrf", "a whole number from 0 to 16777215", read_space, &vrfs, 0, 0 },
	{ "vni", "a whole number from 1 to 16777215", read_space, &vnis, 0, 0 },
	{ "ports", "a map of names to ports such as tcp/8080", policy_read_ports, NULL,
	    offsetof(struct policy_workload_def, ports), 0 },
};
static const struct policy_schema workload_schema =
    POLICY_SCHEMA("a workload's spec", workload_fields);

/* ---- documents --------------------------------------------------------------------------------- */

/* Looked at before the table is, since they choose it. */
static void
read_skip(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)r;
	(void)n;
	(void)out;
	(void)arg;
}

#define COMMON(meta_schema)                                                          \
	{ "apiVersion", "\"" API_VERSION "\"", read_skip, NULL, 0, 1 },              \
	    { "kind", "a kind", read_skip, NULL, 0, 1 },                             \
	{                                                                            \
		"metadata", "a map with name", policy_read_schema, meta_schema, 0, 1 \
	}

static const struct policy_field policy_doc_fields[] = {
	COMMON(&shared_meta),
	{ "spec", "a map with tier, priority, ingress and egress", policy_read_schema,
	    &policy_schema, 0, 1 },
	{ "tests", "a list of tests", read_tests, NULL, offsetof(struct policy_def, tests), 0 },
};
static const struct policy_field group_doc_fields[] = {
	COMMON(&shared_meta),
	{ "spec", "a map with workloads, group, networks or members", read_group, NULL,
	    offsetof(struct policy_group_def, members), 1 },
};
static const struct policy_field service_doc_fields[] = {
	COMMON(&shared_meta),
	{ "spec", "a map with services", policy_read_schema, &service_schema, 0, 1 },
};
static const struct policy_field tier_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with order", policy_read_schema, &tier_schema, 0, 1 },
};
static const struct policy_field tenant_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with default", policy_read_schema, &tenant_schema, 0, 0 },
};
static const struct policy_field workload_doc_fields[] = {
	COMMON(&workload_meta),
	{ "spec", "a map with addresses", policy_read_schema, &workload_schema, 0, 1 },
};

static const struct policy_field rollout_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with canary and bake", policy_read_schema, &policy_rollout_schema, 0, 1 },
};
static const struct policy_field role_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with subjects and may", policy_read_schema, &policy_role_schema, 0, 1 },
};

static const struct policy_field reference_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with dpus and values", policy_read_schema, &policy_reference_schema, 0,
	    1 },
};

static const struct policy_field link_doc_fields[] = {
	COMMON(&global_meta),
	{ "spec", "a map with ports and macsec", policy_read_schema, &policy_link_schema, 0, 1 },
};

enum kind {
	KIND_POLICY,
	KIND_GROUP,
	KIND_SERVICE,
	KIND_TIER,
	KIND_WORKLOAD,
	KIND_TENANT,
	KIND_ROLLOUT,
	KIND_ROLE,
	KIND_REFERENCE,
	KIND_LINK
};

/* In the order of enum kind. */
static const char *const kind_words[] = { "Policy", "Group", "Service", "Tier", "Workload",
	"Tenant", "Rollout", "Role", "Reference", "Link" };
static const struct {
	struct policy_schema schema;
	size_t size;
} kinds[] = {
	[KIND_POLICY] = { POLICY_SCHEMA("a Policy", policy_doc_fields), sizeof(struct policy_def) },
	[KIND_GROUP] = { POLICY_SCHEMA("a Group", group_doc_fields),
	    sizeof(struct policy_group_def) },
	[KIND_SERVICE] = { POLICY_SCHEMA("a Service", service_doc_fields),
	    sizeof(struct policy_service_def) },
	[KIND_TIER] = { POLICY_SCHEMA("a Tier", tier_doc_fields), sizeof(struct policy_tier_def) },
	[KIND_WORKLOAD] = { POLICY_SCHEMA("a Workload", workload_doc_fields),
	    sizeof(struct policy_workload_def) },
	[KIND_TENANT] = { POLICY_SCHEMA("a Tenant", tenant_doc_fields),
	    sizeof(struct policy_tenant_def) },
	[KIND_ROLLOUT] = { POLICY_SCHEMA("a Rollout", rollout_doc_fields),
	    sizeof(struct policy_rollout_def) },
	[KIND_ROLE] = { POLICY_SCHEMA("a Role", role_doc_fields), sizeof(struct policy_role_def) },
	[KIND_REFERENCE] = { POLICY_SCHEMA("a Reference", reference_doc_fields),
	    sizeof(struct policy_reference_def) },
	[KIND_LINK] = { POLICY_SCHEMA("a Link", link_doc_fields), sizeof(struct policy_link_def) },
};

static int
read_kind(struct policy_reader *r, const struct policy_node *doc)
{
	const struct policy_node *api = policy_node_get(doc, "apiVersion");
	const struct policy_node *kind = policy_node_get(doc, "kind");

	if (api == NULL || kind == NULL) {
		policy_reader_error(r, doc, "missing-key", "a document lacks \"%s\": %s",
		    api == NULL ? "apiVersion" : "kind",
		    api == NULL ? API_VERSION : "a kind such as Policy or Workload");
		return -1;
	}
	if (api->kind != POLICY_SCALAR || strcmp(api->text, API_VERSION) != 0) {
		policy_reader_error(r, api, "unsupported",
		    "apiVersion \"%.64s\" is not supported by this version; want " API_VERSION,
		    api->kind == POLICY_SCALAR ? api->text : "");
		return -1;
	}
	if (kind->kind != POLICY_SCALAR) {
		r->key = "kind";
		r->want = "a kind such as Policy or Workload";
		policy_reader_mismatch(r, kind);
		return -1;
	}
	for (size_t i = 0; i < PK_COUNT(kind_words); i++)
		if (strcmp(kind->text, kind_words[i]) == 0)
			return (int)i;
	policy_reader_unknown(r, kind, "unknown-kind", "kind", kind_words, PK_COUNT(kind_words));
	return -1;
}

static int
file_object(struct policy_objects *o, enum kind kind, void *object)
{
	/* One vector per kind, so that a pointer never has to say what it points to. */
#define PUSH(v)                                        \
	do {                                           \
		void *slot = POLICY_PUSH(&o->v);       \
		if (slot == NULL)                      \
			return 0;                      \
		memcpy(slot, &object, sizeof(object)); \
	} while (0)
	switch (kind) {
	case KIND_POLICY:
		PUSH(policies);
		break;
	case KIND_GROUP:
		PUSH(groups);
		break;
	case KIND_SERVICE:
		PUSH(services);
		break;
	case KIND_TIER:
		PUSH(tiers);
		break;
	case KIND_WORKLOAD:
		PUSH(workloads);
		break;
	case KIND_TENANT:
		PUSH(tenants);
		break;
	case KIND_ROLLOUT:
		PUSH(rollouts);
		break;
	case KIND_ROLE:
		PUSH(roles);
		break;
	case KIND_REFERENCE:
		PUSH(references);
		break;
	case KIND_LINK:
		PUSH(links);
		break;
	}
#undef PUSH
	return 1;
}

static int
check_test_end(struct policy_reader *r, const struct policy_def *p, const struct policy_test_end *e)
{
	struct policy_node at = { .line = e->line, .column = e->column };

	if (e->text != NULL || e->tenant != NULL || strcmp(p->meta.tenant, POLICY_ALL_TENANTS) != 0)
		return 1;
	policy_reader_error(r, &at, "missing-key",
	    "a test of a policy for all tenants says which: {tenant: NAME, workloads: {...}}");
	return 0;
}

/* What no single key can see. */
static void
check_object(
    struct policy_reader *r, const struct policy_node *doc, enum kind kind, const void *object)
{
	const struct policy_node *name = policy_node_get(policy_node_get(doc, "metadata"), "name");
	const struct policy_def *p = object;

	switch (kind) {
	case KIND_POLICY:
		if (!p->rules[PK_INGRESS].given && !p->rules[PK_EGRESS].given)
			policy_reader_error(r, policy_node_get(doc, "spec"), "missing-key",
			    "a policy's spec lacks \"ingress\" or \"egress\": a list of rules; an empty list lets nothing through");
		for (uint32_t i = 0; i < p->tests.nb; i++)
			if (check_test_end(r, p, &p->tests.at[i].from))
				check_test_end(r, p, &p->tests.at[i].to);
		break;
	case KIND_SERVICE:
		if (policy_service_builtin(p->meta.name))
			policy_reader_error(r, name, "duplicate-name",
			    "service \"%s\" is built in; choose another name", p->meta.name);
		break;
	default:
		break;
	}
}

void
policy_document_read(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o)
{
	unsigned int errors = r->errors;
	struct policy_meta *meta;
	void *object;
	int kind;

	if (doc->kind != POLICY_MAP) {
		r->key = "document";
		r->want = "a map with apiVersion, kind, metadata and spec";
		policy_reader_mismatch(r, doc);
		return;
	}
	if (policy_k8s_is(doc)) {
		policy_k8s_read(r, doc, o);
		return;
	}
	kind = read_kind(r, doc);
	if (kind < 0)
		return;
	object = policy_reader_alloc(r, 1, kinds[kind].size);
	if (object == NULL)
		return;
	/* meta is the first member of each. */
	meta = object;
	meta->file = r->file;
	meta->line = doc->line;
	meta->column = doc->column;
	switch (kind) {
	case KIND_POLICY:
		((struct policy_def *)object)->subject.kind = POLICY_PEER_ANY;
		break;
	case KIND_TIER:
		((struct policy_tier_def *)object)->end = PK_VERDICT_PASS;
		break;
	case KIND_WORKLOAD:
		((struct policy_workload_def *)object)->dpu = "";
		break;
	default:
		break;
	}
	policy_schema_read(r, doc, &kinds[kind].schema, object);
	if (kind == KIND_ROLLOUT) {
		struct policy_rollout_def *d = object;

		d->text = policy_selector_text(r->arena, &d->selector);
	}
	if (meta->tenant == NULL)
		meta->tenant = POLICY_TENANT;
	if (r->errors == errors && !r->nomem)
		check_object(r, doc, (enum kind)kind, object);
	if (r->errors == errors && !r->nomem && !file_object(o, (enum kind)kind, object))
		r->nomem = 1;
}
