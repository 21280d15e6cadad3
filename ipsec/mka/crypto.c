#include "ipsec/mka/crypto.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "lib/secret.h"

int
mka_cmac(const uint8_t *key, size_t key_len, const void *bytes, size_t len, uint8_t mac[16])
{
	char cipher[16] = "AES-128-CBC";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *cmac = EVP_MAC_fetch(NULL, "CMAC", NULL);
	EVP_MAC_CTX *c = cmac != NULL ? EVP_MAC_CTX_new(cmac) : NULL;
	size_t n = 0;
	int rc = -EIO;

	if (key_len == 32)
		memcpy(cipher, "AES-256-CBC", sizeof("AES-256-CBC"));
	if (c != NULL && EVP_MAC_init(c, key, key_len, params) == 1 &&
	    EVP_MAC_update(c, bytes, len) == 1 && EVP_MAC_final(c, mac, &n, 16) == 1 && n == 16)
		rc = 0;
	EVP_MAC_CTX_free(c);
	EVP_MAC_free(cmac);
	return rc;
}

int
mka_kdf(const uint8_t *key, size_t key_len, const char *label, const uint8_t *context,
    size_t context_len, uint8_t *out, size_t out_len)
{
	uint8_t in[1 + 16 + 1 + 512 + 2], mac[16];
	size_t label_len = strlen(label), n;
	int rc = 0;

	PK_ASSERT(label_len <= 16 && context_len <= 512 && out_len <= 32);
	memcpy(in + 1, label, label_len + 1);
	memcpy(in + 2 + label_len, context, context_len);
	n = 2 + label_len + context_len;
	in[n] = (uint8_t)(out_len * 8 >> 8);
	in[n + 1] = (uint8_t)(out_len * 8);
	for (size_t at = 0; rc == 0 && at < out_len; at += 16) {
		in[0] = (uint8_t)(at / 16 + 1);
		rc = mka_cmac(key, key_len, in, n + 2, mac);
		memcpy(out + at, mac, PK_MIN(out_len - at, (size_t)16));
	}
	pk_wipe(mac, sizeof(mac));
	if (rc < 0)
		pk_wipe(out, out_len);
	return rc;
}

int
mka_derive(const uint8_t *cak, size_t cak_len, const uint8_t *ckn, size_t ckn_len,
    const char *label, uint8_t *out)
{
	uint8_t key_id[16] = { 0 };

	memcpy(key_id, ckn, PK_MIN(ckn_len, sizeof(key_id)));
	return mka_kdf(cak, cak_len, label, key_id, sizeof(key_id), out, cak_len);
}

static int
wrap(bool seal, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t len, uint8_t *out)
{
	const EVP_CIPHER *cipher = kek_len == 32 ? EVP_aes_256_wrap() : EVP_aes_128_wrap();
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0, rc = -EIO;

	if (c == NULL)
		return -EIO;
	EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	if (EVP_CipherInit_ex(c, cipher, NULL, kek, NULL, seal) == 1)
		rc = EVP_CipherUpdate(c, out, &n, in, (int)len) == 1 &&
		        n == (int)(seal ? len + 8 : len - 8)
		    ? 0
		    : -EBADMSG;
	EVP_CIPHER_CTX_free(c);
	return rc;
}

int
mka_wrap(const uint8_t *kek, size_t kek_len, const uint8_t *key, size_t len, uint8_t *out)
{
	return wrap(true, kek, kek_len, key, len, out) == 0 ? 0 : -EIO;
}

int
mka_unwrap(const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t len, uint8_t *key)
{
	uint8_t out[MKA_KEY_MAX + 16];
	int rc;

	if (len < 24 || len > MKA_KEY_MAX + 8 || len % 8 != 0)
		return -EBADMSG;
	rc = wrap(false, kek, kek_len, in, len, out);
	if (rc == 0)
		memcpy(key, out, len - 8);
	pk_wipe(out, sizeof(out));
	return rc;
}
