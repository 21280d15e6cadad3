#include "fw/nft/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "lib/log.h"

int
nft_wire_parse(struct nft_wire *out, uint16_t number, const char *text, struct pk_diag *diag)
{
	char inside[32], outside[32], how[32] = "", more[8];
	int n = sscanf(text, "%31s %31s %31s %7s", inside, outside, how, more);

	memset(out, 0, sizeof(*out));
	if (n < 2 || n > 3 || (n == 3 && strcmp(how, "routed") != 0) ||
	    strlen(inside) >= IFNAMSIZ || strlen(outside) >= IFNAMSIZ ||
	    strcmp(inside, outside) == 0) {
		pk_diag_set(diag,
		    "wire = %s: want an inside interface, an outside interface, and nothing or `routed`",
		    text);
		return -EINVAL;
	}
	strcpy(out->port[0], inside);
	strcpy(out->port[1], outside);
	if (n == 2)
		snprintf(out->bridge, sizeof(out->bridge), "picket%u", number);
	return 0;
}

/* Returns 0, or negative errno with *diag. */
static int
write_file(const char *path, const char *value, struct pk_diag *diag)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 || write(fd, value, strlen(value)) < 0) {
		rc = -errno;
		pk_diag_set(diag, "%s: cannot be set to %s: %s", path, value, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- links ---- */

/* Send a message about a link and hear whether it is done.  Returns 0 or negative errno. */
static int
ask(struct nlmsghdr *h)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	char buffer[8192];
	ssize_t n;
	int rc = -EIO;

	if (s == NULL)
		return -errno;
	h->nlmsg_seq = (uint32_t)time(NULL);
	h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (mnl_socket_bind(s, 0, 0) < 0 || mnl_socket_sendto(s, h, h->nlmsg_len) < 0 ||
	    (n = mnl_socket_recvfrom(s, buffer, sizeof(buffer))) < 0 ||
	    mnl_cb_run(buffer, (size_t)n, h->nlmsg_seq, mnl_socket_get_portid(s), NULL, NULL) < 0)
		rc = -errno;
	else
		rc = 0;
	mnl_socket_close(s);
	return rc;
}

static struct ifinfomsg *
link_message(char *buffer, struct nlmsghdr **h, uint16_t type, unsigned int index)
{
	struct ifinfomsg *i;

	*h = mnl_nlmsg_put_header(buffer);
	(*h)->nlmsg_type = type;
	i = mnl_nlmsg_put_extra_header(*h, sizeof(*i));
	i->ifi_family = AF_UNSPEC;
	i->ifi_index = (int)index;
	return i;
}

static int
make_bridge(const char *name)
{
	char buffer[1024] __attribute__((aligned(8)));
	struct nlattr *info, *data;
	struct ifinfomsg *i;
	struct nlmsghdr *h;

	i = link_message(buffer, &h, RTM_NEWLINK, 0);
	h->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	i->ifi_change = i->ifi_flags = IFF_UP;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u8(h, IFLA_BR_NF_CALL_IPTABLES, 1);
	mnl_attr_put_u8(h, IFLA_BR_NF_CALL_IP6TABLES, 1);
	mnl_attr_put_u8(h, IFLA_BR_MCAST_SNOOPING, 0);
	mnl_attr_put_u32(h, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(h, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return ask(h);
}

static int
set_up(const char *name)
{
	char buffer[256] __attribute__((aligned(8)));
	struct ifinfomsg *i;
	struct nlmsghdr *h;

	i = link_message(buffer, &h, RTM_NEWLINK, if_nametoindex(name));
	i->ifi_change = i->ifi_flags = IFF_UP;
	return ask(h);
}

static int
join(const char *name, unsigned int bridge)
{
	char buffer[512] __attribute__((aligned(8)));
	struct nlattr *info, *data;
	struct ifinfomsg *i;
	struct nlmsghdr *h;
	int rc;

	i = link_message(buffer, &h, RTM_NEWLINK, if_nametoindex(name));
	i->ifi_change = i->ifi_flags = IFF_UP | IFF_PROMISC;
	mnl_attr_put_u32(h, IFLA_MASTER, bridge);
	rc = ask(h);
	if (rc < 0)
		return rc;
	(void)link_message(buffer, &h, RTM_NEWLINK, if_nametoindex(name));
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
	data = mnl_attr_nest_start(h, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(h, IFLA_BRPORT_LEARNING, 0);
	mnl_attr_put_u8(h, IFLA_BRPORT_UNICAST_FLOOD, 1);
	mnl_attr_put_u8(h, IFLA_BRPORT_MCAST_FLOOD, 1);
	mnl_attr_put_u8(h, IFLA_BRPORT_BCAST_FLOOD, 1);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return ask(h);
}

int
nft_wire_open(struct nft_wire *w, struct pk_diag *diag)
{
	static const char *const tagged = "/proc/sys/net/bridge/bridge-nf-filter-vlan-tagged";
	char path[128];
	int rc;

	for (unsigned int side = 0; side < 2; side++) {
		if (if_nametoindex(w->port[side]) == 0) {
			pk_diag_set(diag, "there is no interface %s", w->port[side]);
			return -ENODEV;
		}
	}
	if (w->bridge[0] == '\0')
		return 0;
	if (access(tagged, F_OK) < 0) {
		pk_diag_set(diag,
		    "this kernel does not show bridged packets to conntrack: load br_netfilter (modprobe br_netfilter)");
		return -EOPNOTSUPP;
	}
	rc = make_bridge(w->bridge);
	if (rc < 0 && rc != -EEXIST) {
		pk_diag_set(diag, "bridge %s cannot be made: %s", w->bridge, strerror(-rc));
		return rc;
	}
	w->bridge_index = if_nametoindex(w->bridge);
	/* It is nobody's interface: no address, no answer to whoever asks for one of this machine's. */
	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/arp_ignore", w->bridge);
	rc = write_file(path, "8", diag);
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", w->bridge);
	if (rc == 0 && access(path, F_OK) == 0)
		rc = write_file(path, "1", diag);
	return rc == 0 ? write_file(tagged, "1", diag) : rc;
}

int
nft_wire_join(const struct nft_wire *w, struct pk_diag *diag)
{
	for (unsigned int side = 0; side < 2; side++) {
		int rc = w->bridge[0] == '\0' ? set_up(w->port[side])
		                              : join(w->port[side], w->bridge_index);

		if (rc < 0) {
			pk_diag_set(diag, "%s cannot be put into bridge %s: %s", w->port[side],
			    w->bridge, strerror(-rc));
			return rc;
		}
	}
	return 0;
}

int
nft_wire_remove(const struct nft_wire *w, struct pk_diag *diag)
{
	unsigned int index = w->bridge[0] != '\0' ? if_nametoindex(w->bridge) : 0;
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *h;
	int rc;

	if (index == 0)
		return 0;
	(void)link_message(buffer, &h, RTM_DELLINK, index);
	rc = ask(h);
	if (rc < 0)
		pk_diag_set(diag, "bridge %s cannot be taken away: %s", w->bridge, strerror(-rc));
	return rc;
}

int
nft_conntrack_setup(bool tcp_loose, struct pk_diag *diag)
{
	const struct {
		const char *name, *value;
		bool must;
	} set[] = {
		{ "nf_conntrack_tcp_loose", tcp_loose ? "1" : "0", true },
		{ "nf_conntrack_tcp_be_liberal", "0", true },
		{ "nf_conntrack_checksum", "0", true },
		{ "nf_conntrack_acct", "1", false },
		{ "nf_conntrack_timestamp", "1", false },
	};

	for (unsigned int i = 0; i < PK_COUNT(set); i++) {
		char path[128];
		int rc;

		snprintf(path, sizeof(path), "/proc/sys/net/netfilter/%s", set[i].name);
		rc = write_file(path, set[i].value, diag);
		if (rc < 0 && set[i].must)
			return rc;
	}
	return 0;
}
