#include "fw/bits.h"

#include <string.h>

/* Words of a level that speaks for n things below it. */
static size_t
words(uint32_t n)
{
	return ((size_t)n + 63) / 64;
}

size_t
fw_bits_bytes(uint32_t capacity)
{
	size_t sum = 0, n = capacity;

	do {
		n = words((uint32_t)n);
		sum += n;
	} while (n > 1);
	return (sum * sizeof(uint64_t) + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
}

void
fw_bits_init(struct fw_bits *b, void *memory, uint32_t capacity)
{
	uint64_t *at = memory;
	size_t n = capacity;

	memset(memory, 0, fw_bits_bytes(capacity));
	memset(b, 0, sizeof(*b));
	do {
		PK_ASSERT(b->nb_levels < FW_BITS_LEVELS);
		b->level[b->nb_levels] = at;
		n = words((uint32_t)n);
		b->nb_words[b->nb_levels++] = (uint32_t)n;
		at += n;
	} while (n > 1);
}

uint32_t
fw_bits_next(const struct fw_bits *b, uint32_t from)
{
	unsigned int l = 0;

	/* Up, until a word has something from here on; then down, each time to the first. */
	for (;;) {
		/* Past the end of its word there is nothing; a word further is for the level above, if that one
		 * has a bit for it: where the words fill their level's it has not. */
		uint64_t w;

		if (from / 64 == b->nb_words[l])
			return FW_BITS_NONE;
		w = b->level[l][from / 64] & UINT64_MAX << from % 64;
		if (w != 0) {
			from = from / 64 * 64 + (uint32_t)__builtin_ctzll(w);
			break;
		}
		from = from / 64 + 1;
		if (++l == b->nb_levels)
			return FW_BITS_NONE;
	}
	while (l-- > 0)
		from = from * 64 + (uint32_t)__builtin_ctzll(b->level[l][from]);
	return from;
}
