#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/*
 * Frames from words, for tests: `in tcp SA seq 300 ack 101 win 65535 mss 1460` is a whole, correct
 * Ethernet frame, and each word more makes it special or wrong.  tests/replay/README.md lists the
 * words.  No DPDK here.
 *
 * The stage is always the same:
 *
 *     workload  neighbour ... idle | inside -- wire 0 -- outside | router -- peer, known, ...
 */
#define PACKET_MAX 9216 /* bytes of a frame */

enum packet_side {
	PACKET_IN = 0, /* received on the inside port */
	PACKET_OUT,
};

/* What stays the same over the packets of a sequence. */
struct packet_stage {
	unsigned int family; /* 4 or 6 */
	bool client_outside; /* who has the ephemeral port */
	uint16_t client_port, server_port;
};

struct packet {
	uint8_t bytes[PACKET_MAX];
	size_t len;
	enum packet_side side;
	uint16_t wire;
	/* `partial`: hand it over with partial_sum at partial_at, as a virtual port does, which leaves
	 * the transport checksum to whoever sends it on.  `bytes` has the right one. */
	bool partial;
	size_t partial_at;
	uint16_t partial_sum;
};

/*
 * Make the frame that words[0 .. n - 1] describe.  Returns 0, or -EINVAL with a sentence in
 * err[0 .. err_len - 1].
 */
int packet_build(struct packet *out, const struct packet_stage *stage, char *const *words,
    unsigned int n, char *err, size_t err_len);

/* One of the people on the stage, or a literal address.  Returns 0 or -EINVAL. */
int packet_addr(struct pk_addr *out, unsigned int family, const char *word);
extern const uint8_t packet_workload_mac[6], packet_gateway_mac[6];

/* Name a number that was seen, of whichever packet; names are words of packet_number().  0 or -EINVAL. */
int packet_set(const char *name, uint32_t value);

/* A number, decimal or 0x; sums as in 4294967290+10 wrap at 2^32.  Returns 0 or -EINVAL. */
int packet_number(uint32_t *out, const char *word);

/* ICMP message by the name the tests use; the type and code of the family.  0 or -EINVAL. */
int packet_icmp(unsigned int family, const char *name, uint8_t *type, uint8_t *code);

/* What a receiver reads from a frame. */
struct packet_view {
	unsigned int family; /* 4, 6, or 0: not IP */
	const uint8_t *ether, *ip, *l4, *payload;
	size_t ether_len, ip_len, l4_len, payload_len;
	struct pk_addr src, dst;
	uint8_t proto, hops;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t tcp_flags, icmp_type, icmp_code;
	uint16_t win;
	/* TCP options; -1: none, and zero what there is not. */
	int mss, scale;
	bool sackok, timestamps;
	uint32_t tsval, tsecr, sack[8];
	unsigned int nb_sack;
	bool checksums_ok; /* of IP and of the transport; in a tunnel, of the outer ones too */
	struct pk_addr tunnel_src, tunnel_dst; /* family 0: in no tunnel */
	uint32_t vni;
};

void packet_read(struct packet_view *out, const uint8_t *bytes, size_t len);

/* One line about a frame.  Returns buf. */
const char *packet_text(const uint8_t *bytes, size_t len, char *buf, size_t buf_len);
