#include <stdio.h>

#include <event2/event.h>

#include "config.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"
#include "policy/agent/agentd.h"

static struct agent_conf conf;
static struct pk_program program = {
	.name = "picket-agentd",
	.summary = "brings policy from the server to this DPU's data plane",
};

static int
refuse(const struct pk_diag *diag)
{
	fprintf(stderr, "picket-agentd: %s\n", diag->text);
	return 1;
}

static void
show_status(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	agentd_show_status(arg, r);
	pk_control_done(r);
}

static void
show_identities(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	agentd_show_identities(arg, r);
}

static void
show_grants(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	agentd_show_grants(arg, r);
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
	{ "show status", "", "the server, the data plane and the generation each is at",
	    show_status },
	{ "show identities", "",
	    "the SVIDs of the workloads behind this DPU that are in use, and its own",
	    show_identities },
	{ "show grants", "", "what the server has given to programs here; without secrets",
	    show_grants },
	{ "show config", "", "the options and their values", show_config },
	{ NULL, NULL, NULL, NULL },
};

int
main(int argc, char **argv)
{
	struct pk_control *control = NULL;
	struct event_base *base;
	struct agentd *a = NULL;
	struct pk_priv priv = { .no_exec = true };
	struct pk_diag diag;
	char path[256];
	int rc = 1;

	program.options = agent_options;
	program.nb_options = agent_nb_options;
	if (pk_program_start(&program, &conf, argc, argv) != argc) {
		fprintf(stderr, "picket-agentd: takes options only; -h lists them\n");
		return 2;
	}
	/* Before the first thread: gRPC's and the helper inherit what is left. */
	priv.user = conf.user;
	if (pk_priv_drop(&priv, &diag) != 0)
		return refuse(&diag);
	base = event_base_new();
	if (base == NULL) {
		pk_diag_set(&diag, "the event loop could not be started");
		rc = refuse(&diag);
		goto out;
	}
	snprintf(path, sizeof(path), "%s/picket-agentd.ctl", conf.run_dir);
	if (agentd_create(&a, base, &conf, &diag) != 0 ||
	    pk_control_create(&control, base, path, commands, a, &diag) != 0) {
		rc = refuse(&diag);
		goto out;
	}
	rc = pk_program_serve(base) == 0 ? 0 : 1;
out:
	pk_control_destroy(control);
	agentd_destroy(a);
	if (base != NULL)
		event_base_free(base);
	pk_conf_fini(agent_options, agent_nb_options, &conf);
	return rc;
}
