/*
 * probe: hyperscan
 * for: patterns of signatures
 * pkg: libhs
 * libs: 
 * debian: libhyperscan-dev
 * required: yes
 */
#include <hs/hs.h>

int
main(void)
{
	return hs_version() == NULL;
}
