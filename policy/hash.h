#pragma once

#include <openssl/sha.h>

#include "lib/base.h"

/*
 * Names made of content: SHA-256, of which the first 64 bits are the number that travels.
 *
 * 64 bits are enough against accidents but not against somebody who can write policy and spend
 * 2^32 work on two programs of one number, so whoever files things under such a number compares
 * the contents, and refuses a collision.
 */
struct policy_hash {
	SHA256_CTX ctx;
	int failed;
};

/* One digest: begin, add as often as needed, end.  The number is never 0. */
void policy_hash_begin(struct policy_hash *h);
void policy_hash_add(struct policy_hash *h, const void *bytes, size_t len);
void policy_hash_add_u64(struct policy_hash *h, uint64_t value);
/* With its NUL, so that no two sequences of texts look alike. */
void policy_hash_add_text(struct policy_hash *h, const char *text);
uint64_t policy_hash_end(struct policy_hash *h);
