#pragma once

#include <openssl/ssl.h>

#include "lib/svid.h"

/*
 * A workload's SVID with what is needed to shake hands in its name: a context for each end, both for TLS 1.3 alone, both
 * with the peer's certificate required and judged by tlso_check_callback().  It does not change; a renewed SVID is another.
 *
 * Live connections keep the identity they were made with; that there is a newer one does not end them.
 */
#define TLSO_ALPN_H2 "h2"

enum tlso_mode {
	TLSO_MODE_BOTH = 0, /* direct if the peer knows it, HBONE if not */
	TLSO_MODE_DIRECT,
	TLSO_MODE_HBONE,
};

struct tlso_identity {
	_Atomic unsigned int refs;
	char workload[PK_SVID_WORKLOAD_MAX];
	uint64_t not_after_s;
	SSL_CTX *server, *client;
	struct tlso_identity *next; /* of the table */
};

struct tlso_identities;

/* Protocols of `mode` are offered and accepted.  Returns 0 or -ENOMEM.  Context: control thread. */
int tlso_identities_create(struct tlso_identities **out, enum tlso_mode mode);
void tlso_identities_destroy(struct tlso_identities *t); /* NULL is allowed */

/* Put in the place of the one before.  Returns 0, or -EINVAL with *diag.  Context: control thread. */
int tlso_identities_put(struct tlso_identities *t, const struct pk_svid *s, struct pk_diag *diag);
void tlso_identities_remove(struct tlso_identities *t, const char *workload);

/* The newest that has not expired at `now_s`, with a reference of the caller's; NULL: there is none.  Context: any. */
struct tlso_identity *tlso_identities_get(
    struct tlso_identities *t, const char *workload, uint64_t now_s);
void tlso_identity_put(struct tlso_identity *i); /* NULL is allowed.  Context: any. */
unsigned int tlso_identities_count(struct tlso_identities *t);
