#include "fw/rule_tree.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define STALE_MIN 1024               /* changes before a tree is ever stale */
#define FILL      (FW_TREE_KEYS - 8) /* keys in a node that is made at once: room to grow */

/* A node of either width. */
union node {
	struct fw_tree_head h;
	struct fw_tree_node4 n4;
	struct fw_tree_node16 n16;
};

static fw_key
key_get(const struct fw_tree *t, const union node *n, unsigned int i)
{
	return t->wide ? n->n16.key[i] : n->n4.key[i];
}

static void
key_set(const struct fw_tree *t, union node *n, unsigned int i, fw_key key)
{
	if (t->wide)
		n->n16.key[i] = key;
	else
		n->n4.key[i] = (uint32_t)key;
}

static fw_row *
rows(const struct fw_tree *t, union node *n)
{
	return t->wide ? n->n16.row : n->n4.row;
}

static struct fw_tree_child *
children(const struct fw_tree *t, union node *n)
{
	return t->wide ? n->n16.child : n->n4.child;
}

/* The note at entry i, whichever kind of node it is. */
static fw_row *
note(const struct fw_tree *t, union node *n, unsigned int i)
{
	return n->h.leaf ? &rows(t, n)[i] : &children(t, n)[i].row;
}

static size_t
node_size(const struct fw_tree *t, bool leaf)
{
	size_t entry = leaf ? sizeof(fw_row) : sizeof(struct fw_tree_child);

	return (t->wide ? offsetof(struct fw_tree_node16, row)
	                : offsetof(struct fw_tree_node4, row)) +
	    FW_TREE_KEYS * entry;
}

static union node *
node_new(struct fw_parts *m, const struct fw_tree *t, bool leaf)
{
	union node *n = fw_part_new(m, node_size(t, leaf));

	if (n == NULL)
		return NULL;
	n->h.leaf = leaf;
	for (unsigned int i = 0; i < FW_TREE_KEYS; i++)
		key_set(t, n, i, ~(fw_key)0);
	return n;
}

/* *at, to be altered. */
static union node *
node_own(struct fw_parts *m, const struct fw_tree *t, void **at)
{
	union node *n = *at, *copy;

	if (fw_part_mine(m, n))
		return n;
	copy = fw_part_new(m, node_size(t, n->h.leaf));
	if (copy == NULL)
		return NULL;
	memcpy((char *)copy + sizeof(struct fw_part), (char *)n + sizeof(struct fw_part),
	    node_size(t, n->h.leaf) - sizeof(struct fw_part));
	fw_part_drop(m, n);
	*at = copy;
	return copy;
}

/* The entry that `key` falls into: the last that is not above it. */
static unsigned int
entry_of(const struct fw_tree *t, const union node *n, fw_key key)
{
	unsigned int low = 0, high = n->h.nb;

	while (high - low > 1) {
		unsigned int mid = (low + high) / 2;

		if (key_get(t, n, mid) <= key)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* Open a place for entry i. */
static void
entry_open(const struct fw_tree *t, union node *n, unsigned int i)
{
	unsigned int after = n->h.nb - i;

	if (t->wide)
		memmove(&n->n16.key[i + 1], &n->n16.key[i], after * sizeof(n->n16.key[0]));
	else
		memmove(&n->n4.key[i + 1], &n->n4.key[i], after * sizeof(n->n4.key[0]));
	if (n->h.leaf)
		memmove(&rows(t, n)[i + 1], &rows(t, n)[i], after * sizeof(fw_row));
	else
		memmove(&children(t, n)[i + 1], &children(t, n)[i],
		    after * sizeof(struct fw_tree_child));
	n->h.nb++;
}

/* Move the upper half of a full node into a new one. */
static union node *
node_split(struct fw_parts *m, const struct fw_tree *t, union node *n)
{
	union node *right = node_new(m, t, n->h.leaf);
	unsigned int half = n->h.nb / 2;

	if (right == NULL)
		return NULL;
	for (unsigned int i = half; i < n->h.nb; i++) {
		key_set(t, right, i - half, key_get(t, n, i));
		key_set(t, n, i, ~(fw_key)0);
		if (n->h.leaf)
			rows(t, right)[i - half] = rows(t, n)[i];
		else
			children(t, right)[i - half] = children(t, n)[i];
	}
	right->h.nb = (uint16_t)(n->h.nb - half);
	n->h.nb = (uint16_t)half;
	return right;
}

/*
 * Cut at `key` below *at.  If that made the node too large, *split is the upper part of it, else
 * NULL.
 */
static int
cut_below(struct fw_parts *m, struct fw_tree *t, void **at, fw_key key,
    const struct fw_row_shape *shape, union node **split)
{
	union node *n = *at, *new_child = NULL;
	unsigned int i = entry_of(t, n, key);
	fw_row copy;

	*split = NULL;
	if (n->h.leaf && key_get(t, n, i) == key)
		return 0;
	n = node_own(m, t, at);
	if (n == NULL)
		return -ENOMEM;
	if (!n->h.leaf) {
		int rc = cut_below(m, t, &children(t, n)[i].node, key, shape, &new_child);

		if (rc < 0 || new_child == NULL)
			return rc;
		key = key_get(t, new_child, 0);
	}
	if (n->h.nb == FW_TREE_KEYS) {
		*split = node_split(m, t, n);
		if (*split == NULL)
			return -ENOMEM;
		if (i >= n->h.nb) {
			i -= n->h.nb;
			n = *split;
		}
	}
	/* Both halves of what was one are covered by what covered it. */
	if (fw_row_copy(m, *note(t, n, i), &copy, shape) < 0)
		return -ENOMEM;
	entry_open(t, n, i + 1);
	key_set(t, n, i + 1, key);
	if (n->h.leaf)
		rows(t, n)[i + 1] = copy;
	else
		children(t, n)[i + 1] = (struct fw_tree_child){ .node = new_child, .row = copy };
	return 0;
}

static int
cut(struct fw_parts *m, struct fw_tree *t, fw_key key, const struct fw_row_shape *shape)
{
	union node *split, *top;
	int rc;

	if (key == 0)
		return 0;
	if (t->root == NULL) {
		top = node_new(m, t, true);
		if (top == NULL)
			return -ENOMEM;
		key_set(t, top, 0, 0);
		top->h.nb = 1;
		t->root = top;
		t->depth = 1;
	}
	rc = cut_below(m, t, &t->root, key, shape, &split);
	if (rc < 0 || split == NULL)
		return rc;
	top = node_new(m, t, false);
	if (top == NULL)
		return -ENOMEM;
	key_set(t, top, 0, 0);
	key_set(t, top, 1, key_get(t, split, 0));
	children(t, top)[0].node = t->root;
	children(t, top)[1].node = split;
	top->h.nb = 2;
	t->root = top;
	t->depth++;
	PK_ASSERT(t->depth <= FW_TREE_DEPTH);
	return 0;
}

static fw_key
last_key(const struct fw_tree *t)
{
	return t->wide ? ~(fw_key)0 : UINT32_MAX;
}

/* Add or remove `pos` on [first, last] in the subtree below *at, which ends at `end`. */
static int
mark(struct fw_parts *m, struct fw_tree *t, void **at, fw_key end, fw_key first, fw_key last,
    uint32_t pos, bool add, const struct fw_row_shape *shape)
{
	union node *n = node_own(m, t, at);

	if (n == NULL)
		return -ENOMEM;
	for (unsigned int i = entry_of(t, n, first); i < n->h.nb; i++) {
		fw_key from = key_get(t, n, i);
		fw_key to = i + 1u < n->h.nb ? key_get(t, n, i + 1) - 1 : end;
		int rc;

		if (from > last)
			break;
		if (first <= from && to <= last) {
			rc = add ? fw_row_add(m, note(t, n, i), pos, shape)
			         : fw_row_remove(m, note(t, n, i), pos, shape);
			if (rc < 0)
				return rc;
			if (add || rc == 1)
				continue;
		}
		/* In part, or it was noted further down when this pointer was not here yet. */
		PK_ASSERT(!n->h.leaf);
		rc = mark(m, t, &children(t, n)[i].node, to, first, last, pos, add, shape);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
fw_tree_add(struct fw_parts *m, struct fw_tree *t, fw_key first, fw_key last, uint32_t pos,
    const struct fw_row_shape *shape)
{
	int rc;

	t->nb_ranges++;
	t->nb_changes++;
	if (first == 0 && last == last_key(t))
		return fw_row_add(m, &t->all, pos, shape);
	rc = cut(m, t, first, shape);
	if (rc == 0 && last != last_key(t))
		rc = cut(m, t, last + 1, shape);
	if (rc == 0)
		rc = mark(m, t, &t->root, last_key(t), first, last, pos, true, shape);
	return rc;
}

int
fw_tree_remove(struct fw_parts *m, struct fw_tree *t, fw_key first, fw_key last, uint32_t pos,
    const struct fw_row_shape *shape)
{
	t->nb_ranges--;
	t->nb_changes++;
	if (first == 0 && last == last_key(t))
		return fw_row_remove(m, &t->all, pos, shape) < 0 ? -ENOMEM : 0;
	return mark(m, t, &t->root, last_key(t), first, last, pos, false, shape);
}

/* One level of a tree of which the keys are known: nodes over `nb` keys, `step` below each. */
static union node *
level(struct fw_parts *m, struct fw_tree *t, const fw_key *keys, size_t nb, unsigned int height)
{
	size_t step = 1; /* keys below one entry */
	union node *n = node_new(m, t, height == 0);

	if (n == NULL)
		return NULL;
	for (unsigned int h = 0; h < height; h++)
		step *= FILL;
	for (size_t at = 0; at < nb; at += step) {
		key_set(t, n, n->h.nb, keys[at]);
		if (height > 0) {
			union node *child =
			    level(m, t, keys + at, PK_MIN(step, nb - at), height - 1);

			if (child == NULL)
				return NULL; /* the change is taken back, and this with it */
			children(t, n)[n->h.nb].node = child;
		}
		n->h.nb++;
	}
	return n;
}

int
fw_tree_cut(struct fw_parts *m, struct fw_tree *t, const fw_key *edges, size_t nb)
{
	unsigned int height = 0;
	size_t room = FILL;

	PK_ASSERT(t->root == NULL && (nb == 0 || edges[0] == 0));
	if (nb <= 1)
		return 0;
	for (; room < nb; room *= FILL)
		height++;
	t->root = level(m, t, edges, nb, height);
	t->depth = (uint16_t)(height + 1);
	return t->root != NULL ? 0 : -ENOMEM;
}

void
fw_tree_built(struct fw_tree *t)
{
	t->nb_built = t->nb_ranges;
	t->nb_changes = 0;
}

bool
fw_tree_is_stale(const struct fw_tree *t)
{
	return t->nb_changes > STALE_MIN + 2 * (uint64_t)t->nb_built;
}

static void
node_drop(struct fw_parts *m, const struct fw_tree *t, union node *n)
{
	for (unsigned int i = 0; i < n->h.nb; i++) {
		fw_row_drop(m, *note(t, n, i));
		if (!n->h.leaf)
			node_drop(m, t, children(t, n)[i].node);
	}
	fw_part_drop(m, n);
}

void
fw_tree_drop(struct fw_parts *m, const struct fw_tree *t)
{
	fw_row_drop(m, t->all);
	if (t->root != NULL)
		node_drop(m, t, t->root);
}
