#pragma once

#include <stdbool.h>

#include "lib/diag.h"

/*
 * What the policy server may not forget: every generation of policy with who wrote it, when and why,
 * the workloads, the numbers of identities, and the DPUs ever seen.
 *
 * A generation is written whole or not at all, and the pointer to the current one moves with it: the
 * process may be killed at any instruction, and the store opens with either the old or the new.
 * Texts are kept once, by their hash, and each with the generations from which and until which it was
 * in force, so that a thousand generations that differ in one file cost one file each.  Compiled output is never stored; it follows from what is.
 *
 * There are two drivers.  store_sqlite.c is one file for one server.  store_etcd.c is shared: several servers
 * commit to it, and each follows what the others have committed.  There a generation is written on the condition
 * that the newest one is the one that the server has followed up to, so numbers of generations and of identities
 * are given out once; who comes second is told -ESTALE, follows, and tries again on what there is then.
 * Context: one thread at a time (the helper, once the server runs).  It waits for the disk.
 */
struct server_store;

enum server_kind { /* how a generation came to be */
	SERVER_KIND_NONE = 0,
	SERVER_KIND_APPLY,
	SERVER_KIND_ROLLBACK,
	SERVER_KIND_INVENTORY,
	SERVER_KIND_POSTURE,   /* hosts became attested, or ceased to be */
	SERVER_KIND_CANDIDATE, /* goes to a canary, and is not in force */
	SERVER_KIND_PROMOTE,   /* a candidate came into force */
	SERVER_KIND_ABORT,     /* a candidate did not: what is in force goes to its canary too */
	SERVER_KIND_COUNT,
};

const char *server_kind_name(unsigned int kind);

struct server_text {
	char *name;
	char *text;
	size_t len;
};

/* Texts sorted by name, no two of one name. */
struct server_texts {
	struct server_text *item;
	size_t nb, room;
};

/* Add, or replace what has the name.  Copies.  Returns 0 or -ENOMEM. */
int server_texts_put(struct server_texts *t, const char *name, const void *text, size_t len);
/* Returns 0 or -ENOENT. */
int server_texts_remove(struct server_texts *t, const char *name);
const struct server_text *server_texts_find(const struct server_texts *t, const char *name);
int server_texts_copy(struct server_texts *out, const struct server_texts *from);
bool server_texts_equal(const struct server_texts *a, const struct server_texts *b);
void server_texts_fini(struct server_texts *t);

struct server_generation {
	uint64_t generation;
	enum server_kind kind;
	uint64_t of; /* the generation whose sources these are: itself, or an older one */
	uint64_t at_unix_ns;
	uint64_t nb_sources;
	char author[64];
	char message[256]; /* cut if longer */
};

/* A text to be put, or taken out: of a source of policy, or of a workload. */
struct server_edit {
	bool inventory;
	const char *name;
	const char *text; /* NULL: take it out */
	size_t len;
};

struct server_bytes {
	const uint8_t *bytes;
	size_t len;
};

struct server_identity {
	const char *key;
	uint32_t id;
};

/* PEM files for the connection to etcd: who we are, and who they are. */
struct server_store_tls {
	const char *cert, *key, *ca;
};

/*
 * "sqlite:PATH", a file made with mode 0600 if it is not there; or "etcd:URL[,URL...][/PREFIX]", the members of a
 * cluster by https, with what all our keys begin with ("/picket" if it is not said).  `tls` is for etcd alone.
 * Returns 0 or negative errno with *diag.
 */
int server_store_open(struct server_store **out, const char *where,
    const struct server_store_tls *tls, struct pk_diag *diag);
/* Whether other servers may commit to it. */
bool server_store_shared(const struct server_store *s);
void server_store_close(struct server_store *s);

/* The current generation, 0 if there is none yet; its policy sources and the inventory. */
int server_store_load(struct server_store *s, uint64_t *generation, struct server_texts *sources,
    struct server_texts *inventory, struct pk_diag *diag);
/* Sources of any generation.  -ENOENT if there is none of that number, or it was a candidate only. */
int server_store_sources(struct server_store *s, uint64_t generation, struct server_texts *sources,
    struct pk_diag *diag);
/* Newest first, at most `limit`, from `from` downwards (0: from the newest). */
int server_store_history(struct server_store *s, uint64_t from, uint32_t limit,
    int (*each)(void *arg, const struct server_generation *g), void *arg, struct pk_diag *diag);

/* The number the next generation will have. */
int server_store_next(struct server_store *s, uint64_t *generation, struct pk_diag *diag);

/* The record of the rollout under way, or of the last one: bytes for whoever wrote them.  *out is NULL when
 * there was none; the caller frees it. */
int server_store_rollout(struct server_store *s, uint8_t **out, size_t *len, struct pk_diag *diag);
int server_store_put_rollout(
    struct server_store *s, const uint8_t *bytes, size_t len, struct pk_diag *diag);

/*
 * Write the next generation and make it current (unless it is a candidate): *g is given kind, of (for a rollback), nb_sources,
 * author, message, time; its number is set.  Its texts are those of the one before with the edits made,
 * in their order; what is written is in proportion to these.  ids[] are identities numbered since.  With
 * them goes the rollout's record, unless `rollout` is NULL.
 * All of it is on the disk when this returns 0.  -ESTALE: another server was first; server_store_follow() tells
 * with what.  -ETIMEDOUT from a shared store: it could not be learnt whether it has been written; if it was, it is
 * told by server_store_follow() as if it were another's.  On any other failure nothing has changed.
 */
int server_store_commit(struct server_store *s, struct server_generation *g,
    const struct server_edit *edits, size_t nb_edits, const struct server_identity *ids,
    size_t nb_ids, const struct server_bytes *rollout, struct pk_diag *diag);

/* A generation of another server. */
struct server_record {
	struct server_generation g;
	const struct server_edit *edits;
	size_t nb_edits;
	const struct server_identity *ids;
	size_t nb_ids;
};

/*
 * Tell all generations since the newest that was loaded, committed or told, in order; all of it is borrowed for the
 * call.  Returns 0, what `each` returned, -ENODATA when they are not kept any more (load anew), or another negative
 * errno with *diag.
 */
int server_store_follow(struct server_store *s,
    int (*each)(void *arg, const struct server_record *r), void *arg, struct pk_diag *diag);

/*
 * A shared store is a list of changes, which has to be folded up now and then: whether this is the time, and what
 * everything comes to, as of the newest generation this server knows.  A failure costs nothing but the attempt.
 */
bool server_store_wants_snapshot(const struct server_store *s);
int server_store_snapshot(struct server_store *s, const struct server_texts *sources,
    const struct server_texts *inventory, const struct server_identity *ids, size_t nb_ids,
    struct pk_diag *diag);

int server_store_identities(struct server_store *s,
    int (*each)(void *arg, const char *key, uint32_t id), void *arg, struct pk_diag *diag);

/* DPUs that have ever connected, so that status can name the ones that are missing. */
int server_store_dpu_seen(
    struct server_store *s, const char *name, uint64_t at_unix_ns, struct pk_diag *diag);
int server_store_dpus(struct server_store *s,
    int (*each)(void *arg, const char *name, uint64_t at_unix_ns), void *arg, struct pk_diag *diag);
