#include "fw/ftp.h"

#include <string.h>
#include <strings.h>

struct text {
	const uint8_t *at, *end;
};

static bool
skip_byte(struct text *t, uint8_t c)
{
	if (t->at == t->end || *t->at != c)
		return false;
	t->at++;
	return true;
}

/* A decimal number of at most `max`, without sign or blanks. */
static bool
number(struct text *t, unsigned int max, unsigned int *out)
{
	const uint8_t *begin = t->at;
	unsigned int v = 0;

	while (t->at < t->end && *t->at >= '0' && *t->at <= '9') {
		v = v * 10 + (unsigned int)(*t->at++ - '0');
		if (v > max)
			return false;
	}
	*out = v;
	return t->at > begin;
}

static bool
is_word(const struct text *t, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(t->end - t->at) >= len &&
	    strncasecmp((const char *)t->at, word, len) == 0 &&
	    ((size_t)(t->end - t->at) == len || t->at[len] == ' ');
}

/* h1,h2,h3,h4,p1,p2 (RFC 959 section 4.1.2) */
static bool
host_port(struct text *t, struct fw_ftp_port *out)
{
	unsigned int n[6];

	for (unsigned int i = 0; i < 6; i++)
		if ((i > 0 && !skip_byte(t, ',')) || !number(t, 255, &n[i]))
			return false;
	memset(out, 0, sizeof(*out));
	out->addr.family = 4;
	for (unsigned int i = 0; i < 4; i++)
		out->addr.bytes[i] = (uint8_t)n[i];
	out->port = (uint16_t)(n[4] << 8 | n[5]);
	return true;
}

/* |1|192.0.2.1|6275| or |2|2001:db8::1|6275|; any printable byte may stand for the bar (RFC 2428 section 2). */
static bool
extended_port(struct text *t, struct fw_ftp_port *out)
{
	char addr[PK_ADDR_TEXT];
	const uint8_t *bar;
	unsigned int family, port;
	struct pk_diag diag;
	uint8_t by;

	if (t->at == t->end || *t->at < 33 || *t->at > 126)
		return false;
	by = *t->at++;
	if (!number(t, 2, &family) || !skip_byte(t, by))
		return false;
	bar = memchr(t->at, by, (size_t)(t->end - t->at));
	if (bar == NULL || (size_t)(bar - t->at) >= sizeof(addr))
		return false;
	memcpy(addr, t->at, (size_t)(bar - t->at));
	addr[bar - t->at] = '\0';
	t->at = bar + 1;
	if (!number(t, 65535, &port) || !skip_byte(t, by))
		return false;
	memset(out, 0, sizeof(*out));
	out->port = (uint16_t)port;
	return pk_addr_parse(&out->addr, addr, &diag) == 0 &&
	    out->addr.family == (family == 1 ? 4 : 6);
}

/* Entering Extended Passive Mode (|||6446|) */
static bool
extended_reply(struct text *t, struct fw_ftp_port *out)
{
	const uint8_t *paren = memchr(t->at, '(', (size_t)(t->end - t->at));
	unsigned int port;
	uint8_t by;

	if (paren == NULL || paren + 1 == t->end)
		return false;
	t->at = paren + 1;
	by = *t->at;
	if (by < 33 || by > 126 || !skip_byte(t, by) || !skip_byte(t, by) || !skip_byte(t, by) ||
	    !number(t, 65535, &port) || !skip_byte(t, by) || !skip_byte(t, ')'))
		return false;
	memset(out, 0, sizeof(*out));
	out->port = (uint16_t)port;
	return true;
}

static enum fw_ftp_line
read_command(struct text *t, struct fw_ftp_port *out)
{
	if (is_word(t, "PASV"))
		return FW_FTP_PASSIVE;
	if (is_word(t, "EPSV"))
		/* "EPSV ALL" asks for nothing yet (RFC 2428 section 4). */
		return t->end - t->at >= 8 && strncasecmp((const char *)t->at + 4, " ALL", 4) == 0
		    ? FW_FTP_OTHER
		    : FW_FTP_PASSIVE;
	if (t->end - t->at < 5 || (!is_word(t, "PORT") && !is_word(t, "EPRT")))
		return FW_FTP_OTHER;
	if (is_word(t, "PORT")) {
		t->at += 5;
		return host_port(t, out) ? FW_FTP_ACTIVE : FW_FTP_OTHER;
	}
	t->at += 5;
	return extended_port(t, out) ? FW_FTP_ACTIVE : FW_FTP_OTHER;
}

static enum fw_ftp_line
read_reply(struct text *t, struct fw_ftp_port *out)
{
	unsigned int code;

	/* "227 text" ends a reply, "227-text" begins a longer one (RFC 959 section 4.2). */
	if (!number(t, 999, &code) || code < 100 || !skip_byte(t, ' '))
		return FW_FTP_OTHER;
	if (code == 227) {
		/* The parentheses are customary, no more (RFC 1123 section 4.1.2.6). */
		while (t->at < t->end && (*t->at < '0' || *t->at > '9'))
			t->at++;
		return host_port(t, out) ? FW_FTP_PORT : FW_FTP_REPLY;
	}
	if (code == 229)
		return extended_reply(t, out) ? FW_FTP_PORT : FW_FTP_REPLY;
	return code < 200 ? FW_FTP_OTHER : FW_FTP_REPLY; /* 1xx: there is more to come */
}

enum fw_ftp_line
fw_ftp_read(const uint8_t *line, size_t len, bool from_client, struct fw_ftp_port *out)
{
	struct text t = { line, line + len };

	return from_client ? read_command(&t, out) : read_reply(&t, out);
}
