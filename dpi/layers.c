#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dpi/heap.h"
#include "dpi/session.h"
#include "dpi/sig_scope.h"

/* Which layer a session speaks, and the way of its bytes to the parser. */

#define PROBE_MAX 4096 /* bytes of a direction after which there is nothing to wait for */

static bool
begins(const uint8_t *bytes, uint32_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && strncasecmp((const char *)bytes, with, n) == 0;
}

static bool
dns_likely(const uint8_t *b, uint32_t len)
{
	uint16_t questions, answers, opcode;

	if (len < 12)
		return false;
	questions = (uint16_t)(b[4] << 8 | b[5]);
	answers = (uint16_t)(b[6] << 8 | b[7]);
	opcode = b[2] >> 3 & 15;
	return opcode <= 5 && questions <= 16 && answers <= 256 && questions + answers > 0 &&
	    (b[8] << 8 | b[9]) <= 256 && (b[10] << 8 | b[11]) <= 256;
}

static bool
request_line(const uint8_t *b, uint32_t len)
{
	static const char *const methods[] = { "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ",
		"DELETE ", "TRACE ", "CONNECT ", "PATCH ", "PROPFIND ", "PROPPATCH ", "MKCOL ",
		"COPY ", "MOVE ", "LOCK ", "UNLOCK ", "SEARCH ", "REPORT ", "SUBSCRIBE ", "NOTIFY ",
		"M-SEARCH ", "CHECKOUT ", "VERSION-CONTROL ", "GET\t", "POST\t", "HEAD\t" };
	const uint8_t *end = memchr(b, '\n', PK_MIN(len, 2048u));

	for (size_t i = 0; i < PK_COUNT(methods); i++)
		if (len > 0 && (b[0] | 32) == (methods[i][0] | 32) && begins(b, len, methods[i]))
			return true;
	/* A method of its own making, by the end of its line. */
	return end != NULL && end - b > 12 && memmem(b, (size_t)(end - b), " HTTP/1.", 8) != NULL &&
	    b[0] > ' ' && b[0] < 0x7f;
}

/* Text, of which the first line has not ended. */
static bool
line_begins(const uint8_t *b, uint32_t len)
{
	if (len == 0 || len >= 2048 || !((b[0] | 32) >= 'a' && (b[0] | 32) <= 'z'))
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (b[i] != '\t' && b[i] != '\r' && (b[i] < ' ' || b[i] == 0x7f))
			return false;
	return true;
}

static uint8_t
probe_tcp(const uint8_t *b, uint32_t len, unsigned int dir, const uint16_t port[2])
{
	/* RFC 9112 section 2.2: a server ignores empty lines before a request. */
	while (dir == 0 && len > 0 && (b[0] == '\r' || b[0] == '\n')) {
		b++;
		len--;
	}
	if (begins(b, len, "PRI * HTTP/2"))
		return DPI_LAYER_HTTP2;
	if (begins(b, len, "SSH-"))
		return DPI_LAYER_SSH;
	if (dir == 0 ? request_line(b, len)
	             : begins(b, len, "HTTP/1.") || begins(b, len, "HTTP/0."))
		return DPI_LAYER_HTTP;
	if (begins(b, len, "EHLO ") || begins(b, len, "HELO "))
		return DPI_LAYER_SMTP;
	if (dir == 1 && len >= 4 && memcmp(b, "220", 3) == 0 && (b[3] == ' ' || b[3] == '-')) {
		if (port[1] == 25 || port[1] == 465 || port[1] == 587 ||
		    memmem(b, len, "SMTP", 4) != NULL)
			return DPI_LAYER_SMTP;
		if (port[1] == 21 || memmem(b, len, "FTP", 3) != NULL)
			return DPI_LAYER_FTP;
	}
	if (dir == 0 && begins(b, len, "USER ") && port[1] != 110)
		return DPI_LAYER_FTP;
	if (len >= 3 && b[0] >= 0x14 && b[0] <= 0x17 && b[1] == 3 && b[2] <= 4)
		return DPI_LAYER_TLS;
	if (len >= 5 && (b[0] & 0x80) && b[2] == 1 &&
	    ((b[3] == 3 && b[4] <= 3) || (b[3] == 0 && b[4] == 2)))
		return DPI_LAYER_TLS;
	if (len >= 8 && b[0] == 0 &&
	    (memcmp(b + 4, "\xffSMB", 4) == 0 || memcmp(b + 4, "\xfeSMB", 4) == 0))
		return DPI_LAYER_SMB;
	if (len >= 10 && b[0] == 5 && b[1] <= 1 && b[2] <= 19 && (b[4] == 0x10 || b[4] == 0))
		return DPI_LAYER_DCERPC;
	if (dir == 0 && len >= 8 && b[0] == 0x10 && b[1] < 0x80 && b[2] == 0 &&
	    ((b[3] == 4 && memcmp(b + 4, "MQTT", 4) == 0) ||
	        (b[3] == 6 && memcmp(b + 4, "MQIs", 4) == 0)))
		return DPI_LAYER_MQTT;
	if ((port[0] == 53 || port[1] == 53) && len >= 14) {
		if ((uint32_t)(b[0] << 8 | b[1]) >= 12 && dns_likely(b + 2, len - 2))
			return DPI_LAYER_DNS;
	} else if (len >= 14 && (uint32_t)(b[0] << 8 | b[1]) == len - 2 &&
	    dns_likely(b + 2, len - 2) && b[6] == 0 && b[7] == 1) {
		return DPI_LAYER_DNS;
	}
	/* What all others can be told by; a method of its own making, by its whole line. */
	return len < 16 || (dir == 0 && line_begins(b, len)) ? DPI_LAYER_NONE : DPI_LAYER_FAILED;
}

uint8_t
dpi_layer_probe(
    const uint8_t *bytes, uint32_t len, unsigned int dir, uint8_t proto, const uint16_t port[2])
{
	if (proto == 17) {
		bool named = port[0] == 53 || port[1] == 53 || port[1] == 5353 || port[1] == 5355;

		return named && dns_likely(bytes, len) ? DPI_LAYER_DNS : DPI_LAYER_FAILED;
	}
	if (len == 0)
		return DPI_LAYER_NONE;
	return probe_tcp(bytes, len, dir, port);
}

const struct dpi_layer_ops *
dpi_layer_ops(enum dpi_layer layer)
{
	static const struct dpi_layer_ops *const ops[DPI_NB_LAYERS] = {
		[DPI_LAYER_HTTP] = &dpi_http_ops,
		[DPI_LAYER_DNS] = &dpi_dns_ops,
		[DPI_LAYER_TLS] = &dpi_tls_ops,
		[DPI_LAYER_SSH] = &dpi_ssh_ops,
		[DPI_LAYER_SMTP] = &dpi_smtp_ops,
		[DPI_LAYER_FTP] = &dpi_ftp_ops,
		[DPI_LAYER_FTP_DATA] = &dpi_ftp_data_ops,
		[DPI_LAYER_SMB] = &dpi_smb_ops,
		[DPI_LAYER_DCERPC] = &dpi_dcerpc_ops,
		[DPI_LAYER_MQTT] = &dpi_mqtt_ops,
	};

	return ops[layer];
}

/* Whether it is worth parsing: rules look into its transactions, or the parser tells more than that: the end of a
 * handshake, the sessions that others announce. */
static bool
is_of_use(const struct dpi_session *s, uint8_t layer)
{
	return s->wanted == NULL || s->scope == NULL || s->scope->layers >> layer & 1 ||
	    layer == DPI_LAYER_TLS || layer == DPI_LAYER_SSH || layer == DPI_LAYER_SMTP ||
	    layer == DPI_LAYER_FTP;
}

static void
settle(struct dpi_session *s, uint8_t layer)
{
	s->layer = layer;
	s->ops = is_of_use(s, layer) ? dpi_layer_ops(layer) : NULL;
	if (s->ops != NULL && s->ops->open(s) < 0)
		s->ops = NULL;
}

static void
probe_side(struct dpi_session *s, unsigned int dir)
{
	struct dpi_side *d = &s->side[dir];
	struct dpi_assembly *a = &d->stream;
	uint32_t len = (uint32_t)(a->next - a->window_from);
	uint8_t layer;

	if (d->layer != DPI_LAYER_NONE || len == 0)
		return;
	layer = s->gap && a->window_from != 0
	    ? DPI_LAYER_FAILED
	    : dpi_layer_probe(a->window, len, dir, s->proto, s->port);
	if (layer == DPI_LAYER_NONE && len >= PROBE_MAX)
		layer = DPI_LAYER_FAILED;
	d->layer = layer;
	if (layer == DPI_LAYER_NONE)
		return;
	if (s->layer == DPI_LAYER_NONE ||
	    (s->layer == DPI_LAYER_FAILED && layer != DPI_LAYER_FAILED && s->ops == NULL &&
	        s->side[!dir].parsed == 0)) {
		if (layer != DPI_LAYER_FAILED)
			settle(s, layer);
		else if (s->side[!dir].layer == DPI_LAYER_FAILED)
			s->layer = DPI_LAYER_FAILED;
	} else if (layer != DPI_LAYER_FAILED && layer != s->layer &&
	    s->layer != DPI_LAYER_FTP_DATA) {
		dpi_event_set(&s->events, DPI_EV_A_MISMATCH);
	}
}

static void
feed(struct dpi_session *s, unsigned int dir, bool end)
{
	struct dpi_side *d = &s->side[dir];
	struct dpi_assembly *a = &d->stream;
	bool last = (d->fin && a->next >= d->fin_at) || end;

	if (s->ops == NULL)
		return;
	if (s->state == NULL && d->parsed < a->next && s->ops->open(s) < 0) { /* it has rested */
		s->ops = NULL;
		return;
	}
	if (d->parsed < a->window_from) {
		if (s->ops->lost != NULL && s->state != NULL &&
		    a->window_from - d->parsed < UINT32_MAX)
			s->ops->lost(s, dir, a->window_from - d->parsed);
		d->parsed = a->window_from;
	}
	if (d->parsed < a->next) {
		uint64_t from = d->parsed;

		d->parsed = a->next;
		s->ops->bytes(s, dir, dpi_assembly_at(a, from), (uint32_t)(a->next - from), false);
	}
	if (last && !d->fin_taken && s->ops != NULL) {
		d->fin_taken = true;
		if (s->state != NULL)
			s->ops->bytes(s, dir, NULL, 0, true);
	}
}

void
dpi_session_parse(struct dpi_session *s, bool end)
{
	probe_side(s, 0);
	probe_side(s, 1);
	feed(s, 0, end);
	feed(s, 1, end);
}

void
dpi_session_datagram(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len)
{
	if (s->layer == DPI_LAYER_NONE && len > 0)
		s->layer = dpi_layer_probe(bytes, len, dir, s->proto, s->port);
	if (s->layer == DPI_LAYER_DNS && is_of_use(s, DPI_LAYER_DNS))
		dpi_dns_datagram(s, dir, bytes, len);
}
