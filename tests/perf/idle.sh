#!/bin/sh
# What sleeping while idle saves and costs: processor time of an idle picketd, and the round trip of a
# ping through two of its wires, with an lcore that polls without end and with one that sleeps.
#
#   idle.sh SRCDIR BUILDDIR     prints JSON lines
set -u
SRCDIR=$1 BUILDDIR=$2 LAB=pki$$
. "$SRCDIR/conf/demo/lab.sh"
if ! why=$(lab_can); then
	echo "idle.sh: $why" >&2
	exit 0
fi
trap 'lab_down' EXIT
trap 'exit 1' INT TERM

ticks() {
	awk '{ print $14 + $15 }' "/proc/$(pid_of picketd1)/stat"
}

measure() { # NAME IDLE-SLEEP
	lab_down
	lab_up && lab_init || return
	start_policyd
	start_picketd 1 -o idle-sleep="$2"
	start_agentd 1
	wait_for 30 dpus_connected 1 || return
	pkctl policy apply "$SRCDIR"/conf/demo/policy/*.yaml >/dev/null || return
	in_ns client ping -c 3 -i 0.2 192.0.2.10 >/dev/null
	sleep 1
	before=$(ticks)
	sleep 3
	cpu=$(($(ticks) - before))
	rtt=$(in_ns client ping -q -c 300 -i 0.005 192.0.2.10 | sed -n 's|^rtt [^=]*= [^/]*/\([^/]*\)/.*|\1|p')
	printf '{"name":"fw.idle.%s.cpu","value":%s,"unit":"%%","better":"lower","runs":[]}\n' "$1" \
		"$(awk -v t=$cpu -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f", 100 * t / hz / 3 }')"
	printf '{"name":"fw.idle.%s.rtt_us","value":%s,"unit":"us","better":"lower","runs":[]}\n' "$1" \
		"$(awk -v r="$rtt" 'BEGIN { printf "%.0f", r * 1000 }')"
}
measure polling 0
measure sleeping 200us
