/* Bundles of signatures: the body is made up, its length and digest fit, as in a bundle whose maker cannot be trusted. */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dpi/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define HEAD 46

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	uint8_t *all = malloc(HEAD + len);
	struct dpi_set *set = NULL;
	struct pk_diag diag;

	if (all == NULL)
		return 0;
	memset(all, 0, HEAD);
	memcpy(all, "PKSIGS2\n", 8);
	for (unsigned int i = 0; i < 4; i++)
		all[8 + i] = (uint8_t)(len >> 8 * (3 - i));
	memcpy(all + HEAD, bytes, len);
	PK_ASSERT(EVP_Digest(bytes, len, all + 14, NULL, EVP_sha256(), NULL) == 1);
	if (dpi_bundle_read_bytes(&set, "fuzz", all, HEAD + len, NULL, &diag) == 0)
		dpi_set_destroy(set);
	free(all);
	return 0;
}
