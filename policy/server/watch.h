#pragma once

#include "policy/server/store.h"

struct event_base;
struct pk_rpc;

/*
 * Hears of what is committed to a store in etcd: a watch (etcd's Watch service) on the number of the newest generation, at
 * one of the members, and at the next when that one is gone.  It only says that there is something; who wants to know
 * what asks the store.  What the watch may have missed, and what it misses when a member is silent, is asked for every
 * two seconds.
 * Context: control thread, all of it.
 */
struct server_watch;

/* `where` as server_store_open() has it.  `changed` is given the number of the newest generation; 0: perhaps there is a
 * new one. */
int server_watch_create(struct server_watch **out, struct event_base *base, struct pk_rpc *rpc,
    const char *where, const struct server_store_tls *tls,
    void (*changed)(void *arg, uint64_t generation), void *arg, struct pk_diag *diag);
void server_watch_destroy(struct server_watch *w); /* NULL is allowed */
