#include "attest/reference.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const members[] = { "version", "comment", "layers", "bank", "require",
	"superset", "pcrs", "events", "variables", "cmdline", "unlogged_pcrs", "secureboot", "ima",
	"ek_roots", "ek_allow", "ak_name", "nonce" };

/* Members of a Keylime runtime policy, which may stand at the top when there is nothing else. */
static const char *const policy_members[] = { "meta", "release", "digests", "excludes",
	"exclude_globs", "keyrings", "ima-buf", "verification-keys", "violations", "timestamp" };

static int
is_among(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, list[i]) == 0)
			return 1;
	return 0;
}

static int
bad(struct pk_diag *d, const char *what)
{
	pk_diag_set(d, "reference: %s", what);
	return -EINVAL;
}

static int
pcr_index(const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && v < ATTEST_NB_PCRS ? (int)v : -1;
}

/* A list of PCR numbers as a mask. */
static int
load_mask(const json_t *list, uint32_t *out, struct pk_diag *d)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(list))
		return bad(d, "PCRs are a list of numbers from 0 to 23");
	json_array_foreach(list, i, item)
	{
		if (!json_is_integer(item) || json_integer_value(item) < 0 ||
		    json_integer_value(item) >= ATTEST_NB_PCRS)
			return bad(d, "PCRs are a list of numbers from 0 to 23");
		*out |= UINT32_C(1) << json_integer_value(item);
	}
	return 0;
}

static int
load_require(struct attest_reference *ref, const json_t *json, struct pk_diag *d)
{
	const json_t *list;
	const char *name;
	int rc;

	if (!json_is_object(json) || json_object_size(json) > ATTEST_BANKS_MAX)
		return bad(d, "\"require\" is an object of banks");
	json_object_foreach((json_t *)json, name, list)
	{
		unsigned int n = ref->require.nb_banks++;

		if ((ref->require.bank[n].alg = attest_alg_find(name, strlen(name))) == 0)
			return bad(d, "\"require\" names a bank that is not there: try sha256");
		if ((rc = load_mask(list, &ref->require.bank[n].mask, d)) < 0)
			return rc;
	}
	return 0;
}

/* "hex" or a list of them, of `size` bytes each, or of any if that is 0. */
static int
check_digests(const json_t *v, size_t size)
{
	uint8_t digest[ATTEST_DIGEST_MAX];
	const json_t *item;
	size_t i;

	if (json_is_string(v)) {
		const char *hex = json_string_value(v);
		size_t len = strlen(hex);

		return len / 2 <= sizeof(digest) && (size == 0 || len == 2 * size) &&
		    attest_unhex(hex, len, digest, len / 2) == 0;
	}
	if (!json_is_array(v))
		return 0;
	json_array_foreach(
	    v, i, item) if (!json_is_string(item) || !check_digests(item, size)) return 0;
	return 1;
}

static int
load_pcr_map(const json_t *map, size_t size, uint32_t *mask, const char *what, struct pk_diag *d)
{
	const json_t *v;
	const char *key;

	if (!json_is_object(map)) {
		pk_diag_set(d, "reference: \"%s\" is an object of PCRs", what);
		return -EINVAL;
	}
	json_object_foreach((json_t *)map, key, v)
	{
		int pcr = pcr_index(key);

		if (pcr < 0 || !check_digests(v, size)) {
			pk_diag_set(d,
			    "reference: \"%s\": PCR \"%.20s\" must be 0 to 23, with digests "
			    "of %zu bytes in hex",
			    what, key, size);
			return -EINVAL;
		}
		*mask |= UINT32_C(1) << pcr;
	}
	return 0;
}

static int
load_layers(struct attest_reference *ref, const json_t *list, struct pk_diag *d)
{
	const json_t *item;
	size_t i;

	ref->layers = ATTEST_LAYER_QUOTE;
	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(item);

		if (name != NULL && strcmp(name, "enrolment") == 0)
			ref->layers |= ATTEST_LAYER_ENROLMENT;
		else if (name != NULL && strcmp(name, "eventlog") == 0)
			ref->layers |= ATTEST_LAYER_EVENTLOG;
		else if (name != NULL && strcmp(name, "ima") == 0)
			ref->layers |= ATTEST_LAYER_IMA;
		else if (name == NULL || strcmp(name, "quote") != 0)
			return bad(d, "\"layers\" may name enrolment, quote, eventlog and ima");
	}
	return json_is_array(list) ? 0 : bad(d, "\"layers\" is a list");
}

static int
load_ima(struct attest_reference *ref, const json_t *v, attest_read_file *read_file, void *arg,
    struct pk_diag *d)
{
	const char *key;
	const json_t *item;
	json_t *wrapped;
	uint8_t *bytes;
	size_t len;
	int rc, is_policy = 0;

	if (json_is_string(v)) {
		if (read_file == NULL)
			return bad(d, "\"ima\" names a file, which is not possible here");
		if ((bytes = read_file(arg, json_string_value(v), &len, d)) == NULL)
			return -EINVAL;
		rc = attest_ima_policy_parse(&ref->ima, bytes, len, d);
		free(bytes);
		return rc;
	}
	if (!json_is_object(v))
		return bad(d, "\"ima\" is a policy or the name of its file");
	json_object_foreach((json_t *)v, key, item)
	    is_policy |= is_among(key, policy_members, PK_COUNT(policy_members));
	if (is_policy)
		return attest_ima_policy_load(&ref->ima, v, d);
	/* Short form: {"/path": ["digest", ...]}. */
	if ((wrapped = json_object()) == NULL ||
	    json_object_set(wrapped, "digests", (json_t *)v) < 0) {
		json_decref(wrapped);
		return -ENOMEM;
	}
	rc = attest_ima_policy_load(&ref->ima, wrapped, d);
	json_decref(wrapped);
	return rc;
}

static int
load_roots(struct attest_reference *ref, const json_t *v, attest_read_file *read_file, void *arg,
    struct pk_diag *d)
{
	const char *text = json_string_value(v);
	uint8_t *bytes;
	size_t len;
	int rc;

	if (text == NULL)
		return bad(d, "\"ek_roots\" is PEM or the name of a file");
	if (strstr(text, "-----BEGIN") != NULL)
		return attest_roots_parse(&ref->roots, (const uint8_t *)text, strlen(text), d);
	if (read_file == NULL)
		return bad(d, "\"ek_roots\" names a file, which is not possible here");
	if ((bytes = read_file(arg, text, &len, d)) == NULL)
		return -EINVAL;
	rc = attest_roots_parse(&ref->roots, bytes, len, d);
	free(bytes);
	return rc;
}

static int
load_allow(struct attest_reference *ref, const json_t *list, struct pk_diag *d)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n == 0 || n > ATTEST_EK_ALLOW_MAX)
		return bad(d, "\"ek_allow\" is a list of SHA-256 of EK public keys");
	if ((ref->ek_allow = calloc(n, sizeof(ref->ek_allow[0]))) == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *hex = json_string_value(json_array_get(list, i));

		if (hex == NULL || attest_unhex(hex, strlen(hex), ref->ek_allow[i], 32) < 0)
			return bad(d, "\"ek_allow\" is a list of SHA-256 of EK public keys");
	}
	ref->nb_ek_allow = n;
	return 0;
}

static int
load_hex(const json_t *v, uint8_t *out, size_t *len, struct pk_diag *d)
{
	const char *hex = json_string_value(v);

	*len = hex != NULL ? strlen(hex) / 2 : 0;
	if (hex == NULL || *len > ATTEST_NAME_MAX || attest_unhex(hex, strlen(hex), out, *len) < 0)
		return bad(d, "\"nonce\" and \"ak_name\" are hex");
	return 0;
}

/* The PCRs a quote has to cover when the reference does not say: all that it is going to judge. */
static void
derive_require(struct attest_reference *ref, uint32_t mask)
{
	if (ref->layers & ATTEST_LAYER_EVENTLOG)
		mask |= 0xff;
	if (ref->layers & ATTEST_LAYER_IMA)
		mask |= UINT32_C(1) << ATTEST_PCR_IMA;
	/* A reference that judges nothing yet still asks for a quote of something: how the machine booted. */
	if (mask == 0)
		mask = 0xff;
	ref->require.nb_banks = 1;
	ref->require.bank[0].alg = ref->bank;
	ref->require.bank[0].mask = mask;
	ref->superset_ok = 1;
}

static int
load(struct attest_reference *ref, attest_read_file *read_file, void *arg, struct pk_diag *d)
{
	const json_t *root = ref->root, *v;
	const char *key, *bank;
	uint32_t mask = 0;
	int rc = 0, only_policy = json_object_get(root, "digests") != NULL;

	ref->layers = ATTEST_LAYER_ENROLMENT | ATTEST_LAYER_QUOTE | ATTEST_LAYER_EVENTLOG |
	    ATTEST_LAYER_IMA;
	ref->bank = ATTEST_ALG_SHA256;
	json_object_foreach(
	    (json_t *)root, key, v) if (!is_among(key, members, PK_COUNT(members)) &&
	    !(only_policy && is_among(key, policy_members, PK_COUNT(policy_members))))
	{
		pk_diag_set(d, "reference: unknown member \"%.60s\"", key);
		return -EINVAL;
	}
	if ((v = json_object_get(root, "version")) != NULL && json_integer_value(v) != 1)
		return bad(d, "its version is not 1");
	if ((bank = json_string_value(json_object_get(root, "bank"))) != NULL)
		ref->bank = attest_alg_find(bank, strlen(bank));
	if (attest_alg_md(ref->bank) == NULL)
		return bad(d, "\"bank\" is none that can be computed: try sha256");
	if ((v = json_object_get(root, "layers")) != NULL && (rc = load_layers(ref, v, d)) < 0)
		return rc;
	if ((v = json_object_get(root, "pcrs")) != NULL) {
		/* {"sha256": {"0": ...}} as well as {"0": ...} */
		const json_t *inner = json_object_get(v, attest_alg_name(ref->bank));

		ref->pcrs = inner != NULL ? inner : v;
		rc = load_pcr_map(ref->pcrs, attest_alg_size(ref->bank), &mask, "pcrs", d);
	}
	if (rc == 0 && (v = json_object_get(root, "events")) != NULL) {
		ref->events = v;
		rc = load_pcr_map(v, attest_alg_size(ref->bank), &mask, "events", d);
	}
	if (rc == 0 && (v = json_object_get(root, "variables")) != NULL) {
		ref->variables = v;
		mask |= 1U << 7;
		if (!json_is_object(v))
			rc = bad(d, "\"variables\" is an object of names");
		json_object_foreach((json_t *)ref->variables, key, v) if (rc == 0 &&
		    !check_digests(v, 32)) rc = bad(d, "\"variables\" holds lists of SHA-256");
	}
	if (rc == 0 && (v = json_object_get(root, "cmdline")) != NULL) {
		ref->cmdline = v;
		mask |= 1U << 8;
		rc = json_is_array(v) ? 0 : bad(d, "\"cmdline\" is a list of patterns");
	}
	if (rc == 0 && (v = json_object_get(root, "unlogged_pcrs")) != NULL)
		rc = load_mask(v, &ref->unlogged, d);
	if (rc == 0 && (v = json_object_get(root, "secureboot")) != NULL) {
		ref->secure_boot = json_is_true(v);
		if (ref->secure_boot)
			mask |= 1U << 7;
		if (!json_is_boolean(v) && !json_is_null(v))
			rc = bad(d, "\"secureboot\" is true or false");
	}
	if (rc == 0 && only_policy)
		rc = attest_ima_policy_load(&ref->ima, root, d);
	else if (rc == 0 && (v = json_object_get(root, "ima")) != NULL && !json_is_null(v))
		rc = load_ima(ref, v, read_file, arg, d);
	if (rc == 0 && (v = json_object_get(root, "ek_roots")) != NULL)
		rc = load_roots(ref, v, read_file, arg, d);
	if (rc == 0 && (v = json_object_get(root, "ek_allow")) != NULL)
		rc = load_allow(ref, v, d);
	if (rc == 0 && (v = json_object_get(root, "ak_name")) != NULL)
		rc = load_hex(v, ref->ak_name, &ref->ak_name_len, d);
	if (rc == 0 && (v = json_object_get(root, "nonce")) != NULL) {
		ref->nonce_given = 1;
		rc = load_hex(v, ref->nonce, &ref->nonce_len, d);
	}
	if (rc < 0)
		return rc;
	if (ref->nb_ek_allow > 0 && ref->roots == NULL)
		return bad(d, "\"ek_allow\" needs \"ek_roots\"");
	if ((v = json_object_get(root, "require")) != NULL) {
		ref->superset_ok = json_is_true(json_object_get(root, "superset"));
		return load_require(ref, v, d);
	}
	derive_require(ref, mask);
	return 0;
}

int
attest_reference_parse(struct attest_reference **out, const uint8_t *bytes, size_t len,
    attest_read_file *read_file, void *arg, struct pk_diag *d)
{
	struct attest_reference *ref = calloc(1, sizeof(*ref));
	json_error_t error;
	int rc;

	*out = NULL;
	if (ref == NULL)
		return -ENOMEM;
	ref->root = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(ref->root)) {
		pk_diag_set(d, "reference: line %d: %s", ref->root == NULL ? error.line : 1,
		    ref->root == NULL ? error.text : "not an object");
		rc = -EINVAL;
	} else {
		rc = load(ref, read_file, arg, d);
	}
	if (rc < 0)
		attest_reference_destroy(ref);
	else
		*out = ref;
	return rc;
}

void
attest_reference_destroy(struct attest_reference *ref)
{
	if (ref == NULL)
		return;
	attest_ima_policy_destroy(ref->ima);
	attest_roots_destroy(ref->roots);
	free(ref->ek_allow);
	json_decref(ref->root);
	free(ref);
}
