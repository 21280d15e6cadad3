/* Remote calls: Dubbo, bRPC, SOFARPC, Tars, Thrift, CORBA, Java RMI, AJP, FastCGI, JSON-RPC, Gearman. */
#include "dpi/proto.h"

/* Dubbo: magic 0xdabb, flags, status, id of 8 bytes, length. */
static enum dpi_match
dubbo_side(struct dpi_bytes b, bool request)
{
	if (b.len < 16)
		return DPI_FRONT(b, "\xda\xbb");
	/* A request has no status, an answer one of a dozen that are multiples of five. */
	return b.at[0] == 0xda && b.at[1] == 0xbb && ((b.at[2] & 0x80) != 0) == request &&
	        (request ? b.at[3] == 0 : b.at[3] >= 20 && b.at[3] <= 100 && b.at[3] % 5 == 0) &&
	        (b.at[2] & 0x1f) >= 2 && dpi_be32(b.at + 12) < 1 << 26
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_dubbo(struct dpi_view *v)
{
	enum dpi_match c = dubbo_side(v->side[0], true), s = dubbo_side(v->side[1], false);

	/* Either side may ask (heartbeats do). */
	if (v->side[0].len >= 16 && c == DPI_NO)
		c = dubbo_side(v->side[0], false);
	if (v->side[1].len >= 16 && s == DPI_NO)
		s = dubbo_side(v->side[1], true);
	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return v->side[0].len >= 16 || v->side[1].len >= 16 ? DPI_MATCH : DPI_MORE;
}

static enum dpi_match
parse_brpc(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len > 0 && DPI_FRONT(b, "PRPC") == DPI_NO)
			return DPI_NO;
		if (b.len >= 12)
			return dpi_be32(b.at + 8) <= dpi_be32(b.at + 4) &&
			        dpi_be32(b.at + 4) < 1 << 26
			    ? DPI_MATCH
			    : DPI_NO;
	}
	return DPI_MORE;
}

/* SOFA Bolt v1 and v2: protocol, [version], type, command, version, id, codec, lengths. */
static enum dpi_match
bolt_side(struct dpi_bytes b, bool request)
{
	uint32_t o, class_len, header_len, content_len, at;
	uint16_t command;

	if (b.len == 0)
		return DPI_MORE;
	if (b.at[0] != 1 && b.at[0] != 2)
		return DPI_NO;
	o = b.at[0] == 2 ? 1 : 0;
	if (b.len < 22 + o)
		return (b.len > 1 + o && b.at[1 + o] > 2) || (b.len > 3 + o && b.at[2 + o] != 0)
		    ? DPI_NO
		    : DPI_MORE;
	command = dpi_be16(b.at + 2 + o);
	if (b.at[1 + o] > 2 || command > 2 || (b.at[4 + o] != 1 && b.at[4 + o] != 2) ||
	    (request ? b.at[1 + o] == 0 : b.at[1 + o] != 0))
		return DPI_NO;
	if (b.at[9 + o] > 12)
		return DPI_NO;
	at = 10 + o + (o != 0 ? 1 : 0); /* v2 has a switch byte */
	at += request ? 4 : 2;          /* timeout, or status */
	if (b.len < at + 8)
		return DPI_MORE;
	class_len = dpi_be16(b.at + at);
	header_len = dpi_be16(b.at + at + 2);
	content_len = dpi_be32(b.at + at + 4);
	if (content_len > 1 << 26 ||
	    (command == 0 ? class_len + header_len + content_len != 0 : class_len == 0))
		return DPI_NO;
	if (command == 0)
		return DPI_LIKELY;
	at += 8;
	for (uint32_t i = 0; i < class_len && at + i < b.len; i++)
		if (!dpi_is_print(b.at[at + i]))
			return DPI_NO;
	return b.len >= at + PK_MIN(class_len, 8u) ? DPI_MATCH : DPI_MORE;
}

static enum dpi_match
parse_sofarpc(struct dpi_view *v)
{
	enum dpi_match c = bolt_side(v->side[0], true), s = bolt_side(v->side[1], false);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	if (c == DPI_LIKELY && s == DPI_LIKELY)
		return DPI_MATCH;
	return PK_MAX(c, s);
}

/* Tars: length, then JCE: field 1 (version) 1..3, field 2, field 3, field 4 (request id), field 5 (servant). */
static enum dpi_match
parse_tars(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t len;

	if (b.len < 7)
		return b.len > 4 && b.at[4] != 0x10 ? DPI_NO : DPI_MORE;
	len = dpi_be32(b.at);
	/* byte field 1 = 1, 2, 3 or 5; then packet type: byte or zero of field 2 */
	if (len < 16 || len > 10 << 20 || b.at[4] != 0x10 || b.at[5] == 0 || b.at[5] > 5 ||
	    (b.at[6] != 0x2c && b.at[6] != 0x20))
		return DPI_NO;
	if (b.len < 24)
		return DPI_MORE;
	/* Field 5 as a short string, "App.Server.Obj". */
	for (uint32_t i = 7; i + 8 < PK_MIN(b.len, 20u); i++)
		if (b.at[i] == 0x56 && b.at[i + 1] >= 3 && dpi_is_alpha(b.at[i + 2]) &&
		    dpi_is_print(b.at[i + 3]) && dpi_is_print(b.at[i + 4]))
			return DPI_MATCH;
	return DPI_NO;
}

/* Thrift binary: 0x8001, 0, type, name length, name; compact: 0x82; either after a frame length. */
static enum dpi_match
thrift(struct dpi_bytes b, bool framed)
{
	uint32_t n;

	if (b.len < 12)
		return b.len > 0 && b.at[0] != 0x80 && b.at[0] != 0x82 ? DPI_NO : DPI_MORE;
	if (b.at[0] == 0x80) {
		n = dpi_be32(b.at + 4);
		if (b.at[1] != 1 || b.at[2] != 0 || b.at[3] < 1 || b.at[3] > 4 || n == 0 || n > 256)
			return DPI_NO;
		if (b.len < 8 + n)
			return DPI_MORE;
		for (uint32_t i = 0; i < n; i++)
			if (!dpi_is_print(b.at[8 + i]))
				return DPI_NO;
		return DPI_MATCH;
	}
	if (!framed || b.at[0] != 0x82 || (b.at[1] & 0x1f) != 1 || b.at[1] >> 5 < 1 ||
	    b.at[1] >> 5 > 4)
		return DPI_NO;
	for (n = 2; n < 7 && (b.at[n] & 0x80) != 0; n++)
		;
	if (n == 7 || b.at[n + 1] == 0 || b.at[n + 1] > 127)
		return DPI_NO;
	for (uint32_t i = 0; i < b.at[n + 1] && n + 2 + i < b.len; i++)
		if (!dpi_is_print(b.at[n + 2 + i]))
			return DPI_NO;
	return b.len >= n + 2 + b.at[n + 1] ? DPI_MATCH : DPI_MORE;
}

static enum dpi_match
parse_thrift(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		enum dpi_match m = DPI_MORE;

		if (b.len == 0)
			continue;
		if (b.at[0] >= 0x80)
			m = thrift(b, false);
		else if (b.len >= 4)
			m = dpi_be32(b.at) >= 12 && dpi_be32(b.at) < 1 << 24
			    ? thrift((struct dpi_bytes){ b.at + 4, b.len - 4 }, true)
			    : DPI_NO;
		if (m == DPI_NO)
			return DPI_NO;
		best = PK_MAX(best, m);
	}
	return best;
}

/* CORBA 3, section 9.4: "GIOP", version 1.0 to 1.3, flags, type, size. */
static enum dpi_match
parse_corba(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len > 0 && DPI_FRONT(b, "GIOP") == DPI_NO)
			return DPI_NO;
		if (b.len >= 8)
			return b.at[4] == 1 && b.at[5] <= 3 && b.at[7] <= 7 ? DPI_MATCH : DPI_NO;
	}
	return DPI_MORE;
}

/* The multicast protocol of CORBA (OMG formal/2008-01, section 11): "MIOP" and its version. */
static enum dpi_match
parse_miop(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 16 && memcmp(b.at, "MIOP", 4) == 0 && b.at[4] == 0x10 ? DPI_MATCH : DPI_NO;
}

/* In datagrams, each a message: what sends traces and counters away. */
static enum dpi_match
parse_thrift_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	enum dpi_match m = b.len > 0 && b.at[0] >= 0x80 ? thrift(b, true) : DPI_NO;

	return m == DPI_MATCH ? DPI_MATCH : DPI_NO;
}

/* canonical/raft, docs: a handshake of three little-endian words, protocol 1, server id and length of the address, then
 * "host:port"; each message begins with a type and a size in words. */
static enum dpi_match
parse_raft(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	enum dpi_match m = DPI_FRONT(b, "\1\0\0\0\0\0\0\0");
	uint32_t len, colon = 0;

	if (m != DPI_MATCH || b.len < 24)
		return m == DPI_NO ? DPI_NO : DPI_MORE;
	len = dpi_le32(b.at + 16);
	if (dpi_le32(b.at + 20) != 0 || len < 4 || len > 256)
		return DPI_NO;
	for (uint32_t i = 0; i < len && 24 + i < b.len && b.at[24 + i] != 0; i++) {
		if (!dpi_is_print(b.at[24 + i]))
			return DPI_NO;
		colon += b.at[24 + i] == ':';
	}
	return b.len < 24 + len ? DPI_MORE : colon > 0 ? DPI_MATCH : DPI_LIKELY;
}

/* Java RMI: "JRMI", version 1 or 2, protocol 0x4b to 0x4d. */
static enum dpi_match
parse_rmi(struct dpi_view *v)
{
	enum dpi_match m = DPI_FRONT(v->side[0], "JRMI");

	if (m != DPI_MATCH || v->side[0].len < 7)
		return m == DPI_NO ? m : DPI_MORE;
	return dpi_be16(v->side[0].at + 4) <= 2 && v->side[0].at[6] >= 0x4b &&
	        v->side[0].at[6] <= 0x4d
	    ? DPI_MATCH
	    : DPI_NO;
}

/* AJP 1.3: 0x1234 to the container with FORWARD_REQUEST (2), PING (8), CPING (10); "AB" back. */
static enum dpi_match
parse_ajp(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];
	enum dpi_match m = DPI_FRONT(c, "\x12\x34"), r = DPI_FRONT(s, "AB");
	uint32_t len;

	if (m == DPI_NO || r == DPI_NO)
		return DPI_NO;
	if (c.len < 8)
		return c.len == 5 && c.at[4] == 10 && s.len >= 5
		    ? (s.at[4] == 9 ? DPI_MATCH : DPI_NO)
		    : DPI_MORE;
	len = dpi_be16(c.at + 2);
	if (len > 8192)
		return DPI_NO;
	if (c.at[4] == 2)
		return c.at[5] >= 1 && c.at[5] <= 28 && dpi_be16(c.at + 6) < 64 * 256 ? DPI_MATCH
		                                                                      : DPI_NO;
	return c.at[4] == 10 || c.at[4] == 8 || c.at[4] == 7 ? DPI_LIKELY : DPI_NO;
}

/* FastCGI 1.0: version 1, BEGIN_REQUEST (1), id, length 8, role 1 to 3. */
static enum dpi_match
parse_fastcgi(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 16)
		return (b.len > 1 && b.at[1] != 1 && b.at[1] != 9) || (b.len > 4 && b.at[4] != 0)
		    ? DPI_NO
		    : DPI_MORE;
	return b.at[0] == 1 && b.at[1] == 1 && dpi_be16(b.at + 4) == 8 && b.at[6] == 0 &&
	        dpi_be16(b.at + 8) >= 1 && dpi_be16(b.at + 8) <= 3 && (b.at[10] & ~1) == 0 &&
	        memcmp(b.at + 11, "\0\0\0\0\0", 5) == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

/* JSON-RPC 2.0 on a bare connection: an object with "jsonrpc" and one of "method", "result", "error". */
static enum dpi_match
parse_jsonrpc(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len == 0)
			continue;
		if (b.at[0] != '{' && b.at[0] != '[')
			return DPI_NO;
		if (dpi_find(b, "\"jsonrpc\"", 9) != NULL &&
		    (dpi_find(b, "\"method\"", 8) != NULL || dpi_find(b, "\"result\"", 8) != NULL ||
		        dpi_find(b, "\"error\"", 7) != NULL)) {
			/* Miners talk that way, too, with words of their own. */
			return dpi_find(b, "\"login\"", 7) != NULL ||
			        dpi_find(b, "mining.", 7) != NULL || dpi_find(b, "eth_", 4) != NULL
			    ? DPI_NO
			    : DPI_MATCH;
		}
		if (b.len > 2048)
			return DPI_NO;
	}
	return DPI_MORE;
}

/* Gearman: "\0REQ" and "\0RES", type 1 to 42, size. */
static enum dpi_match
parse_gearman(struct dpi_view *v)
{
	enum dpi_match c = DPI_FRONT(v->side[0], "\0REQ"), s = DPI_FRONT(v->side[1], "\0RES");
	const struct dpi_bytes *b = &v->side[v->side[0].len < 12];

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	if (b->len < 12)
		return DPI_MORE;
	return dpi_be32(b->at + 4) >= 1 && dpi_be32(b->at + 4) <= 42 ? DPI_MATCH : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_DUBBO, DPI_TCP, { DPI_FIRST("\xda\xda"), DPI_FIRST("\xda\xda") }, parse_dubbo,
	    NULL },
	{ DPI_APP_BRPC, DPI_TCP, { DPI_FIRST("PP"), DPI_FIRST("PP") }, parse_brpc, NULL },
	{ DPI_APP_SOFARPC, DPI_TCP, { DPI_FIRST("\1\2"), DPI_FIRST("\1\2") }, parse_sofarpc, NULL },
	{ DPI_APP_TARS, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_tars, NULL },
	{ DPI_APP_THRIFT, DPI_TCP, { DPI_FIRST("\0\0\x80\x82"), DPI_FIRST("\0\0\x80\x82") },
	    parse_thrift, NULL },
	{ DPI_APP_CORBA, DPI_TCP, { DPI_FIRST("GG"), DPI_FIRST("GG") }, parse_corba, NULL },
	{ DPI_APP_CORBA, DPI_UDP, { DPI_FIRST("MM"), DPI_ANY }, parse_miop, NULL },
	{ DPI_APP_THRIFT, DPI_UDP, { DPI_FIRST("\x80\x80\x82\x82"), DPI_ANY }, parse_thrift_udp,
	    NULL },
	{ DPI_APP_RAFT, DPI_TCP, { DPI_FIRST("\1\1"), DPI_ANY }, parse_raft, NULL },
	{ DPI_APP_JAVA_RMI, DPI_TCP, { DPI_FIRST("JJ"), DPI_FIRST("NO") }, parse_rmi, NULL },
	{ DPI_APP_AJP, DPI_TCP, { DPI_FIRST("\x12\x12"), DPI_FIRST("AA") }, parse_ajp, NULL },
	{ DPI_APP_FASTCGI, DPI_TCP, { DPI_FIRST("\1\1"), DPI_FIRST("\1\1") }, parse_fastcgi, NULL },
	{ DPI_APP_JSONRPC, DPI_TCP, { DPI_FIRST("{{[["), DPI_FIRST("{{[[") }, parse_jsonrpc, NULL },
	{ DPI_APP_GEARMAN, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_gearman, NULL },
};
DPI_FAMILY_OF(rpc, table);
