#pragma once

#include <stdbool.h>

#include "fw/rule.h"

/*
 * Which addresses the names in policy have come to, by the DNS answers that have passed.
 *
 * An answer of a resolver the DPU is told to trust counts for all workloads of its address space.  Any other counts
 * for the workload that has asked, so that nobody opens a way for others by asking a resolver of his own.
 *
 * A name lasts as long as the answer says (its TTL, and FW_NAMES_TTL_MIN_S at least).  After that it opens no new session,
 * but one that was opened by it goes on: what has run out is remembered until its place is needed, for when a change of
 * policy asks about that session again.
 *
 * One table for all lcores, of fixed size.  Writers and readers hold a lock; only packets that begin a session ask, and only
 * while policy has names.
 */
#define FW_NAMES_MAX       (1u << 20) /* addresses at most */
#define FW_NAMES_TTL_MIN_S 5      /* a TTL of 0 is for one use, and that comes after the answer */
#define FW_NAMES_TTL_MAX_S 604800 /* RFC 8767 section 4 has a week as the longest */

struct fw_names;

/* For at least `room` addresses.  `seed`: secret and random.  Context: control thread.  Returns 0 or -ENOMEM. */
int fw_names_create(struct fw_names **out, uint32_t room, const uint64_t seed[2]);
void fw_names_destroy(struct fw_names *t);

/*
 * The address is known by these patterns until then.  `asker`: who alone may know; NULL: all.  What runs out first makes
 * room.  False: all that could make room is still good.  Context: any lcore.
 */
bool fw_names_learn(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, const struct fw_named *named, uint64_t now_ns, uint64_t until_ns);

/* The patterns an address is known by to that asker.  `held`: for a session that exists, so what has run out counts too. */
void fw_names_find(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, bool held, uint64_t now_ns, struct fw_named *out);

/* Addresses known, those that have run out included.  Context: any. */
uint32_t fw_names_nb(const struct fw_names *t);

/* For people: entry *at or the first behind it, and *at moves there.  False: there is no more. */
struct fw_names_entry {
	uint32_t vrf;
	struct pk_addr addr, asker; /* family 0: all */
	uint32_t nb;
	struct {
		uint64_t pattern, until_ns;
	} in[FW_NAMED_MAX];
};

bool fw_names_next(struct fw_names *t, uint32_t *at, struct fw_names_entry *out);
