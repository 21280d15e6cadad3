#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/query_priv.h"

/*
 * Inline tests.  An end given by labels is a workload that has exactly these and no others, so a test
 * holds whatever the inventory is.  It gets an address out of 240.0.0.0/4, which nobody owns (RFC
 * 1112, section 4), in an address space of its own; 0.0.0.0/0 covers it and no narrower network
 * that a policy would name.
 */
#define IMAGINED_VRF UINT32_MAX

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
	w->dpu = "";
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

/* Returns 1 if it passed, 0 with `why` if it did not. */
static int
run_one(const struct policy_query *q, const struct policy_test *t, const char *tenant,
    const struct policy_end *from, const struct policy_end *to, struct pk_diag *why)
{
	struct policy_point points[POLICY_POINTS_MAX];
	struct policy_answer a;
	struct pk_diag diag;
	int n = policy_query_points(q, from, to, &t->service, tenant, points, &diag);

	if (n < 0) {
		pk_diag_set(why, "cannot be asked: %s", diag.text);
		return 0;
	}
	for (int i = 0; i < n; i++) {
		if (policy_query_flow(q, from, to, points[i], &a, &diag) < 0) {
			pk_diag_set(why, "cannot be asked: %s", diag.text);
			return 0;
		}
		if (!as_expected(a.verdict, (enum pk_verdict)t->expect)) {
			failed_sentence(&a, (enum pk_verdict)t->expect, why);
			return 0;
		}
	}
	return 1;
}

static int
find_end(const struct policy_query *q, const struct policy_test_end *e,
    struct policy_workload_def *const **next, struct policy_end *out, struct pk_diag *why)
{
	struct pk_diag diag;

	if (e->text == NULL) {
		*out = policy_query_end_of(q, *(*next)++);
		return 1;
	}
	if (policy_query_end(q, e->text, out, &diag) == 0)
		return 1;
	pk_diag_set(why, "cannot be asked: %s", diag.text);
	return 0;
}

static void
run_policy(const struct policy_query *q, const struct policy_def *d,
    struct policy_workload_def *const **next, struct policy_findings *f, unsigned int *passed,
    unsigned int *failed)
{
	for (uint32_t i = 0; i < d->tests.nb; i++) {
		const struct policy_test *t = &d->tests.at[i];
		struct policy_end from, to;
		struct pk_diag why;
		/* Both, always: each takes its imagined workload off the list. */
		int ok = find_end(q, &t->from, next, &from, &why);

		ok &= find_end(q, &t->to, next, &to, &why);
		if (ok)
			ok = run_one(q, t, d->meta.tenant, &from, &to, &why);
		if (ok) {
			++*passed;
			continue;
		}
		++*failed;
		policy_findings_add(f, POLICY_ERROR, d->meta.file, t->line, t->column,
		    "test-failed", "test %u of policy \"%s\" %s", i + 1, d->meta.name, why.text);
	}
}

/* Call `each` for every policy that has tests. */
#define EACH_TESTED(m, d)                                                                \
	for (size_t s_ = 0; s_ < (m)->sources.nb; s_++)                                  \
		for (size_t i_ = 0; i_ < (m)->sources.at[s_]->objects.policies.nb; i_++) \
			if (((d) = (m)->sources.at[s_]->objects.policies.at[i_])->tests.nb > 0)

int
policy_run_tests(const struct policy_model *m, const struct policy_table *t,
    struct policy_findings *f, unsigned int *passed, unsigned int *failed)
{
	struct policy_workload_def *const *next;
	struct policy_table *own = NULL;
	struct policy_ids *ids = NULL;
	struct policy_query *q = NULL;
	struct imagined v = { 0 };
	const struct policy_def *d;
	const char *file = NULL;
	struct pk_diag diag;
	int rc = 0;

	*passed = *failed = 0;
	EACH_TESTED(m, d)
	{
		file = d->meta.file;
		for (uint32_t i = 0; i < d->tests.nb && rc == 0; i++) {
			const struct policy_test *test = &d->tests.at[i];

			if ((test->from.text == NULL &&
			        imagine(&v, &d->meta, &test->from) == NULL) ||
			    (test->to.text == NULL && imagine(&v, &d->meta, &test->to) == NULL))
				rc = -ENOMEM;
		}
	}
	if (file == NULL || rc < 0)
		goto out;
	/* The same compiler, with numbers of its own: what a test imagines leaves no trace. */
	if (v.all.nb > 0) {
		rc = policy_ids_create(&ids);
		if (rc == 0)
			rc = policy_compile_with(m, v.all.at, v.all.nb, ids, &own, NULL);
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
	next = v.all.at;
	EACH_TESTED(m, d)
	run_policy(q, d, &next, f, passed, failed);
	rc = *failed > 0 ? -EINVAL : 0;
out:
	policy_query_destroy(q);
	policy_table_destroy(own);
	policy_ids_destroy(ids);
	free(v.all.at);
	policy_arena_fini(&v.arena);
	return rc;
}
