#!/bin/sh
# Both data planes judge the same random policies and packets.  docs/nft.md; the long run is
# `tests/tools/fw_nft_diff 1000 1000`.
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
	if out=$("$BUILDDIR/tests/tools/fw_nft_diff" 60 500 $seed 2>&1); then
		echo "ok $n - seed $seed: $(echo "$out" | grep 'policies,')"
	else
		echo "not ok $n - seed $seed"
		failed=1
	fi
	echo "$out" | sed 's/^/# /'
done
echo "1..$n"
exit $failed
