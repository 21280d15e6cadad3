#include "attest/alg.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static struct {
	uint16_t alg;
	uint16_t size;
	const char *name;
	const char *openssl;
	EVP_MD *md;
} hashes[] = {
	{ ATTEST_ALG_SHA1, 20, "sha1", "SHA1", NULL },
	{ ATTEST_ALG_SHA256, 32, "sha256", "SHA2-256", NULL },
	{ ATTEST_ALG_SHA384, 48, "sha384", "SHA2-384", NULL },
	{ ATTEST_ALG_SHA512, 64, "sha512", "SHA2-512", NULL },
	{ ATTEST_ALG_SM3, 32, "sm3", "SM3", NULL },
};

static const struct {
	const char *name;
	uint16_t alg;
} aliases[] = {
	{ "sm3_256", ATTEST_ALG_SM3 },
	{ "sm3-256", ATTEST_ALG_SM3 },
	{ "SHA1", ATTEST_ALG_SHA1 },
	{ "SHA256", ATTEST_ALG_SHA256 },
	{ "SHA384", ATTEST_ALG_SHA384 },
	{ "SHA512", ATTEST_ALG_SHA512 },
};

static pthread_once_t fetched = PTHREAD_ONCE_INIT;

/* Fetching costs more than hashing a short text, so it is done once for the life of the process. */
static void
fetch(void)
{
	for (size_t i = 0; i < PK_COUNT(hashes); i++)
		hashes[i].md = EVP_MD_fetch(NULL, hashes[i].openssl, NULL);
}

const char *
attest_alg_name(uint16_t alg)
{
	static _Thread_local char text[8];

	for (size_t i = 0; i < PK_COUNT(hashes); i++)
		if (hashes[i].alg == alg)
			return hashes[i].name;
	snprintf(text, sizeof(text), "0x%04x", alg);
	return text;
}

uint16_t
attest_alg_find(const char *name, size_t len)
{
	for (size_t i = 0; i < PK_COUNT(hashes); i++)
		if (strlen(hashes[i].name) == len && memcmp(hashes[i].name, name, len) == 0)
			return hashes[i].alg;
	for (size_t i = 0; i < PK_COUNT(aliases); i++)
		if (strlen(aliases[i].name) == len && memcmp(aliases[i].name, name, len) == 0)
			return aliases[i].alg;
	return 0;
}

size_t
attest_alg_size(uint16_t alg)
{
	for (size_t i = 0; i < PK_COUNT(hashes); i++)
		if (hashes[i].alg == alg)
			return hashes[i].size;
	return 0;
}

const EVP_MD *
attest_alg_md(uint16_t alg)
{
	pthread_once(&fetched, fetch);
	for (size_t i = 0; i < PK_COUNT(hashes); i++)
		if (hashes[i].alg == alg)
			return hashes[i].md;
	return NULL;
}

int
attest_hash(EVP_MD_CTX *ctx, uint16_t alg, const struct attest_bytes *parts, size_t n, uint8_t *out)
{
	const EVP_MD *md = attest_alg_md(alg);
	EVP_MD_CTX *own = NULL;
	int ok;

	if (md == NULL)
		return -ENOTSUP;
	if (ctx == NULL && (ctx = own = EVP_MD_CTX_new()) == NULL)
		return -ENOMEM;
	ok = EVP_DigestInit_ex(ctx, md, NULL);
	for (size_t i = 0; ok && i < n; i++)
		if (parts[i].len > 0)
			ok = EVP_DigestUpdate(ctx, parts[i].at, parts[i].len);
	ok = ok && EVP_DigestFinal_ex(ctx, out, NULL);
	EVP_MD_CTX_free(own);
	return ok ? 0 : -ENOMEM;
}

int
attest_extend(EVP_MD_CTX *ctx, uint16_t alg, uint8_t *value, const uint8_t *digest)
{
	size_t size = attest_alg_size(alg);
	struct attest_bytes parts[2] = { { value, size }, { digest, size } };
	uint8_t out[ATTEST_DIGEST_MAX];
	int rc = attest_hash(ctx, alg, parts, 2, out);

	if (rc == 0)
		memcpy(value, out, size);
	return rc;
}

void
attest_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static int
nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
attest_unhex(const char *hex, size_t hex_len, uint8_t *out, size_t len)
{
	if (hex_len != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
