#pragma once

#include "lib/base.h"

/*
 * A timer wheel: what is due when, for millions of things, at a cost that does not depend on how
 * many there are.
 *
 * Time is cut into ticks of about a quarter of a second, and each of FW_TIMER_SLOTS slots holds a
 * list of what is due in one tick.  A packet does not move its session's timer; it only writes down
 * when it was seen.  When the slot comes up the owner looks, and files what is not yet due once more.
 * So a session costs the wheel one move per timeout, not one per packet, and what is due later than
 * the wheel reaches simply passes by more than once.
 *
 * Things are filed under a class, which is nothing to the wheel but a list of its own per slot: so whoever
 * runs short can ask which of a class is due first, and need not search.  In one slot the first filed is
 * the first out.
 *
 * A thing is filed at most once.  Links live in the owner's array; one writer, no locks.
 */
#define FW_TIMER_CLASSES 3
#define FW_TIMER_SLOTS   4096
#define FW_TIMER_SHIFT   28 /* a tick is 2^28 ns, 268 ms: half of the error that is allowed */
#define FW_TIMER_NONE    UINT32_MAX
#define FW_TIMER_UNFILED UINT16_MAX

struct fw_timer_link {
	uint32_t next, prev; /* indices, FW_TIMER_NONE at the ends */
	uint16_t slot;       /* class << 12 | slot; FW_TIMER_UNFILED when not in a list */
	uint16_t owner;      /* the owner's: would be padding */
};

struct fw_timer {
	void *links; /* the first link; they lie `stride` bytes apart */
	size_t stride;
	uint64_t tick; /* everything before it has been handed out */
	uint32_t nb;   /* filed */
	uint64_t busy[FW_TIMER_CLASSES][FW_TIMER_SLOTS / 64]; /* bit: the list is not empty */
	uint32_t head[FW_TIMER_CLASSES][FW_TIMER_SLOTS];
	uint32_t tail[FW_TIMER_CLASSES][FW_TIMER_SLOTS]; /* counts only if there is a head */
};

/* Context of all: the owner. */
void fw_timer_init(struct fw_timer *t, void *links, size_t stride, uint64_t now_ns);

/* File `i`, which is not filed, for `due_ns`: it is handed out then, or up to a tick later, or when
 * the wheel has turned once if that is sooner. */
void fw_timer_add(struct fw_timer *t, uint32_t i, uint64_t due_ns, unsigned int class);

/* Nothing if it is not filed. */
void fw_timer_remove(struct fw_timer *t, uint32_t i);

/* When the slot in which `i` is filed comes up; 0 if it is not filed. */
uint64_t fw_timer_filed_ns(const struct fw_timer *t, uint32_t i);

/* The one of `class` that is due first, of those in one slot the first filed; or FW_TIMER_NONE.  Looks at
 * 65 words at most. */
uint32_t fw_timer_first(const struct fw_timer *t, unsigned int class);

/* Under which class `i`, which is filed, is.  */
unsigned int fw_timer_class(const struct fw_timer *t, uint32_t i);

/* File `i`, which is filed, for the same time under another class. */
void fw_timer_reclass(struct fw_timer *t, uint32_t i, unsigned int class);

/* Take out what has come up by `now_ns`, at most n of them.  Returns how many; fewer than n means
 * that there is no more. */
unsigned int fw_timer_take(struct fw_timer *t, uint64_t now_ns, uint32_t *out, unsigned int n);
