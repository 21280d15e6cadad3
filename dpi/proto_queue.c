/* Message brokers: Kafka, AMQP, MQTT, NATS, STOMP, OpenWire, ZeroMQ, Pulsar, RocketMQ. */
#include "dpi/proto.h"

/* Kafka request: length, API key, version, correlation, client id (KIP-482: null or a string). */
static enum dpi_match
kafka_request(struct dpi_bytes b, uint32_t *correlation)
{
	uint32_t len;
	uint16_t key, version, id;

	if (b.len < 14)
		return (b.len >= 1 && b.at[0] > 6) || (b.len >= 6 && dpi_be16(b.at + 4) > 92) ||
		        (b.len >= 8 && dpi_be16(b.at + 6) > 20)
		    ? DPI_NO
		    : DPI_MORE;
	len = dpi_be32(b.at);
	key = dpi_be16(b.at + 4);
	version = dpi_be16(b.at + 6);
	*correlation = dpi_be32(b.at + 8);
	id = dpi_be16(b.at + 12);
	if (len < 10 || len > 1 << 26 || key > 92 || version > 20 || *correlation > 0x7fffffff)
		return DPI_NO;
	if (id == 0xffff)
		return DPI_LIKELY;
	if (id == 0 || id > 255 || 10u + id > len)
		return DPI_NO;
	for (uint32_t i = 0; i < id && 14 + i < b.len; i++)
		if (!dpi_is_print(b.at[14 + i]))
			return DPI_NO;
	return b.len >= 14u + id ? DPI_LIKELY : DPI_MORE;
}

static enum dpi_match
parse_kafka(struct dpi_view *v)
{
	struct dpi_bytes s = v->side[1], c = v->side[0];
	uint32_t correlation, len;
	enum dpi_match m = kafka_request(c, &correlation);

	if (m == DPI_NO)
		return DPI_NO;
	if (s.len >= 4 && (dpi_be32(s.at) < 4 || dpi_be32(s.at) > 1 << 26))
		return DPI_NO;
	if (m != DPI_LIKELY)
		return DPI_MORE;
	/* The whole of a first request with a name is rarely anything else. */
	len = dpi_be32(c.at);
	if (s.len < 8)
		return dpi_be16(c.at + 12) != 0xffff && c.len >= 4 + len && dpi_be16(c.at + 12) >= 4
		    ? DPI_LIKELY
		    : DPI_MORE;
	return dpi_be32(s.at + 4) == correlation ? DPI_MATCH : DPI_NO;
}

/* AMQP 0-9-1 and 1.0: "AMQP" and four bytes of version; 0-9-1 frames end with 0xce. */
static enum dpi_match
amqp_frame(struct dpi_bytes b)
{
	uint32_t len;

	if (b.len < 8)
		return b.len > 0 && (b.at[0] == 0 || b.at[0] > 8) ? DPI_NO : DPI_MORE;
	len = dpi_be32(b.at + 3);
	if (b.at[0] < 1 || (b.at[0] > 3 && b.at[0] != 8) || len > 1 << 17 ||
	    (b.at[0] == 1 && len < 4))
		return DPI_NO;
	if (b.len < 8 + len)
		return DPI_MORE;
	return b.at[7 + len] == 0xce ? DPI_MATCH : DPI_NO;
}

static enum dpi_match
parse_amqp(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];
	enum dpi_match m = c.len > 0 ? DPI_FRONT(c, "AMQP") : DPI_MORE, f;

	if (m == DPI_MATCH)
		return c.len < 8 ? DPI_MORE : c.at[4] <= 3 && c.at[5] <= 1 ? DPI_MATCH : DPI_NO;
	if (m == DPI_MORE && c.len > 0)
		return m;
	if (!v->midstream)
		return c.len > 0 ? DPI_NO : DPI_MORE;
	/* In the middle: a method or heartbeat frame that ends where it should. */
	f = c.len > 0 ? amqp_frame(c) : DPI_MORE;
	if (f == DPI_NO)
		return DPI_NO;
	if (f == DPI_MATCH && c.at[0] == 1 && dpi_be16(c.at + 7) >= 10 && dpi_be16(c.at + 7) <= 90)
		return DPI_MATCH;
	m = s.len > 0 ? amqp_frame(s) : DPI_MORE;
	if (m == DPI_NO)
		return DPI_NO;
	if (m == DPI_MATCH && s.at[0] == 1 && dpi_be16(s.at + 7) >= 10 && dpi_be16(s.at + 7) <= 90)
		return DPI_MATCH;
	return f == DPI_MATCH && m == DPI_MATCH ? DPI_MATCH : DPI_MORE;
}

/* MQTT 3.1, 3.1.1 and 5: CONNECT names its protocol. */
static enum dpi_match
mqtt_packet(struct dpi_bytes b, uint32_t *len, uint32_t *head)
{
	uint32_t shift = 0;

	*len = 0;
	for (*head = 1; *head <= 4; (*head)++) {
		if (b.len <= *head)
			return DPI_MORE;
		*len |= (uint32_t)(b.at[*head] & 0x7f) << shift;
		shift += 7;
		if ((b.at[*head] & 0x80) == 0) {
			(*head)++;
			return DPI_MATCH;
		}
	}
	return DPI_NO;
}

static enum dpi_match
parse_mqtt(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1], rest;
	uint32_t len, head;
	enum dpi_match m;

	if (b.len == 0)
		return s.len > 0 && s.at[0] >> 4 != 2 && !v->midstream ? DPI_NO : DPI_MORE;
	if (v->midstream && (b.at[0] == 0xc0 || b.at[0] == 0x82)) {
		/* PINGREQ and PINGRESP, SUBSCRIBE and SUBACK with its identifier. */
		if (b.at[0] == 0xc0)
			return b.len >= 2 && b.at[1] != 0     ? DPI_NO
			    : b.len < 2 || s.len < 2          ? DPI_MORE
			    : s.at[0] == 0xd0 && s.at[1] == 0 ? DPI_MATCH
			                                      : DPI_NO;
		if (b.len < 4 || s.len < 5)
			return DPI_MORE;
		return s.at[0] == 0x90 && s.at[1] >= 3 && memcmp(s.at + 2, b.at + 2, 2) == 0 &&
		        b.at[4] == 0
		    ? DPI_MATCH
		    : DPI_NO;
	}
	if (b.at[0] != 0x10) {
		/* In the middle: a PUBLISH with a topic in print, and its acknowledgement. */
		uint32_t topic;

		if (!v->midstream || b.at[0] >> 4 != 3 ||
		    mqtt_packet(b, &len, &head) != DPI_MATCH || b.len < head + 3)
			return v->midstream && b.at[0] >> 4 == 3 ? DPI_MORE : DPI_NO;
		topic = dpi_be16(b.at + head);
		if (topic < 1 || topic + 4 > len || topic > 256 || b.len < head + len)
			return DPI_NO;
		for (uint32_t i = 0; i < topic; i++)
			if (!dpi_is_print(b.at[head + 2 + i]))
				return DPI_NO;
		if ((b.at[0] & 6) == 2 && s.len >= 4)
			return s.at[0] == 0x40 && s.at[1] == 2 &&
			        memcmp(s.at + 2, b.at + head + 2 + topic, 2) == 0
			    ? DPI_MATCH
			    : DPI_NO;
		return b.len == head + len ? DPI_LIKELY : DPI_MORE;
	}
	m = mqtt_packet(b, &len, &head);
	if (m != DPI_MATCH)
		return m;
	if (len < 10)
		return DPI_NO;
	rest = (struct dpi_bytes){ b.at + head, b.len - head };
	m = DPI_FRONT(rest, "\0\4MQTT");
	return m != DPI_NO ? m : DPI_FRONT(rest, "\0\6MQIsdp");
}

/* NATS: the server sends INFO {...}, the client CONNECT {...}; verbs in lines. */
static enum dpi_match
parse_nats(struct dpi_view *v)
{
	static const char *const verbs[] = { "CONNECT {", "PUB ", "SUB ", "HPUB ", "UNSUB ",
		"INFO {", "MSG ", "HMSG ", "PING\r\n", "PONG\r\n", "+OK\r\n", "-ERR " };
	for (int i = 0; i < 2; i++) {
		bool can = v->side[i].len == 0;
		uint32_t next;
		struct dpi_bytes line = dpi_line(v->side[i], &next);

		for (size_t n = 0; n < PK_COUNT(verbs); n++) {
			enum dpi_match m = dpi_front_nocase(v->side[i], verbs[n], strlen(verbs[n]));

			can |= m != DPI_NO;
			if (m == DPI_MATCH && line.len != UINT32_MAX) {
				struct dpi_bytes rest = { v->side[i].at + next,
					v->side[i].len - next };

				/* INFO tells the server's id; PUB and MSG are followed by as many bytes as they say. */
				if (n == 5 && dpi_find(line, "\"server_id\"", 11) != NULL)
					return DPI_MATCH;
				if (n == 0 && dpi_find(line, "\"verbose\"", 9) != NULL)
					return DPI_MATCH;
				if ((n == 1 || n == 6) && line.len > 6) {
					const uint8_t *number = memrchr(line.at, ' ', line.len);
					uint32_t want = 0;

					for (number++;
					     number < line.at + line.len && dpi_is_digit(*number);
					     number++)
						want = PK_MIN(10 * want + *number - '0', 1u << 20);
					if (number != line.at + line.len)
						return DPI_NO;
					if (rest.len >= want + 2)
						return memcmp(rest.at + want, "\r\n", 2) == 0
						    ? DPI_MATCH
						    : DPI_NO;
				}
			}
		}
		if (!can)
			return DPI_NO;
	}
	return DPI_MORE;
}

/* STOMP 1.0 to 1.2: a command line, headers with colons, a NUL. */
static enum dpi_match
parse_stomp(struct dpi_view *v)
{
	static const char *const verbs[] = { "CONNECT", "STOMP", "CONNECTED", "SEND", "SUBSCRIBE",
		"MESSAGE", "RECEIPT", "ERROR", "ACK", "UNSUBSCRIBE" };
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i], line;
		uint32_t next = 0, second = 0;
		bool known = false;

		if (b.len == 0)
			continue;
		line = dpi_line(b, &next);
		if (line.len == UINT32_MAX) {
			if (b.len > 12)
				return DPI_NO;
			continue;
		}
		for (size_t n = 0; n < PK_COUNT(verbs); n++)
			known |= line.len == strlen(verbs[n]) &&
			    memcmp(line.at, verbs[n], line.len) == 0;
		if (!known)
			return DPI_NO;
		line = dpi_line((struct dpi_bytes){ b.at + next, b.len - next }, &second);
		if (line.len != UINT32_MAX && line.len > 0 && dpi_find(line, ":", 1) == NULL)
			return DPI_NO;
		if (line.len != UINT32_MAX && memchr(b.at, 0, b.len) != NULL)
			best = DPI_MATCH;
	}
	return best;
}

/* ActiveMQ OpenWire: length, WIREFORMAT_INFO (1), "ActiveMQ". */
static enum dpi_match
parse_openwire(struct dpi_view *v)
{
	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len >= 13 && b.at[4] == 1 && memcmp(b.at + 5, "ActiveMQ", 8) == 0)
			return DPI_MATCH;
		/* Joined later: commands of a known type, and a length that fits the bytes there are. */
		if (b.len >= 5 && !v->midstream && b.at[4] != 1)
			return DPI_NO;
		if (b.len >= 9 && (dpi_be32(b.at) > 1 << 24 || b.at[4] > 125))
			return DPI_NO;
	}
	if (v->midstream && v->side[0].len >= 64 && v->side[1].len >= 10) {
		/* A command that wants an answer gets a RESPONSE (30) with its id. */
		struct dpi_bytes c = v->side[0], s = v->side[1];

		if (s.at[4] == 30 && dpi_be32(s.at) == s.len - 4 &&
		    (dpi_find(c, "ID:", 3) != NULL || dpi_find(c, "queue://", 8) != NULL))
			return DPI_MATCH;
	}
	return v->side[0].len > 4096 ? DPI_NO : DPI_MORE;
}

/* ZMTP 2.0 to 3.1: signature 0xff, eight bytes, 0x7f; version; in 3.x the name of a mechanism. */
static enum dpi_match
parse_zeromq(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];

		if (b.len > 0 && b.at[0] != 0xff)
			return DPI_NO;
		if (b.len < 11)
			continue;
		if (b.at[9] != 0x7f || b.at[10] > 3)
			return DPI_NO;
		best = PK_MAX(best, DPI_LIKELY);
		if (b.at[10] < 3) {
			best = memcmp(b.at + 1, "\0\0\0\0\0\0\0", 7) == 0 ? DPI_MATCH : best;
		} else if (b.len >= 16) {
			if (memcmp(b.at + 12, "NULL", 4) != 0 &&
			    memcmp(b.at + 12, "PLAI", 4) != 0 &&
			    memcmp(b.at + 12, "CURV", 4) != 0 && memcmp(b.at + 12, "GSSA", 4) != 0)
				return DPI_NO;
			best = DPI_MATCH;
		}
	}
	return best;
}

/* Pulsar: total size, command size, protobuf whose field 1 is the type; CONNECT is 2, CONNECTED 3. */
static enum dpi_match
pulsar_side(struct dpi_bytes b)
{
	uint32_t total, command;

	if (b.len < 12)
		return b.len > 8 && b.at[8] != 8 ? DPI_NO : DPI_MORE;
	total = dpi_be32(b.at);
	command = dpi_be32(b.at + 4);
	if (total < 6 || total > 5 << 20 || command < 2 || command + 4 > total || b.at[8] != 8 ||
	    b.at[9] < 2 || b.at[9] > 80)
		return DPI_NO;
	/* The second field is the message of that very type: its tag is type << 3 | 2. */
	if (b.at[9] < 16)
		return b.at[10] == (b.at[9] << 3 | 2) || command == 2 ? DPI_MATCH : DPI_NO;
	return b.at[10] == (uint8_t)(((b.at[9] << 3 | 2) & 0x7f) | 0x80) && b.at[11] == b.at[9] >> 4
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_pulsar(struct dpi_view *v)
{
	enum dpi_match c = pulsar_side(v->side[0]), s = pulsar_side(v->side[1]);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

/* RocketMQ remoting: total, a byte for the serialisation and three of header length, then JSON or binary. */
static enum dpi_match
rocketmq_side(struct dpi_bytes b)
{
	uint32_t total, head;

	if (b.len < 9)
		return b.len > 4 && b.at[4] > 1 ? DPI_NO : DPI_MORE;
	total = dpi_be32(b.at);
	head = dpi_be32(b.at + 4) & 0xffffff;
	if (b.at[4] > 1 || head + 4 > total || total > 1 << 24 || head < 20)
		return DPI_NO;
	if (b.at[4] == 0) {
		if (b.at[8] != '{')
			return DPI_NO;
		if (dpi_find((struct dpi_bytes){ b.at + 8, PK_MIN(b.len - 8, head) }, "\"opaque\"",
		        8) != NULL ||
		    dpi_find((struct dpi_bytes){ b.at + 8, PK_MIN(b.len - 8, head) },
		        "\"serializeTypeCurrentRPC\"", 25) != NULL)
			return DPI_MATCH;
		return b.len >= 8 + head ? DPI_NO : DPI_MORE;
	}
	/* code(2) language(1) version(2) opaque(4) flag(4) remark(4) ... */
	if (b.len < 29)
		return DPI_MORE;
	return b.at[10] <= 12 && dpi_be32(b.at + 17) <= 3 && dpi_be32(b.at + 21) < head ? DPI_MATCH
	                                                                                : DPI_NO;
}

static enum dpi_match
parse_rocketmq(struct dpi_view *v)
{
	enum dpi_match c = rocketmq_side(v->side[0]), s = rocketmq_side(v->side[1]);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

static const struct dpi_proto table[] = {
	{ DPI_APP_AMQP, DPI_TCP, { DPI_FIRST("AA\1\10"), DPI_FIRST("AA\0\10") }, parse_amqp, NULL },
	{ DPI_APP_MQTT, DPI_TCP, { DPI_FIRST("\x10\x3f\x82\x82\xc0\xc0"), DPI_FIRST("\x20\xd0") },
	    parse_mqtt, NULL },
	{ DPI_APP_NATS, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_nats, NULL },
	{ DPI_APP_STOMP, DPI_TCP, { DPI_FIRST("AZ"), DPI_FIRST("AZ") }, parse_stomp, NULL },
	{ DPI_APP_OPENWIRE, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_openwire,
	    NULL },
	{ DPI_APP_ZEROMQ, DPI_TCP, { DPI_FIRST("\xff\xff"), DPI_FIRST("\xff\xff") }, parse_zeromq,
	    NULL },
	{ DPI_APP_PULSAR, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_pulsar, NULL },
	{ DPI_APP_ROCKETMQ, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_rocketmq,
	    NULL },
	{ DPI_APP_KAFKA, DPI_TCP, { DPI_FIRST("\0\3"), DPI_FIRST("\0\3") }, parse_kafka, NULL },
};
DPI_FAMILY_OF(queue, table);
