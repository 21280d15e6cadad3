/*
 * probe: jansson
 * for: output for other programs
 * pkg: jansson
 * libs: 
 * debian: libjansson-dev
 * required: yes
 */
#include <jansson.h>

int
main(void)
{
	json_t *j = json_pack("{s:i}", "a", 1);

	json_decref(j);
	return j == NULL;
}
