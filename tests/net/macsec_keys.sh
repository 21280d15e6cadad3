#!/bin/sh
# CAKs from the policy server: a Link among the sources brings four stations together, changes their CAK without the loss of a
# packet, and cuts them off when it goes.  The secret is in one file on the server and with those who need it, nowhere else.
LAB=pkl$$
LAB_MACSEC=yes
. "$SRCDIR/tests/net/lib.sh"
need_lab

drops() { # DPU REASON
	dpuctl $1 -j show drops | sed -n "s/.*\"reason\":\"$2\",\"packets\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

link() { # FILE KEY...: a source with one Link and these keys, each CKN=SECRET
	file=$1
	shift
	{
		printf 'apiVersion: picket.io/v1\nkind: Link\nmetadata: {name: fabric}\nspec:\n  ports:\n'
		printf '    - {dpu: "dpu*", wire: 0}\n    - {dpu: dpu1, wire: 1}\n    - {dpu: dpu2, wire: 1}\n  macsec:\n    keys:\n'
		for key; do printf '      - {ckn: "%s", secret: %s}\n' "${key%%=*}" "${key#*=}"; done
	} >"$LAB_DIR/$file"
}

ckns() { # those by which stations are live to one another, in all
	for n in 1 2; do
		dpuctl $n -j mka peers
	done | sed -n 's/.*"live": *true.*"ckn": *"\([^"]*\)".*/\1/p' | sort | uniq -c | awk '{ printf "%s%s*%d", sep, $2, $1; sep = " " }'
}
ckns_are() { [ "$(ckns)" = "$1" ]; }
passes() { in_ns web ping -q -c 3 -i 0.2 -W 1 192.0.2.30 >/dev/null 2>&1; }
quiet() { "$@" >/dev/null; }
# Whether a secret stands in a file of LAB_DIR, in hexadecimal, other than where it belongs.
leaks() { # NAME
	for s; do
		grep -rlF "$(cat "$LAB_DIR/policyd/secrets/$s")" "$LAB_DIR" 2>/dev/null | grep -v '/policyd/secrets/'
	done | wc -l
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
start_policyd
for n in 1 2; do
	start_picketd $n
	start_agentd $n
	start_mkad $n -o retire-time=500ms
done
wait_for 30 dpus_connected 2
cat >"$LAB_DIR/all.yaml" <<END
apiVersion: picket.io/v1
kind: Policy
metadata: {name: all, tenant: shop}
spec:
  tier: application
  priority: 100
  appliesTo: {workloads: {env: demo}}
  ingress: [{name: in, action: allow, encryption: required, from: [{workloads: {env: demo}}]}]
  egress: [{name: out, action: allow, encryption: required, to: [{workloads: {env: demo}}]}]
END
ok 'policy and workloads' quiet pkctl policy apply "$SRCDIR/conf/demo/policy/inventory.yaml" "$LAB_DIR/all.yaml"
ok 'without a key nothing passes' eval '! passes'

link link.yaml 2026=fabric-2026
pkctl policy apply "$LAB_DIR/link.yaml" >"$LAB_DIR/said" 2>&1
is 'a secret that is not there refuses the change' 1 $?
ok '... and is named, with the file' grep -q 'link.yaml:1:1: .*secret "fabric-2026": .*/policyd/secrets/fabric-2026: ' "$LAB_DIR/said"
ok 'a secret is made' quiet "$BIN/picket-policyd" -c /dev/null -o state-dir="$LAB_DIR/policyd" secret fabric-2026
ok '... for its owner alone' test "$(stat -c %a "$LAB_DIR/policyd/secrets/fabric-2026")" = 600
ok 'and the link applied' quiet pkctl policy apply "$LAB_DIR/link.yaml" --message 'the fabric has a key'
ok 'four stations agree' wait_for 30 mka_settled
is '... by that CKN' '2026*12' "$(ckns)"
ok 'packets pass, by rules that require encryption' passes

# Another CAK, while packets pass: both on all ends, then the new one alone.
rotate() {
	"$BIN/picket-policyd" -c /dev/null -o state-dir="$LAB_DIR/policyd" secret fabric-2027 >/dev/null
	link link.yaml 2026=fabric-2026 2027=fabric-2027
	pkctl policy apply "$LAB_DIR/link.yaml" --message 'a second one' >/dev/null
	wait_for 20 ckns_are '2026*12 2027*12'
	wait_for 20 mka_settled
	sleep 1
	link link.yaml 2027=fabric-2027
	pkctl policy apply "$LAB_DIR/link.yaml" --message 'the second alone' >/dev/null
	wait_for 20 ckns_are '2027*12'
	wait_for 20 mka_settled
}
in_ns web ping -q -i 0.005 -c 3000 -W 3 192.0.2.30 >"$LAB_DIR/ping" 2>&1 &
pinger=$!
rotate
is 'the CAK is another' '2027*12' "$(ckns)"
wait $pinger
is '... and of a ping every 5 ms none was lost' 0 "$(awk '/transmitted/ { print ($1 > 100) ? $1 - $4 : "all" }' "$LAB_DIR/ping")"

# The server away: what was given stays, over restarts of agent and mkad.
end policyd
in_ns web ping -q -i 0.005 -c 2400 -W 3 192.0.2.30 >"$LAB_DIR/ping" 2>&1 &
pinger=$!
end mkad1 KILL
end agentd1 KILL
sleep 1
start_mkad 1 -o retire-time=500ms
sleep 1
start_agentd 1
wait_for 20 mka_settled
wait $pinger
ok 'without server, agent and mkad killed, mkad back first: all agree again' mka_settled
is '... and no packet was lost' 0 "$(awk '/transmitted/ { print ($1 > 100) ? $1 - $4 : "all" }' "$LAB_DIR/ping")"
ok 'the agent shows what there is' eval '[ "$(dpuctl 1 -j show grants | grep -c "link fabric, wire [01].*2027")" = 2 ]'
start_policyd
wait_for 30 dpus_connected 2
ok 'the server back: nothing changes' passes

# It is in no history, no answer, no log, no store.
for what in 'policy history' 'policy show' status 'audit'; do pkctl $what; done >"$LAB_DIR/answers" 2>&1
for n in 1 2; do
	for what in 'show grants' 'mka status' 'mka peers' 'mka events' 'show macsec' 'show config'; do dpuctl $n -j $what; done
done >>"$LAB_DIR/answers" 2>&1
is 'the secrets are in no answer, no log and no store' 0 "$(leaks fabric-2026 fabric-2027)"
is 'what a DPU keeps of them is for its owner alone' 600 "$(stat -c %a "$LAB_DIR/agentd1/grants")"

# The link goes.
ok 'the link is removed' quiet pkctl policy apply --delete link.yaml --message 'cut off'
closed() { ! passes; }
ok '... and closed' wait_for 5 closed
ok '... under its own reason' test "$(drops 1 macsec-down)" -gt 0
ok 'the last agreed state is gone with it' eval '[ -z "$(ckns)" ]'
ok 'rollback brings it back' quiet pkctl policy rollback "$(pkctl -j policy history | sed -n 's/.*"generation": *\([0-9]*\).*the second alone.*/\1/p' | head -n 1)"
ok '... with its key' wait_for 30 mka_settled
ok '... and packets pass' passes
for n in 1 2; do
	is "dpu$n: every packet has an account" 0 "$(unaccounted $n)"
done
