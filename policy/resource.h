#pragma once

#include <stdatomic.h>

#include "lib/diag.h"
#include "policy/table.h"

/*
 * What travels from the policy server to a DPU: the objects of a policy_table, each packed into bytes
 * (policy/proto/picket.proto) with a key and a version.  The version is a hash of the bytes, so that
 * equal means equal wherever it was computed: by two servers, before and after a restart, on disk.
 *
 * Resources are immutable and counted, and shared by every state that holds them: a server keeps one
 * copy of an endpoint, however many DPUs know of it.
 */
enum policy_resource_type {
	POLICY_RESOURCE_NONE = 0,
	POLICY_RESOURCE_IDENTITY, /* the numbers of picket.v1.ResourceType */
	POLICY_RESOURCE_ENDPOINT,
	POLICY_RESOURCE_SET,
	POLICY_RESOURCE_PROGRAM,
	POLICY_RESOURCE_TYPE_COUNT,
};

#define POLICY_KEY_MAX      20         /* bytes: an endpoint's address space and IPv6 address */
#define POLICY_RESOURCE_MAX (64 << 20) /* bytes of one body */

struct policy_resource {
	_Atomic unsigned int refs;
	uint8_t type;
	uint8_t key_len;
	uint8_t key[POLICY_KEY_MAX];
	uint32_t len;
	uint64_t version;
	uint8_t body[]; /* len bytes */
};

const char *policy_resource_type_name(unsigned int type);

/*
 * From bytes that came from elsewhere: all of it is decoded and checked against the rules of
 * lib/msg.h, and the key against the body.
 * Context: any, as for all here.  Returns 0, -EINVAL with *diag, or -ENOMEM.
 */
int policy_resource_create(struct policy_resource **out, unsigned int type, const uint8_t *key,
    size_t key_len, const uint8_t *body, size_t len, struct pk_diag *diag);
struct policy_resource *policy_resource_get(struct policy_resource *r);
void policy_resource_put(struct policy_resource *r); /* NULL is allowed */

/* From the compiled form.  NULL when there is no memory. */
struct policy_resource *policy_resource_of_identity(const struct policy_identity *o, int subject);
struct policy_resource *policy_resource_of_endpoint(const struct policy_endpoint *o);
struct policy_resource *policy_resource_of_set(const struct policy_set *o);
struct policy_resource *policy_resource_of_program(const struct policy_program *o);

/*
 * Say the way from `old` to `now` in messages for a data plane.  Either may be NULL: that is a new
 * resource, or a deleted one.  Of a set only the members that differ are said.  An endpoint is local
 * when its DPU is `dpu`.
 * Returns 0, -ENOMEM or what the sink returned.
 */
int policy_resource_emit(const struct policy_resource *old, const struct policy_resource *now,
    const char *dpu, policy_sink *sink, void *arg);

/*
 * Changes of a set, for the way from server to DPU.  Both return 0 or -ENOMEM.
 * policy_resource_diff() packs a picket.v1.SetDelta into malloc()ed *bytes, or gives -ERANGE when the
 * whole set is no longer than its changes.  policy_resource_patch() applies one: -EINVAL with *diag
 * when `base` is another version or the outcome is not the version that was promised.
 */
int policy_resource_diff(const struct policy_resource *old, const struct policy_resource *now,
    uint8_t **bytes, size_t *len);
struct Picket__V1__SetDelta;
int policy_resource_patch(struct policy_resource **out, const struct policy_resource *base,
    const struct Picket__V1__SetDelta *delta, struct pk_diag *diag);

/*
 * A set of resources, at most one per type and key: what a DPU holds, or should.
 * The hash of a state is the sum of its versions: two ends compare it to see whether they agree, and a
 * change of one resource changes it at no cost.  It finds mistakes, not forgeries: the channel and the
 * file carry their own proofs.
 */
struct policy_state;

struct policy_state *policy_state_create(void); /* NULL: no memory */
struct policy_state *policy_state_clone(const struct policy_state *s);
void policy_state_destroy(struct policy_state *s);
/* Put in `r` (another reference is taken), in place of what had its key.  Returns 0 or -ENOMEM. */
int policy_state_put(struct policy_state *s, struct policy_resource *r);
/* Take out what has this key.  Returns 0 or -ENOENT. */
int policy_state_remove(
    struct policy_state *s, unsigned int type, const uint8_t *key, size_t key_len);
/* Borrowed; NULL when there is none. */
struct policy_resource *policy_state_find(
    const struct policy_state *s, unsigned int type, const uint8_t *key, size_t key_len);
/* The same for the key of `like`. */
struct policy_resource *policy_state_like(
    const struct policy_state *s, const struct policy_resource *like);
/* Each in turn, in no order; start with *at = 0.  NULL at the end.  No changes in between. */
struct policy_resource *policy_state_next(const struct policy_state *s, size_t *at);
size_t policy_state_count(const struct policy_state *s);
uint64_t policy_state_hash(const struct policy_state *s);
