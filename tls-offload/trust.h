#pragma once

#include <openssl/ssl.h>

#include "lib/svid_trust.h"

/*
 * Whom to believe, for threads that shake hands: bundle and revocations as they were at one moment, with what has been
 * concluded from them.  It never changes; when the agent says something new there is another, with nothing concluded yet.
 *
 * A chain that was believed is known again by the SHA-256 of its certificates until the leaf expires; then only who holds
 * the key has to be asked, which TLS does by itself.
 */
#define TLSO_CACHE_SLOTS 4096 /* chains; one that shares a slot takes the other's place */

struct tlso_trust;

/* A copy of `t`, with one reference; takes nothing.  Returns 0 or -ENOMEM.  Context: whoever owns `t`. */
int tlso_trust_create(struct tlso_trust **out, const struct pk_svid_trust *t);
struct tlso_trust *tlso_trust_get(
    struct tlso_trust *t);                 /* another reference.  Context: any; so for all below. */
void tlso_trust_put(struct tlso_trust *t); /* NULL is allowed */

struct tlso_trust_stats {
	uint64_t verified, cached; /* verified: by checking signatures */
};
void tlso_trust_stats(const struct tlso_trust *t, struct tlso_trust_stats *out);

/* As pk_svid_verify(). */
enum pk_svid_verdict tlso_trust_verify(struct tlso_trust *t, X509 *leaf, STACK_OF(X509) * chain,
    time_t now, struct pk_svid_peer *out, struct pk_diag *diag);
bool tlso_trust_is_revoked(const struct tlso_trust *t, const struct pk_svid_peer *peer);

/*
 * What a handshake wants of its peer, and what it found.  Zeroed, it believes nobody.  `trust` is borrowed and has to
 * outlast the handshake.
 */
struct tlso_check {
	struct tlso_trust *trust;
	char want[PK_SVID_WORKLOAD_MAX]; /* the workload whose address it is */
	enum pk_svid_verdict verdict;
	struct pk_svid_peer peer;
	struct pk_diag why; /* when it was refused */
};

/* Have `ssl` judge its peer's certificate by `check`, and refuse one that does not pass with an alert. */
void tlso_check_attach(SSL *ssl, struct tlso_check *check);

/* For SSL_CTX_set_cert_verify_callback(); of an SSL without a check it believes nobody. */
int tlso_check_callback(X509_STORE_CTX *ctx, void *arg);
