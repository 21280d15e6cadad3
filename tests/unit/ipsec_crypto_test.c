/* The engine of ESP and MACsec against OpenSSL, which does the same things in other ways. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "ipsec/crypto.h"
#include "tests/unit/test.h"

#define ROUNDS  8
#define LEN_MAX 2000

static uint64_t seed = 88172645463325252ULL;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void
fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd();
}

/* One packet: `all` is what is authenticated of a MAC, with the data in it. */
struct packet {
	enum ipsec_alg alg;
	uint8_t encr[32], integ[64], iv[16];
	uint8_t key[IPSEC_KEY_STRIDE] __attribute__((aligned(64)));
	uint8_t aad[64], bytes[LEN_MAX + 64], was[LEN_MAX + 64], icv[32];
	uint32_t aad_len, len, ahead, behind;
};

static const EVP_CIPHER *
cipher_of(enum ipsec_alg alg)
{
	switch (alg) {
	case IPSEC_AES_GCM_128:
	case IPSEC_AES_GMAC_128:
		return EVP_aes_128_gcm();
	case IPSEC_AES_GCM_192:
	case IPSEC_AES_GMAC_192:
		return EVP_aes_192_gcm();
	case IPSEC_AES_GCM_256:
	case IPSEC_AES_GMAC_256:
		return EVP_aes_256_gcm();
	case IPSEC_CHACHA20_POLY1305:
		return EVP_chacha20_poly1305();
	case IPSEC_SM4_CBC_SM3_128:
		return EVP_sm4_cbc();
	default:
		return ipsec_alg_info(alg)->encr_len == 16 ? EVP_aes_128_cbc()
		    : ipsec_alg_info(alg)->encr_len == 24  ? EVP_aes_192_cbc()
		                                           : EVP_aes_256_cbc();
	}
}

static const EVP_MD *
md_of(enum ipsec_alg alg)
{
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);

	return alg == IPSEC_SM4_CBC_SM3_128 ? EVP_sm3()
	    : info->integ_len == 32         ? EVP_sha256()
	    : info->integ_len == 48         ? EVP_sha384()
	                                    : EVP_sha512();
}

/* What OpenSSL makes of it: bytes and ICV. */
static void
reference(const struct packet *p, uint8_t *bytes, uint8_t icv[64])
{
	const struct ipsec_alg_info *info = ipsec_alg_info(p->alg);
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n;

	memcpy(bytes, p->was, sizeof(p->was));
	if (info->kind == IPSEC_KIND_MAC) {
		if (info->encr_len != 0) {
			assert_int_equal(
			    EVP_EncryptInit_ex(c, cipher_of(p->alg), NULL, p->encr, p->iv), 1);
			EVP_CIPHER_CTX_set_padding(c, 0);
			assert_int_equal(EVP_EncryptUpdate(c, bytes + p->ahead, &n,
			                     p->was + p->ahead, (int)p->len),
			    1);
		}
		assert_non_null(HMAC(md_of(p->alg), p->integ, info->integ_len, bytes,
		    p->ahead + p->len + p->behind, icv, NULL));
	} else {
		assert_int_equal(EVP_EncryptInit_ex(c, cipher_of(p->alg), NULL, p->encr, p->iv), 1);
		assert_int_equal(EVP_EncryptUpdate(c, NULL, &n, p->aad, (int)p->aad_len), 1);
		if (p->len > 0)
			assert_int_equal(EVP_EncryptUpdate(c, bytes, &n, p->was, (int)p->len), 1);
		assert_int_equal(EVP_EncryptFinal_ex(c, bytes + p->len, &n), 1);
		assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, icv), 1);
	}
	EVP_CIPHER_CTX_free(c);
}

static struct ipsec_op
op_of(struct packet *p)
{
	struct ipsec_op op = { .key = p->key, .iv = p->iv, .icv = p->icv, .alg = (uint8_t)p->alg };

	if (ipsec_alg_info(p->alg)->kind == IPSEC_KIND_MAC) {
		op.aad = p->bytes;
		op.aad_len = p->ahead + p->len + p->behind;
		op.data = p->bytes + p->ahead;
	} else {
		op.aad = p->aad;
		op.aad_len = p->aad_len;
		op.data = p->bytes;
	}
	op.len = p->len;
	return op;
}

static void
make(struct packet *p, enum ipsec_alg alg)
{
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);
	struct pk_diag diag;

	fill((uint8_t *)p, sizeof(*p));
	p->alg = alg;
	p->len = rnd() % LEN_MAX;
	p->aad_len = rnd() % sizeof(p->aad);
	p->ahead = rnd() % 32;
	p->behind = rnd() % 2 * 4;
	if (info->kind == IPSEC_KIND_GMAC)
		p->len = 0;
	if (info->kind == IPSEC_KIND_MAC && info->encr_len != 0)
		p->len = (p->len / 16 + 1) * 16;
	memcpy(p->was, p->bytes, sizeof(p->was));
	assert_int_equal(ipsec_key_prepare(p->key, alg, p->encr, info->encr_len, p->integ,
	                     info->integ_len, &diag),
	    0);
}

/* Bursts of all algorithms mixed: sealed as OpenSSL does it, opened again, and refused when a bit is wrong. */
static void
test_against_openssl(void **state)
{
	static struct packet p[40];
	struct ipsec_op op[40];
	struct ipsec_crypto *c;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(ipsec_crypto_create(&c, &diag), 0);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < PK_COUNT(p); i++) {
			make(&p[i],
			    (enum ipsec_alg)(
			        1 + (round * PK_COUNT(p) + i) % (IPSEC_ALG_COUNT - 1)));
			op[i] = op_of(&p[i]);
		}
		ipsec_seal(c, op, PK_COUNT(p));
		for (unsigned int i = 0; i < PK_COUNT(p); i++) {
			const struct ipsec_alg_info *info = ipsec_alg_info(p[i].alg);
			uint8_t bytes[sizeof(p[i].bytes)], icv[64];

			reference(&p[i], bytes, icv);
			assert_true(op[i].ok);
			assert_memory_equal(p[i].icv, icv, info->icv_len);
			assert_memory_equal(p[i].bytes, bytes, sizeof(bytes));
			/* Every third is spoilt: data, what is authenticated, or the ICV. */
			if (i % 3 == 0 && p[i].len > 0)
				op[i].data[rnd() % p[i].len] ^= (uint8_t)(1 << rnd() % 8);
			else if (i % 3 == 0)
				p[i].icv[rnd() % info->icv_len] ^= (uint8_t)(1 << rnd() % 8);
		}
		ipsec_open(c, op, PK_COUNT(p));
		for (unsigned int i = 0; i < PK_COUNT(p); i++) {
			assert_int_equal(op[i].ok, i % 3 != 0);
			if (op[i].ok)
				assert_memory_equal(p[i].bytes, p[i].was, sizeof(p[i].was));
		}
	}
	ipsec_crypto_destroy(c);
}

/* What is not there is refused by its name, and never done. */
static void
test_refused(void **state)
{
	static uint8_t key[IPSEC_KEY_STRIDE] __attribute__((aligned(64)));
	struct ipsec_op op = { .key = key, .alg = IPSEC_ALG_NONE, .ok = true };
	struct ipsec_crypto *c;
	struct ipsec_keys *keys;
	struct pk_diag diag;
	uint8_t raw[32] = { 0 };

	(void)state;
	assert_int_equal(ipsec_alg_from_ike(3, 0, 2, &diag), IPSEC_ALG_NONE);
	assert_non_null(strstr(diag.text, "ENCR_3DES (3)"));
	assert_int_equal(ipsec_alg_from_ike(20, 256, 12, &diag), IPSEC_ALG_NONE);
	assert_int_equal(ipsec_alg_from_ike(20, 256, 0, &diag), IPSEC_AES_GCM_256);
	assert_int_equal(ipsec_alg_from_ike(12, 256, 14, &diag), IPSEC_AES_CBC_256_SHA_512_256);
	assert_int_equal(ipsec_alg_by_name("aes-256-gcm"), IPSEC_AES_GCM_256);
	assert_int_equal(ipsec_alg_by_name("aes-512-gcm"), IPSEC_ALG_NONE);
	assert_int_equal(
	    ipsec_key_prepare(key, IPSEC_AES_GCM_256, raw, 16, NULL, 0, &diag), -EINVAL);
	assert_int_equal(ipsec_keys_create(&keys, 4, &diag), 0);
	assert_int_equal(
	    ipsec_key_set(keys, 4, IPSEC_AES_GCM_256, raw, 32, NULL, 0, &diag), -ENOENT);
	assert_int_equal(ipsec_key_set(keys, 3, IPSEC_AES_GCM_256, raw, 32, NULL, 0, &diag), 0);
	ipsec_key_clear(keys, 3);
	for (unsigned int i = 0; i < IPSEC_KEY_STRIDE; i++)
		assert_int_equal(((const uint8_t *)ipsec_key_at(ipsec_keys_base(keys), 3))[i], 0);
	ipsec_keys_destroy(keys);
	assert_int_equal(ipsec_crypto_create(&c, &diag), 0);
	ipsec_seal(c, &op, 1);
	assert_false(op.ok);
	op.ok = true;
	ipsec_open(c, &op, 1);
	assert_false(op.ok);
	ipsec_crypto_destroy(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_openssl),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("ipsec/crypto", tests, NULL, NULL);
}
