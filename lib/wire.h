#pragma once

#include <string.h>

#include "lib/base.h"

/*
 * A cursor over bytes from outside.  Every read checks the length, returns host-order numbers, and
 * after the first short read the cursor stays failed and returns zeroes: parse straight on, and ask
 * pk_wire_ok() once before believing any of it.
 */
struct pk_wire {
	const uint8_t *at;
	const uint8_t *end;
	int failed;
};

/* Read from bytes[0 .. len - 1], which stay the caller's and must outlive the cursor. */
static inline struct pk_wire
pk_wire_from(const void *bytes, size_t len)
{
	return (struct pk_wire){ .at = bytes, .end = (const uint8_t *)bytes + len };
}

static inline int
pk_wire_ok(const struct pk_wire *w)
{
	return !w->failed;
}

static inline size_t
pk_wire_left(const struct pk_wire *w)
{
	return (size_t)(w->end - w->at);
}

/* The next `len` bytes in place, or NULL. */
static inline const uint8_t *
pk_wire_bytes(struct pk_wire *w, size_t len)
{
	const uint8_t *p = w->at;

	if (w->failed || pk_wire_left(w) < len) {
		w->failed = 1;
		return NULL;
	}
	w->at += len;
	return p;
}

static inline void
pk_wire_skip(struct pk_wire *w, size_t len)
{
	(void)pk_wire_bytes(w, len);
}

static inline uint8_t
pk_wire_u8(struct pk_wire *w)
{
	const uint8_t *p = pk_wire_bytes(w, 1);

	return p != NULL ? p[0] : 0;
}

static inline uint16_t
pk_wire_be16(struct pk_wire *w)
{
	const uint8_t *p = pk_wire_bytes(w, 2);

	return p != NULL ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t
pk_wire_be32(struct pk_wire *w)
{
	const uint8_t *p = pk_wire_bytes(w, 4);

	return p != NULL ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
	                 : 0;
}

static inline uint64_t
pk_wire_be64(struct pk_wire *w)
{
	uint64_t hi = pk_wire_be32(w);

	return hi << 32 | pk_wire_be32(w);
}

/* Little-endian twins, for pcapng and TPM event logs. */
static inline uint32_t
pk_wire_le32(struct pk_wire *w)
{
	return __builtin_bswap32(pk_wire_be32(w));
}

static inline uint16_t
pk_wire_le16(struct pk_wire *w)
{
	return __builtin_bswap16(pk_wire_be16(w));
}
