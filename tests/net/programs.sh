#!/bin/sh
# What every program owes its operator: usage, version, sample, canonical print, manual page, one
# sentence for a mistake.
. "$SRCDIR/tests/net/lib.sh"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"; echo "1..$tap_n"; exit $((tap_failed > 0))' EXIT
iked=
if [ -x "$BIN/picket-iked" ]; then iked=picket-iked; else echo 'ok 0 - picket-iked # SKIP configured without headers of libcharon'; fi
for p in picketd picket-nftd picket-agentd picket-attestd picket-mkad picket-tlsd picket-policyd $iked; do
	ok "$p -h" sh -c "'$BIN/$p' -h | grep -q '^usage: $p'"
	ok "$p -V" sh -c "'$BIN/$p' -V | grep -Eq '^$p [0-9]'"
	"$BIN/$p" --print-sample >"$tmp/sample"
	ok "conf/$p.conf is what the program says" cmp -s "$tmp/sample" "$SRCDIR/conf/$p.conf"
	"$BIN/$p" -c /dev/null -n >"$tmp/defaults"
	"$BIN/$p" -c "$tmp/sample" -n >"$tmp/sampled"
	ok "$p: the sample means the defaults" cmp -s "$tmp/defaults" "$tmp/sampled"
	"$BIN/$p" -c "$tmp/defaults" -n >"$tmp/again"
	ok "$p: the canonical form parses back to itself" cmp -s "$tmp/defaults" "$tmp/again"
	printf 'instanse = x\n' >"$tmp/bad"
	"$BIN/$p" -c "$tmp/bad" -n >/dev/null 2>"$tmp/err"
	is "$p: a mistake in the file ends it with" 2 $?
	ok "$p: ... one sentence with file and line" sh -c "[ \$(wc -l <'$tmp/err') = 1 ] && grep -q '$tmp/bad:1:1: ' '$tmp/err'"
	ok "$p: its manual page is clean" sh -c "mandoc -T lint -W warning '$BUILDDIR/docs/man/$p.8' >'$tmp/lint' || { cat '$tmp/lint'; false; }"
	ok "$p: its unit file is there" test -f "$SRCDIR/conf/systemd/$p.service.in"
done
ok 'picketctl -h' sh -c "'$BIN/picketctl' -h | grep -q '^usage: picketctl'"
ok 'picketctl: its manual page is clean' sh -c "mandoc -T lint -W warning '$BUILDDIR/docs/man/picketctl.1' >'$tmp/lint' || { cat '$tmp/lint'; false; }"
"$BIN/picketctl" polcy check 2>"$tmp/err"
is 'picketctl: wrong usage exits with' 2 $?
ok 'picketctl: ... and guesses' grep -q 'did you mean "policy check"' "$tmp/err"
"$BIN/picketctl" -r "$tmp" show drops 2>"$tmp/err"
is 'picketctl: no daemon exits with' 1 $?
