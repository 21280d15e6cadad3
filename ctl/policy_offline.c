#include "ctl/policy_offline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct ctl_command ctl_policy_commands[] = {
	{ "policy check", "[--inventory FILE]... FILE...",
	    "read policy files, report what is wrong with them, run their tests",
	    ctl_policy_check },
	{ "policy eval", "--inventory FILE --policy PATH --probes FILE",
	    "judge many flows, one JSON line each", ctl_policy_eval },
	{ "policy explain", "--inventory FILE --policy PATH SRC DST SERVICE",
	    "say which rule in these files decides about a flow", ctl_policy_explain },
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
ctl_offline_ask(struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb)
{
	struct pk_diag diag;
	int rc = ctl_offline_load(o, paths, nb);

	ctl_offline_print(ctx, o->findings, 1);
	if (rc == -ENOMEM)
		return ctl_refused(ctx, "out of memory");
	if (rc < 0)
		return CTL_REFUSED;
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
		int error;

		if (e == NULL)
			break; /* repetitions were dropped */
		error = e->severity == POLICY_ERROR;
		if (to_stderr || !ctx->json) {
			pk_diag_at(&sentence, e->file, e->line, e->column, "%s%s",
			    error ? "" : "warning: ", e->text);
			fprintf(to_stderr ? stderr : stdout, "%s\n", sentence.text);
			continue;
		}
		row = json_pack("{ss ss ss sI sI ss ss}", "type", "finding", "severity",
		    error ? "error" : "warning", "file", e->file, "line", (json_int_t)e->line,
		    "column", (json_int_t)e->column, "code", e->code, "text", e->text);
		/* NULL when a text quotes bytes that are not UTF-8, as a path may hold. */
		if (row == NULL)
			row = json_pack("{ss ss ss}", "type", "finding", "severity",
			    error ? "error" : "warning", "code", e->code);
		json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(row);
	}
}

json_t *
ctl_offline_rule(const struct policy_rule *r)
{
	if (r == NULL)
		return json_null();
	return json_pack("{ss ss ss sI}", "policy", r->policy, "name", r->name, "file", r->file,
	    "line", (json_int_t)r->line);
}

/* "--policy x" and "--policy=x".  Returns the value, NULL if argv[*i] is another word. */
static const char *
option(const char *name, int argc, char **argv, int *i, int *missing)
{
	size_t len = strlen(name);

	if (strncmp(argv[*i], name, len) != 0)
		return NULL;
	if (argv[*i][len] == '=')
		return argv[*i] + len + 1;
	if (argv[*i][len] != '\0')
		return NULL;
	if (*i + 1 >= argc) {
		*missing = 1;
		return NULL;
	}
	return argv[++*i];
}

int
ctl_offline_args(struct ctl_context *ctx, int argc, char **argv, struct ctl_offline_args *out)
{
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < argc; i++) {
		int missing = 0, start = i;
		const char *value = option("--inventory", argc, argv, &i, &missing);

		if (value == NULL && !missing)
			value = option("--policy", argc, argv, &i, &missing);
		if (value != NULL) {
			if (out->nb_paths == CTL_PATHS_MAX)
				return ctl_usage(ctx, "more than %d files", CTL_PATHS_MAX);
			out->paths[out->nb_paths++] = value;
			continue;
		}
		if (!missing && (value = option("--probes", argc, argv, &i, &missing)) != NULL) {
			out->probes = value;
			continue;
		}
		if (missing)
			return ctl_usage(ctx, "%s goes with a file", argv[start]);
		if (strcmp(argv[i], "-j") == 0) {
			ctx->json = true;
		} else if (argv[i][0] == '-' && argv[i][1] != '\0') {
			static const char *const known[] = { "--inventory", "--policy", "--probes",
				"-j" };
			const char *near = pk_suggest(argv[i], known, PK_COUNT(known));

			return ctl_usage(ctx, "unknown option %s%s%s%s", argv[i],
			    near != NULL ? "; did you mean " : "", near != NULL ? near : "",
			    near != NULL ? "?" : "");
		} else if (out->nb_words == CTL_PATHS_MAX) {
			return ctl_usage(
			    ctx, "more than %d words; name a directory instead", CTL_PATHS_MAX);
		} else {
			out->words[out->nb_words++] = argv[i];
		}
	}
	return 0;
}
