/*
 * probe: sqlite
 * for: the store of the policy server
 * pkg: sqlite3
 * libs: 
 * debian: libsqlite3-dev
 * required: yes
 */
#include <sqlite3.h>

int
main(void)
{
	return sqlite3_threadsafe() == 0;
}
