#pragma once

#include <openssl/evp.h>

#include "attest/daemon/message.h"
#include "attest/quote.h"
#include "attest/reason.h"
#include "attest/state.h"
#include "lib/chain.h"

/*
 * What a DPU keeps of its host on disk: which TPM is its own, where it stands, and how far the TPM's
 * clock had come, so that neither a restart nor a crash of the verifier makes an old quote new.
 * Trust itself is not kept: whoever was trusted comes back as suspect.
 *
 * host.json is replaced whole (written beside, synced, renamed).  audit.log only grows, and shows when a line is
 * taken out or altered (lib/chain.h).
 */
struct attest_record {
	char host[ATTEST_HOST_MAX]; /* "": nobody has enrolled */
	uint8_t ek[32];             /* SHA-256 of its SubjectPublicKeyInfo */
	uint8_t ak_name[ATTEST_NAME_MAX];
	size_t ak_name_len;
	enum attest_state state;
	uint64_t epoch;
	int clock_known;
	struct attest_clock clock;
	uint64_t reference_generation; /* of the newest signed reference taken up; 0: none */
};

/* Both wait for the disk.  `dir` is the state directory. */
int attest_record_save(const char *dir, const struct attest_record *r, struct pk_diag *d);

/* Returns 0; -ENOENT when there is none; -EBADMSG with the sentence when it cannot be read: then nothing
 * may be believed of any host before an operator has looked. */
int attest_record_load(const char *dir, struct attest_record *r, struct pk_diag *d);

/* SHA-256 of a key's SubjectPublicKeyInfo.  Returns 0 or -EINVAL. */
int attest_spki_hash(EVP_PKEY *key, uint8_t out[32]);

/* audit.log in the state directory; pk_chain_close() ends it.  Returns 0 or negative errno with the sentence. */
int attest_audit_open(struct pk_chain **out, const char *dir, struct pk_diag *d);

/* Append a line about `host`; `t` (may be NULL) is the transition, `r` (may be NULL) the reasons. */
void attest_audit_note(struct pk_chain *c, const char *what, const char *host,
    const struct attest_transition *t, const struct attest_reasons *r);

/*
 * The result as a token for others: a JWT (RFC 7519) signed by `key` (lib/jws.h: ES256, or SM2 with SM3), its claims those of
 * an EAT Attestation Result (draft-ietf-rats-ear): status, AR4SI trustworthiness vector, nonce, expiry,
 * and ours under "picket.".  The caller frees the text; NULL with the sentence.
 */
struct attest_ear {
	const char *dpu, *host;
	enum attest_state state;
	uint64_t epoch;
	const uint8_t *nonce;                 /* of the evidence judged; NULL: none yet */
	const uint8_t *reference;             /* SHA-256 of it, or NULL */
	const struct attest_reasons *reasons; /* of the last appraisal, or NULL */
	unsigned int unchecked;               /* enum attest_layer */
	int judged;                           /* there has been an appraisal */
	uint64_t iat, exp;                    /* seconds since 1970 */
};

char *attest_ear_make(const struct attest_ear *e, EVP_PKEY *key, struct pk_diag *d);
