#!/bin/sh
# What an end of picketd costs with a million live sessions: the longest silence that a ping every 2 ms through it
# sees, from kill -9, with picketd started again at once; and how long such a number takes to import and export.
#
#   restart.sh SRCDIR BUILDDIR     prints JSON lines
set -u
SRCDIR=$1 BUILDDIR=$2 LAB=pkr$$
. "$SRCDIR/conf/demo/lab.sh"
if ! why=$(lab_can); then
	echo "restart.sh: $why" >&2
	exit 0
fi
kept=${KEPT_DIR:-/dev/shm}/picket-$LAB # elsewhere: on a hugetlbfs
trap 'lab_down; rm -rf "$kept"' EXIT
trap 'exit 1' INT TERM
NB=1000000

start() {
	start_picketd 1 -o sessions=2097152 -o session-dir="$kept"
}

result() { # NAME UNIT FILE-OF-RUNS BETTER
	sort -n "$3" | awk -v name="$1" -v unit="$2" -v better="$4" '
		{ run[NR] = $1; all = all (NR > 1 ? "," : "") $1 }
		END { if (NR) printf "{\"name\":\"%s\",\"value\":%s,\"unit\":\"%s\",\"better\":\"%s\",\"runs\":[%s]}\n", name, run[int((NR + 1) / 2)], unit, better, all }'
}

seconds() {
	sed -n 's/.*"seconds":\([0-9.]*\).*/\1/p'
}

mkdir -p "$kept"
lab_up && lab_init || exit 1
start_policyd
start
start_agentd 1
wait_for 30 dpus_connected 1 || exit 1
pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml >/dev/null || exit 1
"$BUILDDIR/tests/tools/mkrecords" 192.0.2.20 192.0.2.10 $NB >"$LAB_DIR/records"
for run in 1 2 3; do
	dpuctl 1 kill sessions dst 192.0.2.10 dport 10001 >/dev/null
	dpuctl 1 kill sessions all >/dev/null
	dpuctl 1 -j sessions import "$LAB_DIR/records" | seconds >>"$LAB_DIR/import"
	dpuctl 1 -j sessions export all -w "$LAB_DIR/exported" | seconds >>"$LAB_DIR/export"
	before=$(dpuctl 1 -j show counters | sed -n 's/.*"sessions","value":\([0-9]*\).*/\1/p')
	in_ns client ping -D -i 0.002 -w 6 192.0.2.10 >"$LAB_DIR/ping" &
	ping=$!
	sleep 1
	: >"$LAB_DIR/picketd1.log"
	begin=$(date +%s.%N)
	kill -9 "$(pid_of picketd1)"
	sed -i "/ picketd1$/d" "$LAB_DIR/pids"
	start
	wait $ping
	after=$(dpuctl 1 -j show counters | sed -n 's/.*"sessions","value":\([0-9]*\).*/\1/p')
	sed -n 's/^\[\([0-9.]*\)\].*bytes from.*/\1/p' "$LAB_DIR/ping" |
		awk -v begin="$begin" '
			$1 < begin - 0.5 { last = $1; next }
			last && $1 - last > gap { gap = $1 - last }
			{ last = $1 }
			END { printf "%.0f\n", gap * 1000 }' >>"$LAB_DIR/gap"
	echo "restart.sh: $before sessions before, $after after; $(sed -n 's/.*sessions: //p' "$LAB_DIR/picketd1.log" | head -1)" >&2
done
result fw.restart.gap_ms ms "$LAB_DIR/gap" lower
result fw.sessions.import_s s "$LAB_DIR/import" lower
result fw.sessions.export_s s "$LAB_DIR/export" lower
