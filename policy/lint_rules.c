#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/findings.h"
#include "policy/lint_priv.h"

/*
 * What rules do, and what would change without them, found by running the programs.
 *
 * A rule stands in the programs of all its subjects, and each peer is to a program a column: which of its
 * rules admit it.  So what holds for all columns of all programs holds for all traffic there is.  Two walks
 * are needed, since whether a rule is redundant depends on which others never decide:
 *
 *     first    who decides anything, who comes before who does not, who overlaps whom
 *     second   whose absence would change a verdict; who overlaps partly; what is allowed at all
 *
 * Rules in audit mode are left out, since they do nothing to lint.
 */
#define NONE      UINT32_MAX
#define WORK_MAX  UINT64_C(1000000000) /* rules times classes; beyond it this takes minutes */
#define PAIRS_MAX 1000                 /* overlapping rules that are looked at */

/* A rule as it is written, wherever it stands. */
struct fact {
	const struct policy_rule *rule;
	const struct policy_rule_def *def;
	uint32_t policy;
	uint8_t matches, decides, needed;
	uint8_t several;                   /* `by` is not the only one */
	const struct policy_rule *by;      /* who comes before it, if it never decides */
	const struct policy_rule *instead; /* who would decide in its place; a written one if any */
};

struct whole {
	const struct policy_def *def;
	uint8_t rules, effective,
	    replaced; /* it has some; it changes something; others say the same */
};

/* Two rules of one tier and different policies that disagree; `first` comes before. */
struct overlap {
	uint32_t first, second; /* facts */
	uint8_t first_only, second_only;
};

struct lint {
	const struct policy_inventory *inventory;
	const struct policy_table *table;
	struct policy_connect *connect;
	struct policy_findings *findings;
	struct policy_arena arena;
	struct policy_map written; /* "direction file:line policy rule" -> index in places */
	POLICY_VECTOR(struct fact) places;
	POLICY_VECTOR(struct whole) policies;
	struct policy_map fact_index; /* rule id -> index in facts */
	POLICY_VECTOR(struct fact) facts;
	struct policy_pairs overlap_index;
	POLICY_VECTOR(struct overlap) overlaps;
	uint8_t *allows, *dns; /* by program: anything at all; port 53 */
	int second;            /* which walk this is */

	/* The program being walked. */
	const struct policy_program *program;
	size_t words;
	struct policy_traffic *own; /* by rule: what its services match */
	uint32_t *fact_of;          /* by rule: NONE for defaults and audit */
	uint64_t *column, *less;    /* who admits the peer; the same without some */
	struct policy_parts parts, passed, other;
	struct policy_traffic scratch[3];
};

static int
bit(const uint64_t *v, uint32_t i)
{
	return v[i / 64] >> i % 64 & 1;
}

static void
clear(uint64_t *v, uint32_t i)
{
	v[i / 64] &= ~(UINT64_C(1) << i % 64);
}

/* ---- what is written ----------------------------------------------------------------------------- */

static const char *
place_key(
    struct lint *l, int dir, const char *file, uint32_t line, const char *policy, const char *rule)
{
	return policy_arena_printf(&l->arena, "%d %s:%u %s %s", dir, file, line, policy, rule);
}

static int
note_policy(struct lint *l, const struct policy_def *d)
{
	struct whole *w = POLICY_PUSH(&l->policies);

	if (w == NULL)
		return -ENOMEM;
	*w = (struct whole){ .def = d };
	for (int dir = 0; dir < PK_DIRECTION_COUNT; dir++) {
		/* It isolates without a rule that could be watched doing so. */
		if (d->rules[dir].given && d->rules[dir].nb == 0)
			w->effective = 1;
		for (uint32_t i = 0; i < d->rules[dir].nb; i++) {
			const struct policy_rule_def *r = &d->rules[dir].at[i];
			const char *key =
			    place_key(l, dir, d->meta.file, r->line, d->meta.name, r->name);
			struct fact *f;

			if (key == NULL)
				return -ENOMEM;
			if (policy_map_get_text(&l->written, key) != POLICY_MAP_NONE)
				continue;
			if ((f = POLICY_PUSH(&l->places)) == NULL ||
			    policy_map_put_text(&l->written, key, (uint32_t)l->places.nb - 1) < 0)
				return -ENOMEM;
			*f = (struct fact){ .def = r, .policy = (uint32_t)l->policies.nb - 1 };
		}
	}
	return 0;
}

/* The fact about a rule of a program; *out NONE if nobody wrote it, or it only counts. */
static int
find_fact(struct lint *l, const struct policy_rule *r, enum pk_direction dir, uint32_t *out)
{
	struct fact *f;
	const char *key;
	uint32_t place;

	*out = NONE;
	if (r->flags & (PK_RULE_DEFAULT | PK_RULE_AUDIT))
		return 0;
	*out = policy_map_get(&l->fact_index, &r->id, sizeof(r->id));
	if (*out != POLICY_MAP_NONE)
		return 0;
	key = place_key(l, (int)dir, r->file, r->line, r->policy, r->name);
	if (key == NULL)
		return -ENOMEM;
	place = policy_map_get_text(&l->written, key);
	if (place == POLICY_MAP_NONE)
		return 0;
	*out = (uint32_t)l->facts.nb;
	if ((f = POLICY_PUSH(&l->facts)) == NULL ||
	    policy_map_put(&l->fact_index, &r->id, sizeof(r->id), *out) < 0)
		return -ENOMEM;
	*f = l->places.at[place];
	f->rule = r;
	l->policies.at[f->policy].rules = 1;
	return 0;
}

/* ---- first walk ---------------------------------------------------------------------------------- */

static int
meets_part(const struct policy_part *p, const struct policy_traffic *t)
{
	struct policy_span span = p->span;
	const struct policy_traffic one = { .at = &span, .nb = 1 };

	return policy_traffic_meets(&one, t);
}

/* Who took what rule i would have matched: one who decided, or who passed it on; *several if others did
 * too. */
static const struct policy_rule *
taken_by(const struct lint *l, uint32_t i, uint8_t *several)
{
	const struct policy_rule *rules = l->program->rules, *found = NULL;

	for (size_t k = 0; k < l->parts.nb; k++) {
		const struct policy_part *p = &l->parts.at[k];

		if (p->rule == NULL || p->rule >= &rules[i] || !meets_part(p, &l->own[i]))
			continue;
		*several |= found != NULL && found->id != p->rule->id;
		if (found == NULL)
			found = p->rule;
	}
	for (size_t k = 0; found != NULL && k < l->passed.nb; k++)
		*several |= l->passed.at[k].rule->tier == rules[i].tier &&
		    meets_part(&l->passed.at[k], &l->own[i]);
	if (found != NULL)
		return found;
	for (size_t k = 0; k < l->passed.nb; k++)
		if (l->passed.at[k].rule->tier == rules[i].tier &&
		    meets_part(&l->passed.at[k], &l->own[i]))
			return l->passed.at[k].rule;
	return NULL;
}

static int
disagree(const struct policy_rule *a, const struct policy_rule *b)
{
	return a->tier == b->tier && a->verdict != PK_VERDICT_PASS &&
	    b->verdict != PK_VERDICT_PASS &&
	    (a->verdict == PK_VERDICT_ALLOW) != (b->verdict == PK_VERDICT_ALLOW);
}

static int
note_overlap(struct lint *l, uint32_t first, uint32_t second)
{
	struct overlap *o;

	if (policy_pairs_get(&l->overlap_index, first, second) != UINT32_MAX ||
	    l->overlaps.nb >= PAIRS_MAX)
		return 0;
	if ((o = POLICY_PUSH(&l->overlaps)) == NULL ||
	    policy_pairs_put(&l->overlap_index, first, second, (uint32_t)l->overlaps.nb - 1) < 0)
		return -ENOMEM;
	*o = (struct overlap){ .first = first, .second = second };
	return 0;
}

/* A rule has just decided a part; who comes later and would have said the opposite? */
static int
find_overlaps(struct lint *l, const struct policy_part *p)
{
	const struct policy_program *program = l->program;
	uint32_t i = (uint32_t)(p->rule - program->rules);

	for (uint32_t k = i + 1;
	     k < program->nb_rules && program->rules[k].tier == program->rules[i].tier; k++) {
		uint32_t a = l->fact_of[i], b = l->fact_of[k];

		if (b == NONE || !bit(l->column, k) ||
		    !disagree(&program->rules[i], &program->rules[k]) ||
		    l->facts.at[a].policy == l->facts.at[b].policy || !meets_part(p, &l->own[k]))
			continue;
		if (note_overlap(l, a, b) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int
first_walk(struct lint *l)
{
	const struct policy_program *p = l->program;

	for (size_t k = 0; k < l->passed.nb; k++) {
		uint32_t f = l->fact_of[l->passed.at[k].rule - p->rules];

		if (f != NONE)
			l->facts.at[f].decides = 1;
	}
	for (size_t k = 0; k < l->parts.nb; k++) {
		const struct policy_part *part = &l->parts.at[k];
		uint32_t f = part->rule != NULL ? l->fact_of[part->rule - p->rules] : NONE;

		/* What speaks something else than the rule names, or comes at another time, goes on to the
		 * rules after it. */
		if (part->rule != NULL && policy_rule_conditional(part->rule))
			for (uint32_t i = (uint32_t)(part->rule - p->rules) + 1; i < p->nb_rules;
			     i++)
				if (l->fact_of[i] != NONE && bit(l->column, i) &&
				    meets_part(part, &l->own[i]))
					l->facts.at[l->fact_of[i]].decides = 1;
		if (f == NONE)
			continue;
		l->facts.at[f].decides = 1;
		if (find_overlaps(l, part) < 0)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < p->nb_rules; i++) {
		struct fact *f = l->fact_of[i] != NONE ? &l->facts.at[l->fact_of[i]] : NULL;
		const struct policy_rule *by;

		if (f == NULL || f->decides || l->own[i].nb == 0 || !bit(l->column, i))
			continue;
		f->matches = 1;
		by = taken_by(l, i, &f->several);
		if (by != NULL && f->by != NULL && by->id != f->by->id)
			f->several = 1;
		if (by != NULL && (f->by == NULL || (f->by->flags & PK_RULE_DEFAULT)))
			f->by = by;
	}
	return 0;
}

/* ---- second walk --------------------------------------------------------------------------------- */

/* Of two rules with one verdict; either may be no rule. */
static int
same_terms(const struct policy_rule *a, const struct policy_rule *b)
{
	static const struct pk_rule_terms none;

	if ((a != NULL && a->schedule.days != 0) || (b != NULL && b->schedule.days != 0))
		return a == b;
	return memcmp(a != NULL ? &a->terms : &none, b != NULL ? &b->terms : &none, sizeof(none)) ==
	    0;
}

/* Whether both say the same of all traffic.  Where not, or where `gone` decided, *instead is who does. */
static int
same_verdicts(const struct policy_parts *a, const struct policy_parts *b)
{
	for (size_t i = 0, k = 0; i < a->nb && k < b->nb;) {
		if (a->at[i].verdict != b->at[k].verdict ||
		    !same_terms(a->at[i].rule, b->at[k].rule))
			return 0;
		if (a->at[i].span.high < b->at[k].span.high)
			i++;
		else if (b->at[k].span.high < a->at[i].span.high)
			k++;
		else
			i++, k++;
	}
	return 1;
}

/* Who decides now what rules that are gone decided before; somebody's rule rather than a default. */
static const struct policy_rule *
replacement(const struct lint *l)
{
	const struct policy_rule *found = NULL;

	for (size_t i = 0, k = 0; i < l->parts.nb && k < l->other.nb;) {
		const struct policy_part *a = &l->parts.at[i], *b = &l->other.at[k];

		if (a->rule != b->rule && b->rule != NULL &&
		    (found == NULL || (found->flags & PK_RULE_DEFAULT)))
			found = b->rule;
		if (a->span.high < b->span.high)
			i++;
		else if (b->span.high < a->span.high)
			k++;
		else
			i++, k++;
	}
	return found;
}

static void
prefer_written(const struct policy_rule **kept, const struct policy_rule *new)
{
	if (new != NULL && (*kept == NULL || ((*kept)->flags & PK_RULE_DEFAULT)))
		*kept = new;
}

static int
without(struct lint *l)
{
	return policy_connect_decide(
	    l->program->rules, l->program->nb_rules, l->less, 0, &l->other, NULL);
}

/* What would be different without rule i, and without those that never decide. */
static int
check_needed(struct lint *l, uint32_t i)
{
	struct fact *f = &l->facts.at[l->fact_of[i]];
	int rc;

	memcpy(l->less, l->column, l->words * sizeof(l->less[0]));
	for (uint32_t k = 0; k < l->program->nb_rules; k++)
		if (l->fact_of[k] == l->fact_of[i] ||
		    (l->fact_of[k] != NONE && !l->facts.at[l->fact_of[k]].decides))
			clear(l->less, k);
	if ((rc = without(l)) < 0)
		return rc;
	if (!same_verdicts(&l->parts, &l->other))
		f->needed = 1;
	else
		prefer_written(&f->instead, replacement(l));
	return 0;
}

/* The same for all rules of a policy, with the end of its tier if no other policy stands there. */
static int
check_policy(struct lint *l, uint32_t policy)
{
	struct whole *w = &l->policies.at[policy];
	const struct policy_program *p = l->program;
	const struct policy_rule *instead;
	int alone = 1, tier = -1, rc;

	memcpy(l->less, l->column, l->words * sizeof(l->less[0]));
	for (uint32_t k = 0; k < p->nb_rules; k++) {
		if (l->fact_of[k] == NONE || l->facts.at[l->fact_of[k]].policy != policy)
			continue;
		clear(l->less, k);
		tier = p->rules[k].tier;
	}
	for (uint32_t k = 0; k < p->nb_rules; k++)
		if (p->rules[k].tier == tier && l->fact_of[k] != NONE &&
		    l->facts.at[l->fact_of[k]].policy != policy)
			alone = 0;
	for (uint32_t k = 0; k < p->nb_rules && alone; k++)
		if (p->rules[k].tier == tier && (p->rules[k].flags & PK_RULE_DEFAULT))
			clear(l->less, k);
	if ((rc = without(l)) < 0)
		return rc;
	if (!same_verdicts(&l->parts, &l->other)) {
		w->effective = 1;
		return 0;
	}
	instead = replacement(l);
	if (instead != NULL && !(instead->flags & PK_RULE_DEFAULT))
		w->replaced = 1;
	return 0;
}

/* What rules of one fact match for this column, into *out. */
static int
fact_traffic(struct lint *l, uint32_t fact, struct policy_traffic *out)
{
	out->nb = 0;
	for (uint32_t k = 0; k < l->program->nb_rules; k++) {
		struct policy_traffic *sum = &l->scratch[2], swap;

		if (l->fact_of[k] != fact || !bit(l->column, k))
			continue;
		if (policy_traffic_or(sum, out, &l->own[k]) < 0)
			return -ENOMEM;
		swap = *sum;
		*sum = *out;
		*out = swap;
	}
	return 0;
}

static int
check_overlaps(struct lint *l)
{
	for (size_t i = 0; i < l->overlaps.nb; i++) {
		struct overlap *o = &l->overlaps.at[i];
		struct policy_traffic *a = &l->scratch[0], *b = &l->scratch[1],
		                      *rest = &l->scratch[2];

		if (o->first_only && o->second_only)
			continue;
		if (fact_traffic(l, o->first, a) < 0 || fact_traffic(l, o->second, b) < 0 ||
		    policy_traffic_minus(rest, a, b) < 0)
			return -ENOMEM;
		o->first_only |= rest->nb > 0;
		if (policy_traffic_minus(rest, b, a) < 0)
			return -ENOMEM;
		o->second_only |= rest->nb > 0;
	}
	return 0;
}

static int
second_walk(struct lint *l)
{
	const struct policy_program *p = l->program;
	size_t index = (size_t)(p - l->table->programs);
	uint32_t last = NONE;
	int rc = check_overlaps(l);

	for (size_t k = 0; k < l->parts.nb; k++) {
		const struct policy_part *part = &l->parts.at[k];
		const struct policy_traffic t = { .at = &l->parts.at[k].span, .nb = 1 };

		if (part->verdict != PK_VERDICT_ALLOW)
			continue;
		l->allows[index] = 1;
		l->dns[index] |= (uint8_t)(policy_traffic_has(&t, IPPROTO_UDP, 53) ||
		    policy_traffic_has(&t, IPPROTO_TCP, 53));
	}
	for (uint32_t i = 0; i < p->nb_rules && rc == 0; i++) {
		const struct fact *f = l->fact_of[i] != NONE ? &l->facts.at[l->fact_of[i]] : NULL;

		if (f == NULL)
			continue;
		if (f->decides && !f->needed && bit(l->column, i))
			rc = check_needed(l, i);
		if (rc == 0 && f->policy != last && !l->policies.at[f->policy].effective)
			rc = check_policy(l, f->policy);
		last = f->policy;
	}
	return rc;
}

/* ---- programs and columns ------------------------------------------------------------------------ */

static int
begin_program(struct lint *l, const struct policy_program *p)
{
	int rc = 0;

	l->program = p;
	l->words = p->nb_rules / 64 + 1;
	l->own = calloc((size_t)p->nb_rules + 1, sizeof(l->own[0]));
	l->fact_of = calloc((size_t)p->nb_rules + 1, sizeof(l->fact_of[0]));
	l->column = calloc(l->words, sizeof(l->column[0]));
	l->less = calloc(l->words, sizeof(l->less[0]));
	if (l->own == NULL || l->fact_of == NULL || l->column == NULL || l->less == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nb_rules && rc == 0; i++) {
		rc = find_fact(l, &p->rules[i], p->direction, &l->fact_of[i]);
		if (rc == 0)
			rc = policy_traffic_of_rule(&l->own[i], &p->rules[i]);
	}
	return rc;
}

static void
end_program(struct lint *l)
{
	for (uint32_t i = 0; l->own != NULL && i < l->program->nb_rules; i++)
		policy_traffic_fini(&l->own[i]);
	free(l->own);
	free(l->fact_of);
	free(l->column);
	free(l->less);
	l->own = NULL;
	l->fact_of = NULL;
	l->column = l->less = NULL;
}

static int
walk_program(struct lint *l, const struct policy_program *p)
{
	struct policy_map seen = { 0 };
	struct policy_arena arena = { 0 };
	int rc = begin_program(l, p);

	for (uint32_t peer = 0; peer < policy_connect_count(l->connect) && rc == 0; peer++) {
		size_t len = l->words * sizeof(l->column[0]);
		const void *key;

		memset(l->column, 0, len);
		for (uint32_t i = 0; i < p->nb_rules; i++)
			if (policy_connect_admits(l->connect, &p->rules[i], peer))
				l->column[i / 64] |= UINT64_C(1) << i % 64;
		/* To this program the peer is like an earlier one. */
		if (policy_map_get(&seen, l->column, len) != POLICY_MAP_NONE)
			continue;
		key = policy_arena_copy(&arena, l->column, len);
		if (key == NULL || policy_map_put(&seen, key, len, 0) < 0)
			rc = -ENOMEM;
		if (rc == 0)
			rc = policy_connect_decide(
			    p->rules, p->nb_rules, l->column, 0, &l->parts, &l->passed);
		if (rc == 0)
			rc = l->second ? second_walk(l) : first_walk(l);
	}
	end_program(l);
	policy_map_fini(&seen);
	policy_arena_fini(&arena);
	return rc;
}

/* ---- findings ------------------------------------------------------------------------------------ */

static const char *
where(const struct policy_rule *r, char *buf, size_t size)
{
	if (r->flags & PK_RULE_DEFAULT)
		snprintf(buf, size, "the default of %s", r->name);
	else
		snprintf(buf, size, "rule \"%s\" of policy \"%s\" (%s:%u)", r->name, r->policy,
		    r->file, r->line);
	return buf;
}

static void
tell_fact(struct lint *l, const struct fact *f)
{
	const struct whole *w = &l->policies.at[f->policy];
	const char *file = w->def->meta.file;
	unsigned int line = f->def->line, column = f->def->column;
	char other[400];

	if (!f->decides && f->matches && f->by != NULL && (f->by->flags & PK_RULE_DEFAULT))
		policy_findings_add(l->findings, POLICY_WARNING, file, line, column, "unreachable",
		    "rule \"%s\" is never reached: all that it matches ends before, with %s",
		    f->def->name, where(f->by, other, sizeof(other)));
	else if (!f->decides && f->matches && f->by != NULL) {
		if (!policy_findings_has(l->findings, file, line, column, "shadowed"))
			policy_findings_add(l->findings, POLICY_WARNING, file, line, column,
			    "shadowed", "rule \"%s\" never decides: %s %s first", f->def->name,
			    where(f->by, other, sizeof(other)),
			    f->several ? "and others match" : "matches");
	} else if (f->decides && !f->needed && f->def->log == PK_RULE_LOG_NONE &&
	    f->instead != NULL && !(f->instead->flags & PK_RULE_DEFAULT) &&
	    !(w->replaced && !w->effective))
		policy_findings_add(l->findings, POLICY_WARNING, file, line, column, "redundant",
		    "rule \"%s\" changes nothing: without it, %s would decide the same",
		    f->def->name, where(f->instead, other, sizeof(other)));
}

static void
tell_overlap(struct lint *l, const struct overlap *o)
{
	const struct fact *a = &l->facts.at[o->first], *b = &l->facts.at[o->second];
	char other[400];

	if (!o->first_only || !o->second_only)
		return;
	policy_findings_add(l->findings, POLICY_WARNING, l->policies.at[b->policy].def->meta.file,
	    b->def->line, b->def->column, "conflicting",
	    "rule \"%s\" says %s, but where they overlap %s comes first and says %s", b->def->name,
	    pk_verdict_name(b->rule->verdict), where(a->rule, other, sizeof(other)),
	    pk_verdict_name(a->rule->verdict));
}

/* The program that judges a workload; NULL when the table does not have it. */
static const struct policy_program *
program_of(const struct lint *l, const struct policy_workload_def *w, int dir)
{
	const struct policy_identity *id = NULL;
	char name[2 * PK_NAME_MAX];

	if (w->addresses.nb > 0) {
		const struct policy_endpoint *e =
		    policy_table_endpoint(l->table, w->vrf, &w->addresses.at[0].addr);

		id = e != NULL ? policy_table_identity(l->table, e->identity) : NULL;
	} else {
		const struct policy_unplaced *u;

		snprintf(name, sizeof(name), "%s/%s", w->meta.tenant, w->meta.name);
		u = policy_table_unplaced(l->table, name);
		id = u != NULL ? policy_table_identity(l->table, u->identity) : NULL;
	}
	return id != NULL ? policy_table_program(l->table, id->program[dir]) : NULL;
}

/* Whether the end of the policy's tier refuses in this program. */
static int
is_isolated(const struct policy_program *p, const char *tier)
{
	char name[POLICY_NAME_MAX + sizeof("tier ")];

	snprintf(name, sizeof(name), "tier %s", tier);
	for (uint32_t i = 0; i < p->nb_rules; i++)
		if ((p->rules[i].flags & PK_RULE_DEFAULT) && !(p->rules[i].flags & PK_RULE_AUDIT) &&
		    strcmp(p->rules[i].name, name) == 0)
			return 1;
	return 0;
}

static int
has_allow(const struct policy_rules_def *rules)
{
	for (uint32_t i = 0; i < rules->nb; i++)
		if (rules->at[i].action == PK_VERDICT_ALLOW)
			return 1;
	return 0;
}

static void
tell_isolation(struct lint *l, const struct policy_def *d, int dir)
{
	const struct policy_workload_def *w;
	int subjects = 0, isolated = 1, allows = 0, dns = 0;

	/* A group's members are not looked for. */
	if (!d->rules[dir].given || d->mode == POLICY_AUDIT || d->subject.kind == POLICY_PEER_GROUP)
		return;
	POLICY_EACH(l->inventory->model, workloads, w)
	{
		const struct policy_program *p;

		if (!policy_inventory_selects(
		        l->inventory, &d->subject.selector, d->meta.tenant, w) ||
		    (p = program_of(l, w, dir)) == NULL)
			continue;
		subjects++;
		isolated &= is_isolated(p, d->tier);
		allows |= l->allows[p - l->table->programs];
		dns |= l->dns[p - l->table->programs];
	}
	if (subjects == 0 || !isolated)
		return;
	if (!allows)
		policy_findings_add(l->findings, POLICY_NOTE, d->meta.file, d->meta.line,
		    d->meta.column, "isolated",
		    "policy \"%s\" isolates its workloads for %s, and nothing allows them anything there",
		    d->meta.name, pk_direction_name((unsigned int)dir));
	else if (dir == PK_EGRESS && !dns && has_allow(&d->rules[dir]))
		policy_findings_add(l->findings, POLICY_NOTE, d->meta.file, d->meta.line,
		    d->meta.column, "no-dns",
		    "policy \"%s\" allows its workloads some egress, but nothing allows them DNS (port 53)",
		    d->meta.name);
}

static void
tell(struct lint *l)
{
	uint64_t work = (uint64_t)l->policies.nb * l->inventory->nb_workloads;

	for (size_t i = 0; i < l->facts.nb; i++)
		tell_fact(l, &l->facts.at[i]);
	for (size_t i = 0; i < l->overlaps.nb; i++)
		tell_overlap(l, &l->overlaps.at[i]);
	for (size_t i = 0; i < l->policies.nb; i++) {
		const struct whole *w = &l->policies.at[i];

		if (w->rules && !w->effective && w->replaced)
			policy_findings_add(l->findings, POLICY_WARNING, w->def->meta.file,
			    w->def->meta.line, w->def->meta.column, "no-effect",
			    "policy \"%s\" changes nothing: others say the same about all its traffic",
			    w->def->meta.name);
		for (int dir = 0; dir < PK_DIRECTION_COUNT && work < WORK_MAX; dir++)
			tell_isolation(l, w->def, dir);
	}
}

int
policy_lint_rules(const struct policy_inventory *v, const struct policy_table *t,
    struct policy_connect *c, struct policy_findings *f)
{
	struct lint l = { .inventory = v, .table = t, .connect = c, .findings = f };
	const struct policy_def *d;
	uint64_t work = 0;
	int rc = 0;

	for (uint32_t p = 0; p < t->nb_programs; p++)
		work += (uint64_t)t->programs[p].nb_rules * policy_connect_count(c);
	if (work > WORK_MAX) {
		policy_findings_add(f, POLICY_NOTE, "policy", 0, 0, "too-large",
		    "there is too much here to compare all rules; check a tenant at a time");
		return 0;
	}
	l.allows = calloc((size_t)t->nb_programs + 1, sizeof(l.allows[0]));
	l.dns = calloc((size_t)t->nb_programs + 1, sizeof(l.dns[0]));
	if (l.allows == NULL || l.dns == NULL)
		rc = -ENOMEM;
	POLICY_EACH(v->model, policies, d)
	if (rc == 0)
		rc = note_policy(&l, d);
	for (l.second = 0; l.second < 2; l.second++)
		for (uint32_t p = 0; p < t->nb_programs && rc == 0; p++)
			rc = walk_program(&l, &t->programs[p]);
	if (rc == 0)
		tell(&l);
	free(l.allows);
	free(l.dns);
	policy_map_fini(&l.written);
	policy_map_fini(&l.fact_index);
	policy_pairs_fini(&l.overlap_index);
	free(l.places.at);
	free(l.policies.at);
	free(l.facts.at);
	free(l.overlaps.at);
	free(l.parts.at);
	free(l.passed.at);
	free(l.other.at);
	for (size_t i = 0; i < PK_COUNT(l.scratch); i++)
		policy_traffic_fini(&l.scratch[i]);
	policy_arena_fini(&l.arena);
	return rc;
}
