#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#include "ctl/ctl.h"
#include "ctl/dpi_rules.h"
#include "ctl/pcapng.h"
#include "dpi/watch.h"
#include "fw/options.h"
#include "fw/path.h"
#include "fw/session.h"
#include "fw/wall.h"
#include "policy/model.h"

/*
 * picketctl replay: the real packet path on recorded packets, with the capture's own clock.
 *
 * No port, no thread and no huge page: the path is handed one packet after the other, and what it
 * says of each is printed.
 */
#define NB_BUFFERS    4095
#define BUFFER_ROOM   (UINT16_MAX - 127) /* the largest frame there is, in one piece */
#define WIRES_MAX     64
#define RECORDS       64
#define GENERATION    1
#define DRAIN_STEP_NS PK_NS_PER_S

struct replay {
	struct ctl_context *ctx;
	struct fw_path_options options;
	struct fw_overlay overlay;
	struct fw_rules *rules;
	struct fw_path *path;
	struct fw_trace *trace;
	struct rte_mempool *pool;
	struct ctl_capture_writer *out;
	struct dpi_set *signatures;
	struct dpi_watch_set *watch_set;
	uint64_t nb_packets, nb_passed, nb_dropped, nb_made;
	uint64_t now_ns;
	struct fw_wall wall; /* the capture's clock */
};

static const struct pk_conf_option options[] = { FW_PATH_OPTION_ROWS(struct replay, options) };

static void
print(const struct replay *r, json_t *row)
{
	if (r->ctx->json) {
		json_dumpf(row, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		const json_t *rule = json_object_get(row, "rule"), *v;
		const char *made = json_string_value(json_object_get(row, "made"));
		const json_t *sid = json_object_get(row, "sid");

		v = json_object_get(row, "n");
		if (made != NULL)
			printf("        made %s\n", made);
		else if (sid != NULL)
			printf("        signature %lld: %s\n", (long long)json_integer_value(sid),
			    json_string_value(json_object_get(row, "action")));
		else if (v != NULL)
			printf("%7lld %-5s %-18s %-12s %s%s%s\n", (long long)json_integer_value(v),
			    json_string_value(json_object_get(row, "verdict")),
			    json_string_value(json_object_get(row, "reason")),
			    json_is_string(json_object_get(row, "state"))
			        ? json_string_value(json_object_get(row, "state"))
			        : "-",
			    json_is_object(rule)
			        ? json_string_value(json_object_get(rule, "policy"))
			        : "",
			    json_is_object(rule) ? "/" : "",
			    json_is_object(rule) ? json_string_value(json_object_get(rule, "name"))
			                         : "");
	}
	json_decref(row);
}

static json_t *
rule_json(const struct replay *r, uint64_t id)
{
	struct fw_rule_info info;

	if (!fw_rules_info_by_id(r->rules, id, &info))
		return json_null();
	return json_pack("{s:s,s:s,s:s,s:i}", "policy", info.policy, "name", info.name, "file",
	    info.file, "line", (int)info.line);
}

static const char *
made_name(const struct fw_trace_record *t)
{
	return t->proto == IPPROTO_TCP   ? "tcp-rst"
	    : t->proto == IPPROTO_ICMPV6 ? "icmp6-unreachable"
	                                 : "icmp-unreachable";
}

/* Say what the path has recorded since the last packet. */
static void
report(struct replay *r)
{
	struct fw_trace_record t[RECORDS];
	unsigned int n;

	while ((n = fw_trace_take(r->trace, t, RECORDS)) > 0) {
		for (unsigned int i = 0; i < n; i++) {
			if (t[i].kind == FW_TRACE_PACKET) {
				bool dropped = t[i].drop != FW_DROP_NONE;

				*(dropped ? &r->nb_dropped : &r->nb_passed) += 1;
				print(r,
				    json_pack("{s:I,s:s,s:s,s:o,s:o,s:o}", "n",
				        (json_int_t)r->nb_packets, "verdict",
				        dropped ? "drop" : "pass", "reason",
				        fw_drop_name(t[i].drop), "session",
				        t[i].session != 0 ? json_integer((json_int_t)t[i].session)
				                          : json_null(),
				        "state",
				        t[i].session != 0
				            ? json_string(fw_session_state_name(t[i].state))
				            : json_null(),
				        "rule", rule_json(r, t[i].rule_id)));
			} else if (t[i].kind == FW_TRACE_MADE) {
				r->nb_made++;
				print(r,
				    json_pack("{s:s,s:s,s:I}", "made", made_name(&t[i]), "to",
				        t[i].from == FW_INSIDE ? "outside" : "inside", "n",
				        (json_int_t)r->nb_packets));
			} else if (t[i].kind == FW_TRACE_ALERT) {
				print(r,
				    json_pack("{s:s,s:I,s:I,s:s,s:I}", "type", "alert", "sid",
				        (json_int_t)t[i].sig->sid, "gid", (json_int_t)t[i].sig->gid,
				        "action", t[i].drop != FW_DROP_NONE ? "blocked" : "allowed",
				        "n", (json_int_t)r->nb_packets));
			} else if (t[i].kind == FW_TRACE_CLOSED) {
				print(r,
				    json_pack("{s:I,s:s,s:I,s:I}", "closed",
				        (json_int_t)t[i].session, "state",
				        fw_session_state_name(t[i].state_before), "packets",
				        (json_int_t)t[i].packets, "bytes", (json_int_t)t[i].bytes));
			}
		}
	}
}

static void
send_out(struct replay *r, uint16_t wire, struct fw_burst *out)
{
	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		for (unsigned int i = 0; i < out->nb[side]; i++) {
			struct rte_mbuf *m = out->pkt[side][i];
			char flat[UINT16_MAX];
			const void *bytes = rte_pktmbuf_read(m, 0, m->pkt_len, flat);

			if (r->out != NULL && bytes != NULL)
				ctl_capture_write(r->out, 2u * wire + side, r->now_ns, bytes,
				    m->pkt_len, m->pkt_len, NULL);
			rte_pktmbuf_free(m);
		}
	}
}

static void
advance(struct replay *r, uint64_t now_ns)
{
	struct fw_made made;

	r->now_ns = now_ns;
	fw_wall_tick(&r->wall, r->rules, now_ns, now_ns);
	while (fw_path_tick(r->path, r->rules, now_ns, 1024, &made) || made.nb > 0)
		for (unsigned int i = 0; i < made.nb; i++) {
			struct fw_burst out;

			out.nb[FW_INSIDE] = out.nb[FW_OUTSIDE] = 0;
			out.nb[made.pkt[i].side] = 1;
			out.pkt[made.pkt[i].side][0] = made.pkt[i].m;
			send_out(r, made.pkt[i].wire, &out);
		}
	report(r);
}

/* "inside0" is wire 0 from inside. */
static int
parse_interface(const char *name, uint16_t *wire, enum fw_side *side)
{
	const char *digits;
	char *end;
	unsigned long n;

	if (strncmp(name, "inside", 6) == 0) {
		*side = FW_INSIDE;
		digits = name + 6;
	} else if (strncmp(name, "outside", 7) == 0) {
		*side = FW_OUTSIDE;
		digits = name + 7;
	} else {
		return -EINVAL;
	}
	n = strtoul(digits, &end, 10);
	if (*digits == '\0' || *end != '\0' || n >= WIRES_MAX)
		return -EINVAL;
	*wire = (uint16_t)n;
	return 0;
}

static int
one_packet(struct replay *r, const struct ctl_packet *p)
{
	struct rte_mbuf *m;
	struct fw_burst out;
	enum fw_side side;
	uint16_t wire;
	char *to;

	if (parse_interface(p->interface, &wire, &side) < 0)
		return ctl_refused(r->ctx,
		    "packet %" PRIu64 ": interface \"%s\": want inside0, outside0, inside1, ...",
		    r->nb_packets + 1, p->interface);
	if (p->len > BUFFER_ROOM - RTE_PKTMBUF_HEADROOM)
		return ctl_refused(r->ctx, "packet %" PRIu64 ": %u bytes: want at most %u",
		    r->nb_packets + 1, p->len, (unsigned int)(BUFFER_ROOM - RTE_PKTMBUF_HEADROOM));
	r->nb_packets++;
	advance(
	    r, PK_MAX(p->time_ns, r->now_ns)); /* time does not run backwards, even in captures */
	m = rte_pktmbuf_alloc(r->pool);
	PK_ASSERT(m != NULL);
	to = rte_pktmbuf_append(m, (uint16_t)p->len);
	PK_ASSERT(to != NULL);
	memcpy(to, p->bytes, p->len);
	fw_path_burst(r->path, r->rules, wire, side, &m, 1, r->now_ns, &out);
	report(r);
	send_out(r, wire, &out);
	return CTL_DONE;
}

static int
start_path(struct replay *r)
{
	char *argv[] = { (char *)"picketctl", (char *)"--no-huge", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"-m", (char *)"512", (char *)"--log-level=error",
		(char *)"--lcores=0@0", (char *)"--iova-mode=va", (char *)"--no-shconf" };
	struct fw_path_conf conf;
	struct pk_diag diag;

	if (rte_eal_init(PK_COUNT(argv), argv) < 0)
		return ctl_refused(r->ctx, "DPDK does not start: %s", rte_strerror(rte_errno));
	r->pool = rte_pktmbuf_pool_create("replay", NB_BUFFERS, 0, 0, BUFFER_ROOM, SOCKET_ID_ANY);
	if (r->pool == NULL)
		return ctl_refused(r->ctx, "no memory for packet buffers");
	if (fw_trace_create(&r->trace, 65536) < 0)
		return ctl_refused(r->ctx, "out of memory");
	fw_trace_set_level(r->trace, FW_TRACE_ALL);
	fw_path_conf_init(&conf);
	fw_path_options_apply(&r->options, &conf);
	if (fw_path_options_networks(&r->options, &conf, &r->overlay, &diag) < 0)
		return ctl_refused(r->ctx, "%s", diag.text);
	conf.huge = false;
	conf.pool = r->pool;
	conf.trace = r->trace;
	conf.wall = &r->wall;
	/* The same capture gives the same answers every time. */
	conf.seed[0] = 1;
	conf.seed[1] = 2;
	if (r->signatures == NULL)
		conf.watch_memory = 0;
	if (fw_path_create(&r->path, &conf) < 0)
		return ctl_refused(
		    r->ctx, "no memory for %" PRIu64 " sessions", r->options.sessions);
	if (r->signatures == NULL)
		return CTL_DONE;
	if (conf.watch_memory == 0)
		return ctl_refused(r->ctx, "signatures-memory is 0");
	if (dpi_watch_set_create(&r->watch_set, fw_path_watches(r->path), r->signatures) < 0)
		return ctl_refused(r->ctx, "no memory for signatures");
	fw_path_offer_signatures(r->path, r->watch_set);
	return CTL_DONE;
}

struct builder {
	struct fw_rules_state *state;
	struct fw_rules *rules;
	struct pk_diag diag;
};

static int
take_message(void *arg, const struct pk_msg *m)
{
	struct builder *b = arg;
	struct fw_rules *rules;
	int rc = fw_rules_state_apply(b->state, m, &rules, &b->diag);

	if (rules != NULL)
		b->rules = rules;
	return rc;
}

static int
load_policy(struct replay *r, char **paths, size_t nb_paths)
{
	struct policy_findings *findings = NULL;
	struct policy_model *model = NULL;
	struct policy_table *table = NULL;
	struct policy_ids *ids = NULL;
	struct builder b = { 0 };
	int status = CTL_DONE, rc = 0;

	PK_ASSERT(policy_findings_create(&findings) == 0 && policy_model_create(&model) == 0 &&
	    policy_ids_create(&ids) == 0 && fw_rules_state_create(&b.state) == 0);
	for (size_t i = 0; rc == 0 && i < nb_paths; i++)
		rc = policy_model_add_path(model, paths[i], findings);
	if (rc == 0)
		rc = policy_compile(model, ids, &table, findings);
	if (rc < 0) {
		policy_findings_first(findings, &b.diag);
		status = ctl_refused(r->ctx, "%s", b.diag.text);
	} else if (policy_table_emit(table, GENERATION, NULL, take_message, &b) < 0) {
		status = ctl_refused(r->ctx, "%s", b.diag.text);
	}
	r->rules = b.rules;
	fw_rules_state_destroy(b.state);
	policy_table_destroy(table);
	policy_ids_destroy(ids);
	policy_model_destroy(model);
	policy_findings_destroy(findings);
	return status;
}

/* Every interface the capture could name gets its number in the output: 2 * wire + side. */
static int
open_output(struct replay *r, const char *path)
{
	static char names[2 * WIRES_MAX][16];
	const char *list[2 * WIRES_MAX];
	struct pk_diag diag;

	for (unsigned int i = 0; i < 2 * WIRES_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "%s%u",
		    i % 2 == FW_INSIDE ? "inside" : "outside", i / 2);
		list[i] = names[i];
	}
	if (ctl_capture_create(&r->out, path, list, 2 * WIRES_MAX, &diag) < 0)
		return ctl_refused(r->ctx, "%s", diag.text);
	return CTL_DONE;
}

static int
run_capture(struct replay *r, const char *path, bool drain)
{
	struct ctl_capture *capture;
	struct ctl_packet packet;
	struct pk_diag diag;
	int rc = 1, status = CTL_DONE;

	if (ctl_capture_open(&capture, path, &diag) < 0)
		return ctl_refused(r->ctx, "%s", diag.text);
	while (status == CTL_DONE && (rc = ctl_capture_next(capture, &packet, &diag)) > 0)
		status = packet.link_type != CTL_LINK_ETHERNET
		    ? ctl_refused(
		          r->ctx, "%s: link type %u; replay takes Ethernet", path, packet.link_type)
		    : one_packet(r, &packet);
	if (rc < 0)
		status = ctl_refused(r->ctx, "%s", diag.text);
	ctl_capture_close(capture);
	while (status == CTL_DONE && drain && fw_path_nb_sessions(r->path) > 0)
		advance(r, r->now_ns + DRAIN_STEP_NS);
	return status;
}

/* The account of drops: whatever came in went out, or was dropped for one reason. */
static int
check_account(struct replay *r)
{
	const struct fw_path_stats *s = fw_path_stats(r->path);
	uint64_t in = 0, out = 0;

	for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
		in += pk_counter_read(&s->rx[side]);
		out += pk_counter_read(&s->sent[side]);
	}
	for (unsigned int d = 1; d < FW_DROP_COUNT; d++)
		out += pk_counter_read(&s->drop[d]);
	if (in != out)
		return ctl_refused(r->ctx,
		    "the account does not balance: %" PRIu64 " in, %" PRIu64 " sent or dropped", in,
		    out);
	if (!r->ctx->json)
		printf("%" PRIu64 " packets: %" PRIu64 " passed, %" PRIu64 " dropped; %" PRIu64
		       " made; %u sessions left\n",
		    r->nb_packets, r->nb_passed, r->nb_dropped, r->nb_made,
		    fw_path_nb_sessions(r->path));
	return CTL_DONE;
}

static int
replay(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "inventory", required_argument, NULL, 'i' },
		{ "policy", required_argument, NULL, 'p' },
		{ "in", required_argument, NULL, 'r' },
		{ "out", required_argument, NULL, 'w' },
		{ "set", required_argument, NULL, 's' },
		{ "signatures", required_argument, NULL, 'S' },
		{ "drain", no_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	struct replay r = { .ctx = ctx };
	const char *in = NULL, *out = NULL, *signatures = NULL;
	bool drain = false;
	size_t nb_paths = 0;
	char *paths[256];
	struct pk_diag diag;
	int c, status;

	pk_conf_init(options, PK_COUNT(options), &r);
	optind = 0;
	/* getopt wants a name in front. */
	argv--;
	argc++;
	while ((c = getopt_long(argc, argv, "j", long_options, NULL)) != -1) {
		char name[64];

		switch (c) {
		case 'i':
		case 'p':
			if (nb_paths == PK_COUNT(paths))
				return ctl_usage(ctx, "more than %zu files", PK_COUNT(paths));
			paths[nb_paths++] = optarg;
			break;
		case 'r':
			in = optarg;
			break;
		case 'w':
			out = optarg;
			break;
		case 's':
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(optarg, "="), optarg);
			if (strchr(optarg, '=') == NULL)
				return ctl_usage(ctx, "--set %s: want OPTION=VALUE", optarg);
			for (char *s = name; *s != '\0'; s++)
				*s = *s == '_' ? '-' : *s;
			if (pk_conf_set(options, PK_COUNT(options), &r, name,
			        strchr(optarg, '=') + 1, &diag) < 0)
				return ctl_usage(ctx, "--set: %s", diag.text);
			break;
		case 'S':
			signatures = optarg;
			break;
		case 'd':
			drain = true;
			break;
		case 'j':
			ctx->json = true;
			break;
		default:
			return ctl_usage(ctx, "unknown option");
		}
	}
	/* Further words are more files, so that a shell's * can follow --policy. */
	for (; optind < argc && nb_paths < PK_COUNT(paths); optind++)
		paths[nb_paths++] = argv[optind];
	if (in == NULL || nb_paths == 0)
		return ctl_usage(ctx, "want --inventory, --policy and --in");
	status = load_policy(&r, paths, nb_paths);
	if (status == CTL_DONE && signatures != NULL)
		status = ctl_dpi_signatures(ctx, signatures, &r.signatures);
	if (status == CTL_DONE)
		status = start_path(&r);
	if (status == CTL_DONE && out != NULL)
		status = open_output(&r, out);
	if (status == CTL_DONE)
		status = run_capture(&r, in, drain);
	if (status == CTL_DONE)
		status = check_account(&r);
	if (r.out != NULL && ctl_capture_finish(r.out) < 0 && status == CTL_DONE)
		status = ctl_refused(ctx, "%s: not all of it could be written", out);
	fw_path_destroy(r.path);
	dpi_watch_set_destroy(r.watch_set);
	dpi_set_destroy(r.signatures);
	fw_trace_destroy(r.trace);
	fw_rules_destroy(r.rules);
	return status;
}

const struct ctl_command ctl_replay_commands[] = {
	{ "replay",
	    "--inventory FILE --policy PATH --in FILE [--out FILE] [--set OPTION=VALUE]... [--signatures FILE] [--drain]",
	    "run recorded packets through the packet path; interfaces are named inside0, outside0, ...",
	    replay },
	{ NULL, NULL, NULL, NULL },
};
