#pragma once

#include "attest/eventlog.h"
#include "attest/quote.h"
#include "attest/reference.h"

/*
 * From evidence and reference values to a verdict.  Order, each step resting on those before it:
 *
 *   1. AK: attributes, scheme, name; EK: certificate and key; activation        (who)
 *   2. quote: structure, signature, nonce, clock, selection, PCR values         (what, now)
 *   3. event log: replay to the quoted PCRs, then its own consistency           (how it got there)
 *   4. boot policy: PCR values, boot components, Secure Boot, command line      (is it allowed)
 *   5. IMA: replay to the quoted PCR 10, then boot aggregate and each entry     (what ran since)
 *
 * All steps are taken even after a refusal, so that the operator learns of everything at once; any
 * reason rejects.
 */

/* .at == NULL: this part was not sent.  All borrowed. */
struct attest_evidence {
	struct attest_bytes ek_cert;   /* DER */
	struct attest_bytes ek_chain;  /* PEM */
	struct attest_bytes ek_public; /* TPM2B_PUBLIC */
	struct attest_bytes ak_public; /* TPM2B_PUBLIC */
	struct attest_bytes ak_name;   /* as enrolled */
	struct attest_bytes secret;    /* that was wrapped for the TPM ... */
	struct attest_bytes activated; /* ... and what came back */
	struct attest_bytes quote;     /* TPMS_ATTEST */
	struct attest_bytes signature; /* TPMT_SIGNATURE */
	struct attest_bytes pcrs;      /* as attest_pcrs_parse() reads them */
	struct attest_bytes eventlog;
	struct attest_bytes ima; /* from entry `ima_state->entries` on */
};

/* What a verifier remembers of a host between rounds; zero for a first one. */
struct attest_history {
	int known; /* the rest is valid */
	struct attest_clock clock;
	struct attest_ima_state ima;
};

struct attest_result {
	enum attest_verdict verdict;
	struct attest_reasons reasons;
	/* For people and for the next round; meaningful as far as the reasons allow. */
	int rebooted;
	struct attest_boot boot;
	uint32_t ima_entries;  /* entries of this piece that the quote vouches for */
	uint32_t ima_trailing; /* entries after them, not evidence yet */
	unsigned int
	    unchecked; /* enum attest_layer: not judged, for the reference has no say on it */
	struct attest_history history; /* to be kept if the verdict is ATTEST_TRUSTED */
};

/*
 * Judge.  `challenge` gives the nonce; its other members are filled from `ref` and `history`.
 * `judge` carries the keys a host has loaded from round to round; NULL makes one for this round only.
 * *out is about 45 KiB: keep it off small stacks.  Context: any, also a helper.
 */
void attest_appraise(const struct attest_evidence *ev, const struct attest_reference *ref,
    struct attest_bytes nonce, const struct attest_history *history, struct attest_ima_judge *judge,
    time_t now, struct attest_result *out);

/*
 * Step 5 alone: a list against PCR 10 of `state->alg`; `want` NULL takes the whole list as it is.
 * `boot` holds quoted PCRs for the boot aggregate, or is NULL: then the policy has to list it.
 */
void attest_appraise_ima(struct attest_bytes list, struct attest_ima_state *state,
    const uint8_t *want, const struct attest_pcrs *boot, const struct attest_ima_policy *policy,
    struct attest_ima_judge *judge, uint32_t *used, uint32_t *trailing, struct attest_reasons *r);
