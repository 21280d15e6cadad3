#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"

/*
 * What is due when, for millions of things, at a cost that hardly depends on how many there are.
 *
 * Time is cut into ticks of about a quarter of a second, and due[i] says in which tick thing i is due: two
 * bytes, and filing a thing is one store.  Once per tick a sweep goes over the array and hands out what has
 * come up.  A vector instruction looks at a cache line of 32 things, and a block of 1,024 in which nothing is
 * due yet is passed over, so a table of long-lived sessions costs nothing; where it does not pass over, 33
 * million things are looked at in 10 ms.
 *
 * A packet does not move its session's timer; it only writes down when it was seen.  When a thing comes up
 * the owner looks, and files what is not yet due once more.  What is due later than the numbers reach simply
 * comes up before it is.
 *
 * This was a wheel of linked lists.  When many things came up at once, each was a walk to the next one's link
 * and to its neighbours', every step a miss that nothing else could overlap.  The sweep hands out things in
 * the order in which they lie in memory, which is what processors fetch ahead of themselves.
 *
 * One writer, no locks.
 */
#define FW_TIMER_SHIFT 28 /* a tick is 2^28 ns, 268 ms: half of the error that is allowed */
#define FW_TIMER_LINE  32
#define FW_TIMER_BLOCK 1024
#define FW_TIMER_REACH 16384 /* ticks that a thing may be filed ahead: 73 minutes */

struct fw_timer {
	uint16_t *due;     /* tick, modulo 2^16; 0: not filed */
	uint16_t *soonest; /* of each block: nothing in it is due before; 0: nothing is filed */
	uint32_t capacity;
	uint32_t used; /* things from here on have never been filed */
	uint32_t at;   /* where the sweep is; `used` or more: it has ended */
	bool inside;   /* a block, of which `soonest` is being made anew */
	uint64_t tick; /* that the sweep is for, or was */
};

/* Memory for `capacity` things, to begin at a cache line.  Context: any. */
size_t fw_timer_bytes(uint32_t capacity);

/* Nothing is filed, whatever the memory contains.  Context of this and the following: the owner. */
void fw_timer_init(struct fw_timer *t, void *memory, uint32_t capacity, uint64_t now_ns);

/* File `i` for `due_ns`, instead of where it is filed, if it is.  It is handed out in the first sweep that
 * begins then or up to a tick later; or when the reach ends, if that is sooner. */
void fw_timer_file(struct fw_timer *t, uint32_t i, uint64_t due_ns);

/* Nothing if it is not filed. */
static inline void
fw_timer_remove(struct fw_timer *t, uint32_t i)
{
	t->due[i] = 0;
}

/* From when on a sweep would hand out `i`; 0 if it is not filed. */
static inline uint64_t
fw_timer_filed_ns(const struct fw_timer *t, uint32_t i)
{
	if (t->due[i] == 0)
		return 0;
	return (t->tick + (uint64_t)(int64_t)(int16_t)(t->due[i] - (uint16_t)t->tick))
	    << FW_TIMER_SHIFT;
}

/*
 * Take out what has come up by `now_ns`, at most n things, in rising order as far as one sweep goes, looking
 * at *lines cache lines at most.  Returns how many.  If that is less than n and some of *lines is left, there
 * is no more.
 */
unsigned int fw_timer_take(
    struct fw_timer *t, uint64_t now_ns, uint32_t *out, unsigned int n, unsigned int *lines);
