#pragma once

#include <stddef.h>
#include <stdint.h>

/* What every file may assume.  No dependencies, no state. */

#define PK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PK_MUST_CHECK        __attribute__((warn_unused_result))
#define PK_NORETURN          __attribute__((noreturn))
#define PK_CACHE_LINE        64
#define PK_CACHE_ALIGNED     __attribute__((aligned(PK_CACHE_LINE)))

#define PK_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PK_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define PK_MAX(a, b)    ((a) > (b) ? (a) : (b))

#define PK_NS_PER_S  UINT64_C(1000000000)
#define PK_NS_PER_MS UINT64_C(1000000)
#define PK_NS_PER_US UINT64_C(1000)

/* Only a bug gets here: say where, and end the process with a core.  Input never can. */
PK_NORETURN void pk_bug(const char *file, int line, const char *what);

#define PK_ASSERT(cond) ((cond) ? (void)0 : pk_bug(__FILE__, __LINE__, #cond))
