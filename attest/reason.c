#include "attest/reason.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
	const char *name, *meaning;
} codes[ATTEST_NB_CODES] = {
#define CODE(c, text) [ATTEST_##c] = { #c, text }
	CODE(EVIDENCE_MISSING, "a part of the evidence that has to be there is not"),
	CODE(EK_CERT_UNTRUSTED, "the EK certificate does not lead to an allowed root"),
	CODE(EK_CERT_MALFORMED, "the EK certificate cannot be read or is no EK certificate"),
	CODE(EK_NOT_ALLOWED, "this EK is not on the list of allowed ones"),
	CODE(EK_KEY_MISMATCH, "the EK certificate is for another key"),
	CODE(EK_ATTRIBUTES, "the EK is not a restricted decryption key bound to its TPM"),
	CODE(AK_MALFORMED, "the public area of the AK cannot be read"),
	CODE(AK_ATTRIBUTES, "the AK is not a restricted signing key bound to its TPM"),
	CODE(AK_SCHEME, "the AK's algorithm, size or scheme is not acceptable"),
	CODE(AK_NAME_MISMATCH, "the AK is not the key that was enrolled"),
	CODE(CREDENTIAL_NOT_ACTIVATED, "the TPM of this EK did not show that it holds the AK"),
	CODE(QUOTE_MALFORMED, "the attestation structure or signature is not what a TPM makes"),
	CODE(QUOTE_SIGNATURE, "the signature is not by the AK over this quote"),
	CODE(NONCE_MISSING, "no nonce was given to compare with"),
	CODE(NONCE_MISMATCH, "the quote answers another challenge"),
	CODE(CLOCK_REGRESSED, "the TPM's clock or counters went back: an old quote or another TPM"),
	CODE(PCR_SELECTION, "the quote does not cover exactly the required PCRs"),
	CODE(PCR_VALUES_MALFORMED, "the list of PCR values cannot be read"),
	CODE(PCR_DIGEST_MISMATCH, "the PCR values are not the quoted ones"),
	CODE(PCR_POLICY, "a PCR has a value that the reference does not allow"),
	CODE(EVENTLOG_MALFORMED, "the event log cannot be read to its end"),
	CODE(EVENTLOG_REPLAY, "the event log does not lead to the quoted PCRs"),
	CODE(EVENTLOG_LOCALITY, "the startup locality is stated twice, late or as no TPM would"),
	CODE(EVENTLOG_SEPARATOR, "a separator is missing, doubled or tells of a firmware error"),
	CODE(EVENT_UNKNOWN, "an event type we do not know"),
	CODE(EVENT_MALFORMED, "the data of an event is not of its type's form"),
	CODE(EVENT_DATA_DIGEST, "the data of an event is not what was measured"),
	CODE(EVENT_NOT_ALLOWED, "a boot component that the reference does not allow"),
	CODE(SECURE_BOOT_OFF, "Secure Boot was off"),
	CODE(SECURE_BOOT_UNKNOWN, "the log does not tell whether Secure Boot was on"),
	CODE(VARIABLE_NOT_ALLOWED, "a UEFI variable has a value the reference does not allow"),
	CODE(CMDLINE_NOT_ALLOWED, "a kernel command line that the reference does not allow"),
	CODE(CMDLINE_UNKNOWN, "the log does not tell the kernel command line"),
	CODE(IMA_MALFORMED, "the IMA list cannot be read to its end"),
	CODE(IMA_PCR, "an IMA entry for another PCR than 10"),
	CODE(IMA_TEMPLATE_DIGEST, "an IMA entry's template digest is not that of its data"),
	CODE(IMA_REPLAY, "no prefix of the IMA list leads to the quoted PCR 10"),
	CODE(IMA_VIOLATION, "the kernel could not measure a file reliably"),
	CODE(IMA_UNKNOWN_FILE, "a file that is not on the allow-list"),
	CODE(IMA_FILE_DIGEST, "a listed file with another content"),
	CODE(IMA_SIGNATURE, "a file whose signature no allowed key made"),
	CODE(IMA_KEY, "a key was loaded that the policy does not allow"),
	CODE(BOOT_AGGREGATE, "the IMA list belongs to another boot"),
	CODE(INTERNAL, "the verifier could not finish"),
#undef CODE
};

void
attest_reason(struct attest_reasons *r, enum attest_code code, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (r->nb == ATTEST_REASONS_MAX) {
		r->lost++;
		return;
	}
	text = r->reason[r->nb].text;
	r->reason[r->nb++].code = code;
	va_start(ap, fmt);
	vsnprintf(text, ATTEST_REASON_TEXT, fmt, ap);
	va_end(ap);
	/* Paths and the like come from the host under judgement and end on a terminal or in JSON. */
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

int
attest_reasons_have(const struct attest_reasons *r, enum attest_code code)
{
	for (unsigned int i = 0; i < r->nb; i++)
		if (r->reason[i].code == code)
			return 1;
	return 0;
}

const char *
attest_code_name(enum attest_code code)
{
	return (unsigned int)code < ATTEST_NB_CODES ? codes[code].name : "UNKNOWN";
}

const char *
attest_code_meaning(enum attest_code code)
{
	return (unsigned int)code < ATTEST_NB_CODES ? codes[code].meaning : "";
}
