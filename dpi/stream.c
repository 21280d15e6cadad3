#include "dpi/stream.h"

#include <errno.h>
#include <string.h>

int
dpi_pool_init(struct dpi_pool *pool, void *memory, size_t len)
{
	size_t nb = len / DPI_BLOCK;

	if (nb < 2 || nb > UINT32_MAX)
		return -EINVAL;
	*pool = (struct dpi_pool){ .memory = memory, .nb = (uint32_t)nb, .head = 1 };
	pool->nb_free = pool->nb - 1;
	/* A free block begins with the number of the next one. */
	for (uint32_t i = 1; i < pool->nb; i++) {
		uint32_t next = i + 1 < pool->nb ? i + 1 : 0;

		memcpy(pool->memory + (size_t)i * DPI_BLOCK, &next, sizeof(next));
	}
	return 0;
}

static uint8_t *
block_at(const struct dpi_pool *pool, uint32_t i)
{
	return pool->memory + (size_t)i * DPI_BLOCK;
}

static uint32_t
block_get(struct dpi_pool *pool)
{
	uint32_t i = pool->head;

	PK_ASSERT(i != 0);
	memcpy(&pool->head, block_at(pool, i), sizeof(pool->head));
	pool->nb_free--;
	return i;
}

static void
block_put(struct dpi_pool *pool, uint32_t i)
{
	memcpy(block_at(pool, i), &pool->head, sizeof(pool->head));
	pool->head = i;
	pool->nb_free++;
}

void
dpi_stream_init(struct dpi_stream *s, uint16_t limit)
{
	PK_ASSERT(limit <= DPI_STREAM_MAX);
	memset(s, 0, sizeof(*s));
	s->limit = limit;
}

void
dpi_stream_fini(struct dpi_stream *s, struct dpi_pool *pool)
{
	for (unsigned int i = 0; i < DPI_STREAM_BLOCKS && s->nb_blocks > 0; i++)
		if (s->block[i] != 0) {
			block_put(pool, s->block[i]);
			s->block[i] = 0;
			s->nb_blocks--;
		}
	s->len = 0;
	s->nb_ranges = 0;
	s->limit = 0;
}

void
dpi_stream_start(struct dpi_stream *s, uint32_t seq)
{
	PK_ASSERT(!s->started);
	s->base = seq;
	s->started = true;
}

/* Whether what is held of [from, to) has the same bytes. */
static bool
same(const struct dpi_stream *s, const struct dpi_pool *pool, uint32_t from, uint32_t to,
    const uint8_t *bytes)
{
	while (from < to) {
		uint32_t n = PK_MIN(to - from, DPI_BLOCK - from % DPI_BLOCK);

		if (memcmp(block_at(pool, s->block[from / DPI_BLOCK]) + from % DPI_BLOCK, bytes,
		        n) != 0)
			return false;
		from += n;
		bytes += n;
	}
	return true;
}

static void
put_bytes(
    struct dpi_stream *s, struct dpi_pool *pool, uint32_t from, uint32_t to, const uint8_t *bytes)
{
	while (from < to) {
		uint32_t n = PK_MIN(to - from, DPI_BLOCK - from % DPI_BLOCK);

		memcpy(block_at(pool, s->block[from / DPI_BLOCK]) + from % DPI_BLOCK, bytes, n);
		from += n;
		bytes += n;
	}
}

/* Enter [from, to), from > len, among the loose pieces.  False when there are too many. */
static bool
add_range(struct dpi_stream *s, uint16_t from, uint16_t to)
{
	unsigned int i = 0, j;

	while (i < s->nb_ranges && s->range[i].to < from)
		i++;
	/* [i, j) touch the new piece, and become part of it. */
	for (j = i; j < s->nb_ranges && s->range[j].from <= to; j++) {
		from = PK_MIN(from, s->range[j].from);
		to = PK_MAX(to, s->range[j].to);
	}
	if (i == j && s->nb_ranges == DPI_STREAM_RANGES)
		return false;
	memmove(&s->range[i + 1], &s->range[j], (s->nb_ranges - j) * sizeof(s->range[0]));
	s->nb_ranges = (uint8_t)(s->nb_ranges + 1 - (j - i));
	s->range[i].from = from;
	s->range[i].to = to;
	return true;
}

unsigned int
dpi_stream_add(
    struct dpi_stream *s, struct dpi_pool *pool, uint32_t seq, const uint8_t *bytes, uint16_t len)
{
	int64_t from = (int32_t)(seq - s->base), to = from + len;
	unsigned int fate = 0, lacking = 0;

	PK_ASSERT(s->started);
	if (from < 0) {
		fate |= DPI_SEG_BEFORE;
		if (to <= 0)
			return fate;
		bytes -= from;
		from = 0;
	}
	if (to > s->limit) {
		fate |= DPI_SEG_BEYOND;
		to = s->limit;
	}
	if (from >= to)
		return fate;

	/* Look at everything before anything is taken. */
	if (from < s->len) {
		fate |= DPI_SEG_DUPLICATE;
		if (!same(s, pool, (uint32_t)from, (uint32_t)PK_MIN(to, (int64_t)s->len), bytes))
			return fate | DPI_SEG_CONFLICT;
		if (to <= s->len)
			return fate;
		bytes += s->len - from;
		from = s->len;
	}
	for (unsigned int i = 0; i < s->nb_ranges; i++) {
		int64_t a = PK_MAX(from, (int64_t)s->range[i].from),
		        b = PK_MIN(to, (int64_t)s->range[i].to);

		if (a >= b)
			continue;
		fate |= DPI_SEG_DUPLICATE;
		if (!same(s, pool, (uint32_t)a, (uint32_t)b, bytes + (a - from)))
			return fate | DPI_SEG_CONFLICT;
	}
	for (int64_t b = from / DPI_BLOCK; b <= (to - 1) / DPI_BLOCK; b++)
		lacking += s->block[b] == 0;
	if (lacking > pool->nb_free ||
	    (from > s->len && !add_range(s, (uint16_t)from, (uint16_t)to))) {
		pool->refused++;
		return fate | DPI_SEG_FULL;
	}
	for (int64_t b = from / DPI_BLOCK; b <= (to - 1) / DPI_BLOCK; b++)
		if (s->block[b] == 0) {
			s->block[b] = block_get(pool);
			s->nb_blocks++;
		}
	put_bytes(s, pool, (uint32_t)from, (uint32_t)to, bytes);
	if (from > s->len)
		return fate | DPI_SEG_HELD;
	s->len = (uint16_t)to;
	while (s->nb_ranges > 0 && s->range[0].from <= s->len) {
		s->len = PK_MAX(s->len, s->range[0].to);
		s->nb_ranges--;
		memmove(&s->range[0], &s->range[1], s->nb_ranges * sizeof(s->range[0]));
	}
	return fate | DPI_SEG_NEW;
}

const uint8_t *
dpi_stream_bytes(const struct dpi_stream *s, const struct dpi_pool *pool, uint8_t *room)
{
	if (s->len <= DPI_BLOCK)
		return s->len > 0 ? block_at(pool, s->block[0]) : room;
	for (uint32_t at = 0; at < s->len; at += DPI_BLOCK)
		memcpy(room + at, block_at(pool, s->block[at / DPI_BLOCK]),
		    PK_MIN((uint32_t)DPI_BLOCK, s->len - at));
	return room;
}
