#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/msg.h"

/*
 * The members of a set of identities or prefixes, and what a transaction does to them.  A set of kind name has one:
 * the number of its pattern, which stands for all addresses that this comes to and is the same in every generation.
 *
 * A member remembers whether it was there before the transaction, so that taking the transaction
 * back needs no memory, and what it changed can be told at its end: a member added and removed again
 * is no change.  Context: control thread.
 */
struct fw_member {
	union {
		uint32_t identity;
		struct pk_prefix prefix;
		uint64_t name; /* fw_set_name() */
	};
	bool now, before;
	bool changed; /* on the list below */
};

struct fw_set {
	uint64_t id;
	uint8_t kind; /* enum pk_set_kind */
	uint32_t nb_now;
	uint32_t nb, room; /* members, gone ones included */
	struct fw_member *member;
	uint32_t mask;
	uint32_t *slot;    /* hash of a member -> its index + 1 */
	uint32_t *changed; /* indices of members touched by the transaction */
	uint32_t nb_changed, room_changed;
	char pattern[]; /* of kind name (lib/name.h) */
};

/* `name`: the pattern, for kind name.  NULL when out of memory. */
struct fw_set *fw_set_create(uint64_t id, uint8_t kind, const char *name);
void fw_set_destroy(struct fw_set *s);

uint64_t fw_set_name(const char *pattern);

/* `member` is a uint32_t, a struct pk_prefix or a uint64_t, by kind.  Adding what is there is no error.
 * Returns 0 or -ENOMEM. */
int fw_set_add(struct fw_set *s, const void *member);

/* Returns 0, -ENOENT when it is not there, or -ENOMEM. */
int fw_set_remove(struct fw_set *s, const void *member);

/* Is it a member; was it, before the transaction? */
bool fw_set_has(const struct fw_set *s, const void *member);
bool fw_set_had(const struct fw_set *s, const void *member);

/* What the transaction did stays; or was nothing. */
void fw_set_commit(struct fw_set *s);
void fw_set_abort(struct fw_set *s);
