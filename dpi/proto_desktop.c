/* Screens and trades: RDP, VNC, Citrix, TeamViewer, FIX, HL7. */
#include "dpi/proto.h"

/* MS-RDPBCGR section 2.2.1.1: TPKT, a COTP connection request with a cookie or a negotiation request. */
static enum dpi_match
parse_rdp(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];
	uint32_t len;

	if (c.len < 11) {
		if (c.len == 0 && s.len >= 19)
			return s.at[0] == 3 && dpi_be16(s.at + 2) == 19 && s.at[5] == 0xd0 &&
			        (s.at[11] == 2 || s.at[11] == 3) && dpi_le16(s.at + 13) == 8
			    ? DPI_MATCH
			    : DPI_NO;
		return c.len > 5 && c.at[5] != 0xe0 ? DPI_NO : DPI_MORE;
	}
	len = dpi_be16(c.at + 2);
	if (c.at[0] != 3 || c.at[1] != 0 || c.at[5] != 0xe0 || len < 11 || c.at[4] + 5u != len ||
	    (c.at[10] & 0xf0) != 0)
		return DPI_NO;
	if (c.len < len)
		return DPI_MORE;
	if (len == 11) { /* no negotiation: the answer, then GCC */
		if (s.len >= 11 && s.at[5] == 0xd0 && c.len >= 11 + 9)
			return c.at[11] == 3 && c.at[18] == 0x7f && c.at[19] == 0x65 ? DPI_MATCH
			                                                             : DPI_NO;
		return c.len > 20 ? DPI_NO : DPI_MORE;
	}
	if (dpi_find((struct dpi_bytes){ c.at + 11, len - 11 }, "Cookie: ms", 10) != NULL ||
	    dpi_find((struct dpi_bytes){ c.at + 11, len - 11 }, "tsv://", 6) != NULL)
		return DPI_MATCH;
	/* The negotiation request may be followed by correlation data of 36 bytes (section 2.2.1.1.2). */
	for (uint32_t at = 11; at + 8 <= len; at++)
		if ((at + 8 == len || at + 44 == len) && c.at[at] == 1 &&
		    dpi_le16(c.at + at + 2) == 8 && (dpi_le32(c.at + at + 4) & ~0x1fu) == 0)
			return DPI_MATCH;
	return DPI_NO;
}

/* MS-RDPEUDP section 2.2.2.1: the SYN has source ack 0xffffffff, flags SYN, and is padded to 1232 bytes. */
static enum dpi_match
parse_rdp_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint16_t flags;

	if (b.len < 16)
		return DPI_NO;
	flags = dpi_be16(b.at + 6);
	return dpi_be32(b.at) == 0xffffffff && (flags & 1) != 0 && (flags & 0xe000) == 0 &&
	        b.len >= 1000 && dpi_be16(b.at + 12) <= 1500 && dpi_be16(b.at + 12) >= 500
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 6143 section 7.1.1. */
static enum dpi_match
parse_vnc(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len > 0 && DPI_FRONT(b, "RFB ") == DPI_NO)
			return DPI_NO;
		if (b.len >= 12)
			best = dpi_is_digit(b.at[4]) && b.at[7] == '.' && b.at[11] == '\n'
			    ? DPI_MATCH
			    : DPI_NO;
	}
	return best;
}

/* ICA's hello, and CGP's. */
static enum dpi_match
parse_citrix(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		enum dpi_match m = DPI_FRONT(b, "\x7f\x7fICA\0");

		if (b.len > 0 && m != DPI_NO)
			return m;
		if (b.len >= 16 &&
		    DPI_FRONT(b,
		        "\x1a"
		        "CGP/01") == DPI_MATCH)
			return DPI_MATCH;
	}
	return v->side[0].len >= 7 ? DPI_NO : DPI_MORE;
}

/* TeamViewer: two magics, a command below 0x50; over UDP behind a counter. */
static enum dpi_match
parse_teamviewer(struct dpi_view *v)
{
	bool seen = false;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len == 0)
			continue;
		if (DPI_FRONT(b, "\x17\x24") == DPI_NO && DPI_FRONT(b, "\x11\x30") == DPI_NO)
			return DPI_NO;
		if (b.len >= 5) {
			if (b.at[2] < 0x08 || b.at[2] > 0x50)
				return DPI_NO;
			if (seen)
				return DPI_MATCH;
			seen = true;
			/* 0x1724: a length of two bytes, little-endian, then zero; the next message right behind. */
			if (b.at[0] == 0x17 && b.len >= 5u + dpi_le16(b.at + 3) &&
			    dpi_le16(b.at + 3) > 0 && b.len == 5u + dpi_le16(b.at + 3))
				return DPI_MATCH;
		}
	}
	return seen ? DPI_LIKELY : DPI_MORE;
}

static enum dpi_match
parse_teamviewer_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 16 && b.at[0] == 0 && b.at[11] == 0x17 && b.at[12] == 0x24 &&
	        b.at[13] <= 0x50
	    ? DPI_MATCH
	    : DPI_NO;
}

/* FIX: "8=FIX.4.2", SOH, "9=", a length, SOH; exchanges put names of their own for the version. */
static enum dpi_match
parse_fix(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		uint32_t at = 2;

		if (b.len == 0)
			continue;
		if (DPI_FRONT(b, "8=") == DPI_NO)
			return DPI_NO;
		while (at < b.len && at < 12 && dpi_is_print(b.at[at]))
			at++;
		if (at >= b.len)
			continue;
		if (at == 2 || b.at[at] != 1)
			return DPI_NO;
		at++;
		if (DPI_FRONT(((struct dpi_bytes){ b.at + at, b.len - at }), "9=") == DPI_NO)
			return DPI_NO;
		for (at += 2; at < b.len && dpi_is_digit(b.at[at]); at++)
			;
		if (at < b.len)
			best = b.at[at] == 1 ? DPI_MATCH : DPI_NO;
		if (best == DPI_NO)
			return best;
	}
	return best;
}

/* MLLP: vertical tab, then a message header. */
static enum dpi_match
parse_hl7(struct dpi_view *v)
{
	return DPI_FRONT(v->side[0],
	    "\x0b"
	    "MSH|^~\\&");
}

static const struct dpi_proto table[] = {
	{ DPI_APP_RDP, DPI_TCP, { DPI_FIRST("\3\3"), DPI_FIRST("\3\3") }, parse_rdp, NULL },
	{ DPI_APP_RDP, DPI_UDP, { DPI_FIRST("\xff\xff"), DPI_ANY }, parse_rdp_udp, NULL },
	{ DPI_APP_VNC, DPI_TCP, { DPI_FIRST("RR"), DPI_FIRST("RR") }, parse_vnc, NULL },
	{ DPI_APP_CITRIX, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_citrix, NULL },
	{ DPI_APP_TEAMVIEWER, DPI_TCP, { DPI_FIRST("\x11\x17"), DPI_FIRST("\x11\x17") },
	    parse_teamviewer, NULL },
	{ DPI_APP_TEAMVIEWER, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_teamviewer_udp, NULL },
	{ DPI_APP_FIX, DPI_TCP, { DPI_FIRST("88"), DPI_FIRST("88") }, parse_fix, NULL },
	{ DPI_APP_HL7, DPI_TCP, { DPI_FIRST("\x0b\x0b"), DPI_FIRST("\x0b\x0b") }, parse_hl7, NULL },
};
DPI_FAMILY_OF(desktop, table);
