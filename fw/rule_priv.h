#pragma once

#include <stdbool.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "fw/rule.h"
#include "fw/rule_set.h"
#include "fw/rule_table.h"
#include "fw/rule_tree.h"

/*
 * Shared between fw/rule.c (what lcores ask), fw/rule_state.c (what the agent has said),
 * fw/rule_commit.c (how a transaction becomes a generation), fw/rule_program.c (how a program
 * becomes rows) and fw/rule_line.c (who frees what).
 */

/* ---- a generation, as lcores read it: parts only ---- */

/* Beside enum pk_rule_flags: its text names applications, or has terms. */
#define FW_ACTION_APPS  0x80
#define FW_ACTION_TERMS 0x40
#define FW_ACTION_WHEN  0x20 /* or a schedule */

/* Of the rule at a position. */
struct fw_action {
	uint32_t slot;
	uint32_t next_tier; /* position of the first rule of a later tier */
	uint8_t verdict, log, flags;
	uint8_t encryption; /* enum pk_encryption */
};

struct fw_actions {
	struct fw_part part;
	struct fw_action at[];
};

/* Where the rules of a program's source stand; no lcore asks. */
struct fw_places {
	struct fw_part part;
	uint32_t pos[];
};

/*
 * A program for lookup.  Its rules stand at positions, in order but with gaps, so that a rule can come
 * without a new number for all that follow.
 */
struct fw_program {
	struct fw_part part;
	uint64_t id;
	struct fw_row_shape shape;
	uint32_t nb_pos; /* positions, 0 .. nb_pos - 1 */
	bool has_audit;
	struct fw_actions *actions; /* by position */
	struct fw_places *places;
	fw_row any;                 /* rules about every peer */
	struct fw_table identities; /* identity -> rules about it */
	struct fw_table names;      /* pattern -> rules about it */
	struct fw_tree v4, v6;      /* address of the peer -> rules about it */
	struct fw_tree services;    /* protocol << 16 | selector -> rules about it */
};

struct fw_identity_row {
	uint32_t identity, zero;
	fw_row row;
};

struct fw_name_row {
	uint64_t pattern;
	fw_row row;
};

#define FW_PROGRAM_NONE UINT32_MAX

struct fw_identity {
	struct fw_part part;
	uint32_t id, tenant;
	uint64_t program[PK_DIRECTION_COUNT];
	uint32_t slot[PK_DIRECTION_COUNT]; /* of the programs; FW_PROGRAM_NONE */
	const char *tenant_name, *labels;  /* end the block */
};

struct fw_identity_entry {
	uint32_t id, zero;
	struct fw_identity *identity;
};

struct fw_host {
	struct fw_part part;
	uint32_t vrf;
	struct pk_addr addr;
	struct fw_endpoint endpoint;
	char name[]; /* ends the block */
};

struct fw_host_key {
	uint64_t addr[2]; /* pk_addr.bytes */
	uint32_t vrf;
	uint32_t family;
};

struct fw_host_entry {
	struct fw_host_key key;
	struct fw_host *host;
	uint32_t identity, unattested; /* here too: most who look ask no more */
};

struct fw_rule_text {
	struct fw_part part;
	uint64_t id;
	uint32_t line;
	uint8_t verdict, direction, flags, tier;
	uint8_t app[PK_MSG_APPS]; /* enum dpi_app; those that are not known here are 0 */
	struct pk_rule_terms terms;
	struct pk_schedule schedule;
	char policy[64], name[48], file[80];
};

struct fw_id_entry {
	uint64_t id;
	uint32_t slot, zero;
};

extern const struct fw_table_kind fw_hosts_kind, fw_identities_kind, fw_ids_kind,
    fw_identity_rows_kind, fw_name_rows_kind;

/*
 * All patterns of names, in chains by the labels at their end that match only themselves (pk_name_fixed).
 * One block: a change of one makes it anew.
 */
struct fw_patterns {
	struct fw_part part;
	uint32_t nb, mask;
	struct fw_pattern *pattern; /* these three end the block */
	uint32_t *chain;            /* by hash: index + 1 of the first; 0: none */
	char *text;
};

struct fw_pattern {
	uint64_t name; /* fw_set_name() */
	const char *text, *fixed;
	uint32_t next; /* index + 1 */
};

/* Where a generation begins. */
struct fw_roots {
	struct fw_table hosts;        /* struct fw_host_entry */
	struct fw_table identities;   /* struct fw_identity_entry */
	struct fw_table ids;          /* struct fw_id_entry: rules by id */
	struct fw_vec programs;       /* by slot: struct fw_program */
	struct fw_vec texts;          /* by slot: struct fw_rule_text */
	struct fw_patterns *patterns; /* NULL: no rule asks for names */
};

/* ---- the line of generations, and their memory ---- */

struct fw_line {
	struct fw_parts parts;
	struct fw_roots head;    /* of the last commit */
	struct fw_rules *newest; /* of those not yet destroyed */
	bool has_state;
};

struct fw_rules {
	uint64_t generation;
	struct fw_roots roots;
	struct fw_line *line;
	struct fw_rules *older, *newer;
	struct fw_dropped *dropped; /* parts that no newer generation has */
};

/*
 * The change under way is `roots` and takes the place of the line's head.  `r` is an empty struct for it:
 * with it this cannot fail.
 */
void fw_line_commit(
    struct fw_line *l, const struct fw_roots *roots, uint64_t generation, struct fw_rules *r);

/* The state has no more to say.  Frees the line when no generation is left either. */
void fw_line_close(struct fw_line *l);

/* ---- what the agent has said ---- */

struct fw_entry_key {
	uint64_t number; /* id; of an endpoint, its vrf */
	struct pk_addr addr;
	uint32_t zero;
};

/*
 * A named object: a struct fw_identity, fw_host, fw_set or fw_program_source.  `before` is what it
 * was before the transaction that has touched it, so taking that back is one assignment.
 */
struct fw_entry {
	struct fw_entry_key key;
	void *object, *before; /* NULL: none */
	uint32_t touched;      /* transaction */
	uint32_t slot;         /* of a program */
	union {
		struct { /* identity: endpoints in [0], each twice; program: identities by direction */
			uint32_t users[PK_DIRECTION_COUNT];
			int32_t more[PK_DIRECTION_COUNT]; /* by the transaction */
		};
		struct { /* set: slots of the programs that name it, in no order */
			uint32_t *programs;
			uint32_t nb_programs, room_programs;
		};
	};
	uint32_t mark; /* of a walk over all sets of a program */
	UT_hash_handle hh;
};

/* A rule by its id, in however many programs. */
struct fw_slot {
	uint64_t id;
	uint32_t slot;
	uint32_t users;
	bool dying;                      /* the transaction takes its last user */
	const struct fw_rule_text *text; /* in the line's head; NULL: new */
	UT_hash_handle hh;
};

struct fw_rule_source {
	uint64_t id;
	struct fw_slot *slot;      /* NULL: not known yet */
	struct fw_rule_text *text; /* owned; NULL: as in the slot */
	uint32_t pos;              /* while a program is made; then in its places */
	uint32_t first_peer, nb_peers, first_service, nb_services;
	uint8_t tier, verdict, log, flags, encryption;
	bool any_peer, any_service, has_apps, has_terms, has_schedule;
	bool taken; /* counted by its slot */
};

struct fw_program_source {
	uint64_t id;
	uint8_t direction;
	uint32_t nb_rules, nb_received;
	uint64_t *peers;
	struct fw_entry **sets; /* what they name; made by the commit */
	struct pk_service *services;
	uint32_t nb_peers, room_peers, nb_services, room_services;
	struct fw_rule_source rules[];
};

enum fw_entry_kind {
	FW_ENTRY_IDENTITY = 0,
	FW_ENTRY_ENDPOINT,
	FW_ENTRY_SET,
	FW_ENTRY_PROGRAM,
	FW_ENTRY_KINDS,
};

struct fw_rules_state {
	struct fw_line *line;
	struct fw_entry *map[FW_ENTRY_KINDS];
	uint64_t generation;   /* in force */
	fw_rules_ready *ready; /* asked before a commit is final; NULL */
	void *ready_arg;

	bool committing; /* `ready` is being asked */
	bool open;       /* between BEGIN and COMMIT */
	uint64_t target; /* generation of the transaction */
	uint32_t transaction, nb_messages;
	struct {
		struct fw_entry **entry;
		uint32_t nb, room;
	} touched[FW_ENTRY_KINDS];
	struct fw_program_source *filling; /* RULEs go here; borrowed from the map */
	struct fw_rule_source *extending;  /* RULE_MORE goes here */

	struct fw_entry **program; /* by slot; NULL: free */
	uint32_t *free_programs;
	uint32_t nb_programs, room_programs, nb_free_programs;
	uint32_t mark;

	struct fw_slot *slots;
	uint32_t nb_slots_used;              /* given out at least once */
	uint32_t *free_slots, nb_free_slots; /* given back, oldest first from `free_at` */
	uint32_t free_at;
};

struct fw_entry *fw_entry_find(
    const struct fw_rules_state *s, enum fw_entry_kind kind, uint64_t number);

/* Check what the transaction says, and build the next generation from it.  On failure the roots of the
 * line are untouched and the transaction must be aborted. */
int fw_commit(struct fw_rules_state *s, struct fw_rules **out, struct pk_diag *diag);

/* Those of the sets of the transaction, as they are at its end; NULL for none.  Returns 0, or negative errno with
 * *diag when there are too many. */
int fw_patterns_build(struct fw_rules_state *s, struct fw_patterns **out, struct pk_diag *diag);

void fw_program_source_destroy(struct fw_program_source *p);

/* ---- programs: from rules to rows ---- */

struct fw_member_change {
	uint8_t kind; /* of the set */
	bool add;
	const void *member;
};

/* A program for `src`, of which the sets are known; gives its rules their positions.
 * Returns 0 or -ENOMEM. */
int fw_program_build(struct fw_parts *m, struct fw_program **out, struct fw_program_source *src);

/* From *p, which is `from`, to `to`, with little work where little differs; *p becomes the result. */
int fw_program_change(struct fw_parts *m, struct fw_program **p,
    const struct fw_program_source *from, struct fw_program_source *to);

/* The set behind `set` has changed; *p becomes the result. */
int fw_program_members(struct fw_parts *m, struct fw_program **p,
    const struct fw_program_source *src, const struct fw_entry *set,
    const struct fw_member_change *changes, size_t nb);

/* Build *p anew if enough has changed since it was; its sets must be as *p has them noted. */
int fw_program_refresh(struct fw_parts *m, struct fw_program **p, struct fw_program_source *src);

void fw_program_drop(struct fw_parts *m, struct fw_program *p);

/* ---- hashes and keys ---- */

static inline uint64_t
fw_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) *
	    (b ^ UINT64_C(0xd1b54a32d192ed03));

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint32_t
fw_host_hash(const struct fw_host_key *k)
{
	return (uint32_t)fw_mix(
	    fw_mix(k->addr[0], k->addr[1]), k->vrf + UINT64_C(0x2545f4914f6cdd1d));
}

static inline uint32_t
fw_id_hash(uint64_t id)
{
	return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static inline struct fw_host_key
fw_host_key(uint32_t vrf, const struct pk_addr *addr)
{
	struct fw_host_key k = { .vrf = vrf, .family = addr->family };

	memcpy(k.addr, addr->bytes, sizeof(k.addr));
	return k;
}

/* An address as a number, in the tree of its family. */
static inline fw_key
fw_addr_key(const struct pk_addr *a)
{
	uint64_t hi, lo;
	uint32_t v4;

	if (a->family == 4) {
		memcpy(&v4, a->bytes, sizeof(v4));
		return __builtin_bswap32(v4);
	}
	memcpy(&hi, a->bytes, sizeof(hi));
	memcpy(&lo, a->bytes + sizeof(hi), sizeof(lo));
	return (fw_key)__builtin_bswap64(hi) << 64 | __builtin_bswap64(lo);
}
