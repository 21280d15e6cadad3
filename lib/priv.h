#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Giving up privileges, before the first byte from a network is read.  Each program keeps one.
 */
struct pk_priv {
	const char *user; /* run as this user; NULL or "" keeps the one there is */
	const int *keep;  /* capabilities to keep, from <linux/capability.h> */
	size_t nb_keep;
	bool no_exec; /* execve and the like end the process */
	bool no_inet; /* no new IPv4/IPv6 sockets */
};

/*
 * Bounding set, ambient set, user, no-new-privs, seccomp, dumpable off: in this order.  System calls
 * no daemon of ours has use for (mount, ptrace, kexec, module loading, bpf where not kept, ...) end
 * the process.  Returns 0 or negative errno with *diag; on failure the caller must not go on.
 * Context: main thread, before it starts others, or after with SECCOMP_FILTER_FLAG_TSYNC.
 */
int pk_priv_drop(const struct pk_priv *p, struct pk_diag *diag);
