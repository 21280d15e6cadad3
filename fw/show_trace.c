#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "dpi/sig_rule.h"
#include "fw/session.h"
#include "fw/show_priv.h"
#include "lib/clock.h"

/*
 * Packets with their verdicts: `monitor` says what was decided, `capture` gives the bytes as well, and what
 * rules want in the log is written there.  All of them read the lcores' traces (fw/trace.h); while nobody asks,
 * only what rules log is recorded.
 */
#define RECORDS_PER_TURN 512
#define TURNS            32        /* at most, before other events have theirs */
#define BACKLOG_MAX      (1 << 20) /* bytes: a slow reader loses records beyond this */
#define POLL_US          20000
#define POLL_CAPTURE_US  1000 /* a trace of 16,384 records then holds what an lcore does at most */
#define CAPTURE_COUNT    1000
#define CAPTURE_SECONDS  60

struct monitor {
	LIST_ENTRY(monitor) link;
	struct fw_show_trace *show;
	struct pk_control_request *request;
	struct fw_filter filter;
	enum fw_trace_level level;
	bool capture;
	bool over; /* its last line is written */
	uint64_t skipped, lost_before;
	uint64_t left, end_ns; /* capture: packets, and when it ends */
	uint32_t snaplen;
};

struct fw_show_trace {
	struct fw_show *show;
	struct event *poll;
	LIST_HEAD(, monitor) monitors;
	struct pk_log_limit log_limit;
	bool capturing;
	struct fw_trace_record records[RECORDS_PER_TURN];
	uint8_t snaps[RECORDS_PER_TURN][FW_TRACE_SNAP_MAX];
};

static uint64_t
lost(const struct fw_show_trace *s)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < fw_workers_count(s->show->conf.workers); i++)
		n += fw_trace_lost(fw_workers_trace(s->show->conf.workers, i));
	return n;
}

/* ---- monitor, and the log of rules that ask for one ---- */

static const char *const kind_names[] = { "none", "packet", "made", "opened", "closed", "found",
	"audit", "alert" };

static void
monitor_row(struct monitor *m, const struct fw_trace_record *t)
{
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8], rule[FW_SHOW_RULE_JSON],
	    audit[FW_SHOW_RULE_JSON];

	if (pk_control_backlog(m->request) > BACKLOG_MAX) {
		m->skipped++;
		return;
	}
	pk_control_rowf(m->request,
	    "{\"kind\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\",\"wire\":%u,\"from\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\","
	    "\"sport\":%u,\"dst\":\"%s\",\"dport\":%u,\"len\":%u,\"state\":\"%s\",\"app\":\"%s\",\"session\":%" PRIu64
	    ",\"generation\":%" PRIu64 ",\"rule\":%s,\"audit\":%s,\"skipped\":%" PRIu64 "}",
	    kind_names[t->kind < PK_COUNT(kind_names) ? t->kind : 0],
	    t->drop != FW_DROP_NONE ? "drop" : "pass", fw_drop_name(t->drop), t->wire,
	    fw_show_side(t->from), fw_proto_name(t->proto, proto), pk_addr_text(&t->src, src),
	    t->sport, pk_addr_text(&t->dst, dst), t->dport, t->len, fw_session_state_name(t->state),
	    fw_app_name(t->app), t->session, t->generation,
	    fw_show_rule(m->show->show, t->rule_id, rule, sizeof(rule)),
	    fw_show_rule(m->show->show, t->audit_rule_id, audit, sizeof(audit)), m->skipped);
}

/* One line per record of a rule that wants a log. */
static void
log_record(struct fw_show_trace *s, const struct fw_trace_record *t)
{
	uint64_t id = t->kind == FW_TRACE_AUDIT ? t->audit_rule_id : t->rule_id;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8];
	struct fw_rule_info info;
	uint32_t suppressed;

	if (t->kind == FW_TRACE_MADE ||
	    !fw_rules_info_by_id(fw_workers_rules(s->show->conf.workers), id, &info) ||
	    !pk_log_limit(&s->log_limit, pk_clock_mono_ns(), &suppressed))
		return;
	if (t->kind == FW_TRACE_ALERT) {
		pk_notice("signature %u:%u:%u %s: %s %s:%u -> %s:%u: %s", t->sig->gid, t->sig->sid,
		    t->sig->rev, t->drop != FW_DROP_NONE ? "blocked" : "allowed",
		    fw_proto_name(t->proto, proto), pk_addr_text(&t->src, src), t->sport,
		    pk_addr_text(&t->dst, dst), t->dport, t->sig->msg != NULL ? t->sig->msg : "");
		return;
	}
	pk_notice("flow %s: %s %s %s:%u -> %s:%u%s%s: rule \"%s\" of policy \"%s\" (%s:%u)%s",
	    kind_names[t->kind],
	    t->kind == FW_TRACE_AUDIT     ? pk_verdict_name(t->audit_verdict)
	        : t->drop != FW_DROP_NONE ? fw_drop_name(t->drop)
	                                  : "allow",
	    fw_proto_name(t->proto, proto), pk_addr_text(&t->src, src), t->sport,
	    pk_addr_text(&t->dst, dst), t->dport, t->app != FW_APP_NONE ? ", app " : "",
	    t->app != FW_APP_NONE ? fw_app_name(t->app) : "", info.name, info.policy, info.file,
	    info.line, suppressed != 0 ? "; others left out before it" : "");
}

/* ---- capture ---- */

static void
capture_row(struct monitor *m, const struct fw_trace_record *t, const uint8_t *snap)
{
	static const char digits[] = "0123456789abcdef";
	static char row[2 * FW_TRACE_SNAP_MAX + 4 * FW_SHOW_RULE_JSON];
	uint32_t n = PK_MIN((uint32_t)t->snap_len, m->snaplen);
	char rule[FW_SHOW_RULE_JSON];
	/* Traces count by the lcores' clock. */
	uint64_t wall_ns = pk_clock_wall_ns() - (fw_workers_now_ns() - t->time_ns);
	size_t at;

	if (m->left == 0 || t->kind != FW_TRACE_PACKET || n == 0)
		return;
	if (pk_control_backlog(m->request) > BACKLOG_MAX) {
		m->skipped++;
		return;
	}
	at = (size_t)snprintf(row, sizeof(row),
	    "{\"time_ns\":%" PRIu64
	    ",\"wire\":%u,\"from\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\","
	    "\"state\":\"%s\",\"session\":%" PRIu64 ",\"generation\":%" PRIu64
	    ",\"len\":%u,\"rule\":%s,\"bytes\":\"",
	    wall_ns, t->wire, fw_show_side(t->from), t->drop != FW_DROP_NONE ? "drop" : "pass",
	    fw_drop_name(t->drop), fw_session_state_name(t->state), t->session, t->generation,
	    t->len, fw_show_rule(m->show->show, t->rule_id, rule, sizeof(rule)));
	for (uint32_t i = 0; i < n; i++) {
		row[at++] = digits[snap[i] >> 4];
		row[at++] = digits[snap[i] & 15];
	}
	memcpy(row + at, "\"}", 3);
	pk_control_row(m->request, row);
	m->left--;
}

/* ---- reading the traces ---- */

static bool
is_logged(const struct fw_show_trace *s, const struct fw_trace_record *t)
{
	if (t->kind == FW_TRACE_AUDIT)
		return true;
	if (t->event_only)
		return false;
	/* At this level nothing else is recorded; but a monitor that has just gone may have left some. */
	if (LIST_EMPTY(&s->monitors))
		return t->kind != FW_TRACE_PACKET || t->drop != FW_DROP_NONE;
	return t->kind == FW_TRACE_OPENED || t->kind == FW_TRACE_CLOSED ||
	    t->kind == FW_TRACE_FOUND || t->kind == FW_TRACE_ALERT;
}

static void
take(struct fw_show_trace *s, const struct fw_trace_record *t, const uint8_t *snap)
{
	struct monitor *m;

	LIST_FOREACH(m, &s->monitors, link) {
		if (m->over || !fw_filter_packet(&m->filter, t))
			continue;
		if (m->capture)
			capture_row(m, t, snap);
		else
			monitor_row(m, t);
	}
	if (is_logged(s, t))
		log_record(s, t);
	if (s->show->conf.eve != NULL) {
		struct fw_rule_info info;
		bool known =
		    fw_rules_info_by_id(fw_workers_rules(s->show->conf.workers), t->rule_id, &info);

		fw_eve_record(s->show->conf.eve, t, known ? &info : NULL,
		    pk_clock_wall_ns() - fw_workers_now_ns());
	}
}

static void
end_captures(struct fw_show_trace *s)
{
	uint64_t now = pk_clock_mono_ns();
	struct monitor *m, *next;

	for (m = LIST_FIRST(&s->monitors); m != NULL; m = next) {
		next = LIST_NEXT(m, link);
		if (!m->capture || m->over || (m->left > 0 && now < m->end_ns))
			continue;
		pk_control_rowf(m->request, "{\"skipped\":%" PRIu64 ",\"lost\":%" PRIu64 "}",
		    m->skipped, lost(s) - m->lost_before);
		pk_control_done(m->request);
		m->over = true;
		pk_control_resume(m->request); /* may free it */
	}
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct fw_show_trace *s = arg;

	(void)fd;
	(void)what;
	for (unsigned int w = 0; w < fw_workers_count(s->show->conf.workers); w++) {
		for (unsigned int turn = 0; turn < TURNS; turn++) {
			unsigned int n =
			    fw_trace_take_snaps(fw_workers_trace(s->show->conf.workers, w),
			        s->records, s->capturing ? s->snaps : NULL, RECORDS_PER_TURN);

			for (unsigned int i = 0; i < n; i++)
				take(s, &s->records[i], s->snaps[i]);
			if (n < RECORDS_PER_TURN)
				break;
		}
	}
	if (s->show->conf.eve != NULL)
		fw_eve_flush(s->show->conf.eve);
	if (s->capturing)
		end_captures(s);
}

/* As much as somebody wants to see, and no more. */
static void
set_level(struct fw_show_trace *s)
{
	enum fw_trace_level level = FW_TRACE_LOGGED;
	uint32_t snaplen = 0;
	struct timeval every;
	struct monitor *m;

	LIST_FOREACH(m, &s->monitors, link) {
		level = PK_MAX(level, m->level);
		snaplen = PK_MAX(snaplen, m->snaplen);
	}
	for (unsigned int i = 0; i < fw_workers_count(s->show->conf.workers); i++) {
		struct fw_trace *t = fw_workers_trace(s->show->conf.workers, i);

		(void)fw_trace_set_snaplen(
		    t, snaplen); /* the memory was there when it was first asked for */
		fw_trace_set_level(t, level);
	}
	s->capturing = snaplen != 0;
	every = (struct timeval){ .tv_usec = s->capturing ? POLL_CAPTURE_US : POLL_US };
	event_add(s->poll, &every);
}

static void
monitor_gone(void *state)
{
	struct monitor *m = state;

	LIST_REMOVE(m, link);
	set_level(m->show);
	free(m);
}

static void
start(struct monitor *m, struct pk_control_request *r)
{
	m->request = r;
	m->level = m->filter.drops_only ? FW_TRACE_DROPS : FW_TRACE_ALL;
	m->lost_before = lost(m->show);
	LIST_INSERT_HEAD(&m->show->monitors, m, link);
	pk_control_stream(r, NULL, monitor_gone, m);
	set_level(m->show);
}

void
fw_show_monitor(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct fw_show *s = arg;
	struct pk_diag diag;

	PK_ASSERT(m != NULL);
	m->show = s->trace;
	if (fw_filter_parse(&m->filter, FW_FILTER_PACKETS, argc, argv, &diag) < 0) {
		free(m);
		pk_control_refuse(r, "%s", diag.text);
		return;
	}
	start(m, r);
}

/* The words that are of a capture and not of its filter. */
static int
capture_words(struct monitor *m, int *argc, char **argv, struct pk_diag *diag)
{
	static const struct {
		const char *word;
		uint64_t max;
	} words[] = { { "count", 1000000 }, { "seconds", 3600 }, { "snaplen", FW_TRACE_SNAP_MAX } };
	uint64_t value[PK_COUNT(words)] = { CAPTURE_COUNT, CAPTURE_SECONDS, FW_TRACE_SNAP_MAX };
	int n = 0;

	for (int i = 0; i < *argc; i++) {
		size_t k = 0;
		char *end;

		while (k < PK_COUNT(words) && strcmp(words[k].word, argv[i]) != 0)
			k++;
		if (k == PK_COUNT(words)) {
			argv[n++] = argv[i];
			continue;
		}
		value[k] = i + 1 < *argc ? strtoull(argv[i + 1], &end, 10) : 0;
		if (value[k] == 0 || *end != '\0' || value[k] > words[k].max) {
			pk_diag_set(diag, "%s wants a number from 1 to %" PRIu64, words[k].word,
			    words[k].max);
			return -EINVAL;
		}
		i++;
	}
	*argc = n;
	m->capture = true;
	m->left = value[0];
	m->end_ns = pk_clock_mono_ns() + value[1] * PK_NS_PER_S;
	m->snaplen = (uint32_t)value[2];
	return 0;
}

void
fw_show_capture(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct fw_show *s = arg;
	struct pk_diag diag;
	int rc;

	PK_ASSERT(m != NULL);
	m->show = s->trace;
	rc = capture_words(m, &argc, argv, &diag);
	if (rc == 0)
		rc = fw_filter_parse(&m->filter, FW_FILTER_PACKETS, argc, argv, &diag);
	for (unsigned int i = 0; rc == 0 && i < fw_workers_count(s->conf.workers); i++) {
		pk_diag_set(&diag, "no memory for captured bytes; want smaller trace-records");
		rc = fw_trace_set_snaplen(fw_workers_trace(s->conf.workers, i), m->snaplen);
	}
	if (rc < 0) {
		free(m);
		pk_control_refuse(r, "%s", diag.text);
		return;
	}
	start(m, r);
}

int
fw_show_trace_create(struct fw_show *show)
{
	static const struct timeval every = { .tv_usec = POLL_US };
	struct fw_show_trace *s = calloc(1, sizeof(*s));

	show->trace = s;
	if (s == NULL)
		return -ENOMEM;
	s->show = show;
	s->log_limit = (struct pk_log_limit)PK_LOG_LIMIT(50, 200);
	LIST_INIT(&s->monitors);
	s->poll = event_new(show->conf.base, -1, EV_PERSIST, on_poll, s);
	return s->poll == NULL || event_add(s->poll, &every) < 0 ? -ENOMEM : 0;
}

void
fw_show_trace_destroy(struct fw_show *show)
{
	struct fw_show_trace *s = show->trace;

	if (s == NULL)
		return;
	if (s->poll != NULL)
		event_free(s->poll);
	free(s);
	show->trace = NULL;
}
