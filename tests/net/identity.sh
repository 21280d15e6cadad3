#!/bin/sh
# X.509-SVIDs: the policy server issues them against the posture of the host behind a DPU, the agent renews and serves
# them, and what a host had when it lost its trust is refused everywhere.
LAB=pki$$
. "$SRCDIR/tests/net/lib.sh"
need_lab
if ! why=$(lab_hosts_can); then
	trap - EXIT
	echo "1..0 # SKIP $why"
	exit 0
fi
CA=$LAB_DIR/policyd/ca/ca.crt

refuses() { # COMMAND...
	! "$@" >/dev/null 2>&1
}
says() { # TEXT COMMAND...: it fails and says so
	wanted=$1
	shift
	"$@" >"$LAB_DIR/said" 2>&1 && return 1
	grep -q "$wanted" "$LAB_DIR/said"
}
fetch() { # N WORKLOAD FILE
	dpuctl $1 identity fetch "$2" >"$LAB_DIR/fetched" 2>&1 && sed -n '/BEGIN/,/END/p' "$LAB_DIR/fetched" >"$3"
}
events() { # FILE EVENT: how often
	grep -c "\"event\":\"$2\"" "$1"
}
at_least() { # N FILE EVENT
	[ "$(events "$2" "$3")" -ge "$1" ]
}
revoked() { # KIND NAME
	pkctl -j identity list | grep -q "\"kind\": *\"$1\", *\"name\": *\"$2\""
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
start_policyd -o svid-ttl=8s
for n in 1 2; do
	start_picketd $n
	start_agentd $n
done
ok 'DPUs connect' wait_for 30 dpus_connected 2
ok 'policy and workloads' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml

# ---- issue ----
ok 'a DPU is given its own' wait_for 10 fetch 1 '' "$LAB_DIR/dpu1.pem"
ok '... and another DPU believes it' quiet dpuctl 2 identity check "$LAB_DIR/dpu1.pem"
ok 'nothing for a workload whose host is not attested' says 'not attested' dpuctl 1 identity fetch shop/web
ok 'hosts enrol and become trusted' lab_hosts
ok 'then its SVID is issued' wait_for 10 fetch 1 shop/web "$LAB_DIR/web.pem"
ok '... which openssl believes, strictly' quiet openssl verify -x509_strict -purpose sslserver -CAfile "$CA" "$LAB_DIR/web.pem"
ok '... as a client too' quiet openssl verify -x509_strict -purpose sslclient -CAfile "$CA" "$LAB_DIR/web.pem"
is '... its only name is the SPIFFE id' 'URI:spiffe://demo.example/ns/shop/sa/web' \
	"$(openssl x509 -in "$LAB_DIR/web.pem" -noout -ext subjectAltName | sed -n '2s/ *//p')"
ok '... and another DPU believes it' quiet dpuctl 2 identity check "$LAB_DIR/web.pem"
ok 'nothing for a workload behind another DPU' refuses dpuctl 1 identity fetch shop/db
ok '... whom this DPU does not even ask for' says 'lives behind DPU dpu1' dpuctl 1 identity fetch shop/db
ok 'a certificate of the same authority that is no SVID is refused' says 'REFUSED\|neither\|does not say\|both ends' \
	dpuctl 2 identity check "$LAB_DIR/operator/identity.crt"

# ---- renew ----
spawn watch1 dpu1 "$BIN/picketctl" -j -r "$LAB_DIR/run-dpu1" identity fetch --watch shop/web
ok 'it is renewed before it expires' wait_for 14 at_least 3 "$LAB_DIR/watch1.log" svid
is '... without a gap' 0 "$(events "$LAB_DIR/watch1.log" gone)"

# ---- the server restarts; the agent restarts ----
end policyd
start_policyd -o svid-ttl=20s
ok 'the server back: DPUs return' wait_for 30 dpus_connected 2
before=$(events "$LAB_DIR/watch1.log" svid)
end agentd1
start_agentd 1
ok 'a new agent serves new keys to who was there' wait_for 20 at_least $((before + 1)) "$LAB_DIR/watch1.log" svid

# ---- quarantine ----
ok 'one more, to be revoked' wait_for 10 fetch 1 shop/web "$LAB_DIR/web.pem"
ok '... believed' wait_for 5 dpuctl 2 identity check "$LAB_DIR/web.pem"
sleep 1.1 # revocation goes by the second of issue
host_measure 1 run /tmp/backdoor $LAB_EVIL
ok 'the host is quarantined' wait_for 5 host_is 1 quarantined
ok '... and its key is gone' wait_for 2 at_least 1 "$LAB_DIR/watch1.log" gone
ok '... revoked' wait_for 2 revoked host dpu1
ok '... and refused elsewhere' says 'revoked' dpuctl 2 identity check "$LAB_DIR/web.pem"
ok '... there is no other' says 'not attested\|IMA_UNKNOWN' dpuctl 1 identity fetch shop/web
ok '... the DPU keeps its own' wait_for 5 fetch 1 '' "$LAB_DIR/dpu1.pem"
ok '... which is believed' quiet dpuctl 2 identity check "$LAB_DIR/dpu1.pem"
ok '... and the other host its' fetch 2 shop/db "$LAB_DIR/db.pem"
ok 'the audit log has it' sh -c "ip netns exec $LAB-policy '$BIN/picketctl' -j -s $LAB_SERVER -i '$LAB_DIR/operator' audit show | grep -q 'host dpu1'"
end policyd KILL
start_policyd -o svid-ttl=20s
ok 'a restart of the server does not forget' wait_for 20 revoked host dpu1
ok '... nor do DPUs' says 'revoked' dpuctl 2 identity check "$LAB_DIR/web.pem"

# ---- recovery ----
sed -i "s|\"/usr/bin/sh\"|\"/tmp/backdoor\": [\"$LAB_EVIL\"], \"/usr/bin/sh\"|" "$LAB_DIR/reference.json"
ok 'mended, the host is trusted' wait_for 15 host_is 1 trusted
ok '... and has an SVID again' wait_for 15 fetch 1 shop/web "$LAB_DIR/web2.pem"
ok '... which is believed' wait_for 5 dpuctl 2 identity check "$LAB_DIR/web2.pem"
ok '... and the old one is not' says 'revoked' dpuctl 2 identity check "$LAB_DIR/web.pem"

# ---- an operator ----
sleep 1.1
ok 'an operator revokes a workload' quiet pkctl identity revoke workload shop/db --message lost
ok '... which is refused' wait_for 2 refuses dpuctl 1 identity check "$LAB_DIR/db.pem"
ok '... and is issued anew' wait_for 20 fetch 2 shop/db "$LAB_DIR/db2.pem"

# ---- a workload moves ----
sleep 1.1
ok 'the web server has its SVID at home' wait_for 10 fetch 1 shop/web "$LAB_DIR/moved.pem"
ok '... believed elsewhere' quiet dpuctl 2 identity check "$LAB_DIR/moved.pem"
sleep 1.1
mkdir -p "$LAB_DIR/moved"
cp "$SRCDIR"/conf/demo/policy/*.yaml "$LAB_DIR/moved/"
sed -i '/name: web$/,/dpu:/s/dpu: dpu1/dpu: dpu2/' "$LAB_DIR/moved/inventory.yaml"
ok 'it moves behind another DPU' quiet pkctl policy apply --replace --at-once "$LAB_DIR"/moved/*.yaml
ok '... what it had is revoked' wait_for 2 revoked workload shop/web
ok '... and refused by every DPU' says revoked dpuctl 2 identity check "$LAB_DIR/moved.pem"
ok '... the one it was given to' wait_for 2 says revoked dpuctl 1 identity check "$LAB_DIR/moved.pem"
ok '... which has no key for it any more' refuses dpuctl 1 identity fetch shop/web
ok '... where it is now it has a new one' wait_for 10 fetch 2 shop/web "$LAB_DIR/moved2.pem"
ok '... believed' wait_for 5 dpuctl 1 identity check "$LAB_DIR/moved2.pem"
ok 'it moves back' quiet pkctl policy apply --replace --at-once "$SRCDIR"/conf/demo/policy/*.yaml
ok '... and has one there' wait_for 15 fetch 1 shop/web "$LAB_DIR/web2.pem"

# ---- the DPU itself ----
# Its TPM stands in for a chip on the DPU; a program there holds it, and the agent passes on what it says.
tpm_on() { # N: power on, boot and run, as dpuN
	spawn swtpm-own dpu1 swtpm socket --tpm2 --tpmstate dir="$LAB_DIR/tpm3" \
		--server type=tcp,port=9421,bindaddr=127.0.0.1 --ctrl type=tcp,port=9422,bindaddr=127.0.0.1 \
		--flags not-need-init,startup-clear
	in_ns dpu1 "$BUILDDIR/tests/tools/measure" boot swtpm:host=127.0.0.1,port=9421 "$LAB_DIR/logs3" "$1" &&
		in_ns dpu1 "$BUILDDIR/tests/tools/measure" run swtpm:host=127.0.0.1,port=9421 "$LAB_DIR/logs3" /usr/sbin/picketd $LAB_GOOD
}
own_attestd() {
	spawn own1 dpu1 "$BIN/picket-attestd" -c /dev/null -o role=host -o name=dpu1 -o dpu=dpu1 \
		-o dpu-address=unix:"$LAB_DIR/run-dpu1/picket-agentd.attest" -o ca="$LAB_DIR/dpu1.id/ca.crt" \
		-o tpm=swtpm:host=127.0.0.1,port=9421 -o tpm-share=yes -o eventlog="$LAB_DIR/logs3/eventlog.bin" \
		-o ima="$LAB_DIR/logs3/ima.bin" -o watch=50ms -o reconnect=300ms
}
server_says() { # TEXT
	grep -q "$1" "$LAB_DIR/policyd.log"
}
host_tpm_make 3
cat "$LAB_DIR/factory/issuercert.pem" "$LAB_DIR/factory/swtpm-localca-rootca-cert.pem" >"$LAB_DIR/factory.pem"
cat >"$LAB_DIR/dpus.json" <<JSON
{"version": 1, "layers": ["enrolment", "quote", "eventlog", "ima"], "ek_roots": "factory.pem",
 "cmdline": ["picket dpu*"], "ima": {"/usr/sbin/picketd": ["$LAB_GOOD"]}}
JSON
end policyd
start_policyd -o svid-ttl=20s -o dpu-interval=1s
wait_for 30 dpus_connected 2
ok 'without a reference for it a DPU need not prove itself' wait_for 20 fetch 1 '' "$LAB_DIR/dpu1.pem"
ok 'policy says that dpu1 has to' quiet pkctl attest reference apply dpus "$LAB_DIR/dpus.json" --dpus dpu1 --subject dpu
ok '... it is given no SVID any more' wait_for 15 says 'the DPU itself is unproven' dpuctl 1 identity fetch shop/web
ok '... another DPU, which need not, is' wait_for 10 fetch 2 shop/db "$LAB_DIR/db3.pem"
ok "the DPU's TPM is there" tpm_on 'picket dpu image=7'
own_attestd
ok '... by which it proves itself' wait_for 15 server_says 'dpu dpu1: it is itself trusted'
ok '... as the server shows, and by which reference' sh -c "ip netns exec $LAB-policy '$BIN/picketctl' -j -s $LAB_SERVER -i '$LAB_DIR/operator' show hosts |
	grep '\"host\": *\"dpu1\"' | grep '\"state\": *\"trusted\"' | grep -q '\"reference\": *\"file '"
ok '... and has its SVIDs' wait_for 30 fetch 1 shop/web "$LAB_DIR/web3.pem"
ok '... and its own' wait_for 15 fetch 1 '' "$LAB_DIR/dpu1.pem"
ok '... which is believed' wait_for 5 dpuctl 2 identity check "$LAB_DIR/dpu1.pem"
sleep 1.1
in_ns dpu1 "$BUILDDIR/tests/tools/measure" run swtpm:host=127.0.0.1,port=9421 "$LAB_DIR/logs3" /tmp/implant $LAB_EVIL
ok 'an unknown program on the DPU: it is not trusted' wait_for 15 server_says 'dpu dpu1: it is itself quarantined: IMA_UNKNOWN_FILE'
ok '... everything issued to it is revoked' wait_for 5 revoked dpu dpu1
ok '... its own' says 'revoked' dpuctl 2 identity check "$LAB_DIR/dpu1.pem"
ok '... and those of its workloads' says 'revoked' dpuctl 2 identity check "$LAB_DIR/web3.pem"
ok '... and nothing new is issued' wait_for 20 says 'the DPU itself is' dpuctl 1 identity fetch ''
end own1
# Another TPM of the same maker, in its place.
end swtpm-own
host_tpm_make 3
ok 'another TPM' tpm_on 'picket dpu image=7'
own_attestd
ok '... is not that of this DPU' wait_for 15 server_says 'another TPM is enrolled'
