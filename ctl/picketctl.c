#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "ctl/ctl.h"

static const struct ctl_command *const ctl_tables[] = {
	ctl_policy_commands,
	ctl_server_commands,
	ctl_operations_commands,
	ctl_identity_commands,
	ctl_attest_reference_commands,
	ctl_local_commands,
	ctl_ike_commands,
	ctl_tls_commands,
	ctl_sessions_commands,
	ctl_replay_commands,
	ctl_attest_commands,
	ctl_dpi_commands,
};

static int
complain(const struct ctl_context *ctx, const char *fmt, va_list ap)
{
	fputs("picketctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	(void)ctx;
	return 0;
}

int
ctl_refused(const struct ctl_context *ctx, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(ctx, fmt, ap);
	va_end(ap);
	return CTL_REFUSED;
}

int
ctl_usage(const struct ctl_context *ctx, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(ctx, fmt, ap);
	va_end(ap);
	if (ctx->command != NULL)
		fprintf(
		    stderr, "usage: picketctl %s %s\n", ctx->command->words, ctx->command->args);
	return CTL_USAGE;
}

static void
usage(FILE *f)
{
	fputs("picketctl: ask and instruct the parts of Picket\n"
	      "\n"
	      "usage: picketctl [OPTION]... COMMAND...\n"
	      "  -j          JSON lines on stdout\n"
	      "  -s ADDRESS  policy server, host:port [$PICKET_SERVER, or localhost:7443]\n"
	      "  -i DIR      your certificate, key and CA [$PICKET_IDENTITY, or " PK_SYSCONFDIR
	      "/operator]\n"
	      "  -r DIR      sockets of the daemons on this machine [$PICKET_RUN_DIR, or " PK_RUNDIR
	      "]\n"
	      "  -h, -V      this text; version\n"
	      "\n",
	    f);
	for (size_t t = 0; t < PK_COUNT(ctl_tables); t++)
		for (const struct ctl_command *c = ctl_tables[t]; c->words != NULL; c++)
			fprintf(f, "  %s%s%s\n        %s\n", c->words,
			    c->args[0] != '\0' ? " " : "", c->args, c->help);
	fputs("\nExit status: 0 done, 1 refused, 2 wrong usage.\n", f);
}

/* How many leading words of argv make up c->words; 0 when they do not. */
static int
matches(const struct ctl_command *c, int argc, char **argv)
{
	const char *w = c->words;
	int n = 0;

	for (; n < argc && *w != '\0'; n++) {
		size_t len = strcspn(w, " ");

		if (strlen(argv[n]) != len || strncmp(argv[n], w, len) != 0)
			return 0;
		w += len + strspn(w + len, " ");
	}
	return *w == '\0' ? n : 0;
}

static int
unknown(int argc, char **argv)
{
	const char *names[256], *near;
	char said[256];
	size_t n = 0;

	for (size_t t = 0; t < PK_COUNT(ctl_tables); t++)
		for (const struct ctl_command *c = ctl_tables[t];
		     c->words != NULL && n < PK_COUNT(names); c++)
			names[n++] = c->words;
	snprintf(
	    said, sizeof(said), "%s%s%s", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
	near = pk_suggest(said, names, n);
	if (near == NULL)
		near = pk_suggest(argv[0], names, n);
	if (near != NULL)
		fprintf(stderr, "picketctl: there is no command \"%s\"; did you mean \"%s\"?\n",
		    said, near);
	else
		fprintf(stderr, "picketctl: there is no command \"%s\"; -h lists them\n", said);
	return CTL_USAGE;
}

static const char *
or_env(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : fallback;
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct ctl_context ctx = {
		.server = or_env("PICKET_SERVER", "localhost:7443"),
		.identity = or_env("PICKET_IDENTITY", PK_SYSCONFDIR "/operator"),
		.run_dir = or_env("PICKET_RUN_DIR", PK_RUNDIR),
	};
	int c, best = 0;

	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "+js:i:r:hV", long_options, NULL)) != -1) {
		switch (c) {
		case 'j':
			ctx.json = true;
			break;
		case 's':
			ctx.server = optarg;
			break;
		case 'i':
			ctx.identity = optarg;
			break;
		case 'r':
			ctx.run_dir = optarg;
			break;
		case 'h':
			usage(stdout);
			return CTL_DONE;
		case 'V':
			printf("picketctl %s\n", PK_VERSION);
			return CTL_DONE;
		default:
			fputs("picketctl: -h lists options and commands\n", stderr);
			return CTL_USAGE;
		}
	}
	argc -= optind;
	argv += optind;
	/* -j is so common that it may also stand last. */
	if (argc > 0 && strcmp(argv[argc - 1], "-j") == 0) {
		ctx.json = true;
		argv[--argc] = NULL;
	}
	if (argc == 0) {
		usage(stderr);
		return CTL_USAGE;
	}
	for (size_t t = 0; t < PK_COUNT(ctl_tables); t++) {
		for (const struct ctl_command *cmd = ctl_tables[t]; cmd->words != NULL; cmd++) {
			int n = matches(cmd, argc, argv);

			if (n > best) {
				best = n;
				ctx.command = cmd;
			}
		}
	}
	if (ctx.command == NULL)
		return unknown(argc, argv);
	return ctx.command->run(&ctx, argc - best, argv + best);
}
