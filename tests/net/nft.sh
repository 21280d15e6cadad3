#!/bin/sh
# The kernel as data plane: what others have in nftables stays, small changes are small, a crash changes nothing, and
# sessions can be seen and ended.
LAB=pkn$$ # a name of its own: two runs may share a machine
PLANE=nft
. "$SRCDIR/tests/net/lib.sh"
need_lab
if ! command -v nft >/dev/null; then
	trap - EXIT
	echo '1..0 # SKIP needs nftables'
	exit 0
fi

plane() { # KEY: of `show plane`
	dpuctl 1 -j show plane | sed -n "s/.*\"$1\":\"*\([^,\"}]*\).*/\1/p"
}

count() { # FILTER...
	dpuctl 1 -j show sessions "$@" | grep -c '"src"'
}

foreign() {
	in_ns dpu1 nft list table inet foreign
}

realised() { # GENERATION on dpu1
	[ "$(plane generation)" = "$1" ]
}

none_left() {
	[ "$(count state established dport 22 direction ingress)" = 0 ]
}

status_of() { # FROM ADDRESS: curl's
	in_ns "$1" curl -s -o /dev/null --max-time 2 --connect-timeout 1 "http://$2/"
	echo $?
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
cp -r "$SRCDIR/conf/demo/policy" "$LAB_DIR/policy"
cat >"$LAB_DIR/foreign" <<'NFT'
table inet foreign {
	set s {
		type ipv4_addr
		elements = { 203.0.113.7 }
	}
	chain c {
		type filter hook forward priority 10
		ip saddr @s drop
	}
}
NFT
ok 'a table of somebody else' in_ns dpu1 nft -f "$LAB_DIR/foreign"
foreign >"$LAB_DIR/foreign.before"
lab_start || { ok 'the DPUs connect' false; exit; }
ok 'the first policy is accepted' quiet pkctl policy apply "$LAB_DIR"/policy/*.yaml
is 'which plane it is' nft "$(plane plane)"
spawn web web python3 -m http.server --bind 192.0.2.10 80 --directory /usr/share/misc
wait_for 20 in_ns web curl -s -o /dev/null http://192.0.2.10/
# Once more than once: on a machine with much else to do the first neighbour discovery takes its time.
ok 'what is allowed passes' wait_for 10 in_ns client curl -s -o /dev/null --max-time 2 http://192.0.2.10/
is 'what is not does not' deny "$(http intruder 192.0.2.10)"
is 'who is rejected is told' 7 "$(status_of client 192.0.2.30:6379)"
ok 'the rule has a hit' sh -c "'$BIN/picketctl' -r '$LAB_DIR/run-dpu1' -j show rules | grep -q '\"policy\":\"web\",\"name\":\"clients\".*\"hits\":[1-9]'"
foreign >"$LAB_DIR/foreign.after"
ok 'the tables of others are as they were' cmp -s "$LAB_DIR/foreign.before" "$LAB_DIR/foreign.after"

# Sessions.
CONNS=$BUILDDIR/tests/tools/conns
spawn server web "$CONNS" serve 192.0.2.10 22
cat >"$LAB_DIR/ssh.yaml" <<YAML
apiVersion: picket.io/v1
kind: Policy
metadata: {name: ssh, tenant: shop}
spec:
  tier: application
  priority: 90
  appliesTo: {workloads: {app: web}}
  ingress:
    - {name: clients, action: allow, from: [{workloads: {app: client}}], services: [tcp/22]}
YAML
ok 'a second policy' quiet pkctl policy apply "$LAB_DIR"/policy/*.yaml "$LAB_DIR/ssh.yaml"
spawn client client "$CONNS" connect 192.0.2.10 22 50 300
ok '50 connections' wait_for 20 grep -q '50 connected' "$LAB_DIR/client.log"
is 'all of them, on two wires' 100 "$(count state established dport 22)"
is 'by wire and direction' 50 "$(count dport 22 wire 1 direction egress)"
is 'by rule' 50 "$(count dport 22 rule ssh/clients)"
is 'kill without a filter is refused' 1 "$(dpuctl 1 kill sessions 2>/dev/null; echo $?)"
dpuctl 1 kill sessions dport 22 wire 0 sport 1 >/dev/null
is 'who is not meant stays' 100 "$(count state established dport 22)"

# A label that changes is a change of elements.
sed -i 's/app: printer/app: client/' "$LAB_DIR/policy/inventory.yaml"
ok 'a workload gets another label' quiet pkctl policy apply --despite-tests "$LAB_DIR/policy/inventory.yaml"
is 'its rules are not written anew, but for those with the stamp' 19 "$(plane nft_rules)"
is 'and it may now' allow "$(http intruder 192.0.2.10)"
is 'sessions go on' 100 "$(count state established dport 22)"

# A crash.
before=$(in_ns dpu1 nft list chain inet picket forward)
end nftd1 KILL
is 'without the program the policy stays' "$before" "$(in_ns dpu1 nft list chain inet picket forward)"
is 'what is allowed passes, still' allow "$(http client 192.0.2.10)"
is 'what is not does not, still' deny "$(http db 192.0.2.10)"
start_nftd 1
ok 'it comes back, and is given its policy' wait_for 10 realised 3
is 'with the sessions' 100 "$(count state established dport 22)"
is 'what is allowed passes, again' allow "$(http client 192.0.2.10)"
foreign >"$LAB_DIR/foreign.after"
ok 'the tables of others are as they were, again' cmp -s "$LAB_DIR/foreign.before" "$LAB_DIR/foreign.after"

# Rules for some wires are none for others.
end nftd1
end agentd1
start_nftd 1 -o instance=other -o wire='in1 out1' # one more: options of a list add up
ok 'a ruleset of other wires does not stay' wait_for 5 grep -q 'is of other wires' "$LAB_DIR/nftd1.log"
is 'nothing passes without a policy' deny "$(http client 192.0.2.10)"
end nftd1
start_nftd 1
start_agentd 1
ok 'until there is one' wait_for 10 realised 3
is 'what is allowed passes, once more' allow "$(http client 192.0.2.10)"

# Idle sessions that are not allowed any more end without a packet.
kill -STOP "$(pid_of client)" "$(pid_of server)"
ok 'a change of policy' quiet pkctl policy rollback 1
ok 'ends idle sessions, too' wait_for 5 none_left
kill -CONT "$(pid_of client)" "$(pid_of server)"

# Not ours: another table of our name.
in_ns fabric nft 'table inet picket { }'
ip -n $LAB-fabric link add v0 type veth peer name v1
in_ns fabric "$BIN/picket-nftd" -c /dev/null -o run-dir="$LAB_DIR/run-x" -o wire='v0 v1' >"$LAB_DIR/x.log" 2>&1
ok "somebody else's table of that name is left alone" grep -q 'is not ours' "$LAB_DIR/x.log"
