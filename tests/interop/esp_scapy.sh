#!/bin/sh
# ESP against an implementation that shares nothing with ours.  A longer run:
#   /usr/bin/python3 tests/interop/esp_scapy.py BUILD/tests/tools/esp_peer 20000 SEED
python=/usr/bin/python3 # Debian's, which is the one that has scapy
if ! $python -c 'import scapy.layers.ipsec' 2>/dev/null; then
	echo '1..0 # SKIP python3-scapy is not installed'
	exit 0
fi
exec $python "$SRCDIR/tests/interop/esp_scapy.py" "$BUILDDIR/tests/tools/esp_peer" 1500 1
