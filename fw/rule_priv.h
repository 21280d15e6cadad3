#pragma once

#include <stdbool.h>

#include "fw/rule.h"

/*
 * Shared between fw/rule.c (what lcores ask), fw/rule_build.c (how a generation is made) and
 * fw/rule_state.c (what the agent has said).
 *
 * The source objects below are immutable once a transaction has committed, and counted: the state
 * holds one reference, each generation that shows their strings another.  Only the control thread
 * counts, so the counts are plain.
 */
struct fw_rule_source {
	uint64_t id;
	uint32_t line;
	uint32_t slot;
	uint8_t tier, verdict, log, flags;
	bool any_peer, any_service;
	uint32_t nb_peers, nb_services;
	uint64_t *peers;
	struct pk_service *services;
	char policy[64], name[48], file[112];
};

struct fw_program_source {
	uint32_t refs;
	uint8_t direction;
	uint32_t nb_rules, nb_received;
	uint64_t id;
	struct fw_rule_source rules[];
};

struct fw_identity_source {
	uint32_t refs;
	uint32_t id, tenant;
	uint64_t program[PK_DIRECTION_COUNT];
	char *tenant_name, *labels; /* one block with the struct */
};

struct fw_endpoint_source {
	uint32_t refs;
	uint32_t vrf, identity, unattested;
	uint16_t wire;
	uint8_t local, has_mac, mac[6];
	struct pk_addr addr;
	char name[]; /* ends the block */
};

struct fw_set_source {
	uint32_t refs;
	uint8_t kind;
	uint32_t nb, room;
	uint64_t id;
	union {
		uint32_t *identities; /* unordered, no duplicates */
		struct pk_prefix *prefixes;
	};
};

/* Everything said so far, as arrays for the builder.  Borrowed for the call. */
struct fw_rules_input {
	uint64_t generation;
	uint32_t nb_identities, nb_endpoints, nb_sets, nb_programs;
	struct fw_identity_source **identities; /* ascending id */
	struct fw_endpoint_source **endpoints;
	struct fw_set_source **sets;         /* ascending id */
	struct fw_program_source **programs; /* ascending id */
};

/* ---- a generation, as lcores read it ---- */

#define NODE_KEYS 16 /* one cache line of 32-bit keys */

/* The edges of all IPv4 prefixes, as a static B-tree in one array; val: class of [key, next key). */
struct fw_tree4 {
	uint32_t nb_nodes;
	uint32_t (*key)[NODE_KEYS];
	uint32_t (*val)[NODE_KEYS];
};

struct fw_key6 {
	uint64_t hi, lo;
};

struct fw_tree6 {
	uint32_t nb; /* edges, the first is :: */
	struct fw_key6 *key;
	uint32_t *val;
};

/* One slot of the host table: half a cache line, so that a probe is one miss. */
struct fw_host {
	uint32_t vrf;
	uint32_t endpoint; /* index + 1; 0 is an empty slot */
	uint64_t addr[2];  /* pk_addr.bytes */
	uint32_t class;
	uint32_t family;
} __attribute__((aligned(32)));

/*
 * A program for lookup.  A row is nb_summary words, one bit for each word that is not zero, and
 * then nb_words words, one bit for each rule.
 */
struct fw_program {
	uint64_t id;
	uint32_t nb_rules, nb_words, nb_summary;
	uint32_t first_rule; /* number of rule 0 within the generation */
	bool has_audit;
	const struct fw_program_source *source;

	uint64_t *peer_rows;
	uint32_t peer_mask;            /* size of the table - 1 */
	struct fw_class_row *peer_row; /* class -> row; row 0 is for all other classes */

	uint64_t *service_rows;
	uint8_t proto_index[256]; /* into services; 0 is for protocols no rule names */
	struct fw_service_table {
		uint32_t nb;     /* intervals */
		uint16_t *start; /* start[0] is 0 */
		uint32_t *row;
	} * services;
	uint32_t nb_services;

	uint32_t *next_tier; /* per rule: first rule of a later tier */
};

struct fw_class_row {
	uint32_t class; /* FW_CLASS_NONE: empty */
	uint32_t row;
};

struct fw_class_full {
	struct fw_class public;
	uint32_t prefix_class;
	const struct fw_program *program[PK_DIRECTION_COUNT];
};

struct fw_rules {
	uint64_t generation;
	struct fw_tree4 tree4;
	struct fw_tree6 tree6;
	uint32_t host_mask;
	struct fw_host *hosts;
	uint32_t nb_classes;
	struct fw_class_full *classes;
	uint32_t nb_programs, nb_rules;
	struct fw_program *programs;
	uint32_t nb_endpoints;
	struct fw_endpoint *endpoints;
	struct fw_endpoint_source **endpoint_sources; /* references held */
	uint32_t nb_identities;
	struct fw_identity_source **identities;     /* references held, ascending */
	struct fw_program_source **program_sources; /* references held */
	struct fw_rule_id {
		uint64_t id;
		uint32_t rule;
	} * ids; /* nb_rules, ascending */
};

/* Returns 0, -EINVAL or -ENOENT with *diag, or -ENOMEM. */
int fw_rules_build(struct fw_rules **out, const struct fw_rules_input *in, struct pk_diag *diag);

void fw_program_source_put(struct fw_program_source *p);
void fw_identity_source_put(struct fw_identity_source *i);
void fw_endpoint_source_put(struct fw_endpoint_source *e);
void fw_set_source_put(struct fw_set_source *s);

static inline uint64_t
fw_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) *
	    (b ^ UINT64_C(0xd1b54a32d192ed03));

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint32_t
fw_host_hash(uint32_t vrf, const uint64_t addr[2])
{
	return (uint32_t)fw_mix(fw_mix(addr[0], addr[1]), vrf + UINT64_C(0x2545f4914f6cdd1d));
}

static inline uint32_t
fw_class_hash(uint32_t class)
{
	return (uint32_t)((class * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}
