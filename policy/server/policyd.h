#pragma once

#include "lib/conf.h"
#include "lib/diag.h"

/*
 * The policy server: takes policy and workloads from operators, keeps them, compiles them, and
 * brings every DPU to its span of the result.
 *
 *   operator --Apply--> control thread --job--> helper: compile, test, commit to the store
 *                                                  |
 *   DPUs <--span-- control thread <----done--------+
 *
 * The policy in force changes only when a job has ended well: on any error it stays.
 * policyd.c is the helper's side and the start, admin.c what operators ask, dpu.c the DPUs.
 */
struct event_base;
struct policyd;

struct server_conf {
	char *listen;
	char *state; /* directory of the store */
	char *ca_dir;
	char *cert;
	char *key;
	char *ca;
	char *secrets_dir;
	char *run_dir;
	char *user;
	uint64_t keepalive_ns;
	uint64_t message_max;
	uint64_t streams_max;
	uint64_t attest_grace_ns;
	uint64_t svid_ttl_ns;
	int svid_host;
	uint64_t dpu_interval_ns;
};

extern const struct pk_conf_option server_options[];
extern const size_t server_nb_options;

/* Open the store, compile what is in force, listen.  Returns 0 or negative errno with *diag. */
int policyd_create(struct policyd **out, struct event_base *base, const struct server_conf *conf,
    struct pk_diag *diag);
void policyd_destroy(struct policyd *p);
unsigned int policyd_port(const struct policyd *p);
