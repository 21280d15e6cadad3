#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "tls-offload/tlsd_priv.h"

#define BACKLOG 4096

/* Not in glibc's headers: <linux/in6.h> has it. */
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

void
tlso_sockaddr(struct sockaddr_storage *out, socklen_t *len, const struct pk_addr *a, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	if (a->family == 4) {
		struct sockaddr_in *s = (struct sockaddr_in *)out;

		s->sin_family = AF_INET;
		s->sin_port = htons(port);
		memcpy(&s->sin_addr, a->bytes, 4);
		*len = sizeof(*s);
	} else {
		struct sockaddr_in6 *s = (struct sockaddr_in6 *)out;

		s->sin6_family = AF_INET6;
		s->sin6_port = htons(port);
		memcpy(&s->sin6_addr, a->bytes, 16);
		*len = sizeof(*s);
	}
}

int
tlso_sockaddr_read(const struct sockaddr_storage *s, struct pk_addr *a, uint16_t *port)
{
	memset(a, 0, sizeof(*a));
	if (s->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)s;

		a->family = 4;
		memcpy(a->bytes, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return 0;
	}
	if (s->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)s;

		a->family = 6;
		memcpy(a->bytes, &in->sin6_addr, 16);
		*port = ntohs(in->sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

/* A socket that may have any address, and speaks by the wire's interface alone. */
static int
open_socket(const struct tlso_wire *w, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
	bool v6 = family == AF_INET6;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
	        &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, w->iface, (socklen_t)strlen(w->iface) + 1) <
	        0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

int
tlso_listen(const struct tlso_wire *w, int family, uint16_t port)
{
	struct pk_addr any = { .family = family == AF_INET ? 4 : 6 };
	struct sockaddr_storage s;
	socklen_t len;
	int fd = open_socket(w, family), on = 1, err;

	if (fd < 0)
		return fd;
	tlso_sockaddr(&s, &len, &any, port);
	/* Every worker has a listener, and so has a process that takes this one's place. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
	    bind(fd, (struct sockaddr *)&s, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int
tlso_connect(const struct tlso_wire *w, const struct pk_addr *src, uint16_t sport,
    const struct pk_addr *dst, uint16_t dport)
{
	struct sockaddr_storage from, to;
	socklen_t from_len, to_len;
	int fd = open_socket(w, src->family == 4 ? AF_INET : AF_INET6), on = 1, err;

	if (fd < 0)
		return fd;
	tlso_sockaddr(&to, &to_len, dst, dport);
	tlso_sockaddr(&from, &from_len, src, sport);
	/* The same port as at the other DPU, if it is to be had. */
	if (sport == 0 || bind(fd, (struct sockaddr *)&from, from_len) < 0) {
		tlso_sockaddr(&from, &from_len, src, 0);
		(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
		if (bind(fd, (struct sockaddr *)&from, from_len) < 0)
			goto fail;
	}
	if (connect(fd, (struct sockaddr *)&to, to_len) == 0 || errno == EINPROGRESS)
		return fd;
fail:
	err = errno;
	close(fd);
	return -err;
}

void
tlso_reset_close(int fd)
{
	struct linger now = { .l_onoff = 1 };

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}
