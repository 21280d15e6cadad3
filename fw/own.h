#pragma once

#include "fw/esp.h"
#include "fw/worker.h"

struct event_base;

/*
 * The DPU as a host on the links outside: the addresses that tunnels end at, and what a host owes to its link.  It answers
 * ARP and neighbour solicitations for them, finds out the MAC addresses of others, takes IKE in and sends it out, and
 * learns from ICMP how long packets of a path may be.  No more: it answers nobody else, and opens nothing.
 *
 * Frames come from the lcores by one ring and go to them by others (fw/esp.h), some hundreds of them a second; whoever
 * sends more fills the ring, which is counted.
 */
struct fw_own;

/* An IKE packet for one of our addresses; `bytes` is borrowed. */
typedef void fw_own_ike(
    void *arg, const struct pk_sadb_ike *ike, const uint8_t *bytes, uint32_t len);

/* Pointers are borrowed.  Context of all: control thread.  Returns 0 or -ENOMEM. */
int fw_own_create(struct fw_own **out, struct event_base *base, struct fw_esp *esp,
    struct fw_workers *workers, struct rte_mempool *pool, fw_own_ike *ike, void *arg);
void fw_own_destroy(struct fw_own *o);

/* Send an IKE packet from one of our addresses.  Returns 0; -EADDRNOTAVAIL: ike->src is none of them; -EMSGSIZE; or
 * -ENOBUFS.  While the neighbour is being looked for a few packets wait, and the rest is lost. */
int fw_own_send_ike(
    struct fw_own *o, const struct pk_sadb_ike *ike, const uint8_t *bytes, uint32_t len);

/*
 * Parse "WIRE ADDRESS/LENGTH [vlan ID] [gateway ADDRESS]" into *out, but for MAC and MTU.
 * Returns 0 or -EINVAL with *diag.
 */
int fw_local_parse(struct fw_local *out, const char *text, struct pk_diag *diag);
