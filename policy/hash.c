#include "policy/hash.h"

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>

int
policy_hash_init(struct policy_hash *h)
{
	h->md = EVP_MD_CTX_new();
	h->failed = 0;
	return h->md != NULL ? 0 : -ENOMEM;
}

void
policy_hash_fini(struct policy_hash *h)
{
	EVP_MD_CTX_free(h->md);
	h->md = NULL;
}

void
policy_hash_begin(struct policy_hash *h)
{
	h->failed = EVP_DigestInit_ex(h->md, EVP_sha256(), NULL) != 1;
}

void
policy_hash_add(struct policy_hash *h, const void *bytes, size_t len)
{
	h->failed |= EVP_DigestUpdate(h->md, bytes, len) != 1;
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
	uint8_t digest[EVP_MAX_MD_SIZE];
	uint64_t value = 0;

	h->failed |= EVP_DigestFinal_ex(h->md, digest, NULL) != 1;
	/* SHA-256 over memory cannot fail but by a broken library; a wrong name would be worse. */
	PK_ASSERT(!h->failed);
	for (int i = 0; i < 8; i++)
		value = value << 8 | digest[i];
	return value != 0 ? value : 1;
}
