#pragma once

#include <stdbool.h>

#include "policy/server/change.h"

/*
 * Each DPU's part of the compiled policy, kept up with every change.
 *
 * The span of a DPU is what it needs to judge its own workloads' sessions, and no more: the endpoints
 * behind it and their identities with their programs; the sets these programs name; the identities
 * in these sets, without their programs; and the endpoints of the identities in these sets.  Others of
 * a workload's own identity are not among them, unless a rule of its programs asks for them.  What a
 * DPU is not told it cannot leak, and changes elsewhere cost it nothing.
 *
 * Every object counts, for each DPU, the reasons why it is in that DPU's span:
 *
 *     endpoint --lives behind--> DPU       identity: home of so many endpoints there
 *     identity at home --> 2 programs      program: judges so many identities at home
 *     program --names--> sets              set: named by so many programs
 *     set --holds--> identities            identity: held by so many sets
 *
 * so a change costs what it reaches: the DPUs that have the object, and the objects below it.  At home an
 * endpoint is two identities, one for each posture of its host, and its DPU holds both; to others it is
 * the one that is in force.
 *
 * Context: control thread, all of it.
 */
struct server_spans;

struct server_span {
	char *name;                 /* of the DPU */
	struct policy_state *state; /* what it should hold */
	uint32_t nb_workloads;      /* behind it; one may have several addresses */
	void *user;                 /* of whoever serves the DPU */
};

struct server_spans *server_spans_create(void); /* NULL: no memory */
void server_spans_destroy(struct server_spans *s);

/* The span of a DPU, empty if nobody lives there.  It lasts as long as `s`.  NULL: no memory. */
struct server_span *server_spans_get(struct server_spans *s, const char *dpu);

/*
 * Take a change in; what it has is taken out of it.  Calls `changed` for each resource of each span
 * that is new (`old` NULL), different, or gone (`now` NULL), before the span's own reference to `old`
 * is dropped.  Returns 0, or -ENOMEM: the spans can no longer be relied on.
 */
int server_spans_apply(struct server_spans *s, struct server_change *c,
    void (*changed)(void *arg, struct server_span *span, struct policy_resource *old,
        struct policy_resource *now),
    void *arg);

/*
 * Have `left` called, at the end of server_spans_apply(), for each workload that lived behind a DPU and does not any
 * more.  Nothing else may be asked of `s` meanwhile but whether somebody lives somewhere.
 */
void server_spans_on_left(struct server_spans *s,
    void (*left)(void *arg, const char *dpu, const char *workload), void *arg);

/* Whether "tenant/workload" lives behind `dpu`. */
bool server_spans_lives(const struct server_spans *s, const char *dpu, const char *workload);

/* All workloads, those without a DPU too. */
uint32_t server_spans_nb_workloads(const struct server_spans *s);
