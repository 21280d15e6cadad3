#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "fw/nft/plane.h"
#include "fw/nft/review.h"
#include "fw/nft/track.h"
#include "fw/nft/wire.h"

/*
 * The kernel plane in this process, in a network namespace of its own, for tools that send it frames:
 *
 *      pin == in0 --[ picket0 ]-- out0 == pout          without addresses
 */
struct kernel {
	struct event_base *base;
	struct nft_wire wire;
	struct nft_plane *plane;
	struct nft_track *track;
	struct nft_review *review;
	int fd[2]; /* on pin and pout: AF_PACKET, not blocking */
	unsigned int index[2];
	uint32_t seconds[NFT_TIMEOUT_COUNT];
};

static inline void
must(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(2);
	}
}

static inline void
run(const char *command)
{
	must(system(command) == 0, command);
}

static inline int
packet_socket(const char *name, unsigned int *index)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0003) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x0003)), size = 16 << 20,
	    one = 1;

	must(fd >= 0, "AF_PACKET");
	*index = if_nametoindex(name);
	at.sll_ifindex = (int)*index;
	must(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0, name);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	(void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	return fd;
}

static inline void
on_changed(void *arg)
{
	struct kernel *k = arg;

	nft_review_start(k->review);
}

static inline void
kernel_start(struct kernel *k)
{
	struct nft_plane_conf conf = { .changed = on_changed, .arg = k, .first_stamp = 1 };
	struct nft_track_conf track = { .nb_wires = 1, .seconds = k->seconds };
	struct pk_diag diag = { .text = "" };
	int rc;

	must(unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0,
	    "network namespace");
	run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1");
	run("ip link add in0 type veth peer name pin && ip link add out0 type veth peer name pout && "
	    "ip link set in0 up && ip link set out0 up && ip link set pin up arp off && ip link set pout up arp off");
	for (unsigned int i = 0; i < NFT_TIMEOUT_COUNT; i++)
		k->seconds[i] = 600;
	k->base = event_base_new();
	track.base = k->base;
	conf.ruleset = (struct nft_ruleset_conf){
		.wires = &k->wire, .nb_wires = 1, .log_group = 9035, .table = "picket"
	};
	memcpy(conf.ruleset.seconds, k->seconds, sizeof(k->seconds));
	rc = nft_wire_parse(&k->wire, 0, "in0 out0", &diag);
	if (rc == 0)
		rc = nft_wire_open(&k->wire, &diag);
	if (rc == 0)
		rc = nft_plane_create(&k->plane, &conf, &diag);
	if (rc == 0)
		rc = nft_conntrack_setup(false, &diag);
	if (rc == 0)
		rc = nft_wire_join(&k->wire, &diag);
	if (rc == 0)
		rc = nft_track_create(&k->track, &track, &diag);
	if (rc == 0)
		rc = nft_review_create(&k->review, k->track, k->plane);
	if (rc < 0) {
		fprintf(stderr, "kernel plane: %s\n", diag.text);
		exit(2);
	}
	k->fd[0] = packet_socket("pin", &k->index[0]);
	k->fd[1] = packet_socket("pout", &k->index[1]);
}

static inline void
kernel_settle(struct kernel *k)
{
	struct nft_review_counts c;

	for (nft_review_counts(k->review, &c); c.under_way; nft_review_counts(k->review, &c))
		event_base_loop(k->base, EVLOOP_ONCE);
}
