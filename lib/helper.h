#pragma once

#include "lib/base.h"
#include "lib/diag.h"

struct event_base;

/*
 * One thread that may wait: for the disk, for a long computation.  Jobs run in the order they were
 * given, one at a time, so what only jobs touch needs no lock; their results come back to the event
 * loop, so what only the loop touches needs none either.
 */
struct pk_helper;

struct pk_job {
	void (*work)(struct pk_job *job); /* context: helper */
	void (*done)(struct pk_job *job); /* context: control thread; frees the job */
	struct pk_job *next;              /* the helper's */
};

/* Returns 0 or negative errno with *diag.  Context: control thread, as for all here. */
int pk_helper_create(
    struct pk_helper **out, struct event_base *base, const char *name, struct pk_diag *diag);
/* Finishes the jobs given so far, work and done both. */
void pk_helper_destroy(struct pk_helper *h);
void pk_helper_give(struct pk_helper *h, struct pk_job *job);
