#!/bin/sh
# MACsec with Linux: Debian's kernel and wpa_supplicant in a guest at the other end of a wire of dpu1.
#
#   web 192.0.2.10 --- in0 [dpu1: picketd, picket-mkad] out0 === MACsec === eth0 [guest] 192.0.2.30 on macsec0
. "$SRCDIR/tests/vm/lib.sh"
LAB=pkv$$
. "$SRCDIR/conf/demo/lab.sh"
vm_cleanup() {
	lab_down
}
mac=52:54:00:12:34:56
ckn=0123456789abcdef0123456789abcdef

stat_of() { # NAME: of the guest's kernel
	guest host 'ip -s macsec show' | awk -v name="$1" '
		/InPkts|OutPkts/ { sub(/^ *stats: */, ""); n = split($0, key); next_line = 1; next }
		next_line { m = split($0, value); for (i = 1; i <= m; i++) sum[key[i]] += value[i]; next_line = 0 }
		END { print sum[name] + 0 }'
}

ours() { # NAME
	dpuctl 1 -j show macsec | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

lost() { # COUNT SIZE INTERVAL
	in_ns web ping -q -c "$1" -s "$2" -i "$3" -W 5 192.0.2.30 | awk '/transmitted/ { print $1 - $4 }'
}

settled() {
	[ "$(dpuctl 1 -j mka status | sed -n 's/.*"state": *"\([a-z]*\)".*/\1/p')" = retire ]
}

transmits() {
	guest host 'ip macsec show | grep -q "state on"'
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
ip -n "$LAB-dpu1" link del out0
ip -n "$LAB-dpu1" tuntap add dev out0 mode tap
ip -n "$LAB-dpu1" link set out0 mtu 1532 up
start host --netns "$LAB-dpu1" --net tap:out0
(umask 077 && echo "$ckn 00112233445566778899aabbccddeeff" >"$LAB_DIR/0.key")
start_policyd
mkdir -p "$LAB_DIR/run-dpu1"
spawn picketd1 dpu1 "$BIN/picketd" -c /dev/null -o instance=dpu1 -o run-dir="$LAB_DIR/run-dpu1" -o huge=no -o memory=128m \
	-o buffers=16383 -o sessions=4096 -o lcores='0@0-1,1@0-1' -o wire='af_packet:in0 af_packet:out0' -o macsec='0 required'
start_agentd 1
wait_for 30 dpus_connected 1
cat >"$LAB_DIR/all.yaml" <<EOF
apiVersion: picket.io/v1
kind: Policy
metadata: {name: all, tenant: shop}
spec:
  tier: application
  priority: 100
  appliesTo: {workloads: {env: demo}}
  ingress: [{name: in, action: allow, from: [{workloads: {env: demo}}]}]
  egress: [{name: out, action: allow, to: [{workloads: {env: demo}}]}]
EOF
pkctl policy apply "$SRCDIR/conf/demo/policy/inventory.yaml" "$LAB_DIR/all.yaml" >"$LAB_DIR/apply.log" 2>&1

start_mka() { # PRIORITY SUITE
	spawn mkad1 dpu1 "$BIN/picket-mkad" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o plane="$LAB_DIR/run-dpu1/macsec.sock" \
		-o state-dir="$LAB_DIR/mka" -o port="0 $LAB_DIR/0.key" -o priority=$1 -o cipher-suite=$2
}

guest host "modprobe -a macsec aesni_intel; ip link set eth0 address $mac mtu 1600; ip link set eth0 up
cat >/run/w.conf <<X
eapol_version=3
ap_scan=0
network={
 key_mgmt=NONE
 eapol_flags=0
 macsec_policy=1
 macsec_replay_protect=1
 macsec_replay_window=64
 mka_cak=00112233445566778899aabbccddeeff
 mka_ckn=$ckn
 mka_priority=100
}
X
wpa_supplicant -B -i eth0 -D macsec_linux -c /run/w.conf -f /run/w.log"
start_mka 16 gcm-aes-128
ok 'keys are agreed, ours' wait_for 60 settled
ok '... and the kernel has them' wait_for 60 transmits
guest host 'ip link set macsec0 up; ip addr add 192.0.2.30/24 dev macsec0'
is 'pings of 84 octets lost' 0 "$(lost 10 56 0.2)"
is 'pings of 1428 octets lost' 0 "$(lost 10 1400 0.2)"
is '... none of them invalid to the kernel' 0 "$(stat_of InPktsNotValid)"
is '... nor to us' 0 "$(ours InPktsNotValid)"
in_ns web ping -q -i 0.05 -c 300 -W 5 192.0.2.30 >"$LAB_DIR/ping" &
pinger=$!
sleep 1
dpuctl 1 mka rekey
wait $pinger
is 'packets lost over a change of key' 0 "$(awk '/transmitted/ { print $1 - $4 }' "$LAB_DIR/ping")"
ok 'the key has changed' wait_for 20 settled
is '... to the next association number' 1 "$(dpuctl 1 -j mka status | sed -n 's/.*"an": *\([0-9]\).*/\1/p')"
end mkad1
guest host 'kill $(pidof wpa_supplicant); sleep 1; ip link del macsec0 2>/dev/null'

# Extended packet numbers, which wpa_supplicant has not: keys by hand, and a start just before the lower half wraps.
key=$(printf "%02x" $(seq 0 31))
salt=e630e81a48de86a21c66fa6d
end picketd1
spawn picketd1 dpu1 "$BIN/picketd" -c /dev/null -o instance=dpu1 -o run-dir="$LAB_DIR/run-dpu1" -o huge=no -o memory=128m \
	-o buffers=16383 -o sessions=4096 -o lcores='0@0-1,1@0-1' -o wire='af_packet:in0 af_packet:out0' -o macsec='0 required'
wait_for 20 test -S "$LAB_DIR/run-dpu1/macsec.sock"
our_mac=$(dpuctl 1 -j show macsec | sed -n 's/.*"channel": *"transmit", *"sci": *"\([0-9a-f:]*\).*/\1/p')
spawn static dpu1 python3 "$SRCDIR/tests/interop/macsec_static.py" "$LAB_DIR/run-dpu1/macsec.sock" 4 "$key" "$salt" 0xfffffffa 2 \
	5254001234560001 1
guest host "ip link add link eth0 macsec0 type macsec sci 5254001234560001 cipher gcm-aes-xpn-256 encrypt on replay on window 64
ip macsec add macsec0 tx sa 0 xpn 4294967290 ssci 1 salt $salt on key 01 $key
ip macsec add macsec0 rx port 1 address $our_mac
ip macsec add macsec0 rx port 1 address $our_mac sa 0 xpn 4294967290 ssci 2 salt $salt on key 01 $key
ip link set macsec0 up; ip addr add 192.0.2.30/24 dev macsec0"
in_ns web ip neigh flush dev eth0
wait_for 20 in_ns web ping -c 1 -W 1 192.0.2.30
is 'pings lost with XPN-256 while the lower half of the number wraps' 0 "$(lost 20 500 0.2)"
ok '... which it has' sh -c "'$BIN/picketctl' -r '$LAB_DIR/run-dpu1' -j show macsec | sed -n 's/.*\"channel\": *\"transmit\".*\"next_pn\": *\([0-9]*\).*/\1/p' | head -1 | awk '{ exit !(\$1 > 4294967296) }'"
is '... and nothing was invalid' 0 "$(($(ours InPktsNotValid) + $(stat_of InPktsNotValid)))"

# Frames of ours that the kernel has to refuse: one from before its replay window, and one that was tampered with.
frame() { # PN: protected, in hexadecimal
	echo "protect gcm-aes-xpn-256 0 $key $(echo "$our_mac" | tr -d :)0001 2 $salt $1 0 include" \
		"$(echo "$mac" | tr -d :)$(echo "$our_mac" | tr -d :)0800$(printf '45%090d' 0)" | "$BUILDDIR/tests/tools/macsec_frame"
}
throw() { # HEX
	in_ns dpu1 python3 -c 'import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("out0", 0))
s.send(bytes.fromhex(sys.argv[1]))' "$1"
}
is 'pings lost' 0 "$(lost 80 56 0.02)"
throw "$(frame 100000001)"
tampered=$(frame 100001000)
throw "${tampered%?}$(echo "${tampered#"${tampered%?}"}" | tr 0-9a-f 1-9a-f0)"
sleep 1
is 'a replay is late to the kernel' 1 "$(stat_of InPktsLate)"
# It counts those by channel and by association.
ok 'a tampered frame is not valid' test "$(stat_of InPktsNotValid)" -gt 0
