#include "policy/table.h"

#include <stdlib.h>
#include <string.h>

#include "policy/compile_priv.h"

void
policy_table_destroy(struct policy_table *t)
{
	struct policy_table_own *own = (struct policy_table_own *)t;

	if (t == NULL)
		return;
	policy_arena_fini(&own->arena);
	free(own);
}

/* Sorted by one number each, so one macro is clearer than three searches that differ in a type. */
#define SEARCH(array, nb, want)                                                        \
	do {                                                                           \
		uint32_t low = 0, high = (nb);                                         \
		while (low < high) {                                                   \
			uint32_t mid = low + (high - low) / 2;                         \
			if ((array)[mid].id < (want))                                  \
				low = mid + 1;                                         \
			else                                                           \
				high = mid;                                            \
		}                                                                      \
		return low < (nb) && (array)[low].id == (want) ? &(array)[low] : NULL; \
	} while (0)

const struct policy_identity *
policy_table_identity(const struct policy_table *t, uint32_t id)
{
	SEARCH(t->identities, t->nb_identities, id);
}

const struct policy_set *
policy_table_set(const struct policy_table *t, uint64_t id)
{
	SEARCH(t->sets, t->nb_sets, id);
}

const struct policy_program *
policy_table_program(const struct policy_table *t, uint64_t id)
{
	SEARCH(t->programs, t->nb_programs, id);
}

const struct policy_unplaced *
policy_table_unplaced(const struct policy_table *t, const char *name)
{
	uint32_t low = 0, high = t->nb_unplaced;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int d = strcmp(t->unplaced[mid].name, name);

		if (d == 0)
			return &t->unplaced[mid];
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct policy_endpoint *
policy_table_endpoint(const struct policy_table *t, uint32_t vrf, const struct pk_addr *addr)
{
	uint32_t low = 0, high = t->nb_endpoints;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct policy_endpoint *e = &t->endpoints[mid];

		if (e->vrf == vrf && pk_addr_compare(&e->addr, addr) == 0)
			return e;
		if (e->vrf < vrf || (e->vrf == vrf && pk_addr_compare(&e->addr, addr) < 0))
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}
