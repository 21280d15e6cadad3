#include <stdio.h>
#include <string.h>

#include "ctl/flows.h"
#include "policy/service.h"

/* Which recorded flows a change of policy would treat otherwise. */

static const struct ctl_column columns[] = {
	{ "before", "BEFORE" },
	{ "after", "AFTER" },
	{ "src", "SRC" },
	{ "dst", "DST" },
	{ "service", "SERVICE" },
	{ "count", "TIMES" },
	{ "place", "BY" },
	{ "rule", NULL },
};

static json_t *
place_of(const struct policy_rule *r)
{
	if (r == NULL)
		return json_string("");
	if (r->flags & PK_RULE_DEFAULT)
		return json_sprintf("default of %s", r->name);
	return json_sprintf("%s/%s %s:%u", r->policy, r->name, r->file, r->line);
}

/* The verdict of the files in `o`; a flow that cannot be is not allowed either. */
static enum pk_verdict
judge(const struct ctl_offline *o, const struct policy_flow *f, const struct policy_rule **rule)
{
	struct policy_answer a;
	struct pk_diag why;

	*rule = NULL;
	if (policy_query_flow(o->query, &f->src, &f->dst, f->point, &a, &why) < 0)
		return PK_VERDICT_DENY;
	*rule = a.rule;
	return a.verdict;
}

/* Ends are numbers of one query, so a flow is looked up again in the other. */
static int
in_base(const struct ctl_offline *base, const struct ctl_flow *f, struct policy_flow *out)
{
	struct pk_diag why;

	*out = f->flow;
	return policy_query_end(base->query, f->src, &out->src, &why) == 0 &&
	    policy_query_end(base->query, f->dst, &out->dst, &why) == 0;
}

static int
impact(struct ctl_context *ctx, const struct ctl_offline *o, const struct ctl_offline *base,
    const struct ctl_flows *flows, const char *path)
{
	struct ctl_rows *rows;
	unsigned int changed = 0;
	json_t *row;

	for (size_t i = 0; i < flows->nb && base == NULL; i++)
		if (flows->at[i].recorded == CTL_RECORDED_UNKNOWN)
			return ctl_refused(ctx,
			    "%s:%u: this flow has no verdict to compare with; give it one, or name the policies before with --base",
			    path, flows->at[i].line);
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	for (size_t i = 0; i < flows->nb; i++) {
		const struct ctl_flow *f = &flows->at[i];
		struct pk_service s = { .proto = f->flow.point.proto,
			.low = f->flow.point.selector,
			.high = f->flow.point.selector };
		const struct policy_rule *rule, *unused;
		enum pk_verdict after = judge(o, &f->flow, &rule), before;
		struct policy_flow old;
		char service[32];

		before = f->recorded == CTL_RECORDED_ALLOWED ? PK_VERDICT_ALLOW : PK_VERDICT_DENY;
		if (base != NULL)
			before = in_base(base, f, &old) ? judge(base, &old, &unused)
			                                : PK_VERDICT_DENY;
		/* The log does not tell how something was refused. */
		if ((before == PK_VERDICT_ALLOW) == (after == PK_VERDICT_ALLOW) &&
		    (base == NULL || before == after))
			continue;
		changed++;
		row = json_pack("{ss ss ss ss ss sI so so}", "before", pk_verdict_name(before),
		    "after", pk_verdict_name(after), "src", f->src, "dst", f->dst, "service",
		    policy_service_text(service, sizeof(service), &s), "count",
		    (json_int_t)f->count, "place", place_of(rule), "rule", ctl_offline_rule(rule));
		ctl_rows_add(rows, row);
	}
	ctl_rows_end(rows);
	if (!ctx->json)
		printf("%u of %zu flows would be treated otherwise\n", changed, flows->nb);
	return changed > 0 ? CTL_REFUSED : CTL_DONE;
}

int
ctl_policy_impact(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline o = { 0 }, base = { 0 };
	struct ctl_offline_args args;
	struct ctl_flows flows = { 0 };
	const char *paths[2 * CTL_PATHS_MAX];
	size_t nb = 0;
	int rc =
	    ctl_offline_args(ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_BASE | CTL_OPT_FLOWS, &args);

	if (rc != 0)
		return rc;
	if (args.nb_paths == 0 || args.flows == NULL || args.nb_words > 0)
		return ctl_usage(ctx, "policy impact goes with --inventory, --policy and --flows");
	/* Before: the same inventory, with --base in place of --policy. */
	for (size_t i = 0; i < args.nb_paths; i++)
		if (args.is_inventory[i])
			paths[nb++] = args.paths[i];
	for (size_t i = 0; i < args.nb_base; i++)
		paths[nb++] = args.base[i];
	rc = ctl_offline_init(&o) < 0 || ctl_offline_init(&base) < 0
	    ? ctl_refused(ctx, "out of memory")
	    : ctl_offline_ask(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0 && args.nb_base > 0)
		rc = ctl_offline_ask(ctx, &base, paths, nb);
	if (rc == 0)
		rc = ctl_flows_read(ctx, &o, args.flows, &flows);
	if (rc == 0)
		rc = impact(ctx, &o, args.nb_base > 0 ? &base : NULL, &flows, args.flows);
	ctl_flows_fini(&flows);
	ctl_offline_fini(&o);
	ctl_offline_fini(&base);
	return rc;
}
