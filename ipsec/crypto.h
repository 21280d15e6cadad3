#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * The engine behind ESP and MACsec: keys prepared once, and then one call for each burst.
 *
 * It stands on libipsec-mb.  AES-GCM goes by its direct calls, one packet at a time: the vector unit is full with
 * one packet, so a burst of 32 packets under 32 keys costs no more than one of a single key.  CBC with HMAC goes
 * by its job manager, which needs several packets at a time to be fast.  What the library lacks and OpenSSL has
 * (SM4-CBC with HMAC-SM3) goes by OpenSSL, slowly, behind the same calls; what neither has is refused by name.
 *
 * Keys are prepared schedules, 1 KB each, in slots of a table in huge pages, apart from everything else that is
 * known about their owners.  With 65,536 keys in random order they are what a packet waits for, so a caller first
 * says ipsec_key_prefetch() for all packets of a burst, by their lengths, and then has them sealed or opened.
 *
 *      keys = ipsec_keys_create(n)                      control thread, once
 *      ipsec_key_set(keys, slot, alg, key)              control thread, before a lcore hears of the slot
 *      ipsec_key_prefetch(); ipsec_seal() | open()      lcores, each with an engine of its own
 *      ipsec_key_clear(keys, slot)                      control thread, when no lcore can still be using it
 */
#define IPSEC_CRYPTO_BURST 32
#define IPSEC_KEY_STRIDE   1024 /* bytes from one prepared key to the next */

/* What packets are protected with.  Zero is none, and refused everywhere. */
enum ipsec_alg {
	IPSEC_ALG_NONE = 0,
	IPSEC_AES_GCM_128, /* RFC 4106, ICV of 16 bytes; IEEE 802.1AE as well */
	IPSEC_AES_GCM_192,
	IPSEC_AES_GCM_256,
	IPSEC_AES_GMAC_128, /* RFC 4543, ENCR_NULL_AUTH_AES_GMAC */
	IPSEC_AES_GMAC_192,
	IPSEC_AES_GMAC_256,
	IPSEC_CHACHA20_POLY1305,       /* RFC 7634 */
	IPSEC_AES_CBC_128_SHA_256_128, /* RFC 3602 with RFC 4868 */
	IPSEC_AES_CBC_192_SHA_256_128,
	IPSEC_AES_CBC_256_SHA_256_128,
	IPSEC_AES_CBC_128_SHA_384_192,
	IPSEC_AES_CBC_192_SHA_384_192,
	IPSEC_AES_CBC_256_SHA_384_192,
	IPSEC_AES_CBC_128_SHA_512_256,
	IPSEC_AES_CBC_192_SHA_512_256,
	IPSEC_AES_CBC_256_SHA_512_256,
	IPSEC_NULL_SHA_256_128, /* RFC 2410 with RFC 4868: integrity alone */
	IPSEC_NULL_SHA_384_192,
	IPSEC_NULL_SHA_512_256,
	IPSEC_SM4_CBC_SM3_128, /* GB/T 32907, HMAC of GB/T 32905 cut to 16 bytes; by OpenSSL, slow */
	IPSEC_ALG_COUNT,
};

/* How its calls are to be fed. */
enum ipsec_alg_kind {
	IPSEC_KIND_NONE = 0,
	IPSEC_KIND_AEAD, /* nonce of 12 bytes; aad and data are authenticated, data is encrypted */
	IPSEC_KIND_GMAC, /* nonce of 12 bytes; aad is authenticated and covers all there is, data is not touched */
	IPSEC_KIND_MAC, /* IV of iv_len bytes (NULL encryption: none); data is encrypted, aad covers it and is authenticated */
};

struct ipsec_alg_info {
	const char *name; /* "aes-256-gcm" */
	uint8_t kind;     /* enum ipsec_alg_kind */
	uint8_t encr_len; /* bytes of the encryption key, without salt */
	uint8_t
	    salt_len; /* first bytes of the nonce, which come with the key (RFC 4106, section 8.1) */
	uint8_t integ_len; /* bytes of the integrity key; 0 for AEAD */
	uint8_t iv_len;    /* bytes of IV in each ESP packet */
	uint8_t icv_len;
	uint8_t
	    block; /* plaintext with trailer is a multiple of it, at least 4 (RFC 4303, section 2.4) */
};

/* NULL for IPSEC_ALG_NONE and beyond the end.  Context: any. */
const struct ipsec_alg_info *ipsec_alg_info(unsigned int alg);

/* "aes-256-gcm"; "none".  Context: any. */
const char *ipsec_alg_name(unsigned int alg);
enum ipsec_alg ipsec_alg_by_name(const char *name); /* IPSEC_ALG_NONE: no such */

/*
 * From what IKE has negotiated: transform type 1 and 3 of IANA's IKEv2 registry, and the length of the encryption
 * key in bits, without salt (0 where the transform has one length alone).  SM4-CBC and HMAC-SM3 have no numbers
 * there; ours are of the ranges for private use.
 * Returns IPSEC_ALG_NONE, and *diag names what is not there: "ENCR_3DES (3): not supported; ...".  Context: any.
 */
#define IPSEC_ENCR_SM4_CBC      1031 /* private use */
#define IPSEC_AUTH_HMAC_SM3_128 1051
enum ipsec_alg ipsec_alg_from_ike(
    uint16_t encr, uint16_t encr_bits, uint16_t integ, struct pk_diag *diag);

/* ---- prepared keys ---------------------------------------------------------------------------- */

struct ipsec_keys;

/*
 * A table of `nb` slots, 1 KB each, in huge pages if the kernel has any to give (else in transparent ones), locked
 * as far as it may be, never in a core dump.  Context: control thread.  The caller owns *out.
 * Returns 0, -EINVAL, -ENOMEM, or -ENOTSUP with *diag: this CPU lacks what libipsec-mb needs.
 */
int ipsec_keys_create(struct ipsec_keys **out, uint32_t nb, struct pk_diag *diag);
void ipsec_keys_destroy(struct ipsec_keys *k); /* wipes all of it; NULL is allowed */
size_t ipsec_keys_bytes(const struct ipsec_keys *k);

/*
 * Prepare `encr` (encr_len bytes of the algorithm; the salt is the caller's to keep) and `integ` (integ_len bytes)
 * in `slot`.  The caller wipes its own copies.  Context: control thread; no lcore may be using the slot.
 * Returns 0, -ENOENT (slot), -EINVAL (lengths) or -ENOTSUP, with *diag.
 */
int ipsec_key_set(struct ipsec_keys *k, uint32_t slot, enum ipsec_alg alg, const uint8_t *encr,
    size_t encr_len, const uint8_t *integ, size_t integ_len, struct pk_diag *diag);
void ipsec_key_clear(struct ipsec_keys *k, uint32_t slot); /* wipe it */

/*
 * A schedule alone, in memory of the caller's: IPSEC_KEY_STRIDE bytes, aligned to 64.  The same contract.
 * Context: any.  `bytes` become a key as ipsec_op.key wants it.
 */
int ipsec_key_prepare(void *bytes, enum ipsec_alg alg, const uint8_t *encr, size_t encr_len,
    const uint8_t *integ, size_t integ_len, struct pk_diag *diag);

/* Where the table lies: slot i is IPSEC_KEY_STRIDE * i bytes further.  Borrowed.  Context: any. */
const uint8_t *ipsec_keys_base(const struct ipsec_keys *k);

static inline const void *
ipsec_key_at(const uint8_t *base, uint32_t slot)
{
	return base + (size_t)slot * IPSEC_KEY_STRIDE;
}

/*
 * Ask for the lines of a key that a packet of `len` bytes will touch.  AES-GCM: round keys (the first 4 lines), and
 * of the 48 powers of the hash key, highest first, one line for every 64 bytes; from 768 bytes on all of them.
 * Others touch about ten lines at the start.  Context: lcore.
 */
static inline void
ipsec_key_prefetch(const void *key, enum ipsec_alg alg, uint32_t len)
{
	const uint8_t *k = (const uint8_t *)key;
	unsigned int lines = IPSEC_KEY_STRIDE / 64, from;

	for (unsigned int l = 0; l < 4; l++)
		__builtin_prefetch(k + (size_t)l * 64);
	if (alg > IPSEC_AES_GMAC_256) {
		for (unsigned int l = 4; l < 10; l++)
			__builtin_prefetch(k + (size_t)l * 64);
		return;
	}
	from = len >= 768 ? 4 : lines - 2 - len / 64;
	for (unsigned int l = from; l < lines; l++)
		__builtin_prefetch(k + (size_t)l * 64);
}

/* ---- the engine ------------------------------------------------------------------------------- */

struct ipsec_crypto;

/*
 * An engine for one thread: what it is called from must be that thread alone.  Keys are shared by all.
 * Context: control thread.  Returns 0, -ENOMEM, or -ENOTSUP with *diag.
 */
int ipsec_crypto_create(struct ipsec_crypto **out, struct pk_diag *diag);
void ipsec_crypto_destroy(struct ipsec_crypto *c);

/* One packet.  What `aad` means is said at enum ipsec_alg_kind. */
struct ipsec_op {
	const void *key; /* prepared for `alg` */
	uint8_t *data;   /* in place; 0 bytes are allowed for AEAD */
	const uint8_t *aad;
	const uint8_t *iv; /* AEAD, GMAC: 12 bytes of nonce; MAC: the IV */
	uint8_t *icv;      /* icv_len bytes: written by seal, compared in constant time by open */
	uint32_t len;      /* of data; for CBC a multiple of 16 */
	uint32_t aad_len;
	uint8_t alg; /* enum ipsec_alg */
	bool
	    ok; /* seal: always, if alg is one; open: the ICV is right.  False: data is garbage, so drop it */
};

/*
 * Protect, or check and reveal, op[0 .. n - 1], any n, of any mixture of algorithms; buffers do not overlap.
 * AEAD ops are done one after the other, the others side by side, so they are best given 8 or more together.
 * MAC: the ICV may lie directly behind or inside nothing that aad covers; it is read before anything is written.
 * Context: the engine's thread.
 */
void ipsec_seal(struct ipsec_crypto *c, struct ipsec_op *op, unsigned int n);
void ipsec_open(struct ipsec_crypto *c, struct ipsec_op *op, unsigned int n);
