#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/filter.h"
#include "fw/nft/show_priv.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/program.h"

#define RULE_JSON 768

struct monitor {
	struct nft_show *show;
	struct pk_control_request *request;
	struct fw_filter filter;
	uint64_t skipped;
	struct monitor *next;
};

uint64_t
nft_show_rule(const struct nft_show *s, uint32_t slot)
{
	struct fw_rule_info info;

	fw_rules_info(nft_plane_rules(s->conf.plane), slot, &info);
	return info.id;
}

static const char *
rule_json(const struct nft_show *s, uint64_t id, char *buf, size_t size)
{
	char policy[160], name[128], file[256];
	struct fw_rule_info info;

	if (!fw_rules_info_by_id(nft_plane_rules(s->conf.plane), id, &info)) {
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

struct sums {
	uint64_t drop[NFT_DROP_COUNT];
	uint64_t rx[2], rx_bytes[2], sent, sent_bytes, created;
};

static void
add_counter(void *arg, const char *name, uint64_t packets, uint64_t bytes)
{
	struct sums *s = arg;

	if (strcmp(name, "sent") == 0) {
		s->sent += packets;
		s->sent_bytes += bytes;
	} else if (strcmp(name, "sessions-created") == 0) {
		s->created += packets;
	} else if (strcmp(name, "rx-inside") == 0 || strcmp(name, "rx-outside") == 0) {
		unsigned int side = strcmp(name, "rx-outside") == 0;

		s->rx[side] += packets;
		s->rx_bytes[side] += bytes;
	} else {
		for (unsigned int d = 1; d < NFT_DROP_COUNT; d++)
			if (strcmp(name, nft_drop_name(d)) == 0)
				s->drop[d] += packets;
	}
}

static bool
read_sums(struct pk_control_request *r, const struct nft_show *s, struct sums *out)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = nft_plane_counters(s->conf.plane, add_counter, out);
	if (rc < 0)
		pk_control_refuse(r, "the kernel's counters cannot be read: %s", strerror(-rc));
	return rc == 0;
}

static void
show_drops(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	bool all = argc > 0 && strcmp(argv[0], "all") == 0;
	struct nft_show *s = arg;
	struct sums sums;
	char help[512];

	if (!read_sums(r, s, &sums))
		return;
	for (unsigned int d = 1; d < NFT_DROP_COUNT; d++)
		if (sums.drop[d] > 0 || all)
			pk_control_rowf(r,
			    "{\"reason\":\"%s\",\"packets\":%" PRIu64 ",\"help\":%s}",
			    nft_drop_name(d), sums.drop[d],
			    pk_json_string(nft_drop_help(d), help, sizeof(help)));
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
	struct nft_review_counts review;
	struct nft_notice_counts notice;
	struct nft_show *s = arg;
	uint64_t drops = 0, sessions, max;
	struct sums sums;

	(void)argc;
	(void)argv;
	if (!read_sums(r, s, &sums))
		return;
	for (unsigned int d = 1; d < NFT_DROP_COUNT; d++)
		drops += sums.drop[d];
	nft_review_counts(s->conf.review, &review);
	nft_notice_counts(s->conf.notice, &notice);
	nft_track_count(&sessions, &max);
	for (unsigned int side = 0; side < 2; side++) {
		char name[32];

		snprintf(name, sizeof(name), "rx-%s-packets", side == 0 ? "inside" : "outside");
		counter_row(r, name, sums.rx[side]);
		snprintf(name, sizeof(name), "rx-%s-bytes", side == 0 ? "inside" : "outside");
		counter_row(r, name, sums.rx_bytes[side]);
	}
	counter_row(r, "sent-packets", sums.sent);
	counter_row(r, "sent-bytes", sums.sent_bytes);
	counter_row(r, "drops", drops);
	/* What the kernel drops before or beside our rules, and fragments, which it puts together. */
	pk_control_rowf(r, "{\"name\":\"unaccounted\",\"value\":%" PRId64 "}",
	    (int64_t)(sums.rx[0] + sums.rx[1] - sums.sent - drops));
	counter_row(r, "made", notice.answered);
	counter_row(r, "sessions", sessions);
	counter_row(r, "sessions-max", max);
	counter_row(r, "sessions-created", sums.created);
	counter_row(r, "sessions-reevaluated", review.reviewed);
	counter_row(r, "sessions-revoked", review.ended);
	counter_row(r, "packets-noticed", notice.noticed);
	counter_row(r, "trace-records-lost", notice.lost);
	pk_control_done(r);
}

/* ---- rules ---- */

struct hits {
	struct nft_show *show;
	uint64_t *of; /* by slot */
};

static void
add_hits(void *arg, const char *name, uint64_t packets, uint64_t bytes)
{
	struct hits *h = arg;
	struct fw_rule_info info;
	uint64_t id;
	char *end;

	(void)bytes;
	if (name[0] != 'r')
		return;
	id = strtoull(name + 1, &end, 16);
	if (end != name + 17 || *end != '\0' ||
	    !fw_rules_info_by_id(nft_plane_rules(h->show->conf.plane), id, &info))
		return;
	h->of[info.slot] = packets;
}

static void
show_rules(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct nft_show *s = arg;
	const struct fw_rules *rules = nft_plane_rules(s->conf.plane);
	struct hits hits = { s, calloc(FW_RULE_SLOTS, sizeof(*hits.of)) };
	char policy[160], name[128], file[256];
	struct fw_rule_info info;

	(void)argv;
	PK_ASSERT(hits.of != NULL);
	if (argc > 0) {
		pk_control_refuse(r, "show rules takes no words");
		goto out;
	}
	if (rules != NULL)
		(void)nft_plane_counters(s->conf.plane, add_hits, &hits);
	for (uint32_t i = 0; rules != NULL && (i = fw_rules_next(rules, i)) != FW_RULE_NONE; i++) {
		fw_rules_info(rules, i, &info);
		pk_control_rowf(r,
		    "{\"policy\":%s,\"name\":%s,\"direction\":\"%s\",\"verdict\":\"%s\",\"mode\":\"%s\",\"hits\":%" PRIu64
		    ",\"file\":%s,\"line\":%u,\"tier\":%u,\"id\":\"%016" PRIx64 "\"}",
		    pk_json_string(info.policy, policy, sizeof(policy)),
		    pk_json_string(info.name, name, sizeof(name)),
		    pk_direction_name(info.direction), pk_verdict_name(info.verdict),
		    (info.flags & PK_RULE_AUDIT) != 0 ? "audit" : "enforce", hits.of[i],
		    pk_json_string(info.file, file, sizeof(file)), info.line, info.tier, info.id);
	}
	pk_control_done(r);
out:
	free(hits.of);
}

/* ---- state ---- */

static void
show_status(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct nft_show *s = arg;
	struct nft_plane_status plane;
	struct fw_link_status link;
	char instance[160];

	(void)argc;
	(void)argv;
	fw_link_status(s->conf.link, &link);
	nft_plane_status(s->conf.plane, &plane);
	pk_control_rowf(r,
	    "{\"program\":\"picket-nftd\",\"plane\":\"%s\",\"instance\":%s,\"generation\":%" PRIu64
	    ",\"since\":%.3f,\"agent\":%s,\"commits\":%" PRIu64 ",\"rejected\":%" PRIu64
	    ",\"last_commit_us\":%.1f,\"attested\":%s,\"wires\":%u,\"messages\":%u,\"elements\":%u,\"nft_rules\":%u"
	    ",\"transaction_bytes\":%zu,\"stamp\":%u,\"started\":%.3f}",
	    plane.kept ? "nft, of the process before" : "nft",
	    pk_json_string(s->conf.instance, instance, sizeof(instance)), link.generation,
	    (double)link.since_wall_ns / 1e9, link.connected ? "true" : "false", link.commits,
	    link.rejected, (double)link.last_commit_ns / 1e3,
	    nft_plane_attested(s->conf.plane) ? "true" : "false", s->conf.nb_wires,
	    plane.cost.messages, plane.cost.elements, plane.cost.rules, plane.cost.bytes,
	    nft_plane_stamp(s->conf.plane), (double)s->started_wall_ns / 1e9);
	pk_control_done(r);
}

static void
show_wires(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct nft_show *s = arg;

	(void)argc;
	(void)argv;
	for (uint16_t i = 0; i < s->conf.nb_wires; i++) {
		const struct nft_wire *w = &s->conf.wires[i];

		pk_control_rowf(r,
		    "{\"wire\":%u,\"inside\":\"%s\",\"outside\":\"%s\",\"bridge\":\"%s\"}", i,
		    w->port[0], w->port[1], w->bridge);
	}
	pk_control_done(r);
}

static void
show_config(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct nft_show *s = arg;

	(void)argc;
	(void)argv;
	pk_program_show_config(s->conf.program, s->conf.values, r);
}

/* ---- sessions ---- */

/* A request about sessions: which, and what is done with each. */
struct listing {
	struct nft_show *show;
	struct pk_control_request *request;
	struct nft_walk *walk;
	struct fw_filter filter;
	uint64_t left, nb;
	bool kills;
};

static const struct fw_rules *
rules_now(void *arg)
{
	const struct listing *l = arg;

	return nft_plane_rules(l->show->conf.plane);
}

static void
session_row(struct listing *l, const struct fw_session_info *i)
{
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], proto[8], rule[RULE_JSON];

	pk_control_rowf(l->request,
	    "{\"id\":%" PRIu64 ",\"at\":\"0.%" PRIu64
	    "\",\"wire\":%u,\"vrf\":%u,\"direction\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\",\"sport\":%u,"
	    "\"dst\":\"%s\",\"dport\":%u,\"state\":\"%s\",\"app\":\"none\",\"packets\":[%" PRIu64
	    ",%" PRIu64 "],\"bytes\":[%" PRIu64 ",%" PRIu64
	    "],\"age_s\":%.3f,\"idle_s\":%.3f,\"expires_s\":%.3f,\"generation\":%" PRIu64
	    ",\"rule\":%s}",
	    i->id, i->id, i->wire, i->vrf, pk_direction_name(i->direction),
	    fw_proto_name(i->proto, proto), pk_addr_text(&i->src, src), i->sport,
	    pk_addr_text(&i->dst, dst), i->dport, i->state, i->packets[0], i->packets[1],
	    i->bytes[0], i->bytes[1], (double)i->age_ns / 1e9, (double)i->idle_ns / 1e9,
	    (double)i->expires_in_ns / 1e9, i->generation,
	    rule_json(l->show, i->rule_id, rule, sizeof(rule)));
}

static enum nft_walk_next
each_session(void *arg, const struct nft_session *session)
{
	struct listing *l = arg;
	struct fw_session_info i = session->info;
	struct fw_link_status link;

	fw_link_status(l->show->conf.link, &link);
	i.rule_id = nft_show_rule(l->show, session->mark & 0xffff);
	i.generation = session->mark >> 16 == nft_plane_stamp(l->show->conf.plane) ? link.generation
	                                                                           : 0;
	if (!fw_filter_session(&l->filter, nft_plane_rules(l->show->conf.plane), &i))
		return NFT_WALK_ON;
	l->nb++;
	if (l->kills) {
		nft_session_kill(l->show->conf.track, session);
		return NFT_WALK_ON;
	}
	if (l->left == 0)
		return NFT_WALK_STOP;
	session_row(l, &i);
	if (--l->left == 0)
		return NFT_WALK_STOP;
	return pk_control_backlog(l->request) > NFT_SHOW_BACKLOG ? NFT_WALK_PAUSE : NFT_WALK_ON;
}

static void
sessions_done(void *arg, int rc)
{
	struct listing *l = arg;

	l->walk = NULL;
	if (rc < 0)
		pk_control_refuse(l->request, "conntrack: %s", strerror(-rc));
	else if (l->kills)
		pk_control_rowf(l->request, "{\"killed\":%" PRIu64 "}", l->nb);
	if (rc == 0)
		pk_control_done(l->request);
}

static void
sessions_more(struct pk_control_request *r, void *state)
{
	struct listing *l = state;

	(void)r;
	if (l->walk != NULL)
		nft_walk_resume(l->walk);
}

static void
sessions_gone(void *state)
{
	struct listing *l = state;

	nft_walk_cancel(l->walk);
	free(l);
}

static void
sessions_start(struct nft_show *s, struct pk_control_request *r, int argc, char **argv,
    uint64_t limit, bool kills)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct pk_diag diag;

	PK_ASSERT(l != NULL);
	l->show = s;
	l->request = r;
	l->left = limit;
	l->kills = kills;
	if (fw_filter_parse(&l->filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
		free(l);
		return;
	}
	if (kills && l->filter.is_empty) {
		pk_control_refuse(r, "kill sessions wants a filter, or `all`");
		free(l);
		return;
	}
	l->walk = nft_walk_start(s->conf.track, rules_now, each_session, sessions_done, l);
	if (l->walk == NULL) {
		pk_control_refuse(r, "conntrack cannot be asked: out of memory or sockets");
		free(l);
		return;
	}
	pk_control_stream(r, sessions_more, sessions_gone, l);
}

static void
show_sessions(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	uint64_t limit = UINT64_MAX;

	if (argc >= 2 && strcmp(argv[argc - 2], "limit") == 0) {
		char *end;

		limit = strtoull(argv[argc - 1], &end, 10);
		if (*end != '\0' || limit == 0) {
			pk_control_refuse(r, "limit wants a number above 0");
			return;
		}
		argc -= 2;
	}
	sessions_start(arg, r, argc, argv, limit, false);
}

static void
kill_sessions(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	if (argc > 0 && strcmp(argv[argc - 1], "tell") == 0) {
		pk_control_refuse(r,
		    "the kernel does not say which sequence numbers a connection is at, so nobody can be told: leave out `tell`");
		return;
	}
	sessions_start(arg, r, argc, argv, UINT64_MAX, true);
}

/* ---- monitor ---- */

static void
monitor_gone(void *state)
{
	struct monitor *m = state, **at = &m->show->monitors;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	free(m);
}

static void
monitor(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct nft_show *s = arg;
	struct pk_diag diag;

	PK_ASSERT(m != NULL);
	if (fw_filter_parse(&m->filter, FW_FILTER_PACKETS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
		free(m);
		return;
	}
	m->show = s;
	m->request = r;
	m->next = s->monitors;
	s->monitors = m;
	pk_control_stream(r, NULL, monitor_gone, m);
}

void
nft_show_noticed(struct nft_show *s, const struct nft_noticed *n)
{
	bool audit = strcmp(n->verdict, "audit") == 0, pass = strcmp(n->verdict, "allow") == 0;
	uint64_t id = audit ? n->rule_id : nft_show_rule(s, n->slot);
	struct fw_trace_record t = { .src = n->src,
		.dst = n->dst,
		.sport = n->sport,
		.dport = n->dport,
		.proto = n->proto,
		.wire = n->wire,
		.drop = pass || audit ? 0 : 1 };
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], buf[8], rule[RULE_JSON];
	const char *proto = fw_proto_name(n->proto, buf);
	const char *reason = pass || audit      ? "none"
	    : n->revoked                        ? nft_drop_name(NFT_DROP_REVOKED)
	    : strcmp(n->verdict, "reject") == 0 ? nft_drop_name(NFT_DROP_RULE_REJECT)
	                                        : nft_drop_name(NFT_DROP_RULE_DENY);
	struct fw_rule_info info;

	pk_addr_text(&n->src, src);
	pk_addr_text(&n->dst, dst);
	for (struct monitor *m = s->monitors; m != NULL; m = m->next) {
		if (!fw_filter_packet(&m->filter, &t))
			continue;
		if (pk_control_backlog(m->request) > NFT_SHOW_BACKLOG) {
			m->skipped++;
			continue;
		}
		pk_control_rowf(m->request,
		    "{\"kind\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\",\"wire\":%u,\"from\":\"%s\",\"proto\":\"%s\",\"src\":\"%s\","
		    "\"sport\":%u,\"dst\":\"%s\",\"dport\":%u,\"len\":%u,\"rule\":%s,\"skipped\":%" PRIu64
		    "}",
		    audit      ? "audit"
		        : pass ? "opened"
		               : "packet",
		    pass || audit ? "pass" : "drop", reason, n->wire,
		    n->from_outside ? "outside" : "inside", proto, src, n->sport, dst, n->dport,
		    n->len, rule_json(s, id, rule, sizeof(rule)), m->skipped);
		m->skipped = 0;
	}
	if (fw_rules_info_by_id(nft_plane_rules(s->conf.plane), id, &info))
		pk_notice("flow %s: %s %s:%u -> %s:%u: rule \"%s\" of policy \"%s\" (%s:%u)",
		    n->verdict, proto, src, n->sport, dst, n->dport, info.name, info.policy,
		    info.file, info.line);
}

/* ---- begin and end ---- */

static const struct pk_control_command commands[] = {
	{ "show status", "", "what this data plane enforces, and since when", show_status },
	{ "show sessions", "[FILTER] [limit N]", "live sessions", show_sessions },
	{ "kill sessions", "FILTER", "end sessions", kill_sessions },
	{ "sessions export", "FILTER", "write sessions as records into the file of the request",
	    nft_show_export },
	{ "sessions import", "", "take on the sessions of such a file", nft_show_import },
	{ "show drops", "[all]", "dropped packets by reason", show_drops },
	{ "show counters", "", "packets, bytes, sessions", show_counters },
	{ "show rules", "", "rules in force with their hits", show_rules },
	{ "show wires", "", "wires and their ports", show_wires },
	{ "show config", "", "configuration in use", show_config },
	{ "monitor", "[drops] [FILTER]", "what rules log and reject, as it happens", monitor },
	{ NULL, NULL, NULL, NULL },
};

int
nft_show_create(struct nft_show **out, const struct nft_show_conf *conf, struct pk_diag *diag)
{
	struct nft_show *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return -ENOMEM;
	s->conf = *conf;
	s->started_wall_ns = pk_clock_wall_ns();
	rc = pk_control_create(&s->control, conf->base, conf->path, commands, s, diag);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void
nft_show_destroy(struct nft_show *s)
{
	if (s == NULL)
		return;
	pk_control_destroy(s->control);
	free(s);
}
