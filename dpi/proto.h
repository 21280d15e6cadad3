#pragma once

#include <stdbool.h>
#include <string.h>

#include "dpi/app.h"
#include "lib/wire.h"

/*
 * Between dpi/app.c and the parsers, dpi/proto_*.c.
 *
 * A parser is a pure function of a view.  On TCP it gets all bytes so far of both directions and is called
 * again when there are more; on UDP it gets one datagram at a time, and the heads of those before.
 * Three rules keep verdicts independent of segmentation:
 *   - what a longer view would not change is said as soon as possible, and not before;
 *   - bytes that are not there yet make DPI_MORE, never DPI_NO (a cursor that ran out tells);
 *   - DPI_MATCH rests on bytes that the protocol fixes, at least about 32 bits of them, counting lengths
 *     that agree; fewer are DPI_LIKELY, which wins only when nothing else is left.
 */
enum dpi_match {
	DPI_NO = 0,
	DPI_MORE,   /* can still be it */
	DPI_LIKELY, /* fits, and so could others */
	DPI_MATCH,
};

struct dpi_bytes {
	const uint8_t *at;
	uint32_t len;
};

struct dpi_past {
	uint16_t len; /* of the datagram */
	uint8_t dir;
	uint8_t kept; /* bytes of head */
	uint8_t head[DPI_PAST_HEAD];
};
_Static_assert(sizeof(struct dpi_past) == DPI_PAST_ROOM, "fits its blocks");

struct dpi_view {
	struct dpi_bytes side[2]; /* TCP: client, server.  UDP: [0] is the datagram in hand */
	bool end[2];              /* TCP: no more bytes will come */
	bool last;                /* neither side will say more */
	bool midstream;           /* the beginning was not seen */
	uint8_t dir;              /* UDP: of the datagram.  TCP: which direction is the client's */
	uint16_t port[2];         /* client, server; a hint for wording, no proof */
	uint8_t nb_past;
	const struct dpi_past *past; /* UDP: oldest first */
	uint8_t app;                 /* set by the row; a parser may be more precise */
	/* core's own */
	struct dpi *d;
	struct dpi_flow *f;
	const struct dpi_sink *sink;
	uint32_t emitted;
};

struct dpi_proto {
	enum dpi_app app;
	enum dpi_transport transport;
	/* The first byte of client and server (of any datagram: [0]) lies in one of nb / 2 ranges, each
	 * given by two bytes, from and to.  nb 0: any. */
	struct {
		const char *ranges;
		uint8_t nb;
	} first[2];
	enum dpi_match (*parse)(struct dpi_view *v);
	/* After a match, and again with each packet: say what is to be said.  True when that was all. */
	bool (*describe)(struct dpi_view *v);
};

#define DPI_FIRST(ranges)                  \
	{                                  \
		ranges, sizeof(ranges) - 1 \
	}
#define DPI_ANY         \
	{               \
		NULL, 0 \
	}

/* The families of protocols, each a table in the file of its name (dpi/proto_*.c).  Among parsers that match
 * at the same time the first one wins, so the precise come before the broad. */
struct dpi_family {
	const struct dpi_proto *proto;
	unsigned int nb;
};
// clang-format off
#define DPI_FAMILIES(X) \
	X(tls) X(quic) X(http) X(dns) X(shell) X(mail) X(file) X(sql) X(store) X(queue) X(rpc) \
	X(voice) X(net) X(manage) X(tunnel) X(peer) X(industry) X(desktop)
// clang-format on
#define DPI_FAMILY(name) extern const struct dpi_family dpi_family_##name;
DPI_FAMILIES(DPI_FAMILY)
#undef DPI_FAMILY
#define DPI_FAMILY_OF(name, table) \
	const struct dpi_family dpi_family_##name = { table, PK_COUNT(table) }

/* Tell the sink.  A field is told once per session, DPI_FIELD_DNS_ANSWER once per call of describe.
 * `side` is that of the bytes in v->side, or -1 for bytes from elsewhere. */
void dpi_say(struct dpi_view *v, enum dpi_field field, int side, const void *bytes, size_t len);
bool dpi_said(const struct dpi_view *v, enum dpi_field field);

/* 8 KB for a parser, of the lcore; the next parser takes it over. */
uint8_t *dpi_room(struct dpi_view *v);
struct dpi_crypt;
struct dpi_crypt *dpi_crypt_of(struct dpi_view *v);
int dpi_crypt_create(struct dpi_crypt **out); /* proto_quic.c */
void dpi_crypt_destroy(struct dpi_crypt *c);
struct dpi_pool *dpi_pool_of(struct dpi_view *v);

/* Compare the front of `b` with a literal: DPI_NO, DPI_MORE when all there is agrees, DPI_MATCH. */
static inline enum dpi_match
dpi_front(struct dpi_bytes b, const void *literal, size_t len)
{
	if (memcmp(b.at, literal, PK_MIN((size_t)b.len, len)) != 0)
		return DPI_NO;
	return b.len >= len ? DPI_MATCH : DPI_MORE;
}
#define DPI_FRONT(b, literal) dpi_front(b, literal, sizeof(literal) - 1)

/* The same without regard to case; `literal` is in upper case. */
static inline enum dpi_match
dpi_front_nocase(struct dpi_bytes b, const char *literal, size_t len)
{
	for (size_t i = 0; i < b.len && i < len; i++) {
		uint8_t c = b.at[i];

		if (c >= 'a' && c <= 'z')
			c = (uint8_t)(c - 32);
		if (c != (uint8_t)literal[i])
			return DPI_NO;
	}
	return b.len >= len ? DPI_MATCH : DPI_MORE;
}
#define DPI_FRONT_NOCASE(b, literal) dpi_front_nocase(b, literal, sizeof(literal) - 1)

static inline bool
dpi_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static inline bool
dpi_is_alpha(uint8_t c)
{
	return (uint8_t)((c | 32) - 'a') < 26;
}

static inline bool
dpi_is_print(uint8_t c)
{
	return c >= 0x20 && c < 0x7f;
}

static inline uint16_t
dpi_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
dpi_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint16_t
dpi_le16(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static inline uint32_t
dpi_le32(const uint8_t *p)
{
	return __builtin_bswap32(dpi_be32(p));
}

static inline struct pk_wire
dpi_cursor(struct dpi_bytes b)
{
	return pk_wire_from(b.at, b.len);
}

/* The first line, without its CR LF or LF; its len is UINT32_MAX while no end is in sight.  *next: where the
 * following one begins. */
struct dpi_bytes dpi_line(struct dpi_bytes b, uint32_t *next);
/* Whether all of it is printable ASCII or tab. */
bool dpi_text(struct dpi_bytes b);
/* Find a literal; NULL when there is none. */
const uint8_t *dpi_find(struct dpi_bytes b, const char *literal, size_t len);
bool dpi_equal_nocase(const uint8_t *a, const char *upper, size_t len);

/* ASN.1 BER (X.690): read tag and definite length; *len is that of the value.  0 on failure; the cursor
 * stays failed when bytes were lacking. */
uint8_t dpi_ber(struct pk_wire *w, uint32_t *len);

/* ---- shared between parsers ---- */

/* A ClientHello body (RFC 8446 section 4.1.2, from legacy_version on) of `len` bytes at `at`; whether it is
 * well formed.  `proto` is JA4's letter: 't', 'q', 'd'.  With v NULL nothing is said. */
bool dpi_client_hello(struct dpi_view *v, int side, const uint8_t *at, uint32_t len, char proto);
/* A Certificate message body (RFC 5246 section 7.4.2): says the subject of the first one. */
void dpi_certificate(struct dpi_view *v, int side, const uint8_t *at, uint32_t len);
/* A DNS message; how sure: DPI_NO, DPI_LIKELY, DPI_MATCH.  multicast: rules of RFC 6762. */
enum dpi_match dpi_dns_message(struct dpi_view *v, int side, struct dpi_bytes b, bool say);
/* A SIP or RTSP or HTTP style start line of the given protocol name. */
bool dpi_start_line(struct dpi_bytes line, const char *proto, size_t len);
/* A STUN message and nothing else. */
bool dpi_is_stun(struct dpi_bytes b);
/* Well-formed SMB1/2/3 message of at least a header. */
bool dpi_smb_header(const uint8_t *p, uint32_t len);
