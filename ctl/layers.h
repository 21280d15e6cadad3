#pragma once

#include <stdbool.h>

#include "ctl/pcapng.h"
#include "lib/addr.h"

/*
 * From a recorded packet down to its transport, for offline inspection: any link type that captures of
 * IP traffic have, VLAN, MPLS, PPPoE, IPv6 extensions, fragments, and the tunnels GRE, IPIP and 6in4.
 * Captures are taken anywhere, so unlike fw/parse.h this reads whatever can be read.
 */
struct ctl_layers {
	struct pk_addr src, dst;
	uint8_t proto; /* of the innermost IP packet */
	uint16_t sport, dport;
	const uint8_t *
	    payload; /* borrowed from the packet, or from the table of fragments until the next call */
	uint32_t len;
	uint32_t seq; /* TCP, with its flags as in the header */
	uint8_t tcp_flags;
};

/* Fragments waiting for the rest: at most CTL_FRAGMENTS packets, the oldest goes first. */
#define CTL_FRAGMENTS 64
struct ctl_fragments;

struct ctl_fragments *ctl_fragments_create(void);
void ctl_fragments_destroy(struct ctl_fragments *f);

/* True when *out has been filled with a whole TCP or UDP datagram, or a packet of another protocol. */
bool ctl_layers(struct ctl_fragments *f, const struct ctl_packet *p, struct ctl_layers *out);
