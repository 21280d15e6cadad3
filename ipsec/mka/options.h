#pragma once

#include "lib/conf.h"

/* Options of picket-mkad. */
struct mkad_conf {
	char *user, *run_dir, *state_dir, *plane, *agent;
	struct pk_conf_list ports;
	uint64_t priority;
	int suite;           /* enum macsec_suite, less 1 */
	int confidentiality; /* enum macsec_confidentiality */
	bool delay_protect;
	uint64_t rekey_ns, hello_ns, life_ns, retire_ns, suspend_ns;
	uint64_t pn_limit;
};

extern const struct pk_conf_option mkad_options[];
extern const size_t mkad_nb_options;
