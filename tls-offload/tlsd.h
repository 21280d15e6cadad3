#pragma once

#include "tls-offload/options.h"

struct event_base;
struct pk_control_request;
struct tlso;
struct pk_diag;

/*
 * picket-tlsd: mutual TLS for workloads that know nothing of it (docs/tls.md).
 * Context of all: control thread.  Returns 0 or negative errno with *diag.
 */
int tlso_create(
    struct tlso **out, struct event_base *base, const struct tlso_conf *conf, struct pk_diag *diag);
/* Open what needs privileges (listeners), start threads. */
int tlso_start(struct tlso *t, struct pk_diag *diag);
/* Flows may go on for conf->drain; then, or when there are none left, it ends. */
void tlso_stop(struct tlso *t);
void tlso_destroy(struct tlso *t); /* NULL is allowed */

/* picketctl's questions. */
void tlso_show(struct pk_control_request *r, int argc, char **argv, void *arg);
void tlso_show_tunnels(struct pk_control_request *r, int argc, char **argv, void *arg);
void tlso_show_status(struct pk_control_request *r, int argc, char **argv, void *arg);
void tlso_show_counters(struct pk_control_request *r, int argc, char **argv, void *arg);
