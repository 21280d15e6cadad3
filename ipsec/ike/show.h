/*
 * What picket-iked answers on its control socket, but for what only main knows.  libcharon's tables are walked by a
 * helper, since an SA that somebody works on has to be waited for.
 */
#ifndef SHOW_H_
#define SHOW_H_

#include "lib/control.h"
#include "lib/helper.h"

struct event_base;

/**
 * Start the helper.
 *
 * @return		0, or negative errno with diag
 */
int show_init(struct event_base *base, struct pk_diag *diag);

/**
 * Let the helper finish.
 */
void show_fini(void);

/** Commands: rows of struct pk_control_command */
void show_ike(struct pk_control_request *r, int argc, char **argv, void *arg);
void show_children(struct pk_control_request *r, int argc, char **argv, void *arg);
void show_counters(struct pk_control_request *r, int argc, char **argv, void *arg);
void show_rekey(struct pk_control_request *r, int argc, char **argv, void *arg);
void show_down(struct pk_control_request *r, int argc, char **argv, void *arg);

#endif /* SHOW_H_ */
