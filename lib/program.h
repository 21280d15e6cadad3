#pragma once

#include <stdbool.h>

#include "lib/conf.h"

struct event_base;
struct pk_control_request;

/*
 * What all daemons have in common on the command line:
 *
 *   -c FILE         configuration, default PK_SYSCONFDIR/NAME.conf (which may be absent)
 *   -o NAME=VALUE   one option, over the file; may be repeated
 *   -n              check the configuration, print it in canonical form, and stop
 *   -v              log more; twice for debugging
 *   -h  -V          usage, version
 *   --print-sample  the sample file; --print-man: the options section of the manual page
 */
struct pk_program {
	const char *name;       /* "picketd" */
	const char *summary;    /* one line for -h */
	const char *usage_args; /* shown after [OPTION]...; NULL */
	const struct pk_conf_option *options;
	size_t nb_options;
	const char *config_path; /* what was read, or NULL; set by start */
};

/*
 * Read the command line and configuration into *values and start the log.  Ends the process for -h,
 * -V, -n, --print-* (0) and for errors (2, one sentence).  Returns the index of the first argument
 * that is not an option.
 * Context: first thing in main().
 */
int pk_program_start(struct pk_program *p, void *values, int argc, char **argv);

/*
 * A main() for programs that take options only: start, make an event loop, `run`, and give back what was read.  `run` does
 * all else, from opening to closing, with pk_program_serve() between; it returns 0, or negative errno with the sentence
 * in *diag.  Returns the exit status: 0, 1 with that sentence in the log, or 2 for wrong usage.
 */
int pk_program_main(struct pk_program *p, void *values, int argc, char **argv,
    int (*run)(void *arg, struct event_base *base, struct pk_diag *diag), void *arg);

/*
 * Serve: tell systemd (NOTIFY_SOCKET) and the log that the program is ready, and run the loop until
 * SIGTERM or SIGINT.  Returns 0, or -ENOMEM.  Context: control thread.
 */
int pk_program_serve(struct event_base *base);

/* Answer `show config`: a row for each option, or for each element of a list. */
void pk_program_show_config(
    const struct pk_program *p, const void *values, struct pk_control_request *r);
