#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/pcapng.h"

/*
 * Sessions of the DPU on this machine: seeing them, ending them, carrying them elsewhere; and packets with the
 * verdicts they got.  picketd has no rights to anybody's files, so files are opened here and handed to it.
 */
#define FILTER                                                                               \
	"[src|dst|host PREFIX] [proto P] [sport|dport|port N] [wire N] [vrf N] "             \
	"[direction egress|ingress] [state S] [app A] [tenant T] [workload T/NAME|ADDRESS] " \
	"[rule POLICY[/NAME]] [older|idle SPAN]"
#define PACKETS   "[drops] [src|dst|host PREFIX] [proto P] [sport|dport|port N] [wire N]"
#define WIRES_MAX 64

static const struct ctl_column session_columns[] = { { "proto", "PROTO" }, { "src", "SOURCE" },
	{ "sport", "PORT" }, { "dst", "DESTINATION" }, { "dport", "PORT" }, { "state", "STATE" },
	{ "app", "APP" }, { "packets_text", "PACKETS" }, { "bytes_text", "BYTES" },
	{ "idle_s", "IDLE" }, { "rule_text", "RULE" } };
static const struct ctl_column killed_columns[] = { { "killed", "KILLED" } };
static const struct ctl_column exported_columns[] = { { "exported", "EXPORTED" },
	{ "seconds", "SECONDS" } };
static const struct ctl_column imported_columns[] = { { "result", "RESULT" },
	{ "sessions", "SESSIONS" }, { "seconds", "SECONDS" } };
static const struct ctl_column top_columns[] = { { "address", "ADDRESS" }, { "vrf", "VRF" },
	{ "workload", "WORKLOAD" }, { "sessions", "SESSIONS" }, { "packets", "PACKETS" },
	{ "bytes", "BYTES" } };
static const struct ctl_column tenant_columns[] = { { "tenant", "TENANT" },
	{ "sessions", "SESSIONS" }, { "half_open", "HALF OPEN" }, { "tcp", "TCP" },
	{ "udp", "UDP" }, { "icmp", "ICMP" }, { "other", "OTHER" }, { "packets", "PACKETS" },
	{ "bytes", "BYTES" } };

#define SHOW(columns) \
	ctl_show(ctx, "picketd", columns, PK_COUNT(columns), ctx->command->words, argc, argv, -1)

static int
show_sessions(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(session_columns);
}

static int
show_top(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(top_columns);
}

static int
show_tenants(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(tenant_columns);
}

static int
kill_sessions(struct ctl_context *ctx, int argc, char **argv)
{
	return SHOW(killed_columns);
}

/* Take `-w FILE` out of the words.  NULL: it is not there. */
static const char *
take_file(int *argc, char **argv)
{
	for (int i = 0; i + 1 < *argc; i++) {
		const char *file = argv[i + 1];

		if (strcmp(argv[i], "-w") != 0)
			continue;
		memmove(argv + i, argv + i + 2, (size_t)(*argc - i - 2) * sizeof(*argv));
		*argc -= 2;
		return file;
	}
	return NULL;
}

static int
copy(int from, int to)
{
	static char buffer[1 << 16];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		for (ssize_t at = 0, w; at < n; at += w)
			if ((w = write(to, buffer + at, (size_t)(n - at))) < 0)
				return -errno;
	return n < 0 ? -errno : 0;
}

/* `-` is standard output, which need not be a file: picketd writes into memory, and that is copied. */
static int
export_sessions(struct ctl_context *ctx, int argc, char **argv)
{
	const char *file = take_file(&argc, argv);
	bool to_stdout;
	int fd, status;

	if (file == NULL)
		return ctl_usage(ctx, "want -w FILE, or -w - for standard output");
	to_stdout = strcmp(file, "-") == 0;
	fd = to_stdout ? memfd_create("sessions", MFD_CLOEXEC)
	               : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return ctl_refused(ctx, "%s: %s", file, strerror(errno));
	if (to_stdout) {
		status = ctl_ask(ctx, "picketd", "sessions export", argc, argv, fd, NULL, NULL);
		if (status == CTL_DONE &&
		    (lseek(fd, 0, SEEK_SET) < 0 || copy(fd, STDOUT_FILENO) < 0))
			status = ctl_refused(ctx, "standard output: %s", strerror(errno));
	} else {
		status = ctl_show(ctx, "picketd", exported_columns, PK_COUNT(exported_columns),
		    "sessions export", argc, argv, fd);
	}
	close(fd);
	return status;
}

static int
import_sessions(struct ctl_context *ctx, int argc, char **argv)
{
	bool from_stdin = argc == 1 && strcmp(argv[0], "-") == 0;
	int fd, status;

	if (argc != 1)
		return ctl_usage(ctx, "want one FILE, or - for standard input");
	fd = from_stdin ? memfd_create("sessions", MFD_CLOEXEC)
	                : open(argv[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (from_stdin && (copy(STDIN_FILENO, fd) < 0 || lseek(fd, 0, SEEK_SET) < 0))) {
		status = ctl_refused(ctx, "%s: %s", argv[0], strerror(errno));
		if (fd >= 0)
			close(fd);
		return status;
	}
	status = ctl_show(ctx, "picketd", imported_columns, PK_COUNT(imported_columns),
	    "sessions import", 0, NULL, fd);
	close(fd);
	return status;
}

/* ---- capture ---- */

struct capture {
	struct ctl_capture_writer *writer;
	unsigned int nb_wires;
	uint64_t packets, skipped, lost;
};

static int
count_wire(void *arg, const char *json)
{
	(void)json;
	++*(unsigned int *)arg;
	return 0;
}

static const char *
text_of(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s != NULL ? s : "";
}

static unsigned int
digit(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10) & 15;
}

static void
write_packet(struct capture *c, const json_t *row)
{
	const json_t *rule = json_object_get(row, "rule");
	const char *hex = text_of(row, "bytes"), *state = text_of(row, "state");
	unsigned int wire = (unsigned int)json_integer_value(json_object_get(row, "wire"));
	size_t n = strlen(hex) / 2;
	char comment[1024];
	uint8_t *bytes;
	int at;

	if (wire >= c->nb_wires)
		return;
	bytes = malloc(n + 1);
	PK_ASSERT(bytes != NULL);
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	at = snprintf(comment, sizeof(comment), "%s%s%s%s%s; session %lld; generation %lld",
	    text_of(row, "verdict"), strcmp(text_of(row, "reason"), "none") != 0 ? ": " : "",
	    strcmp(text_of(row, "reason"), "none") != 0 ? text_of(row, "reason") : "",
	    strcmp(state, "none") != 0 ? "; " : "", strcmp(state, "none") != 0 ? state : "",
	    (long long)json_integer_value(json_object_get(row, "session")),
	    (long long)json_integer_value(json_object_get(row, "generation")));
	if (json_is_object(rule) && at < (int)sizeof(comment))
		snprintf(comment + at, sizeof(comment) - (size_t)at, "; rule %s/%s (%s:%d)",
		    text_of(rule, "policy"), text_of(rule, "name"), text_of(rule, "file"),
		    (int)json_integer_value(json_object_get(rule, "line")));
	ctl_capture_write(c->writer, 2 * wire + (strcmp(text_of(row, "from"), "inside") != 0),
	    (uint64_t)json_integer_value(json_object_get(row, "time_ns")), bytes, (uint32_t)n,
	    (uint32_t)json_integer_value(json_object_get(row, "len")), comment);
	free(bytes);
	c->packets++;
}

static int
capture_row(void *arg, const char *json)
{
	struct capture *c = arg;
	json_t *row = json_loads(json, 0, NULL);

	if (row == NULL)
		return 0;
	if (json_object_get(row, "bytes") != NULL) {
		write_packet(c, row);
	} else {
		c->skipped += (uint64_t)json_integer_value(json_object_get(row, "skipped"));
		c->lost += (uint64_t)json_integer_value(json_object_get(row, "lost"));
	}
	json_decref(row);
	return 0;
}

static int
capture(struct ctl_context *ctx, int argc, char **argv)
{
	static char names[2 * WIRES_MAX][16];
	const char *list[2 * WIRES_MAX], *file = take_file(&argc, argv);
	struct capture c = { .writer = NULL };
	struct pk_diag diag;
	int status;

	if (file == NULL)
		return ctl_usage(ctx, "want -w FILE.pcapng");
	for (int i = 0; i < argc; i++)
		if (strncmp(argv[i], "--", 2) == 0)
			argv[i] += 2;
	status = ctl_ask(ctx, "picketd", "show wires", 0, NULL, -1, count_wire, &c.nb_wires);
	if (status != CTL_DONE)
		return status;
	c.nb_wires = PK_MIN(c.nb_wires, (unsigned int)WIRES_MAX);
	for (unsigned int i = 0; i < 2 * c.nb_wires; i++) {
		snprintf(
		    names[i], sizeof(names[i]), "%s%u", i % 2 == 0 ? "inside" : "outside", i / 2);
		list[i] = names[i];
	}
	if (ctl_capture_create(&c.writer, file, list, 2 * c.nb_wires, &diag) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	status = ctl_ask(ctx, "picketd", "capture", argc, argv, -1, capture_row, &c);
	if (ctl_capture_finish(c.writer) < 0)
		return ctl_refused(ctx, "%s: not all of it could be written", file);
	if (ctx->json)
		printf("{\"packets\":%llu,\"skipped\":%llu,\"lost\":%llu}\n",
		    (unsigned long long)c.packets, (unsigned long long)c.skipped,
		    (unsigned long long)c.lost);
	else
		printf("%llu packets; %llu more left out, %llu records lost\n",
		    (unsigned long long)c.packets, (unsigned long long)c.skipped,
		    (unsigned long long)c.lost);
	return status;
}

const struct ctl_command ctl_sessions_commands[] = {
	{ "show sessions", FILTER " [limit N] [after AT]",
	    "live sessions of the DPU on this machine; a page goes on after the `at` (-j) of its last row",
	    show_sessions },
	{ "show top", "[by bytes|packets|sessions] [limit N] " FILTER,
	    "workloads whose live sessions have most", show_top },
	{ "show tenants", "", "live sessions of each tenant", show_tenants },
	{ "kill sessions", FILTER "|all [tell]",
	    "end sessions; with tell both ends of a TCP connection get a RST", kill_sessions },
	{ "sessions export", FILTER "|all -w FILE|-", "write sessions as records, for another DPU",
	    export_sessions },
	{ "sessions import", "FILE|-", "take sessions on, those that policy allows here",
	    import_sessions },
	{ "capture", PACKETS " [--count N] [--seconds N] [--snaplen N] -w FILE.pcapng",
	    "packets with verdict and rule as comments: 1000 and 60 s at most unless told otherwise",
	    capture },
	{ NULL, NULL, NULL, NULL },
};
