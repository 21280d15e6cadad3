#pragma once

#include "dpi/detect.h"

/*
 * Signatures in the packet path: the sessions of one lcore that are being inspected.
 *
 * The path has decided already that a packet belongs to its session: header, checksum, state and window are good.
 * Here it is put into its stream, read by the parser of its layer, and held against the rules, before it is
 * forwarded; nothing is held back.  What is inspected is what is forwarded: a segment that contradicts bytes
 * that have passed is refused for as long as the receiver has not acknowledged them.
 *
 *      begin --> packet ... packet --> DONE (budget spent, encrypted, passed), DROP or REJECT
 *                   \-> the path ends the session --> end
 *
 * The stage is over, and leaves nothing, when it has no more to learn:
 *
 *      encrypted      TLS after its handshake, SSH after its keys
 *      passed         a pass rule has matched the session
 *      spent          `bytes` of a direction have been inspected; of both, when the session is `strict`
 *
 * and when what it has learnt it from has arrived, which acknowledgements tell: bytes that were shown to us alone
 * (a TTL that ends behind us) do not buy a verdict.
 *
 * Memory: one heap of fixed size (dpi/heap.h).  A session that has been silent for a second is made small; when
 * room is short the sessions silent for longest go, but strict ones, and then newcomers are refused (FULL).
 *
 * Sets of rules change under way: sessions finish on the set they began with.
 */
struct dpi_watches;
struct dpi_watch;     /* a session */
struct dpi_watch_set; /* a set of rules at work on this lcore */

struct dpi_watch_conf {
	size_t memory;  /* of all sessions */
	uint32_t bytes; /* inspected of each direction */
	uint64_t seed;  /* of the table */
	/* Context: the lcore, inside the calls below.  `alert` may be NULL.  `gone`: the session was given up to make
	 * room, and is no longer watched. */
	void (*alert)(void *arg, const struct dpi_alert *a, uint32_t index);
	void (*gone)(void *arg, uint32_t index);
	void *arg;
};

#define DPI_WATCH_MAX         (256u << 10) /* bytes that one session may hold */
#define DPI_WATCH_REST_NS     PK_NS_PER_S
#define DPI_WATCH_PATIENCE_NS (2 * PK_NS_PER_S)
#define DPI_WATCH_SETS        4 /* that sessions may be on at a time */

/* Context: control thread.  The caller owns *out.  Returns 0, -EINVAL or -ENOMEM. */
int dpi_watches_create(struct dpi_watches **out, const struct dpi_watch_conf *conf);
void dpi_watches_destroy(struct dpi_watches *w);

/* Get `set`, borrowed, ready for this lcore.  Context: control thread; it may take milliseconds. */
int dpi_watch_set_create(
    struct dpi_watch_set **out, struct dpi_watches *w, const struct dpi_set *set);
/* It is not in use any more: no session is on it, and it is not the one for new ones.  Context: any. */
bool dpi_watch_set_over(const struct dpi_watch_set *k);
/* Context: control thread, before dpi_watches_use() or once it is over. */
void dpi_watch_set_destroy(struct dpi_watch_set *k);

/* New sessions use `k` from now on; NULL: none begins.  Context: the lcore, as all below. */
void dpi_watches_use(struct dpi_watches *w, struct dpi_watch_set *k);
const struct dpi_watch_set *dpi_watches_in_use(const struct dpi_watches *w);

enum dpi_watch_fate {
	DPI_WATCH_PASS = 0,
	DPI_WATCH_DONE,    /* pass, and the stage is over: the session is not watched any more */
	DPI_WATCH_DROP,    /* a rule says drop: the packet, and all that follows of the session */
	DPI_WATCH_REJECT,  /* and both sides are to be told */
	DPI_WATCH_OVERLAP, /* contradicts what has passed: drop the packet alone */
	DPI_WATCH_FULL,    /* no room to read it: nothing was read of it */
};

/* The session of that index, or NULL. */
struct dpi_watch *dpi_watch_find(const struct dpi_watches *w, uint32_t index);

/* Begin with a session that is not watched.  addr and port: opener, other side; ports in host order.  NULL: no
 * set is in use, or no room. */
struct dpi_watch *dpi_watch_begin(struct dpi_watches *w, uint32_t index,
    const struct pk_addr addr[2], const uint16_t port[2], uint8_t proto, bool strict,
    uint64_t now_ns);
/* TCP: the first byte of direction `dir` has this sequence number.  Without it, that of the first segment. */
void dpi_watch_start(struct dpi_watch *e, unsigned int dir, uint32_t seq);

struct dpi_watch_packet {
	const uint8_t *ip; /* the packet from its IP header on, in one piece */
	uint32_t len;
	uint8_t dir; /* 0: from the opener */
	uint8_t tcp_flags;
	uint32_t seq, ack; /* TCP */
	uint32_t payload;  /* bytes */
	uint64_t n;        /* for alerts */
};

/* After DONE, DROP and REJECT `e` is gone. */
enum dpi_watch_fate dpi_watch_packet(
    struct dpi_watches *w, struct dpi_watch *e, const struct dpi_watch_packet *p, uint64_t now_ns);

/* The session ends: rules about its end have their say.  `e` is gone. */
void dpi_watch_end(struct dpi_watches *w, struct dpi_watch *e, uint64_t now_ns);
/* It is no longer to be watched. */
void dpi_watch_forget(struct dpi_watches *w, struct dpi_watch *e);

/* Make sessions small that have been silent, `budget` of them at most. */
void dpi_watches_tick(struct dpi_watches *w, uint64_t now_ns, unsigned int budget);

struct dpi_watch_stats {
	uint64_t sessions, bytes, room; /* now; room: of memory in all */
	uint64_t packets, begun, done, evicted, full, overlaps, rested;
	struct dpi_counts counts; /* of the set in use */
};
/* Context: any, approximately. */
void dpi_watches_stats(const struct dpi_watches *w, struct dpi_watch_stats *out);

/* What the session speaks, as far as known: enum dpi_layer. */
uint8_t dpi_watch_layer(const struct dpi_watch *e);
