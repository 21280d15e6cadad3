#include "policy/findings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arena.h"

struct policy_findings {
	struct policy_arena arena;
	POLICY_VECTOR(struct policy_finding) all;
	int sorted;
};

const char *
policy_severity_name(enum policy_severity severity)
{
	static const char *const names[] = { "error", "warning", "note" };

	return names[severity];
}

int
policy_findings_create(struct policy_findings **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
policy_findings_destroy(struct policy_findings *f)
{
	if (f == NULL)
		return;
	policy_arena_fini(&f->arena);
	free(f->all.at);
	free(f);
}

void
policy_findings_add(struct policy_findings *f, enum policy_severity severity, const char *file,
    unsigned int line, unsigned int column, const char *code, const char *fmt, ...)
{
	char text[PK_DIAG_MAX];
	struct policy_finding *new;
	const char *own_file, *own_text;
	va_list ap;

	if (f == NULL || f->all.nb >= POLICY_FINDINGS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	own_file = policy_arena_text(&f->arena, file);
	own_text = policy_arena_text(&f->arena, text);
	/* Short of memory a sentence is lost; the caller's -EINVAL refuses all the same. */
	if (own_file == NULL || own_text == NULL || (new = POLICY_PUSH(&f->all)) == NULL)
		return;
	*new = (struct policy_finding){ .severity = severity,
		.file = own_file,
		.line = line,
		.column = column,
		.code = code,
		.text = own_text };
	f->sorted = 0;
}

static int
by_position(const void *va, const void *vb)
{
	const struct policy_finding *a = va, *b = vb;
	int c = strcmp(a->file, b->file);

	if (c != 0)
		return c;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	if (a->column != b->column)
		return a->column < b->column ? -1 : 1;
	if (a->severity != b->severity)
		return a->severity < b->severity ? -1 : 1;
	return strcmp(a->text, b->text);
}

static void
sort(struct policy_findings *f)
{
	size_t kept = 0;

	if (f->sorted)
		return;
	if (f->all.nb > 1)
		qsort(f->all.at, f->all.nb, sizeof(f->all.at[0]), by_position);
	/* What an alias repeats is read twice and is wrong once. */
	for (size_t i = 0; i < f->all.nb; i++)
		if (kept == 0 || by_position(&f->all.at[kept - 1], &f->all.at[i]) != 0)
			f->all.at[kept++] = f->all.at[i];
	f->all.nb = kept;
	f->sorted = 1;
}

size_t
policy_findings_count(const struct policy_findings *f, enum policy_severity severity)
{
	size_t n = 0;

	for (size_t i = 0; i < f->all.nb; i++)
		n += f->all.at[i].severity == severity;
	return n;
}

size_t
policy_findings_total(const struct policy_findings *f)
{
	return f->all.nb;
}

const struct policy_finding *
policy_findings_get(struct policy_findings *f, size_t i)
{
	sort(f);
	return i < f->all.nb ? &f->all.at[i] : NULL;
}

void
policy_findings_first(struct policy_findings *f, struct pk_diag *diag)
{
	sort(f);
	for (size_t i = 0; i < f->all.nb; i++) {
		const struct policy_finding *e = &f->all.at[i];

		if (e->severity == POLICY_ERROR) {
			pk_diag_at(diag, e->file, e->line, e->column, "%s", e->text);
			return;
		}
	}
	pk_diag_set(diag, "nothing is wrong");
}

int
policy_findings_has(const struct policy_findings *f, const char *file, unsigned int line,
    unsigned int column, const char *code)
{
	for (size_t i = 0; i < f->all.nb; i++) {
		const struct policy_finding *e = &f->all.at[i];

		if (e->line == line && e->column == column && strcmp(e->code, code) == 0 &&
		    strcmp(e->file, file) == 0)
			return 1;
	}
	return 0;
}
