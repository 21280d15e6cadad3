#pragma once

#include <openssl/evp.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Reference values that come from the policy server: values with a statement about them by the authority, so that
 * nobody on the way to the verifier, the DPU's own disk and agent among them, can put others in their place, bring
 * older ones back, or give a DPU those of another.
 *
 *     file     STATEMENT "\n" VALUES
 *     payload  {"name":..,"generation":N,"subject":"host"|"dpu","dpus":["dpu1","rack7-*"],"sha256":HEX of VALUES}
 *
 * a JSON Web Signature of type "picket-reference" (lib/jws.h).  Context: any.
 */
struct attest_statement {
	char name[64];
	uint64_t generation;
	size_t values_at; /* where in the file the values begin */
};

/* For whoever signs.  sha256 is in hexadecimal.  The caller frees; NULL with *diag. */
char *attest_statement_make(const char *name, uint64_t generation, const char *subject,
    const char *const *dpus, size_t nb_dpus, const char *sha256, EVP_PKEY *key,
    struct pk_diag *diag);

/*
 * Whether file[0 .. len - 1] holds values for `subject` of DPU `dpu`, signed by `key`, of generation `oldest` or a
 * later one.  Returns 0, or -EINVAL with *diag.
 */
int attest_statement_check(struct attest_statement *out, const uint8_t *file, size_t len,
    EVP_PKEY *key, const char *subject, const char *dpu, uint64_t oldest, struct pk_diag *diag);

/* Whether a file begins like one with a statement. */
int attest_statement_is(const uint8_t *file, size_t len);
