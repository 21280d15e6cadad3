#pragma once

#include "lib/diag.h"
#include "lib/secret.h"
#include "policy/grant.h"

/*
 * Secrets that documents name: files of these names in one directory, of mode 0600, each with one line.  They are in no
 * source of policy, no store and no history.  A secret is not changed: another is made, given beside it, and the old one
 * taken away when nobody needs it any more.
 * Context: any.
 */

/* Read the secret `name` in `dir`.  Returns 0, -EACCES (others may read it), -EINVAL or the errno of opening, with *diag,
 * which says nothing of what is in the file.  The caller finishes *out. */
int server_secret_read(struct pk_secret *out, const char *dir, const char *name,
    enum policy_secret_form form, struct pk_diag *diag);

/* Make a secret of random octets, never over an old one; the directory too if it is not there.  Both are given to `user`,
 * if root makes them; NULL: nobody.  Returns 0 or negative errno with *diag. */
int server_secret_make(
    const char *dir, const char *name, size_t octets, const char *user, struct pk_diag *diag);
