#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

/* What picket-iked knows: peers, IKE SAs and their children.  The SAs themselves are picketd's. */
#define DAEMON "picket-iked"

static const struct ctl_column status_columns[] = { { "picketd", "PICKETD" }, { "peers", "PEERS" },
	{ "ike", "IKE SAs" }, { "half_open", "HALF OPEN" }, { "up", "ESTABLISHED" },
	{ "refused", "REFUSED" }, { "unreachable", "UNREACHABLE" }, { "jobs", "WAITING" } };
static const struct ctl_column ike_columns[] = { { "id", "ID" }, { "peer", "PEER" },
	{ "state", "STATE" }, { "local", "LOCAL" }, { "remote", "REMOTE" },
	{ "remote_id", "IDENTITY" }, { "proposal", "PROPOSAL" }, { "children", "CHILDREN" },
	{ "age_s", "AGE s" }, { "rekey_s", "REKEY s" } };
static const struct ctl_column child_columns[] = { { "id", "ID" }, { "peer", "PEER" },
	{ "child", "CHILD" }, { "state", "STATE" }, { "spi_in", "SPI IN" },
	{ "spi_out", "SPI OUT" }, { "local", "LOCAL" }, { "remote", "REMOTE" },
	{ "proposal", "PROPOSAL" }, { "packets_in", "PACKETS IN" },
	{ "packets_out", "PACKETS OUT" }, { "rekey_s", "REKEY s" } };
static const struct ctl_column counter_columns[] = { { "name", "COUNTER" }, { "value", "VALUE" },
	{ "help", "MEANING" } };
static const struct ctl_column load_columns[] = { { "added", "ADDED" }, { "changed", "CHANGED" },
	{ "removed", "REMOVED" }, { "kept", "AS BEFORE" } };

#define SHOW(columns, words) \
	ctl_show(ctx, DAEMON, columns, PK_COUNT(columns), words, argc, argv, -1)

static int
show_ike(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(ike_columns, "show ike");
}

static int
show_children(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(child_columns, "show children");
}

static int
show_counters(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(counter_columns, "show counters");
}

static int
status(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(status_columns, "ipsec status");
}

static int
up(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(status_columns, "ipsec up");
}

static int
rekey(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(status_columns, "ipsec rekey");
}

static int
down(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(status_columns, "ipsec down");
}

/* The file is opened here, as whoever asks: the daemon needs no right to it. */
static int
load(struct ctl_context *ctx, int argc, char **argv)
{
	int fd = -1, exit_status;

	if (argc > 1)
		return ctl_usage(ctx, "want one file, or none");
	if (argc == 1) {
		fd = open(argv[0], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return ctl_refused(
			    ctx, "%s: cannot be opened: %s", argv[0], strerror(errno));
	}
	exit_status =
	    ctl_show(ctx, DAEMON, load_columns, PK_COUNT(load_columns), "ipsec load", 0, NULL, fd);
	if (fd >= 0)
		close(fd);
	return exit_status;
}

const struct ctl_command ctl_ike_commands[] = {
	{ "show ike", "[PEER|ID]", "IKE SAs, each with the peer it is with", show_ike },
	{ "show ike-children", "[PEER|ID [CHILD]]", "CHILD SAs as IKE sees them", show_children },
	{ "show ike-counters", "", "what IKE has done and refused since picket-iked started",
	    show_counters },
	{ "ipsec status", "", "picket-iked in one line", status },
	{ "ipsec up", "PEER [CHILD]", "begin a peer's children, or one of them", up },
	{ "ipsec rekey", "PEER|ID [CHILD|reauth]",
	    "new keys for an IKE SA or one of its children, or authentication anew", rekey },
	{ "ipsec down", "PEER|ID [CHILD]", "end an IKE SA, or one of its children", down },
	{ "ipsec load", "[FILE]",
	    "put the peers of a file in force, or those of the configured files again", load },
	{ NULL, NULL, NULL, NULL },
};
