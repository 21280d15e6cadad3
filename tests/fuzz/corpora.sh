#!/bin/sh
# Every fuzz target on its saved corpus and some thousands of random changes of it.
set -u
n=0 failed=0
for t in "$BUILDDIR"/tests/fuzz/*_fuzz; do
	[ -x "$t" ] || continue
	n=$((n + 1))
	name=$(basename "$t" _fuzz)
	if said=$("$t" "$SRCDIR/tests/fuzz/corpus/$name" "${FUZZ_CHANGES:-20000}" 2>&1); then
		echo "ok $n - $name: $(echo "$said" | tail -1)"
	else
		echo "not ok $n - $name"
		echo "$said" | tail -30
		failed=1
	fi
done
echo "1..$n"
exit $failed
