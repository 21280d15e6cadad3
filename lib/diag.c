#include "lib/diag.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 64 /* longer words are not worth a guess */

void
pk_bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "bug: %s:%d: %s does not hold\n", file, line, what);
	abort();
}

void
pk_diag_vset(struct pk_diag *d, const char *fmt, va_list ap)
{
	if (d != NULL)
		vsnprintf(d->text, sizeof(d->text), fmt, ap);
}

void
pk_diag_set(struct pk_diag *d, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pk_diag_vset(d, fmt, ap);
	va_end(ap);
}

void
pk_diag_at(struct pk_diag *d, const char *file, unsigned int line, unsigned int column,
    const char *fmt, ...)
{
	va_list ap;
	int n;

	if (d == NULL)
		return;
	if (line == 0)
		n = snprintf(d->text, sizeof(d->text), "%s: ", file);
	else if (column == 0)
		n = snprintf(d->text, sizeof(d->text), "%s:%u: ", file, line);
	else
		n = snprintf(d->text, sizeof(d->text), "%s:%u:%u: ", file, line, column);
	if (n < 0 || (size_t)n >= sizeof(d->text))
		return;
	va_start(ap, fmt);
	vsnprintf(d->text + n, sizeof(d->text) - (size_t)n, fmt, ap);
	va_end(ap);
}

/* Optimal string alignment: a swapped pair is the commonest slip and counts as one. */
static unsigned int
distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned int row[3][WORD_MAX + 1];

	for (size_t j = 0; j <= nb; j++)
		row[0][j] = (unsigned int)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];

		cur[0] = (unsigned int)i;
		for (size_t j = 1; j <= nb; j++) {
			int ca = tolower((unsigned char)a[i - 1]);
			int cb = tolower((unsigned char)b[j - 1]);
			unsigned int best = up[j - 1] + (ca != cb);

			best = PK_MIN(best, up[j] + 1);
			best = PK_MIN(best, cur[j - 1] + 1);
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
			    cb == tolower((unsigned char)a[i - 2]))
				best = PK_MIN(best, up2[j - 2] + 1);
			cur[j] = best;
		}
	}
	return row[na % 3][nb];
}

const char *
pk_suggest(const char *word, const char *const *known, size_t n)
{
	size_t len = strlen(word);
	unsigned int best = UINT32_MAX;
	const char *found = NULL;

	if (len == 0 || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t known_len = strlen(known[i]);
		unsigned int d;

		if (known_len > WORD_MAX)
			continue;
		d = distance(word, len, known[i], known_len);
		if (d < best) {
			best = d;
			found = known[i];
		}
	}
	/* A third of the word may be wrong; beyond that a guess is noise. */
	return best <= PK_MAX(len / 3, (size_t)1) ? found : NULL;
}
