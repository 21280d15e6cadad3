#!/bin/sh
# Hosts that attest themselves to their DPUs, and everything by which one could get around it that needs
# no forged quote (those are tests/unit/attest_*): silence, garbage, another TPM, a verifier that dies.
LAB=pkt$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
if ! why=$(lab_hosts_can); then
	trap - EXIT
	echo "1..0 # SKIP $why"
	exit 0
fi

ping_web() {
	in_ns client ping -c 1 -W 1 192.0.2.10 >/dev/null 2>&1 && echo allow || echo deny
}

plane_attested() { # N
	dpuctl $1 -j show plane | sed -n 's/.*"attested": *\([a-z]*\).*/\1/p'
}

plane_is() { # N TRUE-OR-FALSE
	[ "$(plane_attested $1)" = "$2" ]
}

field() { # N NAME: a number of `attest status`
	dpuctl $1 -j attest status | sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p"
}

more_refused() { # N THAN
	[ "$(field $1 refused)" -gt "$2" ]
}

lab_up && lab_init && lab_start || { ok 'the lab stands' false; exit; }
ok 'a policy with attested: true is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml \
	"$SRCDIR/conf/demo/attest/policy.yaml"
is 'before anybody has said anything the host is not attested' deny "$(ping_web)"
ok 'both hosts enrol and become trusted' lab_hosts
ok 'the data plane knows' wait_for 5 plane_is 1 true
is 'client -> web' allow "$(ping_web)"
ok 'the server knows, and every DPU has followed' wait_for 10 hosts_known 2

# A reference from a machine as it is, by its own DPU and from the same evidence in files; each says the same.
learn() { # N FILE ARG...
	n=$1 file=$2
	shift 2
	dpuctl $n attest learn "$@" >"$file" 2>/dev/null
}
refuses() { # COMMAND...
	! "$@" >/dev/null 2>&1
}
mkdir -p "$LAB_DIR/good"
ok 'a reference is learnt from a host that runs' wait_for 10 learn 1 "$LAB_DIR/learnt.json"
ok '... as from its evidence in files' wait_for 10 dpuctl 1 attest evidence "$LAB_DIR/good"
"$BIN/picketctl" attest learn "$LAB_DIR/good" >"$LAB_DIR/learnt-offline.json" 2>&1
ok '... which is the same' cmp "$LAB_DIR/learnt.json" "$LAB_DIR/learnt-offline.json"
ok '... and by it the host is trusted' quiet "$BIN/picketctl" attest check "$LAB_DIR/good" --reference "$LAB_DIR/learnt.json"
ok '... and its twin' quiet sh -c "mkdir -p '$LAB_DIR/twin' && for i in 1 2 3 4 5 6 7 8 9 10; do
	'$BIN/picketctl' -r '$LAB_DIR/run-dpu2' attest evidence '$LAB_DIR/twin' && break; sleep 0.5; done
	'$BIN/picketctl' attest check '$LAB_DIR/twin' --reference '$LAB_DIR/learnt.json'"
printf '%064d' 0 >"$LAB_DIR/good/nonce.hex"
ok 'nothing is learnt from a quote that answers another nonce' refuses "$BIN/picketctl" attest learn "$LAB_DIR/good"

# Garbage where the host should speak: nobody is let in, and the host stays who it is.
before=$(field 1 refused)
head -c 4096 /dev/urandom | in_ns host1 timeout 2 curl -s --max-time 1 telnet://203.0.113.1:7444 >/dev/null 2>&1
ok 'garbage is turned away' wait_for 10 more_refused 1 "$before"
is '... and the host stays trusted' trusted "$(host_state 1)"

# Another machine with a good TPM of the same maker, in the place of host1.
before=$(field 1 refused)
host_tpm_make 3
spawn swtpm3 host1 swtpm socket --tpm2 --tpmstate dir="$LAB_DIR/tpm3" \
	--server type=tcp,port=9331,bindaddr=127.0.0.1 --ctrl type=tcp,port=9332,bindaddr=127.0.0.1 \
	--flags not-need-init,startup-clear
sleep 0.3
spawn hostd3 host1 "$BIN/picket-attestd" -c /dev/null -o role=host -o name=host1 -o dpu=dpu1 \
	-o dpu-address=tcp:203.0.113.1:7444 -o ca="$LAB_DIR/dpu1.id/ca.crt" \
	-o tpm=swtpm:host=127.0.0.1,port=9331 -o tpm-share=yes -o eventlog="$LAB_DIR/logs1/eventlog.bin" \
	-o ima="$LAB_DIR/logs1/ima.bin"
ok 'another TPM under the same name is turned away' wait_for 10 more_refused 1 "$before"
ok '... for what it is' grep -q 'another TPM is enrolled' "$LAB_DIR/attestd1.log"
is '... and the host stays trusted' trusted "$(host_state 1)"
end hostd3
end swtpm3

# A list that is behind the quote: suspect for one more round, and quarantined when it stays behind.
kill -STOP "$(pid_of hostd1)"
cp "$LAB_DIR/logs1/ima.bin" "$LAB_DIR/behind.bin"
host_measure 1 run /usr/bin/sh $LAB_GOOD
cp "$LAB_DIR/logs1/ima.bin" "$LAB_DIR/whole.bin"
cp "$LAB_DIR/behind.bin" "$LAB_DIR/logs1/ima.bin"
kill -CONT "$(pid_of hostd1)"
ok 'a list that stays behind its quote is quarantine' wait_for 10 host_is 1 quarantined
ok '... after it was suspect, and asked once more' grep -q 'is behind its quote; asking again' "$LAB_DIR/attestd1.log"
cp "$LAB_DIR/whole.bin" "$LAB_DIR/logs1/ima.bin"
ok '... and when it has caught up it recovers' wait_for 15 host_is 1 trusted

# A host that stops answering: suspect, then quarantined; when it answers again it has to recover.
kill -STOP "$(pid_of hostd1)"
ok 'a silent host is suspect' wait_for 10 host_is 1 suspect
ok '... and quarantined when it stays silent' wait_for 10 host_is 1 quarantined
is '... so nothing passes' deny "$(ping_web)"
kill -CONT "$(pid_of hostd1)"
ok 'when it answers again it recovers by good evidence' wait_for 15 host_is 1 trusted
ok '... and passes' wait_for 5 plane_is 1 true
is 'client -> web' allow "$(ping_web)"

# The verifier dies: the lease runs out, and the data plane needs nobody to tell it.
end attestd1 KILL
is 'a dead verifier: the lease still holds' true "$(plane_attested 1)"
ok '... until it ends' wait_for 8 plane_is 1 false
is '... so nothing passes' deny "$(ping_web)"
start_attestd 1
ok 'restarted, it trusts by fresh evidence only' wait_for 15 host_is 1 trusted
ok '... and says so' wait_for 5 plane_is 1 true

# Quarantine outlives the verifier.
host_measure 1 run /tmp/backdoor $LAB_EVIL
ok 'an unknown program is quarantine' wait_for 5 host_is 1 quarantined
end attestd1
start_attestd 1
wait_for 5 dpuctl 1 attest status
sleep 2
is 'quarantine outlives a restart of the verifier' quarantined "$(host_state 1)"
is '... and the data plane' false "$(plane_attested 1)"
# The reference learns of the program: an operator's decision, and no boot is needed.
sed -i "s|\"/usr/bin/sh\"|\"/tmp/backdoor\": [\"$LAB_EVIL\"], \"/usr/bin/sh\"|" "$LAB_DIR/reference.json"
ok 'a reference that allows it lets the host recover' wait_for 15 host_is 1 trusted
host_measure 1 violate /etc/passwd
ok 'a file written while it was measured is quarantine' wait_for 5 host_is 1 quarantined
ok '... by its name' sh -c "'$BIN/picketctl' -r '$LAB_DIR/run-dpu1' -j attest reasons | grep -q IMA_VIOLATION"
dpuctl 1 attest evidence "$LAB_DIR" >/dev/null 2>&1
mkdir -p "$LAB_DIR/evidence"
ok 'the evidence can be written out' wait_for 10 dpuctl 1 attest evidence "$LAB_DIR/evidence"
"$BIN/picketctl" -j attest check "$LAB_DIR/evidence" --reference "$LAB_DIR/reference.json" >"$LAB_DIR/verdict.txt" 2>&1
ok '... and judged offline alike' grep -q IMA_VIOLATION "$LAB_DIR/verdict.txt"
# A reference may ask for PCRs of several banks.
sed -i '1s|"version": 1,|"version": 1, "superset": true, "require": {"sha256": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "sha1": [0, 7]},|' \
	"$LAB_DIR/reference.json"
mkdir -p "$LAB_DIR/banks"
both_banks() {
	dpuctl 2 attest evidence "$LAB_DIR/banks" >/dev/null 2>&1 && grep -q '"sha1":{"0":"[0-9a-f]\{40\}","7":' "$LAB_DIR/banks/pcrs.json"
}
ok 'a reference that requires PCRs of two banks has both quoted' wait_for 10 both_banks
ok '... which hold' quiet "$BIN/picketctl" attest check "$LAB_DIR/banks" --reference "$LAB_DIR/reference.json"
is '... and the host is trusted by it' trusted "$(host_state 2)"
ok 'nothing is learnt from a list with a violation' refuses "$BIN/picketctl" attest learn "$LAB_DIR/evidence"
"$BIN/picketctl" -j attest check "$LAB_DIR/evidence" --reference "$LAB_DIR/learnt.json" >"$LAB_DIR/verdict.txt" 2>&1
ok 'by what was learnt before, the program is unknown' grep -q IMA_UNKNOWN_FILE "$LAB_DIR/verdict.txt"
ok "the verifier's audit log is whole" quiet "$BIN/picketctl" audit check "$LAB_DIR/attestd1/audit.log"
sed '2s/host1/hostX/' "$LAB_DIR/attestd1/audit.log" >"$LAB_DIR/altered.log"
ok '... and would tell if it were not' refuses "$BIN/picketctl" audit check "$LAB_DIR/altered.log"
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
