#pragma once

#include "policy/connect.h"
#include "policy/model.h"

/*
 * Who can reach whom on what, in words of the inventory.
 *
 * Workloads are grouped into nodes: those shown under one name that no rule tells apart.  The world
 * outside is a list of address ranges, as few as say the truth about one node.  Two worlds, two
 * versions of policy or inventory, can be laid over each other: then a node is a group that neither
 * tells apart, and a row says what each of them allows.
 */
#define POLICY_WORLDS_MAX 2

struct policy_workload_def;

struct policy_world {
	const struct policy_model *model;
	const struct policy_table *table;
	/* Workloads that are in the table but not in the inventory (policy/absent.h): of flows with them
	 * only the other side is asked.  Their `owner` is the whole name they are shown by. */
	struct policy_workload_def *const *absent;
	size_t nb_absent;
};

enum policy_grouping {
	POLICY_BY_WORKLOAD = 0, /* Pods of one owner are one, other workloads each by name */
	POLICY_BY_LABELS,       /* those of one tenant with the same labels are one */
};

struct policy_reach_node {
	const char *name;   /* "tenant/name", "namespace/name[Kind]" or "tenant/{app=web}" */
	const char *tenant; /* for grouping in pictures */
	const char *label;  /* the name without the tenant */
	uint32_t nb_workloads;
	uint8_t present; /* bit w: it is part of world w */
	uint8_t absent;  /* it stands for workloads that are not there */
};

struct policy_reach;

/* Borrows the worlds.  Context: one thread at a time.  Returns 0 or -ENOMEM. */
int policy_reach_create(struct policy_reach **out, const struct policy_world *worlds,
    unsigned int nb_worlds, enum policy_grouping grouping);
void policy_reach_destroy(struct policy_reach *r);

size_t policy_reach_count(const struct policy_reach *r);
const struct policy_reach_node *policy_reach_node(const struct policy_reach *r, size_t i);
struct policy_pool *policy_reach_pool(struct policy_reach *r);

/* Some of the ends: nodes, and a piece of the world outside. */
struct policy_choice {
	uint8_t *nodes; /* by node, NULL: all */
	int outside;    /* and `low` to `high` of it; family 0: all */
	struct pk_addr low, high;
};

/*
 * Choose by "tenant/name" of a workload or node, "tenant/" or "tenant/" followed by an asterisk for all
 * of a tenant, "key=value" for those that carry a label, an address or network, or "outside".
 * policy_choice_fini() frees what is in *out.  Returns 0, -ENOENT with *diag, or -ENOMEM.
 */
int policy_reach_choose(const struct policy_reach *r, const char *text, struct policy_choice *out,
    struct pk_diag *diag);
void policy_choice_fini(struct policy_choice *c);

struct policy_reach_row {
	const struct policy_reach_node *src, *dst; /* NULL: outside, and then: */
	struct pk_addr low, high;                  /* the part of it */
	unsigned int families;               /* bit 0: IPv4, bit 1: IPv6; what this is true of */
	uint32_t allowed[POLICY_WORLDS_MAX]; /* numbers of the pool; 0: nothing */
};

/* Not 0 ends the walk, and is passed on.  The row is borrowed for the call. */
typedef int policy_reach_sink(void *arg, const struct policy_reach_row *row);

/*
 * Say all rows with anything allowed, from `from` to `to` (NULL: everybody), or, with two worlds, all that
 * differ.  Workloads of one node reach each other when the node has more than one.
 * Rows from outside come first, then by source; ends are in order of name, address ranges ascending.
 * Returns 0, what the sink returned, or -ENOMEM.
 */
int policy_reach_each(struct policy_reach *r, const struct policy_choice *from,
    const struct policy_choice *to, int audit, policy_reach_sink *sink, void *arg);

/* "tenant/name", or "192.0.2.0-192.0.2.255". */
#define POLICY_REACH_TEXT 512
const char *policy_reach_end_text(
    const struct policy_reach_row *row, int dst, char buf[POLICY_REACH_TEXT]);
