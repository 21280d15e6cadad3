/* Protocols of lines and replies: SMTP, POP3, IMAP, NNTP, FTP, IRC, XMPP. */
#include "dpi/proto.h"

/* A reply of three digits at the front (RFC 5321 section 4.2): its code, 0 when there is none, -1 when
 * that cannot be said yet. */
static int
reply(struct dpi_bytes b)
{
	for (uint32_t i = 0; i < 3 && i < b.len; i++)
		if (!dpi_is_digit(b.at[i]))
			return 0;
	if (b.len < 4)
		return -1;
	if (b.at[3] != ' ' && b.at[3] != '-' && b.at[3] != '\r' && b.at[3] != '\n')
		return 0;
	return (b.at[0] - '0') * 100 + (b.at[1] - '0') * 10 + b.at[2] - '0';
}

static bool
word_of(struct dpi_bytes b, const char *const *words, size_t nb)
{
	for (size_t i = 0; i < nb; i++) {
		size_t n = strlen(words[i]);

		if (dpi_front_nocase(b, words[i], n) == DPI_MATCH && b.len > n &&
		    (b.at[n] == ' ' || b.at[n] == '\r' || b.at[n] == '\n'))
			return true;
	}
	return false;
}

/* Whether the bytes can still become a line of text. */
static bool
text_front(struct dpi_bytes b)
{
	for (uint32_t i = 0; i < b.len && i < 64; i++) {
		if (b.at[i] == '\n')
			return true;
		if (b.at[i] < 0x20 && b.at[i] != '\r' && b.at[i] != '\t')
			return false;
	}
	return true;
}

static bool
describe_banner(struct dpi_view *v)
{
	uint32_t next;
	struct dpi_bytes line = dpi_line(v->side[1], &next);

	if (line.len == UINT32_MAX)
		return v->end[1] || v->side[1].len > 512;
	dpi_say(v, DPI_FIELD_SOFTWARE, 1, line.at, line.len);
	return true;
}

static bool
has_nocase(struct dpi_bytes b, const char *upper)
{
	size_t n = strlen(upper);

	for (uint32_t i = 0; i + n <= b.len; i++)
		if (dpi_equal_nocase(b.at + i, upper, n))
			return true;
	return false;
}

/* The server speaks first, "220 ..."; EHLO, HELO or MAIL from the client tells it from FTP's 220. */
static enum dpi_match
parse_smtp(struct dpi_view *v)
{
	static const char *const hello[] = { "EHLO", "HELO", "LHLO" },
	                         *const verbs[] = { "MAIL", "RCPT", "AUTH", "STARTTLS" };
	struct dpi_bytes c = v->side[0], s = v->side[1], line;
	int code = reply(s);
	uint32_t next;

	if (code == 0 && s.len > 0)
		return DPI_NO;
	if (!text_front(c) ||
	    (s.len >= 4 && code / 100 != 2 && code / 100 != 5 && code != 421 && code != 354))
		return DPI_NO;
	if (word_of(c, hello, PK_COUNT(hello)))
		return code > 0 || dpi_find(c, "\n", 1) != NULL ? DPI_MATCH : DPI_MORE;
	if (code > 0 && word_of(c, verbs, PK_COUNT(verbs)))
		return DPI_MATCH;
	line = dpi_line(s, &next);
	if (code == 220 && line.len != UINT32_MAX &&
	    (has_nocase(line, "ESMTP") || has_nocase(line, " SMTP")))
		return DPI_MATCH;
	if (code == 554 && line.len != UINT32_MAX && has_nocase(line, "SMTP"))
		return DPI_LIKELY;
	return c.len > 0 && dpi_find(c, "\n", 1) != NULL ? DPI_NO : DPI_MORE;
}

static enum dpi_match
parse_ftp(struct dpi_view *v)
{
	static const char *const verbs[] = { "USER", "PASS", "AUTH", "FEAT", "SYST", "OPTS", "PASV",
		"EPSV", "PORT", "EPRT", "TYPE", "CWD", "PWD", "LIST", "RETR", "STOR", "NLST",
		"MDTM", "SIZE", "PBSZ", "PROT", "HOST", "CLNT", "ACCT", "REST", "NOOP", "MLSD" };
	struct dpi_bytes c = v->side[0], s = v->side[1], line;
	int code = reply(s);
	uint32_t next;

	if ((code == 0 && s.len > 0) || !text_front(c))
		return DPI_NO;
	if (code > 0 && (code < 110 || code > 553))
		return DPI_NO;
	line = dpi_line(s, &next);
	if (code > 0 && c.len > 4 && word_of(c, verbs, PK_COUNT(verbs)) &&
	    dpi_find(c, "\n", 1) != NULL)
		return DPI_MATCH;
	if (code == 220 && line.len != UINT32_MAX && has_nocase(line, "FTP"))
		return DPI_MATCH;
	/* Greetings without a name are followed by a login. */
	return c.len > 0 && dpi_find(c, "\n", 1) != NULL && !word_of(c, verbs, PK_COUNT(verbs))
	    ? DPI_NO
	    : DPI_MORE;
}

/* The data connection of FTP is known by the control connection; alone, a directory in the form of ls -l can be told:
 * one side is silent, each line begins with a mode. */
static enum dpi_match
parse_ftp_data(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len == 0], line;
	uint32_t next = 0;

	if (v->side[0].len > 0 && v->side[1].len > 0)
		return DPI_NO;
	for (uint32_t i = 0; i < 10 && i < b.len; i++)
		if (memchr(i == 0 ? "-dl" : "rwxsStT-", b.at[i], i == 0 ? 3 : 8) == NULL)
			return DPI_NO;
	line = dpi_line(b, &next);
	if (b.len < 11 || line.len == UINT32_MAX)
		return b.len > 512 ? DPI_NO : DPI_MORE;
	return line.len > 30 && (b.at[10] == ' ' || b.at[10] == '+') && dpi_text(line) ? DPI_LIKELY
	                                                                               : DPI_NO;
}

/* RFC 1939: "+OK" or "-ERR" answers verbs of its own. */
static enum dpi_match
parse_pop3(struct dpi_view *v)
{
	static const char *const verbs[] = { "USER", "PASS", "APOP", "STAT", "LIST", "RETR", "UIDL",
		"CAPA", "AUTH", "STLS", "QUIT", "TOP", "DELE", "NOOP" };
	struct dpi_bytes c = v->side[0], s = v->side[1], line;
	enum dpi_match m = DPI_FRONT(s, "+OK");
	uint32_t next;

	if (m == DPI_NO && DPI_FRONT(s, "-ERR") == DPI_NO)
		return DPI_NO;
	if (!text_front(c))
		return DPI_NO;
	line = dpi_line(s, &next);
	if (dpi_find(c, "\n", 1) == NULL)
		return line.len != UINT32_MAX &&
		        (has_nocase(line, "POP3") || has_nocase(line, "POP SERVER"))
		    ? DPI_LIKELY
		    : DPI_MORE;
	/* Redis answers "+OK", too, but is asked with '*' or words of its own. */
	if (!word_of(c, verbs, PK_COUNT(verbs)))
		return DPI_NO;
	/* Until it logs in, a session may still be turned into one of TLS (RFC 2595 section 4). */
	if (has_nocase(c, "STLS\r\n") || has_nocase(c, "STLS\n"))
		v->app = DPI_APP_POP3S;
	else if (!v->last && !has_nocase(c, "USER ") && !has_nocase(c, "AUTH ") &&
	    !has_nocase(c, "APOP ") && !has_nocase(c, "QUIT"))
		return DPI_LIKELY;
	return s.len >= 5 ? DPI_MATCH : DPI_MORE;
}

/* RFC 9051: "* OK", and commands with a tag before the verb. */
static enum dpi_match
parse_imap(struct dpi_view *v)
{
	static const char *const verbs[] = { "CAPABILITY", "LOGIN", "AUTHENTICATE", "SELECT",
		"LIST", "STARTTLS", "NOOP", "ID", "EXAMINE", "FETCH", "UID", "LOGOUT", "NAMESPACE",
		"LSUB", "STATUS", "IDLE" };
	struct dpi_bytes c = v->side[0], s = v->side[1], line;
	uint32_t next, i = 0;

	if (DPI_FRONT_NOCASE(s, "* OK") == DPI_NO && DPI_FRONT_NOCASE(s, "* PREAUTH") == DPI_NO &&
	    DPI_FRONT_NOCASE(s, "* CAPABILITY") == DPI_NO &&
	    DPI_FRONT_NOCASE(s, "* BYE") == DPI_NO && !v->midstream)
		return DPI_NO;
	if (!text_front(c))
		return DPI_NO;
	line = dpi_line(s, &next);
	if (dpi_find(c, "\n", 1) == NULL) {
		if (line.len != UINT32_MAX && line.len > 2 && s.at[0] == '*' &&
		    (has_nocase(line, "IMAP4") || DPI_FRONT_NOCASE(s, "* CAPABILITY") == DPI_MATCH))
			return DPI_LIKELY;
		return c.len > 128 ? DPI_NO : DPI_MORE;
	}
	while (i < c.len && i < 32 &&
	    (dpi_is_alpha(c.at[i]) || dpi_is_digit(c.at[i]) || c.at[i] == '.'))
		i++;
	if (i == 0 || i >= c.len || c.at[i] != ' ' ||
	    !word_of((struct dpi_bytes){ c.at + i + 1, c.len - i - 1 }, verbs, PK_COUNT(verbs)))
		return DPI_NO;
	if (s.len > i && (memcmp(s.at, c.at, i) == 0 || s.at[0] == '*')) {
		/* RFC 9051 section 6.2.1: TLS from then on. */
		if (has_nocase(c, " STARTTLS\r\n"))
			v->app = DPI_APP_IMAPS;
		else if (!v->last && !has_nocase(c, " LOGIN ") &&
		    !has_nocase(c, " AUTHENTICATE ") && !has_nocase(c, " SELECT ") &&
		    !has_nocase(c, " LOGOUT") && c.len < 256)
			return DPI_LIKELY;
		return DPI_MATCH;
	}
	return s.len == 0 && dpi_is_digit(c.at[i - 1]) ? DPI_LIKELY : DPI_NO;
}

/* RFC 3977: greetings 200, 201; commands that nobody else has. */
static enum dpi_match
parse_nntp(struct dpi_view *v)
{
	static const char *const verbs[] = { "MODE READER", "MODE STREAM", "GROUP", "ARTICLE",
		"XOVER", "NEWGROUPS", "NEWNEWS", "AUTHINFO", "LISTGROUP", "CAPABILITIES", "IHAVE",
		"LIST", "OVER", "XHDR", "CHECK", "TAKETHIS", "BODY", "HEAD", "STAT", "POST",
		"NEXT" };
	struct dpi_bytes c = v->side[0], s = v->side[1];
	int code = reply(s);

	if (code == 0 && s.len > 0)
		return DPI_NO;
	if ((code > 0 && code != 200 && code != 201 && !v->midstream) || !text_front(c))
		return DPI_NO;
	if (dpi_find(c, "\n", 1) == NULL)
		return DPI_MORE;
	if (!word_of(c, verbs, PK_COUNT(verbs)))
		return DPI_NO;
	return code == 200 || code == 201 ? DPI_MATCH : s.len == 0 ? DPI_MORE : DPI_NO;
}

/* RFC 1459, 2812: "NICK x" and "USER a b c :d" from the client, ":server NOTICE" or numerics from the server. */
static enum dpi_match
parse_irc(struct dpi_view *v)
{
	static const char *const verbs[] = { "NICK", "USER", "CAP", "PASS", "JOIN", "PRIVMSG",
		"NOTICE", "PING", "PONG", "MODE", "WHO", "PART" };
	struct dpi_bytes c = v->side[0], s = v->side[1], line;
	enum dpi_match m = DPI_MORE;
	uint32_t next;

	if (!text_front(c) || !text_front(s))
		return DPI_NO;
	if (s.len > 0) {
		line = dpi_line(s, &next);
		if (s.at[0] == ':') {
			const uint8_t *space = line.len != UINT32_MAX ? memchr(s.at, ' ', line.len)
			                                              : NULL;
			struct dpi_bytes rest;

			if (line.len == UINT32_MAX)
				return s.len > 512 ? DPI_NO : DPI_MORE;
			if (space == NULL)
				return DPI_NO;
			rest =
			    (struct dpi_bytes){ space + 1, (uint32_t)(s.at + s.len - space - 1) };
			if (reply(rest) > 0 || word_of(rest, verbs, PK_COUNT(verbs)))
				m = DPI_LIKELY;
			else
				return DPI_NO;
			/* A numeric goes to a nick, after the server's own name. */
			if (reply(rest) > 0 && reply(rest) <= 5 && rest.len > 6)
				m = DPI_MATCH;
		} else if (line.len != UINT32_MAX && memchr(s.at, ':', line.len) != NULL &&
		    (DPI_FRONT(s, "NOTICE ") == DPI_MATCH || DPI_FRONT(s, "PING :") == DPI_MATCH ||
		        DPI_FRONT(s, "ERROR :") == DPI_MATCH)) {
			m = DPI_LIKELY;
		} else if (line.len != UINT32_MAX || s.len > 8) {
			return DPI_NO;
		}
	}
	if (dpi_find(c, "\n", 1) == NULL)
		return m == DPI_LIKELY || c.len < 512 ? m : DPI_NO;
	if (!word_of(c, verbs, PK_COUNT(verbs)))
		return m == DPI_MATCH && c.at[0] == ':' ? m : DPI_NO;
	if (DPI_FRONT_NOCASE(c, "NICK ") == DPI_MATCH && dpi_find(c, "\nUSER ", 6) != NULL)
		return DPI_MATCH;
	if (DPI_FRONT_NOCASE(c, "CAP LS") == DPI_MATCH ||
	    DPI_FRONT_NOCASE(c, "PRIVMSG ") == DPI_MATCH)
		return DPI_MATCH;
	return m >= DPI_LIKELY ? DPI_MATCH : DPI_MORE;
}

/* RFC 6120: an XML stream of the name space jabber:client or jabber:server. */
static enum dpi_match
parse_xmpp(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len == 0)
			continue;
		if (DPI_FRONT(b, "<?xml ") == DPI_NO && DPI_FRONT(b, "<stream:stream") == DPI_NO)
			return DPI_NO;
		if (dpi_find(b, "<stream:stream", 14) != NULL &&
		    (dpi_find(b, "jabber:", 7) != NULL ||
		        dpi_find(b, "http://etherx.jabber.org", 24) != NULL))
			return DPI_MATCH;
		if (b.len > 1024)
			return DPI_NO;
	}
	return DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_SMTP, DPI_TCP, { DPI_ANY, DPI_FIRST("25") }, parse_smtp, describe_banner },
	{ DPI_APP_FTP, DPI_TCP, { DPI_ANY, DPI_FIRST("15") }, parse_ftp, describe_banner },
	{ DPI_APP_FTP_DATA, DPI_TCP, { DPI_FIRST("--ddll"), DPI_FIRST("--ddll") }, parse_ftp_data,
	    NULL },
	{ DPI_APP_POP3, DPI_TCP, { DPI_ANY, DPI_FIRST("++--") }, parse_pop3, describe_banner },
	{ DPI_APP_IMAP, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_imap, describe_banner },
	{ DPI_APP_NNTP, DPI_TCP, { DPI_ANY, DPI_FIRST("25") }, parse_nntp, describe_banner },
	{ DPI_APP_IRC, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_irc, NULL },
	{ DPI_APP_XMPP, DPI_TCP, { DPI_FIRST("<<"), DPI_FIRST("<<") }, parse_xmpp, NULL },
};
DPI_FAMILY_OF(mail, table);
