#!/bin/sh
# picketctl replay: a capture in, verdicts with their rules out, a capture of what would have left.
set -u
n=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
ok() { # TEXT COMMAND...
	text=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n - $text"
	else
		echo "not ok $n - $text"
		sed 's/^/# /' "$tmp/out" "$tmp/err" 2>/dev/null
		failed=1
	fi
}
has() { grep -q -- "$1" "$tmp/out"; }
cat >"$tmp/inventory.yaml" <<'EOF'
apiVersion: picket.io/v1
kind: Workload
metadata: {name: web, tenant: t, labels: {app: web}}
spec: {addresses: [192.0.2.10], wire: 0}
EOF
cat >"$tmp/policy.yaml" <<'EOF'
apiVersion: picket.io/v1
kind: Policy
metadata: {name: out, tenant: t}
spec:
  tier: application
  priority: 1
  appliesTo: {workloads: {app: web}}
  egress:
    - {name: https, action: allow, to: [{networks: [198.51.100.0/24]}], services: [https]}
    - {name: no-ssh, action: reject, to: any, services: [ssh]}
EOF
replay() { # OPTION...
	"$BUILDDIR/bin/picketctl" replay --inventory "$tmp/inventory.yaml" --policy "$tmp/policy.yaml" --in "$tmp/in.pcapng" "$@" \
		>"$tmp/out" 2>"$tmp/err"
}
"$BUILDDIR/tests/tools/mkcapture" "$tmp/in.pcapng" <<'EOF'
0.000 in tcp S seq 1000 mss 1460
0.010 out tcp SA seq 5000 ack 1001 mss 1460
0.020 in tcp A seq 1001 ack 5001
0.030 in tcp S seq 1000 dport 22
0.040 in tcp S seq 1000 dport 25
0.050 out tcp A seq 99999999 ack 1001
EOF
ok 'replay ends well' replay -j --out "$tmp/out.pcapng"
ok 'the SYN passes by its rule, with file and line' has \
	'"n":1,"verdict":"pass","reason":"none",.*"state":"syn-sent","rule":{"policy":"out","name":"https","file":"[^"]*policy.yaml","line":9}'
ok 'the handshake completes' has '"n":3,"verdict":"pass","reason":"none",.*"state":"established"'
ok 'reject drops' has '"n":4,"verdict":"drop","reason":"rule-reject",.*"name":"no-ssh"'
ok '... and answers with a reset, back inside' has '{"made":"tcp-rst","to":"inside","n":4}'
ok 'what nothing allows drops' has '"n":5,"verdict":"drop","reason":"rule-deny"'
ok 'a segment out of the window drops' has '"n":6,"verdict":"drop","reason":"tcp-window"'
# Three packets passed and one was made: they are what left.
ok 'the capture that was written has what left' sh -c \
	"tcpdump -n -r '$tmp/out.pcapng' 2>/dev/null | wc -l | grep -qx 4"
ok 'the same capture gives the same answers' sh -c "cp '$tmp/out' '$tmp/first'"
replay -j
ok '... to the letter' cmp -s "$tmp/out" "$tmp/first"
replay -j --drain --set timeout_tcp_established=10s
ok 'timeouts are run to the end' has '"closed":'
replay --drain
ok 'for people: the sum at the end' has '^6 packets: 3 passed, 3 dropped; 1 made; 0 sessions left$'
replay --set sesions=5
status=$?
ok 'a wrong option is wrong usage' test $status -eq 2
ok '... with a guess' grep -q 'did you mean "sessions"' "$tmp/err"
head -c 100 "$tmp/in.pcapng" >"$tmp/cut" && mv "$tmp/cut" "$tmp/in.pcapng"
replay
status=$?
ok 'a capture that is cut off is refused' test $status -eq 1
ok '... saying where' grep -Eq 'in.pcapng: byte [0-9]+: want a whole' "$tmp/err"
echo "1..$n"
exit $failed
