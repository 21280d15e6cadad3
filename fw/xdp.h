#pragma once

#include "lib/diag.h"

/*
 * DPDK's AF_XDP driver leaves its program on the interface when the process is killed, or may no longer
 * remove it, and refuses to start where it finds one.  Remove such a leftover from `iface`; a program
 * of somebody else's is left alone, and is an error.
 * Context: control thread, before the port is opened, with CAP_NET_ADMIN and CAP_SYS_ADMIN.
 * Returns 0; -EBUSY, -ENODEV or what the kernel said, with *diag; -ENOTSUP when built without libbpf.
 */
int fw_xdp_clear(const char *iface, struct pk_diag *diag);
