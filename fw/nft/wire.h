#pragma once

#include "fw/nft/ruleset.h"
#include "lib/diag.h"

/*
 * A wire in the kernel: a bridge of two ports that looks at nothing itself.
 *
 * It learns no addresses: what comes in by one port leaves by the other, as on a wire, and nobody can draw traffic
 * to himself by sending from somebody's MAC address.  Frames with IP pass the `inet` hooks by br_netfilter,
 * switched on for this bridge alone; docs/nft.md says why not by nf_conntrack_bridge.
 */

/*
 * Read "INSIDE OUTSIDE", or "INSIDE OUTSIDE routed" for ports between which this machine routes.
 * Returns 0, or -EINVAL with *diag.
 */
int nft_wire_parse(struct nft_wire *out, uint16_t number, const char *text, struct pk_diag *diag);

/*
 * Make sure that ports and br_netfilter are there, and make its bridge, which is shut until nft_wire_join().
 * Context: control thread, before privileges are dropped.  Returns 0 or negative errno with *diag.
 */
int nft_wire_open(struct nft_wire *w, struct pk_diag *diag);

/* Put the ports into the bridge: frames pass as the ruleset says, which has to be in force. */
int nft_wire_join(const struct nft_wire *w, struct pk_diag *diag);

/* Take its bridge away: nothing passes any more.  Nothing to do when wires are routed, or there is none. */
int nft_wire_remove(const struct nft_wire *w, struct pk_diag *diag);

/* How conntrack is to judge: /proc/sys/net/netfilter of this network namespace. */
int nft_conntrack_setup(bool tcp_loose, struct pk_diag *diag);
