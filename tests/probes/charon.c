/*
 * probe: charon
 * for: the IKE daemon
 * cflags: -isystem /usr/local/include/strongswan-5.9.8/libstrongswan -isystem /usr/local/include/strongswan-5.9.8/libcharon
 * libs: -L/usr/lib/ipsec -Wl,-rpath,/usr/lib/ipsec -lcharon -lstrongswan
 * debian: strongswan-libcharon libstrongswan-standard-plugins bzip2
 * headers: ipsec/ike/headers.sh /usr/local/include/strongswan-5.9.8
 * required: no
 */
#include "../../ipsec/ike/swan.h"

int
main(void)
{
	return !library_init("", "probe") || !libcharon_init() || charon->initialize == NULL;
}
