#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/base.h"
#include "lib/schedule.h"

/*
 * What the programs on one DPU say to each other.
 *
 * Every message is PK_MSG_SIZE bytes, on a Unix SOCK_SEQPACKET socket, in host byte order (both ends
 * are on one machine) except addresses, which are in network order.  The receiver checks every
 * field as if the sender had just been taken over: pk_msg_check() is the first thing done to it.
 *
 * The data planes (picketd, picket-nftd) listen; picket-agentd connects, and says HELLO; the plane
 * answers with its own HELLO, which tells the generation it enforces.  Then policy flows in
 * transactions:
 *
 *     agentd   POLICY_BEGIN  IDENTITY* ENDPOINT* SET* SET_MEMBERS* PROGRAM* RULE*  POLICY_COMMIT
 *     plane                                                          POLICY_STATUS (accepted)
 *                                                                    POLICY_STATUS (realised)
 *
 * Nothing of a transaction is in force before the plane says `realised`; from then on no packet is
 * judged by an older generation.  A transaction that is refused (POLICY_STATUS with `rejected`), or
 * cut off by the end of the connection, changes nothing.  Order inside a transaction is free but for
 * RULEs, which follow their PROGRAM; references are checked at COMMIT.
 *
 * These messages are also the compiled form of policy that offline tools evaluate: one form, one
 * meaning, wherever the question is asked.
 */
#define PK_MSG_VERSION 2
#define PK_MSG_SIZE    512 /* bytes, every message */

enum pk_msg_type {
	PK_MSG_NONE = 0,
	PK_MSG_HELLO,
	PK_MSG_POLICY_BEGIN,
	PK_MSG_IDENTITY,
	PK_MSG_ENDPOINT,
	PK_MSG_SET,
	PK_MSG_SET_MEMBERS,
	PK_MSG_PROGRAM,
	PK_MSG_RULE,
	PK_MSG_RULE_MORE,
	PK_MSG_POLICY_COMMIT,
	PK_MSG_POLICY_ABORT,
	PK_MSG_POLICY_STATUS,
	PK_MSG_POLICY_COUNTS,
	PK_MSG_POSTURE,
	PK_MSG_POSTURE_STATUS,
	PK_MSG_TYPE_COUNT,
};

enum pk_op {
	PK_OP_NONE = 0,
	PK_OP_PUT,    /* make it so; it may exist already */
	PK_OP_DELETE, /* -ENOENT if it does not exist */
};

/* What a rule says, and what becomes of a packet.  Zero is closed. */
enum pk_verdict {
	PK_VERDICT_DENY = 0, /* drop in silence */
	PK_VERDICT_REJECT,   /* drop, and tell the sender: TCP RST or ICMP unreachable */
	PK_VERDICT_ALLOW,
	PK_VERDICT_PASS, /* no opinion: go on with the first rule of the next tier */
	PK_VERDICT_COUNT,
};

/* Seen from the workload a rule is about (its subject). */
enum pk_direction {
	PK_EGRESS = 0, /* the subject opened the session */
	PK_INGRESS,    /* somebody opened it towards the subject */
	PK_DIRECTION_COUNT,
};

enum pk_set_kind {
	PK_SET_NONE = 0,
	PK_SET_IDENTITY, /* members are identities */
	PK_SET_PREFIX,   /* members are address prefixes, which match known workloads as well */
	PK_SET_NAME, /* addresses that DNS answers give the names its own name is a pattern of (lib/name.h) */
	PK_SET_KIND_COUNT,
};

enum pk_log_mode {
	PK_RULE_LOG_NONE = 0,
	PK_RULE_LOG_NEW, /* one record per session, or per refused packet (rate-limited) */
	PK_RULE_LOG_ALL, /* also when the session ends */
	PK_RULE_LOG_COUNT,
};

/*
 * What a rule that allows asks of the way between the DPU and the other end.  Links that protect all they
 * carry (MACsec) satisfy `required`.  A plane that cannot give it drops the flow, in both directions.
 */
enum pk_encryption {
	PK_ENCRYPTION_NONE = 0,
	PK_ENCRYPTION_REQUIRED, /* one or the other */
	PK_ENCRYPTION_IPSEC,
	PK_ENCRYPTION_MTLS,
	PK_ENCRYPTION_COUNT,
};

enum pk_rule_flags {
	PK_RULE_AUDIT = 1 << 0,   /* counted and logged as if, but never decides */
	PK_RULE_DEFAULT = 1 << 1, /* nobody wrote it: the end of a tier, or of all tiers */
};
#define PK_RULE_FLAGS_ALL (PK_RULE_AUDIT | PK_RULE_DEFAULT)

#define PK_NAME_MAX 128 /* bytes with the final NUL: names of policies, rules, files, workloads */

/* Identity 0 is everybody without a number of his own: the world outside the inventory. */
#define PK_IDENTITY_NONE 0

/*
 * A slice of traffic: an IP protocol and a range of its 16-bit selector, which is the destination
 * port for TCP, UDP and SCTP, `type << 8 | code` for ICMP and ICMPv6, and 0 for the rest.
 * Protocol PK_PROTO_ANY with the range 0 - 65535 is all traffic.
 */
#define PK_PROTO_ANY 255

struct pk_service {
	uint8_t proto;
	uint8_t zero;
	uint16_t low;
	uint16_t high;
};

struct pk_msg_header {
	uint16_t version; /* PK_MSG_VERSION */
	uint16_t type;    /* enum pk_msg_type */
	uint32_t seq;     /* counts up per sender, for logs */
	uint64_t generation;
};

/* Who is speaking, and what it enforces. */
struct pk_msg_hello {
	char program[32];
	char instance[64]; /* name of the DPU */
	uint64_t in_force; /* generation the plane enforces, 0 for none; agentd: 0 */
	uint64_t epoch;    /* random per process start: a new one means that all state is gone */
	uint32_t pid;
	uint32_t nb_sessions_max;
};

struct pk_msg_policy_begin {
	uint64_t base; /* generation the changes apply to; 0 with `full` */
	uint8_t full;  /* 1: forget everything first */
	uint8_t zero[7];
};

struct pk_msg_policy_status {
	uint8_t stage; /* enum pk_stage */
	uint8_t zero[3];
	int32_t error;       /* negative errno when rejected */
	uint64_t at_mono_ns; /* CLOCK_BOOTTIME of the moment */
	char text[384];      /* the sentence when rejected */
};

enum pk_stage {
	PK_STAGE_NONE = 0,
	PK_STAGE_RECEIVED, /* all of it has arrived */
	PK_STAGE_ACCEPTED, /* checked, compiled, can be enforced */
	PK_STAGE_REALISED, /* no packet is judged by an older one any more */
	PK_STAGE_REJECTED,
	PK_STAGE_COUNT,
};

/* A set of labels in a tenant has one number; its traffic is judged by its two programs. */
struct pk_msg_identity {
	uint8_t op;
	uint8_t zero[3];
	uint32_t identity;
	uint32_t tenant;
	uint32_t zero2;
	uint64_t program[PK_DIRECTION_COUNT]; /* 0: not a subject here, so nothing is allowed */
	char tenant_name[PK_NAME_MAX];
	char labels[256]; /* "app=db,env=prod", for people; may be cut */
};

/* An address is that identity.  At most one per (vrf, address). */
struct pk_msg_endpoint {
	uint8_t op;
	uint8_t local; /* 1: behind this DPU, on the inside of `wire` */
	uint16_t wire;
	uint32_t vrf; /* address space; 0 is the untagged one */
	uint32_t identity;
	struct pk_addr addr;
	uint8_t has_mac;
	uint8_t mac[6];
	uint8_t zero;
	uint32_t unattested; /* local only: who it is while its host is not attested; 0: the same */
	char name[PK_NAME_MAX]; /* "tenant/workload" */
};

/*
 * A set of kind name has no members that anybody says: the plane learns them, and one that cannot has it empty.
 * Any other set exists from its SET message on, empty; a SET for one that exists keeps its members, so to
 * replace them all say DELETE, PUT, SET_MEMBERS.  A commit that leaves a rule naming no set is refused.
 */
struct pk_msg_set {
	uint8_t op;
	uint8_t kind; /* enum pk_set_kind */
	uint8_t zero[6];
	uint64_t set;
	char name[PK_NAME_MAX];
};

#define PK_MSG_IDENTITIES 112 /* members in one message */
#define PK_MSG_PREFIXES   19

struct pk_msg_set_members {
	uint8_t op; /* PUT adds, DELETE removes */
	uint8_t kind;
	uint16_t count;
	uint8_t zero[4];
	uint64_t set;
	union {
		uint32_t identity[PK_MSG_IDENTITIES];
		struct pk_prefix prefix[PK_MSG_PREFIXES];
	};
};

/* Replaces the whole program of that number; nb_rules RULE messages follow, in order. */
struct pk_msg_program {
	uint8_t op;
	uint8_t direction; /* enum pk_direction: what its rules call the peer */
	uint8_t zero[2];
	uint32_t nb_rules;
	uint64_t program;
};

#define PK_MSG_PEERS    8 /* in one message; RULE_MORE carries on */
#define PK_MSG_SERVICES 12
#define PK_MSG_APPS     16 /* in a rule */

/* Peers in any of the sets, on any of the services; none listed means all. */
struct pk_msg_rule_match {
	uint8_t nb_peers;
	uint8_t nb_services;
	uint8_t any_peer;    /* 1: no peer list was given; 0 with no peers at all matches nobody */
	uint8_t any_service; /* likewise */
	uint8_t more;        /* 1: the next message is a RULE_MORE for this rule */
	uint8_t zero[3];
	uint64_t peer[PK_MSG_PEERS];
	struct pk_service service[PK_MSG_SERVICES];
};

/* How thoroughly signatures are to be looked for in what a rule allows. */
enum pk_inspect {
	PK_INSPECT_NONE = 0,
	PK_INSPECT_STANDARD, /* until either direction has been inspected far enough */
	PK_INSPECT_STRICT,   /* until both have */
	PK_INSPECT_COUNT,
};

/* On what terms a rule allows; all zero in others.  Zero asks for nothing. */
struct pk_rule_terms {
	uint8_t encryption; /* enum pk_encryption */
	uint8_t inspect;    /* enum pk_inspect */
	uint8_t fail_open;  /* 1: what cannot be inspected passes; else it drops */
	uint8_t dscp; /* RFC 2474: PK_DSCP | codepoint that its packets leave with; 0: their own */
	/* What it lets through, on this DPU and in both directions together; each 0: any amount. */
	uint32_t sessions_per_s; /* new ones */
	uint64_t bytes_per_s;    /* of frames */
	uint32_t packets_per_s;
	uint8_t zero[12];
};
_Static_assert(sizeof(struct pk_rule_terms) == 32, "as long as it was, and without holes");

#define PK_DSCP     0x80 /* beside a codepoint in terms: there is one */
#define PK_DSCP_MAX 63

struct pk_msg_rule {
	uint64_t program;
	uint64_t id;     /* the same rule has the same number in every generation */
	uint32_t index;  /* 0 .. nb_rules - 1, first match decides */
	uint32_t line;   /* where it is written; 0 for a default */
	uint8_t tier;    /* never falls from one rule to the next; PASS leads to the next tier */
	uint8_t verdict; /* enum pk_verdict */
	uint8_t log;     /* enum pk_log_mode */
	uint8_t flags;   /* enum pk_rule_flags */
	char policy[64]; /* cut if longer */
	char name[48];
	char file[80]; /* its end, if longer */
	struct pk_rule_terms terms;
	struct pk_schedule schedule; /* when it is there; as if it were not, else */
	struct pk_msg_rule_match match;
	/* Only for sessions that speak one of these; none: any.  Numbers of dpi_app_id() (dpi/apps.h), ascending, 0
	 * behind the last.  A plane that does not know one never finds it, so the rule does not match. */
	uint32_t app[PK_MSG_APPS];
};

struct pk_msg_rule_more {
	uint64_t program;
	uint32_t index;
	uint32_t zero;
	struct pk_msg_rule_match match;
};

struct pk_msg_policy_commit {
	uint32_t nb_messages; /* between BEGIN and COMMIT, to catch a lost one */
	uint32_t zero;
};

/*
 * What policy has refused on this plane since it started; the generation is the one in force.  Said after
 * HELLO, and then, when it has changed, once a second.
 */
struct pk_msg_policy_counts {
	uint64_t refused; /* packets that would have opened a session, by a rule or a default */
	uint64_t revoked; /* sessions that a change of policy has ended */
};

/*
 * Whether the host behind this DPU is what `attested: true` asks for.  The verifier says so, on a socket
 * of its own (lib/posture.h), to the data plane and to the agent, with every renewal of the lease.  The
 * plane needs no transaction for it: local endpoints with an `unattested` identity become that, or cease
 * to be, for the next packet.  When the lease has run out, or nobody has ever said anything, the host is
 * not attested.
 */
struct pk_msg_posture {
	uint8_t attested;
	uint8_t state; /* enum attest_state, for people */
	uint8_t fresh; /* its evidence is fresh: identities may be issued for it */
	uint8_t zero[5];
	uint64_t epoch;         /* of the verifier; one more with each change of state */
	uint64_t until_mono_ns; /* CLOCK_BOOTTIME; end of the lease, 0 when not attested */
	char host[64];
	char reference
	    [64]; /* by which it is judged, for people: NAME@GENERATION, or of a file its hash */
	char text[320]; /* why, for people */
};

/* The posture of this epoch is in force: no packet is judged by another any more. */
struct pk_msg_posture_status {
	uint64_t epoch;
	uint64_t at_mono_ns; /* CLOCK_BOOTTIME of the moment */
	uint8_t attested;
	uint8_t zero[7];
};

struct pk_msg {
	struct pk_msg_header h;
	union {
		struct pk_msg_hello hello;
		struct pk_msg_policy_begin begin;
		struct pk_msg_policy_status status;
		struct pk_msg_policy_commit commit;
		struct pk_msg_policy_counts counts;
		struct pk_msg_identity identity;
		struct pk_msg_endpoint endpoint;
		struct pk_msg_set set;
		struct pk_msg_set_members members;
		struct pk_msg_program program;
		struct pk_msg_rule rule;
		struct pk_msg_rule_more more;
		struct pk_msg_posture posture;
		struct pk_msg_posture_status posture_status;
		uint8_t raw[PK_MSG_SIZE - sizeof(struct pk_msg_header)];
	};
};
_Static_assert(sizeof(struct pk_msg) == PK_MSG_SIZE, "a message must fill its slot exactly");

/* Zero *m and set version and type. */
void pk_msg_init(struct pk_msg *m, enum pk_msg_type type, uint64_t generation);

/*
 * Check everything about a message that can be judged without state: version, type, enumerations,
 * counts against array sizes, strings ended inside their arrays, prefixes without host bits,
 * ranges the right way round.  `len` is what recv() returned.
 * Context: any.  Returns 0 or -EPROTO with *diag.
 */
int pk_msg_check(const struct pk_msg *m, size_t len, struct pk_diag *diag);

/* "policy-begin" and so on, for logs; never NULL. */
const char *pk_msg_type_name(unsigned int type);
const char *pk_verdict_name(unsigned int verdict);
const char *pk_direction_name(unsigned int direction);
const char *pk_stage_name(unsigned int stage);
const char *pk_log_mode_name(unsigned int mode);
const char *pk_encryption_name(unsigned int encryption);
const char *pk_inspect_name(unsigned int inspect);

/* Whether a rule of `verdict` may have these terms.  Returns NULL, or what would have been right. */
const char *pk_rule_terms_check(const struct pk_rule_terms *t, unsigned int verdict);

static inline bool
pk_rule_terms_any(const struct pk_rule_terms *t)
{
	static const struct pk_rule_terms none;

	return memcmp(t, &none, sizeof(none)) != 0;
}
