#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/counter.h"
#include "lib/msg.h"

/*
 * The policy a packet is judged by.
 *
 * One struct fw_rules is one generation: immutable from the moment fw_rules_commit() returns it, read
 * by any number of lcores without a lock, freed by the control thread once all of them have moved
 * on.  It needs no DPDK environment, so the offline evaluator asks the very same object.
 *
 * How a question is answered, at a cost that does not grow with the number of rules:
 *
 *   1. address -> class.  Two addresses are of one class when no rule can tell them apart: same
 *      identity, same prefixes around them.  Hosts stand in a hash; the rest of the address space is
 *      cut at the edges of all prefixes into intervals, found in a wide, shallow search tree.
 *   2. The subject's class names a program per direction, and the peer's class a column in it: a
 *      bit for each rule that admits the peer.  The service names another column.
 *   3. The first bit set in both is the first rule that matches (aggregated bit vector, Baboescu
 *      and Varghese, SIGCOMM 2001).  PASS and audit rules carry on from there.
 */
struct fw_rules;

#define FW_CLASS_NONE UINT32_MAX /* no such class: matches no program and no peer but `any` */

/* What a class of addresses is, for the stages that ask more than the verdict. */
struct fw_class {
	uint32_t identity;  /* PK_IDENTITY_NONE outside the inventory */
	uint8_t is_subject; /* has programs here, so it may speak at all */
};

/* An address in the inventory. */
struct fw_endpoint {
	uint32_t identity;
	uint32_t class;
	uint32_t
	    unattested; /* class while the host is not attested; the same where it does not matter */
	uint16_t wire;
	uint8_t local;
	uint8_t has_mac;
	uint8_t mac[6];
	const char *name; /* borrowed from the fw_rules */
};

/* Rules are numbered 0 .. fw_rules_count() - 1 within a generation. */
#define FW_RULE_NONE UINT32_MAX /* no program, or no policy at all */

struct fw_decision {
	enum pk_verdict verdict; /* allow, deny or reject; deny when there is no program */
	enum pk_verdict
	    audit_verdict; /* what it would be if audit rules counted; else as verdict */
	enum pk_log_mode log;
	uint8_t audited; /* an audit rule matched on the way */
	uint32_t rule;   /* decided, or FW_RULE_NONE */
	uint32_t audit_rule;
};

/* One line for people about a rule. */
struct fw_rule_info {
	uint64_t id;
	enum pk_verdict verdict;
	enum pk_direction direction;
	uint8_t flags;
	uint8_t tier;
	uint32_t line;
	uint32_t slot; /* index of its hit counter: the same for the same id in every generation */
	const char *policy, *name, *file;
};

uint64_t fw_rules_generation(const struct fw_rules *r);
uint32_t fw_rules_count(const struct fw_rules *r);

/* Borrowed strings, valid as long as `r`.  `rule` must be < fw_rules_count(). */
void fw_rules_info(const struct fw_rules *r, uint32_t rule, struct fw_rule_info *out);

/* A rule with that id, or FW_RULE_NONE.  The same id may stand in several programs; any will do. */
uint32_t fw_rules_find(const struct fw_rules *r, uint64_t id);

/* Class of an address; FW_CLASS_NONE when nothing in policy or inventory distinguishes it.
 * Context: any, while the generation is held. */
uint32_t fw_rules_class(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr);

/*
 * The same for an address whose host may not be attested: a local endpoint that policy knows by two
 * identities is the lesser one then.  All other addresses are what they are.
 */
uint32_t fw_rules_class_of(
    const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr, bool attested);

/* The class record; for FW_CLASS_NONE, one of identity 0 that is no subject. */
const struct fw_class *fw_rules_class_get(const struct fw_rules *r, uint32_t class);

/* The inventory entry of an address, or NULL.  Context: any, while the generation is held. */
const struct fw_endpoint *fw_rules_endpoint(
    const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr);

/* Warm the cache lines that fw_rules_endpoint() and fw_rules_class() will read. */
void fw_rules_prefetch(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr);

/* "acme", "app=db,env=prod" for people; "" for unknown identities. */
const char *fw_rules_tenant_name(const struct fw_rules *r, uint32_t identity);
const char *fw_rules_labels(const struct fw_rules *r, uint32_t identity);

/*
 * May `subject` open (egress) or accept (ingress) a session with `peer` on the service?
 * `selector` as in struct pk_service: destination port, or ICMP type << 8 | code, or 0.
 * Context: any, while the generation is held.  Never fails: without a program the answer is deny.
 */
void fw_rules_decide(const struct fw_rules *r, enum pk_direction direction, uint32_t subject,
    uint32_t peer, uint8_t proto, uint16_t selector, struct fw_decision *out);

/*
 * The control side: the state that generations are built from.  It takes the messages of
 * transactions, and builds a new fw_rules at each commit.  A transaction that is refused, or
 * aborted, leaves the state as it was before its POLICY_BEGIN.
 */
struct fw_rules_state;

int fw_rules_state_create(struct fw_rules_state **out);
void fw_rules_state_destroy(struct fw_rules_state *s);

/*
 * Take one checked message (pk_msg_check) of a transaction.  On POLICY_COMMIT *out receives the new
 * generation, which the caller owns; otherwise *out is NULL.
 * Context: control thread.  Returns 0, or negative errno with *diag; then the transaction is over and
 * what was in force stays: -EPROTO for messages out of place, -ESTALE when `base` is not the
 * generation held, -ENOENT for references to what does not exist, -ENOSPC beyond the rule slots,
 * -ENOMEM.
 */
int fw_rules_state_apply(
    struct fw_rules_state *s, const struct pk_msg *m, struct fw_rules **out, struct pk_diag *diag);

/* Forget an unfinished transaction, as when the connection is gone. */
void fw_rules_state_abort(struct fw_rules_state *s);

/* Generation of the last commit, 0 before the first. */
uint64_t fw_rules_state_generation(const struct fw_rules_state *s);

/* Context: control thread, once no lcore can hold it.  NULL is allowed. */
void fw_rules_destroy(struct fw_rules *r);

#define FW_RULE_SLOTS 65536 /* rules with a counter at any one time */
