#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "config.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"
#include "policy/arena.h"
#include "policy/server/ca.h"
#include "policy/server/policyd.h"
#include "policy/server/secret.h"

#define NAMES_MAX 32

static struct server_conf conf;
static struct pk_program program = {
	.name = "picket-policyd",
	.summary = "the policy server",
	.usage_args =
	    "[COMMAND]\n"
	    "\n"
	    "  (none)                                serve\n"
	    "  init [--domain D] [--server NAME,...] make the authority, the server's certificate\n"
	    "                                        and a first operator, \"admin\"\n"
	    "  init-gm                               make a second authority, for SVIDs on SM2\n"
	    "  issue dpu|operator NAME DIR           make an identity in DIR\n"
	    "  renew [--server NAME,...]             make a new certificate for the server\n"
	    "  secret NAME [128|256]                 make a secret of so many bits (256), for documents to name\n",
};

static int
refuse(const struct pk_diag *diag)
{
	fprintf(stderr, "picket-policyd: %s\n", diag->text);
	return 1;
}

static int
usage(const char *text)
{
	fprintf(stderr, "picket-policyd: %s; -h lists the commands\n", text);
	return 2;
}

/* The names a server is reached by: what was given, else this machine's own and the loopback's. */
static size_t
server_names(char *given, const char **names, char *host, size_t size)
{
	size_t n = 0;

	if (given != NULL) {
		for (char *word = strtok(given, ","); word != NULL && n < NAMES_MAX;
		     word = strtok(NULL, ","))
			names[n++] = word;
		return n;
	}
	if (gethostname(host, size) == 0) {
		host[size - 1] = '\0';
		if (strcmp(host, "localhost") != 0)
			names[n++] = host;
	}
	names[n++] = "localhost";
	names[n++] = "127.0.0.1";
	names[n++] = "::1";
	return n;
}

/* make_dirs("/a/b/c") makes each that is missing, as mkdir -p. */
static int
make_dirs(const char *path, struct pk_diag *diag)
{
	char part[4096];

	snprintf(part, sizeof(part), "%s", path);
	for (char *at = part + 1;; at++) {
		char c = *at;

		if (c != '/' && c != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST) {
			pk_diag_set(diag, "%s: %s", part, strerror(errno));
			return -errno;
		}
		*at = c;
		if (c == '\0')
			return 0;
	}
}

/*
 * Whom the files of init and renew are for: the user the server will run as.  Without one it is
 * whoever owns the state directory, which systemd makes for the unit's user.
 */
static const char *
files_user(void)
{
	const struct passwd *pw;
	struct stat st;

	if (conf.user != NULL && conf.user[0] != '\0')
		return conf.user;
	if (geteuid() != 0 || stat(conf.state, &st) != 0 || st.st_uid == 0)
		return NULL;
	pw = getpwuid(st.st_uid);
	return pw != NULL ? pw->pw_name : NULL;
}

/* The store is made in it later, by that user. */
static int
give_state_dir(const char *user, struct pk_diag *diag)
{
	const struct passwd *pw = user != NULL && geteuid() == 0 ? getpwnam(user) : NULL;

	if (pw == NULL || chown(conf.state, pw->pw_uid, pw->pw_gid) == 0)
		return 0;
	pk_diag_set(diag, "%s: %s", conf.state, strerror(errno));
	return -errno;
}

static int
command_init(int argc, char **argv, bool renew)
{
	const char *names[NAMES_MAX], *domain = "picket.internal";
	char host[256], *given = NULL;
	struct pk_diag diag;
	size_t n;
	int err;

	for (int i = 0; i < argc; i++) {
		if (!renew && strcmp(argv[i], "--domain") == 0 && i + 1 < argc)
			domain = argv[++i];
		else if (strcmp(argv[i], "--server") == 0 && i + 1 < argc)
			given = argv[++i];
		else
			return usage(renew ? "want renew [--server NAME,...]"
			                   : "want init [--domain D] [--server NAME,...]");
	}
	n = server_names(given, names, host, sizeof(host));
	if (renew) {
		if (server_ca_renew(conf.ca_dir, names, n, files_user(), &diag) != 0)
			return refuse(&diag);
		printf(
		    "new certificate in %s/server.crt; a running server takes it up within seconds\n",
		    conf.ca_dir);
		return 0;
	}
	err = make_dirs(conf.state, &diag);
	if (err == 0)
		err = make_dirs(conf.ca_dir, &diag);
	if (err == 0)
		err = server_ca_init(conf.ca_dir, domain, names, n, files_user(), &diag);
	if (err == 0)
		err = give_state_dir(files_user(), &diag);
	if (err != 0)
		return refuse(&diag);
	printf("authority of %s in %s; the server is reached as", domain, conf.ca_dir);
	for (size_t i = 0; i < n; i++)
		printf("%s %s", i != 0 ? "," : "", names[i]);
	printf(
	    "\nthe first operator's identity is in %s/operator/admin: picketctl -i %s/operator/admin\n",
	    conf.ca_dir, conf.ca_dir);
	return 0;
}

static int
command_init_gm(int argc)
{
	struct pk_diag diag;

	if (argc != 0)
		return usage("init-gm takes no arguments");
	if (server_ca_init_gm(conf.ca_dir, files_user(), &diag) != 0)
		return refuse(&diag);
	printf("authority for SM2 in %s/ca-gm.crt; start the server anew to have it used\n",
	    conf.ca_dir);
	return 0;
}

static int
command_issue(int argc, char **argv)
{
	struct pk_diag diag;

	if (argc != 3)
		return usage("want issue dpu|operator NAME DIR");
	if (server_ca_issue(conf.ca_dir, argv[0], argv[1], argv[2], &diag) != 0)
		return refuse(&diag);
	printf("identity of %s %s in %s\n", argv[0], argv[1], argv[2]);
	return 0;
}

static int
command_secret(int argc, char **argv)
{
	struct pk_diag diag;
	size_t octets = 32;

	if (argc == 2 && strcmp(argv[1], "128") == 0)
		octets = 16;
	else if (argc != 1 && !(argc == 2 && strcmp(argv[1], "256") == 0))
		return usage("want secret NAME [128|256]");
	if (server_secret_make(conf.secrets_dir, argv[0], octets, files_user(), &diag) != 0)
		return refuse(&diag);
	printf("secret %s in %s, for documents to name\n", argv[0], conf.secrets_dir);
	return 0;
}

/* Fill in a path that was left empty: `file` in `dir`. */
static void
derive(char **path, const char *dir, const char *file)
{
	size_t size = strlen(dir) + strlen(file) + 2;
	char *made;

	if (*path != NULL && (*path)[0] != '\0')
		return;
	made = malloc(size);
	PK_ASSERT(made != NULL); /* nothing has been started yet */
	snprintf(made, size, "%s/%s", dir, file);
	free(*path);
	*path = made;
}

static void
show_config(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	(void)arg;
	pk_program_show_config(&program, &conf, r);
}

static const struct pk_control_command commands[] = {
	{ "show config", "", "the options and their values", show_config },
	{ NULL, NULL, NULL, NULL },
};

static int
serve(void)
{
	const struct pk_priv priv = { .user = conf.user, .no_exec = true };
	struct pk_control *control = NULL;
	struct event_base *base;
	struct policyd *p = NULL;
	struct pk_diag diag;
	char path[256];
	int rc = 1;

	/* Before the first thread: gRPC's and the helper inherit what is left. */
	if (pk_priv_drop(&priv, &diag) != 0)
		return refuse(&diag);
	base = event_base_new();
	if (base == NULL) {
		pk_diag_set(&diag, "the event loop could not be started");
		rc = refuse(&diag);
		goto out;
	}
	snprintf(path, sizeof(path), "%s/picket-policyd.ctl", conf.run_dir);
	if (policyd_create(&p, base, &conf, &diag) != 0 ||
	    pk_control_create(&control, base, path, commands, NULL, &diag) != 0) {
		rc = refuse(&diag);
		goto out;
	}
	pk_notice("listening on %s, port %u", conf.listen, policyd_port(p));
	rc = pk_program_serve(base) == 0 ? 0 : 1;
out:
	pk_control_destroy(control);
	policyd_destroy(p);
	if (base != NULL)
		event_base_free(base);
	return rc;
}

int
main(int argc, char **argv)
{
	int first, rc;

	policy_arena_keep_memory();
	program.options = server_options;
	program.nb_options = server_nb_options;
	first = pk_program_start(&program, &conf, argc, argv);
	derive(&conf.ca_dir, conf.state, "ca");
	derive(&conf.secrets_dir, conf.state, "secrets");
	derive(&conf.cert, conf.ca_dir, "server.crt");
	derive(&conf.key, conf.ca_dir, "server.key");
	derive(&conf.ca, conf.ca_dir, "ca.crt");
	argc -= first;
	argv += first;
	if (argc == 0)
		rc = serve();
	else if (strcmp(argv[0], "init") == 0)
		rc = command_init(argc - 1, argv + 1, false);
	else if (strcmp(argv[0], "init-gm") == 0)
		rc = command_init_gm(argc - 1);
	else if (strcmp(argv[0], "renew") == 0)
		rc = command_init(argc - 1, argv + 1, true);
	else if (strcmp(argv[0], "issue") == 0)
		rc = command_issue(argc - 1, argv + 1);
	else if (strcmp(argv[0], "secret") == 0)
		rc = command_secret(argc - 1, argv + 1);
	else
		rc = usage("unknown command");
	pk_conf_fini(server_options, server_nb_options, &conf);
	return rc;
}
