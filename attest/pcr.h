#pragma once

#include "attest/alg.h"
#include "lib/diag.h"

/* The PCRs of one bank: bit i of `mask` says that value[i] holds something. */
struct attest_bank {
	uint16_t alg;
	uint32_t mask;
	uint8_t value[ATTEST_NB_PCRS][ATTEST_DIGEST_MAX];
};

/* PCR values as they came with a quote: only what the signed digest covers is ever believed. */
struct attest_pcrs {
	unsigned int nb_banks;
	struct attest_bank bank[ATTEST_BANKS_MAX];
};

/* Which PCRs, per bank, in the order in which a TPM names them. */
struct attest_selection {
	unsigned int nb_banks;
	struct {
		uint16_t alg;
		uint32_t mask;
	} bank[ATTEST_BANKS_MAX];
};

/* The bank of `alg`, or NULL. */
const struct attest_bank *attest_pcrs_bank(const struct attest_pcrs *pcrs, uint16_t alg);

/* The mask selected in the bank of `alg`, 0 when the bank is not there. */
uint32_t attest_selection_mask(const struct attest_selection *s, uint16_t alg);

/* What the PCRs hold before the first extension: 17 to 22 all ones, the others zero. */
void attest_bank_reset(struct attest_bank *b, uint16_t alg);

/*
 * Read PCR values: JSON {"sha256": {"0": "hex", ...}, ...}, or the file that `tpm2_quote -o` writes.
 * Banks we do not know are left out.  Returns 0 or -EINVAL with the sentence in `d`.  Context: any.
 */
int attest_pcrs_parse(struct attest_pcrs *out, const uint8_t *bytes, size_t len, struct pk_diag *d);
