#include "lib/local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#define BACKLOG 16

struct pk_listener {
	int fd;
	struct event *readable;
	pk_listener_accept *accept;
	void *arg;
	struct sockaddr_un addr;
};

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pk_listener *l = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (client >= 0)
		l->accept(l->arg, client);
}

/* Returns 0 or negative errno; l->fd is open or -1. */
static int
open_socket(struct pk_listener *l, int type)
{
	mode_t mask;
	int rc;

	unlink(l->addr.sun_path);
	l->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return -errno;
	mask = umask(0117);
	rc = bind(l->fd, (struct sockaddr *)&l->addr, sizeof(l->addr)) < 0 ||
	        listen(l->fd, BACKLOG) < 0
	    ? -errno
	    : 0;
	umask(mask);
	return rc;
}

int
pk_listener_create(struct pk_listener **out, struct event_base *base, const char *path, int type,
    pk_listener_accept *accept, void *arg, struct pk_diag *diag)
{
	struct pk_listener *l;
	int rc;

	if (strlen(path) >= sizeof(l->addr.sun_path)) {
		pk_diag_set(diag, "%s: a socket's path has at most %zu bytes", path,
		    sizeof(l->addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL) {
		pk_diag_set(diag, "%s: no memory to listen", path);
		return -ENOMEM;
	}
	l->accept = accept;
	l->arg = arg;
	l->addr.sun_family = AF_UNIX;
	strcpy(l->addr.sun_path, path);
	rc = open_socket(l, type);
	if (rc == 0) {
		l->readable = event_new(base, l->fd, EV_READ | EV_PERSIST, on_readable, l);
		rc = l->readable != NULL && event_add(l->readable, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		pk_diag_set(diag, "%s: cannot listen: %s", path, strerror(-rc));
		pk_listener_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
pk_listener_destroy(struct pk_listener *l)
{
	if (l == NULL)
		return;
	if (l->readable != NULL)
		event_free(l->readable);
	if (l->fd >= 0) {
		close(l->fd);
		unlink(l->addr.sun_path);
	}
	free(l);
}

int
pk_local_connect(const char *path, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

ssize_t
pk_local_send(int fd, const void *bytes, size_t len, int with)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (with >= 0) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &with, sizeof(int));
	}
	n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n >= 0 ? n : -errno;
}

ssize_t
pk_local_recv(int fd, void *bytes, size_t size, int *with)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = size };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*with = -1;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(with, CMSG_DATA(c), sizeof(int));
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		if (*with >= 0)
			close(*with);
		*with = -1;
		return -EPROTO;
	}
	return n;
}
