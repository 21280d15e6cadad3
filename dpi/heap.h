#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Memory of fixed size for what inspection holds of sessions: reassembled bytes, transactions, the state of parsers,
 * libhtp's among them.  A session that is read may hold many pieces of many sizes, so pools of one size would not
 * do; and the C library's heap knows no bound, takes locks and asks the kernel for more.
 *
 * The region is cut into pages of 64 KB.  A page holds chunks of one size class, or is part of a run of pages that
 * is one large chunk.  Taking and giving back are a few steps; a page all of whose chunks are free is anybody's
 * again, so that one kind of load does not keep memory from the next.
 *
 * The calling thread's heap is set by dpi_heap_enter(); without one, all of it is the C library's, as in offline
 * tools.  What was taken from a heap is given back while that heap is entered.
 */
struct dpi_heap;

/* `bytes` are touched at once, so that no packet waits for a page.  Context: control thread.  The caller owns
 * *out.  Returns 0, -EINVAL (less than one page) or -ENOMEM. */
int dpi_heap_create(struct dpi_heap **out, size_t bytes);
void dpi_heap_destroy(struct dpi_heap *h);

/* From now on the calling thread's; NULL: the C library's.  Returns the one before. */
struct dpi_heap *dpi_heap_enter(struct dpi_heap *h);

/* In chunks that are taken, and in pages that anybody may have.  Context: any, approximately. */
size_t dpi_heap_used(const struct dpi_heap *h);
size_t dpi_heap_free(const struct dpi_heap *h);
uint64_t dpi_heap_refused(const struct dpi_heap *h); /* times that there was no room */

/* As their namesakes, of the thread's heap.  libhtp's calls go to them, too (Makefile). */
void *dpi_malloc(size_t len);
void *dpi_calloc(size_t nb, size_t len);
void *dpi_realloc(void *at, size_t len);
char *dpi_strdup(const char *text);
void dpi_free(void *at);
