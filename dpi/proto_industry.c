/* Plants and buildings: Modbus, DNP3, IEC 104, S7comm, BACnet, OPC UA, EtherNet/IP, SOME/IP, RTPS, HART-IP, CoAP ... */
#include "dpi/proto.h"

/* Modbus Application Protocol 1.1b3 section 6: whether what follows a function code can be its request. */
static bool
modbus_request(const uint8_t *pdu, uint32_t len)
{
	uint16_t n = len >= 5 ? dpi_be16(pdu + 3) : 0;

	switch (pdu[0]) {
	case 1:
	case 2:
		return len == 5 && n >= 1 && n <= 2000;
	case 3:
	case 4:
		return len == 5 && n >= 1 && n <= 125;
	case 5:
		return len == 5 && (n == 0 || n == 0xff00);
	case 6:
		return len == 5;
	case 15:
	case 16:
		return len >= 7 && pdu[5] + 6u == len;
	default:
		return false;
	}
}

/* Modbus/TCP: transaction, protocol 0, length, unit, function. */
static enum dpi_match
modbus(struct dpi_bytes b, uint16_t *id)
{
	uint32_t len;

	if (b.len < 8)
		return b.len >= 4 && (b.at[2] | b.at[3]) != 0 ? DPI_NO : DPI_MORE;
	len = dpi_be16(b.at + 4);
	*id = dpi_be16(b.at);
	if (dpi_be16(b.at + 2) != 0 || len < 2 || len > 254 || (b.at[7] & 0x7f) == 0 ||
	    (b.at[7] & 0x7f) > 0x6e)
		return DPI_NO;
	if (b.len < 6 + len)
		return DPI_MORE;
	/* The next one, when there is one, begins right behind. */
	if (b.len >= 6 + len + 4 && dpi_be16(b.at + 6 + len + 2) != 0)
		return DPI_NO;
	return DPI_LIKELY;
}

static enum dpi_match
parse_modbus(struct dpi_view *v)
{
	uint16_t id[2] = { 0, 0 };
	struct dpi_bytes c = v->side[0], s = v->side[1];
	enum dpi_match mc = modbus(c, &id[0]), ms = modbus(s, &id[1]);
	bool request;

	if (mc == DPI_NO || ms == DPI_NO)
		return DPI_NO;
	if (mc == DPI_MORE)
		return PK_MAX(mc, ms);
	request = modbus_request(c.at + 7, dpi_be16(c.at + 4) - 1u);
	if (ms == DPI_LIKELY) {
		/* The answer repeats transaction, unit and function; that of a read counts its bytes. */
		if (id[0] != id[1] || c.at[6] != s.at[6] || ((c.at[7] ^ s.at[7]) & 0x7f) != 0)
			return v->midstream && request ? DPI_LIKELY : DPI_NO;
		if (s.at[7] >= 1 && s.at[7] <= 4 && s.at[8] + 3u != dpi_be16(s.at + 4))
			return DPI_NO;
		return (c.at[7] & 0x80) == 0 && (id[0] != 0 || request) ? DPI_MATCH : DPI_LIKELY;
	}
	return request && c.len == 6u + dpi_be16(c.at + 4) ? DPI_LIKELY : DPI_MORE;
}

/* IEEE 1815 section 9.2: 0x0564, length, control, addresses, CRC. */
static uint16_t
dnp3_crc(const uint8_t *p, int n)
{
	uint16_t crc = 0;

	for (int i = 0; i < n; i++) {
		crc ^= p[i];
		for (int k = 0; k < 8; k++)
			crc = (crc & 1) != 0 ? (uint16_t)(crc >> 1 ^ 0xa6bc) : (uint16_t)(crc >> 1);
	}
	return (uint16_t)~crc;
}

static enum dpi_match
dnp3(struct dpi_bytes b)
{
	if (b.len < 10)
		return DPI_FRONT(b, "\x05\x64");
	return b.at[0] == 5 && b.at[1] == 0x64 && b.at[2] >= 5 &&
	        dnp3_crc(b.at, 8) == dpi_le16(b.at + 8)
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_dnp3(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++)
		if (v->side[i].len >= 10)
			return dnp3(v->side[i]);
		else if (v->side[i].len > 0 && dnp3(v->side[i]) == DPI_NO)
			return DPI_NO;
	return DPI_MORE;
}

static enum dpi_match
parse_dnp3_udp(struct dpi_view *v)
{
	return v->side[0].len >= 10 ? dnp3(v->side[0]) : DPI_NO;
}

/* IEC 60870-5-104 section 5: 0x68, length, four control bytes; APDUs end to end.  *bits: what has agreed. */
static enum dpi_match
iec104(struct dpi_bytes b, unsigned int *bits)
{
	uint32_t off = 0;
	int last = -1;

	while (b.len - off >= 6) {
		const uint8_t *p = b.at + off;

		if (p[0] != 0x68 || p[1] < 4 || p[1] > 253)
			return DPI_NO;
		if ((p[2] & 3) == 3) { /* U: one of six functions, zeroes */
			if (p[1] != 4 || (p[3] | p[4] | p[5]) != 0 ||
			    __builtin_popcount(p[2] >> 2) != 1)
				return DPI_NO;
			*bits += 32;
		} else if ((p[2] & 3) == 1) { /* S: what was received */
			if (p[1] != 4 || p[2] != 1 || p[3] != 0 || (p[4] & 1) != 0)
				return DPI_NO;
			*bits += 32;
		} else {
			if (p[1] < 10 || (p[4] & 1) != 0)
				return DPI_NO;
			if (b.len - off < 2u + p[1])
				break;
			/* Type, number of objects, cause (IEC 60870-5-101 section 7.2). */
			if (p[6] == 0 || p[6] > 127 || (p[7] & 0x7f) == 0 || (p[8] & 0x3f) == 0 ||
			    (p[8] & 0x3f) > 47)
				return DPI_NO;
			/* They are numbered one by one. */
			if (last >= 0 && ((last + 1) & 0x7fff) != dpi_le16(p + 2) >> 1)
				return DPI_NO;
			*bits += 11 + (off + 2u + p[1] == b.len ? 8 : 0) + (last >= 0 ? 15 : 0);
			last = dpi_le16(p + 2) >> 1;
		}
		off += 2u + p[1];
		if (off > b.len)
			break;
	}
	return DPI_MORE;
}

static enum dpi_match
parse_iec104(struct dpi_view *v)
{
	unsigned int bits = 0;

	if ((v->side[0].len > 0 && iec104(v->side[0], &bits) == DPI_NO) ||
	    (v->side[1].len > 0 && iec104(v->side[1], &bits) == DPI_NO))
		return DPI_NO;
	return bits >= 32 ? DPI_MATCH : DPI_MORE;
}

/* TPKT (RFC 1006), COTP data, then S7's own identifier 0x32 or 0x72; MMS goes the same way with presentation. */
static enum dpi_match
parse_s7(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		uint32_t off = 0;

		while (b.len - off >= 7) {
			const uint8_t *p = b.at + off;
			uint32_t len = dpi_be16(p + 2), li = p[4];

			if (p[0] != 3 || p[1] != 0 || len < 7 || li + 5 > len || li < 2)
				return DPI_NO;
			if (p[5] == 0xf0) { /* DT */
				const uint8_t *d = p + 5 + li;

				if (b.len - off < 5 + li + 3)
					break;
				if (d[0] == 0x32 && ((d[1] >= 1 && d[1] <= 3) || d[1] == 7))
					return DPI_MATCH;
				if (d[0] == 0x72 && d[1] >= 1 && d[1] <= 4)
					return DPI_MATCH;
				return DPI_NO;
			}
			/* TSAPs of S7 are of two bytes; RDP has cookies there. */
			if (p[5] != 0xe0 && p[5] != 0xd0)
				return DPI_NO;
			off += len;
			if (off > b.len)
				break;
		}
	}
	return DPI_MORE;
}

/* BACnet/IP annex J: 0x81, function, length exact; a network layer of version 1. */
static enum dpi_match
parse_bacnet(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 6 || b.at[0] != 0x81 || b.at[1] > 0x0c || dpi_be16(b.at + 2) != b.len)
		return DPI_NO;
	return (b.at[1] >= 9 && b.at[1] <= 11) ? (b.at[4] == 1 ? DPI_MATCH : DPI_NO) : DPI_LIKELY;
}

/* OPC UA part 6, section 7.1: "HELF", "ACKF", "OPNF", "MSGF" and a length. */
static enum dpi_match
parse_opcua(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len >= 8)
			return (memcmp(b.at, "HELF", 4) == 0 || memcmp(b.at, "ACKF", 4) == 0 ||
			           memcmp(b.at, "OPNF", 4) == 0 || memcmp(b.at, "MSGF", 4) == 0 ||
			           memcmp(b.at, "ERRF", 4) == 0) &&
			        dpi_le32(b.at + 4) >= 16 && dpi_le32(b.at + 4) < 1 << 24
			    ? DPI_MATCH
			    : DPI_NO;
	}
	return DPI_MORE;
}

/* CIP volume 2, section 2-3: command, length, session, status, context, options 0. */
static enum dpi_match
enip(struct dpi_bytes b, bool stream)
{
	uint16_t command;
	uint32_t len;

	if (b.len < 24)
		return stream ? (b.len >= 2 && (dpi_le16(b.at) > 0x75) ? DPI_NO : DPI_MORE)
		              : DPI_NO;
	command = dpi_le16(b.at);
	if ((command != 4 && command != 0x63 && command != 0x64 && command != 0x65 &&
	        command != 0x66 && command != 0x6f && command != 0x70) ||
	    dpi_le32(b.at + 20) != 0 || dpi_le32(b.at + 8) > 0x69)
		return DPI_NO;
	len = dpi_le16(b.at + 2);
	if (!stream && 24 + len != b.len)
		return DPI_NO;
	switch (command) {
	case 0x65: /* RegisterSession: version 1, no options */
		return len != 4                                            ? DPI_NO
		    : b.len < 28                                           ? DPI_MORE
		    : dpi_le16(b.at + 24) == 1 && dpi_le16(b.at + 26) == 0 ? DPI_MATCH
		                                                           : DPI_NO;
	case 0x66:
		return len == 0 && dpi_le32(b.at + 4) != 0 ? DPI_LIKELY : DPI_NO;
	case 0x6f: /* with data: interface 0, then items */
	case 0x70:
		return len >= 16 && dpi_le32(b.at + 4) != 0
		    ? (b.len >= 28 ? (dpi_le32(b.at + 24) == 0 ? DPI_MATCH : DPI_NO) : DPI_MORE)
		    : DPI_NO;
	default: /* lists: nothing asked, items answered */
		if (dpi_le32(b.at + 4) != 0)
			return DPI_NO;
		if (len == 0)
			return DPI_LIKELY;
		return b.len < 28                                                       ? DPI_MORE
		    : dpi_le16(b.at + 24) >= 1 && dpi_le16(b.at + 24) <= 16 && len >= 6 ? DPI_MATCH
		                                                                        : DPI_NO;
	}
}

/* Implicit messages: item count 2, sequenced address 0x8002, connected data 0x00b1. */
static enum dpi_match
parse_enip_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len >= 18 && dpi_le16(b.at) == 2 && dpi_le16(b.at + 2) == 0x8002 &&
	    dpi_le16(b.at + 4) == 8 && dpi_le16(b.at + 14) == 0xb1)
		return DPI_MATCH;
	return enip(b, false);
}

static enum dpi_match
parse_enip(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		enum dpi_match m = v->side[i].len > 0 ? enip(v->side[i], true) : DPI_MORE;

		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

/* SOME/IP: service, method, length exact, client, session, version 1, interface, type, code. */
static enum dpi_match
parse_someip(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 16 || dpi_be32(b.at + 4) + 8u > b.len || dpi_be32(b.at + 4) < 8 ||
	    b.at[12] != 1 || b.at[13] == 0 || (b.at[14] <= 2 && b.at[15] != 0))
		return DPI_NO;
	if (!(b.at[14] <= 2 || (b.at[14] >= 0x20 && b.at[14] <= 0x22) || b.at[14] == 0x80 ||
	        b.at[14] == 0x81 || b.at[14] == 0xa0 || b.at[14] == 0xa1) ||
	    b.at[15] > 0x20)
		return DPI_NO;
	if (dpi_be32(b.at) == 0xffff8100)
		return DPI_MATCH;
	/* All else needs a second message of the service. */
	for (unsigned int i = 0; i < v->nb_past; i++)
		if (v->past[i].kept >= 16 && memcmp(v->past[i].head, b.at, 2) == 0 &&
		    dpi_be16(b.at) != 0 && v->past[i].head[12] == 1 &&
		    v->past[i].head[13] == b.at[13] &&
		    dpi_be32(v->past[i].head + 4) + 8u <= v->past[i].len)
			return DPI_MATCH;
	return DPI_MORE;
}

/* On a stream: two messages, one behind the other or one each way. */
static enum dpi_match
parse_someip_tcp(struct dpi_view *v)
{
	struct dpi_past first;
	struct dpi_view one = *v;
	struct dpi_bytes a = v->side[0], b = v->side[1];
	uint32_t len;

	if (a.len < 16)
		return a.len >= 8 && (dpi_be32(a.at + 4) > 1 << 16 || dpi_be32(a.at + 4) < 8)
		    ? DPI_NO
		    : DPI_MORE;
	len = dpi_be32(a.at + 4);
	if (len > 1 << 16 || len < 8 || a.at[12] != 1)
		return DPI_NO;
	if (b.len < 16 && a.len >= len + 8 + 16)
		b = (struct dpi_bytes){ a.at + len + 8, a.len - len - 8 };
	if (b.len < 16)
		return DPI_MORE;
	first = (struct dpi_past){ .len = (uint16_t)PK_MIN(a.len, 65535u), .kept = 16 };
	memcpy(first.head, a.at, 16);
	one.side[0] = b;
	one.past = &first;
	one.nb_past = 1;
	return parse_someip(&one) == DPI_MATCH ? DPI_MATCH
	    : b.len < dpi_be32(b.at + 4) + 8   ? DPI_MORE
	                                       : DPI_NO;
}

/* RTPS: magic, version 1 or 2. */
static enum dpi_match
parse_rtps(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 20 && (memcmp(b.at, "RTPS", 4) == 0 || memcmp(b.at, "RTPX", 4) == 0) &&
	        b.at[4] >= 1 && b.at[4] <= 2
	    ? DPI_MATCH
	    : DPI_NO;
}

/* HART-IP: version 1, type 0 to 2, message 0 to 3, status, sequence, count exact. */
static enum dpi_match
parse_hart(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 8 && (b.at[0] == 1 || b.at[0] == 2) && b.at[1] <= 2 && b.at[2] <= 3 &&
	        dpi_be16(b.at + 6) == b.len
	    ? (b.len > 8 ? DPI_MATCH : DPI_LIKELY)
	    : DPI_NO;
}

/* HiSLIP (IVI-6.1): "HS", message type, and a length of 8 bytes. */
static enum dpi_match
parse_hislip(struct dpi_view *v)
{
	const struct dpi_bytes *b = &v->side[v->side[0].len == 0];

	if (b->len < 16)
		return DPI_FRONT(*b, "HS") == DPI_NO || (b->len > 2 && b->at[2] > 31) ? DPI_NO
		                                                                      : DPI_MORE;
	return b->at[0] == 'H' && b->at[1] == 'S' && b->at[2] <= 31 && dpi_be32(b->at + 8) == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

/* C37.118.2: 0xaa, type and version, size, and a CRC at the end. */
static enum dpi_match
parse_synphasor(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len == 0];
	uint16_t crc = 0xffff, len;

	if (b.len < 16)
		return v->f->transport == DPI_TCP && (b.len < 2 || (b.at[1] & 0x8f) <= 2) ? DPI_MORE
		                                                                          : DPI_NO;
	len = dpi_be16(b.at + 2);
	if ((b.at[1] & 0x80) != 0 || (b.at[1] & 0x70) > 0x50 || (b.at[1] & 15) < 1 ||
	    (b.at[1] & 15) > 2 || len < 16 || len > 4096)
		return DPI_NO;
	if (b.len < len)
		return v->f->transport == DPI_TCP ? DPI_MORE : DPI_NO;
	for (uint32_t i = 0; i < len - 2u; i++) {
		crc ^= (uint16_t)(b.at[i] << 8);
		for (int k = 0; k < 8; k++)
			crc = (crc & 0x8000) != 0 ? (uint16_t)(crc << 1 ^ 0x1021)
			                          : (uint16_t)(crc << 1);
	}
	return crc == dpi_be16(b.at + len - 2) ? DPI_MATCH : DPI_NO;
}

/* AMS/TCP: two zeroes, length, then net ids whose last two bytes are 1, a command below 10. */
static enum dpi_match
parse_ads(struct dpi_view *v)
{
	const struct dpi_bytes *b = &v->side[v->side[0].len == 0];

	if (b->len < 38)
		return b->len >= 2 && dpi_be16(b->at) != 0 ? DPI_NO : DPI_MORE;
	return dpi_be16(b->at) == 0 && dpi_le32(b->at + 2) == 32 + dpi_le32(b->at + 26) &&
	        dpi_le16(b->at + 22) <= 9 && dpi_le16(b->at + 24) < 0x100
	    ? DPI_MATCH
	    : DPI_NO;
}

/* Registered options: RFC 7252 section 12.2 and those that came after. */
static bool
coap_option(uint32_t number)
{
	static const uint16_t known[] = { 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20,
		21, 23, 27, 28, 31, 35, 39, 60, 252, 258, 292, 2048, 2049, 2053 };

	for (size_t i = 0; i < PK_COUNT(known); i++)
		if (known[i] == number)
			return true;
	return false;
}

/* RFC 7252 section 3: version 1, token length, code, options, payload after 0xff.  Few bits are fixed, so those of
 * the options are counted: about 3 for a known number, 1.4 for a printable byte of a text. */
static enum dpi_match
parse_coap(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off, number = 0, bits = 8;

	if (b.len < 4 || b.at[0] >> 6 != 1 || (b.at[0] & 15) > 8)
		return DPI_NO;
	if (!((b.at[1] >= 1 && b.at[1] <= 7) || (b.at[1] >= 0x41 && b.at[1] <= 0x45) ||
	        b.at[1] == 0x5f || (b.at[1] >= 0x80 && b.at[1] <= 0x8f) ||
	        (b.at[1] >= 0xa0 && b.at[1] <= 0xa5)))
		return b.at[1] == 0 && b.len == 4 ? DPI_MORE : DPI_NO;
	off = 4u + (b.at[0] & 15);
	while (off < b.len && b.at[off] != 0xff) {
		uint32_t delta = b.at[off] >> 4, len = b.at[off] & 15;

		off++;
		if (delta == 15 || len == 15)
			return DPI_NO;
		if (delta == 13 && off < b.len)
			delta += b.at[off++];
		else if (delta == 14 && b.len - off >= 2)
			delta = 269u + dpi_be16(b.at + off), off += 2;
		if (len == 13 && off < b.len)
			len += b.at[off++];
		else if (len == 14)
			return DPI_NO;
		number += delta;
		if (!coap_option(number) || len > b.len - off)
			return DPI_NO;
		bits += 3;
		/* Uri-Host, Location-Path, Uri-Path, Uri-Query, Location-Query, Proxy-Uri are text. */
		if (number == 3 || number == 8 || number == 11 || number == 15 || number == 20 ||
		    number == 35) {
			for (uint32_t i = 0; i < len; i++)
				if (b.at[off + i] < 0x20)
					return DPI_NO;
			bits += len * 7 / 5;
		} else if (len > 8) {
			return DPI_NO; /* numbers and tags */
		}
		off += len;
	}
	if (off > b.len || (off < b.len && off + 1 == b.len))
		return DPI_NO;
	/* An answer repeats message id or token, and so does a question asked again. */
	for (unsigned int i = 0; i < v->nb_past; i++) {
		const struct dpi_past *p = &v->past[i];

		if (p->kept < 4 || p->head[0] >> 6 != 1 || (p->head[0] & 15) > 8)
			continue;
		if (memcmp(p->head + 2, b.at + 2, 2) == 0)
			bits += 16;
		else if ((b.at[0] & 15) >= 2 && p->kept >= off &&
		    (p->head[0] & 15) == (b.at[0] & 15) && b.len >= 4u + (b.at[0] & 15) &&
		    p->kept >= 4u + (b.at[0] & 15) &&
		    memcmp(p->head + 4, b.at + 4, b.at[0] & 15) == 0)
			bits += 8u * (b.at[0] & 15);
	}
	return bits >= 32 ? DPI_MATCH : bits >= 20 ? DPI_LIKELY : DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_DNP3, DPI_TCP, { DPI_FIRST("\5\5"), DPI_FIRST("\5\5") }, parse_dnp3, NULL },
	{ DPI_APP_DNP3, DPI_UDP, { DPI_FIRST("\5\5"), DPI_ANY }, parse_dnp3_udp, NULL },
	{ DPI_APP_IEC104, DPI_TCP, { DPI_FIRST("hh"), DPI_FIRST("hh") }, parse_iec104, NULL },
	{ DPI_APP_S7COMM, DPI_TCP, { DPI_FIRST("\3\3"), DPI_FIRST("\3\3") }, parse_s7, NULL },
	{ DPI_APP_BACNET, DPI_UDP, { DPI_FIRST("\x81\x81"), DPI_ANY }, parse_bacnet, NULL },
	{ DPI_APP_OPCUA, DPI_TCP, { DPI_FIRST("AZ"), DPI_FIRST("AZ") }, parse_opcua, NULL },
	{ DPI_APP_ENIP, DPI_TCP, { DPI_FIRST("\4\4\x63\x70"), DPI_FIRST("\4\4\x63\x70") },
	    parse_enip, NULL },
	{ DPI_APP_ENIP, DPI_UDP, { DPI_FIRST("\2\4\x63\x70"), DPI_ANY }, parse_enip_udp, NULL },
	{ DPI_APP_SOMEIP, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_someip, NULL },
	{ DPI_APP_SOMEIP, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_someip_tcp, NULL },
	{ DPI_APP_RTPS, DPI_UDP, { DPI_FIRST("RR"), DPI_ANY }, parse_rtps, NULL },
	{ DPI_APP_HART_IP, DPI_UDP, { DPI_FIRST("\1\2"), DPI_ANY }, parse_hart, NULL },
	{ DPI_APP_HISLIP, DPI_TCP, { DPI_FIRST("HH"), DPI_FIRST("HH") }, parse_hislip, NULL },
	{ DPI_APP_SYNPHASOR, DPI_TCP, { DPI_FIRST("\xaa\xaa"), DPI_FIRST("\xaa\xaa") },
	    parse_synphasor, NULL },
	{ DPI_APP_SYNPHASOR, DPI_UDP, { DPI_FIRST("\xaa\xaa"), DPI_ANY }, parse_synphasor, NULL },
	{ DPI_APP_COAP, DPI_UDP, { DPI_FIRST("\x40\x7f"), DPI_ANY }, parse_coap, NULL },
	{ DPI_APP_BECKHOFF_ADS, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_ads,
	    NULL },
	{ DPI_APP_MODBUS, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_modbus, NULL },
};
DPI_FAMILY_OF(industry, table);
