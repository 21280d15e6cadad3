/*
 * Keys, quotes and enrolment: evidence made here with keys made here, then changed in one place.  The
 * groups are those of attack, each with what has to be refused: nonce, quote, clock, AK, enrolment,
 * downgrade.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "attest/credential.h"
#include "attest/ek.h"
#include "attest/quote.h"
#include "tests/unit/test.h"

#define AK_ATTRIBUTES                                                                   \
	(ATTEST_OBJ_FIXED_TPM | ATTEST_OBJ_FIXED_PARENT | ATTEST_OBJ_SENSITIVE_ORIGIN | \
	    ATTEST_OBJ_USER_WITH_AUTH | ATTEST_OBJ_RESTRICTED | ATTEST_OBJ_SIGN)
#define EK_ATTRIBUTES                                                                   \
	(ATTEST_OBJ_FIXED_TPM | ATTEST_OBJ_FIXED_PARENT | ATTEST_OBJ_SENSITIVE_ORIGIN | \
	    ATTEST_OBJ_RESTRICTED | ATTEST_OBJ_DECRYPT)
#define PCRS 0x0004ff /* 0 to 7 and 10 */

struct buf {
	uint8_t bytes[2048];
	size_t len;
};

static void
put(struct buf *b, const void *bytes, size_t len)
{
	assert_true(b->len + len <= sizeof(b->bytes));
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void
put_n(struct buf *b, uint64_t v, unsigned int bytes)
{
	while (bytes-- > 0)
		put(b, &(uint8_t){ (uint8_t)(v >> 8 * bytes) }, 1);
}

static void
put_2b(struct buf *b, const void *bytes, size_t len)
{
	put_n(b, len, 2);
	put(b, bytes, len);
}

/* ---- keys of our own -------------------------------------------------------------------------- */

enum kind {
	P256,
	P384,
	RSA2048,
	PSS2048,
	SM2,
	KINDS
};

static EVP_PKEY *keys[KINDS], *other;

static int
make_keys(void **state)
{
	(void)state;
	keys[P256] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	keys[P384] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	keys[RSA2048] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	keys[PSS2048] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	keys[SM2] = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
	other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	return 0;
}

static int
free_keys(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS; i++)
		EVP_PKEY_free(keys[i]);
	EVP_PKEY_free(other);
	return 0;
}

static const struct {
	uint16_t curve, scheme, hash;
} kinds[KINDS] = {
	[P256] = { ATTEST_CURVE_P256, ATTEST_ALG_ECDSA, ATTEST_ALG_SHA256 },
	[P384] = { ATTEST_CURVE_P384, ATTEST_ALG_ECDSA, ATTEST_ALG_SHA384 },
	[RSA2048] = { 0, ATTEST_ALG_RSASSA, ATTEST_ALG_SHA256 },
	[PSS2048] = { 0, ATTEST_ALG_RSAPSS, ATTEST_ALG_SHA256 },
	[SM2] = { ATTEST_CURVE_SM2, ATTEST_ALG_SM2, ATTEST_ALG_SM3 },
};

/* TPM2B_PUBLIC.  `symmetric` is for storage keys: AES-128-CFB and no scheme. */
static void
make_public(struct buf *out, EVP_PKEY *key, enum kind kind, uint32_t attributes, int symmetric)
{
	struct buf b = { .len = 0 };
	uint8_t point[140];
	size_t len = 0;
	BIGNUM *n = NULL;

	put_n(&b, kinds[kind].curve != 0 ? ATTEST_ALG_ECC : ATTEST_ALG_RSA, 2);
	put_n(&b, ATTEST_ALG_SHA256, 2);
	put_n(&b, attributes, 4);
	put_n(&b, 0, 2);
	if (symmetric) {
		put_n(&b, ATTEST_ALG_AES, 2);
		put_n(&b, 128, 2);
		put_n(&b, ATTEST_ALG_CFB, 2);
		put_n(&b, ATTEST_ALG_NULL, 2);
	} else {
		put_n(&b, ATTEST_ALG_NULL, 2);
		put_n(&b, kinds[kind].scheme, 2);
		put_n(&b, kinds[kind].hash, 2);
	}
	if (kinds[kind].curve != 0) {
		put_n(&b, kinds[kind].curve, 2);
		put_n(&b, ATTEST_ALG_NULL, 2);
		assert_int_equal(
		    EVP_PKEY_get_octet_string_param(
		        key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point, sizeof(point), &len),
		    1);
		len = (len - 1) / 2;
		put_2b(&b, point + 1, len);
		put_2b(&b, point + 1 + len, len);
	} else {
		uint8_t modulus[256];

		put_n(&b, 2048, 2);
		put_n(&b, 0, 4);
		assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n), 1);
		BN_bn2binpad(n, modulus, 256);
		put_2b(&b, modulus, 256);
		BN_free(n);
	}
	out->len = 0;
	put_2b(out, b.bytes, b.len);
}

static void
sign(struct buf *out, EVP_PKEY *key, enum kind kind, const struct buf *message)
{
	struct attest_bytes part = { message->bytes, message->len };
	uint8_t digest[ATTEST_DIGEST_MAX], raw[512], number[66];
	size_t len = sizeof(raw), size = kind == P384 ? 48 : 32;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	const uint8_t *p = raw;
	ECDSA_SIG *s;

	out->len = 0;
	put_n(out, kinds[kind].scheme, 2);
	put_n(out, kinds[kind].hash, 2);
	assert_int_equal(attest_hash(NULL, kinds[kind].hash, &part, 1, digest), 0);
	assert_true(EVP_PKEY_sign_init(ctx) > 0);
	if (kinds[kind].curve == 0) {
		EVP_PKEY_CTX_set_rsa_padding(
		    ctx, kind == PSS2048 ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING);
		EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
	}
	assert_true(EVP_PKEY_sign(ctx, raw, &len, digest, attest_alg_size(kinds[kind].hash)) > 0);
	EVP_PKEY_CTX_free(ctx);
	if (kinds[kind].curve == 0) {
		put_2b(out, raw, len);
		return;
	}
	s = d2i_ECDSA_SIG(NULL, &p, (long)len);
	BN_bn2binpad(ECDSA_SIG_get0_r(s), number, (int)size);
	put_2b(out, number, size);
	BN_bn2binpad(ECDSA_SIG_get0_s(s), number, (int)size);
	put_2b(out, number, size);
	ECDSA_SIG_free(s);
}

/* ---- a quote and its parts -------------------------------------------------------------------- */

struct quoted {
	enum kind kind;
	EVP_PKEY *key; /* NULL: the one of its kind */
	uint32_t attributes;
	uint32_t magic;
	uint16_t type;
	uint8_t nonce[32];
	size_t nonce_len;
	struct attest_clock clock;
	uint32_t mask;
	uint16_t bank;
	unsigned int count, size_of_select;
	size_t trailing;
	struct buf area, message, sig;
	struct attest_pcrs pcrs;
	struct attest_challenge challenge;
	struct attest_quote quote;
	struct attest_reasons reasons;
};

static const uint8_t nonce[32] = "a nonce of thirty-two bytes here";

/* Good unless changed before make(). */
static struct quoted *
fresh(enum kind kind)
{
	struct quoted *q = calloc(1, sizeof(*q));

	q->kind = kind;
	q->attributes = AK_ATTRIBUTES;
	q->magic = ATTEST_TPM_GENERATED;
	q->type = ATTEST_TPM_ST_QUOTE;
	memcpy(q->nonce, nonce, sizeof(nonce));
	q->nonce_len = sizeof(nonce);
	q->clock = (struct attest_clock){ 100000, 5, 2, 1 };
	q->mask = PCRS;
	q->bank = ATTEST_ALG_SHA256;
	q->count = 1;
	q->size_of_select = 3;
	q->pcrs.nb_banks = 1;
	q->pcrs.bank[0].alg = ATTEST_ALG_SHA256;
	q->pcrs.bank[0].mask = 0xffffff;
	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++)
		memset(q->pcrs.bank[0].value[i], (int)i, 32);
	q->challenge.nonce = (struct attest_bytes){ nonce, sizeof(nonce) };
	q->challenge.require.nb_banks = 1;
	q->challenge.require.bank[0].alg = ATTEST_ALG_SHA256;
	q->challenge.require.bank[0].mask = PCRS;
	return q;
}

static void
make(struct quoted *q)
{
	struct attest_bytes part[ATTEST_NB_PCRS];
	uint8_t digest[ATTEST_DIGEST_MAX], signer[34] = { 0, 11 };
	size_t n = 0;

	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++)
		if ((q->mask >> i & 1) != 0)
			part[n++] = (struct attest_bytes){ q->pcrs.bank[0].value[i],
				attest_alg_size(q->bank) };
	assert_int_equal(attest_hash(NULL, kinds[q->kind].hash, part, n, digest), 0);
	q->message.len = 0;
	put_n(&q->message, q->magic, 4);
	put_n(&q->message, q->type, 2);
	put_2b(&q->message, signer, sizeof(signer));
	put_2b(&q->message, q->nonce, q->nonce_len);
	put_n(&q->message, q->clock.clock, 8);
	put_n(&q->message, q->clock.reset_count, 4);
	put_n(&q->message, q->clock.restart_count, 4);
	put_n(&q->message, (uint64_t)q->clock.safe, 1);
	put_n(&q->message, 0x20191023, 8);
	put_n(&q->message, q->count, 4);
	for (unsigned int i = 0; i < q->count && i < 20; i++) {
		put_n(&q->message, q->bank, 2);
		put_n(&q->message, q->size_of_select, 1);
		for (unsigned int k = 0; k < q->size_of_select; k++)
			put_n(&q->message, k < 4 ? q->mask >> 8 * k : 0, 1);
	}
	put_2b(&q->message, digest, attest_alg_size(kinds[q->kind].hash));
	put(&q->message, digest, q->trailing);
	make_public(&q->area, keys[q->kind], q->kind, q->attributes, 0);
	sign(&q->sig, q->key != NULL ? q->key : keys[q->kind], q->kind, &q->message);
}

static void
judge(struct quoted *q)
{
	struct attest_public ak;
	struct pk_diag why;

	memset(&q->reasons, 0, sizeof(q->reasons));
	assert_int_equal(attest_public_parse(&ak, q->area.bytes, q->area.len, &why), 0);
	attest_ak_check(&ak, &q->reasons);
	attest_quote_check((struct attest_bytes){ q->message.bytes, q->message.len },
	    (struct attest_bytes){ q->sig.bytes, q->sig.len }, &ak, &q->challenge, &q->pcrs,
	    &q->quote, &q->reasons);
}

static void
trusted(struct quoted *q)
{
	judge(q);
	if (q->reasons.nb > 0)
		print_message("# %s\n", q->reasons.reason[0].text);
	assert_int_equal(q->reasons.nb, 0);
	free(q);
}

static void
refused(struct quoted *q, enum attest_code code)
{
	judge(q);
	if (!attest_reasons_have(&q->reasons, code))
		print_message("# no %s\n", attest_code_name(code));
	assert_true(attest_reasons_have(&q->reasons, code));
	free(q);
}

static void
make_and_refuse(struct quoted *q, enum attest_code code)
{
	make(q);
	refused(q, code);
}

static void
test_every_algorithm(void **state)
{
	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		struct quoted *q = fresh(k);

		make(q);
		trusted(q);
		q = fresh(k);
		make(q);
		q->sig.bytes[q->sig.len - 1] ^= 1;
		refused(q, ATTEST_QUOTE_SIGNATURE);
		q = fresh(k);
		make(q);
		q->message.bytes[60] ^= 1;
		refused(q, ATTEST_QUOTE_SIGNATURE);
	}
}

/* Group 1. */
static void
test_nonce(void **state)
{
	struct quoted *q;

	(void)state;
	for (size_t len = 0; len < sizeof(nonce); len++) {
		q = fresh(P256);
		q->challenge.nonce.len = len; /* prefix, down to none */
		make_and_refuse(q, len == 0 ? ATTEST_NONCE_MISSING : ATTEST_NONCE_MISMATCH);
	}
	q = fresh(P256);
	q->nonce[31] ^= 1; /* another challenge */
	make_and_refuse(q, ATTEST_NONCE_MISMATCH);
	q = fresh(P256);
	q->nonce_len = 0; /* a quote without a nonce, and one expected */
	make_and_refuse(q, ATTEST_NONCE_MISMATCH);
	q = fresh(P256);
	q->nonce_len = q->challenge.nonce.len = 0; /* neither */
	make_and_refuse(q, ATTEST_NONCE_MISSING);
}

/* Group 2. */
static void
test_quote(void **state)
{
	static const unsigned int sizes[] = { 0, 1, 2, 5, 255 };
	struct quoted *q;

	(void)state;
	q = fresh(P256);
	q->magic ^= 1;
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	q = fresh(P256);
	q->type = ATTEST_TPM_ST_CERTIFY;
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	q = fresh(P256);
	q->trailing = 1;
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	q = fresh(P256);
	q->clock.safe = 2;
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	q = fresh(P256);
	q->count = 2; /* one bank twice */
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	q = fresh(P256);
	q->count = 0xffffffff;
	make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	for (size_t i = 0; i < PK_COUNT(sizes); i++) {
		q = fresh(P256);
		q->size_of_select = sizes[i];
		make_and_refuse(q, ATTEST_QUOTE_MALFORMED);
	}
	q = fresh(P256);
	q->size_of_select = 4; /* as some platforms do */
	make(q);
	trusted(q);
	q = fresh(P256);
	q->mask = PCRS & ~1U; /* subset */
	make_and_refuse(q, ATTEST_PCR_SELECTION);
	q = fresh(P256);
	q->mask = PCRS | 1U << 11; /* superset */
	make_and_refuse(q, ATTEST_PCR_SELECTION);
	q = fresh(P256);
	q->mask = PCRS | 1U << 11;
	q->challenge.superset_ok = 1;
	make(q);
	trusted(q);
	q = fresh(P256);
	q->mask = 1U << 16 | 1U << 23; /* resettable PCRs, their values sold as others' */
	make(q);
	memcpy(q->pcrs.bank[0].value[0], q->pcrs.bank[0].value[16], 32);
	refused(q, ATTEST_PCR_SELECTION);
	q = fresh(P256);
	q->challenge.require.nb_banks = 0; /* nothing required is nothing shown */
	make_and_refuse(q, ATTEST_PCR_SELECTION);
	q = fresh(P256);
	make(q);
	q->pcrs.bank[0].value[3][0] ^= 1;
	refused(q, ATTEST_PCR_DIGEST_MISMATCH);
	q = fresh(P256);
	make(q);
	q->pcrs.bank[0].mask &= ~(1U << 10);
	refused(q, ATTEST_PCR_DIGEST_MISMATCH);
}

/* Every shorter message and signature, and one byte more. */
static void
test_lengths(void **state)
{
	struct quoted *q = fresh(P256);
	size_t message, sig;

	(void)state;
	make(q);
	message = q->message.len;
	sig = q->sig.len;
	for (q->message.len = 0; q->message.len < message; q->message.len++) {
		judge(q);
		assert_true(attest_reasons_have(&q->reasons, ATTEST_QUOTE_MALFORMED));
	}
	for (q->sig.len = 0; q->sig.len < sig; q->sig.len++) {
		judge(q);
		assert_true(attest_reasons_have(&q->reasons, ATTEST_QUOTE_MALFORMED));
	}
	q->sig.bytes[sig] = 0;
	q->sig.len = sig + 1;
	refused(q, ATTEST_QUOTE_MALFORMED);
}

/* Group 3: two quotes of one AK, the second at `second`. */
static struct quoted *
after(struct attest_clock first, struct attest_clock second)
{
	static struct attest_clock last;
	struct quoted *q = fresh(P256);

	last = first;
	q->challenge.last = &last;
	q->clock = second;
	make(q);
	return q;
}

static void
test_clock(void **state)
{
	const struct attest_clock c = { 100000, 5, 2, 1 };
	struct quoted *q;

	(void)state;
	trusted(after(c, (struct attest_clock){ 100001, 5, 2, 1 }));
	trusted(after(c, (struct attest_clock){ 100001, 5, 3, 1 })); /* resumed from sleep */
	q = after(c, (struct attest_clock){ 100500, 6, 0, 1 });
	judge(q);
	assert_int_equal(q->reasons.nb, 0);
	assert_int_equal(q->quote.rebooted, 1); /* so that IMA starts anew */
	free(q);
	/* After an unorderly shutdown the clock may fall back, and says so. */
	trusted(after(c, (struct attest_clock){ 90000, 6, 0, 0 }));
	refused(after(c, (struct attest_clock){ 90000, 6, 0, 1 }), ATTEST_CLOCK_REGRESSED);
	refused(after(c, (struct attest_clock){ 99999, 5, 2, 1 }), ATTEST_CLOCK_REGRESSED);
	refused(after(c, (struct attest_clock){ 99999, 5, 2, 0 }), ATTEST_CLOCK_REGRESSED);
	refused(after(c, (struct attest_clock){ 100001, 4, 9, 1 }), ATTEST_CLOCK_REGRESSED);
	refused(after(c, (struct attest_clock){ 100001, 5, 1, 1 }), ATTEST_CLOCK_REGRESSED);
}

/* Group 4. */
static void
test_ak(void **state)
{
	static const uint32_t needed[] = { ATTEST_OBJ_FIXED_TPM, ATTEST_OBJ_FIXED_PARENT,
		ATTEST_OBJ_SENSITIVE_ORIGIN, ATTEST_OBJ_RESTRICTED, ATTEST_OBJ_SIGN };
	struct attest_public ak;
	uint8_t name[2][ATTEST_NAME_MAX];
	struct pk_diag why;
	struct quoted *q;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(needed); i++) {
		q = fresh(P256);
		q->attributes &= ~needed[i];
		make_and_refuse(q, ATTEST_AK_ATTRIBUTES);
	}
	q = fresh(RSA2048);
	q->attributes |= ATTEST_OBJ_DECRYPT;
	make_and_refuse(q, ATTEST_AK_ATTRIBUTES);
	q = fresh(P256);
	q->key = other; /* signed by a key outside the TPM */
	make_and_refuse(q, ATTEST_QUOTE_SIGNATURE);
	/* The name follows every bit of the public area, so attributes cannot be dressed up later. */
	q = fresh(P256);
	make(q);
	assert_int_equal(attest_public_parse(&ak, q->area.bytes, q->area.len, &why), 0);
	assert_int_equal(attest_public_name(&ak, name[0]), 34);
	q->area.bytes[7] ^= 4;
	assert_int_equal(attest_public_parse(&ak, q->area.bytes, q->area.len, &why), 0);
	assert_int_equal(attest_public_name(&ak, name[1]), 34);
	assert_memory_not_equal(name[0], name[1], 34);
	for (size_t len = 0; len < q->area.len; len++)
		assert_true(attest_public_parse(&ak, q->area.bytes, len, &why) < 0);
	/* A point that is not on the curve. */
	q->area.bytes[q->area.len - 1] ^= 1;
	assert_int_equal(attest_public_parse(&ak, q->area.bytes, q->area.len, &why), 0);
	assert_null(attest_public_key(&ak, &why));
	free(q);
}

/* Group 13, as far as it is ours: weaker hash, other scheme, other bank. */
static void
test_downgrade(void **state)
{
	struct quoted *q = fresh(P256);

	(void)state;
	make(q);
	q->sig.bytes[3] = ATTEST_ALG_SHA1;
	refused(q, ATTEST_QUOTE_SIGNATURE);
	q = fresh(P256);
	make(q);
	q->sig.bytes[3] = ATTEST_ALG_SHA384; /* stronger, and not the key's */
	refused(q, ATTEST_QUOTE_SIGNATURE);
	q = fresh(RSA2048);
	make(q);
	q->sig.bytes[1] = ATTEST_ALG_RSAPSS;
	refused(q, ATTEST_QUOTE_SIGNATURE);
	q = fresh(P256);
	make(q);
	q->sig.bytes[1] = ATTEST_ALG_SM2;
	refused(q, ATTEST_QUOTE_SIGNATURE);
	q = fresh(P256);
	q->bank = ATTEST_ALG_SHA1; /* the values of the right bank do not help */
	make_and_refuse(q, ATTEST_PCR_SELECTION);
	q = fresh(P256);
	make(q);
	q->area.bytes[2 + 8 + 2 + 2 + 2 + 1] = ATTEST_ALG_SHA1; /* the AK itself signs with SHA-1 */
	refused(q, ATTEST_AK_SCHEME);
}

/* ---- group 5: activation, by a TPM of our own in software ------------------------------------- */

static int
open_credential(const struct attest_credential *c, EVP_PKEY *key, const struct attest_public *ek,
    const uint8_t *name, size_t name_len, uint8_t *out, size_t *out_len)
{
	uint8_t seed[64], k[64], mac[32], plain[64], in[256];
	const uint8_t *enc = c->id_object + 36;
	size_t len = sizeof(seed), enc_len = c->id_object_len - 36;
	unsigned int mac_len = 0;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	EVP_CIPHER_CTX *aes;
	int n = 0;

	if (ek->type == ATTEST_ALG_RSA) {
		uint8_t raw[256];

		len = sizeof(raw);
		EVP_PKEY_decrypt_init(ctx);
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING);
		EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256());
		EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, OPENSSL_strdup("IDENTITY"), 9);
		assert_true(
		    EVP_PKEY_decrypt(ctx, raw, &len, c->encrypted + 2, c->encrypted_len - 2) > 0);
		memcpy(seed, raw, len);
	} else {
		uint8_t point[65] = { 4 }, z[32];
		EVP_PKEY *peer = EVP_PKEY_new();
		size_t z_len = sizeof(z);

		memcpy(point + 1, c->encrypted + 4, 32);
		memcpy(point + 33, c->encrypted + 38, 32);
		EVP_PKEY_copy_parameters(peer, key);
		assert_int_equal(EVP_PKEY_set1_encoded_public_key(peer, point, 65), 1);
		EVP_PKEY_derive_init(ctx);
		EVP_PKEY_derive_set_peer(ctx, peer);
		assert_true(EVP_PKEY_derive(ctx, z, &z_len) > 0);
		attest_kdfe(ATTEST_ALG_SHA256, (struct attest_bytes){ z, 32 }, "IDENTITY",
		    (struct attest_bytes){ point + 1, 32 }, ek->x, seed);
		EVP_PKEY_free(peer);
		len = 32;
	}
	EVP_PKEY_CTX_free(ctx);
	assert_int_equal(len, 32);
	attest_kdfa(
	    ATTEST_ALG_SHA256, seed, 32, "INTEGRITY", (struct attest_bytes){ NULL, 0 }, 256, k);
	memcpy(in, enc, enc_len);
	memcpy(in + enc_len, name, name_len);
	HMAC(EVP_sha256(), k, 32, in, enc_len + name_len, mac, &mac_len);
	if (memcmp(mac, c->id_object + 4, 32) != 0)
		return -1; /* TPM_RC_INTEGRITY */
	attest_kdfa(ATTEST_ALG_SHA256, seed, 32, "STORAGE", (struct attest_bytes){ name, name_len },
	    128, k);
	aes = EVP_CIPHER_CTX_new();
	EVP_DecryptInit_ex(aes, EVP_aes_128_cfb128(), NULL, k, (const uint8_t[16]){ 0 });
	EVP_DecryptUpdate(aes, plain, &n, enc, (int)enc_len);
	EVP_CIPHER_CTX_free(aes);
	*out_len = (size_t)(plain[0] << 8 | plain[1]);
	memcpy(out, plain + 2, *out_len);
	return 0;
}

static void
test_activation(void **state)
{
	static const enum kind eks[] = { RSA2048, P256 };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(eks); i++) {
		struct attest_credential c;
		struct pk_secret seed, secret;
		struct attest_public ek;
		struct pk_diag why;
		struct buf area;
		uint8_t name[34] = { 0, 11, 1, 2, 3 }, got[64];
		size_t len = 0;

		make_public(&area, keys[eks[i]], eks[i], EK_ATTRIBUTES, 1);
		assert_int_equal(attest_public_parse(&ek, area.bytes, area.len, &why), 0);
		assert_int_equal(pk_secret_random(&seed, 32), 0);
		assert_int_equal(pk_secret_random(&secret, 32), 0);
		assert_int_equal(
		    attest_credential_make(&c, &ek, name, sizeof(name), &seed, &secret, &why), 0);
		assert_int_equal(
		    open_credential(&c, keys[eks[i]], &ek, name, sizeof(name), got, &len), 0);
		assert_int_equal(len, 32);
		assert_memory_equal(got, secret.bytes, 32);
		name[33] ^= 1; /* a TPM that holds another key does not open it */
		assert_int_equal(
		    open_credential(&c, keys[eks[i]], &ek, name, sizeof(name), got, &len), -1);
		/* No EK: a key that also signs, or one whose seed would be of the wrong length. */
		ek.attributes |= ATTEST_OBJ_SIGN;
		assert_true(
		    attest_credential_make(&c, &ek, name, sizeof(name), &seed, &secret, &why) < 0);
		ek.attributes &= ~ATTEST_OBJ_SIGN;
		seed.len = 16;
		assert_true(
		    attest_credential_make(&c, &ek, name, sizeof(name), &seed, &secret, &why) < 0);
		seed.len = 32;
		pk_secret_fini(&seed);
		pk_secret_fini(&secret);
	}
}

/* ---- groups 4 and 5: certificates ------------------------------------------------------------- */

static void
extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

static X509 *
certify(EVP_PKEY *key, X509 *issuer, EVP_PKEY *by, int ca, const char *eku, const char *until)
{
	X509 *cert = X509_new();
	static int serial;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
	    (const uint8_t *)(ca ? "TPM maker" : "unknown"), -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer : cert));
	ASN1_TIME_set_string(X509_getm_notBefore(cert), "20200101000000Z");
	ASN1_TIME_set_string(X509_getm_notAfter(cert), until);
	X509_set_pubkey(cert, key);
	extend(cert, issuer, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	extend(
	    cert, issuer, NID_key_usage, ca ? "critical,keyCertSign" : "critical,keyEncipherment");
	if (!ca)
		extend(cert, issuer, NID_subject_alt_name, "critical,DNS:tpm");
	if (eku != NULL)
		extend(cert, issuer, NID_ext_key_usage, eku);
	assert_true(X509_sign(cert, by, EVP_sha256()) > 0);
	return cert;
}

static void
judge_cert(X509 *cert, X509 *root, const uint8_t (*allow)[32], size_t nb_allow, enum kind kind,
    int want, enum attest_code code)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_roots *roots;
	struct attest_public ek;
	struct pk_diag why;
	struct buf area;
	BIO *bio = BIO_new(BIO_s_mem());
	uint8_t *der = NULL;
	char *pem;
	int len = i2d_X509(cert, &der);
	long pem_len;

	make_public(&area, keys[kind], kind, EK_ATTRIBUTES, 1);
	assert_int_equal(attest_public_parse(&ek, area.bytes, area.len, &why), 0);
	PEM_write_bio_X509(bio, root);
	pem_len = BIO_get_mem_data(bio, &pem);
	assert_int_equal(
	    attest_roots_parse(&roots, (const uint8_t *)pem, (size_t)pem_len, &why), 0);
	attest_ek_check((struct attest_bytes){ der, (size_t)len }, (struct attest_bytes){ 0 }, &ek,
	    roots, allow, nb_allow, 1790000000, r);
	if (want) {
		assert_true(attest_reasons_have(r, code));
	} else {
		if (r->nb > 0)
			print_message("# %s\n", r->reason[0].text);
		assert_int_equal(r->nb, 0);
	}
	attest_roots_destroy(roots);
	BIO_free(bio);
	OPENSSL_free(der);
	free(r);
}

static void
test_ek_certificate(void **state)
{
	const char *eku = "2.23.133.8.1", *ever = "99991231235959Z";
	X509 *root = certify(keys[P384], NULL, keys[P384], 1, NULL, ever);
	X509 *foreign = certify(other, NULL, other, 1, NULL, ever);
	const uint8_t none[1][32] = { { 0 } };
	X509 *c;

	(void)state;
	c = certify(keys[RSA2048], root, keys[P384], 0, eku, ever);
	judge_cert(c, root, NULL, 0, RSA2048, 0, 0);
	judge_cert(c, foreign, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_UNTRUSTED);
	judge_cert(c, root, none, 1, RSA2048, 1, ATTEST_EK_NOT_ALLOWED);
	judge_cert(c, root, NULL, 0, PSS2048, 1, ATTEST_EK_KEY_MISMATCH); /* another TPM's */
	X509_free(c);
	c = certify(keys[RSA2048], root, keys[P384], 0, NULL, ever);
	judge_cert(c, root, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_MALFORMED);
	X509_free(c);
	c = certify(keys[RSA2048], root, keys[P384], 0, "serverAuth", ever);
	judge_cert(c, root, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_MALFORMED);
	X509_free(c);
	c = certify(keys[RSA2048], root, keys[P384], 1, eku, ever);
	judge_cert(c, root, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_MALFORMED);
	X509_free(c);
	c = certify(keys[RSA2048], root, keys[P384], 0, eku, "20210101000000Z");
	judge_cert(c, root, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_UNTRUSTED);
	X509_free(c);
	c = certify(keys[RSA2048], root, other, 0, eku, ever); /* signed by somebody else */
	judge_cert(c, root, NULL, 0, RSA2048, 1, ATTEST_EK_CERT_UNTRUSTED);
	X509_free(c);
	X509_free(root);
	X509_free(foreign);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_algorithm),
		cmocka_unit_test(test_nonce),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_ak),
		cmocka_unit_test(test_downgrade),
		cmocka_unit_test(test_activation),
		cmocka_unit_test(test_ek_certificate),
	};

	return cmocka_run_group_tests_name("attest_quote", tests, make_keys, free_keys);
}
