#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "fw/hand_over.h"
#include "fw/record_file.h"
#include "fw/show_priv.h"
#include "lib/clock.h"

#define SESSIONS_PER_TURN 2048         /* looked at in a turn: about a millisecond */
#define ROWS_BACKLOG      (256 * 1024) /* bytes of rows that wait for the client */
#define BATCH             4096         /* handed to an lcore at once */
#define SLICE             32 /* of these in one loop of the lcore, which is a few microseconds */
_Static_assert(2 * SLICE <= FW_MADE_MAX, "a slice of sessions can be told");

/* ---- the walk ---- */

static bool
walk_each(void *arg, const struct fw_session_info *info)
{
	struct fw_show_walk *w = arg;

	if (fw_filter_session(&w->filter, fw_workers_rules(w->show->conf.workers), info))
		w->each(w, info);
	return !w->stop && !w->paused;
}

/* One turn.  True: the request has ended. */
static bool
walk_on(struct fw_show_walk *w)
{
	const struct fw_workers *all = w->show->conf.workers;

	if (!w->paused && !w->walked) {
		w->now_ns = fw_workers_now_ns();
		fw_path_walk(fw_workers_path(all, w->worker), w->now_ns, &w->cursor,
		    SESSIONS_PER_TURN, walk_each, w);
		w->worker += w->cursor == 0;
		w->walked = w->stop || w->worker == fw_workers_count(all);
	}
	return w->turn(w);
}

static void
walk_more(struct pk_control_request *r, void *state)
{
	struct fw_show_walk *w = state;

	(void)r;
	if (!evtimer_pending(w->again, NULL) && !walk_on(w))
		fw_show_walk_resume(w);
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	struct fw_show_walk *w = arg;

	(void)fd;
	(void)what;
	pk_control_resume(w->request); /* calls walk_more(), if the client keeps up */
}

void
fw_show_walk_resume(struct fw_show_walk *w)
{
	/* Between other events, and a moment for lcores to do their part if they have one. */
	static const struct timeval soon = { .tv_usec = 100 }, now = { 0 };

	evtimer_add(w->again, w->paused ? &soon : &now);
}

static void
walk_gone(void *state)
{
	struct fw_show_walk *w = state;

	if (w->fini != NULL)
		w->fini(w);
	event_free(w->again);
	free(w);
}

void
fw_show_walk_start(struct fw_show_walk *w, struct fw_show *s, struct pk_control_request *r)
{
	w->show = s;
	w->request = r;
	w->again = evtimer_new(s->conf.base, on_again, w);
	PK_ASSERT(w->again != NULL);
	pk_control_stream(r, walk_more, walk_gone, w);
}

/* Take a word and its number out of argv.  Returns 1, 0 if it is not there, -1 for no number. */
static int
take_number(int *argc, char **argv, const char *word, uint64_t *out)
{
	for (int i = 0; i + 1 < *argc; i++) {
		char *end;

		if (strcmp(argv[i], word) != 0)
			continue;
		*out = strtoull(argv[i + 1], &end, 10);
		if (*end != '\0' || end == argv[i + 1])
			return -1;
		memmove(argv + i, argv + i + 2, (size_t)(*argc - i - 2) * sizeof(*argv));
		*argc -= 2;
		return 1;
	}
	return 0;
}

static bool
take_word(int *argc, char **argv, const char *word)
{
	if (*argc == 0 || strcmp(argv[*argc - 1], word) != 0)
		return false;
	(*argc)--;
	return true;
}

/* ---- show sessions ---- */

struct listing {
	struct fw_show_walk walk;
	uint64_t left; /* rows */
};

static void
session_row(struct fw_show_walk *w, const struct fw_session_info *i)
{
	struct listing *l = (struct listing *)w;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8], rule[FW_SHOW_RULE_JSON];

	pk_control_rowf(w->request,
	    "{\"id\":%" PRIu64
	    ",\"at\":\"%u.%u\",\"wire\":%u,\"vrf\":%u,\"direction\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\",\"sport\":%u,"
	    "\"dst\":\"%s\",\"dport\":%u,\"state\":\"%s\",\"app\":\"%s\",\"packets\":[%" PRIu64
	    ",%" PRIu64 "],"
	    "\"bytes\":[%" PRIu64 ",%" PRIu64 "],\"age_s\":%.3f,\"idle_s\":%.3f,\"expires_s\":%.3f,"
	    "\"generation\":%" PRIu64 ",\"rule\":%s}",
	    i->id, w->worker, (uint32_t)i->id, i->wire, i->vrf, pk_direction_name(i->direction),
	    fw_proto_name(i->proto, proto), pk_addr_text(&i->src, src), i->sport,
	    pk_addr_text(&i->dst, dst), i->dport, i->state, fw_app_name(i->app), i->packets[0],
	    i->packets[1], i->bytes[0], i->bytes[1], (double)i->age_ns / 1e9,
	    (double)i->idle_ns / 1e9, (double)i->expires_in_ns / 1e9, i->generation,
	    fw_show_rule(w->show, i->rule_id, rule, sizeof(rule)));
	l->left--;
	w->stop = l->left == 0;
	w->paused = pk_control_backlog(w->request) > ROWS_BACKLOG;
}

static bool
listing_turn(struct fw_show_walk *w)
{
	w->paused = false; /* pk_control calls again when the client has taken its share */
	if (!w->walked)
		return false;
	pk_control_done(w->request);
	return true;
}

void
fw_show_sessions(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct fw_show *s = arg;
	struct pk_diag diag;
	int rc;

	PK_ASSERT(l != NULL);
	l->left = UINT64_MAX;
	l->walk.each = session_row;
	l->walk.turn = listing_turn;
	rc = take_number(&argc, argv, "limit", &l->left);
	if (rc < 0 || l->left == 0) {
		pk_control_refuse(r, "limit wants a number above 0");
		goto fail;
	}
	for (int i = 0; i + 1 < argc; i++) {
		if (strcmp(argv[i], "after") != 0)
			continue;
		if (sscanf(argv[i + 1], "%u.%u", &l->walk.worker, &l->walk.cursor) != 2 ||
		    l->walk.worker >= fw_workers_count(s->conf.workers)) {
			pk_control_refuse(r, "after wants the `at` of a row");
			goto fail;
		}
		l->walk.cursor++;
		memmove(argv + i, argv + i + 2, (size_t)(argc - i - 2) * sizeof(*argv));
		argc -= 2;
		break;
	}
	if (fw_filter_parse(&l->walk.filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
		goto fail;
	}
	fw_show_walk_start(&l->walk, s, r);
	return;
fail:
	free(l);
}

/* ---- work for the lcores ---- */

/* A batch of ends or installations for one lcore. */
struct batch {
	struct fw_job job;
	unsigned int nb, at;
	bool tell;
	uint64_t ended;
	uint64_t result[FW_INSTALL_COUNT], why[FW_DROP_COUNT];
	uint64_t *id;          /* BATCH: to end, */
	struct fw_record *rec; /* or to install */
};

static bool
slice_end(struct fw_job *job, struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    struct fw_made *made)
{
	struct batch *b = (struct batch *)job;
	unsigned int end = PK_MIN(b->at + SLICE, b->nb);

	(void)rules;
	for (; b->at < end; b->at++) {
		uint32_t i = (uint32_t)b->id[b->at];

		if (i >= p->sessions.capacity || fw_session_id(&p->sessions, i) != b->id[b->at])
			continue;
		pk_counter_add(&p->stats.sessions_ended, 1);
		fw_policy_end(p, i, now_ns, FW_DROP_REVOKED, b->tell ? made : NULL);
		b->ended++;
	}
	return b->at == b->nb;
}

static bool
slice_install(struct fw_job *job, struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    struct fw_made *made)
{
	struct batch *b = (struct batch *)job;
	unsigned int end = PK_MIN(b->at + SLICE, b->nb);

	(void)made;
	for (; b->at < end; b->at++) {
		enum fw_drop why = FW_DROP_NO_POLICY;
		enum fw_install result = FW_INSTALL_REFUSED;

		if (rules != NULL)
			result = fw_path_install(p, rules, &b->rec[b->at], now_ns, &why);
		b->result[result]++;
		b->why[result == FW_INSTALL_REFUSED ? why : FW_DROP_NONE]++;
	}
	return b->at == b->nb;
}

static bool
is_busy(const struct batch *b, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (atomic_load_explicit(&b[i].job.busy, memory_order_acquire))
			return true;
	return false;
}

/* Hand over what is in the batches and not yet with its lcore. */
static void
post_all(struct fw_show *s, struct batch *b)
{
	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
		if (b[i].nb > b[i].at && !is_busy(&b[i], 1))
			(void)fw_workers_post(s->conf.workers, i, &b[i].job);
}

/* True when nothing is under way any more; then the batches are empty. */
static bool
settle(struct fw_show *s, struct batch *b)
{
	bool settled = true;

	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++) {
		if (is_busy(&b[i], 1) || b[i].at < b[i].nb)
			settled = false;
	}
	if (!settled) {
		post_all(s, b); /* an lcore may have been at work for another request */
		return false;
	}
	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
		b[i].nb = b[i].at = 0;
	return true;
}

static struct batch *
batches_create(const struct fw_show *s, bool install)
{
	unsigned int n = fw_workers_count(s->conf.workers);
	struct batch *b = calloc(n, sizeof(*b));

	PK_ASSERT(b != NULL);
	for (unsigned int i = 0; i < n; i++) {
		b[i].job.slice = install ? slice_install : slice_end;
		if (install)
			b[i].rec = malloc(BATCH * sizeof(*b[i].rec));
		else
			b[i].id = malloc(BATCH * sizeof(*b[i].id));
		PK_ASSERT(b[i].rec != NULL || b[i].id != NULL);
	}
	return b;
}

/* The client may have gone in the middle: what an lcore has is waited for, some milliseconds. */
static void
batches_destroy(const struct fw_show *s, struct batch *b)
{
	unsigned int n = fw_workers_count(s->conf.workers);

	while (is_busy(b, n))
		usleep(50);
	for (unsigned int i = 0; i < n; i++) {
		free(b[i].id);
		free(b[i].rec);
	}
	free(b);
}

/* ---- kill sessions ---- */

struct killing {
	struct fw_show_walk walk;
	struct batch *batch;
};

static void
kill_each(struct fw_show_walk *w, const struct fw_session_info *info)
{
	struct batch *b = &((struct killing *)w)->batch[w->worker];

	b->id[b->nb++] = info->id;
	w->paused = b->nb == BATCH;
}

static bool
kill_turn(struct fw_show_walk *w)
{
	struct killing *k = (struct killing *)w;
	uint64_t ended = 0;

	if (!w->walked && !w->paused)
		return false;
	w->paused = true;
	if (!settle(w->show, k->batch))
		return false;
	w->paused = false;
	if (!w->walked)
		return false;
	for (unsigned int i = 0; i < fw_workers_count(w->show->conf.workers); i++)
		ended += k->batch[i].ended;
	pk_control_rowf(w->request, "{\"killed\":%" PRIu64 "}", ended);
	pk_control_done(w->request);
	return true;
}

static void
kill_fini(struct fw_show_walk *w)
{
	batches_destroy(w->show, ((struct killing *)w)->batch);
}

void
fw_show_kill(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct killing *k = calloc(1, sizeof(*k));
	bool tell = take_word(&argc, argv, "tell");
	struct fw_show *s = arg;
	struct pk_diag diag;

	PK_ASSERT(k != NULL);
	k->walk.each = kill_each;
	k->walk.turn = kill_turn;
	k->walk.fini = kill_fini;
	if (fw_filter_parse(&k->walk.filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
	} else if (k->walk.filter.is_empty) {
		pk_control_refuse(r, "kill sessions wants a filter; `all` is one");
	} else {
		k->batch = batches_create(s, false);
		for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
			k->batch[i].tell = tell;
		fw_show_walk_start(&k->walk, s, r);
		return;
	}
	free(k);
}

/* ---- sessions export ---- */

struct exporting {
	struct fw_show_walk walk;
	struct fw_record_file *file;
	uint64_t nb, start_ns;
};

static void
export_each(struct fw_show_walk *w, const struct fw_session_info *info)
{
	struct exporting *e = (struct exporting *)w;
	struct fw_record rec;

	if (!fw_path_record(fw_workers_path(w->show->conf.workers, w->worker), (uint32_t)info->id,
	        w->now_ns, &rec))
		return;
	fw_record_file_add(e->file, &rec);
	e->nb++;
}

static bool
export_turn(struct fw_show_walk *w)
{
	struct exporting *e = (struct exporting *)w;
	struct pk_diag diag;
	int rc;

	if (!w->walked)
		return false;
	rc = fw_record_file_end(e->file, &diag);
	e->file = NULL;
	if (rc < 0) {
		pk_control_refuse(w->request, "%s", diag.text);
	} else {
		pk_control_rowf(w->request, "{\"exported\":%" PRIu64 ",\"seconds\":%.3f}", e->nb,
		    (double)(pk_clock_mono_ns() - e->start_ns) / 1e9);
		pk_control_done(w->request);
	}
	return true;
}

static void
export_fini(struct fw_show_walk *w)
{
	struct exporting *e = (struct exporting *)w;
	struct pk_diag diag;

	if (e->file != NULL)
		(void)fw_record_file_end(e->file, &diag);
}

void
fw_show_export(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct exporting *e = calloc(1, sizeof(*e));
	struct pk_diag diag;

	PK_ASSERT(e != NULL);
	e->walk.each = export_each;
	e->walk.turn = export_turn;
	e->walk.fini = export_fini;
	e->start_ns = pk_clock_mono_ns();
	if (fw_filter_parse(&e->walk.filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0)
		pk_control_refuse(r, "%s", diag.text);
	else if (e->walk.filter.is_empty)
		pk_control_refuse(r, "sessions export wants a filter; `all` is one");
	else if (pk_control_fd(r) < 0)
		pk_control_refuse(r, "sessions export wants a regular file with the request");
	else if (fw_record_file_begin(&e->file, pk_control_fd(r)) < 0)
		pk_control_refuse(r, "out of memory");
	else {
		fw_show_walk_start(&e->walk, arg, r);
		return;
	}
	free(e);
}

/* ---- sessions import ---- */

/* A walk over a file instead of the table, with the same turns. */
struct importing {
	struct fw_show_walk walk;
	struct fw_record_reader reader;
	struct batch *batch;
	uint64_t faulty, records, start_ns;
	bool full;           /* a batch is */
	int error;           /* nothing more can be read, */
	struct pk_diag diag; /* because of this */
};

/* Where a session will be looked for: the wire its workload has here, or else the one it had there. */
static int
owner_of(const struct importing *m, const struct fw_record *rec)
{
	const struct fw_workers *all = m->walk.show->conf.workers;
	const struct fw_rules *rules = fw_workers_rules(all);
	uint16_t wire = rec->wire;
	struct fw_pkt pk;
	const struct fw_endpoint *e = rules == NULL
	    ? NULL
	    : fw_rules_endpoint(
	          rules, rec->vrf, rec->direction == PK_EGRESS ? &rec->src : &rec->dst);

	if (e != NULL)
		wire = e->wire;
	if (wire >= FW_WIRES_MAX)
		return -1;
	fw_record_key(rec, wire, &pk);
	return fw_workers_owner(all, &pk);
}

static void
add_record(struct importing *m, const struct fw_record *rec)
{
	int owner = owner_of(m, rec);

	m->records++;
	if (owner < 0) {
		m->faulty++;
		return;
	}
	m->batch[owner].rec[m->batch[owner].nb++] = *rec;
	m->full |= m->batch[owner].nb == BATCH;
}

static void
import_result(struct importing *m)
{
	uint64_t result[FW_INSTALL_COUNT] = { 0 }, why[FW_DROP_COUNT] = { 0 };
	struct pk_control_request *r = m->walk.request;

	for (unsigned int i = 0; i < fw_workers_count(m->walk.show->conf.workers); i++) {
		for (unsigned int k = 0; k < FW_INSTALL_COUNT; k++)
			result[k] += m->batch[i].result[k];
		for (unsigned int k = 1; k < FW_DROP_COUNT; k++)
			why[k] += m->batch[i].why[k];
	}
	for (unsigned int k = 0; k < FW_INSTALL_COUNT; k++)
		if (result[k] + (k == FW_INSTALL_FAULTY ? m->faulty : 0) > 0)
			pk_control_rowf(r, "{\"result\":\"%s\",\"sessions\":%" PRIu64 "}",
			    fw_install_name(k),
			    result[k] + (k == FW_INSTALL_FAULTY ? m->faulty : 0));
	for (unsigned int k = 1; k < FW_DROP_COUNT; k++)
		if (why[k] > 0)
			pk_control_rowf(r, "{\"result\":\"refused: %s\",\"sessions\":%" PRIu64 "}",
			    fw_drop_name(k), why[k]);
	pk_control_rowf(r,
	    "{\"result\":\"records read\",\"sessions\":%" PRIu64 ",\"seconds\":%.3f}", m->records,
	    (double)(pk_clock_mono_ns() - m->start_ns) / 1e9);
}

static bool
import_turn(struct fw_show_walk *w)
{
	struct importing *m = (struct importing *)w;
	struct fw_record rec;
	int rc = m->error == 0;

	/* While the lcores work on one batch there is nothing to do: it is they who take the time. */
	w->paused = true;
	if (!settle(w->show, m->batch))
		return false;
	m->full = false;
	while (!m->full && rc != 0) {
		rc = fw_record_file_next(&m->reader, &rec, &m->diag);
		if (rc == 1) {
			add_record(m, &rec);
		} else if (rc == -EPROTO) {
			m->records++;
			m->faulty++;
		} else if (rc < 0) {
			m->error = rc;
			rc = 0;
		}
	}
	if (m->full) {
		post_all(w->show, m->batch);
		return false;
	}
	for (unsigned int i = 0; i < fw_workers_count(w->show->conf.workers); i++) {
		if (m->batch[i].nb == 0)
			continue;
		post_all(w->show,
		    m->batch); /* the last ones: once more, then there is nothing to read */
		return false;
	}
	import_result(m);
	if (m->error < 0)
		pk_control_refuse(w->request, "%s", m->diag.text);
	else
		pk_control_done(w->request);
	return true;
}

static void
import_fini(struct fw_show_walk *w)
{
	struct importing *m = (struct importing *)w;

	batches_destroy(w->show, m->batch);
	fw_record_reader_fini(&m->reader);
}

void
fw_show_import(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct importing *m = calloc(1, sizeof(*m));
	struct fw_show *s = arg;

	(void)argv;
	PK_ASSERT(m != NULL);
	m->walk.turn = import_turn;
	m->walk.fini = import_fini;
	m->walk.walked = true; /* of the table nothing is asked */
	m->start_ns = pk_clock_mono_ns();
	if (argc > 0)
		pk_control_refuse(r, "sessions import takes no words");
	else if (pk_control_fd(r) < 0)
		pk_control_refuse(r, "sessions import wants a regular file with the request");
	else if (fw_workers_rules(s->conf.workers) == NULL)
		pk_control_refuse(
		    r, "there is no policy yet, so no session may be; try again later");
	else if (fw_record_reader_init(&m->reader, pk_control_fd(r)) < 0)
		pk_control_refuse(r, "out of memory");
	else {
		m->batch = batches_create(s, true);
		fw_show_walk_start(&m->walk, s, r);
		return;
	}
	free(m);
}
