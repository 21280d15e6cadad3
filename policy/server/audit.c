#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/chain.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

/*
 * Who changed what, and who was refused: audit.log beside the store (lib/chain.h).
 *
 * The helper writes.  A change is in the store before its line is in the log; when a crash has come in
 * between, the next start writes the line from the store's own record of the generation.
 */

#define MESSAGE_MAX 512

static const char *
quoted(const char *text, char *buf, size_t size)
{
	char cut[MESSAGE_MAX];

	snprintf(cut, sizeof(cut), "%s", text);
	return pk_json_string(cut, buf, size);
}

static void
note(struct policyd *p, const char *who, const char *what, const char *result, uint64_t generation,
    const char *message, const char *reason, int sync)
{
	char line[6000], a[300], b[2000], c[2000];
	int err;

	snprintf(line, sizeof(line),
	    "\"who\":%s,\"what\":\"%s\",\"result\":\"%s\",\"generation\":%llu,\"message\":%s,\"reason\":%s",
	    pk_json_string(who, a, sizeof(a)), what, result, (unsigned long long)generation,
	    quoted(message, b, sizeof(b)), quoted(reason, c, sizeof(c)));
	err = pk_chain_append(p->audit, line, sync);
	if (err != 0)
		pk_error("audit log: %s by %s is not written: %s", what, who, strerror(-err));
}

static const char *
what_of(const struct apply *a)
{
	return a->kind == SERVER_KIND_APPLY && (a->rollout != NULL || a->candidate)
	    ? server_kind_name(SERVER_KIND_CANDIDATE)
	    : server_kind_name(a->kind);
}

void
audit_apply(struct apply *a, int last)
{
	const char *message = "";
	struct pk_diag why = a->diag;

	if ((!a->refused && !a->changed) || apply_is_dry(a))
		return; /* nothing new, or not meant to be */
	if (a->request != NULL)
		message = a->request->message;
	else if (a->rollback != NULL)
		message = a->rollback->message;
	else if (a->workloads != NULL && a->workloads->n_workloads + a->workloads->n_remove == 1)
		message = a->workloads->n_workloads != 0 ? a->workloads->workloads[0]->name
		                                         : a->workloads->remove[0];
	if (a->refused && why.text[0] == '\0')
		policy_findings_first(a->findings, &why);
	if (!a->refused && a->rollout != NULL && a->kind != SERVER_KIND_APPLY)
		snprintf(why.text, sizeof(why.text), "%s", a->rollout->reason);
	note(a->p, a->author, what_of(a), a->refused ? "refused" : "done", a->generation, message,
	    why.text, last);
}

/* ---- what the control thread has to note ------------------------------------------------------ */

struct line {
	struct pk_job job;
	struct policyd *p;
	char who[PK_RPC_PEER_MAX];
	char what[32], result[16];
	char message[256], reason[256];
};

static void
line_work(struct pk_job *job)
{
	struct line *d = (struct line *)job;

	note(d->p, d->who, d->what, d->result, d->p->latest_generation, d->message, d->reason, 0);
}

static void
line_done(struct pk_job *job)
{
	free(job);
}

void
audit_note(struct policyd *p, const char *who, const char *what, const char *result,
    const char *message, const char *reason)
{
	struct line *d = p->helper != NULL ? calloc(1, sizeof(*d)) : NULL;

	if (d == NULL)
		return;
	d->job.work = line_work;
	d->job.done = line_done;
	d->p = p;
	snprintf(d->who, sizeof(d->who), "%s", who);
	snprintf(d->what, sizeof(d->what), "%s", what);
	snprintf(d->result, sizeof(d->result), "%s", result);
	snprintf(d->message, sizeof(d->message), "%s", message);
	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	pk_helper_give(p->helper, &d->job);
}

void
audit_denied(const struct policyd *p, const char *who, const char *reason)
{
	/* Whoever is refused chooses how often. */
	static struct pk_log_limit limit = PK_LOG_LIMIT(10, 10);
	char text[256];
	uint32_t left_out;

	if (!pk_log_limit(&limit, pk_clock_mono_ns(), &left_out))
		return;
	if (left_out != 0)
		snprintf(text, sizeof(text), "%.180s (%u denials before are not in the log)",
		    reason, left_out);
	else
		snprintf(text, sizeof(text), "%s", reason);
	audit_note((struct policyd *)(uintptr_t)p, who, "call", "denied", "", text);
}

/* ---- start --------------------------------------------------------------------------------------- */

static void
find_generation(void *arg, uint64_t i, const char *line)
{
	uint64_t *newest = arg;
	const char *at = strstr(line, "\"generation\":");

	(void)i;
	if (at != NULL)
		*newest = PK_MAX(*newest, strtoull(at + strlen("\"generation\":"), NULL, 10));
}

static int
note_missed(void *arg, const struct server_generation *g)
{
	struct policyd *p = arg;

	if (g->generation > p->audited)
		note(p, g->author, server_kind_name(g->kind), "done", g->generation, g->message,
		    "found in the store after a restart", 1);
	return 0;
}

int
audit_open(struct policyd *p, const char *state, struct pk_diag *diag)
{
	struct pk_chain_state s;
	bool new;
	int err;

	snprintf(p->audit_path, sizeof(p->audit_path), "%s/audit.log", state);
	err = pk_chain_check(p->audit_path, NULL, &s, find_generation, &p->audited, diag);
	new = err == -ENOENT || (err == 0 && s.nb == 0);
	if (err != 0 && err != -ENOENT)
		return err;
	err = pk_chain_open(&p->audit, p->audit_path, diag);
	/* A store from before there was a log has nothing that was missed. */
	if (err == 0 && new)
		note(p, "picket-policyd", "begin", "done", p->latest_generation, "", "", 1);
	else if (err == 0 && !p->shared) /* what others did is in their logs */
		err = server_store_history(p->store, 0, 64, note_missed, p, diag);
	return err;
}

/* ---- for operators ------------------------------------------------------------------------------- */

struct reading {
	struct pk_job job;
	struct policyd *p;
	struct pk_rpc_call *call;
	Picket__V1__AuditRequest *request;
	char **lines; /* a ring of the last ones */
	size_t nb_lines, room;
	uint64_t nb;
	struct pk_chain_state state;
	int err;
	struct pk_diag diag;
};

static void
reading_gone(struct pk_rpc_call *c, void *state)
{
	struct reading *q = state;

	(void)c;
	q->call = NULL;
}

static void
keep_line(void *arg, uint64_t i, const char *line)
{
	struct reading *q = arg;
	char **slot;

	if (q->room == 0)
		return;
	slot = &q->lines[i % q->room];
	free(*slot);
	*slot = strdup(line);
	q->nb = i + 1;
}

static void
reading_work(struct pk_job *job)
{
	struct reading *q = (struct reading *)job;

	q->diag.text[0] = '\0';
	q->err = pk_chain_check(q->p->audit_path,
	    q->request->head[0] != '\0' ? q->request->head : NULL, &q->state, keep_line, q,
	    &q->diag);
}

static void
reading_done(struct pk_job *job)
{
	struct reading *q = (struct reading *)job;
	Picket__V1__AuditReply m = PICKET__V1__AUDIT_REPLY__INIT;
	char **list = calloc(q->room + 1, sizeof(*list));
	size_t nb = q->room != 0 ? (size_t)PK_MIN(q->nb, (uint64_t)q->room) : 0;

	for (size_t i = 0; list != NULL && i < nb; i++) {
		list[i] = q->lines[(q->nb - nb + i) % q->room];
		if (list[i] == NULL)
			list[i] = admin_borrow("");
	}
	m.lines = list;
	m.n_lines = nb;
	m.nb = q->state.nb;
	m.head = q->state.head;
	m.intact = !q->state.broken;
	m.reason = q->diag.text;
	m.head_found = q->state.found != 0;
	if (q->call == NULL)
		;
	else if (list == NULL || q->err != 0)
		pk_rpc_refuse(q->call, PK_RPC_INTERNAL, "%s",
		    q->err != 0 ? q->diag.text : "no memory for the answer");
	else
		admin_reply(q->call, &m.base);
	free(list);
	for (size_t i = 0; i < q->room; i++)
		free(q->lines[i]);
	free(q->lines);
	picket__v1__audit_request__free_unpacked(q->request, NULL);
	free(q);
}

void
audit_on_audit(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct pk_spiffe who;
	struct reading *q;

	if (!admin_authorise_call(p, c, peer, POLICY_MAY_AUDIT, &who))
		return;
	q = calloc(1, sizeof(*q));
	if (q == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	q->request = admin_unpack(&picket__v1__audit_request__descriptor, c, bytes, len);
	if (q->request == NULL) {
		free(q);
		return;
	}
	q->room = PK_MIN(q->request->limit, 10000U);
	q->lines = calloc(q->room + 1, sizeof(q->lines[0]));
	if (q->lines == NULL)
		q->room = 0;
	q->p = p;
	q->call = c;
	q->job.work = reading_work;
	q->job.done = reading_done;
	pk_rpc_call_on_gone(c, reading_gone, q);
	pk_helper_give(p->helper, &q->job);
}
