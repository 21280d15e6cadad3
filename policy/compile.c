#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"
#include "policy/k8s.h"

/* All steps of a compilation, and what they share. */

static void
report(struct compile *c, enum policy_severity severity, const char *file, uint32_t line,
    uint32_t column, const char *code, const char *fmt, va_list ap)
{
	char text[PK_DIAG_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	policy_findings_add(c->findings, severity, file, line, column, code, "%s", text);
}

void
compile_error(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *code,
    const char *fmt, ...)
{
	va_list ap;

	c->errors++;
	va_start(ap, fmt);
	report(c, POLICY_ERROR, file, line, column, code, fmt, ap);
	va_end(ap);
}

void
compile_warn(struct compile *c, const char *file, uint32_t line, uint32_t column, const char *code,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, POLICY_WARNING, file, line, column, code, fmt, ap);
	va_end(ap);
}

int
compile_push(struct compile *c, numbers *v, uint32_t value)
{
	uint32_t *slot = POLICY_PUSH(v);

	if (slot == NULL) {
		c->nomem = 1;
		return -1;
	}
	*slot = value;
	return 0;
}

/* `unknown WHAT "word"...`, with a suggestion out of `known`. */
void
compile_unknown(struct compile *c, const char *file, uint32_t line, uint32_t column,
    const char *code, const char *what, const char *word, const char *const *known, size_t nb)
{
	const char *near = pk_suggest(word, known, nb);
	char list[256];

	if (near != NULL)
		compile_error(c, file, line, column, code,
		    "unknown %s \"%s\"; did you mean \"%s\"?", what, word, near);
	else if (nb > 0)
		compile_error(c, file, line, column, code, "unknown %s \"%s\"; known: %s", what,
		    word, policy_words_text(list, sizeof(list), known, nb));
	else
		compile_error(
		    c, file, line, column, code, "unknown %s \"%s\"; none is defined", what, word);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

#define FREE_VECTORS(v, member)                         \
	do {                                            \
		for (size_t i_ = 0; i_ < (v)->nb; i_++) \
			free((v)->at[i_].member.at);    \
	} while (0)

void
compile_policy_fini(struct compile_policy *p)
{
	for (int d = 0; d < PK_DIRECTION_COUNT; d++) {
		for (uint32_t r = 0; r < p->nb_rules[d]; r++) {
			struct compile_rule *rule = &p->rules[d][r];

			free(rule->sets.at);
			free(rule->services.at);
			free(rule->ports.at);
			free(rule->templates.at);
		}
	}
	free(p->selectors.at);
	memset(p, 0, sizeof(*p));
}

void
compile_destroy(struct compile *c)
{
	if (c == NULL)
		return;
	compile_postings_fini(&c->postings);
	policy_objects_fini(&c->all);
	FREE_VECTORS(&c->groups, selectors);
	FREE_VECTORS(&c->groups, fqdns);
	for (size_t i = 0; i < c->groups.nb; i++)
		policy_networks_fini(&c->groups.at[i].networks);
	FREE_VECTORS(&c->selectors, members);
	FREE_VECTORS(&c->selectors, sets);
	FREE_VECTORS(&c->selectors, subjects);
	FREE_VECTORS(&c->identities, policies);
	FREE_VECTORS(&c->sets, members);
	FREE_VECTORS(&c->programs, templates);
	for (size_t i = 0; i < c->programs.nb; i++)
		free(c->programs.at[i].rules);
	for (size_t i = 0; i < c->policies.nb; i++)
		compile_policy_fini(&c->policies.at[i]);
	free(c->tenants.at);
	free(c->tiers.at);
	free(c->groups.at);
	free(c->policies.at);
	free(c->symbols.at);
	free(c->matters.at);
	free(c->selectors.at);
	free(c->identities.at);
	free(c->sets.at);
	free(c->templates.at);
	free(c->programs.at);
	free(c->texts.at);
	free(c->scratch.at);
	free(c->layout.at);
	policy_map_fini(&c->identity_index);
	policy_map_fini(&c->tenant_index);
	policy_map_fini(&c->group_index);
	policy_map_fini(&c->service_index);
	policy_map_fini(&c->symbol_index);
	policy_map_fini(&c->selector_index);
	policy_map_fini(&c->set_index);
	policy_map_fini(&c->template_index);
	policy_map_fini(&c->program_index);
	policy_map_fini(&c->text_index);
	policy_arena_fini(&c->arena);
	policy_table_destroy(c->table != NULL ? &c->table->t : NULL);
	free(c);
}

int
compile_whole(struct compile **out, const struct policy_model *m,
    struct policy_workload_def *const *extra, size_t nb_extra, struct policy_ids *ids,
    struct policy_findings *f)
{
	/* A step is taken when the one before left nothing to complain of that would mislead it. */
	void (*const steps[])(struct compile *) = { policy_k8s_join, compile_tenants, compile_tiers,
		compile_order, compile_index_names, compile_resolve, compile_places,
		compile_identities, compile_endpoints, compile_unplaced, compile_members,
		compile_layout };
	struct compile *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (c == NULL)
		return -ENOMEM;
	c->model = m;
	c->ids = ids;
	c->findings = f;
	c->table = calloc(1, sizeof(*c->table));
	if (c->table == NULL)
		c->nomem = 1;
	else
		compile_gather(c, extra, nb_extra);
	for (size_t i = 0; i < PK_COUNT(steps) && !c->nomem; i++) {
		/* Numbers are given out for good, so not for what will be refused. */
		if (steps[i] == compile_identities && c->errors > 0)
			break;
		steps[i](c);
	}
	rc = c->nomem ? -ENOMEM : c->errors > 0 ? -EINVAL : 0;
	if (rc < 0)
		compile_destroy(c);
	else
		*out = c;
	return rc;
}

int
policy_compile_with(const struct policy_model *m, struct policy_workload_def *const *extra,
    size_t nb_extra, struct policy_ids *ids, struct policy_table **out, struct policy_findings *f)
{
	struct compile *c;
	int rc = compile_whole(&c, m, extra, nb_extra, ids, f);

	*out = NULL;
	if (rc < 0)
		return rc;
	*out = &c->table->t;
	c->table = NULL;
	compile_destroy(c);
	return 0;
}

int
policy_compile(const struct policy_model *m, struct policy_ids *ids, struct policy_table **out,
    struct policy_findings *f)
{
	return policy_compile_with(m, NULL, 0, ids, out, f);
}
