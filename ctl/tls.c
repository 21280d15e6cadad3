#include "ctl/ctl.h"

/* What picket-tlsd knows: flows in TLS, the connections that carry them, and whose they are. */
#define DAEMON "picket-tlsd"

static const struct ctl_column flow_columns[] = { { "direction", "DIRECTION" },
	{ "local", "WORKLOAD" }, { "peer", "PEER" }, { "src", "FROM" }, { "sport", "PORT" },
	{ "dst", "TO" }, { "dport", "PORT" }, { "state", "STATE" }, { "mode", "MODE" },
	{ "version", "TLS" }, { "cipher", "CIPHER" }, { "ktls", "KTLS" }, { "tx", "TX" },
	{ "rx", "RX" }, { "age_s", "AGE s" } };
static const struct ctl_column tunnel_columns[] = { { "side", "SIDE" }, { "local", "WORKLOAD" },
	{ "peer_id", "PEER" }, { "peer_dpu", "PEER'S DPU" }, { "state", "STATE" },
	{ "mode", "MODE" }, { "version", "TLS" }, { "cipher", "CIPHER" }, { "flows", "FLOWS" },
	{ "key_updates", "KEY UPDATES" }, { "age_s", "AGE s" } };
static const struct ctl_column counter_columns[] = { { "counter", "COUNTER" }, { "value", "VALUE" },
	{ "response_flags", "FLAG" } };
static const struct ctl_column status_columns[] = { { "plane", "PICKETD" },
	{ "generation", "GENERATION" }, { "agent", "AGENT" }, { "trust", "TRUST" },
	{ "identities", "IDENTITIES" }, { "flows", "FLOWS" }, { "tunnels", "TUNNELS" },
	{ "chains_verified", "CHAINS VERIFIED" }, { "chains_cached", "CACHED" } };

#define SHOW(columns, words) \
	ctl_show(ctx, DAEMON, columns, PK_COUNT(columns), words, argc, argv, -1)

static int
show_tls(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(flow_columns, "show tls");
}

static int
show_tunnels(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(tunnel_columns, "show tls-tunnels");
}

static int
show_counters(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(counter_columns, "show tls-counters");
}

static int
show_status(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(status_columns, "show tls-status");
}

const struct ctl_command ctl_tls_commands[] = {
	{ "show tls", "", "flows in mutual TLS: ends, identities, cipher", show_tls },
	{ "show tls-tunnels", "", "TLS connections to other DPUs, and who is at their ends",
	    show_tunnels },
	{ "show tls-counters", "", "what picket-tlsd has carried and refused since it started",
	    show_counters },
	{ "show tls-status", "", "picket-tlsd in one line", show_status },
	{ NULL, NULL, NULL, NULL },
};
