#include "fw/show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/watch.h"
#include "fw/show_priv.h"
#include "lib/clock.h"
#include "lib/program.h"

/* ---- names ---- */

const char *
fw_show_side(unsigned int side)
{
	return side == FW_INSIDE ? "inside" : "outside";
}

const char *
fw_show_rule(const struct fw_show *s, uint64_t id, char *buf, size_t size)
{
	char policy[160], name[128], file[256];
	struct fw_rule_info info;

	if (!fw_rules_info_by_id(fw_workers_rules(s->conf.workers), id, &info)) {
		snprintf(buf, size, "null");
		return buf;
	}
	snprintf(buf, size,
	    "{\"policy\":%s,\"name\":%s,\"file\":%s,\"line\":%u,\"verdict\":\"%s\"}",
	    pk_json_string(info.policy, policy, sizeof(policy)),
	    pk_json_string(info.name, name, sizeof(name)),
	    pk_json_string(info.file, file, sizeof(file)), info.line,
	    pk_verdict_name(info.verdict));
	return buf;
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
add_watches(struct dpi_watch_stats *sum, const struct fw_path *path)
{
	struct dpi_watches *w = fw_path_watches((struct fw_path *)(uintptr_t)path);
	struct dpi_watch_stats s;

	if (w == NULL)
		return;
	dpi_watches_stats(w, &s);
	sum->sessions += s.sessions;
	sum->bytes += s.bytes;
	sum->room += s.room;
	sum->packets += s.packets;
	sum->begun += s.begun;
	sum->done += s.done;
	sum->evicted += s.evicted;
	sum->full += s.full;
	sum->counts.steps_exceeded += s.counts.steps_exceeded;
	sum->counts.pcre_exceeded += s.counts.pcre_exceeded;
	sum->counts.candidates_lost += s.counts.candidates_lost;
	sum->counts.capped += s.counts.capped;
	sum->counts.scan_errors += s.counts.scan_errors;
}

static void
show_counters(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct fw_path_stats sum = { 0 };
	struct dpi_watch_stats watch = { 0 };
	uint64_t drops = 0, sessions = 0, inspecting = 0, lost = 0, rx, sent;

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
		pk_counter_add(&sum.own, pk_counter_read(&p->own));
		pk_counter_add(&sum.sessions_created, pk_counter_read(&p->sessions_created));
		pk_counter_add(&sum.sessions_ended, pk_counter_read(&p->sessions_ended));
		pk_counter_add(&sum.sessions_expired, pk_counter_read(&p->sessions_expired));
		pk_counter_add(&sum.sessions_evicted, pk_counter_read(&p->sessions_evicted));
		pk_counter_add(&sum.policy_lookups, pk_counter_read(&p->policy_lookups));
		pk_counter_add(&sum.reevaluated, pk_counter_read(&p->reevaluated));
		pk_counter_add(&sum.revoked, pk_counter_read(&p->revoked));
		pk_counter_add(&sum.inspect_packets, pk_counter_read(&p->inspect_packets));
		pk_counter_add(&sum.inspect_evicted, pk_counter_read(&p->inspect_evicted));
		pk_counter_add(&sum.inspect_full, pk_counter_read(&p->inspect_full));
		inspecting += fw_path_inspecting(path);
		pk_counter_add(&sum.sig_alerts, pk_counter_read(&p->sig_alerts));
		add_watches(&watch, path);
		pk_counter_add(&sum.syn_cookies_sent, pk_counter_read(&p->syn_cookies_sent));
		pk_counter_add(
		    &sum.syn_cookies_accepted, pk_counter_read(&p->syn_cookies_accepted));
		pk_counter_add(
		    &sum.syn_cookies_switched, pk_counter_read(&p->syn_cookies_switched));
		pk_counter_add(&sum.syn_cookies_on, pk_counter_read(&p->syn_cookies_on));
		pk_counter_add(&sum.leases_full, pk_counter_read(&p->leases_full));
		pk_counter_add(&sum.names_learnt, pk_counter_read(&p->names_learnt));
		pk_counter_add(&sum.names_full, pk_counter_read(&p->names_full));
		pk_counter_add(&sum.names_unread, pk_counter_read(&p->names_unread));
		pk_counter_add(&sum.related_announced, pk_counter_read(&p->related_announced));
		pk_counter_add(&sum.related_refused, pk_counter_read(&p->related_refused));
		pk_counter_add(&sum.related_opened, pk_counter_read(&p->related_opened));
		sessions += fw_path_nb_sessions(path);
		lost += fw_trace_lost(fw_workers_trace(s->conf.workers, i));
	}
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		char name[48];

		snprintf(name, sizeof(name), "rx-%s-packets", fw_show_side(side));
		counter_row(r, name, sum.rx[side]);
		snprintf(name, sizeof(name), "rx-%s-bytes", fw_show_side(side));
		counter_row(r, name, sum.rx_bytes[side]);
		snprintf(name, sizeof(name), "sent-%s-packets", fw_show_side(side));
		counter_row(r, name, sum.sent[side]);
		snprintf(name, sizeof(name), "sent-%s-bytes", fw_show_side(side));
		counter_row(r, name, sum.sent_bytes[side]);
	}
	counter_row(r, "own", sum.own);
	rx = sum.rx[FW_INSIDE] + sum.rx[FW_OUTSIDE];
	sent = sum.sent[FW_INSIDE] + sum.sent[FW_OUTSIDE];
	counter_row(r, "drops", drops);
	/* The account: zero when every received packet was sent, was for the DPU itself, or dropped with a reason. */
	pk_control_rowf(r, "{\"name\":\"unaccounted\",\"value\":%" PRId64 "}",
	    (int64_t)(rx - sent - sum.own - drops));
	counter_row(r, "made", sum.made);
	counter_row(r, "sessions", sessions);
	counter_row(r, "sessions-created", sum.sessions_created);
	counter_row(r, "sessions-ended", sum.sessions_ended);
	counter_row(r, "sessions-expired", sum.sessions_expired);
	counter_row(r, "sessions-evicted", sum.sessions_evicted);
	counter_row(r, "syn-cookies-sent", sum.syn_cookies_sent);
	counter_row(r, "syn-cookies-accepted", sum.syn_cookies_accepted);
	counter_row(r, "syn-cookies-switched-on", sum.syn_cookies_switched);
	/* How many lcores are in that mode now. */
	counter_row(r, "syn-cookies-on", sum.syn_cookies_on);
	counter_row(r, "dhcp-leases-not-kept", sum.leases_full);
	counter_row(r, "names-learnt", sum.names_learnt);
	counter_row(r, "names-not-kept", sum.names_full);
	counter_row(r, "names-answers-not-read", sum.names_unread);
	counter_row(r, "related-announced", sum.related_announced);
	counter_row(r, "related-refused", sum.related_refused);
	counter_row(r, "related-opened", sum.related_opened);
	counter_row(r, "policy-lookups", sum.policy_lookups);
	counter_row(r, "sessions-reevaluated", sum.reevaluated);
	counter_row(r, "sessions-revoked", sum.revoked);
	counter_row(r, "inspecting", inspecting);
	counter_row(r, "inspect-packets", sum.inspect_packets);
	counter_row(r, "inspect-evicted", sum.inspect_evicted);
	counter_row(r, "inspect-full", sum.inspect_full);
	counter_row(r, "signature-sessions", watch.sessions);
	counter_row(r, "signature-sessions-begun", watch.begun);
	counter_row(r, "signature-sessions-done", watch.done);
	counter_row(r, "signature-sessions-evicted", watch.evicted);
	counter_row(r, "signature-packets", watch.packets);
	counter_row(r, "signature-bytes", watch.bytes);
	counter_row(r, "signature-room", watch.room);
	counter_row(r, "signature-full", watch.full);
	counter_row(r, "signature-alerts", sum.sig_alerts);
	counter_row(r, "signature-limits",
	    watch.counts.steps_exceeded + watch.counts.pcre_exceeded +
	        watch.counts.candidates_lost + watch.counts.capped);
	counter_row(r, "signature-scan-errors", watch.counts.scan_errors);
	if (s->conf.eve != NULL)
		counter_row(r, "events-lost", fw_eve_lost(s->conf.eve));
	counter_row(r, "trace-records-lost", lost);
	pk_control_done(r);
}

static void
show_apps(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;

	(void)argc;
	(void)argv;
	for (unsigned int a = 1; a < FW_APPS; a++) {
		uint64_t found = 0, denied = 0;

		for (unsigned int i = 0; i < fw_workers_count(s->conf.workers); i++) {
			const struct fw_path *p = fw_workers_path(s->conf.workers, i);

			found += pk_counter_read(&fw_path_apps_found(p)[a]);
			denied += pk_counter_read(&fw_path_apps_denied(p)[a]);
		}
		if (found + denied > 0)
			pk_control_rowf(r,
			    "{\"app\":\"%s\",\"sessions\":%" PRIu64 ",\"denied\":%" PRIu64 "}",
			    fw_app_name((uint8_t)a), found, denied);
	}
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

static void
show_rules(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	const struct fw_rules *rules = fw_workers_rules(s->conf.workers);
	char policy[160], name[128], file[256];
	struct fw_rule_info info;

	(void)argv;
	if (argc > 0) {
		pk_control_refuse(r, "show rules takes no words");
		return;
	}
	/* A rule stands in one program for each class of subjects, with one number and counter for all. */
	for (uint32_t i = 0; rules != NULL && (i = fw_rules_next(rules, i)) != FW_RULE_NONE; i++) {
		uint64_t hits;

		fw_rules_info(rules, i, &info);
		hits = slot_hits(s, info.slot);
		if (s->baseline_rule[info.slot] != info.id) {
			s->baseline[info.slot] = s->baseline_rule[info.slot] != 0 ? hits : 0;
			s->baseline_rule[info.slot] = info.id;
		}
		pk_control_rowf(r,
		    "{\"policy\":%s,\"name\":%s,\"direction\":\"%s\",\"verdict\":\"%s\",\"mode\":\"%s\",\"hits\":%" PRIu64
		    ",\"file\":%s,\"line\":%u,\"tier\":%u,\"encryption\":\"%s\",\"inspect\":\"%s\",\"id\":\"%016" PRIx64
		    "\"}",
		    pk_json_string(info.policy, policy, sizeof(policy)),
		    pk_json_string(info.name, name, sizeof(name)),
		    pk_direction_name(info.direction), pk_verdict_name(info.verdict),
		    (info.flags & PK_RULE_AUDIT) != 0 ? "audit" : "enforce",
		    hits - s->baseline[info.slot], pk_json_string(info.file, file, sizeof(file)),
		    info.line, info.tier, pk_encryption_name(info.terms->encryption),
		    pk_inspect_name(info.terms->inspect), info.id);
	}
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
		    ",\"idle\":%" PRIu64 ",\"sleeps\":%" PRIu64 ",\"cycles_per_packet\":%.1f"
		    ",\"handed_over\":%" PRIu64 ",\"taken_over\":%" PRIu64 "}",
		    w.lcore, fw_path_nb_sessions(fw_workers_path(s->conf.workers, i)), w.packets,
		    w.loops, w.idle_loops, w.sleeps,
		    w.packets != 0 ? (double)w.busy_cycles / (double)w.packets : 0.0, w.handed_over,
		    w.taken_over);
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

static void
show_signatures(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;

	(void)argc;
	(void)argv;
	fw_signatures_show(s->conf.signatures, r);
	pk_control_done(r);
}

static void
load_signatures(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct pk_diag diag;

	(void)argc;
	(void)argv;
	if (fw_signatures_load(s->conf.signatures, &diag) < 0)
		pk_control_refuse(r, "%s", diag.text);
	else
		pk_control_done(r);
}

static const struct pk_control_command commands[] = {
	{ "show status", "", "what this data plane enforces, and since when", show_status },
	{ "show sessions", "[FILTER] [limit N] [after AT]", "live sessions", fw_show_sessions },
	{ "show top", "[by bytes|packets|sessions] [limit N] [FILTER]", "who has most",
	    fw_show_top },
	{ "show tenants", "", "live sessions by tenant", fw_show_tenants },
	{ "kill sessions", "FILTER [tell]", "end sessions; tell: a RST to both ends of TCP",
	    fw_show_kill },
	{ "sessions export", "FILTER, with a file", "write sessions as records", fw_show_export },
	{ "sessions import", "with a file", "take sessions on, as policy allows", fw_show_import },
	{ "show drops", "[all]", "dropped packets by reason", show_drops },
	{ "show counters", "", "packets, bytes, sessions, and whether the account balances",
	    show_counters },
	{ "show apps", "", "what inspected sessions were found to speak", show_apps },
	{ "show names", "[limit N]", "addresses that are known by the names in policy",
	    fw_show_names },
	{ "show signatures", "", "signatures in force, and those that sessions finish on",
	    show_signatures },
	{ "load signatures", "", "read the file of signatures anew", load_signatures },
	{ "show rules", "", "rules in force with their hits", show_rules },
	{ "show sa", "[reqid N] [peer PREFIX]",
	    "security associations, with what they have carried", fw_show_sa },
	{ "show tunnels", "[reqid N]", "tunnels, and the SA each uses", fw_show_tunnels },
	{ "show ipsec", "", "how many SAs there are, and who makes keys", fw_show_ipsec },
	{ "show lcores", "", "load of each lcore", show_lcores },
	{ "show wires", "", "wires and their ports", show_wires },
	{ "show macsec", "", "secured links: channels, keys and counters", fw_show_macsec },
	{ "show config", "", "configuration in use", show_config },
	{ "monitor", "[drops] [FILTER]", "verdicts as they fall", fw_show_monitor },
	{ "capture", "[drops] [FILTER] [count N] [seconds N] [snaplen N]",
	    "packets with their verdicts", fw_show_capture },
	{ NULL, NULL, NULL, NULL },
};

int
fw_show_create(struct fw_show **out, const struct fw_show_conf *conf, struct pk_diag *diag)
{
	struct fw_show *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (s == NULL)
		return -ENOMEM;
	s->conf = *conf;
	s->started_wall_ns = pk_clock_wall_ns();
	s->baseline = calloc(FW_RULE_SLOTS, sizeof(*s->baseline));
	s->baseline_rule = calloc(FW_RULE_SLOTS, sizeof(*s->baseline_rule));
	if (s->baseline == NULL || s->baseline_rule == NULL || fw_show_trace_create(s) < 0)
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
	fw_show_trace_destroy(s);
	free(s->baseline);
	free(s->baseline_rule);
	free(s);
}
