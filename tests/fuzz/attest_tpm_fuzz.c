/*
 * The structures of a TPM: the first byte says which parser sees the rest, or how the rest is cut into
 * public area, quote, signature and PCR values for a whole check.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attest/quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct attest_bytes
cut(const uint8_t **data, size_t *len)
{
	struct attest_bytes b = { *data, 0 };

	if (*len >= 2) {
		b.at = *data + 2;
		b.len = PK_MIN((size_t)((*data)[0] << 8 | (*data)[1]), *len - 2);
		*data += 2 + b.len;
		*len -= 2 + b.len;
	}
	return b;
}

static void
whole(const uint8_t *data, size_t len)
{
	static struct attest_reasons reasons;
	static struct attest_pcrs pcrs;
	static const uint8_t nonce[4] = { 1, 2, 3, 4 };
	struct attest_bytes area = cut(&data, &len), message = cut(&data, &len);
	struct attest_bytes sig = cut(&data, &len), values = cut(&data, &len);
	struct attest_challenge challenge = { .nonce = { nonce, 4 },
		.require = { .nb_banks = 1, .bank[0] = { ATTEST_ALG_SHA256, 1 } } };
	struct attest_public ak;
	struct attest_quote quote;
	struct pk_diag diag;

	reasons.nb = reasons.lost = 0;
	if (attest_public_parse(&ak, area.at, area.len, &diag) < 0)
		return;
	(void)attest_pcrs_parse(&pcrs, values.at, values.len, &diag);
	attest_ak_check(&ak, &reasons);
	attest_quote_check(message, sig, &ak, &challenge, &pcrs, &quote, &reasons);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct attest_pcrs pcrs;
	uint8_t name[ATTEST_NAME_MAX];
	struct attest_signature sig;
	struct attest_attest attest;
	struct attest_public pub;
	struct pk_diag diag;

	if (len == 0)
		return 0;
	switch (data[0] % 5) {
	case 0:
		if (attest_public_parse(&pub, data + 1, len - 1, &diag) == 0) {
			(void)attest_public_name(&pub, name);
			EVP_PKEY_free(attest_public_key(&pub, &diag));
		}
		break;
	case 1:
		(void)attest_attest_parse(&attest, data + 1, len - 1, &diag);
		break;
	case 2:
		(void)attest_signature_parse(&sig, data + 1, len - 1, &diag);
		break;
	case 3:
		(void)attest_pcrs_parse(&pcrs, data + 1, len - 1, &diag);
		break;
	default:
		whole(data + 1, len - 1);
	}
	return 0;
}
