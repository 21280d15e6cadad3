#pragma once

#include "lib/base.h"

/*
 * Key material.  Wiped by fini, compared in constant time, never printed, never in a core dump
 * (the pages are marked MADV_DONTDUMP and, as far as RLIMIT_MEMLOCK allows, locked).
 */
struct pk_secret {
	uint8_t *bytes; /* len of them, NULL when empty */
	size_t len;
};

/* Copy bytes[0 .. len - 1] in.  The caller wipes its own copy.  Returns 0, -EINVAL or -ENOMEM. */
int pk_secret_init(struct pk_secret *s, const void *bytes, size_t len);

/* A new secret of `len` zero bytes, to be filled in place.  Returns 0, -EINVAL or -ENOMEM. */
int pk_secret_reserve(struct pk_secret *s, size_t len);

/* Fill a new secret of `len` bytes from the kernel's random source.  Returns 0 or negative errno. */
int pk_secret_random(struct pk_secret *s, size_t len);

/* Wipe and free.  A zeroed or finished secret is allowed. */
void pk_secret_fini(struct pk_secret *s);

/* Whether both hold the same bytes; the time taken depends on lengths only. */
int pk_secret_equal(const struct pk_secret *a, const struct pk_secret *b);

/* Overwrite memory in a way the compiler may not remove. */
void pk_wipe(void *bytes, size_t len);
