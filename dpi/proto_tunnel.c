/* What carries other traffic: WireGuard, OpenVPN, IPsec, SOCKS, PPTP, L2TP, VXLAN, Geneve, Teredo, DNSCrypt. */
#include "dpi/proto.h"

#define TUNNEL(name)                                                        \
	static bool describe_##name(struct dpi_view *v)                     \
	{                                                                   \
		dpi_say(v, DPI_FIELD_TUNNEL, -1, #name, sizeof(#name) - 1); \
		return true;                                                \
	}
TUNNEL(wireguard)
TUNNEL(openvpn)
TUNNEL(ipsec)
TUNNEL(socks)
TUNNEL(pptp)
TUNNEL(l2tp)
TUNNEL(vxlan)
TUNNEL(geneve)
TUNNEL(teredo)

/* Whitepaper section 5.4: type, three zeroes, and a size for each type. */
static enum dpi_match
parse_wireguard(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 32 || b.at[1] != 0 || b.at[2] != 0 || b.at[3] != 0)
		return DPI_NO;
	switch (b.at[0]) {
	case 1:
		return b.len == 148 ? DPI_MATCH : DPI_NO;
	case 2:
		return b.len == 92 ? DPI_MATCH : DPI_NO;
	case 3:
		return b.len == 64 ? DPI_LIKELY : DPI_NO;
	case 4: { /* data: a receiver index that stays, and a counter that runs on */
		if (b.len % 16 != 0 || (b.at[14] | b.at[15]) != 0 || dpi_le32(b.at + 12) > 1 << 16)
			return DPI_NO;
		for (int i = v->nb_past - 1; i >= 0; i--) {
			const struct dpi_past *p = &v->past[i];

			if (p->dir == v->dir && p->kept >= 16 && memcmp(p->head, b.at, 8) == 0)
				return dpi_le32(b.at + 8) - dpi_le32(p->head + 8) < 64 ? DPI_MATCH
				                                                       : DPI_NO;
		}
		return DPI_MORE;
	}
	default:
		return DPI_NO;
	}
}

/* A packet id that has just begun (from 0x0f000001 where keys are negotiated early), and the time, no earlier than
 * OpenVPN 2. */
static bool
replay(const uint8_t *p)
{
	uint32_t id = dpi_be32(p) & ~0x0f000000u;

	return id >= 1 && id <= 64 && (p[0] == 0 || p[0] == 0x0f) && p[4] >= 0x3c && p[4] < 0x80;
}

/* OpenVPN: opcode << 3 | key; a hard reset has the session id, perhaps an HMAC, acknowledgements, packet id 0. */
static enum dpi_match
openvpn(struct dpi_bytes b, bool *server)
{
	unsigned int op = b.at[0] >> 3;
	static const uint8_t hmacs[] = { 0, 16, 20, 28, 32, 48, 64 };

	*server = op == 8 || op == 2;
	if ((b.at[0] & 7) != 0 || !(op == 7 || op == 8 || op == 10 || op == 1 || op == 2) ||
	    b.len < 14 || b.len > 1200)
		return DPI_NO;
	if (op == 10)
		return b.len >= 54 && replay(b.at + 9) ? DPI_LIKELY : DPI_NO;
	for (size_t i = 0; i < PK_COUNT(hmacs); i++) {
		uint32_t at = 9u + hmacs[i] + (hmacs[i] != 0 ? 8 : 0);
		uint32_t acks;

		if (b.len < at + 5)
			break;
		/* replay packet id 1 and a time, when authenticated */
		if (hmacs[i] != 0 && !replay(b.at + at - 8))
			continue;
		acks = b.at[at];
		if (acks > 8 || (acks != 0) != *server)
			continue;
		if (b.len == at + 1 + acks * 4 + (acks != 0 ? 8 : 0) + 4 &&
		    dpi_be32(b.at + b.len - 4) == 0)
			return DPI_LIKELY;
	}
	/* tls-crypt: everything behind the session id and the replay id is encrypted. */
	return b.len >= 9 + 8 + 32 + 5 && b.len <= 160 && replay(b.at + 9) ? DPI_LIKELY : DPI_NO;
}

static enum dpi_match
parse_openvpn(struct dpi_view *v)
{
	bool server, before;
	enum dpi_match m;

	/* After a reset of one side that of the other; data after both. */
	m = openvpn(v->side[0], &server);
	if (v->nb_past == 0)
		return m == DPI_LIKELY && !server ? DPI_LIKELY : m;
	for (unsigned int i = 0; i < v->nb_past; i++) {
		const struct dpi_past *p = &v->past[i];
		struct dpi_bytes b = { p->head, p->len };

		/* What is remembered of a longer one is enough for its opcode: the third form of a client's reset. */
		if (p->kept < p->len ? p->head[0] != 0x50 : openvpn(b, &before) != DPI_LIKELY)
			continue;
		if (p->kept < p->len)
			before = false;
		if (m == DPI_LIKELY && p->dir != v->dir && before != server)
			return DPI_MATCH;
		/* A server's P_CONTROL or P_ACK with the client's session id in its acknowledgement. */
		if (p->dir != v->dir && v->side[0].len >= 22 && p->kept >= 9 &&
		    memmem(v->side[0].at + 9, PK_MIN(v->side[0].len - 9, 120u), p->head + 1, 8) !=
		        NULL)
			return DPI_MATCH;
	}
	return m;
}

/* Over TCP with a length before each packet. */
static enum dpi_match
parse_openvpn_tcp(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];
	bool server;

	if (c.len < 3)
		return DPI_MORE;
	if (dpi_be16(c.at) < 14 || dpi_be16(c.at) > 1200 || (c.at[2] != 0x38 && c.at[2] != 0x50))
		return DPI_NO;
	if (c.len < 2u + dpi_be16(c.at))
		return DPI_MORE;
	if (openvpn((struct dpi_bytes){ c.at + 2, dpi_be16(c.at) }, &server) == DPI_NO)
		return DPI_NO;
	if (s.len < 3)
		return DPI_LIKELY;
	if (s.at[2] != 0x40)
		return DPI_NO;
	if (s.len < 2u + dpi_be16(s.at))
		return DPI_LIKELY;
	return openvpn((struct dpi_bytes){ s.at + 2, dpi_be16(s.at) }, &server) == DPI_LIKELY
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 7296 section 3.1 and RFC 2408: two SPIs, version, exchange, and a length that is exact; behind a
 * zero marker on port 4500 (RFC 3948). */
static enum dpi_match
ike(struct dpi_bytes b)
{
	if (b.len < 28 || dpi_be32(b.at + 24) != b.len)
		return DPI_NO;
	if ((b.at[17] != 0x10 && b.at[17] != 0x20 && b.at[17] != 0x11) ||
	    memcmp(b.at, "\0\0\0\0\0\0\0", 8) == 0)
		return DPI_NO;
	return b.at[17] == 0x20
	    ? (b.at[18] >= 34 && b.at[18] <= 44 && (b.at[19] & 0xc7) == 0 ? DPI_MATCH : DPI_NO)
	    : ((b.at[18] >= 1 && b.at[18] <= 6) || b.at[18] == 32 || b.at[18] == 33) &&
	        (b.at[19] & 0xf8) == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_ipsec(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	enum dpi_match m = ike(b);

	if (m == DPI_MATCH)
		return m;
	if (b.len >= 32 && dpi_be32(b.at) == 0)
		return ike((struct dpi_bytes){ b.at + 4, b.len - 4 });
	if (b.len == 1)
		return b.at[0] == 0xff && v->nb_past < 4 ? DPI_MORE : DPI_NO;
	/* ESP in UDP: an SPI that stays, and sequence numbers that run on. */
	if (b.len >= 28 && b.len % 4 == 0 && dpi_be32(b.at) > 255 && dpi_be32(b.at + 4) > 0) {
		int run = 1, answers = 0;
		uint32_t seq = dpi_be32(b.at + 4), other = 0;

		for (int i = v->nb_past - 1; i >= 0; i--) {
			const struct dpi_past *p = &v->past[i];

			if (p->len < 28 || p->len % 4 != 0)
				continue;
			/* The other direction is another association, with numbers of its own. */
			if (p->dir != v->dir) {
				if (memcmp(p->head, b.at, 4) == 0)
					return DPI_NO;
				answers += other == 0 || other - dpi_be32(p->head + 4) - 1 <= 8;
				other = dpi_be32(p->head + 4);
				continue;
			}
			if (memcmp(p->head, b.at, 4) != 0 || seq - dpi_be32(p->head + 4) - 1 > 8)
				return DPI_NO;
			seq = dpi_be32(p->head + 4);
			run++;
		}
		if (run >= 2 && answers >= 2)
			return DPI_MATCH;
		return run >= 4 ? DPI_LIKELY : DPI_MORE;
	}
	return DPI_NO;
}

/* SOCKS 5 (RFC 1928) and 4: the greeting is a few bytes, so the answer has to agree. */
static enum dpi_match
parse_socks(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];

	if (c.len < 3)
		return c.len > 0 && c.at[0] == 4 && c.len > 1 && (c.at[1] < 1 || c.at[1] > 2)
		    ? DPI_NO
		    : DPI_MORE;
	if (c.at[0] == 5) {
		if (c.at[1] == 0 || c.at[1] > 10)
			return DPI_NO;
		for (uint32_t i = 0; i < c.at[1] && 2 + i < c.len; i++)
			if (c.at[2 + i] > 9)
				return DPI_NO;
		if (c.len < 2u + c.at[1] || s.len < 2)
			return s.len > 0 && s.at[0] != 5 ? DPI_NO : DPI_MORE;
		if (s.at[0] != 5 || (s.at[1] != 0xff && memchr(c.at + 2, s.at[1], c.at[1]) == NULL))
			return DPI_NO;
		/* Refused, or a request or a login after it. */
		if (s.at[1] == 0xff)
			return s.len == 2 ? DPI_LIKELY : DPI_NO;
		if (c.len < 2u + c.at[1] + 4)
			return DPI_LIKELY;
		c.at += 2 + c.at[1];
		return (c.at[0] == 5 && c.at[1] >= 1 && c.at[1] <= 3 && c.at[2] == 0) ||
		        (c.at[0] == 1 && s.at[1] == 2) || s.at[1] == 1
		    ? DPI_MATCH
		    : DPI_NO;
	}
	if (c.at[0] != 4 || c.at[1] < 1 || c.at[1] > 2)
		return DPI_NO;
	if (c.len < 9)
		return DPI_MORE;
	for (uint32_t i = 8; i < c.len && c.at[i] != 0; i++)
		if (!dpi_is_print(c.at[i]))
			return DPI_NO;
	if (s.len < 2)
		return memchr(c.at + 8, 0, c.len - 8) != NULL ? DPI_LIKELY : DPI_MORE;
	return s.at[0] == 0 && s.at[1] >= 0x5a && s.at[1] <= 0x5d ? DPI_MATCH : DPI_NO;
}

/* RFC 2637 section 1.4: length, type 1, the magic cookie. */
static enum dpi_match
parse_pptp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len < 8];

	if (b.len < 8)
		return DPI_MORE;
	return dpi_be16(b.at + 2) == 1 && dpi_be32(b.at + 4) == 0x1a2b3c4d ? DPI_MATCH : DPI_NO;
}

/* RFC 2661 section 3.1: a control message of version 2 has T, L and S, and begins with its message type. */
static enum dpi_match
parse_l2tp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 12 || (dpi_be16(b.at) & 0xcb0f) != 0xc802 || dpi_be16(b.at + 2) != b.len)
		return DPI_NO;
	return b.len == 12 ||
	        (b.len >= 20 && dpi_be16(b.at + 12) == 0x8008 && dpi_be32(b.at + 14) == 0 &&
	            dpi_be16(b.at + 18) <= 30)
	    ? DPI_MATCH
	    : DPI_NO;
}

static bool
is_ethernet(const uint8_t *p)
{
	uint16_t type = dpi_be16(p + 12);

	return type == 0x0800 || type == 0x86dd || type == 0x0806 || type == 0x8100 ||
	    type == 0x8847;
}

/* RFC 7348: the I flag alone, a VNI, zeroes; Ethernet inside. */
static enum dpi_match
parse_vxlan(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 8 + 14 + 20 && (b.at[0] & 0x7f) == 0x08 && b.at[1] == 0 && b.at[7] == 0 &&
	        is_ethernet(b.at + 8)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 8926: version 0, option length, protocol of what is inside. */
static enum dpi_match
parse_geneve(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t head = 8 + 4u * (b.at[0] & 0x3f);

	if (b.len < 8 || (b.at[0] & 0xc0) != 0 || (b.at[1] & 0x3f) != 0 || b.at[7] != 0 ||
	    b.len < head + 34)
		return DPI_NO;
	return dpi_be16(b.at + 2) == 0x6558 && is_ethernet(b.at + head) ? DPI_MATCH : DPI_NO;
}

/* RFC 4380 section 5.1.1: authentication and origin, then IPv6 with a Teredo or link-local address. */
static enum dpi_match
parse_teredo(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 0;

	if (b.len >= 13 && b.at[0] == 0 && b.at[1] == 1)
		off += 4u + b.at[2] + b.at[3] + 9;
	if (b.len >= off + 8 && b.at[off] == 0 && b.at[off + 1] == 0)
		off += 8;
	if (b.len < off + 40 || b.at[off] >> 4 != 6 ||
	    dpi_be16(b.at + off + 4) + 40u + off != b.len)
		return DPI_NO;
	return dpi_be32(b.at + off + 8) == 0x20010000 || dpi_be32(b.at + off + 24) == 0x20010000 ||
	        (off > 0 && dpi_be16(b.at + off + 8) == 0xfe80)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* DNSCrypt 2: the resolver answers with its magic. */
static enum dpi_match
parse_dnscrypt(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len >= 48 && memcmp(b.at, "r6fnvWj8", 8) == 0)
		return DPI_MATCH;
	return v->nb_past < 2 && b.len >= 256 && b.len % 64 == (8 + 32 + 12 + 16) % 64 ? DPI_MORE
	                                                                               : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_WIREGUARD, DPI_UDP, { DPI_FIRST("\1\4"), DPI_ANY }, parse_wireguard,
	    describe_wireguard },
	{ DPI_APP_OPENVPN, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_openvpn, describe_openvpn },
	{ DPI_APP_OPENVPN, DPI_TCP, { DPI_FIRST("\0\4"), DPI_FIRST("\0\4") }, parse_openvpn_tcp,
	    describe_openvpn },
	{ DPI_APP_IPSEC, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_ipsec, describe_ipsec },
	{ DPI_APP_SOCKS, DPI_TCP, { DPI_FIRST("\4\5"), DPI_FIRST("\0\0\5\5") }, parse_socks,
	    describe_socks },
	{ DPI_APP_PPTP, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_pptp,
	    describe_pptp },
	{ DPI_APP_L2TP, DPI_UDP, { DPI_FIRST("\xc8\xcb"), DPI_ANY }, parse_l2tp, describe_l2tp },
	{ DPI_APP_VXLAN, DPI_UDP, { DPI_FIRST("\x08\x08\x88\x88"), DPI_ANY }, parse_vxlan,
	    describe_vxlan },
	{ DPI_APP_GENEVE, DPI_UDP, { DPI_FIRST("\x00\x3f"), DPI_ANY }, parse_geneve,
	    describe_geneve },
	{ DPI_APP_TEREDO, DPI_UDP, { DPI_FIRST("\0\0\x60\x6f"), DPI_ANY }, parse_teredo,
	    describe_teredo },
	{ DPI_APP_DNSCRYPT, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_dnscrypt, NULL },
};
DPI_FAMILY_OF(tunnel, table);
