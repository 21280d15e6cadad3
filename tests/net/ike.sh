#!/bin/sh
# picket-iked against Debian's charon: suites, secrets and certificates, both as initiator and responder, fragments
# of IKE (RFC 7383), rekeying without a lost packet (RFC 7296, section 2.8), reauthentication, lifetimes, and refusals.
. "$SRCDIR/tests/net/ike_lib.sh"
direct
make_certificates ecdsa rsa ed25519
check 'picket-iked starts' start_iked -o fragment-size=600
check 'it says that picketd is away' sh -c "'$BIN/picketctl' -r '$dir/run' ipsec status | grep -q '^away'"
start_plane 192.0.2.2
check 'and finds it' soon 3 sh -c "'$BIN/picketctl' -r '$dir/run' ipsec status | grep -q '^connected'"
start_peer

tunnel() { peer_up && soon 3 established; }
suite() { # ESP IKE NAME
	ESP=$1 IKE=$2
	check "$1: peers" load_both
	check "$1: the peer brings up a tunnel" tunnel
	check "$1: and it carries packets" peer_pings 1
	check "$1: the SAs are of it" test "$(grep -c "^sa .* $3 tunnel" "$dir/dump")" = 2
	peer_down
	check "$1: nothing is left" soon 3 nothing_left
}
suite aes256gcm16-x25519 aes256gcm16-prfsha384-x25519 aes-256-gcm
suite aes128gcm16-ecp256 aes128gcm16-prfsha256-ecp256 aes-128-gcm
suite chacha20poly1305-x25519 chacha20poly1305-prfsha256-x25519 chacha20-poly1305
suite aes256-sha256-ecp384 aes256-sha384-ecp384 aes-256-cbc-sha-256
suite aes128-sha512-modp2048 aes128-sha256-modp2048 aes-128-cbc-sha-512
unset ESP IKE

# We begin, with each kind of certificate; both ends' messages are longer than a fragment.
for AUTH in ecdsa rsa ed25519; do
	check "$AUTH: peers" load_both
	check "$AUTH: we bring up a tunnel" ctl ipsec up a
	check "$AUTH: established" soon 5 established
	check "$AUTH: and it carries packets" peer_pings 1
	check "$AUTH: we may end it" ctl ipsec down a net
	check "$AUTH: child" soon 3 not grep -q '^sa ' "$dir/dump"
	check "$AUTH: and the rest" ctl ipsec down a
	check "$AUTH: nothing is left" soon 3 nothing_left
done
check 'IKE was sent in fragments' grep -q 'splitting IKE message' "$dir/iked.log"
check 'and came in fragments' grep -q 'received fragment #2' "$dir/iked.log"
AUTH=ecdsa
load_both
check 'certificates, the peer begins' tunnel
peer_down
unset AUTH

# Children that start with the configuration; rekeying under traffic, from both ends.
STARTS=start
check 'a peer whose child starts' load_peer
check 'is put in force' load_iked
check 'and its tunnel comes up by itself' soon 5 established
(INTERVAL=0.01 peer_pings 400 >"$dir/flood" 2>&1) &
flood=$!
sleep 0.3
check 'we rekey the child' ctl ipsec rekey a net
sleep 0.4
check 'the peer rekeys the child' swan --rekey --child c
sleep 0.4
check 'we rekey the IKE SA' ctl ipsec rekey a
sleep 0.4
check 'the peer rekeys the IKE SA' swan --rekey --ike t
sleep 0.4
check 'we rekey the child once more' ctl ipsec rekey a net
wait $flood
check 'no packet was lost' grep -q ' 0% packet loss' "$dir/flood"
check 'three rekeyings of the child are counted' test "$(counter child_rekeyed)" = 3
check 'old SAs go after their time' soon 4 test "$(sas)" = 2
check 'authentication is repeated' ctl ipsec rekey a reauth
check 'the tunnel is another' soon 5 sh -c "grep -q 'IKE SA .* ended' '$dir/iked.log'"
check 'and carries packets' soon 3 peer_pings 1
check 'the peer repeats it' swan --rekey --ike t --reauth
sleep 0.7
check 'and that tunnel carries packets' soon 3 peer_pings 1

# Lifetimes in packets: picketd says when, and we rekey.
CHILDB='rekeyPackets: 20'
check 'a changed peer' load_iked
check 'loses its tunnel and gets another' soon 5 established
before=$(counter child_rekeyed)
INTERVAL=0.02 peer_pings 40 >/dev/null
check 'after so many packets the child is rekeyed' soon 3 sh -c "[ \$('$BIN/picketctl' -r '$dir/run' -j show ike-counters | sed -n 's/.*child_rekeyed\",\"value\":\([0-9]*\).*/\1/p') -gt $before ]"
unset CHILDB
spi=$(sed -n 's/^sa in \([0-9a-f]*\).*/\1/p' "$dir/dump" | head -1)
words expire hard "$spi"
check 'what has expired for good is deleted' soon 3 not grep -q "^sa in $spi" "$dir/dump"

# Without proposals in the document: what we offer by ourselves is something the peer takes.
load_iked
sed -i '/proposals/d' "$dir/peers.yaml"
check 'a peer without proposals' ctl ipsec load "$dir/peers.yaml"
check 'has a tunnel' soon 5 established
check 'that carries packets' soon 3 peer_pings 1

# A peer with two children: one IKE SA for both.
both=$(printf 'mode: tunnel\n    - name: more\n      local: [10.4.0.0/16]\n      remote: [10.3.0.0/16]\n      proposals: ["aes256gcm16-x25519"]\n      start: start')
CHILD='} d { local_ts = 10.3.0.0/16
	remote_ts = 10.4.0.0/16
	esp_proposals = aes256gcm16-x25519' load_peer
CHILDB=$both
check 'a peer with two children' load_iked
check 'has SAs for both' soon 5 sh -c "[ \$(grep -c '^sa ' '$dir/dump') = 4 ]"
check 'of one IKE SA' test "$(ctl -j show ike | grep -c ESTABLISHED)" = 1
unset CHILDB CHILD
load_peer

# Peers that go.
: >"$dir/none.yaml"
check 'without peers' ctl ipsec load "$dir/none.yaml"
check 'nothing is left' soon 5 nothing_left
unset STARTS

# Refusals, each with its name.
load_both
echo 'another secret' >"$dir/ca/psk"
check 'a peer with another secret' load_iked
check 'is refused' not peer_up
check 'and counted' test "$(counter auth_refused)" -ge 1
check 'and logged' grep -q 'authentication refused' "$dir/iked.log"
echo 'namespace test' >"$dir/ca/psk"
ESP=aes256gcm16-x25519
load_iked
ESP=aes128gcm16-x25519
load_peer
check 'a peer with other algorithms for ESP' not peer_up
check 'is counted' test "$(counter proposal_refused_child)" -ge 1
unset ESP
AUTH=ecdsa
load_both
cp "$dir/ca/ca-rsa.crt" "$dir/ca/ca-ecdsa.crt"
check 'a peer under another authority' load_iked
check 'is refused too' not peer_up
check 'and counted as well' test "$(counter auth_refused)" -ge 2
unset AUTH

# A set of peers is whole or nothing.
load_both
check 'a tunnel' tunnel
sed 's/dpd: 0/dqd: 0/' "$dir/peers.yaml" >"$dir/bad.yaml"
check 'a slip is refused' not ctl ipsec load "$dir/bad.yaml"
check 'in one sentence with its place' sh -c "'$BIN/picketctl' -r '$dir/run' ipsec load '$dir/bad.yaml' 2>&1 | grep -q 'peers:[0-9]*:[0-9]*: .*dqd.*did you mean'"
sed 's/x25519"\]/x25518"]/' "$dir/peers.yaml" >"$dir/bad.yaml"
check 'an unknown algorithm too' sh -c "! '$BIN/picketctl' -r '$dir/run' ipsec load '$dir/bad.yaml' 2>'$dir/err' && grep -q 'is no proposal' '$dir/err'"
sed 's/file: psk/file: ..\/psk/' "$dir/peers.yaml" >"$dir/bad.yaml"
check 'files elsewhere are not read' sh -c "! '$BIN/picketctl' -r '$dir/run' ipsec load '$dir/bad.yaml' 2>'$dir/err' && grep -q 'leads out' '$dir/err'"
check 'and the tunnel goes on' peer_pings 1
check 'as it does when the same peers are loaded again' load_iked
check 'with its SAs' peer_pings 1
check 'it has no socket of the internet' sh -c "! ls -l /proc/$iked_pid/fd | grep -q 'socket:.*inet' && ! ip netns exec $nsB ss -Huanp | grep -q pid=$iked_pid"
check 'and no capability' grep -q '^CapEff:.0*$' /proc/$iked_pid/status
check 'it ends when told to' kill $iked_pid
check 'and tells the peer' soon 5 sh -c "! STRONGSWAN_CONF='$dir/A/strongswan.conf' swanctl --list-sas --uri 'unix://$dir/A/vici' | grep -q ESTABLISHED"
check 'no secret is in any log' not grep -qE 'namespace test|another secret' "$dir/iked.log"
