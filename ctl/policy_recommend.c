#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/flows.h"

/* From recorded flows to policies, which are tried out before anybody sees them. */

/* How many of the flows the new policies refuse, because of other documents in the inventory's files. */
static int
try_out(struct ctl_context *ctx, const struct ctl_offline_args *args, const char *yaml, size_t len,
    const struct ctl_flows *flows, size_t *refused)
{
	struct ctl_offline o;
	struct pk_diag why;
	int rc = ctl_offline_init(&o);

	*refused = 0;
	for (size_t i = 0; i < args->nb_paths && rc == 0; i++)
		rc = policy_model_add_path(o.model, args->paths[i], o.findings);
	if (rc == 0)
		rc = policy_model_add_text(o.model, "recommended", yaml, len, o.findings);
	if (rc == 0)
		rc = policy_compile(o.model, o.ids, &o.table, o.findings);
	if (rc == 0)
		rc = policy_query_create(&o.query, o.model, o.table, &why);
	if (rc < 0) {
		policy_findings_first(o.findings, &why);
		rc = ctl_refused(ctx, "what would be recommended is not accepted: %s", why.text);
	}
	for (size_t i = 0; i < flows->nb && rc == 0; i++) {
		const struct ctl_flow *f = &flows->at[i];
		struct policy_answer a;

		if (f->recorded == CTL_RECORDED_REFUSED ||
		    (f->flow.src.workload == UINT32_MAX && f->flow.dst.workload == UINT32_MAX))
			continue;
		if (policy_query_flow(
		        o.query, &f->flow.src, &f->flow.dst, f->flow.point, &a, &why) < 0 ||
		    a.verdict != PK_VERDICT_ALLOW)
			++*refused;
	}
	ctl_offline_fini(&o);
	return rc;
}

static int
recommend(struct ctl_context *ctx, const struct ctl_offline *o, const struct ctl_offline_args *args,
    const struct ctl_flows *flows)
{
	struct policy_flow *seen = calloc(flows->nb + 1, sizeof(seen[0]));
	struct policy_recommendation done;
	size_t nb = 0, len = 0, refused;
	char *yaml = NULL;
	struct pk_diag why;
	FILE *f = open_memstream(&yaml, &len);
	int rc = seen != NULL && f != NULL ? 0 : ctl_refused(ctx, "out of memory");

	for (size_t i = 0; i < flows->nb && rc == 0; i++)
		if (flows->at[i].recorded != CTL_RECORDED_REFUSED)
			seen[nb++] = flows->at[i].flow;
	if (rc == 0 &&
	    policy_recommend(o->model, o->query, seen, nb, args->labels, f, &done, &why) < 0)
		rc = ctl_refused(ctx, "%s", why.text);
	if (f != NULL && fclose(f) != 0 && rc == 0)
		rc = ctl_refused(ctx, "out of memory");
	if (rc == 0)
		rc = try_out(ctx, args, yaml, len, flows, &refused);
	if (rc == 0) {
		printf(
		    "# From %zu flows; %zu that were refused, %zu between strangers and %zu of a workload "
		    "with itself are left out.\n",
		    done.nb_used, flows->nb - nb, done.nb_outside, done.nb_own);
		fwrite(yaml, 1, len, stdout);
		if (refused > 0)
			rc = ctl_refused(ctx,
			    "%zu of these flows stay refused by policies in the files given; give only the inventory to replace them",
			    refused);
	}
	free(yaml);
	free(seen);
	return rc;
}

int
ctl_policy_recommend(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	struct ctl_flows flows = { 0 };
	struct ctl_offline o;
	int rc = ctl_offline_args(
	    ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_FLOWS | CTL_OPT_LABELS, &args);

	if (rc != 0)
		return rc;
	if (args.nb_paths == 0 || args.flows == NULL || args.nb_words > 0)
		return ctl_usage(ctx, "policy recommend goes with --inventory and --flows");
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_ask(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0)
		rc = ctl_flows_read(ctx, &o, args.flows, &flows);
	if (rc == 0)
		rc = recommend(ctx, &o, &args, &flows);
	ctl_flows_fini(&flows);
	ctl_offline_fini(&o);
	return rc;
}
