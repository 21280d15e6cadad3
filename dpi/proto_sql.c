/* Databases that speak SQL: MySQL, PostgreSQL, Microsoft's TDS, Oracle's TNS, DRDA (DB2). */
#include "dpi/proto.h"

/* The server greets: length, sequence 0, protocol 10, version text (MySQL internals, Handshake V10). */
static enum dpi_match
mysql_greeting(struct dpi_bytes s)
{
	uint32_t len, i;

	if (s.len < 5)
		return s.len > 3 && s.at[3] != 0 ? DPI_NO : DPI_MORE;
	len = s.at[0] | (uint32_t)s.at[1] << 8 | (uint32_t)s.at[2] << 16;
	if (s.at[3] != 0 || len > 512 || len < 7)
		return DPI_NO;
	if (s.at[4] == 0xff) { /* refused before the greeting: error code and text */
		if (s.len < 9)
			return DPI_MORE;
		for (i = 7; i < s.len && i < 4 + len; i++)
			if (s.at[i] < 0x20)
				return DPI_NO;
		return dpi_le16(s.at + 5) >= 1000 && dpi_le16(s.at + 5) < 4000 && len >= 9
		    ? (s.len >= 4 + len ? DPI_MATCH : DPI_MORE)
		    : DPI_NO;
	}
	if (s.at[4] != 10 && s.at[4] != 9)
		return DPI_NO;
	for (i = 5; i < s.len && s.at[i] != 0; i++)
		if (!dpi_is_print(s.at[i]) || i > 80)
			return DPI_NO;
	if (s.len < i + 14)
		return DPI_MORE;
	if (!dpi_is_digit(s.at[5]))
		return DPI_NO;
	/* Thread id, eight bytes of salt, a zero. */
	return s.at[i + 13] == 0 || s.at[4] == 9 ? DPI_MATCH : DPI_NO;
}

/* Joined in the middle: a command with sequence 0, and its answer with sequence 1. */
static enum dpi_match
mysql_command(struct dpi_bytes c, struct dpi_bytes s)
{
	uint32_t len, answer;

	if (c.len < 5)
		return DPI_MORE;
	len = c.at[0] | (uint32_t)c.at[1] << 8 | (uint32_t)c.at[2] << 16;
	if (c.at[3] != 0 || len == 0 || len > 1 << 20 || c.at[4] == 0 || c.at[4] > 31)
		return DPI_NO;
	if (c.len < 4 + len)
		return DPI_MORE;
	if (c.len > 4 + len && !(c.len >= 8 + len && c.at[4 + len + 3] == 0))
		return DPI_NO;
	if (c.at[4] == 3 || c.at[4] == 22 || c.at[4] == 2) /* text of a statement */
		for (uint32_t i = 5; i < 4 + len && i < 40; i++)
			if (c.at[i] < 0x20 && c.at[i] != '\t' && c.at[i] != '\n' &&
			    c.at[i] != '\r' && c.at[i] != 0)
				return DPI_NO;
	if (s.len < 5)
		return DPI_MORE;
	answer = s.at[0] | (uint32_t)s.at[1] << 8 | (uint32_t)s.at[2] << 16;
	if (s.at[3] != 1 || answer == 0 || answer > 1 << 20 || s.len < 4 + answer)
		return s.at[3] == 1 && answer < 1 << 16 && answer > 0 ? DPI_MORE : DPI_NO;
	/* OK, error, or a count of columns followed by packet 2. */
	if (s.at[4] == 0xff)
		return answer > 9 && dpi_le16(s.at + 5) >= 1000 ? DPI_MATCH : DPI_NO;
	if (s.at[4] == 0)
		return answer >= 7 ? DPI_MATCH : DPI_NO;
	return s.len >= 8 + answer && s.at[4 + answer + 3] == 2 ? DPI_MATCH : DPI_NO;
}

static uint32_t
le24(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

/* The compressed protocol: length, sequence, length before compression (0: as it is); then packets, or zlib. */
static enum dpi_match
mysql_compressed(struct dpi_bytes c, struct dpi_bytes s)
{
	if (c.len < 12)
		return DPI_MORE;
	if (c.at[3] != 0 || le24(c.at + 4) != 0 || le24(c.at) < 5 ||
	    le24(c.at + 7) + 4 != le24(c.at) || c.at[10] != 0 || c.at[11] == 0 || c.at[11] > 31)
		return DPI_NO;
	if (s.len < 11)
		return DPI_LIKELY;
	if (s.at[3] != 1)
		return DPI_NO;
	return le24(s.at + 4) == 0
	    ? (s.at[10] == 1 && le24(s.at + 7) < le24(s.at) ? DPI_MATCH : DPI_NO)
	    : (s.at[7] & 0x0f) == 8 && dpi_be16(s.at + 7) % 31 == 0 ? DPI_MATCH
	                                                            : DPI_NO;
}

static enum dpi_match
parse_mysql(struct dpi_view *v)
{
	enum dpi_match m = DPI_MORE;

	if (v->side[1].len > 0) {
		m = mysql_greeting(v->side[1]);
		if (m == DPI_MATCH)
			return m;
		/* Without a greeting, the login packet: sequence 1, its fillers all zero. */
	}
	if (m == DPI_NO || v->side[1].len == 0) {
		struct dpi_bytes c = v->side[0];

		if (m != DPI_NO && c.len >= 36 && c.at[3] == 1 &&
		    (c.at[0] | (uint32_t)c.at[1] << 8 | (uint32_t)c.at[2] << 16) < 4096 &&
		    memcmp(c.at + 13, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 19) == 0 &&
		    (c.at[5] & 2) != 0)
			return DPI_MATCH;
		if (v->midstream) {
			enum dpi_match plain = mysql_command(v->side[0], v->side[1]);
			enum dpi_match packed = mysql_compressed(v->side[0], v->side[1]);

			return PK_MAX(plain, packed);
		}
	}
	return m;
}

static bool
describe_mysql(struct dpi_view *v)
{
	struct dpi_bytes s = v->side[1];
	const uint8_t *end = s.len > 5 && s.at[4] == 10 ? memchr(s.at + 5, 0, s.len - 5) : NULL;

	if (end != NULL)
		dpi_say(v, DPI_FIELD_SOFTWARE, 1, s.at + 5, (size_t)(end - s.at) - 5);
	return true;
}

/* A chain of tagged messages, each byte and length (PostgreSQL 15 manual, chapter 55.7). */
static enum dpi_match
pg_messages(struct dpi_bytes b, const char *tags, int want)
{
	uint32_t off = 0;
	int n = 0;

	while (b.len - off >= 5) {
		uint32_t len = dpi_be32(b.at + off + 1);

		if (b.at[off] == 0 || strchr(tags, b.at[off]) == NULL || len < 4 || len > 1 << 20)
			return DPI_NO;
		if (b.len - off - 1 < len)
			return n + 1 >= want ? DPI_LIKELY : DPI_MORE;
		n++;
		off += 1 + len;
	}
	return n >= want ? DPI_MATCH : n > 0 ? DPI_LIKELY : DPI_MORE;
}

/* ErrorResponse: 'E', length, 'S' and a severity, more fields, two zeroes at the end. */
static bool
pg_error(struct dpi_bytes s)
{
	uint32_t len = s.len >= 9 ? dpi_be32(s.at + 1) : 0;

	return len >= 10 && len < s.len && s.at[0] == 'E' && s.at[5] == 'S' &&
	    dpi_is_alpha(s.at[6]) && s.at[len] == 0 && s.at[len - 1] == 0;
}

static enum dpi_match
parse_postgresql(struct dpi_view *v)
{
	static const char from_server[] = "RSKZTDCEN123tnIGHWAVvsdc",
	                  from_client[] = "QPBEDSCXHFpfdc";
	struct dpi_bytes c = v->side[0], s = v->side[1];
	uint32_t len, code;

	if (c.len >= 8 && c.at[0] == 0) {
		len = dpi_be32(c.at);
		code = dpi_be32(c.at + 4);
		if (len == 8 &&
		    (code == 80877103 || code == 80877104)) /* SSLRequest, GSSENCRequest */
			return DPI_MATCH;
		if (len == 16 && code == 80877102) /* CancelRequest */
			return DPI_MATCH;
		if (len >= 9 && len <= 10000 && code == 0x30000) {
			if (c.len < len)
				return DPI_LIKELY;
			return c.at[len - 1] == 0 && dpi_find(c, "user", 5) != NULL ? DPI_MATCH
			                                                            : DPI_NO;
		}
		if (code == 0x30000 && s.len == 0)
			return DPI_MORE;
		return code == 0x30000 && pg_error(s) ? DPI_MATCH : DPI_NO;
	}
	if (c.len > 0 && c.at[0] == 0)
		return DPI_MORE;
	if (!v->midstream && c.len > 0)
		return DPI_NO;
	/* In the middle: messages of both sides, or several of one. */
	{
		enum dpi_match mc = pg_messages(c, from_client, 2),
		               ms = pg_messages(s, from_server, 3);

		if (mc == DPI_NO || ms == DPI_NO)
			return DPI_NO;
		if (mc >= DPI_LIKELY && ms >= DPI_LIKELY)
			return DPI_MATCH;
		if (ms == DPI_MATCH && s.at[0] == 'R')
			return DPI_MATCH;
		return PK_MAX(mc, ms) == DPI_NO ? DPI_NO : DPI_MORE;
	}
}

/* MS-TDS section 2.2.3: type, status, length, channel, number, window; PRELOGIN has a table of options. */
static enum dpi_match
parse_mssql(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];
	uint32_t len;

	if (b.len < 9)
		return b.len >= 8 && b.at[7] != 0 ? DPI_NO : DPI_MORE;
	len = dpi_be16(b.at + 2);
	if (b.at[1] > 1 + 8 + 16 || dpi_be16(b.at + 4) != 0 || b.at[7] != 0 || len < 9 ||
	    len > 32767)
		return DPI_NO;
	switch (b.at[0]) {
	case 0x12:
		if (b.at[8] != 0)
			return DPI_NO;
		/* The version comes first: where it lies, and its six bytes. */
		return b.len < 13 ? DPI_MORE
		    : dpi_be16(b.at + 9) < len && dpi_be16(b.at + 9) >= 6 &&
		        dpi_be16(b.at + 11) == 6
		    ? DPI_MATCH
		    : DPI_NO;
	case 0x10: /* LOGIN7 repeats its length, and has a version 7.x */
		if (b.len < 16)
			return DPI_MORE;
		return dpi_le32(b.at + 8) == len - 8 && b.at[15] >= 0x70 && b.at[15] <= 0x7f
		    ? DPI_MATCH
		    : DPI_NO;
	case 0x01: /* batch and RPC: in UTF-16, after ALL_HEADERS of 22 bytes */
	case 0x03:
		if (b.len < 18)
			return DPI_MORE;
		if (dpi_le32(b.at + 8) == 22 && dpi_le32(b.at + 12) == 18 &&
		    dpi_le16(b.at + 16) == 2)
			return DPI_MATCH;
		return s.len >= 8 && s.at[0] == 4 && s.at[1] <= 1 && dpi_be16(s.at + 2) <= 32767 &&
		        v->midstream && b.at[6] <= 1 && b.len > 10 && b.at[9] == 0 && b.at[11] == 0
		    ? DPI_LIKELY
		    : DPI_MORE;
	default:
		return DPI_NO;
	}
}

/* Joined in the middle: a packet of data (6) whose length, of two bytes or since 12c of four, is all there is. */
static bool
tns_data(struct dpi_bytes b)
{
	return b.len >= 11 && b.at[4] == 6 && dpi_be16(b.at + 6) == 0 && b.at[5] <= 0x20 &&
	    b.at[8] == 0 &&
	    ((dpi_be16(b.at) == b.len && dpi_be16(b.at + 2) == 0) || dpi_be32(b.at) == b.len);
}

/* TNS: length, checksum 0, type 1 (connect), flags, checksum 0, and a description in brackets. */
static enum dpi_match
parse_oracle(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (v->midstream && tns_data(b) && tns_data(v->side[1]))
		return DPI_MATCH;
	if (v->midstream && b.len >= 5 && b.at[4] == 6)
		return DPI_MORE;
	if (b.len < 12)
		return (b.len >= 5 && b.at[4] != 1) || (b.len >= 4 && (b.at[2] | b.at[3]) != 0)
		    ? DPI_NO
		    : DPI_MORE;
	if (dpi_be16(b.at) < 34 || dpi_be16(b.at + 2) != 0 || b.at[4] != 1 ||
	    dpi_be16(b.at + 6) != 0 || dpi_be16(b.at + 8) < 0x0100 || dpi_be16(b.at + 8) > 0x0200 ||
	    dpi_be16(b.at + 10) > dpi_be16(b.at + 8))
		return DPI_NO;
	if (b.len < 28)
		return DPI_MORE;
	/* The connect data lie where the header says, within or right after the packet. */
	return dpi_be16(b.at + 26) >= 26 && dpi_be16(b.at + 26) <= 128 ? DPI_MATCH : DPI_NO;
}

/* DRDA volume 3: DDM length, 0xd0, format; EXCSAT opens (0x1041). */
static enum dpi_match
parse_db2(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 10)
		return b.len > 2 && b.at[2] != 0xd0 ? DPI_NO : DPI_MORE;
	return b.at[2] == 0xd0 && (b.at[3] & 0x0f) <= 5 &&
	        dpi_be16(b.at + 6) == dpi_be16(b.at) - 6 &&
	        (b.at[8] == 0x10 || b.at[8] == 0x20 || b.at[8] == 0x24 || b.at[8] == 0x22 ||
	            b.at[8] == 0x14 || b.at[8] == 0x12)
	    ? DPI_MATCH
	    : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_MYSQL, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_mysql, describe_mysql },
	{ DPI_APP_POSTGRESQL, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_postgresql, NULL },
	{ DPI_APP_MSSQL, DPI_TCP, { DPI_FIRST("\x01\x12"), DPI_FIRST("\x04\x04\x12\x12") },
	    parse_mssql, NULL },
	{ DPI_APP_ORACLE, DPI_TCP, { DPI_FIRST("\x00\x08"), DPI_ANY }, parse_oracle, NULL },
	{ DPI_APP_DB2, DPI_TCP, { DPI_FIRST("\x00\x0f"), DPI_ANY }, parse_db2, NULL },
};
DPI_FAMILY_OF(sql, table);
