#include "fw/rule_row.h"

#include <errno.h>
#include <string.h>

static struct fw_positions *
positions_new(struct fw_parts *m, uint32_t room, const struct fw_row_shape *shape, bool bits)
{
	size_t list = ((size_t)room * sizeof(uint32_t) + 7) / 8 * 8;
	size_t words = bits ? shape->nb_summary + shape->nb_words : 0;
	struct fw_positions *p = fw_part_new(m, sizeof(*p) + list + words * sizeof(uint64_t));

	if (p == NULL)
		return NULL;
	p->room = room;
	p->bits = bits ? (uint64_t *)((char *)p->pos + list) : NULL;
	return p;
}

static void
bit_set(struct fw_positions *p, uint32_t pos, const struct fw_row_shape *shape)
{
	p->bits[shape->nb_summary + pos / 64] |= UINT64_C(1) << (pos % 64);
	p->bits[pos / 64 / 64] |= UINT64_C(1) << (pos / 64 % 64);
}

static void
bit_clear(struct fw_positions *p, uint32_t pos, const struct fw_row_shape *shape)
{
	uint64_t *word = &p->bits[shape->nb_summary + pos / 64];

	*word &= ~(UINT64_C(1) << (pos % 64));
	if (*word == 0)
		p->bits[pos / 64 / 64] &= ~(UINT64_C(1) << (pos / 64 % 64));
}

/* Index of the first position that is not below `pos`. */
static uint32_t
lower(const struct fw_positions *p, uint32_t pos)
{
	uint32_t at = 0, n = p->nb;

	if (n > 0 && p->pos[n - 1] < pos)
		return n; /* rules come in order when rows are built */
	while (n > 0) {
		uint32_t half = n / 2;

		if (p->pos[at + half] < pos) {
			at += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return at;
}

/* A copy with room for `room`, with bits if that is long. */
static struct fw_positions *
positions_copy(struct fw_parts *m, const struct fw_positions *from, uint32_t room,
    const struct fw_row_shape *shape)
{
	bool bits = from->nb > FW_ROW_SHORT || room > FW_ROW_SHORT;
	struct fw_positions *p = positions_new(m, room, shape, bits);

	if (p == NULL)
		return NULL;
	p->nb = from->nb;
	memcpy(p->pos, from->pos, from->nb * sizeof(p->pos[0]));
	if (bits && from->bits != NULL)
		memcpy(p->bits, from->bits,
		    (shape->nb_summary + shape->nb_words) * sizeof(p->bits[0]));
	else if (bits)
		for (uint32_t i = 0; i < p->nb; i++)
			bit_set(p, p->pos[i], shape);
	return p;
}

int
fw_row_add(struct fw_parts *m, fw_row *row, uint32_t pos, const struct fw_row_shape *shape)
{
	struct fw_positions *p, *old = NULL;
	uint32_t at;

	if (*row == 0) {
		*row = (fw_row)pos << 1 | 1;
		return 0;
	}
	if (fw_row_is_single(*row)) {
		p = positions_new(m, 4, shape, false);
		if (p == NULL)
			return -ENOMEM;
		p->pos[p->nb++] = fw_row_single(*row);
	} else {
		p = old = (struct fw_positions *)*row;
		if (!fw_part_mine(m, old) || old->nb == old->room) {
			uint32_t room = old->nb < old->room ? old->room : 2 * old->room;

			if (old->nb < FW_ROW_SHORT)
				room = PK_MIN(room, (uint32_t)FW_ROW_SHORT);
			p = positions_copy(m, old, room, shape);
			if (p == NULL)
				return -ENOMEM;
		}
	}
	at = lower(p, pos);
	memmove(p->pos + at + 1, p->pos + at, (p->nb - at) * sizeof(p->pos[0]));
	p->pos[at] = pos;
	p->nb++;
	if (p->bits != NULL)
		bit_set(p, pos, shape);
	if (p != old)
		fw_part_drop(m, old);
	*row = (fw_row)p;
	return 0;
}

int
fw_row_remove(struct fw_parts *m, fw_row *row, uint32_t pos, const struct fw_row_shape *shape)
{
	struct fw_positions *p, *old;
	uint32_t at;

	if (*row == 0)
		return 0;
	if (fw_row_is_single(*row)) {
		if (fw_row_single(*row) != pos)
			return 0;
		*row = 0;
		return 1;
	}
	p = old = (struct fw_positions *)*row;
	at = lower(p, pos);
	if (at == p->nb || p->pos[at] != pos)
		return 0;
	if (p->nb == 2) {
		*row = (fw_row)p->pos[1 - at] << 1 | 1;
		fw_part_drop(m, p);
		return 1;
	}
	/* Shorter by half before the bits go, so that a row on the border does not change to and fro. */
	if (!fw_part_mine(m, p) || (p->bits != NULL && p->nb <= FW_ROW_SHORT / 2)) {
		p = positions_copy(
		    m, old, p->nb <= FW_ROW_SHORT / 2 ? FW_ROW_SHORT : old->room, shape);
		if (p == NULL)
			return -ENOMEM;
		fw_part_drop(m, old);
	}
	p->nb--;
	memmove(p->pos + at, p->pos + at + 1, (p->nb - at) * sizeof(p->pos[0]));
	if (p->bits != NULL && (at == p->nb || p->pos[at] != pos) &&
	    (at == 0 || p->pos[at - 1] != pos))
		bit_clear(p, pos, shape);
	*row = (fw_row)p;
	return 1;
}

int
fw_row_copy(struct fw_parts *m, fw_row from, fw_row *to, const struct fw_row_shape *shape)
{
	struct fw_positions *p;

	*to = from;
	if (from == 0 || fw_row_is_single(from))
		return 0;
	p = positions_copy(m, fw_row_many(from), fw_row_many(from)->room, shape);
	*to = (fw_row)p;
	return p != NULL ? 0 : -ENOMEM;
}

void
fw_row_drop(struct fw_parts *m, fw_row row)
{
	if (row != 0 && !fw_row_is_single(row))
		fw_part_drop(m, (void *)row);
}
