#!/bin/sh
# make run ONCE=1: the demo checks every verdict itself.
LAB=pkd$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
trap - EXIT
ONCE=1 LAB=$LAB sh "$SRCDIR/conf/demo/run" "$SRCDIR" "$BUILDDIR" >"$BUILDDIR/tests/out/demo.txt" 2>&1
status=$?
awk '
	/^  .* ok$/ { n++; sub(/^ +/, ""); print "ok " n " - " $0 }
	/^  .* WRONG, expected/ { n++; sub(/^ +/, ""); print "not ok " n " - " $0 }
	END { print (n > 0 ? "1.." n : "") }' "$BUILDDIR/tests/out/demo.txt"
[ $status -eq 0 ] || tail -40 "$BUILDDIR/tests/out/demo.txt"
exit $status
