/*
 * What is asked of a frame where it comes in: where that was, and whether its sender may be who it says.  The
 * rules are those of fw/guard.h; docs/nft.md lists what nftables cannot ask.
 *
 * One base chain per port sets the mark and leads to the chains that all ports of its side share.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "fw/nft/ruleset_priv.h"

#define LINK_OFF_TYPE   12
#define LINK_OFF_VLAN   14
#define LINK_OFF_SOURCE 6
#define PRIORITY        (-150) /* before others' ingress chains */

#define MLD_QUERY   130
#define MLD_DONE    132
#define ND_RS       133
#define ND_RA       134
#define ND_NA       136
#define ND_REDIRECT 137
#define MLD2_REPORT 143

static const char *const sides[] = { "inside", "outside" };

static const char *
side_chain(char buf[NFT_NAME_LEN], const char *what, bool outside)
{
	snprintf(buf, NFT_NAME_LEN, "%s-%s", what, sides[outside]);
	return buf;
}

static void
is_protocol(struct nft_code *c, uint16_t type)
{
	nft_meta(c, NFT_META_PROTOCOL, 0);
	nft_test16(c, 0, NFT_CMP_EQ, type);
}

static void
is_l4(struct nft_code *c, uint8_t proto)
{
	nft_meta(c, NFT_META_L4PROTO, 0);
	nft_test8(c, 0, NFT_CMP_EQ, proto);
}

static void
pass(struct nft_code *c)
{
	nft_count(c, "sent");
	nft_accept(c);
	nft_rule_end(c);
}

/* Registers 0 and on: the mark, and the address at that place of the network header. */
static void
load_claim(struct nft_code *c, uint32_t off, uint32_t len)
{
	nft_meta(c, NFT_META_MARK, 0);
	nft_payload(c, NFT_PAYLOAD_NETWORK_HEADER, off, len, 1);
}

/* The sender of what is at `off` is a workload of this wire, in which case the rules end with `accepted`. */
static void
check_claim(struct nft_code *c, bool v6, uint32_t off, void (*accepted)(struct nft_code *c))
{
	uint32_t len = v6 ? 16 : 4;

	load_claim(c, off, len);
	nft_payload(c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_SOURCE, 6, 1 + len / 4);
	nft_in_set(c, 0, v6 ? "mac6" : "mac4");
	accepted(c);
	load_claim(c, off, len);
	nft_in_set(c, 0, v6 ? "bare6" : "bare4");
	accepted(c);
	load_claim(c, off, len);
	nft_in_set(c, 0, v6 ? "local6" : "local4");
	nft_refuse(c, NFT_DROP_SPOOF_MAC);
	nft_refuse(c, NFT_DROP_SPOOF);
}

static void
accept_only(struct nft_code *c)
{
	nft_accept(c);
	nft_rule_end(c);
}

static void
return_only(struct nft_code *c)
{
	nft_return(c);
	nft_rule_end(c);
}

/* ---- ports ---- */

static void
make_port(struct nft_making *m, uint16_t wire, bool outside)
{
	static const uint16_t tags[] = { NFT_NEXT_VLAN, NFT_NEXT_QINQ };
	struct nft_hook hook = {
		.is = true, .number = NF_NETDEV_INGRESS, .priority = PRIORITY, .drops = true
	};
	uint32_t mark = nft_mark(wire, outside, 0);
	char name[NFT_NAME_LEN], to[NFT_NAME_LEN];
	struct nft_code c;

	snprintf(hook.device, sizeof(hook.device), "%s", m->conf->wires[wire].port[outside]);
	snprintf(name, sizeof(name), "wire%u-%s", wire, sides[outside]);
	nft_begin(m, &c, name);
	nft_count(&c, outside ? "rx-outside" : "rx-inside");
	nft_rule_end(&c);
	if (m->state == NULL) {
		nft_refuse(&c, NFT_DROP_NO_POLICY);
		nft_end(m, &c, NFT_TABLE_NETDEV, &hook);
		return;
	}
	nft_payload(&c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_SOURCE, 1, 0);
	nft_mask(&c, 0, htonl(0x01000000), 0);
	nft_test32(&c, 0, NFT_CMP_NEQ, 0);
	nft_refuse(&c, NFT_DROP_MAC_SOURCE);
	nft_number(&c, 0, mark);
	nft_meta_set(&c, NFT_META_MARK, 0);
	nft_rule_end(&c);
	for (unsigned int i = 0; i < PK_COUNT(tags); i++) {
		nft_payload(&c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_TYPE, 2, 0);
		nft_test16(&c, 0, NFT_CMP_EQ, tags[i]);
		nft_payload(&c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_VLAN, 2, 0);
		nft_ntoh16(&c, 0);
		nft_mask(&c, 0, NFT_VRF_MAX, mark);
		nft_meta_set(&c, NFT_META_MARK, 0);
		nft_rule_end(&c);
	}
	is_protocol(&c, NFT_NEXT_IP4);
	nft_goto(&c, side_chain(to, "ip4", outside));
	nft_rule_end(&c);
	is_protocol(&c, NFT_NEXT_IP6);
	nft_goto(&c, side_chain(to, "ip6", outside));
	nft_rule_end(&c);
	is_protocol(&c, NFT_NEXT_ARP);
	nft_goto(&c, side_chain(to, "arp", outside));
	nft_rule_end(&c);
	for (unsigned int i = 0; i < PK_COUNT(tags); i++) {
		is_protocol(&c, tags[i]);
		nft_refuse(&c, NFT_DROP_VLAN_DEPTH);
	}
	nft_refuse(&c, NFT_DROP_ETHERTYPE);
	nft_end(m, &c, NFT_TABLE_NETDEV, &hook);
}

/* ---- ARP ---- */

static void
make_arp(struct nft_making *m, bool outside)
{
	static const uint8_t ethernet_ip4[] = { 0, 1, 8, 0, 6, 4 }, nobody[4];
	char name[NFT_NAME_LEN];
	struct nft_code c;

	nft_begin(m, &c, side_chain(name, "arp", outside));
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 0, 6, 0);
	nft_test(&c, 0, NFT_CMP_NEQ, ethernet_ip4, sizeof(ethernet_ip4));
	nft_refuse(&c, NFT_DROP_ARP);
	if (outside) {
		load_claim(&c, 14, 4);
		nft_in_set(&c, 0, "local4");
		nft_refuse(&c, NFT_DROP_SPOOF_OUTSIDE);
		pass(&c);
		nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
		return;
	}
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 14, 4, 0);
	nft_test(&c, 0, NFT_CMP_EQ, nobody, sizeof(nobody));
	pass(&c);
	/* Both the frame and the message have to name the workload's MAC address. */
	load_claim(&c, 14, 4);
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 8, 6, 2);
	nft_in_set(&c, 0, "mac4");
	load_claim(&c, 14, 4);
	nft_payload(&c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_SOURCE, 6, 2);
	nft_in_set(&c, 0, "mac4");
	pass(&c);
	load_claim(&c, 14, 4);
	nft_in_set(&c, 0, "bare4");
	pass(&c);
	load_claim(&c, 14, 4);
	nft_in_set(&c, 0, "local4");
	nft_refuse(&c, NFT_DROP_SPOOF_MAC);
	nft_refuse(&c, NFT_DROP_SPOOF);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

/* ---- IPv4 ---- */

/* The address at `off` of the network header is in first/len. */
static void
is_within(struct nft_code *c, uint32_t off, const uint8_t first[4], const uint8_t last[4])
{
	nft_payload(c, NFT_PAYLOAD_NETWORK_HEADER, off, 4, 0);
	nft_between(c, 0, first, last, 4);
}

static void
udp_ports(struct nft_code *c, uint16_t sport, uint16_t dport)
{
	uint8_t ports[4] = { (uint8_t)(sport >> 8), (uint8_t)sport, (uint8_t)(dport >> 8),
		(uint8_t)dport };

	is_l4(c, IPPROTO_UDP);
	nft_payload(c, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 4, 0);
	nft_test(c, 0, NFT_CMP_EQ, ports, sizeof(ports));
}

static void
make_ip4(struct nft_making *m, bool outside)
{
	static const uint8_t nobody[4];
	static const struct {
		uint8_t first[4], last[4];
		bool source, destination;
	} wrong[] = {
		{ { 0, 0, 0, 1 }, { 0, 255, 255, 255 }, true, false },
		{ { 0, 0, 0, 0 }, { 0, 255, 255, 255 }, false, true },
		{ { 127, 0, 0, 0 }, { 127, 255, 255, 255 }, true, true },
		{ { 224, 0, 0, 0 }, { 255, 255, 255, 255 }, true, false },
	};
	static const uint8_t source_routes[] = { 131, 137 };
	char name[NFT_NAME_LEN];
	struct nft_code c;

	nft_begin(m, &c, side_chain(name, "ip4", outside));
	for (unsigned int i = 0; i < PK_COUNT(wrong); i++) {
		if (wrong[i].source) {
			is_within(&c, 12, wrong[i].first, wrong[i].last);
			nft_refuse(&c, NFT_DROP_IP_SOURCE);
		}
		if (wrong[i].destination) {
			is_within(&c, 16, wrong[i].first, wrong[i].last);
			nft_refuse(&c, NFT_DROP_IP_DESTINATION);
		}
	}
	for (unsigned int i = 0; i < PK_COUNT(source_routes); i++) {
		nft_option4(&c, source_routes[i]);
		nft_refuse(&c, NFT_DROP_IP_OPTION);
	}
	if (outside) {
		nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, 0);
		nft_test(&c, 0, NFT_CMP_EQ, nobody, sizeof(nobody));
		nft_refuse(&c, NFT_DROP_IP_SOURCE);
		load_claim(&c, 12, 4);
		nft_in_set(&c, 0, "local4");
		nft_refuse(&c, NFT_DROP_SPOOF_OUTSIDE);
		accept_only(&c);
		nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
		return;
	}
	/* A client that has no address yet (RFC 2131 section 4.1); policy decides about it. */
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, 0);
	nft_test(&c, 0, NFT_CMP_EQ, nobody, sizeof(nobody));
	udp_ports(&c, 68, 67);
	accept_only(&c);
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, 0);
	nft_test(&c, 0, NFT_CMP_EQ, nobody, sizeof(nobody));
	nft_refuse(&c, NFT_DROP_IP_SOURCE);
	check_claim(&c, false, 12, accept_only);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

/* ---- IPv6 ---- */

static const uint8_t nobody6[16], loopback6[16] = { [15] = 1 };

/* The address at `off` begins with these ten bits: fe80::/10. */
static void
is_link_local(struct nft_code *c, enum nft_payload_bases base, uint32_t off)
{
	nft_payload(c, base, off, 2, 0);
	nft_mask(c, 0, htonl(0xffc00000), 0);
	nft_test16(c, 0, NFT_CMP_EQ, 0xfe80);
}

static void
is_source6(struct nft_code *c, const uint8_t addr[16])
{
	nft_payload(c, NFT_PAYLOAD_NETWORK_HEADER, 8, 16, 0);
	nft_test(c, 0, NFT_CMP_EQ, addr, 16);
}

static void
is_icmp6(struct nft_code *c, uint8_t first, uint8_t last)
{
	is_l4(c, IPPROTO_ICMPV6);
	nft_payload(c, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0);
	nft_between(c, 0, &first, &last, 1);
}

static void
hops_are_not(struct nft_code *c, uint8_t hops)
{
	nft_payload(c, NFT_PAYLOAD_NETWORK_HEADER, 7, 1, 0);
	nft_test8(c, 0, NFT_CMP_NEQ, hops);
}

/* MLD: RFC 2710 section 3, RFC 9777 section 5. */
static void
make_mld(struct nft_making *m)
{
	struct nft_code c;

	nft_begin(m, &c, "mld");
	hops_are_not(&c, 1);
	nft_refuse(&c, NFT_DROP_ND);
	is_link_local(&c, NFT_PAYLOAD_NETWORK_HEADER, 8);
	pass(&c);
	is_source6(&c, nobody6);
	pass(&c);
	nft_refuse(&c, NFT_DROP_ND);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

/* Whether the address at nd-source or nd-target may be used by who sent this; returns if so. */
static void
make_nd_claims(struct nft_making *m)
{
	struct nft_code c;

	nft_begin(m, &c, "nd-source");
	is_source6(&c, nobody6);
	return_only(&c);
	is_link_local(&c, NFT_PAYLOAD_NETWORK_HEADER, 8);
	return_only(&c);
	check_claim(&c, true, 8, return_only);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);

	nft_begin(m, &c, "nd-target");
	is_link_local(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 8);
	return_only(&c);
	nft_meta(&c, NFT_META_MARK, 0);
	nft_payload(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, 1);
	nft_payload(&c, NFT_PAYLOAD_LL_HEADER, LINK_OFF_SOURCE, 6, 5);
	nft_in_set(&c, 0, "mac6");
	return_only(&c);
	nft_meta(&c, NFT_META_MARK, 0);
	nft_payload(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, 1);
	nft_in_set(&c, 0, "bare6");
	return_only(&c);
	nft_refuse(&c, NFT_DROP_SPOOF);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

static void
make_nd(struct nft_making *m, bool outside)
{
	char name[NFT_NAME_LEN];
	struct nft_code c;

	nft_begin(m, &c, side_chain(name, "nd", outside));
	if (!outside) {
		is_icmp6(&c, ND_RA, ND_RA);
		nft_refuse(&c, NFT_DROP_RA_INSIDE);
	}
	is_icmp6(&c, ND_REDIRECT, ND_REDIRECT);
	nft_refuse(&c, NFT_DROP_ICMP_TYPE);
	/* Hop limit 255 proves the sender to be on the link; code 0 (RFC 4861 sections 6.1, 7.1). */
	hops_are_not(&c, 255);
	nft_refuse(&c, NFT_DROP_ND);
	nft_payload(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 1, 1, 0);
	nft_test8(&c, 0, NFT_CMP_NEQ, 0);
	nft_refuse(&c, NFT_DROP_ND);
	if (outside) {
		load_claim(&c, 8, 16);
		nft_in_set(&c, 0, "local6");
		nft_refuse(&c, NFT_DROP_SPOOF_OUTSIDE);
		is_icmp6(&c, ND_NA, ND_NA);
		nft_meta(&c, NFT_META_MARK, 0);
		nft_payload(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, 1);
		nft_in_set(&c, 0, "local6");
		nft_refuse(&c, NFT_DROP_SPOOF_OUTSIDE);
	} else {
		nft_jump(&c, "nd-source");
		nft_rule_end(&c);
		is_icmp6(&c, ND_NA, ND_NA);
		nft_jump(&c, "nd-target");
		nft_rule_end(&c);
	}
	pass(&c);
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

static void
make_ip6(struct nft_making *m, bool outside)
{
	char name[NFT_NAME_LEN], to[NFT_NAME_LEN];
	struct nft_code c;

	nft_begin(m, &c, side_chain(name, "ip6", outside));
	is_icmp6(&c, MLD_QUERY, MLD_DONE);
	nft_goto(&c, "mld");
	nft_rule_end(&c);
	is_icmp6(&c, MLD2_REPORT, MLD2_REPORT);
	nft_goto(&c, "mld");
	nft_rule_end(&c);
	is_icmp6(&c, ND_RS, ND_REDIRECT);
	nft_goto(&c, side_chain(to, "nd", outside));
	nft_rule_end(&c);
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 8, 1, 0);
	nft_test8(&c, 0, NFT_CMP_EQ, 0xff);
	nft_refuse(&c, NFT_DROP_IP_SOURCE);
	is_source6(&c, nobody6);
	nft_refuse(&c, NFT_DROP_IP_SOURCE);
	is_source6(&c, loopback6);
	nft_refuse(&c, NFT_DROP_IP_SOURCE);
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 24, 16, 0);
	nft_test(&c, 0, NFT_CMP_EQ, loopback6, 16);
	nft_refuse(&c, NFT_DROP_IP_DESTINATION);
	nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, 24, 16, 0);
	nft_test(&c, 0, NFT_CMP_EQ, nobody6, 16);
	nft_refuse(&c, NFT_DROP_IP_DESTINATION);
	/* Clients that have a link-local address only (RFC 8415 section 7), and their servers. */
	is_link_local(&c, NFT_PAYLOAD_NETWORK_HEADER, 8);
	if (outside)
		is_l4(&c, IPPROTO_UDP);
	else
		udp_ports(&c, 546, 547);
	accept_only(&c);
	is_link_local(&c, NFT_PAYLOAD_NETWORK_HEADER, 8);
	nft_refuse(&c, NFT_DROP_LINK_LOCAL);
	if (outside) {
		load_claim(&c, 8, 16);
		nft_in_set(&c, 0, "local6");
		nft_refuse(&c, NFT_DROP_SPOOF_OUTSIDE);
		accept_only(&c);
	} else {
		check_claim(&c, true, 8, accept_only);
	}
	nft_end(m, &c, NFT_TABLE_NETDEV, NULL);
}

static void
make_sets(struct nft_making *m)
{
	static const char *const local[] = { "local4", "local6" },
	                         *const bare[] = { "bare4", "bare6" },
	                         *const mac[] = { "mac4", "mac6" };

	for (unsigned int f = 0; f < 2; f++) {
		uint32_t type = NFT_TYPES(NFT_TYPE_MARK, f == 0 ? NFT_TYPE_IPV4 : NFT_TYPE_IPV6);
		uint32_t len = f == 0 ? 8 : 20;

		m->guard_local[f] = nft_plan_set(
		    m->plan, NFT_TABLE_NETDEV, local[f], NFT_SET_HASH, NFT_SET_KEYS, type, len);
		m->guard_bare[f] = nft_plan_set(
		    m->plan, NFT_TABLE_NETDEV, bare[f], NFT_SET_HASH, NFT_SET_KEYS, type, len);
		m->guard_mac[f] = nft_plan_set(m->plan, NFT_TABLE_NETDEV, mac[f], NFT_SET_HASH,
		    NFT_SET_KEYS, NFT_TYPES(type, NFT_TYPE_ETHER), len + 8);
	}
}

void
nft_frame_make(struct nft_making *m)
{
	static const char *const counters[] = { "rx-inside", "rx-outside", "sent" };

	for (unsigned int i = 0; i < PK_COUNT(counters); i++)
		nft_plan_counter(m->plan, NFT_TABLE_NETDEV, counters[i]);
	for (unsigned int d = 1; d < NFT_DROP_COUNT; d++)
		nft_plan_counter(m->plan, NFT_TABLE_NETDEV, nft_drop_name(d));
	for (uint16_t w = 0; w < m->conf->nb_wires; w++)
		for (unsigned int side = 0; side < 2; side++)
			make_port(m, w, side == 1);
	if (m->state == NULL)
		return;
	make_sets(m);
	make_mld(m);
	make_nd_claims(m);
	for (unsigned int side = 0; side < 2; side++) {
		make_arp(m, side == 1);
		make_ip4(m, side == 1);
		make_ip6(m, side == 1);
		make_nd(m, side == 1);
	}
}
