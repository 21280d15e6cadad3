/*
 * probe: uthash
 * for: hash tables of the control threads
 * debian: uthash-dev
 * required: yes
 */
#include <stddef.h>
#include <stdlib.h>

#include <uthash.h>

int
main(void)
{
	struct item {
		int key;
		UT_hash_handle hh;
	} *items = NULL;

	return (int)HASH_COUNT(items);
}
