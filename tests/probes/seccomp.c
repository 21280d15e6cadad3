/*
 * probe: seccomp
 * for: giving up system calls
 * pkg: libseccomp
 * libs: 
 * debian: libseccomp-dev
 * required: yes
 */
#include <stddef.h>
#include <stdint.h>

#include <seccomp.h>

int
main(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

	seccomp_release(ctx);
	return ctx == NULL;
}
