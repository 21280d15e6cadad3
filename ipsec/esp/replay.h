#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "lib/base.h"

/*
 * Which sequence numbers have come (RFC 4303, section 3.4.3), for several lcores at once, exactly, without a lock.
 *
 * Numbers are 64 bits; without ESN the upper half is 0.  They lie in blocks of 32, and block b has its place in word
 * b % nb, which says of which block it is and which of its numbers have come:
 *
 *      word:  [ b, low 32 bits | bit i: number 32 * b + i has come ]
 *
 * A number is taken by one compare-and-swap of its word: it is refused if its bit is set, and if the word already
 * belongs to a later block.  So of two lcores with the same number one gets it, and no number is ever taken twice.
 * `top` is the highest number taken, and only decides what is too old: accepted are top - window + 1 to top, as
 * when packets are taken one after the other.  nb words hold the window and the block that runs ahead of it.
 */
#define ESP_WINDOW_MAX 4096

struct esp_replay {
	_Atomic uint64_t top;
	_Atomic uint64_t *word; /* mask + 1 of them */
	uint32_t mask;
	uint32_t window; /* 0: no check */
};

/* Words for a window of 1 to ESP_WINDOW_MAX; a power of two, at least 4. */
static inline uint32_t
esp_replay_words(uint32_t window)
{
	uint32_t need = (window + 31) / 32 + 1, nb = 4;

	while (nb < need)
		nb *= 2;
	return nb;
}

/*
 * The whole number of one of which only the lower half was sent (RFC 4303, appendix A2.1).  window is not 0.
 */
static inline uint64_t
esp_replay_whole(uint64_t top, uint32_t low, uint32_t window)
{
	uint32_t tl = (uint32_t)top, th = (uint32_t)(top >> 32), bottom = tl - window + 1;

	if (tl >= window - 1)
		return (uint64_t)(low >= bottom ? th : th + 1) << 32 | low;
	/* The window reaches back into the half before; before the first there is none. */
	if (low >= bottom && th > 0)
		return (uint64_t)(th - 1) << 32 | low;
	return (uint64_t)th << 32 | low;
}

enum esp_replay_answer {
	ESP_REPLAY_NEW = 0,
	ESP_REPLAY_SEEN,
	ESP_REPLAY_LATE, /* left of the window */
};

/* Whether `seq` would be taken now: before its ICV is known, to save the work.  Context: lcore. */
static inline enum esp_replay_answer
esp_replay_check(const struct esp_replay *r, uint64_t seq)
{
	uint64_t top = atomic_load_explicit(&r->top, memory_order_relaxed), w;
	uint32_t block = (uint32_t)(seq / 32);

	if (seq > top)
		return ESP_REPLAY_NEW;
	if (top - seq >= r->window)
		return ESP_REPLAY_LATE;
	w = atomic_load_explicit(&r->word[block & r->mask], memory_order_relaxed);
	if ((uint32_t)(w >> 32) != block)
		return (int32_t)((uint32_t)(w >> 32) - block) > 0 ? ESP_REPLAY_LATE
		                                                  : ESP_REPLAY_NEW;
	return (w >> (seq & 31) & 1) != 0 ? ESP_REPLAY_SEEN : ESP_REPLAY_NEW;
}

/* Take `seq`, whose ICV is right.  Context: lcore. */
static inline enum esp_replay_answer
esp_replay_take(struct esp_replay *r, uint64_t seq)
{
	uint32_t block = (uint32_t)(seq / 32);
	_Atomic uint64_t *word = &r->word[block & r->mask];
	uint64_t top = atomic_load_explicit(&r->top, memory_order_relaxed), old, new;
	uint64_t bit = UINT64_C(1) << (seq & 31);

	if (seq <= top && top - seq >= r->window)
		return ESP_REPLAY_LATE;
	old = atomic_load_explicit(word, memory_order_relaxed);
	do {
		uint32_t has = (uint32_t)(old >> 32);

		if (has == block) {
			if ((old & bit) != 0)
				return ESP_REPLAY_SEEN;
			new = old | bit;
		} else if ((int32_t)(has - block) > 0) {
			return ESP_REPLAY_LATE;
		} else {
			new = (uint64_t)block << 32 | bit;
		}
	} while (!atomic_compare_exchange_weak_explicit(
	    word, &old, new, memory_order_relaxed, memory_order_relaxed));
	while (seq > top &&
	    !atomic_compare_exchange_weak_explicit(
	        &r->top, &top, seq, memory_order_relaxed, memory_order_relaxed))
		;
	return ESP_REPLAY_NEW;
}
