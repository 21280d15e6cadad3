/* Calls and media: SIP, RTSP, STUN, RTP and RTCP, MGCP, H.323, Skinny, IAX, RTMP, MPEG-TS. */
#include "dpi/proto.h"

#define STUN_CHECKS 6 /* datagrams to wait for what they prepare */

/* A start line of SIP (RFC 3261 section 7) or RTSP (RFC 7826 section 20.2.2). */
static enum dpi_match
start_line(struct dpi_bytes b, const char *version, const char *const *verbs, size_t nb)
{
	size_t n = strlen(version);
	uint32_t next;
	struct dpi_bytes line;
	bool can = dpi_front(b, version, n) != DPI_NO;

	for (size_t i = 0; i < nb; i++)
		can |= dpi_front(b, verbs[i], strlen(verbs[i])) != DPI_NO;
	if (!can)
		return DPI_NO;
	line = dpi_line(b, &next);
	if (line.len == UINT32_MAX)
		return b.len > 2048 ? DPI_NO : DPI_MORE;
	if (dpi_front(line, version, n) == DPI_MATCH)
		return line.len > n + 4 && dpi_is_digit(line.at[n + 4]) ? DPI_MATCH : DPI_NO;
	return line.len > n + 1 && memcmp(line.at + line.len - n - 1, version, n) == 0 ? DPI_MATCH
	                                                                               : DPI_NO;
}

static const char *const sip_verbs[] = { "INVITE ", "ACK ", "BYE ", "CANCEL ", "OPTIONS ",
	"REGISTER ", "PRACK ", "SUBSCRIBE ", "NOTIFY ", "PUBLISH ", "INFO ", "REFER ", "MESSAGE ",
	"UPDATE " };
static const char *const rtsp_verbs[] = { "OPTIONS ", "DESCRIBE ", "ANNOUNCE ", "SETUP ", "PLAY ",
	"PAUSE ", "TEARDOWN ", "GET_PARAMETER ", "SET_PARAMETER ", "RECORD ", "REDIRECT " };

static enum dpi_match
both_sides(struct dpi_view *v, const char *version, const char *const *verbs, size_t nb)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		enum dpi_match m = v->side[i].len > 0 ? start_line(v->side[i], version, verbs, nb)
		                                      : DPI_MORE;

		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

static enum dpi_match
parse_sip_tcp(struct dpi_view *v)
{
	return both_sides(v, "SIP/2.", sip_verbs, PK_COUNT(sip_verbs));
}

static enum dpi_match
parse_rtsp(struct dpi_view *v)
{
	enum dpi_match one = both_sides(v, "RTSP/1.", rtsp_verbs, PK_COUNT(rtsp_verbs));
	enum dpi_match two = both_sides(v, "RTSP/2.", rtsp_verbs, PK_COUNT(rtsp_verbs));

	return PK_MAX(one, two);
}

static enum dpi_match
parse_sip(struct dpi_view *v)
{
	/* Keep-alives of blanks and zeroes come between (RFC 5626 section 4.4.1). */
	if (v->side[0].len <= 4)
		return v->side[0].at[0] == '\r' || v->side[0].at[0] == 0 ? DPI_MORE : DPI_NO;
	return start_line(v->side[0], "SIP/2.", sip_verbs, PK_COUNT(sip_verbs)) == DPI_MATCH
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 8489 section 5: two zero bits, method and class, a length in words, the cookie; RFC 3489 had none. */
static enum dpi_match
stun_message(struct dpi_bytes b, bool stream)
{
	uint32_t len, off = 20;
	bool cookie;

	if (b.len < 20)
		return stream ? DPI_MORE : DPI_NO;
	len = dpi_be16(b.at + 2);
	cookie = dpi_be32(b.at + 4) == 0x2112a442;
	if ((b.at[0] & 0xc0) != 0 || len % 4 != 0 || (!stream && 20 + len > b.len))
		return DPI_NO;
	if (cookie)
		return stream || 20 + len == b.len ? DPI_MATCH : DPI_LIKELY;
	if (stream || 20 + len != b.len || (b.at[0] & 0xfe) != 0 || (b.at[1] & 0x0f) == 0 ||
	    b.at[1] > 0x1f)
		return DPI_NO;
	/* Classic: attributes, of known types or of a vendor, fill it exactly. */
	while (off < b.len) {
		uint32_t type, n;

		if (b.len - off < 4)
			return DPI_NO;
		type = dpi_be16(b.at + off);
		n = dpi_be16(b.at + off + 2);
		if (!((type >= 1 && type < 0x400) || (type >= 0x8000 && type <= 0x8080)))
			return DPI_NO;
		off += 4 + ((n + 3) & ~3u);
	}
	return off != b.len ? DPI_NO
	    : len == 0      ? (b.at[1] == 1 && b.at[0] == 0 ? DPI_LIKELY : DPI_NO)
	                    : DPI_MATCH;
}

bool
dpi_is_stun(struct dpi_bytes b)
{
	return stun_message(b, false) == DPI_MATCH;
}

static enum dpi_match
parse_stun(struct dpi_view *v)
{
	enum dpi_match m = stun_message(v->side[0], false);

	/* Without the cookie, two of a transaction. */
	if (m == DPI_MATCH && dpi_be32(v->side[0].at + 4) != 0x2112a442) {
		m = DPI_LIKELY;
		for (unsigned int i = 0; i < v->nb_past; i++)
			if (v->past[i].kept >= 20 &&
			    memcmp(v->past[i].head + 4, v->side[0].at + 4, 16) == 0)
				return DPI_MATCH;
	}
	/* ICE and DTLS-SRTP begin with checks, and then the session is what comes after them (RFC 7983). */
	if (m == DPI_NO)
		return v->nb_past > 0 && v->f->likely == DPI_APP_STUN ? DPI_LIKELY : DPI_NO;
	return v->nb_past >= STUN_CHECKS ? m : DPI_LIKELY;
}

static enum dpi_match
parse_stun_tcp(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		enum dpi_match m;

		/* RFC 4571 puts a length before each message. */
		if (b.len >= 10 && dpi_be32(b.at + 6) == 0x2112a442 && dpi_be16(b.at) >= 20) {
			b.at += 2;
			b.len -= 2;
		}
		m = b.len > 0 ? stun_message(b, true) : DPI_MORE;
		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

/* One came before, of the same source or from the other side. */
static bool
rtcp_before(const struct dpi_view *v)
{
	for (unsigned int i = 0; i < v->nb_past; i++) {
		const struct dpi_past *p = &v->past[i];

		if (p->kept >= 8 && (p->head[0] & 0xc0) == 0x80 && p->head[1] >= 200 &&
		    p->head[1] <= 207 &&
		    (p->dir != v->dir || memcmp(p->head + 4, v->side[0].at + 4, 4) == 0))
			return true;
	}
	return false;
}

/* RFC 3550 section 6: version 2, type 200 to 207, lengths that fill the datagram. */
static enum dpi_match
parse_rtcp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 0;
	int n = 0;

	while (b.len - off >= 8) {
		const uint8_t *p = b.at + off;

		if ((p[0] & 0xc0) != 0x80 || p[1] < 200 || p[1] > 207)
			break;
		if (p[1] == 200 && dpi_be16(p + 2) < 6 + 6u * (p[0] & 31))
			return DPI_NO;
		off += 4 + 4u * dpi_be16(p + 2);
		n++;
		if (off > b.len)
			return DPI_NO;
	}
	if (n == 0)
		return DPI_NO;
	/* Exactly filled, by a compound as the RFC wants it; SRTCP has 14 bytes more, encrypted. */
	if (off == b.len)
		return n >= 2 || b.at[1] == 200 ? DPI_MATCH
		    : rtcp_before(v)            ? DPI_MATCH
		                                : DPI_LIKELY;
	return n >= 1 && b.len - off <= 24 && b.at[1] <= 201 ? DPI_LIKELY : DPI_MORE;
}

/* RFC 3550 section 5.1: nothing fixed but the version, so the numbers have to run on: three of a source. */
static enum dpi_match
parse_rtp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	unsigned int run = 1;
	uint16_t seq;
	uint32_t ssrc;
	uint8_t type;

	if (b.len < 12 || (b.at[0] & 0xc0) != 0x80)
		return dpi_is_stun(b) ? DPI_MORE : DPI_NO;
	type = b.at[1] & 0x7f;
	if (type >= 72 && type <= 79) /* RTCP's, section 12.1 */
		return DPI_MORE;
	/* RFC 3551: static types up to 34, dynamic ones from 96. */
	if (type > 34 && type < 96)
		return DPI_NO;
	if (b.len < 12 + 4u * (b.at[0] & 15) + 1)
		return DPI_NO;
	seq = dpi_be16(b.at + 2);
	ssrc = dpi_be32(b.at + 8);
	if (ssrc == 0)
		return DPI_NO;
	for (int i = v->nb_past - 1; i >= 0; i--) {
		const struct dpi_past *p = &v->past[i];
		uint16_t back;

		if (p->dir != v->dir || p->kept < 12 || (p->head[0] & 0xc0) != 0x80 ||
		    dpi_be32(p->head + 8) != ssrc)
			continue;
		back = (uint16_t)(seq - dpi_be16(p->head + 2));
		if (back == 0 || back > 16)
			continue;
		seq = dpi_be16(p->head + 2);
		run++;
	}
	return run >= 3 ? DPI_MATCH : DPI_MORE;
}

/* RFC 3435: "AUEP 1000 endpoint@host MGCP 1.0". */
static enum dpi_match
parse_mgcp(struct dpi_view *v)
{
	static const char *const verbs[] = { "AUEP ", "AUCX ", "CRCX ", "MDCX ", "DLCX ", "RQNT ",
		"NTFY ", "RSIP ", "EPCF " };
	uint32_t next;
	struct dpi_bytes line = dpi_line(v->side[0], &next);

	if (line.len == UINT32_MAX)
		return DPI_NO;
	for (size_t i = 0; i < PK_COUNT(verbs); i++)
		if (dpi_front(line, verbs[i], 5) == DPI_MATCH &&
		    dpi_find(line, " MGCP ", 6) != NULL)
			return DPI_MATCH;
	return DPI_NO;
}

/* H.248.1 annex B: "MEGACO/1 [192.0.2.1]:2944", or "!/1" for short, then what is said. */
static enum dpi_match
parse_megaco(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	bool plain = DPI_FRONT(b, "MEGACO/") == DPI_MATCH, brief = DPI_FRONT(b, "!/") == DPI_MATCH;
	uint32_t at = plain ? 7 : 2;

	if ((!plain && !brief) || b.len < at + 6 || !dpi_is_digit(b.at[at]) || b.at[at + 1] != ' ')
		return DPI_NO;
	if (plain)
		return DPI_MATCH;
	b = (struct dpi_bytes){ b.at, PK_MIN(b.len, 128u) };
	return (b.at[at + 2] == '[' || b.at[at + 2] == '<') &&
	        (dpi_find(b, "T=", 2) != NULL || dpi_find(b, "P=", 2) != NULL ||
	            dpi_find(b, "ER=", 3) != NULL)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* H.225 over TPKT: Q.931 discriminator 8, call reference of 2 bytes, a message type. */
static enum dpi_match
parse_h323(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len < 9];

	if (b.len < 9)
		return DPI_MORE;
	return b.at[0] == 3 && b.at[1] == 0 && dpi_be16(b.at + 2) >= 9 && b.at[4] == 8 &&
	        b.at[5] == 2 &&
	        (b.at[8] == 0x05 || b.at[8] == 0x02 || b.at[8] == 0x01 || b.at[8] == 0x07 ||
	            b.at[8] == 0x5a || b.at[8] == 0x62)
	    ? DPI_MATCH
	    : DPI_NO;
}

/* Skinny: little-endian length, version 0 or a small one, message id. */
static enum dpi_match
parse_skinny(struct dpi_view *v)
{
	int seen = 0;
	bool some = false;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		uint32_t len, id;

		if (b.len == 0)
			continue;
		if (b.len < 12)
			return b.len >= 8 && dpi_le32(b.at + 4) > 22 ? DPI_NO : DPI_MORE;
		len = dpi_le32(b.at);
		id = dpi_le32(b.at + 8);
		if (len < 4 || len > 2000 || dpi_le32(b.at + 4) > 22 || id > 0x160 ||
		    (id > 0x4f && id < 0x81))
			return DPI_NO;
		/* The next message begins where this one ends. */
		if (b.len >= 8 + len + 12) {
			const uint8_t *p = b.at + 8 + len;

			if (dpi_le32(p) < 4 || dpi_le32(p) > 2000 || dpi_le32(p + 4) > 22 ||
			    dpi_le32(p + 8) > 0x160)
				return DPI_NO;
			seen++;
		}
		seen += b.len >= 8 + len;
		some |= id != 0; /* keep-alives alone say little */
	}
	return seen >= 2 && some ? DPI_MATCH : DPI_MORE;
}

/* RFC 5456: a full frame with type 6 (IAX) and NEW, at sequence 0. */
static enum dpi_match
parse_iax(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 12;

	if (b.len < 14 || (b.at[0] & 0x80) == 0 || b.at[10] != 6 || b.at[11] == 0 ||
	    b.at[11] > 40 || b.at[8] > 4 || b.at[9] > 4)
		return DPI_NO;
	while (off + 2 <= b.len)
		off += 2 + b.at[off + 1];
	return off == b.len && b.at[12] >= 1 && b.at[12] <= 0x39 ? DPI_MATCH : DPI_NO;
}

/* RTMP 1.0: version 3, time, four zeroes, random to 1537 bytes; the server answers with version 3. */
static enum dpi_match
parse_rtmp(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];

	if (c.len < 9)
		return c.len > 0 && c.at[0] != 3 ? DPI_NO : DPI_MORE;
	if (c.at[0] != 3 ||
	    (dpi_be32(c.at + 5) != 0 &&
	        !(c.at[5] == 0x80 || c.at[5] == 0x09 || c.at[5] == 0x0a || c.at[5] == 0x0c ||
	            c.at[5] == 0x0d)))
		return DPI_NO;
	if (c.len > 1537)
		return s.len > 0 && s.at[0] == 3 ? DPI_LIKELY : DPI_MORE;
	return c.len == 1537 && s.len >= 1537 && s.at[0] == 3 ? DPI_MATCH : DPI_MORE;
}

/* ISO 13818-1: packets of 188 bytes beginning with 0x47. */
static enum dpi_match
parse_mpegts(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len % 188 != 0 || b.len < 376)
		return DPI_NO;
	for (uint32_t off = 0; off < b.len; off += 188)
		if (b.at[off] != 0x47)
			return DPI_NO;
	return b.len >= 4 * 188 ||
	        (v->nb_past > 0 && v->past[v->nb_past - 1].head[0] == 0x47 &&
	            v->past[v->nb_past - 1].len % 188 == 0)
	    ? DPI_MATCH
	    : DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_SIP, DPI_TCP, { DPI_FIRST("AZ"), DPI_FIRST("AZ") }, parse_sip_tcp, NULL },
	{ DPI_APP_SIP, DPI_UDP, { DPI_FIRST("AZ\r\r\0\0"), DPI_ANY }, parse_sip, NULL },
	{ DPI_APP_RTSP, DPI_TCP, { DPI_FIRST("AZ"), DPI_FIRST("AZ") }, parse_rtsp, NULL },
	{ DPI_APP_STUN, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_stun, NULL },
	{ DPI_APP_STUN, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_stun_tcp, NULL },
	{ DPI_APP_RTCP, DPI_UDP, { DPI_FIRST("\x80\xbf"), DPI_ANY }, parse_rtcp, NULL },
	{ DPI_APP_RTP, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_rtp, NULL },
	{ DPI_APP_MGCP, DPI_UDP, { DPI_FIRST("AR"), DPI_ANY }, parse_mgcp, NULL },
	{ DPI_APP_MEGACO, DPI_UDP, { DPI_FIRST("!!MM"), DPI_ANY }, parse_megaco, NULL },
	{ DPI_APP_H323, DPI_TCP, { DPI_FIRST("\3\3"), DPI_FIRST("\3\3") }, parse_h323, NULL },
	{ DPI_APP_SKINNY, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_skinny, NULL },
	{ DPI_APP_IAX, DPI_UDP, { DPI_FIRST("\x80\xff"), DPI_ANY }, parse_iax, NULL },
	{ DPI_APP_RTMP, DPI_TCP, { DPI_FIRST("\3\3"), DPI_FIRST("\3\3") }, parse_rtmp, NULL },
	{ DPI_APP_MPEGTS, DPI_UDP, { DPI_FIRST("GG"), DPI_ANY }, parse_mpegts, NULL },
};
DPI_FAMILY_OF(voice, table);
