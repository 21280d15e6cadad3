#include <errno.h>

#include "fw/xdp.h"

int
fw_xdp_clear(const char *iface, struct pk_diag *diag)
{
	pk_diag_set(diag,
	    "interface \"%s\": built without libbpf, so AF_XDP is not to be had; try af_packet:%s",
	    iface, iface);
	return -ENOTSUP;
}
