#include "fw/show.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "fw/session.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/program.h"

#define SESSIONS_PER_TURN 128
#define RECORDS_PER_TURN  512
#define MONITOR_BACKLOG   (1 << 20) /* bytes: a slow reader loses records beyond this */
#define MONITOR_POLL_US   20000

struct filter {
	bool has_src, has_dst, has_any, drops_only;
	struct pk_prefix src, dst, any;
	int proto, sport, dport, wire; /* -1: any */
	const char *state;             /* copy, or NULL */
	char state_text[32];
};

struct monitor {
	LIST_ENTRY(monitor) link;
	struct fw_show *show;
	struct pk_control_request *request;
	struct filter filter;
	enum fw_trace_level level;
	uint64_t skipped;
};

struct fw_show {
	struct fw_show_conf conf;
	struct pk_control *control;
	struct event *poll;
	LIST_HEAD(, monitor) monitors;
	struct pk_log_limit log_limit;
	uint64_t *baseline;      /* hits a slot had when its present rule took it */
	uint64_t *baseline_rule; /* that rule's id */
	uint64_t started_wall_ns;
};

/* ---- names ---- */

static const char *
proto_name(uint8_t proto, char buf[8])
{
	switch (proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmp6";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

static const char *
side_name(unsigned int side)
{
	return side == FW_INSIDE ? "inside" : "outside";
}

/* "rule":{...} of a rule id by the generation in force, or "rule":null. */
static const char *
rule_json(const struct fw_show *s, uint64_t id, char *buf, size_t size)
{
	const struct fw_rules *r = fw_workers_rules(s->conf.workers);
	uint32_t rule = r != NULL && id != 0 ? fw_rules_find(r, id) : FW_RULE_NONE;
	char policy[160], name[128], file[256];
	struct fw_rule_info info;

	if (rule == FW_RULE_NONE) {
		snprintf(buf, size, "null");
		return buf;
	}
	fw_rules_info(r, rule, &info);
	snprintf(buf, size,
	    "{\"policy\":%s,\"name\":%s,\"file\":%s,\"line\":%u,\"verdict\":\"%s\"}",
	    pk_json_string(info.policy, policy, sizeof(policy)),
	    pk_json_string(info.name, name, sizeof(name)),
	    pk_json_string(info.file, file, sizeof(file)), info.line,
	    pk_verdict_name(info.verdict));
	return buf;
}

/* ---- filters: words as in `src 192.0.2.0/24 proto tcp dport 443` ---- */

static int
parse_number(const char *text, int max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return *text == '\0' || *end != '\0' || n > (unsigned long)max ? -1 : (int)n;
}

static int
parse_proto(const char *text)
{
	char buf[8];

	for (unsigned int p = 0; p < 256; p++)
		if (strcmp(proto_name((uint8_t)p, buf), text) == 0)
			return (int)p;
	return -1;
}

static int
filter_parse(struct filter *f, int argc, char **argv, struct pk_diag *diag)
{
	static const char *const words[] = { "src", "dst", "host", "proto", "sport", "dport",
		"wire", "state", "drops", "all" };
	const char *near;

	*f = (struct filter){ .proto = -1, .sport = -1, .dport = -1, .wire = -1 };
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		int *number = strcmp(word, "sport") == 0 ? &f->sport
		    : strcmp(word, "dport") == 0         ? &f->dport
		    : strcmp(word, "wire") == 0          ? &f->wire
		                                         : NULL;
		struct pk_prefix *prefix = strcmp(word, "src") == 0 ? &f->src
		    : strcmp(word, "dst") == 0                      ? &f->dst
		    : strcmp(word, "host") == 0                     ? &f->any
		                                                    : NULL;

		if (strcmp(word, "drops") == 0) {
			f->drops_only = true;
			continue;
		}
		if (strcmp(word, "all") == 0)
			continue;
		if (number == NULL && prefix == NULL && strcmp(word, "proto") != 0 &&
		    strcmp(word, "state") != 0) {
			near = pk_suggest(word, words, PK_COUNT(words));
			pk_diag_set(diag, "\"%.32s\" is no filter; %s%s", word,
			    near != NULL
			        ? "did you mean "
			        : "there are src, dst, host, proto, sport, dport, wire, state",
			    near != NULL ? near : "");
			return -EINVAL;
		}
		if (value == NULL) {
			pk_diag_set(diag, "%s wants a value", word);
			return -EINVAL;
		}
		i++;
		if (prefix != NULL) {
			if (pk_prefix_parse(prefix, value, diag) < 0)
				return -EINVAL;
			f->has_src |= prefix == &f->src;
			f->has_dst |= prefix == &f->dst;
			f->has_any |= prefix == &f->any;
		} else if (number != NULL) {
			*number = parse_number(value, UINT16_MAX);
			if (*number < 0) {
				pk_diag_set(
				    diag, "%s %.32s: want a number up to 65535", word, value);
				return -EINVAL;
			}
		} else if (strcmp(word, "proto") == 0) {
			f->proto = parse_proto(value);
			if (f->proto < 0) {
				pk_diag_set(diag,
				    "proto %.32s: want tcp, udp, icmp, icmp6, sctp or a number",
				    value);
				return -EINVAL;
			}
		} else {
			snprintf(f->state_text, sizeof(f->state_text), "%s", value);
			f->state = f->state_text;
		}
	}
	return 0;
}

static bool
filter_match(const struct filter *f, const struct pk_addr *src, const struct pk_addr *dst,
    uint8_t proto, uint16_t sport, uint16_t dport, uint16_t wire)
{
	return (!f->has_src || pk_prefix_contains(&f->src, src)) &&
	    (!f->has_dst || pk_prefix_contains(&f->dst, dst)) &&
	    (!f->has_any || pk_prefix_contains(&f->any, src) || pk_prefix_contains(&f->any, dst)) &&
	    (f->proto < 0 || f->proto == proto) && (f->sport < 0 || f->sport == sport) &&
	    (f->dport < 0 || f->dport == dport) && (f->wire < 0 || f->wire == wire);
}

/* ---- show sessions ---- */

struct session_walk {
	struct fw_show *show;
	struct pk_control_request *request;
	struct filter filter;
	unsigned int worker;
	uint32_t cursor;
};

static bool
session_row(void *arg, const struct fw_session_info *i)
{
	struct session_walk *w = arg;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8], rule[768];
	/* `filter.state` points into its own struct, which may have been copied. */
	const char *state = w->filter.state != NULL ? w->filter.state_text : NULL;

	if (!filter_match(&w->filter, &i->src, &i->dst, i->proto, i->sport, i->dport, i->wire) ||
	    (state != NULL && strcmp(state, i->state) != 0))
		return true;
	pk_control_rowf(w->request,
	    "{\"id\":%" PRIu64
	    ",\"wire\":%u,\"direction\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\",\"sport\":%u,"
	    "\"dst\":\"%s\",\"dport\":%u,\"state\":\"%s\",\"packets\":[%" PRIu64 ",%" PRIu64 "],"
	    "\"bytes\":[%" PRIu64 ",%" PRIu64 "],\"age_s\":%.3f,\"idle_s\":%.3f,\"expires_s\":%.3f,"
	    "\"generation\":%" PRIu64 ",\"rule\":%s}",
	    i->id, i->wire, pk_direction_name(i->direction), proto_name(i->proto, proto),
	    pk_addr_text(&i->src, src), i->sport, pk_addr_text(&i->dst, dst), i->dport, i->state,
	    i->packets[0], i->packets[1], i->bytes[0], i->bytes[1], (double)i->age_ns / 1e9,
	    (double)i->idle_ns / 1e9, (double)i->expires_in_ns / 1e9, i->generation,
	    rule_json(w->show, i->rule_id, rule, sizeof(rule)));
	return true;
}

static void
sessions_more(struct pk_control_request *r, void *state)
{
	struct session_walk *w = state;
	size_t before = pk_control_backlog(r);

	/* Go on until something matched, so that the stream does not stall on a narrow filter. */
	while (w->worker < fw_workers_count(w->show->conf.workers) &&
	    pk_control_backlog(r) == before) {
		fw_path_walk(fw_workers_path(w->show->conf.workers, w->worker), fw_workers_now_ns(),
		    &w->cursor, SESSIONS_PER_TURN, session_row, w);
		if (w->cursor == 0)
			w->worker++;
	}
	if (w->worker == fw_workers_count(w->show->conf.workers))
		pk_control_done(r);
}

static void
show_sessions(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct session_walk *w = calloc(1, sizeof(*w));
	struct pk_diag diag;

	if (w == NULL) {
		pk_control_refuse(r, "out of memory");
		return;
	}
	w->show = arg;
	w->request = r;
	if (filter_parse(&w->filter, argc, argv, &diag) < 0) {
		free(w);
		pk_control_refuse(r, "%s", diag.text);
		return;
	}
	pk_control_stream(r, sessions_more, free, w);
}

/* ---- counters ---- */

static void
show_drops(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	bool all = argc > 0 && strcmp(argv[0], "all") == 0;
	char help[512];

	for (unsigned int d = 1; d < FW_DROP_COUNT; d++) {
		uint64_t n = 0;

		for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
			n += pk_counter_read(
			    &fw_path_stats(fw_workers_path(s->conf.workers, i))->drop[d]);
		if (n > 0 || all)
			pk_control_rowf(r,
			    "{\"reason\":\"%s\",\"packets\":%" PRIu64 ",\"help\":%s}",
			    fw_drop_name(d), n,
			    pk_json_string(fw_drop_help(d), help, sizeof(help)));
	}
	pk_control_done(r);
}

static void
counter_row(struct pk_control_request *r, const char *name, uint64_t value)
{
	pk_control_rowf(r, "{\"name\":\"%s\",\"value\":%" PRIu64 "}", name, value);
}

static void
show_counters(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct fw_path_stats sum = { 0 };
	uint64_t drops = 0, sessions = 0, lost = 0, rx, sent;

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++) {
		const struct fw_path *path = fw_workers_path(s->conf.workers, i);
		const struct fw_path_stats *p = fw_path_stats(path);

		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			pk_counter_add(&sum.rx[side], pk_counter_read(&p->rx[side]));
			pk_counter_add(&sum.rx_bytes[side], pk_counter_read(&p->rx_bytes[side]));
			pk_counter_add(&sum.sent[side], pk_counter_read(&p->sent[side]));
			pk_counter_add(
			    &sum.sent_bytes[side], pk_counter_read(&p->sent_bytes[side]));
		}
		for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
			drops += pk_counter_read(&p->drop[d]);
		pk_counter_add(&sum.made, pk_counter_read(&p->made));
		pk_counter_add(&sum.sessions_created, pk_counter_read(&p->sessions_created));
		pk_counter_add(&sum.sessions_ended, pk_counter_read(&p->sessions_ended));
		pk_counter_add(&sum.sessions_expired, pk_counter_read(&p->sessions_expired));
		pk_counter_add(&sum.sessions_evicted, pk_counter_read(&p->sessions_evicted));
		pk_counter_add(&sum.policy_lookups, pk_counter_read(&p->policy_lookups));
		pk_counter_add(&sum.reevaluated, pk_counter_read(&p->reevaluated));
		pk_counter_add(&sum.revoked, pk_counter_read(&p->revoked));
		sessions += fw_path_nb_sessions(path);
		lost += fw_trace_lost(fw_workers_trace(s->conf.workers, i));
	}
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		char name[48];

		snprintf(name, sizeof(name), "rx-%s-packets", side_name(side));
		counter_row(r, name, sum.rx[side]);
		snprintf(name, sizeof(name), "rx-%s-bytes", side_name(side));
		counter_row(r, name, sum.rx_bytes[side]);
		snprintf(name, sizeof(name), "sent-%s-packets", side_name(side));
		counter_row(r, name, sum.sent[side]);
		snprintf(name, sizeof(name), "sent-%s-bytes", side_name(side));
		counter_row(r, name, sum.sent_bytes[side]);
	}
	rx = sum.rx[FW_INSIDE] + sum.rx[FW_OUTSIDE];
	sent = sum.sent[FW_INSIDE] + sum.sent[FW_OUTSIDE];
	counter_row(r, "drops", drops);
	/* The account: zero when every received packet was sent or dropped with a reason. */
	pk_control_rowf(
	    r, "{\"name\":\"unaccounted\",\"value\":%" PRId64 "}", (int64_t)(rx - sent - drops));
	counter_row(r, "made", sum.made);
	counter_row(r, "sessions", sessions);
	counter_row(r, "sessions-created", sum.sessions_created);
	counter_row(r, "sessions-ended", sum.sessions_ended);
	counter_row(r, "sessions-expired", sum.sessions_expired);
	counter_row(r, "sessions-evicted", sum.sessions_evicted);
	counter_row(r, "policy-lookups", sum.policy_lookups);
	counter_row(r, "sessions-reevaluated", sum.reevaluated);
	counter_row(r, "sessions-revoked", sum.revoked);
	counter_row(r, "trace-records-lost", lost);
	pk_control_done(r);
}

static uint64_t
slot_hits(const struct fw_show *s, uint32_t slot)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
		n += pk_counter_read(&fw_path_rule_hits(fw_workers_path(s->conf.workers, i))[slot]);
	return n;
}

static int
seen_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void
show_rules(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	const struct fw_rules *rules = fw_workers_rules(s->conf.workers);
	uint32_t n = rules != NULL ? fw_rules_count(rules) : 0, nb_seen = 0;
	uint64_t *seen = calloc(n + 1, sizeof(*seen));
	char policy[160], name[128], file[256];

	(void)argv;
	if (argc > 0 || seen == NULL) {
		free(seen);
		pk_control_refuse(r, argc > 0 ? "show rules takes no words" : "out of memory");
		return;
	}
	/* A rule stands in one program for each class of subjects, with one counter for all. */
	for (uint32_t i = 0; i < n; i++) {
		struct fw_rule_info info;

		fw_rules_info(rules, i, &info);
		seen[nb_seen++] = info.id;
	}
	qsort(seen, nb_seen, sizeof(*seen), seen_compare);
	for (uint32_t i = 0; i < nb_seen; i++) {
		struct fw_rule_info info;
		uint64_t hits;

		if (i > 0 && seen[i] == seen[i - 1])
			continue;
		fw_rules_info(rules, fw_rules_find(rules, seen[i]), &info);
		hits = slot_hits(s, info.slot);
		if (s->baseline_rule[info.slot] != info.id) {
			s->baseline[info.slot] = s->baseline_rule[info.slot] != 0 ? hits : 0;
			s->baseline_rule[info.slot] = info.id;
		}
		pk_control_rowf(r,
		    "{\"policy\":%s,\"name\":%s,\"direction\":\"%s\",\"verdict\":\"%s\",\"mode\":\"%s\",\"hits\":%" PRIu64
		    ",\"file\":%s,\"line\":%u,\"tier\":%u,\"id\":\"%016" PRIx64 "\"}",
		    pk_json_string(info.policy, policy, sizeof(policy)),
		    pk_json_string(info.name, name, sizeof(name)),
		    pk_direction_name(info.direction), pk_verdict_name(info.verdict),
		    (info.flags & PK_RULE_AUDIT) != 0 ? "audit" : "enforce",
		    hits - s->baseline[info.slot], pk_json_string(info.file, file, sizeof(file)),
		    info.line, info.tier, info.id);
	}
	free(seen);
	pk_control_done(r);
}

static void
show_status(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct fw_link_status link;
	struct fw_posture_status posture;
	char instance[160];

	(void)argc;
	(void)argv;
	fw_link_status(s->conf.link, &link);
	fw_posture_link_status(s->conf.posture, &posture);
	pk_control_rowf(r,
	    "{\"program\":\"picketd\",\"plane\":\"dpdk\",\"instance\":%s,\"generation\":%" PRIu64
	    ",\"since\":%.3f,\"agent\":%s,\"commits\":%" PRIu64 ",\"rejected\":%" PRIu64
	    ",\"last_commit_us\":%.1f,\"attested\":%s,\"lease_ms\":%" PRIu64
	    ",\"posture_epoch\":%" PRIu64 ",\"wires\":%u,\"lcores\":%u,\"started\":%.3f}",
	    pk_json_string(s->conf.instance, instance, sizeof(instance)), link.generation,
	    (double)link.since_wall_ns / 1e9, link.connected ? "true" : "false", link.commits,
	    link.rejected, (double)link.last_commit_ns / 1e3, posture.attested ? "true" : "false",
	    posture.lease_ns / PK_NS_PER_MS, posture.epoch, s->conf.nb_wires,
	    fw_workers_count(s->conf.workers), (double)s->started_wall_ns / 1e9);
	pk_control_done(r);
}

static void
show_lcores(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++) {
		struct fw_worker_stats w;

		fw_workers_stats(s->conf.workers, i, &w);
		pk_control_rowf(r,
		    "{\"lcore\":%u,\"sessions\":%u,\"packets\":%" PRIu64 ",\"loops\":%" PRIu64
		    ",\"idle\":%" PRIu64 ",\"sleeps\":%" PRIu64 ",\"cycles_per_packet\":%.1f}",
		    w.lcore, fw_path_nb_sessions(fw_workers_path(s->conf.workers, i)), w.packets,
		    w.loops, w.idle_loops, w.sleeps,
		    w.packets != 0 ? (double)w.busy_cycles / (double)w.packets : 0.0);
	}
	pk_control_done(r);
}

static void
show_wires(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	char inside[320], outside[320];

	(void)argc;
	(void)argv;
	for (uint16_t i = 0; i < s->conf.nb_wires; i++) {
		const struct fw_wire *w = &s->conf.wires[i];

		pk_control_rowf(r, "{\"wire\":%u,\"inside\":%s,\"outside\":%s,\"queues\":%u}", i,
		    pk_json_string(w->port[FW_INSIDE].spec, inside, sizeof(inside)),
		    pk_json_string(w->port[FW_OUTSIDE].spec, outside, sizeof(outside)),
		    w->port[FW_INSIDE].nb_queues);
	}
	pk_control_done(r);
}

static void
show_config(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;

	(void)argc;
	(void)argv;
	pk_program_show_config(s->conf.program, s->conf.values, r);
}

/* ---- monitor, and the log of rules that ask for one ---- */

static const char *const kind_names[] = { "none", "packet", "made", "opened", "closed", "audit" };

static void
monitor_row(struct monitor *m, const struct fw_trace_record *t)
{
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8], rule[768], audit[768];

	if (!filter_match(&m->filter, &t->src, &t->dst, t->proto, t->sport, t->dport, t->wire) ||
	    (m->filter.drops_only && t->drop == FW_DROP_NONE))
		return;
	if (pk_control_backlog(m->request) > MONITOR_BACKLOG) {
		m->skipped++;
		return;
	}
	pk_control_rowf(m->request,
	    "{\"kind\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\",\"wire\":%u,\"from\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\","
	    "\"sport\":%u,\"dst\":\"%s\",\"dport\":%u,\"len\":%u,\"state\":\"%s\",\"session\":%" PRIu64
	    ",\"generation\":%" PRIu64 ",\"rule\":%s,\"audit\":%s,\"skipped\":%" PRIu64 "}",
	    kind_names[t->kind < PK_COUNT(kind_names) ? t->kind : 0],
	    t->drop != FW_DROP_NONE ? "drop" : "pass", fw_drop_name(t->drop), t->wire,
	    side_name(t->from), proto_name(t->proto, proto), pk_addr_text(&t->src, src), t->sport,
	    pk_addr_text(&t->dst, dst), t->dport, t->len, fw_session_state_name(t->state),
	    t->session, t->generation, rule_json(m->show, t->rule_id, rule, sizeof(rule)),
	    rule_json(m->show, t->audit_rule_id, audit, sizeof(audit)), m->skipped);
}

/* One line per record of a rule that wants a log. */
static void
log_record(struct fw_show *s, const struct fw_trace_record *t)
{
	const struct fw_rules *r = fw_workers_rules(s->conf.workers);
	uint64_t id = t->kind == FW_TRACE_AUDIT ? t->audit_rule_id : t->rule_id;
	uint32_t rule = r != NULL && id != 0 ? fw_rules_find(r, id) : FW_RULE_NONE, suppressed;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8];
	struct fw_rule_info info;

	if (rule == FW_RULE_NONE || t->kind == FW_TRACE_MADE ||
	    !pk_log_limit(&s->log_limit, pk_clock_mono_ns(), &suppressed))
		return;
	fw_rules_info(r, rule, &info);
	pk_notice("flow %s: %s %s %s:%u -> %s:%u: rule \"%s\" of policy \"%s\" (%s:%u)%s",
	    kind_names[t->kind],
	    t->kind == FW_TRACE_AUDIT     ? pk_verdict_name(t->audit_verdict)
	        : t->drop != FW_DROP_NONE ? fw_drop_name(t->drop)
	                                  : "allow",
	    proto_name(t->proto, proto), pk_addr_text(&t->src, src), t->sport,
	    pk_addr_text(&t->dst, dst), t->dport, info.name, info.policy, info.file, info.line,
	    suppressed != 0 ? "; others left out before it" : "");
}

static bool
is_logged(const struct fw_show *s, const struct fw_trace_record *t)
{
	if (t->kind == FW_TRACE_AUDIT)
		return true;
	if (LIST_EMPTY(&s->monitors))
		return true; /* at this level nothing else is recorded */
	return t->kind == FW_TRACE_OPENED || t->kind == FW_TRACE_CLOSED;
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	static struct fw_trace_record records[RECORDS_PER_TURN];
	struct fw_show *s = arg;

	(void)fd;
	(void)what;
	for (unsigned int w = 0; w < fw_workers_count(s->conf.workers); w++) {
		unsigned int n =
		    fw_trace_take(fw_workers_trace(s->conf.workers, w), records, RECORDS_PER_TURN);

		for (unsigned int i = 0; i < n; i++) {
			struct monitor *m;

			LIST_FOREACH(m, &s->monitors, link)
				monitor_row(m, &records[i]);
			if (is_logged(s, &records[i]))
				log_record(s, &records[i]);
		}
	}
}

static void
set_level(struct fw_show *s)
{
	enum fw_trace_level level = FW_TRACE_LOGGED;
	struct monitor *m;

	LIST_FOREACH(m, &s->monitors, link)
		level = PK_MAX(level, m->level);
	for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++)
		fw_trace_set_level(fw_workers_trace(s->conf.workers, i), level);
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
monitor(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct pk_diag diag;

	if (m == NULL) {
		pk_control_refuse(r, "out of memory");
		return;
	}
	m->show = arg;
	m->request = r;
	if (filter_parse(&m->filter, argc, argv, &diag) < 0) {
		free(m);
		pk_control_refuse(r, "%s", diag.text);
		return;
	}
	m->level = m->filter.drops_only ? FW_TRACE_DROPS : FW_TRACE_ALL;
	LIST_INSERT_HEAD(&m->show->monitors, m, link);
	pk_control_stream(r, NULL, monitor_gone, m);
	set_level(m->show);
}

static const struct pk_control_command commands[] = {
	{ "show status", "", "what this data plane enforces, and since when", show_status },
	{ "show sessions",
	    "[src P] [dst P] [host P] [proto P] [sport N] [dport N] [wire N] [state S]",
	    "live sessions", show_sessions },
	{ "show drops", "[all]", "dropped packets by reason", show_drops },
	{ "show counters", "", "packets, bytes, sessions, and whether the account balances",
	    show_counters },
	{ "show rules", "", "rules in force with their hits", show_rules },
	{ "show lcores", "", "load of each lcore", show_lcores },
	{ "show wires", "", "wires and their ports", show_wires },
	{ "show config", "", "configuration in use", show_config },
	{ "monitor", "[drops] [filter as in show sessions]", "verdicts as they fall", monitor },
	{ NULL, NULL, NULL, NULL },
};

int
fw_show_create(struct fw_show **out, const struct fw_show_conf *conf, struct pk_diag *diag)
{
	static const struct timeval every = { .tv_usec = MONITOR_POLL_US };
	struct fw_show *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (s == NULL)
		return -ENOMEM;
	s->conf = *conf;
	s->log_limit = (struct pk_log_limit)PK_LOG_LIMIT(50, 200);
	s->started_wall_ns = pk_clock_wall_ns();
	LIST_INIT(&s->monitors);
	s->baseline = calloc(FW_RULE_SLOTS, sizeof(*s->baseline));
	s->baseline_rule = calloc(FW_RULE_SLOTS, sizeof(*s->baseline_rule));
	s->poll = event_new(conf->base, -1, EV_PERSIST, on_poll, s);
	if (s->baseline == NULL || s->baseline_rule == NULL || s->poll == NULL ||
	    event_add(s->poll, &every) < 0)
		pk_diag_set(diag, "out of memory");
	else
		rc = pk_control_create(&s->control, conf->base, conf->path, commands, s, diag);
	if (rc < 0) {
		fw_show_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void
fw_show_destroy(struct fw_show *s)
{
	if (s == NULL)
		return;
	pk_control_destroy(s->control);
	if (s->poll != NULL)
		event_free(s->poll);
	free(s->baseline);
	free(s->baseline_rule);
	free(s);
}
