#pragma once

#include "tls-offload/tlsd_priv.h"

/*
 * The connection to picketd (lib/tls_msg.h), and what it has said about addresses.  An answer is kept until policy changes;
 * then it is forgotten, workers ask again about what is in use, and what has changed hands ends.
 *
 * Without the connection every question fails, and it is made again, once a second.
 * Context: control thread, all but tlso_ask().
 */
struct tlso_plane;

int tlso_plane_create(struct tlso_plane **out, struct tlso *all, struct pk_diag *diag);
void tlso_plane_destroy(struct tlso_plane *p); /* what is still asked fails; NULL is allowed */

/* Say no more that we serve, and ask nothing more: picketd gives new flows to whoever comes next. */
void tlso_plane_leave(struct tlso_plane *p);

struct tlso_plane_status {
	bool connected;
	char instance[64];
	uint64_t wires, generation, asked, answered_by_cache;
	unsigned int nb_known;
};
void tlso_plane_status(const struct tlso_plane *p, struct tlso_plane_status *out);
