#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"

/*
 * A set of numbers below a capacity, and what is next in it: a bit for each number, a bit for each word of
 * these that is not empty, and so on up to a single word.  All is done in as many steps as there are levels,
 * four for sixteen million.  One writer.
 */
#define FW_BITS_LEVELS 5 /* 2^30 */
#define FW_BITS_NONE   UINT32_MAX

struct fw_bits {
	uint64_t *level[FW_BITS_LEVELS]; /* the last is one word */
	uint32_t nb_words[FW_BITS_LEVELS];
	unsigned int nb_levels;
};

/* Memory for numbers below `capacity`, at most 2^30.  Context of all: any, one at a time. */
size_t fw_bits_bytes(uint32_t capacity);

/* The empty set, whatever the memory contains. */
void fw_bits_init(struct fw_bits *b, void *memory, uint32_t capacity);

static inline void
fw_bits_set(struct fw_bits *b, uint32_t i)
{
	for (unsigned int l = 0; l < b->nb_levels; l++, i /= 64) {
		uint64_t *w = &b->level[l][i / 64], before = *w;

		*w = before | UINT64_C(1) << i % 64;
		if (before != 0)
			return;
	}
}

static inline void
fw_bits_clear(struct fw_bits *b, uint32_t i)
{
	for (unsigned int l = 0; l < b->nb_levels; l++, i /= 64) {
		uint64_t *w = &b->level[l][i / 64];

		*w &= ~(UINT64_C(1) << i % 64);
		if (*w != 0)
			return;
	}
}

/* The least number of the set that is not below `from`, which is below the capacity; or FW_BITS_NONE. */
uint32_t fw_bits_next(const struct fw_bits *b, uint32_t from);
