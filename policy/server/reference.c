#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attest/statement.h"
#include "lib/log.h"
#include "policy/server/issuer.h"
#include "policy/server/policyd_priv.h"

/*
 * Reference values on their way to the DPUs: those of the generation in force, and for the DPUs of a canary those of
 * the candidate.  Each is signed once a generation; a DPU is sent the one for its host when it says hello, and when
 * that has changed.  Where none names a DPU, it keeps what it has.
 */
#define PART_MAX (1u << 20) /* bytes of values in one message */

struct reference_set {
	struct policy_references *refs;
	uint64_t generation;
	char **statement; /* of each; NULL where it could not be signed */
};

static void
destroy(struct reference_set *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < policy_references_count(s->refs); i++)
		free(s->statement[i]);
	free(s->statement);
	policy_references_destroy(s->refs);
	free(s);
}

/* Takes `refs`, also on failure. */
static struct reference_set *
make(struct policyd *p, struct policy_references *refs, uint64_t generation)
{
	static const char *const subjects[] = { "host", "dpu" };
	EVP_PKEY *key = identity_signing_key(p);
	size_t n = policy_references_count(refs);
	struct reference_set *s = calloc(1, sizeof(*s));
	struct pk_diag diag = { "there is no ca.key here" };

	if (s == NULL || (s->statement = calloc(n + 1, sizeof(s->statement[0]))) == NULL) {
		policy_references_destroy(refs);
		free(s);
		return NULL;
	}
	s->refs = refs;
	s->generation = generation;
	for (size_t i = 0; i < n; i++) {
		const struct policy_reference *r = policy_references_get(refs, i);

		if (key != NULL)
			s->statement[i] = attest_statement_make(r->name, generation,
			    subjects[r->subject], r->dpus, r->nb_dpus, r->sha256, key, &diag);
		if (s->statement[i] == NULL)
			pk_error("reference %s is not sent: it cannot be signed: %s", r->name,
			    diag.text);
	}
	return s;
}

static const struct reference_set *
set_of(const struct policyd *p, const char *dpu)
{
	return p->canary_references != NULL && server_dpus_candidate(p->dpus, dpu)
	    ? p->canary_references
	    : p->references;
}

const struct policy_reference *
reference_of(const struct policyd *p, enum policy_reference_subject subject, const char *dpu)
{
	const struct reference_set *s = set_of(p, dpu);

	return s != NULL ? policy_references_find(s->refs, subject, dpu) : NULL;
}

void
reference_send(struct policyd *p, const char *dpu)
{
	const struct reference_set *s = set_of(p, dpu);
	const struct policy_reference *r = reference_of(p, POLICY_REFERENCE_HOST, dpu);
	size_t at = 0;
	char *statement;

	if (r == NULL || server_dpus_reference(p->dpus, dpu, r->sha256) != 0)
		return;
	statement = s->statement[r - policy_references_get(s->refs, 0)];
	while (statement != NULL && at < r->len) {
		Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
		Picket__V1__Reference part = PICKET__V1__REFERENCE__INIT;

		part.name = admin_borrow(r->name);
		part.generation = s->generation;
		part.statement = statement;
		part.values.data = (uint8_t *)(uintptr_t)r->values + at;
		part.values.len = PK_MIN(r->len - at, (size_t)PART_MAX);
		part.offset = at;
		part.size = r->len;
		at += part.values.len;
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_REFERENCE;
		m.reference = &part;
		(void)server_dpus_say(p->dpus, dpu, &m);
	}
}

static void
send_one(void *arg, const struct server_dpu_status *s)
{
	if (s->connected)
		reference_send(arg, s->name);
}

void
reference_follow(struct policyd *p, struct policy_references *refs,
    struct policy_references *canary, uint64_t generation)
{
	if (refs != NULL) {
		destroy(p->references);
		p->references = make(p, refs, generation);
	}
	if (canary != NULL) {
		destroy(p->canary_references);
		p->canary_references = make(p, canary, generation);
	}
	server_dpus_each(p->dpus, send_one, p);
}

void
reference_canary_end(struct policyd *p)
{
	destroy(p->canary_references);
	p->canary_references = NULL;
}

void
reference_destroy(struct policyd *p)
{
	reference_canary_end(p);
	destroy(p->references);
	p->references = NULL;
}
