#pragma once

#include <stdbool.h>

#include "lib/diag.h"
#include "lib/secret.h"

struct event_base;

/*
 * What the policy server gives to programs on a DPU: settings of a link or a peer, each with the secret it is kept with.
 *
 *   policy server --stream--> picket-agentd --RUN_DIR/picket-agentd.grants--> picket-mkad, picket-iked
 *   (documents name a secret,  (keeps them on       (each is given its own,
 *    files have it)             disk, mode 0600)     and whenever they change)
 *
 * The grants of a DPU are one set, which is sent, kept and put in force as a whole: what a set does not have any more is
 * to be ended.  What the settings mean is between the document's reader (policy/grant.h) and the program; who carries
 * them looks at names only.  No secret is ever logged or shown.
 *
 * A set in bytes, all numbers big-endian:
 *
 *     "PKGR", version (2), number of grants (4),
 *     of each grant: program, name, settings, secret, each with its length (2) before it
 *
 * and nothing after.  The first three are texts, and have a NUL as their last byte.
 */
#define PK_GRANT_PROGRAM_MAX  16 /* bytes with the NUL, as the next two */
#define PK_GRANT_NAME_MAX     256
#define PK_GRANT_SETTINGS_MAX 4096
#define PK_GRANT_SECRET_MAX   256
#define PK_GRANT_WIRE_VERSION 1
#define PK_GRANTS_MAX         (4u << 20) /* bytes of a set */

struct pk_grant {
	const char *program; /* "mka", "ike" */
	const char *name;    /* of what it is for, for people */
	const char *settings;
	const uint8_t *secret; /* NULL: there is none */
	size_t secret_len;
};

/* The set as bytes, which the caller finishes.  Returns 0, -E2BIG or -ENOMEM.  Context: any, as for the next. */
int pk_grants_pack(struct pk_secret *out, const struct pk_grant *g, size_t nb);

/*
 * Read a set; `each` is called for every grant in turn, its members borrowed from bytes[0 .. len - 1], and not at all
 * unless the whole set is well-formed.  NULL: only look.  Returns 0 or -EPROTO with *diag.
 */
int pk_grants_parse(const uint8_t *bytes, size_t len,
    void (*each)(void *arg, const struct pk_grant *g), void *arg, struct pk_diag *diag);

/* ---- for a program that is given some ------------------------------------------------------------- */

struct pk_grant_source;

/*
 * The program's whole set, soon after the agent was reached and whenever it has changed; `g` and what it points to is
 * gone after the call.
 */
typedef void pk_grant_take(void *arg, const struct pk_grant *g, size_t nb);

/*
 * Connect to the agent's socket at `path` (borrowed) as `program`, for as long as it takes, and again when it has gone;
 * what was given is in force meanwhile.  Returns 0 or -ENOMEM.  Context: control thread, as for the next.
 */
int pk_grant_source_create(struct pk_grant_source **out, struct event_base *base, const char *path,
    const char *program, pk_grant_take *take, void *arg);
void pk_grant_source_destroy(struct pk_grant_source *s); /* NULL is allowed */
bool pk_grant_source_connected(const struct pk_grant_source *s);
/*
 * On the socket, SOCK_SEQPACKET: the program says its name, with a NUL; the agent sends a version (4 bytes) with a
 * sealed memory file that holds a set, for each set.
 */
