/*
 * probe: grpc
 * for: the channel between server and DPUs
 * pkg: grpc gpr
 * libs: 
 * debian: libgrpc-dev
 * required: yes
 */
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

int
main(void)
{
	grpc_init();
	grpc_shutdown();
	return 0;
}
