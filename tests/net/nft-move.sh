#!/bin/sh
# A host goes from the kernel's data plane to picketd and back, with its connections alive.  MOVE_CONNECTIONS=50000 makes
# it 100,000 sessions, since both ends of a connection are behind a wire of dpu1; the times are printed.
LAB=pknm$$ # a name of its own: two runs may share a machine
PLANE=nft
. "$SRCDIR/tests/net/lib.sh"
need_lab
CONNS=$BUILDDIR/tests/tools/conns
NB=${MOVE_CONNECTIONS:-200}
PARTS=$((NB / 15000 + 1)) # processes on either side: each may have so many files open
NB=$((NB / PARTS * PARTS))
PERIOD=$((NB / 5 + 20)) # ms between two bytes of a connection: 5,000 a second in all
PATIENCE=$((30 + NB / 500))

key() { # NAME: of a JSON line
	sed -n "s/.*\"$1\":\([0-9][0-9.]*\).*/\1/p"
}

count() { # FILTER...
	dpuctl 1 -j show sessions "$@" | grep -c '"src"'
}

tell() { # SIGNAL: all clients
	for i in $(seq $PARTS); do
		kill "-$1" "$(pid_of client$i)"
	done
}

said() { # WORDS: the sum of what clients have said last
	tail -qn 1 "$LAB_DIR"/client*.log | sed -n "s/ $1//p" | awk '{ n += $1 } END { print n + 0 }'
}

all_connected() {
	[ "$(said connected)" = $NB ]
}

all_go_on() { # each has carried data since SIGUSR2
	tell USR1
	sleep 0.3
	[ "$(said 'go on')" = $NB ]
}

carried() { # from now on every connection carries data
	tell USR2
	wait_for $PATIENCE all_go_on
}

wrong() { # packets that do not fit their sessions
	dpuctl 1 -j show drops | grep 'tcp-window\|tcp-ack\|tcp-no-session\|ct-invalid' | sed 's/,"help".*//' | sort
}

realised() { # GENERATION
	[ "$(dpuctl 1 -j show plane | sed -n 's/.*"generation":\([0-9]*\).*/\1/p')" = "$1" ]
}

took() { # WHAT FILE: for who reads the log
	echo "# $1: $(key sessions <"$2" | tail -1) sessions in $(key seconds <"$2" | tail -1) s"
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
in_ns client sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=0
in_ns web sysctl -qw net.core.somaxconn=8192 net.ipv4.tcp_max_syn_backlog=8192
lab_start || { ok 'the DPUs connect' false; exit; }
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
for i in $(seq $PARTS); do
	spawn server$i web "$CONNS" serve 192.0.2.10 80 $PERIOD
done
wait_for 10 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
for i in $(seq $PARTS); do
	spawn client$i client "$CONNS" connect 192.0.2.10 80 $((NB / PARTS)) 900
done
ok "$NB connections are open and carry data" wait_for $PATIENCE all_connected
est='state established dport 80'
is 'all of them, on two wires' $((2 * NB)) "$(count $est)"

# From the kernel to picketd.
began=$(date +%s%N)
is 'exported from the kernel' $((2 * NB)) "$(dpuctl 1 -j sessions export $est -w "$LAB_DIR/from-kernel" | tee "$LAB_DIR/said" | key exported)"
echo "# kernel -> file: $(key exported <"$LAB_DIR/said") sessions in $(key seconds <"$LAB_DIR/said") s"
is 'as long as it runs its rules stay' 1 "$(in_ns dpu1 "$BIN/picket-nftd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o wire='in0 out0' -o wire='in1 out1' remove 2>/dev/null; echo $?)"
end agentd1
end nftd1
ok 'the kernel is cleared of it' in_ns dpu1 "$BIN/picket-nftd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o wire='in0 out0' -o wire='in1 out1' remove
is 'no table, no bridge, no session' 0 "$(in_ns dpu1 sh -c 'nft list tables; ip -br link show type bridge; cat /proc/net/nf_conntrack 2>/dev/null' | grep -c 'picket\|dport=80 ')"
PLANE=dpdk
start_picketd 1 -o sessions=262144
start_agentd 1
ok 'picketd has the policy' wait_for 30 realised 1
is 'imported by picketd' $((2 * NB)) "$(dpuctl 1 -j sessions import "$LAB_DIR/from-kernel" | tee "$LAB_DIR/said" | grep '"installed"' | key sessions)"
took 'file -> picketd' "$LAB_DIR/said"
were=$(wrong)
echo "# kernel -> picketd, with stop and start of the programs: $((($(date +%s%N) - began) / 1000000)) ms"
ok 'every connection goes on' carried
is 'nothing of them is dropped for its numbers' "$were" "$(wrong)"

# And back.
began=$(date +%s%N)
is 'exported from picketd' $((2 * NB)) "$(dpuctl 1 -j sessions export $est -w "$LAB_DIR/from-picketd" | tee "$LAB_DIR/said" | key exported)"
echo "# picketd -> file: $(key exported <"$LAB_DIR/said") sessions in $(key seconds <"$LAB_DIR/said") s"
end agentd1
end picketd1
PLANE=nft
start_nftd 1
start_agentd 1
ok 'the kernel has the policy' wait_for 30 realised 1
is 'imported by the kernel' $((2 * NB)) "$(dpuctl 1 -j sessions import "$LAB_DIR/from-picketd" | tee "$LAB_DIR/said" | grep '"installed"' | key sessions)"
took 'file -> kernel' "$LAB_DIR/said"
were=$(wrong)
echo "# picketd -> kernel, with stop and start of the programs: $((($(date +%s%N) - began) / 1000000)) ms"
ok 'every connection goes on, again' carried
is 'nothing of them is dropped for its numbers, again' "$were" "$(wrong)"
is 'by rule' $NB "$(count $est rule client/anywhere)"
is 'imported again: they are there' $((2 * NB)) "$(dpuctl 1 -j sessions import "$LAB_DIR/from-picketd" | grep '"there"' | key sessions)"
is 'imported where the workload is not' $((2 * NB)) "$(dpuctl 2 -j sessions import "$LAB_DIR/from-picketd" | grep '"refused: policy"' | key sessions)"
