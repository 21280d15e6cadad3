# For tests in namespaces.  Sourced after LAB is set; brings TAP and the lab of conf/demo.
set -u
. "$SRCDIR/conf/demo/lab.sh"
. "$SRCDIR/tests/tap.sh"

finish() {
	trap '' EXIT INT TERM
	if [ $tap_failed -gt 0 ] && [ -d "$LAB_DIR" ]; then
		tail -n 15 "$LAB_DIR"/*.log 2>/dev/null
	fi
	lab_down
	tap_end
}

need_lab() { # skips the whole test when there can be none
	if ! why=$(lab_can); then
		skip_all "$why"
	fi
	lab_down
	trap finish EXIT
	trap 'exit 1' INT TERM
}

http() { # FROM ADDRESS
	in_ns "$1" curl -s -o /dev/null --max-time 2 --connect-timeout 1 "http://$2/" && echo allow || echo deny
}

unaccounted() { # DPU
	dpuctl "$1" -j show counters | sed -n 's/.*"unaccounted","value":\(-*[0-9]*\).*/\1/p'
}
