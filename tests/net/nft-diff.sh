#!/bin/sh
# Both data planes judge the same random policies and packets, and the kernel's does so while policy changes.
# docs/nft.md; the long runs are `tests/tools/fw_nft_diff 1000 1000` and `tests/tools/fw_nft_update`.
set -u
if ! unshare -n true 2>/dev/null && ! unshare -Urn true 2>/dev/null; then
	echo '1..0 # SKIP network namespaces are not to be had here'
	exit 0
fi
if [ ! -d /proc/sys/net/bridge ] && ! modprobe br_netfilter 2>/dev/null; then
	echo '1..0 # SKIP this kernel has no br_netfilter'
	exit 0
fi
n=0 failed=0
for seed in 1 2; do
	n=$((n + 1))
	if out=$("$BUILDDIR/tests/tools/fw_nft_diff" 40 400 $seed 2>&1); then
		echo "ok $n - seed $seed: $(echo "$out" | grep 'policies,')"
	else
		echo "not ok $n - seed $seed"
		failed=1
	fi
	echo "$out" | sed 's/^/# /'
done
n=$((n + 1))
if out=$("$BUILDDIR/tests/tools/fw_nft_update" 2000 200 4 2>&1); then
	echo "ok $n - no packet is lost or let through by a change of policy: $(echo "$out" | tail -1)"
else
	echo "not ok $n - no packet is lost or let through by a change of policy"
	failed=1
fi
echo "$out" | sed 's/^/# /'
n=$((n + 1))
if ! command -v nft >/dev/null; then
	echo "ok $n - a crash leaves the old ruleset or the new one # SKIP needs nftables"
elif out=$("$BUILDDIR/tests/tools/fw_nft_crash" 2>&1); then
	echo "ok $n - a crash leaves the old ruleset or the new one: $out"
else
	echo "not ok $n - a crash leaves the old ruleset or the new one"
	echo "$out" | head -20 | sed 's/^/# /'
	failed=1
fi
echo "1..$n"
exit $failed
