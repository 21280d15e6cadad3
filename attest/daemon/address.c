#include <errno.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "attest/daemon/channel.h"

union any {
	struct sockaddr sa;
	struct sockaddr_storage storage;
	struct sockaddr_un un;
	struct sockaddr_vm vm;
};

static int
read_tcp(const char *text, union any *out, socklen_t *len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *found;
	const char *colon = strrchr(text, ':');
	char host[256];
	size_t n;

	if (colon == NULL || (n = (size_t)(colon - text)) >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
		memmove(host, host + 1, n - 2);
		host[n - 2] = '\0';
	}
	if (getaddrinfo(host[0] != '\0' ? host : NULL, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static int
address_read(const char *text, union any *out, socklen_t *len, struct pk_diag *d)
{
	unsigned int cid, port;
	char rest;

	memset(out, 0, sizeof(*out));
	if (strncmp(text, "tcp:", 4) == 0 && read_tcp(text + 4, out, len) == 0)
		return 0;
	if (sscanf(text, "vsock:%u:%u%c", &cid, &port, &rest) == 2) {
		out->vm.svm_family = AF_VSOCK;
		out->vm.svm_cid = cid;
		out->vm.svm_port = port;
		*len = sizeof(out->vm);
		return 0;
	}
	if (strncmp(text, "unix:", 5) == 0 && text[5] != '\0' &&
	    strlen(text + 5) < sizeof(out->un.sun_path)) {
		out->un.sun_family = AF_UNIX;
		strcpy(out->un.sun_path, text + 5);
		*len = sizeof(out->un);
		return 0;
	}
	pk_diag_set(d, "%s: want tcp:ADDRESS:PORT, vsock:CID:PORT or unix:PATH", text);
	return -EINVAL;
}

static int
open_socket(const char *text, union any *a, socklen_t *len, struct pk_diag *d)
{
	int fd, one = 1, rc = address_read(text, a, len, d);

	if (rc < 0)
		return rc;
	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		rc = -errno;
		pk_diag_set(d, "%s: %s", text, strerror(-rc));
		return rc;
	}
	if (a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	}
	return fd;
}

int
attest_address_listen(const char *address, struct pk_diag *d)
{
	union any a;
	socklen_t len;
	int rc, fd = open_socket(address, &a, &len, d);

	if (fd < 0)
		return fd;
	if (a.sa.sa_family == AF_UNIX)
		unlink(a.un.sun_path);
	if (bind(fd, &a.sa, len) < 0 || listen(fd, 16) < 0) {
		rc = -errno;
		pk_diag_set(d, "%s: cannot listen: %s", address, strerror(errno));
		close(fd);
		return rc;
	}
	return fd;
}

int
attest_address_connect(const char *address, struct pk_diag *d)
{
	union any a;
	socklen_t len;
	int rc, fd = open_socket(address, &a, &len, d);

	if (fd < 0)
		return fd;
	if (connect(fd, &a.sa, len) < 0 && errno != EINPROGRESS) {
		rc = -errno;
		pk_diag_set(d, "%s: %s", address, strerror(errno));
		close(fd);
		return rc;
	}
	return fd;
}
