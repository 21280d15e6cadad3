#include "fw/port.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "fw/steer.h"
#include "fw/xdp.h"

#define NB_DESC 1024

/* Inside and outside ports use the same key, so that a session's packets meet on one lcore. */
#define KEY_LEN 52

/* "af_packet" and so on to devargs.  Returns a static kind, or NULL. */
static const struct kind {
	const char *prefix;
	const char *devargs; /* printf format: running number, rest of the spec; NULL: see below */
	bool kernel;
} kinds[] = {
	/* Ring sizes as measured: smaller ones drop bursts, larger ones cost locked memory. */
	{ "af_packet:", "net_af_packet%u,iface=%s,framecnt=4096,blocksz=65536", true },
	{ "af_xdp:", "net_af_xdp%u,iface=%s", true },
	{ "tap:", "net_tap%u,iface=%s", false },
	{ "pci:", NULL, false },
	{ "vdev:", NULL, false },
	{ "name:", NULL, false },
};

static int
attach(struct fw_port *port, struct pk_diag *diag)
{
	static unsigned int number;
	const struct kind *kind = NULL;
	struct rte_dev_iterator it;
	char devargs[384];
	const char *rest = NULL;
	uint16_t id = RTE_MAX_ETHPORTS, found;

	for (size_t i = 0; i < PK_COUNT(kinds) && kind == NULL; i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncmp(port->spec, kinds[i].prefix, len) == 0 && port->spec[len] != '\0') {
			kind = &kinds[i];
			rest = port->spec + len;
		}
	}
	if (kind == NULL) {
		pk_diag_set(diag,
		    "port \"%s\": want af_packet:IFACE, af_xdp:IFACE, tap:NAME, pci:ADDRESS, vdev:DEVARGS or name:PORT",
		    port->spec);
		return -EINVAL;
	}
	port->kernel = kind->kernel;
	if (strcmp(kind->prefix, "name:") == 0) {
		if (rte_eth_dev_get_port_by_name(rest, &port->id) < 0) {
			pk_diag_set(
			    diag, "port \"%s\": DPDK knows no port of that name", port->spec);
			return -ENODEV;
		}
		return 0;
	}
	if (strcmp(kind->prefix, "af_xdp:") == 0) {
		int rc = fw_xdp_clear(rest, diag);

		if (rc < 0)
			return rc;
	}
	if (kind->devargs != NULL)
		snprintf(devargs, sizeof(devargs), kind->devargs, number++, rest);
	else
		snprintf(devargs, sizeof(devargs), "%s", rest);
	if (rte_dev_probe(devargs) < 0) {
		pk_diag_set(diag,
		    "port \"%s\": the driver refused \"%s\" (does the interface exist, and may we open it?)",
		    port->spec, devargs);
		return -ENODEV;
	}
	RTE_ETH_FOREACH_MATCHING_DEV(found, devargs, &it)
	id = found;
	if (id == RTE_MAX_ETHPORTS) {
		pk_diag_set(
		    diag, "port \"%s\": \"%s\" started but offers no port", port->spec, devargs);
		return -ENODEV;
	}
	port->id = id;
	return 0;
}

static int
refuse(struct pk_diag *diag, const struct fw_port *port, const char *what, int rc)
{
	pk_diag_set(diag, "port \"%s\": %s: %s", port->spec, what, strerror(-rc));
	return rc;
}

#define HASH_FIELDS (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP)

static void
symmetric_key(uint8_t key[KEY_LEN])
{
	for (size_t i = 0; i < KEY_LEN; i++)
		key[i] = (uint8_t)(FW_STEER_RSS_KEY >> (i % 2 == 0 ? 8 : 0));
}

/* Whether the port says that it can spread flows over so many queues. */
static bool
may_spread(const struct rte_eth_dev_info *info, uint16_t nb_queues)
{
	return nb_queues > 1 && (info->flow_type_rss_offloads & HASH_FIELDS) == HASH_FIELDS &&
	    info->max_rx_queues >= nb_queues && info->max_tx_queues >= nb_queues &&
	    (info->hash_key_size == 0 || info->hash_key_size >= 40) &&
	    info->hash_key_size <= KEY_LEN && info->reta_size != 0 &&
	    info->reta_size <= FW_PORT_RETA && (info->reta_size & (info->reta_size - 1)) == 0;
}

/* Whether it has taken key and fields, and the table by which a hash becomes a queue; which we note. */
static bool
does_spread(struct fw_port *port, const struct rte_eth_dev_info *info)
{
	struct rte_eth_rss_reta_entry64 reta[FW_PORT_RETA / RTE_ETH_RETA_GROUP_SIZE];
	uint8_t want[KEY_LEN], have[KEY_LEN] = { 0 };
	uint16_t len = info->hash_key_size != 0 ? info->hash_key_size : 40;
	struct rte_eth_rss_conf rss = { .rss_key = have, .rss_key_len = (uint8_t)len };

	symmetric_key(want);
	if (rte_eth_dev_rss_hash_conf_get(port->id, &rss) < 0 ||
	    (rss.rss_hf & HASH_FIELDS) != HASH_FIELDS || memcmp(have, want, len) != 0)
		return false;
	memset(reta, 0, sizeof(reta));
	for (uint16_t i = 0; i < info->reta_size; i++) {
		reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1)
		    << i % RTE_ETH_RETA_GROUP_SIZE;
		reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
		    i % port->nb_queues;
	}
	/* Some cannot be told; then the table they have will do, once we know it. */
	(void)rte_eth_dev_rss_reta_update(port->id, reta, info->reta_size);
	if (rte_eth_dev_rss_reta_query(port->id, reta, info->reta_size) < 0)
		return false;
	port->reta_mask = (uint16_t)(info->reta_size - 1);
	for (uint16_t i = 0; i < info->reta_size; i++) {
		port->reta[i] = reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
		if (port->reta[i] >= port->nb_queues)
			return false;
	}
	return true;
}

/* Configure with port->nb_queues queues, and start. */
static int
start(struct fw_port *port, const struct rte_eth_dev_info *info, struct rte_mempool *pool,
    struct pk_diag *diag)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t nb_rx = NB_DESC, nb_tx = NB_DESC;
	uint8_t key[KEY_LEN];
	int rc;

	if (port->nb_queues > 1) {
		symmetric_key(key);
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_key = key;
		conf.rx_adv_conf.rss_conf.rss_key_len =
		    (uint8_t)(info->hash_key_size != 0 ? info->hash_key_size : 40);
		conf.rx_adv_conf.rss_conf.rss_hf = HASH_FIELDS;
	}
	conf.txmode.offloads = info->tx_offload_capa &
	    (RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
	        RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
	rc = rte_eth_dev_configure(port->id, port->nb_queues, port->nb_queues, &conf);
	if (rc < 0)
		return refuse(diag, port, "cannot be configured", rc);
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &nb_rx, &nb_tx);
	if (rc < 0)
		return refuse(diag, port, "cannot agree on queue sizes", rc);
	for (uint16_t q = 0; q < port->nb_queues; q++) {
		rc = rte_eth_rx_queue_setup(port->id, q, nb_rx, SOCKET_ID_ANY, NULL, pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port->id, q, nb_tx, SOCKET_ID_ANY, NULL);
		if (rc < 0)
			return refuse(diag, port, "queues cannot be set up", rc);
	}
	rc = rte_eth_dev_start(port->id);
	return rc < 0 ? refuse(diag, port, "cannot be started", rc) : 0;
}

int
fw_port_open(struct fw_port *port, const char *spec, uint16_t nb_queues, struct rte_mempool *pool,
    struct pk_diag *diag)
{
	struct rte_eth_dev_info info;
	int rc;

	*port = (struct fw_port){ 0 };
	if (strlen(spec) >= sizeof(port->spec)) {
		pk_diag_set(diag, "port \"%.32s...\": want at most %zu bytes", spec,
		    sizeof(port->spec) - 1);
		return -EINVAL;
	}
	strcpy(port->spec, spec);
	rc = attach(port, diag);
	if (rc < 0)
		return rc;
	rc = rte_eth_dev_info_get(port->id, &info);
	if (rc < 0)
		return refuse(diag, port, "no information about it", rc);
	port->nb_queues = may_spread(&info, nb_queues) ? nb_queues : 1;
	rc = start(port, &info, pool, diag);
	if (port->nb_queues > 1 && (rc < 0 || !does_spread(port, &info))) {
		/* It has promised more than it does. */
		(void)rte_eth_dev_stop(port->id);
		port->nb_queues = 1;
		rc = start(port, &info, pool, diag);
	}
	if (rc < 0)
		return rc;
	/* A bump in the wire must hear frames that are addressed to others. */
	rc = rte_eth_promiscuous_enable(port->id);
	if (rc < 0 && rc != -ENOTSUP) {
		rte_eth_dev_stop(port->id);
		return refuse(diag, port, "cannot be made promiscuous", rc);
	}
	return 0;
}

void
fw_port_close(struct fw_port *port)
{
	(void)rte_eth_dev_stop(port->id);
	(void)rte_eth_dev_close(port->id);
}

uint32_t
fw_port_mtu(const struct fw_port *port, uint32_t want)
{
	const char *name = strchr(port->spec, ':');
	struct ifreq ifr = { .ifr_mtu = 0 };
	uint16_t mtu = 0;
	uint32_t is;
	int fd;

	if (!port->kernel) {
		if (rte_eth_dev_get_mtu(port->id, &mtu) == 0 && mtu < want && want <= UINT16_MAX &&
		    rte_eth_dev_set_mtu(port->id, (uint16_t)want) == 0)
			mtu = (uint16_t)want;
		return mtu;
	}
	/* Drivers of kernel interfaces do not know what their interface takes. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.15s", name + 1);
	is = fd >= 0 && ioctl(fd, SIOCGIFMTU, &ifr) == 0 ? (uint32_t)ifr.ifr_mtu : 0;
	ifr.ifr_mtu = (int)want;
	if (is < want && fd >= 0 && ioctl(fd, SIOCSIFMTU, &ifr) == 0)
		is = want;
	if (fd >= 0)
		close(fd);
	return is;
}

/*
 * A kernel that leaves the checksum to the device writes the sum of the pseudo header into the field,
 * uncomplemented (CHECKSUM_PARTIAL).  A finished checksum has that value once in 65,536 packets, and
 * then completing it anew changes nothing, unless it was wrong before.
 */
static void
complete_checksum(struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	uint16_t type = eth->ether_type, partial, *field;
	size_t off = sizeof(*eth), l4, field_off;
	uint8_t proto;
	void *ip;

	if (type == RTE_BE16(RTE_ETHER_TYPE_VLAN) && m->data_len >= off + 4) {
		type = *rte_pktmbuf_mtod_offset(m, const uint16_t *, off + 2);
		off += 4;
	}
	ip = rte_pktmbuf_mtod_offset(m, void *, off);
	if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4)) {
		const struct rte_ipv4_hdr *v4 = ip;

		if (m->data_len < off + sizeof(*v4) ||
		    (v4->fragment_offset & RTE_BE16(0x3fff)) != 0)
			return;
		proto = v4->next_proto_id;
		l4 = off + rte_ipv4_hdr_len(v4);
		if (rte_ipv4_hdr_len(v4) < sizeof(*v4) ||
		    rte_be_to_cpu_16(v4->total_length) < rte_ipv4_hdr_len(v4) ||
		    off + rte_be_to_cpu_16(v4->total_length) > m->data_len)
			return;
		partial = rte_ipv4_phdr_cksum(v4, 0);
	} else if (type == RTE_BE16(RTE_ETHER_TYPE_IPV6)) {
		const struct rte_ipv6_hdr *v6 = ip;

		if (m->data_len < off + sizeof(*v6) ||
		    off + sizeof(*v6) + rte_be_to_cpu_16(v6->payload_len) > m->data_len)
			return;
		proto = v6->proto;
		l4 = off + sizeof(*v6);
		partial = rte_ipv6_phdr_cksum(v6, 0);
	} else {
		return;
	}
	if (proto == IPPROTO_TCP)
		field_off = l4 + 16;
	else if (proto == IPPROTO_UDP)
		field_off = l4 + 6;
	else
		return;
	if (m->data_len < field_off + 2)
		return;
	field = rte_pktmbuf_mtod_offset(m, uint16_t *, field_off);
	if (*field != partial)
		return;
	*field = 0;
	*field = type == RTE_BE16(RTE_ETHER_TYPE_IPV4)
	    ? rte_ipv4_udptcp_cksum(ip, rte_pktmbuf_mtod_offset(m, void *, l4))
	    : rte_ipv6_udptcp_cksum(ip, rte_pktmbuf_mtod_offset(m, void *, l4));
}

unsigned int
fw_port_rx(const struct fw_port *port, uint16_t queue, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int got = rte_eth_rx_burst(port->id, queue, pkts, (uint16_t)n);

	if (unlikely(port->kernel))
		for (unsigned int i = 0; i < got; i++)
			if (pkts[i]->nb_segs == 1 &&
			    pkts[i]->data_len >= sizeof(struct rte_ether_hdr))
				complete_checksum(pkts[i]);
	return got;
}
