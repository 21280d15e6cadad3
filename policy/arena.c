#include "policy/arena.h"

#include <errno.h>
#include <malloc.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/secret.h"

/* Bytes.  Chunks grow with what there is, by a quarter: a source of one workload takes up little (there
 * are a hundred thousand), a compilation few calls.  Requests that are large for a chunk get one of their
 * own. */
#define CHUNK_MIN 496 /* with its head and malloc's, 512 */
#define CHUNK_MAX (256 * 1024)

struct policy_chunk {
	struct policy_chunk *next;
	size_t size;
	alignas(max_align_t) char bytes[];
};

void
policy_arena_fini(struct policy_arena *a)
{
	struct policy_chunk *next;

	for (struct policy_chunk *c = a->chunks; c != NULL; c = next) {
		next = c->next;
		free(c);
	}
	memset(a, 0, sizeof(*a));
}

void
policy_arena_wipe(struct policy_arena *a)
{
	for (struct policy_chunk *c = a->chunks; c != NULL; c = c->next)
		pk_wipe(c->bytes, c->size);
}

/* A new chunk of `room` bytes, which is not yet what small requests are served from. */
static struct policy_chunk *
add_chunk(struct policy_arena *a, size_t room)
{
	struct policy_chunk *c = calloc(1, sizeof(*c) + room);

	if (c == NULL)
		return NULL;
	c->next = a->chunks;
	c->size = room;
	a->chunks = c;
	a->total += room;
	return c;
}

static void
open_chunk(struct policy_arena *a, struct policy_chunk *c)
{
	a->at = c->bytes;
	a->left = c->size;
}

void
policy_arena_reset(struct policy_arena *a)
{
	struct policy_chunk *c = a->chunks;
	size_t total = PK_MIN(a->total, (size_t)CHUNK_MAX);

	if (c == NULL)
		return;
	if (c->next == NULL && c->size <= CHUNK_MAX && a->at != NULL) {
		memset(c->bytes, 0, c->size - a->left); /* as it was */
	} else {
		/* One that all of it would have fitted into. */
		policy_arena_fini(a);
		c = add_chunk(a, total);
	}
	if (c != NULL)
		open_chunk(a, c);
}

static void *
alloc(struct policy_arena *a, size_t size, size_t align)
{
	size_t pad = -(uintptr_t)a->at & (align - 1), room;
	struct policy_chunk *c;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	/* NULL means no memory, so nothing at all takes up a little. */
	size = PK_MAX(size, (size_t)1);
	if (a->left < pad || size > a->left - pad) {
		room = PK_MIN(PK_MAX(a->total / 4, (size_t)CHUNK_MIN), (size_t)CHUNK_MAX);
		room = (room + 15) & ~(size_t)15;
		if (size > room / 4)
			room = size;
		c = add_chunk(a, room);
		if (c == NULL)
			return NULL;
		if (room == size)
			return c->bytes; /* what is left of the current chunk stays in use */
		open_chunk(a, c);
		pad = 0;
	}
	p = a->at + pad;
	a->at += pad + size;
	a->left -= pad + size;
	return p;
}

void *
policy_arena_alloc(struct policy_arena *a, size_t size)
{
	return alloc(a, size, alignof(max_align_t));
}

void *
policy_arena_array(struct policy_arena *a, size_t nb, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(nb, size, &bytes) ? NULL : policy_arena_alloc(a, bytes);
}

void
policy_arena_rewind(struct policy_arena *a, const struct policy_arena *before)
{
	if (a->chunks != before->chunks || before->at == NULL)
		return;
	memset(before->at, 0, (size_t)(a->at - before->at)); /* as it was */
	*a = *before;
}

void *
policy_arena_copy(struct policy_arena *a, const void *bytes, size_t len)
{
	void *p = policy_arena_alloc(a, len);

	if (p != NULL && len > 0)
		memcpy(p, bytes, len);
	return p;
}

char *
policy_arena_text(struct policy_arena *a, const char *text)
{
	size_t size = strlen(text) + 1;
	char *p = alloc(a, size, 1);

	if (p != NULL)
		memcpy(p, text, size);
	return p;
}

char *
policy_arena_printf(struct policy_arena *a, const char *fmt, ...)
{
	va_list ap, again;
	char *p = NULL;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0)
		p = alloc(a, (size_t)n + 1, 1);
	if (p != NULL)
		vsnprintf(p, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return p;
}

void
policy_arena_keep_memory(void)
{
	(void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
	(void)mallopt(M_TOP_PAD, 4 << 20);
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

#define HUGE_MIN (4 << 20) /* bytes: below, rounding to 2 MiB wastes more than it saves */

void
policy_arena_advise(void *at, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)at;

	if (size < HUGE_MIN)
		return;
	from = (from + page - 1) & ~(page - 1);
	/* Where there are none it is as slow as before. */
	(void)madvise((void *)from, ((uintptr_t)at + size - from) & ~(page - 1), MADV_HUGEPAGE);
}

int
policy_grow(void *array, size_t *cap, size_t need, size_t size)
{
	size_t want = *cap != 0 ? *cap : 8;
	void *old, *new;

	if (need <= *cap)
		return 0;
	while (want < need)
		if (__builtin_mul_overflow(want, (size_t)2, &want))
			return -ENOMEM;
	memcpy(&old, array, sizeof(old));
	new = reallocarray(old, want, size);
	if (new == NULL)
		return -ENOMEM;
	policy_arena_advise(new, want * size);
	memcpy(array, &new, sizeof(new));
	*cap = want;
	return 0;
}
