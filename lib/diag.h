#pragma once

#include <stdarg.h>

#include "lib/base.h"

/*
 * The one sentence an operator reads when something was refused: where, what, and what would have
 * satisfied us.  Filled by whoever refused, printed by whoever talks to the operator.
 */
#define PK_DIAG_MAX 512 /* bytes with the final NUL; a longer sentence is cut */

struct pk_diag {
	char text[PK_DIAG_MAX];
};

/* Replace the sentence.  NULL `d` is allowed: the caller did not want to know.  Context: any. */
void pk_diag_set(struct pk_diag *d, const char *fmt, ...) PK_PRINTF(2, 3);
void pk_diag_vset(struct pk_diag *d, const char *fmt, va_list ap);

/*
 * The same, led by `file:line:column: `.  Lines and columns count from 1; a column of 0 is left
 * out, and so is a line of 0.
 */
void pk_diag_at(struct pk_diag *d, const char *file, unsigned int line, unsigned int column,
    const char *fmt, ...) PK_PRINTF(5, 6);

/*
 * The member of known[0 .. n - 1] that `word` was probably meant to be, by edit distance, or NULL
 * when none is near.  Comparison ignores case.  Returns a borrowed pointer out of `known`.
 */
const char *pk_suggest(const char *word, const char *const *known, size_t n);
