#pragma once

#include <stdbool.h>

#include "fw/drop.h"
#include "lib/addr.h"

struct pk_diag;

/*
 * Overlays: tenants' frames inside packets between tunnel endpoints (VTEPs).
 *
 *     | Ethernet | IPv4, IPv6 | UDP | VXLAN or Geneve | Ethernet | IP of the tenant ...
 *     0          outer_l3           outer_l4          l2         l3
 *
 * Who wears the tunnel's header is judged by what it carries: the inner packet is parsed, guarded and has the
 * session, in the address space of its virtual network (VNI), so tenants may have equal addresses on one wire.  Of
 * the outer packet only this is asked: that both of its ends are tunnel endpoints, because what may be said to a
 * workload must not leave for anybody else; and that it is whole, since RFC 7348 section 4.3 forbids fragments.
 * All else on the wire (ARP between endpoints, their management) is judged as without overlays.
 *
 * One level: a tunnel inside a tunnel is UDP of its tenant.
 */
#define FW_OVERLAY_PEERS_MAX 16
#define FW_VRF_VNI           (UINT32_C(1) << 24) /* | VNI: an address space that no VLAN tags name */

struct fw_overlay {
	uint16_t vxlan, geneve; /* UDP port of each, host order; 0: none */
	uint16_t nb_peers;
	struct pk_prefix peer[FW_OVERLAY_PEERS_MAX]; /* where tunnel endpoints are */
};

/*
 * Fill in *o from ports (0: none) and networks in text.  Returns 0, or -EINVAL with *diag: a network that is none, more
 * than FW_OVERLAY_PEERS_MAX, one port for both, or a port and no network.
 */
int fw_overlay_init(struct fw_overlay *o, uint16_t vxlan, uint16_t geneve, const char *const *peers,
    size_t nb_peers, struct pk_diag *diag);

/* A tunnel's header, as offsets into the frame. */
struct fw_tunnel {
	uint16_t outer_l3, outer_l4;
	uint16_t l2;  /* inner Ethernet */
	uint32_t end; /* one past the outer IP packet */
	uint32_t vni;
};

/*
 * Whether the IP packet of `family` at data[off ..] of a frame of `len` bytes, of which `contiguous` can be read, is
 * a tunnel's.  False: it is not, or not by anything that can be read here.  True: *out has been filled in, or *why
 * says what is wrong with it.  RFC 7348 section 5, RFC 8926 section 3.  Context: any.
 */
bool fw_overlay_open(const struct fw_overlay *o, unsigned int family, const uint8_t *data,
    uint32_t off, uint32_t contiguous, uint32_t len, struct fw_tunnel *out, enum fw_drop *why);

/* Whether UDP to this port may be a tunnel's. */
static inline bool
fw_overlay_port(const struct fw_overlay *o, uint16_t port)
{
	return o != NULL && port != 0 && (port == o->vxlan || port == o->geneve);
}
