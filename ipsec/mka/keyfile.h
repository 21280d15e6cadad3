#pragma once

#include "ipsec/mka/kay.h"

/* CAKs of a port, from a file that nobody but its owner may read. */
struct mka_cak {
	uint8_t cak[MKA_KEY_MAX], ckn[MKA_CKN_MAX];
	uint8_t cak_len, ckn_len;
};

/*
 * Read up to MKA_PARTICIPANTS_MAX pairs, lines of `CKN CAK` in hexadecimal; `#` starts a comment.  The caller wipes out[].
 * Returns how many, at least 1; or -EACCES (others may read it), -EINVAL or the errno of opening, with *diag, which
 * never contains what the file does.  Context: control thread.
 */
int mka_keyfile_read(
    const char *path, struct mka_cak out[MKA_PARTICIPANTS_MAX], struct pk_diag *diag);
