#pragma once

#include <string.h>

#include "ipsec/esp/esp.h"

#define ESP_HEADER 8
#define UDP_HEADER 8

static inline uint16_t
get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline void
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void
put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

/* RFC 1071, of 16-bit numbers in network order that have been added up. */
static inline uint16_t
sum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

static inline uint32_t
sum_words(const uint8_t *p, unsigned int len)
{
	uint32_t sum = 0;

	for (unsigned int i = 0; i < len; i += 2)
		sum += get16(p + i);
	return sum;
}

/* The header checksum after a 16-bit number of the header has changed (RFC 1624). */
static inline void
sum_change(uint8_t *field, uint16_t was, uint16_t is)
{
	put16(field, (uint16_t)~sum_fold((uint16_t)~get16(field) + (uint32_t)(uint16_t)~was + is));
}

/*
 * What is authenticated, where it does not lie in the packet as it has to: with ESN the upper half of the number, which
 * is not sent, stands between the SPI and the lower half (AEAD: RFC 4106, section 5; GMAC: RFC 4543, section 3.3), or
 * behind all of it (RFC 4303, section 2.2.1).
 */
struct esp_aad {
	uint8_t aead[12];
	uint8_t nonce[12];
	uint8_t icv[32];  /* inbound: out of the way of what is written there */
	uint8_t saved[4]; /* GMAC: what stood before the ESP header */
};

/*
 * Describe the work on a packet: `esp` points to its ESP header, `clear` is how many bytes lie between IV and ICV.
 * With ESN, GMAC writes to the 4 bytes before the header and MACs to those behind the data; esp_aad_restore()
 * undoes the first.
 */
static inline void
esp_op(struct ipsec_op *op, const struct esp_sa *sa, const void *key, uint8_t *esp, uint32_t clear,
    uint64_t seq, struct esp_aad *a, bool seal)
{
	uint8_t *iv = esp + ESP_HEADER, *data = iv + sa->iv_len, *icv = data + clear;
	bool esn = (sa->flags & ESP_SA_ESN) != 0;

	op->key = key;
	op->alg = sa->alg;
	op->data = data;
	op->len = clear;
	op->icv = icv;
	if (sa->kind == IPSEC_KIND_MAC) {
		op->iv = iv;
		op->aad = esp;
		op->aad_len = ESP_HEADER + sa->iv_len + clear;
		if (!seal) {
			memcpy(a->icv, icv, sa->icv_len);
			op->icv = a->icv;
		}
		if (esn) {
			put32(icv, (uint32_t)(seq >> 32));
			op->aad_len += 4;
		}
		return;
	}
	memcpy(a->nonce, &sa->salt, 4);
	memcpy(a->nonce + 4, iv, 8);
	op->iv = a->nonce;
	if (sa->kind == IPSEC_KIND_GMAC) {
		op->len = 0;
		op->aad = esp;
		op->aad_len = ESP_HEADER + sa->iv_len + clear;
		if (esn) {
			memcpy(a->saved, esp - 4, 4);
			memcpy(esp - 4, esp, 4);
			put32(esp, (uint32_t)(seq >> 32));
			op->aad -= 4;
			op->aad_len += 4;
		}
		return;
	}
	if (!esn) {
		op->aad = esp;
		op->aad_len = ESP_HEADER;
		return;
	}
	memcpy(a->aead, esp, 4);
	put32(a->aead + 4, (uint32_t)(seq >> 32));
	put32(a->aead + 8, (uint32_t)seq);
	op->aad = a->aead;
	op->aad_len = 12;
}

static inline void
esp_aad_restore(const struct esp_sa *sa, uint8_t *esp, const struct esp_aad *a)
{
	if (sa->kind == IPSEC_KIND_GMAC && (sa->flags & ESP_SA_ESN) != 0) {
		memcpy(esp, esp - 4, 4);
		memcpy(esp - 4, a->saved, 4);
	}
}
