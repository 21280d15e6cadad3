#pragma once

#include <stdbool.h>

#include "lib/msg.h"

struct event_base;

/*
 * The way of a host's posture (PK_MSG_POSTURE) from the verifier on the DPU to those who act on it.
 *
 * They listen, each on a socket of its own, and the verifier connects: so each says by the permissions of
 * its socket who may speak, and none has to wait for the other.  One verifier at a time; a new connection
 * ends the one before.  The end of a connection says nothing about the host: the lease goes on, and ends.
 * Context: control thread, all of it.
 */
struct pk_posture_ear;

/*
 * `take` puts a checked posture in force before it returns; the verifier is then told that no packet is
 * judged otherwise any more.
 */
typedef void pk_posture_take(void *arg, const struct pk_msg_posture *p);

int pk_posture_listen(struct pk_posture_ear **out, struct event_base *base, const char *path,
    pk_posture_take *take, void *arg, struct pk_diag *diag);
void pk_posture_ear_destroy(struct pk_posture_ear *e);
bool pk_posture_ear_connected(const struct pk_posture_ear *e);

/* ---- the verifier's side ---- */

struct pk_posture_mouth;

typedef void pk_posture_told(void *arg, const char *path, const struct pk_msg_posture_status *s);

/*
 * Tell whoever listens on paths[0 .. n - 1], now and after each loss of connection; `told` (may be NULL)
 * hears when it is in force there.  `paths` are borrowed.  Returns 0 or -ENOMEM.
 */
int pk_posture_mouth_create(struct pk_posture_mouth **out, struct event_base *base,
    char *const *paths, size_t n, pk_posture_told *told, void *arg);
void pk_posture_mouth_destroy(struct pk_posture_mouth *m);

/* Say this from now on.  What has gone out before it returns is in the receivers' queues. */
void pk_posture_tell(struct pk_posture_mouth *m, const struct pk_msg_posture *p);
