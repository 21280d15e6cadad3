#include "policy/app.h"

#include <stdlib.h>
#include <string.h>

#include "dpi/apps.h"
#include "lib/msg.h"

static const char *const slugs[] = {
#define SLUG(id, slug) slug,
	DPI_APPS(SLUG)
#undef SLUG
};

const char *
policy_app_name(uint32_t id)
{
	for (size_t i = 0; i < PK_COUNT(slugs); i++)
		if (dpi_app_id(slugs[i]) == id)
			return slugs[i];
	return "unknown";
}

const char *
policy_apps_text(char *buf, size_t size, const uint32_t *apps, uint32_t nb)
{
	const char *names[PK_MSG_APPS];

	nb = PK_MIN(nb, (uint32_t)PK_MSG_APPS);
	for (uint32_t i = 0; i < nb; i++)
		names[i] = policy_app_name(apps[i]);
	return policy_words_text(buf, size, names, nb);
}

static int
ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void
read_one(struct policy_reader *r, const struct policy_node *n, uint32_t *at, uint32_t *nb)
{
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n)) {
		policy_reader_mismatch(r, n);
		return;
	}
	for (size_t i = 0; i < PK_COUNT(slugs); i++) {
		if (strcmp(n->text, slugs[i]) != 0)
			continue;
		for (uint32_t k = 0; k < *nb; k++) {
			if (at[k] != dpi_app_id(slugs[i]))
				continue;
			policy_reader_error(
			    r, n, "bad-app", "application \"%s\" stands twice", slugs[i]);
			return;
		}
		at[(*nb)++] = dpi_app_id(slugs[i]);
		return;
	}
	policy_reader_unknown(r, n, "unknown-app", "application", slugs, PK_COUNT(slugs));
}

void
policy_read_apps(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_apps *apps = out;
	uint32_t *at;

	(void)arg;
	if (n->kind == POLICY_MAP || (n->kind == POLICY_LIST && n->nb == 0)) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (n->kind == POLICY_LIST && n->nb > PK_MSG_APPS) {
		policy_reader_error(r, n, "bad-app",
		    "a rule names at most %d applications; write another rule for the others",
		    PK_MSG_APPS);
		return;
	}
	at = policy_reader_alloc(r, PK_MSG_APPS, sizeof(*at));
	if (at == NULL)
		return;
	if (n->kind == POLICY_SCALAR)
		read_one(r, n, at, &apps->nb);
	else
		for (uint32_t i = 0; i < n->nb; i++)
			read_one(r, n->items[i], at, &apps->nb);
	qsort(at, apps->nb, sizeof(*at), ascending);
	apps->at = at;
}
