/*
 * probe: nft
 * for: the kernel data plane picket-nftd: nftables and connection tracking over netlink
 * pkg: libnftnl libmnl libnetfilter_conntrack
 * libs: 
 * debian: libnftnl-dev libmnl-dev libnetfilter-conntrack-dev
 * required: yes
 */
#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnftnl/rule.h>

int
main(void)
{
	struct nftnl_rule *r = nftnl_rule_alloc();
	struct nf_conntrack *ct = nfct_new();
	struct mnl_socket *s = mnl_socket_open(NETLINK_NETFILTER);

	return (r == NULL) + (ct == NULL) + (s == NULL) > 3;
}
