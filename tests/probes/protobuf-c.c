/*
 * probe: protobuf-c
 * for: messages on that channel
 * pkg: libprotobuf-c
 * libs: 
 * debian: libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
 * required: yes
 */
#include <protobuf-c/protobuf-c.h>

int
main(void)
{
	return protobuf_c_version_number() < 1004000;
}
