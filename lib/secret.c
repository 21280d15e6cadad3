#include "lib/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/* Whole pages of its own, so that locking and dump exclusion never touch a neighbour. */
static size_t
page_round(size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (len + page - 1) / page * page;
}

void
pk_wipe(void *bytes, size_t len)
{
	explicit_bzero(bytes, len);
}

int
pk_secret_reserve(struct pk_secret *s, size_t len)
{
	void *p;

	*s = (struct pk_secret){ 0 };
	if (len == 0)
		return -EINVAL;
	p = mmap(NULL, page_round(len), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(p, page_round(len), MADV_DONTDUMP);
	(void)mlock(p, page_round(len)); /* best effort: the limit may be small */
	s->bytes = p;
	s->len = len;
	return 0;
}

int
pk_secret_init(struct pk_secret *s, const void *bytes, size_t len)
{
	int rc = pk_secret_reserve(s, len);

	if (rc == 0)
		memcpy(s->bytes, bytes, len);
	return rc;
}

int
pk_secret_random(struct pk_secret *s, size_t len)
{
	int rc = pk_secret_reserve(s, len);

	for (size_t got = 0; rc == 0 && got < len;) {
		ssize_t n = getrandom(s->bytes + got, len - got, 0);

		if (n > 0)
			got += (size_t)n;
		else if (errno != EINTR)
			rc = -errno;
	}
	if (rc != 0)
		pk_secret_fini(s);
	return rc;
}

void
pk_secret_fini(struct pk_secret *s)
{
	if (s->bytes != NULL) {
		pk_wipe(s->bytes, s->len);
		munmap(s->bytes, page_round(s->len));
	}
	*s = (struct pk_secret){ 0 };
}

int
pk_secret_equal(const struct pk_secret *a, const struct pk_secret *b)
{
	unsigned int diff = 0;

	if (a->len != b->len)
		return 0;
	for (size_t i = 0; i < a->len; i++)
		diff |= a->bytes[i] ^ b->bytes[i];
	return diff == 0;
}
