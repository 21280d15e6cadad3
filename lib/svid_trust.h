#pragma once

#include <stdbool.h>
#include <time.h>

#include <openssl/x509.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Whether a peer is who it says: X.509-SVIDs (SPIFFE, X509-SVID) judged by the bundle of one trust domain
 * and by what has been revoked.
 *
 * Beside what X.509 asks, a leaf has exactly one URI in its subject alternative name, and that is a workload of
 * this domain, spiffe://DOMAIN/ns/TENANT/sa/NAME, or a DPU, spiffe://DOMAIN/dpu/NAME; it is no CA, may
 * sign and may neither sign certificates nor lists of them, and, where it names extended usages, serves both
 * ends of a connection (X509-SVID, sections 2 to 5).  Domain and path are compared byte for byte: no
 * percent-encoding, no upper-case domain, no empty or dotted segment, no slash at the end (SPIFFE-ID, section 2).
 *
 * Our authority adds where an SVID was issued to, in an extension of our own: the DPU that holds its key, the
 * epoch of its host (attest/state.h), and the second of its issue.  Revocation goes by these:
 *
 *     DPU       all that this DPU holds, its own among it     issued up to a moment
 *     HOST      those of the workloads behind it              issued up to a moment
 *     WORKLOAD  those with this SPIFFE id                     issued up to a moment
 *
 * so one entry serves however many SVIDs a host had, nobody keeps a list of serial numbers, and an entry can be
 * forgotten when the last of them has expired.  An SVID without the extension is not ours, and is refused.
 * Context: one thread at a time.
 */
#define PK_SVID_ID_MAX       2049 /* bytes with the final NUL (SPIFFE-ID, section 2.3) */
#define PK_SVID_WORKLOAD_MAX 128  /* "tenant/name" */
#define PK_SVID_DPU_MAX      64
#define PK_SVID_DOMAIN_MAX   128
#define PK_SVID_ROOTS_MAX    16

/* 2.25 and a UUID: an arc that needs no registration (ITU-T X.667, section 6.2).  A UTF8String, as
 * pk_svid_binding_text() makes it. */
#define PK_SVID_BINDING_OID "2.25.202112105742662966561264593385385607450"

/* Who signs, in an SM2 signature, where nothing else has been agreed (GM/T 0009, section 10). */
#define PK_SVID_SM2_ID "1234567812345678"

enum pk_svid_revoked {
	PK_SVID_REVOKED_NONE = 0,
	PK_SVID_REVOKED_DPU,
	PK_SVID_REVOKED_HOST,
	PK_SVID_REVOKED_WORKLOAD,
	PK_SVID_REVOKED_COUNT,
};

struct pk_svid_revocation {
	enum pk_svid_revoked kind;
	char name[PK_SVID_WORKLOAD_MAX]; /* of the DPU, or "tenant/name" */
	uint64_t issued_until_s; /* seconds since 1970: what was issued then or before is refused */
	uint64_t forget_s;       /* when the last such SVID has expired */
};

/* Who issued it to whom, from the extension. */
struct pk_svid_binding {
	char dpu[PK_SVID_DPU_MAX];
	uint64_t epoch;    /* of the host's posture; 0 for a DPU's own */
	uint64_t issued_s; /* seconds since 1970 */
};

/* A peer that has been believed. */
struct pk_svid_peer {
	char id[PK_SVID_ID_MAX];
	char workload[PK_SVID_WORKLOAD_MAX]; /* "tenant/name", or "" for a DPU */
	struct pk_svid_binding binding;
	uint64_t not_after_s;
};

enum pk_svid_verdict {
	PK_SVID_REFUSED = 0, /* malformed, or not what a leaf of ours looks like */
	PK_SVID_UNTRUSTED,   /* it does not lead to a root of the bundle, or not now */
	PK_SVID_REVOKED,
	PK_SVID_TRUSTED,
};

struct pk_svid_trust;

int pk_svid_trust_create(struct pk_svid_trust **out); /* trusts nobody; 0 or -ENOMEM */
void pk_svid_trust_destroy(struct pk_svid_trust *t);
/* A copy that stays as it is, for other threads: what does not change may be asked by several at a time.  0 or -ENOMEM. */
int pk_svid_trust_copy(struct pk_svid_trust **out, const struct pk_svid_trust *t);

/*
 * The roots of `domain`, DER one after the other.  Replaces those before; what cannot be read leaves them.
 * Returns 0, or -EINVAL with *diag, or -ENOMEM.
 */
int pk_svid_trust_set_bundle(struct pk_svid_trust *t, const char *domain, const uint8_t *der,
    size_t len, struct pk_diag *diag);
const char *pk_svid_trust_domain(const struct pk_svid_trust *t); /* "" before the first bundle */

/* Add a revocation, or widen the one with its kind and name.  Returns 0 or -ENOMEM. */
int pk_svid_trust_revoke(struct pk_svid_trust *t, const struct pk_svid_revocation *r);
/* Forget those whose time is over at `now`. */
void pk_svid_trust_expire(struct pk_svid_trust *t, time_t now);
size_t pk_svid_trust_count(const struct pk_svid_trust *t);
/* The i-th, borrowed until the next change. */
const struct pk_svid_revocation *pk_svid_trust_get(const struct pk_svid_trust *t, size_t i);

/*
 * Judge `leaf` with the certificates that came with it (`chain` may be NULL) at `now`.  *out is filled when it is
 * trusted or revoked; *diag has the sentence when it is not trusted.
 * A verdict may be kept until out->not_after_s, as long as neither bundle nor revocations change.
 */
enum pk_svid_verdict pk_svid_verify(const struct pk_svid_trust *t, X509 *leaf,
    STACK_OF(X509) * chain, time_t now, struct pk_svid_peer *out, struct pk_diag *diag);

/* Whether one that was believed has been revoked since. */
bool pk_svid_is_revoked(const struct pk_svid_trust *t, const struct pk_svid_peer *peer);

/* ---- for whoever issues ---- */

/* spiffe://DOMAIN/ns/TENANT/sa/NAME of "tenant/name", or spiffe://DOMAIN/dpu/NAME of "" and a DPU.  0 or -EINVAL. */
int pk_svid_id(char out[PK_SVID_ID_MAX], const char *domain, const char *workload, const char *dpu);
/* The workload of an id, or "" with the DPU's name in `dpu`.  0, or -EINVAL when it is not one of `domain`. */
int pk_svid_id_parse(const char *id, const char *domain, char workload[PK_SVID_WORKLOAD_MAX],
    char dpu[PK_SVID_DPU_MAX]);
/* The text of the extension, and back.  0 or -EINVAL. */
int pk_svid_binding_text(char *out, size_t size, const struct pk_svid_binding *b);
int pk_svid_binding_parse(struct pk_svid_binding *out, const char *text, size_t len);
