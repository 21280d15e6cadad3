# For tests with guests.  Sourced; brings TAP, and ends the test with one skip where there can be no guest.
set -u
. "$SRCDIR/tests/tap.sh"
vm=$SRCDIR/tests/vm/vm
guests=

[ "$(id -u)" = 0 ] || skip_all 'guests are started by root'
! grep -q '^SANITIZERS = yes' "$BUILDDIR/config.mk" || skip_all 'the guest runs programs without sanitizers'
vm_image=$("$vm" build 2>&1) || skip_all "$vm_image"
export PICKET_VM_RUN=${PICKET_VM_RUN:-$(mktemp -d /tmp/picket-vm.XXXXXX)}

vm_cleanup() { # a test with more to clean up defines it again
	:
}

vm_finish() {
	trap '' EXIT INT TERM
	for g in $guests; do
		[ $tap_failed -eq 0 ] || tail -n 5 "$PICKET_VM_RUN/$g/serial" 2>/dev/null | sed 's/^/# /'
		"$vm" stop "$g"
	done
	vm_cleanup
	rm -rf "$PICKET_VM_RUN"
	tap_end
}
trap vm_finish EXIT
trap 'exit 1' INT TERM

start() { # NAME [OPTION...]: as "vm start"; the test ends where the guest does not come up
	guests="$guests $1"
	"$vm" start "$@" || {
		ok "guest $1 starts" false
		exit 1
	}
}

guest() { # NAME COMMAND...
	"$vm" exec "$@"
}

programs() { # NAME PROGRAM...: copies programs of this tree into a guest, built for the processor it has
	name=$1
	shift
	(
		mkdir -p "$BUILDDIR/tests/guest" && cd "$BUILDDIR/tests/guest" || exit 1
		[ -e config.mk ] || "$SRCDIR/configure" --with-march=x86-64-v3 >/dev/null || exit 1
		for p; do set -- "$@" "bin/$p"; shift; done
		make -s -j"$(nproc)" "$@" && "$vm" program "$name" "$@"
	) >&2
}
