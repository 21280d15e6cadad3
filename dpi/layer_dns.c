#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/session.h"

/* DNS (RFC 1035) over UDP and TCP: every message is a transaction of its own. */

#define NAME_MAX_BYTES 1025
#define HOPS_MAX       255

struct dns {
	struct dpi_pending side[2];
};

/* Read a name at `at` into text without the final dot.  Returns where what follows it is, or 0. */
static uint32_t
read_name(struct dpi_tx *tx, unsigned int dir, const uint8_t *m, uint32_t len, uint32_t at,
    uint8_t *text, uint32_t *n)
{
	uint32_t after = 0;
	unsigned int hops = 0;

	*n = 0;
	for (;;) {
		uint8_t l;

		if (at >= len)
			return 0;
		l = m[at];
		if (l == 0) {
			at++;
			break;
		}
		if ((l & 0xc0) == 0xc0) {
			if (at + 1 >= len)
				return 0;
			if (after == 0)
				after = at + 2;
			at = (uint32_t)(l & 0x3f) << 8 | m[at + 1];
			if (++hops > HOPS_MAX) {
				dpi_tx_event(tx, DPI_EV_DNS_LOOP, dir);
				return 0;
			}
			continue;
		}
		if (l & 0xc0 || at + 1 + l > len)
			return 0;
		if (*n + l + 1 > NAME_MAX_BYTES) {
			dpi_tx_event(tx, DPI_EV_DNS_NAME_LONG, dir);
			return after != 0 ? after : 0;
		}
		if (*n > 0)
			text[(*n)++] = '.';
		memcpy(text + *n, m + at + 1, l);
		*n += l;
		at += 1u + l;
		if (++hops > HOPS_MAX) {
			dpi_tx_event(tx, DPI_EV_DNS_LABELS, dir);
			return 0;
		}
	}
	return after != 0 ? after : at;
}

static void
message(struct dpi_session *s, unsigned int dir, const uint8_t *m, uint32_t len)
{
	uint8_t name[NAME_MAX_BYTES + 2];
	struct dpi_tx *tx;
	uint32_t at = 12, n;
	unsigned int questions, answers, opcode;
	bool response;

	if (len < 12)
		return;
	response = m[2] & 0x80;
	questions = (unsigned int)(m[4] << 8 | m[5]);
	answers = (unsigned int)(m[6] << 8 | m[7]);
	tx = dpi_tx_new(s, DPI_LAYER_DNS);
	if (tx == NULL)
		return;
	opcode = m[2] >> 3 & 15;
	dir = response ? 1 : 0; /* whoever opened the session: a response goes to a client */
	if (m[3] & 0x40)
		dpi_tx_event(tx, DPI_EV_DNS_Z, dir);
	if (opcode >= 7)
		dpi_tx_event(tx, DPI_EV_DNS_OPCODE, dir);
	for (unsigned int i = 0; i < questions && i < 64 && at != 0; i++) {
		at = read_name(tx, dir, m, len, at, name, &n);
		if (at == 0 || at + 4 > len) {
			dpi_tx_event(tx, DPI_EV_DNS_MALFORMED, dir);
			at = 0;
			break;
		}
		at += 4;
		if (!response)
			dpi_tx_put(tx, DPI_DNS_QUERY, dir, name, n);
		dpi_tx_put(tx, DPI_DNS_QUERY_NAME, dir, name, n);
	}
	for (unsigned int i = 0; i < answers && i < 64 && at != 0; i++) {
		at = read_name(tx, dir, m, len, at, name, &n);
		if (at == 0 || at + 10 > len)
			break;
		dpi_tx_put(tx, DPI_DNS_ANSWER_NAME, dir, name, n);
		at += 10u + (uint32_t)(m[at + 8] << 8 | m[at + 9]);
		if (at > len) {
			dpi_tx_event(tx, DPI_EV_DNS_MALFORMED, dir);
			break;
		}
	}
	dpi_tx_done(tx, 0);
	dpi_tx_done(tx, 1);
	tx->touched[!dir] = false;
}

void
dpi_dns_datagram(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len)
{
	message(s, dir, bytes, len);
}

static int
dns_open(struct dpi_session *s)
{
	s->state = dpi_calloc(1, sizeof(struct dns));
	return s->state != NULL ? 0 : -1;
}

static void
dns_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct dns *d = s->state;
	struct dpi_pending *p = &d->side[dir];

	(void)end;
	if (!dpi_pending_add(p, bytes, len, 1u << 17))
		return;
	while (p->len >= 2) {
		uint32_t n = (uint32_t)(p->bytes[0] << 8 | p->bytes[1]);

		if (p->len < n + 2)
			break;
		message(s, dir, p->bytes + 2, n);
		dpi_pending_eat(p, n + 2);
	}
}

static void
dns_close(struct dpi_session *s)
{
	struct dns *d = s->state;

	dpi_free(d->side[0].bytes);
	dpi_free(d->side[1].bytes);
	dpi_free(d);
}

const struct dpi_layer_ops dpi_dns_ops = {
	.open = dns_open, .bytes = dns_bytes, .close = dns_close
};
