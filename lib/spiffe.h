#pragma once

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Who somebody is: spiffe://DOMAIN/KIND/NAME, the only URI in a certificate of ours
 * (SPIFFE-ID, section 2; X509-SVID, section 2).
 */
#define PK_SPIFFE_DOMAIN_MAX 128
#define PK_SPIFFE_KIND_MAX   16
#define PK_SPIFFE_NAME_MAX   64 /* all with the final NUL */

struct pk_spiffe {
	char domain[PK_SPIFFE_DOMAIN_MAX];
	char kind[PK_SPIFFE_KIND_MAX]; /* "dpu", "operator", "server" */
	char name[PK_SPIFFE_NAME_MAX];
};

/* Parts are letters, digits, '.', '-' and '_', none of them empty.  Returns 0 or -EINVAL. */
int pk_spiffe_parse(struct pk_spiffe *out, const char *id);

/* Whether `name` may be a part.  For people's input before a certificate is made of it. */
int pk_spiffe_name_ok(const char *name);

/*
 * Read the certificate in PEM file `cert` and see that the key in `key` is its own and that neither
 * has expired or is unreadable, so that the operator hears of it in one sentence and at once.
 * `ca` is only seen to hold certificates.  `out` may be NULL; otherwise a certificate without exactly
 * one SPIFFE id is refused.  Returns 0 or negative errno with *diag.
 */
int pk_spiffe_check_files(
    const char *cert, const char *key, const char *ca, struct pk_spiffe *out, struct pk_diag *diag);
