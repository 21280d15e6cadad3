/* Which patterns of DNS names a generation has, and which of them match a name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/rule_priv.h"
#include "lib/name.h"

static uint32_t
hash(const char *text)
{
	uint64_t h = fw_set_name(text);

	return (uint32_t)(h ^ h >> 32);
}

int
fw_patterns_build(struct fw_rules_state *s, struct fw_patterns **out, struct pk_diag *diag)
{
	size_t texts = 0, nb_chains = 8, size;
	struct fw_patterns *p;
	uint32_t nb = 0;
	char *text;

	*out = NULL;
	for (const struct fw_entry *e = s->map[FW_ENTRY_SET]; e != NULL; e = e->hh.next) {
		const struct fw_set *set = e->object;

		if (set == NULL || set->kind != PK_SET_NAME)
			continue;
		nb++;
		texts += strlen(set->pattern) + 1;
	}
	if (nb == 0)
		return 0;
	if (nb > FW_PATTERNS_MAX) {
		pk_diag_set(diag, "%u DNS names and patterns of them: want at most %d", nb,
		    FW_PATTERNS_MAX);
		return -ENOSPC;
	}
	while (nb_chains < nb)
		nb_chains *= 2;
	size = sizeof(*p) + nb * sizeof(p->pattern[0]) + nb_chains * sizeof(p->chain[0]) + texts;
	p = fw_part_new(&s->line->parts, size);
	if (p == NULL)
		return -ENOMEM;
	p->mask = (uint32_t)(nb_chains - 1);
	p->pattern = (struct fw_pattern *)(p + 1);
	p->chain = (uint32_t *)(p->pattern + nb);
	p->text = text = (char *)(p->chain + nb_chains);
	for (const struct fw_entry *e = s->map[FW_ENTRY_SET]; e != NULL; e = e->hh.next) {
		const struct fw_set *set = e->object;
		struct fw_pattern *at;
		uint32_t *chain;

		if (set == NULL || set->kind != PK_SET_NAME)
			continue;
		at = &p->pattern[p->nb++];
		at->name = fw_set_name(set->pattern);
		memcpy(text, set->pattern, strlen(set->pattern) + 1);
		at->text = text;
		at->fixed = pk_name_fixed(at->text);
		chain = &p->chain[hash(at->fixed) & p->mask];
		at->next = *chain;
		*chain = p->nb;
		text += strlen(text) + 1;
	}
	*out = p;
	return 0;
}

bool
fw_rules_has_names(const struct fw_rules *r)
{
	return r != NULL && r->roots.patterns != NULL;
}

static void
add(struct fw_named *named, uint64_t pattern)
{
	for (uint32_t i = 0; i < named->nb; i++)
		if (named->pattern[i] == pattern)
			return;
	if (named->nb < FW_NAMED_MAX)
		named->pattern[named->nb++] = pattern;
}

/* Patterns that end in `fixed`, which is the end of `name`. */
static void
match_chain(
    const struct fw_patterns *p, const char *name, const char *fixed, struct fw_named *named)
{
	for (uint32_t i = p->chain[hash(fixed) & p->mask]; i != 0; i = p->pattern[i - 1].next) {
		const struct fw_pattern *at = &p->pattern[i - 1];

		if (strcmp(at->fixed, fixed) == 0 && pk_name_match(at->text, name))
			add(named, at->name);
	}
}

void
fw_rules_name(const struct fw_rules *r, const char *name, struct fw_named *named)
{
	const struct fw_patterns *p = r->roots.patterns;
	const char *dot;

	if (p == NULL)
		return;
	for (const char *end = name;; end = dot + 1) {
		match_chain(p, name, end, named);
		dot = strchr(end, '.');
		if (dot == NULL)
			break;
	}
	match_chain(p, name, "", named);
}

const char *
fw_rules_pattern(const struct fw_rules *r, uint64_t pattern)
{
	const struct fw_patterns *p = r != NULL ? r->roots.patterns : NULL;

	for (uint32_t i = 0; p != NULL && i < p->nb; i++)
		if (p->pattern[i].name == pattern)
			return p->pattern[i].text;
	return NULL;
}
