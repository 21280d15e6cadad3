#!/bin/sh
# Two DPUs whose keys are agreed on by picket-iked on each: policy asks for encryption, the first packet brings the tunnel
# up, and nothing passes in plain text.
#
#   web 192.0.2.10 -- [dpu1 192.0.2.201] ==== IKE, ESP ==== [dpu2 192.0.2.202] -- db 192.0.2.30
LAB=pkk$$
. "$SRCDIR/tests/net/lib.sh"
[ -x "$BIN/picket-iked" ] || { echo '1..0 # SKIP picket-iked is not built: configure found no headers of libcharon'; exit 0; }
"$BIN/picketd" --print-sample | grep -q '^#ipsec-address' || { echo '1..0 # SKIP picketd has no ESP'; exit 0; }
need_lab
US=192.0.2.201 THEM=192.0.2.202

iked() { # N
	spawn iked$1 dpu$1 "$BIN/picket-iked" -v -c /dev/null -o run-dir="$LAB_DIR/run-dpu$1" -o credentials-dir="$LAB_DIR" \
		-o peers="$LAB_DIR/peers$1.yaml" -o retransmit=300ms -o rekeyed-delay=1s -o threads=8
	wait_for 10 test -S "$LAB_DIR/run-dpu$1/picket-iked.ctl"
}
peers() { # N ME THEM MINE THEIRS START
	cat >"$LAB_DIR/peers$1.yaml" <<-END
		apiVersion: picket.io/v1
		kind: IkePeer
		metadata: {name: other}
		spec:
		  local: {addresses: [$2], identity: $2, auth: psk}
		  remote: {addresses: [$3], identity: $3, auth: psk}
		  secret: {file: psk}
		  dpd: 1s
		  children: [{name: net, local: [$4/32], remote: [$5/32], start: $6}]
	END
}
drops() { dpuctl "$1" -j show drops | sed -n 's/.*"reason":"'"$2"'","packets":\([0-9]*\).*/\1/p'; }
pings() { in_ns web ping -n -q -c "$1" -i 0.05 -W 1 192.0.2.30 | sed -n 's/.* \([0-9]*\) received.*/\1/p'; }
established() { dpuctl "$1" -j show ike-children | grep -q '"state":"INSTALLED"'; }

lab_up && lab_init || { ok 'the lab stands' false; exit; }
echo 'between two DPUs' >"$LAB_DIR/psk"
start_policyd
start_picketd 1 -o ipsec-sas=1000 -o ipsec-address="0 $US/24"
start_picketd 2 -o ipsec-sas=1000 -o ipsec-address="0 $THEM/24"
start_agentd 1
start_agentd 2
wait_for 30 dpus_connected 2
peers 1 $US $THEM 192.0.2.10 192.0.2.30 trap
peers 2 $THEM $US 192.0.2.30 192.0.2.10 none
iked 1
iked 2
cp -r "$SRCDIR/conf/demo/policy" "$LAB_DIR/policy"
for w in 'web 100 db' 'db 110 web'; do
	set -- $w
	cat >"$LAB_DIR/policy/$1.yaml" <<-END
		apiVersion: picket.io/v1
		kind: Policy
		metadata: {name: $1, tenant: shop}
		spec:
		  tier: application
		  priority: $2
		  appliesTo: {workloads: {app: $1}}
		  ingress:
		    - {name: in, action: allow, from: [{workloads: {app: $3}}], services: [icmp/echo-request], encryption: ipsec}
		  egress:
		    - {name: out, action: allow, to: [{workloads: {app: $3}}], services: [icmp/echo-request], encryption: ipsec}
	END
done
ok 'policy is accepted' quiet pkctl policy apply "$LAB_DIR"/policy/*.yaml
ok 'picket-iked has found picketd' wait_for 5 sh -c "'$BIN/picketctl' -r '$LAB_DIR/run-dpu1' ipsec status | grep -q ^connected"
ok 'and installed its trap' wait_for 5 sh -c "'$BIN/picketctl' -r '$LAB_DIR/run-dpu1' -j show tunnels | grep -q reqid"
ip netns exec "$LAB-fabric" tcpdump -n -U -i dpu1-0 -w "$LAB_DIR/wire.pcap" >/dev/null 2>&1 &
echo "$! tcpdump" >>"$LAB_DIR/pids"
sleep 0.3
pings 1 >/dev/null
ok 'the first packet brings up a tunnel' wait_for 8 established 1
is 'pings pass' 10 "$(pings 10)"
is 'the other way too' 5 "$(in_ns db ping -n -q -c 5 -i 0.05 -W 1 192.0.2.10 | sed -n 's/.* \([0-9]*\) received.*/\1/p')"
# The first packet has waited for the first SA; nothing may wait for another.
waited=$(drops 1 esp-acquire):$(drops 2 esp-acquire)
in_ns web ping -n -q -c 3000 -i 0.001 -W 1 192.0.2.30 >"$LAB_DIR/rekey" &
pid=$!
sleep 0.5
ok 'rekeyed by one end' quiet dpuctl 1 ipsec rekey other net
sleep 0.7
ok 'and by the other' quiet dpuctl 2 ipsec rekey other net
sleep 0.7
ok 'the IKE SA as well' quiet dpuctl 1 ipsec rekey other
wait $pid
is 'none waits for an SA' "$waited" "$(drops 1 esp-acquire):$(drops 2 esp-acquire)"
is 'without a lost packet' 3000 "$(sed -n 's/.* \([0-9]*\) received.*/\1/p' "$LAB_DIR/rekey")"
end picketd2 KILL
start_picketd 2 -o ipsec-sas=1000 -o ipsec-address="0 $THEM/24"
wait_for 30 dpus_connected 2
ok 'a picketd that was killed gets new keys, and packets pass' wait_for 15 sh -c "ip netns exec $LAB-web ping -n -q -c 1 -W 1 192.0.2.30"
end iked1 KILL
is 'tunnels go on without picket-iked' 5 "$(pings 5)"
iked 1
ok 'and with another one, which agrees on new keys' wait_for 15 sh -c "ip netns exec $LAB-web ping -n -q -c 1 -W 1 192.0.2.30"
sleep 0.3
is 'between the two there was no plain text' 0 "$(tcpdump -n -r "$LAB_DIR/wire.pcap" 'icmp and host 192.0.2.30 and host 192.0.2.10' 2>/dev/null | wc -l)"
ok 'but ESP' test "$(tcpdump -n -r "$LAB_DIR/wire.pcap" esp 2>/dev/null | wc -l)" -gt 100
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
