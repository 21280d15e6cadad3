#include "attest/credential.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#define LABEL "IDENTITY" /* and its NUL counts */

int
attest_kdfa(uint16_t alg, const uint8_t *key, size_t key_len, const char *label,
    struct attest_bytes context, unsigned int bits, uint8_t *out)
{
	const EVP_MD *md = attest_alg_md(alg);
	uint8_t message[4 + 32 + ATTEST_NAME_MAX + 4] = { 0, 0, 0, 1 }, mac[EVP_MAX_MD_SIZE];
	size_t n = 4, label_len = strlen(label) + 1;
	unsigned int len = 0;

	if (md == NULL || bits % 8 != 0 || bits / 8 > attest_alg_size(alg) || label_len > 32 ||
	    context.len > ATTEST_NAME_MAX)
		return -EINVAL;
	memcpy(message + n, label, label_len);
	n += label_len;
	if (context.len > 0)
		memcpy(message + n, context.at, context.len);
	n += context.len;
	message[n++] = 0;
	message[n++] = 0;
	message[n++] = (uint8_t)(bits >> 8);
	message[n++] = (uint8_t)bits;
	if (HMAC(md, key, (int)key_len, message, n, mac, &len) == NULL)
		return -ENOMEM;
	memcpy(out, mac, bits / 8);
	pk_wipe(mac, sizeof(mac));
	return 0;
}

int
attest_kdfe(uint16_t alg, struct attest_bytes z, const char *label, struct attest_bytes u,
    struct attest_bytes v, uint8_t *out)
{
	static const uint8_t counter[4] = { 0, 0, 0, 1 };
	struct attest_bytes part[] = { { counter, 4 }, z,
		{ (const uint8_t *)label, strlen(label) + 1 }, u, v };

	return attest_hash(NULL, alg, part, PK_COUNT(part), out);
}

int
attest_ek_public_ok(const struct attest_public *ek, struct pk_diag *d)
{
	uint32_t want = ATTEST_OBJ_FIXED_TPM | ATTEST_OBJ_FIXED_PARENT |
	    ATTEST_OBJ_SENSITIVE_ORIGIN | ATTEST_OBJ_RESTRICTED | ATTEST_OBJ_DECRYPT;

	if ((ek->attributes & want) != want || (ek->attributes & ATTEST_OBJ_SIGN) != 0) {
		pk_diag_set(d,
		    "EK: attributes 0x%x; it must be fixedTPM, fixedParent, sensitiveDataOrigin, "
		    "restricted and decrypt, and not sign",
		    ek->attributes);
		return 0;
	}
	if (ek->symmetric != ATTEST_ALG_AES || ek->symmetric_mode != ATTEST_ALG_CFB ||
	    (ek->symmetric_bits != 128 && ek->symmetric_bits != 256)) {
		pk_diag_set(d, "EK: protects its children with something else than AES-CFB");
		return 0;
	}
	return 1;
}

static int
cfb(unsigned int bits, const uint8_t *key, uint8_t *bytes, size_t len)
{
	static const uint8_t iv[16];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0, ok;

	ok = ctx != NULL &&
	    EVP_EncryptInit_ex(ctx, bits == 128 ? EVP_aes_128_cfb128() : EVP_aes_256_cfb128(), NULL,
	        key, iv) == 1 &&
	    EVP_EncryptUpdate(ctx, bytes, &n, bytes, (int)len) == 1 && (size_t)n == len;
	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}

static void
put_be16(uint8_t *out, size_t v)
{
	out[0] = (uint8_t)(v >> 8);
	out[1] = (uint8_t)v;
}

static int
seed_for_rsa(struct attest_credential *out, EVP_PKEY *key, uint16_t alg, const uint8_t *seed)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	size_t len = sizeof(out->encrypted) - 2;
	char *label = OPENSSL_strdup(LABEL);
	int ok;

	ok = ctx != NULL && label != NULL && EVP_PKEY_encrypt_init(ctx) > 0 &&
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
	    EVP_PKEY_CTX_set_rsa_oaep_md(ctx, attest_alg_md(alg)) > 0 &&
	    EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, attest_alg_md(alg)) > 0;
	/* Takes the label on success. */
	if (ok && EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, label, sizeof(LABEL)) > 0)
		label = NULL;
	ok = ok && label == NULL &&
	    EVP_PKEY_encrypt(ctx, out->encrypted + 2, &len, seed, attest_alg_size(alg)) > 0;
	put_be16(out->encrypted, len);
	out->encrypted_len = len + 2;
	OPENSSL_free(label);
	EVP_PKEY_CTX_free(ctx);
	return ok ? 0 : -EINVAL;
}

/* One-pass ECDH (Part 1, C.6.4): the seed is derived, and the ephemeral point is what is sent. */
static int
seed_for_ecc(struct attest_credential *out, EVP_PKEY *key, uint16_t alg,
    const struct attest_public *ek, uint8_t *seed)
{
	EVP_PKEY_CTX *gen = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL), *derive = NULL;
	EVP_PKEY *own = NULL;
	uint8_t z[66], point[1 + 2 * 66], x[66] = { 0 };
	size_t z_len = sizeof(z), point_len = 0, size;
	int rc = -EINVAL;

	if (gen == NULL || EVP_PKEY_keygen_init(gen) <= 0 || EVP_PKEY_keygen(gen, &own) <= 0 ||
	    EVP_PKEY_get_octet_string_param(
	        own, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point, sizeof(point), &point_len) != 1 ||
	    point_len < 3 || point[0] != POINT_CONVERSION_UNCOMPRESSED)
		goto out;
	derive = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
	if (derive == NULL || EVP_PKEY_derive_init(derive) <= 0 ||
	    EVP_PKEY_derive_set_peer(derive, key) <= 0 || EVP_PKEY_derive(derive, z, &z_len) <= 0)
		goto out;
	size = (point_len - 1) / 2;
	memcpy(x + size - ek->x.len, ek->x.at, ek->x.len);
	rc = attest_kdfe(alg, (struct attest_bytes){ z, z_len }, LABEL,
	    (struct attest_bytes){ point + 1, size }, (struct attest_bytes){ x, size }, seed);
	put_be16(out->encrypted, 4 + 2 * size);
	put_be16(out->encrypted + 2, size);
	memcpy(out->encrypted + 4, point + 1, size);
	put_be16(out->encrypted + 4 + size, size);
	memcpy(out->encrypted + 6 + size, point + 1 + size, size);
	out->encrypted_len = 6 + 2 * size;
out:
	pk_wipe(z, sizeof(z));
	EVP_PKEY_free(own);
	EVP_PKEY_CTX_free(gen);
	EVP_PKEY_CTX_free(derive);
	return rc;
}

/* Part 1, 24.4: encIdentity under a key for this name, then an HMAC over both. */
static int
wrap(struct attest_credential *out, const struct attest_public *ek, const uint8_t *seed,
    struct attest_bytes name, const struct pk_secret *secret)
{
	uint16_t alg = ek->name_alg;
	size_t size = attest_alg_size(alg), enc_len = 2 + secret->len;
	uint8_t key[ATTEST_DIGEST_MAX], message[2 + ATTEST_DIGEST_MAX + ATTEST_NAME_MAX];
	uint8_t *enc = out->id_object + 4 + size;
	unsigned int len = 0;
	int rc;

	if ((rc = attest_kdfa(alg, seed, size, "STORAGE", name, ek->symmetric_bits, key)) < 0)
		goto out;
	put_be16(enc, secret->len);
	memcpy(enc + 2, secret->bytes, secret->len);
	if ((rc = cfb(ek->symmetric_bits, key, enc, enc_len)) < 0)
		goto out;
	if ((rc = attest_kdfa(alg, seed, size, "INTEGRITY", (struct attest_bytes){ NULL, 0 },
	         (unsigned int)size * 8, key)) < 0)
		goto out;
	memcpy(message, enc, enc_len);
	memcpy(message + enc_len, name.at, name.len);
	if (HMAC(attest_alg_md(alg), key, (int)size, message, enc_len + name.len,
	        out->id_object + 4, &len) == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	put_be16(out->id_object, 2 + size + enc_len);
	put_be16(out->id_object + 2, size);
	out->id_object_len = 4 + size + enc_len;
out:
	pk_wipe(key, sizeof(key));
	return rc;
}

int
attest_credential_make(struct attest_credential *out, const struct attest_public *ek,
    const uint8_t *name, size_t name_len, const struct pk_secret *seed,
    const struct pk_secret *secret, struct pk_diag *d)
{
	size_t size = attest_alg_size(ek->name_alg);
	uint8_t derived[ATTEST_DIGEST_MAX];
	EVP_PKEY *key = NULL;
	int rc = -EINVAL;

	*out = (struct attest_credential){ 0 };
	if (!attest_ek_public_ok(ek, d))
		return -EINVAL;
	if (ek->type == ATTEST_ALG_ECC && ek->curve == ATTEST_CURVE_SM2) {
		pk_diag_set(d, "credential: no activation with an SM2 EK; use its RSA or NIST one");
		return -ENOTSUP;
	}
	if (size == 0 || attest_alg_md(ek->name_alg) == NULL || seed->len != size ||
	    secret->len == 0 || secret->len > size || name_len < 3 || name_len > ATTEST_NAME_MAX) {
		pk_diag_set(d, "credential: seed, secret or name of an impossible length");
		return -EINVAL;
	}
	if ((key = attest_public_key(ek, d)) == NULL)
		return -EINVAL;
	if (ek->type == ATTEST_ALG_RSA) {
		memcpy(derived, seed->bytes, size);
		rc = seed_for_rsa(out, key, ek->name_alg, derived);
	} else {
		rc = seed_for_ecc(out, key, ek->name_alg, ek, derived);
	}
	if (rc == 0)
		rc = wrap(out, ek, derived, (struct attest_bytes){ name, name_len }, secret);
	if (rc < 0)
		pk_diag_set(d, "credential: OpenSSL could not encrypt to the EK");
	pk_wipe(derived, sizeof(derived));
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}
