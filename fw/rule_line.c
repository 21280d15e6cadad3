/*
 * The line of generations: which of them exist, and when what they dropped can be freed.
 *
 *     older                                        newer
 *     generation 7  ->  generation 8  ->  generation 9 = head
 *     dropped: parts     dropped: parts    dropped: nothing yet
 *     that 8 lacks       that 9 lacks
 *
 * Whatever order they are destroyed in, the parts a generation would free are freed when no older one
 * is left that may have them too; until then the next older one keeps the list.
 */
#include <stdlib.h>

#include "fw/rule_priv.h"

static uint32_t
hash_host(const void *key)
{
	return fw_host_hash(key);
}

static uint32_t
hash_u32(const void *key)
{
	return fw_id_hash(*(const uint32_t *)key);
}

static uint32_t
hash_u64(const void *key)
{
	return fw_id_hash(*(const uint64_t *)key);
}

const struct fw_table_kind fw_hosts_kind = {
	sizeof(struct fw_host_entry),
	sizeof(struct fw_host_key),
	hash_host,
};
const struct fw_table_kind fw_identities_kind = {
	sizeof(struct fw_identity_entry),
	sizeof(uint32_t),
	hash_u32,
};
const struct fw_table_kind fw_identity_rows_kind = {
	sizeof(struct fw_identity_row),
	sizeof(uint32_t),
	hash_u32,
};
const struct fw_table_kind fw_name_rows_kind = {
	sizeof(struct fw_name_row),
	sizeof(uint64_t),
	hash_u64,
};
const struct fw_table_kind fw_ids_kind = {
	sizeof(struct fw_id_entry),
	sizeof(uint64_t),
	hash_u64,
};

static void
drop_host(struct fw_parts *m, void *entry)
{
	fw_part_drop(m, ((struct fw_host_entry *)entry)->host);
}

static void
drop_identity(struct fw_parts *m, void *entry)
{
	fw_part_drop(m, ((struct fw_identity_entry *)entry)->identity);
}

static void
end_if_unused(struct fw_line *l)
{
	struct fw_parts *m = &l->parts;

	if (l->has_state || l->newest != NULL)
		return;
	m->closing = true;
	fw_table_drop(m, &l->head.hosts, &fw_hosts_kind, drop_host);
	fw_table_drop(m, &l->head.identities, &fw_identities_kind, drop_identity);
	fw_table_drop(m, &l->head.ids, &fw_ids_kind, NULL);
	for (uint32_t i = 0; i < l->head.programs.nb; i++)
		fw_program_drop(m, fw_vec_get(&l->head.programs, i));
	fw_vec_drop(m, &l->head.programs);
	for (uint32_t i = 0; i < l->head.texts.nb; i++)
		fw_part_drop(m, fw_vec_get(&l->head.texts, i));
	fw_vec_drop(m, &l->head.texts);
	fw_part_drop(m, l->head.patterns);
	fw_parts_fini(m); /* which insists that nothing was forgotten */
	free(l);
}

void
fw_line_close(struct fw_line *l)
{
	l->has_state = false;
	end_if_unused(l);
}

void
fw_line_commit(
    struct fw_line *l, const struct fw_roots *roots, uint64_t generation, struct fw_rules *r)
{
	struct fw_dropped *dropped = fw_parts_commit(&l->parts);

	if (l->newest != NULL) {
		/* All that was dropped since: by one commit, or by several if some are destroyed. */
		PK_ASSERT(l->newest->newer == NULL);
		if (dropped != NULL) {
			dropped->next = l->newest->dropped;
			l->newest->dropped = dropped;
		}
		l->newest->newer = r;
	} else {
		fw_dropped_free(&l->parts, dropped);
	}
	*r = (struct fw_rules){
		.generation = generation,
		.roots = *roots,
		.line = l,
		.older = l->newest,
	};
	l->newest = r;
	l->head = *roots;
}

void
fw_rules_destroy(struct fw_rules *r)
{
	struct fw_line *l;

	if (r == NULL)
		return;
	l = r->line;
	if (r->older == NULL) {
		fw_dropped_free(&l->parts, r->dropped);
	} else {
		struct fw_dropped **end = &r->dropped;

		while (*end != NULL)
			end = &(*end)->next;
		*end = r->older->dropped;
		r->older->dropped = r->dropped;
		r->older->newer = r->newer;
	}
	if (r->newer != NULL)
		r->newer->older = r->older;
	else
		l->newest = r->older;
	free(r);
	end_if_unused(l);
}
