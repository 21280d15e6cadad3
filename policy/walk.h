#pragma once

#include "policy/connect.h"

/* The way of one packet through one program, rule by rule, for people who ask why. */
enum policy_step_kind {
	POLICY_STEP_DECIDED = 0, /* its verdict is the answer */
	POLICY_STEP_PASSED,      /* matched, and left it to the next tier */
	POLICY_STEP_AUDITED,     /* would have matched, but only counts */
	POLICY_STEP_PEER,        /* does not admit the peer */
	POLICY_STEP_SERVICE,     /* admits the peer, but not for this service */
	POLICY_STEP_SKIPPED,     /* an earlier rule passed on to the next tier */
};

struct policy_step {
	enum policy_step_kind kind;
	const struct policy_rule *rule; /* borrowed from the table */
};
struct policy_steps POLICY_VECTOR_BODY(struct policy_step);

/*
 * Replace *out, which the caller frees with free(out->at), by the rules up to the one that decides; none
 * when the subject has no program.  Rules in audit mode that would match after one of them has decided
 * are not told.  Returns 0 or -ENOMEM.
 */
int policy_walk(struct policy_connect *c, enum pk_direction direction, uint32_t subject,
    uint32_t peer, uint8_t proto, uint16_t selector, struct policy_steps *out);

/* "does not admit the peer" and the like, for people; "peer" and the like, for programs. */
const char *policy_step_text(enum policy_step_kind kind);
const char *policy_step_name(enum policy_step_kind kind);

/*
 * All traffic between two classes, in pieces that the same rules decide; in order of their lowest point.
 * `rule` is NULL where an end is outside and has no policy.
 */
struct policy_piece {
	struct policy_traffic traffic;
	enum pk_verdict verdict[PK_DIRECTION_COUNT];
	const struct policy_rule *rule[PK_DIRECTION_COUNT];
};
struct policy_pieces POLICY_VECTOR_BODY(struct policy_piece);

/* Fill an empty *out.  Returns 0 or -ENOMEM; in both cases the caller calls policy_pieces_fini(). */
int policy_partition(struct policy_connect *c, uint32_t src, uint32_t dst, unsigned int family,
    struct policy_pieces *out);
void policy_pieces_fini(struct policy_pieces *p);
