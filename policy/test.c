#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/query_priv.h"
#include "policy/terms.h"

/*
 * Inline tests.  An end given by labels stands for all workloads of the inventory that carry them,
 * one of each identity.  When there is none, as in a check without an inventory, it is an imagined
 * workload that has exactly these labels.  That one gets an address out of 240.0.0.0/4, which
 * nobody owns (RFC 1112, section 4), in an address space of its own; 0.0.0.0/0 covers it, and no
 * narrower network that a policy would name.
 */
#define IMAGINED_VRF UINT32_MAX
#define CHOICES_MAX  256 /* identities that one end of a test may stand for */

struct imagined {
	struct policy_arena arena;
	POLICY_VECTOR(struct policy_workload_def *) all;
};

static struct policy_workload_def *
imagine(struct imagined *v, const struct policy_meta *doc, const struct policy_test_end *e)
{
	struct policy_workload_def *w = policy_arena_alloc(&v->arena, sizeof(*w)), **slot;
	uint32_t n = (uint32_t)v->all.nb + 1;

	if (w == NULL || (slot = POLICY_PUSH(&v->all)) == NULL)
		return NULL;
	*slot = w;
	w->meta.file = doc->file;
	w->meta.line = e->line;
	/* No written name has this sign, so it is nobody else's. */
	w->meta.name = policy_arena_printf(&v->arena, "#%u", n);
	w->meta.tenant = e->tenant != NULL ? e->tenant : doc->tenant;
	w->meta.labels = e->labels;
	w->dpu = "test"; /* where it would be well: its host is attested */
	w->vrf = IMAGINED_VRF;
	w->addresses.nb = 1;
	w->addresses.at = policy_arena_alloc(&v->arena, sizeof(w->addresses.at[0]));
	if (w->meta.name == NULL || w->addresses.at == NULL)
		return NULL;
	w->addresses.at[0].addr = (struct pk_addr){ .family = 4,
		.bytes = { 240 | (n >> 24 & 15), n >> 16 & 255, n >> 8 & 255, n & 255 } };
	return w;
}

static const char *
refused_word(enum pk_verdict v)
{
	return v == PK_VERDICT_REJECT ? "rejected" : "denied";
}

static void
failed_sentence(const struct policy_answer *a, enum pk_verdict expect, struct pk_diag *out)
{
	enum pk_direction d = a->side[PK_EGRESS].verdict != PK_VERDICT_ALLOW ? PK_EGRESS
	                                                                     : PK_INGRESS;
	const struct policy_rule *r = a->rule;

	if (a->verdict == PK_VERDICT_ALLOW)
		pk_diag_set(out, "is allowed%s%s%s%s%s, but %s was expected",
		    r != NULL ? " by rule \"" : "", r != NULL ? r->name : "",
		    r != NULL ? "\" of policy \"" : "", r != NULL ? r->policy : "",
		    r != NULL ? "\"" : "", pk_verdict_name(expect));
	else if (r == NULL)
		pk_diag_set(out,
		    "is denied, for neither end is in the inventory, but %s was expected",
		    pk_verdict_name(expect));
	else if (r->flags & PK_RULE_DEFAULT)
		pk_diag_set(out, "is %s at %s by the default of %s, but %s was expected",
		    refused_word(a->verdict), pk_direction_name(d), r->name,
		    pk_verdict_name(expect));
	else
		pk_diag_set(out,
		    "is %s at %s by rule \"%s\" of policy \"%s\" (%s:%u), but %s was expected",
		    refused_word(a->verdict), pk_direction_name(d), r->name, r->policy, r->file,
		    r->line, pk_verdict_name(expect));
}

/* `deny` means that nothing gets through, in whatever manner. */
static int
as_expected(enum pk_verdict got, enum pk_verdict expect)
{
	return got == expect || (expect == PK_VERDICT_DENY && got == PK_VERDICT_REJECT);
}

/* What an end may be.  Of each identity there is a second workload, if possible, so that a workload
 * can be asked about its like. */
struct choices {
	uint32_t nb;
	uint32_t identity[CHOICES_MAX];
	struct policy_end at[CHOICES_MAX][2];
};

static int
carries(const struct policy_workload_def *w, const char *tenant, const struct policy_labels *want)
{
	uint32_t k = 0;

	if (strcmp(w->meta.tenant, tenant) != 0 || w->addresses.nb == 0)
		return 0;
	/* Both are sorted by key. */
	for (uint32_t i = 0; i < want->nb; i++) {
		while (
		    k < w->meta.labels.nb && strcmp(w->meta.labels.at[k].key, want->at[i].key) < 0)
			k++;
		if (k == w->meta.labels.nb ||
		    strcmp(w->meta.labels.at[k].key, want->at[i].key) != 0 ||
		    strcmp(w->meta.labels.at[k].value, want->at[i].value) != 0)
			return 0;
	}
	return 1;
}

#define EACH_WORKLOAD(m, w)                                                                   \
	for (size_t ws_ = 0; ws_ < (m)->sources.nb; ws_++)                                    \
		for (size_t wi_ = 0; wi_ < (m)->sources.at[ws_]->objects.workloads.nb; wi_++) \
			if (((w) = (m)->sources.at[ws_]->objects.workloads.at[wi_]) != NULL)

static int
is_imagined(
    const struct policy_model *m, const struct policy_meta *doc, const struct policy_test_end *e)
{
	const char *tenant = e->tenant != NULL ? e->tenant : doc->tenant;
	const struct policy_workload_def *w;

	if (e->text != NULL)
		return 0;
	EACH_WORKLOAD(m, w)
	if (carries(w, tenant, &e->labels))
		return 0;
	return 1;
}

/* Returns 0 when there are more than we are ready to ask about. */
static int
add_choice(struct choices *c, uint32_t identity, struct policy_end end)
{
	uint32_t i = 0;

	while (i < c->nb && c->identity[i] != identity)
		i++;
	if (i < c->nb) {
		if (c->at[i][0].workload == c->at[i][1].workload)
			c->at[i][1] = end;
		return 1;
	}
	if (c->nb == CHOICES_MAX)
		return 0;
	c->identity[i] = identity;
	c->at[i][0] = c->at[i][1] = end;
	c->nb++;
	return 1;
}

/* All that an end stands for; `imagined` is taken off the list when it is one. */
struct run {
	const struct policy_model *model;
	const struct policy_table *table;
	struct policy_query *query;
	struct policy_workload_def *const *imagined;
};

static int
find_end(struct run *run, const struct policy_meta *doc, const struct policy_test_end *e,
    struct choices *out, struct pk_diag *why)
{
	const char *tenant = e->tenant != NULL ? e->tenant : doc->tenant;
	const struct policy_workload_def *w;
	const struct policy_endpoint *ep;
	struct pk_diag diag;

	out->nb = 0;
	if (e->text != NULL) {
		out->nb = 1;
		if (policy_query_end(run->query, e->text, &out->at[0][0], &diag) < 0) {
			pk_diag_set(why, "cannot be asked: %s", diag.text);
			return 0;
		}
		out->at[0][1] = out->at[0][0];
		return 1;
	}
	EACH_WORKLOAD(run->model, w)
	{
		if (!carries(w, tenant, &e->labels))
			continue;
		ep = policy_table_endpoint(run->table, w->vrf, &w->addresses.at[0].addr);
		if (ep != NULL &&
		    !add_choice(out, ep->identity, policy_query_end_of(run->query, w))) {
			pk_diag_set(why,
			    "cannot be asked: more than %d kinds of workloads carry these labels",
			    CHOICES_MAX);
			return 0;
		}
	}
	if (out->nb == 0)
		add_choice(out, 0, policy_query_end_of(run->query, *run->imagined++));
	return 1;
}

/* Returns 1 if it passed, 0 with *why if it did not. */
static int
run_pair(struct policy_query *q, const struct policy_test *t, const char *tenant,
    const struct policy_end *from, const struct policy_end *to, struct pk_diag *why)
{
	struct policy_point points[POLICY_POINTS_MAX];
	struct policy_answer a;
	struct pk_diag diag;
	int n = policy_query_points(q, from, to, &t->service, tenant, points, &diag);

	policy_query_at(q, t->at_s);
	for (int i = 0; i < n; i++) {
		if (policy_query_flow(q, from, to, points[i], &a, &diag) < 0) {
			n = -1;
			break;
		}
		if (!as_expected(a.verdict, (enum pk_verdict)t->expect)) {
			failed_sentence(&a, (enum pk_verdict)t->expect, why);
			return 0;
		}
		if (t->encryption != 0 && a.encryption != t->encryption - 1U) {
			pk_diag_set(why, "is allowed with encryption %s, but %s was expected",
			    policy_encryption_text(a.encryption),
			    policy_encryption_text(t->encryption - 1U));
			return 0;
		}
	}
	if (n < 0)
		pk_diag_set(why, "cannot be asked: %s", diag.text);
	return n >= 0;
}

static int
run_one(struct run *run, const struct policy_def *d, const struct policy_test *t,
    struct choices ends[2], struct pk_diag *why)
{
	unsigned int asked = 0;
	/* Both, always: each takes its imagined workload off the list. */
	int ok = find_end(run, &d->meta, &t->from, &ends[0], why);

	ok &= find_end(run, &d->meta, &t->to, &ends[1], why);
	for (uint32_t i = 0; i < ends[0].nb && ok; i++) {
		for (uint32_t k = 0; k < ends[1].nb && ok; k++) {
			const struct policy_end *from = &ends[0].at[i][0], *to = &ends[1].at[k][0];

			if (from->workload == to->workload && t->to.text == NULL)
				to = &ends[1].at[k][1];
			if (from->workload == to->workload && t->from.text == NULL &&
			    t->to.text == NULL)
				continue; /* one workload alone has nobody to talk to */
			ok = run_pair(run->query, t, d->meta.tenant, from, to, why);
			asked++;
		}
	}
	if (ok && asked == 0) {
		pk_diag_set(why, "cannot be asked: a single workload is both ends");
		ok = 0;
	}
	return ok;
}

static int
run_policy(struct run *run, const struct policy_def *d, struct policy_findings *f,
    unsigned int *passed, unsigned int *failed)
{
	struct choices *ends = calloc(2, sizeof(*ends));
	struct pk_diag why;

	if (ends == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->tests.nb; i++) {
		const struct policy_test *t = &d->tests.at[i];

		if (run_one(run, d, t, ends, &why)) {
			++*passed;
			continue;
		}
		++*failed;
		policy_findings_add(f, POLICY_ERROR, d->meta.file, t->line, t->column,
		    "test-failed", "test %u of policy \"%s\" %s", i + 1, d->meta.name, why.text);
	}
	free(ends);
	return 0;
}

/* Call `each` for every policy that has tests. */
#define EACH_TESTED(m, d)                                                                \
	for (size_t s_ = 0; s_ < (m)->sources.nb; s_++)                                  \
		for (size_t i_ = 0; i_ < (m)->sources.at[s_]->objects.policies.nb; i_++) \
			if (((d) = (m)->sources.at[s_]->objects.policies.at[i_])->tests.nb > 0)

static int
all_attested(const struct policy_table *t)
{
	for (uint32_t i = 0; i < t->nb_endpoints; i++)
		if (t->endpoints[i].identity != t->endpoints[i].attested)
			return 0;
	return 1;
}

int
policy_run_tests(const struct policy_model *m, const struct policy_table *t,
    struct policy_findings *f, unsigned int *passed, unsigned int *failed)
{
	struct policy_table *own = NULL;
	struct policy_ids *ids = NULL;
	struct policy_query *q = NULL;
	struct imagined v = { 0 };
	struct policy_model calm = *m;
	struct run run;
	const struct policy_def *d;
	const char *file = NULL;
	struct pk_diag diag;
	int rc = 0;

	/* Tests speak of policy, not of what is the matter today: every host is attested. */
	calm.attested = NULL;
	*passed = *failed = 0;
	EACH_TESTED(m, d)
	{
		file = d->meta.file;
		for (uint32_t i = 0; i < d->tests.nb && rc == 0; i++) {
			const struct policy_test *test = &d->tests.at[i];

			if ((is_imagined(m, &d->meta, &test->from) &&
			        imagine(&v, &d->meta, &test->from) == NULL) ||
			    (is_imagined(m, &d->meta, &test->to) &&
			        imagine(&v, &d->meta, &test->to) == NULL))
				rc = -ENOMEM;
		}
	}
	if (file == NULL || rc < 0)
		goto out;
	/* The same compiler, with numbers of its own: what a test imagines leaves no trace. */
	if (v.all.nb > 0 || !all_attested(t)) {
		rc = policy_ids_create(&ids);
		if (rc == 0)
			rc = policy_compile_with(&calm, v.all.at, v.all.nb, ids, &own, NULL);
		if (rc < 0)
			goto out;
		t = own;
	}
	rc = policy_query_create_with(&q, m, v.all.at, v.all.nb, t, &diag);
	if (rc < 0) {
		if (rc != -ENOMEM) {
			policy_findings_add(f, POLICY_ERROR, file, 0, 0, "test-failed",
			    "tests cannot be run: %s", diag.text);
			rc = -EINVAL;
		}
		goto out;
	}
	run = (struct run){ .model = m, .table = t, .query = q, .imagined = v.all.at };
	EACH_TESTED(m, d)
	if (rc == 0)
		rc = run_policy(&run, d, f, passed, failed);
	if (rc == 0 && *failed > 0)
		rc = -EINVAL;
out:
	policy_query_destroy(q);
	policy_table_destroy(own);
	policy_ids_destroy(ids);
	free(v.all.at);
	policy_arena_fini(&v.arena);
	return rc;
}
