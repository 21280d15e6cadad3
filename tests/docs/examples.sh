#!/bin/sh
# The examples of docs/policy-analysis.md print what the document says they print.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
awk -v dir="$dir" '
	/^    \$ picketctl / { n++; sub(/^    \$ picketctl /, ""); print > (dir "/" n ".cmd"); on = 1
		printf "" > (dir "/" n ".want"); next }
	on && /^    / { sub(/^    /, ""); print > (dir "/" n ".want"); next }
	{ on = 0 }
	END { print n + 0 > (dir "/count") }' "$SRCDIR/docs/policy-analysis.md"
n=$(cat "$dir/count")
[ "$n" -gt 5 ] || { echo "not ok 1 - examples in the document"; echo 1..1; exit 1; }
cd "$SRCDIR/tests/data/analysis" || exit 1
i=1 failed=0
while [ "$i" -le "$n" ]; do
	cmd=$(cat "$dir/$i.cmd")
	# shellcheck disable=SC2086 # words are words
	"$BUILDDIR/bin/picketctl" $cmd 2>/dev/null | tr -d '\r' | sed 's/[ ]*$//' >"$dir/$i.got"
	if cmp -s "$dir/$i.want" "$dir/$i.got"; then
		echo "ok $i - $cmd"
	else
		echo "not ok $i - $cmd"
		diff "$dir/$i.want" "$dir/$i.got" | sed 's/^/# /'
		failed=1
	fi
	i=$((i + 1))
done
echo "1..$n"
exit $failed
