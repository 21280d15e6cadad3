#!/bin/sh
# picketd ends, by kill -9 or in order, and comes again: no session is lost, and none passes before the agent
# has said what may.
LAB=pkk$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
CONNS=$BUILDDIR/tests/tools/conns
NB=1000
kept=$LAB_DIR/kept

nb_sessions() { # established ones of dpu1
	dpuctl 1 -j show sessions state established proto tcp dport 80 2>/dev/null | grep -c '"src"'
}

counts() { # N: as many are there
	[ "$(nb_sessions)" -eq "$1" ]
}

nb_open() { # connections as the client's kernel sees them
	in_ns client ss -Htn state established 'dport = :80' | wc -l
}

has_policy() {
	dpuctl 1 -j show plane | grep -q '"generation":[1-9]'
}

data_since() { # TIME: a frame with data came after it
	tail -n 1 "$LAB_DIR/capture.log" | awk -v t="$1" '{ exit !($1 > t) }'
}

flowing() {
	data_since "$(date +%s.%N)"
}

start() { # OPTION...
	start_picketd 1 -o session-dir="$kept" "$@"
}

lab_up && lab_init || { ok 'the lab stands' false; exit; }
mkdir -p "$kept"
start_policyd
start
start_picketd 2
start_agentd 1
start_agentd 2
ok 'the lab stands' wait_for 30 dpus_connected 2
ok 'the first policy is accepted' quiet pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml
spawn server web "$CONNS" serve 192.0.2.10 80
wait_for 5 in_ns client "$CONNS" connect 192.0.2.10 80 1 0
spawn capture client tcpdump -i eth0 -n -tt -l --immediate-mode 'src host 192.0.2.10 and tcp src port 80 and greater 67'
spawn client client "$CONNS" connect 192.0.2.10 80 $NB 300
ok "$NB connections are open and carry data" wait_for 20 grep -q "$NB connected" "$LAB_DIR/client.log"
wait_for 5 counts $((2 * NB))
is 'sessions, two for each: one on either wire' $((2 * NB)) "$(nb_sessions)"

again() { # HOW SIGNAL EXPECTED-LOG OPTION...: end picketd and start it again
	how=$1 signal=$2 said=$3
	shift 3
	: >"$LAB_DIR/picketd1.log"
	begin=$(date +%s.%N)
	end picketd1 "$signal"
	start "$@"
	ok "$how: sessions are taken over" wait_for 10 grep -q "$said" "$LAB_DIR/picketd1.log"
	sed -n 's/.*\(sessions: .*\)/# \1/p' "$LAB_DIR/picketd1.log"
	ok "$how: data flows again" wait_for 10 flowing
	sleep 1
	awk -v begin="$begin" '
		$1 !~ /^[0-9]+\.[0-9]+$/ { next }
		$1 < begin { last = $1; next }
		last && $1 - last > gap { gap = $1 - last }
		{ last = $1 }
		END { printf "# longest silence: %.0f ms\n", gap * 1000; exit !(gap > 0 && gap < 2) }' "$LAB_DIR/capture.log"
	ok "$how: silence of less than two seconds" [ $? -eq 0 ]
	is "$how: connections that are open" $NB "$(nb_open)"
	ok "$how: sessions as before" wait_for 5 counts $((2 * NB))
	is "$how: packets unaccounted for" 0 "$(unaccounted 1)"
}

again 'kill -9' KILL "sessions: [0-9]* taken over after a crash, 0 left out"
again 'clean stop' TERM "sessions: [0-9]* taken over after a clean stop, 0 left out"
again 'kill -9, another size' KILL "sessions: [0-9]* taken over from a table of another size, 0 left out" -o sessions=131072
again 'kill -9, two lcores' KILL "sessions: [0-9]* taken over from a table of another size, 0 left out" -o lcores=0@0-1,1@0-1,2@0-1
again 'one lcore, and no table' TERM "sessions: " -o sessions=131072

# What another version would find: a table it cannot read, and the records of the clean stop.
end picketd1
for t in "$kept"/*.table; do
	printf 'XXXXXXXX' | dd of="$t" conv=notrunc status=none
done
: >"$LAB_DIR/picketd1.log"
start
ok 'a table that cannot be read: taken over from the records' wait_for 10 grep -q 'taken over from the records of the last stop, 0 left out' "$LAB_DIR/picketd1.log"
sed -n 's/.*\(sessions: .*\)/# \1/p' "$LAB_DIR/picketd1.log"
ok 'a table that cannot be read: data flows again' wait_for 10 flowing
is 'a table that cannot be read: connections that are open' $NB "$(nb_open)"

# No policy: sessions are there, and nothing passes.
end agentd1
: >"$LAB_DIR/picketd1.log"
end picketd1 KILL
start
ok 'without the agent: sessions are taken over' wait_for 10 grep -q 'taken over after a crash' "$LAB_DIR/picketd1.log"
sleep 0.5
begin=$(date +%s.%N)
sleep 1.5
is 'without the agent: data that passes' closed "$(data_since "$begin" && echo open || echo closed)"
ok 'without the agent: the drops are no-policy' sh -c "$BIN/picketctl -r $LAB_DIR/run-dpu1 -j show drops | grep -q no-policy"
start_agentd 1
ok 'with the agent: policy is in force' wait_for 10 has_policy
ok 'with the agent: data flows' wait_for 20 flowing
is 'with the agent: connections that are open' $NB "$(nb_open)"

# The policy is another one by then: what it denies does not come back.
end agentd1
end picketd1 KILL
pkctl policy apply --despite-tests "$SRCDIR/conf/demo/change/quarantine.yaml" >/dev/null 2>&1 &
apply=$!
sleep 0.5
start
start_agentd 1
wait $apply
ok 'a denial meanwhile: policy is in force' wait_for 10 has_policy
denied_gone() {
	[ "$(dpuctl 1 -j show sessions wire 1 proto tcp dport 80 | grep -c '"src"')" -eq 0 ]
}
ok 'a denial meanwhile: its sessions end' wait_for 10 denied_gone
sleep 0.3
begin=$(date +%s.%N)
sleep 1.5
is 'a denial meanwhile: data that passes' closed "$(data_since "$begin" && echo open || echo closed)"
