#pragma once

#include "policy/app.h"
#include "policy/findings.h"
#include "policy/model.h"
#include "policy/selector.h"
#include "policy/service.h"

/*
 * What the sources say, as read: nothing looked up, nothing merged.  Texts and arrays belong to the
 * arena of their source.  `line` and `column` are for findings about the whole.
 */
#define POLICY_ALL_TENANTS "*"       /* of a policy, group or service that holds for every tenant */
#define POLICY_TENANT      "default" /* when metadata does not say */

struct policy_meta {
	const char *file;
	const char *name;
	const char *tenant; /* never NULL once read; POLICY_TENANT for kinds without one */
	struct policy_labels labels;
	const char *kind; /* of an imported policy, such as "NetworkPolicy"; NULL: one of ours */
	uint32_t line, column; /* of the document */
};

enum policy_peer_kind {
	POLICY_PEER_WORKLOADS = 0,
	POLICY_PEER_GROUP,
	POLICY_PEER_NETWORKS,
	POLICY_PEER_FQDNS,
	POLICY_PEER_ANY,
};

/* What a peer says of its host. */
enum policy_want {
	POLICY_WANT_ANY = 0,
	POLICY_WANT_FALSE,
	POLICY_WANT_TRUE,
};

struct policy_names {
	uint32_t nb;
	const char **at;
};

struct policy_prefixes {
	uint32_t nb;
	struct pk_prefix *at;
};

/*
 * What of an imported peer cannot be said before all sources are read; policy_k8s_join() turns it
 * into selectors and networks, so no later step sees it.
 */
enum policy_relation {
	POLICY_RELATION_NONE = 0,
	POLICY_RELATION_SAME,     /* namespaces that agree with the subject's in all of `keys` */
	POLICY_RELATION_NOT_SAME, /* those that have all of them, and not all the same */
	POLICY_RELATION_NODES,    /* addresses of the nodes that `selector` selects */
};

struct policy_peer {
	enum policy_peer_kind kind;
	enum policy_relation relation;
	uint32_t nb_keys;
	const char **keys; /* namespace labels, as workloads carry them */
	uint32_t line, column;
	const char *tenant; /* of the workloads; NULL: the document's */
	uint8_t attested;   /* enum policy_want; already in the selector */
	struct policy_selector selector;
	const char *group;
	struct policy_prefixes networks, except;
	struct policy_names fqdns; /* patterns (lib/name.h) */
};

#define POLICY_FQDNS_WHERE \
	"\"fqdns\" goes with egress rules that allow: where a name leads is known only of answers that have passed"

struct policy_peers {
	int any; /* no list was given, or `any` is in it */
	uint32_t nb;
	struct policy_peer *at;
};

struct policy_rule_def {
	const char *name; /* "#3" when none was given */
	uint32_t line, column;
	uint8_t action; /* enum pk_verdict */
	uint8_t log;    /* enum pk_log_mode */
	struct policy_peers peers;
	struct policy_services services;
	struct policy_apps apps;
	struct pk_rule_terms terms; /* of a rule that allows */
	struct pk_schedule schedule;
};

struct policy_rules_def {
	int given; /* the key is there, so the direction is isolated even without a rule */
	uint32_t nb;
	struct policy_rule_def *at;
};

/* One end of an inline test: labels of an imagined workload, or a name or address. */
struct policy_test_end {
	const char *text;   /* "tenant/name" or an address; NULL: by labels */
	const char *tenant; /* NULL: the document's */
	struct policy_labels labels;
	uint32_t line, column;
};

struct policy_test {
	uint32_t line, column;
	struct policy_test_end from, to;
	struct policy_service_ref service;
	int64_t at_s;   /* when, since 1970-01-01 UTC; PK_TIME_ANY: whenever */
	uint8_t expect; /* enum pk_verdict */
	uint8_t
	    encryption; /* what the flow has to have: enum pk_encryption + 1; 0: whatever it is */
};

struct policy_tests {
	uint32_t nb;
	struct policy_test *at;
};

enum policy_mode {
	POLICY_ENFORCE = 0,
	POLICY_AUDIT
};

struct policy_def {
	struct policy_meta meta;
	const char *tier;
	uint32_t tier_line, tier_column;
	uint32_t priority, priority_line, priority_column;
	uint8_t mode;               /* enum policy_mode */
	uint8_t related;            /* a peer has a relation */
	struct policy_peer subject; /* WORKLOADS, GROUP, or ANY: all workloads of the tenant */
	struct policy_rules_def rules[PK_DIRECTION_COUNT];
	struct policy_tests tests;
};

struct policy_group_def {
	struct policy_meta meta;
	struct policy_peers members;
};

struct policy_service_def {
	struct policy_meta meta;
	struct policy_services services;
};

struct policy_tier_def {
	struct policy_meta meta;
	uint32_t order; /* 1 .. 254, rising; what a rule's `tier` becomes */
	uint8_t end;    /* enum pk_verdict: DENY or PASS */
};

struct policy_tenant_def {
	struct policy_meta meta;
	uint8_t verdict; /* enum pk_verdict: DENY or ALLOW */
};

struct policy_address {
	struct pk_addr addr;
	uint32_t line, column;
};

struct policy_addresses {
	uint32_t nb;
	struct policy_address *at;
};

#define POLICY_VRF_VNI (UINT32_C(1) << 24) /* in vrf: the rest is a VNI, as in fw/overlay.h */

struct policy_workload_def {
	struct policy_meta meta;
	struct policy_addresses addresses;
	struct policy_ports ports;
	const char *dpu;   /* never NULL */
	const char *owner; /* of a Pod: "web[ReplicaSet]"; NULL: nobody made it from a template */
	uint32_t wire, vrf;
	uint8_t has_mac;
	uint8_t mac[6];
	uint8_t has_space; /* vrf has been read */
	uint8_t
	    imported; /* a Pod: it carries its namespace's labels too, and is allowed by default */
};

/* Of policy/govern.h. */
struct policy_rollout_def {
	struct policy_meta meta;
	struct policy_names dpus;
	struct policy_selector selector;
	const char *text; /* of the selector */
	uint32_t bake_s, abort_denied;
	uint8_t by_workloads, abort;
};

struct policy_role_def {
	struct policy_meta meta;
	struct policy_names subjects, tenants, tiers;
	unsigned int may; /* enum policy_may */
};

/* Of policy/reference.h. */
struct policy_reference_def {
	struct policy_meta meta;
	struct policy_names dpus;
	const char *values;
	uint8_t subject; /* enum policy_reference_subject */
};

/* Of policy/grant.h. */
struct policy_link_port {
	const char *dpu; /* * and ? stand for any */
	uint32_t wire;
};

struct policy_link_key {
	const char *ckn; /* hexadecimal, in small letters */
	const char *secret;
};

struct policy_link_def {
	struct policy_meta meta;
	struct {
		uint32_t nb;
		struct policy_link_port *at;
	} ports;
	struct {
		uint32_t nb;
		struct policy_link_key *at;
	} keys;
};

/* Of Kubernetes: what workloads and peers are joined with. */
struct policy_namespace_def {
	struct policy_meta meta; /* labels with their prefix, the name among them */
};

struct policy_node_def {
	struct policy_meta meta;
	struct policy_addresses addresses;
};

/* One vector per kind, of pointers into a source's arena. */
struct policy_objects {
	POLICY_VECTOR(struct policy_def *) policies;
	POLICY_VECTOR(struct policy_group_def *) groups;
	POLICY_VECTOR(struct policy_service_def *) services;
	POLICY_VECTOR(struct policy_tier_def *) tiers;
	POLICY_VECTOR(struct policy_tenant_def *) tenants;
	POLICY_VECTOR(struct policy_workload_def *) workloads;
	POLICY_VECTOR(struct policy_workload_def *) hosts; /* Pods with the address of their node */
	POLICY_VECTOR(struct policy_namespace_def *) namespaces;
	POLICY_VECTOR(struct policy_node_def *) nodes;
	POLICY_VECTOR(struct policy_rollout_def *) rollouts;
	POLICY_VECTOR(struct policy_role_def *) roles;
	POLICY_VECTOR(struct policy_reference_def *) references;
	POLICY_VECTOR(struct policy_link_def *) links;
};

void policy_objects_fini(struct policy_objects *o);

struct policy_source {
	struct policy_arena arena;
	struct policy_objects objects;
	const char *name;
	uint64_t device, inode; /* of a file; 0 for a text */
};

struct policy_model {
	POLICY_VECTOR(struct policy_source *) sources;
	policy_attested *attested; /* NULL: all hosts are */
	void *attested_arg;
};

static inline int
policy_model_attested(const struct policy_model *m, const char *dpu)
{
	return m->attested == NULL || m->attested(m->attested_arg, dpu);
}

/* One source, in no model yet.  `scratch` is reset; who reads many gives the same one.
 * Returns 0, -EINVAL with findings, or -ENOMEM. */
int policy_source_create(struct policy_source **out, const char *name, const char *text, size_t len,
    struct policy_arena *scratch, struct policy_findings *f);
void policy_source_destroy(struct policy_source *s); /* NULL is allowed */

/* Read one document into `o`.  Errors are counted in r->errors. */
void policy_document_read(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o);

/*
 * policy_compile() with workloads that are not in the model, as inline tests imagine them.  They
 * take part in everything but findings.
 */
int policy_compile_with(const struct policy_model *m, struct policy_workload_def *const *extra,
    size_t nb_extra, struct policy_ids *ids, struct policy_table **out, struct policy_findings *f);

/* "tenant/name" of what metadata names. */
const char *policy_meta_key(struct policy_arena *a, const struct policy_meta *m);
