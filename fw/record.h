#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/msg.h"

/*
 * A session as bytes: everything that whoever takes it over needs to go on.
 *
 * One form for all who hand sessions on: a restart into another layout or number of lcores, the move of a
 * workload to another DPU, and, later, a pair of DPUs.  It knows nothing of anybody's table: what a data
 * plane keeps is translated to struct fw_record and back (fw/hand_over.h is picketd's way), and the
 * numbers of its states are its own.  docs/session-records.md is the form byte by byte; it is never changed,
 * only added to.
 *
 *     file    magic, version    record    record ...
 *     record  length (4)        TLV  TLV ...
 *     TLV     type (2)  length (2)  value
 *
 * All numbers are in network byte order.  A reader skips the TLVs it does not know, except such as say that
 * they must be known (FW_RECORD_CRITICAL), and skips what a known one has behind its fields.  So a record
 * may say more to a newer reader, and no less to an older one.
 *
 * Times are spans, since no two machines agree about the hour: how old, how long idle, how long to live.
 */
#define FW_RECORD_HEADER_LEN 16     /* bytes at the start of a file */
#define FW_RECORD_MAX        512    /* bytes of a record that fw_record_encode() may write */
#define FW_RECORD_LEN_MAX    65536  /* bytes of a record that is read: longer ones are refused */
#define FW_RECORD_CRITICAL   0x8000 /* in a type: who does not know it refuses the record */

enum fw_record_tlv {
	FW_RECORD_TLV_KEY = 1,  /* required */
	FW_RECORD_TLV_STATE,    /* required */
	FW_RECORD_TLV_TIMES,    /* required */
	FW_RECORD_TLV_TCP,      /* required of TCP, refused for others */
	FW_RECORD_TLV_COUNTERS, /* the rest may be missing, and is zero then */
	FW_RECORD_TLV_POLICY,
	FW_RECORD_TLV_LINK,
	FW_RECORD_TLV_ORDER,
	FW_RECORD_TLV_COUNT,
};

/* The states of RFC 9293 seen from the middle; F opened the connection, R is the other side.  These numbers
 * are on disk and on the wire. */
enum fw_record_state {
	FW_RECORD_STATE_NONE = 0,
	FW_RECORD_SYN_SENT = 1,
	FW_RECORD_SYN_BOTH = 2,
	FW_RECORD_SYN_BOTH_F = 3,
	FW_RECORD_SYN_BOTH_R = 4,
	FW_RECORD_SYN_RECV = 5,
	FW_RECORD_ESTABLISHED = 6,
	FW_RECORD_FIN_F = 7,
	FW_RECORD_FIN_R = 8,
	FW_RECORD_HALF_F = 9,
	FW_RECORD_HALF_R = 10,
	FW_RECORD_CLOSING = 11,
	FW_RECORD_LAST_F = 12,
	FW_RECORD_LAST_R = 13,
	FW_RECORD_TIME_WAIT = 14,
	FW_RECORD_CLOSED = 15,
	FW_RECORD_UDP_NEW = 32,
	FW_RECORD_UDP = 33,
	FW_RECORD_ICMP = 34,
	FW_RECORD_OTHER = 35,
};

enum fw_record_flags {
	FW_RECORD_WSCALE = 1 << 0,     /* F offered window scaling */
	FW_RECORD_CHALLENGED = 1 << 1, /* SYN_SENT: R answered with an ACK of another connection */
	FW_RECORD_LOOSE = 1 << 2,      /* picked up in mid-stream */
	FW_RECORD_SYN_R = 1 << 3,      /* R's SYN has been seen, so its side counts */
	FW_RECORD_LOG_END = 1 << 4,    /* its rule logs how sessions end */
	FW_RECORD_RELATED = 1 << 5,    /* another has announced it: the selector is that one's, */
	FW_RECORD_REVERSED = 1 << 6,   /* and policy is asked as if its other side had opened it */
};
#define FW_RECORD_FLAGS_ALL    0x7f
#define FW_RECORD_FLAGS_OTHERS 0x70 /* that sessions other than TCP's may have */

struct fw_record_side {
	uint32_t end;  /* one past the highest sequence number sent, SYN and FIN counted */
	uint32_t ack;  /* highest acknowledgement sent */
	uint16_t win;  /* greatest window advertised, as in the header */
	uint8_t scale; /* its shift, 0 .. 14 (RFC 7323 section 2.3) */
};

struct fw_record {
	struct pk_addr src, dst; /* src opened it */
	uint16_t sport, dport;   /* ICMP: the identifier, and 0; 0 where there are no ports */
	uint16_t selector;       /* of the opening packet, as in struct pk_service */
	uint16_t wire;
	uint32_t vrf; /* address space */
	uint8_t proto;
	uint8_t direction; /* enum pk_direction: egress when the opener is inside */
	uint8_t state;     /* enum fw_record_state */
	uint16_t flags;    /* enum fw_record_flags */
	uint64_t age_ms, idle_ms;
	uint64_t left_ms;              /* until it ends if nothing is seen of it */
	struct fw_record_side side[2]; /* F, R */
	uint64_t packets[2], bytes[2]; /* F, R */
	uint64_t rule_id, generation;  /* of the policy it was allowed by last; 0: to be asked */
	uint8_t link[22];              /* Ethernet header of its first packet, with tags */
	uint8_t link_len;              /* 14, 18, 22, or 0: not known */
	bool link_stripped;            /* the port had taken one more tag off: */
	uint16_t link_tci;
	uint64_t
	    sequence; /* of changes at the sender, so that a receiver may leave out older ones; 0: none */
	uint32_t version; /* of the sender's session, against reuse of its place */
};

/* The first FW_RECORD_HEADER_LEN bytes of a file. */
void fw_record_header(uint8_t out[FW_RECORD_HEADER_LEN]);

/* Returns 0, or -EPROTO with *diag: no records, or a form that this version cannot read. */
int fw_record_header_check(const uint8_t bytes[FW_RECORD_HEADER_LEN], struct pk_diag *diag);

/* Write one record.  Returns its bytes, at most FW_RECORD_MAX, or 0 if `room` does not hold it. */
size_t fw_record_encode(const struct fw_record *r, uint8_t *out, size_t room);

/*
 * Read the record at bytes[0 .. len - 1], which may go on behind it.  Everything that can be judged without
 * a table is checked.  Returns how many bytes it takes up, or -EAGAIN when it goes on beyond `len`, or
 * -EPROTO with *diag; in that case *skip is where the next one begins, or 0 when that cannot be known.
 */
long fw_record_decode(
    struct fw_record *out, const uint8_t *bytes, size_t len, size_t *skip, struct pk_diag *diag);

/* What no session can be, as what follows "a record with"; NULL when it is one.  Decoding asks this, too. */
const char *fw_record_fault(const struct fw_record *r);

bool fw_record_state_is_tcp(unsigned int state);
