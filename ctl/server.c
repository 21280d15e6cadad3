#include "ctl/server.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "lib/conf.h"
#include "lib/rpc.h"
#include "policy/proto/picket.pb-c.h"

/* Commands that ask the policy server. */
#define ADMIN         "/picket.v1.PolicyAdmin/"
#define ASK_NS        (30 * PK_NS_PER_S)
#define COMPILE_NS    (120 * PK_NS_PER_S) /* what an apply may take besides waiting for DPUs */
#define WAIT_NS       (10 * PK_NS_PER_S)
#define SOURCE_MAX    (16 << 20)
#define PATH_MAX_TEXT 4096

/* ---- asking ---- */

/* The answer unpacked as `type`, or NULL after saying why not. */
void *
ctl_server_ask(struct ctl_context *ctx, const char *method, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *type, uint64_t timeout_ns)
{
	char cert[PATH_MAX_TEXT], key[PATH_MAX_TEXT], ca[PATH_MAX_TEXT], path[128];
	const struct pk_rpc_tls tls = { .cert = cert, .key = key, .ca = ca };
	size_t len = protobuf_c_message_get_packed_size(request), answer_len;
	uint8_t *bytes = malloc(len + 1), *answer;
	struct pk_diag diag;
	unsigned int status;
	void *m;
	int err;

	snprintf(cert, sizeof(cert), "%s/identity.crt", ctx->identity);
	snprintf(key, sizeof(key), "%s/identity.key", ctx->identity);
	snprintf(ca, sizeof(ca), "%s/ca.crt", ctx->identity);
	snprintf(path, sizeof(path), ADMIN "%s", method);
	if (bytes == NULL) {
		ctl_refused(ctx, "no memory for the request");
		return NULL;
	}
	protobuf_c_message_pack(request, bytes);
	err = pk_rpc_ask(
	    ctx->server, &tls, path, bytes, len, timeout_ns, &answer, &answer_len, &status, &diag);
	free(bytes);
	if (err != 0) {
		ctl_refused(ctx, "%s", diag.text);
		return NULL;
	}
	m = protobuf_c_message_unpack(type, NULL, answer_len, answer);
	free(answer);
	if (m == NULL)
		ctl_refused(
		    ctx, "%s: the answer cannot be decoded; is it another version?", ctx->server);
	return m;
}

static char *
borrow(const char *s)
{
	return (char *)(uintptr_t)s;
}

/* "2026-11-21 14:03:12", local time. */
const char *
ctl_time_text(uint64_t unix_ns, char *buf, size_t size)
{
	time_t t = (time_t)(unix_ns / PK_NS_PER_S);
	struct tm tm;

	if (unix_ns == 0 || localtime_r(&t, &tm) == NULL || strftime(buf, size, "%F %T", &tm) == 0)
		snprintf(buf, size, "-");
	return buf;
}

/* What has been said in JSON goes out as it is. */
static void
print_json(json_t *row)
{
	json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(row);
}

/* ---- apply ---- */

struct sources {
	Picket__V1__Source *item;
	Picket__V1__Source **list;
	size_t nb, room;
};

static void
sources_fini(struct sources *s)
{
	for (size_t i = 0; i < s->nb; i++) {
		free(s->item[i].name);
		free(s->item[i].text.data);
	}
	free(s->item);
	free(s->list);
}

static int
read_source(struct ctl_context *ctx, struct sources *s, const char *path)
{
	Picket__V1__Source *to;
	struct stat st;
	uint8_t *bytes;
	size_t have = 0;
	int fd;

	if (s->nb == s->room) {
		s->room = s->room != 0 ? s->room * 2 : 16;
		s->item = realloc(s->item, s->room * sizeof(s->item[0]));
		PK_ASSERT(s->item != NULL);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		ctl_refused(ctx, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -EINVAL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > SOURCE_MAX) {
		ctl_refused(ctx, "%s: want a file of at most 16 MiB", path);
		close(fd);
		return -EINVAL;
	}
	bytes = malloc((size_t)st.st_size + 1);
	PK_ASSERT(bytes != NULL);
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + have, (size_t)st.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	close(fd);
	to = &s->item[s->nb++];
	picket__v1__source__init(to);
	to->name = strdup(path);
	PK_ASSERT(to->name != NULL);
	to->text.data = bytes;
	to->text.len = have;
	return 0;
}

static bool
is_policy_file(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot != NULL &&
	    (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

static int
by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* A file, or all *.yaml, *.yml and *.json below a directory. */
static int
read_path(struct ctl_context *ctx, struct sources *s, const char *path)
{
	char *roots[] = { borrow(path), NULL };
	size_t before = s->nb;
	FTSENT *e;
	FTS *fts;
	int err = 0;

	fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	if (fts == NULL) {
		ctl_refused(ctx, "%s: %s", path, strerror(errno));
		return -errno;
	}
	while (err == 0 && (e = fts_read(fts)) != NULL) {
		if (e->fts_info == FTS_F && (e->fts_level == 0 || is_policy_file(e->fts_name)))
			err = read_source(ctx, s, e->fts_path);
		else if (e->fts_info == FTS_NS || e->fts_info == FTS_DNR || e->fts_info == FTS_ERR)
			err = ctl_refused(ctx, "%s: %s", e->fts_path, strerror(e->fts_errno));
	}
	fts_close(fts);
	if (err == 0 && s->nb == before)
		err = ctl_refused(ctx, "%s: no *.yaml, *.yml or *.json below it", path);
	return err;
}

static void
print_findings(struct ctl_context *ctx, const Picket__V1__ApplyReply *m)
{
	for (size_t i = 0; i < m->n_findings; i++) {
		const Picket__V1__Finding *f = m->findings[i];

		if (ctx->json) {
			print_json(json_pack("{ss ss si si ss ss}", "severity",
			    f->error ? "error" : "warning", "file", f->file, "line", (int)f->line,
			    "column", (int)f->column, "code", f->code, "text", f->text));
			continue;
		}
		if (f->line == 0)
			fprintf(stderr, "%s%s", f->file, f->file[0] != '\0' ? ": " : "");
		else if (f->column == 0)
			fprintf(stderr, "%s:%u: ", f->file, f->line);
		else
			fprintf(stderr, "%s:%u:%u: ", f->file, f->line, f->column);
		fprintf(stderr, "%s%s\n", f->error ? "" : "warning: ", f->text);
	}
}

static const char *
stage_name(int stage)
{
	static const char *const names[] = { "waiting", "received", "accepted", "realised",
		"rejected" };

	return stage >= 0 && stage < (int)PK_COUNT(names) ? names[stage] : "unknown";
}

int
ctl_print_applied(struct ctl_context *ctx, const Picket__V1__ApplyReply *m, bool dry, bool wait)
{
	static const struct ctl_column columns[] = { { "dpu", "DPU" }, { "stage", "STAGE" },
		{ "ms", "MS" }, { "reason", "REASON" } };
	struct ctl_rows *rows;

	print_findings(ctx, m);
	if (m->refused) {
		if (ctx->json)
			print_json(json_pack(
			    "{sb sI}", "refused", 1, "generation", (json_int_t)m->generation));
		ctl_refused(ctx, "refused; generation %llu stays in force",
		    (unsigned long long)m->generation);
		return CTL_REFUSED;
	}
	if (ctx->json)
		print_json(json_pack("{sb sI sb sb si si sb sb}", "refused", 0, "generation",
		    (json_int_t)m->generation, "unchanged", m->unchanged, "dry_run", dry,
		    "tests_passed", (int)m->tests_passed, "tests_failed", (int)m->tests_failed,
		    "complete", m->complete, "candidate", m->candidate));
	else if (dry)
		printf("would be accepted; generation %llu stays in force\n",
		    (unsigned long long)m->generation);
	else if (m->candidate)
		printf("generation %llu is a candidate, on its canary alone\n",
		    (unsigned long long)m->generation);
	else if (m->unchanged)
		printf("nothing to change; generation %llu is in force\n",
		    (unsigned long long)m->generation);
	else
		printf("generation %llu is in force\n", (unsigned long long)m->generation);
	if (!ctx->json && m->tests_passed + m->tests_failed != 0)
		printf("inline tests: %u passed, %u failed\n", m->tests_passed, m->tests_failed);
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < m->n_dpus; i++) {
		const Picket__V1__DpuResult *d = m->dpus[i];

		ctl_rows_add(rows,
		    json_pack("{ss ss sf ss}", "dpu", d->dpu, "stage", stage_name((int)d->stage),
		        "ms", (double)d->took_us / 1e3, "reason", d->reason));
	}
	for (size_t i = 0; i < m->n_away; i++)
		ctl_rows_add(rows,
		    json_pack("{ss ss sn ss}", "dpu", m->away[i], "stage", "away", "ms", "reason",
		        "not connected; follows when it comes back"));
	ctl_rows_end(rows);
	if (dry || !wait || m->complete)
		return CTL_DONE;
	for (size_t i = 0; i < m->n_dpus; i++)
		if (m->dpus[i]->stage != PICKET__V1__STAGE__STAGE_REALISED)
			ctl_refused(ctx, "%s has not realised generation %llu%s%s", m->dpus[i]->dpu,
			    (unsigned long long)m->generation,
			    m->dpus[i]->reason[0] != '\0' ? ": " : "", m->dpus[i]->reason);
	return CTL_REFUSED;
}

/* Options that apply and rollback share. */
struct apply_options {
	const char *message;
	bool dry, replace, wait, despite_tests, at_once;
	char *canary; /* NULL: none */
	uint64_t bake_ns;
	bool abort;
	uint64_t abort_denied;
	uint64_t timeout_ns;
	char **remove;
	size_t nb_remove;
	char **rest; /* arguments that are no options */
	int nb_rest;
};

static int
take_options(struct ctl_context *ctx, int argc, char **argv, bool may_be_dry, bool apply,
    struct apply_options *o)
{
	bool only_names = false;

	memset(o, 0, sizeof(*o));
	o->message = "";
	o->wait = true;
	o->timeout_ns = WAIT_NS;
	o->rest = argv; /* filled from the front, behind what has been read */
	o->remove = calloc((size_t)argc + 1, sizeof(o->remove[0]));
	PK_ASSERT(o->remove != NULL);
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		bool more = i + 1 < argc;

		if (only_names || a[0] != '-') {
			o->rest[o->nb_rest++] = argv[i];
		} else if (strcmp(a, "--") == 0) {
			only_names = true;
		} else if ((strcmp(a, "--message") == 0 || strcmp(a, "-m") == 0) && more) {
			o->message = argv[++i];
		} else if (strcmp(a, "--timeout") == 0 && more) {
			if (pk_conf_parse_duration(argv[++i], &o->timeout_ns) != 0 ||
			    o->timeout_ns == 0)
				return ctl_usage(
				    ctx, "--timeout %s: want a time such as 10s", argv[i]);
		} else if (strcmp(a, "--no-wait") == 0) {
			o->wait = false;
		} else if (may_be_dry && strcmp(a, "--dry-run") == 0) {
			o->dry = true;
		} else if (apply && strcmp(a, "--replace") == 0) {
			o->replace = true;
		} else if (apply && strcmp(a, "--despite-tests") == 0) {
			o->despite_tests = true;
		} else if (apply && strcmp(a, "--at-once") == 0) {
			o->at_once = true;
		} else if (apply && strcmp(a, "--canary") == 0 && more) {
			o->canary = argv[++i];
		} else if (apply && strcmp(a, "--bake") == 0 && more) {
			if (pk_conf_parse_duration(argv[++i], &o->bake_ns) != 0 ||
			    o->bake_ns < PK_NS_PER_S)
				return ctl_usage(ctx,
				    "--bake %s: want a time of at least 1s, such as 10m", argv[i]);
		} else if (apply && strcmp(a, "--abort-denied") == 0 && more) {
			char *end;

			o->abort = true;
			errno = 0;
			o->abort_denied = strtoull(argv[++i], &end, 10);
			if (errno != 0 || end == argv[i] || *end != '\0' || argv[i][0] == '-')
				return ctl_usage(
				    ctx, "--abort-denied %s: want a number of flows", argv[i]);
		} else if (apply && strcmp(a, "--delete") == 0 && more) {
			o->remove[o->nb_remove++] = argv[++i];
		} else {
			return ctl_usage(ctx, "\"%s\": want %s", a, ctx->command->args);
		}
	}
	if (o->canary == NULL && (o->bake_ns != 0 || o->abort))
		return ctl_usage(ctx, "--bake and --abort-denied go with --canary");
	if (o->canary != NULL && (o->bake_ns == 0 || o->at_once))
		return ctl_usage(ctx, "--canary wants --bake TIME, and not --at-once");
	return 0;
}

/* "dpu1,dpu2*" names DPUs, "app=web,!old" the workloads behind them.  *dpus is cut up and borrowed. */
static void
fill_canary(const struct apply_options *o, Picket__V1__Canary *m, char **list, size_t max)
{
	char *save;

	m->bake_s = (uint32_t)(o->bake_ns / PK_NS_PER_S);
	m->abort = o->abort;
	m->abort_denied = o->abort_denied;
	if (strpbrk(o->canary, "=!") != NULL) {
		m->workloads = o->canary;
		return;
	}
	m->dpus = list;
	for (char *w = strtok_r(o->canary, ",", &save); w != NULL && m->n_dpus < max;
	     w = strtok_r(NULL, ",", &save))
		list[m->n_dpus++] = w;
}

static uint32_t
wait_ms(const struct apply_options *o)
{
	return (uint32_t)PK_MAX(
	    PK_MIN(o->timeout_ns / PK_NS_PER_MS, UINT64_C(600000)), UINT64_C(1));
}

static int
apply(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__ApplyRequest m = PICKET__V1__APPLY_REQUEST__INIT;
	Picket__V1__Wait wait = PICKET__V1__WAIT__INIT;
	Picket__V1__Canary canary = PICKET__V1__CANARY__INIT;
	char *canary_dpus[256];
	Picket__V1__ApplyReply *r = NULL;
	struct sources s = { 0 };
	struct apply_options o;
	int rc = take_options(ctx, argc, argv, true, true, &o);

	if (rc != 0)
		goto out;
	if (o.nb_rest == 0 && o.nb_remove == 0) {
		rc = ctl_usage(ctx, "want %s", ctx->command->args);
		goto out;
	}
	rc = CTL_REFUSED;
	for (int i = 0; i < o.nb_rest; i++)
		if (read_path(ctx, &s, o.rest[i]) != 0)
			goto out;
	s.list = calloc(s.nb + 1, sizeof(s.list[0]));
	PK_ASSERT(s.list != NULL);
	for (size_t i = 0; i < s.nb; i++)
		s.list[i] = &s.item[i];
	m.sources = s.list;
	m.n_sources = s.nb;
	m.remove = o.remove;
	m.n_remove = o.nb_remove;
	m.replace = o.replace;
	m.dry_run = o.dry;
	m.despite_tests = o.despite_tests;
	m.at_once = o.at_once;
	if (o.canary != NULL) {
		fill_canary(&o, &canary, canary_dpus, PK_COUNT(canary_dpus));
		m.canary = &canary;
	}
	m.message = borrow(o.message);
	wait.wait = o.wait;
	wait.timeout_ms = wait_ms(&o);
	m.wait = &wait;
	r = ctl_server_ask(
	    ctx, "Apply", &m.base, &picket__v1__apply_reply__descriptor, o.timeout_ns + COMPILE_NS);
	if (r != NULL) {
		rc = ctl_print_applied(ctx, r, o.dry, o.wait);
		picket__v1__apply_reply__free_unpacked(r, NULL);
	}
out:
	sources_fini(&s);
	free(o.remove);
	return rc;
}

static int
parse_generation(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno != 0 || end == text || *end != '\0' || text[0] == '-' || *out == 0 ? -EINVAL
	                                                                                : 0;
}

static int
rollback(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__RollbackRequest m = PICKET__V1__ROLLBACK_REQUEST__INIT;
	Picket__V1__Wait wait = PICKET__V1__WAIT__INIT;
	Picket__V1__ApplyReply *r;
	struct apply_options o;
	int rc = take_options(ctx, argc, argv, true, false, &o);

	if (rc != 0)
		goto out;
	if (o.nb_rest != 1 || parse_generation(o.rest[0], &m.generation) != 0) {
		rc =
		    ctl_usage(ctx, "want %s; policy history lists generations", ctx->command->args);
		goto out;
	}
	m.dry_run = o.dry;
	m.message = borrow(o.message);
	wait.wait = o.wait;
	wait.timeout_ms = wait_ms(&o);
	m.wait = &wait;
	rc = CTL_REFUSED;
	r = ctl_server_ask(ctx, "Rollback", &m.base, &picket__v1__apply_reply__descriptor,
	    o.timeout_ns + COMPILE_NS);
	if (r != NULL) {
		rc = ctl_print_applied(ctx, r, o.dry, o.wait);
		picket__v1__apply_reply__free_unpacked(r, NULL);
	}
out:
	free(o.remove);
	return rc;
}

/* ---- show, history ---- */

static int
show(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__ShowRequest m = PICKET__V1__SHOW_REQUEST__INIT;
	Picket__V1__ShowReply *r;
	char at[64];

	if (argc > 1 || (argc == 1 && parse_generation(argv[0], &m.generation) != 0))
		return ctl_usage(ctx, "want %s", ctx->command->args);
	r = ctl_server_ask(ctx, "Show", &m.base, &picket__v1__show_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	if (r->info != NULL && !ctx->json)
		printf("# generation %llu: %s by %s, %s%s%s\n",
		    (unsigned long long)r->info->generation, r->info->kind, r->info->author,
		    ctl_time_text(r->info->at_unix_ns, at, sizeof(at)),
		    r->info->message[0] != '\0' ? ": " : "", r->info->message);
	for (size_t i = 0; i < r->n_sources; i++) {
		const Picket__V1__Source *s = r->sources[i];

		if (ctx->json) {
			print_json(json_pack("{ss ss%}", "name", s->name, "text",
			    (const char *)s->text.data, s->text.len));
			continue;
		}
		/* A comment, so that the whole can be read back as one file. */
		printf("%s# %s\n", i != 0 ? "---\n" : "", s->name);
		fwrite(s->text.data, 1, s->text.len, stdout);
		if (s->text.len == 0 || s->text.data[s->text.len - 1] != '\n')
			putchar('\n');
	}
	picket__v1__show_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
history(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "generation", "GENERATION" },
		{ "kind", "KIND" }, { "author", "AUTHOR" }, { "at", "AT" },
		{ "sources", "SOURCES" }, { "of", "POLICY OF" }, { "current", "CURRENT" },
		{ "message", "MESSAGE" } };
	Picket__V1__HistoryRequest m = PICKET__V1__HISTORY_REQUEST__INIT;
	Picket__V1__HistoryReply *r;
	struct ctl_rows *rows;
	char at[64];

	(void)argv;
	if (argc != 0)
		return ctl_usage(ctx, "takes no arguments");
	r = ctl_server_ask(ctx, "History", &m.base, &picket__v1__history_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_generations; i++) {
		const Picket__V1__GenerationInfo *g = r->generations[i];

		ctl_rows_add(rows,
		    json_pack("{sI ss ss ss sI si sI sb ss}", "generation",
		        (json_int_t)g->generation, "kind", g->kind, "author", g->author, "at",
		        ctl_time_text(g->at_unix_ns, at, sizeof(at)), "at_unix_ns",
		        (json_int_t)g->at_unix_ns, "sources", (int)g->sources, "of",
		        (json_int_t)g->of, "current", g->generation == r->current, "message",
		        g->message));
	}
	ctl_rows_end(rows);
	picket__v1__history_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

/* ---- status, workloads, explain ---- */

static const char *
dpu_state(const Picket__V1__DpuStatus *d)
{
	if (!d->connected)
		return "away";
	if (d->reason[0] != '\0')
		return "rejected";
	if (!d->plane)
		return "no data plane";
	if (d->wanted == 0)
		return "no policy";
	return d->realised == d->wanted ? "in force" : "behind";
}

static int
status(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "dpu", "DPU" }, { "connected", "CONNECTED" },
		{ "state", "STATE" }, { "canary", "CANARY" }, { "wanted", "WANTED" },
		{ "realised", "REALISED" }, { "workloads", "WORKLOADS" },
		{ "resources", "RESOURCES" }, { "since", "SINCE" }, { "reason", "REASON" } };
	Picket__V1__StatusRequest m = PICKET__V1__STATUS_REQUEST__INIT;
	Picket__V1__StatusReply *r;
	struct ctl_rows *rows;
	char since[64];

	(void)argv;
	if (argc != 0)
		return ctl_usage(ctx, "takes no arguments");
	r = ctl_server_ask(ctx, "Status", &m.base, &picket__v1__status_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	if (!ctx->json)
		printf("generation %llu, %u workloads, %zu DPUs\n",
		    (unsigned long long)r->generation, r->workloads, r->n_dpus);
	if (!ctx->json && r->candidate != 0)
		printf("a rollout is under way: generation %llu is on its canary\n",
		    (unsigned long long)r->candidate);
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_dpus; i++) {
		const Picket__V1__DpuStatus *d = r->dpus[i];

		ctl_rows_add(rows,
		    json_pack("{ss sb sb sb ss sI sI sI sI si si ss sI ss ss sI sI}", "dpu", d->dpu,
		        "canary", d->candidate, "connected", d->connected, "plane", d->plane,
		        "state", dpu_state(d), "wanted", (json_int_t)d->wanted, "received",
		        (json_int_t)d->received, "accepted", (json_int_t)d->accepted, "realised",
		        (json_int_t)d->realised, "workloads", (int)d->workloads, "resources",
		        (int)d->resources, "since",
		        ctl_time_text(d->since_unix_ns, since, sizeof(since)), "since_unix_ns",
		        (json_int_t)d->since_unix_ns, "reason", d->reason, "software", d->software,
		        "bytes_sent", (json_int_t)d->bytes_sent, "generation",
		        (json_int_t)r->generation));
	}
	ctl_rows_end(rows);
	picket__v1__status_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
show_hosts(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "host", "HOST" }, { "dpu", "DPU" },
		{ "state", "STATE" }, { "attested", "ATTESTED" }, { "epoch", "EPOCH" },
		{ "connected", "DPU CONNECTED" }, { "reference", "REFERENCE" },
		{ "reason", "REASON" } };
	Picket__V1__StatusRequest m = PICKET__V1__STATUS_REQUEST__INIT;
	Picket__V1__StatusReply *r;
	struct ctl_rows *rows;

	(void)argv;
	if (argc != 0)
		return ctl_usage(ctx, "takes no arguments");
	r = ctl_server_ask(ctx, "Status", &m.base, &picket__v1__status_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_dpus; i++) {
		const Picket__V1__DpuStatus *d = r->dpus[i];

		if (d->host_state[0] != '\0')
			ctl_rows_add(rows,
			    json_pack("{ss ss ss sb sI sb ss ss}", "host", d->host, "dpu", d->dpu,
			        "state", d->host_state, "attested", d->host_attested, "epoch",
			        (json_int_t)d->host_epoch, "connected", d->connected, "reference",
			        d->host_reference, "reason", d->host_reason));
		/* A DPU that has to prove itself is a host of the server's. */
		if (d->self_state[0] != '\0')
			ctl_rows_add(rows,
			    json_pack("{ss ss ss sb sb ss ss}", "host", d->dpu, "dpu", "", "state",
			        d->self_state, "attested", d->self_attested, "connected",
			        d->connected, "reference", d->self_reference, "reason",
			        d->self_reason));
	}
	ctl_rows_end(rows);
	picket__v1__status_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
workload_list(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "name", "WORKLOAD" },
		{ "address", "ADDRESS" }, { "vrf", "VRF" }, { "dpu", "DPU" },
		{ "identity", "IDENTITY" }, { "labels", "LABELS" } };
	Picket__V1__ListWorkloadsRequest m = PICKET__V1__LIST_WORKLOADS_REQUEST__INIT;
	Picket__V1__ListWorkloadsReply *r;
	struct ctl_rows *rows;

	(void)argv;
	if (argc != 0)
		return ctl_usage(ctx, "takes no arguments");
	r = ctl_server_ask(
	    ctx, "ListWorkloads", &m.base, &picket__v1__list_workloads_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_workloads; i++) {
		const Picket__V1__WorkloadInfo *w = r->workloads[i];

		ctl_rows_add(rows,
		    json_pack("{ss ss si ss sb sI ss}", "name", w->name, "address", w->address,
		        "vrf", (int)w->vrf, "dpu", w->dpu, "connected", w->connected, "identity",
		        (json_int_t)w->identity, "labels", w->labels));
	}
	ctl_rows_end(rows);
	picket__v1__list_workloads_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

/* Send changes of the inventory and tell how far they have come. */
static int
update_workloads(
    struct ctl_context *ctx, Picket__V1__UpdateWorkloadsRequest *m, const struct apply_options *o)
{
	Picket__V1__Wait wait = PICKET__V1__WAIT__INIT;
	Picket__V1__ApplyReply *r;
	int rc;

	wait.wait = o->wait;
	wait.timeout_ms = wait_ms(o);
	m->wait = &wait;
	r = ctl_server_ask(ctx, "UpdateWorkloads", &m->base, &picket__v1__apply_reply__descriptor,
	    o->timeout_ns + COMPILE_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rc = ctl_print_applied(ctx, r, false, o->wait);
	picket__v1__apply_reply__free_unpacked(r, NULL);
	return rc;
}

static int
workload_put(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__UpdateWorkloadsRequest m = PICKET__V1__UPDATE_WORKLOADS_REQUEST__INIT;
	Picket__V1__Workload workload = PICKET__V1__WORKLOAD__INIT, *list = &workload;
	struct sources s = { 0 };
	struct apply_options o;
	int rc = take_options(ctx, argc, argv, false, false, &o);

	if (rc == 0 && o.nb_rest != 2)
		rc = ctl_usage(ctx, "want %s", ctx->command->args);
	if (rc == 0 && read_source(ctx, &s, o.rest[1]) != 0)
		rc = CTL_REFUSED;
	if (rc == 0) {
		workload.name = o.rest[0];
		workload.text = s.item[0].text;
		m.workloads = &list;
		m.n_workloads = 1;
		rc = update_workloads(ctx, &m, &o);
	}
	sources_fini(&s);
	free(o.remove);
	return rc;
}

static int
workload_delete(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__UpdateWorkloadsRequest m = PICKET__V1__UPDATE_WORKLOADS_REQUEST__INIT;
	struct apply_options o;
	int rc = take_options(ctx, argc, argv, false, false, &o);

	if (rc == 0 && o.nb_rest == 0)
		rc = ctl_usage(ctx, "want %s", ctx->command->args);
	if (rc == 0) {
		m.remove = o.rest;
		m.n_remove = (size_t)o.nb_rest;
		rc = update_workloads(ctx, &m, &o);
	}
	free(o.remove);
	return rc;
}

static json_t *
side_json(const Picket__V1__ExplainDirection *d)
{
	json_t *row = json_pack("{ss ss s{ss ss ss si}}", "verdict", d->verdict, "subject",
	    d->subject, "rule", "policy", d->policy, "name", d->rule, "file", d->file, "line",
	    (int)d->line);

	if (d->encryption[0] != '\0')
		json_object_set_new(
		    json_object_get(row, "rule"), "encryption", json_string(d->encryption));
	return row;
}

static void
print_side(const char *direction, const Picket__V1__ExplainDirection *d)
{
	if (!d->judged) {
		printf("  %-8s %s: no policy of ours judges it\n", direction, d->subject);
		return;
	}
	printf("  %-8s %s: %s", direction, d->subject, d->verdict);
	if (d->line == 0)
		printf(" by default\n");
	else
		printf(" by rule \"%s\" of policy \"%s\" (%s:%u)%s%s\n", d->rule, d->policy,
		    d->file, d->line, d->encryption[0] != '\0' ? ", encryption " : "",
		    d->encryption);
}

static int
explain(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__ExplainRequest m = PICKET__V1__EXPLAIN_REQUEST__INIT;
	Picket__V1__ExplainReply *r;

	if (argc != 3)
		return ctl_usage(ctx, "want %s", ctx->command->args);
	m.src = argv[0];
	m.dst = argv[1];
	m.service = argv[2];
	r = ctl_server_ask(ctx, "Explain", &m.base, &picket__v1__explain_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	if (r->egress == NULL || r->ingress == NULL) {
		picket__v1__explain_reply__free_unpacked(r, NULL);
		return ctl_refused(ctx, "%s: the answer is not complete", ctx->server);
	}
	if (ctx->json) {
		json_t *row = json_pack("{ss ss ss ss sI}", "src", argv[0], "dst", argv[1],
		    "service", argv[2], "verdict", r->verdict, "generation",
		    (json_int_t)r->generation);

		json_object_set_new(
		    row, "egress", r->egress->judged ? side_json(r->egress) : json_null());
		json_object_set_new(
		    row, "ingress", r->ingress->judged ? side_json(r->ingress) : json_null());
		if (r->encryption[0] != '\0')
			json_object_set_new(row, "encryption", json_string(r->encryption));
		print_json(row);
	} else {
		printf("%s -> %s %s: %s%s%s (generation %llu)\n", argv[0], argv[1], argv[2],
		    r->verdict, r->encryption[0] != '\0' ? ", encryption " : "", r->encryption,
		    (unsigned long long)r->generation);
		print_side("egress", r->egress);
		print_side("ingress", r->ingress);
	}
	picket__v1__explain_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

static int
applied(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "tier", "TIER" }, { "tenant", "TENANT" },
		{ "policy", "POLICY" } };
	Picket__V1__AppliedRequest m = PICKET__V1__APPLIED_REQUEST__INIT;
	Picket__V1__AppliedReply *r;
	struct ctl_rows *rows;

	if (argc != 1)
		return ctl_usage(ctx, "want %s", ctx->command->args);
	m.workload = argv[0];
	r = ctl_server_ask(ctx, "Applied", &m.base, &picket__v1__applied_reply__descriptor, ASK_NS);
	if (r == NULL)
		return CTL_REFUSED;
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < r->n_policies; i++) {
		const Picket__V1__AppliedPolicy *p = r->policies[i];

		ctl_rows_add(rows,
		    json_pack(
		        "{ss ss ss}", "tier", p->tier, "tenant", p->tenant, "policy", p->name));
	}
	ctl_rows_end(rows);
	picket__v1__applied_reply__free_unpacked(r, NULL);
	return CTL_DONE;
}

#define APPLY_ARGS                                                                                                   \
	"FILE... [--message TEXT] [--dry-run] [--replace] [--delete NAME] [--despite-tests] [--no-wait] [--timeout " \
	"TIME] [--canary SELECTOR --bake TIME [--abort-denied N] | --at-once]"

const struct ctl_command ctl_server_commands[] = {
	{ "policy apply", APPLY_ARGS,
	    "check, keep and distribute policy; waits until DPUs enforce it", apply },
	{ "policy show", "[GENERATION]",
	    "the sources of a generation, of the current one by default", show },
	{ "policy history", "", "who changed policy, when and why", history },
	{ "policy rollback", "GENERATION [--message TEXT] [--dry-run] [--no-wait] [--timeout TIME]",
	    "bring the policy of an older generation back into force", rollback },
	{ "explain", "SOURCE DESTINATION SERVICE",
	    "which rules decide a flow, in the policy in force", explain },
	{ "policy applied", "WORKLOAD",
	    "the policies whose subject a workload is, in the order in which they are asked",
	    applied },
	{ "show hosts", "",
	    "the host behind each DPU: attested or not, by which reference, and why", show_hosts },
	{ "status", "", "every DPU: connected, generation wanted and realised, since when",
	    status },
	{ "workload list", "", "workloads with their addresses, DPUs and identities",
	    workload_list },
	{ "workload put", "NAME FILE [--no-wait] [--timeout TIME]",
	    "add a workload to the inventory, or replace the one kept under NAME", workload_put },
	{ "workload delete", "NAME... [--no-wait] [--timeout TIME]",
	    "take workloads out of the inventory", workload_delete },
	{ NULL, NULL, NULL, NULL },
};
