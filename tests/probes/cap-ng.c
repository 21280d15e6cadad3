/*
 * probe: cap-ng
 * for: giving up privileges
 * pkg: libcap-ng
 * libs: 
 * debian: libcap-ng-dev
 * required: yes
 */
#include <cap-ng.h>

int
main(void)
{
	capng_clear(CAPNG_SELECT_BOTH);
	return 0;
}
