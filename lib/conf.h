#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Configuration.  One table of options per program is the only place where an option exists: the
 * parser, the sample in conf/, the manual page, `show config` and the canonical print of -n all
 * follow from its rows.
 *
 * A file is lines of `name = value`; `#` starts a comment.  A list option may stand several times,
 * and each line adds one element.  Values are read into a struct of the program's own.
 */
enum pk_conf_type {
	PK_CONF_BOOL,     /* bool: yes, no */
	PK_CONF_NUMBER,   /* uint64_t */
	PK_CONF_SIZE,     /* uint64_t: bytes; suffix k, m, g are powers of 1024 */
	PK_CONF_DURATION, /* uint64_t: nanoseconds; suffix us, ms, s, m, h, d is required */
	PK_CONF_STRING,   /* char *: owned by the struct */
	PK_CONF_WORD,     /* int: index into `words` */
	PK_CONF_LIST,     /* struct pk_conf_list */
};

struct pk_conf_list {
	char **item; /* NULL-terminated, owned */
	size_t nb;
};

struct pk_conf_option {
	const char *name; /* "tcp-established" */
	enum pk_conf_type type;
	const char *unit;         /* for people: "sessions"; NULL */
	const char *value;        /* default as text; NULL for none (an empty string or list) */
	uint64_t min, max;        /* of numbers, sizes, durations; max 0: no bound */
	const char *const *words; /* of PK_CONF_WORD, NULL-terminated */
	bool reloadable;
	const char *help; /* sentences, wrapped by whoever prints them */
	size_t offset;    /* of the member */
};

/* Fill values with the defaults, which must be valid.  Context: any; so for all below. */
void pk_conf_init(const struct pk_conf_option *options, size_t n, void *values);
void pk_conf_fini(const struct pk_conf_option *options, size_t n, void *values);

/*
 * Read a file over `values`.  On failure `values` is as before.
 * Returns 0, -ENOENT and the like from opening, or -EINVAL with one sentence: file, line, column.
 */
int pk_conf_load(const struct pk_conf_option *options, size_t n, void *values, const char *path,
    struct pk_diag *diag);

/* Set one option from text; the first use on a list empties its default.  Returns 0 or -EINVAL. */
int pk_conf_set(const struct pk_conf_option *options, size_t n, void *values, const char *name,
    const char *text, struct pk_diag *diag);

/* The value as text that pk_conf_set() reads back, element i of a list (0 otherwise).  Returns buf, or
 * NULL when there is no such element or no value. */
const char *pk_conf_text(
    const struct pk_conf_option *option, const void *values, size_t i, char *buf, size_t size);

void pk_conf_print(const struct pk_conf_option *options, size_t n, const void *values, FILE *f);
void pk_conf_print_sample(
    const struct pk_conf_option *options, size_t n, const char *program, FILE *f);
void pk_conf_print_man(const struct pk_conf_option *options, size_t n, FILE *f); /* mdoc items */

/* Read "30s", "250ms", "2h" or "16m" bytes.  For command lines.  Return 0 or -EINVAL. */
int pk_conf_parse_duration(const char *text, uint64_t *ns);
int pk_conf_parse_size(const char *text, uint64_t *bytes);
