#pragma once

#include "policy/arena.h"
#include "policy/findings.h"

/*
 * YAML text as a tree that remembers where each word stands.
 *
 * Of YAML only what a policy needs: maps with scalar keys, lists, scalars, and aliases as long as
 * they do not multiply.  Tags and merge keys are refused.  Scalars stay text; what they mean is for
 * the reader to say, who knows what he expects.
 */
#define POLICY_SOURCE_MAX  (16 * 1024 * 1024) /* bytes of text */
#define POLICY_NODES_MAX   (4 * 1024 * 1024)  /* words, maps and lists in one source */
#define POLICY_DEPTH_MAX   64                 /* maps and lists inside each other */
#define POLICY_ANCHORS_MAX 256                /* in one document */
#define POLICY_ALIASED_MAX 10000              /* nodes that aliases add to one document */

enum policy_node_kind {
	POLICY_SCALAR,
	POLICY_LIST,
	POLICY_MAP
};

struct policy_pair;

struct policy_node {
	enum policy_node_kind kind;
	uint8_t plain; /* scalar without quotes, so 1, true and null are what they look like */
	uint32_t line, column; /* from 1 */
	uint32_t nb;           /* items or pairs */
	uint32_t weight; /* nodes from here down, aliases followed; bounded, so it cannot wrap */
	union {
		const char *text; /* no NUL inside */
		struct policy_node **items;
		struct policy_pair *pairs; /* keys are scalars, each once */
	};
};

struct policy_pair {
	struct policy_node *key, *value;
};

struct policy_docs {
	struct policy_node **at; /* the root of each document, in the arena */
	size_t nb;
};

/*
 * Read text[0 .. len - 1], which `name` is the file of.  Words go to one arena and the tree over
 * them to another, since words are kept when the tree is done with.  Returns 0, -EINVAL with findings, or -ENOMEM.
 */
int policy_yaml_parse(struct policy_arena *texts, struct policy_arena *nodes, const char *name,
    const char *text, size_t len, struct policy_findings *f, struct policy_docs *out);

/* A plain scalar that says nothing: "", ~, null. */
int policy_node_is_null(const struct policy_node *n);

/* The value of `key` in a map, or NULL, also when `n` is no map. */
struct policy_node *policy_node_get(const struct policy_node *n, const char *key);
