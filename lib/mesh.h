#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/addr.h"
#include "lib/diag.h"

/*
 * Keys of mesh mode: ESP between DPUs of one policy server, without IKE (RFC 9061, the IKE-less case).
 *
 * A DPU receives under device keys, of which it has two at a time.  The key of an SA is what a KDF makes of a device key
 * of its receiver and the SPI, which says the sender and counts its keys:
 *
 *      SPI   | 1 0 | 0 | generation (9 bits) | number of the sender (20 bits) |
 *      key   SP 800-108, counter mode, PRF CMAC-AES-256: blocks 1, 2, 3 of
 *            | i (32 bits) | "PkM" 0 | SPI (32 bits) | 288 (32 bits) |            32 bytes of key, 4 of salt (RFC 4106)
 *
 * The server has the device keys.  It tells a receiver its device keys and the SPIs that may come, and a sender the key
 * of each SPI it sends by, and nobody else anything: who may not send has no key, and the receiver has none for him.
 *
 * A nonce is never used twice under a key: keys belong to a run of both ends' data planes, which is known by the random
 * number that a plane chooses when it starts, and the next run is given other SPIs.
 */
#define PK_MESH_DEVICE_KEY  32
#define PK_MESH_DEVICE_KEYS 2
#define PK_MESH_SA_KEY      36
#define PK_MESH_NUMBERS     (1u << 20) /* 0 is nobody's */
#define PK_MESH_GENERATIONS \
	512 /* then they begin again, under device keys that have changed since */

static inline uint32_t
pk_mesh_spi(uint32_t number, uint32_t generation)
{
	return UINT32_C(0x80000000) | generation % PK_MESH_GENERATIONS << 20 | number;
}

static inline bool
pk_mesh_is_spi(uint32_t spi)
{
	return spi >> 29 == 4;
}

static inline uint32_t
pk_mesh_number(uint32_t spi)
{
	return spi & (PK_MESH_NUMBERS - 1);
}

struct pk_mesh_kdf;

/* Returns 0 or -ENOMEM.  Context of all: one thread at a time. */
int pk_mesh_kdf_create(struct pk_mesh_kdf **out, const uint8_t device_key[PK_MESH_DEVICE_KEY]);
void pk_mesh_kdf_destroy(struct pk_mesh_kdf *k); /* NULL is allowed */

/* The keys of spi[0 .. n - 1], any n.  The caller wipes them. */
void pk_mesh_kdf_derive(
    struct pk_mesh_kdf *k, const uint32_t *spi, unsigned int n, uint8_t (*key)[PK_MESH_SA_KEY]);

/*
 * What a DPU is told of one other.  As text, which is a grant's settings (lib/grant.h):
 *
 *      "boot=0123456789abcdef"                                             the DPU itself; secret: both device keys
 *      "number=7 address=192.0.2.7 in=80000007/0,80100007/1 out=80000003"  a peer; secret: the key of `out`
 */
struct pk_mesh_peer {
	uint32_t number;
	uint32_t nb_in;
	uint32_t in[2];      /* SPIs that it sends by, and will send by next */
	uint8_t in_key[2];   /* the device key of each */
	uint32_t out;        /* SPI to send to it by; 0: none */
	struct pk_addr addr; /* where its tunnels end */
};

#define PK_MESH_TEXT 192

void pk_mesh_self_text(char out[PK_MESH_TEXT], uint64_t boot);
void pk_mesh_peer_text(char out[PK_MESH_TEXT], const struct pk_mesh_peer *p);
/* Return 0 or -EPROTO with *diag. */
int pk_mesh_self_parse(uint64_t *boot, const char *text, struct pk_diag *diag);
int pk_mesh_peer_parse(struct pk_mesh_peer *out, const char *text, struct pk_diag *diag);
