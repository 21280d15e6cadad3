#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/policy_reach.h"
#include "policy/app.h"
#include "policy/schedule.h"
#include "policy/service.h"
#include "policy/terms.h"
#include "policy/walk.h"

/* What a question needs at hand. */
struct explain {
	struct ctl_context *ctx;
	const struct ctl_offline *o;
	struct policy_connect *connect;
	int verbose;
	struct policy_steps way[PK_DIRECTION_COUNT];
};

static const char *
because(const struct policy_rule *r, char *buf, size_t size)
{
	char apps[256], terms[256], schedule[256];

	if (r == NULL)
		return snprintf(buf, size, "no rule"), buf;
	if (r->flags & PK_RULE_DEFAULT)
		snprintf(buf, size, "default of %s", r->name);
	else
		snprintf(buf, size, "rule \"%s\" of policy \"%s\"  %s:%u%s%s%s%s%s%s%s", r->name,
		    r->policy, r->file, r->line, r->nb_apps > 0 ? "  provided it speaks " : "",
		    policy_apps_text(apps, sizeof(apps), r->apps, r->nb_apps),
		    r->nb_apps > 1 ? " (one of these)" : "",
		    pk_rule_terms_any(&r->terms) ? "  with " : "",
		    policy_terms_text(terms, sizeof(terms), &r->terms),
		    r->schedule.days != 0 ? "  when " : "",
		    policy_schedule_text(schedule, sizeof(schedule), &r->schedule));
	return buf;
}

/* What lies on the way to the rule that decides; with -v also what was passed over, and why. */
static void
print_way(const struct explain *x, int d)
{
	char why[512];

	for (size_t i = 0; i < x->way[d].nb; i++) {
		const struct policy_step *s = &x->way[d].at[i];

		if (s->kind == POLICY_STEP_PASSED || s->kind == POLICY_STEP_AUDITED || x->verbose)
			printf("    %-14s %-7s %s: %s\n",
			    policy_tier_name(x->o->model, s->rule->tier),
			    pk_verdict_name(s->rule->verdict), because(s->rule, why, sizeof(why)),
			    policy_step_text(s->kind));
	}
}

static const char *
encryption_clause(unsigned int encryption)
{
	switch (encryption) {
	case PK_ENCRYPTION_NONE:
		return "";
	case PK_ENCRYPTION_REQUIRED:
		return ", encrypted";
	case PK_ENCRYPTION_IPSEC:
		return ", inside IPsec";
	case PK_ENCRYPTION_MTLS:
		return ", inside mutual TLS";
	default:
		return ", but one side wants IPsec and the other mutual TLS, so it drops";
	}
}

static void
print_text(const struct explain *x, const struct policy_answer *a, const char *from, const char *to,
    const char *service)
{
	char why[512];

	printf("%s -> %s %s: %s%s\n", from, to, service, pk_verdict_name(a->verdict),
	    encryption_clause(a->encryption));
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
		print_way(x, d);
		if (s->audit_rule != NULL)
			printf("  %-8s %-7s %s\n", "audit", pk_verdict_name(s->audit_verdict),
			    because(s->audit_rule, why, sizeof(why)));
	}
}

static json_t *
way_json(const struct explain *x, int d)
{
	json_t *list = json_array();

	for (size_t i = 0; i < x->way[d].nb; i++) {
		const struct policy_step *s = &x->way[d].at[i];
		json_t *step;

		if (!x->verbose &&
		    (s->kind == POLICY_STEP_PEER || s->kind == POLICY_STEP_SERVICE ||
		        s->kind == POLICY_STEP_SKIPPED))
			continue;
		step = ctl_offline_rule(s->rule);
		json_object_set_new(
		    step, "tier", json_string(policy_tier_name(x->o->model, s->rule->tier)));
		json_object_set_new(step, "action", json_string(pk_verdict_name(s->rule->verdict)));
		json_object_set_new(step, "outcome", json_string(policy_step_name(s->kind)));
		json_array_append_new(list, step);
	}
	return list;
}

static json_t *
side_json(const struct explain *x, int d, const struct policy_side *s)
{
	json_t *row = json_pack("{ss sb so}", "verdict", pk_verdict_name(s->verdict), "judged",
	    s->judged, "rule", ctl_offline_rule(s->rule));

	if (s->audit_rule != NULL) {
		json_object_set_new(
		    row, "audit_verdict", json_string(pk_verdict_name(s->audit_verdict)));
		json_object_set_new(row, "audit_rule", ctl_offline_rule(s->audit_rule));
	}
	json_object_set_new(row, "way", way_json(x, d));
	return row;
}

static void
print_json(const struct explain *x, const struct policy_answer *a, const char *from, const char *to,
    const char *service)
{
	json_t *row = json_pack("{ss ss ss ss so so so}", "src", from, "dst", to, "service",
	    service, "verdict", pk_verdict_name(a->verdict), "egress",
	    side_json(x, PK_EGRESS, &a->side[PK_EGRESS]), "ingress",
	    side_json(x, PK_INGRESS, &a->side[PK_INGRESS]), "rule", ctl_offline_rule(a->rule));

	if (a->encryption != PK_ENCRYPTION_NONE)
		json_object_set_new(
		    row, "encryption", json_string(policy_encryption_text(a->encryption)));
	json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(row);
}

static void
put_traffic(json_t *row, const struct policy_traffic *t, unsigned int families)
{
	char *conn = policy_traffic_text(t), *other = policy_traffic_others(t, families);

	PK_ASSERT(conn != NULL && other != NULL);
	json_object_set_new(row, "conn", json_string(conn));
	json_object_set_new(row, "other", json_string(other));
	free(conn);
	free(other);
}

/* All traffic between two ends, in pieces that the same two rules decide. */
static int
explain_all(struct explain *x, const char *from, const char *to, const uint32_t classes[2],
    unsigned int family)
{
	struct policy_pieces pieces = { 0 };
	unsigned int bit = family == 4 ? 1 : 2;
	char why[512];

	if (policy_partition(x->connect, classes[0], classes[1], family, &pieces) < 0) {
		policy_pieces_fini(&pieces);
		return ctl_refused(x->ctx, "out of memory");
	}
	if (!x->ctx->json)
		printf("%s -> %s\n", from, to);
	for (size_t i = 0; i < pieces.nb; i++) {
		const struct policy_piece *p = &pieces.at[i];
		enum pk_verdict v = p->verdict[PK_EGRESS] != PK_VERDICT_ALLOW
		    ? p->verdict[PK_EGRESS]
		    : p->verdict[PK_INGRESS];
		json_t *row =
		    json_pack("{ss ss ss}", "src", from, "dst", to, "verdict", pk_verdict_name(v));

		put_traffic(row, &p->traffic, bit);
		for (int d = 0; d < PK_DIRECTION_COUNT; d++)
			json_object_set_new(row, pk_direction_name((unsigned int)d),
			    json_pack("{ss so}", "verdict", pk_verdict_name(p->verdict[d]), "rule",
			        ctl_offline_rule(p->rule[d])));
		if (x->ctx->json) {
			json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
			putchar('\n');
		} else {
			const char *other = json_string_value(json_object_get(row, "other"));

			printf("  %-7s %s%s%s\n", pk_verdict_name(v),
			    json_string_value(json_object_get(row, "conn")),
			    other[0] != '\0' ? "; other protocols: " : "", other);
			for (int d = 0; d < PK_DIRECTION_COUNT; d++)
				printf("    %-8s %-7s %s\n", pk_direction_name((unsigned int)d),
				    pk_verdict_name(p->verdict[d]),
				    p->rule[d] != NULL ? because(p->rule[d], why, sizeof(why))
				                       : "this end has no policy here");
		}
		json_decref(row);
	}
	policy_pieces_fini(&pieces);
	return CTL_DONE;
}

static int
explain_point(struct explain *x, const struct policy_end *src, const struct policy_end *dst,
    const uint32_t classes[2], struct policy_point point, const char *from, const char *to)
{
	struct pk_service s = {
		.proto = point.proto, .low = point.selector, .high = point.selector
	};
	struct policy_answer a;
	struct pk_diag diag;
	char service[32];

	if (policy_query_flow(x->o->query, src, dst, point, &a, &diag) < 0)
		return ctl_refused(x->ctx, "%s", diag.text);
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		x->way[d].nb = 0;
		if (a.side[d].judged &&
		    policy_walk(x->connect, (enum pk_direction)d, classes[d], classes[1 - d],
		        point.proto, point.selector, &x->way[d]) < 0)
			return ctl_refused(x->ctx, "out of memory");
	}
	policy_service_text(service, sizeof(service), &s);
	(x->ctx->json ? print_json : print_text)(x, &a, from, to, service);
	return CTL_DONE;
}

static int
explain(struct explain *x, const char *const *words, size_t nb)
{
	const struct policy_query *q = x->o->query;
	struct policy_point points[POLICY_POINTS_MAX];
	char from[300], to[300];
	struct policy_end src, dst;
	unsigned int family;
	uint32_t classes[2];
	struct pk_diag diag;
	int n = 0, rc = CTL_DONE;

	if (policy_query_end(q, words[0], &src, &diag) < 0 ||
	    policy_query_end(q, words[1], &dst, &diag) < 0 ||
	    policy_query_classes(q, x->connect, &src, &dst, classes, &family, &diag) < 0 ||
	    (nb == 3 && (n = policy_query_service(q, &src, &dst, words[2], points, &diag)) < 0))
		return ctl_refused(x->ctx, "%s", diag.text);
	policy_query_end_text(q, &src, from, sizeof(from));
	policy_query_end_text(q, &dst, to, sizeof(to));
	if (nb == 2 && src.workload == dst.workload)
		return ctl_refused(x->ctx,
		    src.workload != UINT32_MAX
		        ? "a workload talks to itself without a policy seeing it"
		        : "neither end is in the inventory, so nobody vouches for any flow");
	if (nb == 2)
		return explain_all(x, from, to, classes, family);
	for (int i = 0; i < n && rc == CTL_DONE; i++)
		rc = explain_point(x, &src, &dst, classes, points[i], from, to);
	return rc;
}

int
ctl_policy_explain(struct ctl_context *ctx, int argc, char **argv)
{
	struct policy_pool *pool = NULL;
	struct ctl_offline_args args;
	struct explain x = { .ctx = ctx };
	struct ctl_offline o;
	int64_t at_s = PK_TIME_ANY;
	struct pk_diag diag;
	int rc =
	    ctl_offline_args(ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_VERBOSE | CTL_OPT_AT, &args);

	if (rc != 0)
		return rc;
	if (args.nb_paths == 0 || (args.nb_words != 3 && args.nb_words != 2))
		return ctl_usage(ctx,
		    "want --inventory and --policy, a source, a destination and perhaps a service; without files, picketctl explain asks the server");
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	if (args.at != NULL && policy_schedule_moment(args.at, &at_s, &diag) < 0)
		rc = ctl_refused(ctx, "%s", diag.text);
	if (rc == 0)
		rc = ctl_offline_ask(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0)
		policy_query_at(o.query, at_s);
	if (rc == 0 &&
	    ((pool = policy_pool_create()) == NULL ||
	        policy_connect_create(&x.connect, o.table, pool) < 0))
		rc = ctl_refused(ctx, "out of memory");
	x.o = &o;
	x.verbose = args.verbose;
	if (rc == 0)
		rc = explain(&x, args.words, args.nb_words);
	free(x.way[PK_EGRESS].at);
	free(x.way[PK_INGRESS].at);
	policy_connect_destroy(x.connect);
	policy_pool_destroy(pool);
	ctl_offline_fini(&o);
	return rc;
}
