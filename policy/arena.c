#include "policy/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (64 * 1024) /* bytes; larger requests get a chunk of their own */

struct policy_chunk {
	struct policy_chunk *next;
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

void *
policy_arena_alloc(struct policy_arena *a, size_t size)
{
	const size_t align = alignof(max_align_t);
	struct policy_chunk *c;
	size_t room;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	/* NULL means no memory, so nothing at all takes up a little. */
	size = (PK_MAX(size, (size_t)1) + align - 1) & ~(align - 1);
	if (size > a->left) {
		room = size > CHUNK / 4 ? size : CHUNK;
		c = calloc(1, sizeof(*c) + room);
		if (c == NULL)
			return NULL;
		c->next = a->chunks;
		a->chunks = c;
		if (room == size)
			return c->bytes; /* what is left of the current chunk stays in use */
		a->at = c->bytes;
		a->left = room;
	}
	p = a->at;
	a->at += size;
	a->left -= size;
	return p;
}

void *
policy_arena_array(struct policy_arena *a, size_t nb, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(nb, size, &bytes) ? NULL : policy_arena_alloc(a, bytes);
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
	return policy_arena_copy(a, text, strlen(text) + 1);
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
		p = policy_arena_alloc(a, (size_t)n + 1);
	if (p != NULL)
		vsnprintf(p, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return p;
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
	memcpy(array, &new, sizeof(new));
	*cap = want;
	return 0;
}
