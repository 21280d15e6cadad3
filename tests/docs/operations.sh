#!/bin/sh
# The sources in docs/operations.md are right, all of them together.
set -u
failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
awk -v dir="$dir" '/^```yaml$/ { n++; on = 1; next } /^```$/ { on = 0 } on { print > (dir "/" n ".yaml") }' "$SRCDIR/docs/operations.md"
n=$(ls "$dir" | wc -l)
if [ "$n" = 2 ]; then echo "ok 1 - sources in the document"; else echo "not ok 1 - sources in the document: $n"; failed=1; fi
if "$BUILDDIR/bin/picketctl" policy check "$dir"/*.yaml >"$dir/out" 2>&1; then
	echo "ok 2 - they check"
else
	echo "not ok 2 - they check"
	failed=1
	sed 's/^/# /' "$dir/out"
fi
echo "1..2"
exit $failed
