/*
 * Two data planes face to face, for measuring picket-iked: what IKE packets one key maker sends, the other gets, and
 * every request is granted at once.  Nothing else is done, so the key makers are all that is measured.
 *
 *   ike_relay SOCKET ADDRESS SOCKET ADDRESS
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/sadb.h"

struct side {
	struct pk_addr addr;
	int listener, fd;
	uint32_t spi;
};

static struct side side[2];

static void
tell(const struct side *s, struct pk_sadb *m, const void *more, size_t len)
{
	struct iovec iov[] = { { m, sizeof(*m) }, { (void *)(uintptr_t)more, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len > 0 ? 2 : 1 };

	m->h.more = (uint32_t)len;
	if (s->fd >= 0)
		(void)!sendmsg(s->fd, &msg, MSG_NOSIGNAL);
}

static void
greet(const struct side *s)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "ike_relay");
	m.hello.epoch = 1;
	m.hello.nb_sas_max = 1 << 20;
	tell(s, &m, NULL, 0);
	pk_sadb_init(&m, PK_SADB_LOCAL, 0);
	m.local.addr = s->addr;
	m.local.prefix_len = 24;
	m.local.mtu = 1500;
	tell(s, &m, NULL, 0);
}

static void
serve(struct side *s, const struct side *other)
{
	struct {
		struct pk_sadb m;
		uint8_t more[PK_SADB_IKE_MAX];
	} in;
	struct pk_sadb answer;
	struct pk_diag diag;
	ssize_t n = recv(s->fd, &in, sizeof(in), 0);

	if (n <= 0 || pk_sadb_check(&in.m, (size_t)n, &diag) < 0) {
		close(s->fd);
		s->fd = -1;
		return;
	}
	switch (in.m.h.type) {
	case PK_SADB_HELLO:
		greet(s);
		return;
	case PK_SADB_IKE:
		tell(other, &in.m, in.more, (size_t)n - sizeof(in.m));
		return;
	case PK_SADB_QUERY_SA:
	default:
		pk_sadb_init(&answer, PK_SADB_ANSWER, in.m.h.seq);
		answer.answer.spi = in.m.h.type == PK_SADB_GET_SPI ? s->spi++ : 0;
		answer.answer.idle_ns = UINT64_MAX;
		tell(s, &answer, NULL, 0);
	}
}

int
main(int argc, char **argv)
{
	struct pk_diag diag;

	signal(SIGPIPE, SIG_IGN);
	if (argc != 5) {
		fprintf(stderr, "usage: ike_relay SOCKET ADDRESS SOCKET ADDRESS\n");
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		int size = 4 << 20;

		snprintf(un.sun_path, sizeof(un.sun_path), "%s", argv[1 + 2 * i]);
		unlink(un.sun_path);
		side[i] = (struct side){ .fd = -1, .spi = 0xc0000100u };
		side[i].listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		if (pk_addr_parse(&side[i].addr, argv[2 + 2 * i], &diag) < 0 ||
		    bind(side[i].listener, (struct sockaddr *)&un, sizeof(un)) != 0 ||
		    listen(side[i].listener, 1) != 0) {
			perror(un.sun_path);
			return 1;
		}
		(void)setsockopt(side[i].listener, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	for (;;) {
		struct pollfd pfd[4];

		for (int i = 0; i < 2; i++) {
			pfd[i] = (struct pollfd){ .fd = side[i].fd, .events = POLLIN };
			pfd[2 + i] = (struct pollfd){ .fd = side[i].listener, .events = POLLIN };
		}
		if (poll(pfd, 4, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++) {
			if (pfd[i].revents != 0)
				serve(&side[i], &side[1 - i]);
			if (pfd[2 + i].revents != 0) {
				if (side[i].fd >= 0)
					close(side[i].fd);
				side[i].fd = accept(side[i].listener, NULL, NULL);
			}
		}
	}
}
