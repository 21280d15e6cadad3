#include <errno.h>
#include <string.h>

#include "policy/server/store_priv.h"

const char *
server_kind_name(unsigned int kind)
{
	static const char *const names[SERVER_KIND_COUNT] = { "none", "apply", "rollback",
		"inventory", "posture", "candidate", "promote", "abort" };

	return kind < SERVER_KIND_COUNT ? names[kind] : "unknown";
}

int
server_store_open(struct server_store **out, const char *where, const struct server_store_tls *tls,
    struct pk_diag *diag)
{
	static const char sqlite[] = "sqlite:", etcd[] = "etcd:";

	if (strncmp(where, sqlite, strlen(sqlite)) == 0)
		return store_sqlite_open(out, where + strlen(sqlite), diag);
	if (strncmp(where, etcd, strlen(etcd)) == 0)
		return store_etcd_open(out, where + strlen(etcd), tls, diag);
	pk_diag_set(
	    diag, "store \"%.200s\": want sqlite:PATH or etcd:https://HOST:PORT[,...]", where);
	return -EINVAL;
}

void
server_store_close(struct server_store *s)
{
	if (s != NULL)
		s->driver->close(s);
}

bool
server_store_shared(const struct server_store *s)
{
	return s->driver->follow != NULL;
}

int
server_store_load(struct server_store *s, uint64_t *generation, struct server_texts *sources,
    struct server_texts *inventory, struct pk_diag *diag)
{
	return s->driver->load(s, generation, sources, inventory, diag);
}

int
server_store_sources(
    struct server_store *s, uint64_t generation, struct server_texts *sources, struct pk_diag *diag)
{
	return s->driver->sources(s, generation, sources, diag);
}

int
server_store_history(struct server_store *s, uint64_t from, uint32_t limit,
    int (*each)(void *arg, const struct server_generation *g), void *arg, struct pk_diag *diag)
{
	return s->driver->history(s, from, limit, each, arg, diag);
}

int
server_store_next(struct server_store *s, uint64_t *generation, struct pk_diag *diag)
{
	return s->driver->next(s, generation, diag);
}

int
server_store_rollout(struct server_store *s, uint8_t **out, size_t *len, struct pk_diag *diag)
{
	return s->driver->rollout(s, out, len, diag);
}

int
server_store_put_rollout(
    struct server_store *s, const uint8_t *bytes, size_t len, struct pk_diag *diag)
{
	return s->driver->put_rollout(s, bytes, len, diag);
}

int
server_store_commit(struct server_store *s, struct server_generation *g,
    const struct server_edit *edits, size_t nb_edits, const struct server_identity *ids,
    size_t nb_ids, const struct server_bytes *rollout, struct pk_diag *diag)
{
	return s->driver->commit(s, g, edits, nb_edits, ids, nb_ids, rollout, diag);
}

int
server_store_identities(struct server_store *s,
    int (*each)(void *arg, const char *key, uint32_t id), void *arg, struct pk_diag *diag)
{
	return s->driver->identities(s, each, arg, diag);
}

int
server_store_dpu_seen(
    struct server_store *s, const char *name, uint64_t at_unix_ns, struct pk_diag *diag)
{
	return s->driver->dpu_seen(s, name, at_unix_ns, diag);
}

int
server_store_dpus(struct server_store *s,
    int (*each)(void *arg, const char *name, uint64_t at_unix_ns), void *arg, struct pk_diag *diag)
{
	return s->driver->dpus(s, each, arg, diag);
}

/* A store of one's own has nothing that one has not written. */
int
server_store_follow(struct server_store *s, int (*each)(void *arg, const struct server_record *r),
    void *arg, struct pk_diag *diag)
{
	return server_store_shared(s) ? s->driver->follow(s, each, arg, diag) : 0;
}

bool
server_store_wants_snapshot(const struct server_store *s)
{
	return server_store_shared(s) && s->driver->wants_snapshot(s);
}

int
server_store_snapshot(struct server_store *s, const struct server_texts *sources,
    const struct server_texts *inventory, const struct server_identity *ids, size_t nb_ids,
    struct pk_diag *diag)
{
	return server_store_shared(s)
	    ? s->driver->snapshot(s, sources, inventory, ids, nb_ids, diag)
	    : 0;
}
