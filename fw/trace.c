#include "fw/trace.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "lib/counter.h"

/* Writer and reader own a cache line each; positions only grow, and are masked on use. */
struct fw_trace {
	_Atomic uint32_t level;
	_Atomic uint32_t snaplen;
	uint32_t mask;
	_Atomic(uint8_t *)
	    snaps; /* FW_TRACE_SNAP_MAX for each record; NULL before the first capture */
	struct {
		_Atomic uint64_t head; /* records written */
		uint64_t tail_seen;    /* how far the reader was when we last looked */
		pk_counter lost;
	} writer PK_CACHE_ALIGNED;
	struct {
		_Atomic uint64_t tail; /* records taken */
	} reader PK_CACHE_ALIGNED;
	struct fw_trace_record ring[] PK_CACHE_ALIGNED;
};

int
fw_trace_create(struct fw_trace **out, uint32_t nb)
{
	uint32_t size = 1;
	size_t bytes;
	struct fw_trace *t;

	if (nb == 0 || nb > UINT32_C(1) << 24)
		return -EINVAL;
	while (size < nb)
		size *= 2;
	bytes = sizeof(*t) + (size_t)size * sizeof(t->ring[0]);
	bytes = (bytes + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
	t = aligned_alloc(PK_CACHE_LINE, bytes);
	if (t == NULL)
		return -ENOMEM;
	memset(t, 0, bytes);
	t->mask = size - 1;
	*out = t;
	return 0;
}

void
fw_trace_destroy(struct fw_trace *t)
{
	if (t != NULL)
		free(atomic_load(&t->snaps));
	free(t);
}

void
fw_trace_set_level(struct fw_trace *t, enum fw_trace_level level)
{
	atomic_store_explicit(&t->level, level, memory_order_relaxed);
}

enum fw_trace_level
fw_trace_level(const struct fw_trace *t)
{
	return atomic_load_explicit(&t->level, memory_order_relaxed);
}

struct fw_trace_record *
fw_trace_reserve(struct fw_trace *t)
{
	uint64_t head = atomic_load_explicit(&t->writer.head, memory_order_relaxed);
	struct fw_trace_record *r = &t->ring[head & t->mask];

	if (head - t->writer.tail_seen > t->mask) {
		t->writer.tail_seen = atomic_load_explicit(&t->reader.tail, memory_order_acquire);
		if (head - t->writer.tail_seen > t->mask) {
			pk_counter_add(&t->writer.lost, 1);
			return NULL;
		}
	}
	memset(r, 0, sizeof(*r));
	return r;
}

void
fw_trace_commit(struct fw_trace *t)
{
	uint64_t head = atomic_load_explicit(&t->writer.head, memory_order_relaxed);

	atomic_store_explicit(&t->writer.head, head + 1, memory_order_release);
}

int
fw_trace_set_snaplen(struct fw_trace *t, uint32_t snaplen)
{
	if (snaplen > FW_TRACE_SNAP_MAX)
		return -EINVAL;
	if (snaplen != 0 && atomic_load_explicit(&t->snaps, memory_order_relaxed) == NULL) {
		uint8_t *snaps = malloc(((size_t)t->mask + 1) * FW_TRACE_SNAP_MAX);

		if (snaps == NULL)
			return -ENOMEM;
		atomic_store_explicit(&t->snaps, snaps, memory_order_relaxed);
	}
	atomic_store_explicit(&t->snaplen, snaplen, memory_order_release);
	return 0;
}

uint8_t *
fw_trace_snap(struct fw_trace *t, uint32_t *len)
{
	uint64_t head = atomic_load_explicit(&t->writer.head, memory_order_relaxed);

	*len = atomic_load_explicit(&t->snaplen, memory_order_acquire);
	if (*len == 0)
		return NULL;
	return atomic_load_explicit(&t->snaps, memory_order_relaxed) +
	    (head & t->mask) * FW_TRACE_SNAP_MAX;
}

unsigned int
fw_trace_take(struct fw_trace *t, struct fw_trace_record *out, unsigned int n)
{
	return fw_trace_take_snaps(t, out, NULL, n);
}

unsigned int
fw_trace_take_snaps(struct fw_trace *t, struct fw_trace_record *out,
    uint8_t (*snaps)[FW_TRACE_SNAP_MAX], unsigned int n)
{
	uint64_t tail = atomic_load_explicit(&t->reader.tail, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&t->writer.head, memory_order_acquire);
	unsigned int got = (unsigned int)PK_MIN(head - tail, (uint64_t)n);

	for (unsigned int i = 0; i < got; i++) {
		out[i] = t->ring[(tail + i) & t->mask];
		if (snaps != NULL && out[i].snap_len != 0)
			memcpy(snaps[i],
			    atomic_load_explicit(&t->snaps, memory_order_relaxed) +
			        ((tail + i) & t->mask) * FW_TRACE_SNAP_MAX,
			    out[i].snap_len);
	}
	atomic_store_explicit(&t->reader.tail, tail + got, memory_order_release);
	return got;
}

uint64_t
fw_trace_lost(const struct fw_trace *t)
{
	return pk_counter_read(&t->writer.lost);
}
