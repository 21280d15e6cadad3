#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "ipsec/crypto_priv.h"
#include "lib/secret.h"

#define ICV_MAX 32

struct ipsec_crypto {
	IMB_MGR *mb;
	/* OpenSSL's, made when they are first needed */
	EVP_CIPHER_CTX *sm4;
	EVP_MAC *hmac;
	EVP_MAC_CTX *sm3;
};

int
ipsec_crypto_create(struct ipsec_crypto **out, struct pk_diag *diag)
{
	struct ipsec_crypto *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->mb = ipsec_mb_create(diag);
	c->sm4 = EVP_CIPHER_CTX_new();
	c->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (c->hmac != NULL)
		c->sm3 = EVP_MAC_CTX_new(c->hmac);
	if (c->mb == NULL || c->sm4 == NULL || c->sm3 == NULL) {
		int rc = c->mb == NULL ? -ENOTSUP : -ENOMEM;

		if (c->mb != NULL)
			pk_diag_set(diag, "OpenSSL: no memory for SM4 and SM3");
		ipsec_crypto_destroy(c);
		return rc;
	}
	*out = c;
	return 0;
}

void
ipsec_crypto_destroy(struct ipsec_crypto *c)
{
	if (c == NULL)
		return;
	if (c->mb != NULL)
		free_mb_mgr(c->mb);
	EVP_MAC_CTX_free(c->sm3);
	EVP_MAC_free(c->hmac);
	EVP_CIPHER_CTX_free(c->sm4);
	free(c);
}

/* In a time that does not depend on where they differ. */
static bool
equal(const uint8_t *a, const uint8_t *b, unsigned int len)
{
	uint64_t diff = 0;

	/* ICVs are 16, 24 or 32 bytes. */
	for (unsigned int i = 0; i < len; i += 8) {
		uint64_t x, y;

		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		diff |= x ^ y;
	}
	return diff == 0;
}

/* ---- AEAD and GMAC: one after the other -------------------------------------------------------- */

static void
chacha(IMB_MGR *m, const struct ipsec_op *op, uint8_t *tag, bool seal)
{
	struct chacha20_poly1305_context_data ctx;

	IMB_CHACHA20_POLY1305_INIT(m, op->key, &ctx, op->iv, op->aad, op->aad_len);
	if (seal) {
		IMB_CHACHA20_POLY1305_ENC_UPDATE(m, op->key, &ctx, op->data, op->data, op->len);
		IMB_CHACHA20_POLY1305_ENC_FINALIZE(m, &ctx, tag, 16);
	} else {
		IMB_CHACHA20_POLY1305_DEC_UPDATE(m, op->key, &ctx, op->data, op->data, op->len);
		IMB_CHACHA20_POLY1305_DEC_FINALIZE(m, &ctx, tag, 16);
	}
}

/* True: done.  False: not one of these. */
static inline bool
seal_one(IMB_MGR *m, const struct ipsec_op *op)
{
	struct gcm_context_data ctx;

	switch (op->alg) {
	case IPSEC_AES_GCM_128:
		IMB_AES128_GCM_ENC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_AES_GCM_192:
		IMB_AES192_GCM_ENC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_AES_GCM_256:
		IMB_AES256_GCM_ENC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_AES_GMAC_128:
		IMB_AES128_GCM_ENC(m, op->key, &ctx, op->icv, op->icv, 0, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_AES_GMAC_192:
		IMB_AES192_GCM_ENC(m, op->key, &ctx, op->icv, op->icv, 0, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_AES_GMAC_256:
		IMB_AES256_GCM_ENC(m, op->key, &ctx, op->icv, op->icv, 0, op->iv, op->aad,
		    op->aad_len, op->icv, 16);
		return true;
	case IPSEC_CHACHA20_POLY1305:
		chacha(m, op, op->icv, true);
		return true;
	default:
		return false;
	}
}

static inline bool
open_one(IMB_MGR *m, struct ipsec_op *op)
{
	struct gcm_context_data ctx;
	uint8_t tag[16];

	switch (op->alg) {
	case IPSEC_AES_GCM_128:
		IMB_AES128_GCM_DEC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, tag, 16);
		break;
	case IPSEC_AES_GCM_192:
		IMB_AES192_GCM_DEC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, tag, 16);
		break;
	case IPSEC_AES_GCM_256:
		IMB_AES256_GCM_DEC(m, op->key, &ctx, op->data, op->data, op->len, op->iv, op->aad,
		    op->aad_len, tag, 16);
		break;
	case IPSEC_AES_GMAC_128:
		IMB_AES128_GCM_ENC(
		    m, op->key, &ctx, tag, tag, 0, op->iv, op->aad, op->aad_len, tag, 16);
		break;
	case IPSEC_AES_GMAC_192:
		IMB_AES192_GCM_ENC(
		    m, op->key, &ctx, tag, tag, 0, op->iv, op->aad, op->aad_len, tag, 16);
		break;
	case IPSEC_AES_GMAC_256:
		IMB_AES256_GCM_ENC(
		    m, op->key, &ctx, tag, tag, 0, op->iv, op->aad, op->aad_len, tag, 16);
		break;
	case IPSEC_CHACHA20_POLY1305:
		chacha(m, op, tag, false);
		break;
	default:
		return false;
	}
	op->ok = equal(tag, op->icv, sizeof(tag));
	return true;
}

/* ---- cipher and MAC: side by side, in libipsec-mb's job manager --------------------------------- */

struct mac_state {
	struct ipsec_op *op;
	uint8_t tag[ICV_MAX];
	bool sound; /* the library has done it */
};

static IMB_HASH_ALG
hash_of(const struct ipsec_alg_info *info)
{
	switch (info->integ_len) {
	case 32:
		return IMB_AUTH_HMAC_SHA_256;
	case 48:
		return IMB_AUTH_HMAC_SHA_384;
	default:
		return IMB_AUTH_HMAC_SHA_512;
	}
}

static void
finished(IMB_JOB *job)
{
	if (job != NULL)
		((struct mac_state *)job->user_data)->sound = job->status == IMB_STATUS_COMPLETED;
}

static void
submit(IMB_MGR *m, struct mac_state *s, bool seal)
{
	const struct ipsec_op *op = s->op;
	const struct ipsec_alg_info *info = ipsec_alg_info(op->alg);
	const struct mac_key *k = op->key;
	IMB_JOB *job = IMB_GET_NEXT_JOB(m);

	memset(job, 0, sizeof(*job));
	job->user_data = s;
	job->cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
	job->chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
	job->src = op->aad;
	job->dst = op->data;
	job->cipher_start_src_offset_in_bytes = (uint64_t)(op->data - op->aad);
	job->msg_len_to_cipher_in_bytes = op->len;
	job->msg_len_to_hash_in_bytes = op->aad_len;
	if (info->encr_len == 0) {
		job->cipher_mode = IMB_CIPHER_NULL;
	} else {
		job->cipher_mode = IMB_CIPHER_CBC;
		job->key_len_in_bytes = info->encr_len;
		job->enc_keys = k->encrypt;
		job->dec_keys = k->decrypt;
		job->iv = op->iv;
		job->iv_len_in_bytes = 16;
	}
	job->hash_alg = hash_of(info);
	job->u.HMAC._hashed_auth_key_xor_ipad = k->inner;
	job->u.HMAC._hashed_auth_key_xor_opad = k->outer;
	job->auth_tag_output = s->tag;
	job->auth_tag_output_len_in_bytes = info->icv_len;
	/* With its checks: an impossible length is a job that is not done, and not memory that is not ours. */
	finished(IMB_SUBMIT_JOB(m));
}

/* ---- SM4: by OpenSSL ---------------------------------------------------------------------------- */

static bool
sm4(struct ipsec_crypto *c, const struct sm4_key *k, const struct ipsec_op *op, bool seal)
{
	int n = 0;

	return EVP_CipherInit_ex(c->sm4, EVP_sm4_cbc(), NULL, k->key, op->iv, seal) == 1 &&
	    EVP_CIPHER_CTX_set_padding(c->sm4, 0) == 1 &&
	    EVP_CipherUpdate(c->sm4, op->data, &n, op->data, (int)op->len) == 1 &&
	    (uint32_t)n == op->len;
}

static bool
sm3(struct ipsec_crypto *c, const struct sm4_key *k, const struct ipsec_op *op,
    uint8_t tag[ICV_MAX])
{
	static char name[] = "SM3";
	OSSL_PARAM params[] = { OSSL_PARAM_utf8_string("digest", name, sizeof(name) - 1),
		OSSL_PARAM_END };
	size_t n;

	return EVP_MAC_init(c->sm3, k->mac, sizeof(k->mac), params) == 1 &&
	    EVP_MAC_update(c->sm3, op->aad, op->aad_len) == 1 &&
	    EVP_MAC_final(c->sm3, tag, &n, ICV_MAX) == 1;
}

static void
sm4_seal(struct ipsec_crypto *c, struct ipsec_op *op)
{
	uint8_t tag[ICV_MAX];

	op->ok = sm4(c, op->key, op, true) && sm3(c, op->key, op, tag);
	if (op->ok)
		memcpy(op->icv, tag, 16);
}

static void
sm4_open(struct ipsec_crypto *c, struct ipsec_op *op)
{
	uint8_t tag[ICV_MAX];

	op->ok = sm3(c, op->key, op, tag) && equal(tag, op->icv, 16) && sm4(c, op->key, op, false);
}

/* ---- bursts ------------------------------------------------------------------------------------- */

/* Those whose bit is set, at most a burst of them. */
static void
macs(struct ipsec_crypto *c, struct ipsec_op *op, uint32_t which, bool seal)
{
	struct mac_state state[IPSEC_CRYPTO_BURST];
	unsigned int nb = 0;
	IMB_JOB *job;

	for (; which != 0; which &= which - 1) {
		struct ipsec_op *o = &op[__builtin_ctz(which)];

		if (o->alg == IPSEC_SM4_CBC_SM3_128) {
			if (seal)
				sm4_seal(c, o);
			else
				sm4_open(c, o);
			continue;
		}
		state[nb] = (struct mac_state){ .op = o };
		submit(c->mb, &state[nb++], seal);
	}
	while ((job = IMB_FLUSH_JOB(c->mb)) != NULL)
		finished(job);
	for (unsigned int i = 0; i < nb; i++) {
		struct ipsec_op *o = state[i].op;
		unsigned int len = ipsec_alg_info(o->alg)->icv_len;

		if (seal) {
			o->ok = state[i].sound;
			memcpy(o->icv, state[i].tag, len);
		} else {
			o->ok = state[i].sound && equal(state[i].tag, o->icv, len);
		}
	}
}

static void
burst(struct ipsec_crypto *c, struct ipsec_op *op, unsigned int n, bool seal)
{
	uint32_t rest = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (seal ? seal_one(c->mb, &op[i]) : open_one(c->mb, &op[i])) {
			if (seal)
				op[i].ok = true;
			continue;
		}
		op[i].ok = false;
		if (ipsec_alg_info(op[i].alg) != NULL)
			rest |= UINT32_C(1) << i;
	}
	if (rest != 0)
		macs(c, op, rest, seal);
}

void
ipsec_seal(struct ipsec_crypto *c, struct ipsec_op *op, unsigned int n)
{
	for (; n > IPSEC_CRYPTO_BURST; op += IPSEC_CRYPTO_BURST, n -= IPSEC_CRYPTO_BURST)
		burst(c, op, IPSEC_CRYPTO_BURST, true);
	burst(c, op, n, true);
}

void
ipsec_open(struct ipsec_crypto *c, struct ipsec_op *op, unsigned int n)
{
	for (; n > IPSEC_CRYPTO_BURST; op += IPSEC_CRYPTO_BURST, n -= IPSEC_CRYPTO_BURST)
		burst(c, op, IPSEC_CRYPTO_BURST, false);
	burst(c, op, n, false);
}
