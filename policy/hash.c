#include "policy/hash.h"

#include <string.h>

/* The one-shot EVP interface looks its algorithm up each time, which costs more than these few bytes. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

void
policy_hash_begin(struct policy_hash *h)
{
	h->failed = SHA256_Init(&h->ctx) != 1;
}

void
policy_hash_add(struct policy_hash *h, const void *bytes, size_t len)
{
	h->failed |= SHA256_Update(&h->ctx, bytes, len) != 1;
}

void
policy_hash_add_u64(struct policy_hash *h, uint64_t value)
{
	uint8_t bytes[8];

	/* The same number on a machine of the other byte order. */
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	policy_hash_add(h, bytes, sizeof(bytes));
}

void
policy_hash_add_text(struct policy_hash *h, const char *text)
{
	policy_hash_add(h, text, strlen(text) + 1);
}

uint64_t
policy_hash_end(struct policy_hash *h)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	uint64_t value = 0;

	h->failed |= SHA256_Final(digest, &h->ctx) != 1;
	/* SHA-256 over memory cannot fail but by a broken library; a wrong name would be worse. */
	PK_ASSERT(!h->failed);
	for (int i = 0; i < 8; i++)
		value = value << 8 | digest[i];
	return value != 0 ? value : 1;
}

#pragma GCC diagnostic pop
