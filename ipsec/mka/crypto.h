#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * The cryptography of MKA, on OpenSSL: IEEE 802.1X-2020, 6.2 and 9.3.  A CAK and what is derived from it have 16 or
 * 32 octets.  Context: any.  Functions that return int return 0 or -EIO: the library has failed, and nothing was made.
 */
#define MKA_ICV     16
#define MKA_KEY_MAX 32
#define MKA_MI      12

/* AES-CMAC (RFC 4493; with a key of 32 octets as NIST SP 800-38B has it). */
int mka_cmac(const uint8_t *key, size_t key_len, const void *bytes, size_t len, uint8_t mac[16]);

/* 6.2.1: out_len octets, at most 32, of KDF(key, label, context). */
int mka_kdf(const uint8_t *key, size_t key_len, const char *label, const uint8_t *context,
    size_t context_len, uint8_t *out, size_t out_len);

/* 9.3.3: ICK or KEK of a CAK, as long as that; what is "IEEE8021 ICK" or "IEEE8021 KEK". */
int mka_derive(const uint8_t *cak, size_t cak_len, const uint8_t *ckn, size_t ckn_len,
    const char *label, uint8_t *out);

/* RFC 3394: `len` octets, 16 or 32, become len + 8; and back, or -EBADMSG when the key is another. */
int mka_wrap(const uint8_t *kek, size_t kek_len, const uint8_t *key, size_t len, uint8_t *out);
int mka_unwrap(const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t len, uint8_t *key);
