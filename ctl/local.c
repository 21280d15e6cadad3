#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "lib/control.h"

/*
 * Commands for the daemons on this machine.  What is typed goes over the control socket nearly as it
 * stands, and the answers come back as rows; only the choice of columns is made here.
 */
struct view {
	const char *daemon;
	const struct ctl_column *columns;
	size_t nb_columns;
};

#define VIEW(name, columns)                      \
	{                                        \
		name, columns, PK_COUNT(columns) \
	}

static const struct ctl_column drop_columns[] = { { "reason", "REASON" }, { "packets", "PACKETS" },
	{ "help", "MEANING" } };
static const struct ctl_column app_columns[] = { { "app", "APP" }, { "sessions", "SESSIONS" },
	{ "denied", "DENIED" } };
static const struct ctl_column name_columns[] = { { "address", "ADDRESS" }, { "vrf", "VRF" },
	{ "names_text", "NAMES" }, { "asker", "KNOWN TO" }, { "lasts_s", "LASTS s" } };
static const struct ctl_column signature_columns[] = { { "number", "NUMBER" }, { "state", "STATE" },
	{ "rules", "RULES" }, { "refused", "REFUSED" }, { "databases", "DATABASES" },
	{ "bytes", "BYTES" }, { "reason", "REASON" } };
static const struct ctl_column counter_columns[] = { { "name", "COUNTER" }, { "value", "VALUE" } };
static const struct ctl_column rule_columns[] = { { "direction", "DIRECTION" },
	{ "verdict", "VERDICT" }, { "mode", "MODE" }, { "hits", "HITS" }, { "policy", "POLICY" },
	{ "name", "RULE" }, { "place", "WRITTEN IN" } };
static const struct ctl_column lcore_columns[] = { { "lcore", "LCORE" }, { "sessions", "SESSIONS" },
	{ "packets", "PACKETS" }, { "cycles_per_packet", "CYCLES/PACKET" }, { "loops", "LOOPS" },
	{ "idle", "IDLE" }, { "sleeps", "SLEEPS" }, { "handed_over", "HANDED OVER" },
	{ "taken_over", "TAKEN OVER" } };
static const struct ctl_column wire_columns[] = { { "wire", "WIRE" }, { "inside", "INSIDE" },
	{ "outside", "OUTSIDE" }, { "queues", "QUEUES" } };
static const struct ctl_column macsec_columns[] = { { "wire", "WIRE" }, { "channel", "CHANNEL" },
	{ "sci", "SCI" }, { "up", "UP" }, { "state", "STATE" }, { "suite", "SUITE" },
	{ "an", "AN" }, { "next_pn", "NEXT PN" }, { "packets", "PACKETS" },
	{ "refused", "REFUSED" } };
static const struct ctl_column config_columns[] = { { "option", "OPTION" }, { "value", "VALUE" } };
static const struct ctl_column plane_columns[] = { { "instance", "DPU" }, { "plane", "PLANE" },
	{ "generation", "GENERATION" }, { "agent", "AGENT" }, { "commits", "COMMITS" },
	{ "rejected", "REJECTED" }, { "last_commit_us", "LAST COMMIT us" } };

static const struct ctl_column sa_columns[] = { { "spi", "SPI" }, { "direction", "DIR" },
	{ "src", "FROM" }, { "dst", "TO" }, { "reqid", "REQID" }, { "mode", "MODE" },
	{ "alg", "ALGORITHM" }, { "state", "STATE" }, { "packets", "PACKETS" },
	{ "bytes", "BYTES" }, { "refused", "REFUSED" }, { "age_s", "AGE s" } };
static const struct ctl_column tunnel_columns[] = { { "reqid", "REQID" }, { "state", "STATE" },
	{ "us", "US" }, { "peer", "PEER" }, { "src", "FROM" }, { "dst", "TO" },
	{ "alg", "ALGORITHM" }, { "out_spi", "SPI OUT" }, { "inbound_sas", "SAS IN" },
	{ "packets_out", "PACKETS OUT" } };
static const struct ctl_column ipsec_columns[] = { { "sas", "SAS" }, { "sas_max", "OF" },
	{ "key_maker", "KEY MAKER" }, { "requests", "REQUESTS" }, { "refused", "REFUSED" },
	{ "acquires", "ACQUIRES" }, { "expires", "EXPIRES" }, { "ike_in", "IKE IN" },
	{ "ike_out", "IKE OUT" } };

/* The strings of an array, with spaces between. */
static json_t *
words_of(const json_t *array)
{
	char text[1024] = "";
	size_t i, at = 0;
	json_t *word;

	json_array_foreach(array, i, word)
	{
		if (at < sizeof(text))
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s",
			    i > 0 ? " " : "", json_string_value(word));
	}
	return json_string(text);
}

/* "policy/rule (file:line)" of a nested rule, for text. */
static void
flatten(json_t *row)
{
	const json_t *rule = json_object_get(row, "rule"), *pair;
	const char *file = json_string_value(json_object_get(row, "file"));
	char text[512];

	if (json_is_object(rule)) {
		snprintf(text, sizeof(text), "%s/%s (%s:%d)",
		    json_string_value(json_object_get(rule, "policy")),
		    json_string_value(json_object_get(rule, "name")),
		    json_string_value(json_object_get(rule, "file")),
		    (int)json_integer_value(json_object_get(rule, "line")));
		json_object_set_new(row, "rule_text", json_string(text));
	}
	if (file != NULL) {
		if (json_integer_value(json_object_get(row, "line")) > 0)
			snprintf(text, sizeof(text), "%s:%d", file,
			    (int)json_integer_value(json_object_get(row, "line")));
		else
			snprintf(text, sizeof(text), "(default)");
		json_object_set_new(row, "place", json_string(text));
	}
	if (json_is_array(json_object_get(row, "names"))) {
		json_object_set_new(row, "names_text", words_of(json_object_get(row, "names")));
		if (json_is_null(json_object_get(row, "asker")))
			json_object_set_new(row, "asker", json_string("all"));
	}
	for (unsigned int i = 0; i < 2; i++) {
		pair = json_object_get(row, i == 0 ? "packets" : "bytes");
		if (!json_is_array(pair))
			continue;
		snprintf(text, sizeof(text), "%lld/%lld",
		    (long long)json_integer_value(json_array_get(pair, 0)),
		    (long long)json_integer_value(json_array_get(pair, 1)));
		json_object_set_new(row, i == 0 ? "packets_text" : "bytes_text", json_string(text));
	}
}

struct taker {
	const struct ctl_context *ctx;
	struct ctl_rows *rows;
};

static int
take_row(void *arg, const char *json)
{
	struct taker *t = arg;
	json_t *row = json_loads(json, 0, NULL);

	if (row == NULL)
		return 0;
	if (!t->ctx->json)
		flatten(row);
	ctl_rows_add(t->rows, row);
	return 0;
}

int
ctl_ask(struct ctl_context *ctx, const char *daemon, const char *words, int argc, char **argv,
    int fd, int (*row)(void *arg, const char *json), void *arg)
{
	char path[512], other[512], line[PK_CONTROL_LINE_MAX];
	struct pk_diag diag;
	int at, rc;

	snprintf(path, sizeof(path), "%s/%s.ctl", ctx->run_dir, daemon);
	/* There are two data planes, and here may be the other one. */
	if (strcmp(daemon, "picketd") == 0 && access(path, F_OK) < 0) {
		snprintf(other, sizeof(other), "%s/picket-nftd.ctl", ctx->run_dir);
		if (access(other, F_OK) == 0)
			memcpy(path, other, sizeof(path));
	}
	at = snprintf(line, sizeof(line), "%s", words);
	for (int i = 0; i < argc && (size_t)at < sizeof(line); i++)
		at += snprintf(line + at, sizeof(line) - (size_t)at, " %s", argv[i]);
	if ((size_t)at >= sizeof(line))
		return ctl_usage(ctx, "more than %d bytes of words", PK_CONTROL_LINE_MAX);
	rc = pk_control_ask_with(path, line, fd, row, arg, &diag);
	if (rc < 0)
		return ctl_refused(ctx, "%s", diag.text);
	return CTL_DONE;
}

int
ctl_show(struct ctl_context *ctx, const char *daemon, const struct ctl_column *columns, size_t n,
    const char *words, int argc, char **argv, int fd)
{
	struct taker taker = { ctx, ctl_rows_begin(ctx, columns, n) };
	int status = ctl_ask(ctx, daemon, words, argc, argv, fd, take_row, &taker);

	ctl_rows_end(taker.rows);
	return status;
}

static int
show(struct ctl_context *ctx, const struct view *view, const char *words, int argc, char **argv)
{
	return ctl_show(ctx, view->daemon, view->columns, view->nb_columns, words, argc, argv, -1);
}

static int
show_picketd(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct {
		const char *words;
		struct view view;
	} views[] = {
		{ "show drops", VIEW("picketd", drop_columns) },
		{ "show counters", VIEW("picketd", counter_columns) },
		{ "show apps", VIEW("picketd", app_columns) },
		{ "show names", VIEW("picketd", name_columns) },
		{ "show signatures", VIEW("picketd", signature_columns) },
		{ "show rules", VIEW("picketd", rule_columns) },
		{ "show lcores", VIEW("picketd", lcore_columns) },
		{ "show wires", VIEW("picketd", wire_columns) },
		{ "show sa", VIEW("picketd", sa_columns) },
		{ "show tunnels", VIEW("picketd", tunnel_columns) },
		{ "show ipsec", VIEW("picketd", ipsec_columns) },
		{ "show macsec", VIEW("picketd", macsec_columns) },
		{ "show plane", VIEW("picketd", plane_columns) },
	};

	for (size_t i = 0; i < PK_COUNT(views); i++) {
		if (strcmp(views[i].words, ctx->command->words) != 0)
			continue;
		return show(ctx, &views[i].view,
		    i == PK_COUNT(views) - 1 ? "show status" : views[i].words, argc, argv);
	}
	pk_bug(__FILE__, __LINE__, "every show command has a view");
}

static int
show_config(struct ctl_context *ctx, int argc, char **argv)
{
	static const char *const daemons[] = { "picketd", "picket-nftd", "picket-agentd",
		"picket-attestd", "picket-iked", "picket-mkad", "picket-tlsd", "picket-policyd" };
	struct view view = { argc > 0 ? argv[0] : "picketd", config_columns,
		PK_COUNT(config_columns) };

	for (size_t i = 0; i < PK_COUNT(daemons); i++)
		if (strcmp(view.daemon, daemons[i]) == 0 && argc <= 1)
			return show(ctx, &view, "show config", 0, NULL);
	return ctl_usage(ctx,
	    "want one of picketd, picket-nftd, picket-agentd, picket-attestd, picket-iked, picket-mkad, picket-tlsd, picket-policyd");
}

static const char *
text_of(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s != NULL ? s : "";
}

/* One line per record as it comes: there is no end to wait for, and so no table. */
static int
monitor_row(void *arg, const char *json)
{
	const struct ctl_context *ctx = arg;
	const char *reason;
	json_t *row;

	if (ctx->json) {
		puts(json);
		fflush(stdout);
		return 0;
	}
	row = json_loads(json, 0, NULL);
	if (row == NULL)
		return 0;
	flatten(row);
	reason = text_of(row, "reason");
	printf("%-6s %-4s %-12s %-7s %-4s %s:%lld -> %s:%lld %lld bytes%s%s %s\n",
	    text_of(row, "kind"), text_of(row, "verdict"),
	    strcmp(reason, "none") != 0 ? reason : "", text_of(row, "from"), text_of(row, "proto"),
	    text_of(row, "src"), (long long)json_integer_value(json_object_get(row, "sport")),
	    text_of(row, "dst"), (long long)json_integer_value(json_object_get(row, "dport")),
	    (long long)json_integer_value(json_object_get(row, "len")),
	    text_of(row, "state")[0] != '\0' ? " " : "", text_of(row, "state"),
	    text_of(row, "rule_text"));
	fflush(stdout);
	json_decref(row);
	return 0;
}

static int
monitor(struct ctl_context *ctx, int argc, char **argv)
{
	return ctl_ask(ctx, "picketd", "monitor", argc, argv, -1, monitor_row, ctx);
}

static int
load_signatures(struct ctl_context *ctx, int argc, char **argv)
{
	return ctl_ask(ctx, "picketd", "load signatures", argc, argv, -1, NULL, NULL);
}

static const struct ctl_column host_columns[] = { { "host", "HOST" }, { "state", "STATE" },
	{ "attested", "ATTESTED" }, { "epoch", "EPOCH" }, { "connected", "CONNECTED" },
	{ "lease_ms", "LEASE ms" }, { "good", "GOOD" }, { "bad", "BAD" }, { "missed", "MISSED" },
	{ "ima_entries", "IMA" }, { "by", "REFERENCE" }, { "why", "WHY" } };
static const struct ctl_column reason_columns[] = { { "code", "CODE" }, { "text", "TEXT" },
	{ "meaning", "MEANING" } };
static const struct ctl_column ear_columns[] = { { "ear", "RESULT" } };

/* The verifier of this DPU. */
static int
attestd(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct {
		const char *words, *ask;
		struct view view;
	} views[] = {
		{ "attest status", "show hosts", VIEW("picket-attestd", host_columns) },
		{ "attest reasons", "show reasons", VIEW("picket-attestd", reason_columns) },
		{ "attest result", "show ear", VIEW("picket-attestd", ear_columns) },
		{ "attest release", "attest release", VIEW("picket-attestd", host_columns) },
		{ "attest forget", "attest forget", VIEW("picket-attestd", host_columns) },
		{ "attest evidence", "attest evidence", VIEW("picket-attestd", host_columns) },
	};

	for (size_t i = 0; i < PK_COUNT(views); i++)
		if (strcmp(views[i].words, ctx->command->words) == 0)
			return show(ctx, &views[i].view, views[i].ask, argc, argv);
	pk_bug(__FILE__, __LINE__, "every command for the verifier has a view");
}

static const struct ctl_column mka_columns[] = { { "wire", "WIRE" }, { "sci", "SCI" },
	{ "state", "STATE" }, { "up", "UP" }, { "server", "KEY SERVER" }, { "suite", "SUITE" },
	{ "an", "AN" }, { "key", "KEY" }, { "live", "LIVE" }, { "potential", "POTENTIAL" },
	{ "keys", "KEYS" }, { "refused", "REFUSED" } };
static const struct ctl_column mka_peer_columns[] = { { "wire", "WIRE" }, { "sci", "SCI" },
	{ "priority", "PRIORITY" }, { "live", "LIVE" }, { "server", "KEY SERVER" },
	{ "receives", "RECEIVES" }, { "transmits", "TRANSMITS" }, { "mn", "MN" },
	{ "ckn", "CKN" } };
static const struct ctl_column mka_event_columns[] = { { "at", "AT" }, { "wire", "WIRE" },
	{ "event", "EVENT" }, { "text", "WHAT" } };

/* The key agreement of this DPU's links. */
static int
mkad(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct {
		const char *words, *ask;
		struct view view;
	} views[] = {
		{ "mka status", "show mka", VIEW("picket-mkad", mka_columns) },
		{ "mka peers", "show mka-peers", VIEW("picket-mkad", mka_peer_columns) },
		{ "mka events", "show mka-events", VIEW("picket-mkad", mka_event_columns) },
		{ "mka rekey", "mka rekey", VIEW("picket-mkad", mka_columns) },
		{ "mka reload", "mka reload", VIEW("picket-mkad", mka_columns) },
	};

	for (size_t i = 0; i < PK_COUNT(views); i++)
		if (strcmp(views[i].words, ctx->command->words) == 0)
			return show(ctx, &views[i].view, views[i].ask, argc, argv);
	pk_bug(__FILE__, __LINE__, "every command for key agreement has a view");
}

#define FILTER "[src|dst|host PREFIX] [proto P] [sport|dport|port N] [wire N]"

const struct ctl_command ctl_local_commands[] = {
	{ "show drops", "[all]", "dropped packets by reason", show_picketd },
	{ "show counters", "", "packets, bytes, sessions, and whether the account balances",
	    show_picketd },
	{ "show apps", "",
	    "what inspected sessions were found to speak, and how many were cut for it",
	    show_picketd },
	{ "show names", "[limit N]", "addresses that DNS answers have given the names in policy",
	    show_picketd },
	{ "show signatures", "", "signatures in force, and those that sessions still finish on",
	    show_picketd },
	{ "load signatures", "", "have picketd read its file of signatures anew", load_signatures },
	{ "show rules", "", "rules in force, with hits and the line they are written in",
	    show_picketd },
	{ "show lcores", "", "load of each lcore", show_picketd },
	{ "show wires", "", "wires and their ports", show_picketd },
	{ "show sa", "[reqid N] [peer PREFIX]",
	    "security associations, with what they have carried", show_picketd },
	{ "show tunnels", "[reqid N]", "tunnels, and the SA each uses", show_picketd },
	{ "show ipsec", "", "how many SAs there are, and who makes keys", show_picketd },
	{ "show macsec", "", "links with MACsec: channels, keys and counters", show_picketd },
	{ "show plane", "", "what the data plane enforces, and since when", show_picketd },
	{ "attest status", "", "how this DPU's verifier sees the host behind it", attestd },
	{ "attest reasons", "", "why its last evidence was refused, and what to do", attestd },
	{ "attest result", "", "the last result as a signed token (EAR)", attestd },
	{ "attest release", "", "let a host that recovers from quarantine back in", attestd },
	{ "attest forget", "", "let another TPM enrol for the host", attestd },
	{ "attest evidence", "DIR",
	    "write the last evidence there, to check it or to learn from it", attestd },
	{ "mka status", "", "key agreement on links with MACsec", mkad },
	{ "mka peers", "", "who takes part in it", mkad },
	{ "mka events", "", "what has happened in it lately", mkad },
	{ "mka rekey", "[WIRE]", "make a new key now, if this DPU is key server", mkad },
	{ "mka reload", "", "read the key files again", mkad },
	{ "show config", "[DAEMON]", "configuration a daemon runs with", show_config },
	{ "monitor", "[drops] " FILTER, "verdicts as they fall, until interrupted", monitor },
	{ NULL, NULL, NULL, NULL },
};
