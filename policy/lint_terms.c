#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/lint_priv.h"
#include "policy/terms.h"

/*
 * What the two ends of a flow ask of it, held against each other: each DPU sees one of them.
 */
#define PAIRS_MAX UINT64_C(4000000) /* of classes; beyond it this takes minutes */

struct lint {
	const struct policy_inventory *inventory;
	struct policy_connect *connect;
	struct policy_findings *findings;
	struct policy_parts out, in;
};

/* Where a rule is written, beyond its line. */
static unsigned int
column_of(const struct lint *l, const struct policy_rule *r)
{
	const struct policy_def *d;

	POLICY_EACH(l->inventory->model, policies, d)
	{
		if (strcmp(d->meta.name, r->policy) != 0 || strcmp(d->meta.file, r->file) != 0)
			continue;
		for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++)
			for (uint32_t i = 0; i < d->rules[dir].nb; i++)
				if (d->rules[dir].at[i].line == r->line &&
				    strcmp(d->rules[dir].at[i].name, r->name) == 0)
					return d->rules[dir].at[i].column;
	}
	return 0;
}

/* A flow is allowed by `out` at its source, which may be no rule, and by `in` at its destination. */
static void
compare(const struct lint *l, const struct policy_rule *out, const struct policy_rule *in)
{
	unsigned int a = out != NULL ? out->terms.encryption : PK_ENCRYPTION_NONE;
	unsigned int b = in != NULL ? in->terms.encryption : PK_ENCRYPTION_NONE;
	const char *code;
	unsigned int column;

	if (in == NULL || b == PK_ENCRYPTION_NONE)
		return;
	if (a == PK_ENCRYPTION_NONE)
		code = "encryption-one-sided";
	else if (policy_encryption_merge(a, b) == PK_ENCRYPTION_COUNT)
		code = "encryption-conflict";
	else
		return;
	column = column_of(l, in);
	if (policy_findings_has(l->findings, in->file, in->line, column, code))
		return;
	if (a != PK_ENCRYPTION_NONE)
		policy_findings_add(l->findings, POLICY_WARNING, in->file, in->line, column, code,
		    "rule \"%s\" asks for %s, but rule \"%s\" of policy \"%s\" (%s:%u) sends such flows with %s: they drop",
		    in->name, pk_encryption_name(b), out->name, out->policy, out->file, out->line,
		    pk_encryption_name(a));
	else if (out == NULL || (out->flags & PK_RULE_DEFAULT) != 0)
		policy_findings_add(l->findings, POLICY_WARNING, in->file, in->line, column, code,
		    "rule \"%s\" asks for %s of flows whose source is not told to encrypt: no rule there says so",
		    in->name, pk_encryption_name(b));
	else
		policy_findings_add(l->findings, POLICY_WARNING, in->file, in->line, column, code,
		    "rule \"%s\" asks for %s of flows whose source is not told to encrypt: they leave by rule \"%s\" of policy \"%s\" (%s:%u)",
		    in->name, pk_encryption_name(b), out->name, out->policy, out->file, out->line);
}

static int
compare_pair(struct lint *l, uint32_t src, uint32_t dst)
{
	int rc = policy_connect_side(l->connect, PK_EGRESS, src, dst, 0, &l->out);

	if (rc == 0)
		rc = policy_connect_side(l->connect, PK_INGRESS, dst, src, 0, &l->in);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	for (size_t i = 0, k = 0; i < l->out.nb && k < l->in.nb;) {
		const struct policy_part *a = &l->out.at[i], *b = &l->in.at[k];

		if (a->verdict == PK_VERDICT_ALLOW && b->verdict == PK_VERDICT_ALLOW)
			compare(l, a->rule, b->rule);
		i += a->span.high <= b->span.high;
		k += b->span.high <= a->span.high;
	}
	return 0;
}

/* Whether a program that judges this class asks for anything. */
static int
asks(const struct lint *l, uint32_t class)
{
	const struct policy_program *p = policy_connect_program(l->connect, PK_INGRESS, class);

	for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++)
		if (p->rules[i].terms.encryption != PK_ENCRYPTION_NONE)
			return 1;
	return 0;
}

int
policy_lint_terms(
    const struct policy_inventory *v, struct policy_connect *c, struct policy_findings *f)
{
	struct lint l = { .inventory = v, .connect = c, .findings = f };
	uint32_t nb = policy_connect_count(c);
	uint64_t pairs = 0;
	int rc = 0;

	for (uint32_t dst = 0; dst < nb && rc == 0; dst++) {
		if (!asks(&l, dst))
			continue;
		if ((pairs += nb) > PAIRS_MAX) {
			policy_findings_add(f, POLICY_NOTE, "policy", 0, 0, "too-large",
			    "there is too much here to compare what the ends of all flows ask; check a tenant at a time");
			break;
		}
		for (uint32_t src = 0; src < nb && rc == 0; src++)
			if (policy_connect_program(c, PK_EGRESS, src) != NULL)
				rc = compare_pair(&l, src, dst);
	}
	free(l.out.at);
	free(l.in.at);
	return rc;
}
