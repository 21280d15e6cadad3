#!/bin/sh
# A NAT between picket-iked and its peer (RFC 7296, section 2.23; RFC 3948), which forgets one day.
. "$SRCDIR/tests/net/ike_lib.sh"
command -v nft >/dev/null || skip 'there is no nft to make a NAT of'
natted
start_plane 192.0.2.2
check 'picket-iked starts' start_iked
start_peer
LOCAL=198.51.100.1 BREMOTE=any
check 'peers' load_both
check 'a peer behind a NAT brings up a tunnel' peer_up
check 'it is seen behind a NAT' soon 3 sh -c "'$BIN/picketctl' -r '$dir/run' -j show ike | grep -q '\"nat_remote\":true'"
check 'the SAs are in UDP, with the address of the NAT' grep -q '^sa out .* 192.0.2.2 192.0.2.9 .* udp' "$dir/dump"
check 'packets pass' peer_pings 3
check 'we rekey through the NAT' ctl ipsec rekey a net
sleep 0.3
check 'and packets pass' peer_pings 1

nat_to 50000
ip netns exec $nsN conntrack -F >/dev/null 2>&1 || ip netns exec $nsN sh -c 'ip link set vb down; ip link set vb up'
peer_pings 3 >/dev/null
check 'a NAT that has forgotten: the SAs go to the new port' soon 6 grep -q 'goes on between 192.0.2.2\[4500\] and 192.0.2.9\[5' "$dir/iked.log"
check 'and packets pass' soon 5 peer_pings 1
check 'the IKE SA is the same one' established
check 'and is rekeyed through the new mapping' ctl ipsec rekey a
sleep 0.5
check 'twice' soon 3 sh -c "[ \$('$BIN/picketctl' -r '$dir/run' -j show ike-counters | sed -n 's/.*\"ike_rekeyed\",\"value\":\([0-9]*\).*/\1/p') -ge 1 ]"
peer_down
check 'nothing is left' soon 3 nothing_left
