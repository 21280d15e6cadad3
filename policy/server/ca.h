#pragma once

#include "lib/diag.h"

/*
 * The certificate authority of a trust domain, so that nobody handles openssl.
 *
 * DIR holds ca.crt and ca.key, which sign; server.crt and server.key, the server's own; and, as every
 * identity, each in a directory of its own: identity.crt, identity.key and ca.crt.  Keys are ECDSA on
 * P-256, mode 0600.  Each certificate but the authority's names one SPIFFE id,
 * spiffe://DOMAIN/KIND/NAME (X509-SVID, section 2), and has only the key usages its kind needs, so a
 * DPU's certificate cannot pass for a server.
 * Context: before the server serves.  Nothing that exists is ever overwritten.
 */
#define SERVER_CA_DAYS      3650
#define SERVER_CA_LEAF_DAYS 397

/*
 * Make the authority of `domain`, a certificate for a server reached as each of names[] (DNS names or
 * addresses), and the identity of a first operator, "admin", in DIR/operator/admin.  Made by root for
 * a server that runs as `user`, everything is given to that user.
 * Returns 0 or negative errno with *diag: -EEXIST when there is an authority already.
 */
int server_ca_init(const char *dir, const char *domain, const char *const *names, size_t nb_names,
    const char *user, struct pk_diag *diag);

/* A new identity in directory `out`, which is made if it is not there.  `kind` is "dpu" or
 * "operator".  Returns 0 or negative errno with *diag. */
int server_ca_issue(
    const char *dir, const char *kind, const char *name, const char *out, struct pk_diag *diag);

/*
 * A second authority of the same domain, ca-gm.crt and ca-gm.key, with an SM2 key, which signs with SM3: for SVIDs whose
 * keys are on SM2 (policy/server/issuer.h).  TLS by OpenSSL 3.0 cannot use SM2, so gRPC keeps the first one.
 */
int server_ca_init_gm(const char *dir, const char *user, struct pk_diag *diag);

/* A new certificate for the server, for `names`, with the key it has; the running server takes it up. */
int server_ca_renew(const char *dir, const char *const *names, size_t nb_names, const char *user,
    struct pk_diag *diag);
