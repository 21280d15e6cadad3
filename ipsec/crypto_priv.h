#pragma once

#include <intel-ipsec-mb.h>

#include "ipsec/crypto.h"

/* What a slot holds, by kind of algorithm.  AES-GCM and GMAC: struct gcm_key_data. */
struct mac_key {
	uint8_t encrypt[240], decrypt[240]; /* AES round keys */
	uint8_t inner[64], outer[64];       /* HMAC: states after the first block of each hash */
} __attribute__((aligned(16)));

struct chacha_key {
	uint8_t key[32];
};

/* OpenSSL keeps its schedules in objects of its own, one per engine, so it is given raw keys. */
struct sm4_key {
	uint8_t key[16], mac[32];
};

_Static_assert(sizeof(struct gcm_key_data) <= IPSEC_KEY_STRIDE, "a slot holds any key");
_Static_assert(sizeof(struct mac_key) <= 10 * 64, "as many lines as ipsec_key_prefetch() asks for");

/* A manager for what needs no state: preparing keys.  NULL if this CPU cannot.  Context: any. */
IMB_MGR *ipsec_mb_shared(struct pk_diag *diag);

/* A new one, as good as this CPU.  NULL with *diag if it cannot. */
IMB_MGR *ipsec_mb_create(struct pk_diag *diag);
