#pragma once

#include "ipsec/mka/options.h"
#include "lib/diag.h"

struct event_base;
struct pk_control_request;

/*
 * picket-mkad: a KaY (kay.h) for each port that picketd has a SecY on, between picketd's socket and the clock.
 * Context: control thread, all of it.
 */
struct mkad;

/* Read the key files; `conf` is borrowed.  Returns 0 or negative errno with *diag. */
int mkad_create(
    struct mkad **out, struct event_base *base, const struct mkad_conf *conf, struct pk_diag *diag);

/* Begin: connect to picketd, again and again if need be. */
int mkad_start(struct mkad *d, struct pk_diag *diag);

/* Tell the others that we go, if they are to wait, and remember what is needed to go on.  NULL is allowed. */
void mkad_destroy(struct mkad *d);

/* Commands of the control socket, mkad_show.c and mkad_keys.c; argv is what follows the words. */
void mkad_show(struct pk_control_request *r, int argc, char **argv, void *arg);
void mkad_show_peers(struct pk_control_request *r, int argc, char **argv, void *arg);
void mkad_show_events(struct pk_control_request *r, int argc, char **argv, void *arg);
void mkad_rekey(struct pk_control_request *r, int argc, char **argv, void *arg);
void mkad_reload(struct pk_control_request *r, int argc, char **argv, void *arg);
