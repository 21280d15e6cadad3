#pragma once

#include "lib/diag.h"

/*
 * A log that shows when it has been altered: JSON objects, a line each, in a file that only grows.  Every
 * line has its number, its time, and the SHA-256 of the line before it,
 *
 *     {"n":7,"at":"2026-11-21T14:03:12Z","prev":"9f86d0...","who":"alice",...}
 *
 * so a line that is changed, taken out or put in breaks the chain behind it.  Whoever can write the file
 * can make a new chain, or cut the end off: against that, keep a hash of the last line elsewhere now and
 * then, and ask for it later (pk_chain_check()).
 * Context: one thread at a time; it waits for the disk.
 */
#define PK_CHAIN_HASH_TEXT 65 /* hexadecimal, with the final NUL */
#define PK_CHAIN_LINE_MAX  32768

struct pk_chain;

struct pk_chain_state {
	uint64_t nb;                   /* lines */
	char head[PK_CHAIN_HASH_TEXT]; /* of the last one; of nothing when there is none */
	int broken;                    /* *diag says where */
	int found;                     /* a line has the hash asked for */
};

/*
 * Open for writing; made with mode 0600 if it is not there.  The end of a line that a crash has cut is
 * taken off.  A broken chain is not mended and not refused: what follows is chained to its last line.
 * Returns 0 or negative errno with *diag; the caller owns *out.
 */
int pk_chain_open(struct pk_chain **out, const char *path, struct pk_diag *diag);
void pk_chain_close(struct pk_chain *c); /* NULL is allowed */

/*
 * Append a line with these members ("\"who\":\"alice\",..." without braces).  `sync`: on the disk when this
 * returns.  Returns 0, -EMSGSIZE or another negative errno, and then nothing was written.
 */
int pk_chain_append(struct pk_chain *c, const char *members, int sync);

/*
 * Read all of `path` and check it.  `hash` (may be NULL) is looked for.  `each` (may be NULL) is called with
 * every line, its number in the file from 0.  Returns 0 with *out, or negative errno with *diag.
 */
int pk_chain_check(const char *path, const char *hash, struct pk_chain_state *out,
    void (*each)(void *arg, uint64_t i, const char *line), void *arg, struct pk_diag *diag);
