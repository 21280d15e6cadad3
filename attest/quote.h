#pragma once

#include "attest/reason.h"
#include "attest/tpm.h"

/*
 * A quote judged: what a TPM signed over its PCRs for one challenge.
 *
 * A structure that begins with TPM_GENERATED means something only if the key may sign nothing else
 * that does: attest_ak_check() first, or a general signing key forges any quote (CVE-2024-29038).
 */

/* What the verifier asked for.  Zero refuses: an empty nonce never matches. */
struct attest_challenge {
	struct attest_bytes nonce; /* expected extraData; mandatory */
	/* Per bank named here the quote has to select exactly these PCRs; other banks are ignored. */
	struct attest_selection require;
	int superset_ok;                 /* more PCRs than required are fine */
	const struct attest_clock *last; /* of the last good quote by this AK; NULL: none yet */
};

/* What a good quote says. */
struct attest_quote {
	struct attest_attest attest; /* borrowed from the message */
	int rebooted;                /* since challenge->last: forget IMA state, ask for all logs */
};

/*
 * Whether the AK is a key whose signatures a TPM vouches for: restricted, sign, not decrypt, fixedTPM,
 * fixedParent, sensitiveDataOrigin; a scheme of its own with SHA-256 or better; RSA of 2048 bits or
 * more, P-256, P-384, P-521 or SM2.
 */
void attest_ak_check(const struct attest_public *ak, struct attest_reasons *r);

/*
 * Judge in this order: structure, signature, nonce, clock, PCR selection, PCR values.  Returns with
 * out->attest filled as far as the structure was readable; trust it, and `pcrs` where selected, only
 * if nothing was added to `r`.  Context: any.
 */
void attest_quote_check(struct attest_bytes message, struct attest_bytes signature,
    const struct attest_public *ak, const struct attest_challenge *challenge,
    const struct attest_pcrs *pcrs, struct attest_quote *out, struct attest_reasons *r);
