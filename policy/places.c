#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"

/* Workloads to addresses, addresses to endpoints. */

static int
by_address(const void *va, const void *vb)
{
	const struct compile_place *a = va, *b = vb;
	int d;

	if (a->workload->vrf != b->workload->vrf)
		return a->workload->vrf < b->workload->vrf ? -1 : 1;
	d = pk_addr_compare(&a->address->addr, &b->address->addr);
	if (d == 0)
		d = compile_by_meta(&a->workload, &b->workload);
	return d != 0 ? d : (a->address > b->address) - (a->address < b->address);
}

/* `a` has it already. */
void
compile_same_address(struct compile *c, const struct policy_workload_def *a,
    const struct policy_address *of_a, const struct policy_workload_def *b,
    const struct policy_address *of_b)
{
	char text[PK_ADDR_TEXT];

	compile_error(c, b->meta.file, of_b->line, of_b->column, "duplicate-address",
	    "address %s is that of workload \"%s/%s\" already (%s:%u)",
	    pk_addr_text(&of_b->addr, text), a->meta.tenant, a->meta.name, a->meta.file,
	    of_a->line);
}

void
compile_places(struct compile *c)
{
	struct compile_place *at;
	size_t nb = 0;

	for (size_t i = 0; i < c->all.workloads.nb; i++)
		nb += c->all.workloads.at[i]->addresses.nb;
	at = policy_arena_array(&c->arena, nb, sizeof(at[0]));
	if (at == NULL) {
		c->nomem = 1;
		return;
	}
	c->places = at;
	for (size_t i = 0; i < c->all.workloads.nb; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];

		for (uint32_t a = 0; a < w->addresses.nb; a++)
			at[c->nb_places++] =
			    (struct compile_place){ w, &w->addresses.at[a], (uint32_t)i };
	}
	if (nb > 1)
		qsort(at, nb, sizeof(at[0]), by_address);
	for (size_t i = 1; i < nb; i++) {
		const struct policy_workload_def *a = at[i - 1].workload, *b = at[i].workload;

		if (a->vrf != b->vrf ||
		    pk_addr_compare(&at[i - 1].address->addr, &at[i].address->addr) != 0)
			continue;
		compile_same_address(c, a, at[i - 1].address, b, at[i].address);
	}
}

void
compile_endpoints(struct compile *c)
{
	struct policy_arena *arena = &c->table->arena;
	struct policy_endpoint *out;
	struct policy_map dpus = { 0 };
	POLICY_VECTOR(const char *) dpu_names = { 0 };
	const struct compile_place *at = c->places;
	size_t nb = c->nb_places;

	out = policy_arena_array(arena, nb, sizeof(out[0]));
	if (out == NULL) {
		c->nomem = 1;
		return;
	}
	for (size_t i = 0; i < nb; i++) {
		const struct policy_workload_def *w = at[i].workload;
		const char **slot;
		uint32_t dpu = policy_map_get_text(&dpus, w->dpu);

		if (dpu == NONE) {
			dpu = (uint32_t)dpu_names.nb;
			slot = POLICY_PUSH(&dpu_names);
			if (slot == NULL || (*slot = policy_arena_text(arena, w->dpu)) == NULL ||
			    policy_map_put_text(&dpus, *slot, dpu) < 0) {
				c->nomem = 1;
				break;
			}
		}
		out[i] = (struct policy_endpoint){ .name = policy_meta_key(arena, &w->meta),
			.dpu = dpu_names.at[dpu],
			.vrf = w->vrf,
			.attested = c->identities.at[c->workload_identity[at[i].index]].id,
			.unattested = c->identities.at[c->workload_unattested[at[i].index]].id,
			.wire = (uint16_t)w->wire,
			.has_mac = w->has_mac,
			.addr = at[i].address->addr };
		out[i].identity = policy_model_attested(c->model, w->dpu) ? out[i].attested
		                                                          : out[i].unattested;
		memcpy(out[i].mac, w->mac, sizeof(out[i].mac));
		if (out[i].name == NULL) {
			c->nomem = 1;
			break;
		}
	}
	c->table->t.endpoints = out;
	c->table->t.nb_endpoints = (uint32_t)nb;
	policy_map_fini(&dpus);
	free(dpu_names.at);
}

static int
by_unplaced(const void *a, const void *b)
{
	return strcmp(
	    ((const struct policy_unplaced *)a)->name, ((const struct policy_unplaced *)b)->name);
}

void
compile_unplaced(struct compile *c)
{
	struct policy_unplaced *out;
	uint32_t nb = 0;

	for (size_t i = 0; i < c->all.workloads.nb; i++)
		nb += c->all.workloads.at[i]->addresses.nb == 0;
	out = policy_arena_array(&c->table->arena, nb, sizeof(out[0]));
	if (out == NULL) {
		c->nomem = 1;
		return;
	}
	c->table->t.unplaced = out;
	for (size_t i = 0; i < c->all.workloads.nb; i++) {
		const struct policy_workload_def *w = c->all.workloads.at[i];

		if (w->addresses.nb > 0)
			continue;
		out->name = policy_meta_key(&c->table->arena, &w->meta);
		out->identity = c->identities.at[c->workload_identity[i]].id;
		if (out++->name == NULL) {
			c->nomem = 1;
			return;
		}
	}
	/* By tenant and name is not quite by both as one text. */
	if (nb > 1)
		qsort(out - nb, nb, sizeof(out[0]), by_unplaced);
	c->table->t.nb_unplaced = nb;
}
