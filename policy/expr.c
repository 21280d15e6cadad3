#include <string.h>

#include "policy/selector.h"

/*
 * Expressions over labels, as Calico writes them:
 *
 *     or   := and { "||" and }
 *     and  := not { "&&" not }
 *     not  := "!" not | "(" or ")" | atom
 *     atom := "all" "(" ")" | "has" "(" key ")" | key "==" text | key "!=" text
 *           | key ["not"] "in" "{" [ text { "," text } ] "}"
 *
 * A selector is a list of requirements that all hold, so an expression becomes a list of selectors of which one
 * has to: what is denied is denied at once (every requirement has an opposite), and alternatives are multiplied out.
 */
#define TERMS_MAX        64
#define REQUIREMENTS_MAX 16
#define VALUES_MAX       64
#define DEPTH_MAX        32

struct term {
	uint32_t nb;
	struct policy_requirement at[REQUIREMENTS_MAX];
};

/* One of these holds. */
struct terms {
	uint32_t nb;
	struct term *at;
};

struct expr {
	struct policy_reader *r;
	const struct policy_node *n;
	const char *text, *at;
	unsigned int depth;
};

static int
refuse(struct expr *x, const char *want)
{
	policy_reader_error(x->r, x->n, "bad-expression",
	    "expr, after %d characters: want %s%s%.32s%s", (int)(x->at - x->text), want,
	    *x->at != '\0' ? ", not \"" : "", x->at, *x->at != '\0' ? "\"" : "");
	return 0;
}

static int
take(struct expr *x, const char *token)
{
	size_t len = strlen(token);

	x->at += strspn(x->at, " \t\n");
	if (strncmp(x->at, token, len) != 0)
		return 0;
	x->at += len;
	return 1;
}

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./"

static const char *
copy(struct expr *x, const char *from, size_t len)
{
	char *text = policy_reader_alloc(x->r, len + 1, 1);

	if (text != NULL) {
		memcpy(text, from, len);
		text[len] = '\0';
	}
	return text;
}

static const char *
key(struct expr *x)
{
	const char *from;
	size_t len;

	x->at += strspn(x->at, " \t\n");
	from = x->at;
	len = strspn(from, WORD);
	if (len == 0 || len > 253) {
		refuse(x, "a label");
		return NULL;
	}
	x->at += len;
	from = copy(x, from, len);
	if (from != NULL && strcmp(from, POLICY_ATTESTED) == 0) {
		policy_reader_unsupported(x->r, x->n, from);
		return NULL;
	}
	return from;
}

static const char *
value(struct expr *x)
{
	const char *from;
	char quote;
	size_t len;

	x->at += strspn(x->at, " \t\n");
	quote = *x->at;
	len = quote == '\'' || quote == '"' ? strspn(x->at + 1, WORD ":@") : 0;
	if ((quote != '\'' && quote != '"') || x->at[1 + len] != quote || len > 63) {
		refuse(x, "a value in quotes, of letters, digits and -_.:@/");
		return NULL;
	}
	from = x->at + 1;
	x->at += len + 2;
	return copy(x, from, len);
}

static int
one(struct expr *x, const struct policy_requirement *q, struct terms *out)
{
	out->at = policy_reader_alloc(x->r, 1, sizeof(out->at[0]));
	if (out->at == NULL)
		return 0;
	out->nb = 1;
	out->at[0].nb = q != NULL;
	if (q != NULL)
		out->at[0].at[0] = *q;
	return 1;
}

/* A value into its place: ascending, each once. */
static void
insert(struct policy_requirement *q, const char *text)
{
	uint32_t i = q->nb;

	while (i > 0 && strcmp(q->values[i - 1], text) > 0)
		i--;
	if (i > 0 && strcmp(q->values[i - 1], text) == 0)
		return;
	memmove(q->values + i + 1, q->values + i, (q->nb - i) * sizeof(q->values[0]));
	q->values[i] = text;
	q->nb++;
}

static int
values(struct expr *x, struct policy_requirement *q, int several)
{
	const char *text;

	q->values = policy_reader_alloc(x->r, VALUES_MAX, sizeof(q->values[0]));
	if (q->values == NULL)
		return 0;
	do {
		if (q->nb == VALUES_MAX)
			return refuse(x, "no more than 64 values");
		text = value(x);
		if (text == NULL)
			return 0;
		insert(q, text);
	} while (several && take(x, ","));
	return !several || take(x, "}") || refuse(x, "a comma or }");
}

static int
atom(struct expr *x, int negated, struct terms *out)
{
	struct policy_requirement q = { 0 };
	int in, several = 0;

	if (take(x, "all()"))
		return (!negated ||
		           refuse(x, "something else than !all(), which selects nobody")) &&
		    one(x, NULL, out);
	if (take(x, "has(")) {
		q.op = negated ? POLICY_DOES_NOT_EXIST : POLICY_EXISTS;
		return (q.key = key(x)) != NULL && (take(x, ")") || refuse(x, ")")) &&
		    one(x, &q, out);
	}
	q.key = key(x);
	if (q.key == NULL)
		return 0;
	if (take(x, "==")) {
		in = 1;
	} else if (take(x, "!=")) {
		in = 0;
	} else {
		in = !take(x, "not");
		several = 1;
		if (!take(x, "in"))
			return refuse(x, "==, !=, in or not in");
		if (!take(x, "{"))
			return refuse(x, "{");
	}
	q.op = in != negated ? POLICY_IN : POLICY_NOT_IN;
	return values(x, &q, several) && one(x, &q, out);
}

/* What either selects. */
static int
unite(struct expr *x, struct terms *a, const struct terms *b)
{
	struct term *at = policy_reader_alloc(x->r, (size_t)a->nb + b->nb, sizeof(at[0]));

	if (at == NULL)
		return 0;
	if (a->nb + b->nb > TERMS_MAX)
		return refuse(x, "fewer alternatives: they come to more than 64");
	memcpy(at, a->at, a->nb * sizeof(at[0]));
	memcpy(at + a->nb, b->at, b->nb * sizeof(at[0]));
	a->at = at;
	a->nb += b->nb;
	return 1;
}

/* What both select. */
static int
intersect(struct expr *x, struct terms *a, const struct terms *b)
{
	struct terms both = { .at = policy_reader_alloc(
		                  x->r, (size_t)a->nb * b->nb, sizeof(both.at[0])) };

	if (both.at == NULL)
		return 0;
	if (a->nb * b->nb > TERMS_MAX)
		return refuse(x, "fewer alternatives: they come to more than 64");
	for (uint32_t i = 0; i < a->nb; i++) {
		for (uint32_t k = 0; k < b->nb; k++) {
			struct term *t = &both.at[both.nb++];

			if (a->at[i].nb + b->at[k].nb > REQUIREMENTS_MAX)
				return refuse(x, "no more than 16 conditions that hold together");
			*t = a->at[i];
			memcpy(t->at + t->nb, b->at[k].at, b->at[k].nb * sizeof(t->at[0]));
			t->nb += b->at[k].nb;
		}
	}
	*a = both;
	return 1;
}

static int either(struct expr *x, int negated, struct terms *out);

static int
factor(struct expr *x, int negated, struct terms *out)
{
	int rc;

	if (++x->depth > DEPTH_MAX)
		return refuse(x, "no more than 32 levels");
	if (take(x, "!"))
		rc = factor(x, !negated, out);
	else if (take(x, "("))
		rc = either(x, negated, out) && (take(x, ")") || refuse(x, ")"));
	else
		rc = atom(x, negated, out);
	x->depth--;
	return rc;
}

/* De Morgan: denied, one of the parts fails. */
static int
each(struct expr *x, int negated, struct terms *out)
{
	struct terms next;

	if (!factor(x, negated, out))
		return 0;
	while (take(x, "&&"))
		if (!factor(x, negated, &next) ||
		    !(negated ? unite(x, out, &next) : intersect(x, out, &next)))
			return 0;
	return 1;
}

static int
either(struct expr *x, int negated, struct terms *out)
{
	struct terms next;

	if (!each(x, negated, out))
		return 0;
	while (take(x, "||"))
		if (!each(x, negated, &next) ||
		    !(negated ? intersect(x, out, &next) : unite(x, out, &next)))
			return 0;
	return 1;
}

void
policy_expr_read(struct policy_reader *r, const struct policy_node *n, struct policy_selector *s)
{
	struct expr x = { .r = r, .n = n, .text = n->text, .at = n->text };
	struct terms terms;
	struct policy_selector *to = s;

	if (!either(&x, 0, &terms))
		return;
	x.at += strspn(x.at, " \t\n");
	if (*x.at != '\0') {
		refuse(&x, "&&, || or the end");
		return;
	}
	s->nb_others = terms.nb - 1;
	s->others = policy_reader_alloc(r, terms.nb, sizeof(s->others[0]));
	for (uint32_t i = 0; i < terms.nb && s->others != NULL; i++) {
		if (i > 0) {
			to = &s->others[i - 1];
			to->line = s->line;
			to->column = s->column;
		}
		to->nb = terms.at[i].nb;
		to->at = terms.at[i].at;
		policy_selector_sort(to);
	}
}
