#pragma once

#include <stdbool.h>

#include "dpi/event.h"
#include "lib/addr.h"

/*
 * From a captured frame to what signatures ask about.
 *
 * The packet path has decoded its packets already and fills struct dpi_frame itself; offline tools decode
 * captures of several link types here, and everything that is odd about a packet becomes an event.
 */
enum dpi_link {
	DPI_LINK_NULL = 0,
	DPI_LINK_ETHERNET = 1,
	DPI_LINK_PPP = 9,
	DPI_LINK_RAW_OLD = 12,
	DPI_LINK_RAW = 101,
	DPI_LINK_CHDLC = 104,
	DPI_LINK_LOOP = 108,
	DPI_LINK_SLL = 113,
	DPI_LINK_IPV4 = 228,
	DPI_LINK_IPV6 = 229,
	DPI_LINK_SLL2 = 276,
};

struct dpi_fragment {
	bool is; /* an IP fragment: to be reassembled before anything else */
	bool more;
	uint32_t id;
	uint16_t offset; /* bytes */
	uint8_t next;    /* protocol of what is reassembled */
	const uint8_t *bytes;
	uint32_t len;
	uint32_t head_len; /* IPv6: unfragmentable part, from the IP header on */
};

enum {
	DPI_INNER_ETHERNET = 1
};

struct dpi_frame {
	uint64_t n;       /* number in the capture, from 1 */
	uint64_t time_ns; /* since 1970 */
	struct dpi_events events;
	bool bad_checksum;
	bool checked; /* the caller has verified checksums: none is computed */
	bool reassembled;
	bool pseudo;   /* no packet: the end of a session, or of a hole in its stream */
	bool invalid;  /* could not be decoded down to a protocol: only pkthdr rules see it */
	uint32_t vlan; /* ids, for the session key */
	struct pk_addr src, dst;
	const uint8_t *ip; /* from the IP header on */
	uint32_t ip_len;
	uint32_t ip_header_len;
	uint8_t family;             /* 4, 6, 0 */
	uint8_t proto;              /* IANA number */
	uint8_t ttl, tos, fragbits; /* fragbits: 1 more, 2 do not, 4 reserved */
	uint16_t ip_id;
	struct dpi_fragment fragment;
	const uint8_t *l4;
	uint32_t l4_len, l4_header_len;
	const uint8_t *payload;
	uint32_t payload_len;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t window, mss;
	uint8_t tcp_flags;
	int8_t wscale; /* -1: none */
	bool has_timestamp;
	uint32_t timestamp;
	uint8_t icmp_type, icmp_code;
	bool has_icmp_id;
	uint16_t icmp_id, icmp_seq;
	/* A tunnelled packet inside, decoded next. */
	const uint8_t *inner;
	uint32_t inner_len;
	uint8_t inner_family; /* 4, 6, or DPI_INNER_ETHERNET */
};

enum {
	DPI_TCP_FIN = 1,
	DPI_TCP_SYN = 2,
	DPI_TCP_RST = 4,
	DPI_TCP_PSH = 8,
	DPI_TCP_ACK = 16,
	DPI_TCP_URG = 32
};

/* Decode bytes[0 .. len - 1], which `f` borrows.  *f is overwritten but for n and time_ns. */
void dpi_decode_link(struct dpi_frame *f, unsigned int link, const uint8_t *bytes, uint32_t len);
/* The same from the IP header on; _checked: whose checksums are known to be good. */
void dpi_decode_ip(struct dpi_frame *f, const uint8_t *bytes, uint32_t len);
void dpi_decode_checked(struct dpi_frame *f, const uint8_t *bytes, uint32_t len);
