#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

struct rte_mbuf;
struct rte_mempool;
struct fw_macsec;

/*
 * A DPDK port of whatever kind, opened by a short name:
 *
 *   af_packet:IFACE     a kernel interface, by AF_PACKET ring
 *   af_xdp:IFACE        the same by AF_XDP
 *   tap:NAME            a kernel interface made for us
 *   pci:ADDRESS         a device bound to a DPDK driver (or bifurcated, as mlx5)
 *   vdev:DEVARGS        any virtual device, in DPDK's own words: vdev:net_memif0,role=server
 *   name:PORT           a port that exists already, such as a representor
 *
 * Kernel interfaces hand over frames that were never meant for a wire: TCP and UDP checksums still
 * to be filled in.  For those kinds reception recognises such frames and completes them.
 */
#define FW_PORT_RETA 512 /* entries of an indirection table, at most */

struct fw_port {
	uint16_t id;        /* DPDK's number */
	uint16_t nb_queues; /* receive and transmit queues in use */
	uint16_t reta_mask; /* several queues: of the RSS hash, and which queue it chooses */
	uint16_t reta[FW_PORT_RETA];
	bool kernel;              /* af_packet, af_xdp: frames may have partial checksums */
	struct fw_macsec *macsec; /* what is between it and the path; borrowed, NULL: nothing */
	char spec[256];           /* as configured */
};

/*
 * Attach and start a port with up to `nb_queues` queues; when it cannot spread flows over that many
 * symmetrically, by the key of fw/steer.h and a table that we know, it gets one.  Context: control thread, before lcores run.
 * Returns 0 or negative errno with *diag.
 */
int fw_port_open(struct fw_port *port, const char *spec, uint16_t nb_queues,
    struct rte_mempool *pool, struct pk_diag *diag);
void fw_port_close(struct fw_port *port);

/* Have the port take packets of `want` octets, behind their Ethernet header, if it takes fewer and can be told.
 * Returns how many it takes.  Context: control thread, before privileges are dropped. */
uint32_t fw_port_mtu(const struct fw_port *port, uint32_t want);

/* Receive at most n packets, fit for the path.  Context: the lcore that owns the queue. */
unsigned int fw_port_rx(
    const struct fw_port *port, uint16_t queue, struct rte_mbuf **pkts, unsigned int n);
