#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/server.h"
#include "lib/chain.h"

/* Rollouts, and the audit log. */

#define END_NS    (130 * PK_NS_PER_S)
#define SHOW_MAX  20
#define AUDIT_MAX 10000

static const char *
state_name(int state)
{
	static const char *const names[] = { "none", "sending", "baking", "promoted", "aborted" };

	return state >= 0 && state < (int)PK_COUNT(names) ? names[state] : "unknown";
}

static void
print_rollout(const Picket__V1__Rollout *r)
{
	char at[64];

	printf("generation %llu by %s, %s: %s", (unsigned long long)r->generation, r->author,
	    ctl_time_text(r->started_unix_ns, at, sizeof(at)), state_name((int)r->state));
	if (r->baking_unix_ns != 0 && r->ended_unix_ns == 0)
		printf(" for %u s since %s", r->canary != NULL ? r->canary->bake_s : 0,
		    ctl_time_text(r->baking_unix_ns, at, sizeof(at)));
	if (r->ended_unix_ns != 0)
		printf(" %s as generation %llu, %s",
		    ctl_time_text(r->ended_unix_ns, at, sizeof(at)), (unsigned long long)r->result,
		    r->reason);
	printf("\n");
	if (r->message[0] != '\0')
		printf("message: %s\n", r->message);
	if (r->canary != NULL && r->canary->abort)
		printf("aborted when more than %llu are newly denied\n",
		    (unsigned long long)r->canary->abort_denied);
}

static int
rollout_status(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "dpu", "DPU" }, { "connected", "CONNECTED" },
		{ "realised", "REALISED" }, { "denied", "NEWLY DENIED" }, { "revoked", "REVOKED" },
		{ "refused", "REFUSED" }, { "usual", "USUAL" } };
	Picket__V1__RolloutRequest m = PICKET__V1__ROLLOUT_REQUEST__INIT;
	Picket__V1__RolloutReply *r;
	const Picket__V1__Rollout *o;
	struct ctl_rows *rows;

	(void)argv;
	if (argc != 0)
		return ctl_usage(ctx, "takes no arguments");
	r = ctl_server_ask(
	    ctx, "Rollout", &m.base, &picket__v1__rollout_reply__descriptor, CTL_ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	o = r->rollout;
	if (!ctx->json && o == NULL)
		printf("there has been no rollout\n");
	else if (!ctx->json)
		print_rollout(o);
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; o != NULL && i < o->n_dpus; i++) {
		const Picket__V1__RolloutDpu *d = o->dpus[i];

		ctl_rows_add(rows,
		    json_pack("{sI ss ss sI ss sb sb sb sI sI sI sI}", "generation",
		        (json_int_t)o->generation, "state", state_name((int)o->state), "reason",
		        o->reason, "result", (json_int_t)o->result, "dpu", d->dpu, "connected",
		        d->connected, "realised", d->realised, "counted", d->counted, "denied",
		        (json_int_t)d->denied, "revoked", (json_int_t)d->revoked, "refused",
		        (json_int_t)d->refused, "usual", (json_int_t)d->usual));
	}
	ctl_rows_end(rows);
	picket__v1__rollout_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
rollout_end(struct ctl_context *ctx, int argc, char **argv, bool promote)
{
	Picket__V1__EndRolloutRequest m = PICKET__V1__END_ROLLOUT_REQUEST__INIT;
	Picket__V1__Wait wait = PICKET__V1__WAIT__INIT;
	Picket__V1__ApplyReply *r;
	int rc;

	if (argc != 0 &&
	    (argc != 2 || (strcmp(argv[0], "--message") != 0 && strcmp(argv[0], "-m") != 0)))
		return ctl_usage(ctx, "want %s", ctx->command->args);
	m.promote = promote;
	if (argc == 2)
		m.message = argv[1];
	wait.wait = true;
	m.wait = &wait;
	r = ctl_server_ask(
	    ctx, "EndRollout", &m.base, &picket__v1__apply_reply__descriptor, END_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rc = ctl_print_applied(ctx, r, false, true);
	picket__v1__apply_reply__free_unpacked(r, NULL);
	return rc;
}

static int
rollout_promote(struct ctl_context *ctx, int argc, char **argv)
{
	return rollout_end(ctx, argc, argv, true);
}

static int
rollout_abort(struct ctl_context *ctx, int argc, char **argv)
{
	return rollout_end(ctx, argc, argv, false);
}

/* ---- audit --------------------------------------------------------------------------------------- */

static Picket__V1__AuditReply *
ask_audit(struct ctl_context *ctx, uint32_t limit, char *head)
{
	Picket__V1__AuditRequest m = PICKET__V1__AUDIT_REQUEST__INIT;

	m.limit = limit;
	if (head != NULL)
		m.head = head;
	return ctl_server_ask(
	    ctx, "Audit", &m.base, &picket__v1__audit_reply__descriptor, CTL_ASK_NS);
}

static const char *
member(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}

static int
audit_show(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "n", "N" }, { "at", "AT" }, { "who", "WHO" },
		{ "what", "WHAT" }, { "result", "RESULT" }, { "generation", "GENERATION" },
		{ "text", "TEXT" } };
	unsigned long limit = SHOW_MAX;
	Picket__V1__AuditReply *r;
	struct ctl_rows *rows;
	char *end;

	if (argc == 1) {
		limit = strtoul(argv[0], &end, 10);
		if (end == argv[0] || *end != '\0' || limit == 0 || limit > AUDIT_MAX)
			return ctl_usage(
			    ctx, "\"%s\": want a number of lines from 1 to %d", argv[0], AUDIT_MAX);
	} else if (argc != 0) {
		return ctl_usage(ctx, "want %s", ctx->command->args);
	}
	r = ask_audit(ctx, (uint32_t)limit, NULL);
	if (r == NULL)
		return CTL_REFUSED;
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_lines; i++) {
		json_t *row = json_loads(r->lines[i], 0, NULL);

		if (row == NULL)
			continue; /* verify says which */
		if (!ctx->json) {
			const char *why = member(row, "reason");

			json_object_set_new(row, "text",
			    json_string(why[0] != '\0' ? why : member(row, "message")));
		}
		ctl_rows_add(rows, row);
	}
	ctl_rows_end(rows);
	picket__v1__audit_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
audit_verify(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__AuditReply *r;
	int rc = CTL_REFUSED;

	if (argc > 1)
		return ctl_usage(ctx, "want %s", ctx->command->args);
	r = ask_audit(ctx, 0, argc == 1 ? argv[0] : NULL);
	if (r == NULL)
		return CTL_REFUSED;
	if (!r->intact)
		ctl_refused(ctx, "the audit log has been tampered with: %s", r->reason);
	else if (argc == 1 && !r->head_found)
		ctl_refused(ctx,
		    "no line of the audit log has the hash %s: its end has been cut off", argv[0]);
	else
		rc = CTL_DONE;
	if (rc == CTL_DONE && ctx->json)
		printf("{\"intact\":true,\"lines\":%llu,\"head\":\"%s\"}\n",
		    (unsigned long long)r->nb, r->head);
	else if (rc == CTL_DONE)
		printf("%llu lines, intact; the last has the hash %s\n", (unsigned long long)r->nb,
		    r->head);
	picket__v1__audit_reply__free_unpacked(r, NULL);
	return rc;
}

static int
audit_check(struct ctl_context *ctx, int argc, char **argv)
{
	struct pk_chain_state s;
	struct pk_diag diag;

	if (argc < 1 || argc > 2)
		return ctl_usage(ctx, "want %s", ctx->command->args);
	if (pk_chain_check(argv[0], argc == 2 ? argv[1] : NULL, &s, NULL, NULL, &diag) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	if (s.broken)
		return ctl_refused(ctx, "it has been tampered with: %s", diag.text);
	if (argc == 2 && !s.found)
		return ctl_refused(
		    ctx, "%s: no line has the hash %s: its end has been cut off", argv[0], argv[1]);
	if (ctx->json)
		printf("{\"intact\":true,\"lines\":%" PRIu64 ",\"head\":\"%s\"}\n", s.nb, s.head);
	else
		printf("%" PRIu64 " lines, intact; the last has the hash %s\n", s.nb, s.head);
	return CTL_DONE;
}

const struct ctl_command ctl_operations_commands[] = {
	{ "policy rollout status", "",
	    "the rollout under way, or the last: its DPUs and what they deny", rollout_status },
	{ "policy rollout promote", "[--message TEXT]",
	    "bring the candidate into force everywhere, now", rollout_promote },
	{ "policy rollout abort", "[--message TEXT]", "take the candidate back from its canary",
	    rollout_abort },
	{ "audit show", "[LINES]",
	    "who changed what, or was refused: the last lines of the audit log", audit_show },
	{ "audit verify", "[HASH]",
	    "check the audit log's chain of hashes, and that HASH, told earlier, is still in it",
	    audit_verify },
	{ "audit check", "FILE [HASH]",
	    "the same of a log that is a file, such as that of a host's verifier", audit_check },
	{ NULL, NULL, NULL, NULL },
};
