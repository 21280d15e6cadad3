#include "lib/jws.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "lib/svid_trust.h"

#define NUMBER 32 /* bytes of each of a signature's two numbers */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *
pk_base64url(const uint8_t *bytes, size_t len)
{
	char *out = malloc(len / 3 * 4 + 5), *p = out;

	for (size_t i = 0; out != NULL && i < len; i += 3) {
		uint32_t v = (uint32_t)bytes[i] << 16 |
		    (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
		    (i + 2 < len ? bytes[i + 2] : 0);

		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		if (i + 1 < len)
			*p++ = digits[v >> 6 & 63];
		if (i + 2 < len)
			*p++ = digits[v & 63];
	}
	if (out != NULL)
		*p = '\0';
	return out;
}

/* Back to bytes, malloc()ed with a NUL after them; NULL for what is none, bits left over among it. */
static uint8_t *
from_base64url(const char *text, size_t len, size_t *out_len)
{
	uint8_t *out = malloc(len + 1);
	uint32_t v = 0;
	size_t n = 0;

	for (size_t i = 0; out != NULL && i < len; i++) {
		const char *d = text[i] != '\0' ? strchr(digits, text[i]) : NULL;

		if (d == NULL || (len % 4 == 1)) {
			free(out);
			return NULL;
		}
		v = v << 6 | (uint32_t)(d - digits);
		if (i % 4 != 0)
			out[n++] = (uint8_t)(v >> (6 - 2 * (i % 4)));
		if (i % 4 == 3)
			v = 0;
	}
	if (out != NULL && (len % 4 == 2 || len % 4 == 3) && (v & (len % 4 == 2 ? 15 : 3)) != 0) {
		free(out);
		return NULL;
	}
	if (out != NULL)
		out[n] = '\0';
	*out_len = n;
	return out;
}

static const char *
algorithm_of(EVP_PKEY *key)
{
	char group[64];
	size_t n;

	if (EVP_PKEY_is_a(key, "SM2"))
		return "SM2";
	if (EVP_PKEY_is_a(key, "EC") &&
	    EVP_PKEY_get_group_name(key, group, sizeof(group), &n) == 1 &&
	    strcmp(group, "prime256v1") == 0)
		return "ES256";
	return NULL;
}

/* A context for one signature with `key`, either way.  NULL: it cannot be had. */
static EVP_MD_CTX *
begin(EVP_PKEY *key, bool verify, EVP_PKEY_CTX **by)
{
	bool sm2 = EVP_PKEY_is_a(key, "SM2");
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx != NULL;

	*by = NULL;
	if (ok && sm2) {
		*by = EVP_PKEY_CTX_new(key, NULL);
		ok = *by != NULL &&
		    EVP_PKEY_CTX_set1_id(*by, PK_SVID_SM2_ID, (int)strlen(PK_SVID_SM2_ID)) == 1;
		if (ok)
			EVP_MD_CTX_set_pkey_ctx(ctx, *by);
	}
	if (ok)
		ok = verify
		    ? EVP_DigestVerifyInit(ctx, NULL, sm2 ? EVP_sm3() : EVP_sha256(), NULL, key)
		    : EVP_DigestSignInit(ctx, NULL, sm2 ? EVP_sm3() : EVP_sha256(), NULL, key);
	if (ok == 1)
		return ctx;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(*by);
	*by = NULL;
	return NULL;
}

static int
sign(EVP_PKEY *key, const char *text, size_t len, uint8_t out[2 * NUMBER])
{
	uint8_t der[256];
	const uint8_t *p = der;
	size_t der_len = sizeof(der);
	EVP_PKEY_CTX *by;
	EVP_MD_CTX *ctx = begin(key, false, &by);
	ECDSA_SIG *sig = NULL;
	bool ok = ctx != NULL &&
	    EVP_DigestSign(ctx, der, &der_len, (const uint8_t *)text, len) == 1 &&
	    (sig = d2i_ECDSA_SIG(NULL, &p, (long)der_len)) != NULL &&
	    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, NUMBER) == NUMBER &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + NUMBER, NUMBER) == NUMBER;

	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(by);
	return ok ? 0 : -1;
}

static bool
verify(EVP_PKEY *key, const char *text, size_t len, const uint8_t numbers[2 * NUMBER])
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(numbers, NUMBER, NULL),
	       *s = BN_bin2bn(numbers + NUMBER, NUMBER, NULL);
	EVP_PKEY_CTX *by = NULL;
	EVP_MD_CTX *ctx = NULL;
	uint8_t *der = NULL;
	int der_len;
	bool good = false;

	if (sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
		BN_free(r);
		BN_free(s);
		ECDSA_SIG_free(sig);
		return false;
	}
	der_len = i2d_ECDSA_SIG(sig, &der);
	ctx = der_len > 0 ? begin(key, true, &by) : NULL;
	good = ctx != NULL &&
	    EVP_DigestVerify(ctx, der, (size_t)der_len, (const uint8_t *)text, len) == 1;
	OPENSSL_free(der);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(by);
	ECDSA_SIG_free(sig);
	ERR_clear_error();
	return good;
}

static int
spki_hash(EVP_PKEY *key, char hex[65])
{
	uint8_t *der = NULL, hash[32];
	unsigned int n = 0;
	int len = i2d_PUBKEY(key, &der);
	int ok = len > 0 && EVP_Digest(der, (size_t)len, hash, &n, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	for (size_t i = 0; ok && i < sizeof(hash); i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	return ok ? 0 : -1;
}

/* The one header there is for a type and a key: compared as text, so nothing in it has to be understood. */
static int
header_of(char *out, size_t size, const char *type, EVP_PKEY *key)
{
	const char *algorithm = algorithm_of(key);
	char kid[65];
	int n;

	if (algorithm == NULL || spki_hash(key, kid) < 0)
		return -1;
	n = snprintf(
	    out, size, "{\"alg\":\"%s\",\"typ\":\"%s\",\"kid\":\"%s\"}", algorithm, type, kid);
	return n > 0 && (size_t)n < size ? 0 : -1;
}

char *
pk_jws_sign(const char *type, const char *payload, EVP_PKEY *key, struct pk_diag *diag)
{
	char header[256], *h = NULL, *b = NULL, *s = NULL, *text = NULL, *token = NULL;
	uint8_t signature[2 * NUMBER];
	int len;

	if (header_of(header, sizeof(header), type, key) < 0) {
		pk_diag_set(diag, "a key to sign statements with has to be on P-256 or SM2");
		return NULL;
	}
	h = pk_base64url((const uint8_t *)header, strlen(header));
	b = pk_base64url((const uint8_t *)payload, strlen(payload));
	if (h == NULL || b == NULL || (len = asprintf(&text, "%s.%s", h, b)) < 0) {
		text = NULL;
		pk_diag_set(diag, "no memory");
	} else if (sign(key, text, (size_t)len, signature) < 0 ||
	    (s = pk_base64url(signature, sizeof(signature))) == NULL ||
	    asprintf(&token, "%s.%s", text, s) < 0) {
		token = NULL;
		pk_diag_set(diag, "the statement could not be signed");
		ERR_clear_error();
	}
	free(h);
	free(b);
	free(s);
	free(text);
	return token;
}

char *
pk_jws_verify(const char *type, const char *token, size_t len, EVP_PKEY *key, struct pk_diag *diag)
{
	const char *dot = memchr(token, '.', len), *dot2;
	uint8_t *header = NULL, *payload = NULL, *signature = NULL;
	size_t header_len = 0, payload_len = 0, signature_len = 0;
	char want[256];

	dot2 = dot != NULL ? memchr(dot + 1, '.', len - (size_t)(dot + 1 - token)) : NULL;
	if (dot2 == NULL || header_of(want, sizeof(want), type, key) < 0)
		goto fail;
	header = from_base64url(token, (size_t)(dot - token), &header_len);
	signature = from_base64url(dot2 + 1, len - (size_t)(dot2 + 1 - token), &signature_len);
	if (header == NULL || signature == NULL || header_len != strlen(want) ||
	    memcmp(header, want, header_len) != 0 || signature_len != 2 * NUMBER ||
	    !verify(key, token, (size_t)(dot2 - token), signature))
		goto fail;
	payload = from_base64url(dot + 1, (size_t)(dot2 - dot - 1), &payload_len);
	if (payload == NULL || memchr(payload, '\0', payload_len) != NULL)
		goto fail;
	free(header);
	free(signature);
	return (char *)payload;
fail:
	pk_diag_set(diag, "it is no statement signed by the key that it should be signed by");
	free(header);
	free(signature);
	free(payload);
	return NULL;
}
