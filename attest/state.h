#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * Where a host stands with the verifier in front of it.
 *
 *     NEW          nothing is known of it                                        not attested
 *     ENROLLED     its TPM is known, and has shown that it holds the AK          not attested
 *     TRUSTED      its last evidence was good, and is fresh                      attested
 *     SUSPECT      it has not answered; what it has lasts as long as the lease   attested, no new keys
 *     QUARANTINED  bad evidence, or silence for too long                         not attested
 *     RECOVERING   good evidence again, after quarantine                         not attested
 *
 * Each transition has an epoch, one more than the last, so that messages about it can be told apart and
 * an old one is never taken for news.  Good evidence from a trusted host is no transition: it renews the
 * lease.  A lease that runs out is a missed deadline to whoever holds it, without a word from us.
 */
enum attest_state {
	ATTEST_STATE_NEW = 0,
	ATTEST_STATE_ENROLLED,
	ATTEST_STATE_TRUSTED,
	ATTEST_STATE_SUSPECT,
	ATTEST_STATE_QUARANTINED,
	ATTEST_STATE_RECOVERING,
	ATTEST_STATE_COUNT,
};

enum attest_step {
	ATTEST_STEP_ENROL = 0, /* the credential was activated */
	ATTEST_STEP_GOOD,      /* evidence was judged good */
	ATTEST_STEP_PROVEN,    /* good often enough after quarantine; made of GOOD, never given */
	ATTEST_STEP_BAD,       /* evidence was judged bad, or could not be read */
	ATTEST_STEP_MISSED,    /* a deadline passed without evidence */
	ATTEST_STEP_SILENT,    /* too many in a row */
	ATTEST_STEP_RESTART,   /* of the verifier: what it believed is not fresh any more */
	ATTEST_STEP_FORGET,    /* the operator: this host is no longer known */
	ATTEST_STEP_COUNT,
};

struct attest_machine_conf {
	uint32_t missed_max;     /* deadlines in a row until silence is quarantine */
	uint32_t recover_rounds; /* good rounds in a row that end RECOVERING */
	bool recover_by_hand;    /* and the operator has to release it besides */
	uint64_t lease_ns;       /* how long good evidence lasts */
};

struct attest_machine {
	enum attest_state state;
	uint64_t epoch;
	uint32_t missed, good; /* in a row */
	bool released;         /* by the operator, while RECOVERING */
	uint64_t lease_until_ns;
};

struct attest_transition {
	enum attest_state from, to;
	enum attest_step step;
	uint64_t epoch;
};

/*
 * Move.  Returns true when the state has changed, with *t (may be NULL) filled.  An event without an entry
 * in the table changes nothing.  Context: any; `now_ns` is the clock of leases.
 */
bool attest_machine_step(struct attest_machine *m, const struct attest_machine_conf *conf,
    enum attest_step step, uint64_t now_ns, struct attest_transition *t);

/* The operator lets a recovering host back in, once its evidence is good.  False: it is not RECOVERING. */
bool attest_machine_release(struct attest_machine *m);

/* Whether the host's workloads are what `attested: true` asks for. */
bool attest_machine_attested(const struct attest_machine *m, uint64_t now_ns);

/* Whether new keys and identities may be issued for it: never on what is not fresh. */
bool attest_machine_fresh(const struct attest_machine *m, uint64_t now_ns);

const char *attest_state_name(unsigned int state); /* "trusted"; "unknown" beyond the end */
const char *attest_step_name(unsigned int step);
/* ATTEST_STATE_NEW for what is no name. */
enum attest_state attest_state_find(const char *name);
