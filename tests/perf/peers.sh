#!/bin/bash
# What others do with the captures of one case, on the same core, one after the other.
#
#   peers.sh BUILDDIR TMPDIR CASE      prints a JSON array, an object for each peer
#
#   ovs   Open vSwitch with DPDK and its userspace connection tracking (Debian's openvswitch-switch-dpdk), one
#         poll-mode thread.  Fed as fw_perf is: net_pcap with infinite_rx=1, from the very same captures.
#   nft   nftables with the kernel's conntrack, between two veth pairs in a namespace of its own:
#
#             generator --g0====f0-- forwarder --f1====g1-- everything is dropped
#
#         The threads of f0 and f1 do all of the work and are pinned to the core; perf_send, on the other core,
#         sends the captures in turns of 1,024 packets.
#
# A rate is per second that the peer's threads were on the core, so that waiting for the generator does not
# count against it.  A peer that cannot run has the value null and says why.
set -u
build=$(cd "$1" && pwd)
tmp=$2
case=$3
core=1
seconds=5
in=$tmp/$case.in.pcap
out=$tmp/$case.out.pcap

none() { printf '{"name":"%s","value":null,"note":"%s"}' "$1" "$2"; }
# Nanoseconds that the given threads have been on a core.
busy() { cat "$@" | awk '{ n += $1 } END { printf "%.0f", n }'; }
rate() { # NAME COUNT NANOSECONDS
	awk -v name="$1" -v n="$2" -v ns="$3" -v conns="$conns" 'BEGIN {
		if (ns < 1e8 || n < 1000) {
			printf "{\"name\":\"%s\",\"value\":null,\"note\":\"it did not forward\"}", name
			exit
		}
		if (conns) printf "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"1/s\"}", name, n * 1e9 / ns
		else printf "{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"Mpps\"}", name, n * 1e3 / ns
	}'
}

case $case in
*.cps.*) conns=1 ;;
*) conns=0 ;;
esac
case $case in
*.1krules*) nb_rules=1000 ;;
*) nb_rules=1 ;;
esac
"$build/tests/perf/fw_perf" "$tmp" "$case" captures || exit 1

ovs() {
	local d=$tmp/ovs vswitchd=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk pid thread i
	[ -x $vswitchd ] || { none ovs "needs openvswitch-switch-dpdk"; return; }
	mkdir -p "$d"
	export OVS_RUNDIR=$d OVS_LOGDIR=$d OVS_DBDIR=$d OVS_SYSCONFDIR=$d
	set_() { timeout 30 ovs-vsctl --db="unix:$d/db.sock" "$@" >/dev/null 2>>"$d/err"; }
	ask() { timeout 30 ovs-appctl -t "$d/vswitchd.ctl" "$@" 2>>"$d/err"; }
	ofctl() { timeout 30 ovs-ofctl -O OpenFlow13 "$@" 2>>"$d/err"; }
	stop_ovs() {
		for p in vswitchd db; do
			[ -s "$d/$p.pid" ] && kill "$(cat "$d/$p.pid")" 2>/dev/null
		done
		sleep 1
		rm -rf "$d"
	}
	ovsdb-tool create "$d/conf.db" /usr/share/openvswitch/vswitch.ovsschema
	ovsdb-server "$d/conf.db" --remote="punix:$d/db.sock" --pidfile="$d/db.pid" --log-file="$d/db.log" \
		--unixctl="$d/db.ctl" --detach --no-chdir 2>/dev/null
	set_ --no-wait init
	set_ --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:pmd-cpu-mask=0x2 \
		other_config:dpdk-lcore-mask=0x1 other_config:dpdk-socket-mem=1536 \
		other_config:dpdk-extra="--no-pci --in-memory --file-prefix=perfovs"
	$vswitchd "unix:$d/db.sock" --pidfile="$d/vswitchd.pid" --log-file="$d/vswitchd.log" \
		--unixctl="$d/vswitchd.ctl" --detach --no-chdir >/dev/null 2>&1
	if ! set_ add-br br0 -- set bridge br0 datapath_type=netdev; then
		none ovs "DPDK does not start in it"
		stop_ovs
		return
	fi
	{
		echo "table=0,priority=10,ip,actions=ct(table=1)"
		echo "table=1,priority=20,ct_state=+trk+inv,actions=drop"
		echo "table=1,priority=15,ip,ct_state=+trk+est,in_port=1,actions=output:2"
		echo "table=1,priority=15,ip,ct_state=+trk+est,in_port=2,actions=output:1"
		i=1
		while [ $i -lt $nb_rules ]; do
			echo "table=1,priority=10,tcp,ct_state=+trk+new,in_port=1,nw_dst=10.$((i / 256)).$((i % 256)).0/24,tp_dst=443,actions=ct(commit),output:2"
			i=$((i + 1))
		done
		echo "table=1,priority=5,tcp,ct_state=+trk+new,in_port=1,nw_dst=198.19.0.0/16,tp_dst=443,actions=ct(commit),output:2"
		echo "table=1,priority=0,actions=drop"
	} >"$d/rules"
	second="net_pcap1,rx_pcap=$out,infinite_rx=1"
	[ $conns = 1 ] && second="net_null1,no-rx=1"
	ofctl del-flows "$d/br0.mgmt"
	if ! set_ add-port br0 p0 -- set Interface p0 type=dpdk ofport_request=1 \
		"options:dpdk-devargs=\"net_pcap0,rx_pcap=$in,infinite_rx=1\"" \
		-- add-port br0 p1 -- set Interface p1 type=dpdk ofport_request=2 \
		"options:dpdk-devargs=\"$second\"" || ! ofctl replace-flows "$d/br0.mgmt" "$d/rules"; then
		none ovs "it does not take the ports or the rules"
		stop_ovs
		return
	fi
	pid=$(cat "$d/vswitchd.pid")
	sleep 2
	thread=
	for i in /proc/"$pid"/task/*; do
		case $(cat "$i/comm") in pmd-c*) thread=$i ;; esac
	done
	received() {
		if [ $conns = 1 ]; then
			ofctl dump-flows "$d/br0.mgmt" |
				awk '/\+new/ { for (i = 1; i <= NF; i++) if ($i ~ /^n_packets=/) {
					gsub(/[^0-9]/, "", $i); s += $i } } END { printf "%.0f", s }'
		else
			ask dpif-netdev/pmd-stats-show |
				awk '/^pmd/ { p = 1 } /^main/ { p = 0 } p && /packets received/ { printf "%.0f", $3 }'
		fi
	}
	if [ -z "$thread" ]; then
		none ovs "it has no poll-mode thread"
	else
		local n0 n1 t0 t1
		n0=$(received)
		t0=$(busy "$thread/schedstat")
		sleep $seconds
		n1=$(received)
		t1=$(busy "$thread/schedstat")
		rate ovs $((n1 - n0)) $((t1 - t0))
	fi
	stop_ovs
}

netfilter() {
	local f=perf-fw g=perf-gen threads= t0 t1 n0 n1
	command -v nft >/dev/null || { none nft "needs nftables"; return; }
	down() { ip netns del $f 2>/dev/null; ip netns del $g 2>/dev/null; }
	in_f() { ip netns exec $f "$@"; }
	down
	if ! ip netns add $f || ! ip netns add $g ||
		! ip link add g0 netns $g type veth peer name f0 netns $f ||
		! ip link add g1 netns $g type veth peer name f1 netns $f; then
		none nft "may not make namespaces"
		down
		return
	fi 2>/dev/null
	in_f ip link set f0 address 02:00:00:00:00:02
	in_f ip link set f1 address 02:00:00:00:00:01
	in_f ip addr add 198.18.255.253/16 dev f0
	in_f ip addr add 198.19.255.253/16 dev f1
	in_f sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 \
		net.ipv4.conf.f0.rp_filter=0 net.ipv4.conf.f1.rp_filter=0
	for i in f0 f1; do
		in_f ethtool -K $i gro on tso off gso off rx on tx on >/dev/null 2>&1
		in_f ip link set $i up
		in_f sh -c "echo 1 >/sys/class/net/$i/threaded"
	done
	for i in g0 g1; do
		ip netns exec $g sysctl -qw net.ipv6.conf.$i.disable_ipv6=1
		# What comes from a veth with TSO the kernel hands to the other end in the sender's own time, past
		# the threads that are timed.
		ip netns exec $g ethtool -K $i tso off >/dev/null 2>&1
		ip netns exec $g ip link set $i up
		ip netns exec $g nft "add table netdev $i; add chain netdev $i c { type filter hook ingress device $i priority 0; policy drop; }"
	done
	# One neighbour stands for each side's whole network.
	in_f ip neigh replace 198.18.0.254 lladdr 02:00:00:00:00:01 dev f0 nud permanent
	in_f ip neigh replace 198.19.0.254 lladdr 02:00:00:00:00:02 dev f1 nud permanent
	in_f ip route replace 198.18.0.0/16 via 198.18.0.254 dev f0
	in_f ip route replace 198.19.0.0/16 via 198.19.0.254 dev f1
	{
		printf 'table ip fw {\ncounter opened { }\n'
		echo 'chain forward { type filter hook forward priority 0; policy drop;'
		echo 'ct state established,related accept; ct state invalid drop;'
		i=1
		while [ $i -lt $nb_rules ]; do
			echo "iif f0 ip daddr 10.$((i / 256)).$((i % 256)).0/24 tcp dport 443 ct state new accept;"
			i=$((i + 1))
		done
		echo 'iif f0 ip daddr 198.19.0.0/16 tcp dport 443 ct state new counter name opened accept;'
		printf '}\n}\n'
	} >"$tmp/nft.rules"
	if ! in_f nft -f "$tmp/nft.rules" 2>"$tmp/nft.err"; then
		none nft "this kernel does not take the rules"
		down
		return
	fi
	sleep 0.5
	for i in $(ps -eo pid,comm | awk '$2 ~ /^napi\/f[01]-/ { print $1 }'); do
		threads="$threads /proc/$i/schedstat"
		taskset -pc $core "$i" >/dev/null
	done
	passed() {
		if [ $conns = 1 ]; then
			in_f nft list counter ip fw opened | awk '/packets/ { print $2 }'
		else
			in_f awk '/f[01]:/ { sub(/^ */, ""); split($0, a, /[: ]+/); s += a[11] } END { printf "%.0f", s }' /proc/net/dev
		fi
	}
	if [ -z "$threads" ]; then
		none nft "this kernel has no threads for veth"
	else
		second=$out
		[ $conns = 1 ] && second=
		ip netns exec $g taskset -c 0 "$build/tests/perf/perf_send" 1 g0 "$in" ${second:+g1 "$second"}
		n0=$(passed)
		t0=$(busy $threads)
		ip netns exec $g taskset -c 0 "$build/tests/perf/perf_send" $seconds g0 "$in" ${second:+g1 "$second"}
		n1=$(passed)
		t1=$(busy $threads)
		rate nft $((n1 - n0)) $((t1 - t0))
	fi
	down
}

printf '['
ovs
printf ','
netfilter
printf ']\n'
rm -f "$in" "$out"
