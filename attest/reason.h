#pragma once

#include "lib/base.h"

/*
 * Why evidence was refused: every reason found, not only the first, each with a code for programs
 * and a sentence for people.  The codes are outer interface; docs/attestation.md explains them all.
 */
enum attest_verdict {
	ATTEST_UNKNOWN, /* nothing was judged; refuses like ATTEST_REJECTED */
	ATTEST_REJECTED,
	ATTEST_TRUSTED,
};

enum attest_code {
	ATTEST_EVIDENCE_MISSING,
	ATTEST_EK_CERT_UNTRUSTED,
	ATTEST_EK_CERT_MALFORMED,
	ATTEST_EK_NOT_ALLOWED,
	ATTEST_EK_KEY_MISMATCH,
	ATTEST_EK_ATTRIBUTES,
	ATTEST_AK_MALFORMED,
	ATTEST_AK_ATTRIBUTES,
	ATTEST_AK_SCHEME,
	ATTEST_AK_NAME_MISMATCH,
	ATTEST_CREDENTIAL_NOT_ACTIVATED,
	ATTEST_QUOTE_MALFORMED,
	ATTEST_QUOTE_SIGNATURE,
	ATTEST_NONCE_MISSING,
	ATTEST_NONCE_MISMATCH,
	ATTEST_CLOCK_REGRESSED,
	ATTEST_PCR_SELECTION,
	ATTEST_PCR_VALUES_MALFORMED,
	ATTEST_PCR_DIGEST_MISMATCH,
	ATTEST_PCR_POLICY,
	ATTEST_EVENTLOG_MALFORMED,
	ATTEST_EVENTLOG_REPLAY,
	ATTEST_EVENTLOG_LOCALITY,
	ATTEST_EVENTLOG_SEPARATOR,
	ATTEST_EVENT_UNKNOWN,
	ATTEST_EVENT_MALFORMED,
	ATTEST_EVENT_DATA_DIGEST,
	ATTEST_EVENT_NOT_ALLOWED,
	ATTEST_SECURE_BOOT_OFF,
	ATTEST_SECURE_BOOT_UNKNOWN,
	ATTEST_VARIABLE_NOT_ALLOWED,
	ATTEST_CMDLINE_NOT_ALLOWED,
	ATTEST_CMDLINE_UNKNOWN,
	ATTEST_IMA_MALFORMED,
	ATTEST_IMA_PCR,
	ATTEST_IMA_TEMPLATE_DIGEST,
	ATTEST_IMA_REPLAY,
	ATTEST_IMA_VIOLATION,
	ATTEST_IMA_UNKNOWN_FILE,
	ATTEST_IMA_FILE_DIGEST,
	ATTEST_IMA_SIGNATURE,
	ATTEST_IMA_KEY,
	ATTEST_BOOT_AGGREGATE,
	ATTEST_INTERNAL,
	ATTEST_NB_CODES,
};

#define ATTEST_REASONS_MAX 128 /* more are counted, not kept: the verdict stands anyway */
#define ATTEST_REASON_TEXT 320

struct attest_reasons {
	unsigned int nb;   /* kept */
	unsigned int lost; /* found beyond ATTEST_REASONS_MAX */
	struct {
		enum attest_code code;
		char text[ATTEST_REASON_TEXT];
	} reason[ATTEST_REASONS_MAX];
};

/* Add a reason.  Control characters in what `fmt` makes become '?'.  Context: any. */
void attest_reason(struct attest_reasons *r, enum attest_code code, const char *fmt, ...)
    PK_PRINTF(3, 4);

/* Whether `code` is among the reasons kept. */
int attest_reasons_have(const struct attest_reasons *r, enum attest_code code);

/* "QUOTE_SIGNATURE", and what it means in one sentence. */
const char *attest_code_name(enum attest_code code);
const char *attest_code_meaning(enum attest_code code);
