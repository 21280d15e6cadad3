#pragma once

#include "policy/model.h"

/*
 * May A talk to B?
 *
 * The answer is that of the packet path: the table is said in messages to the same fw_rules that
 * lcores read, and asked there.  A flow must be allowed twice, on its way out by the policy of the
 * source and on its way in by the policy of the destination.
 *
 *   - An end outside the inventory has no policy, so only the other side judges.
 *   - If neither end is in the inventory nobody vouches for the flow: deny, without a rule.
 *   - A workload talking to itself never leaves its host, and no policy sees it: allow.
 *
 * Context: one thread at a time.
 */
struct policy_query;

/* Borrows both.  The model is needed for names of ports and services.
 * Returns 0, -ENOMEM, or another negative errno with *diag. */
int policy_query_create(struct policy_query **out, const struct policy_model *m,
    const struct policy_table *t, struct pk_diag *diag);
void policy_query_destroy(struct policy_query *q);

/*
 * For a question or two to a compiler that lives, which must not change meanwhile: nothing is indexed,
 * and what a question needs is found there.  Ends found before stay valid for as long as the query.
 */
struct policy_compiler;
int policy_query_create_live(
    struct policy_query **out, const struct policy_compiler *pc, struct pk_diag *diag);

/* One end of a flow: a workload, or an address that may be anybody's. */
struct policy_end {
	uint32_t workload;   /* index, for policy_query; UINT32_MAX for an address of nobody */
	struct pk_addr addr; /* when `workload` is none, or one of its addresses was asked for */
	const char
	    *fqdn; /* a DNS name, where a flow goes to; borrowed from the query.  NULL: none */
};

/*
 * Find "tenant/name", "name" (in tenant "default"), an address, or a DNS name that is neither.  An address belongs to
 * the workload that has it, in VRF 0 if there are several.  Of the address behind a DNS name nothing else is known,
 * so of all networks only those that cover everything cover it.
 * Returns 0, or -ENOENT with *diag.
 */
int policy_query_end(
    const struct policy_query *q, const char *text, struct policy_end *out, struct pk_diag *diag);

/* A packet's protocol and selector, as in struct pk_service. */
struct policy_point {
	uint8_t proto;
	uint16_t selector;
};

#define POLICY_POINTS_MAX 8

/*
 * What a service means between these ends: its ports, of a range the first and the last; of ICMP the
 * one of the family they speak.  A named port is looked up at `dst`.
 * Returns how many points, or -EINVAL or -ENOENT with *diag.
 */
int policy_query_service(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, const char *service, struct policy_point out[POLICY_POINTS_MAX],
    struct pk_diag *diag);

struct policy_side {
	int judged;                     /* 0: this end is outside, or a flow to oneself */
	enum pk_verdict verdict;        /* allow when not judged, but see above */
	enum pk_verdict audit_verdict;  /* if policies in audit mode were enforced */
	const struct policy_rule *rule; /* borrowed from the table; NULL when not judged */
	const struct policy_rule *audit_rule;
};

struct policy_answer {
	struct policy_side side[PK_DIRECTION_COUNT];
	enum pk_verdict verdict; /* of the flow: the first side that does not allow */
	enum pk_verdict audit_verdict;
	const struct policy_rule *rule; /* that decided; NULL when nobody judged */
	/* What an allowed flow has to have besides, by both sides: enum pk_encryption, or PK_ENCRYPTION_COUNT when
	 * they contradict each other. */
	unsigned int encryption;
};

/* When questions are asked of: seconds since 1970-01-01 UTC, or PK_TIME_ANY as at first.  Then rules with a schedule
 * are taken to be there. */
void policy_query_at(struct policy_query *q, int64_t unix_s);

/*
 * Returns 0, -EINVAL with *diag when the ends have no family of addresses in common, or another
 * negative errno with *diag when the evaluator could not be loaded.
 */
int policy_query_flow(const struct policy_query *q, const struct policy_end *src,
    const struct policy_end *dst, struct policy_point point, struct policy_answer *out,
    struct pk_diag *diag);

struct policy_connect;

/*
 * The classes of two ends in the relation over the same table (policy/connect.h), by the addresses that a
 * flow between them would have; and its family, 4 or 6.
 * Returns 0, or -EINVAL with *diag when they have no family in common.
 */
int policy_query_classes(const struct policy_query *q, const struct policy_connect *c,
    const struct policy_end *src, const struct policy_end *dst, uint32_t out[2],
    unsigned int *family, struct pk_diag *diag);

/* "tenant/name (address)" or the address, for people. */
const char *policy_query_end_text(
    const struct policy_query *q, const struct policy_end *e, char *buf, size_t size);
