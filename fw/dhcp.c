#include "fw/dhcp.h"

#include <string.h>

#include "fw/bytes.h"
#include "lib/wire.h"

/* ---- RFC 2131 ---- */

#define BOOTP_LEN     236 /* up to the magic cookie */
#define MAGIC         UINT32_C(0x63825363)
#define OPT_PAD       0
#define OPT_ADDRESS   50
#define OPT_LEASE     51
#define OPT_TYPE      53
#define OPT_END       255
#define TYPE_DECLINE  4
#define TYPE_ACK      5
#define TYPE_RELEASE  7
#define BOOTP_REQUEST 1
#define BOOTP_REPLY   2

static void
give(struct fw_dhcp *out, unsigned int family, const uint8_t *bytes, uint32_t seconds)
{
	struct pk_addr *a;

	if (out->nb_addrs == FW_DHCP_ADDRS)
		return;
	a = &out->given[out->nb_addrs].addr;
	a->family = (uint8_t)family;
	memcpy(a->bytes, bytes, family == 4 ? 4 : 16);
	out->given[out->nb_addrs++].seconds = seconds;
}

static bool
read_v4(const uint8_t *b, size_t len, struct fw_dhcp *out)
{
	uint32_t lease = 0, wanted = 0;
	uint8_t op, type = 0;

	if (len < BOOTP_LEN + 4 || fw_be32(b + BOOTP_LEN) != MAGIC)
		return false;
	op = b[0];
	/* Ethernet; hlen is not the sender's to choose then. */
	if ((op != BOOTP_REQUEST && op != BOOTP_REPLY) || b[1] != 1 || b[2] != 6)
		return false;
	for (size_t at = BOOTP_LEN + 4; at < len && b[at] != OPT_END;) {
		size_t n;

		if (b[at] == OPT_PAD) {
			at++;
			continue;
		}
		if (len - at < 2 || len - at - 2 < b[at + 1])
			return false;
		n = b[at + 1];
		if (b[at] == OPT_TYPE && n == 1)
			type = b[at + 2];
		else if (b[at] == OPT_LEASE && n == 4)
			lease = fw_be32(b + at + 2);
		else if (b[at] == OPT_ADDRESS && n == 4)
			wanted = fw_raw32(b + at + 2);
		at += 2 + n;
	}
	if (type == 0) /* plain BOOTP, or a type where nobody looks (RFC 2132 section 9.3) */
		return false;
	out->has_mac = true;
	memcpy(out->mac, b + 28, 6);
	if (fw_raw32(b + 12) != 0) {
		out->client.family = 4;
		memcpy(out->client.bytes, b + 12, 4);
	}
	if (op == BOOTP_REQUEST) {
		out->kind = FW_DHCP_ASKS;
		if (type != TYPE_RELEASE && type != TYPE_DECLINE)
			return true;
		out->kind = FW_DHCP_RETURNS;
		if (type == TYPE_RELEASE && out->client.family != 0)
			give(out, 4, b + 12, 0);
		else if (type == TYPE_DECLINE && wanted != 0)
			give(out, 4, (const uint8_t *)&wanted, 0);
		return true;
	}
	out->kind = type == TYPE_ACK ? FW_DHCP_GIVES : FW_DHCP_ANSWERS;
	/* Without a lease time it answers an INFORM, and gives nothing (RFC 2131 section 4.3.5). */
	if (type == TYPE_ACK && lease != 0 && fw_raw32(b + 16) != 0)
		give(out, 4, b + 16, lease);
	return true;
}

/* ---- RFC 8415 ---- */

#define OPT6_IA_NA   3
#define OPT6_IA_TA   4
#define OPT6_IAADDR  5
#define TYPE6_ADV    2
#define TYPE6_REPLY  7
#define TYPE6_REL    8
#define TYPE6_DECL   9
#define TYPE6_RECONF 10
#define TYPE6_RELAY  12

/* Options of `w`, of an identity association when `inside`. */
static bool
read_options6(struct pk_wire *w, bool inside, bool gives, struct fw_dhcp *out)
{
	while (pk_wire_left(w) > 0) {
		uint16_t type = pk_wire_be16(w), len = pk_wire_be16(w);
		const uint8_t *v = pk_wire_bytes(w, len);
		size_t head = type == OPT6_IA_NA ? 12 : 4;
		struct pk_wire in;

		if (v == NULL)
			return false;
		if (inside && type == OPT6_IAADDR) {
			if (len < 24)
				return false;
			give(out, 6, v, gives ? fw_be32(v + 20) : 0);
		} else if (!inside && (type == OPT6_IA_NA || type == OPT6_IA_TA)) {
			if (len < head)
				return false;
			in = pk_wire_from(v + head, len - head);
			if (!read_options6(&in, true, gives, out))
				return false;
		}
	}
	return true;
}

static bool
read_v6(const uint8_t *b, size_t len, struct fw_dhcp *out)
{
	struct pk_wire w;

	/* Between relays and servers there is nothing for the guard of a host. */
	if (len < 4 || b[0] == 0 || b[0] >= TYPE6_RELAY)
		return false;
	switch (b[0]) {
	case TYPE6_ADV:
	case TYPE6_RECONF:
		out->kind = FW_DHCP_ANSWERS;
		return true;
	case TYPE6_REPLY:
		out->kind = FW_DHCP_GIVES;
		break;
	case TYPE6_REL:
	case TYPE6_DECL:
		out->kind = FW_DHCP_RETURNS;
		break;
	default:
		out->kind = FW_DHCP_ASKS;
		return true;
	}
	w = pk_wire_from(b + 4, len - 4);
	return read_options6(&w, false, out->kind == FW_DHCP_GIVES, out);
}

bool
fw_dhcp_read(unsigned int family, const uint8_t *bytes, size_t len, struct fw_dhcp *out)
{
	memset(out, 0, sizeof(*out));
	return family == 4 ? read_v4(bytes, len, out) : read_v6(bytes, len, out);
}
