#include "fw/nft/track.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "lib/clock.h"
#include "lib/log.h"

#define BUFFER 65536
#define CHUNKS 8 /* messages of the kernel in one turn */

struct nft_track {
	struct nft_track_conf conf;
	struct mnl_socket *orders; /* what is to change */
	uint32_t seq;
	struct nft_walk *walks;
};

struct nft_walk {
	struct nft_track *track;
	struct nft_walk *next;
	struct mnl_socket *socket;
	struct event *readable;
	struct nf_conntrack *entry;
	uint32_t seq;
	unsigned int port;
	const struct fw_rules *(*rules)(void *arg);
	enum nft_walk_next (*each)(void *arg, const struct nft_session *s);
	void (*done)(void *arg, int rc);
	void *arg;
	const struct fw_rules *now; /* of this turn */
	enum nft_walk_next how;
	bool in_turn, cancelled;
};

/* ---- an entry ---- */

static const char *
tcp_state(uint8_t state)
{
	static const char *const names[] = { [TCP_CONNTRACK_NONE] = "none",
		[TCP_CONNTRACK_SYN_SENT] = "syn-sent",
		[TCP_CONNTRACK_SYN_RECV] = "syn-recv",
		[TCP_CONNTRACK_ESTABLISHED] = "established",
		[TCP_CONNTRACK_FIN_WAIT] = "fin-wait",
		[TCP_CONNTRACK_CLOSE_WAIT] = "close-wait",
		[TCP_CONNTRACK_LAST_ACK] = "last-ack",
		[TCP_CONNTRACK_TIME_WAIT] = "time-wait",
		[TCP_CONNTRACK_CLOSE] = "closed",
		[TCP_CONNTRACK_SYN_SENT2] = "syn-both" };

	return state < PK_COUNT(names) ? names[state] : "unknown";
}

static enum nft_timeout
tcp_timeout(uint8_t state)
{
	switch (state) {
	case TCP_CONNTRACK_SYN_SENT:
	case TCP_CONNTRACK_SYN_SENT2:
		return NFT_TIMEOUT_SYN_SENT;
	case TCP_CONNTRACK_SYN_RECV:
		return NFT_TIMEOUT_SYN_RECV;
	case TCP_CONNTRACK_ESTABLISHED:
		return NFT_TIMEOUT_ESTABLISHED;
	case TCP_CONNTRACK_TIME_WAIT:
		return NFT_TIMEOUT_TIME_WAIT;
	case TCP_CONNTRACK_CLOSE:
		return NFT_TIMEOUT_CLOSED;
	default:
		return NFT_TIMEOUT_FIN_WAIT;
	}
}

static void
addr_of(const struct nf_conntrack *ct, bool v6, bool dst, struct pk_addr *out)
{
	memset(out, 0, sizeof(*out));
	out->family = v6 ? 6 : 4;
	memcpy(out->bytes,
	    nfct_get_attr(ct,
	        v6 ? (dst ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV6_SRC)
	           : (dst ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV4_SRC)),
	    v6 ? 16 : 4);
}

/* False: not of our wires, or not allowed by us, or of a kind we do not know. */
static bool
session_of(const struct nft_track_conf *conf, const struct fw_rules *rules,
    const struct nf_conntrack *ct, struct nft_session *s)
{
	struct fw_session_info *i = &s->info;
	uint8_t l3 = nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO);
	uint16_t zone = nfct_get_attr_u16(ct, ATTR_ZONE);
	enum nft_timeout timeout = NFT_TIMEOUT_OTHER;
	const struct fw_endpoint *e;
	uint64_t left, whole, start;

	memset(s, 0, sizeof(*s));
	s->entry = ct;
	s->mark = nfct_get_attr_u32(ct, ATTR_MARK);
	if (zone >> 12 == 0 || zone >> 12 > conf->nb_wires || s->mark == 0 ||
	    (l3 != AF_INET && l3 != AF_INET6))
		return false;
	i->wire = (uint16_t)((zone >> 12) - 1);
	i->vrf = zone & NFT_VRF_MAX;
	i->id = nfct_get_attr_u32(ct, ATTR_ID);
	i->proto = nfct_get_attr_u8(ct, ATTR_ORIG_L4PROTO);
	addr_of(ct, l3 == AF_INET6, false, &i->src);
	addr_of(ct, l3 == AF_INET6, true, &i->dst);
	switch (i->proto) {
	case IPPROTO_TCP:
		i->state = tcp_state(nfct_get_attr_u8(ct, ATTR_TCP_STATE));
		timeout = tcp_timeout(nfct_get_attr_u8(ct, ATTR_TCP_STATE));
		break;
	case IPPROTO_UDP:
		timeout = (nfct_get_attr_u32(ct, ATTR_STATUS) & IPS_SEEN_REPLY) != 0
		    ? NFT_TIMEOUT_UDP
		    : NFT_TIMEOUT_UDP_NEW;
		i->state = timeout == NFT_TIMEOUT_UDP ? "udp" : "udp-new";
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		timeout = NFT_TIMEOUT_ICMP;
		i->state = "icmp";
		i->sport = ntohs(nfct_get_attr_u16(ct, ATTR_ICMP_ID));
		i->dport = (uint16_t)(nfct_get_attr_u8(ct, ATTR_ICMP_TYPE) << 8 |
		    nfct_get_attr_u8(ct, ATTR_ICMP_CODE));
		s->selector = i->dport;
		break;
	default:
		i->state = "other";
	}
	if (i->proto == IPPROTO_TCP || i->proto == IPPROTO_UDP || i->proto == IPPROTO_SCTP) {
		i->sport = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_SRC));
		i->dport = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
		s->selector = i->dport;
	}
	i->packets[0] = nfct_get_attr_u64(ct, ATTR_ORIG_COUNTER_PACKETS);
	i->packets[1] = nfct_get_attr_u64(ct, ATTR_REPL_COUNTER_PACKETS);
	i->bytes[0] = nfct_get_attr_u64(ct, ATTR_ORIG_COUNTER_BYTES);
	i->bytes[1] = nfct_get_attr_u64(ct, ATTR_REPL_COUNTER_BYTES);
	left = nfct_get_attr_u32(ct, ATTR_TIMEOUT) * PK_NS_PER_S;
	whole = conf->seconds[timeout] * PK_NS_PER_S;
	i->expires_in_ns = left;
	i->idle_ns = whole > left ? whole - left : 0;
	start = nfct_get_attr_u64(ct, ATTR_TIMESTAMP_START);
	i->age_ns = start != 0 && pk_clock_wall_ns() > start ? pk_clock_wall_ns() - start
	                                                     : i->idle_ns;
	e = rules != NULL ? fw_rules_endpoint(rules, i->vrf, &i->src) : NULL;
	i->direction = e != NULL && e->local && e->wire == i->wire ? PK_EGRESS : PK_INGRESS;
	return true;
}

/* ---- walks ---- */

static void
walk_free(struct nft_walk *w)
{
	struct nft_walk **at = &w->track->walks;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (w->readable != NULL)
		event_free(w->readable);
	if (w->socket != NULL)
		mnl_socket_close(w->socket);
	if (w->entry != NULL)
		nfct_destroy(w->entry);
	free(w);
}

static int
take_entry(const struct nlmsghdr *h, void *arg)
{
	struct nft_walk *w = arg;
	struct nft_session s;

	if (w->cancelled || w->how == NFT_WALK_STOP)
		return MNL_CB_OK;
	if (w->entry != NULL)
		nfct_destroy(w->entry);
	w->entry = nfct_new();
	if (w->entry == NULL || nfct_nlmsg_parse(h, w->entry) < 0)
		return MNL_CB_OK;
	if (!session_of(&w->track->conf, w->now, w->entry, &s))
		return MNL_CB_OK;
	w->how = w->each(w->arg, &s);
	return MNL_CB_OK;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct nft_walk *w = arg;
	char buffer[BUFFER];
	int rc = 1;

	(void)fd;
	(void)what;
	w->in_turn = true;
	w->now = w->rules(w->arg);
	/* A pause takes effect at the end of what the kernel has said: it cannot be put back. */
	for (unsigned int i = 0; i < CHUNKS && rc > 0 && w->how == NFT_WALK_ON && !w->cancelled;
	     i++) {
		ssize_t n =
		    recv(mnl_socket_get_fd(w->socket), buffer, sizeof(buffer), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		rc = n < 0 ? -errno : mnl_cb_run(buffer, (size_t)n, w->seq, w->port, take_entry, w);
		if (rc < 0)
			rc = n < 0 ? rc : -errno;
	}
	w->in_turn = false;
	if (w->cancelled) {
		walk_free(w);
		return;
	}
	if (rc > 0 && w->how == NFT_WALK_PAUSE)
		event_del(w->readable);
	if (rc > 0 && w->how != NFT_WALK_STOP)
		return;
	w->done(w->arg, rc < 0 ? rc : 0);
	walk_free(w);
}

void
nft_walk_resume(struct nft_walk *w)
{
	if (w->how != NFT_WALK_PAUSE)
		return;
	w->how = NFT_WALK_ON;
	event_add(w->readable, NULL);
}

void
nft_walk_cancel(struct nft_walk *w)
{
	if (w == NULL)
		return;
	if (w->in_turn)
		w->cancelled = true;
	else
		walk_free(w);
}

static int
request_dump(struct mnl_socket *s, uint32_t seq)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *g;

	h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = seq;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = AF_UNSPEC;
	g->version = NFNETLINK_V0;
	return mnl_socket_sendto(s, h, h->nlmsg_len) < 0 ? -errno : 0;
}

struct nft_walk *
nft_walk_start(struct nft_track *t, const struct fw_rules *(*rules)(void *arg),
    enum nft_walk_next (*each)(void *arg, const struct nft_session *s),
    void (*done)(void *arg, int rc), void *arg)
{
	struct nft_walk *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->track = t;
	w->next = t->walks;
	t->walks = w;
	w->rules = rules;
	w->each = each;
	w->done = done;
	w->arg = arg;
	w->seq = ++t->seq;
	w->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (w->socket == NULL || mnl_socket_bind(w->socket, 0, 0) < 0)
		goto fail;
	w->port = mnl_socket_get_portid(w->socket);
	w->readable = event_new(
	    t->conf.base, mnl_socket_get_fd(w->socket), EV_READ | EV_PERSIST, on_readable, w);
	if (w->readable == NULL || request_dump(w->socket, w->seq) < 0 ||
	    event_add(w->readable, NULL) < 0)
		goto fail;
	return w;
fail:
	walk_free(w);
	return NULL;
}

/* ---- orders ---- */

/* What names the entry, and nothing else of it. */
static struct nf_conntrack *
name_of(const struct nf_conntrack *ct)
{
	struct nf_conntrack *name = nfct_new();

	if (name == NULL)
		return NULL;
	nfct_copy(name, ct, NFCT_CP_ORIG);
	nfct_set_attr_u16(name, ATTR_ZONE, nfct_get_attr_u16(ct, ATTR_ZONE));
	return name;
}

static void
order(struct nft_track *t, const struct nft_session *s, uint16_t type, const uint32_t *mark)
{
	char buffer[4096] __attribute__((aligned(8)));
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct nf_conntrack *ct = name_of(s->entry);
	struct nfgenmsg *g;

	if (ct == NULL)
		return;
	h->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	h->nlmsg_flags = NLM_F_REQUEST;
	h->nlmsg_seq = ++t->seq;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO);
	g->version = NFNETLINK_V0;
	/* Another session may have taken these addresses since. */
	if (mark == NULL)
		nfct_set_attr_u32(ct, ATTR_ID, nfct_get_attr_u32(s->entry, ATTR_ID));
	else
		nfct_set_attr_u32(ct, ATTR_MARK, *mark);
	if (nfct_nlmsg_build(h, ct) == 0)
		(void)!mnl_socket_sendto(t->orders, h, h->nlmsg_len);
	nfct_destroy(ct);
	/* Complaints about sessions that have ended meanwhile; nobody waits for them. */
	while (recv(mnl_socket_get_fd(t->orders), buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
}

void
nft_session_kill(struct nft_track *t, const struct nft_session *s)
{
	order(t, s, IPCTNL_MSG_CT_DELETE, NULL);
}

void
nft_session_mark(struct nft_track *t, const struct nft_session *s, uint32_t mark)
{
	order(t, s, IPCTNL_MSG_CT_NEW, &mark);
}

/* ---- begin and end ---- */

static uint64_t
read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long long n = 0;

	if (f != NULL) {
		if (fscanf(f, "%llu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

void
nft_track_count(uint64_t *nb, uint64_t *max)
{
	*nb = read_number("/proc/sys/net/netfilter/nf_conntrack_count");
	*max = read_number("/proc/sys/net/netfilter/nf_conntrack_max");
}

/* Have `take` called for each message about an entry.  Returns 0 or negative errno. */
static int
dump(mnl_cb_t take, void *arg)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	char buffer[BUFFER];
	int rc;

	if (s == NULL)
		return -errno;
	rc = mnl_socket_bind(s, 0, 0) < 0 ? -errno : request_dump(s, 1);
	for (int more = 1; rc == 0 && more > 0;) {
		ssize_t n = mnl_socket_recvfrom(s, buffer, sizeof(buffer));

		more = n < 0
		    ? -1
		    : mnl_cb_run(buffer, (size_t)n, 1, mnl_socket_get_portid(s), take, arg);
		if (more < 0)
			rc = -errno;
	}
	mnl_socket_close(s);
	return rc;
}

struct stamps {
	uint16_t nb_wires;
	uint8_t *bits;
};

static int
note_stamp(const struct nlmsghdr *h, void *arg)
{
	struct stamps *s = arg;
	struct nf_conntrack *ct = nfct_new();

	if (ct != NULL && nfct_nlmsg_parse(h, ct) >= 0) {
		uint16_t wire = nfct_get_attr_u16(ct, ATTR_ZONE) >> 12;
		uint32_t stamp = nfct_get_attr_u32(ct, ATTR_MARK) >> 16;

		if (wire != 0 && wire <= s->nb_wires)
			s->bits[stamp / 8] |= (uint8_t)(1 << stamp % 8);
	}
	if (ct != NULL)
		nfct_destroy(ct);
	return MNL_CB_OK;
}

int
nft_track_stamps(uint16_t nb_wires, uint8_t bits[(NFT_STAMP_MAX + 1) / 8])
{
	struct stamps stamps = { nb_wires, bits };

	return dump(note_stamp, &stamps);
}

static int
clear_entry(const struct nlmsghdr *h, void *arg)
{
	struct nf_conntrack *ct = nfct_new();
	struct nft_session s = { .entry = ct };
	struct nft_track *t = arg;

	if (ct != NULL && nfct_nlmsg_parse(h, ct) >= 0) {
		uint16_t wire = nfct_get_attr_u16(ct, ATTR_ZONE) >> 12;

		if (wire != 0 && wire <= t->conf.nb_wires)
			nft_session_kill(t, &s);
	}
	if (ct != NULL)
		nfct_destroy(ct);
	return MNL_CB_OK;
}

int
nft_track_clear(struct nft_track *t)
{
	int rc;

	/* -EINTR: the table has changed so much that some were not shown, as it does when its entries go. */
	do {
		rc = dump(clear_entry, t);
	} while (rc == -EINTR);
	return rc;
}

int
nft_track_create(struct nft_track **out, const struct nft_track_conf *conf, struct pk_diag *diag)
{
	struct nft_track *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->conf = *conf;
	t->seq = (uint32_t)time(NULL);
	t->orders = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (t->orders == NULL || mnl_socket_bind(t->orders, 0, 0) < 0) {
		int rc = -errno;

		pk_diag_set(diag, "no netlink socket for conntrack: %s", strerror(-rc));
		nft_track_destroy(t);
		return rc;
	}
	*out = t;
	return 0;
}

void
nft_track_destroy(struct nft_track *t)
{
	if (t == NULL)
		return;
	while (t->walks != NULL)
		walk_free(t->walks);
	if (t->orders != NULL)
		mnl_socket_close(t->orders);
	free(t);
}
