/* TLS over TCP (RFC 2246 to RFC 8446), with SSL 2 hellos (RFC 2246 appendix E), and DTLS (RFC 6347, 9147). */
#include "dpi/proto.h"

enum {
	RECORD_CCS = 20,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_DATA = 23,
	RECORD_HEARTBEAT = 24,
	RECORD_CID = 25,
	CLIENT_HELLO = 1,
	SERVER_HELLO = 2,
	HELLO_VERIFY = 3,
	CERTIFICATE = 11,
	HELLO_DONE = 14,
};
#define RECORD_MAX (16384 + 2048)

/* A record header of plausible type, version and length. */
static bool
record(const uint8_t *p)
{
	return p[0] >= RECORD_CCS && p[0] <= RECORD_HEARTBEAT && p[1] == 3 && p[2] <= 4 &&
	    dpi_be16(p + 3) <= RECORD_MAX && dpi_be16(p + 3) > 0;
}

/* Handshake messages of the records at the front of `b`, put together.  *at: in place when one record has all
 * that is there, else in `room`.  *over: a record of another type follows. */
static uint32_t
handshake(struct dpi_bytes b, uint8_t *room, const uint8_t **at, bool *over)
{
	uint32_t off = 0, n = 0;

	*over = false;
	*at = b.at;
	while (b.len - off >= 5) {
		uint32_t len = dpi_be16(b.at + off + 3), have;

		if (!record(b.at + off) || b.at[off] != RECORD_HANDSHAKE) {
			*over = true;
			break;
		}
		have = PK_MIN(len, b.len - off - 5);
		if (n + have > DPI_STREAM_MAX)
			break;
		if (n == 0)
			*at = b.at + off + 5;
		else if (*at != room)
			memcpy(room, *at, n), *at = room;
		if (*at == room)
			memcpy(room + n, b.at + off + 5, have);
		n += have;
		off += 5 + have;
		if (have < len)
			break;
	}
	return n;
}

static uint32_t
be24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | dpi_be16(p + 1);
}

/* The front of a ServerHello: version, session id, cipher, null compression. */
static enum dpi_match
server_hello(const uint8_t *p, uint32_t len)
{
	uint32_t sid;

	if (len < 39)
		return DPI_MORE;
	sid = p[38];
	if (p[4] != 3 || p[5] > 4 || sid > 32 || be24(p + 1) < 38 + sid)
		return DPI_NO;
	if (len < 42 + sid)
		return DPI_MORE;
	return p[41 + sid] <= 1 ? DPI_MATCH : DPI_NO;
}

/* Records end to end: two headers in the right places are more than chance. */
static enum dpi_match
chain(struct dpi_bytes b)
{
	uint32_t off = 0;
	int n = 0;

	while (b.len - off >= 5) {
		if (!record(b.at + off) || b.at[off + 2] == 0)
			return DPI_NO;
		n++;
		off += 5U + dpi_be16(b.at + off + 3);
		if (off >= b.len)
			break;
	}
	if (n == 0)
		return DPI_MORE;
	return n >= 3 || (n == 2 && off <= b.len) ? DPI_MATCH : DPI_LIKELY;
}

/* SSL 2 framing: length with the top bit set, CLIENT-HELLO, version, three lengths that add up. */
static enum dpi_match
ssl2_hello(struct dpi_bytes b)
{
	uint32_t len, ciphers, sid, challenge;

	if (b.len < 11)
		return (b.len >= 3 && b.at[2] != 1) || (b.len >= 4 && b.at[3] != 3 && b.at[3] != 0)
		    ? DPI_NO
		    : DPI_MORE;
	len = dpi_be16(b.at) & 0x7fff;
	ciphers = dpi_be16(b.at + 5);
	sid = dpi_be16(b.at + 7);
	challenge = dpi_be16(b.at + 9);
	if (b.at[2] != 1 || (b.at[3] != 3 && dpi_be16(b.at + 3) != 2) || ciphers % 3 != 0 ||
	    ciphers == 0 || (sid != 0 && sid != 16) || challenge < 16 || challenge > 32 ||
	    len != 9 + ciphers + sid + challenge)
		return DPI_NO;
	return DPI_MATCH;
}

static enum dpi_match
parse_side(struct dpi_view *v, int i)
{
	struct dpi_bytes b = v->side[i];
	const uint8_t *hs;
	enum dpi_match m;
	uint32_t n;
	bool over;

	if (b.len == 0)
		return DPI_MORE;
	if ((b.at[0] & 0x80) != 0)
		return i == 0 ? ssl2_hello(b) : DPI_NO;
	if (b.len < 5)
		return (b.len > 1 && b.at[1] != 3) || (b.len > 2 && b.at[2] > 4) ? DPI_NO
		                                                                 : DPI_MORE;
	if (!record(b.at))
		return DPI_NO;
	if (b.at[0] == RECORD_ALERT && dpi_be16(b.at + 3) == 2 && b.len >= 7)
		return (b.at[5] == 1 || b.at[5] == 2) && b.at[6] < 122 ? DPI_LIKELY : chain(b);
	if (b.at[0] != RECORD_HANDSHAKE)
		return v->midstream ? chain(b) : DPI_NO;
	n = handshake(b, dpi_room(v), &hs, &over);
	if (n < 6)
		return n > 0 && hs[0] > 24 && !v->midstream ? DPI_NO : DPI_MORE;
	if (hs[0] == CLIENT_HELLO && be24(hs + 1) >= 40 && hs[4] == 3) {
		uint32_t len = be24(hs + 1);

		if (n >= 4 + len)
			return dpi_client_hello(NULL, 0, hs + 4, len, 't') ? DPI_MATCH : DPI_NO;
		if (over || len > 65536)
			return DPI_NO;
		if (n >= 43 && (hs[38] > 32 || (hs[5] > 4)))
			return DPI_NO;
		/* It does not end within the budget: what there is has to do. */
		return v->end[i] && n >= 512 ? DPI_MATCH : n >= 43 ? DPI_LIKELY : DPI_MORE;
	}
	if (hs[0] == SERVER_HELLO && (m = server_hello(hs, n)) != DPI_NO)
		return m;
	return v->midstream ? chain(b) : DPI_NO;
}

static enum dpi_match
parse_tls(struct dpi_view *v)
{
	enum dpi_match c = parse_side(v, 0), s;

	if (c == DPI_NO || c == DPI_MATCH)
		return c;
	s = parse_side(v, 1);
	if (s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

static void
say_version(struct dpi_view *v, const uint8_t *hs, uint32_t len)
{
	static const char *const names[] = { "SSL 3.0", "1.0", "1.1", "1.2", "1.3" };
	struct pk_wire w = pk_wire_from(hs + 4, len - 4);
	uint16_t version = pk_wire_be16(&w);

	pk_wire_skip(&w, 32);
	pk_wire_skip(&w, pk_wire_u8(&w));
	pk_wire_skip(&w, 3 + 2);
	while (pk_wire_left(&w) >= 4 && pk_wire_ok(&w)) {
		uint16_t type = pk_wire_be16(&w), n = pk_wire_be16(&w);
		const uint8_t *body = pk_wire_bytes(&w, n);

		if (body != NULL && type == 43 && n == 2)
			version = dpi_be16(body);
	}
	if (version >> 8 == 3 && (version & 0xff) <= 4) {
		const char *name = names[version & 0xff];

		dpi_say(v, DPI_FIELD_TLS_VERSION, -1, name, strlen(name));
	}
}

/* The server's flight, up to the certificate; in TLS 1.3 that is encrypted already. */
static bool
describe_tls(struct dpi_view *v)
{
	const uint8_t *hs;
	uint32_t n, off = 0;
	bool over;

	if (!dpi_said(v, DPI_FIELD_JA3)) {
		n = handshake(v->side[0], dpi_room(v), &hs, &over);
		/* Fields that lie in one record keep their place in the stream. */
		if (n >= 4 && hs[0] == CLIENT_HELLO && n >= 4 + be24(hs + 1))
			(void)dpi_client_hello(
			    v, hs == dpi_room(v) ? -1 : 0, hs + 4, be24(hs + 1), 't');
	}
	if (v->side[1].len == 0)
		return v->end[1];
	n = handshake(v->side[1], dpi_room(v), &hs, &over);
	while (n - off >= 4) {
		uint32_t len = be24(hs + off + 1);

		if (n - off < 4 + len)
			return over || v->end[1];
		if (hs[off] == SERVER_HELLO)
			say_version(v, hs + off, 4 + len);
		if (hs[off] == CERTIFICATE) {
			dpi_certificate(v, hs == dpi_room(v) ? -1 : 1, hs + off + 4, len);
			return true;
		}
		if (hs[off] == HELLO_DONE)
			return true;
		off += 4 + len;
	}
	return over || v->end[1];
}

/* ---- DTLS ---- */

static enum dpi_match
parse_dtls(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 0;
	int n = 0;

	if (dpi_is_stun(b))
		return DPI_MORE;
	while (b.len - off >= 13) {
		const uint8_t *p = b.at + off;
		uint32_t len = dpi_be16(p + 11);
		uint16_t version = dpi_be16(p + 1);

		if (p[0] < RECORD_CCS || p[0] > RECORD_CID ||
		    (version != 0xfeff && version != 0xfefd && version != 0x0100) || len == 0 ||
		    len > RECORD_MAX || b.len - off - 13 < len)
			return DPI_NO;
		if (p[0] == RECORD_HANDSHAKE && dpi_be16(p + 3) == 0 && len >= 12) {
			uint32_t whole = be24(p + 14), from = be24(p + 19), part = be24(p + 22);

			if (from + part > whole || part > len - 12)
				return DPI_NO;
		}
		off += 13 + len;
		n++;
	}
	if (n == 0 || off != b.len)
		return DPI_NO;
	return DPI_MATCH;
}

static bool
describe_dtls(struct dpi_view *v)
{
	const uint8_t *p = v->side[0].at;

	if (v->side[0].len >= 25 && p[0] == RECORD_HANDSHAKE && p[13] == CLIENT_HELLO &&
	    dpi_be16(p + 3) == 0) {
		uint32_t len = be24(p + 22);

		if (len == be24(p + 14) && len <= v->side[0].len - 25)
			(void)dpi_client_hello(v, 0, p + 25, len, 'd');
	}
	return true;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_TLS, DPI_TCP, { DPI_FIRST("\x14\x18\x80\xff"), DPI_FIRST("\x14\x18") }, parse_tls,
	    describe_tls },
	{ DPI_APP_DTLS, DPI_UDP, { DPI_FIRST("\x00\x03\x14\x19"), DPI_ANY }, parse_dtls,
	    describe_dtls },
};
DPI_FAMILY_OF(tls, table);
