#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>

#include <event2/event.h>

#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"
#include "tls-offload/tlsd.h"

static struct tlso_conf conf;
static struct pk_program program = {
	.name = "picket-tlsd",
	.summary = "carries flows of workloads in mutual TLS to the other's DPU",
};

static void
show_config(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	(void)arg;
	pk_program_show_config(&program, &conf, r);
}

static const struct pk_control_command commands[] = {
	{ "show tls-tunnels", "", "TLS connections, and who is at their ends", tlso_show_tunnels },
	{ "show tls-status", "", "what there is, in one line", tlso_show_status },
	{ "show tls-counters", "", "what has been, since the start", tlso_show_counters },
	{ "show tls", "", "flows that go by TLS", tlso_show },
	{ "show config", "", "the options and their values", show_config },
	{ NULL, NULL, NULL, NULL },
};

static int
run(struct event_base *base, struct pk_diag *diag)
{
	/* Speaking from other people's addresses needs one, each time. */
	static const int keep[] = { CAP_NET_RAW };
	struct pk_control *control = NULL;
	struct tlso *t = NULL;
	char path[512];
	int rc = tlso_create(&t, base, &conf, diag);

	if (rc == 0)
		rc = pk_priv_drop(&(struct pk_priv){ .user = conf.user,
		                      .keep = keep,
		                      .nb_keep = PK_COUNT(keep),
		                      .no_exec = true },
		    diag);
	if (rc == 0)
		rc = tlso_start(t, diag);
	snprintf(path, sizeof(path), "%s/picket-tlsd.ctl", conf.run_dir);
	if (rc == 0)
		rc = pk_control_create(&control, base, path, commands, t, diag);
	if (rc == 0)
		rc = pk_program_serve(base);
	pk_control_destroy(control);
	if (rc == 0)
		tlso_stop(t);
	tlso_destroy(t);
	return rc;
}

int
main(int argc, char **argv)
{
	struct event_base *base;
	struct pk_diag diag;
	int rc;

	program.options = tlso_options;
	program.nb_options = tlso_nb_options;
	if (pk_program_start(&program, &conf, argc, argv) != argc) {
		fprintf(stderr, "picket-tlsd: takes options only; -h lists them\n");
		return 2;
	}
	base = event_base_new();
	PK_ASSERT(base != NULL);
	pk_diag_set(&diag, "no memory");
	rc = run(base, &diag);
	if (rc < 0)
		fprintf(stderr, "picket-tlsd: %s\n", diag.text);
	event_base_free(base);
	pk_conf_fini(tlso_options, tlso_nb_options, &conf);
	return rc == 0 ? 0 : 1;
}
