#!/bin/sh
# Sessions spread over two lcores in software: ports of one queue, polled by one lcore each, and every session,
# every fragment and every ICMP error where it belongs.
#
#   web, client --- [dpu1: two lcores] --- fabric --- [dpu2: one lcore] --- db
LAB=pkq$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
CONNS=$BUILDDIR/tests/tools/conns
NB=200
kept=$LAB_DIR/kept

lcore_sum() { # KEY: over lcores of dpu1
	dpuctl 1 -j show lcores | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

lcore_min() { # KEY: of the lcore that has least
	dpuctl 1 -j show lcores | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" | sort -n | head -1
}

drops() { # REASON
	dpuctl 1 -j show drops | sed -n "s/.*\"reason\":\"$1\",\"packets\":\([0-9]*\).*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

established() {
	dpuctl 1 -j show sessions state established proto tcp dport 80 | grep -c '"src"'
}

nb_open() { # connections as the client's kernel sees them
	in_ns client ss -Htn state established 'dport = :80' | wc -l
}

bytes_read() {
	in_ns client ss -Htin state established 'dport = :80' | sed -n 's/.*bytes_received:\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'
}

flowing() { # each connection gets a byte every 20 ms
	was=$(bytes_read)
	sleep 0.5
	[ "$(bytes_read)" -gt $((was + NB)) ]
}

kind=af_packet
start_two() { # [OPTION...]: dpu1 with two lcores for packets
	spawn picketd1 dpu1 "$BIN/picketd" -c /dev/null -o instance=dpu1 -o run-dir="$LAB_DIR/run-dpu1" \
		-o huge=no -o memory=192m -o buffers=32767 -o sessions=65536 -o lcores='0@0-1,1@0-1,2@0-1' \
		-o wire="$kind:in0 $kind:out0" -o wire="$kind:in1 $kind:out1" -o session-dir="$kept" "$@"
}

has_sessions() {
	[ "$(established)" -ge $((2 * NB)) ]
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
mkdir -p "$kept" "$LAB_DIR/run-dpu1"
start_policyd
start_two -o software-rss=yes
start_picketd 2
start_agentd 1
start_agentd 2
ok 'the lab stands' wait_for 30 dpus_connected 2
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
spawn server web "$CONNS" serve 192.0.2.10 80
wait_for 5 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
spawn client client "$CONNS" connect 192.0.2.10 80 $NB 300
ok "$NB connections are open and carry data" wait_for 20 grep -q "$NB connected" "$LAB_DIR/client.log"
ok 'one session for each on either wire, and no second one' wait_for 5 test "$(established)" -eq $((2 * NB))
ok "each lcore has its part: $(lcore_min sessions) the smaller one" test "$(lcore_min sessions)" -gt $((NB / 2))
ok 'packets were handed over' test "$(lcore_sum handed_over)" -gt "$NB"
is 'all that were handed over were taken' yes "$(h=$(lcore_sum handed_over); sleep 0.2; [ "$(lcore_sum taken_over)" -ge "$h" ] && echo yes)"
is 'none was lost on the way' '0 0' "$(drops lcore-full) $(drops tcp-no-session)"

# ICMP errors: nobody listens there, and each sender hears of it, whichever lcore has its session.
cat >"$LAB_DIR/discard.yaml" <<'EOF'
apiVersion: picket.io/v1
kind: Policy
metadata: {name: discard, tenant: shop}
spec:
  tier: application
  priority: 90
  appliesTo: {workloads: {app: web}}
  ingress:
    - name: clients
      action: allow
      from: [{workloads: {app: client}}]
      services: [udp/9]
EOF
in_ns web sysctl -qw net.ipv4.icmp_ratelimit=0 # else six of them, and then one a second
ok 'a policy that lets UDP in' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml "$LAB_DIR/discard.yaml"
cat >"$LAB_DIR/ask" <<'EOF'
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	exec 3>/dev/udp/192.0.2.10/9
	echo >&3
	sleep 0.1
	echo 2>/dev/null >&3 || echo refused
	exec 3>&-
done
EOF
is 'ICMP errors come through' 12 "$(in_ns client bash "$LAB_DIR/ask" 2>/dev/null | grep -c refused)"
is 'none was without its session' 0 "$(drops icmp-no-session)"

# Again, and spread in another manner: sessions go where their packets now come.
again() { # HOW OPTION...
	how=$1
	shift
	: >"$LAB_DIR/picketd1.log"
	end picketd1
	"$@"
	ok "$how: starts" wait_for 30 grep -q ' ready$' "$LAB_DIR/picketd1.log"
	ok "$how: has all sessions" wait_for 10 has_sessions
	ok "$how: data flows" wait_for 10 flowing
	is "$how: connections" $NB "$(nb_open)"
	is "$how: packets without session" 0 "$(drops tcp-no-session)"
	is "$how: sessions" $((2 * NB)) "$(established)"
}
again 'by wire' start_two -o software-rss=no
ok 'by wire: sessions were moved' grep -q 'sessions: [0-9]* belong to another lcore than before' "$LAB_DIR/picketd1.log"
is 'by wire: nothing is handed over' 0 "$(lcore_sum handed_over)"
again 'one lcore' start_picketd 1 -o session-dir="$kept"
again 'two lcores' start_two -o software-rss=yes
again 'the same' start_two -o software-rss=yes
ok 'the same: nothing was moved' sh -c "! grep -q 'belong to another lcore' '$LAB_DIR/picketd1.log'"
for n in 1 2; do
	is "dpu$n: packets unaccounted for" 0 "$(unaccounted $n)"
done
if grep -q '^HAVE_AF_XDP = no' "$BUILDDIR/config.mk"; then
	tap_n=$((tap_n + 1))
	echo "ok $tap_n - pings in pieces # SKIP built without libbpf"
	exit
fi
kind=af_xdp
again 'by AF_XDP' start_two -o software-rss=yes
# AF_PACKET ports never see a fragment: DPDK has the kernel put them together.  AF_XDP ports do.
#
# Fragments: requests and replies in up to three pieces, each ping another identifier and so another lcore.
pings=0
for size in 4000 3000 2000 56 4000 3000 2000 4000; do
	in_ns client ping -q -c 3 -i 0.05 -W 1 -s $size 192.0.2.10 >/dev/null && pings=$((pings + 1))
done
is 'pings in pieces are answered' 8 $pings
is 'no piece was lost' 0 "$(drops frag-stray)"

is "fragments: packets unaccounted for" 0 "$(unaccounted 1)"
