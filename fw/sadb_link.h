#pragma once

#include "fw/own.h"

struct event_base;

/*
 * The socket of lib/sadb.h, on which whoever makes keys (picket-iked) tells picketd what to encrypt with, and picketd
 * tells it what it lacks; and the clockwork of the SAD: lifetimes, and questions of lcores.
 * Context of all: control thread.
 */
struct fw_sadb_link;

struct fw_sadb_conf {
	struct event_base *base;
	struct fw_esp *esp;
	struct fw_workers *workers;
	struct rte_mempool *pool;
	const char *path; /* of the socket */
	const char *instance;
};

/* All pointers are borrowed.  Returns 0 or negative errno with *diag; the caller owns *out. */
int fw_sadb_link_create(
    struct fw_sadb_link **out, const struct fw_sadb_conf *conf, struct pk_diag *diag);
void fw_sadb_link_destroy(struct fw_sadb_link *l);

struct fw_sadb_status {
	bool connected;
	char program[32];
	uint64_t requests, refused, acquires, expires, ike_in, ike_out, events_lost;
};
void fw_sadb_link_status(const struct fw_sadb_link *l, struct fw_sadb_status *out);
