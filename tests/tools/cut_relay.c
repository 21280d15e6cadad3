/*
 * A TCP relay that knows where TLS records end, and cuts there.
 *
 *   cut_relay PORT TARGET-PORT ARM      both on 127.0.0.1
 *
 * gRPC writes each message of ours into records of its own, so the end of a record is the end of a message, or of a part
 * of one.  Whoever writes "N" into the file ARM has the connection cut after N more records, counted in both directions,
 * and with "N PID" PID killed (-9) at that moment as well.  The file is gone once that is armed, and ARM.done is there once it
 * is done: so a test can try every boundary in turn, and knows when there are no more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base.h"

#define HEAD   5               /* type, version, length: RFC 8446, section 5.1 */
#define RECORD (HEAD + 0x4800) /* the longest that anybody sends */

struct way {
	int from, to;
	uint8_t bytes[RECORD];
	size_t have;
};

static const char *arm_path;
static long left = -1; /* records; -1: not armed */
static pid_t victim;

static void
look(void)
{
	FILE *f = fopen(arm_path, "re");
	long pid = 0;

	if (f == NULL)
		return;
	if (fscanf(f, "%ld %ld", &left, &pid) < 1)
		left = -1;
	victim = (pid_t)pid;
	fclose(f);
	(void)unlink(arm_path);
}

static void
done(void)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s.done", arm_path);
	f = fopen(path, "we");
	if (f != NULL)
		fclose(f);
	if (victim > 0)
		kill(victim, SIGKILL);
	victim = 0;
	left = -1;
}

static bool
write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* Pass on what is whole.  False: the connection is to be cut. */
static bool
move_records(struct way *w)
{
	ssize_t n = read(w->from, w->bytes + w->have, sizeof(w->bytes) - w->have);

	if (n <= 0)
		return false;
	w->have += (size_t)n;
	while (w->have >= HEAD) {
		size_t len = HEAD + ((size_t)w->bytes[3] << 8 | w->bytes[4]);

		if (len > sizeof(w->bytes))
			return false;
		if (w->have < len)
			break;
		look(); /* what is said last counts */
		if (left == 0) {
			done();
			return false;
		}
		if (!write_all(w->to, w->bytes, len))
			return false;
		w->have -= len;
		memmove(w->bytes, w->bytes + len, w->have);
		if (left > 0)
			left--;
	}
	return true;
}

static int
dial(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One connection at a time: who connects anew has given up the one before. */
static void
relay(int client, uint16_t target, int listener)
{
	static struct way up, down;
	int server = dial(target);
	bool whole = server >= 0;

	up = (struct way){ .from = client, .to = server };
	down = (struct way){ .from = server, .to = client };
	while (whole) {
		struct pollfd p[3] = { { .fd = client, .events = POLLIN },
			{ .fd = server, .events = POLLIN }, { .fd = listener, .events = POLLIN } };

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents != 0)
			whole = move_records(&up);
		if (whole && p[1].revents != 0)
			whole = move_records(&down);
		if (p[2].revents != 0)
			break;
	}
	if (server >= 0)
		close(server);
	close(client);
}

int
main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (argc != 4) {
		fprintf(stderr, "usage: cut_relay PORT TARGET-PORT ARM\n");
		return 2;
	}
	arm_path = argv[3];
	a.sin_port = htons((uint16_t)atoi(argv[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 16) < 0) {
		perror("cut_relay");
		return 1;
	}
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			relay(client, (uint16_t)atoi(argv[2]), listener);
	}
}
