#include <stdint.h>
#include <string.h>

#include "tls-offload/tlsd_priv.h"

/* What a tunnel says first, in both modes, and what picketd says. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct tlso_direct d, again;
	uint8_t packed[TLSO_DIRECT_MAX];
	struct pk_tls_msg m;
	struct pk_addr addr;
	struct pk_diag diag;
	uint16_t port;
	int used;

	if (len == 0)
		return 0;
	switch (bytes[0] % 3) {
	case 0:
		used = tlso_direct_parse(&d, bytes + 1, len - 1, &diag);
		PK_ASSERT(used <= (int)PK_MIN(len - 1, (size_t)TLSO_DIRECT_MAX));
		if (used <= 0)
			break;
		/* What was understood is said again in the same way. */
		PK_ASSERT(tlso_direct_pack(packed, &d) != 0);
		PK_ASSERT(tlso_direct_parse(&again, packed, sizeof(packed), &diag) > 0);
		PK_ASSERT(memcmp(&d, &again, sizeof(d)) == 0);
		break;
	case 1:
		if (tlso_authority_parse(bytes + 1, len - 1, &addr, &port) == 0)
			PK_ASSERT(port != 0 && (addr.family == 4 || addr.family == 6));
		break;
	default:
		memset(&m, 0, sizeof(m));
		memcpy(&m, bytes + 1, PK_MIN(len - 1, sizeof(m)));
		if (pk_tls_msg_check(&m, sizeof(m), &diag) == 0 && m.type == PK_TLS_IS)
			PK_ASSERT(strlen(m.who.name) < PK_TLS_NAME_MAX);
	}
	return 0;
}
