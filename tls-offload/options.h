#pragma once

#include "lib/conf.h"

/* Options of picket-tlsd. */
struct tlso_conf {
	char *user, *run_dir, *plane, *agent;
	struct pk_conf_list ports, cpus;
	uint64_t workers, handshake_workers, plain_port, flows;
	int mode; /* enum tlso_mode */
	uint64_t handshake_ns, idle_ns, drain_ns, rekey_records;
};

extern const struct pk_conf_option tlso_options[];
extern const size_t tlso_nb_options;
