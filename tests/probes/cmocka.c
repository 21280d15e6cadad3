/*
 * probe: cmocka
 * for: unit tests
 * pkg: cmocka
 * libs: 
 * debian: libcmocka-dev
 * required: no
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int
main(void)
{
	assert_true(1);
	return 0;
}
