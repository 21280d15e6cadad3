#include "fw/timer.h"

#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

/* A cache line of ticks. */
typedef int16_t ticks __attribute__((vector_size(2 * FW_TIMER_LINE), aligned(2 * FW_TIMER_LINE)));
_Static_assert(sizeof(ticks) == PK_CACHE_LINE && FW_TIMER_BLOCK % FW_TIMER_LINE == 0,
    "lines are whole, and so are blocks");
_Static_assert(
    2 * FW_TIMER_REACH <= INT16_MAX + 1, "what is due and what is not can be told apart");

static uint32_t
blocks(uint32_t capacity)
{
	return (uint32_t)(((uint64_t)capacity + FW_TIMER_BLOCK - 1) / FW_TIMER_BLOCK);
}

size_t
fw_timer_bytes(uint32_t capacity)
{
	size_t n = blocks(capacity);

	return n * FW_TIMER_BLOCK * sizeof(uint16_t) +
	    RTE_ALIGN_CEIL(n * sizeof(uint16_t), (size_t)PK_CACHE_LINE);
}

void
fw_timer_init(struct fw_timer *t, void *memory, uint32_t capacity, uint64_t now_ns)
{
	memset(memory, 0, fw_timer_bytes(capacity));
	*t = (struct fw_timer){
		.due = memory,
		.soonest = (uint16_t *)memory + (size_t)blocks(capacity) * FW_TIMER_BLOCK,
		.capacity = capacity,
		.tick = now_ns >> FW_TIMER_SHIFT,
	};
}

static inline void
note(struct fw_timer *t, uint32_t i, uint16_t due)
{
	uint16_t *soonest = &t->soonest[i / FW_TIMER_BLOCK];

	if (*soonest == 0 || (int16_t)(due - *soonest) < 0)
		*soonest = due;
}

void
fw_timer_file(struct fw_timer *t, uint32_t i, uint64_t due_ns)
{
	uint64_t tick = (due_ns >> FW_TIMER_SHIFT) + 1; /* round up: never early */
	uint16_t due;

	if (tick <= t->tick)
		tick = t->tick + 1; /* not in the sweep under way, or it might never end */
	if (tick > t->tick + FW_TIMER_REACH - 1)
		tick = t->tick + FW_TIMER_REACH - 1;
	due = (uint16_t)tick;
	due += due == 0;
	t->due[i] = due;
	note(t, i, due);
	if (unlikely(i >= t->used))
		t->used = i + 1;
}

/*
 * Look at line by line, from t->at to the end of its block, and take what is due.  The block's soonest is
 * made anew on the way.  Returns how many.
 */
static unsigned int
take_block(struct fw_timer *t, uint32_t *out, unsigned int n, unsigned int *lines)
{
	const int16_t now = (int16_t)t->tick;
	const uint32_t block = t->at / FW_TIMER_BLOCK * FW_TIMER_BLOCK;
	const ticks zero = { 0 };
	ticks least = zero + INT16_MAX; /* ahead of now, of what is filed for later */
	unsigned int got = 0;
	int16_t first = INT16_MAX;

	for (; t->at<block + FW_TIMER_BLOCK && * lines> 0; t->at += FW_TIMER_LINE, --*lines) {
		const ticks v = *(const ticks *)(const void *)(t->due + t->at);
		const ticks ahead = v - now;
		ticks later, up = (v != zero) & (ahead <= zero);
		uint64_t any[sizeof(ticks) / 8];

		memcpy(any, &up, sizeof(any));
		if ((any[0] | any[1] | any[2] | any[3] | any[4] | any[5] | any[6] | any[7]) != 0) {
			for (uint32_t k = 0; k < FW_TIMER_LINE; k++) {
				if (up[k] == 0)
					continue;
				if (got == n)
					goto full;
				out[got++] = t->at + k;
				t->due[t->at + k] = 0;
			}
		}
		later = (v != zero) & (ahead > zero) & (ahead < least);
		least = (ahead & later) | (least & ~later);
	}
full:
	for (unsigned int k = 0; k < FW_TIMER_LINE; k++)
		first = RTE_MIN(first, least[k]);
	if (first != INT16_MAX)
		note(t, block, (uint16_t)(now + first));
	return got;
}

unsigned int
fw_timer_take(
    struct fw_timer *t, uint64_t now_ns, uint32_t *out, unsigned int n, unsigned int *lines)
{
	const uint64_t now = now_ns >> FW_TIMER_SHIFT;
	unsigned int got = 0;

	while (got < n) {
		const uint32_t block = t->at / FW_TIMER_BLOCK;

		if (t->at >= t->used) {
			if (t->tick >= now)
				break;
			/* After a long sleep in steps, so that no number comes round. */
			t->tick = t->used != 0 ? RTE_MIN(now, t->tick + FW_TIMER_REACH) : now;
			t->at = 0;
			continue;
		}
		if (*lines == 0)
			break;
		if (!t->inside) {
			uint16_t soonest = t->soonest[block];

			if (soonest == 0 || (int16_t)(soonest - (uint16_t)t->tick) > 0) {
				t->at += FW_TIMER_BLOCK;
				--*lines;
				continue;
			}
			t->soonest[block] = 0;
			t->inside = true;
		}
		got += take_block(t, out + got, n - got, lines);
		t->inside = t->at / FW_TIMER_BLOCK == block;
	}
	return got;
}
