#pragma once

#include <openssl/evp.h>

#include "attest/pcr.h"
#include "lib/diag.h"

/*
 * Structures of TPM 2.0 (TPM 2.0 Library, Part 2), read from the wire and used with OpenSSL.  Whatever
 * is not exactly what a TPM makes, trailing bytes included, is refused.
 */
#define ATTEST_TPM_GENERATED  UINT32_C(0xff544347)
#define ATTEST_TPM_ST_CERTIFY 0x8017
#define ATTEST_TPM_ST_QUOTE   0x8018

/* TPMA_OBJECT */
#define ATTEST_OBJ_FIXED_TPM        (UINT32_C(1) << 1)
#define ATTEST_OBJ_ST_CLEAR         (UINT32_C(1) << 2)
#define ATTEST_OBJ_FIXED_PARENT     (UINT32_C(1) << 4)
#define ATTEST_OBJ_SENSITIVE_ORIGIN (UINT32_C(1) << 5)
#define ATTEST_OBJ_USER_WITH_AUTH   (UINT32_C(1) << 6)
#define ATTEST_OBJ_RESTRICTED       (UINT32_C(1) << 16)
#define ATTEST_OBJ_DECRYPT          (UINT32_C(1) << 17)
#define ATTEST_OBJ_SIGN             (UINT32_C(1) << 18)

#define ATTEST_CURVE_P256 0x0003
#define ATTEST_CURVE_P384 0x0004
#define ATTEST_CURVE_P521 0x0005
#define ATTEST_CURVE_SM2  0x0020

#define ATTEST_NAME_MAX (2 + ATTEST_DIGEST_MAX)

/* TPMT_PUBLIC of an RSA or ECC key.  Pointers are borrowed from the bytes it was read from. */
struct attest_public {
	struct attest_bytes area; /* the TPMT_PUBLIC itself */
	uint16_t type;            /* ATTEST_ALG_RSA or ATTEST_ALG_ECC */
	uint16_t name_alg;
	uint32_t attributes;
	struct attest_bytes auth_policy;
	uint16_t symmetric, symmetric_mode, symmetric_bits; /* ATTEST_ALG_NULL, 0, 0: none */
	uint16_t scheme, scheme_hash;                       /* ATTEST_ALG_NULL: any */
	uint16_t key_bits;                                  /* RSA */
	uint32_t exponent;                                  /* RSA; 0 on the wire is 65537 here */
	uint16_t curve;                                     /* ECC */
	struct attest_bytes n;                              /* RSA */
	struct attest_bytes x, y;                           /* ECC */
};

/* Read TPM2B_PUBLIC, or TPMT_PUBLIC if the size does not fit.  Returns 0 or -EINVAL. */
int attest_public_parse(
    struct attest_public *out, const uint8_t *bytes, size_t len, struct pk_diag *d);

/* Name: nameAlg || H(TPMT_PUBLIC) into out[ATTEST_NAME_MAX].  Returns its length, 0 if it has none. */
size_t attest_public_name(const struct attest_public *p, uint8_t *out);

/* The key for OpenSSL, or NULL.  The caller frees it. */
EVP_PKEY *attest_public_key(const struct attest_public *p, struct pk_diag *d);

/* TPMS_CLOCK_INFO: `clock` in ms. */
struct attest_clock {
	uint64_t clock;
	uint32_t reset_count, restart_count;
	int safe;
};

/* TPMS_ATTEST of the types quote and certify.  Pointers are borrowed. */
struct attest_attest {
	uint16_t type;
	struct attest_bytes signer, extra;
	struct attest_clock clock;
	uint64_t firmware;
	struct attest_selection selection;  /* quote */
	struct attest_bytes pcr_digest;     /* quote */
	struct attest_bytes name;           /* certify */
	struct attest_bytes qualified_name; /* certify */
};

int attest_attest_parse(
    struct attest_attest *out, const uint8_t *bytes, size_t len, struct pk_diag *d);

/* TPMT_SIGNATURE.  RSA: `r` is the signature and `s` empty. */
struct attest_signature {
	uint16_t alg, hash;
	struct attest_bytes r, s;
};

int attest_signature_parse(
    struct attest_signature *out, const uint8_t *bytes, size_t len, struct pk_diag *d);

/*
 * Whether `sig` over message[0 .. len - 1] is by the key `p`: of the key's own scheme where it has
 * one, with SHA-256 or better.  Returns 0; -EINVAL for an algorithm, scheme or length that is not
 * acceptable; -EBADMSG when it simply does not verify; -ENOTSUP where OpenSSL cannot.
 */
int attest_signature_verify(const struct attest_signature *sig, const struct attest_public *p,
    const uint8_t *message, size_t len, struct pk_diag *d);
