#!/bin/sh
# Two DPUs, and ESP between them with keys made by hand, by the socket that an IKE daemon uses.
#
#   web 192.0.2.10 -- [dpu1 192.0.2.201] ==== ESP ==== [dpu2 192.0.2.202] -- db 192.0.2.30
#
# Policy asks for encryption between the two and for nothing else; whatever is not there drops by its name.
LAB=pki$$
. "$SRCDIR/tests/net/lib.sh"
need_lab
SADB=$BUILDDIR/tests/tools/sadb
K1=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
K2=$(echo $K1 | tr 0123 3210)
US=192.0.2.201 THEM=192.0.2.202

sadb() { # DPU: lines on standard input
	"$SADB" "$LAB_DIR/run-dpu$1/sadb.sock"
}

sadb_says() { # DPU LINE...
	n=$1
	shift
	printf '%s\n' "$@" | sadb $n 2>&1
}

# pair N: SAs number N, and make them the ones in use
pair() {
	spi=$1
	{
		echo "add-sa dir=in mode=tunnel spi=0xc00000${spi}0 reqid=7 src=$THEM dst=$US encr=20 bits=256 key=$K2 window=64"
		echo "add-sa dir=out mode=tunnel spi=0xc00000${spi}0 reqid=7 src=$US dst=$THEM encr=20 bits=256 key=$K1"
	} | sadb 1
	{
		echo "add-sa dir=in mode=tunnel spi=0xc00000${spi}0 reqid=9 src=$US dst=$THEM encr=20 bits=256 key=$K1 window=64"
		echo "add-sa dir=out mode=tunnel spi=0xc00000${spi}0 reqid=9 src=$THEM dst=$US encr=20 bits=256 key=$K2"
		echo "add-policy dir=in reqid=9 src=192.0.2.10 dst=192.0.2.30"
		echo "add-policy dir=out reqid=9 src=192.0.2.30 dst=192.0.2.10 spi=0xc00000${spi}0 sa-dst=$US"
	} | sadb 2
	{
		echo "add-policy dir=in reqid=7 src=192.0.2.30 dst=192.0.2.10"
		echo "add-policy dir=out reqid=7 src=192.0.2.10 dst=192.0.2.30 spi=0xc00000${spi}0 sa-dst=$THEM"
	} | sadb 1
}

no_pair() { # N
	sadb_says 1 "del-sa spi=0xc00000${1}0 src=$THEM dst=$US" "del-sa spi=0xc00000${1}0 src=$US dst=$THEM"
	sadb_says 2 "del-sa spi=0xc00000${1}0 src=$US dst=$THEM" "del-sa spi=0xc00000${1}0 src=$THEM dst=$US"
}

drops() { # DPU REASON
	dpuctl "$1" -j show drops | sed -n 's/.*"reason":"'"$2"'","packets":\([0-9]*\).*/\1/p'
}

pings() { # COUNT: how many of web's pings come back
	in_ns web ping -n -q -c "$1" -i 0.02 -W 1 192.0.2.30 | sed -n 's/.* \([0-9]*\) received.*/\1/p'
}

dropped() { # DPU REASON: at least once
	[ "$(drops "$1" "$2")" -gt 0 ] 2>/dev/null
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
start_policyd
start_picketd 1 -o ipsec-mesh=no -o ipsec-sas=1000 -o ipsec-address="0 $US/24"
start_picketd 2 -o ipsec-mesh=no -o ipsec-sas=1000 -o ipsec-address="0 $THEM/24"
start_agentd 1
start_agentd 2
wait_for 30 dpus_connected 2
cp -r "$SRCDIR/conf/demo/policy" "$LAB_DIR/policy"
cat >"$LAB_DIR/policy/web.yaml" <<END
apiVersion: picket.io/v1
kind: Policy
metadata: {name: web, tenant: shop}
spec:
  tier: application
  priority: 100
  appliesTo: {workloads: {app: web}}
  egress:
    - {name: to-db, action: allow, to: [{workloads: {app: db}}], services: [redis, icmp/echo-request], encryption: ipsec}
  ingress:
    - {name: from-db, action: allow, from: [{workloads: {app: db}}], services: [icmp/echo-request], encryption: required}
    - {name: clients, action: allow, from: [{workloads: {app: client}}], services: [http, icmp/echo-request]}
END
cat >"$LAB_DIR/policy/db.yaml" <<END
apiVersion: picket.io/v1
kind: Policy
metadata: {name: db, tenant: shop}
spec:
  tier: application
  priority: 110
  appliesTo: {workloads: {app: db}}
  ingress:
    - {name: web, action: allow, from: [{workloads: {app: web}}], services: [redis, icmp/echo-request], encryption: ipsec}
  egress:
    - {name: to-web, action: allow, to: [{workloads: {app: web}}], services: [icmp/echo-request], encryption: required}
END
ok 'policy is accepted' quiet pkctl policy apply "$LAB_DIR"/policy/*.yaml

is 'picketd says who it is, and where' "hello picketd dpu1 sas=1000" "$(echo | sadb 1 | head -1)"
is 'its address' "local $US/24 wire=0" "$(sadb_says 1 'wait 100' | sed -n 2p)"

# Nothing yet: what has to be protected does not pass, and somebody is asked.
sadb_says 1 'wait 2000' >"$LAB_DIR/events" &
pid=$!
sleep 0.2
is 'no SA: no ping' 0 "$(pings 3)"
wait $pid
is 'under its name' true "$(dropped 1 esp-acquire && echo true)"
ok 'an SA is asked for' grep -q 'acquire 192.0.2.10 -> 192.0.2.30 proto=1 .*reqid=0' "$LAB_DIR/events"
is 'a client without encryption is let in as ever' 3 "$(in_ns client ping -n -q -c 3 -i 0.02 -W 1 192.0.2.10 | sed -n 's/.* \([0-9]*\) received.*/\1/p')"

# What is on the wire between them.
ip netns exec "$LAB-fabric" tcpdump -n -U -i dpu1-0 -w "$LAB_DIR/wire.pcap" >/dev/null 2>&1 &
tcpdump_pid=$!
echo "$tcpdump_pid tcpdump" >>"$LAB_DIR/pids"
pair 1 >"$LAB_DIR/pair"
is 'SAs and policies are taken' 8 "$(grep -c '^ok' "$LAB_DIR/pair")"
is 'pings pass, by ESP' 20 "$(pings 20)"
is 'the other way as well' 5 "$(in_ns db ping -n -q -c 5 -i 0.02 -W 1 192.0.2.10 | sed -n 's/.* \([0-9]*\) received.*/\1/p')"
is 'show sa: packets of the outbound SA' 25 "$(dpuctl 1 -j show sa | grep '"direction":"out"' | sed -n 's/.*"packets":\([0-9]*\).*/\1/p')"
is 'of the inbound one' 25 "$(dpuctl 1 -j show sa | grep '"direction":"in"' | sed -n 's/.*"packets":\([0-9]*\).*/\1/p')"
is 'show tunnels' up "$(dpuctl 1 -j show tunnels | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p')"
is 'query-sa' "ok spi=0x00000000 packets=25" "$(sadb_says 1 "query-sa spi=0xc0000010 src=$US dst=$THEM" | grep '^ok' | cut -d' ' -f1-3)"

# TCP, and what is longer than the path with ESP around it.
redis-cli -v >/dev/null 2>&1 && spawn redis db redis-server --save '' --bind 192.0.2.30 --protected-mode no
value() { # BYTES: through redis and back
	head -c "$1" /dev/zero | tr '\0' x | in_ns web redis-cli -h 192.0.2.30 -x set k >/dev/null 2>&1
	in_ns web timeout 5 redis-cli -h 192.0.2.30 strlen k
}
if redis-cli -v >/dev/null 2>&1; then
	wait_for 5 in_ns db redis-cli -h 192.0.2.30 ping
	is 'TCP learns what the path takes (RFC 1191)' 200000 "$(value 200000)"
	ok 'from an ICMP error of ours' dropped 1 esp-too-big
fi
is 'an IPv4 packet that may be cut is cut' 3 "$(in_ns web ping -n -q -c 3 -i 0.05 -W 1 -M dont -s 1472 192.0.2.30 | sed -n 's/.* \([0-9]*\) received.*/\1/p')"

# A trace says which SA.
dpuctl 1 -j monitor >"$LAB_DIR/monitor" &
pid=$!
echo "$pid monitor" >>"$LAB_DIR/pids"
sleep 0.3
pings 2 >/dev/null
sleep 0.5
kill $pid
ok 'a record names the SA' grep -q '"sa":{"spi":"0xc0000010","reqid":7}' "$LAB_DIR/monitor"

# Rekeying under traffic: make before break, no packet lost.
in_ns web ping -n -q -c 150 -i 0.02 -W 1 192.0.2.30 >"$LAB_DIR/rekey" &
pid=$!
sleep 0.5
pair 2 >/dev/null
sleep 0.5
no_pair 1 >/dev/null
wait $pid
is 'rekeyed without a lost packet' 150 "$(sed -n 's/.* \([0-9]*\) received.*/\1/p' "$LAB_DIR/rekey")"
is 'the new SA carries' true "$([ "$(dpuctl 1 -j show sa | grep '"spi":"0xc0000020"' | grep '"direction":"out"' | sed -n 's/.*"packets":\([0-9]*\).*/\1/p')" -gt 50 ] && echo true)"

# One end is killed and comes back: nothing passes in plain text, and new keys mend it.
end picketd2 KILL
is 'the other end is gone' 0 "$(pings 2)"
start_picketd 2 -o ipsec-mesh=no -o ipsec-sas=1000 -o ipsec-address="0 $THEM/24"
wait_for 30 dpus_connected 2
sleep 1
is 'it is back, without keys' 0 "$(pings 2)"
ok 'and says so' wait_for 5 dropped 2 esp-spi
sadb_says 1 flush >/dev/null
pair 3 >/dev/null
is 'new keys' 5 "$(pings 5)"

# Plain text of what has to be protected, from outside: by a frame that says it came from the other end.
before=$(drops 2 esp-plain)
in_ns fabric /usr/bin/python3 - <<END 2>/dev/null
import socket, struct
def csum(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    s = (s & 0xffff) + (s >> 16)
    return struct.pack("!H", ~(s + (s >> 16)) & 0xffff)
icmp = b"\x08\0\0\0\0\1\0\1" + b"x" * 24
icmp = icmp[:2] + csum(icmp) + icmp[4:]
ip = b"\x45\0" + struct.pack("!H", 20 + len(icmp)) + b"\0\1\0\0\x40\x01\0\0" + socket.inet_aton("192.0.2.10") + socket.inet_aton("192.0.2.30")
ip = ip[:10] + csum(ip) + ip[12:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("dpu2-0", 0))
for _ in range(3):
    s.send(bytes.fromhex("020000000030020000000010") + b"\x08\0" + ip + icmp)
END
ok 'plain text from outside is refused by its name' wait_for 3 dropped 2 esp-plain

# Lifetimes, and what is refused.
sadb_says 1 flush >/dev/null
is 'an algorithm that is not there' 1 "$(sadb_says 1 "add-sa dir=out mode=tunnel spi=0x1234 reqid=7 src=$US dst=$THEM encr=3 key=$K1" | grep -c 'ENCR_3DES (3).*not supported')"
is 'a key of the wrong length' 1 "$(sadb_says 1 "add-sa dir=out mode=tunnel spi=0x1234 reqid=7 src=$US dst=$THEM encr=20 bits=256 key=0011" | grep -c 'keys of 2 and 0 bytes')"
{
	echo "add-sa dir=out mode=tunnel spi=0xc0000005 reqid=7 src=$US dst=$THEM encr=20 bits=256 key=$K1 soft-packets=3 hard-packets=5"
	echo "add-policy dir=out reqid=7 src=192.0.2.10 dst=192.0.2.30 spi=0xc0000005 sa-dst=$THEM"
	echo 'wait 3000'
} | sadb 1 >"$LAB_DIR/life" 2>&1 &
pid=$!
sleep 0.3
pings 3 >/dev/null
sleep 0.4
pings 4 >/dev/null
wait $pid
ok 'soft end' grep -q 'expire spi=0xc0000005 soft packets' "$LAB_DIR/life"
ok 'hard end' grep -q 'expire spi=0xc0000005 hard packets' "$LAB_DIR/life"
is 'it has carried no more than it may' 5 "$(dpuctl 1 -j show sa | grep 0xc0000005 | sed -n 's/.*"packets":\([0-9]*\).*/\1/p')"

kill "$tcpdump_pid"
sleep 0.2
is 'between the two there was nothing but ESP' 0 "$(tcpdump -n -r "$LAB_DIR/wire.pcap" 'host 192.0.2.30 and not arp' 2>/dev/null | wc -l)"
is 'and ESP there was' true "$([ "$(tcpdump -n -r "$LAB_DIR/wire.pcap" "esp and host $THEM" 2>/dev/null | wc -l)" -gt 100 ] && echo true)"
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
