#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/session.h"

/* MQTT 3.1.1 and 5 (OASIS): every control packet is a transaction, as far as its kind, reason and order. */
#define PACKET_MAX (1u << 20)

struct mqtt {
	struct dpi_pending side[2];
	uint64_t skip[2]; /* bytes of a packet too long to keep */
	bool connect, connack;
	uint8_t version;
};

static void
control_packet(struct dpi_session *s, struct mqtt *m, unsigned int dir, uint8_t first,
    const uint8_t *p, uint32_t len)
{
	static const char *const names[] = { "unassigned", "connect", "connack", "publish",
		"puback", "pubrec", "pubrel", "pubcomp", "subscribe", "suback", "unsubscribe",
		"unsuback", "pingreq", "pingresp", "disconnect", "auth" };
	uint8_t type = first >> 4, qos = first >> 1 & 3;
	struct dpi_tx *tx = dpi_tx_new(s, DPI_LAYER_MQTT);
	uint32_t name;

	if (tx == NULL)
		return;
	dpi_tx_put(tx, DPI_MQTT_TYPE, dir, names[type], strlen(names[type]));
	if (type == 0 || (type == 15 && m->version < 5 && m->connect))
		dpi_tx_event(tx, DPI_EV_MQTT_UNASSIGNED, dir);
	if (type == 1) {
		if (m->connect)
			dpi_tx_event(tx, DPI_EV_MQTT_DOUBLE_CONNECT, dir);
		m->connect = true;
		name = len >= 2 ? (uint32_t)(p[0] << 8 | p[1]) : 0;
		m->version = len > name + 2 ? p[name + 2] : 4;
	} else if (type == 2) {
		if (!m->connect)
			dpi_tx_event(tx, DPI_EV_MQTT_MISSING_CONNECT, dir);
		m->connack = true;
	} else if (!m->connect && type != 0) {
		dpi_tx_event(tx, DPI_EV_MQTT_UNINTRODUCED, dir);
	}
	if (qos == 3 && type != 0)
		dpi_tx_event(tx, DPI_EV_MQTT_QOS, dir);
	/* The reason stands behind the flags of a CONNACK, and behind the number of other answers. */
	if ((type == 2 && len >= 2) || (type >= 4 && type <= 7 && len >= 3) ||
	    (type >= 14 && len >= 1)) {
		uint8_t reason = p[type == 2 ? 1 : type >= 14 ? 0 : 2], text[4];
		unsigned int n = 0;

		if (reason >= 100)
			text[n++] = (uint8_t)('0' + reason / 100);
		if (reason >= 10)
			text[n++] = (uint8_t)('0' + reason / 10 % 10);
		text[n++] = (uint8_t)('0' + reason % 10);
		dpi_tx_put(tx, DPI_MQTT_REASON, dir, text, n);
	}
	dpi_tx_done(tx, 0);
	dpi_tx_done(tx, 1);
	tx->touched[!dir] = false;
}

static int
mqtt_open(struct dpi_session *s)
{
	s->state = dpi_calloc(1, sizeof(struct mqtt));
	return s->state != NULL ? 0 : -1;
}

static void
mqtt_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct mqtt *m = s->state;
	struct dpi_pending *p = &m->side[dir];

	(void)end;
	if (m->skip[dir] > 0 && len > 0) {
		uint32_t n = (uint32_t)PK_MIN(m->skip[dir], (uint64_t)len);

		m->skip[dir] -= n;
		bytes += n;
		len -= n;
	}
	if (len == 0 || !dpi_pending_add(p, bytes, len, 2 * PACKET_MAX))
		return;
	while (p->len >= 2) {
		uint32_t n = 0, at = 1, shift = 0;

		do {
			if (at >= p->len || at > 4)
				return;
			n |= (uint32_t)(p->bytes[at] & 0x7f) << shift;
			shift += 7;
		} while (p->bytes[at++] & 0x80);
		if (n > PACKET_MAX) {
			m->skip[dir] = (uint64_t)n + at - p->len;
			p->len = 0;
			return;
		}
		if (p->len < at + n)
			return;
		control_packet(s, m, dir, p->bytes[0], p->bytes + at, n);
		dpi_pending_eat(p, at + n);
	}
}

static void
mqtt_close(struct dpi_session *s)
{
	struct mqtt *m = s->state;

	dpi_free(m->side[0].bytes);
	dpi_free(m->side[1].bytes);
	dpi_free(m);
}

const struct dpi_layer_ops dpi_mqtt_ops = {
	.open = mqtt_open, .bytes = mqtt_bytes, .close = mqtt_close
};
