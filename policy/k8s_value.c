#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/k8s_priv.h"
#include "policy/network.h"

/* Maps, numbers, names and prefixes as the Kubernetes API has them. */

const struct policy_node *
policy_k8s_get(const struct policy_node *n, const char *key)
{
	const struct policy_node *v = n != NULL ? policy_node_get(n, key) : NULL;

	return v != NULL && !policy_node_is_null(v) ? v : NULL;
}

static const struct policy_node *
get_kind(struct policy_reader *r, const struct policy_node *n, const char *key,
    enum policy_node_kind kind, const char *want)
{
	const struct policy_node *v = policy_k8s_get(n, key);

	if (v == NULL || v->kind == kind)
		return v;
	r->key = key;
	r->want = want;
	policy_reader_mismatch(r, v);
	return NULL;
}

const struct policy_node *
policy_k8s_map(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	return get_kind(r, n, key, POLICY_MAP, "a map");
}

const struct policy_node *
policy_k8s_list(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	return get_kind(r, n, key, POLICY_LIST, "a list");
}

const struct policy_node *
policy_k8s_word(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	return get_kind(r, n, key, POLICY_SCALAR, "a word");
}

int
policy_k8s_is_map(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	if (n->kind == POLICY_MAP)
		return 1;
	r->key = key;
	r->want = "a map";
	policy_reader_mismatch(r, n);
	return 0;
}

static int
is_known(const char *key, const char *const *known, size_t nb)
{
	for (size_t i = 0; i < nb; i++)
		if (strcmp(key, known[i]) == 0)
			return 1;
	return 0;
}

void
policy_k8s_keys(
    struct policy_reader *r, const struct policy_node *n, const char *const *known, size_t nb)
{
	for (uint32_t i = 0; i < n->nb; i++)
		if (!is_known(n->pairs[i].key->text, known, nb))
			policy_reader_unknown(r, n->pairs[i].key, "unknown-key", "key", known, nb);
}

const struct policy_node *
policy_k8s_stranger(const struct policy_node *n, const char *const *known, size_t nb)
{
	for (uint32_t i = 0; i < n->nb; i++)
		if (!is_known(n->pairs[i].key->text, known, nb) &&
		    !policy_node_is_null(n->pairs[i].value))
			return n->pairs[i].key;
	return NULL;
}

int64_t
policy_k8s_number(struct policy_reader *r, const struct policy_node *n, const char *key,
    int64_t low, int64_t high)
{
	const struct policy_node *v = policy_k8s_get(n, key);
	const char *s;
	int64_t value = 0;

	if (v == NULL)
		return -1;
	if (v->kind == POLICY_SCALAR && v->plain && v->text[0] != '\0') {
		for (s = v->text; *s >= '0' && *s <= '9' && value <= INT32_MAX; s++)
			value = value * 10 + (*s - '0');
		if (*s == '\0' && value >= low && value <= high &&
		    (v->text[0] != '0' || v->text[1] == '\0'))
			return value;
	}
	policy_reader_error(r, v, "bad-value",
	    "\"%s\" must be a whole number from %lld to %lld, not %s%.64s%s", key, (long long)low,
	    (long long)high, v->kind == POLICY_SCALAR ? "\"" : "",
	    v->kind == POLICY_SCALAR ? v->text : "a map or list",
	    v->kind == POLICY_SCALAR ? "\"" : "");
	return -1;
}

/* ---- names --------------------------------------------------------------------------------------- */

static int
is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int
is_alnum(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static int
part_ok(const char *text, size_t len)
{
	if (len == 0 || len > 63 || !is_lower(text[0]) || !is_lower(text[len - 1]))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!is_lower(text[i]) && text[i] != '-')
			return 0;
	return 1;
}

int
policy_k8s_label_ok(const char *text)
{
	return part_ok(text, strlen(text));
}

static int
subdomain_ok(const char *text, size_t len)
{
	size_t start = 0;

	if (len == 0 || len > POLICY_K8S_NAME_MAX)
		return 0;
	/* Unlike a host name's, a part may be longer than 63: the API checks the whole only. */
	for (size_t i = 0; i <= len; i++) {
		if (i < len && text[i] != '.')
			continue;
		if (i == start || !is_lower(text[start]) || !is_lower(text[i - 1]))
			return 0;
		for (size_t k = start; k < i; k++)
			if (!is_lower(text[k]) && text[k] != '-')
				return 0;
		start = i + 1;
	}
	return 1;
}

int
policy_k8s_subdomain_ok(const char *text)
{
	return subdomain_ok(text, strlen(text));
}

int
policy_k8s_port_name_ok(const char *text)
{
	size_t len = strlen(text);
	int letter = 0;

	if (len == 0 || len > 15 || text[0] == '-' || text[len - 1] == '-')
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (!is_lower(text[i]) && text[i] != '-')
			return 0;
		if (text[i] == '-' && text[i + 1] == '-')
			return 0;
		letter |= text[i] >= 'a' && text[i] <= 'z';
	}
	return letter;
}

static int
bounded(const char *text, size_t len)
{
	if (len == 0 || len > 63 || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(text[i]) && strchr("-_.", text[i]) == NULL)
			return 0;
	return 1;
}

/* "app" or "example.com/app". */
static int
key_ok(const char *text)
{
	const char *slash = strchr(text, '/');

	if (slash == NULL)
		return bounded(text, strlen(text));
	return subdomain_ok(text, (size_t)(slash - text)) && bounded(slash + 1, strlen(slash + 1));
}

/* ---- metadata and labels ------------------------------------------------------------------------- */

int
policy_k8s_meta(
    struct policy_reader *r, const struct policy_node *doc, struct policy_meta *m, int namespaced)
{
	const struct policy_node *meta = policy_k8s_map(r, doc, "metadata");
	const struct policy_node *name = policy_k8s_word(r, meta, "name");
	const struct policy_node *ns = policy_k8s_word(r, meta, "namespace");
	unsigned int errors = r->errors;

	m->file = r->file;
	m->line = doc->line;
	m->column = doc->column;
	m->tenant = POLICY_TENANT;
	if ((name == NULL || name->text[0] == '\0') && m->kind != NULL) {
		/* As in a manifest with generateName.  Nothing hangs on a policy's name. */
		policy_reader_warn(r, meta != NULL ? meta : doc, "missing-key",
		    "this %s has no name, and is called after its place", m->kind);
		m->name = policy_arena_printf(
		    r->arena, "unnamed-%u-%u", (unsigned int)doc->line, (unsigned int)doc->column);
		if (m->name == NULL)
			r->nomem = 1;
	} else if (name == NULL || name->text[0] == '\0') {
		policy_reader_error(r, meta != NULL ? meta : doc, "missing-key",
		    "metadata lacks \"name\": a name in lower case");
		return -1;
	} else {
		m->name = name->text;
	}
	if (name != NULL && name->text[0] != '\0' && !policy_k8s_subdomain_ok(name->text))
		policy_reader_error(r, name, "bad-value",
		    "\"name\" must be lower-case letters and digits with - and . between them, at most %d, not \"%.64s\"",
		    POLICY_K8S_NAME_MAX, name->text);
	/* An empty namespace is an absent one, and that is "default". */
	if (namespaced && ns != NULL && ns->text[0] != '\0') {
		m->tenant = ns->text;
		if (!policy_k8s_label_ok(ns->text))
			policy_reader_error(r, ns, "bad-value",
			    "\"namespace\" must be lower-case letters and digits with - between them, at most 63, not \"%.64s\"",
			    ns->text);
	}
	return r->errors == errors ? 0 : -1;
}

/*
 * The label as workloads carry it.  `attested` of ours is proven, never claimed, so a Pod that has a
 * label of that name gets it under another.
 */
static const char *
own_key(struct policy_reader *r, const char *prefix, const char *key)
{
	const char *own;

	if (prefix[0] == '\0' && strcmp(key, "attested") == 0)
		prefix = "pod:";
	if (prefix[0] == '\0')
		return key;
	own = policy_arena_printf(r->arena, "%s%s", prefix, key);
	if (own == NULL)
		r->nomem = 1;
	return own;
}

static int
check_key(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	if (key_ok(key))
		return 1;
	policy_reader_error(r, n, "bad-label",
	    "\"%.64s\" is not a label: want letters, digits and -_. between them, at most 63, perhaps after a domain and a slash",
	    key);
	return 0;
}

/* The value of a label; null is the empty word. */
static const char *
read_value(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	if (policy_node_is_null(n))
		return "";
	if (n->kind != POLICY_SCALAR) {
		r->key = key;
		r->want = "a word";
		policy_reader_mismatch(r, n);
		return NULL;
	}
	if (n->text[0] == '\0' || bounded(n->text, strlen(n->text)))
		return n->text;
	policy_reader_error(r, n, "bad-label",
	    "\"%.80s\" is not a value of a label: want letters and digits with -_. between them, at most 63",
	    n->text);
	return NULL;
}

void
policy_k8s_labels(struct policy_reader *r, const struct policy_node *n, const char *prefix,
    struct policy_labels *l)
{
	uint32_t nb = n != NULL ? n->nb : 0;

	l->nb = 0;
	l->at = policy_reader_alloc(r, nb + 1, sizeof(l->at[0]));
	for (uint32_t i = 0; l->at != NULL && i < nb; i++) {
		const struct policy_node *key = n->pairs[i].key;
		const char *value = read_value(r, n->pairs[i].value, key->text);

		if (value == NULL || !check_key(r, key, key->text))
			continue;
		l->at[l->nb].key = own_key(r, prefix, key->text);
		l->at[l->nb].value = value;
		if (l->at[l->nb].key == NULL)
			return;
		l->nb++;
	}
}

/* ---- selectors ----------------------------------------------------------------------------------- */

static int
by_word(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Room for `more` requirements after those that are there. */
static struct policy_requirement *
make_room(struct policy_reader *r, struct policy_selector *s, uint32_t more)
{
	struct policy_requirement *at = policy_reader_alloc(r, s->nb + more, sizeof(at[0]));

	if (at == NULL)
		return NULL;
	if (s->nb > 0)
		memcpy(at, s->at, s->nb * sizeof(at[0]));
	s->at = at;
	return at;
}

static void
add_requirement(struct policy_reader *r, struct policy_selector *s, const char *key,
    enum policy_op op, const char *value)
{
	struct policy_requirement *q = &s->at[s->nb];

	*q = (struct policy_requirement){ .key = key, .op = op };
	if (value != NULL) {
		q->values = policy_reader_alloc(r, 1, sizeof(q->values[0]));
		if (q->values == NULL)
			return;
		q->values[0] = value;
		q->nb = 1;
	}
	s->nb++;
}

static void
add_expression(struct policy_reader *r, const struct policy_node *n, const char *prefix,
    struct policy_selector *s)
{
	static const char *const known[] = { "key", "operator", "values" };
	static const char *const ops[] = { "In", "NotIn", "Exists", "DoesNotExist" };
	const struct policy_node *key, *op, *values;
	struct policy_requirement q = { 0 };
	unsigned int errors = r->errors;
	size_t i = 0;
	uint32_t kept = 0;

	if (!policy_k8s_is_map(r, n, "matchExpressions"))
		return;
	policy_k8s_keys(r, n, known, PK_COUNT(known));
	key = policy_k8s_word(r, n, "key");
	op = policy_k8s_word(r, n, "operator");
	values = policy_k8s_list(r, n, "values");
	if (key == NULL || op == NULL) {
		policy_reader_error(r, n, "missing-key", "an expression lacks \"%s\": %s",
		    key == NULL ? "key" : "operator",
		    key == NULL ? "a label" : "In, NotIn, Exists or DoesNotExist");
		return;
	}
	while (i < PK_COUNT(ops) && strcmp(op->text, ops[i]) != 0)
		i++;
	if (i == PK_COUNT(ops)) {
		policy_reader_unknown(r, op, "unknown-word", "operator", ops, PK_COUNT(ops));
		return;
	}
	q.op = (enum policy_op)i;
	if (q.op == POLICY_EXISTS || q.op == POLICY_DOES_NOT_EXIST) {
		if (values != NULL && values->nb > 0)
			policy_reader_error(
			    r, values, "bad-value", "operator %s goes without values", ops[i]);
	} else if (values == NULL || values->nb == 0) {
		policy_reader_error(r, values != NULL ? values : n, "missing-key",
		    "an expression with operator %s lacks \"values\"", ops[i]);
	}
	if (!check_key(r, key, key->text) || r->errors != errors)
		return;
	q.key = own_key(r, prefix, key->text);
	if (q.op == POLICY_IN || q.op == POLICY_NOT_IN) {
		q.values = policy_reader_alloc(r, values->nb, sizeof(q.values[0]));
		for (uint32_t v = 0; q.values != NULL && v < values->nb; v++)
			if ((q.values[q.nb] = read_value(r, values->items[v], key->text)) != NULL)
				q.nb++;
		if (q.nb > 1)
			qsort(q.values, q.nb, sizeof(q.values[0]), by_word);
		for (uint32_t v = 0; v < q.nb; v++)
			if (kept == 0 || strcmp(q.values[kept - 1], q.values[v]) != 0)
				q.values[kept++] = q.values[v];
		q.nb = kept;
	}
	s->at[s->nb++] = q;
}

void
policy_k8s_select(struct policy_reader *r, const struct policy_node *n, const char *prefix,
    struct policy_selector *s)
{
	static const char *const known[] = { "matchLabels", "matchExpressions" };
	const struct policy_node *labels, *expressions;

	if (n == NULL || !policy_k8s_is_map(r, n, "selector"))
		return;
	if (s->line == 0) {
		s->line = n->line;
		s->column = n->column;
	}
	policy_k8s_keys(r, n, known, PK_COUNT(known));
	labels = policy_k8s_map(r, n, "matchLabels");
	expressions = policy_k8s_list(r, n, "matchExpressions");
	if (make_room(r, s,
	        (labels != NULL ? labels->nb : 0) + (expressions != NULL ? expressions->nb : 0)) ==
	    NULL)
		return;
	for (uint32_t i = 0; labels != NULL && i < labels->nb && !r->nomem; i++) {
		const struct policy_node *key = labels->pairs[i].key;
		const char *value = read_value(r, labels->pairs[i].value, key->text);

		if (value != NULL && check_key(r, key, key->text))
			add_requirement(r, s, own_key(r, prefix, key->text), POLICY_IN, value);
	}
	for (uint32_t i = 0; expressions != NULL && i < expressions->nb && !r->nomem; i++)
		add_expression(r, expressions->items[i], prefix, s);
}

void
policy_k8s_select_end(struct policy_selector *s)
{
	policy_selector_sort(s);
}

const char *
policy_k8s_selected_name(const struct policy_selector *s)
{
	for (uint32_t i = 0; i < s->nb; i++)
		if (s->at[i].op == POLICY_IN && s->at[i].nb == 1 &&
		    strcmp(s->at[i].key, POLICY_K8S_NAME) == 0 &&
		    policy_k8s_label_ok(s->at[i].values[0]))
			return s->at[i].values[0];
	return NULL;
}

void
policy_k8s_select_name(struct policy_reader *r, const char *name, struct policy_selector *s)
{
	/* Whoever asks for one by name asks for one. */
	if (name == NULL && policy_k8s_selected_name(s) != NULL)
		return;
	if (make_room(r, s, 1) != NULL)
		add_requirement(
		    r, s, POLICY_K8S_NAME, name != NULL ? POLICY_IN : POLICY_EXISTS, name);
}

/* ---- networks and ports -------------------------------------------------------------------------- */

int
policy_k8s_prefix(struct policy_reader *r, const struct policy_node *n, struct pk_prefix *out)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const char *slash;
	char addr[PK_ADDR_TEXT];
	unsigned long len;
	char *end;

	memset(out, 0, sizeof(*out));
	slash = n->kind == POLICY_SCALAR ? strchr(n->text, '/') : NULL;
	if (slash == NULL || (size_t)(slash - n->text) >= sizeof(addr))
		goto bad;
	snprintf(addr, sizeof(addr), "%.*s", (int)(slash - n->text), n->text);
	len = strtoul(slash + 1, &end, 10);
	if (pk_addr_parse(&out->addr, addr, NULL) < 0 || slash[1] < '0' || slash[1] > '9' ||
	    *end != '\0' || len > pk_addr_bits(&out->addr) || (slash[1] == '0' && slash[2] != '\0'))
		goto bad;
	out->len = (uint8_t)len;
	if (out->addr.family == 6 && len >= 96 && memcmp(out->addr.bytes, mapped, 12) == 0) {
		policy_reader_error(r, n, "bad-network",
		    "\"%.64s\" hides IPv4 inside IPv6; write it as IPv4", n->text);
		return -1;
	}
	for (unsigned int i = 0; i < sizeof(out->addr.bytes); i++)
		if (len < (i + 1) * 8)
			out->addr.bytes[i] &= len <= i * 8 ? 0 : (uint8_t)(0xff << (8 - len % 8));
	return 0;
bad:
	policy_reader_error(r, n, "bad-network", "\"%.64s\" is not a network such as 192.0.2.0/24",
	    n->kind == POLICY_SCALAR ? n->text : "");
	return -1;
}

uint8_t
policy_k8s_protocol(struct policy_reader *r, const struct policy_node *n)
{
	static const char *const known[] = { "TCP", "UDP", "SCTP" };
	static const uint8_t numbers[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };

	if (n == NULL)
		return IPPROTO_TCP;
	for (size_t i = 0; i < PK_COUNT(known); i++)
		if (n->kind == POLICY_SCALAR && strcmp(n->text, known[i]) == 0)
			return numbers[i];
	if (n->kind == POLICY_SCALAR)
		policy_reader_unknown(r, n, "unknown-word", "protocol", known, PK_COUNT(known));
	else
		policy_reader_error(
		    r, n, "wrong-type", "\"protocol\" must be TCP, UDP or SCTP, not a map or list");
	return 0;
}

void
policy_k8s_add_range(struct policy_services *s, const struct policy_node *at, uint8_t proto,
    uint16_t low, uint16_t high)
{
	struct policy_service_ref *ref = &s->at[s->nb++];

	*ref = (struct policy_service_ref){
		.kind = POLICY_SERVICE_LITERAL, .nb = 1, .line = at->line, .column = at->column
	};
	ref->at[0] = (struct pk_service){ .proto = proto, .low = low, .high = high };
}

void
policy_k8s_add_named(
    struct policy_services *s, const struct policy_node *at, uint8_t proto, const char *name)
{
	s->at[s->nb++] = (struct policy_service_ref){ .kind = POLICY_SERVICE_PORT,
		.proto = proto,
		.line = at->line,
		.column = at->column,
		.name = name };
}
