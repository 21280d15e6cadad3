#!/bin/sh
# The interface by which picketd hands flows to picket-tlsd: a network of its own, in which every address is local.
#
#   tls-port.sh add NETNS IFACE PEER [PORT]    make PEER, for picketd, here, and IFACE, for picket-tlsd, in NETNS
#   tls-port.sh del NETNS IFACE
#
# NETNS is made if it is not there; several wires have an interface each in the same one.  PORT is picket-tlsd's
# plain-port.  Nothing routes into or out of NETNS but these interfaces.
set -eu
case ${1:-} in
add) netns=$2 iface=$3 peer=$4 port=${5:-15001} ;;
del) ip -n "$2" link del dev "$3"; exit ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
inside() { ip netns exec "$netns" "$@"; }
ip netns list | grep -qw "^$netns" || ip netns add "$netns"
ip link add "$peer" type veth peer name "$iface" netns "$netns"
# Frames from a kernel to picketd and back: no coalescing, and sums that are there.
ethtool -K "$peer" gro off >/dev/null 2>&1 || true
inside ethtool -K "$iface" tx off tso off gso off gro off >/dev/null 2>&1 || true
sysctl -qw "net.ipv6.conf.$peer.disable_ipv6=1" || true
# A neighbour has no address of its own to be found by: picketd puts link addresses in.
ip -n "$netns" link set dev "$iface" address 02:70:6b:74:6c:73 arp off up
ip link set dev "$peer" up
ip -n "$netns" link set dev lo up
inside sysctl -qw net.ipv4.conf.all.rp_filter=0 "net.ipv4.conf.$iface.rp_filter=0" net.ipv4.tcp_migrate_req=1 \
	net.ipv4.ip_nonlocal_bind=1 net.ipv4.tcp_timestamps=1 "net.ipv6.conf.$iface.accept_ra=0" \
	"net.ipv6.conf.$iface.accept_dad=0" || true
index=$(inside cat "/sys/class/net/$iface/ifindex")
for v in -4 -6; do
	all=0.0.0.0/0
	[ $v = -4 ] || all=::/0
	# What comes in is for us, whatever its address; what goes out goes by the interface its socket is bound to.
	ip $v -n "$netns" rule add iif "$iface" lookup 100 priority 100
	ip $v -n "$netns" route replace local "$all" dev lo table 100
	ip $v -n "$netns" route add default dev "$iface" metric "$index"
done
# New flows go to the listener on PORT and keep their addresses; those to 15008 have a listener of their own.
inside nft -f - <<EOT
table inet picket_tls
delete table inet picket_tls
table inet picket_tls {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		meta l4proto tcp tcp dport != 15008 tproxy to :$port
	}
	chain input {
		type filter hook input priority filter; policy drop;
		meta l4proto tcp accept
		meta l4proto { icmp, ipv6-icmp } accept
	}
}
EOT
