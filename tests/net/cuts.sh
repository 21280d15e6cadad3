#!/bin/sh
# The connection, the server and the agent end at every message boundary of a change, one boundary after the other.
#
#   picket-policyd --- cut_relay --- picket-agentd 1 --- fake_plane 1
#
# cut_relay passes TLS records on and ends the connection after as many as it is told, of those that a change takes in both
# directions; or it kills one of the two just then.  Whatever happens, what the plane enforces is the generation before
# or the one after, never parts of both, and in the end the one after.  (The store's own boundaries: server_store_test.)
HEARTBEAT=60s # nothing of its own between the messages of a change
. "$SRCDIR/tests/net/agents_lib.sh"
relay=$build/tests/tools/cut_relay
[ -x "$relay" ] || { echo '1..0 # SKIP tests/tools/cut_relay is not built'; exit 0; }
# Sanitizers make each new start some seconds long.
! grep -q '^SANITIZERS = yes' "$build/config.mk" || : "${BOUNDARIES:=4}"
most=${BOUNDARIES:-12}

pd="$bin/picket-policyd -c /dev/null -o state-dir=$dir/policyd"
quiet $pd init --domain test.example --server localhost,127.0.0.1
quiet $pd issue dpu dpu1 "$dir/dpu1.id"
quiet $pd issue operator alice "$dir/operator"
policyd
spawn relay "$relay" $((port + 1)) $port "$dir/arm"
start_plane 1
agent() {
	spawn agentd1 "$bin/picket-agentd" -c /dev/null -o identity="$dir/dpu1.id" -o server=127.0.0.1:$((port + 1)) \
		-o state-dir="$dir/state1" -o run-dir="$dir/run1" -o reconnect-min=20ms -o reconnect-max=100ms \
		-o heartbeat=$HEARTBEAT
}
agent
v=1
write_policy $v
check 'the DPU connects, by way of the relay' until_true 20 connected 1
check 'a first policy is enforced' quiet ctl policy apply "$dir/policy"

# The new generation, whole; and at no time anything but that or the one before.
mixed=0
settled() {
	now=$(variants "$dir/dump1")
	case $now in
	"variant$v") return 0 ;;
	"variant$((v - 1))" | '') ;; # '': it is being written
	*)
		echo "# generation $v: the plane has \"$now\""
		mixed=$((mixed + 1))
		;;
	esac
	return 1
}

for whose in ${ENDS:-connection server agent}; do
	at=0
	while [ $at -lt $most ]; do
		v=$((v + 1))
		write_policy $v
		until_true 20 connected 1 || break
		rm -f "$dir/arm.done"
		case $whose in
		connection) victim='' ;;
		server) victim=$(cat "$dir/policyd.pid") ;;
		agent) victim=$(cat "$dir/agentd1.pid") ;;
		esac
		echo "$at $victim" >"$dir/arm.new"
		mv "$dir/arm.new" "$dir/arm"
		until ctl policy apply --no-wait "$dir/policy" >/dev/null; do
			[ -e "$dir/arm.done" ] && [ $whose = server ] || break
			wait "$victim" 2>/dev/null
			policyd
			until_true 20 ctl status
		done
		until_true 3 [ -e "$dir/arm.done" ] || {
			echo -1 >"$dir/arm.new" # or it would go off in the next round
			mv "$dir/arm.new" "$dir/arm"
			beyond=yes
		}
		if [ -e "$dir/arm.done" ]; then
			case $whose in
			server)
				wait "$victim" 2>/dev/null
				kill -0 "$(cat "$dir/policyd.pid")" 2>/dev/null || policyd
				;;
			agent)
				wait "$victim" 2>/dev/null
				agent
				;;
			esac
		fi
		until_true 20 settled || break
		[ "${beyond:-}" = yes ] && break
		at=$((at + 1))
	done
	beyond=''
	check "$whose: ends at each of $at boundaries, and the change is enforced after all" is "$(variants "$dir/dump1")" "variant$v"
	check "$whose: there were boundaries" [ $at -ge 3 ]
	check "$whose: and no mixture" is $mixed 0
	until_true 20 connected 1
done
echo "1..$n"
exit $((bad > 0))
