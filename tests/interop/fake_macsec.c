/*
 * Lets Debian's wpa_supplicant run its whole MKA on a kernel without MACsec: what its macsec_linux driver would tell the
 * kernel's generic netlink family ends here, and keys are written as JSON lines to $FAKE_MACSEC_LOG, for tests to
 * compare.  Loaded with LD_PRELOAD; built by tests/net/mka_wpa.sh.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/genetlink.h>
#include <linux/if_macsec.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

#define FAMILY 0x7ffe

static int swallowed;

static void *
real(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		abort();
	return f;
}

static FILE *
out(void)
{
	static FILE *f;
	const char *path = getenv("FAKE_MACSEC_LOG");

	if (f == NULL) {
		f = path != NULL ? fopen(path, "a") : stderr;
		if (f == NULL)
			abort();
		setvbuf(f, NULL, _IOLBF, 0);
	}
	return f;
}

int
genl_ctrl_resolve(struct nl_sock *sk, const char *name)
{
	int (*f)(struct nl_sock *, const char *) = (int (*)(struct nl_sock *, const char *))real("genl_ctrl_resolve");

	return strcmp(name, "macsec") == 0 ? FAMILY : f(sk, name);
}

int
rtnl_link_add(struct nl_sock *sk, struct rtnl_link *link, int flags)
{
	(void)sk, (void)link, (void)flags;
	return 0;
}

int
rtnl_link_change(struct nl_sock *sk, struct rtnl_link *orig, struct rtnl_link *changes, int flags)
{
	(void)sk, (void)orig, (void)changes, (void)flags;
	return 0;
}

int
rtnl_link_delete(struct nl_sock *sk, const struct rtnl_link *link)
{
	(void)sk, (void)link;
	return 0;
}

struct nl_object *
nl_cache_find(struct nl_cache *cache, struct nl_object *filter)
{
	struct rtnl_link *l = rtnl_link_alloc();

	(void)cache, (void)filter;
	rtnl_link_set_ifindex(l, 4242);
	rtnl_link_set_name(l, "macsec0");
	return (struct nl_object *)l;
}

static void
hex(const char *name, const struct nlattr *a)
{
	const uint8_t *p = nla_data(a);

	fprintf(out(), ",\"%s\":\"", name);
	for (int i = 0; i < nla_len(a); i++)
		fprintf(out(), "%02x", p[i]);
	fprintf(out(), "\"");
}

static void
write_sa(const struct nlattr *config)
{
	struct nlattr *b;
	int left;

	nla_for_each_nested(b, config, left)
	{
		switch (nla_type(b)) {
		case MACSEC_SA_ATTR_AN:
			fprintf(out(), ",\"an\":%u", nla_get_u8(b));
			break;
		case MACSEC_SA_ATTR_ACTIVE:
			fprintf(out(), ",\"active\":%u", nla_get_u8(b));
			break;
		case MACSEC_SA_ATTR_KEY:
			hex("sak", b);
			break;
		default:
			break;
		}
	}
}

int
nl_send_auto_complete(struct nl_sock *sk, struct nl_msg *msg)
{
	static const char *const names[] = { "get_txsc", "add_rxsc", "del_rxsc", "upd_rxsc", "add_txsa", "del_txsa", "upd_txsa",
		"add_rxsa", "del_rxsa", "upd_rxsa" };
	int (*f)(struct nl_sock *, struct nl_msg *) = (int (*)(struct nl_sock *, struct nl_msg *))real("nl_send_auto_complete");
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct genlmsghdr *g = nlmsg_data(h);
	struct nlattr *a, *b;
	int left, inner;

	if (h->nlmsg_type != FAMILY)
		return f(sk, msg);
	swallowed = 1;
	if (g->cmd == MACSEC_CMD_GET_TXSC || g->cmd >= 10)
		return 0;
	fprintf(out(), "{\"op\":\"%s\"", names[g->cmd]);
	nlmsg_for_each_attr(a, h, GENL_HDRLEN, left)
	{
		if (nla_type(a) == MACSEC_ATTR_SA_CONFIG)
			write_sa(a);
		if (nla_type(a) == MACSEC_ATTR_RXSC_CONFIG)
			nla_for_each_nested(b, a, inner) if (nla_type(b) == MACSEC_RXSC_ATTR_SCI) hex("sci", b);
	}
	fprintf(out(), "}\n");
	return 0;
}

int
nl_recvmsgs_default(struct nl_sock *sk)
{
	int (*f)(struct nl_sock *) = (int (*)(struct nl_sock *))real("nl_recvmsgs_default");

	if (swallowed) {
		swallowed = 0;
		return 0;
	}
	return f(sk);
}
