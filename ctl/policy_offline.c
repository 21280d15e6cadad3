#include "ctl/policy_offline.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "policy/app.h"
#include "policy/schedule.h"

const struct ctl_command ctl_policy_commands[] = {
	{ "policy check", "[--inventory FILE]... FILE...",
	    "read policy files, report what is wrong with them or odd, run their tests",
	    ctl_policy_check },
	{ "policy eval", "--inventory FILE --policy PATH --probes FILE",
	    "judge many flows, one JSON line each", ctl_policy_eval },
	{ "policy explain", "--inventory FILE --policy PATH [-v] [--at MOMENT] SRC DST [SERVICE]",
	    "say which rule in these files decides about a flow, or about each part of all traffic",
	    ctl_policy_explain },
	{ "policy reach",
	    "--inventory FILE --policy PATH [--from END] [--to END] [--service SERVICE] [--by workload|labels] [--audit] [-o table|json|csv|dot]",
	    "who can reach whom on what", ctl_policy_reach },
	{ "policy exposure",
	    "--inventory FILE --policy PATH [--by workload|labels] [-o table|json|csv|dot]",
	    "what is open to, and can reach, those who are not in the inventory",
	    ctl_policy_exposure },
	{ "policy diff",
	    "[--inventory FILE]... [--from END] [--to END] [--by workload|labels] [-o table|json|csv|dot] PATH PATH",
	    "how connectivity changes from one set of files to the other; 1 if it does",
	    ctl_policy_diff },
	{ "policy impact", "--inventory FILE [--base PATH]... --policy PATH --flows LOG",
	    "which recorded flows these files would treat otherwise; 1 if there are any",
	    ctl_policy_impact },
	{ "policy recommend", "--inventory FILE [--labels KEY,KEY...] --flows LOG",
	    "write policies that allow the recorded flows and nothing else", ctl_policy_recommend },
	{ NULL, NULL, NULL, NULL },
};

int
ctl_offline_init(struct ctl_offline *o)
{
	int rc;

	memset(o, 0, sizeof(*o));
	rc = policy_findings_create(&o->findings);
	if (rc == 0)
		rc = policy_model_create(&o->model);
	if (rc == 0)
		rc = policy_ids_create(&o->ids);
	if (rc < 0)
		ctl_offline_fini(o);
	return rc;
}

void
ctl_offline_fini(struct ctl_offline *o)
{
	policy_query_destroy(o->query);
	policy_table_destroy(o->table);
	policy_ids_destroy(o->ids);
	policy_model_destroy(o->model);
	policy_findings_destroy(o->findings);
	memset(o, 0, sizeof(*o));
}

int
ctl_offline_load(struct ctl_offline *o, const char *const *paths, size_t nb)
{
	int rc = 0, one;

	/* All files are read even if one is bad, so that everything is said at once. */
	for (size_t i = 0; i < nb && rc != -ENOMEM; i++) {
		one = policy_model_add_path(o->model, paths[i], o->findings);
		rc = one < 0 ? one : rc;
	}
	return rc == 0 ? policy_compile(o->model, o->ids, &o->table, o->findings) : rc;
}

int
ctl_offline_read(
    struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb)
{
	int rc = ctl_offline_load(o, paths, nb);

	ctl_offline_print(ctx, o->findings, 1);
	if (rc == -ENOMEM)
		return ctl_refused(ctx, "out of memory");
	return rc < 0 ? CTL_REFUSED : 0;
}

int
ctl_offline_ask(struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb)
{
	struct pk_diag diag;
	int rc = ctl_offline_read(ctx, o, paths, nb);

	if (rc != 0)
		return rc;
	if (policy_query_create(&o->query, o->model, o->table, &diag) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	return 0;
}

void
ctl_offline_print(const struct ctl_context *ctx, struct policy_findings *f, int to_stderr)
{
	struct pk_diag sentence;
	json_t *row;

	for (size_t i = 0; i < policy_findings_total(f); i++) {
		const struct policy_finding *e = policy_findings_get(f, i);
		if (e == NULL)
			break; /* repetitions were dropped */
		if (to_stderr || !ctx->json) {
			pk_diag_at(&sentence, e->file, e->line, e->column, "%s%s%s",
			    e->severity == POLICY_ERROR ? "" : policy_severity_name(e->severity),
			    e->severity == POLICY_ERROR ? "" : ": ", e->text);
			fprintf(to_stderr ? stderr : stdout, "%s\n", sentence.text);
			continue;
		}
		row = json_pack("{ss ss ss sI sI ss ss}", "type", "finding", "severity",
		    policy_severity_name(e->severity), "file", e->file, "line", (json_int_t)e->line,
		    "column", (json_int_t)e->column, "code", e->code, "text", e->text);
		/* NULL when a text quotes bytes that are not UTF-8, as a path may hold. */
		if (row == NULL)
			row = json_pack("{ss ss ss}", "type", "finding", "severity",
			    policy_severity_name(e->severity), "code", e->code);
		json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(row);
	}
}

json_t *
ctl_offline_apps(const struct policy_rule *r)
{
	json_t *apps = json_array();

	for (uint32_t i = 0; i < r->nb_apps; i++)
		json_array_append_new(apps, json_string(policy_app_name(r->apps[i])));
	return apps;
}

static void
put_limit(json_t *row, const struct pk_rule_terms *t)
{
	json_t *limit = json_object();

	if (t->sessions_per_s != 0)
		json_object_set_new(limit, "newConnections", json_integer(t->sessions_per_s));
	if (t->packets_per_s != 0)
		json_object_set_new(limit, "packets", json_integer(t->packets_per_s));
	if (t->bytes_per_s != 0)
		json_object_set_new(limit, "bytes", json_integer((json_int_t)t->bytes_per_s));
	if (json_object_size(limit) > 0)
		json_object_set(row, "limit", limit);
	json_decref(limit);
}

json_t *
ctl_offline_rule(const struct policy_rule *r)
{
	char schedule[256];
	json_t *row;

	if (r == NULL)
		return json_null();
	row = json_pack("{ss ss ss sI}", "policy", r->policy, "name", r->name, "file", r->file,
	    "line", (json_int_t)r->line);
	if (r->nb_apps > 0)
		json_object_set_new(row, "app", ctl_offline_apps(r));
	if (r->terms.encryption != PK_ENCRYPTION_NONE)
		json_object_set_new(
		    row, "encryption", json_string(pk_encryption_name(r->terms.encryption)));
	if (r->terms.inspect != PK_INSPECT_NONE) {
		json_object_set_new(row, "inspect", json_string(pk_inspect_name(r->terms.inspect)));
		json_object_set_new(
		    row, "fail", json_string(r->terms.fail_open ? "open" : "closed"));
	}
	if (r->terms.dscp != 0)
		json_object_set_new(row, "dscp", json_integer(r->terms.dscp & PK_DSCP_MAX));
	put_limit(row, &r->terms);
	if (r->schedule.days != 0)
		json_object_set_new(row, "schedule",
		    json_string(policy_schedule_text(schedule, sizeof(schedule), &r->schedule)));
	return row;
}

/* ---- words --------------------------------------------------------------------------------------- */

struct option {
	const char *name;
	unsigned int of;  /* enum ctl_offline_option */
	const char *goes; /* with what; NULL: it stands alone */
	size_t offset;    /* of the const char * or int */
};
#define VALUE(name, of, goes, field)                                     \
	{                                                                \
		name, of, goes, offsetof(struct ctl_offline_args, field) \
	}

static const struct option options_[] = {
	VALUE("--inventory", CTL_OPT_POLICY, "a file", paths),
	VALUE("--policy", CTL_OPT_POLICY, "a file or directory", paths),
	VALUE("--base", CTL_OPT_BASE, "a file or directory", base),
	VALUE("--probes", CTL_OPT_PROBES, "a file", probes),
	VALUE("--from", CTL_OPT_ENDS, "a workload, label, address or \"outside\"", from),
	VALUE("--to", CTL_OPT_ENDS, "a workload, label, address or \"outside\"", to),
	VALUE("--service", CTL_OPT_ENDS, "a service", service),
	VALUE("-o", CTL_OPT_OUTPUT, "table, json, csv or dot", output),
	VALUE("--by", CTL_OPT_GROUPING, "workload or labels", by),
	VALUE("--flows", CTL_OPT_FLOWS, "a file", flows),
	VALUE("--at", CTL_OPT_AT, "a moment", at),
	VALUE("--labels", CTL_OPT_LABELS, "keys of labels", labels),
	VALUE("--audit", CTL_OPT_AUDIT, NULL, audit),
	VALUE("-v", CTL_OPT_VERBOSE, NULL, verbose),
};

/* The row that argv[*i] is of, with its value in *value; NULL if it is another word. */
static const struct option *
find_option(unsigned int options, int argc, char **argv, int *i, const char **value, int *missing)
{
	*value = NULL;
	for (size_t k = 0; k < PK_COUNT(options_); k++) {
		const struct option *o = &options_[k];
		size_t len = strlen(o->name);

		if (!(options & o->of) || strncmp(argv[*i], o->name, len) != 0)
			continue;
		if (argv[*i][len] == '=' && o->goes != NULL) {
			*value = argv[*i] + len + 1;
			return o;
		}
		if (argv[*i][len] != '\0')
			continue;
		*missing = o->goes != NULL && *i + 1 >= argc;
		if (o->goes != NULL && !*missing)
			*value = argv[++*i];
		return o;
	}
	return NULL;
}

static int
unknown_option(const struct ctl_context *ctx, unsigned int options, const char *word)
{
	const char *known[PK_COUNT(options_) + 1] = { "-j" }, *near;
	size_t nb = 1;

	for (size_t k = 0; k < PK_COUNT(options_); k++)
		if (options & options_[k].of)
			known[nb++] = options_[k].name;
	near = pk_suggest(word, known, nb);
	return ctl_usage(ctx, "unknown option %s%s%s%s", word,
	    near != NULL ? "; did you mean " : "", near != NULL ? near : "",
	    near != NULL ? "?" : "");
}

int
ctl_offline_args(struct ctl_context *ctx, int argc, char **argv, unsigned int options,
    struct ctl_offline_args *out)
{
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < argc; i++) {
		const struct option *o;
		const char *value;
		int missing = 0;

		if (strcmp(argv[i], "-j") == 0) {
			ctx->json = true;
			continue;
		}
		o = find_option(options, argc, argv, &i, &value, &missing);
		if (missing)
			return ctl_usage(ctx, "%s goes with %s", o->name, o->goes);
		if (o != NULL && o->of == CTL_OPT_POLICY) {
			if (out->nb_paths == CTL_PATHS_MAX)
				return ctl_usage(ctx, "more than %d files", CTL_PATHS_MAX);
			out->is_inventory[out->nb_paths] = strcmp(o->name, "--inventory") == 0;
			out->paths[out->nb_paths++] = value;
		} else if (o != NULL && o->of == CTL_OPT_BASE) {
			if (out->nb_base == CTL_PATHS_MAX)
				return ctl_usage(ctx, "more than %d files", CTL_PATHS_MAX);
			out->base[out->nb_base++] = value;
		} else if (o != NULL && o->goes != NULL) {
			memcpy((char *)out + o->offset, &value, sizeof(value));
		} else if (o != NULL) {
			*(int *)(void *)((char *)out + o->offset) = 1;
		} else if (argv[i][0] == '-' && argv[i][1] != '\0') {
			return unknown_option(ctx, options, argv[i]);
		} else if (out->nb_words == CTL_PATHS_MAX) {
			return ctl_usage(
			    ctx, "more than %d words; name a directory instead", CTL_PATHS_MAX);
		} else {
			out->words[out->nb_words++] = argv[i];
		}
	}
	return 0;
}
