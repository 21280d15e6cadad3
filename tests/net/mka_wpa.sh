#!/bin/sh
# Key agreement with Debian's wpa_supplicant, as key server and as member; a change of key, a change of key server, and
# silence.  Its kernel interface is replaced by a library that writes its keys down; frames under them are made by scapy.
#
#   peer: wpa_supplicant on eth0 --- out0 [dpu1: picketd, picket-mkad] in0 --- nobody
LAB=pkw$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
if ! command -v wpa_supplicant >/dev/null || ! /usr/bin/python3 -c 'import scapy.contrib.macsec' 2>/dev/null; then
	trap - EXIT
	skip_all 'needs wpasupplicant and python3-scapy'
fi
mkdir -p "$LAB_DIR/run-dpu1"
: >"$LAB_DIR/pids"
if ! cc -shared -fPIC -O1 $(pkg-config --cflags libnl-3.0 libnl-route-3.0 2>/dev/null) "$SRCDIR/tests/interop/fake_macsec.c" \
	-o "$LAB_DIR/fake_macsec.so" -ldl 2>"$LAB_DIR/cc.log"; then
	lab_down
	trap - EXIT
	skip_all 'needs libnl-route-3-dev to build its kernel for wpa_supplicant'
fi
LAB_NS="dpu1 client fabric"
for ns in $LAB_NS; do
	ip netns add "$LAB-$ns"
	in_ns $ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
veth client eth0 dpu1 out0
veth fabric eth0 dpu1 in0
ip -n "$LAB-client" link set eth0 address 02:00:00:00:00:50
keys=$LAB_DIR/keys.json
ckn=0123456789abcdef0123456789abcdef
umask 077
echo "$ckn 00112233445566778899aabbccddeeff" >"$LAB_DIR/0.key"

start_wpa() { # PRIORITY
	: >"$keys"
	cat >"$LAB_DIR/wpa.conf" <<EOF
ctrl_interface=$LAB_DIR/wpa
eapol_version=3
ap_scan=0
network={
 key_mgmt=NONE
 eapol_flags=0
 macsec_policy=1
 mka_cak=00112233445566778899aabbccddeeff
 mka_ckn=$ckn
 mka_priority=$1
}
EOF
	spawn wpa client env FAKE_MACSEC_LOG="$keys" LD_PRELOAD="$LAB_DIR/fake_macsec.so" wpa_supplicant -i eth0 \
		-D macsec_linux -c "$LAB_DIR/wpa.conf"
}

start_mka() { # PRIORITY SUITE
	spawn mkad1 dpu1 "$BIN/picket-mkad" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o plane="$LAB_DIR/run-dpu1/macsec.sock" \
		-o state-dir="$LAB_DIR/mka" -o port="0 $LAB_DIR/0.key" -o priority=$1 -o cipher-suite=$2
}

mka() { # KEY: of its status
	dpuctl 1 -j mka status | sed -n "s/.*\"$1\": *\"*\([^,\"]*\)\"*[,}].*/\1/p"
}

settled() { # SELF: whether we are key server
	[ "$(mka state)" = retire ] && [ "$(mka self)" = "$1" ]
}

ok_frames() {
	dpuctl 1 -j show macsec | sed -n 's/.*"InPktsOK":\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'
}

# Frames with the key that wpa_supplicant transmits with are good to picketd.
pn=100
same_key() {
	line=$(grep '"op":"add_txsa"' "$keys" | tail -1)
	an=$(echo "$line" | sed 's/.*"an":\([0-9]\).*/\1/')
	sak=$(echo "$line" | sed 's/.*"sak":"\([0-9a-f]*\)".*/\1/')
	was=$(ok_frames)
	in_ns client /usr/bin/python3 "$SRCDIR/tests/interop/macsec_send.py" eth0 0200000000500001 "$an" "$sak" $pn 5
	pn=$((pn + 100))
	wait_for 5 test "$(ok_frames)" -ge $((was + 5))
	[ "$(ok_frames)" -ge $((was + 5)) ]
}

transmits() { # it has been told to use the newest of its keys
	grep '"op":"upd_txsa"\|"op":"add_txsa"' "$keys" | tail -1 | grep -q '"active":1'
}

spawn picketd dpu1 "$BIN/picketd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o huge=no -o memory=128m -o buffers=8191 \
	-o sessions=4096 -o lcores='0@0-1,1@0-1' -o wire='af_packet:in0 af_packet:out0' -o macsec='0 required'
start_mka 16 gcm-aes-128
start_wpa 200
ok 'we are key server: both settle' wait_for 30 settled true
ok '... wpa_supplicant transmits' wait_for 10 transmits
ok '... and its key is ours' same_key
before=$(mka keys)
dpuctl 1 mka rekey
has_keys() { # NUMBER
	[ "$(mka keys)" = "$1" ]
}
ok 'a change of key: there is one' wait_for 20 has_keys $((before + 1))
ok '... both settle on it' wait_for 20 settled true
ok '... and it is the same key' same_key
end mkad1 KILL
start_mka 16 gcm-aes-128
ok 'key agreement is killed and comes back: the key stays' wait_for 20 settled true
ok '... and is the same' same_key
end wpa
before=$(mka keys)
start_wpa 1
ok 'wpa_supplicant begins anew and is key server: it makes a key' wait_for 40 has_keys $((before + 1))
ok '... both settle' wait_for 20 settled false
ok '... on it' same_key
end wpa KILL
is_down() {
	[ "$(mka state)" = change ] && dpuctl 1 -j show macsec | grep -q '"up": *false'
}
ok 'it falls silent: there is no key after MKA life time, and the port is down' wait_for 10 is_down
start_wpa 1
ok 'wpa_supplicant is there again: both settle' wait_for 30 settled false
end mkad1
start_mka 0 gcm-aes-256
ok 'we take over as key server: both settle' wait_for 40 settled true
ok '... on AES-256' test "$(mka suite)" = gcm-aes-256
ok '... and the same key' same_key
