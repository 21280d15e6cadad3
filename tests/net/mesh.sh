#!/bin/sh
# Mesh mode: two DPUs of one policy server, and no IKE.  Policy that wants encryption gives them keys; a rotation costs no
# packet; what policy does not allow any more has no key.
#
#   web 192.0.2.10 -- [dpu1 192.0.2.201] ==== ESP ==== [dpu2 192.0.2.202] -- db 192.0.2.30
LAB=pkm$$
. "$SRCDIR/tests/net/lib.sh"
"$BIN/picketd" --print-sample | grep -q '^#ipsec-address' || { echo '1..0 # SKIP picketd has no ESP'; exit 0; }
need_lab

drops() { dpuctl "$1" -j show drops | sed -n 's/.*"reason":"'"$2"'","packets":\([0-9]*\).*/\1/p'; }
pings() { in_ns web ping -n -q -c "$1" -i "${2:-0.05}" -W 1 192.0.2.30 | sed -n 's/.* \([0-9]*\) received.*/\1/p'; }
up() { dpuctl "$1" -j show tunnels | grep '"mesh":"dpu'"$2"'"' | grep -q '"state":"up"'; }
none_up() { ! dpuctl "$1" -j show tunnels | grep -q '"mesh":"dpu'; }
out_spi() { dpuctl "$1" -j show tunnels | sed -n 's/.*"out_spi":"\([^"]*\)".*"mesh":"dpu.*/\1/p'; }
dpu() { start_picketd $1 -o ipsec-sas=1000 -o ipsec-address="0 192.0.2.20$1/24"; }
policies() { # ENCRYPTION
	for w in 'web 100 db' 'db 110 web'; do
		set -- "$1" $w
		cat >"$LAB_DIR/policy/$2.yaml" <<-END
			apiVersion: picket.io/v1
			kind: Policy
			metadata: {name: $2, tenant: shop}
			spec:
			  tier: application
			  priority: $3
			  appliesTo: {workloads: {app: $2}}
			  ingress:
			    - {name: in, action: $1, from: [{workloads: {app: $4}}], services: [icmp/echo-request]}
			  egress:
			    - {name: out, action: $1, to: [{workloads: {app: $4}}], services: [icmp/echo-request]}
		END
	done
	pkctl policy apply "$LAB_DIR"/policy/*.yaml
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
start_policyd -o mesh-rekey=1s
dpu 1
dpu 2
start_agentd 1
start_agentd 2
wait_for 30 dpus_connected 2
cp -r "$SRCDIR/conf/demo/policy" "$LAB_DIR/policy"
wait_for 10 test -S "$LAB_DIR/run-dpu1/picketd.ctl"
ok 'without a rule that asks for it there are no keys' none_up 1
ok 'policy is accepted' quiet policies 'allow, encryption: ipsec'
ok 'dpu1 has a tunnel to dpu2' wait_for 5 up 1 2
ok 'and dpu2 to dpu1' wait_for 5 up 2 1
ip netns exec "$LAB-fabric" tcpdump -n -U -i dpu1-0 -w "$LAB_DIR/wire.pcap" >/dev/null 2>&1 &
echo "$! tcpdump" >>"$LAB_DIR/pids"
sleep 0.3
is 'pings pass' 10 "$(pings 10)"
spi=$(out_spi 1)
before=$(drops 1 esp-acquire):$(drops 2 esp-acquire):$(drops 1 esp-spi):$(drops 2 esp-spi)
is 'none is lost while keys change each second' 4000 "$(pings 4000 0.001)"
ok 'and they did' test "$spi" != "$(out_spi 1)"
is 'nothing waited for an SA, or came by an unknown one' "$before" \
	"$(drops 1 esp-acquire):$(drops 2 esp-acquire):$(drops 1 esp-spi):$(drops 2 esp-spi)"

# A data plane that starts anew gets keys that nobody has sent by.
spi=$(out_spi 1)
end picketd1 KILL
dpu 1
ok 'a picketd that was killed has new keys' wait_for 10 up 1 2
ok 'other ones' test "$spi" != "$(out_spi 1)"
ok 'and packets pass' wait_for 10 sh -c "ip netns exec $LAB-web ping -n -q -c 1 -W 1 192.0.2.30"

# The server's end is no event.
end policyd KILL
is 'without the server it goes on' 5 "$(pings 5)"
start_policyd -o mesh-rekey=1h
wait_for 40 dpus_connected 2
is 'and with another one' 200 "$(pings 200 0.005)"

# The edge goes: at both ends there is no key for the other any more.
ok 'policy takes the edge away' quiet policies deny
ok 'dpu1 has no key for dpu2' wait_for 5 none_up 1
ok 'dpu2 has none for dpu1' wait_for 5 none_up 2
is 'no SA is left' '0 0' "$(dpuctl 1 -j show sa | wc -l) $(dpuctl 2 -j show sa | wc -l)"
ok 'and nothing passes' test "$(pings 2 0.2)" = 0
sleep 0.3
is 'on the wire there was no plain text' 0 "$(tcpdump -n -r "$LAB_DIR/wire.pcap" 'icmp and host 192.0.2.30 and host 192.0.2.10' 2>/dev/null | wc -l)"
ok 'but ESP' test "$(tcpdump -n -r "$LAB_DIR/wire.pcap" esp 2>/dev/null | wc -l)" -gt 8000
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
