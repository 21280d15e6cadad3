#pragma once

#include <stdint.h>
#include <string.h>

/*
 * Numbers in a packet, at any address: fw_be..() in host order, fw_raw..() as they lie in memory, which does for
 * comparing, hashing and sums.  Loads by memcpy() become one instruction.
 *
 * Nothing is checked here: whoever reads headers so checks bounds once for each header, which is cheaper than the
 * cursor of lib/wire.h, and is fuzzed with buffers of exact size.
 */
static inline __attribute__((always_inline)) uint16_t
fw_raw16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __attribute__((always_inline)) uint32_t
fw_raw32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __attribute__((always_inline)) uint64_t
fw_raw64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline __attribute__((always_inline)) uint16_t
fw_be16(const uint8_t *p)
{
	return __builtin_bswap16(fw_raw16(p));
}

static inline __attribute__((always_inline)) uint32_t
fw_be32(const uint8_t *p)
{
	return __builtin_bswap32(fw_raw32(p));
}

static inline __attribute__((always_inline)) uint64_t
fw_be64(const uint8_t *p)
{
	return __builtin_bswap64(fw_raw64(p));
}
