#include "dpi/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "lib/base.h"

#define PAGE       65536u
#define GRAIN      16u
#define NONE       UINT32_MAX
#define NB_CLASSES PK_COUNT(class_size)

/* Four to a doubling: at most a fifth of a chunk is wasted. */
static const uint16_t class_size[] = { 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
	384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120,
	6144, 7168, 8192, 10240, 13104, 16384, 21840, 32768 };

enum {
	PAGE_FREE = 0xff,
	PAGE_RUN = 0xfe,  /* first of a run */
	PAGE_TAIL = 0xfd, /* and the others */
};

struct page {
	uint8_t class;
	bool listed;          /* among those of its class that have room */
	uint16_t used, fresh; /* chunks taken; chunks that have ever been */
	uint16_t free;        /* first of the list of free ones, + 1; each holds the next */
	uint32_t next, prev;
	uint32_t run;
};

struct dpi_heap {
	uint8_t *memory;
	size_t bytes;
	uint32_t nb, nb_free, hint;
	size_t used;
	uint64_t refused;
	uint32_t partial[PK_COUNT(class_size)];
	struct page page[];
};

static _Thread_local struct dpi_heap *current;

int
dpi_heap_create(struct dpi_heap **out, size_t bytes)
{
	uint32_t nb = (uint32_t)PK_MIN(bytes / PAGE, (size_t)NONE - 1);
	struct dpi_heap *h;

	if (nb == 0)
		return -EINVAL;
	h = calloc(1, sizeof(*h) + nb * sizeof(h->page[0]));
	if (h == NULL)
		return -ENOMEM;
	h->bytes = (size_t)nb * PAGE;
	h->memory =
	    mmap(NULL, h->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h->memory == MAP_FAILED) {
		free(h);
		return -ENOMEM;
	}
	(void)madvise(h->memory, h->bytes, MADV_HUGEPAGE);
	memset(h->memory, 0, h->bytes);
	h->nb = h->nb_free = nb;
	for (uint32_t i = 0; i < nb; i++)
		h->page[i].class = PAGE_FREE;
	for (size_t c = 0; c < NB_CLASSES; c++)
		h->partial[c] = NONE;
	*out = h;
	return 0;
}

void
dpi_heap_destroy(struct dpi_heap *h)
{
	if (h == NULL)
		return;
	PK_ASSERT(h != current);
	munmap(h->memory, h->bytes);
	free(h);
}

struct dpi_heap *
dpi_heap_enter(struct dpi_heap *h)
{
	struct dpi_heap *before = current;

	current = h;
	return before;
}

size_t
dpi_heap_used(const struct dpi_heap *h)
{
	return h->used;
}

size_t
dpi_heap_free(const struct dpi_heap *h)
{
	return (size_t)h->nb_free * PAGE;
}

uint64_t
dpi_heap_refused(const struct dpi_heap *h)
{
	return h->refused;
}

static bool
is_ours(const struct dpi_heap *h, const void *at)
{
	return h != NULL && (const uint8_t *)at >= h->memory &&
	    (const uint8_t *)at < h->memory + h->bytes;
}

static unsigned int
class_of(size_t len)
{
	unsigned int lo = 0, hi = NB_CLASSES - 1;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (class_size[mid] < len)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The first of `want` free pages in a row, from where the last search ended. */
static uint32_t
pages(struct dpi_heap *h, uint32_t want)
{
	uint32_t row = 0;

	if (want > h->nb_free)
		return NONE;
	for (uint32_t n = 0, i = h->hint; n < h->nb + want; n++, i++) {
		if (i >= h->nb)
			i = row = 0;
		row = h->page[i].class == PAGE_FREE ? row + 1 : 0;
		if (row == want) {
			h->hint = i + 1 < h->nb ? i + 1 : 0;
			h->nb_free -= want;
			return i + 1 - want;
		}
	}
	return NONE;
}

static void
list_add(struct dpi_heap *h, uint32_t i)
{
	struct page *p = &h->page[i];

	p->listed = true;
	p->prev = NONE;
	p->next = h->partial[p->class];
	if (p->next != NONE)
		h->page[p->next].prev = i;
	h->partial[p->class] = i;
}

static void
list_remove(struct dpi_heap *h, uint32_t i)
{
	struct page *p = &h->page[i];

	p->listed = false;
	*(p->prev != NONE ? &h->page[p->prev].next : &h->partial[p->class]) = p->next;
	if (p->next != NONE)
		h->page[p->next].prev = p->prev;
}

static void *
take_run(struct dpi_heap *h, size_t len)
{
	uint32_t n = (uint32_t)((len + PAGE - 1) / PAGE), i = pages(h, n);

	if (i == NONE)
		return NULL;
	for (uint32_t k = 0; k < n; k++)
		h->page[i + k].class = k == 0 ? PAGE_RUN : PAGE_TAIL;
	h->page[i].run = n;
	h->used += (size_t)n * PAGE;
	return h->memory + (size_t)i * PAGE;
}

static void *
take(struct dpi_heap *h, size_t len)
{
	unsigned int c;
	uint32_t i, size, k;
	struct page *p;
	uint8_t *at;

	if (len > class_size[NB_CLASSES - 1])
		return len <= h->bytes ? take_run(h, len) : NULL;
	c = class_of(len);
	size = class_size[c];
	i = h->partial[c];
	if (i == NONE) {
		i = pages(h, 1);
		if (i == NONE)
			return NULL;
		p = &h->page[i];
		*p = (struct page){ .class = (uint8_t)c };
		list_add(h, i);
	}
	p = &h->page[i];
	if (p->free != 0) {
		k = p->free - 1u;
		memcpy(&p->free, h->memory + (size_t)i * PAGE + (size_t)k * size, sizeof(p->free));
	} else {
		k = p->fresh++;
	}
	at = h->memory + (size_t)i * PAGE + (size_t)k * size;
	p->used++;
	h->used += size;
	if (p->free == 0 && (p->fresh + 1u) * size > PAGE)
		list_remove(h, i);
	return at;
}

static size_t
room_of(const struct dpi_heap *h, const void *at)
{
	const struct page *p = &h->page[(size_t)((const uint8_t *)at - h->memory) / PAGE];

	return p->class == PAGE_RUN ? (size_t)p->run * PAGE : class_size[p->class];
}

static void
give_back(struct dpi_heap *h, void *at)
{
	size_t offset = (size_t)((uint8_t *)at - h->memory);
	uint32_t i = (uint32_t)(offset / PAGE), size;
	struct page *p = &h->page[i];
	uint16_t k;

	PK_ASSERT(p->class < NB_CLASSES || p->class == PAGE_RUN);
	if (p->class == PAGE_RUN) {
		uint32_t n = p->run;

		PK_ASSERT(offset % PAGE == 0);
		for (uint32_t j = 0; j < n; j++)
			h->page[i + j].class = PAGE_FREE;
		h->nb_free += n;
		h->used -= (size_t)n * PAGE;
		return;
	}
	size = class_size[p->class];
	PK_ASSERT(offset % PAGE % size == 0 && p->used > 0);
	k = (uint16_t)(offset % PAGE / size);
	memcpy(at, &p->free, sizeof(p->free));
	p->free = (uint16_t)(k + 1);
	p->used--;
	h->used -= size;
	if (p->used == 0) {
		if (p->listed)
			list_remove(h, i);
		p->class = PAGE_FREE;
		h->nb_free++;
	} else if (!p->listed) {
		list_add(h, i);
	}
}

void *
dpi_malloc(size_t len)
{
	void *at;

	if (current == NULL)
		return malloc(len);
	at = take(current, PK_MAX(len, (size_t)1));
	current->refused += at == NULL;
	return at;
}

void *
dpi_calloc(size_t nb, size_t len)
{
	void *at;

	if (current == NULL)
		return calloc(nb, len);
	if (len != 0 && nb > SIZE_MAX / len)
		return NULL;
	at = dpi_malloc(nb * len);
	return at != NULL ? memset(at, 0, nb * len) : NULL;
}

void *
dpi_realloc(void *at, size_t len)
{
	size_t room;
	void *more;

	if (at == NULL)
		return dpi_malloc(len);
	if (!is_ours(current, at))
		return realloc(at, len);
	room = room_of(current, at);
	if (len <= room && (len > room / 2 || room <= 64))
		return at;
	more = dpi_malloc(len);
	if (more == NULL)
		return len <= room ? at : NULL;
	memcpy(more, at, PK_MIN(len, room));
	give_back(current, at);
	return more;
}

char *
dpi_strdup(const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = dpi_malloc(len);

	return copy != NULL ? memcpy(copy, text, len) : NULL;
}

void
dpi_free(void *at)
{
	if (at == NULL)
		return;
	if (is_ours(current, at))
		give_back(current, at);
	else
		free(at);
}

/* ---- zlib, for libhtp ---- */

static void *
zlib_alloc(void *opaque, unsigned int nb, unsigned int len)
{
	(void)opaque;
	return dpi_calloc(nb, len);
}

static void
zlib_free(void *opaque, void *at)
{
	(void)opaque;
	dpi_free(at);
}

int dpi_inflate_init(z_stream *z, int bits, const char *version, int size);

/* In place of inflateInit2_(), which would leave the choice of memory to zlib. */
int
dpi_inflate_init(z_stream *z, int bits, const char *version, int size)
{
	z->zalloc = zlib_alloc;
	z->zfree = zlib_free;
	return inflateInit2_(z, bits, version, size);
}
