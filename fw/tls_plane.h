#pragma once

#include "fw/tls.h"
#include "fw/worker.h"

struct event_base;

/*
 * The socket of lib/tls_msg.h, on which picket-tlsd says that it serves and asks whose addresses are.
 * Context of all: control thread.
 */
struct fw_tls_plane_conf {
	struct event_base *base;
	struct fw_tls *tls;
	struct fw_workers *workers;
	const char *path; /* of the socket */
	const char *instance;
};

struct fw_tls_plane;

/* All pointers are borrowed.  Returns 0 or negative errno with *diag; the caller owns *out. */
int fw_tls_plane_create(
    struct fw_tls_plane **out, const struct fw_tls_plane_conf *conf, struct pk_diag *diag);
void fw_tls_plane_destroy(struct fw_tls_plane *l); /* NULL is allowed */
