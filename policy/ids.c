#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arena.h"
#include "policy/map.h"
#include "policy/model.h"

struct id {
	const char *key;
	uint32_t id;
};

/* Numbers are given out in rising order, so the array is sorted but for what a store restores. */
struct policy_ids {
	struct policy_arena arena;
	struct policy_map index;      /* key -> id */
	POLICY_VECTOR(struct id) all; /* by id */
};

int
policy_ids_create(struct policy_ids **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
policy_ids_destroy(struct policy_ids *ids)
{
	if (ids == NULL)
		return;
	policy_map_fini(&ids->index);
	policy_arena_fini(&ids->arena);
	free(ids->all.at);
	free(ids);
}

/* Index of the first entry whose number is >= id. */
static size_t
lower_bound(const struct policy_ids *ids, uint32_t id)
{
	size_t low = 0, high = ids->all.nb;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ids->all.at[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int
insert(struct policy_ids *ids, const char *key, uint32_t id)
{
	size_t at = lower_bound(ids, id);
	char *own = policy_arena_text(&ids->arena, key);

	if (own == NULL ||
	    policy_grow(&ids->all.at, &ids->all.cap, ids->all.nb + 1, sizeof(ids->all.at[0])) < 0 ||
	    policy_map_put_text(&ids->index, own, id) < 0)
		return -ENOMEM;
	memmove(
	    ids->all.at + at + 1, ids->all.at + at, (ids->all.nb - at) * sizeof(ids->all.at[0]));
	ids->all.at[at] = (struct id){ .key = own, .id = id };
	ids->all.nb++;
	return 0;
}

uint32_t
policy_ids_get(struct policy_ids *ids, const char *key)
{
	uint32_t id = policy_map_get_text(&ids->index, key);

	if (id != POLICY_MAP_NONE)
		return id;
	id = ids->all.nb > 0 ? ids->all.at[ids->all.nb - 1].id + 1 : 1;
	/* A number is never used for two things, so four billion are the end. */
	if (id == POLICY_MAP_NONE || insert(ids, key, id) < 0)
		return 0;
	return id;
}

int
policy_ids_restore(struct policy_ids *ids, const char *key, uint32_t id)
{
	size_t at = lower_bound(ids, id);

	if (id == 0 || id == POLICY_MAP_NONE ||
	    policy_map_get_text(&ids->index, key) != POLICY_MAP_NONE ||
	    (at < ids->all.nb && ids->all.at[at].id == id))
		return -EEXIST;
	return insert(ids, key, id);
}

void
policy_ids_each(const struct policy_ids *ids, uint32_t from,
    void (*each)(void *arg, const char *key, uint32_t id), void *arg)
{
	for (size_t i = lower_bound(ids, from); i < ids->all.nb; i++)
		each(arg, ids->all.at[i].key, ids->all.at[i].id);
}

void
policy_ids_forget(struct policy_ids *ids, uint32_t from)
{
	size_t kept = lower_bound(ids, from);

	for (size_t i = kept; i < ids->all.nb; i++)
		(void)policy_map_remove_text(&ids->index, ids->all.at[i].key);
	ids->all.nb = kept;
}
