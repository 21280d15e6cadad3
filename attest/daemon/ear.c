#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "attest/daemon/record.h"
#include "attest/reference.h"
#include "config.h"

/* AR4SI tiers (draft-ietf-rats-ar4si, section 2.3.2). */
enum {
	TIER_NONE = 0,
	TIER_AFFIRMING = 2,
	TIER_WARNING = 32,
	TIER_CONTRAINDICATED = 96,
};

static const char *
tier_name(int tier)
{
	return tier == TIER_AFFIRMING ? "affirming"
	    : tier == TIER_WARNING    ? "warning"
	    : tier == TIER_NONE       ? "none"
	                              : "contraindicated";
}

/* Base64url without padding (RFC 7515, section 2), malloc()ed. */
static char *
base64url(const uint8_t *bytes, size_t len)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
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

/* How a claim stands: bad if one of the codes in [first, last] is among the reasons. */
static int
claim(const struct attest_ear *e, enum attest_code first, enum attest_code last, unsigned int layer)
{
	if (!e->judged || (e->unchecked & layer) != 0)
		return TIER_NONE;
	for (unsigned int i = 0; e->reasons != NULL && i < e->reasons->nb; i++)
		if (e->reasons->reason[i].code >= first && e->reasons->reason[i].code <= last)
			return TIER_CONTRAINDICATED;
	return TIER_AFFIRMING;
}

static int
status_of(enum attest_state s)
{
	switch (s) {
	case ATTEST_STATE_TRUSTED:
		return TIER_AFFIRMING;
	case ATTEST_STATE_SUSPECT:
	case ATTEST_STATE_RECOVERING:
		return TIER_WARNING;
	case ATTEST_STATE_QUARANTINED:
		return TIER_CONTRAINDICATED;
	default:
		return TIER_NONE;
	}
}

static json_t *
claims(const struct attest_ear *e)
{
	json_t *vector = json_pack("{s:i, s:i, s:i, s:i}", "instance-identity",
	    claim(e, ATTEST_EK_CERT_UNTRUSTED, ATTEST_QUOTE_SIGNATURE, 0), "hardware",
	    claim(e, ATTEST_EK_CERT_UNTRUSTED, ATTEST_EK_ATTRIBUTES, ATTEST_LAYER_ENROLMENT),
	    "configuration",
	    claim(e, ATTEST_PCR_POLICY, ATTEST_CMDLINE_UNKNOWN, ATTEST_LAYER_EVENTLOG),
	    "executables", claim(e, ATTEST_IMA_MALFORMED, ATTEST_BOOT_AGGREGATE, ATTEST_LAYER_IMA));
	json_t *host = json_pack("{s:s, s:o, s:s, s:I}", "ear.status",
	    tier_name(status_of(e->state)), "ear.trustworthiness-vector", vector, "picket.state",
	    attest_state_name(e->state), "picket.epoch", (json_int_t)e->epoch);
	json_t *codes = json_array(), *all;
	char hex[65];

	for (unsigned int i = 0; e->reasons != NULL && i < e->reasons->nb; i++)
		json_array_append_new(
		    codes, json_string(attest_code_name(e->reasons->reason[i].code)));
	json_object_set_new(host, "picket.reasons", codes);
	if (e->reference != NULL) {
		char id[80];

		attest_hex(e->reference, 32, hex);
		snprintf(id, sizeof(id), "sha-256:%s", hex);
		json_object_set_new(host, "ear.appraisal-policy-id", json_string(id));
	}
	all = json_pack("{s:s, s:I, s:I, s:s, s:s, s:{s:s, s:s}, s:{s:o}}", "eat_profile",
	    "tag:github.com,2023:veraison/ear", "iat", (json_int_t)e->iat, "exp",
	    (json_int_t)e->exp, "iss", e->dpu, "sub", e->host, "ear.verifier-id", "developer",
	    "picket", "build", PK_VERSION, "submods", e->host[0] != '\0' ? e->host : "host", host);
	if (all != NULL && e->nonce != NULL) {
		char *nonce = base64url(e->nonce, ATTEST_NONCE_LEN);

		if (nonce != NULL)
			json_object_set_new(all, "eat_nonce", json_string(nonce));
		free(nonce);
	}
	return all;
}

/* ES256: the two numbers, 32 bytes each (RFC 7518, section 3.4). */
static int
sign(EVP_PKEY *key, const char *text, uint8_t out[64])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t der[128];
	const uint8_t *p = der;
	size_t len = sizeof(der);
	ECDSA_SIG *sig = NULL;
	int ok = ctx != NULL && EVP_PKEY_get_bits(key) == 256 &&
	    EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	    EVP_DigestSign(ctx, der, &len, (const uint8_t *)text, strlen(text)) == 1 &&
	    (sig = d2i_ECDSA_SIG(NULL, &p, (long)len)) != NULL &&
	    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32) == 32 &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32) == 32;

	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -EINVAL;
}

char *
attest_ear_make(const struct attest_ear *e, EVP_PKEY *key, struct pk_diag *d)
{
	char header[160], hex[65], *token = NULL, *h = NULL, *b = NULL, *s = NULL;
	uint8_t kid[32], signature[64];
	json_t *body = claims(e);
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

	json_decref(body);
	if (text == NULL || attest_spki_hash(key, kid) < 0)
		goto out;
	attest_hex(kid, sizeof(kid), hex);
	snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"%s\"}", hex);
	h = base64url((const uint8_t *)header, strlen(header));
	b = base64url((const uint8_t *)text, strlen(text));
	if (h == NULL || b == NULL || asprintf(&token, "%s.%s", h, b) < 0) {
		token = NULL;
		goto out;
	}
	if (sign(key, token, signature) == 0 && (s = base64url(signature, 64)) != NULL) {
		char *whole;

		if (asprintf(&whole, "%s.%s", token, s) < 0)
			whole = NULL;
		free(token);
		token = whole;
	} else {
		free(token);
		token = NULL;
	}
out:
	if (token == NULL)
		pk_diag_set(d, "the result could not be signed: the DPU's key has to be on P-256");
	free(text);
	free(h);
	free(b);
	free(s);
	return token;
}
