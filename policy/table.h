#pragma once

#include "lib/addr.h"
#include "lib/msg.h"

/*
 * Compiled policy: what the compiler makes of policy files and inventory, and what everything else
 * starts from.  The server cuts each DPU's span out of it, the agent and the offline tools turn it
 * into messages (policy_table_emit), and the data planes build their tables from these.
 *
 * Label sets have become identities, rules have become programs over sets of identities and
 * prefixes, and every sequence of tiers has been laid out flat: first match decides, PASS leads to
 * the first rule of the next tier, and the last rule of every program is a default that somebody or
 * nobody wrote.  No label, selector or service name is left but for people to read.
 *
 * A table is immutable.  All arrays are sorted by id, and all pointers in it are borrowed from it.
 * Numbers are stable: `id` of programs, sets and rules are hashes of content or name, identities
 * come from a policy_ids that outlives the table.
 */
struct policy_rule {
	uint64_t
	    id; /* hash of tenant, policy, direction and rule name: survives edits of the rule */
	enum pk_verdict verdict;
	enum pk_log_mode log;
	uint8_t flags; /* enum pk_rule_flags */
	uint8_t tier;  /* rises along the program */
	uint8_t any_peer;
	uint8_t any_service;
	uint32_t nb_peers;
	uint32_t nb_services;
	const uint64_t *peers; /* set ids */
	const struct pk_service *services;
	uint32_t nb_apps;     /* 0: whatever is spoken */
	const uint32_t *apps; /* dpi_app_id(), ascending; services are then of TCP and UDP */
	struct pk_rule_terms terms;
	struct pk_schedule schedule; /* when it is there */
	const char *policy;
	const char *name;
	const char *file; /* as given on the command line or in the upload */
	uint32_t line;    /* of the rule; 0 for a default */
};

/* Whether it may let pass what it matches, for what it hangs on is seen by nobody who asks beforehand. */
static inline int
policy_rule_conditional(const struct policy_rule *r)
{
	return r->nb_apps > 0 || r->schedule.days != 0;
}

struct policy_program {
	uint64_t id; /* hash of direction and rules: equal programs are one */
	enum pk_direction direction;
	uint32_t nb_rules;
	const struct policy_rule *rules;
};

struct policy_set {
	uint64_t id; /* hash of what selects the members, so it outlives changes of membership */
	enum pk_set_kind kind;
	uint32_t nb_members;
	const char *name; /* for people */
	union {
		const uint32_t *identities; /* ascending */
		const struct pk_prefix
		    *prefixes; /* ascending, disjoint: `except` is already cut out */
	};
};

struct policy_identity {
	uint32_t id;
	uint32_t tenant;
	const char *tenant_name;
	const char *labels; /* canonical: "app=db,env=prod" */
	uint64_t program[PK_DIRECTION_COUNT];
};

struct policy_endpoint {
	const char *name; /* "tenant/workload" */
	const char *dpu;  /* the DPU in front of it, or "" */
	uint32_t vrf;
	uint32_t identity; /* to others: as the host in front of it stands */
	/* To its own DPU, which knows better: by the host's posture.  Equal where it does not matter. */
	uint32_t attested, unattested;
	uint16_t wire;
	uint8_t has_mac;
	uint8_t mac[6];
	struct pk_addr addr;
};

/* A workload without an address: no packet is its, but it can be asked about. */
struct policy_unplaced {
	const char *name; /* "tenant/workload" */
	uint32_t identity;
};

struct policy_table {
	uint32_t nb_identities, nb_endpoints, nb_sets, nb_programs, nb_unplaced;
	const struct policy_identity *identities; /* by id */
	const struct policy_endpoint *endpoints;  /* by vrf, then address */
	const struct policy_set *sets;            /* by id */
	const struct policy_program *programs;    /* by id */
	const struct policy_unplaced *unplaced;   /* by name; never said in messages */
};

/* Binary search.  NULL if there is none. */
const struct policy_identity *policy_table_identity(const struct policy_table *t, uint32_t id);
const struct policy_endpoint *policy_table_endpoint(
    const struct policy_table *t, uint32_t vrf, const struct pk_addr *addr);
const struct policy_set *policy_table_set(const struct policy_table *t, uint64_t id);
const struct policy_program *policy_table_program(const struct policy_table *t, uint64_t id);
const struct policy_unplaced *policy_table_unplaced(const struct policy_table *t, const char *name);

/*
 * Take messages one at a time.  A negative return ends the emission and is passed on.
 * The message is borrowed for the call.
 */
typedef int policy_sink(void *arg, const struct pk_msg *m);

/*
 * Say one object as PUT messages.  The header's generation and seq are left 0 for the sink to fill.
 * policy_emit_set() says the whole set: a SET, then its members.  policy_emit_endpoint() marks the
 * endpoint local when its dpu is `dpu` (NULL: all are local, as an offline evaluation wants it).
 * Context: any.  Each returns 0 or what the sink returned.
 */
int policy_emit_identity(const struct policy_identity *o, policy_sink *sink, void *arg);
int policy_emit_endpoint(
    const struct policy_endpoint *o, const char *dpu, policy_sink *sink, void *arg);
int policy_emit_set(const struct policy_set *o, policy_sink *sink, void *arg);
int policy_emit_program(const struct policy_program *o, policy_sink *sink, void *arg);

/*
 * Say the whole table as one full transaction, POLICY_BEGIN to POLICY_COMMIT, of `generation`.
 * `dpu` as in policy_emit_endpoint().
 */
int policy_table_emit(const struct policy_table *t, uint64_t generation, const char *dpu,
    policy_sink *sink, void *arg);
