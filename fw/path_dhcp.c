#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/dhcp.h"
#include "fw/lease.h"
#include "fw/path_priv.h"

#define READ_MAX 1500 /* bytes of a message; longer ones are refused */

/* Between the ports of DHCP, in either direction. */
bool
fw_dhcp_wants(const struct fw_path *p, const struct fw_pkt *pk)
{
	uint16_t sport, dport;

	if (likely(p->shared->leases == NULL) || pk->kind != FW_KIND_SESSION ||
	    pk->l4_proto != IPPROTO_UDP)
		return false;
	fw_pkt_ports(pk, &sport, &dport);
	if (pk->key.family == 4)
		return (dport == FW_DHCP_SERVER_PORT || dport == FW_DHCP_CLIENT_PORT) &&
		    (sport == FW_DHCP_SERVER_PORT || sport == FW_DHCP_CLIENT_PORT);
	return (dport == FW_DHCP6_SERVER_PORT || dport == FW_DHCP6_CLIENT_PORT) &&
	    (sport == FW_DHCP6_SERVER_PORT || sport == FW_DHCP6_CLIENT_PORT);
}

static bool
is_server(const struct fw_path_conf *conf, const struct pk_addr *a)
{
	for (unsigned int i = 0; i < conf->nb_dhcp_servers; i++)
		if (pk_prefix_contains(&conf->dhcp_server[i], a))
			return true;
	return false;
}

/* To all on the link: 255.255.255.255, and ff02::1:2 (RFC 8415 section 7.1). */
static bool
is_everybody(const struct pk_addr *a)
{
	static const uint8_t agents[16] = { 0xff, 2, [13] = 1, [15] = 2 };

	if (a->family == 4)
		return (a->bytes[0] & a->bytes[1] & a->bytes[2] & a->bytes[3]) == 0xff;
	return memcmp(a->bytes, agents, sizeof(agents)) == 0;
}

/* From a workload: it asks, as itself, everybody or a server. */
static enum fw_drop
from_inside(
    struct fw_batch *b, const struct fw_pkt *pk, const struct fw_dhcp *m, const struct pk_addr *dst)
{
	struct fw_path *p = b->p;
	const uint8_t *mac = pk->data + pk->l2 + 6;

	if (m->kind == FW_DHCP_ANSWERS || m->kind == FW_DHCP_GIVES)
		return FW_DROP_DHCP_SERVER;
	if (m->has_mac && memcmp(m->mac, mac, 6) != 0)
		return FW_DROP_SPOOF_MAC;
	if (!is_everybody(dst) && !is_server(&p->conf, dst))
		return FW_DROP_DHCP_SERVER;
	if (m->kind == FW_DHCP_RETURNS)
		for (unsigned int i = 0; i < m->nb_addrs; i++)
			fw_leases_end(
			    p->shared->leases, pk->key.wire, pk->key.vrf, &m->given[i].addr, mac);
	return FW_DROP_NONE;
}

/* From outside: a server answers.  What it gives has to agree with the inventory. */
static enum fw_drop
from_outside(
    struct fw_batch *b, const struct fw_pkt *pk, const struct fw_dhcp *m, const struct pk_addr *src)
{
	struct fw_path *p = b->p;
	/* In IPv6 the message does not name it: it is who is answered. */
	const uint8_t *mac = m->has_mac ? m->mac : pk->data + pk->l2;

	if (m->kind == FW_DHCP_ASKS || m->kind == FW_DHCP_RETURNS)
		return FW_DROP_DHCP; /* other clients of the segment: nothing for a workload */
	if (!is_server(&p->conf, src))
		return FW_DROP_DHCP_SERVER;
	if (m->kind != FW_DHCP_GIVES || (mac[0] & 1) != 0)
		return FW_DROP_NONE;
	for (unsigned int i = 0; i < m->nb_addrs; i++) {
		const struct pk_addr *a = &m->given[i].addr;
		const struct fw_endpoint *e = fw_rules_endpoint(b->rules, pk->key.vrf, a);

		if (e != NULL && e->local && e->wire == pk->key.wire && e->has_mac &&
		    memcmp(e->mac, mac, 6) != 0)
			return FW_DROP_DHCP;
	}
	for (unsigned int i = 0; i < m->nb_addrs; i++) {
		uint32_t seconds = m->given[i].seconds;
		uint64_t until = seconds == UINT32_MAX ? UINT64_MAX
		                                       : b->now_ns + seconds * PK_NS_PER_S;

		if (seconds == 0)
			fw_leases_end(
			    p->shared->leases, pk->key.wire, pk->key.vrf, &m->given[i].addr, mac);
		else if (!fw_leases_put(p->shared->leases, pk->key.wire, pk->key.vrf,
		             &m->given[i].addr, mac, until))
			pk_counter_add(&p->stats.leases_full, 1);
	}
	return FW_DROP_NONE;
}

enum fw_drop
fw_dhcp_judge(struct fw_batch *b, const struct fw_pkt *pk)
{
	uint8_t copy[READ_MAX];
	const uint8_t *bytes;
	struct pk_addr src, dst;
	struct fw_dhcp m;

	if (pk->fragment || pk->payload == 0 || pk->payload > READ_MAX)
		return FW_DROP_DHCP;
	bytes = rte_pktmbuf_read(pk->m, (uint32_t)pk->l4 + pk->l4_len, pk->payload, copy);
	if (bytes == NULL || !fw_dhcp_read(pk->key.family, bytes, pk->payload, &m))
		return FW_DROP_DHCP;
	fw_pkt_addrs(pk, &src, &dst);
	return b->from == FW_INSIDE ? from_inside(b, pk, &m, &dst) : from_outside(b, pk, &m, &src);
}
