#pragma once

#include <stdbool.h>

#include "policy/hash.h"
#include "policy/map.h"
#include "policy/model_priv.h"
#include "policy/network.h"

/*
 * One compilation, from first look to finished table.
 *
 *     gather   all sources' objects together; names, tiers, tenants, priorities     compile.c
 *     intern   selectors to csel, which says what labels matter                     intern.c
 *     intern   label sets to identities, selectors to their members                 intern.c
 *     lay out  peers to sets, rules to templates                                    layout.c
 *     lay out  tiers to programs, all of it to the table                            program.c
 *
 * The second step decides how many identities there are: only labels that some selector names, and
 * ports that some rule names, tell two workloads apart.  Everything after it speaks of identities by
 * index, in order of their keys, which does not depend on the order of files.
 *
 * Each step is a function of the one before and of nothing else.  policy_compiler (compiler.h) keeps
 * the results, and live.c redoes only what a change reaches: a new workload of a known identity ends
 * after the second step; a new identity is asked of the selectors that name one of its labels; a
 * changed policy concerns its own templates and the programs that hold them.
 */
#define POLICY_RULES_MAX (16 * 1024 * 1024) /* in all programs together */
#define NONE             UINT32_MAX

typedef POLICY_VECTOR(uint32_t) numbers;

struct compile_tenant {
	const char *name;
	uint32_t number; /* 0 as long as nobody lives there */
	uint32_t nb;     /* its identities */
	enum pk_verdict verdict;
	int declared;
	uint32_t end, open_end; /* templates of what holds after all tiers, plus 1; 0: not made yet */
};

struct compile_tier {
	const char *name;
	uint8_t order;
	enum pk_verdict end; /* DENY, or PASS to go on */
	uint32_t refusal[2]; /* template of DENY at its end, by enforced, plus 1; 0: not made yet */
};

struct compile_requirement {
	uint32_t key; /* symbols */
	enum policy_op op;
	uint32_t nb;
	const uint32_t *values;
};

/* A selector in a tenant; equal ones are one. */
struct compile_selector {
	const char *text;                     /* "acme{app=db}" */
	uint32_t tenant;                      /* index, NONE if there is no such tenant */
	int everywhere;                       /* in all tenants */
	const struct policy_selector *source; /* only while the step that names it runs */
	uint32_t nb;
	struct compile_requirement *requirements;
	numbers members; /* identity indexes, ascending */
	uint32_t set;    /* index of its set, or NONE as long as nobody asked */
	/* of a compilation that lives: */
	uint32_t refs;    /* policies that name it, and groups; 0: it is gone */
	numbers sets;     /* it contributes to */
	numbers subjects; /* policies whose subject it is, or a part of it */
};

struct compile_group {
	const struct policy_group_def *def;
	enum {
		GROUP_NEW = 0,
		GROUP_OPEN,
		GROUP_DONE
	} state;
	numbers selectors;
	struct policy_networks networks;
	POLICY_VECTOR(const char *) fqdns; /* patterns, some perhaps twice */
	int has_networks;
	uint32_t joined; /* the last group this became a part of, so that it does so once */
	uint32_t identity_set, prefix_set; /* or NONE */
};

struct compile_port {
	uint32_t name; /* symbol */
	uint8_t proto;
	uint16_t port;
};

struct compile_identity {
	const char *key; /* "acme{app=db,env=prod;http=tcp/8080}" */
	const char *labels;
	uint32_t id;
	uint32_t tenant;
	int imported; /* from Kubernetes, where what nobody selects is allowed */
	uint32_t nb_labels, nb_ports;
	const uint32_t *labels_at; /* pairs of symbols */
	const struct compile_port *ports;
	uint32_t nb_workloads; /* who have it, in one posture of their host or in both */
	numbers policies;      /* those it is a subject of, in order */
	/* of a compilation that lives: */
	uint8_t awake;  /* selectors know it */
	uint8_t listed; /* it is in the table */
	uint8_t dirty;
	uint32_t program_at[PK_DIRECTION_COUNT]; /* indexes of `program` */
	uint64_t program[PK_DIRECTION_COUNT];
};

/* A rule as programs hold it, once, with a hash that names its content. */
struct compile_template {
	struct policy_rule rule;
	uint64_t hash;
};

struct compile_named_port {
	uint32_t name; /* symbol */
	uint8_t proto; /* or PK_PROTO_ANY */
};

struct compile_rule {
	const struct policy_rule_def *def;
	struct policy_rule rule; /* without services of named ports */
	numbers sets;            /* of its peers */
	POLICY_VECTOR(struct pk_service) services;
	POLICY_VECTOR(struct compile_named_port) ports;
	numbers templates; /* of an egress rule, or of an ingress rule without named ports */
};

struct compile_policy {
	const struct policy_def *def;
	const struct compile_tier *tier;
	uint32_t selector, group; /* of the subject; NONE */
	uint32_t nb_rules[PK_DIRECTION_COUNT];
	struct compile_rule *rules[PK_DIRECTION_COUNT];
	numbers selectors; /* of a compilation that lives: it holds references to */
};

/* An address and whose it is. */
struct compile_place {
	const struct policy_workload_def *workload;
	const struct policy_address *address;
	uint32_t index; /* of the workload in all.workloads */
};

struct compile_set {
	struct policy_set set;
	numbers members; /* identity indexes; of a compilation that lives: numbers, ascending */
	uint32_t selector, group; /* whose members it has, or NONE */
	uint32_t refs; /* of a compilation that lives: rules that name it; 0: it is gone */
};

struct compile_program {
	uint64_t id; /* 0: nobody's, and free */
	enum pk_direction direction;
	numbers templates;
	uint32_t refs;             /* of a compilation that lives: identities it judges */
	struct policy_rule *rules; /* the same, if it came later */
};

/* Identities of a tenant by label, by the label's mere presence (value NONE), and all (key NONE too). */
struct compile_postings {
	struct policy_map index;
	POLICY_VECTOR(numbers) lists;
};

/* A text that grows on the heap; one serves for all workloads. */
struct compile_scratch {
	char *at;
	size_t nb, cap;
};

/* The table as its owner sees it; callers see the first member. */
struct policy_table_own {
	struct policy_table t;
	struct policy_arena arena;
};

struct compile {
	const struct policy_model *model;
	struct policy_ids *ids;
	struct policy_findings *findings;
	struct policy_arena arena; /* gone when we are done */
	struct policy_hash hash;
	struct policy_table_own *table;
	unsigned int errors;
	int nomem;
	int lives; /* beyond its first table */
	unsigned int group_depth;

	struct policy_objects all; /* of all sources; sorted by name */
	size_t nb_real_workloads;  /* without those a test imagines */
	int strict_tenants;        /* one is declared, so all must be */

	POLICY_VECTOR(struct compile_tenant) tenants;
	struct policy_map tenant_index;
	POLICY_VECTOR(struct compile_tier) tiers;
	POLICY_VECTOR(struct compile_group) groups;
	struct policy_map group_index;                 /* "tenant/name" */
	struct policy_map service_index;               /* "tenant/name" -> index in all.services */
	POLICY_VECTOR(struct compile_policy) policies; /* in order of tier, priority */

	struct policy_map symbol_index;
	POLICY_VECTOR(const char *) symbols;
	POLICY_VECTOR(uint32_t) matters; /* by symbol: how often it is named as a key or port */

	POLICY_VECTOR(struct compile_selector) selectors;
	struct policy_map selector_index; /* by text */
	POLICY_VECTOR(struct compile_identity) identities;
	struct policy_map identity_index; /* by key */
	struct compile_postings postings;
	struct compile_scratch scratch;
	struct compile_place *places; /* by vrf, then address */
	size_t nb_places;
	uint32_t *workload_identity; /* by index in all.workloads; while its host is attested */
	uint32_t *workload_unattested;

	POLICY_VECTOR(struct compile_set) sets;
	struct policy_map set_index; /* by id */
	POLICY_VECTOR(struct compile_template) templates;
	struct policy_map template_index; /* by hash; ingress variants */
	POLICY_VECTOR(struct compile_program) programs;
	struct policy_map program_index; /* by id */
	numbers layout;                  /* of the program under way */
	struct policy_map text_index;    /* names that rules share, in the table's arena */
	POLICY_VECTOR(const char *) texts;
	uint64_t nb_rules;
};

/* compile.c: for all steps.  -1 and c->nomem when there is no memory. */
void compile_error(struct compile *c, const char *file, uint32_t line, uint32_t column,
    const char *code, const char *fmt, ...) PK_PRINTF(6, 7);
void compile_warn(struct compile *c, const char *file, uint32_t line, uint32_t column,
    const char *code, const char *fmt, ...) PK_PRINTF(6, 7);
int compile_push(struct compile *c, numbers *v, uint32_t value);
/* `unknown WHAT "word"...`, with a suggestion out of `known`. */
void compile_unknown(struct compile *c, const char *file, uint32_t line, uint32_t column,
    const char *code, const char *what, const char *word, const char *const *known, size_t nb);
/* All steps.  Returns 0 with the caller owning *out, -EINVAL with findings, or -ENOMEM. */
int compile_whole(struct compile **out, const struct policy_model *m,
    struct policy_workload_def *const *extra, size_t nb_extra, struct policy_ids *ids,
    struct policy_findings *f);
void compile_destroy(struct compile *c);
void compile_policy_fini(struct compile_policy *p);

/* gather.c */
void compile_gather(struct compile *c, struct policy_workload_def *const *extra, size_t nb_extra);
void compile_tenants(struct compile *c);
void compile_tiers(struct compile *c);
void compile_order(struct compile *c);
void compile_index_names(struct compile *c);
int compile_by_meta(const void *va, const void *vb);       /* of pointers to metadata */
int compile_by_precedence(const void *va, const void *vb); /* of struct compile_policy */
void compile_duplicate(struct compile *c, const struct policy_meta *first,
    const struct policy_meta *m, const char *kind, int global);
void compile_tenant_use(struct compile *c, const char *name, int imported, const char *file,
    uint32_t line, uint32_t column);
void compile_policy_tenants(struct compile *c, const struct policy_def *d);
const struct compile_tier *compile_policy_tier(struct compile *c, const struct policy_def *d);
void compile_equal_priority(
    struct compile *c, const struct compile_policy *a, const struct compile_policy *b);
uint32_t compile_group_find(const struct compile *c, const char *tenant, const char *name);
const struct policy_service_def *compile_service(
    struct compile *c, const char *tenant, const char *name);

/* resolve.c */
void compile_resolve(struct compile *c);
void compile_resolve_policy(struct compile *c, struct compile_policy *p);

/* places.c */
void compile_places(struct compile *c);
void compile_endpoints(struct compile *c);
void compile_unplaced(struct compile *c);
void compile_same_address(struct compile *c, const struct policy_workload_def *a,
    const struct policy_address *of_a, const struct policy_workload_def *b,
    const struct policy_address *of_b);

/* intern.c */
uint32_t compile_symbol(struct compile *c, const char *text);
uint32_t compile_symbol_find(const struct compile *c, const char *text);
/* Say that workloads differ when they differ in this label or port. */
void compile_matters(struct compile *c, uint32_t symbol);
uint32_t compile_selector(struct compile *c, const char *tenant, const struct policy_selector *s);
void compile_identities(struct compile *c);
void compile_members(struct compile *c);
/* The identity of a workload whose host is attested or not, made now if nobody has it yet; NONE when there
 * is no memory.  Mostly they are one and the same. */
uint32_t compile_identity(struct compile *c, const struct policy_workload_def *w, bool attested);
/* Give it its number, and let selectors find it. */
void compile_identity_enter(struct compile *c, uint32_t identity);
int compile_selects(const struct compile_selector *s, const struct compile_identity *id);
void compile_selector_members(struct compile *c, struct compile_selector *s);
void compile_postings_fini(struct compile_postings *p);

/* layout.c */
void compile_rules(struct compile *c);
void compile_policy(struct compile *c, uint32_t policy);
/* One copy of `text` in the table's arena, for all that mention it. */
const char *compile_text(struct compile *c, const char *text);
uint64_t compile_name_hash(struct compile *c, const char *kind, const char *name);
/* File a rule with these peers and services; returns its index, the same for equal content. */
uint32_t compile_template(struct compile *c, const struct policy_rule *base, const numbers *sets,
    const struct pk_service *services, uint32_t nb_services);
/* The variant of an ingress rule with named ports for this subject; NONE if nothing is left. */
uint32_t compile_variant(
    struct compile *c, const struct compile_rule *r, const struct compile_identity *id);

/* program.c */
void compile_layout(struct compile *c);
/* The program of this identity in direction `dir`, filed; its index. */
uint32_t compile_program(struct compile *c, const struct compile_identity *id, int dir);
/* Its rules, laid out in `out`[nb_rules]. */
void compile_program_rules(
    const struct compile *c, const struct compile_program *p, struct policy_rule *out);

/* For qsort() and bsearch(). */
static inline int
compile_by_number(const void *va, const void *vb)
{
	uint32_t a = *(const uint32_t *)va, b = *(const uint32_t *)vb;

	return (a > b) - (a < b);
}

static inline int
compile_by_id(const void *va, const void *vb)
{
	uint64_t a = *(const uint64_t *)va, b = *(const uint64_t *)vb;

	return (a > b) - (a < b);
}
