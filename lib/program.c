#include "lib/program.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "config.h"
#include "lib/control.h"
#include "lib/log.h"

static void
usage(const struct pk_program *p, FILE *f)
{
	fprintf(f,
	    "%s: %s\n"
	    "\n"
	    "usage: %s [OPTION]...%s%s\n"
	    "  -c FILE        configuration [" PK_SYSCONFDIR "/%s.conf]\n"
	    "  -o NAME=VALUE  set one option, over the file; may be repeated\n"
	    "  -n             check the configuration, print it in canonical form, and stop\n"
	    "  -v             log more; twice for debugging\n"
	    "  -h             this text\n"
	    "  -V             version\n"
	    "  --print-sample print a configuration file with every option and its default\n"
	    "  --print-man    print the options for the manual page\n",
	    p->name, p->summary, p->name, p->usage_args != NULL ? " " : "",
	    p->usage_args != NULL ? p->usage_args : "", p->name);
}

int
pk_program_start(struct pk_program *p, void *values, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "print-sample", no_argument, NULL, 'S' },
		{ "print-man", no_argument, NULL, 'M' },
		{ NULL, 0, NULL, 0 },
	};
	static char default_path[256];
	const char *sets[128];
	size_t nb_sets = 0;
	enum pk_log_level level = PK_LOG_NOTICE;
	bool check_only = false, explicit_path = false;
	struct pk_diag diag;
	int c, rc;

	snprintf(default_path, sizeof(default_path), PK_SYSCONFDIR "/%s.conf", p->name);
	p->config_path = default_path;
	while ((c = getopt_long(argc, argv, "+c:o:nvhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			p->config_path = optarg;
			explicit_path = true;
			break;
		case 'o':
			if (nb_sets == PK_COUNT(sets) || strchr(optarg, '=') == NULL) {
				fprintf(stderr, "%s: -o %s: want NAME=VALUE\n", p->name, optarg);
				exit(2);
			}
			sets[nb_sets++] = optarg;
			break;
		case 'n':
			check_only = true;
			break;
		case 'v':
			level = PK_MIN(level + 1, PK_LOG_DEBUG);
			break;
		case 'h':
			usage(p, stdout);
			exit(0);
		case 'V':
			printf("%s %s\n", p->name, PK_VERSION);
			exit(0);
		case 'S':
			pk_conf_print_sample(p->options, p->nb_options, p->name, stdout);
			exit(0);
		case 'M':
			pk_conf_print_man(p->options, p->nb_options, stdout);
			exit(0);
		default:
			fprintf(stderr, "%s: -h lists the options\n", p->name);
			exit(2);
		}
	}
	pk_log_init(p->name, level);
	pk_conf_init(p->options, p->nb_options, values);
	rc = pk_conf_load(p->options, p->nb_options, values, p->config_path, &diag);
	if (rc == -ENOENT && !explicit_path) {
		p->config_path = NULL;
	} else if (rc < 0) {
		fprintf(stderr, "%s: %s\n", p->name, diag.text);
		exit(2);
	}
	for (size_t i = 0; i < nb_sets; i++) {
		char name[128];
		const char *equals = strchr(sets[i], '=');

		snprintf(name, sizeof(name), "%.*s", (int)(equals - sets[i]), sets[i]);
		if (pk_conf_set(p->options, p->nb_options, values, name, equals + 1, &diag) < 0) {
			fprintf(stderr, "%s: -o: %s\n", p->name, diag.text);
			exit(2);
		}
	}
	if (check_only) {
		pk_conf_print(p->options, p->nb_options, values, stdout);
		exit(0);
	}
	signal(SIGPIPE, SIG_IGN);
	return optind;
}

int
pk_program_main(struct pk_program *p, void *values, int argc, char **argv,
    int (*run)(void *arg, struct event_base *base, struct pk_diag *diag), void *arg)
{
	struct event_base *base;
	struct pk_diag diag;
	int rc;

	if (pk_program_start(p, values, argc, argv) != argc) {
		fprintf(stderr, "%s: takes options only; -h lists them\n", p->name);
		return 2;
	}
	base = event_base_new();
	pk_diag_set(&diag, "the event loop could not be started");
	rc = base != NULL ? run(arg, base, &diag) : -ENOMEM;
	if (rc < 0)
		pk_error("%s", diag.text);
	if (base != NULL)
		event_base_free(base);
	pk_conf_fini(p->options, p->nb_options, values);
	return rc < 0 ? 1 : 0;
}

static void
ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	pk_notice("ready");
	if (path == NULL || strlen(path) >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, strlen(path));
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&addr,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(fd);
}

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)what;
	pk_notice("stopping: signal %d", (int)number);
	event_base_loopbreak(arg);
}

int
pk_program_serve(struct event_base *base)
{
	static const int numbers[] = { SIGTERM, SIGINT };
	struct event *events[PK_COUNT(numbers)] = { NULL };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < PK_COUNT(numbers); i++) {
		events[i] = evsignal_new(base, numbers[i], on_signal, base);
		if (events[i] == NULL || event_add(events[i], NULL) != 0)
			rc = -ENOMEM;
	}
	if (rc == 0) {
		ready();
		event_base_dispatch(base);
	}
	for (size_t i = 0; i < PK_COUNT(numbers); i++)
		if (events[i] != NULL)
			event_free(events[i]);
	return rc;
}

void
pk_program_show_config(const struct pk_program *p, const void *values, struct pk_control_request *r)
{
	char text[4096], json[2 * sizeof(text)];

	for (size_t i = 0; i < p->nb_options; i++)
		for (size_t k = 0;
		     pk_conf_text(&p->options[i], values, k, text, sizeof(text)) != NULL; k++)
			pk_control_rowf(r, "{\"option\":\"%s\",\"value\":%s}", p->options[i].name,
			    pk_json_string(text, json, sizeof(json)));
	pk_control_done(r);
}
