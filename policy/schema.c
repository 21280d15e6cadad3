#include "policy/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void
report(struct policy_reader *r, enum policy_severity severity, const struct policy_node *n,
    const char *code, const char *fmt, va_list ap)
{
	char text[PK_DIAG_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	policy_findings_add(r->findings, severity, r->file, n->line, n->column, code, "%s", text);
}

void
policy_reader_error(
    struct policy_reader *r, const struct policy_node *n, const char *code, const char *fmt, ...)
{
	va_list ap;

	if (r->errors++ >= POLICY_ERRORS_MAX)
		return;
	va_start(ap, fmt);
	report(r, POLICY_ERROR, n, code, fmt, ap);
	va_end(ap);
}

void
policy_reader_warn(
    struct policy_reader *r, const struct policy_node *n, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(r, POLICY_WARNING, n, code, fmt, ap);
	va_end(ap);
}

void
policy_reader_note(
    struct policy_reader *r, const struct policy_node *n, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(r, POLICY_NOTE, n, code, fmt, ap);
	va_end(ap);
}

void *
policy_reader_alloc(struct policy_reader *r, size_t nb, size_t size)
{
	void *p = policy_arena_array(r->arena, nb, size);

	if (p == NULL)
		r->nomem = 1;
	return p;
}

void
policy_reader_mismatch(struct policy_reader *r, const struct policy_node *n)
{
	char got[80];

	if (n->kind == POLICY_MAP)
		snprintf(got, sizeof(got), "a map");
	else if (n->kind == POLICY_LIST)
		snprintf(got, sizeof(got), "%s list", n->nb == 0 ? "an empty" : "a");
	else if (policy_node_is_null(n))
		snprintf(got, sizeof(got), "empty");
	else
		snprintf(got, sizeof(got), "\"%.64s\"", n->text);
	policy_reader_error(r, n, "wrong-type", "\"%s\" must be %s, not %s", r->key, r->want, got);
}

void
policy_reader_unsupported(struct policy_reader *r, const struct policy_node *n, const char *what)
{
	policy_reader_error(
	    r, n, "unsupported", "\"%.64s\" is not supported by this version", what);
}

const char *
policy_words_text(char *buf, size_t size, const char *const *words, size_t nb)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < nb; i++) {
		size_t need = strlen(words[i]) + 2;

		if (used + need + sizeof("...") > size) {
			snprintf(buf + used, size - used, "...");
			break;
		}
		used += (size_t)snprintf(
		    buf + used, size - used, "%s%s", words[i], i + 1 < nb ? ", " : "");
	}
	return buf;
}

void
policy_reader_unknown(struct policy_reader *r, const struct policy_node *n, const char *code,
    const char *what, const char *const *known, size_t nb)
{
	const char *near = pk_suggest(n->text, known, nb);
	char list[256];

	if (near != NULL)
		policy_reader_error(
		    r, n, code, "unknown %s \"%.64s\"; did you mean \"%s\"?", what, n->text, near);
	else if (nb > 0)
		policy_reader_error(r, n, code, "unknown %s \"%.64s\"; known: %s", what, n->text,
		    policy_words_text(list, sizeof(list), known, nb));
	else
		policy_reader_error(r, n, code, "unknown %s \"%.64s\"", what, n->text);
}

/* Returns a bit for the key that was probably meant: it is misspelt, and so not missing too. */
static uint64_t
unknown_key(struct policy_reader *r, const struct policy_node *key, const struct policy_schema *s)
{
	const char *known[64], *near;
	size_t nb = 0;

	for (size_t i = 0; i < s->nb && nb < PK_COUNT(known); i++)
		if (s->fields[i].decode != NULL)
			known[nb++] = s->fields[i].key;
	policy_reader_unknown(r, key, "unknown-key", "key", known, nb);
	near = pk_suggest(key->text, known, nb);
	for (size_t i = 0; near != NULL && i < s->nb; i++)
		if (s->fields[i].key == near)
			return UINT64_C(1) << i;
	return 0;
}

void
policy_schema_read(
    struct policy_reader *r, const struct policy_node *n, const struct policy_schema *s, void *out)
{
	const char *key = r->key, *want = r->want;
	uint64_t seen = 0, misspelt = 0;

	PK_ASSERT(s->nb <= 64);
	if (n->kind != POLICY_MAP) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (uint32_t i = 0; i < n->nb && r->errors < POLICY_ERRORS_MAX && !r->nomem; i++) {
		const struct policy_pair *pair = &n->pairs[i];
		const struct policy_field *field = NULL;
		uint64_t bit = 0;

		for (size_t j = 0; j < s->nb && field == NULL; j++) {
			if (strcmp(s->fields[j].key, pair->key->text) == 0) {
				field = &s->fields[j];
				bit = UINT64_C(1) << j;
			}
		}
		if (field == NULL) {
			misspelt |= unknown_key(r, pair->key, s);
			continue;
		}
		/* A key that stands twice has been reported; reading it again would find *out in use. */
		if ((seen & bit) != 0)
			continue;
		seen |= bit;
		if (field->decode == NULL) {
			policy_reader_unsupported(r, pair->key, field->key);
			continue;
		}
		r->key = field->key;
		r->want = field->want;
		field->decode(r, pair->value, (char *)out + field->offset, field->arg);
	}
	for (size_t j = 0; j < s->nb; j++)
		if (s->fields[j].required && ((seen | misspelt) & UINT64_C(1) << j) == 0)
			policy_reader_error(r, n, "missing-key", "%s lacks \"%s\": %s", s->what,
			    s->fields[j].key, s->fields[j].want);
	r->key = key;
	r->want = want;
}

void
policy_read_schema(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	policy_schema_read(r, n, arg, out);
}

void
policy_read_text(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else
		*(const char **)out = n->text;
}

static int
is_alnum(char c)
{
	/* Not isalnum(): a name must not mean something else in another locale. */
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int
policy_name_ok(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > POLICY_NAME_MAX || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(text[i]) && strchr("-_.", text[i]) == NULL)
			return 0;
	return 1;
}

void
policy_read_name(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (!policy_name_ok(n->text))
		policy_reader_error(r, n, "bad-value",
		    "\"%s\" must be letters and digits with - _ . between them, at most %d, not \"%.64s\"",
		    r->key, POLICY_NAME_MAX, n->text);
	else
		*(const char **)out = n->text;
}

void
policy_read_word(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	const struct policy_words *words = arg;

	if (n->kind != POLICY_SCALAR || policy_node_is_null(n)) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (size_t i = 0; i < words->nb; i++) {
		if (strcmp(words->at[i], n->text) == 0) {
			*(uint8_t *)out = words->values != NULL ? words->values[i] : (uint8_t)i;
			return;
		}
	}
	policy_reader_unknown(r, n, "unknown-word", r->key, words->at, words->nb);
}

void
policy_read_uint(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	const struct policy_range *range = arg;
	uint64_t value = 0;
	const char *s;

	if (n->kind != POLICY_SCALAR || !n->plain || n->text[0] == '\0') {
		policy_reader_mismatch(r, n);
		return;
	}
	/* Decimal only: YAML 1.1 would read 010 as eight and 1:30 as ninety. */
	for (s = n->text; *s >= '0' && *s <= '9' && value <= UINT32_MAX; s++)
		value = value * 10 + (uint64_t)(*s - '0');
	if (*s != '\0' || value < range->low || value > range->high ||
	    (n->text[0] == '0' && n->text[1] != '\0'))
		policy_reader_mismatch(r, n);
	else
		*(uint32_t *)out = (uint32_t)value;
}

void
policy_read_ignore(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)out;
	(void)arg;
	if (n->kind != POLICY_MAP) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (uint32_t i = 0; i < n->nb; i++)
		if (n->pairs[i].value->kind != POLICY_SCALAR)
			policy_reader_mismatch(r, n->pairs[i].value);
}
