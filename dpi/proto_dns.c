/* DNS (RFC 1035) over UDP and TCP, multicast DNS (RFC 6762), LLMNR (RFC 4795), NetBIOS names (RFC 1002). */
#include <stdio.h>

#include "dpi/proto.h"

#define NAME_MAX_TEXT 256

enum {
	TYPE_A = 1,
	TYPE_NULL = 10,
	TYPE_TXT = 16,
	TYPE_AAAA = 28,
	TYPE_NB = 32,
	TYPE_NBSTAT = 33,
	TYPE_OPT = 41
};

/* A name at w, compressed or not (RFC 1035 section 4.1.4), as text.  Its length, or -1.  The message is `b`. */
static int
name(struct pk_wire *w, struct dpi_bytes b, char text[NAME_MAX_TEXT], uint32_t *longest)
{
	struct pk_wire at = *w;
	uint32_t limit = b.len;
	bool jumped = false;
	int n = 0;

	*longest = 0;
	for (int labels = 0; labels < 128; labels++) {
		uint8_t len = pk_wire_u8(&at);
		const uint8_t *label;

		if (!pk_wire_ok(&at))
			return -1;
		if (len == 0) {
			if (!jumped)
				*w = at;
			text[n] = '\0';
			return n;
		}
		if ((len & 0xc0) == 0xc0) {
			uint32_t to = (uint32_t)(len & 0x3f) << 8 | pk_wire_u8(&at);

			if (!jumped)
				*w = at;
			jumped = true;
			/* Pointers go back, so they end. */
			if (!pk_wire_ok(&at) || to >= limit || to < 12)
				return -1;
			limit = to;
			at = pk_wire_from(b.at + to, b.len - to);
			continue;
		}
		label = (len & 0xc0) == 0 ? pk_wire_bytes(&at, len) : NULL;
		if (label == NULL || n + len + 1 >= NAME_MAX_TEXT)
			return -1;
		if (n > 0)
			text[n++] = '.';
		memcpy(text + n, label, len);
		n += len;
		*longest = PK_MAX(*longest, len);
	}
	return -1;
}

/* A class: IN, CH, HS, NONE, ANY; mDNS uses the top bit, and EDNS the whole field. */
static bool
class_ok(uint16_t class)
{
	class &= 0x7fff;
	return (class >= 1 && class <= 4) || class == 254 || class == 255;
}

/* A type that IANA has given out, or a private one. */
static bool
type_ok(uint16_t type)
{
	return (type >= 1 && type <= 270) || (type >= 32768 && type <= 32770) || type >= 65280;
}

enum dpi_match
dpi_dns_message(struct dpi_view *v, int side, struct dpi_bytes b, bool say)
{
	struct pk_wire w = dpi_cursor(b);
	uint16_t id = pk_wire_be16(&w), flags = pk_wire_be16(&w), nb[4];
	char text[NAME_MAX_TEXT], number[8];
	uint32_t longest;
	bool response = (flags & 0x8000) != 0, cut = (flags & 0x0200) != 0, root = false;
	unsigned int sum = 0, opcode = flags >> 11 & 15, records = 0, done = 0;
	int n;

	for (int i = 0; i < 4; i++)
		sum += nb[i] = pk_wire_be16(&w);
	if (!pk_wire_ok(&w) || sum == 0 || nb[0] > 32 || sum > 512 || opcode > 9 || opcode == 3 ||
	    (!response && (flags & 0x000f) != 0 && nb[0] == 0))
		return DPI_NO;
	for (unsigned int i = 0; i < nb[0]; i++) {
		uint16_t type, class;
		const uint8_t *at = w.at;

		n = name(&w, b, text, &longest);
		type = pk_wire_be16(&w);
		class = pk_wire_be16(&w);
		if (n < 0 || !pk_wire_ok(&w) || !type_ok(type) || !class_ok(class))
			return DPI_NO;
		root |= n == 0;
		if (n == 32 && (type == TYPE_NB || type == TYPE_NBSTAT) && *at == 32)
			v->app = DPI_APP_NETBIOS;
		if (say && i == 0) {
			dpi_say(v, DPI_FIELD_DNS_QUERY, -1, text, (size_t)n);
			n = snprintf(number, sizeof(number), "%u", type) + 0 * n;
			dpi_say(v, DPI_FIELD_DNS_TYPE, -1, number, strlen(number));
			/* Names as payload: long labels, of types whose answers carry as they like. */
			if (strlen(text) > 110 && longest > 40 &&
			    (type == TYPE_NULL || type == TYPE_TXT || type == 5 || type == 15))
				dpi_say(v, DPI_FIELD_TUNNEL, -1, "dns", 3);
		}
	}
	records = sum - nb[0];
	for (unsigned int i = 0; i < records; i++) {
		uint16_t type, class, len;
		const uint8_t *data, *before = w.at;

		n = name(&w, b, text, &longest);
		type = pk_wire_be16(&w);
		class = pk_wire_be16(&w);
		(void)pk_wire_be32(&w);
		len = pk_wire_be16(&w);
		data = pk_wire_bytes(&w, len);
		if (n < 0)
			return DPI_NO;
		if (data == NULL && (cut || b.len >= 512 || before == b.at + b.len))
			break; /* shortened on its way, or by the capture */
		if (data == NULL || !type_ok(type) || (type != TYPE_OPT && !class_ok(class)))
			return DPI_NO;
		if (n == 32 && type == TYPE_NB && *before == 32)
			v->app = DPI_APP_NETBIOS;
		if ((type == TYPE_A && len != 4) || (type == TYPE_AAAA && len != 16))
			return DPI_NO;
		if (say && (type == TYPE_A || type == TYPE_AAAA) && i < nb[1])
			dpi_say(v, DPI_FIELD_DNS_ANSWER, side, data, len);
		done++;
	}
	if (done == records && pk_wire_left(&w) > 0 && nb[0] == 0)
		return DPI_NO;
	/* NetBIOS has operations of its own (RFC 1002 section 4.2.1.1). */
	if (opcode > 5 && v->app != DPI_APP_NETBIOS)
		return DPI_NO;
	if (v->app == DPI_APP_DNS && id == 0 && v->port[1] == 5353)
		v->app = DPI_APP_MDNS;
	else if (v->app == DPI_APP_DNS && (v->port[0] == 5353 || v->port[1] == 5353))
		v->app = DPI_APP_MDNS;
	else if (v->app == DPI_APP_DNS && (v->port[0] == 5355 || v->port[1] == 5355))
		v->app = DPI_APP_LLMNR;
	if (nb[0] + done == 0)
		return DPI_NO;
	/* A question of a few bytes, or the lengths of all records, agree; and nothing is left over. */
	if (done == records && pk_wire_left(&w) > 0)
		return root ? DPI_NO : DPI_LIKELY;
	return nb[0] <= 1 || done == records ? DPI_MATCH : DPI_LIKELY;
}

static enum dpi_match
parse_dns(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	enum dpi_match m = dpi_dns_message(v, 0, b, false);

	/* The header of a plain question, which fixes ten bytes, before a name that is broken. */
	if (m == DPI_NO && b.len >= 14 && b.len < 300 &&
	    memcmp(b.at + 2, "\1\0\0\1\0\0\0\0\0\0", 10) == 0)
		return DPI_LIKELY;
	return m;
}

static bool
describe_dns(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 12)
		return true;
	(void)dpi_dns_message(v, 0, b, true);
	/* The answer is wanted for the name's addresses. */
	return v->app != DPI_APP_DNS || (b.at[2] & 0x80) != 0 || v->f->packets > 2;
}

static enum dpi_match
tcp_side(struct dpi_view *v, int i, bool say)
{
	struct dpi_bytes b = v->side[i];
	uint32_t len;

	if (b.len < 2)
		return DPI_MORE;
	len = dpi_be16(b.at);
	if (len < 17)
		return DPI_NO;
	if (b.len >= 14 &&
	    (dpi_be16(b.at + 6) > 1 || (b.at[4] & 0x78) > 0x28 || (b.at[5] & 0x40) != 0))
		return DPI_NO;
	if (b.len < 2 + len)
		return DPI_MORE;
	return dpi_dns_message(v, i, (struct dpi_bytes){ b.at + 2, len }, say);
}

static enum dpi_match
parse_dns_tcp(struct dpi_view *v)
{
	enum dpi_match c = tcp_side(v, 0, false), s;

	if (c == DPI_NO || c == DPI_MATCH)
		return c;
	s = tcp_side(v, 1, false);
	return s == DPI_NO ? DPI_NO : PK_MAX(c, s);
}

static bool
describe_dns_tcp(struct dpi_view *v)
{
	bool asked = tcp_side(v, 0, true) == DPI_MATCH,
	     answered = tcp_side(v, 1, true) == DPI_MATCH;

	return answered || (asked && v->end[1]);
}

static const struct dpi_proto table[] = {
	{ DPI_APP_DNS, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_dns, describe_dns },
	{ DPI_APP_DNS, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_dns_tcp, describe_dns_tcp },
};
DPI_FAMILY_OF(dns, table);
