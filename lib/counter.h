#pragma once

#include <stdatomic.h>

#include "lib/base.h"

/*
 * A counter with one writer, read by anybody.  The writer pays a plain load and store: no locked
 * instruction.  Keep each lcore's counters on cache lines of its own; the control thread sums them
 * when somebody asks.
 */
typedef _Atomic uint64_t pk_counter;

/* Context: the counter's one writer. */
static inline void
pk_counter_add(pk_counter *c, uint64_t n)
{
	atomic_store_explicit(
	    c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Context: any. */
static inline uint64_t
pk_counter_read(const pk_counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}
