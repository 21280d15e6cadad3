#include "attest/state.h"

#include <string.h>

/* clang-format off */
/* Where it says the state itself nothing happens. */
#define N ATTEST_STATE_NEW
#define E ATTEST_STATE_ENROLLED
#define T ATTEST_STATE_TRUSTED
#define S ATTEST_STATE_SUSPECT
#define Q ATTEST_STATE_QUARANTINED
#define R ATTEST_STATE_RECOVERING
static const uint8_t next[ATTEST_STATE_COUNT][ATTEST_STEP_COUNT] = {
	/*                        ENROL GOOD PROVEN BAD MISSED SILENT RESTART FORGET */
	[ATTEST_STATE_NEW]         =  { E,    N,   N,     N,  N,     N,     N,      N },
	[ATTEST_STATE_ENROLLED]    =  { E,    T,   T,     Q,  E,     Q,     E,      N },
	[ATTEST_STATE_TRUSTED]     =  { T,    T,   T,     Q,  S,     Q,     S,      N },
	[ATTEST_STATE_SUSPECT]     =  { S,    T,   T,     Q,  S,     Q,     S,      N },
	[ATTEST_STATE_QUARANTINED] =  { Q,    R,   R,     Q,  Q,     Q,     Q,      N },
	[ATTEST_STATE_RECOVERING]  =  { R,    R,   T,     Q,  R,     Q,     Q,      N },
};
#undef N
#undef E
#undef T
#undef S
#undef Q
#undef R
/* clang-format on */

static const char *const states[ATTEST_STATE_COUNT] = { "new", "enrolled", "trusted", "suspect",
	"quarantined", "recovering" };
static const char *const steps[ATTEST_STEP_COUNT] = { "enrolled", "good evidence", "proven again",
	"bad evidence", "deadline missed", "silent", "verifier restarted", "forgotten" };

static bool
move(struct attest_machine *m, enum attest_step step, struct attest_transition *t)
{
	enum attest_state from = m->state, to = (enum attest_state)next[from][step];

	if (from == to)
		return false;
	m->state = to;
	m->epoch++;
	m->good = 0;
	m->released = false;
	if (t != NULL)
		*t = (struct attest_transition){ from, to, step, m->epoch };
	return true;
}

bool
attest_machine_step(struct attest_machine *m, const struct attest_machine_conf *conf,
    enum attest_step step, uint64_t now_ns, struct attest_transition *t)
{
	bool moved;

	PK_ASSERT(step < ATTEST_STEP_COUNT && m->state < ATTEST_STATE_COUNT);
	if (step == ATTEST_STEP_MISSED && ++m->missed >= conf->missed_max)
		step = ATTEST_STEP_SILENT;
	if (step == ATTEST_STEP_GOOD || step == ATTEST_STEP_BAD)
		m->missed = 0;
	if (step == ATTEST_STEP_BAD || step == ATTEST_STEP_MISSED)
		m->good = 0;
	if (step == ATTEST_STEP_GOOD && m->state == ATTEST_STATE_RECOVERING &&
	    ++m->good >= conf->recover_rounds && (m->released || !conf->recover_by_hand))
		step = ATTEST_STEP_PROVEN;
	moved = move(m, step, t);
	if (step == ATTEST_STEP_FORGET)
		m->missed = 0;
	if (m->state == ATTEST_STATE_TRUSTED &&
	    (step == ATTEST_STEP_GOOD || step == ATTEST_STEP_PROVEN))
		m->lease_until_ns = now_ns + conf->lease_ns;
	else if (m->state != ATTEST_STATE_TRUSTED && m->state != ATTEST_STATE_SUSPECT)
		m->lease_until_ns = 0;
	return moved;
}

bool
attest_machine_release(struct attest_machine *m)
{
	if (m->state != ATTEST_STATE_RECOVERING)
		return false;
	m->released = true;
	return true;
}

bool
attest_machine_attested(const struct attest_machine *m, uint64_t now_ns)
{
	return (m->state == ATTEST_STATE_TRUSTED || m->state == ATTEST_STATE_SUSPECT) &&
	    now_ns < m->lease_until_ns;
}

bool
attest_machine_fresh(const struct attest_machine *m, uint64_t now_ns)
{
	return m->state == ATTEST_STATE_TRUSTED && now_ns < m->lease_until_ns;
}

const char *
attest_state_name(unsigned int state)
{
	return state < ATTEST_STATE_COUNT ? states[state] : "unknown";
}

const char *
attest_step_name(unsigned int step)
{
	return step < ATTEST_STEP_COUNT ? steps[step] : "unknown";
}

enum attest_state
attest_state_find(const char *name)
{
	for (unsigned int s = 0; s < ATTEST_STATE_COUNT; s++)
		if (strcmp(states[s], name) == 0)
			return (enum attest_state)s;
	return ATTEST_STATE_NEW;
}
