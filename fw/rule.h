#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/counter.h"
#include "lib/msg.h"

/*
 * The policy a packet is judged by.
 *
 * One struct fw_rules is one generation: immutable from the moment fw_rules_state_apply() returns it, read
 * by any number of lcores without a lock, freed by the control thread once all of them have moved
 * on.  It needs no DPDK environment, so the offline evaluator asks the very same object.
 *
 * How a question is answered, at a cost that does not grow with the number of rules or prefixes:
 *
 *   1. address -> party.  Hosts of the inventory stand in a hash table, with their identity; the
 *      subject's identity names a program per direction.
 *   2. Three things of the packet name rows of the program, lists of rules or, where these are long,
 *      bits with a summary above them: the peer's identity (hash table), the peer's address (tree over
 *      the edges of all prefixes, which match hosts of the inventory as well; and a hash table, if it has
 *      names), and the service (tree over the edges of all port ranges).
 *   3. The first rule that is in a row of the peer and in a row of the service matches (aggregated
 *      bit vectors, Baboescu and Varghese, SIGCOMM 2001).  PASS and audit rules carry on from there.
 *
 * A generation shares with the one before all that has not changed: a rule, a member of a set, an
 * identity, an endpoint that comes, goes or changes costs the notes it has in those rows, to make
 * and to free.  fw/rule_part.h says how that memory lives, fw/rule_tree.h how a wide prefix is as
 * cheap as a narrow one.
 */
struct fw_rules;

/* An address in the inventory. */
struct fw_endpoint {
	uint32_t identity;
	uint32_t unattested; /* who it is while its host is not attested; mostly the same */
	uint16_t wire;
	uint8_t local;
	uint8_t has_mac;
	uint8_t mac[6];
	const char *name; /* borrowed from the fw_rules */
};

/* One end of a session, as policy knows it. */
struct fw_party {
	const struct pk_addr *addr;           /* borrowed from the caller */
	uint32_t identity;                    /* PK_IDENTITY_NONE outside the inventory */
	uint8_t is_subject;                   /* has programs here, so it may speak at all */
	uint32_t program[PK_DIRECTION_COUNT]; /* for fw_rules_decide() */
	const struct fw_named
	    *named; /* what it is called; NULL: nothing that is known.  Borrowed */
};

/*
 * Which patterns of names (lib/name.h) an address is known by: a plane learns it of DNS answers (fw/names.h), and
 * puts it into the party for fw_rules_decide().  A pattern's number is the same in every generation.
 */
#define FW_NAMED_MAX    8     /* patterns an address is known by at once */
#define FW_PATTERNS_MAX 16384 /* in a generation */

struct fw_named {
	uint32_t nb;
	uint64_t pattern[FW_NAMED_MAX];
};

/*
 * A rule is called by the number of its hit counter, below FW_RULE_SLOTS and the same for the same id in
 * every generation.  Numbers between those in use may be free.
 */
#define FW_RULE_SLOTS 65536      /* rules at any one time */
#define FW_RULE_NONE  UINT32_MAX /* no program, or no policy at all */

/*
 * What a session speaks, as a byte: enum dpi_app (dpi/apps.h), or one of these.  A rule that names
 * applications matches those, and is taken to match as long as nothing is known.
 */
enum fw_app {
	FW_APP_NONE = 0,       /* nobody has looked */
	FW_APP_LAST = 251,     /* of those that have names */
	FW_APP_CUT,            /* whatever it was: a signature has ended it, nothing of it passes */
	FW_APP_JOINED,         /* being looked at since the middle of the session */
	FW_APP_SOUGHT,         /* since its first packet */
	FW_APP_UNKNOWN = 0xff, /* none of those that have names, for good */
};

static inline bool
fw_app_known(unsigned int app)
{
	return app != FW_APP_NONE && (app <= FW_APP_LAST || app == FW_APP_UNKNOWN);
}

/* Beside enum pk_inspect: what cannot be inspected passes. */
#define FW_INSPECT_OPEN 0x10
#define FW_INSPECT_MODE 0x0f

struct fw_decision {
	enum pk_verdict verdict; /* allow, deny or reject; deny when there is no program */
	enum pk_verdict
	    audit_verdict; /* what it would be if audit rules counted; else as verdict */
	enum pk_log_mode log;
	uint8_t encryption; /* enum pk_encryption: what an allowed flow has to have besides */
	uint8_t audited;    /* an audit rule matched on the way */
	uint8_t undecided;  /* the verdict stands only if the session speaks what the rule names */
	uint8_t
	    inspect; /* enum pk_inspect, and FW_INSPECT_OPEN: what an allowed flow has to go through */
	uint32_t rule; /* decided, or FW_RULE_NONE */
	uint32_t audit_rule;
	const struct pk_rule_terms *terms; /* of an allowed flow; NULL: none.  Borrowed */
};

/* One line for people about a rule. */
struct fw_rule_info {
	uint64_t id;
	enum pk_verdict verdict;
	enum pk_direction direction;
	uint8_t flags;
	uint8_t tier;
	uint32_t line;
	uint32_t slot; /* its number */
	const struct pk_rule_terms *terms;
	const char *policy, *name, *file;
};

/* The terms of a rule, by its number; NULL: there is no such rule.  Borrowed, valid as long as `r`. */
const struct pk_rule_terms *fw_rules_terms(const struct fw_rules *r, uint32_t rule);

/* Whether some rule is there at one of these moments (seconds since 1970-01-01 UTC) and not at the other.
 * NULL is allowed.  It looks at each rule. */
bool fw_rules_turned(const struct fw_rules *r, int64_t a_s, int64_t b_s);

uint64_t fw_rules_generation(const struct fw_rules *r);

/* How many rules there are; one that stands in several programs is one. */
uint32_t fw_rules_count(const struct fw_rules *r);

/* The first rule numbered `from` or above, or FW_RULE_NONE. */
uint32_t fw_rules_next(const struct fw_rules *r, uint32_t from);

/* About a rule, by its number or by its id.  Strings and terms are borrowed, valid as long as `r`,
 * which may be NULL for no policy.  Returns false, with *out all zero, when there is no such rule. */
bool fw_rules_info(const struct fw_rules *r, uint32_t rule, struct fw_rule_info *out);
bool fw_rules_info_by_id(const struct fw_rules *r, uint64_t id, struct fw_rule_info *out);

/*
 * Who is at an address?  A local endpoint that policy knows by two identities is the lesser one unless
 * its host is `attested`; all other addresses are what they are.  Context: any, while the generation is held.
 */
void fw_rules_party(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr,
    bool attested, struct fw_party *out);

/* The inventory entry of an address, or NULL.  Context: any, while the generation is held. */
const struct fw_endpoint *fw_rules_endpoint(
    const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr);

/* Warm the cache lines that fw_rules_endpoint() and fw_rules_party() will read. */
void fw_rules_prefetch(const struct fw_rules *r, uint32_t vrf, const struct pk_addr *addr);

/* Number of the tenant of an identity; 0 for unknown ones. */
uint32_t fw_rules_tenant(const struct fw_rules *r, uint32_t identity);

/* "acme", "app=db,env=prod" for people; "" for unknown identities. */
const char *fw_rules_tenant_name(const struct fw_rules *r, uint32_t identity);
const char *fw_rules_labels(const struct fw_rules *r, uint32_t identity);

/* Whether any rule asks for names.  NULL is allowed. */
bool fw_rules_has_names(const struct fw_rules *r);

/*
 * Add the patterns that match the name (lower case, without the final dot) to *named, which has each once;
 * those beyond its room are left out.  Context: any, while the generation is held.
 */
void fw_rules_name(const struct fw_rules *r, const char *name, struct fw_named *named);

/* The text of a pattern; NULL: it is not in this generation, or that is NULL.  Borrowed, valid as long as `r`. */
const char *fw_rules_pattern(const struct fw_rules *r, uint64_t pattern);

/*
 * May `subject` open (egress) or accept (ingress) a session with `peer` on the service?
 * Both are from fw_rules_party() of the same generation.
 * `selector` as in struct pk_service: destination port, or ICMP type << 8 | code, or 0.
 * `app` is an enum fw_app; `at_s` is now, in seconds since 1970-01-01 UTC, or PK_TIME_ANY: then rules with a
 * schedule are taken to be there.
 * Context: any, while the generation is held.  Never fails: without a program the answer is deny.
 */
void fw_rules_decide(const struct fw_rules *r, enum pk_direction direction,
    const struct fw_party *subject, const struct fw_party *peer, uint8_t proto, uint16_t selector,
    uint8_t app, int64_t at_s, struct fw_decision *out);

/*
 * The control side: the state that generations are built from.  It takes the messages of
 * transactions, and at each commit makes a new fw_rules out of the last one.  A transaction that is refused, or
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

/*
 * Have `ready` asked before each commit is final, with the state as it will be (fw/rule_view.h), by a plane that
 * has to put it in force elsewhere first.  It returns 0, or negative errno with *diag: then the transaction
 * is refused and what was in force stays.
 */
typedef int fw_rules_ready(void *arg, const struct fw_rules_state *s, struct pk_diag *diag);
void fw_rules_state_on_commit(struct fw_rules_state *s, fw_rules_ready *ready, void *arg);

/* Forget an unfinished transaction, as when the connection is gone. */
void fw_rules_state_abort(struct fw_rules_state *s);

/* Generation of the last commit, 0 before the first. */
uint64_t fw_rules_state_generation(const struct fw_rules_state *s);

/* Memory of the newest generation, and of what older ones still have besides, in bytes. */
uint64_t fw_rules_state_bytes(const struct fw_rules_state *s);

/*
 * Context: the control thread of the state it came from (it may be gone before or after), once no lcore
 * can hold it.  Costs what its successor changed.  NULL is allowed.
 */
void fw_rules_destroy(struct fw_rules *r);
