/* What keeps a network running: DHCP, NTP, SSDP, BGP, BFD, NAT-PMP, HSRP, LDP, PTP, SLP, GTP, flow export. */
#include "dpi/proto.h"

/* RFC 2131: op, Ethernet, the cookie at 236. */
static enum dpi_match
parse_dhcp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 240 && (b.at[0] == 1 || b.at[0] == 2) && b.at[2] <= 16 &&
	        dpi_be32(b.at + 236) == 0x63825363
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 8415 section 8 and 21: type, transaction, options that fill the message. */
static enum dpi_match
parse_dhcpv6(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 4;
	bool id = false;

	if (b.len < 12 || b.at[0] < 1 || b.at[0] > 13)
		return DPI_NO;
	if (b.at[0] >= 12) /* relayed: hop count, two addresses */
		off = 34;
	while (b.len > off && b.len - off >= 4) {
		uint32_t type = dpi_be16(b.at + off), len = dpi_be16(b.at + off + 2);

		if (type == 0 || type > 160)
			return DPI_NO;
		id |= (type == 1 || type == 2) && len >= 8;
		id |= type == 9;
		off += 4 + len;
	}
	return off == b.len && id ? DPI_MATCH : DPI_NO;
}

/* Seconds since 1900 (RFC 5905 section 6): from 1968 to 2036, where the era ends. */
static bool
is_time(const uint8_t *p)
{
	return (p[0] & 0x80) != 0;
}

/* RFC 5905 section 7.3; modes 6 and 7 are for control. */
static enum dpi_match
parse_ntp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	unsigned int version = b.at[0] >> 3 & 7, mode = b.at[0] & 7;

	if (version < 1 || version > 4)
		return DPI_NO;
	if (mode == 6 && b.len >= 12) {
		uint32_t count = dpi_be16(b.at + 10);

		if (b.at[0] >> 6 != 0 || (b.at[1] & 0x1f) < 1 || dpi_be16(b.at + 8) != 0 ||
		    count > b.len - 12 || b.len - 12 - count >= 28)
			return DPI_NO;
		/* RFC 9327 section 2: a question has no status; data are padded to words, perhaps with a MAC. */
		if ((b.at[1] & 0x80) == 0 && ((b.at[1] & 0x60) != 0 || dpi_be16(b.at + 4) != 0))
			return DPI_NO;
		/* Variables are text; the status of associations (1) comes in pairs of numbers. */
		if ((b.at[1] & 0x1f) != 1)
			for (uint32_t i = 0; i < count; i++)
				if (!dpi_is_print(b.at[12 + i]) && b.at[12 + i] != '\r' &&
				    b.at[12 + i] != '\n')
					return DPI_NO;
		if (count == 0)
			return b.len == 12 ? ((b.at[1] & 0xc0) != 0x80 ? DPI_MATCH : DPI_LIKELY)
			                   : DPI_NO;
		return (b.at[1] & 0x1f) != 1 || count % 4 == 0 ? DPI_MATCH : DPI_NO;
	}
	if (mode == 7 && b.len >= 8) {
		/* Implementation 0, 2 or 3, a code, items of a size; what ntpd and ntpdc sent to each other. */
		uint32_t items = dpi_be16(b.at + 4) & 0xfff, size = dpi_be16(b.at + 6) & 0xfff;
		bool answer = (b.at[0] & 0x80) != 0;

		if (b.at[2] > 3 || b.at[2] == 1 || b.at[3] > 45 || (b.at[6] & 0xf0) != 0)
			return DPI_NO;
		if (answer)
			return (items > 0 && 8 + items * size == b.len) ||
			        (items == 0 && b.len == 8 && (b.at[4] & 0xf0) != 0)
			    ? DPI_MATCH
			    : DPI_NO;
		return b.at[4] == 0 && b.at[1] == 0 && items <= 1 &&
		        (b.len == 8 || b.len == 48 || b.len == 184 || b.len == 192 ||
		            b.len == 216) &&
		        (b.len > 8 || items == 0)
		    ? DPI_MATCH
		    : DPI_NO;
	}
	if (b.len < 48 || mode == 0 || mode > 5 || b.at[1] > 16 ||
	    (b.len != 48 && b.len != 68 && b.len != 72 && b.len < 64))
		return DPI_NO;
	/* RFC 7822: extensions in words, each of 16 bytes or more, then perhaps a MAC of up to 24. */
	if (b.len > 48 && b.len != 68 && b.len != 72) {
		uint32_t off = 48;

		while (version == 4 && b.len - off > 24 && dpi_be16(b.at + off + 2) >= 16 &&
		    dpi_be16(b.at + off + 2) % 4 == 0 && dpi_be16(b.at + off + 2) <= b.len - off)
			off += dpi_be16(b.at + off + 2);
		if (off == 48 || b.len - off > 24)
			return DPI_NO;
	}
	/* Delay and dispersion below 16 s; the poll interval up to 2^17 s. */
	if (b.at[2] > 17 || dpi_be32(b.at + 4) >> 16 > 16 || dpi_be32(b.at + 8) >> 16 > 16)
		return mode == 3 && b.len == 48 && b.at[1] == 0 && dpi_be32(b.at + 12) == 0
		    ? DPI_LIKELY
		    : DPI_NO;
	/* A precision finer than a second, or one not told; times since 1968, but in a client's question, which may
	 * hold anything when it holds nothing else (RFC 8633 section 5.2 and data minimization). */
	if (b.at[3] != 0 && (b.at[3] & 0x80) == 0)
		return DPI_NO;
	if (mode == 3) {
		if (is_time(b.at + 40) || is_time(b.at + 24))
			return DPI_MATCH;
		for (int i = 4; i < 40; i++)
			if (b.at[i] != 0)
				return DPI_NO;
		return b.len == 48 ? DPI_MATCH : DPI_LIKELY;
	}
	return is_time(b.at + 40) && (dpi_be32(b.at + 16) == 0 || is_time(b.at + 16)) ? DPI_MATCH
	                                                                              : DPI_NO;
}

/* UPnP: HTTP's form in datagrams. */
static enum dpi_match
parse_ssdp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (DPI_FRONT(b, "M-SEARCH * HTTP/1.1\r\n") == DPI_MATCH ||
	    DPI_FRONT(b, "NOTIFY * HTTP/1.1\r\n") == DPI_MATCH ||
	    DPI_FRONT(b, "NOTIFY * HTTP/1.0\r\n") == DPI_MATCH)
		return DPI_MATCH;
	return (DPI_FRONT(b, "HTTP/1.1 200 ") == DPI_MATCH) &&
	        (dpi_find(b, "\nST:", 4) != NULL || dpi_find(b, "\nUSN:", 5) != NULL)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 4271 section 4.1: a marker of ones, length, type. */
static enum dpi_match
parse_bgp(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (dpi_front(b, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		        16) == DPI_NO)
			return DPI_NO;
		if (b.len >= 19)
			return dpi_be16(b.at + 16) >= 19 && dpi_be16(b.at + 16) <= 4096 &&
			        b.at[18] >= 1 && b.at[18] <= 5
			    ? DPI_MATCH
			    : DPI_NO;
	}
	return DPI_MORE;
}

/* RFC 5880 section 4.1. */
static enum dpi_match
parse_bfd(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 24 || b.at[0] >> 5 != 1 || (b.at[0] & 0x1f) > 9 || b.at[3] != b.len ||
	    b.at[3] > 60 || b.at[2] == 0 || dpi_be32(b.at + 4) == 0 || (b.at[1] & 1) != 0 ||
	    ((b.at[1] & 4) == 0) != (b.len == 24))
		return DPI_NO;
	/* Intervals in microseconds: none beyond some minutes. */
	if (dpi_be32(b.at + 12) >> 28 != 0 || dpi_be32(b.at + 16) >> 28 != 0 ||
	    dpi_be32(b.at + 20) >> 28 != 0 || dpi_be32(b.at + 12) == 0)
		return DPI_NO;
	return DPI_MATCH;
}

/* RFC 6886: version 0, opcodes 0 to 2 and their answers; RFC 6887 (PCP): version 2. */
static enum dpi_match
parse_natpmp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	enum dpi_match m = DPI_NO;

	if (b.len < 2)
		return DPI_NO;
	if (b.at[0] == 0) {
		if (b.at[1] == 0)
			return b.len == 2 ? DPI_MORE
			                  : DPI_NO; /* too little, until it is answered */
		else if (b.at[1] <= 2)
			m = b.len == 12 && dpi_be16(b.at + 2) == 0 && dpi_be32(b.at + 8) <= 31536000
			    ? DPI_LIKELY
			    : DPI_NO;
		else if (b.at[1] == 128)
			m = b.len == 12 && dpi_be16(b.at + 2) <= 5 ? DPI_LIKELY : DPI_NO;
		else if (b.at[1] == 129 || b.at[1] == 130)
			m = b.len == 16 && dpi_be16(b.at + 2) <= 5 ? DPI_LIKELY : DPI_NO;
		if (m != DPI_LIKELY)
			return DPI_NO;
		/* A question and its answer, or a mapping asked for twice. */
		for (unsigned int i = 0; i < v->nb_past; i++) {
			const struct dpi_past *p = &v->past[i];

			if (p->dir != v->dir && p->head[0] == 0 && (p->len == 2 || p->len == 12) &&
			    (p->head[1] | 0x80) == b.at[1])
				return DPI_MATCH;
			if (p->dir == v->dir && p->len == 12 && b.len == 12 && b.at[1] != 128 &&
			    memcmp(p->head, b.at, 12) == 0 && dpi_be16(b.at + 4) != 0)
				return DPI_MATCH;
		}
		/* Alone: a mapping of a port, for a time. */
		if (b.at[1] <= 2 && (dpi_be16(b.at + 4) == 0 || dpi_be32(b.at + 8) == 0))
			return DPI_MORE;
		return b.at[1] <= 2 ? DPI_LIKELY : DPI_MORE;
	}
	/* PCP's addresses are of IPv6, or IPv4 mapped into it. */
	if (b.at[0] == 2 && b.len >= 24 && (b.at[1] & 0x80) == 0 && dpi_be32(b.at + 16) != 0xffff &&
	    b.at[8] >> 5 != 1 && (b.at[8] & 0xfc) != 0xfc)
		return DPI_NO;
	if (b.at[0] == 2 && b.len >= 24 && b.len % 4 == 0 && b.len <= 1100 &&
	    (b.at[1] & 0x7f) <= 2 && b.at[2] == 0)
		return (b.at[1] & 0x80) != 0 ? (b.at[3] <= 13 ? DPI_LIKELY : DPI_NO)
		    : b.at[3] == 0 && (b.at[1] == 0 || b.len >= (b.at[1] == 1 ? 60u : 80u))
		    ? DPI_MATCH
		    : DPI_NO;
	return DPI_NO;
}

/* RFC 2281: version 0, opcode, state, in 20 bytes; version 2 in TLVs. */
static enum dpi_match
parse_hsrp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len >= 20 && b.at[0] == 0 && b.at[1] <= 3 &&
	    (b.at[2] == 0 || b.at[2] == 1 || b.at[2] == 2 || b.at[2] == 4 || b.at[2] == 8 ||
	        b.at[2] == 16) &&
	    b.at[3] > 0 && b.at[4] >= b.at[3] && b.at[7] == 0 &&
	    (memcmp(b.at + 8, "cisco\0\0\0", 8) == 0))
		return DPI_MATCH;
	/* Advertisements between routers have a type and length of their own. */
	if (b.len >= 16 && b.at[0] == 0 && b.at[1] == 3 && dpi_be16(b.at + 2) == 1 &&
	    dpi_be16(b.at + 4) <= 10 && b.at[6] <= 2)
		return DPI_LIKELY;
	return b.len >= 42 && b.at[0] == 1 && b.at[1] == 40 && b.at[2] == 2 && b.at[3] <= 2 &&
	        b.at[4] <= 6 && (b.at[5] == 4 || b.at[5] == 6)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 5036 section 3.1: version 1, PDU length, LSR id, label space 0; then a message. */
static bool
ldp(struct dpi_bytes b)
{
	uint16_t type;

	if (b.len < 18 || dpi_be16(b.at) != 1 || dpi_be16(b.at + 2) < 14 || dpi_be16(b.at + 8) != 0)
		return false;
	type = dpi_be16(b.at + 10) & 0x7fff;
	return (type == 0x001 || type == 0x100 || (type >= 0x200 && type <= 0x201) ||
	           (type >= 0x300 && type <= 0x301) || (type >= 0x400 && type <= 0x404)) &&
	    dpi_be16(b.at + 12) >= 4 && dpi_be16(b.at + 12) + 10 <= dpi_be16(b.at + 2);
}

static enum dpi_match
parse_ldp(struct dpi_view *v)
{
	return ldp(v->side[0]) && dpi_be16(v->side[0].at + 2) + 4u == v->side[0].len ? DPI_MATCH
	                                                                             : DPI_NO;
}

static enum dpi_match
parse_ldp_tcp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len < 18];

	return b.len < 18 ? (DPI_FRONT(b, "\0\1") == DPI_NO ? DPI_NO : DPI_MORE)
	    : ldp(b)      ? DPI_MATCH
	                  : DPI_NO;
}

/* IEEE 1588-2008 section 13.3: message type, version 2, length. */
static enum dpi_match
parse_ptp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	static const uint8_t lens[16] = { 44, 44, 54, 54, 0, 0, 0, 0, 44, 54, 54, 64, 44, 48 };
	uint8_t len = lens[b.at[0] & 15];

	return b.len >= 44 && len != 0 && b.at[0] >> 4 <= 2 && b.at[1] >> 4 <= 1 && b.len >= len &&
	        (b.at[1] & 15) == 2 && dpi_be16(b.at + 2) >= len && dpi_be16(b.at + 2) <= b.len &&
	        b.len - dpi_be16(b.at + 2) <= 8
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 2608 section 8: version 2, function, length of 3 bytes, language. */
static enum dpi_match
parse_srvloc(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len >= 16 && b.at[0] == 2 && b.at[1] >= 1 && b.at[1] <= 11)
		return ((uint32_t)b.at[2] << 16 | dpi_be16(b.at + 3)) == b.len &&
		        (b.at[6] | (b.at[5] & 0x1f)) == 0 && dpi_be16(b.at + 12) >= 2 &&
		        dpi_be16(b.at + 12) <= 8 && dpi_is_alpha(b.at[14])
		    ? DPI_MATCH
		    : DPI_NO;
	if (b.len >= 12 && b.at[0] == 1 && b.at[1] >= 1 && b.at[1] <= 10) /* RFC 2165 */
		return dpi_be16(b.at + 2) == b.len && b.at[5] == 0 && dpi_is_alpha(b.at[6]) &&
		        dpi_is_alpha(b.at[7])
		    ? DPI_MATCH
		    : DPI_NO;
	return DPI_NO;
}

/* Two messages of the version, each way or after one another. */
static enum dpi_match
gtp_twice(struct dpi_view *v)
{
	for (unsigned int i = 0; i < v->nb_past; i++) {
		const struct dpi_past *p = &v->past[i];

		if (p->kept >= 8 && (p->head[0] & 0xf8) == (v->side[0].at[0] & 0xf8) &&
		    dpi_be16(p->head + 2) + 8u == p->len)
			return DPI_MATCH;
	}
	return DPI_LIKELY;
}

/* TS 29.274 section 5 and 8.2: the header, then elements of type, length and instance that fill the message; a second
 * message may be piggybacked. */
static bool
gtp2_elements(struct dpi_bytes b)
{
	uint32_t off = (b.at[0] & 8) != 0 ? 12 : 8, end = 4u + dpi_be16(b.at + 2);
	uint8_t type = b.at[1];

	if (end > b.len || (end < b.len && (b.at[0] & 0x10) == 0) || b.at[off - 1] != 0 ||
	    end < off)
		return false;
	if (type == 0 || (type > 3 && type < 25) || type > 240)
		return false;
	while (end - off >= 4) {
		if (b.at[off] == 0 || (b.at[off + 3] & 0xf0) != 0)
			return false;
		off += 4u + dpi_be16(b.at + off + 1);
		if (off > end)
			return false;
	}
	return off == end;
}

/* GTPv1 (TS 29.060, 29.281) and v2 (TS 29.274): version, type, and a length that is exact. */
static enum dpi_match
parse_gtp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	unsigned int version = b.at[0] >> 5;
	uint32_t head;

	if (b.len < 8)
		return DPI_NO;
	/* GTP' (TS 32.295 section 6.1.1): no GTP, and a header of 6 or 20 bytes. */
	if (version <= 2 && (b.at[0] & 0x1e) == 0x0e) {
		head = version == 0 && (b.at[0] & 1) == 0 ? 20 : 6;
		return dpi_be16(b.at + 2) + head == b.len &&
		        ((b.at[1] >= 1 && b.at[1] <= 7) || b.at[1] == 240 || b.at[1] == 241)
		    ? DPI_MATCH
		    : DPI_NO;
	}
	if (version == 1) {
		uint32_t teid = dpi_be32(b.at + 4);
		uint8_t type = b.at[1];

		if ((b.at[0] & 0x10) == 0 || (b.at[0] & 8) != 0 || dpi_be16(b.at + 2) + 8u != b.len)
			return DPI_NO;
		head = (b.at[0] & 7) != 0 ? 12 : 8;
		if (b.len < head)
			return DPI_NO;
		if (type == 255) /* a packet inside, whose length agrees */
			return b.len < head + 20 ? DPI_NO
			    : (b.at[0] & 4) != 0 ? gtp_twice(v)
			    : b.at[head] >> 4 == 4
			    ? (dpi_be16(b.at + head + 2) + head == b.len ? DPI_MATCH : gtp_twice(v))
			    : b.at[head] >> 4 == 6
			    ? (dpi_be16(b.at + head + 4) + 40u + head == b.len ? DPI_MATCH
			                                                       : gtp_twice(v))
			    : DPI_NO;
		/* Path management and errors belong to no tunnel, and are short. */
		if (type == 1 || type == 2 || type == 3 || type == 26 || type == 31)
			return teid == 0 && b.len <= 64 ? DPI_MATCH : DPI_NO;
		if (type == 254)
			return b.len == head ? DPI_MATCH : DPI_NO;
		/* All else has a sequence number (TS 29.060 section 6), and the first of them no tunnel yet. */
		if (type < 4 || type > 134 || (b.at[0] & 2) == 0 || b.len < head + 2)
			return DPI_NO;
		return teid == 0 ? DPI_MATCH : gtp_twice(v);
	}
	if (version == 2)
		return (b.at[0] & 7) == 0 && b.len >= 12 && gtp2_elements(b) ? DPI_MATCH : DPI_NO;
	return DPI_NO;
}

/* TS 29.244: version 1, type, length, sequence. */
static enum dpi_match
parse_pfcp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t ie;

	if (b.len < 12 || (b.at[0] & 0xfc) != 0x20 || dpi_be16(b.at + 2) + 4u != b.len)
		return DPI_NO;
	ie = (b.at[0] & 1) != 0 ? 16 : 8;
	if (b.len < ie + 4)
		return DPI_NO;
	if (b.at[1] == 0 || (b.at[1] > 16 && b.at[1] < 50) || b.at[1] > 57 || b.at[ie - 1] != 0 ||
	    b.len < ie + 4)
		return DPI_NO;
	return dpi_be16(b.at + ie) < 400 && ie + 4u + dpi_be16(b.at + ie + 2) <= b.len ? DPI_MATCH
	                                                                               : DPI_NO;
}

/* NetFlow 1, 5, 7 by count and size; 9 (RFC 3954) and IPFIX (RFC 7011) by the sets. */
static enum dpi_match
parse_netflow(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint16_t version, count;
	uint32_t off;

	if (b.len < 20)
		return DPI_NO;
	version = dpi_be16(b.at);
	count = dpi_be16(b.at + 2);
	/* When it was exported, in seconds since 1970: no earlier than the protocol. */
	if (dpi_be32(b.at + (version == 10 ? 4 : 8)) < 0x2a000000)
		return DPI_NO;
	switch (version) {
	case 1:
		return count >= 1 && count <= 24 && b.len == 16u + 52u * count ? DPI_MATCH : DPI_NO;
	case 5:
		return count >= 1 && count <= 30 && b.len >= 24u + 48u * count &&
		        b.len < 24u + 48u * count + 48
		    ? DPI_MATCH
		    : DPI_NO;
	case 7:
		return count >= 1 && count <= 28 && b.len == 24u + 52u * count ? DPI_MATCH : DPI_NO;
	case 9:
	case 10:
		if (version == 10 && count != b.len)
			return DPI_NO;
		if (version == 9 && (count == 0 || count > 1000))
			return DPI_NO;
		off = version == 9 ? 20 : 16;
		while (b.len - off >= 4) {
			uint16_t id = dpi_be16(b.at + off), len = dpi_be16(b.at + off + 2);

			if (len < 4 || len > b.len - off || (id > 3 && id < 256) ||
			    (version == 10 ? id < 2 : id > 1 && id < 256))
				return DPI_NO;
			off += len;
		}
		return off > 20 && b.len - off < 4 ? DPI_MATCH : DPI_NO;
	default:
		return DPI_NO;
	}
}

/* sFlow 5 (sflow.org, sFlow Version 5): version, address of the agent, ids, samples of type and length that fill the
 * datagram.  Versions 2 and 4 have no lengths. */
static enum dpi_match
parse_sflow(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off, n, version, kind;

	if (b.len < 28)
		return DPI_NO;
	version = dpi_be32(b.at);
	kind = dpi_be32(b.at + 4);
	if ((version != 5 && version != 4 && version != 2) || (kind != 1 && kind != 2) ||
	    b.at[8] == 0)
		return DPI_NO;
	off = (kind == 1 ? 12u : 24u) + (version == 5 ? 4 : 0);
	if (b.len < off + 16)
		return DPI_NO;
	n = dpi_be32(b.at + off + 8);
	off += 12;
	if (n < 1 || n > 64)
		return DPI_NO;
	if (version != 5)
		return dpi_be32(b.at + off) >= 1 && dpi_be32(b.at + off) <= 2 && b.len >= 100
		    ? DPI_LIKELY
		    : DPI_NO;
	while (n-- > 0) {
		uint32_t len;

		if (b.len - off < 8)
			return DPI_NO;
		len = dpi_be32(b.at + off + 4);
		if ((dpi_be32(b.at + off) & 0xfff) == 0 || len < 8 || len % 4 != 0 ||
		    len > b.len - off - 8)
			return DPI_NO;
		off += 8 + len;
	}
	return off == b.len ? DPI_MATCH : DPI_LIKELY;
}

/* RFC 6733 section 3: version 1, length, flags, code, application; first to come is a capabilities exchange. */
static enum dpi_match
parse_diameter(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len < 20];
	uint32_t len;

	if (b.len > 0 && b.at[0] != 1)
		return DPI_NO;
	if (b.len < 20)
		return DPI_MORE;
	len = (uint32_t)b.at[1] << 16 | dpi_be16(b.at + 2);
	return len >= 20 && len % 4 == 0 && len < 65536 && (b.at[4] & 15) == 0 && b.at[5] <= 128 &&
	        (dpi_be32(b.at + 4) & 0xffffff) >= 257 &&
	        ((dpi_be32(b.at + 4) & 0xffffff) < 400 ||
	            ((dpi_be32(b.at + 4) & 0xffffff) >= 8388600 &&
	                (dpi_be32(b.at + 4) & 0xffffff) < 8388750))
	    ? DPI_MATCH
	    : DPI_NO;
}

/* OpenFlow: both begin with HELLO (type 0) of version 1 to 6. */
static enum dpi_match
parse_openflow(struct dpi_view *v)
{
	int hello = 0;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len < 8)
			continue;
		if (b.at[0] < 1 || b.at[0] > 6 || b.at[1] > 35 || dpi_be16(b.at + 2) < 8 ||
		    (b.at[1] == 0 && dpi_be16(b.at + 2) > 64))
			return DPI_NO;
		if (b.at[1] != 0 && !v->midstream)
			return DPI_NO;
		/* Elements of a HELLO: the bitmap of versions. */
		if (b.at[1] == 0 && dpi_be16(b.at + 2) > 8 && b.len >= 12 &&
		    (dpi_be16(b.at + 8) != 1 || dpi_be16(b.at + 10) + 8u > dpi_be16(b.at + 2)))
			return DPI_NO;
		/* More messages of the version, end to end. */
		hello += b.at[1] == 0;
		if (b.len >= 8u + dpi_be16(b.at + 2)) {
			const uint8_t *p = b.at + dpi_be16(b.at + 2);

			if (p[0] < 1 || p[0] > 6 || p[1] > 35)
				return DPI_NO;
			hello += dpi_be16(p + 2) >= 8;
		}
	}
	return hello >= 2 ? DPI_MATCH : DPI_MORE;
}

/* RFC 5415 section 4.1: preamble 0, HLEN, WBID 1. */
static enum dpi_match
parse_capwap(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t head;

	if (b.len < 16 || b.at[0] != 0)
		return DPI_NO;
	head = (uint32_t)(b.at[1] >> 3) * 4;
	if (head < 8 || head > 64 || (b.at[1] & 7) != 0 || (b.at[2] & 0xc0) > 0x00 ||
	    (b.at[2] >> 1 & 31) != 1 || (b.at[3] & 7) != 0 || dpi_be32(b.at + 4) != 0 ||
	    b.len < head + 8)
		return DPI_NO;
	/* Control: message type below 27 of the IETF, sequence, length, flags. */
	return dpi_be32(b.at + head) >= 1 && dpi_be32(b.at + head) <= 26 &&
	        dpi_be16(b.at + head + 5) + head + 5u <= b.len + 3
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 6830 data, RFC 9301 control: map request, reply, register, notify with record counts. */
static enum dpi_match
parse_lisp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 32)
		return DPI_NO;
	if (b.at[0] == 0x80 && b.at[4] >> 4 == 4)
		return b.at[1] == 0 && b.at[2] == 0 && b.at[3] == 0 && b.at[4] == 0x45 &&
		        dpi_be16(b.at + 6) + 4u == b.len
		    ? DPI_MATCH
		    : DPI_NO;
	return (b.at[0] >> 4 == 3 || b.at[0] >> 4 == 4) && b.at[3] >= 1 && b.at[3] <= 16 &&
	        dpi_be16(b.at + 12) <= 5 && dpi_be16(b.at + 14) <= 64 &&
	        (dpi_be16(b.at + 14) == 20 || dpi_be16(b.at + 14) == 32)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* XDMCP: version 1, opcode 1 to 14, length exact. */
static enum dpi_match
parse_xdmcp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 7 && dpi_be16(b.at) == 1 && dpi_be16(b.at + 2) >= 1 &&
	        dpi_be16(b.at + 2) <= 14 && dpi_be16(b.at + 4) + 6u == b.len &&
	        (dpi_be16(b.at + 2) > 3 || b.len == 7u || 7u + 2 <= b.len)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* KNXnet/IP: header of 6, version 0x10, service, length exact. */
static enum dpi_match
parse_knxip(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 8 && b.at[0] == 6 && b.at[1] == 0x10 && b.at[2] >= 2 && b.at[2] <= 9 &&
	        dpi_be16(b.at + 4) == b.len
	    ? DPI_MATCH
	    : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_DHCP, DPI_UDP, { DPI_FIRST("\1\2"), DPI_ANY }, parse_dhcp, NULL },
	{ DPI_APP_NTP, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_ntp, NULL },
	{ DPI_APP_DHCPV6, DPI_UDP, { DPI_FIRST("\1\15"), DPI_ANY }, parse_dhcpv6, NULL },
	{ DPI_APP_SSDP, DPI_UDP, { DPI_FIRST("HN"), DPI_ANY }, parse_ssdp, NULL },
	{ DPI_APP_BGP, DPI_TCP, { DPI_FIRST("\xff\xff"), DPI_FIRST("\xff\xff") }, parse_bgp, NULL },
	{ DPI_APP_BFD, DPI_UDP, { DPI_FIRST("\x20\x3f"), DPI_ANY }, parse_bfd, NULL },
	{ DPI_APP_HSRP, DPI_UDP, { DPI_FIRST("\0\1"), DPI_ANY }, parse_hsrp, NULL },
	{ DPI_APP_NATPMP, DPI_UDP, { DPI_FIRST("\0\2"), DPI_ANY }, parse_natpmp, NULL },
	{ DPI_APP_LDP, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_ldp, NULL },
	{ DPI_APP_LDP, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_ldp_tcp, NULL },
	{ DPI_APP_PTP, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_ptp, NULL },
	{ DPI_APP_SRVLOC, DPI_UDP, { DPI_FIRST("\1\2"), DPI_ANY }, parse_srvloc, NULL },
	{ DPI_APP_GTP, DPI_UDP, { DPI_FIRST("\x0e\x5f"), DPI_ANY }, parse_gtp, NULL },
	{ DPI_APP_PFCP, DPI_UDP, { DPI_FIRST("\x20\x23"), DPI_ANY }, parse_pfcp, NULL },
	{ DPI_APP_NETFLOW, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_netflow, NULL },
	{ DPI_APP_SFLOW, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_sflow, NULL },
	{ DPI_APP_DIAMETER, DPI_TCP, { DPI_FIRST("\1\1"), DPI_FIRST("\1\1") }, parse_diameter,
	    NULL },
	{ DPI_APP_OPENFLOW, DPI_TCP, { DPI_FIRST("\1\6"), DPI_FIRST("\1\6") }, parse_openflow,
	    NULL },
	{ DPI_APP_CAPWAP, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_capwap, NULL },
	{ DPI_APP_LISP, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_lisp, NULL },
	{ DPI_APP_XDMCP, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_xdmcp, NULL },
	{ DPI_APP_KNXIP, DPI_UDP, { DPI_FIRST("\6\6"), DPI_ANY }, parse_knxip, NULL },
};
DPI_FAMILY_OF(net, table);
