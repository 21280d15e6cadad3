#include "attest/learn.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEARNT_PCRS UINT32_C(0x00fbff) /* 0 to 15 but 10 */

static json_t *
hex(const uint8_t *at, size_t len)
{
	char text[2 * ATTEST_DIGEST_MAX + 1];

	attest_hex(at, PK_MIN(len, (size_t)ATTEST_DIGEST_MAX), text);
	return json_string(text);
}

/* map[name] is a list without repetitions.  False: no memory, or a name that JSON cannot hold. */
static bool
add_digest(json_t *map, const char *name, const uint8_t *at, size_t len)
{
	json_t *list = json_object_get(map, name), *digest = hex(at, len), *item;
	size_t i;

	if (digest == NULL)
		return false;
	if (list == NULL) {
		list = json_array();
		if (json_object_set_new(map, name, list) != 0) {
			json_decref(digest);
			return false;
		}
	}
	json_array_foreach(list, i, item) if (json_equal(item, digest))
	{
		json_decref(digest);
		return true;
	}
	return json_array_append_new(list, digest) == 0;
}

static int
learn_pcrs(const struct attest_bank *bank, json_t *ref, uint32_t quoted, struct attest_reasons *r)
{
	json_t *pcrs = json_object(), *require = json_object(), *list = json_array();
	const char *name = attest_alg_name(bank->alg);
	char key[4];

	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++) {
		if ((quoted >> i & 1) == 0)
			continue;
		json_array_append_new(list, json_integer(i));
		if ((LEARNT_PCRS >> i & 1) == 0)
			continue;
		snprintf(key, sizeof(key), "%u", i);
		json_object_set_new(pcrs, key, hex(bank->value[i], attest_alg_size(bank->alg)));
	}
	if (json_object_size(pcrs) == 0)
		attest_reason(
		    r, ATTEST_PCR_SELECTION, "no PCR of the boot is quoted in bank %s", name);
	if (json_object_set_new(require, name, list) != 0 ||
	    json_object_set_new(ref, "bank", json_string(name)) != 0 ||
	    json_object_set_new(ref, "require", require) != 0 ||
	    json_object_set_new(ref, "pcrs", pcrs) != 0)
		return -ENOMEM;
	return 0;
}

static bool
names_keys(const char *variable)
{
	static const char *const names[] = { "PK", "KEK", "db", "dbx" };

	for (size_t i = 0; i < PK_COUNT(names); i++)
		if (strcmp(variable, names[i]) == 0)
			return true;
	return false;
}

static int
learn_boot(struct attest_bytes bytes, uint16_t bank, uint32_t quoted, json_t *ref,
    struct attest_reasons *r)
{
	struct attest_eventlog *log;
	struct attest_boot boot;
	struct pk_diag why;
	json_t *variables;
	int rc;

	rc = attest_eventlog_parse(&log, bytes.at, bytes.len, &why);
	if (rc == -EINVAL)
		attest_reason(r, ATTEST_EVENTLOG_MALFORMED, "%s", why.text);
	if (rc < 0)
		return rc == -EINVAL ? 0 : rc;
	attest_eventlog_check(log, bank, quoted, &boot, r);
	variables = json_object();
	for (uint32_t i = 0; i < log->nb_events && (quoted >> 7 & 1) != 0; i++) {
		const struct attest_event *e = &log->event[i];
		uint8_t digest[ATTEST_DIGEST_MAX];
		struct attest_variable v;

		if (e->pcr != 7 || e->type != ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG ||
		    attest_event_self(log, e, bank) != ATTEST_SELF_GOOD ||
		    attest_event_variable(e->data, &v) < 0 || !names_keys(v.name))
			continue;
		if (attest_hash(NULL, ATTEST_ALG_SHA256, &v.value, 1, digest) != 0 ||
		    !add_digest(variables, v.name, digest, 32))
			rc = -ENOMEM;
	}
	if (json_object_size(variables) > 0)
		rc |= json_object_set(ref, "variables", variables);
	json_decref(variables);
	if (boot.secure_boot == 1)
		rc |= json_object_set_new(ref, "secureboot", json_true());
	if (boot.cmdline.at != NULL) {
		json_t *text = json_stringn((const char *)boot.cmdline.at, boot.cmdline.len);

		if (text == NULL)
			attest_reason(
			    r, ATTEST_CMDLINE_NOT_ALLOWED, "the command line is no UTF-8");
		else
			rc |= json_object_set_new(ref, "cmdline", json_pack("[o]", text));
	}
	attest_eventlog_destroy(log);
	return rc != 0 ? -ENOMEM : 0;
}

/* What a policy would be asked about this entry; see attest_ima_judge_entry(). */
static void
learn_entry(const struct attest_ima_entry *e, const char *const *excludes, size_t nb_excludes,
    json_t *digests, json_t *keyrings, json_t *buffers, struct attest_reasons *r)
{
	char path[4097];
	json_t *map = digests;

	if (e->violation)
		return; /* which is refused when all is judged */
	snprintf(path, sizeof(path), "%.*s", (int)PK_MIN(e->path.len, sizeof(path) - 1),
	    (const char *)e->path.at);
	for (size_t i = 0; i < nb_excludes; i++)
		if (attest_glob(excludes[i], path, strlen(path)))
			return;
	if (e->template == ATTEST_IMA_BUF)
		map = attest_ima_is_key(e) ? keyrings : buffers;
	if (!add_digest(map, path, e->file.at, e->file.len))
		attest_reason(r, ATTEST_IMA_UNKNOWN_FILE,
		    "IMA entry %u: its name is no UTF-8, and cannot stand in a reference",
		    e->number);
}

static int
learn_ima(struct attest_bytes list, const struct attest_bank *bank, const char *const *excludes,
    size_t nb_excludes, json_t *ref, struct attest_reasons *r)
{
	json_t *policy = json_object(), *digests = json_object(), *keyrings = json_object(),
	       *buffers = json_object(), *globs = json_array();
	struct attest_ima_state state;
	struct attest_ima_reader rd;
	struct attest_ima_entry e;
	struct pk_diag why;
	uint32_t used = 0;
	int rc = attest_ima_state_init(&state, bank->alg);

	/* Beyond what the quote vouches for nothing is learnt; where it vouches for nothing, appraisal tells. */
	if (rc == 0 &&
	    attest_ima_replay(
	        &state, list.at, list.len, bank->value[ATTEST_PCR_IMA], &used, &why) == 0 &&
	    attest_ima_init(&rd, list.at, list.len, &why) == 0) {
		while (attest_ima_next(&rd, &e, &why) > 0 && e.number < used)
			/* The boot aggregate is judged by the PCRs it is of. */
			if (e.number > 0)
				learn_entry(
				    &e, excludes, nb_excludes, digests, keyrings, buffers, r);
		attest_ima_fini(&rd);
	}
	for (size_t i = 0; i < nb_excludes; i++)
		rc |= json_array_append_new(globs, json_string(excludes[i]));
	rc |= json_object_set(policy, "digests", digests);
	if (json_object_size(keyrings) > 0)
		rc |= json_object_set(policy, "keyrings", keyrings);
	if (json_object_size(buffers) > 0)
		rc |= json_object_set(policy, "ima-buf", buffers);
	if (nb_excludes > 0)
		rc |= json_object_set(policy, "exclude_globs", globs);
	rc |= json_object_set(ref, "ima", policy);
	json_decref(policy);
	json_decref(digests);
	json_decref(keyrings);
	json_decref(buffers);
	json_decref(globs);
	return rc != 0 ? -ENOMEM : 0;
}

/* Is it good by its own measure? */
static int
prove(const struct attest_evidence *ev, const json_t *json, struct attest_bytes nonce, time_t now,
    struct attest_reasons *r)
{
	struct attest_result *res = calloc(1, sizeof(*res));
	char *text = json_dumps(json, JSON_COMPACT);
	struct attest_reference *ref = NULL;
	struct pk_diag why;
	int rc = -ENOMEM;

	if (res != NULL && text != NULL) {
		rc = attest_reference_parse(&ref, (uint8_t *)text, strlen(text), NULL, NULL, &why);
		if (rc == -EINVAL)
			attest_reason(
			    r, ATTEST_INTERNAL, "what was learnt is no reference: %s", why.text);
	}
	if (rc == 0) {
		attest_appraise(ev, ref, nonce, NULL, NULL, now, res);
		if (res->verdict != ATTEST_TRUSTED) {
			*r = res->reasons;
			rc = -EINVAL;
		}
	}
	attest_reference_destroy(ref);
	free(text);
	free(res);
	return rc;
}

int
attest_learn(const struct attest_evidence *ev, uint16_t bank, struct attest_bytes nonce,
    const char *const *excludes, size_t nb_excludes, time_t now, json_t **out,
    struct attest_reasons *r)
{
	struct attest_attest quote;
	struct attest_pcrs *pcrs = calloc(1, sizeof(*pcrs));
	const struct attest_bank *values;
	json_t *ref = json_object(), *layers = json_pack("[s]", "quote");
	uint32_t quoted;
	struct pk_diag why;
	int rc = -ENOMEM;

	*out = NULL;
	if (pcrs == NULL || ref == NULL || layers == NULL)
		goto out;
	if (attest_attest_parse(&quote, ev->quote.at, ev->quote.len, &why) < 0 ||
	    attest_pcrs_parse(pcrs, ev->pcrs.at, ev->pcrs.len, &why) < 0) {
		attest_reason(r,
		    ev->quote.at == NULL || ev->pcrs.at == NULL ? ATTEST_EVIDENCE_MISSING
		                                                : ATTEST_QUOTE_MALFORMED,
		    "%s",
		    ev->quote.at == NULL || ev->pcrs.at == NULL ? "there is no quote" : why.text);
		rc = -EINVAL;
		goto out;
	}
	quoted = attest_selection_mask(&quote.selection, bank);
	values = attest_pcrs_bank(pcrs, bank);
	if (quoted == 0 || values == NULL || (values->mask & quoted) != quoted) {
		attest_reason(
		    r, ATTEST_PCR_SELECTION, "nothing is quoted in bank %s", attest_alg_name(bank));
		rc = -EINVAL;
		goto out;
	}
	rc = json_object_set_new(ref, "version", json_integer(1));
	rc |= learn_pcrs(values, ref, quoted, r);
	if (rc == 0 && ev->eventlog.at != NULL) {
		rc = json_array_append_new(layers, json_string("eventlog"));
		rc |= learn_boot(ev->eventlog, bank, quoted, ref, r);
	}
	if (rc == 0 && ev->ima.at != NULL && (quoted >> ATTEST_PCR_IMA & 1) != 0) {
		rc = json_array_append_new(layers, json_string("ima"));
		rc |= learn_ima(ev->ima, values, excludes, nb_excludes, ref, r);
	}
	rc |= json_object_set(ref, "layers", layers);
	if (rc != 0)
		rc = -ENOMEM;
	else if (r->nb > 0)
		rc = -EINVAL;
	else
		rc = prove(ev, ref, nonce, now, r);
out:
	json_decref(layers);
	free(pcrs);
	if (rc == 0)
		*out = ref;
	else
		json_decref(ref);
	return rc;
}
