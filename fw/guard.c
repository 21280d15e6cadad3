#include "fw/guard.h"

#include <netinet/in.h>
#include <string.h>

#include <rte_branch_prediction.h>

#include "fw/lease.h"

#define ND_RS       133
#define ND_RA       134
#define ND_NS       135
#define ND_NA       136
#define ND_REDIRECT 137

#define ND_OPT_SOURCE 1 /* link-layer address */
#define ND_OPT_TARGET 2

void
fw_guard_begin(struct fw_guard *g, uint64_t generation)
{
	if (likely(g->generation == generation))
		return;
	memset(g->slot, 0, sizeof(g->slot));
	g->generation = generation;
}

void
fw_guard_follow(struct fw_guard *g, struct fw_leases *leases)
{
	uint32_t version = fw_leases_version(leases);

	if (likely(g->leases == leases && g->leases_version == version))
		return;
	memset(g->slot, 0, sizeof(g->slot));
	g->leases = leases;
	g->leases_version = version;
}

static const struct fw_guard_slot *
look_up(struct fw_guard *g, const struct fw_rules *r, uint64_t generation, uint16_t wire,
    uint32_t vrf, uint8_t family, const uint8_t *bytes)
{
	size_t len = family == 4 ? 4 : 16;
	uint64_t a[2] = { 0 };
	struct fw_guard_slot *s;
	const struct fw_endpoint *e;
	struct pk_addr addr = { .family = family };

	fw_guard_begin(g, generation);
	memcpy(a, bytes, len);
	s = &g->slot[fw_guard_slot_of(family == 4 ? a[0] : fw_guard_fold(a[0], a[1]), wire, vrf)];
	if (likely(s->family == family && s->wire == wire && s->vrf == vrf &&
	        memcmp(s->addr, bytes, len) == 0))
		return s;

	memcpy(addr.bytes, bytes, len);
	e = fw_rules_endpoint(r, vrf, &addr);
	memset(s, 0, sizeof(*s));
	memcpy(s->addr, bytes, len);
	s->vrf = vrf;
	s->wire = wire;
	s->family = family;
	if (e != NULL && e->local && e->wire == wire) {
		s->known = 1;
		s->has_mac = e->has_mac;
		memcpy(s->mac, e->mac, sizeof(s->mac));
		if (!s->has_mac && g->leases != NULL)
			s->has_mac = fw_leases_get(g->leases, wire, vrf, &addr, s->mac);
	}
	return s;
}

bool
fw_guard_is_local(struct fw_guard *g, const struct fw_rules *r, uint64_t generation, uint16_t wire,
    uint32_t vrf, const struct pk_addr *a)
{
	return look_up(g, r, generation, wire, vrf, a->family, a->bytes)->known;
}

static bool
is_link_local(const uint8_t *a)
{
	return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

static bool
is_zero(const uint8_t *a, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (a[i] != 0)
			return false;
	}
	return true;
}

/* Whether the address at `bytes` may be used by who sent this frame from inside. */
static enum fw_drop
claim(struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk,
    uint8_t family, const uint8_t *bytes)
{
	const struct fw_guard_slot *s =
	    look_up(g, r, generation, pk->key.wire, pk->key.vrf, family, bytes);

	if (unlikely(!s->known))
		return FW_DROP_SPOOF;
	if (s->has_mac && unlikely(memcmp(s->mac, pk->data + pk->l2 + 6, 6) != 0))
		return FW_DROP_SPOOF_MAC;
	return FW_DROP_NONE;
}

static enum fw_drop
arp_inside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *a = pk->data + pk->l3;

	if (memcmp(a + 8, pk->data + pk->l2 + 6, 6) != 0)
		return FW_DROP_SPOOF_MAC;
	if (is_zero(a + 14, 4))
		return FW_DROP_NONE;
	return claim(g, r, generation, pk, 4, a + 14);
}

static enum fw_drop
arp_outside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *a = pk->data + pk->l3;

	if (look_up(g, r, generation, pk->key.wire, pk->key.vrf, 4, a + 14)->known)
		return FW_DROP_SPOOF_OUTSIDE;
	return FW_DROP_NONE;
}

/*
 * Walk the options of an ND message, which begin at `at`.  RFC 4861 sections 6.1 and 7.1: none is of
 * length zero.  *link_address: the source or target link-layer address option, or NULL.
 */
static enum fw_drop
nd_options(const struct fw_pkt *pk, uint32_t at, const uint8_t **link_address)
{
	const uint8_t *m = pk->data + pk->l4;
	uint32_t len = 8u + pk->payload;

	*link_address = NULL;
	if (pk->l4 + len > pk->contiguous)
		return FW_DROP_ND; /* a message of more than a handful of options is none of ours */
	while (at < len) {
		uint32_t bytes;

		if (len - at < 8 || m[at + 1] == 0)
			return FW_DROP_ND;
		bytes = m[at + 1] * 8u;
		if (bytes > len - at)
			return FW_DROP_ND;
		if (m[at] == ND_OPT_SOURCE || m[at] == ND_OPT_TARGET)
			*link_address = m + at + 2;
		at += bytes;
	}
	return FW_DROP_NONE;
}

/*
 * RFC 4861 sections 6.1 and 7.1: what holds for every valid message.  *target: what an NA claims, or an
 * NS asks for; *link_address: see above.
 */
static enum fw_drop
nd_valid(
    const struct fw_pkt *pk, uint8_t type, const uint8_t **target, const uint8_t **link_address)
{
	const uint8_t *ip = pk->data + pk->l3, *m = pk->data + pk->l4;
	uint32_t len = 8u + pk->payload, options = 8;
	bool nobody = is_zero(ip + 8, 16), group = ip[24] == 0xff;
	enum fw_drop why;

	*target = *link_address = NULL;
	if (type < ND_RS || type > ND_REDIRECT) {
		/* MLD: RFC 2710 section 3, RFC 9777 section 5 */
		if (ip[7] != 1 || !(nobody || is_link_local(ip + 8)))
			return FW_DROP_ND;
		return FW_DROP_NONE;
	}
	if (ip[7] != 255 || m[1] != 0)
		return FW_DROP_ND;
	if (type == ND_NS || type == ND_NA)
		options = 24;
	else if (type == ND_RA)
		options = 16;
	if (len < options || pk->l4 + options > pk->contiguous)
		return FW_DROP_ND;
	if (type == ND_NS || type == ND_NA) {
		*target = m + 8;
		if (m[8] == 0xff)
			return FW_DROP_ND;
	}
	if (type == ND_RA && !is_link_local(ip + 8))
		return FW_DROP_ND;
	/* Duplicate address detection goes to the solicited-node group (section 7.1.1). */
	if (type == ND_NS && nobody && (!group || ip[25] != 0x02))
		return FW_DROP_ND;
	/* What goes to a group was not asked for (section 7.1.2). */
	if (type == ND_NA && (nobody || (group && (m[4] & 0x40) != 0)))
		return FW_DROP_ND;
	why = nd_options(pk, options, link_address);
	if (why != FW_DROP_NONE)
		return why;
	/* Nobody has no link-layer address (sections 6.1.1, 7.1.1). */
	if (nobody && *link_address != NULL)
		return FW_DROP_ND;
	return FW_DROP_NONE;
}

static enum fw_drop
nd_inside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *ip = pk->data + pk->l3, *target, *link_address;
	uint8_t type = (uint8_t)(pk->selector >> 8);
	enum fw_drop why;

	if (type == ND_RA)
		return FW_DROP_RA_INSIDE;
	if (type == ND_REDIRECT)
		return FW_DROP_ICMP_TYPE;
	why = nd_valid(pk, type, &target, &link_address);
	if (why != FW_DROP_NONE)
		return why;
	/* The address in the option is the one that others will send to, as in ARP. */
	if (link_address != NULL && memcmp(link_address, pk->data + pk->l2 + 6, 6) != 0)
		return FW_DROP_SPOOF_MAC;
	if (!is_zero(ip + 8, 16) && !is_link_local(ip + 8)) {
		why = claim(g, r, generation, pk, 6, ip + 8);
		if (why != FW_DROP_NONE)
			return why;
	}
	if (type == ND_NA && !is_link_local(target))
		return claim(g, r, generation, pk, 6, target);
	return FW_DROP_NONE;
}

static enum fw_drop
nd_outside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *ip = pk->data + pk->l3, *target, *link_address;
	uint8_t type = (uint8_t)(pk->selector >> 8);
	enum fw_drop why;

	if (type == ND_REDIRECT)
		return FW_DROP_ICMP_TYPE;
	why = nd_valid(pk, type, &target, &link_address);
	if (why != FW_DROP_NONE)
		return why;
	if (look_up(g, r, generation, pk->key.wire, pk->key.vrf, 6, ip + 8)->known ||
	    (type == ND_NA &&
	        look_up(g, r, generation, pk->key.wire, pk->key.vrf, 6, target)->known))
		return FW_DROP_SPOOF_OUTSIDE;
	return FW_DROP_NONE;
}

/* DHCP from a client that has no address yet (RFC 2131 section 4.1, RFC 8415 section 7). */
static bool
is_dhcp_client(const struct fw_pkt *pk)
{
	uint16_t sport, dport;

	if (pk->l4_proto != IPPROTO_UDP)
		return false;
	fw_pkt_ports(pk, &sport, &dport);
	return pk->key.family == 4 ? sport == 68 && dport == 67 : sport == 546 && dport == 547;
}

enum fw_drop
fw_guard_inside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *ip = pk->data + pk->l3;

	if (unlikely(pk->kind == FW_KIND_ARP))
		return arp_inside(g, r, generation, pk);
	if (unlikely(pk->kind == FW_KIND_ND))
		return nd_inside(g, r, generation, pk);
	if (likely(pk->key.family == 4)) {
		if (unlikely(is_zero(ip + 12, 4)))
			return is_dhcp_client(pk) ? FW_DROP_NONE : FW_DROP_IP_SOURCE;
		return claim(g, r, generation, pk, 4, ip + 12);
	}
	if (unlikely(is_zero(ip + 8, 16)))
		return FW_DROP_IP_SOURCE;
	if (unlikely(is_link_local(ip + 8)))
		return is_dhcp_client(pk) ? FW_DROP_NONE : FW_DROP_LINK_LOCAL;
	return claim(g, r, generation, pk, 6, ip + 8);
}

enum fw_drop
fw_guard_outside(
    struct fw_guard *g, const struct fw_rules *r, uint64_t generation, const struct fw_pkt *pk)
{
	const uint8_t *ip = pk->data + pk->l3;

	if (unlikely(pk->kind == FW_KIND_ARP))
		return arp_outside(g, r, generation, pk);
	if (unlikely(pk->kind == FW_KIND_ND))
		return nd_outside(g, r, generation, pk);
	if (pk->key.family == 4) {
		if (unlikely(is_zero(ip + 12, 4)))
			return FW_DROP_IP_SOURCE;
		if (look_up(g, r, generation, pk->key.wire, pk->key.vrf, 4, ip + 12)->known)
			return FW_DROP_SPOOF_OUTSIDE;
		return FW_DROP_NONE;
	}
	if (unlikely(is_zero(ip + 8, 16)))
		return FW_DROP_IP_SOURCE;
	if (unlikely(is_link_local(ip + 8)))
		return pk->l4_proto == IPPROTO_UDP ? FW_DROP_NONE
		                                   : FW_DROP_LINK_LOCAL; /* DHCPv6 servers */
	if (look_up(g, r, generation, pk->key.wire, pk->key.vrf, 6, ip + 8)->known)
		return FW_DROP_SPOOF_OUTSIDE;
	return FW_DROP_NONE;
}
