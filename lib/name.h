#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/diag.h"

/*
 * DNS names (RFC 1034, RFC 2181 section 11), and patterns of them.
 *
 *     api.example.com        that name
 *     *.example.com          all names below it, however deep; not example.com itself
 *     +.example.com          names one label below it
 *     api-*.example.com      within a label: any characters, or none
 *     *                      every name
 *
 * Both are kept in lower case, without the final dot.  Names of hosts: labels of letters, digits, - and _, at most 63
 * bytes.  Context of all: any.
 */
#define PK_NAME_PATTERN_MAX 128 /* bytes with the final NUL */
#define PK_NAME_TEXT        256 /* bytes of a name with the final NUL */

/* A pattern as somebody writes it, into the form above.  Returns 0, or -EINVAL with what is wrong. */
int pk_name_pattern(char out[PK_NAME_PATTERN_MAX], const char *text, struct pk_diag *diag);

/* Whether `pattern` is in that form. */
bool pk_name_is_pattern(const char *pattern);

/* Whether the pattern matches the name; both in that form. */
bool pk_name_match(const char *pattern, const char *name);

/* The labels at the end of a pattern that match only themselves; "" if there are none.  Points into it. */
const char *pk_name_fixed(const char *pattern);
