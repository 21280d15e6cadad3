#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/policy_reach.h"

/* Change of connectivity, not of text: two worlds laid over each other, and what differs. */

/* As diff(1): files that cannot be read are neither equal nor different. */
#define DIFF_DIFFERENT 1
#define DIFF_TROUBLE   2

static const struct ctl_column columns[] = {
	{ "change", "CHANGE" },
	{ "src", "SRC" },
	{ "dst", "DST" },
	{ "before", "BEFORE" },
	{ "after", "AFTER" },
	{ "other_before", "OTHER BEFORE" },
	{ "other_after", "OTHER AFTER" },
	{ "family", "FAMILY" },
	{ "note", "NOTE" },
	{ "label", NULL },
	{ "colour", NULL },
};

struct print {
	struct ctl_report *report;
	struct ctl_texts texts;
	struct policy_pool *pool;
	unsigned int nb_rows;
};

static const char *
note_of(const struct policy_reach_row *row, char *buf, size_t size)
{
	const struct policy_reach_node *ends[] = { row->src, row->dst };
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < PK_COUNT(ends); i++)
		if (ends[i] != NULL && ends[i]->present != 3 && len < size &&
		    (i == 0 || ends[0] != ends[1]))
			len += (size_t)snprintf(buf + len, size - len, "%sworkload %s %s",
			    len > 0 ? ", " : "", ends[i]->name,
			    ends[i]->present == 2 ? "added" : "removed");
	return buf;
}

static int
print_row(void *arg, const struct policy_reach_row *row)
{
	char src[POLICY_REACH_TEXT], dst[POLICY_REACH_TEXT], note[3 * POLICY_REACH_TEXT];
	int added = row->allowed[0] == POLICY_POOL_EMPTY;
	int removed = row->allowed[1] == POLICY_POOL_EMPTY;
	struct print *p = arg;
	json_t *out = json_pack("{ss ss ss}", "change",
	    added         ? "added"
	        : removed ? "removed"
	                  : "changed",
	    "src", policy_reach_end_text(row, 0, src), "dst", policy_reach_end_text(row, 1, dst));

	ctl_texts_put(
	    &p->texts, out, "before", "other_before", p->pool, row->allowed[0], row->families);
	ctl_texts_put(
	    &p->texts, out, "after", "other_after", p->pool, row->allowed[1], row->families);
	json_object_set_new(out, "family", json_string(ctl_families_text(row->families)));
	json_object_set_new(out, "note", json_string(note_of(row, note, sizeof(note))));
	/* Only pictures want these two. */
	if (ctl_report_is_graph(p->report)) {
		const char *before = json_string_value(json_object_get(out, "before"));
		const char *after = json_string_value(json_object_get(out, "after"));

		json_object_set_new(out, "label",
		    added         ? json_string(after)
		        : removed ? json_string(before)
		                  : json_sprintf("%s, before: %s", after, before));
		json_object_set_new(out, "colour",
		    json_string(added ? "darkgreen"
		            : removed ? "red"
		                      : "purple"));
	}
	ctl_report_add(p->report, out);
	p->nb_rows++;
	return 0;
}

/* Workloads that are in one of them only, with or without connections. */
static void
print_workload(struct print *p, const struct policy_reach_node *n)
{
	json_t *out;

	if (n->present == 3)
		return;
	out = json_pack("{ss ss}", "change",
	    n->present == 2 ? "workload added" : "workload removed", "src", n->name);
	ctl_report_add(p->report, out);
	p->nb_rows++;
}

static int
compare(struct ctl_context *ctx, const struct ctl_offline *a, const struct ctl_offline *b,
    const struct ctl_offline_args *args, enum ctl_format format, enum policy_grouping grouping)
{
	struct policy_world worlds[] = { { .model = a->model, .table = a->table },
		{ .model = b->model, .table = b->table } };
	struct policy_choice from, to;
	struct policy_reach *r;
	struct print p = { 0 };
	int rc;

	if (policy_reach_create(&r, worlds, 2, grouping) < 0) {
		ctl_refused(ctx, "out of memory");
		return DIFF_TROUBLE;
	}
	memset(&to, 0, sizeof(to));
	p.pool = policy_reach_pool(r);
	rc = ctl_choose(ctx, r, args->from, &from);
	if (rc == 0)
		rc = ctl_choose(ctx, r, args->to, &to);
	if (rc == 0) {
		p.report =
		    ctl_report_begin(ctx, format, columns, PK_COUNT(columns), "label", "colour");
		for (size_t i = 0; i < policy_reach_count(r); i++) {
			const struct policy_reach_node *n = policy_reach_node(r, i);

			ctl_report_node(p.report, n->name, n->label, n->tenant);
		}
		for (size_t i = 0; i < policy_reach_count(r); i++)
			if (from.nodes == NULL || from.nodes[i])
				print_workload(&p, policy_reach_node(r, i));
		if (policy_reach_each(r, &from, &to, args->audit, print_row, &p) < 0)
			rc = ctl_refused(ctx, "out of memory");
		ctl_report_end(p.report);
		if (rc == 0 && format == CTL_TABLE && p.nb_rows == 0)
			puts("no change of connectivity");
	}
	ctl_texts_fini(&p.texts);
	policy_choice_fini(&from);
	policy_choice_fini(&to);
	policy_reach_destroy(r);
	return rc != 0 ? DIFF_TROUBLE : p.nb_rows > 0 ? DIFF_DIFFERENT : CTL_DONE;
}

int
ctl_policy_diff(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	enum policy_grouping grouping;
	struct ctl_offline o[2];
	enum ctl_format format;
	int rc = ctl_offline_args(ctx, argc, argv,
	    CTL_OPT_POLICY | CTL_OPT_ENDS | CTL_OPT_OUTPUT | CTL_OPT_GROUPING | CTL_OPT_AUDIT,
	    &args);

	if (rc != 0 || (rc = ctl_format_parse(ctx, args.output, &format)) != 0 ||
	    (rc = ctl_grouping_parse(ctx, args.by, &grouping)) != 0)
		return rc;
	if (args.nb_words != 2 || args.nb_paths == CTL_PATHS_MAX || args.service != NULL)
		return ctl_usage(ctx, "want two files or directories, before and after");
	memset(o, 0, sizeof(o));
	for (int i = 0; i < 2 && rc == 0; i++) {
		args.paths[args.nb_paths] = args.words[i];
		rc = ctl_offline_init(&o[i]) < 0
		    ? ctl_refused(ctx, "out of memory")
		    : ctl_offline_read(ctx, &o[i], args.paths, args.nb_paths + 1);
	}
	rc = rc == 0 ? compare(ctx, &o[0], &o[1], &args, format, grouping) : DIFF_TROUBLE;
	ctl_offline_fini(&o[0]);
	ctl_offline_fini(&o[1]);
	return rc;
}
