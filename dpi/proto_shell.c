/* Remote terminals and their kin: SSH, Telnet, rsh, Git, rsync, whois, syslog over TCP, TACACS+. */
#include "dpi/proto.h"

/* RFC 4253 section 4.2: "SSH-2.0-software", the server possibly after other lines. */
static enum dpi_match
parse_ssh(struct dpi_view *v)
{
	enum dpi_match m = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		enum dpi_match side = b.len > 0 ? DPI_FRONT(b, "SSH-") : DPI_MORE;

		if (side == DPI_NO)
			return DPI_NO;
		if (side == DPI_MATCH && b.len >= 8) {
			if (!dpi_is_digit(b.at[4]) || b.at[5] != '.' || !dpi_is_digit(b.at[6]))
				return DPI_NO;
			m = DPI_MATCH;
		}
	}
	return m;
}

static bool
describe_ssh(struct dpi_view *v)
{
	uint32_t next;
	struct dpi_bytes line = dpi_line(v->side[1], &next);

	if (line.len == UINT32_MAX)
		return v->end[1] || v->side[1].len > 255;
	dpi_say(v, DPI_FIELD_SOFTWARE, 1, line.at, line.len);
	return true;
}

/* RFC 854: IAC, WILL..DONT, option; repeated.  Two commands are no chance. */
static enum dpi_match
telnet_side(struct dpi_bytes b)
{
	uint32_t off = 0;
	int n = 0;

	while (b.len - off >= 3) {
		const uint8_t *p = b.at + off;

		if (p[0] != 0xff)
			break;
		if (p[1] >= 0xfb && p[1] <= 0xfe) {
			if (p[2] > 49 && p[2] < 138)
				return DPI_NO;
			off += 3;
		} else if (p[1] == 0xfa) {
			const uint8_t *end = memmem(p, b.len - off, "\xff\xf0", 2);

			if (end == NULL)
				break;
			off = (uint32_t)(end - b.at) + 2;
		} else if (p[1] >= 0xf0 && p[1] < 0xfa) {
			off += 2;
			continue;
		} else {
			return DPI_NO;
		}
		n++;
	}
	return n >= 2 ? DPI_MATCH : n == 1 ? DPI_LIKELY : DPI_MORE;
}

static enum dpi_match
parse_telnet(struct dpi_view *v)
{
	enum dpi_match m[2] = { DPI_MORE, DPI_MORE };

	for (int i = 0; i < 2; i++) {
		if (v->side[i].len > 0 && v->side[i].at[0] != 0xff)
			return DPI_NO;
		m[i] = telnet_side(v->side[i]);
	}
	if (m[0] == DPI_NO || m[1] == DPI_NO)
		return DPI_NO;
	if (m[0] == DPI_LIKELY && m[1] == DPI_LIKELY)
		return DPI_MATCH;
	return PK_MAX(m[0], m[1]);
}

/* BSD: "port\0user\0user\0command\0"; the server answers with a NUL. */
static enum dpi_match
parse_rsh(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];
	uint32_t i = 0, words = 0, start;

	while (i < b.len && dpi_is_digit(b.at[i]))
		i++;
	if (i > 5 || (i < b.len && b.at[i] != 0))
		return DPI_NO;
	for (start = ++i; i < b.len && words < 3; i++) {
		if (b.at[i] == 0) {
			if (i == start)
				return DPI_NO;
			words++;
			start = i + 1;
		} else if (!dpi_is_print(b.at[i]) || (words < 2 && i - start > 31)) {
			return DPI_NO;
		}
	}
	if (words < 3 || s.len == 0)
		return DPI_MORE;
	return s.at[0] == 0 && (s.len == 1 || s.at[1] != 0) && i == b.len ? DPI_MATCH : DPI_NO;
}

/* gitprotocol-pack(5): pkt-line of "git-upload-pack /path\0host=...". */
static enum dpi_match
parse_git(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	for (uint32_t i = 0; i < 4 && i < b.len; i++)
		if (!dpi_is_digit(b.at[i]) && !(b.at[i] >= 'a' && b.at[i] <= 'f'))
			return DPI_NO;
	if (b.len < 4)
		return DPI_MORE;
	return DPI_FRONT(((struct dpi_bytes){ b.at + 4, b.len - 4 }), "git-");
}

/* Both sides begin with "@RSYNCD: 31.0". */
static enum dpi_match
parse_rsync(struct dpi_view *v)
{
	enum dpi_match c = DPI_FRONT(v->side[0], "@RSYNCD: "),
	               s = DPI_FRONT(v->side[1], "@RSYNCD: ");

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

/* RFC 3912 has a query line and an answer in text.  Only answers that name themselves are believed. */
static enum dpi_match
parse_whois(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];
	uint32_t next;
	struct dpi_bytes line = dpi_line(b, &next);

	if (b.len > 512 || (line.len != UINT32_MAX && (next != b.len || !dpi_text(line))))
		return DPI_NO;
	if (b.len > 0 && !dpi_is_print(b.at[0]))
		return DPI_NO;
	if (line.len == UINT32_MAX || s.len < 16)
		return DPI_MORE;
	if (dpi_find(s, "WHOIS", 5) != NULL || dpi_find(s, "Whois", 5) != NULL ||
	    dpi_find(s, "whois", 5) != NULL || dpi_find(s, "Domain Name:", 12) != NULL ||
	    dpi_find(s, "inetnum:", 8) != NULL)
		return s.at[0] == '%' || s.at[0] == '\r' || s.at[0] == '\n' || dpi_is_print(s.at[0])
		    ? DPI_MATCH
		    : DPI_NO;
	return s.len > 4096 ? DPI_NO : DPI_MORE;
}

/* RFC 5424, RFC 3164: "<134>", then a version or a date; also with a count of bytes before (RFC 6587). */
static enum dpi_match
syslog(struct dpi_bytes b)
{
	uint32_t i = 0, pri = 0;
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	while (i < b.len && i < 6 && dpi_is_digit(b.at[i]))
		i++;
	if (i > 0) {
		if (i == b.len)
			return DPI_MORE;
		if (b.at[i++] != ' ')
			return DPI_NO;
	}
	if (i == b.len)
		return DPI_MORE;
	if (b.at[i++] != '<')
		return DPI_NO;
	for (uint32_t from = i; i < b.len && i - from < 3 && dpi_is_digit(b.at[i]); i++)
		pri = 10 * pri + b.at[i] - '0';
	if (i == b.len)
		return DPI_MORE;
	if (b.at[i - 1] == '<' || b.at[i++] != '>' || pri > 191)
		return DPI_NO;
	if (b.len - i < 8)
		return DPI_MORE;
	b.at += i;
	b.len -= i;
	if (b.at[0] == '1' && b.at[1] == ' ' && (dpi_is_digit(b.at[2]) || b.at[2] == '-'))
		return DPI_MATCH;
	for (int m = 0; m < 12; m++)
		if (memcmp(b.at, months + 3 * m, 3) == 0 && b.at[3] == ' ')
			return DPI_MATCH;
	/* Many leave the date out: "<13>program[pid]: text". */
	for (i = 0; i < b.len && i < 64; i++) {
		if (b.at[i] == ':' && i >= 2)
			return DPI_LIKELY;
		if (!dpi_is_print(b.at[i]))
			return DPI_NO;
	}
	return DPI_LIKELY;
}

static enum dpi_match
parse_syslog_tcp(struct dpi_view *v)
{
	return v->side[1].len > 0 ? DPI_NO : syslog(v->side[0]);
}

static enum dpi_match
parse_syslog(struct dpi_view *v)
{
	enum dpi_match m = syslog(v->side[0]);

	/* Two in a row that look like it are it. */
	if (m == DPI_LIKELY && v->nb_past > 0 && v->past[v->nb_past - 1].head[0] == '<')
		return DPI_MATCH;
	return m == DPI_MORE ? DPI_NO : m;
}

/* RFC 8907: version 12.0 or 12.1, type 1-3, sequence, flags, session, length. */
static enum dpi_match
parse_tacacs(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];

	if (b.len < 12)
		return b.len > 1 && (b.at[1] < 1 || b.at[1] > 3) ? DPI_NO : DPI_MORE;
	if ((b.at[0] != 0xc0 && b.at[0] != 0xc1) || b.at[1] < 1 || b.at[1] > 3 || b.at[2] != 1 ||
	    (b.at[3] & ~5) != 0 || dpi_be32(b.at + 8) > 4096 || dpi_be32(b.at + 8) < 8)
		return DPI_NO;
	if (s.len < 12)
		return DPI_LIKELY;
	return s.at[0] == b.at[0] && s.at[1] == b.at[1] && s.at[2] == 2 &&
	        memcmp(s.at + 4, b.at + 4, 4) == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_SSH, DPI_TCP, { DPI_FIRST("SS"), DPI_FIRST("SS") }, parse_ssh, describe_ssh },
	{ DPI_APP_TELNET, DPI_TCP, { DPI_ANY, DPI_FIRST("\xff\xff") }, parse_telnet, NULL },
	{ DPI_APP_GIT, DPI_TCP, { DPI_FIRST("00"), DPI_FIRST("0fEE") }, parse_git, NULL },
	{ DPI_APP_RSYNC, DPI_TCP, { DPI_FIRST("@@"), DPI_FIRST("@@") }, parse_rsync, NULL },
	{ DPI_APP_SYSLOG, DPI_TCP, { DPI_FIRST("<<09"), DPI_ANY }, parse_syslog_tcp, NULL },
	{ DPI_APP_SYSLOG, DPI_UDP, { DPI_FIRST("<<"), DPI_ANY }, parse_syslog, NULL },
	{ DPI_APP_TACACS, DPI_TCP, { DPI_FIRST("\xc0\xc1"), DPI_FIRST("\xc0\xc1") }, parse_tacacs,
	    NULL },
	{ DPI_APP_RSH, DPI_TCP,
	    { DPI_FIRST("\0\0"
	                "09"),
	        DPI_FIRST("\0\0") },
	    parse_rsh, NULL },
	{ DPI_APP_WHOIS, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_whois, NULL },
};
DPI_FAMILY_OF(shell, table);
