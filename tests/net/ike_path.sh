#!/bin/sh
# What happens to IKE's paths: dead peers (RFC 7296, section 2.4), MOBIKE (RFC 4555) from either end, a data plane that
# starts anew or says nonsense, traps, IPv6, and the same backends as a plugin of Debian's charon.
. "$SRCDIR/tests/net/ike_lib.sh"
direct
start_plane 192.0.2.2 2001:db8::2
check 'picket-iked starts' start_iked
start_peer
tunnel() { peer_up && soon 3 established; }

# A trap: the first packet begins.
STARTS=trap
check 'a peer with a trap' load_both
check 'has a policy without an SA' soon 3 grep -q '^policy out 10.2.0.0/16 10.1.0.0/16 reqid=[0-9]* 00000000' "$dir/dump"
words acquire "$(sed -n 's/^policy out .* reqid=\([0-9]*\) .*/\1/p' "$dir/dump")" 10.2.0.1 10.1.0.1
check 'a packet that wants it brings up the tunnel' soon 5 established
check 'which carries packets' soon 3 peer_pings 1
check 'it ends' ctl ipsec down a
check 'and the trap is there again' soon 3 grep -q '^policy out 10.2.0.0/16 10.1.0.0/16 reqid=[0-9]* 00000000' "$dir/dump"
: >"$dir/none.yaml"
ctl ipsec load "$dir/none.yaml" >/dev/null
check 'a trap goes with its peer' soon 3 not grep -q '^policy' "$dir/dump"

# The data plane says nonsense, and starts anew.
STARTS=start
load_both
check 'a tunnel' soon 5 established
words junk
check 'nonsense ends the connection' soon 3 grep -q 'does not speak our protocol' "$dir/iked.log"
check 'and the tunnel goes on with the next one' soon 3 peer_pings 1
old=$(grep '^sa in' "$dir/dump")
words restart
check 'a data plane without SAs gets new ones' soon 5 sh -c "[ \$(grep -c '^sa ' '$dir/dump') -ge 2 ]"
check 'with other SPIs' not grep -qF "$old" "$dir/dump"
check 'which carry packets' soon 3 peer_pings 1

# A data plane that has been taken over: whatever it says in well-formed messages, the program stands.
words fuzz 7 20000
sleep 2
check 'it stands what a data plane may say' kill -0 $iked_pid
ctl ipsec down a >/dev/null 2>&1
ctl ipsec load "$dir/none.yaml" >/dev/null
soon 8 nothing_left
peer_down
load_both
check 'and has a tunnel again' soon 8 established

# The peer moves (RFC 4555, section 3.5).
BREMOTE='[192.0.2.1, 192.0.2.4]'
load_both
check 'a tunnel again' soon 5 established
soon 3 peer_pings 1
ip -n $nsA addr add 192.0.2.4/24 dev v0
ip -n $nsA addr del 192.0.2.1/24 dev v0
ip -n $nsA addr add 192.0.2.4/24 dev v0 2>/dev/null
check 'it goes on from the new address' soon 8 grep -q 'goes on between 192.0.2.2\[4500\] and 192.0.2.4' "$dir/iked.log"
check 'its SAs have moved' soon 5 sh -c "grep -q '^sa out .* 192.0.2.2 192.0.2.4 ' '$dir/dump'"
check 'and packets pass' soon 5 peer_pings 1
check 'the IKE SA is the same' test "$(counter ike_moved)" -ge 1

# So do we: the data plane comes back with another address.
kill $plane_pid
wait $plane_pid 2>/dev/null
REMOTE=192.0.2.2 start_plane 192.0.2.3
check 'a DPU of another address goes on from there' soon 8 grep -q 'goes on between 192.0.2.3\[4500\]' "$dir/iked.log"
check 'with new SAs' soon 5 sh -c "grep -q '^sa in .* 192.0.2.4 192.0.2.3 ' '$dir/dump'"
check 'that carry packets' soon 5 peer_pings 1
kill $plane_pid
wait $plane_pid 2>/dev/null
start_plane 192.0.2.2 2001:db8::2
ip -n $nsA addr add 192.0.2.1/24 dev v0
ctl ipsec load "$dir/none.yaml" >/dev/null
check 'nothing is left' soon 8 nothing_left
peer_down
unset BREMOTE

# A peer dies, and comes back.
PEER='dpd: 1s' CHILDB='onDpd: start'
load_both
check 'a tunnel once more' soon 5 established
before=$(counter unreachable)
kill -9 $peer_pid
ip -n $nsA link del ipsec0 2>/dev/null
check 'a dead peer is noticed' soon 12 sh -c "[ \$('$BIN/picketctl' -r '$dir/run' -j show ike-counters | sed -n 's/.*\"unreachable\",\"value\":\([0-9]*\).*/\1/p') -gt $before ]"
check 'its SAs go' soon 3 not grep -q '^sa out' "$dir/dump"
rm -f "$dir/A/vici"
start_peer
load_peer
check 'it is tried until it is back' soon 12 established
check 'and packets pass' soon 5 peer_pings 1
ctl ipsec load "$dir/none.yaml" >/dev/null
soon 5 nothing_left
peer_down
unset PEER CHILDB STARTS

# IPv6 outside.
BLOCAL='"2001:db8::2"' BREMOTE='["2001:db8::1"]' LOCAL=2001:db8::1 REMOTE=2001:db8::2
load_both
check 'IPv6: the peer brings up a tunnel' tunnel
check 'IPv6: its SAs are there' grep -q '^sa in .* 2001:db8::1 2001:db8::2 ' "$dir/dump"
check 'IPv6: packets pass' peer_pings 1
peer_down
unset BLOCAL BREMOTE LOCAL REMOTE

# The same by Debian's charon with our plugin.
if grep -q '^SANITIZERS = yes' "$BUILDDIR/config.mk"; then
	n=$((n + 1))
	echo "ok $n - the plugin # SKIP Debian's charon has no sanitizers, so it cannot load what has"
	exit 0
fi
kill $iked_pid
wait $iked_pid 2>/dev/null
mkdir -p "$dir/B"
cat >"$dir/B/strongswan.conf" <<-END
	charon {
	  load = random nonce openssl kdf pem pkcs1 pkcs8 x509 pubkey constraints hmac picket vici
	  plugins {
	    vici { socket = unix://$dir/B/vici }
	    picket { socket = $dir/run/sadb.sock }
	  }
	  filelog { log { path = $dir/B/log
	    default = 1
	    flush_line = yes } }
	}
END
unshare -m sh -c "mount -t tmpfs tmpfs /run 2>/dev/null
	export STRONGSWAN_CONF=$dir/B/strongswan.conf LD_PRELOAD=$BIN/libstrongswan-picket.so
	exec /usr/lib/ipsec/charon" >"$dir/B/out" 2>&1 &
echo $! >>"$pids"
check 'the plugin is loaded' soon 10 test -S "$dir/B/vici"
check 'and has found picketd' soon 3 grep -q 'picketd "test" is there' "$dir/B/log"
cat >"$dir/B/swanctl.conf" <<-END
	connections { t { version = 2
	  local_addrs = 192.0.2.2
	  remote_addrs = 192.0.2.1
	  proposals = aes256gcm16-prfsha384-x25519
	  local { auth = psk
	    id = b.example.org }
	  remote { auth = psk
	    id = a.example.org }
	  children { c { local_ts = 10.2.0.0/16
	      remote_ts = 10.1.0.0/16
	      esp_proposals = aes256gcm16-x25519 } } } }
	secrets { ike-1 { secret = "namespace test" } }
END
check 'it takes peers from swanctl' sh -c "STRONGSWAN_CONF='$dir/B/strongswan.conf' timeout 10 swanctl --load-all -f '$dir/B/swanctl.conf' --uri 'unix://$dir/B/vici'"
load_peer
check 'the peer brings up a tunnel with it' peer_up
check 'with the keys in picketd' soon 3 sh -c "[ \$(grep -c '^sa ' '$dir/dump') = 2 ]"
check 'and packets pass' peer_pings 1
