# TAP for shell tests.  Sourced after LAB is set; brings the lab of conf/demo.
set -u
. "$SRCDIR/conf/demo/lab.sh"
tap_n=0 tap_failed=0

ok() { # TEXT COMMAND...: ok when the command succeeds
	text=$1
	shift
	tap_n=$((tap_n + 1))
	if "$@"; then
		echo "ok $tap_n - $text"
	else
		echo "not ok $tap_n - $text"
		tap_failed=$((tap_failed + 1))
	fi
}

is() { # TEXT EXPECTED GOT
	tap_n=$((tap_n + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $tap_n - $1"
	else
		echo "not ok $tap_n - $1: expected \"$2\", got \"$3\""
		tap_failed=$((tap_failed + 1))
	fi
}

finish() {
	trap '' EXIT INT TERM
	if [ $tap_failed -gt 0 ] && [ -d "$LAB_DIR" ]; then
		tail -n 15 "$LAB_DIR"/*.log 2>/dev/null
	fi
	lab_down
	echo "1..$tap_n"
	exit $((tap_failed > 0))
}

need_lab() { # skips the whole test when there can be none
	if ! why=$(lab_can); then
		echo "1..0 # SKIP $why"
		exit 0
	fi
	lab_down
	trap finish EXIT
	trap 'exit 1' INT TERM
}

quiet() { # COMMAND...: what it says is not TAP
	"$@" >/dev/null
}

http() { # FROM ADDRESS
	in_ns "$1" curl -s -o /dev/null --max-time 2 --connect-timeout 1 "http://$2/" && echo allow || echo deny
}

unaccounted() { # DPU
	dpuctl "$1" -j show counters | sed -n 's/.*"unaccounted","value":\(-*[0-9]*\).*/\1/p'
}
