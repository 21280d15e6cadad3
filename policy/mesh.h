#pragma once

#include "policy/table.h"

/*
 * Which DPUs have to be able to send to each other encrypted, by a compiled policy: pairs with a workload behind each, of
 * which one may open a session to the other, by a rule that asks for `ipsec` or `required`, on the one side or on the
 * other.  Whoever is in no pair with a DPU gets no key for it (lib/mesh.h).
 *
 * Peers are those that rules name by labels, or all; a network in a rule names none.  First match is asked as far as it
 * does not hang on services: what an earlier rule refuses altogether is no pair, what it refuses of one port may be one.
 */
struct policy_mesh;

struct policy_mesh_pair {
	const char *a, *b; /* names, a before b */
};

/* What it says is its own.  Returns 0 or -ENOMEM.  Context: any. */
int policy_mesh_create(struct policy_mesh **out, const struct policy_table *t);
void policy_mesh_destroy(struct policy_mesh *m); /* NULL is allowed */
size_t policy_mesh_count(const struct policy_mesh *m);
struct policy_mesh_pair policy_mesh_get(const struct policy_mesh *m, size_t i);
