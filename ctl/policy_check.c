#include <errno.h>
#include <stdio.h>

#include "ctl/policy_offline.h"
#include "policy/lint.h"

static void
print_summary(const struct ctl_context *ctx, const struct ctl_offline *o, unsigned int passed,
    unsigned int failed)
{
	size_t errors = policy_findings_count(o->findings, POLICY_ERROR);
	size_t warnings = policy_findings_count(o->findings, POLICY_WARNING);
	size_t notes = policy_findings_count(o->findings, POLICY_NOTE);
	char more[32] = "";
	json_t *row;

	if (!ctx->json) {
		if (notes > 0)
			snprintf(more, sizeof(more), ", %zu note%s", notes, notes == 1 ? "" : "s");
		printf("%zu error%s, %zu warning%s%s, %u of %u test%s passed\n", errors,
		    errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s", more, passed,
		    passed + failed, passed + failed == 1 ? "" : "s");
		return;
	}
	row = json_pack("{ss sI sI sI s{sI sI}}", "type", "summary", "errors", (json_int_t)errors,
	    "warnings", (json_int_t)warnings, "notes", (json_int_t)notes, "tests", "passed",
	    (json_int_t)passed, "failed", (json_int_t)failed);
	json_dumpf(row, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(row);
}

int
ctl_policy_check(struct ctl_context *ctx, int argc, char **argv)
{
	unsigned int passed = 0, failed = 0;
	struct ctl_offline_args args;
	struct ctl_offline o;
	int rc = ctl_offline_args(ctx, argc, argv, CTL_OPT_POLICY, &args);

	if (rc != 0)
		return rc;
	if (args.nb_words + args.nb_paths == 0)
		return ctl_usage(ctx, "policy check goes with files or directories");
	if (args.nb_words + args.nb_paths > CTL_PATHS_MAX)
		return ctl_usage(ctx, "policy check takes files and --inventory");
	for (size_t i = 0; i < args.nb_words; i++)
		args.paths[args.nb_paths++] = args.words[i];
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_load(&o, args.paths, args.nb_paths);
	if (rc == 0)
		rc = policy_lint(o.model, o.table, o.findings);
	if (rc == 0)
		rc = policy_run_tests(o.model, o.table, o.findings, &passed, &failed);
	if (rc == -ENOMEM) {
		rc = ctl_refused(ctx, "out of memory");
	} else {
		ctl_offline_print(ctx, o.findings, 0);
		print_summary(ctx, &o, passed, failed);
		rc = rc == 0 ? CTL_DONE : CTL_REFUSED;
	}
	ctl_offline_fini(&o);
	return rc;
}
