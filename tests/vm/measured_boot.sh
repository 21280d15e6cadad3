#!/bin/sh
# A machine as it is: UEFI with Secure Boot, shim and GRUB that measure, IMA of Debian's kernel, a TPM (swtpm).  Its DPU is a
# picket-attestd on this machine.  It enrols, is learnt from and trusted; then it is tampered with, one way after the other,
# and each verdict has to name what was done.  Three starts of half a minute each on an idle machine.
. "$SRCDIR/tests/tap.sh"
[ -n "${PICKET_VM_LONG:-}" ] || skip_all 'takes three minutes: make check-vm runs it'
. "$SRCDIR/tests/vm/lib.sh"
run=$PICKET_VM_RUN
ns=vmattest$$
command -v swtpm >/dev/null || skip_all 'needs swtpm'
bin=$BUILDDIR/bin

vm_cleanup() {
	if [ -f "$run/attestd.pid" ]; then
		kill "$(cat "$run/attestd.pid")" 2>/dev/null
		if [ $tap_failed -gt 0 ]; then
			tail -n 25 "$run/attestd.log" | sed 's/^/# /'
		fi
	fi
	ip netns del $ns 2>/dev/null
}

ctl() {
	"$bin/picketctl" -r "$run" "$@"
}
state() {
	ctl -j attest status | sed -n 's/.*"state": *"\([a-z]*\)".*/\1/p'
}
patiently() { # SECONDS COMMAND...: twice that on a busy machine
	tries=$(($1 * 4))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.5
	done
}
is_now() { # STATE
	[ "$(state)" = "$1" ]
}
because() { # CODE TEXT: among the reasons of the last evidence
	ctl -j attest reasons | grep "\"$1\"" | grep -q "$2"
}
refuses() { # COMMAND...
	! "$@" >/dev/null 2>&1
}
boot() { # DISK: start the machine and the program that holds its TPM
	start host --firmware secure-boot --disk "$1" --mem 640 --netns $ns --net tap:wire --tpm --tpm-state "$run/tpm" --tpm-ca "$run/tpm-ca"
	"$vm" put host "$run/dpu/ca.crt" /run/ca.crt
	programs host picket-attestd || return 1
	guest host 'ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up; mkdir -p /run/unmeasured /srv
		mount -t ramfs ramfs /srv; export LD_LIBRARY_PATH=/run/picket/lib
		/run/picket/bin/picket-attestd -c /dev/null -o role=host -o name=lab -o dpu=dpu1 -o dpu-address=tcp:10.77.0.1:7444 \
			-o ca=/run/ca.crt -o run-dir=/run >/run/attestd.log 2>&1 </dev/null &'
}
tools() { # what the tests run in the guest, so that it is known before anybody learns
	guest host 'cp /bin/true /srv/warm; /srv/warm; exec 3</srv/warm; exec 3<&-; rm /srv/warm; cat /proc/cmdline; sleep 0.1' >/dev/null
}

"$SRCDIR/tests/vm/efi-disk" grub "$run/good.img" lab.root=memory 2>"$run/disk.err" || skip_all "no disk: $(tail -n 1 "$run/disk.err")"
"$SRCDIR/tests/vm/efi-disk" grub "$run/changed.img" 'lab.root=memory module.sig_enforce=0' 2>"$run/disk.err" ||
	skip_all "no disk: $(tail -n 1 "$run/disk.err")"
ip netns add $ns
ip -n $ns link set lo up
ip -n $ns tuntap add dev wire mode tap
ip -n $ns addr add 10.77.0.1/24 dev wire
ip -n $ns link set wire up

"$bin/picket-policyd" -c /dev/null -o state-dir="$run/policyd" init --domain lab.example --server 10.77.0.1 >/dev/null 2>&1
"$bin/picket-policyd" -c /dev/null -o state-dir="$run/policyd" issue dpu dpu1 "$run/dpu" >/dev/null 2>&1
# Before anything is known of it, it is asked for its quote alone, on a wire that nobody else is on.
echo '{"version": 1, "layers": ["quote"]}' >"$run/reference.json"
ip netns exec $ns "$bin/picket-attestd" -c /dev/null -o role=dpu -o run-dir="$run" -o state-dir="$run/attestd" -o identity="$run/dpu" \
	-o listen=tcp:10.77.0.1:7444 -o reference="$run/reference.json" -o enrol=first -o host=lab -o interval=3s -o answer=30s \
	-o lease=120s -o missed-max=20 -o recover-rounds=1 -o tell="$run/nobody" >"$run/attestd.log" 2>&1 </dev/null &
echo $! >"$run/attestd.pid"

ok 'the machine starts' boot "$run/good.img"
ok 'its TPM enrols and quotes' patiently 30 is_now trusted
tools
learn() {
	ctl attest learn >"$run/learnt.json" 2>/dev/null
}
ok 'a reference is learnt from it' patiently 30 learn
python3 - "$run" <<'PY'
import json, sys
run = sys.argv[1]
ref = json.load(open(run + "/learnt.json"))
roots = open(run + "/tpm-ca/issuercert.pem").read()
try:
    roots += open(run + "/tpm-ca/swtpm-localca-rootca-cert.pem").read()
except OSError:
    pass
ref["ek_roots"] = roots
# Which files came in which order is in PCR 10, and is judged file by file.
json.dump(ref, open(run + "/strict.json", "w"), indent=1)
PY
is '... with Secure Boot on' True "$(python3 -c "import json; print(json.load(open('$run/learnt.json')).get('secureboot'))")"
ok '... and the command line' grep -q 'lab.root=memory' "$run/learnt.json"
mv "$run/strict.json" "$run/reference.json"
strict() { # trusted by evidence that was judged since the reference changed
	grep -q 'reference in force' "$run/attestd.log" && ctl -j attest status | grep -q '"ima_entries": *[1-9]' && is_now trusted
}
ok 'it is trusted by what was learnt: boot log, EK certificate, every file' patiently 30 strict
mkdir -p "$run/good"
evidence() {
	ctl attest evidence "$run/good" >/dev/null 2>&1 && [ -s "$run/good/eventlog.bin" ] && [ -s "$run/good/ima.bin" ]
}
ok 'its evidence, real, is written out' patiently 30 evidence
ok '... and judged alike offline' quiet "$bin/picketctl" attest check "$run/good" --reference "$run/reference.json"

guest host 'cp /bin/true /srv/backdoor; printf x >>/srv/backdoor; /srv/backdoor'
ok 'an unknown program is quarantine' patiently 30 is_now quarantined
ok '... by its name' because IMA_UNKNOWN_FILE /srv/backdoor
guest host 'exec 3</srv/backdoor; printf y >>/srv/backdoor; exec 3<&-'
ok 'a file that is written while it is read (ToMToU) is a violation' patiently 30 because IMA_VIOLATION backdoor

"$vm" stop --keep host
sleep 1
ok 'it starts with another command line' boot "$run/changed.img"
ok '... and stays quarantined' patiently 30 because CMDLINE_NOT_ALLOWED sig_enforce
is '... with Secure Boot on, as before' 0 "$(ctl -j attest reasons | grep -c SECURE_BOOT)"
ok '... though nothing unknown ran' refuses because IMA_UNKNOWN_FILE /srv/backdoor

"$vm" stop --keep host
ok 'it starts as it was learnt' boot "$run/good.img"
ok '... and is trusted again' patiently 60 is_now trusted
