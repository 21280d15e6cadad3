#include "fw/overlay.h"

#include <errno.h>
#include <string.h>

#include "fw/bytes.h"
#include "lib/diag.h"

#define UDP_LEN          8
#define VXLAN_LEN        8
#define VXLAN_HAS_VNI    0x08
#define GENEVE_LEN       8
#define GENEVE_CONTROL   0x80
#define GENEVE_ETHERNET  0x6558
#define ETHERNET_LEN     14
#define FRAGMENT_OR_MORE 0x3fff

int
fw_overlay_init(struct fw_overlay *o, uint16_t vxlan, uint16_t geneve, const char *const *peers,
    size_t nb_peers, struct pk_diag *diag)
{
	memset(o, 0, sizeof(*o));
	o->vxlan = vxlan;
	o->geneve = geneve;
	if (vxlan != 0 && vxlan == geneve) {
		pk_diag_set(diag,
		    "overlay-vxlan and overlay-geneve are both %u; want a port for each", vxlan);
		return -EINVAL;
	}
	if (nb_peers > FW_OVERLAY_PEERS_MAX) {
		pk_diag_set(diag, "%zu overlay-peer lines; want at most %u networks", nb_peers,
		    FW_OVERLAY_PEERS_MAX);
		return -EINVAL;
	}
	if ((vxlan | geneve) != 0 && nb_peers == 0) {
		pk_diag_set(diag,
		    "an overlay without overlay-peer; want the networks that tunnel endpoints are in");
		return -EINVAL;
	}
	for (size_t i = 0; i < nb_peers; i++) {
		struct pk_diag why;

		if (pk_prefix_parse(&o->peer[i], peers[i], &why) < 0) {
			pk_diag_set(diag, "overlay-peer %s: %s", peers[i], why.text);
			return -EINVAL;
		}
	}
	o->nb_peers = (uint16_t)nb_peers;
	return 0;
}

static bool
is_peer(const struct fw_overlay *o, unsigned int family, const uint8_t *bytes)
{
	struct pk_addr a = { .family = (uint8_t)family };

	memcpy(a.bytes, bytes, family == 4 ? 4 : 16);
	for (unsigned int i = 0; i < o->nb_peers; i++)
		if (pk_prefix_contains(&o->peer[i], &a))
			return true;
	return false;
}

/* The header behind UDP: its length, or 0 if it cannot be one that carries a frame. */
static uint32_t
header(bool vxlan, const uint8_t *h, uint32_t *vni)
{
	*vni = (uint32_t)h[4] << 16 | (uint32_t)h[5] << 8 | h[6];
	if (vxlan) /* bits without meaning are ignored, so that extensions such as GBP pass */
		return (h[0] & VXLAN_HAS_VNI) != 0 ? VXLAN_LEN : 0;
	/* Version 0; not between the endpoints' control planes; Ethernet. */
	if (h[0] >> 6 != 0 || (h[1] & GENEVE_CONTROL) != 0 || fw_be16(h + 2) != GENEVE_ETHERNET)
		return 0;
	return GENEVE_LEN + (h[0] & 0x3fu) * 4;
}

bool
fw_overlay_open(const struct fw_overlay *o, unsigned int family, const uint8_t *data, uint32_t off,
    uint32_t contiguous, uint32_t len, struct fw_tunnel *out, enum fw_drop *why)
{
	const uint8_t *ip = data + off, *udp;
	uint32_t ip_len = family == 4 ? 20 : 40, total, bytes;
	uint16_t port;
	bool fragment = false;

	*why = FW_DROP_NONE;
	if (off + ip_len + UDP_LEN > contiguous || ip[0] >> 4 != family ||
	    ip[family == 4 ? 9 : 6] != 17)
		return false;
	if (family == 4) {
		ip_len = (ip[0] & 15u) * 4;
		total = fw_be16(ip + 2);
		if (ip_len < 20 || off + ip_len + UDP_LEN > contiguous)
			return false;
		fragment = (fw_be16(ip + 6) & FRAGMENT_OR_MORE) != 0;
		if ((fw_be16(ip + 6) & 0x1fff) != 0)
			return false; /* a later one: nobody has seen its first */
	} else {
		total = ip_len + fw_be16(ip + 4);
	}
	udp = ip + ip_len;
	port = fw_be16(udp + 2);
	if (!fw_overlay_port(o, port))
		return false;
	if (!is_peer(o, family, ip + (family == 4 ? 12 : 8)) ||
	    !is_peer(o, family, ip + (family == 4 ? 16 : 24))) {
		*why = FW_DROP_OVERLAY_PEER;
		return true;
	}
	*why = FW_DROP_OVERLAY;
	if (fragment || off + total > len || total < ip_len + UDP_LEN ||
	    fw_be16(udp + 4) != total - ip_len || off + ip_len + UDP_LEN + VXLAN_LEN > contiguous)
		return true;
	bytes = header(port == o->vxlan, udp + UDP_LEN, &out->vni);
	if (bytes == 0 || ip_len + UDP_LEN + bytes + ETHERNET_LEN > total)
		return true;
	out->outer_l3 = (uint16_t)off;
	out->outer_l4 = (uint16_t)(off + ip_len);
	out->l2 = (uint16_t)(off + ip_len + UDP_LEN + bytes);
	out->end = off + total;
	*why = FW_DROP_NONE;
	return true;
}
