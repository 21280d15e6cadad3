#pragma once

#include <sys/types.h>

#include "lib/diag.h"

struct event_base;

/*
 * Unix sockets in the file system, between programs of one machine: listen, connect, and hand over an open file.  What is
 * said on them is somebody else's business.
 * Context: control thread.
 */
struct pk_listener;

/* Somebody has connected: `fd` does not block, closes on exec, and is the callee's to close. */
typedef void pk_listener_accept(void *arg, int fd);

/*
 * Listen on `path`, replacing a stale socket, for connections of `type`: SOCK_STREAM or SOCK_SEQPACKET.  Its mode is 0660:
 * who may connect is whom that and the directory let in.
 * Returns 0, -ENAMETOOLONG, -ENOMEM or what the kernel said, with *diag.
 */
int pk_listener_create(struct pk_listener **out, struct event_base *base, const char *path,
    int type, pk_listener_accept *accept, void *arg, struct pk_diag *diag);
/* Removes the socket; what has been accepted stays.  NULL is allowed. */
void pk_listener_destroy(struct pk_listener *l);

/* Connect once.  Returns a descriptor that does not block, the caller's to close, or negative errno. */
int pk_local_connect(const char *path, int type);

/* Send or receive one message with at most one descriptor (-1: none), without blocking.  Returns the length, 0 at
 * the end of the connection, or negative errno.  What was received is the caller's to close. */
ssize_t pk_local_send(int fd, const void *bytes, size_t len, int with);
ssize_t pk_local_recv(int fd, void *bytes, size_t size, int *with);
