#include "attest/tpm.h"

#include <errno.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "lib/wire.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096

static int
refuse(struct pk_diag *d, const char *what, const struct pk_wire *w, const uint8_t *start,
    const char *why)
{
	pk_diag_set(d, "%s: byte %zu: %s", what, (size_t)(w->at - start), why);
	return -EINVAL;
}

static struct attest_bytes
take_2b(struct pk_wire *w, size_t max)
{
	struct attest_bytes b;

	b.len = pk_wire_be16(w);
	if (b.len > max)
		w->failed = 1;
	b.at = pk_wire_bytes(w, b.len);
	if (b.at == NULL)
		b.len = 0;
	return b;
}

/* ---- TPMT_PUBLIC ------------------------------------------------------------------------------ */

static const struct {
	uint16_t curve;
	uint16_t bytes;
	const char *group;
} curves[] = {
	{ ATTEST_CURVE_P256, 32, "prime256v1" },
	{ ATTEST_CURVE_P384, 48, "secp384r1" },
	{ ATTEST_CURVE_P521, 66, "secp521r1" },
	{ ATTEST_CURVE_SM2, 32, "SM2" },
};

static size_t
curve_bytes(uint16_t curve)
{
	for (size_t i = 0; i < PK_COUNT(curves); i++)
		if (curves[i].curve == curve)
			return curves[i].bytes;
	return 0;
}

static void
take_symmetric(struct pk_wire *w, struct attest_public *p)
{
	p->symmetric = pk_wire_be16(w);
	if (p->symmetric != ATTEST_ALG_NULL) {
		p->symmetric_bits = pk_wire_be16(w);
		p->symmetric_mode = pk_wire_be16(w);
	}
}

static void
take_scheme(struct pk_wire *w, struct attest_public *p)
{
	p->scheme = pk_wire_be16(w);
	switch (p->scheme) {
	case ATTEST_ALG_NULL:
	case 0x0015: /* RSAES has no hash */
		break;
	case 0x001a: /* ECDAA: a hash and a count */
		p->scheme_hash = pk_wire_be16(w);
		(void)pk_wire_be16(w);
		break;
	default:
		p->scheme_hash = pk_wire_be16(w);
	}
}

static int
parse_area(struct attest_public *p, struct pk_wire *w, const uint8_t *start, struct pk_diag *d)
{
	uint16_t kdf;

	p->type = pk_wire_be16(w);
	p->name_alg = pk_wire_be16(w);
	p->attributes = pk_wire_be32(w);
	p->auth_policy = take_2b(w, ATTEST_DIGEST_MAX);
	switch (p->type) {
	case ATTEST_ALG_RSA:
		take_symmetric(w, p);
		take_scheme(w, p);
		p->key_bits = pk_wire_be16(w);
		p->exponent = pk_wire_be32(w);
		p->n = take_2b(w, RSA_BITS_MAX / 8);
		if (p->exponent == 0)
			p->exponent = 65537;
		if (pk_wire_ok(w) && (p->n.len == 0 || p->n.len * 8 != p->key_bits))
			return refuse(
			    d, "public area", w, start, "the modulus is not as long as said");
		break;
	case ATTEST_ALG_ECC:
		take_symmetric(w, p);
		take_scheme(w, p);
		p->curve = pk_wire_be16(w);
		kdf = pk_wire_be16(w);
		if (kdf != ATTEST_ALG_NULL)
			(void)pk_wire_be16(w);
		p->x = take_2b(w, 66);
		p->y = take_2b(w, 66);
		if (pk_wire_ok(w) &&
		    (curve_bytes(p->curve) == 0 || p->x.len == 0 || p->y.len == 0 ||
		        p->x.len > curve_bytes(p->curve) || p->y.len > curve_bytes(p->curve)))
			return refuse(d, "public area", w, start, "no point of a curve we know");
		break;
	default:
		return refuse(d, "public area", w, start, "neither an RSA nor an ECC key");
	}
	if (!pk_wire_ok(w))
		return refuse(d, "public area", w, start, "it ends early");
	if (pk_wire_left(w) != 0)
		return refuse(d, "public area", w, start, "bytes after its end");
	return 0;
}

int
attest_public_parse(struct attest_public *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	uint16_t size = pk_wire_be16(&w);

	*out = (struct attest_public){ 0 };
	if (!pk_wire_ok(&w) || size != pk_wire_left(&w))
		w = pk_wire_from(bytes, len); /* not wrapped in a TPM2B */
	out->area = (struct attest_bytes){ w.at, pk_wire_left(&w) };
	return parse_area(out, &w, bytes, d);
}

size_t
attest_public_name(const struct attest_public *p, uint8_t *out)
{
	out[0] = (uint8_t)(p->name_alg >> 8);
	out[1] = (uint8_t)p->name_alg;
	if (attest_hash(NULL, p->name_alg, &p->area, 1, out + 2) < 0)
		return 0;
	return 2 + attest_alg_size(p->name_alg);
}

static EVP_PKEY *
key_from(const char *type, OSSL_PARAM_BLD *build)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *key = NULL;

	if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 ||
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return key;
}

static EVP_PKEY *
rsa_key(const struct attest_public *p)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	BIGNUM *n = BN_bin2bn(p->n.at, (int)p->n.len, NULL), *e = BN_new();
	EVP_PKEY *key = NULL;

	if (build != NULL && n != NULL && e != NULL && BN_set_word(e, p->exponent) == 1 &&
	    BN_num_bits(n) == p->key_bits && BN_is_odd(n) &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		key = key_from("RSA", build);
	OSSL_PARAM_BLD_free(build);
	BN_free(n);
	BN_free(e);
	return key;
}

static EVP_PKEY *
ecc_key(const struct attest_public *p)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	size_t size = curve_bytes(p->curve);
	uint8_t point[1 + 2 * 66] = { POINT_CONVERSION_UNCOMPRESSED };
	const char *group = NULL;
	EVP_PKEY *key = NULL;

	for (size_t i = 0; i < PK_COUNT(curves); i++)
		if (curves[i].curve == p->curve)
			group = curves[i].group;
	/* Some TPMs drop leading zeroes of a coordinate. */
	memcpy(point + 1 + size - p->x.len, p->x.at, p->x.len);
	memcpy(point + 1 + 2 * size - p->y.len, p->y.at, p->y.len);
	if (build != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size) ==
	        1)
		key = key_from(p->curve == ATTEST_CURVE_SM2 ? "SM2" : "EC", build);
	OSSL_PARAM_BLD_free(build);
	return key;
}

EVP_PKEY *
attest_public_key(const struct attest_public *p, struct pk_diag *d)
{
	EVP_PKEY *key = NULL;

	if (p->type == ATTEST_ALG_RSA &&
	    (p->key_bits < RSA_BITS_MIN || p->exponent < 3 || p->exponent % 2 == 0)) {
		pk_diag_set(d, "RSA key of %u bits, exponent %u: at least %u and 3 are wanted",
		    p->key_bits, p->exponent, RSA_BITS_MIN);
		return NULL;
	}
	key = p->type == ATTEST_ALG_RSA ? rsa_key(p) : ecc_key(p);
	if (key == NULL)
		pk_diag_set(d, "OpenSSL refuses the key: not on its curve, or not supported");
	ERR_clear_error();
	return key;
}

/* ---- TPMS_ATTEST ------------------------------------------------------------------------------ */

static int
take_selection(
    struct pk_wire *w, struct attest_selection *s, const uint8_t *start, struct pk_diag *d)
{
	uint32_t count = pk_wire_be32(w);

	if (!pk_wire_ok(w) || count > ATTEST_BANKS_MAX)
		return refuse(d, "quote", w, start, "impossible number of PCR banks");
	for (uint32_t i = 0; i < count; i++) {
		uint16_t alg = pk_wire_be16(w);
		uint8_t size = pk_wire_u8(w);
		const uint8_t *bits;

		/* Part 2, 10.6.1: at least as many bytes as the platform has PCRs, here 24. */
		if (!pk_wire_ok(w) || size < 3 || size > 4)
			return refuse(d, "quote", w, start, "PCR selection of an impossible size");
		bits = pk_wire_bytes(w, size);
		if (bits == NULL)
			return refuse(d, "quote", w, start, "ends within the PCR selection");
		if (size == 4 && bits[3] != 0)
			return refuse(d, "quote", w, start, "selects PCRs beyond 23");
		if (attest_alg_size(alg) == 0)
			return refuse(d, "quote", w, start, "PCR bank of an unknown hash");
		for (uint32_t j = 0; j < i; j++)
			if (s->bank[j].alg == alg)
				return refuse(d, "quote", w, start, "selects from one bank twice");
		s->bank[i].alg = alg;
		s->bank[i].mask = bits[0] | (uint32_t)bits[1] << 8 | (uint32_t)bits[2] << 16;
		s->nb_banks = i + 1;
	}
	return 0;
}

int
attest_attest_parse(struct attest_attest *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	uint32_t magic = pk_wire_be32(&w);
	uint8_t safe;
	int rc;

	*out = (struct attest_attest){ 0 };
	if (!pk_wire_ok(&w) || magic != ATTEST_TPM_GENERATED)
		return refuse(d, "quote", &w, bytes, "no TPM made this: wrong magic number");
	out->type = pk_wire_be16(&w);
	out->signer = take_2b(&w, ATTEST_NAME_MAX);
	out->extra = take_2b(&w, ATTEST_NAME_MAX);
	out->clock.clock = pk_wire_be64(&w);
	out->clock.reset_count = pk_wire_be32(&w);
	out->clock.restart_count = pk_wire_be32(&w);
	safe = pk_wire_u8(&w);
	out->firmware = pk_wire_be64(&w);
	if (!pk_wire_ok(&w) || safe > 1)
		return refuse(d, "quote", &w, bytes, "broken before its clock ends");
	out->clock.safe = safe;
	switch (out->type) {
	case ATTEST_TPM_ST_QUOTE:
		if ((rc = take_selection(&w, &out->selection, bytes, d)) < 0)
			return rc;
		out->pcr_digest = take_2b(&w, ATTEST_DIGEST_MAX);
		break;
	case ATTEST_TPM_ST_CERTIFY:
		out->name = take_2b(&w, ATTEST_NAME_MAX);
		out->qualified_name = take_2b(&w, ATTEST_NAME_MAX);
		break;
	default:
		return refuse(d, "quote", &w, bytes, "another type of attestation");
	}
	if (!pk_wire_ok(&w))
		return refuse(d, "quote", &w, bytes, "it ends early");
	if (pk_wire_left(&w) != 0)
		return refuse(d, "quote", &w, bytes, "bytes after its end");
	return 0;
}

/* ---- TPMT_SIGNATURE --------------------------------------------------------------------------- */

int
attest_signature_parse(
    struct attest_signature *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);

	*out = (struct attest_signature){ 0 };
	out->alg = pk_wire_be16(&w);
	out->hash = pk_wire_be16(&w);
	switch (out->alg) {
	case ATTEST_ALG_RSASSA:
	case ATTEST_ALG_RSAPSS:
		out->r = take_2b(&w, RSA_BITS_MAX / 8);
		break;
	case ATTEST_ALG_ECDSA:
	case ATTEST_ALG_SM2:
		out->r = take_2b(&w, 66);
		out->s = take_2b(&w, 66);
		if (out->s.len == 0)
			w.failed = 1;
		break;
	default:
		return refuse(d, "signature", &w, bytes, "unknown signature algorithm");
	}
	if (!pk_wire_ok(&w) || out->r.len == 0)
		return refuse(d, "signature", &w, bytes, "a number is empty, too long or cut off");
	if (pk_wire_left(&w) != 0)
		return refuse(d, "signature", &w, bytes, "bytes after its end");
	return 0;
}

static int
scheme_ok(const struct attest_signature *sig, const struct attest_public *p, struct pk_diag *d)
{
	int rsa = sig->alg == ATTEST_ALG_RSASSA || sig->alg == ATTEST_ALG_RSAPSS;

	if (rsa != (p->type == ATTEST_ALG_RSA) ||
	    (sig->alg == ATTEST_ALG_SM2) != (p->curve == ATTEST_CURVE_SM2)) {
		pk_diag_set(d, "signature: its algorithm is none for this kind of key");
		return 0;
	}
	if (sig->hash == ATTEST_ALG_SHA1 || attest_alg_size(sig->hash) == 0) {
		pk_diag_set(d, "signature: hash %s is not acceptable", attest_alg_name(sig->hash));
		return 0;
	}
	if (p->scheme != ATTEST_ALG_NULL &&
	    (p->scheme != sig->alg || p->scheme_hash != sig->hash)) {
		pk_diag_set(d, "signature: not by the key's own scheme, which has hash %s",
		    attest_alg_name(p->scheme_hash));
		return 0;
	}
	if (rsa ? sig->r.len != p->n.len
	        : sig->r.len > curve_bytes(p->curve) || sig->s.len > curve_bytes(p->curve)) {
		pk_diag_set(d, "signature: not as long as one by this key");
		return 0;
	}
	return 1;
}

static int
der_signature(const struct attest_signature *sig, uint8_t **der)
{
	ECDSA_SIG *s = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(sig->r.at, (int)sig->r.len, NULL);
	BIGNUM *v = BN_bin2bn(sig->s.at, (int)sig->s.len, NULL);
	int len = -1;

	if (s == NULL || r == NULL || v == NULL || ECDSA_SIG_set0(s, r, v) != 1) {
		BN_free(r);
		BN_free(v);
	} else {
		len = i2d_ECDSA_SIG(s, der);
	}
	ECDSA_SIG_free(s);
	return len;
}

int
attest_signature_verify(const struct attest_signature *sig, const struct attest_public *p,
    const uint8_t *message, size_t len, struct pk_diag *d)
{
	struct attest_bytes part = { message, len };
	uint8_t digest[ATTEST_DIGEST_MAX], *der = NULL;
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *ctx = NULL;
	int rc = -EINVAL, der_len, ok;

	if (!scheme_ok(sig, p, d))
		return -EINVAL;
	if (attest_hash(NULL, sig->hash, &part, 1, digest) < 0) {
		pk_diag_set(d, "signature: this OpenSSL has no %s", attest_alg_name(sig->hash));
		return -ENOTSUP;
	}
	if ((key = attest_public_key(p, d)) == NULL)
		return -EINVAL;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	if (ctx == NULL || EVP_PKEY_verify_init(ctx) <= 0) {
		pk_diag_set(d, "signature: this OpenSSL cannot verify with such a key");
		rc = -ENOTSUP;
		goto out;
	}
	if (p->type == ATTEST_ALG_RSA) {
		ok = EVP_PKEY_CTX_set_rsa_padding(ctx,
		         sig->alg == ATTEST_ALG_RSAPSS ? RSA_PKCS1_PSS_PADDING
		                                       : RSA_PKCS1_PADDING) > 0 &&
		    EVP_PKEY_CTX_set_signature_md(ctx, attest_alg_md(sig->hash)) > 0 &&
		    EVP_PKEY_verify(
		        ctx, sig->r.at, sig->r.len, digest, attest_alg_size(sig->hash)) == 1;
	} else {
		/* SM2 too: a TPM signs the digest of the structure itself, without the Z of GM/T 0009. */
		der_len = der_signature(sig, &der);
		ok = der_len > 0 &&
		    EVP_PKEY_verify(
		        ctx, der, (size_t)der_len, digest, attest_alg_size(sig->hash)) == 1;
	}
	rc = ok ? 0 : -EBADMSG;
	if (!ok)
		pk_diag_set(d, "signature: it does not verify");
out:
	OPENSSL_free(der);
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}
