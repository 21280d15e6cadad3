#include "policy/grant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/inventory.h"
#include "policy/model_priv.h"

struct policy_grants {
	struct policy_arena arena;
	POLICY_VECTOR(struct policy_grant) all;
};

/* Texts are made by the caller in g->arena; any NULL among them is no memory. */
static int
add(struct policy_grants *g, const struct policy_meta *m, const struct policy_grant *one)
{
	struct policy_grant *o = POLICY_PUSH(&g->all);

	if (o == NULL || one->dpu == NULL || one->name == NULL || one->settings == NULL ||
	    one->secret == NULL)
		return -ENOMEM;
	*o = *one;
	o->file = policy_arena_text(&g->arena, m->file);
	o->line = m->line;
	o->column = m->column;
	return o->file != NULL ? 0 : -ENOMEM;
}

/* ipsec/mka/mkad_grant.c reads the settings: the wire, and the CKN in hexadecimal. */
static int
add_link(struct policy_grants *g, const struct policy_link_def *d)
{
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < d->ports.nb; i++) {
		const struct policy_link_port *p = &d->ports.at[i];

		for (uint32_t k = 0; err == 0 && k < d->keys.nb; k++)
			err = add(g, &d->meta,
			    &(struct policy_grant){
			        .dpu = policy_arena_text(&g->arena, p->dpu),
			        .program = "mka",
			        .name = policy_arena_printf(
			            &g->arena, "link %s, wire %u", d->meta.name, p->wire),
			        .settings = policy_arena_printf(
			            &g->arena, "%u %s", p->wire, d->keys.at[k].ckn),
			        .secret = policy_arena_text(&g->arena, d->keys.at[k].secret),
			        .form = POLICY_SECRET_CAK,
			    });
	}
	return err;
}

int
policy_grants_create(struct policy_grants **out, const struct policy_model *m)
{
	struct policy_grants *g = calloc(1, sizeof(*g));
	const struct policy_link_def *link;
	int err = g != NULL ? 0 : -ENOMEM;

	if (err == 0 && m != NULL) {
		POLICY_EACH(m, links, link)
		{
			if (err == 0)
				err = add_link(g, link);
		}
	}
	if (err != 0) {
		policy_grants_destroy(g);
		return err;
	}
	*out = g;
	return 0;
}

void
policy_grants_destroy(struct policy_grants *g)
{
	if (g == NULL)
		return;
	free(g->all.at);
	policy_arena_fini(&g->arena);
	free(g);
}

size_t
policy_grants_count(const struct policy_grants *g)
{
	return g != NULL ? g->all.nb : 0;
}

const struct policy_grant *
policy_grants_get(const struct policy_grants *g, size_t i)
{
	return &g->all.at[i];
}
