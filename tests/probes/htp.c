/*
 * probe: htp
 * for: HTTP/1 buffers of signatures
 * pkg: htp
 * libs: 
 * debian: libhtp-dev
 * required: yes
 */
#include <htp/htp.h>

int
main(void)
{
	return htp_config_create() == NULL;
}
