#include "lib/mesh.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "lib/secret.h"

#define BLOCK  16
#define BLOCKS 3
#define BATCH  32 /* SPIs in one call of the cipher */

/*
 * A message of one block makes CMAC a single encryption: AES(K, message xor K1), where K1 is AES(K, 0) doubled (SP 800-38B,
 * section 6.1).  So keys of many SPIs are one call.
 */
struct pk_mesh_kdf {
	EVP_CIPHER_CTX *aes;
	uint8_t k1[BLOCK];
};

int
pk_mesh_kdf_create(struct pk_mesh_kdf **out, const uint8_t device_key[PK_MESH_DEVICE_KEY])
{
	static const uint8_t zero[BLOCK];
	struct pk_mesh_kdf *k = calloc(1, sizeof(*k));
	uint8_t carry = 0;
	int len;

	if (k == NULL)
		return -ENOMEM;
	k->aes = EVP_CIPHER_CTX_new();
	if (k->aes == NULL ||
	    EVP_EncryptInit_ex(k->aes, EVP_aes_256_ecb(), NULL, device_key, NULL) != 1 ||
	    EVP_CIPHER_CTX_set_padding(k->aes, 0) != 1 ||
	    EVP_EncryptUpdate(k->aes, k->k1, &len, zero, BLOCK) != 1) {
		pk_mesh_kdf_destroy(k);
		return -ENOMEM;
	}
	for (int i = BLOCK - 1; i >= 0; i--) {
		uint8_t high = k->k1[i] >> 7;

		k->k1[i] = (uint8_t)(k->k1[i] << 1 | carry);
		carry = high;
	}
	k->k1[BLOCK - 1] ^= (uint8_t)(-carry & 0x87);
	*out = k;
	return 0;
}

void
pk_mesh_kdf_destroy(struct pk_mesh_kdf *k)
{
	if (k == NULL)
		return;
	EVP_CIPHER_CTX_free(k->aes); /* which wipes its key */
	pk_wipe(k->k1, sizeof(k->k1));
	free(k);
}

static void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void
pk_mesh_kdf_derive(
    struct pk_mesh_kdf *k, const uint32_t *spi, unsigned int n, uint8_t (*key)[PK_MESH_SA_KEY])
{
	uint8_t block[BATCH * BLOCKS][BLOCK];
	int len;

	for (unsigned int at = 0; at < n; at += BATCH) {
		unsigned int nb = PK_MIN(n - at, (unsigned int)BATCH);

		for (unsigned int i = 0; i < nb * BLOCKS; i++) {
			put32(block[i], i % BLOCKS + 1);
			memcpy(block[i] + 4, "PkM", 4);
			put32(block[i] + 8, spi[at + i / BLOCKS]);
			put32(block[i] + 12, PK_MESH_SA_KEY * 8);
			for (unsigned int b = 0; b < BLOCK; b++)
				block[i][b] ^= k->k1[b];
		}
		PK_ASSERT(EVP_EncryptUpdate(
		              k->aes, block[0], &len, block[0], (int)(nb * BLOCKS * BLOCK)) == 1);
		for (unsigned int i = 0; i < nb; i++)
			memcpy(key[at + i], block[(size_t)i * BLOCKS], PK_MESH_SA_KEY);
	}
	pk_wipe(block, sizeof(block));
}

/* ---- as text ---- */

void
pk_mesh_self_text(char out[PK_MESH_TEXT], uint64_t boot)
{
	snprintf(out, PK_MESH_TEXT, "boot=%016" PRIx64, boot);
}

void
pk_mesh_peer_text(char out[PK_MESH_TEXT], const struct pk_mesh_peer *p)
{
	char addr[PK_ADDR_TEXT];
	int at = snprintf(
	    out, PK_MESH_TEXT, "number=%u address=%s", p->number, pk_addr_text(&p->addr, addr));

	for (uint32_t i = 0; i < p->nb_in; i++)
		at += snprintf(out + at, PK_MESH_TEXT - (size_t)at, "%s%08x/%u",
		    i == 0 ? " in=" : ",", p->in[i], p->in_key[i]);
	if (p->out != 0)
		snprintf(out + at, PK_MESH_TEXT - (size_t)at, " out=%08x", p->out);
}

int
pk_mesh_self_parse(uint64_t *boot, const char *text, struct pk_diag *diag)
{
	int used = 0;

	if (sscanf(text, "boot=%16" SCNx64 "%n", boot, &used) == 1 && text[used] == '\0')
		return 0;
	pk_diag_set(diag, "mesh: \"%.60s\": want boot=NUMBER", text);
	return -EPROTO;
}

/* Two SPIs of the sender, each with one of two keys. */
static bool
parse_in(struct pk_mesh_peer *p, const char *text)
{
	int used;

	for (;; text += used + 1) {
		unsigned int spi, key;

		if (p->nb_in == PK_COUNT(p->in) ||
		    sscanf(text, "%8x/%1u%n", &spi, &key, &used) != 2 || !pk_mesh_is_spi(spi) ||
		    pk_mesh_number(spi) != p->number || key >= PK_MESH_DEVICE_KEYS)
			return false;
		p->in[p->nb_in] = spi;
		p->in_key[p->nb_in++] = (uint8_t)key;
		if (text[used] != ',')
			return text[used] == '\0';
	}
}

int
pk_mesh_peer_parse(struct pk_mesh_peer *out, const char *text, struct pk_diag *diag)
{
	char addr[64], word[64];
	struct pk_diag why;
	int used = 0;

	memset(out, 0, sizeof(*out));
	if (sscanf(text, "number=%7u address=%63s%n", &out->number, addr, &used) != 2 ||
	    out->number == 0 || out->number >= PK_MESH_NUMBERS ||
	    pk_addr_parse(&out->addr, addr, &why) != 0)
		goto bad;
	for (text += used; sscanf(text, " %63s%n", word, &used) == 1; text += used) {
		if (strncmp(word, "in=", 3) == 0 && parse_in(out, word + 3))
			continue;
		if (sscanf(word, "out=%8x", &out->out) == 1 && pk_mesh_is_spi(out->out))
			continue;
		goto bad;
	}
	return 0;
bad:
	pk_diag_set(diag,
	    "mesh: \"%.100s\": want number=N address=A [in=SPI/KEY,...] [out=SPI], SPIs of mesh mode",
	    text);
	return -EPROTO;
}
