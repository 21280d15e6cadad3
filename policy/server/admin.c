#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "attest/state.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

#define TIMEOUT_DEFAULT_MS 10000
#define TIMEOUT_MAX_MS     600000
#define NAME_MAX_BYTES     256
#define HISTORY_DEFAULT    100
#define HISTORY_MAX        10000

static char *
borrow(const char *s)
{
	return (char *)(uintptr_t)s; /* protobuf-c has no const; it does not write either */
}

/* Whether `peer` is a KIND of our domain; its name is then in *who. */
static bool
authorise(const struct policyd *p, const char *peer, const char *kind, struct pk_spiffe *who)
{
	return pk_spiffe_parse(who, peer) == 0 && strcmp(who->domain, p->self.domain) == 0 &&
	    strcmp(who->kind, kind) == 0;
}

static bool
authorise_call(
    const struct policyd *p, struct pk_rpc_call *c, const char *peer, struct pk_spiffe *who)
{
	static struct pk_log_limit limit = PK_LOG_LIMIT(1, 10);
	uint32_t left_out;

	if (p->helper == NULL) {
		pk_rpc_refuse(c, PK_RPC_UNAVAILABLE, "the server is stopping");
		return false;
	}
	if (authorise(p, peer, "operator", who))
		return true;
	if (pk_log_limit(&limit, pk_clock_mono_ns(), &left_out))
		pk_warn("call refused: \"%s\" is no operator of %s (%u like this not shown)", peer,
		    p->self.domain, left_out);
	pk_rpc_refuse(
	    c, PK_RPC_PERMISSION_DENIED, "\"%s\" is no operator of %s", peer, p->self.domain);
	return false;
}

static void
reply(struct pk_rpc_call *c, const ProtobufCMessage *m)
{
	struct pk_rpc_buffer *b;
	uint8_t *bytes;

	b = pk_rpc_buffer_create(protobuf_c_message_get_packed_size(m), &bytes);
	if (b == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
		return;
	}
	protobuf_c_message_pack(m, bytes);
	pk_rpc_reply(c, b);
}

static void *
unpack(
    const ProtobufCMessageDescriptor *type, struct pk_rpc_call *c, const uint8_t *bytes, size_t len)
{
	void *m = protobuf_c_message_unpack(type, NULL, len, bytes);

	if (m == NULL)
		pk_rpc_refuse(c, PK_RPC_INVALID_ARGUMENT, "the request cannot be decoded");
	return m;
}

/* ---- apply, rollback, workloads: one life ---- */

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
	server_attested_free(a->attested);
	policy_findings_destroy(a->findings);
	server_catalogue_put(a->catalogue);
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

/* Takes a->request and its like, also on failure. */
static void
apply_start(struct apply *a, const struct pk_spiffe *who, const Picket__V1__Wait *wait)
{
	snprintf(a->author, sizeof(a->author), "%s", who->name);
	a->started_ns = pk_clock_mono_ns();
	a->wait = wait != NULL && wait->wait;
	a->timeout_ms = wait != NULL && wait->timeout_ms != 0
	    ? PK_MIN(wait->timeout_ms, (uint32_t)TIMEOUT_MAX_MS)
	    : TIMEOUT_DEFAULT_MS;
	if (policy_findings_create(&a->findings) != 0) {
		pk_rpc_refuse(a->call, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		apply_destroy(a);
		return;
	}
	a->job.work = policyd_apply_work;
	a->job.done = admin_apply_done;
	pk_rpc_call_on_gone(a->call, on_gone, a);
	pk_helper_give(a->p->helper, &a->job);
}

static struct apply *
apply_create(struct policyd *p, struct pk_rpc_call *c, enum server_kind kind)
{
	struct apply *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		return NULL;
	}
	a->p = p;
	a->call = c;
	a->kind = kind;
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

static void
on_apply(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct apply *a;

	if (!authorise_call(p, c, peer, &who) ||
	    (a = apply_create(p, c, SERVER_KIND_APPLY)) == NULL)
		return;
	a->request = unpack(&picket__v1__apply_request__descriptor, c, bytes, len);
	if (a->request == NULL) {
		apply_destroy(a);
		return;
	}
	for (size_t i = 0; i < a->request->n_sources; i++) {
		if (!name_ok(a->request->sources[i]->name)) {
			pk_rpc_refuse(c, PK_RPC_INVALID_ARGUMENT,
			    "source %zu: want a name of 1 to %d bytes without control characters",
			    i + 1, NAME_MAX_BYTES - 1);
			apply_destroy(a);
			return;
		}
	}
	apply_start(a, &who, a->request->wait);
}

static void
on_rollback(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct apply *a;

	if (!authorise_call(p, c, peer, &who) ||
	    (a = apply_create(p, c, SERVER_KIND_ROLLBACK)) == NULL)
		return;
	a->rollback = unpack(&picket__v1__rollback_request__descriptor, c, bytes, len);
	if (a->rollback == NULL)
		apply_destroy(a);
	else
		apply_start(a, &who, a->rollback->wait);
}

static void
on_update_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct apply *a;

	if (!authorise_call(p, c, peer, &who) ||
	    (a = apply_create(p, c, SERVER_KIND_INVENTORY)) == NULL)
		return;
	a->workloads = unpack(&picket__v1__update_workloads_request__descriptor, c, bytes, len);
	if (a->workloads == NULL) {
		apply_destroy(a);
		return;
	}
	for (size_t i = 0; i < a->workloads->n_workloads; i++) {
		if (!name_ok(a->workloads->workloads[i]->name)) {
			pk_rpc_refuse(c, PK_RPC_INVALID_ARGUMENT,
			    "workload %zu: want a name of 1 to %d bytes", i + 1,
			    NAME_MAX_BYTES - 1);
			apply_destroy(a);
			return;
		}
	}
	apply_start(a, &who, a->workloads->wait);
}

static void
fill_findings(Picket__V1__ApplyReply *m, Picket__V1__Finding *f, Picket__V1__Finding **list,
    struct policy_findings *from)
{
	size_t n = policy_findings_total(from);

	for (size_t i = 0; i < n; i++) {
		const struct policy_finding *o = policy_findings_get(from, i);

		picket__v1__finding__init(&f[i]);
		f[i].error = o->severity == POLICY_ERROR;
		f[i].file = borrow(o->file != NULL ? o->file : "");
		f[i].line = o->line;
		f[i].column = o->column;
		f[i].code = borrow(o->code);
		f[i].text = borrow(o->text);
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
	reply(a->call, &m.base);
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

void
admin_apply_done(struct pk_job *job)
{
	struct apply *a = (struct apply *)job;
	struct policyd *p = a->p;
	struct timeval timeout = { .tv_sec = a->timeout_ms / 1000,
		.tv_usec = (suseconds_t)(a->timeout_ms % 1000) * 1000 };

	if (a->catalogue == NULL) {
		apply_answer(a);
		return;
	}
	server_catalogue_put(p->catalogue);
	p->catalogue = server_catalogue_get(a->catalogue);
	p->generation = a->generation;
	pk_notice("generation %llu in force: %s by %s", (unsigned long long)a->generation,
	    server_kind_name(a->kind), a->author);
	/* In the list before the first DPU is told, so that no answer is missed. */
	a->next = p->waiting;
	p->waiting = a;
	a->nb_open = 1; /* our own hold, until all are told */
	(void)server_dpus_target(p->dpus, p->catalogue, a->generation, add_concerned, add_away, a);
	a->nb_open--;
	if (a->nb_open != 0 && a->wait && a->call != NULL) {
		a->timer = evtimer_new(p->base, on_timeout, a);
		if (a->timer != NULL && evtimer_add(a->timer, &timeout) == 0)
			return;
	}
	unlink_waiting(a);
	apply_answer(a);
}

static int
compare_name(const void *key, const void *item)
{
	return strcmp(key, ((const struct apply_dpu *)item)->name);
}

void
admin_progress(struct policyd *p, const char *dpu, uint64_t generation, enum server_stage stage,
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

/* Context: control thread. */
static void
posture_done(struct pk_job *job)
{
	struct apply *a = (struct apply *)job;
	struct policyd *p = a->p;

	p->posture_under_way = false;
	if (a->refused)
		pk_error("DPUs do not follow a change of posture: %s", a->diag.text);
	admin_apply_done(job);
	if (p->posture_again)
		admin_posture(p);
}

/* One at a time: what has changed meanwhile goes out together, however many DPUs it came from. */
void
admin_posture(struct policyd *p)
{
	struct apply *a;

	p->posture_again = p->posture_under_way;
	if (p->posture_under_way || p->helper == NULL)
		return;
	a = calloc(1, sizeof(*a));
	if (a == NULL || (a->attested = server_postures_attested(p->postures)) == NULL ||
	    policy_findings_create(&a->findings) != 0) {
		pk_error("DPUs do not follow a change of posture: no memory");
		apply_destroy(a);
		return;
	}
	a->p = p;
	a->kind = SERVER_KIND_POSTURE;
	snprintf(a->author, sizeof(a->author), "the verifiers");
	a->started_ns = pk_clock_mono_ns();
	a->job.work = policyd_apply_work;
	a->job.done = posture_done;
	p->posture_under_way = true;
	pk_helper_give(p->helper, &a->job);
}

void
admin_stop(struct policyd *p)
{
	struct apply *a;

	while ((a = p->waiting) != NULL) {
		p->waiting = a->next;
		apply_answer(a);
	}
}

/* ---- show, history: the store is asked, so the helper does it ---- */

struct ask {
	struct pk_job job;
	struct policyd *p;
	struct pk_rpc_call *call;
	uint64_t generation;
	uint32_t limit; /* 0: show one */
	int err;
	struct pk_diag diag;
	struct server_texts sources;
	struct server_generation *item;
	size_t nb, room;
	uint64_t current;
};

static void
ask_gone(struct pk_rpc_call *c, void *state)
{
	struct ask *q = state;

	(void)c;
	q->call = NULL;
}

static int
collect_generation(void *arg, const struct server_generation *g)
{
	struct ask *q = arg;

	if (q->nb == q->room) {
		size_t room = q->room != 0 ? q->room * 2 : 16;
		struct server_generation *wider = realloc(q->item, room * sizeof(q->item[0]));

		if (wider == NULL)
			return -ENOMEM;
		q->item = wider;
		q->room = room;
	}
	q->item[q->nb++] = *g;
	return 0;
}

static void
ask_work(struct pk_job *job)
{
	struct ask *q = (struct ask *)job;
	struct policyd *p = q->p;

	q->current = p->latest_generation;
	if (q->limit != 0) {
		q->err =
		    server_store_history(p->store, 0, q->limit, collect_generation, q, &q->diag);
		return;
	}
	if (q->generation == 0)
		q->generation = p->latest_generation;
	q->err = server_store_sources(p->store, q->generation, &q->sources, &q->diag);
	if (q->err == 0)
		q->err = server_store_history(
		    p->store, q->generation, 1, collect_generation, q, &q->diag);
}

static void
fill_info(Picket__V1__GenerationInfo *m, struct server_generation *g)
{
	picket__v1__generation_info__init(m);
	m->generation = g->generation;
	m->kind = borrow(server_kind_name(g->kind));
	m->author = g->author;
	m->message = g->message;
	m->at_unix_ns = g->at_unix_ns;
	m->of = g->of;
	m->sources = (uint32_t)g->nb_sources;
}

static void
answer_history(struct ask *q)
{
	Picket__V1__HistoryReply m = PICKET__V1__HISTORY_REPLY__INIT;
	Picket__V1__GenerationInfo *info = calloc(q->nb + 1, sizeof(*info));
	Picket__V1__GenerationInfo **list = calloc(q->nb + 1, sizeof(*list));

	if (info == NULL || list == NULL) {
		pk_rpc_refuse(q->call, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	} else {
		for (size_t i = 0; i < q->nb; i++) {
			fill_info(&info[i], &q->item[i]);
			list[i] = &info[i];
		}
		m.current = q->current;
		m.generations = list;
		m.n_generations = q->nb;
		reply(q->call, &m.base);
	}
	free(info);
	free(list);
}

static void
answer_show(struct ask *q)
{
	Picket__V1__ShowReply m = PICKET__V1__SHOW_REPLY__INIT;
	Picket__V1__GenerationInfo info;
	Picket__V1__Source *source = calloc(q->sources.nb + 1, sizeof(*source));
	Picket__V1__Source **list = calloc(q->sources.nb + 1, sizeof(*list));

	if (source == NULL || list == NULL) {
		pk_rpc_refuse(q->call, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	} else {
		for (size_t i = 0; i < q->sources.nb; i++) {
			picket__v1__source__init(&source[i]);
			source[i].name = q->sources.item[i].name;
			source[i].text.data = (uint8_t *)q->sources.item[i].text;
			source[i].text.len = q->sources.item[i].len;
			list[i] = &source[i];
		}
		if (q->nb != 0) {
			fill_info(&info, &q->item[0]);
			m.info = &info;
		}
		m.sources = list;
		m.n_sources = q->sources.nb;
		reply(q->call, &m.base);
	}
	free(source);
	free(list);
}

static void
ask_done(struct pk_job *job)
{
	struct ask *q = (struct ask *)job;

	if (q->call == NULL)
		;
	else if (q->err != 0)
		pk_rpc_refuse(q->call, q->err == -ENOENT ? PK_RPC_NOT_FOUND : PK_RPC_INTERNAL, "%s",
		    q->diag.text);
	else if (q->limit != 0)
		answer_history(q);
	else
		answer_show(q);
	server_texts_fini(&q->sources);
	free(q->item);
	free(q);
}

static void
ask_start(struct policyd *p, struct pk_rpc_call *c, uint64_t generation, uint32_t limit)
{
	struct ask *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	q->job.work = ask_work;
	q->job.done = ask_done;
	q->p = p;
	q->call = c;
	q->generation = generation;
	q->limit = limit;
	pk_rpc_call_on_gone(c, ask_gone, q);
	pk_helper_give(p->helper, &q->job);
}

static void
on_show(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	Picket__V1__ShowRequest *m;
	struct pk_spiffe who;

	if (!authorise_call(p, c, peer, &who) ||
	    (m = unpack(&picket__v1__show_request__descriptor, c, bytes, len)) == NULL)
		return;
	ask_start(p, c, m->generation, 0);
	picket__v1__show_request__free_unpacked(m, NULL);
}

static void
on_history(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	Picket__V1__HistoryRequest *m;
	struct pk_spiffe who;

	if (!authorise_call(p, c, peer, &who) ||
	    (m = unpack(&picket__v1__history_request__descriptor, c, bytes, len)) == NULL)
		return;
	ask_start(
	    p, c, 0, m->limit != 0 ? PK_MIN(m->limit, (uint32_t)HISTORY_MAX) : HISTORY_DEFAULT);
	picket__v1__history_request__free_unpacked(m, NULL);
}

/* ---- status, workloads: from what the control thread has ---- */

struct status_list {
	const struct policyd *p;
	Picket__V1__DpuStatus *item;
	size_t nb, room;
	bool failed;
};

static void
collect_dpu(void *arg, const struct server_dpu_status *s)
{
	struct status_list *l = arg;
	const struct server_posture *posture;
	Picket__V1__DpuStatus *m;

	if (l->nb == l->room) {
		size_t room = l->room != 0 ? l->room * 2 : 16;
		Picket__V1__DpuStatus *wider = realloc(l->item, room * sizeof(l->item[0]));

		if (wider == NULL) {
			l->failed = true;
			return;
		}
		l->item = wider;
		l->room = room;
	}
	m = &l->item[l->nb++];
	picket__v1__dpu_status__init(m);
	m->dpu = borrow(s->name);
	m->connected = s->connected;
	m->plane = s->plane;
	m->wanted = s->wanted;
	m->received = s->received;
	m->accepted = s->accepted;
	m->realised = s->realised;
	m->since_unix_ns = s->since_unix_ns;
	m->reason = borrow(s->reason);
	m->resources = s->nb_resources;
	m->workloads = s->nb_workloads;
	m->software = borrow(s->software);
	m->bytes_sent = s->bytes_sent;
	posture = server_postures_find(l->p->postures, s->name);
	if (posture == NULL)
		return;
	m->host = borrow(posture->host);
	m->host_state = borrow(attest_state_name(posture->state));
	m->host_attested = posture->attested;
	m->host_epoch = posture->epoch;
	m->host_reason = borrow(posture->text);
}

static void
on_status(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	Picket__V1__StatusReply m = PICKET__V1__STATUS_REPLY__INIT;
	Picket__V1__DpuStatus **list = NULL;
	struct status_list l = { .p = p };
	struct pk_spiffe who;

	(void)bytes;
	(void)len;
	if (!authorise_call(p, c, peer, &who))
		return;
	server_dpus_each(p->dpus, collect_dpu, &l);
	list = calloc(l.nb + 1, sizeof(*list));
	if (list == NULL || l.failed) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	} else {
		for (size_t i = 0; i < l.nb; i++)
			list[i] = &l.item[i];
		m.generation = p->generation;
		m.dpus = list;
		m.n_dpus = l.nb;
		m.workloads = p->catalogue != NULL ? server_catalogue_nb_workloads(p->catalogue)
		                                   : 0;
		reply(c, &m.base);
	}
	free(list);
	free(l.item);
}

static bool
dpu_connected(const struct status_list *l, const char *name)
{
	size_t lo = 0, hi = l->nb;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int cmp = strcmp(l->item[mid].dpu, name);

		if (cmp == 0)
			return l->item[mid].connected;
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static void
on_list_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	static const struct policy_table none;
	struct policyd *p = arg;
	const struct policy_table *t = p->catalogue != NULL ? server_catalogue_table(p->catalogue)
	                                                    : &none;
	Picket__V1__ListWorkloadsReply m = PICKET__V1__LIST_WORKLOADS_REPLY__INIT;
	Picket__V1__WorkloadInfo *info = NULL, **list = NULL;
	char(*addr)[PK_ADDR_TEXT] = NULL;
	struct status_list l = { 0 };
	struct pk_spiffe who;

	(void)bytes;
	(void)len;
	if (!authorise_call(p, c, peer, &who))
		return;
	server_dpus_each(p->dpus, collect_dpu, &l);
	info = calloc(t->nb_endpoints + 1U, sizeof(*info));
	list = calloc(t->nb_endpoints + 1U, sizeof(*list));
	addr = calloc(t->nb_endpoints + 1U, sizeof(*addr));
	if (info == NULL || list == NULL || addr == NULL || l.failed) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
		goto out;
	}
	for (uint32_t i = 0; i < t->nb_endpoints; i++) {
		const struct policy_endpoint *e = &t->endpoints[i];
		const struct policy_identity *id = policy_table_identity(t, e->identity);

		picket__v1__workload_info__init(&info[i]);
		info[i].name = borrow(e->name);
		info[i].dpu = borrow(e->dpu);
		info[i].vrf = e->vrf;
		info[i].address = borrow(pk_addr_text(&e->addr, addr[i]));
		info[i].identity = e->identity;
		info[i].labels = borrow(id != NULL ? id->labels : "");
		info[i].connected = dpu_connected(&l, e->dpu);
		list[i] = &info[i];
	}
	m.workloads = list;
	m.n_workloads = t->nb_endpoints;
	reply(c, &m.base);
out:
	free(info);
	free(list);
	free(addr);
	free(l.item);
}

/* ---- explain: the packet path's own evaluator, on the policy in force ---- */

static void
fill_side(Picket__V1__ExplainDirection *m, const struct policy_side *s, const char *subject)
{
	picket__v1__explain_direction__init(m);
	m->judged = s->judged != 0;
	m->verdict = borrow(pk_verdict_name(s->verdict));
	m->subject = borrow(subject);
	if (s->rule == NULL)
		return;
	m->policy = borrow(s->rule->policy != NULL ? s->rule->policy : "");
	m->rule = borrow(s->rule->name != NULL ? s->rule->name : "");
	m->file = borrow(s->rule->file != NULL ? s->rule->file : "");
	m->line = s->rule->line;
	m->audit = s->audit_verdict != s->verdict;
}

/* One answer for the service: of its points, the first that is not allowed, else the first. */
static int
explain(const struct policy_query *q, const Picket__V1__ExplainRequest *m, struct policy_end *src,
    struct policy_end *dst, struct policy_answer *out, struct pk_diag *diag)
{
	struct policy_point point[POLICY_POINTS_MAX];
	int n, err;

	if ((err = policy_query_end(q, m->src, src, diag)) != 0 ||
	    (err = policy_query_end(q, m->dst, dst, diag)) != 0)
		return err;
	n = policy_query_service(q, src, dst, m->service, point, diag);
	if (n <= 0)
		return n < 0 ? n : -EINVAL;
	for (int i = 0; i < n; i++) {
		struct policy_answer one;

		err = policy_query_flow(q, src, dst, point[i], &one, diag);
		if (err != 0)
			return err;
		if (i == 0 || (out->verdict == PK_VERDICT_ALLOW && one.verdict != PK_VERDICT_ALLOW))
			*out = one;
	}
	return 0;
}

static void
on_explain(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	Picket__V1__ExplainReply m = PICKET__V1__EXPLAIN_REPLY__INIT;
	Picket__V1__ExplainDirection egress, ingress;
	Picket__V1__ExplainRequest *request;
	struct policy_end src, dst;
	struct policy_answer answer;
	char src_text[256], dst_text[256];
	struct pk_spiffe who;
	struct pk_diag diag = { "no such flow" };
	int err;

	if (!authorise_call(p, c, peer, &who) ||
	    (request = unpack(&picket__v1__explain_request__descriptor, c, bytes, len)) == NULL)
		return;
	if (p->catalogue == NULL) {
		pk_rpc_refuse(c, PK_RPC_FAILED_PRECONDITION, "there is no policy in force");
		goto out;
	}
	err = explain(server_catalogue_query(p->catalogue), request, &src, &dst, &answer, &diag);
	if (err != 0) {
		pk_rpc_refuse(c, err == -ENOENT ? PK_RPC_NOT_FOUND : PK_RPC_INVALID_ARGUMENT, "%s",
		    diag.text);
		goto out;
	}
	policy_query_end_text(
	    server_catalogue_query(p->catalogue), &src, src_text, sizeof(src_text));
	policy_query_end_text(
	    server_catalogue_query(p->catalogue), &dst, dst_text, sizeof(dst_text));
	fill_side(&egress, &answer.side[PK_EGRESS], src_text);
	fill_side(&ingress, &answer.side[PK_INGRESS], dst_text);
	m.verdict = borrow(pk_verdict_name(answer.verdict));
	m.egress = &egress;
	m.ingress = &ingress;
	m.generation = p->generation;
	reply(c, &m.base);
out:
	picket__v1__explain_request__free_unpacked(request, NULL);
}

/* ---- discovery ---- */

static unsigned int
on_stream(struct pk_rpc_stream *s, const char *peer, void *arg, void **state, struct pk_diag *diag)
{
	static struct pk_log_limit limit = PK_LOG_LIMIT(1, 10);
	struct policyd *p = arg;
	struct pk_spiffe who;
	uint32_t left_out;

	if (p->helper == NULL) {
		pk_diag_set(diag, "the server is stopping");
		return PK_RPC_UNAVAILABLE;
	}
	if (!authorise(p, peer, "dpu", &who)) {
		if (pk_log_limit(&limit, pk_clock_mono_ns(), &left_out))
			pk_warn("stream refused: \"%s\" is no DPU of %s (%u like this not shown)",
			    peer, p->self.domain, left_out);
		pk_diag_set(diag, "\"%s\" is no DPU of %s", peer, p->self.domain);
		return PK_RPC_PERMISSION_DENIED;
	}
	if (server_dpus_open(p->dpus, who.name, s, state) != 0) {
		pk_diag_set(diag, "no memory for another DPU");
		return PK_RPC_RESOURCE_EXHAUSTED;
	}
	return PK_RPC_OK;
}

#define ADMIN "/picket.v1.PolicyAdmin/"

const struct pk_rpc_method policyd_methods[] = {
	{ .path = "/picket.v1.PolicyDiscovery/Stream",
	    .open = on_stream,
	    .stream = &server_dpu_stream_ops },
	{ .path = ADMIN "Apply", .call = on_apply },
	{ .path = ADMIN "Rollback", .call = on_rollback },
	{ .path = ADMIN "Show", .call = on_show },
	{ .path = ADMIN "History", .call = on_history },
	{ .path = ADMIN "Explain", .call = on_explain },
	{ .path = ADMIN "Status", .call = on_status },
	{ .path = ADMIN "UpdateWorkloads", .call = on_update_workloads },
	{ .path = ADMIN "ListWorkloads", .call = on_list_workloads },
	{ .path = NULL },
};
