#include "ipsec/memory.h"

#include <stdint.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

void *
ipsec_map(size_t *bytes)
{
	size_t n = *bytes = (*bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1), ahead;
	uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		/* Transparent huge pages begin where a huge page may. */
		p = mmap(NULL, n + HUGE_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
		ahead = -(uintptr_t)p & (HUGE_PAGE - 1);
		if (ahead != 0)
			munmap(p, ahead);
		munmap(p + ahead + n, HUGE_PAGE - ahead);
		p += ahead;
		(void)madvise(p, n, MADV_HUGEPAGE);
	}
	(void)madvise(p, n, MADV_DONTDUMP);
	(void)mlock2(p, n, MLOCK_ONFAULT);
	return p;
}

void
ipsec_unmap(void *memory, size_t bytes)
{
	if (memory != NULL)
		munmap(memory, bytes);
}
