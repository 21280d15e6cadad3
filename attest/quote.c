#include "attest/quote.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

void
attest_ak_check(const struct attest_public *ak, struct attest_reasons *r)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} wanted[] = {
		{ ATTEST_OBJ_FIXED_TPM, "fixedTPM" },
		{ ATTEST_OBJ_FIXED_PARENT, "fixedParent" },
		{ ATTEST_OBJ_SENSITIVE_ORIGIN, "sensitiveDataOrigin" },
		{ ATTEST_OBJ_RESTRICTED, "restricted" },
		{ ATTEST_OBJ_SIGN, "sign" },
	};
	struct pk_diag why;
	EVP_PKEY *key;

	for (size_t i = 0; i < PK_COUNT(wanted); i++)
		if ((ak->attributes & wanted[i].bit) == 0)
			attest_reason(r, ATTEST_AK_ATTRIBUTES, "the AK is not %s", wanted[i].name);
	if ((ak->attributes & ATTEST_OBJ_DECRYPT) != 0)
		attest_reason(r, ATTEST_AK_ATTRIBUTES, "the AK may decrypt");
	/* A restricted key that signs has a scheme, and nothing symmetric (Part 3, 24.1). */
	if (ak->scheme == ATTEST_ALG_NULL || ak->symmetric != ATTEST_ALG_NULL)
		attest_reason(r, ATTEST_AK_SCHEME, "the AK has no signing scheme of its own");
	else if (ak->scheme_hash == ATTEST_ALG_SHA1 || attest_alg_size(ak->scheme_hash) == 0)
		attest_reason(
		    r, ATTEST_AK_SCHEME, "the AK signs with %s", attest_alg_name(ak->scheme_hash));
	if (ak->name_alg == ATTEST_ALG_SHA1 || attest_alg_size(ak->name_alg) == 0)
		attest_reason(r, ATTEST_AK_SCHEME, "the AK's name is made with %s",
		    attest_alg_name(ak->name_alg));
	if ((key = attest_public_key(ak, &why)) == NULL)
		attest_reason(r, ATTEST_AK_SCHEME, "AK: %s", why.text);
	EVP_PKEY_free(key);
}

/*
 * Part 1, section 36: resetCount counts TPM Resets, restartCount resumes and restarts since, clock is
 * milliseconds.  Within one boot all only grow.  Across a reset the clock may fall back to what was
 * last stored, but only if it says of itself that it is not safe.
 */
static void
check_clock(const struct attest_clock *last, const struct attest_clock *now,
    struct attest_quote *out, struct attest_reasons *r)
{
	if (now->reset_count < last->reset_count) {
		attest_reason(r, ATTEST_CLOCK_REGRESSED, "resetCount went from %u to %u",
		    last->reset_count, now->reset_count);
		return;
	}
	out->rebooted = now->reset_count > last->reset_count;
	if (!out->rebooted && now->restart_count < last->restart_count)
		attest_reason(r, ATTEST_CLOCK_REGRESSED, "restartCount went from %u to %u",
		    last->restart_count, now->restart_count);
	if (now->clock < last->clock && (!out->rebooted || now->safe))
		attest_reason(r, ATTEST_CLOCK_REGRESSED, "the clock went from %llu to %llu ms",
		    (unsigned long long)last->clock, (unsigned long long)now->clock);
}

static void
check_selection(
    const struct attest_challenge *c, const struct attest_selection *s, struct attest_reasons *r)
{
	uint32_t all = 0;

	for (unsigned int i = 0; i < c->require.nb_banks; i++) {
		uint16_t alg = c->require.bank[i].alg;
		uint32_t want = c->require.bank[i].mask, have = attest_selection_mask(s, alg);

		all |= want;
		if ((want & ~have) != 0)
			attest_reason(r, ATTEST_PCR_SELECTION,
			    "%s: PCRs 0x%06x are required and not in the quote (which has 0x%06x)",
			    attest_alg_name(alg), want & ~have, have);
		if (!c->superset_ok && (have & ~want) != 0)
			attest_reason(r, ATTEST_PCR_SELECTION, "%s: PCRs 0x%06x were not asked for",
			    attest_alg_name(alg), have & ~want);
	}
	if (all == 0)
		attest_reason(r, ATTEST_PCR_SELECTION, "no PCR is required of the quote");
}

static void
check_values(const struct attest_attest *a, uint16_t hash, const struct attest_pcrs *pcrs,
    struct attest_reasons *r)
{
	struct attest_bytes part[ATTEST_BANKS_MAX * ATTEST_NB_PCRS];
	uint8_t digest[ATTEST_DIGEST_MAX];
	size_t n = 0;

	for (unsigned int i = 0; i < a->selection.nb_banks; i++) {
		uint16_t alg = a->selection.bank[i].alg;
		const struct attest_bank *bank = attest_pcrs_bank(pcrs, alg);

		for (unsigned int pcr = 0; pcr < ATTEST_NB_PCRS; pcr++) {
			if ((a->selection.bank[i].mask >> pcr & 1) == 0)
				continue;
			if (bank == NULL || (bank->mask >> pcr & 1) == 0) {
				attest_reason(r, ATTEST_PCR_DIGEST_MISMATCH,
				    "%s:%u is quoted and its value is not given",
				    attest_alg_name(alg), pcr);
				return;
			}
			part[n].at = bank->value[pcr];
			part[n++].len = attest_alg_size(alg);
		}
	}
	if (attest_hash(NULL, hash, part, n, digest) < 0 ||
	    a->pcr_digest.len != attest_alg_size(hash) ||
	    CRYPTO_memcmp(digest, a->pcr_digest.at, a->pcr_digest.len) != 0)
		attest_reason(r, ATTEST_PCR_DIGEST_MISMATCH,
		    "the PCR values given do not hash to the quoted digest");
}

void
attest_quote_check(struct attest_bytes message, struct attest_bytes signature,
    const struct attest_public *ak, const struct attest_challenge *challenge,
    const struct attest_pcrs *pcrs, struct attest_quote *out, struct attest_reasons *r)
{
	struct attest_signature sig;
	struct attest_attest *a = &out->attest;
	struct pk_diag why;
	int rc;

	*out = (struct attest_quote){ 0 };
	if (attest_signature_parse(&sig, signature.at, signature.len, &why) < 0) {
		attest_reason(r, ATTEST_QUOTE_MALFORMED, "%s", why.text);
		sig.alg = 0;
	} else if ((rc = attest_signature_verify(&sig, ak, message.at, message.len, &why)) < 0) {
		attest_reason(r, ATTEST_QUOTE_SIGNATURE, "%s", why.text);
	}
	if (attest_attest_parse(a, message.at, message.len, &why) < 0) {
		attest_reason(r, ATTEST_QUOTE_MALFORMED, "%s", why.text);
		*a = (struct attest_attest){ 0 };
		return;
	}
	if (a->type != ATTEST_TPM_ST_QUOTE) {
		attest_reason(r, ATTEST_QUOTE_MALFORMED, "this attestation is no quote");
		return;
	}
	if (challenge->nonce.len == 0)
		attest_reason(r, ATTEST_NONCE_MISSING, "an empty nonce matches nothing");
	else if (a->extra.len != challenge->nonce.len ||
	    CRYPTO_memcmp(a->extra.at, challenge->nonce.at, a->extra.len) != 0)
		attest_reason(r, ATTEST_NONCE_MISMATCH, "the quote is not for this nonce");
	if (challenge->last != NULL)
		check_clock(challenge->last, &a->clock, out, r);
	check_selection(challenge, &a->selection, r);
	if (sig.alg != 0)
		check_values(a, sig.hash, pcrs, r);
}
