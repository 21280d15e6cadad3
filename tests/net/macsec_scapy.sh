#!/bin/sh
# The SecY against scapy's MACsec.  MACSEC_FRAMES=10000 for the long run.
if ! /usr/bin/python3 -c 'import scapy.contrib.macsec' 2>/dev/null; then
	echo '1..0 # SKIP needs python3-scapy'
	exit 0
fi
exec /usr/bin/python3 "$SRCDIR/tests/interop/macsec_scapy.py" "$BUILDDIR" "${MACSEC_FRAMES:-600}"
