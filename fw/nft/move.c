#include "fw/nft/move.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "fw/nft/review.h"
#include "lib/clock.h"

#define BATCH       64   /* messages at once: their answers fit into any socket's buffer */
#define MESSAGE_MAX 1024 /* bytes of one */

/* ---- from the kernel ---- */

/* Who has sent the first FIN: 0 the opener, 1 the other side. */
static unsigned int
closer(const struct nf_conntrack *ct)
{
	return (nfct_get_attr_u8(ct, ATTR_TCP_FLAGS_REPL) & IP_CT_TCP_FLAG_CLOSE_INIT) != 0;
}

/* FW_RECORD_STATE_NONE: not worth carrying. */
static enum fw_record_state
tcp_state_of(const struct nf_conntrack *ct)
{
	unsigned int d = closer(ct);

	switch (nfct_get_attr_u8(ct, ATTR_TCP_STATE)) {
	case TCP_CONNTRACK_ESTABLISHED:
		return FW_RECORD_ESTABLISHED;
	case TCP_CONNTRACK_FIN_WAIT:
		return d == 0 ? FW_RECORD_FIN_F : FW_RECORD_FIN_R;
	case TCP_CONNTRACK_CLOSE_WAIT:
		return d == 0 ? FW_RECORD_HALF_F : FW_RECORD_HALF_R;
	case TCP_CONNTRACK_LAST_ACK: /* the first one's is acknowledged */
		return d == 0 ? FW_RECORD_LAST_R : FW_RECORD_LAST_F;
	default:
		return FW_RECORD_STATE_NONE;
	}
}

static uint8_t
scale_of(const struct nf_conntrack *ct, bool both, enum nf_conntrack_attr attr)
{
	return both ? PK_MIN(nfct_get_attr_u8(ct, attr), (uint8_t)14) : 0;
}

static bool
fill_tcp(const struct nf_conntrack *ct, struct fw_record *out)
{
	bool both = (nfct_get_attr_u8(ct, ATTR_TCP_FLAGS_ORIG) &
	                nfct_get_attr_u8(ct, ATTR_TCP_FLAGS_REPL) & IP_CT_TCP_FLAG_WINDOW_SCALE) !=
	    0;

	out->state = (uint8_t)tcp_state_of(ct);
	out->flags = (uint16_t)(FW_RECORD_LOOSE | (both ? FW_RECORD_WSCALE : 0));
	out->side[0].scale = scale_of(ct, both, ATTR_TCP_WSCALE_ORIG);
	out->side[1].scale = scale_of(ct, both, ATTR_TCP_WSCALE_REPL);
	return out->state != FW_RECORD_STATE_NONE;
}

bool
nft_record_of(
    const struct nft_session *s, uint64_t rule_id, uint64_t generation, struct fw_record *out)
{
	const struct fw_session_info *i = &s->info;

	memset(out, 0, sizeof(*out));
	out->src = i->src;
	out->dst = i->dst;
	out->sport = i->sport;
	out->dport = i->dport;
	out->selector = s->selector;
	out->wire = i->wire;
	out->vrf = i->vrf;
	out->proto = i->proto;
	out->direction = i->direction;
	out->age_ms = i->age_ns / PK_NS_PER_MS;
	out->idle_ms = PK_MIN(i->idle_ns / PK_NS_PER_MS, out->age_ms);
	out->left_ms = i->expires_in_ns / PK_NS_PER_MS;
	for (unsigned int d = 0; d < 2; d++) {
		out->packets[d] = i->packets[d];
		out->bytes[d] = i->bytes[d];
	}
	out->rule_id = rule_id;
	out->generation = generation;
	switch (i->proto) {
	case IPPROTO_TCP:
		return fill_tcp(s->entry, out);
	case IPPROTO_UDP:
		out->state = (nfct_get_attr_u32(s->entry, ATTR_STATUS) & IPS_SEEN_REPLY) != 0
		    ? FW_RECORD_UDP
		    : FW_RECORD_UDP_NEW;
		return true;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		out->state = FW_RECORD_ICMP;
		out->dport = 0;
		return true;
	default:
		out->state = FW_RECORD_OTHER;
		return true;
	}
}

/* ---- to the kernel ---- */

struct nft_installer {
	struct nft_plane *plane;
	uint16_t nb_wires;
	struct mnl_socket *socket;
	uint32_t seq, first; /* of the next message; of the first that waits */
	size_t len;
	unsigned int nb;
	uint64_t counts[NFT_INSTALL_COUNT];
	char batch[BATCH * MESSAGE_MAX] __attribute__((aligned(8)));
};

const char *
nft_install_name(unsigned int result)
{
	static const char *const names[NFT_INSTALL_COUNT] = { "installed", "there",
		"refused: policy", "refused: opening or closed", "refused: related", "full",
		"faulty" };

	return result < NFT_INSTALL_COUNT ? names[result] : "unknown";
}

int
nft_installer_create(
    struct nft_installer **out, struct nft_plane *plane, uint16_t nb_wires, struct pk_diag *diag)
{
	struct nft_installer *n = calloc(1, sizeof(*n));
	int one = 1;

	if (n == NULL) {
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	n->plane = plane;
	n->nb_wires = nb_wires;
	n->seq = n->first = (uint32_t)time(NULL);
	n->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (n->socket == NULL || mnl_socket_bind(n->socket, 0, 0) < 0 ||
	    mnl_socket_setsockopt(n->socket, NETLINK_CAP_ACK, &one, sizeof(one)) < 0) {
		int rc = -errno;

		pk_diag_set(diag, "no netlink socket for conntrack: %s", strerror(-rc));
		nft_installer_destroy(n);
		return rc;
	}
	*out = n;
	return 0;
}

void
nft_installer_destroy(struct nft_installer *n)
{
	if (n == NULL)
		return;
	if (n->socket != NULL)
		mnl_socket_close(n->socket);
	free(n);
}

const uint64_t *
nft_installer_counts(const struct nft_installer *n)
{
	return n->counts;
}

static enum nft_install
result_of(int error)
{
	switch (error) {
	case 0:
		return NFT_INSTALL_DONE;
	case -EEXIST:
		return NFT_INSTALL_THERE;
	case -ENOMEM:
	case -ENFILE:
	case -ENOSPC:
		return NFT_INSTALL_FULL;
	default:
		return NFT_INSTALL_FAULTY;
	}
}

int
nft_installer_flush(struct nft_installer *n, struct pk_diag *diag)
{
	char buffer[16384];

	if (n->nb == 0)
		return 0;
	if (mnl_socket_sendto(n->socket, n->batch, n->len) < 0)
		goto fail;
	while (n->nb > 0) {
		ssize_t got = mnl_socket_recvfrom(n->socket, buffer, sizeof(buffer));
		int left = (int)got;

		if (got < 0)
			goto fail;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq != n->first)
				continue;
			n->counts[result_of(e->error)]++;
			n->first++;
			n->nb--;
		}
	}
	n->len = 0;
	return 0;
fail:
	pk_diag_set(diag, "conntrack: %s", strerror(errno));
	return -errno;
}

/* Whether policy lets it be, on which wire, and by which rule. */
static enum nft_install
judge(const struct nft_installer *n, const struct fw_record *r, struct fw_record *here,
    uint32_t *slot)
{
	const struct fw_rules *rules = nft_plane_rules(n->plane);
	struct nft_session s = { .selector = r->selector };
	const struct fw_endpoint *e;

	if ((r->flags & FW_RECORD_RELATED) != 0)
		return NFT_INSTALL_RELATED;
	if (r->proto == IPPROTO_TCP &&
	    (r->state < FW_RECORD_ESTABLISHED || r->state >= FW_RECORD_TIME_WAIT))
		return NFT_INSTALL_TRANSIENT;
	e = fw_rules_endpoint(rules, r->vrf, r->direction == PK_EGRESS ? &r->src : &r->dst);
	if (e == NULL || !e->local || e->wire >= n->nb_wires || r->vrf > NFT_VRF_MAX)
		return NFT_INSTALL_REFUSED;
	*here = *r;
	here->wire = e->wire;
	s.info = (struct fw_session_info){ .src = r->src,
		.dst = r->dst,
		.sport = r->sport,
		.dport = r->dport,
		.proto = r->proto,
		.direction = r->direction,
		.wire = e->wire,
		.vrf = r->vrf };
	return nft_review_allows(n->plane, &s, slot) ? NFT_INSTALL_DONE : NFT_INSTALL_REFUSED;
}

static uint8_t
tcp_state_to(uint8_t state)
{
	switch (state) {
	case FW_RECORD_ESTABLISHED:
		return TCP_CONNTRACK_ESTABLISHED;
	case FW_RECORD_FIN_F:
	case FW_RECORD_FIN_R:
		return TCP_CONNTRACK_FIN_WAIT;
	case FW_RECORD_HALF_F:
	case FW_RECORD_HALF_R:
		return TCP_CONNTRACK_CLOSE_WAIT;
	default:
		return TCP_CONNTRACK_LAST_ACK;
	}
}

static void
set_tcp(struct nf_conntrack *ct, const struct fw_record *r)
{
	static const uint32_t closed_by_other = 1u << FW_RECORD_FIN_R | 1u << FW_RECORD_HALF_R |
	    1u << FW_RECORD_LAST_F;
	/* Scales count when both sides have said so: zero is a scale. */
	uint8_t flags[2] = { IP_CT_TCP_FLAG_WINDOW_SCALE, IP_CT_TCP_FLAG_WINDOW_SCALE };

	if (r->state != FW_RECORD_ESTABLISHED)
		flags[closed_by_other >> r->state & 1] |= IP_CT_TCP_FLAG_CLOSE_INIT;
	nfct_set_attr_u8(ct, ATTR_TCP_STATE, tcp_state_to(r->state));
	nfct_set_attr_u8(ct, ATTR_TCP_FLAGS_ORIG, flags[0]);
	nfct_set_attr_u8(ct, ATTR_TCP_MASK_ORIG, flags[0]);
	nfct_set_attr_u8(ct, ATTR_TCP_FLAGS_REPL, flags[1]);
	nfct_set_attr_u8(ct, ATTR_TCP_MASK_REPL, flags[1]);
	nfct_set_attr_u8(ct, ATTR_TCP_WSCALE_ORIG, r->side[0].scale);
	nfct_set_attr_u8(ct, ATTR_TCP_WSCALE_REPL, r->side[1].scale);
}

static void
set_addresses(struct nf_conntrack *ct, const struct fw_record *r)
{
	bool v6 = r->src.family == 6;

	nfct_set_attr_u8(ct, ATTR_ORIG_L3PROTO, v6 ? AF_INET6 : AF_INET);
	nfct_set_attr(ct, v6 ? ATTR_ORIG_IPV6_SRC : ATTR_ORIG_IPV4_SRC, r->src.bytes);
	nfct_set_attr(ct, v6 ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV4_DST, r->dst.bytes);
	nfct_set_attr_u8(ct, ATTR_ORIG_L4PROTO, r->proto);
	if (r->state == FW_RECORD_ICMP) {
		nfct_set_attr_u8(ct, ATTR_ICMP_TYPE, (uint8_t)(r->selector >> 8));
		nfct_set_attr_u8(ct, ATTR_ICMP_CODE, (uint8_t)r->selector);
		nfct_set_attr_u16(ct, ATTR_ICMP_ID, htons(r->sport));
	} else if (r->proto == IPPROTO_TCP || r->proto == IPPROTO_UDP || r->proto == IPPROTO_SCTP) {
		nfct_set_attr_u16(ct, ATTR_ORIG_PORT_SRC, htons(r->sport));
		nfct_set_attr_u16(ct, ATTR_ORIG_PORT_DST, htons(r->dport));
	}
	nfct_setobjopt(ct, NFCT_SOPT_SETUP_REPLY);
}

static void
set_rest(struct nf_conntrack *ct, const struct fw_record *r, uint32_t mark)
{
	bool answered = r->proto == IPPROTO_TCP || r->state == FW_RECORD_UDP ||
	    (r->packets[0] > 0 && r->packets[1] > 0);
	uint32_t zone = nft_zone(r->wire, r->vrf);

	nfct_set_attr_u16(ct, ATTR_ZONE, (uint16_t)zone);
	nfct_set_attr_u32(ct, ATTR_MARK, mark);
	nfct_set_attr_u32(ct, ATTR_STATUS,
	    IPS_CONFIRMED | (answered ? (uint32_t)(IPS_SEEN_REPLY | IPS_ASSURED) : 0));
	nfct_set_attr_u32(ct, ATTR_TIMEOUT,
	    (uint32_t)PK_MIN(PK_MAX(r->left_ms / 1000, UINT64_C(1)), (uint64_t)INT32_MAX));
	if (r->proto == IPPROTO_TCP)
		set_tcp(ct, r);
}

int
nft_installer_add(struct nft_installer *n, const struct fw_record *r, struct pk_diag *diag)
{
	struct nf_conntrack *ct;
	struct fw_record here;
	struct nlmsghdr *h;
	struct nfgenmsg *g;
	uint32_t slot = NFT_SLOT_NONE;
	enum nft_install result = judge(n, r, &here, &slot);

	if (result != NFT_INSTALL_DONE) {
		n->counts[result]++;
		return 0;
	}
	ct = nfct_new();
	if (ct == NULL) {
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	set_addresses(ct, &here);
	set_rest(ct, &here, (uint32_t)nft_plane_stamp(n->plane) << 16 | slot);
	h = mnl_nlmsg_put_header(n->batch + n->len);
	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
	h->nlmsg_seq = n->seq++;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = here.src.family == 6 ? AF_INET6 : AF_INET;
	g->version = NFNETLINK_V0;
	if (nfct_nlmsg_build(h, ct) < 0) {
		n->seq--;
		n->counts[NFT_INSTALL_FAULTY]++;
		nfct_destroy(ct);
		return 0;
	}
	nfct_destroy(ct);
	PK_ASSERT(h->nlmsg_len <= MESSAGE_MAX);
	n->len += MNL_ALIGN(h->nlmsg_len);
	return ++n->nb == BATCH ? nft_installer_flush(n, diag) : 0;
}
