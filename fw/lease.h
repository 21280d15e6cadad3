#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "lib/addr.h"

/*
 * Which MAC address a DHCP server has given an address to, for workloads whose MAC the inventory does not name.  The
 * guard (fw/guard.h) asks, and forgets what it remembers whenever this changes.
 *
 * One table for all lcores, of fixed size: when it is full a new lease is not kept, and its address is as free as without.
 */
#define FW_LEASES_MAX 16384

struct fw_leases;

/* `seed`: secret and random.  Context: control thread.  Returns 0 or -ENOMEM. */
int fw_leases_create(struct fw_leases **out, const uint64_t seed[2]);
void fw_leases_destroy(struct fw_leases *t);

/* From now on the address is that MAC's, until the time comes.  False: there is no room.  Context: any lcore. */
bool fw_leases_put(struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a,
    const uint8_t mac[6], uint64_t until_ns);

/* The lease is over, if it is that MAC's. */
void fw_leases_end(struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a,
    const uint8_t mac[6]);

/* Whose the address is.  False: it is nobody's in particular. */
bool fw_leases_get(
    struct fw_leases *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a, uint8_t mac[6]);

/* End what is over.  Cheap while there is nothing to do. */
void fw_leases_expire(struct fw_leases *t, uint64_t now_ns);

/* Differs after each change.  Context: any. */
uint32_t fw_leases_version(const struct fw_leases *t);
uint32_t fw_leases_nb(const struct fw_leases *t);
