#!/bin/sh
# MACsec on all links of the lab: nothing in clear, nothing lost when keys change, nothing gained by who is in the middle.
LAB=pkm$$ # a name of its own: two runs may share a machine
LAB_MACSEC=yes
. "$SRCDIR/tests/net/lib.sh"
need_lab

drops() { # DPU REASON
	dpuctl $1 -j show drops | sed -n "s/.*\"reason\":\"$2\",\"packets\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

stat_of() { # DPU NAME: over all channels
	dpuctl $1 -j show macsec | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

lossless() { # TEXT SECONDS COMMAND...: no ping of one every 5 ms, there and back, gets lost meanwhile
	text=$1 seconds=$2
	shift 2
	in_ns web ping -q -i 0.005 -c $((seconds * 200)) -W 3 192.0.2.30 >"$LAB_DIR/ping" 2>&1 &
	pinger=$!
	"$@"
	wait $pinger
	is "$text" 0 "$(awk "/transmitted/ { print (\$1 > 100) ? \$1 - \$4 : \"all\" }" "$LAB_DIR/ping")"
}

key_now() {
	dpuctl 1 -j mka status | sed -n '1s/.*"keys":\([0-9]*\).*/\1/p'
}

rekey_thrice() {
	for i in 1 2 3; do
		dpuctl 1 mka rekey 0 || dpuctl 1 mka rekey 1
		wait_for 20 mka_settled
	done
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
lab_cak
start_policyd
for n in 1 2; do
	start_picketd $n
	start_agentd $n
done
wait_for 30 dpus_connected 2
cat >"$LAB_DIR/all.yaml" <<EOF
apiVersion: picket.io/v1
kind: Policy
metadata: {name: all, tenant: shop}
spec:
  tier: application
  priority: 100
  appliesTo: {workloads: {env: demo}}
  ingress: [{name: in, action: allow, encryption: required, from: [{workloads: {env: demo}}]}]
  egress: [{name: out, action: allow, encryption: required, to: [{workloads: {env: demo}}]}]
EOF
pkctl policy apply "$SRCDIR/conf/demo/policy/inventory.yaml" "$LAB_DIR/all.yaml" >"$LAB_DIR/apply.log" 2>&1
in_ns client ping -q -c 3 -i 0.2 -W 1 192.0.2.10 >/dev/null 2>&1
is 'without keys nothing passes' 1 $?
ok '... and drops say why' test "$(drops 1 macsec-down)" -gt 0
is '... and nothing is sent' 0 "$(dpuctl 1 -j show counters | sed -n 's/.*"sent-outside-packets","value":\([0-9]*\).*/\1/p')"
for n in 1 2; do
	start_mkad $n -o retire-time=500ms
done
ok 'four stations agree on a key' wait_for 30 mka_settled
spawn dump fabric tcpdump -i dpu1-0 --immediate-mode -w "$LAB_DIR/link.pcap" -U
mkdir -p "$LAB_DIR/www/tmp"
chmod 755 "$LAB_DIR/www"
head -c 20000000 /dev/urandom >"$LAB_DIR/www/index.html"
cat >"$LAB_DIR/nginx.conf" <<EOF
daemon off; master_process off; pid $LAB_DIR/nginx.pid; error_log stderr; events {}
http { access_log off; client_body_temp_path $LAB_DIR/www/tmp; proxy_temp_path $LAB_DIR/www/tmp;
 fastcgi_temp_path $LAB_DIR/www/tmp; uwsgi_temp_path $LAB_DIR/www/tmp; scgi_temp_path $LAB_DIR/www/tmp;
 server { listen 80; root $LAB_DIR/www; } }
EOF
spawn nginx web nginx -c "$LAB_DIR/nginx.conf" -e stderr
wait_for 10 in_ns web curl -s -o /dev/null http://192.0.2.10/
in_ns client curl -s --max-time 60 -o "$LAB_DIR/got" http://192.0.2.10/
ok '20 MB pass as they were, by rules that require encryption' cmp "$LAB_DIR/got" "$LAB_DIR/www/index.html"
rm -f "$LAB_DIR/got"
end dump
is '... and the link carried MACsec and EAPOL alone' 0 \
	"$(tcpdump -r "$LAB_DIR/link.pcap" 'not ether proto 0x88e5 and not ether proto 0x888e' 2>/dev/null | wc -l)"
ok '... much of it' test "$(tcpdump -r "$LAB_DIR/link.pcap" 'ether proto 0x88e5' 2>/dev/null | wc -l)" -gt 10000
rm -f "$LAB_DIR/link.pcap"
before=$(key_now)
lossless 'packets lost over three changes of key' 5 rekey_thrice
ok '... which were made' test $(($(key_now) - before)) -ge 3
is '... and none refused for it' 0 "$(($(stat_of 1 InPktsNotUsingSA) + $(stat_of 2 InPktsNotUsingSA) + $(stat_of 1 InPktsNotValid)))"

# Key agreement stops and comes back: clean, with the others waiting; killed, at once again.
before=$(key_now)
restart_mkad() {
	end mkad2
	sleep 8
	start_mkad 2 -o retire-time=500ms
	wait_for 20 mka_settled
}
lossless 'packets lost while mkad of dpu2 is away for 8 s' 12 restart_mkad
is '... and the key is the same' "$before" "$(key_now)"
kill_mkad() {
	end mkad1 KILL
	start_mkad 1 -o retire-time=500ms
	wait_for 20 mka_settled
}
lossless 'packets lost when mkad of dpu1, the key server, is killed' 8 kill_mkad
ok '... and all are agreed' wait_for 20 mka_settled

# From the middle of the link.
in_ns web ping -q -i 0.01 -w 8 192.0.2.30 >/dev/null 2>&1 &
pinger=$!
sleep 1
if command -v python3 >/dev/null; then
	in_ns fabric python3 "$SRCDIR/tests/interop/macsec_inject.py" dpu1-0 ||
		ok 'the attacker works' false
	for reason in replayed late not-valid no-sa unknown-sci bad-tag untagged; do
		ok "an attack is refused: macsec-$reason" test "$(drops 1 macsec-$reason)" -ge 10
	done
fi
kill $pinger 2>/dev/null
wait $pinger 2>/dev/null
for n in 1 2; do
	is "dpu$n: every packet has an account" 0 "$(unaccounted $n)"
done
