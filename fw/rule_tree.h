#pragma once

#include "fw/rule_row.h"

/*
 * Which rules are about a key: an address, or a service.
 *
 * The key space is cut at the edges of all ranges into intervals, kept in a B-tree.  A range does not
 * write its rule into each interval it covers, which for a wide one would be all of them: where
 * it covers a whole subtree the rule is noted once, at the pointer to that (a segment tree on the
 * nodes of a B-tree).  So a range costs a few nodes on the way to its two edges, whatever lies inside,
 * and a lookup gathers the rows at the pointers on its way down: as many as the tree is deep.
 *
 *     root row   -> [ 0 | 10.0.0.0 | 10.64.0.0 | 11.0.0.0 ]     10.0.0.0/8 is noted at the second and
 *                     |       \ {8}      \ {8}       \          third pointer; 10.1.2.0/24 in one
 *                  leaf [10.0.0.0|10.1.2.0 {24}|10.1.3.0] ...   interval of a leaf
 *
 * Edges stay when their range goes; the owner builds the tree anew when enough has changed
 * (fw_tree_is_stale), which also puts notes made while the tree was small back to where they belong.
 */
typedef unsigned __int128 fw_key;

#define FW_TREE_KEYS 32 /* in a node: two cache lines of 32-bit keys */
#define FW_TREE_DEPTH \
	9 /* of 32-bit keys at most, with nodes half full; 128-bit keys that many would
                          * take more memory than there is */

struct fw_tree {
	fw_row all; /* rules about every key */
	void *root; /* struct fw_tree_node4 or 16; NULL: no edges */
	uint16_t depth;
	bool wide; /* 128-bit keys */
	uint32_t nb_ranges;
	uint32_t nb_built, nb_changes; /* ranges when built anew, changes since */
};

struct fw_tree_head {
	struct fw_part part;
	uint16_t nb;
	bool leaf;
};

/* The children of an inner node, with their notes. */
struct fw_tree_child {
	void *node;
	fw_row row;
};

/*
 * Keys in ascending order, the first below or equal to all that are looked up here; unused ones are
 * all ones, and nb says how many count.  A leaf has rows where an inner node has children.
 */
struct fw_tree_node4 {
	struct fw_tree_head h;
	uint32_t key[FW_TREE_KEYS];
	union {
		fw_row row[FW_TREE_KEYS];
		struct fw_tree_child child[FW_TREE_KEYS];
	};
};

struct fw_tree_node16 {
	struct fw_tree_head h;
	fw_key key[FW_TREE_KEYS] __attribute__((aligned(16)));
	union {
		fw_row row[FW_TREE_KEYS];
		struct fw_tree_child child[FW_TREE_KEYS];
	};
};

/*
 * Cut an empty tree at nb edges, in ascending order without duplicates, the first of them 0, so that the
 * ranges that follow find them there.  Returns 0 or -ENOMEM.
 */
int fw_tree_cut(struct fw_parts *m, struct fw_tree *t, const fw_key *edges, size_t nb);

/* Note `pos` for all keys from `first` to `last`, both included.  Returns 0 or -ENOMEM. */
int fw_tree_add(struct fw_parts *m, struct fw_tree *t, fw_key first, fw_key last, uint32_t pos,
    const struct fw_row_shape *shape);

/*
 * The reverse of an fw_tree_add() with the same range and position.  Ranges of one position may
 * overlap: what is noted where is then not said, but how often for each key.  Returns 0 or -ENOMEM.
 */
int fw_tree_remove(struct fw_parts *m, struct fw_tree *t, fw_key first, fw_key last, uint32_t pos,
    const struct fw_row_shape *shape);

/* All ranges have been added to what was an empty tree: count changes from here. */
void fw_tree_built(struct fw_tree *t);
bool fw_tree_is_stale(const struct fw_tree *t);

void fw_tree_drop(struct fw_parts *m, const struct fw_tree *t);
