/* DHCP and FTP as the guard and the helper read them: bytes of exact size. */
#include "fw/dhcp.h"
#include "fw/ftp.h"
#include "lib/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fw_ftp_port port;
	struct fw_dhcp m;

	if (len < 1)
		return 0;
	switch (data[0] % 4) {
	case 0:
	case 1:
		if (fw_dhcp_read(data[0] % 4 == 0 ? 4 : 6, data + 1, len - 1, &m))
			PK_ASSERT(m.nb_addrs <= FW_DHCP_ADDRS && m.kind <= FW_DHCP_GIVES);
		break;
	default:
		(void)fw_ftp_read(data + 1, len - 1, data[0] % 4 == 2, &port);
	}
	return 0;
}
