#pragma once

#include <time.h>

#include "lib/svid_trust.h"

/*
 * The part of the certificate authority that works while the server serves: short-lived X.509-SVIDs
 * (lib/svid_trust.h) on request.  What a request asks for beside its key is not looked at: the name, the usages
 * and the life of an SVID are ours to say.  Whether it may be had is decided elsewhere (identity.c).
 *
 * The authority that `init` made signs with ECDSA on P-256.  Where server_ca_init_gm() has made another, requests with an SM2 key
 * (GB/T 32918) are signed by that, SM2 with SM3; roots of both are in the bundle.  Without it such requests are refused.
 *
 * Nothing here changes after _open(), so all but that may be called from any thread.
 */
#define SERVER_CSR_MAX 4096 /* bytes of a request */

struct server_issuer;

/*
 * From ca.crt and ca.key, ca-gm.crt and ca-gm.key in `dir`, and further roots from PEM file `ca`.  Without ca.key
 * there is an issuer that refuses: the key may be kept elsewhere.  Returns 0 or negative errno with *diag.
 */
int server_issuer_open(struct server_issuer **out, const char *dir, const char *ca,
    const char *domain, struct pk_diag *diag);
void server_issuer_close(struct server_issuer *is); /* NULL is allowed */

/* The roots peers are judged by, DER one after the other; borrowed. */
const uint8_t *server_issuer_bundle(const struct server_issuer *is, size_t *len);

/* The authority's own key, for statements; borrowed, NULL when it is not here. */
EVP_PKEY *server_issuer_key(const struct server_issuer *is);

/*
 * Sign.  csr[0 .. len - 1] is PKCS #10 in DER, by the key it names: ECDSA on P-256 or P-384, or SM2.  `workload` is
 * "tenant/name", or "" for DPU b->dpu itself; b->issued_s is the time.  The SVID lasts for `ttl_s` from then.
 * *der (malloc()ed, the caller's) is the leaf.  Returns 0; -EINVAL for a request that is not acceptable, -EACCES
 * without a key to sign with, -ENOTSUP, -ENOMEM or -EIO, each with *diag.
 */
int server_issuer_sign(const struct server_issuer *is, const uint8_t *csr, size_t len,
    const char *workload, const struct pk_svid_binding *b, uint64_t ttl_s, uint8_t **der,
    size_t *der_len, struct pk_diag *diag);
