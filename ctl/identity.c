#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>
#include <openssl/pem.h>

#include "ctl/ctl.h"
#include "ctl/server.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/svid.h"

/* X.509-SVIDs: what has been revoked, by the server; what this DPU has, by its agent. */

#define FETCH_S 10

static const char *const kinds[PK_SVID_REVOKED_COUNT] = { "none", "dpu", "host", "workload" };

static void
add_time(json_t *o, const char *key, uint64_t s)
{
	char text[64];

	json_object_set_new(
	    o, key, json_string(ctl_time_text(s * PK_NS_PER_S, text, sizeof(text))));
}

static int
ask(struct ctl_context *ctx, Picket__V1__IdentitiesRequest *m)
{
	static const struct ctl_column columns[] = { { "kind", "KIND" }, { "name", "NAME" },
		{ "issued_until_text", "ISSUED UNTIL" }, { "forget_text", "KEPT UNTIL" } };
	Picket__V1__IdentitiesReply *r = ctl_server_ask(
	    ctx, "Identities", &m->base, &picket__v1__identities_reply__descriptor, CTL_ASK_NS);
	struct ctl_rows *rows;

	if (r == NULL)
		return CTL_REFUSED;
	if (!ctx->json)
		printf("%s: %llu SVIDs issued and %llu requests refused since the server started\n",
		    r->domain, (unsigned long long)r->issued, (unsigned long long)r->refused);
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_revoked; i++) {
		const Picket__V1__Revocation *v = r->revoked[i];
		json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "kind",
		    (size_t)v->kind < PK_COUNT(kinds) ? kinds[v->kind] : "unknown", "name", v->name,
		    "issued_until", (json_int_t)v->issued_until_s, "forget",
		    (json_int_t)v->forget_s);

		add_time(o, "issued_until_text", v->issued_until_s);
		add_time(o, "forget_text", v->forget_s);
		ctl_rows_add(rows, o);
	}
	ctl_rows_end(rows);
	picket__v1__identities_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
identity_list(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__IdentitiesRequest m = PICKET__V1__IDENTITIES_REQUEST__INIT;

	(void)argv;
	return argc == 0 ? ask(ctx, &m) : ctl_usage(ctx, "takes no arguments");
}

static int
identity_revoke(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__IdentitiesRequest m = PICKET__V1__IDENTITIES_REQUEST__INIT;

	if ((argc != 2 && argc != 4) || (argc == 4 && strcmp(argv[2], "--message") != 0))
		return ctl_usage(ctx, "want dpu|host|workload NAME [--message TEXT]");
	for (size_t i = 1; i < PK_COUNT(kinds); i++)
		if (strcmp(argv[0], kinds[i]) == 0)
			m.revoke = (Picket__V1__RevokedKind)i;
	if (m.revoke == PICKET__V1__REVOKED_KIND__REVOKED_NONE)
		return ctl_usage(ctx, "\"%s\": want dpu, host or workload", argv[0]);
	m.name = argv[1];
	if (argc == 4)
		m.message = argv[3];
	return ask(ctx, &m);
}

static int
show_identities(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "workload", "WORKLOAD" }, { "id", "ID" },
		{ "state", "STATE" }, { "left_s", "LEFT s" }, { "epoch", "EPOCH" },
		{ "issued", "ISSUED" }, { "why", "WHY" } };

	return ctl_show(
	    ctx, "picket-agentd", columns, PK_COUNT(columns), "show identities", argc, argv, -1);
}

static int
show_grants(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "program", "PROGRAM" }, { "name", "FOR" },
		{ "settings", "SETTINGS" }, { "secret", "SECRET" } };

	return ctl_show(
	    ctx, "picket-agentd", columns, PK_COUNT(columns), "show grants", argc, argv, -1);
}

/* ---- fetch: as a program beside the agent would ---- */

struct fetch {
	struct ctl_context *ctx;
	struct event_base *base;
	const char *workload;
	bool watch;
	bool trusts;
	struct pk_svid_source *source;
	enum ctl_status rc;
};

/* Only when both are there: what one was given is judged as a peer would judge it. */
static void
print_svid(struct fetch *f, const struct pk_svid *s)
{
	struct pk_svid_peer peer;
	struct pk_diag diag = { "" };
	enum pk_svid_verdict verdict = pk_svid_verify(
	    pk_svid_source_trust(f->source), s->leaf, s->chain, time(NULL), &peer, &diag);
	char at[64];

	f->rc = verdict == PK_SVID_TRUSTED ? CTL_DONE : CTL_REFUSED;
	if (f->ctx->json) {
		json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "event", "svid",
		    "workload", s->workload, "id", s->id, "not_after", (json_int_t)s->not_after_s,
		    "epoch", (json_int_t)s->epoch, "verdict",
		    verdict == PK_SVID_TRUSTED       ? "trusted"
		        : verdict == PK_SVID_REVOKED ? "revoked"
		                                     : "refused",
		    "why", diag.text);
		char *text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);

		printf("%s\n", text != NULL ? text : "");
		free(text);
		json_decref(o);
	} else {
		printf("%s until %s: %s\n", s->id,
		    ctl_time_text(s->not_after_s * PK_NS_PER_S, at, sizeof(at)),
		    verdict == PK_SVID_TRUSTED ? "trusted" : diag.text);
		if (!f->watch)
			PEM_write_X509(stdout, s->leaf);
	}
	fflush(stdout);
	if (!f->watch)
		event_base_loopbreak(f->base);
}

static void
on_svid(void *arg, const struct pk_svid *s)
{
	struct fetch *f = arg;

	if (f->trusts)
		print_svid(f, s);
}

static void
on_trust(void *arg, const struct pk_svid_trust *t)
{
	struct fetch *f = arg;
	const struct pk_svid *s = pk_svid_source_find(f->source, f->workload, time(NULL));
	bool first = !f->trusts;

	(void)t;
	f->trusts = true;
	if (s != NULL && (first || f->watch))
		print_svid(f, s);
}

static void
say_no(struct fetch *f, const char *event, const char *workload, const char *why)
{
	if (f->ctx->json) {
		json_t *o =
		    json_pack("{s:s, s:s, s:s}", "event", event, "workload", workload, "why", why);
		char *text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);

		printf("%s\n", text != NULL ? text : "");
		free(text);
		json_decref(o);
	} else if (f->watch) {
		printf("%s: %s: %s\n", workload, event, why);
	}
	fflush(stdout);
}

static void
on_waiting(void *arg, const char *workload, const char *why)
{
	struct fetch *f = arg;

	say_no(f, "waiting", workload, why);
	if (!f->watch && strcmp(why, "it has not been asked for yet") != 0) {
		f->rc = CTL_REFUSED;
		fprintf(stderr, "picketctl: %s: no SVID: %s\n", workload, why);
		event_base_loopbreak(f->base);
	}
}

static void
on_gone(void *arg, const char *workload, const char *why)
{
	say_no(arg, "gone", workload, why);
}

static int
identity_fetch(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct pk_svid_ops ops = { on_svid, on_waiting, on_gone, on_trust };
	static const struct timeval patience = { .tv_sec = FETCH_S };
	struct fetch f = { .ctx = ctx, .rc = CTL_REFUSED };
	struct pk_diag diag;
	char path[512];

	f.watch = argc > 0 && strcmp(argv[0], "--watch") == 0;
	argc -= f.watch;
	argv += f.watch;
	if (argc > 1)
		return ctl_usage(ctx, "want [--watch] [TENANT/NAME]");
	f.workload = argc == 1 ? argv[0] : "";
	pk_log_init("picketctl", PK_LOG_WARN);
	snprintf(path, sizeof(path), "%s/picket-agentd.svid", ctx->run_dir);
	f.base = event_base_new();
	if (f.base == NULL ||
	    pk_svid_source_create(&f.source, f.base, path, &ops, &f, &diag) != 0 ||
	    pk_svid_source_watch(f.source, f.workload) != 0)
		return ctl_refused(ctx, "%s: cannot be asked", path);
	if (!f.watch)
		event_base_loopexit(f.base, &patience);
	event_base_dispatch(f.base);
	if (!pk_svid_source_connected(f.source))
		f.rc = (enum ctl_status)ctl_refused(ctx, "%s: the agent is not there", path);
	else if (event_base_got_exit(f.base))
		f.rc = (enum ctl_status)ctl_refused(ctx, "no answer within %d s", FETCH_S);
	pk_svid_source_destroy(f.source);
	event_base_free(f.base);
	return f.rc;
}

/* ---- check: what this DPU makes of a peer's certificate ---- */

struct check {
	struct event_base *base;
	bool done;
};

static void
no_svid(void *arg, const struct pk_svid *s)
{
	(void)arg;
	(void)s;
}

static void
no_gone(void *arg, const char *workload, const char *why)
{
	(void)arg;
	(void)workload;
	(void)why;
}

static void
on_known(void *arg, const struct pk_svid_trust *t)
{
	struct check *c = arg;

	(void)t;
	c->done = true;
	event_base_loopbreak(c->base);
}

static int
identity_check(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct pk_svid_ops ops = { no_svid, NULL, no_gone, on_known };
	static const struct timeval patience = { .tv_sec = FETCH_S };
	struct check c = { 0 };
	struct pk_svid_source *source = NULL;
	struct pk_svid_peer peer;
	struct pk_diag diag;
	char path[512];
	X509 *cert = NULL;
	FILE *f;
	int rc = CTL_REFUSED;

	if (argc != 1)
		return ctl_usage(ctx, "want a PEM file");
	if ((f = fopen(argv[0], "re")) != NULL) {
		cert = PEM_read_X509(f, NULL, NULL, NULL);
		fclose(f);
	}
	if (cert == NULL)
		return ctl_refused(ctx, "%s: holds no certificate in PEM form", argv[0]);
	pk_log_init("picketctl", PK_LOG_WARN);
	snprintf(path, sizeof(path), "%s/picket-agentd.svid", ctx->run_dir);
	c.base = event_base_new();
	if (c.base == NULL || pk_svid_source_create(&source, c.base, path, &ops, &c, &diag) != 0) {
		rc = ctl_refused(ctx, "%s: cannot be asked", path);
		goto out;
	}
	event_base_loopexit(c.base, &patience);
	event_base_dispatch(c.base);
	if (!c.done)
		rc = ctl_refused(ctx, "%s: the agent does not tell whom to believe", path);
	else if (pk_svid_verify(pk_svid_source_trust(source), cert, NULL, time(NULL), &peer,
	             &diag) != PK_SVID_TRUSTED)
		rc = ctl_refused(ctx, "%s", diag.text);
	else {
		printf("%s, issued to DPU %s in epoch %llu\n", peer.id, peer.binding.dpu,
		    (unsigned long long)peer.binding.epoch);
		rc = CTL_DONE;
	}
out:
	pk_svid_source_destroy(source);
	if (c.base != NULL)
		event_base_free(c.base);
	X509_free(cert);
	return rc;
}

const struct ctl_command ctl_identity_commands[] = {
	{ "identity list", "", "what has been revoked and not expired, by the policy server",
	    identity_list },
	{ "identity revoke", "dpu|host|workload NAME [--message TEXT]",
	    "refuse what has been issued so far to a DPU, to the workloads behind one, or to a workload",
	    identity_revoke },
	{ "identity fetch", "[--watch] [TENANT/NAME]",
	    "the SVID of a workload behind this DPU, or of the DPU, judged as a peer would",
	    identity_fetch },
	{ "identity check", "FILE", "what this DPU makes of a peer's certificate in PEM form",
	    identity_check },
	{ "show identities", "",
	    "SVIDs of the workloads behind this DPU that are in use, and its own",
	    show_identities },
	{ "show grants", "",
	    "what the policy server has given to programs on this DPU; of secrets, that there is one",
	    show_grants },
	{ NULL, NULL, NULL, NULL },
};
