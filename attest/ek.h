#pragma once

#include <time.h>

#include "attest/reason.h"
#include "attest/tpm.h"

/*
 * Endorsement key certificates (TCG EK Credential Profile): who made the TPM.
 *
 * They are certificates like no others: the subject may be empty, the SAN critical with a directory
 * name, notAfter the year 9999, the key usage that of a decryption key.  What has to hold: a chain to a
 * root on the operator's list, the extended key usage 2.23.133.8.1, no CA, and the key of this EK.
 */
#define ATTEST_EK_ALLOW_MAX 4096

struct attest_roots;

/* Read trust anchors, PEM one after the other.  Any certificate may be one, intermediates too. */
int attest_roots_parse(
    struct attest_roots **out, const uint8_t *pem, size_t len, struct pk_diag *d);
void attest_roots_destroy(struct attest_roots *r);

/*
 * Judge certificate `der` of key `ek` at time `now`.  `intermediates` is PEM from the host, believed
 * only as far as it leads to `roots`; .len 0 if there are none.  allow[0 .. nb_allow - 1] are SHA-256
 * of EK SubjectPublicKeyInfo; none means that every EK below the roots may enrol.
 */
void attest_ek_check(struct attest_bytes der, struct attest_bytes intermediates,
    const struct attest_public *ek, const struct attest_roots *roots, const uint8_t (*allow)[32],
    size_t nb_allow, time_t now, struct attest_reasons *r);
