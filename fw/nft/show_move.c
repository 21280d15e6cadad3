#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "fw/filter.h"
#include "fw/nft/move.h"
#include "fw/nft/show_priv.h"
#include "fw/record_file.h"
#include "lib/clock.h"

#define RECORDS_PER_TURN 2048 /* then other events get a chance */

/* ---- sessions export ---- */

struct exporting {
	struct nft_show *show;
	struct pk_control_request *request;
	struct nft_walk *walk;
	struct fw_record_file *file;
	struct fw_filter filter;
	uint64_t nb, start_ns;
};

static const struct fw_rules *
rules_now(void *arg)
{
	const struct exporting *e = arg;

	return nft_plane_rules(e->show->conf.plane);
}

static enum nft_walk_next
export_each(void *arg, const struct nft_session *session)
{
	struct exporting *e = arg;
	struct nft_session s = *session;
	struct fw_link_status link;
	struct fw_record r;

	fw_link_status(e->show->conf.link, &link);
	s.info.rule_id = nft_show_rule(e->show, s.mark & 0xffff);
	s.info.generation = s.mark >> 16 == nft_plane_stamp(e->show->conf.plane) ? link.generation
	                                                                         : 0;
	if (!fw_filter_session(&e->filter, nft_plane_rules(e->show->conf.plane), &s.info) ||
	    !nft_record_of(&s, s.info.rule_id, s.info.generation, &r))
		return NFT_WALK_ON;
	fw_record_file_add(e->file, &r);
	e->nb++;
	return NFT_WALK_ON;
}

static void
export_done(void *arg, int rc)
{
	struct exporting *e = arg;
	struct pk_diag diag;

	e->walk = NULL;
	/* -EINTR: entries came and went meanwhile, and one may be missing or there twice, which import knows to bear. */
	if (rc < 0 && rc != -EINTR) {
		pk_control_refuse(e->request, "conntrack: %s", strerror(-rc));
		return;
	}
	rc = fw_record_file_end(e->file, &diag);
	e->file = NULL;
	if (rc < 0) {
		pk_control_refuse(e->request, "%s", diag.text);
		return;
	}
	pk_control_rowf(e->request, "{\"exported\":%" PRIu64 ",\"seconds\":%.3f}", e->nb,
	    (double)(pk_clock_mono_ns() - e->start_ns) / 1e9);
	pk_control_done(e->request);
}

static void
export_gone(void *state)
{
	struct exporting *e = state;
	struct pk_diag diag;

	nft_walk_cancel(e->walk);
	if (e->file != NULL)
		(void)fw_record_file_end(e->file, &diag);
	free(e);
}

void
nft_show_export(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct exporting *e = calloc(1, sizeof(*e));
	struct pk_diag diag;

	PK_ASSERT(e != NULL);
	e->show = arg;
	e->request = r;
	e->start_ns = pk_clock_mono_ns();
	if (fw_filter_parse(&e->filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
	} else if (e->filter.is_empty) {
		pk_control_refuse(r, "sessions export wants a filter; `all` is one");
	} else if (pk_control_fd(r) < 0) {
		pk_control_refuse(r, "sessions export wants a regular file with the request");
	} else if (fw_record_file_begin(&e->file, pk_control_fd(r)) < 0) {
		pk_control_refuse(r, "out of memory");
	} else {
		e->walk =
		    nft_walk_start(e->show->conf.track, rules_now, export_each, export_done, e);
		if (e->walk != NULL) {
			pk_control_stream(r, NULL, export_gone, e);
			return;
		}
		pk_control_refuse(r, "conntrack cannot be asked: out of memory or sockets");
		(void)fw_record_file_end(e->file, &diag);
	}
	free(e);
}

/* ---- sessions import ---- */

struct importing {
	struct pk_control_request *request;
	struct event *again;
	struct fw_record_reader reader;
	struct nft_installer *installer;
	uint64_t records, faulty, start_ns;
};

static void
import_result(struct importing *m)
{
	const uint64_t *counts = nft_installer_counts(m->installer);

	for (unsigned int k = 0; k < NFT_INSTALL_COUNT; k++) {
		uint64_t nb = counts[k] + (k == NFT_INSTALL_FAULTY ? m->faulty : 0);

		if (nb > 0)
			pk_control_rowf(m->request, "{\"result\":\"%s\",\"sessions\":%" PRIu64 "}",
			    nft_install_name(k), nb);
	}
	pk_control_rowf(m->request,
	    "{\"result\":\"records read\",\"sessions\":%" PRIu64 ",\"seconds\":%.3f}", m->records,
	    (double)(pk_clock_mono_ns() - m->start_ns) / 1e9);
}

static void
import_more(struct pk_control_request *r, void *state)
{
	static const struct timeval now = { 0 };
	struct importing *m = state;
	struct pk_diag diag;
	int rc = 1;

	if (evtimer_pending(m->again, NULL))
		return;
	for (unsigned int i = 0; i < RECORDS_PER_TURN && rc != 0; i++) {
		struct fw_record rec;

		rc = fw_record_file_next(&m->reader, &rec, &diag);
		m->records += rc == 1 || rc == -EPROTO;
		m->faulty += rc == -EPROTO;
		if (rc == 1)
			rc = nft_installer_add(m->installer, &rec, &diag) == 0 ? 1 : -EIO;
		if (rc < 0 && rc != -EPROTO)
			break;
	}
	if (rc == 1 || rc == -EPROTO) {
		evtimer_add(m->again, &now);
		return;
	}
	if (rc == 0)
		rc = nft_installer_flush(m->installer, &diag);
	import_result(m);
	if (rc < 0)
		pk_control_refuse(r, "%s", diag.text);
	else
		pk_control_done(r);
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	struct importing *m = arg;

	(void)fd;
	(void)what;
	pk_control_resume(m->request);
}

static void
import_gone(void *state)
{
	struct importing *m = state;

	event_free(m->again);
	nft_installer_destroy(m->installer);
	fw_record_reader_fini(&m->reader);
	free(m);
}

void
nft_show_import(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct importing *m = calloc(1, sizeof(*m));
	struct nft_show *s = arg;
	struct pk_diag diag;

	(void)argv;
	PK_ASSERT(m != NULL);
	m->request = r;
	m->start_ns = pk_clock_mono_ns();
	if (argc > 0) {
		pk_control_refuse(r, "sessions import takes no words");
	} else if (pk_control_fd(r) < 0) {
		pk_control_refuse(r, "sessions import wants a regular file with the request");
	} else if (nft_plane_rules(s->conf.plane) == NULL) {
		pk_control_refuse(
		    r, "there is no policy yet, so no session may be; try again later");
	} else if (nft_installer_create(&m->installer, s->conf.plane, s->conf.nb_wires, &diag) <
	    0) {
		pk_control_refuse(r, "%s", diag.text);
	} else if (fw_record_reader_init(&m->reader, pk_control_fd(r)) < 0) {
		pk_control_refuse(r, "out of memory");
		nft_installer_destroy(m->installer);
	} else {
		m->again = evtimer_new(s->conf.base, on_again, m);
		PK_ASSERT(m->again != NULL);
		pk_control_stream(r, import_more, import_gone, m);
		return;
	}
	free(m);
}
