#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/policy_reach.h"
#include "policy/absent.h"

/* What is open to, and can reach, those who are not in the inventory. */

static const struct ctl_column columns[] = {
	{ "workload", "WORKLOAD" },
	{ "direction", "DIRECTION" },
	{ "peer", "WHO" },
	{ "conn", "CONNECTIONS" },
	{ "other", "OTHER PROTOCOLS" },
	{ "family", "FAMILY" },
	{ "src", NULL },
	{ "dst", NULL },
};

/* A row as it came.  Those of one workload and direction are kept until all are there. */
struct kept {
	const struct policy_reach_node *workload, *peer; /* peer NULL: outside */
	char outside[POLICY_REACH_TEXT];
	int inward;
	unsigned int families;
	uint32_t allowed;
};

struct print {
	struct ctl_report *report;
	struct ctl_texts texts;
	struct policy_pool *pool;
	struct kept *rows;
	size_t nb, cap;
};

static int
keep(void *arg, const struct policy_reach_row *row)
{
	int inward = row->src == NULL || row->src->absent;
	const struct policy_reach_node *peer = inward ? row->src : row->dst;
	struct print *p = arg;
	struct kept *k;

	if (peer != NULL && !peer->absent)
		return 0;
	if (policy_grow(&p->rows, &p->cap, p->nb + 1, sizeof(p->rows[0])) < 0)
		return -ENOMEM;
	k = &p->rows[p->nb++];
	*k = (struct kept){ .workload = inward ? row->dst : row->src,
		.peer = peer,
		.inward = inward,
		.families = row->families,
		.allowed = row->allowed[0] };
	if (peer == NULL)
		policy_reach_end_text(row, !inward, k->outside);
	return 0;
}

static int
by_workload(const void *va, const void *vb)
{
	const struct kept *a = va, *b = vb;
	int d = strcmp(a->workload->name, b->workload->name);

	if (d == 0)
		d = b->inward - a->inward;
	if (d == 0)
		d = (a->peer != NULL) - (b->peer != NULL);
	if (d == 0)
		d = strcmp(a->peer != NULL ? a->peer->name : a->outside,
		    b->peer != NULL ? b->peer->name : b->outside);
	return d != 0 ? d : (int)a->families - (int)b->families;
}

/* "any workload of shop" goes without saying where any workload of any namespace may do the same, and so
 * does one with certain labels where any workload may. */
static int
goes_without_saying(const struct print *p, const struct kept *k)
{
	const char *name = k->peer != NULL ? k->peer->name : NULL, *brace;

	if (name == NULL || strcmp(name, "any workload of any namespace") == 0)
		return 0;
	brace = strchr(name, '{');
	for (size_t i = 0; i < p->nb; i++) {
		const struct kept *o = &p->rows[i];
		const char *other = o->peer != NULL ? o->peer->name : "";
		static const char any[] = "any workload of ";

		if (o->workload != k->workload || o->inward != k->inward ||
		    o->families != k->families || o->allowed != k->allowed || o == k)
			continue;
		if (strcmp(other, "any workload of any namespace") == 0)
			return 1;
		if (brace != NULL && strncmp(other, any, strlen(any)) == 0 &&
		    strlen(other + strlen(any)) == (size_t)(brace - name) &&
		    strncmp(other + strlen(any), name, (size_t)(brace - name)) == 0)
			return 1;
	}
	return 0;
}

static void
print_row(struct print *p, const struct kept *k)
{
	const char *peer = k->peer != NULL ? k->peer->name : k->outside;
	json_t *out = json_pack("{ss ss ss}", "workload", k->workload->name, "direction",
	    k->inward ? "ingress" : "egress", "peer", peer);

	ctl_texts_put(&p->texts, out, "conn", "other", p->pool, k->allowed, k->families);
	json_object_set_new(out, "family", json_string(ctl_families_text(k->families)));
	json_object_set_new(out, "src", json_string(k->inward ? peer : k->workload->name));
	json_object_set_new(out, "dst", json_string(k->inward ? k->workload->name : peer));
	ctl_report_add(p->report, out);
}

static int
exposure(struct ctl_context *ctx, const struct ctl_offline *o, enum ctl_format format,
    enum policy_grouping grouping)
{
	struct policy_world world = { .model = o->model };
	struct policy_absent *absent;
	struct print p = { 0 };
	struct policy_reach *r;
	int rc = policy_absent_create(&absent, o->model);

	if (rc < 0)
		return ctl_refused(ctx, "%s",
		    rc == -ENOMEM ? "out of memory" : "the policies do not compile for others");
	world.table = policy_absent_table(absent);
	world.absent = policy_absent_workloads(absent, &world.nb_absent);
	if (policy_reach_create(&r, &world, 1, grouping) < 0) {
		policy_absent_destroy(absent);
		return ctl_refused(ctx, "out of memory");
	}
	p.pool = policy_reach_pool(r);
	rc = policy_reach_each(r, NULL, NULL, 0, keep, &p);
	if (rc == 0) {
		if (p.nb > 1)
			qsort(p.rows, p.nb, sizeof(p.rows[0]), by_workload);
		p.report = ctl_report_begin(ctx, format, columns, PK_COUNT(columns), "conn", NULL);
		for (size_t i = 0; i < policy_reach_count(r); i++) {
			const struct policy_reach_node *n = policy_reach_node(r, i);

			if (!n->absent)
				ctl_report_node(p.report, n->name, n->label, n->tenant);
		}
		for (size_t i = 0; i < p.nb; i++)
			if (!goes_without_saying(&p, &p.rows[i]))
				print_row(&p, &p.rows[i]);
		ctl_report_end(p.report);
	}
	free(p.rows);
	ctl_texts_fini(&p.texts);
	policy_reach_destroy(r);
	policy_absent_destroy(absent);
	return rc < 0 ? ctl_refused(ctx, "out of memory") : CTL_DONE;
}

int
ctl_policy_exposure(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	enum policy_grouping grouping;
	enum ctl_format format;
	struct ctl_offline o;
	int rc = ctl_offline_args(
	    ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_OUTPUT | CTL_OPT_GROUPING, &args);

	if (rc != 0 || (rc = ctl_format_parse(ctx, args.output, &format)) != 0 ||
	    (rc = ctl_grouping_parse(ctx, args.by, &grouping)) != 0)
		return rc;
	if (args.nb_paths + args.nb_words == 0 || args.nb_paths + args.nb_words > CTL_PATHS_MAX)
		return ctl_usage(ctx, "policy exposure goes with --inventory and --policy");
	for (size_t i = 0; i < args.nb_words; i++)
		args.paths[args.nb_paths++] = args.words[i];
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_read(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0)
		rc = exposure(ctx, &o, format, grouping);
	ctl_offline_fini(&o);
	return rc;
}
