#pragma once

#include "lib/base.h"

/*
 * Memory that is given back all at once.  A source, a compilation and a table each own one: what
 * they hold lives and dies together, and a refused source is gone in one call.
 * Context: one thread at a time.
 */
struct policy_arena {
	struct policy_chunk *chunks;
	char *at;
	size_t left;  /* bytes */
	size_t total; /* in all chunks */
};

/* A zeroed arena is an empty one. */
void policy_arena_fini(struct policy_arena *a);
/* Overwrite all of it; what is left to do then is policy_arena_fini(). */
void policy_arena_wipe(struct policy_arena *a);
/* Empty again, with room for as much as there was. */
void policy_arena_reset(struct policy_arena *a);

/* `size` zeroed bytes, aligned for anything; NULL when there is no memory. */
void *policy_arena_alloc(struct policy_arena *a, size_t size);

/* nb zeroed elements; NULL when there is no memory.  nb may be 0. */
void *policy_arena_array(struct policy_arena *a, size_t nb, size_t size);

/* Forget what was taken since `a` was as in *before, if that is easily done. */
void policy_arena_rewind(struct policy_arena *a, const struct policy_arena *before);

void *policy_arena_copy(struct policy_arena *a, const void *bytes, size_t len);
char *policy_arena_text(struct policy_arena *a, const char *text);
char *policy_arena_printf(struct policy_arena *a, const char *fmt, ...) PK_PRINTF(2, 3);

/*
 * For a program that compiles: have malloc() keep what is freed.  libyaml takes 64 KiB for each text and
 * gives them back, and by default as much goes back to the kernel, which has to clear it for the next one: a
 * fifth of a cold start.  Arrays beyond 1 MiB stay mapped, since those grow without being copied.
 * Context: before any thread.
 */
void policy_arena_keep_memory(void);

/* Ask for huge pages under a large block of malloc(): a table that is searched at random takes a TLB miss for
 * each look otherwise, and a page fault for every 4 KiB to begin with. */
void policy_arena_advise(void *at, size_t size);

/*
 * Room for `need` elements of `size` bytes in the heap array at *array, of which *cap fit now.
 * Returns 0 or -ENOMEM, and then nothing has changed.  The caller frees *array.
 */
int policy_grow(void *array, size_t *cap, size_t need, size_t size);

/* A growing array on the heap; zeroed is empty, and the owner frees `at`. */
#define POLICY_VECTOR_BODY(type) \
	{                        \
		type *at;        \
		size_t nb, cap;  \
	}
#define POLICY_VECTOR(type) struct POLICY_VECTOR_BODY(type)

/* Pointer to a new last element of vector `v`, not initialised; NULL when there is no memory. */
#define POLICY_PUSH(v)                                                         \
	(policy_grow(&(v)->at, &(v)->cap, (v)->nb + 1, sizeof((v)->at[0])) < 0 \
	        ? NULL                                                         \
	        : &(v)->at[(v)->nb++])
