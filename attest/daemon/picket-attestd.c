#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <event2/event.h>

#include "attest/daemon/dpu.h"
#include "attest/daemon/host.h"
#include "attest/daemon/options.h"
#include "config.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"

static struct attestd_conf conf;
static struct pk_program program = {
	.name = "picket-attestd",
	.summary = "on a host, proves what it has booted; on its DPU, judges the proof",
};

static int
refuse(const struct pk_diag *diag)
{
	fprintf(stderr, "picket-attestd: %s\n", diag->text);
	return 1;
}

/* `commands` are the DPU's: the host's part listens on nothing, not even locally. */
#define COMMAND(name)                                                                    \
	static void name(struct pk_control_request *r, int argc, char **argv, void *arg) \
	{                                                                                \
		(void)argc;                                                              \
		(void)argv;                                                              \
		attest_dpu_##name(arg, r);                                               \
	}
COMMAND(show)
COMMAND(show_reasons)
COMMAND(show_ear)
COMMAND(release)
COMMAND(forget)

static void
save_evidence(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	if (argc != 1)
		pk_control_refuse(r, "want a directory");
	else
		attest_dpu_save_evidence(arg, r, argv[0]);
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
	{ "show hosts", "", "the host behind this DPU: state, epoch, lease", show },
	{ "show reasons", "", "why the last evidence was refused", show_reasons },
	{ "show ear", "", "the last result as a signed token", show_ear },
	{ "show config", "", "the options and their values", show_config },
	{ "attest release", "", "let a recovering host back in, once its evidence is good",
	    release },
	{ "attest forget", "", "let another TPM enrol for the host", forget },
	{ "attest evidence", "DIR", "write the last evidence into a directory", save_evidence },
	{ NULL, NULL, NULL, NULL },
};

static int
run_host(struct event_base *base, struct pk_diag *diag)
{
	/* The logs in securityfs are root's to read. */
	static const int keep[] = { CAP_DAC_READ_SEARCH };
	struct attest_host *host;
	bool keeps;
	int rc;

	capng_get_caps_process();
	keeps = capng_have_capability(CAPNG_EFFECTIVE, CAP_DAC_READ_SEARCH) != 0;
	/* The way to the TPM may be a program, which is started anew when it ends. */
	rc = attest_host_create(&host, base, &conf, diag);

	if (rc < 0)
		return rc;
	rc = pk_priv_drop(&(struct pk_priv){ .user = conf.user,
	                      .keep = keep,
	                      .nb_keep = keeps,
	                      .no_exec = strncmp(conf.tpm, "cmd:", 4) != 0 },
	    diag);
	if (rc == 0)
		rc = pk_program_serve(base);
	attest_host_destroy(host);
	return rc;
}

static int
run_dpu(struct event_base *base, struct pk_diag *diag)
{
	struct pk_control *control = NULL;
	struct attest_dpu *dpu = NULL;
	char path[512];
	int rc = pk_priv_drop(&(struct pk_priv){ .user = conf.user, .no_exec = true }, diag);

	if (rc == 0 && mkdir(conf.state_dir, 0700) < 0 && errno != EEXIST) {
		pk_diag_set(diag, "%s: cannot be made: %s", conf.state_dir, strerror(errno));
		rc = -errno;
	}
	if (rc == 0)
		rc = attest_dpu_create(&dpu, base, &conf, diag);
	snprintf(path, sizeof(path), "%s/picket-attestd.ctl", conf.run_dir);
	if (rc == 0)
		rc = pk_control_create(&control, base, path, commands, dpu, diag);
	if (rc == 0)
		rc = pk_program_serve(base);
	pk_control_destroy(control);
	attest_dpu_destroy(dpu);
	return rc;
}

int
main(int argc, char **argv)
{
	struct event_base *base;
	struct pk_diag diag;
	int rc;

	program.options = attestd_options;
	program.nb_options = attestd_nb_options;
	if (pk_program_start(&program, &conf, argc, argv) != argc) {
		fprintf(stderr, "picket-attestd: takes options only; -h lists them\n");
		return 2;
	}
	base = event_base_new();
	if (base == NULL) {
		pk_diag_set(&diag, "the event loop could not be started");
		return refuse(&diag);
	}
	pk_diag_set(&diag, "the event loop ended");
	rc = conf.role == ATTESTD_HOST ? run_host(base, &diag) : run_dpu(base, &diag);
	event_base_free(base);
	pk_conf_fini(attestd_options, attestd_nb_options, &conf);
	return rc == 0 ? 0 : refuse(&diag);
}
