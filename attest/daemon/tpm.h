#pragma once

#include <stdbool.h>

#include "attest/pcr.h"
#include "lib/diag.h"
#include "lib/secret.h"

/*
 * A host's TPM, through ESAPI (TCG TSS 2.0 Enhanced System API).
 *
 * EK   the RSA-2048 endorsement key of the TCG EK Credential Profile: the persistent one at 0x81010001 if
 *      it is there, else made from the profile's template, which gives the same key.
 * AK   a restricted signing key, ECC P-256 or RSA-2048: a primary key of the endorsement hierarchy.  The
 *      same seed and template give the same key, so there is no file to keep or lose, and it ends with
 *      the TPM's ownership.  noDA: a host that crashes often must not lock its TPM out.
 *
 * All calls wait for the TPM, up to a second each.  Context: a program or thread that may wait.
 * Errors: -EIO when the TPM is out of reach, -EACCES when it refuses, each with one sentence.
 */
struct attest_tpm;

enum attest_ak_kind {
	ATTEST_AK_ECC = 0,
	ATTEST_AK_RSA,
};

struct attest_tpm_conf {
	const char *tcti; /* in the words of tss2-tctildr: "device:/dev/tpmrm0" */
	enum attest_ak_kind ak;
	/* Let go of the TPM after each use: for one that serves a single program at a time. */
	bool share;
};

/* Reach the TPM and make the keys.  `conf` is borrowed. */
int attest_tpm_create(
    struct attest_tpm **out, const struct attest_tpm_conf *conf, struct pk_diag *d);
void attest_tpm_destroy(struct attest_tpm *t);

/* Borrowed from `t`.  The certificate is .len 0 when the TPM holds none. */
struct attest_bytes attest_tpm_ek_public(const struct attest_tpm *t); /* TPM2B_PUBLIC */
struct attest_bytes attest_tpm_ek_cert(const struct attest_tpm *t);   /* DER */
struct attest_bytes attest_tpm_ak_public(const struct attest_tpm *t); /* TPM2B_PUBLIC */

/* TPM2_ActivateCredential.  Both are TPM2Bs as sent.  The caller ends *secret. */
int attest_tpm_activate(struct attest_tpm *t, struct attest_bytes id_object,
    struct attest_bytes encrypted, struct pk_secret *secret, struct pk_diag *d);

/* A quote and the values it covers; all malloc()ed, see attest_quoted_fini(). */
struct attest_quoted {
	uint8_t *message; /* TPMS_ATTEST */
	size_t message_len;
	uint8_t *signature; /* TPMT_SIGNATURE */
	size_t signature_len;
	char *values; /* JSON, as attest_pcrs_parse() reads it */
};

/*
 * TPM2_Quote over the PCRs selected.  PCR 10 grows with every file that runs, so values and quote are taken
 * again until they agree, eight times at most; then -EBUSY.  -EACCES: the TPM has not such a bank.
 */
int attest_tpm_quote(struct attest_tpm *t, const struct attest_selection *selection,
    const uint8_t qualifying[32], struct attest_quoted *out, struct pk_diag *d);
void attest_quoted_fini(struct attest_quoted *q);
