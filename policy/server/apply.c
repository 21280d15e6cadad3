#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

/* Apply, rollback, workloads: one life, as far as the control thread has it. */

#define TIMEOUT_DEFAULT_MS 10000
#define TIMEOUT_MAX_MS     600000
#define NAME_MAX_BYTES     256
#define BATCH_MAX          1024 /* updates of workloads that share a generation */

static void
apply_destroy(struct apply *a)
{
	if (a == NULL)
		return;
	if (a->request != NULL)
		picket__v1__apply_request__free_unpacked(a->request, NULL);
	if (a->rollback != NULL)
		picket__v1__rollback_request__free_unpacked(a->rollback, NULL);
	if (a->workloads != NULL)
		picket__v1__update_workloads_request__free_unpacked(a->workloads, NULL);
	if (a->end != NULL)
		picket__v1__end_rollout_request__free_unpacked(a->end, NULL);
	if (a->rollout != NULL)
		picket__v1__rollout__free_unpacked(a->rollout, NULL);
	server_attested_free(a->attested);
	policy_findings_destroy(a->findings);
	for (size_t i = 0; i < a->nb_dpus; i++)
		free(a->dpus[i].name);
	for (size_t i = 0; i < a->nb_away; i++)
		free(a->away[i]);
	free(a->dpus);
	free(a->away);
	if (a->timer != NULL)
		event_free(a->timer);
	free(a);
}

/* The caller did not wait for the answer.  What was asked for goes on. */
static void
on_gone(struct pk_rpc_call *c, void *state)
{
	struct apply *a = state;

	(void)c;
	a->call = NULL;
}

/* ---- in turn ---- */

/*
 * The helper has one batch at a time.  Updates of workloads that have come meanwhile go together: they
 * are compiled one by one, and refused one by one, but share a transaction of the store, a generation,
 * and a message to each DPU.
 */
static void
give_next(struct policyd *p)
{
	struct batch *b;
	struct apply **at;
	size_t nb = 0;

	if (p->busy || p->queue == NULL || p->helper == NULL)
		return;
	b = calloc(1, sizeof(*b));
	if (b == NULL) {
		pk_error("no memory to go on with changes");
		return;
	}
	at = &p->queue;
	do
		at = &(*at)->next;
	while (p->queue->kind == SERVER_KIND_INVENTORY && ++nb < BATCH_MAX && *at != NULL &&
	    (*at)->kind == SERVER_KIND_INVENTORY);
	b->first = p->queue;
	if (p->posture == b->first)
		p->posture = NULL;
	p->queue = *at;
	if (p->queue == NULL)
		p->queue_end = &p->queue;
	*at = NULL;
	b->p = p;
	b->job.work = policyd_batch_work;
	b->job.done = apply_batch_done;
	p->busy = true;
	pk_helper_give(p->helper, &b->job);
}

/*
 * One change at a time: what has changed until the helper is free goes out together, however many DPUs it
 * came from.  And first of all: a host that others are to shun does not wait for somebody's workloads.
 */
void
apply_posture(struct policyd *p)
{
	struct server_attested *attested = server_postures_attested(p->postures);
	struct apply *a = p->posture;

	if (attested == NULL)
		goto fail;
	if (a == NULL) {
		a = calloc(1, sizeof(*a));
		if (a == NULL || policy_findings_create(&a->findings) != 0) {
			free(a);
			goto fail;
		}
		a->p = p;
		a->kind = SERVER_KIND_POSTURE;
		snprintf(a->author, sizeof(a->author), "the verifiers");
		a->next = p->queue;
		if (p->queue == NULL)
			p->queue_end = &a->next;
		p->queue = p->posture = a;
	}
	a->started_ns = pk_clock_mono_ns();
	server_attested_free(a->attested);
	a->attested = attested;
	give_next(p);
	return;
fail:
	server_attested_free(attested);
	pk_error("DPUs do not follow a change of posture: no memory");
}

static void
enqueue(struct apply *a, const struct pk_spiffe *who, const Picket__V1__Wait *wait)
{
	struct policyd *p = a->p;

	if (a->author[0] == '\0')
		snprintf(a->author, sizeof(a->author), "%s", who->name);
	a->started_ns = pk_clock_mono_ns();
	a->wait = wait != NULL && wait->wait;
	a->timeout_ms = wait != NULL && wait->timeout_ms != 0
	    ? PK_MIN(wait->timeout_ms, (uint32_t)TIMEOUT_MAX_MS)
	    : TIMEOUT_DEFAULT_MS;
	if (policy_findings_create(&a->findings) != 0) {
		if (a->call != NULL)
			pk_rpc_refuse(a->call, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		apply_destroy(a);
		return;
	}
	if (a->call != NULL)
		pk_rpc_call_on_gone(a->call, on_gone, a);
	*p->queue_end = a;
	p->queue_end = &a->next;
	give_next(p);
}

/* The beginning they have in common: may the caller, and what does it say?  NULL: it has been told. */
static struct apply *
begin_apply(struct policyd *p, struct pk_rpc_call *c, const char *peer, enum server_kind kind,
    const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len, struct pk_spiffe *who)
{
	static const unsigned int need[SERVER_KIND_COUNT] = {
		[SERVER_KIND_APPLY] = POLICY_MAY_APPLY,
		[SERVER_KIND_ROLLBACK] = POLICY_MAY_ROLLBACK,
		[SERVER_KIND_INVENTORY] = POLICY_MAY_WORKLOADS,
		[SERVER_KIND_ABORT] = POLICY_MAY_ROLLOUT,
	};
	struct apply *a;
	void *m;

	if (!admin_authorise_call(p, c, peer, need[kind], who))
		return NULL;
	a = calloc(1, sizeof(*a));
	if (a == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		return NULL;
	}
	m = admin_unpack(type, c, bytes, len);
	if (m == NULL) {
		free(a);
		return NULL;
	}
	a->p = p;
	a->call = c;
	a->kind = kind;
	if (kind == SERVER_KIND_APPLY)
		a->request = m;
	else if (kind == SERVER_KIND_ROLLBACK)
		a->rollback = m;
	else if (kind == SERVER_KIND_ABORT)
		a->end = m;
	else
		a->workloads = m;
	return a;
}

static bool
name_ok(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return len > 0 && len < NAME_MAX_BYTES;
}

/* Refuse what a name should not be. */
static bool
check_name(struct apply *a, const char *what, size_t i, const char *name)
{
	if (!name_ok(name)) {
		pk_rpc_refuse(a->call, PK_RPC_INVALID_ARGUMENT,
		    "%s %zu: want a name of 1 to %d bytes without control characters", what, i + 1,
		    NAME_MAX_BYTES - 1);
		return false;
	}
	if (a->kind == SERVER_KIND_APPLY &&
	    strncmp(name, POLICYD_WORKLOAD, strlen(POLICYD_WORKLOAD)) == 0) {
		pk_rpc_refuse(a->call, PK_RPC_INVALID_ARGUMENT,
		    "source %zu: names that begin with \"%s\" are those of workloads", i + 1,
		    POLICYD_WORKLOAD);
		return false;
	}
	return true;
}

void
apply_on_apply(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct pk_spiffe who;
	struct apply *a = begin_apply(arg, c, peer, SERVER_KIND_APPLY,
	    &picket__v1__apply_request__descriptor, bytes, len, &who);

	for (size_t i = 0; a != NULL && i < a->request->n_sources; i++) {
		if (!check_name(a, "source", i, a->request->sources[i]->name)) {
			apply_destroy(a);
			return;
		}
	}
	if (a != NULL)
		enqueue(a, &who, a->request->wait);
}

void
apply_on_rollback(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct pk_spiffe who;
	struct apply *a = begin_apply(arg, c, peer, SERVER_KIND_ROLLBACK,
	    &picket__v1__rollback_request__descriptor, bytes, len, &who);

	if (a != NULL)
		enqueue(a, &who, a->rollback->wait);
}

/* Make `a` the end of the rollout under way.  False: there is none. */
static bool
begin_end(struct apply *a, enum server_kind kind, const char *reason)
{
	a->kind = kind;
	a->rollout = rollout_end_record(a->p, kind, reason);
	if (a->rollout == NULL)
		return false;
	if (kind == SERVER_KIND_PROMOTE) {
		/* The change is its author's, whoever lets it through. */
		a->request = a->rollout->request;
		a->rollout->request = NULL;
		snprintf(a->author, sizeof(a->author), "%s", a->rollout->author);
		return a->request != NULL;
	}
	return true;
}

void
apply_on_end_rollout(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct pk_spiffe who;
	struct apply *a = begin_apply(arg, c, peer, SERVER_KIND_ABORT,
	    &picket__v1__end_rollout_request__descriptor, bytes, len, &who);
	char reason[384];

	if (a == NULL)
		return;
	snprintf(reason, sizeof(reason), "by %s%s%s", who.name,
	    a->end->message[0] != '\0' ? ": " : "", a->end->message);
	if (!begin_end(a, a->end->promote ? SERVER_KIND_PROMOTE : SERVER_KIND_ABORT, reason)) {
		pk_rpc_refuse(c, PK_RPC_FAILED_PRECONDITION, "there is no rollout under way");
		apply_destroy(a);
		return;
	}
	enqueue(a, &who, a->end->wait);
}

void
apply_end_rollout(struct policyd *p, enum server_kind kind, const char *reason)
{
	struct pk_spiffe self = { .name = "picket-policyd" };
	struct apply *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return; /* it is tried again */
	a->p = p;
	a->own = true;
	if (begin_end(a, kind, reason))
		enqueue(a, &self, NULL);
	else
		apply_destroy(a);
}

void
apply_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct pk_spiffe who;
	struct apply *a = begin_apply(arg, c, peer, SERVER_KIND_INVENTORY,
	    &picket__v1__update_workloads_request__descriptor, bytes, len, &who);

	for (size_t i = 0; a != NULL && i < a->workloads->n_workloads; i++) {
		if (!check_name(a, "workload", i, a->workloads->workloads[i]->name)) {
			apply_destroy(a);
			return;
		}
	}
	if (a != NULL)
		enqueue(a, &who, a->workloads->wait);
}

/* ---- answers ---- */

static void
fill_findings(Picket__V1__ApplyReply *m, Picket__V1__Finding *f, Picket__V1__Finding **list,
    struct policy_findings *from)
{
	size_t n = policy_findings_total(from);

	for (size_t i = 0; i < n; i++) {
		const struct policy_finding *o = policy_findings_get(from, i);

		picket__v1__finding__init(&f[i]);
		f[i].error = o->severity == POLICY_ERROR;
		f[i].file = admin_borrow(o->file != NULL ? o->file : "");
		f[i].line = o->line;
		f[i].column = o->column;
		f[i].code = admin_borrow(o->code);
		f[i].text = admin_borrow(o->text);
		list[i] = &f[i];
	}
	m->findings = list;
	m->n_findings = n;
}

/* Answer, if there is still somebody, and end. */
static void
apply_answer(struct apply *a)
{
	size_t nb_findings = policy_findings_total(a->findings);
	Picket__V1__ApplyReply m = PICKET__V1__APPLY_REPLY__INIT;
	Picket__V1__Finding *findings = calloc(nb_findings + 1, sizeof(*findings));
	Picket__V1__Finding **finding_list = calloc(nb_findings + 1, sizeof(*finding_list));
	Picket__V1__DpuResult *results = calloc(a->nb_dpus + 1, sizeof(*results));
	Picket__V1__DpuResult **result_list = calloc(a->nb_dpus + 1, sizeof(*result_list));

	if (a->call == NULL)
		goto out;
	if (findings == NULL || finding_list == NULL || results == NULL || result_list == NULL) {
		pk_rpc_refuse(a->call, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
		goto out;
	}
	if (a->refused && nb_findings == 0) {
		pk_rpc_refuse(a->call, PK_RPC_FAILED_PRECONDITION, "%s", a->diag.text);
		goto out;
	}
	m.refused = a->refused;
	m.unchanged = a->unchanged;
	m.generation = a->generation;
	m.candidate = a->candidate;
	m.tests_passed = a->passed;
	m.tests_failed = a->failed;
	fill_findings(&m, findings, finding_list, a->findings);
	m.complete = true;
	for (size_t i = 0; i < a->nb_dpus; i++) {
		picket__v1__dpu_result__init(&results[i]);
		results[i].dpu = a->dpus[i].name;
		results[i].stage = (Picket__V1__Stage)a->dpus[i].stage;
		results[i].took_us = a->dpus[i].took_us;
		results[i].reason = a->dpus[i].reason;
		result_list[i] = &results[i];
		if (a->dpus[i].stage != SERVER_STAGE_REALISED)
			m.complete = false;
	}
	m.dpus = result_list;
	m.n_dpus = a->nb_dpus;
	m.away = a->away;
	m.n_away = a->nb_away;
	admin_reply(a->call, &m.base);
out:
	free(findings);
	free(finding_list);
	free(results);
	free(result_list);
	apply_destroy(a);
}

static void
unlink_waiting(struct apply *a)
{
	struct apply **at = &a->p->waiting;

	while (*at != NULL && *at != a)
		at = &(*at)->next;
	if (*at == a)
		*at = a->next;
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct apply *a = arg;

	(void)fd;
	(void)what;
	unlink_waiting(a);
	apply_answer(a);
}

static void
add_concerned(void *arg, const char *dpu)
{
	struct apply *a = arg;

	if (a->nb_dpus == a->room_dpus) {
		size_t room = a->room_dpus != 0 ? a->room_dpus * 2 : 8;
		struct apply_dpu *wider = realloc(a->dpus, room * sizeof(a->dpus[0]));

		if (wider == NULL)
			return;
		a->dpus = wider;
		a->room_dpus = room;
	}
	memset(&a->dpus[a->nb_dpus], 0, sizeof(a->dpus[0]));
	a->dpus[a->nb_dpus].name = strdup(dpu);
	if (a->dpus[a->nb_dpus].name != NULL) {
		a->nb_dpus++;
		a->nb_open++;
	}
}

static void
add_away(void *arg, const char *dpu)
{
	struct apply *a = arg;

	if (a->nb_away == a->room_away) {
		size_t room = a->room_away != 0 ? a->room_away * 2 : 8;
		char **wider = realloc(a->away, room * sizeof(a->away[0]));

		if (wider == NULL)
			return;
		a->away = wider;
		a->room_away = room;
	}
	a->away[a->nb_away] = strdup(dpu);
	if (a->away[a->nb_away] != NULL)
		a->nb_away++;
}

/* Wait for the DPUs that `a` concerns, or answer now. */
static void
await(struct apply *a)
{
	struct timeval timeout = { .tv_sec = a->timeout_ms / 1000,
		.tv_usec = (suseconds_t)(a->timeout_ms % 1000) * 1000 };

	if (a->nb_open != 0 && a->wait && a->call != NULL) {
		a->timer = evtimer_new(a->p->base, on_timeout, a);
		if (a->timer != NULL && evtimer_add(a->timer, &timeout) == 0)
			return;
	}
	unlink_waiting(a);
	apply_answer(a);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct apply_dpu *)a)->name, ((const struct apply_dpu *)b)->name);
}

/* All of a batch wait for the same DPUs: what went to one went in one piece. */
static void
each_concerned(void *arg, const char *dpu)
{
	struct batch *b = arg;

	for (struct apply *a = b->told; a != b->last; a = a->next)
		add_concerned(a, dpu);
}

static void
each_away(void *arg, const char *dpu)
{
	struct batch *b = arg;

	for (struct apply *a = b->told; a != b->last; a = a->next)
		add_away(a, dpu);
}

/* Send the DPUs what has become of them. */
static void
announce(struct batch *b)
{
	struct policyd *p = b->p;
	struct apply *a = b->told != b->last ? b->told : NULL;
	Picket__V1__Rollout *rollout = a != NULL ? a->rollout : NULL;

	pk_log(b->nb_changed > 1 || a == NULL || b->kind == SERVER_KIND_INVENTORY ? PK_LOG_INFO
	                                                                          : PK_LOG_NOTICE,
	    "generation %llu %s: %s by %s", (unsigned long long)b->generation,
	    b->kind == SERVER_KIND_APPLY && rollout != NULL ? "compiled" : "in force",
	    server_kind_name(b->kind), b->author);
	if (b->roles != NULL) {
		policy_roles_destroy(p->roles);
		p->roles = b->roles;
	}
	if (b->kind == SERVER_KIND_APPLY && rollout != NULL) {
		a->rollout = NULL;
		a->candidate = true;
		rollout_begin(p, rollout, &b->canary, each_concerned, each_away, b);
		reference_follow(p, NULL, b->canary_references, b->generation);
		grant_follow(p, NULL, b->canary_grants);
		return;
	}
	p->generation = b->generation;
	(void)server_dpus_target(
	    p->dpus, &b->change, &b->canary, b->generation, each_concerned, each_away, b);
	if (b->kind != SERVER_KIND_PROMOTE && b->kind != SERVER_KIND_ABORT) {
		if (b->references != NULL)
			reference_follow(p, b->references, NULL, b->generation);
		if (b->grants != NULL)
			grant_follow(p, b->grants, NULL);
		return;
	}
	server_dpus_canary_end(p->dpus, b->generation, each_concerned, each_away, b);
	reference_canary_end(p);
	reference_follow(p, b->references, NULL, b->generation);
	grant_canary_end(p);
	grant_follow(p, b->grants, NULL);
	if (rollout != NULL) {
		a->rollout = NULL;
		rollout_ended(p, b->kind, rollout, "");
	}
}

/* Its end of a rollout has failed. */
static void
tell_rollout(struct apply *a)
{
	struct pk_diag why = a->diag;

	if (!a->own)
		return;
	if (why.text[0] == '\0')
		policy_findings_first(a->findings, &why);
	rollout_ended(a->p, a->kind, NULL, why.text);
}

void
apply_batch_done(struct pk_job *job)
{
	struct batch *b = (struct batch *)job;
	struct policyd *p = b->p;
	struct apply *a, *next;

	p->busy = false;
	b->told = b->last = p->waiting;
	for (a = b->first; a != NULL; a = next) {
		next = a->next;
		a->next = NULL;
		if (a->kind == SERVER_KIND_POSTURE && a->refused)
			pk_error("DPUs do not follow a change of posture: %s", a->diag.text);
		if (!a->changed) {
			tell_rollout(a);
			apply_answer(a);
			continue;
		}
		/* In the list before the first DPU is told, so that no answer is missed. */
		a->nb_open = 1; /* our own hold, until all are told */
		a->next = b->told;
		b->told = a;
	}
	p->waiting = b->told;
	if (b->generation != 0) {
		announce(b);
		for (a = b->told; a != b->last; a = next) {
			next = a->next;
			if (a->nb_dpus > 1)
				qsort(a->dpus, a->nb_dpus, sizeof(a->dpus[0]), by_name);
			a->nb_open--;
			await(a);
		}
	}
	if (b->lost)
		rollout_lost(p, b->why_lost.text);
	server_change_fini(&b->canary);
	server_change_fini(&b->change);
	free(b);
	give_next(p);
}

static int
compare_name(const void *key, const void *item)
{
	return strcmp(key, ((const struct apply_dpu *)item)->name);
}

void
apply_progress(struct policyd *p, const char *dpu, uint64_t generation, enum server_stage stage,
    const char *text)
{
	struct apply *a, *next;

	for (a = p->waiting; a != NULL; a = next) {
		struct apply_dpu *d = a->nb_dpus != 0
		    ? bsearch(dpu, a->dpus, a->nb_dpus, sizeof(a->dpus[0]), compare_name)
		    : NULL;

		next = a->next;
		if (d == NULL || d->settled ||
		    (stage != SERVER_STAGE_NONE && generation < a->generation))
			continue;
		if (stage >= d->stage) {
			d->stage = stage;
			d->took_us = (pk_clock_mono_ns() - a->started_ns) / PK_NS_PER_US;
		}
		if (stage == SERVER_STAGE_NONE)
			snprintf(d->reason, sizeof(d->reason), "disconnected: %s", text);
		else if (stage == SERVER_STAGE_REJECTED)
			snprintf(d->reason, sizeof(d->reason), "%s", text);
		if (stage != SERVER_STAGE_NONE && stage < SERVER_STAGE_REALISED)
			continue;
		d->settled = true;
		if (--a->nb_open == 0) {
			unlink_waiting(a);
			apply_answer(a);
		}
	}
}

void
apply_stop(struct policyd *p)
{
	struct apply *a;

	while ((a = p->queue) != NULL) {
		p->queue = a->next;
		if (a->call != NULL)
			pk_rpc_refuse(a->call, PK_RPC_UNAVAILABLE, "the server is stopping");
		a->call = NULL;
		apply_destroy(a);
	}

	while ((a = p->waiting) != NULL) {
		p->waiting = a->next;
		apply_answer(a);
	}
}
