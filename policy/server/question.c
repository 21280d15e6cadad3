#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/query.h"
#include "policy/server/policyd_priv.h"
#include "policy/terms.h"

/*
 * Questions to the compiled policy.  The helper has it, so the helper answers; a question may wait for
 * a change that came before it, and is then answered by what that has made.
 */
struct question {
	struct pk_job job;
	struct policyd *p;
	struct pk_rpc_call *call;
	Picket__V1__ExplainRequest *explain;
	Picket__V1__AppliedRequest *applied;
	char **connected; /* for a list of workloads: names of DPUs, in order */
	size_t nb_connected, room;
	bool failed;
	struct pk_rpc_buffer *answer;
	unsigned int status;
	struct pk_diag diag;
};

static void
question_gone(struct pk_rpc_call *c, void *state)
{
	struct question *q = state;

	(void)c;
	q->call = NULL;
}

static void
question_done(struct pk_job *job)
{
	struct question *q = (struct question *)job;

	if (q->call == NULL)
		pk_rpc_buffer_put(q->answer);
	else if (q->answer == NULL)
		pk_rpc_refuse(q->call, q->status, "%s", q->diag.text);
	else
		pk_rpc_reply(q->call, q->answer);
	if (q->explain != NULL)
		picket__v1__explain_request__free_unpacked(q->explain, NULL);
	if (q->applied != NULL)
		picket__v1__applied_request__free_unpacked(q->applied, NULL);
	for (size_t i = 0; i < q->nb_connected; i++)
		free(q->connected[i]);
	free(q->connected);
	free(q);
}

static void
answer(struct question *q, const ProtobufCMessage *m)
{
	uint8_t *bytes;

	q->answer = pk_rpc_buffer_create(protobuf_c_message_get_packed_size(m), &bytes);
	if (q->answer != NULL)
		protobuf_c_message_pack(m, bytes);
	q->status = PK_RPC_RESOURCE_EXHAUSTED;
	pk_diag_set(&q->diag, "no memory for the answer");
}

static struct question *
ask(struct policyd *p, struct pk_rpc_call *c, void (*work)(struct pk_job *job))
{
	struct question *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		return NULL;
	}
	q->p = p;
	q->call = c;
	q->job.work = work;
	q->job.done = question_done;
	return q;
}

static void
give(struct question *q)
{
	pk_rpc_call_on_gone(q->call, question_gone, q);
	pk_helper_give(q->p->helper, &q->job);
}

/* ---- workloads ---- */

static void
collect_connected(void *arg, const struct server_dpu_status *s)
{
	struct question *q = arg;

	if (!s->connected || q->failed)
		return;
	if (q->nb_connected == q->room) {
		size_t room = q->room != 0 ? q->room * 2 : 64;
		char **wider = realloc(q->connected, room * sizeof(q->connected[0]));

		if (wider == NULL) {
			q->failed = true;
			return;
		}
		q->connected = wider;
		q->room = room;
	}
	q->connected[q->nb_connected] = strdup(s->name);
	q->failed |= q->connected[q->nb_connected++] == NULL;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(a, *(char *const *)b);
}

static void
list_work(struct pk_job *job)
{
	static const struct policy_table none;
	struct question *q = (struct question *)job;
	const struct policy_table *t = policy_compiler_table(q->p->compiler);
	Picket__V1__ListWorkloadsReply m = PICKET__V1__LIST_WORKLOADS_REPLY__INIT;
	Picket__V1__WorkloadInfo *info, **list;
	char(*addr)[PK_ADDR_TEXT];

	if (t == NULL)
		t = &none;
	info = calloc(t->nb_endpoints + 1U, sizeof(*info));
	list = calloc(t->nb_endpoints + 1U, sizeof(*list));
	addr = calloc(t->nb_endpoints + 1U, sizeof(*addr));
	q->status = PK_RPC_RESOURCE_EXHAUSTED;
	pk_diag_set(&q->diag, "no memory for the answer");
	if (info == NULL || list == NULL || addr == NULL || q->failed)
		goto out;
	for (uint32_t i = 0; i < t->nb_endpoints; i++) {
		const struct policy_endpoint *e = &t->endpoints[i];
		const struct policy_identity *id = policy_table_identity(t, e->identity);

		picket__v1__workload_info__init(&info[i]);
		info[i].name = admin_borrow(e->name);
		info[i].dpu = admin_borrow(e->dpu);
		info[i].vrf = e->vrf;
		info[i].address = admin_borrow(pk_addr_text(&e->addr, addr[i]));
		info[i].identity = e->identity;
		info[i].labels = admin_borrow(id != NULL ? id->labels : "");
		info[i].connected = q->nb_connected > 0 &&
		    bsearch(e->dpu, q->connected, q->nb_connected, sizeof(q->connected[0]),
		        compare_names) != NULL;
		list[i] = &info[i];
	}
	m.workloads = list;
	m.n_workloads = t->nb_endpoints;
	answer(q, &m.base);
out:
	free(info);
	free(list);
	free(addr);
}

void
question_on_workloads(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct question *q;

	(void)bytes;
	(void)len;
	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who) ||
	    (q = ask(p, c, list_work)) == NULL)
		return;
	server_dpus_each(p->dpus, collect_connected, q);
	give(q);
}

/* ---- explain: the packet path's own evaluator, on the policy in force ---- */

static void
fill_side(Picket__V1__ExplainDirection *m, const struct policy_side *s, const char *subject)
{
	picket__v1__explain_direction__init(m);
	m->judged = s->judged != 0;
	m->verdict = admin_borrow(pk_verdict_name(s->verdict));
	m->subject = admin_borrow(subject);
	if (s->rule == NULL)
		return;
	m->policy = admin_borrow(s->rule->policy != NULL ? s->rule->policy : "");
	m->rule = admin_borrow(s->rule->name != NULL ? s->rule->name : "");
	m->file = admin_borrow(s->rule->file != NULL ? s->rule->file : "");
	m->line = s->rule->line;
	m->audit = s->audit_verdict != s->verdict;
	if (s->rule->terms.encryption != PK_ENCRYPTION_NONE)
		m->encryption = admin_borrow(pk_encryption_name(s->rule->terms.encryption));
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
explain_work(struct pk_job *job)
{
	struct question *w = (struct question *)job;
	struct policyd *p = w->p;
	Picket__V1__ExplainReply m = PICKET__V1__EXPLAIN_REPLY__INIT;
	Picket__V1__ExplainDirection egress, ingress;
	struct policy_query *q = NULL;
	struct policy_end src, dst;
	struct policy_answer a;
	char src_text[256], dst_text[256];
	int err;

	w->status = PK_RPC_FAILED_PRECONDITION;
	pk_diag_set(&w->diag, "there is no policy in force");
	if (policy_compiler_table(p->compiler) == NULL)
		return;
	pk_diag_set(&w->diag, "no such flow");
	err = policy_query_create_live(&q, p->compiler, &w->diag);
	if (err == 0)
		err = explain(q, w->explain, &src, &dst, &a, &w->diag);
	w->status = err == -ENOENT ? PK_RPC_NOT_FOUND : PK_RPC_INVALID_ARGUMENT;
	if (err == 0) {
		policy_query_end_text(q, &src, src_text, sizeof(src_text));
		policy_query_end_text(q, &dst, dst_text, sizeof(dst_text));
		fill_side(&egress, &a.side[PK_EGRESS], src_text);
		fill_side(&ingress, &a.side[PK_INGRESS], dst_text);
		m.verdict = admin_borrow(pk_verdict_name(a.verdict));
		if (a.encryption != PK_ENCRYPTION_NONE)
			m.encryption = admin_borrow(policy_encryption_text(a.encryption));
		m.egress = &egress;
		m.ingress = &ingress;
		m.generation = p->latest_generation;
		answer(w, &m.base);
	}
	policy_query_destroy(q);
}

void
question_on_explain(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct question *q;

	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who) ||
	    (q = ask(p, c, explain_work)) == NULL)
		return;
	q->explain = admin_unpack(&picket__v1__explain_request__descriptor, c, bytes, len);
	if (q->explain == NULL)
		free(q);
	else
		give(q);
}

/* ---- the policies that apply to a workload ---- */

struct applied {
	Picket__V1__AppliedPolicy *item, **list; /* NULL: only counted */
	size_t nb;
};

static void
take_applied(void *arg, const char *tenant, const char *name, const char *tier)
{
	struct applied *a = arg;
	Picket__V1__AppliedPolicy *item;

	if (a->item == NULL)
		return;
	item = &a->item[a->nb];
	picket__v1__applied_policy__init(item);
	item->tenant = admin_borrow(tenant);
	item->name = admin_borrow(name);
	item->tier = admin_borrow(tier);
	a->list[a->nb++] = item;
}

static void
applied_work(struct pk_job *job)
{
	struct question *q = (struct question *)job;
	const struct policy_compiler *pc = q->p->compiler;
	Picket__V1__AppliedReply m = PICKET__V1__APPLIED_REPLY__INIT;
	struct applied a = { 0 };
	int nb = policy_compiler_applied(pc, q->applied->workload, take_applied, &a);

	if (nb < 0) {
		q->status = PK_RPC_NOT_FOUND;
		pk_diag_set(&q->diag,
		    "there is no workload \"%s\": want TENANT/NAME as in workload list",
		    q->applied->workload);
		return;
	}
	a.item = calloc((size_t)nb + 1, sizeof(a.item[0]));
	a.list = calloc((size_t)nb + 1, sizeof(a.list[0]));
	if (a.item != NULL && a.list != NULL) {
		(void)policy_compiler_applied(pc, q->applied->workload, take_applied, &a);
		m.policies = a.list;
		m.n_policies = a.nb;
		m.generation = q->p->latest_generation;
		answer(q, &m.base);
	} else {
		q->status = PK_RPC_RESOURCE_EXHAUSTED;
		pk_diag_set(&q->diag, "no memory for the answer");
	}
	free(a.item);
	free(a.list);
}

void
question_on_applied(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct question *q;

	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who) ||
	    (q = ask(p, c, applied_work)) == NULL)
		return;
	q->applied = admin_unpack(&picket__v1__applied_request__descriptor, c, bytes, len);
	if (q->applied == NULL)
		free(q);
	else
		give(q);
}
