#pragma once

#include <stdbool.h>

#include "policy/compiler.h"
#include "policy/resource.h"

/*
 * What one generation changes, made by the helper for the control thread: objects of the table that are
 * new, different or gone, packed into resources, with what a span has to know of each.
 */
struct server_object {
	uint8_t type; /* enum policy_resource_type */
	uint8_t key_len;
	uint8_t key[POLICY_KEY_MAX];
	struct policy_resource *now;          /* NULL: gone.  Of an identity: as a peer */
	struct policy_resource *subject;      /* of an identity: with its programs */
	uint64_t program[PK_DIRECTION_COUNT]; /* of an identity */
	uint32_t identity;                    /* of an endpoint, to others */
	uint32_t own[2];                      /* of an endpoint: to its own DPU, by posture */
	char *dpu, *workload;                 /* of an endpoint */
	uint32_t *members;                    /* of a set of identities, ascending */
	uint64_t *sets;                       /* of a program, ascending, each once */
	size_t nb;                            /* of these */
};

struct server_change {
	struct server_object *item;
	size_t nb, room;
};

void server_change_fini(struct server_change *c);

/*
 * All resources as they were handed out last: what is equal to that is no change.
 * Context: one thread at a time (the helper).
 */
struct server_shadow;

struct server_shadow *server_shadow_create(void); /* NULL: no memory */
void server_shadow_destroy(struct server_shadow *s);

/* Follow `t`, of which `touched` may differ.  *out is empty before.  Returns 0 or -ENOMEM, and then
 * the next call must be told that everything may differ. */
int server_shadow_follow(struct server_shadow *s, const struct policy_table *t,
    const struct policy_touched *touched, struct server_change *out);
