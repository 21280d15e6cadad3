/* Session records from anywhere: what is taken encodes to a record that means the same. */
#include <errno.h>
#include <string.h>

#include "fw/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pk_diag diag;

	if (len >= FW_RECORD_HEADER_LEN && fw_record_header_check(data, &diag) == 0) {
		data += FW_RECORD_HEADER_LEN;
		len -= FW_RECORD_HEADER_LEN;
	}
	for (;;) {
		struct fw_record r, again;
		uint8_t bytes[FW_RECORD_MAX];
		size_t skip, n;
		long took = fw_record_decode(&r, data, len, &skip, &diag);

		PK_ASSERT(took <= (long)len && skip <= len);
		if (took > 0) {
			PK_ASSERT((size_t)took == skip);
			n = fw_record_encode(&r, bytes, sizeof(bytes));
			PK_ASSERT(n > 0);
			PK_ASSERT(fw_record_decode(&again, bytes, n, &skip, &diag) == (long)n);
			PK_ASSERT(memcmp(&r, &again, sizeof(r)) == 0);
		} else if (skip == 0 || took == -EAGAIN) {
			return 0;
		}
		took = took > 0 ? took : (long)skip;
		data += took;
		len -= (size_t)took;
	}
}
