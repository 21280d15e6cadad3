#include "policy/selector.h"

#include <stdlib.h>
#include <string.h>

/*
 * Keys and values go into canonical texts such as acme{app=db,env=prod}, so the characters that
 * part those must not be in them.
 */
static int
chars_ok(const char *text, size_t max, const char *also)
{
	size_t len = strlen(text);

	if (len > max)
		return 0;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		        strchr(also, c) != NULL))
			return 0;
	}
	return 1;
}

static int
check_key(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	if (strcmp(key, "attested") == 0) {
		policy_reader_unsupported(r, n, key);
		return 0;
	}
	if (key[0] != '\0' && chars_ok(key, 253, "-_./"))
		return 1;
	policy_reader_error(r, n, "bad-label",
	    "\"%.64s\" is not a label: want letters, digits and -_./, at most 253", key);
	return 0;
}

static int
check_value(struct policy_reader *r, const struct policy_node *n, const char *key)
{
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n)) {
		r->key = key;
		r->want = "a word";
		policy_reader_mismatch(r, n);
		return 0;
	}
	if (chars_ok(n->text, 63, "-_.:@/"))
		return 1;
	policy_reader_error(r, n, "bad-label",
	    "\"%.64s\" is not a value of a label: want letters, digits and -_.:@/, at most 63",
	    n->text);
	return 0;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int
by_requirement(const void *va, const void *vb)
{
	const struct policy_requirement *a = va, *b = vb;
	int c = strcmp(a->key, b->key);

	if (c != 0)
		return c;
	if (a->op != b->op)
		return a->op < b->op ? -1 : 1;
	for (uint32_t i = 0; i < a->nb && i < b->nb; i++)
		if ((c = strcmp(a->values[i], b->values[i])) != 0)
			return c;
	return (a->nb > b->nb) - (a->nb < b->nb);
}

static int
by_label(const void *a, const void *b)
{
	return strcmp(((const struct policy_label *)a)->key, ((const struct policy_label *)b)->key);
}

void
policy_selector_sort(struct policy_selector *s)
{
	if (s->nb > 1)
		qsort(s->at, s->nb, sizeof(s->at[0]), by_requirement);
}

void
policy_labels_sort(struct policy_labels *l)
{
	if (l->nb > 1)
		qsort(l->at, l->nb, sizeof(l->at[0]), by_label);
}

/* One value, or a list of them; `q` has its key and operator. */
static void
read_values(struct policy_reader *r, const struct policy_node *n, struct policy_requirement *q)
{
	const struct policy_node *one = n;
	struct policy_node *const *items = n->items;
	uint32_t nb = n->nb, kept = 0;

	if (n->kind == POLICY_SCALAR) {
		items = (struct policy_node *const *)&one;
		nb = 1;
	} else if (n->kind != POLICY_LIST || nb == 0) {
		r->key = q->key;
		r->want = "a word or a list of words";
		policy_reader_mismatch(r, n);
		return;
	}
	q->values = policy_reader_alloc(r, nb, sizeof(q->values[0]));
	for (uint32_t i = 0; q->values != NULL && i < nb; i++)
		if (check_value(r, items[i], q->key))
			q->values[q->nb++] = items[i]->text;
	if (q->nb > 1)
		qsort(q->values, q->nb, sizeof(q->values[0]), by_text);
	for (uint32_t i = 0; i < q->nb; i++)
		if (kept == 0 || strcmp(q->values[kept - 1], q->values[i]) != 0)
			q->values[kept++] = q->values[i];
	q->nb = kept;
}

static void
read_short(struct policy_reader *r, const struct policy_node *n, struct policy_selector *s)
{
	s->at = policy_reader_alloc(r, n->nb, sizeof(s->at[0]));
	for (uint32_t i = 0; s->at != NULL && i < n->nb; i++) {
		const struct policy_node *key = n->pairs[i].key, *value = n->pairs[i].value;
		int negated = key->text[0] == '!';
		struct policy_requirement *q = &s->at[s->nb++];

		q->key = key->text + negated;
		if (!check_key(r, key, q->key))
			continue;
		if (policy_node_is_null(value)) {
			q->op = negated ? POLICY_DOES_NOT_EXIST : POLICY_EXISTS;
		} else {
			q->op = negated ? POLICY_NOT_IN : POLICY_IN;
			read_values(r, value, q);
		}
	}
}

static const char *const op_words[] = { "In", "NotIn", "Exists", "DoesNotExist" };
static const struct policy_words ops = { op_words, PK_COUNT(op_words), NULL };

struct expression {
	const char *key;
	uint8_t op;
	const struct policy_node *values;
};

static void
read_node(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)r;
	(void)arg;
	*(const struct policy_node **)out = n;
}

static const struct policy_field expression_fields[] = {
	{ "key", "a label", policy_read_text, NULL, offsetof(struct expression, key), 1 },
	{ "operator", "In, NotIn, Exists or DoesNotExist", policy_read_word, &ops,
	    offsetof(struct expression, op), 1 },
	{ "values", "a list of words", read_node, NULL, offsetof(struct expression, values), 0 },
};
static const struct policy_schema expression_schema =
    POLICY_SCHEMA("an expression", expression_fields);

static void
read_expression(struct policy_reader *r, const struct policy_node *n, struct policy_selector *s)
{
	struct policy_requirement *q = &s->at[s->nb++];
	struct expression e = { 0 };
	unsigned int errors = r->errors;

	r->key = "matchExpressions";
	r->want = "a list of expressions, each a map";
	policy_schema_read(r, n, &expression_schema, &e);
	if (r->errors != errors || !check_key(r, n, e.key))
		return;
	q->key = e.key;
	q->op = (enum policy_op)e.op;
	if (q->op == POLICY_EXISTS || q->op == POLICY_DOES_NOT_EXIST) {
		if (e.values != NULL && !(e.values->kind == POLICY_LIST && e.values->nb == 0))
			policy_reader_error(r, e.values, "bad-value",
			    "operator %s goes without values", op_words[q->op]);
	} else if (e.values == NULL) {
		policy_reader_error(r, n, "missing-key",
		    "an expression with operator %s lacks \"values\"", op_words[q->op]);
	} else {
		read_values(r, e.values, q);
	}
}

struct long_form {
	struct policy_labels labels;
	const struct policy_node *expressions;
};

static const struct policy_field long_fields[] = {
	{ "matchLabels", "a map of labels", policy_read_labels, NULL,
	    offsetof(struct long_form, labels), 0 },
	{ "matchExpressions", "a list of expressions", read_node, NULL,
	    offsetof(struct long_form, expressions), 0 },
};
static const struct policy_schema long_schema =
    POLICY_SCHEMA("a selector in the long form", long_fields);

static void
read_long(struct policy_reader *r, const struct policy_node *n, struct policy_selector *s)
{
	struct long_form l = { 0 };
	uint32_t nb;

	policy_schema_read(r, n, &long_schema, &l);
	if (l.expressions != NULL && l.expressions->kind != POLICY_LIST) {
		r->key = "matchExpressions";
		r->want = "a list of expressions";
		policy_reader_mismatch(r, l.expressions);
		return;
	}
	nb = l.expressions != NULL ? l.expressions->nb : 0;
	s->at = policy_reader_alloc(r, (size_t)l.labels.nb + nb, sizeof(s->at[0]));
	for (uint32_t i = 0; s->at != NULL && i < l.labels.nb; i++) {
		struct policy_requirement *q = &s->at[s->nb++];

		q->key = l.labels.at[i].key;
		q->op = POLICY_IN;
		q->nb = 1;
		q->values = policy_reader_alloc(r, 1, sizeof(q->values[0]));
		if (q->values != NULL)
			q->values[0] = l.labels.at[i].value;
	}
	for (uint32_t i = 0; s->at != NULL && i < nb; i++)
		read_expression(r, l.expressions->items[i], s);
}

static void
read_expr(struct policy_reader *r, const struct policy_node *n, struct policy_selector *s)
{
	const struct policy_node *expr = policy_node_get(n, "expr");

	if (n->nb != 1) {
		policy_reader_error(
		    r, expr, "bad-expression", "\"expr\" stands alone: write all of it there");
	} else if (expr->kind != POLICY_SCALAR || policy_node_is_null(expr)) {
		r->key = "expr";
		r->want = "an expression such as app == 'web' && env != 'dev'";
		policy_reader_mismatch(r, expr);
	} else {
		policy_expr_read(r, expr, s);
	}
}

void
policy_read_selector(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_selector *s = out;

	policy_read_selectors(r, n, s, arg);
	if (s->nb_others > 0)
		policy_reader_error(r, policy_node_get(n, "expr"), "bad-expression",
		    "this expression is one of %u alternatives, and there is room for one here; make a group of it",
		    s->nb_others + 1);
}

void
policy_read_selectors(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_selector *s = out;
	unsigned int errors = r->errors;

	(void)arg;
	s->line = n->line;
	s->column = n->column;
	if (n->kind != POLICY_MAP) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (policy_node_get(n, "expr") != NULL) {
		read_expr(r, n, s);
		return;
	}
	if (policy_node_get(n, "matchLabels") != NULL ||
	    policy_node_get(n, "matchExpressions") != NULL)
		read_long(r, n, s);
	else
		read_short(r, n, s);
	if (r->errors == errors && !r->nomem)
		policy_selector_sort(s);
}

void
policy_read_labels(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_labels *l = out;

	(void)arg;
	if (n->kind != POLICY_MAP) {
		policy_reader_mismatch(r, n);
		return;
	}
	l->at = policy_reader_alloc(r, n->nb, sizeof(l->at[0]));
	for (uint32_t i = 0; l->at != NULL && i < n->nb; i++) {
		const struct policy_node *key = n->pairs[i].key, *value = n->pairs[i].value;

		if (check_key(r, key, key->text) && check_value(r, value, key->text))
			l->at[l->nb++] = (struct policy_label){ key->text, value->text };
	}
	policy_labels_sort(l);
}

void
policy_selector_add_attested(struct policy_reader *r, struct policy_selector *s, int attested)
{
	struct policy_requirement *wider = policy_reader_alloc(r, s->nb + 1, sizeof(wider[0]));
	const char **value = policy_reader_alloc(r, 1, sizeof(value[0]));

	if (wider == NULL || value == NULL)
		return;
	if (s->nb > 0)
		memcpy(wider, s->at, s->nb * sizeof(wider[0]));
	value[0] = POLICY_ATTESTED_TRUE;
	wider[s->nb++] = (struct policy_requirement){ .key = POLICY_ATTESTED,
		.op = attested ? POLICY_IN : POLICY_DOES_NOT_EXIST,
		.nb = attested ? 1 : 0,
		.values = value };
	s->at = wider;
	policy_selector_sort(s);
}

const char *
policy_selector_text(struct policy_arena *a, const struct policy_selector *s)
{
	size_t len = 1;
	char *text, *p;

	for (uint32_t i = 0; i < s->nb; i++) {
		len += strlen(s->at[i].key) + sizeof(",! not in ()");
		for (uint32_t v = 0; v < s->at[i].nb; v++)
			len += strlen(s->at[i].values[v]) + 1;
	}
	p = text = policy_arena_alloc(a, len);
	if (text == NULL)
		return NULL;
	for (uint32_t i = 0; i < s->nb; i++) {
		const struct policy_requirement *q = &s->at[i];
		int list = q->nb != 1 || q->op == POLICY_NOT_IN;

		if (i > 0)
			*p++ = ',';
		if (q->op == POLICY_DOES_NOT_EXIST)
			*p++ = '!';
		p = stpcpy(p, q->key);
		if (q->op == POLICY_EXISTS || q->op == POLICY_DOES_NOT_EXIST)
			continue;
		p = stpcpy(p, q->op == POLICY_NOT_IN ? " not in (" : list ? " in (" : "=");
		for (uint32_t v = 0; v < q->nb; v++) {
			if (v > 0)
				*p++ = ',';
			p = stpcpy(p, q->values[v]);
		}
		if (list)
			*p++ = ')';
	}
	return text;
}
