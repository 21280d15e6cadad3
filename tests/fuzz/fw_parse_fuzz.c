/* The packet parser: no byte read beyond the frame, and what it says of a good packet lies inside it. */
#include <stdlib.h>
#include <string.h>

#include "fw/overlay.h"
#include "fw/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct fw_overlay overlay = {
		.vxlan = 4789,
		.geneve = 6081,
		.nb_peers = 2,
		.peer = { { .addr.family = 4 }, { .addr.family = 6 } },
	};
	struct fw_pkt pk = { 0 };
	struct pk_addr src, dst;
	uint16_t sport, dport;

	if (len > UINT16_MAX)
		return 0;
	/* Checksums are the one thing a fuzzer cannot guess. */
	pk.checksum_ok = true;
	(void)fw_parse(&pk, data, (uint32_t)len, (uint32_t)len, 0, &overlay);
	fw_pkt_addrs(&pk, &src, &dst);
	fw_pkt_ports(&pk, &sport, &dport);
	if (pk.drop == FW_DROP_NONE) {
		PK_ASSERT(pk.kind != FW_KIND_NONE && pk.l3 < len && pk.l4 < len + 1);
		PK_ASSERT(pk.kind == FW_KIND_ARP ||
		    (pk.l3_end <= len && pk.l4 + pk.l4_len + (uint32_t)pk.payload <= pk.l3_end));
		PK_ASSERT(src.family == pk.key.family && dst.family == pk.key.family);
		PK_ASSERT(pk.kind != FW_KIND_SESSION || memcmp(&src, &dst, sizeof(src)) != 0);
	}
	return 0;
}
