#pragma once

#include "lib/svid_trust.h"

/*
 * What picket-agentd and the programs beside it say about identities, on a Unix SOCK_SEQPACKET socket,
 * picket-agentd.svid in the agent's run-dir:
 *
 *     program  WATCH      a workload behind this DPU, "" for the DPU itself, "*" for all workloads
 *     agent    SVID       certificates; with them, as SCM_RIGHTS, a sealed memfd with the key in PKCS #8
 *              WAITING    there is none at present, and why; what was served before lasts until it expires
 *              GONE       what was served may not be used any more, and why
 *              BUNDLE     domain and roots
 *              REVOKED    revocations, in as many messages as it takes, which add to those said before
 *
 * The agent says BUNDLE and REVOKED to everybody who connects, and all of it again whenever it changes.  Neither is in
 * force before the last REVOKED: nobody is believed by a bundle whose revocations have not come yet.
 * A message is
 *
 *     version (1), type (1), flags (1), zero (1), not_after (8), epoch (8),
 *     then workload, id, text, bytes, each with its length (4) before it          numbers are big-endian
 *
 * and nothing after.  Each end checks what arrives as if the other had just been taken over.
 */
#define PK_SVID_WIRE_VERSION 1
#define PK_SVID_WIRE_MAX     65536 /* bytes of one message */
#define PK_SVID_BYTES_MAX    57344 /* of its last field */
#define PK_SVID_KEY_MAX      4096  /* bytes of a key */

enum pk_svid_message_type {
	PK_SVID_MESSAGE_NONE = 0,
	PK_SVID_MESSAGE_WATCH,
	PK_SVID_MESSAGE_SVID,
	PK_SVID_MESSAGE_WAITING,
	PK_SVID_MESSAGE_GONE,
	PK_SVID_MESSAGE_BUNDLE,
	PK_SVID_MESSAGE_REVOKED,
	PK_SVID_MESSAGE_COUNT,
};

enum pk_svid_message_flags {
	PK_SVID_LAST = 1 << 0, /* REVOKED: that was all there is */
};

struct pk_svid_message {
	uint8_t type, flags;
	uint64_t not_after_s, epoch;         /* SVID */
	char workload[PK_SVID_WORKLOAD_MAX]; /* WATCH, SVID, WAITING, GONE */
	char id[PK_SVID_ID_MAX];             /* SVID */
	char text[256];                      /* why; of BUNDLE, the domain */
	const uint8_t *bytes; /* certificates, DER, leaf first; or packed revocations */
	size_t len;
};

/* Into out[PK_SVID_WIRE_MAX].  Returns the length, or 0 when it is too long. */
size_t pk_svid_message_pack(uint8_t *out, const struct pk_svid_message *m);
/* out->bytes is borrowed from bytes[0 .. len - 1].  Returns 0 or -EPROTO with *diag. */
int pk_svid_message_parse(
    struct pk_svid_message *out, const uint8_t *bytes, size_t len, struct pk_diag *diag);

/* Revocations as the bytes of a message: those from *at on of `t`, as many as fit; *at moves on.  Returns the
 * length in out[PK_SVID_BYTES_MAX]. */
size_t pk_svid_revocations_pack(uint8_t *out, const struct pk_svid_trust *t, size_t *at);
/* Add them to `t`.  Returns 0, -EPROTO or -ENOMEM. */
int pk_svid_revocations_take(struct pk_svid_trust *t, const uint8_t *bytes, size_t len);
