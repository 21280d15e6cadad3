/*
 * probe: ipsec-mb
 * for: AES-GCM and its kin on vector units, for ESP and MACsec
 * pkg:
 * libs: -lIPSec_MB
 * debian: libipsec-mb-dev
 * required: yes
 */
#include <intel-ipsec-mb.h>

int
main(void)
{
	return imb_get_version() < IMB_VERSION(1, 3, 0);
}
