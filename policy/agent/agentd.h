#pragma once

#include "lib/conf.h"
#include "lib/diag.h"

/*
 * The agent on a DPU: holds the channel to the policy server, keeps the last accepted generation on
 * disk, and has the data plane enforce it.
 *
 *   server --stream--> staged --Commit--> wanted --plane accepts--> accepted --helper--> disk
 *
 * `wanted` is the newest state that has arrived whole; `accepted` the newest the plane could enforce.
 * They differ while the plane is at work or away.  When the plane refuses, wanted falls back to
 * accepted, so what was refused is not claimed as held.  Nothing here needs the server: a DPU that
 * boots without it enforces what is on its disk.
 */
struct event_base;
struct agentd;
struct pk_control_request;

struct agent_conf {
	char *server;
	char *identity; /* directory */
	char *instance;
	char *state; /* directory */
	char *run_dir;
	char *plane; /* socket; empty: RUN_DIR/picketd.sock */
	char *user;
	int svid_keys; /* enum agent_svid_keys */
	uint64_t keepalive_ns;
	uint64_t heartbeat_ns;
	uint64_t reconnect_min_ns;
	uint64_t reconnect_max_ns;
};

extern const struct pk_conf_option agent_options[];
extern const size_t agent_nb_options;

/* Take up what is on disk, then look for the plane and the server.  `conf` is borrowed.
 * Returns 0 or negative errno with *diag. */
int agentd_create(struct agentd **out, struct event_base *base, const struct agent_conf *conf,
    struct pk_diag *diag);
void agentd_destroy(struct agentd *a);
void agentd_show_identities(struct agentd *a, struct pk_control_request *r);
void agentd_show_grants(struct agentd *a, struct pk_control_request *r);
void agentd_show_status(struct agentd *a, struct pk_control_request *r); /* one row */
