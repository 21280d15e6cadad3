#pragma once

#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* Bit i: tag[i] is `want`.  `tag` lies at a multiple of 16 bytes.  Context: any. */
static inline __attribute__((always_inline)) unsigned int
fw_match8(const uint16_t tag[8], uint16_t want)
{
#if defined(__SSE2__)
	__m128i eq = _mm_cmpeq_epi16(
	    _mm_load_si128((const __m128i *)(const void *)tag), _mm_set1_epi16((short)want));

	return (unsigned int)_mm_movemask_epi8(_mm_packs_epi16(eq, _mm_setzero_si128()));
#elif defined(__ARM_NEON)
	static const uint16_t bit[8] = { 1, 2, 4, 8, 16, 32, 64, 128 };

	return vaddvq_u16(vandq_u16(vceqq_u16(vld1q_u16(tag), vdupq_n_u16(want)), vld1q_u16(bit)));
#else
	unsigned int found = 0;

	for (unsigned int i = 0; i < 8; i++)
		found |= (unsigned int)(tag[i] == want) << i;
	return found;
#endif
}
