#pragma once

#include <openssl/evp.h>

#include "lib/base.h"

/*
 * Algorithms by the identifiers of the TCG Algorithm Registry.  All else in this folder names a hash
 * by such an identifier, 0 meaning none; what this build of OpenSSL cannot compute has size 0.
 */
enum {
	ATTEST_ALG_RSA = 0x0001,
	ATTEST_ALG_SHA1 = 0x0004,
	ATTEST_ALG_AES = 0x0006,
	ATTEST_ALG_SHA256 = 0x000b,
	ATTEST_ALG_SHA384 = 0x000c,
	ATTEST_ALG_SHA512 = 0x000d,
	ATTEST_ALG_NULL = 0x0010,
	ATTEST_ALG_SM3 = 0x0012,
	ATTEST_ALG_SM4 = 0x0013,
	ATTEST_ALG_RSASSA = 0x0014,
	ATTEST_ALG_RSAPSS = 0x0016,
	ATTEST_ALG_ECDSA = 0x0018,
	ATTEST_ALG_SM2 = 0x001b,
	ATTEST_ALG_ECC = 0x0023,
	ATTEST_ALG_CFB = 0x0043,
};

#define ATTEST_DIGEST_MAX 64 /* bytes, of the longest hash above */
#define ATTEST_BANKS_MAX  8  /* PCR banks of one TPM or log; real ones have up to five */
#define ATTEST_NB_PCRS    24

/* Bytes of somebody else: borrowed as long as what they point into. */
struct attest_bytes {
	const uint8_t *at;
	size_t len;
};

/* "sha256", or "0x001f" from a static buffer per thread for what has no name.  Context: any. */
const char *attest_alg_name(uint16_t alg);

/* The hash called name[0 .. len - 1], 0 if there is none such. */
uint16_t attest_alg_find(const char *name, size_t len);

/* Bytes of the digest by the registry, 0 for what is no hash that we know. */
size_t attest_alg_size(uint16_t alg);

/* OpenSSL's implementation, fetched once, or NULL.  Context: any. */
const EVP_MD *attest_alg_md(uint16_t alg);

/*
 * Hash parts[0 .. n - 1] one after the other into out[ATTEST_DIGEST_MAX].  `ctx` may be NULL; a loop
 * saves an allocation per turn by lending its own.  Returns 0, -ENOTSUP or -ENOMEM.  Context: any.
 */
int attest_hash(
    EVP_MD_CTX *ctx, uint16_t alg, const struct attest_bytes *parts, size_t n, uint8_t *out);

/* value := H(value || digest), both as long as the hash: what TPM2_PCR_Extend does. */
int attest_extend(EVP_MD_CTX *ctx, uint16_t alg, uint8_t *value, const uint8_t *digest);

/* Lower-case hex of bytes[0 .. len - 1] with a final NUL into out[2 * len + 1]. */
void attest_hex(const uint8_t *bytes, size_t len, char *out);

/* Read exactly `len` bytes from 2 * len hex digits of either case.  Returns 0 or -EINVAL. */
int attest_unhex(const char *hex, size_t hex_len, uint8_t *out, size_t len);
