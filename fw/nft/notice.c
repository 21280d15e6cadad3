#include "fw/nft/notice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>

#include "fw/answer.h"
#include "fw/parse.h"
#include "lib/log.h"

#define BUFFER             131072
#define FRAME_MAX          (18 + NFT_LOG_SNAP)
#define PER_TURN           64
#define FLUSH_CENTISECONDS 1 /* the kernel keeps a message no longer than that */

struct nft_notice {
	struct nft_notice_conf conf;
	struct mnl_socket *socket;
	struct event *readable;
	int packet_fd;
	unsigned int port_index[NFT_WIRES_MAX][2];
	struct nft_notice_counts counts;
};

/* ---- answers ---- */

static void
transmit(struct nft_notice *n, unsigned int index, const uint8_t *frame, uint32_t len)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)index, .sll_halen = 6
	};

	memcpy(to.sll_addr, frame, 6);
	if (len != 0 &&
	    sendto(n->packet_fd, frame, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) > 0)
		n->counts.answered++;
}

/* RST with the numbers of the packet at hand, which is what both ends believe (RFC 5961 section 3). */
static void
tell_both(struct nft_notice *n, const struct fw_pkt *pk, uint16_t wire, unsigned int from)
{
	struct fw_segment reset = {
		.seq = pk->seq, .ack = pk->ack, .flags = FW_TCP_RST | FW_TCP_ACK
	};
	uint8_t out[FW_ANSWER_MAX];

	transmit(n, n->port_index[wire][from], out, fw_answer_make(pk, out));
	if (pk->l4_proto != IPPROTO_TCP ||
	    (pk->tcp_flags & (FW_TCP_RST | FW_TCP_ACK)) != FW_TCP_ACK)
		return;
	transmit(n, n->port_index[wire][1 - from], out, fw_answer_segment(pk, false, &reset, out));
}

/* ---- messages ---- */

struct packet {
	const char *prefix;
	const uint8_t *link, *payload;
	uint16_t link_len, payload_len, type;
	uint32_t mark, index, bridge_port;
};

static void
read_attributes(const struct nlmsghdr *h, struct packet *p)
{
	const struct nlattr *a;

	memset(p, 0, sizeof(*p));
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		uint16_t len = mnl_attr_get_payload_len(a);

		switch (mnl_attr_get_type(a)) {
		case NFULA_PREFIX:
			if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0)
				p->prefix = mnl_attr_get_str(a);
			break;
		case NFULA_PACKET_HDR:
			if (len >= sizeof(struct nfulnl_msg_packet_hdr)) {
				const struct nfulnl_msg_packet_hdr *hdr = mnl_attr_get_payload(a);

				p->type = ntohs(hdr->hw_protocol);
			}
			break;
		case NFULA_MARK:
			p->mark = len == 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
			break;
		case NFULA_IFINDEX_INDEV:
			p->index = len == 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
			break;
		case NFULA_IFINDEX_PHYSINDEV:
			p->bridge_port = len == 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
			break;
		case NFULA_HWHEADER:
			p->link = mnl_attr_get_payload(a);
			p->link_len = len;
			break;
		case NFULA_PAYLOAD:
			p->payload = mnl_attr_get_payload(a);
			p->payload_len = len;
			break;
		default:
			break;
		}
	}
}

/* The frame as it came in; returns its length, or 0. */
static uint32_t
frame_of(const struct packet *p, uint32_t vlan, uint8_t frame[FRAME_MAX])
{
	uint32_t at = 14, len = PK_MIN((uint32_t)p->payload_len, (uint32_t)NFT_LOG_SNAP);
	uint16_t type = p->payload[0] >> 4 == 6 ? 0x86dd : 0x0800;

	if (p->link_len < 14)
		return 0;
	memcpy(frame, p->link, 12);
	if (vlan != 0) {
		memcpy(frame + 12, (uint8_t[]){ 0x81, 0, (uint8_t)(vlan >> 8), (uint8_t)vlan }, 4);
		at = 18;
	}
	frame[at - 2] = (uint8_t)(type >> 8);
	frame[at - 1] = (uint8_t)type;
	memcpy(frame + at, p->payload, len);
	return at + len;
}

static int
take(const struct nlmsghdr *h, void *arg)
{
	struct nft_notice *n = arg;
	struct nft_noticed told = { 0 };
	uint8_t frame[FRAME_MAX];
	struct fw_pkt pk = { .checksum_ok = true };
	unsigned int vlan = 0;
	struct packet p;
	uint32_t port, len;
	char word[16];
	bool found = false;

	if ((h->nlmsg_type & 0xff) != NFULNL_MSG_PACKET)
		return MNL_CB_OK;
	read_attributes(h, &p);
	if (p.prefix == NULL || p.payload_len == 0)
		return MNL_CB_OK;
	n->counts.noticed++;
	if (strncmp(p.prefix, NFT_LOG_AUDIT, sizeof(NFT_LOG_AUDIT) - 1) == 0) {
		told.verdict = "audit";
		told.rule_id = strtoull(p.prefix + sizeof(NFT_LOG_AUDIT) - 1, NULL, 16);
		told.slot = NFT_SLOT_NONE;
	} else {
		if (sscanf(p.prefix, "%15s %u", word, &vlan) != 2)
			return MNL_CB_OK;
		told.revoked = strcmp(word, NFT_LOG_REVOKE) == 0;
		told.verdict = told.revoked || strcmp(word, NFT_LOG_REJECT) == 0 ? "reject"
		    : strcmp(word, NFT_LOG_ALLOW) == 0                           ? "allow"
		                                                                 : "deny";
		told.slot = p.mark & 0xffff;
	}
	port = p.bridge_port != 0 ? p.bridge_port : p.index;
	for (uint16_t w = 0; w < n->conf.nb_wires && !found; w++) {
		for (unsigned int side = 0; side < 2 && !found; side++) {
			if (n->port_index[w][side] != port)
				continue;
			told.wire = w;
			told.from_outside = side == 1;
			found = true;
		}
	}
	len = frame_of(&p, vlan & NFT_VRF_MAX, frame);
	if (!found || len == 0)
		return MNL_CB_OK;
	/* What was cut off behind the headers is of no account, so lengths count as right. */
	if (fw_parse(&pk, frame, len, UINT16_MAX, 0, NULL) != FW_DROP_NONE)
		return MNL_CB_OK;
	fw_pkt_addrs(&pk, &told.src, &told.dst);
	fw_pkt_ports(&pk, &told.sport, &told.dport);
	told.proto = pk.l4_proto;
	told.len = (uint16_t)pk.l3_end;
	if (strcmp(told.verdict, "reject") == 0 && told.revoked) {
		tell_both(n, &pk, told.wire, told.from_outside);
	} else if (strcmp(told.verdict, "reject") == 0) {
		uint8_t out[FW_ANSWER_MAX];

		transmit(
		    n, n->port_index[told.wire][told.from_outside], out, fw_answer_make(&pk, out));
	}
	n->conf.noticed(n->conf.arg, &told);
	return MNL_CB_OK;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct nft_notice *n = arg;
	static char buffer[BUFFER];

	(void)what;
	for (unsigned int i = 0; i < PER_TURN; i++) {
		ssize_t len = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (len < 0 && errno == ENOBUFS) {
			n->counts.lost++;
			continue;
		}
		if (len <= 0)
			return;
		(void)mnl_cb_run(buffer, (size_t)len, 0, 0, take, n);
	}
}

/* ---- begin and end ---- */

static struct nlmsghdr *
config(char *buffer, uint16_t group)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *g;

	h->nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = 1;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = AF_UNSPEC;
	g->version = NFNETLINK_V0;
	g->res_id = htons(group);
	return h;
}

static int
ask(struct nft_notice *n, struct nlmsghdr *h)
{
	char buffer[8192];
	ssize_t len;

	if (mnl_socket_sendto(n->socket, h, h->nlmsg_len) < 0 ||
	    (len = mnl_socket_recvfrom(n->socket, buffer, sizeof(buffer))) < 0 ||
	    mnl_cb_run(buffer, (size_t)len, 1, mnl_socket_get_portid(n->socket), NULL, NULL) < 0)
		return -errno;
	return 0;
}

static int
subscribe(struct nft_notice *n)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nfulnl_msg_config_cmd bind = { .command = NFULNL_CFG_CMD_BIND };
	struct nfulnl_msg_config_mode mode = { .copy_range = htonl(NFT_LOG_SNAP),
		.copy_mode = NFULNL_COPY_PACKET };
	struct nlmsghdr *h = config(buffer, n->conf.group);
	int rc;

	mnl_attr_put(h, NFULA_CFG_CMD, sizeof(bind), &bind);
	rc = ask(n, h);
	if (rc < 0)
		return rc;
	h = config(buffer, n->conf.group);
	mnl_attr_put(h, NFULA_CFG_MODE, sizeof(mode), &mode);
	mnl_attr_put_u32(h, NFULA_CFG_TIMEOUT, htonl(FLUSH_CENTISECONDS));
	mnl_attr_put_u32(h, NFULA_CFG_QTHRESH, htonl(8));
	return ask(n, h);
}

int
nft_notice_create(struct nft_notice **out, const struct nft_notice_conf *conf, struct pk_diag *diag)
{
	struct nft_notice *n = calloc(1, sizeof(*n));
	int rc, size = 4 << 20;

	if (n == NULL)
		return -ENOMEM;
	n->conf = *conf;
	for (uint16_t w = 0; w < conf->nb_wires; w++)
		for (unsigned int side = 0; side < 2; side++)
			n->port_index[w][side] = if_nametoindex(conf->wires[w].port[side]);
	n->packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	n->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	rc = n->packet_fd < 0 || n->socket == NULL || mnl_socket_bind(n->socket, 0, 0) < 0 ? -errno
	                                                                                   : 0;
	if (rc == 0)
		rc = subscribe(n);
	if (rc == 0) {
		(void)setsockopt(
		    mnl_socket_get_fd(n->socket), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
		n->readable = event_new(
		    conf->base, mnl_socket_get_fd(n->socket), EV_READ | EV_PERSIST, on_readable, n);
		rc = n->readable != NULL && event_add(n->readable, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		pk_diag_set(diag, "log group %u: %s%s", conf->group, strerror(-rc),
		    rc == -EBUSY ? " (somebody else listens to it; see option log-group)" : "");
		nft_notice_destroy(n);
		return rc;
	}
	*out = n;
	return 0;
}

void
nft_notice_destroy(struct nft_notice *n)
{
	if (n == NULL)
		return;
	if (n->readable != NULL)
		event_free(n->readable);
	if (n->socket != NULL)
		mnl_socket_close(n->socket);
	if (n->packet_fd >= 0)
		close(n->packet_fd);
	free(n);
}

void
nft_notice_counts(const struct nft_notice *n, struct nft_notice_counts *out)
{
	*out = n->counts;
}
