#pragma once

#include "fw/parse.h"

/*
 * SYN cookies (RFC 4987 section 3.6): the state of a half-open connection, kept by the client.
 *
 * A SYN is answered with a sequence number that nobody else can make up, and forgotten.  The ACK brings it
 * back, and with it what the SYN had offered:
 *
 *      31                            8 7     5 4     2  1    0
 *      | first 24 bits of the MAC     | MSS   | scale |SACK|time|      sequence number of the SYN-ACK
 *      | last 32 bits of the MAC                                |      its TSval, if the client sent one
 *
 * The MAC is SipHash under a key of this start over addresses, ports, wire, VLAN, the client's number, the
 * time and the eight bits below it.  MSS and scale are rounded down to one of eight.  Whether there are timestamps
 * is part of the MAC too; the client echoes the TSval, so with timestamps 56 bits have to be guessed, else 24.
 *
 * Time counts in periods of FW_COOKIE_PERIOD; a cookie is good in its own and the next.
 */
#define FW_COOKIE_PERIOD_NS (32 * PK_NS_PER_S)
#define FW_COOKIE_NO_SCALE  (-1)

/* What a SYN offers, or what a cookie remembers of it. */
struct fw_hello {
	uint16_t mss;
	int8_t scale; /* 0 to 14, or FW_COOKIE_NO_SCALE */
	bool sack, timestamps;
	uint32_t ts_val, ts_ecr;
};

struct fw_cookies {
	uint64_t key[2];
	uint64_t used_ns; /* until then cookies that were sent may come back */
	bool on;
};

struct fw_cookie {
	uint32_t seq, ts; /* of the SYN-ACK */
};

/* The key is drawn from the path's seed.  Context: control thread. */
void fw_cookies_init(struct fw_cookies *c, const uint64_t seed[2]);

/* What `pk`, a segment of TCP, says in its options; the MSS is RFC 9293's (section 3.7.1) if it says none.
 * False: they run over the end of the header. */
bool fw_hello_read(const struct fw_pkt *pk, struct fw_hello *h);

/* The cookie that answers `pk`, a SYN which offers *h; *h becomes what the cookie remembers of it.
 * Context of this and the next: the owning lcore. */
struct fw_cookie fw_cookie_make(
    struct fw_cookies *c, const struct fw_pkt *pk, struct fw_hello *h, uint64_t now_ns);

/* Whether `pk`, an ACK, brings back a cookie; then *h is what it remembers, with the timestamps of `pk`. */
bool fw_cookie_check(
    const struct fw_cookies *c, const struct fw_pkt *pk, struct fw_hello *h, uint64_t now_ns);
