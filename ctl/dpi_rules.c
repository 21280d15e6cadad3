/* picketctl dpi: signatures, offline. */
#include "ctl/dpi_rules.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/pcapng.h"
#include "dpi/bundle.h"
#include "dpi/engine.h"
#include "dpi/eve.h"
#include "dpi/http1.h"

#define SAMPLE 1000 /* packets whose checksums say whether the capture has good ones */

struct options {
	bool checksum_auto;
	const hs_platform_info_t *platform; /* to compile for, NULL: this machine */
	struct dpi_engine_options engine;
};

struct report {
	struct ctl_context *ctx;
	struct ctl_rows *rows;
};

int
ctl_dpi_rules_take(struct ctl_dpi_rules *r, char **argv)
{
	bool rules = strcmp(argv[0], "--rules") == 0;

	if (argv[1] == NULL) {
		r->wrong = rules ? "--rules wants a file" : "--set wants NAME=VALUE";
		return 0;
	}
	if (rules && r->nb < CTL_DPI_RULES_MAX)
		r->file[r->nb++] = argv[1];
	else if (!rules && r->nb_sets < CTL_DPI_RULES_MAX)
		r->set[r->nb_sets++] = argv[1];
	else
		r->wrong = "too many arguments";
	return 1;
}

static void
on_refused(void *arg, const char *keyword, const char *text)
{
	struct report *p = arg;

	if (p->rows != NULL && p->ctx->json)
		ctl_rows_add(p->rows,
		    json_pack(
		        "{s:s, s:s, s:s}", "type", "refused", "keyword", keyword, "text", text));
	else
		fprintf(stderr, "%s\n", text);
}

/* "yes", "no"; -1 for something else. */
static int
yes_no(const char *value)
{
	return strcmp(value, "yes") == 0 ? 1 : strcmp(value, "no") == 0 ? 0 : -1;
}

static int
read_options(struct ctl_context *ctx, const struct ctl_dpi_rules *r, struct options *o,
    struct dpi_vars *vars)
{
	for (unsigned int i = 0; i < r->nb_sets; i++) {
		char name[64];
		const char *value = strchr(r->set[i], '=');
		int yes;

		if (value == NULL || (size_t)(value - r->set[i]) >= sizeof(name))
			return ctl_usage(ctx, "--set \"%s\": want NAME=VALUE", r->set[i]);
		snprintf(name, sizeof(name), "%.*s", (int)(value - r->set[i]), r->set[i]);
		value++;
		yes = yes_no(value);
		if (isupper((unsigned char)name[0])) {
			if (dpi_vars_set(vars, name, value) < 0)
				return ctl_refused(ctx, "out of memory");
		} else if (strcmp(name, "midstream") == 0 && yes >= 0) {
			o->engine.midstream = yes;
		} else if (strcmp(name, "async") == 0 && yes >= 0) {
			o->engine.async = yes;
		} else if (strcmp(name, "inline") == 0 && yes >= 0) {
			o->engine.detect.ips = yes;
		} else if (strcmp(name, "checksums") == 0 &&
		    (yes >= 0 || strcmp(value, "auto") == 0)) {
			o->checksum_auto = yes < 0;
			o->engine.checksums = yes > 0 ? DPI_CHECKSUM_VERIFY : DPI_CHECKSUM_IGNORE;
		} else if (strcmp(name, "depth") == 0 && isdigit((unsigned char)value[0])) {
			o->engine.depth = strtoull(value, NULL, 10);
		} else {
			return ctl_usage(ctx,
			    "--set %s: known are midstream, async, inline (yes, no), checksums (yes, no, auto), depth (bytes), and variables of rules",
			    r->set[i]);
		}
	}
	return CTL_DONE;
}

/* Load and compile; *set stays NULL when that failed. */
static int
load(struct ctl_context *ctx, const struct ctl_dpi_rules *r, struct options *o,
    const struct dpi_set_listener *l, struct dpi_set **set)
{
	struct dpi_vars *vars;
	struct dpi_set *s;
	struct pk_diag diag = { "out of memory" };
	int rc;

	*set = NULL;
	if (dpi_vars_create(&vars) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	rc = read_options(ctx, r, o, vars);
	if (rc != CTL_DONE) {
		dpi_vars_destroy(vars);
		return rc;
	}
	rc = dpi_set_create(&s, vars);
	if (rc < 0)
		return ctl_refused(ctx, "%s", diag.text);
	for (unsigned int i = 0; i < r->nb && rc >= 0; i++)
		rc = dpi_set_load(s, r->file[i], l, &diag);
	if (rc >= 0)
		rc = dpi_set_finish_with(s, o->platform, NULL, NULL, &diag);
	if (rc < 0) {
		dpi_set_destroy(s);
		return ctl_refused(ctx, "%s", diag.text);
	}
	*set = s;
	return CTL_DONE;
}

static void
on_alert(void *arg, const struct dpi_alert *a)
{
	struct report *p = arg;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT];

	if (p->rows != NULL) {
		ctl_rows_add(p->rows, dpi_eve_alert(a));
		return;
	}
	printf("packet %llu: [%u:%u:%u] %s  %s:%u -> %s:%u%s\n", (unsigned long long)a->frame->n,
	    a->sig->gid, a->sig->sid, a->sig->rev, a->sig->msg != NULL ? a->sig->msg : "",
	    pk_addr_text(&a->frame->src, src), a->frame->sport, pk_addr_text(&a->frame->dst, dst),
	    a->frame->dport, a->dropped ? "  dropped" : "");
}

/* A capture taken where the NIC computes checksums has none that are good: then they say nothing. */
static bool
checksums_mean_something(const char *path)
{
	struct ctl_capture *capture;
	struct ctl_packet packet;
	struct pk_diag diag;
	unsigned int n = 0, bad = 0;

	if (ctl_capture_open(&capture, path, &diag) < 0)
		return false;
	while (n < SAMPLE && ctl_capture_next(capture, &packet, &diag) > 0) {
		struct dpi_frame f = { .n = ++n };

		dpi_decode_link(&f, packet.link_type, packet.bytes, packet.len);
		bad += f.bad_checksum;
	}
	ctl_capture_close(capture);
	return bad * 10 <= n;
}

int
ctl_dpi_alerts(
    struct ctl_context *ctx, const struct ctl_dpi_rules *r, const char *path, struct ctl_rows *rows)
{
	struct report report = { ctx, rows };
	struct dpi_set_listener listener = { on_refused, &report };
	struct options o = { .checksum_auto = true,
		/* A capture may begin in the middle of anything. */
		.engine = { .midstream = true,
		    .depth = 1 << 20,
		    .detect = { .alert = on_alert, .arg = &report } } };
	struct dpi_engine *engine = NULL;
	struct ctl_capture *capture;
	struct ctl_packet packet;
	struct dpi_set *set;
	struct pk_diag diag;
	uint64_t n = 0;
	int status = load(ctx, r, &o, &listener, &set), rc;

	if (status != CTL_DONE)
		return status;
	if (o.checksum_auto)
		o.engine.checksums = checksums_mean_something(path) ? DPI_CHECKSUM_VERIFY
		                                                    : DPI_CHECKSUM_IGNORE;
	if (dpi_engine_create(&engine, set, &o.engine) < 0) {
		status = ctl_refused(ctx, "out of memory");
	} else if (ctl_capture_open(&capture, path, &diag) < 0) {
		status = ctl_refused(ctx, "%s", diag.text);
	} else {
		while ((rc = ctl_capture_next(capture, &packet, &diag)) > 0)
			dpi_engine_packet(engine, ++n, packet.time_ns, packet.link_type,
			    packet.bytes, packet.len);
		dpi_engine_end(engine);
		ctl_capture_close(capture);
		if (rc < 0)
			status = ctl_refused(ctx, "%s", diag.text);
	}
	dpi_engine_destroy(engine);
	dpi_set_destroy(set);
	dpi_http1_fini();
	return status;
}

int
ctl_dpi_signatures(struct ctl_context *ctx, const char *path, struct dpi_set **out)
{
	struct ctl_dpi_rules r = { .nb = 1 };
	struct options o = { .checksum_auto = true };
	struct report report = { ctx, NULL };
	struct dpi_set_listener listener = { on_refused, &report };
	struct pk_diag diag;

	if (!dpi_bundle_is(path)) {
		r.file[0] = path;
		return load(ctx, &r, &o, &listener, out);
	}
	if (dpi_bundle_read(out, path, NULL, &diag) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	return CTL_DONE;
}

/* ctl_dpi_rules_take() for the words of compile. */
static int
compile_word(
    struct ctl_dpi_rules *r, char **argv, const char **out, const char **key, const char **cpu)
{
	const char **to = strcmp(argv[0], "-o") == 0 ? out
	    : strcmp(argv[0], "--key") == 0          ? key
	    : strcmp(argv[0], "--cpu") == 0          ? cpu
	                                             : NULL;

	if (strcmp(argv[0], "--set") == 0)
		return ctl_dpi_rules_take(r, argv);
	if (to != NULL && argv[1] != NULL) {
		*to = argv[1];
		return 1;
	}
	if (argv[0][0] == '-')
		r->wrong = "takes files of rules, -o BUNDLE, --key FILE and --cpu KIND";
	else if (r->nb < CTL_DPI_RULES_MAX)
		r->file[r->nb++] = argv[0];
	else
		r->wrong = "too many files";
	return 0;
}

int
ctl_dpi_compile(struct ctl_context *ctx, int argc, char **argv)
{
	const char *out = NULL, *key = NULL, *cpu = "native";
	struct ctl_dpi_rules r = { .nb = 0 };
	struct options o = { .checksum_auto = true };
	struct report report = { ctx, NULL };
	struct dpi_set_listener listener = { on_refused, &report };
	hs_platform_info_t platform;
	struct dpi_set *set;
	struct pk_diag diag;
	int status;

	for (int i = 0; i < argc && r.wrong == NULL; i++)
		i += compile_word(&r, argv + i, &out, &key, &cpu);
	if (r.wrong != NULL || r.nb == 0 || out == NULL)
		return ctl_usage(ctx, "dpi compile: %s",
		    r.wrong != NULL ? r.wrong : "takes files of rules and -o BUNDLE");
	if (dpi_bundle_cpu(&platform, cpu) < 0)
		return ctl_usage(
		    ctx, "--cpu %s: known are native, sse4.2, avx2, avx512 and avx512vbmi", cpu);
	o.platform = strcmp(cpu, "native") == 0 ? NULL : &platform;
	status = load(ctx, &r, &o, &listener, &set);
	if (status != CTL_DONE)
		return status;
	if (dpi_bundle_write(set, out, key, &diag) < 0)
		status = ctl_refused(ctx, "%s", diag.text);
	else if (!ctx->json)
		printf("%s: %u rules, %u refused, %zu databases for %s%s\n", out, dpi_set_nb(set),
		    dpi_set_nb_refused(set), dpi_set_nb_databases(set), cpu,
		    key != NULL ? ", signed" : "");
	dpi_set_destroy(set);
	return status;
}

int
ctl_dpi_check(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "rules", "RULES" }, { "refused", "REFUSED" },
		{ "databases", "DATABASES" }, { "bytes", "BYTES" } };
	struct ctl_dpi_rules r = { .nb = 0 };
	struct options o = { .checksum_auto = true };
	struct report report = { ctx, NULL };
	struct dpi_set_listener listener = { on_refused, &report };
	struct dpi_set *set;
	int status;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--set") == 0)
			i += ctl_dpi_rules_take(&r, argv + i);
		else if (r.nb < CTL_DPI_RULES_MAX)
			r.file[r.nb++] = argv[i];
		else
			r.wrong = "too many files";
	}
	if (r.wrong != NULL || r.nb == 0)
		return ctl_usage(
		    ctx, "dpi check: %s", r.wrong != NULL ? r.wrong : "takes files of rules");
	report.rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	status = load(ctx, &r, &o, &listener, &set);
	if (status == CTL_DONE) {
		ctl_rows_add(report.rows,
		    json_pack("{s:s, s:I, s:I, s:I, s:I}", "type", "summary", "rules",
		        (json_int_t)dpi_set_nb(set), "refused", (json_int_t)dpi_set_nb_refused(set),
		        "databases", (json_int_t)dpi_set_nb_databases(set), "bytes",
		        (json_int_t)dpi_set_database_bytes(set)));
		if (dpi_set_nb_refused(set) > 0)
			status = CTL_REFUSED;
	}
	ctl_rows_end(report.rows);
	dpi_set_destroy(set);
	return status;
}
