# A small data centre out of network namespaces: sourced by conf/demo/run and by tests/net/*.sh.
#
#   web     192.0.2.10 --- in0 [dpu1] out0 --.                 .-- out0 [dpu2] in0 --- 192.0.2.30  db
#           2001:db8::10                      >-- fabric (br) -<                        2001:db8::30
#   client  192.0.2.20 --- in1 [dpu1] out1 --'                 '-- out1 [dpu2] in1 --- 192.0.2.66  intruder
#
#   policy  198.51.100.1 -- mgmt (br) -- 198.51.100.11 dpu1, 198.51.100.12 dpu2
#
#   host1   203.0.113.2 -- pcie -- 203.0.113.1 dpu1       the machines behind the DPUs, each with a TPM
#   host2   203.0.113.6 -- pcie -- 203.0.113.5 dpu2       (swtpm); only where lab_hosts makes them
#
# With LAB_MTLS=yes each DPU has picket-tlsd, in a namespace of its own (tls1, tls2) with an interface for each wire.
#
# With LAB_MACSEC=yes the four outside ports and the fabric between them carry MACsec, and nothing else but EAPOL.
#
# With LAB_IPSEC=yes wire 0 of each DPU has an address of its own, 192.0.2.201 and .202, for ESP, and policy asks for it
# between web and db.
#
# Set before sourcing: SRCDIR, BUILDDIR.  LAB names the namespaces, so that two labs can stand side by
# side; LAB_DIR holds state, sockets, logs and pids, and goes with the lab.

LAB=${LAB:-pk}
LAB_DIR=${LAB_DIR:-/run/picket-$LAB}
BIN=$BUILDDIR/bin
LAB_NS="fabric policy dpu1 dpu2 host1 host2 web client db intruder${LAB_MTLS:+ tls1 tls2}"
LAB_SERVER=198.51.100.1:7443
LAB_SERVER2=198.51.100.1:7444 # with STORE=etcd

in_ns() { # NAME COMMAND...: run in a namespace of the lab
	ns=$1
	shift
	ip netns exec "$LAB-$ns" "$@"
}

lab_can() { # says why not, and fails, when this machine cannot hold a lab
	if [ "$(id -u)" != 0 ]; then
		echo 'needs root for network namespaces'
	elif ! command -v ip >/dev/null || ! command -v ethtool >/dev/null; then
		echo 'needs iproute2 and ethtool'
	elif ! ip netns add "$LAB-probe" 2>/dev/null; then
		echo 'network namespaces are not to be had here'
	else
		ip netns del "$LAB-probe"
		return 0
	fi
	return 1
}

# veth NS1 IF1 NS2 IF2
veth() {
	ip link add "$2" netns "$LAB-$1" type veth peer name "$4" netns "$LAB-$3"
	ip -n "$LAB-$1" link set dev "$2" up
	ip -n "$LAB-$3" link set dev "$4" up
}

# workload NAME LAST-BYTE DPU WIRE: a host with one interface behind wire WIRE of DPU
workload() {
	veth "$1" eth0 "$3" "in$4"
	ip -n "$LAB-$1" link set dev eth0 address "02:00:00:00:00:$2"
	ip -n "$LAB-$1" addr add "192.0.2.$2/24" dev eth0
	ip -n "$LAB-$1" addr add "2001:db8::$2/64" dev eth0 nodad
	# A real NIC segments and sums; between namespaces nobody would.
	ip netns exec "$LAB-$1" ethtool -K eth0 tx off >/dev/null
	veth "$3" "out$4" fabric "$3-$4"
	if [ -n "${LAB_MACSEC:-}" ]; then
		# 32 octets more than the workloads' frames.
		ip -n "$LAB-$3" link set dev "out$4" mtu 1600
		ip -n "$LAB-fabric" link set dev "$3-$4" mtu 1600
	fi
	ip -n "$LAB-fabric" link set dev "$3-$4" master fabric
}

lab_up() {
	mkdir -p "$LAB_DIR"
	chmod 755 "$LAB_DIR"
	: >"$LAB_DIR/pids"
	for ns in $LAB_NS; do
		ip netns add "$LAB-$ns"
		ip -n "$LAB-$ns" link set dev lo up
	done
	# Kernel interfaces of a DPU carry frames, not packets of its own.
	for ns in fabric dpu1 dpu2; do
		in_ns $ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	done
	for ns in web client db intruder; do
		in_ns $ns sysctl -qw net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.router_solicitations=0
	done
	ip -n "$LAB-fabric" link add fabric type bridge
	ip -n "$LAB-fabric" link set dev fabric type bridge mcast_snooping 0 2>/dev/null || true
	# EAPOL is for the next station, which a bridge usually is.
	[ -z "${LAB_MACSEC:-}" ] || ip -n "$LAB-fabric" link set dev fabric type bridge group_fwd_mask 8
	ip -n "$LAB-fabric" link set dev fabric up
	workload web 10 dpu1 0
	workload client 20 dpu1 1
	workload db 30 dpu2 0
	workload intruder 66 dpu2 1
	ip -n "$LAB-policy" link add mgmt type bridge
	ip -n "$LAB-policy" addr add 198.51.100.1/24 dev mgmt
	ip -n "$LAB-policy" link set dev mgmt up
	for n in 1 2; do
		veth dpu$n mgmt policy "dpu$n"
		ip -n "$LAB-policy" link set dev "dpu$n" master mgmt
		ip -n "$LAB-dpu$n" addr add "198.51.100.1$n/24" dev mgmt
		[ -n "${LAB_MTLS:-}" ] || continue
		for wire in 0 1; do
			in_ns dpu$n sh "$SRCDIR/conf/tls-port.sh" add "$LAB-tls$n" tls$wire tls${wire}p
		done
	done
}

# spawn NAME NS COMMAND...: in the background, its pid and log kept under NAME
spawn() {
	name=$1
	ns=$2
	shift 2
	ip netns exec "$LAB-$ns" "$@" >>"$LAB_DIR/$name.log" 2>&1 </dev/null &
	echo $! >"$LAB_DIR/$name.pid"
	echo "$! $name" >>"$LAB_DIR/pids"
}

pid_of() {
	cat "$LAB_DIR/$1.pid"
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
	tries=$(($1 * 20))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

lab_init() { # certificates for the server, both DPUs and an operator
	"$BIN/picket-policyd" -o state-dir="$LAB_DIR/policyd" init --domain demo.example --server 198.51.100.1 >>"$LAB_DIR/init.log" 2>&1
	for n in 1 2; do
		"$BIN/picket-policyd" -o state-dir="$LAB_DIR/policyd" issue dpu dpu$n "$LAB_DIR/dpu$n.id" >>"$LAB_DIR/init.log" 2>&1
	done
	"$BIN/picket-policyd" -o state-dir="$LAB_DIR/policyd" issue operator admin "$LAB_DIR/operator" >>"$LAB_DIR/init.log" 2>&1
}

start_policyd() { # [OPTION...]
	mkdir -p "$LAB_DIR/run-policy"
	if [ "${STORE:-}" = etcd ]; then
		lab_etcd || return 1
		start_policyd_on_etcd policyd $LAB_SERVER "$@"
		start_policyd_on_etcd policyd2 $LAB_SERVER2 "$@"
		return
	fi
	spawn policyd policy "$BIN/picket-policyd" -c /dev/null -o state-dir="$LAB_DIR/policyd" \
		-o listen=$LAB_SERVER -o run-dir="$LAB_DIR/run-policy" ${LAB_IPSEC:+-o mesh-rekey=2s} "$@"
}

# With STORE=etcd there are three members and two servers, and DPU 1 asks the one first, DPU 2 the other.
lab_etcd() {
	. "$SRCDIR/conf/demo/etcd.sh"
	[ -e "$LAB_DIR/etcd1.pid" ] || ETCD_IN=policy etcd_up "$LAB_DIR/etcd" 2379
}

start_policyd_on_etcd() { # NAME ADDRESS [OPTION...]
	name=$1 address=$2
	shift 2
	mkdir -p "$LAB_DIR/run-$name" "$LAB_DIR/state-$name"
	spawn $name policy "$BIN/picket-policyd" -c /dev/null -o state-dir="$LAB_DIR/state-$name" \
		-o ca-dir="$LAB_DIR/policyd/ca" -o listen=$address -o run-dir="$LAB_DIR/run-$name" \
		-o store="$(etcd_store 2379)" -o store-ca="$LAB_DIR/etcd/ca.crt" \
		-o store-certificate="$LAB_DIR/etcd/client.crt" -o store-key="$LAB_DIR/etcd/client.key" "$@"
}

lab_servers() { # N: whom the agent of a DPU asks, in this order
	case "${STORE:-} $1" in
	'etcd 1') echo $LAB_SERVER,$LAB_SERVER2 ;;
	'etcd 2') echo $LAB_SERVER2,$LAB_SERVER ;;
	*) echo $LAB_SERVER ;;
	esac
}

# PLANE: dpdk (picketd) or nft (picket-nftd), which guards every DPU of the lab
PLANE=${PLANE:-dpdk}

start_plane() { # N [OPTION...]
	if [ $PLANE = nft ]; then start_nftd "$@"; else start_picketd "$@"; fi
}

plane_socket() {
	if [ $PLANE = nft ]; then echo picket-nftd.sock; else echo picketd.sock; fi
}

start_agentd() { # N [OPTION...]
	n=$1
	shift
	mkdir -p "$LAB_DIR/run-dpu$n"
	spawn agentd$n dpu$n "$BIN/picket-agentd" -c /dev/null -o instance=dpu$n -o server=$(lab_servers $n) \
		-o identity="$LAB_DIR/dpu$n.id" -o state-dir="$LAB_DIR/agentd$n" -o run-dir="$LAB_DIR/run-dpu$n" \
		-o plane="$LAB_DIR/run-dpu$n/$(plane_socket)" -o heartbeat=1s "$@"
}

start_picketd() { # N [OPTION...]
	n=$1
	shift
	mkdir -p "$LAB_DIR/run-dpu$n"
	spawn picketd$n dpu$n "$BIN/picketd" -c /dev/null -o instance=dpu$n -o run-dir="$LAB_DIR/run-dpu$n" \
		-o huge=no -o memory=128m -o buffers=16383 -o sessions=65536 -o lcores='0@0-1,1@0-1' \
		-o wire='af_packet:in0 af_packet:out0' -o wire='af_packet:in1 af_packet:out1' \
		${LAB_MTLS:+-o tls-port='0 af_packet:tls0p' -o tls-port='1 af_packet:tls1p'} \
		${LAB_MACSEC:+-o macsec='0 required' -o macsec='1 required'} \
		${LAB_IPSEC:+-o ipsec-sas=1000 -o ipsec-address="0 192.0.2.20$n/24"} "$@"
}

lab_policy() { # the demo's policy, as it is to be applied, in LAB_DIR/policy
	cp -r "$SRCDIR/conf/demo/policy" "$LAB_DIR/policy"
	[ -z "${LAB_IPSEC:-}" ] ||
		sed -i '/- name: \(database\|web\)$/,/services/s/action: allow/&\n      encryption: ipsec/' \
			"$LAB_DIR/policy/web.yaml" "$LAB_DIR/policy/db.yaml"
	[ -z "${LAB_MTLS:-}" ] || {
		rm "$LAB_DIR/policy/client.yaml" "$LAB_DIR/policy/db.yaml" "$LAB_DIR/policy/web.yaml"
		cp "$SRCDIR/conf/demo/mtls/policy.yaml" "$LAB_DIR/policy/mtls.yaml"
	}
}

lab_cak() { # one CAK for all who are on the fabric
	(umask 077 && printf '70696b6574 %s\n' "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >"$LAB_DIR/fabric.key")
}

lab_secret() { # NAME: a secret of the policy server
	"$BIN/picket-policyd" -c /dev/null -o state-dir="$LAB_DIR/policyd" secret "$1" >>"$LAB_DIR/init.log" 2>&1
}

start_mkad() { # N [OPTION...]
	n=$1
	shift
	# By a file where there is one; else what the policy server has.
	if [ -f "$LAB_DIR/fabric.key" ]; then
		set -- -o port="0 $LAB_DIR/fabric.key" -o port="1 $LAB_DIR/fabric.key" "$@"
	fi
	spawn mkad$n dpu$n "$BIN/picket-mkad" -c /dev/null -o run-dir="$LAB_DIR/run-dpu$n" \
		-o plane="$LAB_DIR/run-dpu$n/macsec.sock" -o state-dir="$LAB_DIR/mkad$n" -o agent="$LAB_DIR/run-dpu$n/picket-agentd.grants" \
		-o priority=$((10 * n)) "$@"
}

# All four stations have the key of one server, and none is still changing to it.
mka_settled() {
	for n in 1 2; do
		dpuctl $n -j mka status
	done | grep '"state": *"retire"' | grep '"live": *3' | sed 's/.*"server": *"\([^"]*\)".*"key": *\([0-9]*\).*/\1 \2/' |
		sort | uniq -c | grep -q '^ *4 '
}

start_tlsd() { # N [OPTION...]
	n=$1
	shift
	spawn tlsd$n tls$n "$BIN/picket-tlsd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu$n" -o plane="$LAB_DIR/run-dpu$n/tls.sock" \
		-o agent="$LAB_DIR/run-dpu$n/picket-agentd.svid" -o port='0 tls0' -o port='1 tls1' "$@"
}

tlsd_serves() { # N: it has picketd, and SVIDs
	dpuctl $1 -j show tls-status | grep '"plane": *true' | grep -q '"identities": *[1-9]'
}

start_nftd() { # N [OPTION...]
	n=$1
	shift
	mkdir -p "$LAB_DIR/run-dpu$n"
	spawn nftd$n dpu$n "$BIN/picket-nftd" -c /dev/null -o instance=dpu$n -o run-dir="$LAB_DIR/run-dpu$n" \
		-o wire='in0 out0' -o wire='in1 out1' "$@"
}

# ---- hosts that attest themselves ----

lab_hosts_can() { # says why not, and fails, when there can be no TPMs
	if ! command -v swtpm >/dev/null || ! command -v swtpm_setup >/dev/null; then
		echo 'needs swtpm and swtpm-tools'
	elif [ ! -x "$BUILDDIR/tests/tools/measure" ]; then
		echo 'needs tests/tools/measure'
	else
		return 0
	fi
	return 1
}

LAB_TPM=swtpm:host=127.0.0.1,port=9321
LAB_GOOD=1111111111111111111111111111111111111111111111111111111111111111
LAB_EVIL=2222222222222222222222222222222222222222222222222222222222222222

host_tpm_make() { # N: a TPM with its EK certificate, as a factory makes them
	mkdir -p "$LAB_DIR/tpm$1" "$LAB_DIR/factory" "$LAB_DIR/logs$1"
	cat >"$LAB_DIR/factory/localca.conf" <<EOF
statedir = $LAB_DIR/factory
signingkey = $LAB_DIR/factory/signkey.pem
issuercert = $LAB_DIR/factory/issuercert.pem
certserial = $LAB_DIR/factory/certserial
EOF
	printf '%s\n' '--platform-manufacturer Picket' '--platform-version 1' '--platform-model lab' \
		>"$LAB_DIR/factory/localca.options"
	cat >"$LAB_DIR/factory/setup.conf" <<EOF
create_certs_tool= $(command -v swtpm_localca)
create_certs_tool_config = $LAB_DIR/factory/localca.conf
create_certs_tool_options = $LAB_DIR/factory/localca.options
active_pcr_banks = sha1,sha256
EOF
	# The tools change to a user of their own.
	chmod 777 "$LAB_DIR/tpm$1" "$LAB_DIR/factory"
	swtpm_setup --tpm2 --tpmstate "$LAB_DIR/tpm$1" --config "$LAB_DIR/factory/setup.conf" \
		--create-ek-cert --overwrite >"$LAB_DIR/factory$1.log" 2>&1
}

host_measure() { # N WHAT ARG...: as firmware or kernel of that host
	n=$1 what=$2
	shift 2
	in_ns host$n "$BUILDDIR/tests/tools/measure" $what $LAB_TPM "$LAB_DIR/logs$n" "$@"
}

host_on() { # N: power on, boot, and run what every machine runs
	spawn swtpm$1 host$1 swtpm socket --tpm2 --tpmstate dir="$LAB_DIR/tpm$1" \
		--server type=tcp,port=9321,bindaddr=127.0.0.1 --ctrl type=tcp,port=9322,bindaddr=127.0.0.1 \
		--flags not-need-init,startup-clear
	host_measure $1 boot 'root=/dev/vda ro quiet' && host_measure $1 run /usr/bin/sh $LAB_GOOD || return 1
	start_hostd $1
}

start_hostd() { # N
	spawn hostd$1 host$1 "$BIN/picket-attestd" -c /dev/null -o role=host -o name=host$1 -o dpu=dpu$1 \
		-o dpu-address=tcp:203.0.113.$((4 * $1 - 3)):7444 -o ca="$LAB_DIR/dpu$1.id/ca.crt" -o tpm=$LAB_TPM \
		-o tpm-share=yes -o eventlog="$LAB_DIR/logs$1/eventlog.bin" -o ima="$LAB_DIR/logs$1/ima.bin" \
		-o watch=50ms -o reconnect=200ms
}

host_off() { # N
	end hostd$1
	end swtpm$1
}

start_attestd() { # N [OPTION...]
	n=$1
	shift
	spawn attestd$n dpu$n "$BIN/picket-attestd" -c /dev/null -o role=dpu -o state-dir="$LAB_DIR/attestd$n" \
		-o run-dir="$LAB_DIR/run-dpu$n" -o identity="$LAB_DIR/dpu$n.id" \
		-o listen=tcp:203.0.113.$((4 * n - 3)):7444 -o reference="$LAB_DIR/reference.json" -o interval=1s \
		-o answer=700ms -o lease=4s -o tell="$LAB_DIR/run-dpu$n/posture.sock" \
		-o tell="$LAB_DIR/run-dpu$n/picket-agentd.posture" "$@"
}

host_state() { # N: as its DPU sees it
	dpuctl $1 -j attest status | sed -n 's/.*"state": *"\([a-z]*\)".*/\1/p'
}

host_is() { # N STATE
	[ "$(host_state $1)" = "$2" ]
}

lab_hosts() { # TPMs, reference, verifiers and hosts; returns when both are trusted
	for h in 1 2; do
		veth host$h pcie dpu$h pcie
		ip -n "$LAB-host$h" addr add 203.0.113.$((4 * h - 2))/30 dev pcie
		ip -n "$LAB-dpu$h" addr add 203.0.113.$((4 * h - 3))/30 dev pcie
		host_tpm_make $h || return 1
	done
	cat "$LAB_DIR/factory/issuercert.pem" "$LAB_DIR/factory/swtpm-localca-rootca-cert.pem" >"$LAB_DIR/factory.pem"
	cat >"$LAB_DIR/reference.json" <<EOF
{"version": 1, "layers": ["enrolment", "quote", "eventlog", "ima"], "ek_roots": "factory.pem",
 "cmdline": ["root=/dev/vda ro*"], "ima": {"/usr/bin/sh": ["$LAB_GOOD"]}}
EOF
	for h in 1 2; do
		start_attestd $h
		host_on $h || return 1
	done
	wait_for 20 host_is 1 trusted && wait_for 20 host_is 2 trusted
}

hosts_known() { # N: so many hosts are attested to the server, and every DPU has followed
	[ "$(pkctl -j show hosts | grep -c '"attested": *true')" = "$1" ] &&
		[ "$(pkctl -j status | grep -c '"state": *"in force"')" = 2 ]
}

lab_start() { # all programs; returns when both DPUs are connected
	start_policyd ${LAB_MTLS:+-o svid-host=any}
	for n in 1 2; do
		start_plane $n
		start_agentd $n
	done
	wait_for 30 dpus_connected 2 || return 1
	for n in ${LAB_MTLS:+1 2}; do
		start_tlsd $n
	done
	[ -n "${LAB_MACSEC:-}" ] || return 0
	# Its Link among the policies says who is to have it.
	lab_secret fabric-1
	start_mkad 1
	start_mkad 2
}

pkctl() { # as the operator
	in_ns policy "$BIN/picketctl" -s $LAB_SERVER -i "$LAB_DIR/operator" "$@"
}

dpuctl() { # N COMMAND...: on that DPU
	n=$1
	shift
	"$BIN/picketctl" -r "$LAB_DIR/run-dpu$n" "$@"
}

dpus_connected() { # N: at least so many
	nb=$(pkctl -j status | grep -c '"connected":true')
	[ "${STORE:-}" != etcd ] || nb=$((nb + $(pkctl -s $LAB_SERVER2 -j status | grep -c '"connected":true')))
	[ $nb -ge "$1" ]
}

# With STORE=etcd apply waits for the DPUs of its own server alone: until those of the other have followed.
lab_settled() {
	[ "${STORE:-}" != etcd ] || wait_for 10 followed
}

followed() {
	[ "$(pkctl -j policy history | cksum)" = "$(pkctl -s $LAB_SERVER2 -j policy history | cksum)" ] &&
		[ "$(pkctl -s $LAB_SERVER2 -j status | grep '"connected":true' | grep -vc '"state": *"in force"')" = 0 ]
}

# end NAME [SIGNAL]: stop one program and wait for its end
end() {
	pid=$(pid_of "$1")
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	tries=100
	while kill -0 "$pid" 2>/dev/null && [ $tries -gt 0 ]; do
		sleep 0.05
		tries=$((tries - 1))
	done
	wait "$pid" 2>/dev/null
	sed -i "/^$pid /d" "$LAB_DIR/pids"
}

lab_down() {
	if [ -f "$LAB_DIR/pids" ]; then
		# Only what this lab started, by pid.
		while read -r pid name; do
			kill "$pid" 2>/dev/null
		done <"$LAB_DIR/pids"
		tries=60
		while read -r pid name; do
			while kill -0 "$pid" 2>/dev/null && [ $tries -gt 0 ]; do
				sleep 0.05
				tries=$((tries - 1))
			done
			kill -9 "$pid" 2>/dev/null
		done <"$LAB_DIR/pids"
	fi
	for ns in $LAB_NS; do
		ip netns del "$LAB-$ns" 2>/dev/null
	done
	rm -rf "$LAB_DIR"
	return 0
}
