#include "policy/reference.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "attest/reference.h"
#include "policy/govern_priv.h"
#include "policy/inventory.h"

/* ---- reading ------------------------------------------------------------------------------------- */

static void
read_values(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct attest_reference *ref;
	struct pk_diag diag = { "no memory" };

	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n)) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (attest_reference_parse(
	        &ref, (const uint8_t *)n->text, strlen(n->text), NULL, NULL, &diag) != 0) {
		policy_reader_error(r, n, "bad-reference", "%s", diag.text);
		return;
	}
	if (ref->require.nb_banks != 1)
		policy_reader_error(r, n, "bad-reference",
		    "it requires PCRs of %u banks; want one, from which the logs are replayed",
		    ref->require.nb_banks);
	attest_reference_destroy(ref);
	*(const char **)out = n->text;
}

static void
read_dpus(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_names *names = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	names->at = policy_reader_alloc(r, n->nb, sizeof(names->at[0]));
	for (uint32_t i = 0; names->at != NULL && i < n->nb; i++) {
		const struct policy_node *item = n->items[i];

		if (item->kind != POLICY_SCALAR || policy_node_is_null(item) ||
		    item->text[0] == '\0')
			policy_reader_mismatch(r, item);
		else
			names->at[names->nb++] = item->text;
	}
}

static const char *const subject_words[] = { "host", "dpu" };
static const struct policy_words subjects = { subject_words, PK_COUNT(subject_words), NULL };
static const struct policy_field reference_fields[] = {
	{ "dpus", "a list of names of DPUs, in which * and ? stand for any", read_dpus, NULL,
	    offsetof(struct policy_reference_def, dpus), 1 },
	{ "subject", "host or dpu: whose values they are", policy_read_word, &subjects,
	    offsetof(struct policy_reference_def, subject), 0 },
	{ "values", "a text with reference values in JSON", read_values, NULL,
	    offsetof(struct policy_reference_def, values), 1 },
};
const struct policy_schema policy_reference_schema =
    POLICY_SCHEMA("a reference's spec", reference_fields);

/* ---- on their own -------------------------------------------------------------------------------- */

struct policy_references {
	struct policy_arena arena;
	size_t nb;
	struct policy_reference *at; /* by name */
};

static int
by_name(const void *va, const void *vb)
{
	const struct policy_reference *a = va, *b = vb;

	return strcmp(a->name, b->name);
}

static int
copy(struct policy_arena *arena, struct policy_reference *o, const struct policy_reference_def *d)
{
	const char **dpus = policy_arena_array(arena, d->dpus.nb + 1U, sizeof(dpus[0]));
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	o->name = policy_arena_printf(arena, "%s", d->meta.name);
	o->values = policy_arena_text(arena, d->values);
	o->subject = d->subject;
	o->dpus = dpus;
	for (uint32_t i = 0; dpus != NULL && i < d->dpus.nb; i++) {
		dpus[i] = policy_arena_printf(arena, "%s", d->dpus.at[i]);
		if (dpus[i] == NULL)
			return -ENOMEM;
		o->nb_dpus++;
	}
	if (o->name == NULL || o->values == NULL || dpus == NULL)
		return -ENOMEM;
	o->len = strlen(o->values);
	if (EVP_Digest(o->values, o->len, hash, &n, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++)
		snprintf(o->sha256 + 2 * i, 3, "%02x", hash[i]);
	return 0;
}

int
policy_references_create(struct policy_references **out, const struct policy_model *m)
{
	struct policy_references *r = calloc(1, sizeof(*r));
	const struct policy_reference_def *d;
	size_t n = 0;

	if (r == NULL)
		return -ENOMEM;
	if (m != NULL) {
		POLICY_EACH(m, references, d)
		n++;
	}
	r->at = policy_arena_array(&r->arena, n + 1, sizeof(r->at[0]));
	if (r->at == NULL)
		goto fail;
	if (m != NULL) {
		POLICY_EACH(m, references, d)
		{
			if (copy(&r->arena, &r->at[r->nb++], d) != 0)
				goto fail;
		}
	}
	qsort(r->at, r->nb, sizeof(r->at[0]), by_name);
	*out = r;
	return 0;
fail:
	policy_references_destroy(r);
	return -ENOMEM;
}

void
policy_references_destroy(struct policy_references *r)
{
	if (r == NULL)
		return;
	policy_arena_fini(&r->arena);
	free(r);
}

size_t
policy_references_count(const struct policy_references *r)
{
	return r != NULL ? r->nb : 0;
}

const struct policy_reference *
policy_references_get(const struct policy_references *r, size_t i)
{
	return &r->at[i];
}

int
policy_reference_names(const struct policy_reference *r, const char *dpu)
{
	for (size_t i = 0; i < r->nb_dpus; i++)
		if (fnmatch(r->dpus[i], dpu, 0) == 0)
			return 1;
	return 0;
}

const struct policy_reference *
policy_references_find(
    const struct policy_references *r, enum policy_reference_subject subject, const char *dpu)
{
	const struct policy_reference *found = NULL;

	for (size_t i = 0; i < policy_references_count(r); i++) {
		const struct policy_reference *o = &r->at[i];

		if (o->subject != subject)
			continue;
		for (size_t k = 0; k < o->nb_dpus; k++)
			if (strcmp(o->dpus[k], dpu) == 0)
				return o;
		if (found == NULL && policy_reference_names(o, dpu))
			found = o;
	}
	return found;
}
