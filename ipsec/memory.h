#pragma once

#include <stddef.h>

/*
 * Memory for tables that packets reach at random: in huge pages if the kernel has any to give, else where
 * transparent ones may be; zeroed, never in a core dump, and locked as it is touched, as far as RLIMIT_MEMLOCK
 * goes.  *bytes is rounded up to whole huge pages.  NULL: there is not so much.  Context: control thread.
 */
void *ipsec_map(size_t *bytes);
void ipsec_unmap(
    void *memory, size_t bytes); /* the kernel hands out no page that it has not zeroed */
