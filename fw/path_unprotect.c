#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "fw/path_priv.h"
#include "fw/relay.h"

/*
 * What comes in for the DPU itself.  Here packets are looked at before they are parsed for good, since most of them will
 * be other packets afterwards; what is not ours is left alone, and looked at again by the stages that follow.
 */
#define IKE_PORT_NAT 4500
#define ETHER_LEN    14

enum fate {
	FATE_PASS = 0, /* not ours */
	FATE_ESP,
	FATE_UP,   /* to the control thread */
	FATE_GONE, /* taken note of: NAT keepalives */
	FATE_DROP,
};

/* A frame from outside, as far as it has to be known. */
struct glance {
	struct esp_pkt esp;
	uint32_t vrf, spi;
	enum fw_drop why;
};

static inline uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static enum fate
refuse(struct glance *g, enum fw_drop why)
{
	g->why = why;
	return FATE_DROP;
}

/* ESP at p->l4, perhaps behind a UDP header, for a receiver that is ours (`own`) or a workload's. */
static enum fate
look_at_esp(const struct fw_path *p, uint16_t wire, const uint8_t *data, uint32_t end, bool own,
    const uint8_t *dst, unsigned int addr_len, struct glance *g)
{
	uint32_t at = g->esp.l4 + (g->esp.udp ? 8u : 0u), spi_be;
	struct esp_sa *sa;

	if (at + 8 > end)
		return own ? refuse(g, FW_DROP_ESP_TRUNCATED) : FATE_PASS;
	memcpy(&spi_be, data + at, 4);
	g->spi = rte_be_to_cpu_32(spi_be);
	sa = esp_sad_by_spi(p->conf.esp->sad, spi_be);
	if (sa == NULL)
		return own ? refuse(g, FW_DROP_ESP_SPI) : FATE_PASS;
	/* Transport mode may end at an address of a workload; then it is ours if all of it fits. */
	if (!own && memcmp(sa->from.addr + addr_len, dst, addr_len) != 0)
		return FATE_PASS;
	if (sa->wire != wire || sa->vrf != g->vrf)
		return refuse(g, FW_DROP_ESP_ADDRESS);
	g->esp.sa = sa;
	return FATE_ESP;
}

/* UDP to port 4500 (RFC 3948, section 2): keepalive, IKE behind four zeros, or ESP. */
static enum fate
look_at_udp(const struct fw_path *p, uint16_t wire, const uint8_t *data, uint32_t at, uint32_t end,
    bool own, const uint8_t *dst, unsigned int addr_len, struct glance *g)
{
	static const uint8_t marker[4];

	if (at + 8 > end || be16(data + at + 2) != IKE_PORT_NAT)
		return own ? FATE_UP : FATE_PASS;
	if (at + 9 == end && data[at + 8] == 0xff)
		return own ? FATE_GONE : FATE_PASS;
	if (at + 12 > end)
		return own ? refuse(g, FW_DROP_ESP_TRUNCATED) : FATE_PASS;
	if (memcmp(data + at + 8, marker, sizeof(marker)) == 0)
		return own ? FATE_UP : FATE_PASS;
	g->esp.udp = true;
	return look_at_esp(p, wire, data, end, own, dst, addr_len, g);
}

static enum fate
look_at_ipv4(const struct fw_path *p, uint16_t wire, const struct rte_mbuf *m, const uint8_t *data,
    uint32_t l3, struct glance *g)
{
	const uint8_t *ip = data + l3;
	uint32_t head, end;
	bool own;

	if (l3 + 20 > m->data_len || ip[0] >> 4 != 4)
		return FATE_PASS;
	own = fw_esp_local(p->conf.esp, wire, g->vrf, 4, ip + 16) != NULL;
	if (!own && ip[9] != IPPROTO_ESP && ip[9] != IPPROTO_UDP)
		return FATE_PASS;
	head = (uint32_t)(ip[0] & 15) * 4;
	end = l3 + be16(ip + 2);
	if (head < 20 || l3 + head > end || end > m->pkt_len)
		return own ? refuse(g, FW_DROP_IP_LENGTH) : FATE_PASS;
	if (end > m->data_len)
		return own ? refuse(g, FW_DROP_ESP_ROOM) : FATE_PASS;
	if ((be16(ip + 6) & 0x3fff) != 0)
		return own ? refuse(g, FW_DROP_ESP_FRAGMENT) : FATE_PASS;
	if (own && (m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_GOOD &&
	    fw_sum_fold(fw_sum(ip, head, 0)) != 0xffff)
		return refuse(g, FW_DROP_IP_CHECKSUM);
	g->esp.l3 = (uint16_t)l3;
	g->esp.l4 = (uint16_t)(l3 + head);
	if (ip[9] == IPPROTO_ESP)
		return look_at_esp(p, wire, data, end, own, ip + 16, 4, g);
	if (ip[9] == IPPROTO_UDP)
		return look_at_udp(p, wire, data, l3 + head, end, own, ip + 16, 4, g);
	return FATE_UP;
}

static enum fate
look_at_ipv6(const struct fw_path *p, uint16_t wire, const struct rte_mbuf *m, const uint8_t *data,
    uint32_t l3, struct glance *g)
{
	const uint8_t *ip = data + l3;
	uint32_t at = l3 + 40, end;
	uint8_t proto;
	bool own;

	if (at > m->data_len || ip[0] >> 4 != 6)
		return FATE_PASS;
	own = fw_esp_local(p->conf.esp, wire, g->vrf, 6, ip + 24) != NULL;
	proto = ip[6];
	end = at + be16(ip + 4);
	/* Who has this address?  It is asked of a group. */
	if (!own && proto == IPPROTO_ICMPV6 && at + 24 <= m->data_len && end <= m->data_len &&
	    data[at] == ND_NEIGHBOR_SOLICIT && ip[24] == 0xff)
		return fw_esp_local(p->conf.esp, wire, g->vrf, 6, data + at + 8) != NULL
		    ? FATE_UP
		    : FATE_PASS;
	if (!own && proto != IPPROTO_ESP && proto != IPPROTO_UDP && proto != IPPROTO_HOPOPTS &&
	    proto != IPPROTO_ROUTING)
		return FATE_PASS;
	if (end > m->pkt_len)
		return own ? refuse(g, FW_DROP_IP_LENGTH) : FATE_PASS;
	if (end > m->data_len)
		return own ? refuse(g, FW_DROP_ESP_ROOM) : FATE_PASS;
	/* Headers that stay in front in transport mode. */
	while (proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING) {
		if (at + 8 > end || at - l3 > 200)
			return own ? refuse(g, FW_DROP_IP_EXTENSION) : FATE_PASS;
		proto = data[at];
		at += ((uint32_t)data[at + 1] + 1) * 8;
	}
	if (at > end)
		return own ? refuse(g, FW_DROP_IP_EXTENSION) : FATE_PASS;
	if (proto == IPPROTO_FRAGMENT)
		return own ? refuse(g, FW_DROP_ESP_FRAGMENT) : FATE_PASS;
	g->esp.l3 = (uint16_t)l3;
	g->esp.l4 = (uint16_t)at;
	if (proto == IPPROTO_ESP)
		return look_at_esp(p, wire, data, end, own, ip + 24, 16, g);
	if (proto == IPPROTO_UDP)
		return look_at_udp(p, wire, data, at, end, own, ip + 24, 16, g);
	return own ? FATE_UP : FATE_PASS;
}

static enum fate
look(const struct fw_path *p, uint16_t wire, struct rte_mbuf *m, struct glance *g)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t l3 = ETHER_LEN;
	uint16_t type;

	memset(g, 0, sizeof(*g));
	g->esp.m = m;
	if (m->data_len < ETHER_LEN + 20)
		return FATE_PASS;
	type = be16(data + 12);
	if ((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0)
		g->vrf = m->vlan_tci & 0xfff;
	if (type == RTE_ETHER_TYPE_VLAN) {
		/* One tag; those with two are no link of ours. */
		if (g->vrf != 0)
			return FATE_PASS;
		g->vrf = be16(data + 14) & 0xfff;
		type = be16(data + 16);
		l3 += 4;
	}
	if (type == RTE_ETHER_TYPE_IPV4)
		return look_at_ipv4(p, wire, m, data, l3, g);
	if (type == RTE_ETHER_TYPE_IPV6)
		return look_at_ipv6(p, wire, m, data, l3, g);
	if (type == RTE_ETHER_TYPE_ARP && l3 + 28 <= m->data_len &&
	    fw_esp_local(p->conf.esp, wire, g->vrf, 4, data + l3 + 24) != NULL)
		return FATE_UP;
	return FATE_PASS;
}

/* One of the DPU's own that goes no further here. */
static void
count(struct fw_path *p, const struct rte_mbuf *m)
{
	p->packet++;
	pk_counter_add(&p->stats.rx[FW_OUTSIDE], 1);
	pk_counter_add(&p->stats.rx_bytes[FW_OUTSIDE], m->pkt_len);
}

static void
drop(struct fw_path *p, uint16_t wire, struct rte_mbuf *m, const struct glance *g, enum fw_drop why,
    uint64_t now_ns)
{
	if (why == FW_DROP_ESP_SPI) {
		struct fw_ask ask = { .kind = FW_ASK_BAD_SPI, .spi = g->spi, .wire = wire };
		const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, g->esp.l3);
		unsigned int len = ip[0] >> 4 == 4 ? 4 : 16;

		ask.flow.vrf = g->vrf;
		ask.flow.src.family = ask.flow.dst.family = len == 4 ? 4 : 6;
		memcpy(ask.flow.src.bytes, ip + (len == 4 ? 12 : 8), len);
		memcpy(ask.flow.dst.bytes, ip + (len == 4 ? 16 : 24), len);
		(void)rte_ring_mp_enqueue_elem(p->conf.esp->asks, &ask, sizeof(ask));
	}
	p->refused_spi = g->spi;
	fw_path_refuse(p, wire, FW_OUTSIDE, &m, 1, why, now_ns);
	p->refused_spi = 0;
}

/* A packet out of a tunnel is on its way to a workload: by that one's MAC address, if the frame was addressed to us. */
static bool
readdress(
    struct fw_path *p, const struct fw_rules *rules, struct rte_mbuf *m, const struct glance *g)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *), *ip = data + g->esp.l3;
	const struct fw_endpoint *to;
	struct pk_addr dst = { .family = ip[0] >> 4 };

	memcpy(dst.bytes, ip + (dst.family == 4 ? 16 : 24), dst.family == 4 ? 4 : 16);
	to = rules != NULL ? fw_rules_endpoint(rules, g->vrf, &dst) : NULL;
	if (to != NULL && to->has_mac) {
		memcpy(data, to->mac, 6);
		return true;
	}
	for (unsigned int i = 0; i < p->conf.esp->nb_locals; i++)
		if (memcmp(data, p->conf.esp->local[i].mac, 6) == 0)
			return false;
	return true;
}

unsigned int
fw_path_unprotect(struct fw_path *p, const struct fw_rules *rules, uint16_t wire, enum fw_side from,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	struct fw_esp *e = p->conf.esp;
	struct glance ours[FW_BURST];
	struct esp_pkt burst[FW_BURST];
	uint8_t place[FW_BURST];
	unsigned int nb = 0, kept = 0;

	if (likely(e == NULL))
		return n;
	for (unsigned int i = 0; i < n; i++)
		pkts[i]->ol_flags &= ~e->mark_flag;
	if (from == FW_INSIDE)
		return n;
	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], const void *));
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		switch (look(p, wire, m, &ours[nb])) {
		case FATE_PASS:
			break;
		case FATE_ESP:
			place[nb] = (uint8_t)i;
			burst[nb] = ours[nb].esp;
			nb++;
			break;
		case FATE_UP:
			m->port = fw_relay_mark(wire, FW_OUTSIDE);
			pkts[i] = NULL;
			if (rte_ring_mp_enqueue(e->up, m) == 0) {
				count(p, m);
				pk_counter_add(&p->stats.own, 1);
			} else {
				drop(p, wire, m, &ours[nb], FW_DROP_LCORE_FULL, now_ns);
			}
			break;
		case FATE_GONE:
			count(p, m);
			pk_counter_add(&p->stats.own, 1);
			rte_pktmbuf_free(m);
			pkts[i] = NULL;
			break;
		case FATE_DROP:
			drop(p, wire, m, &ours[nb], ours[nb].why, now_ns);
			pkts[i] = NULL;
			break;
		}
	}
	if (nb == 0 && n > 0 && pkts[0] != NULL) {
		/* Nearly always: nothing of ours. */
		bool all = true;

		for (unsigned int i = 1; i < n; i++)
			all &= pkts[i] != NULL;
		if (all)
			return n;
	}
	esp_unprotect(&p->engine, burst, nb, now_ns);
	for (unsigned int k = 0; k < nb; k++) {
		struct rte_mbuf *m = burst[k].m;

		if (unlikely(burst[k].error != ESP_OK)) {
			drop(p, wire, m, &ours[k], fw_drop_of_esp(burst[k].error), now_ns);
			pkts[place[k]] = NULL;
			continue;
		}
		/* What the port has said was said of the outer packet. */
		m->ol_flags &= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
		if (unlikely(!readdress(p, rules, m, &ours[k]))) {
			drop(p, wire, m, &ours[k], FW_DROP_ESP_NEIGHBOUR, now_ns);
			pkts[place[k]] = NULL;
			continue;
		}
		fw_esp_set_mark(e, m, burst[k].sa->tunnel);
	}
	for (unsigned int i = 0; i < n; i++)
		if (pkts[i] != NULL)
			pkts[kept++] = pkts[i];
	return kept;
}
