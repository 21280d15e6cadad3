#include <dirent.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <jansson.h>

#include "lib/base.h"
#include "policy/query.h"
#include "policy/reach.h"
#include "tests/unit/corpora.h"
#include "tests/unit/test.h"

/*
 * Public conformance suites of Kubernetes policies: clusters, policies, and what must come of it.
 *
 * A case is made into what `kubectl get -o yaml` would print, read, compiled, and asked flow by flow.
 * The suites are not part of the sources; without them only our own samples in tests/data/k8s are run.
 */
struct score {
	unsigned long right, total, cases;
};

static unsigned int shown; /* of what is wrong, the first few are worth reading */

static void wrong(const char *fmt, ...) PK_PRINTF(1, 2);

static void
wrong(const char *fmt, ...)
{
	va_list ap;

	if (shown++ >= 30)
		return;
	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
}

/* ---- a cluster ----------------------------------------------------------------------------------- */

struct cluster {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table;
	struct policy_query *query;
};

static void
close_cluster(struct cluster *c)
{
	policy_query_destroy(c->query);
	policy_table_destroy(c->table);
	policy_ids_destroy(c->ids);
	policy_model_destroy(c->model);
	policy_findings_destroy(c->findings);
}

/* Read the list, which is dropped.  Returns 0, or -1 having said why. */
static int
open_cluster(struct cluster *c, const char *id, json_t *list)
{
	struct pk_diag why;
	char *text = json_dumps(list, JSON_INDENT(1));
	int rc;

	memset(c, 0, sizeof(*c));
	assert_non_null(text);
	assert_int_equal(policy_findings_create(&c->findings), 0);
	assert_int_equal(policy_model_create(&c->model), 0);
	assert_int_equal(policy_ids_create(&c->ids), 0);
	rc = policy_model_add_text(c->model, id, text, strlen(text), c->findings);
	if (rc == 0)
		rc = policy_compile(c->model, c->ids, &c->table, c->findings);
	if (rc < 0) {
		policy_findings_first(c->findings, &why);
		wrong("%s", why.text);
	} else {
		rc = policy_query_create(&c->query, c->model, c->table, &why);
		if (rc < 0)
			wrong("%s: %s", id, why.text);
	}
	free(text);
	json_decref(list);
	return rc;
}

static json_t *
new_list(void)
{
	return json_pack("{ss ss s[]}", "apiVersion", "v1", "kind", "List", "items");
}

static void
add(json_t *list, json_t *object)
{
	assert_non_null(object);
	json_array_append_new(json_object_get(list, "items"), object);
}

static void
add_namespaces(json_t *list, json_t *namespaces, int nested)
{
	const char *name;
	json_t *value;

	json_object_foreach(namespaces, name, value) add(list,
	    json_pack("{ss ss s{ss sO}}", "apiVersion", "v1", "kind", "Namespace", "metadata",
	        "name", name, "labels", nested ? json_object_get(value, "labels") : value));
}

static json_t *
add_pod(
    json_t *list, const char *ns, const char *name, json_t *labels, const char *ip, json_t *ports)
{
	json_t *all = json_array(), *p, *pod;
	size_t i;

	json_array_foreach(ports, i, p)
	{
		json_t *port = json_pack("{sO}", "containerPort", json_object_get(p, "port"));

		json_object_set(port, "protocol", json_object_get(p, "protocol"));
		if (json_is_string(json_object_get(p, "name")))
			json_object_set(port, "name", json_object_get(p, "name"));
		json_array_append_new(all, port);
	}
	pod = json_pack("{ss ss s{ss ss sO} s{s[{ss so}]} s{ss}}", "apiVersion", "v1", "kind",
	    "Pod", "metadata", "name", name, "namespace", ns, "labels", labels, "spec",
	    "containers", "name", "c", "ports", all, "status", "phase", "Running");
	assert_non_null(pod);
	if (ip != NULL)
		json_object_set_new(json_object_get(pod, "status"), "podIP", json_string(ip));
	add(list, pod);
	return pod;
}

/* Suites leave out what their own readers know: kinds, and names that nobody asks for. */
static void
add_policy(json_t *list, json_t *policy, const char *api, const char *kind, const char *name)
{
	json_t *own = json_deep_copy(policy), *meta = json_object_get(own, "metadata");

	if (json_object_get(own, "apiVersion") == NULL)
		json_object_set_new(own, "apiVersion", json_string(api));
	if (json_object_get(own, "kind") == NULL)
		json_object_set_new(own, "kind", json_string(kind));
	if (json_object_get(meta, "name") == NULL)
		json_object_set_new(meta, "name", json_string(name));
	add(list, own);
}

static void
add_policies(json_t *list, json_t *policies, const char *api, const char *kind)
{
	char name[32];
	json_t *policy;
	size_t i;

	json_array_foreach(policies, i, policy)
	{
		snprintf(name, sizeof(name), "unnamed-%zu", i);
		add_policy(list, policy, api, kind, name);
	}
}

#define NETPOL "networking.k8s.io/v1", "NetworkPolicy"
#define ANP    "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"
#define BANP   "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"
#define CNP    "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"

/* ---- matrices ------------------------------------------------------------------------------------ */

static int
point_of(const char *proto, const char *port, struct policy_point *out)
{
	out->proto = strcmp(proto, "TCP") == 0 ? IPPROTO_TCP
	    : strcmp(proto, "UDP") == 0        ? IPPROTO_UDP
	                                       : IPPROTO_SCTP;
	out->selector = (uint16_t)atoi(port);
	return port[0] >= '0' && port[0] <= '9';
}

/* Rows are sources, columns destinations: `.` allowed, `X` not, else not asked. */
static void
check_matrix(const struct cluster *c, const char *id, json_t *order, json_t *expect, int side,
    struct score *s)
{
	const char *service, *source, *row;
	json_t *rows, *value, *name;
	size_t i;

	json_object_foreach(expect, service, rows)
	{
		char proto[16], *port;
		struct policy_point point;

		snprintf(proto, sizeof(proto), "%s", service);
		port = strchr(proto, '/');
		assert_non_null(port);
		*port++ = '\0';
		json_object_foreach(rows, source, value)
		{
			row = json_string_value(value);
			json_array_foreach(order, i, name)
			{
				const char *target = json_string_value(name);
				struct policy_end src, dst;
				struct policy_answer a;
				struct policy_point points[POLICY_POINTS_MAX];
				char text[64];
				struct pk_diag d;
				int allowed;

				if ((row[i] != '.' && row[i] != 'X') || strcmp(source, target) == 0)
					continue;
				s->total++;
				if (policy_query_end(c->query, source, &src, &d) < 0 ||
				    policy_query_end(c->query, target, &dst, &d) < 0) {
					wrong("%s: %s", id, d.text);
					continue;
				}
				if (!point_of(proto, port, &point)) {
					snprintf(text, sizeof(text), "%s/%s",
					    point.proto == IPPROTO_TCP       ? "tcp"
					        : point.proto == IPPROTO_UDP ? "udp"
					                                     : "sctp",
					    port);

					if (policy_query_service(
					        c->query, &src, &dst, text, points, &d) < 1) {
						wrong("%s: %s", id, d.text);
						continue;
					}
					point = points[0];
				}
				if (policy_query_flow(c->query, &src, &dst, point, &a, &d) < 0) {
					wrong("%s: %s", id, d.text);
					continue;
				}
				allowed = (side < 0 ? a.verdict : a.side[side].verdict) ==
				    PK_VERDICT_ALLOW;
				if (allowed == (row[i] == '.'))
					s->right++;
				else
					wrong("%s: %s -> %s %s %s: want %c", id, source, target,
					    service,
					    side < 0                ? ""
					        : side == PK_EGRESS ? "egress"
					                            : "ingress",
					    row[i]);
			}
		}
	}
}

static void
check_step(const char *id, json_t *step, json_t *list, struct score *s)
{
	struct cluster c;
	json_t *order = json_object_get(step, "order"), *pod;
	size_t i;

	add_namespaces(list, json_object_get(step, "namespaces"), 1);
	json_array_foreach(json_object_get(step, "pods"), i, pod)
	    add_pod(list, json_string_value(json_object_get(pod, "namespace")),
	        json_string_value(json_object_get(pod, "name")), json_object_get(pod, "labels"),
	        json_string_value(json_object_get(pod, "ip")), json_object_get(pod, "ports"));
	s->cases++;
	if (open_cluster(&c, id, list) < 0) {
		s->total++;
	} else {
		check_matrix(&c, id, order, json_object_get(step, "expect"), -1, s);
		check_matrix(&c, id, order, json_object_get(step, "expect_egress"), PK_EGRESS, s);
		check_matrix(&c, id, order, json_object_get(step, "expect_ingress"), PK_INGRESS, s);
	}
	close_cluster(&c);
}

/* Steps of a case: a list, or the case itself; policies by kind, or all in one list. */
static void
check_cases(json_t *suite, struct score *s)
{
	json_t *all = json_object_get(suite, "cases"), *item, *steps, *step, *banp;
	size_t i, k;

	json_array_foreach(all, i, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));

		steps = json_object_get(item, "steps");
		json_array_foreach(steps, k, step)
		{
			json_t *list = new_list();

			add_policies(list, json_object_get(step, "policies"), NETPOL);
			check_step(id, step, list, s);
		}
		if (steps != NULL)
			continue;
		step = new_list();
		add_policies(step, json_object_get(item, "policies"), NETPOL);
		add_policies(step, json_object_get(item, "network_policies"), NETPOL);
		add_policies(step, json_object_get(item, "admin_network_policies"), ANP);
		add_policies(step, json_object_get(item, "cluster_network_policies"), CNP);

		banp = json_object_get(item, "baseline_admin_network_policy");
		if (json_is_object(banp))
			add_policy(step, banp, BANP, "default");
		check_step(id, item, step, s);
	}
}

/* ---- connections --------------------------------------------------------------------------------- */

/* "default/web[Deployment]" to a name that a Pod may have; "0.0.0.0-...[External]" to its start. */
static void
end_name(const char *peer, char *out, size_t size)
{
	size_t n = 0;

	if (strstr(peer, "[External]") != NULL) {
		snprintf(out, size, "%.*s", (int)strcspn(peer, "-["), peer);
		/* What is nobody's address is in no packet. */
		if (strcmp(out, "0.0.0.0") == 0)
			snprintf(out, size, "0.0.0.1");
		return;
	}
	for (; *peer != '\0' && *peer != ']' && n + 1 < size; peer++)
		out[n++] = *peer == '[' ? '-' : *peer >= 'A' && *peer <= 'Z' ? *peer + 32 : *peer;
	out[n] = '\0';
}

/* Whether "TCP 80,90-99,UDP 53" or "All Connections" holds a point. */
static int
has_point(const char *conn, const char *proto, unsigned int port)
{
	char current[16] = "", *copy, *save = NULL;
	int found = conn != NULL && strcmp(conn, "All Connections") == 0;

	if (conn == NULL || found)
		return found;
	copy = strdup(conn);
	for (char *t = strtok_r(copy, ",", &save); t != NULL; t = strtok_r(NULL, ",", &save)) {
		char *space = strchr(t, ' ');
		unsigned int low, high;
		int n;

		if (space != NULL) {
			snprintf(current, sizeof(current), "%.*s", (int)(space - t), t);
			t = space + 1;
		}
		n = sscanf(t, "%u-%u", &low, &high);
		if (n < 1)
			continue;
		if (n == 1)
			high = low;
		found |= strcmp(current, proto) == 0 && port >= low && port <= high;
	}
	free(copy);
	return found;
}

static int
is_outside(const char *peer)
{
	return strstr(peer, "[External]") != NULL;
}

/* Whether a peer of the golden file speaks of `end`: a workload by name, an address by its range. */
static int
speaks_of(const char *peer, const char *text, const struct policy_end *end)
{
	char low[PK_ADDR_TEXT], high[PK_ADDR_TEXT];
	struct pk_addr from, to;

	if (!is_outside(peer) || !is_outside(text))
		return strcmp(peer, text) == 0;
	if (sscanf(peer, "%45[^-[]-%45[^[]", low, high) != 2)
		return strcmp(peer, text) == 0;
	return pk_addr_parse(&from, low, NULL) == 0 && pk_addr_parse(&to, high, NULL) == 0 &&
	    pk_addr_compare(&from, &end->addr) <= 0 && pk_addr_compare(&end->addr, &to) <= 0;
}

static void
check_pair(const struct cluster *c, const char *id, json_t *connlist, const char *src,
    const char *dst, struct score *s)
{
	static const char *const protos[] = { "TCP", "UDP", "SCTP" };
	json_t *expect = json_object_get(connlist, "expect"), *e;
	json_t *hints = json_object_get(connlist, "port_hints");
	char from[256], to[256];
	struct policy_end a, b;
	struct pk_diag d;

	end_name(src, from, sizeof(from));
	end_name(dst, to, sizeof(to));
	if (policy_query_end(c->query, from, &a, &d) < 0 ||
	    policy_query_end(c->query, to, &b, &d) < 0) {
		wrong("%s: %s", id, d.text);
		s->total++;
		return;
	}
	for (size_t i = 0; i < json_array_size(hints) + 2; i++) {
		unsigned int port = i < json_array_size(hints)
		    ? (unsigned int)json_integer_value(json_array_get(hints, i))
		    : i == json_array_size(hints) ? 1
		                                  : 54321;

		for (size_t p = 0; p < PK_COUNT(protos); p++) {
			struct policy_point point = { .selector = (uint16_t)port };
			struct policy_answer answer;
			int want = 0;
			size_t k;
			json_array_foreach(expect, k,
			    e) if (speaks_of(json_string_value(json_object_get(e, "src")), src,
			               &a) &&
			    speaks_of(json_string_value(json_object_get(e, "dst")), dst, &b))
			    want |= has_point(
			        json_string_value(json_object_get(e, "conn")), protos[p], port);
			point_of(protos[p], "1", &point);
			point.selector = (uint16_t)port;

			s->total++;
			if (policy_query_flow(c->query, &a, &b, point, &answer, &d) < 0)
				wrong("%s: %s", id, d.text);
			else if ((answer.verdict == PK_VERDICT_ALLOW) == want)
				s->right++;
			else
				wrong("%s: %s -> %s %s %u: want %s", id, from, to, protos[p], port,
				    want ? "allow" : "deny");
		}
	}
}

/* "ns/web[Deployment]": the Pod that stands for it says who owns it. */
static void
add_owner(json_t *pod, const char *peer)
{
	const char *name = strchr(peer, '/') + 1, *kind = strchr(name, '[');

	if (kind != NULL && strcmp(kind, "[Pod]") != 0)
		json_object_set_new(json_object_get(pod, "metadata"), "ownerReferences",
		    json_pack("[{ss# ss#}]", "name", name, (size_t)(kind - name), "kind", kind + 1,
		        strlen(kind) - 2));
}

/* The golden lines as a set; each row must be in it, and all of it must come. */
struct golden {
	json_t *want; /* "src => dst" -> conn */
	struct policy_pool *pool;
	const char *id;
	struct score *score;
};

static void
golden_key(char *out, size_t size, const char *src, const char *dst)
{
	size_t n = 0;
	const char *ends[] = { src, " => ", dst };

	for (size_t i = 0; i < PK_COUNT(ends); i++) {
		size_t len = strlen(ends[i]);

		for (const char *p = ends[i]; *p != '\0' && n + 1 < size; p++) {
			if (strcmp(p, "[Pod]") == 0 || strcmp(p, "[External]") == 0)
				break;
			out[n++] = *p;
		}
		PK_ASSERT(len < size);
	}
	out[n] = '\0';
}

static int
check_row(void *arg, const struct policy_reach_row *row)
{
	char src[POLICY_REACH_TEXT], dst[POLICY_REACH_TEXT], key[2 * POLICY_REACH_TEXT];
	char *conn =
	    policy_traffic_text(policy_pool_get(((struct golden *)arg)->pool, row->allowed[0]));
	struct golden *g = arg;
	const char *want;

	golden_key(key, sizeof(key), policy_reach_end_text(row, 0, src),
	    policy_reach_end_text(row, 1, dst));
	want = json_string_value(json_object_get(g->want, key));
	g->score->total++;
	if (want != NULL && strcmp(want, conn) == 0)
		g->score->right++;
	else
		wrong("%s: %s : %s, want %s", g->id, key, conn, want != NULL ? want : "nothing");
	json_object_del(g->want, key);
	free(conn);
	return 0;
}

/* Reachability, row by row, as the suite's own tool prints it. */
static void
check_reach(const struct cluster *c, const char *id, json_t *connlist, struct score *s)
{
	struct policy_world world = { .model = c->model, .table = c->table };
	struct golden g = { .want = json_object(), .id = id, .score = s };
	char key[2 * POLICY_REACH_TEXT];
	struct policy_reach *r;
	const char *left;
	json_t *e, *conn;
	size_t i;

	json_array_foreach(json_object_get(connlist, "expect"), i, e)
	{
		golden_key(key, sizeof(key), json_string_value(json_object_get(e, "src")),
		    json_string_value(json_object_get(e, "dst")));
		json_object_set(g.want, key, json_object_get(e, "conn"));
	}
	assert_int_equal(policy_reach_create(&r, &world, 1, POLICY_BY_WORKLOAD), 0);
	g.pool = policy_reach_pool(r);
	assert_int_equal(policy_reach_each(r, NULL, NULL, 0, check_row, &g), 0);
	json_object_foreach(g.want, left, conn)
	{
		s->total++;
		wrong("%s: %s : %s does not come", id, left, json_string_value(conn));
	}
	policy_reach_destroy(r);
	json_decref(g.want);
}

static void
check_connections(json_t *input, json_t *connlist, struct score *s)
{
	const char *id = json_string_value(json_object_get(input, "id"));
	json_t *list = new_list(), *peers = json_object(), *w, *e;
	const char *src, *dst;
	struct cluster c;
	size_t i;

	add_namespaces(list, json_object_get(input, "namespaces"), 0);
	json_array_foreach(json_object_get(input, "workloads"), i, w)
	{
		const char *peer = json_string_value(json_object_get(w, "peer"));
		char name[256];

		end_name(peer, name, sizeof(name));
		add_owner(
		    add_pod(list, json_string_value(json_object_get(w, "namespace")),
		        strchr(name, '/') + 1, json_object_get(w, "labels"),
		        json_string_value(json_object_get(w, "ip")), json_object_get(w, "ports")),
		    peer);
		json_object_set_new(peers, peer, json_true());
	}
	add_policies(list, json_object_get(input, "np"), NETPOL);
	add_policies(list, json_object_get(input, "admin"), ANP);
	add_policies(list, json_object_get(input, "baseline"), BANP);
	json_array_foreach(json_object_get(connlist, "expect"), i, e)
	{
		src = json_string_value(json_object_get(e, "src"));
		dst = json_string_value(json_object_get(e, "dst"));
		if (is_outside(src))
			json_object_set_new(peers, src, json_true());
		if (is_outside(dst))
			json_object_set_new(peers, dst, json_true());
	}
	s->cases++;
	if (open_cluster(&c, id, list) < 0) {
		s->total++;
	} else {
		json_object_foreach(peers, src, w) json_object_foreach(peers, dst,
		    e) if (strcmp(src, dst) != 0 && !(is_outside(src) && is_outside(dst)))
		    check_pair(&c, id, connlist, src, dst, s);
		check_reach(&c, id, connlist, s);
	}
	close_cluster(&c);
	json_decref(peers);
}

static int
is_json(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 5 && strcmp(e->d_name + len - 5, ".json") == 0;
}

/* inputs/X.json with connlist/X.json; those with kinds that no policy here speaks of are passed over. */
static void
check_directory(const char *dir, struct score *s)
{
	struct dirent **names;
	char path[2048];
	int n;

	snprintf(path, sizeof(path), "%s/inputs", dir);
	n = scandir(path, &names, is_json, alphasort);
	for (int i = 0; i < n; i++) {
		json_t *input, *connlist;

		snprintf(path, sizeof(path), "%s/inputs/%s", dir, names[i]->d_name);
		input = json_load_file(path, 0, NULL);
		snprintf(path, sizeof(path), "%s/connlist/%s", dir, names[i]->d_name);
		connlist = json_load_file(path, 0, NULL);
		if (input != NULL && connlist != NULL &&
		    json_is_true(json_object_get(connlist, "core")))
			check_connections(input, connlist, s);
		json_decref(input);
		json_decref(connlist);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

/* ---- compiled tiers ------------------------------------------------------------------------------ */

/*
 * Tiers of rules about packets, as another data plane compiles them.  They become tiers of ours about
 * one workload that has no address: rules that speak of destinations are its egress, the others its
 * ingress.  Nothing of ours matches source ports, so rules that do are passed over, as are packets of
 * hosts, which are another product's wiring.
 */
static int
mentions(json_t *rule, const char *word)
{
	const char *key;
	json_t *value;

	json_object_foreach(rule, key, value) if (strstr(key, word) != NULL &&
	    !(json_is_array(value) && json_array_size(value) == 0)) return 1;
	return 0;
}

/* What a rule of ours cannot say in one, or what nobody has told us the meaning of. */
static int
is_strange(json_t *rule)
{
	static const char *const known[] = { "action", "protocol", "not_protocol", "src_net",
		"not_src_net", "dst_net", "not_dst_net", "dst_ports", "src_ip_set_ids",
		"not_src_ip_set_ids", "dst_ip_set_ids", "not_dst_ip_set_ids",
		"dst_named_port_ip_set_ids", "icmp" };
	const char *key;
	json_t *value;
	int peers = 0;

	json_object_foreach(rule, key, value)
	{
		size_t i = 0;

		if (json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0))
			continue;
		while (i < PK_COUNT(known) && strcmp(known[i], key) != 0)
			i++;
		if (i == PK_COUNT(known))
			return 1;
		peers += strstr(key, "_net") != NULL || strstr(key, "ip_set") != NULL;
		/* A packet must be in each of several sets; we know how to ask for one of them. */
		if (strstr(key, "ip_set_ids") != NULL && strstr(key, "named") == NULL &&
		    strncmp(key, "not_", 4) != 0 && json_array_size(value) > 1)
			return 1;
	}
	return peers > 1;
}

/* A protocol by name or number; -1 if the rule does not say. */
static int
protocol_of(json_t *rule, const char *key)
{
	json_t *v = json_object_get(json_object_get(rule, key), "v");
	const char *name = json_string_value(json_object_get(v, "name"));

	if (v == NULL)
		return -1;
	if (name == NULL)
		return (int)json_integer_value(json_object_get(v, "number"));
	return strcasecmp(name, "tcp") == 0   ? IPPROTO_TCP
	    : strcasecmp(name, "udp") == 0    ? IPPROTO_UDP
	    : strcasecmp(name, "sctp") == 0   ? IPPROTO_SCTP
	    : strcasecmp(name, "icmp") == 0   ? IPPROTO_ICMP
	    : strcasecmp(name, "icmpv6") == 0 ? IPPROTO_ICMPV6
	                                      : 0;
}

static void
add_ports(json_t *out, const char *proto, json_t *ports)
{
	char text[64];
	json_t *p;
	size_t i;

	json_array_foreach(ports, i, p)
	{
		snprintf(text, sizeof(text), "%s/%d-%d", proto,
		    (int)json_integer_value(json_object_get(p, "first")),
		    (int)json_integer_value(json_object_get(p, "last")));
		json_array_append_new(out, json_string(text));
	}
}

/* A network whose host bits may be set. */
static json_t *
network(const char *text)
{
	char copy[PK_PREFIX_TEXT], buf[PK_PREFIX_TEXT];
	struct pk_prefix p;
	char *slash;

	memset(&p, 0, sizeof(p));
	snprintf(copy, sizeof(copy), "%s", text);
	slash = strchr(copy, '/');
	assert_non_null(slash);
	*slash = '\0';
	assert_int_equal(pk_addr_parse(&p.addr, copy, NULL), 0);
	p.len = (uint8_t)atoi(slash + 1);
	for (unsigned int bit = p.len; bit < pk_addr_bits(&p.addr); bit++)
		p.addr.bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	return json_string(pk_prefix_text(&p, buf));
}

static void
add_networks(json_t *out, json_t *list)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	    json_array_append_new(out, network(json_string_value(item)));
}

/* The union of both families' whole, less what a negated rule names; less one of them as a whole. */
static json_t *
all_but(json_t *nets)
{
	json_t *peers = json_array();

	for (int family = 4; family <= 6; family += 2) {
		json_t *except = json_array(), *item;
		int whole = 0;
		size_t i;

		json_array_foreach(nets, i, item)
		{
			const char *text = json_string_value(item);

			if ((strchr(text, ':') != NULL) != (family == 6))
				continue;
			whole |= strstr(text, "/0") != NULL;
			json_array_append(except, item);
		}
		if (!whole) {
			json_t *peer =
			    json_pack("{s[s]}", "networks", family == 4 ? "0.0.0.0/0" : "::/0");

			if (json_array_size(except) > 0)
				json_object_set(peer, "except", except);
			json_array_append_new(peers, peer);
		}
		json_decref(except);
	}
	return peers;
}

static json_t *
services_of(json_t *rule)
{
	int is = protocol_of(rule, "protocol"), not = protocol_of(rule, "not_protocol");
	json_t *ports = json_object_get(rule, "dst_ports"), *icmp = json_object_get(rule, "icmp");
	json_t *out = json_array();
	char text[64];

	if (json_array_size(ports) > 0) {
		if (is < 0 || is == IPPROTO_TCP)
			add_ports(out, "tcp", ports);
		if (is < 0 || is == IPPROTO_UDP)
			add_ports(out, "udp", ports);
		if (is < 0 || is == IPPROTO_SCTP)
			add_ports(out, "sctp", ports);
	} else if (is >= 0 && icmp == NULL) {
		snprintf(text, sizeof(text), "proto/%d", is);
		json_array_append_new(out, json_string(text));
	}
	for (int proto = 0; not >= 0 && proto < 255; proto++) {
		if (proto == not )
			continue;
		snprintf(text, sizeof(text), "proto/%d", proto);
		json_array_append_new(out, json_string(text));
	}
	if (icmp != NULL) {
		json_t *both = json_object_get(icmp, "icmp_type_code");
		json_t *type = json_object_get(
		    both != NULL ? both : icmp, both != NULL ? "type" : "icmp_type");
		const char *name = is == IPPROTO_ICMPV6 ? "icmpv6" : "icmpv4";

		if (both != NULL)
			snprintf(text, sizeof(text), "%s/%d/%d", name,
			    (int)json_integer_value(type),
			    (int)json_integer_value(json_object_get(both, "code")));
		else
			snprintf(text, sizeof(text), "%s/%d", name, (int)json_integer_value(type));

		json_array_append_new(out, json_string(text));
	}
	return out;
}

/* One rule, or one for each member of a set of named ports ("10.0.0.2/32,tcp:80"). */
static void
add_rules(json_t *rules, json_t *from, const char *side, json_t *sets)
{
	static const char *const words[] = { "Allow", "allow", "Deny", "deny", "Pass", "pass" };
	const char *action = json_string_value(json_object_get(from, "action")), *key;
	json_t *rule = json_object(), *nets = json_array(), *services = services_of(from), *value,
	       *set;
	json_t *peers = NULL;
	int negated = 0, several = 0;
	size_t i, k;

	for (i = 0; i < PK_COUNT(words); i += 2)
		if (strcmp(action, words[i]) == 0)
			json_object_set_new(rule, "action", json_string(words[i + 1]));
	json_object_foreach(from, key, value)
	{
		if (strstr(key, "_net") != NULL) {
			add_networks(nets, value);
			negated = strncmp(key, "not_", 4) == 0;
		}
		if (strstr(key, "ip_set_ids") == NULL)
			continue;
		negated = strncmp(key, "not_", 4) == 0;
		json_array_foreach(value, i, set)
		{
			json_t *members = json_object_get(sets, json_string_value(set)), *m;

			json_array_foreach(members, k, m)
			{
				char text[128], *comma;

				snprintf(text, sizeof(text), "%s", json_string_value(m));
				comma = strchr(text, ',');
				if (comma == NULL) {
					json_array_append_new(nets, network(text));
					continue;
				}
				*comma++ = '\0';
				*strchr(comma, ':') = '/';
				several = 1;
				json_array_append_new(rules,
				    json_pack("{sO s[{s[o]}] s[s]}", "action",
				        json_object_get(rule, "action"), side, "networks",
				        network(text), "services", comma));
			}
		}
	}
	if (negated)
		peers = all_but(nets);
	else if (json_array_size(nets) > 0)
		peers = json_pack("[{sO}]", "networks", nets);
	if (peers != NULL)
		json_object_set(rule, side, peers);
	if (json_array_size(services) > 0)
		json_object_set(rule, "services", services);
	/* Nothing is left of what excepts everything. */
	if (!several && !(peers != NULL && json_array_size(peers) == 0))
		json_array_append(rules, rule);
	json_decref(peers);
	json_decref(services);
	json_decref(nets);
	json_decref(rule);
}

static void
add_tier(json_t *list, json_t *tier, size_t order, int egress, json_t *sets)
{
	const char *end = json_string_value(json_object_get(tier, "end_action"));
	json_t *policies = json_object_get(tier, "policies"), *policy, *rule;
	char name[32];
	size_t i, k;

	snprintf(name, sizeof(name), "tier-%zu", order);
	add(list,
	    json_pack("{ss ss s{ss} s{si ss}}", "apiVersion", "picket.io/v1", "kind", "Tier",
	        "metadata", "name", name, "spec", "order", (int)order + 1, "default",
	        end != NULL && strcmp(end, "pass") == 0 ? "pass" : "deny"));
	json_array_foreach(policies, i, policy)
	{
		json_t *rules = json_array();
		char own[64];

		json_array_foreach(json_object_get(policy, "rules"), k, rule)
		    add_rules(rules, rule, egress ? "to" : "from", sets);
		snprintf(own, sizeof(own), "%s-%zu", name, i);
		add(list,
		    json_pack("{ss ss s{ss} s{ss si so}}", "apiVersion", "picket.io/v1", "kind",
		        "Policy", "metadata", "name", own, "spec", "tier", name, "priority", (int)i,
		        egress ? "egress" : "ingress", rules));
	}
}

static void
check_packets(
    const struct cluster *c, const char *id, json_t *packets, int egress, int want, struct score *s)
{
	struct policy_end self, peer;
	struct policy_answer a;
	struct pk_diag d;
	json_t *p;
	size_t i;

	assert_int_equal(policy_query_end(c->query, "self", &self, &d), 0);
	json_array_foreach(packets, i, p)
	{
		struct policy_point point = { .proto = (uint8_t)json_integer_value(
			                          json_object_get(p, "proto")) };
		const char *addr = json_string_value(json_object_get(p, egress ? "dst" : "src"));

		point.selector = (uint16_t)json_integer_value(json_object_get(p, "dport"));
		if (point.proto == IPPROTO_ICMP || point.proto == IPPROTO_ICMPV6)
			point.selector =
			    (uint16_t)(json_integer_value(json_object_get(p, "icmp_type")) << 8 |
			        json_integer_value(json_object_get(p, "icmp_code")));
		s->total++;
		assert_int_equal(policy_query_end(c->query, addr, &peer, &d), 0);
		if (policy_query_flow(c->query, egress ? &self : &peer, egress ? &peer : &self,
		        point, &a, &d) == 0 &&
		    (a.verdict == PK_VERDICT_ALLOW) == want)
			s->right++;
		else
			wrong("%s: packet %zu of %s", id, i, want ? "allowed" : "dropped");
	}
}

static void
check_tiers(json_t *item, struct score *s, unsigned int *over)
{
	const char *id = json_string_value(json_object_get(item, "id"));
	json_t *tiers = json_object_get(json_object_get(item, "policy"), "tiers"), *tier, *policy,
	       *rule;
	int egress = 0, ingress = 0, strange = 0;
	json_t *list = new_list();
	struct cluster c;
	size_t i, k, r;

	json_array_foreach(tiers, i, tier) json_array_foreach(json_object_get(tier, "policies"), k,
	    policy) json_array_foreach(json_object_get(policy, "rules"), r, rule)
	{
		egress |= mentions(rule, "dst_net") | mentions(rule, "dst_ip_set") |
		    mentions(rule, "dst_named");
		ingress |= mentions(rule, "src_net") | mentions(rule, "src_ip_set");
		strange |= is_strange(rule);
	}
	if (strange || (egress && ingress)) {
		++*over;
		json_decref(list);
		return;
	}
	add(list,
	    json_pack("{ss ss s{ss} s{}}", "apiVersion", "picket.io/v1", "kind", "Workload",
	        "metadata", "name", "self", "spec"));
	json_array_foreach(tiers, i, tier)
	    add_tier(list, tier, i, egress, json_object_get(item, "ip_sets"));
	s->cases++;
	if (open_cluster(&c, id, list) < 0) {
		s->total++;
	} else {
		check_packets(&c, id, json_object_get(item, "allowed"), egress, 1, s);
		check_packets(&c, id, json_object_get(item, "dropped"), egress, 0, s);
		check_packets(&c, id, json_object_get(item, "unmatched"), egress, 0, s);
	}
	close_cluster(&c);
}

/* ---- the suites ---------------------------------------------------------------------------------- */

static const char *
source_dir(void)
{
	const char *src = getenv("SRCDIR");

	return src != NULL ? src : ".";
}

/* Where the suites are, or NULL. */
static const char *
corpora(void)
{
	static char path[1024];

	return corpora_find("policy", path, sizeof(path)) ? path : NULL;
}

static void
report(const char *name, const struct score *s)
{
	printf(
	    "# %s: %lu of %lu cells right in %lu clusters\n", name, s->right, s->total, s->cases);
	assert_true(s->total > 0);
	assert_int_equal(s->right, s->total);
}

static void
run_suite(const char *dir, const char *name)
{
	struct score s = { 0 };
	char path[1100];
	unsigned int over = 0;
	struct stat st;
	json_t *suite, *item;
	size_t i;

	if (dir == NULL) {
		printf("# skipped: %s: no suites; set PICKET_CORPORA\n", name);
		skip();
	}
	shown = 0;
	snprintf(path, sizeof(path), "%s/%s/cases.json", dir, name);
	suite = json_load_file(path, 0, NULL);
	if (suite != NULL) {
		check_cases(suite, &s);
		json_array_foreach(json_object_get(suite, "workload"), i, item)
		    check_tiers(item, &s, &over);
		if (over > 0)
			printf("# %s: %u cases ask for what is not ours to match\n", name, over);
		json_decref(suite);
	} else {
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (stat(path, &st) < 0) {
			printf("# skipped: %s is not among the suites\n", name);
			skip();
		}
		check_directory(path, &s);
	}
	report(name, &s);
}

/* What every tree has, so that the reading of suites is tested without any. */
static void
test_own(void **state)
{
	char dir[1024];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/tests/data/k8s/suites", source_dir());
	run_suite(dir, "matrix");
	run_suite(dir, "connections");
}

static void
test_cyclonus(void **state)
{
	(void)state;
	run_suite(corpora(), "cyclonus");
}

static void
test_policy_assistant(void **state)
{
	(void)state;
	run_suite(corpora(), "policy-assistant");
}

static void
test_fuzz(void **state)
{
	(void)state;
	run_suite(corpora(), "fuzz");
}

static void
test_np_guard(void **state)
{
	(void)state;
	run_suite(corpora(), "np-guard");
}

static void
test_polprog(void **state)
{
	(void)state;
	run_suite(corpora(), "calico-polprog");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_cyclonus),
		cmocka_unit_test(test_policy_assistant),
		cmocka_unit_test(test_fuzz),
		cmocka_unit_test(test_np_guard),
		cmocka_unit_test(test_polprog),
	};

	return cmocka_run_group_tests_name("policy/conformance", tests, NULL, NULL);
}
