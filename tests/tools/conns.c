/*
 * Many TCP connections at once, for tests of what happens to open ones.
 *
 *   conns serve ADDRESS PORT [MS]                 sends a byte on each connection every 20 ms, or MS
 *   conns connect ADDRESS PORT NUMBER SECONDS     opens NUMBER connections, says when all of them carry
 *                                                 data, and reads for SECONDS more; at SIGUSR1 it says how
 *                                                 many have carried data since SIGUSR2
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
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

#define CONNS_MAX 60000
#define AT_ONCE   512 /* connections that are being opened */
#define OPEN_S    5   /* one more connection must carry data within this time */

static volatile sig_atomic_t asked, begins;

static void
on_signal(int number)
{
	if (number == SIGUSR1)
		asked = 1;
	else
		begins = 1;
}

PK_NORETURN static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int
serve(const struct sockaddr_in *addr, unsigned int ms)
{
	static int conns[CONNS_MAX];
	unsigned int nb = 0;
	uint64_t next = pk_clock_mono_ns();
	int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(s, (const struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(s, CONNS_MAX) < 0)
		die("conns: listen");
	for (;;) {
		/* The first byte at once: a connection carries data from its beginning. */
		while (nb < CONNS_MAX && (conns[nb] = accept4(s, NULL, NULL, SOCK_NONBLOCK)) >= 0)
			(void)!send(conns[nb++], "x", 1, MSG_NOSIGNAL);
		if (pk_clock_mono_ns() < next) {
			usleep(2000);
			continue;
		}
		for (unsigned int i = 0; i < nb; i++) {
			if (send(conns[i], "x", 1, MSG_NOSIGNAL) == 1 || errno == EAGAIN)
				continue;
			close(conns[i]);
			conns[i--] = conns[--nb];
		}
		next += ms * PK_NS_PER_MS;
	}
}

static void
open_one(const struct sockaddr_in *addr, int ep)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = s };

	if (s < 0 || s >= CONNS_MAX + 64)
		die("conns: socket");
	if (connect(s, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno != EINPROGRESS)
		die("conns: connect");
	epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
}

static int
connect_all(const struct sockaddr_in *addr, unsigned int nb, unsigned int seconds)
{
	static bool carries[CONNS_MAX + 64], again[CONNS_MAX + 64];
	uint64_t now = pk_clock_mono_ns(), deadline = now + OPEN_S * PK_NS_PER_S;
	unsigned int nb_carry = 0, nb_again = 0, nb_open = 0;
	int ep = epoll_create1(0);

	for (; now < deadline; now = pk_clock_mono_ns()) {
		struct epoll_event events[256];
		int n;

		while (nb_open < nb && nb_open - nb_carry < AT_ONCE) {
			open_one(addr, ep);
			nb_open++;
		}
		n = epoll_wait(ep, events, 256, 50);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			char buf[4096];
			ssize_t got = recv(fd, buf, sizeof(buf), 0);

			if (got <= 0 && errno != EAGAIN) {
				epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
				continue;
			}
			if (got <= 0)
				continue;
			nb_again += !again[fd];
			again[fd] = true;
			if (carries[fd])
				continue;
			carries[fd] = true;
			deadline = pk_clock_mono_ns() + OPEN_S * PK_NS_PER_S;
			if (++nb_carry == nb) {
				printf("%u connected\n", nb);
				fflush(stdout);
				deadline = pk_clock_mono_ns() + seconds * PK_NS_PER_S;
			}
		}
		if (asked) {
			asked = 0;
			printf("%u go on\n", nb_again);
			fflush(stdout);
		}
		if (begins) {
			begins = 0;
			memset(again, 0, sizeof(again));
			nb_again = 0;
		}
	}
	return nb_carry == nb ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	if (argc < 4 || inet_pton(AF_INET, argv[2], &addr.sin_addr) != 1) {
		fprintf(stderr,
		    "usage: conns serve ADDRESS PORT [MS] | conns connect ADDRESS PORT NUMBER SECONDS\n");
		return 2;
	}
	addr.sin_port = htons((uint16_t)atoi(argv[3]));
	if (strcmp(argv[1], "serve") == 0)
		return serve(&addr, argc > 4 ? (unsigned int)atoi(argv[4]) : 20);
	if (argc != 6 || atoi(argv[4]) < 1 || atoi(argv[4]) > CONNS_MAX)
		return 2;
	return connect_all(&addr, (unsigned int)atoi(argv[4]), (unsigned int)atoi(argv[5]));
}
