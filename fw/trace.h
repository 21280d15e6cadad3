#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/msg.h"

/*
 * What the packet path tells about single packets: to `picketctl monitor`, to the flow log of rules
 * that ask for one, and to replay, which wants every packet.
 *
 * A trace is a ring of fixed records with one writer, the lcore, and one reader.  A full ring loses
 * records, and counts them; it never holds up a packet.
 */
enum fw_trace_level {
	FW_TRACE_LOGGED = 0, /* what rules with `log` ask for, and audit matches */
	FW_TRACE_DROPS,      /* and every dropped packet */
	FW_TRACE_ALL,        /* and every packet */
};

enum fw_trace_kind {
	FW_TRACE_NONE = 0,
	FW_TRACE_PACKET, /* a packet was judged */
	FW_TRACE_MADE,   /* the path made a packet: RST, ICMP unreachable */
	FW_TRACE_OPENED, /* a session began */
	FW_TRACE_CLOSED, /* a session ended: both closed, RST, idle, or revoked */
	FW_TRACE_FOUND,  /* what a session speaks has been found out, and it may */
	FW_TRACE_AUDIT,  /* an audit rule would have decided otherwise */
	FW_TRACE_ALERT,  /* a signature has matched */
};

struct dpi_sig;
#define FW_TRACE_ABOUT 2

struct fw_trace_record {
	uint64_t time_ns; /* of the burst */
	uint64_t generation;
	uint64_t session; /* 0 for none */
	uint64_t rule_id; /* 0 for none */
	uint64_t audit_rule_id;
	uint64_t packet;         /* running number of the packet on this lcore, from 1 */
	struct pk_addr src, dst; /* of the packet */
	uint16_t sport, dport;
	uint16_t len; /* bytes of the frame */
	uint16_t wire;
	uint16_t drop; /* enum fw_drop; 0: it passed */
	uint8_t kind;  /* enum fw_trace_kind */
	uint8_t from;  /* enum fw_side; MADE: the side it seems to come from */
	uint8_t proto;
	uint8_t tcp_flags;
	uint8_t state_before, state; /* of the session: fw_session_state_name() */
	uint8_t direction;           /* enum pk_direction, for policy decisions */
	uint8_t verdict;             /* enum pk_verdict of the deciding rule */
	uint8_t audit_verdict;
	uint8_t
	    app; /* enum fw_app of the session; FW_APP_NONE without one, and while it is looked for */
	uint16_t snap_len;       /* bytes of the frame that have been kept */
	uint64_t packets, bytes; /* of the session, both directions; with CLOSED */
	/* ALERT: what has matched, borrowed for FW_SIGNATURES_LINGER_NS from the set it is of (fw/signatures.h), and
	 * what its transaction was about. */
	const struct dpi_sig *sig;
	uint8_t layer;      /* enum dpi_layer of the session; CLOSED as well */
	uint8_t to_client;  /* the direction that matched */
	uint8_t event_only; /* CLOSED: no rule has asked for it; for the event log (fw/eve.h) */
	struct {
		uint8_t buf; /* enum dpi_buf; 0: none */
		uint8_t len;
		char text[62];
	} about[FW_TRACE_ABOUT];
};

struct fw_trace;

/* `nb` records, rounded up to a power of two.  Context: control thread. */
int fw_trace_create(struct fw_trace **out, uint32_t nb);
void fw_trace_destroy(struct fw_trace *t);

/* Context: any. */
void fw_trace_set_level(struct fw_trace *t, enum fw_trace_level level);
enum fw_trace_level fw_trace_level(const struct fw_trace *t);

/* Room for one more record, or NULL (counted as lost); fill it, then commit. Context: the writer. */
struct fw_trace_record *fw_trace_reserve(struct fw_trace *t);
void fw_trace_commit(struct fw_trace *t);

/*
 * Keep the first `snaplen` bytes of each packet that is recorded; 0: none, which costs nothing.  The memory is
 * taken the first time, FW_TRACE_SNAP_MAX for each record, and stays.
 * Context: control thread.  Returns 0, -EINVAL above FW_TRACE_SNAP_MAX, or -ENOMEM.
 */
#define FW_TRACE_SNAP_MAX 2048
int fw_trace_set_snaplen(struct fw_trace *t, uint32_t snaplen);

/* Where the bytes of the reserved record go, at most *len; NULL: nowhere.  Context: the writer. */
uint8_t *fw_trace_snap(struct fw_trace *t, uint32_t *len);

/* As fw_trace_take(), with bytes; NULL: without. */
unsigned int fw_trace_take_snaps(struct fw_trace *t, struct fw_trace_record *out,
    uint8_t (*snaps)[FW_TRACE_SNAP_MAX], unsigned int n);

/* Take up to n records.  Returns how many.  Context: the reader. */
unsigned int fw_trace_take(struct fw_trace *t, struct fw_trace_record *out, unsigned int n);
uint64_t fw_trace_lost(const struct fw_trace *t);
