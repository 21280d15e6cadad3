#!/bin/sh
# make run PLANE=nft ONCE=1: the demo has the same verdicts when the kernel is the data plane.
LAB=pkdn$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
trap - EXIT
PLANE=nft ONCE=1 LAB=$LAB sh "$SRCDIR/conf/demo/run" "$SRCDIR" "$BUILDDIR" >"$BUILDDIR/tests/out/nft-demo.txt" 2>&1
status=$?
awk '
	/^  .* ok$/ { n++; sub(/^ +/, ""); print "ok " n " - " $0 }
	/^  .* WRONG, expected/ { n++; sub(/^ +/, ""); print "not ok " n " - " $0 }
	END { print (n > 0 ? "1.." n : "") }' "$BUILDDIR/tests/out/nft-demo.txt"
[ $status -eq 0 ] || tail -40 "$BUILDDIR/tests/out/nft-demo.txt"
exit $status
