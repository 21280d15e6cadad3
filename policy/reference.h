#pragma once

#include "policy/model.h"

/*
 * Reference values among the sources (kind Reference): what the hosts behind some DPUs, or these DPUs themselves,
 * have to look like.  Their values are those of docs/attestation.md, checked when the source is read; DPUs are sent
 * them signed (policy/server/reference.c).  Of those that name a DPU the one with its exact name counts, else the first
 * by name.
 */
struct policy_references;

enum policy_reference_subject {
	POLICY_REFERENCE_HOST = 0,
	POLICY_REFERENCE_DPU,
};

struct policy_reference {
	const char *name;
	uint8_t subject;
	size_t nb_dpus;
	const char *const *dpus; /* * and ? stand for any */
	const char *values;      /* JSON */
	size_t len;
	char sha256[65]; /* of them, in hexadecimal */
};

/* All of a model, on their own; never changes.  `m` NULL: none.  Returns 0 or -ENOMEM.  Context: any. */
int policy_references_create(struct policy_references **out, const struct policy_model *m);
void policy_references_destroy(struct policy_references *r); /* NULL is allowed */
size_t policy_references_count(const struct policy_references *r);
const struct policy_reference *policy_references_get(const struct policy_references *r, size_t i);

/* The one for a DPU, or NULL.  Borrowed. */
const struct policy_reference *policy_references_find(
    const struct policy_references *r, enum policy_reference_subject subject, const char *dpu);
/* Whether a name is among those a reference is for. */
int policy_reference_names(const struct policy_reference *r, const char *dpu);
