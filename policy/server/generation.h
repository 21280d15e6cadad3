#pragma once

#include "policy/server/policyd_priv.h"

/* What the files of the helper's side share.  Context: helper. */

/* Edits of texts; names and texts are borrowed from the request, or from `old`. */
struct edits {
	struct server_edit *item;
	size_t nb, room;
	struct server_texts old; /* what a rollback goes back to */
};

int edits_add(struct edits *e, bool inventory, const char *name, const void *text,
    size_t len); /* 0 or -ENOMEM */
void edits_fini(struct edits *e);

/*
 * generation.c: one request, as far as the store: what it changes, into *e (for edits_fini()), compiled and, if it is to be,
 * tested; a->changed, a->unchanged or a->refused says what has come of it.
 */
void generation_prepare(struct apply *a, struct edits *e);

/*
 * follow.c: take in what other servers have committed.  Nothing may be waiting in the compilers to be kept or undone.
 * Returns 0, also when there is nothing; -ETIMEDOUT, -EIO or -ENOMEM with *diag, and some of it may have been taken in;
 * any other error: this server does not know any more what is in force.
 */
int follow_others(struct batch *b, struct pk_diag *diag);
/* Fold the store's log up. */
void follow_snapshot(struct policyd *p);
/* In memory as in the store: what follows an edit. */
int follow_texts(struct policyd *p, const struct server_edit *edits, size_t nb);
