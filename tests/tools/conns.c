/*
 * Many TCP connections at once, for tests of what happens to open ones.
 *
 *   conns serve ADDRESS PORT                      sends a byte on each connection every 20 ms
 *   conns connect ADDRESS PORT NUMBER SECONDS     opens NUMBER connections, says when all of them carry
 *                                                 data, and reads for SECONDS more
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/clock.h"

#define CONNS_MAX 4096
#define EVERY_NS  (20 * PK_NS_PER_MS)
#define OPEN_S    5 /* all connections must carry data within this time */

PK_NORETURN static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int
serve(const struct sockaddr_in *addr)
{
	static int conns[CONNS_MAX];
	unsigned int nb = 0;
	uint64_t next = pk_clock_mono_ns();
	int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (const struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(s, CONNS_MAX) < 0)
		die("conns: listen");
	for (;;) {
		while (nb < CONNS_MAX && (conns[nb] = accept4(s, NULL, NULL, SOCK_NONBLOCK)) >= 0)
			nb++;
		for (unsigned int i = 0; i < nb; i++) {
			if (send(conns[i], "x", 1, MSG_NOSIGNAL) == 1 || errno == EAGAIN)
				continue;
			close(conns[i]);
			conns[i--] = conns[--nb];
		}
		next += EVERY_NS;
		if (next > pk_clock_mono_ns())
			usleep((useconds_t)((next - pk_clock_mono_ns()) / 1000));
	}
}

static int
connect_all(const struct sockaddr_in *addr, unsigned int nb, unsigned int seconds)
{
	static bool carries[CONNS_MAX * 2];
	uint64_t now = pk_clock_mono_ns(), deadline = now + OPEN_S * PK_NS_PER_S;
	unsigned int nb_carry = 0;
	int ep = epoll_create1(0);

	for (unsigned int i = 0; i < nb; i++) {
		int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		struct epoll_event e = { .events = EPOLLIN, .data.fd = s };

		if (s < 0 || (unsigned int)s >= PK_COUNT(carries))
			die("conns: socket");
		if (connect(s, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
		    errno != EINPROGRESS)
			die("conns: connect");
		epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
	}
	for (; now < deadline; now = pk_clock_mono_ns()) {
		struct epoll_event events[256];
		int n = epoll_wait(ep, events, 256, 50);

		for (int i = 0; i < n; i++) {
			char buf[4096];
			ssize_t got = recv(events[i].data.fd, buf, sizeof(buf), 0);

			if (got <= 0 && errno != EAGAIN) {
				epoll_ctl(ep, EPOLL_CTL_DEL, events[i].data.fd, NULL);
				continue;
			}
			if (got <= 0 || carries[events[i].data.fd])
				continue;
			carries[events[i].data.fd] = true;
			if (++nb_carry == nb) {
				printf("%u connected\n", nb);
				fflush(stdout);
				deadline = pk_clock_mono_ns() + seconds * PK_NS_PER_S;
			}
		}
	}
	return nb_carry == nb ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct rlimit files = { 65536, 65536 };

	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (argc < 4 || inet_pton(AF_INET, argv[2], &addr.sin_addr) != 1) {
		fprintf(stderr,
		    "usage: conns serve ADDRESS PORT | conns connect ADDRESS PORT NUMBER SECONDS\n");
		return 2;
	}
	addr.sin_port = htons((uint16_t)atoi(argv[3]));
	if (strcmp(argv[1], "serve") == 0)
		return serve(&addr);
	if (argc != 6 || atoi(argv[4]) < 1 || atoi(argv[4]) > CONNS_MAX)
		return 2;
	return connect_all(&addr, (unsigned int)atoi(argv[4]), (unsigned int)atoi(argv[5]));
}
