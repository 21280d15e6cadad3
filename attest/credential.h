#pragma once

#include "attest/tpm.h"
#include "lib/secret.h"

/*
 * Credential activation (TPM 2.0 Part 1, section 24): a secret that only the TPM with this EK can open,
 * and only while it holds the key of this name.  Who returns the secret has shown both.
 *
 *   credential = TPM2B_ID_OBJECT,       HMAC and encryption of the secret under a seed
 *   secret     = TPM2B_ENCRYPTED_SECRET, the seed, for the EK
 */
#define ATTEST_CREDENTIAL_MAX 1024 /* bytes of either part */

struct attest_credential {
	uint8_t id_object[ATTEST_CREDENTIAL_MAX]; /* with its size field */
	size_t id_object_len;
	uint8_t encrypted[ATTEST_CREDENTIAL_MAX]; /* with its size field */
	size_t encrypted_len;
};

/* Reasons why this is not the public area of an EK; see attest_ek_check() for its certificate. */
int attest_ek_public_ok(const struct attest_public *ek, struct pk_diag *d);

/*
 * Wrap `secret` (1 to the length of the EK's name hash) for `ek` and the key called
 * name[0 .. name_len - 1].  `seed` holds as many random bytes as that hash has, and is the caller's
 * to draw; padding and the ephemeral ECC key come from OpenSSL's generator.
 * RSA and NIST curves; SM2 is refused.  Returns 0, -EINVAL, -ENOTSUP or -ENOMEM.  Context: any.
 */
int attest_credential_make(struct attest_credential *out, const struct attest_public *ek,
    const uint8_t *name, size_t name_len, const struct pk_secret *seed,
    const struct pk_secret *secret, struct pk_diag *d);

/* KDFa and KDFe (Part 1, 11.4.10): `bits` of key, a multiple of 8 up to that of the hash. */
int attest_kdfa(uint16_t alg, const uint8_t *key, size_t key_len, const char *label,
    struct attest_bytes context, unsigned int bits, uint8_t *out);
int attest_kdfe(uint16_t alg, struct attest_bytes z, const char *label, struct attest_bytes u,
    struct attest_bytes v, uint8_t *out);
