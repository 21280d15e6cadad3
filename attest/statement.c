#include "attest/statement.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "attest/alg.h"
#include "lib/jws.h"

#define TYPE "picket-reference"

char *
attest_statement_make(const char *name, uint64_t generation, const char *subject,
    const char *const *dpus, size_t nb_dpus, const char *sha256, EVP_PKEY *key,
    struct pk_diag *diag)
{
	json_t *list = json_array(), *o;
	char *text, *token = NULL;

	for (size_t i = 0; i < nb_dpus; i++)
		json_array_append_new(list, json_string(dpus[i]));
	o = json_pack("{s:s, s:I, s:s, s:o, s:s}", "name", name, "generation",
	    (json_int_t)generation, "subject", subject, "dpus", list, "sha256", sha256);
	text = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	pk_diag_set(diag, "no memory");
	if (text != NULL)
		token = pk_jws_sign(TYPE, text, key, diag);
	free(text);
	json_decref(o);
	return token;
}

int
attest_statement_is(const uint8_t *file, size_t len)
{
	/* {"alg... in base64url; values in JSON begin with a brace. */
	return len > 2 && file[0] == 'e' && file[1] == 'y';
}

static int
refuse(struct pk_diag *diag, json_t *o, const char *why)
{
	json_decref(o);
	pk_diag_set(diag, "%s", why);
	return -EINVAL;
}

int
attest_statement_check(struct attest_statement *out, const uint8_t *file, size_t len, EVP_PKEY *key,
    const char *subject, const char *dpu, uint64_t oldest, struct pk_diag *diag)
{
	const uint8_t *end = memchr(file, '\n', len);
	const char *name, *of, *sha256;
	struct attest_bytes values;
	uint8_t hash[ATTEST_DIGEST_MAX];
	json_t *o = NULL, *item;
	json_int_t generation;
	size_t i, named = 0;
	char hex[65], *payload;

	memset(out, 0, sizeof(*out));
	if (end == NULL)
		return refuse(diag, NULL, "no statement stands before the values");
	payload = pk_jws_verify(TYPE, (const char *)file, (size_t)(end - file), key, diag);
	if (payload == NULL)
		return -EINVAL;
	o = json_loads(payload, JSON_REJECT_DUPLICATES, NULL);
	free(payload);
	name = json_string_value(json_object_get(o, "name"));
	of = json_string_value(json_object_get(o, "subject"));
	sha256 = json_string_value(json_object_get(o, "sha256"));
	generation = json_integer_value(json_object_get(o, "generation"));
	if (name == NULL || strlen(name) >= sizeof(out->name) || of == NULL || sha256 == NULL ||
	    generation <= 0)
		return refuse(diag, o, "the statement lacks a name, subject, generation or sha256");
	json_array_foreach(json_object_get(o, "dpus"), i, item)
	{
		const char *pattern = json_string_value(item);

		named += pattern != NULL && fnmatch(pattern, dpu, 0) == 0;
	}
	if (named == 0 || strcmp(of, subject) != 0)
		return refuse(diag, o, "the statement is about another DPU's values");
	if ((uint64_t)generation < oldest)
		return refuse(diag, o, "the statement is older than the one taken up before");
	out->values_at = (size_t)(end + 1 - file);
	values = (struct attest_bytes){ end + 1, len - out->values_at };
	if (attest_hash(NULL, ATTEST_ALG_SHA256, &values, 1, hash) != 0)
		return refuse(diag, o, "no memory");
	attest_hex(hash, 32, hex);
	if (strcmp(hex, sha256) != 0)
		return refuse(diag, o, "the values are not those that the statement is about");
	strcpy(out->name, name);
	out->generation = (uint64_t)generation;
	json_decref(o);
	return 0;
}
