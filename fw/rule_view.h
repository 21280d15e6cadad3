#pragma once

#include "fw/rule.h"

/*
 * What the agent has said, whole: for a plane that does not ask fw_rules_decide() about packets but writes the
 * policy down elsewhere (fw/nft).  Within fw_rules_ready it is what the commit brings, at any other time what the
 * last commit has brought, whatever of a transaction has arrived since.
 *
 * Everything handed to a callback is borrowed for its call.  The order is none in particular.
 * Context: control thread.
 */
struct fw_view_identity {
	uint32_t identity, tenant;
	uint64_t program[PK_DIRECTION_COUNT]; /* 0: not a subject here */
	const char *tenant_name;
};

struct fw_view_endpoint {
	uint32_t vrf;
	struct pk_addr addr;
	struct fw_endpoint is;
};

/* Members are asked for by number, 0 .. nb - 1; some of these are not members any more. */
struct fw_view_set {
	uint64_t set;
	enum pk_set_kind kind;
	uint32_t nb;
	bool before; /* as they were before the transaction */
	const struct fw_set *members;
};

struct fw_view_rule {
	uint64_t id;
	uint32_t slot; /* the number of its counter, as in struct fw_rule_info */
	enum pk_verdict verdict;
	enum pk_log_mode log;
	uint8_t flags, tier;
	bool any_peer, any_service, has_apps;
	const struct pk_rule_terms *terms;
	const struct pk_schedule *schedule; /* NULL: it is always there */
	const uint64_t *peers;              /* sets */
	const struct pk_service *services;
	uint32_t nb_peers, nb_services;
};

struct fw_view_program {
	uint64_t program;
	enum pk_direction direction;
	uint32_t nb_rules;
	const struct fw_program_source *source;
};

uint64_t fw_view_generation(const struct fw_rules_state *s);

void fw_view_identities(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_identity *i), void *arg);
void fw_view_endpoints(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_endpoint *e), void *arg);
void fw_view_sets(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_set *set), void *arg);
void fw_view_programs(const struct fw_rules_state *s,
    void (*each)(void *arg, const struct fw_view_program *p), void *arg);

enum pk_set_kind fw_view_set_kind(
    const struct fw_rules_state *s, uint64_t set); /* PK_SET_NONE: none */

/* A uint32_t or a struct pk_prefix, by kind; NULL: not a member. */
const void *fw_view_member(const struct fw_view_set *set, uint32_t i);

/* Rule i, 0 .. nb_rules - 1, in order. */
void fw_view_rule(const struct fw_view_program *p, uint32_t i, struct fw_view_rule *out);
