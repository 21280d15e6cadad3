#pragma once

#include "policy/server/store.h"

/* A driver has all of these, but that the last three are a shared one's; policy/server/store.h says what each does. */
struct store_driver {
	void (*close)(struct server_store *s);
	int (*load)(struct server_store *s, uint64_t *generation, struct server_texts *sources,
	    struct server_texts *inventory, struct pk_diag *diag);
	int (*sources)(struct server_store *s, uint64_t generation, struct server_texts *sources,
	    struct pk_diag *diag);
	int (*history)(struct server_store *s, uint64_t from, uint32_t limit,
	    int (*each)(void *arg, const struct server_generation *g), void *arg,
	    struct pk_diag *diag);
	int (*next)(struct server_store *s, uint64_t *generation, struct pk_diag *diag);
	int (*rollout)(struct server_store *s, uint8_t **out, size_t *len, struct pk_diag *diag);
	int (*put_rollout)(
	    struct server_store *s, const uint8_t *bytes, size_t len, struct pk_diag *diag);
	int (*commit)(struct server_store *s, struct server_generation *g,
	    const struct server_edit *edits, size_t nb_edits, const struct server_identity *ids,
	    size_t nb_ids, const struct server_bytes *rollout, struct pk_diag *diag);
	int (*identities)(struct server_store *s,
	    int (*each)(void *arg, const char *key, uint32_t id), void *arg, struct pk_diag *diag);
	int (*dpu_seen)(
	    struct server_store *s, const char *name, uint64_t at_unix_ns, struct pk_diag *diag);
	int (*dpus)(struct server_store *s,
	    int (*each)(void *arg, const char *name, uint64_t at_unix_ns), void *arg,
	    struct pk_diag *diag);
	int (*follow)(struct server_store *s, int (*each)(void *arg, const struct server_record *r),
	    void *arg, struct pk_diag *diag);
	bool (*wants_snapshot)(const struct server_store *s);
	int (*snapshot)(struct server_store *s, const struct server_texts *sources,
	    const struct server_texts *inventory, const struct server_identity *ids, size_t nb_ids,
	    struct pk_diag *diag);
};

struct server_store {
	const struct store_driver *driver;
};

int store_sqlite_open(struct server_store **out, const char *path, struct pk_diag *diag);
int store_etcd_open(struct server_store **out, const char *urls, const struct server_store_tls *tls,
    struct pk_diag *diag);
