#pragma once

#include <stdbool.h>

#include "policy/proto/picket.pb-c.h"
#include "policy/resource.h"

/*
 * What a DPU is sent, in bytes (policy/proto/picket.proto): functions of what it holds and of what it
 * should hold, and of nothing else.
 */

/* One resource on its way from what the DPU holds to what it should. */
struct server_step {
	struct policy_resource *old; /* NULL: new; without a body when only its version is known */
	struct policy_resource *now; /* NULL: to be removed */
};

/* Bytes that grow; zeroed is empty.  The owner frees `bytes`.  Once failed, for want of memory, it stays so. */
struct server_out {
	uint8_t *bytes;
	size_t len, room;
	bool failed;
};

/*
 * Add a picket.v1.Changes to `body`, as much as one message takes: from item[*at], of which *offset bytes
 * have been packed before, and these two move on.  Of a set only the members that differ are said, if that
 * is shorter.
 */
void server_pack_changes(
    struct server_out *body, const struct server_step *item, size_t nb, size_t *at, size_t *offset);

/* The same as a picket.v1.ServerMessage of its own.  Returns the length of the changes. */
size_t server_pack_part(struct server_out *out, uint64_t nonce, const struct server_step *item,
    size_t nb, size_t *at, size_t *offset);

/*
 * A picket.v1.ServerMessage with a whole generation, but for its changes: `head`, then `changes_len`
 * bytes that many DPUs may share, then `tail`.
 */
void server_pack_update(struct server_out *head, struct server_out *tail, uint64_t nonce,
    const Picket__V1__Begin *begin, size_t changes_len, const Picket__V1__Commit *commit);
