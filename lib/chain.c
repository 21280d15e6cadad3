#include "lib/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/sha.h>

#include "lib/log.h"

struct pk_chain {
	int fd;
	uint64_t nb;
	off_t size;
	char head[PK_CHAIN_HASH_TEXT];
};

static void
hash_line(const char *line, size_t len, char out[PK_CHAIN_HASH_TEXT])
{
	uint8_t hash[SHA256_DIGEST_LENGTH];

	SHA256((const uint8_t *)line, len, hash);
	for (size_t i = 0; i < sizeof(hash); i++)
		sprintf(out + 2 * i, "%02x", hash[i]);
}

/* Whether the line is the n-th, and follows one with this hash. */
static int
follows(const char *line, uint64_t n, const char *prev)
{
	uint64_t number;
	int end = 0;
	const char *at;

	if (sscanf(line, "{\"n\":%" SCNu64 ",\"at\":\"%n", &number, &end) != 1 || end == 0 ||
	    number != n)
		return 0;
	at = strchr(line + end, '"');
	return at != NULL && strncmp(at, "\",\"prev\":\"", 10) == 0 &&
	    strncmp(at + 10, prev, PK_CHAIN_HASH_TEXT - 1) == 0;
}

/* *end: bytes of whole lines. */
static int
walk(FILE *f, const char *path, const char *hash, struct pk_chain_state *s, off_t *end,
    void (*each)(void *arg, uint64_t i, const char *line), void *arg, struct pk_diag *diag)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	memset(s, 0, sizeof(*s));
	*end = 0;
	hash_line("", 0, s->head);
	while ((n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n') {
		*end += n;
		line[--n] = '\0';
		if (!s->broken &&
		    (memchr(line, '\0', (size_t)n) != NULL || !follows(line, s->nb + 1, s->head))) {
			s->broken = 1;
			pk_diag_set(diag,
			    "%s:%" PRIu64 ": is not line %" PRIu64
			    " after one with the hash %.16s...",
			    path, s->nb + 1, s->nb + 1, s->head);
		}
		hash_line(line, (size_t)n, s->head);
		s->found |= hash != NULL && strcmp(hash, s->head) == 0;
		if (each != NULL)
			each(arg, s->nb, line);
		s->nb++;
	}
	free(line);
	if (ferror(f)) {
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return -EIO;
	}
	return 0;
}

int
pk_chain_check(const char *path, const char *hash, struct pk_chain_state *out,
    void (*each)(void *arg, uint64_t i, const char *line), void *arg, struct pk_diag *diag)
{
	FILE *f = fopen(path, "re");
	off_t end;
	int err;

	if (f == NULL) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return err;
	}
	err = walk(f, path, hash, out, &end, each, arg, diag);
	fclose(f);
	return err;
}

int
pk_chain_open(struct pk_chain **out, const char *path, struct pk_diag *diag)
{
	struct pk_chain *c = calloc(1, sizeof(*c));
	struct pk_chain_state s;
	FILE *f = NULL;
	int fd, err;

	if (c == NULL) {
		pk_diag_set(diag, "no memory for %s", path);
		return -ENOMEM;
	}
	c->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	fd = c->fd >= 0 ? dup(c->fd) : -1;
	if (fd >= 0 && (f = fdopen(fd, "r")) == NULL)
		close(fd);
	if (f == NULL) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		goto fail;
	}
	err = walk(f, path, NULL, &s, &c->size, NULL, NULL, diag);
	if (err == 0 && ftruncate(c->fd, c->size) != 0) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
	}
	fclose(f);
	if (err != 0)
		goto fail;
	if (s.broken)
		pk_error("%s: it has been tampered with; going on behind its last line", path);
	c->nb = s.nb;
	memcpy(c->head, s.head, sizeof(c->head));
	*out = c;
	return 0;
fail:
	pk_chain_close(c);
	return err;
}

void
pk_chain_close(struct pk_chain *c)
{
	if (c == NULL)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

int
pk_chain_append(struct pk_chain *c, const char *members, int sync)
{
	char line[PK_CHAIN_LINE_MAX], at[32];
	time_t now = time(NULL);
	struct tm tm;
	int n, err;

	gmtime_r(&now, &tm);
	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
	n = snprintf(line, sizeof(line), "{\"n\":%" PRIu64 ",\"at\":\"%s\",\"prev\":\"%s\"%s%s}\n",
	    c->nb + 1, at, c->head, members[0] != '\0' ? "," : "", members);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -EMSGSIZE;
	errno = 0;
	if (write(c->fd, line, (size_t)n) != n || (sync && fdatasync(c->fd) != 0)) {
		err = errno != 0 ? -errno : -ENOSPC;
		/* Half a line would break the chain. */
		if (ftruncate(c->fd, c->size) != 0)
			pk_error("audit log: half a line could not be taken back");
		return err;
	}
	c->nb++;
	c->size += n;
	hash_line(line, (size_t)n - 1, c->head);
	return 0;
}
