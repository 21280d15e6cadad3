#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/grant.h"
#include "lib/local.h"
#include "lib/log.h"

#define RETRY_MS 200

struct pk_grant_source {
	struct event_base *base;
	const char *path;
	char program[PK_GRANT_PROGRAM_MAX];
	pk_grant_take *take;
	void *arg;
	int fd;
	struct event *readable, *retry;
	bool told; /* that the agent is not there */
};

static void
lose(struct pk_grant_source *s, const char *why)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };

	if (s->fd >= 0) {
		pk_notice("%s: disconnected: %s", s->path, why);
		event_free(s->readable);
		s->readable = NULL;
		close(s->fd);
		s->fd = -1;
	}
	event_add(s->retry, &retry);
}

/* ---- a set ---- */

struct list {
	struct pk_grant *at;
	size_t nb;
};

static void
count(void *arg, const struct pk_grant *g)
{
	struct list *l = arg;

	(void)g;
	l->nb++;
}

static void
collect(void *arg, const struct pk_grant *g)
{
	struct list *l = arg;

	l->at[l->nb++] = *g;
}

/* In memory that cannot change its size under us, and is read once. */
static int
take_file(struct pk_grant_source *s, int fd, struct pk_diag *diag)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct list l = { 0 };
	struct stat st;
	size_t len;
	void *map;
	int rc;

	pk_diag_set(diag, "what it sends is no sealed memory file with a set of grants");
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size <= 0 || st.st_size > (off_t)PK_GRANTS_MAX ||
	    (fcntl(fd, F_GET_SEALS) & seals) != seals)
		return -EPROTO;
	len = (size_t)st.st_size;
	map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(map, len, MADV_DONTDUMP);
	rc = pk_grants_parse(map, len, count, &l, diag);
	l.at = rc == 0 ? calloc(l.nb + 1, sizeof(l.at[0])) : NULL;
	if (l.at != NULL) {
		l.nb = 0;
		rc = pk_grants_parse(map, len, collect, &l, diag);
		s->take(s->arg, l.at, l.nb);
	} else if (rc == 0) {
		rc = -ENOMEM;
	}
	free(l.at);
	munmap(map, len);
	return rc;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pk_grant_source *s = arg;
	struct pk_diag diag;
	uint8_t word[4] = { 0 };
	int file;
	ssize_t n = pk_local_recv(fd, word, sizeof(word), &file);

	(void)what;
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		lose(s, n == 0 ? "the agent has gone" : strerror((int)-n));
	else if (n != (ssize_t)sizeof(word) || word[3] != PK_GRANT_WIRE_VERSION)
		lose(s, "it speaks another version of this protocol");
	else if (take_file(s, file, &diag) < 0)
		lose(s, diag.text);
	if (file >= 0)
		close(file);
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct pk_grant_source *s = arg;
	size_t len = strlen(s->program) + 1;

	(void)fd;
	(void)what;
	s->fd = pk_local_connect(s->path, SOCK_SEQPACKET);
	if (s->fd < 0) {
		if (!s->told)
			pk_info("%s: %s; trying again every %d ms", s->path, strerror(-s->fd),
			    RETRY_MS);
		s->told = true;
		s->fd = -1;
		lose(s, "");
		return;
	}
	s->told = false;
	s->readable = event_new(s->base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
	PK_ASSERT(s->readable != NULL && event_add(s->readable, NULL) == 0);
	pk_notice("%s: connected", s->path);
	if (pk_local_send(s->fd, s->program, len, -1) != (ssize_t)len)
		lose(s, "it does not listen");
}

int
pk_grant_source_create(struct pk_grant_source **out, struct event_base *base, const char *path,
    const char *program, pk_grant_take *take, void *arg)
{
	static const struct timeval now;
	struct pk_grant_source *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	PK_ASSERT(strlen(program) < sizeof(s->program));
	strcpy(s->program, program);
	s->base = base;
	s->path = path;
	s->take = take;
	s->arg = arg;
	s->fd = -1;
	s->retry = evtimer_new(base, on_retry, s);
	if (s->retry == NULL || event_add(s->retry, &now) != 0) {
		pk_grant_source_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void
pk_grant_source_destroy(struct pk_grant_source *s)
{
	if (s == NULL)
		return;
	if (s->readable != NULL)
		event_free(s->readable);
	if (s->fd >= 0)
		close(s->fd);
	if (s->retry != NULL)
		event_free(s->retry);
	free(s);
}

bool
pk_grant_source_connected(const struct pk_grant_source *s)
{
	return s != NULL && s->fd >= 0;
}
