#pragma once

#include "dpi/apps.h"
#include "dpi/stream.h"

/*
 * App-ID: what a session speaks, from its bytes and never from its port.
 *
 * A session under inspection has a struct dpi_flow, which the caller embeds or takes from a pool of its
 * own.  It is fed each packet with payload, in the order of arrival:
 *
 *      init --> feed ... feed --> verdict other than DPI_PENDING --> fini
 *                    \-> the session ends first --> finish ------------^
 *
 * Every protocol is a candidate at first.  A candidate whose parser finds that the bytes cannot be its
 * protocol is out; one whose parser has seen enough wins.  A parser sees all bytes so far of both
 * directions, so the verdict depends on the bytes and not on how they were cut into segments.  When
 * every candidate is out, or the budget is spent, the session is unknown, for good.
 *
 * What a winner can say about the session (host name, query, fingerprint ...) goes to the caller's sink,
 * during feed, with its place in the stream.  After the verdict a parser may still want bytes to say
 * more (the certificate after the ClientHello); feed then returns DPI_DESCRIBING, and the application
 * is already known.
 *
 * One dpi per lcore.  The memory of a session is its dpi_flow and the blocks its streams hold; fini
 * gives back all of them.
 */
#define DPI_PAST      8  /* datagrams remembered */
#define DPI_PAST_HEAD 60 /* their first bytes */
#define DPI_PAST_ROOM (DPI_PAST_HEAD + 4)
#define DPI_PROTO_MAX 192 /* rows in the table of protocols */

enum dpi_transport {
	DPI_TCP,
	DPI_UDP
};

enum dpi_confidence {
	DPI_DOUBTFUL = 0,
	DPI_LIKELY_SURE, /* well formed, but few bytes say so or one side is silent; nothing else fits */
	DPI_CERTAIN,
};

/* What is said of a session.  Strings are bytes as they came, not terminated and not made harmless. */
enum dpi_field {
	DPI_FIELD_SNI = 0, /* TLS, QUIC, DTLS */
	DPI_FIELD_ALPN,    /* first one offered */
	DPI_FIELD_JA3,     /* MD5, in hexadecimal */
	DPI_FIELD_JA4,
	DPI_FIELD_TLS_VERSION,  /* "1.2" */
	DPI_FIELD_CERT_SUBJECT, /* DER of the Name (RFC 5280 section 4.1.2.6) */
	DPI_FIELD_HTTP_METHOD,
	DPI_FIELD_HTTP_PATH,
	DPI_FIELD_HTTP_HOST,
	DPI_FIELD_HTTP_USER_AGENT,
	DPI_FIELD_HTTP_STATUS,
	DPI_FIELD_DNS_QUERY,  /* "www.example.org" */
	DPI_FIELD_DNS_TYPE,   /* "28" */
	DPI_FIELD_DNS_ANSWER, /* an address, 4 or 16 bytes; one call for each */
	DPI_FIELD_SOFTWARE,   /* banner of SSH, FTP, SMTP ... */
	DPI_FIELD_SERVICE, /* what runs on top: "etcd", "docker", a gRPC service, a DCE/RPC UUID */
	DPI_FIELD_TUNNEL,  /* carries other traffic: "http-connect", "websocket", "socks", "dns" */
	DPI_NB_FIELDS
};

struct dpi_sink {
	/* `offset` is where the bytes lie in the stream or datagram of direction `dir`, or UINT32_MAX
	 * for bytes that were computed.  They are borrowed for the call. */
	void (*field)(void *arg, enum dpi_field field, unsigned int dir, uint32_t offset,
	    const uint8_t *bytes, uint32_t len);
	void *arg;
};

enum dpi_verdict {
	DPI_PENDING = 0, /* feed me */
	DPI_DESCRIBING,  /* identified, and more can be said of it */
	DPI_IDENTIFIED,
	DPI_UNKNOWN, /* no protocol of ours */
	DPI_CONFLICT, /* the segment contradicts what was forwarded: drop it; the verdict is as before */
};

struct dpi_limits {
	uint16_t bytes;    /* in order, of each direction; <= DPI_STREAM_MAX */
	uint16_t packets;  /* with payload, both directions */
	uint8_t datagrams; /* the same for UDP */
};
#define DPI_LIMITS_DEFAULT ((struct dpi_limits){ DPI_STREAM_MAX, 32, 12 })

struct dpi;

/* Protocol state for one lcore.  `blocks` of `len` bytes stay the caller's and back all streams.
 * Context: control thread.  The caller owns *out.  Returns 0, -EINVAL or -ENOMEM. */
int dpi_create(struct dpi **out, void *blocks, size_t len, const struct dpi_limits *limits);
void dpi_destroy(struct dpi *d);

/* A session under inspection. */
struct dpi_flow {
	uint64_t live[2]
	             [DPI_PROTO_MAX / 64]; /* candidates; [1]: with client and server exchanged */
	uint32_t emitted;                  /* 1 << field */
	uint16_t port[2];
	uint8_t transport, verdict, app, confidence;
	uint8_t proto;   /* row that won */
	uint8_t swapped; /* and direction 1 is the client's */
	uint16_t packets, needed;
	uint8_t restarts;
	uint8_t roles_known, ended; /* ended: bit for each direction */
	uint8_t likely;             /* app, when `proto` would have it for want of a better one */
	union {
		struct dpi_stream stream[2];
		struct {
			struct dpi_stream crypto; /* QUIC: the client's handshake */
			uint8_t dcid[20], dcid_len, nb_past;
			uint8_t past_blocks;
			uint32_t version;
			uint32_t past[DPI_PAST * DPI_PAST_ROOM / DPI_BLOCK];
		} udp;
	};
};
_Static_assert(
    sizeof(struct dpi_flow) <= 512, "a session under inspection has 1 KB, blocks and all");

struct dpi_packet {
	const uint8_t *bytes; /* payload */
	uint16_t len;
	uint8_t dir; /* 0: from the side that opened the session, as far as known */
	bool syn, fin;
	uint32_t seq; /* TCP: of the segment, SYN included */
};

/* `port` of direction 0 and 1, host order.  Context: the owning lcore, as all below. */
void dpi_flow_init(struct dpi_flow *f, enum dpi_transport transport, const uint16_t port[2]);

/* Feed a packet; segments without payload too, for their SYN and FIN.  `sink` may be NULL.  After a final
 * verdict nothing changes any more. */
enum dpi_verdict dpi_flow_feed(
    struct dpi *d, struct dpi_flow *f, const struct dpi_packet *p, const struct dpi_sink *sink);

/* No packet will come any more, or none shall be waited for: the final verdict. */
enum dpi_verdict dpi_flow_finish(struct dpi *d, struct dpi_flow *f, const struct dpi_sink *sink);

/* Give back what the session holds in pools.  The verdict can still be read. */
void dpi_flow_fini(struct dpi *d, struct dpi_flow *f);

/* Bytes of pool memory in use. */
size_t dpi_bytes_used(const struct dpi *d);

/* "http"; "unknown" for DPI_APP_UNKNOWN. */
const char *dpi_app_name(enum dpi_app app);
/* DPI_APP_UNKNOWN when there is no such name.  Context: any. */
enum dpi_app dpi_app_find(const char *name);
/* "sni", "http_host" ... */
const char *dpi_field_name(enum dpi_field field);
