#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/event.h"
#include "dpi/sig_keyword.h"

/* Keywords about the headers of a packet. */

static int
read_number(struct dpi_parse *p, const char *value, bool negated, int kind)
{
	struct dpi_test *t = dpi_parse_test(p, kind);

	if (t == NULL)
		return -ENOMEM;
	t->negated = negated;
	if (kind == DPI_TEST_DSIZE)
		p->sig->flags |= DPI_SIG_PACKET;
	return dpi_parse_range(p, &t->range, value);
}

static int
read_ip_proto(struct dpi_parse *p, const char *value, bool negated, int kind)
{
	static const struct {
		const char *name;
		int number;
	} known[] = { { "icmp", 1 }, { "igmp", 2 }, { "tcp", 6 }, { "udp", 17 }, { "gre", 47 },
		{ "esp", 50 }, { "ah", 51 }, { "icmp6", 58 }, { "ipv6-icmp", 58 }, { "sctp", 132 },
		{ "ipip", 4 }, { "pim", 103 } };
	char text[16];

	for (size_t i = 0; i < PK_COUNT(known); i++) {
		if (strcasecmp(value, known[i].name) == 0) {
			snprintf(text, sizeof(text), "%d", known[i].number);
			return read_number(p, text, negated, kind);
		}
	}
	return read_number(p, value, negated, kind);
}

static int
flag_bits(struct dpi_parse *p, const char **at, uint8_t *bits)
{
	static const char letters[] = "FSRPAUEC";

	for (; **at != '\0' && **at != ','; (*at)++) {
		const char *l;
		char c = (char)toupper((unsigned char)**at);

		if (c == '1') /* the reserved bits of old, now CWR and ECE */
			c = 'C';
		else if (c == '2')
			c = 'E';
		if (c == ' ' || c == '0')
			continue;
		l = strchr(letters, c);
		if (l == NULL)
			return dpi_refuse(
			    p, "flag \"%c\" is unknown; known: FSRPAUEC, 12, 0", **at);
		*bits |= (uint8_t)(1 << (l - letters));
	}
	return 0;
}

static int
read_tcp_flags(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_test *t = dpi_parse_test(p, DPI_TEST_TCP_FLAGS);
	uint8_t bits = 0;
	int rc;

	(void)arg;
	if (t == NULL)
		return -ENOMEM;
	t->negated = negated;
	if (*value == '+' || *value == '*')
		t->mode = *value++;
	rc = flag_bits(p, &value, &bits);
	t->range.a = bits;
	if (rc == 0 && *value == ',') {
		value++;
		rc = flag_bits(p, &value, &t->mask);
	}
	p->sig->flags |= DPI_SIG_PACKET;
	return rc;
}

static int
read_fragbits(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_test *t = dpi_parse_test(p, DPI_TEST_FRAGBITS);

	(void)arg;
	if (t == NULL)
		return -ENOMEM;
	t->negated = negated;
	for (; *value != '\0'; value++) {
		switch (toupper((unsigned char)*value)) {
		case '+':
		case '*':
			t->mode = *value;
			break;
		case 'M':
			t->range.a |= 1;
			break;
		case 'D':
			t->range.a |= 2;
			break;
		case 'R':
			t->range.a |= 4;
			break;
		case ' ':
			break;
		default:
			return dpi_refuse(p, "\"%c\" is unknown; known: M D R, + *", *value);
		}
	}
	return 0;
}

static int
read_plain(struct dpi_parse *p, const char *value, bool negated, int kind)
{
	struct dpi_test *t = dpi_parse_test(p, kind);

	(void)value;
	if (t == NULL)
		return -ENOMEM;
	t->negated = negated;
	return 0;
}

static int
read_stream_size(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_test *t = dpi_parse_test(p, DPI_TEST_STREAM_SIZE);
	char text[64], number[64], *part[3];

	(void)negated;
	(void)arg;
	if (t == NULL)
		return -ENOMEM;
	snprintf(text, sizeof(text), "%s", value);
	if (dpi_split(text, part, 3) != 3)
		return dpi_refuse(p, "want server|client|both|either, operator, size");
	if (strcmp(part[0], "server") != 0 && strcmp(part[0], "client") != 0 &&
	    strcmp(part[0], "both") != 0 && strcmp(part[0], "either") != 0)
		return dpi_refuse(
		    p, "\"%s\" is unknown; known: server, client, both, either", part[0]);
	t->mode = part[0][0];
	if (strcmp(part[1], "!=") == 0)
		part[1] = (char *)(uintptr_t) "!";
	snprintf(number, sizeof(number), "%.30s%.30s", part[1], part[2]);
	return dpi_parse_range(p, &t->range, number);
}

static int
read_event(struct dpi_parse *p, const char *value, bool negated, int stream)
{
	struct dpi_test *t = dpi_parse_test(p, DPI_TEST_EVENT);
	char name[96];

	if (t == NULL)
		return -ENOMEM;
	snprintf(name, sizeof(name), "%s%s", stream ? "stream." : "", value);
	t->negated = negated;
	t->event = (uint16_t)dpi_event_find(name);
	return t->event != DPI_EV_NONE ? 0
	                               : dpi_refuse(p, "event \"%s\" is not detected here", value);
}

static int
read_layer(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_test *t = dpi_parse_test(p, DPI_TEST_LAYER);
	char text[64], *part[2];
	int layer;

	(void)arg;
	if (t == NULL)
		return -ENOMEM;
	snprintf(text, sizeof(text), "%s", value);
	dpi_split(text, part, 2);
	layer = dpi_layer_find(part[0]);
	if (layer < 0)
		return dpi_refuse(p, "protocol \"%s\" is not inspected here", value);
	t->negated = negated;
	t->range.a = layer;
	return 0;
}

#define N (DPI_KW_VALUE | DPI_KW_NEGATED)
const struct dpi_keyword dpi_keywords_header[] = {
	{ "dsize", read_number, DPI_TEST_DSIZE, N },
	{ "ttl", read_number, DPI_TEST_TTL, DPI_KW_VALUE },
	{ "itype", read_number, DPI_TEST_ITYPE, DPI_KW_VALUE },
	{ "icode", read_number, DPI_TEST_ICODE, DPI_KW_VALUE },
	{ "icmp_id", read_number, DPI_TEST_ICMP_ID, DPI_KW_VALUE },
	{ "icmp_seq", read_number, DPI_TEST_ICMP_SEQ, DPI_KW_VALUE },
	{ "id", read_number, DPI_TEST_IP_ID, DPI_KW_VALUE },
	{ "tos", read_number, DPI_TEST_TOS, N },
	{ "ip_proto", read_ip_proto, DPI_TEST_IP_PROTO, N },
	{ "fragbits", read_fragbits, 0, N },
	{ "fragoffset", read_number, DPI_TEST_FRAGOFFSET, N },
	{ "flags", read_tcp_flags, 0, N },
	{ "tcp.flags", read_tcp_flags, 0, N },
	{ "seq", read_number, DPI_TEST_SEQ, DPI_KW_VALUE },
	{ "tcp.seq", read_number, DPI_TEST_SEQ, DPI_KW_VALUE },
	{ "ack", read_number, DPI_TEST_ACK, DPI_KW_VALUE },
	{ "tcp.ack", read_number, DPI_TEST_ACK, DPI_KW_VALUE },
	{ "window", read_number, DPI_TEST_WINDOW, N },
	{ "tcp.window", read_number, DPI_TEST_WINDOW, N },
	{ "tcp.mss", read_number, DPI_TEST_TCP_MSS, DPI_KW_VALUE },
	{ "sameip", read_plain, DPI_TEST_SAMEIP, DPI_KW_NO_VALUE },
	{ "stream_size", read_stream_size, 0, DPI_KW_VALUE },
	{ "decode-event", read_event, 0, N },
	{ "engine-event", read_event, 0, N },
	{ "stream-event", read_event, 1, N },
	{ "app-layer-protocol", read_layer, 0, N },
	{ NULL, NULL, 0, 0 },
};
