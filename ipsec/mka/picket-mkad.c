#include <sys/stat.h>

#include <event2/event.h>

#include "ipsec/mka/mkad.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"

static struct mkad_conf conf;
static struct pk_program program = {
	.name = "picket-mkad",
	.summary = "agrees on the keys of links with MACsec (IEEE 802.1X MKA)",
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
	{ "show mka", "", "key agreement on each port", mkad_show },
	{ "show mka-peers", "", "who takes part, live or potential", mkad_show_peers },
	{ "show mka-events", "", "what has happened lately", mkad_show_events },
	{ "show config", "", "the options and their values", show_config },
	{ "mka rekey", "[WIRE]", "as key server make a new key now", mkad_rekey },
	{ "mka reload", "", "read the key files again", mkad_reload },
	{ NULL, NULL, NULL, NULL },
};

static int
run(void *arg, struct event_base *base, struct pk_diag *diag)
{
	struct pk_control *control = NULL;
	struct mkad *d = NULL;
	char path[512];
	int rc = mkad_create(&d, base, &conf, diag);

	(void)arg;
	/* The key files have been read; what is left are two local sockets. */
	if (rc == 0)
		rc = pk_priv_drop(
		    &(struct pk_priv){ .user = conf.user, .no_exec = true, .no_inet = true }, diag);
	if (rc == 0)
		rc = mkad_start(d, diag);
	snprintf(path, sizeof(path), "%s/picket-mkad.ctl", conf.run_dir);
	if (rc == 0)
		rc = pk_control_create(&control, base, path, commands, d, diag);
	if (rc == 0)
		rc = pk_program_serve(base);
	pk_control_destroy(control);
	mkad_destroy(d);
	return rc;
}

int
main(int argc, char **argv)
{
	program.options = mkad_options;
	program.nb_options = mkad_nb_options;
	return pk_program_main(&program, &conf, argc, argv, run, NULL);
}
