#!/bin/sh
# Reference values as policy: applied at the server, signed, sent to the DPUs they name, taken up by their verifiers, changed,
# tried on a canary, and never believed without the authority's word.
LAB=pkr$$
. "$SRCDIR/tests/net/lib.sh"
need_lab
if ! why=$(lab_hosts_can); then
	trap - EXIT
	echo "1..0 # SKIP $why"
	exit 0
fi

refuses() { # COMMAND...
	! "$@" >/dev/null 2>&1
}
says() { # TEXT COMMAND...: it fails and says so
	wanted=$1
	shift
	"$@" >"$LAB_DIR/said" 2>&1 && return 1
	grep -q "$wanted" "$LAB_DIR/said"
}
logged() { # N TEXT
	grep -q "$2" "$LAB_DIR/attestd$1.log"
}
verifier() { # N: that believes the server alone
	start_attestd $1 -o reference="$LAB_DIR/agentd$1/reference" -o reference-signed=yes
}
values() { # NAME JSON-OF-IMA: what hosts of this lab look like
	cat >"$LAB_DIR/$1.json" <<JSON
{"version": 1, "layers": ["enrolment", "quote", "eventlog", "ima"], "ek_roots": "factory.pem",
 "cmdline": ["root=/dev/vda ro*"], "ima": $2}
JSON
}

lab_up && lab_init && lab_start || { ok 'the lab stands' false; exit; }
ok 'policy and workloads' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
for h in 1 2; do
	veth host$h pcie dpu$h pcie
	ip -n "$LAB-host$h" addr add 203.0.113.$((4 * h - 2))/30 dev pcie
	ip -n "$LAB-dpu$h" addr add 203.0.113.$((4 * h - 3))/30 dev pcie
	host_tpm_make $h
done
cat "$LAB_DIR/factory/issuercert.pem" "$LAB_DIR/factory/swtpm-localca-rootca-cert.pem" >"$LAB_DIR/factory.pem"
values good "{\"/usr/bin/sh\": [\"$LAB_GOOD\"]}"
for h in 1 2; do
	verifier $h
	host_on $h
done
sleep 1
is 'without a reference nobody is trusted' '' "$(host_state 1 | sed 's/new//')"

ok 'values with an unknown member are refused, with file and line' says 'unknown member' sh -c "
	echo '{\"version\": 1, \"cmdlin\": []}' >'$LAB_DIR/bad.json'
	ip netns exec $LAB-policy '$BIN/picketctl' -s $LAB_SERVER -i '$LAB_DIR/operator' attest reference apply hosts '$LAB_DIR/bad.json' --dpus '*' 2>&1; false"
ok 'reference values are applied' quiet pkctl attest reference apply hosts "$LAB_DIR/good.json" --dpus 'dpu*' --message 'first'
ok 'both verifiers take them up' wait_for 10 logged 1 'reference hosts of generation'
ok '... both' wait_for 10 logged 2 'reference hosts of generation'
ok '... and both hosts become trusted' wait_for 20 host_is 1 trusted
ok '... both' wait_for 20 host_is 2 trusted
held() { # DPU REFERENCE: as the server knows it
	pkctl -j show hosts | grep "\"dpu\": *\"$1\"" | grep -q "\"reference\": *\"$2\""
}
ok 'the server shows by which reference each is judged' wait_for 10 held dpu1 'hosts@[0-9]*'
ok '... each' wait_for 10 held dpu2 'hosts@[0-9]*'
of() { # DPU: the generation of its reference
	pkctl -j show hosts | sed -n "/\"dpu\": *\"$1\"/s/.*\"reference\": *\"hosts@\([0-9]*\)\".*/\1/p"
}
first=$(of dpu2)
ok 'they are in the history' sh -c "ip netns exec $LAB-policy '$BIN/picketctl' -s $LAB_SERVER -i '$LAB_DIR/operator' policy history | grep -q first"

# A program that a change will allow, on one host first.
host_measure 1 run /opt/new $LAB_EVIL
ok 'a program that is not in them is quarantine' wait_for 5 host_is 1 quarantined
values more "{\"/usr/bin/sh\": [\"$LAB_GOOD\"], \"/opt/new\": [\"$LAB_EVIL\"]}"
pkctl attest reference make hosts "$LAB_DIR/more.json" --dpus 'dpu*' >"$LAB_DIR/reference/hosts.yaml" 2>/dev/null || {
	mkdir -p "$LAB_DIR/reference"
	"$BIN/picketctl" attest reference make hosts "$LAB_DIR/more.json" --dpus 'dpu*' >"$LAB_DIR/reference/hosts.yaml"
}
before=$(grep -c 'reference hosts of generation' "$LAB_DIR/attestd2.log")
cd "$LAB_DIR" && ok 'a change goes to a canary first' quiet pkctl policy apply --canary dpu1 --bake 60s reference/hosts.yaml
ok '... whose host is trusted by it' wait_for 15 host_is 1 trusted
newer() { # DPU
	[ "$(of $1)" -gt "$first" ]
}
ok '... as the server shows' wait_for 10 newer dpu1
is '... of this one alone' "$first" "$(of dpu2)"
is '... and the other DPU has not heard of it' "$before" "$(grep -c 'reference hosts of generation' "$LAB_DIR/attestd2.log")"
ok 'the change is taken back' quiet pkctl policy rollout abort
ok '... and the host is what it was' wait_for 15 host_is 1 quarantined
ok 'applied to all' quiet pkctl policy apply --at-once reference/hosts.yaml
ok '... it recovers' wait_for 15 host_is 1 trusted

# What stands on the DPU's disk is believed only with the authority's word.
file=$LAB_DIR/agentd2/reference
cp "$file" "$LAB_DIR/kept"
n=$(grep -c 'stays in force' "$LAB_DIR/attestd2.log")
more() { # lines of refusal than $n
	[ "$(grep -c 'stays in force' "$LAB_DIR/attestd2.log")" -gt "$n" ]
}
sed 's|/usr/bin/sh|/usr/bin/xx|' "$LAB_DIR/kept" >"$file"
ok 'values that were altered on the disk are not taken up' wait_for 5 more
n=$(grep -c 'stays in force' "$LAB_DIR/attestd2.log")
sed 1d "$LAB_DIR/kept" >"$file"
ok '... nor without the statement' wait_for 5 more
is '... and the host stays trusted' trusted "$(host_state 2)"
cp "$LAB_DIR/kept" "$file"
end policyd
start_policyd
wait_for 30 dpus_connected 2
is 'a restart of the server changes nothing' trusted "$(host_state 2)"
