#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * The memory that generations share.
 *
 * A generation is a handful of roots; below them are parts: nodes of trees, buckets of tables,
 * rows, records.  A part is never altered once the change that made it is committed.  A change copies the
 * parts on the way from a root to what it alters, and the rest it leaves where it is, so that the
 * next generation shares it with the one before.
 *
 * Generations follow each other in a line, so no part needs a reference count: it is alive from the
 * change that made it to the change that dropped it, and can be freed when all generations in
 * between are gone.  Each change leaves a list of what it dropped (struct fw_dropped), and that list,
 * not the size of the rules, is what it costs to free a generation.
 *
 * Within a change a part it made itself may be altered in place and freed at once (fw_part_mine).
 * Taking a change back frees what it made; nothing else has moved.
 *
 * Context of all of it: control thread.
 */
struct fw_part {
	uint64_t
	    epoch; /* change that made it; never comes round, or an old part would pass for new */
	size_t index; /* in the list of what that change made */
};

struct fw_dropped {
	struct fw_dropped *next;
	size_t nb, room;
	void *part[];
};

struct fw_parts {
	uint64_t epoch; /* of the change under way */
	bool failed;    /* out of memory: it cannot be committed */
	bool closing;   /* nobody reads any more: drop is free */
	void **made;
	size_t nb_made, room_made;
	struct fw_dropped *dropped;
	uint64_t nb;    /* alive, dropped ones included */
	uint64_t bytes; /* with the allocator's own */
};

void fw_parts_begin(struct fw_parts *m);

/* The change stays.  Returns what it dropped, for fw_dropped_free() at the right time; may be NULL. */
struct fw_dropped *fw_parts_commit(struct fw_parts *m);

/* The change was none. */
void fw_parts_abort(struct fw_parts *m);

/* Free all parts in the list, and the list. */
void fw_dropped_free(struct fw_parts *m, struct fw_dropped *d);

/* Frees what is left of `m` itself; all parts must be gone. */
void fw_parts_fini(struct fw_parts *m);

/* A part of `size` bytes, its struct fw_part first, the rest zero.  NULL when out of memory. */
void *fw_part_new(struct fw_parts *m, size_t size);

/* The part is not in the newest generation any more.  NULL is allowed. */
void fw_part_drop(struct fw_parts *m, void *part);

/* May it be altered in place? */
static inline bool
fw_part_mine(const struct fw_parts *m, const void *part)
{
	return ((const struct fw_part *)part)->epoch == m->epoch;
}
