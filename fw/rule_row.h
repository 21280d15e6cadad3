#pragma once

#include "fw/rule_part.h"

/*
 * A row: the positions of some rules of a program, in ascending order.
 *
 * Nearly all rows are of one rule, or of a few; some are of thousands.  So a row is one word: 0 is the
 * empty row, an odd number is one position, and anything else points to a struct fw_positions, which
 * from some length on has a bit for each position besides its list, and a summary with a bit for each
 * word of those that is not zero.
 *
 * A position may be in a row several times: two of a rule's prefixes may be around one address.
 */
typedef uintptr_t fw_row;

#define FW_ROW_SHORT 12 /* longer rows have bits */

/* How long the bits of all rows of a program are. */
struct fw_row_shape {
	uint32_t nb_words;   /* of 64 positions */
	uint32_t nb_summary; /* of 64 words; these come first */
};

struct fw_positions {
	struct fw_part part;
	uint32_t nb, room;
	uint64_t *bits; /* in the same block, behind the list; NULL in a short row */
	uint32_t pos[];
};

static inline bool
fw_row_is_single(fw_row r)
{
	return (r & 1) != 0;
}

static inline uint32_t
fw_row_single(fw_row r)
{
	return (uint32_t)(r >> 1);
}

static inline const struct fw_positions *
fw_row_many(fw_row r)
{
	return (const struct fw_positions *)r;
}

/* Put `pos` in, once more.  Returns 0 or -ENOMEM, which leaves the row as it was. */
int fw_row_add(struct fw_parts *m, fw_row *row, uint32_t pos, const struct fw_row_shape *shape);

/* Take `pos` out once.  Returns 1, 0 when it is not there, or -ENOMEM. */
int fw_row_remove(struct fw_parts *m, fw_row *row, uint32_t pos, const struct fw_row_shape *shape);

/* A row of its own with the same positions. */
int fw_row_copy(struct fw_parts *m, fw_row from, fw_row *to, const struct fw_row_shape *shape);

void fw_row_drop(struct fw_parts *m, fw_row row);
