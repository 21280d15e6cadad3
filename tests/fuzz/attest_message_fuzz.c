/* Messages between host and DPU: what is taken for one has to come back to the very same bytes. */
#include <stdlib.h>
#include <string.h>

#include "attest/daemon/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct attest_selection selection;
	struct attest_message m;
	struct pk_diag diag;
	uint8_t *back;
	size_t n;

	if (attest_message_parse(&m, data, len, &diag) < 0)
		return 0;
	if (m.type == ATTEST_MESSAGE_CHALLENGE)
		attest_message_selection(&m, &selection);
	PK_ASSERT(attest_message_pack(&back, &n, &m, &diag) == 0);
	PK_ASSERT(n == len && memcmp(back, data, n) == 0);
	free(back);
	return 0;
}
