#pragma once

#include "dpi/assemble.h"
#include "dpi/buffer.h"
#include "dpi/decode.h"
#include "dpi/sig_inspect.h"

/*
 * A session under full inspection: its streams, what it speaks, its transactions and what signatures have
 * found so far.  Directions: 0 from the client, 1 from the server.
 *
 * A transaction is what rules call one: a request and its response, a DNS message, the handshake of a TLS
 * session.  Its buffers are slots, filled by the parser of its layer and never changed after, but for those
 * that grow; `done` of a direction says that no slot of it will come any more.
 */
struct dpi_slot {
	uint8_t buf, dir;
	bool complete;
	bool
	    lent; /* its bytes are those of the stream from `at` on, and are not copied while the stream has them */
	uint32_t len, room;
	uint32_t scanned; /* prefilter has seen so many bytes */
	union {
		uint8_t *bytes;
		uint64_t at;
	};
};

struct dpi_tx {
	struct dpi_tx *next;
	uint64_t id;
	uint8_t layer;
	void *of;                      /* the parser's own */
	const struct dpi_bufs *wanted; /* of its session */
	bool done[2];
	bool touched[2]; /* since signatures last looked */
	uint16_t nb_slots;
	struct dpi_slot *slot;
	struct dpi_events events;
	struct dpi_dce dce;
	uint32_t nb_candidates, nb_alerted;
	uint32_t *candidate; /* rules whose fast pattern occurred */
	uint32_t *alerted;   /* rule * 2 + direction, ascending by time */
};

/* Beside the number of a rule in dpi_side.candidate: not all of it has been found yet. */
#define DPI_CANDIDATE_OPEN 0x80000000u

struct dpi_side {
	struct dpi_assembly stream;
	bool syn, fin, fin_taken, closed, has_timestamp;
	int8_t wscale;
	uint32_t timestamp;
	uint32_t window;
	uint64_t fin_at;
	uint64_t bytes;   /* of payload */
	uint64_t scanned; /* stream offset up to which the prefilter has seen it */
	uint64_t parsed;  /* and the parser */
	uint8_t layer;    /* that its own bytes speak */
	uint32_t nb_candidates;
	uint32_t *candidate;
	uint64_t
	    *judged; /* by candidate: it matched with bytes before this offset, which are used up */
	bool ip_only_done;
	uint64_t acked; /* by the other side */
};

struct dpi_layer_ops;
struct dpi_scope;

struct dpi_session {
	struct dpi_session *next; /* in the table */
	struct pk_addr addr[2];   /* client, server */
	uint16_t port[2];
	uint8_t proto;
	uint32_t vlan;
	uint64_t last_ns;
	uint64_t packets[2];
	bool tcp; /* has a TCP session that is followed */
	bool established, midstream, dropped, passed, gap;
	bool finished; /* its layer has read all there is to read: what follows is encrypted */
	uint8_t layer, layer_before;
	const struct dpi_layer_ops *ops;
	void *state;
	struct dpi_side side[2];
	struct dpi_events events; /* raised since the last packet, of stream and layer detection */
	struct dpi_tx *tx;        /* oldest first */
	uint64_t nb_tx;
	uint64_t *bits; /* flowbits, DPI_NAMES_MAX of them, NULL while none is set */
	uint32_t *ints; /* flowints, value + 1 */
	uint32_t nb_ints;
	const struct dpi_bufs
	    *wanted; /* buffers that any rule asks about: no others are kept.  NULL: all are */
	const struct dpi_scope *scope;   /* what of the rules can concern it; NULL: not asked yet */
	struct dpi_expect *expect;       /* borrowed: where FTP announces data sessions */
	struct dpi_announced *announced; /* what it was announced for, NULL: it was not */
};

/* What a control session has said of a data session (FTP). */
struct dpi_announced {
	uint8_t command[32], name[256];
};

/* Sessions that a control session has announced (FTP). */
#define DPI_EXPECT_MAX 64
struct dpi_expect {
	unsigned int nb;
	struct {
		struct pk_addr addr; /* of the side that listens */
		uint16_t port;
		bool to_client; /* the client of the control session listens */
		struct dpi_announced what;
	} at[DPI_EXPECT_MAX];
};

struct dpi_layer_ops {
	int (*open)(struct dpi_session *s);
	/* The next bytes of a direction; `len` 0 with `end`: there will be no more. */
	void (*bytes)(
	    struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end);
	/* `len` bytes were lost.  NULL: the layer gives up. */
	void (*lost)(struct dpi_session *s, unsigned int dir, uint64_t len);
	void (*close)(struct dpi_session *s);
	/* Nobody will look at `tx` any more.  NULL: the layer has nothing of its own about it. */
	void (*forget)(struct dpi_session *s, struct dpi_tx *tx);
	/* Give back what can be made again: s->state is NULL afterwards, and open() follows with the next bytes.
	 * Nothing happens in the middle of a message.  NULL: the layer keeps its state. */
	void (*rest)(struct dpi_session *s);
};

/* Which layer the front of a stream, or a datagram, speaks: DPI_LAYER_NONE to wait for more, _FAILED for none. */
uint8_t dpi_layer_probe(
    const uint8_t *bytes, uint32_t len, unsigned int dir, uint8_t proto, const uint16_t port[2]);
const struct dpi_layer_ops *dpi_layer_ops(enum dpi_layer layer);
/* Feed what is new in both streams to detection and parser.  `end`: the sessions is over. */
void dpi_session_parse(struct dpi_session *s, bool end);
/* A UDP datagram. */
void dpi_session_datagram(
    struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len);
void dpi_session_init(struct dpi_session *s, const struct pk_addr addr[2], const uint16_t port[2],
    uint8_t proto, struct dpi_expect *expect);
void dpi_session_fini(struct dpi_session *s);

/* Free the transactions that are over and judged. */
void dpi_session_retire(struct dpi_session *s);
/*
 * Make an idle session small: streams keep what can still be sent again, and `back` bytes of their end for
 * matches that begin there; parsers keep what is between messages.  What is left of a session of no
 * open message is below 1 KB.
 */
void dpi_session_rest(struct dpi_session *s, uint32_t back);

struct dpi_tx *dpi_tx_new(struct dpi_session *s, enum dpi_layer layer);
void dpi_tx_free(struct dpi_tx *tx);
/* A whole buffer.  A second one of a kind that comes once is not taken. */
void dpi_tx_put(
    struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const void *bytes, size_t len);
/* More of a body, up to `limit` bytes in all; NULL bytes begin an empty one. */
void dpi_tx_grow(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const void *bytes,
    size_t len, uint32_t limit);
/* The same, of bytes that may be those of the stream as they are: then they stay there. */
void dpi_tx_lend(struct dpi_session *s, struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir,
    const uint8_t *bytes, size_t len, uint32_t limit);
/* The stream is about to lose bytes: copy what it has lent. */
void dpi_session_keep(struct dpi_session *s, unsigned int dir);
/* The len bytes of a slot, of a transaction of `s`.  Valid until the stream changes. */
static inline const uint8_t *
dpi_slot_bytes(const struct dpi_session *s, const struct dpi_slot *slot)
{
	return slot->lent ? dpi_assembly_at(&s->side[slot->dir].stream, slot->at) : slot->bytes;
}

/* No slot of the direction will come, or grow, any more. */
void dpi_tx_done(struct dpi_tx *tx, unsigned int dir);
/* Whether that buffer is kept; a parser may ask before it makes one. */
bool dpi_tx_wants(const struct dpi_tx *tx, enum dpi_buf buf);
struct dpi_slot *dpi_tx_slot(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir);
void dpi_tx_event(struct dpi_tx *tx, enum dpi_event event, unsigned int dir);

#define DPI_BODY_MAX (100u * 1024) /* of a body, inspected */

/* Bytes of a direction that wait for the end of a message. */
struct dpi_pending {
	uint8_t *bytes;
	uint32_t len, room;
};
bool dpi_pending_add(struct dpi_pending *p, const uint8_t *bytes, uint32_t len, uint32_t limit);
void dpi_pending_eat(struct dpi_pending *p, uint32_t len);

extern const struct dpi_layer_ops dpi_http_ops, dpi_dns_ops, dpi_tls_ops, dpi_ssh_ops, dpi_smtp_ops,
    dpi_ftp_ops, dpi_ftp_data_ops, dpi_smb_ops, dpi_dcerpc_ops, dpi_mqtt_ops;
void dpi_dns_datagram(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len);
