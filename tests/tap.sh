# TAP for shell tests.  Sourced; whoever sources it ends with tap_end.
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

tap_end() {
	echo "1..$tap_n"
	exit $((tap_failed > 0))
}

skip_all() { # WHY
	echo "1..0 # SKIP $1"
	exit 0
}

quiet() { # COMMAND...: what it says is not TAP
	"$@" >/dev/null
}
