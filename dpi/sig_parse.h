#pragma once

#include "dpi/sig_net.h"
#include "dpi/sig_rule.h"
#include "lib/diag.h"

/*
 * From one line of a rule file to a struct dpi_sig.
 *
 *     alert http $HOME_NET any -> any any (msg:"..."; http.uri; content:"/x"; sid:1;)
 *
 * Every keyword is a row of a table: its name, what it wants, and the function that reads it.  A keyword
 * without a row, or one whose value cannot be honoured, refuses the whole rule.
 */

/* Names that sessions, hosts and rules share: flowbits and the like, numbered from 0. */
struct dpi_names {
	char **name;
	uint16_t nb;
};
#define DPI_NAMES_MAX 4096
/* -ENOSPC when there are too many.  `len` bytes at `name`. */
int dpi_names_get(struct dpi_names *n, const char *name, size_t len);
void dpi_names_fini(struct dpi_names *n);

struct dpi_parse_env {
	struct dpi_vars *vars;
	struct dpi_names bits;
	struct dpi_names ints;
};

enum {
	DPI_PARSE_SKIP = 1
}; /* `requires` is not met: as if it were not there */

/*
 * Read the rule text[0 .. len - 1], whose lines have been joined.  `file` is borrowed for good, `line` is
 * where it begins.  The caller owns *out.  Returns 0, DPI_PARSE_SKIP, -EINVAL with *diag "file:line: keyword:
 * why" (and `keyword`, DPI_KEYWORD_MAX bytes, when that is not NULL), or -ENOMEM.  Context: control thread.
 */
#define DPI_KEYWORD_MAX 64
int dpi_sig_parse(struct dpi_sig **out, struct dpi_parse_env *env, const char *text, size_t len,
    const char *file, uint32_t line, char *keyword, struct pk_diag *diag);
