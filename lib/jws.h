#pragma once

#include <openssl/evp.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Signed statements: JSON Web Signatures in compact form (RFC 7515), with one signature and the algorithm of the key:
 *
 *     P-256   "ES256" (RFC 7518, section 3.4)
 *     SM2     "SM2", the two numbers of GB/T 32918 over SM3 and the default id, 32 bytes each; a name of our own,
 *             since there is no registered one
 *
 * Other keys are refused.  Whoever reads a statement says by which key it has to be: what the header names is
 * compared with that, and never chooses.  Context: any.
 */

/* Sign the text of a JSON object.  `type` is the header's "typ".  The caller frees; NULL with *diag. */
char *pk_jws_sign(const char *type, const char *payload, EVP_PKEY *key, struct pk_diag *diag);

/* The payload of token[0 .. len - 1] if it is of `type` and signed by `key`; malloc()ed, with a final NUL, the
 * caller's.  NULL with *diag. */
char *pk_jws_verify(
    const char *type, const char *token, size_t len, EVP_PKEY *key, struct pk_diag *diag);

/* Base64url without padding (RFC 7515, section 2), malloc()ed; NULL: no memory. */
char *pk_base64url(const uint8_t *bytes, size_t len);
