#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/sha.h>
#include <sqlite3.h>

#include "policy/server/store_priv.h"

#define SCHEMA_VERSION 3
#define APPLICATION_ID 0x50696b31 /* "Pik1": a file of another program is not ours to write to */

/*
 * texts            every source text ever applied, by SHA-256
 * generations      one row each, never changed
 * sources          which text a source had from generation `since` on, before `until` (NULL: still)
 * inventory        the workloads as they are now
 * current          one row: which generation is in force
 * rollout          at most one row: the rollout under way, or the last (a message picket.v1.Rollout)
 */
#define ROLLOUT_TABLE \
	"CREATE TABLE rollout(one INTEGER PRIMARY KEY CHECK(one = 1), record BLOB NOT NULL);"

static const char schema[] =
    "CREATE TABLE texts(hash BLOB PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE generations(generation INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
    " of INTEGER NOT NULL, at INTEGER NOT NULL, author TEXT NOT NULL,"
    " message TEXT NOT NULL, nb_sources INTEGER NOT NULL);"
    "CREATE TABLE sources(name TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,"
    " hash BLOB NOT NULL REFERENCES texts(hash), PRIMARY KEY(name, since)) WITHOUT ROWID;"
    "CREATE TABLE inventory(name TEXT PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE current(one INTEGER PRIMARY KEY CHECK(one = 1),"
    " generation INTEGER NOT NULL);"
    "INSERT INTO current VALUES(1, 0);"
    "CREATE TABLE identities(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);"
    "CREATE TABLE dpus(name TEXT PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID;" ROLLOUT_TABLE;

/* From the version before. */
static const char upgrade[] = "BEGIN IMMEDIATE;" ROLLOUT_TABLE "PRAGMA user_version = 3; COMMIT";

/* The driver that needs nobody else: one file, one server. */
struct sqlite {
	struct server_store store; /* first */
	sqlite3 *db;
	char *path;
	sqlite3_stmt *kept[9]; /* by ST_ */
};

static int
complain(struct sqlite *s, struct pk_diag *diag)
{
	int code = sqlite3_errcode(s->db) & 0xff;

	pk_diag_set(diag, "%s: %s", s->path, sqlite3_errmsg(s->db));
	switch (code) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

static int
exec(struct sqlite *s, const char *sql, struct pk_diag *diag)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : complain(s, diag);
}

static int
prepare(struct sqlite *s, sqlite3_stmt **st, const char *sql, struct pk_diag *diag)
{
	return sqlite3_prepare_v2(s->db, sql, -1, st, NULL) == SQLITE_OK ? 0 : complain(s, diag);
}

/* Run a statement that gives no rows, and make it ready for the next use. */
static int
run(struct sqlite *s, sqlite3_stmt *st, struct pk_diag *diag)
{
	int err = sqlite3_step(st) == SQLITE_DONE ? 0 : complain(s, diag);

	sqlite3_reset(st);
	return err;
}

static int
read_number(struct sqlite *s, const char *sql, uint64_t *out, struct pk_diag *diag)
{
	sqlite3_stmt *st;
	int err = prepare(s, &st, sql, diag);

	if (err != 0)
		return err;
	if (sqlite3_step(st) == SQLITE_ROW)
		*out = (uint64_t)sqlite3_column_int64(st, 0);
	else
		err = complain(s, diag);
	sqlite3_finalize(st);
	return err;
}

static int
open_schema(struct sqlite *s, struct pk_diag *diag)
{
	uint64_t version = 0, id = 0, tables = 0;
	char set[96];
	int err;

	if ((err = read_number(s, "PRAGMA user_version", &version, diag)) != 0 ||
	    (err = read_number(s, "PRAGMA application_id", &id, diag)) != 0 ||
	    (err = read_number(s, "SELECT count(*) FROM sqlite_schema", &tables, diag)) != 0)
		return err;
	if (tables == 0 && id == 0) {
		snprintf(set, sizeof(set), "PRAGMA user_version = %d; PRAGMA application_id = %d",
		    SCHEMA_VERSION, APPLICATION_ID);
		if ((err = exec(s, "BEGIN IMMEDIATE", diag)) == 0 &&
		    (err = exec(s, schema, diag)) == 0 && (err = exec(s, set, diag)) == 0)
			return exec(s, "COMMIT", diag);
		(void)exec(s, "ROLLBACK", NULL);
		return err;
	}
	if (id != APPLICATION_ID) {
		pk_diag_set(diag, "%s: is an SQLite file of some other program", s->path);
		return -EINVAL;
	}
	if (version == SCHEMA_VERSION - 1)
		return exec(s, upgrade, diag);
	if (version != SCHEMA_VERSION) {
		pk_diag_set(diag, "%s: has schema version %llu; this program knows %d", s->path,
		    (unsigned long long)version, SCHEMA_VERSION);
		return -EINVAL;
	}
	return 0;
}

static void sqlite_close(struct server_store *store);
static const struct store_driver store_sqlite;

int
store_sqlite_open(struct server_store **out, const char *path, struct pk_diag *diag)
{
	struct sqlite *s = calloc(1, sizeof(*s));
	mode_t mask;
	int rc, err;

	if (s == NULL || (s->path = strdup(path)) == NULL) {
		free(s);
		pk_diag_set(diag, "no memory for the store");
		return -ENOMEM;
	}
	mask = umask(0077); /* SQLite makes the file and its log */
	rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	if (rc != SQLITE_OK) {
		pk_diag_set(diag,
		    "%s: %s; want a file, or a directory to make it in, that we may write", path,
		    s->db != NULL ? sqlite3_errmsg(s->db) : "no memory");
		err = -EACCES;
		goto fail;
	}
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_busy_timeout(s->db, 2000);
	err = exec(s,
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
	    "PRAGMA trusted_schema = OFF",
	    diag);
	if (err != 0)
		goto fail;
	/* A second server on the same file would hand out the same numbers twice. */
	err = exec(s, "PRAGMA locking_mode = EXCLUSIVE", diag);
	if (err == 0)
		err = open_schema(s, diag);
	if (err == 0)
		err = exec(s, "BEGIN IMMEDIATE; COMMIT", diag);
	if (err != 0)
		goto fail;
	umask(mask);
	s->store.driver = &store_sqlite;
	*out = &s->store;
	return 0;
fail:
	umask(mask);
	if (err == -EBUSY)
		pk_diag_set(diag, "%s: another process has the store open", path);
	sqlite_close(&s->store);
	return err;
}

static void
sqlite_close(struct server_store *store)
{
	struct sqlite *s = (struct sqlite *)store;

	for (size_t i = 0; i < PK_COUNT(s->kept); i++)
		sqlite3_finalize(s->kept[i]);
	(void)sqlite3_close(s->db);
	free(s->path);
	free(s);
}

/* Rows of (name, text). */
static int
read_texts(struct sqlite *s, sqlite3_stmt *st, struct server_texts *out, struct pk_diag *diag)
{
	int rc, err = 0;

	memset(out, 0, sizeof(*out));
	while (err == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE) {
		if (rc != SQLITE_ROW)
			err = complain(s, diag);
		else
			err = server_texts_put(out, (const char *)sqlite3_column_text(st, 0),
			    sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
	}
	if (err != 0)
		server_texts_fini(out);
	return err;
}

static int
sqlite_sources(struct server_store *store, uint64_t generation, struct server_texts *sources,
    struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int rc, err;

	memset(sources, 0, sizeof(*sources));
	err = prepare(s, &st, "SELECT kind FROM generations WHERE generation = ?", diag);
	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)generation);
	rc = sqlite3_step(st);
	if (rc == SQLITE_DONE) {
		pk_diag_set(diag, "there is no generation %llu", (unsigned long long)generation);
		err = -ENOENT;
	} else if (rc != SQLITE_ROW) {
		err = complain(s, diag);
	} else if (sqlite3_column_int(st, 0) == SERVER_KIND_CANDIDATE) {
		pk_diag_set(diag, "generation %llu was a candidate; it has never been in force",
		    (unsigned long long)generation);
		err = -ENOENT;
	}
	sqlite3_finalize(st);
	if (err != 0)
		return err;
	err = prepare(s, &st,
	    "SELECT s.name, t.text FROM sources s JOIN texts t ON t.hash = s.hash"
	    " WHERE s.since <= ?1 AND (s.until IS NULL OR s.until > ?1) ORDER BY s.name",
	    diag);
	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)generation);
	err = read_texts(s, st, sources, diag);
	sqlite3_finalize(st);
	return err;
}

static int
sqlite_load(struct server_store *store, uint64_t *generation, struct server_texts *sources,
    struct server_texts *inventory, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int err;

	memset(sources, 0, sizeof(*sources));
	err = read_number(s, "SELECT generation FROM current", generation, diag);
	if (err == 0 && *generation != 0)
		err = sqlite_sources(store, *generation, sources, diag);
	if (err == 0)
		err = prepare(s, &st, "SELECT name, text FROM inventory ORDER BY name", diag);
	if (err != 0)
		return err;
	err = read_texts(s, st, inventory, diag);
	sqlite3_finalize(st);
	if (err != 0)
		server_texts_fini(sources);
	return err;
}

static int
sqlite_history(struct server_store *store, uint64_t from, uint32_t limit,
    int (*each)(void *arg, const struct server_generation *g), void *arg, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int rc, err;

	err = prepare(s, &st,
	    "SELECT generation, kind, of, at, author, message, nb_sources FROM generations"
	    " WHERE generation <= ? ORDER BY generation DESC LIMIT ?",
	    diag);
	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, from != 0 ? (sqlite3_int64)from : INT64_MAX);
	sqlite3_bind_int64(st, 2, limit);
	while (err == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE) {
		struct server_generation g = { 0 };

		if (rc != SQLITE_ROW) {
			err = complain(s, diag);
			break;
		}
		g.generation = (uint64_t)sqlite3_column_int64(st, 0);
		g.kind = (enum server_kind)sqlite3_column_int(st, 1);
		g.of = (uint64_t)sqlite3_column_int64(st, 2);
		g.at_unix_ns = (uint64_t)sqlite3_column_int64(st, 3);
		g.nb_sources = (uint64_t)sqlite3_column_int64(st, 6);
		snprintf(
		    g.author, sizeof(g.author), "%s", (const char *)sqlite3_column_text(st, 4));
		snprintf(
		    g.message, sizeof(g.message), "%s", (const char *)sqlite3_column_text(st, 5));
		err = each(arg, &g);
	}
	sqlite3_finalize(st);
	return err;
}

/*
 * Statements of a commit, kept from one to the next: at a thousand a second, preparing them would cost
 * more than running them.
 */
enum {
	ST_TEXT,
	ST_SOURCE_END,
	ST_SOURCE,
	ST_PUT,
	ST_DROP,
	ST_IDENTITY,
	ST_GENERATION,
	ST_CURRENT,
	ST_ROLLOUT,
};

static const char *const statements[] = {
	[ST_TEXT] = "INSERT OR IGNORE INTO texts VALUES(?, ?)",
	[ST_SOURCE_END] = "UPDATE sources SET until = ? WHERE name = ? AND until IS NULL",
	[ST_SOURCE] = "INSERT OR REPLACE INTO sources VALUES(?, ?, NULL, ?)",
	[ST_PUT] = "INSERT OR REPLACE INTO inventory VALUES(?, ?)",
	[ST_DROP] = "DELETE FROM inventory WHERE name = ?",
	[ST_IDENTITY] = "INSERT INTO identities VALUES(?, ?)",
	[ST_GENERATION] = "INSERT INTO generations VALUES(?, ?, ?, ?, ?, ?, ?)",
	[ST_CURRENT] = "UPDATE current SET generation = ?",
	[ST_ROLLOUT] = "INSERT OR REPLACE INTO rollout VALUES(1, ?)",
};

static int
statement(struct sqlite *s, unsigned int which, sqlite3_stmt **st, struct pk_diag *diag)
{
	int err = 0;

	if (s->kept[which] == NULL)
		err = prepare(s, &s->kept[which], statements[which], diag);
	*st = s->kept[which];
	return err;
}

static int
write_source(
    struct sqlite *s, uint64_t generation, const struct server_edit *e, struct pk_diag *diag)
{
	uint8_t hash[SHA256_DIGEST_LENGTH];
	sqlite3_stmt *st;
	int err = statement(s, ST_SOURCE_END, &st, diag);

	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)generation);
	sqlite3_bind_text(st, 2, e->name, -1, SQLITE_STATIC);
	err = run(s, st, diag);
	if (err != 0 || e->text == NULL)
		return err;
	err = statement(s, ST_TEXT, &st, diag);
	if (err != 0)
		return err;
	SHA256((const uint8_t *)e->text, e->len, hash);
	sqlite3_bind_blob(st, 1, hash, sizeof(hash), SQLITE_STATIC);
	sqlite3_bind_blob64(st, 2, e->text, e->len, SQLITE_STATIC);
	err = run(s, st, diag);
	if (err == 0)
		err = statement(s, ST_SOURCE, &st, diag);
	if (err != 0)
		return err;
	sqlite3_bind_text(st, 1, e->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)generation);
	sqlite3_bind_blob(st, 3, hash, sizeof(hash), SQLITE_STATIC);
	return run(s, st, diag);
}

static int
write_workload(struct sqlite *s, const struct server_edit *e, struct pk_diag *diag)
{
	sqlite3_stmt *st;
	int err = statement(s, e->text != NULL ? ST_PUT : ST_DROP, &st, diag);

	if (err != 0)
		return err;
	sqlite3_bind_text(st, 1, e->name, -1, SQLITE_STATIC);
	if (e->text != NULL)
		sqlite3_bind_blob64(st, 2, e->text, e->len, SQLITE_STATIC);
	return run(s, st, diag);
}

static int
write_identities(
    struct sqlite *s, const struct server_identity *ids, size_t n, struct pk_diag *diag)
{
	sqlite3_stmt *st;
	int err = statement(s, ST_IDENTITY, &st, diag);

	for (size_t i = 0; err == 0 && i < n; i++) {
		sqlite3_bind_int64(st, 1, ids[i].id);
		sqlite3_bind_text(st, 2, ids[i].key, -1, SQLITE_STATIC);
		err = run(s, st, diag);
	}
	return err;
}

static int
write_generation(struct sqlite *s, const struct server_generation *g, struct pk_diag *diag)
{
	sqlite3_stmt *st;
	int err = statement(s, ST_GENERATION, &st, diag);

	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)g->generation);
	sqlite3_bind_int(st, 2, (int)g->kind);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)g->of);
	sqlite3_bind_int64(st, 4, (sqlite3_int64)g->at_unix_ns);
	sqlite3_bind_text(st, 5, g->author, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 6, g->message, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 7, (sqlite3_int64)g->nb_sources);
	err = run(s, st, diag);
	if (err != 0 || g->kind == SERVER_KIND_CANDIDATE)
		return err;
	err = statement(s, ST_CURRENT, &st, diag);
	if (err != 0)
		return err;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)g->generation);
	return run(s, st, diag);
}

static int
sqlite_next(struct server_store *store, uint64_t *generation, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	return read_number(
	    s, "SELECT coalesce(max(generation), 0) + 1 FROM generations", generation, diag);
}

static int
sqlite_put_rollout(
    struct server_store *store, const uint8_t *bytes, size_t len, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int err = statement(s, ST_ROLLOUT, &st, diag);

	if (err != 0)
		return err;
	sqlite3_bind_blob64(st, 1, bytes, len, SQLITE_STATIC);
	return run(s, st, diag);
}

static int
sqlite_rollout(struct server_store *store, uint8_t **out, size_t *len, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int rc, err = prepare(s, &st, "SELECT record FROM rollout", diag);

	*out = NULL;
	*len = 0;
	if (err != 0)
		return err;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*len = (size_t)sqlite3_column_bytes(st, 0);
		*out = malloc(*len + 1);
		if (*out == NULL)
			err = -ENOMEM;
		else if (*len > 0)
			memcpy(*out, sqlite3_column_blob(st, 0), *len);
	} else if (rc != SQLITE_DONE) {
		err = complain(s, diag);
	}
	sqlite3_finalize(st);
	return err;
}

static int
sqlite_commit(struct server_store *store, struct server_generation *g,
    const struct server_edit *edits, size_t nb_edits, const struct server_identity *ids,
    size_t nb_ids, const struct server_bytes *rollout, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	uint64_t current = 0;
	char sql[128];
	int err;

	err = exec(s, "BEGIN IMMEDIATE", diag);
	if (err != 0)
		return err;
	err = read_number(s, "SELECT generation FROM current", &current, diag);
	if (err == 0)
		err = sqlite_next(store, &g->generation, diag);
	if (err == 0 &&
	    (g->kind == SERVER_KIND_APPLY || g->kind == SERVER_KIND_CANDIDATE ||
	        g->kind == SERVER_KIND_PROMOTE)) {
		g->of = g->generation;
	} else if (err == 0) {
		snprintf(sql, sizeof(sql),
		    "SELECT coalesce(max(of), 0) FROM generations WHERE generation = %llu",
		    (unsigned long long)(g->kind == SERVER_KIND_ROLLBACK ? g->of : current));
		err = read_number(s, sql, &g->of, diag);
	}
	for (size_t i = 0; err == 0 && i < nb_edits; i++)
		err = edits[i].inventory ? write_workload(s, &edits[i], diag)
		                         : write_source(s, g->generation, &edits[i], diag);
	if (err == 0)
		err = write_identities(s, ids, nb_ids, diag);
	if (err == 0)
		err = write_generation(s, g, diag);
	if (err == 0 && rollout != NULL)
		err = sqlite_put_rollout(store, rollout->bytes, rollout->len, diag);
	if (err == 0)
		err = exec(s, "COMMIT", diag);
	if (err != 0)
		(void)exec(s, "ROLLBACK", NULL);
	return err;
}

static int
sqlite_identities(struct server_store *store, int (*each)(void *arg, const char *key, uint32_t id),
    void *arg, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int rc, err = prepare(s, &st, "SELECT key, id FROM identities ORDER BY id", diag);

	if (err != 0)
		return err;
	while (err == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE)
		err = rc != SQLITE_ROW ? complain(s, diag)
		                       : each(arg, (const char *)sqlite3_column_text(st, 0),
		                             (uint32_t)sqlite3_column_int64(st, 1));
	sqlite3_finalize(st);
	return err;
}

static int
sqlite_dpu_seen(
    struct server_store *store, const char *name, uint64_t at_unix_ns, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int err = prepare(s, &st, "INSERT OR REPLACE INTO dpus VALUES(?, ?)", diag);

	if (err != 0)
		return err;
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)at_unix_ns);
	err = run(s, st, diag);
	sqlite3_finalize(st);
	return err;
}

static int
sqlite_dpus(struct server_store *store,
    int (*each)(void *arg, const char *name, uint64_t at_unix_ns), void *arg, struct pk_diag *diag)
{
	struct sqlite *s = (struct sqlite *)store;
	sqlite3_stmt *st;
	int rc, err = prepare(s, &st, "SELECT name, seen FROM dpus ORDER BY name", diag);

	if (err != 0)
		return err;
	while (err == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE)
		err = rc != SQLITE_ROW ? complain(s, diag)
		                       : each(arg, (const char *)sqlite3_column_text(st, 0),
		                             (uint64_t)sqlite3_column_int64(st, 1));
	sqlite3_finalize(st);
	return err;
}

static const struct store_driver store_sqlite = {
	.close = sqlite_close,
	.load = sqlite_load,
	.sources = sqlite_sources,
	.history = sqlite_history,
	.next = sqlite_next,
	.rollout = sqlite_rollout,
	.put_rollout = sqlite_put_rollout,
	.commit = sqlite_commit,
	.identities = sqlite_identities,
	.dpu_seen = sqlite_dpu_seen,
	.dpus = sqlite_dpus,
};
