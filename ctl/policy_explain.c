#include <stdio.h>
#include <string.h>

#include "ctl/policy_offline.h"
#include "policy/service.h"

static const char *
because(const struct policy_rule *r, char *buf, size_t size)
{
	if (r == NULL)
		return snprintf(buf, size, "no rule"), buf;
	if (r->flags & PK_RULE_DEFAULT)
		snprintf(buf, size, "default of %s", r->name);
	else
		snprintf(buf, size, "rule \"%s\" of policy \"%s\"  %s:%u", r->name, r->policy,
		    r->file, r->line);
	return buf;
}

static void
print_text(const struct policy_answer *a, const char *from, const char *to, const char *service)
{
	char why[512];

	printf("%s -> %s %s: %s\n", from, to, service, pk_verdict_name(a->verdict));
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		const struct policy_side *s = &a->side[d];

		if (!s->judged) {
			printf("  %-8s not judged: %s\n", pk_direction_name((unsigned int)d),
			    a->verdict == PK_VERDICT_ALLOW || a->rule != NULL
			        ? "this end has no policy here"
			        : "neither end is in the inventory");
			continue;
		}
		printf("  %-8s %-7s %s\n", pk_direction_name((unsigned int)d),
		    pk_verdict_name(s->verdict), because(s->rule, why, sizeof(why)));
		if (s->audit_rule != NULL)
			printf("  %-8s %-7s %s\n", "audit", pk_verdict_name(s->audit_verdict),
			    because(s->audit_rule, why, sizeof(why)));
	}
}

static json_t *
side_json(const struct policy_side *s)
{
	json_t *row = json_pack("{ss sb so}", "verdict", pk_verdict_name(s->verdict), "judged",
	    s->judged, "rule", ctl_offline_rule(s->rule));

	if (s->audit_rule != NULL) {
		json_object_set_new(
		    row, "audit_verdict", json_string(pk_verdict_name(s->audit_verdict)));
		json_object_set_new(row, "audit_rule", ctl_offline_rule(s->audit_rule));
	}
	return row;
}

static void
print_json(const struct policy_answer *a, const char *from, const char *to, const char *service)
{
	json_t *row = json_pack("{ss ss ss ss so so so}", "src", from, "dst", to, "service",
	    service, "verdict", pk_verdict_name(a->verdict), "egress",
	    side_json(&a->side[PK_EGRESS]), "ingress", side_json(&a->side[PK_INGRESS]), "rule",
	    ctl_offline_rule(a->rule));

	json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(row);
}

static int
explain(struct ctl_context *ctx, const struct policy_query *q, const char *const *words)
{
	struct policy_point points[POLICY_POINTS_MAX];
	char from[300], to[300], service[32];
	struct policy_end src, dst;
	struct policy_answer a;
	struct pk_diag diag;
	int n;

	if (policy_query_end(q, words[0], &src, &diag) < 0 ||
	    policy_query_end(q, words[1], &dst, &diag) < 0 ||
	    (n = policy_query_service(q, &src, &dst, words[2], points, &diag)) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	policy_query_end_text(q, &src, from, sizeof(from));
	policy_query_end_text(q, &dst, to, sizeof(to));
	for (int i = 0; i < n; i++) {
		struct pk_service s = { .proto = points[i].proto,
			.low = points[i].selector,
			.high = points[i].selector };

		if (policy_query_flow(q, &src, &dst, points[i], &a, &diag) < 0)
			return ctl_refused(ctx, "%s", diag.text);
		policy_service_text(service, sizeof(service), &s);
		(ctx->json ? print_json : print_text)(&a, from, to, service);
	}
	return CTL_DONE;
}

int
ctl_policy_explain(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	struct ctl_offline o;
	int rc = ctl_offline_args(ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_VERBOSE | CTL_OPT_AUDIT, &args);

	if (rc != 0)
		return rc;
	if (args.nb_paths == 0 || args.nb_words != 3 || args.probes != NULL)
		return ctl_usage(ctx,
		    "want --inventory and --policy, a source, a destination and a service; without files, picketctl explain asks the server");
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_ask(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0)
		rc = explain(ctx, o.query, args.words);
	ctl_offline_fini(&o);
	return rc;
}
