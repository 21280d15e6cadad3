#pragma once

#include "lib/conf.h"

/* Options of picket-attestd in either role. */
enum attestd_role {
	ATTESTD_HOST = 0,
	ATTESTD_DPU,
};

enum attestd_enrol {
	ATTESTD_ENROL_LISTED = 0,
	ATTESTD_ENROL_FIRST,
};

struct attestd_conf {
	int role;
	char *user, *run_dir, *state_dir;
	/* host */
	char *name, *dpu, *dpu_address, *ca;
	char *tpm;
	int ak;
	bool tpm_share;
	char *eventlog, *ima;
	char *ek_chain;
	uint64_t watch_ns, reconnect_ns;
	/* DPU */
	struct pk_conf_list listen;
	char *identity, *host, *result_key;
	char *reference;
	bool reference_signed;
	int enrol;
	uint64_t interval_ns, answer_ns, lease_ns;
	uint64_t missed_max, recover_rounds, evidence_max;
	int recover;
	struct pk_conf_list tell;
};

extern const struct pk_conf_option attestd_options[];
extern const size_t attestd_nb_options;
