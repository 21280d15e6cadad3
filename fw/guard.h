#pragma once

#include <string.h>

#include "fw/parse.h"
#include "fw/path.h"
#include "fw/rule.h"

/*
 * Is the sender who it says?  The guard stands before sessions and policy, which both believe
 * addresses.
 *
 * From inside, a source address has to be a workload behind this wire, and to come from that
 * workload's MAC address if the inventory names one.  From outside, nobody may use the address of a
 * workload inside.
 *
 * What passes without policy and without a session, and why:
 *
 *   ARP             Nobody can talk without it, it cannot leave the link, and it carries nothing but
 *                   a claim; the claim is checked (sender address and MAC, in Ethernet and in ARP).  A
 *                   sender of 0.0.0.0 is a probe for a duplicate (RFC 5227) and claims nothing.
 *   ND, NS and NA   Likewise for IPv6 (RFC 4861).  Hop limit 255 proves the sender to be on the link.
 *                   A source of :: is duplicate address detection (RFC 4862) and claims nothing.
 *   RS              From inside; it asks for a router.
 *   RA              From outside only: a workload that poses as a router would own the segment.
 *   MLD             Switches need it to deliver the groups that ND lives on (RFC 9777).
 *
 *   DHCP            If it is snooped (`dhcp-server`): from a workload, as itself, to everybody or to one of these
 *                   servers; from one of these to a workload (fw/path_dhcp.c).  What a server gives out binds the
 *                   address to the client's MAC, if the inventory names none (fw/lease.h).
 *
 * Redirects pass in neither direction.  All else goes to policy, and DHCP too when it is not snooped: the guard lets
 * a client that has no address yet speak from 0.0.0.0 or a link-local address, but only DHCP, and then policy
 * decides.  Other link-local traffic is refused: its addresses are in nobody's inventory.
 */
#define FW_GUARD_SLOTS 512

/*
 * What the inventory said about an address, remembered for as long as the generation is in force:
 * behind one DPU there are far fewer senders than packets.  Half a cache line each, since this is read
 * for every packet from inside.
 */
struct fw_guard_slot {
	uint8_t addr[16];
	uint32_t vrf;
	uint16_t wire;
	uint8_t family; /* 0: empty */
	uint8_t known;  /* local endpoint of that wire */
	uint8_t mac[6];
	uint8_t has_mac;
	uint8_t zero;
} __attribute__((aligned(32)));
_Static_assert(sizeof(struct fw_guard_slot) == 32, "two to a cache line");

struct fw_leases;

struct fw_guard {
	uint64_t generation;      /* that all slots are of */
	struct fw_leases *leases; /* borrowed; NULL: there are none */
	uint32_t leases_version;
	struct fw_guard_slot slot[FW_GUARD_SLOTS];
};

/* Forget what is not of `generation`.  The calls below do so themselves. */
void fw_guard_begin(struct fw_guard *g, uint64_t generation);

/* Ask leases about MAC addresses that the inventory does not name, and forget what they have changed since.  Call it
 * before each burst. */
void fw_guard_follow(struct fw_guard *g, struct fw_leases *leases);

/* Where an address is remembered: `a` is the IPv4 address as it lies in memory, or fw_guard_fold() of an IPv6 one. */
static inline unsigned int
fw_guard_slot_of(uint64_t a, uint16_t wire, uint32_t vrf)
{
	a ^= (uint64_t)wire << 48 ^ (uint64_t)vrf << 32;
	return (unsigned int)(a * UINT64_C(0x9e3779b97f4a7c15) >> 40) & (FW_GUARD_SLOTS - 1);
}

/* Of the last words of neighbours only the last byte differs, which a product would hand on to the bits above
 * those that are looked at: one slot for a whole network. */
static inline uint64_t
fw_guard_fold(uint64_t high, uint64_t low)
{
	uint64_t a = high ^ low;

	return a ^ a >> 32;
}

/*
 * Whether `src`, an address as it lies in memory, is remembered as one of a workload of `wire`, outside any VLAN,
 * and the six bytes at `mac` as its MAC; two more are read behind them.  False means no more than that
 * fw_guard_inside() has to be asked.
 */
static inline __attribute__((always_inline)) bool
fw_guard_vouches(const struct fw_guard_slot *s, uint8_t family, uint16_t wire, const uint8_t *mac)
{
	const uint64_t want = (uint64_t)wire << 32 | (uint64_t)family << 48 | UINT64_C(1) << 56;
	uint64_t who, known_mac, their_mac;

	/* From `vrf` to `known` in one load, and the MAC with `has_mac`. */
	memcpy(&who, &s->vrf, sizeof(who));
	memcpy(&known_mac, s->mac, sizeof(known_mac));
	memcpy(&their_mac, mac, sizeof(their_mac));
	return who == want && ((known_mac ^ their_mac) << 16 == 0 || (known_mac >> 48 & 1) == 0);
}

static inline __attribute__((always_inline)) bool
fw_guard_remembers4(const struct fw_guard *g, uint16_t wire, uint32_t src, const uint8_t *mac)
{
	const struct fw_guard_slot *s = &g->slot[fw_guard_slot_of(src, wire, 0)];
	uint32_t addr;

	memcpy(&addr, s->addr, sizeof(addr));
	return addr == src && fw_guard_vouches(s, 4, wire, mac);
}

static inline __attribute__((always_inline)) bool
fw_guard_remembers6(
    const struct fw_guard *g, uint16_t wire, const uint8_t src[16], const uint8_t *mac)
{
	const struct fw_guard_slot *s;
	uint64_t a[2];

	memcpy(a, src, sizeof(a));
	s = &g->slot[fw_guard_slot_of(fw_guard_fold(a[0], a[1]), wire, 0)];
	return memcmp(s->addr, src, 16) == 0 && fw_guard_vouches(s, 6, wire, mac);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ &&
        offsetof(struct fw_guard_slot, known) == offsetof(struct fw_guard_slot, vrf) + 7 &&
        offsetof(struct fw_guard_slot, has_mac) == offsetof(struct fw_guard_slot, mac) + 6,
    "fw_guard_vouches() reads them so");

/*
 * Check a parsed packet from inside.  For packets of kind ARP and ND this is the whole judgement, from
 * either side.  Context: the owning lcore.  Returns FW_DROP_NONE or why not.
 */
enum fw_drop fw_guard_inside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk);

/*
 * Check a packet from outside.  A session has vouched for its addresses when it was created, under
 * the same generation; so this is asked only of packets without one.
 */
enum fw_drop fw_guard_outside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk);

/* Whether `a` is a workload inside of this wire. */
bool fw_guard_is_local(struct fw_guard *g, const struct fw_rules *r, uint64_t generation,
    uint16_t wire, uint32_t vrf, const struct pk_addr *a);
