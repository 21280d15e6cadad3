#include "fw/signatures.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>

#include "dpi/bundle.h"
#include "dpi/watch.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/log.h"

#define POLL_MS 100

/* A set, and what each lcore has of it. */
struct generation {
	struct generation *next; /* older */
	struct dpi_set *set;
	struct dpi_watch_set **at; /* by lcore */
	uint64_t number, loaded_ns;
	uint64_t over_ns; /* since when nobody uses it; 0: somebody does */
};

struct fw_signatures {
	struct fw_signatures_conf conf;
	unsigned int nb_lcores;
	struct generation *newest;
	uint64_t number;
	struct event *poll, *done;
	int pipe[2];
	bool loading;
	pthread_t helper;
	/* The helper's, until it has written to the pipe. */
	struct generation *made;
	struct pk_diag diag; /* of the last attempt; "" if it went well */
};

static void
generation_destroy(struct fw_signatures *s, struct generation *g)
{
	if (g == NULL)
		return;
	for (unsigned int i = 0; g->at != NULL && i < s->nb_lcores; i++)
		dpi_watch_set_destroy(g->at[i]);
	free(g->at);
	dpi_set_destroy(g->set);
	free(g);
}

static struct dpi_watches *
watches(const struct fw_signatures *s, unsigned int i)
{
	return fw_path_watches((struct fw_path *)(uintptr_t)fw_workers_path(s->conf.workers, i));
}

/* ---- loading ---- */

static int
read_rules(struct dpi_set **out, const char *path, struct pk_diag *diag)
{
	struct dpi_vars *vars;
	struct dpi_set *set;
	int rc;

	pk_diag_set(diag, "%s: out of memory", path);
	rc = dpi_vars_create(&vars);
	if (rc == 0)
		rc = dpi_set_create(&set, vars);
	if (rc < 0)
		return rc;
	rc = dpi_set_load(set, path, NULL, diag);
	if (rc >= 0)
		rc = dpi_set_finish(set, diag);
	if (rc < 0)
		dpi_set_destroy(set);
	else
		*out = set;
	return PK_MIN(rc, 0);
}

static int
make(struct fw_signatures *s, struct generation **out, struct pk_diag *diag)
{
	struct generation *g = calloc(1, sizeof(*g));
	int rc = -ENOMEM;

	pk_diag_set(diag, "%s: out of memory", s->conf.path);
	if (g == NULL)
		return rc;
	g->at = calloc(s->nb_lcores, sizeof(struct dpi_watch_set *));
	if (g->at != NULL && (s->conf.key != NULL || dpi_bundle_is(s->conf.path)))
		rc = dpi_bundle_read(&g->set, s->conf.path, s->conf.key, diag);
	else if (g->at != NULL)
		rc = read_rules(&g->set, s->conf.path, diag);
	for (unsigned int i = 0; rc == 0 && i < s->nb_lcores; i++)
		rc = dpi_watch_set_create(&g->at[i], watches(s, i), g->set);
	if (rc < 0) {
		generation_destroy(s, g);
		return rc;
	}
	*out = g;
	return 0;
}

static void *
help(void *arg)
{
	struct fw_signatures *s = arg;
	struct pk_diag diag;

	if (make(s, &s->made, &diag) < 0)
		s->diag = diag;
	if (write(s->pipe[1], "", 1) != 1)
		pk_error("signatures: cannot tell that they are loaded");
	return NULL;
}

static void
on_done(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval every = { .tv_usec = POLL_MS * 1000 };
	struct fw_signatures *s = arg;
	struct generation *g;
	char byte;

	(void)what;
	if (read(fd, &byte, 1) != 1 || !s->loading)
		return;
	pthread_join(s->helper, NULL);
	s->loading = false;
	g = s->made;
	s->made = NULL;
	if (g == NULL) {
		pk_error("signatures: %s; what was in force stays", s->diag.text);
		return;
	}
	g->number = ++s->number;
	g->loaded_ns = pk_clock_wall_ns();
	g->next = s->newest;
	s->newest = g;
	for (unsigned int i = 0; i < s->nb_lcores; i++)
		fw_path_offer_signatures(
		    (struct fw_path *)(uintptr_t)fw_workers_path(s->conf.workers, i), g->at[i]);
	pk_notice("signatures: %s: %u rules in force, %u refused", s->conf.path, dpi_set_nb(g->set),
	    dpi_set_nb_refused(g->set));
	event_add(s->poll, &every);
}

int
fw_signatures_load(struct fw_signatures *s, struct pk_diag *diag)
{
	unsigned int n = 0;

	for (const struct generation *g = s->newest; g != NULL; g = g->next)
		n++;
	if (s->conf.path == NULL) {
		pk_diag_set(diag, "no signatures are configured");
		return -ENOENT;
	}
	if (s->loading || n >= DPI_WATCH_SETS) {
		pk_diag_set(diag, "%s",
		    s->loading ? "signatures are being loaded"
		               : "sessions are still on three older sets");
		return -EBUSY;
	}
	s->diag.text[0] = '\0';
	s->loading = pthread_create(&s->helper, NULL, help, s) == 0;
	if (!s->loading) {
		pk_diag_set(diag, "no thread to load signatures with");
		return -EAGAIN;
	}
	return 0;
}

/* ---- letting go ---- */

/* All lcores have gone over to the newest, and no session is left on `g`. */
static bool
is_over(const struct fw_signatures *s, const struct generation *g)
{
	for (unsigned int i = 0; i < s->nb_lcores; i++)
		if (dpi_watches_in_use(watches(s, i)) != s->newest->at[i] ||
		    !dpi_watch_set_over(g->at[i]))
			return false;
	return true;
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct fw_signatures *s = arg;
	uint64_t now = pk_clock_mono_ns();

	(void)fd;
	(void)what;
	for (struct generation **at = &s->newest->next; *at != NULL;) {
		struct generation *g = *at;

		if (g->over_ns == 0 && is_over(s, g))
			g->over_ns = now;
		if (g->over_ns == 0 || now < g->over_ns + FW_SIGNATURES_LINGER_NS) {
			at = &g->next;
			continue;
		}
		*at = g->next;
		generation_destroy(s, g);
	}
	if (s->newest->next == NULL)
		event_del(s->poll);
}

/* ---- the whole ---- */

int
fw_signatures_create(
    struct fw_signatures **out, const struct fw_signatures_conf *conf, struct pk_diag *diag)
{
	struct fw_signatures *s = calloc(1, sizeof(*s));

	pk_diag_set(diag, "out of memory");
	if (s == NULL)
		return -ENOMEM;
	s->conf = *conf;
	s->pipe[0] = s->pipe[1] = -1;
	s->nb_lcores = fw_workers_count(conf->workers);
	s->poll = event_new(conf->base, -1, EV_PERSIST, on_poll, s);
	if (s->poll == NULL || pipe(s->pipe) < 0 ||
	    (s->done = event_new(conf->base, s->pipe[0], EV_READ | EV_PERSIST, on_done, s)) ==
	        NULL ||
	    event_add(s->done, NULL) < 0) {
		fw_signatures_destroy(s);
		return -ENOMEM;
	}
	if (conf->path != NULL && fw_signatures_load(s, diag) < 0) {
		fw_signatures_destroy(s);
		return -EAGAIN;
	}
	*out = s;
	return 0;
}

void
fw_signatures_destroy(struct fw_signatures *s)
{
	if (s == NULL)
		return;
	if (s->loading) {
		pthread_join(s->helper, NULL);
		generation_destroy(s, s->made);
	}
	if (s->poll != NULL)
		event_free(s->poll);
	if (s->done != NULL)
		event_free(s->done);
	for (unsigned int i = 0; i < 2; i++)
		if (s->pipe[i] >= 0)
			close(s->pipe[i]);
	while (s->newest != NULL) {
		struct generation *g = s->newest;

		s->newest = g->next;
		generation_destroy(s, g);
	}
	free(s);
}

void
fw_signatures_show(const struct fw_signatures *s, struct pk_control_request *r)
{
	for (const struct generation *g = s->newest; g != NULL; g = g->next)
		pk_control_rowf(r,
		    "{\"number\":%llu,\"state\":\"%s\",\"rules\":%u,\"refused\":%u,\"databases\":%zu,"
		    "\"bytes\":%zu,\"loaded_ns\":%llu}",
		    (unsigned long long)g->number, g == s->newest ? "in force" : "finishing",
		    dpi_set_nb(g->set), dpi_set_nb_refused(g->set), dpi_set_nb_databases(g->set),
		    dpi_set_database_bytes(g->set), (unsigned long long)g->loaded_ns);
	if (s->loading) {
		pk_control_rowf(r, "{\"number\":%llu,\"state\":\"loading\"}",
		    (unsigned long long)s->number + 1);
	} else if (s->diag.text[0] != '\0') {
		json_t *row = json_pack("{s:I, s:s, s:s}", "number", (json_int_t)s->number + 1,
		    "state", "refused", "reason", s->diag.text);
		char *text = json_dumps(row, JSON_COMPACT);

		if (text != NULL)
			pk_control_row(r, text);
		free(text);
		json_decref(row);
	}
}
