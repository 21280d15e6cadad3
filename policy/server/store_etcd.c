#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/log.h"
#include "policy/proto/store.pb-c.h"
#include "policy/server/etcd.h"
#include "policy/server/store_priv.h"

/*
 * The driver that several servers share: a log of generations in etcd, and now and then a snapshot of what they come
 * to.  Below our prefix:
 *
 *   /head                   number of the newest generation; written with each, and the condition of the next
 *   /log/GENERATION         what it changed (picket.store.Record), for those who follow
 *   /policy/GENERATION      the same of those that changed policy, which are kept
 *   /parts/GENERATION-...   of records that are too long for one request; /policy-parts likewise
 *   /snapshot               where the newest one is; /snapshots/GENERATION-... its parts
 *   /dpu/NAME               when it was seen first by one of the servers
 *
 * A commit is one transaction: if /head is still as this server has followed it, then /head, /log and /policy are
 * written, else nothing is.  /head and the log's newest entry so have one revision, and who has followed the log up
 * to an entry knows the revision to compare with.  Each attempt has a nonce of its own: when the answer to one was
 * lost and the second is refused, the nonce tells whether it was by ourselves.
 *
 * What takes more than a transaction (parts, snapshots) is written before the transaction that refers to it, under
 * names that nobody else uses; what a crash leaves unreferred is deleted with the generations around it.
 */
#define FORMAT     1
#define INLINE_MAX (64U << 10) /* bytes of a record in its own key: pages of these stay moderate */
#define PAGE       128
#define PAGE_PARTS 16
#define LOG_KEEP   1024 /* generations before a snapshot that who lags behind still finds */
#define LOG_MANY   4096 /* or as many bytes as the snapshot has: time for another */
#define LOG_BYTES  (4U << 20)
#define LOAD_TRIES 5
#define RECORD_MAX (1U << 30)
#define NONCE_LEN  16
#define KEY_NUMBER "%016" PRIx64

struct etcd_identity {
	char *key;
	uint32_t id;
};

struct etcd_store {
	struct server_store store; /* first */
	struct etcd *etcd;
	uint64_t generation; /* followed up to, with the revision of its entry */
	int64_t revision;
	uint64_t of;
	struct server_texts seen; /* DPUs that this process has written down */
	/* since the last snapshot that we know of */
	uint64_t snapshot;
	int64_t snapshot_revision;
	size_t snapshot_bytes, log_bytes, nb_log;
	/* from load to identities */
	struct etcd_identity *ids;
	size_t nb_ids, room_ids;
};

static struct etcd_store *
own(struct server_store *s)
{
	return (struct etcd_store *)s;
}

/* ---- keys and bytes ---- */

static ProtobufCBinaryData
bytes_of(const void *p, size_t len)
{
	return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)(uintptr_t)p };
}

static ProtobufCBinaryData
text_of(const char *s)
{
	return bytes_of(s, strlen(s));
}

static void PK_PRINTF(3, 4)
    key(const struct etcd_store *s, char out[ETCD_KEY_MAX], const char *fmt, ...)
{
	size_t n = (size_t)snprintf(out, ETCD_KEY_MAX, "%s", etcd_prefix(s->etcd));
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, ETCD_KEY_MAX - n, fmt, ap);
	va_end(ap);
}

static int
no_memory(struct pk_diag *diag)
{
	pk_diag_set(diag, "no memory for what is in the store");
	return -ENOMEM;
}

static int
unreadable(struct pk_diag *diag, const char *what)
{
	pk_diag_set(
	    diag, "etcd: %s cannot be read; is it another program's, or a later version's?", what);
	return -EBADMSG;
}

/* Call `each` for every key from `from` on and before `end`, or the other way round; it ends with another value than 0,
 * which is returned, 1 as 0. */
static int
walk(struct etcd_store *s, const char *from, const char *end, int64_t page, bool descend,
    int (*each)(void *arg, const Etcd__KeyValue *kv), void *arg, struct pk_diag *diag)
{
	char low[ETCD_KEY_MAX], high[ETCD_KEY_MAX];
	bool more = true;
	int err = 0;

	snprintf(low, sizeof(low), "%s", from);
	snprintf(high, sizeof(high), "%s", end);
	while (err == 0 && more) {
		Etcd__RangeRequest m = ETCD__RANGE_REQUEST__INIT;
		Etcd__RangeResponse *got;
		const Etcd__KeyValue *last = NULL;

		m.key = text_of(low);
		m.range_end = text_of(high);
		m.limit = page;
		m.sort_order = descend ? ETCD__SORT_ORDER__SORT_DESCEND
		                       : ETCD__SORT_ORDER__SORT_ASCEND;
		err = etcd_range(s->etcd, &m, &got, diag);
		if (err != 0)
			return err;
		for (size_t i = 0; err == 0 && i < got->n_kvs; i++) {
			last = got->kvs[i];
			err = each(arg, last);
		}
		more = got->more && last != NULL && last->key.len + 2 < ETCD_KEY_MAX;
		/* The next key that can be is this one and a byte more. */
		if (more)
			snprintf(descend ? high : low, ETCD_KEY_MAX, descend ? "%.*s" : "%.*s\x01",
			    (int)last->key.len, (const char *)last->key.data);
		etcd__range_response__free_unpacked(got, NULL);
	}
	return err == 1 ? 0 : err;
}

/* ---- records, in one piece or in parts ---- */

struct gathered {
	uint8_t *bytes;
	size_t len, room, nb;
};

static int
gather(void *arg, const Etcd__KeyValue *kv)
{
	struct gathered *g = arg;

	if (g->len + kv->value.len > RECORD_MAX)
		return -EBADMSG;
	if (g->len + kv->value.len > g->room) {
		size_t room = 2 * (g->len + kv->value.len);
		uint8_t *wider = realloc(g->bytes, room);

		if (wider == NULL)
			return -ENOMEM;
		g->bytes = wider;
		g->room = room;
	}
	if (kv->value.len > 0)
		memcpy(g->bytes + g->len, kv->value.data, kv->value.len);
	g->len += kv->value.len;
	g->nb++;
	return 0;
}

static int
read_parts(struct etcd_store *s, const char *parts, uint32_t nb, Picket__Store__Record **out,
    size_t *size, struct pk_diag *diag)
{
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	struct gathered g = { 0 };
	int err;

	key(s, from, "%s", parts);
	etcd_prefix_end(from, end);
	diag->text[0] = '\0';
	err = walk(s, from, end, PAGE_PARTS, false, gather, &g, diag);
	if (err == 0 && g.nb != nb)
		err = -ESTALE; /* somebody has just put another in its place */
	if (err == 0 && (*out = picket__store__record__unpack(NULL, g.len, g.bytes)) == NULL)
		err = unreadable(diag, parts);
	if (err != 0 && diag->text[0] == '\0')
		pk_diag_set(diag, "etcd: %s: %s", parts, strerror(-err));
	if (size != NULL)
		*size = g.len;
	free(g.bytes);
	return err;
}

/* The record of a log or policy entry; with all of its edits if `whole`. */
static int
read_record(struct etcd_store *s, const Etcd__KeyValue *kv, bool whole, Picket__Store__Record **out,
    struct pk_diag *diag)
{
	Picket__Store__Stored *m =
	    picket__store__stored__unpack(NULL, kv->value.len, kv->value.data);
	int err = 0;

	*out = NULL;
	if (m == NULL || m->record == NULL)
		err = unreadable(diag, "a generation");
	else if (whole && m->nb_parts != 0)
		err = read_parts(s, m->parts, m->nb_parts, out, NULL, diag);
	else {
		*out = m->record;
		m->record = NULL;
	}
	if (m != NULL)
		picket__store__stored__free_unpacked(m, NULL);
	return err;
}

static void
fill_generation(struct server_generation *g, const Picket__Store__Record *r)
{
	*g = (struct server_generation){
		.generation = r->generation,
		.kind = r->kind < SERVER_KIND_COUNT ? (enum server_kind)r->kind : SERVER_KIND_NONE,
		.of = r->of,
		.at_unix_ns = r->at_unix_ns,
		.nb_sources = r->nb_sources,
	};
	snprintf(g->author, sizeof(g->author), "%s", r->author);
	snprintf(g->message, sizeof(g->message), "%s", r->message);
}

static void
nonce_text(const uint8_t nonce[NONCE_LEN], char out[2 * NONCE_LEN + 1])
{
	for (size_t i = 0; i < NONCE_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", nonce[i]);
}

/* Write bytes below `parts`, as many keys as it takes.  Returns 0 or negative errno. */
static int
write_parts(struct etcd_store *s, const char *parts, const uint8_t *bytes, size_t len, uint32_t *nb,
    struct pk_diag *diag)
{
	int err = 0;

	*nb = 0;
	for (size_t at = 0; err == 0 && at < len; at += ETCD_REQUEST_MAX) {
		char name[ETCD_KEY_MAX];

		key(s, name, "%s%08" PRIx32, parts, (*nb)++);
		err = etcd_put(
		    s->etcd, name, bytes + at, PK_MIN(len - at, (size_t)ETCD_REQUEST_MAX), diag);
	}
	return err;
}

static void
delete_below(struct etcd_store *s, const char *prefix)
{
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	struct pk_diag diag;

	key(s, from, "%s", prefix);
	etcd_prefix_end(from, end);
	if (etcd_delete(s->etcd, from, end, &diag) != 0)
		pk_info("etcd: %s is left over: %s", prefix, diag.text);
}

/* ---- edits, as protobuf has them and as the server has ---- */

struct packed {
	Picket__Store__Edit *edit, **edits;
	Picket__Store__Identity *id, **ids;
};

static void
packed_fini(struct packed *p)
{
	free(p->edit);
	free(p->edits);
	free(p->id);
	free(p->ids);
}

static int
packed_init(struct packed *p, Picket__Store__Record *r, size_t nb_edits,
    const struct server_identity *ids, size_t nb_ids)
{
	p->edit = calloc(nb_edits + 1, sizeof(p->edit[0]));
	p->edits = calloc(nb_edits + 1, sizeof(p->edits[0]));
	p->id = calloc(nb_ids + 1, sizeof(p->id[0]));
	p->ids = calloc(nb_ids + 1, sizeof(p->ids[0]));
	if (p->edit == NULL || p->edits == NULL || p->id == NULL || p->ids == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < nb_edits; i++) {
		picket__store__edit__init(&p->edit[i]);
		p->edits[i] = &p->edit[i];
	}
	for (size_t i = 0; i < nb_ids; i++) {
		picket__store__identity__init(&p->id[i]);
		p->id[i].id = ids[i].id;
		p->id[i].key = (char *)(uintptr_t)ids[i].key;
		p->ids[i] = &p->id[i];
	}
	r->edits = p->edits;
	r->n_edits = nb_edits;
	r->identities = p->ids;
	r->n_identities = nb_ids;
	return 0;
}

static int
apply_edits(
    const Picket__Store__Record *r, struct server_texts *sources, struct server_texts *inventory)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < r->n_edits; i++) {
		const Picket__Store__Edit *e = r->edits[i];
		struct server_texts *to = e->inventory ? inventory : sources;

		if (to == NULL)
			continue;
		if (!e->gone)
			err = server_texts_put(to, e->name,
			    e->text.data != NULL ? (const void *)e->text.data : "", e->text.len);
		else
			(void)server_texts_remove(to, e->name);
	}
	return err;
}

/* ---- loading ---- */

static void
ids_fini(struct etcd_store *s)
{
	for (size_t i = 0; i < s->nb_ids; i++)
		free(s->ids[i].key);
	free(s->ids);
	s->ids = NULL;
	s->nb_ids = s->room_ids = 0;
}

static int
keep_ids(struct etcd_store *s, const Picket__Store__Record *r)
{
	for (size_t i = 0; i < r->n_identities; i++) {
		if (s->nb_ids == s->room_ids) {
			size_t room = s->room_ids != 0 ? 2 * s->room_ids : 256;
			struct etcd_identity *wider = realloc(s->ids, room * sizeof(s->ids[0]));

			if (wider == NULL)
				return -ENOMEM;
			s->ids = wider;
			s->room_ids = room;
		}
		s->ids[s->nb_ids].id = r->identities[i]->id;
		s->ids[s->nb_ids].key = strdup(r->identities[i]->key);
		if (s->ids[s->nb_ids].key == NULL)
			return -ENOMEM;
		s->nb_ids++;
	}
	return 0;
}

/* Where the newest snapshot is; *out is NULL when there is none yet. */
static int
read_pointer(
    struct etcd_store *s, Picket__Store__Stored **out, int64_t *revision, struct pk_diag *diag)
{
	char name[ETCD_KEY_MAX];
	Etcd__RangeRequest m = ETCD__RANGE_REQUEST__INIT;
	Etcd__RangeResponse *got;
	int err;

	*out = NULL;
	*revision = 0;
	key(s, name, "/snapshot");
	m.key = text_of(name);
	err = etcd_range(s->etcd, &m, &got, diag);
	if (err != 0)
		return err;
	if (got->n_kvs == 1) {
		*revision = got->kvs[0]->mod_revision;
		*out = picket__store__stored__unpack(
		    NULL, got->kvs[0]->value.len, got->kvs[0]->value.data);
		if (*out == NULL)
			err = unreadable(diag, "the snapshot");
	}
	etcd__range_response__free_unpacked(got, NULL);
	return err;
}

/* The newest generation there is, 0 if there is none, and its revision. */
static int
read_head(struct etcd_store *s, uint64_t *generation, int64_t *revision, struct pk_diag *diag)
{
	char name[ETCD_KEY_MAX];
	Etcd__RangeRequest m = ETCD__RANGE_REQUEST__INIT;
	Etcd__RangeResponse *got;
	Picket__Store__Head *head = NULL;
	int err;

	*generation = 0;
	*revision = 0;
	key(s, name, "/head");
	m.key = text_of(name);
	err = etcd_range(s->etcd, &m, &got, diag);
	if (err != 0)
		return err;
	if (got->n_kvs == 1) {
		head = picket__store__head__unpack(
		    NULL, got->kvs[0]->value.len, got->kvs[0]->value.data);
		*revision = got->kvs[0]->mod_revision;
		if (head == NULL || head->format != FORMAT)
			err = unreadable(diag, "/head");
		else
			*generation = head->generation;
		if (head != NULL)
			picket__store__head__free_unpacked(head, NULL);
	}
	etcd__range_response__free_unpacked(got, NULL);
	return err;
}

struct following {
	struct etcd_store *s;
	struct server_texts *sources, *inventory;              /* of load */
	int (*each)(void *arg, const struct server_record *r); /* of follow */
	void *arg;
	struct pk_diag *diag;
};

static int
tell(const struct following *f, const Picket__Store__Record *r)
{
	struct server_edit *edits = calloc(r->n_edits + 1, sizeof(edits[0]));
	struct server_identity *ids = calloc(r->n_identities + 1, sizeof(ids[0]));
	struct server_record out = {
		.edits = edits, .nb_edits = r->n_edits, .ids = ids, .nb_ids = r->n_identities
	};
	int err = -ENOMEM;

	if (edits == NULL || ids == NULL)
		goto out;
	fill_generation(&out.g, r);
	for (size_t i = 0; i < r->n_edits; i++) {
		const Picket__Store__Edit *e = r->edits[i];
		const char *text = e->text.data != NULL ? (const char *)e->text.data : "";

		edits[i] = (struct server_edit){ .inventory = e->inventory != 0,
			.name = e->name,
			.text = e->gone ? NULL : text,
			.len = e->gone ? 0 : e->text.len };
	}
	for (size_t i = 0; i < r->n_identities; i++)
		ids[i] = (struct server_identity){ .key = r->identities[i]->key,
			.id = r->identities[i]->id };
	err = f->each(f->arg, &out);
out:
	free(edits);
	free(ids);
	return err;
}

static int
follow_entry(void *arg, const Etcd__KeyValue *kv)
{
	struct following *f = arg;
	struct etcd_store *s = f->s;
	Picket__Store__Record *r;
	int err = read_record(s, kv, true, &r, f->diag);

	if (err != 0)
		return err;
	if (r->generation != s->generation + 1) {
		pk_diag_set(f->diag,
		    "etcd: generation %" PRIu64
		    " is not kept any more, and this server has only come to %" PRIu64,
		    s->generation + 1, s->generation);
		err = -ENODATA;
	} else if (f->each != NULL) {
		err = tell(f, r);
	} else {
		err = apply_edits(r, f->sources, f->inventory);
		if (err == 0)
			err = keep_ids(s, r);
	}
	if (err == 0) {
		s->generation = r->generation;
		s->revision = kv->mod_revision;
		s->of = r->of;
		s->log_bytes += kv->value.len;
		s->nb_log++;
	}
	picket__store__record__free_unpacked(r, NULL);
	return err;
}

static int
follow_log(struct following *f)
{
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];

	key(f->s, from, "/log/" KEY_NUMBER, f->s->generation + 1);
	key(f->s, end, "/log0"); /* '0' follows '/' */
	return walk(f->s, from, end, PAGE, false, follow_entry, f, f->diag);
}

static int
load_once(struct etcd_store *s, struct server_texts *sources, struct server_texts *inventory,
    struct pk_diag *diag)
{
	struct following f = { .s = s, .sources = sources, .inventory = inventory, .diag = diag };
	Picket__Store__Stored *pointer;
	Picket__Store__Record *all = NULL;
	int err;

	s->generation = s->of = s->snapshot = 0;
	s->revision = 0;
	s->snapshot_bytes = s->log_bytes = s->nb_log = 0;
	ids_fini(s);
	err = read_pointer(s, &pointer, &s->snapshot_revision, diag);
	if (err == 0 && pointer != NULL) {
		err = read_parts(
		    s, pointer->parts, pointer->nb_parts, &all, &s->snapshot_bytes, diag);
		if (err == 0)
			err = apply_edits(all, sources, inventory);
		if (err == 0)
			err = keep_ids(s, all);
		if (err == 0) {
			s->snapshot = s->generation = all->generation;
			s->of = all->of;
		}
		if (all != NULL)
			picket__store__record__free_unpacked(all, NULL);
		picket__store__stored__free_unpacked(pointer, NULL);
	}
	/* The revision to compare with is /head's, as soon as we have come to it. */
	for (unsigned int i = 0; err == 0 && i < LOAD_TRIES; i++) {
		uint64_t newest;

		err = follow_log(&f);
		if (err == 0)
			err = read_head(s, &newest, &s->revision, diag);
		if (err == 0 && newest == s->generation)
			return 0;
	}
	if (err == 0) {
		pk_diag_set(diag,
		    "etcd: the log ends with generation %" PRIu64 ", and is not the newest",
		    s->generation);
		err = -ENODATA;
	}
	return err;
}

static int
etcd_load(struct server_store *store, uint64_t *generation, struct server_texts *sources,
    struct server_texts *inventory, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	int err = -ESTALE;

	/* A snapshot that is replaced while it is read is found incomplete. */
	for (unsigned int i = 0; err == -ESTALE && i < LOAD_TRIES; i++) {
		memset(sources, 0, sizeof(*sources));
		memset(inventory, 0, sizeof(*inventory));
		err = load_once(s, sources, inventory, diag);
		if (err != 0) {
			server_texts_fini(sources);
			server_texts_fini(inventory);
		}
	}
	if (err == -ENOMEM)
		(void)no_memory(diag);
	*generation = s->generation;
	return err;
}

static int
etcd_identities(struct server_store *store, int (*each)(void *arg, const char *key, uint32_t id),
    void *arg, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	int err = 0;

	(void)diag;
	for (size_t i = 0; err == 0 && i < s->nb_ids; i++)
		err = each(arg, s->ids[i].key, s->ids[i].id);
	ids_fini(s);
	return err;
}

static int
etcd_follow(struct server_store *store, int (*each)(void *arg, const struct server_record *r),
    void *arg, struct pk_diag *diag)
{
	struct following f = { .s = own(store), .each = each, .arg = arg, .diag = diag };

	return follow_log(&f);
}

/* ---- what has been ---- */

struct folding {
	struct etcd_store *s;
	struct server_texts *sources;
	struct pk_diag *diag;
};

static int
fold(void *arg, const Etcd__KeyValue *kv)
{
	struct folding *f = arg;
	Picket__Store__Record *r;
	int err = read_record(f->s, kv, true, &r, f->diag);

	if (err == 0) {
		err = apply_edits(r, f->sources, NULL);
		picket__store__record__free_unpacked(r, NULL);
	}
	return err;
}

static int
etcd_sources(struct server_store *store, uint64_t generation, struct server_texts *sources,
    struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	struct folding f = { .s = s, .sources = sources, .diag = diag };
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	int err;

	memset(sources, 0, sizeof(*sources));
	if (generation == 0 || generation > s->generation) {
		pk_diag_set(diag, "there is no generation %" PRIu64, generation);
		return -ENOENT;
	}
	key(s, from, "/policy/");
	key(s, end, "/policy/" KEY_NUMBER, generation + 1);
	err = walk(s, from, end, PAGE, false, fold, &f, diag);
	if (err != 0)
		server_texts_fini(sources);
	return err;
}

struct listing {
	struct etcd_store *s;
	uint32_t limit;
	uint64_t oldest; /* told so far; 0: none */
	int (*each)(void *arg, const struct server_generation *g);
	void *arg;
	struct pk_diag *diag;
};

static int
list_one(void *arg, const Etcd__KeyValue *kv)
{
	struct listing *l = arg;
	struct server_generation g;
	Picket__Store__Record *r;
	int err;

	if (l->limit == 0)
		return 1;
	err = read_record(l->s, kv, false, &r, l->diag);
	if (err != 0)
		return err;
	fill_generation(&g, r);
	picket__store__record__free_unpacked(r, NULL);
	l->limit--;
	l->oldest = g.generation;
	return l->each(l->arg, &g);
}

/* The log has the newest of all kinds; of what was before it, those that changed policy. */
static int
etcd_history(struct server_store *store, uint64_t from, uint32_t limit,
    int (*each)(void *arg, const struct server_generation *g), void *arg, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	struct listing l = { .s = s, .limit = limit, .each = each, .arg = arg, .diag = diag };
	uint64_t below = from != 0 ? from + 1 : UINT64_MAX;
	char low[ETCD_KEY_MAX], high[ETCD_KEY_MAX];
	int err;

	key(s, low, "/log/");
	key(s, high, "/log/" KEY_NUMBER, below);
	err = walk(s, low, high, PAGE, true, list_one, &l, diag);
	if (l.oldest != 0)
		below = l.oldest;
	key(s, low, "/policy/");
	key(s, high, "/policy/" KEY_NUMBER, below);
	if (err == 0 && l.limit > 0)
		err = walk(s, low, high, PAGE, true, list_one, &l, diag);
	return err;
}

static int
etcd_next(struct server_store *store, uint64_t *generation, struct pk_diag *diag)
{
	(void)diag;
	*generation = own(store)->generation + 1;
	return 0;
}

/* ---- committing ---- */

struct finding_of {
	struct etcd_store *s;
	uint64_t of;
	struct pk_diag *diag;
};

static int
take_of(void *arg, const Etcd__KeyValue *kv)
{
	struct finding_of *f = arg;
	Picket__Store__Record *r;
	int err = read_record(f->s, kv, false, &r, f->diag);

	if (err != 0)
		return err;
	f->of = r->of;
	picket__store__record__free_unpacked(r, NULL);
	return 1;
}

/* Whose sources a generation has: those of the last that changed policy until then. */
static int
find_of(struct etcd_store *s, uint64_t generation, uint64_t *of, struct pk_diag *diag)
{
	struct finding_of f = { .s = s, .diag = diag };
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	int err;

	key(s, from, "/policy/");
	key(s, end, "/policy/" KEY_NUMBER, generation + 1);
	err = walk(s, from, end, 1, true, take_of, &f, diag);
	*of = f.of;
	return err;
}

static bool
changes_policy(enum server_kind kind)
{
	return kind == SERVER_KIND_APPLY || kind == SERVER_KIND_ROLLBACK ||
	    kind == SERVER_KIND_PROMOTE;
}

/* The transaction: `value` as the log's next entry, unless somebody was first. */
static int
append(struct etcd_store *s, const Picket__Store__Record *r, const uint8_t *value, size_t len,
    struct pk_diag *diag)
{
	Picket__Store__Head head = PICKET__STORE__HEAD__INIT;
	Etcd__Compare compare = ETCD__COMPARE__INIT, *compares = &compare;
	Etcd__PutRequest put[3] = { ETCD__PUT_REQUEST__INIT, ETCD__PUT_REQUEST__INIT,
		ETCD__PUT_REQUEST__INIT };
	Etcd__RangeRequest get = ETCD__RANGE_REQUEST__INIT;
	Etcd__RequestOp op[3], *ops[3] = { &op[0], &op[1], &op[2] };
	Etcd__RequestOp other = ETCD__REQUEST_OP__INIT, *others = &other;
	Etcd__TxnRequest m = ETCD__TXN_REQUEST__INIT;
	Etcd__TxnResponse *got;
	Picket__Store__Record *theirs = NULL;
	char name[3][ETCD_KEY_MAX];
	uint8_t bytes[64];
	int err;

	head.format = FORMAT;
	head.generation = r->generation;
	head.of = r->of;
	PK_ASSERT(picket__store__head__get_packed_size(&head) <= sizeof(bytes));
	key(s, name[0], "/head");
	key(s, name[1], "/log/" KEY_NUMBER, r->generation);
	key(s, name[2], "/policy/" KEY_NUMBER, r->generation);
	put[0].value = bytes_of(bytes, picket__store__head__pack(&head, bytes));
	put[1].value = put[2].value = bytes_of(value, len);
	for (unsigned int i = 0; i < 3; i++) {
		etcd__request_op__init(&op[i]);
		op[i].request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
		op[i].request_put = &put[i];
		put[i].key = text_of(name[i]);
	}
	compare.target = ETCD__COMPARE__TARGET__MOD;
	compare.key = text_of(name[0]);
	compare.target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
	compare.mod_revision = s->revision;
	get.key = text_of(name[1]);
	other.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_RANGE;
	other.request_range = &get;
	m.compare = &compares;
	m.n_compare = 1;
	m.success = ops;
	m.n_success = changes_policy((enum server_kind)r->kind) ? 3 : 2;
	m.failure = &others;
	m.n_failure = 1;
	err = etcd_txn(s->etcd, &m, &got, diag);
	if (err != 0)
		return err;
	if (got->succeeded && got->header != NULL) {
		s->revision = got->header->revision;
	} else {
		const Etcd__RangeResponse *range =
		    got->n_responses == 1 ? got->responses[0]->response_range : NULL;

		pk_diag_set(diag, "another server was first");
		err = -ESTALE;
		/* Or we were, and did not hear the answer. */
		if (range != NULL && range->n_kvs == 1 &&
		    read_record(s, range->kvs[0], false, &theirs, diag) == 0) {
			if (theirs->nonce.len == r->nonce.len &&
			    memcmp(theirs->nonce.data, r->nonce.data, r->nonce.len) == 0) {
				s->revision = range->kvs[0]->mod_revision;
				err = 0;
			}
			picket__store__record__free_unpacked(theirs, NULL);
		}
	}
	etcd__txn_response__free_unpacked(got, NULL);
	return err;
}

/* A record as the value of its key, by way of parts if it is long: *value is the caller's. */
static int
pack(struct etcd_store *s, Picket__Store__Record *r, const char *where, uint8_t **value,
    size_t *value_len, char parts[ETCD_KEY_MAX], struct pk_diag *diag)
{
	Picket__Store__Stored m = PICKET__STORE__STORED__INIT;
	size_t len = picket__store__record__get_packed_size(r);
	char nonce[2 * NONCE_LEN + 1];
	uint8_t *bytes = NULL;
	int err = 0;

	parts[0] = '\0';
	*value = NULL;
	m.record = r;
	m.generation = r->generation;
	if (len > INLINE_MAX) {
		nonce_text(r->nonce.data, nonce);
		snprintf(parts, ETCD_KEY_MAX, "%s" KEY_NUMBER "-%s/", where, r->generation, nonce);
		bytes = malloc(len);
		if (bytes == NULL)
			return no_memory(diag);
		picket__store__record__pack(r, bytes);
		err = write_parts(s, parts, bytes, len, &m.nb_parts, diag);
		free(bytes);
		m.parts = parts;
		/* What is listed stays in the key itself. */
		r->n_edits = r->n_identities = 0;
	}
	if (err == 0) {
		*value_len = picket__store__stored__get_packed_size(&m);
		*value = malloc(*value_len + 1);
		if (*value == NULL)
			err = no_memory(diag);
		else
			picket__store__stored__pack(&m, *value);
	}
	s->log_bytes += len;
	return err;
}

static int
etcd_commit(struct server_store *store, struct server_generation *g,
    const struct server_edit *edits, size_t nb_edits, const struct server_identity *ids,
    size_t nb_ids, const struct server_bytes *rollout, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	Picket__Store__Record r = PICKET__STORE__RECORD__INIT;
	struct packed p = { 0 };
	uint8_t nonce[NONCE_LEN], *value = NULL;
	char parts[ETCD_KEY_MAX] = "";
	size_t len = 0;
	int err = 0;

	PK_ASSERT(rollout == NULL);
	g->generation = s->generation + 1;
	if (g->kind == SERVER_KIND_APPLY)
		g->of = g->generation;
	else if (g->kind == SERVER_KIND_ROLLBACK)
		err = find_of(s, g->of, &g->of, diag);
	else
		g->of = s->of;
	if (err == 0 && getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) {
		pk_diag_set(diag, "no random numbers are to be had");
		err = -EIO;
	}
	if (err != 0)
		return err;
	r.generation = g->generation;
	r.kind = g->kind;
	r.of = g->of;
	r.at_unix_ns = g->at_unix_ns;
	r.nb_sources = g->nb_sources;
	r.author = g->author;
	r.message = g->message;
	r.nonce = bytes_of(nonce, sizeof(nonce));
	if (packed_init(&p, &r, nb_edits, ids, nb_ids) != 0)
		err = no_memory(diag);
	for (size_t i = 0; err == 0 && i < nb_edits; i++) {
		p.edit[i].inventory = edits[i].inventory;
		p.edit[i].name = (char *)(uintptr_t)edits[i].name;
		p.edit[i].gone = edits[i].text == NULL;
		if (edits[i].text != NULL)
			p.edit[i].text = bytes_of(edits[i].text, edits[i].len);
	}
	if (err == 0)
		err = pack(s, &r, changes_policy(g->kind) ? "/policy-parts/" : "/parts/", &value,
		    &len, parts, diag);
	if (err == 0)
		err = append(s, &r, value, len, diag);
	if (err == 0) {
		s->generation = g->generation;
		s->of = g->of;
		s->nb_log++;
	} else if (parts[0] != '\0' && err != -ETIMEDOUT) {
		delete_below(s, parts);
	}
	free(value);
	packed_fini(&p);
	return err;
}

/* ---- snapshots ---- */

static bool
etcd_wants_snapshot(const struct server_store *store)
{
	const struct etcd_store *s = (const struct etcd_store *)store;

	return s->nb_log >= LOG_MANY ||
	    s->log_bytes >= PK_MAX((size_t)LOG_BYTES, s->snapshot_bytes);
}

/* What is before the snapshot, and who lags behind will not need. */
static void
forget(struct etcd_store *s, uint64_t generation, int64_t revision)
{
	static const char *const what[] = { "/log/", "/parts/" };
	uint64_t keep = generation > LOG_KEEP ? generation - LOG_KEEP : 0;
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	struct pk_diag diag;
	int err = 0;

	for (size_t i = 0; err == 0 && i < PK_COUNT(what); i++) {
		key(s, from, "%s", what[i]);
		key(s, end, "%s" KEY_NUMBER, what[i], keep);
		err = etcd_delete(s->etcd, from, end, &diag);
	}
	key(s, from, "/snapshots/");
	key(s, end, "/snapshots/" KEY_NUMBER, generation);
	if (err == 0)
		err = etcd_delete(s->etcd, from, end, &diag);
	/* And of everything the values before. */
	if (err == 0)
		err = etcd_compact(s->etcd, revision, &diag);
	if (err != 0)
		pk_info("etcd: not everything before generation %" PRIu64 " is deleted: %s",
		    generation, diag.text);
}

/* Make /snapshot point to `parts`, unless another server has been first. */
static int
point(struct etcd_store *s, const char *parts, uint32_t nb, uint64_t generation, int64_t *revision,
    struct pk_diag *diag)
{
	Picket__Store__Stored pointer = PICKET__STORE__STORED__INIT;
	Etcd__Compare compare = ETCD__COMPARE__INIT, *compares = &compare;
	Etcd__PutRequest put = ETCD__PUT_REQUEST__INIT;
	Etcd__RequestOp op = ETCD__REQUEST_OP__INIT, *ops = &op;
	Etcd__TxnRequest m = ETCD__TXN_REQUEST__INIT;
	Etcd__TxnResponse *got;
	char name[ETCD_KEY_MAX];
	uint8_t bytes[ETCD_KEY_MAX + 64];
	int err;

	pointer.parts = (char *)(uintptr_t)parts;
	pointer.nb_parts = nb;
	pointer.generation = generation;
	PK_ASSERT(picket__store__stored__get_packed_size(&pointer) <= sizeof(bytes));
	key(s, name, "/snapshot");
	compare.target = ETCD__COMPARE__TARGET__MOD;
	compare.key = text_of(name);
	compare.target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
	compare.mod_revision = s->snapshot_revision;
	put.key = text_of(name);
	put.value = bytes_of(bytes, picket__store__stored__pack(&pointer, bytes));
	op.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
	op.request_put = &put;
	m.compare = &compares;
	m.n_compare = 1;
	m.success = &ops;
	m.n_success = 1;
	err = etcd_txn(s->etcd, &m, &got, diag);
	if (err != 0)
		return err;
	if (!got->succeeded) {
		pk_diag_set(diag, "another server has just made one");
		err = -ESTALE;
	} else if (got->header != NULL) {
		*revision = got->header->revision;
	}
	etcd__txn_response__free_unpacked(got, NULL);
	return err;
}

static void
fill_texts(struct packed *p, size_t at, const struct server_texts *t, bool inventory)
{
	for (size_t i = 0; i < t->nb; i++, at++) {
		p->edit[at].inventory = inventory;
		p->edit[at].name = t->item[i].name;
		p->edit[at].text = bytes_of(t->item[i].text, t->item[i].len);
	}
}

static int
etcd_snapshot(struct server_store *store, const struct server_texts *sources,
    const struct server_texts *inventory, const struct server_identity *ids, size_t nb_ids,
    struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	Picket__Store__Record r = PICKET__STORE__RECORD__INIT;
	Picket__Store__Stored *pointer;
	struct packed p = { 0 };
	uint8_t nonce[NONCE_LEN] = { 0 }, *bytes = NULL;
	char text[2 * NONCE_LEN + 1], parts[ETCD_KEY_MAX];
	int64_t revision = 0;
	uint32_t nb_parts;
	size_t len = 0;
	int err;

	/* Whatever comes of it, not again at once. */
	s->log_bytes = s->nb_log = 0;
	err = read_pointer(s, &pointer, &revision, diag);
	if (err != 0)
		return err;
	if (pointer != NULL)
		picket__store__stored__free_unpacked(pointer, NULL);
	if (revision != s->snapshot_revision) {
		s->snapshot_revision = revision; /* another server has seen to it */
		return 0;
	}
	if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce) ||
	    packed_init(&p, &r, sources->nb + inventory->nb, ids, nb_ids) != 0) {
		packed_fini(&p);
		return no_memory(diag);
	}
	fill_texts(&p, 0, sources, false);
	fill_texts(&p, sources->nb, inventory, true);
	r.generation = s->generation;
	r.of = s->of;
	nonce_text(nonce, text);
	snprintf(parts, sizeof(parts), "/snapshots/" KEY_NUMBER "-%s/", s->generation, text);
	len = picket__store__record__get_packed_size(&r);
	bytes = malloc(len + 1);
	if (bytes != NULL)
		picket__store__record__pack(&r, bytes);
	packed_fini(&p);
	err = bytes != NULL ? write_parts(s, parts, bytes, len, &nb_parts, diag) : no_memory(diag);
	free(bytes);
	if (err == 0)
		err = point(s, parts, nb_parts, s->generation, &revision, diag);
	if (err != 0) {
		delete_below(s, parts);
		return err == -ESTALE ? 0 : err;
	}
	s->snapshot = s->generation;
	s->snapshot_revision = revision;
	s->snapshot_bytes = len;
	forget(s, s->generation, revision);
	return 0;
}

/* ---- rollouts, DPUs ---- */

static int
etcd_rollout(struct server_store *store, uint8_t **out, size_t *len, struct pk_diag *diag)
{
	(void)store;
	(void)diag;
	*out = NULL;
	*len = 0;
	return 0;
}

static int
etcd_put_rollout(struct server_store *store, const uint8_t *bytes, size_t len, struct pk_diag *diag)
{
	(void)store;
	(void)bytes;
	(void)len;
	pk_diag_set(diag, "a store that servers share keeps no rollout");
	return -ENOTSUP;
}

/* Ten thousand that come back at once are written once each, not each time. */
static int
etcd_dpu_seen(
    struct server_store *store, const char *dpu, uint64_t at_unix_ns, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	char name[ETCD_KEY_MAX], value[24];
	int err;

	if (server_texts_find(&s->seen, dpu) != NULL)
		return 0;
	key(s, name, "/dpu/%s", dpu);
	snprintf(value, sizeof(value), "%" PRIu64, at_unix_ns);
	err = etcd_put(s->etcd, name, value, strlen(value), diag);
	return err != 0 ? err : server_texts_put(&s->seen, dpu, "", 0);
}

struct dpu_listing {
	struct etcd_store *s;
	size_t skip; /* bytes of a key before the name */
	int (*each)(void *arg, const char *name, uint64_t at_unix_ns);
	void *arg;
};

static int
list_dpu(void *arg, const Etcd__KeyValue *kv)
{
	struct dpu_listing *l = arg;
	char name[ETCD_KEY_MAX], value[24];
	int err;

	if (kv->key.len <= l->skip)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)(kv->key.len - l->skip),
	    (const char *)kv->key.data + l->skip);
	snprintf(value, sizeof(value), "%.*s", (int)kv->value.len, (const char *)kv->value.data);
	err = l->each(l->arg, name, strtoull(value, NULL, 10));
	return err != 0 ? err : server_texts_put(&l->s->seen, name, "", 0);
}

static int
etcd_dpus(struct server_store *store, int (*each)(void *arg, const char *name, uint64_t at_unix_ns),
    void *arg, struct pk_diag *diag)
{
	struct etcd_store *s = own(store);
	char from[ETCD_KEY_MAX], end[ETCD_KEY_MAX];
	struct dpu_listing l = { .s = s, .each = each, .arg = arg };

	key(s, from, "/dpu/");
	etcd_prefix_end(from, end);
	l.skip = strlen(from);
	return walk(s, from, end, 1000, false, list_dpu, &l, diag);
}

static void
etcd_close(struct server_store *store)
{
	struct etcd_store *s = own(store);

	ids_fini(s);
	server_texts_fini(&s->seen);
	etcd_destroy(s->etcd);
	free(s);
}

static const struct store_driver store_etcd = {
	.close = etcd_close,
	.load = etcd_load,
	.sources = etcd_sources,
	.history = etcd_history,
	.next = etcd_next,
	.rollout = etcd_rollout,
	.put_rollout = etcd_put_rollout,
	.commit = etcd_commit,
	.identities = etcd_identities,
	.dpu_seen = etcd_dpu_seen,
	.dpus = etcd_dpus,
	.follow = etcd_follow,
	.wants_snapshot = etcd_wants_snapshot,
	.snapshot = etcd_snapshot,
};

int
store_etcd_open(struct server_store **out, const char *urls, const struct server_store_tls *tls,
    struct pk_diag *diag)
{
	const struct etcd_tls t = { .cert = tls->cert, .key = tls->key, .ca = tls->ca };
	struct etcd_store *s = calloc(1, sizeof(*s));
	uint64_t newest;
	int err;

	if (s == NULL)
		return no_memory(diag);
	s->store.driver = &store_etcd;
	err = etcd_create(&s->etcd, urls, &t, diag);
	if (err == 0)
		err = read_head(s, &newest, &s->revision, diag);
	if (err != 0) {
		etcd_close(&s->store);
		return err;
	}
	*out = &s->store;
	return 0;
}
