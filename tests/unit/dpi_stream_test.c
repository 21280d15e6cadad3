/* The stream view against a model: bytes in order, first ones stand, differing ones are a conflict. */
#include <stdlib.h>
#include <string.h>

#include "dpi/stream.h"
#include "tests/unit/test.h"

static uint8_t memory[256 * DPI_BLOCK], room[DPI_STREAM_MAX];
static struct dpi_pool pool;

static int
setup(void **state)
{
	(void)state;
	return dpi_pool_init(&pool, memory, sizeof(memory));
}

static void
expect(struct dpi_stream *s, const char *text)
{
	assert_int_equal(s->len, strlen(text));
	assert_memory_equal(dpi_stream_bytes(s, &pool, room), text, s->len);
}

static unsigned int
add(struct dpi_stream *s, uint32_t seq, const char *text)
{
	return dpi_stream_add(s, &pool, seq, (const uint8_t *)text, (uint16_t)strlen(text));
}

static void
test_order(void **state)
{
	struct dpi_stream s;

	(void)state;
	dpi_stream_init(&s, DPI_STREAM_MAX);
	dpi_stream_start(&s, UINT32_MAX - 1); /* wraps at the third byte */
	assert_int_equal(add(&s, 4, "ghi"), DPI_SEG_HELD);
	assert_int_equal(add(&s, 1, "def"), DPI_SEG_HELD);
	expect(&s, "");
	assert_int_equal(add(&s, UINT32_MAX - 1, "abc"), DPI_SEG_NEW);
	expect(&s, "abcdefghi");
	assert_int_equal(add(&s, UINT32_MAX - 4, "xyzab"), DPI_SEG_BEFORE | DPI_SEG_DUPLICATE);
	assert_int_equal(add(&s, UINT32_MAX - 9, "xyz"), DPI_SEG_BEFORE);
	dpi_stream_fini(&s, &pool);
	assert_int_equal(pool.nb_free, pool.nb - 1);
}

/* Overlaps both ways, with the same bytes and with others; what differs takes nothing with it. */
static void
test_overlap(void **state)
{
	struct dpi_stream s;

	(void)state;
	dpi_stream_init(&s, DPI_STREAM_MAX);
	dpi_stream_start(&s, 0);
	add(&s, 0, "abcd");
	assert_int_equal(add(&s, 2, "cdef"), DPI_SEG_DUPLICATE | DPI_SEG_NEW);
	assert_int_equal(add(&s, 4, "xfgh"), DPI_SEG_DUPLICATE | DPI_SEG_CONFLICT);
	expect(&s, "abcdef");
	assert_int_equal(add(&s, 10, "klm"), DPI_SEG_HELD);
	assert_int_equal(add(&s, 8, "ijxl"), DPI_SEG_DUPLICATE | DPI_SEG_CONFLICT);
	assert_int_equal(add(&s, 6, "ghijklmn"), DPI_SEG_DUPLICATE | DPI_SEG_NEW);
	expect(&s, "abcdefghijklmn");
	assert_int_equal(add(&s, 0, "Abcdefgh"), DPI_SEG_DUPLICATE | DPI_SEG_CONFLICT);
	dpi_stream_fini(&s, &pool);
}

static void
test_limits(void **state)
{
	struct dpi_stream s;

	(void)state;
	dpi_stream_init(&s, 6);
	dpi_stream_start(&s, 0);
	assert_int_equal(add(&s, 4, "efgh"), DPI_SEG_BEYOND | DPI_SEG_HELD);
	assert_int_equal(add(&s, 0, "abcd"), DPI_SEG_NEW);
	expect(&s, "abcdef");
	assert_int_equal(add(&s, 6, "gh"), DPI_SEG_BEYOND);
	assert_int_equal(add(&s, 0x80000000, "gh") & ~(unsigned)DPI_SEG_BEYOND, DPI_SEG_BEFORE);
	dpi_stream_fini(&s, &pool);

	dpi_stream_init(&s, DPI_STREAM_MAX);
	dpi_stream_start(&s, 0);
	for (uint32_t i = 0; i < DPI_STREAM_RANGES; i++)
		assert_int_equal(add(&s, 1 + 2 * i, "x"), DPI_SEG_HELD);
	assert_int_equal(add(&s, 100, "y"), DPI_SEG_FULL);
	assert_int_equal(
	    add(&s, 1 + 2 * DPI_STREAM_RANGES - 1, "z"), DPI_SEG_HELD); /* touches the last */
	dpi_stream_fini(&s, &pool);
	assert_int_equal(pool.nb_free, pool.nb - 1);
}

/* Random segments of a known stream, some with a changed byte, against an array of what has come. */
static void
test_random(void **state)
{
	uint8_t truth[4000], have[4000], held[4000];

	(void)state;
	srand(7);
	for (int round = 0; round < 300; round++) {
		uint32_t base = (uint32_t)rand() * 2u;
		struct dpi_stream s;

		for (size_t i = 0; i < sizeof(truth); i++)
			truth[i] = (uint8_t)rand();
		memset(have, 0, sizeof(have));
		dpi_stream_init(&s, sizeof(truth));
		dpi_stream_start(&s, base);
		for (int n = 0; n < 60; n++) {
			uint32_t from = (uint32_t)rand() % 3900, len = 1 + (uint32_t)rand() % 600,
			         len_ok, touched = 0, want;
			unsigned int fate;
			uint8_t bytes[700];
			bool differs = false;

			len = len_ok = PK_MIN(len, (uint32_t)sizeof(truth) - from);
			memcpy(bytes, truth + from, len);
			if (rand() % 4 == 0) {
				uint32_t at = (uint32_t)rand() % len;

				bytes[at] ^= 1;
				differs = have[from + at] != 0;
				/* A byte not yet there would become the truth. */
				if (!differs)
					bytes[at] ^= 1;
			}
			for (uint32_t i = 0; i < len_ok; i++)
				touched += have[from + i];
			fate = dpi_stream_add(&s, &pool, base + from, bytes, (uint16_t)len);
			assert_int_equal((fate & DPI_SEG_CONFLICT) != 0, differs);
			if ((fate & DPI_SEG_FULL) == 0)
				assert_int_equal((fate & DPI_SEG_DUPLICATE) != 0, touched > 0);
			if ((fate & (DPI_SEG_CONFLICT | DPI_SEG_FULL)) == 0)
				memset(have + from, 1, len);
			for (want = 0; want < sizeof(have) && have[want] != 0; want++)
				;
			assert_int_equal(s.len, want);
			memcpy(held, dpi_stream_bytes(&s, &pool, room), s.len);
			assert_memory_equal(held, truth, s.len);
		}
		dpi_stream_fini(&s, &pool);
		assert_int_equal(pool.nb_free, pool.nb - 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("dpi_stream", tests, setup, NULL);
}
