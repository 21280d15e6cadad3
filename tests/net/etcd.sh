#!/bin/sh
# Two policy servers on one store: three members of etcd, any of which may die at any moment, as may a server.
#
#        etcd 1 --- etcd 2 --- etcd 3         mutual TLS on the loopback
#             \      /  \      /
#            policyd A    policyd B           each watches, compiles, and serves any DPU
#                |            |
#             agentd 1     agentd 2           each knows both servers
#                |            |
#           fake_plane 1  fake_plane 2
#
# No root and no namespaces.
command -v etcd >/dev/null || { echo '1..0 # SKIP etcd is not installed (etcd-server)'; exit 0; }
. "$SRCDIR/tests/net/agents_lib.sh"
. "$SRCDIR/conf/demo/etcd.sh"
sim=$build/tests/tools/sim_agents
portB=$((port + 1))
rate=${RATE:-1000} for=${FOR:-10}

server() { # A|B PORT
	mkdir -p "$dir/run$1" "$dir/state$1"
	spawn policyd$1 "$bin/picket-policyd" -c /dev/null -o state-dir="$dir/state$1" -o ca-dir="$dir/policyd/ca" \
		-o listen=127.0.0.1:$2 -o run-dir="$dir/run$1" -o store="$(etcd_store $((port + 10)))" \
		-o store-certificate="$dir/etcd/client.crt" -o store-key="$dir/etcd/client.key" -o store-ca="$dir/etcd/ca.crt"
}
agent() { # N SERVERS
	spawn agentd$1 "$bin/picket-agentd" -c /dev/null -o identity="$dir/dpu$1.id" -o server="$2" \
		-o state-dir="$dir/state$1" -o run-dir="$dir/run$1" -o reconnect-min=20ms -o reconnect-max=200ms \
		-o heartbeat=500ms
}
at() { # PORT COMMAND...
	p=$1
	shift
	"$bin/picketctl" -s 127.0.0.1:$p -i "$dir/operator" "$@" 2>>"$dir/ctl.log"
}
serves() { at $1 -j status | grep "\"dpu\":\"dpu$2\"" | grep -q '"connected":true'; } # PORT DPU
answers() { at $1 status; }
enforced() { [ "$(variants "$dir/dump$1")" = "$2" ]; }
workloads() { at $1 -j workload list | grep -c '"sim/'; }
all_there() { [ "$(workloads $1)" = "$2" ]; }
text_of() { at $1 -j workload list | grep '"sim/' | sed 's/"connected":[a-z]*//' | sort | cksum; }

pd="$bin/picket-policyd -c /dev/null -o state-dir=$dir/policyd"
quiet $pd init --domain test.example --server localhost,127.0.0.1
for i in 1 2; do quiet $pd issue dpu dpu$i "$dir/dpu$i.id"; done
quiet $pd issue operator alice "$dir/operator"
cat >"$dir/policy/sim.yaml" <<END
apiVersion: picket.io/v1
kind: Tenant
metadata: {name: sim}
spec: {default: deny}
END
for i in 0 1 2 3; do
	cat >>"$dir/policy/sim.yaml" <<END
---
apiVersion: picket.io/v1
kind: Policy
metadata: {name: p$i, tenant: sim}
spec:
  tier: application
  priority: $i
  appliesTo: {workloads: {app: a$i}}
  ingress: [{name: in, action: allow, from: [{workloads: {app: a$((($i + 1) % 4))}}], services: [tcp/443]}]
END
done
check 'three members of etcd' etcd_up "$dir/etcd" $((port + 10))
server A $port
server B $portB
check 'server A answers' until_true 30 answers $port
check 'server B answers' until_true 30 answers $portB
start_plane 1
start_plane 2
agent 1 127.0.0.1:$port,127.0.0.1:$portB
agent 2 127.0.0.1:$portB,127.0.0.1:$port
check 'each server has a DPU' until_true 20 eval 'serves $port 1 && serves $portB 2'

# ---- any server takes any change, and all follow ------------------------------------------------
write_policy 1
check 'a policy is applied at A' quiet at $port policy apply "$dir/policy"
check 'and enforced by the DPU of A' enforced 1 variant1
check 'and by that of B' until_true 10 enforced 2 variant1
write_policy 2
check 'the next one is applied at B' quiet at $portB policy apply "$dir/policy"
check 'and enforced by both' until_true 10 eval 'enforced 1 variant2 && enforced 2 variant2'
check 'history is the same at both' is "$(at $port -j policy history | cksum)" "$(at $portB -j policy history | cksum)"
check 'rollback at A of what B did' quiet at $port policy rollback 1
check 'is enforced by both' until_true 10 eval 'enforced 1 variant1 && enforced 2 variant1'
check 'a canary is refused, in a sentence' sh -c "$bin/picketctl -s 127.0.0.1:$port -i $dir/operator \
	policy apply --canary dpu1 --bake 1s $dir/policy/web.yaml 2>&1 | grep -q 'shares its store'"

# ---- both at once: numbers are given out once ---------------------------------------------------
"$sim" update 127.0.0.1:$port "$dir/operator" 400 200 2 >"$dir/up1" 2>&1 &
one=$!
"$sim" update 127.0.0.1:$portB "$dir/operator" 400 200 2 >"$dir/up2" 2>&1
check 'updates at B while A has the same' [ $? -eq 0 ]
wait $one
check 'and at A' [ $? -eq 0 ]
sed 's/^/# /' "$dir/up1" "$dir/up2"
check 'both have the same workloads with the same identities' until_true 10 \
	eval '[ "$(text_of $port)" = "$(text_of $portB)" ] && [ "$(workloads $port)" -gt 300 ]'

# ---- a server and a member die under load -------------------------------------------------------
"$sim" update 127.0.0.1:$port,127.0.0.1:$portB "$dir/operator" 1000000 $rate $for >"$dir/up" 2>"$dir/up.err" &
load=$!
sleep 3
kill9 policydA
sleep 2
kill9 etcd$(etcd_leader $((port + 10)))
check 'every update is acknowledged by somebody in the end' wait $load
sed 's/^/# /' "$dir/up"
nb=$(sed -n 's/.*"updates":\([0-9]*\).*/\1/p' "$dir/up")
check "none of the $nb acknowledged updates is lost" until_true 10 all_there $portB "$nb"
check 'the DPU of A has gone to B' until_true 20 serves $portB 1
write_policy 3
check 'which serves both with the next change' quiet at $portB policy apply "$dir/policy"
check 'enforced by both' eval 'enforced 1 variant3 && enforced 2 variant3'
server A $port
check 'A comes back' until_true 60 answers $port
check 'and has every update, too' until_true 10 all_there $port "$nb"
check 'with the same identities' is "$(text_of $port)" "$(text_of $portB)"
echo "1..$n"
exit $((bad > 0))
