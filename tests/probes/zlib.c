/*
 * probe: zlib
 * for: compressed HTTP bodies, in memory that inspection bounds
 * pkg: zlib
 * libs: 
 * debian: zlib1g-dev
 * required: yes
 */
#include <zlib.h>

int
main(void)
{
	z_stream z = { .next_in = Z_NULL };

	return inflateInit2(&z, 31) != Z_OK;
}
