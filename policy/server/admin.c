#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attest/state.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

#define HISTORY_DEFAULT 100
#define HISTORY_MAX     10000

char *
admin_borrow(const char *s)
{
	return (char *)(uintptr_t)s; /* protobuf-c has no const; it does not write either */
}

/* Whether `peer` is a KIND of our domain; its name is then in *who. */
bool
admin_authorise(const struct policyd *p, const char *peer, const char *kind, struct pk_spiffe *who)
{
	return pk_spiffe_parse(who, peer) == 0 && strcmp(who->domain, p->self.domain) == 0 &&
	    strcmp(who->kind, kind) == 0;
}

bool
admin_authorise_call(const struct policyd *p, struct pk_rpc_call *c, const char *peer,
    unsigned int may, struct pk_spiffe *who)
{
	static struct pk_log_limit limit = PK_LOG_LIMIT(1, 10);
	struct pk_diag why;
	uint32_t left_out;

	if (p->helper == NULL) {
		pk_rpc_refuse(c, PK_RPC_UNAVAILABLE, "the server is stopping");
		return false;
	}
	if (admin_authorise(p, peer, "operator", who)) {
		if (policy_roles_may(p->roles, who->name, may))
			return true;
		pk_diag_set(
		    &why, "no role of operator \"%s\" has %s", who->name, policy_may_name(may));
		pk_rpc_refuse(c, PK_RPC_PERMISSION_DENIED, "%s", why.text);
		audit_denied(p, who->name, why.text);
		return false;
	}
	if (pk_log_limit(&limit, pk_clock_mono_ns(), &left_out))
		pk_warn("call refused: \"%s\" is no operator of %s (%u like this not shown)", peer,
		    p->self.domain, left_out);
	pk_diag_set(&why, "\"%s\" is no operator of %s", peer, p->self.domain);
	pk_rpc_refuse(c, PK_RPC_PERMISSION_DENIED, "%s", why.text);
	audit_denied(p, peer, why.text);
	return false;
}

void
admin_reply(struct pk_rpc_call *c, const ProtobufCMessage *m)
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

void *
admin_unpack(
    const ProtobufCMessageDescriptor *type, struct pk_rpc_call *c, const uint8_t *bytes, size_t len)
{
	void *m = protobuf_c_message_unpack(type, NULL, len, bytes);

	if (m == NULL)
		pk_rpc_refuse(c, PK_RPC_INVALID_ARGUMENT, "the request cannot be decoded");
	return m;
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
	m->kind = admin_borrow(server_kind_name(g->kind));
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
		admin_reply(q->call, &m.base);
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
		admin_reply(q->call, &m.base);
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

	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who) ||
	    (m = admin_unpack(&picket__v1__show_request__descriptor, c, bytes, len)) == NULL)
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

	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who) ||
	    (m = admin_unpack(&picket__v1__history_request__descriptor, c, bytes, len)) == NULL)
		return;
	ask_start(
	    p, c, 0, m->limit != 0 ? PK_MIN(m->limit, (uint32_t)HISTORY_MAX) : HISTORY_DEFAULT);
	picket__v1__history_request__free_unpacked(m, NULL);
}

/* ---- status: from what the control thread has ---- */

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
	m->dpu = admin_borrow(s->name);
	m->connected = s->connected;
	m->plane = s->plane;
	m->wanted = s->wanted;
	m->received = s->received;
	m->accepted = s->accepted;
	m->realised = s->realised;
	m->since_unix_ns = s->since_unix_ns;
	m->reason = admin_borrow(s->reason);
	m->resources = s->nb_resources;
	m->workloads = s->nb_workloads;
	m->software = admin_borrow(s->software);
	m->bytes_sent = s->bytes_sent;
	m->candidate = s->candidate;
	posture = verifier_show(l->p, s->name);
	if (posture != NULL) {
		m->self_state = admin_borrow(attest_state_name(posture->state));
		m->self_attested = posture->attested;
		m->self_reason = admin_borrow(posture->text);
		m->self_reference = admin_borrow(posture->reference);
	}
	posture = server_postures_find(l->p->postures, s->name);
	if (posture == NULL)
		return;
	m->host = admin_borrow(posture->host);
	m->host_state = admin_borrow(attest_state_name(posture->state));
	m->host_attested = posture->attested;
	m->host_epoch = posture->epoch;
	m->host_reason = admin_borrow(posture->text);
	m->host_reference = admin_borrow(posture->reference);
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
	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who))
		return;
	server_dpus_each(p->dpus, collect_dpu, &l);
	list = calloc(l.nb + 1, sizeof(*list));
	if (list == NULL || l.failed) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	} else {
		for (size_t i = 0; i < l.nb; i++)
			list[i] = &l.item[i];
		m.generation = p->generation;
		m.candidate = rollout_generation(p);
		m.dpus = list;
		m.n_dpus = l.nb;
		m.workloads = server_dpus_nb_workloads(p->dpus);
		admin_reply(c, &m.base);
	}
	free(list);
	free(l.item);
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
	if (!admin_authorise(p, peer, "dpu", &who)) {
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
	{ .path = ADMIN "Apply", .call = apply_on_apply },
	{ .path = ADMIN "Rollback", .call = apply_on_rollback },
	{ .path = ADMIN "Show", .call = on_show },
	{ .path = ADMIN "History", .call = on_history },
	{ .path = ADMIN "Explain", .call = question_on_explain },
	{ .path = ADMIN "Applied", .call = question_on_applied },
	{ .path = ADMIN "Status", .call = on_status },
	{ .path = ADMIN "Rollout", .call = rollout_on_rollout },
	{ .path = ADMIN "Audit", .call = audit_on_audit },
	{ .path = ADMIN "Identities", .call = identity_on_identities },
	{ .path = ADMIN "EndRollout", .call = apply_on_end_rollout },
	{ .path = ADMIN "UpdateWorkloads", .call = apply_on_workloads },
	{ .path = ADMIN "ListWorkloads", .call = question_on_workloads },
	{ .path = NULL },
};
