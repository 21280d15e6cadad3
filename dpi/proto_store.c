/* Stores of other kinds: Redis, memcached, MongoDB, Cassandra, ZooKeeper. */
#include "dpi/proto.h"

/* RESP (redis.io, "Serialization protocol"): requests are arrays of bulk strings. */
static enum dpi_match
resp(struct dpi_bytes b, bool request)
{
	uint32_t next, number = 0, i;
	struct dpi_bytes line = dpi_line(b, &next);

	if (b.len == 0)
		return DPI_MORE;
	if (memchr(request ? "*" : "*$+-:_#,(!=%~>|", b.at[0], request ? 1 : 15) == NULL)
		return DPI_NO;
	if (b.at[0] == '+' || b.at[0] == '-') {
		if (line.len == UINT32_MAX)
			return b.len > 512 ? DPI_NO : DPI_MORE;
		return dpi_text(line) && b.at[line.len] == '\r' ? DPI_LIKELY : DPI_NO;
	}
	for (i = 1; i < b.len && (dpi_is_digit(b.at[i]) || (i == 1 && b.at[i] == '-')); i++)
		number = PK_MIN(10 * number + b.at[i] - '0', 1u << 24);
	if (i == b.len)
		return i < 12 ? DPI_MORE : DPI_NO;
	if (i == 1 || b.at[i] != '\r')
		return b.at[0] == ',' || b.at[0] == '#' ? DPI_LIKELY : DPI_NO;
	if (b.len < i + 2)
		return DPI_MORE;
	if (b.at[i + 1] != '\n')
		return DPI_NO;
	if (b.at[0] == ':' || number == 0)
		return DPI_LIKELY;
	i += 2;
	if (memchr("*|%~>", b.at[0], 5) == NULL)
		return b.at[0] == '$' && b.len > i + number
		    ? (b.at[i + number] == '\r' ? DPI_MATCH : DPI_NO)
		    : DPI_LIKELY;
	/* "*2\r\n$4\r\n": the first element. */
	if (b.len < i + 4)
		return b.len > i && memchr("$:+-*", b.at[i], 5) == NULL ? DPI_NO : DPI_LIKELY;
	if (memchr(request ? "$" : "$:+-*", b.at[i], request ? 1 : 5) == NULL)
		return DPI_NO;
	if (b.at[i] == '+' || b.at[i] == '-')
		return DPI_MATCH;
	while (++i < b.len && dpi_is_digit(b.at[i]))
		;
	return i < b.len && b.at[i] == '\r' ? DPI_MATCH : i == b.len ? DPI_LIKELY : DPI_NO;
}

static enum dpi_match
parse_redis(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0];
	enum dpi_match m, s;
	uint32_t next;
	struct dpi_bytes line;

	/* Empty lines before a request are passed over. */
	while (c.len >= 2 && c.at[0] == '\r' && c.at[1] == '\n')
		c = (struct dpi_bytes){ c.at + 2, c.len - 2 };
	if (c.len == 1 && c.at[0] == '\r')
		return DPI_MORE;
	if (c.len > 0 && c.at[0] != '*') {
		/* Inline commands, as people type them; the answer has to be RESP. */
		static const char *const verbs[] = { "PING", "INFO", "AUTH ", "GET ", "SET ",
			"COMMAND", "QUIT", "CONFIG ", "KEYS ", "SELECT ", "SYNC", "PSYNC ",
			"MONITOR", "PUBLISH ", "SUBSCRIBE ", "PSUBSCRIBE ", "EXISTS ", "DEL ",
			"INCR ", "DECR ", "LPUSH ", "RPUSH ", "HSET ", "HGET ", "HGETALL ",
			"EXPIRE ", "TTL ", "FLUSHALL", "DBSIZE", "CLIENT ", "ECHO " };
		bool known = false;

		line = dpi_line(c, &next);
		for (size_t i = 0; i < PK_COUNT(verbs); i++)
			known |= dpi_front_nocase(c, verbs[i], strlen(verbs[i])) != DPI_NO;
		if (!known &&
		    (line.len == UINT32_MAX ? c.len > 64 || !dpi_is_alpha(c.at[0])
		                            : !dpi_text(line)))
			return DPI_NO;
		if (line.len == UINT32_MAX || v->side[1].len < 4)
			return DPI_MORE;
		if (!known) /* of a module; the answer has to be beyond doubt */
			return memchr("*|>", v->side[1].at[0], 3) != NULL ? resp(v->side[1], false)
			                                                  : DPI_NO;
		if (memchr("$*:", v->side[1].at[0], 3) != NULL) {
			/* A whole line was asked, and an answer of the form came. */
			m = resp(v->side[1], false);
			return m == DPI_LIKELY && c.len == next && c.at[line.len] == '\r'
			    ? DPI_MATCH
			    : m;
		}
		m = DPI_FRONT(v->side[1], "+PONG\r\n");
		s = DPI_FRONT(v->side[1], "-NOAUTH");
		m = PK_MAX(m, s);
		s = DPI_FRONT(v->side[1], "-ERR unknown command");
		return PK_MAX(m, s);
	}
	m = resp(c, true);
	if (m == DPI_NO || m == DPI_MATCH)
		return m;
	s = resp(v->side[1], false);
	if (s == DPI_NO)
		return DPI_NO;
	return m >= DPI_LIKELY && s >= DPI_LIKELY ? DPI_MATCH
	    : c.len == 0 && s == DPI_LIKELY       ? DPI_MORE
	                                          : PK_MAX(m, s);
}

/* memcached, doc/protocol.txt and doc/protocol-binary.txt. */
static enum dpi_match
memcached_text(struct dpi_bytes c, struct dpi_bytes s)
{
	static const char *const verbs[] = { "get ", "gets ", "set ", "add ", "replace ", "append ",
		"prepend ", "cas ", "delete ", "incr ", "decr ", "touch ", "stats", "version",
		"flush_all", "verbosity ", "gat ", "mg ", "ms " };
	static const char *const answers[] = { "STORED\r\n", "NOT_STORED\r\n", "VALUE ", "END\r\n",
		"STAT ", "VERSION ", "DELETED\r\n", "NOT_FOUND\r\n", "EXISTS\r\n", "TOUCHED\r\n",
		"CLIENT_ERROR ", "SERVER_ERROR ", "EN\r\n", "HD\r\n", "VA " };
	bool verb = false, can = false;
	uint32_t next = 0;
	struct dpi_bytes line = dpi_line(c, &next);

	for (size_t i = 0; i < PK_COUNT(verbs); i++) {
		enum dpi_match m = dpi_front(c, verbs[i], strlen(verbs[i]));

		verb |= m == DPI_MATCH;
		can |= m == DPI_MORE;
	}
	if (!verb)
		return can ? DPI_MORE : DPI_NO;
	if (line.len == UINT32_MAX)
		return c.len > 300 ? DPI_NO : DPI_MORE;
	if (c.at[line.len] != '\r' || !dpi_text(line))
		return DPI_NO;
	/* "set key flags exptime bytes": the value follows, of that length. */
	if (s.len == 0) {
		const uint8_t *number = memrchr(c.at, ' ', line.len);
		uint32_t n = 0;

		if (c.at[0] != 's' || c.at[1] != 'e' || number == NULL)
			return DPI_LIKELY;
		while (++number < c.at + line.len && dpi_is_digit(*number))
			n = PK_MIN(10 * n + *number - '0', 1u << 20);
		return c.len >= next + n + 2 && c.at[next + n] == '\r' ? DPI_MATCH : DPI_LIKELY;
	}
	can = false;
	for (size_t i = 0; i < PK_COUNT(answers); i++) {
		enum dpi_match m = dpi_front(s, answers[i], strlen(answers[i]));

		if (m == DPI_MATCH)
			return m;
		can |= m == DPI_MORE;
	}
	return can ? DPI_LIKELY : DPI_NO;
}

static enum dpi_match
memcached_binary(struct dpi_bytes b, uint8_t magic)
{
	if (b.len == 0)
		return DPI_MORE;
	if (b.at[0] != magic)
		return DPI_NO;
	if (b.len < 24)
		return b.len > 5 && b.at[5] != 0 ? DPI_NO : DPI_MORE;
	/* Extras and key lie within the body. */
	if (b.at[1] > 0x30 || b.at[5] != 0 || b.at[4] > 20 || dpi_be16(b.at + 2) > 250 ||
	    b.at[4] + dpi_be16(b.at + 2) > dpi_be32(b.at + 8) || dpi_be32(b.at + 8) >= 1 << 24)
		return DPI_NO;
	if (magic == 0x81) /* status; what was stored has a version */
		return dpi_be16(b.at + 6) <= 0x86 ? DPI_LIKELY : DPI_NO;
	if (b.at[6] != 0)
		return DPI_NO;
	/* All name a key but quit, flush, no-op, version, statistics and those of SASL. */
	switch (b.at[1]) {
	case 0x07:
	case 0x08:
	case 0x0a:
	case 0x0b:
	case 0x10:
	case 0x17:
	case 0x18:
	case 0x1b:
	case 0x20:
		return DPI_LIKELY;
	default:
		return dpi_be16(b.at + 2) > 0 ? DPI_MATCH : DPI_NO;
	}
}

static enum dpi_match
parse_memcached(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];

	if ((c.len > 0 && c.at[0] == 0x80) || (s.len > 0 && s.at[0] == 0x81)) {
		enum dpi_match mc = memcached_binary(c, 0x80), ms = memcached_binary(s, 0x81);

		if (mc == DPI_LIKELY && ms == DPI_LIKELY)
			return c.at[1] == s.at[1] ? DPI_MATCH : DPI_LIKELY;
		return mc == DPI_NO || ms == DPI_NO ? DPI_NO : PK_MAX(mc, ms);
	}
	if (c.len == 0 && s.len > 0) {
		if (!v->midstream)
			return DPI_NO;
		return DPI_FRONT(s, "STORED\r\n") == DPI_MATCH ||
		        DPI_FRONT(s, "VALUE ") == DPI_MATCH
		    ? DPI_LIKELY
		    : DPI_NO;
	}
	return memcached_text(c, s);
}

/* Over UDP a header of eight bytes comes first: request, number, of how many, 0. */
static enum dpi_match
parse_memcached_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], text;

	if (b.len < 12 || dpi_be16(b.at + 4) == 0 || dpi_be16(b.at + 2) >= dpi_be16(b.at + 4) ||
	    dpi_be16(b.at + 6) != 0)
		return DPI_NO;
	text = (struct dpi_bytes){ b.at + 8, b.len - 8 };
	return DPI_FRONT(text, "STAT ") == DPI_MATCH || DPI_FRONT(text, "VALUE ") == DPI_MATCH ||
	        DPI_FRONT(text, "stats\r\n") == DPI_MATCH || DPI_FRONT(text, "get ") == DPI_MATCH ||
	        DPI_FRONT(text, "gets ") == DPI_MATCH || DPI_FRONT(text, "END\r\n") == DPI_MATCH ||
	        DPI_FRONT(text, "version\r\n") == DPI_MATCH ||
	        DPI_FRONT(text, "VERSION ") == DPI_MATCH
	    ? DPI_MATCH
	    : DPI_NO;
}

/* MongoDB wire protocol: length, request, response to, opcode; little-endian. */
static enum dpi_match
mongo_side(struct dpi_bytes b)
{
	uint32_t len, op;

	if (b.len < 16)
		return b.len >= 4 && (dpi_le32(b.at) < 20 || dpi_le32(b.at) > 48000000) ? DPI_NO
		                                                                        : DPI_MORE;
	len = dpi_le32(b.at);
	op = dpi_le32(b.at + 12);
	if (len < 20 || len > 48000000)
		return DPI_NO;
	return op == 1 || (op >= 2001 && op <= 2007 && op != 2003) || (op >= 2010 && op <= 2013)
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_mongodb(struct dpi_view *v)
{
	enum dpi_match c = mongo_side(v->side[0]), s = mongo_side(v->side[1]);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	/* OP_REPLY is a small number: ask for the other side, too. */
	if (c == DPI_MATCH && dpi_le32(v->side[0].at + 12) > 2000)
		return DPI_MATCH;
	return c == DPI_MATCH && s == DPI_MATCH                     ? DPI_MATCH
	    : s == DPI_MATCH && dpi_le32(v->side[1].at + 12) > 2000 ? DPI_MATCH
	    : c == DPI_MATCH || s == DPI_MATCH                      ? DPI_LIKELY
	                                                            : DPI_MORE;
}

/* CQL native protocol v3 to v5 (v1, v2 with a shorter header): version, flags, stream, opcode, length. */
static enum dpi_match
cql_side(struct dpi_bytes b, bool response)
{
	uint8_t version;
	uint32_t off;

	if (b.len == 0)
		return DPI_MORE;
	version = b.at[0] & 0x7f;
	if (((b.at[0] & 0x80) != 0) != response || version < 1 || version > 6)
		return DPI_NO;
	off = version >= 3 ? 4 : 3;
	if (b.len < off + 5)
		return DPI_MORE;
	if ((b.at[1] & 0xe0) != 0 || b.at[off] > 0x10 || dpi_be32(b.at + off + 1) > 1 << 24)
		return DPI_NO;
	/* A connection opens with STARTUP or OPTIONS, answered by READY, AUTHENTICATE, SUPPORTED or ERROR. */
	if (!response) {
		if (b.at[off] == 0x05)
			return dpi_be32(b.at + off + 1) == 0 ? DPI_LIKELY : DPI_NO;
		if (b.at[off] != 0x01)
			return b.at[off] == 0x07 || (b.at[off] >= 0x09 && b.at[off] <= 0x0b) ||
			        b.at[off] == 0x0d || b.at[off] == 0x0f
			    ? DPI_LIKELY
			    : DPI_NO;
		if (b.len < off + 5 + 15)
			return DPI_MORE;
		return dpi_find((struct dpi_bytes){ b.at + off + 5, PK_MIN(b.len - off - 5, 200u) },
		           "CQL_VERSION", 11) != NULL
		    ? DPI_MATCH
		    : DPI_NO;
	}
	return b.at[off] == 2 || b.at[off] == 3 || b.at[off] == 6 || b.at[off] == 8 ||
	        b.at[off] == 0 || b.at[off] == 0x0c || b.at[off] == 0x0e || b.at[off] == 0x10
	    ? DPI_LIKELY
	    : DPI_NO;
}

static enum dpi_match
parse_cassandra(struct dpi_view *v)
{
	enum dpi_match c = cql_side(v->side[0], false), s = cql_side(v->side[1], true);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	if (c == DPI_LIKELY && s == DPI_LIKELY)
		return DPI_MATCH;
	return PK_MAX(c, s) == DPI_LIKELY ? DPI_MORE : PK_MAX(c, s);
}

/* ZooKeeper: ConnectRequest of 44 or 45 bytes, version 0, password of 16; or a word of four letters. */
static enum dpi_match
parse_zookeeper(struct dpi_view *v)
{
	struct dpi_bytes c = v->side[0], s = v->side[1];
	uint32_t len;

	if (c.len >= 4 && dpi_is_alpha(c.at[0])) {
		if (c.len > 6 ||
		    (memcmp(c.at, "ruok", 4) != 0 && memcmp(c.at, "mntr", 4) != 0 &&
		        memcmp(c.at, "stat", 4) != 0 && memcmp(c.at, "srvr", 4) != 0))
			return DPI_NO;
		if (s.len < 4)
			return DPI_MORE;
		return DPI_FRONT(s, "imok") == DPI_MATCH ||
		        DPI_FRONT(s, "Zookeeper version") == DPI_MATCH ||
		        DPI_FRONT(s, "zk_version") == DPI_MATCH
		    ? DPI_MATCH
		    : DPI_NO;
	}
	if (c.len < 4)
		return DPI_MORE;
	len = dpi_be32(c.at);
	if (len != 44 && len != 45)
		return DPI_NO;
	if (c.len < 4 + len)
		return c.len >= 8 && dpi_be32(c.at + 4) != 0 ? DPI_NO : DPI_MORE;
	return dpi_be32(c.at + 4) == 0 && dpi_be32(c.at + 28) == 16 ? DPI_MATCH : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_REDIS, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_redis, NULL },
	{ DPI_APP_MEMCACHED, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_memcached, NULL },
	{ DPI_APP_MEMCACHED, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_memcached_udp, NULL },
	{ DPI_APP_MONGODB, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_mongodb, NULL },
	{ DPI_APP_CASSANDRA, DPI_TCP, { DPI_FIRST("\1\6"), DPI_FIRST("\x81\x86") }, parse_cassandra,
	    NULL },
	{ DPI_APP_ZOOKEEPER, DPI_TCP, { DPI_FIRST("\0\0mmrrss"), DPI_ANY }, parse_zookeeper, NULL },
};
DPI_FAMILY_OF(store, table);
