#include "attest/appraise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define BOOT_AGGREGATE "boot_aggregate"

/* ---- 1: keys ---------------------------------------------------------------------------------- */

static void
check_name(
    const struct attest_public *ak, const uint8_t *name, size_t len, struct attest_reasons *r)
{
	uint8_t own[ATTEST_NAME_MAX];
	size_t own_len = attest_public_name(ak, own);

	if (own_len == 0 || own_len != len || memcmp(own, name, len) != 0)
		attest_reason(
		    r, ATTEST_AK_NAME_MISMATCH, "the AK is not the one that was enrolled");
}

static void
check_activation(const struct attest_evidence *ev, struct attest_reasons *r)
{
	if (ev->secret.at == NULL && ev->activated.at == NULL)
		return; /* enrolment was another day */
	if (ev->secret.len == 0 || ev->secret.len != ev->activated.len ||
	    CRYPTO_memcmp(ev->secret.at, ev->activated.at, ev->secret.len) != 0)
		attest_reason(r, ATTEST_CREDENTIAL_NOT_ACTIVATED,
		    "what the TPM returned is not the secret it was sent");
}

static void
check_enrolment(const struct attest_evidence *ev, const struct attest_reference *ref, time_t now,
    struct attest_result *out)
{
	struct attest_reasons *r = &out->reasons;
	struct attest_public ek;
	struct pk_diag why;

	check_activation(ev, r);
	if (ref->roots == NULL) {
		out->unchecked |= ATTEST_LAYER_ENROLMENT;
		return;
	}
	if (ev->ek_cert.at == NULL || ev->ek_public.at == NULL) {
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "no EK certificate, or no EK");
		return;
	}
	if (attest_public_parse(&ek, ev->ek_public.at, ev->ek_public.len, &why) < 0) {
		attest_reason(r, ATTEST_EK_KEY_MISMATCH, "EK: %s", why.text);
		return;
	}
	attest_ek_check(ev->ek_cert, ev->ek_chain, &ek, ref->roots,
	    (const uint8_t(*)[32])ref->ek_allow, ref->nb_ek_allow, now, r);
}

/* ---- 3, 4: boot ------------------------------------------------------------------------------- */

static int
is_listed(const json_t *v, const uint8_t *digest, size_t len)
{
	char hex[2 * ATTEST_DIGEST_MAX + 1];
	const json_t *item;
	size_t i;

	attest_hex(digest, len, hex);
	if (json_is_string(v))
		return strcasecmp(json_string_value(v), hex) == 0;
	json_array_foreach(v, i, item) if (strcasecmp(json_string_value(item), hex) == 0) return 1;
	return 0;
}

static void
check_pcr_policy(const struct attest_reference *ref, const struct attest_bank *bank, uint32_t mask,
    struct attest_reasons *r)
{
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)ref->pcrs, key, v)
	{
		unsigned int pcr = (unsigned int)strtoul(key, NULL, 10);

		if (bank == NULL || (mask >> pcr & 1) == 0)
			attest_reason(r, ATTEST_PCR_POLICY,
			    "PCR %u has a reference value and was not quoted", pcr);
		else if (!is_listed(v, bank->value[pcr], attest_alg_size(ref->bank)))
			attest_reason(r, ATTEST_PCR_POLICY,
			    "PCR %u does not have the value of the reference", pcr);
	}
}

static void
check_events(
    const struct attest_reference *ref, const struct attest_eventlog *log, struct attest_reasons *r)
{
	char key[4];

	for (uint32_t i = 0; i < log->nb_events; i++) {
		const struct attest_event *e = &log->event[i];
		const uint8_t *digest = attest_event_digest(log, e, ref->bank);
		const json_t *allowed;
		struct attest_variable v;

		if (e->type == ATTEST_EV_NO_ACTION || e->pcr >= ATTEST_NB_PCRS)
			continue;
		key[0] = e->pcr >= 10 ? (char)('0' + e->pcr / 10) : (char)('0' + e->pcr);
		key[1] = e->pcr >= 10 ? (char)('0' + e->pcr % 10) : '\0';
		key[2] = '\0';
		allowed = json_object_get(ref->events, key);
		if (allowed != NULL &&
		    (digest == NULL || !is_listed(allowed, digest, attest_alg_size(ref->bank))))
			attest_reason(r, ATTEST_EVENT_NOT_ALLOWED,
			    "event %u in PCR %u is not among those allowed", i, e->pcr);
		if (ref->variables == NULL || e->pcr != 7 ||
		    e->type != ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG ||
		    attest_event_variable(e->data, &v) < 0)
			continue;
		allowed = json_object_get(ref->variables, v.name);
		if (allowed != NULL) {
			uint8_t h[ATTEST_DIGEST_MAX];

			if (attest_hash(NULL, ATTEST_ALG_SHA256, &v.value, 1, h) < 0 ||
			    !is_listed(allowed, h, 32))
				attest_reason(r, ATTEST_VARIABLE_NOT_ALLOWED,
				    "event %u: UEFI variable %.60s is not as allowed", i, v.name);
		}
	}
}

/* Every variable the reference speaks of has to be in the log, or its absence would be a way round. */
static void
check_variables_there(
    const struct attest_reference *ref, const struct attest_eventlog *log, struct attest_reasons *r)
{
	const json_t *v;
	const char *name;

	json_object_foreach((json_t *)ref->variables, name, v)
	{
		int found = 0;

		for (uint32_t i = 0; i < log->nb_events && !found; i++) {
			struct attest_variable var;

			found = log->event[i].type == ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG &&
			    log->event[i].pcr == 7 &&
			    attest_event_variable(log->event[i].data, &var) == 0 &&
			    strcmp(var.name, name) == 0;
		}
		if (!found)
			attest_reason(r, ATTEST_VARIABLE_NOT_ALLOWED,
			    "UEFI variable %.60s was not measured", name);
	}
}

static void
check_boot_policy(
    const struct attest_reference *ref, const struct attest_boot *boot, struct attest_reasons *r)
{
	const json_t *item;
	size_t i;
	int found = 0;

	if (ref->secure_boot && boot->secure_boot == 0)
		attest_reason(r, ATTEST_SECURE_BOOT_OFF, "Secure Boot was off");
	if (ref->secure_boot && boot->secure_boot < 0)
		attest_reason(r, ATTEST_SECURE_BOOT_UNKNOWN,
		    "the log does not tell whether Secure Boot was on");
	if (ref->cmdline == NULL)
		return;
	if (boot->cmdline.at == NULL) {
		attest_reason(
		    r, ATTEST_CMDLINE_UNKNOWN, "the log does not tell the kernel command line");
		return;
	}
	json_array_foreach(ref->cmdline, i, item) found |= json_is_string(item) &&
	    attest_glob(json_string_value(item), (const char *)boot->cmdline.at, boot->cmdline.len);
	if (!found)
		attest_reason(r, ATTEST_CMDLINE_NOT_ALLOWED, "kernel command line \"%.*s\"",
		    (int)PK_MIN(boot->cmdline.len, (size_t)200), (const char *)boot->cmdline.at);
}

/* PCRs whose events the reference speaks of. */
static uint32_t
needed_pcrs(const struct attest_reference *ref)
{
	uint32_t mask = ref->variables != NULL ? 1U << 7 : 0;
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)ref->events, key, v) mask |= UINT32_C(1)
	    << strtoul(key, NULL, 10);
	return mask;
}

static void
check_eventlog(const struct attest_evidence *ev, const struct attest_reference *ref,
    const struct attest_bank *bank, uint32_t mask, struct attest_result *out)
{
	struct attest_reasons *r = &out->reasons;
	struct attest_eventlog *log;
	struct attest_bank *replayed;
	struct pk_diag why;
	/* PCR 10 is IMA's; 15 and above belong to what runs after the boot. */
	uint32_t logged = mask & 0x7bff & ~ref->unlogged;

	if (ev->eventlog.at == NULL) {
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "no event log of the boot");
		return;
	}
	if (attest_eventlog_parse(&log, ev->eventlog.at, ev->eventlog.len, &why) < 0) {
		attest_reason(r, ATTEST_EVENTLOG_MALFORMED, "%s", why.text);
		return;
	}
	if ((replayed = malloc(sizeof(*replayed))) == NULL ||
	    attest_eventlog_replay(log, ref->bank, replayed) < 0) {
		attest_reason(r, ATTEST_EVENTLOG_REPLAY, "the event log has no digests of %s",
		    attest_alg_name(ref->bank));
	} else if (bank != NULL) {
		for (unsigned int pcr = 0; pcr < ATTEST_NB_PCRS; pcr++)
			if ((logged >> pcr & 1) != 0 &&
			    memcmp(bank->value[pcr], replayed->value[pcr],
			        attest_alg_size(ref->bank)) != 0)
				attest_reason(r, ATTEST_EVENTLOG_REPLAY,
				    "the event log does not lead to PCR %u as quoted", pcr);
	}
	/* What the quote does not cover, the log may claim at will. */
	if (logged == 0)
		attest_reason(r, ATTEST_EVENTLOG_REPLAY,
		    "no PCR of the boot was quoted in the bank of the reference");
	if ((needed_pcrs(ref) & ~logged) != 0)
		attest_reason(r, ATTEST_PCR_SELECTION,
		    "the reference judges PCRs 0x%06x, which were not quoted",
		    needed_pcrs(ref) & ~logged);
	attest_eventlog_check(log, ref->bank, logged, &out->boot, r);
	check_events(ref, log, r);
	check_variables_there(ref, log, r);
	check_boot_policy(ref, &out->boot, r);
	free(replayed);
	attest_eventlog_destroy(log);
}

/* ---- 5: IMA ----------------------------------------------------------------------------------- */

/*
 * Whether `e` is a boot_aggregate over these PCRs: H of PCRs 0 to 7 of H's own bank, and of 8 and 9 too
 * for other hashes than SHA-1 (since Linux 5.8; before, and in some backports, 0 to 7 for all).
 */
static int
aggregate_ok(const struct attest_ima_entry *e, const struct attest_pcrs *pcrs)
{
	uint16_t alg = attest_alg_find(e->file_alg, strlen(e->file_alg));
	const struct attest_bank *bank = alg != 0 ? attest_pcrs_bank(pcrs, alg) : NULL;
	struct attest_bytes part[10];
	uint8_t h[ATTEST_DIGEST_MAX];

	if (bank == NULL || (bank->mask & 0xff) != 0xff)
		return 0;
	for (unsigned int i = 0; i < 10; i++)
		part[i] = (struct attest_bytes){ bank->value[i], attest_alg_size(alg) };
	if (alg != ATTEST_ALG_SHA1 && (bank->mask & 0x3ff) == 0x3ff &&
	    attest_hash(NULL, alg, part, 10, h) == 0 && memcmp(h, e->file.at, e->file.len) == 0)
		return 1;
	return attest_hash(NULL, alg, part, 8, h) == 0 && memcmp(h, e->file.at, e->file.len) == 0;
}

static int
is_aggregate(const struct attest_ima_entry *e)
{
	return e->path.len == sizeof(BOOT_AGGREGATE) - 1 &&
	    memcmp(e->path.at, BOOT_AGGREGATE, e->path.len) == 0;
}

/* Returns whether the entry was dealt with here. */
static int
judge_aggregate(const struct attest_ima_entry *e, int first, const struct attest_pcrs *boot,
    const struct attest_ima_policy *policy, struct attest_reasons *r)
{
	if (!is_aggregate(e)) {
		if (first)
			attest_reason(r, ATTEST_BOOT_AGGREGATE,
			    "the list does not begin with a boot aggregate");
		return 0;
	}
	if (boot == NULL || e->violation)
		return 0; /* judged like a file */
	if (!aggregate_ok(e, boot) &&
	    !attest_ima_policy_lists(policy, BOOT_AGGREGATE, e->file.at, e->file.len))
		attest_reason(r, ATTEST_BOOT_AGGREGATE,
		    "IMA entry %u: the boot aggregate is not over the quoted PCRs", e->number);
	return 1;
}

void
attest_appraise_ima(struct attest_bytes list, struct attest_ima_state *state, const uint8_t *want,
    const struct attest_pcrs *boot, const struct attest_ima_policy *policy,
    struct attest_ima_judge *judge, uint32_t *used, uint32_t *trailing, struct attest_reasons *r)
{
	struct attest_ima_judge *own = NULL, *bare = NULL;
	uint32_t first = state->entries, limit;
	struct attest_ima_reader rd;
	struct attest_ima_entry e;
	struct pk_diag why = { .text = "out of memory" };
	int rc;

	*trailing = 0;
	rc = attest_ima_replay(state, list.at, list.len, want, used, &why);
	if (rc == -ENOENT)
		attest_reason(
		    r, ATTEST_IMA_REPLAY, "no prefix of the list leads to PCR 10 as quoted");
	else if (rc < 0)
		attest_reason(r, rc == -EINVAL ? ATTEST_IMA_MALFORMED : ATTEST_INTERNAL, "%s",
		    rc == -ENOTSUP ? "this OpenSSL has not the hash of the bank" : why.text);
	/* With no match nothing is vouched for: then tell what is wrong with any of it. */
	limit = rc == 0 ? *used : UINT32_MAX;
	if ((judge == NULL && attest_ima_judge_create(&own, policy) < 0) ||
	    attest_ima_judge_create(&bare, NULL) < 0) {
		attest_reason(r, ATTEST_INTERNAL, "out of memory");
		goto out;
	}
	if (judge == NULL)
		judge = own;
	if (first == 0 && rc == 0 && *used == 0 && want != NULL)
		attest_reason(r, ATTEST_BOOT_AGGREGATE, "nothing was measured: IMA is not active");
	if (attest_ima_init(&rd, list.at, list.len, &why) < 0)
		goto out;
	while (attest_ima_next(&rd, &e, &why) > 0) {
		if (e.number >= limit) {
			++*trailing;
			continue;
		}
		if (boot != NULL &&
		    judge_aggregate(&e, first == 0 && e.number == 0, boot, policy, r))
			attest_ima_judge_entry(bare, &e, r);
		else
			attest_ima_judge_entry(judge, &e, r);
	}
	attest_ima_fini(&rd);
out:
	attest_ima_judge_destroy(own);
	attest_ima_judge_destroy(bare);
}

/* ---- all -------------------------------------------------------------------------------------- */

/* Only what the quote covers goes on: a value beside it is anybody's. */
static void
keep_quoted(struct attest_pcrs *pcrs, const struct attest_selection *s)
{
	for (unsigned int i = 0; i < pcrs->nb_banks; i++)
		pcrs->bank[i].mask &= attest_selection_mask(s, pcrs->bank[i].alg);
}

static void
appraise(const struct attest_evidence *ev, const struct attest_reference *ref,
    struct attest_bytes nonce, const struct attest_history *history, struct attest_ima_judge *judge,
    time_t now, struct attest_pcrs *pcrs, struct attest_result *out)
{
	struct attest_reasons *r = &out->reasons;
	struct attest_challenge challenge = { .nonce = nonce,
		.require = ref->require,
		.superset_ok = ref->superset_ok,
		.last = history != NULL && history->known ? &history->clock : NULL };
	const struct attest_bank *bank;
	struct attest_quote quote = { 0 };
	struct attest_public ak;
	struct pk_diag why;
	uint32_t mask;

	if (ref->layers & ATTEST_LAYER_ENROLMENT)
		check_enrolment(ev, ref, now, out);
	if (ev->ak_public.at == NULL || ev->quote.at == NULL || ev->signature.at == NULL) {
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "no AK, quote or signature");
		return;
	}
	if (attest_public_parse(&ak, ev->ak_public.at, ev->ak_public.len, &why) < 0) {
		attest_reason(r, ATTEST_AK_MALFORMED, "AK: %s", why.text);
		return;
	}
	attest_ak_check(&ak, r);
	if (ev->ak_name.at != NULL)
		check_name(&ak, ev->ak_name.at, ev->ak_name.len, r);
	if (ref->ak_name_len > 0)
		check_name(&ak, ref->ak_name, ref->ak_name_len, r);
	if (ev->pcrs.at == NULL)
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "no PCR values");
	else if (attest_pcrs_parse(pcrs, ev->pcrs.at, ev->pcrs.len, &why) < 0)
		attest_reason(r, ATTEST_PCR_VALUES_MALFORMED, "%s", why.text);
	attest_quote_check(ev->quote, ev->signature, &ak, &challenge, pcrs, &quote, r);
	out->rebooted = quote.rebooted;
	out->history.clock = quote.attest.clock;
	keep_quoted(pcrs, &quote.attest.selection);
	bank = attest_pcrs_bank(pcrs, ref->bank);
	mask = bank != NULL ? bank->mask : 0;
	check_pcr_policy(ref, bank, mask, r);
	if (ref->layers & ATTEST_LAYER_EVENTLOG)
		check_eventlog(ev, ref, bank, mask, out);
	else
		out->unchecked |= ATTEST_LAYER_EVENTLOG;
	if (!(ref->layers & ATTEST_LAYER_IMA)) {
		out->unchecked |= ATTEST_LAYER_IMA;
		return;
	}
	if (ref->ima == NULL)
		out->unchecked |= ATTEST_LAYER_IMA;
	if (challenge.last != NULL && !quote.rebooted)
		out->history.ima = history->ima;
	else
		attest_ima_state_init(&out->history.ima, ref->bank);
	if (out->history.ima.alg != ref->bank)
		attest_reason(r, ATTEST_INTERNAL, "the checkpoint is of another bank");
	if (ev->ima.at == NULL)
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "no IMA list");
	else if ((mask >> ATTEST_PCR_IMA & 1) == 0)
		attest_reason(r, ATTEST_IMA_REPLAY, "PCR 10 was not quoted");
	else if (out->history.ima.alg == ref->bank)
		attest_appraise_ima(ev->ima, &out->history.ima, bank->value[ATTEST_PCR_IMA], pcrs,
		    ref->ima, quote.rebooted ? NULL : judge, &out->ima_entries, &out->ima_trailing,
		    r);
}

void
attest_appraise(const struct attest_evidence *ev, const struct attest_reference *ref,
    struct attest_bytes nonce, const struct attest_history *history, struct attest_ima_judge *judge,
    time_t now, struct attest_result *out)
{
	struct attest_pcrs *pcrs = calloc(1, sizeof(*pcrs));

	memset(out, 0, sizeof(*out));
	out->boot.secure_boot = -1;
	if (pcrs == NULL)
		attest_reason(&out->reasons, ATTEST_INTERNAL, "out of memory");
	else
		appraise(ev, ref, nonce, history, judge, now, pcrs, out);
	free(pcrs);
	out->history.known = 1;
	out->verdict = out->reasons.nb == 0 ? ATTEST_TRUSTED : ATTEST_REJECTED;
}
