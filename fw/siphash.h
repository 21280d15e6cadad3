#pragma once

#include <string.h>

#include <rte_common.h>

/*
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012): what is shown to others and
 * must not be forged, such as a SYN cookie.  `words` 64-bit words as they lie in memory; Picket's inputs are
 * all of whole words, so the last block carries the length alone.  OpenSSL has it behind EVP_MAC, whose
 * set-up costs ten times the hash.
 */
static __rte_always_inline uint64_t
fw_sip_turn(uint64_t v, unsigned int by)
{
	return v << by | v >> (64 - by);
}

static __rte_always_inline void
fw_sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = fw_sip_turn(v[1], 13) ^ v[0];
	v[3] = fw_sip_turn(v[3], 16) ^ v[2];
	v[0] = fw_sip_turn(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = fw_sip_turn(v[1], 17) ^ v[2];
	v[3] = fw_sip_turn(v[3], 21) ^ v[0];
	v[2] = fw_sip_turn(v[2], 32);
}

static inline uint64_t
fw_siphash(const uint64_t key[2], const uint64_t *in, unsigned int words)
{
	uint64_t v[4] = { key[0] ^ UINT64_C(0x736f6d6570736575),
		key[1] ^ UINT64_C(0x646f72616e646f6d), key[0] ^ UINT64_C(0x6c7967656e657261),
		key[1] ^ UINT64_C(0x7465646279746573) };

	for (unsigned int i = 0; i <= words; i++) {
		uint64_t m = i < words ? in[i] : (uint64_t)words << 59;

		v[3] ^= m;
		fw_sip_round(v);
		fw_sip_round(v);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	for (unsigned int i = 0; i < 4; i++)
		fw_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
