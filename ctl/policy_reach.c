#include "ctl/policy_reach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/service.h"

const char *
ctl_families_text(unsigned int families)
{
	return families == 3 ? "both" : families == 2 ? "ipv6" : "ipv4";
}

void
ctl_texts_fini(struct ctl_texts *t)
{
	for (size_t i = 0; i < t->at.nb; i++)
		free(t->at.at[i]);
	free(t->at.at);
	policy_pairs_fini(&t->index);
	memset(t, 0, sizeof(*t));
}

void
ctl_texts_put(struct ctl_texts *t, json_t *row, const char *key, const char *other_key,
    const struct policy_pool *pool, uint32_t id, unsigned int families)
{
	uint32_t i = policy_pairs_get(&t->index, id, families);

	if (i == UINT32_MAX) {
		char *texts[] = { policy_traffic_text(policy_pool_get(pool, id)),
			policy_traffic_others(policy_pool_get(pool, id), families) };

		i = (uint32_t)t->at.nb;
		for (size_t k = 0; k < PK_COUNT(texts); k++) {
			char **slot = POLICY_PUSH(&t->at);

			PK_ASSERT(slot != NULL && texts[k] != NULL);
			*slot = texts[k];
		}
		PK_ASSERT(policy_pairs_put(&t->index, id, families, i) == 0);
	}
	json_object_set_new(row, key, json_string(t->at.at[i]));
	json_object_set_new(row, other_key, json_string(t->at.at[i + 1]));
}

int
ctl_grouping_parse(const struct ctl_context *ctx, const char *text, enum policy_grouping *out)
{
	*out = text != NULL && strcmp(text, "labels") == 0 ? POLICY_BY_LABELS : POLICY_BY_WORKLOAD;
	if (text == NULL || strcmp(text, "labels") == 0 || strcmp(text, "workload") == 0)
		return 0;
	return ctl_usage(ctx, "unknown grouping \"%s\"; want workload or labels", text);
}

int
ctl_choose(const struct ctl_context *ctx, const struct policy_reach *r, const char *text,
    struct policy_choice *out)
{
	struct pk_diag diag = { "out of memory" };

	*out = (struct policy_choice){ .outside = 1 };
	if (text == NULL || policy_reach_choose(r, text, out, &diag) == 0)
		return 0;
	return ctl_refused(ctx, "%s", diag.text);
}

static const struct ctl_column columns[] = {
	{ "src", "SRC" },
	{ "dst", "DST" },
	{ "conn", "CONNECTIONS" },
	{ "other", "OTHER PROTOCOLS" },
	{ "family", "FAMILY" },
};

struct print {
	struct ctl_report *report;
	struct ctl_texts texts;
	struct policy_pool *pool;
	uint32_t only; /* the service asked for, or NONE */
};

static int
print_row(void *arg, const struct policy_reach_row *row)
{
	char src[POLICY_REACH_TEXT], dst[POLICY_REACH_TEXT];
	struct print *p = arg;
	uint32_t id = row->allowed[0];
	json_t *out;

	if (p->only != POLICY_POOL_NONE)
		id = policy_pool_and(p->pool, id, p->only);
	if (id == POLICY_POOL_NONE)
		return -ENOMEM;
	if (id == POLICY_POOL_EMPTY)
		return 0;
	out = json_pack("{ss ss}", "src", policy_reach_end_text(row, 0, src), "dst",
	    policy_reach_end_text(row, 1, dst));
	ctl_texts_put(&p->texts, out, "conn", "other", p->pool, id, row->families);
	json_object_set_new(out, "family", json_string(ctl_families_text(row->families)));
	ctl_report_add(p->report, out);
	return 0;
}

/*
 * A service by itself, of no destination: its numbers, or those of a Service of tenant `default`.  Named
 * ports differ from destination to destination, and so have no meaning here.
 */
static int
parse_service(
    const struct ctl_context *ctx, const char *text, struct policy_pool *pool, uint32_t *out)
{
	struct policy_service_ref ref;
	struct policy_rule rule = { 0 };
	struct policy_traffic t = { 0 };
	struct pk_diag diag;

	*out = POLICY_POOL_NONE;
	if (text == NULL)
		return 0;
	if (policy_service_parse(&ref, text, &diag) < 0)
		return ctl_refused(ctx, "%s", diag.text);
	if (ref.kind != POLICY_SERVICE_LITERAL)
		return ctl_refused(ctx,
		    "--service wants a built-in service or a number, such as https or tcp/8443, not \"%s\"",
		    text);
	rule.nb_services = policy_services_normalise(ref.at, ref.nb);
	rule.services = ref.at;
	if (policy_traffic_of_rule(&t, &rule) == 0)
		*out = policy_pool_put(pool, &t);
	policy_traffic_fini(&t);
	return *out != POLICY_POOL_NONE ? 0 : ctl_refused(ctx, "out of memory");
}

static int
reach(struct ctl_context *ctx, const struct ctl_offline *o, const struct ctl_offline_args *args,
    enum ctl_format format, enum policy_grouping grouping)
{
	struct policy_world world = { .model = o->model, .table = o->table };
	struct policy_choice from, to;
	struct policy_reach *r;
	struct print p = { 0 };
	int rc;

	if (policy_reach_create(&r, &world, 1, grouping) < 0)
		return ctl_refused(ctx, "out of memory");
	memset(&to, 0, sizeof(to));
	p.pool = policy_reach_pool(r);
	rc = ctl_choose(ctx, r, args->from, &from);
	if (rc == 0)
		rc = ctl_choose(ctx, r, args->to, &to);
	if (rc == 0)
		rc = parse_service(ctx, args->service, p.pool, &p.only);
	if (rc == 0) {
		p.report = ctl_report_begin(ctx, format, columns, PK_COUNT(columns), "conn", NULL);
		for (size_t i = 0; i < policy_reach_count(r); i++) {
			const struct policy_reach_node *n = policy_reach_node(r, i);

			ctl_report_node(p.report, n->name, n->label, n->tenant);
		}
		if (policy_reach_each(r, &from, &to, args->audit, print_row, &p) < 0)
			rc = ctl_refused(ctx, "out of memory");
		ctl_report_end(p.report);
	}
	ctl_texts_fini(&p.texts);
	policy_choice_fini(&from);
	policy_choice_fini(&to);
	policy_reach_destroy(r);
	return rc;
}

int
ctl_policy_reach(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	enum policy_grouping grouping;
	enum ctl_format format;
	struct ctl_offline o;
	int rc = ctl_offline_args(ctx, argc, argv,
	    CTL_OPT_POLICY | CTL_OPT_ENDS | CTL_OPT_OUTPUT | CTL_OPT_GROUPING | CTL_OPT_AUDIT,
	    &args);

	if (rc != 0 || (rc = ctl_format_parse(ctx, args.output, &format)) != 0 ||
	    (rc = ctl_grouping_parse(ctx, args.by, &grouping)) != 0)
		return rc;
	if (args.nb_paths + args.nb_words == 0 || args.nb_paths + args.nb_words > CTL_PATHS_MAX)
		return ctl_usage(ctx, "policy reach goes with --inventory and --policy");
	for (size_t i = 0; i < args.nb_words; i++)
		args.paths[args.nb_paths++] = args.words[i];
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_read(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0)
		rc = reach(ctx, &o, &args, format, grouping);
	ctl_offline_fini(&o);
	return rc;
}
