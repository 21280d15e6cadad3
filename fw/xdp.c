#include "fw/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

/* What libxdp loads for the driver, alone or behind its dispatcher. */
static const char *const ours[] = { "xsk_def_prog", "xdp_dispatcher" };

int
fw_xdp_clear(const char *iface, struct pk_diag *diag)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	unsigned int index = if_nametoindex(iface);
	int rc, fd, known = 0;

	if (index == 0) {
		pk_diag_set(diag, "interface \"%s\" does not exist", iface);
		return -ENODEV;
	}
	rc = bpf_xdp_query((int)index, 0, &query);
	if (rc < 0 || query.prog_id == 0)
		return 0; /* nothing there, or nothing to be known: the driver will say */
	fd = bpf_prog_get_fd_by_id(query.prog_id);
	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		for (size_t i = 0; i < PK_COUNT(ours); i++)
			known |= strncmp(info.name, ours[i], sizeof(info.name) - 1) == 0;
	if (fd >= 0)
		close(fd);
	if (!known) {
		pk_diag_set(diag,
		    "interface \"%s\" carries an XDP program of somebody else's (\"%s\"); ip link set %s xdp off removes it",
		    iface, info.name, iface);
		return -EBUSY;
	}
	rc = bpf_xdp_detach((int)index, 0, NULL);
	if (rc < 0)
		pk_diag_set(diag, "interface \"%s\": a leftover XDP program cannot be removed: %s",
		    iface, strerror(-rc));
	return rc;
}
