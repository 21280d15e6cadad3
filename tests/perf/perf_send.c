/*
 * Sends captures by packet sockets, over and over: for peers that have no port which replays a capture.
 *
 *   perf_send SECONDS INTERFACE FILE [INTERFACE FILE]
 *
 * Two are sent in turns of 1,024 packets.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define BATCH 64
#define TURN  1024

struct capture {
	int fd;
	size_t nb, at;
	struct iovec *packet;
};

static void
die(const char *what)
{
	fprintf(stderr, "perf_send: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
read_capture(struct capture *c, const char *path)
{
	FILE *f = fopen(path, "r");
	uint32_t header[6], record[4];
	size_t room = 0;

	if (f == NULL || fread(header, sizeof(header), 1, f) != 1)
		die(path);
	while (fread(record, sizeof(record), 1, f) == 1) {
		if (c->nb == room) {
			room = room != 0 ? 2 * room : 4096;
			c->packet = realloc(c->packet, room * sizeof(c->packet[0]));
			if (c->packet == NULL)
				die(path);
		}
		c->packet[c->nb].iov_len = record[2];
		c->packet[c->nb].iov_base = malloc(record[2]);
		if (c->packet[c->nb].iov_base == NULL ||
		    fread(c->packet[c->nb].iov_base, record[2], 1, f) != 1)
			die(path);
		c->nb++;
	}
	if (c->nb == 0) {
		errno = ENODATA;
		die(path);
	}
	fclose(f);
}

static void
open_socket(struct capture *c, const char *interface)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET };
	int one = 1, bytes = 64 << 20;

	a.sll_ifindex = (int)if_nametoindex(interface);
	c->fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (c->fd < 0 || a.sll_ifindex == 0 || bind(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(interface);
	(void)setsockopt(c->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
}

static void
send_turn(struct capture *c)
{
	for (size_t sent = 0; sent < TURN;) {
		struct mmsghdr m[BATCH];
		int n;

		memset(m, 0, sizeof(m));
		for (unsigned int i = 0; i < BATCH; i++) {
			m[i].msg_hdr.msg_iov = &c->packet[(c->at + i) % c->nb];
			m[i].msg_hdr.msg_iovlen = 1;
		}
		n = sendmmsg(c->fd, m, BATCH, MSG_DONTWAIT);
		if (n > 0) {
			sent += (size_t)n;
			c->at = (c->at + (size_t)n) % c->nb;
		} else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) {
			sched_yield();
		} else {
			die("send");
		}
	}
}

int
main(int argc, char **argv)
{
	struct capture capture[2] = { { .fd = -1 } };
	unsigned int nb = (unsigned int)(argc - 2) / 2;
	struct timespec t;
	time_t end;

	if ((argc != 4 && argc != 6) || atoi(argv[1]) <= 0) {
		fprintf(stderr, "usage: perf_send SECONDS INTERFACE FILE [INTERFACE FILE]\n");
		return 2;
	}
	for (unsigned int i = 0; i < nb; i++) {
		open_socket(&capture[i], argv[2 + 2 * i]);
		read_capture(&capture[i], argv[3 + 2 * i]);
	}
	clock_gettime(CLOCK_MONOTONIC, &t);
	end = t.tv_sec + atoi(argv[1]);
	do {
		for (unsigned int i = 0; i < nb; i++)
			send_turn(&capture[i]);
		clock_gettime(CLOCK_MONOTONIC, &t);
	} while (t.tv_sec < end);
	return 0;
}
